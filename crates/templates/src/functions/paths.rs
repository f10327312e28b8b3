//! Paths with slashes: Go's `path`, and `path/filepath` as it is on Linux.

use super::Type::Text;
use super::{Answer, Arguments, Context, Function, fixed};
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    fixed("base", &[Text], base),
    fixed("osBase", &[Text], base),
    fixed("clean", &[Text], |_, arguments| {
        Ok(Value::text(cleaned(arguments.text(0)?)))
    }),
    fixed("osClean", &[Text], |_, arguments| {
        Ok(Value::text(cleaned(arguments.text(0)?)))
    }),
    fixed("dir", &[Text], dir),
    fixed("osDir", &[Text], dir),
    fixed("ext", &[Text], ext),
    fixed("osExt", &[Text], ext),
    fixed("isAbs", &[Text], is_absolute),
    fixed("osIsAbs", &[Text], is_absolute),
];

fn base(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let path: &str = arguments.text(0)?;
    let trimmed = path.trim_end_matches('/');
    let base = trimmed.rsplit('/').next().unwrap_or_default();
    Ok(Value::text(match (path.is_empty(), base.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        (false, false) => base,
    }))
}

fn dir(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let path: &str = arguments.text(0)?;
    let end = path.rfind('/').map_or(0, |at| at + 1);
    Ok(Value::text(cleaned(&path[..end])))
}

fn ext(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let name = arguments.text(0)?.rsplit('/').next().unwrap_or_default();
    Ok(Value::text(name.rfind('.').map_or("", |at| &name[at..])))
}

fn is_absolute(_: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(Value::Bool(arguments.text(0)?.starts_with('/')))
}

/// The shortest path that means the same.
fn cleaned(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            ".." if is_absolute => {}
            part => kept.push(part),
        }
    }
    let joined = kept.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}
