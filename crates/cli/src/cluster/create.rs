//! A new control plane, from a command line. Pure. What is not said here is left to admission's defaults.

use api::kamaji::v1alpha1::TenantControlPlane;
use serde_json::{Value, json};

use tenancy::control_plane::placement::POOL;

use crate::session::Writing;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the new control plane.
    name: String,
    /// The Kubernetes version, as in v1.36.3.
    #[arg(long)]
    version: String,
    /// How many replicas; 0 makes one that sleeps.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(i32).range(0..))]
    replicas: i32,
    /// How nodes and people reach it.
    #[arg(long, value_enum, default_value_t = Service::LoadBalancer)]
    service: Service,
    /// The address that they reach it at. Needed with NodePort: an address of a node.
    #[arg(long, required_if_eq("service", "node-port"))]
    address: Option<String>,
    /// The port that they reach it at; with NodePort, a port of the nodes.
    #[arg(long)]
    port: Option<i32>,
    /// The DataStore that holds it. Without: the operator's default, or one of a pool.
    #[arg(long)]
    datastore: Option<String>,
    /// The pool of DataStores that it is placed in. Without: the operator's default's.
    #[arg(long, conflicts_with = "datastore")]
    pool: Option<String>,
    /// Range of its pods; may repeat, for IPv4 and IPv6.
    #[arg(long, value_name = "CIDR")]
    pod_cidr: Vec<String>,
    /// Range of its Services; may repeat, for IPv4 and IPv6.
    #[arg(long, value_name = "CIDR")]
    service_cidr: Vec<String>,
    /// One more name or address that its certificate answers to; may repeat.
    #[arg(long, value_name = "NAME")]
    san: Vec<String>,
    /// What is installed inside; may repeat. Without: CoreDNS and kube-proxy.
    #[arg(long, value_enum, conflicts_with = "bare")]
    addon: Vec<Addon>,
    /// Install nothing inside.
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Service {
    ClusterIp,
    NodePort,
    LoadBalancer,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Addon {
    Coredns,
    KubeProxy,
    Konnectivity,
}

impl Args {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn writing(&self) -> &Writing {
        &self.writing
    }
}

/// The object to write.
///
/// # Errors
/// When the values do not make one.
pub(super) fn control_plane(namespace: &str, args: &Args) -> Result<TenantControlPlane, String> {
    let service = match args.service {
        Service::ClusterIp => "ClusterIP",
        Service::NodePort => "NodePort",
        Service::LoadBalancer => "LoadBalancer",
    };
    let mut network = json!({});
    let mut say = |field: &str, value: Value| {
        if value.as_array().is_none_or(|list| !list.is_empty()) && !value.is_null() {
            network[field] = value;
        }
    };
    say("address", json!(args.address));
    say("port", json!(args.port));
    say("podCidrs", json!(args.pod_cidr));
    say("serviceCidrs", json!(args.service_cidr));
    say("certSANs", json!(args.san));
    let usual = [Addon::Coredns, Addon::KubeProxy];
    let addons = match args.addon.as_slice() {
        [] if args.bare => &[],
        [] => &usual[..],
        these => these,
    };
    let addons: serde_json::Map<String, Value> = addons
        .iter()
        .map(|addon| {
            let field = match addon {
                Addon::Coredns => "coreDNS",
                Addon::KubeProxy => "kubeProxy",
                Addon::Konnectivity => "konnectivity",
            };
            (field.to_owned(), json!({}))
        })
        .collect();
    let annotations = args.pool.as_ref().map(|pool| json!({POOL: pool}));
    let object = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1",
        "kind": "TenantControlPlane",
        "metadata": {"name": args.name, "namespace": namespace, "annotations": annotations},
        "spec": {
            "dataStore": args.datastore,
            "controlPlane": {"deployment": {"replicas": args.replicas}, "service": {"serviceType": service}},
            "kubernetes": {"version": args.version},
            "networkProfile": network,
            "addons": addons,
        },
    });
    serde_json::from_value(object).map_err(|error| format!("these flags make no TenantControlPlane: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn spec(line: &str) -> Value {
        let args = Line::try_parse_from(["create"].into_iter().chain(line.split_whitespace())).unwrap();
        serde_json::to_value(control_plane("prod", &args.args).unwrap().spec).unwrap()
    }

    #[test]
    fn flags_become_the_fields_that_they_are_named_after() {
        let spec = spec(
            "oil --version v1.36.3 --replicas 1 --service node-port --address 192.0.2.7 --port 31000 --datastore ssd \
             --pod-cidr 10.1.0.0/16 --service-cidr 10.2.0.0/16 --san oil.example --addon coredns",
        );
        assert_eq!(spec["dataStore"], "ssd");
        assert_eq!(spec["kubernetes"]["version"], "v1.36.3");
        assert_eq!(spec["controlPlane"]["deployment"]["replicas"], 1);
        assert_eq!(spec["controlPlane"]["service"]["serviceType"], "NodePort");
        let network = &spec["networkProfile"];
        assert_eq!(
            (&network["address"], &network["port"]),
            (&json!("192.0.2.7"), &json!(31000))
        );
        assert_eq!(network["podCidrs"], json!(["10.1.0.0/16"]));
        assert_eq!(network["serviceCidrs"], json!(["10.2.0.0/16"]));
        assert_eq!(network["certSANs"], json!(["oil.example"]));
        assert!(spec["addons"]["coreDNS"].is_object() && spec["addons"]["kubeProxy"].is_null());
    }

    #[test]
    fn the_usual_addons_are_there_unless_none_are_wanted() {
        let usual = spec("oil --version v1.36.3");
        assert!(usual["addons"]["coreDNS"].is_object() && usual["addons"]["kubeProxy"].is_object());
        assert_eq!(usual["controlPlane"]["service"]["serviceType"], "LoadBalancer");
        assert!(spec("oil --version v1.36.3 --bare")["addons"]["coreDNS"].is_null());
    }

    #[test]
    fn a_node_port_needs_the_address_of_a_node() {
        assert!(Line::try_parse_from(["create", "oil", "--version", "v1.36.3", "--service", "node-port"]).is_err());
    }
}
