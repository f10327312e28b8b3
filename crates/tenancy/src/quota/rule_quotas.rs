//! Budgets in the rules of a Tenant: each becomes a GlobalResourceQuota over namespaces of the tenant.

use std::collections::BTreeMap;

use api::capsule::{
    names,
    v1beta2::{GlobalResourceQuota, GlobalResourceQuotaSpec, RuleQuota, Tenant, TenantRule},
};
use k8s_openapi::{
    api::core::v1::ResourceQuotaSpec,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube_core::ResourceExt;

use super::{amounts::Amounts, global, usage};
use crate::denial::Denial;

/// On a GlobalResourceQuota: its name in the rule that asks for it.
pub const RULE_QUOTA_LABEL: &str = "projectcapsule.dev/rule-quota";

/// The name of the GlobalResourceQuota for a budget of a tenant.
pub fn name(tenant: &str, quota: &str) -> String {
    format!("{tenant}-{quota}")
}

/// The GlobalResourceQuotas that a tenant should have. One that ends has none.
pub fn wanted(tenant: &Tenant, owner: &OwnerReference) -> Vec<GlobalResourceQuota> {
    if tenant.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let tenant_name = tenant.name_any();
    let make = |rule: &TenantRule, quota: &RuleQuota| GlobalResourceQuota {
        metadata: ObjectMeta {
            name: Some(name(&tenant_name, &quota.name)),
            labels: Some(BTreeMap::from([
                (
                    names::MANAGED_BY_LABEL.to_owned(),
                    names::MANAGED_BY_CONTROLLER.to_owned(),
                ),
                (names::PROJECT_TENANT_LABEL.to_owned(), tenant_name.clone()),
                (RULE_QUOTA_LABEL.to_owned(), quota.name.clone()),
            ])),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: GlobalResourceQuotaSpec {
            quota: spec(quota),
            namespace_selectors: vec![selector(rule, &tenant_name)],
        },
        status: None,
    };
    each(tenant).map(|(_, rule, quota)| make(rule, quota)).collect()
}

/// Where it stands, the rule and the budget, of each budget.
fn each(tenant: &Tenant) -> impl Iterator<Item = (String, &TenantRule, &RuleQuota)> {
    tenant.spec.rules.iter().enumerate().flat_map(|(at, rule)| {
        let quotas = rule.quota.iter().enumerate();
        quotas.map(move |(index, quota)| (format!("spec.rules[{at}].quota[{index}]"), rule, quota))
    })
}

fn spec(quota: &RuleQuota) -> ResourceQuotaSpec {
    ResourceQuotaSpec {
        hard: Some(quota.hard.clone()),
        scopes: (!quota.scopes.is_empty()).then(|| quota.scopes.clone()),
        scope_selector: quota.scope_selector.clone(),
    }
}

/// What the rule selects, of the tenant's namespaces.
fn selector(rule: &TenantRule, tenant: &str) -> LabelSelector {
    let mut selector = rule.namespace_selector.clone().unwrap_or_default();
    let labels = selector.match_labels.get_or_insert_default();
    labels.insert(names::TENANT_LABEL.to_owned(), tenant.to_owned());
    selector
}

/// Checks the scopes of a tenant's budgets; names and amounts are checked with the rules.
///
/// # Errors
/// If one cannot be evaluated.
pub fn validate(tenant: &Tenant) -> Result<(), Denial> {
    for (at, _, quota) in each(tenant) {
        usage::check_scopes(&spec(quota)).map_err(|error| {
            let field = format!("{at}.scopeSelector");
            Denial::new(field.clone(), "InvalidQuota", format!("{field}: {error}"))
        })?;
    }
    Ok(())
}

/// Checks a change of a tenant's budgets, as that of a GlobalResourceQuota is. `taken` is what is used and promised of each, by
/// its name in the rule. One that is removed as a whole limits nothing any more.
///
/// # Errors
/// If a limit is reduced or removed that may not be.
pub fn validate_change(tenant: &Tenant, old: &Tenant, taken: &BTreeMap<String, Amounts>) -> Result<(), Denial> {
    for (at, rule, quota) in each(tenant) {
        let Some((_, old_rule, before)) = each(old).find(|(_, _, before)| before.name == quota.name) else {
            continue;
        };
        let hard = |quota: &RuleQuota| Amounts::observed(Some(&quota.hard));
        global::check_change(
            (&format!("{at}.hard"), "namespaceSelector of the rule"),
            &hard(before),
            &hard(quota),
            rule.namespace_selector != old_rule.namespace_selector,
            taken.get(&quota.name).unwrap_or(&Amounts::default()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{fixtures::tenant, quota::amounts::tests::amounts};

    fn with(rules: Value) -> Tenant {
        tenant("oil").with(json!({"rules": rules})).build()
    }

    #[test]
    fn each_budget_becomes_a_quota_over_the_namespaces_of_its_rule() {
        let rules = json!([
            {"namespaceSelector": {"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]},
                "quota": [{"name": "small", "hard": {"pods": "2"}, "scopes": ["BestEffort"]}]},
            {"enforce": {}},
            {"quota": [{"name": "large", "hard": {"cpu": "8"}}]},
        ]);
        let owner = OwnerReference {
            name: "oil".to_owned(),
            ..OwnerReference::default()
        };
        let made = wanted(&with(rules), &owner);
        let owners = serde_json::to_value([&owner]).unwrap();
        let expected = |quota: &str, spec: Value| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota",
                "metadata": {"name": format!("oil-{quota}"), "ownerReferences": owners, "labels": {
                    "projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/tenant": "oil",
                    "projectcapsule.dev/rule-quota": quota}},
                "spec": spec})
        };
        assert_eq!(
            serde_json::to_value(made).unwrap(),
            json!([
                expected(
                    "small",
                    json!({
                    "quota": {"hard": {"pods": "2"}, "scopes": ["BestEffort"]},
                    "namespaceSelectors": [{
                        "matchLabels": {"env": "prod", "capsule.clastix.io/tenant": "oil"},
                        "matchExpressions": [{"key": "x", "operator": "Exists"}]}]})
                ),
                expected(
                    "large",
                    json!({
                    "quota": {"hard": {"cpu": "8"}},
                    "namespaceSelectors": [{"matchLabels": {"capsule.clastix.io/tenant": "oil"}}]})
                ),
            ])
        );
    }

    #[test]
    fn a_tenant_that_ends_has_no_quotas() {
        let mut ending = with(json!([{"quota": [{"name": "a", "hard": {"pods": "2"}}]}]));
        ending.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(wanted(&ending, &OwnerReference::default()), []);
    }

    #[rstest]
    #[case(json!({"pods": "3"}), json!({}), None)]
    #[case(json!({"pods": "2"}), json!({}), Some("spec.rules[1].quota[0].hard[pods]: 5 cannot be reduced to 2 while 3 is allocated"))]
    #[case(json!({"cpu": "1"}), json!({}), Some("spec.rules[1].quota[0].hard[pods]: 5 cannot be removed while 3 is allocated"))]
    #[case(
        json!({"pods": "4"}),
        json!({"env": "prod"}),
        Some("spec.rules[1].quota[0].hard[pods]: 5 cannot be reduced to 4 while namespaceSelector of the rule changes; \
              change the selectors first, then the limit")
    )]
    fn what_is_taken_stays_allowed(#[case] hard: Value, #[case] labels: Value, #[case] expected: Option<&str>) {
        let old =
            with(json!([{"namespaceSelector": {"matchLabels": {}}, "quota": [{"name": "a", "hard": {"pods": "5"}}]}]));
        let new = with(json!([
            {"enforce": {}},
            {"namespaceSelector": {"matchLabels": labels}, "quota": [{"name": "a", "hard": hard}]},
        ]));
        let taken = BTreeMap::from([("a".to_owned(), amounts("pods=3"))]);
        let refusal = validate_change(&new, &old, &taken).err();
        assert_eq!(refusal.map(|denial| denial.message).as_deref(), expected);
        assert_eq!(validate_change(&with(json!([])), &old, &taken), Ok(()));
        assert_eq!(validate_change(&old, &with(json!([])), &taken), Ok(()));
    }

    #[test]
    fn scopes_are_checked() {
        let odd = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Is"}]});
        let odd = with(json!([{"quota": [{"name": "a", "hard": {"pods": "5"}, "scopeSelector": odd}]}]));
        let denial = validate(&odd).unwrap_err();
        assert_eq!(denial.field, "spec.rules[0].quota[0].scopeSelector");
    }
}
