use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Addresses and ranges of a tenant cluster.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkProfile {
    /// The address under which the API server is reached. If absent it is taken from the Service: the load balancer's,
    /// or the cluster IP. With NodePort it has to be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The address that the API server tells others, if it is not the one above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        ("self == '' || isIP(self)", "advertiseAddress must be a valid IP address"),
    ])))]
    pub advertise_address: Option<String>,
    /// Adds the address to the Service as an external IP. Only with ClusterIP and NodePort.
    #[serde(
        rename = "allowAddressAsExternalIP",
        default,
        skip_serializing_if = "schema::is_default"
    )]
    pub allow_address_as_external_ip: bool,
    /// Port of the API server, of the Service and, with NodePort, of the nodes.
    #[serde(default = "default_port")]
    pub port: i32,
    /// Further names and addresses in the API server's certificate: IP addresses, DNS names, wildcard names.
    #[serde(rename = "certSANs", default, skip_serializing_if = "Vec::is_empty")]
    pub cert_sans: Vec<String>,
    /// The DNS domain of the cluster's Services. Cannot be changed.
    #[serde(default = "default_cluster_domain")]
    #[schemars(extend("pattern" = r".*\..*", "x-kubernetes-validations" = schema::rules(&[
        ("self == oldSelf", "changing the cluster domain is not supported"),
    ])))]
    pub cluster_domain: String,
    /// Deprecated: use `serviceCidrs`.
    #[serde(default = "default_service_cidr")]
    #[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        ("self == '' || isCIDR(self)", "serviceCidr must be empty or a valid CIDR"),
    ])))]
    pub service_cidr: String,
    /// Ranges of the Services' addresses: one, or one per IP family. Wins over `serviceCidr`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 2, "x-kubernetes-validations" = schema::rules(&[
        ("self.all(cidr, isCIDR(cidr))", "all serviceCidrs entries must be valid CIDRs"),
    ])))]
    pub service_cidrs: Vec<String>,
    /// Deprecated: use `podCidrs`.
    #[serde(default = "default_pod_cidr")]
    #[schemars(extend("x-kubernetes-validations" = schema::rules(&[
        ("self == '' || isCIDR(self)", "podCidr must be empty or a valid CIDR"),
    ])))]
    pub pod_cidr: String,
    /// Ranges of the pods' addresses: one, or one per IP family. Wins over `podCidr`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 2, "x-kubernetes-validations" = schema::rules(&[
        ("self.all(cidr, isCIDR(cidr))", "all podCidrs entries must be valid CIDRs"),
    ])))]
    pub pod_cidrs: Vec<String>,
    /// Addresses of the cluster's DNS, within the Services' ranges. By default the tenth of each range.
    #[serde(rename = "dnsServiceIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 8))]
    pub dns_service_ips: Vec<String>,
    /// Who may reach the load balancer, as ranges. Only with LoadBalancer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-validations" = schema::rules(&[
        ("self.all(range, isCIDR(range))", "all LoadBalancer source range entries must be valid CIDR"),
    ])))]
    pub load_balancer_source_ranges: Vec<String>,
    /// Which load balancer serves the Service. Cannot be changed. Only with LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "x-kubernetes-validations" = schema::rules(&[
        ("self == oldSelf", "LoadBalancerClass is immutable"),
    ])))]
    pub load_balancer_class: Option<String>,
}

fn default_port() -> i32 {
    6443
}

fn default_cluster_domain() -> String {
    "cluster.local".into()
}

fn default_service_cidr() -> String {
    "10.96.0.0/16".into()
}

fn default_pod_cidr() -> String {
    "10.244.0.0/16".into()
}

impl Default for NetworkProfile {
    fn default() -> Self {
        Self {
            address: None,
            advertise_address: None,
            allow_address_as_external_ip: false,
            port: default_port(),
            cert_sans: Vec::new(),
            cluster_domain: default_cluster_domain(),
            service_cidr: default_service_cidr(),
            service_cidrs: Vec::new(),
            pod_cidr: default_pod_cidr(),
            pod_cidrs: Vec::new(),
            dns_service_ips: Vec::new(),
            load_balancer_source_ranges: Vec::new(),
            load_balancer_class: None,
        }
    }
}
