//! What keeps a tenant cluster from being written to: a ValidatingAdmissionPolicy and its binding.
//!
//! Kamaji installs a webhook of the same name that its operator answers. A policy says the same words from within the
//! tenant's own API server: no tenant needs a way into the admin cluster, writes do not wait for an operator, and it holds
//! while none runs. Like webhooks, policies cannot be put under a policy: whoever administers the tenant may remove them,
//! and gets them back within seconds.
//!
//! Left alone, as Kamaji does: everything in kube-system, and in kube-node-lease everything but the making and removing of
//! leases, so that nodes stay alive. Beyond Kamaji: reviews (`TokenReview`, `SubjectAccessReview`), which write nothing and
//! without which no kubelet answers; the status of objects, which only reports; and what the operator itself keeps.
//! `scale` and `eviction` count as the update and the deletion that they are.

use serde_json::{Value, json};

use api::kamaji::v1alpha1::WritePermissions;
use tenancy::control_plane::write_permissions::blocked;

use super::Desired;
use super::object::{Kind, Object, Reference};

/// Name of the policy and of its binding.
pub const NAME: &str = "kamaji-write-permissions";

/// What people are told; the beginning is Kamaji's, word for word.
const MESSAGE: &str = "the current Control Plane has limited write permissions, current changes are blocked";

/// Adds the policy for these limits to what the tenant should hold, or has it removed. Call it last: what is kept already
/// is exempt.
pub fn limit(desired: &mut Desired, permissions: &WritePermissions) {
    let kinds = [Kind::ValidatingAdmissionPolicyBinding, Kind::ValidatingAdmissionPolicy];
    if !permissions.limited() {
        let references = kinds.map(|kind| Reference::new(kind, None, NAME));
        desired.remove.extend(references);
        return;
    }
    let kept: Vec<String> = desired
        .apply
        .iter()
        .map(|object| &object.reference)
        .chain(&desired.remove)
        .filter(|reference| reference.namespace != Some("kube-system"))
        .map(key)
        .collect();
    let policy = policy(&blocked(permissions), &kept);
    let binding = json!({"spec": {"policyName": NAME, "validationActions": ["Deny"]}});
    for (kind, content) in kinds.into_iter().zip([binding, policy]) {
        desired.apply.push(Object::new(kind, None, NAME, content).labelled());
    }
}

fn policy(operations: &[&str], kept: &[String]) -> Value {
    let rule = |groups: &str, resources: Value, operations: Value| {
        json!({
            "apiGroups": [groups], "apiVersions": ["*"], "operations": operations, "resources": resources, "scope": "*",
        })
    };
    let mut rules = vec![rule("*", json!(["*"]), json!(operations))];
    if operations.contains(&"UPDATE") {
        rules.push(rule("*", json!(["*/scale"]), json!(["UPDATE"])));
    }
    if operations.contains(&"DELETE") {
        rules.push(rule("", json!(["pods/eviction"]), json!(["CREATE"])));
    }
    let reviews =
        ["authentication.k8s.io", "authorization.k8s.io"].map(|group| rule(group, json!(["*"]), json!(["*"])));
    json!({"spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]},
            ]},
            "objectSelector": {},
            "resourceRules": rules,
            "excludeResourceRules": reviews,
        },
        "matchConditions": [
            {
                "name": "nodes-stay-alive",
                "expression": "request.?namespace.orValue('') != 'kube-node-lease' || \
                    (request.resource.resource == 'leases' && request.operation in ['CREATE', 'DELETE'])",
            },
            {"name": "what-the-operator-keeps", "expression": exempt(kept)},
        ],
        "validations": [{"expression": "false", "message": message(operations), "reason": "Forbidden"}],
    }})
}

/// The name of an object as the policy compares it.
fn key(reference: &Reference) -> String {
    let namespace = reference.namespace.unwrap_or_default();
    format!("{}/{namespace}/{}", reference.kind.plural(), reference.name)
}

/// Names are those of fixed manifests, and have no quotes in them; JSON's spelling of a list is CEL's too.
fn exempt(kept: &[String]) -> String {
    let list = json!(kept);
    format!(
        "!((request.resource.resource + '/' + request.?namespace.orValue('') + '/' + request.?name.orValue('')) in {list})"
    )
}

fn message(operations: &[&str]) -> String {
    let verbs: Vec<&str> = operations
        .iter()
        .map(|operation| match *operation {
            "CREATE" => "blockCreation",
            "UPDATE" => "blockUpdate",
            _ => "blockDeletion",
        })
        .collect();
    format!(
        "{MESSAGE}: spec.writePermissions of the TenantControlPlane sets {}; whoever runs this cluster can lift it",
        verbs.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(block_creation: bool, block_update: bool, block_deletion: bool) -> WritePermissions {
        WritePermissions {
            block_creation,
            block_update,
            block_deletion,
        }
    }

    #[test]
    fn without_limits_the_policy_is_removed() {
        let mut desired = Desired::default();
        limit(&mut desired, &limits(false, false, false));
        let removed: Vec<String> = desired.remove.iter().map(ToString::to_string).collect();
        assert_eq!(
            removed,
            [
                "ValidatingAdmissionPolicyBinding kamaji-write-permissions",
                "ValidatingAdmissionPolicy kamaji-write-permissions",
            ]
        );
        assert_eq!(desired.apply, []);
    }

    #[test]
    fn only_what_is_blocked_is_matched() {
        let rules = |permissions: &WritePermissions| {
            let mut desired = Desired::default();
            limit(&mut desired, permissions);
            desired.apply[1].manifest["spec"]["matchConstraints"]["resourceRules"].clone()
        };
        let rule = |group: &str, resource: &str, operations: &[&str]| json!({"apiGroups": [group], "apiVersions": ["*"], "resources": [resource], "operations": operations, "scope": "*"});
        assert_eq!(rules(&limits(true, false, false)), json!([rule("*", "*", &["CREATE"])]));
        assert_eq!(
            rules(&limits(true, true, true)),
            json!([
                rule("*", "*", &["CREATE", "UPDATE", "DELETE"]),
                rule("*", "*/scale", &["UPDATE"]),
                rule("", "pods/eviction", &["CREATE"]),
            ])
        );
    }

    #[test]
    fn what_the_operator_keeps_outside_of_kube_system_is_exempt() {
        let mut desired = Desired {
            apply: super::super::rbac::objects(),
            remove: vec![Reference::new(Kind::ConfigMap, Some("kube-system"), "coredns")],
        };
        limit(&mut desired, &limits(true, false, false));
        let policy = desired.apply.last().unwrap();
        let condition = &policy.manifest["spec"]["matchConditions"][1]["expression"];
        assert_eq!(
            condition.as_str().unwrap(),
            "!((request.resource.resource + '/' + request.?namespace.orValue('') + '/' + request.?name.orValue('')) in \
             [\"clusterrolebindings//kubeadm:cluster-admins\",\"clusterrolebindings//kubeadm:apiserver-kubelet-client\"])"
        );
    }
}
