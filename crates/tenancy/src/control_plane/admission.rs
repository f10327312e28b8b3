//! The rules together: what is said when a TenantControlPlane is created or changed.
//!
//! Rules that others know come first and in their order, because people match the first sentence. An object that is
//! already there was accepted by somebody's rules, perhaps by a peer's before us, so a change is refused only for what
//! it makes wrong: what was wrong before stays as a warning, otherwise nobody could scale or repair such an object.
//! (The controller does not go by this: it refuses to carry out what [`super::deputy`] finds, whenever it was written.)

use std::ops::RangeInclusive;
use std::sync::Arc;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};

use super::deputy::{self, Own, Trust};
use super::network::{self, TakenNodePort};
use super::{
    arguments, effective, external_ip, hostname, konnectivity, kubelet, overrides, placement, profile, storage,
    upgrade, version, write_permissions,
};
use crate::denial::Denial;
use crate::name::is_dns_label;

/// Everything around an object that decides about it.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// All control planes, the one in question included or not.
    pub control_planes: &'a [Arc<TenantControlPlane>],
    /// All DataStores.
    pub data_stores: &'a [Arc<DataStore>],
    /// The DataStore of control planes that name none.
    pub default_data_store: Option<&'a str>,
    /// The admin cluster's range; Kubernetes' default is [`DEFAULT_NODE_PORTS`].
    pub node_port_range: RangeInclusive<i32>,
    /// Node ports of the admin cluster's Services.
    pub node_ports: &'a [TakenNodePort],
    /// Whether routes of the Gateway API can be made.
    pub gateway_api: hostname::GatewayApi,
    /// What of the object's namespace is its own.
    pub own: &'a Own,
    /// What administrators let authors have.
    pub trust: &'a Trust,
}

/// The range that API servers use unless told otherwise.
pub const DEFAULT_NODE_PORTS: RangeInclusive<i32> = 30000..=32767;

/// What is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Reasons to refuse, the most telling first. Empty: accepted.
    pub denials: Vec<Denial>,
    /// For the author, whatever the answer is.
    pub warnings: Vec<String>,
}

/// A new object with what its author left out and what is better written down than computed: later changes of the
/// operator's defaults must not move an existing cluster.
pub fn complete(tcp: &TenantControlPlane, default_data_store: Option<&str>) -> TenantControlPlane {
    let mut tcp = tcp.clone();
    if tcp.spec.data_store.as_deref().unwrap_or_default().is_empty() {
        tcp.spec.data_store = default_data_store.map(ToOwned::to_owned);
    }
    let profile = &mut tcp.spec.network_profile;
    let owned = |list: Vec<&str>| list.into_iter().map(ToOwned::to_owned).collect();
    profile.service_cidrs = owned(effective::service_cidrs(profile));
    profile.pod_cidrs = owned(effective::pod_cidrs(profile));
    profile.dns_service_ips = effective::dns_service_ips(profile);
    tcp
}

/// Whether an object may be created.
pub fn admit_create(tcp: &TenantControlPlane, around: &Surroundings<'_>) -> Verdict {
    let mut denials = network::cert_sans(&tcp.spec.network_profile);
    denials.extend(network::dns_service_ips(&tcp.spec.network_profile));
    denials.extend(name(tcp.metadata.name.as_deref().unwrap_or_default()));
    denials.extend(version::create(&tcp.spec.kubernetes.version));
    denials.extend(always(tcp, around));
    Verdict {
        denials,
        warnings: warnings(tcp, around),
    }
}

/// Whether an object may be changed.
pub fn admit_update(old: &TenantControlPlane, new: &TenantControlPlane, around: &Surroundings<'_>) -> Verdict {
    // Labels, finalizers, status: but for the profile, nothing that is asked of us changes.
    if old.spec == new.spec {
        return Verdict {
            denials: profile::change(old, new).into_iter().collect(),
            warnings: Vec::new(),
        };
    }
    let mut denials = Vec::new();
    if new.metadata.deletion_timestamp.is_none() {
        denials.extend(upgrade::change(old, new));
    }
    denials.extend(migration(old, new, around));
    denials.extend(storage::settled(old, new));
    let profile = &new.spec.network_profile;
    let mut rules = network::cert_sans(profile);
    rules.extend(network::dns_service_ips(profile));
    rules.extend(always(new, around));
    // Compared by value: the same wrong entry may have moved within its list.
    let before: Vec<_> = network::cert_sans(&old.spec.network_profile)
        .into_iter()
        .chain(network::dns_service_ips(&old.spec.network_profile))
        .chain(always(old, around))
        .collect();
    let (known, fresh): (Vec<_>, Vec<_>) = rules.into_iter().partition(|denial| before.contains(denial));
    denials.extend(fresh);
    let mut warnings = warnings(new, around);
    warnings.extend(overrides::left_behind(old, new));
    warnings.extend(
        known
            .into_iter()
            .map(|denial| format!("was accepted earlier, but: {}", denial.message)),
    );
    Verdict { denials, warnings }
}

/// Rules that need no comparison.
fn always(tcp: &TenantControlPlane, around: &Surroundings<'_>) -> Vec<Denial> {
    let spec = &tcp.spec;
    let mut denials = Vec::new();
    denials.extend(data_store(tcp, around));
    denials.extend(storage::names(
        tcp,
        around.control_planes,
        around.data_stores,
        around.default_data_store,
    ));
    denials.extend(overrides::entries(spec));
    denials.extend(overrides::stores(tcp, around.data_stores, around.default_data_store));
    denials.extend(network::ranges(&spec.network_profile));
    denials.extend(network::addresses(tcp));
    denials.extend(network::ports(tcp, &around.node_port_range, around.node_ports));
    denials.extend(konnectivity::denials(tcp));
    denials.extend(konnectivity::node_ports(
        tcp,
        &around.node_port_range,
        around.node_ports,
    ));
    denials.extend(hostname::unserved(tcp, around.gateway_api));
    denials.extend(hostname::denials(tcp, around.control_planes));
    denials.extend(external_ip::denials(tcp, around.control_planes));
    denials.extend(replicas(spec.control_plane.deployment.replicas));
    denials.extend(arguments::admission_controllers(&spec.kubernetes));
    denials.extend(kubelet::denials(spec));
    denials.extend(arguments::flags(arguments::extra_args(tcp)).0);
    denials.extend(deputy::denials(tcp, around.own, around.trust));
    denials.extend(write_permissions::denials(spec));
    denials.extend(profile::denial(tcp));
    denials
}

fn warnings(tcp: &TenantControlPlane, around: &Surroundings<'_>) -> Vec<String> {
    let mut warnings = network::warnings(tcp);
    warnings.extend(version::warning(&tcp.spec.kubernetes.version));
    warnings.extend(arguments::flags(arguments::extra_args(tcp)).1);
    warnings.extend(konnectivity::warnings(tcp));
    warnings.extend(storage::ignored(tcp));
    if tcp.spec.kubernetes.kubelet.cgroupfs.is_some() {
        warnings.push(
            "spec.kubernetes.kubelet.cgroupfs is deprecated, patch /cgroupDriver in configurationJSONPatches".into(),
        );
    }
    let placed = placement::is_wanted(tcp, around.data_stores, around.default_data_store);
    if !placed && effective::data_stores(tcp, around.default_data_store).is_empty() {
        warnings.push(
            "spec.dataStore is not set and the operator has no default: the control plane waits until one is set"
                .into(),
        );
    }
    warnings
}

/// The name becomes that of a Service and the value of a label.
fn name(name: &str) -> Option<Denial> {
    let fits = is_dns_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase());
    (!fits).then(|| {
        let message = format!(
            "the provided name is invalid, {name:?} is not a DNS-1035 label: up to 63 lower-case letters, digits and '-', with a letter first and no '-' last"
        );
        Denial::new("metadata.name", "NameInvalid", message)
    })
}

fn data_store(tcp: &TenantControlPlane, around: &Surroundings<'_>) -> Option<Denial> {
    const FIELD: &str = "spec.dataStore";
    let asked = tcp
        .spec
        .data_store
        .as_deref()
        .filter(|name| !name.is_empty())
        .or(around.default_data_store)?;
    let known = |store: &&Arc<DataStore>| store.metadata.name.as_deref() == Some(asked);
    let Some(store) = around.data_stores.iter().find(known) else {
        return Some(Denial::new(
            FIELD,
            "DataStoreMissing",
            format!("{asked} DataStore does not exist"),
        ));
    };
    if store.metadata.deletion_timestamp.is_some() {
        let message = format!("{FIELD}: {asked} is being deleted; choose another DataStore");
        return Some(Denial::new(FIELD, "DataStoreMissing", message));
    }
    let taken = super::data_store::is_taken(store, tcp, around.control_planes, around.default_data_store);
    taken.then(|| {
        // The words that users of such stores know.
        let message = format!(
            "{FIELD}: {asked}: NATS doesn't support multi-tenancy, the current datastore is already in use; choose another"
        );
        Denial::new(FIELD, "DataStoreInUse", message)
    })
}

/// Data moves between any two stores, if all kinds are in one.
fn migration(old: &TenantControlPlane, new: &TenantControlPlane, around: &Surroundings<'_>) -> Option<Denial> {
    const FIELD: &str = "spec.dataStore";
    let asked = new
        .spec
        .data_store
        .as_deref()
        .filter(|name| !name.is_empty())
        .or(around.default_data_store)?;
    let recorded = old
        .status
        .as_ref()
        .and_then(|status| status.storage.as_ref()?.data_store_name.as_deref());
    let current = recorded
        .or(old.spec.data_store.as_deref())
        .filter(|name| !name.is_empty())?;
    // An object may be put right again, or change in other ways while it is wrong.
    if asked == current || new.spec.data_store == old.spec.data_store {
        return None;
    }
    (!new.spec.data_store_overrides.is_empty()).then(|| {
        let message = format!(
            "{FIELD}: with spec.dataStoreOverrides a control plane is not moved by this version; keep {current}, or hold all \
             kinds in one DataStore"
        );
        Denial::new(FIELD, "NotYet", message)
    })
}

fn replicas(replicas: i32) -> Option<Denial> {
    const FIELD: &str = "spec.controlPlane.deployment.replicas";
    (replicas < 0).then(|| {
        let message = format!("{FIELD}: {replicas} is negative; 0 puts the control plane to sleep, 1 or more run it");
        Denial::new(FIELD, "ReplicasInvalid", message)
    })
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "rows of tables are handed over")]
mod tests {
    use api::kamaji::v1alpha1::ControlPlaneExtraArgs;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn stores() -> Vec<Arc<DataStore>> {
        let store = |name: &str, driver: &str, endpoint: &str| {
            let store = json!({
                "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore",
                "metadata": {"name": name}, "spec": {"driver": driver, "endpoints": [endpoint]},
            });
            Arc::new(serde_json::from_value(store).unwrap())
        };
        vec![
            store("default", "etcd", "etcd:2379"),
            store("other", "etcd", "other:2379"),
            store("sql", "PostgreSQL", "sql:5432"),
            store("nats", "NATS", "nats:4222"),
        ]
    }

    fn around<'a>(
        stores: &'a [Arc<DataStore>],
        others: &'a [Arc<TenantControlPlane>],
        own: &'a (Own, Trust),
    ) -> Surroundings<'a> {
        Surroundings {
            control_planes: others,
            data_stores: stores,
            default_data_store: Some("default"),
            node_port_range: DEFAULT_NODE_PORTS,
            node_ports: &[],
            gateway_api: hostname::GatewayApi::Served,
            own: &own.0,
            trust: &own.1,
        }
    }

    /// What people write, with `patch` merged into the spec.
    fn tcp(patch: &Value) -> TenantControlPlane {
        let mut spec = json!({
            "controlPlane": {"deployment": {"replicas": 2}, "service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.35.0"},
            "addons": {"coreDNS": {}, "kubeProxy": {}},
        });
        json_merge(&mut spec, patch);
        let tcp = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "uid": "0000"}, "spec": spec,
        });
        serde_json::from_value(tcp).unwrap()
    }

    fn json_merge(into: &mut Value, patch: &Value) {
        match (into, patch) {
            (Value::Object(into), Value::Object(patch)) => {
                for (key, value) in patch {
                    json_merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, patch) => *into = patch.clone(),
        }
    }

    fn create(tcp: &TenantControlPlane) -> Verdict {
        let (stores, own) = (stores(), Default::default());
        admit_create(tcp, &around(&stores, &[], &own))
    }

    fn update(old: &TenantControlPlane, new: &TenantControlPlane) -> Verdict {
        let (stores, own) = (stores(), Default::default());
        admit_update(old, new, &around(&stores, &[], &own))
    }

    fn first(verdict: &Verdict) -> Option<(&str, String)> {
        verdict
            .denials
            .first()
            .map(|denial| (denial.field.as_str(), denial.reason.to_string()))
    }

    #[rstest]
    #[case::as_people_have_had_it_for_years(json!({"networkProfile": {"podCidr": "10.36.0.0/16", "serviceCidr": "10.96.0.0/16"}}), None)]
    #[case::asleep(json!({"controlPlane": {"deployment": {"replicas": 0}}}), None)]
    #[case::negative_replicas(json!({"controlPlane": {"deployment": {"replicas": -1}}}), Some("spec.controlPlane.deployment.replicas"))]
    #[case::wrong_name_in_certificate(json!({"networkProfile": {"certSANs": ["a b"]}}), Some("spec.networkProfile.certSANs[0]"))]
    #[case::dns_elsewhere(json!({"networkProfile": {"dnsServiceIPs": ["10.0.0.10"]}}), Some("spec.networkProfile.dnsServiceIPs[0]"))]
    #[case::version_too_new(json!({"kubernetes": {"version": "v1.37.0"}}), Some("spec.kubernetes.version"))]
    #[case::overlapping(json!({"networkProfile": {"podCidr": "10.96.0.0/16"}}), Some("spec.networkProfile.podCidr"))]
    #[case::node_port_out_of_range(json!({"controlPlane": {"service": {"serviceType": "NodePort"}}}), Some("spec.networkProfile.port"))]
    #[case::no_such_store(json!({"dataStore": "nowhere"}), Some("spec.dataStore"))]
    #[case::store_behind_kine(json!({"dataStore": "sql"}), None)]
    #[case::roots_schema(json!({"dataStoreSchema": "root"}), Some("spec.dataStoreSchema"))]
    #[case::root(json!({"dataStoreUsername": "root"}), Some("spec.dataStoreUsername"))]
    #[case::flag_of_the_store(json!({"controlPlane": {"deployment": {"extraArgs": {"apiServer": ["--etcd-servers=x"]}}}}), Some("spec.controlPlane.deployment.extraArgs.apiServer[0]"))]
    #[case::plugin_long_gone(json!({"kubernetes": {"admissionControllers": ["PodSecurityPolicy"]}}), Some("spec.kubernetes.admissionControllers[0]"))]
    #[case::host_path(json!({"controlPlane": {"deployment": {"additionalVolumes": [{"name": "a", "hostPath": {"path": "/"}}]}}}), Some("spec.controlPlane.deployment.additionalVolumes[0]"))]
    #[case::tunnel(json!({"addons": {"konnectivity": {}}}), None)]
    #[case::tunnel_on_the_port_of_the_api_server(json!({"addons": {"konnectivity": {"server": {"port": 6443}}}}), None)]
    #[case::tunnel_on_the_port_of_the_scheduler(json!({"addons": {"konnectivity": {"server": {"port": 10259}}}}), Some("spec.addons.konnectivity.server.port"))]
    #[case::patch_without_value(json!({"kubernetes": {"kubelet": {"configurationJSONPatches": [{"op": "add", "path": "/a"}]}}}), Some("spec.kubernetes.kubelet.configurationJSONPatches[0].value"))]
    #[case::patch_without_pointer(json!({"kubernetes": {"kubelet": {"configurationJSONPatches": [{"op": "remove", "path": "a"}]}}}), Some("spec.kubernetes.kubelet.configurationJSONPatches[0].path"))]
    #[case::patch_that_works(json!({"kubernetes": {"kubelet": {"configurationJSONPatches": [{"op": "replace", "path": "/featureGates", "value": {"A": false}}, {"op": "add", "path": "/a~1c", "value": 1}, {"op": "move", "path": "/b", "from": "/a~1c"}]}}}), None)]
    #[case::patch_of_nothing(json!({"kubernetes": {"kubelet": {"configurationJSONPatches": [{"op": "remove", "path": "/a"}, {"op": "add", "path": "/no/such/parent", "value": 1}]}}}), Some("spec.kubernetes.kubelet.configurationJSONPatches[1]"))]
    #[case::patch_that_fails_its_test(json!({"kubernetes": {"kubelet": {"configurationJSONPatches": [{"op": "test", "path": "/healthzPort", "value": 1}]}}}), Some("spec.kubernetes.kubelet.configurationJSONPatches[0]"))]
    fn bad_values_are_refused_with_their_field(#[case] patch: Value, #[case] field: Option<&str>) {
        let verdict = create(&tcp(&patch));
        assert_eq!(first(&verdict).map(|(field, _)| field), field, "{verdict:?}");
        for denial in &verdict.denials {
            assert!(denial.message.len() > 20, "a sentence: {}", denial.message);
        }
    }

    #[rstest]
    #[case("oil", true)]
    #[case("oil-2", true)]
    #[case("2-oil", false)]
    #[case("oil.example", false)]
    #[case("-oil", false)]
    #[case("Oil", false)]
    fn names_become_services(#[case] name: &str, #[case] accepted: bool) {
        let mut tcp = tcp(&json!({}));
        tcp.metadata.name = Some(name.into());
        let verdict = create(&tcp);
        assert_eq!(verdict.denials.is_empty(), accepted);
        assert!(
            verdict
                .denials
                .iter()
                .all(|denial| denial.message.starts_with("the provided name is invalid, "))
        );
    }

    #[test]
    fn the_missing_store_is_named_as_others_know_it() {
        let verdict = create(&tcp(&json!({"dataStore": "nowhere"})));
        assert_eq!(verdict.denials[0].message, "nowhere DataStore does not exist");
    }

    #[test]
    fn a_new_object_is_completed_and_the_completed_one_is_accepted() {
        let written = tcp(&json!({"networkProfile": {"serviceCidr": "10.1.0.0/16"}}));
        let completed = complete(&written, Some("default"));
        assert_eq!(completed.spec.data_store.as_deref(), Some("default"));
        assert_eq!(completed.spec.network_profile.service_cidrs, ["10.1.0.0/16"]);
        assert_eq!(completed.spec.network_profile.pod_cidrs, ["10.244.0.0/16"]);
        assert_eq!(completed.spec.network_profile.dns_service_ips, ["10.1.0.10"]);
        assert_eq!(
            completed.spec.data_store_schema, None,
            "the default is the UID, which is not known yet"
        );
        assert_eq!(completed.spec.control_plane.deployment.replicas, 2);
        assert_eq!(create(&completed).denials, []);
        assert_eq!(complete(&completed, Some("default")), completed);
    }

    #[test]
    fn what_is_written_is_kept() {
        let written = tcp(&json!({"dataStore": "other", "networkProfile": {
            "serviceCidrs": ["10.1.0.0/16", "fd00:1::/112"], "podCidrs": ["10.2.0.0/16", "fd00:2::/64"],
            "dnsServiceIPs": ["10.1.0.53"],
        }}));
        assert_eq!(complete(&written, Some("default")), written);
    }

    #[test]
    fn without_any_store_a_control_plane_is_accepted_and_waits() {
        let (stores, own) = (stores(), Default::default());
        let mut around = around(&stores, &[], &own);
        around.default_data_store = None;
        let verdict = admit_create(&tcp(&json!({})), &around);
        assert_eq!(verdict.denials, []);
        assert!(
            verdict
                .warnings
                .iter()
                .any(|warning| warning.contains("waits until one is set"))
        );
    }

    #[test]
    fn what_was_wrong_before_does_not_stop_other_changes_but_nothing_is_added_to_it() {
        let host_path =
            json!({"controlPlane": {"deployment": {"additionalVolumes": [{"name": "a", "hostPath": {"path": "/"}}]}}});
        let old = tcp(&host_path);
        let mut scaled = old.clone();
        scaled.spec.control_plane.deployment.replicas = 1;
        let verdict = update(&old, &scaled);
        assert_eq!(verdict.denials, []);
        assert!(
            verdict
                .warnings
                .iter()
                .any(|warning| warning.starts_with("was accepted earlier, but: "))
        );

        let mut worse = scaled.clone();
        let mut volume = worse.spec.control_plane.deployment.additional_volumes[0].clone();
        volume.name = "b".into();
        worse.spec.control_plane.deployment.additional_volumes.push(volume);
        assert_eq!(
            first(&update(&old, &worse)),
            Some((
                "spec.controlPlane.deployment.additionalVolumes[1]",
                "ReachesBeyond".to_owned()
            ))
        );
    }

    #[test]
    fn metadata_may_always_change() {
        let mut old = tcp(&json!({"kubernetes": {"version": "nonsense"}, "dataStore": "nowhere"}));
        old.metadata.finalizers = Some(vec!["finalizer.kamaji.clastix.io".into()]);
        let mut new = old.clone();
        new.metadata.finalizers = None;
        assert_eq!(update(&old, &new), Verdict::default());
    }

    #[test]
    fn versions_do_not_matter_to_what_is_being_deleted() {
        let old = tcp(&json!({"kubernetes": {"version": "v1.35.0"}}));
        let mut new = tcp(&json!({"kubernetes": {"version": "v1.20.0"}}));
        assert_eq!(
            first(&update(&old, &new)),
            Some(("spec.kubernetes.version", "VersionDowngrade".to_owned()))
        );
        let deleting = json!("2026-01-01T00:00:00Z");
        new.metadata.deletion_timestamp = Some(serde_json::from_value(deleting).unwrap());
        assert_eq!(update(&old, &new).denials, []);
    }

    #[rstest]
    #[case::stays("default", None, "default", None)]
    #[case::moves("default", None, "other", None)]
    #[case::moves_away_from_what_is_recorded("default", Some("default"), "other", None)]
    #[case::is_put_right("other", Some("default"), "default", None)]
    #[case::goes_back("sql", Some("default"), "default", None)]
    #[case::moves_to_another_driver("default", None, "sql", None)]
    #[case::moves_from_another_driver("default", Some("sql"), "other", None)]
    #[case::moves_to_nats("default", None, "nats", None)]
    #[case::moves_from_nats("nats", None, "sql", None)]
    #[case::moves_nowhere("default", None, "nowhere", Some("DataStoreMissing"))]
    fn a_control_plane_moves_between_all_drivers(
        #[case] from: &str,
        #[case] recorded: Option<&str>,
        #[case] to: &str,
        #[case] reason: Option<&str>,
    ) {
        let mut old = tcp(&json!({"dataStore": from}));
        let status = recorded.map(|name| json!({"storage": {"dataStoreName": name}}));
        old.status = status.map(|status| serde_json::from_value(status).unwrap());
        let mut new = tcp(&json!({"dataStore": to, "controlPlane": {"deployment": {"replicas": 1}}}));
        new.status = old.status.clone();
        assert_eq!(first(&update(&old, &new)).map(|(_, reason)| reason).as_deref(), reason);
    }

    #[test]
    fn dns_addresses_of_the_new_object_are_looked_at() {
        let old = tcp(&json!({}));
        let new = tcp(&json!({"networkProfile": {"dnsServiceIPs": ["10.200.0.10"]}}));
        assert_eq!(
            first(&update(&old, &new)),
            Some(("spec.networkProfile.dnsServiceIPs[0]", "DNSAddressInvalid".to_owned()))
        );
    }

    proptest! {
        /// Whatever text stands where, the rules answer, and the same every time.
        #[test]
        fn rules_are_total_and_deterministic(text in "\\PC{0,12}", number: i32) {
            let mut tcp = tcp(&json!({}));
            tcp.metadata.name = Some(text.clone());
            tcp.spec.kubernetes.version = text.clone();
            tcp.spec.kubernetes.admission_controllers = vec![text.clone()];
            tcp.spec.data_store_schema = Some(text.clone());
            tcp.spec.data_store_username = Some(text.clone());
            let profile = &mut tcp.spec.network_profile;
            profile.address = Some(text.clone());
            profile.port = number;
            profile.service_cidr = text.clone();
            profile.pod_cidrs = vec![text.clone(), text.clone()];
            profile.dns_service_ips = vec![text.clone()];
            profile.cert_sans = vec![text.clone()];
            profile.cluster_domain = text.clone();
            tcp.spec.control_plane.deployment.registry_settings.registry = text.clone();
            let args = vec![text.clone()];
            tcp.spec.control_plane.deployment.extra_args =
                Some(ControlPlaneExtraArgs { api_server: args.clone(), kine: args, ..Default::default() });
            let verdict = create(&tcp);
            prop_assert_eq!(&verdict, &create(&tcp));
            prop_assert_eq!(update(&tcp, &complete(&tcp, Some(&text))), update(&tcp, &complete(&tcp, Some(&text))));
        }
    }

    #[test]
    fn an_unknown_profile_is_refused_although_the_spec_stays_as_it_is() {
        let (stores, own) = (stores(), Default::default());
        let with = |profile: &str| {
            let mut tcp = tcp(&json!({}));
            tcp.metadata.annotations = Some([(profile::ANNOTATION.to_owned(), profile.to_owned())].into());
            tcp
        };
        let around = around(&stores, &[], &own);
        let reasons = |verdict: Verdict| verdict.denials.iter().map(|denial| denial.reason).collect::<Vec<_>>();
        assert_eq!(reasons(admit_create(&with("small"), &around)), [""; 0]);
        assert_eq!(reasons(admit_create(&with("tiny"), &around)), ["ProfileUnknown"]);
        assert_eq!(
            reasons(admit_update(&with("small"), &with("tiny"), &around)),
            ["ProfileUnknown"]
        );
        assert_eq!(reasons(admit_update(&with("tiny"), &with("tiny"), &around)), [""; 0]);
    }
}
