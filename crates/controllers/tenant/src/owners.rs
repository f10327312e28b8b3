//! TenantOwners: what their status says, and which tenants are looked at when one changes.

use std::collections::HashMap;
use std::sync::Arc;

use api::capsule::names;
use api::capsule::v1beta2::{Tenant, TenantOwner, TenantOwnerStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use runtime::report::{is_conflict, is_not_found};
use runtime::shared::Change;
use runtime::{Action, Controller, Queue, Shared, Shutdown};
use serde_json::json;
use tenancy::tenant_owners::{self, Selection};

use crate::apply::Writer;
use crate::error::Error;
use crate::observe::Written;
use crate::status::condition;
use crate::{CATCH_UP, Context};

/// Looks at a tenant again when a TenantOwner changes that it selects, or selected before.
pub(crate) fn wake_tenants(context: &Context, queue: &Queue<String>) {
    let tenants = context.tenants.store();
    // Those that are there already: every tenant is looked at in the beginning.
    let known = context.tenant_owners.store().state().into_iter();
    let mut known: HashMap<String, Arc<TenantOwner>> = known.map(|owner| (owner.name_any(), owner)).collect();
    context.tenant_owners.trigger(queue, move |change| {
        let name = change.object().name_any();
        let (before, now) = match change {
            Change::Applied(owner) => (known.insert(name, owner.clone()), Some(owner)),
            Change::Deleted(_) => (known.remove(&name), None),
        };
        concerned(&tenants.state(), before.as_deref(), now.map(Arc::as_ref))
    });
}

/// Names of the tenants that a change of a TenantOwner concerns.
fn concerned(tenants: &[Arc<Tenant>], before: Option<&TenantOwner>, now: Option<&TenantOwner>) -> Vec<String> {
    if let (Some(before), Some(now)) = (before, now)
        && tenant_owners::means_the_same(before, now)
    {
        return Vec::new();
    }
    let selects = |tenant: &Tenant| {
        let selection = Selection::of(tenant);
        before.into_iter().chain(now).any(|owner| selection.selects(owner))
    };
    let concerned = tenants.iter().filter(|tenant| selects(tenant));
    concerned.map(|tenant| tenant.name_any()).collect()
}

/// What the controller of their status reads and writes with.
pub(crate) struct OwnerStatuses {
    tenants: Shared<Tenant>,
    tenant_owners: Shared<TenantOwner>,
    writer: Writer,
    written: Written,
}

impl OwnerStatuses {
    pub(crate) fn new(context: &Context, writer: &Writer) -> Self {
        Self {
            tenants: context.tenants.clone(),
            tenant_owners: context.tenant_owners.clone(),
            writer: writer.clone(),
            written: Written::default(),
        }
    }

    pub(crate) async fn run(self, controller: Controller, shutdown: Shutdown) {
        let queue: Queue<String> = Queue::new();
        self.tenant_owners
            .trigger(&queue, |change| [change.object().name_any()]);
        let owners = self.tenant_owners.store();
        self.tenants
            .trigger(&queue, move |change| outdated(&owners.state(), change));
        let this = Arc::new(self);
        controller
            .run(queue, shutdown, move |name: String| {
                let this = this.clone();
                async move { this.reconcile(&name).await }
            })
            .await;
    }

    async fn reconcile(&self, name: &str) -> Result<Action, Error> {
        let Some(owner) = self.tenant_owners.get(None, name) else {
            return Ok(Action::AwaitChange);
        };
        if !self.written.is_current(&*owner) {
            return Ok(Action::RequeueAfter(CATCH_UP));
        }
        let tenants = self.tenants.store().state();
        let tenants = tenant_owners::tenants(&owner, tenants.iter().map(Arc::as_ref));
        let status = status(&owner, tenants, Timestamp::now());
        if owner.status.as_ref() != Some(&status) {
            self.publish(&owner, &status).await?;
        }
        Ok(Action::AwaitChange)
    }

    async fn publish(&self, owner: &TenantOwner, status: &TenantOwnerStatus) -> Result<(), Error> {
        let name = owner.name_any();
        let body = json!({
            "apiVersion": names::API_VERSION, "kind": "TenantOwner",
            "metadata": {"name": name, "uid": owner.uid()}, "status": status,
        });
        let api: Api<TenantOwner> = Api::all(self.writer.client().clone());
        match self.writer.publish(&api, &name, &body).await {
            Ok(answer) => {
                self.written.note(&answer);
                Ok(())
            }
            // It went away meanwhile, or another one of its name is there.
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(source) => Err(Error::PublishStatus {
                kind: "TenantOwner",
                name,
                source,
            }),
        }
    }
}

/// Names of the TenantOwners whose status is wrong about a tenant that changed.
fn outdated(owners: &[Arc<TenantOwner>], change: &Change<Tenant>) -> Vec<String> {
    let name = change.object().name_any();
    let is_outdated = |owner: &TenantOwner| {
        let told = owner.status.iter().any(|status| status.tenants.contains(&name));
        let counted = match change {
            Change::Applied(tenant) => tenant_owners::is_counted(owner, tenant),
            Change::Deleted(_) => false,
        };
        told != counted
    };
    let outdated = owners.iter().filter(|owner| is_outdated(owner));
    outdated.map(|owner| owner.name_any()).collect()
}

fn status(owner: &TenantOwner, tenants: Vec<String>, now: Timestamp) -> TenantOwnerStatus {
    let before = owner.status.iter().flat_map(|status| &status.conditions);
    let before: Vec<_> = before.cloned().collect();
    let ready = match tenant_owners::check(owner) {
        Ok(()) => condition(&before, names::READY_CONDITION, "True", "Succeeded", "reconciled", now),
        // Admission refuses these; this one was stored before.
        Err(denial) => condition(&before, names::READY_CONDITION, "False", "Failed", &denial.message, now),
    };
    TenantOwnerStatus {
        tenants,
        conditions: vec![ready],
        observed_generation: owner.metadata.generation,
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
mod tests {
    use serde_json::Value;

    use super::*;

    fn tenant(name: &str, spec: Value, owners: &[&str]) -> Arc<Tenant> {
        let owners: Vec<Value> = owners
            .iter()
            .map(|name| json!({"kind": "User", "name": name}))
            .collect();
        let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": name},
            "spec": spec, "status": {"size": 0, "owners": owners}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn owner(user: &str, team: &str, told: &[&str]) -> TenantOwner {
        let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantOwner",
            "metadata": {"name": format!("{user}-object"), "generation": 3, "labels": {"team": team}},
            "spec": {"kind": "User", "name": user}, "status": {"tenants": told}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn tenants_that_select_an_owner_now_or_did_before_are_looked_at() {
        let selecting = |team: &str| json!({"permissions": {"matchOwners": [{"matchLabels": {"team": team}}]}});
        let tenants = [
            tenant("oil", selecting("oil"), &[]),
            tenant("gas", selecting("gas"), &[]),
            tenant("sun", json!({}), &[]),
        ];
        let (oil, gas) = (owner("alice", "oil", &[]), owner("alice", "gas", &[]));
        assert_eq!(concerned(&tenants, None, Some(&oil)), ["oil"]);
        assert_eq!(concerned(&tenants, Some(&oil), Some(&gas)), ["oil", "gas"]);
        assert_eq!(concerned(&tenants, Some(&gas), None), ["gas"]);
        // Only the status differs.
        let told = owner("alice", "oil", &["oil"]);
        assert_eq!(concerned(&tenants, Some(&oil), Some(&told)), [""; 0]);
    }

    #[test]
    fn owners_whose_status_is_wrong_about_a_tenant_are_looked_at() {
        let owners = [
            Arc::new(owner("alice", "", &[])),
            Arc::new(owner("bob", "", &["oil"])),
            Arc::new(owner("carol", "", &["oil"])),
            Arc::new(owner("dave", "", &[])),
        ];
        let oil = tenant("oil", json!({}), &["alice", "carol"]);
        assert_eq!(
            outdated(&owners, &Change::Applied(oil.clone())),
            ["alice-object", "bob-object"]
        );
        assert_eq!(outdated(&owners, &Change::Deleted(oil)), ["bob-object", "carol-object"]);
    }

    #[test]
    fn what_admission_would_have_refused_is_said() {
        let good = status(&owner("alice", "", &[]), vec!["oil".to_owned()], Timestamp::UNIX_EPOCH);
        assert_eq!(
            (good.conditions[0].status.as_str(), good.observed_generation),
            ("True", Some(3))
        );
        let mut bad = owner("robot", "", &[]);
        bad.spec.core.user.kind = api::capsule::v1beta2::UserKind::ServiceAccount;
        let bad = status(&bad, Vec::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(bad.conditions[0].status, "False");
        assert!(
            bad.conditions[0].message.starts_with("spec.name: \"robot\""),
            "{}",
            bad.conditions[0].message
        );
    }
}
