//! The part of the `cotenant` executable that this crate needs, for this crate's own tests: the roles of a node.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(role) if role == "node" => local::node::main(args),
        Some(role) if role == "enforcer" => {
            let kubeconfig = args.nth(1).unwrap_or_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime.map(|runtime| runtime.block_on(local::enforcer::run(Path::new(&kubeconfig))));
            match outcome {
                Ok(Ok(())) => ExitCode::SUCCESS,
                outcome => {
                    eprintln!("{outcome:?}");
                    ExitCode::FAILURE
                }
            }
        }
        _ => ExitCode::FAILURE,
    }
}
