//! GlobalResourceQuotas: what is refused, and what is promised, by two admission servers that share the work. No controller
//! runs here; what one would count is said by the tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::capsule::v1beta2::{GlobalResourceQuota, QuantityLedger, ResourceQuotaLedger, Tenant};
use futures::future::join_all;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::replicas::{CONNECTIONS, second_replica};
use support::served::{US, served};
use support::stage::{Stage, stage};
use support::until;
use tenancy::quota::global::ledger_name;
use testbed::unique;
use tokio::sync::OnceCell;

const LEDGERS: &str = "cotenant-system";
const HOOK: &str = "calculation.global-resource-quotas.validating.projectcapsule.dev";

static BOTH: OnceCell<()> = OnceCell::const_new();

/// A tenant with some namespaces, before two admission servers that API servers ask in turn.
struct Scene {
    stage: Stage,
    namespaces: Vec<String>,
}

async fn scene(namespaces: usize) -> Scene {
    BOTH.get_or_init(second_replica).await;
    let stage = stage(json!({})).await;
    let mut names = vec![stage.namespace.clone()];
    for index in 1..namespaces {
        let name = format!("{}-{index}", stage.tenant);
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::all(stage.owner.clone());
        until("a namespace", async || {
            api.create(&PostParams::default(), &namespace).await.ok()
        })
        .await;
        names.push(name);
    }
    Scene {
        stage,
        namespaces: names,
    }
}

impl Scene {
    /// A quota over the namespaces of the tenant, not counted yet. Returns when both admission servers know it.
    async fn quota(&self, hard: Value) -> GlobalResourceQuota {
        let quota = json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota", "metadata": {"name": unique("quota")},
            "spec": {"quota": {"hard": hard}, "namespaceSelectors": [
                {"matchLabels": {"capsule.clastix.io/tenant": self.stage.tenant}}]}});
        let quota: GlobalResourceQuota = Api::all(self.stage.masters.clone())
            .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
            .await
            .unwrap();
        let name = quota.name_any();
        until("the hook, everywhere", async || {
            let tried = join_all((0..8).map(|_| self.create(0, true))).await;
            let is_refused =
                |tried: &Result<Pod, Error>| tried.as_ref().is_err_and(|error| error.to_string().contains(&name));
            tried.iter().all(is_refused).then_some(())
        })
        .await;
        quota
    }

    /// What a controller writes that counted these amounts.
    async fn count(&self, quota: &GlobalResourceQuota, used: Value) -> String {
        let name = ledger_name(&quota.name_any(), &quota.uid().unwrap());
        let ledger = json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "QuantityLedger", "metadata": {"name": name},
            "spec": {"targetRef": {"kind": "GlobalResourceQuota", "name": quota.name_any()}}});
        let api = self.ledgers();
        api.create(&PostParams::default(), &serde_json::from_value(ledger).unwrap())
            .await
            .unwrap();
        let status = json!({"status": {"resourceQuota": {
            "observedGeneration": quota.metadata.generation, "initialized": true, "namespaces": self.namespaces, "used": used}}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        name
    }

    fn ledgers(&self) -> Api<QuantityLedger> {
        Api::namespaced(self.stage.masters.clone(), LEDGERS)
    }

    async fn account(&self, ledger: &str) -> ResourceQuotaLedger {
        let ledger = self.ledgers().get(ledger).await.unwrap();
        ledger.status.unwrap().resource_quota.unwrap()
    }

    async fn create(&self, namespace: usize, dry_run: bool) -> Result<Pod, Error> {
        self.create_pod(namespace, dry_run, json!({})).await
    }

    async fn create_pod(&self, namespace: usize, dry_run: bool, requests: Value) -> Result<Pod, Error> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}, "spec": {
            "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": requests}}]}});
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        Api::namespaced(self.stage.owner.clone(), &self.namespaces[namespace])
            .create(&params, &serde_json::from_value(pod).unwrap())
            .await
    }

    async fn end(&self, quota: &GlobalResourceQuota) {
        let api: Api<GlobalResourceQuota> = Api::all(self.stage.masters.clone());
        api.delete(&quota.name_any(), &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn of_fifty_at_once_in_five_namespaces_through_two_replicas_twelve_pass() {
    let scene = Arc::new(scene(5).await);
    let quota = scene.quota(json!({"pods": "12"})).await;
    let ledger = scene.count(&quota, json!({"pods": "0"})).await;
    // Whoever does not know the ledger yet looks for it.
    let creates = (0..50).map(|index| {
        let scene = scene.clone();
        tokio::spawn(async move { scene.create(index % 5, false).await })
    });
    let results: Vec<Result<Pod, Error>> = join_all(creates).await.into_iter().map(Result::unwrap).collect();
    let (passed, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    for refused in refused {
        let (code, message) = refusal(refused);
        let expected = format!(
            "resource exceeds GlobalResourceQuota {:?}: pods (requested=1, current=12, projected=13, hard=12, exceededBy=1)",
            quota.name_any()
        );
        assert!(code == 403 && message.contains(&expected), "{code}: {message}");
    }
    assert_eq!(passed.len(), 12);
    let account = scene.account(&ledger).await;
    assert_eq!(
        (account.reservations.len(), account.allocated["pods"].0.as_str()),
        (12, "12")
    );
    let uids: Vec<String> = passed.into_iter().map(|pod| pod.unwrap().uid().unwrap()).collect();
    assert!(
        account.reservations.iter().all(|it| uids.contains(&it.object_ref.uid)),
        "every promise is for a pod that is there"
    );
    let connections: Vec<usize> = CONNECTIONS.iter().map(|it| it.load(Ordering::Relaxed)).collect();
    assert!(
        connections.iter().all(|number| *number > 0),
        "both were asked: {connections:?}"
    );
    scene.end(&quota).await;
}

#[tokio::test]
async fn a_dry_run_is_refused_like_any_other_and_takes_nothing() {
    let scene = scene(1).await;
    let quota = scene.quota(json!({"pods": "1", "requests.cpu": "2"})).await;
    let ledger = scene.count(&quota, json!({"pods": "0", "requests.cpu": "0"})).await;
    let (code, message) = refusal(scene.create(0, true).await);
    assert!(
        code == 403 && message.contains("must specify requests.cpu for: c"),
        "{code}: {message}"
    );
    let (code, message) = refusal(scene.create_pod(0, true, json!({"cpu": "2500m"})).await);
    let excess = "requests.cpu (requested=2500m, current=0, projected=2500m, hard=2, exceededBy=500m)";
    assert!(code == 403 && message.contains(excess), "{code}: {message}");
    let before = scene.ledgers().get(&ledger).await.unwrap().resource_version();
    scene.create_pod(0, true, json!({"cpu": "2"})).await.unwrap();
    scene.create_pod(0, true, json!({"cpu": "2"})).await.unwrap();
    assert_eq!(scene.ledgers().get(&ledger).await.unwrap().resource_version(), before);
    scene.create_pod(0, false, json!({"cpu": "2"})).await.unwrap();
    refusal(scene.create_pod(0, true, json!({"cpu": "1"})).await);
    scene.end(&quota).await;
}

#[tokio::test]
async fn what_one_quota_refuses_is_given_back_by_the_others() {
    let scene = scene(1).await;
    let large = scene.quota(json!({"pods": "9"})).await;
    let of_large = scene.count(&large, json!({"pods": "0"})).await;
    let small = scene.quota(json!({"pods": "0"})).await;
    let of_small = scene.count(&small, json!({"pods": "0"})).await;
    let (code, message) = refusal(scene.create(0, false).await);
    assert!(
        code == 403 && message.contains("resource exceeds GlobalResourceQuota"),
        "{message}"
    );
    for ledger in [of_large, of_small] {
        assert_eq!(scene.account(&ledger).await.reservations, []);
    }
    scene.end(&large).await;
    scene.end(&small).await;
}

#[tokio::test]
async fn what_no_quota_counts_is_not_asked_about() {
    let scene = scene(1).await;
    let quota = scene.quota(json!({"pods": "0"})).await;
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}})).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(scene.stage.owner.clone(), &scene.namespaces[0]);
    maps.create(&PostParams::default(), &map).await.unwrap();
    // Another tenant's namespace is none of the quota's.
    let other = stage(json!({})).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]}});
    other.has_account().await;
    other.create::<Pod>(&other.owner, pod).await.unwrap();
    scene.end(&quota).await;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(scene.stage.masters.clone());
    let quotas: Api<GlobalResourceQuota> = Api::all(scene.stage.masters.clone());
    until("the hook goes with the last quota", async || {
        let hooks = configurations.get("capsule-dynamic-webhook").await.unwrap().webhooks?;
        let is_there = hooks.iter().any(|hook| hook.name == HOOK);
        let has_quotas = !quotas
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty();
        // Tests beside this one have quotas of their own.
        (is_there == has_quotas || has_quotas).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quota_keeps_what_is_taken_of_it() {
    let scene = scene(1).await;
    let quota = scene.quota(json!({"pods": "5", "services": "2"})).await;
    let ledger = scene.count(&quota, json!({"pods": "1", "services": "0"})).await;
    scene.create(0, false).await.unwrap();
    let api: Api<GlobalResourceQuota> = Api::all(scene.stage.masters.clone());
    until("two pods are known to be taken", async || {
        let account = scene.account(&ledger).await;
        (account.allocated.get("pods")?.0 == "2").then_some(())
    })
    .await;
    let to = async |spec: Value| {
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        api.patch(&quota.name_any(), &params, &Patch::Merge(json!({"spec": spec})))
            .await
    };
    let message = until("a refusal that knows of the promise", async || {
        let refused = to(json!({"quota": {"hard": {"pods": "1"}}})).await.err()?;
        let (code, message) = refusal::<()>(Err(refused));
        (code == 403).then_some(message)
    })
    .await;
    assert!(
        message.contains("spec.quota.hard[pods]: 5 cannot be reduced to 1 while 2 is allocated"),
        "{message}"
    );
    let (_, message) = refusal(to(json!({"quota": {"hard": {"pods": null}}})).await);
    assert!(
        message.contains("5 cannot be removed while 2 is allocated"),
        "{message}"
    );
    let (_, message) = refusal(to(json!({"quota": {"hard": {"pods": "4"}}, "namespaceSelectors": [{}]})).await);
    assert!(message.contains("while spec.namespaceSelectors changes"), "{message}");
    to(json!({"quota": {"hard": {"pods": "2", "services": null}}}))
        .await
        .unwrap();
    scene.end(&quota).await;
}

#[tokio::test]
async fn quotas_of_rules_are_for_the_operator_and_keep_what_is_taken_of_them() {
    let scene = scene(1).await;
    let masters = &scene.stage.masters;
    let tenants: Api<Tenant> = Api::all(masters.clone());
    let rules = |pods: &str| json!({"spec": {"rules": [{"quota": [{"name": "a", "hard": {"pods": pods}}]}]}});
    let tenant = tenants
        .patch(&scene.stage.tenant, &PatchParams::default(), &Patch::Merge(rules("5")))
        .await
        .unwrap();
    // As the operator makes it.
    let us = served().await.server.client_for(US, &["system:masters"]).await;
    let name = format!("{}-a", scene.stage.tenant);
    let quota = json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalResourceQuota",
        "metadata": {"name": name, "labels": {"projectcapsule.dev/managed-by": "controller"}, "ownerReferences": [{
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": scene.stage.tenant, "uid": tenant.uid(),
            "controller": true}]},
        "spec": {"quota": {"hard": {"pods": "5"}}, "namespaceSelectors": [
            {"matchLabels": {"capsule.clastix.io/tenant": scene.stage.tenant}}]}});
    let ours: Api<GlobalResourceQuota> = Api::all(us);
    let quota: GlobalResourceQuota = ours
        .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
        .await
        .unwrap();
    scene.count(&quota, json!({"pods": "3"})).await;

    let others: Api<GlobalResourceQuota> = Api::all(scene.stage.owner.clone());
    let relabelled = json!({"metadata": {"labels": {"projectcapsule.dev/managed-by": null}}});
    let touched = others
        .patch(&name, &PatchParams::default(), &Patch::Merge(relabelled))
        .await;
    let (code, message) = refusal(touched);
    assert!(
        code == 403 && message.contains(&format!("change the rules of the Tenant {:?}", scene.stage.tenant)),
        "{message}"
    );
    let deleted = others.delete(&name, &DeleteParams::default()).await.map(drop);
    let (code, _) = refusal(deleted);
    assert_eq!(code, 403);

    let lowered = until("a refusal that knows of the use", async || {
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let lowered = tenants
            .patch(&scene.stage.tenant, &params, &Patch::Merge(rules("2")))
            .await;
        lowered.err().map(|error| refusal::<()>(Err(error)))
    })
    .await;
    let expected = "spec.rules[0].quota[0].hard[pods]: 5 cannot be reduced to 2 while 3 is allocated";
    assert!(lowered.0 == 403 && lowered.1.contains(expected), "{}", lowered.1);
    ours.delete(&name, &DeleteParams::default()).await.unwrap();
}
