//! Which writes a tenant cluster refuses, and from which Kubernetes version on it can.
//!
//! The refusal is a ValidatingAdmissionPolicy in the tenant cluster. It is decided in the tenant's own API server, which
//! therefore needs no way into the admin cluster, and holds while no operator runs.

use api::kamaji::v1alpha1::{TenantControlPlaneSpec, WritePermissions};

use super::version::{self, Minor};
use crate::denial::Denial;

/// The first version that serves ValidatingAdmissionPolicies unasked.
const OLDEST: Minor = Minor { major: 1, minor: 30 };

/// Operations that are refused, as admission names them.
pub fn blocked(permissions: &WritePermissions) -> Vec<&'static str> {
    [
        (permissions.block_creation, "CREATE"),
        (permissions.block_update, "UPDATE"),
        (permissions.block_deletion, "DELETE"),
    ]
    .into_iter()
    .filter_map(|(blocked, operation)| blocked.then_some(operation))
    .collect()
}

/// What is wrong with limits that the control plane's version cannot keep.
pub fn denials(spec: &TenantControlPlaneSpec) -> Option<Denial> {
    const FIELD: &str = "spec.writePermissions";
    let version = version::parse(&spec.kubernetes.version).ok()?;
    (spec.write_permissions.limited() && version::minor(&version) < OLDEST).then(|| {
        let message = format!(
            "{FIELD}: {} cannot refuse writes by policy; limits need Kubernetes {OLDEST} or newer, so set \
             spec.kubernetes.version to that first or leave the limits out",
            spec.kubernetes.version
        );
        Denial::new(FIELD, "VersionTooOld", message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(version: &str, permissions: serde_json::Value) -> TenantControlPlaneSpec {
        serde_json::from_value(json!({
            "controlPlane": {"service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": version},
            "writePermissions": permissions,
        }))
        .unwrap()
    }

    #[test]
    fn each_flag_blocks_its_operation() {
        let blocked = |permissions| blocked(&spec("v1.36.0", permissions).write_permissions);
        assert_eq!(blocked(json!({})), [""; 0]);
        assert_eq!(blocked(json!({"blockCreation": true})), ["CREATE"]);
        assert_eq!(blocked(json!({"blockUpdate": true})), ["UPDATE"]);
        assert_eq!(
            blocked(json!({"blockDeletion": true, "blockCreation": true})),
            ["CREATE", "DELETE"]
        );
    }

    #[test]
    fn limits_need_a_version_that_can_keep_them() {
        let refused = |version, blocked: bool| denials(&spec(version, json!({"blockUpdate": blocked}))).is_some();
        assert!(refused("v1.29.9", true));
        assert!(!refused("v1.29.9", false));
        assert!(!refused("v1.30.0", true));
        assert!(!refused("v1.36.3", true));
        let denial = denials(&spec("v1.29.9", json!({"blockUpdate": true}))).unwrap();
        assert_eq!(
            (denial.field.as_str(), denial.reason),
            ("spec.writePermissions", "VersionTooOld")
        );
    }
}
