//! One pass over one control plane.
//!
//! Read [`Pass::run`] first: it is the table of contents. A pass does as much as it can, remembers how far it came, and
//! always reports that in the status, also when it failed. Nothing depends on what triggered it.

mod account;
mod deletion;
mod external_ip;
mod fronts;
mod migration;
mod overrides;
mod password;
pub(crate) mod placement;
mod sole;
mod tunnel;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::kamaji::names::{DATASTORE_FINALIZER, PAUSED_ANNOTATION};
use api::kamaji::v1alpha1::{TenantControlPlane, TenantControlPlaneStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use runtime::report::is_not_found;
use runtime::{Action, Report};
use serde_json::json;

pub(crate) use self::external_ip::ADDRESS_TAKEN;
pub(crate) use self::fronts::HOSTNAME_TAKEN;
use self::migration::Moving;
pub(crate) use self::placement::NO_PLACE;
use crate::apply::{self, FIELD_MANAGER, Unowned};
use crate::basis::{Basis, basis};
use crate::desired::identity::{self, Ownership};
use crate::desired::secrets::{self, Clock};
use crate::desired::{self, Hosted, Plan, Surroundings, Waiting, exposure, konnectivity, service};
use crate::error::Error;
use crate::metrics;
use crate::observe::{self, Observed};
use crate::status::{self, Inside, Outcome};
use crate::takeover;
use crate::tenant_side::Wanted;
use crate::{Context, Key};

/// Looks at one control plane and does what is to be done.
pub(crate) async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let tcp = ctx.watches.control_planes.get(Some(&key.namespace), &key.name);
    ctx.forget_gone(&key, tcp.as_deref());
    let Some(tcp) = tcp else {
        return Ok(Action::AwaitChange);
    };
    if tcp.annotations().contains_key(PAUSED_ANNOTATION) {
        ctx.tenants.pause(&tcp);
        ctx.migrations.pause(tcp.metadata.uid.as_deref().unwrap_or_default());
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
    let result = tokio::time::timeout(ctx.pass_within, work)
        .await
        .unwrap_or(Err(Error::TimedOut(ctx.pass_within)));
    match result {
        Ok(Progress::Gone) => return Ok(Action::AwaitChange),
        Ok(Progress::AsFarAsPossible) => {}
        Err(error) => pass.fail(error),
    }
    let status = status::of(&tcp, &pass.outcome(), now);
    let status = if pass.look_inside(&key, &status) {
        status::of(&tcp, &pass.outcome(), now)
    } else {
        status
    };
    let published = publish(&ctx, &tcp, &status).await;
    announce(&ctx, &tcp, &pass.stops, published.as_ref().ok()).await;
    if let Some(error) = pass.error.take() {
        return Err(error);
    }
    published?;
    Ok(pass.next_look(now))
}

/// How a pass ended.
enum Progress {
    /// What kept it from going further is in [`Pass::stops`]; nothing, if it is complete.
    AsFarAsPossible,
    /// The object is gone or about to be; there is no status to write.
    Gone,
}

/// What a pass has done so far.
struct Pass<'a> {
    ctx: &'a Context,
    tcp: &'a TenantControlPlane,
    now: Timestamp,
    /// The condition of the work that is being done.
    step: &'static str,
    /// What could not be done, in the order in which it was tried.
    stops: Vec<Waiting>,
    /// The first of them that was a failure.
    error: Option<Error>,
    service: Option<Service>,
    fronts: Option<status::Fronts>,
    deployment: Option<Deployment>,
    plan: Option<Plan>,
    checksums: BTreeMap<&'static str, String>,
    kubeadm_config: Option<String>,
    egress_selector: Option<String>,
    account_ready: bool,
    authority_replaced: bool,
    /// Whether the data moves from one store to another.
    migrating: bool,
    /// The store from which pods are being led away.
    left: Option<String>,
    next_renewal: Option<Timestamp>,
    /// When something is to be looked at again that nobody tells of.
    look_again: Option<Duration>,
    wanted_inside: Option<Wanted>,
}

impl<'a> Pass<'a> {
    fn new(ctx: &'a Context, tcp: &'a TenantControlPlane, now: Timestamp) -> Self {
        Self {
            ctx,
            tcp,
            now,
            step: status::ACCEPTED,
            stops: Vec::new(),
            error: None,
            service: None,
            fronts: None,
            deployment: None,
            plan: None,
            checksums: BTreeMap::new(),
            kubeadm_config: None,
            egress_selector: None,
            account_ready: false,
            authority_replaced: false,
            migrating: false,
            left: None,
            next_renewal: None,
            look_again: None,
            wanted_inside: None,
        }
    }

    async fn run(&mut self) -> Result<Progress, Error> {
        let ctx = self.ctx;
        if let Some(refusal) = self.refusal() {
            return Ok(self.wait(refusal));
        }
        self.step = status::EXPOSED;
        self.add_finalizer().await?;
        let mut observed = observe::observe(&ctx.client, &ctx.watches, ctx.admin.current(), self.tcp).await?;
        self.deployment = observed.deployment.as_deref().cloned();
        desired::rotation::advance(&self.tcp.name_any(), &mut observed.secrets, self.deployment.as_ref());
        let addressless = self.address_taken();
        self.expose(&observed, addressless.is_none()).await?;
        if let Some(addressless) = addressless {
            return Ok(self.wait(addressless));
        }
        if let Some(nameless) = self.front(&observed).await {
            return Ok(self.wait(nameless));
        }
        if let Some(placing) = self.place().await? {
            return Ok(self.wait(placing));
        }
        let basis = basis(
            self.tcp,
            self.service.as_ref(),
            &observed,
            &ctx.watches,
            |name| ctx.watches.datastores.get(None, name),
            &ctx.stores,
            &ctx.options,
        );
        let Basis {
            mut hosted,
            version,
            datastore,
        } = match basis.await {
            Ok(basis) => basis,
            Err(waiting) => return Ok(self.wait(waiting)),
        };

        // First what the store is not asked for: somebody's hand is undone also while it is down.
        let (access, surrounded) = match Box::pin(self.moving(&datastore, &mut hosted, &observed)).await? {
            Moving::Here(access) => (access, self.surround(&hosted, &observed).await),
            Moving::Unclear => return Ok(Progress::AsFarAsPossible),
            Moving::No => {
                let moved_from = self.moved_from(&hosted.datastore);
                let surrounded = moved_from.is_none() && self.surround(&hosted, &observed).await;
                let setup = self.store(&datastore, &mut hosted, &observed, moved_from);
                let Some(access) = ctx.steps.time("datastore-setup", setup).await else {
                    return Ok(Progress::AsFarAsPossible);
                };
                (access, surrounded)
            }
        };

        let elsewhere = self.store_elsewhere(&hosted, access.as_ref(), &observed).await;

        self.step = status::CREDENTIALS;
        let clock = Clock {
            now: self.now,
            renewal_window: ctx.renewal_window,
        };
        let (plan, objects) = desired::plan(
            &hosted,
            version.refused,
            &observed.secrets,
            access.as_ref(),
            &observed.admin.network,
            clock,
        )?;
        self.write_secrets(&plan, &objects, &observed).await?;
        self.checksums.clone_from(&objects.checksums);
        self.next_renewal = objects.next_renewal;
        self.wanted_inside = Wanted::new(&hosted, &objects, self.service.as_ref());
        self.plan = Some(plan);

        self.step = status::DATASTORE;
        if !self.tell_password(&hosted, &objects, access.is_some()).await? {
            return Ok(Progress::AsFarAsPossible);
        }

        self.step = status::DEPLOYED;
        // No pod runs without its policy.
        if surrounded && elsewhere {
            let deployment = self
                .apply(observed.deployment.as_deref(), &objects.deployment, Unowned::Leave)
                .await?;
            self.deployment = Some(deployment);
            self.lead_over(&hosted, &objects.deployment).await?;
            self.protect(&observed).await;
            self.close_tunnel(&observed).await?;
        }
        Ok(Progress::AsFarAsPossible)
    }

    fn wait(&mut self, waiting: Waiting) -> Progress {
        self.stops.push(waiting);
        Progress::AsFarAsPossible
    }

    fn fail(&mut self, error: Error) {
        self.stops.push(Waiting {
            condition: self.step,
            reason: error.category(),
            message: error.for_people(),
        });
        self.error.get_or_insert(error);
    }

    /// A refused spec changes nothing; what runs already is reported on.
    fn refusal(&mut self) -> Option<Waiting> {
        let watches = &self.ctx.watches;
        let refusal = desired::refusal(self.tcp, &observe::own(watches, self.tcp), &self.ctx.trust)?;
        let running = watches
            .deployments
            .get(self.tcp.namespace().as_deref(), &self.tcp.name_any());
        self.deployment = running.as_deref().cloned();
        Some(refusal)
    }

    async fn apply<K>(&self, live: Option<&K>, wanted: &K, unowned: Unowned) -> Result<K, Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let (client, memory) = (&self.ctx.client, &self.ctx.memory);
        let writing = apply::object(client, memory, self.tcp, live, wanted, unowned);
        let (written, _) = self.ctx.steps.time(metrics::step(wanted), writing).await?;
        Ok(written)
    }

    /// The policy and what kubeadm reads. Gives whether the policy holds.
    async fn surround(&mut self, hosted: &Hosted<'_>, observed: &Observed) -> bool {
        self.step = status::DEPLOYED;
        let Surroundings {
            kubeadm_config,
            network_policy,
            egress_selector,
        } = desired::surroundings(hosted, &observed.admin.network, &observed.dns_labels);
        // Once pods run, what stands at the policy's place and is nobody's has been put there instead of ours. Before that
        // it was there first: an author who may not write policies must not take one away by its name.
        let deployed = observed.deployment.as_ref();
        let unowned = match deployed.map(|deployed| identity::ownership(self.tcp, &deployed.metadata)) {
            Some(Ownership::Ours) => Unowned::TakeBack,
            _ => Unowned::Leave,
        };
        let policy = self
            .apply(observed.network_policy.as_deref(), &network_policy, unowned)
            .await;
        let holds = policy.map_err(|error| self.fail(error)).is_ok();
        match self
            .apply(observed.config_map.as_deref(), &kubeadm_config, Unowned::Leave)
            .await
        {
            Ok(config_map) => self.kubeadm_config = Some(status::config_map_checksum(config_map.data.as_ref())),
            Err(error) => self.fail(error),
        }
        self.open_tunnel(egress_selector.as_ref(), observed).await;
        holds
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

    /// With the external IP that is asked for, if it may be `had`.
    async fn expose(&mut self, observed: &Observed, had: bool) -> Result<(), Error> {
        let known = exposure::address(self.tcp, observed.service.as_deref());
        let live = observed.service.as_deref();
        let target = konnectivity::target_port(self.tcp, observed.deployment.as_deref(), live);
        let wanted = service::service(self.tcp, known.as_deref().ok().filter(|_| had), target);
        self.service = Some(self.apply(live, &wanted, Unowned::Leave).await?);
        Ok(())
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
            let writing = apply::write_secret(&self.ctx.client, self.tcp, recipe, data, old, self.now);
            self.ctx.steps.time(recipe.component, writing).await?;
            if let secrets::Action::Issue(reason) = &decided.action {
                tracing::info!(object.r#ref = %Key::to(self.tcp), secret = recipe.name, ?reason, "issued a secret");
            }
        }
        Ok(())
    }

    /// Tells the other controller what is wanted, or that the API server is not to be asked. Gives whether what is known
    /// of the inside was forgotten.
    fn look_inside(&mut self, key: &Key, status: &TenantControlPlaneStatus) -> bool {
        if self.tcp.metadata.deletion_timestamp.is_some() || !status::answers(status) {
            let known = self.ctx.tenants.inside(self.tcp) != Inside::default();
            self.ctx.tenants.stop(self.tcp);
            return known;
        }
        // Writes may be held up, and what the store is called is news that can wait until it is settled.
        if self.migrating {
            return false;
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

    fn outcome(&self) -> Outcome<'_> {
        Outcome {
            service: self.service.as_ref(),
            fronts: self.fronts.as_ref(),
            deployment: self.deployment.as_ref(),
            plan: self.plan.as_ref(),
            checksums: self.checksums.clone(),
            kubeadm_config: self.kubeadm_config.clone(),
            egress_selector: self.egress_selector.clone(),
            account_ready: self.account_ready,
            authority_replaced: self.authority_replaced,
            migrating: self.migrating,
            inside: self.ctx.tenants.inside(self.tcp),
            stops: &self.stops,
        }
    }

    /// When something is due by the clock alone.
    fn next_look(&self, now: Timestamp) -> Action {
        if let Some(wait) = self.look_again {
            return Action::RequeueAfter(wait);
        }
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
    let applied = api
        .patch_status(&tcp.name_any(), &parameters, &Patch::Apply(&patch))
        .await;
    let published = match applied {
        Ok(answer) => takeover::own_status(&api, answer, status, FIELD_MANAGER).await,
        Err(error) => Err(error),
    };
    match published {
        Ok(()) => Ok(status.clone()),
        Err(error) if is_not_found(&error) => Ok(status.clone()),
        Err(source) => Err(Error::Publish { what: "status", source }),
    }
}

/// Events for people who look with `kubectl describe`: what stops a control plane, and its changes of phase.
async fn announce(
    ctx: &Context,
    tcp: &TenantControlPlane,
    stops: &[Waiting],
    published: Option<&TenantControlPlaneStatus>,
) {
    for stopped in stops {
        let (reason, message) = (stopped.reason, &stopped.message);
        if [placement::PLACED, migration::MIGRATING].contains(&reason) {
            ctx.events.normal(tcp, reason, "Reconcile", message).await;
        } else {
            ctx.events.warning(tcp, reason, "Reconcile", message).await;
        }
    }
    let before = tcp.status.as_ref().and_then(TenantControlPlaneStatus::phase);
    let after = published.and_then(TenantControlPlaneStatus::phase);
    if let Some(after) = after.filter(|after| before != Some(*after)) {
        let note = format!("the control plane is now {}", after.as_str());
        ctx.events.normal(tcp, after.as_str(), "Reconcile", &note).await;
    }
}
