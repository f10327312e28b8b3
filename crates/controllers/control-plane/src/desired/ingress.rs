//! The Ingress in front of a control plane's Service. Whoever serves its class has to pass TLS through: the API server knows
//! people and nodes by their client certificates.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    ServiceBackendPort,
};
use kube::ResourceExt;
use tenancy::control_plane::hostname::PublicName;

use super::identity;

/// Value of the component label.
pub const COMPONENT: &str = "ingress";

/// Renders the Ingress of a control plane that asks for one under this name.
pub fn ingress(tcp: &TenantControlPlane, name: &PublicName) -> Option<Ingress> {
    let wanted = tcp.spec.control_plane.ingress.as_ref()?;
    let mut metadata = identity::metadata(tcp, &tcp.name_any(), COMPONENT);
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    for (key, value) in &wanted.additional_metadata.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata.annotations =
        Some(wanted.additional_metadata.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: tcp.name_any(),
            port: Some(ServiceBackendPort {
                number: Some(tcp.spec.network_profile.port),
                name: None,
            }),
        }),
        resource: None,
    };
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.ingress_class_name.clone().filter(|class| !class.is_empty()),
            rules: Some(vec![IngressRule {
                host: Some(name.host.clone()),
                http: Some(HTTPIngressRuleValue {
                    paths: vec![HTTPIngressPath {
                        path: Some("/".to_owned()),
                        path_type: "Prefix".to_owned(),
                        backend,
                    }],
                }),
            }]),
            ..IngressSpec::default()
        }),
        status: None,
    })
}

/// The names that an Ingress serves.
pub fn hosts(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    rules.filter_map(|rule| rule.host.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenancy::control_plane::hostname;

    use super::*;
    use crate::desired::tests::tcp;

    #[test]
    fn all_of_a_name_goes_to_the_service() {
        let mut tcp = tcp();
        assert_eq!(hostname::public(&tcp), Ok(None));
        tcp.spec.control_plane.ingress = serde_json::from_value(json!({
            "hostname": "oil.example:443", "ingressClassName": "fast",
            "additionalMetadata": {
                "labels": {"team": "oil", "kamaji.clastix.io/name": "other"},
                "annotations": {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"},
            },
        }))
        .unwrap();
        let name = hostname::public(&tcp).unwrap().unwrap();
        let mut rendered = serde_json::to_value(ingress(&tcp, &name).unwrap()).unwrap();
        rendered["metadata"]["ownerReferences"][0]["uid"].take();
        assert_eq!(
            rendered,
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {
                    "name": "demo", "namespace": "default",
                    "labels": {
                        "kamaji.clastix.io/project": "kamaji", "kamaji.clastix.io/name": "demo",
                        "kamaji.clastix.io/component": "ingress", "team": "oil",
                    },
                    "annotations": {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"},
                    "ownerReferences": [{"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
                        "name": "demo", "uid": null, "controller": true, "blockOwnerDeletion": true}],
                },
                "spec": {
                    "ingressClassName": "fast",
                    "rules": [{"host": "oil.example", "http": {"paths": [{
                        "path": "/", "pathType": "Prefix",
                        "backend": {"service": {"name": "demo", "port": {"number": tcp.spec.network_profile.port}}},
                    }]}}],
                },
            })
        );
    }
}
