use serde_json::{Value, json};

use api::kamaji::v1alpha1::{KonnectivityAgentMode, KonnectivityAgentSpec};

use super::*;

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Owns what [`Inputs`] borrows.
struct Facts {
    kubelet: KubeletSpec,
    addon: AddonSpec,
    names: Vec<String>,
    services: Vec<String>,
    pods: Vec<String>,
    dns: Vec<String>,
    etcd: Vec<String>,
    tunnel: Tunnel,
}

fn facts() -> Facts {
    Facts {
        kubelet: KubeletSpec::default(),
        addon: AddonSpec::default(),
        names: strings(&["demo"]),
        services: strings(&["10.96.0.0/16"]),
        pods: strings(&["10.244.0.0/16"]),
        dns: strings(&["10.96.0.10"]),
        etcd: strings(&["10.0.0.1:2379"]),
        tunnel: Tunnel {
            agent: KonnectivityAgentSpec::default(),
            host: "10.99.0.1".to_owned(),
            port: 31078,
            shared: false,
        },
    }
}

impl Facts {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            name: "demo",
            version: "v1.36.3",
            endpoint: "10.99.0.1:31077",
            advertise: Some(([10, 99, 0, 1].into(), 31077)),
            ca_pem: "CA\n",
            server_names: &self.names,
            service_cidrs: &self.services,
            pod_cidrs: &self.pods,
            dns_service_ips: &self.dns,
            cluster_domain: "cluster.local",
            etcd_endpoints: &self.etcd,
            etcd_prefix: Some("uid"),
            registry: "registry.k8s.io",
            kubelet: &self.kubelet,
            core_dns: Some(&self.addon),
            kube_proxy: Some(&self.addon),
            tunnel: Some(&self.tunnel),
        }
    }
}

fn manifest<'a>(desired: &'a Desired, kind: Kind, name: &str) -> &'a Value {
    let found = desired
        .apply
        .iter()
        .find(|object| object.reference.kind == kind && object.reference.name == name);
    &found.unwrap_or_else(|| panic!("no {kind:?} {name}")).manifest
}

#[test]
fn addons_that_are_not_asked_for_are_removed_and_nothing_else() {
    let facts = facts();
    let without = desired(&Inputs {
        core_dns: None,
        ..facts.inputs()
    })
    .unwrap();
    assert!(without.apply.iter().all(|object| object.reference.name != "coredns"));
    assert_eq!(
        without.remove.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Deployment kube-system/coredns",
            "Service kube-system/kube-dns",
            "ConfigMap kube-system/coredns",
            "ServiceAccount kube-system/coredns",
            "ClusterRole system:coredns",
            "ClusterRoleBinding system:coredns",
            "Deployment kube-system/konnectivity-agent",
        ]
    );
    let all = desired(&facts.inputs()).unwrap();
    let removed: Vec<String> = all.remove.iter().map(ToString::to_string).collect();
    assert_eq!(
        removed,
        ["Deployment kube-system/konnectivity-agent"],
        "the other mode of the agents"
    );
}

#[test]
fn what_may_be_removed_is_labelled_and_all_of_it_may_be() {
    let desired = desired(&facts().inputs()).unwrap();
    let mut labelled: Vec<String> = desired
        .apply
        .iter()
        .filter(|object| object.manifest["metadata"]["labels"]["kamaji.clastix.io/project"] == "kamaji")
        .map(|object| object.reference.to_string())
        .collect();
    let mut removable: Vec<String> = coredns::references()
        .iter()
        .chain(&kube_proxy::references())
        .chain(&konnectivity::references())
        .filter(|reference| !desired.remove.contains(reference))
        .map(ToString::to_string)
        .collect();
    labelled.sort();
    removable.sort();
    assert_eq!(labelled, removable);
}

#[test]
fn images_follow_the_spec_in_each_part() {
    let (repository, tag) = (
        AddonSpec {
            image_repository: Some("example.test/x".into()),
            image_tag: None,
        },
        AddonSpec {
            image_repository: None,
            image_tag: Some("v9".into()),
        },
    );
    let image = |desired: &Desired, kind, name| {
        let containers = &manifest(desired, kind, name)["spec"]["template"]["spec"]["containers"];
        containers[0]["image"].as_str().unwrap().to_owned()
    };
    let facts = facts();
    let one = desired(&Inputs {
        core_dns: Some(&repository),
        kube_proxy: Some(&tag),
        ..facts.inputs()
    })
    .unwrap();
    assert_eq!(
        image(&one, Kind::Deployment, "coredns"),
        "example.test/x/coredns:v1.14.2"
    );
    assert_eq!(
        image(&one, Kind::DaemonSet, "kube-proxy"),
        "registry.k8s.io/kube-proxy:v9"
    );
    let other = desired(&Inputs {
        core_dns: Some(&tag),
        kube_proxy: Some(&repository),
        ..facts.inputs()
    })
    .unwrap();
    assert_eq!(
        image(&other, Kind::Deployment, "coredns"),
        "registry.k8s.io/coredns/coredns:v9"
    );
    assert_eq!(
        image(&other, Kind::DaemonSet, "kube-proxy"),
        "example.test/x/kube-proxy:v1.36.3"
    );
}

#[test]
fn dns_is_that_of_the_minor() {
    // From kubeadm's constants, except for the first: no recording is that old.
    for (minor, tag) in [
        (30, "v1.12.1"),
        (34, "v1.12.1"),
        (35, "v1.13.1"),
        (36, "v1.14.2"),
        (37, "v1.14.2"),
    ] {
        let version = format!("v1.{minor}.1");
        let facts = facts();
        let desired = desired(&Inputs {
            version: &version,
            ..facts.inputs()
        })
        .unwrap();
        let pod = &manifest(&desired, Kind::Deployment, "coredns")["spec"]["template"]["spec"];
        assert_eq!(
            pod["containers"][0]["image"],
            format!("registry.k8s.io/coredns/coredns:{tag}")
        );
    }
}

#[test]
fn two_families_of_dns_addresses_make_a_dual_stack_service() {
    let facts = Facts {
        dns: strings(&["10.96.0.10", "10.96.0.11", "fd00::a"]),
        ..facts()
    };
    let desired = desired(&facts.inputs()).unwrap();
    let spec = &manifest(&desired, Kind::Service, "kube-dns")["spec"];
    assert_eq!(spec["clusterIP"], "10.96.0.10");
    assert_eq!(spec["clusterIPs"], json!(["10.96.0.10", "fd00::a"]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(spec["ipFamilyPolicy"], "PreferDualStack");
}

#[test]
fn older_minors_get_what_their_own_kubeadm_and_kubelet_read() {
    let facts = facts();
    let text = |version, name, key: &str| {
        let desired = desired(&Inputs {
            version,
            ..facts.inputs()
        })
        .unwrap();
        manifest(&desired, Kind::ConfigMap, name)["data"][key]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let old = text("v1.30.4", "kubeadm-config", "ClusterConfiguration");
    assert!(old.contains("apiVersion: kubeadm.k8s.io/v1beta3\n"), "{old}");
    assert!(
        old.contains("  extraArgs:\n    etcd-compaction-interval: 0s\n    etcd-prefix: /uid\n"),
        "{old}"
    );
    assert!(!old.contains("encryptionAlgorithm"), "{old}");
    assert!(text("v1.31.0", "kubeadm-config", "ClusterConfiguration").contains("kubeadm.k8s.io/v1beta4"));
    assert!(!text("v1.31.9", "kubelet-config", "kubelet").contains("crashLoopBackOff"));
    assert!(text("v1.32.0", "kubelet-config", "kubelet").contains("crashLoopBackOff: {}"));
    assert!(!text("v1.23.1", "kubelet-config-1.23", "kubelet").contains("containerRuntimeEndpoint"));
}

#[test]
fn a_patch_that_cannot_be_applied_is_named() {
    let mut facts = facts();
    facts.kubelet.configuration_json_patches = vec![api::kamaji::v1alpha1::JsonPatch {
        op: "add".into(),
        path: "/no/such/parent".into(),
        value: Some(json!(1)),
        ..Default::default()
    }];
    let error = desired(&facts.inputs()).unwrap_err();
    let text = runtime::report::chain(&error);
    assert!(
        text.contains("spec.kubernetes.kubelet.configurationJSONPatches[0]"),
        "{text}"
    );
}

#[test]
fn an_ipv6_address_has_a_slice_of_its_family() {
    let facts = facts();
    let advertise = Some(("fd00::1".parse().unwrap(), 6443));
    let six = desired(&Inputs {
        advertise,
        ..facts.inputs()
    })
    .unwrap();
    assert_eq!(manifest(&six, Kind::EndpointSlice, "kubernetes")["addressType"], "IPv6");
    let none = desired(&Inputs {
        advertise: None,
        ..facts.inputs()
    })
    .unwrap();
    assert!(none.apply.iter().all(|object| object.reference.name != "kubernetes"));
}

#[test]
fn agents_change_their_mode_and_follow_the_minor() {
    let mut facts = facts();
    let agents = |facts: &Facts, version, kind| {
        let desired = desired(&Inputs {
            version,
            ..facts.inputs()
        })
        .unwrap();
        manifest(&desired, kind, "konnectivity-agent").clone()
    };
    let daemon_set = agents(&facts, "v1.35.2", Kind::DaemonSet);
    let pod = |workload: &Value| workload["spec"]["template"]["spec"].clone();
    assert_eq!(
        pod(&daemon_set)["containers"][0]["image"],
        "registry.k8s.io/kas-network-proxy/proxy-agent:v0.35.0"
    );
    assert_eq!(
        pod(&daemon_set)["tolerations"],
        json!([{"key": "CriticalAddonsOnly", "operator": "Exists"}])
    );
    assert_eq!(pod(&daemon_set).get("hostNetwork"), None);

    facts.tunnel.agent = KonnectivityAgentSpec {
        mode: KonnectivityAgentMode::Deployment,
        replicas: Some(3),
        version: Some("v0.34.1".to_owned()),
        host_network: true,
        tolerations: Vec::new(),
        ..KonnectivityAgentSpec::default()
    };
    let deployment = agents(&facts, "v1.35.2", Kind::Deployment);
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(
        pod(&deployment)["containers"][0]["image"],
        "registry.k8s.io/kas-network-proxy/proxy-agent:v0.34.1"
    );
    assert_eq!(pod(&deployment)["hostNetwork"], true);
    assert_eq!(pod(&deployment).get("tolerations"), None);
    let removed = desired(&facts.inputs()).unwrap().remove;
    assert_eq!(
        removed,
        [Reference::new(
            Kind::DaemonSet,
            Some("kube-system"),
            "konnectivity-agent"
        )]
    );
    facts.tunnel.agent.replicas = None;
    assert_eq!(
        agents(&facts, "v1.35.2", Kind::Deployment)["spec"].get("replicas"),
        None,
        "somebody else may scale them"
    );
}
