//! The pod of a control plane on a store that is no etcd, beside what the contract says, written out by hand.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::core::v1::PodSpec;
use pki::KeyPair;
use serde_json::{Value, json};

use super::*;
use crate::admin_network::AdminNetwork;
use crate::datastore::pod_access::{PodAccess, PodTls, SharedLogin};
use crate::desired::secrets::{Action, Reason};
use crate::desired::tests::{clock, facts, tcp};
use crate::desired::{DatastoreFacts, Objects, Plan, exposure, plan};

fn store(driver: Driver, tls: Tls) -> DatastoreFacts {
    DatastoreFacts {
        driver: driver.as_str().to_owned(),
        endpoints: vec!["10.99.0.1:5432".to_owned(), "10.99.0.2:5432".to_owned()],
        kine: Some(Access { driver, tls }),
        ..facts()
    }
}

fn hosted(tcp: &TenantControlPlane, store: DatastoreFacts) -> Hosted<'_> {
    let exposure = exposure::exposure(tcp, exposure::address(tcp, None).unwrap(), [], &[]);
    Hosted::new(tcp, "v1.36.3".to_owned(), exposure, store, Some(25))
}

fn pod(tcp: &TenantControlPlane, store: DatastoreFacts) -> PodSpec {
    let deployment = crate::desired::deployment::deployment(&hosted(tcp, store), &BTreeMap::new());
    deployment.spec.unwrap().template.spec.unwrap()
}

fn container(pod: &PodSpec, name: &str) -> Value {
    let found = pod.containers.iter().find(|container| container.name == name);
    serde_json::to_value(found.unwrap()).unwrap()
}

#[test]
fn a_pod_on_postgresql_with_client_certificates_is_as_the_contract_says() {
    let pod = pod(&tcp(), store(Driver::PostgreSQL, Tls::ClientCertificate));
    let names: Vec<_> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(
        names,
        ["kube-apiserver", "kube-scheduler", "kube-controller-manager", "kine"]
    );
    assert_eq!(
        container(&pod, "kine"),
        json!({
            "name": "kine",
            "image": "rancher/kine:v0.11.10-amd64",
            "imagePullPolicy": "Always",
            "command": ["/bin/kine"],
            "args": [
                "--ca-file=/certs/ca.crt",
                "--cert-file=/certs/server.crt",
                "--endpoint=postgres://$(DB_USER):$(DB_PASSWORD)@$(DB_CONNECTION_STRING)/$(DB_SCHEMA)",
                "--key-file=/certs/server.key",
                "--listen-address=unix:///uds/kine",
            ],
            "env": [{"name": "GODEBUG", "value": "x509ignoreCN=0"}, {"name": "GOGC", "value": "25"}],
            "envFrom": [{"secretRef": {"name": "demo-datastore-config"}}],
            "lifecycle": {"preStop": {"sleep": {"seconds": 20}}},
            "ports": [{"containerPort": 2379, "name": "server", "protocol": "TCP"}],
            "resources": {},
            "volumeMounts": [
                {"name": "kine-certs", "mountPath": "/certs"},
                {"name": "kine-uds", "mountPath": "/uds"},
            ],
        })
    );
    assert_eq!(
        serde_json::to_value(&pod.init_containers).unwrap(),
        json!([{
            "name": "chmod",
            "image": "rancher/kine:v0.11.10-amd64",
            "imagePullPolicy": "Always",
            "command": ["sh"],
            "args": ["-c", "cp /kine/*.* /certs && chmod 600 /certs/*.*"],
            "volumeMounts": [
                {"name": "kine-config", "mountPath": "/kine", "readOnly": true},
                {"name": "kine-certs", "mountPath": "/certs"},
            ],
        }])
    );
    let volumes = serde_json::to_value(pod.volumes.as_ref().unwrap()).unwrap();
    let volumes = volumes.as_array().unwrap();
    assert_eq!(
        volumes[volumes.len() - 3..],
        [
            json!({"name": "kine-uds", "emptyDir": {"medium": "Memory"}}),
            json!({"name": "kine-config", "secret": {"secretName": "demo-datastore-certificate", "defaultMode": 0o644}}),
            json!({"name": "kine-certs", "emptyDir": {}}),
        ]
    );
}

#[test]
fn its_api_server_asks_kine_and_has_nothing_of_an_etcd() {
    let pod = pod(&tcp(), store(Driver::MySQL, Tls::Off));
    let api_server = container(&pod, "kube-apiserver");
    let arguments = api_server["args"].as_array().unwrap();
    let etcd: Vec<_> = arguments
        .iter()
        .filter_map(Value::as_str)
        .filter(|argument| argument.contains("etcd"))
        .collect();
    assert_eq!(etcd, ["--etcd-servers=unix:///uds/kine"]);
    let mounts = api_server["volumeMounts"].as_array().unwrap();
    assert!(
        mounts.contains(&json!({"name": "kine-uds", "mountPath": "/uds"})),
        "{mounts:?}"
    );
    let text = serde_json::to_string(&pod).unwrap();
    assert!(!text.contains("etcd/ca.crt"), "{text}");
    assert_eq!(pod.init_containers, None, "there are no certificates to copy");
}

#[test]
fn kine_is_told_what_its_driver_needs() {
    let mysql = [
        "--ca-file=/certs/ca.crt",
        "--endpoint=mysql://$(DB_USER):$(DB_PASSWORD)@tcp($(DB_CONNECTION_STRING))/$(DB_SCHEMA)",
        "--listen-address=unix:///uds/kine",
    ];
    let nats = [
        "--endpoint=nats://$(DB_USER):$(DB_PASSWORD)@$(DB_CONNECTION_STRING)?bucket=$(DB_SCHEMA)&noEmbed",
        "--listen-address=unix:///uds/kine",
    ];
    let rows: [(Driver, Tls, &[&str]); 2] = [(Driver::MySQL, Tls::Authority, &mysql), (Driver::Nats, Tls::Off, &nats)];
    for (driver, tls, expected) in rows {
        let pod = pod(&tcp(), store(driver, tls));
        assert_eq!(container(&pod, "kine")["args"], json!(expected), "{driver:?}");
    }
}

#[test]
fn the_authors_flags_win_over_the_certificates_and_never_over_the_store() {
    let mut tcp = tcp();
    let deployment = &mut tcp.spec.control_plane.deployment;
    deployment.extra_args = Some(api::kamaji::v1alpha1::ControlPlaneExtraArgs {
        kine: [
            "--endpoint=postgres://theirs",
            "--compact-interval=0",
            "--ca-file=/other.crt",
        ]
        .map(str::to_owned)
        .into(),
        ..Default::default()
    });
    let pod = pod(&tcp, store(Driver::PostgreSQL, Tls::Authority));
    assert_eq!(
        container(&pod, "kine")["args"],
        json!([
            "--endpoint=postgres://$(DB_USER):$(DB_PASSWORD)@$(DB_CONNECTION_STRING)/$(DB_SCHEMA)",
            "--listen-address=unix:///uds/kine",
            "--compact-interval=0",
            "--ca-file=/other.crt",
        ])
    );
}

#[test]
fn an_authors_container_named_kine_chooses_the_image_and_keeps_what_is_not_ours() {
    let mut tcp = tcp();
    let containers = json!([
        {"name": "sidecar", "image": "example.test/sidecar"},
        {
            "name": "kine",
            "image": "example.test/kine:1",
            "command": ["/theirs"],
            "env": [{"name": "DB_SCHEMA", "value": "theirs"}, {"name": "LOG", "value": "1"}],
            "securityContext": {"runAsUser": 1000},
        },
    ]);
    tcp.spec.control_plane.deployment.additional_containers = serde_json::from_value(containers).unwrap();
    let pod = pod(&tcp, store(Driver::PostgreSQL, Tls::Authority));
    let names: Vec<_> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "sidecar",
            "kube-apiserver",
            "kube-scheduler",
            "kube-controller-manager",
            "kine"
        ]
    );
    let kine = container(&pod, "kine");
    assert_eq!(kine["image"], "example.test/kine:1");
    assert_eq!(kine["command"], json!(["/bin/kine"]));
    assert_eq!(kine["securityContext"], json!({"runAsUser": 1000}));
    let variables: Vec<_> = kine["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str())
        .collect();
    assert_eq!(variables, [Some("LOG"), Some("GODEBUG"), Some("GOGC")]);
    assert_eq!(
        pod.init_containers.unwrap()[0].image.as_deref(),
        Some("example.test/kine:1")
    );
}

/// A pass over the Secrets, and what it made.
fn secrets(
    tcp: &TenantControlPlane,
    tls: Tls,
    access: Option<&PodAccess>,
    before: Option<&Objects>,
) -> (Plan, Objects) {
    let written = before.map(|before| {
        let made = before.secrets.iter();
        made.map(|(recipe, data)| {
            let secret = crate::apply::secret(tcp, recipe, data, None, clock().now);
            (recipe.name.clone(), secret)
        })
        .collect()
    });
    let hosted = hosted(tcp, store(Driver::PostgreSQL, tls));
    plan(
        &hosted,
        None,
        &written.unwrap_or_default(),
        access,
        &AdminNetwork::default(),
        clock(),
    )
    .unwrap()
}

fn content(objects: &Objects, component: &str) -> BTreeMap<String, String> {
    let found = objects.secrets.iter().find(|(recipe, _)| recipe.component == component);
    let data = found.unwrap().1.iter();
    data.map(|(key, value)| (key.clone(), String::from_utf8(value.0.clone()).unwrap()))
        .collect()
}

fn action(plan: &Plan, component: &str) -> Action {
    let found = plan.secrets.iter().find(|secret| secret.component == component);
    found.unwrap().action.clone()
}

fn shared(authority: &str, client: Option<(&str, &str)>) -> PodAccess {
    let client = client.map(|(cert, key)| KeyPair {
        cert_pem: cert.to_owned(),
        key_pem: key.to_owned(),
    });
    let authority_pem = authority.to_owned();
    PodTls::Shared { authority_pem, client }.into()
}

#[test]
fn the_account_is_told_to_kine_and_the_stores_certificates_are_copied() {
    let tcp = tcp();
    let access = shared("the authority", Some(("a certificate", "its key")));
    let (_, made) = secrets(&tcp, Tls::ClientCertificate, Some(&access), None);
    let account = content(&made, "datastore-config");
    let uid = tcp.metadata.uid.as_deref().unwrap();
    assert_eq!(account["DB_CONNECTION_STRING"], "10.99.0.1:5432");
    assert_eq!((account["DB_SCHEMA"].as_str(), account["DB_USER"].as_str()), (uid, uid));
    assert_eq!(account["DB_PASSWORD"].len(), 36, "a random UUID");
    let certificates = [
        ("ca.crt", "the authority"),
        ("server.crt", "a certificate"),
        ("server.key", "its key"),
    ];
    let certificates: BTreeMap<_, _> = certificates
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    assert_eq!(content(&made, "datastore-certificate"), certificates);
    let (again, unchanged) = secrets(&tcp, Tls::ClientCertificate, Some(&access), Some(&made));
    assert!(
        again.secrets.iter().all(|secret| secret.action == Action::Keep),
        "{again:?}"
    );
    assert_eq!(unchanged.checksums, made.checksums);
}

#[test]
fn a_store_that_rotates_rolls_the_pods_and_one_that_is_silent_does_not() {
    let tcp = tcp();
    let (_, made) = secrets(&tcp, Tls::Authority, Some(&shared("old", None)), None);
    let (rotated, anew) = secrets(&tcp, Tls::Authority, Some(&shared("new", None)), Some(&made));
    assert_eq!(action(&rotated, "datastore-certificate"), Action::Repair);
    assert_ne!(
        anew.checksums["datastore-certificate"],
        made.checksums["datastore-certificate"]
    );
    let (silent, unchanged) = secrets(&tcp, Tls::Authority, None, Some(&made));
    assert_eq!(action(&silent, "datastore-certificate"), Action::Keep);
    assert_eq!(unchanged.checksums, made.checksums);
}

#[test]
fn a_store_in_the_clear_has_a_secret_without_data_and_without_an_end() {
    let tcp = tcp();
    let (plan, made) = secrets(&tcp, Tls::Off, Some(&PodTls::Plain.into()), None);
    assert_eq!(action(&plan, "datastore-certificate"), Action::Issue(Reason::Missing));
    assert_eq!(content(&made, "datastore-certificate"), BTreeMap::new());
    let recipe = made
        .secrets
        .iter()
        .find(|(recipe, _)| recipe.component == "datastore-certificate");
    let recipe = &recipe.unwrap().0;
    assert_eq!(recipe.lifecycle, None);
    // An API server gives back nothing where there is no data.
    let data = crate::desired::secrets::Data::new();
    let mut kept = crate::apply::secret(&tcp, recipe, &data, None, clock().now);
    kept.data = None;
    let kept = [(recipe.name.clone(), kept)].into();
    let hosted = hosted(&tcp, store(Driver::PostgreSQL, Tls::Off));
    let access = PodTls::Plain.into();
    let again = super::super::plan(&hosted, None, &kept, Some(&access), &AdminNetwork::default(), clock());
    assert_eq!(action(&again.unwrap().0, "datastore-certificate"), Action::Keep);
}

#[test]
fn where_nobody_has_a_user_of_their_own_the_stores_login_follows_the_store() {
    let tcp = tcp();
    let access = |password: &str| PodAccess {
        tls: PodTls::Plain,
        login: Some(SharedLogin {
            user: "admin".to_owned(),
            password: password.to_owned(),
        }),
    };
    let (_, made) = secrets(&tcp, Tls::Off, Some(&access("first")), None);
    let account = content(&made, "datastore-config");
    assert_eq!(
        (account["DB_USER"].as_str(), account["DB_PASSWORD"].as_str()),
        ("admin", "first")
    );
    let (changed, anew) = secrets(&tcp, Tls::Off, Some(&access("second")), Some(&made));
    assert_eq!(action(&changed, "datastore-config"), Action::Repair);
    assert_eq!(content(&anew, "datastore-config")["DB_PASSWORD"], "second");
    let (silent, unchanged) = secrets(&tcp, Tls::Off, None, Some(&made));
    assert_eq!(action(&silent, "datastore-config"), Action::Keep);
    assert_eq!(unchanged.checksums, made.checksums);
}
