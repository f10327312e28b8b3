//! What kube-proxy does for the Service in front of the webhooks: one address, and a replica for each connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An address whose connections go to replicas in turn. One that does not answer is passed over.
pub(crate) struct Balancer {
    address: SocketAddr,
    replicas: Arc<Mutex<Vec<SocketAddr>>>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    pub(crate) async fn start(ip: Ipv4Addr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((ip, 0))
            .await
            .context("failed to listen in front of the webhooks")?;
        let replicas = Arc::new(Mutex::new(Vec::new()));
        Ok(Self {
            address: listener.local_addr()?,
            replicas: replicas.clone(),
            accepting: tokio::spawn(accept(listener, replicas)),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Sends new connections to these from now on.
    pub(crate) fn send_to(&self, replicas: Vec<SocketAddr>) {
        *self.replicas.lock().unwrap_or_else(PoisonError::into_inner) = replicas;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, replicas: Arc<Mutex<Vec<SocketAddr>>>) {
    let mut turn = 0;
    // Accepting fails while descriptors are short, and the caller tries again.
    loop {
        let Ok((mut incoming, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut order = replicas.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !order.is_empty() {
            turn = (turn + 1) % order.len();
            order.rotate_left(turn);
        }
        tokio::spawn(async move {
            for replica in order {
                if let Ok(mut outgoing) = TcpStream::connect(replica).await {
                    // However one of them ends it, it is over.
                    let _ = tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await;
                    return;
                }
            }
        });
    }
}
