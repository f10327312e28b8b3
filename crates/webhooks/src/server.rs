//! The HTTPS server under the router: every read has a deadline, every buffer a bound.
//!
//! HTTP/1.1 with keep-alive, as API servers use it for webhooks. What a slow or hostile client may cost is bounded in four
//! places: handshakes and bodies have deadlines; connections are counted in total and per address, so that one pod
//! cannot take the places of the API servers; bodies must announce their length and share one budget of bytes; heads
//! are small. A decision runs on the connection's task: it is microseconds of pure code. A panic in one is caught and
//! answered with 500, which API servers treat as "no answer", so the rule's own failure policy decides.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::Shutdown;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::router::Router;

/// What Kubernetes has where a webhook configuration says nothing, and the most that it takes.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;
const LONGEST_TIMEOUT_SECONDS: u64 = 30;

/// Limits of the server. The defaults suit a cluster with a few API servers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_address: usize,
    /// An update carries the object twice, and API servers take objects of up to 3 MiB.
    pub body_bytes: usize,
    /// All bodies being read or decided upon together.
    pub bodies_bytes: usize,
    pub handshake: Duration,
    /// Also how long an idle connection is kept: longer than API servers keep theirs, so that they are the ones to
    /// close it and never find it closed under a request.
    pub head: Duration,
    pub body: Duration,
    /// How long requests in progress may take after the shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            connections_per_address: 512,
            body_bytes: 8 << 20,
            bodies_bytes: 64 << 20,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(120),
            body: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
}

/// Opens the listening socket.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Bind { address, source })
}

/// Serves until the shutdown, then lets requests in progress end.
pub async fn serve(
    listener: TcpListener,
    certificate: Arc<dyn ResolvesServerCert>,
    router: Arc<Router>,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Places {
        limits,
        taken: Mutex::default(),
    });
    let bodies = Arc::new(Semaphore::new(limits.bodies_bytes));

    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that was gone before we took it: neither ends the server.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(place) = Places::take(&places, peer.ip()) else {
            continue;
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            router: router.clone(),
            bodies: bodies.clone(),
            limits,
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move {
            connection.serve(stream).await;
            drop(place);
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(limits.drain, async {
        while places.any_taken() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!("connections of the webhook server did not end in time");
    }
    Ok(())
}

/// Connections by address.
struct Places {
    limits: Limits,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(places: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.get(&address).copied().unwrap_or(0);
        if of_address >= places.limits.connections_per_address
            || taken.values().sum::<usize>() >= places.limits.connections
        {
            return None;
        }
        taken.insert(address, of_address + 1);
        Some(Place {
            places: places.clone(),
            address,
        })
    }

    fn any_taken(&self) -> bool {
        !self.taken.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Arc<Router>,
    bodies: Arc<Semaphore>,
    limits: Limits,
    shutdown: Shutdown,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Answers are one small write; waiting to fill a packet would only add to every write of the cluster.
        let _ = stream.set_nodelay(true);
        let Ok(Ok(stream)) = tokio::time::timeout(self.limits.handshake, self.acceptor.accept(stream)).await else {
            return;
        };
        let (router, bodies, limits) = (self.router, self.bodies, self.limits);
        let service = hyper::service::service_fn(move |request| {
            let (router, bodies) = (router.clone(), bodies.clone());
            async move { Ok::<_, Infallible>(answer(&router, &bodies, limits, request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        // Broken connections are the client's affair: it sees them, and asks again.
        let _ = connection.await;
    }
}

async fn answer(router: &Router, bodies: &Semaphore, limits: Limits, request: Request<Incoming>) -> Response<Full> {
    if request.method() == Method::GET && request.uri().path() == "/healthz" {
        return plain(StatusCode::OK, "ok");
    }
    let deadline = Instant::now() + patience(request.uri().query().unwrap_or_default());
    let path = request.uri().path().to_owned();
    if !router.knows(&path) {
        return plain(StatusCode::NOT_FOUND, "there is no webhook at this path");
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "webhooks are asked by POST");
    }
    let json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !json {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");
    }
    let Some(announced) = request.body().size_hint().exact() else {
        return plain(StatusCode::LENGTH_REQUIRED, "the body must announce its length");
    };
    let Some(length) = usize::try_from(announced)
        .ok()
        .filter(|length| *length <= limits.body_bytes)
    else {
        return plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than any pair of objects may be",
        );
    };
    let share = u32::try_from(length).unwrap_or(u32::MAX);
    let read = async {
        let share = bodies.acquire_many(share).await.ok()?;
        Some((share, collect(request.into_body(), length).await?))
    };
    let Ok(Some((_share, body))) = tokio::time::timeout(limits.body, read).await else {
        return plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    };
    match std::panic::AssertUnwindSafe(router.answer(&path, &body, deadline))
        .catch_unwind()
        .await
    {
        Ok(Ok(reply)) => json_reply(reply),
        Ok(Err(malformed)) => plain(StatusCode::BAD_REQUEST, &malformed.to_string()),
        Err(_) => {
            tracing::error!(path, "a webhook rule panicked");
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the rule failed; this is a defect of the operator",
            )
        }
    }
}

/// How long an answer may take: a second less than the API server waits, which it says in the query as in `timeout=10s`.
fn patience(query: &str) -> Duration {
    let said = query.split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let seconds = said.and_then(|said| said.strip_suffix('s')?.parse::<u64>().ok());
    let waits = seconds
        .unwrap_or(DEFAULT_TIMEOUT_SECONDS)
        .clamp(1, LONGEST_TIMEOUT_SECONDS);
    Duration::from_millis((waits * 1000).saturating_sub(1000).max(500))
}

async fn collect(mut body: Incoming, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while let Some(frame) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Some(bytes)
}

type Full = http_body_util::Full<Bytes>;

fn json_reply(body: Vec<u8>) -> Response<Full> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Full> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Verdict;
    use crate::metrics::Metrics;
    use crate::review::Operation;
    use crate::rule::{Component, Failure, Phase, Rule, Scope, SideEffects, Target};
    use crate::tls::Resolver;
    use crate::tls::material::{self, Plan};
    use crate::view::Source;
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    use serde_json::{Value, json};
    use tenancy::denial::Denial;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    #[test]
    fn an_answer_comes_before_the_api_server_stops_waiting() {
        for (query, millis) in [
            ("timeout=10s", 9_000),
            ("timeout=3s", 2_000),
            ("dryRun=All&timeout=30s", 29_000),
            ("timeout=1s", 500),
            ("timeout=0s", 500),
            ("", 9_000),
            ("timeout=", 9_000),
            ("timeout=-5s", 9_000),
            ("timeout=99999999999999999999s", 9_000),
            ("timeout=18446744073709551615s", 29_000),
        ] {
            assert_eq!(patience(query), Duration::from_millis(millis), "{query}");
        }
    }

    const MAPS: Target = Target {
        groups: &[""],
        versions: &["v1"],
        resources: &["configmaps"],
        operations: &[Operation::Create],
        scope: Scope::Namespaced,
    };

    const fn rule(path: &'static str, decide: crate::decide::Decide) -> Rule {
        Rule {
            name: path,
            path,
            phase: Phase::Validating,
            component: Component::NamespaceTenants,
            targets: &[MAPS],
            namespaces: &[],
            objects: &[],
            conditions: &[],
            wanted: |_| true,
            failure: Failure::Closed,
            side_effects: SideEffects::None,
            needs: &[],
            decide,
        }
    }

    static RULES: &[Rule] = &[
        rule("/allow", |_| Verdict::Allow {
            warnings: vec!["mind the gap".to_owned()],
        }),
        rule("/deny", |_| {
            Verdict::Deny(Denial::new(
                "spec.color",
                "WrongColor",
                "spec.color: blue is not allowed, use red",
            ))
        }),
        rule("/panic", |_| panic!("on purpose")),
    ];

    struct Running {
        address: SocketAddr,
        bundle: String,
        shutdown: Shutdown,
        served: tokio::task::JoinHandle<Result<(), Error>>,
        resolver: Arc<Resolver>,
    }

    fn material() -> material::Material {
        let sans = [pki::San::Ip("127.0.0.1".parse().expect("an address"))];
        match material::plan(None, &sans, None, jiff::Timestamp::now()).expect("material") {
            Plan::Keep(material) | Plan::Write(material) => material,
        }
    }

    async fn start(limits: Limits) -> Running {
        let material = material();
        let resolver = Arc::new(Resolver::default());
        resolver.replace(&material).expect("a certificate");
        let listener = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Arc::new(Router::new(RULES, Source::empty(), Metrics::default()));
        let shutdown = Shutdown::new();
        let served = tokio::spawn(serve(listener, resolver.clone(), router, limits, shutdown.clone()));
        Running {
            address,
            bundle: material.bundle,
            shutdown,
            served,
            resolver,
        }
    }

    type Stream = tokio_rustls::client::TlsStream<TcpStream>;

    async fn connect(address: SocketAddr, bundle: &str) -> std::io::Result<Stream> {
        let mut roots = rustls::RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(authority.expect("a certificate")).expect("an authority");
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends one request on the connection and reads one answer: status and body.
    async fn ask(stream: &mut Stream, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(body).await.expect("written");
        read_answer(stream).await
    }

    async fn read_answer(stream: &mut Stream) -> (u16, Vec<u8>) {
        let mut bytes = Vec::new();
        let (head, length) = loop {
            let mut buffer = [0_u8; 4096];
            let read = stream.read(&mut buffer).await.expect("read");
            assert_ne!(read, 0, "the server closed the connection before it answered");
            bytes.extend_from_slice(&buffer[..read]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.trim().parse().expect("a number"));
            if bytes.len() >= end + 4 + length {
                break (head, end + 4..end + 4 + length);
            }
        };
        (head[9..12].parse().expect("a status"), bytes[length].to_vec())
    }

    fn post(path: &str, length: usize) -> String {
        format!(
            "POST {path}?timeout=10s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    }

    fn review() -> Vec<u8> {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
                "resource": {"group": "", "version": "v1", "resource": "configmaps"}, "name": "m", "namespace": "n",
                "operation": "CREATE", "userInfo": {"username": "alice"}, "object": {"metadata": {"name": "m"}}
            }
        })
        .to_string()
        .into_bytes()
    }

    fn json_of(body: &[u8]) -> Value {
        serde_json::from_slice(body).expect("JSON")
    }

    #[tokio::test]
    async fn one_connection_asks_many_questions() {
        let running = start(Limits::default()).await;
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let body = review();
        let (status, reply) = ask(&mut stream, &post("/allow", body.len()), &body).await;
        assert_eq!(status, 200);
        assert_eq!(
            json_of(&reply)["response"],
            json!({"uid": "1", "allowed": true, "warnings": ["mind the gap"]})
        );
        let (status, reply) = ask(&mut stream, &post("/deny", body.len()), &body).await;
        assert_eq!(status, 200);
        assert_eq!(
            json_of(&reply)["response"],
            json!({
                "uid": "1", "allowed": false, "auditAnnotations": {"reason": "WrongColor"},
                "status": {
                    "code": 403, "reason": "Forbidden", "message": "spec.color: blue is not allowed, use red",
                    "details": {"causes": [
                        {"reason": "WrongColor", "message": "spec.color: blue is not allowed, use red", "field": "spec.color"}
                    ]}
                }
            })
        );
    }

    #[tokio::test]
    async fn what_is_not_a_question_gets_a_status_and_the_connection_lives_on() {
        let running = start(Limits::default()).await;
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let (status, _) = ask(&mut stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"").await;
        assert_eq!(status, 200);
        let (status, _) = ask(&mut stream, &post("/elsewhere", 0), b"").await;
        assert_eq!(status, 404);
        let (status, _) = ask(&mut stream, "GET /allow HTTP/1.1\r\nHost: x\r\n\r\n", b"").await;
        assert_eq!(status, 405);
        let (status, body) = ask(&mut stream, &post("/allow", 1), b"{").await;
        assert_eq!(status, 400);
        assert!(String::from_utf8_lossy(&body).starts_with("failed to read the body as an AdmissionReview"));
        let body = review();
        let (status, _) = ask(&mut stream, &post("/allow", body.len()), &body).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn a_panic_in_a_rule_is_an_answer_and_not_the_end() {
        let running = start(Limits::default()).await;
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let body = review();
        let (status, _) = ask(&mut stream, &post("/panic", body.len()), &body).await;
        assert_eq!(status, 500);
        let (status, _) = ask(&mut stream, &post("/allow", body.len()), &body).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn a_request_that_no_rule_of_the_path_is_about_is_refused() {
        let running = start(Limits::default()).await;
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let body = String::from_utf8(review())
            .expect("text")
            .replace("configmaps", "secrets")
            .into_bytes();
        let (_, reply) = ask(&mut stream, &post("/allow", body.len()), &body).await;
        assert_eq!(json_of(&reply)["response"]["allowed"], false);
        assert_eq!(json_of(&reply)["response"]["status"]["code"], 500);
    }

    #[tokio::test]
    async fn bodies_are_bounded_before_they_are_read() {
        let running = start(Limits {
            body_bytes: 100,
            ..Limits::default()
        })
        .await;
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let (status, _) = ask(&mut stream, &post("/allow", 101), b"").await;
        assert_eq!(status, 413);
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let head =
            "POST /allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (status, _) = ask(&mut stream, head, b"").await;
        assert_eq!(status, 411);
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up_and_others_are_answered_meanwhile() {
        let limits = Limits {
            body: Duration::from_millis(300),
            ..Limits::default()
        };
        let running = start(limits).await;
        let mut slow = connect(running.address, &running.bundle).await.expect("a connection");
        slow.write_all(post("/allow", 50).as_bytes()).await.expect("written");
        let mut other = connect(running.address, &running.bundle).await.expect("a connection");
        let body = review();
        let (status, _) = ask(&mut other, &post("/allow", body.len()), &body).await;
        assert_eq!(status, 200);
        let (status, _) = read_answer(&mut slow).await;
        assert_eq!(status, 408);
    }

    #[tokio::test]
    async fn one_address_cannot_take_more_than_its_share_of_connections() {
        let running = start(Limits {
            connections_per_address: 2,
            ..Limits::default()
        })
        .await;
        let one = connect(running.address, &running.bundle).await.expect("a connection");
        let _two = connect(running.address, &running.bundle).await.expect("a connection");
        assert!(connect(running.address, &running.bundle).await.is_err());
        drop(one);
        // The place is free once the server has seen the end of the first.
        loop {
            if connect(running.address, &running.bundle).await.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_new_certificate_is_served_while_old_connections_go_on() {
        let running = start(Limits::default()).await;
        let mut old = connect(running.address, &running.bundle).await.expect("a connection");
        let next = material();
        running.resolver.replace(&next).expect("a certificate");
        assert!(connect(running.address, &running.bundle).await.is_err());
        let mut new = connect(running.address, &next.bundle).await.expect("a connection");
        let body = review();
        for stream in [&mut old, &mut new] {
            let (status, _) = ask(stream, &post("/allow", body.len()), &body).await;
            assert_eq!(status, 200);
        }
    }

    #[tokio::test]
    async fn a_shutdown_ends_idle_connections_and_the_server() {
        let running = start(Limits::default()).await;
        let mut stream = connect(running.address, &running.bundle).await.expect("a connection");
        let body = review();
        ask(&mut stream, &post("/allow", body.len()), &body).await;
        running.shutdown.trigger();
        running.served.await.expect("no panic").expect("no error");
        assert!(connect(running.address, &running.bundle).await.is_err());
    }
}
