//! The password of a control plane's user: made once, kept in the control plane's Secret, and true in the store before any
//! pod is given it.
//!
//! Whether it is true is tried by logging in as the user, so a store where it is right is not written to. It is tried when
//! the Secret is new to this process, and again and again while pods are not available: somebody may have changed it in
//! the store, and nothing else would tell.

use std::time::Duration;

use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use super::Pass;
use super::account::claim;
use crate::Key;
use crate::datastore::error::StoreError;
use crate::datastore::pod_access::{PodAccess, PodTls};
use crate::datastore::store::Store;
use crate::desired::secrets::{Action, SecretPlan, text};
use crate::desired::{Account, Hosted, Objects};
use crate::error::Error;
use crate::store;

/// How long a password that was right counts as right while pods are not available.
const TRY_AGAIN: Duration = Duration::from_secs(15);

const COMPONENT: &str = "datastore-config";

impl Pass<'_> {
    /// Makes the password in the Secret the one that the store knows. Gives whether pods may be given it: not if it is new
    /// and the store, by `reachable`, cannot be asked.
    pub(super) async fn tell_password(
        &mut self,
        hosted: &Hosted<'_>,
        objects: &Objects,
        reachable: bool,
    ) -> Result<bool, Error> {
        let ctx = self.ctx;
        let secret = objects.secrets.iter().find(|(recipe, _)| recipe.component == COMPONENT);
        let password = secret.and_then(|(_, data)| text(data, "DB_PASSWORD"));
        let (Some(password), true) = (password, hosted.datastore.kine.is_some()) else {
            return Ok(true);
        };
        if !reachable {
            let is_new =
                |secret: &SecretPlan| secret.component == COMPONENT && matches!(secret.action, Action::Issue(_));
            return Ok(!self.plan.as_ref().is_some_and(|plan| plan.secrets.iter().any(is_new)));
        }
        let available = self.deployment.as_ref().is_some_and(is_available);
        if !available {
            self.look_again = Some(TRY_AGAIN);
        }
        let checksum = objects.checksums.get(COMPONENT).map_or("", String::as_str);
        let fresh = (!available).then_some(TRY_AGAIN);
        if ctx.tenants.password_is_true(self.tcp, checksum, fresh) {
            return Ok(true);
        }
        let failed = |source| Error::Datastore {
            datastore: hosted.datastore.name.clone(),
            source,
        };
        // Not the one that is asked for, as long as the data moves there.
        let Some(datastore) = ctx.watches.datastores.get(None, &hosted.datastore.name) else {
            return Ok(false);
        };
        let credentials = ctx.stores.credentials(&ctx.client, &datastore).await?;
        let mut store = store::open(&datastore, &credentials.login).await?;
        let claim = claim(self.tcp, &hosted.account);
        if store.set_password(&claim, password).await.map_err(failed)? {
            tracing::info!(object.r#ref = %Key::to(self.tcp), datastore = hosted.datastore.name, "set the password of an account");
        }
        ctx.tenants.remember_password(self.tcp, checksum);
        Ok(true)
    }
}

impl Pass<'_> {
    /// Names that an older operator has set up, if the store believes the Secrets: the password in the one, the certificate
    /// in the other. Whoever may write status and Secret may write any name there, also of a database that no control plane
    /// has ever had.
    pub(super) async fn proven(
        &self,
        store: &mut Store,
        access: &PodAccess,
        names: Option<Account>,
        [secret, certificate]: [Option<&Secret>; 2],
    ) -> Result<Option<Account>, StoreError> {
        let Some(names) = names else { return Ok(None) };
        let data = secret.and_then(|secret| secret.data.as_ref());
        let password = data.and_then(|data| text(data, "DB_PASSWORD")).unwrap_or_default();
        let certified = match &access.tls {
            PodTls::Signed { authority } => is_certified(certificate, &authority.cert_pem, &names.user),
            PodTls::Shared { .. } | PodTls::Plain => false,
        };
        let proven = store.proves(&claim(self.tcp, &names), password, certified).await?;
        if !proven {
            let Account { schema, user } = &names;
            tracing::warn!(object.r#ref = %Key::to(self.tcp), schema, user, "left names alone that a status claims and no Secret proves");
        }
        Ok(Some(names).filter(|_| proven))
    }
}

/// Name of the Secret with which the pods show who they are.
pub(super) fn certificate_secret(tcp: &TenantControlPlane) -> String {
    format!("{}-datastore-certificate", tcp.name_any())
}

/// Whether the Secret has a certificate of this user by this authority, and its key. One that has ended shows as well whom
/// it was made for.
pub(super) fn is_certified(secret: Option<&Secret>, authority_pem: &str, user: &str) -> bool {
    let data = secret.and_then(|secret| secret.data.as_ref());
    let leaf = data.and_then(|data| text(data, "server.crt").zip(text(data, "server.key")));
    leaf.is_some_and(|(cert, key)| {
        pki::inspect(cert).is_ok_and(|info| info.common_name.as_deref() == Some(user))
            && matches!(pki::matches_key(cert, key), Ok(true))
            && matches!(pki::is_signed_by(cert, authority_pem), Ok(true))
    })
}

fn is_available(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    status.is_some_and(|status| status.unavailable_replicas.unwrap_or_default() == 0)
}
