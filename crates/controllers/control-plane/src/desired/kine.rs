//! Stores that are no etcd: a kine in each pod speaks etcd's API on a socket that only the pod has, and the store's own
//! protocol to the store.
//!
//! The image, the names of volumes and the paths are the contract: users choose another image with a container named
//! `kine` among their additional ones, and have flags for it in `extraArgs.kine`.

use api::kamaji::v1alpha1::{DataStoreSpec, DeploymentSpec as Wanted, Driver};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar, Lifecycle, LifecycleHandler, PodSpec,
    SecretEnvSource, SecretVolumeSource, SleepAction, Volume, VolumeMount,
};
use serde::Serialize;

use super::Hosted;
use super::deployment::variable;
use super::flags::{Flags, layered};

/// The image, unless somebody says otherwise.
pub const IMAGE: &str = "rancher/kine:v0.11.10-amd64";

/// Name of the container, also of an author's that chooses the image.
const NAME: &str = "kine";
const PORT: i32 = 2379;
/// Where the API server finds kine.
pub(super) const SOCKET: &str = "unix:///uds/kine";

/// Volume and path of the socket.
const SOCKETS: (&str, &str) = ("kine-uds", "/uds");
/// Volume with the store's certificates as the Secret has them, and where they are copied from.
const SECRET: (&str, &str) = ("kine-config", "/kine");
/// Volume with the copies that only kine can read, which clients of databases insist on.
const CERTIFICATES: (&str, &str) = ("kine-certs", "/certs");

/// In seconds: less than the 30 after which a pod is killed.
const API_SERVER_ENDS_WITHIN: i64 = 20;

/// How kine gets to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Whose protocol is spoken.
    pub driver: Driver,
    /// What of TLS is used.
    pub tls: Tls,
}

/// What of TLS a store is reached with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Tls {
    /// The store is reached in the clear.
    Off,
    /// The store's authority is known, and it is logged in to by password.
    Authority,
    /// A client certificate is shown as well, the same for all control planes.
    ClientCertificate,
}

impl Access {
    /// How the store of this spec is reached; `None` for an etcd, which needs no kine.
    pub fn of(spec: &DataStoreSpec) -> Option<Self> {
        let tls = match &spec.tls_config {
            None => Tls::Off,
            Some(tls) if tls.client_certificate.is_none() => Tls::Authority,
            Some(_) => Tls::ClientCertificate,
        };
        (spec.driver != Driver::Etcd).then_some(Self {
            driver: spec.driver,
            tls,
        })
    }

    /// The store's address with the account, which the kubelet fills in from the container's environment.
    fn endpoint(self) -> &'static str {
        match self.driver {
            Driver::MySQL => "mysql://$(DB_USER):$(DB_PASSWORD)@tcp($(DB_CONNECTION_STRING))/$(DB_SCHEMA)",
            Driver::Nats => "nats://$(DB_USER):$(DB_PASSWORD)@$(DB_CONNECTION_STRING)?bucket=$(DB_SCHEMA)&noEmbed",
            Driver::PostgreSQL | Driver::Etcd => {
                "postgres://$(DB_USER):$(DB_PASSWORD)@$(DB_CONNECTION_STRING)/$(DB_SCHEMA)"
            }
        }
    }

    fn arguments(self, author: &[String]) -> Vec<String> {
        let managed: Flags = [
            ("endpoint", self.endpoint().to_owned()),
            ("listen-address", SOCKET.to_owned()),
        ]
        .into();
        let mut defaults = Flags::new();
        let file = |name: &str| format!("{}/{name}", CERTIFICATES.1);
        if self.tls != Tls::Off {
            defaults.insert("ca-file", file("ca.crt"));
        }
        if self.tls == Tls::ClientCertificate {
            defaults.insert("cert-file", file("server.crt"));
            defaults.insert("key-file", file("server.key"));
        }
        layered(&managed, &defaults, author)
    }
}

/// Puts kine into a pod, if its store needs one.
pub(super) fn add(hosted: &Hosted<'_>, wanted: &Wanted, pod: &mut PodSpec) {
    let Some(access) = hosted.datastore.kine else { return };
    let authors = pod.containers.iter().position(|container| container.name == NAME);
    let authors = authors.map(|at| pod.containers.remove(at)).unwrap_or_default();
    let image = authors.image.clone().filter(|image| !image.is_empty());
    let image = image.unwrap_or_else(|| hosted.kine_image.clone());
    if access.tls != Tls::Off {
        pod.init_containers
            .get_or_insert_default()
            .push(copy_certificates(&image));
    }
    pod.containers.push(container(hosted, wanted, access, image, authors));
    let volumes = pod.volumes.get_or_insert_default();
    volumes.push(Volume {
        name: SOCKETS.0.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: None,
        }),
        ..Volume::default()
    });
    volumes.push(Volume {
        name: SECRET.0.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(format!("{}-datastore-certificate", hosted.name)),
            default_mode: Some(0o644),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    volumes.push(Volume {
        name: CERTIFICATES.0.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    let api_server = pod.containers.iter_mut().find(|one| one.name == "kube-apiserver");
    if let Some(api_server) = api_server {
        api_server.volume_mounts.get_or_insert_default().push(mount(SOCKETS));
    }
}

/// Kine, with whatever else the author's container of this name says.
fn container(hosted: &Hosted<'_>, wanted: &Wanted, access: Access, image: String, authors: Container) -> Container {
    let extra = wanted.extra_args.as_ref().map(|extra| extra.kine.as_slice());
    let resources = wanted.resources.as_ref().and_then(|all| all.kine.clone());
    let mut env = vec![variable("GODEBUG", "x509ignoreCN=0".to_owned())];
    env.extend(hosted.gogc.map(|percent| variable("GOGC", percent.to_string())));
    let ours = |variable: &EnvVar| env.iter().any(|own| own.name == variable.name) || variable.name.starts_with("DB_");
    let mut variables = authors.env.clone().unwrap_or_default();
    variables.retain(|variable| !ours(variable));
    variables.extend(env);
    // The last source of a variable wins.
    let mut sources = authors.env_from.clone().unwrap_or_default();
    sources.push(EnvFromSource {
        secret_ref: Some(SecretEnvSource {
            name: format!("{}-datastore-config", hosted.name),
            optional: None,
        }),
        ..EnvFromSource::default()
    });
    let mut mounts = authors.volume_mounts.clone().unwrap_or_default();
    mounts.extend([mount(CERTIFICATES), mount(SOCKETS)]);
    let mut ports = authors.ports.clone().unwrap_or_default();
    ports.retain(|port| port.container_port != PORT);
    ports.push(ContainerPort {
        name: Some("server".to_owned()),
        container_port: PORT,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    Container {
        name: NAME.to_owned(),
        image: Some(image),
        image_pull_policy: Some("Always".to_owned()),
        command: Some(vec!["/bin/kine".to_owned()]),
        args: Some(access.arguments(extra.unwrap_or_default())),
        env: Some(variables),
        env_from: Some(sources),
        ports: Some(ports),
        resources: Some(resources.or(authors.resources.clone()).unwrap_or_default()),
        volume_mounts: Some(mounts),
        lifecycle: authors.lifecycle.clone().or_else(|| Some(outlives_the_api_server())),
        ..authors
    }
}

/// All containers of a pod are told to end at once, and kine does: the API server would then answer nothing that it has begun,
/// and hold its connections open until it is killed.
fn outlives_the_api_server() -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction {
                seconds: API_SERVER_ENDS_WITHIN,
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}

/// Kubelets write Secrets for everybody in the pod to read; what logs in with a key refuses one like that.
fn copy_certificates(image: &str) -> Container {
    let (from, to) = (SECRET.1, CERTIFICATES.1);
    Container {
        name: "chmod".to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("Always".to_owned()),
        command: Some(vec!["sh".to_owned()]),
        args: Some(vec![
            "-c".to_owned(),
            format!("cp {from}/*.* {to} && chmod 600 {to}/*.*"),
        ]),
        volume_mounts: Some(vec![
            VolumeMount {
                read_only: Some(true),
                ..mount(SECRET)
            },
            mount(CERTIFICATES),
        ]),
        ..Container::default()
    }
}

fn mount((name, path): (&str, &str)) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests;
