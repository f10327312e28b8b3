//! Defaults, choices, and what a value is.

use super::Type::{Any, Bool, Text};
use super::{Function, fixed, variadic};
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    variadic("all", &[], Any, |_, arguments| {
        Ok(Value::Bool(arguments.0.iter().all(Value::truth)))
    }),
    variadic("any", &[], Any, |_, arguments| {
        Ok(Value::Bool(arguments.0.iter().any(Value::truth)))
    }),
    variadic("coalesce", &[], Any, |_, arguments| {
        Ok(arguments
            .0
            .iter()
            .find(|value| value.truth())
            .cloned()
            .unwrap_or(Value::Nil))
    }),
    fixed("deepEqual", &[Any, Any], |context, arguments| {
        let equal = arguments.value(0)?.deep_equal(arguments.value(1)?, context.budget, 0)?;
        Ok(Value::Bool(equal))
    }),
    variadic("default", &[Any], Any, |_, arguments| {
        let given = arguments.from(1).first().filter(|given| given.truth());
        Ok(given.unwrap_or(arguments.value(0)?).clone())
    }),
    fixed("empty", &[Any], |_, arguments| {
        Ok(Value::Bool(arguments.value(0)?.is_empty()))
    }),
    fixed("fail", &[Text], |_, arguments| {
        Err(arguments.text(0)?.to_string().into())
    }),
    fixed("hello", &[], |_, _| Ok(Value::text("Hello!"))),
    fixed("kindIs", &[Text, Any], |_, arguments| {
        Ok(Value::Bool(**arguments.text(0)? == *arguments.value(1)?.kind_name()))
    }),
    fixed("kindOf", &[Any], |_, arguments| {
        Ok(Value::text(arguments.value(0)?.kind_name()))
    }),
    fixed("ternary", &[Any, Any, Bool], |_, arguments| {
        Ok(arguments.value(usize::from(!arguments.bool(2)?))?.clone())
    }),
    fixed("typeIs", &[Text, Any], |_, arguments| {
        Ok(Value::Bool(**arguments.text(0)? == *arguments.value(1)?.type_name()))
    }),
    fixed("typeIsLike", &[Text, Any], |_, arguments| {
        let name = arguments.value(1)?.type_name();
        let wanted: &str = arguments.text(0)?;
        Ok(Value::Bool(wanted == name || name.strip_prefix('*') == Some(wanted)))
    }),
    fixed("typeOf", &[Any], |_, arguments| {
        Ok(Value::text(arguments.value(0)?.type_name()))
    }),
];
