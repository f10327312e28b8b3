//! A cluster with the release `kamaji`, control planes in it, and workers in these.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use local::{
    node::Handle,
    worker::{Join, Worker},
};
use serde_json::{Value, json};
use testbed::Cluster;

use crate::kubectl::Kubectl;

/// How long anything may take before the test gives up. Nothing is concluded from how long it took.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant");

/// What is asked for of a control plane, in the namespace `default`.
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    pub(crate) replicas: u8,
    /// A node port.
    pub(crate) port: u16,
    /// The second byte of its pods' network; nobody else's, so that the admin node has a route to its workers.
    pub(crate) network: u8,
    pub(crate) addons: Value,
}

pub(crate) struct Hosting {
    cluster: Cluster,
    pub(crate) admin: Kubectl,
}

impl Hosting {
    /// `prefix` is what the cluster's name begins with.
    pub(crate) async fn start(prefix: &str) -> Self {
        let cluster = Cluster::start(prefix).await;
        let programs = local::programs::locate().unwrap();
        let release = format!(
            "install kamaji {CHART} --values {CHART}/values-kamaji.yaml \
             --set image.tag=test,replicaCount=1,etcd.persistence.enabled=false \
             --namespace kamaji-system --create-namespace --wait --timeout {}s",
            PATIENCE.as_secs()
        );
        let helm = Command::new(programs.path("helm"))
            .args(release.split_whitespace())
            .env("KUBECONFIG", cluster.local().kubeconfig())
            .env("HOME", cluster.directory())
            .output()
            .unwrap();
        assert!(helm.status.success(), "{}", String::from_utf8_lossy(&helm.stderr));
        let hosting = Self {
            admin: Kubectl::new("admin", &programs.path("kubectl"), cluster.local().kubeconfig()),
            cluster,
        };
        hosting
            .admin
            .eventually(PATIENCE, "get datastore default -o jsonpath={.status.ready}", |ready| {
                ready == "true"
            });
        hosting.admin.eventually(
            PATIENCE,
            "get mutatingwebhookconfiguration kamaji-mutating-webhook-configuration",
            |_| true,
        );
        hosting
    }

    pub(crate) fn cluster(&self) -> &local::cluster::Cluster {
        self.cluster.local()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.cluster.directory()
    }

    fn cotenant(&self, line: &str) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_cotenant"))
            .args(line.split_whitespace())
            .env("KUBECONFIG", self.cluster().kubeconfig())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cotenant {line}: {said}");
        output.stdout
    }

    /// Asks for it, and does not wait.
    pub(crate) fn create(&self, wanted: &Wanted) {
        let &Wanted { port, network, .. } = wanted;
        let object = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": wanted.name, "namespace": "default"},
            "spec": {
                "controlPlane": {"deployment": {"replicas": wanted.replicas}, "service": {"serviceType": "NodePort"}},
                "kubernetes": {"version": "v1.36.3", "kubelet": {"cgroupfs": "cgroupfs",
                    "configurationJSONPatches": [{"op": "add", "path": "/failCgroupV1", "value": false}]}},
                "networkProfile": {"address": self.cluster().address(), "port": port,
                    "podCidr": format!("10.{network}.0.0/16"), "serviceCidr": "10.116.0.0/16",
                    "dnsServiceIPs": ["10.116.0.10"]},
                "addons": wanted.addons,
            },
        });
        self.admin.apply(&object.to_string());
    }

    /// Waits until it is Ready; its administrator.
    pub(crate) fn administrator(&self, name: &str) -> Kubectl {
        self.is_ready(name);
        let path = self.directory().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, self.cotenant(&format!("cluster kubeconfig {name}"))).unwrap();
        let program = local::programs::locate().unwrap().path("kubectl");
        let tenant = Kubectl::new(name, &program, path);
        tenant.eventually(PATIENCE, "get --raw /readyz", |_| true);
        tenant
    }

    /// With all that machines join with: the phase is that of the pods alone.
    pub(crate) fn is_ready(&self, name: &str) {
        self.admin.eventually(
            PATIENCE,
            &format!("get tenantcontrolplane {name} -o jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}"),
            |status| status == "True",
        );
    }

    /// Starts a machine that joins, and does not wait for it.
    pub(crate) fn join_worker(&self, control_plane: &str, name: &str) -> Worker {
        let invitation = self.cotenant(&format!("node join-command {control_plane} -o json"));
        let invitation: Value = serde_json::from_slice(&invitation).unwrap();
        let said = |key: &str| invitation[key].as_str().unwrap().to_owned();
        let join = Join {
            name: name.to_owned(),
            endpoint: said("endpoint"),
            token: said("token"),
            ca_hashes: vec![said("caCertHash")],
            pod_subnet: None,
            memory_bytes: None,
        };
        tokio::task::block_in_place(|| Worker::join(self.cluster(), &join)).unwrap()
    }

    /// Waits until the machine is a Ready node of the tenant's.
    pub(crate) async fn has_joined(&self, tenant: &Kubectl, worker: &Worker) {
        let joined = worker.joined(self.cluster(), PATIENCE).await;
        joined.unwrap_or_else(|error| panic!("{error}"));
        tenant.ok(&format!(
            "wait --for=condition=Ready node/{} --timeout=300s",
            worker.name()
        ));
    }
}

/// Gives a node rules for packets, with which they go.
pub(crate) fn filter_packets(node: &Handle, rules: &str) {
    let mut nft = node.command("nft").unwrap();
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft refused:\n{rules}");
}
