//! Whether webhooks answer where the API server will look for them.
//!
//! A hook that is registered before the Service routes to a replica refuses every write it is asked about, and the first of
//! these come right behind us: an installer starts the operator and creates its objects in the same second. So what is not
//! registered yet waits until the address answers. The wait has an end, because an address that the operator cannot reach
//! may still be one that the API server can, and a tenant without hooks is worse than a refused write.

use std::time::Duration;

use http::Uri;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const ATTEMPT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

/// Returns when something accepts connections at this hook's address, or after 30 s.
pub(crate) async fn wait(client: &Client, hook: &WebhookClientConfig) {
    let end = Instant::now() + PATIENCE;
    loop {
        let problem = match address(client, hook).await {
            Ok((host, port)) => match timeout(ATTEMPT, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => format!("{host}:{port}: {error}"),
                Err(_) => format!("{host}:{port} does not answer"),
            },
            Err(problem) => problem,
        };
        if Instant::now() >= end {
            tracing::warn!(
                problem,
                "webhooks are registered although they are not seen to answer where the API server will ask them"
            );
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Where the API server will connect to: the Service's address, or the host of the URL.
async fn address(client: &Client, hook: &WebhookClientConfig) -> Result<(String, u16), String> {
    if let Some(reference) = &hook.service {
        let services: Api<Service> = Api::namespaced(client.clone(), &reference.namespace);
        let service = services.get(&reference.name).await.map_err(|error| error.to_string())?;
        let port = reference.port.unwrap_or(443);
        let port = u16::try_from(port).map_err(|_| format!("{port} is not a port"))?;
        return service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .filter(|address| !address.is_empty() && address != "None")
            .map(|address| (address, port))
            .ok_or_else(|| format!("Service {}/{} has no address", reference.namespace, reference.name));
    }
    let url: Uri = hook
        .url
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(|error| format!("{error}"))?;
    let host = url.host().ok_or("the URL has no host")?.trim_matches(['[', ']']);
    Ok((host.to_owned(), url.port_u16().unwrap_or(443)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> WebhookClientConfig {
        WebhookClientConfig {
            url: Some(url.to_owned()),
            ..WebhookClientConfig::default()
        }
    }

    fn nowhere() -> Client {
        let config = kube::Config::new(Uri::from_static("http://127.0.0.1:1"));
        Client::try_from(config).unwrap()
    }

    #[tokio::test]
    async fn a_url_says_where_with_and_without_a_port() {
        rustls::crypto::ring::default_provider().install_default().ok();
        for (url, host, port) in [
            ("https://hooks.example.com/path", "hooks.example.com", 443),
            ("https://10.0.0.1:9443/path", "10.0.0.1", 9443),
            ("https://[fd00::1]:9443/path", "fd00::1", 9443),
        ] {
            assert_eq!(
                address(&nowhere(), &at(url)).await,
                Ok((host.to_owned(), port)),
                "{url}"
            );
        }
        assert!(address(&nowhere(), &at("/only/a/path")).await.is_err());
    }

    #[tokio::test]
    async fn waits_until_something_listens() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let hook = at(&format!("https://{free}/"));
        let client = nowhere();
        let mut waiting = std::pin::pin!(wait(&client, &hook));
        assert!(timeout(PAUSE * 2, &mut waiting).await.is_err(), "nothing listens yet");
        let _listener = tokio::net::TcpListener::bind(free).await.unwrap();
        timeout(PATIENCE / 2, waiting).await.expect("something listens");
    }
}
