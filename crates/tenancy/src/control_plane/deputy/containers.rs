//! Containers: no privileges, no ports of the node, no requests from the node to elsewhere.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, LifecycleHandler, PodSecurityContext, Probe, SELinuxOptions,
    SeccompProfile, SecurityContext, WindowsSecurityContextOptions,
};

use super::Found;

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

impl Found<'_> {
    pub(super) fn container(&mut self, field: &str, container: &Container) {
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

    pub(super) fn container_context(&mut self, field: &str, context: Option<&SecurityContext>) {
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

    pub(super) fn pod_context(&mut self, field: &str, context: Option<&PodSecurityContext>) {
        let Some(context) = context else { return };
        self.profiles(
            field,
            context.se_linux_options.as_ref(),
            context.seccomp_profile.as_ref(),
            context.app_armor_profile.as_ref(),
            context.windows_options.as_ref(),
        );
        for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
            if !SAFE_SYSCTLS.contains(&sysctl.name.as_str()) {
                self.reach(
                    &format!("{field}.sysctls[{index}]"),
                    &format!("the sysctl {:?}", sysctl.name),
                );
            }
        }
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
}
