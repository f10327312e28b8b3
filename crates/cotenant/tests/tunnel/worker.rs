//! A worker and the firewall in front of it.

use local::worker::Worker;

use crate::{bed::API_SERVER, hosting::filter_packets};

/// Where the cluster's registry listens, on the admin node.
const REGISTRY: u16 = 5000;

pub(crate) struct Firewalled(pub(crate) Worker);

impl Firewalled {
    /// From now on nobody's connections are taken, neither by the node nor by its pods.
    pub(crate) fn lets_nobody_in(&self) {
        // The control plane may hold a connection to the kubelet, which must not serve either.
        filter_packets(
            self.0.handle(),
            &format!(
                "table inet inwards {{\n\
             chain node {{\n type filter hook input priority -10; policy accept;\n {}\n}}\n\
             chain pods {{\n type filter hook forward priority -10; policy accept;\n {}\n}}\n}}\n",
                "iifname eth0 tcp dport 10250 reject with tcp reset\n iifname eth0 ct state new reject with tcp reset",
                "iifname eth0 ct state new reject with tcp reset",
            ),
        );
    }

    /// From now on one port alone is called, and the registry's. What was called before is cut off.
    pub(crate) fn calls_the_api_server_alone(&self) {
        let rule = format!(
            "oifname eth0 ct direction original tcp dport != {{ {API_SERVER}, {REGISTRY} }} reject with tcp reset"
        );
        filter_packets(
            self.0.handle(),
            &format!(
                "table inet outwards {{\n\
             chain node {{\n type filter hook output priority -10; policy accept;\n {rule}\n}}\n\
             chain pods {{\n type filter hook forward priority -10; policy accept;\n {rule}\n}}\n}}\n",
            ),
        );
    }
}
