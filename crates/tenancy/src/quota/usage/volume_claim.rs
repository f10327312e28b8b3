//! Claims for volumes: themselves and the storage that they ask for, in all and of their class.

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::api::resource::Quantity as Wire};

use super::{Amounts, InvalidAmount, ONE};
use crate::{quantity::Quantity, quota::amounts::amount};

/// The class, as it was written before there was a field. It still wins over the field.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const STORAGE: &str = "storage";

/// What a claim uses, apart from being an object.
pub(super) fn usage(claim: &PersistentVolumeClaim) -> Result<Amounts, InvalidAmount> {
    let mut used = vec![("persistentvolumeclaims".to_owned(), ONE)];
    if let Some(storage) = storage(claim)? {
        used.push(("requests.storage".to_owned(), storage));
    }
    let class = class(claim).filter(|class| !class.is_empty());
    let of_class: Vec<_> = class
        .into_iter()
        .flat_map(|class| {
            used.iter()
                .map(move |(resource, amount)| (format!("{class}.storageclass.storage.k8s.io/{resource}"), *amount))
        })
        .collect();
    Ok(used.into_iter().chain(of_class).collect())
}

fn class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref();
    let old = annotations.and_then(|annotations| annotations.get(CLASS_ANNOTATION));
    let class = old.or(claim.spec.as_ref()?.storage_class_name.as_ref());
    class.map(String::as_str)
}

/// What the claim asks for, or was granted while it grows, in whole bytes.
fn storage(claim: &PersistentVolumeClaim) -> Result<Option<Quantity>, InvalidAmount> {
    let requests = claim
        .spec
        .iter()
        .find_map(|spec| spec.resources.as_ref()?.requests.as_ref());
    let Some(asked) = requests.and_then(|requests| requests.get(STORAGE)) else {
        return Ok(None);
    };
    let asked = whole("spec.resources.requests[storage]", asked)?;
    let allocated = claim
        .status
        .iter()
        .find_map(|status| status.allocated_resources.as_ref()?.get(STORAGE));
    let granted = allocated
        .map(|granted| whole("status.allocatedResources[storage]", granted))
        .transpose()?;
    Ok(Some(granted.map_or(asked, |granted| granted.max(asked))))
}

fn whole(field: &str, wire: &Wire) -> Result<Quantity, InvalidAmount> {
    amount(|| field.to_owned(), wire).map(Quantity::rounded_up)
}
