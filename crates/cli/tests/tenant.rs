//! `cotenant tenant` against a real API server, with admission and the controllers running in this process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

#[path = "../../controllers/tenant/tests/bed/mod.rs"]
mod bed;
mod ended;
#[path = "../../webhooks/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use api::capsule::v1beta2::Tenant;
use clap::Parser;
use ended::Ended;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use support::served::{TENANTS, US, served};
use tokio::sync::OnceCell;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: cli::Command,
}

/// Somebody with a kubeconfig.
struct Person {
    kubeconfig: tempfile::NamedTempFile,
    client: Client,
}

static CONTROLLERS: OnceCell<()> = OnceCell::const_new();

impl Person {
    async fn new(user: &str, groups: &[&str]) -> Self {
        let server = served().await.server;
        CONTROLLERS
            .get_or_init(|| async {
                let ours = server.kubeconfig_for(US, &["system:masters"]);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let controllers = bed::Controllers::start(bed::connect(ours).await, "default");
                        controllers.shutdown.cancelled().await;
                    });
                });
            })
            .await;
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = server.kubeconfig_for(user, groups);
        std::fs::write(kubeconfig.path(), serde_json::to_vec(&config).unwrap()).unwrap();
        Self {
            kubeconfig,
            client: server.client_for(user, groups).await,
        }
    }

    /// Whom the configuration names as an administrator of tenants.
    async fn administrator() -> Self {
        Self::new("adam", &["system:masters"]).await
    }

    async fn types(&self, line: &str, answer: &str) -> Ended {
        self.runs(&format!("cotenant tenant {line}"), answer).await
    }

    async fn explains(&self, line: &str) -> Ended {
        self.runs(&format!("cotenant explain {line}"), "").await
    }

    async fn runs(&self, line: &str, answer: &str) -> Ended {
        let path = self.kubeconfig.path().display().to_string();
        let command = match Line::try_parse_from(line.split_whitespace().chain(["--kubeconfig", &path])) {
            Ok(line) => line.command,
            Err(error) => return Ended::unread(&error),
        };
        let mut output = Vec::new();
        let terminal = cli::Terminal {
            input: &mut answer.as_bytes(),
            output: &mut output,
        };
        let result = match command {
            cli::Command::Tenant(args) => cli::tenant::run(args, terminal).await,
            cli::Command::Explain(args) => cli::explain::run(args, terminal).await,
            other => panic!("{other:?}"),
        };
        Ended::of(output, result)
    }

    async fn does(&self, line: &str) -> String {
        let ended = self.types(line, "").await;
        assert_eq!(ended.code, 0, "{line}: {}", ended.said);
        ended.said
    }

    async fn is_refused(&self, line: &str) -> String {
        let ended = self.types(line, "").await;
        assert_eq!(ended.code, 3, "{line}: {}", ended.said);
        ended.said
    }

    async fn plans(&self, line: &str) -> Value {
        serde_json::from_str(&self.does(&format!("{line} --plan --json")).await).unwrap()
    }
}

async fn create(client: &Client, namespace: &str) -> Result<Namespace, kube::Error> {
    create_as(client, namespace, &PostParams::default()).await
}

/// What would come of it; nothing is made.
async fn try_to_create(client: &Client, namespace: &str) -> Result<Namespace, kube::Error> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    create_as(client, namespace, &dry_run).await
}

async fn create_as(client: &Client, namespace: &str, params: &PostParams) -> Result<Namespace, kube::Error> {
    let namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    Api::all(client.clone()).create(params, &namespace).await
}

async fn read(client: &Client, namespace: &str) -> Namespace {
    Api::<Namespace>::all(client.clone()).get(namespace).await.unwrap()
}

fn told<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> String {
    match result {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The part of admission's answer that is its own.
fn sentence(refusal: &str) -> &str {
    let said = refusal.split_once("denied the request: ");
    said.or_else(|| refusal.split_once("denied request: "))
        .expect(refusal)
        .1
}

/// `kind namespace/name` of everything that the controller keeps in a namespace.
async fn kept(client: &Client, namespace: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |kind: &str, names: Vec<String>| {
        all.extend(names.into_iter().map(|name| format!("{kind} {namespace}/{name}")));
    };
    add("RoleBinding", bed::names::<RoleBinding>(client, namespace).await);
    add("ResourceQuota", bed::names::<ResourceQuota>(client, namespace).await);
    add("LimitRange", bed::names::<LimitRange>(client, namespace).await);
    add("NetworkPolicy", bed::names::<NetworkPolicy>(client, namespace).await);
    all
}

/// `user: role in namespace` by the RoleBindings that are there.
async fn access(client: &Client, namespace: &str) -> BTreeSet<String> {
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    let bindings = bindings.list(&kube::api::ListParams::default()).await.unwrap().items;
    let rows = bindings.iter().flat_map(|binding| {
        let subjects = binding.subjects.iter().flatten();
        subjects.map(|subject| format!("{}: {} in {namespace}", subject.name, binding.role_ref.name))
    });
    rows.collect()
}

/// The objects of one namespace that a plan would create, or delete, as [`kept`] names them.
fn changed(plan: &Value, verb: &str, namespace: &str) -> BTreeSet<String> {
    let objects = plan["effects"]["objects"].as_array().unwrap().iter();
    let here = objects.filter(|object| object["verb"] == verb && object["namespace"] == namespace);
    here.map(|object| {
        let text = |key: &str| object[key].as_str().unwrap();
        format!("{} {namespace}/{}", text("kind"), text("name"))
    })
    .collect()
}

fn gained(plan: &Value) -> BTreeSet<String> {
    let rows = plan["effects"]["access"].as_array().unwrap().iter();
    let gains = rows.filter(|row| row["turn"] == "gains");
    gains
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap();
            let subject = text("subject").strip_prefix("user:").unwrap();
            let role = text("role").strip_prefix("ClusterRole/").unwrap();
            format!("{subject}: {role} in {}", text("namespace"))
        })
        .collect()
}

#[tokio::test]
async fn a_tenant_is_made_shown_limited_owned_frozen_and_deleted() {
    let adam = Person::administrator().await;
    let alice = Person::new("life-alice", &TENANTS).await;
    let said = adam
        .does("create life --owner user:life-alice --quota namespaces=2 --quota pods=20 --wait")
        .await;
    assert_eq!(said, "Tenant life created\n");
    create(&alice.client, "life-web").await.unwrap();
    adam.does("quota life requests.cpu=8 pods=5 --wait").await;
    bed::ready(&adam.client, "life", 1).await;
    let limits = support::until("everything is counted", async || {
        let limits = adam.does("quota life").await;
        (!limits.contains("at least")).then_some(limits)
    })
    .await;
    assert_eq!(
        limits,
        "life: namespaces: 1 of 2\nlife: pods: 0 of 5\nlife: requests.cpu: 0 of 8\n"
    );

    adam.does("own life group:life-team sa:life-web/robot --role view --wait")
        .await;
    let shown: Value = serde_json::from_str(&adam.does("show life --json").await).unwrap();
    let owners: Vec<&str> = shown["owners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["subject"].as_str().unwrap())
        .collect();
    assert_eq!(
        owners,
        ["user:adam", "user:life-alice", "group:life-team", "sa:life-web/robot"]
    );
    assert!(shown["access"].as_array().unwrap().contains(&json!({
        "namespace": "life-web", "subject": "sa:life-web/robot", "role": "ClusterRole/view"})));
    let list = adam.does("list").await;
    let line = list.lines().find(|line| line.starts_with("life ")).expect(&list);
    assert!(
        line.ends_with("user:life-alice, group:life-team, sa:life-web/robot"),
        "{line}"
    );

    assert_eq!(adam.does("cordon life --wait").await, "Tenant life changed\n");
    assert_eq!(adam.does("cordon life").await, "Nothing to do: it is so already.\n");
    support::until("admission stops her", async || {
        let refused = try_to_create(&alice.client, "life-db").await.err()?;
        refused.to_string().contains("cordoned").then_some(())
    })
    .await;
    assert!(told(create(&alice.client, "life-db").await).contains("cordoned"));
    adam.does("uncordon life --wait").await;
    support::until("admission lets her again", async || {
        create(&alice.client, "life-db").await.ok()
    })
    .await;

    let ended = adam.types("delete life", "no\n").await;
    assert_eq!(ended.code, 6, "{}", ended.said);
    assert!(
        ended.said.contains("  life-web: 0 pods, 0 volume claims"),
        "{}",
        ended.said
    );
    let ended = adam.types("delete life --wait", "life\n").await;
    assert!(
        ended.code == 0 && ended.said.ends_with("Tenant life deleted\n"),
        "{}",
        ended.said
    );
    assert_eq!(adam.types("show life", "").await.code, 4);
}

#[tokio::test]
async fn an_adopted_namespace_gets_what_the_plan_says_and_nothing_is_written_before() {
    let adam = Person::administrator().await;
    adam.does("create adopting --owner user:adopting-alice --quota namespaces=3 --quota pods=9 --wait")
        .await;
    let before = create(&adam.client, "adopting-web").await.unwrap();
    let text = adam.does("adopt adopting-web --tenant adopting --plan").await;
    let plan = adam.plans("adopt adopting-web --tenant adopting").await;
    let said = adam.does("adopt adopting-web --tenant adopting --dry-run=server").await;
    assert_eq!(said, "Namespace adopting-web changed (server dry run)\n");
    assert_eq!(
        read(&adam.client, "adopting-web").await.resource_version(),
        before.resource_version()
    );

    adam.does("adopt adopting-web --tenant adopting --wait").await;
    assert_eq!(
        kept(&adam.client, "adopting-web").await,
        changed(&plan, "create", "adopting-web")
    );
    assert_eq!(access(&adam.client, "adopting-web").await, gained(&plan));
    assert_eq!(
        adam.does("adopt adopting-web --tenant adopting").await,
        "Nothing to do: it is so already.\n"
    );
    assert!(
        adam.plans("adopt adopting-web --tenant adopting").await["effects"]["objects"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    insta::assert_snapshot!(text, @"
    Plan: adopt adopting-web into Tenant adopting. Nothing was written.
    Objects
      ~ Namespace adopting-web
          metadata.labels[capsule.clastix.io/tenant]: adopting
          metadata.ownerReferences[0]: Tenant adopting
      + ResourceQuota adopting-web/capsule-adopting-0
          spec.hard.pods: 9
      + RoleBinding adopting-web/capsule:managed:5aec6c448d0e138b
      + RoleBinding adopting-web/capsule:managed:da868d548336c535
      + RoleBinding adopting-web/capsule:managed:f6e959099029013d
    Access
      + user:adam: ClusterRole/capsule-namespace-deleter in adopting-web
      + user:adopting-alice: ClusterRole/admin in adopting-web
      + user:adopting-alice: ClusterRole/capsule-namespace-deleter in adopting-web
    Quota
      adopting: namespaces: 0 of 3 -> 1 of 3
      adopting: pods: 0 of 9 -> at least 0 of 9 (not counted yet: adopting-web)
    ");
}

#[tokio::test]
async fn a_namespace_moves_with_who_reaches_it() {
    let adam = Person::administrator().await;
    adam.does("create leaving --owner user:leaving-alice --role admin --wait")
        .await;
    adam.does("create joining --owner user:joining-bob --role admin --quota services=4 --scope namespace --wait")
        .await;
    create(&adam.client, "moving").await.unwrap();
    let fault = adam.is_refused("move moving --tenant joining").await;
    assert!(
        fault.contains("belongs to no tenant; `cotenant tenant adopt`"),
        "{fault}"
    );
    adam.does("adopt moving --tenant leaving --wait").await;
    let fault = adam.is_refused("adopt moving --tenant joining").await;
    assert!(
        fault.contains("belongs to Tenant leaving; `cotenant tenant move`"),
        "{fault}"
    );
    insta::assert_snapshot!(adam.does("move moving --tenant joining --plan").await, @"
    Plan: move moving into Tenant joining. Nothing was written.
    Objects
      ~ Namespace moving
          metadata.labels[capsule.clastix.io/tenant]: leaving -> joining
          metadata.ownerReferences[0]: Tenant leaving -> Tenant joining
      + ResourceQuota moving/capsule-joining-0
          spec.hard.services: 4
      + RoleBinding moving/capsule:managed:35358b7225e53a87
      ~ RoleBinding moving/capsule:managed:5aec6c448d0e138b
          metadata.ownerReferences[0]: Tenant leaving -> Tenant joining
      - RoleBinding moving/capsule:managed:fa39f67847c8566e
    Access
      + user:joining-bob: ClusterRole/admin in moving
      - user:leaving-alice: ClusterRole/admin in moving
    Quota
      joining: namespaces: 0 -> 1
      joining: services in each namespace: 0 of 4 -> at least 0 of 4 (not counted yet: moving)
      leaving: namespaces: 1 -> 0
    ");
    let plan = adam.plans("move moving --tenant joining").await;
    let before = kept(&adam.client, "moving").await;
    adam.does("move moving --tenant joining --wait").await;
    let gone = changed(&plan, "delete", "moving");
    let stays = before.difference(&gone).cloned();
    assert_eq!(
        kept(&adam.client, "moving").await,
        changed(&plan, "create", "moving").into_iter().chain(stays).collect()
    );
    let reach = access(&adam.client, "moving").await;
    assert!(reach.contains("joining-bob: admin in moving"), "{reach:?}");
    assert!(!reach.iter().any(|row| row.starts_with("leaving-alice")), "{reach:?}");
}

#[tokio::test]
async fn plans_say_who_gains_and_loses_and_what_becomes_of_limits() {
    let adam = Person::administrator().await;
    let line = "create planned --owner user:planned-alice --role admin --quota pods=3 --plan";
    insta::assert_snapshot!(adam.does(line).await, @"
    Plan: create Tenant planned. Nothing was written.
    Objects
      + Tenant planned
          metadata.labels[kubernetes.io/metadata.name]: planned
          spec.owners[0].clusterRoles[0]: admin
          spec.owners[0].kind: User
          spec.owners[0].name: planned-alice
          spec.resourceQuotas.items[0].hard.pods: 3
          spec.resourceQuotas.scope: Tenant
    Ownership
      + user:adam owns Tenant planned
      + user:planned-alice owns Tenant planned
    Quota
      planned: namespaces: (none) -> 0
      planned: pods: no limit -> 0 of 3
    ");
    assert_eq!(adam.types("show planned", "").await.code, 4, "nothing was written");
    adam.does("create planned --owner user:planned-alice --role admin --wait")
        .await;
    for namespace in ["planned-web", "planned-db"] {
        create(&adam.client, namespace).await.unwrap();
    }
    adam.does("adopt planned-web planned-db --tenant planned --wait").await;
    let line = "own planned group:planned-team --role view --remove user:planned-alice --plan";
    insta::assert_snapshot!(adam.does(line).await, @"
    Plan: change the owners of Tenant planned. Nothing was written.
    Objects
      ~ Tenant planned
          spec.owners[0].clusterRoles[0]: admin -> view
          spec.owners[0].kind: User -> Group
          spec.owners[0].name: planned-alice -> planned-team
      - RoleBinding planned-db/capsule:managed:605d499f3f6c868c
      + RoleBinding planned-db/capsule:managed:f574f26653de0346
      - RoleBinding planned-web/capsule:managed:605d499f3f6c868c
      + RoleBinding planned-web/capsule:managed:f574f26653de0346
    Ownership
      + group:planned-team owns Tenant planned
      - user:planned-alice owns Tenant planned
    Access
      + group:planned-team: ClusterRole/view in planned-db
      + group:planned-team: ClusterRole/view in planned-web
      - user:planned-alice: ClusterRole/admin in planned-db
      - user:planned-alice: ClusterRole/admin in planned-web
    ");
    insta::assert_snapshot!(adam.does("quota planned namespaces=1 --plan").await, @"
    Plan: change the quota of Tenant planned. Nothing was written.
    Objects
      ~ Tenant planned
          spec.namespaceOptions.quota: 1
    Quota
      planned: namespaces: 2 -> 2 of 1 (exceeded)
    ");
    insta::assert_snapshot!(adam.does("cordon planned --plan").await, @"
    Plan: cordon planned. Nothing was written.
    Objects
      ~ Namespace planned-db
          metadata.labels[projectcapsule.dev/cordoned]: true
      ~ Namespace planned-web
          metadata.labels[projectcapsule.dev/cordoned]: true
      ~ Tenant planned
          spec.cordoned: true
    Changes by tenant users
      - refused in planned-db
      - refused in planned-web
    ");
    insta::assert_snapshot!(adam.does("delete planned --plan").await, @"
    Tenant planned goes, and with it these namespaces and everything in them:
      planned-db: 0 pods, 0 volume claims
      planned-web: 0 pods, 0 volume claims
    Plan: delete Tenant planned. Nothing was written.
    Objects
      - Namespace planned-db
      - Namespace planned-web
      - Tenant planned
    Ownership
      - user:adam owns Tenant planned
      - user:planned-alice owns Tenant planned
    Access
      - user:adam: ClusterRole/capsule-namespace-deleter in planned-db
      - user:planned-alice: ClusterRole/admin in planned-db
      - user:adam: ClusterRole/capsule-namespace-deleter in planned-web
      - user:planned-alice: ClusterRole/admin in planned-web
    Quota
      planned: namespaces: 2 -> (none)
    ");
    insta::assert_snapshot!(adam.does("uncordon planned --plan").await, @"
    Plan: uncordon planned. Nothing was written.
    Nothing follows from it.
    ");
}

#[tokio::test]
async fn what_admission_refuses_is_refused_with_its_sentence() {
    let adam = Person::administrator().await;
    let alice = Person::new("refusing-alice", &TENANTS).await;
    adam.does("create refusing --owner user:refusing-alice --quota namespaces=1 --wait")
        .await;
    create(&alice.client, "refusing-one").await.unwrap();
    create(&adam.client, "refusing-two").await.unwrap();
    bed::ready(&adam.client, "refusing", 1).await;

    // One too many: as an owner who creates it is told.
    let hers = told(create(&alice.client, "refusing-three").await);
    for flags in ["", "--plan", "--dry-run=server"] {
        let ours = adam
            .is_refused(&format!("adopt refusing-two --tenant refusing {flags}"))
            .await;
        assert_eq!(ours, format!("cotenant: Namespace refusing-two: {}\n", sentence(&hers)));
    }
    // A name that does not fit.
    let prefix = json!({"spec": {"forceTenantPrefix": true, "namespaceOptions": {"quota": 5}}});
    bed::patch_tenant(&adam.client, "refusing", prefix).await;
    create(&adam.client, "other-two").await.unwrap();
    let hers = support::until("admission knows", async || {
        let refused = try_to_create(&alice.client, "other-three").await.err();
        // Of the quota that was.
        refused.filter(|error| !error.to_string().contains("Cannot exceed"))
    })
    .await;
    let hers = told::<()>(Err(hers)).replace("other-three", "other-two");
    let ours = adam.is_refused("adopt other-two --tenant refusing").await;
    assert_eq!(ours, format!("cotenant: Namespace other-two: {}\n", sentence(&hers)));
    // Somebody who administers the cluster and not its tenants.
    let masters = Person::new("some-master", &["system:masters"]).await;
    let label = json!({"metadata": {"labels": {"capsule.clastix.io/tenant": "refusing"}}});
    let theirs = Api::<Namespace>::all(masters.client.clone());
    let theirs = told(
        theirs
            .patch("refusing-two", &PatchParams::default(), &Patch::Merge(label))
            .await,
    );
    let ours = masters.is_refused("adopt refusing-two --tenant refusing").await;
    assert_eq!(
        ours,
        format!("cotenant: Namespace refusing-two: {}\n", sentence(&theirs))
    );
    // A tenant that is protected.
    bed::patch_tenant(&adam.client, "refusing", json!({"spec": {"preventDeletion": true}})).await;
    let theirs = support::until("admission knows", async || {
        let params = DeleteParams::default().dry_run();
        Api::<Tenant>::all(adam.client.clone())
            .delete("refusing", &params)
            .await
            .err()
    })
    .await;
    let ours = adam.is_refused("delete refusing --yes").await;
    assert_eq!(ours, format!("cotenant: {}\n", sentence(&told::<()>(Err(theirs)))));
}

#[tokio::test]
async fn nonsense_and_what_is_not_there_end_with_their_own_codes() {
    let adam = Person::administrator().await;
    let ended = adam.types("quota nobody pods=-1", "").await;
    assert_eq!(ended.code, 2);
    assert!(
        ended.said.contains("pods: -1 is negative; it has to be 0 or more"),
        "{}",
        ended.said
    );
    let ended = adam.types("quota nobody pods=1", "").await;
    assert_eq!(
        ended,
        Ended {
            code: 4,
            said: "cotenant: no tenant \"nobody\"; `cotenant tenant list` shows them\n".to_owned()
        }
    );
    assert_eq!(adam.types("adopt nowhere --tenant nobody", "").await.code, 4);
    assert_eq!(adam.types("own nobody alice", "").await.code, 2);
    adam.does("create twice").await;
    assert!(adam.is_refused("create twice").await.contains("already exists"));
    assert!(adam.is_refused("create kube-x").await.contains("is reserved"));
    assert!(
        adam.is_refused("create late --owner user:late-alice --role a/b")
            .await
            .contains("spec.owners[0].clusterRoles[0]")
    );
    // The controllers do not write for a tenant that ends while somebody else's finalizer holds it.
    bed::patch_tenant(
        &adam.client,
        "twice",
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
    )
    .await;
    let ended = adam.types("delete twice --yes --wait --timeout 1", "").await;
    assert_eq!(ended.code, 5, "{}", ended.said);
    assert!(
        ended.said.contains("Tenant twice has the finalizer example.com/hold"),
        "{}",
        ended.said
    );
    bed::patch_tenant(&adam.client, "twice", json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test]
async fn an_explanation_is_short_and_says_by_its_code_whether_all_is_as_it_is_wanted() {
    let adam = Person::administrator().await;
    adam.does("create plain --owner user:plain-alice --quota pods=20 --wait")
        .await;
    for name in ["plain-one", "plain-three", "plain-two"] {
        let spec = json!({"metadata": {"name": name, "labels": {"capsule.clastix.io/tenant": "plain"}}});
        let api: Api<Namespace> = Api::all(adam.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(spec).unwrap())
            .await
            .unwrap();
    }
    bed::ready(&adam.client, "plain", 3).await;
    let short = adam.explains("tenant/plain").await;
    assert_eq!(short.code, 0, "{}", short.said);
    let line = "\n3 namespaces: plain-one, plain-three, plain-two\n  ResourceQuota capsule-plain-0: pods=20\n";
    assert!(short.said.contains(line), "{}", short.said);
    assert!(short.said.lines().count() < 15, "{}", short.said);
    let whole = adam.explains("tenant/plain --all").await;
    assert_eq!(whole.code, 0);
    assert!(whole.said.contains("\n- name: plain-three\n"), "{}", whole.said);

    // A port that does not exist: admission looks at rules of tenancy, the API server refuses the copies.
    let broken = json!({"spec": {"networkPolicies": {"items": [{"podSelector": {}, "ingress": [{"ports": [{"port": 99999}]}]}]}}});
    bed::patch_tenant(&adam.client, "plain", broken).await;
    bed::eventually("the tenant is not as it is wanted", || async {
        let ended = adam.explains("tenant/plain").await;
        let told = ended.code == 1
            && ended
                .said
                .contains("cotenant: tenant/plain is not as it is wanted: failed to apply");
        told.then_some(()).ok_or(ended.said)
    })
    .await;
    bed::patch_tenant(&adam.client, "plain", json!({"spec": {"networkPolicies": null}})).await;

    let nobody = adam.explains("tenant/nobody").await;
    assert_eq!(
        nobody,
        Ended {
            code: 2,
            said:
                "cotenant: cannot explain \"tenant/nobody\": no tenant \"nobody\"; `kubectl get tenants` lists them\n"
                    .to_owned()
        }
    );
    let what = adam.explains("namespace/plain-one").await;
    assert_eq!(what.code, 2, "{}", what.said);
    let mallory = Person::new("plain-mallory", &[]).await;
    assert_eq!(mallory.explains("tenant/plain").await.code, 2);
}

#[tokio::test]
async fn of_people_who_write_at_the_same_moment_nobody_is_forgotten() {
    let adam = Person::administrator().await;
    adam.does("create crowd").await;
    let lines = [
        "own crowd user:crowd-a",
        "own crowd user:crowd-b",
        "own crowd user:crowd-c",
        "cordon crowd",
    ];
    let [a, b, c, d] = lines.map(|line| adam.does(line));
    tokio::join!(a, b, c, d);
    let crowd = bed::tenant(&adam.client, "crowd").await;
    let owners: BTreeSet<String> = crowd
        .spec
        .owners
        .iter()
        .map(|owner| owner.core.user.name.clone())
        .collect();
    assert_eq!(
        owners,
        BTreeSet::from(["crowd-a", "crowd-b", "crowd-c"].map(str::to_owned))
    );
    assert!(crowd.spec.cordoned);
}
