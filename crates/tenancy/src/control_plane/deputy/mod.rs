//! What the author of a control plane may not reach through the operator's hands.
//!
//! The operator may create pods anywhere; the author perhaps not even here. So whatever a spec adds to the control
//! plane's pods is held to less than Kubernetes' own *baseline* Pod Security standard allows:
//!
//! - `volumes` by allow list; Secrets and claims only when they are labelled as this control plane's, because the
//!   namespace may be shared; never host paths, service account tokens, or drivers that fetch things with the node's rights;
//! - `containers` without privileges, host ports, or probes that make the kubelet call elsewhere;
//! - no service account but the powerless default, whose token stays out, and `images` from registries that are allowed;
//! - `fronts`: no annotations that reconfigure shared servers or name other hostnames, Secrets or addresses, no hostname but those that
//!   administrators allow, and no address of the cluster but those that they give away;
//! - no annotations by which others change the pods;
//! - labels of ours, by which Services, network policies and Secrets find a control plane's pods, are not theirs to set:
//!   with a neighbour's name on it, a pod would receive that neighbour's traffic.

mod containers;
mod fronts;
mod images;
mod volumes;

use std::collections::BTreeSet;

use api::kamaji::v1alpha1::{DeploymentSpec, TenantControlPlane};
use ipnet::IpNet;

use crate::denial::Denial;

/// What administrators let authors have beyond the rules of this module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Service accounts, beside `default`, that control planes may run as.
    pub service_accounts: BTreeSet<String>,
    /// What image registries have to begin with; empty allows any.
    pub registries: Vec<String>,
    /// Names that control planes may be reached by: `*.oil.example` is any below it, without `*.` only that one; empty
    /// allows any. Annotations of Services then name only the control plane's own.
    pub hostnames: Vec<String>,
    /// Addresses that control planes may take as external IPs; none allows none.
    pub external_ips: Vec<IpNet>,
}

/// Objects of a control plane's namespace that carry the label `kamaji.clastix.io/name` with its name, by name: somebody
/// with rights on them gave them to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Secrets.
    pub secrets: BTreeSet<String>,
    /// PersistentVolumeClaims.
    pub claims: BTreeSet<String>,
}

/// Names of the containers that the operator itself puts into the pods. (`kine` may be named to choose its image.)
const OWN_CONTAINERS: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "konnectivity-server",
    "tls-router",
    "chmod",
];

/// Names of the volumes that the operator itself puts into the pods.
const OWN_VOLUMES: &[&str] = &[
    "etc-kubernetes-pki",
    "etc-ca-certificates",
    "usr-share-ca-certificates",
    "usr-local-share-ca-certificates",
    "scheduler-kubeconfig",
    "controller-manager-kubeconfig",
    "kine-uds",
    "kine-config",
    "kine-certs",
    "konnectivity-uds",
    "egress-selector-configuration",
    "konnectivity-server-kubeconfig",
];

/// Domains of label keys that only the operator sets.
const OWN_LABEL_DOMAINS: &[&str] = &[
    "kamaji.clastix.io",
    "capsule.clastix.io",
    "projectcapsule.dev",
    "cotenant.dev",
];

/// Domains of labels and annotations by which others put networks, containers or secrets into pods, or take protection
/// away.
const POD_DOMAINS: &[&str] = &[
    "k8s.v1.cni.cncf.io",
    "v1.multus-cni.io",
    "sidecar.istio.io",
    "inject.istio.io",
    "linkerd.io",
    "vault.hashicorp.com",
    "container.apparmor.security.beta.kubernetes.io",
    "seccomp.security.alpha.kubernetes.io",
];

const DEPLOYMENT: &str = "spec.controlPlane.deployment";

/// What `tcp` reaches for beyond what is its own.
pub fn denials(tcp: &TenantControlPlane, own: &Own, trust: &Trust) -> Vec<Denial> {
    let mut found = Found {
        denials: Vec::new(),
        own,
        name: tcp.metadata.name.as_deref().unwrap_or_default(),
    };
    let deployment = &tcp.spec.control_plane.deployment;
    found.service_account(tcp, trust);
    found.registry(tcp, trust);
    let volumes = found.volumes(deployment);
    found.containers(deployment);
    found.component_mounts(deployment, &volumes);
    found.contexts(deployment);
    if let Some(tunnel) = &tcp.spec.addons.konnectivity {
        let context = tunnel.server.security_context.as_ref();
        found.container_context("spec.addons.konnectivity.server.securityContext", context);
    }
    found.metadata(tcp);
    found.fronts(tcp);
    found.hostname(tcp, trust);
    found.external_ip(tcp, trust);
    found.denials
}

struct Found<'a> {
    denials: Vec<Denial>,
    own: &'a Own,
    name: &'a str,
}

impl Found<'_> {
    /// Gives the names of the volumes.
    fn volumes<'a>(&mut self, deployment: &'a DeploymentSpec) -> BTreeSet<&'a str> {
        let mut volumes = BTreeSet::new();
        for (index, volume) in deployment.additional_volumes.iter().enumerate() {
            let field = format!("{DEPLOYMENT}.additionalVolumes[{index}]");
            if OWN_VOLUMES.contains(&volume.name.as_str()) || !volumes.insert(volume.name.as_str()) {
                self.taken(&format!("{field}.name"), &volume.name, "volume");
            }
            self.volume(&field, volume);
        }
        volumes
    }

    fn containers(&mut self, deployment: &DeploymentSpec) {
        let mut names: BTreeSet<_> = OWN_CONTAINERS.iter().copied().collect();
        for (list, containers) in [
            ("additionalInitContainers", &deployment.additional_init_containers),
            ("additionalContainers", &deployment.additional_containers),
        ] {
            for (index, container) in containers.iter().enumerate() {
                let field = format!("{DEPLOYMENT}.{list}[{index}]");
                if !names.insert(container.name.as_str()) {
                    self.taken(&format!("{field}.name"), &container.name, "container");
                }
                self.container(&field, container);
            }
        }
    }

    fn component_mounts(&mut self, deployment: &DeploymentSpec, volumes: &BTreeSet<&str>) {
        let mounts = deployment.additional_volume_mounts.iter().flat_map(|mounts| {
            [
                ("apiServer", &mounts.api_server),
                ("controllerManager", &mounts.controller_manager),
                ("scheduler", &mounts.scheduler),
            ]
        });
        for (component, mounts) in mounts {
            for (index, mount) in mounts.iter().enumerate() {
                let field = format!("{DEPLOYMENT}.additionalVolumeMounts.{component}[{index}]");
                self.mount(&field, mount);
                if !volumes.contains(mount.name.as_str()) {
                    let message = format!(
                        "{field}.name: {:?} is not one of {DEPLOYMENT}.additionalVolumes",
                        mount.name
                    );
                    self.deny(format!("{field}.name"), "VolumeMissing", message);
                }
            }
        }
    }

    fn contexts(&mut self, deployment: &DeploymentSpec) {
        if let Some(contexts) = &deployment.container_security_contexts {
            for (component, context) in [
                ("apiServer", &contexts.api_server),
                ("controllerManager", &contexts.controller_manager),
                ("scheduler", &contexts.scheduler),
            ] {
                self.container_context(
                    &format!("{DEPLOYMENT}.containerSecurityContexts.{component}"),
                    context.as_ref(),
                );
            }
        }
        self.pod_context(
            &format!("{DEPLOYMENT}.podSecurityContext"),
            deployment.pod_security_context.as_ref(),
        );
    }

    fn metadata(&mut self, tcp: &TenantControlPlane) {
        let deployment = &tcp.spec.control_plane.deployment;
        let service = &tcp.spec.control_plane.service;
        for (field, metadata) in [
            (
                format!("{DEPLOYMENT}.additionalMetadata"),
                &deployment.additional_metadata,
            ),
            (
                format!("{DEPLOYMENT}.podAdditionalMetadata"),
                &deployment.pod_additional_metadata,
            ),
            (
                "spec.controlPlane.service.additionalMetadata".into(),
                &service.additional_metadata,
            ),
        ] {
            for (kind, keys) in [
                ("labels", metadata.labels.keys()),
                ("annotations", metadata.annotations.keys()),
            ] {
                for key in keys {
                    let field = format!("{field}.{kind}");
                    self.metadata_key(&field, key);
                    if field.starts_with(DEPLOYMENT) && is_below(key, POD_DOMAINS) {
                        self.reach(&field, &format!("{key:?}"));
                    }
                }
            }
        }
    }

    fn deny(&mut self, field: impl Into<String>, reason: &'static str, message: String) {
        self.denials.push(Denial::new(field, reason, message));
    }

    fn reach(&mut self, field: &str, what: &str) {
        let message = format!(
            "{field}: {what} reaches beyond the control plane, and its author has no right to that; the operator sets the limit"
        );
        self.deny(field, "ReachesBeyond", message);
    }

    fn taken(&mut self, field: &str, name: &str, what: &str) {
        let message = format!("{field}: {name:?} is the name of another {what} of the control plane's pods");
        self.deny(field, "NameTaken", message);
    }

    fn metadata_key(&mut self, field: &str, key: &str) {
        if is_below(key, OWN_LABEL_DOMAINS) {
            let message = format!("{field}: {key:?} is set by the operator only, because others are found by it");
            self.deny(field, "KeyReserved", message);
        }
    }
}

/// Whether the domain of a key is one of these, or below one.
fn is_below(key: &str, domains: &[&str]) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    domains
        .iter()
        .any(|own| domain == *own || domain.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests;
