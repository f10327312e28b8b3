//! Everything that one hosted control plane needs: 2 authorities, the service account keys, 5 leaves and 6 client
//! certificates for kubeconfigs. The goal is 10 ms.

use jiff::Timestamp;
use pki::{AUTHORITY_VALIDITY, Authority, LeafRequest, San, service_account_key_pair};

fn main() {
    divan::main();
}

#[divan::bench]
fn control_plane() -> Vec<pki::KeyPair> {
    let now: Timestamp = "2026-11-01T00:00:00Z".parse().expect("a time");
    let ca =
        Authority::new("kubernetes", &[San::Dns("kubernetes".into())], AUTHORITY_VALIDITY, now).expect("an authority");
    let proxy = Authority::new("front-proxy-ca", &[], AUTHORITY_VALIDITY, now).expect("an authority");
    divan::black_box(service_account_key_pair().expect("a key"));
    let sans = ["kubernetes", "kubernetes.default", "10.96.0.1", "127.0.0.1"];
    let sans = sans.iter().map(|san| San::parse(san).expect("a name")).collect();
    let mut issued = vec![
        ca.issue(&LeafRequest::server("kube-apiserver", sans, now))
            .expect("a leaf"),
        proxy
            .issue(&LeafRequest::client("front-proxy-client", &[], now))
            .expect("a leaf"),
    ];
    for user in [
        "kube-apiserver-kubelet-client",
        "datastore-user",
        "kubernetes-admin",
        "kubernetes-admin",
        "kubernetes-super-admin",
        "kubernetes-super-admin",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:konnectivity-server",
    ] {
        issued.push(
            ca.issue(&LeafRequest::client(user, &["system:masters"], now))
                .expect("a leaf"),
        );
    }
    issued
}
