//! Rules about Services: addresses that can be read, and ranges that begin before they end.

use api::capsule::v1beta2::ServiceRule;

use super::{Checker, has_template};
use crate::rules::ranges::parse_range;

impl Checker<'_> {
    pub(super) fn services(&mut self, at: &str, services: &ServiceRule) {
        let cidrs = services.load_balancers.iter().flat_map(|rule| &rule.cidrs);
        for (index, cidr) in cidrs.enumerate().filter(|(_, cidr)| !has_template(cidr)) {
            if let Err(message) = parse_range(cidr) {
                self.fault(format!("{at}.loadBalancers.cidrs[{index}]"), message);
            }
        }
        if let Some(rule) = &services.external_names {
            self.expressions(&format!("{at}.externalNames.hostnames"), &rule.hostnames);
        }
        let ranges = services.node_ports.iter().flat_map(|rule| &rule.ports);
        for (index, range) in ranges.enumerate() {
            let field = format!("{at}.nodePorts.ports[{index}]");
            if !(1..=65535).contains(&range.from) || !(1..=65535).contains(&range.to) {
                self.fault(
                    field,
                    format!("{}-{} is not a range of ports: use 1 to 65535", range.from, range.to),
                );
            } else if range.from > range.to {
                let (from, to) = (range.from, range.to);
                self.fault(field, format!("from {from} must not be greater than to {to}"));
            }
        }
    }
}
