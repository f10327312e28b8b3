//! Pods: images, priority and runtime, and what the tenant's rules say.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tenancy::denial::Decision;
use tenancy::pods::{self, Classes};

use super::objects::Asked;
use crate::decide::Input;
use crate::review::Operation;

/// Gives a new pod the tenant's default classes, and any pod what the tenant's rules set.
pub fn settle(input: &Input<'_, Pod>) -> Decision<Pod> {
    // What is wrong with the namespace, if it is that, is said by the validating rule.
    let (Some(pod), Ok(Some(tenant))) = (input.object, input.tenant()) else {
        return Decision::Allow;
    };
    let mut changed = None;
    if input.request.operation == Operation::Create {
        let classes = input.view.priority_classes();
        match pods::with_default_classes(&tenant, pod, classes.iter().map(AsRef::as_ref)) {
            Ok(with_classes) => changed = with_classes,
            Err(denial) => return Decision::Deny(denial),
        }
    }
    let asked = Asked::of(input, &tenant);
    let edits = asked.settle(changed.as_ref().unwrap_or(pod).into(), input.old.map(Into::into));
    if edits.is_empty() {
        return Ok(changed).into();
    }
    let mut changed = changed.unwrap_or_else(|| pod.clone());
    if let Some(spec) = edits.apply_to(&mut changed.metadata) {
        changed.spec = Some(*spec);
    }
    Ok(Some(changed)).into()
}

/// Refuses images and classes that the tenant's lists do not contain, and what its rules do not allow.
pub fn validate(input: &Input<'_, Pod>) -> Decision<Pod> {
    let Some(pod) = input.object else {
        return Decision::Allow;
    };
    let tenant = match input.tenant() {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return Decision::Allow,
        Err(denial) => return Decision::Deny(denial),
    };
    let old = input.old.filter(|_| input.request.operation == Operation::Update);
    let (priority, runtime) = (input.view.priority_classes(), input.view.runtime_classes());
    let priority: HashMap<_, _> = priority
        .iter()
        .map(|class| (class.name_any(), class.labels()))
        .collect();
    let runtime: HashMap<_, _> = runtime.iter().map(|class| (class.name_any(), class.labels())).collect();
    let classes = Classes {
        priority: &|name| priority.get(name).copied(),
        runtime: &|name| runtime.get(name).copied(),
    };
    pods::validate(&tenant, pod, old, classes)
        .and_then(|()| Asked::of(input, &tenant).validate(pod.into(), old.map(Into::into)))
        .into()
}
