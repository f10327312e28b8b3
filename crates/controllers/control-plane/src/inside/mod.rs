//! What a hosted control plane holds for its nodes and people: the objects that `kubeadm join` reads, the rights of
//! those who join, the add-ons, and the endpoints of the `kubernetes` Service.
//!
//! One pass compares every object with the tenant's live one and writes only what differs ([`reconcile`]); what is
//! wanted is decided before, without a client ([`desired()`]). Nothing is kept in memory between passes, because there
//! are many tenants and they seldom change: a pass costs some thirty small reads. Drift is seen within seconds by watches of
//! metadata ([`guard`]).
//!
//! kubeadm's own library makes these objects in Kamaji; here they are written down, and tests compare them with what
//! the real `kubeadm` puts into the same API server. Refused: running kubeadm's phases as a program (a process and a
//! second per tenant and pass), and CoreDNS or kube-proxy by chart (a client of another kind for two fixed manifests).

mod bootstrap;
mod cluster_info;
mod coredns;
mod endpoints;
mod error;
pub mod guard;
mod konnectivity;
mod kube_proxy;
mod kubeadm_config;
mod kubelet_config;
mod object;
mod rbac;
mod reconcile;
pub mod write_permissions;

use std::net::IpAddr;

use api::kamaji::v1alpha1::{AddonSpec, KubeletSpec};
use serde::Serialize;

pub(crate) use self::error::MOST_SAID;
pub use self::error::{Error, Failure, Invalid, Step};
pub use self::konnectivity::Tunnel;
pub use self::object::{Kind, Object, Reference};
pub use self::reconcile::{Outcome, reconcile};

/// Who we are in the tenant's managed fields.
pub const FIELD_MANAGER: &str = "cotenant-control-plane";

/// The group of nodes that join with a bootstrap token.
const BOOTSTRAP_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Everything that the objects inside of a tenant depend on.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// Name of the control plane, which is the cluster's name too.
    pub name: &'a str,
    /// The version that serves, `v1.36.3`.
    pub version: &'a str,
    /// `host:port` under which nodes and people reach the API server; IPv6 in brackets.
    pub endpoint: &'a str,
    /// The address and port that the `kubernetes` Service leads to. No endpoints are kept without one.
    pub advertise: Option<(IpAddr, u16)>,
    /// The tenant's certificate authority.
    pub ca_pem: &'a str,
    /// Names and addresses in the API server's certificate.
    pub server_names: &'a [String],
    /// Ranges of the Services, effective.
    pub service_cidrs: &'a [String],
    /// Ranges of the pods, effective.
    pub pod_cidrs: &'a [String],
    /// Addresses of the cluster's DNS, effective.
    pub dns_service_ips: &'a [String],
    pub cluster_domain: &'a str,
    /// `host:port` of each member of the store, as kubeadm's file tells of them.
    pub etcd_endpoints: &'a [String],
    /// Prefix of the keys, without slashes around it; `None` where the store is not etcd.
    pub etcd_prefix: Option<&'a str>,
    /// Registry of the control plane's images.
    pub registry: &'a str,
    pub kubelet: &'a KubeletSpec,
    /// `None`: not wanted, and removed if it is ours.
    pub core_dns: Option<&'a AddonSpec>,
    /// `None`: not wanted, and removed if it is ours.
    pub kube_proxy: Option<&'a AddonSpec>,
    /// `None`: not wanted, and removed if it is ours.
    pub tunnel: Option<&'a Tunnel>,
}

impl Inputs<'_> {
    /// `1.36` as 36. Versions that do not read so count as the newest.
    fn minor(&self) -> u32 {
        let mut parts = self.version.trim_start_matches('v').split('.').skip(1);
        parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX)
    }
}

/// What the tenant should hold, and what it should not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Desired {
    pub apply: Vec<Object>,
    /// Removed if they carry our label.
    pub remove: Vec<Reference>,
}

/// Decides everything. Pure: the same inputs give the same objects.
///
/// # Errors
/// When the kubelets' configuration cannot be patched as asked; admission refuses such patches.
pub fn desired(inputs: &Inputs<'_>) -> Result<Desired, Invalid> {
    let mut desired = Desired {
        apply: rbac::objects(),
        remove: Vec::new(),
    };
    desired.apply.extend(bootstrap::objects());
    desired.apply.push(cluster_info::object(inputs));
    desired.apply.push(kubeadm_config::object(inputs));
    desired.apply.push(kubelet_config::object(inputs)?);
    desired.apply.extend(endpoints::objects(inputs));
    let addons = [
        (
            inputs.core_dns.map(|addon| coredns::objects(inputs, addon)),
            coredns::references(),
        ),
        (
            inputs.kube_proxy.map(|addon| kube_proxy::objects(inputs, addon)),
            kube_proxy::references(),
        ),
        (
            inputs.tunnel.map(|tunnel| konnectivity::objects(inputs, tunnel)),
            konnectivity::references(),
        ),
    ];
    for (wanted, references) in addons {
        match wanted {
            Some(objects) => desired.apply.extend(objects),
            None => desired.remove.extend(references),
        }
    }
    desired.remove.extend(inputs.tunnel.map(konnectivity::other_mode));
    Ok(desired)
}

#[cfg(test)]
mod tests;
