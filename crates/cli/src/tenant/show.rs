//! Tenants as they are: the list, and one in full.

use std::collections::BTreeMap;

use api::capsule::names::READY_CONDITION;
use api::capsule::v1beta2::{Tenant, TenantState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::effects::Access;
use super::owner::typed;
use super::usage::{self, Key, Standing};
use super::world::{Contents, World};
use crate::plain::{plain, section};
use crate::tenant_table;

/// One line of the list.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    tenant: String,
    state: TenantState,
    ready: bool,
    /// What keeps it from being ready; empty when it is.
    message: String,
    namespaces: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace_quota: Option<i32>,
    /// As people type owners.
    owners: Vec<String>,
}

impl Line {
    pub(super) fn of(tenant: &Tenant) -> Self {
        let status = tenant.status.clone().unwrap_or_default();
        let (ready, message) = readiness(&status.conditions);
        Self {
            tenant: tenant.name_any(),
            state: state(tenant),
            ready,
            message,
            namespaces: status.size,
            namespace_quota: tenant.spec.namespace_options.as_ref().and_then(|options| options.quota),
            owners: tenant.spec.owners.iter().map(|owner| typed(&owner.core.user)).collect(),
        }
    }
}

/// From what is asked for, which the status follows.
fn state(tenant: &Tenant) -> TenantState {
    match tenant.spec.cordoned {
        _ if tenant.metadata.deletion_timestamp.is_some() => TenantState::Terminating,
        true => TenantState::Cordoned,
        false => TenantState::Active,
    }
}

pub(super) fn readiness(conditions: &[Condition]) -> (bool, String) {
    match conditions.iter().find(|condition| condition.type_ == READY_CONDITION) {
        Some(condition) if condition.status == "True" => (true, String::new()),
        Some(condition) => (false, condition.message.clone()),
        None => (false, "not reconciled yet".to_owned()),
    }
}

fn ready_told(ready: bool, message: &str) -> String {
    if ready {
        "True".to_owned()
    } else {
        format!("False ({message})")
    }
}

/// The list as text.
pub(super) fn list(lines: &[Line]) -> String {
    let mut cells = vec![["Tenant", "State", "Ready", "Namespaces", "Owners"].map(str::to_owned)];
    cells.extend(lines.iter().map(|line| {
        let count = line.namespaces;
        [
            line.tenant.clone(),
            format!("{:?}", line.state),
            tenant_table::ready_cell(line.ready, &line.message),
            line.namespace_quota
                .map_or_else(|| count.to_string(), |quota| format!("{count} of {quota}")),
            line.owners.join(", "),
        ]
    }));
    let cells: Vec<_> = cells.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    tenant_table::columns(&cells)
}

/// One tenant in full.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    tenant: String,
    state: TenantState,
    ready: bool,
    message: String,
    /// Everybody who owns it, wherever that comes from, with the roles in every namespace.
    owners: Vec<Owner>,
    namespaces: Vec<Space>,
    limits: Vec<Limit>,
    /// Who has which role where, by all RoleBindings that are there.
    access: Vec<Access>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    subject: String,
    cluster_roles: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Space {
    name: String,
    ready: bool,
    message: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Limit {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    standing: Standing,
}

impl Shown {
    pub(super) fn of(world: &World, tenant: &Tenant, contents: &Contents) -> Self {
        let status = tenant.status.clone().unwrap_or_default();
        let (ready, message) = readiness(&status.conditions);
        let plan = tenant_controller::desired::plan(tenant, &world.observe(tenant, contents), &contents.owned);
        let owners = plan.owners.iter().map(|owner| Owner {
            subject: typed(&owner.user),
            cluster_roles: owner.cluster_roles.clone(),
        });
        let namespaces = world.namespaces_of(tenant);
        let standings: BTreeMap<Key, Standing> = usage::of(tenant, &namespaces, &contents.quotas);
        let spaces = namespaces.iter().map(|namespace| {
            let name = namespace.name_any();
            let conditions = status
                .spaces
                .iter()
                .find(|space| space.name == name)
                .map(|space| space.conditions.as_slice());
            let (ready, message) = readiness(conditions.unwrap_or_default());
            Space { name, ready, message }
        });
        Self {
            tenant: tenant.name_any(),
            state: state(tenant),
            ready,
            message,
            owners: owners.collect(),
            namespaces: spaces.collect(),
            limits: standings
                .into_iter()
                .map(|(key, standing)| Limit { key, standing })
                .collect(),
            access: super::effects::access(&contents.objects).into_iter().collect(),
        }
    }

    pub(super) fn told(&self) -> String {
        let mut text = format!(
            "Tenant {}: {:?}, Ready {}\n",
            self.tenant,
            self.state,
            plain(&ready_told(self.ready, &self.message))
        );
        section(&mut text, "Owners", &self.owners, |owner| {
            format!("{} ({})", owner.subject, owner.cluster_roles.join(", "))
        });
        section(&mut text, "Namespaces", &self.namespaces, |space| {
            if space.ready {
                space.name.clone()
            } else {
                format!("{}: {}", space.name, space.message)
            }
        });
        section(&mut text, "Limits", &self.limits, |limit| {
            limits_line(&limit.key, &limit.standing)
        });
        section(&mut text, "Access", &self.access, Access::told);
        text
    }

    /// The limits alone.
    pub(super) fn limits_told(&self) -> String {
        self.limits
            .iter()
            .map(|limit| limits_line(&limit.key, &limit.standing) + "\n")
            .collect()
    }

    pub(super) fn limits(&self) -> impl Serialize {
        &self.limits
    }
}

fn limits_line(key: &Key, standing: &Standing) -> String {
    let exceeded = if standing.exceeded { " (exceeded)" } else { "" };
    format!("{}: {}{exceeded}", key.told(), standing.told())
}
