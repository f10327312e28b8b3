//! DataStore.

use api::kamaji::v1alpha1::DataStore;
use tenancy::control_plane::data_store::admit;
use tenancy::denial::Decision;

use super::decision;
use crate::decide::Input;

/// Refuses a store that could not be connected to as it is written. That it answers is the controller's to find out.
pub fn validate(input: &Input<'_, DataStore>) -> Decision<DataStore> {
    let Some(wanted) = input.object else {
        return Decision::Allow;
    };
    if input.old.is_some_and(|old| old.spec == wanted.spec) {
        return Decision::Allow;
    }
    let (denials, warnings) = admit(wanted);
    decision(denials, warnings)
}
