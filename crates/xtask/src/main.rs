//! Repository rules and generators as code: `cargo xtask generate`, `check-deps`, `bench`, `soak`.
mod bench;
mod deps;
mod generate;
mod rbac;
mod soak;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Generators and rules of this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write CRDs and RBAC into the chart from the code.
    Generate {
        /// Write nothing; fail when a checked-in file differs from what the code says.
        #[arg(long)]
        check: bool,
    },
    /// Check that crates depend upwards only: pure, support, servers, programs.
    CheckDeps,
    /// Run the whole-process benchmarks; each prints JSON lines with commit and machine.
    Bench(bench::Args),
    /// Race for limits while operators are killed; one JSON line a race, and an error if a limit did not hold.
    Soak(soak::Args),
    /// Call a webhook many times; `bench reviews` runs it inside of the operator's pod.
    #[command(hide = true)]
    BenchLoad(bench::load::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Generate { check } => generate::run(&repository(), check),
        Command::CheckDeps => deps::run(&repository()),
        Command::Bench(args) => bench::run(&repository(), &args),
        Command::Soak(args) => soak::run(&repository(), &args),
        Command::BenchLoad(args) => bench::load::run(&args),
    }
}

/// The checkout this program was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/xtask lies two levels below the checkout")
        .to_owned()
}
