//! Controllers that take part in a test.

use std::fmt::Debug;

use kube::runtime::watcher;
use kube::{Api, Client};
use runtime::{Shared, Shutdown};
use serde::de::DeserializeOwned;

use super::served::{US, served};

/// Runs controllers for as long as the test binary runs, whichever of its tests began them.
pub async fn run<E: Debug>(controllers: impl AsyncFnOnce(Client, Shutdown) -> Result<(), E> + Send + 'static) {
    let server = served().await.server;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = server.client_for(US, &["system:masters"]).await;
            controllers(client, Shutdown::new()).await.unwrap();
        });
    });
}

/// All objects of a kind.
pub fn all<K>(client: &Client, shutdown: &Shutdown) -> Shared<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, shutdown)
}
