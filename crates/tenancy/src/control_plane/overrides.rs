//! Kinds that are held in another store than the rest: `spec.dataStoreOverrides`.
//!
//! Each entry ends up in one flag of the API server, as `<group>/<kinds>#<servers>` between commas, so an entry that is
//! more than a group and a kind would say where other kinds are held as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, Driver, TenantControlPlane, TenantControlPlaneSpec};

use super::effective;
use crate::denial::Denial;

const FIELD: &str = "spec.dataStoreOverrides";

/// Groups without `.k8s.io` at their end that API servers bring along; of the others each has it.
const BUILT_IN_GROUPS: [&str; 5] = ["", "apps", "autoscaling", "batch", "policy"];

/// What is wrong with the entries themselves.
pub fn entries(spec: &TenantControlPlaneSpec) -> Vec<Denial> {
    let mut denials = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, entry) in spec.data_store_overrides.iter().enumerate() {
        let field = format!("{FIELD}[{index}]");
        if let Some(problem) = problem(&entry.resource) {
            let message = format!(
                "{field}.resource: {:?} {problem}; write /events for a kind of the core group, apps/deployments for others",
                entry.resource
            );
            denials.push(Denial::new(format!("{field}.resource"), "ResourceInvalid", message));
        }
        if entry.data_store.is_empty() {
            let message = format!(
                "{field}.dataStore: missing; name the DataStore that holds {}",
                entry.resource
            );
            denials.push(Denial::new(format!("{field}.dataStore"), "DataStoreMissing", message));
        }
        if !seen.insert(entry.resource.as_str()) {
            // The words that users of such stores know.
            let message = format!(
                "{field}.resource: duplicate resource override in Spec.DataStoreOverrides: {:?} is there already",
                entry.resource
            );
            denials.push(Denial::new(format!("{field}.resource"), "ResourceTwice", message));
        }
    }
    denials
}

/// What is wrong with a kind, as the end of a sentence that begins with it.
fn problem(resource: &str) -> Option<&'static str> {
    let Some((group, kinds)) = resource.split_once('/') else {
        return Some("names no group");
    };
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !word(kinds) || !(group.is_empty() || group.split(['.', '-']).all(word)) {
        return Some("is not a group and the plural of a kind");
    }
    let built_in = BUILT_IN_GROUPS.contains(&group) || group.ends_with(".k8s.io");
    (!built_in).then_some("is not a kind of Kubernetes itself, and API servers hold no other elsewhere")
}

/// What is wrong with the stores that are named: only etcd takes single kinds, and each of its own.
pub fn stores(tcp: &TenantControlPlane, stores: &[Arc<DataStore>], default: Option<&str>) -> Vec<Denial> {
    let overrides = &tcp.spec.data_store_overrides;
    let find = |name: &str| stores.iter().find(|one| one.metadata.name.as_deref() == Some(name));
    let mut denials = Vec::new();
    for (index, entry) in overrides.iter().enumerate() {
        let (field, name) = (format!("{FIELD}[{index}].dataStore"), entry.data_store.as_str());
        match find(name) {
            _ if name.is_empty() => {}
            None => denials.push(Denial::new(
                field,
                "DataStoreMissing",
                format!("{name} DataStore does not exist"),
            )),
            Some(store) if store.metadata.deletion_timestamp.is_some() => {
                let message = format!("{field}: {name} is being deleted; choose another DataStore");
                denials.push(Denial::new(field, "DataStoreMissing", message));
            }
            Some(store) if store.spec.driver != Driver::Etcd => {
                denials.push(only_etcd(field, name, store.spec.driver));
            }
            Some(_) => {}
        }
    }
    let rest = effective::recorded_data_store(tcp)
        .or(tcp.spec.data_store.as_deref())
        .or(default);
    let rest = rest.and_then(find).filter(|store| store.spec.driver != Driver::Etcd);
    if let Some(rest) = rest.filter(|_| !overrides.is_empty()) {
        let name = rest.metadata.name.as_deref().unwrap_or_default();
        denials.push(only_etcd(FIELD.to_owned(), name, rest.spec.driver));
    }
    denials
}

fn only_etcd(field: String, name: &str, driver: Driver) -> Denial {
    let message = format!(
        "{field}: {name} has driver {}, and kinds are held apart from each other in stores with driver etcd only; choose \
         such stores for all, or hold all kinds in one",
        driver.as_str()
    );
    Denial::new(field, "DriverInvalid", message)
}

/// What to say about a change of a control plane that has data: it is not moved along.
pub fn left_behind(old: &TenantControlPlane, new: &TenantControlPlane) -> Option<String> {
    let settled = effective::recorded_data_store(old).is_some();
    let place = |tcp: &TenantControlPlane| -> BTreeSet<(String, String)> {
        let entries = tcp.spec.data_store_overrides.iter();
        entries
            .map(|entry| (entry.resource.clone(), entry.data_store.clone()))
            .collect()
    };
    let (before, after) = (place(old), place(new));
    let kinds: BTreeSet<_> = before
        .symmetric_difference(&after)
        .map(|(kind, _)| kind.as_str())
        .collect();
    (settled && !kinds.is_empty()).then(|| {
        let kinds: Vec<_> = kinds.into_iter().collect();
        format!(
            "{FIELD}: objects of {} that exist are not moved; the API server finds those of the store that it is told now",
            kinds.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn tcp(overrides: &Value) -> TenantControlPlane {
        let mut tcp = TenantControlPlane::default();
        tcp.spec.data_store_overrides = serde_json::from_value(overrides.clone()).unwrap();
        tcp
    }

    fn reasons(denials: Vec<Denial>) -> Vec<(String, String)> {
        denials
            .into_iter()
            .map(|denial| (denial.field, denial.reason.to_string()))
            .collect()
    }

    #[rstest]
    #[case::of_the_core_group("/events", None)]
    #[case::of_another("apps/deployments", None)]
    #[case::of_a_long_one("coordination.k8s.io/leases", None)]
    #[case::without_a_group("events", Some("ResourceInvalid"))]
    #[case::without_a_kind("apps/", Some("ResourceInvalid"))]
    #[case::nothing("", Some("ResourceInvalid"))]
    #[case::custom("example.com/widgets", Some("ResourceInvalid"))]
    #[case::servers_of_its_own("/events#https://10.0.0.1:2379", Some("ResourceInvalid"))]
    #[case::another_entry("/events#https://a,/secrets", Some("ResourceInvalid"))]
    #[case::more_of_a_path("/events/status", Some("ResourceInvalid"))]
    #[case::upper_case("/Events", Some("ResourceInvalid"))]
    fn an_entry_is_a_kind_of_kubernetes_and_no_more(#[case] resource: &str, #[case] reason: Option<&str>) {
        let tcp = tcp(&json!([{"resource": resource, "dataStore": "events"}]));
        let found = reasons(entries(&tcp.spec));
        let expected = reason.map(|reason| ("spec.dataStoreOverrides[0].resource".to_owned(), reason.to_owned()));
        assert_eq!(found, Vec::from_iter(expected));
    }

    #[test]
    fn a_kind_has_one_place() {
        let tcp = tcp(&json!([
            {"resource": "/events", "dataStore": "a"}, {"resource": "/events", "dataStore": "b"},
        ]));
        let denials = entries(&tcp.spec);
        assert!(
            denials[0]
                .message
                .contains("duplicate resource override in Spec.DataStoreOverrides")
        );
        assert_eq!(
            reasons(denials),
            [("spec.dataStoreOverrides[1].resource".into(), "ResourceTwice".into())]
        );
    }

    #[test]
    fn only_etcd_takes_single_kinds() {
        let store = |name: &str, driver: &str| {
            let store = json!({
                "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore",
                "metadata": {"name": name}, "spec": {"driver": driver, "endpoints": ["a:1"]},
            });
            Arc::new(serde_json::from_value(store).unwrap())
        };
        let known = [
            store("default", "etcd"),
            store("events", "etcd"),
            store("sql", "PostgreSQL"),
        ];
        let verdict = |name: &str, default: &str| {
            let tcp = tcp(&json!([{"resource": "/events", "dataStore": name}]));
            reasons(stores(&tcp, &known, Some(default)))
        };
        let refused = |field: &str, reason: &str| vec![(field.to_owned(), reason.to_owned())];
        let field = "spec.dataStoreOverrides[0].dataStore";
        assert_eq!(verdict("events", "default"), []);
        assert_eq!(verdict("nowhere", "default"), refused(field, "DataStoreMissing"));
        assert_eq!(verdict("sql", "default"), refused(field, "DriverInvalid"));
        assert_eq!(
            verdict("events", "sql"),
            refused("spec.dataStoreOverrides", "DriverInvalid")
        );
    }

    #[test]
    fn who_moves_a_kind_hears_that_its_objects_stay() {
        let mut old = tcp(&json!([{"resource": "/events", "dataStore": "a"}]));
        let new = tcp(&json!([{"resource": "/events", "dataStore": "b"}]));
        assert_eq!(left_behind(&old, &new), None, "there is no data yet");
        old.status = Some(serde_json::from_value(json!({"storage": {"dataStoreName": "default"}})).unwrap());
        assert!(left_behind(&old, &new).unwrap().contains("/events"));
        assert_eq!(left_behind(&old, &old.clone()), None);
    }
}
