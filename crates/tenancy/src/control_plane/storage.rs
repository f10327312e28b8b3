//! Names that an author may give to what holds their objects: the database or key prefix, and the user.
//!
//! These two strings decide who reads whose Secrets, so they are compared with everybody else's. Two names collide when
//! a store might take them for the same, or when one contains the other:
//!
//! - letters' case does not tell them apart: MySQL on some file systems and most people's eyes do not either;
//! - `a` and `a/b` collide: as key prefixes the second lies within the first. (`a` and `ab` do not: prefixes end with a
//!   slash. Every name with a slash is refused anyway; the rule holds for names that are older than it.)
//! - names in different stores do not collide, but two DataStores that share an address are one store.
//!
//! Some names are never given: `root` is etcd's administrator, both as a user and as a role, and a role is named after
//! the schema.

use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, Driver, TenantControlPlane};

use super::effective;
use crate::denial::Denial;

/// Prefix of the keys in which we remember what belongs to whom, beside the tenants' own; so no tenant may have it.
pub const OWN_PREFIX: &str = "cotenant.dev";

/// Users, roles and databases that stores have for themselves.
const RESERVED: &[&str] = &[
    "root",
    OWN_PREFIX,
    "admin",
    "information_schema",
    "mysql",
    "mysql.infoschema",
    "mysql.session",
    "mysql.sys",
    "performance_schema",
    "postgres",
    "rdsadmin",
    "sys",
    "template0",
    "template1",
];

/// PostgreSQL's limit, the smallest of those we serve (MySQL has 64 for databases).
const LONGEST: usize = 63;

/// The user of a control plane that asks for no name: its UID. MySQL takes 32 characters, so there the UID goes without its
/// dashes.
pub fn user_of(uid: &str, driver: Driver) -> String {
    match driver {
        Driver::MySQL => uid.replace('-', ""),
        Driver::Etcd | Driver::PostgreSQL | Driver::Nats => uid.to_owned(),
    }
}

/// Whether a store might take two schemas for one, or one for a part of the other. Symmetric.
pub fn schemas_collide(one: &str, other: &str) -> bool {
    let one = segments(one);
    let other = segments(other);
    // An empty name is everything.
    one.iter().zip(&other).all(|(one, other)| one == other)
}

/// Whether a store might take two users for one. Symmetric.
pub fn users_collide(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn segments(schema: &str) -> Vec<String> {
    schema
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// What is wrong with a name itself. `field` is where it stands.
pub fn name(field: &str, name: &str) -> Option<Denial> {
    if name.is_empty() {
        return None;
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let fits = bytes.len() <= LONGEST
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !fits {
        let message = format!(
            "{field}: {name:?} is not a name that every store takes; up to {LONGEST} letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        );
        return Some(Denial::new(field, "NameInvalid", message));
    }
    is_reserved(name).then(|| {
        let message = format!(
            "{field}: {name:?} belongs to the store itself and is not given to control planes; leave the field out to get a name of your own"
        );
        Denial::new(field, "NameReserved", message)
    })
}

/// Whether a store has this name for itself, or we have.
pub fn is_reserved(name: &str) -> bool {
    let lower = name.to_lowercase();
    RESERVED.contains(&lower.as_str()) || lower.starts_with("pg_")
}

/// What is wrong with names that are asked for after the account was made: the data stays under the recorded ones, so
/// others would have no effect. Writing down what is recorded is welcome.
pub fn settled(old: &TenantControlPlane, new: &TenantControlPlane) -> Vec<Denial> {
    let names = fields(new).into_iter().zip(fields(old)).zip(recorded(old));
    names
        .filter_map(|(((field, asked, _), (_, before, _)), recorded)| {
            let (asked, recorded) = (asked.filter(|asked| !asked.is_empty())?, recorded?);
            (Some(asked) != before && asked != recorded).then(|| {
                let message = format!(
                    "{field}: {asked:?} comes too late, the data of this control plane is kept under {recorded:?} since it was made; leave the field as it was, or write {recorded:?}"
                );
                Denial::new(field, "NameSettled", message)
            })
        })
        .collect()
}

/// What to say about names that older rules have accepted too late.
pub fn ignored(tcp: &TenantControlPlane) -> Vec<String> {
    let names = fields(tcp).into_iter().zip(recorded(tcp));
    names
        .filter_map(|((field, asked, _), recorded)| {
            let (asked, recorded) = (asked.filter(|asked| !asked.is_empty())?, recorded?);
            (asked != recorded).then(|| format!("{field}: {asked:?} has no effect, {recorded:?} is in use"))
        })
        .collect()
}

/// The two fields that ask for names.
fn fields(tcp: &TenantControlPlane) -> [(&'static str, Option<&str>, Asked); 2] {
    let spec = &tcp.spec;
    [
        ("spec.dataStoreSchema", spec.data_store_schema.as_deref(), Asked::Schema),
        (
            "spec.dataStoreUsername",
            spec.data_store_username.as_deref(),
            Asked::User,
        ),
    ]
}

/// What the status records in their place.
fn recorded(tcp: &TenantControlPlane) -> [Option<&str>; 2] {
    let setup = effective::recorded(tcp);
    let names = [
        setup.and_then(|setup| setup.schema.as_deref()),
        setup.and_then(|setup| setup.user.as_deref()),
    ];
    names.map(|name| name.filter(|name| !name.is_empty()))
}

/// What is wrong with the names that `tcp` asks for, given everybody else's.
///
/// The answer does not say who has a name: that somebody has is all that its author learns.
pub fn names(
    tcp: &TenantControlPlane,
    others: &[Arc<TenantControlPlane>],
    stores: &[Arc<DataStore>],
    default_store: Option<&str>,
) -> Vec<Denial> {
    let mut denials = Vec::new();
    for (field, asked, what) in fields(tcp) {
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            continue;
        };
        if let Some(denial) = name(field, asked) {
            denials.push(denial);
            continue;
        }
        let mine = effective::data_stores(tcp, default_store);
        let taken = others.iter().filter(|other| !is_same(tcp, other)).any(|other| {
            collides(what, asked, other) && share_a_store(&mine, &effective::data_stores(other, default_store), stores)
        });
        if taken {
            let message = format!(
                "{field}: {asked:?} equals, contains or lies within the name of another control plane in this DataStore; choose another name, or leave the field out to get one of your own"
            );
            denials.push(Denial::new(field, "NameTaken", message));
        }
    }
    denials
}

#[derive(Clone, Copy)]
enum Asked {
    Schema,
    User,
}

/// All names that a control plane has or may come to have count: recorded, asked for, and its UID.
fn collides(what: Asked, asked: &str, other: &TenantControlPlane) -> bool {
    let [schema, user] = recorded(other);
    let (recorded, wanted) = match what {
        Asked::Schema => (schema, other.spec.data_store_schema.as_deref()),
        Asked::User => (user, other.spec.data_store_username.as_deref()),
    };
    let uid = other.metadata.uid.as_deref();
    let in_mysql = uid.map(|uid| user_of(uid, Driver::MySQL));
    let names = [recorded, wanted, uid, in_mysql.as_deref()];
    names
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .any(|name| match what {
            Asked::Schema => schemas_collide(asked, name),
            Asked::User => users_collide(asked, name),
        })
}

fn is_same(one: &TenantControlPlane, other: &TenantControlPlane) -> bool {
    one.metadata.name == other.metadata.name && one.metadata.namespace == other.metadata.namespace
}

/// Whether two lists of DataStores have one store in common, whatever it is called. A control plane that has no store
/// yet may get any.
fn share_a_store(mine: &[&str], theirs: &[&str], stores: &[Arc<DataStore>]) -> bool {
    if mine.is_empty() || theirs.is_empty() {
        return true;
    }
    let endpoints = |names: &[&str]| -> Vec<String> {
        let of = stores
            .iter()
            .filter(|store| store.metadata.name.as_deref().is_some_and(|name| names.contains(&name)));
        of.flat_map(|store| &store.spec.endpoints)
            .map(|endpoint| endpoint.to_lowercase())
            .collect()
    };
    let mine_at = endpoints(mine);
    mine.iter().any(|name| theirs.contains(name)) || endpoints(theirs).iter().any(|at| mine_at.contains(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn tcp(name: &str, store: &str, schema: Option<&str>, user: Option<&str>) -> TenantControlPlane {
        let mut tcp = TenantControlPlane::default();
        tcp.metadata.name = Some(name.into());
        tcp.metadata.namespace = Some("prod".into());
        tcp.metadata.uid = Some(format!("uid-of-{name}"));
        tcp.spec.data_store = Some(store.into());
        tcp.spec.data_store_schema = schema.map(Into::into);
        tcp.spec.data_store_username = user.map(Into::into);
        tcp
    }

    fn store(name: &str, endpoint: &str) -> Arc<DataStore> {
        let mut store = DataStore::default();
        store.metadata.name = Some(name.into());
        store.spec.endpoints = vec![endpoint.into()];
        Arc::new(store)
    }

    fn verdict(asking: &TenantControlPlane, others: &[TenantControlPlane]) -> Vec<(String, String)> {
        let others: Vec<_> = others.iter().cloned().map(Arc::new).collect();
        let stores = [
            store("default", "etcd:2379"),
            store("other", "other:2379"),
            store("alias", "ETCD:2379"),
        ];
        let denials = names(asking, &others, &stores, Some("default"));
        denials
            .into_iter()
            .map(|denial| (denial.field, denial.reason.to_string()))
            .collect()
    }

    #[rstest]
    #[case::nothing_asked(None, None)]
    #[case::own_name(Some("gas"), None)]
    #[case::longer_than_another(Some("oil-2"), None)]
    #[case::shorter_than_another(Some("oi"), None)]
    #[case::taken(Some("oil"), Some("NameTaken"))]
    #[case::taken_but_for_case(Some("OIL"), Some("NameTaken"))]
    #[case::anothers_uid(Some("uid-of-oil"), Some("NameTaken"))]
    #[case::nested(Some("oil/x"), Some("NameInvalid"))]
    #[case::around(Some("/oil"), Some("NameInvalid"))]
    #[case::parent(Some("oil/.."), Some("NameInvalid"))]
    #[case::the_role_of_etcds_administrator(Some("root"), Some("NameReserved"))]
    #[case::the_same_in_capitals(Some("Root"), Some("NameReserved"))]
    #[case::our_bookkeeping(Some("cotenant.dev"), Some("NameReserved"))]
    #[case::a_database_of_postgres(Some("template1"), Some("NameReserved"))]
    #[case::a_role_of_postgres(Some("pg_monitor"), Some("NameReserved"))]
    #[case::injection(Some("a`; DROP DATABASE b; --"), Some("NameInvalid"))]
    #[case::nul(Some("a\0b"), Some("NameInvalid"))]
    #[case::looks_alike(Some("оil"), Some("NameInvalid"))]
    fn a_schema_is_nobody_elses(#[case] schema: Option<&str>, #[case] reason: Option<&str>) {
        let found = verdict(
            &tcp("gas", "default", schema, None),
            &[tcp("oil", "default", Some("oil"), Some("olaf"))],
        );
        assert_eq!(found.first().map(|(_, reason)| reason.as_str()), reason, "{found:?}");
        assert!(found.iter().all(|(field, _)| field == "spec.dataStoreSchema"));
    }

    #[rstest]
    #[case::own_name("greta", None)]
    #[case::root("root", Some("NameReserved"))]
    #[case::taken("olaf", Some("NameTaken"))]
    #[case::taken_but_for_case("Olaf", Some("NameTaken"))]
    #[case::anothers_uid("uid-of-oil", Some("NameTaken"))]
    #[case::anothers_uid_as_mysql_has_it("uidofoil", Some("NameTaken"))]
    #[case::anothers_schema_is_no_user("oil", None)]
    fn a_user_is_nobody_elses(#[case] user: &str, #[case] reason: Option<&str>) {
        let found = verdict(
            &tcp("gas", "default", None, Some(user)),
            &[tcp("oil", "default", Some("oil"), Some("olaf"))],
        );
        assert_eq!(found.first().map(|(_, reason)| reason.as_str()), reason, "{found:?}");
    }

    #[rstest]
    #[case::the_same("default", true)]
    #[case::the_default_by_absence("", true)]
    #[case::another("other", false)]
    #[case::another_name_of_the_same("alias", true)]
    fn names_collide_within_one_store(#[case] other: &str, #[case] taken: bool) {
        let mut other = tcp("oil", other, Some("same"), None);
        other.spec.data_store = other.spec.data_store.filter(|store| !store.is_empty());
        assert_eq!(
            !verdict(&tcp("gas", "default", Some("same"), None), &[other]).is_empty(),
            taken
        );
    }

    #[test]
    fn what_another_has_recorded_counts_as_well_as_what_it_asks_for() {
        let mut moved = tcp("oil", "other", None, None);
        let status =
            serde_json::json!({"storage": {"dataStoreName": "default", "setup": {"schema": "kept", "user": "olaf"}}});
        moved.status = Some(serde_json::from_value(status).unwrap());
        let asking = tcp("gas", "default", Some("kept"), Some("olaf"));
        let reasons: Vec<_> = verdict(&asking, &[moved])
            .into_iter()
            .map(|(_, reason)| reason)
            .collect();
        assert_eq!(reasons, ["NameTaken", "NameTaken"]);
    }

    #[rstest]
    #[case::nothing_asked(None, None, None, false)]
    #[case::too_late(Some("mine"), None, Some("uid-of-gas"), true)]
    #[case::another(Some("mine"), Some("yours"), Some("yours"), true)]
    #[case::what_is_recorded(Some("uid-of-gas"), None, Some("uid-of-gas"), false)]
    #[case::not_changed(Some("mine"), Some("mine"), Some("uid-of-gas"), false)]
    #[case::emptied(Some(""), None, Some("uid-of-gas"), false)]
    #[case::nothing_recorded_yet(Some("mine"), None, None, false)]
    fn names_are_settled_when_the_account_is_made(
        #[case] asked: Option<&str>,
        #[case] before: Option<&str>,
        #[case] recorded: Option<&str>,
        #[case] refused: bool,
    ) {
        let setup = serde_json::json!({"storage": {"setup": {"schema": recorded, "user": recorded}}});
        let mut old = tcp("gas", "default", before, before);
        old.status = recorded.map(|_| serde_json::from_value(setup).unwrap());
        let mut new = tcp("gas", "default", asked, asked);
        new.status.clone_from(&old.status);
        let fields: Vec<_> = settled(&old, &new).into_iter().map(|denial| denial.field).collect();
        let both = ["spec.dataStoreSchema", "spec.dataStoreUsername"];
        assert_eq!(fields, if refused { &both[..] } else { &[] });
        let differs =
            asked.is_some_and(|asked| !asked.is_empty() && recorded.is_some_and(|recorded| recorded != asked));
        assert_eq!(ignored(&new).len(), if differs { 2 } else { 0 });
    }

    #[test]
    fn a_control_plane_does_not_collide_with_itself() {
        let tcp = tcp("gas", "default", Some("same"), Some("user"));
        assert!(verdict(&tcp, std::slice::from_ref(&tcp)).is_empty());
    }

    #[test]
    fn names_of_old_objects_that_contain_each_other_collide() {
        assert!(schemas_collide("a", "a/b"));
        assert!(schemas_collide("/a/", "a"));
        assert!(schemas_collide("", "a"), "an empty prefix is everything");
        assert!(!schemas_collide("a", "ab"));
        assert!(!schemas_collide("a/b", "a/c"));
    }

    proptest! {
        #[test]
        fn collision_is_symmetric_and_everything_collides_with_itself(one in "[aAbB/.-]{0,6}", other in "[aAbB/.-]{0,6}") {
            prop_assert_eq!(schemas_collide(&one, &other), schemas_collide(&other, &one));
            prop_assert!(schemas_collide(&one, &one));
            prop_assert_eq!(users_collide(&one, &other), users_collide(&other, &one));
        }

        #[test]
        fn accepted_names_collide_exactly_when_their_keys_meet(
            one in "[abA]([ab.]{0,2}[abA])?",
            other in "[abA]([ab.]{0,2}[abA])?",
        ) {
            prop_assert!(name("f", &one).is_none() && name("f", &other).is_none());
            let prefix = |name: &str| format!("/{}/", name.to_lowercase());
            let meet = prefix(&one).starts_with(&prefix(&other)) || prefix(&other).starts_with(&prefix(&one));
            prop_assert_eq!(schemas_collide(&one, &other), meet);
        }

        #[test]
        fn no_name_makes_the_rule_panic(text in "\\PC*") {
            let _ = name("f", &text);
        }
    }
}
