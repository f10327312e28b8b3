//! Every way to write a Namespace, generated: attempts x verbs x patch types x subresources.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};

/// A way in which an API server takes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Replace,
    Json,
    Merge,
    Strategic,
    Apply,
}

/// Where the change is sent: the object or one of its subresources.
pub const DOORS: [(Option<&str>, &[Way]); 3] = [
    (None, &[Way::Replace, Way::Json, Way::Merge, Way::Strategic, Way::Apply]),
    (
        Some("status"),
        &[Way::Replace, Way::Json, Way::Merge, Way::Strategic, Way::Apply],
    ),
    (Some("finalize"), &[Way::Replace]),
];

/// Turns a namespace into what somebody would like it to be.
pub type Attempt = fn(&mut Namespace);

/// Sends the change through one door in one way. The answer is the namespace as the API server returned it.
pub async fn write(
    client: &Client,
    name: &str,
    door: Option<&str>,
    way: Way,
    attempt: Attempt,
) -> Result<Namespace, Error> {
    let api = Api::<Namespace>::all(client.clone());
    let before = api.get(name).await?;
    let mut after = before.clone();
    attempt(&mut after);
    let (old, new) = (
        serde_json::to_value(&before).expect("JSON"),
        serde_json::to_value(&after).expect("JSON"),
    );
    let params = PatchParams::default();
    match way {
        Way::Replace => match door {
            None => api.replace(name, &PostParams::default(), &after).await,
            Some(sub) => api.replace_subresource(sub, name, &PostParams::default(), &after).await,
        },
        Way::Json => {
            send(
                &api,
                name,
                door,
                &params,
                &Patch::Json::<()>(json_patch::diff(&old, &new)),
            )
            .await
        }
        Way::Merge => send(&api, name, door, &params, &Patch::Merge(difference(&old, &new))).await,
        Way::Strategic => {
            let mut patch = difference(&old, &new);
            if patch.pointer("/metadata/ownerReferences").is_some() {
                // The list merges by UID; this says that it shall be what we send.
                let mut list = patch["metadata"]["ownerReferences"]
                    .take()
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                list.push(json!({"$patch": "replace"}));
                patch["metadata"]["ownerReferences"] = Value::Array(list);
            }
            send(&api, name, door, &params, &Patch::Strategic(patch)).await
        }
        Way::Apply => {
            // Field by field through the manager that holds the field already: removing works that way, too.
            let mut wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": name, "labels": after.labels(), "annotations": after.annotations(),
                "ownerReferences": after.owner_references()}});
            if after.owner_references().is_empty() {
                wanted["metadata"]
                    .as_object_mut()
                    .expect("a map")
                    .remove("ownerReferences");
            }
            send(
                &api,
                name,
                door,
                &PatchParams::apply("owner").force(),
                &Patch::Apply(wanted),
            )
            .await
        }
    }
}

async fn send<P: serde::Serialize + std::fmt::Debug>(
    api: &Api<Namespace>,
    name: &str,
    door: Option<&str>,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<Namespace, Error> {
    match door {
        None => api.patch(name, params, patch).await,
        Some(sub) => api.patch_subresource(sub, name, params, patch).await,
    }
}

/// The merge patch that leads from one to the other; lists are replaced.
fn difference(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return new.clone();
    };
    let mut patch = serde_json::Map::new();
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

/// The status code and the message of a refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("expected a refusal, got {other:?}"),
    }
}
