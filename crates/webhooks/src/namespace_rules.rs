//! The rules that hold in each namespace, compiled when they are first asked for.
//!
//! They are made from the Tenant and the Namespace that the watches show, and not from the namespace's RuleStatus: both say
//! the same, a RuleStatus a moment later, and what decides about a tenant should not be an object in its namespace.
//!
//! Compiling costs milliseconds, asking microseconds. So the answer is kept until the Tenant or the Namespace changes, and
//! namespaces in which the same rules hold share them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use tenancy::denial::Denial;
use tenancy::index::KnownTenant;
use tenancy::pattern::Cache;
use tenancy::rules::body::Body;
use tenancy::rules::{CompiledRules, Mode, render};

/// Namespaces that are kept. When there are more, all are made anew: that many are not asked about within moments.
const MOST: usize = 10_000;

/// Compiled rules, or why nobody can say what they are.
pub(crate) type Rules = Result<Arc<CompiledRules>, Denial>;

/// What is known about the rules of namespaces. Cheap to clone; clones share the content.
#[derive(Clone, Default)]
pub(crate) struct NamespaceRules {
    kept: Arc<Mutex<Kept>>,
    /// Locked while patterns are compiled, which nobody who finds what they look for waits for.
    patterns: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Kept {
    namespaces: HashMap<String, Entry>,
    /// By the UID of the tenant.
    variants: HashMap<Arc<str>, Vec<Variant>>,
}

/// The rules of one namespace, and what they were made from.
struct Entry {
    made_from: MadeFrom,
    rules: Rules,
}

/// UID and version of the tenant and of the namespace.
type MadeFrom = [String; 4];

/// Rules that hold in one or several namespaces of a tenant.
struct Variant {
    mode: Mode,
    bodies: Vec<Body>,
    /// As long as a namespace has them.
    rules: Weak<CompiledRules>,
}

impl Kept {
    fn known(&self, tenant: &KnownTenant, mode: Mode, bodies: &[Body]) -> Option<Arc<CompiledRules>> {
        let mut variants = self.variants.get(&tenant.uid)?.iter();
        let variant = variants.find(|variant| variant.mode == mode && variant.bodies == bodies)?;
        variant.rules.upgrade()
    }
}

impl NamespaceRules {
    /// The rules that hold in a namespace of the tenant.
    pub(crate) fn of(&self, tenant: &KnownTenant, namespace: &Namespace) -> Rules {
        let made_from = [
            tenant.uid.to_string(),
            tenant.object.resource_version().unwrap_or_default(),
            namespace.uid().unwrap_or_default(),
            namespace.resource_version().unwrap_or_default(),
        ];
        let name = namespace.name_any();
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = kept.namespaces.get(&name).filter(|entry| entry.made_from == made_from) {
                return entry.rules.clone();
            }
        }
        let rules = self.compile(tenant, namespace);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.namespaces.len() >= MOST {
            *kept = Kept::default();
        }
        let entry = Entry {
            made_from,
            rules: rules.clone(),
        };
        kept.namespaces.insert(name, entry);
        rules
    }

    /// The same, not kept: for a namespace that is about to be what it is here.
    pub(crate) fn compile(&self, tenant: &KnownTenant, namespace: &Namespace) -> Rules {
        let bodies = render::in_namespace(&tenant.object, namespace).map_err(|unrendered| {
            let message = format!(
                "the rules that hold in namespace {} cannot be told: {unrendered}; an administrator has to correct the Tenant, \
                 or the namespace what the template asks of it",
                namespace.name_any()
            );
            Denial::new("", "AdmissionFailed", message).with_code(500)
        })?;
        let mode = Mode::of(&tenant.object);
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(rules) = kept.known(tenant, mode, &bodies) {
                return Ok(rules);
            }
        }
        let rules = {
            let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(CompiledRules::new(tenant.name.as_str(), mode, &bodies, &mut patterns))
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.variants.retain(|_, variants| {
            variants.retain(|variant| variant.rules.strong_count() > 0);
            !variants.is_empty()
        });
        let variant = Variant {
            mode,
            bodies,
            rules: Arc::downgrade(&rules),
        };
        kept.variants.entry(tenant.uid.clone()).or_default().push(variant);
        Ok(rules)
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use super::*;
    use api::capsule::v1beta2::Tenant;
    use serde_json::{Value, json};

    fn tenant(version: &str, rules: Value) -> KnownTenant {
        let object: Tenant = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "spec": {"rules": rules},
            "metadata": {"name": "oil", "uid": "u", "resourceVersion": version}}))
        .expect("a tenant");
        KnownTenant::new(Arc::new(object), &mut Cache::default())
    }

    fn namespace(name: &str, version: &str, labels: Value) -> Namespace {
        let metadata = json!({"name": name, "uid": name, "resourceVersion": version, "labels": labels});
        serde_json::from_value(json!({"metadata": metadata})).expect("a namespace")
    }

    fn schedulers(template: &str) -> Value {
        json!([{"enforce": {"workloads": {"schedulers": [{"exact": [template]}]}}}])
    }

    #[test]
    fn rules_are_compiled_once_and_shared_by_namespaces_that_have_the_same() {
        let rules = NamespaceRules::default();
        let oil = tenant("1", schedulers("a"));
        let web = rules.of(&oil, &namespace("web", "1", json!({}))).expect("rules");
        let again = rules.of(&oil, &namespace("web", "1", json!({}))).expect("rules");
        let other = rules.of(&oil, &namespace("db", "1", json!({}))).expect("rules");
        assert!(Arc::ptr_eq(&web, &again) && Arc::ptr_eq(&web, &other));
        // Its status changes with every namespace.
        let later = rules.of(&tenant("2", schedulers("a")), &namespace("web", "1", json!({})));
        assert!(Arc::ptr_eq(&web, &later.expect("rules")));
    }

    #[test]
    fn a_change_of_tenant_or_namespace_is_seen() {
        let rules = NamespaceRules::default();
        let selecting = |value: &str| {
            json!([{"namespaceSelector": {"matchLabels": {"env": value}},
                "enforce": {"workloads": {"schedulers": [{"exact": ["a"]}]}}}])
        };
        let is_empty =
            |tenant: &KnownTenant, namespace: &Namespace| rules.of(tenant, namespace).expect("rules").is_empty();
        let (test, prod) = (json!({"env": "test"}), json!({"env": "prod"}));
        assert!(is_empty(
            &tenant("1", selecting("prod")),
            &namespace("web", "1", test.clone())
        ));
        assert!(!is_empty(
            &tenant("1", selecting("prod")),
            &namespace("web", "2", prod.clone())
        ));
        assert!(is_empty(&tenant("2", selecting("test")), &namespace("web", "2", prod)));
        assert!(!is_empty(&tenant("2", selecting("test")), &namespace("web", "3", test)));
    }

    #[test]
    fn rules_that_cannot_be_told_are_our_failure_and_say_whose_words_to_correct() {
        let rules = NamespaceRules::default();
        let oil = tenant("1", schedulers("{{ .namespace.metadata.labels.team }}"));
        let denial = rules.of(&oil, &namespace("web", "1", json!({}))).expect_err("no rules");
        assert_eq!((denial.code, denial.reason), (500, "AdmissionFailed"));
        assert!(
            denial.message.contains("namespace web") && denial.message.contains("spec.rules[0]"),
            "{denial}"
        );
        assert!(rules.of(&oil, &namespace("web", "2", json!({"team": "a"}))).is_ok());
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let rules = NamespaceRules::default();
        for number in 0..100 {
            let version = number.to_string();
            let oil = tenant(&version, schedulers(&format!("scheduler-{number}")));
            assert!(rules.of(&oil, &namespace("web", "1", json!({}))).is_ok());
        }
        let kept = rules.kept.lock().expect("no panic");
        assert_eq!(kept.namespaces.len(), 1);
        let variants: usize = kept.variants.values().map(Vec::len).sum();
        assert!(variants <= 2, "{variants}");
    }
}
