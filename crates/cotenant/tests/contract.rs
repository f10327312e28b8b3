//! A running operator as somebody sees it who has dashboards, alerts and scripts for Capsule: the metrics of every kind by name,
//! label and value, and Events where the configuration wants them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use local::ports;
use local::process::{Process, Spec, tail};
use serde_json::{Value, json};
use testbed::ApiServer;

/// The bound only keeps a broken test from hanging; nothing is measured.
const PATIENCE: Duration = Duration::from_secs(180);

/// Every metric of the contract, and its labels.
const METRICS: &[(&str, &[&str])] = &[
    ("tenant_condition", &["tenant", "condition"]),
    (
        "tenant_namespace_condition",
        &["tenant", "target_namespace", "condition"],
    ),
    ("tenant_namespace_relationship", &["tenant", "target_namespace"]),
    ("tenant_namespace_count", &["tenant"]),
    ("tenant_resource_usage", &["tenant", "resource", "resourcequotaindex"]),
    ("tenant_resource_limit", &["tenant", "resource", "resourcequotaindex"]),
    ("tenantowner_condition", &["name", "condition"]),
    ("config_condition", &["name", "condition"]),
    ("rulestatus_condition", &["name", "target_namespace", "condition"]),
    ("resource_condition", &["name", "target_namespace", "condition"]),
    ("global_resource_condition", &["name", "condition"]),
    ("pool_condition", &["pool", "condition"]),
    ("pool_resource", &["pool", "resource"]),
    ("pool_limit", &["pool", "resource"]),
    ("pool_usage", &["pool", "resource"]),
    ("pool_usage_percentage", &["pool", "resource"]),
    ("pool_available", &["pool", "resource"]),
    ("pool_exhaustion", &["pool", "resource"]),
    ("pool_exhaustion_percentage", &["pool", "resource"]),
    ("pool_namespace_usage", &["pool", "target_namespace", "resource"]),
    (
        "pool_namespace_usage_percentage",
        &["pool", "target_namespace", "resource"],
    ),
    ("claim_pool", &["name", "target_namespace", "pool"]),
    ("claim_condition", &["name", "target_namespace", "condition"]),
    ("claim_resource", &["name", "target_namespace", "resource"]),
    (
        "custom_quota_condition",
        &["custom_quota", "target_namespace", "condition"],
    ),
    ("custom_quota_resource_usage", &["custom_quota", "target_namespace"]),
    (
        "custom_quota_resource_usage_percentage",
        &["custom_quota", "target_namespace"],
    ),
    ("custom_quota_resource_limit", &["custom_quota", "target_namespace"]),
    ("custom_quota_resource_available", &["custom_quota", "target_namespace"]),
    (
        "custom_quota_resource_item_usage",
        &["custom_quota", "target_namespace", "name", "kind", "group"],
    ),
    ("global_custom_quota_condition", &["custom_quota", "condition"]),
    ("global_custom_quota_resource_usage", &["custom_quota"]),
    ("global_custom_quota_resource_usage_percentage", &["custom_quota"]),
    ("global_custom_quota_resource_limit", &["custom_quota"]),
    ("global_custom_quota_resource_available", &["custom_quota"]),
    (
        "global_custom_quota_resource_item_usage",
        &["custom_quota", "target_namespace", "name", "kind", "group"],
    ),
    (
        "global_resource_quota_condition",
        &["global_resource_quota", "condition"],
    ),
    ("global_resource_quota_limit", &["global_resource_quota", "resource"]),
    ("global_resource_quota_usage", &["global_resource_quota", "resource"]),
    (
        "global_resource_quota_available",
        &["global_resource_quota", "resource"],
    ),
    (
        "global_resource_quota_usage_percentage",
        &["global_resource_quota", "resource"],
    ),
    (
        "global_resource_quota_namespace_usage",
        &["global_resource_quota", "target_namespace", "resource"],
    ),
    (
        "global_resource_quota_namespace_usage_percentage",
        &["global_resource_quota", "target_namespace", "resource"],
    ),
];

/// What the objects of [`cluster_wide`] and [`in_the_namespace`] come to.
const SAMPLES: &str = r#"
tenant_condition{tenant="oil",condition="Ready"} 1
tenant_condition{tenant="oil",condition="Cordoned"} 0
tenant_namespace_condition{tenant="oil",target_namespace="oil-web",condition="Ready"} 1
tenant_namespace_condition{tenant="oil",target_namespace="oil-web",condition="Cordoned"} 0
tenant_namespace_relationship{tenant="oil",target_namespace="oil-web"} 1
tenant_namespace_count{tenant="oil"} 1
tenant_resource_usage{tenant="oil",resource="namespaces",resourcequotaindex=""} 1
tenant_resource_limit{tenant="oil",resource="namespaces",resourcequotaindex=""} 3
tenant_resource_usage{tenant="oil",resource="configmaps",resourcequotaindex="0"} 1
tenant_resource_limit{tenant="oil",resource="configmaps",resourcequotaindex="0"} 10
tenantowner_condition{name="olga",condition="Ready"} 1
config_condition{name="default",condition="Ready"} 1
rulestatus_condition{name="capsule-managed-rules",target_namespace="oil-web",condition="Ready"} 1
resource_condition{name="copies",target_namespace="oil-web",condition="Ready"} 0
resource_condition{name="copies",target_namespace="oil-web",condition="Cordoned"} 0
global_resource_condition{name="copies",condition="Cordoned"} 1
pool_condition{pool="cores",condition="Ready"} 1
pool_condition{pool="cores",condition="Exhausted"} 1
pool_resource{pool="cores",resource="limits.cpu"} 1
pool_limit{pool="cores",resource="limits.cpu"} 8
pool_usage{pool="cores",resource="limits.cpu"} 2
pool_usage_percentage{pool="cores",resource="limits.cpu"} 25
pool_available{pool="cores",resource="limits.cpu"} 6
pool_exhaustion{pool="cores",resource="limits.cpu"} 7
pool_exhaustion_percentage{pool="cores",resource="limits.cpu"} 87.5
pool_namespace_usage{pool="cores",target_namespace="oil-web",resource="limits.cpu"} 2
pool_namespace_usage_percentage{pool="cores",target_namespace="oil-web",resource="limits.cpu"} 25
claim_pool{name="small",target_namespace="oil-web",pool="cores"} 1
claim_condition{name="small",target_namespace="oil-web",condition="Ready"} 1
claim_condition{name="small",target_namespace="oil-web",condition="Bound"} 0
claim_condition{name="large",target_namespace="oil-web",condition="Exhausted"} 1
claim_resource{name="large",target_namespace="oil-web",resource="limits.cpu"} 7
custom_quota_condition{custom_quota="services",target_namespace="oil-web",condition="Ready"} 1
custom_quota_resource_usage{custom_quota="services",target_namespace="oil-web"} 1
custom_quota_resource_usage_percentage{custom_quota="services",target_namespace="oil-web"} 25
custom_quota_resource_limit{custom_quota="services",target_namespace="oil-web"} 4
custom_quota_resource_available{custom_quota="services",target_namespace="oil-web"} 3
custom_quota_resource_item_usage{custom_quota="services",target_namespace="oil-web",name="web",kind="Service",group=""} 1
global_custom_quota_condition{custom_quota="services",condition="Ready"} 1
global_custom_quota_resource_usage{custom_quota="services"} 1
global_custom_quota_resource_usage_percentage{custom_quota="services"} 10
global_custom_quota_resource_limit{custom_quota="services"} 10
global_custom_quota_resource_available{custom_quota="services"} 9
global_custom_quota_resource_item_usage{custom_quota="services",target_namespace="oil-web",name="web",kind="Service",group=""} 1
global_resource_quota_condition{global_resource_quota="all",condition="Ready"} 1
global_resource_quota_limit{global_resource_quota="all",resource="services"} 4
global_resource_quota_usage{global_resource_quota="all",resource="services"} 1
global_resource_quota_available{global_resource_quota="all",resource="services"} 3
global_resource_quota_usage_percentage{global_resource_quota="all",resource="services"} 25
global_resource_quota_namespace_usage{global_resource_quota="all",target_namespace="oil-web",resource="services"} 1
global_resource_quota_namespace_usage_percentage{global_resource_quota="all",target_namespace="oil-web",resource="services"} 25
"#;

#[expect(clippy::needless_pass_by_value, reason = "it is written at the place of the call")]
fn capsule(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn cluster_wide() -> Vec<Value> {
    let of_oil = json!({"matchLabels": {"capsule.clastix.io/tenant": "oil"}});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cotenant-system"}}),
        capsule(
            "CapsuleConfiguration",
            "default",
            json!({"users": [{"kind": "Group", "name": "projectcapsule.dev"}], "enableTLSReconciler": true,
                "administrators": [{"kind": "User", "name": "adam"}], "events": {"namespace": "cotenant-system"}}),
        ),
        capsule("TenantOwner", "olga", json!({"kind": "User", "name": "olga"})),
        capsule(
            "Tenant",
            "oil",
            json!({"owners": [{"kind": "User", "name": "olga"}], "namespaceOptions": {"quota": 3},
                "resourceQuotas": {"scope": "Tenant", "items": [{"hard": {"configmaps": "10"}}]},
                "rules": [{"enforce": {"action": "deny", "workloads": {"schedulers": [{"exact": ["bad"]}]}}}]}),
        ),
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "oil-web", "labels": {"capsule.clastix.io/tenant": "oil"}}}),
        capsule(
            "ResourcePool",
            "cores",
            json!({"quota": {"hard": {"limits.cpu": "8"}}, "selectors": [of_oil]}),
        ),
        capsule(
            "GlobalCustomQuota",
            "services",
            json!({"limit": "10", "namespaceSelectors": [of_oil], "options": {"emitMetricPerClaimUsage": true},
                "sources": [{"apiVersion": "v1", "kind": "Service", "op": "count"}]}),
        ),
        capsule(
            "GlobalResourceQuota",
            "all",
            json!({"quota": {"hard": {"services": "4"}}, "namespaceSelectors": [of_oil]}),
        ),
        capsule(
            "GlobalTenantResource",
            "copies",
            json!({"resyncPeriod": "60s", "cordoned": true, "resources": [{"rawItems": [map()]}]}),
        ),
    ]
}

fn map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "copy"}})
}

fn in_the_namespace() -> Vec<Value> {
    vec![
        capsule(
            "CustomQuota",
            "services",
            json!({"limit": "4", "options": {"emitMetricPerClaimUsage": true},
                "sources": [{"apiVersion": "v1", "kind": "Service", "op": "count"}]}),
        ),
        capsule(
            "ResourcePoolClaim",
            "small",
            json!({"pool": "cores", "claim": {"limits.cpu": "2"}}),
        ),
        // Its ServiceAccount may do nothing, so it is not ready.
        capsule(
            "TenantResource",
            "copies",
            json!({"resyncPeriod": "60s", "resources": [{"rawItems": [map()]}]}),
        ),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
    ]
}

struct Bed {
    /// Who may do everything, and is an administrator of tenants.
    adam: Client,
    metrics: String,
    operator: Process,
    _directory: tempfile::TempDir,
}

impl Bed {
    async fn start() -> Self {
        let server = ApiServer::shared().await;
        let adam = server.client_for("adam", &["system:masters"]).await;
        let definitions = Api::<CustomResourceDefinition>::all(adam.clone());
        for definition in api::crds() {
            let (name, params) = (definition.name_any(), PatchParams::apply("test").force());
            definitions
                .patch(&name, &params, &Patch::Apply(&definition))
                .await
                .unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        // By this name the policies know who keeps objects in tenants' namespaces.
        let operator = server.kubeconfig_for("system:serviceaccount:cotenant-system:cotenant", &["system:masters"]);
        std::fs::write(&kubeconfig, serde_norway::to_string(&operator).unwrap()).unwrap();
        let [hooks, metrics, health] =
            [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free(ports::UNCLAIMED).unwrap())));
        let log = directory.path().join("operator.log");
        let spec = Spec::new("operator", env!("CARGO_BIN_EXE_cotenant"), log)
            .args(["operator", "--components=namespace-tenants"])
            .arg(format!("--webhook-port={}", hooks.port()))
            .arg(format!("--webhook-url=https://{hooks}"))
            .arg(format!("--metrics-bind-address={metrics}"))
            .arg(format!("--health-probe-bind-address={health}"))
            .arg(format!("--kubeconfig={}", kubeconfig.display()));
        Self {
            adam,
            metrics: metrics.to_string(),
            operator: Process::start(spec).unwrap(),
            _directory: directory,
        }
    }

    /// Looks again until it is so.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
        let begun = Instant::now();
        loop {
            match look().await {
                Ok(found) => return found,
                Err(problem) if begun.elapsed() > PATIENCE => {
                    panic!("{what}: {problem}\n{}", tail(self.operator.log()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Waits until the hook that gives namespaces to tenants is asked: by then the others are, too, or soon will be.
    async fn namespaces_become_tenants(&self, namespace: &Value) {
        let namespace: Namespace = serde_json::from_value(namespace.clone()).unwrap();
        let (api, params) = (
            Api::<Namespace>::all(self.adam.clone()),
            PostParams {
                dry_run: true,
                ..PostParams::default()
            },
        );
        self.until("the hooks", async || {
            let made = api
                .create(&params, &namespace)
                .await
                .map_err(|error| error.to_string())?;
            let owners = made.metadata.owner_references.unwrap_or_default();
            (!owners.is_empty()).then_some(()).ok_or_else(|| "nobody's".to_owned())
        })
        .await;
    }

    /// Creates an object as soon as it is let through: kinds and hooks come with time, and quotas are ready a moment later.
    async fn create(&self, namespace: Option<&str>, object: &Value) {
        let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.adam.clone(), namespace, &resource),
            None => Api::all_with(self.adam.clone(), &resource),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        self.until(&format!("{kind} {name}"), async || {
            let applied = api
                .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object))
                .await;
            applied.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    }

    async fn scrape(&self) -> Result<String, String> {
        let address = self.metrics.clone();
        let answer = tokio::task::spawn_blocking(move || get(&address, "/metrics"))
            .await
            .unwrap();
        answer.map_err(|error| error.to_string())
    }
}

/// One request over a connection of its own.
fn get(address: &str, path: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A sample: its name without `capsule_`, and its labels in order.
type Series = (String, BTreeMap<String, String>);

/// Samples of a text in Prometheus' format. No value in these tests has a comma, a brace or a quotation mark.
fn samples<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<Series, f64> {
    let mut samples = BTreeMap::new();
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let pairs = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
        let labels = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("{line}"));
            (key.to_owned(), value.trim_matches('"').to_owned())
        });
        samples.insert((name.to_owned(), labels.collect()), value.parse().unwrap());
    }
    samples
}

fn of_capsule(text: &str) -> BTreeMap<Series, f64> {
    samples(text.lines().filter_map(|line| line.strip_prefix("capsule_")))
}

#[tokio::test]
async fn every_metric_has_its_name_labels_and_value_and_events_are_where_they_should_be() {
    let bed = Bed::start().await;
    for object in cluster_wide() {
        if object["metadata"]["name"] == "oil-web" {
            bed.namespaces_become_tenants(&object).await;
        }
        bed.create(None, &object).await;
    }
    for object in in_the_namespace() {
        bed.create(Some("oil-web"), &object).await;
    }
    // Asked for when the first has what it asked for, or the two would be taken in the order of their names.
    bed.until("the pool", async || {
        let found = of_capsule(&bed.scrape().await?);
        found
            .keys()
            .any(|(name, _)| name == "claim_pool")
            .then_some(())
            .ok_or_else(|| "no claim".to_owned())
    })
    .await;
    let large = capsule(
        "ResourcePoolClaim",
        "large",
        json!({"pool": "cores", "claim": {"limits.cpu": "7"}}),
    );
    bed.create(Some("oil-web"), &large).await;

    let expected = samples(SAMPLES.lines().filter(|line| !line.is_empty()));
    bed.until("the samples", async || {
        let found = of_capsule(&bed.scrape().await?);
        let wrong: Vec<String> = expected
            .iter()
            .filter(|(series, value)| found.get(series) != Some(value))
            .map(|(series, value)| format!("{series:?}: {value} expected, {:?} found", found.get(series)))
            .collect();
        wrong.is_empty().then_some(()).ok_or_else(|| wrong.join("\n"))
    })
    .await;

    let text = bed.scrape().await.unwrap();
    let found: BTreeSet<(String, BTreeSet<String>)> = of_capsule(&text)
        .into_keys()
        .map(|(name, labels)| (name, labels.into_keys().collect()))
        .collect();
    let known: BTreeSet<(String, BTreeSet<String>)> = METRICS
        .iter()
        .map(|(name, labels)| {
            (
                (*name).to_owned(),
                labels.iter().map(|label| (*label).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(found, known);
    for (name, _) in METRICS {
        let line = format!("# TYPE capsule_{name} gauge");
        assert!(text.lines().any(|found| found == line), "{line}");
    }

    // Events about what is in no namespace.
    let tenants = ApiResource::from_gvk(&GroupVersionKind::gvk("capsule.clastix.io", "v1beta2", "Tenant"));
    let tenants: Api<DynamicObject> = Api::all_with(bed.adam.clone(), &tenants);
    for (cordoned, action) in [(true, "Cordoned"), (false, "UnCordoned")] {
        let patch = Patch::Merge(json!({"spec": {"cordoned": cordoned}}));
        bed.until("cordoning", async || {
            let patched = tenants.patch("oil", &PatchParams::default(), &patch).await;
            patched.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
        let events = Api::<Event>::namespaced(bed.adam.clone(), "cotenant-system");
        bed.until(action, async || {
            let all = events
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let told = all
                .items
                .into_iter()
                .find(|event| event.action.as_deref() == Some(action));
            let told = told.ok_or_else(|| "no Event".to_owned())?;
            assert_eq!(told.reason.as_deref(), Some("Cordoned"));
            let about = told.regarding.unwrap();
            assert_eq!(
                (about.kind.as_deref(), about.name.as_deref()),
                (Some("Tenant"), Some("oil"))
            );
            Ok(())
        })
        .await;
    }
}
