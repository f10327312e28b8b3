//! What each way to make an awake, idle control plane smaller is worth: one control plane a row, all side by side.
//!
//! A row begins as the operator renders it and is then paused, so that its Deployment may be written by the bench: that way
//! a row may hold flags and variables that nobody can ask for on a TenantControlPlane.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::kamaji::names::PAUSED_ANNOTATION;
use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar, Probe};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::bed::{Bed, CLUSTER};
use super::processes::{self, Process};
use super::{control_planes, report};

const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Rows that start at a time: starts that wait for each other end in probes that fail.
const AT_ONCE: usize = 3;
const PATIENCE: Duration = Duration::from_secs(600);

/// What each of these names gets; `None` takes one away.
type Values = &'static [(&'static str, Option<&'static str>)];
type ByComponent = &'static [(&'static str, Values)];

/// How the containers of a row differ from what the operator renders.
struct Row {
    name: &'static str,
    /// Variables of all three.
    env: Values,
    /// Flags without dashes.
    flags: ByComponent,
    /// How often kubelet asks whether a component is ready, if that is another period: seconds.
    ready_seconds: Option<i32>,
}

const SLOW_LEASES: Values = &[
    ("leader-elect-lease-duration", Some("60s")),
    ("leader-elect-renew-deadline", Some("40s")),
    ("leader-elect-retry-period", Some("10s")),
];
const NO_LEASES: Values = &[("leader-elect", Some("false"))];
const NO_POLLS: Values = &[
    ("etcd-count-metric-poll-period", Some("0")),
    ("etcd-db-metric-poll-interval", Some("0")),
];

/// The first two are the same, and so are the next two: what they differ by is noise.
const ROWS: &[Row] = &[
    row("as rendered", &[], &[]),
    row("as rendered (2)", &[], &[]),
    row("plain", NO_VARIABLES, PLAIN),
    row("plain (2)", NO_VARIABLES, PLAIN),
    row("GOGC=50", &[("GOGC", Some("50"))], &[]),
    row("GOGC=10", &[("GOGC", Some("10"))], &[]),
    row("one core", &[("GOMAXPROCS", Some("1"))], &[]),
    row("ready every 2 s", &[], &[]).ready_every(2),
    row(
        "leases every 5 s",
        &[],
        &[
            ("kube-controller-manager", &[("leader-elect-retry-period", Some("5s"))]),
            ("kube-scheduler", &[("leader-elect-retry-period", Some("5s"))]),
        ],
    ),
    row(
        "leases every 10 s",
        &[],
        &[
            ("kube-controller-manager", SLOW_LEASES),
            ("kube-scheduler", SLOW_LEASES),
        ],
    ),
    row(
        "no leases",
        &[],
        &[("kube-controller-manager", NO_LEASES), ("kube-scheduler", NO_LEASES)],
    ),
    row("no counts of objects", &[], &[("kube-apiserver", NO_POLLS)]),
    row(
        "no fairness",
        &[],
        &[("kube-apiserver", &[("enable-priority-and-fairness", Some("false"))])],
    ),
    row(
        "no watch cache",
        &[],
        &[("kube-apiserver", &[("watch-cache", Some("false"))])],
    ),
    row(
        "one identity for controllers",
        &[],
        &[(
            "kube-controller-manager",
            &[("use-service-account-credentials", Some("false"))],
        )],
    ),
    row(
        "fewer controllers",
        &[],
        &[("kube-controller-manager", &[("controllers", Some(FEWER_CONTROLLERS))])],
    ),
    row(
        "fewer APIs",
        &[],
        &[
            (
                "kube-apiserver",
                &[("runtime-config", Some("autoscaling/v1=false,autoscaling/v2=false"))],
            ),
            (
                "kube-controller-manager",
                &[(
                    "controllers",
                    Some("*,bootstrapsigner,tokencleaner,-horizontal-pod-autoscaler-controller"),
                )],
            ),
        ],
    ),
    row("small", &[("GOMAXPROCS", Some("1")), ("GOGC", Some("20"))], SMALL),
    row(
        "small with GOGC=25",
        &[("GOMAXPROCS", Some("1")), ("GOGC", Some("25"))],
        SMALL,
    ),
    row(
        "small with GOGC=10",
        &[("GOMAXPROCS", Some("1")), ("GOGC", Some("10"))],
        SMALL,
    ),
];

const NO_VARIABLES: Values = &[("GOGC", None)];

/// The flags of the profile `small`.
const SMALL: ByComponent = &[
    ("kube-apiserver", NO_POLLS),
    ("kube-controller-manager", SLOW_LEASES),
    ("kube-scheduler", SLOW_LEASES),
];

/// The flags of the peer, where ours are others.
const PLAIN: ByComponent = &[("kube-apiserver", &[("endpoint-reconciler-type", None)])];

/// All that the parts of a small cluster could do without for a while.
const FEWER_CONTROLLERS: &str = "*,bootstrapsigner,tokencleaner,-cronjob-controller,-horizontal-pod-autoscaler-controller,\
    -ttl-after-finished-controller,-persistentvolume-expander-controller,-ephemeral-volume-controller,\
    -resourceclaim-controller,-device-taint-eviction-controller,-validatingadmissionpolicy-status-controller,\
    -service-cidr-controller,-storageversion-garbage-collector-controller,-service-lb-controller,-node-route-controller,\
    -cloud-node-lifecycle-controller";

const fn row(name: &'static str, env: Values, flags: ByComponent) -> Row {
    Row {
        name,
        env,
        flags,
        ready_seconds: None,
    }
}

impl Row {
    const fn ready_every(self, seconds: i32) -> Self {
        Self {
            ready_seconds: Some(seconds),
            ..self
        }
    }
}

/// `named`: which rows; all when there are none.
pub(crate) async fn run(bed: &Bed, named: &[String], idle_seconds: u64) -> anyhow::Result<()> {
    let rows = ROWS
        .iter()
        .filter(|row| named.is_empty() || named.iter().any(|name| name == row.name));
    let rows: Vec<(usize, &Row)> = rows.enumerate().collect();
    let mut made = 0;
    for some in rows.chunks(AT_ONCE) {
        let more = u16::try_from(some.len())?;
        control_planes::create_from(bed, made, more).await?;
        made += more;
        control_planes::wait_ready(bed, made, Instant::now()).await?;
        for (number, row) in some {
            write(bed, &format!("bench-{number}"), row).await?;
        }
        for (number, _) in some {
            rolled_out(bed, &format!("bench-{number}")).await?;
        }
    }
    let idle = Duration::from_secs(idle_seconds);
    tokio::time::sleep(idle).await;
    measure(bed, &rows, idle).await?;
    let planes: Api<TenantControlPlane> = Api::namespaced(bed.admin.clone(), control_planes::NAMESPACE);
    for (number, _) in rows {
        let go_on = json!({"metadata": {"annotations": {PAUSED_ANNOTATION: null}}});
        planes
            .patch(
                &format!("bench-{number}"),
                &PatchParams::default(),
                &Patch::Merge(&go_on),
            )
            .await?;
    }
    control_planes::delete(bed).await
}

/// Makes a row's pods what the row says.
async fn write(bed: &Bed, name: &str, row: &Row) -> anyhow::Result<()> {
    let pause = json!({"metadata": {"annotations": {PAUSED_ANNOTATION: ""}}});
    let planes: Api<TenantControlPlane> = Api::namespaced(bed.admin.clone(), control_planes::NAMESPACE);
    planes
        .patch(name, &PatchParams::default(), &Patch::Merge(&pause))
        .await?;
    // A pass that had begun may still be writing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let deployments = deployments(bed);
    let mut deployment = deployments.get(name).await?;
    let pod = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    for container in &mut pod.context("a Deployment has pods")?.containers {
        change(container, row);
    }
    deployments.replace(name, &PostParams::default(), &deployment).await?;
    Ok(())
}

fn change(container: &mut Container, row: &Row) {
    if !COMPONENTS.contains(&container.name.as_str()) {
        return;
    }
    for (name, value) in row.env {
        let variables = container.env.get_or_insert_with(Vec::new);
        variables.retain(|known| known.name != *name);
        variables.extend(value.map(|value| EnvVar {
            name: (*name).to_owned(),
            value: Some(value.to_owned()),
            value_from: None,
        }));
    }
    if let (Some(seconds), Some(probe)) = (row.ready_seconds, &mut container.readiness_probe) {
        *probe = Probe {
            period_seconds: Some(seconds),
            failure_threshold: Some(30 / seconds),
            ..probe.clone()
        };
    }
    let of_it = row.flags.iter().filter(|(component, _)| *component == container.name);
    for (name, value) in of_it.flat_map(|(_, flags)| *flags) {
        let arguments = container.args.get_or_insert_with(Vec::new);
        arguments.retain(|known| known.split('=').next() != Some(&format!("--{name}")));
        arguments.extend(value.map(|value| format!("--{name}={value}")));
    }
}

/// Until the pod that was asked for is the only one, and ready.
async fn rolled_out(bed: &Bed, name: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let deployment = deployments(bed).get(name).await?;
        let status = deployment.status.unwrap_or_default();
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        let pods = control_planes::pods(bed).await?;
        let alone = pods
            .iter()
            .filter(|pod| pod.name_any().starts_with(&format!("{name}-")))
            .count()
            == 1;
        if status.observed_generation >= deployment.metadata.generation && counts == [Some(1); 3] && alone {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{name} does not come up: {status:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn deployments(bed: &Bed) -> Api<Deployment> {
    Api::namespaced(bed.admin.clone(), control_planes::NAMESPACE)
}

/// One line a row: memory now, and CPU time from now on.
async fn measure(bed: &Bed, numbered: &[(usize, &Row)], window: Duration) -> anyhow::Result<()> {
    let pods = control_planes::pods(bed).await?;
    let mut rows = Vec::new();
    for (number, row) in numbered {
        let prefix = format!("bench-{number}-");
        let pod = pods.iter().find(|pod| pod.name_any().starts_with(&prefix));
        let uid = pod
            .and_then(ResourceExt::uid)
            .with_context(|| format!("{} has a pod", row.name))?;
        let mut of_row = BTreeMap::new();
        for component in COMPONENTS {
            let process = processes::find(CLUSTER, &[component])
                .into_iter()
                .find(|process| process.is_in_pod(&uid));
            of_row.insert(
                component,
                process.with_context(|| format!("{} runs {component}", row.name))?,
            );
        }
        rows.push((row, of_row));
    }
    let cpu = |of_row: &BTreeMap<&'static str, Process>| -> BTreeMap<&'static str, f64> {
        of_row
            .iter()
            .map(|(name, process)| (*name, process.cpu_seconds()))
            .collect()
    };
    let before: Vec<_> = rows.iter().map(|(_, of_row)| cpu(of_row)).collect();
    tokio::time::sleep(window).await;
    for ((row, of_row), before) in rows.iter().zip(before) {
        let millicores: BTreeMap<_, f64> = cpu(of_row)
            .into_iter()
            .map(|(name, after)| (name, (after - before[name]) / window.as_secs_f64() * 1000.0))
            .collect();
        let pss: BTreeMap<_, f64> = of_row
            .iter()
            .map(|(name, process)| (*name, process.pss_mib()))
            .collect();
        report(
            bed,
            "savings",
            &json!({
                "row": row.name, "idle_seconds": window.as_secs(),
                "pss_mib": pss.values().sum::<f64>(), "pss_mib_by_component": pss,
                "cpu_millicores": millicores.values().sum::<f64>(), "cpu_millicores_by_component": millicores,
            }),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_away_replaces_and_adds_and_leaves_other_containers_alone() {
        const ROW: Row = row(
            "test",
            &[("GOGC", None), ("GOMAXPROCS", Some("1"))],
            &[(
                "kube-scheduler",
                &[("leader-elect", Some("false")), ("kubeconfig", None), ("v", Some("1"))],
            )],
        );
        let container = |name: &str| Container {
            name: name.to_owned(),
            args: Some(
                ["--kubeconfig=/a", "--leader-elect=true", "--leader-elect-x=1"]
                    .map(str::to_owned)
                    .into(),
            ),
            env: Some(vec![EnvVar {
                name: "GOGC".to_owned(),
                value: Some("25".to_owned()),
                value_from: None,
            }]),
            ..Container::default()
        };
        let (mut scheduler, mut sidecar) = (container("kube-scheduler"), container("sidecar"));
        change(&mut scheduler, &ROW);
        change(&mut sidecar, &ROW);
        assert_eq!(
            scheduler.args.unwrap(),
            ["--leader-elect-x=1", "--leader-elect=false", "--v=1"]
        );
        let variables: Vec<_> = scheduler
            .env
            .unwrap()
            .into_iter()
            .map(|one| (one.name, one.value))
            .collect();
        assert_eq!(variables, [("GOMAXPROCS".to_owned(), Some("1".to_owned()))]);
        assert_eq!(sidecar, container("sidecar"));
    }
}
