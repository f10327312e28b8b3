//! A thousand namespace tenants with three namespaces each: what the operator holds, how soon an edit of a quota is everywhere,
//! and how a restart goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::capsule::v1beta2::Tenant;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Pod, ResourceQuota},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use kube::{
    api::{Api, ApiResource, DynamicObject, GetParams, ListParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde_json::json;

use super::{
    bed::{Bed, CLUSTER},
    namespaces::{GROUP, IN_FLIGHT, PATIENCE, named, tenant},
    processes, report,
};

const TENANTS: usize = 1_000;
const NAMESPACES: usize = 3;
/// Edits of quotas that are timed.
const EDITS: usize = 10;
/// Where the bench's cluster runs the operator.
const SYSTEM: &str = "cotenant-system";

pub(crate) async fn run(bed: &Bed) -> anyhow::Result<()> {
    converge(bed).await?;
    edits(bed).await?;
    restart(bed).await
}

/// Makes them, and says what the operator holds then.
async fn converge(bed: &Bed) -> anyhow::Result<()> {
    let tenants: Api<Tenant> = Api::all(bed.admin.clone());
    let (_, before) = processes::operator_memory(CLUSTER);
    let begun = Instant::now();
    stream::iter(0..TENANTS)
        .map(|number| {
            let tenants = tenants.clone();
            async move {
                let tenant = tenant(number)?;
                tenants.create(&PostParams::default(), &tenant).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    stream::iter((0..NAMESPACES).flat_map(|of| (0..TENANTS).map(move |tenant| (tenant, of))))
        .map(|(tenant, of)| async move {
            let owner = bed.as_user(&format!("owner-{tenant}"), GROUP)?;
            let namespace = named(&format!("bench-{tenant}-{of}"))?;
            Api::<Namespace>::all(owner)
                .create(&PostParams::default(), &namespace)
                .await?;
            anyhow::Ok(())
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    let ours = ListParams::default().labels("projectcapsule.dev/managed-by=controller");
    let bindings: Api<RoleBinding> = Api::all(bed.admin.clone());
    // Each owner has two roles.
    let expected = TENANTS * NAMESPACES * 2;
    loop {
        let present = bindings.list_metadata(&ours).await?.items.len();
        if present >= expected {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "{present} of {expected} bindings");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    settle(bed).await?;
    let (peak, pss) = processes::operator_memory(CLUSTER);
    report(
        bed,
        "thousand-converge",
        &json!({
            "tenants": TENANTS, "namespaces_each": NAMESPACES, "seconds_to_last_binding": seconds,
            "operator_pss_mib_before": before, "operator_pss_mib": pss, "operator_peak_rss_mib": peak,
        }),
    );
    Ok(())
}

/// From an edit of a Tenant's quota to the last of its namespaces that has it.
async fn edits(bed: &Bed) -> anyhow::Result<()> {
    let tenants: Api<Tenant> = Api::all(bed.admin.clone());
    let mut waited = Vec::new();
    for number in 0..EDITS {
        let wanted = (50 + number).to_string();
        let name = format!("bench-{}", number * 7);
        let patch = json!({"spec": {"resourceQuotas": {"scope": "Tenant", "items": [{"hard": {"pods": wanted}}]}}});
        let begun = Instant::now();
        tenants
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let mine = ListParams::default().labels(&format!("projectcapsule.dev/tenant={name}"));
        let quotas: Api<ResourceQuota> = Api::all(bed.admin.clone());
        loop {
            let has = |quota: &ResourceQuota| {
                let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
                hard.and_then(|hard| hard.get("pods"))
                    .is_some_and(|pods| pods.0 == wanted)
            };
            if quotas.list(&mine).await?.iter().filter(|quota| has(quota)).count() == NAMESPACES {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "the quota of {name} is not everywhere");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        waited.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    waited.sort_by(f64::total_cmp);
    report(
        bed,
        "thousand-quota-edit",
        &json!({"edits": EDITS, "ms_p50": super::percentile(&waited, 50.0), "ms_max": waited.last()}),
    );
    Ok(())
}

/// Ends every replica at once, and says how soon each that comes after is ready, and what was written then.
async fn restart(bed: &Bed) -> anyhow::Result<()> {
    settle(bed).await?;
    let (before, led) = (versions(bed).await?, leader(bed).await?);
    let old = processes::find(CLUSTER, &["cotenant", "operator"]);
    for process in &old {
        process.kill()?;
    }
    let begun = Instant::now();
    let mut ready = BTreeMap::new();
    while ready.len() < old.len() {
        ensure!(begun.elapsed() < PATIENCE, "the operator did not come again");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let pods: Api<Pod> = Api::namespaced(bed.admin.clone(), SYSTEM);
        for pod in pods.list(&ListParams::default()).await? {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let name = pod.metadata.name.clone().unwrap_or_default();
            let process = processes::find(CLUSTER, &["cotenant", "operator"])
                .into_iter()
                .find(|process| process.is_in_pod(&uid) && old.iter().all(|old| old.pid != process.pid));
            let Some(process) = process.filter(|_| !ready.contains_key(&uid)) else {
                continue;
            };
            let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:8081/proxy");
            let asked = Request::new(path).get("readyz", &GetParams::default());
            let answer = asked.map(|request| bed.admin.request_text(request))?;
            if answer.await.is_ok() {
                ready.insert(uid, process.age_seconds()?);
            }
        }
    }
    // Who was killed has given nothing up: until its Lease has ended nobody leads, writes, or holds what a leader holds.
    let mut leads = led.clone();
    while leads == led {
        ensure!(begun.elapsed() < PATIENCE, "nobody leads again");
        tokio::time::sleep(Duration::from_millis(100)).await;
        leads = leader(bed).await?;
    }
    let led_after = begun.elapsed().as_secs_f64();
    settle(bed).await?;
    let after = versions(bed).await?;
    let changed = after
        .iter()
        .filter(|(object, version)| before.get(*object) != Some(version));
    let gone = before.keys().filter(|object| !after.contains_key(*object));
    let (_, pss) = processes::operator_memory(CLUSTER);
    report(
        bed,
        "thousand-restart",
        &json!({
            "replicas": old.len(),
            "seconds_to_leader": led_after,
            "seconds_to_ready_max": ready.values().copied().fold(0.0, f64::max),
            "objects": after.len(), "objects_changed": changed.count() + gone.count(), "operator_pss_mib": pss,
        }),
    );
    Ok(())
}

/// Who holds the operator's Lease.
async fn leader(bed: &Bed) -> anyhow::Result<String> {
    let lease = Api::<Lease>::namespaced(bed.admin.clone(), SYSTEM)
        .get("cotenant")
        .await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    Ok(holder.unwrap_or_default())
}

/// Until the operator has had nothing to do for a while.
pub(super) async fn settle(bed: &Bed) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let before = processes::operator_cpu(CLUSTER);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let used = processes::operator_cpu(CLUSTER) - before;
        if (0.0..0.1).contains(&used) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{} is never quiet", bed.commit);
    }
}

/// The versions of everything that the operator keeps, by kind and UID.
async fn versions(bed: &Bed) -> anyhow::Result<BTreeMap<String, String>> {
    let (all, ours) = (
        ListParams::default(),
        ListParams::default().labels("projectcapsule.dev/managed-by=controller"),
    );
    let mut versions = BTreeMap::new();
    for (resource, which) in [
        (ApiResource::erase::<Tenant>(&()), &all),
        (ApiResource::erase::<Namespace>(&()), &all),
        (ApiResource::erase::<RoleBinding>(&()), &ours),
        (ApiResource::erase::<ResourceQuota>(&()), &ours),
        (ApiResource::erase::<NetworkPolicy>(&()), &ours),
    ] {
        let api = Api::<DynamicObject>::all_with(bed.admin.clone(), &resource);
        for item in api.list_metadata(which).await? {
            let uid = item.metadata.uid.context("objects have UIDs")?;
            let version = item.metadata.resource_version.context("objects have versions")?;
            versions.insert(format!("{}/{uid}", resource.kind), version);
        }
    }
    Ok(versions)
}
