//! TenantControlPlane.

use api::kamaji::v1alpha1::TenantControlPlane;
use tenancy::control_plane::placement;
use tenancy::control_plane::{Surroundings, Verdict, admit_create, admit_update, complete};
use tenancy::denial::Decision;

use super::decision;
use crate::decide::Input;
use crate::review::Operation;

/// Writes down what the author of a new control plane left out.
pub fn mutate(input: &Input<'_, TenantControlPlane>) -> Decision<TenantControlPlane> {
    let Some(wanted) = input.object.filter(|_| input.request.operation == Operation::Create) else {
        return Decision::Allow;
    };
    // What waits for a place in a pool is not put into the default store.
    let default = input.view.default_data_store();
    let default = default.filter(|_| !placement::is_wanted(wanted, &input.view.data_stores(), default));
    Decision::Change(Box::new(complete(wanted, default)), Vec::new())
}

/// Refuses what the programs behind a control plane would not take, and what is not its author's to reach.
pub fn validate(input: &Input<'_, TenantControlPlane>) -> Decision<TenantControlPlane> {
    let Some(wanted) = input.object else {
        return Decision::Allow;
    };
    let (control_planes, data_stores, trust) = (
        input.view.control_planes(),
        input.view.data_stores(),
        input.view.trust(),
    );
    let around = Surroundings {
        control_planes: &control_planes,
        data_stores: &data_stores,
        default_data_store: input.view.default_data_store(),
        node_port_range: input.view.node_port_range(),
        node_ports: &input.facts.node_ports,
        gateway_api: input.facts.gateway_api,
        own: &input.facts.own,
        trust: &trust,
    };
    let Verdict { denials, warnings } = match input.old {
        None => admit_create(wanted, &around),
        Some(old) => admit_update(old, wanted, &around),
    };
    decision(denials, warnings)
}
