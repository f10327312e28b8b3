//! What runs in the admin cluster, or is known to it, from the start: DNS, a storage class, and volumes to go with it.
//!
//! Volumes are directories of the node, made beforehand: nothing here provisions on demand. One that a claim has let go
//! of is emptied and offered again at the next start.

use std::path::Path;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use serde::Deserialize as _;

use crate::error::{Error, Result};

const MANIFESTS: &str = include_str!("addons.yaml");

const MANAGER: &str = "cotenant-local";

/// How many volumes there are. A directory costs nothing.
const VOLUMES: usize = 24;

const VOLUME_LABEL: &str = "cotenant.dev/local-volume";

/// The repository whose image serves DNS.
pub(super) const COREDNS: &str = "registry.k8s.io/coredns/coredns";

/// Applies everything. `volumes` is the directory of the node's volumes, on the machine.
pub(super) async fn apply(client: &kube::Client, coredns: &str, volumes: &Path) -> Result<()> {
    let text = MANIFESTS.replace("${COREDNS}", coredns);
    for document in serde_norway::Deserializer::from_str(&text) {
        let object = serde_json::Value::deserialize(document)
            .map_err(|error| Error::Other(format!("failed to read our own manifests: {error}")))?;
        apply_one(client, object).await?;
    }
    let present: Api<PersistentVolume> = Api::all(client.clone());
    let list = present
        .list(&ListParams::default().labels(VOLUME_LABEL))
        .await
        .map_err(failed("list the volumes"))?;
    for volume in list {
        let name = volume.metadata.name.unwrap_or_default();
        if volume.status.and_then(|status| status.phase).as_deref() == Some("Released") {
            let directory = volumes.join(&name);
            std::fs::remove_dir_all(&directory).map_err(Error::file("empty", &directory))?;
            present
                .delete(&name, &DeleteParams::default())
                .await
                .map_err(failed("offer a volume again"))?;
        }
    }
    for index in 0..VOLUMES {
        let name = format!("local-{index:02}");
        open_directory(&volumes.join(&name))?;
        apply_one(client, volume(&name)).await?;
    }
    Ok(())
}

fn open_directory(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(directory).map_err(Error::file("create directory", directory))?;
    // Whoever the pod runs as.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
        .map_err(Error::file("set the mode of", directory))
}

fn volume(name: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {VOLUME_LABEL: ""}},
        "spec": {
            "storageClassName": "standard",
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": format!("/var/local/volumes/{name}")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [super::ADMIN]},
            ]}]}},
        },
    })
}

async fn apply_one(client: &kube::Client, object: serde_json::Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)
        .map_err(|error| Error::Other(format!("failed to read our own manifests: {error}")))?;
    let TypeMeta { api_version, kind } = object.types.clone().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object.metadata.name.clone().unwrap_or_default();
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .map(drop)
        .map_err(failed(format!("apply {kind} {name}")))
}

/// For `map_err` on requests.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    move |error| Error::Other(format!("failed to {what}: {}", crate::node::chain(&error)))
}
