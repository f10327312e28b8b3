//! A plan as text: what `--plan` prints.

use std::fmt::Write;

use super::effects::{AccessChange, Effects, Freeze, ObjectChange, OwnershipChange, QuotaChange, Turn, Verb};
use super::usage::Standing;
use crate::plain::{plain, section};

/// The whole of it. `title` says what was asked for.
pub(super) fn told(title: &str, effects: &Effects) -> String {
    let mut text = format!("Plan: {title}. Nothing was written.\n");
    if *effects == Effects::default() {
        text.push_str("Nothing follows from it.\n");
    }
    objects(&mut text, &effects.objects);
    section(&mut text, "Ownership", &effects.ownership, |row: &OwnershipChange| {
        format!("{} {} owns Tenant {}", sign(row.turn), row.subject, row.tenant)
    });
    section(&mut text, "Access", &effects.access, |row: &AccessChange| {
        format!("{} {}", sign(row.turn), row.access.told())
    });
    section(
        &mut text,
        "Changes by tenant users",
        &effects.freezes,
        |row: &Freeze| {
            let verdict = match row.turn {
                Turn::Gains => "allowed",
                Turn::Loses => "refused",
            };
            format!("{} {verdict} in {}", sign(row.turn), row.namespace)
        },
    );
    section(&mut text, "Quota", &effects.quotas, quota);
    section(&mut text, "Problems", &effects.problems, Clone::clone);
    text
}

fn sign(turn: Turn) -> char {
    match turn {
        Turn::Gains => '+',
        Turn::Loses => '-',
    }
}

fn objects(text: &mut String, objects: &[ObjectChange]) {
    if objects.is_empty() {
        return;
    }
    text.push_str("Objects\n");
    for object in objects {
        let sign = match object.verb {
            Verb::Create => '+',
            Verb::Update => '~',
            Verb::Delete => '-',
        };
        let place = object
            .namespace
            .as_ref()
            .map(|namespace| format!("{namespace}/"))
            .unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {sign} {} {place}{}", object.kind, object.name);
        for field in &object.fields {
            let _ = writeln!(text, "      {}", plain(&field.told()));
        }
    }
}

fn quota(row: &QuotaChange) -> String {
    // Every tenant has a number of namespaces, or is not there.
    let absent = if row.key.entry.is_none() { "(none)" } else { "no limit" };
    let side = |standing: &Option<Standing>| standing.as_ref().map_or_else(|| absent.to_owned(), Standing::told);
    let mut line = format!("{}: {} -> {}", row.key.told(), side(&row.before), side(&row.after));
    if let Some(after) = &row.after {
        if after.exceeded {
            line.push_str(" (exceeded)");
        }
        if !after.uncounted.is_empty() {
            let _ = write!(line, " (not counted yet: {})", after.uncounted.join(", "));
        }
    }
    line
}
