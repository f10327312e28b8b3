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
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;
    use crate::router::Router;
    use crate::view::Source;

    struct Case {
        rule: &'static str,
        /// Group, version, resource, subresource, kind.
        resource: (&'static str, &'static str, &'static str, &'static str, &'static str),
        operation: &'static str,
        user: &'static str,
        groups: &'static [&'static str],
        object: Value,
        old: Value,
        /// The answer's `allowed`, and a word of its message, its patch or nothing.
        expected: (bool, &'static str),
    }

    const TENANTS: &[&str] = &["projectcapsule.dev"];
    const TENANT: (&str, &str, &str, &str, &str) = ("capsule.clastix.io", "v1beta2", "tenants", "", "Tenant");
    const CONFIGURATION: (&str, &str, &str, &str, &str) = (
        "capsule.clastix.io",
        "v1beta2",
        "capsuleconfigurations",
        "",
        "CapsuleConfiguration",
    );
    const CONTROL_PLANE: (&str, &str, &str, &str, &str) = (
        "kamaji.clastix.io",
        "v1alpha1",
        "tenantcontrolplanes",
        "",
        "TenantControlPlane",
    );
    const GLOBAL_QUOTA: (&str, &str, &str, &str, &str) = (
        "capsule.clastix.io",
        "v1beta2",
        "globalresourcequotas",
        "",
        "GlobalResourceQuota",
    );
    const POOL: (&str, &str, &str, &str, &str) = ("capsule.clastix.io", "v1beta2", "resourcepools", "", "ResourcePool");
    const POOL_CLAIM: (&str, &str, &str, &str, &str) = (
        "capsule.clastix.io",
        "v1beta2",
        "resourcepoolclaims",
        "",
        "ResourcePoolClaim",
    );
    const DATA_STORE: (&str, &str, &str, &str, &str) = ("kamaji.clastix.io", "v1alpha1", "datastores", "", "DataStore");
    const TENANT_OWNER: (&str, &str, &str, &str, &str) =
        ("capsule.clastix.io", "v1beta2", "tenantowners", "", "TenantOwner");
    const NAMESPACE: (&str, &str, &str, &str, &str) = ("", "v1", "namespaces", "", "Namespace");
    const CLAIM: (&str, &str, &str, &str, &str) = ("", "v1", "persistentvolumeclaims", "", "PersistentVolumeClaim");
    const POD: (&str, &str, &str, &str, &str) = ("", "v1", "pods", "", "Pod");
    const GATEWAY: (&str, &str, &str, &str, &str) = ("gateway.networking.k8s.io", "v1", "gateways", "", "Gateway");
    const DEVICES: (&str, &str, &str, &str, &str) = ("resource.k8s.io", "v1", "resourceclaims", "", "ResourceClaim");
    const CONFIG_MAP: (&str, &str, &str, &str, &str) = ("", "v1", "configmaps", "", "ConfigMap");
    const RULE_STATUS: (&str, &str, &str, &str, &str) =
        ("capsule.clastix.io", "v1beta2", "rulestatuses", "", "RuleStatus");
    const INGRESS: (&str, &str, &str, &str, &str) = ("networking.k8s.io", "v1", "ingresses", "", "Ingress");

    /// Asked without any watch: nothing is known but the request and the default configuration. What rules say with tenants
    /// around them is shown in `tests/`, against a real API server.
    fn cases() -> Vec<Case> {
        let case = |rule, resource, object, expected| Case {
            rule,
            resource,
            operation: "CREATE",
            user: "alice",
            groups: TENANTS,
            object,
            old: Value::Null,
            expected,
        };
        let named = |more: Value| {
            let mut object = json!({"metadata": {"name": "thing"}});
            json_patch::merge(&mut object, &more);
            object
        };
        let tenant = |spec: Value| json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": "oil"}, "spec": spec});
        let tenant_owner = |name: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantOwner", "metadata": {"name": "thing"},
                "spec": {"kind": "ServiceAccount", "name": name}})
        };
        let configuration = |regex: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration", "metadata": {"name": "default"},
                "spec": {"protectedNamespaceRegex": regex}})
        };
        let control_plane = json!({"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "cp", "namespace": "ns"}, "spec": {
                "controlPlane": {"deployment": {}, "service": {"serviceType": "ClusterIP"}},
                "kubernetes": {"version": "v1.36.3"}}});
        let mut root = control_plane.clone();
        root["spec"]["dataStoreUsername"] = json!("root");
        let store = |endpoint: &str| {
            json!({"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore", "metadata": {"name": "s"}, "spec": {
                "driver": "etcd", "endpoints": [endpoint], "tlsConfig": {"certificateAuthority": {"certificate": {"content": "YQ=="}}}}})
        };
        let rule_status = |pattern: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "metadata": {"name": "thing"},
                "spec": [{"enforce": {"workloads": {"schedulers": [{"exp": pattern}]}}}]})
        };
        let global_quota = |pods: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota", "metadata": {"name": "thing"},
                "spec": {"quota": {"hard": {"pods": pods}}, "namespaceSelectors": [{}]}})
        };
        let custom_quota = |limit: &str, cel: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "metadata": {"name": "q"},
                "spec": {"limit": limit, "sources": [{"apiVersion": "v1", "kind": "Pod", "cel": cel}]}})
        };
        let pool = |cpu: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePool", "metadata": {"name": "gold"},
                "spec": {"quota": {"hard": {"cpu": cpu}}, "config": {"defaultsZero": true}}})
        };
        let pool_claim = |cpu: &str| {
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "ResourcePoolClaim",
                "metadata": {"name": "one", "namespace": "ns", "annotations": {"projectcapsule.dev/release": "true"}},
                "spec": {"pool": "gold", "claim": {"cpu": cpu}}})
        };
        let foreign = json!({"metadata": {"name": "thing", "labels": {"capsule.clastix.io/tenant": "gas"}}});
        vec![
            case(
                "namespaces.mutating.projectcapsule.dev",
                NAMESPACE,
                named(json!({})),
                (false, "do not have any Tenant"),
            ),
            Case {
                user: "root",
                groups: &[],
                ..case(
                    "namespaces.mutating.projectcapsule.dev",
                    NAMESPACE,
                    named(json!({})),
                    (true, ""),
                )
            },
            Case {
                user: "root",
                groups: &[],
                ..case(
                    "namespaces.validating.projectcapsule.dev",
                    NAMESPACE,
                    foreign.clone(),
                    (false, "only tenant owners"),
                )
            },
            Case {
                operation: "UPDATE",
                user: "root",
                groups: &[],
                resource: ("", "v1", "namespaces", "status", "Namespace"),
                old: named(json!({})),
                ..case(
                    "namespaces.validating.projectcapsule.dev",
                    NAMESPACE,
                    foreign,
                    (false, "patched into a tenant"),
                )
            },
            case(
                "namespaces.validating.projectcapsule.dev",
                NAMESPACE,
                named(json!({})),
                (false, "not assigned"),
            ),
            case(
                "tenants.mutating.projectcapsule.dev",
                TENANT,
                tenant(json!({})),
                (true, "/metadata/labels"),
            ),
            case(
                "tenants.validating.projectcapsule.dev",
                TENANT,
                tenant(json!({"storageClasses": {"allowedRegex": "("}})),
                (false, "storageClasses"),
            ),
            case(
                "tenants.validating.projectcapsule.dev",
                TENANT,
                tenant(json!({})),
                (true, ""),
            ),
            case(
                "owners.validating.projectcapsule.dev",
                TENANT_OWNER,
                tenant_owner("robot"),
                (false, "spec.name"),
            ),
            case(
                "owners.validating.projectcapsule.dev",
                TENANT_OWNER,
                tenant_owner("system:serviceaccount:ci:robot"),
                (true, ""),
            ),
            case(
                "config.validating.projectcapsule.dev",
                CONFIGURATION,
                configuration("("),
                (false, "protectedNamespaceRegex"),
            ),
            case(
                "config.validating.projectcapsule.dev",
                CONFIGURATION,
                configuration("^kube-"),
                (true, ""),
            ),
            case(
                "cordoning.validating.projectcapsule.dev",
                ("apps", "v1", "deployments", "scale", "Scale"),
                named(json!({})),
                (false, "cordoned"),
            ),
            Case {
                user: "root",
                groups: &[],
                ..case(
                    "cordoning.validating.projectcapsule.dev",
                    ("", "v1", "pods", "", "Pod"),
                    named(json!({})),
                    (true, ""),
                )
            },
            case(
                "pvc.mutating.projectcapsule.dev",
                CLAIM,
                named(json!({"spec": {"volumeName": "v"}})),
                (true, ""),
            ),
            case(
                "storage.mutating.projectcapsule.dev",
                CLAIM,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            case(
                "pvc.validating.projectcapsule.dev",
                CLAIM,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            case(
                "pvc.validating.projectcapsule.dev",
                CLAIM,
                json!({"spec": 7}),
                (false, "failed to read"),
            ),
            case(
                "ingress.mutating.projectcapsule.dev",
                INGRESS,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            case(
                "ingress.validating.projectcapsule.dev",
                INGRESS,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            case(
                "pod.mutating.projectcapsule.dev",
                POD,
                named(json!({"spec": {"containers": []}})),
                (true, ""),
            ),
            case(
                "pods.validating.projectcapsule.dev",
                POD,
                named(json!({"spec": {"containers": []}})),
                (true, ""),
            ),
            case(
                "pods.validating.projectcapsule.dev",
                POD,
                json!({"spec": []}),
                (false, "failed to read"),
            ),
            Case {
                operation: "UPDATE",
                resource: ("", "v1", "pods", "ephemeralcontainers", "Pod"),
                old: named(json!({"spec": {"containers": []}})),
                ..case(
                    "pods.validating.projectcapsule.dev",
                    POD,
                    named(json!({"spec": {"containers": []}})),
                    (true, ""),
                )
            },
            case(
                "services.validating.projectcapsule.dev",
                ("", "v1", "services", "", "Service"),
                named(json!({"spec": {"type": "NodePort"}})),
                (true, ""),
            ),
            case(
                "gateway.mutating.projectcapsule.dev",
                GATEWAY,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            case(
                "gateway.validating.projectcapsule.dev",
                GATEWAY,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            case(
                "devices.validating.projectcapsule.dev",
                DEVICES,
                named(json!({"spec": {}})),
                (true, ""),
            ),
            Case {
                operation: "UPDATE",
                old: named(json!({})),
                ..case(
                    "nodes.validating.projectcapsule.dev",
                    ("", "v1", "nodes", "", "Node"),
                    named(json!({"metadata": {"labels": {"a": "b"}}})),
                    (true, ""),
                )
            },
            case(
                "serviceaccounts.validating.projectcapsule.dev",
                ("", "v1", "serviceaccounts", "", "ServiceAccount"),
                named(json!({})),
                (true, ""),
            ),
            case(
                "generic.rules.mutating.projectcapsule.dev",
                CONFIG_MAP,
                named(json!({})),
                (true, ""),
            ),
            case(
                "generic.rules.validating.projectcapsule.dev",
                CONFIG_MAP,
                named(json!({})),
                (true, ""),
            ),
            case(
                "globalresourcequotas.validating.projectcapsule.dev",
                GLOBAL_QUOTA,
                global_quota("-1"),
                (false, "spec.quota.hard[pods]: -1 is less than nothing"),
            ),
            Case {
                user: "adam",
                groups: &[],
                ..case(
                    "globalresourcequotas.validating.projectcapsule.dev",
                    GLOBAL_QUOTA,
                    global_quota("1"),
                    (true, ""),
                )
            },
            case(
                "calculation.global-resource-quotas.validating.projectcapsule.dev",
                POD,
                named(json!({"spec": {"containers": []}})),
                (true, ""),
            ),
            case(
                "calculation.tenant-quotas.validating.cotenant.dev",
                POD,
                named(json!({"spec": {"containers": []}})),
                (true, ""),
            ),
            case(
                "calculation.custom-quotas.validating.projectcapsule.dev",
                POD,
                named(json!({"spec": {"containers": []}})),
                (true, ""),
            ),
            case(
                "namespaced.custom-quotas.validating.projectcapsule.dev",
                ("capsule.clastix.io", "v1beta2", "customquotas", "", "CustomQuota"),
                custom_quota("0", "object.spec.size"),
                (false, "spec.limit: quantity must not be negative or 0"),
            ),
            case(
                "cluster.custom-quotas.validating.projectcapsule.dev",
                (
                    "capsule.clastix.io",
                    "v1beta2",
                    "globalcustomquotas",
                    "",
                    "GlobalCustomQuota",
                ),
                custom_quota("1", "1 +"),
                (false, "spec.sources[0].cel"),
            ),
            case(
                "rulestatus.validating.projectcapsule.dev",
                RULE_STATUS,
                rule_status("("),
                (false, "unable to compile"),
            ),
            case(
                "rulestatus.validating.projectcapsule.dev",
                RULE_STATUS,
                rule_status("^a"),
                (true, ""),
            ),
            case(
                "resourcepools.mutating.projectcapsule.dev",
                POOL,
                pool("1"),
                (true, "/spec/defaults"),
            ),
            case(
                "resourcepools.validating.projectcapsule.dev",
                POOL,
                pool("-1"),
                (false, "spec.quota.hard[cpu]"),
            ),
            case(
                "resourcepoolclaims.mutating.projectcapsule.dev",
                POOL_CLAIM,
                pool_claim("1"),
                (true, "/metadata/annotations"),
            ),
            case(
                "resourcepoolclaims.validating.projectcapsule.dev",
                POOL_CLAIM,
                pool_claim("much"),
                (false, "spec.claim[cpu]"),
            ),
            Case {
                operation: "UPDATE",
                old: named(json!({"spec": {"containers": []}})),
                ..case(
                    "reports.pods.validating.projectcapsule.dev",
                    ("", "v1", "pods", "status", "Pod"),
                    named(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}})),
                    (true, ""),
                )
            },
            case(
                "bindings.pods.validating.projectcapsule.dev",
                ("", "v1", "pods", "binding", "Binding"),
                named(json!({"metadata": {"labels": {"a": "b"}}, "target": {"name": "n"}})),
                (true, ""),
            ),
            Case {
                operation: "UPDATE",
                old: named(json!({"spec": {"replicas": 1}})),
                ..case(
                    "scales.replications.validating.projectcapsule.dev",
                    ("apps", "v1", "deployments", "scale", "Scale"),
                    named(json!({"spec": {"replicas": 2}})),
                    (true, ""),
                )
            },
            Case {
                operation: "DELETE",
                old: named(json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": "replications"}}})),
                ..case(
                    "replications.validating.projectcapsule.dev",
                    ("", "v1", "secrets", "", "Secret"),
                    Value::Null,
                    (true, ""),
                )
            },
            case(
                "mtenantcontrolplane.kb.io",
                CONTROL_PLANE,
                control_plane.clone(),
                (true, "dnsServiceIPs"),
            ),
            case(
                "vtenantcontrolplane.kb.io",
                CONTROL_PLANE,
                root,
                (false, "dataStoreUsername"),
            ),
            case(
                "vdatastore.kb.io",
                DATA_STORE,
                store("https://etcd"),
                (false, "spec.endpoints[0]"),
            ),
        ]
    }

    #[tokio::test]
    async fn every_rule_answers_through_the_router() {
        let router = Router::new(RULES, Source::empty(), Metrics::default());
        let mut exercised = BTreeSet::new();
        for case in cases() {
            let rule = RULES.iter().find(|rule| rule.name == case.rule).expect(case.rule);
            exercised.insert(rule.name);
            let (group, version, resource, sub_resource, kind) = case.resource;
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "uid": "1", "kind": {"group": group, "version": version, "kind": kind},
                "resource": {"group": group, "version": version, "resource": resource}, "subResource": sub_resource,
                "name": "thing", "namespace": "ns", "operation": case.operation,
                "userInfo": {"username": case.user, "groups": case.groups}, "object": case.object, "oldObject": case.old}});
            let reply = router
                .answer(rule.path, review.to_string().as_bytes())
                .await
                .expect("an answer");
            let reply: Value = serde_json::from_slice(&reply).expect("JSON");
            let response = &reply["response"];
            let patch = response["patch"].as_str().map(|patch| {
                use base64::Engine as _;
                let bytes = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
                String::from_utf8(bytes).expect("text")
            });
            let said = response["status"]["message"]
                .as_str()
                .map(str::to_owned)
                .or(patch)
                .unwrap_or_default();
            assert_eq!(response["allowed"], case.expected.0, "{}: {said}", case.rule);
            assert!(said.contains(case.expected.1), "{}: {said}", case.rule);
            assert!(!case.expected.1.is_empty() || said.is_empty(), "{}: {said}", case.rule);
        }
        let all: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(exercised, all);
    }

    /// Rules that look at nothing of an object, or not at its metadata, before they know whose it is.
    const LOOK_NO_FURTHER: [&str; 9] = [
        "bindings.pods.validating.projectcapsule.dev",
        "cordoning.validating.projectcapsule.dev",
        "devices.validating.projectcapsule.dev",
        "generic.rules.mutating.projectcapsule.dev",
        "generic.rules.validating.projectcapsule.dev",
        "calculation.global-resource-quotas.validating.projectcapsule.dev",
        "calculation.tenant-quotas.validating.cotenant.dev",
        "calculation.custom-quotas.validating.projectcapsule.dev",
        "scales.replications.validating.projectcapsule.dev",
    ];

    /// As deep as no API server sends it: where it is looked at it is refused, elsewhere it does no harm.
    #[tokio::test]
    async fn what_is_nested_too_deep_is_refused() {
        let router = Router::new(RULES, Source::empty(), Metrics::default());
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for case in cases() {
            let (group, version, resource, sub_resource, kind) = case.resource;
            let rule = RULES.iter().find(|rule| rule.name == case.rule).expect(case.rule);
            let operation = rule.targets[0].operations[0].as_str();
            for (field, is_looked_at) in [("metadata", true), ("other", false)] {
                let object = format!(r#"{{"{field}":{{"labels":{deep}}}}}"#);
                let review = format!(
                    r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1",
                    "kind":{{"group":"{group}","version":"{version}","kind":"{kind}"}},"name":"thing","namespace":"ns",
                    "resource":{{"group":"{group}","version":"{version}","resource":"{resource}"}},"subResource":"{sub_resource}",
                    "operation":"{operation}","userInfo":{{"username":"alice"}},"object":{object},"oldObject":{object}}}}}"#
                );
                let reply = router.answer(rule.path, review.as_bytes()).await.expect("an answer");
                let reply: Value = serde_json::from_slice(&reply).expect("JSON");
                let is_refused = reply["response"]["allowed"] == false;
                assert!(
                    !is_looked_at || is_refused != LOOK_NO_FURTHER.contains(&rule.name),
                    "{}: {reply}",
                    rule.name
                );
            }
        }
    }

    #[test]
    fn names_are_those_that_the_peers_registered_or_ours() {
        let names: Vec<_> = RULES.iter().map(|rule| (rule.name, rule.path)).collect();
        assert_eq!(
            names,
            [
                ("namespaces.mutating.projectcapsule.dev", "/namespaces/mutating"),
                ("namespaces.validating.projectcapsule.dev", "/namespaces/validating"),
                ("tenants.mutating.projectcapsule.dev", "/tenants/mutating"),
                ("tenants.validating.projectcapsule.dev", "/tenants/validating"),
                ("owners.validating.projectcapsule.dev", "/tenantowners/validating"),
                ("config.validating.projectcapsule.dev", "/config/validating"),
                ("cordoning.validating.projectcapsule.dev", "/generic/cordoning"),
                ("pvc.mutating.projectcapsule.dev", "/persistentvolumeclaims/mutating"),
                ("storage.mutating.projectcapsule.dev", "/defaults"),
                (
                    "pvc.validating.projectcapsule.dev",
                    "/persistentvolumeclaims/validating"
                ),
                ("ingress.mutating.projectcapsule.dev", "/defaults"),
                ("ingress.validating.projectcapsule.dev", "/ingresses/validating"),
                ("pod.mutating.projectcapsule.dev", "/defaults"),
                ("pods.validating.projectcapsule.dev", "/pods/validating"),
                ("reports.pods.validating.projectcapsule.dev", "/pods/reports/validating"),
                (
                    "bindings.pods.validating.projectcapsule.dev",
                    "/pods/bindings/validating"
                ),
                ("services.validating.projectcapsule.dev", "/services/validating"),
                ("gateway.mutating.projectcapsule.dev", "/defaults"),
                ("gateway.validating.projectcapsule.dev", "/gateways/validating"),
                ("devices.validating.projectcapsule.dev", "/devices/validating"),
                ("nodes.validating.projectcapsule.dev", "/nodes/validating"),
                (
                    "serviceaccounts.validating.projectcapsule.dev",
                    "/serviceaccounts/validating"
                ),
                ("generic.rules.mutating.projectcapsule.dev", "/rules/generic/mutating"),
                (
                    "generic.rules.validating.projectcapsule.dev",
                    "/rules/generic/validating"
                ),
                ("rulestatus.validating.projectcapsule.dev", "/rulestatus/validating"),
                ("resourcepools.mutating.projectcapsule.dev", "/resourcepools/mutating"),
                (
                    "resourcepools.validating.projectcapsule.dev",
                    "/resourcepools/validating"
                ),
                (
                    "resourcepoolclaims.mutating.projectcapsule.dev",
                    "/resourcepools/claim/mutating"
                ),
                (
                    "resourcepoolclaims.validating.projectcapsule.dev",
                    "/resourcepools/claim/validating"
                ),
                (
                    "globalresourcequotas.validating.projectcapsule.dev",
                    "/global-resource-quotas/validating"
                ),
                (
                    "calculation.global-resource-quotas.validating.projectcapsule.dev",
                    "/global-resource-quotas/calculations"
                ),
                (
                    "calculation.tenant-quotas.validating.cotenant.dev",
                    "/tenant-quotas/calculations"
                ),
                (
                    "calculation.custom-quotas.validating.projectcapsule.dev",
                    "/custom-quotas/calculations"
                ),
                (
                    "namespaced.custom-quotas.validating.projectcapsule.dev",
                    "/custom-quotas/namespaced/validating"
                ),
                (
                    "cluster.custom-quotas.validating.projectcapsule.dev",
                    "/custom-quotas/cluster/validating"
                ),
                ("replications.validating.projectcapsule.dev", "/generic/replications"),
                (
                    "scales.replications.validating.projectcapsule.dev",
                    "/generic/replications/scales"
                ),
                (
                    "mtenantcontrolplane.kb.io",
                    "/mutate-kamaji-clastix-io-v1alpha1-tenantcontrolplane"
                ),
                (
                    "vtenantcontrolplane.kb.io",
                    "/validate-kamaji-clastix-io-v1alpha1-tenantcontrolplane"
                ),
                ("vdatastore.kb.io", "/validate-kamaji-clastix-io-v1alpha1-datastore"),
            ]
        );
    }

    /// Whether every condition of this rule about kinds asks about an object of this group, plural and name. What is sent stands
    /// below `object`, since that is all that expressions of quotas know.
    fn asks(rule: &str, group: &str, plural: &str, name: &str) -> bool {
        let rule = RULES.iter().find(|it| it.name == rule).unwrap();
        let sent = json!({"resource": {"group": group, "resource": plural}, "metadata": {"name": name}});
        rule.conditions.iter().all(|condition| match condition {
            Condition::Expression {
                name: "ignore-upkeep" | "ignore-events",
                expression,
            } => {
                let expression = expression.replace("request.resource.", "object.resource.");
                expressions::cel::Condition::new(&expression)
                    .unwrap()
                    .matches(&sent)
                    .unwrap()
            }
            _ => true,
        })
    }

    #[test]
    fn upkeep_is_told_by_its_group_and_counts_where_quotas_limit_it() {
        let upkeep = [
            ("", "events", "a"),
            ("events.k8s.io", "events", "a"),
            ("coordination.k8s.io", "leases", "a"),
            ("", "endpoints", "a"),
            ("discovery.k8s.io", "endpointslices", "a"),
            ("", "configmaps", "kube-root-ca.crt"),
            ("", "serviceaccounts", "default"),
        ];
        let generic = [
            "generic.rules.mutating.projectcapsule.dev",
            "generic.rules.validating.projectcapsule.dev",
        ];
        for (group, plural, name) in upkeep {
            for rule in generic {
                assert!(!asks(rule, group, plural, name), "{rule}: {group}/{plural}");
                assert!(asks(rule, "example.com", plural, name), "{rule}: {plural}");
            }
            for rule in [GLOBAL_QUOTAS.name, TENANT_QUOTAS.name] {
                assert!(asks(rule, group, plural, name), "{rule}: {group}/{plural}");
            }
        }
        for rule in generic {
            assert!(asks(rule, "", "configmaps", "settings"), "{rule}");
        }
        let cordoning = "cordoning.validating.projectcapsule.dev";
        assert!(!asks(cordoning, "", "events", "a") && !asks(cordoning, "events.k8s.io", "events", "a"));
        assert!(asks(cordoning, "example.com", "events", "a"));
    }

    #[test]
    fn no_rule_stands_before_pods_of_which_nothing_is_asked_or_before_namespaces_of_nobody() {
        for rule in RULES {
            for target in rule.targets {
                let is_asked_for = rule.namespaces.iter().any(|r| matches!(r, Requirement::In(_, _)));
                assert!(!target.resources.contains(&"pods") || is_asked_for, "{}", rule.name);
                let is_catch_all = target
                    .resources
                    .iter()
                    .any(|resource| matches!(*resource, "*" | "*/*" | "*/status"));
                let is_in =
                    |requirements: &[Requirement]| requirements.iter().any(|r| matches!(r, Requirement::In(_, _)));
                let is_narrow = is_in(rule.namespaces) || is_in(rule.objects);
                let is_opted_in = !(rule.wanted)(&api::capsule::v1beta2::CapsuleConfigurationSpec::default());
                assert!(
                    !is_catch_all || is_narrow || is_opted_in,
                    "{} would meet every write of a tenant",
                    rule.name
                );
                let is_ours = target.groups.iter().all(|group| group.ends_with("clastix.io"));
                // Or what the operator itself has marked.
                let is_in_tenants = !rule.namespaces.is_empty() || !rule.objects.is_empty();
                let is_about_namespaces = target.resources.contains(&"namespaces");
                assert!(
                    is_ours || is_in_tenants || is_about_namespaces || is_opted_in,
                    "{} would meet namespaces of nobody",
                    rule.name
                );
            }
        }
    }
}
