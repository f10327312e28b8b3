//! Tenants themselves.

use api::capsule::v1beta2::Tenant;
use tenancy::denial::Decision;
use tenancy::quota::rule_quotas;
use tenancy::tenant_admission;

use crate::decide::Input;

/// Gives a Tenant the label that selectors find it by.
pub fn mutate(input: &Input<'_, Tenant>) -> Decision<Tenant> {
    input.object.map_or(Decision::Allow, tenant_admission::mutate)
}

/// Refuses what could not be served as it is written, and the deletion of a protected Tenant.
pub fn validate(input: &Input<'_, Tenant>) -> Decision<Tenant> {
    match (input.object, input.old) {
        (Some(tenant), None) => tenant_admission::validate_create(tenant, &input.view.settings),
        (Some(tenant), Some(old)) => match rule_quotas::validate_change(tenant, old, &input.facts.taken_of_rules) {
            Ok(()) => tenant_admission::validate_update(tenant, old),
            Err(denial) => Decision::Deny(denial),
        },
        (None, Some(old)) => tenant_admission::validate_delete(old),
        (None, None) => Decision::Allow,
    }
}
