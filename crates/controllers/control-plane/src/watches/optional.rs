//! A kind that a cluster may not serve: those of the Gateway API, which somebody installs.
//!
//! It is looked for now and then, and at once when somebody asks for it, so that nobody has to start the operator again
//! for it. Nothing waits for it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use runtime::{Queue, Shared, Shutdown};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use super::Key;

/// Between two looks for a kind that nobody asks for.
const ABSENT: Duration = Duration::from_mins(5);
/// Between two looks for one that somebody asks for again and again.
const SHORTEST: Duration = Duration::from_secs(5);

/// The watch of a kind, once it is served. Cheap to clone.
pub(crate) struct Optional<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// `None` as long as the kind is not served. Its sender lives as long as the process.
    watch: watch::Receiver<Option<Shared<K>>>,
    asked: Arc<Notify>,
}

impl<K> Clone for Optional<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn clone(&self) -> Self {
        Self {
            watch: self.watch.clone(),
            asked: self.asked.clone(),
        }
    }
}

impl<K> Optional<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Begins to look for the kind. Must be called inside a tokio runtime.
    pub(super) fn start(client: &Client, config: watcher::Config, trim: fn(&mut K), shutdown: &Shutdown) -> Self {
        let (found, watch) = watch::channel(None);
        let asked = Arc::<Notify>::default();
        let optional = Self {
            watch,
            asked: asked.clone(),
        };
        let (api, shutdown) = (Api::<K>::all(client.clone()), shutdown.clone());
        tokio::spawn(async move {
            let look = async {
                // Not there, and not to be read by us, is the same here.
                while api.list(&ListParams::default().limit(1)).await.is_err() {
                    tokio::time::sleep(SHORTEST).await;
                    // Whichever is first: the next look tells.
                    let _ = tokio::time::timeout(ABSENT, asked.notified()).await;
                }
                let watch = Shared::start(api.clone(), config, trim, &shutdown);
                watch.ready().await;
                found.send_replace(Some(watch));
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = look => {}
                () = shutdown.cancelled() => {}
            }
        });
        optional
    }

    /// Whether the kind is served, as far as is known. Who is told that it is not is put into the queue when it is.
    pub(crate) fn is_served(&self) -> bool {
        let served = self.watch.borrow().is_some();
        if !served {
            self.asked.notify_one();
        }
        served
    }

    /// The object of that name, if it is known.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.watch.borrow().as_ref()?.get(Some(namespace), name)
    }

    /// Every object that is known.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        let watch = self.watch.borrow();
        watch.as_ref().map(|watch| watch.store().state()).unwrap_or_default()
    }

    /// Puts what `keys` says into the queue for every change, and what `waiting` says when the kind is there.
    pub(super) fn trigger(
        &self,
        queue: &Queue<Key>,
        waiting: impl FnOnce() -> Vec<Key> + Send + 'static,
        keys: impl Fn(&K) -> Vec<Key> + Send + 'static,
    ) {
        let (mut watch, queue) = (self.watch.clone(), queue.clone());
        tokio::spawn(async move {
            let Ok(found) = watch.wait_for(Option::is_some).await.map(|found| found.clone()) else {
                return;
            };
            for key in waiting() {
                queue.enqueue(key);
            }
            let Some(mut changes) = found.map(|watch| watch.changes()) else {
                return;
            };
            while let Some(change) = changes.next().await {
                for key in keys(change.object()) {
                    queue.enqueue(key);
                }
            }
        });
    }
}
