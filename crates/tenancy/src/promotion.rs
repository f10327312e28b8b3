//! Promotion: ServiceAccounts that get a tenant's roles, or its ownership, by a label.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::capsule::{
    names,
    v1beta2::{CoreOwner, Promotion, Tenant, UserKind, UserSpec},
};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube_core::ResourceExt;

use crate::{caller::Caller, denial::Denial, index::KnownTenant, selector, settings::Settings, subject::User};

/// How many RoleBindings the rules of one tenant may take. Owners label as many ServiceAccounts as they like, and each
/// gets its roles in every namespace that a rule selects.
pub const MOST_BINDINGS: usize = 5_000;

/// What rules promise to ServiceAccounts that carry the label.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// Each with roles and the namespaces in which it has all of them, sorted by name. One that several rules promote
    /// differently is in it several times.
    pub promotions: Vec<Promotion>,
    /// How many ServiceAccounts got nothing, because it would have been more than [`MOST_BINDINGS`].
    pub left_out: usize,
}

/// The ServiceAccounts that the tenant's rules promote: of those in its `namespaces` that carry
/// `projectcapsule.dev/promote=true`, the ones that live where a rule holds get its roles in all namespaces in which it holds.
///
/// Labels are taken at their word: who may set them is decided at admission ([`decide`]).
pub fn by_rules(tenant: &Tenant, namespaces: &[Arc<Namespace>], accounts: &[Arc<ServiceAccount>]) -> Promoted {
    let mut granted = Granted::new();
    for rule in &tenant.spec.rules {
        let promotions = rule.permissions.iter().flat_map(|permissions| &permissions.promotions);
        let selected = namespaces
            .iter()
            .filter(|namespace| selector::selects(rule.namespace_selector.as_ref(), namespace.labels()));
        let targets: BTreeSet<&str> = selected.filter_map(|it| it.metadata.name.as_deref()).collect();
        for promotion in promotions {
            for account in accounts {
                let (labels, home) = (account.labels(), account.metadata.namespace.as_deref());
                if labels.get(names::PROMOTION_LABEL).is_some_and(|value| value == "true")
                    && home.is_some_and(|home| targets.contains(home))
                    && selector::selects(promotion.selector.as_ref(), labels)
                {
                    let user = full_name(account);
                    for role in &promotion.cluster_roles {
                        let roles = granted.entry(user.clone()).or_default();
                        roles.entry(role.as_str()).or_default().extend(&targets);
                    }
                }
            }
        }
    }
    within(MOST_BINDINGS, granted)
}

/// ServiceAccount to role to namespaces.
type Granted<'a> = BTreeMap<String, BTreeMap<&'a str, BTreeSet<&'a str>>>;

/// In order of their names, as many as need at most so many RoleBindings.
fn within(mut room: usize, granted: Granted<'_>) -> Promoted {
    let mut promoted = Promoted::default();
    for (name, roles) in granted {
        let bindings: usize = roles.values().map(BTreeSet::len).sum();
        if bindings > room {
            room = 0;
            promoted.left_out += 1;
            continue;
        }
        room -= bindings;
        let mut by_targets: BTreeMap<BTreeSet<&str>, Vec<String>> = BTreeMap::new();
        for (role, targets) in roles {
            by_targets.entry(targets).or_default().push(role.to_owned());
        }
        promoted
            .promotions
            .extend(by_targets.into_iter().map(|(targets, cluster_roles)| Promotion {
                core: CoreOwner {
                    user: UserSpec {
                        kind: UserKind::ServiceAccount,
                        name: name.clone(),
                    },
                    cluster_roles,
                },
                targets: targets.into_iter().map(str::to_owned).collect(),
            }));
    }
    promoted
}

/// The name by which a ServiceAccount is known to the API server: `system:serviceaccount:<namespace>:<name>`.
pub fn full_name(account: &ServiceAccount) -> String {
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let name = account.metadata.name.as_deref().unwrap_or_default();
    format!("system:serviceaccount:{namespace}:{name}")
}

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
        if wanted.is_none()
            || wanted == value(before, key) && !chooses_other_rules(key, wanted.as_deref(), labels, before)
        {
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
            return refuse(&format!(
                "promotion of service accounts to owners is disabled for the current Tenant; an administrator can allow \
                 it with {}",
                tenant.field("spec.permissions.allowOwnerPromotion")
            ));
        }
        if caller != Caller::Administrator && !tenant.is_owned_by(user) {
            return refuse(&format!(
                "{} not allowed to promote serviceaccount to tenant owner; an owner of the Tenant {:?} can",
                user.name,
                tenant.name.as_str()
            ));
        }
    }
    Ok(())
}

/// Whether labels of an account that rules promote change: they decide which rules do.
fn chooses_other_rules(
    key: &str,
    promoted: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
    before: Option<&BTreeMap<String, String>>,
) -> bool {
    key == names::PROMOTION_LABEL && promoted == Some("true") && labels != before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{namespace, settings, tenant};
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
    fn labels_that_choose_other_rules_for_a_promoted_account_are_an_owners_to_change() {
        let oil = KnownTenant::new(tenant("oil").owner("alice").into(), &mut Cache::default());
        let settings = settings(json!({"allowServiceAccountPromotion": true}));
        let ask = |name: &str, promoted: &str, tier: &str| {
            let labels = |tier: &str| {
                BTreeMap::from([
                    ("projectcapsule.dev/promote".to_owned(), promoted.to_owned()),
                    ("tier".to_owned(), tier.to_owned()),
                ])
            };
            let user = User { name, groups: &[] };
            let (now, before) = (labels(tier), labels("dev"));
            decide(&user, Caller::Unknown, &oil, Some(&now), Some(&before), &settings)
        };
        assert_eq!(ask("alice", "true", "ops"), Ok(()));
        assert_eq!(ask("editor", "true", "dev"), Ok(()));
        assert_eq!(ask("editor", "false", "ops"), Ok(()));
        assert!(ask("editor", "true", "ops").is_err());
    }

    fn account(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Arc<ServiceAccount> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let account = json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}});
        Arc::new(serde_json::from_value(account).unwrap())
    }

    /// Who has which roles where, one line each.
    fn said(promoted: &Promoted) -> Vec<String> {
        let line = |promotion: &Promotion| {
            let (roles, targets) = (&promotion.core.cluster_roles, &promotion.targets);
            format!(
                "{}: {} in {}",
                promotion.core.user.name,
                roles.join(" "),
                targets.join(" ")
            )
        };
        promoted.promotions.iter().map(line).collect()
    }

    fn namespaces() -> Vec<Arc<Namespace>> {
        [("oil-dev", "dev"), ("oil-prod", "prod"), ("oil-test", "dev")]
            .map(|(name, env)| Arc::new(namespace(name).of("oil").label("env", env).build()))
            .to_vec()
    }

    #[test]
    fn rules_promote_whom_they_select_where_they_hold() {
        let oil = tenant("oil").with(json!({"rules": [
            {
                "namespaceSelector": {"matchLabels": {"env": "dev"}},
                "permissions": {"promotions": [
                    {"clusterRoles": ["view", "edit"]},
                    {"clusterRoles": ["debug"], "selector": {"matchLabels": {"kind": "ci"}}},
                ]},
            },
            {"permissions": {"promotions": [{"clusterRoles": ["view"], "selector": {"matchLabels": {"kind": "ci"}}}]}},
            {"permissions": {"promotions": [{"selector": {"matchLabels": {"kind": "ci"}}}]}},
        ]}));
        let on = ("projectcapsule.dev/promote", "true");
        let accounts = [
            account("oil-dev", "plain", &[on]),
            account("oil-dev", "robot", &[on, ("kind", "ci")]),
            account("oil-prod", "robot", &[on, ("kind", "ci")]),
            account("oil-prod", "plain", &[on]),
            account("oil-dev", "no", &[("projectcapsule.dev/promote", "no"), ("kind", "ci")]),
            account("gas-dev", "robot", &[on, ("kind", "ci")]),
        ];
        let promoted = by_rules(&oil.build(), &namespaces(), &accounts);
        assert_eq!(
            said(&promoted),
            [
                "system:serviceaccount:oil-dev:plain: edit view in oil-dev oil-test",
                // What one rule gives in two namespaces is not given in the three of another.
                "system:serviceaccount:oil-dev:robot: view in oil-dev oil-prod oil-test",
                "system:serviceaccount:oil-dev:robot: debug edit in oil-dev oil-test",
                "system:serviceaccount:oil-prod:robot: view in oil-dev oil-prod oil-test",
            ]
        );
        assert_eq!(promoted.left_out, 0);
    }

    #[test]
    fn nobody_is_promoted_without_a_rule() {
        let accounts = [account("oil-dev", "robot", &[("projectcapsule.dev/promote", "true")])];
        let promoted = by_rules(&tenant("oil").build(), &namespaces(), &accounts);
        assert_eq!(promoted, Promoted::default());
    }

    #[test]
    fn more_bindings_than_there_is_room_for_are_left_out_whole() {
        let places = ["a", "b"];
        let granted: Granted<'_> = ["one", "three", "two"]
            .map(|name| (name.to_owned(), BTreeMap::from([("view", BTreeSet::from(places))])))
            .into();
        let promoted = within(4, granted);
        assert_eq!(said(&promoted), ["one: view in a b", "three: view in a b"]);
        assert_eq!(promoted.left_out, 1);
    }

    #[test]
    fn a_label_that_is_there_already_is_not_asked_for_again() {
        assert_eq!(
            message("mallory", "owner.projectcapsule.dev/promote", false, false, true),
            None
        );
    }
}
