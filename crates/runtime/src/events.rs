//! Events about objects, for people who look with `kubectl describe`.
//!
//! Best effort: an Event that cannot be written is logged and never fails a reconciliation. The same news about the
//! same object is written once in ten minutes, so that a retry loop does not become a write loop.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder as KubeRecorder, Reporter};
use kube::{Client, Resource, ResourceExt as _};
use tokio::time::Instant;

const QUIET: Duration = Duration::from_mins(10);
/// The API server's limit on `note`, in bytes.
const NOTE_LIMIT: usize = 1024;
const REMEMBERED: usize = 4096;

/// Writes Events in the name of one controller. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    inner: KubeRecorder,
    recent: Arc<Mutex<HashMap<u64, Instant>>>,
    hasher: RandomState,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// `controller` names us (`cotenant-operator`), `instance` the pod.
    pub fn new(client: Client, controller: &str, instance: Option<&str>) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: instance.map(str::to_owned),
        };
        Self {
            inner: KubeRecorder::new(client, reporter),
            recent: Arc::default(),
            hasher: RandomState::new(),
        }
    }

    /// Something went as it should.
    pub async fn normal<K>(&self, about: &K, reason: &str, action: &str, note: &str)
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.publish(
            &about.object_ref(&K::DynamicType::default()),
            EventType::Normal,
            reason,
            action,
            note,
        )
        .await;
    }

    /// Something needs a person's attention. `reason` is a `CamelCase` word.
    pub async fn warning<K>(&self, about: &K, reason: &str, action: &str, note: &str)
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.publish(
            &about.object_ref(&K::DynamicType::default()),
            EventType::Warning,
            reason,
            action,
            note,
        )
        .await;
    }

    pub async fn publish(&self, about: &ObjectReference, kind: EventType, reason: &str, action: &str, note: &str) {
        if !self.is_news((&about.uid, &about.name, &about.namespace, &about.kind, reason, note)) {
            return;
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: action.to_owned(),
            secondary: None,
        };
        // Events about cluster-scoped objects live in `default`.
        if let Err(error) = self.inner.publish(&event, about).await {
            let name = about.name.as_deref().unwrap_or_default();
            tracing::warn!(
                object.r#ref = name,
                reason,
                error = crate::report::chain(&error),
                "failed to write an Event"
            );
        }
    }

    fn is_news(&self, news: impl std::hash::Hash) -> bool {
        let (now, fingerprint) = (Instant::now(), self.hasher.hash_one(news));
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REMEMBERED {
            recent.retain(|_, at| now.duration_since(*at) < QUIET);
            if recent.len() >= REMEMBERED {
                recent.clear();
            }
        }
        match recent.get(&fingerprint) {
            Some(at) if now.duration_since(*at) < QUIET => false,
            _ => {
                recent.insert(fingerprint, now);
                true
            }
        }
    }
}

/// What `kubectl get events` shows as the object: kind/namespace/name.
pub fn describe<K>(object: &K) -> String
where
    K: Resource,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).to_lowercase();
    match object.namespace() {
        Some(namespace) => format!("{kind}/{namespace}/{}", object.name_any()),
        None => format!("{kind}/{}", object.name_any()),
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= NOTE_LIMIT {
        return note.to_owned();
    }
    let mut end = NOTE_LIMIT - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_within_the_limit_and_whole_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(600);
        let cut = shortened(&long);
        assert!(
            cut.len() <= 1024 && cut.ends_with('…') && cut.len() >= 1022,
            "{}",
            cut.len()
        );
    }
}
