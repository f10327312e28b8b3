//! What a tenant may use and what it uses, limit by limit. Pure.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{QuotaScope, Tenant};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use kube::ResourceExt;
use serde::Serialize;
use tenancy::quantity::Quantity;
use tenancy::{quotas, replicas};

/// A limit: of which resource, by which entry (they are counted from 0), and whose. `namespaces` has no entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    pub(super) tenant: String,
    /// `None`: the number of namespaces.
    pub(super) entry: Option<usize>,
    pub(super) resource: String,
    /// Whether each namespace has it to itself.
    pub(super) per_namespace: bool,
}

/// Where a limit stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Standing {
    /// In use, as far as it is counted; of limits per namespace, that of the namespace that uses most.
    pub(super) used: String,
    /// `None`: any number.
    pub(super) limit: Option<String>,
    pub(super) exceeded: bool,
    /// Namespaces in which nobody has counted yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) uncounted: Vec<String>,
}

/// Every limit of a tenant that has these namespaces, which hold these quotas.
pub(super) fn of(tenant: &Tenant, namespaces: &[&Namespace], quotas: &[ResourceQuota]) -> BTreeMap<Key, Standing> {
    let names: Vec<String> = namespaces.iter().map(|namespace| namespace.name_any()).collect();
    let mut all = BTreeMap::from([of_namespaces(tenant, names.len())]);
    for (entry, (scope, item)) in quotas::budgets(tenant).iter().enumerate() {
        for (resource, limit) in item.hard.iter().flatten() {
            let key = Key {
                tenant: tenant.name_any(),
                entry: Some(entry),
                resource: resource.clone(),
                per_namespace: *scope == QuotaScope::Namespace,
            };
            let copy = replicas::name(&tenant.name_any(), entry);
            let used: Vec<Option<Quantity>> = names
                .iter()
                .map(|namespace| used(namespace, resource, item, &copy, quotas))
                .collect();
            let standing = standing(limit, &names, &used, key.per_namespace);
            all.insert(key, standing);
        }
    }
    all
}

fn of_namespaces(tenant: &Tenant, count: usize) -> (Key, Standing) {
    let quota = tenant.spec.namespace_options.as_ref().and_then(|options| options.quota);
    let key = Key {
        tenant: tenant.name_any(),
        entry: None,
        resource: "namespaces".to_owned(),
        per_namespace: false,
    };
    let standing = Standing {
        used: count.to_string(),
        limit: quota.map(|quota| quota.to_string()),
        exceeded: quota.is_some_and(|quota| usize::try_from(quota).unwrap_or(0) < count),
        uncounted: Vec::new(),
    };
    (key, standing)
}

/// What a namespace uses of a resource. Every quota that holds for all pods counts the same, so any of them tells; of
/// one that holds for some, only its copy does.
fn used(
    namespace: &str,
    resource: &str,
    item: &ResourceQuotaSpec,
    copy: &str,
    quotas: &[ResourceQuota],
) -> Option<Quantity> {
    let holds_for_all =
        |spec: &ResourceQuotaSpec| spec.scopes.as_ref().is_none_or(Vec::is_empty) && spec.scope_selector.is_none();
    let counts = |quota: &&ResourceQuota| {
        let is_as_wide = holds_for_all(item) && quota.spec.as_ref().is_some_and(holds_for_all);
        quota.namespace().as_deref() == Some(namespace) && (is_as_wide || quota.name_any() == copy)
    };
    let counted = quotas.iter().filter(counts).filter_map(|quota| {
        let used = quota.status.as_ref()?.used.as_ref()?.get(resource)?;
        Quantity::parse(used).ok()
    });
    counted.max()
}

fn standing(limit: &Wire, names: &[String], used: &[Option<Quantity>], per_namespace: bool) -> Standing {
    let counted = used.iter().flatten();
    let used_here = if per_namespace {
        counted.max().copied().unwrap_or_default()
    } else {
        counted.fold(Quantity::ZERO, |sum, used| sum.plus(*used))
    };
    let uncounted = names.iter().zip(used).filter(|(_, used)| used.is_none());
    Standing {
        used: used_here.to_string(),
        limit: Some(limit.0.clone()),
        exceeded: Quantity::parse(limit).is_ok_and(|limit| used_here > limit),
        uncounted: uncounted.map(|(name, _)| name.clone()).collect(),
    }
}

impl Standing {
    /// `3 of 20`, `3`, `at least 3 of 20`.
    pub(super) fn told(&self) -> String {
        let at_least = if self.uncounted.is_empty() { "" } else { "at least " };
        match &self.limit {
            Some(limit) => format!("{at_least}{} of {limit}", self.used),
            None => self.used.clone(),
        }
    }
}

impl Key {
    /// `oil: pods`, `oil: pods in each namespace`.
    pub(super) fn told(&self) -> String {
        let whose = if self.per_namespace { " in each namespace" } else { "" };
        format!("{}: {}{whose}", self.tenant, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tenant(spec: &Value) -> Tenant {
        serde_json::from_value(json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "metadata": {"name": "oil", "uid": "u1"}, "spec": spec}))
        .unwrap()
    }

    fn namespace(name: &str) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
    }

    fn quota(namespace: &str, name: &str, spec: &Value, used: &Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec,
            "status": {"used": used}}))
        .unwrap()
    }

    fn told(tenant: &Tenant, namespaces: &[&str], quotas: &[ResourceQuota]) -> Vec<String> {
        let namespaces: Vec<Namespace> = namespaces.iter().map(|name| namespace(name)).collect();
        let all = of(tenant, &namespaces.iter().collect::<Vec<_>>(), quotas);
        let line = |(key, standing): (&Key, &Standing)| {
            let exceeded = if standing.exceeded { " !" } else { "" };
            format!("{} {}{exceeded}", key.told(), standing.told())
        };
        all.iter().map(line).collect()
    }

    #[test]
    fn a_budget_of_the_tenant_is_used_by_all_and_one_of_namespaces_by_the_one_that_uses_most() {
        let used = [
            quota(
                "a",
                "capsule-oil-0",
                &json!({}),
                &json!({"pods": "3", "requests.cpu": "1500m"}),
            ),
            quota(
                "b",
                "capsule-oil-0",
                &json!({}),
                &json!({"pods": "4", "requests.cpu": "750m"}),
            ),
        ];
        let shared = tenant(&json!({"namespaceOptions": {"quota": 1},
            "resourceQuotas": {"items": [{"hard": {"pods": "6", "requests.cpu": "8"}}]}}));
        assert_eq!(
            told(&shared, &["a", "b"], &used),
            [
                "oil: namespaces 2 of 1 !",
                "oil: pods 7 of 6 !",
                "oil: requests.cpu 2250m of 8"
            ]
        );
        let each = tenant(&json!({"resourceQuotas": {"scope": "Namespace", "items": [{"hard": {"pods": "6"}}]}}));
        assert_eq!(
            told(&each, &["a", "b"], &used),
            ["oil: namespaces 2", "oil: pods in each namespace 4 of 6"]
        );
    }

    #[test]
    fn any_quota_as_wide_tells_what_is_used_and_a_narrower_one_does_not() {
        let oil = tenant(&json!({"resourceQuotas": {"items": [{"hard": {"pods": "6"}}]}}));
        let theirs = quota("a", "theirs", &json!({}), &json!({"pods": "3"}));
        assert_eq!(told(&oil, &["a"], &[theirs])[1], "oil: pods 3 of 6");
        let narrow = quota(
            "a",
            "narrow",
            &json!({"scopes": ["Terminating"]}),
            &json!({"pods": "3"}),
        );
        assert_eq!(told(&oil, &["a"], &[narrow])[1], "oil: pods at least 0 of 6");
    }
}
