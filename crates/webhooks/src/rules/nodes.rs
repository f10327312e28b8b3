//! Nodes: labels and annotations that are not for tenant users.

use k8s_openapi::api::core::v1::Node;
use tenancy::caller::classify;
use tenancy::denial::Decision;
use tenancy::nodes;
use tenancy::subject::User;

use crate::decide::Input;

/// Refuses tenant users changes of what the configuration forbids.
pub fn validate(input: &Input<'_, Node>) -> Decision<Node> {
    let (Some(node), Some(old)) = (input.object, input.old) else {
        return Decision::Allow;
    };
    let settings = &input.view.settings;
    let caller = classify(&User::of(&input.request.user_info), settings, &input.view.known);
    nodes::validate(caller, &settings.spec, node, old).into()
}
