//! Reads what a DataStore refers to.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{ContentRef, DataStore};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tenancy::control_plane::data_store::{Part, Place, place, references};

use super::etcd::StoreConfig;

/// The values, by the field that refers to them.
pub(crate) type Values = BTreeMap<&'static str, Vec<u8>>;

/// What was found.
pub(crate) enum Read {
    Complete(Values),
    /// Something does not exist; says what, where.
    Missing(Part, String),
    /// The Secrets exist, and with them what makes a DataStore valid, but a value in them does not.
    NoValue(String),
}

/// Fields only: the values are private keys.
impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete(values) => f.debug_tuple("Complete").field(&values.keys()).finish(),
            Self::Missing(part, message) => f.debug_tuple("Missing").field(part).field(message).finish(),
            Self::NoValue(message) => f.debug_tuple("NoValue").field(message).finish(),
        }
    }
}

/// Reads every value. Each Secret is read once.
pub(crate) async fn read(client: &Client, store: &DataStore) -> Result<Read, kube::Error> {
    let mut secrets: BTreeMap<(String, String), Option<Secret>> = BTreeMap::new();
    let mut values = Values::new();
    let mut no_value = None;
    for (part, field, reference) in references(&store.spec) {
        let secret = match place(field, reference) {
            Err(denial) => return Ok(Read::Missing(part, denial.message)),
            Ok(Place::Here(content)) => {
                values.insert(field, content.to_vec());
                continue;
            }
            Ok(Place::Secret(secret)) => secret,
        };
        let key = (secret.namespace.to_owned(), secret.name.to_owned());
        if !secrets.contains_key(&key) {
            let api: Api<Secret> = Api::namespaced(client.clone(), secret.namespace);
            secrets.insert(key.clone(), api.get_opt(secret.name).await?);
        }
        let Some(found) = secrets.get(&key).and_then(Option::as_ref) else {
            let message = format!(
                "{field}.secretReference: the Secret {}/{} does not exist",
                secret.namespace, secret.name
            );
            return Ok(Read::Missing(part, message));
        };
        match found.data.as_ref().and_then(|data| data.get(secret.key)) {
            Some(value) => drop(values.insert(field, value.0.clone())),
            None => {
                no_value.get_or_insert_with(|| {
                    format!(
                        "{field}.secretReference.keyPath: the Secret {}/{} has no key {:?}",
                        secret.namespace, secret.name, secret.key
                    )
                });
            }
        }
    }
    Ok(no_value.map_or(Read::Complete(values), Read::NoValue))
}

/// The login of an etcd, out of the values.
pub(crate) fn etcd(store: &DataStore, values: &Values) -> Result<StoreConfig, String> {
    Ok(StoreConfig {
        endpoints: store.spec.endpoints.clone(),
        ca_pem: text(values, "spec.tlsConfig.certificateAuthority.certificate")?,
        client_cert_pem: text(values, "spec.tlsConfig.clientCertificate.certificate")?,
        client_key_pem: text(values, "spec.tlsConfig.clientCertificate.privateKey")?,
    })
}

/// The key that signs control planes' certificates for the store, out of the values.
pub(crate) fn authority_key(values: &Values) -> Result<String, String> {
    text(values, "spec.tlsConfig.certificateAuthority.privateKey")
}

fn text(values: &Values, field: &'static str) -> Result<String, String> {
    let value = values.get(field).ok_or_else(|| format!("{field}: not given"))?;
    String::from_utf8(value.clone()).map_err(|_| format!("{field}: not text; give a certificate or key in PEM"))
}

/// The Secrets that a store refers to, as namespace and name.
pub(crate) fn secrets(store: &DataStore) -> Vec<(String, String)> {
    let place = |field, reference: &ContentRef| match place(field, reference) {
        Ok(Place::Secret(secret)) => Some((secret.namespace.to_owned(), secret.name.to_owned())),
        _ => None,
    };
    let mut secrets: Vec<_> = references(&store.spec)
        .into_iter()
        .filter_map(|(_, field, reference)| place(field, reference))
        .collect();
    secrets.sort_unstable();
    secrets.dedup();
    secrets
}
