//! Whole plans: what is kept, what is made, and that the second plan over the results of the first is idle.

use std::collections::BTreeSet;

use serde_json::json;

use super::secrets::{Action, Clock, Reason, text};
use super::*;
use crate::datastore::pod_access::{PodTls, SharedLogin};
use crate::datastore::store::Login;

/// The spec of the observed control plane, without its tunnel.
pub(crate) fn spec() -> serde_json::Value {
    json!({
        "addons": {"coreDNS": {}, "kubeProxy": {}},
        "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "NodePort"}},
        "kubernetes": {"version": "v1.36.3", "kubelet": {"cgroupfs": "cgroupfs"}},
        "networkProfile": {
            "address": "10.99.0.1",
            "certSANs": ["demo.example.test"],
            "dnsServiceIPs": ["10.116.0.10"],
            "podCidr": "10.36.0.0/16",
            "port": 31077,
            "serviceCidr": "10.116.0.0/16",
        },
    })
}

/// The control plane `demo` in `default`.
pub(crate) fn tcp() -> TenantControlPlane {
    let mut tcp = TenantControlPlane::new("demo", serde_json::from_value(spec()).unwrap());
    tcp.metadata.namespace = Some("default".to_owned());
    tcp.metadata.uid = Some("5b8f4c1e-0000-4000-8000-000000000001".to_owned());
    tcp
}

pub(crate) fn clock() -> Clock {
    Clock {
        now: "2026-11-20T12:00:00Z".parse().unwrap(),
        renewal_window: jiff::SignedDuration::from_hours(24 * 30),
    }
}

pub(crate) fn authority() -> PodAccess {
    let authority = pki::Authority::new("etcd-ca", &[], pki::AUTHORITY_VALIDITY, clock().now).unwrap();
    let authority = pki::KeyPair {
        cert_pem: authority.cert_pem().to_owned(),
        key_pem: authority.key_pem().to_owned(),
    };
    PodTls::Signed { authority }.into()
}

pub(crate) fn facts() -> DatastoreFacts {
    DatastoreFacts {
        name: "default".to_owned(),
        driver: "etcd".to_owned(),
        endpoints: vec!["10.99.0.1:12379".to_owned()],
        destinations: vec![Destination::Address {
            network: "10.99.0.1/32".to_owned(),
            port: 12379,
        }],
        kine: None,
    }
}

fn planned(
    tcp: &TenantControlPlane,
    existing: &BTreeMap<String, Secret>,
    store: &PodAccess,
    clock: Clock,
) -> (Plan, Objects) {
    let address = exposure::address(tcp, None).unwrap();
    let exposure = exposure::exposure(tcp, address, [], &[]);
    let hosted = Hosted::new(tcp, tcp.spec.kubernetes.version.clone(), exposure, facts(), Some(25));
    plan(&hosted, None, existing, Some(store), &AdminNetwork::default(), clock).unwrap()
}

fn written(tcp: &TenantControlPlane, objects: &Objects) -> BTreeMap<String, Secret> {
    objects
        .secrets
        .iter()
        .map(|(recipe, data)| {
            (
                recipe.name.clone(),
                crate::apply::secret(tcp, recipe, data, None, clock().now),
            )
        })
        .collect()
}

fn actions(plan: &Plan) -> Vec<(&str, &Action)> {
    plan.secrets
        .iter()
        .map(|secret| (secret.component, &secret.action))
        .collect()
}

#[test]
fn the_first_plan_makes_everything_and_the_second_keeps_everything() {
    let (tcp, store) = (tcp(), authority());
    let (plan, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let names: Vec<&str> = plan.secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "demo-ca",
            "demo-front-proxy-ca-certificate",
            "demo-sa-certificate",
            "demo-api-server-certificate",
            "demo-api-server-kubelet-client-certificate",
            "demo-front-proxy-client-certificate",
            "demo-admin-kubeconfig",
            "demo-controller-manager-kubeconfig",
            "demo-scheduler-kubeconfig",
            "demo-datastore-config",
            "demo-datastore-certificate",
        ]
    );
    assert!(
        plan.secrets
            .iter()
            .all(|secret| secret.action == Action::Issue(Reason::Missing))
    );

    let (again, unchanged) = planned(&tcp, &written(&tcp, &objects), &store, clock());
    assert!(
        again.secrets.iter().all(|secret| secret.action == Action::Keep),
        "{:?}",
        actions(&again)
    );
    assert_eq!(unchanged.deployment, objects.deployment);
    assert_eq!(unchanged.checksums, objects.checksums);
}

#[test]
fn a_new_authority_takes_its_leaves_along_and_leaves_the_others() {
    let (tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let mut existing = written(&tcp, &objects);
    existing.remove("demo-ca");
    let (plan, _) = planned(&tcp, &existing, &store, clock());
    let replaced: Vec<&str> = plan
        .secrets
        .iter()
        .filter(|secret| secret.action == Action::Issue(Reason::OtherAuthority))
        .map(|secret| secret.component)
        .collect();
    assert_eq!(
        replaced,
        [
            "api-server-certificate",
            "api-server-kubelet-client-certificate",
            "admin-kubeconfig",
            "controller-manager-kubeconfig",
            "scheduler-kubeconfig"
        ]
    );
}

#[test]
fn a_new_name_reissues_the_api_servers_certificate_only() {
    let (mut tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let existing = written(&tcp, &objects);
    tcp.spec.network_profile.cert_sans = vec!["other.example.test".to_owned()];
    let (plan, _) = planned(&tcp, &existing, &store, clock());
    let changed: Vec<_> = actions(&plan)
        .into_iter()
        .filter(|(_, action)| **action != Action::Keep)
        .collect();
    assert_eq!(
        changed,
        [(
            "api-server-certificate",
            &Action::Issue(Reason::MissingNames(vec!["other.example.test".to_owned()]))
        )]
    );
    // And a name that is no longer asked for is no reason to roll.
    tcp.spec.network_profile.cert_sans.clear();
    let (plan, _) = planned(&tcp, &existing, &store, clock());
    assert!(plan.secrets.iter().all(|secret| secret.action == Action::Keep));
}

#[test]
fn leaves_are_replaced_a_month_before_their_end_and_authorities_never() {
    let (tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    assert_eq!(objects.next_renewal, Some("2027-10-21T12:00:00Z".parse().unwrap()));
    let late = Clock {
        now: "2027-10-22T12:00:00Z".parse().unwrap(),
        ..clock()
    };
    let (plan, _) = planned(&tcp, &written(&tcp, &objects), &store, late);
    for (component, action) in actions(&plan) {
        let lasting = ["ca", "front-proxy-ca-certificate", "sa-certificate", "datastore-config"].contains(&component);
        assert_eq!(
            *action,
            if lasting {
                Action::Keep
            } else {
                Action::Issue(Reason::Expiring)
            },
            "{component}"
        );
    }
}

#[test]
fn an_authority_that_ends_soon_does_not_make_its_leaves_spin() {
    let (tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    // Ten days before the authority's own end.
    let late = Clock {
        now: "2036-11-07T12:00:00Z".parse().unwrap(),
        ..clock()
    };
    let (plan, objects) = planned(&tcp, &written(&tcp, &objects), &store, late);
    assert!(
        plan.secrets
            .iter()
            .any(|secret| secret.action == Action::Issue(Reason::Expiring))
    );
    let (plan, _) = planned(&tcp, &written(&tcp, &objects), &store, late);
    assert!(
        plan.secrets.iter().all(|secret| secret.action == Action::Keep),
        "{:?}",
        actions(&plan)
    );
}

#[test]
fn a_moved_endpoint_rewrites_kubeconfigs_and_keeps_their_keys() {
    let (mut tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let existing = written(&tcp, &objects);
    tcp.spec.network_profile.address = Some("192.0.2.9".to_owned());
    let (plan, moved) = planned(&tcp, &existing, &store, clock());
    assert!(actions(&plan).contains(&("admin-kubeconfig", &Action::Issue(Reason::OtherServer))));
    assert!(actions(&plan).contains(&("scheduler-kubeconfig", &Action::Keep)));
    let read = |objects: &Objects| {
        let (_, data) = objects
            .secrets
            .iter()
            .find(|(recipe, _)| recipe.component == "admin-kubeconfig")
            .unwrap();
        pki::Kubeconfig::parse(text(data, "admin.conf").unwrap()).unwrap()
    };
    assert_eq!(read(&moved).server, "https://192.0.2.9:31077");
    assert_eq!(read(&moved).client, read(&objects).client);
}

#[test]
fn another_hand_in_a_secret_is_undone() {
    let (tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let existing = written(&tcp, &objects);
    let tampered = |name: &str, key: &str, value: &str| {
        let mut existing = existing.clone();
        let data = existing.get_mut(name).unwrap().data.as_mut().unwrap();
        data.insert(key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec()));
        let (plan, _) = planned(&tcp, &existing, &store, clock());
        plan.secrets
            .into_iter()
            .find(|secret| secret.name == name)
            .unwrap()
            .action
    };
    assert_eq!(
        tampered("demo-api-server-certificate", "apiserver.crt", "rubbish"),
        Action::Issue(Reason::Unreadable("apiserver.crt".to_owned()))
    );
    assert_eq!(
        tampered("demo-datastore-config", "DB_PASSWORD", "guess"),
        Action::Issue(Reason::Tampered)
    );
    assert_eq!(tampered("demo-ca", "tls.crt", "rubbish"), Action::Repair);
    assert_eq!(tampered("demo-sa-certificate", "more", "rubbish"), Action::Repair);

    let scheduler = "demo-scheduler-kubeconfig";
    let (key, value) = existing[scheduler].data.as_ref().unwrap().first_key_value().unwrap();
    let yaml = std::str::from_utf8(&value.0).unwrap();
    assert!(yaml.contains("  user:\n    client-certificate-data:"), "{yaml}");
    let extended = |extra: &str| yaml.replace("  user:\n    client-", &format!("  user:\n    {extra}\n    client-"));
    let other_words = format!("{yaml}preferences: {{}}\n");
    for (stored, kept) in [
        (extended("exec: {command: canary}"), yaml),
        (extended("tokenFile: /canary"), yaml),
        (other_words.clone(), &other_words),
    ] {
        let mut existing = existing.clone();
        let data = existing.get_mut(scheduler).unwrap().data.as_mut().unwrap();
        data.insert(key.clone(), k8s_openapi::ByteString(stored.into_bytes()));
        let (plan, objects) = planned(&tcp, &existing, &store, clock());
        assert!(actions(&plan).contains(&("scheduler-kubeconfig", &Action::Repair)));
        let mut secrets = objects.secrets.iter();
        let (_, data) = secrets.find(|(recipe, _)| recipe.name == scheduler).unwrap();
        assert_eq!(text(data, key), Some(kept));
    }

    let mut rotated = existing.clone();
    let annotations = rotated
        .get_mut("demo-scheduler-kubeconfig")
        .unwrap()
        .metadata
        .annotations
        .as_mut()
        .unwrap();
    annotations.insert(api::kamaji::names::ROTATE_ANNOTATION.to_owned(), String::new());
    let (plan, objects) = planned(&tcp, &rotated, &store, clock());
    assert!(actions(&plan).contains(&("scheduler-kubeconfig", &Action::Issue(Reason::RotationRequested))));
    let before = existing["demo-scheduler-kubeconfig"].data.as_ref().unwrap();
    let (_, after) = objects
        .secrets
        .iter()
        .find(|(recipe, _)| recipe.component == "scheduler-kubeconfig")
        .unwrap();
    assert_ne!(before, after);
}

#[test]
fn a_plan_shows_no_key_material() {
    let (tcp, store) = (tcp(), authority());
    let (plan, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let shown = serde_json::to_string(&plan).unwrap();
    assert!(
        !shown.contains("PRIVATE KEY") && !shown.contains("CERTIFICATE---"),
        "{shown}"
    );
    let (_, account) = objects
        .secrets
        .iter()
        .find(|(recipe, _)| recipe.component == "datastore-config")
        .unwrap();
    assert!(!shown.contains(text(account, "DB_PASSWORD").unwrap()));
}

#[test]
fn the_account_is_the_one_on_record_then_the_asked_for_then_the_uid() {
    let mut tcp = tcp();
    let uid = "5b8f4c1e-0000-4000-8000-000000000001";
    assert_eq!(
        Account::of(&tcp),
        Account {
            schema: uid.to_owned(),
            user: uid.to_owned()
        }
    );
    tcp.spec.data_store_schema = Some("payments".to_owned());
    assert_eq!(
        Account::of(&tcp),
        Account {
            schema: "payments".to_owned(),
            user: uid.to_owned()
        }
    );
    tcp.status =
        Some(serde_json::from_value(json!({"storage": {"setup": {"schema": "old", "user": "older"}}})).unwrap());
    assert_eq!(
        Account::of(&tcp),
        Account {
            schema: "old".to_owned(),
            user: "older".to_owned()
        }
    );
}

#[test]
fn without_the_store_what_it_signed_stays_and_the_rest_is_still_looked_after() {
    let (tcp, store) = (tcp(), authority());
    let (_, objects) = planned(&tcp, &BTreeMap::new(), &store, clock());
    let mut existing = written(&tcp, &objects);
    existing.remove("demo-scheduler-kubeconfig");
    let address = exposure::address(&tcp, None).unwrap();
    let exposure = exposure::exposure(&tcp, address, [], &[]);
    let hosted = Hosted::new(&tcp, tcp.spec.kubernetes.version.clone(), exposure, facts(), Some(25));
    let without =
        |existing: &BTreeMap<String, Secret>| plan(&hosted, None, existing, None, &AdminNetwork::default(), clock());
    let (kept, _) = without(&existing).unwrap();
    for (component, action) in actions(&kept) {
        let expected = match component {
            "scheduler-kubeconfig" => Action::Issue(Reason::Missing),
            _ => Action::Keep,
        };
        assert_eq!(*action, expected, "{component}");
    }
    existing.remove("demo-datastore-certificate");
    assert!(
        matches!(without(&existing), Err(secrets::Error::NoSigner { secret }) if secret == "demo-datastore-certificate")
    );
}

#[test]
fn the_components_collect_garbage_as_the_operator_says_and_the_authors_own_containers_as_they_like() {
    let mut tcp = tcp();
    let sidecar = json!([{"name": "sidecar", "image": "example.test/sidecar"}]);
    tcp.spec.control_plane.deployment.additional_containers = serde_json::from_value(sidecar).unwrap();
    let variables = |gogc| {
        let exposure = exposure::exposure(&tcp, exposure::address(&tcp, None).unwrap(), [], &[]);
        let hosted = Hosted::new(&tcp, "v1.36.3".to_owned(), exposure, facts(), gogc);
        let deployment = deployment::deployment(&hosted, &BTreeMap::new());
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let variables = pod.containers.into_iter().map(|container| {
            let variables = container.env.unwrap_or_default().into_iter();
            let spelt = variables.map(|one| format!("{}={}", one.name, one.value.unwrap_or_default()));
            (container.name, spelt.collect::<Vec<_>>().join(" "))
        });
        variables.collect::<BTreeMap<_, _>>()
    };
    let expected = |components: &str| {
        [
            ("kube-apiserver", components),
            ("kube-controller-manager", components),
            ("kube-scheduler", components),
            ("sidecar", ""),
        ]
        .map(|(name, variables)| (name.to_owned(), variables.to_owned()))
        .into()
    };
    assert_eq!(variables(Some(25)), expected("GOGC=25"));
    assert_eq!(variables(None), expected(""));
}

#[test]
fn a_small_profile_tunes_all_components_and_yields_to_their_author() {
    let mut tcp = tcp();
    tcp.spec.control_plane.deployment.extra_args = serde_json::from_value(json!({
        "apiServer": ["--etcd-db-metric-poll-interval=1m"], "scheduler": ["--leader-elect-retry-period=3s"],
    }))
    .unwrap();
    let containers = |tcp: &TenantControlPlane| {
        let exposure = exposure::exposure(tcp, exposure::address(tcp, None).unwrap(), [], &[]);
        let hosted = Hosted::new(tcp, "v1.36.3".to_owned(), exposure, facts(), Some(25));
        let deployment = deployment::deployment(&hosted, &BTreeMap::new());
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let all = pod.containers.into_iter().map(|container| {
            let variables = container.env.unwrap_or_default().into_iter();
            let spelt = variables.map(|one| format!("{}={}", one.name, one.value.unwrap_or_default()));
            let arguments: BTreeSet<String> = container.args.unwrap_or_default().into_iter().collect();
            (container.name, (spelt.collect::<Vec<_>>().join(" "), arguments))
        });
        all.collect::<BTreeMap<_, _>>()
    };
    let usual = containers(&tcp);
    tcp.metadata.annotations = Some([("cotenant.dev/profile".to_owned(), "small".to_owned())].into());
    let small = containers(&tcp);
    let added = |component: &str| {
        let variables = (usual[component].0.as_str(), small[component].0.as_str());
        assert_eq!(variables, ("GOGC=25", "GOGC=20 GOMAXPROCS=1"));
        assert!(usual[component].1.is_subset(&small[component].1));
        let added = small[component].1.difference(&usual[component].1);
        added.map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(added("kube-apiserver"), ["--etcd-count-metric-poll-period=0"]);
    assert_eq!(
        added("kube-controller-manager"),
        [
            "--leader-elect-lease-duration=60s",
            "--leader-elect-renew-deadline=40s",
            "--leader-elect-retry-period=10s"
        ]
    );
    assert_eq!(
        added("kube-scheduler"),
        ["--leader-elect-lease-duration=60s", "--leader-elect-renew-deadline=40s"]
    );
}

#[test]
fn nothing_with_key_material_shows_it_when_printed() {
    const CANARY: &str = "canary-in-the-key";
    let data = || secrets::Data::from([("tls.key".to_owned(), k8s_openapi::ByteString(CANARY.into()))]);
    let (_, mut objects) = planned(&tcp(), &BTreeMap::new(), &authority(), clock());
    objects.secrets[0].1 = data();
    let secret = Secret {
        data: Some(data()),
        ..Secret::default()
    };
    let observed = crate::observe::Observed {
        service: None,
        services: Vec::new(),
        deployment: None,
        config_map: None,
        network_policy: None,
        egress_selector: None,
        ingress: None,
        route: None,
        tunnel_route: None,
        budgets: Vec::new(),
        secrets: BTreeMap::from([("demo-ca".to_owned(), secret)]),
        own: Own::default(),
        admin: std::sync::Arc::default(),
        dns_labels: BTreeMap::new(),
    };
    let outcome = secrets::Outcome {
        data: BTreeMap::from([("demo-ca".to_owned(), data())]),
        ..secrets::Outcome::default()
    };
    let read = crate::datastore::credentials::Read::Complete(BTreeMap::from([("spec.key", CANARY.into())]));
    let login = Login::Etcd(crate::datastore::etcd::StoreConfig {
        endpoints: Vec::new(),
        ca_pem: String::new(),
        client_cert_pem: String::new(),
        client_key_pem: CANARY.to_owned(),
    });
    let pair = || pki::KeyPair {
        cert_pem: String::new(),
        key_pem: CANARY.to_owned(),
    };
    let access = [
        PodTls::Signed { authority: pair() },
        PodTls::Shared {
            authority_pem: String::new(),
            client: Some(pair()),
        },
    ]
    .map(|tls| PodAccess {
        tls,
        login: Some(SharedLogin {
            user: String::new(),
            password: CANARY.to_owned(),
        }),
    });
    // Bytes print as numbers.
    let bytes = format!("{:?}", CANARY.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    assert!(format!("{:?}", data()).contains(bytes), "the canary would be seen");
    for text in [
        format!("{objects:?}"),
        format!("{observed:?}"),
        format!("{outcome:?}"),
        format!("{read:?}"),
        format!("{login:?}"),
        format!("{access:?}"),
    ] {
        assert!(!text.contains(CANARY) && !text.contains(bytes), "{text}");
    }
}
