//! What the author of a control plane may not reach through the operator's hands.
//!
//! The operator may create pods anywhere; the author perhaps not even here. So whatever a spec adds to the control
//! plane's pods is held to less than Kubernetes' own *baseline* Pod Security standard allows:
//!
//! - volumes by allow list; Secrets only when they are labelled as this control plane's, because the namespace may be
//!   shared; never host paths, service account tokens, or drivers that fetch things with the node's rights;
//! - containers without privileges, host ports, or probes that make the kubelet call elsewhere;
//! - no service account but the powerless default, and its token stays out;
//! - labels of ours, by which Services, network policies and Secrets find a control plane's pods, are not theirs to set:
//!   with a neighbour's name on it, a pod would receive that neighbour's traffic.

use std::collections::BTreeSet;

use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, EnvFromSource, EnvVar, LifecycleHandler, Probe, SELinuxOptions,
    SeccompProfile, SecurityContext, Volume, VolumeMount, VolumeProjection, WindowsSecurityContextOptions,
};

use crate::denial::Denial;

/// What administrators let authors have beyond the rules of this module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Service accounts, beside `default`, that control planes may run as.
    pub service_accounts: BTreeSet<String>,
    /// What image registries have to begin with; empty allows any.
    pub registries: Vec<String>,
}

/// Sysctls that touch nothing but the pod, as the baseline standard lists them.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Capabilities that a container may add: those that a container runtime gives by default.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Names of the containers that the operator itself puts into the pods. (`kine` may be named to choose its image.)
const OWN_CONTAINERS: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "konnectivity-server",
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

const DEPLOYMENT: &str = "spec.controlPlane.deployment";

/// What `tcp` reaches for. `own_secrets` are the Secrets of its namespace that carry the label
/// `kamaji.clastix.io/name` with its name.
pub fn denials(tcp: &TenantControlPlane, own_secrets: &BTreeSet<String>, trust: &Trust) -> Vec<Denial> {
    let mut found = Found {
        denials: Vec::new(),
        own_secrets,
        name: tcp.metadata.name.as_deref().unwrap_or_default(),
    };
    let deployment = &tcp.spec.control_plane.deployment;
    found.service_account(tcp, trust);
    found.registry(tcp, trust);

    let mut volumes = BTreeSet::new();
    for (index, volume) in deployment.additional_volumes.iter().enumerate() {
        let field = format!("{DEPLOYMENT}.additionalVolumes[{index}]");
        if OWN_VOLUMES.contains(&volume.name.as_str()) || !volumes.insert(volume.name.as_str()) {
            found.taken(&format!("{field}.name"), &volume.name, "volume");
        }
        found.volume(&field, volume);
    }
    let mut names: BTreeSet<_> = OWN_CONTAINERS.iter().copied().collect();
    for (list, containers) in [
        ("additionalInitContainers", &deployment.additional_init_containers),
        ("additionalContainers", &deployment.additional_containers),
    ] {
        for (index, container) in containers.iter().enumerate() {
            let field = format!("{DEPLOYMENT}.{list}[{index}]");
            if !names.insert(container.name.as_str()) {
                found.taken(&format!("{field}.name"), &container.name, "container");
            }
            found.container(&field, container);
        }
    }
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
            found.mount(&field, mount);
            if !volumes.contains(mount.name.as_str()) {
                let message = format!(
                    "{field}.name: {:?} is not one of {DEPLOYMENT}.additionalVolumes",
                    mount.name
                );
                found.deny(format!("{field}.name"), "VolumeMissing", message);
            }
        }
    }
    if let Some(contexts) = &deployment.container_security_contexts {
        for (component, context) in [
            ("apiServer", &contexts.api_server),
            ("controllerManager", &contexts.controller_manager),
            ("scheduler", &contexts.scheduler),
        ] {
            found.container_context(
                &format!("{DEPLOYMENT}.containerSecurityContexts.{component}"),
                context.as_ref(),
            );
        }
    }
    if let Some(context) = &deployment.pod_security_context {
        let field = format!("{DEPLOYMENT}.podSecurityContext");
        found.profiles(
            &field,
            context.se_linux_options.as_ref(),
            context.seccomp_profile.as_ref(),
            context.app_armor_profile.as_ref(),
            context.windows_options.as_ref(),
        );
        for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
            if !SAFE_SYSCTLS.contains(&sysctl.name.as_str()) {
                found.reach(
                    &format!("{field}.sysctls[{index}]"),
                    &format!("the sysctl {:?}", sysctl.name),
                );
            }
        }
    }
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
                found.metadata_key(&format!("{field}.{kind}"), key);
            }
        }
    }
    found.denials
}

struct Found<'a> {
    denials: Vec<Denial>,
    own_secrets: &'a BTreeSet<String>,
    name: &'a str,
}

impl Found<'_> {
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

    fn service_account(&mut self, tcp: &TenantControlPlane, trust: &Trust) {
        let deployment = &tcp.spec.control_plane.deployment;
        let account = deployment.service_account_name.as_str();
        if !matches!(account, "" | "default") && !trust.service_accounts.contains(account) {
            let field = format!("{DEPLOYMENT}.serviceAccountName");
            let message = format!(
                "{field}: control planes do not run as {account:?}; leave the field out, or ask the administrator to allow that account"
            );
            self.deny(field, "ServiceAccountNotAllowed", message);
        }
        if deployment.automount_service_account_token == Some(true) {
            self.reach(
                &format!("{DEPLOYMENT}.automountServiceAccountToken"),
                "a service account's token",
            );
        }
    }

    fn registry(&mut self, tcp: &TenantControlPlane, trust: &Trust) {
        let settings = &tcp.spec.control_plane.deployment.registry_settings;
        let part = |text: &str, more: &[char]| {
            text.chars()
                .all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_') || more.contains(&char))
        };
        let suffix = settings.tag_suffix.as_deref().unwrap_or_default();
        for (name, value, fits) in [
            (
                "registry",
                settings.registry.as_str(),
                part(&settings.registry, &['/', ':']),
            ),
            (
                "apiServerImage",
                &settings.api_server_image,
                part(&settings.api_server_image, &['/']),
            ),
            (
                "controllerManagerImage",
                &settings.controller_manager_image,
                part(&settings.controller_manager_image, &['/']),
            ),
            (
                "schedulerImage",
                &settings.scheduler_image,
                part(&settings.scheduler_image, &['/']),
            ),
            ("tagSuffix", suffix, part(suffix, &[])),
        ] {
            if !fits || (value.is_empty() && name != "tagSuffix") {
                let field = format!("{DEPLOYMENT}.registrySettings.{name}");
                let message = format!("{field}: {value:?} is not a part of an image's name");
                self.deny(field, "ImageInvalid", message);
            }
        }
        let images = [(
            format!("{DEPLOYMENT}.registrySettings.registry"),
            Some(settings.registry.as_str()),
        )];
        let deployment = &tcp.spec.control_plane.deployment;
        let containers = deployment
            .additional_init_containers
            .iter()
            .chain(&deployment.additional_containers);
        let images = images.into_iter().chain(containers.map(|container| {
            (
                format!("{DEPLOYMENT}: container {}", container.name),
                container.image.as_deref(),
            )
        }));
        for (field, image) in images {
            let Some(image) = image.filter(|_| !trust.registries.is_empty()) else {
                continue;
            };
            if !trust.registries.iter().any(|allowed| begins_with_path(image, allowed)) {
                let message = format!(
                    "{field}: {image:?} is not from an allowed registry; the administrator allows {}",
                    trust.registries.join(", ")
                );
                self.deny(field, "RegistryNotAllowed", message);
            }
        }
    }

    fn secret(&mut self, field: &str, secret: Option<&str>) {
        let secret = secret.unwrap_or_default();
        if !self.own_secrets.contains(secret) {
            let message = format!(
                "{field}: the Secret {secret:?} is not labelled kamaji.clastix.io/name={}, and others are not given to this control plane",
                self.name
            );
            self.deny(field, "SecretNotOwn", message);
        }
    }

    fn volume(&mut self, field: &str, volume: &Volume) {
        // Every source is asked for by name: one that Kubernetes adds later is refused until it is looked at.
        let Volume {
            name: _,
            config_map,
            downward_api,
            empty_dir,
            ephemeral,
            persistent_volume_claim,
            projected,
            secret,
            ..
        } = volume;
        if let Some(secret) = secret {
            self.secret(&format!("{field}.secret.secretName"), secret.secret_name.as_deref());
        } else if let Some(projected) = projected {
            for (index, source) in projected.sources.iter().flatten().enumerate() {
                self.projection(&format!("{field}.projected.sources[{index}]"), source);
            }
        } else if config_map.is_none()
            && downward_api.is_none()
            && empty_dir.is_none()
            && ephemeral.is_none()
            && persistent_volume_claim.is_none()
        {
            self.reach(field, "a volume other than configMap, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected or secret");
        }
        // More than one source is invalid, but this is not where that is found out; so no source hides behind another.
        let known = Volume {
            name: volume.name.clone(),
            config_map: config_map.clone(),
            downward_api: downward_api.clone(),
            empty_dir: empty_dir.clone(),
            ephemeral: ephemeral.clone(),
            persistent_volume_claim: persistent_volume_claim.clone(),
            projected: projected.clone(),
            secret: secret.clone(),
            ..Volume::default()
        };
        let sources = [
            config_map.is_some(),
            downward_api.is_some(),
            empty_dir.is_some(),
            ephemeral.is_some(),
            persistent_volume_claim.is_some(),
            projected.is_some(),
            secret.is_some(),
        ];
        if sources.into_iter().filter(|is_some| *is_some).count() > 1 || (sources.contains(&true) && known != *volume) {
            self.reach(field, "a volume with more than one source");
        }
    }

    fn projection(&mut self, field: &str, source: &VolumeProjection) {
        if let Some(secret) = &source.secret {
            self.secret(&format!("{field}.secret.name"), Some(&secret.name));
        }
        let harmless = VolumeProjection {
            config_map: source.config_map.clone(),
            downward_api: source.downward_api.clone(),
            secret: source.secret.clone(),
            cluster_trust_bundle: source.cluster_trust_bundle.clone(),
            ..VolumeProjection::default()
        };
        if harmless != *source {
            self.reach(
                field,
                "a projection other than clusterTrustBundle, configMap, downwardAPI or secret",
            );
        }
    }

    fn container(&mut self, field: &str, container: &Container) {
        for (index, variable) in container.env.iter().flatten().enumerate() {
            self.variable(&format!("{field}.env[{index}]"), variable);
        }
        for (index, source) in container.env_from.iter().flatten().enumerate() {
            self.variables(&format!("{field}.envFrom[{index}]"), source);
        }
        for (index, port) in container.ports.iter().flatten().enumerate() {
            if port.host_port.is_some_and(|port| port != 0) {
                self.reach(&format!("{field}.ports[{index}].hostPort"), "a port of the node");
            }
        }
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            self.mount(&format!("{field}.volumeMounts[{index}]"), mount);
        }
        for (name, probe) in [
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
            ("startupProbe", &container.startup_probe),
        ] {
            self.probe(&format!("{field}.{name}"), probe.as_ref());
        }
        if let Some(lifecycle) = &container.lifecycle {
            self.handler(&format!("{field}.lifecycle.postStart"), lifecycle.post_start.as_ref());
            self.handler(&format!("{field}.lifecycle.preStop"), lifecycle.pre_stop.as_ref());
        }
        self.container_context(&format!("{field}.securityContext"), container.security_context.as_ref());
    }

    fn variable(&mut self, field: &str, variable: &EnvVar) {
        let secret = variable
            .value_from
            .as_ref()
            .and_then(|from| from.secret_key_ref.as_ref());
        if let Some(secret) = secret {
            self.secret(&format!("{field}.valueFrom.secretKeyRef.name"), Some(&secret.name));
        }
    }

    fn variables(&mut self, field: &str, source: &EnvFromSource) {
        if let Some(secret) = &source.secret_ref {
            self.secret(&format!("{field}.secretRef.name"), Some(&secret.name));
        }
    }

    fn mount(&mut self, field: &str, mount: &VolumeMount) {
        if mount
            .mount_propagation
            .as_deref()
            .is_some_and(|propagation| propagation != "None")
        {
            self.reach(
                &format!("{field}.mountPropagation"),
                "a mount that is shared with the node",
            );
        }
    }

    /// A kubelet asks on behalf of the pod, from the node's network: an own host would make it ask anybody.
    fn probe(&mut self, field: &str, probe: Option<&Probe>) {
        let Some(probe) = probe else { return };
        let http = probe.http_get.as_ref().and_then(|get| get.host.as_deref());
        let tcp = probe.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref());
        self.host(field, http.or(tcp));
    }

    fn handler(&mut self, field: &str, handler: Option<&LifecycleHandler>) {
        let Some(handler) = handler else { return };
        let http = handler.http_get.as_ref().and_then(|get| get.host.as_deref());
        let tcp = handler.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref());
        self.host(field, http.or(tcp));
    }

    fn host(&mut self, field: &str, host: Option<&str>) {
        if host.is_some_and(|host| !host.is_empty()) {
            self.reach(field, "a request from the node to another host");
        }
    }

    fn container_context(&mut self, field: &str, context: Option<&SecurityContext>) {
        let Some(context) = context else { return };
        if context.privileged == Some(true) {
            self.reach(&format!("{field}.privileged"), "a privileged container");
        }
        if context.proc_mount.as_deref().is_some_and(|mount| mount != "Default") {
            self.reach(&format!("{field}.procMount"), "an unmasked /proc");
        }
        self.capabilities(&format!("{field}.capabilities.add"), context.capabilities.as_ref());
        self.profiles(
            field,
            context.se_linux_options.as_ref(),
            context.seccomp_profile.as_ref(),
            context.app_armor_profile.as_ref(),
            context.windows_options.as_ref(),
        );
    }

    fn capabilities(&mut self, field: &str, capabilities: Option<&Capabilities>) {
        for capability in capabilities
            .and_then(|capabilities| capabilities.add.as_ref())
            .into_iter()
            .flatten()
        {
            if !DEFAULT_CAPABILITIES.contains(&capability.as_str()) {
                self.reach(field, &format!("the capability {capability:?}"));
            }
        }
    }

    fn profiles(
        &mut self,
        field: &str,
        se_linux: Option<&SELinuxOptions>,
        seccomp: Option<&SeccompProfile>,
        app_armor: Option<&AppArmorProfile>,
        windows: Option<&WindowsSecurityContextOptions>,
    ) {
        let given = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
        if let Some(options) = se_linux {
            let type_ = options.type_.as_deref().unwrap_or_default();
            let known = [
                "",
                "container_t",
                "container_init_t",
                "container_kvm_t",
                "container_engine_t",
            ]
            .contains(&type_);
            if !known || given(options.user.as_deref()) || given(options.role.as_deref()) {
                self.reach(
                    &format!("{field}.seLinuxOptions"),
                    "an SELinux context of the author's choice",
                );
            }
        }
        if seccomp.is_some_and(|profile| profile.type_ == "Unconfined") {
            self.reach(&format!("{field}.seccompProfile"), "a container without seccomp");
        }
        if app_armor.is_some_and(|profile| profile.type_ == "Unconfined") {
            self.reach(&format!("{field}.appArmorProfile"), "a container without AppArmor");
        }
        if windows.is_some_and(|options| options.host_process == Some(true)) {
            self.reach(&format!("{field}.windowsOptions.hostProcess"), "a process of the node");
        }
    }

    fn metadata_key(&mut self, field: &str, key: &str) {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let below = |own: &str| domain == own || domain.strip_suffix(own).is_some_and(|rest| rest.ends_with('.'));
        if OWN_LABEL_DOMAINS.iter().any(|own| below(own)) {
            let message = format!("{field}: {key:?} is set by the operator only, because others are found by it");
            self.deny(field, "KeyReserved", message);
        }
        if domain == "container.apparmor.security.beta.kubernetes.io" {
            self.reach(field, &format!("{key:?}"));
        }
    }
}

fn begins_with_path(image: &str, allowed: &str) -> bool {
    let allowed = allowed.trim_end_matches('/');
    image
        .strip_prefix(allowed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "rows of tables are handed over")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn tcp(deployment: Value) -> TenantControlPlane {
        let mut tcp = TenantControlPlane::default();
        tcp.metadata.name = Some("oil".into());
        tcp.spec.control_plane.deployment = serde_json::from_value(deployment).unwrap();
        tcp
    }

    fn found(deployment: Value) -> Vec<(String, String)> {
        let own = BTreeSet::from(["oil-audit".to_owned()]);
        let denials = denials(&tcp(deployment), &own, &Trust::default());
        denials
            .into_iter()
            .map(|denial| (denial.field, denial.reason.to_string()))
            .collect()
    }

    fn volume(source: Value) -> Value {
        let mut volume = json!({"name": "extra"});
        volume
            .as_object_mut()
            .unwrap()
            .extend(source.as_object().unwrap().clone());
        json!({"additionalVolumes": [volume]})
    }

    #[rstest]
    #[case::empty_dir(json!({"emptyDir": {}}), None)]
    #[case::config_map(json!({"configMap": {"name": "policy"}}), None)]
    #[case::claim(json!({"persistentVolumeClaim": {"claimName": "audit"}}), None)]
    #[case::own_secret(json!({"secret": {"secretName": "oil-audit"}}), None)]
    #[case::projected_harmless(json!({"projected": {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "oil-audit"}}]}}), None)]
    #[case::foreign_secret(json!({"secret": {"secretName": "gas-ca"}}), Some("SecretNotOwn"))]
    #[case::unnamed_secret(json!({"secret": {}}), Some("SecretNotOwn"))]
    #[case::projected_foreign_secret(json!({"projected": {"sources": [{"secret": {"name": "gas-ca"}}]}}), Some("SecretNotOwn"))]
    #[case::token(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}), Some("ReachesBeyond"))]
    #[case::host_path(json!({"hostPath": {"path": "/"}}), Some("ReachesBeyond"))]
    #[case::host_path_behind_another(json!({"emptyDir": {}, "hostPath": {"path": "/"}}), Some("ReachesBeyond"))]
    #[case::two_sources(json!({"emptyDir": {}, "configMap": {"name": "a"}}), Some("ReachesBeyond"))]
    #[case::driver(json!({"csi": {"driver": "secrets-store.csi.k8s.io"}}), Some("ReachesBeyond"))]
    #[case::nfs(json!({"nfs": {"server": "10.0.0.1", "path": "/"}}), Some("ReachesBeyond"))]
    #[case::no_source(json!({}), Some("ReachesBeyond"))]
    fn volumes_hold_nothing_of_others(#[case] source: Value, #[case] reason: Option<&str>) {
        let found = found(volume(source));
        assert_eq!(found.first().map(|(_, reason)| reason.as_str()), reason, "{found:?}");
        assert!(
            found
                .iter()
                .all(|(field, _)| field.starts_with("spec.controlPlane.deployment.additionalVolumes[0]"))
        );
    }

    #[rstest]
    #[case::plain(json!({"image": "busybox", "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}), &[])]
    #[case::privileged(json!({"securityContext": {"privileged": true}}), &[".securityContext.privileged"])]
    #[case::capability(json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}), &[".securityContext.capabilities.add"])]
    #[case::unconfined(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"}}}), &[".securityContext.seccompProfile", ".securityContext.appArmorProfile"])]
    #[case::proc_mount(json!({"securityContext": {"procMount": "Unmasked"}}), &[".securityContext.procMount"])]
    #[case::host_process(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}), &[".securityContext.windowsOptions.hostProcess"])]
    #[case::se_linux(json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}), &[".securityContext.seLinuxOptions"])]
    #[case::host_port(json!({"ports": [{"containerPort": 80}, {"containerPort": 80, "hostPort": 80}]}), &[".ports[1].hostPort"])]
    #[case::foreign_secret_in_the_environment(json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "gas-ca", "key": "ca.key"}}}]}), &[".env[0].valueFrom.secretKeyRef.name"])]
    #[case::own_secret_in_the_environment(json!({"envFrom": [{"secretRef": {"name": "oil-audit"}}]}), &[])]
    #[case::whole_foreign_secret(json!({"envFrom": [{"secretRef": {"name": "gas-ca"}}]}), &[".envFrom[0].secretRef.name"])]
    #[case::probe_elsewhere(json!({"livenessProbe": {"httpGet": {"port": 80, "host": "169.254.169.254"}}}), &[".livenessProbe"])]
    #[case::probe_here(json!({"livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"tcpSocket": {"port": 80}}}), &[])]
    #[case::hook_elsewhere(json!({"lifecycle": {"postStart": {"httpGet": {"port": 80, "host": "10.0.0.1"}}}}), &[".lifecycle.postStart"])]
    #[case::propagation(json!({"volumeMounts": [{"name": "a", "mountPath": "/a", "mountPropagation": "Bidirectional"}]}), &[".volumeMounts[0].mountPropagation"])]
    fn containers_have_no_privileges(#[case] container: Value, #[case] expected: &[&str]) {
        for list in ["additionalContainers", "additionalInitContainers"] {
            let mut container = container.clone();
            container["name"] = json!("extra");
            let fields: Vec<_> = found(json!({list: [container]}))
                .into_iter()
                .map(|(field, _)| field)
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|rest| format!("spec.controlPlane.deployment.{list}[0]{rest}"))
                .collect();
            assert_eq!(fields, expected);
        }
    }

    #[rstest]
    #[case::defaults(json!({}), &[])]
    #[case::another_account(json!({"serviceAccountName": "kamaji"}), &["serviceAccountName"])]
    #[case::the_default_account(json!({"serviceAccountName": "default"}), &[])]
    #[case::token(json!({"automountServiceAccountToken": true}), &["automountServiceAccountToken"])]
    #[case::no_token(json!({"automountServiceAccountToken": false}), &[])]
    #[case::sysctl(json!({"podSecurityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}), &["podSecurityContext.sysctls[0]"])]
    #[case::safe_sysctl(json!({"podSecurityContext": {"runAsUser": 65532, "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}), &[])]
    #[case::component_privileged(json!({"containerSecurityContexts": {"scheduler": {"privileged": true}}}), &["containerSecurityContexts.scheduler.privileged"])]
    #[case::a_neighbours_label(json!({"podAdditionalMetadata": {"labels": {"kamaji.clastix.io/name": "gas"}}}), &["podAdditionalMetadata.labels"])]
    #[case::a_label_below(json!({"additionalMetadata": {"labels": {"component.kamaji.clastix.io/ca": "x"}}}), &["additionalMetadata.labels"])]
    #[case::own_labels(json!({"podAdditionalMetadata": {"labels": {"team": "oil", "notkamaji.clastix.io/name": "x"}}}), &[])]
    #[case::container_of_ours(json!({"additionalContainers": [{"name": "kube-apiserver"}]}), &["additionalContainers[0].name"])]
    #[case::volume_of_ours(json!({"additionalVolumes": [{"name": "etc-kubernetes-pki", "emptyDir": {}}]}), &["additionalVolumes[0].name"])]
    #[case::mount_without_volume(json!({"additionalVolumeMounts": {"apiServer": [{"name": "audit", "mountPath": "/audit"}]}}), &["additionalVolumeMounts.apiServer[0].name"])]
    #[case::image_that_is_none(json!({"registrySettings": {"registry": "registry.k8s.io evil"}}), &["registrySettings.registry"])]
    #[case::own_registry(json!({"registrySettings": {"registry": "mirror.local:5000/k8s", "tagSuffix": "-fips"}}), &[])]
    fn pods_keep_to_themselves(#[case] deployment: Value, #[case] expected: &[&str]) {
        let fields: Vec<_> = found(deployment).into_iter().map(|(field, _)| field).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|rest| format!("spec.controlPlane.deployment.{rest}"))
            .collect();
        assert_eq!(fields, expected);
    }

    #[test]
    fn administrators_may_allow_accounts_and_restrict_registries() {
        let trust = Trust {
            service_accounts: BTreeSet::from(["hosted".to_owned()]),
            registries: vec!["mirror.local/k8s".into()],
        };
        let verdict = |deployment| {
            let denials = denials(&tcp(deployment), &BTreeSet::new(), &trust);
            denials
                .into_iter()
                .map(|denial| denial.reason.to_string())
                .collect::<Vec<_>>()
        };
        let allowed = json!({"serviceAccountName": "hosted", "registrySettings": {"registry": "mirror.local/k8s"}});
        assert!(verdict(allowed).is_empty());
        assert_eq!(verdict(json!({})), ["RegistryNotAllowed"]);
        let looks_alike = json!({"registrySettings": {"registry": "mirror.local/k8sevil"}});
        assert_eq!(verdict(looks_alike), ["RegistryNotAllowed"]);
    }
}
