//! A server that others run, at its worst.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, WatchParams};
use kube::{Client, Config};
use pki::{Authority, LeafRequest, San};
use runtime::client::untrusted::{self, Limits};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const LIMITS: Limits = Limits {
    longest: 256 * 1024,
    begins_within: Duration::from_mins(2),
};

/// Far more than is to be read, and than sockets hold.
const MUCH: u64 = 64 * 1024 * 1024;

/// Answers every request with `head` and then `rest`, again and again until [`MUCH`] is sent.
struct Hostile {
    address: SocketAddr,
    authority: Vec<u8>,
    sent: Arc<AtomicU64>,
}

impl Hostile {
    async fn start(head: &'static str, rest: &'static str) -> Self {
        let (authority, config) = identity();
        let (listener, sent) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::default());
        let (address, acceptor) = (listener.local_addr().unwrap(), TlsAcceptor::from(Arc::new(config)));
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sent) = (acceptor.clone(), Arc::<AtomicU64>::clone(&counter));
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.unwrap();
                    let mut request = [0; 16 * 1024];
                    let _ = stream.read(&mut request).await;
                    let block = if rest.is_empty() {
                        rest.to_owned()
                    } else {
                        rest.repeat(16 * 1024 / rest.len())
                    };
                    let mut result = stream.write_all(head.as_bytes()).await;
                    while result.is_ok() && !block.is_empty() && sent.load(Ordering::Relaxed) < MUCH {
                        result = stream.write_all(block.as_bytes()).await;
                        sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                    }
                    let _ = stream.flush().await;
                    // Silence, until the client has had enough.
                    let _ = stream.read(&mut request).await;
                });
            }
        });
        Self {
            address,
            authority,
            sent,
        }
    }

    fn client(&self, limits: Limits) -> Client {
        client(self.address, &self.authority, limits)
    }

    fn config_maps(&self, limits: Limits) -> Api<ConfigMap> {
        Api::namespaced(self.client(limits), "kube-system")
    }

    fn sent_little(&self, what: &str) {
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(sent < MUCH / 2, "{what}: {sent} bytes were taken");
    }
}

/// An authority's certificate, DER, and what a server at 127.0.0.1 serves with that it has signed.
fn identity() -> (Vec<u8>, ServerConfig) {
    runtime::client::install_crypto_provider();
    let now = Timestamp::now();
    let authority = Authority::new("hostile", &[], SignedDuration::from_hours(1), now).unwrap();
    let sans = vec![San::parse("127.0.0.1").unwrap()];
    let leaf = authority.issue(&LeafRequest::server("hostile", sans, now)).unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let authority = CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap();
    (authority.to_vec(), config)
}

fn client(address: SocketAddr, authority: &[u8], limits: Limits) -> Client {
    let mut config = Config::new(format!("https://{address}").parse().unwrap());
    config.root_cert = Some(vec![authority.to_vec()]);
    config.default_retry = false;
    untrusted::build(config, "test", limits).unwrap()
}

fn said(error: &kube::Error) -> String {
    runtime::report::chain(error)
}

#[tokio::test]
async fn answers_are_read_as_far_as_they_may_be_long() {
    const CHUNK: &str = "10\r\n{\"items\":[      \r\n";
    let heads = [
        (
            "a list",
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            CHUNK,
        ),
        (
            "one that says so",
            "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000\r\n\r\n",
            "          ",
        ),
        (
            "one that ends with the connection",
            "HTTP/1.1 200 OK\r\n\r\n",
            "          ",
        ),
        (
            "an error",
            "HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n",
            CHUNK,
        ),
    ];
    for (what, head, rest) in heads {
        let server = Hostile::start(head, rest).await;
        let list = server.config_maps(LIMITS).list(&ListParams::default()).await;
        let error = said(&list.unwrap_err());
        assert!(
            error.contains("the answer is longer than 262144 bytes"),
            "{what}: {error}"
        );
        server.sent_little(what);
    }
}

#[tokio::test]
async fn watches_end_when_they_have_said_enough() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    const EVENT: &str = "{\"type\":\"ADDED\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}}\n";
    for (what, rest, heard) in [
        ("one event without end", "          ", false),
        ("events without end", EVENT, true),
    ] {
        let server = Hostile::start(HEAD, rest).await;
        let api = server.config_maps(LIMITS);
        let mut events = Box::pin(api.watch(&WatchParams::default(), "0").await.unwrap());
        let mut count = 0_usize;
        let error = loop {
            match events.try_next().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => panic!("{what}: it ended as if all were well"),
                Err(error) => break said(&error),
            }
        };
        assert_eq!(count > 0, heard, "{what}: {count} events");
        assert!(error.contains("the answer is longer than"), "{what}: {error}");
        server.sent_little(what);
    }
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    for (what, head, rest) in [
        ("one header", "HTTP/1.1 200 OK\r\nX-A: ", "aaaaaaaaaa"),
        ("many headers", "HTTP/1.1 200 OK\r\n", "X-A: a\r\n"),
        ("a status line", "HTTP/1.1 200 ", "aaaaaaaaaa"),
    ] {
        let server = Hostile::start(head, rest).await;
        server.client(LIMITS).apiserver_version().await.unwrap_err();
        server.sent_little(what);
    }
}

#[tokio::test]
async fn an_answer_begins_in_time_or_there_is_none() {
    let hasty = Limits {
        begins_within: Duration::from_secs(1),
        ..LIMITS
    };
    for (what, head) in [("silence", ""), ("half a head", "HTTP/1.1 200 OK\r\nContent-")] {
        let server = Hostile::start(head, "").await;
        let error = said(&server.client(hasty).apiserver_version().await.unwrap_err());
        assert!(error.contains("timed out"), "{what}: {error}");
        let events = server.config_maps(hasty).watch(&WatchParams::default(), "0").await;
        assert!(events.is_err(), "{what}: a watch waits for nothing");
    }
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let to = elsewhere.local_addr().unwrap();
    for status in [301, 302, 307, 308] {
        let head = format!("HTTP/1.1 {status} Go\r\nLocation: https://{to}/version\r\nContent-Length: 0\r\n\r\n");
        let server = Hostile::start(head.leak(), "").await;
        server.client(LIMITS).apiserver_version().await.unwrap_err();
    }
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Speaks HTTP/2, has the version for whoever asks, and lets watches wait. Counts connections.
async fn well_behaved() -> (SocketAddr, Vec<u8>, Arc<AtomicU64>) {
    let (authority, mut config) = identity();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (listener, connections) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::default());
    let (address, acceptor) = (listener.local_addr().unwrap(), TlsAcceptor::from(Arc::new(config)));
    let counter = Arc::<AtomicU64>::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = service_fn(|request: Request<Incoming>| async move {
                    let waits = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                    let said = if waits { "" } else { VERSION };
                    let body = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(said)))]);
                    // What is never said keeps a watch open.
                    let rest = stream::once(async move {
                        if waits {
                            std::future::pending::<()>().await;
                        }
                        Ok(Frame::data(Bytes::new()))
                    });
                    Ok::<_, Infallible>(Response::new(StreamBody::new(body.chain(rest))))
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(stream, service).await;
            });
        }
    });
    (address, authority, connections)
}

const VERSION: &str = r#"{"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
    "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;

#[tokio::test]
async fn a_server_of_many_watches_has_one_connection_of_ours() {
    let (address, authority, connections) = well_behaved().await;
    let client = client(address, &authority, LIMITS);
    client.apiserver_version().await.unwrap();
    let api: Api<ConfigMap> = Api::all(client.clone());
    let parameters = WatchParams::default();
    let watches = try_join_all((0..20).map(|_| api.watch(&parameters, "0")))
        .await
        .unwrap();
    let versions = try_join_all((0..20).map(|_| client.apiserver_version())).await.unwrap();
    assert!(versions.iter().all(|version| version.git_version == "v1.36.3"));
    assert_eq!(watches.len(), 20);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
