//! What keeps replicas of a control plane from going at the same time: how they are spread, and how many may be evicted. And
//! what keeps one that goes from taking requests along.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kamaji::v1alpha1::{DeploymentSpec as Wanted, TenantControlPlane};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use tenancy::selector::Selector;

use super::Hosted;
use super::identity::{self, Ownership};

/// Value of the component label.
pub const COMPONENT: &str = "disruption-budget";

/// Over which domains replicas are spread when their author does not say it: zones first, then nodes.
const DOMAINS: [&str; 2] = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"];

/// How long nodes may take to learn that a Service no longer leads to a pod.
const FAREWELL: &str = "3s";

/// The flag by which an API server that is told to end goes on serving while connections still arrive. None beside kine, which
/// ends at once: an API server without its store answers with errors, and a refused connection is tried again elsewhere.
pub(super) fn api_server_flag(hosted: &Hosted<'_>) -> Option<(&'static str, String)> {
    let flag = || ("shutdown-delay-duration", FAREWELL.to_owned());
    hosted.datastore.kine.is_none().then(flag)
}

/// The budget of a control plane of two replicas or more: one at a time. None for fewer, which nothing could be kept of,
/// and none where somebody else's budget selects the pods already, because of a pod with two nothing is evicted at all.
///
/// `pods` are the labels of the pods, `present` all budgets of the namespace.
pub fn budget(
    tcp: &TenantControlPlane,
    pods: &BTreeMap<String, String>,
    present: &[Arc<PodDisruptionBudget>],
) -> Option<PodDisruptionBudget> {
    let others = || present.iter().filter(|budget| !is_ours(tcp, budget));
    if tcp.spec.control_plane.deployment.replicas < 2 || others().any(|budget| selects(budget, pods)) {
        return None;
    }
    Some(PodDisruptionBudget {
        metadata: identity::metadata(tcp, &tcp.name_any(), COMPONENT),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(identity::pod_selector(&tcp.name_any())),
                ..LabelSelector::default()
            }),
            // A pod that is not ready serves nobody, and must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

fn is_ours(tcp: &TenantControlPlane, budget: &PodDisruptionBudget) -> bool {
    let ownership = identity::ownership(tcp, &budget.metadata);
    budget.metadata.name == tcp.metadata.name && matches!(ownership, Ownership::Ours | Ownership::Orphan)
}

/// One without a selector selects nothing, one that cannot be evaluated neither.
fn selects(budget: &PodDisruptionBudget, pods: &BTreeMap<String, String>) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| Selector::new(selector).is_ok_and(|selector| selector.matches(pods)))
}

/// How the pods are spread: as their author says, else evenly over zones and nodes where that is possible. Whatever the
/// number of replicas is, so that scaling does not replace those that run.
pub fn spread(wanted: &Wanted, pods: &LabelSelector) -> Option<Vec<TopologySpreadConstraint>> {
    let authors = &wanted.topology_spread_constraints;
    let apart = wanted
        .affinity
        .as_ref()
        .is_some_and(|affinity| affinity.pod_anti_affinity.is_some());
    let constraints: Vec<_> = if !authors.is_empty() {
        let mut constraints = authors.clone();
        for constraint in &mut constraints {
            constraint.label_selector.get_or_insert_with(|| pods.clone());
        }
        constraints
    } else if apart {
        Vec::new()
    } else {
        let evenly = |domain: &str| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: domain.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(pods.clone()),
            // Pods of an earlier template are about to go.
            match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
            ..TopologySpreadConstraint::default()
        };
        DOMAINS.map(evenly).into()
    };
    Some(constraints).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use api::kamaji::v1alpha1::Driver;

    use super::*;
    use crate::desired::tests::{facts, tcp};
    use crate::desired::{DatastoreFacts, exposure, kine};

    fn present(name: &str, selector: &Value, owner: Option<&str>) -> Arc<PodDisruptionBudget> {
        let owners = owner.map(|uid| {
            json!([{"apiVersion": "v1", "kind": "TenantControlPlane", "name": name, "uid": uid, "controller": true}])
        });
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default", "ownerReferences": owners},
                "spec": {"selector": selector},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn an_api_server_takes_its_time_to_go_unless_its_store_goes_with_it() {
        let tcp = tcp();
        let exposure = || exposure::exposure(&tcp, exposure::address(&tcp, None).unwrap(), [], &[]);
        let flag = |kine: Option<kine::Access>| {
            let store = DatastoreFacts { kine, ..facts() };
            api_server_flag(&Hosted::new(&tcp, "v1.36.3".to_owned(), exposure(), store, None))
        };
        assert_eq!(flag(None), Some(("shutdown-delay-duration", "3s".to_owned())));
        let (driver, tls) = (Driver::PostgreSQL, kine::Tls::Off);
        assert_eq!(flag(Some(kine::Access { driver, tls })), None);
    }

    #[test]
    fn two_replicas_go_one_at_a_time_unless_somebody_else_says_how() {
        let mut tcp = tcp();
        let pods: BTreeMap<String, String> = [("kamaji.clastix.io/name", "demo"), ("team", "oil")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for (replicas, expected) in [(0, false), (1, false), (2, true), (3, true)] {
            tcp.spec.control_plane.deployment.replicas = replicas;
            assert_eq!(budget(&tcp, &pods, &[]).is_some(), expected, "{replicas}");
        }
        let made = serde_json::to_value(budget(&tcp, &pods, &[]).unwrap().spec).unwrap();
        assert_eq!(
            made,
            json!({
                "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {"kamaji.clastix.io/name": "demo"}},
            })
        );
        let uid = tcp.metadata.uid.clone().unwrap();
        for (selector, owner, name, expected) in [
            (json!({"matchLabels": {"team": "oil"}}), None, "authors", false),
            (json!({}), None, "authors", false),
            (json!({"matchLabels": {"team": "gas"}}), None, "authors", true),
            (
                json!({"matchExpressions": [{"key": "team", "operator": "Near"}]}),
                None,
                "authors",
                true,
            ),
            (json!(null), None, "authors", true),
            (
                json!({"matchLabels": {"team": "oil"}}),
                Some(uid.as_str()),
                "demo",
                true,
            ),
            (json!({"matchLabels": {"team": "oil"}}), Some("other"), "demo", false),
        ] {
            let found = budget(&tcp, &pods, &[present(name, &selector, owner)]).is_some();
            assert_eq!(found, expected, "{selector} {owner:?}");
        }
    }

    #[test]
    fn replicas_are_spread_where_their_author_does_not_say_how() {
        let pods = LabelSelector {
            match_labels: Some(identity::pod_selector("demo")),
            ..LabelSelector::default()
        };
        let selector = json!({"matchLabels": {"kamaji.clastix.io/name": "demo"}});
        let spread_of = |deployment: Value| {
            let wanted: Wanted = serde_json::from_value(deployment).unwrap();
            serde_json::to_value(spread(&wanted, &pods)).unwrap()
        };
        let evenly = |domain: &str| {
            json!({"maxSkew": 1, "topologyKey": domain, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector, "matchLabelKeys": ["pod-template-hash"]})
        };
        let ours = json!([evenly("topology.kubernetes.io/zone"), evenly("kubernetes.io/hostname")]);
        assert_eq!(spread_of(json!({"replicas": 2})), ours);
        assert_eq!(spread_of(json!({"replicas": 1})), ours, "scaling replaces no pod");
        assert_eq!(
            spread_of(json!({"affinity": {"podAntiAffinity": {}}})),
            json!(null),
            "the author keeps them apart already"
        );
        let authors = json!({"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"});
        let mut completed = authors.clone();
        completed["labelSelector"] = selector.clone();
        assert_eq!(
            spread_of(json!({"topologySpreadConstraints": [authors]})),
            json!([completed])
        );
    }
}
