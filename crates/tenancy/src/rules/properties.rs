//! What holds for all rules and all objects.

use api::capsule::v1beta2::{Enforcement, TenantRule};
use k8s_openapi::api::core::v1::{Pod, Service};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    CompiledRules, Mode, Outcome,
    admission::{self, ObjectType},
    check::{self, Written},
    fixtures::{
        POD, SERVICE, as_alice, create, metadata, mutate_json, other, rules, validate_json, validate_pod,
        validate_service, whole_rules,
    },
};

fn word() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "ab", "a.b", "", "10.0.0.1", "*.a.b", "cpu", "Ü"]).prop_map(str::to_owned)
}

fn pattern() -> impl Strategy<Value = String> {
    select(vec!["", "a", "^b$", ".", "(", "[a-b]+", "*", "\\.b$"]).prop_map(str::to_owned)
}

fn amount() -> impl Strategy<Value = String> {
    select(vec!["0", "1", "500m", "2Gi", "1.5", "lots", "-1", "100E", "1n"]).prop_map(str::to_owned)
}

fn expression() -> impl Strategy<Value = Value> {
    (vec(word(), 0..3), pattern(), any::<bool>())
        .prop_map(|(exact, exp, negate)| json!({"exact": exact, "exp": exp, "negate": negate}))
}

fn expressions() -> impl Strategy<Value = Vec<Value>> {
    vec(expression(), 0..3)
}

fn policy() -> impl Strategy<Value = Value> {
    (
        select(vec!["Preserve", "Default", "Remove", "MatchRequest", "Ratio"]),
        option::of(amount()),
    )
        .prop_map(|(policy, value)| json!({"policy": policy, "value": value}))
}

fn resource_rules() -> impl Strategy<Value = Value> {
    let request = (select(vec!["Preserve", "Default", "Remove"]), option::of(amount()))
        .prop_map(|(policy, value)| json!({"policy": policy, "value": value}));
    (option::of(request), option::of(policy()), option::of(policy())).prop_map(|(request, limit, other)| {
        let map = |name: &str, policy: Option<Value>| policy.map_or(json!({}), |policy| json!({name: policy}));
        let mut limits = map("cpu", limit);
        if let Some(other) = other {
            limits["hugepages-2Mi"] = other;
        }
        json!({"requests": map("cpu", request), "limits": limits})
    })
}

fn key_policy() -> impl Strategy<Value = Value> {
    (any::<bool>(), expressions(), option::of(word()), option::of(word())).prop_map(
        |(required, values, default, managed)| {
            json!({"required": required, "values": values, "default": default, "managed": managed})
        },
    )
}

fn enforcement() -> impl Strategy<Value = Value> {
    let targets = vec(
        select(vec![
            "pod",
            "pod/containers",
            "pod/initcontainers",
            "pod/ephemeralcontainers",
            "pod/volumes",
        ]),
        0..3,
    );
    let workloads = (targets, expressions(), expressions(), resource_rules()).prop_map(
        |(targets, registries, schedulers, resources)| {
            json!({"targets": targets, "registries": registries, "schedulers": schedulers,
                   "qosClasses": ["BestEffort"], "resources": resources})
        },
    );
    let services =
        (vec(word(), 0..3), expressions(), 0..40_000_i32, 0..40_000_i32).prop_map(|(cidrs, hostnames, from, to)| {
            json!({"types": ["ClusterIP"], "loadBalancers": {"cidrs": cidrs},
                   "externalNames": {"hostnames": hostnames}, "nodePorts": {"ports": [{"from": from, "to": to}]}})
        });
    let metadata = (pattern(), key_policy(), word(), key_policy()).prop_map(|(key, labels, kind, annotations)| {
        json!([{"kinds": ["*", kind], "apiGroups": ["*"], "labels": {key: labels}, "annotations": {"a": annotations}}])
    });
    let action = select(vec!["allow", "deny", "audit"]);
    (
        action,
        option::of(workloads),
        option::of(services),
        option::of(metadata),
        expressions(),
    )
        .prop_map(|(action, workloads, services, metadata, hostnames)| {
            let mut enforce = json!({"action": action,
                "ingress": {"types": ["Ingress", "HTTPRoute", "Gateway"], "hostnames": hostnames}});
            for (name, part) in [("workloads", workloads), ("services", services), ("metadata", metadata)] {
                if let Some(part) = part {
                    enforce[name] = part;
                }
            }
            enforce
        })
}

fn rule_list() -> impl Strategy<Value = Value> {
    vec(enforcement(), 0..4).prop_map(Value::from)
}

/// One item more of each sort: of an expression, an address range, a type of Services, ports of nodes.
type Allowance = (Value, String, &'static str, (u16, u16));

fn allowance() -> impl Strategy<Value = Allowance> {
    let kind = select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    (expression(), word(), kind, (1..40_000_u16, 1..40_000_u16))
}

/// A rule that allows these.
fn allow(allowances: &[Allowance]) -> Value {
    let expressions: Vec<_> = allowances.iter().map(|it| &it.0).collect();
    let cidrs: Vec<_> = allowances.iter().map(|it| &it.1).collect();
    let types: Vec<_> = allowances.iter().map(|it| it.2).collect();
    let ports: Vec<_> = allowances
        .iter()
        .map(|(.., (from, to))| json!({"from": from, "to": to}))
        .collect();
    json!({"action": "allow",
        "workloads": {"registries": expressions, "schedulers": expressions},
        "services": {"types": types, "loadBalancers": {"cidrs": cidrs}, "externalNames": {"hostnames": expressions},
            "nodePorts": {"ports": ports}},
        "ingress": {"types": ["Ingress", "Gateway"], "hostnames": expressions},
        "metadata": [{"kinds": ["*"], "apiGroups": ["*"], "labels": {"a": {"values": expressions}}}]})
}

fn resources() -> impl Strategy<Value = Value> {
    (option::of(amount()), option::of(amount())).prop_map(|(request, limit)| {
        let map = |amount: Option<String>| amount.map_or(json!({}), |amount| json!({"cpu": amount}));
        json!({"requests": map(request), "limits": map(limit)})
    })
}

fn container() -> impl Strategy<Value = Value> {
    (word(), resources()).prop_map(|(image, resources)| json!({"name": "c", "image": image, "resources": resources}))
}

fn a_pod() -> impl Strategy<Value = Pod> {
    (vec(container(), 0..3), vec(container(), 0..2), option::of(resources()), word(), word()).prop_map(
        |(containers, init, resources, scheduler, volume)| {
            let pod = json!({
                "metadata": {"labels": {"a": scheduler}},
                "spec": {
                    "containers": containers, "initContainers": init, "resources": resources, "schedulerName": scheduler,
                    "volumes": [{"name": volume, "image": {"reference": volume}}],
                },
            });
            serde_json::from_value(pod).unwrap()
        },
    )
}

fn a_service() -> impl Strategy<Value = Service> {
    let kind = select(vec![
        "",
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
        "Other",
    ]);
    (kind, word(), word(), option::of(-1..70_000_i32)).prop_map(|(kind, name, address, port)| {
        let service = json!({"spec": {
            "type": kind, "externalName": name, "loadBalancerIP": address, "loadBalancerSourceRanges": [name],
            "ports": [{"port": 1, "nodePort": port}],
        }});
        serde_json::from_value(service).unwrap()
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from)
    ];
    let key = select(vec![
        "spec",
        "rules",
        "host",
        "tls",
        "hosts",
        "hostnames",
        "listeners",
        "hostname",
        "x",
    ]);
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const INGRESS: ObjectType<'static> = ObjectType {
    group: "networking.k8s.io",
    version: "v1",
    kind: "Ingress",
};
const GATEWAY: ObjectType<'static> = ObjectType {
    group: "gateway.networking.k8s.io",
    version: "v1",
    kind: "Gateway",
};

/// The outcome for each of the objects.
fn outcomes(rules: &CompiledRules, pod: &Pod, service: &Service, object: &Value) -> Vec<Outcome> {
    vec![
        validate_pod(rules, pod),
        validate_service(rules, service),
        validate_json(rules, INGRESS, object),
        validate_json(rules, GATEWAY, object),
    ]
}

proptest! {
    #[test]
    fn every_question_has_one_answer(list in rule_list(), pod in a_pod(), service in a_service(), object in any_json()) {
        let object = json!({"spec": object});
        let compiled = rules(list.clone());
        let first = outcomes(&compiled, &pod, &service, &object);
        prop_assert_eq!(&first, &outcomes(&rules(list), &pod, &service, &object));
        for outcome in first {
            if let Some(denial) = outcome.refusal {
                prop_assert!(denial.message.contains("an administrator set this with spec.rules["), "{}", denial);
            }
        }
    }

    #[test]
    fn in_audit_mode_nothing_is_refused_and_whatever_would_be_is_recorded(list in rule_list(), pod in a_pod(), service in a_service(), object in any_json()) {
        let object = json!({"spec": object});
        let whole: Vec<_> = list.as_array().unwrap().iter().map(|enforce| json!({"enforce": enforce})).collect();
        let enforced = outcomes(&whole_rules(json!(whole), Mode::Enforce), &pod, &service, &object);
        let audited = outcomes(&whole_rules(json!(whole), Mode::Audit), &pod, &service, &object);
        for (enforced, audited) in enforced.into_iter().zip(audited) {
            prop_assert!(audited.is_allowed());
            let recorded = audited.audits.len() + audited.more_audits;
            let before = enforced.audits.len() + enforced.more_audits + usize::from(!enforced.is_allowed());
            prop_assert!(recorded >= before);
        }
    }

    /// In a list that allows something already, one item more frees values and never binds any.
    #[test]
    fn an_allow_item_more_never_refuses_more(list in rule_list(), allowed in vec(expression(), 1..3), more in expression(), name in word()) {
        let with = |items: &[Value]| {
            let mut list = list.as_array().unwrap().clone();
            list.push(json!({"action": "allow", "workloads": {"schedulers": items}}));
            for enforce in &mut list {
                // Only schedulers are looked at.
                let schedulers = enforce["workloads"]["schedulers"].take();
                *enforce = json!({"action": enforce["action"], "workloads": {"schedulers": if schedulers.is_null() { json!([]) } else { schedulers }}});
            }
            rules(Value::from(list))
        };
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "schedulerName": name}})).unwrap();
        let fewer = validate_pod(&with(&allowed), &pod);
        let mut allowed = allowed;
        allowed.push(more);
        prop_assert!(!fewer.is_allowed() || validate_pod(&with(&allowed), &pod).is_allowed());
    }

    /// The same for every sort of value, whatever the rules before say.
    #[test]
    fn a_larger_allowance_never_refuses_more(
        list in rule_list(),
        allowed in vec(allowance(), 1..3),
        more in allowance(),
        pod in a_pod(),
        service in a_service(),
        object in any_json(),
    ) {
        let with = |allowances: &[Allowance]| {
            let mut list = list.as_array().unwrap().clone();
            list.push(allow(allowances));
            rules(Value::from(list))
        };
        let object = json!({"spec": object});
        let fewer = outcomes(&with(&allowed), &pod, &service, &object);
        let mut allowed = allowed;
        allowed.push(more);
        for (fewer, more) in fewer.iter().zip(outcomes(&with(&allowed), &pod, &service, &object)) {
            prop_assert!(!fewer.is_allowed() || more.is_allowed(), "{:?}", more.refusal);
        }
    }

    #[test]
    fn the_last_rule_about_a_value_decides(list in rule_list(), allow in any::<bool>(), name in "[a-z]{1,5}") {
        let mut list = list.as_array().unwrap().clone();
        for enforce in &mut list {
            let schedulers = enforce["workloads"]["schedulers"].take();
            *enforce = json!({"action": enforce["action"], "workloads": {"schedulers": if schedulers.is_null() { json!([]) } else { schedulers }}});
        }
        let action = if allow { "allow" } else { "deny" };
        list.push(json!({"action": action, "workloads": {"schedulers": [{"exact": [name]}]}}));
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "schedulerName": name}})).unwrap();
        prop_assert_eq!(validate_pod(&rules(Value::from(list)), &pod).is_allowed(), allow);
    }

    #[test]
    fn what_is_settled_is_left_alone(list in rule_list(), pod in a_pod(), value in word()) {
        let rules = rules(list);
        let mutate = |pod: &Pod| as_alice(|requester| admission::mutate(&rules, &create(requester, POD, pod.into())));
        let mut settled = pod.clone();
        if let Some(spec) = mutate(&pod).apply_to(&mut settled.metadata) {
            settled.spec = Some(*spec);
        }
        prop_assert!(mutate(&settled).is_empty(), "{:?}", mutate(&settled));
        let object = json!({"metadata": {"labels": {"a": value}}});
        let mut metadata = metadata(&object);
        mutate_json(&rules, SERVICE, &object).apply_to(&mut metadata);
        let again = as_alice(|requester| admission::mutate(&rules, &create(requester, SERVICE, other(&metadata, &object))));
        prop_assert!(again.is_empty());
    }

    #[test]
    fn no_rule_is_too_odd_to_be_checked(enforce in enforcement()) {
        let rule = TenantRule { enforce: Some(serde_json::from_value::<Enforcement>(enforce).unwrap()), ..TenantRule::default() };
        let faults = check::check("oil", [Written::from(&rule)], Some(&|_, _| None));
        for fault in faults {
            prop_assert!(fault.field.starts_with("rules[0].enforce"), "{:?}", fault);
        }
    }
}
