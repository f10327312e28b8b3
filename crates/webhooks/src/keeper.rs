//! Carries the wanted configurations, policies and the conversion of Tenants into the API server and notices when they drift.
//!
//! Two roles, because replicas of two versions may run side by side during a rollout and would otherwise overwrite each
//! other: every replica observes (its readiness and its certificate depend on what is published), and the leader writes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceConversion;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use runtime::Shutdown;
use runtime::report::is_conflict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::configurations::{COMPONENT_LABEL, CREATED_BY};
use crate::rule::Component;
use crate::tls::Publication;
use crate::{definition, reachable};

/// Everything that should be in the API server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    pub mutating: Vec<MutatingWebhookConfiguration>,
    pub validating: Vec<ValidatingWebhookConfiguration>,
    pub policies: Vec<(ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)>,
    /// What marks the objects of tenants, where the API server serves the kind.
    pub labelling: Option<(MutatingAdmissionPolicy, Vec<MutatingAdmissionPolicyBinding>)>,
    /// Who converts Tenants, where they are ours to convert.
    pub conversion: Option<CustomResourceConversion>,
    /// The ClusterRole that all of it ends with. Its UID is read with every pass: one that was made again is another one, and
    /// what names its predecessor is garbage to the API server.
    pub owner_cluster_role: Option<String>,
}

impl Desired {
    fn owned_by(mut self, owner: &OwnerReference) -> Self {
        let owners = || Some(vec![owner.clone()]);
        for configuration in &mut self.mutating {
            configuration.metadata.owner_references = owners();
        }
        for configuration in &mut self.validating {
            configuration.metadata.owner_references = owners();
        }
        for (policy, binding) in &mut self.policies {
            policy.metadata.owner_references = owners();
            binding.metadata.owner_references = owners();
        }
        if let Some((policy, bindings)) = &mut self.labelling {
            policy.metadata.owner_references = owners();
            for binding in bindings {
                binding.metadata.owner_references = owners();
            }
        }
        self
    }
}

/// How often an object that others write at the same time is tried.
const ATTEMPTS: u32 = 5;
/// Kinds that we have named as owner, by API group: this release's choice replaces what another one wrote. As long as one owner
/// is there, the API server deletes nothing.
const OWNERS: [(&str, &str); 2] = [
    ("CapsuleConfiguration", "capsule.clastix.io/"),
    ("ClusterRole", "rbac.authorization.k8s.io/"),
];

/// How often everything is compared when nothing is reported.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {kind} {name}")]
    Read {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("failed to write {kind} {name}")]
    Write {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error(
        "failed to find ClusterRole {name}, which --owner-cluster-role names and hooks and policies are to end with; \
         nothing is written, because nothing would remove it"
    )]
    NoOwner { name: String },
}

impl runtime::Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ReadWebhookConfiguration",
            Self::Write { .. } => "WriteWebhookConfiguration",
            Self::NoOwner { .. } => "OwnerMissing",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => runtime::report::is_transient_kube(source),
            Self::NoOwner { .. } => false,
        }
    }
}

/// Keeps the API server equal to `desired` until the shutdown. Run it on the leader. `converts`: whether Tenants are ours.
pub(crate) async fn keep(
    client: Client,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    converts: bool,
    shutdown: &Shutdown,
) {
    let mut drift = std::pin::pin!(drift(&client, converts));
    loop {
        let wanted = desired.borrow_and_update().clone();
        let wait = match wanted {
            None => LOOK_AGAIN,
            Some(wanted) => match apply(&client, &wanted).await {
                Ok(()) => LOOK_AGAIN,
                Err(error) => {
                    tracing::warn!(
                        error = runtime::report::chain(&error),
                        "webhook configurations were not written"
                    );
                    RETRY
                }
            },
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = desired.changed() => if changed.is_err() { return },
            _ = drift.next() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Tells what is published, whenever that may have changed, until the shutdown.
pub(crate) async fn observe(
    client: Client,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    converts: bool,
    publication: watch::Sender<Option<Publication>>,
    shutdown: &Shutdown,
) {
    let mut drift = std::pin::pin!(drift(&client, converts));
    loop {
        let wanted = desired.borrow_and_update().clone();
        let wait = match wanted {
            None => LOOK_AGAIN,
            Some(wanted) => match published(&client, &wanted).await {
                Ok(bundle) => {
                    publication.send_if_modified(|current| {
                        let changed = current.as_ref().map(|p| &p.bundle) != bundle.as_ref();
                        if changed {
                            *current = bundle.map(|bundle| Publication {
                                bundle,
                                since: Timestamp::now(),
                            });
                        }
                        changed
                    });
                    LOOK_AGAIN
                }
                Err(error) => {
                    tracing::warn!(
                        error = runtime::report::chain(&error),
                        "webhook configurations were not read"
                    );
                    RETRY
                }
            },
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = desired.changed() => if changed.is_err() { return },
            _ = drift.next() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The bundle that every hook of ours and the conversion carry in the API server, if it is the same in all of them.
async fn published(client: &Client, desired: &Desired) -> Result<Option<String>, Error> {
    let mut bundles: Vec<Option<ByteString>> = Vec::new();
    let mut take = |config: WebhookClientConfig| bundles.push(config.ca_bundle);
    for configuration in &desired.mutating {
        let Some(live) = read(
            &Api::<MutatingWebhookConfiguration>::all(client.clone()),
            &configuration.name_any(),
        )
        .await?
        else {
            return Ok(None);
        };
        live.webhooks
            .into_iter()
            .flatten()
            .for_each(|hook| take(hook.client_config));
    }
    for configuration in &desired.validating {
        let Some(live) = read(
            &Api::<ValidatingWebhookConfiguration>::all(client.clone()),
            &configuration.name_any(),
        )
        .await?
        else {
            return Ok(None);
        };
        live.webhooks
            .into_iter()
            .flatten()
            .for_each(|hook| take(hook.client_config));
    }
    if desired.conversion.is_some()
        && let Some(live) = definition::published(client).await?
    {
        let config = live.webhook.and_then(|webhook| webhook.client_config);
        bundles.push(config.and_then(|config| config.ca_bundle));
    }
    let Some(first) = bundles.first().cloned().flatten() else {
        return Ok(None);
    };
    let same = bundles.iter().all(|bundle| bundle.as_ref() == Some(&first));
    Ok(same.then(|| String::from_utf8_lossy(&first.0).into_owned()))
}

/// One pass over everything. Writes only what differs; a second pass writes nothing.
pub async fn apply(client: &Client, desired: &Desired) -> Result<(), Error> {
    let owned;
    let desired = match &desired.owner_cluster_role {
        None => desired,
        Some(name) => {
            owned = desired.clone().owned_by(&cluster_role(client, name).await?);
            &owned
        }
    };
    // The policies first: they hold by themselves, hooks need us to be there.
    for (policy, binding) in &desired.policies {
        ensure(client, policy, |it| &mut it.spec).await?;
        ensure(client, binding, |it| &mut it.spec).await?;
    }
    wait_for_replicas(client, desired).await?;
    for configuration in &desired.validating {
        ensure(client, configuration, |it| &mut it.webhooks).await?;
    }
    for configuration in &desired.mutating {
        ensure(client, configuration, |it| &mut it.webhooks).await?;
    }
    if let Some((policy, bindings)) = &desired.labelling {
        match label(client, policy, bindings).await {
            // Clusters before 1.36.
            Err(Error::Write { source, .. }) if runtime::report::is_not_found(&source) => {}
            written => written?,
        }
    }
    prune(client, &desired.validating).await?;
    prune(client, &desired.mutating).await?;
    // Last: tenants are guarded also where somebody forgot to let us write this.
    match &desired.conversion {
        Some(conversion) => definition::ensure(client, conversion).await,
        None => Ok(()),
    }
}

/// Until the hooks can be answered, if some are about to be registered for the first time. Those that are there already guard
/// tenants as they are and are put right at once.
async fn wait_for_replicas(client: &Client, desired: &Desired) -> Result<(), Error> {
    for configuration in &desired.validating {
        if read(
            &Api::<ValidatingWebhookConfiguration>::all(client.clone()),
            &configuration.name_any(),
        )
        .await?
        .is_some()
        {
            continue;
        }
        if let Some(hook) = configuration.webhooks.iter().flatten().next() {
            reachable::wait(client, &hook.client_config).await;
        }
    }
    Ok(())
}

async fn label(
    client: &Client,
    policy: &MutatingAdmissionPolicy,
    bindings: &[MutatingAdmissionPolicyBinding],
) -> Result<(), Error> {
    ensure(client, policy, |it| &mut it.spec).await?;
    for binding in bindings {
        ensure(client, binding, |it| &mut it.spec).await?;
    }
    Ok(())
}

/// A reference to this ClusterRole as it is now. Whoever deletes it uninstalls us: hooks that were written after that would
/// stay behind.
async fn cluster_role(client: &Client, name: &str) -> Result<OwnerReference, Error> {
    let found = Api::<ClusterRole>::all(client.clone()).get_metadata_opt(name).await;
    let found = found.map_err(|source| Error::Read {
        kind: "ClusterRole".to_owned(),
        name: name.to_owned(),
        source,
    })?;
    found
        .filter(|role| role.metadata.deletion_timestamp.is_none())
        .and_then(|role| role.owner_ref(&()))
        .ok_or_else(|| Error::NoOwner { name: name.to_owned() })
}

/// The live owners with ours put right; those of others stay.
fn owners(live: &[OwnerReference], wanted: &[OwnerReference]) -> Vec<OwnerReference> {
    let is_ours = |owner: &OwnerReference| {
        OWNERS
            .iter()
            .any(|(kind, group)| owner.kind == *kind && owner.api_version.starts_with(group))
    };
    let mut owners = live.to_vec();
    if !wanted.is_empty() {
        owners.retain(|owner| wanted.contains(owner) || !is_ours(owner));
        owners.extend(wanted.iter().filter(|owner| !live.contains(owner)).cloned());
    }
    owners
}

/// Creates the object, or gives the live one the wanted content. Labels, annotations and owners of others stay.
async fn ensure<K, C>(client: &Client, wanted: &K, content: impl Fn(&mut K) -> &mut C) -> Result<(), Error>
where
    C: Clone + PartialEq,
    K: Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let (api, name) = (Api::<K>::all(client.clone()), wanted.name_any());
    let params = PostParams::default();
    let mut wanted = wanted.clone();
    for attempt in 1.. {
        let written = match read(&api, &name).await? {
            None => api.create(&params, &wanted).await,
            Some(mut live) => {
                let mut next = live.clone();
                content(&mut next).clone_from(content(&mut wanted));
                next.labels_mut().extend(wanted.labels().clone());
                next.annotations_mut().extend(wanted.annotations().clone());
                *next.owner_references_mut() = owners(live.owner_references(), wanted.owner_references());
                let same_metadata = next.labels() == live.labels()
                    && next.annotations() == live.annotations()
                    && next.owner_references() == live.owner_references();
                if same_metadata && content(&mut next) == content(&mut live) {
                    return Ok(());
                }
                api.replace(&name, &params, &next).await
            }
        };
        match written {
            Ok(_) => break,
            // API servers write the status of policies; what somebody else made or wrote just now is looked at again.
            Err(error) if is_conflict(&error) && attempt < ATTEMPTS => {}
            Err(source) => {
                return Err(Error::Write {
                    kind: K::kind(&()).into_owned(),
                    name,
                    source,
                });
            }
        }
    }
    tracing::info!(object.ref = %format!("{}/{name}", K::kind(&())), "admission was configured");
    Ok(())
}

async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    api.get_opt(name).await.map_err(|source| Error::Read {
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source,
    })
}

/// Removes configurations that carry our mark under a name that is no longer wanted (the name is a setting), or that a
/// predecessor with the same mark left behind. Only configurations of namespace tenants are named by a setting.
async fn prune<K>(client: &Client, wanted: &[K]) -> Result<(), Error>
where
    K: Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let ours = Component::NamespaceTenants.as_str();
    if !wanted.iter().any(|kept| {
        kept.labels()
            .get(COMPONENT_LABEL)
            .is_some_and(|component| component == ours)
    }) {
        return Ok(());
    }
    let api = Api::<K>::all(client.clone());
    let kind = K::kind(&()).into_owned();
    let marked = ListParams::default().labels(&format!(
        "{}={},{COMPONENT_LABEL} notin ({})",
        CREATED_BY.0,
        CREATED_BY.1,
        Component::ControlPlanes.as_str()
    ));
    let found = api.list_metadata(&marked).await.map_err(|source| Error::Read {
        kind: kind.clone(),
        name: "with our mark".to_owned(),
        source,
    })?;
    for extra in found.items {
        if !wanted.iter().any(|kept| kept.name_any() == extra.name_any()) {
            remove(&api, &extra).await?;
        }
    }
    Ok(())
}

/// Deletes exactly what was listed. What has been made again under the name since, or has lost our mark, is another matter:
/// the change wakes the next pass, which looks at it afresh.
async fn remove<K>(api: &Api<K>, listed: &PartialObjectMeta<K>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()), listed.name_any());
    let as_listed = DeleteParams::default().preconditions(Preconditions {
        uid: listed.uid(),
        resource_version: listed.resource_version(),
    });
    match api.delete(&name, &as_listed).await {
        Ok(_) => {
            tracing::info!(object.ref = %format!("{kind}/{name}"), "an earlier webhook configuration was removed");
            Ok(())
        }
        Err(source) if runtime::report::is_not_found(&source) || runtime::report::is_conflict(&source) => Ok(()),
        Err(source) => Err(Error::Write {
            kind: kind.into_owned(),
            name,
            source,
        }),
    }
}

/// A tick for every change of an object with our mark, and of the definition of Tenants if we convert them, whoever made it.
fn drift(client: &Client, converts: bool) -> impl Stream<Item = ()> + use<> {
    fn changes<K>(client: &Client) -> stream::BoxStream<'static, ()>
    where
        K: Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()> + Clone + Debug + Send + 'static,
    {
        let marked = watcher::Config::default().labels(&format!("{}={}", CREATED_BY.0, CREATED_BY.1));
        watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), marked)
            .default_backoff()
            .map(drop)
            .boxed()
    }
    let definition = converts.then(|| definition::drift(client));
    let marked = [
        changes::<MutatingWebhookConfiguration>(client),
        changes::<ValidatingWebhookConfiguration>(client),
        changes::<ValidatingAdmissionPolicy>(client),
        changes::<ValidatingAdmissionPolicyBinding>(client),
    ];
    stream::select_all(marked.into_iter().chain(definition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(api: &str, kind: &str, name: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: api.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }
    }

    #[test]
    fn owners_of_an_earlier_choice_are_replaced_and_those_of_others_stay() {
        let configuration = owner("capsule.clastix.io/v1beta2", "CapsuleConfiguration", "default", "1");
        let role = owner("rbac.authorization.k8s.io/v1", "ClusterRole", "cotenant:operator", "2");
        let role_again = OwnerReference {
            uid: "3".to_owned(),
            ..role.clone()
        };
        let other = owner("example.com/v1", "ClusterRole", "theirs", "4");
        let one = std::slice::from_ref::<OwnerReference>;

        assert_eq!(owners(&[], one(&role)), one(&role));
        let live = [configuration.clone(), other.clone()];
        assert_eq!(owners(&live, one(&role)), [other.clone(), role.clone()]);
        let live = [role.clone(), other.clone()];
        assert_eq!(owners(&live, one(&role_again)), [other.clone(), role_again]);
        assert_eq!(owners(&live, one(&configuration)), [other.clone(), configuration]);
        // Equal: nothing to write. Nothing wanted: nothing is taken away.
        assert_eq!(owners(&live, one(&role)), live);
        assert_eq!(owners(&live, &[]), live);
    }

    #[tokio::test]
    async fn only_what_was_listed_is_removed() {
        let client = testbed::ApiServer::shared().await.client().await;
        let api = Api::<ValidatingWebhookConfiguration>::all(client);
        let name = testbed::unique("earlier");
        let create = async || {
            let mut object = ValidatingWebhookConfiguration::default();
            object.metadata.name = Some(name.clone());
            api.create(&PostParams::default(), &object).await.expect("created")
        };
        let listed = async || api.get_metadata(&name).await.expect("there");

        // Somebody deletes it and makes it again between our list and our delete.
        create().await;
        let earlier = listed().await;
        api.delete(&name, &DeleteParams::default()).await.expect("deleted");
        let again = create().await;
        remove(&api, &earlier).await.expect("left alone");
        assert_eq!(listed().await.uid(), again.uid());

        // Somebody changes it: perhaps our mark is what they took away.
        let before = listed().await;
        let patch = serde_json::json!({"metadata": {"labels": {"mine": "now"}}});
        let params = kube::api::PatchParams::default();
        api.patch(&name, &params, &kube::api::Patch::Merge(patch))
            .await
            .expect("patched");
        remove(&api, &before).await.expect("left alone");

        remove(&api, &listed().await).await.expect("removed");
        assert!(api.get_metadata_opt(&name).await.expect("an answer").is_none());
        // Nothing to do twice.
        remove(&api, &before).await.expect("gone already");
    }
}
