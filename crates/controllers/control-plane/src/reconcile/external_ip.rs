//! An external IP that two control planes ask for: one has it, and the other waits without it.

use api::kamaji::v1alpha1::TenantControlPlane;
use tenancy::control_plane::external_ip;

use super::Pass;
use crate::desired::Waiting;
use crate::desired::identity::{self, Ownership};
use crate::{Key, Watches};

/// Reason of the condition while another control plane has the address.
pub(crate) const ADDRESS_TAKEN: &str = external_ip::TAKEN;

impl Pass<'_> {
    /// What keeps this control plane from its external IP, if it asks for one.
    pub(super) fn address_taken(&self) -> Option<Waiting> {
        external_ip::wanted(self.tcp)?;
        let watches = &self.ctx.watches;
        let control_planes = watches.control_planes.store().state();
        let taken = external_ip::is_anothers(self.tcp, &control_planes, |tcp| serves(watches, tcp));
        taken.map(|denial| Waiting::exposed(ADDRESS_TAKEN, denial.message))
    }
}

/// Whether a control plane's Service has the address that it asks for.
fn serves(watches: &Watches, tcp: &TenantControlPlane) -> bool {
    let Key { namespace, name } = Key::to(tcp);
    let service = watches.services.get(Some(&namespace), &name);
    let wanted = external_ip::wanted(tcp);
    service.is_some_and(|service| {
        let addresses = service.spec.as_ref().and_then(|spec| spec.external_ips.as_ref());
        identity::ownership(tcp, &service.metadata) == Ownership::Ours
            && addresses.is_some_and(|addresses| addresses.iter().any(|address| Some(address.as_str()) == wanted))
    })
}
