//! Carries a plan out: as few requests as possible, several at a time, and every failure with the namespace it belongs to.

use std::fmt::Debug;
use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::RuleStatus;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::metrics::Writes;
use crate::owned::{Kept, Kind, Owned};
use crate::takeover;

/// Requests in flight at a time, over all tenants. The API server of a small machine is busy with this many already.
const IN_FLIGHT: usize = 24;

/// How often a take-over is begun again because the object changed in between, before the queue's backoff is waited for.
const TAKE_OVER_ATTEMPTS: usize = 3;

/// Begins the annotations that are ours alone on quotas.
const QUOTA_ANNOTATIONS: &str = "quota.capsule.clastix.io/";

/// An object as it should be, and its digest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Object {
    NetworkPolicy(NetworkPolicy),
    LimitRange(LimitRange),
    ResourceQuota(ResourceQuota),
    RoleBinding(RoleBinding),
    RuleStatus(Box<RuleStatus>),
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NetworkPolicy(_) => Kind::NetworkPolicy,
            Self::LimitRange(_) => Kind::LimitRange,
            Self::ResourceQuota(_) => Kind::ResourceQuota,
            Self::RoleBinding(_) => Kind::RoleBinding,
            Self::RuleStatus(_) => Kind::RuleStatus,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::NetworkPolicy(object) => object.metadata.name.as_deref(),
            Self::LimitRange(object) => object.metadata.name.as_deref(),
            Self::ResourceQuota(object) => object.metadata.name.as_deref(),
            Self::RoleBinding(object) => object.metadata.name.as_deref(),
            Self::RuleStatus(object) => object.metadata.name.as_deref(),
        }
        .unwrap_or_default()
    }

    pub fn digest(&self, owned: &Owned) -> u64 {
        match self {
            Self::NetworkPolicy(object) => owned.digest(object),
            Self::LimitRange(object) => owned.digest(object),
            Self::ResourceQuota(object) => owned.digest(object),
            Self::RoleBinding(object) => owned.digest(object),
            Self::RuleStatus(object) => owned.digest(&**object),
        }
    }
}

/// Writes objects and keeps the records in step. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    owned: Owned,
    writes: Writes,
    slots: Arc<Semaphore>,
}

impl Writer {
    pub fn new(client: Client, owned: Owned, writes: Writes) -> Self {
        Self {
            client,
            owned,
            writes,
            slots: Arc::new(Semaphore::new(IN_FLIGHT)),
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether much is being written: what can wait should.
    pub fn is_busy(&self) -> bool {
        self.slots.available_permits() < IN_FLIGHT * 3 / 4
    }

    /// Waits for a turn; the turn ends when the value is dropped.
    async fn turn(&self, verb: &'static str, kind: &'static str) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphore is never closed; if it were, writing without a limit would still be right.
        let permit = self.slots.acquire().await.ok();
        self.writes.count(verb, kind);
        permit
    }

    pub async fn keep(&self, namespace: &str, object: &Object) -> Result<(), Error> {
        match object {
            Object::NetworkPolicy(object) => self.keep_typed(namespace, object).await,
            Object::LimitRange(object) => self.keep_typed(namespace, object).await,
            Object::ResourceQuota(object) => self.keep_typed(namespace, object).await,
            Object::RoleBinding(object) => self.keep_typed(namespace, object).await,
            Object::RuleStatus(object) => self.keep_typed(namespace, &**object).await,
        }
    }

    /// Makes one object say what it should: one create or apply, and further requests only if somebody else's fields are in the way.
    async fn keep_typed<K: Kept>(&self, namespace: &str, wanted: &K) -> Result<(), Error> {
        let name = wanted.name_any();
        let failed = |source| Error::Apply {
            kind: K::KIND.name(),
            namespace: namespace.to_owned(),
            name: name.clone(),
            source,
        };
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let digest = self.owned.digest(wanted);
        let created = if self.owned.holds(namespace, K::KIND, &name) {
            None
        } else {
            match self.create(&api, wanted).await {
                Ok(created) => created,
                Err(error) => return Err(role_missing(&error, namespace, wanted).unwrap_or_else(|| failed(error))),
            }
        };
        let mut answer = match created {
            Some(created) => created,
            None => match self.apply(&api, wanted).await {
                // 422: what stands there under our name has another controller, or binds another role, which cannot be
                // changed. The name is ours, so the former is taken over; the latter a person must decide.
                Err(kube::Error::Api(status)) if status.code == 422 => {
                    self.take_over(&api, namespace, wanted, kube::Error::Api(status))
                        .await?
                }
                Err(error) => return Err(role_missing(&error, namespace, wanted).unwrap_or_else(|| failed(error))),
                Ok(applied) => applied,
            },
        };
        let leftovers = leftovers(wanted, &answer);
        if !leftovers.is_empty() {
            let patch: json_patch::Patch = serde_json::from_value(Value::Array(leftovers)).unwrap_or_default();
            let _turn = self.turn("patch", K::KIND.name()).await;
            answer = api
                .patch(&name, &ours(), &Patch::<K>::Json(patch))
                .await
                .map_err(failed)?;
        }
        self.owned.written(&answer, digest);
        Ok(())
    }

    /// Creates what does not seem to be there, which costs the API server less than an apply: no YAML, nothing to merge.
    /// `None` if something of this name is there after all.
    ///
    /// The fields are ours in an entry of the operation `Update` then. A later apply shares them, and what it lets go of is
    /// moved and removed as a predecessor's is ([`takeover`]).
    async fn create<K: Kept>(&self, api: &Api<K>, wanted: &K) -> kube::Result<Option<K>> {
        let _turn = self.turn("create", K::KIND.name()).await;
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&params, wanted).await {
            Ok(created) => Ok(Some(created)),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies, and once more if a predecessor owns fields beside us.
    async fn apply<K: Kept>(&self, api: &Api<K>, wanted: &K) -> kube::Result<K> {
        for attempt in 1..=TAKE_OVER_ATTEMPTS {
            let answer = self.apply_once(api, wanted).await?;
            let Some(patch) = takeover::patch(answer.meta()) else {
                return Ok(answer);
            };
            let patch: json_patch::Patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
            let _turn = self.turn("patch", K::KIND.name()).await;
            let patch = Patch::<Value>::Json(patch);
            match api.patch_metadata(&wanted.name_any(), &ours(), &patch).await {
                Ok(_) => {}
                Err(error) if is_conflict(&error) && attempt < TAKE_OVER_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        self.apply_once(api, wanted).await
    }

    async fn apply_once<K: Kept>(&self, api: &Api<K>, wanted: &K) -> kube::Result<K> {
        let _turn = self.turn("apply", K::KIND.name()).await;
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        api.patch(&wanted.name_any(), &params, &Patch::Apply(wanted)).await
    }

    async fn take_over<K: Kept>(
        &self,
        api: &Api<K>,
        namespace: &str,
        wanted: &K,
        refused: kube::Error,
    ) -> Result<K, Error> {
        let name = wanted.name_any();
        let failed = |source| Error::Apply {
            kind: K::KIND.name(),
            namespace: namespace.to_owned(),
            name: name.clone(),
            source,
        };
        // Nothing stands in the way: the object itself is what was refused.
        let Some(found) = api.get_opt(&name).await.map_err(failed)? else {
            return Err(failed(refused));
        };
        if let Some(role) = json!(found)
            .pointer("/roleRef")
            .filter(|role| Some(*role) != json!(wanted).pointer("/roleRef"))
        {
            let text = |key: &str| role.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let found = format!("{} {}", text("kind"), text("name"));
            return Err(Error::RoleTaken {
                namespace: namespace.to_owned(),
                name,
                found,
            });
        }
        if found.owner_references() == wanted.owner_references() {
            return Err(failed(refused));
        }
        let patch = json!({"metadata": {
            "uid": found.uid(), "resourceVersion": found.resource_version(), "ownerReferences": wanted.owner_references(),
        }});
        {
            let _turn = self.turn("patch", K::KIND.name()).await;
            api.patch(&name, &ours(), &Patch::Merge(&patch)).await.map_err(failed)?;
        }
        self.apply(api, wanted).await.map_err(failed)
    }

    /// Deletes an object that is ours and no longer wanted, and no other object that has its name by now.
    pub async fn prune(&self, namespace: &str, kind: Kind, name: &str, uid: &str) -> Result<(), Error> {
        match kind {
            Kind::NetworkPolicy => self.prune_typed::<NetworkPolicy>(namespace, name, uid).await,
            Kind::LimitRange => self.prune_typed::<LimitRange>(namespace, name, uid).await,
            Kind::ResourceQuota => self.prune_typed::<ResourceQuota>(namespace, name, uid).await,
            Kind::RoleBinding => self.prune_typed::<RoleBinding>(namespace, name, uid).await,
            Kind::RuleStatus => self.prune_typed::<RuleStatus>(namespace, name, uid).await,
        }
    }

    async fn prune_typed<K: Kept>(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let _turn = self.turn("delete", K::KIND.name()).await;
        match api.delete(name, &only(uid)).await {
            Ok(_) => {}
            // Gone, or another object by now.
            Err(error) if is_not_found(&error) || is_conflict(&error) => {}
            Err(source) => {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                return Err(Error::Delete {
                    kind: K::KIND.name(),
                    namespace,
                    name,
                    source,
                });
            }
        }
        self.owned.deleted(namespace, K::KIND, name, uid);
        Ok(())
    }

    /// Sets and removes labels and annotations of a namespace, one merge patch with the differences alone. Not server-side apply: a
    /// key that the tenant's owner brought along at creation stays theirs as well, and would survive our letting go of it.
    pub async fn patch_namespace(&self, name: &str, patch: &Value) -> Result<Option<Namespace>, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let _turn = self.turn("patch", "Namespace").await;
        match api.patch(name, &ours(), &Patch::Merge(patch)).await {
            Ok(namespace) => Ok(Some(namespace)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(source) => Err(Error::UpdateNamespace {
                name: name.to_owned(),
                source,
            }),
        }
    }

    /// Applies the status of an object whose status is ours alone: what an earlier operator said there goes.
    pub async fn publish<K>(&self, api: &Api<K>, name: &str, body: &Value) -> kube::Result<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let _turn = self.turn("apply-status", kind::<K>()).await;
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let answer = api.patch_status(name, &params, &Patch::Apply(body)).await?;
        if !takeover::is_mixed(answer.meta()) {
            return Ok(answer);
        }
        self.count("patch-status", kind::<K>());
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": answer.meta().uid},
            {"op": "replace", "path": "/status", "value": body["status"]},
        ]);
        let patch: json_patch::Patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
        api.patch_status(name, &ours(), &Patch::<Value>::Json(patch)).await
    }

    /// Sets labels and annotations by a merge patch that carries the object's UID: another one of its name is left alone, as
    /// is one that is gone. They become `manager`'s; `kind` is for the metric.
    pub(crate) async fn label<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        name: &str,
        manager: &str,
        patch: &Value,
    ) -> kube::Result<()>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let _turn = self.turn("patch", kind).await;
        match api.patch_metadata(name, &by(manager), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn delete_namespace(&self, name: &str, uid: &str) -> Result<(), Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let _turn = self.turn("delete", "Namespace").await;
        match api.delete(name, &only(uid)).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(source) => Err(Error::DeleteNamespace {
                name: name.to_owned(),
                source,
            }),
        }
    }

    /// A patch of a cluster-scoped object of ours, counted.
    pub async fn patch_cluster_wide<K, P>(
        &self,
        verb: &'static str,
        name: &str,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> kube::Result<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
        P: Serialize + Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let _turn = self.turn(verb, kind::<K>()).await;
        api.patch(name, params, patch).await
    }

    pub fn count(&self, verb: &'static str, kind: &'static str) {
        self.writes.count(verb, kind);
    }
}

/// That a RoleBinding was refused because there is no role of the name that it binds, if that is why. The API server says
/// "not found" of a RoleBinding or a ClusterRole, but with the name of the role.
fn role_missing<K: Kept>(refused: &kube::Error, namespace: &str, wanted: &K) -> Option<Error> {
    let kube::Error::Api(status) = refused else { return None };
    let role = json!(wanted).pointer("/roleRef/name")?.as_str()?.to_owned();
    let is_missing = status.code == 404 && status.details.as_ref().is_some_and(|details| details.name == role);
    is_missing.then(|| Error::RoleMissing {
        namespace: namespace.to_owned(),
        name: wanted.name_any(),
        role,
    })
}

/// Parameters of a patch that is no apply.
fn ours() -> PatchParams {
    by(names::FIELD_MANAGER)
}

fn by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    }
}

/// For metric labels.
fn kind<K: kube::Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "other",
    }
}

/// Deletion of this very object and no other of its name; what depends on it goes in the background.
pub fn only(uid: &str) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    })
}

/// JSON patch operations for what remains in an object because other managers own it too.
fn leftovers<K: Kept>(wanted: &K, answer: &K) -> Vec<Value> {
    let mut operations = Vec::new();
    let found = json!(answer);
    for (pointer, value) in wanted.replacements() {
        if found.pointer(pointer) != Some(&value) {
            operations.push(json!({"op": "replace", "path": pointer, "value": value}));
        }
    }
    for key in answer.annotations().keys() {
        if key.starts_with(QUOTA_ANNOTATIONS) && !wanted.annotations().contains_key(key) {
            operations.push(json!({"op": "remove", "path": format!("/metadata/annotations/{}", escape(key))}));
        }
    }
    // Early versions of the peer put this label here, where its own selectors for namespaces find it.
    if answer.labels().contains_key(names::TENANT_LABEL) && !wanted.labels().contains_key(names::TENANT_LABEL) {
        operations.push(json!({"op": "remove", "path": format!("/metadata/labels/{}", escape(names::TENANT_LABEL))}));
    }
    if !operations.is_empty() {
        operations.insert(0, json!({"op": "test", "path": "/metadata/uid", "value": answer.uid()}));
    }
    operations
}

/// A key as one segment of a JSON pointer.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
