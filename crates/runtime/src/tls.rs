//! TLS in front of a plain HTTP listener, with a certificate that somebody else keeps in files.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at a time; who comes later waits in the kernel's queue.
const HANDSHAKES: usize = 32;
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A certificate chain and its key, PEM. They are read at each connection, so a renewal takes no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to understand {path:?} as PEM")]
    Decode {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("failed to use the certificate in {path:?}")]
    Use { path: PathBuf, source: rustls::Error },
}

impl Files {
    /// The configuration of a server with what the files hold now.
    async fn load(&self) -> Result<Arc<ServerConfig>, Error> {
        let read = async |path: &PathBuf| {
            tokio::fs::read(path).await.map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })
        };
        let decode = |path: &PathBuf| {
            let path = path.clone();
            |source| Error::Decode { path, source }
        };
        let (certificate, key) = (read(&self.certificate).await?, read(&self.key).await?);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<_, _>>()
            .map_err(decode(&self.certificate))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(decode(&self.key))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map(Arc::new)
            .map_err(|source| Error::Use {
                path: self.certificate.clone(),
                source,
            })
    }
}

/// Gives connections that have shaken hands. One that is slow to holds up no other.
pub(crate) struct Listener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// An error if the files cannot be used now. Later it is logged, and connections are refused while it lasts.
    pub(crate) async fn start(listener: TcpListener, files: Files) -> Result<Self, Error> {
        files.load().await?;
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let (sender, ready) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, files, sender));
        Ok(Self {
            ready,
            address,
            accepting,
        })
    }
}

async fn accept(mut listener: TcpListener, files: Files, ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    // Closed by nobody.
    while let Ok(place) = places.clone().acquire_owned().await {
        // axum's way of taking connections, which outlives a shortage of file descriptors.
        let (stream, peer) = axum::serve::Listener::accept(&mut listener).await;
        let (files, ready) = (files.clone(), ready.clone());
        tokio::spawn(async move {
            let config = match files.load().await {
                Ok(config) => config,
                Err(error) => {
                    tracing::warn!(error = crate::report::chain(&error), "a connection was refused");
                    return;
                }
            };
            let handshake = TlsAcceptor::from(config).accept(stream);
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await {
                drop(place);
                // Nobody takes it when the server has ended.
                let _ = ready.send((stream, peer)).await;
            }
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The sender ends with this value alone.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
