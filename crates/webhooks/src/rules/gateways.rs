//! Gateways of the Gateway API: class.

use tenancy::denial::Decision;
use tenancy::gateways::{self, Gateway};

use super::objects::Asked;
use crate::decide::Input;

/// Gives a Gateway without a class the tenant's default.
pub fn default_class(input: &Input<'_, Gateway>) -> Decision<Gateway> {
    match (input.object, input.tenant()) {
        (Some(gateway), Ok(Some(tenant))) => Ok(gateways::with_default_class(&tenant, gateway)).into(),
        // What is wrong with the namespace, if it is that, is said by the validating rule.
        _ => Decision::Allow,
    }
}

/// Refuses classes that the tenant's list does not contain, and what its rules do not allow.
pub fn validate(input: &Input<'_, Gateway>) -> Decision<Gateway> {
    let Some(gateway) = input.object else {
        return Decision::Allow;
    };
    let labels = gateways::class(gateway).and_then(|name| input.facts.classes.get(name));
    match input.tenant() {
        Ok(Some(tenant)) => gateways::validate(&tenant, gateway, input.old, labels)
            .and_then(|()| Asked::of(input, &tenant).validate_json())
            .into(),
        Ok(None) => Decision::Allow,
        Err(denial) => Decision::Deny(denial),
    }
}
