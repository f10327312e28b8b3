//! What each namespace of a tenant may use.
//!
//! A quota of scope `Namespace` is copied. One of scope `Tenant` is a budget that the namespaces share: each copy allows what
//! its namespace uses already and whatever the tenant has left, so any one of them may take all that remains. The copies
//! therefore add up to more than the budget on purpose, and two namespaces that take at the same moment may overshoot it
//! until the next balance; exactness is admission's part
//! ([`crate::quota::tenant`]).
//!
//! A new copy starts with what is left, not with nothing to say: a quota without limits would let the first pods of a
//! namespace pass uncounted.

use std::{borrow::Cow, collections::BTreeMap};

use api::capsule::{
    names,
    v1beta2::{QuotaScope, Tenant},
};
use k8s_openapi::{
    api::core::v1::{ResourceQuota, ResourceQuotaSpec},
    apimachinery::pkg::api::resource::Quantity as Wire,
};
use md5::{Digest, Md5};

use crate::{
    object_quotas,
    quantity::{InvalidQuantity, Quantity},
    quota::amounts::Amounts,
    replicas,
};

/// Longest name of an annotation.
const ANNOTATION_LENGTH: usize = 63;

/// A quota that cannot be balanced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read spec.resourceQuotas.items[{index}].hard[{resource}]")]
pub struct Unbalanced {
    /// Place of the item.
    pub index: usize,
    /// The resource.
    pub resource: String,
    /// What is wrong with the amount.
    #[source]
    pub source: InvalidQuantity,
}

/// What one namespace uses: `status.used` of its copies, by the item's place.
pub type Used<'a> = BTreeMap<usize, &'a Amounts>;

/// Every budget of a tenant, by the place that its copies are named after: those of `spec.resourceQuotas`, and then the one that
/// annotations ask for ([`object_quotas`]), which all namespaces share. Annotations that are no limits are left out; admission
/// refuses them.
pub fn budgets(tenant: &Tenant) -> Vec<(QuotaScope, Cow<'_, ResourceQuotaSpec>)> {
    let quotas = tenant.spec.resource_quotas.iter();
    let items = quotas.flat_map(|quotas| quotas.items.iter().map(|item| (quotas.scope, Cow::Borrowed(item))));
    let objects = object_quotas::budget(tenant).ok().flatten();
    items
        .chain(objects.map(|spec| (QuotaScope::Tenant, Cow::Owned(spec))))
        .collect()
}

/// The quotas of all namespaces of the tenant: for each namespace, in the order given, one copy per item.
///
/// All namespaces that hold a copy have to be given, also those that are going away: what they use counts until it is gone.
///
/// # Errors
/// If an amount of the tenant's is not a quantity.
pub fn resource_quotas<'a>(
    tenant: &Tenant,
    namespaces: &[(&'a str, Used<'_>)],
) -> Result<Vec<(&'a str, Vec<ResourceQuota>)>, Unbalanced> {
    let mut copies: Vec<(&str, Vec<ResourceQuota>)> = namespaces.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for (index, (scope, item)) in budgets(tenant).iter().enumerate() {
        if *scope == QuotaScope::Namespace {
            for (name, of_namespace) in &mut copies {
                of_namespace.push(replicas::resource_quota(
                    tenant,
                    name,
                    index,
                    item.clone().into_owned(),
                    BTreeMap::new(),
                ));
            }
            continue;
        }
        let limits = limits(index, item)?;
        let nothing = Amounts::default();
        let used: Vec<&Amounts> = namespaces
            .iter()
            .map(|(_, used)| used.get(&index).copied().unwrap_or(&nothing))
            .collect();
        let balance = Balance::new(&limits, &used);
        let annotations = balance.annotations();
        for ((name, of_namespace), used) in copies.iter_mut().zip(&used) {
            let spec = ResourceQuotaSpec {
                hard: Some(balance.hard(used)),
                ..item.clone().into_owned()
            };
            of_namespace.push(replicas::resource_quota(tenant, name, index, spec, annotations.clone()));
        }
    }
    Ok(copies)
}

/// One budget: what may be used in all, and what is.
struct Balance<'a> {
    /// Limit and use of each resource.
    totals: BTreeMap<&'a str, (Quantity, Quantity)>,
}

impl<'a> Balance<'a> {
    fn new(limits: &BTreeMap<&'a str, Quantity>, used: &[&Amounts]) -> Self {
        let totals = limits.iter().map(|(resource, limit)| {
            let used = used.iter().map(|used| used.get(resource));
            (*resource, (*limit, used.fold(Quantity::ZERO, Quantity::plus)))
        });
        Self {
            totals: totals.collect(),
        }
    }

    /// What one namespace may use, given what it uses: that and all that is left; or that, when nothing is left.
    fn hard(&self, used: &Amounts) -> BTreeMap<String, Wire> {
        let hard = self.totals.iter().map(|(resource, (limit, total))| {
            let own = used.get(resource);
            let hard = if total >= limit {
                own
            } else {
                limit.minus(*total).plus(own)
            };
            ((*resource).to_owned(), hard.to_wire())
        });
        hard.collect()
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let annotations = self.totals.iter().flat_map(|(resource, (limit, total))| {
            [
                (
                    annotation(names::QUOTA_HARD_ANNOTATION_PREFIX, resource),
                    limit.to_string(),
                ),
                (
                    annotation(names::QUOTA_USED_ANNOTATION_PREFIX, resource),
                    total.to_string(),
                ),
            ]
        });
        annotations.collect()
    }
}

fn limits(index: usize, item: &ResourceQuotaSpec) -> Result<BTreeMap<&str, Quantity>, Unbalanced> {
    let limits = item.hard.iter().flatten().map(|(resource, limit)| {
        let limit = Quantity::parse(limit).map_err(|source| Unbalanced {
            index,
            resource: resource.clone(),
            source,
        })?;
        Ok((resource.as_str(), limit))
    });
    limits.collect()
}

/// The annotation about a resource: its name may have no slash, and no more characters than fit.
fn annotation(prefix: &str, resource: &str) -> String {
    let resource = resource.replace('/', "_");
    let kind = prefix.split_once('/').map_or(prefix, |(_, kind)| kind);
    if kind.len() + resource.len() <= ANNOTATION_LENGTH {
        return format!("{prefix}{resource}");
    }
    let hash = Md5::digest(resource.as_bytes());
    let hash = hash
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("{prefix}{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use kube_core::ResourceExt;
    use proptest::prelude::*;
    use serde_json::json;

    fn used(pairs: &[(&str, &str)]) -> Amounts {
        Amounts::observed(Some(&wire(pairs)))
    }

    fn wire(pairs: &[(&str, &str)]) -> BTreeMap<String, Wire> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Wire((*value).to_owned())))
            .collect()
    }

    fn hard(quota: &ResourceQuota) -> Vec<(String, String)> {
        let hard = quota.spec.as_ref().unwrap().hard.clone().unwrap();
        hard.into_iter().map(|(key, value)| (key, value.0)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn limits_in_annotations_are_one_more_budget_that_all_namespaces_share() {
        let oil = tenant("oil")
            .with(json!({"resourceQuotas": {"scope": "Namespace", "items": [{"hard": {"pods": "20"}}]}}))
            .annotation("quota.resources.capsule.clastix.io/foos.example.com_v1", "3")
            .build();
        let used = used(&[("count/foos.example.com", "2")]);
        let quotas = resource_quotas(&oil, &[("oil-one", Used::from([(1, &used)])), ("oil-two", Used::new())]).unwrap();
        let hards: Vec<_> = quotas.iter().map(|(_, quotas)| hard(&quotas[1])).collect();
        assert_eq!(
            hards,
            [
                pairs(&[("count/foos.example.com", "3")]),
                pairs(&[("count/foos.example.com", "1")])
            ]
        );
        assert_eq!(quotas[1].1[1].name_any(), "capsule-oil-1");
        assert_eq!(hard(&quotas[1].1[0]), pairs(&[("pods", "20")]));
    }

    #[test]
    fn each_namespace_may_use_what_it_has_and_all_that_is_left() {
        let oil = tenant("oil")
            .with(json!({"resourceQuotas": {"items": [{"hard": {"requests.cpu": "8", "limits.memory": "16Gi", "pods": "20"}}]}}))
            .build();
        let (one, two) = (
            used(&[("requests.cpu", "1500m"), ("limits.memory", "64Mi"), ("pods", "3")]),
            used(&[("requests.cpu", "500m"), ("pods", "0")]),
        );
        let quotas = resource_quotas(
            &oil,
            &[
                ("oil-one", Used::from([(0, &one)])),
                ("oil-two", Used::from([(0, &two)])),
                ("oil-new", Used::new()),
            ],
        )
        .unwrap();
        // 8 - 2 = 6 and 16Gi - 64Mi = 16320Mi are left, and 17 pods.
        assert_eq!(
            hard(&quotas[0].1[0]),
            pairs(&[("limits.memory", "16Gi"), ("pods", "20"), ("requests.cpu", "7500m")])
        );
        assert_eq!(
            hard(&quotas[1].1[0]),
            pairs(&[("limits.memory", "16320Mi"), ("pods", "17"), ("requests.cpu", "6500m")])
        );
        assert_eq!(
            hard(&quotas[2].1[0]),
            pairs(&[("limits.memory", "16320Mi"), ("pods", "17"), ("requests.cpu", "6")])
        );
        for (_, copies) in &quotas {
            let annotations: Vec<_> = copies[0]
                .annotations()
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            assert_eq!(
                annotations,
                [
                    ("quota.capsule.clastix.io/hard-limits.memory", "16Gi"),
                    ("quota.capsule.clastix.io/hard-pods", "20"),
                    ("quota.capsule.clastix.io/hard-requests.cpu", "8"),
                    ("quota.capsule.clastix.io/used-limits.memory", "64Mi"),
                    ("quota.capsule.clastix.io/used-pods", "3"),
                    ("quota.capsule.clastix.io/used-requests.cpu", "2"),
                ]
            );
        }
    }

    #[test]
    fn when_nothing_is_left_each_namespace_keeps_what_it_uses() {
        let oil = tenant("oil")
            .with(json!({"resourceQuotas": {"items": [{"hard": {"pods": "5"}}]}}))
            .build();
        let (one, two) = (used(&[("pods", "4")]), used(&[("pods", "2")]));
        let quotas = resource_quotas(
            &oil,
            &[
                ("a", Used::from([(0, &one)])),
                ("b", Used::from([(0, &two)])),
                ("c", Used::new()),
            ],
        )
        .unwrap();
        let pods: Vec<_> = quotas.iter().map(|(_, copies)| hard(&copies[0])[0].1.clone()).collect();
        assert_eq!(pods, ["4", "2", "0"]);
    }

    #[test]
    fn in_namespace_scope_the_item_is_copied_as_it_is() {
        let oil = tenant("oil")
            .with(json!({"resourceQuotas": {"scope": "Namespace", "items": [
                {"hard": {"pods": "5"}, "scopes": ["Terminating"]}, {"hard": {"services": "1"}},
            ]}}))
            .build();
        let used = used(&[("pods", "4")]);
        let quotas = resource_quotas(&oil, &[("a", Used::from([(0, &used)])), ("b", Used::new())]).unwrap();
        assert_eq!(
            serde_json::to_value(&quotas[1].1[0]).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {
                    "name": "capsule-oil-0",
                    "namespace": "b",
                    "labels": {
                        "capsule.clastix.io/resource-quota": "0",
                        "projectcapsule.dev/managed-by": "controller",
                        "projectcapsule.dev/tenant": "oil",
                        "capsule.clastix.io/managed-by": "oil",
                    },
                    "ownerReferences": [{
                        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "uid-of-oil",
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {"hard": {"pods": "5"}, "scopes": ["Terminating"]},
            })
        );
        assert_eq!(quotas[0].1[1].name_any(), "capsule-oil-1");
    }

    #[test]
    fn an_amount_that_is_none_is_an_error_that_says_where() {
        let oil = tenant("oil")
            .with(json!({"resourceQuotas": {"items": [{"hard": {"pods": "many"}}]}}))
            .build();
        let error = resource_quotas(&oil, &[("a", Used::new())]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read spec.resourceQuotas.items[0].hard[pods]"
        );
        assert!(error.source.to_string().starts_with("\"many\" is not a quantity"));
    }

    #[test]
    fn annotations_fit_whatever_the_resource_is_called() {
        let prefix = names::QUOTA_USED_ANNOTATION_PREFIX;
        assert_eq!(
            annotation(prefix, "count/jobs.batch"),
            "quota.capsule.clastix.io/used-count_jobs.batch"
        );
        let long = "gold.storageclass.storage.k8s.io/persistentvolumeclaims-of-this-team";
        // md5 of the name with `_` for `/`.
        assert_eq!(
            annotation(prefix, long),
            "quota.capsule.clastix.io/used-953965e69856ac5015230b2b93e4a1a2"
        );
    }

    proptest! {
        /// Whatever is in use: nobody is cut below its use, and one namespace alone cannot exceed the budget.
        #[test]
        fn no_namespace_may_exceed_what_is_left(limit in 0_u32..100, used in prop::collection::vec(0_u32..60, 1..6)) {
            let oil = tenant("oil").with(json!({"resourceQuotas": {"items": [{"hard": {"pods": limit.to_string()}}]}})).build();
            let used: Vec<_> = used.iter().map(|used| (*used, self::used(&[("pods", &used.to_string())]))).collect();
            let namespaces: Vec<_> = used.iter().map(|(_, used)| ("n", Used::from([(0, used)]))).collect();
            let total: u32 = used.iter().map(|(used, _)| used).sum();
            let quotas = resource_quotas(&oil, &namespaces).unwrap();
            for ((own, _), (_, copies)) in used.iter().zip(&quotas) {
                let hard: u32 = hard(&copies[0])[0].1.parse().unwrap_or(u32::MAX);
                prop_assert!(hard >= *own);
                prop_assert!(total - own + hard <= total.max(limit));
            }
        }
    }
}
