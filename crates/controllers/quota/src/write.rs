//! Writes that the controllers of all quotas make: statuses in the version of what they were decided from, and deletions of
//! the very object that was seen.

use std::fmt::Debug;

use api::capsule::names::FIELD_MANAGER;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Error;

/// Replaces the status of an object, if nobody else has changed the object since.
pub(crate) async fn publish<K>(
    api: &Api<K>,
    kind: &'static str,
    object: &K,
    status: &impl Serialize,
) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = full_name(object);
    // A JSON patch, because a merge patch keeps the keys of maps that are there no more.
    let operations = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version()},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(operations).expect("operations with the names and fields of JSON patches are such");
    api.patch_status(&object.name_any(), &params(), &Patch::<()>::Json(patch))
        .await
        .map_err(|source| Error::PublishStatus { kind, name, source })
}

/// Deletes an object, and no other that has its name by now.
pub(crate) async fn delete<K>(api: &Api<K>, kind: &'static str, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: object.uid(),
        resource_version: None,
    });
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => Ok(()),
        // Gone, or another object by now.
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
        Err(source) => Err(Error::Delete {
            kind,
            name: full_name(object),
            source,
        }),
    }
}

/// Patches in the operator's name.
pub(crate) fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// `namespace/name` of what is in a namespace.
pub(crate) fn full_name<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}
