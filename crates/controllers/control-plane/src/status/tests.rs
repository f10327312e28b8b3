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

/// Rows: what the Deployment of two pods reports, and what is said of it. The version is the installed one: a certificate was
/// renewed, or the spec changed in something else.
#[test]
fn while_pods_are_replaced_no_sentence_says_that_all_are_there() {
    let mut tcp = tcp();
    tcp.spec.control_plane.deployment.replicas = 2;
    let settled = deployment(
        2,
        &json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}),
    );
    let inside = Inside {
        checksum: Some("4".to_owned()),
        failure: None,
    };
    let after = |tcp: &TenantControlPlane, deployment: &Deployment| {
        let outcome = Outcome {
            deployment: Some(deployment),
            inside: inside.clone(),
            ..Outcome::default()
        };
        of(tcp, &outcome, now())
    };
    tcp.status = Some(after(&tcp, &settled));
    assert_eq!(condition(tcp.status.as_ref().unwrap(), READY), ("True", "Ready"));
    let rows = [
        (
            json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}),
            "the latest change has not reached the pods yet; of 2 that are wanted 2 are ready",
        ),
        (
            json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "unavailableReplicas": 1}),
            "1 of 2 pods are of the wanted kind, 2 of 3 are ready, 2 of the earlier kind have to go",
        ),
        (
            json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "unavailableReplicas": 1}),
            "2 of 2 pods are of the wanted kind, 1 of 2 are ready",
        ),
    ];
    for (reported, expected) in rows {
        let status = after(&tcp, &deployment(2, &reported));
        assert_eq!(status.phase(), Some(Phase::Unknown), "{expected}");
        for type_ in [READY, DEPLOYED] {
            let found = status.conditions.iter().find(|it| it.type_ == type_).unwrap();
            assert_eq!(
                (found.status.as_str(), found.reason.as_str(), found.message.as_str()),
                ("False", "PodsStarting", expected)
            );
        }
    }
}

#[test]
fn a_phase_is_said_in_words_where_nothing_is_amiss() {
    let mut tcp = tcp();
    let settled = deployment(
        1,
        &json!({"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}),
    );
    let outcome = Outcome {
        deployment: Some(&settled),
        inside: Inside {
            checksum: Some("4".to_owned()),
            failure: None,
        },
        ..Outcome::default()
    };
    tcp.status = Some(of(&tcp, &outcome, now()));
    let replaced = Outcome {
        authority_replaced: true,
        ..outcome
    };
    let status = of(&tcp, &replaced, now());
    let ready = status.conditions.iter().find(|it| it.type_ == READY).unwrap();
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        (
            "CertificateAuthorityRotating",
            "the certificate authority was replaced, and the pods follow"
        )
    );
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
