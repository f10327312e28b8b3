//! The configuration that nodes get when they join, and what an author may change in it.
//!
//! Written as kubeadm of the tenant's own minor writes it: a field that the kubelet has a default for stays unset, so
//! that a kubelet of that version decides, and no field is named that it does not know. Kamaji spells out every default
//! of its newest library, and people's patches were written against that document. So that they still work, `replace`
//! of a member that is not spelled out adds it, and `remove` of one is already done.
//!
//! Admission carries the patches out on the very document that the controller will make, so what is admitted applies.
//! `copy` can double a document with every operation, and nesting can be deeper than a stack: both have an end here.

use api::kamaji::v1alpha1::{JsonPatch, KubeletSpec, TenantControlPlaneSpec};
use serde_json::{Value, json};

use super::effective;
use super::version::{self, NEWEST};
use crate::denial::Denial;

const FIELD: &str = "spec.kubernetes.kubelet.configurationJSONPatches";

/// More operations than a KubeletConfiguration has fields.
const MOST_OPERATIONS: usize = 256;
/// Values and characters of text; the document without patches has some seven hundred.
const LARGEST: usize = 64 * 1024;
/// A KubeletConfiguration is nested six deep.
const DEEPEST: usize = 32;

/// The KubeletConfiguration for a minor version (36 for 1.36), patched as the spec asks.
///
/// # Errors
/// The first operation that cannot be carried out.
pub fn configuration(minor: u64, dns: &[String], domain: &str, spec: &KubeletSpec) -> Result<Value, Denial> {
    let patches = &spec.configuration_json_patches;
    if patches.len() > MOST_OPERATIONS {
        let message = format!(
            "{FIELD}: {} operations; at most {MOST_OPERATIONS} are carried out",
            patches.len()
        );
        return Err(Denial::new(FIELD, "PatchInvalid", message));
    }
    let mut configuration = plain(minor, dns, domain);
    if let Some(driver) = spec.cgroupfs {
        configuration["cgroupDriver"] = json!(driver.as_str());
    }
    for (index, operation) in patches.iter().enumerate() {
        apply(&mut configuration, operation).map_err(|reason| {
            let field = format!("{FIELD}[{index}]");
            let message = format!(
                "{field}: {} {:?} cannot be carried out: {reason}",
                operation.op, operation.path
            );
            Denial::new(field, "PatchInvalid", message)
        })?;
    }
    Ok(configuration)
}

/// What is wrong with the patches of a spec.
pub fn denials(spec: &TenantControlPlaneSpec) -> Vec<Denial> {
    let kubelet = &spec.kubernetes.kubelet;
    if kubelet.configuration_json_patches.is_empty() {
        return Vec::new();
    }
    let malformed = malformed(&kubelet.configuration_json_patches);
    if !malformed.is_empty() {
        return malformed;
    }
    // A version that does not parse is another rule's business.
    let version = version::parse(&spec.kubernetes.version);
    let minor = version.map_or(NEWEST.minor, |version| version.minor);
    let dns = effective::dns_service_ips(&spec.network_profile);
    let configuration = configuration(minor, &dns, &spec.network_profile.cluster_domain, kubelet);
    configuration.err().into_iter().collect()
}

/// What can be said of each operation without the document.
fn malformed(patches: &[JsonPatch]) -> Vec<Denial> {
    let wrong = patches.iter().enumerate().filter_map(|(index, patch)| {
        // RFC 6901: empty, or starting with a slash; a tilde only before 0 or 1.
        let pointer = |text: &str| {
            (text.is_empty() || text.starts_with('/'))
                && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
        };
        let (part, problem) = match (patch.op.as_str(), patch.from.as_deref()) {
            _ if !pointer(&patch.path) => ("path", "is not a JSON pointer; write it as /name/name"),
            ("move" | "copy", None) => ("from", "is missing; move and copy need to know where from"),
            ("move" | "copy", Some(from)) if !pointer(from) => {
                ("from", "is not a JSON pointer; write it as /name/name")
            }
            ("add" | "replace" | "test", _) if patch.value.is_none() => {
                ("value", "is missing; to unset a field, remove it")
            }
            _ => return None,
        };
        let field = format!("{FIELD}[{index}].{part}");
        Some(Denial::new(field.clone(), "PatchInvalid", format!("{field} {problem}")))
    });
    wrong.collect()
}

/// kubeadm prints a zero duration where the type has no way to say "unset"; the kubelet reads it as its default.
fn plain(minor: u64, dns: &[String], domain: &str) -> Value {
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"cacheTTL": "0s", "enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s"},
        },
        "clusterDNS": dns,
        "clusterDomain": domain,
        "cpuManagerReconcilePeriod": "0s",
        "evictionPressureTransitionPeriod": "0s",
        "fileCheckFrequency": "0s",
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "httpCheckFrequency": "0s",
        "imageMinimumGCAge": "0s",
        "kind": "KubeletConfiguration",
        "logging": {
            "flushFrequency": 0,
            "options": {"json": {"infoBufferSize": "0"}},
            "verbosity": 0,
        },
        "memorySwap": {},
        "nodeStatusReportFrequency": "0s",
        "nodeStatusUpdateFrequency": "0s",
        "rotateCertificates": true,
        "runtimeRequestTimeout": "0s",
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
        "staticPodPath": "/etc/kubernetes/manifests",
        "streamingConnectionIdleTimeout": "0s",
        "syncFrequency": "0s",
        "volumeStatsAggPeriod": "0s",
    });
    // Members that kubeadm prints although they are unset, since the kubelet has them.
    let since: [(u64, &str, Value); 4] = [
        (27, "/containerRuntimeEndpoint", json!("")),
        (29, "/imageMaximumGCAge", json!("0s")),
        (31, "/logging/options/text", json!({"infoBufferSize": "0"})),
        (32, "/crashLoopBackOff", json!({})),
    ];
    for (first, path, value) in since {
        if minor >= first {
            let (parent, member) = path.rsplit_once('/').expect("a path");
            configuration.pointer_mut(parent).expect("written above")[member] = value;
        }
    }
    configuration
}

fn apply(document: &mut Value, operation: &JsonPatch) -> Result<(), String> {
    let mut operation = operation.clone();
    let absent = document.pointer(&operation.path).is_none();
    match operation.op.as_str() {
        "remove" if absent => return Ok(()),
        "replace" if absent => "add".clone_into(&mut operation.op),
        _ => {}
    }
    // In objects older than our rules `value: null` reads like no value; the patch type needs the member to be there.
    let mut value = serde_json::to_value(&operation).map_err(|error| error.to_string())?;
    if matches!(operation.op.as_str(), "add" | "replace" | "test") && operation.value.is_none() {
        value["value"] = Value::Null;
    }
    let parsed: json_patch::PatchOperation = serde_json::from_value(value).map_err(|error| error.to_string())?;
    json_patch::patch(document, &json_patch::Patch(vec![parsed])).map_err(|error| error.to_string())?;
    let mut left = LARGEST;
    if !document.is_object() {
        Err("the configuration is no longer an object".to_owned())
    } else if !fits(document, DEEPEST, &mut left) {
        Err("the configuration becomes larger or deeper than any kubelet's".to_owned())
    } else {
        Ok(())
    }
}

/// Whether a document stays within `depth` levels and `left` values and characters. Stops at the limit, so it never
/// recurses deeper than that.
fn fits(value: &Value, depth: usize, left: &mut usize) -> bool {
    let mut take = |amount: usize| left.checked_sub(amount).map(|rest| *left = rest).is_some();
    match value {
        Value::String(text) => take(1 + text.len()),
        Value::Array(items) => depth > 0 && take(1) && items.iter().all(|item| fits(item, depth - 1, left)),
        Value::Object(members) => {
            depth > 0
                && take(1)
                && members.iter().all(|(name, value)| {
                    let named = left.checked_sub(name.len()).map(|rest| *left = rest);
                    named.is_some() && fits(value, depth - 1, left)
                })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => take(1),
    }
}

#[cfg(test)]
mod tests {
    use api::kamaji::v1alpha1::CgroupDriver;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn patch(op: &str, path: &str, value: Option<Value>) -> JsonPatch {
        JsonPatch {
            op: op.into(),
            path: path.into(),
            from: None,
            value,
        }
    }

    fn from(op: &str, from: &str, path: &str) -> JsonPatch {
        JsonPatch {
            from: Some(from.into()),
            ..patch(op, path, None)
        }
    }

    fn patched(patches: Vec<JsonPatch>) -> Result<Value, Denial> {
        let spec = KubeletSpec {
            configuration_json_patches: patches,
            ..KubeletSpec::default()
        };
        configuration(36, &["10.96.0.10".to_owned()], "cluster.local", &spec)
    }

    #[test]
    fn patches_written_for_a_document_with_every_default_spelled_out_still_work() {
        let spec = KubeletSpec {
            configuration_json_patches: vec![
                patch("replace", "/failCgroupV1", Some(json!(false))),
                patch("remove", "/imagePullCredentialsVerificationPolicy", None),
                patch("remove", "/crashLoopBackOff", None),
                patch(
                    "add",
                    "/featureGates",
                    Some(json!({"KubeletCrashLoopBackOffMax": false})),
                ),
                patch("replace", "/authentication/webhook/cacheTTL", Some(json!("1m0s"))),
                patch("replace", "/cgroupDriver", Some(json!("systemd"))),
            ],
            cgroupfs: Some(CgroupDriver::Cgroupfs),
            ..KubeletSpec::default()
        };
        let rendered = configuration(36, &["10.96.0.10".to_owned()], "cluster.local", &spec).unwrap();
        assert_eq!(rendered["failCgroupV1"], false);
        assert_eq!(rendered.get("crashLoopBackOff"), None);
        assert_eq!(rendered["featureGates"], json!({"KubeletCrashLoopBackOffMax": false}));
        assert_eq!(rendered["authentication"]["webhook"]["cacheTTL"], "1m0s");
        assert_eq!(rendered["cgroupDriver"], "systemd", "patches have the last word");
    }

    #[rstest]
    #[case::no_such_parent(patch("add", "/no/such/parent", Some(json!(1))), "add \"/no/such/parent\" cannot be carried out")]
    #[case::failed_test(patch("test", "/healthzPort", Some(json!(1))), "cannot be carried out")]
    #[case::no_object(patch("replace", "", Some(json!([]))), "no longer an object")]
    #[case::no_pointer(patch("replace", "bad", Some(json!(1))), "cannot be carried out")]
    #[case::no_operation(patch("nonsense", "/a", None), "cannot be carried out")]
    #[case::from_nowhere(patch("move", "/a", None), "cannot be carried out")]
    #[case::into_itself(from("move", "/logging", "/logging/options"), "cannot be carried out")]
    #[case::far_index(patch("add", "/clusterDNS/18446744073709551615", Some(json!("a"))), "cannot be carried out")]
    #[case::too_large(patch("add", "/a", Some(json!("x".repeat(LARGEST)))), "larger or deeper")]
    fn an_operation_that_cannot_be_carried_out_is_named(#[case] operation: JsonPatch, #[case] expected: &str) {
        let first = patch("add", "/a", Some(json!("b")));
        let denial = patched(vec![first, operation]).unwrap_err();
        assert_eq!(denial.field, "spec.kubernetes.kubelet.configurationJSONPatches[1]");
        assert_eq!(denial.reason, "PatchInvalid");
        assert!(denial.message.contains(expected), "{}", denial.message);
    }

    #[test]
    fn a_document_does_not_double_without_end() {
        let bomb: Vec<_> = (0..64).map(|step| from("copy", "", &format!("/{step}"))).collect();
        let denial = patched(bomb).unwrap_err();
        assert!(denial.message.contains("larger or deeper"), "{}", denial.message);
        assert_ne!(denial.field, "spec.kubernetes.kubelet.configurationJSONPatches[0]");
    }

    #[test]
    fn nesting_ends_before_a_stack_does() {
        let deeper = |path: String| patch("add", &path, Some(json!({"a": {"a": {"a": {"a": {}}}}})));
        let patches: Vec<_> = (0..200).map(|step| deeper("/a".repeat(1 + 4 * step))).collect();
        let denial = patched(patches).unwrap_err();
        assert_eq!(denial.field, "spec.kubernetes.kubelet.configurationJSONPatches[7]");
    }

    #[test]
    fn so_many_operations_are_not_begun() {
        let many = vec![patch("remove", "/nothing", None); MOST_OPERATIONS + 1];
        assert_eq!(patched(many).unwrap_err().field, FIELD);
        assert!(patched(vec![patch("remove", "/nothing", None); MOST_OPERATIONS]).is_ok());
    }

    proptest! {
        #[test]
        fn no_patch_panics(op in "add|remove|replace|move|copy|test|x", path in "[/a-z0-9~-]{0,12}", other in "\\PC{0,12}") {
            let operation = JsonPatch { op, path, from: Some(other.clone()), value: Some(json!(other)) };
            let _ = patched(vec![operation]);
        }
    }
}
