//! A hundred hosted control planes whose pods are stubbed ([`super::stub`]): what the operator alone takes to make them, and what
//! it holds and asks when they are quiet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::kamaji::v1alpha1::TenantControlPlane;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, PostParams};
use serde_json::json;

use super::bed::{Bed, CLUSTER};
use super::namespaces::IN_FLIGHT;
use super::stub::{NODE, Stub, TAINT};
use super::{control_planes, percentile, processes, report, requests, thousand};

const COUNT: u16 = 100;

pub(crate) async fn run(bed: &Bed, quiet_seconds: u64) -> anyhow::Result<()> {
    let stub = Stub::start(&bed.admin, &bed.kubernetes).await?;
    thousand::settle(bed).await?;
    converge(bed, &stub).await?;
    thousand::settle(bed).await?;
    quiet(bed, &stub, quiet_seconds).await?;
    let begun = Instant::now();
    control_planes::delete(bed).await?;
    let (peak, _) = processes::operator_memory(CLUSTER);
    report(
        bed,
        "hundred-gone",
        &json!({"count": COUNT, "seconds_to_gone": begun.elapsed().as_secs_f64(), "operator_peak_rss_mib": peak}),
    );
    stub.end().await
}

/// From the first create to the last that is Ready.
async fn converge(bed: &Bed, stub: &Stub) -> anyhow::Result<()> {
    let (_, pss_before) = processes::operator_memory(CLUSTER);
    let (cpu_before, all_before) = (processes::operator_cpu(CLUSTER), processes::cpu_by_program(CLUSTER));
    let (asked_before, inside_before) = (requests::of_flow(&bed.admin, FLOW).await?, stub.asked());
    let begun = Instant::now();
    let planes: Api<TenantControlPlane> = Api::namespaced(bed.admin.clone(), control_planes::NAMESPACE);
    stream::iter(0..COUNT)
        .map(|number| {
            let planes = planes.clone();
            async move {
                planes.create(&PostParams::default(), &plane(number)?).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    let created = begun.elapsed().as_secs_f64();
    let ready = control_planes::wait_ready(bed, COUNT, begun).await?;
    let cpu = processes::operator_cpu(CLUSTER) - cpu_before;
    let of_all: BTreeMap<_, _> = processes::cpu_by_program(CLUSTER)
        .into_iter()
        .map(|(program, now)| {
            let before = all_before.get(&program).copied().unwrap_or_default();
            (program, now - before)
        })
        .filter(|(_, more)| *more >= 0.1)
        .collect();
    let asked = requests::of_flow(&bed.admin, FLOW).await? - asked_before;
    thousand::settle(bed).await?;
    let (peak, pss) = processes::operator_memory(CLUSTER);
    report(
        bed,
        "hundred-converge",
        &json!({
            "count": COUNT, "seconds_to_last_created": created, "seconds_to_last_ready": ready.last(),
            "seconds_to_median_ready": percentile(&ready, 50.0),
            "operator_cpu_seconds": cpu, "operator_cpu_seconds_each": cpu / f64::from(COUNT),
            "cpu_seconds_by_program": of_all,
            "operator_pss_mib_before": pss_before, "operator_pss_mib": pss, "operator_peak_rss_mib": peak,
            "requests_each": each(asked), "requests_inside_each": per_plane(&inside_before, &stub.asked()),
        }),
    );
    Ok(())
}

/// What a minute costs when nothing happens. A pass over the inside and the end of a watch come once an hour, so a window of less
/// shows what is between them; what a pass asks is among the figures of [`converge`].
async fn quiet(bed: &Bed, stub: &Stub, seconds: u64) -> anyhow::Result<()> {
    let cpu_before = processes::operator_cpu(CLUSTER);
    let all_before = requests::so_far(&bed.admin).await?;
    let (asked_before, inside_before) = (requests::of_flow(&bed.admin, FLOW).await?, stub.asked());
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let cpu = processes::operator_cpu(CLUSTER) - cpu_before;
    let asked = requests::of_flow(&bed.admin, FLOW).await? - asked_before;
    let all = requests::since(&all_before, &requests::so_far(&bed.admin).await?, 1);
    let inside = per_plane(&inside_before, &stub.asked());
    let (peak, pss) = processes::operator_memory(CLUSTER);
    let a_minute: BTreeMap<_, _> = inside.iter().map(|(verb, count)| (verb, count / minutes)).collect();
    report(
        bed,
        "hundred-quiet",
        &json!({
            "count": COUNT, "seconds": begun.elapsed().as_secs_f64(),
            "operator_pss_mib": pss, "operator_peak_rss_mib": peak,
            "operator_cpu_millicores": cpu / begun.elapsed().as_secs_f64() * 1000.0,
            "requests_a_minute": each(asked) * f64::from(COUNT) / minutes,
            "requests_a_minute_each": each(asked) / minutes,
            "requests_inside_a_minute_each": inside.values().sum::<f64>() / minutes,
            "requests_inside_a_minute_each_by_verb": a_minute,
            "requests_of_everybody": all,
        }),
    );
    Ok(())
}

/// Where the API server counts service accounts outside of kube-system, of which the bench's cluster has the operator's alone.
const FLOW: &str = "service-accounts";

fn each(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let count = count as f64;
    count / f64::from(COUNT)
}

fn per_plane(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    let more = after.iter().map(|(verb, count)| {
        let known = before.get(verb).copied().unwrap_or_default();
        (verb.clone(), each(count - known))
    });
    more.collect()
}

fn plane(number: u16) -> anyhow::Result<TenantControlPlane> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1",
        "kind": "TenantControlPlane",
        "metadata": {"name": format!("bench-{number}")},
        "spec": {
            "controlPlane": {
                "deployment": {
                    "replicas": 1,
                    "nodeSelector": {"kubernetes.io/hostname": NODE},
                    "tolerations": [{"key": TAINT, "operator": "Exists"}],
                },
                "service": {"serviceType": "ClusterIP"},
            },
            "kubernetes": {"version": "v1.36.3", "kubelet": {}},
            "networkProfile": {"port": 6443},
            "addons": {"coreDNS": {}, "kubeProxy": {}},
        },
    }))?)
}
