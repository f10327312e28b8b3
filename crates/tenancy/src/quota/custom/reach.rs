//! Which requests custom quotas are about, as far as a webhook registration can say it. There is one registration for all of
//! them, for the reason that [`crate::quota::global`] has: too much here costs a call, too little lets something pass
//! uncounted.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuotaSource, VersionKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{measure::is_version, scale::Scaled};
use crate::{name::is_dns_subdomain, quota::global::reach::common};

/// The label that says a namespace's name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Most namespaces that a kind has a list of its own for: the registration is in the memory of every API server.
const NAMESPACES: usize = 64;
/// Most namespaces of the list that kinds of more namespaces share.
const ALL_NAMESPACES: usize = 1_000;
/// Most kinds that are named.
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Wherever [`Reach::namespaces`] says.
    Everywhere,
    /// In these namespaces.
    In(BTreeSet<String>),
}

impl Asked {
    /// The namespaces that it lists.
    fn names(&self) -> impl Iterator<Item = &String> {
        let listed = match self {
            Self::Everywhere => None,
            Self::In(namespaces) => Some(namespaces),
        };
        listed.into_iter().flatten()
    }
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
    /// Kinds whose status one of them may read: there and no further its reports are asked about.
    pub statuses: BTreeMap<Kinds, Asked>,
    /// Kinds whose scale one of them counts.
    pub scales: BTreeMap<Scaled, Asked>,
}

/// What these quotas are about. `None` if nothing is counted.
pub fn reach<'a>(
    namespaced: impl IntoIterator<Item = &'a CustomQuota>,
    global: impl IntoIterator<Item = &'a GlobalCustomQuota>,
) -> Option<Reach> {
    let (mut selectors, mut is_cluster_wide) = (Vec::new(), false);
    let mut of_namespaces: BTreeMap<String, Counted> = BTreeMap::new();
    for quota in namespaced {
        let namespace = quota.metadata.namespace.clone().unwrap_or_default();
        let counted = of_namespaces.entry(namespace).or_default();
        counted.add(&quota.spec.sources);
    }
    selectors.extend(of_namespaces.keys().cloned().map(named));
    let mut of_cluster = Counted::default();
    for quota in global {
        of_cluster.add(&quota.spec.sources);
        is_cluster_wide = true;
        match quota.spec.namespace_selectors.as_slice() {
            [] => selectors.push(LabelSelector::default()),
            own => selectors.extend(own.iter().cloned()),
        }
    }
    let (kinds, statuses, scales) = places(of_cluster, of_namespaces);
    let selectors: Vec<&LabelSelector> = selectors.iter().collect();
    let common = common(&selectors);
    (!kinds.is_empty()).then(|| Reach {
        kinds,
        namespaces: LabelSelector {
            match_expressions: (!common.is_empty()).then_some(common),
            match_labels: None,
        },
        is_cluster_wide,
        statuses,
        scales,
    })
}

/// What the quotas of one place count.
#[derive(Debug, Default)]
struct Counted {
    kinds: BTreeSet<Kinds>,
    statuses: BTreeSet<Kinds>,
    scales: BTreeSet<Scaled>,
}

impl Counted {
    fn add(&mut self, sources: &[QuotaSource]) {
        for source in sources {
            let Some(kind) = Kinds::of(&source.kind) else { continue };
            self.scales.extend(Scaled::read_by(source, &kind));
            if says(source, "status") {
                self.statuses.insert(kind.clone());
            }
            self.kinds.insert(kind);
        }
    }

    /// All kinds instead of so many.
    fn widen(&mut self) {
        for kinds in [&mut self.kinds, &mut self.statuses] {
            if !kinds.is_empty() {
                *kinds = BTreeSet::from([Kinds::any()]);
            }
        }
    }
}

type Places<K> = BTreeMap<K, Asked>;

/// Where each kind is asked about. When there are too many kinds, those namespaces are asked about all of theirs that have
/// the most: nobody's quotas cost others anything.
fn places(
    mut of_cluster: Counted,
    of_namespaces: BTreeMap<String, Counted>,
) -> (Places<Kinds>, Places<Kinds>, Places<Scaled>) {
    if of_cluster.kinds.len() > KINDS {
        of_cluster.widen();
    }
    let mut listed = of_cluster.kinds.clone();
    let (mut kinds, mut statuses) = (everywhere(of_cluster.kinds), everywhere(of_cluster.statuses));
    let mut scales = everywhere(of_cluster.scales);
    let mut of_namespaces: Vec<_> = of_namespaces.into_iter().collect();
    of_namespaces.sort_by_key(|(_, counted)| counted.kinds.len());
    for (namespace, mut counted) in of_namespaces {
        if listed.len() + counted.kinds.difference(&listed).count() > KINDS {
            counted.widen();
        } else {
            listed.extend(counted.kinds.iter().cloned());
        }
        ask_in(&mut kinds, counted.kinds, &namespace);
        ask_in(&mut statuses, counted.statuses, &namespace);
        ask_in(&mut scales, counted.scales, &namespace);
    }
    let all: BTreeSet<String> = kinds.values().flat_map(Asked::names).cloned().collect();
    share(&mut kinds, &all);
    share(&mut statuses, &all);
    share(&mut scales, &all);
    (kinds, statuses, scales)
}

fn everywhere<K: Ord>(keys: BTreeSet<K>) -> Places<K> {
    keys.into_iter().map(|key| (key, Asked::Everywhere)).collect()
}

/// One namespace more.
fn ask_in<K: Ord>(places: &mut Places<K>, keys: BTreeSet<K>, namespace: &str) {
    for key in keys {
        if let Asked::In(namespaces) = places.entry(key).or_insert_with(|| Asked::In(BTreeSet::new())) {
            namespaces.insert(namespace.to_owned());
        }
    }
}

/// Long lists become one list, of all namespaces that have quotas, unless that is too long itself.
fn share<K: Ord>(places: &mut Places<K>, all: &BTreeSet<String>) {
    for asked in places.values_mut() {
        if asked.names().count() > NAMESPACES {
            *asked = if all.len() > ALL_NAMESPACES {
                Asked::Everywhere
            } else {
                Asked::In(all.clone())
            };
        }
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

    fn words(places: &BTreeMap<Kinds, Asked>) -> Vec<String> {
        let asked = |asked: &Asked| match asked {
            Asked::Everywhere => "everywhere".to_owned(),
            Asked::In(namespaces) => namespaces.iter().cloned().collect::<Vec<_>>().join(","),
        };
        let places = places.iter();
        places
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
        assert_eq!(words(&reach.kinds), ["/v1/Pod a,b", "apps/*/Deployment b"]);
        assert_eq!((reach.is_cluster_wide, reach.statuses.len()), (false, 0));
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
        assert_eq!(words(&reached.kinds), ["/v1/Pod everywhere"]);
        assert_eq!(
            serde_json::to_value(&reached.namespaces).unwrap(),
            json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["gas", "oil"]}]})
        );
        let reached = reach(&[namespaced("a", pods())], &of_teams).unwrap();
        assert_eq!(words(&reached.kinds), ["/v1/Pod everywhere"]);
        assert_eq!(reached.namespaces, LabelSelector::default());
        let reached = reach(&[], &[global(json!([]), pods())]).unwrap();
        assert_eq!(reached.namespaces, LabelSelector::default());
    }

    fn many_kinds(number: usize) -> Value {
        let sources =
            (0..number).map(|number| json!({"apiVersion": "v1", "kind": format!("K{number}"), "op": "count"}));
        sources.collect()
    }

    fn in_namespaces(number: usize) -> Vec<CustomQuota> {
        let names = (0..number).map(|number| format!("n{number:04}"));
        names.map(|name| namespaced(&name, source("v1", "Pod"))).collect()
    }

    #[test]
    fn kinds_of_many_namespaces_are_asked_about_in_all_that_have_quotas() {
        let cluster = global(json!([]), source("v1", "Node"));
        let mut quotas = in_namespaces(NAMESPACES + 1);
        quotas.push(namespaced("other", source("apps/v1", "Deployment")));
        let reached = reach(&quotas, [&cluster]).unwrap();
        let names: Vec<_> = quotas
            .iter()
            .filter_map(|quota| quota.metadata.namespace.clone())
            .collect();
        assert_eq!(
            words(&reached.kinds),
            [
                "/v1/Node everywhere".to_owned(),
                format!("/v1/Pod {}", names.join(",")),
                "apps/v1/Deployment other".to_owned()
            ]
        );
        let reached = reach(&in_namespaces(ALL_NAMESPACES + 1), [&cluster]).unwrap();
        assert_eq!(words(&reached.kinds), ["/v1/Node everywhere", "/v1/Pod everywhere"]);
    }

    #[test]
    fn too_many_kinds_of_a_namespace_are_all_kinds_there_and_nowhere_else() {
        let pods = || source("v1", "Pod");
        let quotas = [namespaced("a", many_kinds(KINDS + 1)), namespaced("b", pods())];
        let reached = reach(&quotas, [&global(json!([]), pods())]).unwrap();
        assert_eq!(words(&reached.kinds), ["/v1/Pod everywhere", "*/*/* a"]);
        let reached = reach(&quotas, []).unwrap();
        assert_eq!(words(&reached.kinds), ["/v1/Pod b", "*/*/* a"]);
        // An administrator may ask about everything.
        let reached = reach(&quotas, [&global(json!([]), many_kinds(KINDS + 1))]).unwrap();
        assert_eq!(words(&reached.kinds), ["/v1/Pod b", "*/*/* everywhere"]);
    }

    #[test]
    fn a_status_is_asked_about_where_somebody_reads_it() {
        let pods = |more: Value| {
            let mut source = json!({"apiVersion": "v1", "kind": "Pod"});
            source
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            json!([source])
        };
        let reads = |more: Value| words(&reach(&[namespaced("a", pods(more))], []).unwrap().statuses);
        assert_eq!(reads(json!({"path": ".spec.size"})), [""; 0]);
        assert_eq!(reads(json!({"path": ".status.size"})), ["/v1/Pod a"]);
        let by_field = json!({"op": "count", "selectors": [{"fieldSelectors": [".status.phase==Running"]}]});
        assert_eq!(reads(by_field), ["/v1/Pod a"]);
        let by_expression = json!({"op": "count", "selectors": [{"celExpressions": ["has(object.status)"]}]});
        assert_eq!(reads(by_expression), ["/v1/Pod a"]);
        // Not elsewhere, and not of other kinds.
        let status = pods(json!({"path": ".status.size"}));
        let others = [namespaced("a", status), namespaced("b", source("v1", "Pod"))];
        let claims = global(
            json!([]),
            json!([{"apiVersion": "v1", "kind": "Claim", "path": ".status.size"},
                {"apiVersion": "v1", "kind": "Pod", "op": "count"}]),
        );
        let reached = reach(&others, [&claims]).unwrap();
        assert_eq!(words(&reached.kinds), ["/v1/Claim everywhere", "/v1/Pod everywhere"]);
        assert_eq!(words(&reached.statuses), ["/v1/Claim everywhere", "/v1/Pod a"]);
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
