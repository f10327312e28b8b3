//! `cotenant down`.

use crate::{Place, progress};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Progress as JSON lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let progress = progress::choose(args.json);
    let step = format!("remove the cluster {}", args.place.cluster);
    local::progress::step(progress.as_ref(), &step, None, || {
        local::cluster::remove(&args.place.folder())
    })?;
    Ok(())
}
