//! The listener in place of one API server: its certificate, clients of its authority, HTTP/2 or 1.1 as the client has it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Counts;
use super::objects::{Answer, Asked, Objects};

const PORT: u16 = 6443;
/// How long kube-apiserver keeps a connection that nothing is asked on. A client that keeps its own counts on that.
const IDLE: Duration = Duration::from_secs(90);

/// What the operator has put into the Secrets of a control plane, PEM.
pub(super) struct Credentials {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// Who signs clients.
    pub(super) authority: Vec<u8>,
}

pub(super) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    objects: Arc<Mutex<Objects>>,
    asked: Arc<Counts>,
}

impl Server {
    pub(super) async fn bind(
        address: Ipv4Addr,
        credentials: &Credentials,
        objects: Arc<Mutex<Objects>>,
        asked: Arc<Counts>,
    ) -> anyhow::Result<Self> {
        let mut clients = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&credentials.authority) {
            clients.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&credentials.certificate).collect::<Result<Vec<_>, _>>()?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(clients)).build()?)
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&credentials.key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let address = SocketAddr::from((address, PORT));
        Ok(Self {
            listener: TcpListener::bind(address)
                .await
                .with_context(|| format!("listen on {address}"))?,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            objects,
            asked,
        })
    }

    /// Until it is dropped; connections end with it.
    pub(super) async fn serve(self) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = self.listener.accept().await {
            let (acceptor, objects, asked) = (self.acceptor.clone(), self.objects.clone(), self.asked.clone());
            connections.spawn(connection(stream, acceptor, objects, asked));
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, objects: Arc<Mutex<Objects>>, asked: Arc<Counts>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        asked.add("refused");
        return;
    };
    let service = service_fn(move |request| answer(request, objects.clone(), asked.clone()));
    // However it ends: the client has gone, or will ask again.
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    objects: Arc<Mutex<Objects>>,
    counts: Arc<Counts>,
) -> anyhow::Result<Response<UnsyncBoxBody<Bytes, Infallible>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let asked = Asked {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        body: &body,
    };
    counts.add(asked.verb());
    let answer = objects.lock().unwrap_or_else(PoisonError::into_inner).answer(&asked);
    let json = || Response::builder().header("content-type", "application/json");
    Ok(match answer {
        Answer::Json(code, value) => json().status(code).body(Full::from(value.to_string()).boxed_unsync())?,
        Answer::Text(text) => Response::new(Full::from(text).boxed_unsync()),
        Answer::Watch(time) => {
            let silence = stream::once(async move {
                tokio::time::sleep(time).await;
                Ok(Frame::data(Bytes::new()))
            });
            json().body(StreamBody::new(silence).boxed_unsync())?
        }
    })
}
