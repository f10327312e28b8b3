//! The definition of Tenants, the one kind that is served in two versions.
//!
//! Only `v1beta2` is stored. The API server has `v1beta1` made from it and back by the operator, and the definition says
//! so from the beginning: without a conversion, the API server would put one version's name on the other's fields, and
//! whoever writes a Tenant in `v1beta1` before the operator runs would lose, without a word, all that only `v1beta2` can say. So
//! `v1beta1` is an error until the operator is there, and `v1beta2` never needs it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, ServiceReference, WebhookClientConfig, WebhookConversion,
};

use super::{v1beta1, v1beta2};
use crate::schema;

/// Name of the definition.
pub const TENANTS: &str = "tenants.capsule.clastix.io";

/// Where the operator answers conversion reviews, after the prefix of its webhooks if they have one.
pub const CONVERSION_PATH: &str = "/convert";

/// Tenants in both versions, converted by an operator that is installed under its usual name. Another place, and the
/// authority to trust, are put in by the operator.
pub fn tenants() -> CustomResourceDefinition {
    let mut definition = schema::crd::<v1beta2::Tenant>();
    for mut version in schema::crd::<v1beta1::Tenant>().spec.versions {
        version.storage = false;
        version.deprecated = Some(true);
        definition.spec.versions.push(version);
    }
    definition.spec.conversion = Some(conversion(WebhookClientConfig {
        service: Some(ServiceReference {
            name: "cotenant-webhook-service".to_owned(),
            namespace: "cotenant-system".to_owned(),
            path: Some(CONVERSION_PATH.to_owned()),
            port: Some(443),
        }),
        ..WebhookClientConfig::default()
    }));
    definition
}

/// Conversion by whoever answers there.
pub fn conversion(client_config: WebhookClientConfig) -> CustomResourceConversion {
    CustomResourceConversion {
        strategy: "Webhook".to_owned(),
        webhook: Some(WebhookConversion {
            client_config: Some(client_config),
            // Versions of the review, not of the kind. API servers take the first that they know.
            conversion_review_versions: vec!["v1".to_owned(), "v1beta1".to_owned()],
        }),
    }
}
