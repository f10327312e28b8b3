//! Ranges of addresses and ports that rules name.

use std::net::IpAddr;

use api::capsule::v1beta2::{PortRange, RuleAction};
use ipnet::{IpNet, Ipv4Net};

use super::{
    finding::quoted,
    matching::{Answer, Item},
};

/// Reads an address or a range. A single address is a range of one; bits behind the prefix do not count.
///
/// # Errors
/// A sentence that says what would be right.
pub(super) fn parse_range(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let parsed = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match parsed {
        Ok(range) => Ok(canonical(range.trunc())),
        Err(_) => Err(format!(
            "{} is neither an address nor a range, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/64",
            quoted(text)
        )),
    }
}

/// An IPv4 range in the dress of IPv6 is that IPv4 range.
fn canonical(range: IpNet) -> IpNet {
    if let IpNet::V6(wide) = range
        && let Some(length) = wide.prefix_len().checked_sub(96)
        && let Some(address) = wide.addr().to_ipv4_mapped()
        && let Ok(narrow) = Ipv4Net::new(address, length)
    {
        return IpNet::V4(narrow);
    }
    range
}

/// The ranges of one rule about load balancers.
#[derive(Clone, Debug)]
pub(super) struct AddressRanges {
    ranges: Vec<Result<IpNet, String>>,
    action: RuleAction,
}

impl AddressRanges {
    pub(super) fn new(sources: &[String], action: RuleAction) -> Self {
        Self {
            ranges: sources.iter().map(|source| parse_range(source)).collect(),
            action,
        }
    }
}

impl Item<str> for AddressRanges {
    /// To be allowed, all of a range has to be in the rule's; to be denied or recorded, it is enough that a part is: who
    /// may open a Service to everybody opens it to those as well whom the rule keeps out.
    fn answer(&self, value: &str) -> Answer {
        let value = match parse_range(value) {
            Ok(value) => value,
            Err(why) => return Answer::Unknown(why),
        };
        let mut unknown = None;
        for range in &self.ranges {
            match range {
                Ok(range) if range.contains(&value) => return Answer::Yes,
                Ok(range) if self.action != RuleAction::Allow && value.contains(range) => return Answer::Yes,
                Ok(_) => {}
                Err(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Answer::No, |why| Answer::Unknown(why.clone()))
    }

    fn describe(&self) -> String {
        let ranges = self.ranges.iter().flatten().take(10).map(IpNet::to_string);
        let mut parts: Vec<_> = ranges.collect();
        if self.ranges.len() > parts.len() {
            parts.push(format!("{} more", self.ranges.len() - parts.len()));
        }
        parts.join(" or ")
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports(PortRange);

impl Ports {
    pub(super) fn new(range: PortRange) -> Self {
        Self(range)
    }
}

impl Item<i32> for Ports {
    fn answer(&self, port: &i32) -> Answer {
        let PortRange { from, to } = self.0;
        if from > to {
            return Answer::Unknown(format!("the range {from}-{to} ends before it begins"));
        }
        Answer::is((from..=to).contains(port))
    }

    fn describe(&self) -> String {
        format!("{}-{}", self.0.from, self.0.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn answer(action: RuleAction, ranges: &[&str], value: &str) -> Answer {
        let ranges: Vec<_> = ranges.iter().map(|range| (*range).to_owned()).collect();
        AddressRanges::new(&ranges, action).answer(value)
    }

    #[rstest]
    #[case::inside(&["10.0.0.0/8"], "10.1.2.3", Answer::Yes, Answer::Yes)]
    #[case::outside(&["10.0.0.0/8"], "11.1.2.3", Answer::No, Answer::No)]
    #[case::the_same(&["10.0.0.0/8"], "10.0.0.0/8", Answer::Yes, Answer::Yes)]
    #[case::wider(&["10.0.0.0/8"], "0.0.0.0/0", Answer::No, Answer::Yes)]
    #[case::any_of_several(&["192.0.2.0/24", "10.0.0.0/8"], "10.0.0.0/9", Answer::Yes, Answer::Yes)]
    #[case::a_single_address(&["192.0.2.1"], "192.0.2.1/32", Answer::Yes, Answer::Yes)]
    #[case::bits_behind_the_prefix(&["192.0.2.77/24"], "192.0.2.1", Answer::Yes, Answer::Yes)]
    #[case::blanks(&[" 192.0.2.0/24 "], " 192.0.2.1 ", Answer::Yes, Answer::Yes)]
    #[case::six(&["2001:db8::/32"], "2001:db8:1::/48", Answer::Yes, Answer::Yes)]
    #[case::four_is_not_six(&["::/0"], "10.0.0.1", Answer::No, Answer::No)]
    #[case::four_dressed_as_six(&["10.0.0.0/8"], "::ffff:10.0.0.1", Answer::Yes, Answer::Yes)]
    #[case::a_broken_range_beside_the_right_one(&["ten", "10.0.0.0/8"], "10.0.0.1", Answer::Yes, Answer::Yes)]
    fn ranges_match(#[case] ranges: &[&str], #[case] value: &str, #[case] allow: Answer, #[case] deny: Answer) {
        assert_eq!(answer(RuleAction::Allow, ranges, value), allow);
        assert_eq!(answer(RuleAction::Deny, ranges, value), deny);
        assert_eq!(answer(RuleAction::Audit, ranges, value), deny);
    }

    #[rstest]
    #[case::a_broken_value(&["10.0.0.0/8"], "ten")]
    #[case::a_broken_range(&["10.0.0.0/33"], "10.0.0.1")]
    fn what_cannot_be_read_is_unknown(#[case] ranges: &[&str], #[case] value: &str) {
        assert!(matches!(answer(RuleAction::Deny, ranges, value), Answer::Unknown(_)));
    }

    proptest! {
        #[test]
        fn a_deny_range_matches_whenever_an_address_is_in_both(range in "1[0-3]\\.0\\.0\\.0/[0-9]", value in "1[0-3]\\.0\\.0\\.0/[0-9]", host in 0_u32..) {
            let (one, two) = (parse_range(&range).unwrap(), parse_range(&value).unwrap());
            let host = IpAddr::from(std::net::Ipv4Addr::from(host));
            if one.contains(&host) && two.contains(&host) {
                prop_assert_eq!(answer(RuleAction::Deny, &[&range], &value), Answer::Yes);
            }
        }
    }
}
