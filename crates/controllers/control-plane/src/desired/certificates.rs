//! The certificates and keys of a control plane, as recipes.

use api::kamaji::names::LIFECYCLE_X509;
use pki::San;

use super::kine::Tls;
use super::secrets::{Recipe, SecretRecipe, Signer};

/// Authorities, service account keys and leaves, in the order in which they are made.
pub fn recipes(tcp_name: &str, server_names: Vec<San>) -> Vec<SecretRecipe> {
    let secret = |component: &'static str, lifecycle, recipe| SecretRecipe {
        name: format!("{tcp_name}-{component}"),
        component,
        lifecycle,
        finalizer: None,
        recipe,
    };
    let leaf = |signer, keys, common_name: &str, server, sans| Recipe::Leaf {
        signer,
        keys,
        authority_key: None,
        common_name: common_name.to_owned(),
        server,
        sans,
    };
    vec![
        secret(
            "ca",
            None,
            Recipe::Authority {
                signer: Signer::ControlPlane,
                common_name: "kubernetes",
                keys: ("ca.crt", "ca.key"),
                copies: Some(("tls.crt", "tls.key")),
            },
        ),
        secret(
            "front-proxy-ca-certificate",
            None,
            Recipe::Authority {
                signer: Signer::FrontProxy,
                common_name: "front-proxy-ca",
                keys: ("front-proxy-ca.crt", "front-proxy-ca.key"),
                copies: None,
            },
        ),
        secret("sa-certificate", None, Recipe::ServiceAccountKeys),
        secret(
            "api-server-certificate",
            Some(LIFECYCLE_X509),
            leaf(
                Signer::ControlPlane,
                ("apiserver.crt", "apiserver.key"),
                "kube-apiserver",
                true,
                server_names,
            ),
        ),
        secret(
            "api-server-kubelet-client-certificate",
            Some(LIFECYCLE_X509),
            leaf(
                Signer::ControlPlane,
                ("apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"),
                "kube-apiserver-kubelet-client",
                false,
                Vec::new(),
            ),
        ),
        secret(
            "front-proxy-client-certificate",
            Some(LIFECYCLE_X509),
            leaf(
                Signer::FrontProxy,
                ("front-proxy-client.crt", "front-proxy-client.key"),
                "front-proxy-client",
                false,
                Vec::new(),
            ),
        ),
    ]
}

/// The certificates that kine reaches its store with, the same for all of the store's control planes.
pub fn shared_datastore_recipe(tcp_name: &str, tls: Tls) -> SecretRecipe {
    SecretRecipe {
        lifecycle: (tls != Tls::Off).then_some(LIFECYCLE_X509),
        recipe: Recipe::SharedCertificates,
        ..datastore_recipe(tcp_name, "")
    }
}

/// The client certificate of the control plane in an etcd datastore. The store knows the user by the common name;
/// Kamaji adds an organisation that grants nothing there and everything elsewhere, which is left out.
pub fn datastore_recipe(tcp_name: &str, user: &str) -> SecretRecipe {
    SecretRecipe {
        name: format!("{tcp_name}-datastore-certificate"),
        component: "datastore-certificate",
        lifecycle: Some(LIFECYCLE_X509),
        finalizer: None,
        recipe: Recipe::Leaf {
            signer: Signer::Datastore,
            keys: ("server.crt", "server.key"),
            authority_key: Some("ca.crt"),
            common_name: user.to_owned(),
            server: false,
            sans: Vec::new(),
        },
    }
}
