//! Writing objects: server-side apply, and only when it would change something.
//!
//! An apply that changes nothing is cheap for etcd and not for us: it costs a request per object and pass. Whether one
//! is needed is decided here from the live object alone, in both directions: every field we want is there with our
//! value ([`needed`] walks the wanted object), and every field the API server lists as ours is still wanted (it walks
//! our entry of `managedFields`), so that a label dropped from the plan is dropped from the object. Fields that others
//! own, defaults the server filled in and items others added to keyed lists are none of our business.

use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Whether applying `wanted` as `manager` would change `live`. Errs on the side of applying: always when the manager
/// never applied to the object. `live` must carry its managed fields.
pub fn needed(live: &Value, wanted: &Value, manager: &str) -> bool {
    let Some(ours) = applied_fields(live, manager) else {
        return true;
    };
    object_differs(live, wanted, ours) || owns_unwanted(ours, wanted)
}

fn applied_fields<'a>(live: &'a Value, manager: &str) -> Option<&'a Fields> {
    live.pointer("/metadata/managedFields")?
        .as_array()?
        .iter()
        .find(|entry| {
            entry["manager"] == manager
                && entry["operation"] == "Apply"
                && entry.get("subresource").is_none_or(|subresource| subresource == "")
        })?
        .get("fieldsV1")?
        .as_object()
}

fn object_differs(live: &Value, wanted: &Value, ours: &Fields) -> bool {
    let (Some(live), Some(wanted)) = (live.as_object(), wanted.as_object()) else {
        return live != wanted;
    };
    wanted.iter().any(|(name, value)| {
        if value.is_null() {
            return false;
        }
        let Some(live) = live.get(name) else { return true };
        let fields = ours.get(&format!("f:{name}")).and_then(Value::as_object);
        value_differs(live, value, fields.unwrap_or(&EMPTY))
    })
}

static EMPTY: std::sync::LazyLock<Fields> = std::sync::LazyLock::new(Map::new);

fn value_differs(live: &Value, wanted: &Value, ours: &Fields) -> bool {
    match (live, wanted) {
        (Value::Object(_), Value::Object(_)) => object_differs(live, wanted, ours),
        (Value::Array(live), Value::Array(wanted)) => list_differs(live, wanted, ours),
        (Value::Number(one), Value::Number(other)) => one.as_f64() != other.as_f64(),
        _ => live != wanted,
    }
}

/// Lists that the server merges by key (our fields then hold `k:{...}`) or by value (`v:...`) may hold items of others;
/// all other lists are ours whole.
fn list_differs(live: &[Value], wanted: &[Value], ours: &Fields) -> bool {
    let keyed: Vec<(Fields, &Fields)> = ours
        .iter()
        .filter_map(|(name, fields)| {
            let key = serde_json::from_str(name.strip_prefix("k:")?).ok()?;
            Some((key, fields.as_object()?))
        })
        .collect();
    if !keyed.is_empty() {
        return wanted.iter().any(|item| {
            let Some((key, fields)) = keyed.iter().find(|(key, _)| has_key(item, key)) else {
                return true;
            };
            match live.iter().find(|live| has_key(live, key)) {
                Some(live) => value_differs(live, item, fields),
                None => true,
            }
        });
    }
    if ours.keys().any(|name| name.starts_with("v:")) {
        return wanted.iter().any(|item| !live.contains(item));
    }
    live.len() != wanted.len()
        || live
            .iter()
            .zip(wanted)
            .any(|(live, item)| value_differs(live, item, &EMPTY))
}

/// Whether the item is the one that the key names. A key field that the item leaves out is one the server defaults
/// (`protocol` of a port), so only what is there must agree.
fn has_key(item: &Value, key: &Fields) -> bool {
    key.iter()
        .all(|(name, value)| item.get(name).is_none_or(|own| own == value))
        && key.keys().any(|name| item.get(name).is_some())
}

fn owns_unwanted(ours: &Fields, wanted: &Value) -> bool {
    ours.iter().any(|(name, below)| {
        let below = below.as_object();
        let item = if let Some(field) = name.strip_prefix("f:") {
            wanted.get(field).filter(|value| !value.is_null())
        } else if let Some(key) = name.strip_prefix("k:") {
            let Ok(key) = serde_json::from_str::<Fields>(key) else {
                return true;
            };
            wanted
                .as_array()
                .and_then(|items| items.iter().find(|item| has_key(item, &key)))
        } else if let Some(value) = name.strip_prefix("v:") {
            let Ok(value) = serde_json::from_str::<Value>(value) else {
                return true;
            };
            wanted
                .as_array()
                .and_then(|items| items.iter().find(|item| **item == value))
        } else {
            // "." is the container itself.
            return false;
        };
        match (item, below) {
            (None, _) => true,
            (Some(item), Some(below)) => owns_unwanted(below, item),
            (Some(_), None) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Deployment as a 1.36 API server returns it after our apply, cut down.
    fn live() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "team", "uid": "1", "resourceVersion": "7", "generation": 1,
                "labels": {"app": "web", "theirs": "x"},
                "managedFields": [
                    {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:theirs": {}}}}},
                    {"manager": "us", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app": {}}},
                        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {
                            "f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                            "f:tolerations": {}
                        }}}
                    }}
                ]
            },
            "spec": {"replicas": 2, "progressDeadlineSeconds": 600, "template": {"spec": {
                "restartPolicy": "Always",
                "containers": [
                    {"name": "sidecar", "image": "theirs"},
                    {"name": "web", "image": "web:1", "args": ["-a", "-b"], "imagePullPolicy": "IfNotPresent",
                     "ports": [{"containerPort": 80, "protocol": "TCP"}]}
                ],
                "tolerations": [{"operator": "Exists"}]
            }}},
            "status": {"replicas": 2}
        })
    }

    fn wanted() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "team", "labels": {"app": "web"}},
            "spec": {"replicas": 2, "template": {"spec": {
                "containers": [{"name": "web", "image": "web:1", "args": ["-a", "-b"], "ports": [{"containerPort": 80}]}],
                "tolerations": [{"operator": "Exists"}]
            }}}
        })
    }

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        assert!(!needed(&live(), &wanted(), "us"));
        assert!(
            needed(&live(), &wanted(), "another"),
            "who never applied must do so once"
        );
    }

    #[test]
    fn every_difference_is_seen() {
        let rows: [(&str, &str, Value); 8] = [
            ("a value", "/spec/replicas", json!(3)),
            (
                "a value deep in a keyed list",
                "/spec/template/spec/containers/0/image",
                json!("web:2"),
            ),
            (
                "an argument more",
                "/spec/template/spec/containers/0/args",
                json!(["-a", "-b", "-c"]),
            ),
            (
                "an argument less",
                "/spec/template/spec/containers/0/args",
                json!(["-a"]),
            ),
            (
                "another port",
                "/spec/template/spec/containers/0/ports/0/containerPort",
                json!(81),
            ),
            ("a label less", "/metadata/labels", json!({})),
            ("a field less", "/spec/template/spec/tolerations", Value::Null),
            (
                "an item of a whole list",
                "/spec/template/spec/tolerations",
                json!([{"operator": "Exists"}, {"key": "x"}]),
            ),
        ];
        for (name, pointer, value) in rows {
            let mut changed = wanted();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert!(needed(&live(), &changed, "us"), "{name}");
        }
        let mut more = wanted();
        more["metadata"]["labels"]["new"] = json!("x");
        assert!(needed(&live(), &more, "us"), "a label more");
        let mut more = wanted();
        more["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "second"}));
        assert!(needed(&live(), &more, "us"), "a container more");
    }

    #[test]
    fn damage_by_others_is_seen() {
        for (name, pointer, value) in [
            ("a changed value", "/spec/replicas", json!(0)),
            (
                "a removed container",
                "/spec/template/spec/containers",
                json!([{"name": "sidecar"}]),
            ),
            (
                "an item added to a list that is ours whole",
                "/spec/template/spec/tolerations",
                json!([{"operator": "Exists"}, {}]),
            ),
        ] {
            let mut damaged = live();
            *damaged.pointer_mut(pointer).unwrap() = value;
            assert!(needed(&damaged, &wanted(), "us"), "{name}");
        }
    }
}
