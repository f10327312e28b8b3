//! Keeps the definition of Tenants pointed at us: who converts, and which authority vouches for us.
//!
//! Of the definition nothing else is written: versions and schemas belong to whoever installed it. It stays when we are
//! uninstalled, and `v1beta2`, which is stored, needs no conversion then.

use api::capsule::definition::TENANTS;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition,
};
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::keeper::Error;

/// The version that is made from the stored one. A definition without it has nothing to convert.
const CONVERTED: &str = "v1beta1";

/// The conversion as it is in the API server. `None` if nothing is there to be converted.
pub(crate) async fn published(client: &Client) -> Result<Option<CustomResourceConversion>, Error> {
    let definition = read(client).await?;
    Ok(definition.map(|definition| definition.spec.conversion.unwrap_or_default()))
}

/// Puts the conversion in, if there is something to convert and it says something else.
pub(crate) async fn ensure(client: &Client, wanted: &CustomResourceConversion) -> Result<(), Error> {
    let Some(live) = read(client).await? else {
        return Ok(());
    };
    if live.spec.conversion.as_ref() == Some(wanted) {
        return Ok(());
    }
    // The whole of it, because what a predecessor wrote may not go together with ours; and only of what was read.
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": live.resource_version()},
        {"op": "add", "path": "/spec/conversion", "value": wanted},
    ]);
    let patch = serde_json::from_value(patch).expect("written out above as a JSON patch");
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    match api
        .patch(TENANTS, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
    {
        Ok(_) => {
            tracing::info!(object.ref = %format!("CustomResourceDefinition/{TENANTS}"), "conversion was configured");
            Ok(())
        }
        Err(source) => Err(Error::Write {
            kind: "CustomResourceDefinition".to_owned(),
            name: TENANTS.to_owned(),
            source,
        }),
    }
}

async fn read(client: &Client) -> Result<Option<CustomResourceDefinition>, Error> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let found = api.get_opt(TENANTS).await.map_err(|source| Error::Read {
        kind: "CustomResourceDefinition".to_owned(),
        name: TENANTS.to_owned(),
        source,
    })?;
    Ok(found.filter(|definition| definition.spec.versions.iter().any(|version| version.name == CONVERTED)))
}

/// A tick for every change of the definition, whoever made it.
pub(crate) fn drift(client: &Client) -> BoxStream<'static, ()> {
    let one = watcher::Config::default().fields(&format!("metadata.name={TENANTS}"));
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone());
    watcher(api, one).default_backoff().map(drop).boxed()
}
