//! Another address of the API server, to which replications are sent.
//!
//! The operator's own credentials go to whoever answers there. So only the CapsuleConfiguration names it, which is an
//! administrator's, it has to be `https`, and nothing in it may say who one is.

use api::capsule::v1beta2::Impersonation;
use http::Uri;

/// Where to, and how the other side is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port and path.
    pub url: Uri,
    /// `None`: the authority of the operator's own API server.
    pub ca: Option<CaSecret>,
    /// Whether the other side has to show a certificate of that authority.
    pub verify: bool,
}

/// The Secret with an authority's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaSecret {
    /// `None`: the operator's own.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Where in it.
    pub key: String,
}

/// The endpoint that a configuration names; `None` if replications go to the operator's own API server.
///
/// # Errors
/// Field and sentence, if it cannot be used.
pub fn of(impersonation: &Impersonation) -> Result<Option<Endpoint>, (&'static str, String)> {
    if impersonation.endpoint.is_empty() {
        return Ok(None);
    }
    let field = "spec.impersonation.endpoint";
    let refuse = |why: &str| Err((field, format!("{field}: {:?} {why}", impersonation.endpoint)));
    let Ok(url) = impersonation.endpoint.parse::<Uri>() else {
        return refuse("is no URL; it has to be one like https://api.example.com:6443");
    };
    if url.scheme_str() != Some("https") {
        return refuse("has to begin with https://, because the operator's credentials are sent there");
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if url.host().is_none_or(str::is_empty) || authority.contains('@') || url.query().is_some() {
        return refuse("has to be host, port and path alone, like https://api.example.com:6443");
    }
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Some(Endpoint {
        url,
        ca: some(&impersonation.ca_secret_name).map(|name| CaSecret {
            namespace: some(&impersonation.ca_secret_namespace),
            name,
            key: some(&impersonation.ca_secret_key).unwrap_or_else(|| "ca.crt".to_owned()),
        }),
        verify: !impersonation.skip_tls_verify,
    }))
}

/// What an administrator should know about the endpoint.
pub fn warnings(impersonation: &Impersonation) -> Vec<String> {
    let mut warnings = Vec::new();
    if impersonation.endpoint.is_empty() {
        for (field, is_set) in [
            ("caSecretName", !impersonation.ca_secret_name.is_empty()),
            ("skipTlsVerify", impersonation.skip_tls_verify),
        ] {
            if is_set {
                warnings.push(format!(
                    "spec.impersonation.{field}: without effect, because spec.impersonation.endpoint is empty"
                ));
            }
        }
    } else if impersonation.skip_tls_verify {
        warnings.push(
            "spec.impersonation.skipTlsVerify: the operator's credentials are sent to whoever answers at \
             spec.impersonation.endpoint; name its authority with caSecretName instead"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn impersonation(fields: Value) -> Impersonation {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn an_endpoint_is_known_by_its_authority() {
        assert_eq!(of(&impersonation(json!({"caSecretName": "ca"}))), Ok(None));
        let fields =
            json!({"endpoint": "https://api:6443/clusters/a", "caSecretName": "ca", "caSecretNamespace": "tls"});
        let endpoint = of(&impersonation(fields)).unwrap().unwrap();
        assert_eq!(endpoint.url.to_string(), "https://api:6443/clusters/a");
        let (name, key) = ("ca".to_owned(), "ca.crt".to_owned());
        let namespace = Some("tls".to_owned());
        assert_eq!(
            (endpoint.ca, endpoint.verify),
            (Some(CaSecret { namespace, name, key }), true)
        );
        let endpoint = of(&impersonation(
            json!({"endpoint": "https://[::1]", "skipTlsVerify": true}),
        ));
        let endpoint = endpoint.unwrap().unwrap();
        assert_eq!((endpoint.ca, endpoint.verify), (None, false));
    }

    #[rstest]
    #[case("http://api:6443", "has to begin with https://")]
    #[case("api:6443", "has to begin with https://")]
    #[case("/api", "has to begin with https://")]
    #[case("https://", "is no URL")]
    #[case("https://a b", "is no URL")]
    #[case("https://api?token=a", "has to be host, port and path alone")]
    #[case("https://me:secret@api", "has to be host, port and path alone")]
    fn what_is_no_safe_place_is_refused(#[case] endpoint: &str, #[case] why: &str) {
        let (field, message) = of(&impersonation(json!({"endpoint": endpoint}))).unwrap_err();
        assert_eq!(field, "spec.impersonation.endpoint");
        assert!(message.contains(why), "{message}");
    }

    #[test]
    fn what_is_weak_or_in_vain_is_warned_about() {
        let of = |fields| warnings(&impersonation(fields));
        assert_eq!(of(json!({})), [""; 0]);
        assert_eq!(of(json!({"endpoint": "https://api", "caSecretName": "ca"})), [""; 0]);
        assert_eq!(of(json!({"caSecretName": "ca", "skipTlsVerify": true})).len(), 2);
        let [weak] = &of(json!({"endpoint": "https://api", "skipTlsVerify": true}))[..] else {
            panic!("one warning");
        };
        assert!(weak.contains("sent to whoever answers"));
    }
}
