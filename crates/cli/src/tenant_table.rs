//! The table `Tenant | Type | Ready | Access | Endpoint | Kubeconfig`: collected from objects, rendered as text or JSON.

use std::{fmt::Write, path::Path};

use anyhow::Context;
use api::{
    capsule::v1beta2::{Tenant, UserSpec},
    kamaji::v1alpha1::TenantControlPlane,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Client, ResourceExt,
    api::{Api, ListParams},
};
use serde::Serialize;

use crate::plain::{plain, shortened};

/// One tenant, whatever its isolation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) tenant: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) ready: bool,
    /// What keeps it from being ready; empty when it is.
    pub(crate) message: String,
    pub(crate) access: String,
    pub(crate) endpoint: String,
    /// Path of the tenant's kubeconfig file; empty when there is none.
    pub(crate) kubeconfig: String,
}

/// Every tenant of the cluster that `client` reaches at `endpoint`.
pub(crate) async fn collect(client: &Client, endpoint: &str, kubeconfigs: &Path) -> anyhow::Result<Vec<Row>> {
    let tenants = Api::<Tenant>::all(client.clone())
        .list(&ListParams::default())
        .await
        .context("failed to list tenants")?;
    let planes = Api::<TenantControlPlane>::all(client.clone())
        .list(&ListParams::default())
        .await
        .context("failed to list control planes")?;
    let mut rows: Vec<Row> = tenants.iter().map(|tenant| of_tenant(tenant, endpoint)).collect();
    rows.extend(planes.iter().map(of_control_plane));
    for row in &mut rows {
        let path = kubeconfigs.join(format!("{}.kubeconfig", row.tenant));
        if path.exists() {
            row.kubeconfig = path.display().to_string();
        }
    }
    Ok(rows)
}

fn of_tenant(tenant: &Tenant, endpoint: &str) -> Row {
    let status = tenant.status.as_ref();
    let (ready, message) = readiness(status.map_or(&[], |status| &status.conditions));
    let owners: Vec<String> = tenant
        .spec
        .owners
        .iter()
        .map(|owner| subject(&owner.core.user))
        .collect();
    let quota = tenant.spec.namespace_options.as_ref().and_then(|options| options.quota);
    let namespaces = status.map_or(0, |status| status.size);
    let count = quota.map_or_else(|| namespaces.to_string(), |quota| format!("{namespaces}/{quota}"));
    Row {
        tenant: tenant.name_any(),
        kind: "namespace",
        ready,
        message,
        access: format!("{}; namespaces {count}", owners.join(", ")),
        endpoint: endpoint.to_owned(),
        kubeconfig: String::new(),
    }
}

fn subject(user: &UserSpec) -> String {
    format!("{} {}", user.kind.to_string().to_lowercase(), user.name)
}

pub(crate) fn of_control_plane(plane: &TenantControlPlane) -> Row {
    let status = plane.status.as_ref();
    let resources = status.and_then(|status| status.kubernetes_resources.as_ref());
    let phase = resources
        .and_then(|resources| resources.version.as_ref())
        .and_then(|version| version.status);
    let phase = phase.map_or("Pending", api::kamaji::v1alpha1::Phase::as_str);
    // The phase speaks of the pods; the condition also of what nodes and people need inside the cluster.
    let (complete, message) = readiness(status.map_or(&[], |status| &status.conditions));
    let ready = phase == "Ready" && complete;
    let endpoint = status
        .and_then(|status| status.control_plane_endpoint.clone())
        .unwrap_or_default();
    Row {
        tenant: plane.name_any(),
        kind: "dedicated",
        ready,
        message: if ready {
            String::new()
        } else {
            format!("{phase}: {message}")
        },
        access: format!("cluster-admin of Kubernetes {}", plane.spec.kubernetes.version),
        endpoint: if endpoint.is_empty() {
            endpoint
        } else {
            format!("https://{endpoint}")
        },
        kubeconfig: String::new(),
    }
}

fn readiness(conditions: &[Condition]) -> (bool, String) {
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => (true, String::new()),
        Some(condition) => (false, condition.message.clone()),
        None => (false, "not reconciled yet".to_owned()),
    }
}

/// The table as text.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut cells = vec![["Tenant", "Type", "Ready", "Access", "Endpoint", "Kubeconfig"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        [
            row.tenant.clone(),
            row.kind.to_owned(),
            ready_cell(row.ready, &row.message),
            row.access.clone(),
            row.endpoint.clone(),
            row.kubeconfig.clone(),
        ]
    }));
    let cells: Vec<_> = cells.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    columns(&cells)
}

/// How much of a message a cell has room for: one that quotes an error would push the other columns off the screen.
const MOST_IN_A_CELL: usize = 60;

/// What a table says of a `Ready` condition. The command that shows one object tells all of the message.
pub(crate) fn ready_cell(ready: bool, message: &str) -> String {
    if ready {
        return "True".to_owned();
    }
    format!("False ({})", shortened(message, MOST_IN_A_CELL))
}

/// Lines of cells, columns as wide as they need.
pub(crate) fn columns<const N: usize>(cells: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in cells {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_tenant_that_is_not_ready_says_why() {
        let row = |tenant: &str, ready, message: &str| Row {
            tenant: tenant.into(),
            kind: "namespace",
            ready,
            message: message.into(),
            access: "user alice".into(),
            endpoint: "https://10.77.0.2:6443".into(),
            kubeconfig: "k".into(),
        };
        let text = render(&[row("a", true, ""), row("dev-team", false, "processing")]);
        assert_eq!(
            text,
            "Tenant    Type       Ready               Access      Endpoint                Kubeconfig\n\
             a         namespace  True                user alice  https://10.77.0.2:6443  k\n\
             dev-team  namespace  False (processing)  user alice  https://10.77.0.2:6443  k\n"
        );
    }

    #[test]
    fn a_cell_holds_the_beginning_of_a_long_message() {
        assert_eq!(ready_cell(true, "reconciled"), "True");
        assert_eq!(
            ready_cell(false, &"é".repeat(60)),
            format!("False ({})", "é".repeat(60))
        );
        assert_eq!(
            ready_cell(false, &"é".repeat(61)),
            format!("False ({}…)", "é".repeat(60))
        );
    }
}
