//! Fields of namespace tenants that are served, because manifests have them, but not acted upon, or not as they say.
//!
//! Accepting them in silence would be a promise that nobody keeps, so each is warned about. None of them leaves a tenant with
//! more than its author meant to give. A row goes when the field works.

use api::capsule::v1beta2::{CapsuleConfigurationSpec, Overrides, Owner, Tenant};
use serde_json::{Value, json};

/// One row.
pub struct NotYet<K: 'static> {
    /// Where the field stands.
    pub field: &'static str,
    /// What is asked for; null if nothing is.
    pub asked: fn(&K) -> Value,
    /// What is so instead, and what to do.
    pub instead: &'static str,
}

fn some<T: serde::Serialize>(value: Option<T>) -> Value {
    value.map_or(Value::Null, |value| json!(value))
}

fn filled<T: serde::Serialize>(list: &[T]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// A field that has a default: the default asks for nothing.
fn other_than<T: PartialEq + serde::Serialize>(value: &T, default: &T) -> Value {
    if value == default { Value::Null } else { json!(value) }
}

/// The table of Tenants.
pub static TENANT: &[NotYet<Tenant>] = &[NotYet {
    field: "spec.owners[].proxySettings",
    asked: |tenant| {
        let settings = |owner: &Owner| (!owner.proxy_settings.is_empty()).then(|| owner.proxy_settings.clone());
        filled(&tenant.spec.owners.iter().filter_map(settings).collect::<Vec<_>>())
    },
    instead: "known, but not acted upon by this version; give the rights with spec.additionalRoleBindings where the objects \
              are in namespaces",
}];

/// The table of the CapsuleConfiguration. Nothing in it gives a tenant more than it had.
pub static CONFIGURATION: &[NotYet<CapsuleConfigurationSpec>] = &[
    NotYet {
        field: "spec.enableTLSReconciler",
        // It has no default that keeps a certificate, so saying nothing asks for this too.
        asked: |spec| some((!spec.enable_tls_reconciler).then_some(false)),
        instead: "the operator keeps the certificate all the same, because hooks that nobody trusts refuse everything; bring one of \
                  your own as a Secret without ca.key, which is used as it is",
    },
    NotYet {
        field: "spec.overrides.mutatingWebhookConfigurationName",
        asked: |spec| {
            other_than(
                &spec.overrides.mutating_webhook_configuration_name,
                &Overrides::default().mutating_webhook_configuration_name,
            )
        },
        instead: "deprecated, and not read; use spec.admission.mutating.name",
    },
    NotYet {
        field: "spec.overrides.validatingWebhookConfigurationName",
        asked: |spec| {
            other_than(
                &spec.overrides.validating_webhook_configuration_name,
                &Overrides::default().validating_webhook_configuration_name,
            )
        },
        instead: "deprecated, and not read; use spec.admission.validating.name",
    },
    NotYet {
        field: "spec.admission.mutating.webhooks",
        asked: |spec| {
            let admission = spec
                .admission
                .as_ref()
                .and_then(|admission| admission.mutating.as_ref());
            filled(
                &admission
                    .map(|mutating| mutating.webhooks.iter().map(|hook| &hook.hook.name).collect::<Vec<_>>())
                    .unwrap_or_default(),
            )
        },
        instead: "the list is not read; the operator registers the hooks that it answers, with the selectors that they need",
    },
    NotYet {
        field: "spec.admission.validating.webhooks",
        asked: |spec| {
            let admission = spec
                .admission
                .as_ref()
                .and_then(|admission| admission.validating.as_ref());
            filled(
                &admission
                    .map(|validating| validating.webhooks.iter().map(|hook| &hook.name).collect::<Vec<_>>())
                    .unwrap_or_default(),
            )
        },
        instead: "the list is not read; the operator registers the hooks that it answers, with the selectors that they need",
    },
];

/// A warning for each field of the table that is asked for.
pub fn warnings<K>(table: &[NotYet<K>], object: &K) -> Vec<String> {
    let asked = table.iter().filter(|row| !(row.asked)(object).is_null());
    asked.map(|row| format!("{}: {}", row.field, row.instead)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use rstest::rstest;

    fn asking(spec: &Value) -> Tenant {
        tenant("oil").with(spec.clone()).build()
    }

    #[rstest]
    #[case(json!({"owners": [{"kind": "User", "name": "a", "proxySettings": [{"kind": "Nodes", "operations": []}]}]}), "spec.owners[].proxySettings")]
    fn what_is_merely_missing_is_warned_about(#[case] spec: Value, #[case] field: &str) {
        let warnings = warnings(TENANT, &asking(&spec));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with(field), "{}", warnings[0]);
    }

    #[test]
    fn a_tenant_with_the_fields_that_work_passes_without_a_word() {
        let asking = asking(&json!({
            "owners": [{"kind": "User", "name": "alice"}],
            "forceTenantPrefix": true,
            "namespaceOptions": {"quota": 10},
            "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}, "allowedHostnames": {"allowed": ["a"]}, "hostnameCollisionScope": "Cluster"},
            "storageClasses": {"allowed": ["standard"]},
            "resourceQuotas": {"scope": "Tenant", "items": [{"hard": {"pods": "20"}}]},
            "limitRanges": {"items": []},
            "networkPolicies": {"items": [{"podSelector": {}}]},
            "nodeSelector": {"a": "b"},
            "data": {"any": "thing"},
            "priorityClasses": {"allowed": ["low"]},
            "runtimeClasses": {"allowed": ["kata"]},
            "deviceClasses": {"allowed": ["gpu"]},
            "gatewayOptions": {"allowedClasses": {"allowed": ["public"]}},
            "serviceOptions": {
                "allowedServices": {"nodePort": false}, "externalIPs": {"allowed": []},
                "forbiddenLabels": {"denied": ["a"]}, "forbiddenAnnotations": {"denied": ["a"]},
                "additionalMetadata": {"labels": {"a": "b"}},
            },
            "podOptions": {"additionalMetadata": {"labels": {"a": "b"}}},
            "permissions": {"matchOwners": [{}]},
            "rules": [{"permissions": {"promotions": [{"clusterRoles": ["view"]}]}, "quota": [{"name": "a", "hard": {"pods": "1"}}]}],
            "containerRegistries": {"allowed": ["docker.io"]},
            "imagePullPolicies": ["Always"],
        }));
        assert_eq!(warnings(TENANT, &asking), [""; 0]);
    }

    fn configuration(more: &Value) -> CapsuleConfigurationSpec {
        let mut spec = json!({"enableTLSReconciler": true});
        json_patch::merge(&mut spec, more);
        serde_json::from_value(spec).unwrap()
    }

    #[rstest]
    #[case(json!({"enableTLSReconciler": false}), "spec.enableTLSReconciler")]
    #[case(json!({"enableTLSReconciler": null}), "spec.enableTLSReconciler")]
    #[case(json!({"overrides": {"mutatingWebhookConfigurationName": "a"}}), "spec.overrides.mutatingWebhookConfigurationName")]
    #[case(json!({"overrides": {"validatingWebhookConfigurationName": "a"}}), "spec.overrides.validatingWebhookConfigurationName")]
    #[case(
        json!({"admission": {"mutating": {"client": {"url": "https://a"}, "webhooks": [
            {"name": "a.b.c", "path": "/a", "sideEffects": "None", "admissionReviewVersions": ["v1"]},
        ]}}}),
        "spec.admission.mutating.webhooks"
    )]
    fn the_configuration_is_warned_about(#[case] spec: Value, #[case] field: &str) {
        let warnings = warnings(CONFIGURATION, &configuration(&spec));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("{field}: ")), "{}", warnings[0]);
    }

    #[test]
    fn a_configuration_that_is_acted_upon_passes_without_a_word() {
        let spec = configuration(&json!({
            "events": {"namespace": "capsule-system"},
            "impersonation": {"endpoint": "https://api:6443"},
            "overrides": {
                "TLSSecretName": "own-tls",
                "mutatingWebhookConfigurationName": "capsule-mutating-webhook-configuration",
                "validatingWebhookConfigurationName": "capsule-validating-webhook-configuration",
            },
            "admission": {"serviceName": "hooks", "mutating": {"client": {"url": "https://a"}}},
            "cacheInvalidation": "30m",
        }));
        assert_eq!(warnings(CONFIGURATION, &spec), [""; 0]);
    }
}
