//! What all of our connections to API servers have in common.

use std::time::Duration;

use hyper_rustls::builderstates::WantsProtocols1;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::Body;
use rustls::pki_types::ServerName;

use super::Error;

pub(super) type Connections = Client<HttpsConnector<HttpConnector>, Body>;

pub(super) fn tcp(config: &Config) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(config.connect_timeout);
    // A watch is silent for long, and so is a server that is gone.
    tcp.set_keepalive(Some(ALIVE));
    tcp.set_keepalive_interval(Some(ALIVE / 4));
    tcp.set_keepalive_retries(Some(3));
    tcp
}

/// The name that the server's certificate has to have, if it is not that of the address.
pub(super) fn named(
    connector: HttpsConnectorBuilder<WantsProtocols1>,
    config: &Config,
) -> Result<HttpsConnectorBuilder<WantsProtocols1>, Error> {
    Ok(match &config.tls_server_name {
        Some(name) => connector.with_server_name_resolver(FixedServerNameResolver::new(
            ServerName::try_from(name.clone()).map_err(Error::ServerName)?,
        )),
        None => connector,
    })
}

/// A connection without requests is kept for `idle`.
pub(super) fn settings(idle: Duration) -> Builder {
    let mut settings = Client::builder(TokioExecutor::new());
    settings.pool_timer(TokioTimer::new()).pool_idle_timeout(idle);
    settings
}

/// How long nothing is heard before it is asked whether the other side is there.
const ALIVE: Duration = Duration::from_mins(1);
