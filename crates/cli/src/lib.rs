//! The commands for people: a cluster on this machine (`up`, `down`, `status`), and questions about tenants
//! (`tenant`, `kubeconfig`, `explain`).
//!
//! Each command is a module with its own arguments; what several commands need is about a noun: `manifest` (objects
//! from YAML, applied), `tenant_table` (who reaches what and how), `credentials` (kubeconfigs), `progress` (long work
//! shown to a person, a log or a program). Commands talk to API servers through objects only, as anybody could.

mod credentials;
mod down;
mod explain;
mod install;
mod kubeconfig;
mod manifest;
mod operator_flags;
mod place;
mod prepare;
mod progress;
mod status;
pub mod tenant;
mod tenant_table;
mod up;
mod worker;

use std::io::{BufReader, stdin, stdout};

use clap::Subcommand;

pub use place::Place;

/// What a person can ask of `cotenant`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a hybrid multi-tenant cluster on this machine, or repair the one that runs.
    Up(up::Args),
    /// Make this machine ready for `up` and the tests: Debian packages, upstream programs, images.
    Prepare(prepare::Args),
    /// Remove that cluster: every process, namespace, mount, cgroup, rule and file outside the cache.
    Down(down::Args),
    /// Show the table of tenants: who reaches what, and how.
    Status(status::Args),
    /// Make, show, change and delete namespace tenants.
    Tenant(tenant::Args),
    /// Print a tenant's kubeconfig.
    Kubeconfig(kubeconfig::Args),
    /// Say what was decided for a tenant, and why: `tenant/<name>` or `tcp/[<namespace>/]<name>`.
    Explain(explain::Args),
}

/// Runs one command to its end.
///
/// # Errors
/// Whatever stopped it, with the chain of causes; the caller prints it once.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Prepare(args) => tokio::task::block_in_place(|| prepare::run(&args)),
        Command::Down(args) => tokio::task::block_in_place(|| down::run(&args)),
        Command::Status(args) => status::run(args).await,
        Command::Tenant(args) => {
            let terminal = tenant::Terminal {
                input: &mut BufReader::new(stdin()),
                output: &mut stdout(),
            };
            tenant::run(args, terminal).await
        }
        Command::Kubeconfig(args) => kubeconfig::run(args).await,
        Command::Explain(args) => explain::run(args).await,
    }
}
