//! What a kubelet would do with the pods of a control plane: its containers run as programs of this machine, with the mounted
//! files in a directory instead of `/etc/kubernetes`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{KeyToPath, Secret, Volume};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use local::guard::GuardedDirectory;
use local::process::{Process, Spec, tail};

use super::{World, eventually};

/// Those that the API server of these tests may give to Services.
pub(crate) const NODE_PORTS: Range<u16> = 30_000..32_768;

/// They end with it.
pub(crate) struct Components {
    pub(crate) processes: Vec<Process>,
    _directory: GuardedDirectory,
}

impl Components {
    /// Starts the containers that are chosen by name.
    pub(crate) async fn start(world: &World, name: &str, chosen: impl Fn(&str) -> bool) -> Self {
        let directory = GuardedDirectory::create(&std::env::temp_dir(), "cotenant-components-").unwrap();
        let programs = local::programs::locate().unwrap();
        let deployment = world.api::<Deployment>().get(name).await.unwrap();
        let mut pod = deployment.spec.unwrap().template.spec.unwrap();
        pod.containers.retain(|container| chosen(&container.name));
        let root = directory.path().to_str().unwrap().to_owned();
        // All mounts lie below /etc/kubernetes but the three that hold the authority for libraries.
        let mounts: BTreeMap<String, String> = pod
            .containers
            .iter()
            .flat_map(|container| container.volume_mounts.iter().flatten())
            .filter(|mount| mount.mount_path.starts_with("/etc/kubernetes"))
            .map(|mount| (mount.name.clone(), mount.mount_path.replace("/etc/kubernetes", &root)))
            .collect();
        for volume in pod.volumes.unwrap() {
            if let Some(path) = mounts.get(&volume.name) {
                write_files(world, volume, Path::new(path)).await;
            }
        }
        let processes = pod
            .containers
            .iter()
            .map(|container| {
                let program = &container.command.as_ref().unwrap()[0];
                let arguments = container
                    .args
                    .iter()
                    .flatten()
                    .map(|one| one.replace("/etc/kubernetes", &root));
                let log = directory.path().join(format!("{}.log", container.name));
                Process::start(Spec::new(&container.name, programs.path(program), log).args(arguments)).unwrap()
            })
            .collect();
        Self {
            processes,
            _directory: directory,
        }
    }

    pub(crate) fn logs(&self) -> String {
        let logs: Vec<String> = self.processes.iter().map(|process| tail(process.log())).collect();
        logs.join("\n")
    }

    /// Until the API server serves whom this client stands for.
    pub(crate) async fn until_ready(&self, client: &Client) {
        eventually("the API server is ready", || async {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            let answer = client.request_text(request).await;
            answer.map_err(|error| format!("{error}\n{}", self.logs()))
        })
        .await;
    }
}

async fn write_files(world: &World, volume: Volume, directory: &Path) {
    let projected = volume.projected.and_then(|projected| projected.sources);
    let projected = projected.into_iter().flatten().filter_map(|source| source.secret);
    let projected = projected.map(|secret| (secret.name, secret.items));
    let secret = volume.secret.map(|secret| (secret.secret_name.unwrap(), secret.items));
    let sources: Vec<(String, Option<Vec<KeyToPath>>)> = projected.chain(secret).collect();
    for (secret, items) in sources {
        let data = world.api::<Secret>().get(&secret).await.unwrap().data.unwrap();
        let all = data.keys().map(|key| (key.clone(), key.clone())).collect();
        let files: Vec<(String, String)> = items.map_or(all, |items| {
            items.into_iter().map(|item| (item.key, item.path)).collect()
        });
        for (key, file) in files {
            let target = directory.join(file);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(target, &data[&key].0).unwrap();
        }
    }
}

/// A client with one of an administrator's kubeconfigs, of a control plane that is advertised at 192.0.2.10. It comes in
/// through another address that is in the certificate, as people do.
pub(crate) async fn administrator(world: &World, name: &str, key: &str, port: u16) -> Client {
    let secret = world.api::<Secret>().get(&format!("{name}-admin-kubeconfig")).await;
    let yaml = String::from_utf8(secret.unwrap().data.unwrap()[key].0.clone()).unwrap();
    let mut kubeconfig = Kubeconfig::from_yaml(&yaml).unwrap();
    let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
    assert_eq!(cluster.server, Some(format!("https://192.0.2.10:{port}")));
    cluster.server = Some(format!("https://127.0.0.1:{port}"));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    runtime::client::build(config.unwrap(), "test").unwrap()
}
