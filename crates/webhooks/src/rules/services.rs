//! Services: type, external IPs, labels and annotations.

use k8s_openapi::api::core::v1::Service;
use tenancy::denial::Decision;
use tenancy::services;

use super::objects::Asked;
use crate::decide::Input;

/// Refuses what the tenant's options for Services and its rules do not allow.
pub fn validate(input: &Input<'_, Service>) -> Decision<Service> {
    let Some(service) = input.object else {
        return Decision::Allow;
    };
    match input.tenant() {
        Ok(Some(tenant)) => services::validate(&tenant, service, input.old)
            .and_then(|()| Asked::of(input, &tenant).validate(service.into(), input.old.map(Into::into)))
            .into(),
        Ok(None) => Decision::Allow,
        Err(denial) => Decision::Deny(denial),
    }
}
