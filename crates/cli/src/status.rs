//! `cotenant status`.

use std::path::PathBuf;

use crate::{Place, tenant_table};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// A cluster of your own instead of the local one.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// One JSON object a tenant.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let reached = args.place.client(args.kubeconfig.as_ref()).await?;
    let rows = tenant_table::collect(&reached.client, &reached.endpoint, &args.place.kubeconfigs()).await?;
    if args.json {
        for row in rows {
            println!("{}", serde_json::to_string(&row)?);
        }
    } else {
        print!("{}", tenant_table::render(&rows));
    }
    Ok(())
}
