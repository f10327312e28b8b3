//! What a node that knows only a token reads first. Its signatures, `jws-kubeconfig-<token id>`, are the tenant's
//! controller-manager's; ours is the one key beside them, so a token's signature survives our writes.

use serde_json::json;

use super::Inputs;
use super::object::{Kind, Object};

pub(super) fn object(inputs: &Inputs<'_>) -> Object {
    let kubeconfig = pki::kubeconfig::discovery(&format!("https://{}", inputs.endpoint), inputs.ca_pem);
    Object::new(
        Kind::ConfigMap,
        Some("kube-public"),
        "cluster-info",
        json!({"data": {"kubeconfig": kubeconfig}}),
    )
}
