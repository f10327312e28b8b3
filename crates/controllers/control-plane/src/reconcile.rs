//! One pass over one control plane.
//!
//! Read [`Pass::run`] first: it is the table of contents. A pass does as much as it can, remembers how far it came, and
//! always reports that in the status, also when it failed. Nothing depends on what triggered it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::kamaji::names::{DATASTORE_FINALIZER, DATASTORE_SECRET_FINALIZER, PAUSED_ANNOTATION, SOOT_FINALIZER};
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane, TenantControlPlaneStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use runtime::report::is_not_found;
use runtime::{Action, Report};
use serde_json::json;
use tenancy::control_plane::{effective, not_yet, storage};

use crate::apply::{self, FIELD_MANAGER};
use crate::datastore::etcd::{Claim, EtcdStore, Unrecorded};
use crate::desired::identity;
use crate::desired::secrets::{self, Clock};
use crate::desired::{self, Account, Hosted, Plan, Waiting, exposure, service};
use crate::error::Error;
use crate::observe::{self, Observed, datastore_name};
use crate::status::{self, Inside, Outcome};
use crate::store::Resolved;
use crate::tenant_side::Wanted;
use crate::{Context, Key};

/// How long a pass may take. A request without an answer would hold up a worker for ever.
const PASS_WITHIN: Duration = Duration::from_secs(30);

/// Looks at one control plane and does what is to be done.
pub(crate) async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let tcp = ctx.watches.control_planes.get(Some(&key.namespace), &key.name);
    ctx.forget_gone(&key, tcp.as_deref());
    let Some(tcp) = tcp else {
        return Ok(Action::AwaitChange);
    };
    if tcp.annotations().contains_key(PAUSED_ANNOTATION) {
        ctx.tenants.pause(&tcp);
        return Ok(Action::AwaitChange);
    }
    let now = Timestamp::now();
    let mut pass = Pass::new(&ctx, &tcp, now);
    let deleting = tcp.metadata.deletion_timestamp.is_some();
    let work = async {
        if deleting {
            Box::pin(pass.delete()).await
        } else {
            Box::pin(pass.run()).await
        }
    };
    let result = tokio::time::timeout(PASS_WITHIN, work)
        .await
        .unwrap_or(Err(Error::TimedOut(PASS_WITHIN)));
    let (stopped, result) = match result {
        Ok(Progress::Deleted) => return Ok(Action::AwaitChange),
        Ok(Progress::Complete) => (None, Ok(())),
        Ok(Progress::Waiting(waiting)) => (Some(waiting), Ok(())),
        Err(error) => {
            let message = error.for_people();
            (
                Some(Waiting {
                    condition: pass.step,
                    reason: error.category(),
                    message,
                }),
                Err(error),
            )
        }
    };
    let status = status::of(&tcp, &pass.outcome(stopped.clone()), now);
    let status = if pass.look_inside(&key, &status) {
        status::of(&tcp, &pass.outcome(stopped.clone()), now)
    } else {
        status
    };
    let published = publish(&ctx, &tcp, &status).await;
    announce(&ctx, &tcp, stopped.as_ref(), published.as_ref().ok()).await;
    result?;
    published?;
    Ok(pass.next_look(now))
}

/// How a pass ended.
enum Progress {
    Complete,
    Waiting(Waiting),
    /// The object is gone or about to be; there is no status to write.
    Deleted,
}

/// What a pass has done so far.
struct Pass<'a> {
    ctx: &'a Context,
    tcp: &'a TenantControlPlane,
    now: Timestamp,
    /// The condition of the work that is being done.
    step: &'static str,
    service: Option<Service>,
    deployment: Option<Deployment>,
    plan: Option<Plan>,
    checksums: BTreeMap<&'static str, String>,
    kubeadm_config: Option<String>,
    account_ready: bool,
    authority_replaced: bool,
    next_renewal: Option<Timestamp>,
    wanted_inside: Option<Wanted>,
}

impl<'a> Pass<'a> {
    fn new(ctx: &'a Context, tcp: &'a TenantControlPlane, now: Timestamp) -> Self {
        Self {
            ctx,
            tcp,
            now,
            step: status::ACCEPTED,
            service: None,
            deployment: None,
            plan: None,
            checksums: BTreeMap::new(),
            kubeadm_config: None,
            account_ready: false,
            authority_replaced: false,
            next_renewal: None,
            wanted_inside: None,
        }
    }

    async fn run(&mut self) -> Result<Progress, Error> {
        let ctx = self.ctx;
        if let Some(refusal) = self.refusal() {
            return Ok(Progress::Waiting(refusal));
        }
        self.step = status::EXPOSED;
        self.add_finalizer().await?;
        let observed = observe::observe(&ctx.client, &ctx.watches, self.tcp, &ctx.admin_networks).await?;
        self.deployment = observed.deployment.as_deref().cloned();

        let address = match self.expose(&observed).await? {
            Ok(address) => address,
            Err(waiting) => return Ok(Progress::Waiting(waiting)),
        };
        self.step = status::DATASTORE;
        let datastore = match self.datastore().await? {
            Ok(datastore) => datastore,
            Err(waiting) => return Ok(Progress::Waiting(waiting)),
        };
        self.account(&datastore).await?;

        self.step = status::CREDENTIALS;
        let nodes: Vec<_> = observed.nodes.iter().map(AsRef::as_ref).collect();
        let exposure = exposure::exposure(self.tcp, address, observed.services.iter().map(AsRef::as_ref), &nodes);
        let version = desired::version(
            &self.tcp.spec.kubernetes.version,
            self.tcp
                .status
                .as_ref()
                .and_then(TenantControlPlaneStatus::installed_version),
        );
        let hosted = Hosted::new(self.tcp, version.run, exposure, datastore.facts.clone(), ctx.gogc);
        let clock = Clock {
            now: self.now,
            renewal_window: ctx.renewal_window,
        };
        let (plan, objects) = desired::plan(
            &hosted,
            version.refused,
            &observed.secrets,
            Some(datastore.authority.clone()),
            &observed.admin,
            &observed.dns_labels,
            clock,
        )?;
        self.write_secrets(&plan, &objects, &observed).await?;
        self.checksums.clone_from(&objects.checksums);
        self.next_renewal = objects.next_renewal;
        self.wanted_inside = Wanted::new(&hosted, &objects, self.service.as_ref());
        self.plan = Some(plan);

        self.step = status::DEPLOYED;
        // The policy first: no pod runs without it.
        let (memory, client) = (&ctx.memory, &ctx.client);
        apply::object(
            client,
            memory,
            self.tcp,
            observed.network_policy.as_deref(),
            &objects.network_policy,
        )
        .await?;
        let (config_map, _) = apply::object(
            client,
            memory,
            self.tcp,
            observed.config_map.as_deref(),
            &objects.kubeadm_config,
        )
        .await?;
        self.kubeadm_config = Some(status::config_map_checksum(config_map.data.as_ref()));
        let (deployment, _) = apply::object(
            client,
            memory,
            self.tcp,
            observed.deployment.as_deref(),
            &objects.deployment,
        )
        .await?;
        self.deployment = Some(deployment);
        Ok(Progress::Complete)
    }

    /// A refused spec changes nothing; what runs already is reported on.
    fn refusal(&mut self) -> Option<Waiting> {
        let watches = &self.ctx.watches;
        let refusal = desired::refusal(self.tcp, &observe::own_secrets(watches, self.tcp), &self.ctx.trust)?;
        let running = watches
            .deployments
            .get(self.tcp.namespace().as_deref(), &self.tcp.name_any());
        self.deployment = running.as_deref().cloned();
        Some(refusal)
    }

    async fn add_finalizer(&self) -> Result<(), Error> {
        if self
            .tcp
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == DATASTORE_FINALIZER)
        {
            return Ok(());
        }
        let mut finalizers = self.tcp.finalizers().to_vec();
        finalizers.push(DATASTORE_FINALIZER.to_owned());
        self.write_finalizers(&finalizers).await
    }

    /// With the version that was read, so that finalizers of others are neither lost nor brought back.
    async fn write_finalizers(&self, finalizers: &[String]) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "resourceVersion": self.tcp.resource_version(),
            "finalizers": finalizers,
        }});
        let api = self.api();
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api
            .patch(&self.tcp.name_any(), &parameters, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) && self.tcp.metadata.deletion_timestamp.is_some() => Ok(()),
            Err(source) => Err(Error::Publish {
                what: "finalizers",
                source,
            }),
        }
    }

    fn api(&self) -> Api<TenantControlPlane> {
        Api::namespaced(self.ctx.client.clone(), &self.tcp.namespace().unwrap_or_default())
    }

    /// The Service, and the address that it gives or that the spec gives it.
    async fn expose(&mut self, observed: &Observed) -> Result<Result<String, Waiting>, Error> {
        let known = exposure::address(self.tcp, observed.service.as_deref());
        let wanted = service::service(self.tcp, known.as_deref().ok());
        let live = observed.service.as_deref();
        let (written, _) = apply::object(&self.ctx.client, &self.ctx.memory, self.tcp, live, &wanted).await?;
        let address = exposure::address(self.tcp, Some(&written));
        self.service = Some(written);
        Ok(address)
    }

    /// The datastore with its credentials, or why there is none yet.
    async fn datastore(&self) -> Result<Result<Arc<Resolved>, Waiting>, Error> {
        let wait = |reason, message: String| Ok(Err(Waiting::datastore(reason, message)));
        let Some(name) = datastore_name(self.tcp, self.ctx.default_datastore.as_deref()) else {
            return wait(
                "DataStoreUnset",
                "spec.dataStore names no DataStore and the operator has no default one".to_owned(),
            );
        };
        let recorded = self.tcp.status.as_ref().and_then(|status| status.storage.as_ref());
        if let Some(current) = recorded.and_then(|storage| storage.data_store_name.as_deref())
            && current != name
        {
            return wait(
                "MigrationNotServed",
                format!("the data is in the DataStore {current}; moving it to {name} is not served by this version"),
            );
        }
        let Some(datastore) = self.ctx.watches.datastores.get(None, name) else {
            return wait("DataStoreMissing", format!("the DataStore {name} does not exist"));
        };
        if let Some(message) = not_yet::driver(datastore.spec.driver) {
            return wait("DriverNotServed", format!("the DataStore {name}: {message}"));
        }
        if !datastore.status.as_ref().is_some_and(|status| status.ready) {
            return wait(
                "DataStoreNotReady",
                format!("the DataStore {name} is not ready: see its conditions"),
            );
        }
        Ok(Ok(self.resolve(&datastore).await?))
    }

    async fn resolve(&self, datastore: &DataStore) -> Result<Arc<Resolved>, Error> {
        let services = self.ctx.watches.services.store().state();
        self.ctx.stores.resolve(&self.ctx.client, &services, datastore).await
    }

    /// The account in the store. Its names are put on record before anything is made there, because deletion drops
    /// what is on record and nothing else; and a store that does not answer leaves no record.
    async fn account(&mut self, datastore: &Resolved) -> Result<(), Error> {
        let account = Account::of(self.tcp);
        let setup = self
            .tcp
            .status
            .as_ref()
            .and_then(|status| status.storage.as_ref()?.setup.as_ref());
        let recorded = setup.is_some_and(|setup| setup.schema.is_some() && setup.user.is_some());
        let done = setup.is_some_and(|setup| setup.checksum.is_some());
        if done && self.ctx.tenants.has_account(self.tcp, &datastore.facts, &account) {
            self.account_ready = true;
            return Ok(());
        }
        if !recorded {
            self.refuse_taken_names(datastore)?;
        }
        let failed = |source| Error::Datastore {
            datastore: datastore.facts.name.clone(),
            source,
        };
        let mut store = EtcdStore::connect(&datastore.login).await.map_err(failed)?;
        if !recorded {
            publish(self.ctx, self.tcp, &status::claim(self.tcp, &account, &datastore.facts)).await?;
        }
        let unrecorded = self.unrecorded(&account, &datastore.facts.name);
        store.ensure(&self.claim(&account), unrecorded).await.map_err(failed)?;
        self.ctx.tenants.remember_account(self.tcp, &datastore.facts, &account);
        self.account_ready = true;
        Ok(())
    }

    fn claim(&self, account: &Account) -> Claim {
        Claim {
            schema: account.schema.clone(),
            user: account.user.clone(),
            owner: self.tcp.metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// Admission has asked the same. It is asked again because this is where one control plane would get the data of
    /// another.
    fn refuse_taken_names(&self, datastore: &Resolved) -> Result<(), Error> {
        let others = self.ctx.watches.control_planes.store().state();
        let stores = self.ctx.watches.datastores.store().state();
        let denials = storage::names(self.tcp, &others, &stores, self.ctx.default_datastore.as_deref());
        match denials.into_iter().next() {
            None => Ok(()),
            Some(denial) => Err(Error::NamesRefused {
                datastore: datastore.facts.name.clone(),
                message: denial.message,
            }),
        }
    }

    async fn write_secrets(
        &mut self,
        plan: &Plan,
        objects: &desired::Objects,
        observed: &Observed,
    ) -> Result<(), Error> {
        for ((recipe, data), decided) in objects.secrets.iter().zip(&plan.secrets) {
            let old = observed.secrets.get(&recipe.name);
            if let Some(old) = old {
                apply::may_take_secret(self.tcp, old)?;
            }
            let owned = old.is_some_and(|old| apply::is_owned(self.tcp, old));
            if decided.action == secrets::Action::Keep && owned {
                continue;
            }
            if recipe.component == "ca" && old.is_some() && matches!(decided.action, secrets::Action::Issue(_)) {
                self.authority_replaced = true;
            }
            apply::write_secret(&self.ctx.client, self.tcp, recipe, data, old, self.now).await?;
            if let secrets::Action::Issue(reason) = &decided.action {
                tracing::info!(object.r#ref = %Self::reference(self.tcp), secret = recipe.name, ?reason, "issued a secret");
            }
        }
        Ok(())
    }

    fn reference(tcp: &TenantControlPlane) -> String {
        format!("{}/{}", tcp.namespace().unwrap_or_default(), tcp.name_any())
    }

    /// Frees what is in the datastore, then lets the object go. Pods and Secrets are collected through their owner.
    async fn delete(&mut self) -> Result<Progress, Error> {
        self.step = status::DATASTORE;
        self.ctx.tenants.stop(self.tcp);
        let ours = |finalizer: &String| finalizer == DATASTORE_FINALIZER || finalizer == SOOT_FINALIZER;
        if !self.tcp.finalizers().iter().any(ours) {
            return Ok(Progress::Deleted);
        }
        let storage = self.tcp.status.as_ref().and_then(|status| status.storage.as_ref());
        let setup = storage.and_then(|storage| storage.setup.as_ref());
        if let Some((schema, user)) = setup.and_then(|setup| setup.schema.clone().zip(setup.user.clone())) {
            let account = Account { schema, user };
            let name = storage.and_then(|storage| storage.data_store_name.as_deref());
            let name = name.or_else(|| datastore_name(self.tcp, self.ctx.default_datastore.as_deref()));
            if let Err(waiting) = self.free(&account, name.unwrap_or_default()).await? {
                return Ok(Progress::Waiting(waiting));
            }
        }
        self.release_secret().await?;
        let kept: Vec<String> = self
            .tcp
            .finalizers()
            .iter()
            .filter(|finalizer| !ours(finalizer))
            .cloned()
            .collect();
        self.write_finalizers(&kept).await?;
        self.ctx
            .memory
            .forget(self.tcp.metadata.uid.as_deref().unwrap_or_default());
        Ok(Progress::Deleted)
    }

    async fn free(&self, account: &Account, name: &str) -> Result<Result<(), Waiting>, Error> {
        let Some(datastore) = self.ctx.watches.datastores.get(None, name) else {
            let message = format!(
                "the data of this control plane is in the DataStore {name}, which does not exist; make it again, or give \
                 the data up by removing the finalizer {DATASTORE_FINALIZER}"
            );
            return Ok(Err(Waiting::datastore("DataStoreMissing", message)));
        };
        if let Some(other) = self.shares_names(account) {
            let message = format!(
                "the names of this control plane in the DataStore {name} are on record for {other} too; nothing is \
                 deleted until that is put right"
            );
            return Ok(Err(Waiting::datastore("NamesShared", message)));
        }
        let resolved = self.resolve(&datastore).await?;
        let failed = |source| Error::Datastore {
            datastore: name.to_owned(),
            source,
        };
        let mut store = EtcdStore::connect(&resolved.login).await.map_err(failed)?;
        store
            .remove(&self.claim(account), self.unrecorded(account, name))
            .await
            .map_err(failed)?;
        Ok(Ok(()))
    }

    /// Names that the store has no owner for are ours only if our status said before this pass that all was set up in
    /// this very store, which is another operator's work that we take over, and if nobody else's status says the same.
    fn unrecorded(&self, account: &Account, datastore: &str) -> Unrecorded {
        if status::was_set_up(self.tcp, account, datastore) && self.shares_names(account).is_none() {
            Unrecorded::Adopt
        } else {
            Unrecorded::Refuse
        }
    }

    /// Another control plane that has the same names on record, or such that contain or lie within ours.
    fn shares_names(&self, account: &Account) -> Option<String> {
        let others = self.ctx.watches.control_planes.store().state();
        let sharing = others.iter().find(|other| {
            other.metadata.uid != self.tcp.metadata.uid
                && other.status.as_ref().is_some_and(|status| {
                    let setup = status.storage.as_ref().and_then(|storage| storage.setup.as_ref());
                    setup.is_some_and(|setup| setup.schema.is_some())
                })
                && (effective::schema(other).is_some_and(|schema| storage::schemas_collide(schema, &account.schema))
                    || effective::user(other).is_some_and(|user| storage::users_collide(user, &account.user)))
        });
        sharing.map(|other| Self::reference(other))
    }

    /// Takes our finalizer off the Secret with the store's credentials, which are needed no more.
    async fn release_secret(&self) -> Result<(), Error> {
        let name = format!("{}-datastore-config", self.tcp.name_any());
        let api: Api<Secret> = Api::namespaced(self.ctx.client.clone(), &self.tcp.namespace().unwrap_or_default());
        let failed = |source| Error::Apply {
            kind: "Secret",
            name: name.clone(),
            source,
        };
        let Some(secret) = api.get_opt(&name).await.map_err(failed)? else {
            return Ok(());
        };
        if identity::ownership(self.tcp, &secret.metadata) == identity::Ownership::Foreign
            || !secret
                .finalizers()
                .iter()
                .any(|finalizer| finalizer == DATASTORE_SECRET_FINALIZER)
        {
            return Ok(());
        }
        let kept: Vec<&String> = secret
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != DATASTORE_SECRET_FINALIZER)
            .collect();
        let patch = json!({"metadata": {"resourceVersion": secret.resource_version(), "finalizers": kept}});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch(&name, &parameters, &Patch::Merge(&patch)).await {
            Err(error) if !is_not_found(&error) => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Tells the other controller what is wanted, or that the API server is not to be asked. Gives whether what is known
    /// of the inside was forgotten.
    fn look_inside(&mut self, key: &Key, status: &TenantControlPlaneStatus) -> bool {
        if self.tcp.metadata.deletion_timestamp.is_some() || !status::answers(status) {
            let known = self.ctx.tenants.inside(self.tcp) != Inside::default();
            self.ctx.tenants.stop(self.tcp);
            return known;
        }
        if self
            .wanted_inside
            .take()
            .is_some_and(|wanted| self.ctx.tenants.want(self.tcp, wanted))
        {
            self.ctx.inside_queue.enqueue(key.clone());
        }
        false
    }

    fn outcome(&self, stopped: Option<Waiting>) -> Outcome<'_> {
        Outcome {
            service: self.service.as_ref(),
            deployment: self.deployment.as_ref(),
            plan: self.plan.as_ref(),
            checksums: self.checksums.clone(),
            kubeadm_config: self.kubeadm_config.clone(),
            account_ready: self.account_ready,
            authority_replaced: self.authority_replaced,
            inside: self.ctx.tenants.inside(self.tcp),
            stopped,
        }
    }

    /// When something is due by the clock alone.
    fn next_look(&self, now: Timestamp) -> Action {
        let Some(renewal) = self.next_renewal else {
            return Action::AwaitChange;
        };
        let wait = renewal.duration_since(now);
        let wait = Duration::try_from(wait).unwrap_or_default();
        Action::RequeueAfter(wait.clamp(Duration::from_secs(60), LONGEST_WAIT))
    }
}

/// Timers are not trusted for months.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 3600);

/// Writes the status if it differs from the one that is known.
async fn publish(
    ctx: &Context,
    tcp: &TenantControlPlane,
    status: &TenantControlPlaneStatus,
) -> Result<TenantControlPlaneStatus, Error> {
    if tcp.status.as_ref() == Some(status) {
        return Ok(status.clone());
    }
    let api: Api<TenantControlPlane> = Api::namespaced(ctx.client.clone(), &tcp.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1",
        "kind": "TenantControlPlane",
        // The UID makes sure that a new object of the same name does not get the status of the old one.
        "metadata": {"name": tcp.name_any(), "uid": tcp.metadata.uid},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api
        .patch_status(&tcp.name_any(), &parameters, &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(status.clone()),
        Err(error) if is_not_found(&error) => Ok(status.clone()),
        Err(source) => Err(Error::Publish { what: "status", source }),
    }
}

/// Events for people who look with `kubectl describe`: what stops a control plane, and its changes of phase.
async fn announce(
    ctx: &Context,
    tcp: &TenantControlPlane,
    stopped: Option<&Waiting>,
    published: Option<&TenantControlPlaneStatus>,
) {
    if let Some(stopped) = stopped {
        ctx.events
            .warning(tcp, stopped.reason, "Reconcile", &stopped.message)
            .await;
    }
    let before = tcp.status.as_ref().and_then(TenantControlPlaneStatus::phase);
    let after = published.and_then(TenantControlPlaneStatus::phase);
    if let Some(after) = after.filter(|after| before != Some(*after)) {
        let note = format!("the control plane is now {}", after.as_str());
        ctx.events.normal(tcp, after.as_str(), "Reconcile", &note).await;
    }
}
