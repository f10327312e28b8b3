//! What all quotas together want to have watched. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::Served;
use super::projection::Projection;
use super::quota::QuotaName;
use super::sources::Target;

/// In more namespaces than this, one watch of all is less than one of each.
const NAMESPACES: usize = 16;

/// What one quota wants: of each kind this much, in its namespace or, for one of the cluster, in all.
pub(super) type Want = BTreeMap<Served, Projection>;

/// What each quota wants.
#[derive(Debug, Default)]
pub(super) struct Wants {
    of: BTreeMap<QuotaName, Want>,
    /// Who wants a kind, by namespace.
    wanting: BTreeMap<Served, BTreeMap<String, BTreeSet<QuotaName>>>,
}

impl Wants {
    /// Whether that is something new.
    pub(super) fn set(&mut self, quota: &QuotaName, want: Want) -> bool {
        if self.of.get(quota) == Some(&want) {
            return false;
        }
        self.forget(quota);
        for served in want.keys() {
            let namespaces = self.wanting.entry(served.clone()).or_default();
            let quotas = namespaces.entry(quota.namespace.clone()).or_default();
            quotas.insert(quota.clone());
        }
        self.of.insert(quota.clone(), want);
        true
    }

    /// Whether it wanted something.
    pub(super) fn forget(&mut self, quota: &QuotaName) -> bool {
        let Some(want) = self.of.remove(quota) else {
            return false;
        };
        for served in want.keys() {
            let Some(namespaces) = self.wanting.get_mut(served) else {
                continue;
            };
            if let Some(quotas) = namespaces.get_mut(&quota.namespace) {
                quotas.remove(quota);
                if quotas.is_empty() {
                    namespaces.remove(&quota.namespace);
                }
            }
            if namespaces.is_empty() {
                self.wanting.remove(served);
            }
        }
        true
    }

    /// The watches for all.
    pub(super) fn targets(&self) -> BTreeMap<Target, Projection> {
        let mut targets = BTreeMap::new();
        for (quota, want) in &self.of {
            for (served, projection) in want {
                let target = self.target(served, &quota.namespace);
                let all = targets.remove(&target).unwrap_or(Projection::Labels);
                targets.insert(target, all.and(projection.clone()));
            }
        }
        targets
    }

    /// The watch that shows a kind to a quota of this namespace, or of the cluster if that is empty.
    pub(super) fn target(&self, served: &Served, namespace: &str) -> Target {
        let is_of_all = namespace.is_empty()
            || self
                .wanting
                .get(served)
                .is_some_and(|namespaces| namespaces.contains_key("") || namespaces.len() > NAMESPACES);
        Target {
            served: served.clone(),
            namespace: (!is_of_all).then(|| namespace.to_owned()),
        }
    }

    /// The quotas that a watch is for.
    pub(super) fn quotas(&self, target: &Target) -> Vec<QuotaName> {
        let Some(namespaces) = self.wanting.get(&target.served) else {
            return Vec::new();
        };
        match &target.namespace {
            Some(namespace) => namespaces.get(namespace).into_iter().flatten().cloned().collect(),
            None => namespaces.values().flatten().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Served {
        Served {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            plural: "pods".to_owned(),
            is_namespaced: true,
        }
    }

    fn name(namespace: &str) -> QuotaName {
        QuotaName {
            namespace: namespace.to_owned(),
            name: "q".to_owned(),
        }
    }

    fn watched(wants: &Wants) -> Vec<(Option<String>, Projection)> {
        let targets = wants.targets().into_iter();
        targets
            .map(|(target, projection)| (target.namespace, projection))
            .collect()
    }

    #[test]
    fn a_watch_is_as_wide_as_somebody_needs() {
        let mut wants = Wants::default();
        let want = |projection| Want::from([(pods(), projection)]);
        assert!(wants.set(&name("a"), want(Projection::Labels)));
        assert!(!wants.set(&name("a"), want(Projection::Labels)));
        wants.set(&name("b"), want(Projection::Whole));
        let of = |namespace: &str| Some(namespace.to_owned());
        assert_eq!(
            watched(&wants),
            [(of("a"), Projection::Labels), (of("b"), Projection::Whole)]
        );
        let target = wants.target(&pods(), "a");
        assert_eq!(wants.quotas(&target), [name("a")]);

        wants.set(&name(""), want(Projection::Labels));
        assert_eq!(watched(&wants), [(None, Projection::Whole)]);
        assert_eq!(wants.quotas(&wants.target(&pods(), "a")).len(), 3);

        assert!(wants.forget(&name("")) && wants.forget(&name("b")));
        assert_eq!(watched(&wants), [(of("a"), Projection::Labels)]);
        assert!(wants.forget(&name("a")) && !wants.forget(&name("a")));
        assert!(watched(&wants).is_empty());
    }

    #[test]
    fn many_namespaces_are_watched_at_once() {
        let mut wants = Wants::default();
        for number in 0..=NAMESPACES {
            wants.set(&name(&format!("n{number}")), Want::from([(pods(), Projection::Labels)]));
        }
        assert_eq!(watched(&wants), [(None, Projection::Labels)]);
    }
}
