//! Copies of a tenant's network policies, limit ranges and quotas, for one namespace.

use std::collections::BTreeMap;

use api::capsule::{names, v1beta2::Tenant};
use k8s_openapi::{
    api::{
        core::v1::{LimitRange, ResourceQuota, ResourceQuotaSpec},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube_core::ResourceExt;

use crate::linkage;

/// The name of the copy of the item at this place.
pub fn name(tenant: &str, index: usize) -> String {
    format!("{}{tenant}-{index}", names::REPLICA_PREFIX)
}

/// Labels of an object that is kept for a tenant. `key` says what kind of object, `value` which one.
pub fn labels(tenant: &Tenant, key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (key.to_owned(), value.to_owned()),
        (
            names::MANAGED_BY_LABEL.to_owned(),
            names::MANAGED_BY_CONTROLLER.to_owned(),
        ),
        (names::PROJECT_TENANT_LABEL.to_owned(), tenant.name_any()),
        (names::MANAGED_BY_TENANT.to_owned(), tenant.name_any()),
    ])
}

/// The reference to the tenant that keeps an object.
pub fn controller_reference(tenant: &Tenant) -> OwnerReference {
    OwnerReference {
        controller: Some(true),
        block_owner_deletion: Some(true),
        ..linkage::owner_reference(tenant)
    }
}

/// The network policies of one namespace.
pub fn network_policies(tenant: &Tenant, namespace: &str) -> Vec<NetworkPolicy> {
    let items = tenant.spec.network_policies.iter().flat_map(|policies| &policies.items);
    let copies = items.enumerate().map(|(index, spec)| NetworkPolicy {
        metadata: metadata(tenant, namespace, names::NETWORK_POLICY_LABEL, index),
        spec: Some(spec.clone()),
    });
    copies.collect()
}

/// The limit ranges of one namespace.
pub fn limit_ranges(tenant: &Tenant, namespace: &str) -> Vec<LimitRange> {
    let items = tenant.spec.limit_ranges.iter().flat_map(|ranges| &ranges.items);
    let copies = items.enumerate().map(|(index, spec)| LimitRange {
        metadata: metadata(tenant, namespace, names::LIMIT_RANGE_LABEL, index),
        spec: Some(spec.clone()),
    });
    copies.collect()
}

/// A quota of one namespace, with what it may use; see [`crate::quotas`].
pub(crate) fn resource_quota(
    tenant: &Tenant,
    namespace: &str,
    index: usize,
    spec: ResourceQuotaSpec,
    annotations: BTreeMap<String, String>,
) -> ResourceQuota {
    let mut metadata = metadata(tenant, namespace, names::RESOURCE_QUOTA_LABEL, index);
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    ResourceQuota {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn metadata(tenant: &Tenant, namespace: &str, key: &str, index: usize) -> ObjectMeta {
    ObjectMeta {
        name: Some(name(&tenant.name_any(), index)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(tenant, key, &index.to_string())),
        owner_references: Some(vec![controller_reference(tenant)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use serde_json::json;

    #[test]
    fn each_item_has_a_copy_named_after_its_place() {
        let oil = tenant("oil").with(json!({
            "networkPolicies": {"items": [{"podSelector": {}, "policyTypes": ["Ingress"]}, {"podSelector": {}}]},
            "limitRanges": {"items": [{"limits": [{"type": "Container"}]}]},
        }));
        let oil = oil.build();
        let policies = network_policies(&oil, "oil-one");
        assert_eq!(policies.len(), 2);
        assert_eq!(
            serde_json::to_value(&policies[1]).unwrap(),
            json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {
                    "name": "capsule-oil-1",
                    "namespace": "oil-one",
                    "labels": {
                        "capsule.clastix.io/network-policy": "1",
                        "projectcapsule.dev/managed-by": "controller",
                        "projectcapsule.dev/tenant": "oil",
                        "capsule.clastix.io/managed-by": "oil",
                    },
                    "ownerReferences": [{
                        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "uid-of-oil",
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {"podSelector": {}},
            })
        );
        let ranges = limit_ranges(&oil, "oil-one");
        assert_eq!(ranges[0].name_any(), "capsule-oil-0");
        assert_eq!(
            ranges[0]
                .labels()
                .get("capsule.clastix.io/limit-range")
                .map(String::as_str),
            Some("0")
        );
    }
}
