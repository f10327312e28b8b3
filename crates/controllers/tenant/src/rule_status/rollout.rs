//! Brings labels and annotations that rules manage onto what is in a namespace already, and takes them off again.
//!
//! Admission sets them on what is created or changed from now on. So this looks around once whenever rules change, and not
//! when objects do. Only metadata is read and written.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{Metadata, Tenant};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::discovery::{ApiCapabilities, Scope, verbs};
use kube::{Api, ResourceExt, discovery};
use tenancy::metadata;
use tenancy::name::is_dns_subdomain;
use tenancy::rules::admission::ObjectType;
use tenancy::rules::body::Body;
use tenancy::rules::managed::{self, Target};

use crate::apply::Writer;
use crate::error::Error;

/// Objects that are listed with one request.
const PAGE: u32 = 500;
/// Objects of one namespace that are written at a time.
const AT_A_TIME: usize = 4;
/// Failures that are remembered. Objects that are refused, by a rule that they break or by anything else, do not hold up others.
const MOST_FAILURES: usize = 20;
const NAMESPACE: &str = "Namespace";

/// What is to be brought where.
pub(super) struct Rollout<'a> {
    pub(super) writer: &'a Writer,
    pub(super) tenant: &'a Tenant,
    pub(super) namespace: &'a Namespace,
    /// Whose name the fields get.
    pub(super) manager: &'a str,
    pub(super) before: &'a [Body],
    pub(super) now: &'a [Body],
}

impl Rollout<'_> {
    /// Whether there is anything to do at all.
    pub(super) fn is_needed(&self) -> bool {
        !managed::targets(self.before).is_empty() || !managed::targets(self.now).is_empty()
    }

    /// Every kind and object, whatever becomes of the others.
    ///
    /// # Errors
    /// What failed, if need be a part of it.
    pub(super) async fn run(&self) -> Result<(), Vec<Error>> {
        let mut failures = Vec::new();
        let mut targets = managed::targets(self.before);
        targets.extend(managed::targets(self.now));
        // A kind may be named in several ways.
        let mut kinds: BTreeMap<(String, String), ApiResource> = BTreeMap::new();
        for target in targets {
            match self.served(&target).await {
                Ok(Some(kind)) => {
                    kinds.insert((kind.api_version.clone(), kind.plural.clone()), kind);
                }
                // There is nothing of that kind then.
                Ok(None) => {}
                Err(error) => failures.push(error),
            }
        }
        for kind in kinds.values() {
            let done = if is_namespace(kind) {
                self.mark_namespace(kind).await
            } else {
                self.mark_objects(kind, &mut failures).await
            };
            failures.extend(done.err());
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// The kind as the API server serves it, if objects of it are in namespaces and can be labelled.
    async fn served(&self, target: &Target) -> Result<Option<ApiResource>, Error> {
        let (client, group) = (self.writer.client(), target.api_group.as_str());
        // It becomes part of a path that is asked with our own rights.
        if !group.split('/').all(is_dns_subdomain) {
            return Ok(None);
        }
        let found = match group.split_once('/') {
            None if group != "v1" => discovery::group(client, group)
                .await
                .map(|group| group.recommended_kind(&target.kind)),
            versioned => {
                let (group, version) = versioned.unwrap_or(("", "v1"));
                let kind = GroupVersionKind::gvk(group, version, &target.kind);
                discovery::pinned_kind(client, &kind).await.map(Some)
            }
        };
        match found {
            Ok(found) => Ok(found
                .filter(|(kind, can)| can_be_labelled(kind, can))
                .map(|(kind, _)| kind)),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(error) if runtime::report::is_not_found(&error) => Ok(None),
            Err(source) => Err(Error::Read {
                what: format!("which resource {} of {group} is", target.kind),
                source,
            }),
        }
    }

    async fn mark_objects(&self, kind: &ApiResource, failures: &mut Vec<Error>) -> Result<(), Error> {
        let (before, wanted) = (on(self.before, kind), on(self.now, kind));
        let namespace = self.namespace.name_any();
        let api: Api<DynamicObject> = Api::namespaced_with(self.writer.client().clone(), &namespace, kind);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let found = api.list_metadata(&page).await.map_err(|source| Error::Read {
                what: format!("{} of namespace {namespace}", kind.plural),
                source,
            })?;
            let marks = found.items.iter().filter_map(|object| {
                let patch = managed::patch(&object.metadata, self.manager, &before, &wanted)?;
                Some(self.mark(&api, kind, object, patch))
            });
            let mut marks = stream::iter(marks.collect::<Vec<_>>()).buffer_unordered(AT_A_TIME);
            while let Some(done) = marks.next().await {
                failures.extend(done.err().filter(|_| failures.len() < MOST_FAILURES));
            }
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    /// Keys that the tenant keeps on its namespaces stay as they are: two writers of one key would never rest.
    async fn mark_namespace(&self, kind: &ApiResource) -> Result<(), Error> {
        let options = self.tenant.spec.namespace_options.as_ref();
        if options.is_some_and(|options| options.managed_metadata_only) {
            return Ok(());
        }
        let name = self.namespace.name_any();
        let kept = metadata::managed(self.tenant, &name, self.namespace.labels());
        let of = |rules| {
            let mut metadata = on(rules, kind);
            metadata.labels.retain(|key, _| !kept.labels.contains_key(key));
            metadata
                .annotations
                .retain(|key, _| !kept.annotations.contains_key(key));
            metadata
        };
        let (before, wanted) = (of(self.before), of(self.now));
        let Some(patch) = managed::patch(&self.namespace.metadata, self.manager, &before, &wanted) else {
            return Ok(());
        };
        let api: Api<Namespace> = Api::all(self.writer.client().clone());
        let written = self.writer.label(&api, NAMESPACE, &name, self.manager, &patch).await;
        written.map_err(|source| Error::UpdateNamespace { name, source })
    }

    async fn mark(
        &self,
        api: &Api<DynamicObject>,
        kind: &ApiResource,
        object: &PartialObjectMeta<DynamicObject>,
        patch: serde_json::Value,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let written = self.writer.label(api, "managed", &name, self.manager, &patch).await;
        written.map_err(|source| Error::UpdateManaged {
            what: format!("{} {}/{name}", kind.plural, self.namespace.name_any()),
            source,
        })
    }
}

fn on(rules: &[Body], kind: &ApiResource) -> Metadata {
    let object = ObjectType {
        group: &kind.group,
        version: &kind.version,
        kind: &kind.kind,
    };
    managed::of(rules, &object)
}

fn is_namespace(kind: &ApiResource) -> bool {
    kind.group.is_empty() && kind.kind == NAMESPACE
}

fn can_be_labelled(kind: &ApiResource, can: &ApiCapabilities) -> bool {
    is_namespace(kind)
        || can.scope == Scope::Namespaced && can.supports_operation(verbs::LIST) && can.supports_operation(verbs::PATCH)
}
