//! Labels and annotations that a tenant's namespaces carry.
//!
//! What is kept is a function of the tenant, the namespace's name and those of its labels that are not kept: a label that
//! we write never decides whether we write it. Otherwise a selector such as "has no label x", on an entry that sets x,
//! would turn the label on and off for ever.

use std::{borrow::Cow, collections::BTreeMap};

use api::capsule::{
    names,
    v1beta2::{AllowedList, Metadata, Tenant},
};
use kube_core::ResourceExt;

use crate::{
    pods,
    rules::reach::{self, Reach},
    selector,
};

/// Labels or annotations.
type Map = BTreeMap<String, String>;

/// What is kept on a namespace of the tenant and is remembered in `status.spaces[].metadata`: everything but the two
/// labels that every namespace of a tenant has, which say where it belongs ([`crate::linkage`]).
///
/// `labels` are those that the namespace has now. The label of a frozen tenant is part of the answer.
pub fn managed(tenant: &Tenant, namespace: &str, labels: &Map) -> Metadata {
    let spec = &tenant.spec;
    let name = tenant.name_any();
    let expand = |text: &str| expand(text, &name, namespace).into_owned();
    let mut kept = Metadata::default();
    let options = spec.namespace_options.as_ref();
    if let Some(additional) = options.and_then(|options| options.additional_metadata.as_ref()) {
        kept.labels.extend(
            additional
                .labels
                .iter()
                .map(|(key, value)| (expand(key), expand(value))),
        );
        kept.annotations.extend(
            additional
                .annotations
                .iter()
                .map(|(key, value)| (expand(key), expand(value))),
        );
    }
    if !spec.node_selector.is_empty() {
        kept.annotations.insert(
            names::NODE_SELECTOR_ANNOTATION.into(),
            node_selector(&spec.node_selector),
        );
    }
    let ingress = spec
        .ingress_options
        .as_ref()
        .and_then(|options| options.allowed_classes.as_ref());
    let storage = spec.storage_classes.as_ref();
    let registries = spec.container_registries.as_ref();
    for (list, key, pattern_key) in [
        (
            ingress.map(|list| (&list.allowed, &list.allowed_regex)),
            names::INGRESS_CLASSES_ANNOTATION,
            names::INGRESS_CLASSES_REGEXP_ANNOTATION,
        ),
        (
            storage.map(|list| (&list.allowed, &list.allowed_regex)),
            names::STORAGE_CLASSES_ANNOTATION,
            names::STORAGE_CLASSES_REGEXP_ANNOTATION,
        ),
        (
            registries.map(|AllowedList { allowed, allowed_regex }| (allowed, allowed_regex)),
            names::REGISTRIES_ANNOTATION,
            names::REGISTRIES_REGEXP_ANNOTATION,
        ),
    ] {
        let Some((allowed, pattern)) = list else { continue };
        if !allowed.is_empty() {
            kept.annotations.insert(key.into(), allowed.join(","));
        }
        if !pattern.is_empty() {
            kept.annotations.insert(pattern_key.into(), pattern.clone());
        }
    }
    for key in [
        names::FORBIDDEN_LABELS_ANNOTATION,
        names::FORBIDDEN_LABELS_REGEXP_ANNOTATION,
        names::FORBIDDEN_ANNOTATIONS_ANNOTATION,
        names::FORBIDDEN_ANNOTATIONS_REGEXP_ANNOTATION,
    ] {
        if let Some(value) = tenant.annotations().get(key) {
            kept.annotations.insert(key.into(), value.clone());
        }
    }
    if tenant
        .annotations()
        .keys()
        .any(|key| key.starts_with(names::OBJECT_QUOTA_ANNOTATION_PREFIX))
    {
        kept.labels.insert(names::CUSTOM_RESOURCES_LABEL.into(), "true".into());
    }
    if spec.cordoned {
        kept.labels.insert(names::CORDONED_LABEL.into(), "true".into());
    }

    let list = options
        .map(|options| options.additional_metadata_list.as_slice())
        .unwrap_or_default();
    if !list.is_empty() {
        let mut own = labels.clone();
        own.retain(|key, _| {
            !list
                .iter()
                .any(|entry| entry.labels.keys().any(|kept| expand(kept) == *key))
        });
        own.extend(kept.labels.clone());
        for entry in list
            .iter()
            .filter(|entry| selector::selects(entry.namespace_selector.as_ref(), &own))
        {
            for (key, value) in &entry.labels {
                kept.labels.entry(expand(key)).or_insert_with(|| expand(value));
            }
            for (key, value) in &entry.annotations {
                kept.annotations.entry(expand(key)).or_insert_with(|| expand(value));
            }
        }
    }
    // Where the namespace belongs, and what is asked about, is not for a list of labels to say.
    for key in [names::TENANT_LABEL, names::NAME_LABEL].iter().chain(&ASKED) {
        kept.labels.remove(*key);
    }
    kept.labels.extend(asked(tenant, labels, &kept.labels));
    kept
}

/// The labels that say what we are asked about.
const ASKED: [&str; 4] = [
    pods::VALIDATION_LABEL,
    pods::DEFAULTS_LABEL,
    reach::OBJECT_VALIDATION_LABEL,
    reach::OBJECT_DEFAULTS_LABEL,
];

/// What we are asked about in a namespace that has these labels and gets those that are kept.
fn asked(tenant: &Tenant, labels: &Map, kept: &Map) -> Map {
    let spec = &tenant.spec;
    let reach = if reach::enforces(tenant) {
        let mut labels = labels.clone();
        labels.retain(|key, _| !ASKED.contains(&key.as_str()));
        labels.extend(kept.clone());
        reach::in_namespace(tenant, &labels)
    } else {
        Reach::default()
    };
    let is_asked = [
        pods::is_restrictive(spec) || reach.pods,
        pods::has_defaults(spec) || reach.pod_defaults,
        reach.objects,
        reach.object_defaults,
    ];
    let asked = ASKED.iter().zip(is_asked).filter(|(_, is_asked)| *is_asked);
    asked.map(|(key, _)| ((*key).to_owned(), "true".to_owned())).collect()
}

/// The namespace's labels and annotations as they should be. `before` is what was kept the last time: what is in it and
/// no longer kept is removed. With `managedMetadataOnly` nothing remains but what is kept.
pub fn applied(
    tenant: &Tenant,
    namespace: &str,
    labels: &Map,
    annotations: &Map,
    before: Option<&Metadata>,
) -> Metadata {
    let kept = managed(tenant, namespace, labels);
    let only = tenant
        .spec
        .namespace_options
        .as_ref()
        .is_some_and(|options| options.managed_metadata_only);
    let merge = |now: &Map, kept: Map, before: Option<&Map>| {
        let mut merged = if only { Map::new() } else { now.clone() };
        for key in before.into_iter().flat_map(Map::keys) {
            merged.remove(key);
        }
        merged.extend(kept);
        merged
    };
    let mut wanted = Metadata {
        labels: merge(labels, kept.labels, before.map(|before| &before.labels)),
        annotations: merge(annotations, kept.annotations, before.map(|before| &before.annotations)),
    };
    // Before the API server has made up a name there is none to write down.
    if !namespace.is_empty() {
        wanted.labels.insert(names::NAME_LABEL.into(), namespace.into());
    }
    wanted.labels.insert(names::TENANT_LABEL.into(), tenant.name_any());
    wanted
}

/// As the PodNodeSelector admission plugin reads it: `key=value` pairs, sorted.
pub fn node_selector(selector: &Map) -> String {
    let pairs: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// The templates that keys and values may contain, without the braces.
const TENANT_TEMPLATE: &str = "tenant.name";
const NAMESPACE_TEMPLATE: &str = "namespace";

/// Replaces `{{ tenant.name }}` and `{{ namespace }}`. Other templates were refused at admission; they stay as they are.
fn expand<'a>(text: &'a str, tenant: &str, namespace: &str) -> Cow<'a, str> {
    if !text.contains("{{") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((template, left)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        match template.trim() {
            TENANT_TEMPLATE => out.push_str(tenant),
            NAMESPACE_TEMPLATE => out.push_str(namespace),
            _ => out.extend(["{{", template, "}}"]),
        }
        rest = left;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The first template in a text that is none of the two, if any.
pub(crate) fn unknown_template(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((template, left)) = after.split_once("}}") else {
            return Some(after);
        };
        if ![TENANT_TEMPLATE, NAMESPACE_TEMPLATE].contains(&template.trim()) {
            return Some(template.trim());
        }
        rest = left;
    }
    None
}

/// The text with short stand-ins for its templates, to see whether it is a valid key or value around them.
pub(crate) fn with_stand_ins(text: &str) -> Cow<'_, str> {
    expand(text, "t", "n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use serde_json::json;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_kept_metadata_is_what_users_of_the_peer_know() {
        let oil = tenant("oil").with(json!({
            "containerRegistries": {"allowed": ["docker.io", "registry.k8s.io"]},
            "ingressOptions": {"allowedClasses": {"allowed": ["nginx"]}},
            "storageClasses": {"allowed": ["gold"], "default": "gold"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "namespaceOptions": {"additionalMetadata": {"labels": {"env": "demo"}, "annotations": {"note": "a"}}},
        }));
        let kept = managed(&oil.build(), "oil-one", &Map::new());
        assert_eq!(
            kept.labels,
            map(&[("cotenant.dev/pod-validation", "true"), ("env", "demo")])
        );
        assert_eq!(
            kept.annotations,
            map(&[
                ("capsule.clastix.io/allowed-registries", "docker.io,registry.k8s.io"),
                ("capsule.clastix.io/ingress-classes", "nginx"),
                ("capsule.clastix.io/storage-classes", "gold"),
                ("note", "a"),
                ("scheduler.alpha.kubernetes.io/node-selector", "kubernetes.io/os=linux"),
            ])
        );
    }

    #[test]
    fn patterns_are_kept_beside_their_lists() {
        let oil = tenant("oil")
            .with(json!({"storageClasses": {"allowedRegex": "^g"}}))
            .build();
        let kept = managed(&oil, "oil-one", &Map::new());
        assert_eq!(
            kept.annotations,
            map(&[("capsule.clastix.io/storage-classes-regexp", "^g")])
        );
    }

    #[test]
    fn a_frozen_tenant_freezes_its_namespaces() {
        let kept = managed(
            &tenant("oil").with(json!({"cordoned": true})).build(),
            "oil-one",
            &Map::new(),
        );
        assert_eq!(kept.labels, map(&[("projectcapsule.dev/cordoned", "true")]));
    }

    #[test]
    fn namespaces_of_a_tenant_that_asks_something_of_pods_say_so() {
        let labels = |spec: serde_json::Value| {
            let oil = tenant("oil").with(spec).build();
            managed(&oil, "oil-one", &Map::new()).labels
        };
        assert_eq!(
            labels(json!({"priorityClasses": {"allowed": ["low"]}})),
            map(&[("cotenant.dev/pod-validation", "true")])
        );
        assert_eq!(
            labels(json!({"runtimeClasses": {"default": "kata"}, "namespaceOptions": {
                "additionalMetadata": {"labels": {"cotenant.dev/pod-validation": "false"}}}})),
            map(&[
                ("cotenant.dev/pod-defaults", "true"),
                ("cotenant.dev/pod-validation", "true")
            ])
        );
    }

    #[test]
    fn annotations_about_forbidden_keys_and_object_quotas_are_passed_on() {
        let oil = tenant("oil")
            .annotation("capsule.clastix.io/forbidden-namespace-labels", "a,b")
            .annotation("quota.resources.capsule.clastix.io/foos.example.com_v1", "3")
            .annotation("other", "x")
            .build();
        let kept = managed(&oil, "oil-one", &Map::new());
        assert_eq!(
            kept.annotations,
            map(&[("capsule.clastix.io/forbidden-namespace-labels", "a,b")])
        );
        assert_eq!(kept.labels, map(&[("projectcapsule.dev/custom-resources", "true")]));
    }

    #[test]
    fn of_entries_with_the_same_key_the_first_selected_one_wins() {
        let oil = tenant("oil").with(json!({"namespaceOptions": {
            "additionalMetadata": {"labels": {"a": "always"}},
            "additionalMetadataList": [
                {"namespaceSelector": {"matchLabels": {"env": "prod"}}, "labels": {"b": "prod", "a": "late"}},
                {"labels": {"b": "any", "{{ tenant.name }}-c": "{{namespace}}"}},
            ],
        }}));
        let oil = oil.build();
        let prod = managed(&oil, "oil-one", &map(&[("env", "prod")]));
        assert_eq!(
            prod.labels,
            map(&[("a", "always"), ("b", "prod"), ("oil-c", "oil-one")])
        );
        let other = managed(&oil, "oil-two", &Map::new());
        assert_eq!(
            other.labels,
            map(&[("a", "always"), ("b", "any"), ("oil-c", "oil-two")])
        );
    }

    #[test]
    fn a_label_does_not_decide_about_itself() {
        let oil = tenant("oil").with(json!({"namespaceOptions": {"additionalMetadataList": [
            {"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, "labels": {"x": "1"}},
        ]}}));
        let oil = oil.build();
        let first = applied(&oil, "oil-one", &Map::new(), &Map::new(), None);
        let kept = managed(&oil, "oil-one", &Map::new());
        let second = applied(&oil, "oil-one", &first.labels, &first.annotations, Some(&kept));
        assert_eq!(first, second);
        assert_eq!(second.labels.get("x").map(String::as_str), Some("1"));
    }

    #[test]
    fn no_list_of_labels_moves_a_namespace() {
        let oil = tenant("oil").with(json!({"namespaceOptions": {"additionalMetadata": {
            "labels": {"capsule.clastix.io/tenant": "gas", "kubernetes.io/metadata.name": "kube-system"},
        }}}));
        let wanted = applied(&oil.build(), "oil-one", &Map::new(), &Map::new(), None);
        assert_eq!(
            wanted.labels,
            map(&[
                ("capsule.clastix.io/tenant", "oil"),
                ("kubernetes.io/metadata.name", "oil-one")
            ])
        );
    }

    #[test]
    fn what_was_kept_and_no_longer_is_goes_and_what_others_wrote_stays() {
        let before = Metadata {
            labels: map(&[("env", "demo"), ("old", "1")]),
            annotations: map(&[("note", "a")]),
        };
        let oil = tenant("oil").with(json!({"namespaceOptions": {"additionalMetadata": {"labels": {"env": "prod"}}}}));
        let wanted = applied(
            &oil.build(),
            "oil-one",
            &map(&[("env", "demo"), ("old", "1"), ("mine", "x")]),
            &map(&[("note", "a"), ("other", "y")]),
            Some(&before),
        );
        assert_eq!(
            wanted.labels,
            map(&[
                ("capsule.clastix.io/tenant", "oil"),
                ("env", "prod"),
                ("kubernetes.io/metadata.name", "oil-one"),
                ("mine", "x"),
            ])
        );
        assert_eq!(wanted.annotations, map(&[("other", "y")]));
    }

    #[test]
    fn with_managed_metadata_only_nothing_else_remains() {
        let oil = tenant("oil")
            .with(json!({"namespaceOptions": {"managedMetadataOnly": true}}))
            .build();
        let wanted = applied(&oil, "oil-one", &map(&[("mine", "x")]), &map(&[("other", "y")]), None);
        assert_eq!(
            wanted.labels,
            map(&[
                ("capsule.clastix.io/tenant", "oil"),
                ("kubernetes.io/metadata.name", "oil-one")
            ])
        );
        assert!(wanted.annotations.is_empty());
    }

    #[test]
    fn templates_are_replaced_wherever_they_are() {
        assert_eq!(expand("{{tenant.name}}-{{ namespace }}", "oil", "one"), "oil-one");
        assert_eq!(expand("a{{ other }}b{{namespace}}", "oil", "one"), "a{{ other }}bone");
        assert_eq!(expand("{{namespace", "oil", "one"), "{{namespace");
        assert_eq!(unknown_template("{{ tenant.name }}{{ env }}"), Some("env"));
        assert_eq!(unknown_template("{{ namespace"), Some(" namespace"));
        assert_eq!(unknown_template("{{namespace}}"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z{} .]{0,30}") {
            expand(&text, "oil", "one");
            unknown_template(&text);
        }
    }
}
