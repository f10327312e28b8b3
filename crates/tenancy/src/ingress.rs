//! Ingresses: their class and their hostnames.

use std::collections::BTreeMap;

use api::capsule::names;
use k8s_openapi::api::networking::v1::Ingress;

use crate::{audit::Limit, denial::Denial, index::KnownTenant};

const CLASS_FIELD: &str = "spec.ingressClassName";

/// The class that an Ingress names in its spec.
pub fn class_in_spec(ingress: &Ingress) -> Option<&str> {
    ingress.spec.as_ref()?.ingress_class_name.as_deref()
}

/// The class that an Ingress names in the annotation that was there before the field.
pub fn class_in_annotation(ingress: &Ingress) -> Option<&str> {
    ingress
        .metadata
        .annotations
        .as_ref()?
        .get(names::INGRESS_CLASS_ANNOTATION)
        .map(String::as_str)
}

/// The class that an Ingress names, in its spec or else in the annotation.
pub fn class(ingress: &Ingress) -> Option<&str> {
    class_in_spec(ingress).or_else(|| class_in_annotation(ingress))
}

/// The Ingress with the tenant's default class, if it names none or has been given the cluster's default; `None` if
/// nothing is to be changed. An Ingress that uses the annotation goes on using it.
pub fn with_default_class(tenant: &KnownTenant, ingress: &Ingress, cluster_default: Option<&str>) -> Option<Ingress> {
    let policy = tenant.ingress_classes.as_ref();
    let wanted = crate::classes::default_ingress_class(policy, class(ingress), cluster_default)?;
    let mut changed = ingress.clone();
    if class_in_spec(ingress).is_none() && class_in_annotation(ingress).is_some() {
        let annotations = changed.metadata.annotations.get_or_insert_default();
        annotations.insert(names::INGRESS_CLASS_ANNOTATION.to_owned(), wanted.to_owned());
    } else {
        changed.spec.get_or_insert_default().ingress_class_name = Some(wanted.to_owned());
    }
    Some(changed)
}

/// Checks an Ingress of a tenant. `labels_of` gives the labels of the class object of a name, `None` if there is none.
///
/// The spec and the annotation may both name a class (on update the API server does not mind), and controllers differ in
/// which they follow, so both have to be allowed.
///
/// # Errors
/// If its class or one of its hostnames may not be used.
pub fn validate<'a>(
    tenant: &KnownTenant,
    ingress: &Ingress,
    labels_of: impl Fn(&str) -> Option<&'a BTreeMap<String, String>>,
) -> Result<(), Denial> {
    validate_class(tenant, ingress, labels_of)?;
    validate_hostnames(tenant, ingress)
}

fn validate_class<'a>(
    tenant: &KnownTenant,
    ingress: &Ingress,
    labels_of: impl Fn(&str) -> Option<&'a BTreeMap<String, String>>,
) -> Result<(), Denial> {
    let Some(policy) = &tenant.ingress_classes else {
        return Ok(());
    };
    let set_by = || {
        let field = tenant.field("spec.ingressOptions.allowedClasses");
        format!("an administrator set this with {field}")
    };
    if class(ingress).is_none() {
        let message = format!(
            "{CLASS_FIELD}: No Ingress Class is forbidden for the current Tenant. Specify a Ingress Class which is \
             allowed within the Tenant: {}; {}",
            policy.describe(),
            set_by()
        );
        return Err(Denial::new(CLASS_FIELD, "MissingIngressClass", message).by(Limit::IngressClasses));
    }
    let annotation = format!("metadata.annotations[{}]", names::INGRESS_CLASS_ANNOTATION);
    for (field, class) in [
        (CLASS_FIELD, class_in_spec(ingress)),
        (annotation.as_str(), class_in_annotation(ingress)),
    ] {
        let Some(class) = class else { continue };
        if !policy.allows(class, labels_of(class)) {
            let message = format!(
                "{field}: Ingress Class {class:?} is forbidden for the current Tenant: {}; {}",
                policy.describe(),
                set_by()
            );
            return Err(Denial::new(field, "ForbiddenIngressClass", message).by(Limit::IngressClasses));
        }
    }
    Ok(())
}

fn validate_hostnames(tenant: &KnownTenant, ingress: &Ingress) -> Result<(), Denial> {
    let Some(options) = &tenant.object.spec.ingress_options else {
        return Ok(());
    };
    let slots = hostnames(ingress);
    if let Some(policy) = &tenant.hostnames {
        let set_by = || {
            let field = tenant.field("spec.ingressOptions.allowedHostnames");
            format!("an administrator set this with {field}")
        };
        // A rule without a host serves every host, and no rule at all with a default backend does so too.
        let nothing_named = slots.is_empty().then(|| "spec.rules".to_owned());
        let empty = slots
            .iter()
            .find(|(_, host)| host.is_empty())
            .map(|(field, _)| field.clone());
        if let Some(field) = nothing_named.or(empty) {
            let message = format!(
                "{field}: empty hostname is not allowed, because it stands for every hostname: {}; {}",
                policy.describe(),
                set_by()
            );
            return Err(Denial::new(field, "IngressHostnameEmpty", message).by(Limit::Hostnames));
        }
        let refused: Vec<_> = slots.iter().filter(|(_, host)| !policy.allows(host, None)).collect();
        if let Some((field, _)) = refused.first() {
            let hosts: Vec<_> = refused.iter().map(|(_, host)| *host).collect();
            let message = format!(
                "{field}: Hostnames [{}] are not valid for the current Tenant: {}; {}",
                hosts.join(", "),
                policy.describe(),
                set_by()
            );
            return Err(Denial::new(field.clone(), "IngressHostnameNotValid", message).by(Limit::Hostnames));
        }
    }
    if !options.allow_wildcard_hostnames
        && let Some((field, host)) = slots.iter().find(|(_, host)| host.starts_with('*'))
    {
        let message = format!(
            "{field}: Wildcard denied for tenant {}: {host:?} stands for hostnames of others too; an administrator can \
             allow it with {}",
            tenant.name,
            tenant.field("spec.ingressOptions.allowWildcardHostnames")
        );
        return Err(Denial::new(field.clone(), "WildcardDenied", message).by(Limit::WildcardHostnames));
    }
    Ok(())
}

/// Every place of an Ingress that names a host, with the host.
fn hostnames(ingress: &Ingress) -> Vec<(String, &str)> {
    let Some(spec) = &ingress.spec else { return Vec::new() };
    let rules = spec.rules.iter().flatten().enumerate();
    let rules = rules.map(|(index, rule)| {
        (
            format!("spec.rules[{index}].host"),
            rule.host.as_deref().unwrap_or_default(),
        )
    });
    let certificates = spec.tls.iter().flatten().enumerate().flat_map(|(index, tls)| {
        let hosts = tls.hosts.iter().flatten().enumerate();
        hosts.map(move |(at, host)| (format!("spec.tls[{index}].hosts[{at}]"), host.as_str()))
    });
    rules.chain(certificates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use crate::pattern::Cache;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn known(options: Value) -> KnownTenant {
        KnownTenant::new(
            tenant("oil").with(json!({"ingressOptions": options})).into(),
            &mut Cache::default(),
        )
    }

    fn ingress(annotation: Option<&str>, spec: Value) -> Ingress {
        let annotations = annotation.map(|class| json!({"kubernetes.io/ingress.class": class}));
        serde_json::from_value(json!({"metadata": {"name": "web", "annotations": annotations}, "spec": spec})).unwrap()
    }

    fn reason(tenant: &KnownTenant, ingress: &Ingress) -> Option<&'static str> {
        let fast = BTreeMap::from([("tier".to_owned(), "fast".to_owned())]);
        validate(tenant, ingress, |name| (name == "labelled").then_some(&fast))
            .err()
            .map(|denial| denial.reason)
    }

    #[rstest]
    #[case::in_the_spec(None, json!({"ingressClassName": "nginx"}), None)]
    #[case::in_the_annotation(Some("nginx"), json!({}), None)]
    #[case::by_its_labels(None, json!({"ingressClassName": "labelled"}), None)]
    #[case::none(None, json!({}), Some("MissingIngressClass"))]
    #[case::another(None, json!({"ingressClassName": "traefik"}), Some("ForbiddenIngressClass"))]
    #[case::another_hidden_in_the_annotation(Some("traefik"), json!({"ingressClassName": "nginx"}), Some("ForbiddenIngressClass"))]
    #[case::another_hidden_in_the_spec(Some("nginx"), json!({"ingressClassName": "traefik"}), Some("ForbiddenIngressClass"))]
    fn an_ingress_names_an_allowed_class(
        #[case] annotation: Option<&str>,
        #[case] spec: Value,
        #[case] expected: Option<&str>,
    ) {
        let oil = known(json!({"allowedClasses": {"allowed": ["nginx"], "matchLabels": {"tier": "fast"}}}));
        assert_eq!(reason(&oil, &ingress(annotation, spec)), expected);
    }

    #[rstest]
    #[case::allowed(json!({"rules": [{"host": "a.oil.example"}]}), None)]
    #[case::by_the_pattern(json!({"rules": [{"host": "x.oil.example"}], "tls": [{"hosts": ["x.oil.example"]}]}), None)]
    #[case::another(json!({"rules": [{"host": "a.gas.example"}]}), Some("IngressHostnameNotValid"))]
    #[case::another_in_the_certificate(
        json!({"rules": [{"host": "a.oil.example"}], "tls": [{"hosts": ["a.gas.example"]}]}),
        Some("IngressHostnameNotValid")
    )]
    #[case::empty(json!({"rules": [{"host": "a.oil.example"}, {}]}), Some("IngressHostnameEmpty"))]
    #[case::no_rule_at_all(json!({"defaultBackend": {"service": {"name": "web"}}}), Some("IngressHostnameEmpty"))]
    #[case::a_wildcard(json!({"rules": [{"host": "*.oil.example"}]}), Some("WildcardDenied"))]
    fn hostnames_are_the_tenants(#[case] spec: Value, #[case] expected: Option<&str>) {
        let oil = known(
            json!({"allowedHostnames": {"allowed": ["a.oil.example"], "allowedRegex": r"^[^.]+\.oil\.example$"}}),
        );
        assert_eq!(reason(&oil, &ingress(None, spec)), expected);
    }

    #[test]
    fn wildcards_can_be_allowed_and_are_not_looked_at_without_options() {
        let wildcard = ingress(None, json!({"rules": [{"host": "*.oil.example"}]}));
        assert_eq!(reason(&known(json!({"allowWildcardHostnames": true})), &wildcard), None);
        assert_eq!(reason(&known(json!({})), &wildcard), Some("WildcardDenied"));
        let free = KnownTenant::new(tenant("oil").into(), &mut Cache::default());
        assert_eq!(reason(&free, &wildcard), None);
    }

    #[test]
    fn the_default_class_goes_where_the_class_was() {
        let oil = known(json!({"allowedClasses": {"default": "nginx"}}));
        let changed = with_default_class(&oil, &ingress(None, json!({})), None).unwrap();
        assert_eq!(class_in_spec(&changed), Some("nginx"));
        let changed = with_default_class(&oil, &ingress(Some("cluster"), json!({})), Some("cluster")).unwrap();
        assert_eq!(
            (class_in_spec(&changed), class_in_annotation(&changed)),
            (None, Some("nginx"))
        );
        assert_eq!(
            with_default_class(&oil, &ingress(Some("other"), json!({})), Some("cluster")),
            None
        );
    }
}
