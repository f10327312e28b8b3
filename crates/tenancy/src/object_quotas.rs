//! Limits on numbers of objects, as annotations of a tenant say them.
//!
//! `quota.resources.capsule.clastix.io/<plural>.<group>_<version>: "N"` means that the tenant may have N of them in all its
//! namespaces. Kubernetes itself counts objects of any kind: each limit becomes `count/<plural>.<group>` in one more budget
//! that the namespaces share ([`crate::quotas`]), so nothing of ours has to be asked about, or to list, other people's objects.

use std::collections::BTreeMap;

use api::capsule::{names, v1beta2::Tenant};
use k8s_openapi::{api::core::v1::ResourceQuotaSpec, apimachinery::pkg::api::resource::Quantity};
use kube_core::ResourceExt;

use crate::{denial::Denial, name::is_qualified_name};

/// The budget that a tenant's annotations ask for; `None` if they ask for none.
///
/// # Errors
/// The first annotation that is no limit.
pub fn budget(tenant: &Tenant) -> Result<Option<ResourceQuotaSpec>, Denial> {
    let mut limits: BTreeMap<String, u32> = BTreeMap::new();
    for (key, limit) in tenant.annotations() {
        let Some(kind) = key.strip_prefix(names::OBJECT_QUOTA_ANNOTATION_PREFIX) else {
            continue;
        };
        let field = format!("metadata.annotations[{key}]");
        let refused = |detail: String| {
            let message = format!("{field}: {detail}");
            Denial::new(field.clone(), "ObjectQuotaInvalid", message)
        };
        let resource = counted(kind).ok_or_else(|| {
            refused(format!(
                "{kind:?} does not name a kind; write <plural>.<group>_<version>, such as foos.example.com_v1"
            ))
        })?;
        let limit: u32 = limit
            .trim()
            .parse()
            .map_err(|_| refused(format!("{limit:?} is not a number of objects, such as \"10\"")))?;
        // Versions of one kind are the same objects: the smallest limit is the one that holds.
        let smallest = limits.entry(resource).or_insert(limit);
        *smallest = limit.min(*smallest);
    }
    let hard: BTreeMap<String, Quantity> = limits
        .into_iter()
        .map(|(resource, limit)| (resource, Quantity(limit.to_string())))
        .collect();
    Ok((!hard.is_empty()).then(|| ResourceQuotaSpec {
        hard: Some(hard),
        ..ResourceQuotaSpec::default()
    }))
}

/// What Kubernetes calls the number of objects of this kind.
fn counted(kind: &str) -> Option<String> {
    let (resource, version) = kind.rsplit_once('_')?;
    let resource = format!("count/{}", resource.trim_end_matches('.'));
    (!version.is_empty() && is_qualified_name(&resource)).then_some(resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use rstest::rstest;

    #[test]
    fn limits_become_counts_of_kubernetes() {
        let oil = tenant("oil")
            .annotation("quota.resources.capsule.clastix.io/foos.example.com_v1", "3")
            .annotation("quota.resources.capsule.clastix.io/foos.example.com_v1beta1", "600")
            .annotation("quota.resources.capsule.clastix.io/configmaps_v1", "0")
            .annotation("note", "x");
        let hard = budget(&oil.build()).unwrap().and_then(|spec| spec.hard).unwrap();
        let hard: Vec<_> = hard.into_iter().map(|(key, value)| (key, value.0)).collect();
        assert_eq!(
            hard,
            [
                ("count/configmaps".to_owned(), "0".to_owned()),
                ("count/foos.example.com".to_owned(), "3".to_owned())
            ]
        );
        assert_eq!(budget(&tenant("oil").build()), Ok(None));
    }

    #[rstest]
    #[case::no_number("foos.example.com_v1", "many")]
    #[case::negative("foos.example.com_v1", "-1")]
    #[case::no_version("foos.example.com", "1")]
    #[case::nothing_named("_v1", "1")]
    fn what_is_no_limit_is_said(#[case] kind: &str, #[case] limit: &str) {
        let key = format!("quota.resources.capsule.clastix.io/{kind}");
        let denial = budget(&tenant("oil").annotation(&key, limit).build()).unwrap_err();
        assert_eq!(denial.field, format!("metadata.annotations[{key}]"));
    }
}
