//! The rules of a tenant in one of its namespaces, with their templates rendered.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use api::capsule::{names, v1beta2::Tenant};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde::Serialize;
use serde_json::{Value, json};
use templates::{Limits, MissingKey, Numbers, Settings, Template};

use super::body::{self, Body, Unrendered};

/// A rendered string is a name, a pattern or an amount. What a namespace's author writes into labels and annotations comes in
/// here, so it is not let grow.
const OUTPUT_BYTES: usize = 64 * 1024;

/// The rules that hold in a namespace. A template sees `.tenant` and `.namespace`, both as the API server has them, and a key
/// that is not there is an error. Its `now` is when the namespace was made: what rules say must not depend on when they
/// are asked.
///
/// # Errors
/// As [`body::for_namespace`].
pub fn in_namespace(tenant: &Tenant, namespace: &Namespace) -> Result<Vec<Body>, Unrendered> {
    let empty = BTreeMap::new();
    let labels = namespace.metadata.labels.as_ref().unwrap_or(&empty);
    let settings = Settings {
        missing_key: MissingKey::Error,
        numbers: Numbers::Integers,
        now: namespace
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    };
    let limits = Limits {
        output_bytes: OUTPUT_BYTES,
        ..Limits::default()
    };
    // Most rules have no template, and both objects may be large.
    let context = OnceCell::new();
    body::for_namespace(tenant, labels, |text| {
        let context = context.get_or_init(|| json!({"tenant": sanitised(tenant), "namespace": sanitised(namespace)}));
        let template = Template::parse("rule", text, limits).map_err(|error| error.to_string())?;
        template.render(context, &settings).map_err(|error| error.to_string())
    })
}

/// The object without what only the API server and kubectl need to remember.
fn sanitised(object: &impl Serialize) -> Value {
    // Both kinds always serialise; without its object a template fails by name, which is the error that it should be.
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        // It changes with every write, also with those that follow from what a template says.
        metadata.remove("resourceVersion");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(names::LAST_APPLIED);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;

    fn namespace(labels: &Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {
            "name": "oil-web", "labels": labels, "creationTimestamp": "2026-01-02T03:04:05Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "m"}]}}))
        .unwrap()
    }

    fn scheduler(template: &str, labels: &Value) -> Result<String, String> {
        let rule = json!({"enforce": {"workloads": {"schedulers": [{"exact": [template]}]}}});
        let oil = tenant("oil").with(json!({"rules": [rule]})).build();
        let bodies = in_namespace(&oil, &namespace(labels)).map_err(|error| error.to_string())?;
        let workloads = bodies[0].enforce.workloads.as_ref().unwrap();
        Ok(workloads.schedulers[0].exact[0].clone())
    }

    #[test]
    fn a_template_sees_tenant_and_namespace() {
        let labels = json!({"team": "web"});
        let rendered = scheduler(
            "{{ .tenant.metadata.name }}-{{ .namespace.metadata.labels.team | upper }}",
            &labels,
        );
        assert_eq!(rendered.as_deref(), Ok("oil-WEB"));
        let now = scheduler("{{ now | date \"2006\" }}", &labels);
        assert_eq!(now.as_deref(), Ok("2026"));
    }

    #[test]
    fn a_key_that_is_not_there_is_an_error() {
        for template in [
            "{{ .namespace.metadata.labels.team }}",
            "{{ .namespace.metadata.managedFields }}",
            "{{ index .namespace.metadata.annotations \"kubectl.kubernetes.io/last-applied-configuration\" | required \"x\" }}",
            "{{ .cluster }}",
            "{{",
        ] {
            let error = scheduler(template, &json!({})).unwrap_err();
            assert!(
                error.starts_with(
                    "spec.rules[0].enforce.workloads.schedulers[0].exact[0] of the Tenant \"oil\": the template"
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_rule_without_templates_is_what_the_tenant_says() {
        assert_eq!(scheduler("a}b", &json!({})).as_deref(), Ok("a}b"));
    }
}
