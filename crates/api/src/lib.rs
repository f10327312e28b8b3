//! The kinds that Cotenant serves, field by field as their users know them.
//!
//! One module per API group and version, one file per kind or per part of a large kind. Only data lives here: what a
//! field means is decided in `tenancy` and in the controllers. Documentation comments are the text that
//! `kubectl explain` prints.

#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns repeat their keys; kube reads them one by one"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub mod capsule;
pub mod kamaji;
pub mod schema;

/// The definitions of all kinds that something acts upon, in the order in which they are installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        schema::crd::<capsule::v1beta2::CapsuleConfiguration>(),
        schema::crd::<capsule::v1beta2::CustomQuota>(),
        schema::crd::<capsule::v1beta2::GlobalCustomQuota>(),
        schema::crd::<capsule::v1beta2::GlobalResourceQuota>(),
        schema::crd::<capsule::v1beta2::QuantityLedger>(),
        schema::crd::<capsule::v1beta2::ResourcePool>(),
        schema::crd::<capsule::v1beta2::ResourcePoolClaim>(),
        schema::crd::<capsule::v1beta2::RuleStatus>(),
        capsule::definition::tenants(),
        schema::crd::<capsule::v1beta2::TenantResource>(),
        schema::crd::<capsule::v1beta2::GlobalTenantResource>(),
        schema::crd::<capsule::v1beta2::TenantOwner>(),
        schema::crd::<kamaji::v1alpha1::DataStore>(),
        schema::crd::<kamaji::v1alpha1::KubeconfigGenerator>(),
        schema::crd::<kamaji::v1alpha1::TenantControlPlane>(),
    ]
}
