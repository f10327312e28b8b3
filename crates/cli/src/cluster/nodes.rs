//! Nodes of a tenant cluster that an upgrade would leave behind.

use std::time::Duration;

use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tenancy::control_plane::upgrade;
use tenancy::control_plane::version::{minor, parse};

use crate::stopped::Stopped;
use crate::{credentials, worker};

/// A tenant cluster that sleeps, or is reached from elsewhere only, is not asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many nodes a refusal names.
const NAMED: usize = 5;

/// Refuses a version whose API server would not serve the kubelets that are there, as far as they can be asked for.
pub(super) async fn check(admin: &Client, tcp: &TenantControlPlane, version: &str) -> anyhow::Result<()> {
    let asked = tokio::time::timeout(PATIENCE, kubelets(admin, tcp)).await;
    let kubelets = match asked {
        Ok(Ok(kubelets)) => kubelets,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the nodes could not be asked for");
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    match left_behind(&kubelets, version) {
        Some(sentence) => Err(Stopped::refused(sentence)),
        None => Ok(()),
    }
}

/// Names of the nodes, with the versions of their kubelets.
async fn kubelets(admin: &Client, tcp: &TenantControlPlane) -> anyhow::Result<Vec<(String, String)>> {
    let tenant = worker::client(&credentials::of_control_plane(admin, tcp).await?).await?;
    let nodes = Api::<Node>::all(tenant).list(&ListParams::default()).await?;
    let versions = nodes.into_iter().filter_map(|node| {
        let version = node.status.as_ref()?.node_info.as_ref()?.kubelet_version.clone();
        Some((node.name_any(), version))
    });
    Ok(versions.collect())
}

/// What is wrong with these kubelets under an API server of that version, as a sentence.
fn left_behind(kubelets: &[(String, String)], version: &str) -> Option<String> {
    let (oldest, newest) = upgrade::kubelets(version)?;
    let mut old = kubelets
        .iter()
        .filter(|(_, kubelet)| parse(kubelet).is_ok_and(|kubelet| minor(&kubelet) < oldest));
    let named: Vec<String> = old
        .by_ref()
        .take(NAMED)
        .map(|(node, kubelet)| format!("{node} ({kubelet})"))
        .collect();
    if named.is_empty() {
        return None;
    }
    let more = match old.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "kubelets of {}{more} are too old for {version}, which serves {oldest} to {newest}: upgrade those nodes first (Kubernetes' version skew policy)",
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_that_the_new_version_would_not_serve_are_named() {
        let kubelets = |versions: &[&str]| -> Vec<(String, String)> {
            let named = versions.iter().enumerate();
            named
                .map(|(at, version)| (format!("n{at}"), (*version).to_owned()))
                .collect()
        };
        assert_eq!(
            left_behind(&kubelets(&["v1.33.0", "v1.36.3", "unknown"]), "v1.36.3"),
            None
        );
        assert_eq!(
            left_behind(&kubelets(&["v1.32.9", "v1.33.0"]), "v1.36.3").unwrap(),
            "kubelets of n0 (v1.32.9) are too old for v1.36.3, which serves v1.33 to v1.36: upgrade those nodes first (Kubernetes' version skew policy)"
        );
        let sentence = left_behind(&kubelets(&["v1.30.0"; 7]), "v1.36.3").unwrap();
        assert!(sentence.contains("n4 (v1.30.0) and 2 more"), "{sentence}");
    }
}
