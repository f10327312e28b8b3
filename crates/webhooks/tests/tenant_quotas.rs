//! What a Tenant limits for all its namespaces together, with all who take part: two admission servers that promise, the API
//! server that counts, and the controller that puts both together.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::time::Duration;

use api::capsule::v1beta2::{QuantityLedger, ResourceQuotaLedger, Tenant};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Error;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use runtime::metrics::Registry;
use serde_json::{Value, json};
use support::controllers::{self, all};
use support::hijack::refusal;
use support::replicas::second_replica;
use support::stage::{Stage, stage};
use support::until;
use tenancy::quota::tenant::budgets;
use tokio::sync::OnceCell;

const LEDGERS: &str = "cotenant-system";

static RUNNING: OnceCell<()> = OnceCell::const_new();

/// Runs the controllers of tenants for as long as the test binary runs.
async fn control() {
    second_replica().await;
    controllers::run(async |client, shutdown| {
        let registry = Registry::new();
        let context = tenant_controller::Context {
            namespace: LEDGERS.to_owned(),
            configuration_name: "default".to_owned(),
            configuration_grace: Duration::from_secs(600),
            tls_secret: "capsule-tls".to_owned(),
            tenants: all(&client, &shutdown),
            tenant_owners: all(&client, &shutdown),
            namespaces: all(&client, &shutdown),
            configurations: all(&client, &shutdown),
            quantity_ledgers: all(&client, &shutdown),
            classes: tenant_controller::classes::Classes::start(&client, &shutdown),
            metrics: runtime::controller::Metrics::register(&registry),
            registry,
            recorder: runtime::events::Recorder::new(client.clone(), "cotenant", Some("test")),
            shutdown,
            client,
        };
        tenant_controller::run(context).await
    })
    .await;
}

/// A tenant with some namespaces.
struct Scene {
    stage: Stage,
    namespaces: Vec<String>,
}

/// `hard` is the first item of the tenant's quotas. Returns when requests are promised what they take in every namespace.
async fn scene(hard: Value, namespaces: usize) -> Scene {
    RUNNING.get_or_init(control).await;
    let stage = stage(json!({"resourceQuotas": {"scope": "Tenant", "items": [{"hard": hard}]}})).await;
    let mut scene = Scene {
        namespaces: vec![stage.namespace.clone()],
        stage,
    };
    for index in 1..namespaces {
        scene.join(&index.to_string()).await;
    }
    // What is too much for any namespace shows who refuses it: hooks come before the API server's own quotas.
    for index in 0..namespaces {
        until("the hook", async || {
            let refused = scene.create(index, "2Gi", true).await.err()?;
            refused.to_string().contains("namespaces of Tenant").then_some(())
        })
        .await;
    }
    scene
}

impl Scene {
    async fn join(&mut self, suffix: &str) {
        self.namespaces.push(self.stage.join(suffix).await);
    }

    async fn create(&self, namespace: usize, disk: &str, dry_run: bool) -> Result<Pod, Error> {
        self.stage.create_pod(&self.namespaces[namespace], disk, dry_run).await
    }

    fn ledgers(&self) -> Api<QuantityLedger> {
        Api::namespaced(self.stage.masters.clone(), LEDGERS)
    }

    /// The name of the ledger of the first item.
    async fn ledger(&self) -> String {
        let tenants: Api<Tenant> = Api::all(self.stage.masters.clone());
        let tenant = tenants.get(&self.stage.tenant).await.unwrap();
        budgets(&tenant).remove(0).ledger
    }

    async fn account(&self) -> Option<ResourceQuotaLedger> {
        let ledger = self.ledgers().get_opt(&self.ledger().await).await.unwrap()?;
        ledger.status?.resource_quota
    }

    /// Waits until so much is used, and nothing promised or lent.
    async fn is_quiet(&self, resource: &str, used: usize) {
        until("a quiet ledger", async || {
            let account = self.account().await?;
            let counted = account.used.get(resource).is_some_and(|it| it.0 == used.to_string());
            (counted && account.reservations.is_empty()).then_some(())
        })
        .await;
    }

    /// So many at once, in all namespaces in turn. How many passed comes back.
    async fn burst(&self, number: usize) -> usize {
        let results = self.stage.burst(&self.namespaces, number).await.into_iter();
        let (passed, refused): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        for refused in refused {
            let (code, message) = refusal(refused);
            let is_said = message.contains("exceeded quota: capsule-");
            assert!(code == 403 && is_said, "{code}: {message}");
        }
        passed.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_the_limit_at_no_moment_is_there_more_and_what_is_freed_can_be_used() {
    let scene = scene(json!({"pods": "12", "requests.ephemeral-storage": "1Gi"}), 10).await;
    let most = scene
        .stage
        .watched(async || {
            for round in 0..3 {
                let passed = scene.burst(50).await;
                let there = scene.stage.pods().await;
                assert_eq!(there.len(), 12, "round {round}: {passed} passed");
                scene.is_quiet("pods", 12).await;
                for pod in there.iter().take(5) {
                    scene.stage.delete_pod(pod).await;
                }
                scene.is_quiet("pods", 7).await;
            }
        })
        .await;
    assert_eq!(most, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_far_to_near_two_replicas_with_credits_stay_within_the_limit() {
    let scene = scene(json!({"pods": "100", "requests.ephemeral-storage": "1Gi"}), 10).await;
    let most = scene
        .stage
        .watched(async || {
            scene.create(0, "1Mi", false).await.unwrap();
            let account = scene.account().await.unwrap();
            let ids: Vec<&str> = account.reservations.iter().map(|it| it.id.as_str()).collect();
            assert!(ids.len() == 1 && ids[0].starts_with("credit/"), "{ids:?}");
            let passed = scene.burst(150).await;
            assert_eq!((passed, scene.stage.pods().await.len()), (99, 100));
            scene.is_quiet("pods", 100).await;
        })
        .await;
    assert_eq!(most, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_namespace_shares_with_the_first_from_its_first_moment() {
    let mut scene = scene(json!({"pods": "4", "requests.ephemeral-storage": "1Gi"}), 1).await;
    for _ in 0..3 {
        scene.create(0, "1Mi", false).await.unwrap();
    }
    scene.join("second").await;
    // At once: nobody has waited for a ResourceQuota in it.
    let passed = scene.burst(12).await;
    assert_eq!((passed, scene.stage.pods().await.len()), (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_objects_in_annotations_are_held_alike() {
    let scene = scene(json!({"pods": "9", "requests.ephemeral-storage": "1Gi"}), 3).await;
    let tenants: Api<Tenant> = Api::all(scene.stage.masters.clone());
    let limit = async |number: &str| {
        let limit = json!({"metadata": {"annotations": {"quota.resources.capsule.clastix.io/configmaps_v1": number}}});
        tenants
            .patch(&scene.stage.tenant, &PatchParams::default(), &Patch::Merge(limit))
            .await
            .unwrap();
    };
    limit("3").await;
    let create = async |namespace: usize, dry_run: bool| {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"generateName": "m-"}})).unwrap();
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(scene.stage.owner.clone(), &scene.namespaces[namespace]);
        api.create(&params, &map).await
    };
    // Each namespace has one already, with the certificates of the API server.
    until("three are counted", async || {
        let ledgers = scene.ledgers().list(&ListParams::default()).await.unwrap();
        let mut accounts = ledgers.items.into_iter().filter_map(|ledger| {
            let of_tenant = ledger.spec.target_ref.name == scene.stage.tenant;
            ledger.status?.resource_quota.filter(|_| of_tenant)
        });
        accounts.find(|account| {
            let used = account.used.get("count/configmaps");
            used.is_some_and(|used| used.0 == "3") && account.namespaces.len() == 3
        })
    })
    .await;
    // What is left of three is nothing, and that is said by the hook first: by then API servers ask it, and both replicas
    // count. Before, Kubernetes itself would refuse what is too many in one namespace.
    let tried = async || join_all((0..9).map(|index| create(index % 3, true))).await;
    until("the hook, everywhere", async || {
        let is_refused = |tried: &Result<ConfigMap, Error>| {
            tried
                .as_ref()
                .is_err_and(|error| error.to_string().contains("admission webhook"))
        };
        tried().await.iter().all(is_refused).then_some(())
    })
    .await;
    limit("8").await;
    until("room, everywhere", async || {
        tried().await.iter().all(Result::is_ok).then_some(())
    })
    .await;
    let results = join_all((0..15).map(|index| create(index % 3, false))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lent_to_a_replica_that_was_killed_is_kept_until_its_end() {
    let scene = scene(json!({"pods": "12", "requests.ephemeral-storage": "1Gi"}), 3).await;
    scene.is_quiet("pods", 0).await;
    // Stored times have whole seconds.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let end = now + SignedDuration::from_secs(30);
    let credit = json!({"id": "credit/killed/review", "usage": {"pods": "12"}, "delta": {"pods": "12"},
        "objectRef": {"apiVersion": "v1", "kind": "Pod"}, "createdAt": now, "updatedAt": now, "expiresAt": end});
    let status = json!({"status": {"resourceQuota": {"reservations": [credit]}}});
    scene
        .ledgers()
        .patch_status(&scene.ledger().await, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let passed = scene.burst(20).await;
    let there = scene.stage.pods().await.len();
    // On a machine that took longer than that, what was lent has ended meanwhile.
    assert!(
        (passed, there) == (0, 0) || Timestamp::now() >= end,
        "{passed} passed, {there} are there"
    );
    until("its end", async || {
        scene.burst(4).await;
        (scene.stage.pods().await.len() == 12).then_some(())
    })
    .await;
    assert!(Timestamp::now() >= end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_is_answered_and_leaves_nothing() {
    let scene = scene(json!({"pods": "1", "requests.ephemeral-storage": "1Gi"}), 2).await;
    scene.is_quiet("pods", 0).await;
    scene.create(0, "1Mi", true).await.unwrap();
    scene.create(1, "1Mi", true).await.unwrap();
    assert_eq!(scene.account().await.unwrap().reservations, []);
    scene.create(0, "1Mi", false).await.unwrap();
    let (code, message) = refusal(scene.create(1, "1Mi", true).await);
    assert!(
        code == 403 && message.contains("requested: pods=1, used: pods=1, limited: pods=1"),
        "{code}: {message}"
    );
}
