//! What the status says about the tunnel.

use api::kamaji::v1alpha1::{
    ControlPlaneServiceStatus, KonnectivityAgentMode, KonnectivityAgentStatus, KonnectivityConfigMapStatus,
    KonnectivityStatus, ObjectStatus, TenantControlPlane, TenantControlPlaneStatus,
};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{Outcome, secret_status, stamp};
use crate::desired::konnectivity::{AGENT, AGENT_NAMESPACE, SECRET_COMPONENTS, USER, config_name};

/// Says what of the tunnel is there. One that was never wanted is not mentioned; one that is no longer wanted is, as
/// disabled, from the moment on when nothing of it is left to be seen to.
pub(super) fn report(
    status: &mut TenantControlPlaneStatus,
    tcp: &TenantControlPlane,
    outcome: &Outcome<'_>,
    now: Timestamp,
) {
    let known = status.addons.as_ref().and_then(|addons| addons.konnectivity.clone());
    let reported = match &tcp.spec.addons.konnectivity {
        Some(wanted) if known.is_some() || outcome.egress_selector.is_some() => {
            let mut tunnel = known.unwrap_or_default();
            tunnel.enabled = true;
            outside(&mut tunnel, tcp, outcome, wanted.server.port, now);
            if outcome.inside.checksum.is_some() {
                inside(&mut tunnel, wanted.agent.mode, now);
            }
            tunnel
        }
        None if known.is_some() && outcome.inside.checksum.is_some() => KonnectivityStatus::default(),
        _ => return,
    };
    status.addons.get_or_insert_default().konnectivity = Some(reported);
}

fn outside(
    tunnel: &mut KonnectivityStatus,
    tcp: &TenantControlPlane,
    outcome: &Outcome<'_>,
    port: i32,
    now: Timestamp,
) {
    let name = tcp.name_any();
    if let Some(checksum) = &outcome.egress_selector {
        tunnel.config_map = Some(KonnectivityConfigMapStatus {
            name: Some(config_name(&name)),
            checksum: Some(checksum.clone()),
        });
    }
    let [certificate, kubeconfig] = SECRET_COMPONENTS;
    for (slot, component) in [
        (&mut tunnel.certificate, certificate),
        (&mut tunnel.kubeconfig, kubeconfig),
    ] {
        if let Some(checksum) = outcome.checksums.get(component) {
            *slot = Some(secret_status(
                slot.as_ref(),
                format!("{name}-{component}"),
                checksum,
                now,
            ));
        }
    }
    if let Some(service) = outcome.service {
        tunnel.service = Some(ControlPlaneServiceStatus {
            status: super::without_ports(service),
            name,
            namespace: tcp.namespace().unwrap_or_default(),
            port,
        });
    }
}

fn inside(tunnel: &mut KonnectivityStatus, mode: KonnectivityAgentMode, now: Timestamp) {
    let mode = match mode {
        KonnectivityAgentMode::DaemonSet => "DaemonSet",
        KonnectivityAgentMode::Deployment => "Deployment",
    };
    let object = |previous: Option<ObjectStatus>, name: &str, namespace: Option<&str>| {
        let previous = previous.unwrap_or_default();
        let changed = previous.name.as_deref() != Some(name);
        Some(ObjectStatus {
            name: Some(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            last_update: stamp(changed, previous.last_update, now),
        })
    };
    tunnel.sa = object(tunnel.sa.take(), AGENT, Some(AGENT_NAMESPACE));
    tunnel.cluster_role_binding = object(tunnel.cluster_role_binding.take(), USER, None);
    let previous = tunnel.agent.take().unwrap_or_default();
    let changed = previous.mode.as_deref() != Some(mode);
    tunnel.agent = Some(KonnectivityAgentStatus {
        name: Some(AGENT.to_owned()),
        namespace: Some(AGENT_NAMESPACE.to_owned()),
        last_update: stamp(changed, previous.last_update, now),
        mode: Some(mode.to_owned()),
    });
}

#[cfg(test)]
mod tests {
    use api::kamaji::v1alpha1::{KonnectivityServerSpec, KonnectivitySpec};
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::super::{Inside, of};
    use super::*;

    fn shown(status: &TenantControlPlaneStatus) -> Value {
        let addons = serde_json::to_value(&status.addons).unwrap();
        addons.get("konnectivity").cloned().unwrap_or_default()
    }

    #[test]
    fn a_tunnel_is_reported_piece_by_piece_and_as_disabled_in_the_end() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let mut tcp = crate::desired::tests::tcp();
        assert_eq!(shown(&of(&tcp, &Outcome::default(), now)), json!(null));
        tcp.spec.addons.konnectivity = Some(KonnectivitySpec {
            server: KonnectivityServerSpec {
                port: 31078,
                ..KonnectivityServerSpec::default()
            },
            ..KonnectivitySpec::default()
        });
        let service: Service = serde_json::from_value(json!({"status": {"loadBalancer": {}}})).unwrap();
        let mut outcome = Outcome {
            service: Some(&service),
            egress_selector: Some("a".to_owned()),
            checksums: [
                ("konnectivity-certificate", "b".to_owned()),
                ("konnectivity-kubeconfig", "c".to_owned()),
            ]
            .into(),
            ..Outcome::default()
        };
        let mut expected = json!({
            "enabled": true,
            "configMap": {"name": "demo-konnectivity-egress-selector-configuration", "checksum": "a"},
            "certificate": {"secretName": "demo-konnectivity-certificate", "checksum": "b", "lastUpdate": "2026-11-20T12:00:00Z"},
            "kubeconfig": {"secretName": "demo-konnectivity-kubeconfig", "checksum": "c", "lastUpdate": "2026-11-20T12:00:00Z"},
            "service": {"loadBalancer": {}, "name": "demo", "namespace": "default", "port": 31078},
        });
        let status = of(&tcp, &outcome, now);
        assert_eq!(shown(&status), expected);

        tcp.status = Some(status);
        outcome.inside = Inside {
            checksum: Some("d".to_owned()),
            failure: None,
        };
        let later: Timestamp = "2026-11-20T12:00:05Z".parse().unwrap();
        expected["sa"] =
            json!({"name": "konnectivity-agent", "namespace": "kube-system", "lastUpdate": "2026-11-20T12:00:05Z"});
        expected["clusterrolebinding"] =
            json!({"name": "system:konnectivity-server", "lastUpdate": "2026-11-20T12:00:05Z"});
        expected["agent"] = json!({"name": "konnectivity-agent", "namespace": "kube-system", "mode": "DaemonSet",
            "lastUpdate": "2026-11-20T12:00:05Z"});
        let status = of(&tcp, &outcome, later);
        assert_eq!(shown(&status), expected);
        tcp.status = Some(status);
        assert_eq!(
            shown(&of(&tcp, &outcome, now)),
            expected,
            "the same outcome changes nothing"
        );

        tcp.spec.addons.konnectivity = None;
        outcome.egress_selector = None;
        outcome.checksums.clear();
        assert_eq!(shown(&of(&tcp, &outcome, now)), json!({"enabled": false}));
    }
}
