//! The watches of what we keep in tenants' namespaces: each object becomes a record and is dropped.

use api::capsule::names;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use runtime::report::chain;
use runtime::{Queue, Shutdown};
use tokio::sync::watch;

use crate::owned::{Kept, Noticed, Owned};

/// Watches one kind until the shutdown, tells the queue which tenants are concerned, and says when the first list is complete.
pub(crate) fn follow<K: Kept>(
    client: &Client,
    owned: &Owned,
    queue: &Queue<String>,
    shutdown: &Shutdown,
) -> watch::Receiver<bool> {
    let (listed, ready) = watch::channel(false);
    let api: Api<K> = Api::all(client.clone());
    let selector = format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY_CONTROLLER);
    let (owned, queue, shutdown) = (owned.clone(), queue.clone(), shutdown.clone());
    tokio::spawn(async move {
        let mut events = Box::pin(watcher(api, watcher::Config::default().labels(&selector)).default_backoff());
        let mut failing = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = shutdown.cancelled() => return,
            };
            let Some(event) = event else { return };
            let noticed = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => owned.seen(&object),
                Ok(watcher::Event::Delete(object)) => owned.gone(&object),
                Ok(watcher::Event::Init) => {
                    owned.list_begins::<K>();
                    Noticed::Nothing
                }
                Ok(watcher::Event::InitDone) => {
                    let noticed = owned.list_ends::<K>();
                    listed.send_replace(true);
                    noticed
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(kind = K::KIND.name(), error = chain(&error), "watch was interrupted");
                    }
                    failing = true;
                    continue;
                }
            };
            failing = false;
            if let Noticed::Tenants(tenants) = noticed {
                for tenant in tenants {
                    queue.enqueue(tenant.to_string());
                }
            }
        }
    });
    ready
}
