//! `cotenant cluster`, `node` and `datastore` against a real API server, with admission and the controllers running in this
//! process, and a real etcd as DataStore.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

mod ended;
#[path = "../../webhooks/tests/support/mod.rs"]
mod support;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use clap::Parser;
use control_plane_controller::{Settings, Watches};
use ended::Ended;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Config, ResourceExt};
use local::process::{Process, Spec};
use serde_json::{Value, json};
use support::served::served;
use support::until;
use testbed::{EtcdFixture, unique};
use tokio::sync::OnceCell;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: cli::Command,
}

/// An administrator with a namespace, and a pool of their own.
struct Person {
    kubeconfig: tempfile::NamedTempFile,
    client: Client,
    namespace: String,
}

static ETCD: OnceCell<EtcdFixture> = OnceCell::const_new();

impl Person {
    async fn new() -> Self {
        let server = served().await.server;
        let client = server.client().await;
        ETCD.get_or_init(|| begin(&client)).await;
        let namespace = unique("clusters");
        create::<Namespace>(&Api::all(client.clone()), json!({"metadata": {"name": namespace}})).await;
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = server.kubeconfig_for("adam", &["system:masters"]);
        std::fs::write(kubeconfig.path(), serde_json::to_vec(&config).unwrap()).unwrap();
        Self {
            kubeconfig,
            client,
            namespace,
        }
    }

    /// In a thread like the program's own, which has a larger stack than those of tests.
    async fn types(&self, line: &str, answer: &str) -> Ended {
        let words = ["cotenant"].into_iter().chain(line.split_whitespace());
        let words: Vec<String> = words
            .map(str::to_owned)
            .chain(["--kubeconfig".to_owned(), self.kubeconfig.path().display().to_string()])
            .collect();
        let answer = answer.to_owned();
        let program = std::thread::Builder::new().stack_size(8 << 20).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(command(words, &answer))
        });
        let program = program.unwrap();
        tokio::task::spawn_blocking(move || program.join().unwrap())
            .await
            .unwrap()
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

    fn control_planes(&self) -> Api<TenantControlPlane> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

async fn command(words: Vec<String>, answer: &str) -> Ended {
    let command = match Line::try_parse_from(words) {
        Ok(line) => line.command,
        Err(error) => return Ended::unread(&error),
    };
    let mut output = Vec::new();
    let terminal = cli::Terminal {
        input: &mut answer.as_bytes(),
        output: &mut output,
    };
    let result = match command {
        cli::Command::Cluster(args) => cli::cluster::run(args, terminal).await,
        cli::Command::Node(args) => cli::node::run(args, terminal).await,
        cli::Command::Datastore(args) => cli::datastore::run(args, terminal).await,
        other => panic!("{other:?}"),
    };
    Ended::of(output, result)
}

/// A DataStore `default` on an etcd, and the controllers.
async fn begin(client: &Client) -> EtcdFixture {
    let etcd = EtcdFixture::start().await;
    let secret = json!({"metadata": {"name": "default-store"}, "stringData": {
        "ca.crt": etcd.ca_cert_pem, "ca.key": etcd.ca_key_pem,
        "tls.crt": etcd.root_cert_pem, "tls.key": etcd.root_key_pem}});
    create::<Secret>(&Api::namespaced(client.clone(), "cotenant-system"), secret).await;
    data_store(client, "default", &etcd.endpoint, &json!({})).await;
    support::controllers::run(async |client, shutdown| {
        let settings = Settings {
            default_datastore: Some("default".to_owned()),
            ..Settings::default()
        };
        let registry = runtime::metrics::Registry::new();
        let metrics = runtime::controller::Metrics::register(&registry);
        let watches = Watches::start(&client, &shutdown);
        let events = runtime::events::Recorder::new(client.clone(), "cotenant-operator", Some("test"));
        control_plane_controller::run(client, watches, events, settings, &registry, &metrics, shutdown).await
    })
    .await;
    until("admission and the controllers know the store", async || {
        let store: DataStore = Api::all(client.clone()).get("default").await.unwrap();
        store.status.is_some_and(|status| status.ready).then_some(())
    })
    .await;
    etcd
}

async fn data_store(client: &Client, name: &str, endpoint: &str, labels: &Value) {
    let content = |key: &str| json!({"secretReference": {"name": "default-store", "namespace": "cotenant-system", "keyPath": key}});
    let store = json!({"metadata": {"name": name, "labels": labels}, "spec": {
        "driver": "etcd", "endpoints": [endpoint],
        "tlsConfig": {
            "certificateAuthority": {"certificate": content("ca.crt"), "privateKey": content("ca.key")},
            "clientCertificate": {"certificate": content("tls.crt"), "privateKey": content("tls.key")}}}});
    create::<DataStore>(&Api::all(client.clone()), store).await;
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_is_planned_made_shown_put_to_sleep_and_deleted() {
    let adam = Person::new().await;
    let ns = &adam.namespace;
    let create = format!(
        "cluster create life -n {ns} --version v1.36.3 --replicas 1 --service node-port --address 192.0.2.10 --port 31701"
    );
    let plan = adam.does(&format!("{create} --plan")).await;
    for line in [
        format!("Plan: create TenantControlPlane {ns}/life. Nothing was written."),
        "  + TenantControlPlane life".to_owned(),
        "      spec.dataStore: default".to_owned(),
        "  + Deployment life".to_owned(),
        "  + Secret life-ca".to_owned(),
        "  it is reached at https://192.0.2.10:31701".to_owned(),
    ] {
        assert!(plan.lines().any(|said| said == line), "{line} is not in\n{plan}");
    }
    let said = adam.does(&format!("{create} --dry-run=server")).await;
    assert_eq!(said, format!("TenantControlPlane {ns}/life created (server dry run)\n"));
    assert_eq!(adam.control_planes().get_opt("life").await.unwrap(), None);

    assert_eq!(
        adam.does(&create).await,
        format!("TenantControlPlane {ns}/life created\n")
    );
    assert!(adam.is_refused(&create).await.contains("already exists"));
    let kubeconfig = until("the kubeconfig is there", async || {
        let ended = adam.types(&format!("cluster kubeconfig life -n {ns}"), "").await;
        (ended.code == 0).then_some(ended.said)
    })
    .await;
    assert_eq!(
        pki::Kubeconfig::parse(&kubeconfig).unwrap().server,
        "https://192.0.2.10:31701"
    );
    let shown: Value = serde_json::from_str(&adam.does(&format!("cluster show life -n {ns} -o json")).await).unwrap();
    assert_eq!(
        (&shown["dataStore"], &shown["endpoint"], &shown["replicas"]["wanted"]),
        (&json!("default"), &json!("192.0.2.10:31701"), &json!(1))
    );
    let list = adam.does(&format!("cluster list -n {ns}")).await;
    assert!(
        list.lines().nth(1).unwrap().starts_with(&format!("{ns}  life ")),
        "{list}"
    );
    let said = adam.is_refused(&format!("node join-command life -n {ns}")).await;
    assert!(said.contains("does not answer yet"), "{said}");

    let sleep = format!("cluster sleep life -n {ns}");
    let said = adam.does(&format!("{sleep} --wait --timeout 300")).await;
    assert_eq!(said, format!("TenantControlPlane {ns}/life changed\n"));
    assert_eq!(adam.does(&sleep).await, "Nothing to do: it is so already.\n");
    let said = adam.is_refused(&format!("node join-command life -n {ns}")).await;
    assert!(said.contains("is asleep"), "{said}");
    let plan = adam.does(&format!("cluster wake life -n {ns} --plan")).await;
    assert!(
        plan.contains("  its API server answers again; replicas: 1\n") && plan.contains("  ~ Deployment life\n"),
        "{plan}"
    );
    adam.does(&format!("cluster wake life -n {ns}")).await;
    let awake = adam.control_planes().get("life").await.unwrap();
    assert_eq!(awake.spec.control_plane.deployment.replicas, 1);

    for (line, why) in [
        ("upgrade life v1.99.0", "greater than the supported one"),
        ("upgrade life v1.35.0", "unable to downgrade"),
        ("migrate life --datastore nowhere", "nowhere DataStore does not exist"),
    ] {
        let said = adam.is_refused(&format!("cluster {line} -n {ns}")).await;
        assert!(said.contains(why), "{line}: {said}");
    }

    let delete = format!("cluster delete life -n {ns}");
    let plan = adam.does(&format!("{delete} --plan")).await;
    assert!(
        plan.contains("  - TenantControlPlane life\n") && plan.contains("  - Secret life-ca\n"),
        "{plan}"
    );
    let ended = adam.types(&delete, "no\n").await;
    assert_eq!(ended.code, 6, "{}", ended.said);
    assert!(ended.said.contains("in DataStore default\n"), "{}", ended.said);
    let ended = adam.types(&format!("{delete} --wait --timeout 300"), "life\n").await;
    assert!(
        ended.code == 0 && ended.said.ends_with("life deleted\n"),
        "{}",
        ended.said
    );
    assert_eq!(adam.types(&format!("cluster show life -n {ns}"), "").await.code, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_over_two_minors_is_refused_without_steps_and_planned_with_them() {
    let adam = Person::new().await;
    let ns = &adam.namespace;
    adam.does(&format!(
        "cluster create walker -n {ns} --version v1.34.2 --replicas 0 --service cluster-ip --bare --wait --timeout 300"
    ))
    .await;
    let upgrade = format!("cluster upgrade walker v1.36.3 -n {ns}");
    let said = adam.is_refused(&upgrade).await;
    assert!(
        said.contains("in a non-sequential mode") && said.contains("(`--step` writes it)"),
        "{said}"
    );
    let plan = adam.does(&format!("{upgrade} --step --via v1.35.7 --plan")).await;
    for line in [
        "  it runs v1.34.2, then v1.35.7, then v1.36.3; pods are replaced as spec.controlPlane.deployment.strategy says",
        "      metadata.annotations[cotenant.dev/upgrade-path]: v1.35.7",
        "      spec.kubernetes.version: v1.34.2 -> v1.36.3",
    ] {
        assert!(plan.lines().any(|said| said == line), "{line} is not in\n{plan}");
    }
    adam.does(&format!("{upgrade} --step --via v1.35.7")).await;
    until("the first step is taken", async || {
        let deployment: Deployment = Api::namespaced(adam.client.clone(), ns).get("walker").await.unwrap();
        let containers = deployment.spec?.template.spec?.containers;
        let images = containers.into_iter().filter_map(|container| container.image);
        images
            .into_iter()
            .any(|image| image.ends_with("kube-apiserver:v1.35.7"))
            .then_some(())
    })
    .await;
    let shown: Value = serde_json::from_str(&adam.does(&format!("cluster show walker -n {ns} --json")).await).unwrap();
    assert_eq!(
        (&shown["installed"], &shown["upgrade"]),
        (&json!("v1.34.2"), &json!(["v1.35.7", "v1.36.3"]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_command_has_a_token_that_is_signed_for_and_lets_in() {
    let adam = Person::new().await;
    let server = served().await.server;
    // This API server stands for the tenant's; what the controller puts into a tenant, and who signs, is added.
    let published = json!({"metadata": {"name": "cluster-info"},
        "data": {"kubeconfig": pki::kubeconfig::discovery(&server.url(), server.ca_pem())}});
    create::<ConfigMap>(&Api::namespaced(adam.client.clone(), "kube-public"), published).await;
    let programs = local::programs::locate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = adam.kubeconfig.path().display().to_string();
    let signer = Spec::new(
        "bootstrap-signer",
        programs.path("kube-controller-manager"),
        folder.path().join("log"),
    )
    .arg(format!("--kubeconfig={kubeconfig}"))
    .arg("--controllers=bootstrap-signer-controller")
    .arg("--leader-elect=false")
    .arg("--secure-port=0");
    let _signer = Process::start(signer).unwrap();

    let line = format!("node join-command --tenant-kubeconfig {kubeconfig} --ttl 30m -o json");
    let said: Value = serde_json::from_str(&adam.does(&line).await).unwrap();
    let text = |key: &str| said[key].as_str().unwrap().to_owned();
    let endpoint = server.url().replace("https://", "");
    let hash = pki::public_key_hash(server.ca_pem()).unwrap();
    assert_eq!(
        text("command"),
        format!(
            "kubeadm join {endpoint} --token {} --discovery-token-ca-cert-hash {hash}",
            text("token")
        )
    );
    let mut config = Config::from_custom_kubeconfig(server.kubeconfig(), &kube::config::KubeConfigOptions::default())
        .await
        .unwrap();
    config.auth_info = kube::config::AuthInfo {
        token: Some(text("token").into()),
        ..Default::default()
    };
    let machine = Client::try_from(config).unwrap();
    let me = Api::<SelfSubjectReview>::all(machine)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .unwrap();
    let user = me.status.unwrap().user_info.unwrap();
    let (id, _) = said["token"].as_str().unwrap().split_once('.').unwrap();
    assert_eq!(user.username, Some(format!("system:bootstrap:{id}")));
    let groups = user.groups.unwrap();
    assert!(
        groups
            .iter()
            .any(|group| group == "system:bootstrappers:kubeadm:default-node-token")
    );
    let ended = adam.types("node join-command nowhere", "").await;
    assert_eq!(ended.code, 4, "{}", ended.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_takes_new_control_planes_and_its_evening_out_is_planned() {
    let adam = Person::new().await;
    let ns = &adam.namespace;
    let (pool, endpoint) = (unique("pool"), ETCD.get().unwrap().endpoint.clone());
    let store = |letter: &str| format!("{pool}-{letter}");
    data_store(
        &adam.client,
        &store("a"),
        &endpoint,
        &json!({"cotenant.dev/pool": pool}),
    )
    .await;
    until("the store is ready", async || {
        let found: DataStore = Api::all(adam.client.clone()).get(&store("a")).await.unwrap();
        found.status.is_some_and(|status| status.ready).then_some(())
    })
    .await;
    for name in ["one", "three", "two"] {
        adam.does(&format!(
            "cluster create {name} -n {ns} --version v1.36.3 --replicas 0 --service cluster-ip --bare --pool {pool} \
             --wait --timeout 300"
        ))
        .await;
    }
    let placed = adam.control_planes().get("one").await.unwrap();
    assert_eq!(placed.spec.data_store, Some(store("a")));
    let reason = &placed.annotations()["cotenant.dev/placement"];
    assert!(reason.contains(&format!("{} of pool {pool}", store("a"))), "{reason}");

    let limit = json!({"metadata": {"annotations": {"cotenant.dev/max-control-planes": "40"}}});
    let stores: Api<DataStore> = Api::all(adam.client.clone());
    stores
        .patch(&store("a"), &PatchParams::default(), &Patch::Merge(limit))
        .await
        .unwrap();
    let top = adam.does("datastore top").await;
    let line = top.lines().find(|line| line.starts_with(&store("a"))).expect(&top);
    assert!(line.contains("3 (0 awake) of 40") && line.contains("7%"), "{line}");

    data_store(
        &adam.client,
        &store("b"),
        &endpoint,
        &json!({"cotenant.dev/pool": pool}),
    )
    .await;
    let moves = until("the other store is ready", async || {
        let said: Value = serde_json::from_str(&adam.does("datastore rebalance --plan -o json").await).unwrap();
        let ours = said.as_array().unwrap().iter().filter(|step| step["namespace"] == *ns);
        let ours: Vec<_> = ours.cloned().collect();
        (!ours.is_empty()).then_some(ours)
    })
    .await;
    assert_eq!(moves.len(), 1);
    assert_eq!(
        (&moves[0]["cluster"], &moves[0]["from"], &moves[0]["to"]),
        (&json!("one"), &json!(store("a")), &json!(store("b")))
    );
    let still = adam.control_planes().get("one").await.unwrap();
    assert_eq!(still.spec, placed.spec, "a plan writes nothing");
}
