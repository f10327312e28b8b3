//! Kinds of Kubernetes whose `spec.replicas` changes through the subresource `scale` too: `kubectl scale` and autoscalers
//! write a Scale, and never the object.
//!
//! A definition of one's own may map its scale to any field, and only it says which; such kinds are not known here.

use api::capsule::v1beta2::QuotaSource;
use serde_json::{Value, json};

use super::Kinds;

/// A kind that is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scaled {
    /// The group of its API; empty for the core.
    pub group: &'static str,
    /// The version of its API.
    pub version: &'static str,
    /// Its name in paths.
    pub resource: &'static str,
    /// The kind.
    pub kind: &'static str,
}

/// See `pkg/registry/apps/*/storage` and `pkg/registry/core/replicationcontroller/storage` of Kubernetes.
const SCALED: [Scaled; 4] = [
    of_apps("deployments", "Deployment"),
    of_apps("replicasets", "ReplicaSet"),
    of_apps("statefulsets", "StatefulSet"),
    Scaled {
        group: "",
        version: "v1",
        resource: "replicationcontrollers",
        kind: "ReplicationController",
    },
];

const fn of_apps(resource: &'static str, kind: &'static str) -> Scaled {
    Scaled {
        group: "apps",
        version: "v1",
        resource,
        kind,
    }
}

impl Scaled {
    /// The kind that a resource is of.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        let mut all = SCALED.into_iter();
        all.find(|scaled| (scaled.group, scaled.resource) == (group, resource))
    }

    /// Those that a source names and whose `spec.replicas` it may read: the word is in it.
    pub(super) fn read_by<'a>(source: &'a QuotaSource, kinds: &'a Kinds) -> impl Iterator<Item = Self> + 'a {
        let is = |wanted: &str, value: &str| wanted == "*" || wanted == value;
        let is_named = move |scaled: &Self| {
            is(&kinds.group, scaled.group) && is(&kinds.version, scaled.version) && is(&kinds.kind, scaled.kind)
        };
        let reads = super::reach::says(source, "replicas");
        SCALED.into_iter().filter(move |scaled| reads && is_named(scaled))
    }

    /// The object as it would be when a Scale is written. Without replicas a Scale says none.
    pub fn scaled(mut object: Value, scale: &Value) -> Value {
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("replicas".to_owned(), json!(replicas));
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(api_version: &str, kind: &str, path: &str) -> Vec<&'static str> {
        let source: QuotaSource =
            serde_json::from_value(json!({"apiVersion": api_version, "kind": kind, "path": path})).unwrap();
        let kinds = Kinds::of(&source.kind).unwrap();
        Scaled::read_by(&source, &kinds).map(|scaled| scaled.resource).collect()
    }

    #[test]
    fn a_source_that_reads_replicas_is_about_scales_of_its_kind() {
        assert_eq!(read("apps/v1", "Deployment", ".spec.replicas"), ["deployments"]);
        assert_eq!(read("apps", "StatefulSet", ".spec.replicas"), ["statefulsets"]);
        assert_eq!(
            read("v1", "ReplicationController", ".spec.replicas"),
            ["replicationcontrollers"]
        );
        assert_eq!(read("*", "*", ".spec.replicas").len(), 4);
        assert_eq!(read("apps/v1", "Deployment", ".metadata.generation"), [""; 0]);
        assert_eq!(read("apps/v1beta1", "Deployment", ".spec.replicas"), [""; 0]);
        assert_eq!(read("apps/v1", "DaemonSet", ".spec.replicas"), [""; 0]);
        assert_eq!(read("example.com/v1", "Deployment", ".spec.replicas"), [""; 0]);
    }

    #[test]
    fn a_scale_says_how_many_replicas_an_object_has() {
        let object = json!({"spec": {"replicas": 1, "paused": true}});
        let to = |scale: Value| Scaled::scaled(object.clone(), &scale)["spec"].clone();
        assert_eq!(
            to(json!({"spec": {"replicas": 7}})),
            json!({"replicas": 7, "paused": true})
        );
        assert_eq!(to(json!({"spec": {}})), json!({"replicas": 0, "paused": true}));
        assert_eq!(Scaled::scaled(json!([]), &json!({})), json!([]));
    }
}
