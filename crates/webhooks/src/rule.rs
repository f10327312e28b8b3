//! A rule: one row of the table that decides what the API server asks us, and what we answer.
//!
//! Everything about a webhook is in its row. The webhook configurations ([`crate::configurations`]), the router
//! ([`crate::router`]) and the test that no row is forgotten are made from it, so a hook that is registered but not
//! answered, or answered but not registered, cannot exist.

use api::capsule::v1beta2::CapsuleConfigurationSpec;

use crate::decide::Decide;
use crate::review::{Operation, Request};

/// One webhook.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Full name in the webhook configuration.
    pub name: &'static str,
    /// Path on our server. Several rows may share one; the first whose targets hold the request answers.
    pub path: &'static str,
    pub phase: Phase,
    pub component: Component,
    pub targets: &'static [Target],
    /// Which namespaces, by their labels. For Namespace objects the labels are their own.
    pub namespaces: &'static [Requirement],
    /// Which objects, by their labels (the old or the new object has to match).
    pub objects: &'static [Requirement],
    /// All must hold, evaluated inside the API server.
    pub conditions: &'static [Condition],
    /// Whether it is registered, by the configuration in force.
    pub wanted: fn(&CapsuleConfigurationSpec) -> bool,
    pub failure: Failure,
    pub side_effects: SideEffects,
    /// Facts to collect before the decision, which itself reads nothing.
    pub needs: &'static [Need],
    pub decide: Decide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Mutating,
    Validating,
}

/// The half of the product that a rule belongs to; a process may run one of them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    NamespaceTenants,
    ControlPlanes,
}

impl Component {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamespaceTenants => "namespace-tenants",
            Self::ControlPlanes => "control-planes",
        }
    }
}

/// Resources and what is done to them. `*` means what it means to Kubernetes.
#[derive(Debug)]
pub struct Target {
    pub groups: &'static [&'static str],
    pub versions: &'static [&'static str],
    /// `pods`, `pods/status`, `*`, `*/*`.
    pub resources: &'static [&'static str],
    pub operations: &'static [Operation],
    pub scope: Scope,
}

impl Target {
    /// Whether the request, as converted for us, is one of these.
    pub fn holds(&self, request: &Request) -> bool {
        let any = |list: &[&str], value: &str| list.iter().any(|item| *item == "*" || *item == value);
        let sub_resource = request.sub_resource.as_deref().unwrap_or_default();
        any(self.groups, &request.resource.group)
            && any(self.versions, &request.resource.version)
            && self.operations.contains(&request.operation)
            && self.resources.iter().any(|pattern| {
                let (resource, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
                (resource == "*" || resource == request.resource.resource) && (sub == "*" || sub == sub_resource)
            })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
    Any,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Namespaced => "Namespaced",
            Self::Any => "*",
        }
    }
}

/// One requirement of a label selector.
#[derive(Clone, Copy, Debug)]
pub enum Requirement {
    Exists(&'static str),
    In(&'static str, &'static [&'static str]),
}

/// A match condition.
#[derive(Clone, Copy, Debug)]
pub enum Condition {
    /// The caller is none of the parts that a cluster needs to keep going, and not this program: no outage of ours
    /// may hold them up. See [`crate::configurations`] for the list.
    NotTheClusterItself,
    /// The caller is not this program. The parts of the cluster are asked about: pods of tenants are made by them.
    NotOurselves,
    /// The caller is not an all-powerful administrator, or the namespace belongs (or would belong) to a tenant. Keeps
    /// the administrators' own namespaces out of reach of an outage.
    TenantMatter,
    /// Said in CEL.
    Expression {
        name: &'static str,
        expression: &'static str,
    },
}

/// What the API server does when we do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Refuses.
    Closed,
    /// Lets pass; the row says why that is right.
    Open { because: &'static str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffects {
    None,
    /// Something is remembered (a reservation), but never for a dry run.
    NoneOnDryRun,
}

/// A fact that no watch of ours holds, or that a watch may hold too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The tenants that the namespace in question names, read live when our watch does not know them yet.
    TenantOfNamespace,
    /// The number of namespaces of the tenant that a new namespace names, and a place in its quota, if there is one. Comes
    /// after all that the rule needs besides.
    NamespaceCount,
    /// The volume that a claim names.
    NamedVolume,
    /// The class that a Gateway names.
    GatewayClass,
    /// The classes that a claim of devices asks for.
    DeviceClasses,
    /// The pool that a claim without one is given.
    PoolOfClaim,
    /// How many claims there are where one is made, and whether the end of one in use is part of a larger end.
    ClaimsBeside,
    /// That all Ingresses are known, where the tenant's hostnames are to be unique.
    Hostnames,
    /// The rules that hold in the namespace in question.
    Rules,
    /// A promise of what the request takes, by each GlobalResourceQuota that is about it.
    GlobalQuotas,
    /// A promise of what the request takes, by each budget that the tenant's namespaces share.
    TenantQuotas,
    /// What is taken of the GlobalResourceQuota that is changed.
    TakenOfGlobalQuota,
    /// What is taken of the quotas of a tenant's rules.
    TakenOfRuleQuotas,
    /// That the custom quotas that count the object have room for it, and hold it.
    CustomQuotas,
    /// The Secrets of the control plane in question, and the node ports that are taken.
    SurroundingsOfControlPlane,
}

impl Rule {
    pub fn holds(&self, request: &Request) -> bool {
        self.targets.iter().any(|target| target.holds(request))
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
