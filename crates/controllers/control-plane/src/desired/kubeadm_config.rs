//! The ConfigMap that records, in the admin cluster, how kubeadm would describe the control plane.
//!
//! Nothing reads it but people. Its two keys are kept; the values are kubeadm's public `v1beta4` form as JSON, where
//! Kamaji writes Go's internal structures, with a fixed bootstrap token in them that exists nowhere.

use std::collections::BTreeMap;

use api::kamaji::names::CHECKSUM_ANNOTATION;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::{Hosted, identity};

/// Value of the component label.
pub const COMPONENT: &str = "kubeadmconfig";

/// Renders the ConfigMap.
pub fn kubeadm_config(hosted: &Hosted<'_>) -> ConfigMap {
    let profile = &hosted.tcp.spec.network_profile;
    let cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": hosted.name,
        "controlPlaneEndpoint": hosted.endpoint(),
        "kubernetesVersion": hosted.version,
        "certificatesDir": "/etc/kubernetes/pki",
        "imageRepository": hosted.tcp.spec.control_plane.deployment.registry_settings.registry,
        "encryptionAlgorithm": "ECDSA-P256",
        "apiServer": {"certSANs": hosted.server_names.iter().map(ToString::to_string).collect::<Vec<_>>()},
        "etcd": {"external": {"endpoints": hosted.datastore.endpoints, "caFile": "", "certFile": "", "keyFile": ""}},
        "networking": {
            "dnsDomain": profile.cluster_domain,
            "podSubnet": hosted.pod_cidrs.join(","),
            "serviceSubnet": hosted.service_cidrs.join(","),
        },
    });
    let init = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {
            "advertiseAddress": hosted.exposure.advertise_address,
            "bindPort": hosted.exposure.port,
        },
    });
    let data: BTreeMap<String, String> = [("ClusterConfiguration", cluster), ("InitConfiguration", init)]
        .map(|(k, v)| (k.to_owned(), v.to_string()))
        .into();
    let mut metadata = identity::metadata(hosted.tcp, &format!("{}-{COMPONENT}", hosted.name), COMPONENT);
    metadata.annotations = Some([(CHECKSUM_ANNOTATION.to_owned(), identity::checksum(&data))].into());
    ConfigMap {
        metadata,
        data: Some(data),
        ..ConfigMap::default()
    }
}
