//! What a tenant's namespaces should hold, beside what they do hold: the plan. Pure: no client, no clock.

mod defaults;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{
    AvailableClasses, CoreOwner, DefaultAllowedList, Metadata, Promotion, Tenant, TenantOwner,
};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ServiceAccount};
use kube::ResourceExt;
use runtime::report::chain;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tenancy::ownership::{self, Sources};
use tenancy::settings::Settings;
use tenancy::{bindings, classes, metadata, promotion, quotas, replicas};

use crate::apply::Object;
use crate::owned::{Kept, Kind, Owned, Record};
use crate::rule_status;

/// What was read, all of it from memory.
#[derive(Debug)]
pub struct Observed {
    pub settings: Arc<Settings>,
    /// Full names of ServiceAccounts in the tenant's namespaces that carry the label of promoted owners.
    pub promoted: Vec<String>,
    /// ServiceAccounts in the tenant's namespaces that carry the label by which rules promote.
    pub promotable: Vec<Arc<ServiceAccount>>,
    /// All TenantOwners.
    pub tenant_owners: Vec<Arc<TenantOwner>>,
    /// The tenant's namespaces, sorted by name.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Namespaces whose stored state is older than what we wrote: left alone until it has caught up.
    pub behind: BTreeSet<String>,
    /// What is kept in namespaces, the tenant's and those that hold something of it.
    pub records: BTreeMap<String, Vec<Record>>,
    pub classes: Existing,
}

/// Classes that exist: name and labels. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    pub storage: Arc<[Class]>,
    pub priority: Arc<[Class]>,
    pub runtime: Arc<[Class]>,
    pub gateway: Arc<[Class]>,
    pub device: Arc<[Class]>,
}

pub type Class = (String, BTreeMap<String, String>);

/// What to do for one tenant, and what its status will say about it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Everybody who owns the tenant.
    pub owners: Vec<CoreOwner>,
    /// ServiceAccounts that the tenant's rules promote.
    pub promotions: Vec<Promotion>,
    pub classes: Option<AvailableClasses>,
    /// Merge patch of the tenant's metadata, if something is amiss there.
    pub tenant: Option<Value>,
    pub spaces: Vec<SpacePlan>,
    /// What is ours in namespaces that are not the tenant's any more.
    pub strays: Vec<Removal>,
    /// Namespaces to delete, because the tenant is being deleted: name and UID.
    pub deletions: Vec<(String, String)>,
    /// What of the tenant's spec cannot be carried out. Admission refuses these; they may have been stored before.
    pub problems: Vec<String>,
}

/// What to do in one namespace.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct SpacePlan {
    pub name: String,
    pub uid: String,
    /// The namespace is going away, and this is what for it waits. Nothing is written into it any more.
    pub waits_for: Option<String>,
    pub cordoned: bool,
    /// Labels and annotations that are kept, to be remembered. `None` when all of them are.
    pub managed: Option<Metadata>,
    /// Merge patch of the namespace's metadata.
    pub patch: Option<Value>,
    pub applies: Vec<Object>,
    pub removals: Vec<Removal>,
    /// What of the tenant's spec cannot be carried out in this namespace.
    pub problems: Vec<String>,
}

/// One object to delete.
#[derive(Debug, PartialEq, Serialize)]
pub struct Removal {
    pub namespace: String,
    pub kind: Kind,
    pub name: String,
    pub uid: String,
}

impl Plan {
    /// How many requests it takes to carry this out.
    pub fn steps(&self) -> usize {
        let spaces: usize = self
            .spaces
            .iter()
            .map(|space| usize::from(space.patch.is_some()) + space.applies.len() + space.removals.len())
            .sum();
        spaces + usize::from(self.tenant.is_some()) + self.strays.len() + self.deletions.len()
    }
}

/// Compares what should be with what is.
pub fn plan(tenant: &Tenant, observed: &Observed, owned: &Owned) -> Plan {
    let sources = Sources {
        tenant_owners: &observed.tenant_owners,
        promoted: &observed.promoted,
    };
    let owners = ownership::effective(tenant, sources, &observed.settings);
    let deleting = tenant.metadata.deletion_timestamp.is_some();
    let uid = tenant.uid().unwrap_or_default();
    let mut plan = Plan {
        classes: Some(available(tenant, &observed.classes)),
        tenant: tenant_patch(tenant, !observed.namespaces.is_empty()),
        ..Plan::default()
    };
    plan.promotions = promotions(tenant, observed, &mut plan.problems);
    let quotas = match balanced(tenant, observed) {
        Ok(quotas) => Some(quotas),
        Err(problem) => {
            plan.problems.push(problem);
            None
        }
    };
    for namespace in &observed.namespaces {
        let (name, namespace_uid) = (namespace.name_any(), namespace.uid().unwrap_or_default());
        let mut space = SpacePlan {
            name: name.clone(),
            uid: namespace_uid.clone(),
            ..SpacePlan::default()
        };
        let label = namespace.labels().get(names::CORDONED_LABEL);
        space.cordoned = tenant.spec.cordoned || label.is_some_and(|value| value == "true");
        let managed = metadata::managed(tenant, &name, namespace.labels());
        let only_managed = tenant
            .spec
            .namespace_options
            .as_ref()
            .is_some_and(|options| options.managed_metadata_only);
        space.managed = (!only_managed && managed != Metadata::default()).then(|| managed.clone());
        if namespace.metadata.deletion_timestamp.is_some() {
            space.waits_for = Some(waits_for(namespace));
        } else if deleting {
            plan.deletions.push((name, namespace_uid));
        } else {
            if !observed.behind.contains(&name) {
                let remembered = tenant
                    .status
                    .iter()
                    .flat_map(|status| &status.spaces)
                    .find(|space| space.name == name && space.uid == namespace_uid)
                    .and_then(|space| space.metadata.clone())
                    .unwrap_or_default();
                space.patch = namespace_patch(tenant, namespace, &managed, &remembered, only_managed);
            }
            let records = observed.records.get(&name).map(Vec::as_slice).unwrap_or_default();
            let quotas = quotas
                .as_ref()
                .map(|quotas| quotas.get(&name).cloned().unwrap_or_default());
            // Without an answer the quotas stay as they are: no quota would be no limit. So do rules.
            let mut unknown: Vec<Kind> = quotas.is_none().then_some(Kind::ResourceQuota).into_iter().collect();
            let mut wanted = wanted(tenant, &owners, &plan.promotions, namespace, quotas.unwrap_or_default());
            match rule_status::managed(tenant, namespace) {
                Ok(rules) => {
                    let empty = || rule_status::empty(tenant, namespace);
                    let rules = rules.or_else(|| Some(empty()).filter(|empty| has(empty, &uid, records)));
                    wanted.extend(rules.map(|rules| Object::RuleStatus(Box::new(rules))));
                }
                Err(problem) => {
                    unknown.push(Kind::RuleStatus);
                    space.problems.push(problem);
                }
            }
            compare(&wanted, &unknown, &uid, records, owned, &mut space);
        }
        plan.spaces.push(space);
    }
    let mine: BTreeSet<&str> = plan.spaces.iter().map(|space| space.name.as_str()).collect();
    for (namespace, records) in observed
        .records
        .iter()
        .filter(|(namespace, _)| !mine.contains(namespace.as_str()))
    {
        plan.strays.extend(
            records
                .iter()
                .filter(|record| is_of(record, &uid))
                .map(|record| removal(namespace, record)),
        );
    }
    plan.owners = owners;
    plan
}

/// ServiceAccounts that rules promote, and a word about those for which there is no room.
fn promotions(tenant: &Tenant, observed: &Observed, problems: &mut Vec<String>) -> Vec<Promotion> {
    let promoted = promotion::by_rules(tenant, &observed.namespaces, &observed.promotable);
    if promoted.left_out > 0 {
        problems.push(format!(
            "spec.rules[].permissions.promotions: {} ServiceAccounts got no roles, because the RoleBindings would be more than {}; \
             select fewer of them, or fewer namespaces",
            promoted.left_out,
            promotion::MOST_BINDINGS
        ));
    }
    promoted.promotions
}

/// The quotas of each namespace, or why there are none.
fn balanced(tenant: &Tenant, observed: &Observed) -> Result<BTreeMap<String, Vec<ResourceQuota>>, String> {
    let names: Vec<String> = observed
        .namespaces
        .iter()
        .map(|namespace| namespace.name_any())
        .collect();
    let items = quotas::budgets(tenant).len();
    // Namespaces that are going away are counted as well: what runs there still takes its share.
    let used: Vec<(&str, quotas::Used<'_>)> = names
        .iter()
        .map(|namespace| {
            let records = observed.records.get(namespace).map(Vec::as_slice).unwrap_or_default();
            let used = (0..items).filter_map(|index| {
                let name = replicas::name(&tenant.name_any(), index);
                let record = records
                    .iter()
                    .find(|r| r.kind == Kind::ResourceQuota && *r.name == *name)?;
                Some((index, &record.used))
            });
            (namespace.as_str(), used.collect())
        })
        .collect();
    let quotas = quotas::resource_quotas(tenant, &used).map_err(|error| chain(&error))?;
    Ok(quotas
        .into_iter()
        .map(|(namespace, quotas)| (namespace.to_owned(), quotas))
        .collect())
}

/// The quota of this name that a namespace should have, as the API server would write it.
pub(crate) fn resource_quota(
    tenant: &Tenant,
    observed: &Observed,
    namespace: &str,
    name: &str,
) -> Option<ResourceQuota> {
    let quotas = balanced(tenant, observed).ok()?.remove(namespace)?;
    let mut quota = quotas.into_iter().find(|quota| quota.name_any() == name)?;
    defaults::of_resource_quota(&mut quota);
    Some(quota)
}

/// Everything that one namespace should hold, as the API server would write it.
fn wanted(
    tenant: &Tenant,
    owners: &[CoreOwner],
    promotions: &[Promotion],
    namespace: &Namespace,
    quotas: Vec<ResourceQuota>,
) -> Vec<Object> {
    let name = namespace.name_any();
    let mut objects = Vec::new();
    for mut policy in replicas::network_policies(tenant, &name) {
        defaults::of_network_policy(&mut policy);
        objects.push(Object::NetworkPolicy(policy));
    }
    for mut range in replicas::limit_ranges(tenant, &name) {
        defaults::of_limit_range(&mut range);
        objects.push(Object::LimitRange(range));
    }
    for mut quota in quotas {
        defaults::of_resource_quota(&mut quota);
        objects.push(Object::ResourceQuota(quota));
    }
    for mut binding in bindings::role_bindings(tenant, owners, promotions, &name, namespace.labels()) {
        defaults::of_role_binding(&mut binding);
        objects.push(Object::RoleBinding(binding));
    }
    objects
}

/// What to write and what to delete in one namespace. Objects of kinds that nothing is known about are left alone.
fn compare(
    wanted: &[Object],
    unknown: &[Kind],
    owner_uid: &str,
    records: &[Record],
    owned: &Owned,
    space: &mut SpacePlan,
) {
    let mut named: BTreeSet<(Kind, &str)> = BTreeSet::new();
    for object in wanted {
        named.insert((object.kind(), object.name()));
        let known = records
            .iter()
            .find(|record| record.kind == object.kind() && *record.name == *object.name());
        if !known.is_some_and(|known| known.says(object.digest(owned))) {
            space.applies.push(object.clone());
        }
    }
    for record in records {
        let kept = unknown.contains(&record.kind) || named.contains(&(record.kind, &*record.name));
        if !kept && is_of(record, owner_uid) {
            space.removals.push(removal(&space.name, record));
        }
    }
}

/// Whether the tenant has an object of this kind and name there.
fn has<K: Kept>(object: &K, owner_uid: &str, records: &[Record]) -> bool {
    let name = object.name_any();
    let mut records = records.iter();
    records.any(|record| record.kind == K::KIND && *record.name == *name && is_of(record, owner_uid))
}

fn is_of(record: &Record, owner_uid: &str) -> bool {
    record.owner.as_ref().is_some_and(|(_, uid)| **uid == *owner_uid)
}

fn removal(namespace: &str, record: &Record) -> Removal {
    Removal {
        namespace: namespace.to_owned(),
        kind: record.kind,
        name: record.name.to_string(),
        uid: record.uid.to_string(),
    }
}

/// The tenant's own name as a label, and the finalizer for as long as there are namespaces.
fn tenant_patch(tenant: &Tenant, has_namespaces: bool) -> Option<Value> {
    let name = tenant.name_any();
    let mut patch = Map::new();
    if tenant.labels().get(names::NAME_LABEL) != Some(&name) && tenant.metadata.deletion_timestamp.is_none() {
        patch.insert("labels".to_owned(), json!({names::NAME_LABEL: name}));
    }
    let has_finalizer = tenant
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == names::FINALIZER);
    if has_finalizer != has_namespaces && (has_finalizer || tenant.metadata.deletion_timestamp.is_none()) {
        let mut finalizers: Vec<&str> = tenant
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|finalizer| *finalizer != names::FINALIZER)
            .collect();
        if has_namespaces {
            finalizers.push(names::FINALIZER);
        }
        patch.insert("finalizers".to_owned(), json!(finalizers));
        // The list replaces the one that is there; somebody else's change in between must not be lost.
        patch.insert("resourceVersion".to_owned(), json!(tenant.resource_version()));
    }
    if patch.is_empty() {
        return None;
    }
    patch.insert("uid".to_owned(), json!(tenant.uid()));
    Some(json!({"metadata": patch}))
}

/// Sets what is kept, and removes what was kept and is not any more. `None` when nothing differs.
fn namespace_patch(
    tenant: &Tenant,
    namespace: &Namespace,
    managed: &Metadata,
    remembered: &Metadata,
    only_managed: bool,
) -> Option<Value> {
    let mut labels = managed.labels.clone();
    labels.insert(names::TENANT_LABEL.to_owned(), tenant.name_any());
    labels.insert(names::NAME_LABEL.to_owned(), namespace.name_any());
    let labels = difference(namespace.labels(), &labels, &remembered.labels, only_managed);
    let annotations = difference(
        namespace.annotations(),
        &managed.annotations,
        &remembered.annotations,
        only_managed,
    );
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    let mut metadata = Map::new();
    metadata.insert("uid".to_owned(), json!(namespace.uid()));
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    Some(json!({"metadata": metadata}))
}

fn difference(
    found: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    remembered: &BTreeMap<String, String>,
    only_wanted: bool,
) -> Map<String, Value> {
    let set = wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(*value))
        .map(|(k, v)| (k.clone(), json!(v)));
    let removed = found
        .keys()
        .filter(|key| !wanted.contains_key(*key) && (only_wanted || remembered.contains_key(*key)))
        .map(|key| (key.clone(), Value::Null));
    set.chain(removed).collect()
}

/// What Kubernetes says that a namespace in deletion waits for.
fn waits_for(namespace: &Namespace) -> String {
    let conditions = namespace
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let blocking: Vec<&str> = conditions
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.as_deref())
        .filter(|message| !message.is_empty())
        .collect();
    let mut text = "waiting for namespace finalization".to_owned();
    if !blocking.is_empty() {
        text.push_str(": ");
        text.push_str(&blocking.join("; "));
    }
    text
}

/// Classes that the tenant may use, of those that exist.
fn available(tenant: &Tenant, existing: &Existing) -> AvailableClasses {
    let gateways = tenant
        .spec
        .gateway_options
        .as_ref()
        .and_then(|options| options.allowed_classes.as_ref());
    AvailableClasses {
        storage: usable(tenant.spec.storage_classes.as_ref(), &existing.storage),
        priority: usable(tenant.spec.priority_classes.as_ref(), &existing.priority),
        runtime: usable(tenant.spec.runtime_classes.as_ref(), &existing.runtime),
        gateway: usable(gateways, &existing.gateway),
        device: classes::available_devices(tenant.spec.device_classes.as_ref(), named(&existing.device)),
    }
}

fn usable(list: Option<&DefaultAllowedList>, existing: &[Class]) -> Vec<String> {
    classes::available(list, named(existing))
}

fn named(existing: &[Class]) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
    existing.iter().map(|(name, labels)| (name.as_str(), labels))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;
    use api::capsule::v1beta2::RuleStatus;
    use k8s_openapi::api::core::v1::LimitRange;
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use k8s_openapi::api::rbac::v1::RoleBinding;

    fn tenant(spec: Value, more: Value) -> Tenant {
        let mut object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "spec": spec, "metadata":
            {"name": "oil", "uid": "u1", "resourceVersion": "9", "labels": {"kubernetes.io/metadata.name": "oil"},
             "finalizers": ["controller.projectcapsule.dev/finalize"]}});
        json_patch::merge(&mut object, &more);
        serde_json::from_value(object).unwrap()
    }

    fn namespace(name: &str, more: Value) -> Arc<Namespace> {
        let mut object = json!({"metadata": {"name": name, "uid": format!("uid-{name}"),
            "labels": {"capsule.clastix.io/tenant": "oil", "kubernetes.io/metadata.name": name}}});
        json_patch::merge(&mut object, &more);
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn observed(namespaces: Vec<Arc<Namespace>>) -> Observed {
        Observed {
            settings: Arc::new(Settings::new(None, "", "")),
            promoted: Vec::new(),
            promotable: Vec::new(),
            tenant_owners: Vec::new(),
            namespaces,
            behind: BTreeSet::new(),
            records: BTreeMap::new(),
            classes: Existing::default(),
        }
    }

    /// What the API server would hold after the plan was carried out.
    fn carried_out(plan: &Plan, owned: &Owned) -> BTreeMap<String, Vec<Record>> {
        fn stored<K: Kept>(object: &K, owned: &Owned) {
            let mut object = object.clone();
            let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
            object.meta_mut().uid = Some(format!("uid-{namespace}-{name}"));
            owned.seen(&object);
        }
        for object in plan.spaces.iter().flat_map(|space| &space.applies) {
            match object {
                Object::NetworkPolicy(object) => stored::<NetworkPolicy>(object, owned),
                Object::LimitRange(object) => stored::<LimitRange>(object, owned),
                Object::ResourceQuota(object) => stored::<ResourceQuota>(object, owned),
                Object::RoleBinding(object) => stored::<RoleBinding>(object, owned),
                Object::RuleStatus(object) => stored::<RuleStatus>(object, owned),
            }
        }
        plan.spaces
            .iter()
            .map(|space| (space.name.clone(), owned.in_namespace(&space.name)))
            .collect()
    }

    fn words(space: &SpacePlan) -> Vec<String> {
        let applies = space
            .applies
            .iter()
            .map(|object| format!("apply {:?} {}", object.kind(), object.name()));
        let removals = space
            .removals
            .iter()
            .map(|removal| format!("remove {:?} {}", removal.kind, removal.name));
        applies.chain(removals).collect()
    }

    #[test]
    fn what_was_carried_out_is_not_planned_again_and_a_smaller_spec_removes() {
        let owned = Owned::default();
        let spec = json!({
            "owners": [{"kind": "User", "name": "olga", "clusterRoles": ["admin"]}],
            "networkPolicies": {"items": [{"podSelector": {}}]},
            "limitRanges": {"items": [{"limits": [{"type": "Container", "max": {"cpu": "1000m"}}]}]},
            "resourceQuotas": {"items": [{"hard": {"pods": "10"}}]}
        });
        let mut observed = observed(vec![namespace("oil-one", json!({}))]);
        let first = plan(&tenant(spec.clone(), json!({})), &observed, &owned);
        assert_eq!(
            words(&first.spaces[0]),
            [
                "apply NetworkPolicy capsule-oil-0",
                "apply LimitRange capsule-oil-0",
                "apply ResourceQuota capsule-oil-0",
                "apply RoleBinding capsule:managed:3e1bf7faf0e3bf17"
            ]
        );
        observed.records = carried_out(&first, &owned);
        let second = plan(&tenant(spec, json!({})), &observed, &owned);
        assert_eq!(second.steps(), 0, "{second:?}");
        let smaller = plan(&tenant(json!({"owners": []}), json!({})), &observed, &owned);
        let mut removed = words(&smaller.spaces[0]);
        removed.sort();
        assert_eq!(
            removed,
            [
                "remove LimitRange capsule-oil-0",
                "remove NetworkPolicy capsule-oil-0",
                "remove ResourceQuota capsule-oil-0",
                "remove RoleBinding capsule:managed:3e1bf7faf0e3bf17"
            ]
        );
    }

    #[test]
    fn objects_of_a_former_tenant_of_the_same_name_are_not_removed() {
        let owned = Owned::default();
        let spec = json!({"networkPolicies": {"items": [{"podSelector": {}}]}});
        let mut observed = observed(vec![namespace("oil-one", json!({}))]);
        let former = plan(&tenant(spec, json!({"metadata": {"uid": "u0"}})), &observed, &owned);
        observed.records = carried_out(&former, &owned);
        let now = plan(&tenant(json!({}), json!({})), &observed, &owned);
        assert_eq!(words(&now.spaces[0]), Vec::<String>::new());
    }

    #[test]
    fn a_quota_that_cannot_be_read_leaves_the_old_one_and_says_so() {
        let owned = Owned::default();
        let good = json!({"resourceQuotas": {"items": [{"hard": {"pods": "10"}}]}});
        let mut observed = observed(vec![namespace("oil-one", json!({}))]);
        observed.records = carried_out(&plan(&tenant(good, json!({})), &observed, &owned), &owned);
        let bad = json!({"resourceQuotas": {"items": [{"hard": {"pods": "many"}}]}});
        let plan = plan(&tenant(bad, json!({})), &observed, &owned);
        assert_eq!(words(&plan.spaces[0]), Vec::<String>::new());
        assert_eq!(plan.problems.len(), 1);
        assert!(
            plan.problems[0].contains("spec.resourceQuotas.items[0].hard[pods]"),
            "{:?}",
            plan.problems
        );
    }

    #[test]
    fn metadata_is_set_and_what_was_remembered_is_removed() {
        let status = json!({"status": {"size": 1, "conditions": [], "spaces": [{"name": "oil-one", "uid": "uid-oil-one",
            "conditions": [], "metadata": {"labels": {"old": "1", "env": "demo"}, "annotations": {"note": "a"}}}]}});
        let spec = json!({"namespaceOptions": {"additionalMetadata": {"labels": {"env": "prod"}}}, "cordoned": true});
        let found = namespace(
            "oil-one",
            json!({"metadata": {
                "labels": {"old": "1", "env": "demo", "mine": "x", "capsule.clastix.io/tenant": "gas"}, "annotations": {"note": "a", "other": "b"}
            }}),
        );
        let plan = plan(&tenant(spec, status), &observed(vec![found]), &Owned::default());
        assert_eq!(
            plan.spaces[0].patch,
            Some(json!({"metadata": {
                "uid": "uid-oil-one",
                "labels": {"env": "prod", "old": null, "projectcapsule.dev/cordoned": "true", "capsule.clastix.io/tenant": "oil"},
                "annotations": {"note": null}
            }}))
        );
        assert!(plan.spaces[0].cordoned);
    }

    #[test]
    fn what_is_remembered_of_another_namespace_of_that_name_is_not_removed() {
        let status = json!({"status": {"size": 1, "conditions": [], "spaces": [
            {"name": "oil-one", "uid": "uid-of-its-predecessor", "conditions": [], "metadata": {"labels": {"old": "1"}}}
        ]}});
        let found = namespace("oil-one", json!({"metadata": {"labels": {"old": "1"}}}));
        let plan = plan(&tenant(json!({}), status), &observed(vec![found]), &Owned::default());
        assert_eq!(plan.spaces[0].patch, None);
    }

    #[test]
    fn managed_metadata_only_leaves_nothing_else() {
        let spec = json!({"namespaceOptions": {"managedMetadataOnly": true, "additionalMetadata": {"labels": {"env": "prod"}}}});
        let found = namespace(
            "oil-one",
            json!({"metadata": {"labels": {"mine": "x", "env": "prod"}, "annotations": {"a": "b"}}}),
        );
        let plan = plan(&tenant(spec, json!({})), &observed(vec![found]), &Owned::default());
        assert_eq!(
            plan.spaces[0].patch,
            Some(json!({"metadata": {"uid": "uid-oil-one", "labels": {"mine": null}, "annotations": {"a": null}}}))
        );
        assert_eq!(plan.spaces[0].managed, None, "nothing has to be remembered");
    }

    #[test]
    fn the_finalizer_is_there_while_there_are_namespaces() {
        let rows: [(Value, bool, Option<Value>); 5] = [
            (json!({}), true, None),
            (
                json!({"finalizers": null}),
                true,
                Some(json!(["controller.projectcapsule.dev/finalize"])),
            ),
            (
                json!({"finalizers": ["a"]}),
                true,
                Some(json!(["a", "controller.projectcapsule.dev/finalize"])),
            ),
            (
                json!({"finalizers": ["a", "controller.projectcapsule.dev/finalize"]}),
                false,
                Some(json!(["a"])),
            ),
            (
                json!({"finalizers": ["a"], "deletionTimestamp": "2026-01-01T00:00:00Z"}),
                true,
                None,
            ),
        ];
        for (metadata, has_namespaces, expected) in rows {
            let tenant = tenant(json!({}), json!({"metadata": metadata}));
            let patch = tenant_patch(&tenant, has_namespaces);
            let finalizers = patch.map(|patch| patch["metadata"]["finalizers"].clone());
            assert_eq!(finalizers, expected, "{metadata}");
        }
    }

    #[test]
    fn a_tenant_in_deletion_deletes_its_namespaces_and_writes_into_none() {
        let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let going = namespace(
            "oil-two",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": [
                {"type": "NamespaceContentRemaining", "status": "True", "message": "Some resources are remaining: pods. has 1 resource instances"},
                {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All resources successfully discovered"}
            ]}}),
        );
        let spec = json!({"owners": [{"kind": "User", "name": "olga"}]});
        let observed = observed(vec![namespace("oil-one", json!({})), going]);
        let plan = plan(&tenant(spec, deleting), &observed, &Owned::default());
        assert_eq!(plan.deletions, [("oil-one".to_owned(), "uid-oil-one".to_owned())]);
        assert_eq!(plan.steps(), 1);
        assert_eq!(
            plan.spaces[1].waits_for.as_deref(),
            Some("waiting for namespace finalization: Some resources are remaining: pods. has 1 resource instances")
        );
    }

    #[test]
    fn a_namespace_whose_stored_state_is_old_is_not_patched_from_it() {
        let found = namespace(
            "oil-one",
            json!({"metadata": {"labels": {"capsule.clastix.io/tenant": "gas"}}}),
        );
        let mut observed = observed(vec![found]);
        observed.behind.insert("oil-one".to_owned());
        assert_eq!(
            plan(&tenant(json!({}), json!({})), &observed, &Owned::default()).spaces[0].patch,
            None
        );
    }

    #[test]
    fn what_the_tenant_keeps_where_it_has_no_namespace_is_removed() {
        let owned = Owned::default();
        let spec = json!({"networkPolicies": {"items": [{"podSelector": {}}]}});
        let mut observed = observed(vec![namespace("oil-one", json!({}))]);
        observed.records = carried_out(&plan(&tenant(spec.clone(), json!({})), &observed, &owned), &owned);
        observed.namespaces.clear();
        let plan = plan(&tenant(spec, json!({})), &observed, &owned);
        let strays: Vec<_> = plan
            .strays
            .iter()
            .map(|stray| (stray.namespace.as_str(), stray.name.as_str()))
            .collect();
        assert_eq!(strays, [("oil-one", "capsule-oil-0")]);
    }

    #[test]
    fn rules_are_written_out_in_each_namespace_that_a_tenant_with_rules_has() {
        let rule =
            |scheduler: &str| json!({"rules": [{"enforce": {"workloads": {"schedulers": [{"exact": [scheduler]}]}}}]});
        let owned = Owned::default();
        let observed = observed(vec![namespace("oil-one", json!({}))]);
        let of = |spec: Value, records: BTreeMap<String, Vec<Record>>| {
            let observed = Observed {
                settings: observed.settings.clone(),
                namespaces: observed.namespaces.clone(),
                records,
                ..self::observed(Vec::new())
            };
            plan(&tenant(spec, json!({})), &observed, &owned)
        };
        let first = of(rule("a"), BTreeMap::new());
        assert_eq!(words(&first.spaces[0]), ["apply RuleStatus capsule-managed-rules"]);
        let records = carried_out(&first, &owned);
        assert_eq!(words(&of(rule("a"), records.clone()).spaces[0]), [""; 0]);
        assert_eq!(
            words(&of(rule("b"), records.clone()).spaces[0]),
            ["apply RuleStatus capsule-managed-rules"]
        );
        let unrendered = of(rule("{{ .namespace.metadata.labels.team }}"), records.clone());
        assert_eq!(
            words(&unrendered.spaces[0]),
            [""; 0],
            "what holds is unknown, so what is there stays"
        );
        assert_eq!(unrendered.spaces[0].problems.len(), 1);
        let without = of(json!({"rules": [{"permissions": {}}]}), records);
        assert_eq!(
            words(&without.spaces[0]),
            ["apply RuleStatus capsule-managed-rules"],
            "it stays, empty: its status says what is to be taken off objects"
        );
        let records = carried_out(&without, &owned);
        assert_eq!(words(&of(json!({}), records).spaces[0]), [""; 0]);
    }
}
