//! Which requests custom quotas are about, as far as a webhook registration can say it. There is one registration for all of
//! them, for the reason that [`crate::quota::global`] has: too much here costs a call, too little lets something pass
//! uncounted.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuotaSource, VersionKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{measure::is_version, scale::Scaled};
use crate::{name::is_dns_subdomain, quota::global::reach::common};

/// The label that says a namespace's name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// More namespaces than this are not listed: the registration is in the memory of every API server.
const NAMESPACES: usize = 64;
/// With more kinds than this, all are asked about.
const KINDS: usize = 64;
/// No kind has a longer name.
const KIND_LENGTH: usize = 63;

/// Kinds as sources name them. `*` is any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kinds {
    /// Empty for the core.
    pub group: String,
    /// `v1` and the like.
    pub version: String,
    /// The kind.
    pub kind: String,
}

impl Kinds {
    /// What a source is about; `None` if no kind can have such a name.
    pub fn of(source: &VersionKind) -> Option<Self> {
        let (group, version) = match source.api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None => match source.api_version.as_str() {
                "*" => ("*", "*"),
                "" => ("", "v1"),
                version if is_version(version) => ("", version),
                group => (group, "*"),
            },
        };
        let is_kind = !source.kind.is_empty()
            && source.kind.len() <= KIND_LENGTH
            && source.kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let is_there = (group.is_empty() || group == "*" || is_dns_subdomain(group))
            && (version == "*" || is_dns_subdomain(version))
            && (source.kind == "*" || is_kind);
        is_there.then(|| Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: source.kind.clone(),
        })
    }

    fn any() -> Self {
        let any = || "*".to_owned();
        Self {
            group: any(),
            version: any(),
            kind: any(),
        }
    }
}

/// Where a kind is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Wherever [`Reach::namespaces`] says.
    Everywhere,
    /// In these namespaces.
    In(BTreeSet<String>),
}

/// What quotas are about, all of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// What one of them counts.
    pub kinds: BTreeMap<Kinds, Asked>,
    /// What the labels of all namespaces have that one of them is about.
    pub namespaces: LabelSelector,
    /// Whether one may be about objects without a namespace.
    pub is_cluster_wide: bool,
    /// Whether one may read a status.
    pub reads_status: bool,
    /// Kinds whose scale one of them counts.
    pub scales: BTreeMap<Scaled, Asked>,
}

/// What these quotas are about. `None` if nothing is counted.
pub fn reach<'a>(
    namespaced: impl IntoIterator<Item = &'a CustomQuota>,
    global: impl IntoIterator<Item = &'a GlobalCustomQuota>,
) -> Option<Reach> {
    let (mut kinds, mut scales) = (BTreeMap::new(), BTreeMap::new());
    let (mut selectors, mut is_cluster_wide, mut reads_status) = (Vec::new(), false, false);
    for quota in namespaced {
        let namespace = quota.metadata.namespace.clone().unwrap_or_default();
        for (source, kind) in named_kinds(&quota.spec.sources) {
            for scaled in Scaled::read_by(source, &kind) {
                ask_in(scales.entry(scaled), &namespace);
            }
            ask_in(kinds.entry(kind), &namespace);
        }
        reads_status |= quota.spec.sources.iter().any(says_status);
        selectors.push(named(namespace));
    }
    for quota in global {
        for (source, kind) in named_kinds(&quota.spec.sources) {
            for scaled in Scaled::read_by(source, &kind) {
                scales.insert(scaled, Asked::Everywhere);
            }
            kinds.insert(kind, Asked::Everywhere);
        }
        reads_status |= quota.spec.sources.iter().any(says_status);
        is_cluster_wide = true;
        match quota.spec.namespace_selectors.as_slice() {
            [] => selectors.push(LabelSelector::default()),
            own => selectors.extend(own.iter().cloned()),
        }
    }
    for asked in kinds.values_mut().chain(scales.values_mut()) {
        if matches!(asked, Asked::In(namespaces) if namespaces.len() > NAMESPACES) {
            *asked = Asked::Everywhere;
        }
    }
    if kinds.len() > KINDS {
        kinds = BTreeMap::from([(Kinds::any(), Asked::Everywhere)]);
    }
    let selectors: Vec<&LabelSelector> = selectors.iter().collect();
    let common = common(&selectors);
    (!kinds.is_empty()).then(|| Reach {
        kinds,
        namespaces: LabelSelector {
            match_expressions: (!common.is_empty()).then_some(common),
            match_labels: None,
        },
        is_cluster_wide,
        reads_status,
        scales,
    })
}

fn named_kinds(sources: &[QuotaSource]) -> impl Iterator<Item = (&QuotaSource, Kinds)> {
    sources
        .iter()
        .filter_map(|source| Some((source, Kinds::of(&source.kind)?)))
}

/// One namespace more.
fn ask_in<K: Ord>(entry: Entry<'_, K, Asked>, namespace: &str) {
    if let Asked::In(namespaces) = entry.or_insert_with(|| Asked::In(BTreeSet::new())) {
        namespaces.insert(namespace.to_owned());
    }
}

fn named(namespace: String) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: NAME_LABEL.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![namespace]),
        }]),
        match_labels: None,
    }
}

fn says_status(source: &QuotaSource) -> bool {
    says(source, "status")
}

/// Whether an expression has the word in it. One that puts the word together sees what it means when it is counted.
pub(super) fn says(source: &QuotaSource, word: &str) -> bool {
    let selectors = source.selectors.iter();
    let more = selectors.flat_map(|selector| selector.field_selectors.iter().chain(&selector.cel_expressions));
    [&source.path, &source.cel]
        .into_iter()
        .chain(more)
        .any(|text| text.contains(word))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn namespaced(namespace: &str, sources: Value) -> CustomQuota {
        serde_json::from_value(json!({"metadata": {"name": "q", "namespace": namespace},
            "spec": {"limit": "1", "sources": sources}}))
        .unwrap()
    }

    fn global(selectors: Value, sources: Value) -> GlobalCustomQuota {
        serde_json::from_value(json!({"metadata": {"name": "q"},
            "spec": {"limit": "1", "sources": sources, "namespaceSelectors": selectors}}))
        .unwrap()
    }

    fn source(api_version: &str, kind: &str) -> Value {
        json!([{"apiVersion": api_version, "kind": kind, "op": "count"}])
    }

    fn words(reach: &Reach) -> Vec<String> {
        let asked = |asked: &Asked| match asked {
            Asked::Everywhere => "everywhere".to_owned(),
            Asked::In(namespaces) => namespaces.iter().cloned().collect::<Vec<_>>().join(","),
        };
        let kinds = reach.kinds.iter();
        kinds
            .map(|(of, place)| format!("{}/{}/{} {}", of.group, of.version, of.kind, asked(place)))
            .collect()
    }

    #[test]
    fn without_quotas_nothing_is_asked() {
        assert_eq!(reach([], []), None);
        assert_eq!(reach(&[namespaced("a", source("a b", "Pod"))], []), None);
    }

    #[test]
    fn quotas_of_namespaces_are_about_these() {
        let quotas = [
            namespaced("a", source("v1", "Pod")),
            namespaced("b", source("v1", "Pod")),
            namespaced("b", source("apps", "Deployment")),
        ];
        let reach = reach(&quotas, []).unwrap();
        assert_eq!(words(&reach), ["/v1/Pod a,b", "apps/*/Deployment b"]);
        assert_eq!((reach.is_cluster_wide, reach.reads_status), (false, false));
        assert_eq!(
            serde_json::to_value(&reach.namespaces).unwrap(),
            json!({"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": ["a", "b"]}]})
        );
    }

    #[test]
    fn one_of_the_cluster_is_about_all_that_it_may_select() {
        let team = |name: &str| json!([{"matchLabels": {"team": name}}]);
        let pods = || source("v1", "Pod");
        let of_teams = [global(team("oil"), pods()), global(team("gas"), pods())];
        let reached = reach(&[], &of_teams).unwrap();
        assert_eq!(words(&reached), ["/v1/Pod everywhere"]);
        assert_eq!(
            serde_json::to_value(&reached.namespaces).unwrap(),
            json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["gas", "oil"]}]})
        );
        let reached = reach(&[namespaced("a", pods())], &of_teams).unwrap();
        assert_eq!(words(&reached), ["/v1/Pod everywhere"]);
        assert_eq!(reached.namespaces, LabelSelector::default());
        let reached = reach(&[], &[global(json!([]), pods())]).unwrap();
        assert_eq!(reached.namespaces, LabelSelector::default());
    }

    #[test]
    fn a_registration_has_an_end() {
        let many: Vec<_> = (0..=NAMESPACES)
            .map(|number| namespaced(&format!("n{number}"), source("v1", "Pod")))
            .collect();
        assert_eq!(words(&reach(&many, []).unwrap()), ["/v1/Pod everywhere"]);
        let many: Vec<_> = (0..=KINDS)
            .map(|number| namespaced("a", source("v1", &format!("K{number}"))))
            .collect();
        assert_eq!(words(&reach(&many, []).unwrap()), ["*/*/* everywhere"]);
    }

    #[test]
    fn a_status_is_asked_about_if_somebody_reads_one() {
        let reads = |more: Value| {
            let mut source = json!({"apiVersion": "v1", "kind": "Pod"});
            source
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            reach(&[namespaced("a", json!([source]))], []).unwrap().reads_status
        };
        assert!(!reads(json!({"path": ".spec.size"})));
        assert!(reads(json!({"path": ".status.size"})));
        assert!(reads(
            json!({"op": "count", "selectors": [{"fieldSelectors": [".status.phase==Running"]}]})
        ));
        assert!(reads(
            json!({"op": "count", "selectors": [{"celExpressions": ["has(object.status)"]}]})
        ));
    }

    #[rstest]
    #[case("", "Pod", Some("/v1/Pod"))]
    #[case("*", "*", Some("*/*/*"))]
    #[case("velero.io/v1", "Backup", Some("velero.io/v1/Backup"))]
    #[case("velero.io/v1", "Back/up", None)]
    #[case("velero.io/v1", "", None)]
    #[case("\"/v1", "Backup", None)]
    fn names_that_no_kind_has_are_not_asked_about(
        #[case] api_version: &str,
        #[case] kind: &str,
        #[case] expected: Option<&str>,
    ) {
        let kinds = Kinds::of(&VersionKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        });
        let words = kinds.map(|of| format!("{}/{}/{}", of.group, of.version, of.kind));
        assert_eq!(words.as_deref(), expected);
    }
}
