//! Metadata rules: kinds that exist, and keys and values that labels and annotations can have.

use api::capsule::v1beta2::{MetadataRule, MetadataValueRule};

use super::{Checker, Scope, has_template};
use crate::{
    name::is_label_value,
    rules::{
        body::DEFAULT_API_GROUP,
        finding::quoted,
        matching::{is_literal_key, key_pattern},
    },
};

/// The core group's kinds of objects in namespaces, and Namespaces. It gets no more: new kinds are in groups with a name.
const CORE_KINDS: [&str; 13] = [
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "Namespace",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "Service",
    "ServiceAccount",
];

impl Checker<'_> {
    pub(super) fn metadata(&mut self, at: &str, policy: &MetadataRule) {
        if policy.labels.is_empty() && policy.annotations.is_empty() {
            self.fault(at, "at least one of labels or annotations must be set");
        }
        if policy.kinds.is_empty() {
            self.fault(
                format!("{at}.kinds"),
                "it is empty: name the kinds of object, or * for all",
            );
        }
        self.kinds(at, policy);
        for (key, rule) in &policy.labels {
            self.key(&format!("{at}.labels[{key:?}]"), policy, key, rule);
            for (name, value) in [("default", &rule.default), ("managed", &rule.managed)] {
                if let Some(value) = value
                    && !has_template(value)
                    && !is_label_value(value)
                {
                    let field = format!("{at}.labels[{key:?}].{name}");
                    self.fault(
                        field,
                        format!(
                            "{} is not the value of a label: at most 63 letters, digits, '-', '_' and '.', beginning and \
                             ending with a letter or digit",
                            quoted(value)
                        ),
                    );
                }
            }
        }
        for (key, rule) in &policy.annotations {
            self.key(&format!("{at}.annotations[{key:?}]"), policy, key, rule);
        }
    }

    fn key(&mut self, at: &str, policy: &MetadataRule, key: &str, rule: &MetadataValueRule) {
        self.expressions(&format!("{at}.values"), &rule.values);
        if has_template(key) {
            return;
        }
        let is_literal = is_literal_key(key);
        if key.is_empty() {
            self.fault(at, "the key is empty");
        } else if !is_literal {
            self.pattern(at, key, &key_pattern(key));
        }
        for (name, value) in [("default", &rule.default), ("managed", &rule.managed)] {
            if value.is_some() && !is_literal {
                self.fault(
                    format!("{at}.{name}"),
                    format!(
                        "{} stands for many keys, and only one can be set: write the key in full",
                        quoted(key)
                    ),
                );
            }
        }
        let is_glob = |list: &[String]| list.iter().any(|item| item.contains('*'));
        if rule.managed.is_some() && (is_glob(&policy.kinds) || is_glob(&policy.api_groups)) {
            self.fault(
                format!("{at}.managed"),
                "a managed value is kept on objects of certain kinds: write kinds and apiGroups without *",
            );
        }
    }

    /// A kind has to exist in one of the groups. Where a group or kind is a glob, nothing can be said; without discovery
    /// something of the core group alone.
    fn kinds(&mut self, at: &str, policy: &MetadataRule) {
        let is_open = |text: &String| text.contains('*') || has_template(text);
        for (index, kind) in policy.kinds.iter().enumerate() {
            let field = format!("{at}.kinds[{index}]");
            if kind.is_empty() {
                self.fault(field, "it is empty: name a kind of object");
                continue;
            }
            if kind.contains('/') && !has_template(kind) {
                self.fault(field, "no kind has a / in it: write its group in apiGroups");
                continue;
            }
            if is_open(kind) || policy.api_groups.iter().any(is_open) {
                continue;
            }
            let core = [DEFAULT_API_GROUP.to_owned()];
            let groups = match policy.api_groups.as_slice() {
                [] => &core,
                groups => groups,
            };
            let Some(discovery) = self.discovery else {
                if *groups == core && !CORE_KINDS.contains(&kind.as_str()) {
                    let message = format!(
                        "the core group, which is meant where apiGroups names no other, has no kind {} in namespaces: write the \
                         kind's group in apiGroups, such as apps for Deployment",
                        quoted(kind)
                    );
                    self.fault(field, message);
                }
                continue;
            };
            let scopes: Vec<_> = groups.iter().filter_map(|group| discovery(group, kind)).collect();
            if scopes.is_empty() {
                let groups = groups.join(", ");
                self.fault(field, format!("the cluster has no kind {} in {groups}", quoted(kind)));
            } else if kind != "Namespace" && !scopes.contains(&Scope::Namespaced) {
                self.fault(
                    field,
                    format!("objects of kind {kind:?} are not in namespaces, so no rule of a tenant reaches them"),
                );
            }
        }
    }
}
