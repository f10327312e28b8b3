//! Routes of the Gateway API that are not ours to make, of which only the names count.

use kube::{CustomResource, Resource};
use serde::{Deserialize, Serialize};

use super::optional::Optional;
use crate::desired::gateway::TlsRoute;
use crate::watches::is_ours;

/// HTTPRoute.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    root = "HttpRoute",
    namespaced,
    schema = "disabled"
)]
pub(crate) struct HttpRouteSpec {
    #[serde(default)]
    pub(crate) hostnames: Vec<String>,
}

/// GRPCRoute.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GRPCRoute",
    plural = "grpcroutes",
    root = "GrpcRoute",
    namespaced,
    schema = "disabled"
)]
pub(crate) struct GrpcRouteSpec {
    #[serde(default)]
    pub(crate) hostnames: Vec<String>,
}

/// Who made a route makes no difference.
pub(super) fn trim<K: Resource>(route: &mut K) {
    let metadata = route.meta_mut();
    metadata.annotations = None;
    metadata.labels = None;
}

/// Ours are compared with what is wanted.
pub(super) fn trim_tls(route: &mut TlsRoute) {
    if is_ours(route) {
        return;
    }
    trim(route);
    route.spec.parent_refs.clear();
    route.spec.rules.clear();
    route.status = None;
}

/// Watched from the first control plane on that asks for a name.
#[derive(Clone)]
pub(crate) struct RouteNames {
    pub(super) http: Optional<HttpRoute>,
    pub(super) grpc: Optional<GrpcRoute>,
    pub(super) tls: Optional<TlsRoute>,
}

impl RouteNames {
    /// Whether a route holds a name, by `holds`, of those for which `counts` does, by namespace and name. `None` as long as
    /// they are being looked up.
    pub(crate) fn any(&self, holds: impl Fn(&str) -> bool, counts: impl Fn(&str, &str) -> bool) -> Option<bool> {
        let known = [self.http.is_known(), self.grpc.is_known(), self.tls.is_known()];
        if known.contains(&false) {
            return None;
        }
        let test = |metadata: &kube::core::ObjectMeta, hostnames: &[String]| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            hostnames.iter().any(|hostname| holds(hostname))
                && counts(&part(&metadata.namespace), &part(&metadata.name))
        };
        let (http, grpc, tls) = (self.http.all(), self.grpc.all(), self.tls.all());
        Some(
            http.iter().any(|route| test(&route.metadata, &route.spec.hostnames))
                || grpc.iter().any(|route| test(&route.metadata, &route.spec.hostnames))
                || tls.iter().any(|route| test(&route.metadata, &route.spec.hostnames)),
        )
    }
}
