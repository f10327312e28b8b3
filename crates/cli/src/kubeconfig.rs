//! `cotenant kubeconfig <tenant>`.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use api::kamaji::v1alpha1::TenantControlPlane;
use kube::{
    ResourceExt,
    api::{Api, ListParams},
};

use crate::{Place, credentials};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a tenant, as in the first column of `cotenant status`.
    tenant: String,
    #[command(flatten)]
    place: Place,
    /// A cluster of your own instead of the local one.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let file = args.place.kubeconfigs().join(format!("{}.kubeconfig", args.tenant));
    if args.kubeconfig.is_none() && file.exists() {
        print!(
            "{}",
            fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?
        );
        return Ok(());
    }
    let reached = args.place.client(args.kubeconfig.as_ref()).await?;
    let planes = Api::<TenantControlPlane>::all(reached.client.clone())
        .list(&ListParams::default())
        .await?;
    let mut found = planes.iter().filter(|plane| plane.name_any() == args.tenant);
    match (found.next(), found.next()) {
        (Some(plane), None) => print!("{}", credentials::of_control_plane(&reached.client, plane).await?),
        (Some(_), Some(_)) => bail!(
            "several control planes are named {}; read the Secret of the one you mean",
            args.tenant
        ),
        (None, _) => bail!(
            "no kubeconfig for {:?}: `cotenant status` lists the tenants",
            args.tenant
        ),
    }
    Ok(())
}
