//! Services: their type, and what each type opens.

use api::capsule::v1beta2::{RuleAction, ServiceType};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{
    compiled::{Applicable, Block, Held},
    evaluate::evaluate,
    finding::{Findings, Set, Subject},
    matching::canonical_name,
};
use crate::denial::Denial;

const TYPE: Set = Set {
    name: "service type",
    allowed: "Allowed types",
    reason: "ForbiddenServiceType",
};
const LOAD_BALANCER: Set = Set {
    name: "loadBalancer CIDR",
    allowed: "Allowed CIDRs",
    reason: "ForbiddenLoadBalancerCIDR",
};
const EXTERNAL_NAME: Set = Set {
    name: "externalName hostname",
    allowed: "Allowed hostnames",
    reason: "ForbiddenExternalName",
};
const NODE_PORT: Set = Set {
    name: "nodePort",
    allowed: "Allowed ports",
    reason: "ForbiddenNodePort",
};

/// Source ranges as they were written before `spec.loadBalancerSourceRanges` existed. Read where that is empty.
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// The type as Services name it.
pub(super) fn type_name(kind: ServiceType) -> &'static str {
    match kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName => "ExternalName",
    }
}

/// Refuses a Service that the rules do not allow.
pub(super) fn validate(findings: &mut Findings, rules: &Applicable<'_>, service: &Service) -> Result<(), Denial> {
    let unset = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&unset);
    let kind = match spec.type_.as_deref() {
        None | Some("") => type_name(ServiceType::ClusterIP),
        Some(kind) => kind,
    };
    let subject = Subject::at(&TYPE, kind, &"spec.type");
    let types = rules.lists(|block| block.service_types.as_slice());
    evaluate(findings, rules, &subject, kind, types)?;
    match kind {
        "LoadBalancer" => {
            load_balancer(findings, rules, service, spec)?;
            node_ports(
                findings,
                rules,
                spec,
                spec.allocate_load_balancer_node_ports != Some(false),
            )
        }
        "ExternalName" => external_name(findings, rules, spec),
        "NodePort" => node_ports(findings, rules, spec, true),
        _ => Ok(()),
    }
}

fn load_balancer(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    service: &Service,
    spec: &ServiceSpec,
) -> Result<(), Denial> {
    let lists = rules.lists(|block: &Block| block.load_balancers.as_slice());
    if lists.clone().next().is_none() {
        return Ok(());
    }
    let address = spec.load_balancer_ip.as_deref().unwrap_or_default();
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let is_explicit = !address.trim().is_empty() || ranges.iter().any(|range| !range.trim().is_empty());
    if !is_explicit {
        let subject = Subject::at(&LOAD_BALANCER, "", &"spec.loadBalancerSourceRanges");
        let message = "a Service of type LoadBalancer requires an explicit spec.loadBalancerIP or \
                       spec.loadBalancerSourceRanges because loadBalancer CIDR rules hold in this namespace";
        missing(findings, rules, &subject, lists.clone(), message)?;
    }
    let address = std::iter::once(("spec.loadBalancerIP".to_owned(), address));
    let ranges = ranges.iter().enumerate();
    let ranges = ranges.map(|(index, range)| (format!("spec.loadBalancerSourceRanges[{index}]"), range.as_str()));
    let values: Vec<_> = address.chain(ranges).chain(annotated_ranges(service, spec)).collect();
    for (path, value) in &values {
        let value = value.trim();
        if !value.is_empty() {
            let subject = Subject::at(&LOAD_BALANCER, value, path);
            evaluate(findings, rules, &subject, value, lists.clone())?;
        }
    }
    Ok(())
}

fn annotated_ranges<'a>(service: &'a Service, spec: &ServiceSpec) -> impl Iterator<Item = (String, &'a str)> + use<'a> {
    let is_read = spec.load_balancer_source_ranges.as_ref().is_none_or(Vec::is_empty);
    let annotations = service.metadata.annotations.as_ref().filter(|_| is_read);
    let text = annotations.and_then(|annotations| annotations.get(SOURCE_RANGES_ANNOTATION));
    let ranges = text.into_iter().flat_map(|text| text.split(','));
    ranges.map(|range| (format!("metadata.annotations[{SOURCE_RANGES_ANNOTATION:?}]"), range))
}

fn external_name(findings: &mut Findings, rules: &Applicable<'_>, spec: &ServiceSpec) -> Result<(), Denial> {
    let name = spec.external_name.as_deref().unwrap_or_default().trim();
    let canonical = canonical_name(name);
    if canonical.is_empty() {
        return Ok(());
    }
    let subject = Subject::at(&EXTERNAL_NAME, name, &"spec.externalName");
    let lists = rules.lists(|block| block.external_names.as_slice());
    evaluate(findings, rules, &subject, canonical.as_ref(), lists)?;
    Ok(())
}

/// Ports that are named are looked at always; those that are not would be chosen by the cluster, from anywhere.
fn node_ports(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    spec: &ServiceSpec,
    is_allocated: bool,
) -> Result<(), Denial> {
    let lists = rules.lists(|block| block.node_ports.as_slice());
    if lists.clone().next().is_none() {
        return Ok(());
    }
    let ports = spec.ports.as_deref().unwrap_or_default().iter().enumerate();
    let ports: Vec<_> = ports
        .map(|(index, port)| (index, port.node_port.unwrap_or(0)))
        .collect();
    if is_allocated && let Some((index, _)) = ports.iter().find(|(_, port)| *port == 0) {
        let path = format!("spec.ports[{index}].nodePort");
        let subject = Subject::at(&NODE_PORT, "", &path);
        let message = format!(
            "a Service that opens ports on nodes requires explicit spec.ports[*].nodePort because nodePort rules hold in \
             this namespace, and {path} is not set"
        );
        missing(findings, rules, &subject, lists.clone(), &message)?;
    }
    for (index, port) in ports.into_iter().filter(|(_, port)| *port != 0) {
        let (path, text) = (format!("spec.ports[{index}].nodePort"), port.to_string());
        let subject = Subject::at(&NODE_PORT, &text, &path);
        evaluate(findings, rules, &subject, &port, lists.clone())?;
    }
    Ok(())
}

/// A value that rules want to look at is not there. Rules that only record, record that.
fn missing<'r, I: 'r>(
    findings: &mut Findings,
    rules: &Applicable<'r>,
    subject: &Subject<'_>,
    lists: impl Iterator<Item = (Held<'r>, &'r [I])> + Clone,
    message: &str,
) -> Result<(), Denial> {
    let deciding = lists.clone().filter(|(held, _)| held.block.action != RuleAction::Audit);
    let deciding: Vec<_> = deciding.map(|(held, _)| held.block.index).collect();
    if deciding.is_empty() {
        let all: Vec<_> = lists.map(|(held, _)| held.block.index).collect();
        findings.audit(subject, || format!("{message}; {}", rules.set_by(&all)));
        return Ok(());
    }
    findings.refuse(subject, format!("{message}; {}", rules.set_by(&deciding)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixtures::{refusal, refused, rules, service, validate_service};
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::no_type_is_cluster_ip(json!({}), Some("spec.type"))]
    #[case::denied(json!({"type": "ClusterIP"}), Some("spec.type"))]
    #[case::another(json!({"type": "NodePort"}), None)]
    fn types_are_looked_at(#[case] spec: Value, #[case] expected: Option<&str>) {
        let outcome = validate_service(&rules(json!([{"services": {"types": ["ClusterIP"]}}])), &service(spec));
        assert_eq!(refused(&outcome), expected);
    }

    #[test]
    fn a_refused_type_says_what_is_allowed() {
        let list = json!([{"action": "allow", "services": {"types": ["ClusterIP", "NodePort"]}}]);
        let outcome = validate_service(&rules(list), &service(json!({"type": "LoadBalancer"})));
        assert_eq!(
            refusal(&outcome),
            Some((
                "spec.type",
                "service type \"LoadBalancer\" at spec.type is not allowed by namespace rule: value did not match any \
                 allowed rule. Allowed types: \"ClusterIP\", \"NodePort\"; an administrator set this with spec.rules[0] of the \
                 Tenant \"oil\""
            ))
        );
    }

    fn cidrs(action: &str) -> Value {
        json!([{"action": action, "services": {"loadBalancers": {"cidrs": ["10.0.0.0/8", "192.0.2.1"]}}}])
    }

    const IP: &str = "spec.loadBalancerIP";

    #[rstest]
    #[case::an_address("allow", json!({"loadBalancerIP": "10.1.2.3"}), None)]
    #[case::another_address("allow", json!({"loadBalancerIP": "11.1.2.3"}), Some(IP))]
    #[case::an_address_that_is_none("allow", json!({"loadBalancerIP": "ten"}), Some(IP))]
    #[case::ranges("allow", json!({"loadBalancerSourceRanges": ["10.1.0.0/16", "192.0.2.1/32"]}), None)]
    #[case::a_wider_range("allow", json!({"loadBalancerSourceRanges": ["10.1.0.0/16", "0.0.0.0/0"]}), Some("spec.loadBalancerSourceRanges[1]"))]
    #[case::a_denied_address("deny", json!({"loadBalancerIP": "10.1.2.3"}), Some(IP))]
    #[case::a_range_around_a_denied_one("deny", json!({"loadBalancerSourceRanges": ["0.0.0.0/0"]}), Some("spec.loadBalancerSourceRanges[0]"))]
    #[case::an_address_that_is_none_is_denied("deny", json!({"loadBalancerIP": "ten"}), Some(IP))]
    #[case::not_denied("deny", json!({"loadBalancerIP": "11.1.2.3"}), None)]
    #[case::neither_with_an_allow_rule("allow", json!({}), Some("spec.loadBalancerSourceRanges"))]
    #[case::neither_with_a_deny_rule("deny", json!({}), Some("spec.loadBalancerSourceRanges"))]
    #[case::neither_with_an_audit_rule("audit", json!({}), None)]
    fn load_balancers_are_looked_at(#[case] action: &str, #[case] spec: Value, #[case] expected: Option<&str>) {
        let mut spec = spec;
        spec["type"] = json!("LoadBalancer");
        let outcome = validate_service(&rules(cidrs(action)), &service(spec.clone()));
        assert_eq!(refused(&outcome), expected);
        // Other types have no load balancer.
        spec["type"] = json!("ClusterIP");
        assert!(validate_service(&rules(cidrs(action)), &service(spec)).is_allowed());
    }

    #[test]
    fn ranges_in_the_annotation_are_looked_at_where_they_count() {
        let mut balancer = service(json!({"type": "LoadBalancer", "loadBalancerIP": "10.0.0.1"}));
        balancer.metadata.annotations =
            Some([(SOURCE_RANGES_ANNOTATION.to_owned(), "10.0.0.0/9, 0.0.0.0/0".to_owned())].into());
        let outcome = validate_service(&rules(cidrs("allow")), &balancer);
        assert_eq!(
            refused(&outcome),
            Some("metadata.annotations[\"service.beta.kubernetes.io/load-balancer-source-ranges\"]")
        );
        balancer.spec.get_or_insert_default().load_balancer_source_ranges = Some(vec!["10.0.0.0/9".into()]);
        assert!(validate_service(&rules(cidrs("allow")), &balancer).is_allowed());
    }

    #[test]
    fn what_only_records_records_a_load_balancer_for_all() {
        let outcome = validate_service(&rules(cidrs("audit")), &service(json!({"type": "LoadBalancer"})));
        assert_eq!(outcome.audits.len(), 1);
        let range = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["0.0.0.0/0"]});
        assert_eq!(
            validate_service(&rules(cidrs("audit")), &service(range)).audits.len(),
            1
        );
    }

    #[rstest]
    #[case::allowed("ExternalName", " api.example.com ", None)]
    #[case::another("ExternalName", "evil.example", Some("spec.externalName"))]
    #[case::empty("ExternalName", "", None)]
    #[case::of_another_type("ClusterIP", "evil.example", None)]
    fn external_names_are_looked_at(#[case] kind: &str, #[case] name: &str, #[case] expected: Option<&str>) {
        let list =
            json!([{"action": "allow", "services": {"externalNames": {"hostnames": [{"exp": r"\.example\.com$"}]}}}]);
        let outcome = validate_service(&rules(list), &service(json!({"type": kind, "externalName": name})));
        assert_eq!(refused(&outcome), expected);
    }

    #[test]
    fn a_denied_name_is_denied_in_every_spelling() {
        let list = json!([{"services": {"externalNames": {"hostnames": [{"exact": ["metadata.internal"]}]}}}]);
        let named = service(json!({"type": "ExternalName", "externalName": "Metadata.internal."}));
        assert_eq!(
            refused(&validate_service(&rules(list), &named)),
            Some("spec.externalName")
        );
    }

    fn ports(action: &str) -> Value {
        json!([{"action": action, "services": {"nodePorts": {"ports": [{"from": 30000, "to": 30010}, {"from": 31000, "to": 31000}]}}}])
    }

    const PORT: Option<&str> = Some("spec.ports[0].nodePort");

    #[rstest]
    #[case::allowed("allow", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30000}, {"port": 2, "nodePort": 31000}]}), None)]
    #[case::outside("allow", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30011}]}), PORT)]
    #[case::denied("deny", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30010}]}), PORT)]
    #[case::chosen_by_the_cluster("allow", json!({"type": "NodePort", "ports": [{"port": 1}]}), PORT)]
    #[case::one_of_them_chosen_by_the_cluster("allow", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30000}, {"port": 2}]}), Some("spec.ports[1].nodePort"))]
    #[case::chosen_by_the_cluster_with_a_deny_rule("deny", json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 0}]}), PORT)]
    #[case::chosen_by_the_cluster_with_an_audit_rule("audit", json!({"type": "NodePort", "ports": [{"port": 1}]}), None)]
    #[case::of_a_load_balancer("allow", json!({"type": "LoadBalancer", "ports": [{"port": 1}]}), PORT)]
    #[case::of_a_load_balancer_that_has_none("allow", json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}), None)]
    #[case::named_all_the_same("allow", json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1, "nodePort": 32000}]}), PORT)]
    #[case::cluster_ip("allow", json!({"type": "ClusterIP", "ports": [{"port": 1}]}), None)]
    fn node_ports_are_looked_at(#[case] action: &str, #[case] spec: Value, #[case] expected: Option<&str>) {
        assert_eq!(
            refused(&validate_service(&rules(ports(action)), &service(spec))),
            expected
        );
    }

    #[test]
    fn a_node_port_is_named_in_the_refusal() {
        let spec = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 32000}]});
        assert_eq!(
            refusal(&validate_service(&rules(ports("allow")), &service(spec)))
                .unwrap()
                .1,
            "nodePort \"32000\" at spec.ports[0].nodePort is not allowed by namespace rule: value did not match any allowed \
             rule. Allowed ports: 30000-30010, 31000-31000; an administrator set this with spec.rules[0] of the Tenant \"oil\""
        );
    }

    #[test]
    fn types_come_before_what_a_type_opens() {
        let list = json!([{"services": {"types": ["NodePort"], "nodePorts": {"ports": [{"from": 1, "to": 65535}]}}}]);
        let spec = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 32000}]});
        assert_eq!(
            refused(&validate_service(&rules(list), &service(spec))),
            Some("spec.type")
        );
    }
}
