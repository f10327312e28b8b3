//! Addresses as ranges: what nft takes in a set, and what blocks with exceptions come down to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    pub(super) fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// Addresses from the first to the last, inclusive, as numbers of their family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) v4: bool,
    first: u128,
    last: u128,
}

impl Range {
    pub(super) fn single(address: IpAddr) -> Self {
        let number = number(address);
        Self {
            v4: address.is_ipv4(),
            first: number,
            last: number,
        }
    }

    fn network(net: &IpNet) -> Self {
        Self {
            v4: net.addr().is_ipv4(),
            first: number(net.network()),
            last: number(net.broadcast()),
        }
    }

    fn show(self) -> String {
        let address = |number: u128| -> String {
            match u32::try_from(number) {
                Ok(small) if self.v4 => Ipv4Addr::from(small).to_string(),
                _ => Ipv6Addr::from(number).to_string(),
            }
        };
        if self.first == self.last {
            address(self.first)
        } else {
            format!("{}-{}", address(self.first), address(self.last))
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// A block without its exceptions. An unparsable block allows nothing, an unparsable exception takes the whole block.
pub(super) fn block_ranges(cidr: &str, except: &[String]) -> Vec<Range> {
    let Ok(net) = cidr.parse::<IpNet>() else {
        return Vec::new();
    };
    let Ok(holes) = except.iter().map(|e| e.parse::<IpNet>()).collect::<Result<Vec<_>, _>>() else {
        return Vec::new();
    };
    let whole = Range::network(&net);
    let mut left = vec![whole];
    for hole in holes.iter().map(Range::network).filter(|hole| hole.v4 == whole.v4) {
        left = left
            .into_iter()
            .flat_map(|range| {
                if hole.last < range.first || hole.first > range.last {
                    return vec![range];
                }
                let mut parts = Vec::new();
                if hole.first > range.first {
                    parts.push(Range {
                        last: hole.first - 1,
                        ..range
                    });
                }
                if hole.last < range.last {
                    parts.push(Range {
                        first: hole.last + 1,
                        ..range
                    });
                }
                parts
            })
            .collect();
    }
    left
}

pub(super) fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.v4 == range.v4 && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

pub(super) fn set(ranges: &[Range]) -> String {
    let elements: Vec<String> = ranges.iter().map(|range| range.show()).collect();
    format!("{{ {} }}", elements.join(", "))
}
