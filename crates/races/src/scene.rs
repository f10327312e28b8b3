//! One race's tenant, namespaces and limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::capsule::v1beta2::QuantityLedger;
use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::Size;
use crate::bed::{Bed, eventually, resource};
use crate::clients::Tally;
use crate::race::Race;
use crate::witness::Witness;

const IN_FORCE_WITHIN: Duration = Duration::from_secs(120);
/// Requests at once that ask whether a limit is in force: enough that each replica gets some.
const ASKED_AT_ONCE: usize = 8;

pub(crate) struct Scene {
    pub(crate) race: Race,
    pub(crate) tenant: String,
    owner: Client,
    admin: Client,
    /// None where namespaces are what is raced for.
    pub(crate) namespaces: Vec<String>,
    pub(crate) clients: usize,
    pub(crate) limit: i64,
    pub(crate) witness: Witness,
    /// Of all its clients, so far.
    tally: Mutex<Tally>,
}

/// What ledgers say of a scene, by what has a limit of its own.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// As counted last.
    pub(crate) used: BTreeMap<String, i64>,
    /// On top of that: to requests on their way, or that were lost. Every ledger has its entry here.
    pub(crate) promised: BTreeMap<String, i64>,
}

impl Scene {
    /// Makes it, and returns when the limit is in force everywhere.
    pub(crate) async fn set(bed: &Bed, race: Race, size: &Size) -> anyhow::Result<Self> {
        static SCENES: AtomicUsize = AtomicUsize::new(0);
        let tenant = format!("{}-{}", race.name(), SCENES.fetch_add(1, Ordering::Relaxed));
        let clients = race.clients(size.clients);
        let limit = race.limit(clients, size.namespaces);
        let owner = format!("owner-of-{tenant}");
        let of_namespace = |index: usize| format!("{tenant}-ns-{index}");
        let namespaces = match race {
            Race::Namespaces => Vec::new(),
            _ => (0..size.namespaces).map(of_namespace).collect(),
        };
        let scene = Self {
            race,
            owner: bed.client_of(&owner).await?,
            admin: bed.admin.clone(),
            witness: Witness::start(&bed.admin, race, &tenant),
            tenant,
            namespaces,
            clients,
            limit,
            tally: Mutex::default(),
        };
        scene.make(&owner).await?;
        let what = format!("the limit of {} is in force", scene.tenant);
        eventually(&what, IN_FORCE_WITHIN, async || scene.is_in_force().await).await?;
        Ok(scene)
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, owner: &str) -> anyhow::Result<()> {
        let mut spec = self.race.tenant(self.limit);
        spec["owners"] = json!([{"kind": "User", "name": owner}]);
        let (kind, name) = (tenants(), &self.tenant);
        let tenant =
            json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec});
        let tenants: Api<DynamicObject> = Api::all_with(self.admin.clone(), &kind);
        let tenant: DynamicObject = serde_json::from_value(tenant)?;
        eventually("the tenant", IN_FORCE_WITHIN, async || {
            tenants.create(&PostParams::default(), &tenant).await?;
            Ok(())
        })
        .await?;
        // Nobody would ever limit a namespace that was made before the hooks were there.
        let what = format!("the hooks of {}", self.tenant);
        eventually(&what, IN_FORCE_WITHIN, async || {
            let tried = self.make_namespace(&format!("{}-tried", self.tenant), true).await?;
            let tenant = tried.labels().get("capsule.clastix.io/tenant");
            ensure!(tenant == Some(&self.tenant), "it would be a namespace of {tenant:?}");
            Ok(())
        })
        .await?;
        for name in &self.namespaces {
            eventually(name, IN_FORCE_WITHIN, async || self.make_namespace(name, false).await).await?;
        }
        for (kind, quota) in self.race.quotas(&self.tenant, &self.namespaces, self.limit) {
            let quota: DynamicObject = serde_json::from_value(quota)?;
            let quotas = api(&kind, &self.admin, quota.metadata.namespace.as_deref());
            quotas
                .create(&PostParams::default(), &quota)
                .await
                .with_context(|| format!("failed to make {} {}", kind.kind, self.tenant))?;
        }
        Ok(())
    }

    /// As the owner does.
    async fn make_namespace(&self, name: &str, dry_run: bool) -> anyhow::Result<DynamicObject> {
        let namespaces = api(&resource("v1", "Namespace", "namespaces"), &self.owner, None);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        Ok(namespaces.create(&params, &serde_json::from_value(namespace)?).await?)
    }

    /// An error, if somebody does not know of the limit yet.
    async fn is_in_force(&self) -> anyhow::Result<()> {
        if self.race == Race::Pool {
            let pools = api(
                &resource("capsule.clastix.io/v1beta2", "ResourcePool", "resourcepools"),
                &self.admin,
                None,
            );
            let pool = pools.get(&self.tenant).await?;
            ensure!(is_ready(&pool), "{pool:?}");
        }
        for _ in 0..2 {
            for namespace in 0..self.namespaces.len().max(1) {
                if let Some(words) = self.race.refusal() {
                    for answer in self.ask(namespace, &self.race.huge(&self.tenant)).await {
                        let said = answer.err().context("what is too large passed")?.to_string();
                        ensure!(words.iter().all(|word| said.contains(word)), "{said}");
                    }
                }
                for answer in self.ask(namespace, &self.race.object(&self.tenant, "small", 1)).await {
                    answer?;
                }
            }
        }
        Ok(())
    }

    /// What is said to so many at once who would make this. Nothing is made.
    async fn ask(&self, namespace: usize, object: &Value) -> Vec<Result<DynamicObject, kube::Error>> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let api = self.made(namespace);
        let ask = async || {
            let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
            api.create(&params, &object).await
        };
        join_all((0..ASKED_AT_ONCE).map(|_| ask())).await
    }

    /// What the owner makes, in one of the namespaces.
    pub(crate) fn made(&self, namespace: usize) -> Api<DynamicObject> {
        let namespace = (!self.namespaces.is_empty()).then(|| &self.namespaces[namespace % self.namespaces.len()]);
        api(&self.race.made(), &self.owner, namespace.map(String::as_str))
    }

    /// What has a limit of its own: each namespace, or all together, which has no name.
    pub(crate) fn groups(&self) -> Vec<String> {
        if self.race.is_of_a_namespace() {
            self.namespaces.clone()
        } else {
            vec![String::new()]
        }
    }

    /// What has no ledger, and has to have one.
    pub(crate) fn without_ledger(&self, account: &Account) -> Vec<String> {
        let groups = if self.race.has_ledgers() {
            self.groups()
        } else {
            Vec::new()
        };
        let missing = groups.into_iter();
        missing.filter(|group| !account.promised.contains_key(group)).collect()
    }

    pub(crate) async fn account(&self) -> anyhow::Result<Account> {
        let ledgers: Api<QuantityLedger> = Api::all(self.admin.clone());
        let mut account = Account::default();
        for ledger in ledgers.list(&ListParams::default()).await? {
            if ledger.spec.target_ref.name != self.tenant {
                continue;
            }
            let group = if self.race.is_of_a_namespace() {
                ledger.namespace().unwrap_or_default()
            } else {
                String::new()
            };
            let status = ledger.status.clone().unwrap_or_default();
            if self.race == Race::Namespaces {
                // It has all places together, and the promise of one that is taken until somebody counts.
                let promises = status.reservations.iter();
                let lost = promises.filter(|promise| !self.witness.has(&promise.object_ref.uid));
                account.promised.insert(group, i64::try_from(lost.count())?);
                continue;
            }
            let (used, promised) = if let Some(several) = &status.resource_quota {
                (number(several.used.get("pods")), number(several.reserved.get("pods")))
            } else {
                let promised = number(status.reserved.as_ref());
                (number(status.allocated.as_ref()) - promised, promised)
            };
            account.used.insert(group.clone(), used);
            account.promised.insert(group, promised);
        }
        Ok(account)
    }

    /// Takes everything away. Nobody waits for the namespaces.
    pub(crate) async fn strike(&self) -> anyhow::Result<()> {
        let now = DeleteParams::background();
        for (kind, quota) in self.race.quotas(&self.tenant, &self.namespaces, self.limit) {
            let namespace = quota["metadata"]["namespace"].as_str();
            let quotas = api(&kind, &self.admin, namespace);
            quotas.delete(&self.tenant, &now).await?;
        }
        api(&tenants(), &self.admin, None).delete(&self.tenant, &now).await?;
        Ok(())
    }
}

fn api(kind: &ApiResource, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
        None => Api::all_with(client.clone(), kind),
    }
}

fn tenants() -> ApiResource {
    resource("capsule.clastix.io/v1beta2", "Tenant", "tenants")
}

fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Amounts here are small and whole.
fn number(quantity: Option<&Quantity>) -> i64 {
    quantity
        .and_then(|quantity| quantity.0.parse().ok())
        .unwrap_or_default()
}
