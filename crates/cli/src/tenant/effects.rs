//! What follows from a change: which objects, who gains or loses what, and what becomes of the quotas. Pure.
//!
//! Both worlds, the one that is and the one that would be, are brought to where the controller would bring them, with the
//! controller's own plan. What differs then is the effect of the change; what the controller was about to do anyway is not.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use serde::Serialize;
use serde_json::{Value, json};
use tenant_controller::desired::{self, Removal};
use tenant_controller::owned::Kind;

use super::owner;
use super::usage::{self, Key, Standing};
use super::world::{Contents, Place, World};
use crate::difference::{Field, difference};

/// Everything that follows from a change.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Effects {
    pub(super) objects: Vec<ObjectChange>,
    pub(super) ownership: Vec<OwnershipChange>,
    pub(super) access: Vec<AccessChange>,
    pub(super) freezes: Vec<Freeze>,
    pub(super) quotas: Vec<QuotaChange>,
    /// What of a tenant's spec cannot be carried out afterwards.
    pub(super) problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verb {
    Create,
    Update,
    Delete,
}

/// One object that would be written.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectChange {
    pub(super) verb: Verb,
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Turn {
    Gains,
    Loses,
}

/// Somebody begins or ceases to own a tenant, whose namespaces owners create and delete.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnershipChange {
    pub(super) turn: Turn,
    /// As people type owners.
    pub(super) subject: String,
    pub(super) tenant: String,
}

/// Somebody begins or ceases to have a role in a namespace.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct AccessChange {
    pub(super) turn: Turn,
    #[serde(flatten)]
    pub(super) access: Access,
}

/// Whoever has a role in the namespace may look and not change, or may change again: gains or loses the use of it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Freeze {
    pub(super) turn: Turn,
    pub(super) namespace: String,
}

/// Somebody has a role in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Access {
    pub(super) namespace: String,
    /// As people type owners.
    pub(super) subject: String,
    /// `ClusterRole/admin`
    pub(super) role: String,
}

impl Access {
    pub(super) fn told(&self) -> String {
        format!("{}: {} in {}", self.subject, self.role, self.namespace)
    }
}

/// A limit that changes, is used differently, comes, or goes.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QuotaChange {
    #[serde(flatten)]
    pub(super) key: Key,
    pub(super) before: Option<Standing>,
    pub(super) after: Option<Standing>,
}

/// A world as the controller would leave it.
#[derive(Default)]
struct Settled {
    /// Kind and name of tenants and namespaces.
    cluster: BTreeMap<(&'static str, String), Value>,
    objects: BTreeMap<Place, Value>,
    /// Subject and tenant.
    owners: BTreeSet<(String, String)>,
    frozen: BTreeSet<String>,
    quotas: BTreeMap<Key, Standing>,
    problems: Vec<String>,
}

/// What becomes different, given what the namespaces hold now.
pub(super) fn effects(before: &World, after: &World, contents: &Contents) -> Effects {
    let (before, after) = (settle(before, contents), settle(after, contents));
    let (had, have) = (access(&before.objects), access(&after.objects));
    let access = turned(&had, &have, |turn, access| AccessChange {
        turn,
        access: access.clone(),
    });
    let ownership = turned(&before.owners, &after.owners, |turn, (subject, tenant)| {
        OwnershipChange {
            turn,
            subject: subject.clone(),
            tenant: tenant.clone(),
        }
    });
    // What is frozen afterwards is lost to its users.
    let freezes = turned(&after.frozen, &before.frozen, |turn, namespace| Freeze {
        turn,
        namespace: namespace.clone(),
    });
    Effects {
        freezes,
        objects: objects(&before, &after),
        ownership,
        access,
        quotas: quotas(&before.quotas, &after.quotas),
        problems: after.problems,
    }
}

fn settle(world: &World, contents: &Contents) -> Settled {
    let mut settled = Settled {
        objects: contents.objects.clone(),
        ..Settled::default()
    };
    for (name, namespace) in &world.namespaces {
        settled.cluster.insert(("Namespace", name.clone()), json!(namespace));
    }
    let mut applies = Vec::new();
    for (name, tenant) in &world.tenants {
        let plan = desired::plan(tenant, &world.observe(tenant, contents), &contents.owned);
        settled
            .cluster
            .insert(("Tenant", name.clone()), patched(json!(tenant), plan.tenant.as_ref()));
        for removal in &plan.strays {
            settled.remove(removal);
        }
        for space in plan.spaces {
            if space.cordoned {
                settled.frozen.insert(space.name.clone());
            }
            let key = ("Namespace", space.name.clone());
            if let Some(namespace) = settled.cluster.get_mut(&key) {
                *namespace = patched(namespace.take(), space.patch.as_ref());
            }
            for removal in &space.removals {
                settled.remove(removal);
            }
            for object in space.applies {
                let place = (space.name.clone(), object.kind(), object.name().to_owned());
                applies.push((place, json!(object)));
            }
        }
        for (namespace, _) in &plan.deletions {
            settled.cluster.remove(&("Namespace", namespace.clone()));
            settled.objects.retain(|(place, _, _), _| place != namespace);
        }
        if tenant.metadata.deletion_timestamp.is_some() {
            settled.cluster.remove(&("Tenant", name.clone()));
        } else {
            let owners = plan
                .owners
                .iter()
                .map(|known| (owner::typed(&known.user), name.clone()));
            settled.owners.extend(owners);
            settled.quotas.extend(standings(world, tenant, contents));
        }
        settled.problems.extend(
            plan.problems
                .into_iter()
                .map(|problem| format!("Tenant {name}: {problem}")),
        );
    }
    // A binding is named after role and subject alone: what one tenant leaves in a namespace another may want there.
    settled.objects.extend(applies);
    settled
}

impl Settled {
    fn remove(&mut self, removal: &Removal) {
        let place = (removal.namespace.clone(), removal.kind, removal.name.clone());
        self.objects.remove(&place);
    }
}

fn standings(world: &World, tenant: &Tenant, contents: &Contents) -> BTreeMap<Key, Standing> {
    usage::of(tenant, &world.namespaces_of(tenant), &contents.quotas)
}

fn patched(mut object: Value, patch: Option<&Value>) -> Value {
    if let Some(patch) = patch {
        json_patch::merge(&mut object, patch);
    }
    object
}

fn objects(before: &Settled, after: &Settled) -> Vec<ObjectChange> {
    let mut changes = Vec::new();
    for key in union(&before.cluster, &after.cluster) {
        let (old, new) = (before.cluster.get(key), after.cluster.get(key));
        let fields = difference(old.map(cluster_fields), new.map(cluster_fields));
        changes.extend(object_change(old, new, fields, key.0, None, &key.1));
    }
    for place in union(&before.objects, &after.objects) {
        let (namespace, kind, name) = place;
        // With its namespace goes everything that is in it.
        if before.has_namespace(namespace) && !after.has_namespace(namespace) {
            continue;
        }
        let (old, new) = (before.objects.get(place), after.objects.get(place));
        if old == new {
            continue;
        }
        let fields = match (old, new) {
            (Some(old), Some(new)) => difference(Some(kept_fields(old)), Some(kept_fields(new))),
            (_, new) => difference(None, new.map(content_fields)),
        };
        let change = object_change(old, new, fields, kind.name(), Some(namespace), name);
        changes.extend(change);
    }
    changes
}

impl Settled {
    fn has_namespace(&self, name: &str) -> bool {
        self.cluster.contains_key(&("Namespace", name.to_owned()))
    }
}

fn object_change(
    old: Option<&Value>,
    new: Option<&Value>,
    fields: Vec<Field>,
    kind: &'static str,
    namespace: Option<&String>,
    name: &str,
) -> Option<ObjectChange> {
    let verb = match (old, new) {
        (None, Some(_)) => Verb::Create,
        (Some(_), None) => Verb::Delete,
        // Of tenants and namespaces much changes with every write that nobody asks for.
        (Some(_), Some(_)) if fields.is_empty() && namespace.is_none() => return None,
        _ => Verb::Update,
    };
    Some(ObjectChange {
        verb,
        kind,
        namespace: namespace.cloned(),
        name: name.to_owned(),
        fields: if verb == Verb::Delete { Vec::new() } else { fields },
    })
}

/// Of a tenant or a namespace: what people set.
fn cluster_fields(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"spec": object["spec"], "metadata": {
        "labels": metadata["labels"], "annotations": metadata["annotations"], "ownerReferences": owners(object)}})
}

/// Owner references by kind and name.
fn owners(object: &Value) -> Vec<String> {
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let named = references.map(|reference| {
        let text = |key: &str| reference[key].as_str().unwrap_or_default();
        format!("{} {}", text("kind"), text("name"))
    });
    named.collect()
}

/// Of what was kept in a namespace and still is: what it says now, and for whom.
fn kept_fields(object: &Value) -> Value {
    json!({"spec": object["spec"], "metadata": {"ownerReferences": owners(object)}})
}

/// Of what is kept in namespaces: what it says. Who gets which role is told as access.
fn content_fields(object: &Value) -> Value {
    json!({"spec": object["spec"]})
}

/// Who has which role where, by every RoleBinding.
pub(super) fn access(objects: &BTreeMap<Place, Value>) -> BTreeSet<Access> {
    let bindings = objects.iter().filter(|((_, kind, _), _)| *kind == Kind::RoleBinding);
    let roles = bindings.flat_map(|((namespace, _, _), binding)| {
        // What was read as one, or made as one, reads as one.
        let binding: RoleBinding = serde_json::from_value(binding.clone()).unwrap_or_default();
        let role = format!("{}/{}", binding.role_ref.kind, binding.role_ref.name);
        let subjects = binding.subjects.into_iter().flatten();
        subjects.map(move |subject| Access {
            namespace: namespace.clone(),
            subject: subject_typed(&subject, namespace),
            role: role.clone(),
        })
    });
    roles.collect()
}

pub(super) fn subject_typed(subject: &Subject, namespace: &str) -> String {
    match subject.kind.as_str() {
        "User" => match tenancy::subject::service_account(&subject.name) {
            Some((namespace, name)) => format!("sa:{namespace}/{name}"),
            None => format!("user:{}", subject.name),
        },
        "Group" => format!("group:{}", subject.name),
        "ServiceAccount" => format!(
            "sa:{}/{}",
            subject.namespace.as_deref().unwrap_or(namespace),
            subject.name
        ),
        other => format!("{other}:{}", subject.name),
    }
}

fn turned<T: Ord, R>(before: &BTreeSet<T>, after: &BTreeSet<T>, row: impl Fn(Turn, &T) -> R) -> Vec<R> {
    let gained = after.difference(before).map(|item| row(Turn::Gains, item));
    gained
        .chain(before.difference(after).map(|item| row(Turn::Loses, item)))
        .collect()
}

fn quotas(before: &BTreeMap<Key, Standing>, after: &BTreeMap<Key, Standing>) -> Vec<QuotaChange> {
    union(before, after)
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| QuotaChange {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

fn union<'a, K: Ord, V>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    one.keys().chain(other.keys()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    fn tenant(name: &str, spec: &Value) -> Tenant {
        serde_json::from_value(json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "metadata": {"name": name, "uid": format!("uid-of-{name}"), "labels": {"kubernetes.io/metadata.name": name}},
            "spec": spec}))
        .unwrap()
    }

    fn namespace(name: &str, tenant: Option<&str>) -> Namespace {
        let mut namespace = json!({"metadata": {"name": name, "uid": format!("uid-of-{name}"),
            "labels": {"kubernetes.io/metadata.name": name}}});
        if let Some(tenant) = tenant {
            namespace["metadata"]["labels"]["capsule.clastix.io/tenant"] = json!(tenant);
            namespace["metadata"]["ownerReferences"] = json!([{"apiVersion": "capsule.clastix.io/v1beta2",
                "kind": "Tenant", "name": tenant, "uid": format!("uid-of-{tenant}")}]);
        }
        serde_json::from_value(namespace).unwrap()
    }

    fn owned_by(owner: &str) -> Value {
        json!({"owners": [{"kind": "User", "name": owner, "clusterRoles": ["admin"]}]})
    }

    fn rows(effects: &Effects) -> Vec<String> {
        let access = effects.access.iter();
        let access = access.map(|row| format!("{:?} {}", row.turn, row.access.told()));
        let ownership = effects.ownership.iter();
        ownership
            .map(|row| format!("{:?} {} {}", row.turn, row.subject, row.tenant))
            .chain(access)
            .collect()
    }

    #[test]
    fn nothing_follows_from_nothing_even_where_the_controller_is_behind() {
        // The namespace has no binding yet, and the controller will make it with or without us.
        let world = World::of(
            vec![tenant("oil", &owned_by("alice"))],
            vec![namespace("web", Some("oil"))],
        );
        assert_eq!(effects(&world, &world, &Contents::default()), Effects::default());
    }

    #[test]
    fn a_namespace_that_moves_changes_who_reaches_it() {
        let tenants = || vec![tenant("oil", &owned_by("alice")), tenant("gas", &owned_by("bob"))];
        let before = World::of(tenants(), vec![namespace("web", Some("oil"))]);
        let after = World::of(tenants(), vec![namespace("web", Some("gas"))]);
        let effects = effects(&before, &after, &Contents::default());
        assert_eq!(
            rows(&effects),
            [
                "Gains user:bob: ClusterRole/admin in web",
                "Loses user:alice: ClusterRole/admin in web"
            ]
        );
        let counts: Vec<String> = effects
            .quotas
            .iter()
            .map(|row| format!("{} {}", row.key.told(), row.after.as_ref().unwrap().used))
            .collect();
        assert_eq!(counts, ["gas: namespaces 1", "oil: namespaces 0"]);
    }

    #[test]
    fn a_binding_that_somebody_else_made_keeps_access() {
        let before = World::of(
            vec![tenant("oil", &owned_by("alice"))],
            vec![namespace("web", Some("oil"))],
        );
        let after = World::of(vec![tenant("oil", &json!({}))], vec![namespace("web", Some("oil"))]);
        let mut contents = Contents::default();
        assert_eq!(
            rows(&effects(&before, &after, &contents)),
            ["Loses user:alice oil", "Loses user:alice: ClusterRole/admin in web"]
        );
        let theirs = json!({"metadata": {"name": "theirs", "namespace": "web"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]});
        let place = ("web".to_owned(), Kind::RoleBinding, "theirs".to_owned());
        contents.objects.insert(place, theirs);
        assert_eq!(rows(&effects(&before, &after, &contents)), ["Loses user:alice oil"]);
    }

    #[test]
    fn a_frozen_namespace_is_lost_to_its_users_and_comes_back_to_them() {
        let thawed = World::of(vec![tenant("oil", &json!({}))], vec![namespace("web", Some("oil"))]);
        let frozen = World::of(
            vec![tenant("oil", &json!({"cordoned": true}))],
            vec![namespace("web", Some("oil"))],
        );
        let freezes = |before, after| {
            let freezes = effects(before, after, &Contents::default()).freezes;
            freezes
                .into_iter()
                .map(|row| (row.turn, row.namespace))
                .collect::<Vec<_>>()
        };
        assert_eq!(freezes(&thawed, &frozen), [(Turn::Loses, "web".to_owned())]);
        assert_eq!(freezes(&frozen, &thawed), [(Turn::Gains, "web".to_owned())]);
    }

    #[test]
    fn with_a_tenant_goes_what_is_in_its_namespaces() {
        let before = World::of(
            vec![tenant("oil", &owned_by("alice"))],
            vec![namespace("web", Some("oil"))],
        );
        let mut after = before.clone();
        let oil = after.tenants.get_mut("oil").unwrap();
        oil.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let effects = effects(&before, &after, &Contents::default());
        let gone: Vec<String> = effects
            .objects
            .iter()
            .map(|row| format!("{:?} {} {}", row.verb, row.kind, row.name))
            .collect();
        assert_eq!(gone, ["Delete Namespace web", "Delete Tenant oil"]);
        assert_eq!(
            rows(&effects),
            ["Loses user:alice oil", "Loses user:alice: ClusterRole/admin in web"]
        );
    }
}
