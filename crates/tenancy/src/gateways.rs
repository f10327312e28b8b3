//! Gateways of the Gateway API: their class.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::{audit::Limit, classes, denial::Denial, index::KnownTenant};

/// A Gateway as far as its class is concerned. The Gateway API is no part of Kubernetes' own types.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Gateway {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Specification.
    #[serde(default)]
    pub spec: GatewaySpec,
}

/// The specification of a [`Gateway`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Name of the GatewayClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_class_name: Option<String>,
}

const FIELD: &str = "spec.gatewayClassName";

/// The class that a Gateway names.
pub fn class(gateway: &Gateway) -> Option<&str> {
    let name = gateway.spec.gateway_class_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// The Gateway with the tenant's default class, if it names none; `None` if nothing is to be changed.
pub fn with_default_class(tenant: &KnownTenant, gateway: &Gateway) -> Option<Gateway> {
    let wanted = classes::default_class(tenant.gateway_classes.as_ref(), class(gateway), None)?;
    let mut changed = gateway.clone();
    changed.spec.gateway_class_name = Some(wanted.to_owned());
    Some(changed)
}

/// Checks a Gateway of a tenant. `old` is the Gateway before an update, `labels` are those of the class that it names,
/// `None` if there is no such class.
///
/// # Errors
/// If the tenant may not use the class, or it does not exist. A class that the Gateway had before may stay.
pub fn validate(
    tenant: &KnownTenant,
    gateway: &Gateway,
    old: Option<&Gateway>,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<(), Denial> {
    let Some(policy) = &tenant.gateway_classes else {
        return Ok(());
    };
    let wanted = class(gateway);
    if old.is_some_and(|old| class(old) == wanted) {
        return Ok(());
    }
    let refused = |reason, detail: String| {
        let set_by = tenant.field("spec.gatewayOptions.allowedClasses");
        let message = format!(
            "{FIELD}: {detail}: {}; an administrator set this with {set_by}",
            policy.describe()
        );
        Err(Denial::new(FIELD, reason, message).by(Limit::GatewayClasses))
    };
    let Some(wanted) = wanted else {
        return refused(
            "MissingGatewayClass",
            "No gateway Class is forbidden for the current Tenant. Specify a Gateway Class which is allowed within the Tenant"
                .to_owned(),
        );
    };
    if !policy.allows(wanted, labels) {
        return refused(
            "ForbiddenGatewayClass",
            format!("Gateway Class {wanted} is forbidden for the current Tenant"),
        );
    }
    if labels.is_none() {
        return refused("MissingGatewayClass", format!("there is no Gateway Class {wanted}"));
    }
    Ok(())
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
            tenant("oil").with(json!({"gatewayOptions": options})).into(),
            &mut Cache::default(),
        )
    }

    fn gateway(class: Option<&str>) -> Gateway {
        serde_json::from_value(
            json!({"metadata": {"name": "web"}, "spec": {"gatewayClassName": class, "listeners": []}}),
        )
        .unwrap()
    }

    #[rstest]
    #[case::named(Some("public"), Some(json!({})), None)]
    #[case::the_default(Some("usual"), Some(json!({})), None)]
    #[case::by_labels(Some("other"), Some(json!({"tier": "fast"})), None)]
    #[case::another(Some("other"), Some(json!({})), Some("ForbiddenGatewayClass"))]
    #[case::another_that_does_not_exist(Some("other"), None, Some("ForbiddenGatewayClass"))]
    #[case::allowed_but_not_there(Some("public"), None, Some("MissingGatewayClass"))]
    #[case::none(None, None, Some("MissingGatewayClass"))]
    #[case::empty(Some(""), None, Some("MissingGatewayClass"))]
    fn a_gateway_names_an_allowed_class(
        #[case] class: Option<&str>,
        #[case] labels: Option<Value>,
        #[case] expected: Option<&str>,
    ) {
        let oil = known(
            json!({"allowedClasses": {"allowed": ["public"], "default": "usual", "matchLabels": {"tier": "fast"}}}),
        );
        let labels = labels.map(|labels| serde_json::from_value(labels).unwrap());
        let wanted = gateway(class);
        let denial = validate(&oil, &wanted, None, labels.as_ref()).err();
        assert_eq!(denial.map(|denial| denial.reason), expected);
        assert_eq!(validate(&oil, &wanted, Some(&wanted), labels.as_ref()), Ok(()));
        assert_eq!(validate(&known(json!({})), &wanted, None, labels.as_ref()), Ok(()));
    }

    #[rstest]
    #[case::none(None, Some("usual"))]
    #[case::empty(Some(""), Some("usual"))]
    #[case::named(Some("public"), None)]
    fn the_default_class_is_for_gateways_that_name_none(#[case] class: Option<&str>, #[case] expected: Option<&str>) {
        let oil = known(json!({"allowedClasses": {"default": "usual"}}));
        let changed = with_default_class(&oil, &gateway(class));
        assert_eq!(changed.as_ref().and_then(super::class), expected);
    }
}
