//! The rules of a tenant, written out in its namespaces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;

use std::fmt::Debug;

use api::capsule::v1beta2::RuleStatus;
use bed::{bed, create_namespace, create_tenant, equal, eventually, patch_tenant, ready, tenant};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::unique;

const MANAGED: &str = "capsule-managed-rules";

fn schedulers(scheduler: &str) -> Value {
    json!([
        {"enforce": {"workloads": {"schedulers": [{"exact": [scheduler]}]}}},
        {"permissions": {"bindings": []}},
    ])
}

async fn found(client: &Client, namespace: &str, name: &str) -> Option<RuleStatus> {
    Api::namespaced(client.clone(), namespace).get_opt(name).await.unwrap()
}

/// What is ready in the object: the schedulers that its rules name.
async fn in_force(client: &Client, namespace: &str, name: &str) -> Option<Vec<String>> {
    let object = found(client, namespace, name).await?;
    let status = object
        .status
        .filter(|status| status.observed_generation == object.metadata.generation)?;
    let is_ready = status
        .conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let rules = status
        .rules
        .iter()
        .filter_map(|rule| rule.enforce.as_ref()?.workloads.as_ref());
    let names = rules
        .flat_map(|workloads| &workloads.schedulers)
        .flat_map(|it| it.exact.clone());
    is_ready.then(|| names.collect())
}

#[tokio::test]
async fn a_tenants_rules_are_written_out_in_its_namespaces_as_long_as_it_has_some() {
    let client = bed().await;
    let name = unique("ruled");
    let made = create_tenant(
        &client,
        &name,
        json!({"rules": schedulers("{{ .tenant.metadata.name }}")}),
    )
    .await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    eventually("the rules, rendered", || async {
        equal(in_force(&client, &namespace, MANAGED).await, &Some(vec![name.clone()]))
    })
    .await;
    let object = found(&client, &namespace, MANAGED).await.unwrap();
    assert_eq!(object.labels()["projectcapsule.dev/name"], MANAGED);
    assert_eq!(object.owner_references()[0].uid, made.uid().unwrap());

    patch_tenant(&client, &name, json!({"spec": {"rules": schedulers("other")}})).await;
    eventually("the changed rules", || async {
        equal(
            in_force(&client, &namespace, MANAGED).await,
            &Some(vec!["other".to_owned()]),
        )
    })
    .await;
    patch_tenant(&client, &name, json!({"spec": {"rules": []}})).await;
    eventually("no rules", || async {
        equal(in_force(&client, &namespace, MANAGED).await, &Some(Vec::new()))
    })
    .await;
    let emptied = found(&client, &namespace, MANAGED).await.unwrap();
    assert_eq!(emptied.spec.0, []);
}

#[tokio::test]
async fn a_rule_that_cannot_be_rendered_makes_its_namespace_and_the_tenant_not_ready() {
    let client = bed().await;
    let name = unique("unruled");
    let rules = schedulers("{{ .namespace.metadata.labels.team }}");
    let made = create_tenant(&client, &name, json!({ "rules": rules })).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    let field = "spec.rules[0].enforce.workloads.schedulers[0].exact[0]";
    eventually("the reason", || async {
        let status = tenant(&client, &name).await.status.unwrap_or_default();
        let of_space = status.spaces.first().map(|space| space.conditions.clone());
        let is_told = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            let mut ready = conditions.iter().filter(|c| c.type_ == "Ready" && c.status == "False");
            ready.any(|c| c.message.contains(field))
        };
        let both = (is_told(&status.conditions), is_told(&of_space.unwrap_or_default()));
        equal(both, &(true, true))
    })
    .await;
    assert_eq!(found(&client, &namespace, MANAGED).await, None);
}

#[tokio::test]
async fn a_rule_status_that_somebody_else_made_gets_a_status_and_stays() {
    let client = bed().await;
    let name = unique("own");
    let made = create_tenant(&client, &name, json!({})).await;
    let namespace = format!("{name}-a");
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    assert_eq!(
        found(&client, &namespace, MANAGED).await,
        None,
        "the tenant has no rules"
    );
    let own = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "metadata": {"name": "own"},
        "spec": [{"enforce": {"workloads": {"schedulers": [{"exact": ["mine"]}]}}}]});
    let own: RuleStatus = serde_json::from_value(own).unwrap();
    let api = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &own).await.unwrap();
    eventually("its status", || async {
        equal(
            in_force(&client, &namespace, "own").await,
            &Some(vec!["mine".to_owned()]),
        )
    })
    .await;
}

async fn create<K>(client: &Client, namespace: &str, object: Value)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

/// Labels and annotations of `thing`.
async fn carried<K>(client: &Client, namespace: &str) -> Value
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api.get("thing").await.unwrap();
    json!([found.labels(), found.annotations()])
}

async fn settled(client: &Client, namespace: &str) {
    eventually("the rules are carried out", || async {
        let Some(object) = found(client, namespace, MANAGED).await else {
            return Err("no rules".to_owned());
        };
        let status = object.status.clone().unwrap_or_default();
        let is_done = status.observed_generation == object.metadata.generation
            && status
                .conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True");
        is_done.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
}

/// Two ConfigMaps, a Secret and a Deployment.
async fn fill(client: &Client, namespace: &str) {
    let own = json!({"metadata": {"name": "thing", "labels": {"team": "own", "app": "web"}}});
    create::<ConfigMap>(client, namespace, own.clone()).await;
    create::<Secret>(client, namespace, own).await;
    let kept = json!({"metadata": {"name": "kept", "labels": {"projectcapsule.dev/managed-by": "controller"}}});
    create::<ConfigMap>(client, namespace, kept).await;
    let deployment = json!({"metadata": {"name": "thing"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}}});
    create::<Deployment>(client, namespace, deployment).await;
}

fn managed(team: &str) -> Value {
    json!([{"enforce": {"metadata": [
        {"kinds": ["ConfigMap", "Namespace"], "labels": {"team": {"managed": team}}},
        {"kinds": ["Deployment"], "apiGroups": ["apps"],
         "annotations": {"place": {"managed": "{{ .namespace.metadata.name }}"}}},
        {"kinds": ["Gadget"], "apiGroups": ["example.com"], "labels": {"team": {"managed": team}}},
    ]}}])
}

#[tokio::test]
async fn managed_labels_come_to_what_is_there_and_go_with_the_rule() {
    let client = bed().await;
    let name = unique("managed");
    let (namespace, elsewhere) = (format!("{name}-a"), format!("{name}-x"));
    let made = create_tenant(&client, &name, json!({})).await;
    let other = create_tenant(&client, &unique("other"), json!({})).await;
    create_namespace(&client, &namespace, &made).await;
    create_namespace(&client, &elsewhere, &other).await;
    ready(&client, &name, 1).await;
    for place in [&namespace, &elsewhere] {
        fill(&client, place).await;
    }

    patch_tenant(&client, &name, json!({"spec": {"rules": managed("oil")}})).await;
    settled(&client, &namespace).await;
    assert_eq!(
        carried::<ConfigMap>(&client, &namespace).await,
        json!([{"team": "oil", "app": "web"}, {}])
    );
    let place = || async { carried::<Deployment>(&client, &namespace).await[1]["place"].clone() };
    assert_eq!(place().await, json!(namespace));
    let untouched = json!([{"team": "own", "app": "web"}, {}]);
    assert_eq!(
        carried::<Secret>(&client, &namespace).await,
        untouched,
        "of another kind"
    );
    assert_eq!(
        carried::<ConfigMap>(&client, &elsewhere).await,
        untouched,
        "of another tenant"
    );
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let kept = maps.get("kept").await.unwrap();
    assert_eq!(kept.labels().get("team"), None, "what is kept for the tenant");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = || async { namespaces.get(&namespace).await.unwrap().labels().clone() };
    assert_eq!(labels().await.get("team").map(String::as_str), Some("oil"));
    let managers = maps.get("thing").await.unwrap();
    let managers: Vec<_> = managers
        .managed_fields()
        .iter()
        .filter_map(|it| it.manager.clone())
        .collect();
    let ours = format!(
        "projectcapsule.dev/rulestatus-{}",
        sha(
            &namespace,
            &found(&client, &namespace, MANAGED).await.unwrap().uid().unwrap()
        )
    );
    assert!(managers.contains(&ours), "{managers:?}");

    // Another value: what says it already is not written, what does not is put right.
    let version = |object: ConfigMap| object.resource_version();
    let patch = json!({"metadata": {"labels": {"team": "gas"}}});
    let params = PatchParams::default();
    maps.patch("thing", &params, &Patch::Merge(&patch)).await.unwrap();
    let before = version(maps.get("thing").await.unwrap());
    patch_tenant(&client, &name, json!({"spec": {"rules": managed("gas")}})).await;
    eventually("the namespace has the other value", || async {
        equal(labels().await.get("team").cloned(), &Some("gas".to_owned()))
    })
    .await;
    settled(&client, &namespace).await;
    assert_eq!(version(maps.get("thing").await.unwrap()), before);

    patch_tenant(&client, &name, json!({"spec": {"rules": []}})).await;
    eventually("the labels are gone", || async {
        equal(
            carried::<ConfigMap>(&client, &namespace).await,
            &json!([{"app": "web"}, {}]),
        )
    })
    .await;
    settled(&client, &namespace).await;
    assert_eq!(place().await, Value::Null);
    assert_eq!(labels().await.get("team"), None);
}

/// By the system's own program.
fn sha(namespace: &str, uid: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    write!(child.stdin.take().unwrap(), "{namespace}/{MANAGED}/{uid}").unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..16].to_owned()
}

#[tokio::test]
async fn a_kind_that_takes_no_such_label_is_told_of_and_what_came_to_others_goes_with_the_rule() {
    let client = bed().await;
    let name = unique("half");
    let namespace = format!("{name}-a");
    let made = create_tenant(&client, &name, json!({})).await;
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    fill(&client, &namespace).await;
    // Admission would refuse the value.
    patch_tenant(&client, &name, json!({"spec": {"rules": managed("no label!")}})).await;
    let place = || async { carried::<Deployment>(&client, &namespace).await[1]["place"].clone() };
    let told = || async {
        let status = found(&client, &namespace, MANAGED).await?.status?;
        let ready = status.conditions.into_iter().find(|c| c.type_ == "Ready")?;
        Some((ready.status, ready.message.contains("\"no label!\"")))
    };
    eventually("one kind has it, the other one's refusal is told", || async {
        let expected = (json!(namespace), Some(("False".to_owned(), true)));
        equal((place().await, told().await), &expected)
    })
    .await;

    patch_tenant(&client, &name, json!({"spec": {"rules": []}})).await;
    eventually("nothing of it is left", || async {
        equal(
            (place().await, told().await),
            &(Value::Null, Some(("True".to_owned(), false))),
        )
    })
    .await;
    assert_eq!(
        carried::<ConfigMap>(&client, &namespace).await,
        json!([{"team": "own", "app": "web"}, {}]),
        "it never came, so what is there is the person's own"
    );
}

#[tokio::test]
async fn what_a_rule_status_of_somebodys_own_manages_is_not_brought_anywhere() {
    let client = bed().await;
    let name = unique("deputy");
    let namespace = format!("{name}-a");
    let made = create_tenant(&client, &name, json!({})).await;
    create_namespace(&client, &namespace, &made).await;
    ready(&client, &name, 1).await;
    fill(&client, &namespace).await;
    let own = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "RuleStatus", "metadata": {"name": "own"},
        "spec": managed("theirs")});
    create::<RuleStatus>(&client, &namespace, own).await;
    eventually("its status", || async {
        equal(in_force(&client, &namespace, "own").await, &Some(Vec::new()))
    })
    .await;
    assert_eq!(
        carried::<ConfigMap>(&client, &namespace).await,
        json!([{"team": "own", "app": "web"}, {}])
    );
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labelled = ListParams::default().labels("team=theirs");
    assert_eq!(namespaces.list(&labelled).await.unwrap().items, []);
}
