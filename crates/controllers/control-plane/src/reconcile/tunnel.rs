//! The tunnel's own objects in the admin cluster, while it is wanted and after.

use k8s_openapi::api::core::v1::ConfigMap;

use super::Pass;
use crate::Key;
use crate::apply::Unowned;
use crate::desired::konnectivity;
use crate::error::Error;
use crate::observe::Observed;
use crate::status;

impl Pass<'_> {
    /// Writes what turns the tunnel on in the API server. Its Secrets are written with all others.
    pub(super) async fn open_tunnel(&mut self, wanted: Option<&ConfigMap>, observed: &Observed) {
        let Some(wanted) = wanted else { return };
        match self
            .apply(observed.egress_selector.as_deref(), wanted, Unowned::Leave)
            .await
        {
            Ok(written) => self.egress_selector = Some(status::config_map_checksum(written.data.as_ref())),
            Err(error) => self.fail(error),
        }
    }

    /// Removes what a tunnel that is no longer wanted has left. Called when no new pod mounts it any more; pods that run
    /// keep what they have mounted.
    pub(super) async fn close_tunnel(&self, observed: &Observed) -> Result<(), Error> {
        if self.tcp.spec.addons.konnectivity.is_some() {
            return Ok(());
        }
        if let Some(left) = &observed.egress_selector {
            self.take_away(left.as_ref()).await?;
        }
        let Key { namespace, name } = Key::to(self.tcp);
        for component in konnectivity::SECRET_COMPONENTS {
            let left = self
                .ctx
                .watches
                .secrets
                .get(Some(&namespace), &format!("{name}-{component}"));
            if let Some(left) = left {
                self.take_away(left.as_ref()).await?;
            }
        }
        Ok(())
    }
}
