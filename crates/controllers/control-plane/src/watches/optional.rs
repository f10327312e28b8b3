//! A kind that a cluster may not serve: those of the Gateway API, which somebody installs.
//!
//! It is looked for now and then, and at once when somebody asks for it, so that nobody has to start the operator again
//! for it. Nothing waits for it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// When it was said last that the kind is not there for us.
    missed: Arc<Mutex<Option<Instant>>>,
}

impl<K> Clone for Optional<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn clone(&self) -> Self {
        Self {
            watch: self.watch.clone(),
            asked: self.asked.clone(),
            missed: self.missed.clone(),
        }
    }
}

/// From when on a kind is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    AtOnce,
    WhenAsked,
}

impl<K> Optional<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Begins to look for the kind. Must be called inside a tokio runtime.
    pub(super) fn start(client: &Client, from: Looked, trim: fn(&mut K), shutdown: &Shutdown) -> Self {
        let (found, watch) = watch::channel(None);
        let (asked, missed) = (Arc::<Notify>::default(), Arc::<Mutex<Option<Instant>>>::default());
        let optional = Self {
            watch,
            asked: asked.clone(),
            missed: missed.clone(),
        };
        let (api, shutdown) = (Api::<K>::all(client.clone()), shutdown.clone());
        tokio::spawn(async move {
            let look = async {
                if from == Looked::WhenAsked {
                    asked.notified().await;
                }
                while let Err(error) = api.list(&ListParams::default().limit(1)).await {
                    // Not there, and not to be read by us, is the same here.
                    if matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 404)) {
                        *missed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                    }
                    tokio::time::sleep(SHORTEST).await;
                    // Whichever is first: the next look tells.
                    let _ = tokio::time::timeout(ABSENT, asked.notified()).await;
                }
                let watch = Shared::start(api.clone(), watcher::Config::default(), trim, &shutdown);
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

    /// Whether it is known if the kind is served. It is looked for if not: somebody may have installed it meanwhile.
    pub(crate) fn is_known(&self) -> bool {
        let missed = *self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_served() || missed.is_some_and(|at| at.elapsed() < 2 * SHORTEST)
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
