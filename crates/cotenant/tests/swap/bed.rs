//! A cluster without nodes, Helm, the peer's traces, and the operator as a process of this machine.

use std::{
    fmt::Debug,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        coordination::v1::Lease,
        core::v1::Namespace,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use local::ports;
use local::process::{Process, Spec, tail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::ApiServer;

pub(crate) const TENANT: &str = "oil";
pub(crate) const CONFIGURATIONS: &str = "capsule-dynamic-webhook";
pub(crate) const PEER_LEASE: &str = "42c733ea.clastix.capsule.io";
const DEFINITION: &str = "tenants.capsule.clastix.io";
/// Where the hooks of the peer point to, who is not there.
const PEER_URL: &str = "https://127.0.0.1:9";
const PATIENCE: Duration = Duration::from_secs(120);

/// The chart that stands for that of the peer of namespace tenants.
pub(crate) fn peer() -> String {
    format!("{}/tests/swap/peer", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) struct Bed {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    /// The release's.
    namespace: &'static str,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) ports: [u16; 3],
    set: String,
}

/// What must never be made anew.
#[derive(Debug, PartialEq)]
pub(crate) struct Identities {
    pub(crate) tenant: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) definition: Option<String>,
    configuration: Option<String>,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::within("capsule-system").await
    }

    pub(crate) async fn within(namespace: &'static str) -> Self {
        let server = ApiServer::start().await;
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = serde_norway::to_string(&server.kubeconfig()).unwrap();
        std::fs::write(directory.path().join("kubeconfig"), kubeconfig).unwrap();
        let ports = [(); 3].map(|()| ports::free(ports::UNCLAIMED).unwrap());
        Self {
            client: server.client().await,
            server,
            namespace,
            directory,
            ports,
            set: format!("--set=webhooks.service.url=https://127.0.0.1:{}", ports[0]),
        }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// `helm upgrade` of the release to our chart. There is no node for the Job that Helm would run before.
    pub(crate) fn upgrade_to_ours(&self) -> Vec<&str> {
        const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant");
        const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant/values-capsule.yaml");
        vec![
            "upgrade",
            "capsule",
            CHART,
            "--values",
            VALUES,
            &self.set,
            "--set=replicaCount=0",
            "--no-hooks",
        ]
    }

    pub(crate) fn helm(&self, arguments: &[&str]) {
        let (success, said) = self.run_helm(arguments);
        assert!(success, "helm {}: {said}", arguments.join(" "));
    }

    pub(crate) fn helm_refused(&self, arguments: &[&str]) -> String {
        let (success, said) = self.run_helm(arguments);
        assert!(!success, "helm {} was not refused", arguments.join(" "));
        said
    }

    fn run_helm(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(local::programs::locate().unwrap().path("helm"))
            .args(arguments)
            .args(["--namespace", self.namespace])
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.directory.path())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// What the Job of the chart runs.
    pub(crate) fn bring_definitions_up_to_date(&self, group: &str) {
        let output = Command::new(env!("CARGO_BIN_EXE_cotenant"))
            .args(["crds", "--group", group, "--kubeconfig"])
            .arg(self.kubeconfig())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The operator; gone with the value.
    pub(crate) fn start_operator(&self) -> Process {
        let [webhooks, metrics, health] = self.ports;
        let spec = self
            .operator("capsule")
            .args(["capsule", "--enable-leader-election"])
            .arg("--owner-cluster-role=capsule:capsule:operator")
            .arg(format!("--webhook-port={webhooks}"))
            .arg(format!("--metrics-addr=127.0.0.1:{metrics}"))
            .arg(format!("--health-probe-bind-address=127.0.0.1:{health}"))
            .arg("--kubeconfig")
            .arg(self.operators_kubeconfig())
            .env("NAMESPACE", self.namespace)
            .env("SERVICE_ACCOUNT", "capsule");
        Process::start(spec).unwrap()
    }

    /// The program, and a kubeconfig for it. By the name of this ServiceAccount the policies know who keeps objects in tenants'
    /// namespaces.
    pub(crate) fn operator(&self, service_account: &str) -> Spec {
        let user = format!("system:serviceaccount:{}:{service_account}", self.namespace);
        let kubeconfig = self.server.kubeconfig_for(&user, &["system:masters"]);
        std::fs::write(
            self.operators_kubeconfig(),
            serde_norway::to_string(&kubeconfig).unwrap(),
        )
        .unwrap();
        Spec::new("operator", env!("CARGO_BIN_EXE_cotenant"), self.log())
    }

    pub(crate) fn operators_kubeconfig(&self) -> PathBuf {
        self.directory.path().join("operator.kubeconfig")
    }

    /// Definitions as a peer's Job would write them, with something that ours do not have.
    pub(crate) async fn install_peers_definitions(&self) {
        self.install_definitions("capsule.clastix.io").await;
        self.eventually("Tenants are served", async || {
            Api::<Tenant>::all(self.client.clone())
                .list(&ListParams::default())
                .await
                .is_ok()
        })
        .await;
    }

    pub(crate) async fn install_definitions(&self, group: &str) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for mut definition in api::crds() {
            if definition.spec.group != group {
                continue;
            }
            definition.spec.conversion = None;
            definition.spec.versions.retain(|version| version.storage);
            for version in &mut definition.spec.versions {
                let column = json!({"name": "Peer", "type": "string", "jsonPath": ".metadata.name"});
                let columns = version.additional_printer_columns.get_or_insert_default();
                columns.push(serde_json::from_value(column).unwrap());
            }
            let name = definition.name_any();
            definitions
                .patch(
                    &name,
                    &PatchParams::apply("capsule/crd-lifecycle"),
                    &Patch::Apply(&definition),
                )
                .await
                .unwrap();
        }
    }

    pub(crate) async fn definition_has_peers_column(&self) -> bool {
        let definition: CustomResourceDefinition = self.cluster(DEFINITION).await.unwrap();
        definition.spec.versions.iter().any(|version| {
            version
                .additional_printer_columns
                .iter()
                .flatten()
                .any(|column| column.name == "Peer")
        })
    }

    /// The peer of namespace tenants.
    pub(crate) async fn leave_what_a_running_peer_leaves(&self) {
        let configuration: CapsuleConfiguration = self.cluster("default").await.unwrap();
        let owner = configuration.controller_owner_ref(&()).unwrap();
        let object = |kind: &str| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {
                    "name": CONFIGURATIONS, "labels": {"projectcapsule.dev/created-by": "controller"},
                    "ownerReferences": [owner]},
                "webhooks": [{
                    "name": "nobody.projectcapsule.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                    "clientConfig": {"url": PEER_URL}, "failurePolicy": "Ignore", "timeoutSeconds": 1,
                    "rules": [{
                        "apiGroups": ["capsule.clastix.io"], "apiVersions": ["*"], "resources": ["tenants"],
                        "operations": ["CREATE"]}]}]})
        };
        self.create::<ValidatingWebhookConfiguration>(
            Api::all(self.client.clone()),
            object("ValidatingWebhookConfiguration"),
        )
        .await;
        self.create::<MutatingWebhookConfiguration>(
            Api::all(self.client.clone()),
            object("MutatingWebhookConfiguration"),
        )
        .await;
        self.leave_a_lease(PEER_LEASE).await;
    }

    /// Held by a peer, for as long as this takes.
    pub(crate) async fn leave_a_lease(&self, name: &str) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": "peer", "leaseDurationSeconds": 3600, "leaseTransitions": 4}});
        self.create::<Lease>(Api::namespaced(self.client.clone(), self.namespace), lease)
            .await;
    }

    /// A peer that ends gives its Lease back.
    pub(crate) async fn let_the_peer_go(&self, lease: &str) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), self.namespace);
        let patch = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        leases
            .patch(lease, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Who holds the Lease, if somebody does.
    pub(crate) async fn holder(&self, name: &str) -> Option<String> {
        let lease: Lease = self.get(name).await?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    }

    pub(crate) async fn create_a_tenant_with_a_namespace(&self) {
        let tenant = json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": TENANT},
            "spec": {"owners": [{"kind": "User", "name": "alice"}]}});
        let tenant: Tenant = self.create(Api::all(self.client.clone()), tenant).await;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": "oil-production", "labels": {"capsule.clastix.io/tenant": TENANT},
                "ownerReferences": [tenant.owner_ref(&()).unwrap()]}});
        self.create::<Namespace>(Api::all(self.client.clone()), namespace).await;
    }

    pub(crate) async fn tenant_is_ready(&self) -> bool {
        let tenant: Tenant = self.cluster(TENANT).await.unwrap();
        let status = tenant.status.unwrap_or_default();
        status.namespaces.contains(&"oil-production".to_owned())
            && status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    pub(crate) async fn identities(&self) -> Identities {
        Identities {
            tenant: self.cluster::<Tenant>(TENANT).await.and_then(|tenant| tenant.uid()),
            namespace: self
                .cluster::<Namespace>("oil-production")
                .await
                .and_then(|namespace| namespace.uid()),
            definition: self
                .cluster::<CustomResourceDefinition>(DEFINITION)
                .await
                .and_then(|definition| definition.uid()),
            configuration: self
                .cluster::<CapsuleConfiguration>("default")
                .await
                .and_then(|configuration| configuration.uid()),
        }
    }

    pub(crate) async fn configuration_is_owned_by(&self, release: &str) -> bool {
        let configuration: CapsuleConfiguration = self.cluster("default").await.unwrap();
        let annotation = |name: &str| configuration.annotations().get(name).map(String::as_str);
        annotation("meta.helm.sh/release-name") == Some(release)
            && annotation("meta.helm.sh/release-namespace") == Some(self.namespace)
    }

    /// URLs of all hooks of both configurations.
    async fn hooks(&self) -> Vec<String> {
        let validating: Option<ValidatingWebhookConfiguration> = self.cluster(CONFIGURATIONS).await;
        let mutating: Option<MutatingWebhookConfiguration> = self.cluster(CONFIGURATIONS).await;
        let validating = validating
            .into_iter()
            .flat_map(|object| object.webhooks.unwrap_or_default());
        let mutating = mutating
            .into_iter()
            .flat_map(|object| object.webhooks.unwrap_or_default());
        validating
            .map(|hook| hook.client_config)
            .chain(mutating.map(|hook| hook.client_config))
            .filter_map(|config| config.url)
            .collect()
    }

    pub(crate) async fn hooks_of_the_peer(&self) -> usize {
        self.hooks()
            .await
            .iter()
            .filter(|url| url.starts_with(PEER_URL))
            .count()
    }

    pub(crate) async fn hooks_of_ours(&self) -> usize {
        let ours = format!("https://127.0.0.1:{}/", self.ports[0]);
        self.hooks().await.iter().filter(|url| url.starts_with(&ours)).count()
    }

    pub(crate) async fn create<K>(&self, api: Api<K>, object: Value) -> K
    where
        K: Resource + Clone + Debug + serde::Serialize + DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// An object in the release's namespace.
    pub(crate) async fn get<K>(&self, name: &str) -> Option<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        Api::<K>::namespaced(self.client.clone(), self.namespace)
            .get_opt(name)
            .await
            .unwrap()
    }

    /// An object in no namespace.
    pub(crate) async fn cluster<K>(&self, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        Api::<K>::all(self.client.clone()).get_opt(name).await.unwrap()
    }

    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            assert!(begun.elapsed() < PATIENCE, "{what}: not so\n{}", tail(&self.log()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("operator.log")
    }
}
