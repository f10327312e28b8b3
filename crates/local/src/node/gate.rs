//! Waits until what a program needs is there. One thread per waiting program, so that the loop that keeps the others
//! running never waits.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Condition;

const PAUSE: Duration = Duration::from_millis(50);

/// Writes `index` to `opened` when all conditions hold, in their order.
pub(super) fn watch(index: u8, conditions: Vec<Condition>, mut opened: UnixStream) {
    std::thread::spawn(move || {
        for condition in conditions {
            match condition {
                Condition::Path(path) => until(|| path.exists()),
                Condition::Tcp(address) => until(|| listens(address)),
                Condition::ApiServer(path) => ready(&path),
            }
        }
        // The loop has ended and the node with it.
        let _ = opened.write_all(&[index]);
    });
}

fn until(holds: impl Fn() -> bool) {
    while !holds() {
        std::thread::sleep(PAUSE);
    }
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn ready(kubeconfig: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime without threads needs nothing but two file descriptors");
    runtime.block_on(async {
        while !answers(kubeconfig).await {
            tokio::time::sleep(2 * PAUSE).await;
        }
    });
}

async fn answers(kubeconfig: &Path) -> bool {
    let Ok(client) = crate::cluster::client(kubeconfig).await else {
        return false;
    };
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    tokio::time::timeout(Duration::from_secs(5), client.request_text(request))
        .await
        .is_ok_and(|text| text.is_ok())
}
