//! What we make of a control plane beside what Kamaji made of the same one, field by field.
//!
//! `observed/admin-objects.yaml` holds facts: objects as they were read from an API server. Every difference has to be
//! explained by a row of [`DIFFERENCES`], and every row has to explain one, so that neither side drifts in silence.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::collections::{BTreeMap, BTreeSet};

use api::kamaji::v1alpha1::TenantControlPlane;
use control_plane_controller::admin_network::AdminNetwork;
use control_plane_controller::apply;
use control_plane_controller::datastore::pod_access::PodTls;
use control_plane_controller::desired::network_policy::{Destination, default_dns_labels};
use control_plane_controller::desired::secrets::Clock;
use control_plane_controller::desired::{self, DatastoreFacts, Hosted, exposure, service};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize as _;
use serde_json::{Value, json};

const OBSERVED: &str = include_str!("observed/admin-objects.yaml");
const UID: &str = "5b8f4c1e-0000-4000-8000-000000000001";

const SERVER: &str =
    "the tunnel's server only has tokens reviewed, which a binding lets it; no group that may do everything";
const DEFAULTED: &str = "the API server's default, not written by anybody";
const PROBES: &str = "startup is looked at every second with five minutes of patience, and means that readiness need not wait: \
                      ready sooner, and a busy machine does not kill a slow start";
const MEMORY: &str = "garbage is collected sooner, for less memory while idle; a setting of the operator";
const KEYS: &str = "new keys are ECDSA P-256 in PKCS#8; existing RSA keys are kept";

/// Path prefix, and why it differs.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "Deployment demo: metadata.annotations.deployment.kubernetes.io/revision",
        "written by the Deployment controller",
    ),
    ("Deployment demo: spec.progressDeadlineSeconds", DEFAULTED),
    ("Deployment demo: spec.revisionHistoryLimit", DEFAULTED),
    (
        "Deployment demo: spec.template.spec.automountServiceAccountToken",
        "nothing in the pods speaks with the admin cluster, so no token is mounted",
    ),
    (
        "Deployment demo: spec.template.metadata.labels.component.kamaji.clastix.io/konnectivity-kubeconfig",
        "mounted as a single file, so a renewed one is seen by new pods only",
    ),
    (
        "Deployment demo: spec.template.spec.containers.konnectivity-server.env",
        MEMORY,
    ),
    (
        "Deployment demo: spec.template.spec.containers.konnectivity-server.terminationMessage",
        DEFAULTED,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.args.--endpoint-reconciler-type",
        "replicas share one address; the operator keeps the endpoints of the kubernetes Service",
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.args.--shutdown-delay-duration",
        "a replica that goes serves those who do not know it yet",
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.env",
        MEMORY,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.startupProbe.failureThreshold",
        PROBES,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.startupProbe.httpGet.path",
        PROBES,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.startupProbe.periodSeconds",
        PROBES,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-apiserver.terminationMessage",
        DEFAULTED,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-controller-manager.env",
        MEMORY,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-controller-manager.startupProbe",
        PROBES,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-controller-manager.terminationMessage",
        DEFAULTED,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-scheduler.env",
        MEMORY,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-scheduler.startupProbe",
        PROBES,
    ),
    (
        "Deployment demo: spec.template.spec.containers.kube-scheduler.terminationMessage",
        DEFAULTED,
    ),
    ("Deployment demo: spec.template.spec.dnsPolicy", DEFAULTED),
    ("Deployment demo: spec.template.spec.restartPolicy", DEFAULTED),
    ("Deployment demo: spec.template.spec.schedulerName", DEFAULTED),
    ("Deployment demo: spec.template.spec.serviceAccount", DEFAULTED),
    (
        "Deployment demo: spec.template.spec.terminationGracePeriodSeconds",
        DEFAULTED,
    ),
    (
        "Deployment demo: spec.template.spec.topologySpreadConstraints",
        "replicas are spread over zones and nodes where their author does not say how",
    ),
    ("Service demo: spec.clusterIP", DEFAULTED),
    ("Service demo: spec.externalTrafficPolicy", DEFAULTED),
    ("Service demo: spec.internalTrafficPolicy", DEFAULTED),
    ("Service demo: spec.ipFamilies", DEFAULTED),
    ("Service demo: spec.ipFamilyPolicy", DEFAULTED),
    ("Service demo: spec.sessionAffinity", DEFAULTED),
    (
        "ConfigMap demo-kubeadmconfig: data.ClusterConfiguration",
        "kubeadm's public form instead of Go's internal structures",
    ),
    (
        "ConfigMap demo-kubeadmconfig: data.InitConfiguration",
        "kubeadm's public form, without a bootstrap token that exists nowhere",
    ),
    (
        "Secret demo-api-server-certificate: data.apiserver.crt.sans.DNS:node",
        "a name that kubeadm's library adds for a node that does not exist",
    ),
    (
        "Secret demo-datastore-certificate: data.server.crt.subject",
        "the store knows its user by the common name; an organisation would grant nothing there and everything elsewhere",
    ),
    (
        "Secret demo-datastore-certificate: data.server.crt.Extended Key Usage",
        "a client of the store is neither a server nor a signer of code",
    ),
    (
        "Secret demo-datastore-certificate: data.server.crt.Key Usage",
        "the same key usage in all leaves",
    ),
    (
        "Secret demo-datastore-certificate: data.server.crt.Basic Constraints",
        "the same constraints in all leaves",
    ),
    (
        "Secret demo-datastore-certificate: data.ca.crt",
        "the store's own authority, given to us as it is",
    ),
    ("Secret demo-konnectivity-certificate: data.tls.crt.", SERVER),
    (
        "Secret demo-konnectivity-kubeconfig: data.konnectivity-server.conf.users.system:konnectivity-server.user.client-certificate.",
        SERVER,
    ),
    (
        "Secret demo-konnectivity-kubeconfig: metadata.annotations.certs.kamaji.clastix.io/rotate",
        "nobody asked for a rotation",
    ),
    (
        "NetworkPolicy demo",
        "the pods of a control plane reach their store, DNS and the outside, and nothing of the admin cluster",
    ),
    ("publicKey", KEYS),
];

#[test]
fn every_difference_from_the_observed_objects_is_explained() {
    let observed = observed();
    let ours = rendered();
    let mut unexplained = Vec::new();
    let mut used = BTreeSet::new();
    let paths: BTreeSet<&String> = observed.keys().chain(ours.keys()).collect();
    for path in paths {
        let (theirs, own) = (observed.get(path), ours.get(path));
        if same(theirs, own) {
            continue;
        }
        match DIFFERENCES
            .iter()
            .position(|(prefix, _)| path.starts_with(prefix) || path.ends_with(prefix))
        {
            Some(row) => {
                used.insert(row);
            }
            None => unexplained.push(format!("{path}\n    observed {theirs:?}\n    ours     {own:?}")),
        }
    }
    assert!(
        unexplained.is_empty(),
        "{} unexplained differences:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    let idle: Vec<_> = DIFFERENCES
        .iter()
        .enumerate()
        .filter(|(row, _)| !used.contains(row))
        .map(|(_, (path, _))| path)
        .collect();
    assert!(idle.is_empty(), "rows that explain nothing any more: {idle:?}");
}

fn same(theirs: Option<&String>, own: Option<&String>) -> bool {
    match (theirs.map(String::as_str), own) {
        (Some("<hash>"), Some(own)) => own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()),
        (Some("<uid>"), Some(own)) => own.len() == 36,
        (Some("/<uid>"), Some(own)) => own.len() == 37 && own.starts_with('/'),
        (theirs, own) => theirs == own.map(String::as_str),
    }
}

/// Everything that was observed, flattened; the control plane itself and all statuses left out.
fn observed() -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    for document in serde_norway::Deserializer::from_str(OBSERVED) {
        let Ok(mut object) = Value::deserialize(document) else {
            continue;
        };
        if object.is_null() || object["kind"] == "TenantControlPlane" {
            continue;
        }
        object.as_object_mut().unwrap().remove("status");
        if object["kind"] == "Secret" {
            normalise_observed_secret(&mut object);
        }
        flatten_object(&object, &mut flat);
    }
    assert!(flat.len() > 300, "the facts were not read: {}", flat.len());
    flat
}

/// The facts describe certificates in OpenSSL's words; bring them into the form that [`describe`] gives ours.
fn normalise_observed_secret(secret: &mut Value) {
    for (_, value) in secret["data"].as_object_mut().unwrap().iter_mut() {
        if let Some(text) = value.as_str() {
            if text.contains("PEM") {
                *value = json!("PEM");
            }
        } else if let Some(certificate) = value.get("certificate") {
            *value = normalise_certificate(certificate);
        } else if let Some(kubeconfig) = value.get("kubeconfig") {
            let mut kubeconfig = kubeconfig.clone();
            for user in kubeconfig["users"].as_array_mut().unwrap() {
                let certificate = normalise_certificate(&user["user"]["client-certificate"]);
                user["user"] = json!({"client-certificate": certificate});
            }
            *value = kubeconfig;
        }
    }
}

fn normalise_certificate(certificate: &Value) -> Value {
    let mut certificate = certificate.clone();
    if let Some(names) = certificate.as_object_mut().unwrap().remove("Subject Alternative Name") {
        let names = names
            .as_str()
            .unwrap()
            .split(',')
            .map(|name| name.trim().replace("IP Address:", "IP:"));
        certificate["sans"] = names
            .map(|name| (name, json!(true)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    certificate
}

/// What we render for the same control plane, flattened.
fn rendered() -> BTreeMap<String, String> {
    let document = serde_norway::Deserializer::from_str(OBSERVED).next().unwrap();
    let mut tcp = Value::deserialize(document).unwrap();
    assert_eq!(tcp["kind"], "TenantControlPlane");
    tcp.as_object_mut().unwrap().remove("status");
    tcp["metadata"]["uid"] = json!(UID);
    let tcp: TenantControlPlane = serde_json::from_value(tcp).unwrap();

    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let store = pki::Authority::new("etcd-ca", &[], pki::AUTHORITY_VALIDITY, now).unwrap();
    let address = exposure::address(&tcp, None).unwrap();
    let front = service::service(&tcp, Some(&address), tcp.spec.network_profile.port);
    let exposure = exposure::exposure(&tcp, address, [], &[]);
    let facts = DatastoreFacts {
        name: "default".to_owned(),
        driver: "etcd".to_owned(),
        endpoints: vec!["10.99.0.1:12379".to_owned()],
        destinations: vec![Destination::Address {
            network: "10.99.0.1/32".to_owned(),
            port: 12379,
        }],
        kine: None,
    };
    let hosted = Hosted::new(&tcp, tcp.spec.kubernetes.version.clone(), exposure, facts, Some(25));
    let clock = Clock {
        now,
        renewal_window: jiff::SignedDuration::from_hours(24),
    };
    let authority = pki::KeyPair {
        cert_pem: store.cert_pem().to_owned(),
        key_pem: store.key_pem().to_owned(),
    };
    let (_, objects) = desired::plan(
        &hosted,
        None,
        &BTreeMap::new(),
        Some(&PodTls::Signed { authority }.into()),
        &AdminNetwork::default(),
        clock,
    )
    .unwrap();
    let around = desired::surroundings(&hosted, &AdminNetwork::default(), &default_dns_labels());

    let mut flat = BTreeMap::new();
    for object in [
        serde_json::to_value(&front).unwrap(),
        serde_json::to_value(&around.kubeadm_config).unwrap(),
        serde_json::to_value(&around.network_policy).unwrap(),
        serde_json::to_value(&around.egress_selector).unwrap(),
        serde_json::to_value(&objects.deployment).unwrap(),
    ] {
        flatten_object(&object, &mut flat);
    }
    for (recipe, data) in &objects.secrets {
        let secret = apply::secret(&tcp, recipe, data, None, now);
        flatten_object(&described(&secret), &mut flat);
    }
    flat
}

/// A Secret whose values are told in the words of the facts.
fn described(secret: &Secret) -> Value {
    let mut object = serde_json::to_value(secret).unwrap();
    for (key, value) in secret.data.as_ref().unwrap() {
        let text = String::from_utf8(value.0.clone()).unwrap();
        object["data"][key] = if text.contains("BEGIN CERTIFICATE") {
            describe(&text)
        } else if text.contains("-----BEGIN") {
            json!("PEM")
        } else if text.contains("kind: Config") {
            let kubeconfig = pki::Kubeconfig::parse(&text).unwrap();
            let mut shown: Value = serde_norway::from_str(&text).unwrap();
            shown["clusters"][0]["cluster"]
                .as_object_mut()
                .unwrap()
                .remove("certificate-authority-data");
            shown["users"][0]["user"] = json!({"client-certificate": describe(&kubeconfig.client.cert_pem)});
            shown
        } else {
            json!(text)
        };
    }
    object
}

fn describe(pem: &str) -> Value {
    let info = pki::inspect(pem).unwrap();
    let mut shown = json!({
        "issuer": format!("CN = {}", info.issuer_common_name.as_deref().unwrap_or_default()),
        "publicKey": format!("{:?}", info.key),
        "subject": info
            .organizations
            .iter()
            .map(|organization| format!("O = {organization}"))
            .chain(info.common_name.iter().map(|name| format!("CN = {name}")))
            .collect::<Vec<_>>()
            .join(", "),
    });
    if info.is_authority {
        shown["Basic Constraints"] = json!("CA:TRUE critical");
        shown["Key Usage"] = json!("Digital Signature, Key Encipherment, Certificate Sign critical");
    } else {
        shown["Basic Constraints"] = json!("CA:FALSE critical");
        shown["Key Usage"] = json!("Digital Signature, Key Encipherment critical");
        let words = |usage: &pki::Usage| match usage {
            pki::Usage::Client => "TLS Web Client Authentication",
            pki::Usage::Server => "TLS Web Server Authentication",
            pki::Usage::CodeSigning => "Code Signing",
        };
        shown["Extended Key Usage"] = json!(info.usages.iter().map(words).collect::<Vec<_>>().join(", "));
    }
    if !info.sans.is_empty() {
        let name = |san: &pki::San| match san {
            pki::San::Dns(name) => format!("DNS:{name}"),
            pki::San::Ip(address) => format!("IP:{address}"),
        };
        shown["sans"] = info
            .sans
            .iter()
            .map(|san| (name(san), json!(true)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    shown
}

fn flatten_object(object: &Value, into: &mut BTreeMap<String, String>) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let mut rest = object.clone();
    rest.as_object_mut().unwrap().remove("apiVersion");
    rest.as_object_mut().unwrap().remove("kind");
    flatten(&format!("{} {name}: ", object["kind"].as_str().unwrap()), &rest, into);
}

/// Leaves by path. Items of lists go by their name or key, command lines by the flag's name, so that a missing one does
/// not shift all others.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let join = |key: &str| {
        if path.ends_with(": ") {
            format!("{path}{key}")
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                flatten(&join(key), value, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let text = item.as_str();
                if let Some((flag, value)) = text.and_then(|text| text.strip_prefix("--")?.split_once('=')) {
                    into.insert(join(&format!("--{flag}")), value.to_owned());
                    continue;
                }
                let secret = item.get("secret").and_then(|secret| secret["name"].as_str());
                let named = item["name"].as_str().or(item["key"].as_str()).or(secret);
                flatten(
                    &join(named.map_or_else(|| index.to_string(), str::to_owned).as_str()),
                    item,
                    into,
                );
            }
        }
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        other => {
            into.insert(path.to_owned(), other.to_string());
        }
    }
}
