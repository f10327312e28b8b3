//! The controllers of namespace tenants.
//!
//! **Watches** Tenants, TenantOwners, Namespaces and the CapsuleConfiguration (shared with the webhooks), the role bindings, quotas, limit
//! ranges and network policies that carry our label (as records, see [`owned`]), and classes. **Decides** per tenant,
//! from memory alone, what each of its namespaces should hold ([`desired`]). **Writes** only differences: one
//! create or server-side apply per object, one merge patch per namespace, one status per tenant.
//!
//! A reconcile looks at one tenant with all its namespaces, because quotas are shared between them and because the status is
//! the tenant's. Everything that happens to a tenant within a few milliseconds is one reconcile. When nothing differs,
//! nothing is requested from the API server, not even a read.
//!
//! Identity is the UID throughout: an owner reference with another UID is somebody else's, and deletions carry the UID of what
//! was looked at.
//!
//! Unlike the peer, nothing is ever stripped of its finalizers: a namespace that cannot end stays, and the tenant's status
//! says what it waits for.

pub mod apply;
mod budgets;
pub mod classes;
mod configuration;
pub mod desired;
pub mod error;
mod explain;
pub mod metrics;
mod object_metadata;
pub mod observe;
pub mod owned;
mod owners;
mod pace;
mod rule_quotas;
mod rule_status;
pub mod status;
mod takeover;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::capsule::names;
use api::capsule::v1beta2::{
    CapsuleConfiguration, CapsuleConfigurationSpec, QuantityLedger, RuleStatus, Tenant, TenantOwner, TenantStatus,
};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use runtime::events::Recorder;
use runtime::report::{is_conflict, is_not_found};
use runtime::shared::Change;
use runtime::{Action, Controller, Queue, Report, Shared, Shutdown};
use serde_json::json;

use apply::Writer;
use budgets::Budgets;
use classes::Classes;
use configuration::Configuration;
use desired::{Observed, Plan, SpacePlan};
use object_metadata::ObjectMetadata;
use observe::{Membership, Written};
use owned::Owned;
use owners::OwnerStatuses;
use pace::Pace;
use rule_quotas::RuleQuotas;
use rule_status::RuleStatuses;
use status::Outcome;
use tenancy::role_sources;
use tenancy::settings::Settings;

pub use configuration::{GRACE as CONFIGURATION_GRACE, Grants, grants};
pub use error::Error;
pub use explain::explain;

/// Tenants reconciled at a time. Requests are bounded separately, over all of them.
const CONCURRENCY: usize = 8;
const PROMOTED: &str = "owner.projectcapsule.dev/promote=true";
const PROMOTABLE: &str = "projectcapsule.dev/promote=true";
/// While a store has not caught up with our own write.
const CATCH_UP: Duration = Duration::from_millis(100);
/// While namespaces of a deleted tenant go away, in case the last one's end is missed.
const DELETION_RECHECK: Duration = Duration::from_secs(30);

/// What the controllers work with. The watches are shared with whoever else needs them.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    /// The operator's own namespace, where ledgers are.
    pub namespace: String,
    /// Name of the CapsuleConfiguration that is read.
    pub configuration_name: String,
    /// How long it may be missing before it is made; [`CONFIGURATION_GRACE`], but in tests.
    pub configuration_grace: Duration,
    /// Secret of the webhooks' certificate, for a CapsuleConfiguration that has to be made.
    pub tls_secret: String,
    pub tenants: Shared<Tenant>,
    pub tenant_owners: Shared<TenantOwner>,
    pub namespaces: Shared<Namespace>,
    pub configurations: Shared<CapsuleConfiguration>,
    pub quantity_ledgers: Shared<QuantityLedger>,
    pub classes: Classes,
    pub registry: runtime::metrics::Registry,
    /// Of all controllers of the process.
    pub metrics: runtime::controller::Metrics,
    pub recorder: Recorder,
    pub shutdown: Shutdown,
}

/// Drops from a namespace what no controller or rule reads.
pub fn trim_namespace(namespace: &mut Namespace) {
    namespace.annotations_mut().remove(names::LAST_APPLIED);
}

/// Drops from a tenant what no controller or rule reads.
pub fn trim_tenant(tenant: &mut Tenant) {
    tenant.annotations_mut().remove(names::LAST_APPLIED);
}

/// Runs both controllers until the shutdown. Only the holder of the lease may call it.
///
/// # Errors
/// When a watch ends before its first list is complete, which the shutdown causes as well.
pub async fn run(context: Context) -> Result<(), Error> {
    let (owned, membership, queue) = (Owned::default(), Membership::default(), Queue::<String>::new());
    let writer = Writer::new(
        context.client.clone(),
        owned.clone(),
        metrics::Writes::register(&context.registry),
    );
    context.registry.register_collector(Box::new(metrics::Tenants {
        tenants: context.tenants.store(),
        tenant_owners: context.tenant_owners.store(),
        configurations: context.configurations.store(),
        membership: membership.clone(),
        owned: owned.clone(),
    }));

    let (client, shutdown) = (&context.client, &context.shutdown);
    let listed = [
        watches::follow::<RoleBinding>(client, &owned, &queue, shutdown),
        watches::follow::<ResourceQuota>(client, &owned, &queue, shutdown),
        watches::follow::<LimitRange>(client, &owned, &queue, shutdown),
        watches::follow::<NetworkPolicy>(client, &owned, &queue, shutdown),
        watches::follow::<RuleStatus>(client, &owned, &queue, shutdown),
    ];
    let (accounts, promotable) = (labelled(&context, PROMOTED), labelled(&context, PROMOTABLE));
    let configuration = Configuration::start(&context, &writer, &membership, &accounts);
    let rule_statuses = RuleStatuses::start(&context, &writer);
    for mut kind in listed {
        kind.wait_for(|listed| *listed)
            .await
            .map_err(|_| Error::WatchEnded("what is kept in namespaces"))?;
    }
    everything_is_listed(&context, [&accounts, &promotable]).await?;

    // Namespaces before tenants: the first look at a tenant should see all of its namespaces.
    for namespace in context.namespaces.store().state() {
        membership.note(&Change::Applied(namespace));
    }
    let objects = ObjectMetadata::new(&context, &writer, &membership);
    follow_namespaces(&context, &queue, &membership, &objects);
    context.tenants.trigger(&queue, |change| [change.object().name_any()]);
    for accounts in [&accounts, &promotable] {
        let index = membership.clone();
        accounts.trigger(&queue, move |change| {
            index.tenant_of(&change.object().namespace().unwrap_or_default())
        });
    }
    owners::wake_tenants(&context, &queue);
    let budgets = Budgets::new(&context);
    budgets.trigger(&queue);
    everybody_on(&context, &queue);

    let runner = Controller::new("tenants", &context.metrics).concurrency(CONCURRENCY);
    let configuration_runner = Controller::new("configuration", &context.metrics);
    let (owners, owners_runner) = (
        OwnerStatuses::new(&context, &writer),
        Controller::new("tenant-owners", &context.metrics),
    );
    let objects_runner = Controller::new("object-metadata", &context.metrics);
    let rule_status_runner = Controller::new("rule-status", &context.metrics).concurrency(CONCURRENCY);
    let (rule_quotas, rule_quotas_runner) = (
        RuleQuotas::start(&context),
        Controller::new("rule-quotas", &context.metrics),
    );
    let tenants = Arc::new(Tenants {
        context: context.clone(),
        owned,
        membership,
        accounts,
        promotable,
        writer,
        budgets,
        written: Written::default(),
        pace: Pace::default(),
        settings: Mutex::default(),
    });
    let reconcile = move |name: String| {
        let tenants = tenants.clone();
        async move { tenants.reconcile(&name).await }
    };
    tokio::join!(
        runner.run(queue, context.shutdown.clone(), reconcile),
        configuration.run(configuration_runner, context.shutdown.clone()),
        owners.run(owners_runner, context.shutdown.clone()),
        objects.run(objects_runner, context.shutdown.clone()),
        rule_statuses.run(rule_status_runner, context.shutdown.clone()),
        rule_quotas.run(rule_quotas_runner, context.shutdown.clone()),
    );
    Ok(())
}

/// Waits for the first lists of what decisions are made from.
async fn everything_is_listed(context: &Context, accounts: [&Shared<ServiceAccount>; 2]) -> Result<(), Error> {
    if !(context.tenants.ready().await && context.namespaces.ready().await && context.configurations.ready().await) {
        return Err(Error::WatchEnded("tenants"));
    }
    if !context.tenant_owners.ready().await {
        return Err(Error::WatchEnded("TenantOwners"));
    }
    for accounts in accounts {
        if !accounts.ready().await {
            return Err(Error::WatchEnded("ServiceAccounts"));
        }
    }
    if !context.quantity_ledgers.ready().await {
        return Err(Error::WatchEnded("QuantityLedgers"));
    }
    if !context.classes.ready().await {
        return Err(Error::WatchEnded("classes"));
    }
    Ok(())
}

/// Keeps the membership up to date, and looks again at the tenants that a namespace concerns.
fn follow_namespaces(context: &Context, queue: &Queue<String>, membership: &Membership, objects: &ObjectMetadata) {
    let (index, objects) = (membership.clone(), objects.clone());
    context.namespaces.trigger(queue, move |change| {
        let name = change.object().name_any();
        let before = index.owner_of(&name);
        let concerned = index.note(change);
        if index.owner_of(&name) != before {
            objects.namespace_moved(&name);
        }
        concerned
    });
}

/// What concerns every tenant: the configuration's administrators and roles, and the classes that exist.
fn everybody_on(context: &Context, queue: &Queue<String>) {
    let (store, name) = (context.tenants.store(), context.configuration_name.clone());
    let all = move || store.state().iter().map(|tenant| tenant.name_any()).collect::<Vec<_>>();
    context.classes.trigger(queue, all.clone());
    let mut last = None;
    context.configurations.trigger(queue, move |change| {
        if change.object().name_any() != name {
            return Vec::new();
        }
        let heeded = heeded(change);
        if last == heeded {
            return Vec::new();
        }
        last = heeded;
        all()
    });
}

/// What tenants heed of the configuration, while there is one. Its status names every tenant and every tenant user, so each that
/// comes or goes changes it, and that is no reason to look at the others.
fn heeded(change: &Change<CapsuleConfiguration>) -> Option<CapsuleConfigurationSpec> {
    match change {
        Change::Applied(configuration) => Some(configuration.spec.clone()),
        Change::Deleted(_) => None,
    }
}

/// ServiceAccounts that a label promotes.
fn labelled(context: &Context, selector: &str) -> Shared<ServiceAccount> {
    let selected = watcher::Config::default().labels(selector);
    let only_labels = |account: &mut ServiceAccount| {
        // Whatever else is in them is the tenants' to write, and nobody here reads it.
        *account = ServiceAccount {
            metadata: std::mem::take(&mut account.metadata),
            ..ServiceAccount::default()
        };
        account.metadata.annotations = None;
        account.metadata.owner_references = None;
    };
    Shared::start(
        Api::all(context.client.clone()),
        selected,
        only_labels,
        &context.shutdown,
    )
}

struct Tenants {
    context: Context,
    owned: Owned,
    membership: Membership,
    accounts: Shared<ServiceAccount>,
    /// Those that rules may promote.
    promotable: Shared<ServiceAccount>,
    writer: Writer,
    /// What the namespaces share.
    budgets: Budgets,
    written: Written,
    pace: Pace,
    /// The configuration as decisions use it, with the version that it was made from.
    settings: Mutex<Option<(Option<String>, Arc<Settings>)>>,
}

impl Tenants {
    async fn reconcile(&self, name: &str) -> Result<Action, Error> {
        // A tenant that is gone takes what it controlled with it, by the API server's garbage collection.
        let Some(tenant) = self.context.tenants.get(None, name) else {
            self.budgets.forget(name);
            return Ok(Action::AwaitChange);
        };
        if !self.written.is_current(&*tenant) {
            return Ok(Action::RequeueAfter(CATCH_UP));
        }
        let observed = self.observe(&tenant);
        let mut plan = desired::plan(&tenant, &observed, &self.owned);
        let budgets = self.budgets.look(&tenant, &observed);
        Budgets::hold(&budgets, &tenant, &observed, &mut plan);
        if let Some(first) = status::first(&tenant, &plan, Timestamp::now()) {
            self.publish(&tenant, &first).await?;
        }
        let (outcome, failed) = self.carry_out(&tenant, &observed, &plan).await;
        // After the limits: what is free by the ledger is free in its namespace.
        let counted = self.budgets.keep(&tenant, &budgets).await;
        // The API server removes a tenant together with its last finalizer, and its status with it.
        let ends = tenant.metadata.deletion_timestamp.is_some() && plan.spaces.is_empty();
        let status = status::of(&tenant, &plan, &outcome, Timestamp::now());
        let mut action = if plan.deletions.is_empty() {
            Action::AwaitChange
        } else {
            Action::RequeueAfter(DELETION_RECHECK)
        };
        if !ends && tenant.status.as_ref() != Some(&status) {
            let uid = tenant.uid().unwrap_or_default();
            let (before, busy) = (tenant.status.as_ref(), self.writer.is_busy());
            if let Some(wait) = self.pace.wait(&uid, before, &status, busy) {
                action = action.or(Action::RequeueAfter(wait));
            } else {
                self.tell(&tenant, &status).await;
                self.publish(&tenant, &status).await?;
            }
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        let action = action.or(counted?);
        Ok(if observed.behind.is_empty() {
            action
        } else {
            action.or(Action::RequeueAfter(CATCH_UP))
        })
    }

    fn settings(&self) -> Arc<Settings> {
        let configuration = self.context.configurations.get(None, &self.context.configuration_name);
        let version = configuration
            .as_ref()
            .and_then(|configuration| configuration.resource_version());
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, settings)) if *of == version => settings.clone(),
            _ => {
                // Which user the operator is matters to admission alone.
                let settings = Arc::new(Settings::new(configuration.as_deref(), "", ""));
                *known = Some((version, settings.clone()));
                settings
            }
        }
    }

    /// From memory alone.
    fn observe(&self, tenant: &Tenant) -> Observed {
        let uid = tenant.uid().unwrap_or_default();
        let mut observed = Observed {
            settings: self.settings(),
            promoted: Vec::new(),
            promotable: Vec::new(),
            tenant_owners: self.context.tenant_owners.store().state(),
            namespaces: Vec::new(),
            behind: BTreeSet::new(),
            records: BTreeMap::new(),
            classes: self.context.classes.existing(),
        };
        for name in self.membership.of_tenant(&uid) {
            let Some(namespace) = self.context.namespaces.get(None, &name) else {
                continue;
            };
            if !self.written.is_current(&*namespace) {
                observed.behind.insert(name.to_string());
            }
            observed.namespaces.push(namespace);
            observed
                .records
                .insert(name.to_string(), self.owned.in_namespace(&name));
        }
        let places: BTreeSet<&str> = observed
            .namespaces
            .iter()
            .filter_map(|it| it.metadata.name.as_deref())
            .collect();
        observed.promoted = observe::promoted(&self.accounts, |namespace| places.contains(namespace));
        observed.promotable = observe::within(&self.promotable, |namespace| places.contains(namespace));
        for name in self.owned.namespaces_of(&uid) {
            observed
                .records
                .entry(name.to_string())
                .or_insert_with(|| self.owned.in_namespace(&name));
        }
        observed
    }

    /// All steps, whatever becomes of the others, and what failed: in words by namespace, and as one error for the runner.
    async fn carry_out(&self, tenant: &Tenant, observed: &Observed, plan: &Plan) -> (Outcome, Option<Error>) {
        let mut steps = FuturesUnordered::new();
        if let Some(patch) = &plan.tenant {
            steps.push(self.patch_tenant(tenant, patch).map(|result| (None, result)).boxed());
        }
        for space in &plan.spaces {
            let place = || Some(space.name.clone());
            if let Some(patch) = &space.patch {
                steps.push(
                    self.patch_namespace(space, patch)
                        .map(move |result| (place(), result))
                        .boxed(),
                );
            }
            for object in &space.applies {
                steps.push(
                    self.writer
                        .keep(&space.name, object)
                        .map(move |result| (place(), result))
                        .boxed(),
                );
            }
            for removal in &space.removals {
                steps.push(self.remove(removal).map(move |result| (place(), result)).boxed());
            }
        }
        for removal in &plan.strays {
            steps.push(self.remove(removal).map(|result| (None, result)).boxed());
        }
        for (name, uid) in &plan.deletions {
            let deletion = self.writer.delete_namespace(name, uid);
            steps.push(deletion.map(move |result| (Some(name.clone()), result)).boxed());
        }
        let mut outcome = Outcome {
            failures: plan.problems.iter().map(|problem| (None, problem.clone())).collect(),
        };
        for space in &plan.spaces {
            let problems = space.problems.iter().cloned();
            let place = || Some(space.name.clone());
            outcome.failures.extend(problems.map(|problem| (place(), problem)));
        }
        let mut errors = Vec::new();
        while let Some((namespace, result)) = steps.next().await {
            if let Err(error) = result {
                outcome.failures.push((namespace, told(&error, tenant, observed)));
                errors.push(error);
            }
        }
        outcome.failures.sort();
        let (failed, transient) = (errors.len(), errors.iter().any(Report::is_transient));
        let error = errors.into_iter().next().map(|first| Error::Steps {
            tenant: tenant.name_any(),
            failed,
            all: plan.steps(),
            transient,
            first: Box::new(first),
        });
        (outcome, error)
    }

    async fn remove(&self, removal: &desired::Removal) -> Result<(), Error> {
        self.writer
            .prune(&removal.namespace, removal.kind, &removal.name, &removal.uid)
            .await
    }

    async fn patch_namespace(&self, space: &SpacePlan, patch: &serde_json::Value) -> Result<(), Error> {
        if let Some(answer) = self.writer.patch_namespace(&space.name, patch).await? {
            self.written.note(&answer);
        }
        Ok(())
    }

    async fn patch_tenant(&self, tenant: &Tenant, patch: &serde_json::Value) -> Result<(), Error> {
        let name = tenant.name_any();
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self
            .writer
            .patch_cluster_wide::<Tenant, _>("patch", &name, &params, &Patch::Merge(patch))
            .await
        {
            Ok(answer) => {
                self.written.note(&answer);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(Error::UpdateTenant { name, source }),
        }
    }

    async fn publish(&self, tenant: &Tenant, status: &TenantStatus) -> Result<(), Error> {
        let name = tenant.name_any();
        let body = json!({
            "apiVersion": names::API_VERSION, "kind": names::TENANT_KIND,
            "metadata": {"name": name, "uid": tenant.uid()}, "status": status,
        });
        let api: Api<Tenant> = Api::all(self.context.client.clone());
        match self.writer.publish(&api, &name, &body).await {
            Ok(answer) => {
                self.written.note(&answer);
                Ok(())
            }
            // It went away meanwhile, or another one of its name is there: nobody is left to tell.
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(source) => Err(Error::PublishStatus {
                kind: names::TENANT_KIND,
                name,
                source,
            }),
        }
    }

    /// Events for what people want to notice: freezing and thawing, and a failure that is news.
    async fn tell(&self, tenant: &Tenant, status: &TenantStatus) {
        let before = |kind: &str| {
            tenant
                .status
                .iter()
                .flat_map(|s| &s.conditions)
                .find(|c| c.type_ == kind)
        };
        for condition in &status.conditions {
            let old = before(&condition.type_);
            let turned = old.is_some_and(|old| old.status != condition.status);
            let recorder = &self.context.recorder;
            match (condition.type_.as_str(), condition.status.as_str()) {
                (names::CORDONED_CONDITION, "True") if turned || old.is_none() => {
                    recorder
                        .normal(tenant, "Cordoned", "Cordoned", "Tenant has been cordoned")
                        .await;
                }
                (names::CORDONED_CONDITION, "False") if turned => {
                    // The reason names the condition, as the peer's does; the action says which way it went.
                    recorder
                        .normal(tenant, "Cordoned", "UnCordoned", "Tenant has been uncordoned")
                        .await;
                }
                (names::READY_CONDITION, "False") if old.is_none_or(|old| old.message != condition.message) => {
                    recorder
                        .warning(tenant, "Failed", "Reconciled", &condition.message)
                        .await;
                }
                _ => {}
            }
        }
    }
}

/// A failed step, in words. Who named a role that is not there, only the tenant and the owners it selects can say.
fn told(error: &Error, tenant: &Tenant, observed: &Observed) -> String {
    let Error::RoleMissing { role, .. } = error else {
        return error.told();
    };
    let places = role_sources::of(tenant, &observed.tenant_owners, &observed.settings, role);
    let named = if places.is_empty() {
        String::new()
    } else {
        format!(", named in {},", places.join(", "))
    };
    format!(
        "ClusterRole {role:?}{named} does not exist: its RoleBindings are not made until it does, or until another role is \
         named; everything else goes on"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_configuration_tenants_heed_what_is_asked() {
        let heeded = |spec: serde_json::Value, status: serde_json::Value| {
            let object = json!({"metadata": {"name": "default"}, "spec": spec, "status": status});
            heeded(&Change::Applied(Arc::new(serde_json::from_value(object).unwrap())))
        };
        let before = heeded(json!({}), json!({"tenants": ["oil"]}));
        assert_eq!(before, heeded(json!({}), json!({"tenants": ["gas", "oil"]})));
        assert_ne!(
            before,
            heeded(json!({"forceTenantPrefix": true}), json!({"tenants": ["oil"]}))
        );
        let users = json!({"tenants": ["oil"], "users": [{"kind": "User", "name": "alice"}]});
        assert_eq!(before, heeded(json!({}), users));
        let gone = serde_json::from_value(json!({"metadata": {"name": "default"}, "spec": {}})).unwrap();
        assert_ne!(before, super::heeded(&Change::Deleted(Arc::new(gone))));
    }
}
