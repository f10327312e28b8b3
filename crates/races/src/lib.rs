//! Races for what tenants share: many clients take, change and give back what a limit allows, in many namespaces at once, while
//! operators are killed and come back.
//!
//! Every state that was stored is looked at, through a watch: an excess of one write is seen, however short it stood. After
//! the race whatever is left of a limit has to be there for use: what cannot be used was lost.
//!
//! Tests run it for seconds (`crates/cotenant/tests/races.rs`), `cargo xtask soak` for minutes. Refused: clients inside of the
//! operator's process, which cannot be killed without its tests, and sums of lists, which miss what stands between two of them.

mod balancer;
mod bed;
mod clients;
mod race;
mod scene;
mod settle;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use serde::Serialize;

pub use bed::Bed;
pub use clients::Tally;
pub use race::Race;

use bed::Victim;
use scene::Scene;

/// How long clients go on at most that have not shown anything yet: on a slow machine the load takes longer.
const SHOWN_WITHIN: Duration = Duration::from_secs(300);
/// How long a killed operator stays away.
const AWAY: Duration = Duration::from_secs(1);

/// How large a race is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Each with one request at a time. Twenty where namespaces are raced for.
    pub clients: usize,
    pub namespaces: usize,
    /// How long clients take and give back, or longer, until every limit was reached, felt and given back from.
    pub load: Duration,
    /// Operators killed meanwhile, at equal distances: the one that leads, then the other, and so on.
    pub kills: u32,
    /// Whether promises to requests that were lost have to end before what is left is used up: minutes. Without, what is
    /// promised counts as used.
    pub drain: bool,
}

/// What was seen of a race. Amounts are of the namespace with the most where each has a limit of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub race: &'static str,
    pub clients: usize,
    pub namespaces: usize,
    pub limit: i64,
    /// Stored states that were looked at.
    pub moments: u64,
    /// The largest sum of any of them.
    pub highest: i64,
    /// How often the watch began anew: what stood between, and was gone by then, was not looked at.
    pub gaps: u64,
    #[serde(flatten)]
    pub tally: Tally,
    /// Operators that were killed, and those that ended by themselves and were started again.
    pub kills: u32,
    pub restarts: u32,
    /// What there was when nobody raced any more and all that was left had been taken; of all namespaces together.
    pub used: i64,
    /// The same, as ledgers have it. `None` where there is no ledger.
    pub counted: Option<i64>,
    /// What was still promised then, on top of it.
    pub promised: i64,
    /// How long it took until nothing was promised, in seconds, where that was waited for.
    pub drained_seconds: Option<u64>,
    /// What could not be used in the end, although nobody used it.
    pub leaked: i64,
    /// Limits without the ledger that they have to have.
    pub missing_ledgers: usize,
}

impl Outcome {
    /// What must not be, in words. `None` if all is well.
    pub fn violation(&self) -> Option<String> {
        let Self { race, limit, tally, .. } = self;
        if self.highest > *limit {
            Some(format!("{race}: there were {} of {limit}", self.highest))
        } else if self.leaked > 0 {
            Some(format!("{race}: {} of {limit} cannot be used", self.leaked))
        } else if self.missing_ledgers > 0 {
            Some(format!("{race}: {} ledgers are missing", self.missing_ledgers))
        } else if tally.refused == 0 {
            Some(format!("{race}: nobody was refused, so nothing was shown"))
        } else if i64::try_from(tally.made).is_ok_and(|made| made < *limit) {
            Some(format!(
                "{race}: {} of {limit} were made, so nothing was shown",
                tally.made
            ))
        } else if tally.given_back == 0 {
            Some(format!("{race}: nothing was given back, so nothing was shown"))
        } else {
            None
        }
    }
}

/// Runs races beside each other; the clients of each are as many as the size says. `progress` is told what happens, in a few
/// words.
///
/// # Errors
/// If the bed or a scene cannot be made. What races violate is in their outcomes.
pub async fn run(bed: &mut Bed, races: &[Race], size: &Size, progress: &dyn Fn(&str)) -> anyhow::Result<Vec<Outcome>> {
    let stage: &Bed = bed;
    let scenes: Vec<Arc<Scene>> = try_join_all(races.iter().map(|race| Scene::set(stage, *race, size)))
        .await?
        .into_iter()
        .map(Arc::new)
        .collect();
    progress("all limits are in force");
    let is_over = Arc::new(AtomicBool::new(false));
    let contests: Vec<_> = scenes
        .iter()
        .map(|scene| tokio::spawn(clients::contend(scene.clone(), is_over.clone())))
        .collect();
    let kills = trouble(bed, &scenes, size, progress).await;
    is_over.store(true, Ordering::Relaxed);
    let (kills, restarts) = kills?;
    for contest in contests {
        let ended = contest.await.context("the clients panicked")?;
        ended.context("a client panicked")?;
    }
    progress("the clients are done; what is left is used up");
    let settled = try_join_all(scenes.iter().map(|scene| settle::settle(scene, size.drain))).await?;
    let mut outcomes = Vec::new();
    for (scene, settled) in scenes.iter().zip(settled) {
        let (moments, highest) = scene.witness.seen();
        outcomes.push(Outcome {
            race: scene.race.name(),
            clients: scene.clients,
            namespaces: scene.namespaces.len(),
            limit: scene.limit,
            moments,
            highest,
            gaps: scene.witness.gaps(),
            tally: scene.tally().clone(),
            kills,
            restarts,
            used: settled.used,
            counted: settled.counted,
            promised: settled.promised,
            drained_seconds: settled.drained.map(|drained| drained.as_secs()),
            leaked: settled.leaked,
            missing_ledgers: settled.missing_ledgers,
        });
        scene.strike().await?;
    }
    Ok(outcomes)
}

/// Kills operators while the clients work, and starts again what ended. How many were killed and how many ended by themselves.
async fn trouble(
    bed: &mut Bed,
    scenes: &[Arc<Scene>],
    size: &Size,
    progress: &dyn Fn(&str),
) -> anyhow::Result<(u32, u32)> {
    let begun = Instant::now();
    let (mut kills, mut restarts) = (0, 0);
    let has_shown = || scenes.iter().all(|scene| scene.tally().shows(scene.limit));
    while begun.elapsed() < size.load || (begun.elapsed() < SHOWN_WITHIN && !has_shown()) {
        if kills < size.kills && begun.elapsed() >= size.load / (size.kills + 1) * (kills + 1) {
            let victim = if kills % 2 == 0 {
                Victim::Leader
            } else {
                Victim::Follower
            };
            let name = bed.kill(victim).await?;
            progress(&format!("killed {name}, {victim:?}"));
            kills += 1;
            tokio::time::sleep(AWAY).await;
            bed.mend().await?;
        } else {
            restarts += bed.mend().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok((kills, restarts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_what_must_not_be() {
        let outcome = || Outcome {
            race: "pool",
            clients: 12,
            namespaces: 5,
            limit: 6,
            moments: 100,
            highest: 6,
            gaps: 0,
            tally: Tally {
                made: 6,
                given_back: 1,
                refused: 9,
                ..Tally::default()
            },
            kills: 1,
            restarts: 0,
            used: 6,
            counted: None,
            promised: 0,
            drained_seconds: None,
            leaked: 0,
            missing_ledgers: 0,
        };
        let said = |change: fn(&mut Outcome)| {
            let mut outcome = outcome();
            change(&mut outcome);
            outcome.violation().unwrap_or_default()
        };
        assert_eq!(said(|_| {}), "");
        assert_eq!(said(|it| it.highest = 7), "pool: there were 7 of 6");
        assert_eq!(said(|it| it.leaked = 2), "pool: 2 of 6 cannot be used");
        assert_eq!(said(|it| it.missing_ledgers = 1), "pool: 1 ledgers are missing");
        assert_eq!(
            said(|it| it.tally.refused = 0),
            "pool: nobody was refused, so nothing was shown"
        );
        assert_eq!(
            said(|it| it.tally.made = 5),
            "pool: 5 of 6 were made, so nothing was shown"
        );
        assert_eq!(
            said(|it| it.tally.given_back = 0),
            "pool: nothing was given back, so nothing was shown"
        );
    }
}
