//! The Deployment of a control plane, rendered whole so that it is written once and rolls once.

use std::collections::BTreeMap;

use api::kamaji::names;
use api::kamaji::v1alpha1::{ControlPlaneProbes, DeploymentSpec as Wanted, ProbeSet, ProbeSpec};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, HTTPGetAction, KeyToPath, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
    ResourceRequirements, SecretProjection, SecretVolumeSource, SecurityContext, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use md5::{Digest, Md5};

use super::flags::{Flags, Winner, layered, merged, name_of};
use super::{Hosted, disruption, identity, kine, konnectivity, overrides, profile};

/// Value of the component label.
pub const COMPONENT: &str = "deployment";

const PKI: &str = "/etc/kubernetes/pki";
const CONTROLLER_MANAGER_KUBECONFIG: &str = "/etc/kubernetes/controller-manager.conf";
const SCHEDULER_KUBECONFIG: &str = "/etc/kubernetes/scheduler.conf";

/// Secrets whose change rolls the pods: component of the Secret, and name of the label.
const ROLLING: [(&str, &str); 8] = [
    ("api-server-certificate", "api-server-certificate"),
    (
        "api-server-kubelet-client-certificate",
        "api-server-kubelet-client-certificate",
    ),
    ("ca", "ca"),
    ("controller-manager-kubeconfig", "controller-manager-kubeconfig"),
    ("front-proxy-ca-certificate", "front-proxy-ca-certificate"),
    ("front-proxy-client-certificate", "front-proxy-client-certificate"),
    ("sa-certificate", "service-account"),
    ("scheduler-kubeconfig", "scheduler-kubeconfig"),
];

/// Volumes that hold the authority where the components' libraries look for trusted ones.
const TRUST: [(&str, &str); 3] = [
    ("etc-ca-certificates", "/etc/ca-certificates"),
    ("usr-share-ca-certificates", "/usr/share/ca-certificates"),
    ("usr-local-share-ca-certificates", "/usr/local/share/ca-certificates"),
];

/// Renders the Deployment. `checksums` are those of the Secrets' data, by component.
pub fn deployment(hosted: &Hosted<'_>, checksums: &BTreeMap<&'static str, String>) -> Deployment {
    let wanted = &hosted.tcp.spec.control_plane.deployment;
    let mut metadata = identity::metadata(hosted.tcp, &hosted.name, COMPONENT);
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    for (key, value) in &wanted.additional_metadata.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let mut annotations = wanted.additional_metadata.annotations.clone();
    if let Some(arguments) = wanted
        .extra_args
        .as_ref()
        .map(|extra| &extra.api_server)
        .filter(|all| !all.is_empty())
    {
        annotations.insert(
            names::API_SERVER_ARGS_ANNOTATION.to_owned(),
            arguments_checksum(arguments),
        );
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(wanted.replicas),
            selector: selector(&hosted.name),
            strategy: Some(strategy(&wanted.strategy)),
            template: PodTemplateSpec {
                metadata: Some(template_metadata(hosted, wanted, checksums)),
                spec: Some(pod(hosted, wanted)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn selector(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(identity::pod_selector(name)),
        ..LabelSelector::default()
    }
}

fn strategy(wanted: &DeploymentStrategy) -> DeploymentStrategy {
    let mut strategy = wanted.clone();
    if strategy.type_.as_deref() == Some("Recreate") {
        strategy.rolling_update = None;
    }
    strategy
}

fn arguments_checksum(arguments: &[String]) -> String {
    let mut bytes = Vec::new();
    for argument in arguments {
        bytes.extend_from_slice(argument.as_bytes());
        bytes.push(0);
    }
    identity::checksum([(&String::new(), bytes)])
}

fn template_metadata(hosted: &Hosted<'_>, wanted: &Wanted, checksums: &BTreeMap<&'static str, String>) -> ObjectMeta {
    let checksum = |component: &str| checksums.get(component).cloned().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = ROLLING
        .iter()
        .map(|(component, label)| (format!("{}{label}", names::TEMPLATE_LABEL_PREFIX), checksum(component)))
        .collect();
    labels.insert(
        format!("{}datastore", names::TEMPLATE_LABEL_PREFIX),
        label_value(&hosted.datastore.name),
    );
    labels.extend(konnectivity::rolling(hosted.tcp).map(|component| {
        (
            format!("{}{component}", names::TEMPLATE_LABEL_PREFIX),
            checksum(component),
        )
    }));
    labels.insert(names::COMPONENT_LABEL.to_owned(), COMPONENT.to_owned());
    labels.extend(wanted.pod_additional_metadata.labels.clone());
    // Last, because the Deployment's selector and the egress policy hang on it.
    labels.insert(names::NAME_LABEL.to_owned(), hosted.name.clone());

    let mut annotations = wanted.pod_additional_metadata.annotations.clone();
    annotations.insert(
        names::STORAGE_CONFIG_ANNOTATION.to_owned(),
        checksum("datastore-config"),
    );
    annotations.insert(
        names::STORAGE_CERTIFICATE_ANNOTATION.to_owned(),
        checksum("datastore-certificate"),
    );
    ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// A name of up to 253 characters as a label value, which has at most 63.
fn label_value(name: &str) -> String {
    if name.len() <= 63 {
        name.to_owned()
    } else {
        format!("{:x}", u128::from_be_bytes(Md5::digest(name).into()))
    }
}

fn pod(hosted: &Hosted<'_>, wanted: &Wanted) -> PodSpec {
    let mut containers = wanted.additional_containers.clone();
    let own = [
        api_server(hosted, wanted),
        scheduler(hosted, wanted),
        controller_manager(hosted, wanted),
    ];
    containers.extend(own.map(|container| Container {
        env: variables(hosted, &container),
        ..container
    }));
    let mut volumes = wanted.additional_volumes.clone();
    volumes.extend(own_volumes(hosted));
    let mut pod = PodSpec {
        containers,
        init_containers: Some(wanted.additional_init_containers.clone()).filter(|all| !all.is_empty()),
        volumes: Some(volumes),
        service_account_name: Some(wanted.service_account_name.clone()),
        // Nothing in these pods speaks with the admin cluster, so nothing in them gets its credentials.
        automount_service_account_token: Some(wanted.automount_service_account_token.unwrap_or(false)),
        security_context: Some(wanted.pod_security_context.clone().unwrap_or_default()),
        node_selector: Some(wanted.node_selector.clone()).filter(|all| !all.is_empty()),
        runtime_class_name: wanted.runtime_class_name.clone().filter(|name| !name.is_empty()),
        tolerations: Some(wanted.tolerations.clone()).filter(|all| !all.is_empty()),
        affinity: wanted.affinity.clone(),
        topology_spread_constraints: disruption::spread(wanted, &selector(&hosted.name)),
        ..PodSpec::default()
    };
    kine::add(hosted, wanted, &mut pod);
    konnectivity::add(hosted, &mut pod);
    pod
}

/// What Go's runtime is told.
fn variables(hosted: &Hosted<'_>, container: &Container) -> Option<Vec<EnvVar>> {
    let one_core = profile::of(hosted).one_core(container.resources.as_ref());
    let garbage = hosted.gogc.map(|percent| variable("GOGC", percent.to_string()));
    let cores = one_core.then(|| variable("GOMAXPROCS", "1".to_owned()));
    let all: Vec<EnvVar> = garbage.into_iter().chain(cores).collect();
    Some(all).filter(|all| !all.is_empty())
}

pub(super) fn variable(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }
}

fn image(hosted: &Hosted<'_>, wanted: &Wanted, name: &str) -> String {
    let registry = &wanted.registry_settings;
    let suffix = registry.tag_suffix.as_deref().unwrap_or_default();
    format!("{}/{name}:{}{suffix}", registry.registry, hosted.version)
}

/// What the three components have in common.
struct Component<'a> {
    name: &'static str,
    image: &'a str,
    pull: &'static str,
    arguments: Vec<String>,
    mounts: Vec<VolumeMount>,
    own_mounts: &'a [VolumeMount],
    resources: Option<&'a ResourceRequirements>,
    security: Option<&'a SecurityContext>,
    port: i32,
    /// Paths of liveness, readiness and startup probe.
    paths: [&'static str; 3],
    probes: Option<&'a ProbeSet>,
}

fn container(component: Component<'_>, shared: Option<&ControlPlaneProbes>) -> Container {
    let [liveness, readiness, startup] = component.paths;
    let own = component.probes;
    let all = |pick: fn(&ControlPlaneProbes) -> Option<&ProbeSpec>| shared.and_then(pick);
    let one = |pick: fn(&ProbeSet) -> Option<&ProbeSpec>| own.and_then(pick);
    let port = component.port;
    let mut mounts = component.own_mounts.to_vec();
    mounts.extend(component.mounts);
    Container {
        name: component.name.to_owned(),
        image: Some(component.image.to_owned()),
        image_pull_policy: Some(component.pull.to_owned()),
        command: Some(vec![component.name.to_owned()]),
        args: Some(component.arguments),
        resources: Some(component.resources.cloned().unwrap_or_default()),
        security_context: component.security.cloned(),
        liveness_probe: Some(probe(
            liveness,
            port,
            LIVENESS,
            [
                all(|probes| probes.liveness.as_ref()),
                one(|probes| probes.liveness.as_ref()),
            ],
        )),
        readiness_probe: Some(probe(
            readiness,
            port,
            READINESS,
            [
                all(|probes| probes.readiness.as_ref()),
                one(|probes| probes.readiness.as_ref()),
            ],
        )),
        startup_probe: Some(probe(
            startup,
            port,
            STARTUP,
            [
                all(|probes| probes.startup.as_ref()),
                one(|probes| probes.startup.as_ref()),
            ],
        )),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Period in seconds and failures in a row.
type Patience = (i32, i32);

/// As Kamaji's.
const LIVENESS: Patience = (10, 3);
/// As Kamaji's: each look costs an idle component a handshake. The first is when the component has started, so that has to
/// mean that it can serve.
const READINESS: Patience = (10, 3);
/// Every second for five minutes. Kamaji looks every ten seconds and kills after thirty, which costs a quiet machine
/// ten seconds and a busy one the control plane.
const STARTUP: Patience = (1, 300);

fn probe(path: &str, port: i32, (period, failures): Patience, overrides: [Option<&ProbeSpec>; 2]) -> Probe {
    let set = |pick: fn(&ProbeSpec) -> Option<i32>| overrides.iter().rev().flatten().find_map(|spec| pick(spec));
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port),
            scheme: Some("HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        // Zero is what the API server leaves out; written down it would differ from what is read back.
        initial_delay_seconds: set(|spec| spec.initial_delay_seconds).filter(|delay| *delay != 0),
        timeout_seconds: Some(set(|spec| spec.timeout_seconds).unwrap_or(1)),
        period_seconds: Some(set(|spec| spec.period_seconds).unwrap_or(period)),
        success_threshold: Some(set(|spec| spec.success_threshold).unwrap_or(1)),
        failure_threshold: Some(set(|spec| spec.failure_threshold).unwrap_or(failures)),
        ..Probe::default()
    }
}

fn api_server(hosted: &Hosted<'_>, wanted: &Wanted) -> Container {
    let extra = wanted
        .extra_args
        .as_ref()
        .map(|extra| extra.api_server.as_slice())
        .unwrap_or_default();
    let pki = |file: &str| format!("{PKI}/{file}");
    let kubelet = &hosted.tcp.spec.kubernetes.kubelet;
    let addresses: Vec<&str> = kubelet
        .preferred_address_types
        .iter()
        .map(|kind| kind.as_str())
        .collect();
    let mut managed: Flags = [
        ("advertise-address", hosted.exposure.advertise_address.clone()),
        ("client-ca-file", pki("ca.crt")),
        (
            "enable-admission-plugins",
            hosted.tcp.spec.kubernetes.admission_controllers.join(","),
        ),
        // Replicas that share one address would take the endpoint away from each other; the operator keeps it.
        ("endpoint-reconciler-type", "none".to_owned()),
        ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
        ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
        ("kubelet-preferred-address-types", addresses.join(",")),
        ("proxy-client-cert-file", pki("front-proxy-client.crt")),
        ("proxy-client-key-file", pki("front-proxy-client.key")),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("secure-port", hosted.exposure.port.to_string()),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", ranges(&hosted.service_cidrs)),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
    ]
    .into();
    managed.append(&mut store_flags(hosted));
    managed.extend(konnectivity::api_server_flag(hosted.tcp));
    let mut defaults: Flags = [
        ("allow-privileged", "true".to_owned()),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local".to_owned(),
        ),
    ]
    .into();
    defaults.extend(disruption::api_server_flag(hosted));
    profile::tune(&mut defaults, profile::of(hosted).api_server(), extra);
    // kube-apiserver refuses to start with both.
    if !extra.iter().any(|argument| name_of(argument) == "authorization-config") {
        defaults.insert("authorization-mode", "Node,RBAC".to_owned());
    }
    let mut mounts = vec![mount("etc-kubernetes-pki", PKI)];
    mounts.extend(TRUST.iter().map(|(volume, path)| mount(volume, path)));
    container(
        Component {
            name: "kube-apiserver",
            image: &image(hosted, wanted, &wanted.registry_settings.api_server_image),
            pull: "Always",
            arguments: layered(&managed, &defaults, extra),
            mounts,
            own_mounts: wanted
                .additional_volume_mounts
                .as_ref()
                .map(|all| all.api_server.as_slice())
                .unwrap_or_default(),
            resources: wanted.resources.as_ref().and_then(|all| all.api_server.as_ref()),
            security: wanted
                .container_security_contexts
                .as_ref()
                .and_then(|all| all.api_server.as_ref()),
            port: hosted.exposure.port,
            paths: ["/livez", "/readyz", "/readyz"],
            probes: wanted.probes.as_ref().and_then(|all| all.api_server.as_ref()),
        },
        wanted.probes.as_ref(),
    )
}

/// Which store holds the objects, and as whom it is asked.
fn store_flags(hosted: &Hosted<'_>) -> Flags {
    if hosted.datastore.kine.is_some() {
        return [("etcd-servers", kine::SOCKET.to_owned())].into();
    }
    let pki = |file: &str| format!("{PKI}/etcd/{file}");
    let servers: Vec<String> = hosted
        .datastore
        .endpoints
        .iter()
        .map(|endpoint| format!("https://{endpoint}"))
        .collect();
    let mut flags: Flags = [
        ("etcd-cafile", pki("ca.crt")),
        ("etcd-certfile", pki("server.crt")),
        ("etcd-compaction-interval", "0".to_owned()),
        ("etcd-keyfile", pki("server.key")),
        ("etcd-prefix", format!("/{}", hosted.account.schema)),
        ("etcd-servers", servers.join(",")),
    ]
    .into();
    flags.extend(overrides::servers(&hosted.overrides).map(|servers| ("etcd-servers-overrides", servers)));
    flags
}

fn controller_manager(hosted: &Hosted<'_>, wanted: &Wanted) -> Container {
    let extra = wanted
        .extra_args
        .as_ref()
        .map(|extra| extra.controller_manager.as_slice())
        .unwrap_or_default();
    let pki = |file: &str| format!("{PKI}/{file}");
    let mut own: Flags = [
        ("allocate-node-cidrs", "true".to_owned()),
        ("authentication-kubeconfig", CONTROLLER_MANAGER_KUBECONFIG.to_owned()),
        ("authorization-kubeconfig", CONTROLLER_MANAGER_KUBECONFIG.to_owned()),
        ("bind-address", "0.0.0.0".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("cluster-cidr", ranges(&hosted.pod_cidrs)),
        ("cluster-name", hosted.name.clone()),
        ("cluster-signing-cert-file", pki("ca.crt")),
        ("cluster-signing-key-file", pki("ca.key")),
        ("controllers", "*,bootstrapsigner,tokencleaner".to_owned()),
        ("kubeconfig", CONTROLLER_MANAGER_KUBECONFIG.to_owned()),
        ("leader-elect", "true".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("root-ca-file", pki("ca.crt")),
        ("service-account-private-key-file", pki("sa.key")),
        ("service-cluster-ip-range", ranges(&hosted.service_cidrs)),
        ("use-service-account-credentials", "true".to_owned()),
    ]
    .into();
    profile::tune(&mut own, profile::of(hosted).leases(), extra);
    let mut mounts = vec![
        mount("controller-manager-kubeconfig", "/etc/kubernetes"),
        mount("etc-kubernetes-pki", PKI),
    ];
    mounts.extend(TRUST.iter().map(|(volume, path)| mount(volume, path)));
    container(
        Component {
            name: "kube-controller-manager",
            image: &image(hosted, wanted, &wanted.registry_settings.controller_manager_image),
            pull: "IfNotPresent",
            arguments: merged(&own, extra, Winner::Author),
            mounts,
            own_mounts: wanted
                .additional_volume_mounts
                .as_ref()
                .map(|all| all.controller_manager.as_slice())
                .unwrap_or_default(),
            resources: wanted
                .resources
                .as_ref()
                .and_then(|all| all.controller_manager.as_ref()),
            security: wanted
                .container_security_contexts
                .as_ref()
                .and_then(|all| all.controller_manager.as_ref()),
            port: 10257,
            paths: ["/healthz"; 3],
            probes: wanted.probes.as_ref().and_then(|all| all.controller_manager.as_ref()),
        },
        wanted.probes.as_ref(),
    )
}

fn scheduler(hosted: &Hosted<'_>, wanted: &Wanted) -> Container {
    let extra = wanted
        .extra_args
        .as_ref()
        .map(|extra| extra.scheduler.as_slice())
        .unwrap_or_default();
    let mut own: Flags = [
        ("authentication-kubeconfig", SCHEDULER_KUBECONFIG.to_owned()),
        ("authorization-kubeconfig", SCHEDULER_KUBECONFIG.to_owned()),
        ("bind-address", "0.0.0.0".to_owned()),
        ("kubeconfig", SCHEDULER_KUBECONFIG.to_owned()),
        ("leader-elect", "true".to_owned()),
    ]
    .into();
    profile::tune(&mut own, profile::of(hosted).leases(), extra);
    container(
        Component {
            name: "kube-scheduler",
            image: &image(hosted, wanted, &wanted.registry_settings.scheduler_image),
            pull: "IfNotPresent",
            arguments: merged(&own, extra, Winner::Own),
            mounts: vec![mount("scheduler-kubeconfig", "/etc/kubernetes")],
            own_mounts: wanted
                .additional_volume_mounts
                .as_ref()
                .map(|all| all.scheduler.as_slice())
                .unwrap_or_default(),
            resources: wanted.resources.as_ref().and_then(|all| all.scheduler.as_ref()),
            security: wanted
                .container_security_contexts
                .as_ref()
                .and_then(|all| all.scheduler.as_ref()),
            port: 10259,
            paths: ["/healthz"; 3],
            probes: wanted.probes.as_ref().and_then(|all| all.scheduler.as_ref()),
        },
        wanted.probes.as_ref(),
    )
}

/// Ranges as the flags take them: each once, ordered as text.
fn ranges(cidrs: &[String]) -> String {
    let mut ranges = cidrs.to_vec();
    ranges.sort();
    ranges.dedup();
    ranges.join(",")
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

const MODE: i32 = 0o644;

fn own_volumes(hosted: &Hosted<'_>) -> Vec<Volume> {
    let name = hosted.name.as_str();
    let projected = |component: &str, items: &[(&str, &str)]| VolumeProjection {
        secret: Some(SecretProjection {
            name: format!("{name}-{component}"),
            items: Some(
                items
                    .iter()
                    .map(|(key, path)| KeyToPath {
                        key: (*key).to_owned(),
                        path: (*path).to_owned(),
                        mode: None,
                    })
                    .collect(),
            ),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let same = |component: &str, keys: [&str; 2]| projected(component, &keys.map(|key| (key, key)));
    let secret = |volume: &str, component: &str| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(format!("{name}-{component}")),
            default_mode: Some(MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut sources = vec![
        same("api-server-certificate", ["apiserver.crt", "apiserver.key"]),
        same("ca", ["ca.crt", "ca.key"]),
        same(
            "api-server-kubelet-client-certificate",
            ["apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"],
        ),
        same(
            "front-proxy-ca-certificate",
            ["front-proxy-ca.crt", "front-proxy-ca.key"],
        ),
        same(
            "front-proxy-client-certificate",
            ["front-proxy-client.crt", "front-proxy-client.key"],
        ),
        same("sa-certificate", ["sa.pub", "sa.key"]),
    ];
    // What kine logs in with is kine's alone.
    if hosted.datastore.kine.is_none() {
        sources.push(projected(
            "datastore-certificate",
            &[
                ("ca.crt", "etcd/ca.crt"),
                ("server.crt", "etcd/server.crt"),
                ("server.key", "etcd/server.key"),
            ],
        ));
    }
    let pki = Volume {
        name: "etc-kubernetes-pki".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some(sources),
        }),
        ..Volume::default()
    };
    let mut volumes = vec![pki];
    volumes.extend(TRUST.iter().map(|(volume, _)| secret(volume, "ca")));
    volumes.push(secret("scheduler-kubeconfig", "scheduler-kubeconfig"));
    volumes.push(secret("controller-manager-kubeconfig", "controller-manager-kubeconfig"));
    volumes
}
