//! Several TLS servers behind one port; see [`tls_router`]. It runs beside the API server of a control plane that shares its
//! port with its tunnel.

use std::net::SocketAddr;

use runtime::Shutdown;
use tls_router::Routes;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The port that all come to.
    #[arg(long)]
    port: u16,
    /// Who offers this protocol (ALPN) goes to this address, as in `konnectivity=127.0.0.1:8132`.
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = protocol)]
    protocol: Vec<(String, SocketAddr)>,
    /// All others go here.
    #[arg(long, value_name = "ADDRESS")]
    others: SocketAddr,
}

fn protocol(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write it as konnectivity=127.0.0.1:8132")?;
    let address = address
        .parse()
        .map_err(|error| format!("{address:?} is not an address with a port: {error}"))?;
    Ok((name.to_owned(), address))
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    runtime::telemetry::init(runtime::telemetry::Format::Json, "info");
    let stopping = Shutdown::on_signals()?;
    let listener = tls_router::listen(args.port).await?;
    tracing::info!(args.port, "passing TLS connections on");
    let routes = Routes {
        protocols: args.protocol,
        others: args.others,
    };
    tls_router::serve(listener, routes, stopping.cancelled()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_comes_with_an_address() {
        let address = "127.0.0.1:8132".parse().unwrap();
        assert_eq!(
            protocol("konnectivity=127.0.0.1:8132"),
            Ok(("konnectivity".to_owned(), address))
        );
        for text in ["konnectivity", "konnectivity=localhost:1", "konnectivity=127.0.0.1"] {
            assert!(protocol(text).is_err(), "{text}");
        }
    }
}
