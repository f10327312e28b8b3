//! Namespace tenants: 100 tenants with 10 namespaces each, until every binding is there; and what a client waits for.

use std::time::{Duration, Instant};

use anyhow::ensure;
use api::capsule::v1beta2::Tenant;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Client, ResourceExt as _,
    api::{Api, DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use super::{
    bed::{Bed, CLUSTER},
    percentile, processes, report, requests,
};

const TENANTS: usize = 100;
const NAMESPACES: usize = 10;
pub(super) const GROUP: &str = "projectcapsule.dev";
/// What ten people at work would have in flight.
pub(super) const IN_FLIGHT: usize = 10;
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// From the first namespace to the last binding.
pub(crate) async fn converge(bed: &Bed) -> anyhow::Result<()> {
    let tenants: Api<Tenant> = Api::all(bed.admin.clone());
    stream::iter(0..TENANTS)
        .map(|number| {
            let tenants = tenants.clone();
            async move {
                tenants
                    .create(&PostParams::default(), &tenant(number)?)
                    .await
                    .map_err(anyhow::Error::from)
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    let owners: Vec<Client> = (0..TENANTS)
        .map(|number| bed.as_user(&format!("owner-{number}"), GROUP))
        .collect::<Result<_, _>>()?;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (cpu_before, asked_before) = (processes::operator_cpu(CLUSTER), requests::so_far(&bed.admin).await?);
    let begun = Instant::now();
    let work = (0..NAMESPACES).flat_map(|of| (0..TENANTS).map(move |tenant| (tenant, of)));
    let mut waited: Vec<f64> = stream::iter(work)
        .map(|(tenant, of)| {
            let namespaces: Api<Namespace> = Api::all(owners[tenant].clone());
            async move {
                let asked = Instant::now();
                namespaces
                    .create(&PostParams::default(), &named(&format!("bench-{tenant}-{of}"))?)
                    .await?;
                anyhow::Ok(asked.elapsed().as_secs_f64() * 1000.0)
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let created = begun.elapsed().as_secs_f64();
    let bindings: Api<RoleBinding> = Api::all(bed.admin.clone());
    let ours = ListParams::default().labels("projectcapsule.dev/managed-by=controller");
    // Each owner has two roles.
    let expected = TENANTS * NAMESPACES * 2;
    let mut present = 0;
    while present < expected {
        ensure!(
            begun.elapsed() < PATIENCE,
            "{present} of {expected} bindings within {PATIENCE:?}"
        );
        // Each look lists thousands of objects on the same two cores.
        tokio::time::sleep(Duration::from_millis(250)).await;
        present = bindings.list_metadata(&ours).await?.items.len();
    }
    let seconds = begun.elapsed().as_secs_f64();
    // Statuses and quotas follow; the CPU time counts them too.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = processes::operator_cpu(CLUSTER) - cpu_before;
    let (peak, pss) = processes::operator_memory(CLUSTER);
    let all = (TENANTS * NAMESPACES) as u64;
    let asked = requests::since(&asked_before, &requests::so_far(&bed.admin).await?, all);
    // Equal by now: what comes is not for these namespaces.
    let quiet_before = requests::so_far(&bed.admin).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let quiet = requests::since(&quiet_before, &requests::so_far(&bed.admin).await?, 0);
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let each = requests::of_the_operator(&asked) as f64 / all as f64;
    waited.sort_by(f64::total_cmp);
    report(
        bed,
        "namespaces-converge",
        &json!({
            "tenants": TENANTS, "namespaces_each": NAMESPACES, "in_flight": IN_FLIGHT,
            "seconds_to_last_namespace": created, "seconds_to_last_binding": seconds,
            "operator_cpu_seconds": cpu, "operator_peak_rss_mib": peak, "operator_pss_mib": pss,
            "create_ms_p50": percentile(&waited, 50.0), "create_ms_p99": percentile(&waited, 99.0),
            "operator_writes_each": each, "operator_writes_when_equal": requests::of_the_operator(&quiet),
            "requests": asked,
        }),
    );
    Ok(())
}

/// A server-side dry run of a pod in a tenant's namespace and in a free one; a paced namespace create by an owner.
pub(crate) async fn latency(bed: &Bed) -> anyhow::Result<()> {
    Api::<Namespace>::all(bed.admin.clone())
        .create(&PostParams::default(), &named("bench-free")?)
        .await?;
    // The cluster's own controllers are still busy with what was made before.
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.admin.clone(), "bench-free");
    let begun = Instant::now();
    while accounts.get_metadata_opt("default").await?.is_none() {
        ensure!(begun.elapsed() < PATIENCE, "bench-free has no ServiceAccount");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut figures = serde_json::Map::new();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "c", "image": "docker.io/library/busybox:1.36"}]},
    }))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut places = [("tenant", "bench-0-0"), ("free", "bench-free")].map(|(place, namespace)| {
        let pods: Api<Pod> = Api::namespaced(bed.admin.clone(), namespace);
        (place, pods, Vec::new())
    });
    // By turns, so that whatever else the machine does meanwhile is in both.
    for _ in 0..300 {
        for (_, pods, waited) in &mut places {
            let asked = Instant::now();
            pods.create(&dry, &pod).await?;
            waited.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
    }
    for (place, _, mut waited) in places {
        waited.sort_by(f64::total_cmp);
        figures.insert(format!("pod_create_{place}_ms_p50"), json!(percentile(&waited, 50.0)));
        figures.insert(format!("pod_create_{place}_ms_p99"), json!(percentile(&waited, 99.0)));
    }
    let owner = Api::<Namespace>::all(bed.as_user("owner-0", GROUP)?);
    let mut waited = Vec::new();
    for number in 0..50 {
        let asked = Instant::now();
        owner
            .create(&PostParams::default(), &named(&format!("bench-0-paced-{number}"))?)
            .await?;
        waited.push(asked.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    waited.sort_by(f64::total_cmp);
    figures.insert(
        "namespace_create_paced_ms_p50".to_owned(),
        json!(percentile(&waited, 50.0)),
    );
    figures.insert(
        "namespace_create_paced_ms_p99".to_owned(),
        json!(percentile(&waited, 99.0)),
    );
    report(bed, "admission-latency", &figures.into());
    Ok(())
}

/// Removes the tenants and their namespaces, and says what the operator holds afterwards. `bench` is the name of what is
/// printed.
pub(crate) async fn clean(bed: &Bed, bench: &str) -> anyhow::Result<()> {
    let tenants = Api::<Tenant>::all(bed.admin.clone());
    let there = tenants.list_metadata(&ListParams::default()).await?.items;
    // One by one: a thousand in one request take longer than a request may.
    stream::iter(there)
        .map(|tenant| {
            let tenants = tenants.clone();
            async move { tenants.delete(&tenant.name_any(), &DeleteParams::default()).await }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    // Absent when only the convergence was measured.
    let _ = Api::<Namespace>::all(bed.admin.clone())
        .delete("bench-free", &DeleteParams::default())
        .await;
    let begun = Instant::now();
    let namespaces: Api<Namespace> = Api::all(bed.admin.clone());
    loop {
        let left = namespaces
            .list_metadata(&ListParams::default().labels("capsule.clastix.io/tenant"))
            .await?
            .items
            .len();
        if left == 0 {
            break;
        }
        ensure!(
            begun.elapsed() < PATIENCE * 4,
            "{left} namespaces were not gone within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (_, pss) = processes::operator_memory(CLUSTER);
    report(
        bed,
        bench,
        &json!({"operator_pss_mib": pss, "seconds_to_gone": begun.elapsed().as_secs_f64()}),
    );
    Ok(())
}

pub(super) fn tenant(number: usize) -> anyhow::Result<Tenant> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "Tenant",
        "metadata": {"name": format!("bench-{number}")},
        "spec": {
            "owners": [{"kind": "User", "name": format!("owner-{number}")}],
            "networkPolicies": {"items": [{"podSelector": {}, "policyTypes": ["Ingress"]}]},
            "resourceQuotas": {"scope": "Tenant", "items": [{"hard": {"pods": "100"}}]},
        },
    }))?)
}

pub(super) fn named(name: &str) -> anyhow::Result<Namespace> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name}}))?)
}
