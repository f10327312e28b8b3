//! The one binary: flags and wiring, nothing else.

mod capsule;
mod crds;
mod operator;
mod watches;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    /// Run the operator for namespace tenants with the flags and the environment of Capsule's manager. The program does so by
    /// itself when it is called `manager` or `capsule`.
    Capsule(Box<capsule::Args>),
    /// Bring the definitions of our kinds to this version.
    Crds(crds::Args),
    /// Print a shell's completion script.
    Completion { shell: clap_complete::Shell },
    /// A node of a local cluster; started by `up`.
    #[command(hide = true)]
    Node {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
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
    let outcome = match Cli::parse_from(command_line(std::env::args_os())).command {
        Command::People(command) => people(command),
        Command::Operator(args) => operator::run(*args),
        Command::Capsule(args) => args.run(),
        Command::Crds(args) => asynchronous(crds::apply(args)),
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
            eprintln!("cotenant: {}", runtime::report::chain(error.as_ref()));
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

/// The arguments as they are, with the subcommand that the program's name stands for.
fn command_line(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|program| Path::new(program).file_name());
    if name.is_some_and(|name| name == "manager" || name == "capsule") {
        arguments.insert(1, "capsule".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_chooses_what_it_does() {
        let line = |words: &[&str]| command_line(words.iter().map(OsString::from)).join(&OsString::from(" "));
        assert_eq!(line(&["/manager", "--version"]), "/manager capsule --version");
        assert_eq!(line(&["capsule"]), "capsule capsule");
        assert_eq!(
            line(&["/usr/local/bin/cotenant", "operator"]),
            "/usr/local/bin/cotenant operator"
        );
        assert_eq!(line(&[]), "");
    }

    #[test]
    fn flags_are_declared_soundly() {
        Cli::command().debug_assert();
    }
}
