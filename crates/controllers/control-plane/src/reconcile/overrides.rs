//! The account of a control plane in the stores that hold some of its kinds, under the same names as in the one that holds
//! the rest: the API server shows one certificate to all of them.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::DataStore;

use super::Pass;
use super::account::{account_secret, claim};
use super::password::certificate_secret;
use crate::datastore::claim::Unrecorded;
use crate::datastore::pod_access::{PodAccess, PodTls};
use crate::desired::{DatastoreFacts, Hosted, Waiting};
use crate::error::Error;
use crate::observe::Observed;
use crate::store;

impl Pass<'_> {
    /// Makes what is missing in each store. Gives whether pods may be told of all of them.
    pub(super) async fn store_elsewhere(
        &mut self,
        hosted: &Hosted<'_>,
        access: Option<&PodAccess>,
        observed: &Observed,
    ) -> bool {
        let by_name = |facts: &DatastoreFacts| (facts.name.clone(), facts.clone());
        let stores: BTreeMap<_, _> = hosted.overrides.iter().map(|one| by_name(&one.datastore)).collect();
        let mut all = true;
        for facts in stores.values() {
            if self.ctx.tenants.has_account_elsewhere(self.tcp, facts, &hosted.account) {
                continue;
            }
            match self.set_up_elsewhere(hosted, facts, access, observed).await {
                Ok(Ok(())) => self.ctx.tenants.remember_elsewhere(self.tcp, facts, &hosted.account),
                Ok(Err(waiting)) => {
                    self.stops.push(waiting);
                    all = false;
                }
                Err(error) => {
                    self.fail(error);
                    all = false;
                }
            }
        }
        all
    }

    async fn set_up_elsewhere(
        &self,
        hosted: &Hosted<'_>,
        facts: &DatastoreFacts,
        access: Option<&PodAccess>,
        observed: &Observed,
    ) -> Result<Result<(), Waiting>, Error> {
        let ctx = self.ctx;
        let datastore = match store::chosen(Some(&facts.name), ctx.watches.datastores.get(None, &facts.name)) {
            Ok(datastore) => datastore,
            Err(waiting) => return Ok(Err(waiting)),
        };
        if let Some(waiting) = store::not_ready(&datastore) {
            return Ok(Err(waiting));
        }
        let credentials = ctx.stores.credentials(&ctx.client, &datastore).await?;
        let Some(access) = access else {
            let message = format!("{} is looked at when {} answers", facts.name, hosted.datastore.name);
            return Ok(Err(Waiting::datastore("DataStoreNotReady", message)));
        };
        if let Some(waiting) = strangers(&datastore, &facts.name, &credentials.pods, access) {
            return Ok(Err(waiting));
        }
        let failed = |source| Error::Datastore {
            datastore: facts.name.clone(),
            source,
        };
        let mut store = store::open(&datastore, &credentials.login).await?;
        // What an older operator has set up under the UID is nobody else's, if the certificate that it gave to the pods shows
        // it. Other names may be anybody's here, also those that are this control plane's in the store of the rest, and for
        // those a certificate shows only what was asked for.
        let uid = self.tcp.metadata.uid.as_deref().unwrap_or_default();
        let named = Some(&hosted.account).filter(|account| account.schema == uid && account.user == uid);
        let secrets = [account_secret(self.tcp), certificate_secret(self.tcp)].map(|name| observed.secrets.get(&name));
        let proven = self
            .proven(&mut store, &credentials.pods, named.cloned(), secrets)
            .await;
        let unrecorded = if proven.map_err(failed)?.is_some() {
            Unrecorded::Adopt
        } else {
            self.refuse_taken_names(facts)?;
            Unrecorded::Refuse
        };
        store
            .ensure(&claim(self.tcp, &hosted.account), unrecorded)
            .await
            .map_err(failed)?;
        Ok(Ok(()))
    }
}

/// A store whose certificates come from another authority: the API server knows one, and has one certificate.
fn strangers(datastore: &DataStore, name: &str, there: &PodAccess, here: &PodAccess) -> Option<Waiting> {
    let authority = |access: &PodAccess| match &access.tls {
        PodTls::Signed { authority } => Some(authority.cert_pem.trim().to_owned()),
        _ => None,
    };
    let (one, other) = (authority(there), authority(here));
    let message = if one.is_none() || other.is_none() {
        let driver = datastore.spec.driver.as_str();
        format!("spec.dataStoreOverrides: {name} (driver {driver}) and the store of the rest have to be etcds both")
    } else if one != other {
        format!(
            "spec.dataStoreOverrides: {name} has another certificate authority than the store of the rest; an API server \
             shows one certificate to all its stores, so they have to have one authority"
        )
    } else {
        return None;
    };
    Some(Waiting::datastore("AuthoritiesDiffer", message))
}
