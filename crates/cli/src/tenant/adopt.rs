//! Namespaces that come into a tenant: from nobody's (`adopt`), or from another tenant's (`move`). Pure.
//!
//! Admission lets an administrator put any namespace anywhere. A command for people is held to more: what the tenant's
//! owners could not have created (its name, one too many, without a required label) does not come in this way either.
//! The sentences are those of admission, because they are made by the same function.

use std::collections::BTreeSet;

use api::capsule::names;
use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use serde_json::json;
use tenancy::index::View;
use tenancy::linkage;
use tenancy::namespace_admission::{Operation, Request, validate};

use super::world::{Me, World};
use super::write::Write;
use crate::stopped::Stopped;

/// Whose the namespaces are before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Nobodys,
    AnotherTenants,
}

/// The writes that bring namespaces into a tenant; none for those that are there.
pub(super) fn writes(
    world: &World,
    me: &Me,
    whose: Whose,
    tenant: &str,
    namespaces: &[String],
) -> anyhow::Result<Vec<Write>> {
    let tenant = world.tenant(tenant)?;
    let mut others = world.namespaces_of(tenant).len();
    let mut writes = Vec::new();
    for name in namespaces.iter().collect::<BTreeSet<_>>() {
        let namespace = world
            .namespaces
            .get(name)
            .ok_or_else(|| Stopped::NotFound(format!("no namespace {name:?}")))?;
        if !is_to_come(world, whose, tenant, namespace).map_err(Stopped::refused)? {
            continue;
        }
        let mut linked = namespace.clone();
        linkage::link(&mut linked, tenant);
        check(world, me, tenant, namespace, &linked, others).map_err(Stopped::refused)?;
        others += 1;
        let patch = json!({"metadata": {
            "labels": {names::TENANT_LABEL: tenant.name_any()}, "ownerReferences": linked.owner_references()}});
        writes.push(Write::patch_namespace(namespace, patch));
    }
    Ok(writes)
}

/// Whether the namespace has to be written, or a sentence why this is not the command for it.
fn is_to_come(world: &World, whose: Whose, tenant: &Tenant, namespace: &Namespace) -> Result<bool, String> {
    let (name, target) = (namespace.name_any(), tenant.name_any());
    let is_there = |reference: &linkage::TenantReference<'_>| {
        world
            .tenants
            .get(reference.name)
            .is_some_and(|tenant| tenant.uid().as_deref() == Some(reference.uid))
    };
    match (linkage::linkage(namespace), whose) {
        (Ok(Some(reference)), _) if reference.name == target && is_there(&reference) => Ok(false),
        (Ok(Some(reference)), Whose::Nobodys) if is_there(&reference) => Err(format!(
            "Namespace {name} belongs to Tenant {}; `cotenant tenant move` takes it to another",
            reference.name
        )),
        // A tenant that is gone owns nothing.
        (Ok(None), Whose::Nobodys) | (Ok(Some(_)), _) => Ok(true),
        (Ok(None), Whose::AnotherTenants) => Err(format!(
            "Namespace {name} belongs to no tenant; `cotenant tenant adopt` brings it into one"
        )),
        (Err(unclear), _) => {
            let named = linkage::references(namespace).map(|reference| reference.name.as_str());
            let mut named = named.chain(linkage::label(namespace));
            // Half a tie to the tenant itself, or to one that is gone, is completed.
            match named.find(|named| *named != target && world.tenants.contains_key(*named)) {
                Some(_) => Err(format!(
                    "Namespace {name}: {unclear}; remove what is wrong of the label and the owner reference first"
                )),
                None => Ok(true),
            }
        }
    }
}

/// As the API server will be told about the change, and as if the tenant's owners created the namespace.
fn check(
    world: &World,
    me: &Me,
    tenant: &Tenant,
    namespace: &Namespace,
    linked: &Namespace,
    others: usize,
) -> Result<(), String> {
    let uid = tenant.uid().unwrap_or_default();
    let known = world.tenants.values().cloned().fold(View::default(), View::with_tenant);
    let view = known.with_namespace_count(&uid, others);
    let change = Request {
        operation: Operation::Update,
        subresource: "",
        user: me.user(),
        object: Some(linked),
        old: Some(namespace),
        settings: &world.settings,
        view: &view,
    };
    let creation = Request {
        operation: Operation::Create,
        old: None,
        ..change
    };
    for request in [change, creation] {
        if let Some(denial) = validate(&request).denial() {
            return Err(format!("Namespace {}: {}", namespace.name_any(), denial.message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn tenant(name: &str, spec: &Value) -> Tenant {
        serde_json::from_value(
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "spec": spec,
            "metadata": {"name": name, "uid": format!("uid-of-{name}")}}),
        )
        .unwrap()
    }

    /// With the label of one tenant and a reference to another, by name and UID.
    fn namespace(name: &str, label: Option<&str>, reference: Option<(&str, &str)>) -> Namespace {
        let mut namespace = json!({"metadata": {"name": name, "uid": "n", "resourceVersion": "7", "labels": {"a": "b"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "c"}]}});
        if let Some(label) = label {
            namespace["metadata"]["labels"][names::TENANT_LABEL] = json!(label);
        }
        if let Some((tenant, uid)) = reference {
            let references = namespace["metadata"]["ownerReferences"].as_array_mut().unwrap();
            references.push(
                json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": tenant, "uid": uid}),
            );
        }
        serde_json::from_value(namespace).unwrap()
    }

    fn world(namespaces: Vec<Namespace>) -> World {
        let oil = tenant("oil", &json!({"namespaceOptions": {"quota": 2}}));
        World::of(vec![oil, tenant("gas", &json!({}))], namespaces)
            .configured(&json!({"administrators": [{"kind": "User", "name": "adam"}]}))
    }

    fn answer(world: &World, whose: Whose, namespaces: &[&str]) -> Result<usize, String> {
        let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
        let writes = writes(world, &Me::named("adam"), whose, "oil", &names);
        writes.map(|writes| writes.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_marks_come_with_one_patch_for_the_version_that_was_read_and_other_owners_stay() {
        let world = world(vec![namespace("web", None, None)]);
        let writes = writes(&world, &Me::named("adam"), Whose::Nobodys, "oil", &["web".into()]).unwrap();
        let [Write::PatchNamespace { name, patch }] = writes.as_slice() else {
            panic!("{writes:?}")
        };
        assert_eq!(name, "web");
        assert_eq!(
            *patch,
            json!({"metadata": {"uid": "n", "resourceVersion": "7", "labels": {"capsule.clastix.io/tenant": "oil"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "c"},
                    {"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "uid-of-oil"}]}})
        );
    }

    #[test]
    fn those_that_come_together_count_together() {
        let there = namespace("db", Some("oil"), Some(("oil", "uid-of-oil")));
        let world = world(vec![there, namespace("a", None, None), namespace("b", None, None)]);
        assert_eq!(answer(&world, Whose::Nobodys, &["db", "a", "a"]), Ok(1));
        let fault = answer(&world, Whose::Nobodys, &["a", "b"]).unwrap_err();
        assert!(
            fault.starts_with("Namespace b: Cannot exceed Namespace quota"),
            "{fault}"
        );
        assert!(fault.ends_with("to 2; it has 2"), "{fault}");
    }

    #[test]
    fn what_belongs_to_somebody_is_moved_and_what_does_not_is_adopted() {
        let world = world(vec![
            namespace("free", None, None),
            namespace("taken", Some("gas"), Some(("gas", "uid-of-gas"))),
        ]);
        assert_eq!(answer(&world, Whose::Nobodys, &["free"]), Ok(1));
        assert_eq!(answer(&world, Whose::AnotherTenants, &["taken"]), Ok(1));
        assert!(
            answer(&world, Whose::Nobodys, &["taken"])
                .unwrap_err()
                .contains("belongs to Tenant gas")
        );
        assert!(
            answer(&world, Whose::AnotherTenants, &["free"])
                .unwrap_err()
                .contains("belongs to no tenant")
        );
    }

    #[test]
    fn a_tenant_that_is_gone_owns_nothing_and_half_a_tie_to_another_is_nobody_s_to_guess() {
        let world = world(vec![
            namespace("orphan", Some("coal"), Some(("coal", "uid-of-coal"))),
            namespace("earlier", Some("oil"), Some(("oil", "uid-of-an-earlier-oil"))),
            namespace("half", Some("oil"), None),
            namespace("torn", Some("oil"), Some(("gas", "uid-of-gas"))),
        ]);
        for name in ["orphan", "earlier", "half"] {
            assert_eq!(answer(&world, Whose::Nobodys, &[name]), Ok(1), "{name}");
        }
        let fault = answer(&world, Whose::Nobodys, &["torn"]).unwrap_err();
        assert!(
            fault.contains("remove what is wrong of the label and the owner reference first"),
            "{fault}"
        );
    }

    #[test]
    fn one_whom_the_configuration_does_not_name_is_refused() {
        let world = world(vec![namespace("free", None, None)]);
        let error = writes(&world, &Me::named("eve"), Whose::Nobodys, "oil", &["free".into()]).unwrap_err();
        assert!(
            error.to_string().contains("namespace can not be patched into a tenant"),
            "{error}"
        );
    }
}
