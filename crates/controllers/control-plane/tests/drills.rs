//! Drills: the operator is killed at every step that it takes, and the store is away or hangs. What was begun ends as if
//! nothing had happened, and a neighbour in the same store and namespace notices nothing. There are no nodes: that pods are
//! ready is said in their status, as a kubelet would.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;
#[path = "drills/fuse.rs"]
mod fuse;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use api::kamaji::names::{DATASTORE_FINALIZER, DATASTORE_REACHABLE_CONDITION, PAUSED_ANNOTATION};
use api::kamaji::v1alpha1::{DataStore, Phase, TenantControlPlane};
use bed::operator::Operator;
use bed::{World, eventually, merge, of, when};
use control_plane_controller::desired::SECRET_COMPONENTS;
use fuse::{Fuse, Step, Way};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::EtcdFixture;

const NEIGHBOUR: &str = "neighbour";

/// An operator with a fuse.
struct Fused {
    operator: Option<Operator>,
    fuse: Fuse,
}

impl Fused {
    fn start(world: &World, way: &Way) -> Self {
        let fuse = Fuse::endless();
        way.belongs_to(&fuse);
        let client = fuse.client(&world.client, NEIGHBOUR);
        let operator = Some(Operator::start(&client, world.settings()));
        Self { operator, fuse }
    }

    /// Whether the fuse burns before the goal is reached, or with the very step that reaches it. Then the operator is dead.
    async fn dies_before<T>(&mut self, goal: impl Future<Output = T>) -> bool {
        let dies = tokio::select! {
            () = self.fuse.burnt() => true,
            _ = goal => {
                let last = self.fuse.is_spent();
                if last {
                    self.fuse.burnt().await;
                }
                last
            }
        };
        if dies {
            self.operator.take().unwrap().kill().await;
        } else {
            self.fuse.put_out();
        }
        dies
    }
}

/// What of a control plane may not change while another one is worked on.
#[derive(Debug, PartialEq)]
struct Standing {
    /// UID and version by kind and name, but of the Deployment, whose status has a life of its own.
    objects: BTreeMap<String, (String, String)>,
    rolled: Rolled,
    /// Keys with values and revisions, as etcd shows them.
    keys: Value,
    role: String,
    user: String,
}

impl Standing {
    async fn of(world: &World, name: &str) -> Self {
        let uid = world.control_plane(name).await.uid().unwrap();
        let prefix = format!("/{uid}/");
        let keys = ["get", "--prefix", &prefix, "--write-out=json"];
        let keys = world.etcd.etcdctl(&keys).await.unwrap();
        let mut found: Value = serde_json::from_str(&keys).unwrap();
        let mut objects = world.objects(name).await;
        objects.retain(|object, _| !object.starts_with("Deployment "));
        Self {
            objects,
            rolled: Rolled::of(world, name).await,
            keys: found["kvs"].take(),
            role: world.etcd.etcdctl(&["role", "get", &uid]).await.unwrap(),
            user: world.etcd.etcdctl(&["user", "get", &uid]).await.unwrap(),
        }
    }
}

/// How often the pods of a control plane were replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rolled {
    /// Changes of the Deployment.
    generation: i64,
    /// Changes of its pods, of which one that is taken back is one more.
    revision: i64,
}

impl Rolled {
    async fn of(world: &World, name: &str) -> Self {
        let deployment = world.api::<Deployment>().get(name).await.unwrap();
        let sets = world.api::<ReplicaSet>().list(&of(name)).await.unwrap();
        let revision =
            |set: &ReplicaSet| -> i64 { set.annotations()["deployment.kubernetes.io/revision"].parse().unwrap() };
        Self {
            generation: deployment.metadata.generation.unwrap(),
            revision: sets.iter().map(revision).max().unwrap_or(0),
        }
    }

    fn once_more(self) -> Self {
        Self {
            generation: self.generation + 1,
            revision: self.revision + 1,
        }
    }
}

/// UID and content of the Secrets of a control plane, by name.
type Secrets = BTreeMap<String, (String, BTreeMap<String, ByteString>)>;

async fn secrets(world: &World, name: &str) -> Secrets {
    let found = world.api::<Secret>().list(&of(name)).await.unwrap();
    let seen = |secret: Secret| (secret.name_any(), (secret.uid().unwrap(), secret.data.unwrap()));
    found.into_iter().map(seen).collect()
}

/// All that a store has for control planes: roles, users, our records, and whose keys there are.
#[derive(Debug, Default, PartialEq)]
struct Accounts {
    roles: BTreeSet<String>,
    users: BTreeSet<String>,
    records: BTreeSet<String>,
    schemas: BTreeSet<String>,
}

impl Accounts {
    async fn of(etcd: &EtcdFixture) -> Self {
        let lines = async |arguments: &[&str]| -> BTreeSet<String> {
            let text = etcd.etcdctl(arguments).await.unwrap();
            let lines = text.lines().filter(|line| !line.is_empty() && *line != "root");
            lines.map(str::to_owned).collect()
        };
        let keys = lines(&["get", "/", "--prefix", "--keys-only"]).await;
        let (records, keys): (BTreeSet<_>, BTreeSet<_>) =
            keys.into_iter().partition(|key| key.starts_with("/cotenant.dev/"));
        Self {
            roles: lines(&["role", "list"]).await,
            users: lines(&["user", "list"]).await,
            records,
            schemas: keys
                .iter()
                .map(|key| key.split('/').nth(1).unwrap().to_owned())
                .collect(),
        }
    }

    /// One account, with keys, for each of these UIDs and nothing else.
    fn exactly(uids: &[&str]) -> Self {
        let named = || uids.iter().map(|uid| (*uid).to_owned()).collect();
        let records = |uid: &&str| {
            [
                format!("/cotenant.dev/schemas/{uid}"),
                format!("/cotenant.dev/users/{uid}"),
                format!("/cotenant.dev/owners/{uid}/schemas/{uid}"),
                format!("/cotenant.dev/owners/{uid}/users/{uid}"),
            ]
        };
        Self {
            roles: named(),
            users: named(),
            records: uids.iter().flat_map(records).collect(),
            schemas: named(),
        }
    }
}

/// What the API server of a control plane would keep.
async fn fill(etcd: &EtcdFixture, tcp: &TenantControlPlane) {
    for number in 0..5 {
        let key = format!("/{}/registry/configmaps/default/{number}", tcp.uid().unwrap());
        etcd.etcdctl(&["put", &key, "kept"]).await.unwrap();
    }
}

/// A control plane that is ready and has data, with its UID.
async fn settled(world: &World, name: &str, changes: Value) -> String {
    let made = world.create_control_plane(name, changes).await;
    world.until_ready(name).await;
    fill(&world.etcd, &made).await;
    made.uid().unwrap()
}

/// A world whose way to the store counts, with a neighbour that is ready.
async fn prepared() -> (World, Way, Fused, String) {
    let world = World::with_node("default").await;
    let way = Way::to(&world.etcd.endpoint).await;
    let datastores: Api<DataStore> = Api::all(world.client.clone());
    merge(&datastores, "default", json!({"spec": {"endpoints": [way.endpoint()]}})).await;
    let operator = Fused::start(&world, &way);
    let neighbour = settled(&world, NEIGHBOUR, json!({})).await;
    (world, way, operator, neighbour)
}

/// As it was begun, each object once, and pods of one kind.
async fn is_made_once(world: &World, name: &str, begun: &BTreeMap<String, (String, String)>, credentials: &Secrets) {
    let objects = world.objects(name).await;
    for (object, (uid, _)) in begun {
        assert_eq!(objects[object].0, *uid, "{object} was made twice");
    }
    let now = secrets(world, name).await;
    for (secret, begun) in credentials {
        assert!(now[secret] == *begun, "{secret} was made anew");
    }
    let mut expected: BTreeSet<String> = SECRET_COMPONENTS
        .iter()
        .map(|component| format!("Secret {name}-{component}"))
        .collect();
    expected.insert(format!("ConfigMap {name}-kubeadmconfig"));
    expected.extend(["Deployment", "NetworkPolicy", "Service"].map(|kind| format!("{kind} {name}")));
    assert_eq!(objects.into_keys().collect::<BTreeSet<_>>(), expected);
    let once = Rolled {
        generation: 1,
        revision: 1,
    };
    assert_eq!(Rolled::of(world, name).await, once, "{name}");
}

/// Objects go with their owner.
async fn nothing_is_left(world: &World, name: &str) {
    eventually(&format!("the objects of {name} are collected"), || async {
        let left = world.objects(name).await;
        when(left.is_empty(), || format!("{left:?}"))?;
        let sets = world.api::<ReplicaSet>().list(&of(name)).await.unwrap().items;
        let pods = world.api::<Pod>().list(&of(name)).await.unwrap().items;
        when(sets.is_empty() && pods.is_empty(), || format!("{sets:?} {pods:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_write_an_operator_is_killed_at_a_control_plane_is_made_once_and_goes_altogether() {
    let (world, way, mut operator, neighbour) = prepared().await;
    let standing = Standing::of(&world, NEIGHBOUR).await;
    let control_planes: Api<TenantControlPlane> = world.api();
    let (mut making, mut removing, mut count) = (true, true, 0);
    // How many writes each took, and one more.
    let mut writes = [0, 0];
    while making || removing {
        count += 1;
        writes = [(making, writes[0]), (removing, writes[1])].map(|(on, before)| if on { count } else { before });
        let name = format!("drilled-{count}");
        if making {
            operator.fuse.light(Step::Write, count);
        }
        let made = world.create_control_plane(&name, json!({})).await;
        making = operator.dies_before(world.until_ready(&name)).await;
        let (objects, credentials) = (world.objects(&name).await, secrets(&world, &name).await);
        if making {
            operator = Fused::start(&world, &way);
        }
        let ready = world.until_ready(&name).await;
        let uid = made.uid().unwrap();
        assert_eq!(ready.uid().as_ref(), Some(&uid));
        assert_eq!(ready.finalizers(), [DATASTORE_FINALIZER], "{name}");
        is_made_once(&world, &name, &objects, &credentials).await;
        fill(&world.etcd, &made).await;
        let both = Accounts::exactly(&[&neighbour, &uid]);
        assert_eq!(Accounts::of(&world.etcd).await, both, "{name}");

        if removing {
            operator.fuse.light(Step::Write, count);
        }
        control_planes.delete(&name, &DeleteParams::default()).await.unwrap();
        let gone = world.until_gone::<TenantControlPlane>(&name);
        removing = operator.dies_before(gone).await;
        if removing {
            operator = Fused::start(&world, &way);
        }
        world.until_gone::<TenantControlPlane>(&name).await;
        let one = Accounts::exactly(&[&neighbour]);
        assert_eq!(Accounts::of(&world.etcd).await, one, "{name}");
        assert_eq!(Standing::of(&world, NEIGHBOUR).await, standing, "{name}");
    }
    println!("{} writes to make one, {} to remove it", writes[0] - 1, writes[1] - 1);
    // Eleven Secrets and what is around them; the finalizers of one of them and of the control plane.
    assert!(writes[0] > 15 && writes[1] > 2, "{writes:?}");
    for number in 1..=count {
        nothing_is_left(&world, &format!("drilled-{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_operators_say_last_to_the_store_there_is_one_account_and_then_none() {
    let (world, way, operator, neighbour) = prepared().await;
    let standing = Standing::of(&world, NEIGHBOUR).await;
    // Nothing is said to the store for its sake.
    let control_planes: Api<TenantControlPlane> = world.api();
    let paused = json!({"metadata": {"annotations": {PAUSED_ANNOTATION: ""}}});
    merge(&control_planes, NEIGHBOUR, paused).await;
    operator.operator.unwrap().kill().await;

    let made = world.create_control_plane("drilled", json!({})).await;
    let lives = live_longer_and_longer(&world, &way, || world.until_ready("drilled")).await;
    let uid = made.uid().unwrap();
    is_made_once(&world, "drilled", &BTreeMap::new(), &Secrets::new()).await;
    fill(&world.etcd, &made).await;
    let both = Accounts::exactly(&[&neighbour, &uid]);
    assert_eq!(Accounts::of(&world.etcd).await, both);

    control_planes
        .delete("drilled", &DeleteParams::default())
        .await
        .unwrap();
    let gone = || world.until_gone::<TenantControlPlane>("drilled");
    let last_lives = live_longer_and_longer(&world, &way, gone).await;
    assert_eq!(Accounts::of(&world.etcd).await, Accounts::exactly(&[&neighbour]));
    assert_eq!(Standing::of(&world, NEIGHBOUR).await, standing);
    println!("{lives} operators to make one, {last_lives} to remove it");
    // To open a connection, ask, and make or drop an account is more.
    assert!(lives > 10 && last_lives > 10, "{lives} {last_lives}");
    nothing_is_left(&world, "drilled").await;
}

/// Operators one after another, each of which says one thing more to the store than the one before, until one of them gets
/// there. Gives how many there were.
async fn live_longer_and_longer<T>(world: &World, way: &Way, goal: impl AsyncFn() -> T) -> usize {
    for messages in 1.. {
        let mut operator = Fused::start(world, way);
        operator.fuse.light(Step::Message, messages);
        if !operator.dies_before(goal()).await {
            return messages;
        }
    }
    unreachable!("no life is endless")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_step_of_an_upgrade_an_operator_is_killed_at_pods_are_replaced_once() {
    let (world, way, mut operator, _) = prepared().await;
    let standing = Standing::of(&world, NEIGHBOUR).await;
    settled(&world, "upgraded", json!({"kubernetes": {"version": "v1.36.0"}})).await;
    let credentials = secrets(&world, "upgraded").await;
    let mut killed = true;
    let mut patch = 0;
    while killed {
        patch += 1;
        let version = format!("v1.36.{patch}");
        let before = Rolled::of(&world, "upgraded").await;
        operator.fuse.light(Step::Write, patch);
        world
            .change("upgraded", json!({"kubernetes": {"version": version}}))
            .await;
        killed = operator
            .dies_before(until_installed(&world, "upgraded", &version))
            .await;
        if killed {
            operator = Fused::start(&world, &way);
        }
        until_installed(&world, "upgraded", &version).await;
        world.until_carried_out("upgraded").await;
        assert_eq!(Rolled::of(&world, "upgraded").await, before.once_more(), "{version}");
        assert!(secrets(&world, "upgraded").await == credentials, "{version}");
        assert_eq!(Standing::of(&world, NEIGHBOUR).await, standing, "{version}");
    }
    println!("{} writes to upgrade", patch - 1);
    assert!(patch > 3, "{patch} steps");
}

async fn until_installed(world: &World, name: &str, version: &str) {
    eventually(&format!("{name} has {version}"), || async {
        world.make_pods_ready(name).await;
        let status = world.control_plane(name).await.status.unwrap_or_default();
        let installed = status.installed_version() == Some(version) && status.phase() == Some(Phase::Ready);
        when(installed, || format!("{status:#?}"))
    })
    .await;
}

/// Until it is said of a control plane that a store does not answer. Gives the sentence.
async fn until_store_fails(world: &World, name: &str) -> String {
    let tcp = world.until_condition(name, "DataStoreReady", "DataStoreFailed").await;
    let conditions = tcp.status.unwrap().conditions;
    let said = |type_: &str| conditions.iter().find(|one| one.type_ == type_).unwrap();
    assert_eq!(said("Ready").status, "False", "{name}");
    said("DataStoreReady").message.clone()
}

/// What is made after the account is not there yet.
async fn nothing_is_half_made(world: &World, name: &str) {
    let objects = world.objects(name).await;
    let early = |object: &str| !object.starts_with("Secret") && !object.starts_with("Deployment");
    assert!(objects.keys().all(|object| early(object)), "{name}: {objects:?}");
    assert_eq!(world.control_plane(name).await.status.unwrap().storage, None, "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_nothing_is_half_made_nothing_stops_and_then_all_is_carried_out() {
    let world = World::with_node("default").await;
    let mut operator = world.operate();
    let steady = settled(&world, "steady", json!({})).await;
    settled(&world, "going", json!({})).await;
    let (credentials, rolled) = (secrets(&world, "steady").await, Rolled::of(&world, "steady").await);
    let going = world.objects("going").await;

    world.etcd.stop().await;
    let coming = world.create_control_plane("coming", json!({})).await.uid().unwrap();
    let control_planes: Api<TenantControlPlane> = world.api();
    control_planes.delete("going", &DeleteParams::default()).await.unwrap();
    // Also an operator that has never seen the store.
    for _ in 0..2 {
        for name in ["coming", "going"] {
            let message = until_store_fails(&world, name).await;
            assert!(
                message.contains("datastore default") && message.contains("connect"),
                "{message}"
            );
        }
        nothing_is_half_made(&world, "coming").await;
        let leaving = world.control_plane("going").await;
        assert_eq!(leaving.finalizers(), [DATASTORE_FINALIZER]);
        assert_eq!(
            world.objects("going").await.len(),
            going.len(),
            "nothing of it goes before its data"
        );
        operator.kill().await;
        operator = world.operate();
        operator.until_rested_after(0).await;
    }
    let datastores: Api<DataStore> = Api::all(world.client.clone());
    eventually("the store is said to be away", || async {
        let conditions = datastores.get("default").await.unwrap().status.unwrap().conditions;
        let reachable = conditions.iter().find(|one| one.type_ == DATASTORE_REACHABLE_CONDITION);
        when(reachable.is_some_and(|one| one.reason == "Unreachable"), || {
            format!("{conditions:#?}")
        })
    })
    .await;
    // What runs is kept, and may still be changed.
    assert_eq!(Rolled::of(&world, "steady").await, rolled);
    let replicas = json!({"controlPlane": {"deployment": {"replicas": 2}}});
    world.change("steady", replicas).await;
    eventually("there are two replicas", || async {
        let deployment = world.api::<Deployment>().get("steady").await.unwrap();
        let replicas = deployment.spec.unwrap().replicas;
        when(replicas == Some(2), || format!("{replicas:?}"))
    })
    .await;

    world.etcd.restart().await;
    world.until_gone::<TenantControlPlane>("going").await;
    fill(&world.etcd, &world.until_ready("coming").await).await;
    world.until_carried_out("steady").await;
    world.until_ready("steady").await;
    assert_eq!(Accounts::of(&world.etcd).await, Accounts::exactly(&[&coming, &steady]));
    assert!(secrets(&world, "steady").await == credentials);
    let scaled = Rolled {
        generation: rolled.generation + 1,
        ..rolled
    };
    assert_eq!(Rolled::of(&world, "steady").await, scaled, "no pod was replaced");
    nothing_is_left(&world, "going").await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_holds_up_nobody_in_another() {
    let world = World::with_node("default").await;
    let other = EtcdFixture::start().await;
    world.add_datastore("hanging", &other).await;
    let operator = world.operate();
    settled(&world, "going", json!({})).await;
    other.freeze(true).await;
    // More than there are workers.
    let held: Vec<String> = (0..6).map(|number| format!("held-{number}")).collect();
    for name in &held {
        world.create_control_plane(name, json!({"dataStore": "hanging"})).await;
    }
    for name in &held {
        let message = until_store_fails(&world, name).await;
        assert!(
            message.contains("datastore hanging") && message.contains("no answer"),
            "{message}"
        );
    }

    world.create_control_plane("coming", json!({})).await;
    world.until_ready("coming").await;
    world.delete("going").await;
    for name in &held {
        nothing_is_half_made(&world, name).await;
    }
    other.freeze(false).await;
    for name in &held {
        world.until_ready(name).await;
    }
    operator.kill().await;
}
