//! Which requests quotas are about, as far as a webhook registration can say it.
//!
//! A registration has one list of resources and one selector of namespaces. Several registrations would review one request
//! several times, each as another request, and so promise it several times what it asks for. So there is one for all quotas,
//! about everything that one of them counts, in namespaces that one of them may select: too much here costs a call, too
//! little lets something pass uncounted.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::v1beta2::GlobalResourceQuotaSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::{name::is_dns_subdomain, selector::Selector};

/// More values than this are not listed: the registration is in the memory of every API server.
const VALUES: usize = 256;

/// What is done to an object when its use is counted. Statuses are not: what a node reports has happened, and the next
/// count has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It is made.
    Creation,
    /// It is made or changed.
    Writing,
    /// It is changed.
    Change,
}

/// A resource that is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// Its group: empty for the core.
    pub group: String,
    /// Its plural, with a subresource if that is what is counted.
    pub resource: String,
    /// When.
    pub moment: Moment,
}

/// What quotas are about, all of them together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// What one of them counts.
    pub resources: BTreeSet<Counted>,
    /// What the labels of all namespaces have that one of them selects.
    pub namespaces: LabelSelector,
}

/// What these quotas are about. Nothing is counted by a quota without selectors, or with one that cannot be evaluated.
pub fn reach<'a>(quotas: impl IntoIterator<Item = &'a GlobalResourceQuotaSpec>) -> Reach {
    let mut resources = BTreeSet::new();
    let mut selectors = Vec::new();
    for quota in quotas {
        let own = &quota.namespace_selectors;
        if own.is_empty() || own.iter().any(|selector| Selector::new(selector).is_err()) {
            continue;
        }
        selectors.extend(own);
        let names = quota.quota.hard.iter().flatten();
        resources.extend(names.flat_map(|(name, _)| counted(name)));
    }
    Reach {
        resources,
        namespaces: LabelSelector {
            match_expressions: Some(common(&selectors)).filter(|expressions| !expressions.is_empty()),
            match_labels: None,
        },
    }
}

/// The objects that use a resource that a quota limits.
fn counted(name: &str) -> Vec<Counted> {
    let of = |group: &str, resource: &str, moment| Counted {
        group: group.to_owned(),
        resource: resource.to_owned(),
        moment,
    };
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        let is_name = is_dns_subdomain(plural) && (group.is_empty() || is_dns_subdomain(group));
        return is_name
            .then(|| of(group, plural, Moment::Creation))
            .into_iter()
            .collect();
    }
    match name {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            vec![of("", name, Moment::Creation)]
        }
        "services" => vec![of("", "services", Moment::Writing)],
        _ if name.starts_with("services.") => vec![of("", "services", Moment::Writing)],
        "persistentvolumeclaims" | "requests.storage" => vec![of("", "persistentvolumeclaims", Moment::Writing)],
        _ if name.contains(".storageclass.storage.k8s.io/") => {
            vec![of("", "persistentvolumeclaims", Moment::Writing)]
        }
        // Devices of claims are limited in each namespace only.
        _ if name.contains(".deviceclass.resource.k8s.io/") => Vec::new(),
        _ => vec![of("", "pods", Moment::Creation), of("", "pods/resize", Moment::Change)],
    }
}

/// The requirements that every namespace meets which one of the selectors selects: labels that all of them ask for by value.
pub(in crate::quota) fn common(selectors: &[&LabelSelector]) -> Vec<LabelSelectorRequirement> {
    let mut all = selectors.iter().map(|selector| values(selector));
    let Some(mut common) = all.next() else {
        return Vec::new();
    };
    for other in all {
        common.retain(|key, _| other.contains_key(key));
        for (key, values) in other {
            if let Some(common) = common.get_mut(key) {
                common.extend(values);
            }
        }
    }
    let requirement = |(key, values): (&str, BTreeSet<&str>)| LabelSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(values.into_iter().map(str::to_owned).collect()),
    };
    common
        .into_iter()
        .filter(|(_, values)| values.len() <= VALUES)
        .map(requirement)
        .collect()
}

/// Labels that a selector asks for by value. Of several requirements for one label the first stands for all.
fn values(selector: &LabelSelector) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        values.insert(key, BTreeSet::from([value.as_str()]));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        if requirement.operator == "In" {
            let listed = requirement.values.iter().flatten().map(String::as_str);
            values.entry(&requirement.key).or_insert_with(|| listed.collect());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn quota(hard: &[&str], selectors: Value) -> GlobalResourceQuotaSpec {
        let hard: BTreeMap<&str, &str> = hard.iter().map(|name| (*name, "1")).collect();
        serde_json::from_value(json!({"quota": {"hard": hard}, "namespaceSelectors": selectors})).unwrap()
    }

    fn told(reach: &Reach) -> Vec<String> {
        let word = |moment| match moment {
            Moment::Creation => "create",
            Moment::Writing => "write",
            Moment::Change => "change",
        };
        let resources = reach.resources.iter();
        resources
            .map(|it| format!("{} {}:{}", word(it.moment), it.group, it.resource))
            .collect()
    }

    #[rstest]
    #[case(&["pods", "requests.cpu", "limits.memory", "hugepages-2Mi"], &["create :pods", "change :pods/resize"])]
    #[case(&["requests.example.com/gpu"], &["create :pods", "change :pods/resize"])]
    #[case(&["services.nodeports", "services"], &["write :services"])]
    #[case(&["requests.storage"], &["write :persistentvolumeclaims"])]
    #[case(&["gold.storageclass.storage.k8s.io/requests.storage"], &["write :persistentvolumeclaims"])]
    #[case(&["secrets", "count/secrets"], &["create :secrets"])]
    #[case(&["count/deployments.apps"], &["create apps:deployments"])]
    #[case(&["gpu.deviceclass.resource.k8s.io/devices"], &[])]
    #[case(&["count/*", "count/a/b", "count/", "count/x.*"], &[])]
    fn requests_are_reviewed_for_what_they_make(#[case] hard: &[&str], #[case] expected: &[&str]) {
        assert_eq!(told(&reach(&[quota(hard, json!([{}]))])), expected);
    }

    #[rstest]
    #[case(json!([]), json!({}))]
    #[case(json!([{}]), json!({}))]
    #[case(
        json!([{"matchLabels": {"team": "oil", "env": "x"}}, {"matchExpressions": [{"key": "team", "operator": "In", "values": ["gas", "oil"]}]}]),
        json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["gas", "oil"]}]})
    )]
    #[case(json!([{"matchLabels": {"team": "oil"}}, {"matchLabels": {"env": "x"}}]), json!({}))]
    #[case(json!([{"matchLabels": {"team": "oil"}}, {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["gas"]}]}]), json!({}))]
    fn namespaces_are_told_by_the_labels_that_all_selectors_ask_for(#[case] selectors: Value, #[case] expected: Value) {
        let reach = reach(&[quota(&["pods"], selectors)]);
        assert_eq!(serde_json::to_value(reach.namespaces).unwrap(), expected);
    }

    #[test]
    fn quotas_are_told_together_and_those_that_select_nothing_not_at_all() {
        let odd = json!([{"matchExpressions": [{"key": "a", "operator": "Is"}]}]);
        let all = [
            quota(&["pods"], json!([{"matchLabels": {"team": "oil"}}])),
            quota(&["secrets"], json!([{"matchLabels": {"team": "gas"}}])),
            quota(&["configmaps"], json!([])),
            quota(&["services"], odd),
        ];
        let reach = reach(&all);
        assert_eq!(told(&reach), ["create :pods", "change :pods/resize", "create :secrets"]);
        let expected = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["gas", "oil"]}]});
        assert_eq!(serde_json::to_value(reach.namespaces).unwrap(), expected);
        assert_eq!(super::reach(&all[2..]), Reach::default());
    }
}
