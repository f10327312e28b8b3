//! ServiceAccounts that are promoted by a label.

use k8s_openapi::api::core::v1::ServiceAccount;
use tenancy::caller::classify;
use tenancy::denial::Decision;
use tenancy::promotion;
use tenancy::subject::User;

use crate::decide::Input;

/// Refuses promotion where it is switched off, and to whoever does not own the tenant.
pub fn validate(input: &Input<'_, ServiceAccount>) -> Decision<ServiceAccount> {
    let Some(account) = input.object else {
        return Decision::Allow;
    };
    let tenant = match input.tenant() {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return Decision::Allow,
        Err(denial) => return Decision::Deny(denial),
    };
    let (user, settings) = (User::of(&input.request.user_info), &input.view.settings);
    let caller = classify(&user, settings, &input.view.known);
    let before = input.old.and_then(|old| old.metadata.labels.as_ref());
    promotion::decide(
        &user,
        caller,
        &tenant,
        account.metadata.labels.as_ref(),
        before,
        settings,
    )
    .into()
}
