//! Hooks that are registered for what quotas count, and only while there is something to count: a cluster without quotas pays
//! nothing, and one with quotas a call for what they are about.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use api::capsule::v1beta2::{GlobalResourceQuota, GlobalResourceQuotaSpec, Tenant};
use futures::{Stream, StreamExt as _, future};
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use runtime::shared::Change;
use tenancy::quota::global::{Moment, reach};
use tenancy::quota::tenant;

use crate::configurations::{COMPONENT_LABEL, Placement, validating_hook};
use crate::keeper::Desired;
use crate::rule::{Rule, Scope};

/// What a hook is to be asked about.
pub(crate) struct Extent {
    pub(crate) rules: Vec<RuleWithOperations>,
    /// Besides what the rule's own row requires of namespaces.
    pub(crate) namespaces: LabelSelector,
    /// Besides those of the row.
    pub(crate) conditions: Vec<MatchCondition>,
}

/// What is counted by the quotas that there are; `None` if nothing is.
pub(crate) fn of_global_quotas(quotas: &[Arc<GlobalResourceQuota>]) -> Option<Extent> {
    of_specs(quotas.iter().map(|quota| &quota.spec))
}

/// What is counted by the budgets that tenants' namespaces share; `None` if nothing is.
pub(crate) fn of_tenant_quotas(tenants: &[Arc<Tenant>]) -> Option<Extent> {
    let specs: Vec<GlobalResourceQuotaSpec> = tenants.iter().flat_map(|tenant| tenant::reach(tenant)).collect();
    of_specs(&specs)
}

/// Ticks when a tenant's budgets count something else, and no more often: statuses of tenants change all the time.
pub(crate) fn changes_of_tenant_quotas(
    changes: impl Stream<Item = Change<Tenant>> + Send + Unpin + 'static,
) -> impl Stream<Item = ()> + Send + Unpin {
    // A digest of each, by name.
    let (hasher, mut known) = (RandomState::new(), HashMap::<String, u64>::new());
    let changed = changes.filter_map(move |change| {
        let name = change.object().name_any();
        let before = match &change {
            Change::Deleted(_) => known.remove(&name),
            Change::Applied(tenant) => match tenant::reach(tenant) {
                none if none.is_empty() => known.remove(&name),
                now => {
                    let now = hasher.hash_one(format!("{now:?}"));
                    (known.insert(name, now) != Some(now)).then_some(now)
                }
            },
        };
        future::ready(before.map(drop))
    });
    changed.boxed()
}

fn of_specs<'a>(specs: impl IntoIterator<Item = &'a GlobalResourceQuotaSpec>) -> Option<Extent> {
    let reach = reach(specs);
    let mut resources: BTreeMap<(&str, Moment), Vec<String>> = BTreeMap::new();
    for counted in &reach.resources {
        let of_group = resources.entry((&counted.group, counted.moment)).or_default();
        of_group.push(counted.resource.clone());
    }
    let rules: Vec<_> = resources
        .into_iter()
        .map(|((group, moment), resources)| RuleWithOperations {
            api_groups: Some(vec![group.to_owned()]),
            api_versions: Some(vec!["*".to_owned()]),
            operations: Some(
                operations(moment)
                    .iter()
                    .map(|&operation| operation.to_owned())
                    .collect(),
            ),
            resources: Some(resources),
            scope: Some(Scope::Namespaced.as_str().to_owned()),
        })
        .collect();
    (!rules.is_empty()).then_some(Extent {
        rules,
        namespaces: reach.namespaces,
        conditions: Vec::new(),
    })
}

fn operations(moment: Moment) -> &'static [&'static str] {
    match moment {
        Moment::Creation => &["CREATE"],
        Moment::Writing => &["CREATE", "UPDATE"],
        Moment::Change => &["UPDATE"],
    }
}

/// Adds the hook of a validating rule to its component's configuration.
pub(crate) fn register(
    desired: &mut Desired,
    rule: &Rule,
    extent: Option<Extent>,
    ourselves: &str,
    placement: &Placement,
) {
    let Some(extent) = extent else { return };
    let mut hook = validating_hook(rule, ourselves, placement);
    hook.rules = Some(extent.rules);
    if !extent.conditions.is_empty() {
        hook.match_conditions.get_or_insert_default().extend(extent.conditions);
    }
    let selector = hook.namespace_selector.get_or_insert_default();
    let more = extent.namespaces.match_expressions.unwrap_or_default();
    selector.match_expressions.get_or_insert_default().extend(more);
    selector.match_labels = extent.namespaces.match_labels;
    let configuration = desired.validating.iter_mut().find(|configuration| {
        let labels = configuration.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(COMPONENT_LABEL))
            .map(String::as_str)
            == Some(rule.component.as_str())
    });
    if let Some(configuration) = configuration {
        let hooks = configuration.webhooks.get_or_insert_default();
        // As API servers call them.
        let place = hooks.partition_point(|other| other.name < hook.name);
        hooks.insert(place, hook);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::configurations::Endpoint;
    use crate::rule::Component;
    use crate::rules::{GLOBAL_QUOTAS, RULES};
    use crate::settings::{self, Identity};

    /// The hook as it is registered while there are these quotas.
    fn registered(quotas: &[Value]) -> Option<Value> {
        let identity = Identity {
            namespace: "cotenant-system".to_owned(),
            service_account: "cotenant".to_owned(),
            endpoint: Endpoint::Url("https://127.0.0.1:9443".to_owned()),
            tls_secret: "cotenant-tls".to_owned(),
            owner_cluster_role: None,
            components: BTreeSet::from([Component::NamespaceTenants, Component::ControlPlanes]),
        };
        let quotas: Vec<Arc<GlobalResourceQuota>> = quotas
            .iter()
            .map(|spec| json!({"metadata": {"name": "q"}, "spec": spec}))
            .map(|quota| Arc::new(serde_json::from_value(quota).expect("a quota")))
            .collect();
        let mut desired = settings::desired(RULES, &identity, None, "PEM");
        let placement = settings::validating_placement(&identity, None, "PEM");
        let extent = of_global_quotas(&quotas);
        register(&mut desired, &GLOBAL_QUOTAS, extent, &identity.user_name(), &placement);
        let hooks = desired.validating[0].webhooks.as_ref().expect("hooks");
        assert!(hooks.is_sorted_by_key(|hook| &hook.name));
        let hook = hooks.iter().find(|hook| hook.name == GLOBAL_QUOTAS.name)?;
        Some(serde_json::to_value(hook).expect("JSON"))
    }

    #[test]
    fn without_quotas_there_is_no_hook() {
        assert_eq!(registered(&[]), None);
        // For no namespace.
        assert_eq!(registered(&[json!({"quota": {"hard": {"pods": "1"}}})]), None);
    }

    fn tenant(name: &str, spec: &Value) -> Arc<Tenant> {
        let tenant = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        Arc::new(serde_json::from_value(tenant).expect("a tenant"))
    }

    #[test]
    fn what_tenants_limit_for_all_their_namespaces_is_asked_about_there() {
        let oil = json!({"resourceQuotas": {"items": [{"hard": {"requests.cpu": "8"}}]}});
        let gas = json!({"resourceQuotas": {"scope": "Namespace", "items": [{"hard": {"secrets": "8"}}]}});
        let extent = of_tenant_quotas(&[tenant("oil", &oil), tenant("gas", &gas), tenant("sun", &json!({}))]);
        let extent = extent.expect("an extent");
        let resources: Vec<_> = extent
            .rules
            .iter()
            .filter_map(|rule| rule.resources.clone())
            .flatten()
            .collect();
        assert_eq!(resources, ["pods", "pods/resize"]);
        let expected = json!({"matchExpressions": [
            {"key": "capsule.clastix.io/tenant", "operator": "In", "values": ["oil"]}]});
        assert_eq!(serde_json::to_value(extent.namespaces).expect("JSON"), expected);
        assert!(of_tenant_quotas(&[tenant("gas", &gas)]).is_none());
    }

    #[tokio::test]
    async fn only_other_limits_change_what_is_asked_about() {
        let oil = |limit: &str| {
            tenant(
                "oil",
                &json!({"resourceQuotas": {"items": [{"hard": {"pods": limit}}]}}),
            )
        };
        let changes = [
            Change::Applied(tenant("oil", &json!({}))),
            Change::Applied(oil("1")),
            Change::Applied(oil("1")),
            Change::Applied(tenant("gas", &json!({}))),
            Change::Applied(oil("2")),
            Change::Deleted(tenant("gas", &json!({}))),
            Change::Deleted(oil("2")),
        ];
        let ticks = changes_of_tenant_quotas(futures::stream::iter(changes)).count().await;
        assert_eq!(ticks, 3);
    }

    #[test]
    fn a_hook_is_asked_about_what_quotas_count_where_they_count_it() {
        let hook = registered(&[
            json!({"quota": {"hard": {"pods": "1", "services": "2", "count/deployments.apps": "3"}},
                "namespaceSelectors": [{"matchLabels": {"team": "oil"}}]}),
            json!({"quota": {"hard": {"secrets": "1"}}, "namespaceSelectors": [{"matchLabels": {"team": "gas"}}]}),
        ])
        .expect("a hook");
        let rule = |group: &str, operations: &[&str], resources: &[&str]| {
            json!({"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources,
                "scope": "Namespaced"})
        };
        assert_eq!(
            hook["rules"],
            json!([
                rule("", &["CREATE"], &["pods", "secrets"]),
                rule("", &["CREATE", "UPDATE"], &["services"]),
                rule("", &["UPDATE"], &["pods/resize"]),
                rule("apps", &["CREATE"], &["deployments"]),
            ])
        );
        assert_eq!(
            hook["namespaceSelector"],
            json!({"matchExpressions": [
                {"key": "capsule.clastix.io/tenant", "operator": "Exists"},
                {"key": "team", "operator": "In", "values": ["gas", "oil"]}]})
        );
        assert_eq!(
            (&hook["failurePolicy"], &hook["sideEffects"]),
            (&json!("Fail"), &json!("NoneOnDryRun"))
        );
        assert_eq!(
            hook["matchConditions"][0]["expression"],
            json!("request.userInfo.username != \"system:serviceaccount:cotenant-system:cotenant\"")
        );
        assert_eq!(
            hook["clientConfig"]["url"],
            json!("https://127.0.0.1:9443/global-resource-quotas/calculations")
        );
    }
}
