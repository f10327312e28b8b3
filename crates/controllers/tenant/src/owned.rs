//! What we keep in tenants' namespaces, as last seen: one small record per object instead of the object.
//!
//! Role bindings, quotas, limit ranges and network policies are by far the most numerous objects that the controller deals
//! with, and of each it asks two questions only: is it ours, and does it still say what it should. The answers are an
//! owner's UID and a digest of the part that we write, so that is what is kept. Objects of other people are not even listed:
//! the watches select our label.
//!
//! Writes enter the same records as soon as the API server has answered, so that a reconcile that follows a write
//! does not repeat it while the watch is still on its way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::capsule::names;
use api::capsule::v1beta2::RuleStatus;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tenancy::quota::amounts::Amounts;

/// The kinds that are kept in every namespace of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Kind {
    NetworkPolicy,
    LimitRange,
    ResourceQuota,
    RoleBinding,
    RuleStatus,
}

impl Kind {
    /// For messages and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::LimitRange => "LimitRange",
            Self::ResourceQuota => "ResourceQuota",
            Self::RoleBinding => "RoleBinding",
            Self::RuleStatus => "RuleStatus",
        }
    }
}

/// A kind that can be kept: where its content is, and how to bring it back when somebody else's fields are mixed in.
pub trait Kept:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    const KIND: Kind;

    /// The part besides metadata that is ours, in a form that serializes the same way for the same meaning.
    fn content(&self) -> impl Serialize;

    /// JSON pointers with the values that they must have, for fields that several managers may own.
    fn replacements(&self) -> Vec<(&'static str, Value)>;

    /// Amounts in use, for kinds that count.
    fn used(&self) -> Option<&BTreeMap<String, Quantity>> {
        None
    }
}

impl Kept for RoleBinding {
    const KIND: Kind = Kind::RoleBinding;

    fn content(&self) -> impl Serialize {
        (&self.role_ref, &self.subjects)
    }

    /// The role cannot be changed after creation, the subjects are one atomic list.
    fn replacements(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }
}

impl Kept for RuleStatus {
    const KIND: Kind = Kind::RuleStatus;

    fn content(&self) -> impl Serialize {
        &self.spec
    }

    fn replacements(&self) -> Vec<(&'static str, Value)> {
        vec![("/spec", serde_json::json!(self.spec))]
    }
}

impl Kept for NetworkPolicy {
    const KIND: Kind = Kind::NetworkPolicy;

    fn content(&self) -> impl Serialize {
        &self.spec
    }

    fn replacements(&self) -> Vec<(&'static str, Value)> {
        vec![("/spec", serde_json::json!(self.spec))]
    }
}

impl Kept for LimitRange {
    const KIND: Kind = Kind::LimitRange;

    fn content(&self) -> impl Serialize {
        &self.spec
    }

    fn replacements(&self) -> Vec<(&'static str, Value)> {
        vec![("/spec", serde_json::json!(self.spec))]
    }
}

impl Kept for ResourceQuota {
    const KIND: Kind = Kind::ResourceQuota;

    fn content(&self) -> impl Serialize {
        &self.spec
    }

    fn replacements(&self) -> Vec<(&'static str, Value)> {
        vec![("/spec", serde_json::json!(self.spec))]
    }

    fn used(&self) -> Option<&BTreeMap<String, Quantity>> {
        self.status.as_ref()?.used.as_ref()
    }
}

/// One object as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub kind: Kind,
    pub name: Box<str>,
    pub uid: Box<str>,
    /// Name and UID of the Tenant that controls it.
    pub owner: Option<(Arc<str>, Arc<str>)>,
    /// Of the content and the metadata that are ours.
    pub digest: u64,
    /// The wanted digest that was answered with `digest`: the API server writes some things differently, and asking
    /// again would not change that.
    settled: Option<u64>,
    pub used: Amounts,
    version: u64,
}

impl Record {
    /// Whether a write would change nothing.
    pub fn says(&self, wanted: u64) -> bool {
        self.digest == wanted || self.settled == Some(wanted)
    }
}

/// What a change of the records means to the tenant that owns the object.
#[derive(Debug, PartialEq, Eq)]
pub enum Noticed {
    /// Nothing that we did not know.
    Nothing,
    /// The tenants of these names should look again.
    Tenants(Vec<Arc<str>>),
}

/// Namespace and name.
type Place = (Arc<str>, Box<str>);

#[derive(Default)]
struct Records {
    namespaces: HashMap<Arc<str>, Vec<Record>>,
    /// Owner UID to the namespaces that hold something of it.
    owners: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
    /// The newest version that each watch has shown. A write's answer that is older has been seen already, and may have
    /// been deleted since.
    watched: HashMap<Kind, u64>,
    /// Objects known when a watch began to list again and not seen in the list yet. What remains at its end is gone.
    unlisted: HashMap<Kind, HashSet<Place>>,
}

/// The records of all kinds. Cheap to clone.
#[derive(Clone)]
pub struct Owned {
    records: Arc<Mutex<Records>>,
    /// Random per process, so that nobody can craft an object of a given digest.
    hasher: Arc<RandomState>,
}

impl Default for Owned {
    fn default() -> Self {
        Self {
            records: Arc::default(),
            hasher: Arc::new(RandomState::new()),
        }
    }
}

impl Owned {
    /// A poisoned lock means that a panic happened between two assignments of plain values; they are still valid.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Digest of what we write into an object. Wanted and observed objects of the same meaning have the same one.
    pub fn digest<K: Kept>(&self, object: &K) -> u64 {
        let annotations: Vec<_> = object
            .annotations()
            .iter()
            .filter(|(key, _)| key.as_str() != names::LAST_APPLIED)
            .collect();
        let owner = controller(object.meta());
        let content = meaning(serde_json::json!(object.content()));
        let text = serde_json::to_vec(&(K::KIND, object.labels(), annotations, owner, content));
        // Kubernetes' own types always serialize; if one did not, its digest would match nothing and it would be written.
        text.map_or(0, |text| self.hasher.hash_one(text))
    }

    fn record<K: Kept>(&self, object: &K) -> Record {
        Record {
            kind: K::KIND,
            name: object.name_any().into(),
            uid: object.uid().unwrap_or_default().into(),
            owner: controller(object.meta()).map(|(name, uid)| (name.into(), uid.into())),
            digest: self.digest(object),
            settled: None,
            used: Amounts::observed(object.used()),
            version: version(object.meta()),
        }
    }

    /// What the watch shows: an object as it is now.
    pub fn seen<K: Kept>(&self, object: &K) -> Noticed {
        let (namespace, record): (Arc<str>, _) = (object.namespace().unwrap_or_default().into(), self.record(object));
        let mut records = self.lock();
        let watched = records.watched.entry(K::KIND).or_default();
        *watched = (*watched).max(record.version);
        if let Some(unlisted) = records.unlisted.get_mut(&K::KIND) {
            unlisted.remove(&(namespace.clone(), record.name.clone()));
        }
        records.put(&namespace, record)
    }

    /// What the watch shows: an object that is gone, or lost the label by which we find it.
    pub fn gone<K: Kept>(&self, object: &K) -> Noticed {
        let namespace: Arc<str> = object.namespace().unwrap_or_default().into();
        let version = version(object.meta());
        let mut records = self.lock();
        let watched = records.watched.entry(K::KIND).or_default();
        *watched = (*watched).max(version);
        match records.find(&namespace, K::KIND, &object.name_any()) {
            Some(known) if known.version <= version => {
                let removed = records.remove(&namespace, K::KIND, &object.name_any());
                Noticed::of(removed.and_then(|record| record.owner))
            }
            _ => Noticed::Nothing,
        }
    }

    /// The watch lists from the start.
    pub fn list_begins<K: Kept>(&self) {
        let mut records = self.lock();
        let known = records
            .namespaces
            .iter()
            .flat_map(|(namespace, list)| list.iter().map(move |record| (namespace, record)))
            .filter(|(_, record)| record.kind == K::KIND)
            .map(|(namespace, record)| (namespace.clone(), record.name.clone()))
            .collect();
        records.unlisted.insert(K::KIND, known);
    }

    /// The list is complete: what it did not hold is gone.
    pub fn list_ends<K: Kept>(&self) -> Noticed {
        let mut records = self.lock();
        let missing = records.unlisted.remove(&K::KIND).unwrap_or_default();
        let owners = missing
            .iter()
            .filter_map(|(namespace, name)| records.remove(namespace, K::KIND, name)?.owner)
            .collect();
        Noticed::all(owners)
    }

    /// The API server's answer to a write that wanted `wanted`.
    pub fn written<K: Kept>(&self, object: &K, wanted: u64) {
        let (namespace, mut record): (Arc<str>, _) =
            (object.namespace().unwrap_or_default().into(), self.record(object));
        record.settled = (record.digest != wanted).then_some(wanted);
        let mut records = self.lock();
        let watched = records.watched.get(&K::KIND).copied().unwrap_or_default();
        if record.version > watched || records.find(&namespace, K::KIND, &record.name).is_some() {
            records.put(&namespace, record);
        }
    }

    /// The API server's answer to a deletion, or to anything else that found the object gone.
    pub fn deleted(&self, namespace: &str, kind: Kind, name: &str, uid: &str) {
        let mut records = self.lock();
        if records
            .find(namespace, kind, name)
            .is_some_and(|known| *known.uid == *uid)
        {
            records.remove(namespace, kind, name);
        }
    }

    /// Whether an object of this name is known to be there.
    pub fn holds(&self, namespace: &str, kind: Kind, name: &str) -> bool {
        self.lock().find(namespace, kind, name).is_some()
    }

    /// Everything recorded in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Record> {
        self.lock().namespaces.get(namespace).cloned().unwrap_or_default()
    }

    /// Namespaces that hold something controlled by the tenant with this UID.
    pub fn namespaces_of(&self, owner_uid: &str) -> Vec<Arc<str>> {
        self.lock()
            .owners
            .get(owner_uid)
            .map(|namespaces| namespaces.keys().cloned().collect())
            .unwrap_or_default()
    }
}

impl Records {
    fn find(&self, namespace: &str, kind: Kind, name: &str) -> Option<&Record> {
        self.namespaces
            .get(namespace)?
            .iter()
            .find(|record| record.kind == kind && *record.name == *name)
    }

    fn put(&mut self, namespace: &Arc<str>, mut record: Record) -> Noticed {
        let before = self.find(namespace, record.kind, &record.name);
        if let Some(before) = before {
            if before.version > record.version && before.uid == record.uid {
                return Noticed::Nothing;
            }
            // The same content again keeps what was learned about it.
            if record.settled.is_none() && before.digest == record.digest {
                record.settled = before.settled;
            }
            let same = before.digest == record.digest && before.used == record.used && before.owner == record.owner;
            let owners = [before.owner.clone(), record.owner.clone()]
                .into_iter()
                .flatten()
                .collect();
            self.remove(namespace, record.kind, &record.name.clone());
            self.insert(namespace, record);
            return if same { Noticed::Nothing } else { Noticed::all(owners) };
        }
        let noticed = Noticed::of(record.owner.clone());
        self.insert(namespace, record);
        noticed
    }

    fn insert(&mut self, namespace: &Arc<str>, mut record: Record) {
        // All of a namespace have one owner, and there are many of them.
        let others = self.namespaces.get(namespace).into_iter().flatten();
        if let Some(owner) = others.map(|other| &other.owner).find(|owner| **owner == record.owner) {
            record.owner.clone_from(owner);
        }
        if let Some((_, uid)) = &record.owner {
            *self
                .owners
                .entry(uid.clone())
                .or_default()
                .entry(namespace.clone())
                .or_default() += 1;
        }
        self.namespaces.entry(namespace.clone()).or_default().push(record);
    }

    fn remove(&mut self, namespace: &str, kind: Kind, name: &str) -> Option<Record> {
        let list = self.namespaces.get_mut(namespace)?;
        let index = list
            .iter()
            .position(|record| record.kind == kind && *record.name == *name)?;
        let record = list.swap_remove(index);
        if list.is_empty() {
            self.namespaces.remove(namespace);
        }
        if let Some((_, uid)) = &record.owner
            && let Some(namespaces) = self.owners.get_mut(uid)
        {
            if let Some(count) = namespaces.get_mut(namespace) {
                *count -= 1;
                if *count == 0 {
                    namespaces.remove(namespace);
                }
            }
            if namespaces.is_empty() {
                self.owners.remove(uid);
            }
        }
        Some(record)
    }
}

impl Noticed {
    fn of(owner: Option<(Arc<str>, Arc<str>)>) -> Self {
        Self::all(owner.into_iter().collect())
    }

    fn all(owners: Vec<(Arc<str>, Arc<str>)>) -> Self {
        let mut tenants: Vec<Arc<str>> = owners.into_iter().map(|(name, _)| name).collect();
        tenants.sort_unstable();
        tenants.dedup();
        if tenants.is_empty() {
            Self::Nothing
        } else {
            Self::Tenants(tenants)
        }
    }
}

/// Name and UID of the Tenant that controls an object.
fn controller(meta: &ObjectMeta) -> Option<(&str, &str)> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "Tenant"
                && owner.api_version.starts_with("capsule.clastix.io/")
        })
        .map(|owner| (owner.name.as_str(), owner.uid.as_str()))
}

/// Without what the API server leaves out when it answers: empty lists, and empty maps where absent means the same.
fn meaning(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, meaning(value)))
                .filter(|(key, value)| match value {
                    Value::Null => false,
                    Value::Array(list) => !list.is_empty(),
                    // Not selectors: an empty one selects everything, an absent one nothing.
                    Value::Object(map) => !map.is_empty() || !matches!(key.as_str(), "matchLabels" | "hard"),
                    _ => true,
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(meaning).collect()),
        other => other,
    }
}

/// Versions of one kind are ordered numbers (Kubernetes says so since 1.35). A server that answers something else makes
/// everything equally old, and the last word counts.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(name: &str, version: u64, pods: &str) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "oil-one", "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
                "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "u1", "controller": true}]},
            "spec": {"hard": {"pods": pods}}
        }))
        .unwrap()
    }

    fn names(owned: &Owned) -> Vec<String> {
        let mut names: Vec<String> = owned
            .in_namespace("oil-one")
            .iter()
            .map(|record| record.name.to_string())
            .collect();
        names.sort();
        names
    }

    fn oil() -> Noticed {
        Noticed::Tenants(vec!["oil".into()])
    }

    #[test]
    fn the_echo_of_our_own_write_is_no_news_and_a_change_by_others_is() {
        let owned = Owned::default();
        let wanted = quota("q", 0, "3");
        owned.written(&quota("q", 5, "3"), owned.digest(&wanted));
        assert_eq!(owned.seen(&quota("q", 5, "3")), Noticed::Nothing);
        assert_eq!(owned.seen(&quota("q", 6, "9")), oil());
        assert!(!owned.in_namespace("oil-one")[0].says(owned.digest(&wanted)));
    }

    #[test]
    fn what_is_in_use_is_news() {
        let owned = Owned::default();
        owned.seen(&quota("q", 1, "3"));
        let mut used = quota("q", 2, "3");
        used.status = serde_json::from_value(json!({"used": {"pods": "1"}})).unwrap();
        assert_eq!(owned.seen(&used), oil());
    }

    #[test]
    fn an_answer_that_the_api_server_words_differently_is_not_asked_for_again_until_it_changes() {
        let owned = Owned::default();
        let wanted = owned.digest(&quota("q", 0, "3k"));
        owned.written(&quota("q", 5, "3000"), wanted);
        assert!(owned.in_namespace("oil-one")[0].says(wanted));
        owned.seen(&quota("q", 5, "3000"));
        assert!(
            owned.in_namespace("oil-one")[0].says(wanted),
            "the echo keeps what was learned"
        );
        owned.seen(&quota("q", 6, "4"));
        assert!(!owned.in_namespace("oil-one")[0].says(wanted));
    }

    #[test]
    fn an_answer_that_arrives_after_the_deletion_was_seen_brings_nothing_back() {
        let owned = Owned::default();
        owned.seen(&quota("q", 5, "3"));
        assert_eq!(owned.gone(&quota("q", 7, "3")), oil());
        owned.written(&quota("q", 6, "4"), 0);
        assert_eq!(names(&owned), Vec::<String>::new());
    }

    #[test]
    fn a_deletion_that_is_older_than_what_we_wrote_since_is_not_one() {
        let owned = Owned::default();
        owned.seen(&quota("q", 5, "3"));
        owned.written(&quota("q", 9, "3"), 0);
        assert_eq!(owned.gone(&quota("q", 7, "3")), Noticed::Nothing);
        assert_eq!(names(&owned), ["q"]);
    }

    #[test]
    fn what_a_new_list_does_not_hold_is_gone_but_not_what_was_written_meanwhile() {
        let owned = Owned::default();
        owned.seen(&quota("stays", 1, "3"));
        owned.seen(&quota("went", 2, "3"));
        owned.list_begins::<ResourceQuota>();
        owned.written(&quota("new", 9, "3"), 0);
        owned.seen(&quota("stays", 1, "3"));
        assert_eq!(owned.list_ends::<ResourceQuota>(), oil());
        assert_eq!(names(&owned), ["new", "stays"]);
        assert_eq!(owned.namespaces_of("u1"), ["oil-one".into()]);
        owned.gone(&quota("stays", 10, "3"));
        owned.gone(&quota("new", 11, "3"));
        assert_eq!(owned.namespaces_of("u1"), Vec::<Arc<str>>::new());
    }

    #[test]
    fn empty_lists_mean_what_absent_ones_mean_and_empty_selectors_do_not() {
        let owned = Owned::default();
        let policy = |spec: Value| {
            let policy: NetworkPolicy =
                serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            owned.digest(&policy)
        };
        assert_eq!(
            policy(json!({"podSelector": {"matchLabels": {}}, "ingress": []})),
            policy(json!({"podSelector": {}}))
        );
        assert_ne!(
            policy(json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]})),
            policy(json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}))
        );
        assert_ne!(
            policy(json!({"podSelector": {}, "ingress": [{}]})),
            policy(json!({"podSelector": {}}))
        );
    }
}
