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
pub const NOTE_BYTES: usize = 1024;
const REMEMBERED: usize = 4096;

/// Writes Events in the name of one controller. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    inner: KubeRecorder,
    /// The namespace of Events about objects in no namespace; `None` from it, or without it: `default`.
    home: Option<Arc<dyn Fn() -> Option<String> + Send + Sync>>,
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
            home: None,
            recent: Arc::default(),
            hasher: RandomState::new(),
        }
    }

    /// The same recorder, which puts Events about objects in no namespace where `home` says, each time anew.
    #[must_use]
    pub fn with_home(self, home: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            home: Some(Arc::new(home)),
            ..self
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
            note: Some(shortened(note, NOTE_BYTES)),
            action: action.to_owned(),
            secondary: None,
        };
        let placed = placed(about, self.home.as_ref().and_then(|home| home()));
        if let Err(error) = self.inner.publish(&event, &placed).await {
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

/// The reference by which an Event gets into its namespace: that of the object, or `home` if that is in none. The API server
/// takes Events that name no namespace in `default`, where people look for them; there the reference stays as it is.
fn placed(about: &ObjectReference, home: Option<String>) -> ObjectReference {
    let home = home.filter(|home| !home.is_empty() && home != "default");
    ObjectReference {
        namespace: about.namespace.clone().or(home),
        ..about.clone()
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

/// The text in at most so many bytes; where it is cut, between two characters, it ends with `…`, which takes three of them.
pub fn shortened(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_the_namespace_of_their_object_or_at_home() {
        let about = |namespace: Option<&str>| ObjectReference {
            name: Some("oil".to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ObjectReference::default()
        };
        for (of_object, home, expected) in [
            (Some("web"), Some("capsule-system"), Some("web")),
            (None, Some("capsule-system"), Some("capsule-system")),
            (None, Some("default"), None),
            (None, Some(""), None),
            (None, None, None),
        ] {
            let placed = placed(&about(of_object), home.map(str::to_owned));
            assert_eq!(
                (placed.namespace.as_deref(), placed.name.as_deref()),
                (expected, Some("oil"))
            );
        }
    }

    #[test]
    fn notes_keep_within_the_limit_and_whole_characters() {
        assert_eq!(shortened("short", NOTE_BYTES), "short");
        let long = "ä".repeat(600);
        let cut = shortened(&long, NOTE_BYTES);
        assert!(
            cut.len() <= 1024 && cut.ends_with('…') && cut.len() >= 1022,
            "{}",
            cut.len()
        );
    }
}
