//! What stays of a burst of requests to the admin cluster's API server: nothing.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use kube::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, mpsc};

const BURST: usize = 8;

const VERSION: &str = r#"{"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
    "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;

/// Answers when the whole burst has come, and gives how often it was asked before the other side closed.
async fn serve(mut connection: TcpStream, together: Arc<Barrier>) -> usize {
    let (mut asked, mut buffer) = (0, vec![0; 4096]);
    loop {
        let read = connection.read(&mut buffer).await.unwrap();
        if read == 0 {
            return asked;
        }
        asked += 1;
        assert!(buffer[..read].ends_with(b"\r\n\r\n"), "a request in one piece");
        together.wait().await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", VERSION.len());
        connection.write_all((head + VERSION).as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn connections_of_a_burst_serve_the_next_and_end_when_there_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, mut ended) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let together = Arc::new(Barrier::new(BURST));
        while let Ok((connection, _)) = listener.accept().await {
            let (tell, together) = (tell.clone(), together.clone());
            tokio::spawn(async move { tell.send(serve(connection, together).await) });
        }
    });
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    let client = runtime::client::build(config, "test").unwrap();
    for _ in 0..2 {
        try_join_all((0..BURST).map(|_| client.apiserver_version()))
            .await
            .unwrap();
    }
    let mut asked = Vec::new();
    while asked.iter().sum::<usize>() < 2 * BURST {
        asked.push(
            tokio::time::timeout(Duration::from_mins(1), ended.recv())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    // One that is not back yet when the second burst begins may have another beside it.
    assert!(asked.contains(&2), "{asked:?}");
}
