use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::Condition};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A store that holds the objects of control planes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "kamaji.clastix.io",
    version = "v1alpha1",
    kind = "DataStore",
    plural = "datastores",
    singular = "datastore",
    doc = "A store that holds the objects of control planes.",
    status = "DataStoreStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "Driver",
        type_ = "string",
        json_path = ".spec.driver",
        description = "What the store is"
    ),
    printcolumn(
        name = "Ready",
        type_ = "boolean",
        json_path = ".status.ready",
        description = "Whether it may be used"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    (
        "self.driver != 'etcd' || (has(self.tlsConfig) && has(self.tlsConfig.certificateAuthority.privateKey) && (has(self.tlsConfig.certificateAuthority.privateKey.secretReference) || has(self.tlsConfig.certificateAuthority.privateKey.content)))",
        "certificateAuthority privateKey must have secretReference or content when driver is etcd",
    ),
    (
        "self.driver != 'etcd' || (has(self.tlsConfig) && has(self.tlsConfig.clientCertificate) && (has(self.tlsConfig.clientCertificate.certificate.secretReference) || has(self.tlsConfig.clientCertificate.certificate.content)))",
        "clientCertificate must have secretReference or content when driver is etcd",
    ),
    (
        "self.driver != 'etcd' || (has(self.tlsConfig) && has(self.tlsConfig.clientCertificate) && (has(self.tlsConfig.clientCertificate.privateKey.secretReference) || has(self.tlsConfig.clientCertificate.privateKey.content)))",
        "clientCertificate privateKey must have secretReference or content when driver is etcd",
    ),
    (
        "self.driver == 'etcd' || !has(self.tlsConfig) || !has(self.tlsConfig.clientCertificate) || has(self.tlsConfig.clientCertificate.certificate.secretReference) || has(self.tlsConfig.clientCertificate.certificate.content)",
        "When driver is not etcd and tlsConfig exists, clientCertificate must be null or contain valid content",
    ),
    (
        "self.driver == 'etcd' || !has(self.basicAuth) || has(self.basicAuth.username.secretReference) || has(self.basicAuth.username.content)",
        "When driver is not etcd and basicAuth exists, username must have secretReference or content",
    ),
    (
        "self.driver == 'etcd' || !has(self.basicAuth) || has(self.basicAuth.password.secretReference) || has(self.basicAuth.password.content)",
        "When driver is not etcd and basicAuth exists, password must have secretReference or content",
    ),
    (
        "self.driver == 'etcd' || has(self.tlsConfig) || has(self.basicAuth)",
        "When driver is not etcd, either tlsConfig or basicAuth must be provided",
    ),
    ("self.driver == oldSelf.driver", "driver is immutable and cannot be changed after creation"),
])))]
pub struct DataStoreSpec {
    /// What the store is. Cannot be changed.
    #[schemars(extend("x-kubernetes-validations" = schema::rules(&[("self == oldSelf", "Datastore driver is immutable")])))]
    pub driver: Driver,
    /// Where the store is reached, as `host:port`. SQL and NATS stores use the first only.
    #[schemars(extend("minItems" = 1))]
    pub endpoints: Vec<String>,
    /// The operator's user and password, for stores that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// How the store and the operator recognise each other. Mandatory for etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
}

/// What a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Driver {
    #[default]
    #[serde(rename = "etcd")]
    Etcd,
    MySQL,
    PostgreSQL,
    #[serde(rename = "NATS")]
    Nats,
}

impl Driver {
    /// As the spec and `status.storage.driver` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::MySQL => "MySQL",
            Self::PostgreSQL => "PostgreSQL",
            Self::Nats => "NATS",
        }
    }
}

/// A user and a password.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The user.
    pub username: ContentRef,
    /// The password.
    pub password: ContentRef,
}

/// How a store and its users recognise each other.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    /// Who signs the store's certificate and, for etcd, those of control planes.
    pub certificate_authority: CertificateAuthority,
    /// The operator's own certificate. For etcd it has to be that of `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate authority.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAuthority {
    /// The certificate, in PEM.
    pub certificate: ContentRef,
    /// The private key, in PEM. Mandatory for etcd: control planes get certificates signed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<ContentRef>,
}

/// A client certificate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The certificate, in PEM.
    pub certificate: ContentRef,
    /// The private key, in PEM.
    pub private_key: ContentRef,
}

/// A value: given here, or in a Secret.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentRef {
    /// The value itself, in base64. Wins over the Secret unless empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bytes")]
    pub content: Option<ByteString>,
    /// The Secret that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub secret_reference: Option<SecretKeyReference>,
}

/// The value may be a password or a private key, and what can be printed ends up in a log some day.
impl std::fmt::Debug for ContentRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentRef")
            .field(
                "content",
                &self
                    .content
                    .as_ref()
                    .map(|content| format!("{} bytes", content.0.len())),
            )
            .field("secret_reference", &self.secret_reference)
            .finish()
    }
}

/// One value of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Key of the value in the Secret.
    #[schemars(extend("minLength" = 1))]
    pub key_path: String,
}

/// What is known of a store.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataStoreStatus {
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The control planes that use the store, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// Whether control planes may use the store.
    pub ready: bool,
    /// What holds, what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
