//! What an API server sends and expects back: `AdmissionReview` of `admission.k8s.io`, v1 and v1beta1.
//!
//! The two versions have the same fields; the answer repeats the version of the question. The types are ours and not
//! those of a client library because the objects inside stay undecoded (`RawValue`) until a rule asks for its own type:
//! a request that no rule looks into is never parsed twice, and an object that does not decode is that rule's denial
//! instead of a broken connection.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::UserInfo;
use runtime::events::shortened;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tenancy::denial::Denial;

/// Group of the review, whatever its version.
const GROUP: &str = "admission.k8s.io/";
/// No name of an object is longer, in bytes: that of a DNS subdomain, RFC 1123.
pub(crate) const NAME_BYTES: usize = 253;

/// The question, as it arrives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    pub api_version: String,
    pub kind: String,
    pub request: Option<Request>,
}

/// One operation that the API server asks about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names this question; the answer repeats it.
    pub uid: String,
    /// The kind of `object` as sent to us (after conversion to a version that the hook names).
    pub kind: GroupVersionKind,
    /// The resource as sent to us.
    pub resource: GroupVersionResource,
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// Empty for a create that lets the API server make up the name.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    pub operation: Operation,
    #[serde(default)]
    pub user_info: UserInfo,
    /// `None` on delete.
    #[serde(default)]
    pub object: Option<Box<RawValue>>,
    /// `None` on create.
    #[serde(default)]
    pub old_object: Option<Box<RawValue>>,
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// What the metadata of an object says about its name. What does not read is for the rules to refuse.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Names {
    name: Option<String>,
    namespace: Option<String>,
    generate_name: Option<String>,
}

impl Names {
    fn of(object: &RawValue) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Named {
            metadata: Names,
        }
        serde_json::from_str::<Named>(object.get()).unwrap_or_default().metadata
    }
}

impl Request {
    /// Whether the object is a Namespace, whose own name `namespace` then is.
    pub(crate) fn is_about_namespace(&self) -> bool {
        self.kind.kind == "Namespace" && self.kind.group.is_empty()
    }

    /// Refuses names that are longer than any name is. The API server asks us before it looks at them itself, so they may be
    /// as long as a request. What is stored keeps its name: it must be possible to change and to delete it.
    ///
    /// # Errors
    /// The first such name, by its field alone.
    pub(crate) fn check_names(&self) -> Result<(), Denial> {
        let written = match self.operation {
            Operation::Update | Operation::Delete => return Ok(()),
            Operation::Create => self.object.as_deref().map(Names::of).unwrap_or_default(),
            Operation::Connect => Names::default(),
        };
        let names = [
            ("metadata.name", Some(&self.name)),
            ("metadata.name", written.name.as_ref()),
            ("metadata.namespace", self.namespace.as_ref()),
            ("metadata.namespace", written.namespace.as_ref()),
            ("metadata.generateName", written.generate_name.as_ref()),
        ];
        let too_long = names.into_iter().find_map(|(field, name)| {
            let bytes = name?.len();
            (bytes > NAME_BYTES).then_some((field, bytes))
        });
        let Some((field, bytes)) = too_long else { return Ok(()) };
        let message =
            format!("{field} has {bytes} bytes; names in Kubernetes have at most {NAME_BYTES}, choose a shorter one");
        Err(Denial::new(field, "NameTooLong", message).with_code(400))
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl GroupVersionKind {
    /// As objects say it: `<group>/<version>`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct GroupVersionResource {
    pub group: String,
    pub version: String,
    pub resource: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Why a body is not a question that can be answered.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("failed to read the body as an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "failed to read the body: it is a {kind} of {api_version}, expected an AdmissionReview of admission.k8s.io/v1"
    )]
    OtherKind { api_version: String, kind: String },
    #[error("failed to read the body: the AdmissionReview has no request")]
    NoRequest,
}

/// Reads a body. Returns the version to answer in, and the request.
pub fn parse(body: &[u8]) -> Result<(String, Request), Malformed> {
    let review: Review = serde_json::from_slice(body)?;
    let known = matches!(review.api_version.strip_prefix(GROUP), Some("v1" | "v1beta1"));
    if !known || review.kind != "AdmissionReview" {
        return Err(Malformed::OtherKind {
            api_version: review.api_version,
            kind: review.kind,
        });
    }
    let request = review.request.ok_or(Malformed::NoRequest)?;
    Ok((review.api_version, request))
}

/// The answer to one question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

/// The part of `metav1.Status` that an answer carries.
#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Debug, Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Serialize)]
struct Cause {
    reason: String,
    message: String,
    field: String,
}

/// One warning line may be this long: the API server cuts longer ones and drops all after 4096 bytes.
const WARNING_BYTES: usize = 256;
/// One annotation of the audit log: images and hostnames of one request can be many.
const AUDIT_BYTES: usize = 4096;

impl Answer {
    pub fn allow(uid: String) -> Self {
        Self {
            uid,
            allowed: true,
            status: None,
            patch: None,
            patch_type: None,
            warnings: Vec::new(),
            audit_annotations: BTreeMap::new(),
        }
    }

    /// Lets the request pass with these changes; no patch at all when there are none.
    pub fn patched(uid: String, patch: &json_patch::Patch) -> Self {
        use base64::Engine as _;
        let mut answer = Self::allow(uid);
        if !patch.0.is_empty() {
            let json = serde_json::to_vec(patch).expect("a JSON patch serialises");
            answer.patch = Some(base64::engine::general_purpose::STANDARD.encode(json));
            answer.patch_type = Some("JSONPatch");
        }
        answer
    }

    /// Refuses with the sentence for the caller; the field and the word for programs travel in the status' details.
    pub fn deny(uid: String, denial: &Denial) -> Self {
        let field = denial.field.clone();
        let details = (!field.is_empty()).then(|| Details {
            causes: vec![Cause {
                reason: denial.reason.to_string(),
                message: denial.message.clone(),
                field,
            }],
        });
        let status = Status {
            code: denial.code,
            reason: reason_of(denial.code).to_owned(),
            message: denial.message.clone(),
            details,
        };
        let mut answer = Self::allow(uid);
        answer.allowed = false;
        answer.status = Some(status);
        answer.audit_annotations.insert("reason", denial.reason.to_string());
        answer
    }

    /// Refuses because we could not decide: the fault is ours, the caller may try again.
    pub fn fail(uid: String, message: &str) -> Self {
        let mut answer = Self::allow(uid);
        answer.allowed = false;
        answer.status = Some(Status {
            code: 500,
            reason: reason_of(500).to_owned(),
            message: message.to_owned(),
            details: None,
        });
        answer
    }

    #[must_use]
    pub fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings
            .into_iter()
            .map(|text| shortened(&text, WARNING_BYTES))
            .collect();
        self
    }

    /// Says in the audit log of the API server what limits that are only tried out found, each with the limit.
    #[must_use]
    pub fn audited(mut self, findings: &[String]) -> Self {
        if !findings.is_empty() {
            let text = shortened(&findings.join("; "), AUDIT_BYTES);
            self.audit_annotations.insert("audited", text);
        }
        self
    }

    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Wraps the answer into the review that goes back.
    pub fn into_body(self, api_version: &str) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Reply<'a> {
            api_version: &'a str,
            kind: &'a str,
            response: Answer,
        }
        serde_json::to_vec(&Reply {
            api_version,
            kind: "AdmissionReview",
            response: self,
        })
        .expect("an admission answer serialises")
    }
}

/// The machine-readable reason that Kubernetes uses with a status code.
fn reason_of(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        500.. => "InternalError",
        _ => "Forbidden",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_answered_in_kind() {
        for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
            let body = format!(
                r#"{{"apiVersion":"{version}","kind":"AdmissionReview","request":{{"uid":"7","kind":{{"group":"","version":"v1","kind":"Namespace"}},
                "resource":{{"group":"","version":"v1","resource":"namespaces"}},"operation":"CREATE","userInfo":{{"username":"alice"}},
                "object":{{"metadata":{{"name":"web"}}}},"oldObject":null,"dryRun":false,"options":{{}}}}}}"#
            );
            let (answered, request) = parse(body.as_bytes()).expect("a review");
            assert_eq!(answered, version);
            assert_eq!(request.operation, Operation::Create);
            assert!(request.object.is_some());
            assert!(request.old_object.is_none());
            let reply: serde_json::Value =
                serde_json::from_slice(&Answer::allow(request.uid).into_body(&answered)).expect("JSON");
            assert_eq!(
                reply,
                serde_json::json!({"apiVersion": version, "kind": "AdmissionReview", "response": {"uid": "7", "allowed": true}})
            );
        }
    }

    #[test]
    fn what_is_not_a_review_is_said_to_be_so() {
        assert!(matches!(parse(b"{"), Err(Malformed::Json(_))));
        assert!(matches!(
            parse(br#"{"apiVersion":"v1","kind":"Pod"}"#),
            Err(Malformed::OtherKind { .. })
        ));
        assert!(matches!(
            parse(br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#),
            Err(Malformed::NoRequest)
        ));
    }

    fn request(operation: &str, kind: (&str, &str), name: &str, object: &serde_json::Value) -> Request {
        let request = serde_json::json!({
            "uid": "7", "kind": {"group": kind.0, "version": "v1", "kind": kind.1}, "name": name, "namespace": "oil-web",
            "resource": {"group": kind.0, "version": "v1", "resource": "x"}, "operation": operation, "object": object});
        serde_json::from_str(&request.to_string()).expect("a request")
    }

    #[test]
    fn a_namespace_is_that_of_kubernetes() {
        let is_one = |kind| request("CREATE", kind, "web", &serde_json::json!({})).is_about_namespace();
        assert!(is_one(("", "Namespace")));
        assert!(!is_one(("example.org", "Namespace")) && !is_one(("", "Pod")));
    }

    #[test]
    fn names_that_no_object_can_have_are_refused_without_repeating_them() {
        let (longest, long) = ("x".repeat(253), "x".repeat(254));
        let named = |field: &str, name: &str| serde_json::json!({"metadata": {field: name}, "spec": {}});
        for (operation, name, object, refused) in [
            ("CREATE", longest.as_str(), named("name", &longest), None),
            ("CREATE", "", named("generateName", &longest), None),
            ("CREATE", long.as_str(), serde_json::json!({}), Some("metadata.name")),
            ("CREATE", "", named("name", &long), Some("metadata.name")),
            ("CREATE", "", named("namespace", &long), Some("metadata.namespace")),
            (
                "CREATE",
                "",
                named("generateName", &long),
                Some("metadata.generateName"),
            ),
            ("CONNECT", long.as_str(), serde_json::json!({}), Some("metadata.name")),
            // Names of roles have no limit: those that are there can go.
            ("UPDATE", long.as_str(), named("name", &long), None),
            ("DELETE", long.as_str(), serde_json::Value::Null, None),
        ] {
            let denial = request(operation, ("", "Pod"), name, &object).check_names().err();
            let field = denial.as_ref().map(|denial| denial.field.as_str());
            assert_eq!(field, refused, "{operation} {object}");
            assert!(denial.is_none_or(|denial| denial.code == 400 && !denial.message.contains("xx")));
        }
    }

    #[test]
    fn a_long_warning_is_cut_at_a_character() {
        let answer = Answer::allow(String::new()).warn(vec!["ä".repeat(300)]);
        assert!(answer.warnings[0].len() <= WARNING_BYTES);
        assert!(answer.warnings[0].ends_with('…'));
    }
}
