//! Reads what a DataStore refers to.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{ContentRef, DataStore, Driver};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use pki::KeyPair;
use tenancy::control_plane::data_store::{self, Part, Place, place, references};

use super::etcd::StoreConfig;
use super::nats::NatsLogin;
use super::pod_access::{PodAccess, PodTls, SharedLogin};
use super::sql::SqlLogin;
use super::store::Login;
use super::tls::ClientTls;

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

const AUTHORITY: &str = "spec.tlsConfig.certificateAuthority.certificate";
const AUTHORITY_KEY: &str = "spec.tlsConfig.certificateAuthority.privateKey";
const CLIENT: &str = "spec.tlsConfig.clientCertificate.certificate";
const CLIENT_KEY: &str = "spec.tlsConfig.clientCertificate.privateKey";

/// How the operator logs in, out of the values.
pub(crate) fn login(store: &DataStore, values: &Values) -> Result<Login, String> {
    match store.spec.driver {
        Driver::Etcd => etcd(store, values).map(Login::Etcd),
        Driver::PostgreSQL => sql(store, values).map(Login::Postgres),
        Driver::MySQL => sql(store, values).map(Login::MySql),
        Driver::Nats => nats(store, values).map(Login::Nats),
    }
}

/// How pods log in, out of the values.
pub(crate) fn pods(store: &DataStore, values: &Values) -> Result<PodAccess, String> {
    let tls = match (store.spec.driver, client_tls(store, values)?) {
        (Driver::Etcd, _) => PodTls::Signed {
            authority: KeyPair {
                cert_pem: text(values, AUTHORITY)?,
                key_pem: text(values, AUTHORITY_KEY)?,
            },
        },
        (_, Some(tls)) => PodTls::Shared {
            authority_pem: tls.ca_pem,
            client: tls.client,
        },
        (_, None) => PodTls::Plain,
    };
    let login = match store.spec.driver {
        Driver::Nats => Some(nats(store, values)?.login),
        _ => None,
    };
    Ok(PodAccess { tls, login })
}

fn etcd(store: &DataStore, values: &Values) -> Result<StoreConfig, String> {
    Ok(StoreConfig {
        endpoints: store.spec.endpoints.clone(),
        ca_pem: text(values, AUTHORITY)?,
        client_cert_pem: text(values, CLIENT)?,
        client_key_pem: text(values, CLIENT_KEY)?,
    })
}

fn sql(store: &DataStore, values: &Values) -> Result<SqlLogin, String> {
    let first = store.spec.endpoints.first().map_or("", String::as_str);
    let (host, port) = data_store::endpoint(first)
        .map_err(|problem| format!("spec.endpoints[0]: {first:?} is not an endpoint, {problem}"))?;
    if store.spec.basic_auth.is_none() {
        let driver = store.spec.driver.as_str();
        return Err(format!(
            "spec.basicAuth: missing; driver {driver} logs in with user and password"
        ));
    }
    Ok(SqlLogin {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port,
        user: text(values, "spec.basicAuth.username")?,
        password: text(values, "spec.basicAuth.password")?,
        tls: client_tls(store, values)?,
    })
}

fn nats(store: &DataStore, values: &Values) -> Result<NatsLogin, String> {
    if store.spec.basic_auth.is_none() {
        return Err("spec.basicAuth: missing; driver NATS logs in with user and password".to_owned());
    }
    Ok(NatsLogin {
        endpoint: store.spec.endpoints.first().cloned().unwrap_or_default(),
        login: SharedLogin {
            user: text(values, "spec.basicAuth.username")?,
            password: text(values, "spec.basicAuth.password")?,
        },
        tls: client_tls(store, values)?,
    })
}

fn client_tls(store: &DataStore, values: &Values) -> Result<Option<ClientTls>, String> {
    let Some(tls) = &store.spec.tls_config else {
        return Ok(None);
    };
    let client = match &tls.client_certificate {
        None => None,
        Some(_) => Some(KeyPair {
            cert_pem: text(values, CLIENT)?,
            key_pem: text(values, CLIENT_KEY)?,
        }),
    };
    Ok(Some(ClientTls {
        ca_pem: text(values, AUTHORITY)?,
        client,
    }))
}

fn text(values: &Values, field: &'static str) -> Result<String, String> {
    let value = values.get(field).ok_or_else(|| format!("{field}: not given"))?;
    let wanted = match field {
        "spec.basicAuth.username" | "spec.basicAuth.password" => "a name or password in UTF-8",
        _ => "a certificate or key in PEM",
    };
    String::from_utf8(value.clone()).map_err(|_| format!("{field}: not text; give {wanted}"))
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
