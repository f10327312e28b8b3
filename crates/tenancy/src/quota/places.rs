//! Places for namespaces in a tenant's quota, exact with any number of replicas.
//!
//! # Flow
//! Who admits a namespace writes down first that its place is [taken](Places::taken), with the version of the ledger that was
//! read. Far from the quota nothing else is asked. Near it the namespaces are counted live, after the ledger was read, and
//! the count corrects what is taken: namespaces that went, and creates that failed, give their places back there.
//!
//! # Guarantees
//! There are never more namespaces than the quota through creates that were admitted here. What is taken is no less than the
//! namespaces that are stored and those that may still be: it grows by one with each promise, in the same write, and is
//! replaced only by a count to which all promises are added whose requests may be on their way. A promise that somebody
//! wrote between the reading and the writing makes the write fail. So a watch that lags costs a second try, and a replica
//! that is killed leaves promises that end by themselves.
//!
//! # Assumptions
//! A create is stored within a minute of its promise or never (`--request-timeout` of API servers), and clocks of replicas
//! differ by less than the rest of [`TTL`].
//!
//! # Caveats
//! An administrator who hands a namespace over is not held up by the quota. That namespace counts from when it is seen.

use std::collections::{BTreeMap, BTreeSet};

use api::capsule::{
    names,
    v1beta2::{LedgerTarget, QuantityLedger, QuantityLedgerSpec, Tenant},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::ResourceExt;

use crate::linkage;

/// How long a promise waits for its namespace.
pub const TTL: SignedDuration = SignedDuration::from_secs(90);
/// With fewer places left than this, or than a quarter of the quota, namespaces are counted live.
const FEW: usize = 16;
/// With more promises than this, too: a count ends those whose namespaces are there.
const MANY: usize = 256;

/// The name of the ledger of a tenant's namespaces.
pub fn ledger_name(tenant_uid: &str) -> String {
    format!("namespace-quota-{tenant_uid}")
}

/// A ledger that nobody has written to. It goes with the tenant.
pub fn ledger(tenant: &Tenant, place: &str) -> QuantityLedger {
    let uid = tenant.uid().unwrap_or_default();
    QuantityLedger {
        metadata: ObjectMeta {
            name: Some(ledger_name(&uid)),
            namespace: Some(place.to_owned()),
            labels: Some(BTreeMap::from([
                (
                    names::MANAGED_BY_LABEL.to_owned(),
                    names::MANAGED_BY_CONTROLLER.to_owned(),
                ),
                (names::PROJECT_TENANT_LABEL.to_owned(), tenant.name_any()),
            ])),
            owner_references: Some(vec![linkage::owner_reference(tenant)]),
            ..ObjectMeta::default()
        },
        spec: QuantityLedgerSpec {
            target_ref: LedgerTarget {
                api_group: names::GROUP.to_owned(),
                kind: names::TENANT_KIND.to_owned(),
                namespace: String::new(),
                name: tenant.name_any(),
                uid,
            },
        },
        status: None,
    }
}

/// A place that was promised to a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// UID of the review.
    pub id: String,
    /// Name of the namespace.
    pub namespace: String,
    /// The UID that it will have. Empty if the API server did not say.
    pub uid: String,
    /// When the promise was made.
    pub made_at: Timestamp,
    /// When the create has failed for certain, if the namespace is not there.
    pub ends_at: Timestamp,
}

/// A create that asks for a place.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// UID of the review.
    pub id: &'a str,
    /// Name of the namespace.
    pub namespace: &'a str,
    /// The UID that it will have, or nothing.
    pub uid: &'a str,
}

/// What is taken of a tenant's quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// There are at most so many namespaces, with all that may still come. `None` before the first count.
    pub taken: Option<usize>,
    /// The oldest first.
    pub promises: Vec<Promise>,
}

/// What a count says to a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Namespaces that the tenant has besides, or may still get.
    pub others: usize,
    /// What has to be written before the create is admitted. `None` if there is no place.
    pub places: Option<Places>,
}

impl Places {
    /// Without the promises whose namespaces came and went again, by their UIDs.
    #[must_use]
    pub fn without(mut self, is_gone: impl Fn(&str) -> bool) -> Self {
        self.promises.retain(|promise| !is_gone(&promise.uid));
        self
    }

    /// Takes a place without a count, if that can be done far from the quota. `seen` is the number of other namespaces that a
    /// watch has shown.
    pub fn take_far(&self, wanted: Wanted<'_>, quota: usize, seen: usize, now: Timestamp) -> Option<Counted> {
        let taken = self.taken?.max(seen);
        let left = quota.saturating_sub(taken);
        if left < FEW.max(quota.div_ceil(4)) || self.promises.len() >= MANY {
            return None;
        }
        let is_open = |promise: &&Promise| promise.ends_at > now;
        let promises = self.promises.iter().filter(is_open).cloned().collect();
        Some(Counted {
            others: taken,
            places: Some(Self::with(promises, taken + 1, wanted, now)),
        })
    }

    /// Takes a place by a count of the tenant's namespaces, names to UIDs, that began after these places were read.
    pub fn take_counted(
        &self,
        wanted: Wanted<'_>,
        quota: usize,
        there: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Counted {
        let is_open = |promise: &&Promise| {
            let has_come = !promise.uid.is_empty() && there.get(&promise.namespace) == Some(&promise.uid);
            promise.ends_at > now && !has_come
        };
        let promises: Vec<Promise> = self.promises.iter().filter(is_open).cloned().collect();
        let names = there.keys().chain(promises.iter().map(|promise| &promise.namespace));
        let others = names.filter(|name| *name != wanted.namespace).collect::<BTreeSet<_>>();
        let others = others.len();
        Counted {
            others,
            places: (others < quota).then(|| Self::with(promises, others + 1, wanted, now)),
        }
    }

    /// A name is promised once: of two creates of one name only one can succeed.
    fn with(mut promises: Vec<Promise>, taken: usize, wanted: Wanted<'_>, now: Timestamp) -> Self {
        promises.retain(|promise| promise.namespace != wanted.namespace);
        promises.push(Promise {
            id: wanted.id.to_owned(),
            namespace: wanted.namespace.to_owned(),
            uid: wanted.uid.to_owned(),
            made_at: now,
            ends_at: now.checked_add(TTL).unwrap_or(Timestamp::MAX),
        });
        Self {
            taken: Some(taken),
            promises,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn there(names: &[&str]) -> BTreeMap<String, String> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), format!("uid-{name}")))
            .collect()
    }

    fn take(places: &Places, name: &str, quota: usize, names: &[&str], now: i64) -> Counted {
        let uid = format!("uid-{name}");
        let wanted = Wanted {
            id: name,
            namespace: name,
            uid: &uid,
        };
        places.take_counted(wanted, quota, &there(names), at(now))
    }

    fn promised(places: &Places) -> Vec<&str> {
        places
            .promises
            .iter()
            .map(|promise| promise.namespace.as_str())
            .collect()
    }

    #[test]
    fn what_is_promised_counts_until_it_is_there_or_has_ended() {
        let first = take(&Places::default(), "b", 2, &["a"], 0);
        assert_eq!(first.others, 1);
        let places = first.places.unwrap();
        assert_eq!((places.taken, promised(&places)), (Some(2), vec!["b"]));
        let second = take(&places, "c", 2, &["a"], 89);
        assert_eq!((second.others, second.places), (2, None));
        let after_its_end = take(&places, "c", 2, &["a"], 90).places.unwrap();
        assert_eq!(promised(&after_its_end), ["c"]);
        // It came, and something else went.
        let come = take(&places, "c", 2, &["b"], 1).places.unwrap();
        assert_eq!((come.taken, promised(&come)), (Some(2), vec!["c"]));
    }

    #[test]
    fn what_came_and_went_again_leaves_its_place() {
        let places = take(&Places::default(), "a", 1, &[], 0).places.unwrap();
        assert_eq!(take(&places, "b", 1, &[], 1).places, None);
        let places = places.without(|uid| uid == "uid-a");
        assert_eq!(take(&places, "b", 1, &[], 1).others, 0);
    }

    #[test]
    fn a_name_is_counted_once_and_one_that_ends_is_not_its_successor() {
        let places = take(&Places::default(), "b", 2, &["a"], 0).places.unwrap();
        let again = take(&places, "b", 2, &["a"], 1).places.unwrap();
        assert_eq!((again.taken, promised(&again)), (Some(2), vec!["b"]));
        // A namespace of that name is on its way out: what was promised is still to come.
        let earlier = BTreeMap::from([
            ("a".to_owned(), "uid-a".to_owned()),
            ("b".to_owned(), "earlier".to_owned()),
        ]);
        let wanted = Wanted {
            id: "c",
            namespace: "c",
            uid: "uid-c",
        };
        let counted = places.take_counted(wanted, 3, &earlier, at(1));
        assert_eq!(counted.others, 2);
        assert_eq!(promised(&counted.places.unwrap()), ["b", "c"]);
    }

    #[rstest]
    #[case::never_counted(None, 100, 0, false)]
    #[case::far(Some(10), 100, 0, true)]
    #[case::the_watch_knows_better(Some(10), 100, 76, false)]
    #[case::a_quarter_left(Some(75), 100, 0, true)]
    #[case::less_than_a_quarter_left(Some(76), 100, 0, false)]
    #[case::sixteen_left(Some(24), 40, 0, true)]
    #[case::fifteen_left(Some(25), 40, 0, false)]
    #[case::a_small_quota(Some(0), 15, 0, false)]
    fn far_from_the_quota_nothing_is_counted(
        #[case] taken: Option<usize>,
        #[case] quota: usize,
        #[case] seen: usize,
        #[case] is_far: bool,
    ) {
        let places = Places {
            taken,
            promises: Vec::new(),
        };
        let wanted = Wanted {
            id: "n",
            namespace: "n",
            uid: "u",
        };
        let far = places.take_far(wanted, quota, seen, at(0));
        assert_eq!(far.is_some(), is_far);
        if let Some(far) = far {
            assert_eq!(far.others, taken.unwrap());
            assert_eq!(far.places.unwrap().taken, Some(taken.unwrap() + 1));
        }
    }

    proptest! {
        /// Two replicas, one with a watch that has shown nothing; whatever is stored late, fails, or is deleted: never more
        /// than the quota. Writes are in the version of what was read, so they are one after the other here.
        #[test]
        fn there_are_never_more_than_the_quota(quota in 1_usize..40, steps in prop::collection::vec((0_u8..4, 0_usize..60), 1..200)) {
            let (mut places, mut stored, mut underway) = (Places::default(), BTreeMap::new(), Vec::new());
            let mut now = 0;
            for (index, (step, pick)) in steps.into_iter().enumerate() {
                now += 1;
                // What has waited for a minute never comes.
                underway.retain(|(_, made)| now - made < 60);
                match step {
                    0 | 1 => {
                        let (name, uid) = (format!("n{index}"), format!("uid-n{index}"));
                        let wanted = Wanted { id: &name, namespace: &name, uid: &uid };
                        let seen = if step == 0 { 0 } else { stored.len() };
                        let counted = places
                            .take_far(wanted, quota, seen, at(now))
                            .unwrap_or_else(|| places.take_counted(wanted, quota, &stored, at(now)));
                        if let Some(next) = counted.places {
                            places = next;
                            underway.push((name, now));
                        }
                    }
                    2 if !underway.is_empty() => {
                        let (name, _) = underway.remove(pick % underway.len());
                        let uid = format!("uid-{name}");
                        stored.insert(name, uid);
                    }
                    _ => {
                        if let Some(name) = stored.keys().nth(pick).cloned() {
                            stored.remove(&name);
                        }
                    }
                }
                prop_assert!(stored.len() + underway.len() <= quota);
            }
        }
    }
}
