//! Long races for what tenants share, with operators killed again and again: `cargo xtask soak [--minutes N] [NAME…]`.
//!
//! One race after the other on a bed of its own; each is one JSON line. The short form of the same is a test of `cotenant`.
//! `upgrade` is no race but a drill, and runs by itself.

mod traffic;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use races::{Bed, Race, Size};

/// Between two kills: long enough for another leader, and for a while of peace.
const BETWEEN_KILLS: Duration = Duration::from_secs(12);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which races; all of them when none is named: `namespaces`, `tenant`, `pool`, `custom`, `global-custom`, `global`. Or
    /// the drill `upgrade`, alone: hosted control planes go from the oldest to the newest minor; without the cache it builds
    /// Kubernetes' programs of each, which takes half an hour.
    names: Vec<String>,
    /// How long clients race in each.
    #[arg(long, default_value_t = 2)]
    minutes: u64,
    /// Clients of each; `namespaces` has twenty.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    #[arg(long, default_value_t = 10)]
    namespaces: usize,
    /// The program; without it the release build of this checkout.
    #[arg(long)]
    program: Option<PathBuf>,
}

pub(crate) fn run(repository: &Path, args: &Args) -> anyhow::Result<()> {
    let drill = args.names == ["upgrade"];
    let races = if drill { Vec::new() } else { named(&args.names)? };
    let built = || repository.join("target/release/cotenant");
    let executable = args.program.clone().unwrap_or_else(built);
    ensure!(
        executable.exists(),
        "{} is not there: run `make soak`, or build it with --release first",
        executable.display()
    );
    let load = Duration::from_secs(args.minutes * 60);
    let size = Size {
        clients: args.clients,
        namespaces: args.namespaces,
        load,
        kills: u32::try_from(load.as_secs() / BETWEEN_KILLS.as_secs())?,
        drain: true,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let violations = runtime.block_on(async {
        if drill {
            // A second installation is refused and harmless.
            let _ = rustls::crypto::ring::default_provider().install_default();
            upgrade::run(&executable).await
        } else {
            soak(&executable, &races, &size).await
        }
    })?;
    if !violations.is_empty() {
        bail!("what should hold did not:\n  {}", violations.join("\n  "));
    }
    Ok(())
}

fn named(names: &[String]) -> anyhow::Result<Vec<Race>> {
    if names.is_empty() {
        return Ok(Race::ALL.to_vec());
    }
    let known = |name: &String| {
        let race = Race::ALL.into_iter().find(|race| race.name() == name);
        race.ok_or_else(|| {
            anyhow!(
                "there is no race {name:?}; there are {}",
                Race::ALL.map(Race::name).join(", ")
            )
        })
    };
    names.iter().map(known).collect()
}

async fn soak(executable: &Path, races: &[Race], size: &Size) -> anyhow::Result<Vec<String>> {
    let begun = Instant::now();
    let mut bed = Bed::start(executable).await?;
    let mut violations = Vec::new();
    for race in races {
        let progress = |said: &str| eprintln!("{:>5} s  {}: {said}", begun.elapsed().as_secs(), race.name());
        for outcome in races::run(&mut bed, &[*race], size, &progress).await? {
            println!("{}", serde_json::to_string(&outcome)?);
            violations.extend(outcome.violation());
        }
    }
    Ok(violations)
}
