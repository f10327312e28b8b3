//! KubeconfigGenerators: a kubeconfig of a user and groups for each of a set of control planes.
//!
//! Watches: KubeconfigGenerators and the labels of Namespaces; TenantControlPlanes and their Secrets through the watches
//! of the crate. Writes: a Secret `<control plane>-<generator>` beside each control plane, owned by it, and the
//! generator's status.
//!
//! A Secret carries its generator's UID. What carries one goes when its generator does, or selects the control plane no
//! more; what does not, because another program made it and no generator of ours ever took it on, stays.
//!
//! The certificate is signed with the control plane's authority as it is in the admin cluster, so that a control plane
//! that sleeps or is down gets its kubeconfig too.

mod desired;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::kamaji::names;
use api::kamaji::v1alpha1::{KubeconfigGenerator, TenantControlPlane};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use runtime::report::{chain, is_not_found, is_transient_kube};
use runtime::{Action, Controller, Index, Queue, Report, Shared, Shutdown};
use serde_json::json;
use tenancy::selector::{InvalidSelector, Selector};

use self::desired::{Decision, Failure, Identity, Template, VALUE};
use crate::desired::identity::{self, Ownership};
use crate::desired::secrets::{Clock, Data};
use crate::{Key, Watches};

const FIELD_MANAGER: &str = "cotenant-kubeconfig-generator";
/// Value of the component label.
const COMPONENT: &str = "kubeconfig-generator";
/// On a Secret: the generator that keeps it, as UID.
const GENERATOR_ANNOTATION: &str = "cotenant.dev/kubeconfig-generator-uid";

/// Control planes tell of themselves many times while they start; their generators wait for the end of it.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// When a Secret that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// Timers are not trusted for months.
const LONGEST_WAIT: Duration = Duration::from_hours(10);

/// Why a generator could not be carried out. What fails for one control plane is in the status instead.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read spec.{field} of the generator")]
    Selector {
        field: &'static str,
        #[source]
        source: InvalidSelector,
    },
    #[error("failed to delete the Secret {name}")]
    Delete {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("failed to update the status of the generator")]
    Publish(#[source] kube::Error),
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Selector { .. } => "SelectorInvalid",
            Self::Delete { .. } => "DeleteFailed",
            Self::Publish(_) => "StatusUpdateFailed",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Selector { .. } => false,
            Self::Delete { source, .. } | Self::Publish(source) => is_transient_kube(source),
        }
    }
}

struct Worker {
    client: Client,
    generators: Shared<KubeconfigGenerator>,
    namespaces: Shared<Namespace>,
    control_planes: Shared<TenantControlPlane>,
    secrets: Shared<Secret>,
    /// What was made, by its generator's name.
    made: Index<Secret, String>,
    renewal_window: SignedDuration,
}

/// Runs the controller until the shutdown. It begins when its kind is served.
pub(crate) async fn run(
    client: Client,
    watches: Watches,
    renewal_window: SignedDuration,
    controllers: &runtime::controller::Metrics,
    shutdown: Shutdown,
) {
    let worker = Worker {
        generators: Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, &shutdown),
        namespaces: watches.namespaces,
        control_planes: watches.control_planes,
        made: Index::of(&watches.secrets, |secret| {
            secret
                .labels()
                .get(names::MANAGED_BY_LABEL)
                .cloned()
                .into_iter()
                .collect()
        }),
        secrets: watches.secrets,
        client,
        renewal_window,
    };
    // Without the list of generators, what they made would look like nobody's.
    if !(worker.generators.ready().await && worker.namespaces.ready().await) {
        return;
    }
    let queue = Queue::with_debounce(DEBOUNCE);
    worker.trigger(&queue);
    let worker = Arc::new(worker);
    Controller::new("kubeconfig-generator", controllers)
        .concurrency(1)
        .run(queue, shutdown, move |name| {
            let worker = worker.clone();
            async move { worker.reconcile(&name).await }
        })
        .await;
}

impl Worker {
    fn trigger(&self, queue: &Queue<String>) {
        self.generators.trigger(queue, |change| [change.object().name_any()]);
        let all = |generators: &Shared<KubeconfigGenerator>| -> Vec<String> {
            generators
                .store()
                .state()
                .iter()
                .map(|generator| generator.name_any())
                .collect()
        };
        let generators = self.generators.clone();
        self.control_planes.trigger(queue, move |_| all(&generators));
        let generators = self.generators.clone();
        self.namespaces.trigger(queue, move |_| all(&generators));
        // What was made, and what it is made of.
        let generators = self.generators.clone();
        self.secrets.trigger(queue, move |change| {
            let labels = change.object().labels();
            if let Some(generator) = labels.get(names::MANAGED_BY_LABEL) {
                return vec![generator.clone()];
            }
            match labels.get(names::COMPONENT_LABEL).map(String::as_str) {
                Some("ca" | "admin-kubeconfig") => all(&generators),
                _ => Vec::new(),
            }
        });
    }

    async fn reconcile(&self, name: &str) -> Result<Action, Error> {
        let Some(generator) = self.generators.get(None, name) else {
            self.withdraw(name, &BTreeSet::new()).await?;
            return Ok(Action::AwaitChange);
        };
        if generator.annotations().contains_key(names::PAUSED_ANNOTATION) {
            return Ok(Action::AwaitChange);
        }
        let targets = self.targets(&generator)?;
        let (mut failures, mut next, mut retry) = (Vec::new(), None::<Timestamp>, false);
        let now = Timestamp::now();
        for tcp in &targets {
            match self.make(&generator, tcp, now).await {
                Ok(renewal) => next = next.into_iter().chain(renewal).min(),
                Err(failure) => {
                    retry |= matches!(failure, Failure::Kubernetes { .. });
                    failures.push((Key::to(tcp), failure.to_string()));
                }
            }
        }
        self.withdraw(name, &targets.iter().map(|tcp| Key::to(tcp)).collect())
            .await?;
        self.publish(&generator, targets.len(), &failures).await?;
        let renewal = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        Ok(match (retry, renewal) {
            (true, _) => Action::RequeueAfter(TRY_AGAIN),
            (false, Some(wait)) => Action::RequeueAfter(wait.clamp(Duration::from_mins(1), LONGEST_WAIT)),
            (false, None) => Action::AwaitChange,
        })
    }

    /// The selected control planes, by namespace and name.
    fn targets(&self, generator: &KubeconfigGenerator) -> Result<Vec<Arc<TenantControlPlane>>, Error> {
        let spec = &generator.spec;
        let selector = |field, selector: &Option<LabelSelector>| {
            let selector = selector.as_ref().map(Selector::new).transpose();
            selector
                .map(Option::unwrap_or_default)
                .map_err(|source| Error::Selector { field, source })
        };
        let namespaces = selector("namespaceSelector", &spec.namespace_selector)?;
        let control_planes = selector("tenantControlPlaneSelector", &spec.tenant_control_plane_selector)?;
        let mut targets = self.control_planes.store().state();
        targets.retain(|tcp| {
            let namespace = || self.namespaces.get(None, &tcp.namespace().unwrap_or_default());
            tcp.metadata.deletion_timestamp.is_none()
                && control_planes.matches(tcp.labels())
                && (namespaces.is_empty() || namespace().is_some_and(|one| namespaces.matches(one.labels())))
        });
        targets.sort_by_key(|tcp| Key::to(tcp));
        Ok(targets)
    }

    /// Makes or keeps the kubeconfig of one control plane. Gives when it has to be made anew.
    async fn make(
        &self,
        generator: &KubeconfigGenerator,
        tcp: &TenantControlPlane,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Failure> {
        let by = generator.name_any();
        let name = desired::secret_name(tcp, &by)?;
        let Key { namespace, name: of } = Key::to(tcp);
        let known = |component: &str| self.secrets.get(Some(&namespace), &format!("{of}-{component}"));
        let old = self.stored(&namespace, &name).await?;
        if let Some(old) = &old {
            let ours = matches!(
                identity::ownership(tcp, &old.metadata),
                Ownership::Ours | Ownership::Orphan
            );
            if !ours || old.labels().get(names::MANAGED_BY_LABEL) != Some(&by) {
                return Err(Failure::NameTaken(name));
            }
            if old.annotations().contains_key(names::PAUSED_ANNOTATION) {
                return Ok(None);
            }
        }
        let template = Template::read(
            tcp,
            known("admin-kubeconfig").as_deref(),
            known("ca").as_deref(),
            &generator.spec.control_plane_endpoint_from,
        )?;
        let identity = Identity::of(&generator.spec, tcp)?;
        let clock = Clock {
            now,
            renewal_window: self.renewal_window,
        };
        let decision = desired::decide(&by, &identity, &template, old.as_ref(), clock)?;
        let wanted = secret(generator, tcp, &name, &decision, old.as_ref(), now);
        if decision.changed.is_none() && old.as_ref().is_some_and(|old| old.metadata == wanted.metadata) {
            return Ok(decision.renewal);
        }
        self.write(&namespace, &wanted, old.is_some()).await?;
        if let Some(reason) = &decision.changed {
            tracing::info!(object.r#ref = %Key::to(tcp), generator = by, ?reason, "wrote a generated kubeconfig");
        }
        Ok(decision.renewal)
    }

    /// From the store; what it does not have may be there without our labels.
    async fn stored(&self, namespace: &str, name: &str) -> Result<Option<Secret>, Failure> {
        if let Some(found) = self.secrets.get(Some(namespace), name) {
            return Ok(Some(found.as_ref().clone()));
        }
        let found = self.api(namespace).get_opt(name).await;
        found.map_err(|error| kubernetes("read", name, &error))
    }

    /// In the version that was judged, so that two operators do not replace each other's keys.
    async fn write(&self, namespace: &str, wanted: &Secret, replace: bool) -> Result<(), Failure> {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let (api, name) = (self.api(namespace), wanted.name_any());
        let written = if replace {
            api.replace(&name, &parameters, wanted).await
        } else {
            api.create(&parameters, wanted).await
        };
        written.map(|_| ()).map_err(|error| kubernetes("write", &name, &error))
    }

    /// Deletes what this generator keeps for control planes that it does not select.
    async fn withdraw(&self, generator: &str, selected: &BTreeSet<Key>) -> Result<(), Error> {
        for secret in self.made.get(&generator.to_owned()) {
            let (labels, namespace) = (secret.labels(), secret.namespace().unwrap_or_default());
            let Some(of) = labels.get(names::MANAGED_FOR_LABEL) else {
                continue;
            };
            let key = Key {
                namespace,
                name: of.clone(),
            };
            let tcp = self.control_planes.get(Some(&key.namespace), &key.name);
            let ours = tcp.is_some_and(|tcp| identity::ownership(&tcp, &secret.metadata) == identity::Ownership::Ours);
            if selected.contains(&key) || !ours || !secret.annotations().contains_key(GENERATOR_ANNOTATION) {
                continue;
            }
            let parameters = DeleteParams::default().preconditions(Preconditions {
                uid: secret.uid(),
                resource_version: secret.resource_version(),
            });
            let name = secret.name_any();
            match self.api(&key.namespace).delete(&name, &parameters).await {
                Ok(_) => {
                    tracing::info!(object.r#ref = %key, generator, secret = name, "deleted a generated kubeconfig");
                }
                Err(error) if is_not_found(&error) => {}
                Err(source) => return Err(Error::Delete { name, source }),
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        generator: &KubeconfigGenerator,
        targets: usize,
        failures: &[(Key, String)],
    ) -> Result<(), Error> {
        let wanted = status::of(generator, targets, failures);
        if generator.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let api: Api<KubeconfigGenerator> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1",
            "kind": "KubeconfigGenerator",
            // The UID makes sure that a new object of the same name does not get the status of the old one.
            "metadata": {"name": generator.name_any(), "uid": generator.metadata.uid},
            "status": wanted,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api
            .patch_status(&generator.name_any(), &parameters, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(Error::Publish(source)),
        }
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn kubernetes(act: &'static str, name: &str, error: &kube::Error) -> Failure {
    Failure::Kubernetes {
        act,
        name: name.to_owned(),
        reason: match error {
            kube::Error::Api(status) => status.message.clone(),
            other => chain(other),
        },
    }
}

/// The Secret as it is written: our data, labels and owner over what others put there.
fn secret(
    generator: &KubeconfigGenerator,
    tcp: &TenantControlPlane,
    name: &str,
    decision: &Decision,
    old: Option<&Secret>,
    now: Timestamp,
) -> Secret {
    let stored = old.and_then(|old| old.data.clone());
    let data = match &decision.changed {
        None => stored.unwrap_or_default(),
        Some(_) => Data::from([(VALUE.to_owned(), ByteString(decision.yaml.clone().into_bytes()))]),
    };
    let fresh = identity::metadata(tcp, name, COMPONENT);
    let mut metadata = old.map(|old| old.metadata.clone()).unwrap_or_default();
    (metadata.name, metadata.namespace) = (fresh.name, fresh.namespace);
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.extend(fresh.labels.into_iter().flatten());
    labels.extend(
        [
            (names::LIFECYCLE_LABEL, names::LIFECYCLE_KUBECONFIG.to_owned()),
            (names::MANAGED_BY_LABEL, generator.name_any()),
            (names::MANAGED_FOR_LABEL, tcp.name_any()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let annotations = metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(names::CHECKSUM_ANNOTATION.to_owned(), identity::secret_checksum(&data));
    annotations.insert(GENERATOR_ANNOTATION.to_owned(), generator.uid().unwrap_or_default());
    if let Some(asked) = annotations
        .get_mut(names::ROTATE_ANNOTATION)
        .filter(|asked| asked.is_empty())
    {
        *asked = now.to_string();
    }
    let owners = metadata.owner_references.get_or_insert_with(Vec::new);
    owners.retain(|reference| reference.controller != Some(true));
    owners.extend(fresh.owner_references.into_iter().flatten());
    Secret {
        metadata,
        data: Some(data),
        type_: Some(
            old.and_then(|old| old.type_.clone())
                .unwrap_or_else(|| "Opaque".to_owned()),
        ),
        immutable: None,
        string_data: None,
    }
}
