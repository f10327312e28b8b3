//! The admin cluster's certificates and kubeconfigs, made by kubeadm: they are upstream's business, in upstream's places.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Plan;
use crate::error::{Error, Result};

/// A finished set. Written last: a set that was interrupted is made again.
const COMPLETE: &str = "certificates-complete";

/// Makes what is not there. `directory` is the node's `/etc/kubernetes`.
pub(super) fn ensure(plan: &Plan, directory: &Path) -> Result<()> {
    let mark = directory.join(COMPLETE);
    if mark.exists() {
        return Ok(());
    }
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(Error::file("empty", directory))?;
    }
    let pki = directory.join("pki");
    std::fs::create_dir_all(&pki).map_err(Error::file("create directory", &pki))?;
    let path = directory.join("kubeadm.yaml");
    std::fs::write(&path, configuration(plan, &pki)).map_err(Error::file("write", &path))?;
    let kubeadm = plan.programs.path("kubeadm");
    for (phase, directory) in [("certs", None), ("kubeconfig", Some(directory))] {
        let mut command = Command::new(&kubeadm);
        command.args(["init", "phase", phase, "all", "--config"]).arg(&path);
        if let Some(directory) = directory {
            command.arg("--kubeconfig-dir").arg(directory);
        }
        let output = command.stdin(Stdio::null()).output().map_err(Error::spawn("kubeadm"))?;
        if !output.status.success() {
            return Err(Error::Exit {
                program: format!("kubeadm init phase {phase} all"),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
    }
    std::fs::write(&mark, "").map_err(Error::file("write", &mark))
}

fn configuration(plan: &Plan, pki: &Path) -> String {
    let init = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": plan.subnet.admin(), "bindPort": super::API_PORT},
        "nodeRegistration": {"name": super::ADMIN, "criSocket": format!("unix://{}", crate::containerd::SOCKET)},
    });
    let cluster = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": plan.name,
        "kubernetesVersion": plan.version,
        "certificatesDir": pki,
        "encryptionAlgorithm": "ECDSA-P256",
        // Nobody renews them; a cluster on one machine may well be older than a year.
        "certificateValidityPeriod": "87600h",
        "caCertificateValidityPeriod": "87600h",
        "networking": {"serviceSubnet": super::SERVICE_SUBNET, "podSubnet": super::POD_SUBNET},
    });
    format!("{init}\n---\n{cluster}\n")
}
