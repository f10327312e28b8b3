//! Tenants and namespaces as decisions look them up: by name, by owner, by namespace, always in constant time.
//!
//! The index is fed from the process's watches, one object at a time, and shared by everything that decides. A handle is cheap
//! to clone; each look-up holds a read lock for as long as a hash takes and hands out shared values, so nothing blocks
//! while a decision is made. Copying the whole index per change was refused: with ten thousand tenants the first
//! listing alone would copy it a hundred thousand times.
//!
//! Everything that costs time per tenant and not per request (compiling patterns, collecting owners) is done when a tenant
//! enters ([`KnownTenant`]).
//!
//! A watch lags behind the API server by milliseconds. A [`View`] adds what was read live for one request.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use api::capsule::{
    names,
    v1beta2::{Tenant, TenantOwner, UserKind, UserSpec},
};
use k8s_openapi::api::core::v1::Namespace;
use kube_core::ResourceExt;

use crate::{
    audit::{Audited, Limit},
    classes::ClassPolicy,
    denial::Denial,
    keys::{ForbiddenKeys, RequiredValues},
    linkage::{self, Unclear},
    name::{NamespaceName, TenantName},
    ownership,
    pattern::Cache,
    quota::tenant::{self, Budget},
    services::ServicePolicy,
    subject::{Subjects, User},
    tenant_owners::{self, Selection, TenantUsers},
};

/// A tenant with everything compiled that decisions ask of it.
#[derive(Debug)]
pub struct KnownTenant {
    /// The object.
    pub object: Arc<Tenant>,
    /// Its name.
    pub name: TenantName,
    /// Its UID.
    pub uid: Arc<str>,
    /// The limits that it only tries out.
    pub audited: Audited,
    /// Its owners, wherever the ownership comes from.
    pub owners: Subjects,
    /// Which TenantOwners it selects.
    selection: Selection,
    /// The subjects of those that it selects.
    selected: Vec<UserSpec>,
    /// `spec.storageClasses`. `None`: all are allowed.
    pub storage_classes: Option<ClassPolicy>,
    /// `spec.ingressOptions.allowedClasses`. `None`: all are allowed.
    pub ingress_classes: Option<ClassPolicy>,
    /// `spec.ingressOptions.allowedHostnames`. `None`: all are allowed.
    pub hostnames: Option<ClassPolicy>,
    /// `spec.priorityClasses`. `None`: all are allowed.
    pub priority_classes: Option<ClassPolicy>,
    /// `spec.runtimeClasses`. `None`: all are allowed.
    pub runtime_classes: Option<ClassPolicy>,
    /// `spec.gatewayOptions.allowedClasses`. `None`: all are allowed.
    pub gateway_classes: Option<ClassPolicy>,
    /// `spec.deviceClasses`. `None`: all are allowed.
    pub device_classes: Option<ClassPolicy>,
    /// `spec.containerRegistries`. `None`: all are allowed.
    pub registries: Option<ClassPolicy>,
    /// `spec.serviceOptions`.
    pub services: ServicePolicy,
    /// `spec.namespaceOptions.forbiddenLabels`.
    pub forbidden_labels: ForbiddenKeys,
    /// `spec.namespaceOptions.forbiddenAnnotations`.
    pub forbidden_annotations: ForbiddenKeys,
    /// `spec.namespaceOptions.requiredMetadata.labels`.
    pub required_labels: RequiredValues,
    /// `spec.namespaceOptions.requiredMetadata.annotations`.
    pub required_annotations: RequiredValues,
    /// What its namespaces share.
    pub budgets: Vec<Arc<Budget>>,
}

impl KnownTenant {
    /// Compiles a tenant.
    pub fn new(object: Arc<Tenant>, patterns: &mut Cache) -> Self {
        let spec = &object.spec;
        let mut policy = |list: Option<&_>| list.map(|list| ClassPolicy::new(list, patterns));
        let storage_classes = policy(spec.storage_classes.as_ref());
        let ingress = spec.ingress_options.as_ref();
        let ingress_classes = policy(ingress.and_then(|options| options.allowed_classes.as_ref()));
        let priority_classes = policy(spec.priority_classes.as_ref());
        let runtime_classes = policy(spec.runtime_classes.as_ref());
        let gateway = spec.gateway_options.as_ref();
        let gateway_classes = policy(gateway.and_then(|options| options.allowed_classes.as_ref()));
        let device_classes = spec.device_classes.as_ref();
        let device_classes = device_classes.map(|list| ClassPolicy::of_selected(list, patterns));
        let mut names = |list: Option<&_>| list.map(|list| ClassPolicy::of_names(list, patterns));
        let hostnames = names(ingress.and_then(|options| options.allowed_hostnames.as_ref()));
        let registries = names(spec.container_registries.as_ref());
        let options = spec.namespace_options.as_ref();
        let required = options.and_then(|options| options.required_metadata.as_ref());
        Self {
            name: TenantName::accepted(&object.name_any()),
            uid: object.uid().unwrap_or_default().into(),
            audited: Audited::of(&object),
            owners: ownership::subjects(&object),
            selection: Selection::of(&object),
            selected: Vec::new(),
            storage_classes,
            ingress_classes,
            hostnames,
            priority_classes,
            runtime_classes,
            gateway_classes,
            device_classes,
            registries,
            services: ServicePolicy::new(spec.service_options.as_ref(), patterns),
            forbidden_labels: ForbiddenKeys::new(
                options.and_then(|options| options.forbidden_labels.as_ref()),
                patterns,
            ),
            forbidden_annotations: ForbiddenKeys::new(
                options.and_then(|options| options.forbidden_annotations.as_ref()),
                patterns,
            ),
            required_labels: RequiredValues::new(required.map(|required| &required.labels), patterns),
            required_annotations: RequiredValues::new(required.map(|required| &required.annotations), patterns),
            budgets: tenant::budgets(&object).into_iter().map(Arc::new).collect(),
            object,
        }
    }

    /// A field of it, for the sentence that says who set a limit: `spec.cordoned of the Tenant "oil"`.
    pub(crate) fn field(&self, path: &str) -> String {
        format!("{path} of the Tenant {:?}", self.name.as_str())
    }

    /// Adds the owners that come from TenantOwners, of all that there are.
    fn with_tenant_owners<'a>(mut self, owners: impl IntoIterator<Item = &'a Arc<TenantOwner>>) -> Self {
        for owner in owners {
            if self.selection.selects(owner) {
                let user = &owner.spec.core.user;
                self.owners.insert(user.kind, &user.name);
                self.selected.push(user.clone());
            }
        }
        self
    }

    /// Kind and name of everybody who owns the tenant. May repeat.
    fn named(&self) -> impl Iterator<Item = (UserKind, &str)> {
        let selected = self.selected.iter().map(|user| (user.kind, user.name.as_str()));
        ownership::named(&self.object).chain(selected.filter(|(_, name)| !name.is_empty()))
    }

    /// Whether the user owns the tenant. Administrators own every tenant, which is not looked at here.
    pub fn is_owned_by(&self, user: &User<'_>) -> bool {
        self.owners.hold(user)
    }

    /// Whether the tenant is frozen.
    pub fn is_cordoned(&self) -> bool {
        self.object.spec.cordoned
    }

    /// Whether the tenant is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// How many namespaces it may have. `None`: any number.
    pub fn namespace_quota(&self) -> Option<usize> {
        let quota = self.object.spec.namespace_options.as_ref()?.quota?;
        // The schema refuses less than one; an older object that says so has no room.
        Some(usize::try_from(quota).unwrap_or(0))
    }

    /// What every namespace's name has to begin with, if anything.
    pub fn required_prefix(&self, by_default: bool) -> Option<String> {
        self.object
            .spec
            .force_tenant_prefix
            .unwrap_or(by_default)
            .then(|| format!("{}-", self.name))
    }
}

/// A namespace as far as decisions about what is in it are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNamespace {
    /// Its name.
    pub name: NamespaceName,
    /// Name and UID of the tenant that it says it belongs to.
    pub tenant: Result<Option<(TenantName, Arc<str>)>, Unclear>,
    /// UID of the tenant in whose quota it counts: that of its owner reference, whatever else it says.
    counts_for: Option<Arc<str>>,
    /// Whether it is frozen by its label.
    pub is_cordoned: bool,
    /// Whether it is being deleted.
    pub is_terminating: bool,
}

impl KnownNamespace {
    /// Of a namespace.
    pub fn new(namespace: &Namespace) -> Self {
        let tenant = linkage::linkage(namespace)
            .map(|tenant| tenant.map(|tenant| (TenantName::accepted(tenant.name), tenant.uid.into())));
        let label = |key: &str| namespace.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        Self {
            name: NamespaceName::accepted(&namespace.name_any()),
            tenant,
            counts_for: linkage::references(namespace)
                .next()
                .map(|reference| reference.uid.as_str().into()),
            is_cordoned: label(names::CORDONED_LABEL).is_some_and(|value| value == "true"),
            is_terminating: namespace.metadata.deletion_timestamp.is_some(),
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    tenants: HashMap<TenantName, Arc<KnownTenant>>,
    /// Users and ServiceAccounts to the names of the tenants that they own, sorted.
    by_owner: HashMap<Box<str>, BTreeSet<TenantName>>,
    /// Groups to the names of the tenants that they own, sorted.
    by_owner_group: HashMap<Box<str>, BTreeSet<TenantName>>,
    namespaces: HashMap<NamespaceName, Arc<KnownNamespace>>,
    /// Tenant UID to the namespaces that count for it.
    members: HashMap<Arc<str>, BTreeSet<NamespaceName>>,
    /// TenantOwners by their own names.
    tenant_owners: HashMap<Box<str>, Arc<TenantOwner>>,
    /// Whom those make tenant users.
    tenant_users: TenantUsers,
    patterns: Cache,
}

/// All tenants and namespaces that the watches have shown. Cheap to clone; clones share the content.
#[derive(Clone, Debug, Default)]
pub struct Index {
    known: Arc<RwLock<Known>>,
}

impl Index {
    // A poisoned lock means that a panic happened between two changes of plain values; they are still valid.
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant as the watch shows it.
    pub fn put_tenant(&self, tenant: Arc<Tenant>) {
        self.write().put_tenant(tenant);
    }

    /// A tenant that is gone.
    pub fn remove_tenant(&self, name: &str) {
        self.write().remove_tenant(name);
    }

    /// A TenantOwner as the watch shows it.
    pub fn put_tenant_owner(&self, owner: &Arc<TenantOwner>) {
        let mut known = self.write();
        let before = known.tenant_owners.insert(owner.name_any().into(), owner.clone());
        if before
            .as_ref()
            .is_some_and(|before| tenant_owners::means_the_same(before, owner))
        {
            return;
        }
        if let Some(before) = &before {
            known.tenant_users.remove(before);
        }
        known.tenant_users.add(owner);
        known.look_again(|selection| {
            selection.selects(owner) || before.as_ref().is_some_and(|before| selection.selects(before))
        });
    }

    /// A TenantOwner that is gone.
    pub fn remove_tenant_owner(&self, name: &str) {
        let mut known = self.write();
        if let Some(before) = known.tenant_owners.remove(name) {
            known.tenant_users.remove(&before);
            known.look_again(|selection| selection.selects(&before));
        }
    }

    /// Whether a TenantOwner makes the user a tenant user, by name or by a group.
    pub fn is_tenant_user(&self, user: &User<'_>) -> bool {
        self.read().tenant_users.hold(user)
    }

    /// A namespace as the watch shows it.
    pub fn put_namespace(&self, namespace: &Namespace) {
        let entry = Arc::new(KnownNamespace::new(namespace));
        let mut known = self.write();
        known.remove_namespace(entry.name.as_str());
        if let Some(uid) = &entry.counts_for {
            known.members.entry(uid.clone()).or_default().insert(entry.name.clone());
        }
        known.namespaces.insert(entry.name.clone(), entry);
    }

    /// A namespace that is gone.
    pub fn remove_namespace(&self, name: &str) {
        self.write().remove_namespace(name);
    }

    /// The tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<Arc<KnownTenant>> {
        self.read().tenants.get(name).cloned()
    }

    /// The namespace of this name.
    pub fn namespace(&self, name: &str) -> Option<Arc<KnownNamespace>> {
        self.read().namespaces.get(name).cloned()
    }

    /// The tenants that the user owns, by name or by a group; each once, sorted by name.
    pub fn owned_by(&self, user: &User<'_>) -> Vec<Arc<KnownTenant>> {
        let known = self.read();
        let by_group = user
            .groups
            .iter()
            .filter_map(|group| known.by_owner_group.get(group.as_str()));
        let names: BTreeSet<_> = known
            .by_owner
            .get(user.name)
            .into_iter()
            .chain(by_group)
            .flatten()
            .collect();
        names
            .into_iter()
            .filter_map(|name| known.tenants.get(name.as_str()).cloned())
            .collect()
    }

    /// Names of the namespaces that count for the tenant with this UID, sorted.
    pub fn namespaces_of(&self, tenant_uid: &str) -> Vec<NamespaceName> {
        self.read()
            .members
            .get(tenant_uid)
            .map(|names| names.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// How many namespaces other than this one count for the tenant with this UID.
    pub fn count_others(&self, tenant_uid: &str, namespace: &str) -> usize {
        let known = self.read();
        known
            .members
            .get(tenant_uid)
            .map_or(0, |names| names.len() - usize::from(names.contains(namespace)))
    }
}

impl Known {
    fn put_tenant(&mut self, tenant: Arc<Tenant>) {
        let entry = KnownTenant::new(tenant, &mut self.patterns);
        let entry = Arc::new(entry.with_tenant_owners(self.tenant_owners.values()));
        self.remove_tenant(entry.name.as_str());
        self.list_owners(&entry, |tenants, name| {
            tenants.insert(name.clone());
        });
        self.tenants.insert(entry.name.clone(), entry);
    }

    /// Collects the owners of some tenants anew: those whose selection a change of TenantOwners concerns.
    fn look_again(&mut self, is_concerned: impl Fn(&Selection) -> bool) {
        let concerned = self.tenants.values().filter(|tenant| is_concerned(&tenant.selection));
        let concerned: Vec<Arc<Tenant>> = concerned.map(|tenant| tenant.object.clone()).collect();
        for tenant in concerned {
            self.put_tenant(tenant);
        }
    }

    fn remove_tenant(&mut self, name: &str) {
        if let Some(entry) = self.tenants.remove(name) {
            self.list_owners(&entry, |tenants, name| {
                tenants.remove(name);
            });
        }
    }

    fn list_owners(&mut self, entry: &KnownTenant, change: impl Fn(&mut BTreeSet<TenantName>, &TenantName)) {
        for (kind, owner) in entry.named() {
            let owners = if kind == UserKind::Group {
                &mut self.by_owner_group
            } else {
                &mut self.by_owner
            };
            let tenants = owners.entry(owner.into()).or_default();
            change(tenants, &entry.name);
            if tenants.is_empty() {
                owners.remove(owner);
            }
        }
    }

    fn remove_namespace(&mut self, name: &str) {
        let Some(entry) = self.namespaces.remove(name) else {
            return;
        };
        let Some(uid) = &entry.counts_for else { return };
        if let Some(names) = self.members.get_mut(uid) {
            names.remove(name);
            if names.is_empty() {
                self.members.remove(uid);
            }
        }
    }
}

/// What one decision can see: the index, and on top of it what was read live for this request.
#[derive(Clone, Debug, Default)]
pub struct View {
    index: Index,
    tenants: Vec<Arc<KnownTenant>>,
    namespaces: Vec<Arc<KnownNamespace>>,
    /// Tenant UID, and how many namespaces it has.
    counts: Vec<(Arc<str>, usize)>,
}

impl View {
    /// Of the index alone.
    pub fn new(index: &Index) -> Self {
        Self {
            index: index.clone(),
            ..Self::default()
        }
    }

    /// Adds a tenant that was read live.
    #[must_use]
    pub fn with_tenant(mut self, tenant: Tenant) -> Self {
        let known = KnownTenant::new(Arc::new(tenant), &mut Cache::default());
        let known = known.with_tenant_owners(self.index.read().tenant_owners.values());
        self.tenants.push(Arc::new(known));
        self
    }

    /// With a tenant as it would be without one of its limits.
    #[must_use]
    pub fn without_limit(mut self, tenant: &KnownTenant, limit: Limit) -> Self {
        let mut object = Tenant::clone(&tenant.object);
        limit.lift(&mut object.spec);
        // With the patterns of the tenant, which are compiled already.
        let lifted = KnownTenant::new(Arc::new(object), &mut self.index.write().patterns);
        let lifted = KnownTenant {
            owners: tenant.owners.clone(),
            selected: tenant.selected.clone(),
            ..lifted
        };
        self.tenants.retain(|known| known.name != tenant.name);
        self.tenants.push(Arc::new(lifted));
        self
    }

    /// Adds a namespace that was read live.
    #[must_use]
    pub fn with_namespace(mut self, namespace: &Namespace) -> Self {
        self.namespaces.push(Arc::new(KnownNamespace::new(namespace)));
        self
    }

    /// Adds that a tenant has so many namespaces, whatever the watch shows: counted live, with those that were admitted. Of
    /// several counts the largest holds. The namespace that is asked about must not be among them.
    #[must_use]
    pub fn with_namespace_count(mut self, tenant_uid: &str, others: usize) -> Self {
        self.counts.push((tenant_uid.into(), others));
        self
    }

    /// The tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<Arc<KnownTenant>> {
        let live = self.tenants.iter().find(|tenant| tenant.name.as_str() == name);
        live.cloned().or_else(|| self.index.tenant(name))
    }

    /// The namespace of this name.
    pub fn namespace(&self, name: &str) -> Option<Arc<KnownNamespace>> {
        let live = self.namespaces.iter().find(|namespace| namespace.name.as_str() == name);
        live.cloned().or_else(|| self.index.namespace(name))
    }

    /// The tenants that the user owns, by name or by a group; each once, sorted by name.
    pub fn owned_by(&self, user: &User<'_>) -> Vec<Arc<KnownTenant>> {
        let mut owned = self.index.owned_by(user);
        for tenant in &self.tenants {
            owned.retain(|known| known.name != tenant.name);
            if tenant.is_owned_by(user) {
                owned.push(tenant.clone());
            }
        }
        if !self.tenants.is_empty() {
            owned.sort_by(|a, b| a.name.cmp(&b.name));
        }
        owned
    }

    /// Whether a TenantOwner makes the user a tenant user, by name or by a group.
    pub fn is_tenant_user(&self, user: &User<'_>) -> bool {
        self.index.is_tenant_user(user)
    }

    /// The tenant that a namespace belongs to: named by label and reference, existing, and with the UID of the
    /// reference. `None` if it belongs to none, or is unknown.
    ///
    /// # Errors
    /// If the namespace does not say clearly, or names a tenant that is not there. What is in such a namespace cannot be
    /// judged, so it is refused.
    pub fn tenant_of(&self, namespace: &str) -> Result<Option<Arc<KnownTenant>>, Denial> {
        let Some(known) = self.namespace(namespace) else {
            return Ok(None);
        };
        let failed = |detail: String| {
            let message = format!(
                "failed to tell which tenant namespace {namespace:?} belongs to: {detail}; an administrator of this \
                 cluster has to repair the namespace"
            );
            Denial::new("metadata.namespace", "TenantUnclear", message).with_code(500)
        };
        match &known.tenant {
            Ok(None) => Ok(None),
            Err(unclear) => Err(failed(unclear.to_string())),
            Ok(Some((name, uid))) => match self.tenant(name.as_str()) {
                Some(tenant) if tenant.uid == *uid => Ok(Some(tenant)),
                Some(_) => Err(failed(format!(
                    "its owner reference is to an earlier Tenant {name}, which is gone"
                ))),
                None => Err(failed(format!("there is no Tenant {name}"))),
            },
        }
    }

    /// How many namespaces other than this one count for the tenant.
    pub fn count_others(&self, tenant: &KnownTenant, namespace: &str) -> usize {
        let live = self
            .counts
            .iter()
            .filter(|(uid, _)| *uid == tenant.uid)
            .map(|(_, count)| *count)
            .max();
        live.unwrap_or_else(|| self.index.count_others(&tenant.uid, namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{groups, namespace, tenant, tenant_owner};
    use serde_json::json;

    fn names(tenants: &[Arc<KnownTenant>]) -> Vec<&str> {
        tenants.iter().map(|tenant| tenant.name.as_str()).collect()
    }

    #[test]
    fn tenant_owners_own_what_selects_them_for_as_long_as_it_does() {
        let index = Index::default();
        let selecting = json!({"permissions": {"matchOwners": [{"matchLabels": {"team": "oil"}}]}});
        index.put_tenant(tenant("oil").with(selecting).into());
        index.put_tenant(tenant("gas").into());
        let alice = User {
            name: "alice",
            groups: &[],
        };
        let put = |labels: serde_json::Value, aggregate: bool| {
            let spec = json!({"kind": "User", "name": "alice", "aggregate": aggregate});
            index.put_tenant_owner(&Arc::new(tenant_owner("object", labels, spec)));
        };
        put(json!({"team": "oil"}), true);
        assert_eq!(names(&index.owned_by(&alice)), ["oil"]);
        assert!(index.tenant("oil").is_some_and(|oil| oil.is_owned_by(&alice)));
        assert!(index.is_tenant_user(&alice));
        // A tenant that comes later, or is read live, counts it as well.
        let live = View::new(&index).with_tenant(
            tenant("sea")
                .with(json!({"permissions": {"matchOwners": [{"matchLabels": {"team": "oil"}}]}}))
                .build(),
        );
        assert_eq!(names(&live.owned_by(&alice)), ["oil", "sea"]);
        put(json!({"projectcapsule.dev/tenant": "gas"}), false);
        assert_eq!(names(&index.owned_by(&alice)), ["gas"]);
        assert!(!index.is_tenant_user(&alice));
        index.remove_tenant_owner("object");
        assert_eq!(names(&index.owned_by(&alice)), [""; 0]);
        assert!(index.tenant("gas").is_some_and(|gas| !gas.is_owned_by(&alice)));
        assert!(index.read().by_owner.is_empty());
    }

    #[test]
    fn tenants_are_found_by_their_owners_whatever_kind_those_are() {
        let index = Index::default();
        index.put_tenant(tenant("oil").owner("alice").into());
        index.put_tenant(tenant("gas").owner_group("team").into());
        index.put_tenant(tenant("sun").owner("bob").into());
        let team = groups(&["team", "others"]);
        assert_eq!(
            names(&index.owned_by(&User {
                name: "alice",
                groups: &team
            })),
            ["gas", "oil"]
        );
        assert_eq!(
            names(&index.owned_by(&User {
                name: "team",
                groups: &[]
            })),
            [""; 0]
        );
        index.put_tenant(tenant("oil").owner("bob").into());
        assert_eq!(
            names(&index.owned_by(&User {
                name: "alice",
                groups: &[]
            })),
            [""; 0]
        );
        assert_eq!(
            names(&index.owned_by(&User {
                name: "bob",
                groups: &[]
            })),
            ["oil", "sun"]
        );
        index.remove_tenant("sun");
        assert_eq!(
            names(&index.owned_by(&User {
                name: "bob",
                groups: &[]
            })),
            ["oil"]
        );
    }

    #[test]
    fn owners_that_only_the_status_knows_are_owners() {
        let index = Index::default();
        index.put_tenant(tenant("oil").owner("alice").status_owner("carol").into());
        assert_eq!(
            names(&index.owned_by(&User {
                name: "carol",
                groups: &[]
            })),
            ["oil"]
        );
        assert_eq!(
            names(&index.owned_by(&User {
                name: "alice",
                groups: &[]
            })),
            ["oil"]
        );
    }

    #[test]
    fn namespaces_count_for_the_uid_and_not_for_the_name() {
        let index = Index::default();
        index.put_tenant(tenant("oil").uid("new").into());
        index.put_namespace(&namespace("one").of_uid("oil", "old").build());
        index.put_namespace(&namespace("two").of_uid("oil", "new").build());
        assert_eq!(index.count_others("new", "two"), 0);
        assert_eq!(index.count_others("new", "three"), 1);
        let view = View::new(&index);
        assert_eq!(view.tenant_of("two").unwrap().unwrap().name.as_str(), "oil");
        let denial = view.tenant_of("one").unwrap_err();
        assert_eq!((denial.reason, denial.code), ("TenantUnclear", 500));
        index.remove_namespace("two");
        assert_eq!(index.count_others("new", "three"), 0);
    }

    #[test]
    fn a_namespace_that_changes_hands_counts_once() {
        let index = Index::default();
        index.put_namespace(&namespace("one").of_uid("oil", "1").build());
        index.put_namespace(&namespace("one").of_uid("gas", "2").build());
        assert_eq!((index.count_others("1", ""), index.count_others("2", "")), (0, 1));
    }

    #[test]
    fn what_was_read_live_comes_first() {
        let index = Index::default();
        index.put_tenant(tenant("oil").owner("alice").into());
        let view = View::new(&index)
            .with_tenant(tenant("oil").owner("bob").build())
            .with_tenant(tenant("fresh").owner("bob").build())
            .with_namespace(&namespace("fresh-one").of("fresh").build())
            .with_namespace_count("uid-of-fresh", 3);
        assert_eq!(
            names(&view.owned_by(&User {
                name: "bob",
                groups: &[]
            })),
            ["fresh", "oil"]
        );
        assert!(
            view.owned_by(&User {
                name: "alice",
                groups: &[]
            })
            .is_empty()
        );
        let fresh = view.tenant_of("fresh-one").unwrap().unwrap();
        assert_eq!(view.count_others(&fresh, "fresh-two"), 3);
    }
}
