//! What stands in front of the Service and keeps its pods there: an Ingress, a route of the Gateway API, and the budget of
//! disruptions. Each is there as long as the spec asks for it; only what this control plane owns is taken away.

use std::time::Duration;

use api::kamaji::v1alpha1::{ControlPlaneGatewayStatus, TenantControlPlane};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use runtime::report::is_not_found;
use serde::de::DeserializeOwned;
use tenancy::control_plane::hostname::{self, PublicName};

use super::Pass;
use crate::apply::Unowned;
use crate::desired::gateway::{self, TlsRoute};
use crate::desired::identity::{self, Ownership};
use crate::desired::{Waiting, disruption, exposure, ingress};
use crate::error::Error;
use crate::observe::Observed;
use crate::status::Fronts;
use crate::{Key, Watches};

/// Reason of the condition while somebody else has the name.
pub(crate) const HOSTNAME_TAKEN: &str = hostname::TAKEN;
/// Until it is known who has which name.
const LOOKED_UP: Duration = Duration::from_secs(1);

impl Pass<'_> {
    /// Puts in front of the Service what the spec asks for. Gives what keeps the control plane from having a name; what
    /// fails behind that is reported, and keeps nobody from using the Service.
    pub(super) async fn front(&mut self, observed: &Observed) -> Option<Waiting> {
        let name = match exposure::public_name(self.tcp) {
            Ok(name) => name,
            Err(waiting) => return Some(waiting),
        };
        if let Some(name) = &name {
            // Administrators who say which names control planes may have have said so of those below their wildcards too.
            let limited = !self.ctx.trust.hostnames.is_empty();
            match is_taken(&self.ctx.watches, self.tcp, name, limited) {
                Some(false) => {}
                Some(true) => return Some(Waiting::exposed(HOSTNAME_TAKEN, hostname::taken(name).message)),
                None => {
                    self.look_again = Some(LOOKED_UP);
                    let message = "the names of the cluster's routes are being looked up".to_owned();
                    return Some(Waiting::exposed("HostnamesUnknown", message));
                }
            }
        }
        let mut fronts = Fronts::default();
        let wanted = name.as_ref().and_then(|name| ingress::ingress(self.tcp, name));
        fronts.ingress = self.keep(observed.ingress.as_deref(), wanted.as_ref()).await;
        let name = name.as_ref();
        let wanted = name.and_then(|name| gateway::route(self.tcp, name));
        fronts.gateway = self.route(observed.route.as_deref(), wanted.as_ref()).await;
        let wanted = name.and_then(|name| gateway::tunnel_route(self.tcp, name));
        fronts.tunnel = self.route(observed.tunnel_route.as_deref(), wanted.as_ref()).await;
        self.fronts = Some(fronts);
        None
    }

    /// What is said of a route, if there is one now.
    async fn route(&mut self, live: Option<&TlsRoute>, wanted: Option<&TlsRoute>) -> Option<ControlPlaneGatewayStatus> {
        let watches = &self.ctx.watches;
        if wanted.is_some() && !(watches.routes.is_served() && watches.gateways.is_served()) {
            let message = "the Gateway API is not available in this cluster: it takes Gateways and TLSRoutes of \
                           gateway.networking.k8s.io/v1, and the right to read them";
            self.say(Waiting::exposed("GatewayUnavailable", message.to_owned()));
            return None;
        }
        let route = self.keep(live, wanted).await?;
        if let Some(problem) = gateway::unattached(&route) {
            self.say(Waiting::exposed("RouteNotAccepted", problem));
        }
        let gateways = &watches.gateways;
        Some(gateway::reported(&route, |namespace, name| {
            gateways.get(namespace, name)
        }))
    }

    /// Once, if it is true of several routes.
    fn say(&mut self, stop: Waiting) {
        if !self.stops.contains(&stop) {
            self.stops.push(stop);
        }
    }

    /// Keeps replicas from being evicted at the same time.
    pub(super) async fn protect(&mut self, observed: &Observed) {
        let template = self.deployment.as_ref().and_then(|deployment| deployment.spec.as_ref());
        let pods = template.and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
        let wanted = disruption::budget(self.tcp, &pods.unwrap_or_default(), &observed.budgets);
        let name = self.tcp.name_any();
        let live = observed.budgets.iter().find(|budget| budget.name_any() == name);
        self.keep(live.map(AsRef::as_ref), wanted.as_ref()).await;
    }

    /// Makes one object what it should be, or takes it away when none is wanted. Gives what is there then; a failure is
    /// reported.
    async fn keep<K>(&mut self, live: Option<&K>, wanted: Option<&K>) -> Option<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let result = match (live, wanted) {
            (live, Some(wanted)) => self.apply(live, wanted, Unowned::Leave).await.map(Some),
            (Some(live), None) => self.take_away(live).await.map(|()| None),
            (None, None) => Ok(None),
        };
        result.unwrap_or_else(|error| {
            self.fail(error);
            None
        })
    }

    /// Removes exactly this object, if it is this control plane's.
    pub(super) async fn take_away<K>(&self, live: &K) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        if identity::ownership(self.tcp, live.meta()) != Ownership::Ours {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.ctx.client.clone(), &live.namespace().unwrap_or_default());
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: None,
        });
        match api.delete(&live.name_any(), &parameters).await {
            Ok(_) => {
                tracing::info!(object.r#ref = %Key::to(self.tcp), kind = %K::kind(&()), "deleted what is asked for no more");
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(Error::Apply {
                kind: "deletion of",
                name: live.name_any(),
                source,
            }),
        }
    }
}

/// Whether somebody else had the name first: another control plane, or whatever had it in an Ingress or in a route before
/// this control plane did, also if it asks for another name by now; not `limited`, in a wildcard too. `None` as long as
/// that is being looked up.
fn is_taken(watches: &Watches, tcp: &TenantControlPlane, name: &PublicName, limited: bool) -> Option<bool> {
    let control_planes = watches.control_planes.store().state();
    let has_it = |tcp: &_| serves(watches, tcp, &name.host);
    if hostname::is_anothers(tcp, name, control_planes.iter().map(AsRef::as_ref), has_it) {
        return Some(true);
    }
    if has_it(tcp) {
        return Some(false);
    }
    let Key { namespace, name: own } = Key::to(tcp);
    let is_own = |name: &str| name == own || name == gateway::tunnel_name(&own);
    let stands_elsewhere = |of: &str, name: &str| of != namespace || !is_own(name);
    let counts = |host: &str| host == name.host || !limited;
    let by_ingress = hostname::ingress_hosts(&name.host)
        .filter(|host| counts(host))
        .any(|host| {
            let ingresses = watches.ingresses_by_host.get(&host);
            let elsewhere =
                |ingress: &Ingress| stands_elsewhere(&ingress.namespace().unwrap_or_default(), &ingress.name_any());
            ingresses.iter().any(|ingress| elsewhere(ingress))
        });
    if by_ingress {
        return Some(true);
    }
    let holds = |hostname: &str| counts(hostname) && hostname::route_holds(hostname, &name.host);
    watches.route_names.any(holds, stands_elsewhere)
}

/// Whether a control plane has the name in front of its Service.
fn serves(watches: &Watches, tcp: &TenantControlPlane, host: &str) -> bool {
    let Key { namespace, name } = Key::to(tcp);
    let ours = |metadata: &_| identity::ownership(tcp, metadata) == Ownership::Ours;
    let by_ingress = watches
        .ingresses
        .get(Some(&namespace), &name)
        .is_some_and(|found| ours(&found.metadata) && ingress::hosts(&found).any(|found| found == host));
    let by_route = || {
        watches
            .routes
            .get(&namespace, &name)
            .is_some_and(|found| ours(&found.metadata) && found.spec.hostnames.iter().any(|found| found == host))
    };
    by_ingress || by_route()
}
