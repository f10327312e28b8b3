//! `cotenant explain tenant/<name>`, `cotenant explain tcp/[<namespace>/]<name>`: what was decided, and why.
//!
//! The same pure functions that the operator runs are run here over the same objects and with its flags; nothing is
//! guessed from logs.

use std::path::PathBuf;

use anyhow::{Context, bail};
use api::{
    capsule::v1beta2::{CapsuleConfiguration, Tenant},
    kamaji::v1alpha1::TenantControlPlane,
};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Client, ResourceExt, api::Api, api::ListParams};
use serde::Serialize;

use crate::{Place, operator_flags::OperatorFlags, tenant::tenant_owners};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// `tenant/<name>`, `tcp/<name>` or `tcp/<namespace>/<name>`.
    subject: String,
    #[command(flatten)]
    place: Place,
    /// A cluster of your own instead of the local one.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.place.client(args.kubeconfig.as_ref()).await?.client;
    let flags = OperatorFlags::read(&client).await.unwrap_or_else(|| {
        eprintln!("no Deployment of the operator was found; what follows is decided as without any flags");
        OperatorFlags::default()
    });
    let parts: Vec<&str> = args.subject.split('/').collect();
    match parts.as_slice() {
        ["tenant" | "tnt", name] => tenant(&client, &flags, name).await,
        ["tcp" | "tenantcontrolplane", name] => control_plane(&client, &flags, None, name).await,
        ["tcp" | "tenantcontrolplane", namespace, name] => control_plane(&client, &flags, Some(namespace), name).await,
        _ => bail!(
            "cannot explain {:?}: say tenant/<name>, tcp/<name> or tcp/<namespace>/<name>",
            args.subject
        ),
    }
}

async fn tenant(client: &Client, flags: &OperatorFlags, name: &str) -> anyhow::Result<()> {
    let tenant = Api::<Tenant>::all(client.clone())
        .get_opt(name)
        .await?
        .with_context(|| format!("no tenant {name:?}; `kubectl get tenants` lists them"))?;
    let configuration = Api::<CapsuleConfiguration>::all(client.clone())
        .get_opt(flags.configuration_name())
        .await?;
    let namespaces = Api::<Namespace>::all(client.clone())
        .list(&ListParams::default().labels(&format!("capsule.clastix.io/tenant={name}")))
        .await?;
    println!("Tenant {name} (uid {})", tenant.uid().unwrap_or_default());
    conditions(tenant.status.as_ref().map_or(&[], |status| &status.conditions));
    let owners = tenant_owners(client).await?;
    let promotable = Api::<ServiceAccount>::all(client.clone())
        .list(&ListParams::default().labels("projectcapsule.dev/promote=true"))
        .await?;
    let plan = tenant_controller::explain(
        &tenant,
        configuration.as_ref(),
        namespaces.items,
        owners,
        promotable.items,
    );
    print_plan(&plan)
}

async fn control_plane(
    client: &Client,
    flags: &OperatorFlags,
    namespace: Option<&str>,
    name: &str,
) -> anyhow::Result<()> {
    let planes = match namespace {
        Some(namespace) => Api::<TenantControlPlane>::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let found = planes
        .list(&ListParams::default().fields(&format!("metadata.name={name}")))
        .await?
        .items;
    let [plane] = found.as_slice() else {
        let namespaces: Vec<String> = found.iter().filter_map(ResourceExt::namespace).collect();
        if namespaces.is_empty() {
            bail!("no control plane {name:?}; `kubectl get tenantcontrolplanes -A` lists them");
        }
        bail!(
            "control planes named {name} are in: {}; say tcp/<namespace>/{name}",
            namespaces.join(", ")
        );
    };
    println!(
        "TenantControlPlane {}/{name} (uid {})",
        plane.namespace().unwrap_or_default(),
        plane.uid().unwrap_or_default()
    );
    conditions(plane.status.as_ref().map_or(&[], |status| &status.conditions));
    let plan = control_plane_controller::explain(client, plane, &flags.control_planes()?).await?;
    print_plan(&plan)
}

fn conditions(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) {
    for condition in conditions {
        println!(
            "  {} {} ({}): {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
    }
}

fn print_plan(plan: &impl Serialize) -> anyhow::Result<()> {
    println!("---\n{}", serde_norway::to_string(plan)?);
    Ok(())
}
