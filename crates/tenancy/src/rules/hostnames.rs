//! Hostnames that Ingresses, routes, gateways and sets of listeners claim.

use api::capsule::v1beta2::{IngressKind, RuleAction};
use serde_json::Value;

use super::{
    admission::ObjectType,
    compiled::Applicable,
    evaluate::evaluate,
    finding::{Findings, Set, Subject},
    matching::canonical_name,
};
use crate::denial::Denial;

const HOSTNAME: Set = Set {
    name: "ingress hostname",
    allowed: "Allowed hostnames",
    reason: "ForbiddenIngressHostname",
};

/// Groups and kinds of the objects that claim hostnames, in any version. The last row is the experimental form of a
/// ListenerSet, which claims the same hostnames.
const KINDS: [(&str, &str, IngressKind); 9] = [
    ("networking.k8s.io", "Ingress", IngressKind::Ingress),
    ("extensions", "Ingress", IngressKind::Ingress),
    ("route.openshift.io", "Route", IngressKind::Route),
    ("gateway.networking.k8s.io", "HTTPRoute", IngressKind::HTTPRoute),
    ("gateway.networking.k8s.io", "TLSRoute", IngressKind::TLSRoute),
    ("gateway.networking.k8s.io", "GRPCRoute", IngressKind::GRPCRoute),
    ("gateway.networking.k8s.io", "Gateway", IngressKind::Gateway),
    ("gateway.networking.k8s.io", "ListenerSet", IngressKind::ListenerSet),
    ("gateway.networking.x-k8s.io", "XListenerSet", IngressKind::ListenerSet),
];

/// The kind as rules name it, if objects of this type claim hostnames.
pub(super) fn kind(object: &ObjectType<'_>) -> Option<IngressKind> {
    let row = KINDS
        .iter()
        .find(|(group, kind, _)| *group == object.group && *kind == object.kind);
    row.map(|(_, _, kind)| *kind)
}

/// A place for a hostname, and what stands there: nothing, if it is empty or no text.
#[derive(Debug, PartialEq, Eq)]
struct Slot<'a> {
    path: String,
    hostname: &'a str,
}

/// Refuses hostnames that the rules do not allow. `object` is the whole object, or as much of it as has `spec`.
pub(super) fn validate(
    findings: &mut Findings,
    rules: &Applicable<'_>,
    kind: IngressKind,
    object: &Value,
) -> Result<(), Denial> {
    let lists = rules
        .lists(|block| block.hostnames.as_slice())
        .filter(|(held, _)| held.block.hostname_kinds.contains(&kind));
    let targeting: Vec<_> = lists.clone().map(|(held, _)| held.block).collect();
    if targeting.is_empty() {
        return Ok(());
    }
    for slot in slots(kind, object) {
        let subject = Subject::at(&HOSTNAME, slot.hostname, &slot.path);
        let canonical = canonical_name(slot.hostname);
        if !canonical.is_empty() {
            evaluate(findings, rules, &subject, canonical.as_ref(), lists.clone())?;
            continue;
        }
        let deciding = targeting.iter().filter(|block| block.action != RuleAction::Audit);
        let mut deciding: Vec<_> = deciding.map(|block| block.index).collect();
        let is_audit_only = deciding.is_empty();
        if is_audit_only {
            deciding.extend(targeting.iter().map(|block| block.index));
        }
        let message = format!(
            "hostname is required at {} because hostname rules target {kind:?}: without one the object stands for every \
             hostname; {}",
            slot.path,
            rules.set_by(&deciding)
        );
        if is_audit_only {
            findings.audit(&subject, || message);
        } else {
            findings.refuse(&subject, message)?;
        }
    }
    Ok(())
}

fn slots(kind: IngressKind, object: &Value) -> Vec<Slot<'_>> {
    let spec = &object["spec"];
    let mut slots = match kind {
        IngressKind::Ingress => of_ingress(spec),
        IngressKind::Route => vec![slot("spec.host".to_owned(), &spec["host"])],
        IngressKind::Gateway | IngressKind::ListenerSet => {
            each(&spec["listeners"], "spec.listeners", |listener, path| {
                slot(format!("{path}.hostname"), &listener["hostname"])
            })
        }
        IngressKind::HTTPRoute | IngressKind::TLSRoute | IngressKind::GRPCRoute => {
            each(&spec["hostnames"], "spec.hostnames", |hostname, path| {
                slot(path, hostname)
            })
        }
    };
    if slots.is_empty() {
        let path = match kind {
            IngressKind::Gateway | IngressKind::ListenerSet => "spec.listeners[].hostname",
            _ => "spec.hostnames[]",
        };
        slots.push(slot(path.to_owned(), &Value::Null));
    }
    slots
}

/// Certificates without a rule leave the default backend, which serves every hostname.
fn of_ingress(spec: &Value) -> Vec<Slot<'_>> {
    let mut slots = each(&spec["rules"], "spec.rules", |rule, path| {
        slot(format!("{path}.host"), &rule["host"])
    });
    if slots.is_empty() {
        slots.push(slot("spec.rules[].host".to_owned(), &Value::Null));
    }
    for (index, certificate) in items(&spec["tls"]).iter().enumerate() {
        let path = format!("spec.tls[{index}].hosts");
        slots.extend(each(&certificate["hosts"], &path, |host, path| slot(path, host)));
    }
    slots
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn each<'a>(list: &'a Value, path: &str, of: impl Fn(&'a Value, String) -> Slot<'a>) -> Vec<Slot<'a>> {
    let items = items(list).iter().enumerate();
    items
        .map(|(index, item)| of(item, format!("{path}[{index}]")))
        .collect()
}

fn slot(path: String, value: &Value) -> Slot<'_> {
    Slot {
        path,
        hostname: value.as_str().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixtures::{refusal, refused, rules, validate_json};
    use rstest::rstest;
    use serde_json::json;

    fn object(group: &'static str, kind: &'static str) -> ObjectType<'static> {
        ObjectType {
            group,
            version: "v1",
            kind,
        }
    }

    const INGRESS: (&str, &str) = ("networking.k8s.io", "Ingress");
    const GATEWAY_API: &str = "gateway.networking.k8s.io";

    /// All kinds, one action, names that end in `.oil.example`.
    fn hostname_rules(action: &str) -> Value {
        json!([{"action": action, "ingress": {
            "types": ["Ingress", "Route", "ListenerSet", "HTTPRoute", "Gateway", "TLSRoute", "GRPCRoute"],
            "hostnames": [{"exp": r"\.oil\.example$"}],
        }}])
    }

    #[rstest]
    #[case::a_rule_of_an_ingress(INGRESS, json!({"rules": [{"host": "a.oil.example"}, {"host": "a.gas.example"}]}), Some("spec.rules[1].host"))]
    #[case::a_certificate(INGRESS, json!({"rules": [{"host": "a.oil.example"}], "tls": [{}, {"hosts": ["b.oil.example", "x"]}]}), Some("spec.tls[1].hosts[1]"))]
    #[case::all_of_an_ingress(INGRESS, json!({"rules": [{"host": "a.oil.example"}], "tls": [{"hosts": ["a.oil.example"]}]}), None)]
    #[case::an_older_ingress(("extensions", "Ingress"), json!({"rules": [{"host": "x"}]}), Some("spec.rules[0].host"))]
    #[case::no_host(INGRESS, json!({"rules": [{"host": "a.oil.example"}, {}]}), Some("spec.rules[1].host"))]
    #[case::no_rule(INGRESS, json!({"defaultBackend": {}}), Some("spec.rules[].host"))]
    #[case::a_certificate_and_no_rule(INGRESS, json!({"tls": [{"hosts": ["a.oil.example"]}]}), Some("spec.rules[].host"))]
    #[case::no_spec(INGRESS, json!(null), Some("spec.rules[].host"))]
    #[case::no_text(INGRESS, json!({"rules": [{"host": 7}]}), Some("spec.rules[0].host"))]
    #[case::a_route(("route.openshift.io", "Route"), json!({"host": "a.gas.example"}), Some("spec.host"))]
    #[case::a_route_without_a_host(("route.openshift.io", "Route"), json!({}), Some("spec.host"))]
    #[case::an_allowed_route(("route.openshift.io", "Route"), json!({"host": "a.oil.example"}), None)]
    #[case::a_listener(("gateway.networking.k8s.io", "Gateway"), json!({"listeners": [{"hostname": "a.oil.example"}, {"hostname": "*.example"}]}), Some("spec.listeners[1].hostname"))]
    #[case::a_listener_for_all(("gateway.networking.k8s.io", "Gateway"), json!({"listeners": [{"name": "all"}]}), Some("spec.listeners[0].hostname"))]
    #[case::no_listener(("gateway.networking.k8s.io", "ListenerSet"), json!({}), Some("spec.listeners[].hostname"))]
    #[case::a_listener_of_a_set(("gateway.networking.k8s.io", "ListenerSet"), json!({"listeners": [{"hostname": "x"}]}), Some("spec.listeners[0].hostname"))]
    #[case::an_experimental_set(("gateway.networking.x-k8s.io", "XListenerSet"), json!({"listeners": [{"hostname": "x"}]}), Some("spec.listeners[0].hostname"))]
    #[case::an_http_route((GATEWAY_API, "HTTPRoute"), json!({"hostnames": ["a.oil.example", "x"]}), Some("spec.hostnames[1]"))]
    #[case::a_tls_route((GATEWAY_API, "TLSRoute"), json!({"hostnames": ["x"]}), Some("spec.hostnames[0]"))]
    #[case::a_grpc_route((GATEWAY_API, "GRPCRoute"), json!({"hostnames": ["x"]}), Some("spec.hostnames[0]"))]
    #[case::a_route_for_all((GATEWAY_API, "HTTPRoute"), json!({}), Some("spec.hostnames[]"))]
    #[case::a_wildcard((GATEWAY_API, "HTTPRoute"), json!({"hostnames": ["*.oil.example"]}), None)]
    #[case::the_dot_of_the_root(INGRESS, json!({"rules": [{"host": "A.oil.example."}]}), None)]
    #[case::a_route_of_another_group(("example.com", "HTTPRoute"), json!({"hostnames": ["x"]}), None)]
    #[case::a_kind_without_hostnames((GATEWAY_API, "TCPRoute"), json!({}), None)]
    fn hostnames_are_collected(
        #[case] kind: (&'static str, &'static str),
        #[case] spec: Value,
        #[case] expected: Option<&str>,
    ) {
        let outcome = validate_json(
            &rules(hostname_rules("allow")),
            object(kind.0, kind.1),
            &json!({"spec": spec}),
        );
        assert_eq!(refused(&outcome), expected);
    }

    #[test]
    fn a_missing_hostname_says_why_it_is_required() {
        let ingress = json!({"spec": {"rules": [{}]}});
        let outcome = validate_json(&rules(hostname_rules("deny")), object(INGRESS.0, INGRESS.1), &ingress);
        assert_eq!(
            refusal(&outcome).unwrap().1,
            "hostname is required at spec.rules[0].host because hostname rules target Ingress: without one the object \
             stands for every hostname; an administrator set this with spec.rules[0] of the Tenant \"oil\""
        );
        assert_eq!(outcome.refusal.unwrap().reason, "ForbiddenIngressHostname");
    }

    #[test]
    fn rules_that_only_record_record_a_missing_hostname() {
        let ingress = json!({"spec": {"rules": [{}, {"host": "a.oil.example"}]}});
        let outcome = validate_json(&rules(hostname_rules("audit")), object(INGRESS.0, INGRESS.1), &ingress);
        assert!(outcome.is_allowed());
        let fields: Vec<_> = outcome.audits.iter().map(|audit| audit.field.as_str()).collect();
        assert_eq!(fields, ["spec.rules[0].host", "spec.rules[1].host"]);
    }

    #[test]
    fn a_rule_is_about_the_kinds_that_it_names() {
        let list = json!([{"ingress": {"types": ["HTTPRoute"], "hostnames": [{"exact": ["a"]}]}}]);
        let ingress = json!({"spec": {"rules": [{"host": "a"}]}});
        assert!(validate_json(&rules(list.clone()), object(INGRESS.0, INGRESS.1), &ingress).is_allowed());
        let route = json!({"spec": {"hostnames": ["a"]}});
        assert!(!validate_json(&rules(list), object(GATEWAY_API, "HTTPRoute"), &route).is_allowed());
    }

    #[test]
    fn exact_names_are_compared_in_one_spelling() {
        let list = json!([{"ingress": {"types": ["Ingress"], "hostnames": [{"exact": ["Bad.Example."]}]}}]);
        for host in ["bad.example", "bad.example.", "BAD.example"] {
            let ingress = json!({"spec": {"rules": [{"host": host}]}});
            let outcome = validate_json(&rules(list.clone()), object(INGRESS.0, INGRESS.1), &ingress);
            assert_eq!(refused(&outcome), Some("spec.rules[0].host"), "{host}");
        }
    }
}
