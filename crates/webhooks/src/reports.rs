//! Reports of what audited limits let pass: a ConfigMap of each tenant in the operator's own namespace.
//!
//! Not in the tenant's namespaces: there it could be deleted, forged or taken beforehand, and would count in the tenant's quota.
//! It ends with the Tenant, whose UID it carries.
//!
//! An answer never waits for one. Findings go through a queue; what does not fit into it is dropped. Every replica adds what
//! it has counted to what is there, with the version that was read, and not before some seconds after it wrote last.
//! When nothing passes, nothing is written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::capsule::names;
use api::capsule::v1beta2::Tenant;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use runtime::report::{chain, is_conflict};
use tenancy::audit::report::{Finding, Report};
use tenancy::linkage;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How many findings wait to be counted.
const QUEUE: usize = 4096;
/// Between two rounds of writing.
const PACE: Duration = Duration::from_secs(5);
/// The report's name, before that of the tenant.
const PREFIX: &str = "cotenant-audit-";
/// On every report, for selectors.
const LABEL: (&str, &str) = ("cotenant.dev/audit", "report");

/// Where findings are put. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    /// `None`: nobody writes them.
    queue: Option<mpsc::Sender<(Arc<Tenant>, Finding)>>,
}

impl Reports {
    /// Begins to write into this namespace. Must be called inside a tokio runtime; ends with the last clone.
    pub(crate) fn start(client: &Client, namespace: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(keep(Api::namespaced(client.clone(), namespace), receiver));
        Self { queue: Some(sender) }
    }

    /// Counts a request that passed.
    pub(crate) fn add(&self, tenant: Arc<Tenant>, finding: Finding) {
        if let Some(queue) = &self.queue
            && queue.try_send((tenant, finding)).is_err()
        {
            tracing::debug!("a finding was dropped, because too many wait to be counted");
        }
    }
}

/// What was counted of tenants and is not written yet, by their UIDs.
type Counted = HashMap<String, (Arc<Tenant>, Report)>;

async fn keep(reports: Api<ConfigMap>, mut findings: mpsc::Receiver<(Arc<Tenant>, Finding)>) {
    let mut counted = Counted::new();
    let mut due = Instant::now();
    loop {
        tokio::select! {
            next = findings.recv() => {
                let Some((tenant, finding)) = next else { return };
                let (_, report) = counted.entry(tenant.uid().unwrap_or_default()).or_insert((tenant, Report::default()));
                report.add(&finding);
            }
            () = tokio::time::sleep_until(due), if !counted.is_empty() => {
                write_all(&reports, &mut counted).await;
                due = Instant::now() + PACE;
            }
        }
    }
}

/// Writes all that was counted. What could not be written stays, and its size is bounded.
async fn write_all(reports: &Api<ConfigMap>, counted: &mut Counted) {
    for (uid, (tenant, report)) in std::mem::take(counted) {
        match write(reports, &tenant, &report).await {
            Ok(()) => {}
            Err(error) => {
                if !is_conflict(&error) {
                    let tenant = tenant.name_any();
                    tracing::warn!(
                        tenant,
                        error = chain(&error),
                        "the report of what passed was not written"
                    );
                }
                counted.insert(uid, (tenant, report));
            }
        }
    }
}

async fn write(reports: &Api<ConfigMap>, tenant: &Tenant, counted: &Report) -> Result<(), kube::Error> {
    let name = format!("{PREFIX}{}", tenant.name_any());
    let params = PostParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let Some(current) = reports.get_opt(&name).await? else {
        let report = object(&name, tenant, counted, None);
        return reports.create(&params, &report).await.map(drop);
    };
    let mut report = match &current.data {
        Some(data) if is_of(&current, tenant) => Report::read(data),
        // Of an earlier tenant of the name.
        _ => Report::default(),
    };
    report.merge(counted.clone());
    let report = object(&name, tenant, &report, current.resource_version());
    reports.replace(&name, &params, &report).await.map(drop)
}

fn is_of(report: &ConfigMap, tenant: &Tenant) -> bool {
    let mut owners = report.owner_references().iter();
    owners.any(|owner| linkage::is_tenant(owner) && Some(&owner.uid) == tenant.metadata.uid.as_ref())
}

fn object(name: &str, tenant: &Tenant, report: &Report, version: Option<String>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
            owner_references: Some(vec![linkage::owner_reference(tenant)]),
            resource_version: version,
            ..ObjectMeta::default()
        },
        data: Some(report.render()),
        ..ConfigMap::default()
    }
}
