//! After the race: what is left of a limit has to be there for use, and nothing beyond it.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::clients::take;
use crate::scene::Scene;

/// How long what was given back may take to be free again.
const FREE_WITHIN: Duration = Duration::from_secs(180);
/// The same, with all promises to requests that were lost at an end: two minutes from when they were made, and a count.
const DRAINED_WITHIN: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(200);
/// What is taken for granted to be refused in the end, at once.
const BEYOND: usize = 10;
/// Nobody does anything for so long before what stands is judged.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) struct Settled {
    /// What there was in the end.
    pub(crate) used: i64,
    /// What ledgers say there was. `None` where there is no ledger.
    pub(crate) counted: Option<i64>,
    /// To requests that were lost.
    pub(crate) promised: i64,
    /// How long it took until nothing was promised, where that was waited for.
    pub(crate) drained: Option<Duration>,
    /// Neither used nor promised, and not to be had, or counted wrongly.
    pub(crate) leaked: i64,
    /// Limits without the ledger that they have to have.
    pub(crate) missing_ledgers: usize,
}

/// Takes what is left, one by one, then tries for more.
pub(crate) async fn settle(scene: &Scene, drain: bool) -> anyhow::Result<Settled> {
    let drained = if drain { Some(drained(scene).await?) } else { None };
    let deadline = Instant::now() + FREE_WITHIN;
    let mut taken = 0;
    let settled = loop {
        let account = scene.account().await?;
        let (mut used, mut promised, mut missing, mut is_refused) = (0, 0, 0, !scene.race.refuses());
        for group in scene.groups() {
            let sum = scene.witness.sum(&group);
            let of_group = account.promised.get(&group).copied().unwrap_or_default();
            let left = scene.limit - sum - of_group;
            used += sum;
            promised += of_group;
            // What the controller counted has to be what there is.
            let miscounted = account.used.get(&group).map_or(0, |used| (used - sum).abs());
            missing += left.max(miscounted).max(0);
            if left > 0 {
                let place = scene.namespaces.iter().position(|name| *name == group).unwrap_or(taken);
                is_refused |= take(scene, place, &format!("left-{taken}"), 1).await.is_err();
                taken += 1;
            }
        }
        let is_settled = missing == 0 && (promised == 0 || !drain);
        if is_settled || Instant::now() > deadline {
            break Settled {
                used,
                counted: (!account.used.is_empty()).then(|| account.used.values().sum()),
                promised,
                drained,
                leaked: missing + if drain { promised } else { 0 },
                missing_ledgers: scene.without_ledger(&account).len(),
            };
        }
        if is_refused || missing == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let endings: Vec<String> = (0..BEYOND).map(|index| format!("beyond-{index}")).collect();
    let tried = endings
        .iter()
        .enumerate()
        .map(|(place, ending)| take(scene, place, ending, 1));
    // Whatever they are told: the witness sees what becomes of it.
    join_all(tried).await;
    tokio::time::sleep(QUIET).await;
    Ok(settled)
}

/// Waits until ledgers promise nothing to anybody, and says how long that took.
async fn drained(scene: &Scene) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < DRAINED_WITHIN && scene.account().await?.promised.values().any(|promised| *promised > 0) {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(begun.elapsed())
}
