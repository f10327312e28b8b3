//! Limits as people type them: `pods=20`, `requests.cpu=8`, `namespaces=3`, `pods=none`.
//!
//! The API server would take a Tenant with any amount of anything, and refuse the ResourceQuotas that follow from it
//! later, one namespace at a time. So names and amounts are read here as it reads them in a ResourceQuota
//! (`ValidateResourceQuota` in `k8s.io/kubernetes/pkg/apis/core/validation`).

use std::str::FromStr;

use api::capsule::v1beta2::{QuotaScope, TenantSpec};
use k8s_openapi::api::core::v1::ResourceQuotaSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use serde_json::{Value, json};
use tenancy::name::is_dns_subdomain;
use tenancy::quantity::Quantity;

/// What a quota calls the number of namespaces. No resource of Kubernetes is called so.
const NAMESPACES: &str = "namespaces";
/// Counted in ones.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Measured.
const MEASURED: [&str; 10] = [
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];
/// Longest name of a resource, after the domain.
const NAME_LENGTH: usize = 63;

/// One limit, as typed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Limit {
    /// Of the number of namespaces. `None`: there is none.
    Namespaces(Option<i32>),
    /// Of a resource. `None`: there is none.
    Resource(String, Option<Wire>),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (resource, amount) = text.split_once('=').ok_or_else(|| {
            format!("{text:?} is not a limit; say <resource>=<amount>, such as pods=20, or <resource>=none to lift it")
        })?;
        if resource == NAMESPACES {
            return namespaces(amount).map(Self::Namespaces);
        }
        check_name(resource)?;
        if amount == "none" {
            return Ok(Self::Resource(resource.to_owned(), None));
        }
        let wire = Wire(amount.to_owned());
        let quantity = Quantity::parse(&wire).map_err(|error| format!("{resource}: {error}"))?;
        if quantity.is_negative() {
            return Err(format!("{resource}: {amount} is negative; it has to be 0 or more"));
        }
        if is_counted(resource) && quantity != quantity.rounded_up() {
            return Err(format!(
                "{resource}: {amount} is not a whole number; {resource} are counted in ones"
            ));
        }
        Ok(Self::Resource(resource.to_owned(), Some(wire)))
    }
}

fn namespaces(amount: &str) -> Result<Option<i32>, String> {
    match amount.parse() {
        _ if amount == "none" => Ok(None),
        Ok(count) if count >= 1 => Ok(Some(count)),
        Ok(0) => {
            Err("namespaces: 0 is too few; it has to be 1 or more (`cotenant tenant cordon` stops all changes)".into())
        }
        _ => Err(format!(
            "namespaces: {amount:?} is not a whole number from 1 to {}",
            i32::MAX
        )),
    }
}

fn check_name(resource: &str) -> Result<(), String> {
    let huge_pages = resource
        .strip_prefix("requests.")
        .unwrap_or(resource)
        .starts_with("hugepages-");
    if COUNTED.contains(&resource) || MEASURED.contains(&resource) || huge_pages {
        return Ok(());
    }
    let Some((domain, name)) = resource.split_once('/') else {
        return Err(format!(
            "{resource:?} is not a resource that can be limited; it has to be namespaces, one of {} and {}, or one with a domain: \
             count/<resource>.<group>, requests.<domain>/<name>, <class>.storageclass.storage.k8s.io/<resource>",
            COUNTED.join(", "),
            MEASURED.join(", ")
        ));
    };
    let edges = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| edges(c) || matches!(c, '-' | '_' | '.');
    let is_name =
        name.len() <= NAME_LENGTH && name.starts_with(edges) && name.ends_with(edges) && name.chars().all(inner);
    if is_dns_subdomain(domain) && is_name {
        return Ok(());
    }
    Err(format!(
        "{resource:?} is not the name of a resource: before the '/' it has to be a DNS subdomain, after it at most \
         {NAME_LENGTH} letters, digits, '-', '_' or '.', with a letter or digit at both ends"
    ))
}

fn is_counted(resource: &str) -> bool {
    let extended = resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests.");
    COUNTED.contains(&resource) || extended
}

/// Sets and lifts limits.
///
/// A resource is limited where it is limited already; otherwise in the first entry that holds for all pods. Entries that
/// are left empty stay in their place as long as others follow, because copies are named by place.
///
/// # Errors
/// A sentence, when a limit is lifted that is not there, or a scope is given to nothing.
pub(super) fn change(spec: &mut TenantSpec, limits: &[Limit], scope: Option<QuotaScope>) -> Result<(), String> {
    for limit in limits {
        match limit {
            Limit::Namespaces(count) => {
                let options = spec.namespace_options.get_or_insert_default();
                if count.is_none() && options.quota.is_none() {
                    return Err(not_there(NAMESPACES));
                }
                options.quota = *count;
            }
            Limit::Resource(resource, Some(amount)) => set(spec, resource, amount),
            Limit::Resource(resource, None) => lift(spec, resource)?,
        }
    }
    if let Some(quotas) = &mut spec.resource_quotas {
        while quotas.items.last().is_some_and(is_empty) {
            quotas.items.pop();
        }
        quotas.scope = scope.unwrap_or(quotas.scope);
    }
    spec.resource_quotas.take_if(|quotas| quotas.items.is_empty());
    match (scope, &spec.resource_quotas) {
        (Some(_), None) => Err("--scope: the tenant has no limit of a resource that could have a scope".to_owned()),
        _ => Ok(()),
    }
}

fn set(spec: &mut TenantSpec, resource: &str, amount: &Wire) {
    let items = &mut spec.resource_quotas.get_or_insert_default().items;
    let mut is_set = false;
    for item in items.iter_mut().filter(|item| holds_for_all(item)) {
        if let Some(known) = item.hard.as_mut().and_then(|hard| hard.get_mut(resource)) {
            *known = amount.clone();
            is_set = true;
        }
    }
    if is_set {
        return;
    }
    let hard = match items.iter_mut().find(|item| holds_for_all(item)) {
        Some(item) => item.hard.get_or_insert_default(),
        None => items
            .push_mut(ResourceQuotaSpec::default())
            .hard
            .get_or_insert_default(),
    };
    hard.insert(resource.to_owned(), amount.clone());
}

fn lift(spec: &mut TenantSpec, resource: &str) -> Result<(), String> {
    let items = spec.resource_quotas.iter_mut().flat_map(|quotas| &mut quotas.items);
    let mut is_lifted = false;
    for item in items.filter(|item| holds_for_all(item)) {
        is_lifted |= item.hard.as_mut().and_then(|hard| hard.remove(resource)).is_some();
    }
    if is_lifted { Ok(()) } else { Err(not_there(resource)) }
}

fn not_there(resource: &str) -> String {
    format!("{resource}: the tenant has no such limit to lift; `cotenant tenant show` lists them")
}

fn holds_for_all(item: &ResourceQuotaSpec) -> bool {
    item.scopes.as_ref().is_none_or(Vec::is_empty) && item.scope_selector.is_none()
}

fn is_empty(item: &ResourceQuotaSpec) -> bool {
    item.hard.as_ref().is_none_or(std::collections::BTreeMap::is_empty) && holds_for_all(item)
}

/// The change of limits as a merge patch of the tenant.
pub(super) fn patch(spec: &TenantSpec) -> Value {
    let quota = spec.namespace_options.as_ref().and_then(|options| options.quota);
    let mut patch = json!({"spec": {"resourceQuotas": spec.resource_quotas}});
    if spec.namespace_options.is_some() {
        patch["spec"]["namespaceOptions"] = json!({"quota": quota});
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<Limit, String> {
        text.parse()
    }

    fn changed(before: &Value, limits: &[&str], scope: Option<QuotaScope>) -> Result<Value, String> {
        let mut spec: TenantSpec = serde_json::from_value(before.clone()).unwrap();
        let limits: Vec<Limit> = limits.iter().map(|text| limit(text).unwrap()).collect();
        change(&mut spec, &limits, scope)?;
        Ok(json!(spec.resource_quotas))
    }

    #[test]
    fn amounts_and_names_read_as_kubernetes_reads_them() {
        assert_eq!(limit("namespaces=3"), Ok(Limit::Namespaces(Some(3))));
        assert_eq!(limit("namespaces=none"), Ok(Limit::Namespaces(None)));
        for text in [
            "pods=20",
            "pods=0",
            "pods=1k",
            "requests.cpu=1500m",
            "limits.memory=8Gi",
            "count/deployments.apps=5",
            "cpu=none",
            "requests.nvidia.com/gpu=2",
            "gold.storageclass.storage.k8s.io/requests.storage=10Gi",
            "hugepages-2Mi=4Mi",
        ] {
            assert!(limit(text).is_ok(), "{text}: {:?}", limit(text));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_field_and_a_reason() {
        for (text, sentence) in [
            ("pods", "\"pods\" is not a limit; say <resource>=<amount>"),
            ("pods=", "pods: \"\" is not a quantity"),
            ("pods=many", "pods: \"many\" is not a quantity"),
            ("pods=-1", "pods: -1 is negative; it has to be 0 or more"),
            ("pods=1500m", "pods: 1500m is not a whole number"),
            (
                "count/deployments.apps=0.5",
                "count/deployments.apps: 0.5 is not a whole number",
            ),
            (
                "podz=3",
                "\"podz\" is not a resource that can be limited; it has to be namespaces, one of configmaps",
            ),
            ("Bad Domain/x=1", "\"Bad Domain/x\" is not the name of a resource"),
            ("example.com/-x=1", "\"example.com/-x\" is not the name of a resource"),
            ("=3", "\"\" is not a resource that can be limited"),
            ("namespaces=0", "namespaces: 0 is too few"),
            (
                "namespaces=-1",
                "namespaces: \"-1\" is not a whole number from 1 to 2147483647",
            ),
            ("namespaces=1.5", "namespaces: \"1.5\" is not a whole number"),
            (
                "namespaces=2147483648",
                "namespaces: \"2147483648\" is not a whole number",
            ),
        ] {
            let said = limit(text).unwrap_err();
            assert!(said.starts_with(sentence), "{text}: {said}");
        }
    }

    #[test]
    fn a_resource_is_limited_where_it_is_limited_already() {
        let before = json!({"resourceQuotas": {"scope": "Namespace", "items": [
            {"hard": {"pods": "9"}, "scopes": ["Terminating"]}, {"hard": {"services": "4"}}, {"hard": {"pods": "7"}}]}});
        assert_eq!(
            changed(&before, &["pods=20", "requests.cpu=8"], None).unwrap(),
            json!({"scope": "Namespace", "items": [
                {"hard": {"pods": "9"}, "scopes": ["Terminating"]}, {"hard": {"requests.cpu": "8", "services": "4"}},
                {"hard": {"pods": "20"}}]})
        );
    }

    #[test]
    fn copies_keep_their_place_while_others_follow() {
        let before = json!({"resourceQuotas": {"items": [{"hard": {"pods": "9"}}, {"hard": {"services": "4"}}]}});
        assert_eq!(
            changed(&before, &["pods=none"], None).unwrap(),
            json!({"scope": "Tenant", "items": [{"hard": {}}, {"hard": {"services": "4"}}]})
        );
        assert_eq!(
            changed(&before, &["services=none"], None).unwrap(),
            json!({"scope": "Tenant", "items": [{"hard": {"pods": "9"}}]})
        );
        assert_eq!(
            changed(&before, &["services=none", "pods=none"], None).unwrap(),
            Value::Null
        );
    }

    #[test]
    fn the_first_limit_makes_an_entry_and_says_whose_it_is() {
        assert_eq!(
            changed(&json!({}), &["pods=2"], Some(QuotaScope::Namespace)).unwrap(),
            json!({"scope": "Namespace", "items": [{"hard": {"pods": "2"}}]})
        );
        let fault = changed(&json!({}), &["pods=none"], None).unwrap_err();
        assert!(
            fault.starts_with("pods: the tenant has no such limit to lift"),
            "{fault}"
        );
        assert!(changed(&json!({}), &["namespaces=none"], None).is_err());
    }
}
