//! One object of a replication: cleaned of what belongs to another life of it, and put where it may be.

use std::collections::BTreeSet;

use api::capsule::names;
use api::capsule::v1beta2::{Metadata, ReplicationScope};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value, json};

use super::limits;
use crate::name::is_dns_subdomain;

/// Labels that say who made and who keeps an object. Admission and the operator write them, never the author of an object.
const MARKS: [&str; 5] = [
    names::CREATED_BY_LABEL,
    names::MANAGED_BY_LABEL,
    names::PROJECT_TENANT_LABEL,
    names::MANAGED_BY_TENANT,
    names::LEGACY_REPLICATED_LABEL,
];
/// What of its metadata the author of an object says.
const METADATA: [&str; 6] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
];

/// A kind of object, exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group, empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

impl Kind {
    /// Of an object.
    ///
    /// # Errors
    /// If it does not say.
    pub fn of(object: &Value) -> Result<Self, String> {
        let text = |field: &str| object[field].as_str().filter(|text| !text.is_empty());
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            return Err("an object needs apiVersion and kind".to_owned());
        };
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        })
    }

    /// `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether an object of it is a replication itself.
    pub fn is_replication(&self) -> bool {
        self.group == names::GROUP && matches!(self.kind.as_str(), "TenantResource" | "GlobalTenantResource")
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.kind, self.api_version())
    }
}

/// What of an existing object goes into a copy of it. Labels that the copy was selected by stay behind, or the copy would be
/// selected as well.
pub fn copied(source: &Value, selector: Option<&LabelSelector>) -> Value {
    let mut copy = source.clone();
    if let Some(fields) = copy.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = copy["metadata"].as_object_mut() {
        metadata.retain(|field, _| matches!(field.as_str(), "name" | "labels" | "annotations"));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(names::LAST_APPLIED);
        }
        if let (Some(labels), Some(selector)) = (metadata.get_mut("labels").and_then(Value::as_object_mut), selector) {
            let keys = selector.match_labels.iter().flatten().map(|(key, _)| key);
            let expressions = selector.match_expressions.iter().flatten().map(|it| &it.key);
            let keys: BTreeSet<_> = keys.chain(expressions).collect();
            labels.retain(|key, _| !keys.contains(key));
        }
    }
    cleaned(copy)
}

/// What templates see of an existing object.
pub fn sanitised(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    without_bookkeeping(object)
}

/// An object without managed fields and what `kubectl apply` remembers.
pub fn without_bookkeeping(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(names::LAST_APPLIED);
        }
    }
    object
}

/// Whether an existing object is left out of copies: an older version of the peer made it as a copy itself.
pub fn is_left_out(source: &Value) -> bool {
    source["metadata"]["labels"][names::CREATED_BY_LABEL] == "resources"
}

/// Without what the API server keeps of an object, and without marks of ownership.
pub fn cleaned(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| METADATA.contains(&field.as_str()));
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| !MARKS.contains(&key.as_str()));
        }
        metadata.retain(|_, value| !(value.is_null() || value.as_object().is_some_and(Map::is_empty)));
    }
    object
}

/// Labels and annotations that every object of a block gets.
pub fn with_metadata(mut object: Value, metadata: &Metadata) -> Value {
    if !object["metadata"].is_object() {
        return object;
    }
    for (field, more) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        if more.is_empty() {
            continue;
        }
        if !object["metadata"][field].is_object() {
            object["metadata"][field] = json!({});
        }
        for (key, value) in more {
            object["metadata"][field][key] = json!(value);
        }
    }
    object
}

/// What a value takes in memory, roughly, in bytes: its texts, and something for each value.
pub fn weight(value: &Value) -> usize {
    const VALUE: usize = 64;
    VALUE
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + weight(value)).sum(),
            _ => 0,
        }
}

/// Where objects of a replication may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Of a TenantResource: in the namespace that is filled.
    OfTenant,
    /// Of a GlobalTenantResource that fills namespaces: the same, and replications too.
    Namespace,
    /// Of other GlobalTenantResources: where the object says, also outside of namespaces.
    Declared,
}

impl Reach {
    /// Of a GlobalTenantResource.
    pub fn global(scope: ReplicationScope) -> Self {
        match scope {
            ReplicationScope::Namespace => Self::Namespace,
            ReplicationScope::Tenant | ReplicationScope::None => Self::Declared,
        }
    }
}

/// An object that can be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, empty if its kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All of it.
    pub object: Value,
}

/// An object where it may be, or why it may not. Whatever namespace the author wrote, a replication that fills namespaces writes
/// into those alone.
///
/// # Errors
/// In words for the author.
pub fn place(object: Value, is_cluster_scoped: bool, reach: Reach, target: &str) -> Result<Placed, String> {
    let (kind, mut object) = (Kind::of(&object)?, object);
    if is_cluster_scoped && reach != Reach::Declared {
        return Err(format!(
            "cluster-scoped kind {kind} is not allowed in a replication into namespaces"
        ));
    }
    if reach == Reach::OfTenant && kind.is_replication() {
        return Err(format!(
            "kind {kind} is not allowed: a tenant's replication cannot make replications"
        ));
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(format!("{}: metadata.name is missing", kind.kind));
    };
    let name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if !is_object_name(&name) {
        return Err(format!(
            "{}: metadata.name {name:?} is no name of an object; names are at most 253 characters without / and %",
            kind.kind
        ));
    }
    let namespace = match (is_cluster_scoped, reach) {
        (true, _) => String::new(),
        (false, Reach::OfTenant | Reach::Namespace) => target.to_owned(),
        (false, Reach::Declared) => {
            let declared = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
            if !is_dns_subdomain(declared) {
                return Err(format!(
                    "{} {name}: metadata.namespace {declared:?} is no namespace; outside of scope Namespace an object has \
                     to say where it belongs",
                    kind.kind
                ));
            }
            declared.to_owned()
        }
    };
    metadata.remove("namespace");
    if !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    let bytes = object.to_string().len();
    if bytes > limits::OBJECT_BYTES {
        return Err(format!(
            "{} {name} has {bytes} bytes; at most {} are allowed",
            kind.kind,
            limits::OBJECT_BYTES
        ));
    }
    Ok(Placed {
        kind,
        namespace,
        name,
        object,
    })
}

/// What Kubernetes takes as a segment of a path; kinds may ask for more. The name becomes part of a request's path, so what would
/// lead out of it is refused here.
pub fn is_object_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !matches!(name, "." | "..")
        && name
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '%' | '?' | '#' | '\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "Yg=="}, "status": {"x": 1},
            "metadata": {"name": "s", "namespace": "oil-a", "uid": "1", "resourceVersion": "2", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"],
                "ownerReferences": [{"kind": "X"}], "managedFields": [],
                "labels": {"copy": "yes", "app": "web", "projectcapsule.dev/tenant": "oil", "projectcapsule.dev/created-by": "replications"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "n"}}
        })
    }

    #[test]
    fn a_copy_has_nothing_of_the_life_of_its_source() {
        let selector = serde_json::from_value(json!({"matchLabels": {"copy": "yes"}})).unwrap();
        assert_eq!(
            copied(&secret(), Some(&selector)),
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "Yg=="},
                "metadata": {"name": "s", "labels": {"app": "web"}, "annotations": {"note": "n"}}})
        );
    }

    #[test]
    fn a_tenant_gets_namespaced_kinds_in_the_namespace_that_is_filled() {
        let rows = [
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "kube-system"}}),
                false,
                Ok("oil-b"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "../../x"}}),
                false,
                Err("no name of an object"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}}),
                false,
                Err("no name of an object"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Secret"}),
                false,
                Err("metadata.name is missing"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
                true,
                Err("cluster-scoped kind Namespace (v1) is not allowed"),
            ),
            (
                json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantResource", "metadata": {"name": "n"}}),
                false,
                Err("cannot make replications"),
            ),
            (
                json!({"kind": "Secret", "metadata": {"name": "s"}}),
                false,
                Err("needs apiVersion"),
            ),
        ];
        for (object, is_cluster_scoped, expected) in rows {
            let placed = place(object.clone(), is_cluster_scoped, Reach::OfTenant, "oil-b");
            match (placed, expected) {
                (Ok(placed), Ok(namespace)) => {
                    assert_eq!(placed.namespace, namespace);
                    assert_eq!(placed.object["metadata"]["namespace"], namespace);
                }
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{said}"),
                (placed, _) => panic!("{object}: {placed:?}"),
            }
        }
    }

    #[test]
    fn an_administrator_says_where_objects_go_once_per_tenant() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r", "namespace": "x"}});
        let placed = place(role.clone(), true, Reach::Declared, "").unwrap();
        assert_eq!(
            (placed.namespace.as_str(), &placed.object["metadata"]),
            ("", &json!({"name": "r"}))
        );
        assert!(
            place(role, true, Reach::Namespace, "oil-a")
                .unwrap_err()
                .contains("cluster-scoped")
        );
        let secret = |namespace: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "r", "namespace": namespace}});
        assert_eq!(
            place(secret(json!("a")), false, Reach::Declared, "").unwrap().namespace,
            "a"
        );
        assert!(place(secret(Value::Null), false, Reach::Declared, "").is_err());
    }

    #[test]
    fn small_values_weigh_too() {
        assert_eq!(weight(&json!([1, "ab", {"c": null}])), 5 * 64 + 3);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "x".repeat(limits::OBJECT_BYTES)}});
        assert!(
            place(object, false, Reach::OfTenant, "a")
                .unwrap_err()
                .contains("at most 1048576")
        );
    }
}
