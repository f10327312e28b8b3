//! Quotas of both kinds, as one.

use std::sync::Arc;

use api::capsule::v1beta2::{
    CustomQuota, CustomQuotaStatus, GlobalCustomQuota, GlobalCustomQuotaStatus, QuotaClaim, QuotaSource, QuotaTarget,
    QuotaUsage,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use tenancy::quota::amounts::InvalidAmount;
use tenancy::quota::custom::{Custom, Recount};
use tenancy::quota::verdict::Verdict;

use crate::conditions;

/// What a quota of the cluster without selectors says of its namespaces.
const EVERYWHERE: &str = "*";

/// Namespace, empty for a quota of the cluster, and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct QuotaName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl QuotaName {
    pub(super) fn of<K: Resource>(object: &K) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

/// A quota.
#[derive(Clone, Debug)]
pub(super) enum Quota {
    Namespaced(Arc<CustomQuota>),
    Global(Arc<GlobalCustomQuota>),
}

/// What a status says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Status {
    Namespaced(CustomQuotaStatus),
    Global(GlobalCustomQuotaStatus),
}

impl Quota {
    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespaced(quota) => &quota.metadata,
            Self::Global(quota) => &quota.metadata,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Namespaced(_) => "CustomQuota",
            Self::Global(_) => "GlobalCustomQuota",
        }
    }

    pub(super) fn sources(&self) -> &[QuotaSource] {
        match self {
            Self::Namespaced(quota) => &quota.spec.sources,
            Self::Global(quota) => &quota.spec.sources,
        }
    }

    pub(super) fn custom(&self) -> Result<Custom, InvalidAmount> {
        match self {
            Self::Namespaced(quota) => Custom::namespaced(quota),
            Self::Global(quota) => Custom::global(quota),
        }
    }

    pub(super) fn owner(&self) -> OwnerReference {
        let owner = match self {
            Self::Namespaced(quota) => quota.controller_owner_ref(&()),
            Self::Global(quota) => quota.controller_owner_ref(&()),
        };
        OwnerReference {
            block_owner_deletion: Some(true),
            ..owner.unwrap_or_default()
        }
    }

    pub(super) fn says(&self, next: &Status) -> bool {
        match (self, next) {
            (Self::Namespaced(quota), Status::Namespaced(next)) => quota.status.as_ref() == Some(next),
            (Self::Global(quota), Status::Global(next)) => quota.status.as_ref() == Some(next),
            _ => false,
        }
    }

    /// The status after a count. `namespaces` are those that a quota of the cluster selects; `None` for all.
    pub(super) fn counted(
        &self,
        count: &Recount,
        targets: Vec<QuotaTarget>,
        namespaces: Option<Vec<String>>,
        now: Timestamp,
    ) -> Status {
        let content = Content {
            targets,
            usage: count.usage.clone(),
            claims: count.claims.clone(),
        };
        let namespaces = namespaces.unwrap_or_else(|| vec![EVERYWHERE.to_owned()]);
        self.status(content, namespaces, &count.ready, now)
    }

    /// The status when nothing could be counted: what was counted before, and why it may be wrong.
    pub(super) fn uncounted(&self, ready: &Verdict, now: Timestamp) -> Status {
        let (content, namespaces) = match self {
            Self::Namespaced(quota) => {
                let before = quota.status.clone().unwrap_or_default();
                (Content::of(before.targets, before.usage, before.claims), Vec::new())
            }
            Self::Global(quota) => {
                let before = quota.status.clone().unwrap_or_default();
                (
                    Content::of(before.targets, before.usage, before.claims),
                    before.namespaces,
                )
            }
        };
        self.status(content, namespaces, ready, now)
    }

    fn status(&self, content: Content, namespaces: Vec<String>, ready: &Verdict, now: Timestamp) -> Status {
        let conditions = conditions::with(self.conditions(), std::slice::from_ref(ready), now);
        let Content { targets, usage, claims } = content;
        let observed_generation = self.metadata().generation;
        match self {
            Self::Namespaced(_) => Status::Namespaced(CustomQuotaStatus {
                targets,
                usage,
                claims,
                conditions,
                observed_generation,
            }),
            Self::Global(_) => Status::Global(GlobalCustomQuotaStatus {
                namespaces,
                targets,
                usage,
                claims,
                conditions,
                observed_generation,
            }),
        }
    }

    pub(super) fn conditions(&self) -> &[Condition] {
        match self {
            Self::Namespaced(quota) => quota.status.as_ref().map_or(&[], |status| &status.conditions),
            Self::Global(quota) => quota.status.as_ref().map_or(&[], |status| &status.conditions),
        }
    }
}

/// What both statuses have.
struct Content {
    targets: Vec<QuotaTarget>,
    usage: QuotaUsage,
    claims: Vec<QuotaClaim>,
}

impl Content {
    fn of(targets: Vec<QuotaTarget>, usage: QuotaUsage, claims: Vec<QuotaClaim>) -> Self {
        Self { targets, usage, claims }
    }
}
