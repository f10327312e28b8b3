//! Whether the cluster serves the kinds of the Gateway API. Few control planes ask for them, and they may come at any time,
//! so it is asked live.

use kube::Client;
use tenancy::control_plane::hostname::GatewayApi;

use crate::facts::{Error, read};

const GROUP: &str = "gateway.networking.k8s.io";

/// What is served now.
pub(crate) async fn served(client: &Client) -> Result<GatewayApi, Error> {
    let failed = |source| read("the kinds of", GROUP, source);
    let version = format!("{GROUP}/v1");
    match client.list_api_group_resources(&version).await {
        Ok(kinds) if kinds.resources.iter().any(|kind| kind.name == "tlsroutes") => Ok(GatewayApi::Served),
        Ok(_) => Ok(GatewayApi::WithoutRoutes),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let groups = client.list_api_groups().await.map_err(failed)?.groups;
            let known = groups.iter().any(|group| group.name == GROUP);
            Ok(if known {
                GatewayApi::WithoutRoutes
            } else {
                GatewayApi::Absent
            })
        }
        Err(source) => Err(failed(source)),
    }
}
