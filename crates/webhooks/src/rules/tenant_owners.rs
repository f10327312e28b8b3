//! TenantOwners.

use api::capsule::v1beta2::TenantOwner;
use tenancy::denial::Decision;
use tenancy::tenant_owners;

use crate::decide::Input;

/// Refuses a TenantOwner whose subject or roles could not be bound.
pub fn validate(input: &Input<'_, TenantOwner>) -> Decision<TenantOwner> {
    input.object.map_or(Decision::Allow, tenant_owners::validate)
}
