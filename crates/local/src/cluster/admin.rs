//! The admin node: which programs make a whole Kubernetes cluster with one node, and what they are told.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use super::{ADMIN, API_PORT, CLUSTER_DNS, NODE_POD_SUBNET, POD_SUBNET, Plan, SERVICE_SUBNET};
use crate::error::{Error, Result};
use crate::node::{Condition, DIRECTORY, EXECUTABLE, Node, Program};
use crate::{containerd, network, registry};

const PKI: &str = "/etc/kubernetes/pki";
const SUPER_ADMIN: &str = "/etc/kubernetes/super-admin.conf";

/// Writes the files that the programs read, into the node's directory.
pub(super) fn write_files(plan: &Plan, directory: &Path) -> Result<()> {
    let registry = SocketAddrV4::new(plan.subnet.admin(), registry::PORT);
    let files = [
        (
            "config/containerd.toml",
            containerd::config(&format!("{DIRECTORY}/config/certs.d"), None),
        ),
        ("config/certs.d/_default/hosts.toml", containerd::hosts(registry)),
        ("config/registry.yml", registry::config("/var/lib/registry", registry)),
        ("config/kubelet.yaml", kubelet(&format!("{PKI}/ca.crt")).to_string()),
        ("cni/net.d/10-pods.conflist", containerd::pod_network(NODE_POD_SUBNET)),
    ];
    write_all(directory, &files)
}

/// Writes files below a directory, with their directories.
pub(crate) fn write_all(directory: &Path, files: &[(&str, String)]) -> Result<()> {
    for (name, text) in files {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(Error::file("create directory", parent))?;
        std::fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// Kubelet's settings on a machine that it shares with others: it evicts late, collects no images, and takes either
/// version of cgroups.
pub(crate) fn kubelet_settings() -> serde_json::Value {
    serde_json::json!({
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
}

fn kubelet(ca: &str) -> serde_json::Value {
    let mut settings = kubelet_settings();
    let more = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "clusterDNS": [CLUSTER_DNS],
        "clusterDomain": "cluster.local",
        "authentication": {"x509": {"clientCAFile": ca}, "anonymous": {"enabled": false}, "webhook": {"enabled": true}},
        "authorization": {"mode": "Webhook"},
        "maxPods": 200,
    });
    if let (Some(settings), serde_json::Value::Object(more)) = (settings.as_object_mut(), more) {
        settings.extend(more);
    }
    settings
}

/// The node's whole configuration.
pub(super) fn node(plan: &Plan, directory: PathBuf) -> Node {
    let upstream = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubelet",
        "kubeadm",
        "kubectl",
    ];
    Node {
        cluster: plan.name.clone(),
        name: ADMIN.to_owned(),
        directory,
        address: plan.subnet.admin(),
        gateway: plan.subnet.machine(),
        bridge: network::bridge_name(&plan.name),
        routes: std::collections::BTreeMap::new(),
        executable: plan.executable.clone(),
        binaries: upstream
            .iter()
            .map(|name| ((*name).to_owned(), plan.programs.path(name)))
            .collect(),
        memory_bytes: plan.memory_bytes,
        programs: programs(plan),
        lifetime: plan.lifetime.clone(),
    }
}

pub(crate) fn containerd_program() -> Program {
    Program::new(
        "containerd",
        ["containerd", "--log-level", "warn", "--config"]
            .into_iter()
            .map(str::to_owned)
            .chain([format!("{DIRECTORY}/config/containerd.toml")]),
    )
}

fn programs(plan: &Plan) -> Vec<Program> {
    let ready = || Condition::ApiServer(SUPER_ADMIN.into());
    let address = plan.subnet.admin();
    let kubeconfigs = |name: &str| {
        ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            .map(|flag| format!("--{flag}=/etc/kubernetes/{name}.conf"))
    };
    let mut etcd = vec![
        "etcd".to_owned(),
        "--data-dir=/var/lib/etcd".to_owned(),
        "--listen-client-urls=https://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=https://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        format!("--cert-file={PKI}/etcd/server.crt"),
        format!("--key-file={PKI}/etcd/server.key"),
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={PKI}/etcd/ca.crt"),
        "--log-level=warn".to_owned(),
    ];
    if !plan.durable {
        etcd.push("--unsafe-no-fsync".to_owned());
    }
    let api_server = [
        "kube-apiserver".to_owned(),
        format!("--advertise-address={address}"),
        format!("--secure-port={API_PORT}"),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--enable-bootstrap-token-auth=true".to_owned(),
        "--etcd-servers=https://127.0.0.1:2379".to_owned(),
        format!("--etcd-cafile={PKI}/etcd/ca.crt"),
        format!("--etcd-certfile={PKI}/apiserver-etcd-client.crt"),
        format!("--etcd-keyfile={PKI}/apiserver-etcd-client.key"),
        format!("--client-ca-file={PKI}/ca.crt"),
        format!("--tls-cert-file={PKI}/apiserver.crt"),
        format!("--tls-private-key-file={PKI}/apiserver.key"),
        format!("--service-account-key-file={PKI}/sa.pub"),
        format!("--service-account-signing-key-file={PKI}/sa.key"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_SUBNET}"),
        format!("--kubelet-client-certificate={PKI}/apiserver-kubelet-client.crt"),
        format!("--kubelet-client-key={PKI}/apiserver-kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
        format!("--requestheader-client-ca-file={PKI}/front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={PKI}/front-proxy-client.crt"),
        format!("--proxy-client-key-file={PKI}/front-proxy-client.key"),
    ];
    let controller_manager = [
        "kube-controller-manager".to_owned(),
        format!("--cluster-signing-cert-file={PKI}/ca.crt"),
        format!("--cluster-signing-key-file={PKI}/ca.key"),
        format!("--root-ca-file={PKI}/ca.crt"),
        format!("--service-account-private-key-file={PKI}/sa.key"),
        "--use-service-account-credentials=true".to_owned(),
        "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={POD_SUBNET}"),
        format!("--service-cluster-ip-range={SERVICE_SUBNET}"),
        "--leader-elect=false".to_owned(),
    ];
    let kube_proxy = [
        "kube-proxy".to_owned(),
        format!("--kubeconfig={SUPER_ADMIN}"),
        "--proxy-mode=nftables".to_owned(),
        format!("--hostname-override={ADMIN}"),
        format!("--cluster-cidr={POD_SUBNET}"),
        // The limit belongs to the machine and cannot be set from a network namespace.
        "--conntrack-max-per-core=0".to_owned(),
    ];
    let kubelet = [
        "kubelet".to_owned(),
        format!("--config={DIRECTORY}/config/kubelet.yaml"),
        "--kubeconfig=/etc/kubernetes/kubelet.conf".to_owned(),
        format!("--hostname-override={ADMIN}"),
        format!("--node-ip={address}"),
    ];
    let mut programs = vec![
        containerd_program(),
        Program::new(
            "registry",
            [
                "docker-registry".to_owned(),
                "serve".to_owned(),
                format!("{DIRECTORY}/config/registry.yml"),
            ],
        ),
        Program::new("etcd", etcd),
        Program::new("kube-apiserver", api_server).after(Condition::Tcp(([127, 0, 0, 1], 2379).into())),
        Program::new(
            "kube-controller-manager",
            controller_manager.into_iter().chain(kubeconfigs("controller-manager")),
        )
        .after(ready()),
        Program::new(
            "kube-scheduler",
            ["kube-scheduler".to_owned(), "--leader-elect=false".to_owned()]
                .into_iter()
                .chain(kubeconfigs("scheduler")),
        )
        .after(ready()),
        Program::new("kube-proxy", kube_proxy).after(ready()),
        Program::new("kubelet", kubelet)
            .after(Condition::Path(containerd::SOCKET.into()))
            .after(ready()),
    ];
    if plan.enforcer {
        let command = [
            EXECUTABLE.to_owned(),
            "enforcer".to_owned(),
            "--kubeconfig".to_owned(),
            SUPER_ADMIN.to_owned(),
        ];
        programs.push(Program::new("enforcer", command).after(ready()));
    }
    programs
}
