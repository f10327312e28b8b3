//! Which rules hold in a namespace, and what they say there.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{Audience, Enforcement, RuleBody, Tenant};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::finding::quoted;
use crate::selector::Selector;

/// API groups that a metadata rule is about if it names none.
pub(super) const DEFAULT_API_GROUP: &str = "v1";
/// Strings that contain this are templates.
pub(super) const TEMPLATE_MARK: &str = "{{";

/// One rule as it holds in one namespace. Rules that enforce nothing have none.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Its place in the list that it comes from.
    pub index: usize,
    /// Whose requests it looks at. Everybody's, if empty.
    pub audience: Vec<Audience>,
    /// What it says.
    pub enforce: Enforcement,
}

impl From<&Body> for RuleBody {
    fn from(body: &Body) -> Self {
        Self {
            audience: body.audience.clone(),
            enforce: Some(body.enforce.clone()),
            ..Self::default()
        }
    }
}

/// The rules of `status.rules` of a RuleStatus.
pub fn of_status(rules: &[RuleBody]) -> Vec<Body> {
    let enforcing = rules.iter().enumerate().filter_map(|(index, rule)| {
        let mut enforce = rule.enforce.clone()?;
        normalise(&mut enforce);
        Some(Body {
            index,
            audience: rule.audience.clone(),
            enforce,
        })
    });
    enforcing.collect()
}

/// Why the rules of a tenant cannot be given for a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the Tenant {tenant:?}: {reason}")]
pub struct Unrendered {
    tenant: String,
    field: String,
    reason: String,
}

/// The rules of the tenant that select a namespace with these labels, rendered for it and in their order. `render` turns a
/// template into text, in the context of the tenant and the namespace; it is called for strings that contain `{{`, keys of
/// maps included.
///
/// # Errors
/// If a selector cannot be evaluated or a template cannot be rendered. What holds in the namespace is unknown then.
pub fn for_namespace(
    tenant: &Tenant,
    labels: &BTreeMap<String, String>,
    mut render: impl FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Body>, Unrendered> {
    let mut bodies = Vec::new();
    for (index, rule) in tenant.spec.rules.iter().enumerate() {
        let Some(enforce) = &rule.enforce else { continue };
        let failed = |field: String, reason: String| Unrendered {
            tenant: tenant.metadata.name.clone().unwrap_or_default(),
            field,
            reason,
        };
        if let Some(selector) = &rule.namespace_selector {
            let selector = Selector::new(selector).map_err(|error| {
                let field = format!("spec.rules[{index}].namespaceSelector");
                failed(field, format!("the selector cannot be evaluated: {error}"))
            })?;
            if !selector.matches(labels) {
                continue;
            }
        }
        let path = |part: &str| format!("spec.rules[{index}].{part}");
        let mut body = Body {
            index,
            audience: rendered(&rule.audience, &path("audience"), &mut render)
                .map_err(|(field, reason)| failed(field, reason))?,
            enforce: rendered(enforce, &path("enforce"), &mut render)
                .map_err(|(field, reason)| failed(field, reason))?,
        };
        normalise(&mut body.enforce);
        bodies.push(body);
    }
    Ok(bodies)
}

/// Writes out what a rule leaves to the default.
pub fn normalise(enforce: &mut Enforcement) {
    for policy in &mut enforce.metadata {
        if policy.api_groups.is_empty() {
            policy.api_groups.push(DEFAULT_API_GROUP.to_owned());
        }
    }
}

/// Field and reason.
type Failure = (String, String);

fn rendered<T: Clone + Serialize + DeserializeOwned>(
    source: &T,
    field: &str,
    render: &mut impl FnMut(&str) -> Result<String, String>,
) -> Result<T, Failure> {
    let broken = |error: serde_json::Error| (field.to_owned(), format!("it cannot be read: {error}"));
    let mut value = serde_json::to_value(source).map_err(broken)?;
    if !has_template(&value) {
        return Ok(source.clone());
    }
    render_strings(&mut value, field, render)?;
    serde_json::from_value(value).map_err(broken)
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(TEMPLATE_MARK),
        Value::Array(list) => list.iter().any(has_template),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains(TEMPLATE_MARK) || has_template(value)),
        _ => false,
    }
}

fn render_strings(
    value: &mut Value,
    field: &str,
    render: &mut impl FnMut(&str) -> Result<String, String>,
) -> Result<(), Failure> {
    match value {
        Value::String(text) => *text = render_text(text, field, render)?,
        Value::Array(list) => {
            for (index, item) in list.iter_mut().enumerate() {
                render_strings(item, &format!("{field}[{index}]"), render)?;
            }
        }
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, mut value) in std::mem::take(map) {
                let field = format!("{field}.{key}");
                render_strings(&mut value, &field, render)?;
                let key = render_text(&key, &field, render)?;
                if out.insert(key.clone(), value).is_some() {
                    return Err((field, format!("two keys of this map become {}", quoted(&key))));
                }
            }
            *map = out;
        }
        _ => {}
    }
    Ok(())
}

fn render_text(
    text: &str,
    field: &str,
    render: &mut impl FnMut(&str) -> Result<String, String>,
) -> Result<String, Failure> {
    if !text.contains(TEMPLATE_MARK) {
        return Ok(text.to_owned());
    }
    render(text).map_err(|reason| {
        let reason = format!("the template {} cannot be rendered: {reason}", quoted(text));
        (field.to_owned(), reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use serde_json::json;

    /// Stands in for the template engine: knows one variable.
    fn name_of_the_tenant(template: &str) -> Result<String, String> {
        let out = template.replace("{{ .tenant.metadata.name }}", "oil");
        if out.contains("{{") {
            Err("no such key".into())
        } else {
            Ok(out)
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn a_namespace_has_the_rules_that_select_it_and_enforce_something() {
        let oil = tenant("oil")
            .with(json!({"rules": [
                {"permissions": {}},
                {"enforce": {"action": "allow"}},
                {"namespaceSelector": {"matchLabels": {"env": "prod"}}, "enforce": {"action": "audit"}},
                {"namespaceSelector": {}, "audience": [{"kind": "User", "name": "alice"}], "enforce": {}},
            ]}))
            .build();
        let indexes = |labels| -> Vec<usize> {
            let bodies = for_namespace(&oil, &labels, name_of_the_tenant).unwrap();
            bodies.iter().map(|body| body.index).collect()
        };
        assert_eq!(indexes(labels(&[])), [1, 3]);
        assert_eq!(indexes(labels(&[("env", "prod")])), [1, 2, 3]);
        assert_eq!(indexes(labels(&[("env", "test")])), [1, 3]);
    }

    #[test]
    fn every_string_is_rendered_keys_too_and_groups_are_written_out() {
        let oil = tenant("oil")
            .with(json!({"rules": [{
                "audience": [{"kind": "Group", "name": "{{ .tenant.metadata.name }}-devs"}],
                "enforce": {"action": "allow", "metadata": [{
                    "kinds": ["Pod"],
                    "labels": {"{{ .tenant.metadata.name }}/team": {"values": [{"exact": ["a", "{{ .tenant.metadata.name }}"]}]}},
                }]},
            }]}))
            .build();
        let bodies = for_namespace(&oil, &labels(&[]), name_of_the_tenant).unwrap();
        let expected: Enforcement = serde_json::from_value(json!({"action": "allow", "metadata": [{
            "kinds": ["Pod"],
            "apiGroups": ["v1"],
            "labels": {"oil/team": {"values": [{"exact": ["a", "oil"]}]}},
        }]}))
        .unwrap();
        assert_eq!(bodies[0].enforce, expected);
        assert_eq!(bodies[0].audience[0].name, "oil-devs");
    }

    #[test]
    fn what_is_written_into_a_rule_status_is_read_from_it() {
        let oil = tenant("oil")
            .with(json!({"rules": [
                {"quota": [{"name": "a", "hard": {"cpu": "1"}}]},
                {"audience": [{"kind": "User", "name": "alice"}], "quota": [{"name": "b", "hard": {"cpu": "1"}}],
                 "enforce": {"action": "allow", "metadata": [{"kinds": ["Pod"], "labels": {"a": {}}}]}},
            ]}))
            .build();
        let bodies = for_namespace(&oil, &labels(&[]), name_of_the_tenant).unwrap();
        let written: Vec<_> = bodies.iter().map(RuleBody::from).collect();
        let expected: Vec<RuleBody> = serde_json::from_value(json!([{
            "audience": [{"kind": "User", "name": "alice"}],
            "enforce": {"action": "allow", "metadata": [{"kinds": ["Pod"], "apiGroups": ["v1"], "labels": {"a": {}}}]},
        }]))
        .unwrap();
        assert_eq!(written, expected);
        let read = of_status(&written);
        assert_eq!((read[0].index, &read[0].enforce), (0, &bodies[0].enforce));
        assert_eq!(of_status(&[RuleBody::default()]), []);
    }

    #[test]
    fn what_cannot_be_rendered_or_evaluated_is_named() {
        let fails = |rule: Value| {
            let oil = tenant("oil").with(json!({"rules": [{}, rule]})).build();
            for_namespace(&oil, &labels(&[]), name_of_the_tenant)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            fails(json!({"enforce": {"workloads": {"schedulers": [{"exact": ["a", "{{ .x }}"]}]}}})),
            "spec.rules[1].enforce.workloads.schedulers[0].exact[1] of the Tenant \"oil\": the template \"{{ .x }}\" cannot be \
             rendered: no such key"
        );
        assert_eq!(
            fails(json!({
                "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
                "enforce": {},
            })),
            "spec.rules[1].namespaceSelector of the Tenant \"oil\": the selector cannot be evaluated: operator \"Near\" is unknown; \
             known are In, NotIn, Exists and DoesNotExist"
        );
        assert_eq!(
            fails(json!({"enforce": {"metadata": [{"kinds": ["Pod"], "labels": {
                "oil": {"required": true}, "{{ .tenant.metadata.name }}": {"required": true},
            }}]}})),
            "spec.rules[1].enforce.metadata[0].labels.{{ .tenant.metadata.name }} of the Tenant \"oil\": two keys of this map \
             become \"oil\""
        );
    }
}
