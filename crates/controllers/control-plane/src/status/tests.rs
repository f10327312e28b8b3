//! Phases and conditions, row by row.

use serde_json::json;

use super::*;
use crate::desired::tests::tcp;

fn deployment(replicas: i32, status: &serde_json::Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": 3},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": status,
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

#[test]
fn phases_are_the_first_row_that_fits() {
    let settled = json!({"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
    let behind = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
    let rolling = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1,
        "unavailableReplicas": 1});
    let rows = [
        ("asleep", 0, false, None, &settled, Phase::Sleeping),
        (
            "no pod ready",
            1,
            false,
            None,
            &json!({"observedGeneration": 3, "replicas": 1}),
            Phase::NotReady,
        ),
        ("writes limited", 1, true, None, &settled, Phase::WriteLimited),
        ("settled", 1, false, None, &settled, Phase::Ready),
        ("the first rollout", 1, false, None, &rolling, Phase::Provisioning),
        (
            "a new version rolls",
            1,
            false,
            Some("v1.35.0"),
            &rolling,
            Phase::Upgrading,
        ),
        (
            "the same version rolls",
            1,
            false,
            Some("v1.36.3"),
            &rolling,
            Phase::Unknown,
        ),
        (
            "the controller is behind",
            1,
            false,
            Some("v1.36.3"),
            &behind,
            Phase::Unknown,
        ),
    ];
    for (name, replicas, limited, installed, reported, expected) in rows {
        let mut tcp = tcp();
        tcp.spec.control_plane.deployment.replicas = replicas;
        tcp.spec.write_permissions.block_creation = limited;
        assert_eq!(
            phase(&tcp, &deployment(replicas, reported), installed, "v1.36.3"),
            expected,
            "{name}"
        );
    }
}

fn condition<'a>(status: &'a TenantControlPlaneStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or(("", ""), |condition| {
        (condition.status.as_str(), condition.reason.as_str())
    })
}

#[test]
fn a_pass_that_stops_says_where_and_keeps_what_was_known() {
    let mut tcp = tcp();
    tcp.metadata.generation = Some(4);
    let missing = [Waiting::datastore(
        "DataStoreMissing",
        "the DataStore default does not exist".to_owned(),
    )];
    let outcome = Outcome {
        stops: &missing,
        ..Outcome::default()
    };
    let status = of(&tcp, &outcome, now());
    assert_eq!(condition(&status, READY), ("False", "DataStoreMissing"));
    assert_eq!(condition(&status, EXPOSED), ("True", "AddressKnown"));
    assert_eq!(condition(&status, DATASTORE), ("False", "DataStoreMissing"));
    assert_eq!(condition(&status, CREDENTIALS), ("", ""));
    assert_eq!(status.observed_generation, None);
}

#[test]
fn every_stop_is_said_at_its_own_place_and_the_first_over_all() {
    let taken = Waiting {
        condition: DEPLOYED,
        reason: "NameTaken",
        message: "failed to write the NetworkPolicy demo".to_owned(),
    };
    let stops = [
        taken,
        Waiting::datastore("DataStoreNotReady", "the DataStore default is not ready".to_owned()),
    ];
    let outcome = Outcome {
        stops: &stops,
        ..Outcome::default()
    };
    let status = of(&tcp(), &outcome, now());
    assert_eq!(condition(&status, READY), ("False", "NameTaken"));
    assert_eq!(condition(&status, DATASTORE), ("False", "DataStoreNotReady"));
    assert_eq!(condition(&status, CREDENTIALS), ("", ""));
    assert_eq!(condition(&status, DEPLOYED), ("False", "NameTaken"));
}

#[test]
fn the_same_outcome_gives_the_same_status_later() {
    let mut tcp = tcp();
    let deployment = deployment(
        1,
        &json!({"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1}),
    );
    let service = Service::default();
    let outcome = Outcome {
        service: Some(&service),
        deployment: Some(&deployment),
        checksums: [("ca", "1".to_owned()), ("admin-kubeconfig", "2".to_owned())].into(),
        kubeadm_config: Some("3".to_owned()),
        inside: Inside {
            checksum: Some("4".to_owned()),
            failure: None,
        },
        ..Outcome::default()
    };
    let first = of(&tcp, &outcome, now());
    assert_eq!(condition(&first, READY), ("True", "Ready"));
    assert_eq!(first.installed_version(), Some("v1.36.3"));
    tcp.status = Some(first.clone());
    assert_eq!(of(&tcp, &outcome, "2026-11-21T12:00:00Z".parse().unwrap()), first);

    let changed = Outcome {
        checksums: [("ca", "9".to_owned()), ("admin-kubeconfig", "2".to_owned())].into(),
        ..outcome
    };
    let later: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let second = of(&tcp, &changed, later).certificates.unwrap().ca.unwrap();
    assert_eq!(second.last_update, Some(Time(later)));
}

#[test]
fn ready_waits_for_the_inside_of_the_cluster() {
    let tcp = tcp();
    let deployment = deployment(
        1,
        &json!({"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1}),
    );
    let status = of(
        &tcp,
        &Outcome {
            deployment: Some(&deployment),
            ..Outcome::default()
        },
        now(),
    );
    assert_eq!(status.phase(), Some(Phase::Ready));
    assert_eq!(condition(&status, READY), ("False", "ClusterNotConfigured"));
    assert_eq!(condition(&status, CONFIGURED), ("False", "AwaitingApiServer"));
}

#[test]
fn a_claim_says_what_is_about_to_be_used_whatever_was_said_before() {
    let mut tcp = tcp();
    let account = Account {
        schema: "a".to_owned(),
        user: "b".to_owned(),
    };
    let store = DatastoreFacts {
        name: "default".to_owned(),
        driver: "etcd".to_owned(),
        endpoints: Vec::new(),
        destinations: Vec::new(),
        kine: None,
    };
    let claimed = claim(&tcp, &account, &store);
    assert_eq!(
        claimed.storage.as_ref().unwrap().data_store_name.as_deref(),
        Some("default")
    );
    assert_eq!(
        claimed
            .storage
            .as_ref()
            .unwrap()
            .setup
            .as_ref()
            .unwrap()
            .schema
            .as_deref(),
        Some("a")
    );
    // What somebody has written there meanwhile gives way.
    let forged = serde_json::json!({"storage": {"driver": "etcd", "dataStoreName": "theirs", "setup": {"schema": "x", "user": "y"}}});
    tcp.status = Some(serde_json::from_value(forged).unwrap());
    assert_eq!(claim(&tcp, &account, &store), claimed);
}

#[test]
fn only_what_was_set_up_to_its_end_in_this_very_store_counts() {
    let account = Account {
        schema: "oil".to_owned(),
        user: "olaf".to_owned(),
    };
    let counts = |storage: serde_json::Value| {
        let mut tcp = crate::desired::tests::tcp();
        tcp.status = Some(serde_json::from_value(serde_json::json!({"storage": storage})).unwrap());
        was_set_up(&tcp, &account, "default")
    };
    let setup = |schema: &str, checksum: Option<&str>| serde_json::json!({"schema": schema, "user": "olaf", "checksum": checksum});
    assert!(counts(
        serde_json::json!({"dataStoreName": "default", "setup": setup("oil", Some("0"))})
    ));
    assert!(!counts(
        serde_json::json!({"dataStoreName": "default", "setup": setup("oil", None)})
    ));
    assert!(!counts(
        serde_json::json!({"dataStoreName": "default", "setup": setup("gas", Some("0"))})
    ));
    assert!(!counts(
        serde_json::json!({"dataStoreName": "other", "setup": setup("oil", Some("0"))})
    ));
    assert!(!counts(serde_json::json!({"setup": setup("oil", Some("0"))})));
    assert!(!was_set_up(&crate::desired::tests::tcp(), &account, "default"));
}
