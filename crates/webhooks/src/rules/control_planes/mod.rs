//! Rules about hosted control planes and their datastores. What is right is decided in `tenancy::control_plane`.

pub mod data_store;
pub mod tenant_control_plane;

use tenancy::denial::{Decision, Denial};

/// One refusal for all that is wrong, so that nobody has to repair an object sentence by sentence. The first names field
/// and reason.
fn decision<K>(denials: Vec<Denial>, warnings: Vec<String>) -> Decision<K> {
    let mut denials = denials.into_iter();
    let Some(mut first) = denials.next() else {
        return if warnings.is_empty() {
            Decision::Allow
        } else {
            Decision::Warn(warnings)
        };
    };
    for other in denials {
        first.message.push_str("; ");
        first.message.push_str(&other.message);
    }
    Decision::Deny(first)
}
