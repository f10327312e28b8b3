//! `cotenant up`: from a bare machine to a table of tenants, and again to repair what is broken.
//!
//! Every step looks at what is there first, so that a second run is quick, and a run after Ctrl-C goes on where the
//! first one stopped. Order: machine, programs, images, cluster, Cotenant's chart, tenants, their kubeconfigs, workers.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use api::{capsule::v1beta2::Tenant, kamaji::v1alpha1::TenantControlPlane};
use kube::{
    Client, ResourceExt,
    api::{Api, DynamicObject},
};
use local::{
    cluster::{Cluster, Options},
    progress::{Outcome, Progress},
    worker::{Join, Worker},
};

use crate::{Place, credentials, install, manifest, prepare, progress, tenant_table, worker};

/// Annotation of a Tenant owned by a group: whom to make a kubeconfig for.
const KUBECONFIG_USER: &str = "cotenant.dev/kubeconfig-user";
const PATIENCE: Duration = Duration::from_secs(180);
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Upstream programs that are built already; otherwise they are built from `tools/` and kept in the cache.
    #[arg(long, env = "COTENANT_PROGRAMS")]
    programs: Option<PathBuf>,
    /// Helm chart to install.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant"))]
    chart: PathBuf,
    /// Folder of manifests that make the tenants.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hybrid"))]
    example: PathBuf,
    /// Only the cluster and Cotenant, no tenants.
    #[arg(long)]
    without_example: bool,
    /// Progress and the table as JSON lines.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let progress = progress::choose(args.json);
    let progress = progress.as_ref();
    let (programs, made) = tokio::task::block_in_place(|| {
        let programs = prepare::machine_and_programs(args.programs.as_ref(), progress)?;
        let made = prepare::images(&programs, progress)?;
        anyhow::Ok((programs, made))
    })?;
    let mut options = Options::new(
        args.place.cluster.clone(),
        programs.clone(),
        made.images.directory.clone(),
    );
    options.root.clone_from(&args.place.state);
    let cluster = Cluster::start(options, progress).await?;
    let bin = args.place.bin();
    link(&bin, programs.directory())?;
    let client = cluster.client();

    shown(
        progress,
        "install Cotenant with its chart",
        Some(Duration::from_secs(12)),
        async {
            for object in manifest::read_folder(&args.chart.join("crds"))? {
                manifest::apply(&client, &object).await?;
            }
            let release = install::Release {
                helm: &programs.path("helm"),
                chart: &args.chart,
                kubeconfig: &cluster.kubeconfig(),
                home: &cluster.directory().join("helm"),
                image_tag: &made.tag,
                kine_image: &format!("docker.io/rancher/kine:{}", programs.kine_version()?),
            };
            install::upgrade(&client, &release).await
        },
    )
    .await?;

    if !args.without_example {
        tenants(&args, &cluster, &client, progress).await?;
    }
    let admin = admin_kubeconfig(&cluster)?;
    let rows = tenant_table::collect(&client, &admin.server, &args.place.kubeconfigs()).await?;
    if args.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        print!("\n{}", tenant_table::render(&rows));
        println!(
            "\nadministrator: {}\nkubectl, helm: {}",
            cluster.kubeconfig().display(),
            bin.display()
        );
    }
    match rows.iter().find(|row| !row.ready) {
        Some(row) => bail!("{} is not ready: {}", row.tenant, row.message),
        None => Ok(()),
    }
}

/// Applies the example, waits for each tenant, writes kubeconfigs, joins a worker to each control plane.
async fn tenants(args: &Args, cluster: &Cluster, client: &Client, progress: &dyn Progress) -> anyhow::Result<()> {
    let objects = manifest::read_folder(&args.example)?;
    shown(progress, "apply the tenants", None, async {
        for object in &objects {
            let address = cluster.address().to_string();
            manifest::apply(client, &with_address(object, &address)).await?;
        }
        Ok(())
    })
    .await?;
    let admin = admin_kubeconfig(cluster)?;
    let folder = args.place.kubeconfigs();
    for object in &objects {
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        let name = object.name_any();
        let file = folder.join(format!("{name}.kubeconfig"));
        match kind {
            "Tenant" => {
                shown(
                    progress,
                    &format!("tenant {name}"),
                    Some(Duration::from_secs(1)),
                    async {
                        let tenant = wait_tenant(client, &name).await?;
                        if !file.exists() {
                            let (user, groups) = person(&tenant)?;
                            write_private(&file, &credentials::sign_user(client, &admin, &user, &groups).await?)?;
                        }
                        Ok(())
                    },
                )
                .await?;
            }
            "TenantControlPlane" => {
                let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
                let step = format!("control plane {name}");
                let kubeconfig = shown(progress, &step, Some(Duration::from_secs(15)), async {
                    let plane = wait_control_plane(client, &namespace, &name, &step, progress).await?;
                    let kubeconfig = credentials::of_control_plane(client, &plane).await?;
                    write_private(&file, &kubeconfig)?;
                    worker::answers(&worker::client(&kubeconfig).await?, ANSWERS_WITHIN).await?;
                    Ok(kubeconfig)
                })
                .await?;
                shown(
                    progress,
                    &format!("worker of {name}"),
                    Some(Duration::from_secs(12)),
                    join(cluster, &name, &kubeconfig),
                )
                .await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A control plane behind a NodePort needs an address that its workers reach: here, the admin node's.
fn with_address(object: &DynamicObject, address: &str) -> DynamicObject {
    let mut object = object.clone();
    if object
        .types
        .as_ref()
        .is_some_and(|types| types.kind == "TenantControlPlane")
        && object.data["spec"]["controlPlane"]["service"]["serviceType"] == "NodePort"
        && object.data["spec"]["networkProfile"]["address"].is_null()
    {
        object.data["spec"]["networkProfile"]["address"] = address.into();
    }
    object
}

/// The user and groups that a tenant's kubeconfig is for.
fn person(tenant: &Tenant) -> anyhow::Result<(String, Vec<String>)> {
    let mut groups = vec![api::capsule::names::DEFAULT_USER_GROUP.to_owned()];
    let owners = || tenant.spec.owners.iter().map(|owner| &owner.core.user);
    if let Some(user) = owners().find(|user| user.kind.to_string() == "User") {
        return Ok((user.name.clone(), groups));
    }
    let Some(group) = owners().find(|user| user.kind.to_string() == "Group") else {
        bail!(
            "tenant {} has no user or group as owner, so nobody can get a kubeconfig",
            tenant.name_any()
        );
    };
    let named = tenant.annotations().get(KUBECONFIG_USER).cloned();
    groups.push(group.name.clone());
    Ok((named.unwrap_or_else(|| format!("{}-user", tenant.name_any())), groups))
}

async fn wait_tenant(client: &Client, name: &str) -> anyhow::Result<Tenant> {
    let tenants: Api<Tenant> = Api::all(client.clone());
    let begun = tokio::time::Instant::now();
    loop {
        let tenant = tenants.get(name).await?;
        let ready = tenant
            .status
            .iter()
            .flat_map(|status| &status.conditions)
            .find(|condition| condition.type_ == "Ready");
        match ready {
            Some(condition) if condition.status == "True" => return Ok(tenant),
            _ if begun.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(100)).await,
            Some(condition) => bail!("tenant {name} is not ready: {}", condition.message),
            None => bail!(
                "tenant {name} was not reconciled; look at the operator's pods in {}",
                install::NAMESPACE
            ),
        }
    }
}

async fn wait_control_plane(
    client: &Client,
    namespace: &str,
    name: &str,
    step: &str,
    progress: &dyn Progress,
) -> anyhow::Result<TenantControlPlane> {
    let planes: Api<TenantControlPlane> = Api::namespaced(client.clone(), namespace);
    let begun = tokio::time::Instant::now();
    let mut last = String::new();
    loop {
        let plane = planes.get(name).await?;
        let row = tenant_table::of_control_plane(&plane);
        if row.ready {
            return Ok(plane);
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "control plane {namespace}/{name} is not ready: {}; see `cotenant explain tcp/{name}`",
                row.message
            );
        }
        if row.message != last {
            progress.note(step, &row.message);
            last = row.message;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One worker for a control plane, joined by kubeadm unless it is there and Ready.
async fn join(cluster: &Cluster, name: &str, kubeconfig: &str) -> anyhow::Result<()> {
    let node = format!("{name}-worker");
    let tenant = worker::client(kubeconfig).await?;
    let invitation = worker::invite(&tenant, kubeconfig).await?;
    let join = Join {
        name: node.clone(),
        endpoint: invitation.endpoint,
        token: invitation.token,
        ca_hashes: vec![invitation.ca_hash],
        pod_subnet: None,
        memory_bytes: None,
    };
    let started = tokio::task::block_in_place(|| Worker::join(cluster, &join))?;
    started.joined(cluster, PATIENCE).await?;
    let begun = tokio::time::Instant::now();
    while !worker::is_ready(&tenant, &node).await? {
        if begun.elapsed() > PATIENCE {
            bail!(
                "node {node} joined and is not Ready; its kubelet's log lies in {}",
                cluster.directory().display()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

fn admin_kubeconfig(cluster: &Cluster) -> anyhow::Result<pki::Kubeconfig> {
    let path = cluster.kubeconfig();
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(pki::Kubeconfig::parse(&text)?)
}

/// Programs of the cluster's version at a place that stays the same.
fn link(place: &Path, programs: &Path) -> anyhow::Result<()> {
    if fs::read_link(place).is_ok_and(|target| target == programs) {
        return Ok(());
    }
    let temporary = place.with_extension("new");
    let made = match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => symlink(programs, &temporary).and_then(|()| fs::rename(&temporary, place)),
    };
    made.with_context(|| format!("failed to link {} to {}", place.display(), programs.display()))
}

/// A file that only its owner reads.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let temporary = path.with_extension("new");
        fs::write(&temporary, "")?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        fs::write(&temporary, text)?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

async fn shown<T>(
    progress: &dyn Progress,
    step: &str,
    expected: Option<Duration>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    progress.begin(step, expected);
    let result = work.await;
    progress.end(step, if result.is_ok() { Outcome::Done } else { Outcome::Failed });
    result
}
