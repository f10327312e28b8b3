//! The CapsuleConfiguration: who is a tenant user, and the two cluster roles that tenant users live by.
//!
//! The roles are kept here and not in the chart because their names and subjects are the configuration's: a user who is
//! added to it may create namespaces a moment later.
//!
//! A configuration that does not exist is made, with the defaults that people's manifests rely on, but not at once: an
//! installer that starts us before it creates the configuration would find the name taken, and one that uninstalls would
//! leave behind what we make in the last moment. So it has to be missing for [`GRACE`], counted from the moment in which our
//! watch is complete, and is then created, never applied: whoever was first wins. Until then [`defaults`] decide about
//! requests, and cluster roles stay as they are.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::capsule::names;
use api::capsule::v1beta2::{
    CapsuleConfiguration, CapsuleConfigurationSpec, CapsuleConfigurationStatus, Overrides, Tenant, TenantOwner,
    UserKind, UserSpec,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runtime::report::is_conflict;
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde_json::json;
use tenancy::bindings::subject_of;
use tenancy::settings::defaults;
use tenancy::tenant_owners;

use crate::Context;
use crate::apply::{Writer, only};
use crate::error::Error;
use crate::observe::{Membership, Written, promoted_everywhere};
use crate::status::condition;

/// How long the configuration has to be missing before it is made: longer than an installer takes from the Deployment to the
/// configuration.
pub const GRACE: Duration = Duration::from_secs(30);

const CREATED_BY: &str = "projectcapsule.dev/created-by=rbac-controller";

/// What the controller reads and writes with.
pub(crate) struct Configuration {
    name: String,
    /// Goes into a configuration that we make.
    tls_secret: String,
    grace: Duration,
    /// Since when it has been seen to be missing; `None` while it is there.
    missing: Mutex<Option<Instant>>,
    writer: Writer,
    configurations: Shared<CapsuleConfiguration>,
    tenants: Shared<Tenant>,
    tenant_owners: Shared<TenantOwner>,
    promoted: Shared<ServiceAccount>,
    roles: Shared<ClusterRole>,
    bindings: Shared<ClusterRoleBinding>,
    membership: Membership,
    written: Written,
}

/// The cluster-wide objects that a configuration asks for.
#[derive(Debug, PartialEq, serde::Serialize)]
pub struct Grants {
    pub provisioner: ClusterRole,
    pub deleter: ClusterRole,
    pub binding: ClusterRoleBinding,
}

/// The roles by which tenant users create namespaces and owners delete theirs.
///
/// `users` are all tenant users ([`tenant_owners::users`]), `promoted` full names of ServiceAccounts that the label makes owners of
/// their tenants; they count if the configuration allows promotion.
pub fn grants(spec: &CapsuleConfigurationSpec, users: &[UserSpec], promoted: &[String]) -> Grants {
    let meta = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(names::CREATED_BY_LABEL.to_owned(), names::CREATED_BY_RBAC.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let role = |name: &str, verbs: &[&str]| ClusterRole {
        metadata: meta(name),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["namespaces".to_owned()]),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..PolicyRule::default()
        }]),
        ..ClusterRole::default()
    };
    let promoted = promoted.iter().filter(|_| spec.allow_service_account_promotion);
    let promoted = promoted.map(|name| UserSpec {
        kind: UserKind::ServiceAccount,
        name: name.clone(),
    });
    let everybody: BTreeSet<UserSpec> = users
        .iter()
        .chain(&spec.administrators)
        .cloned()
        .chain(promoted)
        .collect();
    let subjects: Vec<Subject> = everybody.iter().map(subject_of).collect();
    Grants {
        provisioner: role(&spec.rbac.provisioner, &["create", "patch"]),
        deleter: role(&spec.rbac.deleter, &["delete"]),
        binding: ClusterRoleBinding {
            metadata: meta(&spec.rbac.provisioner),
            role_ref: RoleRef {
                api_group: Some("rbac.authorization.k8s.io".to_owned()),
                kind: "ClusterRole".to_owned(),
                name: spec.rbac.provisioner.clone(),
            },
            subjects: (!subjects.is_empty()).then_some(subjects),
        },
    }
}

/// The configuration that is made when there is none: what holds without one, and the Secret that the webhooks' certificate
/// is in already.
fn fallback(name: &str, tls_secret: &str) -> CapsuleConfiguration {
    let spec = CapsuleConfigurationSpec {
        overrides: Overrides {
            tls_secret_name: tls_secret.to_owned(),
            ..Overrides::default()
        },
        ..defaults()
    };
    CapsuleConfiguration::new(name, spec)
}

impl Configuration {
    pub(crate) fn start(
        context: &Context,
        writer: &Writer,
        membership: &Membership,
        promoted: &Shared<ServiceAccount>,
    ) -> Self {
        let (client, shutdown) = (&context.client, &context.shutdown);
        let selected = || watcher::Config::default().labels(CREATED_BY);
        Self {
            name: context.configuration_name.clone(),
            tls_secret: context.tls_secret.clone(),
            grace: context.configuration_grace,
            missing: Mutex::default(),
            writer: writer.clone(),
            configurations: context.configurations.clone(),
            tenants: context.tenants.clone(),
            tenant_owners: context.tenant_owners.clone(),
            membership: membership.clone(),
            promoted: promoted.clone(),
            roles: Shared::start(Api::all(client.clone()), selected(), |_| {}, shutdown),
            bindings: Shared::start(Api::all(client.clone()), selected(), |_| {}, shutdown),
            written: Written::default(),
        }
    }

    pub(crate) async fn run(self, controller: Controller, shutdown: Shutdown) {
        let queue: Queue<()> = Queue::new();
        let ready = self.configurations.ready().await
            && self.tenants.ready().await
            && self.tenant_owners.ready().await
            && self.promoted.ready().await
            && self.roles.ready().await
            && self.bindings.ready().await;
        if !ready {
            return;
        }
        self.configurations.trigger(&queue, |_| [()]);
        self.tenants.trigger(&queue, |_| [()]);
        self.tenant_owners.trigger(&queue, |_| [()]);
        self.promoted.trigger(&queue, |_| [()]);
        self.roles.trigger(&queue, |_| [()]);
        self.bindings.trigger(&queue, |_| [()]);
        queue.enqueue(());
        let this = Arc::new(self);
        controller
            .concurrency(1)
            .run(queue, shutdown, move |()| {
                let this = this.clone();
                async move { this.reconcile().await }
            })
            .await;
    }

    async fn reconcile(&self) -> Result<Action, Error> {
        let configuration = self.configurations.get(None, &self.name);
        let missing_for = self.missing_for(configuration.is_none());
        let Some(configuration) = configuration else {
            let left = self.grace.saturating_sub(missing_for);
            if !left.is_zero() {
                return Ok(Action::RequeueAfter(left));
            }
            self.create().await?;
            return Ok(Action::AwaitChange);
        };
        let owners = self.tenant_owners.store().state();
        let users = tenant_owners::users(&configuration.spec, owners.iter().map(Arc::as_ref));
        let outcome = self.keep_grants(&configuration.spec, &users).await;
        if self.written.is_current(&*configuration) {
            self.publish(&configuration, users, outcome.as_ref().err()).await?;
        }
        outcome.map(|()| Action::AwaitChange)
    }

    /// How long the configuration has been missing, given whether it is now.
    fn missing_for(&self, is_missing: bool) -> Duration {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_missing {
            *missing = None;
            return Duration::ZERO;
        }
        missing.get_or_insert_with(Instant::now).elapsed()
    }

    async fn create(&self) -> Result<(), Error> {
        let api: Api<CapsuleConfiguration> = Api::all(self.writer.client().clone());
        self.writer.count("create", "CapsuleConfiguration");
        let wanted = fallback(&self.name, &self.tls_secret);
        match api.create(&PostParams::default(), &wanted).await {
            Ok(_) => {
                tracing::info!(object.r#ref = self.name, "created the configuration with defaults");
                Ok(())
            }
            // Somebody else was quicker, which is as good.
            Err(error) if is_conflict(&error) => Ok(()),
            Err(source) => Err(Error::CreateConfiguration {
                name: self.name.clone(),
                source,
            }),
        }
    }

    async fn keep_grants(&self, spec: &CapsuleConfigurationSpec, users: &[UserSpec]) -> Result<(), Error> {
        let wanted = grants(
            spec,
            users,
            &promoted_everywhere(&self.promoted, &self.membership, &self.tenants),
        );
        for role in [&wanted.provisioner, &wanted.deleter] {
            let known = self.roles.get(None, &role.name_any());
            let equal = known.as_ref().is_some_and(|known| known.rules == role.rules);
            // A store that does not show our last write yet says nothing about its being needed again.
            if !equal && known.as_ref().is_none_or(|known| self.written.is_current(&**known)) {
                self.apply(role).await?;
            }
        }
        let known = self.bindings.get(None, &wanted.binding.name_any());
        let equal = known.as_ref().is_some_and(|known| {
            known.subjects.as_deref().unwrap_or_default() == wanted.binding.subjects.as_deref().unwrap_or_default()
        });
        if !equal && known.as_ref().is_none_or(|known| self.written.is_current(&**known)) {
            self.apply(&wanted.binding).await?;
        }
        // Of an earlier configuration, which had other names. The label marks what only this controller makes.
        for role in self.roles.store().state() {
            if ![&wanted.provisioner, &wanted.deleter]
                .iter()
                .any(|wanted| wanted.name_any() == role.name_any())
            {
                self.remove(&*role).await?;
            }
        }
        for binding in self.bindings.store().state() {
            if binding.name_any() != wanted.binding.name_any() {
                self.remove(&*binding).await?;
            }
        }
        Ok(())
    }

    async fn apply<K>(&self, object: &K) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let answer: K = self
            .writer
            .patch_cluster_wide("apply", &object.name_any(), &params, &Patch::Apply(object))
            .await
            .map_err(|source| Error::ApplyClusterWide {
                kind: kind::<K>(),
                name: object.name_any(),
                source,
            })?;
        self.written.note(&answer);
        Ok(())
    }

    async fn remove<K>(&self, object: &K) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope>,
    {
        let api: Api<K> = Api::all(self.writer.client().clone());
        self.writer.count("delete", kind::<K>());
        match api
            .delete(&object.name_any(), &only(&object.uid().unwrap_or_default()))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if runtime::report::is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(source) => Err(Error::DeleteClusterWide {
                kind: kind::<K>(),
                name: object.name_any(),
                source,
            }),
        }
    }

    async fn publish(
        &self,
        configuration: &CapsuleConfiguration,
        users: Vec<UserSpec>,
        failure: Option<&Error>,
    ) -> Result<(), Error> {
        let mut tenants: Vec<String> = self
            .tenants
            .store()
            .state()
            .iter()
            .map(|tenant| tenant.name_any())
            .collect();
        tenants.sort_unstable();
        let failure = failure.map(Error::told);
        let status = status(configuration, users, tenants, failure.as_deref(), Timestamp::now());
        if configuration.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let body = json!({
            "apiVersion": names::API_VERSION, "kind": "CapsuleConfiguration",
            "metadata": {"name": self.name, "uid": configuration.uid()}, "status": status,
        });
        let api: Api<CapsuleConfiguration> = Api::all(self.writer.client().clone());
        let published = self.writer.publish(&api, &self.name, &body).await;
        let answer = published.map_err(|source| Error::PublishStatus {
            kind: "CapsuleConfiguration",
            name: self.name.clone(),
            source,
        })?;
        self.written.note(&answer);
        Ok(())
    }
}

fn status(
    configuration: &CapsuleConfiguration,
    users: Vec<UserSpec>,
    tenants: Vec<String>,
    failure: Option<&str>,
    now: Timestamp,
) -> CapsuleConfigurationStatus {
    let before = configuration
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let ready = match failure {
        None => condition(before, names::READY_CONDITION, "True", "Succeeded", "reconciled", now),
        Some(message) => condition(before, names::READY_CONDITION, "False", "Failed", message, now),
    };
    CapsuleConfigurationStatus {
        users,
        tenants,
        conditions: vec![ready],
        observed_generation: configuration.metadata.generation,
    }
}

fn kind<K: kube::Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: serde_json::Value) -> CapsuleConfigurationSpec {
        serde_json::from_value(value).unwrap()
    }

    fn words(users: &[UserSpec]) -> Vec<String> {
        users
            .iter()
            .map(|user| format!("{} {}", user.kind, user.name))
            .collect()
    }

    #[test]
    fn grants_are_the_objects_that_people_know() {
        let spec = spec(json!({
            "users": [{"kind": "Group", "name": "projectcapsule.dev"}],
            "administrators": [{"kind": "ServiceAccount", "name": "system:serviceaccount:ops:boss"}],
            "allowServiceAccountPromotion": true
        }));
        let users = tenant_owners::users(&spec, []);
        let grants = grants(&spec, &users, &["system:serviceaccount:oil-one:robot".to_owned()]);
        assert_eq!(
            json!(grants.provisioner),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "capsule-namespace-provisioner", "labels": {"projectcapsule.dev/created-by": "rbac-controller"}},
                "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create", "patch"]}]})
        );
        assert_eq!(
            json!(grants.deleter),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "capsule-namespace-deleter", "labels": {"projectcapsule.dev/created-by": "rbac-controller"}},
                "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["delete"]}]})
        );
        assert_eq!(
            json!(grants.binding),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "capsule-namespace-provisioner", "labels": {"projectcapsule.dev/created-by": "rbac-controller"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "capsule-namespace-provisioner"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "projectcapsule.dev"},
                {"kind": "ServiceAccount", "name": "robot", "namespace": "oil-one"},
                    {"kind": "ServiceAccount", "name": "boss", "namespace": "ops"}
            ]})
        );
    }

    #[test]
    fn a_configuration_that_was_not_there_names_the_group_of_tenant_users() {
        let made = fallback("default", "own-tls");
        assert_eq!(made.spec.overrides.tls_secret_name, "own-tls");
        assert_eq!(words(&made.spec.users), ["Group projectcapsule.dev"]);
        assert_eq!(made.spec.cache_invalidation, "1h");
        assert_eq!(
            made.spec.rbac.promotion_cluster_roles,
            ["capsule-namespace-provisioner", "capsule-namespace-deleter"]
        );
    }
}
