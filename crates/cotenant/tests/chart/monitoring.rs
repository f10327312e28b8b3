//! What the chart brings for Prometheus and Grafana, when it is asked to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{Rendered, render};

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
        let alerts: Vec<&Value> = rules["spec"]["groups"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap())
            .collect();
        let names: BTreeSet<String> = alerts
            .iter()
            .map(|alert| alert["alert"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, expected);
        assert_eq!(alerts.len(), expected.len());
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
