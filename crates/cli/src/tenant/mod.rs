//! `cotenant tenant …`: namespace tenants, for people.
//!
//! A command reads what there is, decides what to write ([`adopt`], [`limits`], [`owner`], all pure), and writes it with
//! the version that it was decided for. `--plan` sends the same writes as a dry run, so that admission has its say, and
//! tells what would follow: [`effects`] asks the controller's own plan. What is refused here is refused with the
//! sentences of admission.

mod adopt;
mod carry_out;
mod deletion;
mod effects;
mod explained;
mod limits;
mod owner;
mod plan;
mod show;
mod usage;
mod wait;
mod world;
mod write;

use std::path::PathBuf;

use anyhow::Context;
use api::capsule::v1beta2::{QuotaScope, Tenant};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;
use tenancy::tenant_admission;

use crate::Place;
use crate::session::{Session, Terminal, Writing, confirm};
use crate::stopped::{EXIT_CODES, Stopped};
use adopt::Whose;
use carry_out::{Decided, carry_out};
use limits::Limit;
use owner::Subject;
use show::{Line, Shown};
use wait::Goal;
use world::{Contents, Me, World};
use write::Write;

pub(crate) use explained::{explained, standing};
pub(crate) use world::tenant_owners;

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
    /// JSON, one value a line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a tenant.
    Create(CreateArgs),
    /// Show all tenants, a line each.
    List,
    /// Show one tenant: owners, namespaces, limits, and who has which role where.
    Show {
        /// Its name.
        tenant: String,
    },
    /// Set and lift limits, or show them: `quota oil namespaces=3 pods=20 requests.cpu=none`.
    Quota(QuotaArgs),
    /// Add and remove owners: `own oil user:alice group:team --remove sa:ops/robot`.
    Own(OwnArgs),
    /// Freeze tenants: their users may look and not change.
    Cordon(CordonArgs),
    /// Let the users of tenants change things again.
    Uncordon(CordonArgs),
    /// Bring namespaces that belong to nobody into a tenant.
    Adopt(AdoptArgs),
    /// Take namespaces from their tenants into another one.
    Move(AdoptArgs),
    /// Delete a tenant with all its namespaces.
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Name of the new tenant.
    tenant: String,
    /// `user:<name>`, `group:<name>` or `sa:<namespace>/<name>`; may repeat.
    #[arg(long, value_name = "OWNER")]
    owner: Vec<Subject>,
    /// ClusterRole that the owners have in the namespaces; may repeat. Without: admin, and to delete namespaces.
    #[arg(long, value_name = "CLUSTERROLE")]
    role: Vec<String>,
    /// `namespaces=3`, `pods=20`, `requests.cpu=8`; may repeat.
    #[arg(long, value_name = "LIMIT")]
    quota: Vec<Limit>,
    /// Whether the namespaces share the limits of resources, or each has them to itself.
    #[arg(long, value_enum, requires = "quota")]
    scope: Option<Scope>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct QuotaArgs {
    /// Its name.
    tenant: String,
    /// `<resource>=<amount>`, or `<resource>=none` to lift the limit. Without any, the limits are shown.
    limits: Vec<Limit>,
    /// Whether the namespaces share the limits of resources, or each has them to itself.
    #[arg(long, value_enum)]
    scope: Option<Scope>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Scope {
    Tenant,
    Namespace,
}

impl From<Scope> for QuotaScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Tenant => Self::Tenant,
            Scope::Namespace => Self::Namespace,
        }
    }
}

#[derive(Debug, clap::Args)]
struct OwnArgs {
    /// Its name.
    tenant: String,
    /// `user:<name>`, `group:<name>` or `sa:<namespace>/<name>`.
    #[arg(value_name = "OWNER", required_unless_present = "remove")]
    add: Vec<Subject>,
    /// Who is an owner no longer; may repeat.
    #[arg(long, value_name = "OWNER")]
    remove: Vec<Subject>,
    /// ClusterRole that those added have in the namespaces; may repeat. Without: admin, and to delete namespaces.
    #[arg(long, value_name = "CLUSTERROLE", requires = "add")]
    role: Vec<String>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct CordonArgs {
    /// Their names.
    #[arg(required = true, value_name = "TENANT")]
    tenants: Vec<String>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct AdoptArgs {
    /// Their names.
    #[arg(required = true, value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// The tenant that they come into.
    #[arg(long)]
    tenant: String,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Its name.
    tenant: String,
    /// Do not ask for the name to be typed.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    writing: Writing,
}

/// Runs one of the commands to its end.
///
/// # Errors
/// Whatever stopped it; [`exit_code`] says how it is told to scripts.
pub async fn run(args: Args, terminal: Terminal<'_>) -> anyhow::Result<()> {
    let mut session = Session {
        client: args.place.client(args.kubeconfig.as_ref()).await?.client,
        json: args.json,
        terminal,
    };
    let session = &mut session;
    match args.command {
        Command::Create(args) => create(session, &args).await,
        Command::List => list(session).await,
        Command::Show { tenant } => show(session, &tenant).await,
        Command::Quota(args) => quota(session, &args).await,
        Command::Own(args) => own(session, &args).await,
        Command::Cordon(args) => cordon(session, &args, true).await,
        Command::Uncordon(args) => cordon(session, &args, false).await,
        Command::Adopt(args) => bring(session, &args, Whose::Nobodys).await,
        Command::Move(args) => bring(session, &args, Whose::AnotherTenants).await,
        Command::Delete(args) => delete(session, &args).await,
    }
}

async fn create(session: &mut Session<'_>, args: &CreateArgs) -> anyhow::Result<()> {
    let mut tenant = Tenant::new(&args.tenant, api::capsule::v1beta2::TenantSpec::default());
    owner::change(&mut tenant.spec, &args.owner, &[], &args.role).map_err(Stopped::refused)?;
    limits::change(&mut tenant.spec, &args.quota, args.scope.map(Into::into)).map_err(Stopped::refused)?;
    let client = session.client.clone();
    let decide = async || {
        let world = World::read(&client).await?;
        let judgement = tenant_admission::validate_create(&tenant, &world.settings);
        refuse(judgement.denial())?;
        Ok(Decided {
            title: format!("create Tenant {}", args.tenant),
            world,
            writes: vec![Write::CreateTenant(Box::new(tenant.clone()))],
            goals: vec![Goal::ready(&args.tenant)],
        })
    };
    carry_out(session, &args.writing, decide).await
}

async fn list(session: &mut Session<'_>) -> anyhow::Result<()> {
    let tenants = Api::<Tenant>::all(session.client.clone())
        .list(&ListParams::default())
        .await
        .context("failed to list tenants")?;
    let lines: Vec<Line> = tenants.iter().map(Line::of).collect();
    if session.json {
        for line in lines {
            session.print(&serde_json::to_string(&line)?)?;
        }
        return Ok(());
    }
    session.terminal.output.write_all(show::list(&lines).as_bytes())?;
    Ok(())
}

async fn look(session: &Session<'_>, tenant: &str) -> anyhow::Result<Shown> {
    let mut world = World::read(&session.client).await?;
    world.add_tenant(&session.client, tenant).await?;
    let contents = Contents::read(&session.client, &world).await?;
    Ok(Shown::of(&world, world.tenant(tenant)?, &contents))
}

async fn show(session: &mut Session<'_>, tenant: &str) -> anyhow::Result<()> {
    let shown = look(session, tenant).await?;
    session.tell(&shown, || shown.told())
}

async fn quota(session: &mut Session<'_>, args: &QuotaArgs) -> anyhow::Result<()> {
    if args.limits.is_empty() && args.scope.is_none() {
        let shown = look(session, &args.tenant).await?;
        return session.tell(&shown.limits(), || shown.limits_told());
    }
    let title = format!("change the quota of Tenant {}", args.tenant);
    change(session, &args.writing, &args.tenant, title, |tenant| {
        limits::change(&mut tenant.spec, &args.limits, args.scope.map(Into::into))?;
        Ok(limits::patch(&tenant.spec))
    })
    .await
}

async fn own(session: &mut Session<'_>, args: &OwnArgs) -> anyhow::Result<()> {
    let title = format!("change the owners of Tenant {}", args.tenant);
    change(session, &args.writing, &args.tenant, title, |tenant| {
        owner::change(&mut tenant.spec, &args.add, &args.remove, &args.role)?;
        Ok(owner::patch(&tenant.spec))
    })
    .await
}

/// Changes one tenant: `edit` changes it in memory, and says the same as a merge patch.
async fn change(
    session: &mut Session<'_>,
    writing: &Writing,
    name: &str,
    title: String,
    edit: impl Fn(&mut Tenant) -> Result<serde_json::Value, String>,
) -> anyhow::Result<()> {
    let client = session.client.clone();
    let decide = async || {
        let mut world = World::read(&client).await?;
        world.add_tenant(&client, name).await?;
        let write = edited(world.tenant(name)?, &edit)?;
        Ok(Decided {
            title: title.clone(),
            world,
            writes: write.into_iter().collect(),
            goals: vec![Goal::ready(name)],
        })
    };
    carry_out(session, writing, decide).await
}

/// The write that an edit makes, if it changes anything; admission's sentence, if it would be refused.
fn edited(
    tenant: &Tenant,
    edit: impl Fn(&mut Tenant) -> Result<serde_json::Value, String>,
) -> anyhow::Result<Option<Write>> {
    let mut changed = tenant.clone();
    let patch = edit(&mut changed).map_err(Stopped::refused)?;
    if changed.spec == tenant.spec {
        return Ok(None);
    }
    refuse(tenant_admission::validate_update(&changed, tenant).denial())?;
    Ok(Some(Write::patch_tenant(tenant, patch)))
}

fn refuse(denial: Option<&tenancy::denial::Denial>) -> anyhow::Result<()> {
    match denial {
        Some(denial) => Err(Stopped::refused(&denial.message)),
        None => Ok(()),
    }
}

async fn cordon(session: &mut Session<'_>, args: &CordonArgs, cordoned: bool) -> anyhow::Result<()> {
    let client = session.client.clone();
    let verb = if cordoned { "cordon" } else { "uncordon" };
    let decide = async || {
        let mut world = World::read(&client).await?;
        let mut writes = Vec::new();
        for name in &args.tenants {
            world.add_tenant(&client, name).await?;
            writes.extend(edited(world.tenant(name)?, |tenant| {
                tenant.spec.cordoned = cordoned;
                Ok(json!({"spec": {"cordoned": cordoned}}))
            })?);
        }
        Ok(Decided {
            title: format!("{verb} {}", args.tenants.join(", ")),
            world,
            writes,
            goals: args.tenants.iter().map(|name| Goal::ready(name)).collect(),
        })
    };
    carry_out(session, &args.writing, decide).await
}

async fn bring(session: &mut Session<'_>, args: &AdoptArgs, whose: Whose) -> anyhow::Result<()> {
    let client = session.client.clone();
    let me = Me::ask(&client).await?;
    let verb = match whose {
        Whose::Nobodys => "adopt",
        Whose::AnotherTenants => "move",
    };
    let decide = async || {
        let mut world = World::read(&client).await?;
        world.add_tenant(&client, &args.tenant).await?;
        for namespace in &args.namespaces {
            world.add_namespace(&client, namespace).await?;
        }
        let writes = adopt::writes(&world, &me, whose, &args.tenant, &args.namespaces)?;
        Ok(Decided {
            title: format!("{verb} {} into Tenant {}", args.namespaces.join(", "), args.tenant),
            writes,
            goals: goals(&world, args),
            world,
        })
    };
    carry_out(session, &args.writing, decide).await
}

/// The tenant has them, and those who had them do not.
fn goals(world: &World, args: &AdoptArgs) -> Vec<Goal> {
    let others = world.tenants.values().filter(|tenant| tenant.name_any() != args.tenant);
    let left = others.map(|tenant| Goal::Ready {
        tenant: tenant.name_any(),
        with: Vec::new(),
        without: args.namespaces.clone(),
    });
    let joined = Goal::Ready {
        tenant: args.tenant.clone(),
        with: args.namespaces.clone(),
        without: Vec::new(),
    };
    std::iter::once(joined).chain(left).collect()
}

async fn delete(session: &mut Session<'_>, args: &DeleteArgs) -> anyhow::Result<()> {
    let client = session.client.clone();
    let mut world = World::read(&client).await?;
    world.add_tenant(&client, &args.tenant).await?;
    let tenant = world.tenant(&args.tenant)?;
    refuse(tenant_admission::validate_delete(tenant).denial())?;
    let going = deletion::Going::read(&client, &world, tenant).await?;
    session.tell(&going, || going.told())?;
    if !args.yes && !args.writing.writes_nothing() {
        confirm(&mut session.terminal, "tenant", &args.tenant)?;
    }
    // What was confirmed is the tenant that was shown, whatever bears its name by now.
    let confirmed = tenant.uid().unwrap_or_default();
    let decide = async || {
        let mut world = World::read(&client).await?;
        world.look_for_tenant(&client, &args.tenant).await?;
        let tenant = world
            .tenants
            .get(&args.tenant)
            .filter(|tenant| tenant.uid().as_deref() == Some(&confirmed));
        let writes = tenant.map(|tenant| Write::DeleteTenant {
            name: args.tenant.clone(),
            uid: confirmed.clone(),
            version: tenant.resource_version().unwrap_or_default(),
        });
        Ok(Decided {
            title: format!("delete Tenant {}", args.tenant),
            writes: writes.into_iter().collect(),
            goals: vec![Goal::Gone {
                tenant: args.tenant.clone(),
                uid: confirmed.clone(),
            }],
            world,
        })
    };
    carry_out(session, &args.writing, decide).await
}
