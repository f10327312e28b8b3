//! Labels and annotations that a tenant's namespaces are to get, and the labels of the nodes that its pods are to run on.

use std::collections::BTreeMap;

use api::capsule::{
    names,
    v1beta2::{Metadata, TenantSpec},
};

use crate::{
    denial::Denial,
    metadata,
    name::{is_label_value, is_qualified_name},
};

pub(super) fn check_additional_metadata(spec: &TenantSpec) -> Result<(), Denial> {
    let Some(options) = &spec.namespace_options else {
        return Ok(());
    };
    let field = "spec.namespaceOptions.additionalMetadata";
    if let Some(Metadata { labels, annotations }) = &options.additional_metadata {
        check_metadata(field, labels, annotations)?;
    }
    for (index, entry) in options.additional_metadata_list.iter().enumerate() {
        check_metadata(&format!("{field}List[{index}]"), &entry.labels, &entry.annotations)?;
    }
    Ok(())
}

/// What Pods and Services are to get. Nothing is expanded in it.
pub(super) fn check_object_metadata(spec: &TenantSpec) -> Result<(), Denial> {
    let pods = spec.pod_options.as_ref().map(|options| &options.additional_metadata);
    let services = spec
        .service_options
        .as_ref()
        .map(|options| &options.additional_metadata);
    for (options, metadata) in [("podOptions", pods), ("serviceOptions", services)] {
        let Some(Some(Metadata { labels, annotations })) = metadata else {
            continue;
        };
        for (part, map) in [("labels", labels), ("annotations", annotations)] {
            for (key, value) in map {
                let what = if !is_qualified_name(key) {
                    format!("{key:?} is not the key of a label or annotation")
                } else if part == "labels" && !is_label_value(value) {
                    format!("{value:?} is not the value of a label")
                } else {
                    continue;
                };
                let field = format!("spec.{options}.additionalMetadata.{part}[{key}]");
                let message = format!("{field}: {what}");
                return Err(Denial::new(field, "ForbiddenMetadata", message));
            }
        }
    }
    Ok(())
}

fn check_metadata(
    field: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<(), Denial> {
    let refuse = |field: String, detail: String| {
        let message = format!("{field}: {detail}");
        Err(Denial::new(field, "ForbiddenMetadata", message))
    };
    for (part, map) in [("labels", labels), ("annotations", annotations)] {
        for (key, value) in map {
            let field = format!("{field}.{part}[{key}]");
            if let Some(template) = metadata::unknown_template(key).or_else(|| metadata::unknown_template(value)) {
                let detail =
                    format!("{template:?} is not a template; known are {{{{ tenant.name }}}} and {{{{ namespace }}}}");
                return refuse(field, detail);
            }
            if !is_qualified_name(&metadata::with_stand_ins(key)) {
                return refuse(field, format!("{key:?} is not the key of a label or annotation"));
            }
            if part == "labels" && !is_label_value(&metadata::with_stand_ins(value)) {
                return refuse(field, format!("{value:?} is not the value of a label"));
            }
            if [names::TENANT_LABEL, names::NAME_LABEL].contains(&key.as_str()) {
                return refuse(
                    field,
                    "it says where a namespace belongs and is kept by the operator; leave it out".into(),
                );
            }
        }
    }
    Ok(())
}

pub(super) fn check_node_selector(spec: &TenantSpec) -> Result<(), Denial> {
    for (key, value) in &spec.node_selector {
        if !is_qualified_name(key) || !is_label_value(value) {
            let field = format!("spec.nodeSelector[{key}]");
            let message = format!("{field}: {key:?}={value:?} is not a label that a Node can have");
            return Err(Denial::new(field, "NodeSelectorInvalid", message));
        }
    }
    Ok(())
}
