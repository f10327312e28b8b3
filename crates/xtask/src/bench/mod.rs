//! Whole-process benchmarks on a cluster of their own, and decisions by themselves: `cargo xtask bench [NAME…]`.
//!
//! Each figure is one JSON line with commit and machine, so that lines of different days can be laid side by side.
//! Processes are measured from outside (`/proc`), as the peers were for the figures that ours are compared with; the
//! protocol of each figure is in `docs/benchmarks.md`.

mod bed;
mod control_planes;
mod decisions;
mod hundred;
pub(crate) mod load;
mod namespaces;
mod processes;
mod requests;
mod reviews;
mod savings;
mod stub;
mod thousand;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use bed::Bed;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benchmarks; all of them when none is named: `decisions`, `one`, `ten`, `idle`, `namespaces`, `latency`,
    /// `reviews`, `hundred`, `thousand`, and `savings` only when it is named.
    names: Vec<String>,
    /// How long control planes sit idle before their memory is measured, and how long a hundred are watched being quiet.
    #[arg(long, default_value_t = 300)]
    idle_seconds: u64,
    /// The program to measure; the release build when none is named.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Which rows of `savings`; all when none is named.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Leave the cluster running afterwards.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(repository: &Path, args: &Args) -> anyhow::Result<()> {
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    if wanted("decisions") {
        decisions::run(repository)?;
        if args.names.len() == 1 {
            return Ok(());
        }
    }
    // A second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let bed = Bed::start(repository, args.program.as_deref()).await?;
        let mut outcome = Ok(());
        let needs_namespaces = ["namespaces", "latency", "reviews"].into_iter().any(wanted);
        if needs_namespaces {
            outcome = outcome.and(namespaces::converge(&bed).await);
        }
        if wanted("latency") {
            outcome = outcome.and(namespaces::latency(&bed).await);
        }
        if wanted("reviews") {
            outcome = outcome.and(reviews::run(&bed).await);
        }
        if needs_namespaces {
            outcome = outcome.and(namespaces::clean(&bed, "namespaces-gone").await);
        }
        if wanted("one") {
            outcome = outcome.and(control_planes::time_to_ready(&bed, "one", 1).await);
        }
        if wanted("ten") {
            outcome = outcome.and(control_planes::time_to_ready(&bed, "ten", 10).await);
        }
        if wanted("idle") {
            outcome = outcome.and(control_planes::idle_memory(&bed, args.idle_seconds).await);
        }
        if args.names.iter().any(|name| name == "savings") {
            outcome = outcome.and(savings::run(&bed, &args.rows, args.idle_seconds).await);
        }
        if wanted("hundred") {
            outcome = outcome.and(hundred::run(&bed, args.idle_seconds).await);
        }
        if wanted("thousand") {
            outcome = outcome.and(thousand::run(&bed).await);
            outcome = outcome.and(namespaces::clean(&bed, "thousand-gone").await);
        }
        if !args.keep {
            bed.stop()?;
        }
        outcome
    })
}

/// Prints one figure.
fn report(bed: &Bed, bench: &str, figures: &Value) {
    println!(
        "{}",
        json!({"bench": bench, "figures": figures, "commit": bed.commit, "machine": bed.machine, "kubernetes": bed.kubernetes})
    );
}

/// The value below which `percent` of the sorted values lie.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let index = ((sorted.len() as f64 - 1.0) * percent / 100.0).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
