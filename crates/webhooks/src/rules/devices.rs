//! ResourceClaims and their templates: classes of devices.

use tenancy::denial::Decision;
use tenancy::devices::{self, Claim};

use crate::decide::Input;

/// Refuses classes that the tenant's list does not contain.
pub fn validate(input: &Input<'_, Claim>) -> Decision<Claim> {
    let Some(claim) = input.object else {
        return Decision::Allow;
    };
    match input.tenant() {
        Ok(Some(tenant)) => devices::validate(&tenant, claim, |name| input.facts.classes.get(name)).into(),
        Ok(None) => Decision::Allow,
        Err(denial) => Decision::Deny(denial),
    }
}
