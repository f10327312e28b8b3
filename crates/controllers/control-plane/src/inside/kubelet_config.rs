//! The ConfigMap with the configuration that nodes get when they join. What is in it is decided where admission decides.

use serde_json::json;
use tenancy::control_plane::kubelet;

use super::object::{Kind, Object};
use super::{Inputs, Invalid};

pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, Invalid> {
    let configuration = kubelet::configuration(
        inputs.minor().into(),
        inputs.dns_service_ips,
        inputs.cluster_domain,
        inputs.kubelet,
    )
    .map_err(Invalid::KubeletPatch)?;
    let text = serde_norway::to_string(&configuration).expect("JSON is YAML");
    // Up to 1.23 the name carried the version.
    let name = match inputs.minor() {
        minor @ ..24 => format!("kubelet-config-1.{minor}"),
        _ => "kubelet-config".to_owned(),
    };
    Ok(Object::new(
        Kind::ConfigMap,
        Some("kube-system"),
        &name,
        json!({"data": {"kubelet": text}}),
    ))
}
