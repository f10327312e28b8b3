//! What goes with a control plane, and what holds that up. Pure.

use api::kamaji::names::{DATASTORE_FINALIZER, SOOT_FINALIZER};
use api::kamaji::v1alpha1::TenantControlPlane;
use kube::ResourceExt;
use serde::Serialize;

use crate::plain::section;

/// Everything that a deletion takes along.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Going {
    cluster: String,
    namespace: String,
    /// In sentences.
    with_it: Vec<String>,
    /// What the deletion will wait for, in sentences.
    blocks: Vec<String>,
}

impl Going {
    pub(super) fn of(tcp: &TenantControlPlane) -> Self {
        let storage = tcp.status.as_ref().and_then(|status| status.storage.as_ref());
        let store = storage.and_then(|storage| storage.data_store_name.as_deref());
        let schema = storage.and_then(|storage| storage.setup.as_ref()?.schema.as_deref());
        let mut with_it = Vec::new();
        if let (Some(store), Some(schema)) = (store, schema) {
            with_it.push(format!("all that its cluster holds: {schema} in DataStore {store}"));
        }
        with_it.push("its pods, Service, certificates, kubeconfigs and account".to_owned());
        with_it.push("its nodes stay, and reach no API server any more".to_owned());
        let ours = |finalizer: &&String| *finalizer != DATASTORE_FINALIZER && *finalizer != SOOT_FINALIZER;
        let blocks = tcp.finalizers().iter().filter(ours);
        Self {
            cluster: tcp.name_any(),
            namespace: tcp.namespace().unwrap_or_default(),
            blocks: blocks
                .map(|finalizer| format!("it has the finalizer {finalizer}, which its owner has to take off"))
                .collect(),
            with_it,
        }
    }

    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        let heading = format!(
            "TenantControlPlane {}/{} goes, and with it:",
            self.namespace, self.cluster
        );
        section(&mut text, &heading, &self.with_it, Clone::clone);
        section(&mut text, "What holds it up:", &self.blocks, Clone::clone);
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_data_and_the_finalizers_of_others_are_named() {
        let tcp: TenantControlPlane = serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "finalizers": [DATASTORE_FINALIZER, "example.com/hold"]},
            "spec": {"controlPlane": {"service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": "v1.36.3"}},
            "status": {"storage": {"dataStoreName": "ssd", "setup": {"schema": "prod_oil"}}},
        }))
        .unwrap();
        assert_eq!(
            Going::of(&tcp).told(),
            "TenantControlPlane prod/oil goes, and with it:\n  \
             all that its cluster holds: prod_oil in DataStore ssd\n  \
             its pods, Service, certificates, kubeconfigs and account\n  \
             its nodes stay, and reach no API server any more\n\
             What holds it up:\n  \
             it has the finalizer example.com/hold, which its owner has to take off\n"
        );
    }
}
