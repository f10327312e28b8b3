//! Which kinds the API server serves, and which of them a source names.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use kube::discovery::{ApiGroup, ApiResource, Discovery, Scope, verbs};
use tenancy::quota::custom::Kinds;

/// When a kind is not found, or any kind is meant, the API server is asked again after this long.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// A kind that can be counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Served {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) is_namespaced: bool,
}

impl Served {
    pub(crate) fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: match self.group.as_str() {
                "" => self.version.clone(),
                group => format!("{group}/{}", self.version),
            },
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }
}

/// What was served when it was asked last. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServedKinds {
    client: Client,
    known: Arc<Mutex<Option<Known>>>,
}

struct Known {
    /// Of each group, the preferred version first.
    served: Arc<Vec<Served>>,
    asked: Instant,
}

impl ServedKinds {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            known: Arc::default(),
        }
    }

    /// The kinds that a source names.
    pub(crate) async fn named(&self, source: &Kinds) -> Result<Vec<Served>, kube::Error> {
        let is_open = source.kind == "*" || source.group == "*";
        let (known, age) = self.known();
        if let Some(known) = known {
            let found = named(&known, source);
            if age < LOOK_AGAIN || !(found.is_empty() || is_open) {
                return Ok(found);
            }
        }
        let served = Arc::new(self.ask().await?);
        let found = named(&served, source);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known {
            served,
            asked: Instant::now(),
        });
        Ok(found)
    }

    fn known(&self) -> (Option<Arc<Vec<Served>>>, Duration) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let age = known.as_ref().map_or(Duration::MAX, |known| known.asked.elapsed());
        (known.as_ref().map(|known| known.served.clone()), age)
    }

    async fn ask(&self) -> Result<Vec<Served>, kube::Error> {
        let discovery = Discovery::new(self.client.clone()).run_aggregated().await?;
        Ok(discovery.groups().flat_map(of_group).collect())
    }
}

fn of_group(group: &ApiGroup) -> Vec<Served> {
    let preferred = group.preferred_version_or_latest();
    let others = group.versions().filter(|version| *version != preferred);
    let versions = [preferred].into_iter().chain(others);
    let resources = versions.flat_map(|version| group.versioned_resources(version));
    resources
        .filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::WATCH))
        .map(|(resource, can)| Served {
            group: resource.group,
            version: resource.version,
            kind: resource.kind,
            plural: resource.plural,
            is_namespaced: can.scope == Scope::Namespaced,
        })
        .collect()
}

/// Of a kind in several versions, where any will do, the first.
fn named(served: &[Served], source: &Kinds) -> Vec<Served> {
    let is = |wanted: &str, value: &str| wanted == "*" || wanted == value;
    let mut found: Vec<Served> = Vec::new();
    for one in served {
        let is_meant =
            is(&source.group, &one.group) && is(&source.version, &one.version) && is(&source.kind, &one.kind);
        let is_known = found
            .iter()
            .any(|other| (&other.group, &other.kind) == (&one.group, &one.kind));
        if is_meant && !is_known {
            found.push(one.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(group: &str, version: &str, kind: &str) -> Served {
        Served {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: kind.to_lowercase(),
            is_namespaced: true,
        }
    }

    #[test]
    fn a_source_names_a_kind_in_one_version() {
        let all = [
            served("", "v1", "Pod"),
            served("autoscaling", "v2", "HorizontalPodAutoscaler"),
            served("autoscaling", "v1", "HorizontalPodAutoscaler"),
            served("velero.io", "v1", "Backup"),
        ];
        let found = |group: &str, version: &str, kind: &str| {
            let source = Kinds {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
            };
            let found = named(&all, &source);
            found
                .iter()
                .map(|one| format!("{}/{}", one.version, one.kind))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found("", "v1", "Pod"), "v1/Pod");
        assert_eq!(
            found("autoscaling", "*", "HorizontalPodAutoscaler"),
            "v2/HorizontalPodAutoscaler"
        );
        assert_eq!(
            found("autoscaling", "v1", "HorizontalPodAutoscaler"),
            "v1/HorizontalPodAutoscaler"
        );
        assert_eq!(found("apps", "v1", "Pod"), "");
        assert_eq!(found("*", "*", "*"), "v1/Pod v2/HorizontalPodAutoscaler v1/Backup");
    }
}
