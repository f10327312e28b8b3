//! Claims for volumes: no claim of one tenant binds another tenant's volume.
//!
//! Volumes carry the label of the tenant that they belong to. A claim that chooses its volume, by name or by a
//! selector, is made to choose among those of its own tenant; one that names a volume is refused if that volume is not
//! its tenant's.

use std::collections::BTreeMap;

use api::capsule::names;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use crate::denial::Denial;

/// A volume that a claim names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedVolume<'a> {
    /// There is no volume of that name.
    Missing,
    /// The volume's labels, if it has any.
    Found(Option<&'a BTreeMap<String, String>>),
}

/// Who chose the volume that a claim names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// Whoever wrote the claim.
    Author,
    /// Kubernetes, for a claim that left the choice to it. A volume that nobody labelled is nobody's, as one that was
    /// made for this claim is; another tenant's stays another tenant's.
    Kubernetes,
}

/// The user that binds claims to volumes.
pub const BINDER: &str = "system:serviceaccount:kube-system:persistent-volume-binder";

/// The claim with a selector that finds volumes of the tenant only; `None` if nothing is to be changed.
///
/// Only a claim that chooses its volume needs one: it has a selector, or (when it is created) names a volume. One that
/// is bound already has chosen.
pub fn bind_to_tenant(claim: &PersistentVolumeClaim, is_new: bool, tenant: &str) -> Option<PersistentVolumeClaim> {
    let spec = claim.spec.as_ref()?;
    let chooses = spec.selector.is_some() || (is_new && names_a_volume(spec).is_some());
    if is_bound(claim) || !chooses {
        return None;
    }
    let mut changed = claim.clone();
    let selector = changed.spec.get_or_insert_default().selector.get_or_insert_default();
    if let Some(labels) = &mut selector.match_labels {
        labels.remove(names::TENANT_LABEL);
        if labels.is_empty() {
            selector.match_labels = None;
        }
    }
    let expressions = selector.match_expressions.get_or_insert_default();
    expressions.retain(|expression| expression.key != names::TENANT_LABEL);
    expressions.push(requirement(tenant));
    (changed != *claim).then_some(changed)
}

/// Checks that a claim chooses among the tenant's volumes. `volume` is the one that it names, if it names one.
///
/// # Errors
/// If the selector could find volumes of others, or the named volume is not the tenant's.
pub fn validate(
    claim: &PersistentVolumeClaim,
    volume: Option<NamedVolume<'_>>,
    chosen_by: ChosenBy,
    tenant: &str,
) -> Result<(), Denial> {
    let Some(spec) = claim.spec.as_ref().filter(|_| !is_bound(claim)) else {
        return Ok(());
    };
    if let Some(selector) = &spec.selector {
        let about_tenants: Vec<_> = selector
            .match_expressions
            .iter()
            .flatten()
            .filter(|expression| expression.key == names::TENANT_LABEL)
            .collect();
        let by_label = selector
            .match_labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(names::TENANT_LABEL));
        if by_label || about_tenants != [&requirement(tenant)] {
            let message = format!(
                "spec.selector: it has to require {} In [{tenant}] and nothing else of that label, so that only volumes of \
                 the Tenant are found; this is required of every claim in a tenant's namespace",
                names::TENANT_LABEL
            );
            return Err(Denial::new("spec.selector", "CrossTenantReference", message));
        }
    }
    let Some(name) = names_a_volume(spec) else {
        return Ok(());
    };
    let refuse = |detail: String| {
        let message = format!(
            "spec.volumeName: {detail}; a claim can name a volume that carries the label {}={tenant}, which an \
             administrator of this cluster sets",
            names::TENANT_LABEL
        );
        Err(Denial::new("spec.volumeName", "CrossTenantReference", message))
    };
    // A volume of another tenant looks like one that nobody labelled: whose it is, is not for this tenant to know.
    match volume {
        None | Some(NamedVolume::Missing) => refuse(format!(
            "cannot create a PVC referring to a not yet existing PV ({name:?})"
        )),
        Some(NamedVolume::Found(labels)) => match labels.and_then(|labels| labels.get(names::TENANT_LABEL)) {
            Some(owner) if owner == tenant => Ok(()),
            None if chosen_by == ChosenBy::Kubernetes => Ok(()),
            None => refuse(format!(
                "PersistentVolume {name} is missing the Tenant label ({}), preventing a potential cross-tenant mount",
                names::TENANT_LABEL
            )),
            Some(_) => refuse(format!("Preventing a cross-tenant mount for PersistentVolume {name}")),
        },
    }
}

/// The volume that a claim names, if it names one.
pub fn named_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref().and_then(names_a_volume)
}

fn names_a_volume(spec: &PersistentVolumeClaimSpec) -> Option<&str> {
    spec.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

fn requirement(tenant: &str) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: names::TENANT_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![tenant.to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn claim(spec: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "data"}, "spec": spec})).unwrap()
    }

    fn of(tenant: &str) -> Value {
        json!({"key": "capsule.clastix.io/tenant", "operator": "In", "values": [tenant]})
    }

    #[rstest]
    #[case::a_selector_gains_the_tenant(
        json!({"selector": {"matchLabels": {"disk": "ssd"}}}),
        true,
        Some(json!({"matchLabels": {"disk": "ssd"}, "matchExpressions": [of("oil")]}))
    )]
    #[case::another_tenant_is_replaced(
        json!({"selector": {"matchLabels": {"capsule.clastix.io/tenant": "gas"}, "matchExpressions": [of("gas")]}}),
        true,
        Some(json!({"matchExpressions": [of("oil")]}))
    )]
    #[case::a_named_volume_gains_a_selector(json!({"volumeName": "pv"}), true, Some(json!({"matchExpressions": [of("oil")]})))]
    #[case::but_not_later(json!({"volumeName": "pv"}), false, None)]
    #[case::a_claim_that_chooses_nothing(json!({"storageClassName": "gold"}), true, None)]
    #[case::a_claim_that_is_right(json!({"selector": {"matchExpressions": [of("oil")]}}), true, None)]
    fn a_claim_is_bound_to_its_tenant(#[case] spec: Value, #[case] is_new: bool, #[case] selector: Option<Value>) {
        let changed = bind_to_tenant(&claim(spec), is_new, "oil");
        let changed = changed.map(|claim| serde_json::to_value(claim.spec.unwrap().selector.unwrap()).unwrap());
        assert_eq!(changed, selector);
    }

    #[test]
    fn what_was_bound_to_the_tenant_is_valid() {
        let changed = bind_to_tenant(
            &claim(json!({"selector": {"matchLabels": {"disk": "ssd"}}})),
            true,
            "oil",
        )
        .unwrap();
        assert_eq!(validate(&changed, None, ChosenBy::Author, "oil"), Ok(()));
        assert!(validate(&changed, None, ChosenBy::Author, "gas").is_err());
    }

    #[test]
    fn a_bound_claim_has_chosen() {
        let mut bound = claim(json!({"volumeName": "pv", "selector": {}}));
        bound.status.get_or_insert_default().phase = Some("Bound".into());
        assert_eq!(bind_to_tenant(&bound, false, "oil"), None);
        assert_eq!(validate(&bound, None, ChosenBy::Author, "oil"), Ok(()));
    }

    #[rstest]
    #[case::no_requirement(json!({"matchLabels": {"disk": "ssd"}}))]
    #[case::another_tenant(json!({"matchExpressions": [of("gas")]}))]
    #[case::both(json!({"matchExpressions": [of("oil"), of("gas")]}))]
    #[case::by_label(json!({"matchLabels": {"capsule.clastix.io/tenant": "oil"}, "matchExpressions": [of("oil")]}))]
    fn a_selector_that_could_find_others_is_refused(#[case] selector: Value) {
        let denial = validate(&claim(json!({"selector": selector})), None, ChosenBy::Author, "oil").unwrap_err();
        assert_eq!(
            (denial.field.as_str(), denial.reason),
            ("spec.selector", "CrossTenantReference")
        );
    }

    #[test]
    fn a_named_volume_has_to_be_the_tenants() {
        let claim = claim(json!({"volumeName": "pv"}));
        let labels = |tenant: &str| BTreeMap::from([("capsule.clastix.io/tenant".to_owned(), tenant.to_owned())]);
        let message = |volume| validate(&claim, Some(volume), ChosenBy::Author, "oil").map_err(|denial| denial.message);
        let (oil, gas) = (labels("oil"), labels("gas"));
        assert_eq!(message(NamedVolume::Found(Some(&oil))), Ok(()));
        for (volume, text) in [
            (
                NamedVolume::Missing,
                "cannot create a PVC referring to a not yet existing PV",
            ),
            (
                NamedVolume::Found(None),
                "PersistentVolume pv is missing the Tenant label (capsule.clastix.io/tenant)",
            ),
            (
                NamedVolume::Found(Some(&gas)),
                "Preventing a cross-tenant mount for PersistentVolume pv",
            ),
        ] {
            let message = message(volume).unwrap_err();
            assert!(message.contains(text), "{message}");
            assert!(!message.contains("gas"), "{message}");
        }
    }

    #[test]
    fn kubernetes_binds_volumes_of_nobody_and_of_the_tenant_and_of_no_other() {
        let claim = claim(json!({"volumeName": "disk"}));
        let owned_by = |tenant: &str| BTreeMap::from([("capsule.clastix.io/tenant".to_owned(), tenant.to_owned())]);
        let bound = |labels: Option<&BTreeMap<String, String>>| {
            validate(&claim, Some(NamedVolume::Found(labels)), ChosenBy::Kubernetes, "oil").is_ok()
        };
        assert!(bound(None));
        assert!(bound(Some(&owned_by("oil"))));
        assert!(!bound(Some(&owned_by("gas"))));
    }
}
