//! The two labels that every object in a tenant's namespaces carries, set inside the API server.
//!
//! The peer asks a hook about every write of a tenant for this. A MutatingAdmissionPolicy does it without a call, and
//! without us: `capsule.clastix.io/managed-by` and `projectcapsule.dev/tenant` get the tenant that the namespace's label
//! names, whatever the author wrote there. A mark must never stop an object, so what fails is let through without it.
//!
//! Clusters before 1.36 do not serve the kind; there the labels are missing, but on what the operator keeps.

use k8s_openapi::api::admissionregistration::v1::{
    JSONPatch, MatchCondition, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, Mutation, NamedRuleWithOperations,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use std::collections::BTreeMap;

use api::capsule::names;

use crate::configurations::{CREATED_BY, TENANT_LABEL, cel_string, selector};
use crate::rule::Requirement;

/// Name of the policy and of its binding.
pub const TENANT_LABELS: &str = "cotenant-tenant-labels";

/// The policy, with its binding. `ourselves` is the operator's user: what it keeps in tenants' namespaces carries both labels
/// from the start, and a mutation costs the API server as much as the rest of such a write.
pub fn policy(
    ourselves: &str,
    owner: Option<&OwnerReference>,
) -> (MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding) {
    let metadata = ObjectMeta {
        name: Some(TENANT_LABELS.to_owned()),
        labels: Some(BTreeMap::from([(CREATED_BY.0.to_owned(), CREATED_BY.1.to_owned())])),
        owner_references: owner.cloned().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let spec = MutatingAdmissionPolicySpec {
        failure_policy: Some("Ignore".to_owned()),
        match_constraints: Some(MatchResources {
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(selector(&[Requirement::Exists(TENANT_LABEL)])),
            object_selector: Some(LabelSelector::default()),
            resource_rules: Some(vec![NamedRuleWithOperations {
                api_groups: Some(vec!["*".to_owned()]),
                api_versions: Some(vec!["*".to_owned()]),
                operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
                resources: Some(vec!["*".to_owned()]),
                scope: Some("Namespaced".to_owned()),
                resource_names: None,
            }]),
            exclude_resource_rules: None,
        }),
        match_conditions: Some(vec![
            MatchCondition {
                name: "ignore-events".to_owned(),
                expression: "request.resource.resource != \"events\"".to_owned(),
            },
            MatchCondition {
                name: "ignore-the-operator".to_owned(),
                expression: format!("request.userInfo.username != {}", cel_string(ourselves)),
            },
        ]),
        mutations: Some(vec![Mutation {
            patch_type: "JSONPatch".to_owned(),
            json_patch: Some(JSONPatch {
                expression: Some(patches()),
            }),
            apply_configuration: None,
        }]),
        // Others that run after us would have to change these two labels for a second pass to matter.
        reinvocation_policy: Some("Never".to_owned()),
        ..MutatingAdmissionPolicySpec::default()
    };
    let binding = MutatingAdmissionPolicyBinding {
        metadata: metadata.clone(),
        spec: Some(MutatingAdmissionPolicyBindingSpec {
            policy_name: Some(TENANT_LABELS.to_owned()),
            ..MutatingAdmissionPolicyBindingSpec::default()
        }),
    };
    let spec = Some(spec);
    (MutatingAdmissionPolicy { metadata, spec }, binding)
}

/// CEL: the operations that are missing.
fn patches() -> String {
    let tenant = format!("namespaceObject.metadata.labels[{}]", cel_string(TENANT_LABEL));
    let keys = [names::MANAGED_BY_TENANT, names::PROJECT_TENANT_LABEL];
    let both = keys.map(|key| format!("{}: {tenant}", cel_string(key))).join(", ");
    let each = keys.map(|key| {
        let (key, path) = (cel_string(key), format!("/metadata/labels/{}", key.replace('/', "~1")));
        format!(
            "(object.metadata.labels[?{key}] == optional.of({tenant}) ? [] : \
             [JSONPatch{{op: \"add\", path: {}, value: {tenant}}}])",
            cel_string(&path)
        )
    });
    format!(
        "has(object.metadata.labels) ? {} : [JSONPatch{{op: \"add\", path: \"/metadata/labels\", value: {{{both}}}}}]",
        each.join(" + ")
    )
}
