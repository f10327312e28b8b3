//! Pods: images, priority and runtime.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tenancy::denial::Decision;
use tenancy::pods::{self, Classes};

use crate::decide::Input;
use crate::review::Operation;

/// Gives a new pod the tenant's default classes.
pub fn default_classes(input: &Input<'_, Pod>) -> Decision<Pod> {
    // What is wrong with the namespace, if it is that, is said by the validating rule.
    let (Some(pod), Ok(Some(tenant))) = (input.object, input.tenant()) else {
        return Decision::Allow;
    };
    let classes = input.view.priority_classes();
    pods::with_default_classes(&tenant, pod, classes.iter().map(AsRef::as_ref)).into()
}

/// Refuses images and classes that the tenant's lists do not contain.
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
    pods::validate(&tenant, pod, old, classes).into()
}
