//! What one tenant tries against the others and against the admin cluster.

use std::{fs, path::PathBuf, time::Duration};

use crate::{cluster::Cluster, kubectl::Kubectl};

pub(crate) fn credentials_open_only_their_own_door(cluster: &Cluster) {
    let admin_endpoint = endpoint(&cluster.admin);
    let prod_endpoint = endpoint(&cluster.prod);
    for (person, server) in [
        (&cluster.prod, &admin_endpoint),
        (&cluster.alice, &prod_endpoint),
        (&cluster.admin, &prod_endpoint),
    ] {
        // With verification off, so that it is the server that refuses.
        let (allowed, said) = person.attempt(&format!("--server {server} --insecure-skip-tls-verify get namespaces"));
        assert!(!allowed, "{server} accepted foreign credentials: {said}");
        assert!(
            said.contains("Unauthorized")
                || said.contains("must be logged in")
                || said.contains("certificate authority"),
            "{said}"
        );
    }
    // prod-team's service account tokens are no better than its certificates.
    let token = cluster.prod.ok("-n kube-system create token default");
    let (allowed, said) = cluster.prod.attempt(&format!(
        "--server {admin_endpoint} --insecure-skip-tls-verify --token {} get namespaces",
        token.trim()
    ));
    assert!(!allowed, "{said}");
}

fn endpoint(person: &Kubectl) -> String {
    person.ok("config view -o jsonpath={.clusters[0].cluster.server}")
}

/// prod-team owns its API server's objects, and through them asks it to call addresses of the admin network.
pub(crate) fn a_hosted_api_server_is_no_way_into_the_admin_network(cluster: &Cluster) {
    let node = cluster
        .admin
        .ok("get nodes -o jsonpath={.items[0].status.addresses[0].address}");
    let pod = cluster
        .admin
        .ok("-n cotenant-system get pods -l app.kubernetes.io/component=operator -o jsonpath={.items[0].status.podIP}");
    let prod = &cluster.prod;

    // The lawful twin, over the same path: the API server does reach its own worker.
    prod.ok("exec client -- true");

    for (number, target) in [&node, &pod].into_iter().enumerate() {
        let forged = format!("forged-{number}");
        prod.apply(&format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {forged}}}, spec: {{unschedulable: true}}}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: {forged}, namespace: default}}, spec: {{nodeName: {forged}, tolerations: [{{operator: Exists}}], \
             containers: [{{name: c, image: busybox}}]}}}}"
        ));
        let port = if number == 0 { 10250 } else { 8080 };
        prod.ok(&format!(
            "patch node {forged} --subresource=status --type=merge -p \
             '{{\"status\":{{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"{target}\"}}],\"daemonEndpoints\":{{\"kubeletEndpoint\":{{\"Port\":{port}}}}}}}}}'"
        ));
        unreachable(&prod.attempt(&format!("logs {forged} --request-timeout=8s")), target);
        unreachable(
            &prod.attempt(&format!(
                "get --raw /api/v1/nodes/{forged}:{port}/proxy/metrics --request-timeout=8s"
            )),
            target,
        );
        prod.ok(&format!("delete pod {forged} --force --grace-period=0"));
        prod.ok(&format!("delete node {forged}"));
    }

    prod.apply(&format!(
        "{{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {{name: forged}}, webhooks: [{{name: forged.example.test, \
         clientConfig: {{url: 'https://{node}:6443/'}}, sideEffects: None, admissionReviewVersions: [v1], timeoutSeconds: 3, failurePolicy: Fail, \
         rules: [{{apiGroups: [''], apiVersions: [v1], resources: [configmaps], operations: [CREATE], scope: '*'}}]}}]}}"
    ));
    let mut said = (true, String::new());
    for attempt in 0..20 {
        said = prod.attempt(&format!("create configmap probe-{attempt}"));
        if !said.0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    unreachable(&said, &node);
    prod.ok("delete validatingwebhookconfiguration forged");

    prod.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: forged, namespace: default}}, spec: {{ports: [{{port: 443, targetPort: 6443}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: forged, namespace: default, labels: {{kubernetes.io/service-name: forged}}}}, \
         addressType: IPv4, ports: [{{name: '', port: 6443, protocol: TCP}}], endpoints: [{{addresses: ['{node}']}}]}}\n---\n\
         {{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {{name: v1.forged.example.test}}, spec: {{group: forged.example.test, version: v1, \
         groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true, service: {{name: forged, namespace: default}}}}}}"
    ));
    let condition = "get apiservice v1.forged.example.test -o jsonpath={.status.conditions[?(@.type==\"Available\")]}";
    prod.eventually(Duration::from_secs(60), condition, |text| {
        text.contains("\"False\"") && !text.contains("MissingEndpoints")
    });
    unreachable(&(false, prod.ok(condition)), &node);
    prod.ok("delete apiservice v1.forged.example.test");
    prod.ok("delete service forged");
}

/// The network refused, not the program at the other end: nothing of an answer is in what was said.
fn unreachable((succeeded, said): &(bool, String), target: &str) {
    assert!(!succeeded, "the hosted API server reached {target}: {said}");
    let said = said.to_lowercase();
    let network = [
        "timeout",
        "timed out",
        "deadline exceeded",
        "no route to host",
        "connection refused",
        "unreachable",
    ];
    let answered = [
        "x509",
        "unauthorized",
        "forbidden",
        "not found",
        "http response to https",
        "tls:",
    ];
    assert!(network.iter().any(|sign| said.contains(sign)), "{target}: {said}");
    assert!(
        !answered.iter().any(|sign| said.contains(sign)),
        "something at {target} answered: {said}"
    );
}

pub(crate) fn nobody_takes_prod_teams_place_in_the_store(cluster: &Cluster) {
    let admin = &cluster.admin;
    let uid = admin.ok("-n prod-team get tenantcontrolplane prod-team -o jsonpath={.metadata.uid}");
    let plane = |name: &str, extra: &str| {
        format!(
            "{{apiVersion: kamaji.clastix.io/v1alpha1, kind: TenantControlPlane, metadata: {{name: {name}, namespace: default}}, spec: {{{extra}\
             controlPlane: {{deployment: {{replicas: 0}}, service: {{serviceType: ClusterIP}}}}, kubernetes: {{version: v1.36.3}}, \
             addons: {{coreDNS: {{}}, kubeProxy: {{}}}}, networkProfile: {{}}}}}}"
        )
    };
    for (field, value) in [
        ("dataStoreSchema", uid.clone()),
        ("dataStoreSchema", format!("{uid}/registry")),
        ("dataStoreUsername", "root".to_owned()),
        ("dataStoreUsername", uid.clone()),
    ] {
        let refusal = admin.apply_refused(&plane("thief", &format!("{field}: '{value}', ")));
        assert!(refusal.contains(field), "the refusal names the field: {refusal}");
    }
    // The lawful twin, in the shape that manifests have had for years.
    admin.apply(&plane("neighbour", ""));
}

/// A file of this test's own.
pub(crate) fn scratch(cluster: &Cluster, name: &str, content: &str) -> PathBuf {
    let path = cluster.state.join(name);
    fs::write(&path, content).expect("the state folder can be written");
    path
}
