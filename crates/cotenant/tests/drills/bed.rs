//! Two tenants and what they have.

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use local::worker::Worker;
use serde_json::json;

use crate::{
    hosting::{Hosting, Wanted},
    kubectl::Kubectl,
};

pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:1.36";

pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) administrator: Kubectl,
    pub(crate) worker: Worker,
}

pub(crate) struct Bed {
    /// With two replicas.
    pub(crate) oil: Tenant,
    /// The neighbour.
    pub(crate) gas: Tenant,
    pub(crate) hosting: Hosting,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let hosting = Hosting::start("drills").await;
        let wanted = |name, replicas, port, network| Wanted {
            name,
            replicas,
            port,
            network,
            addons: json!({"coreDNS": {}, "kubeProxy": {}}),
        };
        let both = [wanted("oil", 2, 31556, 36), wanted("gas", 1, 31557, 37)];
        for one in &both {
            hosting.create(one);
        }
        let [oil, gas] = both.map(|one| {
            let administrator = hosting.administrator(one.name);
            Tenant {
                worker: hosting.join_worker(one.name, &format!("{}-worker", one.name)),
                name: one.name,
                port: one.port,
                administrator,
            }
        });
        for tenant in [&oil, &gas] {
            hosting.has_joined(&tenant.administrator, &tenant.worker).await;
        }
        Self { oil, gas, hosting }
    }

    pub(crate) fn admin(&self) -> &Kubectl {
        &self.hosting.admin
    }
}

impl Tenant {
    /// How its administrator connects.
    pub(crate) async fn config(&self, bed: &Bed) -> Config {
        let path = bed.hosting.directory().join(format!("{}.kubeconfig", self.name));
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap()
    }

    /// What selects its control plane's pods.
    pub(crate) fn pods(&self) -> String {
        format!("-l kamaji.clastix.io/name={}", self.name)
    }
}
