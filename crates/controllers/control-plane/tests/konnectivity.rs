//! The tunnel of a control plane, against a real API server: what comes with it, what the status says, and that nothing of
//! it is left once it is not wanted any more. There is no node here, and nothing goes through it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use bed::{World, create, eventually, when};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

/// Names of the parts of the tunnel that are there, in order.
async fn parts(world: &World, name: &str) -> Vec<String> {
    let labels = ListParams::default().labels(&format!("kamaji.clastix.io/name={name}"));
    let secrets = world.api::<Secret>().list(&labels).await.unwrap();
    let config_maps = world.api::<ConfigMap>().list(&labels).await.unwrap();
    let names = secrets
        .iter()
        .map(ResourceExt::name_any)
        .chain(config_maps.iter().map(ResourceExt::name_any));
    let mut parts: Vec<String> = names.filter(|name| name.contains("konnectivity")).collect();
    let deployment = world.api::<Deployment>().get(name).await.unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let volumes = pod.volumes.unwrap_or_default();
    parts.extend(
        volumes
            .iter()
            .filter(|volume| volume.name.contains("konnectivity") || volume.name.contains("egress"))
            .map(|volume| format!("volume {}", volume.name)),
    );
    for container in &pod.containers {
        if container.name == "konnectivity-server" {
            parts.push(format!("container {}", container.name));
        }
        let flags = container.args.iter().flatten();
        parts.extend(
            flags
                .filter(|flag| flag.starts_with("--egress"))
                .map(|flag| format!("flag {flag}")),
        );
    }
    let service = world.api::<Service>().get(name).await.unwrap();
    let ports = service.spec.unwrap().ports.unwrap();
    parts.extend(
        ports
            .iter()
            .filter(|port| port.name.as_deref() == Some("konnectivity-server"))
            .map(|port| format!("port {}", port.port)),
    );
    parts.sort();
    parts
}

const ALL: [&str; 9] = [
    "container konnectivity-server",
    "flag --egress-selector-config-file=/etc/kubernetes/konnectivity/configurations/egress-selector-configuration.yaml",
    "oil-konnectivity-certificate",
    "oil-konnectivity-egress-selector-configuration",
    "oil-konnectivity-kubeconfig",
    "port 8132",
    "volume egress-selector-configuration",
    "volume konnectivity-server-kubeconfig",
    "volume konnectivity-uds",
];

async fn until_parts(world: &World, expected: &[&str]) {
    eventually("the parts of the tunnel", || async {
        let parts = parts(world, "oil").await;
        when(parts == expected, || format!("{parts:#?}"))
    })
    .await;
}

async fn reported(world: &World) -> Value {
    let status = world.control_plane("oil").await.status.unwrap_or_default();
    let addons = serde_json::to_value(status.addons).unwrap();
    addons.get("konnectivity").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_comes_and_goes_with_all_that_belongs_to_it() {
    let world = World::new(&[]).await;
    world.create_control_plane("oil", json!({})).await;
    world.until_carried_out("oil").await;
    assert_eq!(parts(&world, "oil").await, Vec::<String>::new());
    assert_eq!(reported(&world).await, Value::Null);

    // It comes.
    world.change("oil", json!({"addons": {"konnectivity": {}}})).await;
    world.until_carried_out("oil").await;
    until_parts(&world, &ALL).await;
    let certificate = world.api::<Secret>().get("oil-konnectivity-certificate").await.unwrap();
    assert_eq!(certificate.type_.as_deref(), Some("kubernetes.io/tls"));
    let pem = String::from_utf8(certificate.data.as_ref().unwrap()["tls.crt"].0.clone()).unwrap();
    let info = pki::inspect(&pem).unwrap();
    assert_eq!(info.common_name.as_deref(), Some("system:konnectivity-server"));
    assert_eq!(info.organizations, Vec::<String>::new());
    let said = reported(&world).await;
    assert_eq!(said["enabled"], true);
    assert_eq!(
        said["configMap"]["name"],
        "oil-konnectivity-egress-selector-configuration"
    );
    assert_eq!(said["certificate"]["secretName"], "oil-konnectivity-certificate");
    assert_eq!(said["service"]["port"], 8132);

    // Somebody's hand is undone; the same credentials stay.
    let config_maps = world.api::<ConfigMap>();
    config_maps
        .delete(
            "oil-konnectivity-egress-selector-configuration",
            &DeleteParams::default(),
        )
        .await
        .unwrap();
    until_parts(&world, &ALL).await;
    let after = world.api::<Secret>().get("oil-konnectivity-certificate").await.unwrap();
    assert_eq!(after.resource_version(), certificate.resource_version());

    // It goes, and what somebody else has under such a name stays.
    world.change("oil", json!({"addons": {"konnectivity": null}})).await;
    world.until_carried_out("oil").await;
    until_parts(&world, &[]).await;
    create::<Secret>(
        &world.api(),
        json!({"metadata": {"name": "oil-konnectivity-certificate", "labels": {"kamaji.clastix.io/name": "oil"}}}),
    )
    .await;
    world
        .change("oil", json!({"controlPlane": {"deployment": {"replicas": 2}}}))
        .await;
    world.until_carried_out("oil").await;
    assert_eq!(parts(&world, "oil").await, ["oil-konnectivity-certificate"]);
}
