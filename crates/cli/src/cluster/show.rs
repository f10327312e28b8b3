//! Control planes as they are: the list, and one in full. Pure.

use api::kamaji::v1alpha1::{Phase, TenantControlPlane, TenantControlPlaneStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Client, ResourceExt};
use serde::Serialize;
use tenancy::control_plane::{placement, upgrade};

use super::pods;
use crate::plain::{plain, section};
use crate::tenant_table;

/// One line of the list.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    namespace: String,
    cluster: String,
    /// What was asked for.
    version: String,
    /// What was last Ready; empty before.
    installed: String,
    phase: String,
    ready: bool,
    /// What keeps it from being ready; empty when it is.
    message: String,
    endpoint: String,
    data_store: String,
}

impl Line {
    pub(super) fn of(tcp: &TenantControlPlane) -> Self {
        let status = tcp.status.clone().unwrap_or_default();
        let (ready, message) = readiness(&status.conditions);
        let storage = status.storage.as_ref();
        let recorded = storage.and_then(|storage| storage.data_store_name.clone());
        Self {
            namespace: tcp.namespace().unwrap_or_default(),
            cluster: tcp.name_any(),
            version: tcp.spec.kubernetes.version.clone(),
            installed: status.installed_version().unwrap_or_default().to_owned(),
            phase: phase(tcp),
            ready,
            message,
            endpoint: status.control_plane_endpoint.unwrap_or_default(),
            data_store: recorded.or_else(|| tcp.spec.data_store.clone()).unwrap_or_default(),
        }
    }

    fn version_told(&self) -> String {
        if self.installed.is_empty() || self.installed == self.version {
            self.version.clone()
        } else {
            format!("{} (to {})", self.installed, self.version)
        }
    }

    fn ready_told(&self) -> String {
        if self.ready {
            "True".to_owned()
        } else {
            format!("False ({})", self.message)
        }
    }
}

/// What it is doing, `Deleting` included, which is no phase.
pub(super) fn phase(tcp: &TenantControlPlane) -> String {
    if tcp.metadata.deletion_timestamp.is_some() {
        return "Deleting".to_owned();
    }
    let phase = tcp.status.as_ref().and_then(TenantControlPlaneStatus::phase);
    phase.map_or("Pending", Phase::as_str).to_owned()
}

pub(crate) fn readiness(conditions: &[Condition]) -> (bool, String) {
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => (true, String::new()),
        Some(condition) => (false, condition.message.clone()),
        None => (false, "not reconciled yet; does the operator run?".to_owned()),
    }
}

/// The list as text.
pub(super) fn list(lines: &[Line]) -> String {
    let heading = [
        "Namespace",
        "Cluster",
        "Version",
        "Phase",
        "Ready",
        "Endpoint",
        "DataStore",
    ];
    let mut cells = vec![heading.map(str::to_owned)];
    cells.extend(lines.iter().map(|line| {
        [
            line.namespace.clone(),
            line.cluster.clone(),
            line.version_told(),
            line.phase.clone(),
            tenant_table::ready_cell(line.ready, &line.message),
            line.endpoint.clone(),
            line.data_store.clone(),
        ]
    }));
    let cells: Vec<_> = cells.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    tenant_table::columns(&cells)
}

/// One control plane in full.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(flatten)]
    line: Line,
    replicas: Replicas,
    /// Versions that are still to be run, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upgrade: Vec<String>,
    /// What it is called in its store.
    schema: String,
    /// Why it is in its store, if it was placed.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    addons: Vec<&'static str>,
    /// What keeps its pods from being ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pods: Vec<String>,
    conditions: Vec<Said>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Replicas {
    ready: i32,
    wanted: i32,
}

#[derive(Debug, PartialEq, Serialize)]
struct Said {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: String,
    message: String,
}

impl Shown {
    /// Its pods are asked for where they may be what holds it up.
    pub(super) async fn asked(client: &Client, tcp: &TenantControlPlane) -> Self {
        let deployed = tcp.status.iter().flat_map(|status| &status.conditions);
        let mut deployed = deployed.filter(|condition| condition.type_ == "Deployed");
        let pods = if deployed.any(|condition| condition.status != "True") {
            pods::troubles(client, tcp).await
        } else {
            Vec::new()
        };
        Self::of(tcp, pods)
    }

    fn of(tcp: &TenantControlPlane, pods: Vec<String>) -> Self {
        let status = tcp.status.clone().unwrap_or_default();
        let deployment = status
            .kubernetes_resources
            .as_ref()
            .and_then(|resources| resources.deployment.as_ref());
        let path = upgrade::path(tcp).ok().flatten().unwrap_or_default();
        let installed = status.installed_version();
        let setup = status.storage.as_ref().and_then(|storage| storage.setup.as_ref());
        let addons = &tcp.spec.addons;
        let addons = [
            ("CoreDNS", addons.core_dns.is_some()),
            ("kube-proxy", addons.kube_proxy.is_some()),
            ("konnectivity", addons.konnectivity.is_some()),
        ];
        Self {
            line: Line::of(tcp),
            replicas: Replicas {
                ready: deployment
                    .and_then(|deployment| deployment.status.ready_replicas)
                    .unwrap_or(0),
                wanted: tcp.spec.control_plane.deployment.replicas,
            },
            upgrade: installed
                .map(|installed| upgrade::steps(&path, installed, &tcp.spec.kubernetes.version))
                .unwrap_or_default(),
            schema: setup.and_then(|setup| setup.schema.clone()).unwrap_or_default(),
            placement: tcp.annotations().get(placement::REASON).cloned(),
            addons: addons
                .into_iter()
                .filter(|(_, there)| *there)
                .map(|(name, _)| name)
                .collect(),
            pods,
            conditions: status.conditions.iter().map(Said::of).collect(),
        }
    }

    /// Phase and what holds it up, in half a sentence.
    pub(super) fn standing(&self) -> String {
        let unsaid = self.conditions.iter().find(|one| one.status != "True");
        let why = match (self.line.message.as_str(), unsaid) {
            ("", Some(unsaid)) => unsaid.message.as_str(),
            (message, _) => message,
        };
        let phase = format!("it is {}", self.line.phase);
        let why = [phase.as_str(), why]
            .into_iter()
            .chain(self.pods.first().map(String::as_str));
        why.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn told(&self) -> String {
        let line = &self.line;
        let mut text = plain(&format!(
            "TenantControlPlane {}/{}: {}, Ready {}",
            line.namespace,
            line.cluster,
            line.phase,
            line.ready_told()
        ));
        text.push('\n');
        let mut facts = vec![
            format!("version {}", line.version_told()),
            format!("replicas {} of {} ready", self.replicas.ready, self.replicas.wanted),
        ];
        if !line.endpoint.is_empty() {
            facts.push(format!("endpoint https://{}", line.endpoint));
        }
        if !line.data_store.is_empty() {
            facts.push(format!("datastore {} ({})", line.data_store, self.schema));
        }
        facts.extend(self.placement.as_ref().map(|reason| format!("placed: {reason}")));
        facts.push(format!("addons {}", self.addons.join(", ")));
        section(&mut text, "Facts", &facts, Clone::clone);
        section(&mut text, "Upgrade, step by step", &self.upgrade, Clone::clone);
        section(&mut text, "Pods", &self.pods, Clone::clone);
        section(&mut text, "Conditions", &self.conditions, Said::told);
        text
    }
}

impl Said {
    fn of(condition: &Condition) -> Self {
        Self {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }
    }

    fn told(&self) -> String {
        format!("{} {} ({}): {}", self.type_, self.status, self.reason, self.message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tcp() -> TenantControlPlane {
        serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "annotations": {"cotenant.dev/upgrade-path": "step"}},
            "spec": {"controlPlane": {"deployment": {"replicas": 2}, "service": {"serviceType": "ClusterIP"}},
                "kubernetes": {"version": "v1.36.3"}, "addons": {"coreDNS": {}}},
            "status": {
                "controlPlaneEndpoint": "10.0.0.7:6443",
                "storage": {"dataStoreName": "ssd", "setup": {"schema": "prod_oil"}},
                "kubernetesResources": {
                    "version": {"version": "v1.34.2", "status": "Upgrading"},
                    "deployment": {"readyReplicas": 1, "selector": "", "name": "oil", "namespace": "prod"}},
                "conditions": [{"type": "Ready", "status": "False", "reason": "PodsStarting", "message": "1 of 2\u{1b}[2J",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn one_is_shown_with_the_versions_to_come() {
        assert_eq!(
            Shown::of(&tcp(), vec!["pod oil-1, container a: b".to_owned()]).told(),
            "TenantControlPlane prod/oil: Upgrading, Ready False (1 of 2\\u{1b}[2J)\n\
             Facts\n  \
             version v1.34.2 (to v1.36.3)\n  \
             replicas 1 of 2 ready\n  \
             endpoint https://10.0.0.7:6443\n  \
             datastore ssd (prod_oil)\n  \
             addons CoreDNS\n\
             Upgrade, step by step\n  v1.35.0\n  v1.36.3\n\
             Pods\n  pod oil-1, container a: b\n\
             Conditions\n  Ready False (PodsStarting): 1 of 2\\u{1b}[2J\n"
        );
    }

    fn standing(tcp: &TenantControlPlane) -> String {
        Shown::of(tcp, Vec::new()).standing()
    }

    #[test]
    fn where_it_stands_is_told_with_what_holds_it_up() {
        let mut tcp = tcp();
        assert_eq!(standing(&tcp), "it is Upgrading, 1 of 2\u{1b}[2J");
        let pods = vec!["no node".to_owned(), "no image".to_owned()];
        assert_eq!(
            Shown::of(&tcp, pods).standing(),
            "it is Upgrading, 1 of 2\u{1b}[2J, no node"
        );
        let status = tcp.status.as_mut().unwrap();
        let ready = &mut status.conditions[0];
        (ready.status, ready.message) = ("True".to_owned(), String::new());
        let mut moving = ready.clone();
        (moving.type_, moving.status) = ("DataStoreReady".to_owned(), "False".to_owned());
        moving.message = "the data stays".to_owned();
        status.conditions.push(moving);
        assert_eq!(standing(&tcp), "it is Upgrading, the data stays");
        tcp.status.as_mut().unwrap().conditions.pop();
        assert_eq!(standing(&tcp), "it is Upgrading");
    }

    #[test]
    fn the_list_has_a_line_each() {
        let text = list(&[Line::of(&tcp()), Line::of(&TenantControlPlane::default())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("prod       oil "), "{}", lines[1]);
        assert!(
            lines[2].contains("Pending    False (not reconciled yet"),
            "{}",
            lines[2]
        );
    }
}
