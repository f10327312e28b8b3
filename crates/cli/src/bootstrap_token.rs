//! Bootstrap tokens of a tenant cluster, as `kubeadm token create` makes them: what a machine proves with that it may ask
//! to become a node.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
/// The group whose rights kubeadm's objects in the tenant hand out: to read what joining needs, and to have the
/// kubelet's certificate request approved.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// A token that is there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BootstrapToken {
    /// Public: names its Secret, and the signature in `cluster-info`.
    pub(crate) id: String,
    secret: String,
    pub(crate) expires: Timestamp,
}

/// As kubeadm is given it.
impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl BootstrapToken {
    /// Makes one in the tenant that `client` reaches.
    pub(crate) async fn create(client: &Client, validity: SignedDuration, description: &str) -> anyhow::Result<Self> {
        let token = Self {
            id: random(6),
            secret: random(16),
            expires: Timestamp::now() + validity,
        };
        Api::<Secret>::namespaced(client.clone(), NAMESPACE)
            .create(&PostParams::default(), &token.object(description))
            .await
            .context("failed to make a bootstrap token in the tenant")?;
        tracing::debug!(id = token.id, "made a bootstrap token");
        Ok(token)
    }

    /// Takes it away again, before its time.
    pub(crate) async fn delete(&self, client: &Client) -> anyhow::Result<()> {
        Api::<Secret>::namespaced(client.clone(), NAMESPACE)
            .delete(&self.name(), &DeleteParams::default())
            .await
            .map(drop)
            .with_context(|| format!("failed to delete the Secret {NAMESPACE}/{}", self.name()))
    }

    fn name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    fn object(&self, description: &str) -> Secret {
        let expiration = self.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let data = [
            ("token-id", self.id.as_str()),
            ("token-secret", &self.secret),
            ("expiration", &expiration),
            ("usage-bootstrap-signing", "true"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", GROUP),
            ("description", description),
        ];
        let data: BTreeMap<_, _> = data
            .into_iter()
            .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name()),
                ..Default::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(data),
            ..Default::default()
        }
    }
}

/// So many characters of `[a-z0-9]`, from the operating system's randomness.
fn random(length: usize) -> String {
    std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes())
        .flatten()
        // The version and variant bits are not random; those bytes, and what would favour some characters, are left out.
        .enumerate()
        .filter(|(index, byte)| !matches!(index % 16, 6 | 8) && *byte < 252)
        .map(|(_, byte)| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(byte % 36)]))
        .take(length)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_that_kubeadm_wants() {
        let (id, secret) = (random(6), random(16));
        let well_formed = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert!(well_formed(&id) && well_formed(&secret));
        assert_ne!((random(6), random(16)), (id, secret));
    }

    #[test]
    fn the_secret_says_what_it_is_for_and_until_when() {
        let token = BootstrapToken {
            id: "abcdef".into(),
            secret: "0123456789abcdef".into(),
            expires: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        assert_eq!(token.to_string(), "abcdef.0123456789abcdef");
        let object = token.object("for tests");
        assert_eq!(object.metadata.name.as_deref(), Some("bootstrap-token-abcdef"));
        let text = |key: &str| String::from_utf8(object.data.as_ref().unwrap()[key].0.clone()).unwrap();
        assert_eq!(text("expiration"), "2026-01-02T03:04:05Z");
        assert_eq!(
            text("auth-extra-groups"),
            "system:bootstrappers:kubeadm:default-node-token"
        );
        assert_eq!(text("usage-bootstrap-authentication"), "true");
    }
}
