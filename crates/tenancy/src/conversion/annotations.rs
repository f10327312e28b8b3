//! Fields of `v1beta2` that are annotations in `v1beta1`, each with a key of its own.

use std::collections::BTreeMap;

use api::capsule::{names, v1beta1, v1beta2};

pub(super) type Annotations = BTreeMap<String, String>;

/// Whether an annotation of `v1beta1` is a field in `v1beta2`, and no annotation any more.
///
/// ClusterRoles under an owner's name are: they were written by a person, who would look for them.
pub(super) fn is_taken_in(key: &str) -> bool {
    matches!(
        key,
        names::CARRIED_ANNOTATION
            | names::DENY_WILDCARD_ANNOTATION
            | names::CORDON_ANNOTATION
            | names::PROTECTED_ANNOTATION
            | names::FORBIDDEN_LABELS_ANNOTATION
            | names::FORBIDDEN_LABELS_REGEXP_ANNOTATION
            | names::FORBIDDEN_ANNOTATIONS_ANNOTATION
            | names::FORBIDDEN_ANNOTATIONS_REGEXP_ANNOTATION
    ) || position(key).is_some()
}

/// Bytes, as the API server counts them.
pub(super) fn size(annotations: &Annotations) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Makes annotations of fields. Annotations under the same keys go: they would be taken for fields.
pub(super) fn show(spec: &v1beta2::TenantSpec, annotations: &mut Annotations) {
    annotations.retain(|key, _| !is_taken_in(key));
    let wildcards = spec
        .ingress_options
        .as_ref()
        .is_some_and(|options| options.allow_wildcard_hostnames);
    annotations.insert(names::DENY_WILDCARD_ANNOTATION.into(), (!wildcards).to_string());
    if spec.cordoned {
        annotations.insert(names::CORDON_ANNOTATION.into(), "true".into());
    }
    if spec.prevent_deletion {
        annotations.insert(names::PROTECTED_ANNOTATION.into(), "true".into());
    }
    let options = spec.namespace_options.as_ref();
    LABELS.show(
        options.and_then(|options| options.forbidden_labels.as_ref()),
        annotations,
    );
    ANNOTATIONS.show(
        options.and_then(|options| options.forbidden_annotations.as_ref()),
        annotations,
    );
    for (index, owner) in spec.owners.iter().enumerate() {
        let roles = joined(&owner.core.cluster_roles);
        // The author's own spelling stays as long as it says the same.
        for (_, text) in annotations
            .iter_mut()
            .filter(|(key, text)| is_named(key, &owner.core.user) && list(text) != list(&roles))
        {
            text.clone_from(&roles);
        }
        annotations.insert(format!("{}{index}", names::CLUSTER_ROLES_ANNOTATION_PREFIX), roles);
    }
}

/// Makes fields of annotations. The lists of forbidden keys in `spec` are those that were carried.
pub(super) fn take_in(annotations: &Annotations, spec: &mut v1beta2::TenantSpec) {
    let value = |key| annotations.get(key).map(String::as_str);
    spec.cordoned = value(names::CORDON_ANNOTATION).is_some_and(is_true);
    spec.prevent_deletion = value(names::PROTECTED_ANNOTATION).is_some();
    if value(names::DENY_WILDCARD_ANNOTATION).is_some_and(is_false) {
        spec.ingress_options.get_or_insert_default().allow_wildcard_hostnames = true;
    }
    let carried = spec.namespace_options.as_mut();
    let (labels, keys) = carried.map_or((None, None), |options| {
        (options.forbidden_labels.take(), options.forbidden_annotations.take())
    });
    let labels = LABELS.said(annotations, labels);
    let keys = ANNOTATIONS.said(annotations, keys);
    if labels.is_some() || keys.is_some() {
        let options = spec.namespace_options.get_or_insert_default();
        options.forbidden_labels = labels;
        options.forbidden_annotations = keys;
    }
}

/// As Go reads them. What is neither true nor false is refused nowhere and means what an absent annotation means.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

fn is_false(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "FALSE" | "false" | "False")
}

/// The two annotations of a list of forbidden keys.
struct ForbiddenKeys {
    denied: &'static str,
    pattern: &'static str,
}

const LABELS: ForbiddenKeys = ForbiddenKeys {
    denied: names::FORBIDDEN_LABELS_ANNOTATION,
    pattern: names::FORBIDDEN_LABELS_REGEXP_ANNOTATION,
};

const ANNOTATIONS: ForbiddenKeys = ForbiddenKeys {
    denied: names::FORBIDDEN_ANNOTATIONS_ANNOTATION,
    pattern: names::FORBIDDEN_ANNOTATIONS_REGEXP_ANNOTATION,
};

impl ForbiddenKeys {
    fn show(&self, forbidden: Option<&v1beta2::ForbiddenList>, annotations: &mut Annotations) {
        let Some(forbidden) = forbidden else { return };
        if !forbidden.denied.is_empty() {
            annotations.insert(self.denied.into(), joined(&forbidden.denied));
        }
        if !forbidden.denied_regex.is_empty() {
            annotations.insert(self.pattern.into(), forbidden.denied_regex.clone());
        }
    }

    fn said(
        &self,
        annotations: &Annotations,
        carried: Option<v1beta2::ForbiddenList>,
    ) -> Option<v1beta2::ForbiddenList> {
        let mut shown = Annotations::new();
        self.show(carried.as_ref(), &mut shown);
        let value = |key: &str| annotations.get(key);
        if value(self.denied) == shown.get(self.denied) && value(self.pattern) == shown.get(self.pattern) {
            return carried;
        }
        let said = v1beta2::ForbiddenList {
            denied: value(self.denied).map(|text| list(text)).unwrap_or_default(),
            denied_regex: value(self.pattern).cloned().unwrap_or_default(),
        };
        (said != v1beta2::ForbiddenList::default()).then_some(said)
    }
}

/// The ClusterRoles of the owners in a Tenant of `v1beta1`.
///
/// Its annotations name owners by position, and positions shift when an owner comes or goes. So an owner who is known
/// from what was carried keeps its roles until an annotation says something else than it did when it was shown.
pub(super) struct Roles<'a> {
    annotations: &'a Annotations,
    owners: &'a [v1beta1::Owner],
    /// The owners as they were shown. Empty if nothing was carried about them.
    known: &'a [v1beta2::Owner],
    /// Whether the annotations by position speak of the owners as they are, not as they were shown.
    by_position: bool,
}

impl<'a> Roles<'a> {
    pub(super) fn new(annotations: &'a Annotations, owners: &'a [v1beta1::Owner], known: &'a [v1beta2::Owner]) -> Self {
        let said = annotations.iter();
        let said: BTreeMap<_, _> = said
            .filter_map(|(key, text)| Some((position(key)?, text.clone())))
            .collect();
        let shown = known.iter().enumerate();
        let shown: BTreeMap<_, _> = shown
            .map(|(index, owner)| (index, joined(&owner.core.cluster_roles)))
            .collect();
        Self {
            annotations,
            owners,
            known,
            by_position: known.is_empty() || said != shown,
        }
    }

    /// The owner at a position as it was shown.
    pub(super) fn known(&self, index: usize, user: &v1beta2::UserSpec) -> Option<&'a v1beta2::Owner> {
        let here = self.known.get(index).filter(|owner| owner.core.user == *user);
        here.or_else(|| self.known.iter().find(|owner| owner.core.user == *user))
    }

    /// The ClusterRoles of the owner at a position.
    pub(super) fn of(&self, index: usize, user: &v1beta2::UserSpec) -> Vec<String> {
        let known = self.known(index, user).map(|owner| &owner.core.cluster_roles);
        let is_news = |text: &str| known.is_none_or(|roles| list(text) != list(&joined(roles)));
        if let Some(text) = self.by_name(user).filter(|text| is_news(text)) {
            return list(text);
        }
        if !self.by_position {
            return known.cloned().unwrap_or_else(default_roles);
        }
        let key = format!("{}{index}", names::CLUSTER_ROLES_ANNOTATION_PREFIX);
        match (self.annotations.get(&key), known) {
            (None, _) => default_roles(),
            (Some(text), Some(roles)) if !is_news(text) => roles.clone(),
            (Some(text), _) => list(text),
        }
    }

    /// What an annotation under the owner's name says, unless two owners share the name in lower case.
    fn by_name(&self, user: &v1beta2::UserSpec) -> Option<&'a str> {
        let (key, text) = self.annotations.iter().find(|(key, _)| is_named(key, user))?;
        let is_shared = |owner: &&v1beta1::Owner| owner.user != *user && is_named(key, &owner.user);
        match self.owners.iter().find(is_shared) {
            Some(_) => None,
            None => Some(text),
        }
    }
}

fn default_roles() -> Vec<String> {
    names::DEFAULT_OWNER_CLUSTER_ROLES.map(str::to_owned).to_vec()
}

/// The position that an annotation of ClusterRoles names.
fn position(key: &str) -> Option<usize> {
    let position = key.strip_prefix(names::CLUSTER_ROLES_ANNOTATION_PREFIX)?;
    position.parse().ok()
}

/// Whether an annotation is of ClusterRoles under this name. Keys cannot have an `@`, so `__AT__` stands for it.
fn is_named(key: &str, user: &v1beta2::UserSpec) -> bool {
    let name = key.strip_prefix(names::CLUSTER_ROLES_ANNOTATION_PREFIX);
    name.is_some_and(|name| name.replace("__AT__", "@") == format!("{}.{}", user.kind, user.name).to_lowercase())
}

fn joined(values: &[String]) -> String {
    values.join(",")
}

fn list(text: &str) -> Vec<String> {
    let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
    values.map(str::to_owned).collect()
}
