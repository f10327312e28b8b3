//! The table of rules, and one file per rule (or per pair of a mutating and a validating rule about one thing).
//!
//! A new rule is a file here and a row below; nothing else names it. Names and paths are those that the peers
//! registered, so that people's exceptions, dashboards and error patterns go on fitting.
//!
//! Rows are few on purpose. A pod create meets one only where its tenant asks something of pods: such namespaces carry a label
//! that the two rows select. The catch-all rows of the peer are replaced: controller-managed objects are guarded by
//! policy ([`crate::policies`]), objects of tenants are labelled by policy ([`crate::labelling`]), limits in annotations
//! are kept by Kubernetes' own quotas (`tenancy::object_quotas`), and cordoning and rules about any kind are reached only
//! in namespaces that a label marks.

pub mod capsule_configurations;
pub mod control_planes;
pub mod cordoning;
pub mod custom_quotas;
pub mod devices;
pub mod gateways;
pub mod global_quotas;
pub mod ingresses;
pub mod namespaces;
pub mod nodes;
pub mod objects;
pub mod persistent_volume_claims;
pub mod pods;
pub mod pool_claims;
pub mod pools;
pub mod replications;
pub mod rule_statuses;
pub mod service_accounts;
pub mod services;
pub mod tenant_owners;
pub mod tenants;

use tenancy::pods::{DEFAULTS_LABEL, VALIDATION_LABEL};
use tenancy::rules::reach::{OBJECT_DEFAULTS_LABEL, OBJECT_VALIDATION_LABEL};

use crate::decide::typed;
use crate::review::Operation::{self, Connect, Create, Delete, Update};
use crate::rule::{Component, Condition, Failure, Need, Phase, Requirement, Rule, Scope, SideEffects, Target};

const CREATE: &[Operation] = &[Create];
const CREATE_UPDATE: &[Operation] = &[Create, Update];
const ALL: &[Operation] = &[Create, Update, Delete];

/// In a namespace of a tenant.
const IN_A_TENANT: &[Requirement] = &[Requirement::Exists("capsule.clastix.io/tenant")];

/// A row to fill in: about nothing, fails closed.
const ROW: Rule = Rule {
    name: "",
    path: "",
    phase: Phase::Validating,
    component: Component::NamespaceTenants,
    targets: &[],
    namespaces: &[],
    objects: &[],
    conditions: &[],
    wanted: |_| true,
    failure: Failure::Closed,
    side_effects: SideEffects::None,
    needs: &[],
    decide: |_| crate::decide::Verdict::Allow { warnings: Vec::new() },
};

/// Claims that are bound, or on their way out unchanged, have nothing left to decide.
const OPEN_CLAIMS: &[Condition] = &[
    Condition::Expression {
        name: "skip-bound-pvc-updates",
        expression: "request.operation != \"UPDATE\" || !has(oldObject.status.phase) || oldObject.status.phase != \"Bound\"",
    },
    Condition::Expression {
        name: "requires-pvc-spec-validation",
        expression: "request.operation != \"UPDATE\" || !has(object.metadata.deletionTimestamp) || object.spec != oldObject.spec",
    },
];

const CHANGED_METADATA: Condition = Condition::Expression {
    name: "requires-changed-metadata",
    expression: "request.operation != \"UPDATE\" || \
                 object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({}) || \
                 object.metadata.?annotations.orValue({}) != oldObject.metadata.?annotations.orValue({})",
};

/// What rules look at: the rest, such as finalizers and status, is for controllers to change undisturbed.
const CHANGED: Condition = Condition::Expression {
    name: "requires-a-change",
    expression: "request.operation != \"UPDATE\" || has(object.spec) != has(oldObject.spec) || \
                 (has(object.spec) && object.spec != oldObject.spec) || \
                 object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({}) || \
                 object.metadata.?annotations.orValue({}) != oldObject.metadata.?annotations.orValue({})",
};

/// Through `status` most kinds take labels and annotations, too. What only reports is for controllers to write undisturbed.
const NOT_A_REPORT: Condition = Condition::Expression {
    name: "ignore-reports",
    expression: "!(has(request.subResource) && request.subResource == \"status\") || \
                 object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({}) || \
                 object.metadata.?annotations.orValue({}) != oldObject.metadata.?annotations.orValue({})",
};

/// Any kind in a namespace.
const OBJECTS: Target = Target {
    groups: &["*"],
    versions: &["*"],
    resources: &["*"],
    operations: CREATE_UPDATE,
    scope: Scope::Namespaced,
};

/// The way by which labels and annotations change besides: other subresources take none, or are something else's.
const REPORTS: Target = Target {
    resources: &["*/status"],
    operations: &[Update],
    ..OBJECTS
};

/// What the cluster itself puts into every namespace, and keeps writing there while things run. A tenant gains nothing by it.
const NOT_UPKEEP: Condition = Condition::Expression {
    name: "ignore-upkeep",
    expression: "!([request.resource.group, request.resource.resource] in [[\"\", \"events\"], [\"events.k8s.io\", \"events\"], \
                 [\"coordination.k8s.io\", \"leases\"], [\"\", \"endpoints\"], [\"discovery.k8s.io\", \"endpointslices\"]]) && \
                 !(request.resource.group == \"\" && \
                 (request.resource.resource == \"configmaps\" && object.metadata.?name.orValue(\"\") == \"kube-root-ca.crt\" || \
                 request.resource.resource == \"serviceaccounts\" && object.metadata.?name.orValue(\"\") == \"default\"))",
};

/// Registered by [`crate::counted`], for what there are quotas of.
pub(crate) const GLOBAL_QUOTAS: Rule = Rule {
    name: "calculation.global-resource-quotas.validating.projectcapsule.dev",
    path: "/global-resource-quotas/calculations",
    targets: &[Target {
        groups: &["*"],
        versions: &["*"],
        resources: &["*/*"],
        operations: CREATE_UPDATE,
        scope: Scope::Namespaced,
    }],
    namespaces: IN_A_TENANT,
    // What the cluster itself puts there counts, too.
    conditions: &[Condition::NotOurselves],
    wanted: |_| false,
    // What is promised is written down.
    side_effects: SideEffects::NoneOnDryRun,
    needs: &[Need::GlobalQuotas],
    decide: global_quotas::calculate,
    ..ROW
};

/// Registered by [`crate::counted`], for what tenants limit for all their namespaces.
pub(crate) const TENANT_QUOTAS: Rule = Rule {
    name: "calculation.tenant-quotas.validating.cotenant.dev",
    path: "/tenant-quotas/calculations",
    needs: &[Need::TenantQuotas],
    ..GLOBAL_QUOTAS
};

/// What custom quotas count. Registered by [`crate::counted`], for what their sources name and while there are some.
pub(crate) const CUSTOM_QUOTAS: Rule = Rule {
    name: "calculation.custom-quotas.validating.projectcapsule.dev",
    path: "/custom-quotas/calculations",
    targets: &[Target {
        groups: &["*"],
        versions: &["*"],
        resources: &["*/*"],
        operations: ALL,
        scope: Scope::Any,
    }],
    conditions: &[Condition::NotOurselves],
    wanted: |_| false,
    // What is promised is written down.
    side_effects: SideEffects::NoneOnDryRun,
    needs: &[Need::CustomQuotas],
    decide: custom_quotas::calculate,
    ..ROW
};

/// Every webhook there is.
pub static RULES: &[Rule] = &[
    Rule {
        name: "namespaces.mutating.projectcapsule.dev",
        path: "/namespaces/mutating",
        phase: Phase::Mutating,
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["namespaces"],
            operations: CREATE_UPDATE,
            scope: Scope::Any,
        }],
        conditions: &[Condition::NotTheClusterItself, Condition::TenantMatter],
        needs: &[Need::TenantOfNamespace],
        decide: |question| typed(question, namespaces::mutate),
        ..ROW
    },
    Rule {
        name: "namespaces.validating.projectcapsule.dev",
        path: "/namespaces/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["namespaces", "namespaces/status", "namespaces/finalize"],
            operations: ALL,
            scope: Scope::Any,
        }],
        conditions: &[Condition::NotTheClusterItself, Condition::TenantMatter],
        // A place in the tenant's quota is taken for a moment.
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::TenantOfNamespace, Need::NamespaceCount],
        decide: |question| typed(question, namespaces::validate),
        ..ROW
    },
    Rule {
        name: "tenants.mutating.projectcapsule.dev",
        path: "/tenants/mutating",
        phase: Phase::Mutating,
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["tenants"],
            operations: CREATE_UPDATE,
            scope: Scope::Cluster,
        }],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, tenants::mutate),
        ..ROW
    },
    Rule {
        name: "tenants.validating.projectcapsule.dev",
        path: "/tenants/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["tenants"],
            operations: ALL,
            scope: Scope::Cluster,
        }],
        conditions: &[Condition::NotTheClusterItself],
        needs: &[Need::TakenOfRuleQuotas],
        decide: |question| typed(question, tenants::validate),
        ..ROW
    },
    Rule {
        name: "owners.validating.projectcapsule.dev",
        path: "/tenantowners/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["tenantowners"],
            operations: CREATE_UPDATE,
            scope: Scope::Cluster,
        }],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, tenant_owners::validate),
        ..ROW
    },
    Rule {
        name: "config.validating.projectcapsule.dev",
        path: "/config/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["capsuleconfigurations"],
            operations: CREATE_UPDATE,
            scope: Scope::Cluster,
        }],
        failure: Failure::Open {
            because: "the configuration says how we are reached; when that is wrong, correcting it must not need us. Whoever may \
                      write it is an administrator, and what is in it is parsed again where it is used",
        },
        decide: |question| typed(question, capsule_configurations::validate),
        ..ROW
    },
    Rule {
        name: "cordoning.validating.projectcapsule.dev",
        path: "/generic/cordoning",
        targets: &[Target {
            groups: &["*"],
            versions: &["*"],
            // Subresources too: `deployments/scale` changes what runs as much as `deployments`, and so does who is inside of it.
            resources: &["*/*"],
            operations: &[Create, Update, Delete, Connect],
            scope: Scope::Namespaced,
        }],
        namespaces: &[
            Requirement::Exists("capsule.clastix.io/tenant"),
            Requirement::In("projectcapsule.dev/cordoned", &["true"]),
        ],
        conditions: &[
            Condition::NotTheClusterItself,
            NOT_A_REPORT,
            Condition::Expression {
                name: "ignore-events",
                expression: "!(request.resource.resource == \"events\" && request.resource.group in [\"\", \"events.k8s.io\"])",
            },
            Condition::Expression {
                name: "ignore-observations",
                // Leases, and the questions people ask, change nothing in the namespace.
                expression: "!(request.resource.group == \"coordination.k8s.io\") && \
                             !(request.resource.group == \"authorization.k8s.io\")",
            },
        ],
        decide: cordoning::decide,
        ..ROW
    },
    Rule {
        name: "pvc.mutating.projectcapsule.dev",
        path: "/persistentvolumeclaims/mutating",
        phase: Phase::Mutating,
        targets: &[CLAIMS],
        namespaces: IN_A_TENANT,
        conditions: &[
            OPEN_CLAIMS[0],
            OPEN_CLAIMS[1],
            Condition::Expression {
                name: "requires-static-binding",
                expression: "has(object.spec.selector) || (request.operation == \"CREATE\" && has(object.spec.volumeName) && \
                             object.spec.volumeName != \"\")",
            },
        ],
        decide: |question| typed(question, persistent_volume_claims::bind_to_tenant),
        ..ROW
    },
    Rule {
        name: "storage.mutating.projectcapsule.dev",
        path: "/defaults",
        phase: Phase::Mutating,
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["persistentvolumeclaims"],
            operations: CREATE,
            scope: Scope::Namespaced,
        }],
        namespaces: IN_A_TENANT,
        decide: |question| typed(question, persistent_volume_claims::default_class),
        ..ROW
    },
    Rule {
        name: "pvc.validating.projectcapsule.dev",
        path: "/persistentvolumeclaims/validating",
        targets: &[
            CLAIMS,
            Target {
                resources: &["persistentvolumeclaims/status"],
                operations: &[Update],
                ..CLAIMS
            },
        ],
        namespaces: IN_A_TENANT,
        conditions: &[OPEN_CLAIMS[0], OPEN_CLAIMS[1], NOT_A_REPORT],
        // What is only tried out is reported.
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::NamedVolume],
        decide: |question| typed(question, persistent_volume_claims::validate),
        ..ROW
    },
    Rule {
        name: "ingress.mutating.projectcapsule.dev",
        path: "/defaults",
        phase: Phase::Mutating,
        targets: &[INGRESSES],
        namespaces: IN_A_TENANT,
        decide: |question| typed(question, ingresses::default_class),
        ..ROW
    },
    Rule {
        name: "ingress.validating.projectcapsule.dev",
        path: "/ingresses/validating",
        targets: &[
            INGRESSES,
            Target {
                resources: &["ingresses/status"],
                operations: &[Update],
                ..INGRESSES
            },
        ],
        namespaces: IN_A_TENANT,
        conditions: &[NOT_A_REPORT],
        // A hostname is taken for a moment.
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::Hostnames, Need::Rules],
        decide: |question| typed(question, ingresses::validate),
        ..ROW
    },
    Rule {
        name: "pod.mutating.projectcapsule.dev",
        path: "/defaults",
        phase: Phase::Mutating,
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["pods"],
            operations: CREATE_UPDATE,
            scope: Scope::Namespaced,
        }],
        namespaces: &[IN_A_TENANT[0], Requirement::In(DEFAULTS_LABEL, &["true"])],
        conditions: &[CHANGED_METADATA],
        needs: &[Need::Rules],
        decide: |question| typed(question, pods::settle),
        ..ROW
    },
    Rule {
        name: "pods.validating.projectcapsule.dev",
        path: "/pods/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["pods", "pods/ephemeralcontainers", "pods/resize"],
            operations: CREATE_UPDATE,
            scope: Scope::Namespaced,
        }],
        namespaces: &[IN_A_TENANT[0], Requirement::In(VALIDATION_LABEL, &["true"])],
        conditions: &[CHANGED],
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::Rules],
        decide: |question| typed(question, pods::validate),
        ..ROW
    },
    Rule {
        name: "reports.pods.validating.projectcapsule.dev",
        path: "/pods/reports/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["pods/status"],
            operations: &[Update],
            scope: Scope::Namespaced,
        }],
        namespaces: &[IN_A_TENANT[0], Requirement::In(VALIDATION_LABEL, &["true"])],
        conditions: &[Condition::NotTheClusterItself, CHANGED_METADATA],
        failure: Failure::Open {
            because: "network plugins, which may run in any namespace, note on pods by this way while these start: what runs must \
                      start again after its node did, also without us",
        },
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::Rules],
        decide: |question| typed(question, pods::validate),
        ..ROW
    },
    Rule {
        name: "bindings.pods.validating.projectcapsule.dev",
        path: "/pods/bindings/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["pods/binding", "bindings"],
            operations: CREATE,
            scope: Scope::Namespaced,
        }],
        namespaces: &[IN_A_TENANT[0], Requirement::In(VALIDATION_LABEL, &["true"])],
        conditions: &[
            Condition::NotTheClusterItself,
            Condition::Expression {
                name: "requires-metadata",
                expression: "object.metadata.?labels.orValue({}) != {} || object.metadata.?annotations.orValue({}) != {}",
            },
        ],
        failure: Failure::Open {
            because: "people's own schedulers bind by this way: pods that were let in before must not wait for us",
        },
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::Rules],
        decide: objects::validate_binding,
        ..ROW
    },
    Rule {
        name: "services.validating.projectcapsule.dev",
        path: "/services/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["services", "services/status"],
            operations: CREATE_UPDATE,
            scope: Scope::Namespaced,
        }],
        namespaces: IN_A_TENANT,
        conditions: &[NOT_A_REPORT],
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::Rules],
        decide: |question| typed(question, services::validate),
        ..ROW
    },
    Rule {
        name: "gateway.mutating.projectcapsule.dev",
        path: "/defaults",
        phase: Phase::Mutating,
        targets: &[GATEWAYS],
        namespaces: IN_A_TENANT,
        decide: |question| typed(question, gateways::default_class),
        ..ROW
    },
    Rule {
        name: "gateway.validating.projectcapsule.dev",
        path: "/gateways/validating",
        targets: &[GATEWAYS],
        namespaces: IN_A_TENANT,
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::GatewayClass, Need::Rules],
        decide: |question| typed(question, gateways::validate),
        ..ROW
    },
    Rule {
        name: "devices.validating.projectcapsule.dev",
        path: "/devices/validating",
        targets: &[Target {
            groups: &["resource.k8s.io"],
            versions: &["v1", "v1beta2", "v1beta1"],
            resources: &["resourceclaims", "resourceclaimtemplates"],
            // What they ask for cannot be changed.
            operations: CREATE,
            scope: Scope::Namespaced,
        }],
        namespaces: IN_A_TENANT,
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::DeviceClasses],
        decide: |question| typed(question, devices::validate),
        ..ROW
    },
    Rule {
        name: "nodes.validating.projectcapsule.dev",
        path: "/nodes/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["nodes", "nodes/status"],
            operations: &[Update],
            scope: Scope::Cluster,
        }],
        conditions: &[
            Condition::NotTheClusterItself,
            Condition::Expression {
                name: "requires-changed-metadata",
                expression: "object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({}) || \
                             object.metadata.?annotations.orValue({}) != oldObject.metadata.?annotations.orValue({})",
            },
        ],
        wanted: tenancy::nodes::is_restrictive,
        decide: |question| typed(question, nodes::validate),
        ..ROW
    },
    Rule {
        name: "serviceaccounts.validating.projectcapsule.dev",
        path: "/serviceaccounts/validating",
        targets: &[Target {
            groups: &[""],
            versions: &["v1"],
            resources: &["serviceaccounts"],
            operations: CREATE_UPDATE,
            scope: Scope::Namespaced,
        }],
        namespaces: IN_A_TENANT,
        conditions: &[Condition::Expression {
            name: "requires-promotion-label",
            expression: "has(object.metadata.labels) && (\"projectcapsule.dev/promote\" in object.metadata.labels || \
                         \"owner.projectcapsule.dev/promote\" in object.metadata.labels)",
        }],
        decide: |question| typed(question, service_accounts::validate),
        ..ROW
    },
    Rule {
        name: "generic.rules.mutating.projectcapsule.dev",
        path: "/rules/generic/mutating",
        phase: Phase::Mutating,
        targets: &[OBJECTS],
        namespaces: &[IN_A_TENANT[0], Requirement::In(OBJECT_DEFAULTS_LABEL, &["true"])],
        conditions: &[
            NOT_UPKEEP,
            CHANGED_METADATA,
            Condition::Expression {
                name: "ignore-pods",
                expression: "!(request.resource.group == \"\" && request.resource.resource == \"pods\")",
            },
        ],
        needs: &[Need::Rules],
        decide: objects::mutate,
        ..ROW
    },
    Rule {
        name: "generic.rules.validating.projectcapsule.dev",
        path: "/rules/generic/validating",
        targets: &[OBJECTS, REPORTS],
        namespaces: &[IN_A_TENANT[0], Requirement::In(OBJECT_VALIDATION_LABEL, &["true"])],
        conditions: &[
            NOT_UPKEEP,
            CHANGED,
            Condition::Expression {
                name: "ignore-what-has-its-own-hook",
                expression: "!(request.resource.group == \"\" && request.resource.resource in [\"pods\", \"services\"]) && \
                             !(request.resource.group == \"networking.k8s.io\" && request.resource.resource == \"ingresses\") && \
                             !(request.resource.group == \"gateway.networking.k8s.io\" && request.resource.resource == \"gateways\")",
            },
        ],
        // What rules record becomes Events.
        side_effects: SideEffects::NoneOnDryRun,
        needs: &[Need::Rules],
        decide: objects::validate,
        ..ROW
    },
    Rule {
        name: "rulestatus.validating.projectcapsule.dev",
        path: "/rulestatus/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["rulestatuses"],
            operations: CREATE_UPDATE,
            scope: Scope::Namespaced,
        }],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, rule_statuses::validate),
        ..ROW
    },
    Rule {
        name: "resourcepools.mutating.projectcapsule.dev",
        path: "/resourcepools/mutating",
        phase: Phase::Mutating,
        targets: &[POOLS],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, pools::default_to_zero),
        ..ROW
    },
    Rule {
        name: "resourcepools.validating.projectcapsule.dev",
        path: "/resourcepools/validating",
        targets: &[POOLS],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, pools::validate),
        ..ROW
    },
    Rule {
        name: "resourcepoolclaims.mutating.projectcapsule.dev",
        path: "/resourcepools/claim/mutating",
        phase: Phase::Mutating,
        targets: &[claims_of_pools(CREATE_UPDATE)],
        conditions: &[Condition::NotTheClusterItself],
        needs: &[Need::PoolOfClaim],
        decide: |question| typed(question, pool_claims::prepare),
        ..ROW
    },
    Rule {
        name: "resourcepoolclaims.validating.projectcapsule.dev",
        path: "/resourcepools/claim/validating",
        targets: &[claims_of_pools(ALL)],
        conditions: &[Condition::NotTheClusterItself],
        needs: &[Need::ClaimsBeside],
        decide: |question| typed(question, pool_claims::validate),
        ..ROW
    },
    Rule {
        name: "globalresourcequotas.validating.projectcapsule.dev",
        path: "/global-resource-quotas/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["globalresourcequotas"],
            operations: ALL,
            scope: Scope::Cluster,
        }],
        conditions: &[Condition::NotTheClusterItself],
        needs: &[Need::TakenOfGlobalQuota],
        decide: |question| typed(question, global_quotas::validate),
        ..ROW
    },
    GLOBAL_QUOTAS,
    TENANT_QUOTAS,
    CUSTOM_QUOTAS,
    Rule {
        name: "namespaced.custom-quotas.validating.projectcapsule.dev",
        path: "/custom-quotas/namespaced/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["customquotas"],
            operations: CREATE_UPDATE,
            scope: Scope::Namespaced,
        }],
        decide: |question| typed(question, custom_quotas::validate),
        ..ROW
    },
    Rule {
        name: "cluster.custom-quotas.validating.projectcapsule.dev",
        path: "/custom-quotas/cluster/validating",
        targets: &[Target {
            groups: &["capsule.clastix.io"],
            versions: &["v1beta2"],
            resources: &["globalcustomquotas"],
            operations: CREATE_UPDATE,
            scope: Scope::Cluster,
        }],
        decide: |question| typed(question, custom_quotas::validate_global),
        ..ROW
    },
    Rule {
        name: "replications.validating.projectcapsule.dev",
        path: "/generic/replications",
        targets: &[Target {
            groups: &["*"],
            versions: &["*"],
            resources: &["*/*"],
            operations: &[Update, Delete],
            scope: Scope::Any,
        }],
        // What replications of the cluster make may be anywhere.
        objects: &[Requirement::In(
            "projectcapsule.dev/managed-by",
            &["replications", "resources"],
        )],
        conditions: &[Condition::NotTheClusterItself, NOT_A_REPORT],
        decide: replications::decide,
        ..ROW
    },
    Rule {
        name: "scales.replications.validating.projectcapsule.dev",
        path: "/generic/replications/scales",
        targets: &[Target {
            groups: &["*"],
            versions: &["*"],
            // What is sent has no labels to select by.
            resources: &["*/scale"],
            operations: &[Update],
            scope: Scope::Namespaced,
        }],
        namespaces: IN_A_TENANT,
        conditions: &[Condition::NotTheClusterItself],
        failure: Failure::Open {
            because: "autoscalers of people must not wait for us; the replication puts back what it says of replicas",
        },
        decide: replications::decide_scale,
        ..ROW
    },
    Rule {
        name: "mtenantcontrolplane.kb.io",
        path: "/mutate-kamaji-clastix-io-v1alpha1-tenantcontrolplane",
        phase: Phase::Mutating,
        component: Component::ControlPlanes,
        targets: &[TENANT_CONTROL_PLANES],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, control_planes::tenant_control_plane::mutate),
        ..ROW
    },
    Rule {
        name: "vtenantcontrolplane.kb.io",
        path: "/validate-kamaji-clastix-io-v1alpha1-tenantcontrolplane",
        component: Component::ControlPlanes,
        targets: &[TENANT_CONTROL_PLANES],
        conditions: &[Condition::NotTheClusterItself],
        needs: &[Need::SurroundingsOfControlPlane],
        decide: |question| typed(question, control_planes::tenant_control_plane::validate),
        ..ROW
    },
    Rule {
        name: "vdatastore.kb.io",
        path: "/validate-kamaji-clastix-io-v1alpha1-datastore",
        component: Component::ControlPlanes,
        targets: &[Target {
            groups: &["kamaji.clastix.io"],
            versions: &["v1alpha1"],
            resources: &["datastores"],
            operations: CREATE_UPDATE,
            scope: Scope::Cluster,
        }],
        conditions: &[Condition::NotTheClusterItself],
        decide: |question| typed(question, control_planes::data_store::validate),
        ..ROW
    },
];

const CLAIMS: Target = Target {
    groups: &[""],
    versions: &["v1"],
    resources: &["persistentvolumeclaims"],
    operations: CREATE_UPDATE,
    scope: Scope::Namespaced,
};

const INGRESSES: Target = Target {
    groups: &["networking.k8s.io"],
    versions: &["v1"],
    resources: &["ingresses"],
    operations: CREATE_UPDATE,
    scope: Scope::Namespaced,
};

const GATEWAYS: Target = Target {
    groups: &["gateway.networking.k8s.io"],
    versions: &["v1", "v1beta1"],
    resources: &["gateways"],
    operations: CREATE_UPDATE,
    scope: Scope::Namespaced,
};

const POOLS: Target = Target {
    groups: &["capsule.clastix.io"],
    versions: &["v1beta2"],
    resources: &["resourcepools"],
    operations: CREATE_UPDATE,
    scope: Scope::Cluster,
};

const fn claims_of_pools(operations: &'static [Operation]) -> Target {
    Target {
        groups: &["capsule.clastix.io"],
        versions: &["v1beta2"],
        resources: &["resourcepoolclaims"],
        operations,
        scope: Scope::Namespaced,
    }
}

const TENANT_CONTROL_PLANES: Target = Target {
    groups: &["kamaji.clastix.io"],
    versions: &["v1alpha1"],
    resources: &["tenantcontrolplanes"],
    operations: CREATE_UPDATE,
    scope: Scope::Namespaced,
};

#[cfg(test)]
mod tests;
