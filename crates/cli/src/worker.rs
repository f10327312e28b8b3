//! A worker node for a hosted control plane: a bootstrap token, then upstream's `kubeadm join` on a node of this machine.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Node, api::core::v1::Secret};
use kube::{
    Client, Config, ResourceExt,
    api::{Api, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};

const TOKEN_VALIDITY: SignedDuration = SignedDuration::from_mins(30);

/// What a machine needs to join a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// `host:port`
    pub(crate) endpoint: String,
    pub(crate) token: String,
    /// `sha256:<hex>` of the authority's public key.
    pub(crate) ca_hash: String,
}

/// A client of the cluster that a kubeconfig text describes.
pub(crate) async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("failed to read the tenant's kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

/// Waits until the tenant's API server answers where its kubeconfig points: a node port opens a moment after the pods
/// behind it are ready.
pub(crate) async fn answers(tenant: &Client, within: Duration) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        match tenant.apiserver_version().await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > within => {
                return Err(error).context("the tenant's API server is ready and does not answer at its endpoint");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Whether the node is there and Ready.
pub(crate) async fn is_ready(tenant: &Client, node: &str) -> anyhow::Result<bool> {
    let node = Api::<Node>::all(tenant.clone())
        .get_opt(node)
        .await
        .context("failed to read the tenant's nodes")?;
    Ok(node
        .and_then(|node| node.status)
        .and_then(|status| status.conditions)
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        }))
}

/// Makes a bootstrap token in the tenant, as `kubeadm token create` does, good for half an hour.
pub(crate) async fn invite(tenant: &Client, kubeconfig: &str) -> anyhow::Result<Invitation> {
    let read = pki::Kubeconfig::parse(kubeconfig)?;
    let (id, secret) = random_token();
    let text = |value: &str| ByteString(value.as_bytes().to_vec());
    let expiration = (Timestamp::now() + TOKEN_VALIDITY)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let data = BTreeMap::from([
        ("token-id".to_owned(), text(&id)),
        ("token-secret".to_owned(), text(&secret)),
        ("expiration".to_owned(), text(&expiration)),
        ("usage-bootstrap-signing".to_owned(), text("true")),
        ("usage-bootstrap-authentication".to_owned(), text("true")),
        (
            "auth-extra-groups".to_owned(),
            text("system:bootstrappers:kubeadm:default-node-token"),
        ),
        ("description".to_owned(), text("made by cotenant for one worker")),
    ]);
    let token = Secret {
        metadata: ObjectMeta {
            name: Some(format!("bootstrap-token-{id}")),
            ..Default::default()
        },
        type_: Some("bootstrap.kubernetes.io/token".to_owned()),
        data: Some(data),
        ..Default::default()
    };
    let created = Api::<Secret>::namespaced(tenant.clone(), "kube-system")
        .create(&PostParams::default(), &token)
        .await
        .context("failed to make a bootstrap token in the tenant")?;
    tracing::debug!(name = created.name_any(), "made a bootstrap token");
    Ok(Invitation {
        endpoint: read.server.trim_start_matches("https://").to_owned(),
        token: format!("{id}.{secret}"),
        ca_hash: pki::public_key_hash(&read.ca_pem)?,
    })
}

/// Six and sixteen characters of `[a-z0-9]`, from the operating system's randomness.
fn random_token() -> (String, String) {
    let characters = |count| {
        std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes())
            .flatten()
            // The version and variant bits are not random; those bytes, and what would favour some characters, are left out.
            .enumerate()
            .filter(|(index, byte)| !matches!(index % 16, 6 | 8) && *byte < 252)
            .map(|(_, byte)| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(byte % 36)]))
            .take(count)
            .collect::<String>()
    };
    (characters(6), characters(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_that_kubeadm_wants() {
        let (id, secret) = random_token();
        let well_formed = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert!(well_formed(&id) && well_formed(&secret));
        assert_ne!(random_token(), (id, secret));
    }
}
