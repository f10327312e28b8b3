//! Fields that are served, because manifests have them, but not acted upon yet.
//!
//! Accepting them in silence would be a promise that nobody keeps, so each is refused with a sentence. A row goes when
//! the field works.

use api::kamaji::v1alpha1::{Driver, TenantControlPlaneSpec};

use crate::denial::Denial;

/// One row.
pub struct NotYet {
    /// Where the field stands.
    pub field: &'static str,
    /// Whether a spec asks for it.
    pub asked: fn(&TenantControlPlaneSpec) -> bool,
    /// What to do without it.
    pub instead: &'static str,
}

/// The table.
pub static NOT_YET: &[NotYet] = &[
    NotYet {
        field: "spec.controlPlane.ingress",
        asked: |spec| spec.control_plane.ingress.is_some(),
        instead: "reach the control plane through its Service",
    },
    NotYet {
        field: "spec.controlPlane.gateway",
        asked: |spec| spec.control_plane.gateway.is_some(),
        instead: "reach the control plane through its Service",
    },
    NotYet {
        field: "spec.addons.konnectivity",
        asked: |spec| spec.addons.konnectivity.is_some(),
        instead: "give the control plane a route to its nodes",
    },
    NotYet {
        field: "spec.dataStoreOverrides",
        asked: |spec| !spec.data_store_overrides.is_empty(),
        instead: "hold all kinds in one DataStore",
    },
    NotYet {
        field: "spec.writePermissions",
        asked: |spec| spec.write_permissions.limited(),
        instead: "limit writes with RBAC in the tenant cluster",
    },
    NotYet {
        field: "spec.networkProfile.allowAddressAsExternalIP",
        asked: |spec| spec.network_profile.allow_address_as_external_ip,
        instead: "use service type NodePort or LoadBalancer; an external IP would let its author take any address of this cluster",
    },
];

/// What a spec asks for in vain.
pub fn denials(spec: &TenantControlPlaneSpec) -> Vec<Denial> {
    let asked = NOT_YET.iter().filter(|row| (row.asked)(spec));
    asked
        .map(|row| {
            let message = format!(
                "{}: known, but not acted upon by this version; {}",
                row.field, row.instead
            );
            Denial::new(row.field, "NotYet", message)
        })
        .collect()
}

/// Whether a store's driver cannot be used yet, and what to say.
pub fn driver(driver: Driver) -> Option<String> {
    (driver != Driver::Etcd).then(|| {
        format!(
            "driver {} is known, but not acted upon by this version; use a DataStore with driver etcd",
            driver.as_str()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One spec per row of the table, as its author would write it.
    fn asking() -> Vec<(&'static str, serde_json::Value)> {
        use serde_json::json;
        vec![
            (
                "spec.controlPlane.ingress",
                json!({"controlPlane": {"ingress": {"hostname": "oil.example"}}}),
            ),
            (
                "spec.controlPlane.gateway",
                json!({"controlPlane": {"gateway": {"hostname": "oil.example"}}}),
            ),
            ("spec.addons.konnectivity", json!({"addons": {"konnectivity": {}}})),
            (
                "spec.dataStoreOverrides",
                json!({"dataStoreOverrides": [{"resource": "/events", "dataStore": "events"}]}),
            ),
            (
                "spec.writePermissions",
                json!({"writePermissions": {"blockCreation": true}}),
            ),
            (
                "spec.networkProfile.allowAddressAsExternalIP",
                json!({"networkProfile": {"allowAddressAsExternalIP": true}}),
            ),
        ]
    }

    fn spec(patch: &serde_json::Value) -> TenantControlPlaneSpec {
        let mut spec = serde_json::json!({
            "controlPlane": {"service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.0"},
        });
        for (key, value) in patch.as_object().unwrap() {
            let fields = value.as_object().into_iter().flatten();
            let merged = fields.fold(spec[key].clone(), |mut merged, (name, value)| {
                merged[name] = value.clone();
                merged
            });
            spec[key] = if value.is_object() { merged } else { value.clone() };
        }
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn each_row_refuses_what_it_names_and_nothing_else() {
        let asking = asking();
        assert_eq!(asking.len(), NOT_YET.len());
        for (field, patch) in asking {
            let fields: Vec<_> = denials(&spec(&patch)).into_iter().map(|denial| denial.field).collect();
            assert_eq!(fields, [field]);
        }
    }

    #[test]
    fn a_plain_control_plane_asks_for_nothing_in_vain() {
        let plain =
            serde_json::json!({"addons": {"coreDNS": {}, "kubeProxy": {}}, "writePermissions": {"blockUpdate": false}});
        assert_eq!(denials(&spec(&plain)), []);
    }
}
