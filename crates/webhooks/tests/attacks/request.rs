//! One request, rendered from what somebody would like an object to be.

use http::{Method, Request};
use kube::{Client, Error};
use serde_json::{Map, Value, json};

use super::doors::{Door, Resource};

/// A way in which an API server takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Replace,
    Json,
    Merge,
    Strategic,
    Apply,
    Create,
    /// Server-side apply of an object that is not there.
    ApplyNew,
    /// Update of an object that is not there; some kinds are created by it.
    ReplaceNew,
    Delete,
    DeleteCollection,
}

impl Way {
    /// Ways to change what is there through this door.
    pub fn of_change(door: &Door) -> impl Iterator<Item = Self> {
        let patches = [Self::Json, Self::Merge, Self::Strategic, Self::Apply];
        let update = door.takes("update").then_some(Self::Replace);
        update
            .into_iter()
            .chain(patches.into_iter().filter(|_| door.takes("patch")))
    }

    /// Ways to make an object that is not there.
    pub fn of_making(door: &Door) -> impl Iterator<Item = Self> {
        [
            (Self::Create, "create"),
            (Self::ApplyNew, "patch"),
            (Self::ReplaceNew, "update"),
        ]
        .into_iter()
        .filter(|(_, verb)| door.subresource.is_empty() && door.takes(verb))
        .map(|(way, _)| way)
    }

    /// Ways to end an object.
    pub fn of_ending(door: &Door) -> impl Iterator<Item = Self> {
        [(Self::Delete, "delete"), (Self::DeleteCollection, "deletecollection")]
            .into_iter()
            .filter(|(_, verb)| door.subresource.is_empty() && door.takes(verb))
            .map(|(way, _)| way)
    }
}

/// Where an object is.
#[derive(Clone, Debug)]
pub struct Place {
    pub resource: Resource,
    pub namespace: Option<String>,
    pub name: String,
}

impl Place {
    pub fn path(&self, subresource: &str) -> String {
        let collection = self.resource.path(self.namespace.as_deref());
        let slash = if subresource.is_empty() { "" } else { "/" };
        format!("{collection}/{}{slash}{subresource}", self.name)
    }

    pub async fn read(&self, client: &Client) -> Option<Value> {
        match send(client, Method::GET, &self.path(""), "application/json", None).await {
            Ok(found) => Some(found),
            Err((404, _)) => None,
            Err((code, message)) => panic!("{}: {code} {message}", self.path("")),
        }
    }
}

/// Code and message of a refusal.
pub type Refusal = (u16, String);

/// Who holds the fields of what the operator applies; anybody may say that he is it.
pub const OPERATOR: &str = "cotenant";

/// Sends `new` to where `old` is, or makes it, or ends what is there. The answer is the API server's.
pub async fn write(
    client: &Client,
    place: &Place,
    subresource: &str,
    way: Way,
    old: &Value,
    new: &Value,
) -> Result<Value, Refusal> {
    let path = place.path(subresource);
    let collection = place.resource.path(place.namespace.as_deref());
    let plain = "application/json";
    let forced = format!("{path}?fieldManager={OPERATOR}&force=true");
    let (method, path, content, body) = match way {
        Way::Replace | Way::ReplaceNew => (Method::PUT, path, plain, new.clone()),
        Way::Json => {
            let patch = serde_json::to_value(json_patch::diff(old, new)).unwrap();
            (Method::PATCH, path, "application/json-patch+json", patch)
        }
        Way::Merge => (
            Method::PATCH,
            path,
            "application/merge-patch+json",
            difference(old, new),
        ),
        Way::Strategic => (
            Method::PATCH,
            path,
            "application/strategic-merge-patch+json",
            strategic(old, new),
        ),
        Way::Apply | Way::ApplyNew => (Method::PATCH, forced, "application/apply-patch+yaml", intended(new)),
        Way::Create => (Method::POST, collection, plain, new.clone()),
        Way::Delete => (Method::DELETE, path, plain, Value::Null),
        Way::DeleteCollection => {
            let one = format!("{collection}?fieldSelector=metadata.name%3D{}", place.name);
            (Method::DELETE, one, plain, Value::Null)
        }
    };
    send(
        client,
        method,
        &path,
        content,
        Some(body).filter(|body| !body.is_null()),
    )
    .await
}

/// Sends a request as it is.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content: &str,
    body: Option<Value>,
) -> Result<Value, Refusal> {
    let body = body.map(|body| serde_json::to_vec(&body).unwrap()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body)
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// The merge patch that leads from one to the other; lists are replaced.
fn difference(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(there) if there == value => {}
            Some(there) if there.is_object() => drop(patch.insert(key.clone(), difference(there, value))),
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// The same for a strategic merge: the list of owners merges by UID, and this says that it shall be what we send.
fn strategic(old: &Value, new: &Value) -> Value {
    let mut patch = difference(old, new);
    match patch.pointer_mut("/metadata/ownerReferences") {
        Some(Value::Array(list)) => list.push(json!({"$patch": "replace"})),
        Some(list) => *list = json!([{"$patch": "replace"}]),
        None => {}
    }
    patch
}

/// Without what the API server keeps itself: what can be applied.
fn intended(new: &Value) -> Value {
    let mut intended = new.clone();
    let metadata = intended["metadata"].as_object_mut().unwrap();
    for key in [
        "managedFields",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
    ] {
        metadata.remove(key);
    }
    intended
}

/// A new object like this one, of another name.
pub fn copied(object: &Value, name: &str) -> Value {
    let mut copy = intended(object);
    copy["metadata"]["name"] = json!(name);
    let metadata = copy["metadata"].as_object_mut().unwrap();
    metadata.remove("ownerReferences");
    metadata.remove("finalizers");
    let copied = copy.as_object_mut().unwrap();
    copied.remove("status");
    if let Some(spec) = copied.get_mut("spec").and_then(Value::as_object_mut) {
        // Given to the object that is there, for it alone.
        for key in ["clusterIP", "clusterIPs"] {
            spec.remove(key);
        }
    }
    if copy["kind"] == "Job" {
        forget_pods(&mut copy);
    }
    copy
}

/// A Job selects its pods by its own UID, and its template carries that.
fn forget_pods(job: &mut Value) {
    let spec = job["spec"].as_object_mut().unwrap();
    spec.remove("selector");
    let labels = spec["template"]["metadata"]["labels"].as_object_mut().unwrap();
    labels.retain(|key, _| !key.ends_with("controller-uid") && !key.ends_with("job-name"));
}
