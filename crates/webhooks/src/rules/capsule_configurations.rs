//! The CapsuleConfiguration.

use api::capsule::v1beta2::CapsuleConfiguration;
use tenancy::configuration_admission;
use tenancy::denial::Decision;

use crate::decide::Input;

/// Refuses a configuration that could not be used as it is written.
pub fn validate(input: &Input<'_, CapsuleConfiguration>) -> Decision<CapsuleConfiguration> {
    match input.object {
        Some(configuration) => configuration_admission::validate(configuration),
        None => Decision::Allow,
    }
}
