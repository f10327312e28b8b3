//! What a generator's status says. Pure.

use api::kamaji::v1alpha1::{KubeconfigGenerator, KubeconfigGeneratorError, KubeconfigGeneratorStatus};

use crate::Key;

/// More would not help a person, and an object has a limit; the two numbers say how many there are.
const MOST_ERRORS: usize = 500;

/// The status after a pass over `targets` control planes.
pub(super) fn of(
    generator: &KubeconfigGenerator,
    targets: usize,
    failures: &[(Key, String)],
) -> KubeconfigGeneratorStatus {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    KubeconfigGeneratorStatus {
        resources: count(targets),
        available_resources: count(targets.saturating_sub(failures.len())),
        errors: failures
            .iter()
            .take(MOST_ERRORS)
            .map(|(key, message)| KubeconfigGeneratorError {
                resource: key.to_string(),
                message: message.clone(),
            })
            .collect(),
        observed_generation: generator.metadata.generation,
    }
}
