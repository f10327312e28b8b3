//! What would follow: what `--plan` prints.

use std::fmt::Write;

use anyhow::Context;
use api::kamaji::names::NAME_LABEL;
use api::kamaji::v1alpha1::TenantControlPlane;
use control_plane_controller::Explanation;
use control_plane_controller::desired::Plan;
use control_plane_controller::desired::secrets::Action;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::change;
use crate::difference::{Field, difference};
use crate::operator_flags::OperatorFlags;
use crate::plain::{plain, section};

/// What follows from a write.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Effects {
    objects: Vec<Object>,
    /// In sentences.
    follows: Vec<String>,
    /// What would keep it from being carried out, in sentences.
    problems: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Object {
    verb: Verb,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Create,
    Update,
    Delete,
}

impl Object {
    fn new(verb: Verb, kind: &'static str, name: impl Into<String>) -> Self {
        Self {
            verb,
            kind,
            name: name.into(),
            fields: Vec::new(),
        }
    }
}

impl Effects {
    /// Asks the controller what it would do about the object as it would be; `before` is `None` for a new one, `after` is
    /// `None` for one that goes.
    pub(super) async fn of(
        client: &Client,
        before: Option<&TenantControlPlane>,
        after: Option<&TenantControlPlane>,
    ) -> anyhow::Result<Self> {
        let mut effects = Self::default();
        effects.itself(before, after);
        let Some(after) = after else {
            if let Some(before) = before {
                effects.parts(client, before).await?;
            }
            return Ok(effects);
        };
        if let Some(before) = before {
            effects.follows = change::follows(before, after);
        }
        let flags = OperatorFlags::read(client).await.unwrap_or_default();
        let settings = flags.control_planes()?;
        let explanation = Box::pin(control_plane_controller::explain(client, after, &settings))
            .await
            .context("failed to ask for the controller's plan")?;
        match explanation {
            Explanation::Waiting(waiting) => effects.problems.push(format!("it waits: {}", waiting.message)),
            Explanation::Plan(plan) => effects.planned(before, after, &plan),
        }
        Ok(effects)
    }

    fn itself(&mut self, before: Option<&TenantControlPlane>, after: Option<&TenantControlPlane>) {
        let visible = |tcp: Option<&TenantControlPlane>| {
            tcp.map(|tcp| json!({"metadata": {"annotations": tcp.metadata.annotations}, "spec": tcp.spec}))
        };
        let (verb, name) = match (before, after) {
            (None, Some(after)) => (Verb::Create, after.name_any()),
            (Some(before), None) => (Verb::Delete, before.name_any()),
            (Some(before), Some(_)) => (Verb::Update, before.name_any()),
            (None, None) => return,
        };
        let mut object = Object::new(verb, "TenantControlPlane", name);
        if verb != Verb::Delete {
            object.fields = difference(visible(before), visible(after));
        }
        if verb != Verb::Update || !object.fields.is_empty() {
            self.objects.push(object);
        }
    }

    /// What the controller's plan adds to a change of the object.
    fn planned(&mut self, before: Option<&TenantControlPlane>, after: &TenantControlPlane, plan: &Plan) {
        let name = after.name_any();
        self.problems.extend(plan.version.refused.clone());
        match before {
            None => {
                let made = [
                    ("Service", name.clone()),
                    ("NetworkPolicy", name.clone()),
                    ("ConfigMap", format!("{name}-kubeadmconfig")),
                    ("Deployment", name.clone()),
                ];
                let made = made.map(|(kind, name)| Object::new(Verb::Create, kind, name));
                self.objects.extend(made);
                let (account, store) = (&plan.account, &plan.datastore.name);
                self.follows.push(format!(
                    "it gets {} in DataStore {store}, as user {}",
                    account.schema, account.user
                ));
                self.follows
                    .push(format!("it is reached at https://{}", plan.exposure.endpoint()));
            }
            Some(before) if before.spec != after.spec => {
                self.objects.push(Object::new(Verb::Update, "Deployment", name));
            }
            Some(_) => {}
        }
        let secrets = plan.secrets.iter().filter_map(|secret| match &secret.action {
            Action::Keep => None,
            Action::Issue(_) if before.is_none() => Some(Object::new(Verb::Create, "Secret", &secret.name)),
            Action::Repair | Action::Issue(_) => Some(Object::new(Verb::Update, "Secret", &secret.name)),
        });
        self.objects.extend(secrets);
    }

    /// What is owned by a control plane that goes, and goes with it.
    async fn parts(&mut self, client: &Client, tcp: &TenantControlPlane) -> anyhow::Result<()> {
        self.kind::<Service>(client, tcp, "Service").await?;
        self.kind::<NetworkPolicy>(client, tcp, "NetworkPolicy").await?;
        self.kind::<ConfigMap>(client, tcp, "ConfigMap").await?;
        self.kind::<Deployment>(client, tcp, "Deployment").await?;
        self.kind::<Secret>(client, tcp, "Secret").await
    }

    async fn kind<K>(&mut self, client: &Client, tcp: &TenantControlPlane, kind: &'static str) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let namespace = tcp.namespace().unwrap_or_default();
        let named = ListParams::default().labels(&format!("{NAME_LABEL}={}", tcp.name_any()));
        let found = Api::<K>::namespaced(client.clone(), &namespace)
            .list_metadata(&named)
            .await
            .with_context(|| format!("failed to list what {namespace} holds of kind {kind}"))?;
        let owned = found.iter().filter(|object| {
            let mut owners = object.owner_references().iter();
            owners.any(|owner| Some(&owner.uid) == tcp.metadata.uid.as_ref())
        });
        self.objects
            .extend(owned.map(|object| Object::new(Verb::Delete, kind, object.name_any())));
        Ok(())
    }

    /// The whole of it. `title` says what was asked for.
    pub(super) fn told(&self, title: &str) -> String {
        let mut text = format!("Plan: {title}. Nothing was written.\n");
        if *self == Self::default() {
            text.push_str("Nothing follows from it.\n");
        }
        if !self.objects.is_empty() {
            text.push_str("Objects\n");
        }
        for object in &self.objects {
            let sign = match object.verb {
                Verb::Create => '+',
                Verb::Update => '~',
                Verb::Delete => '-',
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {sign} {} {}", object.kind, object.name);
            for field in &object.fields {
                let _ = writeln!(text, "      {}", plain(&field.told()));
            }
        }
        section(&mut text, "What follows", &self.follows, Clone::clone);
        section(&mut text, "Problems", &self.problems, Clone::clone);
        text
    }
}
