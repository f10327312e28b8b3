//! A client that calls webhooks as kube-apiserver does: TLS, HTTP/1.1, connections that are kept. It runs in the network
//! namespace of the operator's pod, so what lies between is the loopback.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

use super::percentile;

const ADDRESS: &str = "127.0.0.1:9443";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// PEM of whoever signed the server's certificate.
    #[arg(long)]
    authority: PathBuf,
    /// The name that the certificate is for.
    #[arg(long)]
    server: String,
    /// Path of the webhook.
    #[arg(long)]
    path: String,
    /// The AdmissionReview, JSON.
    #[arg(long)]
    review: PathBuf,
    /// Connections, each with one request at a time.
    #[arg(long)]
    in_flight: usize,
    /// Requests of all connections together.
    #[arg(long)]
    requests: usize,
}

/// Prints one line of JSON: milliseconds and whether the reviews were allowed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(load(args))?;
    println!("{figures}");
    Ok(())
}

async fn load(args: &Args) -> anyhow::Result<Value> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&args.authority)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let body = Bytes::from(std::fs::read(&args.review)?);
    let mut connections = JoinSet::new();
    for _ in 0..args.in_flight {
        let (connector, server) = (connector.clone(), ServerName::try_from(args.server.clone())?);
        let (path, body) = (args.path.clone(), body.clone());
        let requests = args.requests / args.in_flight;
        connections.spawn(async move { connection(connector, server, &path, body, requests).await });
    }
    let (mut waited, mut allowed) = (Vec::new(), true);
    while let Some(done) = connections.join_next().await {
        let (times, all_allowed) = done??;
        waited.extend(times);
        allowed &= all_allowed;
    }
    waited.sort_by(f64::total_cmp);
    Ok(json!({
        "requests": waited.len(), "allowed": allowed,
        "ms_p50": percentile(&waited, 50.0), "ms_p99": percentile(&waited, 99.0),
    }))
}

async fn connection(
    connector: TlsConnector,
    server: ServerName<'static>,
    path: &str,
    body: Bytes,
    requests: usize,
) -> anyhow::Result<(Vec<f64>, bool)> {
    let stream = TcpStream::connect(ADDRESS).await?;
    stream.set_nodelay(true)?;
    let host = server.to_str().into_owned();
    let stream = connector.connect(server, stream).await?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(driver);
    let (mut waited, mut allowed) = (Vec::with_capacity(requests), true);
    for _ in 0..requests {
        let request = Request::post(path)
            .header("host", &host)
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))?;
        sender.ready().await?;
        let asked = Instant::now();
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let answer = answer.into_body().collect().await?.to_bytes();
        waited.push(milliseconds(asked.elapsed()));
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
        let answer: Value = serde_json::from_slice(&answer)?;
        allowed &= answer["response"]["allowed"]
            .as_bool()
            .context("an AdmissionReview answers")?;
    }
    drop(sender);
    // However the connection ends, all has been answered.
    let _ = driver.await;
    Ok((waited, allowed))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
