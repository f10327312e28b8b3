//! URLs as dicts.

use std::sync::Arc;

use super::Type::{Dict, Text};
use super::{Answer, Arguments, Context, Function, fixed};
use crate::error::Failure;
use crate::go::url::{self, Url};
use crate::value::{Entries, Value};

pub(super) const ROWS: &[Function] = &[fixed("urlJoin", &[Dict], join), fixed("urlParse", &[Text], parse)];

fn parse(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    context.budget.allocate(text.len() * 3 + 512)?;
    let url = Url::parse(text).map_err(|error| format!("unable to parse url: {error}"))?;
    let parts = [
        ("fragment", url.fragment.as_str()),
        ("host", &url.host),
        ("hostname", url.hostname()),
        ("opaque", &url.opaque),
        ("path", &url.path),
        ("query", &url.query),
        ("scheme", &url.scheme),
        ("userinfo", url.user.as_deref().unwrap_or_default()),
    ];
    let entries: Entries = parts
        .into_iter()
        .map(|(key, value)| (Arc::from(key), Value::text(value)))
        .collect();
    Ok(Value::map(entries))
}

fn join(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let dict = arguments.dict(0)?;
    let part = |key: &str| match dict.get(key) {
        None => Ok(String::new()),
        Some(Value::Text(text)) => {
            context.budget.allocate(text.len() * 3)?;
            Ok(text.to_string())
        }
        Some(other) => Err(Failure::new(format!(
            "unable to parse {key} key, must be of type string, but {} found",
            other.kind_name()
        ))),
    };
    let user = part("userinfo")?;
    let user = if user.is_empty() {
        None
    } else {
        Some(url::parse_user(&user)?)
    };
    let url = Url {
        scheme: part("scheme")?,
        opaque: part("opaque")?,
        user,
        host: part("host")?,
        path: part("path")?,
        query: part("query")?,
        fragment: part("fragment")?,
    };
    Ok(Value::text(url.to_string()))
}
