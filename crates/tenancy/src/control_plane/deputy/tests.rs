#![allow(clippy::needless_pass_by_value, reason = "rows of tables are handed over")]

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn tcp(deployment: Value) -> TenantControlPlane {
    let mut tcp = TenantControlPlane::default();
    tcp.metadata.name = Some("oil".into());
    tcp.spec.control_plane.deployment = serde_json::from_value(deployment).unwrap();
    tcp
}

fn found(deployment: Value) -> Vec<(String, String)> {
    let own = Own {
        secrets: BTreeSet::from(["oil-audit".to_owned()]),
        claims: BTreeSet::from(["oil-logs".to_owned()]),
    };
    let denials = denials(&tcp(deployment), &own, &Trust::default());
    denials
        .into_iter()
        .map(|denial| (denial.field, denial.reason.to_string()))
        .collect()
}

fn volume(source: Value) -> Value {
    let mut volume = json!({"name": "extra"});
    volume
        .as_object_mut()
        .unwrap()
        .extend(source.as_object().unwrap().clone());
    json!({"additionalVolumes": [volume]})
}

/// A claim that is made for the pod.
fn ephemeral(spec: Value, metadata: Value) -> Value {
    json!({"ephemeral": {"volumeClaimTemplate": {"metadata": metadata, "spec": spec}}})
}

#[rstest]
#[case::empty_dir(json!({"emptyDir": {}}), None)]
#[case::config_map(json!({"configMap": {"name": "policy"}}), None)]
#[case::own_claim(json!({"persistentVolumeClaim": {"claimName": "oil-logs"}}), None)]
#[case::foreign_claim(json!({"persistentVolumeClaim": {"claimName": "gas-data"}}), Some("ClaimNotOwn"))]
#[case::unnamed_claim(json!({"persistentVolumeClaim": {"claimName": ""}}), Some("ClaimNotOwn"))]
#[case::a_secret_is_no_claim(json!({"persistentVolumeClaim": {"claimName": "oil-audit"}}), Some("ClaimNotOwn"))]
#[case::empty_space(ephemeral(json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}}), json!({"labels": {"team": "oil"}})), None)]
#[case::clone_of_a_claim(ephemeral(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "gas-data"}}), json!({})), Some("ReachesBeyond"))]
#[case::snapshot(ephemeral(json!({"dataSourceRef": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "gas"}}), json!({})), Some("ReachesBeyond"))]
#[case::volume_by_name(ephemeral(json!({"volumeName": "pv-gas"}), json!({})), Some("ReachesBeyond"))]
#[case::volume_by_label(ephemeral(json!({"selector": {"matchLabels": {"team": "gas"}}}), json!({})), Some("ReachesBeyond"))]
#[case::import(ephemeral(json!({}), json!({"annotations": {"cdi.kubevirt.io/storage.import.endpoint": "http://10.0.0.1"}})), Some("ReachesBeyond"))]
#[case::labelled_as_a_neighbours(ephemeral(json!({}), json!({"labels": {"kamaji.clastix.io/name": "gas"}})), Some("KeyReserved"))]
#[case::own_secret(json!({"secret": {"secretName": "oil-audit"}}), None)]
#[case::projected_harmless(json!({"projected": {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "oil-audit"}}]}}), None)]
#[case::foreign_secret(json!({"secret": {"secretName": "gas-ca"}}), Some("SecretNotOwn"))]
#[case::unnamed_secret(json!({"secret": {}}), Some("SecretNotOwn"))]
#[case::projected_foreign_secret(json!({"projected": {"sources": [{"secret": {"name": "gas-ca"}}]}}), Some("SecretNotOwn"))]
#[case::token(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}), Some("ReachesBeyond"))]
#[case::host_path(json!({"hostPath": {"path": "/"}}), Some("ReachesBeyond"))]
#[case::host_path_behind_another(json!({"emptyDir": {}, "hostPath": {"path": "/"}}), Some("ReachesBeyond"))]
#[case::two_sources(json!({"emptyDir": {}, "configMap": {"name": "a"}}), Some("ReachesBeyond"))]
#[case::driver(json!({"csi": {"driver": "secrets-store.csi.k8s.io"}}), Some("ReachesBeyond"))]
#[case::nfs(json!({"nfs": {"server": "10.0.0.1", "path": "/"}}), Some("ReachesBeyond"))]
#[case::no_source(json!({}), Some("ReachesBeyond"))]
fn volumes_hold_nothing_of_others(#[case] source: Value, #[case] reason: Option<&str>) {
    let found = found(volume(source));
    assert_eq!(found.first().map(|(_, reason)| reason.as_str()), reason, "{found:?}");
    assert!(
        found
            .iter()
            .all(|(field, _)| field.starts_with("spec.controlPlane.deployment.additionalVolumes[0]"))
    );
}

#[rstest]
#[case::plain(json!({"image": "busybox", "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}), &[])]
#[case::privileged(json!({"securityContext": {"privileged": true}}), &[".securityContext.privileged"])]
#[case::capability(json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}), &[".securityContext.capabilities.add"])]
#[case::unconfined(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"}}}), &[".securityContext.seccompProfile", ".securityContext.appArmorProfile"])]
#[case::proc_mount(json!({"securityContext": {"procMount": "Unmasked"}}), &[".securityContext.procMount"])]
#[case::host_process(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}), &[".securityContext.windowsOptions.hostProcess"])]
#[case::se_linux(json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}), &[".securityContext.seLinuxOptions"])]
#[case::host_port(json!({"ports": [{"containerPort": 80}, {"containerPort": 80, "hostPort": 80}]}), &[".ports[1].hostPort"])]
#[case::foreign_secret_in_the_environment(json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "gas-ca", "key": "ca.key"}}}]}), &[".env[0].valueFrom.secretKeyRef.name"])]
#[case::own_secret_in_the_environment(json!({"envFrom": [{"secretRef": {"name": "oil-audit"}}]}), &[])]
#[case::whole_foreign_secret(json!({"envFrom": [{"secretRef": {"name": "gas-ca"}}]}), &[".envFrom[0].secretRef.name"])]
#[case::probe_elsewhere(json!({"livenessProbe": {"httpGet": {"port": 80, "host": "169.254.169.254"}}}), &[".livenessProbe"])]
#[case::probe_here(json!({"livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"tcpSocket": {"port": 80}}}), &[])]
#[case::hook_elsewhere(json!({"lifecycle": {"postStart": {"httpGet": {"port": 80, "host": "10.0.0.1"}}}}), &[".lifecycle.postStart"])]
#[case::propagation(json!({"volumeMounts": [{"name": "a", "mountPath": "/a", "mountPropagation": "Bidirectional"}]}), &[".volumeMounts[0].mountPropagation"])]
fn containers_have_no_privileges(#[case] container: Value, #[case] expected: &[&str]) {
    for list in ["additionalContainers", "additionalInitContainers"] {
        let mut container = container.clone();
        container["name"] = json!("extra");
        let fields: Vec<_> = found(json!({list: [container]}))
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|rest| format!("spec.controlPlane.deployment.{list}[0]{rest}"))
            .collect();
        assert_eq!(fields, expected);
    }
}

#[rstest]
#[case::defaults(json!({}), &[])]
#[case::another_account(json!({"serviceAccountName": "kamaji"}), &["serviceAccountName"])]
#[case::the_default_account(json!({"serviceAccountName": "default"}), &[])]
#[case::token(json!({"automountServiceAccountToken": true}), &["automountServiceAccountToken"])]
#[case::no_token(json!({"automountServiceAccountToken": false}), &[])]
#[case::sysctl(json!({"podSecurityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}), &["podSecurityContext.sysctls[0]"])]
#[case::safe_sysctl(json!({"podSecurityContext": {"runAsUser": 65532, "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}), &[])]
#[case::component_privileged(json!({"containerSecurityContexts": {"scheduler": {"privileged": true}}}), &["containerSecurityContexts.scheduler.privileged"])]
#[case::a_neighbours_label(json!({"podAdditionalMetadata": {"labels": {"kamaji.clastix.io/name": "gas"}}}), &["podAdditionalMetadata.labels"])]
#[case::a_label_below(json!({"additionalMetadata": {"labels": {"component.kamaji.clastix.io/ca": "x"}}}), &["additionalMetadata.labels"])]
#[case::own_labels(json!({"podAdditionalMetadata": {"labels": {"team": "oil", "notkamaji.clastix.io/name": "x"}}}), &[])]
#[case::another_network(json!({"podAdditionalMetadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "gas"}}}), &["podAdditionalMetadata.annotations"])]
#[case::sidecar(json!({"podAdditionalMetadata": {"labels": {"sidecar.istio.io/inject": "true"}}}), &["podAdditionalMetadata.labels"])]
#[case::proxy(json!({"additionalMetadata": {"annotations": {"config.linkerd.io/proxy-image": "x"}}}), &["additionalMetadata.annotations"])]
#[case::agent(json!({"podAdditionalMetadata": {"annotations": {"vault.hashicorp.com/agent-inject": "true"}}}), &["podAdditionalMetadata.annotations"])]
#[case::no_seccomp(json!({"podAdditionalMetadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}}), &["podAdditionalMetadata.annotations"])]
#[case::scraped(json!({"podAdditionalMetadata": {"annotations": {"prometheus.io/scrape": "true", "notlinkerd.io/inject": "x"}}}), &[])]
#[case::container_of_ours(json!({"additionalContainers": [{"name": "kube-apiserver"}]}), &["additionalContainers[0].name"])]
#[case::volume_of_ours(json!({"additionalVolumes": [{"name": "etc-kubernetes-pki", "emptyDir": {}}]}), &["additionalVolumes[0].name"])]
#[case::mount_without_volume(json!({"additionalVolumeMounts": {"apiServer": [{"name": "audit", "mountPath": "/audit"}]}}), &["additionalVolumeMounts.apiServer[0].name"])]
#[case::image_that_is_none(json!({"registrySettings": {"registry": "registry.k8s.io evil"}}), &["registrySettings.registry"])]
#[case::own_registry(json!({"registrySettings": {"registry": "mirror.local:5000/k8s", "tagSuffix": "-fips"}}), &[])]
fn pods_keep_to_themselves(#[case] deployment: Value, #[case] expected: &[&str]) {
    let fields: Vec<_> = found(deployment).into_iter().map(|(field, _)| field).collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|rest| format!("spec.controlPlane.deployment.{rest}"))
        .collect();
    assert_eq!(fields, expected);
}

#[test]
fn administrators_may_allow_accounts_and_restrict_registries() {
    let trust = Trust {
        service_accounts: BTreeSet::from(["hosted".to_owned()]),
        registries: vec!["mirror.local/k8s".into()],
        ..Trust::default()
    };
    let verdict = |deployment| {
        let denials = denials(&tcp(deployment), &Own::default(), &trust);
        denials
            .into_iter()
            .map(|denial| denial.reason.to_string())
            .collect::<Vec<_>>()
    };
    let allowed = json!({"serviceAccountName": "hosted", "registrySettings": {"registry": "mirror.local/k8s"}});
    assert!(verdict(allowed).is_empty());
    assert_eq!(verdict(json!({})), ["RegistryNotAllowed"]);
    let looks_alike = json!({"registrySettings": {"registry": "mirror.local/k8sevil"}});
    assert_eq!(verdict(looks_alike), ["RegistryNotAllowed"]);
}

#[rstest]
#[case::as_it_comes(json!({}), &[], None)]
#[case::from_elsewhere(json!({"server": {"port": 8132, "image": "docker.io/gas/proxy-server"}}), &["registry.k8s.io"], Some(("spec.addons.konnectivity.server.image", "RegistryNotAllowed")))]
#[case::from_where_it_may(json!({}), &["registry.k8s.io"], None)]
#[case::the_agent_is_the_tenants(json!({"agent": {"image": "docker.io/gas/proxy-agent"}}), &["registry.k8s.io"], None)]
#[case::privileged(json!({"server": {"port": 8132, "securityContext": {"privileged": true}}}), &[], Some(("spec.addons.konnectivity.server.securityContext.privileged", "ReachesBeyond")))]
fn the_tunnels_server_is_held_like_the_other_containers(
    #[case] konnectivity: Value,
    #[case] registries: &[&str],
    #[case] expected: Option<(&str, &str)>,
) {
    let mut tcp = tcp(json!({}));
    tcp.spec.addons.konnectivity = Some(serde_json::from_value(konnectivity).unwrap());
    let trust = Trust {
        registries: registries.iter().map(ToString::to_string).collect(),
        ..Trust::default()
    };
    let denials = denials(&tcp, &Own::default(), &trust);
    let found = denials.first().map(|denial| (denial.field.as_str(), denial.reason));
    assert_eq!(found, expected, "{denials:?}");
}
