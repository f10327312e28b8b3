//! Objects from YAML files, and applying them with server-side apply.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use kube::{
    Client, ResourceExt,
    api::{Api, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde::Deserialize;

const FIELD_MANAGER: &str = "cotenant-cli";

/// The objects of every `*.yaml` file in `folder`, files in the order of their names.
pub(crate) fn read_folder(folder: &Path) -> anyhow::Result<Vec<DynamicObject>> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("failed to read the folder {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    let mut objects = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        objects.extend(parse(&text).with_context(|| format!("failed to read {}", path.display()))?);
    }
    Ok(objects)
}

/// The objects of a YAML text of one or more documents; empty documents are left out.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document)?;
        if value.is_null() {
            continue;
        }
        let object: DynamicObject = serde_json::from_value(value).context("not a Kubernetes object")?;
        if object.types.is_none() {
            bail!("an object has no apiVersion and kind");
        }
        objects.push(object);
    }
    Ok(objects)
}

/// Applies one object as `kubectl apply --server-side --force-conflicts` does and returns what the server stored.
pub(crate) async fn apply(client: &Client, object: &DynamicObject) -> anyhow::Result<DynamicObject> {
    let types = object.types.as_ref().context("the object has no apiVersion and kind")?;
    let name = object.metadata.name.as_deref().context("the object has no name")?;
    let gvk = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = pinned_kind(client, &gvk)
        .await
        .with_context(|| format!("the cluster does not serve {}", gvk.kind))?;
    let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
    };
    api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("failed to apply {} {name}", gvk.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_and_empty_ones_left_out() {
        let objects = parse("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: b}\n").unwrap();
        let names: Vec<_> = objects.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_document_without_a_kind_is_refused() {
        assert!(parse("metadata: {name: a}").is_err());
    }
}
