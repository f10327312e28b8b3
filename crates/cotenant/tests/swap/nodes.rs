//! The release on a real node: the Job, the pods, the rights that the chart gives them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use testbed::Cluster;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant");

/// How long anything may take before a test gives up. Nothing is concluded from how long it took.
const PATIENCE: Duration = Duration::from_secs(300);

/// A cluster with a node, and a release on it.
struct Bed {
    cluster: Cluster,
    release: &'static str,
}

impl Bed {
    async fn start(release: &'static str) -> Self {
        Self {
            cluster: Cluster::start(release).await,
            release,
        }
    }

    fn run(&self, program: &str, arguments: &str) -> Result<String, String> {
        let output = Command::new(local::programs::locate().unwrap().path(program))
            .args(arguments.split_whitespace())
            .env("KUBECONFIG", self.cluster.local().kubeconfig())
            .env("HOME", self.cluster.directory())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn kubectl(&self, arguments: &str) -> Result<String, String> {
        self.run("kubectl", arguments)
    }

    fn helm(&self, arguments: &str) {
        let arguments = format!("{arguments} --namespace {}-system --timeout 300s", self.release);
        if let Err(said) = self.run("helm", &arguments) {
            panic!("helm {arguments}: {said}\n{}", self.explanation());
        }
    }

    fn apply(&self, object: &str) {
        let file = self.cluster.directory().join("object.yaml");
        std::fs::write(&file, object).unwrap();
        self.kubectl(&format!("apply -f {}", file.display())).unwrap();
    }

    async fn eventually(&self, arguments: &str, wanted: &str) {
        let begun = Instant::now();
        loop {
            let said = self.kubectl(arguments).unwrap_or_else(|said| said);
            if said.contains(wanted) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "kubectl {arguments}: not {wanted:?} but {said}\n{}",
                self.explanation()
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// What people look at first.
    fn explanation(&self) -> String {
        let namespace = format!("-n {}-system", self.release);
        [
            "get pods -A".to_owned(),
            "get tenantcontrolplanes -A -o yaml".to_owned(),
            format!("{namespace} get events"),
            format!(
                "{namespace} logs -l app.kubernetes.io/instance={} --tail=30",
                self.release
            ),
            format!("{namespace} logs job/{}-crd-lifecycle", self.release),
        ]
        .map(|command| self.kubectl(&command).unwrap_or_else(|said| said))
        .join("\n")
    }
}

#[tokio::test]
async fn the_release_serves_tenants_with_the_rights_of_its_chart() {
    let bed = Bed::start("capsule").await;
    let release = format!(
        "capsule {CHART} --values {CHART}/values-capsule.yaml --set image.tag=test,replicaCount=1,rbac.resources.create=true --wait"
    );
    bed.helm(&format!("install {release} --create-namespace"));

    // Its Lease and the peer's are one pod's.
    let holder = "-n capsule-system get lease -o jsonpath={.spec.holderIdentity} --ignore-not-found";
    bed.eventually(
        &format!("{holder} 42c733ea.clastix.capsule.io"),
        "capsule-controller-manager-",
    )
    .await;
    bed.eventually(&format!("{holder} cotenant"), "capsule-controller-manager-")
        .await;
    bed.eventually(
        "get mutatingwebhookconfiguration capsule-dynamic-webhook -o jsonpath={.webhooks[0].clientConfig.service}",
        r#""name":"capsule-webhook-service","namespace":"capsule-system""#,
    )
    .await;

    bed.apply(
        "{apiVersion: capsule.clastix.io/v1beta2, kind: Tenant, metadata: {name: oil}, spec: {owners: [{kind: User, name: alice}], \
         resourceQuotas: {items: [{hard: {pods: '3'}}]}}}",
    );
    let alice = "--as alice --as-group projectcapsule.dev --as-group system:authenticated";
    bed.eventually(&format!("create namespace oil-production {alice}"), "AlreadyExists")
        .await;
    bed.eventually(
        "get tenant oil -o jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        "True",
    )
    .await;
    bed.eventually(
        "-n oil-production get resourcequota -o jsonpath={.items[*].spec.hard}",
        r#""pods":"3""#,
    )
    .await;
    bed.eventually(
        &format!("auth can-i create tenantresources -n oil-production {alice}"),
        "yes",
    )
    .await;

    // An upgrade runs the Job again, over definitions that the operator has put its own conversion into.
    let converter =
        "get crd tenants.capsule.clastix.io -o jsonpath={.spec.conversion.webhook.clientConfig.service.name}";
    bed.eventually(converter, "capsule-webhook-service").await;
    let uid = bed.kubectl("get tenant oil -o jsonpath={.metadata.uid}").unwrap();
    bed.helm(&format!("upgrade {release}"));
    bed.eventually(converter, "capsule-webhook-service").await;
    bed.helm("uninstall capsule --wait");
    assert_eq!(bed.kubectl("get tenant oil -o jsonpath={.metadata.uid}").unwrap(), uid);
    bed.eventually("get validatingwebhookconfiguration capsule-dynamic-webhook", "NotFound")
        .await;
}

#[tokio::test]
async fn the_release_serves_control_planes_with_the_rights_of_its_chart() {
    let bed = Bed::start("kamaji").await;
    let release = format!(
        "kamaji {CHART} --values {CHART}/values-kamaji.yaml --set image.tag=test,replicaCount=1,etcd.persistence.enabled=false --wait"
    );
    bed.helm(&format!("install {release} --create-namespace"));
    let holder = "-n kamaji-system get lease -o jsonpath={.spec.holderIdentity} --ignore-not-found";
    bed.eventually(&format!("{holder} kamaji.clastix.io"), "kamaji-").await;
    bed.eventually(&format!("{holder} cotenant"), "kamaji-").await;
    bed.eventually(
        "get mutatingwebhookconfiguration kamaji-mutating-webhook-configuration -o jsonpath={.webhooks[0].clientConfig.service}",
        r#""name":"kamaji-webhook-service","namespace":"kamaji-system""#,
    )
    .await;
    bed.eventually("get datastore default -o jsonpath={.status.ready}", "true")
        .await;

    bed.apply(
        "{apiVersion: kamaji.clastix.io/v1alpha1, kind: TenantControlPlane, metadata: {name: demo, namespace: default}, spec: { \
         controlPlane: {deployment: {replicas: 1}, service: {serviceType: ClusterIP}}, kubernetes: {version: v1.36.3}, \
         addons: {coreDNS: {}, kubeProxy: {}}}}",
    );
    let phase = "get tenantcontrolplane demo -o jsonpath=phase={.status.kubernetesResources.version.status}";
    bed.eventually(phase, "phase=Ready").await;
    let identities = "get tenantcontrolplane/demo datastore/default -o jsonpath={.items[*].metadata.uid}";
    let before = bed.kubectl(identities).unwrap();
    let authority = "get secret demo-ca -o jsonpath={.data}";
    let key = bed.kubectl(authority).unwrap();

    // The Job again; then away with the release, and back over what stays.
    bed.helm(&format!("upgrade {release}"));
    bed.helm("uninstall kamaji --wait");
    bed.eventually(
        "get mutatingwebhookconfiguration kamaji-mutating-webhook-configuration",
        "NotFound",
    )
    .await;
    bed.helm(&format!("install {release}"));
    bed.eventually(&format!("{holder} cotenant"), "kamaji-").await;
    bed.eventually(phase, "phase=Ready").await;
    assert_eq!(bed.kubectl(identities).unwrap(), before);
    assert_eq!(bed.kubectl(authority).unwrap(), key);
    bed.helm("uninstall kamaji --wait");
}
