//! Writes objects of a replication, and gives them up, as whom the replication acts.

use api::capsule::names;
use api::capsule::v1beta2::{ProcessedItem, ProcessedItemStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use runtime::apply::needed;
use runtime::report::{is_conflict, is_not_found, is_transient_kube};
use serde_json::{Map, Value, json};
use tenancy::replication::object::Placed;
use tenancy::replication::plan::{ItemKey, Removal};
use tenancy::replication::status;

use crate::error::words;
use crate::kinds::{Kinds, Served};
use crate::siblings::Siblings;
use crate::task::{Surroundings, Task};

/// Why an object could not be written or given up.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) words: String,
    pub(crate) is_transient: bool,
    /// Whether the API server refused it, so that the same would be refused again.
    pub(crate) is_refusal: bool,
}

impl Fault {
    fn lasting(words: String) -> Self {
        Self {
            words,
            is_transient: false,
            is_refusal: false,
        }
    }

    fn passing(words: String) -> Self {
        Self {
            words,
            is_transient: true,
            is_refusal: false,
        }
    }

    fn of(subject: &ItemKey, error: &kube::Error) -> Self {
        Self {
            words: format!("{subject}: {}", words(error)),
            // A conflict over fields lasts until somebody gives them up.
            is_transient: is_transient_kube(error) && !is_conflict(error),
            // Not our own login (401), what changed meanwhile (409), and what is too much just now (429).
            is_refusal: matches!(error, kube::Error::Api(status)
                if (400..500).contains(&status.code) && !matches!(status.code, 401 | 409 | 429)),
        }
    }
}

/// Writes for one replication.
pub(crate) struct Writer<'a> {
    pub(crate) task: &'a Task,
    pub(crate) kinds: &'a Kinds,
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) siblings: &'a Siblings,
    pub(crate) operator: &'a Client,
    pub(crate) acting: &'a Client,
}

impl Writer<'_> {
    /// Writes an object, if it is not there as it should be. `None`: it cannot be there now, its namespace is going away.
    pub(crate) async fn keep(&self, key: &ItemKey, placed: &Placed) -> Option<(ProcessedItem, Option<Fault>)> {
        if !self.surroundings.is_open(&key.namespace) {
            return None;
        }
        let before = self.task.known.items.iter().find(|item| ItemKey::of(item) == *key);
        let is_new = before.is_none();
        let mut known = before.and_then(|item| item.status.clone()).unwrap_or_default();
        let fault = self.keep_known(key, placed, is_new, &mut known).await.err();
        let words = fault.as_ref().map(|fault| fault.words.as_str());
        Some((status::processed(key.item(), words, known), fault))
    }

    async fn keep_known(
        &self,
        key: &ItemKey,
        placed: &Placed,
        is_new: bool,
        known: &mut ProcessedItemStatus,
    ) -> Result<(), Fault> {
        let served = self.served(key).await?;
        known.cluster_scoped = served.is_cluster_scoped;
        let (api, manager) = (self.api(key, &served), self.manager(key));
        let live = api.get_opt(&key.name).await.map_err(|error| Fault::of(key, &error))?;
        let live = live.as_ref().map(to_value);
        let is_shared = live.as_ref().is_some_and(|live| self.is_shared(key, live));
        if let Some(live) = &live {
            if live["metadata"]["deletionTimestamp"].is_string() {
                return Err(Fault::passing(format!(
                    "{key} is being deleted; it is made again when it is gone"
                )));
            }
            let may_change = self.is_ours(key, live, &manager) || is_shared || self.task.replication.settings.adopt;
            if !may_change {
                return Err(Fault::lasting(format!(
                    "object {key} exists and cannot be adopted; set spec.settings.adopt to let this replication change it"
                )));
            }
        }
        let answer = match &live {
            Some(live) if !needed(live, &placed.object, &manager) => live.clone(),
            _ => {
                let mut params = PatchParams::apply(&manager);
                params.force = self.task.replication.settings.force;
                let answer = api.patch(&key.name, &params, &Patch::Apply(&placed.object)).await;
                to_value(&answer.map_err(|error| Fault::of(key, &error))?)
            }
        };
        known.last_apply = applied_at(&answer, &manager);
        let is_alone = managers(&answer).iter().all(|(name, _)| *name == manager);
        if live.is_none() && !is_alone && !self.is_made(key, &answer) {
            // Somebody else was faster by a moment. What we wrote into their object goes again.
            known.last_apply = None;
            self.release(key, &api, &manager).await?;
            return Err(Fault::lasting(format!(
                "object {key} exists and cannot be adopted; somebody else made it just now"
            )));
        }
        // An object that is there without marks, and nobody but us ever wrote, is one that we made and could not record.
        let was_ours = live.as_ref().is_none_or(|live| self.is_ours(key, live, &manager));
        known.created |= was_ours && (is_new || live.is_none()) && (has_created_label(&answer) || is_alone);
        // Made with others: it goes with the last of them.
        known.created |= is_shared && has_created_label(&answer);
        self.mark(key, &api, &answer, known.created).await
    }

    /// Labels that say who made and keeps it, and the reference to a GlobalTenantResource.
    async fn mark(&self, key: &ItemKey, api: &Api<DynamicObject>, live: &Value, created: bool) -> Result<(), Fault> {
        let has = |label: &str| live["metadata"]["labels"][label].as_str();
        let mut labels = Map::new();
        if has(names::MANAGED_BY_LABEL) != Some(names::REPLICATIONS) {
            labels.insert(names::MANAGED_BY_LABEL.to_owned(), json!(names::REPLICATIONS));
        }
        if created && has(names::CREATED_BY_LABEL) != Some(names::REPLICATIONS) {
            labels.insert(names::CREATED_BY_LABEL.to_owned(), json!(names::REPLICATIONS));
        }
        if has(names::LEGACY_REPLICATED_LABEL).is_some() {
            labels.insert(names::LEGACY_REPLICATED_LABEL.to_owned(), Value::Null);
        }
        let mut references = references(live);
        let mut metadata = Map::new();
        if let Some(own) = self.reference()
            && !references.iter().any(|it| it["uid"] == own["uid"])
        {
            references.push(own);
            metadata.insert("ownerReferences".to_owned(), json!(references));
        }
        if !labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(labels));
        }
        self.patch_metadata(key, api, live, metadata).await
    }

    /// Takes the marks off: all of them, or only those that say that this replication is one of several.
    async fn unmark(
        &self,
        key: &ItemKey,
        api: &Api<DynamicObject>,
        live: &Value,
        is_wanted: bool,
    ) -> Result<(), Fault> {
        let marks = [
            names::MANAGED_BY_LABEL,
            names::CREATED_BY_LABEL,
            names::LEGACY_REPLICATED_LABEL,
        ];
        let labels: Map<_, _> = marks
            .into_iter()
            .filter(|_| !is_wanted)
            .filter(|label| live["metadata"]["labels"][label].is_string())
            .map(|label| (label.to_owned(), Value::Null))
            .collect();
        let mut metadata = Map::new();
        if !labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(labels));
        }
        let (all, uid) = (references(live), json!(self.task.metadata.uid));
        let others: Vec<_> = all.iter().filter(|it| it["uid"] != uid).collect();
        if others.len() < all.len() {
            metadata.insert("ownerReferences".to_owned(), json!(others));
        }
        self.patch_metadata(key, api, live, metadata).await
    }

    async fn patch_metadata(
        &self,
        key: &ItemKey,
        api: &Api<DynamicObject>,
        live: &Value,
        mut metadata: Map<String, Value>,
    ) -> Result<(), Fault> {
        if metadata.is_empty() {
            return Ok(());
        }
        // Only this object, and as it was looked at: lists are replaced whole.
        for field in ["uid", "resourceVersion"] {
            metadata.insert(field.to_owned(), live["metadata"][field].clone());
        }
        let params = PatchParams {
            field_manager: Some(names::RESOURCE_FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api
            .patch(&key.name, &params, &Patch::Merge(json!({"metadata": metadata})))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Fault {
                is_transient: is_transient_kube(&error),
                ..Fault::of(key, &error)
            }),
        }
    }

    /// Gives an object up: deletes it if the replication made it and nobody else wants it, else takes back what it wrote.
    /// `None`: done. Otherwise the item as it stays, with the reason.
    pub(crate) async fn give_up(&self, removal: &Removal) -> Option<(ProcessedItem, Fault)> {
        let key = ItemKey::of(&removal.item);
        let known = removal.item.status.clone().unwrap_or_default();
        // What was never written is not ours to touch; what is in a namespace that goes, goes with it.
        if known.last_apply.is_none() || !self.surroundings.is_open(&key.namespace) {
            return None;
        }
        let fault = self.give_up_known(&key, &known, removal.is_shared).await.err()?;
        let item = status::processed(key.item(), Some(&fault.words), known);
        Some((item, fault))
    }

    async fn give_up_known(&self, key: &ItemKey, known: &ProcessedItemStatus, is_shared: bool) -> Result<(), Fault> {
        let Ok(served) = self.kinds.exactly(self.operator, &key.kind).await else {
            // Without the kind there are no objects of it. If the API server could not say, it is asked again below.
            return self.kind_is_gone(key).await;
        };
        let (api, manager) = (self.api(key, &served), self.manager(key));
        let live = api.get_opt(&key.name).await.map_err(|error| Fault::of(key, &error))?;
        let Some(live) = live.as_ref().map(to_value) else {
            return Ok(());
        };
        // Made again by somebody else under its old name.
        if !self.is_ours(key, &live, &manager) {
            return Ok(());
        }
        let wrote = managers(&live)
            .iter()
            .any(|(name, is_apply)| *is_apply && *name == manager);
        let others = managers(&live)
            .iter()
            .any(|(name, is_apply)| *is_apply && *name != manager && is_of_a_replication(name));
        let is_wanted = is_shared || others;
        if !self.task.replication.pruning_on_delete {
            return if is_shared {
                Ok(())
            } else {
                self.unmark(key, &api, &live, is_wanted).await
            };
        }
        if known.created && has_created_label(&live) && !is_wanted {
            let text = |field: &str| live["metadata"][field].as_str().map(str::to_owned);
            let params = DeleteParams {
                // As it was looked at: another replication may just have begun to write it.
                preconditions: Some(Preconditions {
                    uid: text("uid"),
                    resource_version: text("resourceVersion"),
                }),
                propagation_policy: Some(PropagationPolicy::Background),
                ..DeleteParams::default()
            };
            return match api.delete(&key.name, &params).await {
                Ok(_) => Ok(()),
                Err(error) if is_not_found(&error) => Ok(()),
                Err(error) if is_conflict(&error) => {
                    Err(Fault::passing(format!("{key} was changed while it was to be deleted")))
                }
                Err(error) => Err(Fault::of(key, &error)),
            };
        }
        let live = if wrote {
            self.release(key, &api, &manager).await?
        } else {
            live
        };
        if is_shared {
            return Ok(());
        }
        self.unmark(key, &api, &live, is_wanted).await
    }

    async fn kind_is_gone(&self, key: &ItemKey) -> Result<(), Fault> {
        match self.kinds.exactly(self.operator, &key.kind).await {
            Err(words) if words.starts_with("no kind") => Ok(()),
            Err(words) => Err(Fault::passing(words)),
            Ok(_) => Err(Fault::passing(format!("{key}: its kind was not served a moment ago"))),
        }
    }

    /// An apply of nothing takes back every field of this manager.
    async fn release(&self, key: &ItemKey, api: &Api<DynamicObject>, manager: &str) -> Result<Value, Fault> {
        let nothing =
            json!({"apiVersion": key.kind.api_version(), "kind": key.kind.kind, "metadata": {"name": key.name}});
        let params = PatchParams::apply(manager).force();
        let answer = api.patch(&key.name, &params, &Patch::Apply(&nothing)).await;
        answer.map(|it| to_value(&it)).map_err(|error| Fault::of(key, &error))
    }

    async fn served(&self, key: &ItemKey) -> Result<Served, Fault> {
        self.kinds
            .exactly(self.operator, &key.kind)
            .await
            .map_err(Fault::lasting)
    }

    fn api(&self, key: &ItemKey, served: &Served) -> Api<DynamicObject> {
        if served.is_cluster_scoped {
            Api::all_with(self.acting.clone(), &served.resource)
        } else {
            Api::namespaced_with(self.acting.clone(), &key.namespace, &served.resource)
        }
    }

    /// Whether this replication writes the object, owns it, or made it. A label alone says nothing: everybody can write it.
    fn is_ours(&self, key: &ItemKey, live: &Value, manager: &str) -> bool {
        let is_writer = managers(live)
            .iter()
            .any(|(name, is_apply)| *is_apply && *name == manager);
        let is_owner = references(live).iter().any(|reference| {
            self.task
                .metadata
                .uid
                .as_deref()
                .is_some_and(|uid| reference["uid"] == uid)
        });
        is_writer || is_owner || self.is_made(key, live)
    }

    /// Whether another replication made the object that may share it, by its status and the mark on the object.
    fn is_shared(&self, key: &ItemKey, live: &Value) -> bool {
        has_created_label(live) && self.siblings.made(self.task, key, self.surroundings)
    }

    /// Whether this replication made the object, by its own status and the mark on the object.
    fn is_made(&self, key: &ItemKey, live: &Value) -> bool {
        let is_same = |item: &&ProcessedItem| {
            item.group == key.kind.group
                && item.kind == key.kind.kind
                && item.namespace == key.namespace
                && item.name == key.name
        };
        let mut own = self.task.known.items.iter().filter(is_same);
        has_created_label(live) && own.any(|item| item.status.as_ref().is_some_and(|status| status.created))
    }

    fn manager(&self, key: &ItemKey) -> String {
        self.task.name.manager(&key.namespace, &key.tenant, &key.origin)
    }

    /// To the GlobalTenantResource. A TenantResource's namespace is not that of its objects.
    fn reference(&self) -> Option<Value> {
        (!self.task.name.is_of_a_tenant()).then(|| {
            json!({"apiVersion": names::API_VERSION, "kind": "GlobalTenantResource",
                "name": self.task.name.name, "uid": self.task.metadata.uid})
        })
    }
}

fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn references(live: &Value) -> Vec<Value> {
    live["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Field managers of an object, and whether each applies.
fn managers(live: &Value) -> Vec<(&str, bool)> {
    let entries = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| Some((entry["manager"].as_str()?, entry["operation"] == "Apply")))
        .collect()
}

/// When a manager applied what it owns of the object. `None` if it owns nothing.
fn applied_at(live: &Value, manager: &str) -> Option<Time> {
    let entries = live["metadata"]["managedFields"].as_array()?;
    let entry = entries
        .iter()
        .find(|entry| entry["manager"] == manager && entry["operation"] == "Apply")?;
    // The API server says no time of an apply that changed nothing but whose the fields are.
    let time = entry.get("time").unwrap_or(&live["metadata"]["creationTimestamp"]);
    serde_json::from_value(time.clone()).ok()
}

fn has_created_label(live: &Value) -> bool {
    let labels = &live["metadata"]["labels"];
    labels[names::CREATED_BY_LABEL] == names::REPLICATIONS || labels[names::LEGACY_REPLICATED_LABEL].is_string()
}

/// `<hash>/<namespace>/<tenant>/<origin>/`, or what stands for a long one.
fn is_of_a_replication(manager: &str) -> bool {
    manager.ends_with('/') && manager.matches('/').count() >= 3
}
