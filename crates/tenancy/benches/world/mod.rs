//! The tenants that decisions are measured with, and how many of them.

use api::capsule::v1beta2::{CapsuleConfiguration, Tenant};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;
use tenancy::{index::Index, settings::Settings};

pub(crate) const TENANTS: [usize; 4] = [10, 100, 1_000, 10_000];
pub(crate) const NAMESPACES_EACH: usize = 3;

/// Tenants with everything about them that decisions ask for, and who asks.
pub(crate) struct World {
    pub(crate) index: Index,
    pub(crate) settings: Settings,
    pub(crate) groups: Vec<String>,
}

pub(crate) fn world(tenants: usize) -> World {
    let index = Index::default();
    for number in 0..tenants {
        let tenant: Tenant = serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2",
            "kind": "Tenant",
            "metadata": {"name": format!("team-{number}"), "uid": format!("uid-{number}")},
            "spec": {
                "owners": [{"kind": "User", "name": format!("user-{number}")}, {"kind": "Group", "name": format!("group-{number}")}],
                "forceTenantPrefix": true,
                "namespaceOptions": {
                    "quota": 10,
                    "additionalMetadata": {"labels": {"env": "prod"}},
                    "forbiddenLabels": {"deniedRegex": "^pod-security"},
                },
                "storageClasses": {"allowed": ["standard"], "allowedRegex": "^fast-[0-9]+$", "default": "standard"},
                "containerRegistries": {"allowed": ["docker.io"], "allowedRegex": r"^[a-z]+\.oil\.example$"},
                "imagePullPolicies": ["Always", "IfNotPresent"],
                "priorityClasses": {"allowed": ["low"]},
                "gatewayOptions": {"allowedClasses": {"allowed": ["shared"], "matchLabels": {"env": "prod"}}},
                "deviceClasses": {"allowed": ["gpu"]},
                "ingressOptions": {
                    "allowedClasses": {"allowed": ["public"]},
                    "allowedHostnames": {"allowedRegex": format!(r"^[a-z0-9-]+\.team-{number}\.example$")},
                    "hostnameCollisionScope": "Cluster",
                },
                "serviceOptions": {
                    "allowedServices": {"nodePort": false, "externalName": false},
                    "externalIPs": {"allowed": ["192.0.2.0/24"]},
                    "forbiddenLabels": {"denied": ["internal"]},
                },
            },
        }))
        .expect("a tenant");
        index.put_tenant(tenant.into());
        for place in 0..NAMESPACES_EACH {
            index.put_namespace(&namespace(number, &format!("team-{number}-{place}"), true));
        }
    }
    let configuration: CapsuleConfiguration = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "CapsuleConfiguration",
        "metadata": {"name": "default"},
        "spec": {"users": [{"kind": "Group", "name": "projectcapsule.dev"}], "protectedNamespaceRegex": "^(kube|prod)-"},
    }))
    .expect("a configuration");
    let settings = Settings::new(Some(&configuration), "cotenant-system", "cotenant");
    World {
        index,
        settings,
        groups: vec!["projectcapsule.dev".into(), "system:authenticated".into()],
    }
}

pub(crate) fn namespace(tenant: usize, name: &str, is_linked: bool) -> Namespace {
    let mut metadata = json!({"name": name, "labels": {"kubernetes.io/metadata.name": name, "app": "web"}});
    if is_linked {
        metadata["labels"]["capsule.clastix.io/tenant"] = json!(format!("team-{tenant}"));
        metadata["labels"]["env"] = json!("prod");
        metadata["ownerReferences"] = json!([{
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "name": format!("team-{tenant}"), "uid": format!("uid-{tenant}"),
        }]);
    }
    serde_json::from_value(json!({"metadata": metadata})).expect("a namespace")
}
