//! Clients of API servers that others run.
//!
//! Who runs a server may answer without end, in one line or in many, with headers without end, or not at all. What is
//! read of each answer, an error's and a watch's too, is bounded here, and so is the time until it begins; how long it
//! takes altogether is for the caller to say. Redirects are not followed: the client has credentials.

use std::time::Duration;

use http::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use kube::client::{ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use rustls::client::Resumption;
use tower::timeout::TimeoutLayer;
use tower::util::MapResponseLayer;
use tower::{BoxError, ServiceBuilder};

use super::connections::{self, Connections};
use super::{Error, named};

/// What one answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In bytes. A watch that is through with them ends with an error and has to be begun again.
    pub longest: usize,
    /// From the request to the headers of its answer.
    pub begins_within: Duration,
}

impl Default for Limits {
    /// More than the largest object that etcd takes, and than a page of metadata.
    fn default() -> Self {
        Self {
            longest: 2 * 1024 * 1024,
            begins_within: Duration::from_secs(20),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {0} bytes, more than is read of a server that others run")]
struct TooLong(usize);

/// A client that reads answers within limits. `agent` is as in [`super::connect`].
///
/// There is one connection for all requests at a time where the server speaks HTTP/2, as every kube-apiserver does: kube's own
/// connector knows HTTP/1.1 alone, with a connection and a handshake for each watch.
pub fn build(config: Config, agent: &str, limits: Limits) -> Result<Client, Error> {
    let config = named(config, agent);
    let layers = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(Error::Build)?)
        .layer(config.extra_headers_layer().map_err(Error::Build)?)
        .map_err(BoxError::from);
    let service = layers.service(connections(&config)?);
    let shorten = move |answer: Response<Incoming>| {
        answer.map(|body| {
            Limited::new(body, limits.longest).map_err(move |error| {
                if error.is::<LengthLimitError>() {
                    TooLong(limits.longest).into()
                } else {
                    error
                }
            })
        })
    };
    let builder = ClientBuilder::new(service, config.default_namespace)
        .with_layer(&MapResponseLayer::new(shorten))
        .with_layer(&TimeoutLayer::new(limits.begins_within));
    Ok(builder.build())
}

fn connections(config: &Config) -> Result<Connections, Error> {
    let mut tls = config.rustls_client_config().map_err(Error::Build)?;
    // rustls would set room aside for 256 sessions, with each of many servers of which one is met again.
    tls.resumption = Resumption::disabled();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    let connector = connections::named(connector, config)?;
    let mut settings = connections::settings(IDLE);
    settings
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(4 * WINDOW);
    Ok(settings.build(connector.enable_all_versions().wrap_connector(connections::tcp(config))))
}

/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_mins(1);
/// Bytes that a server may send before they are read, for each answer.
const WINDOW: u32 = 128 * 1024;
