//! Which tenant a namespace belongs to, by what the namespace itself says.
//!
//! It says so twice: with the label that webhooks and people select on, and with an owner reference that carries the tenant's
//! UID. Both have to be there and agree. Half of it, or two answers, is an error and never a guess: each half alone can be
//! forged by somebody who may write the other.

use api::capsule::{names, v1beta2::Tenant};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube_core::ResourceExt;

/// A tenant, as a namespace names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantReference<'a> {
    /// The tenant's name.
    pub name: &'a str,
    /// The tenant's UID.
    pub uid: &'a str,
}

/// A namespace that does not say clearly which tenant it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// More than one owner reference to a Tenant.
    #[error("the namespace has {0} owner references to Tenants; it can have one")]
    ManyReferences(usize),
    /// An owner reference and no label.
    #[error(
        "the namespace has an owner reference to Tenant {0:?} and no label {label}",
        label = names::TENANT_LABEL
    )]
    NoLabel(String),
    /// A label and no owner reference.
    #[error(
        "the namespace has the label {label}={0} and no owner reference to that Tenant",
        label = names::TENANT_LABEL
    )]
    NoReference(String),
    /// A label and an owner reference that name different tenants.
    #[error(
        "the namespace has the label {label}={named} and an owner reference to Tenant {referred:?}",
        label = names::TENANT_LABEL
    )]
    Contradiction {
        /// The tenant that the label names.
        named: String,
        /// The tenant that the reference names.
        referred: String,
    },
}

/// The tenant that the label names.
pub fn label(namespace: &Namespace) -> Option<&str> {
    namespace
        .metadata
        .labels
        .as_ref()?
        .get(names::TENANT_LABEL)
        .map(String::as_str)
}

/// The owner references to Tenants, of whichever version.
pub fn references(namespace: &Namespace) -> impl Iterator<Item = &OwnerReference> {
    namespace
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|reference| is_tenant(reference))
}

/// Whether an owner reference is one to a Tenant.
pub fn is_tenant(reference: &OwnerReference) -> bool {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    group == names::GROUP && reference.kind == names::TENANT_KIND
}

/// Whether a namespace says anything about a tenant.
pub fn is_claimed(namespace: &Namespace) -> bool {
    label(namespace).is_some() || references(namespace).next().is_some()
}

/// The tenant that a namespace says it belongs to. Whether that tenant exists, and has that UID, is for the reader to
/// look up.
///
/// # Errors
/// If it does not say so clearly.
pub fn linkage(namespace: &Namespace) -> Result<Option<TenantReference<'_>>, Unclear> {
    let mut references = references(namespace);
    let (first, more) = (references.next(), references.count());
    if more > 0 {
        return Err(Unclear::ManyReferences(more + 1));
    }
    match (label(namespace), first) {
        (None, None) => Ok(None),
        (Some(named), None) => Err(Unclear::NoReference(named.to_owned())),
        (None, Some(reference)) => Err(Unclear::NoLabel(reference.name.clone())),
        (Some(named), Some(reference)) if named != reference.name => Err(Unclear::Contradiction {
            named: named.to_owned(),
            referred: reference.name.clone(),
        }),
        (Some(name), Some(reference)) => Ok(Some(TenantReference {
            name,
            uid: &reference.uid,
        })),
    }
}

/// The owner reference by which a namespace belongs to a tenant: not a controller's, and in nobody's way.
pub fn owner_reference(tenant: &Tenant) -> OwnerReference {
    OwnerReference {
        api_version: names::API_VERSION.into(),
        kind: names::TENANT_KIND.into(),
        name: tenant.name_any(),
        uid: tenant.uid().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// Makes a namespace belong to a tenant and to no other.
pub fn link(namespace: &mut Namespace, tenant: &Tenant) {
    namespace
        .metadata
        .labels
        .get_or_insert_default()
        .insert(names::TENANT_LABEL.into(), tenant.name_any());
    let wanted = owner_reference(tenant);
    let references = namespace.metadata.owner_references.get_or_insert_default();
    // In its place, so that nothing is written when nothing differs.
    let place = references.iter().position(is_tenant).unwrap_or(references.len());
    references.retain(|reference| !is_tenant(reference));
    references.insert(place, wanted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn reference(name: &str, uid: &str) -> Value {
        json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": name, "uid": uid})
    }

    fn namespace(label: Option<&str>, references: &[Value]) -> Namespace {
        let labels = label.map(|label| json!({"capsule.clastix.io/tenant": label}));
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels, "ownerReferences": references}}))
            .unwrap()
    }

    #[rstest]
    #[case::label_and_reference_agree(namespace(Some("oil"), &[reference("oil", "1")]), Ok(Some(("oil", "1"))))]
    #[case::nothing_is_said(namespace(None, &[]), Ok(None))]
    #[case::a_label_alone(namespace(Some("oil"), &[]), Err(Unclear::NoReference("oil".into())))]
    #[case::a_reference_alone(namespace(None, &[reference("oil", "1")]), Err(Unclear::NoLabel("oil".into())))]
    #[case::they_disagree(
        namespace(Some("oil"), &[reference("gas", "2")]),
        Err(Unclear::Contradiction { named: "oil".into(), referred: "gas".into() })
    )]
    #[case::two_tenants(
        namespace(Some("oil"), &[reference("oil", "1"), reference("gas", "2")]),
        Err(Unclear::ManyReferences(2))
    )]
    #[case::the_same_tenant_twice(
        namespace(Some("oil"), &[reference("oil", "1"), reference("oil", "1")]),
        Err(Unclear::ManyReferences(2))
    )]
    #[case::an_older_version_of_the_kind(
        namespace(Some("oil"), &[json!({"apiVersion": "capsule.clastix.io/v1beta1", "kind": "Tenant", "name": "oil", "uid": "1"})]),
        Ok(Some(("oil", "1")))
    )]
    #[case::a_group_that_only_begins_alike(
        namespace(None, &[json!({"apiVersion": "capsule.clastix.io.evil/v1", "kind": "Tenant", "name": "oil", "uid": "1"})]),
        Ok(None)
    )]
    fn a_namespace_belongs_to_a_tenant(
        #[case] namespace: Namespace,
        #[case] expected: Result<Option<(&str, &str)>, Unclear>,
    ) {
        let expected = expected.map(|tenant| tenant.map(|(name, uid)| TenantReference { name, uid }));
        assert_eq!(linkage(&namespace), expected);
    }

    #[test]
    fn linking_replaces_other_tenants_and_leaves_other_owners() {
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "9"});
        let mut namespace = namespace(Some("gas"), &[reference("gas", "2"), other, reference("oil", "forged")]);
        let mut tenant = Tenant::new("oil", api::capsule::v1beta2::TenantSpec::default());
        tenant.metadata.uid = Some("1".into());
        link(&mut namespace, &tenant);
        assert_eq!(linkage(&namespace), Ok(Some(TenantReference { name: "oil", uid: "1" })));
        let names: Vec<_> = namespace
            .owner_references()
            .iter()
            .map(|owner| owner.name.as_str())
            .collect();
        assert_eq!(names, ["oil", "c"]);
        let once = namespace.clone();
        link(&mut namespace, &tenant);
        assert_eq!(namespace, once);
    }
}
