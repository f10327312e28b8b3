//! What the stub of one API server holds, and how it answers: as much of the API as the operator uses inside of a tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// What is sent back.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Json(u16, Value),
    Text(&'static str),
    /// Nothing happens for so long.
    Watch(Duration),
}

/// A request that is answered.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

impl Asked<'_> {
    /// As audit logs call it.
    pub(super) fn verb(&self) -> &'static str {
        match self.method {
            "GET" if self.parameter("watch").is_some() => "WATCH",
            "GET" if is_object(self.path) == Some(false) => "LIST",
            "GET" => "GET",
            "PATCH" => "APPLY",
            "DELETE" => "DELETE",
            _ => "OTHER",
        }
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// Objects by their path.
pub(super) struct Objects {
    kubernetes: String,
    stored: BTreeMap<String, Value>,
    version: u64,
}

impl Objects {
    pub(super) fn new(kubernetes: String) -> Self {
        Self {
            kubernetes,
            stored: BTreeMap::new(),
            version: 1,
        }
    }

    pub(super) fn answer(&mut self, asked: &Asked<'_>) -> Answer {
        let path = asked.path;
        match (asked.verb(), path) {
            ("GET", "/readyz" | "/livez" | "/healthz") => Answer::Text("ok"),
            ("GET", "/version") => Answer::Json(200, self.version_info()),
            ("WATCH", _) => {
                let seconds = asked.parameter("timeoutSeconds").and_then(|text| text.parse().ok());
                Answer::Watch(Duration::from_secs(seconds.unwrap_or(300)))
            }
            ("LIST", _) => Answer::Json(200, self.list(path)),
            ("GET", _) => self
                .stored
                .get(path)
                .map_or_else(|| missing(path), |found| Answer::Json(200, found.clone())),
            ("APPLY", _) => self.apply(path, asked),
            ("DELETE", _) => match self.stored.remove(path) {
                Some(_) => Answer::Json(200, status("Success", "", 200, path)),
                None => missing(path),
            },
            _ => Answer::Json(405, status("Failure", "MethodNotAllowed", 405, path)),
        }
    }

    fn version_info(&self) -> Value {
        let mut parts = self.kubernetes.trim_start_matches('v').split('.');
        json!({
            "major": parts.next(), "minor": parts.next(), "gitVersion": self.kubernetes, "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        })
    }

    /// Metadata only, because nobody asks for more than that.
    fn list(&self, path: &str) -> Value {
        let below = format!("{path}/");
        let items = self.stored.iter().filter(|(path, _)| path.starts_with(&below));
        let items: Vec<Value> = items
            .map(|(_, object)| {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
            })
            .collect();
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items,
        })
    }

    /// One manager owns all, so an apply replaces what was there.
    fn apply(&mut self, path: &str, asked: &Asked<'_>) -> Answer {
        let (Ok(mut object), Some(manager)) = (
            serde_json::from_slice::<Value>(asked.body),
            asked.parameter("fieldManager"),
        ) else {
            return Answer::Json(400, status("Failure", "BadRequest", 400, path));
        };
        self.version += 1;
        let now = jiff::Timestamp::now().to_string();
        let new = json!({"uid": format!("stub-{}", self.version), "creationTimestamp": now});
        let old = self.stored.get(path).map_or(&new, |old| &old["metadata"]);
        let (uid, created) = (old["uid"].clone(), old["creationTimestamp"].clone());
        let fields = owned(&object);
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Answer::Json(400, status("Failure", "BadRequest", 400, path));
        };
        metadata.insert("uid".to_owned(), uid);
        metadata.insert("creationTimestamp".to_owned(), created);
        metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        let entry = json!({
            "manager": manager, "operation": "Apply", "apiVersion": object["apiVersion"], "time": now,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        });
        object["metadata"]["managedFields"] = json!([entry]);
        self.stored.insert(path.to_owned(), object.clone());
        Answer::Json(200, object)
    }
}

/// Whether the path names an object; `None` if it is none of the API's.
fn is_object(path: &str) -> Option<bool> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (["api", _, below @ ..] | ["apis", _, _, below @ ..]) = parts.as_slice() else {
        return None;
    };
    // Pairs of a plural and a name, the last without its name in a list.
    Some(below.len().is_multiple_of(2))
}

/// Fields of an object as `managedFields` spells them; lists are owned whole.
fn owned(value: &Value) -> Map<String, Value> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| (format!("f:{name}"), Value::Object(owned(value))))
        .collect()
}

fn missing(path: &str) -> Answer {
    Answer::Json(404, status("Failure", "NotFound", 404, path))
}

fn status(status: &str, reason: &str, code: u16, path: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": status, "message": path, "reason": reason, "code": code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kubeadm:get-nodes";

    fn ask(objects: &mut Objects, method: &str, path: &str, query: &str, body: &Value) -> Answer {
        objects.answer(&Asked {
            method,
            path,
            query,
            body: body.to_string().as_bytes(),
        })
    }

    #[test]
    fn what_was_applied_is_read_back_with_its_owner_and_the_same_uid() {
        let mut objects = Objects::new("v1.36.3".to_owned());
        let Answer::Json(404, _) = ask(&mut objects, "GET", BINDING, "", &Value::Null) else {
            panic!("there is nothing yet");
        };
        let wanted = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubeadm:get-nodes"}, "subjects": [{"kind": "Group", "name": "nodes"}]});
        let Answer::Json(200, first) = ask(&mut objects, "PATCH", BINDING, "force=true&fieldManager=us", &wanted)
        else {
            panic!("an apply is served");
        };
        let Answer::Json(200, second) = ask(&mut objects, "PATCH", BINDING, "fieldManager=us", &wanted) else {
            panic!("an apply is served");
        };
        assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
        assert_eq!(second["subjects"], wanted["subjects"]);
        let entry = &second["metadata"]["managedFields"][0];
        assert_eq!(
            (&entry["manager"], &entry["operation"]),
            (&json!("us"), &json!("Apply"))
        );
        assert_eq!(entry["fieldsV1"]["f:subjects"], json!({}));
        assert_eq!(entry["fieldsV1"]["f:metadata"], json!({"f:name": {}}));
        let Answer::Json(200, list) = ask(
            &mut objects,
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            "limit=100",
            &Value::Null,
        ) else {
            panic!("a list is served");
        };
        assert_eq!(list["items"][0]["metadata"]["name"], "kubeadm:get-nodes");
        assert!(list["items"][0].get("subjects").is_none());
    }

    #[test]
    fn verbs_are_those_of_audit_logs() {
        for (method, path, query, verb) in [
            ("GET", "/api/v1/namespaces/kube-system/configmaps", "limit=1", "LIST"),
            (
                "GET",
                "/api/v1/namespaces/kube-system/configmaps",
                "watch=true",
                "WATCH",
            ),
            ("GET", "/api/v1/namespaces/kube-system/configmaps/coredns", "", "GET"),
            ("GET", "/api/v1/namespaces/kube-system", "", "GET"),
            ("GET", "/version", "", "GET"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/kube-system/deployments/coredns",
                "",
                "APPLY",
            ),
        ] {
            let asked = Asked {
                method,
                path,
                query,
                body: &[],
            };
            assert_eq!(asked.verb(), verb, "{method} {path}?{query}");
        }
        let mut objects = Objects::new("v1.36.3".to_owned());
        assert_eq!(
            ask(
                &mut objects,
                "GET",
                "/api/v1/nodes",
                "watch=true&timeoutSeconds=290",
                &Value::Null
            ),
            Answer::Watch(Duration::from_secs(290))
        );
    }
}
