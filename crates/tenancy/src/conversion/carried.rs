//! What only `v1beta2` can say, as it travels in an annotation of `v1beta1`.

use std::collections::BTreeMap;

use api::capsule::{names, v1beta1, v1beta2};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Error,
    annotations::{self, Annotations},
    status,
};

/// What only `v1beta2` can say about a Tenant, and what it was said about.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Carried {
    /// UID of the Tenant. Empty if it does not exist yet.
    #[serde(default)]
    uid: String,
    /// Generation of the Tenant, 0 if it does not exist yet.
    #[serde(default)]
    generation: i64,
    /// Tells whether what `v1beta1` shows was changed since.
    #[serde(default)]
    shown: String,
    /// Whether there is more to say than there is room for. Then nothing is said here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_too_large: bool,
    /// The spec without the fields that `v1beta1` has and without owners. Lists of forbidden keys are whole, because
    /// their annotations cannot say everything.
    #[serde(default)]
    pub(super) spec: v1beta2::TenantSpec,
    /// All owners, if there is more to say about one of them than `v1beta1` has fields for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) owners: Vec<v1beta2::Owner>,
    /// Annotations of `v1beta2` under keys that mean a field in `v1beta1`.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub(super) annotations: Annotations,
    /// The status without the fields that `v1beta1` has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<v1beta2::TenantStatus>,
}

impl Carried {
    /// What has to be carried of a Tenant that is shown as `shown`, if anything.
    pub(super) fn of(tenant: &v1beta2::Tenant, shown: &v1beta1::TenantSpec) -> Option<Self> {
        let said = Self {
            spec: rest_of_spec(&tenant.spec),
            owners: rest_of_owners(&tenant.spec.owners),
            annotations: rest_of_annotations(tenant.metadata.annotations.as_ref()),
            status: tenant.status.as_ref().and_then(status::rest),
            ..Self::default()
        };
        (said != Self::default()).then(|| Self {
            uid: tenant.metadata.uid.clone().unwrap_or_default(),
            generation: tenant.metadata.generation.unwrap_or_default(),
            shown: fingerprint(shown),
            ..said
        })
    }

    /// Says only that there would be more to say than there is room for.
    pub(super) fn too_large() -> Self {
        Self {
            is_too_large: true,
            ..Self::default()
        }
    }

    /// As much of this as has room in an annotation: all, or all but the status, which controllers make anew, or nothing.
    pub(super) fn within(self, room: usize) -> Self {
        let has_room = |carried: &Self| names::CARRIED_ANNOTATION.len() + carried.text().len() <= room;
        if has_room(&self) {
            return self;
        }
        let without_status = Self { status: None, ..self };
        if has_room(&without_status) {
            without_status
        } else {
            Self::too_large()
        }
    }

    /// As the annotation has it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("keys of all maps in a Tenant are strings")
    }

    /// What a Tenant of `v1beta1` carries, if it does.
    pub(super) fn read(tenant: &v1beta1::Tenant) -> Result<Option<Self>, Error> {
        let annotations = tenant.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|annotations| annotations.get(names::CARRIED_ANNOTATION)) else {
            return Ok(None);
        };
        let carried: Self = serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))?;
        if carried.is_too_large {
            return Err(Error::TooLarge);
        }
        if !carried.is_of(tenant) {
            return Err(Error::Stale {
                carried: carried.generation,
                current: tenant.metadata.generation.unwrap_or_default(),
            });
        }
        Ok(Some(carried))
    }

    /// Whether this was made from the Tenant that `tenant` is about to replace.
    ///
    /// The API server counts a generation up when what is shown changes, and when deletion begins, before it converts
    /// for storage. A Tenant under another UID was copied from the one that this was made from: a new one may say so.
    fn is_of(&self, tenant: &v1beta1::Tenant) -> bool {
        let generation = tenant.metadata.generation.unwrap_or_default();
        let uid = tenant.metadata.uid.as_ref();
        if uid.is_some_and(|uid| !self.uid.is_empty() && *uid != self.uid) {
            return generation <= 1;
        }
        let changed = || tenant.metadata.deletion_timestamp.is_some() || fingerprint(&tenant.spec) != self.shown;
        generation == 0
            // Made of a Tenant that had no generation yet, when a hook was asked about it, in the middle of this very
            // write. Nobody reads a Tenant without one, so it is in no manifest.
            || self.generation == 0
            || generation == self.generation
            || (generation.checked_sub(1) == Some(self.generation) && changed())
    }
}

/// Two specs with one fingerprint are the same. Nothing is protected by it.
fn fingerprint(spec: &v1beta1::TenantSpec) -> String {
    let text = serde_json::to_vec(spec).expect("keys of all maps in a spec are strings");
    let hash = Sha256::digest(text);
    hash.iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn rest_of_spec(spec: &v1beta2::TenantSpec) -> v1beta2::TenantSpec {
    let namespace_options = spec
        .namespace_options
        .as_ref()
        .map(|options| v1beta2::NamespaceOptions {
            quota: None,
            additional_metadata: None,
            ..options.clone()
        });
    let ingress_classes = spec
        .ingress_options
        .as_ref()
        .and_then(|options| rest_of_classes(options.allowed_classes.as_ref()));
    v1beta2::TenantSpec {
        namespace_options: namespace_options.filter(|options| *options != v1beta2::NamespaceOptions::default()),
        storage_classes: rest_of_classes(spec.storage_classes.as_ref()),
        priority_classes: rest_of_classes(spec.priority_classes.as_ref()),
        ingress_options: ingress_classes.map(|allowed_classes| v1beta2::IngressOptions {
            allowed_classes: Some(allowed_classes),
            ..v1beta2::IngressOptions::default()
        }),
        // What only v1beta2 has goes as it is.
        permissions: spec.permissions.clone(),
        data: spec.data.clone(),
        force_tenant_prefix: spec.force_tenant_prefix,
        runtime_classes: spec.runtime_classes.clone(),
        device_classes: spec.device_classes.clone(),
        gateway_options: spec.gateway_options.clone(),
        pod_options: spec.pod_options.clone(),
        rules: spec.rules.clone(),
        // What v1beta1 has fields or annotations for.
        owners: Vec::new(),
        additional_role_bindings: Vec::new(),
        cordoned: false,
        prevent_deletion: false,
        node_selector: BTreeMap::new(),
        service_options: None,
        container_registries: None,
        image_pull_policies: Vec::new(),
        network_policies: None,
        limit_ranges: None,
        resource_quotas: None,
    }
}

fn rest_of_classes(list: Option<&v1beta2::DefaultAllowedList>) -> Option<v1beta2::DefaultAllowedList> {
    let rest = v1beta2::DefaultAllowedList {
        allowed: Vec::new(),
        allowed_regex: String::new(),
        ..list?.clone()
    };
    (rest != v1beta2::DefaultAllowedList::default()).then_some(rest)
}

fn rest_of_owners(owners: &[v1beta2::Owner]) -> Vec<v1beta2::Owner> {
    let says_more = |owner: &v1beta2::Owner| {
        !owner.labels.is_empty()
            || !owner.annotations.is_empty()
            || owner.core.cluster_roles != names::DEFAULT_OWNER_CLUSTER_ROLES
            || owner
                .proxy_settings
                .iter()
                .any(|setting| super::shown_proxy_setting(setting).is_none())
    };
    if owners.iter().any(says_more) {
        owners.to_vec()
    } else {
        Vec::new()
    }
}

fn rest_of_annotations(annotations: Option<&Annotations>) -> Annotations {
    let annotations = annotations.into_iter().flatten();
    annotations
        .filter(|(key, _)| key.as_str() != names::CARRIED_ANNOTATION && annotations::is_taken_in(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
