//! Control planes against a real API server and a real etcd. There is no node here: pods stay pending, and where a test
//! needs them ready it says so in their status, as a kubelet would.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;
#[path = "control_planes/metrics.rs"]
mod metrics;
#[path = "control_planes/takeover.rs"]
mod takeover;

use std::collections::BTreeMap;
use std::time::Duration;

use api::kamaji::v1alpha1::{Phase, TenantControlPlane};
use bed::components::{Components, NODE_PORTS, administrator};
use bed::{World, create, eventually, merge, when};
use control_plane_controller::desired::SECRET_COMPONENTS;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use local::ports;
use serde_json::{Value, json};
use testbed::unique;

impl World {
    /// A control plane that is reached at a port of the Node.
    async fn create_at(&self, name: &str, port: i32, changes: Value) -> TenantControlPlane {
        let mut spec = json!({
            "controlPlane": {"service": {"serviceType": "NodePort"}},
            "networkProfile": {"address": "192.0.2.10", "port": port},
            "addons": {"coreDNS": {}, "kubeProxy": {}},
        });
        json_patch::merge(&mut spec, &changes);
        self.create_control_plane(name, spec).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_lives_sleeps_and_goes_without_touching_its_neighbour() {
    let world = World::with_node("default").await;
    let operator = world.operate();
    let mine = world.create_at("mine", 31111, json!({})).await;
    let other = world.create_at("neighbour", 31112, json!({})).await;
    let (mine_uid, other_uid) = (mine.uid().unwrap(), other.uid().unwrap());

    // Everything is there.
    world.until_carried_out("mine").await;
    world.until_carried_out("neighbour").await;
    let objects = world.objects("mine").await;
    let names: Vec<&str> = objects.keys().map(String::as_str).collect();
    let mut expected: Vec<String> = SECRET_COMPONENTS
        .iter()
        .map(|one| format!("Secret mine-{one}"))
        .collect();
    for object in [
        "ConfigMap mine-kubeadmconfig",
        "Deployment mine",
        "NetworkPolicy mine",
        "Service mine",
    ] {
        expected.push(object.to_owned());
    }
    expected.sort();
    assert_eq!(names, expected);
    let roles = world.etcd.etcdctl(&["role", "list"]).await.unwrap();
    assert!(roles.contains(&mine_uid) && roles.contains(&other_uid), "{roles}");
    let policy = world.api::<NetworkPolicy>().get("mine").await.unwrap();
    let policy = serde_json::to_string(&policy.spec).unwrap();
    assert!(
        policy.contains("192.0.2.10/32") && policy.contains("10.244.7.0/24"),
        "{policy}"
    );

    // It becomes ready with its pods.
    let ready = world.until_ready("mine").await;
    let status = ready.status.unwrap();
    assert_eq!(status.control_plane_endpoint.as_deref(), Some("192.0.2.10:31111"));
    assert_eq!(status.installed_version(), Some("v1.36.3"));
    assert_eq!(status.storage.unwrap().setup.unwrap().schema, Some(mine_uid.clone()));

    // Somebody's hand is undone, without new keys where the old ones serve.
    let secrets: Api<Secret> = world.api();
    let authority = secrets.get("mine-ca").await.unwrap();
    let rubbish = json!({"data": {"scheduler.conf": "cnViYmlzaA=="}});
    merge(&secrets, "mine-scheduler-kubeconfig", rubbish).await;
    let unlabelled = json!({"metadata": {"labels": null}});
    merge(&secrets, "mine-ca", unlabelled).await;
    secrets
        .delete("mine-sa-certificate", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the Secrets are repaired", || async {
        let mended = secrets.get("mine-scheduler-kubeconfig").await.unwrap();
        let yaml = String::from_utf8(mended.data.unwrap()["scheduler.conf"].0.clone()).unwrap();
        when(pki::Kubeconfig::parse(&yaml).is_ok(), || yaml)?;
        let labelled = secrets.get("mine-ca").await.unwrap();
        when(labelled.labels().contains_key("kamaji.clastix.io/name"), || {
            format!("{:?}", labelled.metadata)
        })?;
        when(secrets.get_opt("mine-sa-certificate").await.unwrap().is_some(), || {
            "no service account keys".to_owned()
        })
    })
    .await;
    assert_eq!(secrets.get("mine-ca").await.unwrap().data, authority.data);

    // A Service of the user's own brings the addresses of the Nodes into the certificate.
    let front = json!({"metadata": {"name": "outside"}, "spec": {
        "type": "NodePort", "selector": {"kamaji.clastix.io/name": "neighbour"}, "ports": [{"port": 31112}],
    }});
    let before = world
        .api::<Secret>()
        .get("neighbour-api-server-certificate")
        .await
        .unwrap();
    create::<Service>(&world.api(), front).await;
    // It has the address already, from the spec; a second Node brings one that it does not have.
    let nodes: Api<Node> = Api::all(world.client.clone());
    create::<Node>(&nodes, json!({"metadata": {"name": "admin-2"}})).await;
    let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.77"}]}});
    nodes
        .patch_status("admin-2", &PatchParams::default(), &Patch::Merge(addresses))
        .await
        .unwrap();
    eventually("the certificate answers to the new Node's address", || async {
        let secret = world
            .api::<Secret>()
            .get("neighbour-api-server-certificate")
            .await
            .unwrap();
        let pem = String::from_utf8(secret.data.unwrap()["apiserver.crt"].0.clone()).unwrap();
        let sans = pki::inspect(&pem).unwrap().sans;
        when(sans.contains(&pki::San::parse("192.0.2.77").unwrap()), || {
            format!("{sans:?}")
        })
    })
    .await;
    let after = world
        .api::<Secret>()
        .get("neighbour-api-server-certificate")
        .await
        .unwrap();
    assert_eq!(before.uid(), after.uid());

    // Asleep and awake.
    let replicas = |count: i32| json!({"controlPlane": {"deployment": {"replicas": count}}});
    world.change("mine", replicas(0)).await;
    world.until_phase("mine", Phase::Sleeping).await;
    world.change("mine", replicas(1)).await;
    world.until_ready("mine").await;

    // Gone, with its keys, and nobody else's.
    for uid in [&mine_uid, &other_uid] {
        world
            .etcd
            .etcdctl(&["put", &format!("/{uid}/registry/x"), "value"])
            .await
            .unwrap();
    }
    let beside = format!("/{mine_uid}-not/registry/x");
    world.etcd.etcdctl(&["put", &beside, "value"]).await.unwrap();
    world.delete("mine").await;
    let keys = world
        .etcd
        .etcdctl(&["get", "/", "--prefix", "--keys-only"])
        .await
        .unwrap();
    assert!(!keys.contains(&format!("/{mine_uid}/")), "{keys}");
    assert!(
        keys.contains(&format!("/{other_uid}/registry/x")) && keys.contains(&beside),
        "{keys}"
    );
    let users = world.etcd.etcdctl(&["user", "list"]).await.unwrap();
    assert!(!users.contains(&mine_uid) && users.contains(&other_uid), "{users}");
    eventually("its objects are collected", || async {
        let left = world.objects("mine").await;
        when(left.is_empty(), || format!("{left:?}"))
    })
    .await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_killed_again_and_again_loses_nothing_and_a_rested_one_writes_nothing() {
    let world = World::with_node("default").await;
    // No node port: the API server may lose one for minutes to a request that is cut off.
    let service = json!({"controlPlane": {"service": {"serviceType": "ClusterIP"}}});
    let created = world.create_at("crash", 31121, service).await;
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for wait in [5, 20, 35, 50, 60, 70, 85, 100, 120, 150, 200, 300] {
        let operator = world.operate();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        operator.kill().await;
        for (name, (uid, _)) in world.objects("crash").await {
            let first = seen.entry(name.clone()).or_insert_with(|| uid.clone());
            assert_eq!(*first, uid, "{name} was made twice");
        }
    }
    let operator = world.operate();
    let tcp = world.until_carried_out("crash").await;
    assert_eq!(tcp.uid(), created.uid());
    world.until_ready("crash").await;
    for (name, uid) in &seen {
        assert_eq!(&world.objects("crash").await[name].0, uid, "{name} was made twice");
    }
    // The leaves fit the authority, whatever was interrupted.
    let data = |secret: Secret, key: &str| String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap();
    let secrets: Api<Secret> = world.api();
    let ca = data(secrets.get("crash-ca").await.unwrap(), "ca.crt");
    let leaf = data(
        secrets.get("crash-api-server-certificate").await.unwrap(),
        "apiserver.crt",
    );
    assert!(pki::is_signed_by(&leaf, &ca).unwrap());
    operator.kill().await;

    // Rested: a new process looks at everything and leaves it as it is.
    let before = world.objects("crash").await;
    let generation = world.control_plane("crash").await;
    let operator = world.operate();
    operator.until_rested_after(0).await;
    assert_eq!(world.objects("crash").await, before);
    let after = world.control_plane("crash").await;
    assert_eq!(after.metadata.finalizers, generation.metadata.finalizers);
    assert_eq!(after.metadata.generation, generation.metadata.generation);
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_and_waited_for() {
    let world = World::with_node("default").await;
    let operator = world.operate();

    // A name that belongs to somebody else in the cluster.
    create::<Service>(
        &world.api(),
        json!({"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 80}]}}),
    )
    .await;
    world.create_at("taken", 31131, json!({})).await;
    world.until_condition("taken", "Exposed", "NameTaken").await;
    let service = world.api::<Service>().get("taken").await.unwrap();
    assert_eq!(service.spec.unwrap().selector, None);

    // No address.
    world
        .create_at("nowhere", 31132, json!({"networkProfile": {"address": null}}))
        .await;
    let nowhere = world.until_condition("nowhere", "Ready", "AddressMissing").await;
    let message = &nowhere.status.unwrap().conditions[0].message;
    assert!(message.contains("spec.networkProfile.address"), "{message}");

    // A datastore that does not exist yet.
    world.create_at("early", 31133, json!({"dataStore": "later"})).await;
    world
        .until_condition("early", "DataStoreReady", "DataStoreMissing")
        .await;
    world.add_datastore("later", &world.etcd).await;
    world.until_carried_out("early").await;

    // A neighbour's data, asked for in three ways. Admission is not installed here.
    let victim = world.control_plane("early").await.uid().unwrap();
    let asked = [
        ("thief", json!({"dataStoreSchema": victim})),
        ("nester", json!({"dataStoreSchema": format!("{victim}/registry")})),
        ("root", json!({"dataStoreUsername": "root"})),
    ];
    for (port, (name, spec)) in (31140..).zip(asked) {
        world.create_at(name, port, spec).await;
        let refused = world.until_condition(name, "DataStoreReady", "NamesRefused").await;
        assert_eq!(refused.status.unwrap().storage, None, "{name} has nothing on record");
        // And going leaves the neighbour alone.
        world.delete(name).await;
    }
    let users = world.etcd.etcdctl(&["user", "list"]).await.unwrap();
    assert!(users.contains(&victim) && users.contains("root"), "{users}");

    // Keys that were left behind without an owner on record, and a user of somebody whose control plane is gone. The
    // names go on record before the store is asked, and a second pass sees that record: it is no right.
    world
        .etcd
        .etcdctl(&["put", "/left-behind/registry/x", "value"])
        .await
        .unwrap();
    world
        .etcd
        .etcdctl(&["user", "add", "ghost", "--no-password"])
        .await
        .unwrap();
    let asked = [
        ("heir", json!({"dataStoreSchema": "left-behind"})),
        ("medium", json!({"dataStoreUsername": "ghost"})),
    ];
    for (port, (name, spec)) in (31145..).zip(asked) {
        world.create_at(name, port, spec).await;
        world.until_condition(name, "DataStoreReady", "NamesRefused").await;
        let passes = operator.passes().0;
        let touch = json!({"metadata": {"annotations": {"again": "yes"}}});
        merge(&world.api::<TenantControlPlane>(), name, touch).await;
        operator.until_rested_after(passes).await;
        let refused = world.until_condition(name, "DataStoreReady", "NamesRefused").await;
        let setup = refused.status.unwrap().storage.and_then(|storage| storage.setup);
        assert_eq!(setup.and_then(|setup| setup.checksum), None, "{name} is not set up");
        assert!(world.api::<Deployment>().get_opt(name).await.unwrap().is_none());
        world.delete(name).await;
    }
    let left = world.etcd.etcdctl(&["get", "/left-behind/", "--prefix"]).await.unwrap();
    assert_eq!(
        left.split_whitespace().collect::<Vec<_>>(),
        ["/left-behind/registry/x", "value"]
    );
    let users = world.etcd.etcdctl(&["user", "list"]).await.unwrap();
    assert!(users.contains("ghost"), "{users}");

    // A store that is down: said, retried, and nothing of it is half-made.
    world.etcd.stop().await;
    world.create_at("unlucky", 31151, json!({})).await;
    let unlucky = world
        .until_condition("unlucky", "DataStoreReady", "DataStoreFailed")
        .await;
    assert_eq!(unlucky.status.unwrap().storage, None);
    assert!(world.api::<Deployment>().get_opt("unlucky").await.unwrap().is_none());
    world.etcd.restart().await;
    world.until_carried_out("unlucky").await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_reaches_beyond_its_author_changes_nothing() {
    let world = World::with_node("default").await;
    let operator = world.operate();
    let deployment = |additional: Value| json!({"controlPlane": {"deployment": additional}});
    let secret = |name: &str| {
        deployment(json!({
            "additionalVolumes": [{"name": "own", "secret": {"secretName": name}}],
            "additionalVolumeMounts": {"apiServer": [{"name": "own", "mountPath": "/own"}]},
        }))
    };

    // New ones are not begun. Admission, which says the same, is not installed here.
    let refused = [
        (
            "host",
            deployment(json!({"additionalVolumes": [{"name": "a", "hostPath": {"path": "/"}}]})),
            "ReachesBeyond",
            "spec.controlPlane.deployment.additionalVolumes[0]",
        ),
        (
            "account",
            deployment(json!({"serviceAccountName": "cluster-admin"})),
            "ServiceAccountNotAllowed",
            "spec.controlPlane.deployment.serviceAccountName",
        ),
        ("borrower", secret("default-store"), "SecretNotOwn", "default-store"),
        (
            "squatter",
            deployment(json!({"additionalVolumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "theirs"}}]})),
            "ClaimNotOwn",
            "theirs",
        ),
        (
            "redirector",
            deployment(json!({"extraArgs": {"scheduler": ["--config=/own/scheduler.yaml"]}})),
            "FlagManaged",
            "spec.controlPlane.deployment.extraArgs.scheduler[0]",
        ),
        (
            "tunnel",
            json!({"addons": {"konnectivity": {"server": {"port": 10257}}}}),
            "PortTaken",
            "spec.addons.konnectivity.server.port",
        ),
    ];
    for (port, (name, changes, reason, field)) in (31161..).zip(refused) {
        world.create_at(name, port, changes).await;
        let tcp = world.until_condition(name, "Accepted", reason).await;
        let conditions = tcp.status.clone().unwrap().conditions;
        assert!(
            conditions
                .iter()
                .any(|one| one.type_ == "Accepted" && one.message.contains(field)),
            "{conditions:#?}"
        );
        assert!(
            conditions
                .iter()
                .any(|one| one.type_ == "Ready" && one.status == "False")
        );
        assert!(world.objects(name).await.is_empty());
        assert_eq!(tcp.status.unwrap().storage, None);
    }

    // A claim that becomes its own lets it go on.
    let claim = json!({"metadata": {"name": "theirs", "labels": {"kamaji.clastix.io/name": "squatter"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    create::<PersistentVolumeClaim>(&world.api(), claim).await;
    world.until_condition("squatter", "Accepted", "SpecAccepted").await;

    // One that runs is left as it is, and goes on once it is put right.
    world.create_at("running", 31170, json!({})).await;
    world.until_ready("running").await;
    let before = world.objects("running").await;
    create::<Secret>(&world.api(), json!({"metadata": {"name": "handed-over"}})).await;
    world.change("running", secret("handed-over")).await;
    world.until_condition("running", "Accepted", "SecretNotOwn").await;
    assert_eq!(world.objects("running").await, before);
    assert_eq!(
        world.control_plane("running").await.status.unwrap().phase(),
        Some(Phase::Ready),
        "what runs is still reported on"
    );
    // The Secret becomes its own; nobody touches the control plane.
    let label = json!({"metadata": {"labels": {"kamaji.clastix.io/name": "running"}}});
    let secrets: Api<Secret> = world.api();
    merge(&secrets, "handed-over", label).await;
    world.until_condition("running", "Accepted", "SpecAccepted").await;
    eventually("the volume is there", || async {
        let deployment = world.api::<Deployment>().get("running").await.unwrap();
        let volumes = deployment.spec.unwrap().template.spec.unwrap().volumes.unwrap();
        when(volumes.iter().any(|volume| volume.name == "own"), || {
            format!("{volumes:?}")
        })
    })
    .await;
    // And is taken back.
    let label = json!({"metadata": {"labels": null}});
    merge(&secrets, "handed-over", label).await;
    world.until_condition("running", "Accepted", "SecretNotOwn").await;
    world.delete("running").await;
    operator.kill().await;
}

impl World {
    async fn forge_status(&self, name: &str, status: Value) {
        let api: Api<TenantControlPlane> = self.api();
        let changes = Patch::Merge(json!({"status": status}));
        api.patch_status(name, &PatchParams::default(), &changes).await.unwrap();
    }

    /// Where the API server's pods keep their objects.
    async fn prefix(&self, name: &str) -> Option<String> {
        let deployment = self.api::<Deployment>().get_opt(name).await.unwrap()?;
        let containers = deployment.spec?.template.spec?.containers;
        let mut args = containers
            .into_iter()
            .flat_map(|container| container.args.unwrap_or_default());
        args.find_map(|arg| arg.strip_prefix("--etcd-prefix=").map(str::to_owned))
    }

    /// Opens the control plane's policy and runs other pods, as somebody with rights in the namespace could; then waits
    /// until both are as before.
    async fn meddle_until_repaired(&self, name: &str) {
        let (policies, deployments) = (self.api::<NetworkPolicy>(), self.api::<Deployment>());
        let policy = policies.get(name).await.unwrap().spec;
        let pods = deployments.get(name).await.unwrap().spec;
        merge(&policies, name, json!({"spec": {"egress": [{}]}})).await;
        merge(
            &deployments,
            name,
            json!({"spec": {"template": {"spec": {"hostNetwork": false, "nodeSelector": {"their": "node"}, "serviceAccountName": "theirs"}}}}),
        )
        .await;
        eventually("policy and pods are repaired", || async {
            let now = policies.get(name).await.unwrap().spec;
            when(now == policy, || format!("{now:?}"))?;
            let account = |spec: &Option<k8s_openapi::api::apps::v1::DeploymentSpec>| {
                spec.clone().and_then(|spec| spec.template.spec?.service_account_name)
            };
            let now = deployments.get(name).await.unwrap().spec;
            when(account(&now) == account(&pods), || format!("{now:?}"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_store_is_put_right_while_it_is_away_and_a_forged_status_leads_nowhere() {
    let world = World::with_node("default").await;
    let operator = world.operate();
    let uid = world.create_at("steady", 31181, json!({})).await.uid().unwrap();
    world.until_ready("steady").await;
    let prefix = Some(format!("/{uid}"));
    assert_eq!(world.prefix("steady").await, prefix);

    // The store's credentials vanish.
    let secrets: Api<Secret> = world.api();
    let store = secrets.get("default-store").await.unwrap();
    secrets.delete("default-store", &DeleteParams::default()).await.unwrap();
    let away = || world.until_condition("steady", "DataStoreReady", "DataStoreNotReady");
    away().await;
    world.meddle_until_repaired("steady").await;
    away().await;

    // Forged, before this process and the next.
    let forged = json!({"storage": {"setup": {"schema": "theirs", "user": "theirs"}}});
    world.forge_status("steady", forged.clone()).await;
    world.meddle_until_repaired("steady").await;
    assert_eq!(world.prefix("steady").await, prefix);
    operator.kill().await;
    world.forge_status("steady", forged.clone()).await;
    let operator = world.operate();
    operator.until_rested_after(0).await;
    away().await;
    assert_eq!(
        world.prefix("steady").await,
        prefix,
        "Secret and status disagree: nothing is touched"
    );

    // The store is back, and knows better than the status.
    let again = json!({"metadata": {"name": "default-store"}, "data": store.data});
    create::<Secret>(&secrets, again).await;
    world.until_condition("steady", "DataStoreReady", "AccountReady").await;
    eventually("the status is put right", || async {
        let status = world.control_plane("steady").await.status.unwrap();
        let setup = status.storage.unwrap().setup.unwrap();
        when(
            setup.schema == Some(uid.clone()) && setup.user == Some(uid.clone()),
            || format!("{setup:?}"),
        )
    })
    .await;
    assert_eq!(world.prefix("steady").await, prefix);
    let roles = world.etcd.etcdctl(&["role", "list"]).await.unwrap();
    assert!(!roles.contains("theirs"), "{roles}");
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_is_taken_back_from_nobody_and_asked_back_from_somebody() {
    let world = World::with_node("default").await;
    let policies: Api<NetworkPolicy> = world.api();
    // Somebody's policy of that name, from before.
    let closed = json!({"metadata": {"name": "later"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
    create::<NetworkPolicy>(&policies, closed).await;
    let operator = world.operate();
    world.create_at("later", 31191, json!({})).await;
    let later = world.until_condition("later", "Deployed", "NameTaken").await;
    let conditions = later.status.unwrap().conditions;
    let ready = conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert!(ready.message.contains("NetworkPolicy later"), "{}", ready.message);
    assert!(
        world.api::<Deployment>().get_opt("later").await.unwrap().is_none(),
        "no pod without its policy"
    );
    let left = policies.get("later").await.unwrap();
    assert!(left.labels().is_empty() && left.spec.unwrap().egress.is_none());
    policies.delete("later", &DeleteParams::default()).await.unwrap();
    world.until_carried_out("later").await;
    let wanted = policies.get("later").await.unwrap().spec;

    let until_ours = async || {
        eventually("the policy is ours again", || async {
            let now = policies.get("later").await.unwrap();
            when(now.spec == wanted && now.owner_references().len() == 1, || {
                format!("{now:?}")
            })?;
            when(now.labels().contains_key("kamaji.clastix.io/name"), || {
                format!("{:?}", now.metadata)
            })
        })
        .await;
    };
    // Relabelled; relabelled and disowned; replaced.
    let unlabelled = json!({"metadata": {"labels": null}, "spec": {"egress": [{}]}});
    merge(&policies, "later", unlabelled).await;
    until_ours().await;
    let nobodys = json!({"metadata": {"labels": null, "ownerReferences": null}, "spec": {"egress": [{}]}});
    merge(&policies, "later", nobodys).await;
    until_ours().await;

    // Somebody else's.
    let holder = create::<ConfigMap>(&world.api(), json!({"metadata": {"name": "holder"}})).await;
    let theirs = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "holder", "uid": holder.uid().unwrap(), "controller": true}]}});
    merge(&policies, "later", theirs).await;
    world.until_condition("later", "Deployed", "NameTaken").await;
    let events: Api<Event> = world.api();
    eventually("an Event names it", || async {
        let found = events.list(&ListParams::default()).await.unwrap().items;
        let named = found.iter().any(|event| {
            event.reason.as_deref() == Some("NameTaken")
                && event
                    .note
                    .as_ref()
                    .is_some_and(|note| note.contains("NetworkPolicy later"))
        });
        when(named, || format!("{} Events", found.len()))
    })
    .await;
    assert_eq!(
        policies.get("later").await.unwrap().owner_references()[0].name,
        "holder"
    );
    merge(&policies, "later", json!({"metadata": {"ownerReferences": null}})).await;
    until_ours().await;
    world.until_condition("later", "Deployed", "PodsStarting").await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_drops_what_is_on_record_under_the_uid_whatever_the_status_says_and_nothing_of_others() {
    let world = World::with_node("default").await;
    let operator = world.operate();
    let control_planes: Api<TenantControlPlane> = world.api();
    let neighbour = world.create_at("neighbour", 31201, json!({})).await.uid().unwrap();
    world.until_carried_out("neighbour").await;
    let cases = [
        ("blank", json!({"storage": null})),
        (
            "names",
            json!({"storage": {"dataStoreName": "default", "setup": {"schema": neighbour, "user": neighbour}}}),
        ),
    ];
    let mut uids = Vec::new();
    for (port, (name, _)) in (31202..).zip(&cases) {
        uids.push(world.create_at(name, port, json!({})).await.uid().unwrap());
        world.until_carried_out(name).await;
    }
    operator.kill().await;
    for (name, status) in cases {
        world.forge_status(name, status).await;
        merge(&control_planes, name, json!({"metadata": {"finalizers": []}})).await;
        merge(
            &control_planes,
            name,
            json!({"metadata": {"finalizers": ["finalizer.kamaji.clastix.io"]}}),
        )
        .await;
        control_planes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let operator = world.operate();
    for name in ["blank", "names"] {
        world.until_gone::<TenantControlPlane>(name).await;
    }
    let users = world.etcd.etcdctl(&["user", "list"]).await.unwrap();
    let roles = world.etcd.etcdctl(&["role", "list"]).await.unwrap();
    let records = world
        .etcd
        .etcdctl(&["get", "/cotenant.dev/", "--prefix"])
        .await
        .unwrap();
    for uid in &uids {
        assert!(
            !users.contains(uid) && !roles.contains(uid) && !records.contains(uid),
            "{users}{roles}{records}"
        );
    }
    assert!(users.contains(&neighbour) && roles.contains(&neighbour) && records.contains(&neighbour));
    world.until_carried_out("neighbour").await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_operators_account_is_taken_over_by_its_own_control_plane_alone() {
    let world = World::with_node("default").await;
    for name in ["old", "precious"] {
        world.etcd.etcdctl(&["role", "add", name]).await.unwrap();
        world
            .etcd
            .etcdctl(&["user", "add", name, "--no-password"])
            .await
            .unwrap();
        world.etcd.etcdctl(&["user", "grant-role", name, name]).await.unwrap();
        world
            .etcd
            .etcdctl(&["put", &format!("/{name}/registry/x"), "value"])
            .await
            .unwrap();
    }
    let status = |name: &str| {
        json!({"storage": {"driver": "etcd", "dataStoreName": "default",
            "setup": {"schema": name, "user": name, "checksum": "1", "lastUpdate": "2026-11-20T12:00:00Z"}}})
    };
    let heir = world.create_at("heir", 31211, json!({})).await;
    let forger = world.create_at("forger", 31212, json!({})).await;
    let secret = |control_plane: &TenantControlPlane, component: &str, data: Value| {
        let name = control_plane.name_any();
        json!({
            "metadata": {
                "name": format!("{name}-{component}"),
                "labels": {"kamaji.clastix.io/project": "kamaji", "kamaji.clastix.io/name": name},
                "ownerReferences": [{"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "name": name,
                    "uid": control_plane.uid().unwrap(), "controller": true}],
            },
            "stringData": data,
        })
    };
    // Both have a certificate of the store's authority, for one and the same user.
    let authority = pki::Authority::from_pem(&world.etcd.ca_cert_pem, &world.etcd.ca_key_pem).unwrap();
    let request = pki::LeafRequest::client("old", &[], jiff::Timestamp::now());
    let pair = authority.issue(&request).unwrap();
    for (control_plane, names) in [(&heir, "old"), (&forger, "precious")] {
        let account = json!({"DB_CONNECTION_STRING": "", "DB_SCHEMA": names, "DB_USER": names, "DB_PASSWORD": "x"});
        create::<Secret>(&world.api(), secret(control_plane, "datastore-config", account)).await;
        let certificate =
            json!({"ca.crt": authority.cert_pem(), "server.crt": pair.cert_pem, "server.key": pair.key_pem});
        create::<Secret>(
            &world.api(),
            secret(control_plane, "datastore-certificate", certificate),
        )
        .await;
    }
    world.forge_status("heir", status("old")).await;
    world.forge_status("forger", status("precious")).await;

    let operator = world.operate();
    world.until_carried_out("heir").await;
    world.until_carried_out("forger").await;
    assert_eq!(world.prefix("heir").await.as_deref(), Some("/old"));
    assert_eq!(world.prefix("forger").await, forger.uid().map(|uid| format!("/{uid}")));
    for name in ["heir", "forger"] {
        world.delete(name).await;
    }
    let left = world
        .etcd
        .etcdctl(&["get", "/", "--prefix", "--keys-only"])
        .await
        .unwrap();
    assert!(
        left.contains("/precious/registry/x") && !left.contains("/old/"),
        "{left}"
    );
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_components_run_with_what_is_rendered_and_the_cluster_is_set_up() {
    let world = World::with_node("default").await;
    let operator = world.operate();
    let port = ports::free(NODE_PORTS).unwrap();
    let secure_port = |port: u16| json!([format!("--secure-port={port}")]);
    let changes = json!({
        // The pods of this test have the addresses of this machine; endpoints of a Service must not be loopback ones.
        "networkProfile": {"address": "127.0.0.1", "advertiseAddress": "192.0.2.10"},
        "controlPlane": {"deployment": {"extraArgs": {
            "controllerManager": secure_port(ports::free(ports::UNCLAIMED).unwrap()),
            "scheduler": secure_port(ports::free(ports::UNCLAIMED).unwrap()),
        }}},
    });
    world.create_at("real", i32::from(port), changes).await;
    world.until_carried_out("real").await;
    let mut components = Components::start(&world, "real", |_| true).await;

    let master = administrator(&world, "real", "super-admin.conf", port).await;
    components.until_ready(&master).await;
    eventually("everything is set up inside", || async {
        world.make_pods_ready("real").await;
        let tcp = world.control_plane("real").await;
        let status = tcp.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .any(|one| one.type_ == "Ready" && one.status == "True");
        when(ready, || format!("{:#?}\n{}", status.conditions, components.logs()))
    })
    .await;

    // Administrators get in through an object in the cluster, so it is there.
    let admin = administrator(&world, "real", "admin.conf", port).await;
    Api::<Node>::all(admin.clone())
        .list(&ListParams::default())
        .await
        .unwrap();
    // The controller manager and the API server agree about service accounts, whose tokens are ES256.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(admin.clone(), "default");
    eventually("the controller manager works", || async {
        accounts
            .get("default")
            .await
            .map(drop)
            .map_err(|error| format!("{error}\n{}", components.logs()))
    })
    .await;
    let request = json!({"metadata": {}, "spec": {"audiences": []}});
    let request = http::Request::post("/api/v1/namespaces/default/serviceaccounts/default/token")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&request).unwrap())
        .unwrap();
    let token: Value = admin.request(request).await.unwrap();
    let header = token["status"]["token"].as_str().unwrap().split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], "ES256");
    writes_are_limited_and_released(&world, &admin, port).await;
    for process in &mut components.processes {
        process.check().unwrap();
    }
    drop(components);
    operator.kill().await;
}

/// Through the operator: the phase says so, the tenant keeps it, and it ends.
async fn writes_are_limited_and_released(world: &World, admin: &Client, port: u16) {
    let limit = async |blocked: bool| {
        let spec = json!({"writePermissions": {"blockCreation": blocked}});
        world.change("real", spec).await;
    };
    let write = async || {
        let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
        let map = json!({"metadata": {"name": unique("note")}, "data": {"port": port.to_string()}});
        let map = serde_json::from_value(map).unwrap();
        maps.create(&PostParams::default(), &map).await.map(drop)
    };
    write().await.unwrap();
    limit(true).await;
    let limited = world.until_phase("real", Phase::WriteLimited).await;
    assert_eq!(limited.status.unwrap().installed_version(), Some("v1.36.3"));
    eventually("the tenant refuses to create", || async {
        match write().await {
            Err(kube::Error::Api(status)) if status.message.contains("has limited write permissions") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    limit(false).await;
    world.until_phase("real", Phase::Ready).await;
    eventually("the tenant creates again", || async {
        write().await.map_err(|error| error.to_string())
    })
    .await;
}
