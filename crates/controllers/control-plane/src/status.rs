//! The status of a control plane: a pure function from its last status and the outcome of a pass.
//!
//! The phase is the field that people and Cluster API have always read. The conditions beside it say where a control
//! plane that is not ready stands: one per phase of the work, in the order of the work, and `Ready` over all of them.

mod konnectivity;

mod fronts;

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{
    AddonStatus, AddonsStatus, BootstrapTokenStatus, CertificatesStatus, ControlPlaneDeploymentStatus,
    ControlPlaneServiceStatus, KubeadmConfigStatus, KubeadmPhaseStatus, KubeconfigsStatus, KubernetesResourcesStatus,
    Phase, SecretStatus, StorageConfigStatus, StorageSetupStatus, StorageStatus, TenantControlPlane,
    TenantControlPlaneStatus, VersionStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use runtime::events::shortened;

use crate::desired::{self, Account, DatastoreFacts, Plan, Waiting, identity};
use crate::inside::MOST_SAID;

pub use fronts::Fronts;

/// Condition: the API server answers and the cluster is set up.
pub const READY: &str = "Ready";
/// Condition: the spec asks for nothing that its author may not have, and for nothing in vain.
pub const ACCEPTED: &str = "Accepted";
/// Condition: there is an address.
pub const EXPOSED: &str = "Exposed";
/// Condition: the datastore is there, and has an account for this control plane.
pub const DATASTORE: &str = "DataStoreReady";
/// Condition: all certificates, keys and kubeconfigs are there.
pub const CREDENTIALS: &str = "CredentialsIssued";
/// Condition: the pods are as the spec wants them.
pub const DEPLOYED: &str = "Deployed";
/// Condition: what nodes and people need inside of the tenant cluster is there.
pub const CONFIGURED: &str = "ClusterConfigured";

/// The work in its order.
const WORK: [&str; 6] = [ACCEPTED, EXPOSED, DATASTORE, CREDENTIALS, DEPLOYED, CONFIGURED];

/// What is known about the inside of the tenant cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Set once everything is there: the checksum of what nodes join with.
    pub checksum: Option<String>,
    /// Why it is not, as reason and sentence.
    pub failure: Option<(&'static str, String)>,
}

/// The outcome of a pass, as far as it went.
#[derive(Debug, Default)]
pub struct Outcome<'a> {
    /// The Service as it now is.
    pub service: Option<&'a Service>,
    /// What stands in front of it, if that was looked at.
    pub fronts: Option<&'a Fronts>,
    /// The Deployment as it now is.
    pub deployment: Option<&'a Deployment>,
    /// What was decided.
    pub plan: Option<&'a Plan>,
    /// Checksums of the Secrets that are there, by component.
    pub checksums: BTreeMap<&'static str, String>,
    /// Checksum of the ConfigMap.
    pub kubeadm_config: Option<String>,
    /// Checksum of the ConfigMap that turns the tunnel on.
    pub egress_selector: Option<String>,
    /// Whether the datastore has the account.
    pub account_ready: bool,
    /// Whether the authority was replaced in this pass.
    pub authority_replaced: bool,
    /// Whether the data moves from one store to another.
    pub migrating: bool,
    /// What the pass could not do and why, in the order in which it was tried.
    pub stops: &'a [Waiting],
    /// What is known about the inside.
    pub inside: Inside,
}

/// The status before anything is made in the datastore: which names are about to be used there.
pub fn claim(tcp: &TenantControlPlane, account: &Account, datastore: &DatastoreFacts) -> TenantControlPlaneStatus {
    let mut status = tcp.status.clone().unwrap_or_default();
    let storage = status.storage.get_or_insert_default();
    storage.driver.get_or_insert_with(|| datastore.driver.clone());
    storage.data_store_name = Some(datastore.name.clone());
    let setup = storage.setup.get_or_insert_default();
    setup.schema = Some(account.schema.clone());
    setup.user = Some(account.user.clone());
    status
}

/// Whether the status says that this account was set up, to its end, in this DataStore.
pub fn was_set_up(tcp: &TenantControlPlane, account: &Account, datastore: &str) -> bool {
    let storage = tcp.status.as_ref().and_then(|status| status.storage.as_ref());
    storage.is_some_and(|storage| {
        let setup = storage.setup.as_ref().filter(|setup| setup.checksum.is_some());
        storage.data_store_name.as_deref() == Some(datastore)
            && setup.is_some_and(|setup| {
                setup.schema.as_ref() == Some(&account.schema) && setup.user.as_ref() == Some(&account.user)
            })
    })
}

/// The status after a pass.
pub fn of(tcp: &TenantControlPlane, outcome: &Outcome<'_>, now: Timestamp) -> TenantControlPlaneStatus {
    let before = tcp.status.clone().unwrap_or_default();
    let mut status = before.clone();
    if let Some(plan) = outcome.plan {
        status.control_plane_endpoint = Some(plan.exposure.endpoint());
        storage(&mut status, tcp, plan, outcome, now);
    }
    credentials(&mut status, &tcp.name_any(), &outcome.checksums, now);
    if let Some(checksum) = &outcome.kubeadm_config {
        let previous = status.kubeadm_config.take();
        let changed = previous.as_ref().and_then(|previous| previous.checksum.as_ref()) != Some(checksum);
        status.kubeadm_config = Some(KubeadmConfigStatus {
            config_map_name: Some(format!("{}-kubeadmconfig", tcp.name_any())),
            checksum: Some(checksum.clone()),
            last_update: stamp(changed, previous.and_then(|previous| previous.last_update), now),
        });
    }
    resources(&mut status, tcp, outcome, now);
    inside(&mut status, tcp, &outcome.inside, now);
    konnectivity::report(&mut status, tcp, outcome, now);
    fronts::report(&mut status, outcome.fronts);
    if outcome.stops.is_empty() {
        status.observed_generation = tcp.metadata.generation;
    }
    status.conditions = conditions(tcp, &status, &before.conditions, outcome, now);
    status
}

fn stamp(changed: bool, previous: Option<Time>, now: Timestamp) -> Option<Time> {
    if changed {
        Some(Time(now))
    } else {
        previous.or(Some(Time(now)))
    }
}

fn secret_status(previous: Option<&SecretStatus>, name: String, checksum: &str, now: Timestamp) -> SecretStatus {
    let changed = previous.and_then(|previous| previous.checksum.as_deref()) != Some(checksum);
    SecretStatus {
        secret_name: Some(name),
        checksum: Some(checksum.to_owned()),
        last_update: stamp(changed, previous.and_then(|previous| previous.last_update.clone()), now),
    }
}

fn credentials(
    status: &mut TenantControlPlaneStatus,
    name: &str,
    checksums: &BTreeMap<&'static str, String>,
    now: Timestamp,
) {
    let update = |slot: &mut Option<SecretStatus>, component: &'static str| {
        if let Some(checksum) = checksums.get(component) {
            *slot = Some(secret_status(
                slot.as_ref(),
                format!("{name}-{component}"),
                checksum,
                now,
            ));
        }
    };
    if checksums.is_empty() {
        return;
    }
    let certificates: &mut CertificatesStatus = status.certificates.get_or_insert_default();
    update(&mut certificates.ca, "ca");
    update(&mut certificates.front_proxy_ca, "front-proxy-ca-certificate");
    update(&mut certificates.sa, "sa-certificate");
    update(&mut certificates.api_server, "api-server-certificate");
    update(
        &mut certificates.api_server_kubelet_client,
        "api-server-kubelet-client-certificate",
    );
    update(&mut certificates.front_proxy_client, "front-proxy-client-certificate");
    let kubeconfigs: &mut KubeconfigsStatus = status.kubeconfig.get_or_insert_default();
    update(&mut kubeconfigs.admin, "admin-kubeconfig");
    update(&mut kubeconfigs.controller_manager, "controller-manager-kubeconfig");
    update(&mut kubeconfigs.scheduler, "scheduler-kubeconfig");
}

fn storage(
    status: &mut TenantControlPlaneStatus,
    tcp: &TenantControlPlane,
    plan: &Plan,
    outcome: &Outcome<'_>,
    now: Timestamp,
) {
    let name = tcp.name_any();
    let storage: &mut StorageStatus = status.storage.get_or_insert_default();
    storage.driver = Some(plan.datastore.driver.clone());
    storage.data_store_name = Some(plan.datastore.name.clone());
    let config = outcome.checksums.get("datastore-config");
    if let Some(checksum) = config {
        storage.config = Some(StorageConfigStatus {
            secret_name: Some(format!("{name}-datastore-config")),
            checksum: Some(checksum.clone()),
        });
    }
    if let Some(checksum) = outcome.checksums.get("datastore-certificate") {
        let name = format!("{name}-datastore-certificate");
        storage.certificate = Some(secret_status(storage.certificate.as_ref(), name, checksum, now));
    }
    if let Some(checksum) = config.filter(|_| outcome.account_ready) {
        let previous = storage.setup.take().unwrap_or_default();
        let changed = previous.checksum.as_ref() != Some(checksum);
        storage.setup = Some(StorageSetupStatus {
            schema: Some(plan.account.schema.clone()),
            user: Some(plan.account.user.clone()),
            checksum: Some(checksum.clone()),
            last_update: stamp(changed, previous.last_update, now),
        });
    }
}

/// What a Service reports, without the ports of its load balancer, which this status has no field for.
fn without_ports(service: &Service) -> ServiceStatus {
    let mut reported = service.status.clone().unwrap_or_default();
    let ingresses = reported
        .load_balancer
        .get_or_insert_default()
        .ingress
        .iter_mut()
        .flatten();
    ingresses.for_each(|ingress| ingress.ports = None);
    reported
}

fn resources(status: &mut TenantControlPlaneStatus, tcp: &TenantControlPlane, outcome: &Outcome<'_>, now: Timestamp) {
    let (name, namespace) = (tcp.name_any(), tcp.namespace().unwrap_or_default());
    if outcome.service.is_none() && outcome.deployment.is_none() {
        return;
    }
    let installed = status.installed_version().map(str::to_owned);
    let resources: &mut KubernetesResourcesStatus = status.kubernetes_resources.get_or_insert_default();
    if let Some(service) = outcome.service {
        resources.service = Some(ControlPlaneServiceStatus {
            status: without_ports(service),
            name: name.clone(),
            namespace: namespace.clone(),
            port: tcp.spec.network_profile.port,
        });
    }
    let Some(deployment) = outcome.deployment else { return };
    let mut reported = ControlPlaneDeploymentStatus {
        status: deployment.status.clone().unwrap_or_default(),
        selector: format!("{}={name}", api::kamaji::names::NAME_LABEL),
        name,
        namespace,
        last_update: None,
    };
    let previous = resources.deployment.take();
    let previously = previous.as_ref().and_then(|previous| previous.last_update.clone());
    reported.last_update.clone_from(&previously);
    let changed = previous.as_ref() != Some(&reported);
    reported.last_update = stamp(changed, previously, now);
    resources.deployment = Some(reported);

    // A pass that decided nothing has changed nothing either: the pods run what they ran.
    let running = match outcome.plan {
        Some(plan) => plan.version.run.as_str(),
        None => desired::deployed(tcp, deployment).unwrap_or(&tcp.spec.kubernetes.version),
    };
    let phase = if outcome.migrating {
        Phase::Migrating
    } else if outcome.authority_replaced && installed.is_some() {
        Phase::CertificateAuthorityRotating
    } else {
        phase(tcp, deployment, installed.as_deref(), running)
    };
    let arrived = match phase {
        Phase::Ready => true,
        // Asleep nobody sees a version fail, so only the last of several steps is taken for done.
        Phase::Sleeping => running == tcp.spec.kubernetes.version,
        // Limits on writes do not keep an upgrade from ending.
        Phase::WriteLimited => settled(deployment),
        _ => false,
    };
    resources.version = Some(VersionStatus {
        version: if arrived { Some(running.to_owned()) } else { installed },
        status: Some(phase),
    });
}

/// The phase; the first row that fits.
fn phase(tcp: &TenantControlPlane, deployment: &Deployment, installed: Option<&str>, running: &str) -> Phase {
    let ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    if tcp.spec.control_plane.deployment.replicas == 0 {
        Phase::Sleeping
    } else if ready == 0 {
        Phase::NotReady
    } else if tcp.spec.write_permissions.limited() {
        Phase::WriteLimited
    } else if settled(deployment) {
        Phase::Ready
    } else if installed.is_some_and(|installed| installed != running) {
        Phase::Upgrading
    } else if installed.is_none() {
        Phase::Provisioning
    } else {
        Phase::Unknown
    }
}

/// Whether every pod is of the latest template and ready, and none is left over.
pub(crate) fn settled(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return false };
    is_observed(deployment)
        && status.unavailable_replicas.unwrap_or(0) == 0
        && [status.updated_replicas, status.ready_replicas, status.replicas]
            .into_iter()
            .all(|count| count.unwrap_or(0) == wanted)
}

/// Whether what the Deployment reports is about its latest spec.
fn is_observed(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    observed.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn inside(status: &mut TenantControlPlaneStatus, tcp: &TenantControlPlane, inside: &Inside, now: Timestamp) {
    let Some(checksum) = &inside.checksum else { return };
    let previous = status.kubeadm_phase.take().unwrap_or_default().bootstrap_token;
    let changed = previous.checksum.as_ref() != Some(checksum);
    status.kubeadm_phase = Some(KubeadmPhaseStatus {
        bootstrap_token: BootstrapTokenStatus {
            checksum: Some(checksum.clone()),
            last_update: stamp(changed, previous.last_update, now),
        },
    });
    let addons: &mut AddonsStatus = status.addons.get_or_insert_default();
    let addon = |previous: Option<AddonStatus>, enabled: bool| {
        if previous.is_none() && !enabled {
            return None;
        }
        let changed = previous.as_ref().map(|previous| previous.enabled) != Some(enabled);
        Some(AddonStatus {
            enabled,
            last_update: stamp(changed, previous.and_then(|addon| addon.last_update), now),
        })
    };
    addons.core_dns = addon(addons.core_dns.take(), tcp.spec.addons.core_dns.is_some());
    addons.kube_proxy = addon(addons.kube_proxy.take(), tcp.spec.addons.kube_proxy.is_some());
}

/// One verdict: status, reason, message.
type Verdict = (&'static str, String, String);

fn conditions(
    tcp: &TenantControlPlane,
    status: &TenantControlPlaneStatus,
    before: &[Condition],
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> Vec<Condition> {
    let phase = status.phase();
    let mut verdicts: Vec<(&'static str, Option<Verdict>)> = Vec::new();
    let mut complete = true;
    for work in WORK {
        let stop = outcome.stops.iter().find(|stop| stop.condition == work);
        complete = complete && stop.is_none();
        let verdict = match stop {
            Some(stop) => Some(("False", stop.reason.to_owned(), stop.message.clone())),
            None if complete => Some(done(tcp, work, status, outcome)),
            // Not looked at to its end in this pass: what was known still stands.
            None => None,
        };
        verdicts.push((work, verdict));
    }
    let configured = verdicts.iter().any(|(work, verdict)| {
        *work == CONFIGURED
            && match verdict {
                Some((holds, ..)) => *holds == "True",
                None => before
                    .iter()
                    .any(|condition| condition.type_ == CONFIGURED && condition.status == "True"),
            }
    });
    let ready = match (phase, outcome.stops.first()) {
        (Some(Phase::Ready | Phase::WriteLimited), _) if configured => {
            let reason = phase.map(Phase::as_str).unwrap_or_default();
            (
                "True",
                reason.to_owned(),
                "the API server answers and the cluster is set up".to_owned(),
            )
        }
        (_, Some(stop)) => ("False", stop.reason.to_owned(), stop.message.clone()),
        (Some(Phase::Sleeping), None) => (
            "False",
            "Sleeping".to_owned(),
            "spec.controlPlane.deployment.replicas is 0".to_owned(),
        ),
        (phase, None) => {
            let failing = verdicts.iter().find_map(|(_, verdict)| {
                verdict
                    .as_ref()
                    .filter(|(holds, ..)| *holds != "True")
                    .map(|(_, _, message)| message.clone())
            });
            let reason = match phase {
                Some(Phase::Ready | Phase::WriteLimited) => "ClusterNotConfigured",
                // The phase has no better word for it. That pods are replaced is known.
                Some(Phase::Unknown) => "PodsStarting",
                Some(phase) => phase.as_str(),
                None => "Provisioning",
            };
            let message = failing.unwrap_or_else(|| under_way(phase).to_owned());
            ("False", reason.to_owned(), message)
        }
    };
    std::iter::once((READY, Some(ready)))
        .chain(verdicts)
        .filter_map(|(type_, verdict)| {
            let previous = before.iter().find(|condition| condition.type_ == type_);
            let Some((holds, reason, message)) = verdict else {
                return previous.cloned();
            };
            let since = previous.filter(|previous| previous.status == holds);
            Some(Condition {
                type_: type_.to_owned(),
                status: holds.to_owned(),
                reason,
                message,
                observed_generation: tcp.metadata.generation,
                last_transition_time: since.map_or(Time(now), |previous| previous.last_transition_time.clone()),
            })
        })
        .collect()
}

fn done(tcp: &TenantControlPlane, work: &str, status: &TenantControlPlaneStatus, outcome: &Outcome<'_>) -> Verdict {
    let yes = |reason: &str, message: String| ("True", reason.to_owned(), message);
    let no = |reason: &str, message: String| ("False", reason.to_owned(), message);
    match work {
        ACCEPTED => yes("SpecAccepted", "all that the spec asks for is carried out".to_owned()),
        EXPOSED => {
            let message = match &status.control_plane_endpoint {
                Some(endpoint) => format!("the API server is reached at {endpoint}"),
                // What keeps the pass from going on is said elsewhere.
                None => "nothing keeps the API server from having an address".to_owned(),
            };
            yes("AddressKnown", message)
        }
        DATASTORE => {
            let name = outcome.plan.map(|plan| plan.datastore.name.clone()).unwrap_or_default();
            yes(
                "AccountReady",
                format!("the datastore {name} has an account for this control plane"),
            )
        }
        CREDENTIALS => yes("Issued", "all certificates, keys and kubeconfigs are there".to_owned()),
        DEPLOYED => {
            let wanted = tcp.spec.control_plane.deployment.replicas;
            let reported = outcome.deployment.and_then(|deployment| deployment.status.as_ref());
            let ready = reported.and_then(|status| status.ready_replicas).unwrap_or(0);
            if let Some(refused) = outcome.plan.and_then(|plan| plan.version.refused.clone()) {
                return no("UpgradeRefused", refused);
            }
            if wanted == 0 {
                return yes("Sleeping", "no pods are wanted".to_owned());
            }
            if outcome.deployment.is_some_and(settled) {
                return yes("PodsReady", format!("{ready} of {wanted} pods are ready"));
            }
            let failure = reported.and_then(|status| {
                let conditions = status.conditions.iter().flatten();
                conditions
                    .filter(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
                    .find_map(|condition| condition.message.clone())
            });
            match failure {
                Some(failure) => no("PodsRefused", failure),
                None => no("PodsStarting", rollout(wanted, outcome.deployment)),
            }
        }
        _ => {
            let asleep = tcp.spec.control_plane.deployment.replicas == 0;
            match (&outcome.inside.checksum, &outcome.inside.failure) {
                _ if asleep => no("Sleeping", "the API server is asleep".to_owned()),
                (_, Some((reason, message))) => no(reason, shortened(message, MOST_SAID)),
                (Some(_), None) => yes("Configured", "nodes can join and the add-ons are installed".to_owned()),
                (None, None) => no("AwaitingApiServer", "the API server does not answer yet".to_owned()),
            }
        }
    }
}

/// What is under way when nothing is known to be amiss.
fn under_way(phase: Option<Phase>) -> &'static str {
    match phase {
        Some(Phase::Migrating) => "the data moves to another DataStore",
        Some(Phase::CertificateAuthorityRotating) => "the certificate authority was replaced, and the pods follow",
        Some(Phase::Upgrading) => "the pods are replaced by those of another version",
        _ => "the pods are not ready yet",
    }
}

/// How far the pods are from what is wanted. Ready ones of an earlier template are counted apart: all of them may be ready
/// while none is wanted.
fn rollout(wanted: i32, deployment: Option<&Deployment>) -> String {
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    let count = |of: fn(&DeploymentStatus) -> Option<i32>| status.and_then(of).unwrap_or(0);
    let (ready, all) = (count(|it| it.ready_replicas), count(|it| it.replicas));
    if !deployment.is_some_and(is_observed) {
        return format!(
            "the latest change has not reached the pods yet; of {wanted} that are wanted {ready} are ready"
        );
    }
    let new = count(|it| it.updated_replicas);
    let old = match all - new {
        ..=0 => String::new(),
        old => format!(", {old} of the earlier kind have to go"),
    };
    format!("{new} of {wanted} pods are of the wanted kind, {ready} of {all} are ready{old}")
}

/// Whether the pods are such that the API server can be asked.
pub fn answers(status: &TenantControlPlaneStatus) -> bool {
    let deployment = status
        .kubernetes_resources
        .as_ref()
        .and_then(|resources| resources.deployment.as_ref());
    let ready = deployment
        .and_then(|deployment| deployment.status.ready_replicas)
        .unwrap_or(0);
    ready > 0 && status.phase() != Some(Phase::Sleeping)
}

/// Checksum of a ConfigMap's data, for the status.
pub fn config_map_checksum(data: Option<&BTreeMap<String, String>>) -> String {
    identity::checksum(data.into_iter().flatten())
}

#[cfg(test)]
mod tests;
