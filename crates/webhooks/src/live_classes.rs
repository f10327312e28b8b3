//! Classes that are asked for one at a time: of Gateways and of devices.
//!
//! Few requests name one, and the kinds may not exist in the cluster at all, so they are read live and not watched. A
//! tenant cannot make us read much: only classes that its list decides by their labels are looked at, and the first
//! that is refused ends it.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use tenancy::devices::Claim;
use tenancy::gateways::{self, Gateway};
use tenancy::name::is_dns_subdomain;

use crate::facts::{Error, peek, read};
use crate::review::Request;
use crate::view::View;

/// Labels of the classes that were found, by name.
pub(crate) type Classes = BTreeMap<String, BTreeMap<String, String>>;

/// The class that a Gateway names, where its tenant restricts classes.
pub(crate) async fn of_gateway(client: &Client, view: &View, request: &Request) -> Result<Classes, Error> {
    let mut found = Classes::new();
    let gateway: Option<Gateway> = peek(request.object.as_deref());
    let is_restricted = view
        .known
        .tenant_of(request.namespace.as_deref().unwrap_or_default())
        .is_ok_and(|tenant| tenant.is_some_and(|tenant| tenant.gateway_classes.is_some()));
    if is_restricted
        && let Some(name) = gateway.as_ref().and_then(gateways::class)
        && let Some(labels) = labels(
            client,
            &request.resource.group,
            &request.resource.version,
            GATEWAY_CLASS,
            name,
        )
        .await?
    {
        found.insert(name.to_owned(), labels);
    }
    Ok(found)
}

/// The classes that a claim asks for and its tenant's list does not decide by name.
pub(crate) async fn of_devices(client: &Client, view: &View, request: &Request) -> Result<Classes, Error> {
    let mut found = Classes::new();
    let claim: Option<Claim> = peek(request.object.as_deref());
    let tenant = view.known.tenant_of(request.namespace.as_deref().unwrap_or_default());
    let policy = tenant
        .as_ref()
        .ok()
        .and_then(|tenant| tenant.as_ref()?.device_classes.as_ref());
    let (Some(claim), Some(policy)) = (&claim, policy) else {
        return Ok(found);
    };
    for (_, name) in claim.classes() {
        if found.contains_key(name) || policy.allows(name, None) {
            continue;
        }
        let resource = &request.resource;
        let Some(labels) = labels(client, &resource.group, &resource.version, DEVICE_CLASS, name).await? else {
            break;
        };
        let allowed = policy.allows(name, Some(&labels));
        found.insert(name.to_owned(), labels);
        if !allowed {
            break;
        }
    }
    Ok(found)
}

/// Kind and plural.
const GATEWAY_CLASS: (&str, &str) = ("GatewayClass", "gatewayclasses");
const DEVICE_CLASS: (&str, &str) = ("DeviceClass", "deviceclasses");

/// The labels of a class, `None` if there is no such class. It is read in the version of what names it.
async fn labels(
    client: &Client,
    group: &str,
    version: &str,
    (kind, plural): (&str, &str),
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    // Written by a tenant and part of a path that is asked for with our rights.
    if !is_dns_subdomain(name) {
        return Ok(None);
    }
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let class = Api::<DynamicObject>::all_with(client.clone(), &resource)
        .get_metadata_opt(name)
        .await
        .map_err(|source| read(kind, name, source))?;
    Ok(class.map(|class| class.metadata.labels.unwrap_or_default()))
}
