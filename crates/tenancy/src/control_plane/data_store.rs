//! What a DataStore has to say to be usable.
//!
//! A DataStore is written by an administrator, so the rules here are about mistakes, not about trust. What its schema
//! can say (drivers, which references are mandatory) the API server has checked already.

use std::sync::Arc;

use api::kamaji::v1alpha1::{ContentRef, DataStore, DataStoreSpec, Driver, TenantControlPlane};

use super::effective;
use crate::denial::Denial;

/// A Secret's key that a DataStore refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretKey<'a> {
    /// Namespace of the Secret.
    pub namespace: &'a str,
    /// Name of the Secret.
    pub name: &'a str,
    /// Key in the Secret.
    pub key: &'a str,
}

/// Which of the two validation steps a reference belongs to; they have reasons of their own in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// User and password.
    BasicAuth,
    /// Certificates and keys.
    Tls,
}

/// Every value that a DataStore refers to, with the field where it does.
pub fn references(spec: &DataStoreSpec) -> Vec<(Part, &'static str, &ContentRef)> {
    let basic = spec.basic_auth.iter().flat_map(|auth| {
        [
            (Part::BasicAuth, "spec.basicAuth.username", &auth.username),
            (Part::BasicAuth, "spec.basicAuth.password", &auth.password),
        ]
    });
    let tls = spec.tls_config.iter().flat_map(|tls| {
        let authority = &tls.certificate_authority;
        let key = authority.private_key.as_ref();
        let client = tls.client_certificate.iter().flat_map(|client| {
            [
                (
                    Part::Tls,
                    "spec.tlsConfig.clientCertificate.certificate",
                    &client.certificate,
                ),
                (
                    Part::Tls,
                    "spec.tlsConfig.clientCertificate.privateKey",
                    &client.private_key,
                ),
            ]
        });
        std::iter::once((
            Part::Tls,
            "spec.tlsConfig.certificateAuthority.certificate",
            &authority.certificate,
        ))
        .chain(key.map(|key| (Part::Tls, "spec.tlsConfig.certificateAuthority.privateKey", key)))
        .chain(client)
    });
    basic.chain(tls).collect()
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the DataStore itself.
    Here(&'a [u8]),
    /// In a Secret.
    Secret(SecretKey<'a>),
}

/// Where a value is. Content that is not empty wins over a Secret.
pub fn place<'a>(field: &str, reference: &'a ContentRef) -> Result<Place<'a>, Denial> {
    if let Some(content) = reference.content.as_ref().filter(|content| !content.0.is_empty()) {
        return Ok(Place::Here(&content.0));
    }
    let incomplete = |part: &str, message: &str| {
        Denial::new(
            format!("{field}{part}"),
            "ReferenceIncomplete",
            format!("{field}{part}: {message}"),
        )
    };
    let Some(secret) = &reference.secret_reference else {
        return Err(incomplete("", "neither content nor secretReference is given"));
    };
    let given = |value: &'a Option<String>| value.as_deref().filter(|value| !value.is_empty());
    let Some(name) = given(&secret.name) else {
        return Err(incomplete(
            ".secretReference.name",
            "missing; a DataStore needs to know the Secret's name",
        ));
    };
    let Some(namespace) = given(&secret.namespace) else {
        return Err(incomplete(
            ".secretReference.namespace",
            "missing; a DataStore belongs to no namespace, so it has to name the Secret's",
        ));
    };
    Ok(Place::Secret(SecretKey {
        namespace,
        name,
        key: &secret.key_path,
    }))
}

/// What is wrong with an endpoint: `host:port`, IPv6 in brackets, no scheme, no path.
pub fn endpoint(endpoint: &str) -> Result<(String, u16), &'static str> {
    if endpoint.contains("://") {
        return Err("give it without a scheme");
    }
    let (host, port) = endpoint.rsplit_once(':').ok_or("the port is missing")?;
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or("the port is not a number from 1 to 65535")?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => super::network::is_dns_name(&host.to_ascii_lowercase()),
    };
    fits.then(|| (host.to_owned(), port))
        .ok_or("the host is neither a DNS name nor an address (IPv6 in brackets)")
}

/// Whether a store takes no further control plane, because it has another than `tcp`: in NATS all that log in can read
/// everything.
pub fn is_taken(
    store: &DataStore,
    tcp: &TenantControlPlane,
    control_planes: &[Arc<TenantControlPlane>],
    default: Option<&str>,
) -> bool {
    let name = store.metadata.name.as_deref().unwrap_or_default();
    let place = |tcp: &TenantControlPlane| (tcp.metadata.namespace.clone(), tcp.metadata.name.clone());
    let others = control_planes.iter().filter(|other| place(other) != place(tcp));
    let is_in = effective::recorded_data_store(tcp) == Some(name);
    store.spec.driver == Driver::Nats
        && !is_in
        && others
            .into_iter()
            .any(|other| effective::data_stores(other, default).contains(&name))
}

/// What is wrong with a DataStore, and what to say about one that is accepted.
pub fn admit(store: &DataStore) -> (Vec<Denial>, Vec<String>) {
    let spec = &store.spec;
    let (mut denials, mut warnings) = (Vec::new(), Vec::new());
    for (index, written) in spec.endpoints.iter().enumerate() {
        if let Err(problem) = endpoint(written) {
            let field = format!("spec.endpoints[{index}]");
            let message = format!("{field}: {written:?} is not an endpoint, {problem}; write it as host:port");
            denials.push(Denial::new(field, "EndpointInvalid", message));
        }
    }
    denials.extend(
        references(spec)
            .into_iter()
            .filter_map(|(_, field, reference)| place(field, reference).err()),
    );
    if spec.driver == Driver::Etcd && spec.basic_auth.is_some() {
        warnings.push("spec.basicAuth has no effect with driver etcd, which is logged in to by certificate".into());
    }
    if spec.driver != Driver::Etcd && spec.basic_auth.is_none() {
        let driver = spec.driver.as_str();
        warnings.push(format!(
            "spec.basicAuth: missing; driver {driver} logs in with user and password, so no control plane will start"
        ));
    }
    if spec.driver != Driver::Etcd && spec.tls_config.is_none() {
        warnings.push("spec.tlsConfig: missing; passwords and all data cross the network in the clear".into());
    }
    if spec.driver != Driver::Etcd && spec.endpoints.len() > 1 {
        warnings.push("spec.endpoints: only the first is used with this driver".into());
    }
    (denials, warnings)
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "rows of tables are handed over")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn secret(key: &str) -> Value {
        json!({"secretReference": {"name": "etcd", "namespace": "cotenant-system", "keyPath": key}})
    }

    fn etcd() -> Value {
        json!({
            "driver": "etcd",
            "endpoints": ["etcd-0.etcd:2379", "10.0.0.7:2379", "[fd00::7]:2379"],
            "tlsConfig": {
                "certificateAuthority": {"certificate": secret("ca.crt"), "privateKey": secret("ca.key")},
                "clientCertificate": {"certificate": secret("root.crt"), "privateKey": secret("root.key")},
            },
        })
    }

    fn store(spec: Value) -> DataStore {
        DataStore {
            spec: serde_json::from_value(spec).unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn a_complete_store_is_accepted_and_all_its_references_are_found() {
        let store = store(etcd());
        assert_eq!(admit(&store), (vec![], vec![]));
        let keys: Vec<_> = references(&store.spec)
            .into_iter()
            .map(|(_, field, reference)| match place(field, reference).unwrap() {
                Place::Secret(key) => (key.namespace, key.name, key.key),
                Place::Here(_) => ("", "", ""),
            })
            .collect();
        let key = |key| ("cotenant-system", "etcd", key);
        assert_eq!(keys, [key("ca.crt"), key("ca.key"), key("root.crt"), key("root.key")]);
    }

    #[rstest]
    #[case("https://etcd:2379")]
    #[case("etcd")]
    #[case("etcd:")]
    #[case("etcd:0")]
    #[case("etcd:65536")]
    #[case(":2379")]
    #[case("fd00::7:2379")]
    #[case("etcd:2379/path")]
    #[case("user@etcd:2379")]
    #[case("a b:2379")]
    #[case("")]
    fn endpoints_are_host_and_port(#[case] endpoint: &str) {
        let mut spec = etcd();
        spec["endpoints"] = json!(["etcd:2379", endpoint]);
        let (denials, _) = admit(&store(spec));
        assert_eq!(denials.len(), 1);
        assert_eq!(
            (denials[0].field.as_str(), denials[0].reason.to_string().as_str()),
            ("spec.endpoints[1]", "EndpointInvalid")
        );
    }

    #[rstest]
    #[case::empty_content(json!({"content": ""}), "")]
    #[case::nothing(json!({}), "")]
    #[case::no_namespace(json!({"secretReference": {"name": "a", "keyPath": "b"}}), ".secretReference.namespace")]
    #[case::no_name(json!({"secretReference": {"namespace": "a", "keyPath": "b"}}), ".secretReference.name")]
    fn references_are_complete(#[case] reference: Value, #[case] part: &str) {
        let mut spec = etcd();
        spec["tlsConfig"]["certificateAuthority"]["privateKey"] = reference;
        let (denials, _) = admit(&store(spec));
        let fields: Vec<_> = denials.into_iter().map(|denial| denial.field).collect();
        assert_eq!(
            fields,
            [format!("spec.tlsConfig.certificateAuthority.privateKey{part}")]
        );
    }

    #[test]
    fn content_wins_over_a_secret() {
        let both: ContentRef = serde_json::from_value(json!({
            "content": "YQ==",
            "secretReference": {"name": "a", "namespace": "b", "keyPath": "c"},
        }))
        .unwrap();
        assert_eq!(place("f", &both).unwrap(), Place::Here(b"a"));
    }

    #[test]
    fn what_a_driver_does_not_use_or_needs_is_pointed_out() {
        let warned = |driver: &str, endpoints: Value, basic: bool, tls: bool| {
            let mut sql = json!({"driver": driver, "endpoints": endpoints});
            if basic {
                sql["basicAuth"] = json!({"username": {"content": "YQ=="}, "password": {"content": "YQ=="}});
            }
            if tls {
                sql["tlsConfig"] = json!({"certificateAuthority": {"certificate": {"content": "YQ=="}}});
            }
            let (denials, warnings) = admit(&store(sql));
            assert_eq!(denials, []);
            let fields = warnings
                .iter()
                .map(|warning| warning.split(':').next().unwrap().to_owned());
            fields.collect::<Vec<_>>()
        };
        assert!(warned("PostgreSQL", json!(["a:5432"]), true, true).is_empty());
        assert_eq!(warned("MySQL", json!(["a:1", "b:1"]), true, true), ["spec.endpoints"]);
        assert_eq!(warned("MySQL", json!(["a:1"]), true, false), ["spec.tlsConfig"]);
        assert_eq!(warned("PostgreSQL", json!(["a:1"]), false, true), ["spec.basicAuth"]);
    }

    #[test]
    fn nats_takes_one_control_plane_and_others_take_many() {
        let named = |name: &str, data_store: &str| {
            let mut tcp = TenantControlPlane::default();
            tcp.metadata.name = Some(name.into());
            tcp.spec.data_store = Some(data_store.into());
            tcp
        };
        let mut stores = Vec::new();
        for driver in ["NATS", "PostgreSQL"] {
            let mut store = store(json!({"driver": driver, "endpoints": ["a:1"]}));
            store.metadata.name = Some("shared".into());
            stores.push(store);
        }
        let there = [Arc::new(named("oil", "shared")), Arc::new(named("gas", "another"))];
        let taken = |store: &DataStore, tcp: &TenantControlPlane| is_taken(store, tcp, &there, None);
        assert!(taken(&stores[0], &named("new", "shared")));
        assert!(!taken(&stores[0], &named("oil", "shared")), "it is its own");
        assert!(!taken(&stores[1], &named("new", "shared")));
        assert!(is_taken(
            &stores[0],
            &named("new", "shared"),
            &[Arc::new(named("oil", ""))],
            Some("shared")
        ));
    }
}
