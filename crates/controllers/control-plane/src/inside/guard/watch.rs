//! One watch, of metadata.
//!
//! Not kube's watcher: that sets 8 KiB aside for what is read of each, and there are fourteen for every tenant, which say nothing
//! for an hour. This one holds nothing but what it compares with between two events.

use std::collections::BTreeSet;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource as _};
use tokio::time::Instant;

use super::super::Kind;
use super::drift::Seen;

/// In seconds. A connection that is dead is noticed by TCP long before.
const LASTS: u32 = 60 * 60;

/// Objects of one page of a list. Tenants may have made any number.
const PAGE: u32 = 100;

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Object = PartialObjectMeta<DynamicObject>;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error("an event cannot be read")]
    Event(#[from] serde_json::Error),
    #[error("the watch was cut off")]
    Read(#[from] std::io::Error),
    #[error("the watch has failed: {0}")]
    Ended(String),
}

/// The objects of one kind in one namespace, or in none.
pub(super) struct Watch {
    tenant: Client,
    kind: Kind,
    namespace: Option<&'static str>,
    seen: Seen,
}

impl Watch {
    pub(super) fn new(tenant: &Client, kind: Kind, namespace: Option<&'static str>, names: BTreeSet<String>) -> Self {
        Self {
            tenant: tenant.clone(),
            kind,
            namespace,
            seen: Seen::new(names),
        }
    }

    /// Never ends. Between two watches there is a list, from which it is seen what happened meanwhile, and a pause, which
    /// grows while a server ends each watch soon.
    pub(super) async fn run(mut self, drifted: &impl Fn()) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times();
        let mut pause = pauses.build();
        loop {
            let begun = Instant::now();
            if let Err(error) = self.once(drifted).await {
                let error = runtime::report::chain(&error);
                tracing::debug!(kind = ?self.kind, namespace = self.namespace, error, "a watch of a tenant ended");
            }
            if begun.elapsed() > LONGEST_PAUSE {
                pause = pauses.build();
            }
            tokio::time::sleep(pause.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// Lists and watches until the server ends it, as it does after [`LASTS`].
    async fn once(&mut self, drifted: &impl Fn()) -> Result<(), Error> {
        // What asks takes more room than what waits for answers, and is not needed while that does.
        let version = Box::pin(self.list(drifted)).await?;
        let resource = self.kind.resource();
        let mut asked = WatchParams::default().timeout(LASTS).disable_bookmarks();
        asked.field_selector = self.selector();
        let request = kube::core::Request::new(DynamicObject::url_path(&resource, self.namespace))
            .watch_metadata(&asked, &version)
            .map_err(kube::Error::BuildRequest)?;
        let mut lines = Box::pin(self.tenant.request_stream(request)).await?.lines();
        while let Some(line) = lines.try_next().await? {
            let news = match serde_json::from_str::<WatchEvent<Object>>(&line)? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.seen.written(&object.metadata),
                WatchEvent::Deleted(object) => self.seen.deleted(&object.metadata),
                WatchEvent::Bookmark(_) => false,
                WatchEvent::Error(status) => return Err(Error::Ended(status.to_string())),
            };
            if news {
                drifted();
            }
        }
        Ok(())
    }

    /// The server need not tell of others, where there is one to hear of.
    fn selector(&self) -> Option<String> {
        self.seen.only().map(|name| format!("metadata.name={name}"))
    }

    /// Gives the version from which to watch.
    async fn list(&mut self, drifted: &impl Fn()) -> Result<String, Error> {
        let resource = self.kind.resource();
        let api: Api<DynamicObject> = match self.namespace {
            Some(namespace) => Api::namespaced_with(self.tenant.clone(), namespace, &resource),
            None => Api::all_with(self.tenant.clone(), &resource),
        };
        let mut page = ListParams::default().limit(PAGE);
        page.field_selector = self.selector();
        let mut kept = Vec::new();
        let version = loop {
            let list = api.list_metadata(&page).await?;
            let objects = list.items.into_iter().map(|object| object.metadata);
            kept.extend(objects.filter(|object| self.seen.kept(object).is_some()));
            let more = list.metadata.continue_.filter(|token| !token.is_empty());
            let Some(token) = more else {
                break list.metadata.resource_version.unwrap_or_default();
            };
            page = page.continue_token(&token);
        };
        if self.seen.list(&kept) {
            drifted();
        }
        Ok(version)
    }
}
