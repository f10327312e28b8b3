//! What the chart brings for Prometheus and Grafana, when it is asked to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{Rendered, chart, render};

const ON: [&str; 5] = [
    "monitoring.podMonitor.enabled=true",
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.dashboards.enabled=true",
    "monitoring.prometheusRules.enabled=true",
    "manager.apiPriorityAndFairness.enabled=true",
];

/// Every way to install.
fn all() -> [(&'static str, Rendered); 3] {
    let kamaji: Vec<&str> = ["mode=control-planes"].into_iter().chain(ON).collect();
    let [ours, capsule] = both();
    [ours, capsule, ("kamaji", render("kamaji", "kamaji-system", &kamaji))]
}

/// Those with namespace tenants.
fn both() -> [(&'static str, Rendered); 2] {
    let capsule: Vec<&str> = ["mode=namespaces"].into_iter().chain(ON).collect();
    [
        ("cotenant", render("cotenant", "cotenant-system", &ON)),
        ("capsule", render("capsule", "capsule-system", &capsule)),
    ]
}

#[test]
fn metrics_are_found_by_the_labels_of_their_service_alone() {
    for (release, rendered) in all() {
        let workload = if release == "capsule" {
            "capsule-controller-manager"
        } else {
            release
        };
        let monitor = rendered.object(&format!("ServiceMonitor/{workload}"));
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap().clone();
        let selected: Vec<String> = rendered
            .names()
            .into_iter()
            .filter(|name| {
                let labels = rendered.object(name)["metadata"]["labels"].clone();
                name.starts_with("Service/") && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
            })
            .collect();
        assert_eq!(selected, [format!("Service/{workload}-metrics-service")]);
        let service = rendered.object(&selected[0]);
        assert_eq!(
            service["spec"]["ports"][0]["name"],
            monitor["spec"]["endpoints"][0]["port"]
        );
        assert_eq!(
            monitor["spec"]["namespaceSelector"],
            json!({"matchNames": [format!("{release}-system")]})
        );
    }
}

#[test]
fn alerts_have_the_names_that_people_silence_and_route_by() {
    let expected: BTreeSet<String> = [
        "CapsuleGlobalCustomQuotaNotReady",
        "CapsuleGlobalCustomQuotaHighUsageWarning",
        "CapsuleGlobalCustomQuotaHighUsageCritical",
        "CapsuleCustomQuotaNotReady",
        "CapsuleCustomQuotaHighUsageWarning",
        "CapsuleCustomQuotaHighUsageCritical",
        "CapsuleResourcePoolNotReady",
        "CapsuleResourcePoolClaimNotReady",
        "CapsulePoolHighUsageWarning",
        "CapsulePoolHighUsageCritical",
        "CapsuleGlobalResourceQuotaNotReady",
        "CapsuleGlobalResourceQuotaHighUsage",
        "CapsuleGlobalResourceQuotaCriticalUsage",
        "CapsuleGlobalTenantResourceNotReady",
        "CapsuleTenantResourceNotReady",
        "CapsuleTenantNamespaceQuotaExceeded",
        "CapsuleTenantNotReady",
        "CapsuleTenantNamespaceNotReady",
        "CapsuleRuleStatusNotReady",
        "CapsuleTenantOwnerNotReady",
        "CapsuleConfigurationNotReady",
        "CapsuleControllerDown",
        "CapsuleWebhookHighErrorRate",
    ]
    .map(str::to_owned)
    .into();
    for (release, rendered) in both() {
        let workload = if release == "capsule" {
            "capsule-controller-manager"
        } else {
            release
        };
        let rules = rendered.object(&format!("PrometheusRule/{workload}"));
        let (alerts, names) = alerts(&rules);
        assert_eq!((names, alerts.len()), (expected.clone(), expected.len()));
        for alert in alerts {
            // Helm's braces are used up, Prometheus' are left.
            let summary = alert["annotations"]["summary"].as_str().unwrap();
            assert!(!summary.contains('`'), "{summary}");
            assert!(!alert["expr"].as_str().unwrap().contains("{{"), "{alert}");
        }
        let down = rules.to_string();
        assert!(
            down.contains(&format!(r#"service=\"{workload}-metrics-service\""#)),
            "{down}"
        );
        assert!(
            down.contains("Tenant {{ $labels.tenant }} has not been ready"),
            "{down}"
        );
    }
}

/// The alerts of a PrometheusRule, and the names that they have.
fn alerts(rules: &Value) -> (Vec<&Value>, BTreeSet<String>) {
    let groups = rules["spec"]["groups"].as_array().unwrap();
    let alerts: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    let names = alerts.iter().map(|alert| alert["alert"].as_str().unwrap().to_owned());
    let names = names.collect();
    (alerts, names)
}

/// Releases with control planes.
fn with_control_planes() -> [Rendered; 2] {
    let [ours, _, kamaji] = all();
    [ours.1, kamaji.1]
}

#[test]
fn what_goes_wrong_with_control_planes_is_told_under_known_names() {
    let expected: BTreeSet<String> = [
        "ControlPlaneNotReady",
        "ControlPlaneMigrationStuck",
        "ControlPlaneCertificateEnds",
        "ControlPlaneRotationFailing",
        "DataStoreNotReady",
        "DataStoreUnreachable",
        "ControlPlaneOperatorDown",
        "ControlPlanePassesFailing",
    ]
    .map(str::to_owned)
    .into();
    for (rendered, release) in with_control_planes().iter().zip(["cotenant", "kamaji"]) {
        let rules = rendered.object(&format!("PrometheusRule/{release}-control-planes"));
        let (alerts, names) = alerts(&rules);
        assert_eq!((names, alerts.len()), (expected.clone(), expected.len()));
        for alert in alerts {
            let summary = alert["annotations"]["summary"].as_str().unwrap();
            assert!(!summary.contains('`'), "{summary}");
            let (expression, after) = (alert["expr"].as_str().unwrap(), alert["for"].as_str().unwrap());
            assert!(after.ends_with(['m', 'h']), "{after}");
            // A label that the summary names is there only if the expression keeps it.
            for label in summary.split("$labels.").skip(1) {
                let label = label.split(' ').next().unwrap();
                assert!(expression.contains(label), "{label} in {expression}");
            }
        }
        let text = rules.to_string();
        assert!(
            text.contains(&format!(r#"service=\"{release}-metrics-service\""#)),
            "{text}"
        );
    }
    let capsule = &both()[1].1;
    assert!(capsule.names().iter().all(|name| !name.ends_with("-control-planes")));
}

#[test]
fn expressions_are_closed_and_read_what_the_operator_tells() {
    let sources = sources(&chart().join("../../crates"));
    let mut expressions = Vec::new();
    for (_, rendered) in all() {
        for name in rendered.names() {
            let object = rendered.object(&name);
            if name.starts_with("PrometheusRule/") {
                collect(&object["spec"], &mut expressions);
            } else if name.ends_with("-dashboards") {
                for board in object["data"].as_object().unwrap().values() {
                    collect(
                        &serde_json::from_str(board.as_str().unwrap()).unwrap(),
                        &mut expressions,
                    );
                }
            }
        }
    }
    assert!(expressions.len() > 40, "{expressions:?}");
    for expression in &expressions {
        assert!(is_closed(expression), "{expression}");
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let metrics = words.filter(|word| {
            ["kamaji_", "cotenant_", "capsule_"]
                .iter()
                .any(|of| word.starts_with(of))
        });
        for metric in metrics {
            // Counters and histograms have more names than one, and controllers' have a prefix in common.
            let plain = ["_total", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| metric.strip_suffix(end));
            let known = [Some(metric), plain].into_iter().flatten().any(|name| {
                let short = name
                    .strip_prefix("cotenant_operator_controller_")
                    .map(|rest| format!("{{prefix}}_{rest}\""));
                sources.contains(&format!("\"{name}\"")) || short.is_some_and(|short| sources.contains(&short))
            });
            assert!(known, "{metric} in {expression}");
        }
    }
}

/// All that the crates' own code says.
fn sources(below: &std::path::Path) -> String {
    let mut found = String::new();
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests" && name != "target") {
            found.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    found
}

fn collect(value: &Value, expressions: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            expressions.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, expressions));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, expressions)),
        _ => {}
    }
}

/// Whether brackets and quotes end in the order in which they began.
fn is_closed(expression: &str) -> bool {
    let (mut open, mut quoted) = (Vec::new(), false);
    for letter in expression.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(letter) => return false,
            _ => {}
        }
    }
    open.is_empty() && !quoted
}

#[test]
fn pods_are_found_one_by_one_and_none_of_the_datastore() {
    for (release, rendered) in all() {
        let workload = rendered
            .names()
            .into_iter()
            .find(|name| name.starts_with("Deployment/"))
            .unwrap();
        let monitor = rendered.object(&workload.replace("Deployment/", "PodMonitor/"));
        let template = &rendered.object(&workload)["spec"]["template"];
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let selects = |labels: &Value| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        assert!(selects(&template["metadata"]["labels"]), "{release}: {monitor}");
        if let Some(etcd) = rendered.find(&format!("StatefulSet/{release}-etcd")) {
            assert!(
                !selects(&etcd["spec"]["template"]["metadata"]["labels"]),
                "{release}: {monitor}"
            );
        }
        let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
        let ports = template["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(ports.iter().any(|found| found["name"] == *port), "{release}: {ports:?}");
    }
}

#[test]
fn dashboards_are_json_with_a_panel_for_each_question() {
    for (release, rendered) in all() {
        let boards = rendered.object(&format!("ConfigMap/{release}-dashboards"));
        assert_eq!(boards["metadata"]["labels"]["grafana_dashboard"], "1");
        let expected: &[&str] = match release {
            "capsule" => &["namespace-tenants.json"],
            "kamaji" => &["control-planes.json"],
            _ => &["control-planes.json", "namespace-tenants.json"],
        };
        let boards = boards["data"].as_object().unwrap();
        assert_eq!(boards.keys().collect::<Vec<_>>(), expected, "{release}");
        for board in boards.values() {
            let board: Value = serde_json::from_str(board.as_str().unwrap()).unwrap();
            let panels = board["panels"].as_array().unwrap();
            assert!(panels.len() >= 8);
            for panel in panels {
                assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
            }
        }
    }
}

#[test]
fn the_operators_requests_are_put_into_a_class_of_their_own() {
    for (release, rendered) in both() {
        let schema = rendered.object(&format!("FlowSchema/{release}"));
        assert_eq!(schema["spec"]["matchingPrecedence"], 900);
        assert_eq!(
            schema["spec"]["rules"][0]["subjects"][0]["serviceAccount"],
            json!({"name": release, "namespace": format!("{release}-system")})
        );
    }
}
