//! Classes of a kind that a cluster may not serve: of Gateways, which somebody installs, and of devices, which a feature brings.
//!
//! A kind that is not there is looked for again now and then, so that nobody has to start the operator again for it. Only
//! names and labels are read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use runtime::Shutdown;
use runtime::report::chain;
use tokio::sync::watch;

use crate::desired::Class;

/// Between two looks for a kind that is not served.
const ABSENT: Duration = Duration::from_mins(5);

type Object = PartialObjectMeta<DynamicObject>;

/// The classes of one kind. Cheap to clone.
#[derive(Clone)]
pub(super) struct Optional {
    classes: Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>,
    /// How often they have changed; 0 until it is known which there are, or that there is no such kind.
    changes: watch::Receiver<u64>,
}

impl Optional {
    /// Begins to watch. Must be called inside a tokio runtime.
    pub(super) fn start(client: &Client, resource: ApiResource, shutdown: &Shutdown) -> Self {
        let (sender, changes) = watch::channel(0);
        let classes = Arc::default();
        let follow = Follow {
            api: Api::all_with(client.clone(), &resource),
            kind: resource.kind,
            classes: Arc::clone(&classes),
            changes: sender,
        };
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = follow.run() => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self { classes, changes }
    }

    /// Waits until it is known which classes there are. `false` if the watch ended before.
    pub(super) async fn ready(&self) -> bool {
        self.changes.clone().wait_for(|changes| *changes > 0).await.is_ok()
    }

    /// Those that exist now, sorted by name.
    pub(super) fn listed(&self) -> Arc<[Class]> {
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        classes
            .iter()
            .map(|(name, labels)| (name.clone(), labels.clone()))
            .collect()
    }

    /// Calls `changed` after each change from now on.
    pub(super) fn on_change(&self, changed: impl Fn() + Send + 'static) {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                changed();
            }
        });
    }
}

/// The watch's task.
struct Follow {
    api: Api<Object>,
    kind: String,
    classes: Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>,
    changes: watch::Sender<u64>,
}

impl Follow {
    async fn run(self) {
        loop {
            self.wait_for_the_kind().await;
            self.watch().await;
        }
    }

    /// Until the kind is served. That it is not is an answer, too; that it may not be read is the same to us.
    async fn wait_for_the_kind(&self) {
        let mut failing = false;
        loop {
            match self.api.list(&ListParams::default().limit(1)).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if [403, 404].contains(&status.code) => {
                    if status.code == 403 && !failing {
                        tracing::warn!(
                            kind = self.kind,
                            "classes may not be listed; they are missing in status.classes"
                        );
                        failing = true;
                    }
                    self.replace(BTreeMap::new());
                    tokio::time::sleep(ABSENT).await;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(kind = self.kind, error = chain(&error), "watch was interrupted");
                        failing = true;
                    }
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        }
    }

    /// Until the kind is gone.
    async fn watch(&self) {
        let events = watcher(self.api.clone(), watcher::Config::default()).default_backoff();
        let (mut events, mut list) = (Box::pin(events), BTreeMap::new());
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => list.clear(),
                Ok(watcher::Event::InitApply(class)) => {
                    list.insert(class.name_any(), class.labels().clone());
                }
                Ok(watcher::Event::InitDone) => self.replace(std::mem::take(&mut list)),
                Ok(watcher::Event::Apply(class)) => {
                    self.change(|classes| classes.insert(class.name_any(), class.labels().clone()));
                }
                Ok(watcher::Event::Delete(class)) => self.change(|classes| classes.remove(&class.name_any())),
                Err(
                    watcher::Error::InitialListFailed(kube::Error::Api(status))
                    | watcher::Error::WatchStartFailed(kube::Error::Api(status)),
                ) if status.code == 404 => {
                    return;
                }
                Err(error) => tracing::debug!(kind = self.kind, error = chain(&error), "watch was interrupted"),
            }
        }
    }

    fn replace(&self, now: BTreeMap<String, BTreeMap<String, String>>) {
        self.change(|classes| *classes = now);
    }

    /// Tells who waits only of what is news, or the first there is.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, BTreeMap<String, String>>) -> T) {
        let is_news = {
            let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
            let before = classes.clone();
            change(&mut classes);
            *classes != before
        };
        self.changes.send_if_modified(|changes| {
            let tell = is_news || *changes == 0;
            *changes += u64::from(tell);
            tell
        });
    }
}
