//! Tenants of `v1beta1`, as a real API server has them converted: read, written in every way, and never at the cost of
//! what only `v1beta2` can say.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::process::Command;

use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use support::hijack::{Way, refusal};
use support::served::served;
use support::until;
use support::versions::{converted, create, newer, object, older, rich};
use testbed::unique;

fn annotations(tenant: &DynamicObject) -> Value {
    json!(tenant.metadata.annotations)
}

/// The spec without what the API server fills in.
fn spec(tenant: &DynamicObject) -> Value {
    let mut spec = tenant.data["spec"].clone();
    let fields = spec.as_object_mut().unwrap();
    fields.retain(|_, value| *value != json!(false));
    spec
}

#[tokio::test]
async fn an_older_manifest_is_stored_as_what_it_means() {
    let client = converted().await;
    let name = unique("oil");
    let made = create(
        &older(&client),
        object(
            "v1beta1",
            &name,
            json!({
                "capsule.clastix.io/cordon": "true",
                "capsule.clastix.io/protected": "",
                "capsule.clastix.io/forbidden-namespace-labels": "a,b",
                "clusterrolenames.capsule.clastix.io/0": "edit,view",
                "example.com/note": "mine",
            }),
            json!({"owners": [{"kind": "User", "name": "alice"}], "namespaceOptions": {"quota": 2}}),
        ),
    )
    .await;
    assert_eq!(made.types.unwrap().api_version, "capsule.clastix.io/v1beta1");

    let stored = newer(&client).get(&name).await.unwrap();
    assert_eq!(annotations(&stored), json!({"example.com/note": "mine"}));
    assert_eq!(
        spec(&stored),
        json!({
            "cordoned": true,
            "preventDeletion": true,
            "owners": [{"kind": "User", "name": "alice", "clusterRoles": ["edit", "view"]}],
            "namespaceOptions": {"quota": 2, "managedMetadataOnly": false, "forbiddenLabels": {"denied": ["a", "b"]}},
        })
    );

    let shown = older(&client).get(&name).await.unwrap();
    assert_eq!(
        spec(&shown),
        json!({"owners": [{"kind": "User", "name": "alice"}], "namespaceOptions": {"quota": 2}})
    );
    let shown = annotations(&shown);
    for (key, value) in [
        ("capsule.clastix.io/cordon", "true"),
        ("capsule.clastix.io/protected", "true"),
        ("capsule.clastix.io/deny-wildcard", "true"),
        ("capsule.clastix.io/forbidden-namespace-labels", "a,b"),
        ("clusterrolenames.capsule.clastix.io/0", "edit,view"),
        ("example.com/note", "mine"),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
}

/// A client of `v1beta1` adds an owner, removes the quota and writes an annotation.
#[rstest]
#[case::replace(Way::Replace)]
#[case::json(Way::Json)]
#[case::merge(Way::Merge)]
#[case::apply(Way::Apply)]
#[tokio::test]
async fn a_change_in_v1beta1_keeps_what_it_cannot_see(#[case] way: Way) {
    let client = converted().await;
    let name = rich(&client).await;
    let before = newer(&client).get(&name).await.unwrap();
    let api = older(&client);
    let seen = api.get(&name).await.unwrap();
    let owners = json!([{"kind": "User", "name": "alice"}, {"kind": "Group", "name": "team"}]);
    let params = PatchParams::default();
    match way {
        Way::Replace => {
            let mut next = seen;
            next.data["spec"]["owners"] = owners;
            next.metadata
                .annotations
                .get_or_insert_default()
                .insert("note".into(), "mine".into());
            api.replace(&name, &PostParams::default(), &next).await.map(drop)
        }
        Way::Json => {
            let patch = json!([
                {"op": "replace", "path": "/spec/owners", "value": owners},
                {"op": "add", "path": "/metadata/annotations/note", "value": "mine"},
            ]);
            let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
            api.patch(&name, &params, &patch).await.map(drop)
        }
        Way::Merge => {
            let patch = json!({"metadata": {"annotations": {"note": "mine"}}, "spec": {"owners": owners}});
            api.patch(&name, &params, &Patch::Merge(patch)).await.map(drop)
        }
        Way::Apply => {
            let applied = object("v1beta1", &name, json!({"note": "mine"}), json!({"owners": owners}));
            let params = PatchParams::apply("gitops").force();
            api.patch(&name, &params, &Patch::Apply(&applied)).await.map(drop)
        }
        Way::Strategic => unreachable!("not for custom resources"),
    }
    .unwrap();

    let mut expected = spec(&before);
    expected["owners"] = json!([
        {"kind": "User", "name": "alice", "clusterRoles": ["admin"], "labels": {"a": "b"}},
        {"kind": "Group", "name": "team", "clusterRoles": ["admin", "capsule-namespace-deleter"]},
    ]);
    let after = newer(&client).get(&name).await.unwrap();
    assert_eq!(spec(&after), expected);
    assert_eq!(annotations(&after), json!({"note": "mine"}));
    assert_eq!(after.data["status"], before.data["status"]);
    assert_eq!(
        after.data["status"]["spaces"][0]["metadata"]["labels"],
        json!({"k": "v"}),
        "the test says something"
    );
}

/// The same client goes on: applies again what it applied, after somebody changed the Tenant in `v1beta2`.
#[tokio::test]
async fn applying_in_v1beta1_again_and_again_goes_with_changes_in_v1beta2() {
    let client = converted().await;
    let name = unique("wind");
    let params = PatchParams::apply("gitops");
    let manifest = |quota: u8| {
        object(
            "v1beta1",
            &name,
            json!({"capsule.clastix.io/cordon": "true"}),
            json!({"owners": [{"kind": "User", "name": "alice"}], "namespaceOptions": {"quota": quota}}),
        )
    };
    let apply = async |quota| {
        older(&client)
            .patch(&name, &params, &Patch::Apply(manifest(quota)))
            .await
    };
    apply(1).await.unwrap();
    let generation = newer(&client).get(&name).await.unwrap().metadata.generation;
    apply(1).await.unwrap();
    assert_eq!(newer(&client).get(&name).await.unwrap().metadata.generation, generation);

    let change = json!({"spec": {"forceTenantPrefix": true, "runtimeClasses": {"allowed": ["gvisor"]}}});
    newer(&client)
        .patch(&name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    apply(2).await.unwrap();
    let stored = newer(&client).get(&name).await.unwrap();
    assert_eq!(
        spec(&stored),
        json!({
            "cordoned": true,
            "forceTenantPrefix": true,
            "runtimeClasses": {"allowed": ["gvisor"]},
            "owners": [{"kind": "User", "name": "alice", "clusterRoles": ["admin", "capsule-namespace-deleter"]}],
            "namespaceOptions": {"quota": 2, "managedMetadataOnly": false},
        })
    );

    // Taken out of the manifest, taken out of the tenant.
    let without = object("v1beta1", &name, json!({}), json!({"owners": []}));
    older(&client)
        .patch(&name, &params, &Patch::Apply(without))
        .await
        .unwrap();
    let stored = newer(&client).get(&name).await.unwrap();
    assert_eq!(stored.data["spec"]["cordoned"], false);
    assert_eq!(stored.data["spec"]["forceTenantPrefix"], true);
    assert_eq!(stored.data["spec"]["namespaceOptions"]["quota"], Value::Null);
}

#[tokio::test]
async fn what_was_saved_before_a_change_is_refused_and_not_put_back() {
    let client = converted().await;
    let name = rich(&client).await;
    let mut saved = older(&client).get(&name).await.unwrap();
    let change = json!({"spec": {"rules": [], "cordoned": true}});
    newer(&client)
        .patch(&name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
    saved.metadata = serde_json::from_value(json!({"name": name, "annotations": saved.metadata.annotations})).unwrap();
    let patch = json!({"metadata": {"annotations": saved.metadata.annotations}, "spec": saved.data["spec"]});
    let (code, message) = refusal(
        older(&client)
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await,
    );
    assert_eq!(code, 500, "{message}");
    assert!(
        message.contains("read the Tenant again and repeat the change"),
        "{message}"
    );
    assert!(message.contains(&name), "{message}");
    assert_eq!(
        newer(&client).get(&name).await.unwrap().data["spec"]["rules"],
        json!([])
    );
}

#[tokio::test]
async fn a_manifest_with_wrong_fields_is_refused_with_the_reason() {
    let client = converted().await;
    for (spec, code, words) in [
        (
            json!({"owners": [], "namespaceOptions": {"quota": 0}}),
            422,
            "spec.namespaceOptions.quota",
        ),
        // Converted for the hooks before it is validated.
        (json!({}), 500, "missing field `owners`"),
        (json!({"owners": "alice"}), 500, "invalid type: string \"alice\""),
    ] {
        let tenant = object("v1beta1", &unique("oil"), json!({}), spec);
        let (answered, message) = refusal(older(&client).create(&PostParams::default(), &tenant).await);
        assert_eq!(answered, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

/// Hooks for Tenants are asked about `v1beta1` as about `v1beta2`.
#[tokio::test]
async fn the_older_version_is_no_way_around_admission() {
    let client = converted().await;
    let spec = json!({"owners": [], "storageClasses": {"allowedRegex": "("}});
    let tenant = object("v1beta1", &unique("oil"), json!({}), spec);
    let (_, message) = refusal(older(&client).create(&PostParams::default(), &tenant).await);
    assert!(message.contains("storageClasses"), "{message}");
    let name = unique("oil");
    let made = create(
        &older(&client),
        object("v1beta1", &name, json!({}), json!({"owners": []})),
    )
    .await;
    assert_eq!(made.metadata.labels.unwrap()["kubernetes.io/metadata.name"], name);
}

#[tokio::test]
async fn kubectl_lists_changes_and_deletes_tenants_of_v1beta1() {
    let client = converted().await;
    let name = rich(&client).await;
    let file = std::env::temp_dir().join(unique("kubeconfig"));
    std::fs::write(
        &file,
        serde_json::to_string(&served().await.server.kubeconfig()).unwrap(),
    )
    .unwrap();
    let program = local::programs::locate().unwrap().path("kubectl");
    let kubectl = |line: &str| {
        let output = Command::new(&program)
            .arg("--kubeconfig")
            .arg(&file)
            .args(line.split(' '))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "kubectl {line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let tenants = "tenants.v1beta1.capsule.clastix.io";
    let table = kubectl(&format!("get {tenants} {name}"));
    let mut lines = table.lines();
    let columns: Vec<_> = lines
        .next()
        .unwrap()
        .split("  ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    assert_eq!(
        columns,
        [
            "NAME",
            "STATE",
            "NAMESPACE QUOTA",
            "NAMESPACE COUNT",
            "NODE SELECTOR",
            "AGE"
        ]
    );
    let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], [name.as_str(), "Active", "3", "1"]);
    assert!(kubectl(&format!("get {tenants}")).contains(&name));

    kubectl(&format!("annotate {tenants} {name} capsule.clastix.io/cordon=true"));
    kubectl(&format!("label {tenants} {name} team=red"));
    let stored = newer(&client).get(&name).await.unwrap();
    assert_eq!(stored.data["spec"]["cordoned"], true);
    assert_eq!(stored.data["spec"]["rules"].as_array().unwrap().len(), 1);

    kubectl(&format!("delete {tenants} {name}"));
    until("the end of the tenant", async || {
        newer(&client).get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn many_are_listed_in_both_versions() {
    let client = converted().await;
    let team = unique("team");
    for _ in 0..30 {
        let mut tenant = object("v1beta2", &unique("many"), json!({}), json!({}));
        tenant.metadata.labels = Some([("team".to_owned(), team.clone())].into());
        create(&newer(&client), tenant).await;
    }
    let chosen = ListParams::default().labels(&format!("team={team}"));
    for api in [older(&client), newer(&client)] {
        assert_eq!(api.list(&chosen).await.unwrap().items.len(), 30);
        assert_eq!(api.list(&chosen.clone().match_any()).await.unwrap().items.len(), 30);
        assert_eq!(api.list(&chosen.clone().limit(7)).await.unwrap().items.len(), 7);
    }
}
