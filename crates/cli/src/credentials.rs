//! Kubeconfigs for tenants: by the CSR API for users of the admin cluster, from the Secret for hosted control planes.

use std::time::Duration;

use anyhow::{Context, bail};
use api::kamaji::v1alpha1::TenantControlPlane;
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{
            CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
            CertificateSigningRequestStatus,
        },
        core::v1::Secret,
    },
};
use kube::{
    Client, ResourceExt,
    api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const PATIENCE: Duration = Duration::from_secs(20);

/// A kubeconfig with a client certificate that the admin cluster signed for `user` in `groups`; where it points is
/// taken from the administrator's own.
pub(crate) async fn sign_user(
    client: &Client,
    admin: &pki::Kubeconfig,
    user: &str,
    groups: &[String],
) -> anyhow::Result<String> {
    let request = pki::signing_request(user, groups).context("failed to make a certificate request")?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let created = requests
        .create(
            &PostParams::default(),
            &CertificateSigningRequest {
                metadata: ObjectMeta {
                    generate_name: Some(format!("cotenant-{user}-")),
                    ..Default::default()
                },
                spec: CertificateSigningRequestSpec {
                    request: ByteString(request.csr_pem.clone().into_bytes()),
                    signer_name: SIGNER.to_owned(),
                    usages: Some(vec!["client auth".to_owned()]),
                    ..Default::default()
                },
                status: None,
            },
        )
        .await
        .context("failed to file the certificate request")?;
    let name = created.name_any();
    let certificate = approve_and_wait(&requests, created).await;
    // A request is of no use once it is answered, and of none when it failed.
    if let Err(error) = requests.delete(&name, &DeleteParams::default()).await {
        tracing::warn!(%error, %name, "left a certificate request behind");
    }
    Ok(pki::Kubeconfig {
        cluster: admin.cluster.clone(),
        server: admin.server.clone(),
        ca_pem: admin.ca_pem.clone(),
        user: user.to_owned(),
        client: pki::KeyPair {
            cert_pem: certificate?,
            key_pem: request.key_pem,
        },
        namespace: None,
        tls_server_name: None,
    }
    .to_yaml())
}

async fn approve_and_wait(
    requests: &Api<CertificateSigningRequest>,
    mut request: CertificateSigningRequest,
) -> anyhow::Result<String> {
    let name = request.name_any();
    request
        .status
        .get_or_insert_with(CertificateSigningRequestStatus::default)
        .conditions = Some(vec![CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("CotenantUp".to_owned()),
        message: Some("requested by an administrator with cotenant".to_owned()),
        ..Default::default()
    }]);
    requests
        .patch_approval(&name, &PatchParams::default(), &Patch::Merge(&request))
        .await
        .context("failed to approve the certificate request")?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = requests
            .get(&name)
            .await
            .context("failed to read the certificate request")?
            .status;
        if let Some(certificate) = status.as_ref().and_then(|status| status.certificate.as_ref()) {
            return String::from_utf8(certificate.0.clone()).context("the signed certificate is not PEM");
        }
        if tokio::time::Instant::now() > deadline {
            bail!("the cluster did not sign the request {name} within {PATIENCE:?}; does kube-controller-manager run?");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The administrator's kubeconfig of a hosted control plane, from its `<name>-admin-kubeconfig` Secret. Others may write
/// that, so only what we know of a kubeconfig is taken: no program to run, no file to read.
pub(crate) async fn of_control_plane(client: &Client, plane: &TenantControlPlane) -> anyhow::Result<String> {
    let namespace = plane.namespace().context("a TenantControlPlane lies in a namespace")?;
    let name = format!("{}-admin-kubeconfig", plane.name_any());
    let secret = Api::<Secret>::namespaced(client.clone(), &namespace)
        .get(&name)
        .await
        .with_context(|| format!("failed to read the Secret {namespace}/{name}"))?;
    let data = secret.data.unwrap_or_default();
    let kubeconfig = data
        .get("admin.conf")
        .with_context(|| format!("the Secret {namespace}/{name} has no admin.conf"))?;
    known(&kubeconfig.0).with_context(|| format!("admin.conf of the Secret {namespace}/{name} does not serve"))
}

fn known(kubeconfig: &[u8]) -> anyhow::Result<String> {
    let text = std::str::from_utf8(kubeconfig).context("it is not text")?;
    Ok(pki::Kubeconfig::parse(text)?.to_yaml())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_no_programs_and_no_files() {
        let wanted = pki::Kubeconfig {
            cluster: "c".to_owned(),
            server: "https://one:6443".to_owned(),
            ca_pem: "CA".to_owned(),
            user: "u".to_owned(),
            client: pki::KeyPair {
                cert_pem: "CERT".to_owned(),
                key_pem: "KEY".to_owned(),
            },
            namespace: None,
            tls_server_name: None,
        }
        .to_yaml();
        let extended = wanted
            .replace(
                "  user:\n    client-",
                "  user:\n    exec: {command: canary}\n    tokenFile: /canary\n    client-",
            )
            .replace("    server:", "    proxy-url: http://canary\n    server:");
        assert_eq!(extended.matches("canary").count(), 3);
        assert_eq!(known(extended.as_bytes()).unwrap(), wanted);
        assert!(known(b"users: [{name: u, user: {exec: {command: canary}}}]").is_err());
        assert!(known(&[0xff]).is_err());
    }
}
