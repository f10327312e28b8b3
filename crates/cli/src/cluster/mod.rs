//! `cotenant cluster …`: hosted control planes, for people.
//!
//! As with tenants, a command reads the object, decides what to write ([`create`], [`change`], pure), and writes it in the
//! version that it was decided for. `--plan` sends the same write as a dry run, so that admission has its say, and then
//! asks the controller's own plan what follows ([`plan`]). Waiting tells phases and conditions as they change ([`wait`]).

mod carry_out;
mod change;
mod create;
mod deletion;
pub(crate) mod find;
mod nodes;
mod plan;
mod pods;
mod show;
mod wait;

use std::path::PathBuf;

use anyhow::Context;
use api::kamaji::v1alpha1::TenantControlPlane;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::session::{Session, Terminal, Writing, confirm};
use crate::stopped::{EXIT_CODES, Stopped};
use crate::{Place, credentials};
use carry_out::{Decided, Write, carry_out};
use find::Named;
use show::{Line, Shown};
use wait::Goal;

pub(crate) use show::readiness;
pub(crate) use wait::is_settled;

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
    /// Where the control planes are. Without: wherever one of that name is; a new one comes into the kubeconfig's.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// The form of what a command says.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// JSON, one value a line.
    #[arg(long, global = true)]
    json: bool,
    /// The form of what is said.
    #[arg(long, short, global = true, value_enum, default_value_t = Form::Text, conflicts_with = "json")]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
}

impl Output {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == Form::Json
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a control plane.
    Create(create::Args),
    /// Show all control planes, a line each.
    List,
    /// Show one control plane: phase, version, address, store, and what holds it up.
    Show {
        /// Its name.
        name: String,
    },
    /// Print the administrator's kubeconfig of a control plane.
    Kubeconfig {
        /// Its name.
        name: String,
    },
    /// Bring a control plane to another Kubernetes version.
    Upgrade(UpgradeArgs),
    /// Stop the pods of a control plane; its data stay.
    Sleep(ChangeArgs),
    /// Start them again.
    Wake(WakeArgs),
    /// Move a control plane's data to another DataStore.
    Migrate(MigrateArgs),
    /// Delete a control plane with all its data.
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
struct UpgradeArgs {
    /// Its name.
    name: String,
    /// The version, as in v1.36.3.
    version: String,
    /// Go one minor version at a time, each when the one before is Ready.
    #[arg(long)]
    step: bool,
    /// Go by way of these versions, one for each minor in between; may repeat. Without: by each minor's `.0`.
    #[arg(long, value_name = "VERSION", requires = "step")]
    via: Vec<String>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Its name.
    name: String,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct WakeArgs {
    /// Its name.
    name: String,
    /// How many replicas. Without: as many as there were before it slept.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    replicas: Option<i32>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct MigrateArgs {
    /// Its name.
    name: String,
    /// The DataStore that takes it.
    #[arg(long)]
    datastore: String,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Its name.
    name: String,
    /// Do not ask for the name to be typed.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    writing: Writing,
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
    let session = &mut session;
    let namespace = args.namespace;
    let named = |name: &str| Named {
        namespace: namespace.clone(),
        name: name.to_owned(),
    };
    // Each on the heap: together they would be a stack's worth.
    match args.command {
        Command::Create(args) => Box::pin(create(session, namespace.as_deref(), &args)).await,
        Command::List => Box::pin(list(session, namespace.as_deref())).await,
        Command::Show { name } => {
            let tcp = named(&name).find(&session.client).await?;
            let shown = Shown::asked(&session.client, &tcp).await;
            session.tell(&shown, || shown.told())
        }
        Command::Kubeconfig { name } => Box::pin(kubeconfig(session, &named(&name))).await,
        Command::Upgrade(args) => Box::pin(upgrade(session, &named(&args.name), &args)).await,
        Command::Sleep(args) => {
            let named = named(&args.name);
            Box::pin(edited(
                session,
                &args.writing,
                &named,
                change::Title::Sleep,
                change::sleep,
            ))
            .await
        }
        Command::Wake(args) => {
            let named = named(&args.name);
            let edit = |tcp: &mut TenantControlPlane| change::wake(tcp, args.replicas);
            Box::pin(edited(session, &args.writing, &named, change::Title::Wake, edit)).await
        }
        Command::Migrate(args) => {
            let named = named(&args.name);
            Box::pin(migrate(session, &args.writing, &named, &args.datastore)).await
        }
        Command::Delete(args) => Box::pin(delete(session, &named(&args.name), &args)).await,
    }
}

async fn upgrade(session: &mut Session<'_>, named: &Named, args: &UpgradeArgs) -> anyhow::Result<()> {
    nodes::check(&session.client, &named.find(&session.client).await?, &args.version).await?;
    let path = args.step.then_some(args.via.as_slice());
    let edit = |tcp: &mut TenantControlPlane| change::upgrade(tcp, &args.version, path);
    edited(
        session,
        &args.writing,
        named,
        change::Title::Upgrade(&args.version),
        edit,
    )
    .await
}

async fn create(session: &mut Session<'_>, namespace: Option<&str>, args: &create::Args) -> anyhow::Result<()> {
    let namespace = namespace.unwrap_or(session.client.default_namespace()).to_owned();
    let tcp = create::control_plane(&namespace, args).map_err(Stopped::refused)?;
    let decide = async || {
        Ok(Decided {
            title: format!("create TenantControlPlane {namespace}/{}", args.name()),
            before: None,
            write: Some(Write::Create(Box::new(tcp.clone()))),
            goal: Goal::settled(&tcp),
        })
    };
    carry_out(session, args.writing(), decide).await
}

async fn list(session: &mut Session<'_>, namespace: Option<&str>) -> anyhow::Result<()> {
    let api: Api<TenantControlPlane> = match namespace {
        Some(namespace) => Api::namespaced(session.client.clone(), namespace),
        None => Api::all(session.client.clone()),
    };
    let planes = api
        .list(&ListParams::default())
        .await
        .context("failed to list control planes")?;
    let lines: Vec<Line> = planes.iter().map(Line::of).collect();
    if session.json {
        for line in lines {
            session.print(&serde_json::to_string(&line)?)?;
        }
        return Ok(());
    }
    session.terminal.output.write_all(show::list(&lines).as_bytes())?;
    Ok(())
}

async fn kubeconfig(session: &mut Session<'_>, named: &Named) -> anyhow::Result<()> {
    let tcp = named.find(&session.client).await?;
    let made = tcp.status.as_ref().and_then(|status| status.kubeconfig.as_ref());
    if made.is_none_or(|made| made.admin.is_none()) {
        let shown = Shown::asked(&session.client, &tcp).await;
        return Err(Stopped::not_found(format!(
            "{named} has no kubeconfig yet: {}",
            shown.standing()
        )));
    }
    let text = credentials::of_control_plane(&session.client, &tcp).await?;
    session.terminal.output.write_all(text.as_bytes())?;
    Ok(())
}

/// Moves one control plane. [`crate::datastore`] moves several with it.
pub(crate) async fn migrate(
    session: &mut Session<'_>,
    writing: &Writing,
    named: &Named,
    datastore: &str,
) -> anyhow::Result<()> {
    let edit = |tcp: &mut TenantControlPlane| {
        change::migrate(tcp, datastore);
        Ok(())
    };
    edited(session, writing, named, change::Title::Migrate(datastore), edit).await
}

/// Changes one control plane: `edit` changes it in memory, and what came of it is written.
async fn edited(
    session: &mut Session<'_>,
    writing: &Writing,
    named: &Named,
    title: change::Title<'_>,
    edit: impl Fn(&mut TenantControlPlane) -> Result<(), String>,
) -> anyhow::Result<()> {
    let client = session.client.clone();
    let decide = async || {
        let before = named.find(&client).await?;
        let mut after = before.clone();
        edit(&mut after).map_err(Stopped::refused)?;
        Ok(Decided {
            title: title.told(&before),
            write: change::patch(&before, &after).map(|patch| Write::Patch {
                namespace: before.namespace().unwrap_or_default(),
                name: before.name_any(),
                patch,
            }),
            goal: Goal::settled(&after),
            before: Some(before),
        })
    };
    carry_out(session, writing, decide).await
}

async fn delete(session: &mut Session<'_>, named: &Named, args: &DeleteArgs) -> anyhow::Result<()> {
    let client = session.client.clone();
    let shown = named.find(&client).await?;
    let going = deletion::Going::of(&shown);
    session.tell(&going, || going.told())?;
    if !args.yes && !args.writing.writes_nothing() {
        confirm(&mut session.terminal, "cluster", &args.name)?;
    }
    // What was confirmed is the control plane that was shown, whatever bears its name by now.
    let (namespace, uid) = (shown.namespace().unwrap_or_default(), shown.uid().unwrap_or_default());
    let decide = async || {
        let there = Api::<TenantControlPlane>::namespaced(client.clone(), &namespace)
            .get_opt(&args.name)
            .await
            .with_context(|| format!("failed to read the control plane {namespace}/{}", args.name))?
            .filter(|tcp| tcp.uid().as_deref() == Some(&uid));
        Ok(Decided {
            title: format!("delete TenantControlPlane {namespace}/{}", args.name),
            write: there.as_ref().map(|tcp| Write::Delete {
                namespace: namespace.clone(),
                name: args.name.clone(),
                uid: uid.clone(),
                version: tcp.resource_version().unwrap_or_default(),
            }),
            goal: Goal::gone(&shown),
            before: there,
        })
    };
    carry_out(session, &args.writing, decide).await
}
