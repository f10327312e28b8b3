//! Whose requests a rule looks at.

use api::capsule::v1beta2::{Audience, AudienceKind, CapsuleConfigurationSpec, UserKind};

use crate::{index::KnownTenant, settings::Settings, subject::User};

/// What the name of a `Custom` audience stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    CapsuleUser,
    Administrator,
    TenantOwner,
    Controller,
}

/// The names of `Custom` audiences.
pub(super) const ROLES: [(&str, Role); 4] = [
    ("CapsuleUser", Role::CapsuleUser),
    ("Administrator", Role::Administrator),
    ("TenantOwner", Role::TenantOwner),
    ("Controller", Role::Controller),
];

/// Who asks, and what that makes them to the tenant in whose namespace they ask.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    user: User<'a>,
    settings: &'a Settings,
    tenant: &'a KnownTenant,
}

impl<'a> Requester<'a> {
    /// Of a user who asks for something in a namespace of the tenant.
    pub fn new(user: User<'a>, settings: &'a Settings, tenant: &'a KnownTenant) -> Self {
        Self { user, settings, tenant }
    }

    /// Whether it is the operator or an administrator, who keep objects for tenants.
    pub(super) fn keeps_objects(&self) -> bool {
        self.is(Role::Controller) || self.is(Role::Administrator)
    }

    fn is(&self, role: Role) -> bool {
        match role {
            Role::CapsuleUser => is_named_user(&self.settings.spec, &self.user),
            Role::Administrator => self.settings.administrators.hold(&self.user),
            Role::TenantOwner => self.tenant.is_owned_by(&self.user),
            Role::Controller => self.settings.is_operator(&self.user),
        }
    }
}

/// Whether the configuration itself names the user; those that its status adds do not count here.
fn is_named_user(spec: &CapsuleConfigurationSpec, user: &User<'_>) -> bool {
    let is_listed = spec.users.iter().any(|listed| match listed.kind {
        UserKind::Group => user.is_in(&listed.name),
        UserKind::User | UserKind::ServiceAccount => !listed.name.is_empty() && listed.name == user.name,
    });
    is_listed
        || spec.user_names.iter().any(|name| !name.is_empty() && name == user.name)
        || spec.user_groups.iter().any(|group| user.is_in(group))
}

#[derive(Clone, Debug)]
enum Member {
    Name(Box<str>),
    Group(Box<str>),
    Role(Role),
    /// A custom name that means nothing.
    Unknown,
}

impl Member {
    fn new(source: &Audience) -> Self {
        let name = source.name.as_str();
        match source.kind {
            AudienceKind::User | AudienceKind::ServiceAccount => Self::Name(name.into()),
            AudienceKind::Group => Self::Group(name.into()),
            AudienceKind::Custom => ROLES
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(Self::Unknown, |(_, role)| Self::Role(*role)),
        }
    }
}

/// Whether a rule looks at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    No,
    Yes,
    /// Nobody can say whom the rule means: it restricts everybody and frees nobody.
    Unclear,
}

/// Those whose requests a rule looks at. Everybody, if empty.
#[derive(Clone, Debug)]
pub(super) struct CompiledAudience(Vec<Member>);

impl CompiledAudience {
    pub(super) fn new(source: &[Audience]) -> Self {
        Self(source.iter().map(Member::new).collect())
    }

    pub(super) fn interest(&self, requester: &Requester<'_>) -> Interest {
        let is_meant = |member: &Member| match member {
            Member::Name(name) => !name.is_empty() && **name == *requester.user.name,
            Member::Group(group) => requester.user.is_in(group),
            Member::Role(role) => requester.is(*role),
            Member::Unknown => false,
        };
        if self.0.is_empty() || self.0.iter().any(is_meant) {
            Interest::Yes
        } else if self.0.iter().any(|member| matches!(member, Member::Unknown)) {
            Interest::Unclear
        } else {
            Interest::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{groups, settings, tenant};
    use crate::pattern::Cache;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::nobody_is_named(json!([]), Interest::Yes)]
    #[case::the_user(json!([{"kind": "User", "name": "alice"}]), Interest::Yes)]
    #[case::another_user(json!([{"kind": "User", "name": "bob"}]), Interest::No)]
    #[case::a_group(json!([{"kind": "Group", "name": "devs"}]), Interest::Yes)]
    #[case::a_group_of_the_user_s_name(json!([{"kind": "Group", "name": "alice"}]), Interest::No)]
    #[case::another_service_account(json!([{"kind": "ServiceAccount", "name": "system:serviceaccount:a:alice"}]), Interest::No)]
    #[case::any_of_several(json!([{"kind": "User", "name": "bob"}, {"kind": "Group", "name": "devs"}]), Interest::Yes)]
    #[case::owners(json!([{"kind": "Custom", "name": "TenantOwner"}]), Interest::Yes)]
    #[case::users_by_their_group(json!([{"kind": "Custom", "name": "CapsuleUser"}]), Interest::Yes)]
    #[case::administrators(json!([{"kind": "Custom", "name": "Administrator"}]), Interest::No)]
    #[case::the_operator(json!([{"kind": "Custom", "name": "Controller"}]), Interest::No)]
    #[case::nobody_knows(json!([{"kind": "Custom", "name": "Friends"}]), Interest::Unclear)]
    #[case::the_user_and_nobody_knows(json!([{"kind": "Custom", "name": "Friends"}, {"kind": "User", "name": "alice"}]), Interest::Yes)]
    fn a_rule_looks_at_alice(#[case] audience: Value, #[case] expected: Interest) {
        let settings = settings(json!({"userGroups": ["devs"], "administrators": [{"kind": "User", "name": "root"}]}));
        let oil = KnownTenant::new(tenant("oil").status_owner("alice").into(), &mut Cache::default());
        let member_of = groups(&["devs", "system:authenticated"]);
        let user = User {
            name: "alice",
            groups: &member_of,
        };
        let audience = CompiledAudience::new(&serde_json::from_value::<Vec<Audience>>(audience).unwrap());
        assert_eq!(audience.interest(&Requester::new(user, &settings, &oil)), expected);
    }

    #[rstest]
    #[case::a_named_service_account("system:serviceaccount:ci:bot", "ServiceAccount", "system:serviceaccount:ci:bot")]
    #[case::the_operator("system:serviceaccount:cotenant-system:cotenant", "Custom", "Controller")]
    #[case::an_administrator("root", "Custom", "Administrator")]
    #[case::a_user_by_name("carol", "Custom", "CapsuleUser")]
    fn a_rule_looks_at(#[case] name: &str, #[case] kind: &str, #[case] audience: &str) {
        let settings = settings(json!({
            "users": [{"kind": "User", "name": "carol"}],
            "administrators": [{"kind": "User", "name": "root"}],
        }));
        let oil = KnownTenant::new(tenant("oil").into(), &mut Cache::default());
        let audience: Vec<Audience> = serde_json::from_value(json!([{"kind": kind, "name": audience}])).unwrap();
        let audience = CompiledAudience::new(&audience);
        let user = |name| User { name, groups: &[] };
        assert_eq!(
            audience.interest(&Requester::new(user(name), &settings, &oil)),
            Interest::Yes
        );
        assert_eq!(
            audience.interest(&Requester::new(user("mallory"), &settings, &oil)),
            Interest::No
        );
        assert_eq!(
            audience.interest(&Requester::new(user(""), &settings, &oil)),
            Interest::No
        );
    }
}
