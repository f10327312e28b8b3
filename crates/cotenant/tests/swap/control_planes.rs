//! The release `kamaji`: its datastore, its definitions and its control planes outlive every passing.

use std::process::Command;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, Secret, Service},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt as _, api::DeleteParams};
use local::process::Process;
use serde_json::json;
use testbed::EtcdFixture;

use crate::bed::Bed;

const GROUP: &str = "kamaji.clastix.io";
const PEER_LEASE: &str = "kamaji.clastix.io";
const PEER_URL: &str = "https://127.0.0.1:9";
const MUTATING: &str = "kamaji-mutating-webhook-configuration";
const VALIDATING: &str = "kamaji-validating-webhook-configuration";
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/swap/kamaji");
/// As docs/swap.md has it.
const KEEP: &str = r#"helm -n kamaji-system get manifest kamaji |
  awk '/^---/ {keep = 0} /^# Source: .*\/charts\/kamaji-etcd\// {keep = 1; print "---"} keep && !/^#/' |
  kubectl -n kamaji-system annotate --overwrite -f - helm.sh/resource-policy=keep"#;

#[tokio::test]
async fn control_planes_and_their_datastore_outlive_the_passing_of_a_release() {
    let bed = Bed::within("kamaji-system").await;
    let etcd = EtcdFixture::start().await;
    let namespaces: Api<Namespace> = Api::all(bed.client.clone());
    bed.create(namespaces, json!({"metadata": {"name": "kamaji-system"}}))
        .await;
    let secret = json!({"metadata": {"name": "root"}, "stringData": {
        "ca.crt": etcd.ca_cert_pem, "ca.key": etcd.ca_key_pem,
        "tls.crt": etcd.root_cert_pem, "tls.key": etcd.root_key_pem}});
    bed.create::<Secret>(Api::namespaced(bed.client.clone(), "kamaji-system"), secret)
        .await;

    // The peer, at work.
    bed.install_definitions(GROUP).await;
    bed.eventually("both kinds are served", async || {
        let stores: Api<DataStore> = Api::all(bed.client.clone());
        let planes: Api<TenantControlPlane> = Api::all(bed.client.clone());
        let every = kube::api::ListParams::default();
        stores.list(&every).await.is_ok() && planes.list(&every).await.is_ok()
    })
    .await;
    let endpoint = format!("--set=kamaji-etcd.endpoint={}", etcd.endpoint);
    let install_peer = ["install", "kamaji", PEER, &endpoint];
    let back_to_peer = ["upgrade", "kamaji", PEER, "--reset-values", &endpoint];
    bed.helm(&install_peer);
    bed.leave_a_lease(PEER_LEASE).await;
    let tcp = json!({
        "metadata": {"name": "demo"},
        "spec": {
            "dataStore": "default",
            "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "NodePort"}},
            "kubernetes": {"version": "v1.36.3"},
            "networkProfile": {"address": "192.0.2.10", "port": 31077},
            "addons": {"coreDNS": {}, "kubeProxy": {}}}});
    bed.create::<TenantControlPlane>(Api::namespaced(bed.client.clone(), "default"), tcp)
        .await;
    let before = bed.stand().await;
    assert!(before.iter().all(Option::is_some), "{before:?}");

    // Helm would take the datastore with it, so nothing happens.
    let refused = bed.helm_refused(&to_ours());
    assert!(
        refused.contains("Helm would delete what control planes stand on: DataStore default, StatefulSet kamaji-etcd, Service kamaji-etcd"),
        "{refused}"
    );
    bed.shell(KEEP);
    bed.bring_definitions_up_to_date(GROUP);
    bed.helm(&to_ours());
    assert_eq!(bed.stand().await, before);
    assert!(bed.get::<ConfigMap>("kamaji-of-the-peer-alone").await.is_none());

    // The operator waits for the peer, then serves.
    let operator = bed.start_kamaji();
    bed.eventually("our own Lease is held", async || bed.holder("cotenant").await.is_some())
        .await;
    assert_eq!(bed.holder(PEER_LEASE).await.as_deref(), Some("peer"));
    bed.let_the_peer_go(PEER_LEASE).await;
    bed.eventually("the peer's Lease is ours", async || {
        bed.holder(PEER_LEASE).await == bed.holder("cotenant").await
    })
    .await;
    bed.eventually("the hooks are ours", async || bed.hooks_of_kamaji_are(&bed.url()).await)
        .await;
    bed.eventually("the control plane is served", async || bed.is_deployed().await)
        .await;
    assert_eq!(bed.stand().await, before);
    let authority = bed.authority().await.unwrap();

    // And back.
    drop(operator);
    bed.delete_hooks().await;
    bed.helm(&back_to_peer);
    assert!(bed.hooks_of_kamaji_are(PEER_URL).await);
    assert!(bed.get::<ConfigMap>("kamaji-of-the-peer-alone").await.is_some());
    assert_eq!(bed.stand().await, before);

    // To ours once more: what is to be kept still says so. Then away with ours.
    bed.helm(&to_ours());
    let operator = bed.start_kamaji();
    bed.eventually("the hooks are ours again", async || {
        bed.hooks_of_kamaji_are(&bed.url()).await
    })
    .await;
    drop(operator);
    bed.helm(&["uninstall", "kamaji", "--wait"]);
    bed.eventually("no hook is left", async || {
        bed.cluster::<ValidatingWebhookConfiguration>(VALIDATING)
            .await
            .is_none()
            && bed.cluster::<MutatingWebhookConfiguration>(MUTATING).await.is_none()
    })
    .await;
    assert_eq!(bed.stand().await, before);
    bed.helm(&install_peer);
    assert_eq!(bed.stand().await, before);
    assert_eq!(bed.authority().await, Some(authority));
}

/// `helm upgrade` of the release to our chart. There is no node for the Job that Helm would run before.
fn to_ours() -> Vec<&'static str> {
    const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant");
    const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant/values-kamaji.yaml");
    vec![
        "upgrade",
        "kamaji",
        CHART,
        "--reset-values",
        "--values",
        VALUES,
        "--set=replicaCount=0",
        "--no-hooks",
    ]
}

impl Bed {
    /// UIDs of what must never be made anew.
    async fn stand(&self) -> [Option<String>; 5] {
        let planes: Api<TenantControlPlane> = Api::namespaced(self.client.clone(), "default");
        let plane = planes.get_opt("demo").await.unwrap();
        let store: Option<DataStore> = self.cluster("default").await;
        for deleted in [
            plane.as_ref().map(|one| &one.metadata),
            store.as_ref().map(|one| &one.metadata),
        ] {
            assert_eq!(deleted.and_then(|one| one.deletion_timestamp.as_ref()), None);
        }
        let definition: Option<CustomResourceDefinition> = self.cluster("tenantcontrolplanes.kamaji.clastix.io").await;
        [
            plane.and_then(|one| one.uid()),
            store.and_then(|one| one.uid()),
            definition.and_then(|one| one.uid()),
            self.get::<StatefulSet>("kamaji-etcd").await.and_then(|one| one.uid()),
            self.get::<Service>("kamaji-etcd").await.and_then(|one| one.uid()),
        ]
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    fn start_kamaji(&self) -> Process {
        let [webhooks, metrics, health] = self.ports;
        let spec = self
            .operator("kamaji-controller-manager")
            .args(["kamaji", "manager", "--datastore=default"])
            .arg("--owner-cluster-role=kamaji-operator-role")
            .arg("--tls-secret-name=kamaji-tls")
            .arg(format!("--webhook-url={}", self.url()))
            .arg(format!("--webhook-port={webhooks}"))
            .arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"))
            .arg(format!("--health-probe-bind-address=127.0.0.1:{health}"))
            .arg("--kubeconfig")
            .arg(self.operators_kubeconfig())
            .env("POD_NAMESPACE", "kamaji-system")
            .env("SERVICE_ACCOUNT", "kamaji-controller-manager");
        Process::start(spec).unwrap()
    }

    /// Both configurations have hooks, and all are answered there.
    async fn hooks_of_kamaji_are(&self, url: &str) -> bool {
        let mutating: Option<MutatingWebhookConfiguration> = self.cluster(MUTATING).await;
        let validating: Option<ValidatingWebhookConfiguration> = self.cluster(VALIDATING).await;
        let mutating: Vec<_> = mutating
            .into_iter()
            .flat_map(|one| one.webhooks.unwrap_or_default())
            .map(|hook| hook.client_config.url)
            .collect();
        let validating: Vec<_> = validating
            .into_iter()
            .flat_map(|one| one.webhooks.unwrap_or_default())
            .map(|hook| hook.client_config.url)
            .collect();
        let is_there = |found: &Option<String>| {
            let rest = found.as_ref().and_then(|found| found.strip_prefix(url));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !mutating.is_empty() && !validating.is_empty() && mutating.iter().chain(&validating).all(is_there)
    }

    /// The peer's chart has configurations of these names, and Helm takes none that it did not make.
    async fn delete_hooks(&self) {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        mutating.delete(MUTATING, &DeleteParams::default()).await.unwrap();
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        validating.delete(VALIDATING, &DeleteParams::default()).await.unwrap();
    }

    async fn is_deployed(&self) -> bool {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        deployments.get_opt("demo").await.unwrap().is_some()
    }

    async fn authority(&self) -> Option<Vec<u8>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "default");
        let secret = secrets.get_opt("demo-ca").await.unwrap()?;
        Some(secret.data?.remove("ca.crt")?.0)
    }

    /// What a page tells people to type.
    fn shell(&self, command: &str) {
        let programs = local::programs::locate().unwrap();
        let helm = programs.path("helm");
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-euc", command])
            .env("PATH", format!("{}:{path}", helm.parent().unwrap().display()))
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command}: {said}");
        assert!(said.contains("datastore.kamaji.clastix.io/default annotated"), "{said}");
    }
}
