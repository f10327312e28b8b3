//! `cotenant datastore …`: what stores hold, and which control planes would be better off elsewhere. Decided in
//! [`tenancy::control_plane::placement`], as the operator decides where a new one goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use tenancy::control_plane::placement::{self, Around, Load, Move};

use crate::cluster::find::Named;
use crate::cluster::{self, Output};
use crate::operator_flags::OperatorFlags;
use crate::plain::plain;
use crate::session::{Session, Terminal, Writing};
use crate::stopped::EXIT_CODES;
use crate::{Place, tenant_table};

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
    /// A cluster of your own instead of the local one.
    #[arg(long, env = "KUBECONFIG", global = true)]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what each DataStore holds, the fullest first.
    Top,
    /// Even out the DataStores of each pool by moving control planes, one at a time.
    Rebalance(RebalanceArgs),
}

#[derive(Debug, clap::Args)]
struct RebalanceArgs {
    /// Say which control planes would move, and why. Writes nothing.
    #[arg(long)]
    plan: bool,
    /// How long each may take to be Ready in its new store, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// Runs one of the commands to its end.
///
/// # Errors
/// Whatever stopped it; [`crate::exit_code`] says how it is told to scripts.
pub async fn run(args: Args, terminal: Terminal<'_>) -> anyhow::Result<()> {
    let mut session = Session {
        client: args.place.client(args.kubeconfig.as_ref()).await?.client,
        json: args.output.is_json(),
        terminal,
    };
    let world = World::read(&session.client).await?;
    match args.command {
        Command::Top => top(&mut session, &world),
        Command::Rebalance(args) => rebalance(&mut session, &world, &args).await,
    }
}

/// All that there is.
struct World {
    stores: Vec<Arc<DataStore>>,
    control_planes: Vec<Arc<TenantControlPlane>>,
    default: Option<String>,
}

impl World {
    async fn read(client: &Client) -> anyhow::Result<Self> {
        let all = ListParams::default();
        let stores = Api::<DataStore>::all(client.clone()).list(&all).await;
        let control_planes = Api::<TenantControlPlane>::all(client.clone()).list(&all).await;
        let flags = OperatorFlags::read(client).await.unwrap_or_default();
        let shared = |error| Err(error).context("failed to list control planes");
        Ok(Self {
            stores: stores
                .context("failed to list DataStores")?
                .into_iter()
                .map(Arc::new)
                .collect(),
            control_planes: control_planes.or_else(shared)?.into_iter().map(Arc::new).collect(),
            default: flags.control_planes()?.default_datastore,
        })
    }

    fn around(&self) -> Around<'_> {
        Around {
            data_stores: &self.stores,
            control_planes: &self.control_planes,
            default_data_store: self.default.as_deref(),
        }
    }
}

/// One line of `top`.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    data_store: String,
    driver: String,
    pool: String,
    ready: bool,
    control_planes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_control_planes: Option<u64>,
    awake: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size_bytes: Option<u64>,
    /// In thousandths of its own limits; 0 without limits.
    fullness: u64,
    /// What is wrong with its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Line {
    fn of(store: &DataStore, load: &Load) -> Self {
        Self {
            data_store: store.name_any(),
            driver: store.spec.driver.as_str().to_owned(),
            pool: load.pool.clone().unwrap_or_default(),
            ready: store.status.as_ref().is_some_and(|status| status.ready),
            control_planes: load.control_planes,
            max_control_planes: load.limit,
            awake: load.awake,
            size_bytes: load.size,
            max_size_bytes: load.size_limit,
            fullness: load.fullness(),
            problem: load.problem.clone(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let of = |used: String, limit: Option<String>| match limit {
            Some(limit) => format!("{used} of {limit}"),
            None => used,
        };
        let size = self.size_bytes.map_or_else(|| "-".to_owned(), bytes);
        let full = match (&self.problem, self.max_control_planes, self.max_size_bytes) {
            (Some(problem), ..) => problem.clone(),
            (None, None, None) => "-".to_owned(),
            _ => format!("{}%", self.fullness / 10),
        };
        [
            self.data_store.clone(),
            self.driver.clone(),
            if self.pool.is_empty() {
                "-".to_owned()
            } else {
                self.pool.clone()
            },
            if self.ready { "True" } else { "False" }.to_owned(),
            of(
                format!("{} ({} awake)", self.control_planes, self.awake),
                self.max_control_planes.map(|limit| limit.to_string()),
            ),
            of(size, self.max_size_bytes.map(bytes)),
            full,
        ]
    }
}

/// `1.5 GiB`
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

fn top(session: &mut Session<'_>, world: &World) -> anyhow::Result<()> {
    let loads = placement::loads(&world.around());
    let lines = world.stores.iter().filter_map(|store| {
        let load = loads.get(&store.metadata.name)?;
        Some(Line::of(store, load))
    });
    let mut lines: Vec<Line> = lines.collect();
    lines.sort_by(|a, b| {
        (b.fullness, b.control_planes, &a.data_store).cmp(&(a.fullness, a.control_planes, &b.data_store))
    });
    if session.json {
        for line in lines {
            session.print(&serde_json::to_string(&line)?)?;
        }
        return Ok(());
    }
    let mut cells = vec![["DataStore", "Driver", "Pool", "Ready", "Control planes", "Size", "Full"].map(str::to_owned)];
    cells.extend(lines.iter().map(|line| line.cells().map(|cell| plain(&cell))));
    session
        .terminal
        .output
        .write_all(tenant_table::columns(&cells).as_bytes())?;
    Ok(())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned<'a> {
    namespace: &'a str,
    cluster: &'a str,
    from: &'a str,
    to: &'a str,
    reason: &'a str,
}

impl<'a> Planned<'a> {
    fn of(step: &'a Move) -> Self {
        Self {
            namespace: &step.namespace,
            cluster: &step.name,
            from: &step.from,
            to: &step.to,
            reason: &step.reason,
        }
    }
}

async fn rebalance(session: &mut Session<'_>, world: &World, args: &RebalanceArgs) -> anyhow::Result<()> {
    let moves = placement::rebalance(&world.around());
    if args.plan {
        let planned: Vec<Planned<'_>> = moves.iter().map(Planned::of).collect();
        return session.tell(&planned, || told(&moves));
    }
    if moves.is_empty() {
        return session.tell(&serde_json::json!({"outcome": "unchanged"}), || {
            "Nothing to do: it is so already.\n".to_owned()
        });
    }
    let writing = Writing::waiting(Duration::from_secs(args.timeout));
    for step in moves {
        let named = Named {
            namespace: Some(step.namespace),
            name: step.name,
        };
        Box::pin(cluster::migrate(session, &writing, &named, &step.to)).await?;
    }
    Ok(())
}

fn told(moves: &[Move]) -> String {
    if moves.is_empty() {
        return "Plan: rebalance. Nothing was written.\nNothing follows from it.\n".to_owned();
    }
    let lines = moves.iter().map(|step| {
        plain(&format!(
            "  {}/{}: {} -> {} ({})",
            step.namespace, step.name, step.from, step.to, step.reason
        )) + "\n"
    });
    format!(
        "Plan: rebalance. Nothing was written.\nMoves\n{}",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_suits() {
        let told = [0, 1023, 1024, 1536, 2_147_483_648, u64::MAX].map(bytes);
        assert_eq!(
            told,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "2.0 GiB", "16777215.9 TiB"]
        );
    }

    #[test]
    fn a_plan_without_moves_says_so() {
        assert!(told(&[]).ends_with("Nothing follows from it.\n"));
    }
}
