//! Hostnames that another Ingress uses already.
//!
//! What may be there once is a hostname with a path, compared as they are written. The answer comes from a [`Register`] of
//! all Ingresses, fed from a watch, and of those that were admitted and have not come back through the watch yet: of two
//! creates at once the second is refused. Each replica has a register of its own, so two creates at the same moment
//! through two replicas may both pass, if each is admitted before the watch has shown the other to its replica. Both
//! stand then, and neither can be given a further hostname of the other's. An Ingress from before, or from such a moment,
//! can be changed in everything else.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use api::capsule::v1beta2::HostnameCollisionScope as Scope;
use k8s_openapi::api::networking::v1::Ingress;

use crate::{
    audit::Limit,
    denial::Denial,
    index::{KnownTenant, View},
};

/// Longer than any create that succeeds takes from admission to the watch.
const EXPIRY: Duration = Duration::from_secs(10);

/// A hostname with a path. An absent path is the one that it stands for, `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Route {
    host: Box<str>,
    path: Box<str>,
}

/// Namespace and name of an Ingress.
type Holder = (Box<str>, Box<str>);

/// Among which Ingresses a tenant's hostnames are unique.
pub fn scope(tenant: &KnownTenant) -> Scope {
    let options = tenant.object.spec.ingress_options.as_ref();
    options.map_or(Scope::Disabled, |options| options.hostname_collision_scope)
}

/// The routes of an Ingress, each with the index of its rule.
fn routes(ingress: &Ingress) -> Vec<(usize, Route)> {
    let rules = ingress
        .spec
        .iter()
        .flat_map(|spec| spec.rules.iter().flatten())
        .enumerate();
    let routes = rules.flat_map(|(index, rule)| {
        let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.path.as_deref().unwrap_or_default())
            .collect();
        // A rule without paths sends all of its host to the default backend.
        let paths = if paths.is_empty() { vec![""] } else { paths };
        paths.into_iter().map(move |path| {
            let route = Route {
                host: rule.host.as_deref().unwrap_or_default().into(),
                path: if path.is_empty() { "/" } else { path }.into(),
            };
            (index, route)
        })
    });
    routes.collect()
}

/// All Ingresses by what they serve.
#[derive(Debug, Default)]
pub struct Register {
    known: Known,
    /// Admitted and not seen yet: who, and until when that is believed.
    admitted: HashMap<Route, (Holder, Instant)>,
}

/// What the watch has shown.
#[derive(Debug, Default)]
pub struct Known {
    holders: HashMap<Route, BTreeSet<Holder>>,
    routes: HashMap<Holder, HashSet<Route>>,
}

impl Known {
    /// An Ingress as the watch shows it.
    pub fn put(&mut self, ingress: &Ingress) {
        let holder = holder(ingress);
        self.forget(&holder);
        let routes: HashSet<Route> = routes(ingress).into_iter().map(|(_, route)| route).collect();
        for route in &routes {
            self.holders.entry(route.clone()).or_default().insert(holder.clone());
        }
        if !routes.is_empty() {
            self.routes.insert(holder, routes);
        }
    }

    /// An Ingress that is gone.
    pub fn remove(&mut self, ingress: &Ingress) {
        self.forget(&holder(ingress));
    }

    fn forget(&mut self, holder: &Holder) {
        for route in self.routes.remove(holder).into_iter().flatten() {
            if let Some(holders) = self.holders.get_mut(&route) {
                holders.remove(holder);
                if holders.is_empty() {
                    self.holders.remove(&route);
                }
            }
        }
    }

    fn is_held_in(&self, route: &Route, namespace: &str) -> bool {
        let holders = self.holders.get(route);
        holders.is_some_and(|holders| holders.iter().any(|(of, _)| **of == *namespace))
    }
}

fn holder(ingress: &Ingress) -> Holder {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    (text(&ingress.metadata.namespace), text(&ingress.metadata.name))
}

/// One request about an Ingress.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Whose it is.
    pub tenant: &'a KnownTenant,
    /// Who owns the namespaces of the others.
    pub view: &'a View,
    /// Its namespace.
    pub namespace: &'a str,
    /// As it would be.
    pub ingress: &'a Ingress,
    /// As it was, on update.
    pub old: Option<&'a Ingress>,
    /// Whether nothing will come of it.
    pub is_dry_run: bool,
    /// Now.
    pub now: Instant,
}

impl Register {
    /// An Ingress as the watch shows it.
    pub fn put(&mut self, ingress: &Ingress) {
        self.known.put(ingress);
        let namespace = holder(ingress).0;
        for (_, route) in routes(ingress) {
            // It came back: from now on the watch says how long it is there.
            if self
                .admitted
                .get(&route)
                .is_some_and(|(holder, _)| holder.0 == namespace)
            {
                self.admitted.remove(&route);
            }
        }
    }

    /// An Ingress that is gone.
    pub fn remove(&mut self, ingress: &Ingress) {
        self.known.remove(ingress);
    }

    /// Takes a complete list for all that is known.
    pub fn replace(&mut self, known: Known) {
        self.known = known;
    }

    /// Lets an Ingress have its hostnames, and remembers that it has them.
    ///
    /// # Errors
    /// If another Ingress in the tenant's scope has one of those that it did not have before.
    pub fn admit(&mut self, request: &Request<'_>) -> Result<(), Denial> {
        let Self { known, admitted } = self;
        admitted.retain(|route, ((namespace, _), until)| *until > request.now && !known.is_held_in(route, namespace));
        let before: HashSet<Route> = request
            .old
            .map(routes)
            .unwrap_or_default()
            .into_iter()
            .map(|(_, route)| route)
            .collect();
        let mut new = routes(request.ingress);
        new.retain(|(_, route)| !before.contains(route));
        let own: Holder = (request.namespace.into(), holder(request.ingress).1);
        for (index, route) in &new {
            let holders = known.holders.get(route).into_iter().flatten();
            let mut others = holders.chain(admitted.get(route).map(|(holder, _)| holder));
            if others.any(|other| *other != own && competes(request, &other.0)) {
                return Err(taken(request.tenant, *index, route));
            }
        }
        if !request.is_dry_run {
            let until = request.now + EXPIRY;
            admitted.extend(new.into_iter().map(|(_, route)| (route, (own.clone(), until))));
        }
        Ok(())
    }
}

/// Whether Ingresses of a namespace are among those that must not have the same hostname.
fn competes(request: &Request<'_>, namespace: &str) -> bool {
    let tenant = || request.view.tenant_of(namespace);
    match scope(request.tenant) {
        Scope::Disabled => false,
        Scope::Namespace => namespace == request.namespace,
        Scope::Tenant => {
            namespace == request.namespace || matches!(tenant(), Ok(Some(tenant)) if tenant.uid == request.tenant.uid)
        }
        // One that does not say clearly whose it is may be any tenant's.
        Scope::Cluster => namespace == request.namespace || !matches!(tenant(), Ok(None)),
    }
}

/// The other Ingress is not named: it may be another tenant's.
fn taken(tenant: &KnownTenant, rule: usize, route: &Route) -> Denial {
    let field = format!("spec.rules[{rule}].host");
    let across = match scope(tenant) {
        Scope::Tenant => "tenant",
        Scope::Namespace => "namespace",
        Scope::Cluster | Scope::Disabled => "cluster",
    };
    let message = format!(
        "{field}: hostname {} is already used across the {across} with path {}: please, reach out to the system \
         administrators, who set this with {}, or use another hostname or path",
        route.host,
        route.path,
        tenant.field("spec.ingressOptions.hostnameCollisionScope")
    );
    Denial::new(field, "IngressHostnameCollision", message).by(Limit::HostnameCollisions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{namespace, tenant};
    use crate::index::Index;
    use crate::pattern::Cache;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn ingress(namespace: &str, name: &str, routes: &[(&str, &str)]) -> Ingress {
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        let rules: Vec<Value> = routes
            .iter()
            .map(|(host, path)| {
                json!({"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"rules": rules}}))
            .unwrap()
    }

    struct World {
        view: View,
        register: Register,
        now: Instant,
    }

    /// Tenants oil (two namespaces) and gas (one), and a namespace of nobody.
    #[allow(
        clippy::disallowed_methods,
        reason = "any moment will do, and there is no other way to one"
    )]
    fn world() -> World {
        let index = Index::default();
        for name in ["oil", "gas"] {
            index.put_tenant(tenant(name).into());
        }
        for (name, of) in [("oil-one", "oil"), ("oil-two", "oil"), ("gas-one", "gas")] {
            index.put_namespace(&namespace(name).of(of).build());
        }
        index.put_namespace(&namespace("free").build());
        World {
            view: View::new(&index),
            register: Register::default(),
            now: Instant::now(),
        }
    }

    impl World {
        fn ask(&mut self, scope: &str, wanted: &Ingress, old: Option<&Ingress>) -> Option<Denial> {
            let oil = tenant("oil").with(json!({"ingressOptions": {"hostnameCollisionScope": scope}}));
            let oil = KnownTenant::new(oil.into(), &mut Cache::default());
            let request = Request {
                tenant: &oil,
                view: &self.view,
                namespace: wanted.metadata.namespace.as_deref().unwrap(),
                ingress: wanted,
                old,
                is_dry_run: false,
                now: self.now,
            };
            self.register.admit(&request).err()
        }
    }

    #[rstest]
    #[case::in_the_same_namespace("oil-one", [true, true, true, false])]
    #[case::in_another_of_the_tenant("oil-two", [false, true, true, false])]
    #[case::in_another_tenants("gas-one", [false, false, true, false])]
    #[case::in_nobodys("free", [false, false, false, false])]
    fn a_hostname_is_there_once_within_the_scope(#[case] other: &str, #[case] refused: [bool; 4]) {
        for (scope, refused) in ["Namespace", "Tenant", "Cluster", "Disabled"].into_iter().zip(refused) {
            let mut world = world();
            world.register.put(&ingress(other, "other", &[("a.example.com", "/")]));
            let wanted = ingress("oil-one", "web", &[("a.example.com", "/")]);
            let denial = world.ask(scope, &wanted, None);
            assert_eq!(denial.is_some(), refused, "{scope}");
        }
    }

    #[rstest]
    #[case::another_path(&[("a.example.com", "/b")], false)]
    #[case::another_host(&[("b.example.com", "/a")], false)]
    #[case::among_others(&[("b.example.com", "/"), ("a.example.com", "/a")], true)]
    fn host_and_path_count_together(#[case] routes: &[(&str, &str)], #[case] refused: bool) {
        let mut world = world();
        world
            .register
            .put(&ingress("gas-one", "other", &[("a.example.com", "/a")]));
        let denial = world.ask("Cluster", &ingress("oil-one", "web", routes), None);
        assert_eq!(denial.is_some(), refused);
        if let Some(denial) = denial {
            assert_eq!(
                (denial.reason, denial.field.as_str()),
                ("IngressHostnameCollision", "spec.rules[1].host")
            );
            assert!(
                denial
                    .message
                    .contains("hostname a.example.com is already used across the cluster")
            );
            assert!(!denial.message.contains("gas"), "{}", denial.message);
        }
    }

    #[test]
    fn a_rule_without_paths_is_the_same_as_one_with_the_root() {
        let mut world = world();
        let whole: Ingress = serde_json::from_value(json!({
            "metadata": {"namespace": "oil-two", "name": "whole"}, "spec": {"rules": [{"host": "a.example.com"}]}}))
        .unwrap();
        world.register.put(&whole);
        assert!(
            world
                .ask("Tenant", &ingress("oil-one", "web", &[("a.example.com", "/")]), None)
                .is_some()
        );
        assert!(
            world
                .ask("Tenant", &ingress("oil-one", "web", &[("a.example.com", "")]), None)
                .is_some()
        );
    }

    #[test]
    fn an_ingress_does_not_collide_with_itself_nor_is_asked_again_for_what_it_had() {
        let mut world = world();
        let old = ingress("oil-one", "web", &[("a.example.com", "/")]);
        world.register.put(&old);
        world
            .register
            .put(&ingress("gas-one", "other", &[("a.example.com", "/")]));
        assert_eq!(world.ask("Cluster", &old, Some(&old)), None);
        let more = ingress("oil-one", "web", &[("a.example.com", "/"), ("b.example.com", "/")]);
        assert_eq!(world.ask("Cluster", &more, Some(&old)), None);
        // The same object again, as clients that retry send it.
        assert_eq!(world.ask("Namespace", &old, None), None);
    }

    #[test]
    fn of_two_at_once_one_passes_and_a_failed_one_gives_its_place_back() {
        let mut world = world();
        let (one, two) = (
            ingress("oil-one", "web", &[("a.example.com", "/")]),
            ingress("oil-two", "web", &[("a.example.com", "/")]),
        );
        assert_eq!(world.ask("Cluster", &one, None), None);
        assert!(world.ask("Cluster", &two, None).is_some());
        world.now += EXPIRY;
        assert_eq!(world.ask("Cluster", &two, None), None);
    }

    #[test]
    fn what_is_seen_and_then_deleted_is_free_at_once() {
        let mut world = world();
        let one = ingress("oil-one", "web", &[("a.example.com", "/")]);
        assert_eq!(world.ask("Cluster", &one, None), None);
        world.register.put(&one);
        world.register.remove(&one);
        assert_eq!(
            world.ask("Cluster", &ingress("oil-two", "web", &[("a.example.com", "/")]), None),
            None
        );
    }

    #[test]
    fn an_empty_register_forgets_nothing_of_what_it_was_told() {
        let mut known = Known::default();
        let one = ingress("oil-one", "web", &[("a.example.com", "/"), ("b.example.com", "/")]);
        known.put(&one);
        known.put(&ingress("oil-one", "web", &[("b.example.com", "/")]));
        known.put(&ingress("oil-two", "web", &[("b.example.com", "/")]));
        assert_eq!((known.holders.len(), known.routes.len()), (1, 2));
        known.remove(&one);
        known.remove(&ingress("oil-two", "web", &[]));
        assert!(known.holders.is_empty() && known.routes.is_empty());
    }

    proptest! {
        /// Whatever is asked in whatever order, no hostname and path is with two Ingresses afterwards.
        #[test]
        fn no_two_admitted_ones_share_a_hostname(
            asked in prop::collection::vec((0_usize..3, 0_usize..3, "[ab]\\.example", "/[ab]?"), 1..20)
        ) {
            let mut world = world();
            let mut held: HashMap<(String, String), Holder> = HashMap::new();
            for (at, name, host, path) in asked {
                let namespace = ["oil-one", "oil-two", "gas-one"][at];
                let wanted = ingress(namespace, ["x", "y", "z"][name], &[(&host, &path)]);
                if world.ask("Cluster", &wanted, None).is_none() {
                    let before = held.insert((host, path), holder(&wanted));
                    prop_assert!(before.is_none_or(|before| before == holder(&wanted)));
                }
            }
        }
    }
}
