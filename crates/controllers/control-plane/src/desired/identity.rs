//! What every object of a control plane carries: the identity labels, the owner, and the checksum.
//!
//! These names are a contract: people select Secrets by them, and the kubelets of running control planes mount objects
//! by them. They are therefore written down once, here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::kamaji::names::{COMPONENT_LABEL, NAME_LABEL, PROJECT_LABEL, PROJECT_VALUE};
use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use md5::{Digest, Md5};

/// The three identity labels of a generated object.
pub fn labels(name: &str, component: &str) -> BTreeMap<String, String> {
    [
        (PROJECT_LABEL, PROJECT_VALUE),
        (NAME_LABEL, name),
        (COMPONENT_LABEL, component),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Labels that select the pods of a control plane.
pub fn pod_selector(name: &str) -> BTreeMap<String, String> {
    [(NAME_LABEL.to_owned(), name.to_owned())].into()
}

/// The control plane as the one controller of a generated object, so that deletion collects it.
pub fn owner(tcp: &TenantControlPlane) -> OwnerReference {
    OwnerReference {
        api_version: TenantControlPlane::api_version(&()).into_owned(),
        kind: TenantControlPlane::kind(&()).into_owned(),
        name: tcp.name_any(),
        uid: tcp.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Metadata of a generated object: name, namespace, identity labels and owner.
pub fn metadata(tcp: &TenantControlPlane, name: &str, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: tcp.metadata.namespace.clone(),
        labels: Some(labels(&tcp.name_any(), component)),
        owner_references: Some(vec![owner(tcp)]),
        ..ObjectMeta::default()
    }
}

/// Whose an existing object is, seen from one control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Controlled by this control plane.
    Ours,
    /// Controlled by nobody, and labelled as this control plane's: left behind by a restore, or brought by the user.
    Orphan,
    /// Nobody's, and nothing says that it was ever meant for this control plane.
    Unowned,
    /// Somebody else's: must not be touched.
    Foreign,
}

/// Decides whether an existing object may be written.
///
/// A name alone is not a right: a control plane called `kubernetes` in `default` must not take the Service of that name.
pub fn ownership(tcp: &TenantControlPlane, existing: &ObjectMeta) -> Ownership {
    let uid = tcp.metadata.uid.as_deref().unwrap_or_default();
    let owners = || existing.owner_references.iter().flatten();
    let controller = owners().find(|reference| reference.controller == Some(true));
    match controller {
        Some(reference) if !uid.is_empty() && reference.uid == uid => Ownership::Ours,
        Some(_) => Ownership::Foreign,
        None => {
            let labels = existing.labels.as_ref();
            let value = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
            if value(PROJECT_LABEL) == Some(PROJECT_VALUE) && value(NAME_LABEL) == Some(tcp.name_any().as_str()) {
                Ownership::Orphan
            } else if owners().all(|reference| !uid.is_empty() && reference.uid == uid) {
                Ownership::Unowned
            } else {
                Ownership::Foreign
            }
        }
    }
}

/// MD5 over the values in key order, as lower-case hexadecimal. It detects change; it protects nothing.
pub fn checksum<'a, V: AsRef<[u8]> + 'a>(values: impl IntoIterator<Item = (&'a String, V)>) -> String {
    let ordered: BTreeMap<&String, V> = values.into_iter().collect();
    let mut digest = Md5::new();
    for value in ordered.values() {
        digest.update(value.as_ref());
    }
    let mut text = String::with_capacity(32);
    for byte in digest.finalize() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// Checksum of a Secret's data.
pub fn secret_checksum(data: &BTreeMap<String, ByteString>) -> String {
    checksum(data.iter().map(|(key, value)| (key, &value.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_alone_is_not_a_right() {
        let tcp = crate::desired::tests::tcp();
        let uid = tcp.metadata.uid.clone().unwrap();
        let owner = |uid: &str, controller: bool| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid, "controller": controller});
        let labels = json!({"kamaji.clastix.io/project": "kamaji", "kamaji.clastix.io/name": "demo"});
        let rows = [
            (json!({"ownerReferences": [owner(&uid, true)]}), Ownership::Ours),
            (
                json!({"ownerReferences": [owner("other", true)], "labels": labels}),
                Ownership::Foreign,
            ),
            (json!({"ownerReferences": [owner("other", false)]}), Ownership::Foreign),
            (json!({"labels": labels}), Ownership::Orphan),
            (json!({}), Ownership::Unowned),
            (json!({"ownerReferences": [owner(&uid, false)]}), Ownership::Unowned),
            (
                json!({"labels": {"kamaji.clastix.io/name": "demo"}}),
                Ownership::Unowned,
            ),
        ];
        for (metadata, expected) in rows {
            let existing: ObjectMeta = serde_json::from_value(metadata.clone()).unwrap();
            assert_eq!(ownership(&tcp, &existing), expected, "{metadata}");
        }
    }

    #[test]
    fn the_checksum_is_md5_over_the_values_in_key_order() {
        // printf 'onetwo' | md5sum
        let data: BTreeMap<String, String> =
            [("b".to_owned(), "two".to_owned()), ("a".to_owned(), "one".to_owned())].into();
        assert_eq!(checksum(&data), "5b9164ad6f496d9dee12ec7634ce253f");
    }
}
