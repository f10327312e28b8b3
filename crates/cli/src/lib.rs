//! The commands for people: a cluster on this machine (`up`, `down`, `status`), and questions about tenants
//! (`tenant`, `kubeconfig`, `explain`), hosted control planes (`cluster`), their nodes and stores (`node`, `datastore`).
//!
//! Each command is a module with its own arguments; what several commands need is about a noun: `manifest` (objects
//! from YAML, applied), `tenant_table` (who reaches what and how), `credentials` (kubeconfigs), `progress` (long work
//! shown to a person, a log or a program). Commands talk to API servers through objects only, as anybody could.

mod bootstrap_token;
pub mod cluster;
mod credentials;
pub mod datastore;
mod difference;
mod down;
pub mod explain;
mod install;
mod kubeconfig;
mod manifest;
pub mod node;
mod operator_flags;
mod place;
mod plain;
mod prepare;
mod progress;
mod session;
mod status;
mod stopped;
pub mod tenant;
mod tenant_table;
mod up;
mod worker;

use std::io::{BufReader, stdin, stdout};

use clap::Subcommand;

pub use place::Place;
pub use plain::plain_lines;
pub use session::Terminal;
pub use stopped::exit_code;

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
    /// Make, show, change and delete hosted control planes.
    Cluster(cluster::Args),
    /// Bring nodes into hosted control planes.
    Node(node::Args),
    /// Show what datastores hold, and even them out.
    Datastore(datastore::Args),
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
    let terminal = Terminal {
        input: &mut BufReader::new(stdin()),
        output: &mut stdout(),
    };
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Prepare(args) => tokio::task::block_in_place(|| prepare::run(&args)),
        Command::Down(args) => tokio::task::block_in_place(|| down::run(&args)),
        Command::Status(args) => status::run(args).await,
        Command::Tenant(args) => tenant::run(args, terminal).await,
        Command::Cluster(args) => cluster::run(args, terminal).await,
        Command::Node(args) => node::run(args, terminal).await,
        Command::Datastore(args) => datastore::run(args, terminal).await,
        Command::Kubeconfig(args) => kubeconfig::run(args).await,
        Command::Explain(args) => explain::run(args, terminal).await,
    }
}
