//! From a decision to its end: planned, tried, or written and waited for.

use std::time::Duration;

use serde_json::json;

use super::effects::effects;
use super::plan;
use super::wait::Goal;
use super::world::{Contents, World};
use super::write::{Answer, Write};
use crate::progress;
use crate::session::{Session, Writing};
use crate::stopped::{is_conflict, of_write};

/// How often a decision is made anew because somebody else wrote in between. Controllers write often and soon stop.
const ATTEMPTS: usize = 20;

/// What a command decided, and from what.
pub(super) struct Decided {
    /// What was asked for, as a plan's heading.
    pub(super) title: String,
    pub(super) world: World,
    /// None, when all is as it should be.
    pub(super) writes: Vec<Write>,
    /// What `--wait` waits for.
    pub(super) goals: Vec<Goal>,
}

enum Failed {
    Write { what: String, source: kube::Error },
    Otherwise(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Otherwise(error)
    }
}

/// Decides, and does with it what the flags say.
///
/// Of several writes none is sent for good before each has passed as a dry run. When one meets somebody else's write, all
/// is decided anew; what is written by then does not come up again.
pub(super) async fn carry_out(
    session: &mut Session<'_>,
    writing: &Writing,
    decide: impl AsyncFn() -> anyhow::Result<Decided>,
) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        let decided = decide().await?;
        match once(session, writing, &decided, attempt).await {
            Ok(()) => return wait(session, writing.patience(), &decided.goals).await,
            Err(Failed::Write { source, .. }) if is_conflict(&source) && attempt < ATTEMPTS => attempt += 1,
            Err(Failed::Write { what, source }) => return Err(of_write(source, &what)),
            Err(Failed::Otherwise(error)) => return Err(error),
        }
    }
}

async fn once(session: &mut Session<'_>, writing: &Writing, decided: &Decided, attempt: usize) -> Result<(), Failed> {
    if writing.plan {
        let answers = try_all(session, decided).await?;
        return Ok(tell_plan(session, decided, answers).await?);
    }
    if decided.writes.is_empty() && attempt == 1 {
        return Ok(session.tell(&json!({"outcome": "unchanged"}), || {
            "Nothing to do: it is so already.\n".to_owned()
        })?);
    }
    if writing.dry_run.is_some() {
        try_all(session, decided).await?;
        for write in &decided.writes {
            tell_outcome(session, write, true)?;
        }
        return Ok(());
    }
    if decided.writes.len() > 1 {
        try_all(session, decided).await?;
    }
    for write in &decided.writes {
        send(session, write, false).await?;
        tell_outcome(session, write, false)?;
    }
    Ok(())
}

async fn try_all(session: &Session<'_>, decided: &Decided) -> Result<Vec<Answer>, Failed> {
    let mut answers = Vec::new();
    for write in &decided.writes {
        answers.push(send(session, write, true).await?);
    }
    Ok(answers)
}

async fn send(session: &Session<'_>, write: &Write, dry_run: bool) -> Result<Answer, Failed> {
    let sent = write.send(&session.client, dry_run).await;
    sent.map_err(|source| Failed::Write {
        what: format!("write {}", write.told().0),
        source,
    })
}

fn tell_outcome(session: &mut Session<'_>, write: &Write, dry_run: bool) -> anyhow::Result<()> {
    let (object, outcome) = write.told();
    let value = json!({"object": object, "outcome": outcome, "dryRun": dry_run});
    session.tell(&value, || {
        let would = if dry_run { " (server dry run)" } else { "" };
        format!("{object} {outcome}{would}\n")
    })
}

async fn tell_plan(session: &mut Session<'_>, decided: &Decided, answers: Vec<Answer>) -> anyhow::Result<()> {
    let contents = Contents::read(&session.client, &decided.world).await?;
    let effects = effects(&decided.world, &decided.world.after(answers)?, &contents);
    session.tell(&json!({"plan": decided.title, "effects": effects}), || {
        plan::told(&decided.title, &effects)
    })
}

async fn wait(session: &Session<'_>, patience: Option<Duration>, goals: &[Goal]) -> anyhow::Result<()> {
    let Some(patience) = patience else { return Ok(()) };
    let progress = progress::choose(session.json);
    for goal in goals {
        goal.reach(&session.client, patience, &*progress).await?;
    }
    Ok(())
}
