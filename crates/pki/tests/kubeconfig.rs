//! The shape of kubeconfigs, beside what kubeadm writes.
#![allow(clippy::unwrap_used)]

use pki::{KeyPair, Kubeconfig, kubeconfig};

fn admin() -> Kubeconfig {
    Kubeconfig {
        cluster: "demo".into(),
        server: "https://10.99.0.1:31077".into(),
        ca_pem: "CA\n".into(),
        user: "kubernetes-admin".into(),
        client: KeyPair {
            cert_pem: "CERT\n".into(),
            key_pem: "KEY\n".into(),
        },
        namespace: None,
        tls_server_name: None,
    }
}

#[test]
fn kubeadms_shape() {
    let expected = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0EK
    server: https://10.99.0.1:31077
  name: demo
contexts:
- context:
    cluster: demo
    user: kubernetes-admin
  name: kubernetes-admin@demo
current-context: kubernetes-admin@demo
kind: Config
users:
- name: kubernetes-admin
  user:
    client-certificate-data: Q0VSVAo=
    client-key-data: S0VZCg==
";
    assert_eq!(admin().to_yaml(), expected);
}

#[test]
fn what_is_written_is_read() {
    let mut config = admin();
    assert_eq!(Kubeconfig::parse(&config.to_yaml()).unwrap(), config);
    config.namespace = Some("dev-team-web".into());
    config.tls_server_name = Some("demo.default.svc".into());
    assert_eq!(Kubeconfig::parse(&config.to_yaml()).unwrap(), config);
}

#[test]
fn the_current_context_decides_among_several() {
    let yaml = "
apiVersion: v1
kind: Config
preferences: {}
current-context: b
clusters:
- {name: one, cluster: {server: 'https://one', certificate-authority-data: Q0EK}}
- {name: two, cluster: {server: 'https://two', certificate-authority-data: Q0EK}}
contexts:
- {name: a, context: {cluster: one, user: u1}}
- {name: b, context: {cluster: two, user: u2}}
users:
- {name: u1, user: {token: x}}
- {name: u2, user: {client-certificate-data: Q0VSVAo=, client-key-data: S0VZCg==}}
";
    let read = Kubeconfig::parse(yaml).unwrap();
    assert_eq!((read.server.as_str(), read.user.as_str()), ("https://two", "u2"));
    let error = Kubeconfig::parse(&yaml.replace("context: b", "context: a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read the kubeconfig: it has no client-certificate-data"
    );
}

#[test]
fn discovery_has_one_nameless_cluster_and_nothing_else() {
    let expected = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0EK
    server: https://10.99.0.1:31077
  name: \"\"
contexts: null
current-context: \"\"
kind: Config
users: null
";
    assert_eq!(kubeconfig::discovery("https://10.99.0.1:31077", "CA\n"), expected);
}
