//! The release with Kamaji's names, and Kamaji's values.

use std::{collections::BTreeSet, process::Command};

use serde_json::json;

use crate::helm::{Rendered, refusal, render, render_with};

const MODE: &str = "mode=control-planes";

/// What somebody who runs Kamaji may have in a file, with values that differ from the defaults.
const VALUES: &str = r#"
replicaCount: 3
image: {repository: mirror.example/infra/cotenant, pullPolicy: Always, tag: 1.2.3}
imagePullSecrets: [{name: mirror}]
extraArgs: ["--max-concurrent-tcp-reconciles=8", "--certificate-expiration-deadline=48h"]
serviceMonitor: {enabled: true}
healthProbeBindAddress: ":8181"
metricsBindAddress: ":8282"
livenessProbe: {httpGet: {path: /healthz, port: healthcheck}, initialDelaySeconds: 15, periodSeconds: 20}
readinessProbe: {httpGet: {path: /readyz, port: healthcheck}, initialDelaySeconds: 5, periodSeconds: 10}
serviceAccount: {create: true, annotations: {note: here}, name: own-account}
podAnnotations: {team: red}
nodeSelector: {role: infra}
tolerations: [{key: infra, operator: Exists}]
affinity: {nodeAffinity: {}}
podSecurityContext: {runAsNonRoot: true, fsGroup: 7}
securityContext: {allowPrivilegeEscalation: false}
resources: {limits: {cpu: 200m, memory: 100Mi}, requests: {cpu: 100m, memory: 20Mi}}
temporaryDirectoryPath: /tmp/elsewhere
loggingDevel: {enable: true}
defaultDatastoreName: bronze
telemetry: {disabled: true}
kamaji-etcd:
  deploy: true
  fullnameOverride: own-etcd
  clusterDomain: cluster.local
  selfSignedCertificates: {enabled: false}
  certManager: {enabled: true, issuerRef: {kind: Issuer, name: kamaji-selfsigned-issuer}}
  datastore: {enabled: true, name: bronze}
kubeconfigGenerator: {enabled: true, replicaCount: 2}
"#;

fn names(rendered: &Rendered) -> BTreeSet<String> {
    rendered.names().into_iter().collect()
}

#[test]
fn it_has_kamajis_names() {
    let rendered = render("kamaji", "kamaji-system", &[MODE]);
    let expected: BTreeSet<_> = [
        "ClusterRole/kamaji-manager-role",
        "ClusterRole/kamaji-operator-role",
        "ClusterRoleBinding/kamaji-manager-role",
        "ClusterRoleBinding/kamaji-operator-role",
        "DataStore/default",
        "Deployment/kamaji",
        "PodDisruptionBudget/kamaji",
        "Role/kamaji",
        "RoleBinding/kamaji",
        "Service/kamaji-etcd",
        "Service/kamaji-metrics-service",
        "Service/kamaji-webhook-service",
        "ServiceAccount/kamaji-controller-manager",
        "StatefulSet/kamaji-etcd",
        // Hooks of Helm, gone after each install and upgrade.
        "ClusterRole/kamaji-crd-lifecycle-role",
        "ClusterRoleBinding/kamaji-crd-lifecycle-role",
        "Job/kamaji-crd-lifecycle",
        "ServiceAccount/kamaji-crd-lifecycle",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(names(&rendered), expected);

    let deployment = rendered.object("Deployment/kamaji");
    assert_eq!(
        deployment["metadata"]["labels"]["app.kubernetes.io/component"],
        "controller-manager"
    );
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "kamaji-controller-manager");
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "manager");
    assert_eq!(
        container["ports"],
        json!([
            {"name": "webhook-server", "containerPort": 9443},
            {"name": "metrics", "containerPort": 8080},
            {"name": "healthcheck", "containerPort": 8081},
        ])
    );
    assert_eq!(
        container["livenessProbe"]["httpGet"],
        json!({"path": "/healthz", "port": "healthcheck"})
    );
    assert_eq!(
        container["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": "healthcheck"})
    );
    // The release's datastore has pods too, which are not to be sent reviews.
    let selector = deployment["spec"]["selector"]["matchLabels"].clone();
    assert_eq!(selector["app.kubernetes.io/component"], "controller-manager");
    for (service, port) in [
        (
            "Service/kamaji-webhook-service",
            json!([{"name": "webhook", "port": 443, "targetPort": "webhook-server"}]),
        ),
        (
            "Service/kamaji-metrics-service",
            json!([{"name": "metrics", "port": 8080, "targetPort": "metrics"}]),
        ),
    ] {
        let service = rendered.object(service);
        assert_eq!(service["spec"]["ports"], port);
        assert_eq!(service["spec"]["selector"], selector);
    }
}

#[test]
fn values_have_the_effect_that_they_have_there() {
    let rendered = render_with("kamaji", "kamaji-system", &[MODE], Some(VALUES));
    let deployment = rendered.object("Deployment/kamaji");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"], json!({"team": "red"}));
    let pod = &template["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "mirror"}]));
    assert_eq!(pod["nodeSelector"], json!({"role": "infra"}));
    assert_eq!(pod["tolerations"], json!([{"key": "infra", "operator": "Exists"}]));
    assert_eq!(pod["affinity"], json!({"nodeAffinity": {}}));
    assert_eq!(pod["securityContext"]["fsGroup"], 7);
    assert_eq!(pod["serviceAccountName"], "own-account");
    assert_eq!(
        rendered.object("ServiceAccount/own-account")["metadata"]["annotations"],
        json!({"note": "here"})
    );
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "mirror.example/infra/cotenant:1.2.3");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(
        container["resources"]["limits"],
        json!({"cpu": "200m", "memory": "100Mi"})
    );
    assert_eq!(container["ports"][1]["containerPort"], 8282);
    assert_eq!(container["ports"][2]["containerPort"], 8181);
    assert_eq!(container["livenessProbe"]["initialDelaySeconds"], 15);
    assert_eq!(container["readinessProbe"]["periodSeconds"], 10);
    assert_eq!(
        rendered.object("Service/kamaji-metrics-service")["spec"]["ports"][0]["port"],
        8282
    );

    let flags = Rendered::flags(&deployment);
    for flag in [
        "--health-probe-bind-address=:8181",
        "--metrics-bind-address=:8282",
        "--datastore=bronze",
        "--bundled-etcd=own-etcd",
        "--own-image=mirror.example/infra/cotenant:1.2.3",
        "--zap-devel",
        "--max-concurrent-tcp-reconciles=8",
        "--certificate-expiration-deadline=48h",
        "--tls-secret-name=kamaji-tls",
        "--owner-cluster-role=kamaji-operator-role",
        "--webhook-service-name=kamaji-webhook-service",
    ] {
        assert!(flags.iter().any(|found| found == flag), "{flag} in {flags:?}");
    }
    assert!(rendered.find("StatefulSet/own-etcd").is_some());
    assert!(rendered.find("ServiceMonitor/kamaji").is_some());
    let store = rendered.object("DataStore/bronze");
    assert_eq!(store["spec"]["endpoints"], json!(["own-etcd.kamaji-system.svc:2379"]));
}

#[test]
fn a_datastore_of_ones_own_takes_the_place_of_the_one_that_comes_along() {
    let without = |set: &str| {
        let rendered = render("kamaji", "kamaji-system", &[MODE, set]);
        let flags = Rendered::flags(&rendered.object("Deployment/kamaji"));
        (names(&rendered), flags)
    };
    let (objects, flags) = without("kamaji-etcd.deploy=false");
    assert!(
        !objects
            .iter()
            .any(|name| name.contains("etcd") || name.starts_with("DataStore")),
        "{objects:?}"
    );
    assert!(
        !flags.iter().any(|flag| flag.starts_with("--bundled-etcd")),
        "{flags:?}"
    );
    let (objects, _) = without("kamaji-etcd.datastore.enabled=false");
    assert!(
        objects.contains("StatefulSet/kamaji-etcd") && !objects.contains("DataStore/default"),
        "{objects:?}"
    );
}

#[test]
fn what_control_planes_stand_on_is_kept_when_the_release_goes() {
    let rendered = render("kamaji", "kamaji-system", &[MODE]);
    for name in ["StatefulSet/kamaji-etcd", "Service/kamaji-etcd", "DataStore/default"] {
        let kept = &rendered.object(name)["metadata"]["annotations"]["helm.sh/resource-policy"];
        assert_eq!(kept, "keep", "{name}");
    }
}

#[test]
fn the_certificate_is_the_operators_or_cert_managers() {
    let flag = |rendered: &Rendered| {
        let flags = Rendered::flags(&rendered.object("Deployment/kamaji"));
        flags
            .iter()
            .find_map(|flag| flag.strip_prefix("--tls-secret-name=").map(str::to_owned))
    };
    let rendered = render("kamaji", "kamaji-system", &[MODE]);
    assert_eq!(flag(&rendered).as_deref(), Some("kamaji-tls"));
    assert_eq!(
        rendered.object("Deployment/kamaji")["spec"]["template"]["spec"].get("volumes"),
        None
    );

    let rendered = render(
        "kamaji",
        "kamaji-system",
        &[
            MODE,
            "certManager.generateCertificates=true",
            "certManager.additionalSANS={hooks.example}",
        ],
    );
    assert_eq!(flag(&rendered).as_deref(), Some("kamaji-webhook-server-cert"));
    assert!(rendered.find("Issuer/kamaji-selfsigned-issuer").is_some());
    let certificate = rendered.object("Certificate/kamaji-serving-cert");
    assert_eq!(certificate["spec"]["secretName"], "kamaji-webhook-server-cert");
    assert_eq!(
        certificate["spec"]["dnsNames"],
        json!([
            "kamaji-webhook-service.kamaji-system.svc",
            "kamaji-webhook-service.kamaji-system.svc.cluster.local",
            "hooks.example",
        ])
    );
    // Pods wait for it.
    assert_eq!(
        rendered.object("Deployment/kamaji")["spec"]["template"]["spec"]["volumes"],
        json!([{"name": "webhook-certificate", "secret": {"secretName": "kamaji-webhook-server-cert"}}])
    );
}

#[test]
fn the_job_may_touch_kamajis_definitions_and_no_other() {
    let rendered = render("kamaji", "kamaji-system", &[MODE]);
    let role = rendered.object("ClusterRole/kamaji-crd-lifecycle-role");
    let found: BTreeSet<String> = serde_json::from_value(role["rules"][1]["resourceNames"].clone()).unwrap();
    let expected: BTreeSet<String> = api::crds()
        .into_iter()
        .filter(|definition| definition.spec.group == "kamaji.clastix.io")
        .filter_map(|definition| definition.metadata.name)
        .collect();
    assert_eq!(found, expected);
    let job = rendered.object("Job/kamaji-crd-lifecycle");
    assert_eq!(Rendered::flags(&job), ["crds", "--group=kamaji.clastix.io"]);
    let rendered = render("kamaji", "kamaji-system", &[MODE, "crds.install=false"]);
    assert!(!names(&rendered).iter().any(|name| name.contains("crd-lifecycle")));
}

#[test]
fn another_releases_names_begin_with_its_own() {
    let rendered = render("second", "elsewhere", &[MODE]);
    assert!(rendered.find("Deployment/second-kamaji").is_some());
    assert!(rendered.find("ClusterRole/second-kamaji-manager-role").is_some());
    assert!(rendered.find("Service/second-kamaji-webhook-service").is_some());
}

#[test]
fn the_peers_own_program_is_refused() {
    let said = refusal(
        "kamaji",
        "kamaji-system",
        &[MODE, "image.repository=docker.io/clastix/kamaji"],
    );
    assert!(said.contains("which is Kamaji's program"), "{said}");
}

/// What is rendered is also understood. An unreachable cluster is the first thing that it then has to say.
#[test]
fn the_program_takes_the_flags_that_are_rendered() {
    for values in [None, Some(VALUES)] {
        let rendered = render_with("kamaji", "kamaji-system", &[MODE], values);
        let flags = Rendered::flags(&rendered.object("Deployment/kamaji"));
        assert_eq!(&flags[..2], ["kamaji", "manager"]);
        let output = Command::new(env!("CARGO_BIN_EXE_cotenant"))
            .args(&flags)
            .args([
                "--pod-namespace=kamaji-system",
                "--serviceaccount-name=a",
                "--kubeconfig=/nowhere",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {said}");
        assert!(said.contains("/nowhere"), "{flags:?}: {said}");
    }
}
