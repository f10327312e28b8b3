//! One port for several TLS servers, told apart by the protocols that clients offer (ALPN).
//!
//! A hosted API server and its tunnel each end TLS themselves, with client certificates and tokens that only they can
//! judge. Where one port alone is open to workers, connections are therefore passed on as they are, byte by byte, to one of
//! the two; the ClientHello, which is in the clear, says to which. Nothing is decrypted and there is no key here. Names
//! (SNI) would not do: agents and kubelets call the same host, often by its address.
//!
//! Who names no protocol of the table, or speaks no TLS at all, goes to the first server and hears from it what it would
//! have heard without this one in between.

mod greeting;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use greeting::{Greeting, Wanted};

/// How long a client may take to say what it wants. Go's servers give a handshake as much.
const GREETING_WITHIN: Duration = Duration::from_secs(10);
/// A client that is gone without a word is found out after two of these; the server only sees us, who are there.
const PROBED_AFTER: Duration = Duration::from_secs(30);
/// Before a connection is taken again when there are too many open files.
const BREATH: Duration = Duration::from_millis(100);

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Whoever offers this protocol, in whatever place of its list.
    pub protocols: Vec<(String, SocketAddr)>,
    /// All others.
    pub others: SocketAddr,
}

impl Routes {
    fn target(&self, wanted: &Wanted) -> SocketAddr {
        let Wanted::Protocols(offered) = wanted else {
            return self.others;
        };
        let named = |name: &str| offered.iter().any(|offer| offer == name.as_bytes());
        let route = self.protocols.iter().find(|(name, _)| named(name));
        route.map_or(self.others, |(_, target)| *target)
    }
}

/// Listens on all addresses of both families, or of IPv4 where there is no other.
///
/// # Errors
/// When the port is taken.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Passes connections on until `stop`; then takes no more, and returns when the last one has ended.
pub async fn serve(listener: TcpListener, routes: Routes, stop: impl Future<Output = ()>) {
    let routes = Arc::new(routes);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let routes = routes.clone();
                    // How a connection ends is between the two whose it is.
                    connections.spawn(async move { pass_on(client, &routes).await.ok() });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not take a connection");
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn pass_on(mut client: TcpStream, routes: &Routes) -> io::Result<()> {
    client.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(PROBED_AFTER).with_interval(PROBED_AFTER);
    SockRef::from(&client).set_tcp_keepalive(&probes)?;
    let Some((wanted, said)) = timeout(GREETING_WITHIN, greet(&mut client)).await?? else {
        return Ok(());
    };
    let mut server = TcpStream::connect(routes.target(&wanted)).await?;
    server.set_nodelay(true)?;
    server.write_all(&said).await?;
    drop(said);

    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let upwards = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let downwards = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::pin!(downwards);
    // A client that has said all may still listen; a server that has said all is done.
    tokio::select! {
        ended = &mut downwards => ended,
        said = upwards => {
            said?;
            downwards.await
        }
    }
}

/// What a client wants, and all that it has said so far; `None` if it leaves without a word, as probes do.
async fn greet(client: &mut TcpStream) -> io::Result<Option<(Wanted, Vec<u8>)>> {
    let mut greeting = Greeting::new();
    let mut buffer = [0; 4096];
    loop {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        match greeting.take(&buffer[..read]) {
            Wanted::Unsaid => {}
            wanted => return Ok(Some((wanted, greeting.into_bytes()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::greeting::tests::hello;

    /// A server that says its name, then everything that it hears until that ends.
    async fn server(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    client.write_all(name.as_bytes()).await.unwrap();
                    let (mut from, mut to) = client.split();
                    copy(&mut from, &mut to).await.ok();
                });
            }
        });
        address
    }

    struct Router {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        ended: tokio::task::JoinHandle<()>,
    }

    async fn router() -> Router {
        let routes = Routes {
            protocols: vec![("konnectivity".to_owned(), server("tunnel ").await)],
            others: server("api ").await,
        };
        let listener = listen(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        Router {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            stop,
            ended: tokio::spawn(serve(listener, routes, async { stopped.await.unwrap_or_default() })),
        }
    }

    /// All that is answered to these words.
    async fn answer(router: SocketAddr, words: &[&[u8]]) -> Vec<u8> {
        let mut client = TcpStream::connect(router).await.unwrap();
        client.set_nodelay(true).unwrap();
        for word in words {
            client.write_all(word).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_reaches_the_server_that_it_asks_for_and_nothing_is_lost() {
        let router = router().await;
        let agent = hello(&["konnectivity", "h2"]);
        let client = hello(&["h2", "http/1.1"]);
        let bulk = vec![7; 100_000];
        let after = bulk.as_slice();
        for (name, words) in [
            ("tunnel ", vec![agent.as_slice(), after]),
            ("tunnel ", vec![&agent[..3], &agent[3..60], &agent[60..], after]),
            ("api ", vec![client.as_slice(), after]),
            ("api ", vec![&hello(&[]), after]),
            ("api ", vec![b"GET / HTTP/1.1\r\n\r\n", after]),
        ] {
            let expected = [name.as_bytes(), &words.concat()].concat();
            assert!(answer(router.address, &words).await == expected, "{name}");
        }
    }

    #[tokio::test]
    async fn who_leaves_without_a_word_disturbs_nobody() {
        let router = router().await;
        assert_eq!(answer(router.address, &[]).await, b"");
        assert_eq!(answer(router.address, &[&hello(&["h2"])[..20]]).await, b"");
        assert!(answer(router.address, &[&hello(&["h2"])]).await.starts_with(b"api "));
    }

    #[tokio::test]
    async fn what_goes_on_when_it_stops_goes_on_to_its_end() {
        let router = router().await;
        let mut client = TcpStream::connect(router.address).await.unwrap();
        client.write_all(&hello(&["konnectivity"])).await.unwrap();
        let mut name = [0; 7];
        client.read_exact(&mut name).await.unwrap();
        assert_eq!(&name, b"tunnel ");
        router.stop.send(()).unwrap();
        while TcpStream::connect(router.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        client.write_all(b"more").await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"more"));
        router.ended.await.unwrap();
    }
}
