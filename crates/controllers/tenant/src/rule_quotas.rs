//! Budgets in the rules of tenants: each is kept as a GlobalResourceQuota, which is another controller's to serve.
//!
//! A quota of that name that is not of the tenant stays as it is, whoever made it: names of tenants and budgets can meet
//! (`a-b` with `c`, `a` with `b-c`), and nobody may limit another's namespaces by choosing a name.

use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{GlobalResourceQuota, Tenant};
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runtime::events::Recorder;
use runtime::report::{is_conflict, is_not_found};
use runtime::{Action, Controller, Index, Queue, Shared, Shutdown};
use tenancy::quota::rule_quotas;
use tenancy::replicas;

use crate::apply::only;
use crate::error::Error;
use crate::{CATCH_UP, Context};

const KIND: &str = "GlobalResourceQuota";

/// Keeps the quotas of all tenants.
pub(crate) struct RuleQuotas {
    tenants: Shared<Tenant>,
    quotas: Shared<GlobalResourceQuota>,
    /// By the UID of the tenant that controls it.
    of_tenant: Index<GlobalResourceQuota, String>,
    api: Api<GlobalResourceQuota>,
    recorder: Recorder,
}

/// One write.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Box<GlobalResourceQuota>),
    Replace(Box<GlobalResourceQuota>),
    Delete {
        name: String,
        uid: String,
    },
    /// Somebody else has the name.
    Refuse {
        name: String,
    },
}

impl RuleQuotas {
    pub(crate) fn start(context: &Context) -> Self {
        let api: Api<GlobalResourceQuota> = Api::all(context.client.clone());
        let quotas = Shared::start(api.clone(), watcher::Config::default(), |_| {}, &context.shutdown);
        Self {
            tenants: context.tenants.clone(),
            of_tenant: Index::of(&quotas, |quota| controller(quota).into_iter().collect()),
            quotas,
            api,
            recorder: context.recorder.clone(),
        }
    }

    pub(crate) async fn run(self, controller: Controller, shutdown: Shutdown) {
        let queue: Queue<String> = Queue::new();
        if !(self.quotas.ready().await && self.tenants.ready().await) {
            return;
        }
        self.tenants.trigger(&queue, |change| [change.object().name_any()]);
        self.quotas.trigger(&queue, |change| {
            change.object().labels().get(names::PROJECT_TENANT_LABEL).cloned()
        });
        let this = Arc::new(self);
        let reconcile = move |name: String| {
            let this = this.clone();
            async move { this.reconcile(&name).await }
        };
        controller.run(queue, shutdown, reconcile).await;
    }

    async fn reconcile(&self, name: &str) -> Result<Action, Error> {
        // Quotas of a tenant that is gone go with it, by the API server's garbage collection.
        let Some(tenant) = self.tenants.get(None, name) else {
            return Ok(Action::AwaitChange);
        };
        let own = self.of_tenant.get(&tenant.uid().unwrap_or_default());
        let mut action = Action::AwaitChange;
        for step in steps(&tenant, &own, |name| self.quotas.get(None, name)) {
            action = action.or(self.take(&tenant, step).await?);
        }
        Ok(action)
    }

    async fn take(&self, tenant: &Tenant, step: Step) -> Result<Action, Error> {
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let (name, written) = match &step {
            Step::Create(quota) => (quota.name_any(), self.api.create(&params, quota).await.map(drop)),
            Step::Replace(quota) => {
                let name = quota.name_any();
                let replaced = self.api.replace(&name, &params, quota).await;
                (name, replaced.map(drop))
            }
            Step::Delete { name, uid } => (name.clone(), self.api.delete(name, &only(uid)).await.map(drop)),
            Step::Refuse { name } => {
                let message = format!(
                    "spec.rules[].quota: GlobalResourceQuota {name} is there and not of this tenant; give the budget another \
                     name, or delete what has it"
                );
                self.recorder.warning(tenant, "NameTaken", "Reconciled", &message).await;
                return Ok(Action::AwaitChange);
            }
        };
        match written {
            Ok(()) => Ok(Action::AwaitChange),
            // Somebody was faster, and the watch shows it soon.
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(Action::RequeueAfter(CATCH_UP)),
            Err(source) if matches!(step, Step::Delete { .. }) => Err(Error::DeleteClusterWide {
                kind: KIND,
                name,
                source,
            }),
            Err(source) => Err(Error::ApplyClusterWide {
                kind: KIND,
                name,
                source,
            }),
        }
    }
}

/// The UID of the tenant that controls a quota.
fn controller(quota: &GlobalResourceQuota) -> Option<String> {
    let mut owners = quota.owner_references().iter();
    let tenant = owners.find(|owner| owner.controller == Some(true) && owner.kind == names::TENANT_KIND);
    tenant.map(|owner| owner.uid.clone())
}

/// What has to be written for a tenant. `own` are the quotas that it controls.
fn steps(
    tenant: &Tenant,
    own: &[Arc<GlobalResourceQuota>],
    known: impl Fn(&str) -> Option<Arc<GlobalResourceQuota>>,
) -> Vec<Step> {
    let wanted = rule_quotas::wanted(tenant, &replicas::controller_reference(tenant));
    let surplus = own.iter().filter(|quota| {
        let is_wanted = wanted.iter().any(|wanted| wanted.metadata.name == quota.metadata.name);
        !is_wanted && quota.metadata.deletion_timestamp.is_none()
    });
    let mut steps: Vec<Step> = surplus
        .map(|quota| Step::Delete {
            name: quota.name_any(),
            uid: quota.uid().unwrap_or_default(),
        })
        .collect();
    for quota in wanted {
        let name = quota.name_any();
        match known(&name) {
            None => steps.push(Step::Create(Box::new(quota))),
            // Its end is on its way, and another look with it.
            Some(live) if live.metadata.deletion_timestamp.is_some() => {}
            Some(live) if controller(&live) != tenant.uid() => steps.push(Step::Refuse { name }),
            Some(live) => steps.extend(replacement(&live, quota).map(|next| Step::Replace(Box::new(next)))),
        }
    }
    steps
}

/// The quota as it should be, in the version that was seen; `None` if it is so.
fn replacement(live: &GlobalResourceQuota, wanted: GlobalResourceQuota) -> Option<GlobalResourceQuota> {
    let mut next = live.clone();
    next.spec = wanted.spec;
    next.labels_mut().extend(wanted.metadata.labels.unwrap_or_default());
    next.metadata.owner_references = wanted.metadata.owner_references;
    (next != *live).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tenant(quotas: &Value) -> Tenant {
        serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": "oil", "uid": "u1"},
            "spec": {"rules": [{"quota": quotas}]}}))
        .unwrap()
    }

    fn made(tenant: &Tenant) -> Arc<GlobalResourceQuota> {
        let mut made = rule_quotas::wanted(tenant, &replicas::controller_reference(tenant));
        made[0].metadata.uid = Some("q1".to_owned());
        made[0].metadata.resource_version = Some("7".to_owned());
        Arc::new(made.remove(0))
    }

    #[test]
    fn only_differences_are_written() {
        let before = tenant(&json!([{"name": "a", "hard": {"pods": "2"}}]));
        let live = made(&before);
        let own = [live.clone()];
        assert_eq!(steps(&before, &own, |_| Some(live.clone())), []);
        let after = tenant(&json!([{"name": "a", "hard": {"pods": "3"}}]));
        let [Step::Replace(next)] = &steps(&after, &own, |_| Some(live.clone()))[..] else {
            panic!("a replacement")
        };
        assert_eq!(
            (
                next.resource_version().as_deref(),
                serde_json::to_value(&next.spec.quota).unwrap()
            ),
            (Some("7"), json!({"hard": {"pods": "3"}}))
        );
        let none = tenant(&json!([]));
        let (name, uid) = ("oil-a".to_owned(), "q1".to_owned());
        assert_eq!(steps(&none, &own, |_| None), [Step::Delete { name, uid }]);
    }

    #[test]
    fn what_others_have_under_the_name_stays() {
        let tenant = tenant(&json!([{"name": "a", "hard": {"pods": "2"}}]));
        let mut others = (*made(&tenant)).clone();
        for owners in [
            json!([]),
            json!([{"apiVersion": "v1", "kind": "Tenant", "name": "o", "uid": "u2", "controller": true}]),
        ] {
            others.metadata.owner_references = serde_json::from_value(owners).unwrap();
            let other = Arc::new(others.clone());
            let name = "oil-a".to_owned();
            assert_eq!(steps(&tenant, &[], |_| Some(other.clone())), [Step::Refuse { name }]);
        }
    }
}
