//! PersistentVolumeClaims: their class, and whose volumes they may bind.

use std::collections::HashMap;

use api::capsule::names;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use tenancy::claims::{self, ChosenBy, NamedVolume};
use tenancy::classes;
use tenancy::denial::Decision;

use crate::decide::Input;
use crate::review::Operation;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Makes a claim that chooses its volume choose among those of its tenant.
pub fn bind_to_tenant(input: &Input<'_, PersistentVolumeClaim>) -> Decision<PersistentVolumeClaim> {
    let Some(claim) = input.object else {
        return Decision::Allow;
    };
    match input.tenant() {
        Ok(Some(tenant)) => {
            let is_new = input.request.operation == Operation::Create;
            Ok(claims::bind_to_tenant(claim, is_new, tenant.name.as_str())).into()
        }
        // What is wrong with the namespace is said by the validating rule.
        Ok(None) | Err(_) => Decision::Allow,
    }
}

/// Gives a claim without a class the tenant's default.
pub fn default_class(input: &Input<'_, PersistentVolumeClaim>) -> Decision<PersistentVolumeClaim> {
    let (Some(claim), Ok(Some(tenant))) = (input.object, input.tenant()) else {
        return Decision::Allow;
    };
    let all = input.view.storage_classes();
    let is_default = |value: Option<&String>| value.is_some_and(|value| value == "true");
    let cluster_default = all
        .iter()
        .find(|class| is_default(class.annotations().get(names::DEFAULT_STORAGE_CLASS_ANNOTATION)))
        .map(|class| class.name_any());
    let requested = classes_of(claim).first().copied();
    let wanted = classes::default_storage_class(tenant.storage_classes.as_ref(), requested, cluster_default.as_deref());
    let Some(wanted) = wanted else { return Decision::Allow };
    let mut changed = claim.clone();
    changed.spec.get_or_insert_default().storage_class_name = Some(wanted.to_owned());
    Decision::Change(Box::new(changed), Vec::new())
}

/// Refuses classes that the tenant's list does not contain, and volumes of others.
pub fn validate(input: &Input<'_, PersistentVolumeClaim>) -> Decision<PersistentVolumeClaim> {
    let Some(claim) = input.object else {
        return Decision::Allow;
    };
    let tenant = match input.tenant() {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return Decision::Allow,
        Err(denial) => return Decision::Deny(denial),
    };
    let all = input.view.storage_classes();
    let labels: HashMap<_, _> = all.iter().map(|class| (class.name_any(), class.labels())).collect();
    let before = input.old.map(classes_of).unwrap_or_default();
    let (wanted, is_new) = (classes_of(claim), input.request.operation == Operation::Create);
    // What a claim named before it was restricted stays: it could not be changed any more.
    let mut asked: Vec<Option<&str>> = wanted
        .iter()
        .filter(|class| !before.contains(class))
        .copied()
        .map(Some)
        .collect();
    if is_new && wanted.is_empty() {
        asked.push(None);
    }
    for class in asked {
        let labels = class.and_then(|name| labels.get(name).copied());
        if let Err(denial) = classes::storage_class(&tenant, class, labels) {
            return Decision::Deny(denial);
        }
    }
    let named = claims::named_volume(claim).map(|_| match &input.facts.volume {
        Some(volume) => NamedVolume::Found(volume.metadata.labels.as_ref()),
        None => NamedVolume::Missing,
    });
    let left_to_kubernetes = input.old.is_some_and(|old| claims::named_volume(old).is_none());
    let by_binder = input.request.user_info.username.as_deref() == Some(claims::BINDER);
    let chosen_by = if left_to_kubernetes && by_binder {
        ChosenBy::Kubernetes
    } else {
        ChosenBy::Author
    };
    claims::validate(claim, named, chosen_by, tenant.name.as_str()).into()
}

/// Every class that the claim names. The annotation was there before the field, and Kubernetes' volume controller goes by
/// it first to this day; so both have to be allowed.
fn classes_of(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let annotation = claim
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(CLASS_ANNOTATION));
    let field = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotation.into_iter().chain(field).map(String::as_str).collect()
}
