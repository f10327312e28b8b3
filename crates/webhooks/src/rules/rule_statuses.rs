//! RuleStatuses: the rules of a namespace, as they are written out in it.

use api::capsule::v1beta2::RuleStatus;
use tenancy::denial::Decision;
use tenancy::rules::check;

use crate::decide::Input;

/// Refuses rules that could not be carried out. What an update leaves as it is is not looked at again.
pub fn validate(input: &Input<'_, RuleStatus>) -> Decision<RuleStatus> {
    let Some(object) = input.object else {
        return Decision::Allow;
    };
    if input.old.is_some_and(|old| old.spec == object.spec) {
        return Decision::Allow;
    }
    // Names of budgets begin with the tenant's; where there is none, nobody makes any.
    let tenant = input.tenant().ok().flatten();
    let tenant = tenant.as_ref().map(|tenant| tenant.name.as_str()).unwrap_or_default();
    let faults = check::check(tenant, object.spec.0.iter().map(Into::into), None);
    check::denial("spec", &faults).map_or(Decision::Allow, Decision::Deny)
}
