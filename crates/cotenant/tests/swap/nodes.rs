//! The release on a real node: the Job, the pods, the rights that the chart gives them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use testbed::Cluster;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant");

#[tokio::test]
async fn the_release_serves_tenants_with_the_rights_of_its_chart() {
    let cluster = Cluster::start("swap").await;
    let programs = local::programs::locate().unwrap();
    let run = |program: &str, arguments: &str| {
        let output = Command::new(programs.path(program))
            .args(arguments.split_whitespace())
            .env("KUBECONFIG", cluster.local().kubeconfig())
            .env("HOME", cluster.directory())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    };
    let kubectl = |arguments: &str| run("kubectl", arguments);
    let helm = |arguments: &str| {
        run(
            "helm",
            &format!("{arguments} --namespace capsule-system --timeout 120s"),
        )
        .unwrap_or_else(|said| panic!("helm {arguments}: {said}\n{}", explanation(&kubectl)))
    };
    let eventually = async |arguments: &str, wanted: &str| {
        let begun = Instant::now();
        loop {
            let said = kubectl(arguments).unwrap_or_else(|said| said);
            if said.contains(wanted) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "kubectl {arguments}: not {wanted:?} but {said}\n{}",
                explanation(&kubectl)
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };

    let release = format!(
        "capsule {CHART} --values {CHART}/values-capsule.yaml --set image.tag=test,replicaCount=1,rbac.resources.create=true --wait"
    );
    helm(&format!("install {release} --create-namespace"));

    // Its Lease and the peer's are one pod's.
    let holder = "-n capsule-system get lease -o jsonpath={.spec.holderIdentity} --ignore-not-found";
    eventually(
        &format!("{holder} 42c733ea.clastix.capsule.io"),
        "capsule-controller-manager-",
    )
    .await;
    eventually(&format!("{holder} cotenant"), "capsule-controller-manager-").await;
    eventually(
        "get mutatingwebhookconfiguration capsule-dynamic-webhook -o jsonpath={.webhooks[0].clientConfig.service}",
        r#""name":"capsule-webhook-service","namespace":"capsule-system""#,
    )
    .await;

    let file = cluster.directory().join("tenant.yaml");
    std::fs::write(
        &file,
        "{apiVersion: capsule.clastix.io/v1beta2, kind: Tenant, metadata: {name: oil}, spec: {owners: [{kind: User, name: alice}], \
         resourceQuotas: {items: [{hard: {pods: '3'}}]}}}",
    )
    .unwrap();
    kubectl(&format!("apply -f {}", file.display())).unwrap();
    let alice = "--as alice --as-group projectcapsule.dev --as-group system:authenticated";
    eventually(&format!("create namespace oil-production {alice}"), "AlreadyExists").await;
    eventually(
        "get tenant oil -o jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        "True",
    )
    .await;
    eventually(
        "-n oil-production get resourcequota -o jsonpath={.items[*].spec.hard}",
        r#""pods":"3""#,
    )
    .await;
    eventually(
        &format!("auth can-i create tenantresources -n oil-production {alice}"),
        "yes",
    )
    .await;

    // An upgrade runs the Job again, over definitions that the operator has put its own conversion into.
    let converter =
        "get crd tenants.capsule.clastix.io -o jsonpath={.spec.conversion.webhook.clientConfig.service.name}";
    eventually(converter, "capsule-webhook-service").await;
    let uid = kubectl("get tenant oil -o jsonpath={.metadata.uid}").unwrap();
    helm(&format!("upgrade {release}"));
    eventually(converter, "capsule-webhook-service").await;
    helm("uninstall capsule --wait");
    assert_eq!(kubectl("get tenant oil -o jsonpath={.metadata.uid}").unwrap(), uid);
    eventually("get validatingwebhookconfiguration capsule-dynamic-webhook", "NotFound").await;
}

/// What people look at first.
fn explanation(kubectl: &impl Fn(&str) -> Result<String, String>) -> String {
    [
        "get pods -A",
        "-n capsule-system get events",
        "-n capsule-system logs deployment/capsule-controller-manager --tail=30",
        "-n capsule-system logs job/capsule-crd-lifecycle",
    ]
    .map(|command| kubectl(command).unwrap_or_else(|said| said))
    .join("\n")
}
