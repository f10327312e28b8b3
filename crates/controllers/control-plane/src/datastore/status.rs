//! What a DataStore's status says. Pure.

use api::kamaji::names::{
    DATASTORE_ALLOWED_DELETION_CONDITION, DATASTORE_REACHABLE_CONDITION, DATASTORE_VALIDATION_CONDITION,
};
use api::kamaji::v1alpha1::{DataStore, DataStoreStatus, TenantControlPlane};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tenancy::control_plane::data_store::Part;
use tenancy::control_plane::effective;

/// What was found out about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// What is wrong with what it refers to, if anything.
    pub(super) reference: Option<(Part, String)>,
    pub(super) reach: Reach,
}

/// Whether the store itself answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It does, to this user or certificate.
    Answers { to: String },
    /// It does not, or not as it should.
    Fails { category: &'static str, message: String },
    /// Nobody asked.
    Unknown { reason: &'static str, message: String },
}

/// The control planes that use a store or ask for it, as `namespace/name`, sorted.
///
/// Kamaji counts only what is recorded in their status; a store that is asked for, or that holds one kind of objects,
/// would then vanish under a control plane.
pub(super) fn used_by<'a>(
    store: &str,
    control_planes: impl IntoIterator<Item = &'a TenantControlPlane>,
    default: Option<&str>,
) -> Vec<String> {
    let users = control_planes
        .into_iter()
        .filter(|tcp| effective::data_stores(tcp, default).contains(&store));
    let mut users: Vec<_> = users
        .map(|tcp| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{}/{}", part(&tcp.metadata.namespace), part(&tcp.metadata.name))
        })
        .collect();
    users.sort_unstable();
    users
}

/// The status, given what was found. Equal to the old one, times included, if nothing changed.
pub(super) fn of(store: &DataStore, findings: &Findings, used_by: Vec<String>, now: Timestamp) -> DataStoreStatus {
    let old = store.status.clone().unwrap_or_default();
    let validation = match &findings.reference {
        None => (
            "True",
            "DataStoreIsValid",
            "all that the DataStore refers to exists".to_owned(),
        ),
        Some((Part::BasicAuth, message)) => ("False", "BasicAuthValidationFailed", message.clone()),
        Some((Part::Tls, message)) => ("False", "TLSConfigurationValidationFailed", message.clone()),
    };
    let deletion = if used_by.is_empty() {
        (
            "True",
            "DataStoreUnused",
            "no control plane uses the DataStore".to_owned(),
        )
    } else {
        (
            "False",
            "DataStoreStillUsed",
            format!("control planes use the DataStore: {}", shortened(&used_by)),
        )
    };
    let reach = match &findings.reach {
        Reach::Answers { to } => ("True", "StoreAnswers", format!("the store answers to the {to}")),
        Reach::Fails { category, message } => ("False", *category, message.clone()),
        Reach::Unknown { reason, message } => ("Unknown", *reason, message.clone()),
    };
    let generation = store.metadata.generation;
    let conditions = [
        (DATASTORE_VALIDATION_CONDITION, validation),
        (DATASTORE_ALLOWED_DELETION_CONDITION, deletion),
        (DATASTORE_REACHABLE_CONDITION, reach),
    ];
    let conditions = conditions.map(|(type_, (status, reason, message))| {
        let before = old
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status);
        Condition {
            last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            message,
            observed_generation: generation,
            reason: reason.into(),
            status: status.into(),
            type_: type_.into(),
        }
    });
    DataStoreStatus {
        observed_generation: generation,
        used_by,
        ready: findings.reference.is_none(),
        conditions: conditions.into(),
    }
}

/// Enough for a person; the list itself is in the status.
fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn store() -> DataStore {
        let mut store = DataStore::default();
        store.metadata.name = Some("default".into());
        store.metadata.generation = Some(3);
        store
    }

    fn good() -> Findings {
        Findings {
            reference: None,
            reach: Reach::Answers {
                to: "client certificate 0123456789ab".into(),
            },
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn words(status: &DataStoreStatus) -> Vec<(&str, &str, &str)> {
        let words = status.conditions.iter();
        words
            .map(|condition| {
                (
                    condition.type_.as_str(),
                    condition.status.as_str(),
                    condition.reason.as_str(),
                )
            })
            .collect()
    }

    #[test]
    fn a_store_in_order_is_ready_and_may_be_deleted_while_unused() {
        let status = of(&store(), &good(), vec![], at(1));
        assert!(status.ready);
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(
            words(&status),
            [
                ("kamaji.clastix.io/DataStoreValidation", "True", "DataStoreIsValid"),
                ("kamaji.clastix.io/DataStoreAllowedDeletion", "True", "DataStoreUnused"),
                ("cotenant.dev/DataStoreReachable", "True", "StoreAnswers"),
            ]
        );
    }

    #[test]
    fn the_two_kinds_of_references_have_their_own_reasons() {
        for (part, reason) in [
            (Part::BasicAuth, "BasicAuthValidationFailed"),
            (Part::Tls, "TLSConfigurationValidationFailed"),
        ] {
            let findings = Findings {
                reference: Some((part, "the Secret a/b does not exist".into())),
                ..good()
            };
            let status = of(&store(), &findings, vec![], at(1));
            assert!(!status.ready);
            assert_eq!(
                words(&status)[0],
                ("kamaji.clastix.io/DataStoreValidation", "False", reason)
            );
            assert_eq!(status.conditions[0].message, "the Secret a/b does not exist");
        }
    }

    #[test]
    fn a_store_that_is_down_stays_ready_but_says_so() {
        let reach = Reach::Fails {
            category: "Unreachable",
            message: "no answer".into(),
        };
        let status = of(&store(), &Findings { reach, ..good() }, vec![], at(1));
        assert!(status.ready, "ready is about what the DataStore refers to");
        assert_eq!(
            words(&status)[2],
            ("cotenant.dev/DataStoreReachable", "False", "Unreachable")
        );
    }

    #[test]
    fn nothing_changes_when_nothing_changed_and_times_only_with_their_condition() {
        let mut store = store();
        let first = of(&store, &good(), vec![], at(1));
        store.status = Some(first.clone());
        assert_eq!(of(&store, &good(), vec![], at(2)), first);

        let second = of(&store, &good(), vec!["prod/oil".into()], at(3));
        let times: Vec<_> = second
            .conditions
            .iter()
            .map(|condition| condition.last_transition_time.0.as_second())
            .collect();
        assert_eq!(times, [1, 3, 1]);
    }

    #[test]
    fn whoever_has_it_asks_for_it_or_overrides_with_it_uses_a_store() {
        let tcp = |name: &str, spec: serde_json::Value, status: serde_json::Value| -> TenantControlPlane {
            let mut object = json!({
                "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
                "metadata": {"name": name, "namespace": "prod"},
                "spec": {"controlPlane": {"service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": "v1.36.0"}},
                "status": status,
            });
            object["spec"]
                .as_object_mut()
                .unwrap()
                .extend(spec.as_object().unwrap().clone());
            serde_json::from_value(object).unwrap()
        };
        let control_planes = vec![
            tcp(
                "recorded",
                json!({"dataStore": "other"}),
                json!({"storage": {"dataStoreName": "default"}}),
            ),
            tcp("asking", json!({"dataStore": "default"}), json!({})),
            tcp("by-default", json!({}), json!({})),
            tcp(
                "overriding",
                json!({"dataStore": "other", "dataStoreOverrides": [{"resource": "/events", "dataStore": "default"}]}),
                json!({}),
            ),
            tcp(
                "elsewhere",
                json!({"dataStore": "other"}),
                json!({"storage": {"dataStoreName": "other"}}),
            ),
        ];
        assert_eq!(
            used_by("default", &control_planes, Some("default")),
            ["prod/asking", "prod/by-default", "prod/overriding", "prod/recorded"]
        );
        assert!(used_by("nobodys", &control_planes, Some("default")).is_empty());
    }

    #[test]
    fn long_lists_are_shortened_for_people() {
        let names: Vec<_> = (1..=7).map(|number| format!("n/{number}")).collect();
        let status = of(&store(), &good(), names, at(1));
        assert_eq!(
            status.conditions[1].message,
            "control planes use the DataStore: n/1, n/2, n/3, n/4, n/5 and 2 more"
        );
        assert_eq!(status.used_by.len(), 7);
    }
}
