//! Labels and annotations that the objects in a tenant's namespaces carry, and the label that says whose a volume is.
//!
//! Nothing is ever taken away: who else wrote a label cannot be told.

use api::capsule::{
    names,
    v1beta2::{Metadata, Tenant},
};
use k8s_openapi::{api::core::v1::PersistentVolume, apimachinery::pkg::apis::meta::v1::ObjectMeta};

/// Labels that say whose an object is. They are kept at admission, and nobody else's word about them counts.
const KEPT_AT_ADMISSION: [&str; 2] = [names::MANAGED_BY_TENANT, names::PROJECT_TENANT_LABEL];

/// What every Pod of the tenant carries, if anything.
pub fn of_pods(tenant: &Tenant) -> Option<&Metadata> {
    asked(tenant.spec.pod_options.as_ref()?.additional_metadata.as_ref())
}

/// What every Service and EndpointSlice of the tenant carries, if anything.
pub fn of_services(tenant: &Tenant) -> Option<&Metadata> {
    asked(tenant.spec.service_options.as_ref()?.additional_metadata.as_ref())
}

/// Whether admission itself put this label there: it says that the object is of this tenant.
pub fn is_given_at_admission(tenant: &str, key: &str, value: &str) -> bool {
    KEPT_AT_ADMISSION.contains(&key) && value == tenant
}

fn asked(metadata: Option<&Metadata>) -> Option<&Metadata> {
    metadata.filter(|metadata| **metadata != Metadata::default())
}

/// What of `wanted` an object does not carry, or carries with another value. `None`: nothing.
pub fn missing(wanted: &Metadata, found: &ObjectMeta) -> Option<Metadata> {
    let mut missing = wanted.clone();
    missing.labels.retain(|key, value| {
        !KEPT_AT_ADMISSION.contains(&key.as_str())
            && found.labels.as_ref().and_then(|labels| labels.get(key)) != Some(value)
    });
    missing
        .annotations
        .retain(|key, value| found.annotations.as_ref().and_then(|annotations| annotations.get(key)) != Some(value));
    (missing != Metadata::default()).then_some(missing)
}

/// The namespace whose tenant a volume belongs to: that of its claim.
///
/// Not of a claim that is gone. What such a volume holds is its former owner's, and a namespace of that name may be somebody
/// else's by now.
pub fn claimed_in(volume: &PersistentVolume) -> Option<&str> {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Released" | "Failed")) {
        return None;
    }
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    claim.namespace.as_deref()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::tenant;

    #[test]
    fn an_empty_wish_is_none() {
        let oil = |options: Value| tenant("oil").with(options).build();
        assert_eq!(of_pods(&oil(json!({}))), None);
        assert_eq!(of_pods(&oil(json!({"podOptions": {}}))), None);
        assert_eq!(of_pods(&oil(json!({"podOptions": {"additionalMetadata": {}}}))), None);
        let wish = json!({"additionalMetadata": {"labels": {"a": "b"}}});
        assert!(of_pods(&oil(json!({"podOptions": wish}))).is_some());
        assert!(of_services(&oil(json!({"podOptions": wish}))).is_none());
        assert!(of_services(&oil(json!({"serviceOptions": wish}))).is_some());
    }

    #[rstest]
    #[case::nothing_is_there(json!({}), json!({"labels": {"a": "1", "b": "2"}, "annotations": {"c": "3"}}))]
    #[case::one_differs(json!({"labels": {"a": "1", "b": "x"}, "annotations": {"c": "3"}}), json!({"labels": {"b": "2"}}))]
    #[case::all_is_there_and_more(json!({"labels": {"a": "1", "b": "2", "z": "9"}, "annotations": {"c": "3"}}), Value::Null)]
    fn what_is_missing_is_what_differs(#[case] found: Value, #[case] expected: Value) {
        let wanted = json!({
            "labels": {"a": "1", "b": "2", "projectcapsule.dev/tenant": "gas", "capsule.clastix.io/managed-by": "gas"},
            "annotations": {"c": "3"},
        });
        let missing = missing(
            &serde_json::from_value(wanted).unwrap(),
            &serde_json::from_value(found).unwrap(),
        );
        let expected: Option<Metadata> = serde_json::from_value(expected).unwrap();
        assert_eq!(missing, expected);
    }

    #[rstest]
    #[case::of_a_bound_claim(json!({"claimRef": {"namespace": "oil-one", "name": "data"}}), json!({"phase": "Bound"}), Some("oil-one"))]
    #[case::set_aside_for_a_claim(json!({"claimRef": {"namespace": "oil-one", "name": "data"}}), json!({"phase": "Available"}), Some("oil-one"))]
    #[case::of_a_claim_that_is_gone(json!({"claimRef": {"namespace": "oil-one", "name": "data"}}), json!({"phase": "Released"}), None)]
    #[case::of_no_claim(json!({}), json!({"phase": "Available"}), None)]
    fn a_volume_belongs_where_its_claim_is(#[case] spec: Value, #[case] status: Value, #[case] expected: Option<&str>) {
        let volume = json!({"metadata": {"name": "v"}, "spec": spec, "status": status});
        let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
        assert_eq!(claimed_in(&volume), expected);
    }
}
