//! Rules, compiled once for all the requests that they are asked about.

use api::capsule::v1beta2::{Enforcement, IngressKind, RuleAction};

use super::{
    audience::{CompiledAudience, Interest, Requester},
    body::Body,
    finding::Mode,
    images::ImageRules,
    matching::{Expression, Name},
    metadata::MetadataPolicy,
    ranges::{AddressRanges, Ports},
    resources::ResourcePolicies,
};
use crate::pattern::Cache;

/// The rules that hold in a namespace, ready to be asked.
///
/// Compiling never fails: an item that cannot be compiled is kept as such, and is closed for what it guards.
#[derive(Clone, Debug)]
pub struct CompiledRules {
    /// Name of the Tenant that they are of, for the sentence that says who set a limit.
    tenant: Box<str>,
    mode: Mode,
    blocks: Vec<Block>,
}

impl CompiledRules {
    /// Compiles rules of the Tenant of this name. `patterns` shares equal patterns among all who use it.
    pub fn new(tenant: &str, mode: Mode, bodies: &[Body], patterns: &mut Cache) -> Self {
        Self {
            tenant: tenant.into(),
            mode,
            blocks: bodies.iter().map(|body| Block::new(body, patterns)).collect(),
        }
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// The rules that look at this requester, in order.
    pub(super) fn looking_at<'r>(&'r self, requester: &Requester<'_>) -> Applicable<'r> {
        let blocks = self.blocks.iter().filter_map(|block| {
            let interest = block.audience.interest(requester);
            (interest != Interest::No).then_some(Held {
                block,
                is_clear: interest == Interest::Yes,
            })
        });
        Applicable {
            tenant: &self.tenant,
            blocks: blocks.collect(),
        }
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) index: usize,
    pub(super) action: RuleAction,
    audience: CompiledAudience,
    pub(super) hostname_kinds: Vec<IngressKind>,
    pub(super) hostnames: Vec<Expression>,
    pub(super) metadata: Vec<MetadataPolicy>,
    pub(super) service_types: Vec<Name>,
    /// One item or none: the ranges of a rule are one item together.
    pub(super) load_balancers: Option<AddressRanges>,
    pub(super) external_names: Vec<Expression>,
    pub(super) node_ports: Vec<Ports>,
    pub(super) images: ImageRules,
    pub(super) schedulers: Vec<Expression>,
    pub(super) qos_classes: Vec<Name>,
    pub(super) resources: Option<ResourcePolicies>,
}

impl Block {
    fn new(body: &Body, patterns: &mut Cache) -> Self {
        let Enforcement {
            action,
            ingress,
            metadata,
            services,
            workloads,
        } = &body.enforce;
        let ingress = ingress.as_ref();
        let services = services.as_ref();
        let workloads = workloads.as_ref();
        let load_balancers = services.and_then(|services| services.load_balancers.as_ref());
        let external_names = services.and_then(|services| services.external_names.as_ref());
        let node_ports = services.and_then(|services| services.node_ports.as_ref());
        let resources = workloads.and_then(|workloads| workloads.resources.as_ref());
        let schedulers = workloads.iter().flat_map(|workloads| &workloads.schedulers);
        let qos_classes = workloads.iter().flat_map(|workloads| &workloads.qos_classes);
        Self {
            index: body.index,
            action: *action,
            audience: CompiledAudience::new(&body.audience),
            hostname_kinds: ingress.map(|ingress| ingress.types.clone()).unwrap_or_default(),
            hostnames: ingress
                .iter()
                .flat_map(|ingress| &ingress.hostnames)
                .map(|source| Expression::of_names(source, patterns))
                .collect(),
            metadata: metadata
                .iter()
                .map(|source| MetadataPolicy::new(source, patterns))
                .collect(),
            service_types: services
                .iter()
                .flat_map(|services| &services.types)
                .map(|kind| Name(super::services::type_name(*kind).into()))
                .collect(),
            load_balancers: load_balancers
                .filter(|rule| !rule.cidrs.is_empty())
                .map(|rule| AddressRanges::new(&rule.cidrs, *action)),
            external_names: external_names
                .iter()
                .flat_map(|rule| &rule.hostnames)
                .map(|source| Expression::of_names(source, patterns))
                .collect(),
            node_ports: node_ports
                .iter()
                .flat_map(|rule| &rule.ports)
                .map(|range| Ports::new(*range))
                .collect(),
            images: workloads
                .map(|workloads| ImageRules::new(workloads, patterns))
                .unwrap_or_default(),
            schedulers: schedulers.map(|source| Expression::of(source, patterns)).collect(),
            qos_classes: qos_classes.map(|class| Name(class.trim().into())).collect(),
            resources: resources.map(|rules| ResourcePolicies::new(rules, workloads)),
        }
    }
}

/// A rule that looks at the requester.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'r> {
    pub(super) block: &'r Block,
    /// Whether the rule means the requester for certain. If not, it restricts and frees nobody.
    pub(super) is_clear: bool,
}

/// The rules that look at one requester.
#[derive(Debug)]
pub(super) struct Applicable<'r> {
    tenant: &'r str,
    pub(super) blocks: Vec<Held<'r>>,
}

impl<'r> Applicable<'r> {
    /// The rules that have something of this sort, each with it.
    pub(super) fn lists<I: 'r>(
        &self,
        of: impl Fn(&'r Block) -> &'r [I] + Copy,
    ) -> impl Iterator<Item = (Held<'r>, &'r [I])> + Clone {
        let lists = self.blocks.iter().map(move |held| (*held, of(held.block)));
        lists.filter(|(_, items)| !items.is_empty())
    }

    /// Who set the rules with these indexes.
    pub(super) fn set_by(&self, indexes: &[usize]) -> String {
        let mut rules: Vec<_> = indexes
            .iter()
            .take(10)
            .map(|index| format!("spec.rules[{index}]"))
            .collect();
        if indexes.len() > 10 {
            rules.push(format!("{} more", indexes.len() - 10));
        }
        let rules = rules.join(", ");
        format!("an administrator set this with {rules} of the Tenant {:?}", self.tenant)
    }
}
