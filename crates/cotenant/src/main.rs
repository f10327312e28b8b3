//! The one binary: flags and wiring, nothing else.

mod operator;
mod watches;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cotenant",
    version,
    about = "Many tenants on one Kubernetes, each at the isolation it needs"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    People(cli::Command),
    /// Run the operator: admission webhooks on every replica, controllers on the one that leads.
    Operator(Box<operator::Args>),
    /// Print a shell's completion script.
    Completion { shell: clap_complete::Shell },
    /// A node of a local cluster; started by `up`.
    #[command(hide = true)]
    Node {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Enforce the network policies of a local cluster on the node it runs on; started by `up`.
    #[command(hide = true)]
    Enforcer {
        #[arg(long)]
        kubeconfig: PathBuf,
    },
}

fn main() -> ExitCode {
    runtime::client::install_crypto_provider();
    let outcome = match Cli::parse().command {
        Command::People(command) => people(command),
        Command::Operator(args) => operator::run(*args),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cotenant", &mut std::io::stdout());
            Ok(())
        }
        Command::Node { arguments } => return local::node::main(arguments),
        Command::Enforcer { kubeconfig } => asynchronous(async move { Ok(local::enforcer::run(&kubeconfig).await?) }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cotenant: {error:#}");
            ExitCode::from(cli::tenant::exit_code(&error))
        }
    }
}

fn people(command: cli::Command) -> anyhow::Result<()> {
    asynchronous(cli::run(command))
}

fn asynchronous(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work)
}
