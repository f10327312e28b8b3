//! Metrics over TLS, with a certificate that is renewed while the process runs.

use std::net::TcpListener;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pki::{Authority, LeafRequest};
use runtime::{Shutdown, admin, metrics::Registry, tls};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let files = tls::Files {
        certificate: directory.path().join("tls.crt"),
        key: directory.path().join("tls.key"),
    };
    let issue = |authority: &Authority| {
        let sans = vec![pki::San::parse("metrics.example").unwrap()];
        let leaf = authority
            .issue(&LeafRequest::server("metrics", sans, Timestamp::now()))
            .unwrap();
        std::fs::write(&files.certificate, leaf.cert_pem).unwrap();
        std::fs::write(&files.key, leaf.key_pem).unwrap();
    };
    let authority = || Authority::new("test", &[], SignedDuration::from_hours(1), Timestamp::now()).unwrap();
    let (first, second) = (authority(), authority());
    issue(&first);

    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let shutdown = Shutdown::new();
    let health = admin::Health::new();
    let serving = tokio::spawn(admin::serve(
        Some(address),
        Some(files.clone()),
        None,
        Registry::new(),
        health,
        shutdown.clone(),
    ));
    assert!(
        scrape(address, &first)
            .await
            .unwrap()
            .contains("process_cpu_seconds_total")
    );
    assert!(scrape(address, &second).await.is_err());
    // Somebody who never shakes hands is in nobody's way.
    let _silent = TcpStream::connect(address).await.unwrap();
    issue(&second);
    assert!(scrape(address, &second).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(scrape(address, &first).await.is_err());
    // Nor is half of a pair.
    std::fs::remove_file(&files.key).unwrap();
    assert!(scrape(address, &second).await.is_err());
    issue(&second);
    assert!(scrape(address, &second).await.is_ok());

    shutdown.trigger();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_the_files_nothing_is_served() {
    let files = tls::Files {
        certificate: "/nowhere/tls.crt".into(),
        key: "/nowhere/tls.key".into(),
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let (registry, health) = (Registry::new(), admin::Health::new());
    let served = admin::serve(Some(address), Some(files), None, registry, health, Shutdown::new()).await;
    let error = runtime::report::chain(&served.unwrap_err());
    assert!(error.contains("failed to read \"/nowhere/tls.crt\""), "{error}");
}

/// The answer, from a client that trusts this authority.
async fn scrape(address: std::net::SocketAddr, authority: &Authority) -> anyhow::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The server begins to listen as a task of its own.
    let stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let name = ServerName::try_from("metrics.example")?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: metrics.example\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
