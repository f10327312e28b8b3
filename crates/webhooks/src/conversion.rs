//! Conversion: Tenants of one version, as another one. What becomes of which field is `tenancy::conversion`.
//!
//! API servers ask by `ConversionReview` of `apiextensions.k8s.io`, v1 and v1beta1; the two have the same fields, and the
//! answer repeats the version of the question. A review holds one object or many and succeeds or fails as a whole. Of an
//! answer, API servers take labels, annotations and what is not metadata.
//!
//! Nothing but the question goes into the answer, so whoever can reach the port learns nothing here. Objects stay
//! undecoded until it is their turn, and other requests get theirs in between. The answer is at most a few times as large as the
//! question, whose size the server limits.

use api::capsule::definition;
use api::capsule::{v1beta1, v1beta2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tenancy::conversion::{to_v1beta1, to_v1beta2};

use crate::metrics::{Conversion, Metrics};

/// Where conversion reviews are answered.
pub const PATH: &str = definition::CONVERSION_PATH;

/// Group of the review, whatever its version.
const GROUP: &str = "apiextensions.k8s.io/";
const KIND: &str = "Tenant";
const V1BETA1: &str = "capsule.clastix.io/v1beta1";
const V1BETA2: &str = "capsule.clastix.io/v1beta2";

/// Why a body is not a question that can be answered.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("failed to read the body as a ConversionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "failed to read the body: it is a {kind} of {api_version}, expected a ConversionReview of apiextensions.k8s.io/v1"
    )]
    OtherKind { api_version: String, kind: String },
    #[error("failed to read the body: the ConversionReview has no request")]
    NoRequest,
}

/// Why an object was not converted. The API server shows it to the caller.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is no conversion to {0}; Tenants are served as {V1BETA1} and {V1BETA2}")]
    Wanted(String),
    #[error(
        "there is no conversion for {kind} of {api_version}; what is converted is {KIND} of {V1BETA1} and {V1BETA2}"
    )]
    Object { api_version: String, kind: String },
    #[error("an object has no apiVersion and kind that could be read ({0})")]
    NoKind(serde_json::Error),
    #[error("Tenant {name:?} does not have the fields of {api_version}: {source}")]
    Fields {
        name: String,
        api_version: &'static str,
        source: serde_json::Error,
    },
    #[error("Tenant {name:?} of {V1BETA1}: {source}")]
    Carried {
        name: String,
        source: tenancy::conversion::Error,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    /// Names this question; the answer repeats it.
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(borrow)]
    objects: Vec<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    api_version: String,
    kind: String,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    /// In the order of the question; none if one of them failed.
    converted_objects: Vec<Box<RawValue>>,
    result: Status,
}

/// The part of `metav1.Status` that an answer carries.
#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// Answers one review.
///
/// # Errors
/// When the body is not a review: there is no question then that an answer could belong to.
pub(crate) async fn answer(body: &[u8], metrics: &Metrics) -> Result<Vec<u8>, Malformed> {
    let review: Review<'_> = serde_json::from_slice(body)?;
    let known = matches!(review.api_version.strip_prefix(GROUP), Some("v1" | "v1beta1"));
    if !known || review.kind != "ConversionReview" {
        return Err(Malformed::OtherKind {
            api_version: review.api_version,
            kind: review.kind,
        });
    }
    let request = review.request.ok_or(Malformed::NoRequest)?;
    let (converted_objects, result) = match convert_all(&request).await {
        Ok(objects) => {
            metrics.count_conversion(Conversion::Converted);
            let success = Status {
                status: "Success",
                message: String::new(),
            };
            (objects, success)
        }
        Err(refusal) => {
            metrics.count_conversion(Conversion::Refused);
            let message = refusal.to_string();
            tracing::info!(message, "a conversion was refused");
            let failure = Status {
                status: "Failure",
                message,
            };
            (Vec::new(), failure)
        }
    };
    let reply = Reply {
        api_version: review.api_version,
        kind: review.kind,
        response: Response {
            uid: request.uid,
            converted_objects,
            result,
        },
    };
    Ok(serde_json::to_vec(&reply).expect("a conversion answer serialises"))
}

async fn convert_all(request: &Request<'_>) -> Result<Vec<Box<RawValue>>, Refusal> {
    let mut converted = Vec::new();
    for object in &request.objects {
        converted.push(convert(object, &request.desired_api_version)?);
        tokio::task::yield_now().await;
    }
    Ok(converted)
}

/// One object in the wanted version.
fn convert(object: &RawValue, wanted: &str) -> Result<Box<RawValue>, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        api_version: String,
        kind: String,
    }
    let Kind { api_version, kind } = serde_json::from_str(object.get()).map_err(Refusal::NoKind)?;
    if kind != KIND {
        return Err(Refusal::Object { api_version, kind });
    }
    match (api_version.as_str(), wanted) {
        (V1BETA2, V1BETA1) => {
            let tenant: v1beta2::Tenant = decode(object, V1BETA2)?;
            Ok(encode(&to_v1beta1(&tenant)))
        }
        (V1BETA1, V1BETA2) => {
            let tenant: v1beta1::Tenant = decode(object, V1BETA1)?;
            let tenant = to_v1beta2(&tenant).map_err(|source| Refusal::Carried {
                name: name(object),
                source,
            })?;
            Ok(encode(&without_false(&tenant)))
        }
        (V1BETA1 | V1BETA2, same) if same == api_version => Ok(object.to_owned()),
        (V1BETA1 | V1BETA2, other) => Err(Refusal::Wanted(other.to_owned())),
        _ => Err(Refusal::Object { api_version, kind }),
    }
}

fn decode<K: DeserializeOwned>(object: &RawValue, api_version: &'static str) -> Result<K, Refusal> {
    serde_json::from_str(object.get()).map_err(|source| Refusal::Fields {
        name: name(object),
        api_version,
        source,
    })
}

/// The Tenant without the fields that are annotations in `v1beta1` and false, which is what they are if they are absent.
///
/// Server-side apply in `v1beta1` that takes such an annotation back compares which fields there are, not their values:
/// a field that is there and false would stay what it was.
fn without_false(tenant: &v1beta2::Tenant) -> Value {
    let mut tenant = serde_json::to_value(tenant).expect("keys of all maps in a Tenant are strings");
    for (parent, field) in [
        ("/spec", "cordoned"),
        ("/spec", "preventDeletion"),
        ("/spec/ingressOptions", "allowWildcardHostnames"),
    ] {
        if let Some(parent) = tenant.pointer_mut(parent).and_then(Value::as_object_mut)
            && parent.get(field) == Some(&Value::Bool(false))
        {
            parent.remove(field);
        }
    }
    tenant
}

fn encode<K: Serialize>(tenant: &K) -> Box<RawValue> {
    serde_json::value::to_raw_value(tenant).expect("keys of all maps in a Tenant are strings")
}

/// The object's name, for people; empty if it has none.
fn name(object: &RawValue) -> String {
    #[derive(Default, Deserialize)]
    struct Named {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        #[serde(default)]
        name: String,
    }
    let named: Named = serde_json::from_str(object.get()).unwrap_or_default();
    named.metadata.name
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    async fn ask(version: &str, wanted: &str, objects: Value) -> Value {
        let review = json!({
            "apiVersion": format!("apiextensions.k8s.io/{version}"), "kind": "ConversionReview",
            "request": {"uid": "7", "desiredAPIVersion": wanted, "objects": objects},
        });
        let reply = answer(review.to_string().as_bytes(), &Metrics::default()).await;
        serde_json::from_slice(&reply.expect("an answer")).expect("JSON")
    }

    fn tenant(version: &str, name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": format!("capsule.clastix.io/{version}"), "kind": "Tenant",
            "metadata": {"name": name, "uid": "u"}, "spec": spec,
        })
    }

    #[rstest]
    #[case::v1("v1")]
    #[case::v1beta1("v1beta1")]
    #[tokio::test]
    async fn a_batch_is_answered_in_its_order_and_in_the_version_of_the_question(#[case] version: &str) {
        let owners = json!({"owners": [{"kind": "User", "name": "alice"}]});
        let reply = ask(
            version,
            V1BETA1,
            json!([
                tenant("v1beta2", "oil", &json!({"cordoned": true})),
                tenant("v1beta1", "gas", &owners),
                tenant("v1beta2", "wind", &json!({})),
            ]),
        )
        .await;
        let expected = |name: &str, annotations: Value| {
            json!({
                "apiVersion": V1BETA1, "kind": "Tenant",
                "metadata": {"name": name, "uid": "u", "annotations": annotations}, "spec": {"owners": []},
            })
        };
        assert_eq!(
            reply,
            json!({
                "apiVersion": format!("apiextensions.k8s.io/{version}"), "kind": "ConversionReview",
                "response": {
                    "uid": "7",
                    "convertedObjects": [
                        expected("oil", json!({"capsule.clastix.io/cordon": "true", "capsule.clastix.io/deny-wildcard": "true"})),
                        // In the wanted version already: as it came.
                        tenant("v1beta1", "gas", &owners),
                        expected("wind", json!({"capsule.clastix.io/deny-wildcard": "true"})),
                    ],
                    "result": {"status": "Success"},
                },
            })
        );
    }

    #[tokio::test]
    async fn one_object_that_cannot_be_converted_fails_its_review() {
        let mut stale = tenant("v1beta1", "oil", &json!({"owners": []}));
        stale["metadata"]["annotations"] = json!({"cotenant.dev/v1beta2": "{"});
        let good = tenant("v1beta1", "gas", &json!({"owners": []}));
        let reply = ask("v1", V1BETA2, json!([good, stale])).await;
        let response = &reply["response"];
        assert_eq!(response["uid"], "7");
        assert_eq!(response["convertedObjects"], json!([]));
        assert_eq!(response["result"]["status"], "Failure");
        let message = response["result"]["message"].as_str().expect("a sentence");
        assert!(
            message.starts_with(r#"Tenant "oil" of capsule.clastix.io/v1beta1: metadata.annotations[cotenant.dev/v1beta2] cannot be read"#),
            "{message}"
        );
    }

    #[rstest]
    #[case::other_version(V1BETA1, json!({"apiVersion": "capsule.clastix.io/v1alpha1", "kind": "Tenant"}), "there is no conversion for Tenant of capsule.clastix.io/v1alpha1; what is converted is Tenant of capsule.clastix.io/v1beta1 and capsule.clastix.io/v1beta2")]
    #[case::other_kind(V1BETA2, json!({"apiVersion": V1BETA1, "kind": "Pod"}), "there is no conversion for Pod of capsule.clastix.io/v1beta1; what is converted is Tenant of capsule.clastix.io/v1beta1 and capsule.clastix.io/v1beta2")]
    #[case::other_target("capsule.clastix.io/v1", json!({"apiVersion": V1BETA1, "kind": "Tenant"}), "there is no conversion to capsule.clastix.io/v1; Tenants are served as capsule.clastix.io/v1beta1 and capsule.clastix.io/v1beta2")]
    #[case::nothing(V1BETA2, json!(null), "an object has no apiVersion and kind that could be read (invalid type: null, expected struct Kind at line 1 column 4)")]
    #[case::no_spec(V1BETA2, json!({"apiVersion": V1BETA1, "kind": "Tenant", "metadata": {"name": "oil"}}), r#"Tenant "oil" does not have the fields of capsule.clastix.io/v1beta1: missing field `spec`"#)]
    #[case::owners_of_a_wrong_type(V1BETA2, tenant("v1beta1", "oil", &json!({"owners": 3})), r#"Tenant "oil" does not have the fields of capsule.clastix.io/v1beta1: invalid type: integer `3`, expected a sequence"#)]
    #[tokio::test]
    async fn what_cannot_be_converted_is_said(#[case] wanted: &str, #[case] object: Value, #[case] expected: &str) {
        let reply = ask("v1", wanted, json!([object])).await;
        assert_eq!(reply["response"]["result"]["status"], "Failure");
        let message = reply["response"]["result"]["message"].as_str().expect("a sentence");
        assert!(message.starts_with(expected), "{message}");
    }

    #[tokio::test]
    async fn what_is_not_a_review_is_said_to_be_so() {
        let metrics = Metrics::default();
        assert!(matches!(answer(b"{", &metrics).await, Err(Malformed::Json(_))));
        let admission = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#;
        assert!(matches!(
            answer(admission, &metrics).await,
            Err(Malformed::OtherKind { .. })
        ));
        let empty = br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview"}"#;
        assert!(matches!(answer(empty, &metrics).await, Err(Malformed::NoRequest)));
    }

    /// Deeper than any object that an API server takes.
    #[rstest]
    #[case::object("[", "]")]
    #[case::spec(
        r#"{"apiVersion":"capsule.clastix.io/v1beta2","kind":"Tenant","spec":{"data":["#,
        "]}}"
    )]
    #[tokio::test]
    async fn deep_nesting_is_refused(#[case] open: &str, #[case] close: &str) {
        let depth = 500_000;
        let body = format!(
            r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{{"uid":"7","desiredAPIVersion":"{V1BETA1}","objects":[{open}{}{}{close}]}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let reply = answer(body.as_bytes(), &Metrics::default()).await;
        let refused = match reply {
            Err(Malformed::Json(_)) => true,
            Err(_) => false,
            Ok(reply) => {
                let reply: Value = serde_json::from_slice(&reply).expect("JSON");
                reply["response"]["result"]["status"] == "Failure"
            }
        };
        assert!(refused);
    }
}
