//! Every set of limits that is broken, against every set that is audited.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::rules::RULES;
use crate::view::Source;

/// A namespace that leaves no place in the quota.
const BEYOND_THE_QUOTA: &str = "oil-more";

/// A tenant with every limit, and its namespace.
struct Scene {
    source: Arc<Source>,
    object: Value,
}

impl Scene {
    fn new(audit: &str, object: Value) -> Self {
        let scene = Self {
            source: Arc::new(Source::empty()),
            object,
        };
        scene.put_tenant("oil", audit);
        scene.put_namespace("oil-web");
        let other = json!({"metadata": {"namespace": "oil-web", "name": "other"}, "spec": {"rules": [host("taken.oil.example")]}});
        let other = serde_json::from_value(other).unwrap();
        scene.source.hostnames.register().put(&other);
        scene
    }

    fn put_tenant(&self, name: &str, audit: &str) {
        let denied = json!({"denied": ["bad"]});
        let env = json!({"kinds": ["*", "Namespace"], "apiGroups": ["*"], "labels": {"env": {"required": true}}});
        let tenant: Tenant = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
        "metadata": {"name": name, "uid": name, "annotations": {"cotenant.dev/audit": audit}},
        "spec": {
            "owners": [{"kind": "User", "name": format!("owner-of-{name}")}],
            "containerRegistries": {"allowed": ["docker.io"]},
            "imagePullPolicies": ["Always"],
            "priorityClasses": {"allowed": ["low"]},
            "runtimeClasses": {"allowed": ["kata"]},
            "storageClasses": {"allowed": ["fast"]},
            "deviceClasses": {"allowed": ["gpu"]},
            "gatewayOptions": {"allowedClasses": {"allowed": ["public"]}},
            "ingressOptions": {
                "allowedClasses": {"allowed": ["nginx"]},
                "allowedHostnames": {"allowedRegex": r"^[^.]+\.oil\.example$"},
                "hostnameCollisionScope": "Tenant"},
            "serviceOptions": {
                "allowedServices": {"nodePort": false}, "externalIPs": {"allowed": ["192.0.2.0/24"]},
                "forbiddenLabels": denied, "forbiddenAnnotations": denied},
            "namespaceOptions": {
                "quota": 2, "forbiddenLabels": denied, "forbiddenAnnotations": denied,
                "requiredMetadata": {"labels": {"team": "^oil$"}}},
            "rules": [{"enforce": {"action": "allow", "metadata": [env]}}],
        }}))
        .unwrap();
        self.source.index().put_tenant(Arc::new(tenant));
    }

    fn put_namespace(&self, name: &str) {
        self.source.index().put_namespace(&of_oil(name));
    }

    fn decide(&self, kind: &Kind) -> (Request, Decided) {
        let rule = RULES.iter().find(|rule| rule.name == kind.rule).unwrap();
        let namespace = if kind.name == "Namespace" { "oil-new" } else { "oil-web" };
        let request = json!({
            "uid": "7", "kind": {"group": kind.group, "version": "v1", "kind": kind.name},
            "resource": {"group": kind.group, "version": "v1", "resource": kind.plural}, "operation": "CREATE",
            "name": self.object["metadata"]["name"], "namespace": namespace, "object": self.object,
            "userInfo": {"username": "owner-of-oil", "groups": ["projectcapsule.dev"]}});
        let request: Request = serde_json::from_str(&request.to_string()).unwrap();
        assert!(rule.holds(&request));
        let mut view = self.source.view().unwrap();
        let tenant = view.known.tenant("oil").unwrap();
        let facts = Facts {
            rules: Some(self.source.rules.of(&tenant, &of_oil("oil-web"))),
            classes: [("public".to_owned(), BTreeMap::new())].into(),
            ..Facts::default()
        };
        let decided = decide(rule, &request, &mut view, &facts);
        (request, decided)
    }
}

fn of_oil(name: &str) -> Namespace {
    serde_json::from_value(json!({"metadata": {
        "name": name, "uid": name, "resourceVersion": "1", "labels": {"capsule.clastix.io/tenant": "oil"},
        "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "oil"}]}}))
    .unwrap()
}

fn host(name: &str) -> Value {
    json!({"host": name})
}

struct Kind {
    rule: &'static str,
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    lawful: Value,
    /// What breaks a limit, each without a look at the others.
    ways: Vec<(Limit, Change)>,
}

type Change = fn(&mut Scene);

fn more_hosts(scene: &mut Scene, name: &str) {
    scene.object["spec"]["rules"].as_array_mut().unwrap().push(host(name));
}

fn without_env(scene: &mut Scene) {
    scene.object["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("env");
}

fn kinds() -> Vec<Kind> {
    let named = || json!({"name": "web", "labels": {"env": "prod"}});
    let container = json!({"name": "c", "image": "docker.io/a", "imagePullPolicy": "Always"});
    let mut namespace = serde_json::to_value(of_oil("oil-new")).unwrap();
    namespace["metadata"]["labels"]["env"] = json!("prod");
    namespace["metadata"]["labels"]["team"] = json!("oil");
    vec![
        Kind {
            rule: "pods.validating.projectcapsule.dev",
            group: "",
            name: "Pod",
            plural: "pods",
            lawful: json!({"metadata": named(), "spec": {"containers": [container]}}),
            ways: vec![
                (Limit::ContainerRegistries, |scene| {
                    scene.object["spec"]["containers"][0]["image"] = json!("ghcr.io/a");
                }),
                (Limit::ImagePullPolicies, |scene| {
                    scene.object["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
                }),
                (Limit::PriorityClasses, |scene| {
                    scene.object["spec"]["priorityClassName"] = json!("high");
                }),
                (Limit::RuntimeClasses, |scene| {
                    scene.object["spec"]["runtimeClassName"] = json!("runc");
                }),
                (Limit::Rules, without_env),
            ],
        },
        Kind {
            rule: "services.validating.projectcapsule.dev",
            group: "",
            name: "Service",
            plural: "services",
            lawful: json!({"metadata": named(), "spec": {"ports": [{"port": 80}]}}),
            ways: vec![
                (Limit::ServiceTypes, |scene| {
                    scene.object["spec"]["type"] = json!("NodePort");
                }),
                (Limit::ExternalIps, |scene| {
                    scene.object["spec"]["externalIPs"] = json!(["198.51.100.7"]);
                }),
                (Limit::ServiceLabels, |scene| {
                    scene.object["metadata"]["labels"]["bad"] = json!("x");
                }),
                (Limit::ServiceAnnotations, |scene| {
                    scene.object["metadata"]["annotations"] = json!({"bad": "x"});
                }),
                (Limit::Rules, without_env),
            ],
        },
        Kind {
            rule: "ingress.validating.projectcapsule.dev",
            group: "networking.k8s.io",
            name: "Ingress",
            plural: "ingresses",
            lawful: json!({"metadata": named(), "spec": {"ingressClassName": "nginx", "rules": [host("a.oil.example")]}}),
            ways: vec![
                (Limit::IngressClasses, |scene| {
                    scene.object["spec"]["ingressClassName"] = json!("traefik");
                }),
                (Limit::Hostnames, |scene| more_hosts(scene, "a.gas.example")),
                (Limit::WildcardHostnames, |scene| more_hosts(scene, "*.oil.example")),
                (Limit::HostnameCollisions, |scene| {
                    more_hosts(scene, "taken.oil.example");
                }),
                (Limit::Rules, without_env),
            ],
        },
        Kind {
            rule: "gateway.validating.projectcapsule.dev",
            group: "gateway.networking.k8s.io",
            name: "Gateway",
            plural: "gateways",
            lawful: json!({"metadata": named(), "spec": {"gatewayClassName": "public"}}),
            ways: vec![
                (Limit::GatewayClasses, |scene| {
                    scene.object["spec"]["gatewayClassName"] = json!("private");
                }),
                (Limit::Rules, without_env),
            ],
        },
        Kind {
            rule: "pvc.validating.projectcapsule.dev",
            group: "",
            name: "PersistentVolumeClaim",
            plural: "persistentvolumeclaims",
            lawful: json!({"metadata": named(), "spec": {"storageClassName": "fast"}}),
            ways: vec![(Limit::StorageClasses, |scene| {
                scene.object["spec"]["storageClassName"] = json!("slow");
            })],
        },
        Kind {
            rule: "devices.validating.projectcapsule.dev",
            group: "resource.k8s.io",
            name: "ResourceClaim",
            plural: "resourceclaims",
            lawful: json!({"metadata": named(), "spec": {"devices": {"requests": [{"exactly": {"deviceClassName": "gpu"}}]}}}),
            ways: vec![(Limit::DeviceClasses, |scene| {
                scene.object["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = json!("fpga");
            })],
        },
        Kind {
            rule: "namespaces.validating.projectcapsule.dev",
            group: "",
            name: "Namespace",
            plural: "namespaces",
            lawful: namespace,
            ways: vec![
                (Limit::NamespaceQuota, |scene| scene.put_namespace(BEYOND_THE_QUOTA)),
                (Limit::NamespaceLabels, |scene| {
                    scene.object["metadata"]["labels"]["bad"] = json!("x");
                }),
                (Limit::NamespaceAnnotations, |scene| {
                    scene.object["metadata"]["annotations"] = json!({"bad": "x"});
                }),
                (Limit::RequiredMetadata, |scene| {
                    scene.object["metadata"]["labels"]
                        .as_object_mut()
                        .unwrap()
                        .remove("team");
                }),
                (Limit::Rules, without_env),
            ],
        },
    ]
}

/// The members of a list that the bits of a number choose.
fn chosen<T: Copy>(list: &[T], bits: usize) -> Vec<T> {
    let chosen = list.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
    chosen.map(|(_, item)| *item).collect()
}

/// The limits that let the request pass, or the one that refuses it (`None`: rules).
fn outcome(decided: &Decided, request: &Request) -> Result<BTreeSet<Limit>, Option<Limit>> {
    match &decided.verdict {
        Verdict::Deny(denial) => {
            assert!(decided.passed.is_empty() && decided.findings(request, Timestamp::UNIX_EPOCH).is_empty());
            Err(denial.limit)
        }
        Verdict::Allow { .. } | Verdict::Patch { .. } => {
            let findings = decided.findings(request, Timestamp::UNIX_EPOCH);
            let limits: BTreeSet<_> = findings.iter().map(|(_, finding)| finding.limit).collect();
            assert_eq!(limits.len(), findings.len(), "a limit is reported once");
            Ok(limits)
        }
    }
}

#[test]
fn an_audited_limit_lets_pass_what_it_refuses_and_changes_no_other_decision() {
    let mut met = BTreeSet::new();
    for kind in kinds() {
        let limits: Vec<Limit> = kind.ways.iter().map(|(limit, _)| *limit).collect();
        met.extend(limits.iter().copied());
        for audited in 0..1 << limits.len() {
            let audited = chosen(&limits, audited);
            let annotation: Vec<_> = audited.iter().map(|limit| limit.field()).collect();
            let mut scene = Scene::new(&annotation.join(","), Value::Null);
            for broken in 0..1 << limits.len() {
                let ways = chosen(&kind.ways, broken);
                scene.object = kind.lawful.clone();
                scene.source.index().remove_namespace(BEYOND_THE_QUOTA);
                for (_, break_it) in &ways {
                    break_it(&mut scene);
                }
                let (request, decided) = scene.decide(&kind);
                let broken: BTreeSet<_> = ways.iter().map(|(limit, _)| *limit).collect();
                let enforced: BTreeSet<_> = broken.iter().filter(|limit| !audited.contains(limit)).collect();
                let told = format!("{} breaks {broken:?}, audited are {audited:?}", kind.name);
                match outcome(&decided, &request) {
                    Ok(limits) => {
                        assert!(enforced.is_empty(), "{told}");
                        assert_eq!(limits, broken, "{told}");
                    }
                    Err(limit) => assert!(enforced.contains(&limit.unwrap_or(Limit::Rules)), "{told}: {limit:?}"),
                }
            }
        }
    }
    assert_eq!(met, Limit::ALL.into(), "every limit has a way to break it");
}

fn of_kind(name: &str) -> Kind {
    kinds().into_iter().find(|kind| kind.name == name).unwrap()
}

fn refused(scene: &Scene, kind: &Kind) -> Denial {
    match scene.decide(kind).1.verdict {
        Verdict::Deny(denial) => denial,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn what_keeps_tenants_apart_is_never_only_tried_out() {
    let kind = of_kind("PersistentVolumeClaim");
    let mut scene = Scene::new("*", kind.lawful.clone());
    scene.object["spec"] = json!({"storageClassName": "slow", "volumeName": "theirs"});
    assert_eq!(refused(&scene, &kind).reason, "CrossTenantReference");
    // Nor does a tenant that audits everything invite others.
    let kind = of_kind("Namespace");
    let mut scene = Scene::new("", kind.lawful.clone());
    scene.put_tenant("gas", "*");
    scene.object["metadata"]["labels"] = json!({"capsule.clastix.io/tenant": "gas"});
    scene.object["metadata"]["ownerReferences"][0]["name"] = json!("gas");
    scene.object["metadata"]["ownerReferences"][0]["uid"] = json!("gas");
    assert_eq!(refused(&scene, &kind).reason, "TenantNotOwned");
}

#[test]
fn what_could_not_be_judged_refuses_also_where_it_is_audited() {
    let kind = of_kind("Service");
    let mut scene = Scene::new("*", kind.lawful.clone());
    let known = scene.source.index().tenant("oil").unwrap();
    let mut tenant = Tenant::clone(&known.object);
    let options = tenant.spec.service_options.as_mut().unwrap();
    options.forbidden_labels = serde_json::from_value(json!({"deniedRegex": "("})).unwrap();
    scene.source.index().put_tenant(Arc::new(tenant));
    scene.object["spec"]["type"] = json!("NodePort");
    let denial = refused(&scene, &kind);
    assert_eq!((denial.reason, denial.code), ("PatternInvalid", 500));
}

#[test]
fn a_finding_says_where_what_and_who() {
    let kind = of_kind("Ingress");
    let mut scene = Scene::new("ingressOptions", kind.lawful.clone());
    scene.object["spec"]["ingressClassName"] = json!("traefik");
    let (request, decided) = scene.decide(&kind);
    let findings = decided.findings(&request, Timestamp::UNIX_EPOCH);
    let expected = Finding {
        limit: Limit::IngressClasses,
        namespace: "oil-web".to_owned(),
        kind: "Ingress.networking.k8s.io".to_owned(),
        object: "web".to_owned(),
        user: "owner-of-oil".to_owned(),
        message: "spec.ingressClassName: Ingress Class \"traefik\" is forbidden for the current Tenant: use one from the \
                  following list (nginx); an administrator set this with spec.ingressOptions.allowedClasses of the Tenant \"oil\""
            .to_owned(),
        at: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(
        findings.into_iter().map(|(_, finding)| finding).collect::<Vec<_>>(),
        [expected]
    );
}
