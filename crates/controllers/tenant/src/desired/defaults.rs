//! What the API server writes into objects by itself, so that a copy is recognised in its answer without asking again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use tenancy::quantity::Quantity;

/// See `pkg/apis/networking/v1/defaults.go` of Kubernetes.
pub(super) fn of_network_policy(policy: &mut NetworkPolicy) {
    fn ports(ports: &mut Option<Vec<NetworkPolicyPort>>) {
        for port in ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }
    let spec = policy.spec.get_or_insert_default();
    spec.ingress
        .iter_mut()
        .flatten()
        .for_each(|rule| ports(&mut rule.ports));
    spec.egress.iter_mut().flatten().for_each(|rule| ports(&mut rule.ports));
    spec.pod_selector.get_or_insert_default();
    if spec.policy_types.iter().flatten().next().is_none() {
        let egress = spec.egress.iter().flatten().next().is_some();
        let types = if egress {
            &["Ingress", "Egress"][..]
        } else {
            &["Ingress"]
        };
        spec.policy_types = Some(types.iter().map(|kind| (*kind).to_owned()).collect());
    }
}

/// See `pkg/apis/core/v1/defaults.go` of Kubernetes: for containers a limit is the default where none is named, and a
/// default, or else a minimum, is the default request.
pub(super) fn of_limit_range(range: &mut LimitRange) {
    for item in range.spec.iter_mut().flat_map(|spec| &mut spec.limits) {
        for amounts in [
            &mut item.default,
            &mut item.default_request,
            &mut item.max,
            &mut item.max_limit_request_ratio,
            &mut item.min,
        ] {
            amounts.iter_mut().for_each(canonical);
        }
        if item.type_ == "Container" {
            of_container_limits(item);
        }
    }
}

fn of_container_limits(item: &mut LimitRangeItem) {
    let mut default = item.default.take().unwrap_or_default();
    for (key, amount) in item.max.iter().flatten() {
        default.entry(key.clone()).or_insert_with(|| amount.clone());
    }
    let mut request = item.default_request.take().unwrap_or_default();
    for (key, amount) in default.iter().chain(item.min.iter().flatten()) {
        request.entry(key.clone()).or_insert_with(|| amount.clone());
    }
    item.default = (!default.is_empty()).then_some(default);
    item.default_request = (!request.is_empty()).then_some(request);
}

pub(super) fn of_resource_quota(quota: &mut ResourceQuota) {
    quota
        .spec
        .iter_mut()
        .filter_map(|spec| spec.hard.as_mut())
        .for_each(canonical);
}

/// See `pkg/apis/rbac/v1/defaults.go` of Kubernetes.
pub(super) fn of_role_binding(binding: &mut RoleBinding) {
    for subject in binding.subjects.iter_mut().flatten() {
        let group = subject.api_group.take().filter(|group| !group.is_empty());
        let named = matches!(subject.kind.as_str(), "User" | "Group");
        subject.api_group = group.or_else(|| named.then(|| "rbac.authorization.k8s.io".to_owned()));
    }
}

/// Amounts are stored in one way of writing only. What is not an amount stays, for the API server to refuse.
fn canonical(amounts: &mut BTreeMap<String, Amount>) {
    for amount in amounts.values_mut() {
        if let Ok(quantity) = Quantity::parse(amount) {
            *amount = quantity.to_wire();
        }
    }
}
