//! Cotenant itself, installed with its own chart by the real Helm, as anybody would.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client,
    api::{Api, DeleteParams, ListParams},
};
use tokio::process::Command;

pub(crate) const NAMESPACE: &str = "cotenant-system";
const PATIENCE: Duration = Duration::from_secs(180);
/// What the operator registers last, once its Service answers.
const HOOKS: [&str; 2] = ["capsule-dynamic-webhook", "kamaji-mutating-webhook-configuration"];

/// What the release is made of.
pub(crate) struct Release<'a> {
    pub(crate) helm: &'a Path,
    pub(crate) chart: &'a Path,
    pub(crate) kubeconfig: &'a Path,
    /// Helm's caches and plugins go here, not into the user's home.
    pub(crate) home: &'a Path,
    pub(crate) image_tag: &'a str,
    /// The one of this cluster's registry.
    pub(crate) kine_image: &'a str,
}

/// Installs the release, or brings it to this chart and image; returns when its pods are ready and its
/// hooks are in place.
pub(crate) async fn upgrade(client: &Client, release: &Release<'_>) -> anyhow::Result<()> {
    forget_interrupted(client).await?;
    let mut command = Command::new(release.helm);
    command
        .args(["upgrade", "--install", "cotenant"])
        .arg(release.chart)
        .args(["--namespace", NAMESPACE, "--create-namespace", "--skip-crds", "--wait"])
        .arg(format!("--timeout={}s", PATIENCE.as_secs()))
        .arg(format!("--set=image.tag={}", release.image_tag))
        .arg(format!("--set=extraArgs[0]=--kine-image={}", release.kine_image))
        .arg("--set=etcd.persistence.storageClass=standard")
        .env("KUBECONFIG", release.kubeconfig)
        .env("HOME", release.home)
        .env("HELM_CACHE_HOME", release.home.join("cache"))
        .env("HELM_CONFIG_HOME", release.home.join("config"))
        .env("HELM_DATA_HOME", release.home.join("data"))
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .with_context(|| format!("failed to run {}", release.helm.display()))?;
    if !output.status.success() {
        bail!(
            "helm could not install the chart: {}\nlook at the pods with: kubectl --kubeconfig {} -n {NAMESPACE} get pods,events",
            String::from_utf8_lossy(&output.stderr).trim(),
            release.kubeconfig.display()
        );
    }
    hooks(client).await
}

async fn hooks(client: &Client) -> anyhow::Result<()> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let started = Instant::now();
    for name in HOOKS {
        while configurations.get_metadata_opt(name).await?.is_none() {
            if started.elapsed() > PATIENCE {
                bail!(
                    "the operator has not registered {name}\nlook at: kubectl -n {NAMESPACE} logs deployment/cotenant"
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Helm refuses to touch a release whose last operation never ended; one that was interrupted never will.
async fn forget_interrupted(client: &Client) -> anyhow::Result<()> {
    let records: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let pending = "owner=helm,name=cotenant,status in (pending-install,pending-upgrade,pending-rollback)";
    records
        .delete_collection(&DeleteParams::default(), &ListParams::default().labels(pending))
        .await
        .context("failed to forget an interrupted installation")?;
    Ok(())
}
