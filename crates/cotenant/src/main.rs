//! The one binary: flags and wiring, nothing else.

mod capsule;
mod control_planes;
mod crds;
mod kamaji;
mod operator;
mod tls_router;
mod watches;
mod zap;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

/// glibc's malloc gave nothing back of what thousands of deleted namespaces had taken (docs/benchmarks.md). Settings of this one are in
/// `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
    People(Box<cli::Command>),
    /// Run the operator: admission webhooks on every replica, controllers on the one that leads.
    Operator(Box<operator::Args>),
    /// Run the operator for namespace tenants with the flags and the environment of Capsule's manager. The program does so by
    /// itself when it is called `manager` or `capsule`.
    Capsule(Box<capsule::Args>),
    /// Run the operator for hosted control planes with the flags and the environment of Kamaji's. The program does so by itself
    /// when it is called `kamaji`.
    Kamaji(kamaji::Args),
    /// Bring the definitions of our kinds to this version.
    Crds(crds::Args),
    /// Print a shell's completion script.
    Completion { shell: clap_complete::Shell },
    /// A node of a local cluster; started by `up` as `node run`, `node init` and so on, which [`command_line`] tells from what
    /// people say of nodes.
    #[command(hide = true)]
    LocalNode {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Pass TLS connections on by their protocol; runs in pods of control planes that share their port with their tunnel.
    #[command(hide = true)]
    TlsRouter(tls_router::Args),
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
        Command::People(command) => people(*command),
        Command::Operator(args) => operator::run(*args),
        Command::Capsule(args) => args.run(),
        Command::Kamaji(args) => args.run(),
        Command::Crds(args) => asynchronous(crds::apply(args)),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cotenant", &mut std::io::stdout());
            Ok(())
        }
        Command::LocalNode { arguments } => return local::node::main(arguments),
        Command::TlsRouter(args) => asynchronous(tls_router::run(args)),
        Command::Enforcer { kubeconfig } => asynchronous(async move { Ok(local::enforcer::run(&kubeconfig).await?) }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = runtime::report::chain(error.as_ref());
            eprintln!("cotenant: {}", cli::plain_lines(&said));
            ExitCode::from(cli::exit_code(&error))
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

/// What a node of a local cluster is started to do; see [`local::node::main`].
const NODE_ROLES: [&str; 5] = ["run", "enter", "init", "pod-network", "hook"];

/// The arguments as they are, with the subcommand that the program's name or a node's role stands for.
fn command_line(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|program| Path::new(program).file_name());
    match name.and_then(OsStr::to_str) {
        Some("manager" | "capsule") => arguments.insert(1, "capsule".into()),
        Some("kamaji") => arguments.insert(1, "kamaji".into()),
        _ => {
            let role = arguments.get(2).and_then(|role| role.to_str());
            if arguments.get(1).is_some_and(|word| word == "node")
                && role.is_some_and(|role| NODE_ROLES.contains(&role))
            {
                arguments[1] = "local-node".into();
            }
        }
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
        assert_eq!(line(&["/kamaji", "manager"]), "/kamaji kamaji manager");
        assert_eq!(
            line(&["/usr/local/bin/cotenant", "operator"]),
            "/usr/local/bin/cotenant operator"
        );
        assert_eq!(line(&[]), "");
        assert_eq!(line(&["cotenant", "node", "run", "c"]), "cotenant local-node run c");
        assert_eq!(
            line(&["cotenant", "node", "join-command", "run"]),
            "cotenant node join-command run"
        );
    }

    #[test]
    fn flags_are_declared_soundly() {
        Cli::command().debug_assert();
    }
}
