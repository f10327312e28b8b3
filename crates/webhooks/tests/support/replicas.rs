//! A second admission server beside the one of the test binary, and API servers that ask both.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::Api;
use runtime::Shutdown;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use webhooks::Webhooks;

use super::served::{US, configure, context, served};
use super::until;

/// Connections that each of the two admission servers got.
pub static CONNECTIONS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Starts another admission server beside the one of the test binary, and a listener that hands connections to one after the
/// other.
pub async fn second_replica() {
    let server = served().await.server;
    let masters = server.client().await;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(masters.clone());
    let url = configurations
        .get("capsule-dynamic-webhook")
        .await
        .unwrap()
        .webhooks
        .unwrap()[0]
        .client_config
        .url
        .clone()
        .unwrap();
    let authority = url.split('/').nth(2).unwrap();
    let first: u16 = authority.rsplit(':').next().unwrap().parse().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = server.client_for(US, &["system:masters"]).await;
            let listener = webhooks::server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .await
                .unwrap();
            let second = listener.local_addr().unwrap().port();
            let webhooks = Webhooks::start(context(client, second, &Shutdown::new()));
            let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = between.local_addr().unwrap().port();
            let ready = webhooks.clone();
            tokio::join!(
                async { webhooks.serve_on(listener).await.unwrap() },
                hand_out(between, [first, second]),
                async {
                    until("the second replica", async || ready.ready().ok()).await;
                    sender.send(port).unwrap();
                }
            );
        });
    });
    let port = tokio::task::spawn_blocking(move || receiver.recv().unwrap())
        .await
        .unwrap();
    let client = json!({"admission": {"validating": {"client": {"url": format!("https://127.0.0.1:{port}")}}}});
    configure(&masters, client).await;
    until("hooks at the listener", async || {
        let hooks = configurations.get("capsule-dynamic-webhook").await.unwrap().webhooks?;
        let url = hooks[0].client_config.url.clone()?;
        url.contains(&port.to_string()).then_some(())
    })
    .await;
}

async fn hand_out(listener: TcpListener, ports: [u16; 2]) {
    for turn in 0.. {
        let (mut incoming, _) = listener.accept().await.unwrap();
        CONNECTIONS[turn % 2].fetch_add(1, Ordering::Relaxed);
        let port = ports[turn % 2];
        tokio::spawn(async move {
            let mut outgoing = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // However one of them ends it, it is over.
            let _ = tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await;
        });
    }
}
