//! `cotenant explain tenant/<name>`, `cotenant explain tcp/[<namespace>/]<name>`: what was decided, and why.
//!
//! The same pure functions that the operator runs are run here over the same objects and with its flags; nothing is
//! guessed from logs.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use api::{
    capsule::v1beta2::{CapsuleConfiguration, Tenant},
    kamaji::v1alpha1::TenantControlPlane,
};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Client, ResourceExt, api::Api, api::ListParams};
use serde::Serialize;

use crate::operator_flags::OperatorFlags;
use crate::plain::plain;
use crate::session::Terminal;
use crate::stopped::Stopped;
use crate::tenant::{explained, standing, tenant_owners};
use crate::{Place, cluster};

const EXIT_CODES: &str = "Exit codes:
  0  it is as it is wanted
  1  it is not, or not yet
  2  it cannot be told: the command line does not read, nothing has that name, it may not be read";

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    /// `tenant/<name>`, `tcp/<name>` or `tcp/<namespace>/<name>`.
    subject: String,
    /// The whole plan of a tenant, every object of every namespace, as YAML.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
    /// A cluster of your own instead of the local one.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

/// # Errors
/// If what is asked about is not as it is wanted, or if that cannot be told; [`crate::exit_code`] tells them apart.
pub async fn run(args: Args, terminal: Terminal<'_>) -> anyhow::Result<()> {
    let standing = explain(&args, terminal.output)
        .await
        .map_err(|error| error.context(Stopped::CannotTell(format!("cannot explain {:?}", args.subject))))?;
    standing.map_err(|why| Stopped::NotAsWanted(format!("{} is not as it is wanted: {why}", args.subject)).into())
}

/// Whether it is as it is wanted, or why not.
type Standing = Result<(), String>;

async fn explain(args: &Args, output: &mut dyn Write) -> anyhow::Result<Standing> {
    let client = args.place.client(args.kubeconfig.as_ref()).await?.client;
    let flags = OperatorFlags::read(&client).await.unwrap_or_else(|| {
        eprintln!("no Deployment of the operator was found; what follows is decided as without any flags");
        OperatorFlags::default()
    });
    let parts: Vec<&str> = args.subject.split('/').collect();
    match parts.as_slice() {
        ["tenant" | "tnt", name] => tenant(&client, &flags, name, args.all, output).await,
        ["tcp" | "tenantcontrolplane", name] => control_plane(&client, &flags, None, name, output).await,
        ["tcp" | "tenantcontrolplane", namespace, name] => {
            control_plane(&client, &flags, Some(namespace), name, output).await
        }
        _ => bail!("say tenant/<name>, tcp/<name> or tcp/<namespace>/<name>"),
    }
}

async fn tenant(
    client: &Client,
    flags: &OperatorFlags,
    name: &str,
    all: bool,
    output: &mut dyn Write,
) -> anyhow::Result<Standing> {
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
    let owners = tenant_owners(client).await?;
    let promotable = Api::<ServiceAccount>::all(client.clone())
        .list(&ListParams::default().labels("projectcapsule.dev/promote=true"))
        .await?;
    writeln!(output, "Tenant {name} (uid {})", tenant.uid().unwrap_or_default())?;
    conditions(tenant.status.as_ref().map_or(&[], |status| &status.conditions), output)?;
    let plan = tenant_controller::explain(
        &tenant,
        configuration.as_ref(),
        namespaces.items,
        owners,
        promotable.items,
    );
    if all {
        print_plan(&plan, output)?;
    } else {
        write!(output, "{}", explained(&plan))?;
    }
    Ok(standing(&tenant))
}

async fn control_plane(
    client: &Client,
    flags: &OperatorFlags,
    namespace: Option<&str>,
    name: &str,
    output: &mut dyn Write,
) -> anyhow::Result<Standing> {
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
    writeln!(
        output,
        "TenantControlPlane {}/{name} (uid {})",
        plane.namespace().unwrap_or_default(),
        plane.uid().unwrap_or_default()
    )?;
    let found = plane.status.as_ref().map_or(&[][..], |status| &status.conditions);
    conditions(found, output)?;
    let plan = control_plane_controller::explain(client, plane, &flags.control_planes()?).await?;
    print_plan(&plan, output)?;
    Ok(if cluster::is_settled(plane) {
        Ok(())
    } else {
        Err(match cluster::readiness(found) {
            (true, _) => "the operator has not carried out the latest spec yet".to_owned(),
            (false, message) => message,
        })
    })
}

fn conditions(conditions: &[Condition], output: &mut dyn Write) -> anyhow::Result<()> {
    for condition in conditions {
        writeln!(
            output,
            "  {} {} ({}): {}",
            condition.type_,
            condition.status,
            condition.reason,
            plain(&condition.message)
        )?;
    }
    Ok(())
}

fn print_plan(plan: &impl Serialize, output: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(output, "---\n{}", serde_norway::to_string(plan)?)?;
    Ok(())
}
