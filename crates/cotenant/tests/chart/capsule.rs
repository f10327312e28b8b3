//! The release with Capsule's names, and Capsule's values.

use std::{collections::BTreeSet, process::Command};

use serde_json::json;

use crate::helm::{Rendered, refusal, render, render_with};

const MODE: &str = "mode=namespaces";

/// What somebody who runs Capsule may have in a file, with values that differ from the defaults.
pub(crate) const VALUES: &str = r#"
replicaCount: 2
certManager: {generateCertificates: false}
tls: {enableController: true, name: own-tls}
rbac:
  resources: {create: true, labels: {rbac.authorization.k8s.io/aggregate-to-edit: "true"}}
  resourcepoolclaims: {create: true}
  customquotas: {create: true}
manager:
  kind: DaemonSet
  image: {registry: mirror.example, repository: infra/cotenant, tag: 1.2.3, pullPolicy: Always}
  hostNetwork: true
  webhookPort: 9555
  resources: {limits: {memory: 99Mi}}
  env: [{name: A, value: b}]
  extraArgs: [--zap-encoder=json]
  volumes: [{name: scratch, emptyDir: {}}]
  volumeMounts: [{name: scratch, mountPath: /scratch}]
  livenessProbe: {httpGet: {path: /healthz, port: 10080}, periodSeconds: 33}
  rbac:
    strict: true
    bindableClusterRoles: [team-admin]
    existingClusterRoles: [seen-before]
    existingRoles: [seen-here]
    clusterRole: {extraResources: [{apiGroups: [a], resources: [bs], verbs: [get]}]}
    role: {extraResources: [{apiGroups: [c], resources: [ds], verbs: [get]}]}
  options:
    capsuleConfiguration: main
    workers: 8
    logLevel: debug
    leaderElection: {enabled: true, leaseDuration: 30s, renewDeadline: 20s, retryPeriod: 5s}
    users: [{kind: User, name: alice}]
    userNames: [bob, "system:serviceaccount:ci:robot"]
    capsuleUserGroups: [oil]
    administrators: [{kind: Group, name: platform}]
    ignoreUserWithGroups: [machines]
    allowServiceAccountPromotion: true
    forceTenantPrefix: true
    protectedNamespaceRegex: "^kube-"
    nodeMetadata: {forbiddenLabels: {denied: [zone], deniedRegex: ""}}
    rbac: {provisioner: own-provisioner, deleter: own-deleter}
    impersonation: {tenantDefaultServiceAccount: replicator}
    cacheInvalidation: 1h0m0s
    tracing: {enabled: true}
webhooks:
  labels: {team: red}
  annotations: {note: here}
  hooks: {pods: {enabled: false}}
global: {jobs: {preDelete: {enabled: false}}}
"#;

#[test]
fn it_has_capsules_names() {
    let rendered = render("capsule", "capsule-system", &[MODE]);
    let names: BTreeSet<_> = rendered.names().into_iter().collect();
    let expected: BTreeSet<_> = [
        "CapsuleConfiguration/default",
        "ClusterRole/capsule:capsule:aggregate",
        "ClusterRole/capsule:capsule:controller",
        "ClusterRole/capsule:capsule:operator",
        "ClusterRoleBinding/capsule:capsule:aggregate",
        "ClusterRoleBinding/capsule:capsule:controller",
        "ClusterRoleBinding/capsule:capsule:operator",
        "Deployment/capsule-controller-manager",
        "PodDisruptionBudget/capsule-controller-manager",
        "Role/capsule",
        "RoleBinding/capsule",
        "Service/capsule-controller-manager-metrics-service",
        "Service/capsule-webhook-service",
        "ServiceAccount/capsule",
        // Hooks of Helm, gone after each install and upgrade.
        "ClusterRole/capsule:capsule:crd-lifecycle",
        "ClusterRoleBinding/capsule:capsule:crd-lifecycle",
        "Job/capsule-crd-lifecycle",
        "ServiceAccount/capsule-crd-lifecycle",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(names, expected);

    let deployment = rendered.object("Deployment/capsule-controller-manager");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["name"], "manager");
    assert_eq!(pod["serviceAccountName"], "capsule");
    let labels = json!({"app.kubernetes.io/name": "capsule", "app.kubernetes.io/instance": "capsule"});
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels);
    let ports = |service: &str| {
        let service = rendered.object(service);
        assert_eq!(service["spec"]["selector"], labels);
        let ports = service["spec"]["ports"].as_array().unwrap().clone();
        ports
            .iter()
            .map(|port| port["port"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ports("Service/capsule-webhook-service"), [9443]);
    assert_eq!(
        ports("Service/capsule-controller-manager-metrics-service"),
        [8080, 10080]
    );
    let configuration = rendered.object("CapsuleConfiguration/default");
    assert_eq!(configuration["spec"]["overrides"]["TLSSecretName"], "capsule-tls");
    assert_eq!(configuration["spec"]["enableTLSReconciler"], true);
    for kind in ["mutating", "validating"] {
        let admission = &configuration["spec"]["admission"][kind];
        assert_eq!(admission["name"], "capsule-dynamic-webhook");
        assert_eq!(
            admission["client"],
            json!({"service": {"name": "capsule-webhook-service", "namespace": "capsule-system", "port": 9443}})
        );
    }
    assert_eq!(
        configuration["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
}

#[test]
fn another_releases_names_begin_with_its_own() {
    let rendered = render("second", "elsewhere", &[MODE]);
    assert!(rendered.find("Deployment/second-capsule-controller-manager").is_some());
    assert!(rendered.find("ClusterRole/capsule:second-capsule:controller").is_some());
    let configuration = rendered.object("CapsuleConfiguration/default");
    assert_eq!(
        configuration["spec"]["overrides"]["TLSSecretName"],
        "second-capsule-tls"
    );
}

#[test]
fn values_have_the_effect_that_they_have_there() {
    let rendered = render_with("capsule", "capsule-system", &[MODE], Some(VALUES));

    let workload = rendered.object("DaemonSet/capsule-controller-manager");
    assert!(workload["spec"].get("replicas").is_none());
    let pod = &workload["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["volumes"], json!([{"name": "scratch", "emptyDir": {}}]));
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "mirror.example/infra/cotenant:1.2.3");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"], json!({"limits": {"memory": "99Mi"}}));
    assert_eq!(container["livenessProbe"]["periodSeconds"], 33);
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], 10080);
    assert_eq!(container["ports"][0], json!({"name": "webhook", "containerPort": 9555}));
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "scratch", "mountPath": "/scratch"}])
    );
    let env: Vec<_> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(env, ["NAMESPACE", "POD_NAME", "SERVICE_ACCOUNT", "A"]);

    assert_eq!(
        rendered.object("CapsuleConfiguration/main")["spec"],
        json!({
            "users": [
                {"kind": "User", "name": "alice"},
                {"kind": "User", "name": "bob"},
                {"kind": "ServiceAccount", "name": "system:serviceaccount:ci:robot"},
                {"kind": "Group", "name": "oil"},
            ],
            "administrators": [{"kind": "Group", "name": "platform"}],
            "ignoreUserWithGroups": ["machines"],
            "allowServiceAccountPromotion": true,
            "forceTenantPrefix": true,
            "protectedNamespaceRegex": "^kube-",
            "nodeMetadata": {"forbiddenLabels": {"denied": ["zone"], "deniedRegex": ""}},
            "rbac": {
                "provisioner": "own-provisioner",
                "deleter": "own-deleter",
                "administrationClusterRoles": ["capsule-namespace-deleter"],
                "promotionClusterRoles": ["capsule-namespace-provisioner", "capsule-namespace-deleter"],
            },
            "impersonation": {"tenantDefaultServiceAccount": "replicator"},
            "cacheInvalidation": "1h0m0s",
            "enableTLSReconciler": true,
            "overrides": {"TLSSecretName": "own-tls"},
            "admission": {
                "serviceName": "capsule-webhook-service",
                "mutating": {
                    "name": "capsule-dynamic-webhook", "labels": {"team": "red"}, "annotations": {"note": "here"},
                    "client": {"service": {"name": "capsule-webhook-service", "namespace": "capsule-system", "port": 9443}},
                    "webhooks": [],
                },
                "validating": {
                    "name": "capsule-dynamic-webhook", "labels": {"team": "red"}, "annotations": {"note": "here"},
                    "client": {"service": {"name": "capsule-webhook-service", "namespace": "capsule-system", "port": 9443}},
                    "webhooks": [],
                },
            },
        })
    );

    let bindable: BTreeSet<String> = rendered.object("ClusterRole/capsule:capsule:controller")["rules"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["verbs"] == json!(["bind"]))
        .flat_map(|rule| serde_json::from_value::<Vec<String>>(rule["resourceNames"].clone()).unwrap())
        .collect();
    for role in ["team-admin", "own-provisioner", "own-deleter", "admin"] {
        assert!(bindable.contains(role), "{bindable:?}");
    }
    assert_eq!(
        rendered.object("ClusterRole/capsule:capsule:extra")["rules"],
        json!([{"apiGroups": ["a"], "resources": ["bs"], "verbs": ["get"]}])
    );
    assert_eq!(
        rendered.object("Role/capsule-extra")["rules"],
        json!([{"apiGroups": ["c"], "resources": ["ds"], "verbs": ["get"]}])
    );
    for (binding, role) in [
        ("ClusterRoleBinding/capsule:capsule:existing:seen-before", "seen-before"),
        ("RoleBinding/capsule-existing-seen-here", "seen-here"),
    ] {
        let binding = rendered.object(binding);
        assert_eq!(binding["roleRef"]["name"], role);
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": "capsule", "namespace": "capsule-system"}])
        );
    }
    for kind in ["tenantresources", "resourcepoolclaims", "customquotas"] {
        let role = rendered.object(&format!("ClusterRole/capsule:capsule:{kind}"));
        assert_eq!(role["rules"][0]["resources"], json!([kind]));
        assert_eq!(
            role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"],
            "true"
        );
    }
    assert_eq!(
        rendered.object("ClusterRole/capsule:capsule:tenantresources")["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"],
        "true"
    );
}

#[test]
fn roles_are_least_ones_unless_capsules_default_is_asked_for() {
    let everything = "ClusterRoleBinding/capsule:capsule:existing:cluster-admin";
    assert!(render("capsule", "capsule-system", &[MODE]).find(everything).is_none());
    let rendered = render("capsule", "capsule-system", &[MODE, "manager.rbac.strict=false"]);
    assert_eq!(rendered.object(everything)["roleRef"]["name"], "cluster-admin");
    let rendered = render("capsule", "capsule-system", &[MODE, "manager.rbac.create=false"]);
    let roles: Vec<_> = rendered
        .names()
        .into_iter()
        .filter(|name| name.contains("Role") && !name.contains("crd-lifecycle"))
        .collect();
    assert!(roles.is_empty(), "{roles:?}");
}

#[test]
fn the_certificate_is_made_by_one_and_pods_wait_for_another_who_makes_it() {
    let volumes = |set: &[&str]| {
        let rendered = render("capsule", "capsule-system", set);
        let workload = rendered.object("Deployment/capsule-controller-manager");
        let volumes = workload["spec"]["template"]["spec"]["volumes"].clone();
        (rendered, volumes)
    };
    let waits = json!([{"name": "webhook-certificate", "secret": {"secretName": "capsule-tls"}}]);
    let (rendered, mounted) = volumes(&[
        MODE,
        "certManager.generateCertificates=true",
        "certManager.additionalSANS={hooks.example}",
    ]);
    assert_eq!(mounted, waits);
    assert_eq!(
        rendered.object("CapsuleConfiguration/default")["spec"]["enableTLSReconciler"],
        false
    );
    assert!(rendered.find("Issuer/capsule-webhook-selfsigned").is_some());
    let certificate = rendered.object("Certificate/capsule-webhook-cert");
    assert_eq!(certificate["spec"]["secretName"], "capsule-tls");
    assert_eq!(
        certificate["spec"]["dnsNames"],
        json!([
            "capsule-webhook-service",
            "capsule-webhook-service.capsule-system",
            "capsule-webhook-service.capsule-system.svc",
            "capsule-webhook-service.capsule-system.svc.cluster.local",
            "hooks.example",
        ])
    );
    // Neither: somebody brings the Secret.
    let (rendered, mounted) = volumes(&[MODE, "tls.enableController=false", "tls.create=true"]);
    assert_eq!(mounted, waits);
    let secret = rendered.object("Secret/capsule-tls");
    assert_eq!(secret["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(secret.get("data"), None);
    // Ours.
    let (rendered, mounted) = volumes(&[MODE, "tls.enableController=true"]);
    assert_eq!(mounted, json!(null));
    assert!(rendered.find("Certificate/capsule-webhook-cert").is_none());
}

#[test]
fn an_operator_elsewhere_is_reached_by_its_address() {
    let set = [
        MODE,
        "webhooks.exclusive=true",
        "webhooks.service.url=https://192.0.2.1:9443",
        "webhooks.service.caBundle=UEVN",
    ];
    let rendered = render("capsule", "capsule-system", &set);
    assert_eq!(rendered.names(), ["CapsuleConfiguration/default"]);
    assert_eq!(
        rendered.object("CapsuleConfiguration/default")["spec"]["admission"]["mutating"]["client"],
        json!({"url": "https://192.0.2.1:9443", "caBundle": "UEVN"})
    );
    let rendered = render(
        "capsule",
        "capsule-system",
        &[MODE, "webhooks.service.name=front", "webhooks.service.port=443"],
    );
    assert_eq!(
        rendered.object("CapsuleConfiguration/default")["spec"]["admission"]["validating"]["client"],
        json!({"service": {"name": "front", "namespace": "capsule-system", "port": 443}})
    );
}

#[test]
fn definitions_alone_can_be_asked_for() {
    let rendered = render("capsule", "capsule-system", &[MODE, "crds.exclusive=true"]);
    assert!(
        rendered.names().iter().all(|name| name.ends_with("crd-lifecycle")),
        "{:?}",
        rendered.names()
    );
    let job = rendered.object("Job/capsule-crd-lifecycle");
    assert_eq!(Rendered::flags(&job), ["crds", "--group=capsule.clastix.io"]);
    let rendered = render(
        "capsule",
        "capsule-system",
        &[
            MODE,
            "crds.exclusive=true",
            "crds.install=false",
            "crds.createConfig=true",
            "crds.createRBAC=true",
            "rbac.resources.create=true",
        ],
    );
    assert_eq!(
        rendered.names(),
        [
            "ClusterRole/capsule:capsule:tenantresources",
            "CapsuleConfiguration/default"
        ]
    );
}

#[test]
fn the_job_may_touch_capsules_definitions_and_no_other() {
    let rendered = render("capsule", "capsule-system", &[MODE]);
    let role = rendered.object("ClusterRole/capsule:capsule:crd-lifecycle");
    let names: BTreeSet<String> = serde_json::from_value(role["rules"][1]["resourceNames"].clone()).unwrap();
    let expected: BTreeSet<String> = api::crds()
        .into_iter()
        .filter(|definition| definition.spec.group == "capsule.clastix.io")
        .filter_map(|definition| definition.metadata.name)
        .collect();
    assert_eq!(names, expected);
    assert!(names.contains("tenants.capsule.clastix.io"));
}

#[test]
fn values_that_contradict_each_other_are_refused_with_a_sentence() {
    for (set, sentence) in [
        (
            "tls.enableController=true,certManager.generateCertificates=true",
            "tls.enableController and certManager.generateCertificates are both true",
        ),
        ("proxy.enabled=true", "proxy.enabled is true"),
        ("manager.kind=StatefulSet", r#"manager.kind is "StatefulSet""#),
        (
            "manager.image.repository=projectcapsule/capsule",
            "which is Capsule's program",
        ),
        (
            "webhooks.service.url=https://a,webhooks.service.name=b",
            "webhooks.service.url and webhooks.service.name",
        ),
        ("mode=kamaji", r#"mode is "kamaji""#),
    ] {
        let said = refusal("capsule", "capsule-system", &[MODE, set]);
        assert!(said.contains(sentence), "{set}: {said}");
    }
}

/// What is rendered is also understood. With `--version` the program ends after it has read its flags.
#[test]
fn the_program_takes_the_flags_that_are_rendered() {
    for rendered in [
        render("capsule", "capsule-system", &[MODE]).object("Deployment/capsule-controller-manager"),
        render_with("capsule", "capsule-system", &[MODE], Some(VALUES)).object("DaemonSet/capsule-controller-manager"),
    ] {
        let flags = Rendered::flags(&rendered);
        assert_eq!(flags[0], "capsule");
        let output = Command::new(env!("CARGO_BIN_EXE_cotenant"))
            .args(&flags)
            .arg("--version")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{flags:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
