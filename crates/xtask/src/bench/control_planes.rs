//! Hosted control planes: time to Ready, what that costs the operator, what an idle one holds.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    ResourceExt,
    api::{Api, DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use super::{
    bed::{Bed, CLUSTER},
    percentile, processes, report,
};

pub(super) const NAMESPACE: &str = "default";
const FIRST_PORT: u16 = 31_500;
const PATIENCE: Duration = Duration::from_secs(600);

/// From the creation of `count` control planes to the moment the last of them is Ready.
pub(crate) async fn time_to_ready(bed: &Bed, bench: &str, count: u16) -> anyhow::Result<()> {
    let cpu_before = processes::operator_cpu(CLUSTER);
    let begun = Instant::now();
    create(bed, count).await?;
    let ready = wait_ready(bed, count, begun).await?;
    let cpu = processes::operator_cpu(CLUSTER) - cpu_before;
    let (peak, _) = processes::operator_memory(CLUSTER);
    report(
        bed,
        &format!("control-planes-{bench}"),
        &json!({
            "count": count,
            "seconds_to_last_ready": ready.last(),
            "seconds_to_median_ready": percentile(&ready, 50.0),
            "operator_cpu_seconds": cpu,
            "operator_cpu_seconds_each": cpu / f64::from(count),
            "operator_peak_rss_mib": peak,
            "container_restarts": restarts(bed).await?,
        }),
    );
    delete(bed).await
}

/// Proportional memory of an idle control plane, by component: five run, then sit for `idle_seconds`.
pub(crate) async fn idle_memory(bed: &Bed, idle_seconds: u64) -> anyhow::Result<()> {
    create(bed, 5).await?;
    wait_ready(bed, 5, Instant::now()).await?;
    tokio::time::sleep(Duration::from_secs(idle_seconds)).await;
    let pods = pods(bed).await?;
    let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let cpu = || -> f64 {
        components
            .iter()
            .flat_map(|c| processes::find(CLUSTER, &[c]))
            .map(|p| p.cpu_seconds())
            .sum()
    };
    let mut totals = Vec::new();
    let mut by_component: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for pod in &pods {
        let uid = pod.uid().unwrap_or_default();
        let mut total = 0.0;
        for component in components {
            let of_pod = processes::find(CLUSTER, &[component])
                .into_iter()
                .find(|process| process.cgroup.contains(&uid));
            let Some(process) = of_pod else {
                bail!("pod {} runs no {component}", pod.name_any())
            };
            by_component.entry(component).or_default().push(process.pss_mib());
            total += process.pss_mib();
        }
        totals.push(total);
    }
    let before = cpu();
    let window = Duration::from_secs(60);
    tokio::time::sleep(window).await;
    let cpu_millicores_each = (cpu() - before) / window.as_secs_f64() / 5.0 * 1000.0;
    totals.sort_by(f64::total_cmp);
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        percentile(values, 50.0)
    };
    let components: BTreeMap<_, _> = by_component
        .iter_mut()
        .map(|(name, values)| (*name, median(values)))
        .collect();
    report(
        bed,
        "control-plane-idle",
        &json!({"idle_seconds": idle_seconds, "planes": 5, "pss_mib_median": percentile(&totals, 50.0), "pss_mib_by_component": components,
                "cpu_millicores_each": cpu_millicores_each}),
    );
    delete(bed).await
}

async fn create(bed: &Bed, count: u16) -> anyhow::Result<()> {
    create_from(bed, 0, count).await
}

pub(super) async fn create_from(bed: &Bed, first: u16, count: u16) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(bed.admin.clone()).list(&ListParams::default()).await?;
    let address = nodes
        .iter()
        .flat_map(|node| node.status.iter().flat_map(|s| s.addresses.iter().flatten()))
        .find(|a| a.type_ == "InternalIP");
    let address = address.map(|address| address.address.clone()).unwrap_or_default();
    let planes: Api<TenantControlPlane> = Api::namespaced(bed.admin.clone(), NAMESPACE);
    for number in first..first + count {
        let plane: TenantControlPlane = serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1",
            "kind": "TenantControlPlane",
            "metadata": {"name": format!("bench-{number}")},
            "spec": {
                "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "NodePort"}},
                "kubernetes": {"version": "v1.36.3", "kubelet": {}},
                "networkProfile": {"address": address, "port": FIRST_PORT + number},
                "addons": {"coreDNS": {}, "kubeProxy": {}},
            },
        }))?;
        planes.create(&PostParams::default(), &plane).await?;
    }
    Ok(())
}

/// Seconds at which each became Ready, sorted.
pub(super) async fn wait_ready(bed: &Bed, count: u16, begun: Instant) -> anyhow::Result<Vec<f64>> {
    let planes: Api<TenantControlPlane> = Api::namespaced(bed.admin.clone(), NAMESPACE);
    let mut ready: BTreeMap<String, f64> = BTreeMap::new();
    // A list of many costs the machine more than what it would tell sooner.
    let pause = Duration::from_millis(if count > 10 { 500 } else { 100 });
    while ready.len() < usize::from(count) {
        ensure!(
            begun.elapsed() < PATIENCE,
            "only {} of {count} control planes were ready within {PATIENCE:?}",
            ready.len()
        );
        for plane in planes.list(&ListParams::default()).await? {
            let status = serde_json::to_value(&plane.status)?;
            if status["kubernetesResources"]["version"]["status"] == "Ready" {
                ready
                    .entry(plane.name_any())
                    .or_insert_with(|| begun.elapsed().as_secs_f64());
            }
        }
        tokio::time::sleep(pause).await;
    }
    let mut seconds: Vec<f64> = ready.into_values().collect();
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

pub(super) async fn pods(bed: &Bed) -> anyhow::Result<Vec<Pod>> {
    let wanted = ListParams::default().labels("kamaji.clastix.io/component=deployment");
    Ok(Api::<Pod>::namespaced(bed.admin.clone(), NAMESPACE)
        .list(&wanted)
        .await?
        .items)
}

async fn restarts(bed: &Bed) -> anyhow::Result<i32> {
    let pods = pods(bed).await?;
    let statuses = pods
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref())
        .flatten();
    Ok(statuses.map(|status| status.restart_count).sum())
}

pub(super) async fn delete(bed: &Bed) -> anyhow::Result<()> {
    let planes: Api<TenantControlPlane> = Api::namespaced(bed.admin.clone(), NAMESPACE);
    planes
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    let begun = Instant::now();
    while !planes.list(&ListParams::default()).await?.items.is_empty() || !pods(bed).await?.is_empty() {
        ensure!(
            begun.elapsed() < PATIENCE,
            "control planes were not gone within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
