//! Devices that ResourceClaims ask for: their class.
//!
//! Every request counts, also each alternative of a request (`firstAvailable`): whichever of them the scheduler takes, the
//! tenant has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{audit::Limit, denial::Denial, index::KnownTenant};

/// The requests of a ResourceClaim or a ResourceClaimTemplate, in every version of `resource.k8s.io` from `v1beta1` on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Claim {
    #[serde(default)]
    spec: ClaimSpec,
}

/// Of a claim, or of a template, which has the specification of a claim inside of its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct ClaimSpec {
    #[serde(default)]
    devices: Devices,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Box<ClaimSpec>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Devices {
    #[serde(default, deserialize_with = "list_or_null")]
    requests: Vec<DeviceRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exactly: Option<Exactly>,
    #[serde(default, deserialize_with = "list_or_null")]
    first_available: Vec<Exactly>,
    /// Where `v1beta1` has what later versions have in `exactly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_class_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Exactly {
    #[serde(default)]
    device_class_name: String,
}

/// The API server sends a list that was left out as null.
fn list_or_null<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Claim {
    /// The classes that are asked for, each with the path of its field.
    pub fn classes(&self) -> Vec<(String, &str)> {
        let (prefix, spec) = match &self.spec.spec {
            Some(inner) => ("spec.spec", &**inner),
            None => ("spec", &self.spec),
        };
        let requests = spec.devices.requests.iter().enumerate();
        let classes = requests.flat_map(|(index, request)| {
            let at = format!("{prefix}.devices.requests[{index}]");
            let exactly = request.exactly.iter().map(|exactly| {
                (
                    format!("{at}.exactly.deviceClassName"),
                    exactly.device_class_name.as_str(),
                )
            });
            let alternatives = request.first_available.iter().enumerate().map(|(place, alternative)| {
                let field = format!("{at}.firstAvailable[{place}].deviceClassName");
                (field, alternative.device_class_name.as_str())
            });
            let flat = request
                .device_class_name
                .iter()
                .map(|name| (format!("{at}.deviceClassName"), name.as_str()));
            exactly.chain(alternatives).chain(flat).collect::<Vec<_>>()
        });
        classes.filter(|(_, name)| !name.is_empty()).collect()
    }
}

/// Checks a new claim or template of a tenant; neither can be changed later. `labels_of` gives the labels of the class of a
/// name, `None` if there is none.
///
/// # Errors
/// If the tenant may not use one of the classes.
pub fn validate<'a>(
    tenant: &KnownTenant,
    claim: &Claim,
    labels_of: impl Fn(&str) -> Option<&'a BTreeMap<String, String>>,
) -> Result<(), Denial> {
    let Some(policy) = &tenant.device_classes else {
        return Ok(());
    };
    let classes = claim.classes();
    let refused = classes.iter().find(|(_, name)| !policy.allows(name, labels_of(name)));
    let Some((field, name)) = refused else { return Ok(()) };
    let message = format!(
        "{field}: Selected DeviceClass is forbidden for the current Tenant or does not exist: {name:?}; {}; an administrator \
         set this with {}",
        policy.describe(),
        tenant.field("spec.deviceClasses")
    );
    let reason = if labels_of(name).is_some() {
        "ForbiddenDeviceClass"
    } else {
        "MissingDeviceClass"
    };
    Err(Denial::new(field.clone(), reason, message).by(Limit::DeviceClasses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use crate::pattern::Cache;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn known(spec: Value) -> KnownTenant {
        KnownTenant::new(tenant("oil").with(spec).into(), &mut Cache::default())
    }

    fn claim(requests: &Value) -> Claim {
        serde_json::from_value(json!({"spec": {"devices": {"requests": requests}}})).unwrap()
    }

    fn template(requests: &Value) -> Claim {
        serde_json::from_value(
            json!({"metadata": {"name": "t"}, "spec": {"spec": {"devices": {"requests": requests}}}}),
        )
        .unwrap()
    }

    fn exactly(class: &str) -> Value {
        json!({"name": "r", "exactly": {"deviceClassName": class}})
    }

    #[rstest]
    #[case::allowed(json!([exactly("gpu")]), None)]
    #[case::nothing(json!(null), None)]
    #[case::by_labels(json!([exactly("labelled")]), None)]
    #[case::another(json!([exactly("fpga")]), Some("devices.requests[0].exactly.deviceClassName"))]
    #[case::another_after_an_allowed_one(
        json!([exactly("gpu"), exactly("fpga")]),
        Some("devices.requests[1].exactly.deviceClassName")
    )]
    #[case::another_as_an_alternative(
        json!([{"name": "r", "firstAvailable": [{"deviceClassName": "gpu"}, {"deviceClassName": "fpga"}]}]),
        Some("devices.requests[0].firstAvailable[1].deviceClassName")
    )]
    #[case::another_in_the_first_version(
        json!([{"name": "r", "deviceClassName": "fpga"}]),
        Some("devices.requests[0].deviceClassName")
    )]
    #[case::no_request(json!([]), None)]
    fn every_requested_class_is_allowed(#[case] requests: Value, #[case] expected: Option<&str>) {
        let oil = known(json!({"deviceClasses": {"allowed": ["gpu"], "matchLabels": {"tier": "fast"}}}));
        let fast = BTreeMap::from([("tier".to_owned(), "fast".to_owned())]);
        let field = |tenant: &KnownTenant, claim: &Claim| {
            let decided = validate(tenant, claim, |name| (name == "labelled").then_some(&fast));
            decided.err().map(|denial| denial.field)
        };
        let of_claim = expected.map(|field| format!("spec.{field}"));
        assert_eq!(field(&oil, &claim(&requests)), of_claim);
        assert_eq!(
            field(&oil, &template(&requests)),
            expected.map(|field| format!("spec.spec.{field}"))
        );
        assert_eq!(field(&known(json!({})), &claim(&requests)), None);
    }

    #[test]
    fn a_list_without_anything_in_it_allows_nothing() {
        let (oil, gpu, labels) = (
            known(json!({"deviceClasses": {}})),
            claim(&json!([exactly("gpu")])),
            BTreeMap::new(),
        );
        let there = validate(&oil, &gpu, |_| Some(&labels)).unwrap_err();
        assert_eq!(there.reason, "ForbiddenDeviceClass");
        let denial = validate(&oil, &gpu, |_| None).unwrap_err();
        assert_eq!(denial.reason, "MissingDeviceClass");
        assert!(
            denial
                .message
                .contains("Selected DeviceClass is forbidden for the current Tenant or does not exist")
        );
    }

    proptest! {
        /// A request more never makes a refused claim an allowed one.
        #[test]
        fn asking_for_more_is_never_allowed_more(
            few in prop::collection::vec("(gpu|fpga)", 0..4), more in prop::collection::vec("(gpu|fpga)", 0..4)
        ) {
            let oil = known(json!({"deviceClasses": {"allowed": ["gpu"]}}));
            let of = |names: &[String]| claim(&names.iter().map(|name| exactly(name)).collect());
            let is_refused = |names: &[String]| validate(&oil, &of(names), |_| None).is_err();
            prop_assert!(!is_refused(&few) || is_refused(&[few, more].concat()));
        }
    }
}
