//! What a CapsuleConfiguration may say.

use api::capsule::v1beta2::{AdmissionClient, CapsuleConfiguration, CapsuleConfigurationSpec, ForbiddenList, UserKind};

use crate::{
    denial::{Decision, Denial},
    not_yet,
    pattern::Pattern,
    replication::{endpoint, resync},
    tenant_admission::check_subject,
};

/// Refuses a configuration that could not be used as it is written.
pub fn validate(configuration: &CapsuleConfiguration) -> Decision<CapsuleConfiguration> {
    check(&configuration.spec).into()
}

fn check(spec: &CapsuleConfigurationSpec) -> Result<Vec<String>, Denial> {
    for (list, users) in [("users", &spec.users), ("administrators", &spec.administrators)] {
        for (index, user) in users.iter().enumerate() {
            check_subject(&format!("spec.{list}[{index}].name"), user.kind, &user.name)?;
        }
    }
    for (index, name) in spec.user_names.iter().enumerate() {
        let is_account = name.starts_with("system:serviceaccount:");
        let kind = if is_account {
            UserKind::ServiceAccount
        } else {
            UserKind::User
        };
        check_subject(&format!("spec.userNames[{index}]"), kind, name)?;
    }
    check_pattern("spec.protectedNamespaceRegex", &spec.protected_namespace_regex)?;
    let nodes = spec.node_metadata.as_ref();
    let pattern = |list: Option<&ForbiddenList>| list.map(|list| list.denied_regex.clone()).unwrap_or_default();
    check_pattern(
        "spec.nodeMetadata.forbiddenLabels.deniedRegex",
        &pattern(nodes.and_then(|nodes| nodes.forbidden_labels.as_ref())),
    )?;
    check_pattern(
        "spec.nodeMetadata.forbiddenAnnotations.deniedRegex",
        &pattern(nodes.and_then(|nodes| nodes.forbidden_annotations.as_ref())),
    )?;
    if let Some(impersonation) = &spec.impersonation {
        let (name, namespace) = (
            &impersonation.global_default_service_account,
            &impersonation.global_default_service_account_namespace,
        );
        if name.is_empty() != namespace.is_empty() {
            let field = "spec.impersonation.globalDefaultServiceAccount";
            let message = format!("{field}: set it together with globalDefaultServiceAccountNamespace, or neither");
            return Err(Denial::new(field, "ConfigurationInvalid", message));
        }
        endpoint::of(impersonation).map_err(|(field, message)| Denial::new(field, "ConfigurationInvalid", message))?;
    }
    if resync::parse(&spec.cache_invalidation).is_none() {
        let (field, given) = ("spec.cacheInvalidation", &spec.cache_invalidation);
        let message = format!("{field}: {given:?} is no duration, like 30m or 24h");
        return Err(Denial::new(field, "ConfigurationInvalid", message));
    }
    if let Some(admission) = &spec.admission {
        let mutating = admission
            .mutating
            .as_ref()
            .map(|mutating| ("mutating", &mutating.client));
        let validating = admission
            .validating
            .as_ref()
            .map(|validating| ("validating", &validating.client));
        for (part, client) in mutating.into_iter().chain(validating) {
            check_client(&format!("spec.admission.{part}.client"), client)?;
        }
    }
    let mut warnings = not_yet::warnings(not_yet::CONFIGURATION, spec);
    warnings.extend(spec.impersonation.iter().flat_map(endpoint::warnings));
    for (field, is_used) in [
        ("spec.userNames", !spec.user_names.is_empty()),
        ("spec.userGroups", !spec.user_groups.is_empty()),
    ] {
        if is_used {
            warnings.push(format!(
                "{field}: deprecated; it works, and spec.users is to replace it"
            ));
        }
    }
    Ok(warnings)
}

fn check_pattern(field: &str, pattern: &str) -> Result<(), Denial> {
    let Err(error) = Pattern::new(pattern) else {
        return Ok(());
    };
    let message = format!(
        "{field}: unable to compile regex {pattern:?}: {error}; it has to be a regular expression in RE2 syntax"
    );
    Err(Denial::new(field, "PatternInvalid", message))
}

fn check_client(field: &str, client: &AdmissionClient) -> Result<(), Denial> {
    let refuse =
        |field: &str, detail: &str| Err(Denial::new(field, "ConfigurationInvalid", format!("{field}: {detail}")));
    if client.url.is_some() == client.service.is_some() {
        return refuse(field, "client must configure exactly one of url or service");
    }
    if let Some(url) = &client.url
        && !url.starts_with("https://")
    {
        return refuse(
            &format!("{field}.url"),
            &format!("{url:?} has to begin with https://, as API servers require it"),
        );
    }
    match &client.service {
        Some(service) if service.name.is_empty() || service.namespace.is_empty() => {
            refuse(&format!("{field}.service"), "the Service needs name and namespace")
        }
        Some(service) if service.port.is_some_and(|port| !(1..=65535).contains(&port)) => {
            refuse(&format!("{field}.service.port"), "a port is between 1 and 65535")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn decision(spec: Value) -> Decision<CapsuleConfiguration> {
        let spec = serde_json::from_value(spec).unwrap();
        validate(&CapsuleConfiguration::new("default", spec))
    }

    #[rstest]
    #[case(json!({"protectedNamespaceRegex": "("}), "spec.protectedNamespaceRegex")]
    #[case(json!({"nodeMetadata": {"forbiddenLabels": {"deniedRegex": "["}}}), "spec.nodeMetadata.forbiddenLabels.deniedRegex")]
    #[case(json!({"users": [{"kind": "ServiceAccount", "name": "robot"}]}), "spec.users[0].name")]
    #[case(json!({"administrators": [{"kind": "Group", "name": ""}]}), "spec.administrators[0].name")]
    #[case(json!({"userNames": ["system:serviceaccount:a"]}), "spec.userNames[0]")]
    #[case(json!({"impersonation": {"endpoint": "http://api:6443"}}), "spec.impersonation.endpoint")]
    #[case(json!({"cacheInvalidation": "daily"}), "spec.cacheInvalidation")]
    #[case(json!({"cacheInvalidation": "-1h"}), "spec.cacheInvalidation")]
    #[case(json!({"impersonation": {"globalDefaultServiceAccount": "a"}}), "spec.impersonation.globalDefaultServiceAccount")]
    #[case(json!({"admission": {"mutating": {"client": {}}}}), "spec.admission.mutating.client")]
    #[case(json!({"admission": {"validating": {"client": {"url": "http://a"}}}}), "spec.admission.validating.client.url")]
    #[case(
        json!({"admission": {"validating": {"client": {"service": {"name": "a", "namespace": ""}}}}}),
        "spec.admission.validating.client.service"
    )]
    fn what_cannot_be_used_is_refused(#[case] spec: Value, #[case] field: &str) {
        assert_eq!(decision(spec).denial().map(|denial| denial.field.as_str()), Some(field));
    }

    #[test]
    fn what_can_be_used_passes() {
        let spec = json!({
            "users": [{"kind": "Group", "name": "projectcapsule.dev"}],
            "enableTLSReconciler": true,
            "protectedNamespaceRegex": "^kube-",
            "admission": {"mutating": {"client": {"service": {"name": "a", "namespace": "b", "port": 443}}}},
        });
        assert_eq!(decision(spec), Decision::Allow);
        let Decision::Warn(warnings) = decision(json!({"userGroups": ["a"], "enableTLSReconciler": true})) else {
            panic!("a warning")
        };
        assert_eq!(
            warnings,
            ["spec.userGroups: deprecated; it works, and spec.users is to replace it"]
        );
    }
}
