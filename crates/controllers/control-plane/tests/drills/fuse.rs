//! Operators that end at a step of the test's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::{TcpListener, tcp};
use tokio::sync::Notify;
use tower::service_fn;

/// What counts as a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A write to an object of the admin cluster that is not the neighbour's.
    Write,
    /// A message to the store. Its questions are one or two each, and opening a connection is some more.
    Message,
}

/// Burns with the steps of an operator. Once it is burnt none is taken any more: only the last one was carried out, and its
/// answer is never heard.
#[derive(Clone, Debug)]
pub(crate) struct Fuse(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    writes: AtomicUsize,
    messages: AtomicUsize,
    burnt: Notify,
}

enum Taken {
    OneOfMany,
    Last,
    No,
}

impl Fuse {
    /// Longer than any life.
    pub(crate) fn endless() -> Self {
        Self(Arc::new(Counters {
            writes: AtomicUsize::new(usize::MAX),
            messages: AtomicUsize::new(usize::MAX),
            burnt: Notify::new(),
        }))
    }

    /// That many steps from now on.
    pub(crate) fn light(&self, step: Step, count: usize) {
        self.left(step).store(count, Ordering::SeqCst);
    }

    pub(crate) fn put_out(&self) {
        for step in [Step::Write, Step::Message] {
            self.light(step, usize::MAX);
        }
    }

    /// Whether the last step was taken. What came of it may be seen before its answer is there.
    pub(crate) fn is_spent(&self) -> bool {
        [Step::Write, Step::Message]
            .into_iter()
            .any(|step| self.left(step).load(Ordering::SeqCst) == 0)
    }

    pub(crate) async fn burnt(&self) {
        self.0.burnt.notified().await;
    }

    fn left(&self, step: Step) -> &AtomicUsize {
        match step {
            Step::Write => &self.0.writes,
            Step::Message => &self.0.messages,
        }
    }

    fn take(&self, step: Step) -> Taken {
        let one_less = |left: usize| left.checked_sub(1);
        match self
            .left(step)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
        {
            Ok(1) => Taken::Last,
            Ok(_) => Taken::OneOfMany,
            Err(_) => Taken::No,
        }
    }

    /// A client of which each write is a step, but to objects of this neighbour, to such of the whole cluster, and Events, on
    /// which nothing depends.
    pub(crate) fn client(&self, client: &Client, neighbour: &'static str) -> Client {
        let (fuse, base) = (self.clone(), client.clone());
        let service = service_fn(move |request: Request<Body>| {
            let path = request.uri().path();
            let counts = request.method() != Method::GET
                && path.contains("/namespaces/")
                && !path.contains(neighbour)
                && !path.contains("/events");
            let (fuse, base) = (fuse.clone(), base.clone());
            async move {
                if !counts {
                    return base.send(request).await;
                }
                match fuse.take(Step::Write) {
                    Taken::OneOfMany => return base.send(request).await,
                    Taken::Last => {
                        let _ = base.send(request).await;
                        fuse.0.burnt.notify_one();
                    }
                    Taken::No => {}
                }
                std::future::pending().await
            }
        });
        Client::new(service, client.default_namespace())
    }
}

/// A way to a store on which messages are steps. It ends with the process.
pub(crate) struct Way {
    address: SocketAddr,
    fuse: tokio::sync::watch::Sender<Fuse>,
}

impl Way {
    /// To an etcd at this `host:port`.
    pub(crate) async fn to(store: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fuse, current) = tokio::sync::watch::channel(Fuse::endless());
        let store = store.to_owned();
        tokio::spawn(async move {
            while let Ok((operator, _)) = listener.accept().await {
                let (store, fuse) = (store.clone(), current.borrow().clone());
                tokio::spawn(async move {
                    // A store that is down closes the connection, as it would without us.
                    if let Ok(store) = TcpStream::connect(&store).await {
                        carry(operator, store, &fuse).await;
                    }
                });
            }
        });
        Self { address, fuse }
    }

    /// `host:port`, with a host that the certificate of the etcd is for.
    pub(crate) fn endpoint(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// From now on it is this operator's.
    pub(crate) fn belongs_to(&self, fuse: &Fuse) {
        self.fuse.send_replace(fuse.clone());
    }
}

/// Until the operator closes the connection, or the fuse is burnt.
async fn carry(operator: TcpStream, store: TcpStream, fuse: &Fuse) {
    let (from_operator, mut to_operator) = operator.into_split();
    let (mut from_store, to_store) = store.into_split();
    let answers = async {
        let _ = tokio::io::copy(&mut from_store, &mut to_operator).await;
        let _ = to_operator.shutdown().await;
        // What the operator has said meanwhile counts all the same.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = answers => {}
        _ = count(from_operator, to_store, fuse) => {}
    }
}

async fn count(
    mut from_operator: tcp::OwnedReadHalf,
    mut to_store: tcp::OwnedWriteHalf,
    fuse: &Fuse,
) -> std::io::Result<()> {
    let mut message = vec![0; 64 * 1024];
    loop {
        let length = from_operator.read(&mut message).await?;
        if length == 0 {
            return Ok(());
        }
        match fuse.take(Step::Message) {
            Taken::OneOfMany => to_store.write_all(&message[..length]).await?,
            Taken::Last => {
                let told = to_store.write_all(&message[..length]).await;
                // Long enough for the store to do it; whether it does or not, somebody has to go on from there.
                tokio::time::sleep(Duration::from_millis(20)).await;
                fuse.0.burnt.notify_one();
                return told;
            }
            Taken::No => return Ok(()),
        }
    }
}
