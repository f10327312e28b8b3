//! Writing what was decided, and nothing when it is there already.
//!
//! Key material is written with compare-and-swap, never with server-side apply: a Secret is created only if it is not
//! there, and replaced only in the version that was judged. A stale view, or a second operator that has not yet noticed
//! that it lost its lease, then gets a conflict instead of throwing away an authority that nodes already trust.
//!
//! Everything else is one server-side apply per object. Whether one is needed is remembered per object, as hashes of
//! what we last asked for and of what the API server made of it: as long as neither has changed, nothing is sent. The
//! memory is lost with the process; the applies that follow change nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};

use api::capsule::names::LAST_APPLIED;
use api::kamaji::names;
use api::kamaji::v1alpha1::TenantControlPlane;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::desired::identity::{self, Ownership};
use crate::desired::rotation;
use crate::desired::secrets::{Data, Recipe, SecretRecipe};
use crate::error::Error;
use crate::takeover;

/// Our name in `managedFields`.
pub const FIELD_MANAGER: &str = "cotenant-control-plane";

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Written {
    /// It was as wanted.
    Unchanged,
    /// A request was made.
    Applied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    wanted: u64,
    live: u64,
}

/// What was last applied, by UID of the control plane, kind and name. Lost with the process.
#[derive(Debug, Default)]
pub struct Memory {
    seen: Mutex<HashMap<Applied, Fingerprint>>,
    hasher: RandomState,
}

type Applied = (String, &'static str, String);

impl Memory {
    /// Forgets a control plane that is gone.
    pub fn forget(&self, uid: &str) {
        self.locked(|seen| seen.retain(|(owner, ..), _| owner != uid));
    }

    /// Whether nothing was applied since the process began.
    fn is_new(&self, applied: &Applied) -> bool {
        self.locked(|seen| !seen.contains_key(applied))
    }

    fn locked<T>(&self, act: impl FnOnce(&mut HashMap<Applied, Fingerprint>) -> T) -> T {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hash(&self, value: &Value) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hash_value(value, &mut hasher);
        hasher.finish()
    }

    /// What people and controllers decide about an object: everything but status and bookkeeping.
    fn live<K: Serialize>(&self, object: &K) -> Result<u64, serde_json::Error> {
        let mut value = serde_json::to_value(object)?;
        if let Some(object) = value.as_object_mut() {
            object.remove("status");
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                for key in ["managedFields", "resourceVersion", "generation", "creationTimestamp"] {
                    metadata.remove(key);
                }
                // Not in the stores either.
                if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                    annotations.remove(LAST_APPLIED);
                }
            }
        }
        Ok(self.hash(&value))
    }
}

fn hash_value(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Number(value) => (2_u8, value.to_string()).hash(hasher),
        Value::String(value) => (3_u8, value).hash(hasher),
        Value::Array(values) => {
            (4_u8, values.len()).hash(hasher);
            for value in values {
                hash_value(value, hasher);
            }
        }
        Value::Object(values) => {
            (5_u8, values.len()).hash(hasher);
            for (key, value) in values {
                key.hash(hasher);
                hash_value(value, hasher);
            }
        }
    }
}

/// What happens to an object of our name that is nobody's and does not say that it is meant for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unowned {
    /// It is somebody's who has no owner to name.
    Leave,
    /// It stands where ours stood, so it is taken.
    TakeBack,
}

/// Applies one object of a control plane. `live` is the stored state, if there is one. Gives the state that now holds.
pub async fn object<K>(
    client: &Client,
    memory: &Memory,
    tcp: &TenantControlPlane,
    live: Option<&K>,
    wanted: &K,
    unowned: Unowned,
) -> Result<(K, Written), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let kind = kind_of::<K>();
    if let Some(live) = live {
        refuse_foreign(tcp, kind, live, unowned)?;
    }
    let failed = |source| Error::Apply {
        kind,
        name: wanted.name_any(),
        source,
    };
    let uid = tcp.metadata.uid.clone().unwrap_or_default();
    let applied: Applied = (uid, kind, wanted.name_any());
    let wanted_value = serde_json::to_value(wanted).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    let wanted_hash = memory.hash(&wanted_value);
    if let Some(live) = live {
        let now = Fingerprint {
            wanted: wanted_hash,
            live: memory
                .live(live)
                .map_err(|error| failed(kube::Error::SerdeError(error)))?,
        };
        if memory.locked(|seen| seen.get(&applied) == Some(&now)) {
            return Ok((live.clone(), Written::Unchanged));
        }
    }
    let api: Api<K> = Api::namespaced(client.clone(), &tcp.namespace().unwrap_or_default());
    if live.is_none() {
        // The store may be behind, and a name alone is not a right.
        let found = api.get_opt(&wanted.name_any()).await.map_err(failed)?;
        found
            .iter()
            .try_for_each(|found| refuse_foreign(tcp, kind, found, unowned))?;
    } else if memory.is_new(&applied) {
        takeover::inherit(&api, &wanted.name_any(), FIELD_MANAGER)
            .await
            .map_err(failed)?;
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let mut written = api
        .patch(&wanted.name_any(), &parameters, &Patch::Apply(&wanted_value))
        .await
        .map_err(failed)?;
    // The stores keep objects without these, and what is compared must be alike.
    written.managed_fields_mut().clear();
    let live = memory
        .live(&written)
        .map_err(|error| failed(kube::Error::SerdeError(error)))?;
    memory.locked(|seen| {
        seen.insert(
            applied,
            Fingerprint {
                wanted: wanted_hash,
                live,
            },
        )
    });
    Ok((written, Written::Applied))
}

fn kind_of<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

fn refuse_foreign<K: Resource>(
    tcp: &TenantControlPlane,
    kind: &'static str,
    live: &K,
    unowned: Unowned,
) -> Result<(), Error> {
    match (identity::ownership(tcp, live.meta()), unowned) {
        (Ownership::Ours | Ownership::Orphan, _) | (Ownership::Unowned, Unowned::TakeBack) => Ok(()),
        (Ownership::Foreign, _) | (Ownership::Unowned, Unowned::Leave) => Err(Error::NameTaken {
            kind,
            name: live.name_any(),
        }),
    }
}

/// A Secret as it is written: our keys, labels, checksum and owner over what others put there.
pub fn secret(
    tcp: &TenantControlPlane,
    recipe: &SecretRecipe,
    data: &Data,
    old: Option<&Secret>,
    now: Timestamp,
) -> Secret {
    let fresh = identity::metadata(tcp, &recipe.name, recipe.component);
    let mut metadata = old.map(|old| old.metadata.clone()).unwrap_or_default();
    metadata.name = fresh.name;
    metadata.namespace = fresh.namespace;
    metadata.managed_fields = None;
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.extend(fresh.labels.into_iter().flatten());
    if let Some(lifecycle) = recipe.lifecycle {
        labels.insert(names::LIFECYCLE_LABEL.to_owned(), lifecycle.to_owned());
    }
    let annotations = metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(names::CHECKSUM_ANNOTATION.to_owned(), identity::secret_checksum(data));
    rotation::annotate(annotations, data, now);
    if let Some(asked) = annotations
        .get_mut(names::ROTATE_ANNOTATION)
        .filter(|asked| asked.is_empty())
    {
        *asked = now.to_string();
    }
    if let Some(finalizer) = recipe.finalizer {
        let finalizers = metadata.finalizers.get_or_insert_with(Vec::new);
        if !finalizers.iter().any(|found| found == finalizer) {
            finalizers.push(finalizer.to_owned());
        }
    }
    let owners = metadata.owner_references.get_or_insert_with(Vec::new);
    owners.retain(|reference| reference.controller != Some(true));
    owners.extend(fresh.owner_references.into_iter().flatten());
    Secret {
        metadata,
        data: Some(data.clone()),
        type_: Some(
            old.and_then(|old| old.type_.clone())
                .unwrap_or_else(|| type_of(&recipe.recipe).to_owned()),
        ),
        immutable: None,
        string_data: None,
    }
}

/// Kubernetes has a type of its own for a pair under these keys.
fn type_of(recipe: &Recipe) -> &'static str {
    match recipe {
        Recipe::Leaf {
            keys: ("tls.crt", "tls.key"),
            ..
        } => "kubernetes.io/tls",
        _ => "Opaque",
    }
}

/// Creates or replaces a Secret, in the version that was judged.
pub async fn write_secret(
    client: &Client,
    tcp: &TenantControlPlane,
    recipe: &SecretRecipe,
    data: &Data,
    old: Option<&Secret>,
    now: Timestamp,
) -> Result<Secret, Error> {
    let failed = |source| Error::Apply {
        kind: "Secret",
        name: recipe.name.clone(),
        source,
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), &tcp.namespace().unwrap_or_default());
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let wanted = secret(tcp, recipe, data, old, now);
    if old.is_some() {
        api.replace(&recipe.name, &parameters, &wanted).await.map_err(failed)
    } else {
        api.create(&parameters, &wanted).await.map_err(failed)
    }
}

/// Whether a Secret with the name of one of ours may be taken: ours, or nobody's. Users bring their own authority by
/// making `<name>-ca` before the control plane, so labels are not asked for.
pub fn may_take_secret(tcp: &TenantControlPlane, existing: &Secret) -> Result<(), Error> {
    let uid = tcp.metadata.uid.as_deref().unwrap_or_default();
    let mut controllers = existing
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|reference| reference.controller == Some(true));
    if controllers.any(|reference| reference.uid != uid) {
        return Err(Error::NameTaken {
            kind: "Secret",
            name: existing.name_any(),
        });
    }
    Ok(())
}

/// Whether the owner of a Secret has to be put right.
pub fn is_owned(tcp: &TenantControlPlane, existing: &Secret) -> bool {
    identity::ownership(tcp, &existing.metadata) == Ownership::Ours
        && existing
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(names::NAME_LABEL))
            == tcp.metadata.name.as_ref()
}
