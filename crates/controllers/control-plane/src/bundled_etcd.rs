//! The one-member etcd that the chart brings for trying things out: its certificates, and authentication switched on.
//!
//! The chart's pod mounts the Secret `<name>-certs` and starts as soon as it is there, so no hook and no second program
//! is needed. The same Secret is what the DataStore object refers to. Leaves are reissued a month before they end; etcd
//! reads its files at each handshake, so nothing restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Certificate, Client as EtcdClient, ConnectOptions, Identity, TlsOptions, UserAddOptions};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use pki::{Authority, LeafRequest, San, Usage};

use crate::datastore::error::EtcdFailure;

const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24 * 30);
const LOOK_AGAIN: Duration = Duration::from_secs(12 * 3600);
const RETRY: Duration = Duration::from_secs(2);
const FIELD_MANAGER: &str = "cotenant-etcd";

/// Which etcd: the name of its StatefulSet and Service, and their namespace.
#[derive(Clone, Debug)]
pub struct BundledEtcd {
    pub name: String,
    pub namespace: String,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to keep the Secret {name}")]
    Secret {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to issue its certificates")]
    Issue(#[source] pki::Error),
    #[error("failed to switch authentication on")]
    Authentication(#[source] Box<EtcdFailure>),
}

/// Keeps the certificates and the root user, until the process ends.
pub async fn keep(client: Client, etcd: BundledEtcd, shutdown: runtime::Shutdown) {
    let mut protected = false;
    loop {
        let wait = match pass(&client, &etcd, &mut protected).await {
            Ok(()) => LOOK_AGAIN,
            Err(error) => {
                // Ordinary while its pod starts: it needs the Secret first.
                tracing::info!(
                    etcd = etcd.name,
                    error = runtime::report::chain(&error),
                    "bundled etcd is not set up yet"
                );
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn pass(client: &Client, etcd: &BundledEtcd, protected: &mut bool) -> Result<(), Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &etcd.namespace);
    let material = certificates(&secrets, etcd, Timestamp::now()).await?;
    if !*protected {
        let protect = protect(etcd, &material).await;
        protect.map_err(|error| Error::Authentication(Box::new(error.into())))?;
        *protected = true;
        tracing::info!(etcd = etcd.name, "bundled etcd serves with authentication on");
    }
    Ok(())
}

/// Content of the Secret.
type Data = BTreeMap<String, ByteString>;

/// What is in the Secret: read, made when it is missing, leaves reissued when they end soon.
///
/// May be called by several at once, and by one for which the time is another: all of them end with one authority.
async fn certificates(secrets: &Api<Secret>, etcd: &BundledEtcd, now: Timestamp) -> Result<Data, Error> {
    let name = format!("{}-certs", etcd.name);
    let failed = |source| Error::Secret {
        name: name.clone(),
        source: Box::new(source),
    };
    let present = match secrets.get_opt(&name).await.map_err(failed)? {
        Some(present) => present,
        None => make(secrets, &name, etcd, now).await?,
    };
    let version = present.resource_version();
    let data = present.data.unwrap_or_default();
    if !due(&data, now) {
        return Ok(data);
    }
    let authority = Authority::from_pem(&text(&data, "ca.crt"), &text(&data, "ca.key")).map_err(Error::Issue)?;
    let renewed = issue(&authority, etcd, now)?;
    // With the version that was read: half of one's leaves and half of another's would fit no key.
    let patch = serde_json::json!({"metadata": {"resourceVersion": version}, "data": renewed});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = secrets.patch(&name, &parameters, &Patch::Merge(patch)).await;
    Ok(written.map_err(failed)?.data.unwrap_or_default())
}

/// Makes the Secret with a new authority, unless another replica is first: its authority is the one that counts.
async fn make(secrets: &Api<Secret>, name: &str, etcd: &BundledEtcd, now: Timestamp) -> Result<Secret, Error> {
    let failed = |source| Error::Secret {
        name: name.to_owned(),
        source: Box::new(source),
    };
    let authority = Authority::new("etcd-ca", &[], pki::AUTHORITY_VALIDITY, now).map_err(Error::Issue)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(issue(&authority, etcd, now)?),
        ..Secret::default()
    };
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match secrets.create(&parameters, &secret).await {
        Err(kube::Error::Api(status)) if status.code == 409 => secrets.get(name).await.map_err(failed),
        created => created.map_err(failed),
    }
}

/// Whether a leaf is missing, unreadable or near its end.
fn due(data: &Data, now: Timestamp) -> bool {
    ["server.crt", "root.crt"]
        .iter()
        .any(|key| pki::inspect(&text(data, key)).map_or(true, |leaf| leaf.needs_renewal(now, RENEW_BEFORE)))
}

fn text(data: &Data, key: &str) -> String {
    let value = data
        .get(key)
        .map(|value| String::from_utf8_lossy(&value.0).into_owned());
    value.unwrap_or_default()
}

/// The authority as it is, with new leaves.
fn issue(authority: &Authority, etcd: &BundledEtcd, now: Timestamp) -> Result<Data, Error> {
    let service = format!("{}.{}.svc", etcd.name, etcd.namespace);
    let sans = vec![
        San::Dns(etcd.name.clone()),
        San::Dns(service.clone()),
        San::Dns(format!("{service}.cluster.local")),
        San::Dns("localhost".to_owned()),
        San::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
    ];
    // The server is also a client, of itself, through its gRPC gateway.
    let server = LeafRequest {
        usages: vec![Usage::Server, Usage::Client],
        ..LeafRequest::server("etcd", sans, now)
    };
    let server = authority.issue(&server).map_err(Error::Issue)?;
    let root = authority
        .issue(&LeafRequest::client("root", &[], now))
        .map_err(Error::Issue)?;
    let entry = |key: &str, value: &str| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
    Ok(BTreeMap::from([
        entry("ca.crt", authority.cert_pem()),
        entry("ca.key", authority.key_pem()),
        entry("server.crt", &server.cert_pem),
        entry("server.key", &server.key_pem),
        entry("root.crt", &root.cert_pem),
        entry("root.key", &root.key_pem),
    ]))
}

/// A root user who authenticates by certificate, and authentication on. Each step may have been done before.
async fn protect(etcd: &BundledEtcd, material: &Data) -> Result<(), etcd_client::Error> {
    let host = format!("{}.{}.svc", etcd.name, etcd.namespace);
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(text(material, "ca.crt")))
        .identity(Identity::from_pem(
            text(material, "root.crt"),
            text(material, "root.key"),
        ))
        .domain_name(&host);
    let options = ConnectOptions::new()
        .with_tls(tls)
        .with_connect_timeout(Duration::from_secs(3))
        .with_timeout(Duration::from_secs(5));
    let mut client = EtcdClient::connect([format!("https://{host}:2379")], Some(options)).await?;
    let root = client.user_list().await?.users().iter().any(|user| user == "root");
    if !root {
        client
            .user_add("root", "", Some(UserAddOptions::new().with_no_pwd()))
            .await?;
    }
    if !client.role_list().await?.roles().iter().any(|role| role == "root") {
        client.role_add("root").await?;
    }
    if !client.user_get("root").await?.roles().iter().any(|role| role == "root") {
        client.user_grant_role("root", "root").await?;
    }
    client.auth_enable().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd() -> BundledEtcd {
        BundledEtcd {
            name: "cotenant-etcd".to_owned(),
            namespace: "cotenant-system".to_owned(),
        }
    }

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_leaves_are_the_authoritys_and_serve_for_what_they_are_named() {
        let authority = Authority::new("etcd-ca", &[], pki::AUTHORITY_VALIDITY, now()).unwrap();
        let data = issue(&authority, &etcd(), now()).unwrap();
        let keys: Vec<_> = data.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["ca.crt", "ca.key", "root.crt", "root.key", "server.crt", "server.key"]
        );
        for leaf in ["server", "root"] {
            let (cert, key) = (text(&data, &format!("{leaf}.crt")), text(&data, &format!("{leaf}.key")));
            assert!(pki::is_signed_by(&cert, authority.cert_pem()).unwrap());
            assert!(pki::matches_key(&cert, &key).unwrap());
        }
        assert_eq!(text(&data, "ca.crt"), authority.cert_pem());
        assert!(pki::matches_key(&text(&data, "ca.crt"), &text(&data, "ca.key")).unwrap());

        let server = pki::inspect(&text(&data, "server.crt")).unwrap();
        assert_eq!(server.usages, [Usage::Client, Usage::Server]);
        let names: Vec<_> = server.sans.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "cotenant-etcd",
                "cotenant-etcd.cotenant-system.svc",
                "cotenant-etcd.cotenant-system.svc.cluster.local",
                "localhost",
                "127.0.0.1"
            ]
        );
        let root = pki::inspect(&text(&data, "root.crt")).unwrap();
        assert_eq!(root.usages, [Usage::Client]);
        assert_eq!(
            root.common_name.as_deref(),
            Some("root"),
            "etcd knows its user by this name"
        );
        assert!(!root.is_authority && !server.is_authority);
    }

    #[test]
    fn leaves_are_due_a_month_before_their_end_or_when_they_cannot_be_read() {
        let authority = Authority::new("etcd-ca", &[], pki::AUTHORITY_VALIDITY, now()).unwrap();
        let mut data = issue(&authority, &etcd(), now()).unwrap();
        let day = |days: i64| now() + SignedDuration::from_hours(24 * days);
        assert!(!due(&data, now()));
        assert!(!due(&data, day(365 - 31)));
        assert!(due(&data, day(365 - 29)));
        data.insert("root.crt".to_owned(), ByteString(b"rubbish".to_vec()));
        assert!(due(&data, now()));
        data.remove("root.crt");
        assert!(due(&data, now()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keepers_that_start_at_once_end_with_one_authority_and_it_outlives_its_leaves() {
        let server = testbed::ApiServer::shared().await;
        let client = server.client().await;
        let secrets: Api<Secret> = Api::namespaced(client, "default");
        let etcd = BundledEtcd {
            name: testbed::unique("etcd"),
            namespace: "default".to_owned(),
        };
        let keepers = (0..8).map(|_| {
            let (secrets, etcd) = (secrets.clone(), etcd.clone());
            tokio::spawn(async move { certificates(&secrets, &etcd, now()).await.unwrap() })
        });
        let mut kept = Vec::new();
        for keeper in keepers.collect::<Vec<_>>() {
            kept.push(keeper.await.unwrap());
        }
        let name = format!("{}-certs", etcd.name);
        let made = secrets.get(&name).await.unwrap();
        assert!(kept.iter().all(|kept| Some(kept) == made.data.as_ref()));

        // Nothing is due: nothing is written.
        certificates(&secrets, &etcd, now()).await.unwrap();
        let again = secrets.get(&name).await.unwrap();
        assert_eq!(again.resource_version(), made.resource_version());

        // Near the end of the leaves.
        let later = now() + SignedDuration::from_hours(24 * 350);
        let renewed = certificates(&secrets, &etcd, later).await.unwrap();
        let live = secrets.get(&name).await.unwrap();
        assert_eq!((live.data.as_ref(), live.uid()), (Some(&renewed), made.uid()));
        let before = made.data.unwrap();
        for key in ["ca.crt", "ca.key"] {
            assert_eq!(renewed[key], before[key], "the authority stays");
        }
        for key in ["server.crt", "server.key", "root.crt", "root.key"] {
            assert_ne!(renewed[key], before[key], "{key} is new");
        }
        assert!(!due(&renewed, later));
    }
}
