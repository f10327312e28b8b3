//! Clients that act as somebody else, over the connections of our own.

use http::HeaderValue;
use http::header::HeaderName;
use kube::Client;
use kube::client::Body;
use tenancy::replication::identity::Identity;
use tower::service_fn;

static IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");

/// A client that acts as this identity: by the user name alone, to which the API server adds a ServiceAccount's groups. The
/// operator's own client only where the identity is the operator.
///
/// # Errors
/// If the name cannot be said in a header; no ServiceAccount has such a name.
pub(crate) fn acting_as(client: &Client, identity: &Identity) -> Result<Client, String> {
    let Some(user) = identity.user() else {
        return Ok(client.clone());
    };
    let header = HeaderValue::from_str(&user).map_err(|_| format!("{user:?} is no name of a user"))?;
    let base = client.clone();
    let service = service_fn(move |mut request: http::Request<Body>| {
        request.headers_mut().insert(IMPERSONATE_USER.clone(), header.clone());
        let base = base.clone();
        async move { base.send(request).await }
    });
    Ok(Client::new(service, client.default_namespace()))
}
