//! Statuses are written in the version of what they were decided from.

use std::fmt::Debug;

use api::capsule::names::FIELD_MANAGER;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
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
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch_status(&object.name_any(), &params, &Patch::<()>::Json(patch))
        .await
        .map_err(|source| Error::PublishStatus { kind, name, source })
}

/// `namespace/name` of what is in a namespace.
pub(crate) fn full_name<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}
