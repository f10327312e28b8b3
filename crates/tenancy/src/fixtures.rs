//! Tenants, namespaces and settings in words, for this crate's tests.

use std::sync::Arc;

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant, TenantOwner};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::settings::Settings;

pub(crate) fn groups(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn settings(spec: Value) -> Settings {
    let configuration: CapsuleConfiguration = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "CapsuleConfiguration",
        "metadata": {"name": "default"},
        "spec": spec,
    }))
    .expect("a configuration");
    Settings::new(Some(&configuration), "cotenant-system", "cotenant")
}

pub(crate) fn tenant_owner(name: &str, labels: Value, spec: Value) -> TenantOwner {
    serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "TenantOwner",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }))
    .expect("a TenantOwner")
}

pub(crate) struct TenantBuilder(Value);

pub(crate) fn tenant(name: &str) -> TenantBuilder {
    TenantBuilder(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "Tenant",
        "metadata": {"name": name, "uid": format!("uid-of-{name}")},
        "spec": {},
    }))
}

impl TenantBuilder {
    fn push(mut self, path: &[&str], value: Value) -> Self {
        let mut target = &mut self.0;
        for part in path {
            target = &mut target[*part];
        }
        match target {
            Value::Array(list) => list.push(value),
            other => *other = json!([value]),
        }
        self
    }

    pub(crate) fn owner(self, name: &str) -> Self {
        self.push(&["spec", "owners"], json!({"kind": "User", "name": name}))
    }

    pub(crate) fn owner_group(self, name: &str) -> Self {
        self.push(&["spec", "owners"], json!({"kind": "Group", "name": name}))
    }

    pub(crate) fn status_owner(mut self, name: &str) -> Self {
        self.0["status"]["size"] = json!(0);
        self.push(&["status", "owners"], json!({"kind": "User", "name": name}))
    }

    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.0["metadata"]["uid"] = json!(uid);
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub(crate) fn terminating(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        self
    }

    /// Sets fields of the spec, each as a whole.
    pub(crate) fn with(mut self, fields: Value) -> Self {
        let Value::Object(fields) = fields else { return self };
        for (key, value) in fields {
            self.0["spec"][key] = value;
        }
        self
    }

    pub(crate) fn build(self) -> Tenant {
        serde_json::from_value(self.0).expect("a tenant")
    }
}

impl From<TenantBuilder> for Arc<Tenant> {
    fn from(builder: TenantBuilder) -> Self {
        Arc::new(builder.build())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct NamespaceBuilder(Value);

pub(crate) fn namespace(name: &str) -> NamespaceBuilder {
    NamespaceBuilder(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
    }))
}

impl NamespaceBuilder {
    pub(crate) fn of(self, tenant: &str) -> Self {
        let uid = format!("uid-of-{tenant}");
        self.of_uid(tenant, &uid)
    }

    pub(crate) fn of_uid(self, tenant: &str, uid: &str) -> Self {
        self.label("capsule.clastix.io/tenant", tenant).reference(tenant, uid)
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub(crate) fn reference(mut self, tenant: &str, uid: &str) -> Self {
        let reference =
            json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": tenant, "uid": uid});
        match &mut self.0["metadata"]["ownerReferences"] {
            Value::Array(references) => references.push(reference),
            other => *other = json!([reference]),
        }
        self
    }

    pub(crate) fn terminating(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        self
    }

    pub(crate) fn build(self) -> Namespace {
        serde_json::from_value(self.0).expect("a namespace")
    }
}
