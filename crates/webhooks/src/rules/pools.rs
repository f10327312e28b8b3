//! ResourcePools.

use api::capsule::v1beta2::ResourcePool;
use tenancy::denial::Decision;
use tenancy::quota::pool;

use crate::decide::Input;

/// Writes down that namespaces may use nothing without a claim, where the pool asks for that.
pub fn default_to_zero(input: &Input<'_, ResourcePool>) -> Decision<ResourcePool> {
    let changed = input.object.and_then(pool::with_defaults);
    changed.map_or(Decision::Allow, |changed| {
        Decision::Change(Box::new(changed), Vec::new())
    })
}

/// Refuses amounts that are none, and a budget below what is claimed.
pub fn validate(input: &Input<'_, ResourcePool>) -> Decision<ResourcePool> {
    input
        .object
        .map_or(Decision::Allow, |object| pool::validate_pool(object, input.old).into())
}
