//! Services: their type, their external IPs, their labels and annotations.
//!
//! External IPs are an IPv4 matter: the field that lists them takes no IPv6 address, so where it is set every IPv6
//! address is refused. What a Service had before is not looked at again.

use std::{collections::BTreeMap, net::Ipv4Addr};

use api::capsule::v1beta2::{AllowedServices, ServiceOptions, TenantSpec};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;

use crate::{audit::Limit, denial::Denial, index::KnownTenant, keys::ForbiddenKeys, object_metadata, pattern::Cache};

/// What a tenant allows of Services, compiled.
#[derive(Clone, Debug, Default)]
pub struct ServicePolicy {
    types: AllowedServices,
    /// Ranges that external IPs may lie in, with how they were written. `None`: any address may be used. What cannot be
    /// read allows nothing.
    external_ips: Option<Vec<(String, Option<Ipv4Net>)>>,
    forbidden_labels: ForbiddenKeys,
    forbidden_annotations: ForbiddenKeys,
}

impl ServicePolicy {
    /// Compiles a tenant's options.
    pub fn new(options: Option<&ServiceOptions>, patterns: &mut Cache) -> Self {
        let Some(options) = options else { return Self::default() };
        let external_ips = options.external_ips.as_ref().map(|ips| {
            let ranges = ips.allowed.iter().map(|text| (text.clone(), range(text)));
            ranges.collect()
        });
        Self {
            types: options.allowed_services.unwrap_or_default(),
            external_ips,
            forbidden_labels: ForbiddenKeys::new(options.forbidden_labels.as_ref(), patterns),
            forbidden_annotations: ForbiddenKeys::new(options.forbidden_annotations.as_ref(), patterns),
        }
    }
}

/// An IPv4 range, or one address.
fn range(text: &str) -> Option<Ipv4Net> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
}

/// Checks the ranges that a Tenant lists. The schema's pattern lets some texts through that are none.
///
/// # Errors
/// The first that is not an IPv4 address or range.
pub fn check_external_ips(spec: &TenantSpec) -> Result<(), Denial> {
    let options = spec.service_options.as_ref();
    let Some(ips) = options.and_then(|options| options.external_ips.as_ref()) else {
        return Ok(());
    };
    let unreadable = ips.allowed.iter().enumerate().find(|(_, text)| range(text).is_none());
    let Some((index, text)) = unreadable else { return Ok(()) };
    let field = format!("spec.serviceOptions.externalIPs.allowed[{index}]");
    let message = format!("{field}: {text:?} is neither an IPv4 address nor a range of them, such as 10.0.0.0/8");
    Err(Denial::new(field, "ExternalIPInvalid", message))
}

/// Checks a Service of a tenant. `old` is the Service before an update.
///
/// # Errors
/// If its type, an external IP, a label or an annotation is not allowed.
pub fn validate(tenant: &KnownTenant, service: &Service, old: Option<&Service>) -> Result<(), Denial> {
    check_type(tenant, service, old)?;
    check_addresses(tenant, service, old)?;
    check_metadata(tenant, service, old)
}

fn check_type(tenant: &KnownTenant, service: &Service, old: Option<&Service>) -> Result<(), Denial> {
    let policy = &tenant.services;
    let wanted = type_of(service);
    let (allowed, reason, option) = match wanted {
        "NodePort" => (policy.types.node_port, "ForbiddenNodePort", "nodePort"),
        "ExternalName" => (policy.types.external_name, "ForbiddenExternalName", "externalName"),
        "LoadBalancer" => (policy.types.load_balancer, "ForbiddenLoadBalancer", "loadBalancer"),
        _ => return Ok(()),
    };
    if allowed || old.is_some_and(|old| type_of(old) == wanted) {
        return Ok(());
    }
    let field = "spec.type";
    let message = format!(
        "{field}: {wanted} service types are forbidden for the tenant: please, reach out to the system administrators, who \
         set this with {}",
        tenant.field(&format!("spec.serviceOptions.allowedServices.{option}"))
    );
    Err(Denial::new(field, reason, message).by(Limit::ServiceTypes))
}

fn type_of(service: &Service) -> &str {
    let named = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    named.unwrap_or("ClusterIP")
}

fn check_addresses(tenant: &KnownTenant, service: &Service, old: Option<&Service>) -> Result<(), Denial> {
    let Some(allowed) = &tenant.services.external_ips else {
        return Ok(());
    };
    let before = old.map(external_ips).unwrap_or_default();
    for (index, address) in external_ips(service).iter().enumerate() {
        let is_allowed = || {
            let address: Option<Ipv4Addr> = address.parse().ok();
            address.is_some_and(|address| {
                allowed
                    .iter()
                    .filter_map(|(_, range)| *range)
                    .any(|range| range.contains(&address))
            })
        };
        if before.contains(address) || is_allowed() {
            continue;
        }
        let field = format!("spec.externalIPs[{index}]");
        let detail = if allowed.is_empty() {
            "the current Tenant does not allow the use of Service with external IPs".to_owned()
        } else {
            let ranges: Vec<_> = allowed.iter().map(|(text, _)| text.as_str()).collect();
            format!(
                "the external IP {address} is not allowed for the current Tenant, use an IPv4 address in one of the \
                 following ranges: {}",
                ranges.join(", ")
            )
        };
        let set_by = tenant.field("spec.serviceOptions.externalIPs");
        let message = format!("{field}: {detail}; an administrator set this with {set_by}");
        return Err(Denial::new(field, "ForbiddenExternalServiceIP", message).by(Limit::ExternalIps));
    }
    Ok(())
}

fn external_ips(service: &Service) -> &[String] {
    let listed = service.spec.as_ref().and_then(|spec| spec.external_ips.as_deref());
    listed.unwrap_or_default()
}

type Map = BTreeMap<String, String>;

/// What the tenant itself asks for on every Service passes: a key may be forbidden so that only this value is there. So do the
/// labels that say whose it is, which its author never wrote.
fn check_metadata(tenant: &KnownTenant, service: &Service, old: Option<&Service>) -> Result<(), Denial> {
    let (policy, own) = (&tenant.services, object_metadata::of_services(&tenant.object));
    let old = old.map(|old| &old.metadata);
    let parts: [(_, _, _, _, Option<&Map>, Option<&Map>); 2] = [
        (
            "labels",
            "ForbiddenLabel",
            "forbiddenLabels",
            &policy.forbidden_labels,
            service.metadata.labels.as_ref(),
            old.and_then(|old| old.labels.as_ref()),
        ),
        (
            "annotations",
            "ForbiddenAnnotation",
            "forbiddenAnnotations",
            &policy.forbidden_annotations,
            service.metadata.annotations.as_ref(),
            old.and_then(|old| old.annotations.as_ref()),
        ),
    ];
    for (what, reason, option, forbidden, now, before) in parts {
        if forbidden.is_empty() {
            continue;
        }
        let own = own.map(|own| match what {
            "labels" => &own.labels,
            _ => &own.annotations,
        });
        let has = |map: Option<&Map>, key, value| map.and_then(|map| map.get(key)) == Some(value);
        let is_given = |key: &str, value: &str| {
            what == "labels" && object_metadata::is_given_at_admission(tenant.name.as_str(), key, value)
        };
        for (key, value) in now.into_iter().flatten() {
            if !has(before, key, value) && !has(own, key, value) && !is_given(key, value) {
                let set_by = tenant.field(&format!("spec.serviceOptions.{option}"));
                check_key(what, reason, &set_by, key, forbidden)?;
            }
        }
    }
    Ok(())
}

fn check_key(
    what: &str,
    reason: &'static str,
    set_by: &str,
    key: &str,
    forbidden: &ForbiddenKeys,
) -> Result<(), Denial> {
    let field = format!("metadata.{what}[{key}]");
    match forbidden.hold(key) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!(
                "{field}: service {what} validation failed: {key} is forbidden for the current Tenant. {}; an administrator \
                 set this with {set_by}",
                forbidden.describe()
            );
            let limit = match what {
                "labels" => Limit::ServiceLabels,
                _ => Limit::ServiceAnnotations,
            };
            Err(Denial::new(field, reason, message).by(limit))
        }
        Err(error) => {
            let message = format!(
                "{field}: failed to tell whether the key is forbidden, because the pattern in {set_by} cannot be \
                 compiled: {error}; an administrator has to correct it"
            );
            Err(Denial::new(field, "PatternInvalid", message).with_code(500))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn known(options: Value) -> KnownTenant {
        KnownTenant::new(
            tenant("oil").with(json!({"serviceOptions": options})).into(),
            &mut Cache::default(),
        )
    }

    fn service(metadata: Value, spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn reason(options: Value, spec: Value) -> Option<&'static str> {
        validate(&known(options), &service(json!({}), spec), None)
            .err()
            .map(|denial| denial.reason)
    }

    #[rstest]
    #[case::cluster_ip(json!({"type": "ClusterIP"}), None)]
    #[case::none_named(json!({}), None)]
    #[case::node_port(json!({"type": "NodePort"}), Some("ForbiddenNodePort"))]
    #[case::external_name(json!({"type": "ExternalName"}), Some("ForbiddenExternalName"))]
    #[case::load_balancer(json!({"type": "LoadBalancer"}), Some("ForbiddenLoadBalancer"))]
    fn types_can_be_switched_off(#[case] spec: Value, #[case] expected: Option<&str>) {
        let off = json!({"allowedServices": {"nodePort": false, "externalName": false, "loadBalancer": false}});
        assert_eq!(reason(off, spec.clone()), expected);
        assert_eq!(reason(json!({"allowedServices": {}}), spec.clone()), None);
        assert_eq!(reason(json!({}), spec), None);
    }

    #[test]
    fn a_service_from_before_keeps_its_type_and_gets_no_other_forbidden_one() {
        let oil = known(json!({"allowedServices": {"nodePort": false, "loadBalancer": false}}));
        let of = |kind: &str| service(json!({}), json!({"type": kind}));
        assert_eq!(validate(&oil, &of("NodePort"), Some(&of("NodePort"))), Ok(()));
        assert!(validate(&oil, &of("NodePort"), Some(&of("ClusterIP"))).is_err());
        assert!(validate(&oil, &of("LoadBalancer"), Some(&of("NodePort"))).is_err());
    }

    #[rstest]
    #[case::in_a_range("10.1.2.3", None)]
    #[case::one_address("192.0.2.7", None)]
    #[case::the_range_is_masked("172.16.0.1", None)]
    #[case::outside("192.0.2.8", Some("ForbiddenExternalServiceIP"))]
    #[case::ipv6("2001:db8::1", Some("ForbiddenExternalServiceIP"))]
    #[case::ipv4_in_ipv6("::ffff:10.1.2.3", Some("ForbiddenExternalServiceIP"))]
    #[case::with_leading_zeros("010.1.2.3", Some("ForbiddenExternalServiceIP"))]
    #[case::no_address("example.com", Some("ForbiddenExternalServiceIP"))]
    fn external_ips_lie_in_the_ranges(#[case] address: &str, #[case] expected: Option<&str>) {
        let options = json!({"externalIPs": {"allowed": ["10.0.0.0/8", "192.0.2.7", "172.16.9.9/12", "1a2b3c4"]}});
        assert_eq!(reason(options, json!({"externalIPs": ["10.0.0.1", address]})), expected);
        assert_eq!(reason(json!({}), json!({"externalIPs": [address]})), None);
    }

    #[test]
    fn an_empty_list_of_external_ips_allows_none() {
        let options = json!({"externalIPs": {"allowed": []}});
        let oil = known(options.clone());
        let old = service(json!({}), json!({"externalIPs": ["10.0.0.1"]}));
        let denial = validate(&oil, &old, None).unwrap_err();
        assert_eq!(denial.field, "spec.externalIPs[0]");
        assert!(
            denial
                .message
                .contains("does not allow the use of Service with external IPs")
        );
        assert_eq!(validate(&oil, &old, Some(&old)), Ok(()));
        assert_eq!(reason(options, json!({})), None);
    }

    #[rstest]
    #[case::free(json!({"labels": {"app": "web"}, "annotations": {"note": "x"}}), None)]
    #[case::a_label(json!({"labels": {"team": "x"}}), Some(("ForbiddenLabel", "metadata.labels[team]")))]
    #[case::an_annotation_by_pattern(
        json!({"annotations": {"lb.example.com/public": "true"}}),
        Some(("ForbiddenAnnotation", "metadata.annotations[lb.example.com/public]"))
    )]
    fn forbidden_keys_are_refused(#[case] metadata: Value, #[case] expected: Option<(&str, &str)>) {
        let oil = known(json!({
            "forbiddenLabels": {"denied": ["team"]}, "forbiddenAnnotations": {"deniedRegex": r"^lb\.example\.com/"},
        }));
        let wanted = service(metadata, json!({}));
        let denial = validate(&oil, &wanted, None).err();
        let found = denial.as_ref().map(|denial| (denial.reason, denial.field.as_str()));
        assert_eq!(found, expected);
        // What was there may stay, and may go, but not change.
        assert_eq!(validate(&oil, &wanted, Some(&wanted)), Ok(()));
        assert_eq!(validate(&oil, &service(json!({}), json!({})), Some(&wanted)), Ok(()));
    }

    #[test]
    fn a_forbidden_key_may_have_the_value_that_the_tenant_asks_for() {
        let oil = known(json!({
            "forbiddenLabels": {"denied": ["team"]}, "additionalMetadata": {"labels": {"team": "oil"}},
        }));
        let labelled = |team: &str| service(json!({"labels": {"team": team}}), json!({}));
        assert_eq!(validate(&oil, &labelled("oil"), None), Ok(()));
        assert!(validate(&oil, &labelled("gas"), None).is_err());
        assert!(validate(&oil, &labelled("gas"), Some(&labelled("oil"))).is_err());
    }

    #[rstest]
    #[case::every_key(".*")]
    #[case::what_cannot_be_compiled("(")]
    fn the_labels_that_admission_gives_are_not_the_authors(#[case] pattern: &str) {
        let forbidden = json!({"deniedRegex": pattern});
        let oil = known(json!({"forbiddenLabels": forbidden, "forbiddenAnnotations": forbidden}));
        let marked = |what: &str, tenant: &str| {
            let marks = json!({"projectcapsule.dev/tenant": tenant, "capsule.clastix.io/managed-by": tenant});
            validate(&oil, &service(json!({what: marks}), json!({})), None)
        };
        assert_eq!(marked("labels", "oil"), Ok(()));
        // Not with another tenant's name, as where nothing gives them, and not as annotations.
        assert!(marked("labels", "gas").is_err());
        assert!(marked("annotations", "oil").is_err());
    }

    #[test]
    fn what_cannot_be_compiled_refuses_and_says_so() {
        let oil = known(json!({"forbiddenLabels": {"deniedRegex": "("}}));
        let denial = validate(&oil, &service(json!({"labels": {"a": "b"}}), json!({})), None).unwrap_err();
        assert_eq!((denial.reason, denial.code), ("PatternInvalid", 500));
        assert_eq!(validate(&oil, &service(json!({}), json!({})), None), Ok(()));
    }

    #[rstest]
    #[case(json!(["10.0.0.0/8", "10.0.0.1"]), None)]
    #[case(json!(["10.0.0.1", "999.0.0.1"]), Some("spec.serviceOptions.externalIPs.allowed[1]"))]
    #[case(json!(["10.0.0.0/33"]), Some("spec.serviceOptions.externalIPs.allowed[0]"))]
    fn ranges_of_a_tenant_are_read_when_it_is_written(#[case] allowed: Value, #[case] field: Option<&str>) {
        let tenant = tenant("oil").with(json!({"serviceOptions": {"externalIPs": {"allowed": allowed}}}));
        let denial = check_external_ips(&tenant.build().spec).err();
        assert_eq!(denial.map(|denial| denial.field).as_deref(), field);
    }

    proptest! {
        #[test]
        fn more_ranges_never_refuse_more(
            address in "1[0-2]\\.0\\.0\\.[0-3]",
            ranges in prop::collection::vec("1[0-2]\\.0\\.0\\.0/(8|24|31)", 0..3),
            more in prop::collection::vec(".{0,12}", 0..3),
        ) {
            let spec = json!({"externalIPs": [address]});
            let shorter = reason(json!({"externalIPs": {"allowed": ranges}}), spec.clone());
            let all = [ranges, more].concat();
            let longer = reason(json!({"externalIPs": {"allowed": all}}), spec);
            prop_assert!(shorter.is_some() || longer.is_none());
        }
    }
}
