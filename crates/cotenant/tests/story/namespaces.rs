//! alice and quinn, who own namespace tenants.

use crate::cluster::{Cluster, PATIENCE};

pub(crate) fn alice_works_within_her_limits(cluster: &Cluster) {
    she_creates_a_namespace_and_runs_a_pod(cluster);
    quinn_owns_through_a_group(cluster);
    the_eleventh_namespace_is_refused_until_the_quota_is_raised(cluster);
    a_new_owner_works_at_once(cluster);
}

pub(crate) fn she_stays_within_them(cluster: &Cluster) {
    a_foreign_storage_class_is_refused(cluster);
    what_belongs_to_others_is_refused(cluster);
    her_own_namespaces_stay_hers(cluster);
    a_namespace_made_while_the_operator_is_killed_becomes_hers(cluster);
}

fn she_creates_a_namespace_and_runs_a_pod(cluster: &Cluster) {
    let alice = &cluster.alice;
    alice.ok("create namespace dev-team-web");
    // She becomes admin there as soon as the controller has seen it.
    alice.eventually(PATIENCE, "auth can-i create pods -n dev-team-web", |text| {
        text.trim() == "yes"
    });
    alice.eventually(PATIENCE, "-n dev-team-web get serviceaccount default", |_| true);
    // Nothing is admitted under a quota that was never counted.
    alice.eventually(
        PATIENCE,
        "-n dev-team-web get resourcequota capsule-dev-team-0 -o jsonpath={.status.hard.pods}",
        |text| !text.is_empty(),
    );
    alice.ok("-n dev-team-web run web --image=docker.io/library/busybox:1.36 --labels=app=web -- httpd -f -p 8080");
    alice.ok("-n dev-team-web expose pod web --port=80 --target-port=8080");
    alice.ok("-n dev-team-web wait --for=condition=Ready pod/web --timeout=60s");
    let quota = alice.ok("-n dev-team-web get resourcequota capsule-dev-team-0 -o jsonpath={.spec.hard.pods}");
    assert!(
        quota.parse::<u32>().is_ok_and(|pods| pods <= 20),
        "pods in the namespace's quota: {quota:?}"
    );
}

fn quinn_owns_through_a_group(cluster: &Cluster) {
    cluster.quinn.ok("create namespace qa-team-one");
    cluster
        .quinn
        .eventually(PATIENCE, "auth can-i create pods -n qa-team-one", |text| {
            text.trim() == "yes"
        });
}

fn the_eleventh_namespace_is_refused_until_the_quota_is_raised(cluster: &Cluster) {
    let alice = &cluster.alice;
    for number in 2..=10 {
        alice.ok(&format!("create namespace dev-team-{number}"));
    }
    let refusal = alice.refused("create namespace dev-team-11");
    assert!(refusal.contains("Cannot exceed Namespace quota"), "{refusal}");
    let refusal = alice.refused("create namespace web");
    assert!(
        refusal.contains("dev-team-"),
        "the refusal names the prefix that would be right: {refusal}"
    );
    cluster
        .admin
        .ok(r#"patch tenant dev-team --type=merge -p '{"spec":{"namespaceOptions":{"quota":11}}}'"#);
    alice.eventually(PATIENCE, "create namespace dev-team-11", |_| true);
    for number in 2..=11 {
        alice.eventually(
            PATIENCE,
            &format!("delete namespace dev-team-{number} --wait=false"),
            |_| true,
        );
    }
}

fn a_foreign_storage_class_is_refused(cluster: &Cluster) {
    let claim = |name: &str, class: &str| {
        format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}, namespace: dev-team-web}}, \
             spec: {{storageClassName: {class}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}}}"
        )
    };
    cluster.alice.apply(&claim("lawful", "standard"));
    let refusal = cluster.alice.apply_refused(&claim("foreign", "premium"));
    assert!(
        refusal.contains("premium") && refusal.contains("standard"),
        "it names what would be right: {refusal}"
    );
    let ingress = |name: &str, class: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: {name}, namespace: dev-team-web}}, spec: {{ingressClassName: {class}, \
             rules: [{{host: web.example.test, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}}}"
        )
    };
    cluster.alice.apply(&ingress("lawful", "nginx"));
    let refusal = cluster.alice.apply_refused(&ingress("foreign", "internal"));
    assert!(refusal.contains("internal") && refusal.contains("nginx"), "{refusal}");
}

fn what_belongs_to_others_is_refused(cluster: &Cluster) {
    let alice = &cluster.alice;
    for line in [
        "get pods -n qa-team-one",
        "delete namespace qa-team-one",
        "label namespace qa-team-one stolen=yes",
        "annotate namespace kube-system stolen=yes",
        "label namespace kube-system capsule.clastix.io/tenant=dev-team",
        "-n kube-system get secrets",
        "get nodes",
        "get tenants",
    ] {
        alice.refused(line);
    }
    let labels = cluster
        .admin
        .ok("get namespace qa-team-one kube-system -o jsonpath={.items[*].metadata.labels}");
    assert!(!labels.contains("stolen") && !labels.contains("dev-team"), "{labels}");
}

fn her_own_namespaces_stay_hers(cluster: &Cluster) {
    let (alice, admin) = (&cluster.alice, &cluster.admin);
    let link = "get namespace dev-team-web -o jsonpath={.metadata.labels.capsule\\.clastix\\.io/tenant}/{.metadata.ownerReferences[*].name}/{.metadata.ownerReferences[*].uid}";
    let before = admin.ok(link);
    assert!(before.starts_with("dev-team/dev-team/"), "{before}");
    for (kind, patch) in [
        (
            "merge",
            r#"{"metadata":{"labels":{"capsule.clastix.io/tenant":null},"ownerReferences":null}}"#,
        ),
        (
            "merge",
            r#"{"metadata":{"labels":{"capsule.clastix.io/tenant":"qa-team"},"ownerReferences":null}}"#,
        ),
        (
            "json",
            r#"[{"op":"remove","path":"/metadata/ownerReferences"},{"op":"remove","path":"/metadata/labels/capsule.clastix.io~1tenant"}]"#,
        ),
    ] {
        alice.refused(&format!("patch namespace dev-team-web --type={kind} -p '{patch}'"));
    }
    // One half alone is refused or restored; either way the link holds.
    for line in [
        "label namespace dev-team-web capsule.clastix.io/tenant-",
        "label namespace dev-team-web capsule.clastix.io/tenant=qa-team --overwrite",
    ] {
        alice.attempt(line);
    }
    for subresource in ["status", "finalize"] {
        alice.attempt(&format!(
            r#"patch namespace dev-team-web --subresource={subresource} --type=merge -p '{{"metadata":{{"labels":{{"capsule.clastix.io/tenant":"qa-team"}}}}}}'"#
        ));
    }
    assert_eq!(admin.ok(link), before);
    // The lawful twin: a label of her own.
    alice.ok("label namespace dev-team-web purpose=shop");
}

fn a_new_owner_works_at_once(cluster: &Cluster) {
    let (admin, alice) = (&cluster.admin, &cluster.alice);
    admin.ok(r#"patch tenant dev-team --type=json -p '[{"op":"add","path":"/spec/owners/-","value":{"kind":"User","name":"bob"}}]'"#);
    admin.eventually(PATIENCE, "auth can-i create pods -n dev-team-web --as=bob", |text| {
        text.trim() == "yes"
    });
    admin.ok(r#"patch tenant dev-team --type=json -p '[{"op":"remove","path":"/spec/owners/1"}]'"#);
    admin.eventually(
        PATIENCE,
        "get rolebindings -n dev-team-web -o jsonpath={.items[*].subjects[*].name}",
        |text| !text.contains("bob"),
    );
    alice.ok("-n dev-team-web get pods");
}

fn a_namespace_made_while_the_operator_is_killed_becomes_hers(cluster: &Cluster) {
    for number in 20..25 {
        // Those of before count until they are really gone.
        cluster
            .alice
            .eventually(PATIENCE, &format!("create namespace dev-team-{number}"), |_| true);
    }
    for number in 20..25 {
        let line = format!("auth can-i create pods -n dev-team-{number}");
        cluster.alice.eventually(PATIENCE, &line, |text| text.trim() == "yes");
        cluster.alice.eventually(
            PATIENCE,
            &format!("delete namespace dev-team-{number} --wait=false"),
            |_| true,
        );
    }
}
