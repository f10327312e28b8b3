//! The status of a Tenant in both versions.
//!
//! The API server takes it from the stored object whenever a client writes the rest of a Tenant, so whoever writes in
//! `v1beta1` converts it there and back: without what is carried, controllers would forget, among other things, which
//! labels they put on namespaces and have to take away again.

use api::capsule::{v1beta1, v1beta2};

pub(super) fn shown(status: &v1beta2::TenantStatus) -> v1beta1::TenantStatus {
    v1beta1::TenantStatus {
        state: match status.state {
            v1beta2::TenantState::Cordoned => v1beta1::TenantState::Cordoned,
            v1beta2::TenantState::Active | v1beta2::TenantState::Terminating => v1beta1::TenantState::Active,
        },
        size: status.size,
        namespaces: status.namespaces.clone(),
    }
}

/// What has to be carried of a status, if anything.
///
/// Conditions of spaces are left out: they are the most of it, annotations have an end, and the next pass of the
/// controller says them again.
pub(super) fn rest(status: &v1beta2::TenantStatus) -> Option<v1beta2::TenantStatus> {
    let mut rest = v1beta2::TenantStatus {
        state: match status.state {
            v1beta2::TenantState::Terminating => v1beta2::TenantState::Terminating,
            v1beta2::TenantState::Active | v1beta2::TenantState::Cordoned => v1beta2::TenantState::default(),
        },
        size: 0,
        namespaces: Vec::new(),
        ..status.clone()
    };
    for space in &mut rest.spaces {
        space.conditions.clear();
    }
    (rest != v1beta2::TenantStatus::default()).then_some(rest)
}

pub(super) fn said(status: &v1beta1::TenantStatus, carried: Option<v1beta2::TenantStatus>) -> v1beta2::TenantStatus {
    let carried = carried.unwrap_or_default();
    v1beta2::TenantStatus {
        state: match (status.state, carried.state) {
            (v1beta1::TenantState::Cordoned, _) => v1beta2::TenantState::Cordoned,
            (v1beta1::TenantState::Active, v1beta2::TenantState::Terminating) => v1beta2::TenantState::Terminating,
            (v1beta1::TenantState::Active, _) => v1beta2::TenantState::Active,
        },
        size: status.size,
        namespaces: status.namespaces.clone(),
        ..carried
    }
}
