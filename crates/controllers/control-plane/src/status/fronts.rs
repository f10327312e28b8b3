//! What the status says of the Ingress and the routes in front of a control plane.

use api::kamaji::v1alpha1::{ControlPlaneGatewayStatus, ControlPlaneIngressStatus, TenantControlPlaneStatus};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

/// What stands in front of the Service now.
#[derive(Debug, Clone, Default)]
pub struct Fronts {
    /// The Ingress.
    pub ingress: Option<Ingress>,
    /// The route, as the status tells of it.
    pub gateway: Option<ControlPlaneGatewayStatus>,
    /// The tunnel's route, likewise.
    pub tunnel: Option<ControlPlaneGatewayStatus>,
}

/// Reports what a pass has seen. One that did not look leaves what was known.
pub(super) fn report(status: &mut TenantControlPlaneStatus, fronts: Option<&Fronts>) {
    let Some(fronts) = fronts else { return };
    let resources = status.kubernetes_resources.get_or_insert_default();
    resources.ingress = fronts.ingress.as_ref().map(|ingress| ControlPlaneIngressStatus {
        status: ingress.status.clone().unwrap_or_default(),
        name: ingress.name_any(),
        namespace: ingress.namespace().unwrap_or_default(),
    });
    resources.gateway.clone_from(&fronts.gateway);
    let addons = status.addons.as_mut();
    if let Some(tunnel) = addons.and_then(|addons| addons.konnectivity.as_mut()) {
        tunnel.gateway.clone_from(&fronts.tunnel);
    }
}
