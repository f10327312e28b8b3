//! The hard rules once more, as ValidatingAdmissionPolicy inside the API server: they hold while we are down.
//!
//! Who guards what:
//!
//! | what | while we run | while we are down |
//! |---|---|---|
//! | a namespace's tenant (label and owner reference), update | the hooks repair or refuse; then the policy | the hooks fail closed for whoever they cover; the policy for everybody |
//! | `namespaces/status`, `namespaces/finalize` | the validating hook; then the policy | the same |
//! | a forged tenant on create | the hooks | the hooks fail closed: a label or reference to a tenant is what [`crate::rule::Condition::TenantMatter`] looks for |
//! | objects that the controller keeps (`projectcapsule.dev/managed-by=controller`) | the policy | the policy |
//!
//! The last line has no hook at all, unlike the peer's `/generic/managed`: CEL says the whole rule, so a second answer
//! over the network could only be slower or different.
//!
//! The policy has no rule for creates. It runs after mutation, so what it sees of an owner's lawful create is exactly
//! what a forger would write himself: the label and the reference. CEL could tell them apart only by knowing every
//! tenant's owners, at a cost that grows with the tenants. The create of a tenant namespace therefore needs us.
//!
//! Nothing here holds up the cluster's own writers: kube-controller-manager's namespace controller and garbage collector,
//! nodes, and this program are excluded by the same words as in the hooks. The cost of each expression depends on the
//! length of one object's owner references and on the list of administrators, never on the number of tenants.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use std::collections::BTreeMap;

use crate::configurations::{CREATED_BY, IS_TENANT, TENANT_LABEL, cel_list, not_the_cluster_itself};

/// Who may do what the policies forbid to everybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Administrators {
    pub users: Vec<String>,
    pub groups: Vec<String>,
}

/// Names of the policies; their bindings have the same names.
pub const NAMESPACE_OWNERSHIP: &str = "cotenant-namespace-ownership";
pub const MANAGED_OBJECTS: &str = "cotenant-managed-objects";

const ADMINISTRATORS_DO: &str = "only the administrators named in the CapsuleConfiguration may do that";

/// The policies of the namespace tenants, each with its binding.
pub fn policies(
    ourselves: &str,
    administrators: &Administrators,
    owner: Option<&OwnerReference>,
) -> Vec<(ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)> {
    vec![
        bound(
            NAMESPACE_OWNERSHIP,
            namespace_ownership(ourselves, administrators),
            owner,
        ),
        bound(MANAGED_OBJECTS, managed_objects(ourselves, administrators), owner),
    ]
}

fn namespace_ownership(ourselves: &str, administrators: &Administrators) -> ValidatingAdmissionPolicySpec {
    let label = |object: &str| {
        format!(
            "has({object}.metadata.labels) && \"{TENANT_LABEL}\" in {object}.metadata.labels ? {object}.metadata.labels[\"{TENANT_LABEL}\"] : \"\""
        )
    };
    let references = |object: &str| {
        format!(
            "has({object}.metadata.ownerReferences) ? {object}.metadata.ownerReferences.filter(r, {IS_TENANT}).map(r, r.name + \"/\" + r.uid) : []"
        )
    };
    let variable = |name: &str, expression: String| Variable {
        name: name.to_owned(),
        expression,
    };
    ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(MatchResources {
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(LabelSelector::default()),
            object_selector: Some(LabelSelector::default()),
            resource_rules: Some(vec![NamedRuleWithOperations {
                api_groups: Some(strings(&[""])),
                api_versions: Some(strings(&["v1"])),
                operations: Some(strings(&["UPDATE"])),
                resources: Some(strings(&["namespaces", "namespaces/status", "namespaces/finalize"])),
                scope: Some("*".to_owned()),
                resource_names: None,
            }]),
            exclude_resource_rules: None,
        }),
        match_conditions: Some(exceptions(ourselves, administrators)),
        variables: Some(vec![
            variable("label", label("object")),
            variable("oldLabel", label("oldObject")),
            variable("tenants", references("object")),
            variable("oldTenants", references("oldObject")),
        ]),
        validations: Some(vec![
            validation(
                "variables.label == variables.oldLabel || variables.oldLabel != \"\"",
                &format!(
                    "metadata.labels[{TENANT_LABEL}]: namespace can not be patched into a tenant; {ADMINISTRATORS_DO}"
                ),
            ),
            validation(
                "variables.tenants == variables.oldTenants || variables.oldTenants != []",
                &format!("metadata.ownerReferences: namespace can not be patched into a tenant; {ADMINISTRATORS_DO}"),
            ),
            validation(
                "variables.label == variables.oldLabel || variables.label != \"\"",
                &format!(
                    "metadata.labels[{TENANT_LABEL}]: namespace can not remove tenant ownership; {ADMINISTRATORS_DO}"
                ),
            ),
            validation(
                "variables.tenants == variables.oldTenants || variables.tenants != []",
                &format!("metadata.ownerReferences: namespace can not remove tenant ownership; {ADMINISTRATORS_DO}"),
            ),
            validation(
                "variables.label == variables.oldLabel && variables.tenants == variables.oldTenants",
                &format!(
                    "metadata: namespace can not be migrated between tenants by its label {TENANT_LABEL} or its \
                     ownerReferences; {ADMINISTRATORS_DO}"
                ),
            ),
        ]),
        ..ValidatingAdmissionPolicySpec::default()
    }
}

fn managed_objects(ourselves: &str, administrators: &Administrators) -> ValidatingAdmissionPolicySpec {
    let key = "projectcapsule.dev/managed-by";
    ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(MatchResources {
            match_policy: Some("Equivalent".to_owned()),
            // Inside of tenants only: a label alone must not make an administrator's objects elsewhere immutable.
            namespace_selector: Some(crate::configurations::selector(&[crate::rule::Requirement::Exists(
                TENANT_LABEL,
            )])),
            object_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(key.to_owned(), "controller".to_owned())])),
                match_expressions: None,
            }),
            resource_rules: Some(vec![NamedRuleWithOperations {
                api_groups: Some(strings(&["*"])),
                api_versions: Some(strings(&["*"])),
                operations: Some(strings(&["CREATE", "UPDATE", "DELETE"])),
                resources: Some(strings(&["*/*"])),
                scope: Some("Namespaced".to_owned()),
                resource_names: None,
            }]),
            exclude_resource_rules: None,
        }),
        match_conditions: Some(exceptions(ourselves, administrators)),
        validations: Some(vec![validation(
            // A namespace on its way out takes everything in it along, whoever deletes the rest.
            "request.operation == \"DELETE\" && has(namespaceObject.metadata.deletionTimestamp)",
            "metadata.labels[projectcapsule.dev/managed-by]: Labeling resources as controller managed can only be done by the \
             controller or administrators; change the Tenant that this object follows from",
        )]),
        ..ValidatingAdmissionPolicySpec::default()
    }
}

fn exceptions(ourselves: &str, administrators: &Administrators) -> Vec<MatchCondition> {
    let mut conditions = vec![MatchCondition {
        name: "not-the-cluster-itself".to_owned(),
        expression: not_the_cluster_itself(ourselves),
    }];
    if !administrators.users.is_empty() {
        conditions.push(MatchCondition {
            name: "not-an-administrator".to_owned(),
            expression: format!("!(request.userInfo.username in {})", cel_list(&administrators.users)),
        });
    }
    if !administrators.groups.is_empty() {
        conditions.push(MatchCondition {
            name: "not-in-a-group-of-administrators".to_owned(),
            expression: format!(
                "!request.userInfo.groups.exists(g, g in {})",
                cel_list(&administrators.groups)
            ),
        });
    }
    conditions
}

fn validation(expression: &str, message: &str) -> Validation {
    Validation {
        expression: expression.to_owned(),
        message: Some(message.to_owned()),
        reason: Some("Forbidden".to_owned()),
        message_expression: None,
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn bound(
    name: &str,
    spec: ValidatingAdmissionPolicySpec,
    owner: Option<&OwnerReference>,
) -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([(CREATED_BY.0.to_owned(), CREATED_BY.1.to_owned())])),
        owner_references: owner.cloned().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let policy = ValidatingAdmissionPolicy {
        metadata: metadata.clone(),
        spec: Some(spec),
        status: None,
    };
    let binding = ValidatingAdmissionPolicyBinding {
        metadata,
        spec: ValidatingAdmissionPolicyBindingSpec {
            policy_name: name.to_owned(),
            validation_actions: vec!["Deny".to_owned()],
            ..ValidatingAdmissionPolicyBindingSpec::default()
        },
    };
    (policy, binding)
}
