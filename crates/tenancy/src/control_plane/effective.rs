//! What a spec amounts to once defaults and deprecated fields are taken into account.

use std::net::IpAddr;

use api::kamaji::v1alpha1::{NetworkProfile, TenantControlPlane};
use ipnet::IpNet;

/// Ranges of the Services' addresses, as written.
pub fn service_cidrs(profile: &NetworkProfile) -> Vec<&str> {
    list_or_single(&profile.service_cidrs, &profile.service_cidr)
}

/// Ranges of the pods' addresses, as written.
pub fn pod_cidrs(profile: &NetworkProfile) -> Vec<&str> {
    list_or_single(&profile.pod_cidrs, &profile.pod_cidr)
}

fn list_or_single<'a>(list: &'a [String], single: &'a str) -> Vec<&'a str> {
    let single = Some(single).filter(|single| list.is_empty() && !single.is_empty());
    list.iter().map(String::as_str).chain(single).collect()
}

/// Addresses of the cluster's DNS: those given, or the tenth (sixteenth for IPv6, which is written `::10`) after the
/// address that each range is written with. Ranges that do not parse or have no such address give none.
pub fn dns_service_ips(profile: &NetworkProfile) -> Vec<String> {
    if !profile.dns_service_ips.is_empty() {
        return profile.dns_service_ips.clone();
    }
    let addresses = service_cidrs(profile).into_iter().filter_map(|cidr| {
        let net: IpNet = cidr.parse().ok()?;
        let address = match net.addr() {
            IpAddr::V4(address) => IpAddr::V4(u32::from(address).checked_add(10)?.into()),
            IpAddr::V6(address) => IpAddr::V6(u128::from(address).checked_add(16)?.into()),
        };
        net.contains(&address).then(|| address.to_string())
    });
    addresses.collect()
}

/// The database, or the prefix of the keys, that holds this control plane's objects. `None` while there is neither a
/// recorded name, nor one asked for, nor a UID.
///
/// What the status records wins: it names where the data is.
pub fn schema(tcp: &TenantControlPlane) -> Option<&str> {
    let recorded = recorded(tcp).and_then(|setup| setup.schema.as_deref());
    first_given([
        recorded,
        tcp.spec.data_store_schema.as_deref(),
        tcp.metadata.uid.as_deref(),
    ])
}

/// The user that this control plane logs in to its store as. See [`schema`].
pub fn user(tcp: &TenantControlPlane) -> Option<&str> {
    let recorded = recorded(tcp).and_then(|setup| setup.user.as_deref());
    first_given([
        recorded,
        tcp.spec.data_store_username.as_deref(),
        tcp.metadata.uid.as_deref(),
    ])
}

/// Every DataStore that this control plane uses or asks for.
pub fn data_stores<'a>(tcp: &'a TenantControlPlane, default: Option<&'a str>) -> Vec<&'a str> {
    let recorded = recorded_data_store(tcp);
    let asked = first_given([tcp.spec.data_store.as_deref(), default]);
    let overrides = tcp
        .spec
        .data_store_overrides
        .iter()
        .map(|item| item.data_store.as_str());
    let mut stores: Vec<_> = recorded
        .into_iter()
        .chain(asked)
        .chain(overrides)
        .filter(|name| !name.is_empty())
        .collect();
    stores.sort_unstable();
    stores.dedup();
    stores
}

/// The DataStore that a control plane is in, by its status.
pub fn recorded_data_store(tcp: &TenantControlPlane) -> Option<&str> {
    let storage = tcp.status.as_ref()?.storage.as_ref()?;
    storage.data_store_name.as_deref()
}

/// What the status says about the account in the store.
pub(super) fn recorded(tcp: &TenantControlPlane) -> Option<&api::kamaji::v1alpha1::StorageSetupStatus> {
    tcp.status.as_ref()?.storage.as_ref()?.setup.as_ref()
}

fn first_given<const N: usize>(candidates: [Option<&str>; N]) -> Option<&str> {
    candidates.into_iter().flatten().find(|candidate| !candidate.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(service_cidrs: &[&str]) -> NetworkProfile {
        NetworkProfile {
            service_cidrs: service_cidrs.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn lists_win_over_the_deprecated_single_ranges() {
        let mut profile = NetworkProfile::default();
        assert_eq!(service_cidrs(&profile), ["10.96.0.0/16"]);
        assert_eq!(pod_cidrs(&profile), ["10.244.0.0/16"]);
        profile.service_cidrs = vec!["10.1.0.0/16".into(), "fd00::/112".into()];
        profile.pod_cidr = String::new();
        assert_eq!(service_cidrs(&profile), ["10.1.0.0/16", "fd00::/112"]);
        assert!(pod_cidrs(&profile).is_empty());
    }

    #[test]
    fn dns_gets_the_tenth_address_of_each_range() {
        assert_eq!(dns_service_ips(&NetworkProfile::default()), ["10.96.0.10"]);
        assert_eq!(
            dns_service_ips(&profile(&["10.1.2.0/24", "fd00:1::/112"])),
            ["10.1.2.10", "fd00:1::10"]
        );
        assert_eq!(dns_service_ips(&profile(&["10.1.2.128/25"])), ["10.1.2.138"]);
        assert!(
            dns_service_ips(&profile(&["10.1.2.0/29"])).is_empty(),
            "too small for a tenth address"
        );
        assert!(dns_service_ips(&profile(&["255.255.255.255/32", "nonsense"])).is_empty());
        let given = NetworkProfile {
            dns_service_ips: vec!["10.96.0.53".into()],
            ..Default::default()
        };
        assert_eq!(dns_service_ips(&given), ["10.96.0.53"]);
    }

    #[test]
    fn what_is_recorded_names_the_data_then_what_was_asked_for_then_the_uid() {
        let mut tcp = TenantControlPlane::default();
        assert_eq!(schema(&tcp), None);
        tcp.metadata.uid = Some("uid".into());
        assert_eq!((schema(&tcp), user(&tcp)), (Some("uid"), Some("uid")));
        tcp.spec.data_store_schema = Some("asked".into());
        tcp.spec.data_store_username = Some(String::new());
        assert_eq!((schema(&tcp), user(&tcp)), (Some("asked"), Some("uid")));
        let setup = serde_json::json!({"storage": {"setup": {"schema": "recorded", "user": "recorded-user"}}});
        tcp.status = Some(serde_json::from_value(setup).unwrap());
        assert_eq!((schema(&tcp), user(&tcp)), (Some("recorded"), Some("recorded-user")));
    }
}
