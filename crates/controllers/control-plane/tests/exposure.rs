//! How control planes are reached, against a real API server: what stands in front of them, and that a name or an address
//! that changes reaches every kubeconfig, the certificate and the status.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use api::kamaji::v1alpha1::KubernetesResourcesStatus;
use bed::{World, create, eventually, install, when};
use control_plane_controller::desired::gateway::{Gateway, TlsRoute};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

impl World {
    /// Until the status, every kubeconfig for people and the certificate say the same, which is `endpoint`.
    async fn until_reached_at(&self, name: &str, endpoint: &str) {
        eventually(&format!("{name} is reached at {endpoint}"), || async {
            let tcp = self.until_carried_out(name).await;
            let told = tcp.status.unwrap().control_plane_endpoint.unwrap_or_default();
            when(told == endpoint, || format!("status: {told}"))?;
            let kubeconfigs = self
                .api::<Secret>()
                .get(&format!("{name}-admin-kubeconfig"))
                .await
                .unwrap();
            for key in ["admin.conf", "super-admin.conf"] {
                let text = String::from_utf8(kubeconfigs.data.as_ref().unwrap()[key].0.clone()).unwrap();
                let named = text.contains(&format!("server: https://{endpoint}"));
                when(named, || {
                    format!(
                        "{key}: {}",
                        text.lines().find(|line| line.contains("server:")).unwrap_or_default()
                    )
                })?;
            }
            let certificate = self
                .api::<Secret>()
                .get(&format!("{name}-api-server-certificate"))
                .await
                .unwrap();
            let pem = String::from_utf8(certificate.data.unwrap()["apiserver.crt"].0.clone()).unwrap();
            let (host, port) = endpoint.rsplit_once(':').unwrap();
            let sans = pki::inspect(&pem).unwrap().sans;
            when(sans.contains(&pki::San::parse(host).unwrap()), || {
                format!("certificate: {sans:?}")
            })?;
            let config = self
                .api::<k8s_openapi::api::core::v1::ConfigMap>()
                .get(&format!("{name}-kubeadmconfig"))
                .await
                .unwrap();
            let config = config.data.unwrap()["ClusterConfiguration"].clone();
            when(
                config.contains(&format!("\"controlPlaneEndpoint\":\"{host}:{port}\"")),
                || config.clone(),
            )
        })
        .await;
    }

    async fn until_stopped(&self, name: &str, reason: &str) -> String {
        eventually(&format!("{name} waits for {reason}"), || async {
            let conditions = self.control_plane(name).await.status.unwrap_or_default().conditions;
            let found = conditions
                .iter()
                .find(|one| one.reason == reason && one.status == "False");
            found
                .map(|one| one.message.clone())
                .ok_or_else(|| format!("{conditions:#?}"))
        })
        .await
    }

    /// What the status says of the objects in front of it.
    async fn resources(&self, name: &str) -> KubernetesResourcesStatus {
        let status = self.control_plane(name).await.status.unwrap();
        status.kubernetes_resources.unwrap()
    }

    async fn ingress_hosts(&self, name: &str) -> Vec<String> {
        let ingress = self.api::<Ingress>().get(name).await.unwrap();
        let rules = ingress.spec.unwrap().rules.unwrap();
        rules.into_iter().map(|rule| rule.host.unwrap()).collect()
    }
}

fn ingress(hostname: &str) -> Value {
    json!({"controlPlane": {"ingress": {"hostname": hostname, "ingressClassName": "fast",
        "additionalMetadata": {"annotations": {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_is_reached_by_its_name_and_nobody_elses() {
    let world = World::new(&[]).await;
    world.create_control_plane("oil", ingress("oil.example:443")).await;
    world.until_reached_at("oil", "oil.example:443").await;
    let made = world.api::<Ingress>().get("oil").await.unwrap();
    let spec = serde_json::to_value(made.spec.as_ref().unwrap()).unwrap();
    assert_eq!(spec["ingressClassName"], "fast");
    let path = &spec["rules"][0]["http"]["paths"][0];
    assert_eq!(
        path["backend"],
        json!({"service": {"name": "oil", "port": {"number": 6443}}})
    );
    assert_eq!(
        made.annotations()["nginx.ingress.kubernetes.io/ssl-passthrough"],
        "true"
    );
    let uid = world.control_plane("oil").await.uid().unwrap();
    assert_eq!(made.owner_references()[0].uid, uid);

    // Whoever serves the class says where, and the status tells.
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.3"}]}}});
    let ingresses: Api<Ingress> = world.api();
    ingresses
        .patch_status("oil", &PatchParams::default(), &Patch::Merge(address))
        .await
        .unwrap();
    eventually("the status tells of the Ingress", || async {
        let resources = world.resources("oil").await;
        let told = serde_json::to_value(resources.ingress).unwrap();
        let expected = json!({"name": "oil", "namespace": world.namespace,
            "loadBalancer": {"ingress": [{"ip": "198.51.100.3"}]}});
        when(told == expected, || told.to_string())
    })
    .await;

    // Somebody's hand is undone.
    let stolen = json!({"spec": {"rules": [{"host": "stolen.example"}]}});
    ingresses
        .patch("oil", &PatchParams::default(), &Patch::Merge(stolen))
        .await
        .unwrap();
    eventually("the rule is back", || async {
        let hosts = world.ingress_hosts("oil").await;
        when(hosts == ["oil.example"], || format!("{hosts:?}"))
    })
    .await;

    // A name is there once, also when it came past admission; so is that of somebody's own Ingress.
    let shop = json!({"metadata": {"name": "shop"}, "spec": {"rules": [{"host": "shop.example"}],
        "defaultBackend": {"service": {"name": "shop", "port": {"number": 80}}}}});
    create::<Ingress>(&ingresses, shop).await;
    world.create_control_plane("gas", ingress("oil.example")).await;
    let message = world.until_stopped("gas", "HostnameTaken").await;
    assert!(
        message.contains("oil.example") && !message.contains("\"oil\""),
        "{message}"
    );
    assert!(ingresses.get_opt("gas").await.unwrap().is_none());
    world.change("gas", ingress("shop.example")).await;
    world.until_stopped("gas", "HostnameTaken").await;
    assert!(ingresses.get_opt("gas").await.unwrap().is_none());
    ingresses.delete("shop", &DeleteParams::default()).await.unwrap();
    world.until_reached_at("gas", "shop.example:6443").await;

    // Who waits for a taken name keeps the one that it has, and nobody else gets it before it is let go.
    world.change("gas", ingress("oil.example")).await;
    world.until_stopped("gas", "HostnameTaken").await;
    assert_eq!(world.ingress_hosts("gas").await, ["shop.example"]);
    world.create_control_plane("sun", ingress("shop.example")).await;
    world.until_stopped("sun", "HostnameTaken").await;
    world.change("gas", ingress("gas.example")).await;
    world.until_reached_at("gas", "gas.example:6443").await;
    world.until_reached_at("sun", "shop.example:6443").await;

    // Another name, and none: the address is back, and what stood in front is gone.
    world.change("oil", ingress("crude.example")).await;
    world.until_reached_at("oil", "crude.example:6443").await;
    assert_eq!(world.ingress_hosts("oil").await, ["crude.example"]);
    let service = world.api::<Service>().get("oil").await.unwrap();
    let cluster_ip = service.spec.unwrap().cluster_ip.unwrap();
    world.change("oil", json!({"controlPlane": {"ingress": null}})).await;
    world.until_reached_at("oil", &format!("{cluster_ip}:6443")).await;
    world.until_gone::<Ingress>("oil").await;
    let resources = world.resources("oil").await;
    assert_eq!(resources.ingress, None);
    world.change("gas", ingress("oil.example")).await;
    world.until_reached_at("gas", "oil.example:6443").await;

    // An Ingress of our name that is somebody's stays.
    let strange = json!({"metadata": {"name": "oil"}, "spec": {"rules": [{"host": "strange.example"}],
        "defaultBackend": {"service": {"name": "shop", "port": {"number": 80}}}}});
    let strange = create::<Ingress>(&ingresses, strange).await;
    world.change("oil", ingress("crude.example")).await;
    world.until_stopped("oil", "NameTaken").await;
    world.change("oil", json!({"controlPlane": {"ingress": null}})).await;
    world.until_reached_at("oil", &format!("{cluster_ip}:6443")).await;
    assert_eq!(ingresses.get("oil").await.unwrap().uid(), strange.uid());
}

/// The Gateway API, as far as it goes here.
async fn install_gateway_api(world: &World) {
    for (kind, plural) in [
        ("Gateway", "gateways"),
        ("TLSRoute", "tlsroutes"),
        ("HTTPRoute", "httproutes"),
        ("GRPCRoute", "grpcroutes"),
    ] {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "metadata": {"name": format!("{plural}.gateway.networking.k8s.io"), "annotations": {
                "api-approved.kubernetes.io": "unapproved, as far as it goes in a test"}},
            "spec": {"group": "gateway.networking.k8s.io", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}}]}});
        install(&world.client, serde_json::from_value(definition).unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_of_the_gateway_api_waits_for_what_it_needs_and_says_where_it_is_reached() {
    let world = World::new(&[]).await;
    let front = json!({"controlPlane": {"gateway": {"hostname": "oil.example",
        "parentRefs": [{"name": "front", "sectionName": "api"}]}}});
    world.create_control_plane("oil", front).await;
    let message = world.until_stopped("oil", "GatewayUnavailable").await;
    assert!(message.contains("gateway.networking.k8s.io/v1"), "{message}");

    install_gateway_api(&world).await;
    world.until_stopped("oil", "RouteNotAccepted").await;
    let routes: Api<TlsRoute> = world.api();
    let made = routes.get("oil").await.unwrap();
    let spec = serde_json::to_value(&made.spec).unwrap();
    assert_eq!(spec["hostnames"], json!(["oil.example"]));
    assert_eq!(spec["rules"], json!([{"backendRefs": [{"name": "oil", "port": 6443}]}]));
    assert_eq!(spec["parentRefs"][0]["sectionName"], "api");

    // As a Gateway's controller says it.
    let gateway = json!({"metadata": {"name": "front"}, "spec": {"gatewayClassName": "fast", "listeners": [
        {"name": "api", "port": 443, "protocol": "TLS"}, {"name": "web", "port": 80, "protocol": "HTTP"}]}});
    let gateways: Api<Gateway> = world.api();
    gateways
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(gateway_of(gateway)).unwrap(),
        )
        .await
        .unwrap();
    let condition = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": type_, "message": "",
        "observedGeneration": made.metadata.generation, "lastTransitionTime": "2026-11-20T12:00:00Z"})
    };
    let parent = json!({"parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front",
        "sectionName": "api"}, "controllerName": "example.test/gateway", "conditions": [condition("Accepted")]});
    let accepted = json!({"status": {"parents": [parent]}});
    routes
        .patch_status("oil", &PatchParams::default(), &Patch::Merge(accepted))
        .await
        .unwrap();
    world.until_reached_at("oil", "oil.example:6443").await;
    let programmed = json!({"status": {"conditions": [condition("Programmed")]}});
    gateways
        .patch_status("front", &PatchParams::default(), &Patch::Merge(programmed))
        .await
        .unwrap();
    eventually("the status says where", || async {
        let resources = world.resources("oil").await;
        let told = serde_json::to_value(resources.gateway).unwrap();
        let expected = json!([{"type": "Hostname", "value": "https://oil.example:443", "port": 443}]);
        when(
            told["accessPoints"] == expected && told["routeRef"] == json!({"name": "oil"}),
            || told.to_string(),
        )
    })
    .await;

    world.change("oil", json!({"controlPlane": {"gateway": null}})).await;
    world.until_gone::<TlsRoute>("oil").await;
    world.until_carried_out("oil").await;
    let resources = world.resources("oil").await;
    assert_eq!(resources.gateway, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_somebodys_route_or_below_their_wildcard_is_theirs() {
    let world = World::new(&[]).await;
    install_gateway_api(&world).await;
    // Kinds that are some seconds old may count as not there.
    let front = json!({"controlPlane": {"gateway": {"hostname": "gas.example", "parentRefs": [{"name": "front"}]}}});
    world.create_control_plane("gas", front).await;
    world.until_stopped("gas", "RouteNotAccepted").await;
    let ingresses: Api<Ingress> = world.api();
    let wide = json!({"metadata": {"name": "wide"}, "spec": {"rules": [{"host": "*.wide.example"}],
        "defaultBackend": {"service": {"name": "shop", "port": {"number": 80}}}}});
    create::<Ingress>(&ingresses, wide).await;
    let routes = [
        ("HTTPRoute", "httproutes", "web.example", "web.example"),
        ("GRPCRoute", "grpcroutes", "*.rpc.example", "oil.customers.rpc.example"),
        ("TLSRoute", "tlsroutes", "*.tls.example", "oil.tls.example"),
    ];
    let api = |kind: &str, plural: &str| -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind);
        Api::namespaced_with(
            world.client.clone(),
            &world.namespace,
            &ApiResource::from_gvk_with_plural(&kind, plural),
        )
    };
    for (kind, plural, hostname, _) in routes {
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {"name": "shop"}, "spec": {"hostnames": [hostname]}});
        let route = serde_json::from_value(route).unwrap();
        api(kind, plural)
            .create(&kube::api::PostParams::default(), &route)
            .await
            .unwrap();
    }
    world.create_control_plane("oil", ingress("oil.wide.example")).await;
    world.until_stopped("oil", "HostnameTaken").await;
    for (_, plural, _, name) in routes {
        world.create_control_plane(plural, ingress(name)).await;
        let message = world.until_stopped(plural, "HostnameTaken").await;
        assert!(
            message.contains(name) && !message.contains(&world.namespace),
            "{message}"
        );
        assert!(ingresses.get_opt(plural).await.unwrap().is_none());
    }
    // A wildcard holds one label of an Ingress only.
    world.change("oil", ingress("oil.a.wide.example")).await;
    world.until_reached_at("oil", "oil.a.wide.example:6443").await;
    for (kind, plural, _, name) in routes {
        api(kind, plural)
            .delete("shop", &DeleteParams::default())
            .await
            .unwrap();
        world.until_reached_at(plural, &format!("{name}:6443")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_ip_that_two_were_given_is_the_older_ones() {
    let world = World::new(&["192.0.2.0/24"]).await;
    let external = json!({"networkProfile": {"address": "192.0.2.7", "allowAddressAsExternalIP": true}});
    // There is no admission here, as when both are admitted at the same moment.
    world.create_control_plane("gas", external.clone()).await;
    world.until_reached_at("gas", "192.0.2.7:6443").await;
    world.create_control_plane("oil", external).await;
    let message = world.until_stopped("oil", "AddressTaken").await;
    assert!(message.contains("192.0.2.7") && !message.contains("gas"), "{message}");
    let services: Api<Service> = world.api();
    let addresses = async |name: &str| services.get(name).await.unwrap().spec.unwrap().external_ips;
    assert_eq!(addresses("oil").await, None);
    assert_eq!(addresses("gas").await, Some(vec!["192.0.2.7".to_owned()]));
    world
        .change(
            "gas",
            json!({"networkProfile": {"allowAddressAsExternalIP": false, "address": null}}),
        )
        .await;
    world.until_reached_at("oil", "192.0.2.7:6443").await;
    assert_eq!(addresses("oil").await, Some(vec!["192.0.2.7".to_owned()]));
}

fn gateway_of(mut object: Value) -> Value {
    object["apiVersion"] = json!("gateway.networking.k8s.io/v1");
    object["kind"] = json!("Gateway");
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_address_or_port_reaches_everything_and_external_ips_are_the_administrators_to_give() {
    let world = World::new(&["192.0.2.0/24"]).await;
    // A load balancer, which says its address late and then another one.
    let balanced = json!({"controlPlane": {"service": {"serviceType": "LoadBalancer"}}});
    world.create_control_plane("oil", balanced).await;
    world.until_stopped("oil", "AddressMissing").await;
    let services: Api<Service> = world.api();
    for address in ["198.51.100.3", "198.51.100.4"] {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        services
            .patch_status("oil", &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        world.until_reached_at("oil", &format!("{address}:6443")).await;
    }
    world.change("oil", json!({"networkProfile": {"port": 7443}})).await;
    world.until_reached_at("oil", "198.51.100.4:7443").await;
    let ports = |service: Service| {
        service
            .spec
            .unwrap()
            .ports
            .unwrap()
            .into_iter()
            .map(|port| port.port)
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(services.get("oil").await.unwrap()), [7443]);
    world
        .change("oil", json!({"networkProfile": {"address": "198.51.100.9"}}))
        .await;
    world.until_reached_at("oil", "198.51.100.9:7443").await;

    // External IPs.
    let external = |address: &str| json!({"networkProfile": {"address": address, "allowAddressAsExternalIP": true}});
    world.create_control_plane("gas", external("198.51.100.7")).await;
    let message = world.until_stopped("gas", "ReachesBeyond").await;
    assert!(
        message.contains("198.51.100.7") && message.contains("192.0.2.0/24"),
        "{message}"
    );
    assert!(services.get_opt("gas").await.unwrap().is_none());
    world.change("gas", external("192.0.2.7")).await;
    world.until_reached_at("gas", "192.0.2.7:6443").await;
    let spec = services.get("gas").await.unwrap().spec.unwrap();
    assert_eq!(spec.external_ips, Some(vec!["192.0.2.7".to_owned()]));
    world
        .change("gas", json!({"networkProfile": {"allowAddressAsExternalIP": false}}))
        .await;
    eventually("the external IP is given back", || async {
        let spec = services.get("gas").await.unwrap().spec.unwrap();
        when(spec.external_ips.is_none(), || format!("{spec:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_kept_apart_and_go_one_at_a_time_unless_their_author_says_otherwise() {
    let world = World::new(&[]).await;
    let replicas = |count: i32| json!({"controlPlane": {"deployment": {"replicas": count}}});
    world.create_control_plane("oil", replicas(3)).await;
    let budgets: Api<PodDisruptionBudget> = world.api();
    let made = eventually("there is a budget", || async {
        budgets.get_opt("oil").await.unwrap().ok_or_else(|| "none".to_owned())
    })
    .await;
    let spec = serde_json::to_value(made.spec).unwrap();
    assert_eq!(spec["maxUnavailable"], 1);
    assert_eq!(
        spec["selector"],
        json!({"matchLabels": {"kamaji.clastix.io/name": "oil"}})
    );
    let deployments: Api<Deployment> = world.api();
    let template = |deployment: &Deployment| deployment.spec.clone().unwrap().template;
    let three = deployments.get("oil").await.unwrap();
    let spread = serde_json::to_value(template(&three).spec.unwrap().topology_spread_constraints).unwrap();
    let domains: Vec<_> = spread
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["topologyKey"].clone())
        .collect();
    assert_eq!(domains, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]);

    // One replica needs no budget, and scaling replaces no pod.
    world.change("oil", replicas(1)).await;
    world.until_gone::<PodDisruptionBudget>("oil").await;
    world.until_carried_out("oil").await;
    assert_eq!(template(&deployments.get("oil").await.unwrap()), template(&three));
    world.change("oil", replicas(2)).await;
    eventually("the budget is back", || async {
        budgets.get_opt("oil").await.unwrap().ok_or_else(|| "none".to_owned())
    })
    .await;

    // The author's own budget stands alone: of a pod with two nothing could be evicted.
    let authors = json!({"metadata": {"name": "authors"}, "spec": {"minAvailable": 2,
        "selector": {"matchLabels": {"kamaji.clastix.io/name": "oil"}}}});
    create::<PodDisruptionBudget>(&budgets, authors).await;
    world.until_gone::<PodDisruptionBudget>("oil").await;
    budgets.delete("authors", &DeleteParams::default()).await.unwrap();
    eventually("ours is back", || async {
        budgets.get_opt("oil").await.unwrap().ok_or_else(|| "none".to_owned())
    })
    .await;
    let owner = world.control_plane("oil").await.uid().unwrap();
    assert_eq!(budgets.get("oil").await.unwrap().owner_references()[0].uid, owner);
}
