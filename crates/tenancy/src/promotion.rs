//! Promotion: ServiceAccounts that get a tenant's roles, or its ownership, by a label.

use std::collections::BTreeMap;

use api::capsule::names;

use crate::{caller::Caller, denial::Denial, index::KnownTenant, settings::Settings, subject::User};

/// Checks the labels of a ServiceAccount in a tenant's namespace. Promotion has to be switched on, and only an owner of the
/// tenant or an administrator may ask for it. `before` are the labels before an update: what a label said already is
/// not asked for again.
///
/// # Errors
/// If promotion is off, or the caller may not promote.
pub fn decide(
    user: &User<'_>,
    caller: Caller,
    tenant: &KnownTenant,
    labels: Option<&BTreeMap<String, String>>,
    before: Option<&BTreeMap<String, String>>,
    settings: &Settings,
) -> Result<(), Denial> {
    let value =
        |labels: Option<&'_ BTreeMap<String, String>>, key: &str| labels.and_then(|labels| labels.get(key)).cloned();
    for key in [names::OWNER_PROMOTION_LABEL, names::PROMOTION_LABEL] {
        let wanted = value(labels, key);
        if wanted.is_none() || wanted == value(before, key) {
            continue;
        }
        let field = format!("metadata.labels[{key}]");
        let refuse = |detail: &str| {
            Err(Denial::new(
                field.clone(),
                "ReasonPromotionDenied",
                format!("{field}: {detail}"),
            ))
        };
        if !settings.allow_promotion {
            return refuse(
                "service account promotion is disabled; an administrator of this cluster can allow it with \
                 spec.allowServiceAccountPromotion of the CapsuleConfiguration",
            );
        }
        let permissions = tenant.object.spec.permissions.as_ref();
        if key == names::OWNER_PROMOTION_LABEL
            && !permissions.is_some_and(|permissions| permissions.allow_owner_promotion)
        {
            return refuse(
                "promotion of service accounts to owners is disabled for the current Tenant; an administrator can allow \
                 it with spec.permissions.allowOwnerPromotion of the Tenant",
            );
        }
        if caller != Caller::Administrator && !tenant.is_owned_by(user) {
            return refuse(&format!(
                "{} not allowed to promote serviceaccount to tenant owner; an owner of Tenant {} can",
                user.name, tenant.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{settings, tenant};
    use crate::pattern::Cache;
    use serde_json::json;

    fn message(user: &str, label: &str, on: bool, permissions: bool, before: bool) -> Option<String> {
        let spec = if permissions {
            json!({"permissions": {}})
        } else {
            json!({})
        };
        let oil = KnownTenant::new(tenant("oil").owner("alice").with(spec).into(), &mut Cache::default());
        let labels = BTreeMap::from([(label.to_owned(), "true".to_owned())]);
        let settings = settings(json!({"allowServiceAccountPromotion": on}));
        let caller = if user == "root" {
            Caller::Administrator
        } else {
            Caller::TenantUser
        };
        let user = User {
            name: user,
            groups: &[],
        };
        decide(&user, caller, &oil, Some(&labels), before.then_some(&labels), &settings)
            .err()
            .map(|denial| denial.message)
    }

    #[test]
    fn an_owner_promotes_where_it_is_switched_on() {
        let (owner, plain) = ("owner.projectcapsule.dev/promote", "projectcapsule.dev/promote");
        assert_eq!(message("alice", owner, true, true, false), None);
        assert_eq!(message("alice", plain, true, false, false), None);
        assert_eq!(message("root", owner, true, true, false), None);
        assert_eq!(message("alice", "other", false, false, false), None);
        let refused = [
            (
                message("alice", owner, false, true, false),
                "service account promotion is disabled",
            ),
            (
                message("alice", plain, false, true, false),
                "service account promotion is disabled",
            ),
            (
                message("alice", owner, true, false, false),
                "is disabled for the current Tenant",
            ),
            (
                message("mallory", owner, true, true, false),
                "mallory not allowed to promote serviceaccount",
            ),
        ];
        for (message, text) in refused {
            assert!(
                message.clone().is_some_and(|message| message.contains(text)),
                "{message:?}: {text}"
            );
        }
    }

    #[test]
    fn a_label_that_is_there_already_is_not_asked_for_again() {
        assert_eq!(
            message("mallory", "owner.projectcapsule.dev/promote", false, false, true),
            None
        );
    }
}
