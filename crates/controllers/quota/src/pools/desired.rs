//! Which quotas have to be written for a pool, and in which order. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::capsule::v1beta2::{ResourcePool, ResourcePoolStatus};
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use tenancy::quota::amounts::Amounts;
use tenancy::quota::pool::Plan;

use super::observe::Observed;

/// On a quota: the version of the pool whose decision it was made sure of that nobody carries it out any more.
const OUTDATED_ANNOTATION: &str = "cotenant.dev/outdated-decision";

/// One write of a quota.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Create(Box<ResourceQuota>),
    /// A merge patch with the version and the UID of what was seen.
    Patch {
        quota: Arc<ResourceQuota>,
        patch: Value,
    },
    Delete(Arc<ResourceQuota>),
}

/// What has to be written, in two rounds: nothing may become larger before all that becomes smaller has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Steps {
    pub(super) smaller: Vec<Step>,
    pub(super) larger: Vec<Step>,
    /// Whether a quota takes two steps, or is made again under its name: the second is taken when the first is seen.
    pub(super) unfinished: bool,
}

/// Compares the quotas that should be with those that are.
pub(super) fn steps(plan: &Plan, observed: &Observed) -> Steps {
    let mut steps = Steps::default();
    for (namespace, quota) in &observed.quotas {
        // That of a namespace which is being deleted goes with it, and says until then what is used.
        let has_place = observed.namespaces.contains(namespace) || observed.ending.contains(namespace);
        if !has_place && quota.metadata.deletion_timestamp.is_none() {
            steps.smaller.push(Step::Delete(quota.clone()));
        }
    }
    for wanted in &plan.children {
        let live = observed
            .quotas
            .get(wanted.metadata.namespace.as_deref().unwrap_or_default());
        match live {
            None => steps.larger.push(Step::Create(Box::new(wanted.clone()))),
            Some(live) => steps.compare(live, wanted),
        }
    }
    steps
}

/// Writes that have to succeed before `ledger` takes the place of what `pool` says, by which others may be deciding still. Where
/// a namespace is to have less than they gave, and its quota shows nothing of that, they may be about to raise it. They
/// do so by the version of the quota that they know, so that another version refuses them.
///
/// A quota that they are about to make cannot be held back.
pub(super) fn fences(
    pool: &ResourcePool,
    ledger: &ResourcePoolStatus,
    observed: &Observed,
    steps: &Steps,
) -> Vec<Step> {
    let outdated = json!({"metadata": {"annotations": {OUTDATED_ANNOTATION: pool.resource_version()}}});
    let lowered: BTreeSet<_> = steps.smaller.iter().map(Step::namespace).collect();
    let before = pool.status.iter().flat_map(|status| status.claims.keys());
    let takes = before.filter(|namespace| {
        let given = |status| given(status, namespace);
        !lowered.contains(&Some(namespace.as_str()))
            && !pool
                .status
                .as_ref()
                .map(given)
                .unwrap_or_default()
                .fit_in(&given(ledger))
    });
    takes
        .filter_map(|namespace| observed.quotas.get(namespace))
        .filter(|quota| quota.metadata.deletion_timestamp.is_none())
        .map(|quota| Step::Patch {
            quota: quota.clone(),
            patch: with_precondition(quota, outdated.clone()),
        })
        .collect()
}

/// What the claims of a namespace have together.
fn given(status: &ResourcePoolStatus, namespace: &str) -> Amounts {
    let served = status.claims.get(namespace).into_iter().flatten();
    let amounts: Vec<Amounts> = served.map(|claim| Amounts::observed(Some(&claim.claims))).collect();
    Amounts::sum(&amounts)
}

impl Step {
    fn namespace(&self) -> Option<&str> {
        let quota: &ResourceQuota = match self {
            Self::Create(quota) => quota,
            Self::Patch { quota, .. } | Self::Delete(quota) => quota,
        };
        quota.metadata.namespace.as_deref()
    }
}

impl Steps {
    fn compare(&mut self, live: &Arc<ResourceQuota>, wanted: &ResourceQuota) {
        let (has, should_have) = (hard(live), hard(wanted));
        let less = has.least(&should_have);
        if live.metadata.deletion_timestamp.is_some() {
            self.unfinished = true;
        } else if scopes(live) != scopes(wanted) {
            // The API server takes no others.
            self.smaller.push(Step::Delete(live.clone()));
            self.unfinished = true;
        } else if less != has {
            self.unfinished |= less != should_have;
            self.smaller.push(Step::Patch {
                quota: live.clone(),
                patch: with_precondition(live, json!({"spec": {"hard": replacing(&has, &less)}})),
            });
        } else if has != should_have || !says(live, wanted) {
            let spec = wanted.spec.as_ref();
            let patch = json!({
                "metadata": {"labels": wanted.labels(), "ownerReferences": wanted.owner_references()},
                "spec": {
                    "hard": replacing(&has, &should_have),
                    "scopeSelector": spec.and_then(|spec| spec.scope_selector.as_ref()),
                },
            });
            self.larger.push(Step::Patch {
                quota: live.clone(),
                patch: with_precondition(live, patch),
            });
        }
    }
}

fn hard(quota: &ResourceQuota) -> Amounts {
    Amounts::observed(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()))
}

fn scopes(quota: &ResourceQuota) -> BTreeSet<&str> {
    let scopes = quota.spec.iter().flat_map(|spec| spec.scopes.iter().flatten());
    scopes.map(String::as_str).collect()
}

/// Whether all but the amounts is as it should be.
fn says(live: &ResourceQuota, wanted: &ResourceQuota) -> bool {
    let selector = |quota: &ResourceQuota| -> Option<_> {
        let spec: Option<&ResourceQuotaSpec> = quota.spec.as_ref();
        spec.and_then(|spec| spec.scope_selector.clone())
    };
    let labels = live.labels();
    wanted
        .labels()
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && live.owner_references() == wanted.owner_references()
        && selector(live) == selector(wanted)
}

/// The amounts for a merge patch: those that are no more become null.
fn replacing(has: &Amounts, next: &Amounts) -> Map<String, Value> {
    let gone = has.iter().map(|(resource, _)| (resource.to_owned(), Value::Null));
    let next = next.to_wire();
    gone.chain(next.iter().map(|(resource, amount)| (resource.clone(), json!(amount))))
        .collect()
}

fn with_precondition(live: &ResourceQuota, mut patch: Value) -> Value {
    patch["metadata"]["uid"] = json!(live.uid());
    patch["metadata"]["resourceVersion"] = json!(live.resource_version());
    patch
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use tenancy::quota::pool::{self, Pool};

    use super::*;

    /// The steps for a pool of 8 CPUs and 8 pods in the namespaces `a` and `b`, where one claim in `a` has this much and the
    /// quotas are these.
    fn steps_for(claimed: &Value, quotas: &[(&str, Value)]) -> Steps {
        let status = json!({"namespaces": ["a", "b"], "conditions": [], "claims": {"a": [
            {"name": "one", "namespace": "a", "uid": "one", "claims": claimed}]}});
        let pool = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool",
            "metadata": {"name": "gold", "uid": "u"},
            "spec": {"quota": {"hard": {"cpu": "8", "pods": "8"}}}, "status": status}))
        .unwrap();
        let claim = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePoolClaim",
            "metadata": {"name": "one", "namespace": "a", "uid": "one"}, "spec": {"pool": "gold", "claim": claimed}}))
        .unwrap();
        let observed = Observed {
            pool: Pool::new(&pool).unwrap(),
            claims: vec![claim],
            namespaces: ["a".to_owned(), "b".to_owned()].into(),
            ending: ["ends".to_owned()].into(),
            quotas: quotas
                .iter()
                .map(|(namespace, spec)| ((*namespace).to_owned(), Arc::new(quota(namespace, spec))))
                .collect(),
        };
        let plan = pool::plan(
            &observed.pool,
            &OwnerReference::default(),
            &observed.claims,
            &observed.places(),
        );
        steps(&plan, &observed)
    }

    fn quota(namespace: &str, spec: &Value) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {
                "name": "capsule-pool-gold", "namespace": namespace, "uid": namespace, "resourceVersion": "7",
                "labels": {"projectcapsule.dev/managed-by": "controller", "projectcapsule.dev/pool": "gold", "other": "x"},
                "ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}],
            },
            "spec": spec,
        }))
        .unwrap()
    }

    fn words(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::Create(quota) => format!("create {}", quota.namespace().unwrap()),
                Step::Patch { quota, patch } => {
                    assert_eq!(
                        (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
                        (&json!(quota.uid()), &json!("7"))
                    );
                    format!("{} {}", quota.namespace().unwrap(), patch["spec"]["hard"])
                }
                Step::Delete(quota) => format!("delete {}", quota.namespace().unwrap()),
            })
            .collect()
    }

    #[test]
    fn nothing_is_written_when_equal_in_whatever_words() {
        let steps = steps_for(
            &json!({"cpu": "2"}),
            &[("a", json!({"hard": {"cpu": "2000m"}})), ("b", json!({"hard": {}}))],
        );
        assert_eq!(steps, Steps::default());
    }

    #[test]
    fn what_becomes_smaller_is_first_and_what_is_no_more_goes() {
        let steps = steps_for(
            &json!({"cpu": "4"}),
            &[
                ("a", json!({"hard": {"cpu": "2"}})),
                ("b", json!({"hard": {"cpu": "6"}})),
                ("c", json!({"hard": {"cpu": "1"}})),
                ("ends", json!({"hard": {"cpu": "1"}})),
            ],
        );
        assert_eq!(words(&steps.smaller), ["delete c", r#"b {"cpu":null}"#]);
        assert_eq!(words(&steps.larger), [r#"a {"cpu":"4"}"#]);
        assert!(!steps.unfinished);
    }

    #[test]
    fn what_becomes_smaller_in_one_and_larger_in_another_takes_two_steps() {
        let steps = steps_for(
            &json!({"cpu": "1", "pods": "5"}),
            &[
                ("a", json!({"hard": {"cpu": "2", "pods": "3"}})),
                ("b", json!({"hard": {}})),
            ],
        );
        assert_eq!(words(&steps.smaller), [r#"a {"cpu":"1","pods":"3"}"#]);
        assert!(steps.larger.is_empty() && steps.unfinished);
    }

    #[test]
    fn a_quota_that_is_missing_is_made_and_one_of_other_scopes_is_made_again() {
        let steps = steps_for(
            &json!({"cpu": "1"}),
            &[("b", json!({"hard": {}, "scopes": ["BestEffort"]}))],
        );
        assert_eq!(words(&steps.smaller), ["delete b"]);
        assert_eq!(words(&steps.larger), ["create a"]);
        assert!(steps.unfinished);
    }

    #[test]
    fn what_is_taken_back_before_it_was_written_cannot_be_written_any_more() {
        let status = |a: i64, b: i64| -> ResourcePoolStatus {
            let claim = |namespace: &str, pods: i64| json!([{"name": namespace, "namespace": namespace, "uid": namespace, "claims": {"pods": pods.to_string()}}]);
            serde_json::from_value(json!({"claims": {"a": claim("a", a), "b": claim("b", b)}, "conditions": []}))
                .unwrap()
        };
        let pool: ResourcePool = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool",
            "metadata": {"name": "gold", "uid": "u", "resourceVersion": "31"},
            "spec": {"quota": {"hard": {"pods": "8"}}}, "status": status(5, 3)}))
        .unwrap();
        let quotas = [("a", 3), ("b", 3)].map(|(namespace, pods)| {
            let quota = quota(namespace, &json!({"hard": {"pods": pods.to_string()}}));
            (namespace.to_owned(), Arc::new(quota))
        });
        let observed = Observed {
            pool: Pool::new(&pool).unwrap(),
            claims: Vec::new(),
            namespaces: ["a".to_owned(), "b".to_owned()].into(),
            ending: BTreeSet::new(),
            quotas: quotas.into(),
        };
        let fenced = |ledger: &ResourcePoolStatus, steps: &Steps| -> Vec<Value> {
            let fences = fences(&pool, ledger, &observed, steps).into_iter();
            fences
                .map(|step| match step {
                    Step::Patch { quota, patch } => json!([quota.namespace(), patch]),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        // Two of the five that `a` was given go to `b`, and its quota has never had more than three.
        assert_eq!(
            fenced(&status(3, 5), &Steps::default()),
            [json!(["a", {"metadata": {"uid": "a", "resourceVersion": "7",
                "annotations": {"cotenant.dev/outdated-decision": "31"}}}])]
        );
        // What becomes smaller has another version by that.
        let mut lowered = Steps::default();
        lowered.compare(&observed.quotas["a"], &quota("a", &json!({"hard": {"pods": "2"}})));
        assert_eq!(fenced(&status(2, 5), &lowered), [Value::Null; 0]);
        assert_eq!(fenced(&status(5, 3), &Steps::default()), [Value::Null; 0]);
        assert_eq!(fenced(&status(6, 3), &Steps::default()), [Value::Null; 0]);
    }

    #[test]
    fn a_label_or_an_owner_that_somebody_changed_is_set_right() {
        let mut odd = quota("b", &json!({"hard": {}}));
        odd.metadata.owner_references = None;
        let mut steps = Steps::default();
        steps.compare(&Arc::new(odd), &quota("b", &json!({"hard": {}})));
        assert_eq!(words(&steps.larger), ["b {}"]);
    }
}
