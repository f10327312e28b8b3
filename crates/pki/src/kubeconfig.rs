//! Kubeconfigs in the shape that kubeadm writes: one cluster, one context `<user>@<cluster>`, one user with an
//! embedded client certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Error, KeyPair};

/// A kubeconfig with one cluster, one user and one context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubeconfig {
    pub cluster: String,
    /// `https://host:port`
    pub server: String,
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    pub user: String,
    /// The user's client certificate and key.
    pub client: KeyPair,
    /// Namespace of the context; none means `default`.
    pub namespace: Option<String>,
    /// Name that the server's certificate must carry when it is not the host of `server`.
    pub tls_server_name: Option<String>,
}

impl Kubeconfig {
    /// kubeadm's name of the context.
    pub fn context(&self) -> String {
        format!("{}@{}", self.user, self.cluster)
    }

    /// YAML, keys in kubeadm's order.
    pub fn to_yaml(&self) -> String {
        self.to_yaml_in(&self.context())
    }

    /// The same with a context of another name.
    pub fn to_yaml_in(&self, context: &str) -> String {
        let file = File {
            api_version: "v1".into(),
            clusters: vec![NamedCluster {
                cluster: Cluster {
                    certificate_authority_data: Some(STANDARD.encode(&self.ca_pem)),
                    server: Some(self.server.clone()),
                    tls_server_name: self.tls_server_name.clone(),
                },
                name: self.cluster.clone(),
            }],
            contexts: vec![NamedContext {
                context: Context {
                    cluster: self.cluster.clone(),
                    namespace: self.namespace.clone(),
                    user: self.user.clone(),
                },
                name: context.to_owned(),
            }],
            current_context: context.to_owned(),
            kind: "Config".into(),
            preferences: None,
            users: vec![NamedUser {
                name: self.user.clone(),
                user: User {
                    client_certificate_data: Some(STANDARD.encode(&self.client.cert_pem)),
                    client_key_data: Some(STANDARD.encode(&self.client.key_pem)),
                },
            }],
        };
        serde_norway::to_string(&file).expect("strings only")
    }

    /// Reads the current context of a kubeconfig whose certificates are embedded; when no current context is named,
    /// the first cluster and the first user.
    ///
    /// # Errors
    /// When it is not YAML of that shape, or names files instead of holding data.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let file: File = serde_norway::from_str(yaml).map_err(Error::ParseKubeconfig)?;
        let context = file
            .contexts
            .iter()
            .find(|context| context.name == file.current_context)
            .map(|c| &c.context);
        let cluster = file
            .clusters
            .iter()
            .find(|cluster| context.is_none_or(|context| context.cluster == cluster.name))
            .ok_or_else(|| missing("it has no cluster for its current context"))?;
        let user = file
            .users
            .iter()
            .find(|user| context.is_none_or(|context| context.user == user.name))
            .ok_or_else(|| missing("it has no user for its current context"))?;
        Ok(Self {
            cluster: cluster.name.clone(),
            server: cluster
                .cluster
                .server
                .clone()
                .ok_or_else(|| missing("its cluster has no server"))?,
            ca_pem: decode(
                "certificate-authority-data",
                cluster.cluster.certificate_authority_data.as_deref(),
            )?,
            user: user.name.clone(),
            client: KeyPair {
                cert_pem: decode("client-certificate-data", user.user.client_certificate_data.as_deref())?,
                key_pem: decode("client-key-data", user.user.client_key_data.as_deref())?,
            },
            namespace: context.and_then(|context| context.namespace.clone()),
            tls_server_name: cluster.cluster.tls_server_name.clone(),
        })
    }
}

/// A kubeconfig with nothing but a nameless cluster: what kube-public/`cluster-info` publishes for discovery.
pub fn discovery(server: &str, ca_pem: &str) -> String {
    // kubeadm prints the empty lists as null and the empty names as "", so serde is of no help here.
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: {server}\n  name: \"\"\n\
         contexts: null\ncurrent-context: \"\"\nkind: Config\nusers: null\n",
        STANDARD.encode(ca_pem)
    )
}

fn missing(reason: &str) -> Error {
    Error::Kubeconfig {
        reason: reason.to_owned(),
    }
}

fn decode(field: &str, value: Option<&str>) -> Result<String, Error> {
    let value = value.ok_or_else(|| missing(&format!("it has no {field}")))?;
    STANDARD
        .decode(value.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| missing(&format!("{field} is not base64 of PEM")))
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    clusters: Vec<NamedCluster>,
    #[serde(default, deserialize_with = "null_is_empty")]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    kind: String,
    /// Older kubeadm writes `preferences: {}`; it carries nothing.
    #[serde(default, skip_serializing)]
    #[allow(dead_code, reason = "read so that its presence is not an error")]
    preferences: Option<serde_norway::Value>,
    #[serde(default, deserialize_with = "null_is_empty")]
    users: Vec<NamedUser>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize, Serialize)]
struct NamedCluster {
    cluster: Cluster,
    name: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct NamedContext {
    context: Context,
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Context {
    cluster: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    user: String,
}

#[derive(Deserialize, Serialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
}
