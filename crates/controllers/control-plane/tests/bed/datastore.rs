//! DataStores on real servers, with all that they refer to in a Secret `<name>-store`.

use api::kamaji::v1alpha1::DataStore;
use control_plane_controller::datastore::nats::{NatsLogin, NatsStore};
use control_plane_controller::datastore::pod_access::SharedLogin;
use control_plane_controller::datastore::tls::ClientTls;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::json;
use testbed::{EtcdFixture, NatsFixture, SqlServer};

/// A server with the credentials of its administrator.
pub(crate) struct Server<'a> {
    driver: &'static str,
    endpoint: &'a str,
    ca_cert_pem: &'a str,
    /// Of an authority that certifies users.
    ca_key_pem: Option<&'a str>,
    cert_pem: &'a str,
    key_pem: &'a str,
    /// User and password.
    login: Option<(&'a str, &'a str)>,
}

impl<'a> From<&'a EtcdFixture> for Server<'a> {
    fn from(etcd: &'a EtcdFixture) -> Self {
        Self {
            driver: "etcd",
            endpoint: &etcd.endpoint,
            ca_cert_pem: &etcd.ca_cert_pem,
            ca_key_pem: Some(&etcd.ca_key_pem),
            cert_pem: &etcd.root_cert_pem,
            key_pem: &etcd.root_key_pem,
            login: None,
        }
    }
}

impl<'a> From<&'a SqlServer> for Server<'a> {
    fn from(sql: &'a SqlServer) -> Self {
        Self {
            driver: sql.driver(),
            endpoint: &sql.endpoint,
            ca_cert_pem: &sql.ca_cert_pem,
            ca_key_pem: None,
            cert_pem: &sql.client.cert_pem,
            key_pem: &sql.client.key_pem,
            login: Some((&sql.user, &sql.password)),
        }
    }
}

impl<'a> From<&'a NatsFixture> for Server<'a> {
    fn from(nats: &'a NatsFixture) -> Self {
        Self {
            driver: "NATS",
            endpoint: &nats.endpoint,
            ca_cert_pem: &nats.ca_cert_pem,
            ca_key_pem: None,
            cert_pem: &nats.client.cert_pem,
            key_pem: &nats.client.key_pem,
            login: Some((&nats.user, &nats.password)),
        }
    }
}

/// A connection of the store's own user.
pub(crate) async fn nats_store(nats: &NatsFixture) -> Result<NatsStore, String> {
    let login = NatsLogin {
        endpoint: nats.endpoint.clone(),
        login: SharedLogin {
            user: nats.user.clone(),
            password: nats.password.clone(),
        },
        tls: Some(ClientTls {
            ca_pem: nats.ca_cert_pem.clone(),
            client: Some(nats.client.clone()),
        }),
    };
    let connected = NatsStore::connect(&login).await;
    connected.map_err(|error| error.to_string())
}

/// As its administrator would write it, with the Secret in this namespace.
pub(crate) async fn create<'a>(client: &Client, namespace: &str, name: &str, server: impl Into<Server<'a>>) {
    let server = server.into();
    let secret = format!("{name}-store");
    let from = |key: &str| json!({"secretReference": {"name": secret, "namespace": namespace, "keyPath": key}});
    let mut files = json!({"ca.crt": server.ca_cert_pem, "tls.crt": server.cert_pem, "tls.key": server.key_pem});
    let mut spec = json!({
        "driver": server.driver,
        "endpoints": [server.endpoint],
        "tlsConfig": {
            "certificateAuthority": {"certificate": from("ca.crt")},
            "clientCertificate": {"certificate": from("tls.crt"), "privateKey": from("tls.key")},
        },
    });
    if let Some(key) = server.ca_key_pem {
        files["ca.key"] = json!(key);
        spec["tlsConfig"]["certificateAuthority"]["privateKey"] = from("ca.key");
    }
    if let Some((user, password)) = server.login {
        files["user"] = json!(user);
        files["password"] = json!(password);
        spec["basicAuth"] = json!({"username": from("user"), "password": from("password")});
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    super::create(&secrets, json!({"metadata": {"name": secret}, "stringData": files})).await;
    let datastores: Api<DataStore> = Api::all(client.clone());
    super::create(&datastores, json!({"metadata": {"name": name}, "spec": spec})).await;
}
