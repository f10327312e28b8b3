//! Classes that a tenant may use: of storage, of ingress, of priority, of runtime.
//!
//! One list type serves them all: exact names, a pattern, a selector over the class object's labels, and a default that
//! is always allowed. A list that is there restricts, even if nothing is in it. Unlike the peer's, a selector without
//! requirements selects nothing here for any kind of class (there, it allowed every RuntimeClass), and names are compared
//! as they are (there, lists in mixed case could miss).

use std::collections::BTreeMap;

use api::capsule::v1beta2::{AllowedList, DefaultAllowedList, SelectorAllowedList};

use crate::{
    audit::Limit,
    denial::Denial,
    index::KnownTenant,
    pattern::{Cache, InvalidPattern, Pattern},
    selector::{InvalidSelector, Selector},
};

/// Names that may be used, compiled.
#[derive(Clone, Debug, Default)]
pub struct ClassPolicy {
    allowed: Vec<String>,
    pattern: Option<Result<Pattern, InvalidPattern>>,
    /// `None`: nothing is selected.
    selector: Option<Result<Selector, InvalidSelector>>,
    default: Option<String>,
}

impl ClassPolicy {
    /// Compiles a list of classes.
    pub fn new(list: &DefaultAllowedList, patterns: &mut Cache) -> Self {
        let is_selective = !list.match_labels.is_empty() || !list.match_expressions.is_empty();
        Self {
            allowed: list.allowed.clone(),
            pattern: (!list.allowed_regex.is_empty()).then(|| patterns.get(&list.allowed_regex)),
            selector: is_selective.then(|| Selector::of(&list.match_labels, &list.match_expressions)),
            default: (!list.default.is_empty()).then(|| list.default.clone()),
        }
    }

    /// Compiles a list of classes without a default.
    pub fn of_selected(list: &SelectorAllowedList, patterns: &mut Cache) -> Self {
        let is_selective = !list.match_labels.is_empty() || !list.match_expressions.is_empty();
        Self {
            allowed: list.allowed.clone(),
            pattern: (!list.allowed_regex.is_empty()).then(|| patterns.get(&list.allowed_regex)),
            selector: is_selective.then(|| Selector::of(&list.match_labels, &list.match_expressions)),
            default: None,
        }
    }

    /// Compiles a list of names.
    pub fn of_names(list: &AllowedList, patterns: &mut Cache) -> Self {
        Self {
            allowed: list.allowed.clone(),
            pattern: (!list.allowed_regex.is_empty()).then(|| patterns.get(&list.allowed_regex)),
            selector: None,
            default: None,
        }
    }

    /// What is used when nothing is named.
    pub fn default(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Whether a name may be used. `labels` are those of the class object, `None` if there is none.
    ///
    /// What cannot be evaluated allows nothing; what else is in the list still counts.
    pub fn allows(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let by_pattern = || matches!(&self.pattern, Some(Ok(pattern)) if pattern.matches(name));
        let by_labels = || match (&self.selector, labels) {
            (Some(Ok(selector)), Some(labels)) => selector.matches(labels),
            _ => false,
        };
        !name.is_empty()
            && (self.default.as_deref() == Some(name)
                || self.allowed.iter().any(|allowed| allowed == name)
                || by_pattern()
                || by_labels())
    }

    /// What may be used, for people.
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        let named: Vec<&str> = self.default.iter().chain(&self.allowed).map(String::as_str).collect();
        if !named.is_empty() {
            let mut named = named;
            named.sort_unstable();
            named.dedup();
            parts.push(format!("use one from the following list ({})", named.join(", ")));
        }
        match &self.pattern {
            Some(Ok(pattern)) => parts.push(format!("use one matching the following regex ({})", pattern.as_str())),
            Some(Err(_)) => parts.push("its pattern cannot be evaluated and allows nothing".to_owned()),
            None => {}
        }
        match &self.selector {
            Some(Ok(_)) => parts.push("use one with the labels that the tenant selects".to_owned()),
            Some(Err(_)) => parts.push("its selector cannot be evaluated and allows nothing".to_owned()),
            None => {}
        }
        if parts.is_empty() {
            "none is allowed".to_owned()
        } else {
            parts.join(" or ")
        }
    }
}

/// Checks the StorageClass of a new claim. `requested` is what the claim names, `labels` are those of that class,
/// `None` if there is no such class.
///
/// # Errors
/// If the tenant may not use it.
pub fn storage_class(
    tenant: &KnownTenant,
    requested: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<(), Denial> {
    let field = "spec.storageClassName";
    let Some(policy) = &tenant.storage_classes else {
        return Ok(());
    };
    let set_by = || tenant.field("spec.storageClasses");
    let Some(requested) = requested else {
        let message = format!(
            "{field}: A valid Storage Class must be used: {}; an administrator set this with {}",
            policy.describe(),
            set_by()
        );
        return Err(Denial::new(field, "MissingStorageClass", message).by(Limit::StorageClasses));
    };
    if policy.allows(requested, labels) {
        return Ok(());
    }
    let message = format!(
        "{field}: Storage Class {requested:?} is forbidden for the current Tenant: {}; an administrator set this with {}",
        policy.describe(),
        set_by()
    );
    Err(Denial::new(field, "ForbiddenStorageClass", message).by(Limit::StorageClasses))
}

/// The StorageClass that a new claim gets instead: the tenant's default, if the claim names none, or has been given the
/// cluster's default.
pub fn default_storage_class<'a>(
    policy: Option<&'a ClassPolicy>,
    requested: Option<&str>,
    cluster_default: Option<&str>,
) -> Option<&'a str> {
    default_class(policy, requested, cluster_default)
}

/// The IngressClass that an Ingress gets instead, as for [`default_storage_class`].
pub fn default_ingress_class<'a>(
    policy: Option<&'a ClassPolicy>,
    requested: Option<&str>,
    cluster_default: Option<&str>,
) -> Option<&'a str> {
    default_class(policy, requested, cluster_default)
}

/// The class that is used instead of the requested one: the tenant's default, if none is named, or the API server has filled
/// in the cluster's default.
pub(crate) fn default_class<'a>(
    policy: Option<&'a ClassPolicy>,
    requested: Option<&str>,
    cluster_default: Option<&str>,
) -> Option<&'a str> {
    let wanted = policy?.default()?;
    let replace = requested.is_none_or(|requested| cluster_default == Some(requested) && requested != wanted);
    replace.then_some(wanted)
}

/// The classes that a tenant may use among those that exist, sorted: all of them if it is not restricted.
pub fn available<'a>(
    list: Option<&DefaultAllowedList>,
    existing: impl IntoIterator<Item = (&'a str, &'a BTreeMap<String, String>)>,
) -> Vec<String> {
    allowed_of(
        list.map(|list| ClassPolicy::new(list, &mut Cache::default())).as_ref(),
        existing,
    )
}

/// The same of devices, whose list has no default.
pub fn available_devices<'a>(
    list: Option<&SelectorAllowedList>,
    existing: impl IntoIterator<Item = (&'a str, &'a BTreeMap<String, String>)>,
) -> Vec<String> {
    let policy = list.map(|list| ClassPolicy::of_selected(list, &mut Cache::default()));
    allowed_of(policy.as_ref(), existing)
}

fn allowed_of<'a>(
    policy: Option<&ClassPolicy>,
    existing: impl IntoIterator<Item = (&'a str, &'a BTreeMap<String, String>)>,
) -> Vec<String> {
    let mut names: Vec<_> = existing
        .into_iter()
        .filter(|(name, labels)| policy.is_none_or(|policy| policy.allows(name, Some(labels))))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    fn policy(list: serde_json::Value) -> ClassPolicy {
        ClassPolicy::new(&serde_json::from_value(list).unwrap(), &mut Cache::default())
    }

    fn fast() -> BTreeMap<String, String> {
        BTreeMap::from([("tier".to_owned(), "fast".to_owned())])
    }

    #[rstest]
    #[case::named(json!({"allowed": ["gold", "silver"]}), "silver", true)]
    #[case::not_named(json!({"allowed": ["gold"]}), "silver", false)]
    #[case::case_matters(json!({"allowed": ["Gold"]}), "gold", false)]
    #[case::lists_in_mixed_case_are_searched_whole(json!({"allowed": ["b", "A", "a", "B"]}), "A", true)]
    #[case::the_default(json!({"default": "bronze"}), "bronze", true)]
    #[case::a_pattern(json!({"allowedRegex": "^s"}), "silver", true)]
    #[case::a_pattern_that_does_not_match(json!({"allowedRegex": "^x"}), "silver", false)]
    #[case::a_broken_pattern_allows_nothing(json!({"allowedRegex": "("}), "silver", false)]
    #[case::a_broken_pattern_leaves_the_names(json!({"allowed": ["silver"], "allowedRegex": "("}), "silver", true)]
    #[case::by_labels(json!({"matchLabels": {"tier": "fast"}}), "silver", true)]
    #[case::by_other_labels(json!({"matchLabels": {"tier": "slow"}}), "silver", false)]
    #[case::an_empty_list_restricts_to_nothing(json!({}), "silver", false)]
    #[case::no_name_is_no_class(json!({"allowedRegex": ".*", "allowed": [""]}), "", false)]
    fn a_class_is_allowed(#[case] list: serde_json::Value, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(policy(list).allows(name, Some(&fast())), expected);
    }

    #[test]
    fn a_class_that_does_not_exist_has_no_labels() {
        assert!(!policy(json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]})).allows("ghost", None));
    }

    #[test]
    fn a_refusal_says_what_would_be_right() {
        let known = |spec| KnownTenant::new(tenant("oil").with(spec).into(), &mut Cache::default());
        let gold = known(json!({"storageClasses": {"allowed": ["silver"], "default": "gold"}}));
        let denial = storage_class(&gold, Some("iron"), None).unwrap_err();
        assert_eq!(
            (denial.reason, denial.field.as_str(), denial.code),
            ("ForbiddenStorageClass", "spec.storageClassName", 403)
        );
        assert_eq!(
            denial.message,
            "spec.storageClassName: Storage Class \"iron\" is forbidden for the current Tenant: use one from the \
             following list (gold, silver); an administrator set this with spec.storageClasses of the Tenant \"oil\""
        );
        let denial = storage_class(&gold, None, None).unwrap_err();
        assert_eq!(denial.reason, "MissingStorageClass");
        assert!(
            denial.message.contains("A valid Storage Class must be used: "),
            "{}",
            denial.message
        );
        assert_eq!(storage_class(&gold, Some("gold"), None), Ok(()));
        assert_eq!(storage_class(&known(json!({})), None, None), Ok(()));
    }

    #[rstest]
    #[case::nothing_named(None, Some("standard"), Some("gold"))]
    #[case::filled_in_by_the_cluster(Some("standard"), Some("standard"), Some("gold"))]
    #[case::named(Some("silver"), Some("standard"), None)]
    #[case::explicitly_none(Some(""), Some("standard"), None)]
    #[case::both_defaults_are_the_same(Some("gold"), Some("gold"), None)]
    fn the_tenants_default_is_used(
        #[case] requested: Option<&str>,
        #[case] cluster_default: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let gold = policy(json!({"default": "gold"}));
        assert_eq!(default_storage_class(Some(&gold), requested, cluster_default), expected);
        assert_eq!(
            default_storage_class(Some(&policy(json!({"allowed": ["gold"]}))), requested, cluster_default),
            None
        );
        assert_eq!(default_storage_class(None, requested, cluster_default), None);
    }

    #[test]
    fn available_classes_are_those_that_exist_and_are_allowed() {
        let (none, fast) = (BTreeMap::new(), fast());
        let existing = [("silver", &fast), ("gold", &none), ("iron", &none)];
        let list =
            serde_json::from_value(json!({"allowed": ["gold", "ghost"], "matchLabels": {"tier": "fast"}})).unwrap();
        assert_eq!(available(Some(&list), existing), ["gold", "silver"]);
        assert_eq!(available(None, existing), ["gold", "iron", "silver"]);
    }

    proptest! {
        /// A longer list never refuses what a shorter one allows.
        #[test]
        fn allowing_more_never_refuses_more(
            names in prop::collection::vec("[a-c]{1,2}", 0..4),
            more in prop::collection::vec("[a-c]{1,2}", 0..4),
            name in "[a-c]{0,2}",
        ) {
            let shorter = policy(json!({"allowed": names}));
            let all = [names, more].concat();
            let longer = policy(json!({"allowed": all, "allowedRegex": "^b"}));
            prop_assert!(!shorter.allows(&name, None) || longer.allows(&name, None));
        }
    }
}
