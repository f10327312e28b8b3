//! Labels and annotations of Nodes that tenant users may not change.
//!
//! Tenant users have no rights to Nodes unless somebody gives them some, for instance to label their own. The labels that
//! decide whose pods run where are not for them to write then.

use std::collections::BTreeMap;

use api::capsule::v1beta2::CapsuleConfigurationSpec;
use k8s_openapi::api::core::v1::Node;

use crate::{caller::Caller, denial::Denial, keys::ForbiddenKeys, pattern::Cache};

/// Whether a configuration limits what tenant users write on Nodes.
pub fn is_restrictive(spec: &CapsuleConfigurationSpec) -> bool {
    spec.node_metadata.is_some()
}

/// Checks the update of a Node: a tenant user may neither add, change nor remove what is forbidden.
///
/// # Errors
/// If a forbidden label or annotation differs, or it cannot be known whether it is forbidden.
pub fn validate(caller: Caller, spec: &CapsuleConfigurationSpec, node: &Node, old: &Node) -> Result<(), Denial> {
    let (Caller::TenantUser, Some(limits)) = (caller, &spec.node_metadata) else {
        return Ok(());
    };
    let mut patterns = Cache::default();
    let parts = [
        (
            "labels",
            "ForbiddenLabel",
            "forbiddenLabels",
            ForbiddenKeys::new(limits.forbidden_labels.as_ref(), &mut patterns),
            (node.metadata.labels.as_ref(), old.metadata.labels.as_ref()),
        ),
        (
            "annotations",
            "ForbiddenAnnotation",
            "forbiddenAnnotations",
            ForbiddenKeys::new(limits.forbidden_annotations.as_ref(), &mut patterns),
            (node.metadata.annotations.as_ref(), old.metadata.annotations.as_ref()),
        ),
    ];
    for (what, reason, option, forbidden, (now, before)) in parts {
        for key in changed(now, before) {
            let field = format!("metadata.{what}[{key}]");
            let (reason, detail, code) = match forbidden.hold(key) {
                Ok(false) => continue,
                Ok(true) => (reason, forbidden.describe(), 403),
                Err(error) => (
                    "PatternInvalid",
                    format!(
                        "Whether {key} is one of them is not known, because the pattern cannot be compiled: {error}"
                    ),
                    500,
                ),
            };
            let message = format!(
                "{field}: Unable to update node as some {what} are marked as forbidden by system administrator. {detail}; \
                 an administrator set this with spec.nodeMetadata.{option} of the CapsuleConfiguration"
            );
            return Err(Denial::new(field, reason, message).with_code(code));
        }
    }
    Ok(())
}

type Map = BTreeMap<String, String>;

/// Keys that were added, removed, or have another value.
fn changed<'a>(now: Option<&'a Map>, before: Option<&'a Map>) -> impl Iterator<Item = &'a str> {
    let value = |map: Option<&'a Map>, key: &str| map.and_then(|map| map.get(key));
    let added = now.into_iter().flatten();
    let added = added.filter(move |(key, new)| value(before, key) != Some(*new));
    let removed = before.into_iter().flatten();
    let removed = removed.filter(move |(key, _)| value(now, key).is_none());
    added.chain(removed).map(|(key, _)| key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn spec(limits: Value) -> CapsuleConfigurationSpec {
        serde_json::from_value(json!({"nodeMetadata": limits})).unwrap()
    }

    fn node(labels: Value, annotations: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels, "annotations": annotations}}))
            .unwrap()
    }

    #[rstest]
    #[case::free(json!({"zone": "a", "mine": "2"}), json!({}), None)]
    #[case::added(json!({"zone": "a", "tenant": "oil"}), json!({}), Some(("ForbiddenLabel", "metadata.labels[tenant]")))]
    #[case::changed(json!({"zone": "b"}), json!({}), Some(("ForbiddenLabel", "metadata.labels[zone]")))]
    #[case::removed(json!({}), json!({}), Some(("ForbiddenLabel", "metadata.labels[zone]")))]
    #[case::an_annotation(
        json!({"zone": "a"}),
        json!({"admin/x": "1"}),
        Some(("ForbiddenAnnotation", "metadata.annotations[admin/x]"))
    )]
    fn forbidden_keys_stay_as_they_are(
        #[case] labels: Value,
        #[case] annotations: Value,
        #[case] expected: Option<(&str, &str)>,
    ) {
        let spec = spec(json!({
            "forbiddenLabels": {"denied": ["zone"], "deniedRegex": "^tenant"}, "forbiddenAnnotations": {"deniedRegex": "^admin/"},
        }));
        let (old, new) = (node(json!({"zone": "a"}), json!({})), node(labels, annotations));
        let denial = validate(Caller::TenantUser, &spec, &new, &old).err();
        let found = denial.as_ref().map(|denial| (denial.reason, denial.field.as_str()));
        assert_eq!(found, expected);
        for caller in [Caller::Administrator, Caller::Unknown] {
            assert_eq!(validate(caller, &spec, &new, &old), Ok(()));
        }
        let none = CapsuleConfigurationSpec::default();
        assert_eq!(validate(Caller::TenantUser, &none, &new, &old), Ok(()));
    }

    #[test]
    fn what_cannot_be_compiled_refuses_changes_and_says_so() {
        let spec = spec(json!({"forbiddenLabels": {"deniedRegex": "("}}));
        let (old, new) = (node(json!({}), json!({})), node(json!({"a": "b"}), json!({})));
        let denial = validate(Caller::TenantUser, &spec, &new, &old).unwrap_err();
        assert_eq!((denial.reason, denial.code), ("PatternInvalid", 500));
        assert_eq!(validate(Caller::TenantUser, &spec, &new, &new), Ok(()));
    }
}
