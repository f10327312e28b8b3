use super::limits::check_quota;
use super::ownership::marks;
use super::*;
use crate::fixtures::{NamespaceBuilder, groups, namespace, settings, tenant};
use crate::index::Index;
use crate::linkage;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

const GROUP: &str = "projectcapsule.dev";

/// A cluster with the tenants oil (alice), gas (bob), sun and sun-rise (carol), and some namespaces.
struct World {
    index: Index,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        Self::with(json!({}), json!({}))
    }

    /// With these fields in the configuration, and these in tenant oil.
    fn with(configuration: serde_json::Value, oil: serde_json::Value) -> Self {
        let index = Index::default();
        index.put_tenant(tenant("oil").owner("alice").with(oil).into());
        index.put_tenant(tenant("gas").owner("bob").into());
        index.put_tenant(tenant("sun").owner("carol").into());
        index.put_tenant(tenant("sun-rise").owner("carol").into());
        for existing in [
            in_oil(),
            namespace("gas-one").of("gas"),
            namespace("kube-system"),
            namespace("plain"),
        ] {
            index.put_namespace(&existing.build());
        }
        let mut spec = json!({
            "users": [{"kind": "Group", "name": GROUP}],
            "administrators": [{"kind": "User", "name": "root"}],
        });
        if let (Some(spec), serde_json::Value::Object(more)) = (spec.as_object_mut(), configuration) {
            spec.extend(more);
        }
        Self {
            index,
            settings: settings(spec),
        }
    }

    fn ask<T>(
        &self,
        user: &str,
        new: Option<&Namespace>,
        old: Option<&Namespace>,
        ask: impl Fn(&Request<'_>) -> T,
    ) -> T {
        self.ask_about("", user, new, old, ask)
    }

    fn ask_about<T>(
        &self,
        subresource: &str,
        user: &str,
        new: Option<&Namespace>,
        old: Option<&Namespace>,
        ask: impl Fn(&Request<'_>) -> T,
    ) -> T {
        let member_of = if ["root", "kubernetes-admin"].contains(&user) {
            groups(&["system:masters"])
        } else {
            groups(&[GROUP])
        };
        let operation = match (new, old) {
            (Some(_), None) => Operation::Create,
            (Some(_), Some(_)) => Operation::Update,
            _ => Operation::Delete,
        };
        let view = View::new(&self.index);
        let user = User {
            name: user,
            groups: &member_of,
        };
        ask(&Request {
            operation,
            subresource,
            user,
            object: new,
            old,
            settings: &self.settings,
            view: &view,
        })
    }

    /// What becomes of a create: the stored namespace, or the refusal.
    fn create(&self, user: &str, new: NamespaceBuilder) -> Result<Namespace, Denial> {
        self.write("", user, new.build(), None)
    }

    /// What becomes of an update.
    fn update(&self, user: &str, old: &NamespaceBuilder, new: NamespaceBuilder) -> Result<Namespace, Denial> {
        self.write("", user, new.build(), Some(old.clone().build()))
    }

    fn update_subresource(
        &self,
        subresource: &str,
        user: &str,
        old: &NamespaceBuilder,
        new: NamespaceBuilder,
    ) -> Result<Namespace, Denial> {
        self.write(subresource, user, new.build(), Some(old.clone().build()))
    }

    /// As the API server does: mutation, which never sees subresources, then validation.
    fn write(
        &self,
        subresource: &str,
        user: &str,
        new: Namespace,
        old: Option<Namespace>,
    ) -> Result<Namespace, Denial> {
        let mutated = if subresource.is_empty() {
            match self.ask(user, Some(&new), old.as_ref(), mutate) {
                Decision::Deny(denial) => return Err(denial),
                Decision::Change(changed, _) => *changed,
                Decision::Allow | Decision::Warn(_) => new,
            }
        } else {
            new
        };
        match self.ask_about(subresource, user, Some(&mutated), old.as_ref(), validate) {
            Decision::Deny(denial) => Err(denial),
            _ => Ok(mutated),
        }
    }

    fn delete(&self, user: &str, old: NamespaceBuilder) -> Result<(), Denial> {
        match self.ask(user, None, Some(&old.build()), validate) {
            Decision::Deny(denial) => Err(denial),
            _ => Ok(()),
        }
    }
}

fn in_oil() -> NamespaceBuilder {
    namespace("oil-one").of("oil")
}

fn owner(namespace: &Namespace) -> Option<(&str, &str)> {
    linkage::linkage(namespace)
        .unwrap()
        .map(|tenant| (tenant.name, tenant.uid))
}

fn reason<T>(result: Result<T, Denial>) -> Option<(&'static str, u16)> {
    result.err().map(|denial| (denial.reason, denial.code))
}

fn message<T: std::fmt::Debug>(result: Result<T, Denial>) -> String {
    result.unwrap_err().message
}

// Creation.

#[test]
fn an_owners_namespace_becomes_the_tenants() {
    let created = World::with(json!({}), json!({"nodeSelector": {"a": "b"}}))
        .create("alice", namespace("web"))
        .unwrap();
    assert_eq!(
        serde_json::to_value(&created).unwrap()["metadata"],
        json!({
            "name": "web",
            "labels": {"capsule.clastix.io/tenant": "oil", "kubernetes.io/metadata.name": "web"},
            "annotations": {"scheduler.alpha.kubernetes.io/node-selector": "a=b"},
            "ownerReferences": [{
                "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "uid-of-oil",
            }],
        })
    );
}

#[rstest]
#[case::the_longest_prefix_wins("carol", "sun-rise-one", Ok("sun-rise"))]
#[case::a_prefix_ends_with_a_dash("carol", "sun-risen", Ok("sun"))]
#[case::no_prefix_of_several("carol", "moon", Err("TenantAmbiguous"))]
#[case::the_tenants_name_alone_is_no_prefix("carol", "sun", Err("TenantAmbiguous"))]
#[case::no_tenant("dave", "web", Err("NoTenant"))]
fn of_several_tenants_the_name_decides(#[case] user: &str, #[case] name: &str, #[case] expected: Result<&str, &str>) {
    let created = World::new().create(user, namespace(name));
    assert_eq!(
        created
            .as_ref()
            .map(|namespace| owner(namespace).unwrap().0)
            .map_err(|denial| denial.reason),
        expected
    );
}

#[test]
fn refusals_of_a_create_say_what_users_of_the_peer_match() {
    let world = World::new();
    assert!(message(world.create("dave", namespace("web"))).contains("You do not have any Tenant assigned"));
    assert!(
        message(world.create("carol", namespace("moon")))
            .contains("Unable to assign namespace to tenant. Please use capsule.clastix.io/tenant label")
    );
    let strict = World::with(json!({"forceTenantPrefix": true}), json!({}));
    assert!(
        message(strict.create("carol", namespace("moon"))).contains("prefix used doesn't match any available Tenant")
    );
    assert!(message(strict.create("alice", namespace("web"))).contains("expected oil-*"));
    let foreign = world
        .create("alice", namespace("web").label("capsule.clastix.io/tenant", "gas"))
        .unwrap_err();
    assert!(
        foreign
            .message
            .contains("can not assign the desired namespace to a non-owned Tenant")
    );
    assert_eq!(foreign.code, 400);
}

#[test]
fn another_tenant_and_no_tenant_look_the_same() {
    let world = World::new();
    let ask = |tenant: &str| {
        let message = message(world.create("alice", namespace("web").label("capsule.clastix.io/tenant", tenant)));
        message.replace(tenant, "X")
    };
    assert_eq!(ask("gas"), ask("nothing"));
}

#[rstest]
#[case::globally(json!({"forceTenantPrefix": true}), json!({}), "web", Some("InvalidTenantPrefix"))]
#[case::with_the_prefix(json!({"forceTenantPrefix": true}), json!({}), "oil-web", None)]
#[case::by_the_tenant(json!({}), json!({"forceTenantPrefix": true}), "web", Some("InvalidTenantPrefix"))]
#[case::not_by_the_tenant(json!({"forceTenantPrefix": true}), json!({"forceTenantPrefix": false}), "web", None)]
#[case::protected(json!({"protectedNamespaceRegex": "^(kube|prod)-"}), json!({}), "prod-web", Some("ProtectedNamespace"))]
#[case::not_protected(json!({"protectedNamespaceRegex": "^(kube|prod)-"}), json!({}), "web", None)]
#[case::nobody_knows(json!({"protectedNamespaceRegex": "("}), json!({}), "web", Some("PatternInvalid"))]
fn names_are_checked_for_owners_and_administrators(
    #[case] configuration: serde_json::Value,
    #[case] oil: serde_json::Value,
    #[case] name: &str,
    #[case] expected: Option<&str>,
) {
    let world = World::with(configuration, oil);
    for user in ["alice", "root"] {
        let created = world.create(user, namespace(name).label("capsule.clastix.io/tenant", "oil"));
        assert_eq!(reason(created).map(|(reason, _)| reason), expected, "{user}");
    }
}

#[test]
fn a_name_that_the_api_server_makes_up_is_judged_by_its_beginning() {
    let world = World::with(json!({}), json!({"forceTenantPrefix": true}));
    let mut new = Namespace::default();
    new.metadata.generate_name = Some("oil-ci-".into());
    let Decision::Change(changed, _) = world.ask("alice", Some(&new), None, mutate) else {
        panic!("a change")
    };
    assert_eq!(linkage::label(&changed), Some("oil"));
    assert!(
        !changed
            .metadata
            .labels
            .unwrap()
            .contains_key("kubernetes.io/metadata.name")
    );
    new.metadata.generate_name = Some("ci-".into());
    assert_eq!(
        world.ask("alice", Some(&new), None, mutate).denial().unwrap().reason,
        "InvalidTenantPrefix"
    );
}

#[test]
fn administrators_choose_and_are_not_assigned() {
    let world = World::new();
    assert_eq!(owner(&world.create("root", namespace("web")).unwrap()), None);
    let chosen = world
        .create("root", namespace("web").label("capsule.clastix.io/tenant", "gas"))
        .unwrap();
    assert_eq!(owner(&chosen), Some(("gas", "uid-of-gas")));
    let missing = world.create("root", namespace("web").label("capsule.clastix.io/tenant", "nothing"));
    assert_eq!(reason(missing), Some(("TenantNotFound", 400)));
    let half = world.create("root", namespace("web").reference("gas", "uid-of-gas"));
    assert_eq!(reason(half), Some(("TenantUnclear", 403)));
}

#[test]
fn those_we_do_not_know_create_namespaces_and_not_tenants_namespaces() {
    let world = World::new();
    assert_eq!(
        world.create("kubernetes-admin", namespace("web")),
        Ok(namespace("web").build())
    );
    for forged in [
        namespace("web").of("oil"),
        namespace("web").label("capsule.clastix.io/tenant", "oil"),
        namespace("web").reference("oil", "uid-of-oil"),
        namespace("web").of("nothing"),
    ] {
        let message = message(world.create("kubernetes-admin", forged));
        assert!(
            message.contains("only tenant owners can create tenant-owned namespaces"),
            "{message}"
        );
    }
}

#[test]
fn forged_references_of_a_create_are_replaced() {
    let world = World::new();
    for forged in [
        namespace("web").reference("gas", "uid-of-gas"),
        namespace("web").reference("oil", "forged"),
        namespace("web").of("oil").reference("gas", "uid-of-gas"),
    ] {
        assert_eq!(
            owner(&world.create("alice", forged).unwrap()),
            Some(("oil", "uid-of-oil"))
        );
    }
}

#[test]
fn a_create_that_mutation_never_saw_is_refused() {
    let world = World::new();
    let new = namespace("web").build();
    let decision = world.ask("alice", Some(&new), None, validate);
    assert_eq!(decision.denial().unwrap().reason, "TenantMissing");
    let forged = namespace("web").of("gas").build();
    assert_eq!(
        world
            .ask("alice", Some(&forged), None, validate)
            .denial()
            .unwrap()
            .reason,
        "TenantNotOwned"
    );
}

#[test]
fn a_tenant_that_ends_or_is_frozen_takes_no_namespaces() {
    let world = World::new();
    world
        .index
        .put_tenant(tenant("oil").owner("alice").terminating().into());
    assert!(
        message(world.create("alice", namespace("web")))
            .contains("tenant is terminating and does not accept new namespaces")
    );
    let frozen = World::with(json!({}), json!({"cordoned": true}));
    assert!(message(frozen.create("alice", namespace("web"))).contains("the selected tenant is cordoned"));
    let by_root = frozen
        .create("root", namespace("web").label("capsule.clastix.io/tenant", "oil"))
        .unwrap();
    assert_eq!(
        by_root
            .metadata
            .labels
            .unwrap()
            .get("projectcapsule.dev/cordoned")
            .map(String::as_str),
        Some("true")
    );
}

#[rstest]
#[case::room(2, 1, None)]
#[case::no_room(1, 1, Some("Overprovisioned"))]
#[case::gone_and_seen_by_the_watch_still(1, 0, None)]
#[case::admitted_and_not_seen_yet(2, 2, Some("Overprovisioned"))]
#[case::a_place_left(3, 2, None)]
fn namespaces_are_counted(#[case] quota: i32, #[case] live: usize, #[case] expected: Option<&str>) {
    let world = World::with(json!({}), json!({"namespaceOptions": {"quota": quota}}));
    let view = View::new(&world.index).with_namespace_count("uid-of-oil", live);
    let new = namespace("oil-two").of("oil").build();
    let member_of = groups(&[GROUP]);
    let request = Request {
        operation: Operation::Create,
        subresource: "",
        user: User {
            name: "alice",
            groups: &member_of,
        },
        object: Some(&new),
        old: None,
        settings: &world.settings,
        view: &view,
    };
    assert_eq!(validate(&request).denial().map(|denial| denial.reason), expected);
}

#[test]
fn the_quota_is_said_in_the_known_words() {
    let world = World::with(json!({}), json!({"namespaceOptions": {"quota": 1}}));
    let message = message(world.create("alice", namespace("web")));
    assert!(
        message.starts_with("Cannot exceed Namespace quota: please, reach out to the system administrators"),
        "{message}"
    );
}

// Updates: the hijack matrix, with the lawful twin of each attempt.

#[rstest]
#[case::only_the_label(namespace("oil-one").label("capsule.clastix.io/tenant", "gas").reference("oil", "uid-of-oil"))]
#[case::label_to_garbage(namespace("oil-one").label("capsule.clastix.io/tenant", "x").reference("oil", "uid-of-oil"))]
#[case::label_removed(namespace("oil-one").reference("oil", "uid-of-oil"))]
#[case::only_the_reference(namespace("oil-one").label("capsule.clastix.io/tenant", "oil").reference("gas", "uid-of-gas"))]
#[case::a_forged_uid(namespace("oil-one").label("capsule.clastix.io/tenant", "oil").reference("oil", "forged"))]
#[case::reference_removed(namespace("oil-one").label("capsule.clastix.io/tenant", "oil"))]
#[case::a_second_tenant(in_oil().reference("gas", "uid-of-gas"))]
#[case::a_harmless_label(in_oil().label("mine", "x"))]
fn what_still_points_at_the_tenant_is_repaired(#[case] new: NamespaceBuilder) {
    let world = World::new();
    let stored = world.update("alice", &in_oil(), new.clone()).unwrap();
    assert_eq!(owner(&stored), Some(("oil", "uid-of-oil")));
    // By a subresource nothing can be repaired, so it is refused, unless nothing was touched.
    let is_touched = marks(&new.clone().build()) != marks(&in_oil().build());
    for subresource in ["status", "finalize"] {
        let stored = world.update_subresource(subresource, "alice", &in_oil(), new.clone());
        assert_eq!(stored.is_err(), is_touched, "{subresource}: {stored:?}");
    }
}

#[rstest]
#[case::to_another_tenant(in_oil(), namespace("oil-one").of("gas"), "can not be migrated between tenants")]
#[case::to_nowhere(in_oil(), namespace("oil-one"), "can not remove tenant ownership")]
#[case::from_another_tenant(namespace("gas-one").of("gas"), namespace("gas-one").of("oil"), "denied patch request for this namespace")]
#[case::of_another_tenant(
    namespace("gas-one").of("gas"),
    namespace("gas-one").of("gas").annotation("a", "b"),
    "denied patch request for this namespace"
)]
#[case::adopted_by_label(
    namespace("plain"),
    namespace("plain").label("capsule.clastix.io/tenant", "oil"),
    "can not be patched into a tenant"
)]
#[case::adopted_by_reference(namespace("plain"), namespace("plain").reference("oil", "uid-of-oil"), "can not be patched into a tenant")]
#[case::adopted_by_both(namespace("plain"), namespace("plain").of("oil"), "can not be patched into a tenant")]
#[case::adopted_with_a_forged_uid(namespace("plain"), namespace("plain").of_uid("oil", "x"), "can not be patched into a tenant")]
#[case::a_system_namespace(
    namespace("kube-system"),
    namespace("kube-system").annotation("a", "b"),
    "namespace is not owned by any tenant"
)]
#[case::half_a_tenants(
    namespace("torn").label("capsule.clastix.io/tenant", "oil"),
    namespace("torn").of("oil"),
    "denied patch request for this namespace"
)]
fn an_owner_moves_nothing(#[case] old: NamespaceBuilder, #[case] new: NamespaceBuilder, #[case] text: &str) {
    let world = World::new();
    let denial = world.update("alice", &old, new.clone()).unwrap_err();
    assert!(denial.message.contains(text), "{}", denial.message);
    assert_eq!(denial.code, 403);
    for subresource in ["status", "finalize"] {
        let denial = world
            .update_subresource(subresource, "alice", &old, new.clone())
            .unwrap_err();
        assert_eq!(denial.code, 403, "{subresource}");
    }
}

#[test]
fn an_owner_of_two_tenants_moves_nothing_between_them() {
    let old = namespace("sun-one").of("sun");
    let denial = World::new()
        .update("carol", &old, namespace("sun-one").of("sun-rise"))
        .unwrap_err();
    assert!(
        denial.message.contains("can not be migrated between tenants"),
        "{}",
        denial.message
    );
}

#[test]
fn a_reference_is_not_made_a_controllers() {
    let (world, old) = (World::new(), in_oil().build());
    let mut new = old.clone();
    new.metadata.owner_references.as_mut().unwrap()[0].block_owner_deletion = Some(true);
    assert_eq!(
        world.write("", "alice", new.clone(), Some(old.clone())),
        Ok(old.clone())
    );
    assert!(world.write("status", "alice", new, Some(old)).is_err());
}

#[rstest]
#[case::out_of_the_tenant(in_oil(), namespace("oil-one"))]
#[case::to_another_tenant(in_oil(), namespace("oil-one").of("gas"))]
#[case::only_the_label(in_oil(), namespace("oil-one").label("capsule.clastix.io/tenant", "gas").reference("oil", "uid-of-oil"))]
#[case::into_a_tenant(namespace("plain"), namespace("plain").of("oil"))]
#[case::into_a_tenant_by_label(namespace("plain"), namespace("plain").label("capsule.clastix.io/tenant", "oil"))]
fn those_we_do_not_know_move_nothing(#[case] old: NamespaceBuilder, #[case] new: NamespaceBuilder) {
    let world = World::new();
    for subresource in ["", "status", "finalize"] {
        let result = world.update_subresource(subresource, "kubernetes-admin", &old, new.clone());
        assert_eq!(reason(result), Some(("ReasonNamespacePatch", 403)), "{subresource}");
        let harmless =
            world.update_subresource(subresource, "kubernetes-admin", &old, old.clone().annotation("a", "b"));
        assert!(harmless.is_ok(), "{harmless:?}");
    }
}

#[test]
fn administrators_move_attach_detach_and_are_repaired() {
    let world = World::new();
    let update = |old: &NamespaceBuilder, new: NamespaceBuilder| {
        world
            .update("root", old, new)
            .map(|stored| owner(&stored).map(|(name, _)| name.to_owned()))
    };
    let some = |name: &str| Ok(Some(name.to_owned()));
    let relabelled = namespace("oil-one")
        .label("capsule.clastix.io/tenant", "gas")
        .reference("oil", "uid-of-oil");
    assert_eq!(update(&in_oil(), relabelled), some("gas"));
    assert_eq!(
        update(
            &namespace("plain"),
            namespace("plain").label("capsule.clastix.io/tenant", "oil")
        ),
        some("oil")
    );
    assert_eq!(
        update(&namespace("plain"), namespace("plain").reference("oil", "uid-of-oil")),
        some("oil")
    );
    assert_eq!(update(&in_oil(), namespace("oil-one")), Ok(None));
    assert_eq!(
        update(
            &in_oil(),
            namespace("oil-one").label("capsule.clastix.io/tenant", "oil")
        ),
        some("oil")
    );
    assert_eq!(
        update(&in_oil(), namespace("oil-one").reference("oil", "uid-of-oil")),
        some("oil")
    );
    assert_eq!(
        update(&namespace("plain"), namespace("plain").annotation("a", "b")),
        Ok(None)
    );
    let to_nowhere = world.update(
        "root",
        &in_oil(),
        namespace("oil-one").label("capsule.clastix.io/tenant", "x"),
    );
    assert_eq!(reason(to_nowhere), Some(("TenantNotFound", 403)));
    let half = world.update_subresource(
        "status",
        "root",
        &in_oil(),
        namespace("oil-one").of_uid("oil", "forged"),
    );
    assert_eq!(reason(half), Some(("TenantNotFound", 403)));
}

#[test]
fn a_namespace_that_ends_keeps_its_tenant_and_is_otherwise_free_to_end() {
    let (world, ending) = (World::new(), in_oil().terminating());
    for user in [
        "alice",
        "root",
        "kubernetes-admin",
        "system:serviceaccount:oil-one:robot",
    ] {
        assert!(
            world.update(user, &ending, ending.clone().annotation("a", "b")).is_ok(),
            "{user}"
        );
        let moved = world.update(user, &ending, namespace("oil-one").of("gas").terminating());
        assert!(
            message(moved).contains("tenant ownership can not change during termination"),
            "{user}"
        );
    }
}

// What is kept, forbidden, required.

#[test]
fn what_is_kept_is_put_back_and_not_changed_by_a_subresource() {
    let oil =
        json!({"namespaceOptions": {"additionalMetadata": {"labels": {"env": "prod"}}}, "nodeSelector": {"a": "b"}});
    let world = World::with(json!({}), oil);
    let selector = "scheduler.alpha.kubernetes.io/node-selector";
    let kept = in_oil().label("env", "prod").annotation(selector, "a=b");
    let loosened = in_oil().label("env", "dev").annotation(selector, "c=d");
    let stored = world.update("alice", &kept, loosened.clone()).unwrap();
    assert_eq!(stored.metadata.labels.as_ref().unwrap()["env"], "prod");
    assert_eq!(stored.metadata.annotations.as_ref().unwrap()[selector], "a=b");
    let loosened_again = loosened.clone();
    assert_eq!(
        reason(world.update_subresource("status", "alice", &kept, loosened)),
        Some(("ForbiddenMetadata", 403))
    );
    let gone = in_oil().annotation(selector, "a=b");
    assert_eq!(
        reason(world.update_subresource("status", "alice", &kept, gone)),
        Some(("ForbiddenMetadata", 403))
    );
    // Nothing is put back in a namespace that ends, and hooks are chosen by what it says.
    let (ending, loose) = (kept.clone().terminating(), loosened_again.terminating());
    assert_eq!(
        reason(world.update("alice", &ending, loose)),
        Some(("ForbiddenMetadata", 403))
    );
    // Written before the tenant was changed: not the owner's doing, and soon put right.
    let stale = in_oil().label("env", "old").annotation(selector, "a=b");
    assert!(
        world
            .update_subresource("status", "alice", &stale, stale.clone().annotation("x", "y"))
            .is_ok()
    );
}

#[test]
fn the_node_selector_is_nobodys_to_change_but_to_what_the_tenant_says() {
    let world = World::with(json!({}), json!({"nodeSelector": {"a": "b"}}));
    let with = |value: &str| in_oil().annotation("scheduler.alpha.kubernetes.io/node-selector", value);
    for user in ["root", "kubernetes-admin"] {
        assert_eq!(
            reason(world.update(user, &with("a=b"), with("c=d"))),
            Some(("ForbiddenNodeSelectorUpdate", 403))
        );
        assert_eq!(
            reason(world.update(user, &with("a=b"), in_oil())),
            Some(("ForbiddenNodeSelectorUpdate", 403))
        );
        assert!(world.update(user, &with("old=1"), with("a=b")).is_ok());
    }
}

#[test]
fn forbidden_keys_are_the_administrators() {
    let options = json!({"namespaceOptions": {
        "forbiddenLabels": {"denied": ["team"], "deniedRegex": "^pod-security"},
        "forbiddenAnnotations": {"denied": ["note"]},
        "additionalMetadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}},
    }});
    let world = World::with(json!({}), options);
    let text = message(world.create("alice", namespace("web").label("team", "a")));
    assert!(
        text.contains(
            "namespace labels validation failed: team is forbidden for the current Tenant. Forbidden are one of the \
             following (team) or matching the regex ^pod-security"
        ),
        "{text}"
    );
    let annotated = world.create("alice", namespace("web").annotation("note", "a"));
    assert_eq!(reason(annotated), Some(("ForbiddenAnnotation", 403)));
    let looser = world.create(
        "alice",
        namespace("web").label("pod-security.kubernetes.io/warn", "privileged"),
    );
    assert_eq!(reason(looser), Some(("ForbiddenLabel", 403)));
    // What we keep is not the owner's doing.
    let kept = world.create("alice", namespace("web")).unwrap();
    assert_eq!(
        kept.metadata.labels.unwrap()["pod-security.kubernetes.io/enforce"],
        "baseline"
    );
    assert!(
        world
            .create(
                "root",
                namespace("web")
                    .label("capsule.clastix.io/tenant", "oil")
                    .label("team", "a")
            )
            .is_ok()
    );
    // An administrator's label stays the administrator's.
    let labelled = in_oil().label("team", "a");
    assert!(
        world
            .update("alice", &labelled, labelled.clone().label("mine", "x"))
            .is_ok()
    );
    for new in [in_oil(), in_oil().label("team", "b")] {
        assert_eq!(
            reason(world.update("alice", &labelled, new)),
            Some(("ForbiddenLabel", 403))
        );
    }
}

#[test]
fn required_metadata_is_there_and_as_it_should_be() {
    let options = json!({"namespaceOptions": {"requiredMetadata": {"labels": {"env": "^(dev|prod)$"}}}});
    let world = World::with(json!({}), options);
    assert!(message(world.create("alice", namespace("web"))).contains("required label \"env\" not present"));
    assert!(message(world.create("alice", namespace("web").label("env", "test"))).contains("does not match"));
    assert!(world.create("alice", namespace("web").label("env", "dev")).is_ok());
    // What was missing before may go on missing.
    assert!(world.update("alice", &in_oil(), in_oil().label("mine", "x")).is_ok());
    let with = in_oil().label("env", "dev");
    assert_eq!(
        reason(world.update("alice", &with, in_oil())),
        Some(("ForbiddenMetadata", 403))
    );
    let broken = World::with(
        json!({}),
        json!({"namespaceOptions": {"requiredMetadata": {"labels": {"env": "("}}}}),
    );
    assert_eq!(
        reason(broken.create("alice", namespace("web").label("env", "dev"))),
        Some(("ForbiddenMetadata", 500))
    );
}

#[test]
fn a_frozen_tenants_namespaces_are_neither_changed_nor_deleted_by_its_users() {
    let world = World::with(json!({}), json!({"cordoned": true}));
    let frozen = in_oil().label("projectcapsule.dev/cordoned", "true");
    assert_eq!(
        reason(world.update("alice", &frozen, frozen.clone().label("a", "b"))),
        Some(("Cordoned", 403))
    );
    assert_eq!(reason(world.delete("alice", frozen.clone())), Some(("Cordoned", 403)));
    assert_eq!(world.delete("root", frozen.clone()), Ok(()));
    assert_eq!(world.delete("kubernetes-admin", frozen.clone()), Ok(()));
    assert_eq!(world.delete("alice", frozen.terminating()), Ok(()));
    let half = namespace("oil-one").label("capsule.clastix.io/tenant", "oil");
    assert_eq!(reason(world.delete("alice", half)), Some(("Cordoned", 403)));
}

#[test]
fn an_owner_freezes_a_namespace_of_its_own() {
    let frozen = in_oil().label("projectcapsule.dev/cordoned", "true");
    assert!(World::new().update("alice", &in_oil(), frozen.clone()).is_ok());
    assert!(World::new().update("alice", &frozen, in_oil()).is_ok());
}

#[test]
fn tenant_users_delete_what_is_theirs_whatever_rbac_lets_them() {
    let world = World::new();
    assert_eq!(world.delete("alice", in_oil()), Ok(()));
    for foreign in [namespace("orphan").of("nothing"), namespace("plain")] {
        assert_eq!(
            reason(world.delete("alice", foreign.clone())),
            Some(("NotAnOwner", 403))
        );
        assert_eq!(world.delete("root", foreign), Ok(()));
    }
}

// Properties.

fn any_namespace() -> impl Strategy<Value = NamespaceBuilder> {
    let tenants = || prop::sample::select(vec!["oil", "gas", "sun", "nothing", ""]);
    let uids = || prop::sample::select(vec!["uid-of-oil", "uid-of-gas", "forged", ""]);
    (
        prop::sample::select(vec!["oil-one", "gas-one", "plain", "web", ""]),
        prop::option::of(tenants()),
        prop::collection::vec((tenants(), uids()), 0..3),
        prop::option::of(prop::sample::select(vec!["true", "false"])),
        any::<bool>(),
    )
        .prop_map(|(name, label, references, cordoned, terminating)| {
            let mut built = namespace(name);
            if let Some(label) = label {
                built = built.label("capsule.clastix.io/tenant", label);
            }
            for (tenant, uid) in references {
                built = built.reference(tenant, uid);
            }
            if let Some(cordoned) = cordoned {
                built = built.label("projectcapsule.dev/cordoned", cordoned);
            }
            if terminating { built.terminating() } else { built }
        })
}

proptest! {
    /// Whatever is asked, whoever but an administrator asks: a namespace that exists stays where it is.
    #[test]
    fn nobody_but_an_administrator_moves_a_namespace(
        old in any_namespace(),
        new in any_namespace(),
        user in prop::sample::select(vec!["alice", "bob", "carol", "dave", "kubernetes-admin"]),
        subresource in prop::sample::select(vec!["", "status", "finalize"]),
    ) {
        let (old, new) = (old.build(), new.build());
        if let Ok(stored) = World::new().write(subresource, user, new, Some(old.clone())) {
            prop_assert_eq!(marks(&stored), marks(&old));
        }
    }

    /// Whatever is created: it belongs to a tenant of its creator, or to none at all.
    #[test]
    fn nobody_creates_a_namespace_in_a_tenant_of_others(
        new in any_namespace(),
        user in prop::sample::select(vec!["alice", "bob", "carol", "dave", "kubernetes-admin"]),
    ) {
        let world = World::new();
        if let Ok(stored) = world.write("", user, new.build(), None) {
            match owner(&stored) {
                None => prop_assert_eq!(user, "kubernetes-admin"),
                Some((tenant, uid)) => {
                    let known = world.index.tenant(tenant).unwrap();
                    let is_owned = known.is_owned_by(&User { name: user, groups: &[] });
                    prop_assert!(is_owned);
                    prop_assert_eq!(&*known.uid, uid);
                }
            }
        }
    }

    /// The same question has the same answer, and what was mutated once needs no further change.
    #[test]
    fn decisions_are_settled(new in any_namespace(), user in prop::sample::select(vec!["alice", "carol", "root"])) {
        let world = World::new();
        let new = new.build();
        let first = world.ask(user, Some(&new), None, mutate);
        prop_assert_eq!(&first, &world.ask(user, Some(&new), None, mutate));
        if let Decision::Change(changed, _) = first {
            prop_assert_eq!(world.ask(user, Some(&changed), None, mutate), Decision::Allow);
        }
    }

    /// A larger quota never refuses what a smaller one allows.
    #[test]
    fn a_larger_quota_refuses_no_more(smaller in 1..6, more in 0..6, taken in 0_usize..8) {
        let passes = |quota: i32| {
            let world = World::with(json!({}), json!({"namespaceOptions": {"quota": quota}}));
            let view = View::new(&world.index).with_namespace_count("uid-of-oil", taken);
            let oil = view.tenant("oil").unwrap();
            let member_of = groups(&[GROUP]);
            let request = Request {
                operation: Operation::Create,
                subresource: "",
                user: User { name: "alice", groups: &member_of },
                object: None,
                old: None,
                settings: &world.settings,
                view: &view,
            };
            check_quota(&request, &oil, "web").is_ok()
        };
        prop_assert!(!passes(smaller) || passes(smaller + more));
    }
}
