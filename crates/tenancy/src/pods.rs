//! Pods: their images, and their classes of priority and runtime.
//!
//! A pod costs a call of ours only where its tenant asks something of pods: namespaces of such tenants carry
//! [`VALIDATION_LABEL`] and [`DEFAULTS_LABEL`], which the hooks select. Both are kept as the other marks of a tenant's
//! namespaces are ([`crate::metadata`]): from the create of the namespace on, and a tenant user cannot take them off.
//!
//! What a pod had before is not looked at again: its controllers have to be able to change the rest of it, and it runs
//! already.

use api::capsule::v1beta2::TenantSpec;
use k8s_openapi::api::{core::v1::Pod, scheduling::v1::PriorityClass};
use kube_core::ResourceExt;

use std::collections::{BTreeMap, BTreeSet};

use crate::{audit::Limit, classes, denial::Denial, images, index::KnownTenant};

/// On a namespace: its tenant restricts pods.
pub const VALIDATION_LABEL: &str = "cotenant.dev/pod-validation";
/// On a namespace: its tenant has defaults for pods.
pub const DEFAULTS_LABEL: &str = "cotenant.dev/pod-defaults";

/// What Kubernetes takes when a PriorityClass does not say.
const PREEMPTION: &str = "PreemptLowerPriority";

/// Whether a tenant restricts pods.
pub fn is_restrictive(spec: &TenantSpec) -> bool {
    !spec.image_pull_policies.is_empty()
        || spec.container_registries.is_some()
        || spec.priority_classes.is_some()
        || spec.runtime_classes.is_some()
}

/// Whether a tenant has defaults for pods.
pub fn has_defaults(spec: &TenantSpec) -> bool {
    let classes = [&spec.priority_classes, &spec.runtime_classes];
    classes.into_iter().flatten().any(|list| !list.default.is_empty())
}

/// Looks up the labels of a class object by its name; `None` if there is none.
pub type Labels<'a> = &'a dyn Fn(&str) -> Option<&'a BTreeMap<String, String>>;

/// The classes that exist.
#[derive(Clone, Copy)]
pub struct Classes<'a> {
    /// Labels of PriorityClasses.
    pub priority: Labels<'a>,
    /// Labels of RuntimeClasses.
    pub runtime: Labels<'a>,
}

/// Checks a pod of a tenant. `old` is the pod before an update, also one by `pods/ephemeralcontainers`.
///
/// # Errors
/// If it uses an image, a pull policy or a class that the tenant may not use.
pub fn validate(tenant: &KnownTenant, pod: &Pod, old: Option<&Pod>, classes: Classes<'_>) -> Result<(), Denial> {
    check_images(tenant, pod, old)?;
    if old.is_some() {
        // Neither class can be changed.
        return Ok(());
    }
    check_priority_class(tenant, pod, classes.priority)?;
    check_runtime_class(tenant, pod, classes.runtime)
}

fn check_images(tenant: &KnownTenant, pod: &Pod, old: Option<&Pod>) -> Result<(), Denial> {
    if tenant.registries.is_none() && tenant.object.spec.image_pull_policies.is_empty() {
        return Ok(());
    }
    let before: BTreeSet<_> = old
        .map(images::of_pod)
        .unwrap_or_default()
        .iter()
        .map(|used| (used.image, used.pull_policy))
        .collect();
    let new = images::of_pod(pod);
    for used in new
        .iter()
        .filter(|used| !before.contains(&(used.image, used.pull_policy)))
    {
        check_pull_policy(tenant, used)?;
        check_registry(tenant, used)?;
    }
    Ok(())
}

fn check_pull_policy(tenant: &KnownTenant, used: &images::Use<'_>) -> Result<(), Denial> {
    let allowed: Vec<_> = tenant
        .object
        .spec
        .image_pull_policies
        .iter()
        .map(|policy| format!("{policy:?}"))
        .collect();
    let policy = used.pull_policy;
    if allowed.is_empty() || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(policy)) {
        return Ok(());
    }
    let field = used.policy_field();
    let message = format!(
        "{field}: ImagePullPolicy {policy} for {} {} is forbidden, use one of the followings: {}; an administrator set \
         this with {}",
        used.what(),
        used.name,
        allowed.join(", "),
        tenant.field("spec.imagePullPolicies")
    );
    Err(Denial::new(field, "ForbiddenPullPolicy", message).by(Limit::ImagePullPolicies))
}

fn check_registry(tenant: &KnownTenant, used: &images::Use<'_>) -> Result<(), Denial> {
    let Some(policy) = &tenant.registries else {
        return Ok(());
    };
    let (reason, detail) = match images::registry(used.image) {
        Some(registry) if policy.allows(registry, None) => return Ok(()),
        Some(_) => ("ForbiddenContainerRegistry", ""),
        None => (
            "MissingFQCI",
            " (the image names no registry; write it in full, as in registry.example.com/image:tag)",
        ),
    };
    let field = used.image_field();
    let message = format!(
        "{field}: Container image {} registry is forbidden for the current Tenant{detail}: {}; an administrator set this \
         with {}",
        used.image,
        policy.describe(),
        tenant.field("spec.containerRegistries")
    );
    Err(Denial::new(field, reason, message).by(Limit::ContainerRegistries))
}

fn check_priority_class(tenant: &KnownTenant, pod: &Pod, labels: Labels<'_>) -> Result<(), Denial> {
    let (Some(policy), Some(class)) = (&tenant.priority_classes, priority_class(pod)) else {
        return Ok(());
    };
    if policy.allows(class, labels(class)) {
        return Ok(());
    }
    let field = "spec.priorityClassName";
    let message = format!(
        "{field}: Pod Priority Class {class} is forbidden for the current Tenant: {}; an administrator set this with {}",
        policy.describe(),
        tenant.field("spec.priorityClasses")
    );
    Err(Denial::new(field, "ForbiddenPriorityClass", message).by(Limit::PriorityClasses))
}

fn check_runtime_class(tenant: &KnownTenant, pod: &Pod, labels: Labels<'_>) -> Result<(), Denial> {
    let (Some(policy), Some(class)) = (&tenant.runtime_classes, runtime_class(pod)) else {
        return Ok(());
    };
    if policy.allows(class, labels(class)) {
        return Ok(());
    }
    let field = "spec.runtimeClassName";
    let message = format!(
        "{field}: Pod Runtime Class {class} is forbidden for the current Tenant: {}; an administrator set this with {}",
        policy.describe(),
        tenant.field("spec.runtimeClasses")
    );
    Err(Denial::new(field, "ForbiddenRuntimeClass", message).by(Limit::RuntimeClasses))
}

/// A new pod with the tenant's default classes where it names none; `None` if nothing is to be changed. A PriorityClass
/// that is the cluster's own default counts as none, because the API server has filled it in.
///
/// # Errors
/// If the tenant's default PriorityClass does not exist: its number has to be written beside its name.
pub fn with_default_classes<'a>(
    tenant: &KnownTenant,
    pod: &Pod,
    existing: impl IntoIterator<Item = &'a PriorityClass> + Clone,
) -> Result<Option<Pod>, Denial> {
    let cluster_default = existing
        .clone()
        .into_iter()
        .find(|class| class.global_default == Some(true))
        .map(ResourceExt::name_any);
    let priority = classes::default_class(
        tenant.priority_classes.as_ref(),
        priority_class(pod),
        cluster_default.as_deref(),
    );
    let runtime = classes::default_class(tenant.runtime_classes.as_ref(), runtime_class(pod), None);
    if priority.is_none() && runtime.is_none() {
        return Ok(None);
    }
    let mut changed = pod.clone();
    let spec = changed.spec.get_or_insert_default();
    if let Some(name) = priority {
        let class = existing.into_iter().find(|class| class.name_any() == name);
        let class = class.ok_or_else(|| missing_default(tenant, name))?;
        spec.priority_class_name = Some(name.to_owned());
        spec.priority = Some(class.value.unwrap_or_default());
        let preemption = class.preemption_policy.clone();
        spec.preemption_policy = Some(preemption.unwrap_or_else(|| PREEMPTION.to_owned()));
    }
    if let Some(name) = runtime {
        spec.runtime_class_name = Some(name.to_owned());
    }
    Ok(Some(changed))
}

fn missing_default(tenant: &KnownTenant, name: &str) -> Denial {
    let field = "spec.priorityClassName";
    let message = format!(
        "{field}: there is no Priority Class {name:?}, which is the tenant's default; an administrator has to create it, \
         or to name another one in {}",
        tenant.field("spec.priorityClasses.default")
    );
    Denial::new(field, "MissingPriorityClass", message).with_code(500)
}

fn priority_class(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.priority_class_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

fn runtime_class(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.runtime_class_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;
    use crate::pattern::Cache;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn known(spec: Value) -> KnownTenant {
        KnownTenant::new(tenant("oil").with(spec).into(), &mut Cache::default())
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
    }

    fn of_image(image: &str, policy: &str) -> Value {
        json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": policy}]})
    }

    fn decided(tenant: &KnownTenant, pod: &Pod, old: Option<&Pod>) -> Option<Denial> {
        let fast = BTreeMap::from([("tier".to_owned(), "fast".to_owned())]);
        let labels = |name: &str| (name == "labelled").then_some(&fast);
        let classes = Classes {
            priority: &labels,
            runtime: &labels,
        };
        validate(tenant, pod, old, classes).err()
    }

    fn reason(tenant: &KnownTenant, spec: Value) -> Option<&'static str> {
        decided(tenant, &pod(spec), None).map(|denial| denial.reason)
    }

    #[rstest]
    #[case::allowed(of_image("docker.io/library/nginx:1", "Always"), None)]
    #[case::by_the_pattern(of_image("quay.oil.example/a", "Always"), None)]
    #[case::another(of_image("ghcr.io/a", "Always"), Some("ForbiddenContainerRegistry"))]
    #[case::another_port(of_image("docker.io:5000/a", "Always"), Some("ForbiddenContainerRegistry"))]
    #[case::none_named(of_image("nginx", "Always"), Some("MissingFQCI"))]
    #[case::in_an_init_container(
        json!({"containers": [], "initContainers": [{"name": "i", "image": "ghcr.io/a", "imagePullPolicy": "Always"}]}),
        Some("ForbiddenContainerRegistry")
    )]
    #[case::in_an_ephemeral_container(
        json!({"containers": [], "ephemeralContainers": [{"name": "e", "image": "ghcr.io/a", "imagePullPolicy": "Always"}]}),
        Some("ForbiddenContainerRegistry")
    )]
    #[case::in_a_volume(
        json!({"containers": [], "volumes": [{"name": "v", "image": {"reference": "ghcr.io/a", "pullPolicy": "Always"}}]}),
        Some("ForbiddenContainerRegistry")
    )]
    #[case::pulled_too_rarely(of_image("docker.io/a", "IfNotPresent"), Some("ForbiddenPullPolicy"))]
    #[case::in_other_letters(of_image("docker.io/a", "always"), None)]
    #[case::no_policy(of_image("docker.io/a", ""), Some("ForbiddenPullPolicy"))]
    #[case::a_volume_pulled_too_rarely(
        json!({"containers": [], "volumes": [{"name": "v", "image": {"reference": "docker.io/a", "pullPolicy": "Never"}}]}),
        Some("ForbiddenPullPolicy")
    )]
    fn images_are_from_allowed_registries_and_pulled_when_allowed(#[case] spec: Value, #[case] expected: Option<&str>) {
        let oil = known(json!({
            "imagePullPolicies": ["Always"],
            "containerRegistries": {"allowed": ["docker.io"], "allowedRegex": r"^[a-z]+\.oil\.example$"},
        }));
        assert_eq!(reason(&oil, spec), expected);
    }

    #[test]
    fn what_runs_already_can_stay_and_nothing_else_comes_in() {
        let oil = known(json!({"containerRegistries": {"allowed": ["docker.io"]}}));
        let old = pod(of_image("ghcr.io/a", "Always"));
        assert_eq!(decided(&oil, &old, Some(&old)), None);
        let mut more = old.clone();
        more.labels_mut().insert("a".into(), "b".into());
        assert_eq!(decided(&oil, &more, Some(&old)), None);
        let other = pod(of_image("ghcr.io/b", "Always"));
        let denial = decided(&oil, &other, Some(&old)).unwrap();
        assert_eq!(
            (denial.reason, denial.field.as_str()),
            ("ForbiddenContainerRegistry", "spec.containers[0].image")
        );
    }

    #[rstest]
    #[case::none(json!({"containers": []}), None)]
    #[case::empty(json!({"containers": [], "priorityClassName": "", "runtimeClassName": ""}), None)]
    #[case::allowed(json!({"containers": [], "priorityClassName": "low"}), None)]
    #[case::the_default(json!({"containers": [], "priorityClassName": "usual"}), None)]
    #[case::by_labels(json!({"containers": [], "priorityClassName": "labelled", "runtimeClassName": "labelled"}), None)]
    #[case::another(json!({"containers": [], "priorityClassName": "high"}), Some("ForbiddenPriorityClass"))]
    #[case::a_runtime_by_the_pattern(json!({"containers": [], "runtimeClassName": "kata-fc"}), None)]
    #[case::another_runtime(json!({"containers": [], "runtimeClassName": "runc"}), Some("ForbiddenRuntimeClass"))]
    fn classes_are_those_of_the_tenant(#[case] spec: Value, #[case] expected: Option<&str>) {
        let oil = known(json!({
            "priorityClasses": {"allowed": ["low"], "default": "usual", "matchLabels": {"tier": "fast"}},
            "runtimeClasses": {"allowedRegex": "^kata", "matchLabels": {"tier": "fast"}},
        }));
        assert_eq!(reason(&oil, spec), expected);
        assert_eq!(
            reason(
                &known(json!({})),
                json!({"containers": [], "priorityClassName": "high"})
            ),
            None
        );
    }

    #[test]
    fn a_refusal_says_where_what_would_be_right_and_who_set_it() {
        let oil = known(
            json!({"imagePullPolicies": ["Always", "IfNotPresent"], "containerRegistries": {"allowed": ["docker.io"]}}),
        );
        let message = |spec: Value| decided(&oil, &pod(spec), None).unwrap().message;
        assert_eq!(
            message(of_image("docker.io/a", "Never")),
            "spec.containers[0].imagePullPolicy: ImagePullPolicy Never for container c is forbidden, use one of the \
             followings: Always, IfNotPresent; an administrator set this with spec.imagePullPolicies of the Tenant \"oil\""
        );
        assert_eq!(
            message(of_image("ghcr.io/a", "Always")),
            "spec.containers[0].image: Container image ghcr.io/a registry is forbidden for the current Tenant: use one \
             from the following list (docker.io); an administrator set this with spec.containerRegistries of the \
             Tenant \"oil\""
        );
    }

    fn priority_classes() -> Vec<PriorityClass> {
        serde_json::from_value(json!([
            {"metadata": {"name": "usual"}, "value": 10, "preemptionPolicy": "Never"},
            {"metadata": {"name": "clusters"}, "value": 5, "globalDefault": true},
        ]))
        .unwrap()
    }

    #[rstest]
    #[case::none_named(json!({"containers": []}), true)]
    #[case::filled_in_by_the_cluster(json!({"containers": [], "priorityClassName": "clusters", "priority": 5}), true)]
    #[case::named(json!({"containers": [], "priorityClassName": "high"}), false)]
    fn the_default_priority_class_comes_with_its_numbers(#[case] spec: Value, #[case] expected: bool) {
        let oil = known(json!({"priorityClasses": {"default": "usual"}}));
        let changed = with_default_classes(&oil, &pod(spec), &priority_classes()).unwrap();
        let spec = changed.and_then(|pod| pod.spec);
        let found = spec.map(|spec| (spec.priority_class_name, spec.priority, spec.preemption_policy));
        let usual = (Some("usual".to_owned()), Some(10), Some("Never".to_owned()));
        assert_eq!(found, expected.then_some(usual));
    }

    #[test]
    fn a_default_priority_class_that_is_not_there_is_said() {
        let oil = known(json!({"priorityClasses": {"default": "gone"}}));
        let denial = with_default_classes(&oil, &pod(json!({"containers": []})), &priority_classes()).unwrap_err();
        assert_eq!((denial.reason, denial.code), ("MissingPriorityClass", 500));
    }

    #[test]
    fn the_default_runtime_class_is_for_pods_that_name_none() {
        let oil = known(json!({"runtimeClasses": {"default": "kata"}}));
        let runtime = |spec: Value| {
            let changed = with_default_classes(&oil, &pod(spec), &[]).unwrap()?;
            changed.spec?.runtime_class_name
        };
        assert_eq!(runtime(json!({"containers": []})).as_deref(), Some("kata"));
        assert_eq!(runtime(json!({"containers": [], "runtimeClassName": "runc"})), None);
        assert!(
            with_default_classes(&known(json!({})), &pod(json!({"containers": []})), &[])
                .unwrap()
                .is_none()
        );
    }

    #[rstest]
    #[case(json!({}), false, false)]
    #[case(json!({"imagePullPolicies": ["Always"]}), true, false)]
    #[case(json!({"containerRegistries": {}}), true, false)]
    #[case(json!({"priorityClasses": {"allowed": ["a"]}}), true, false)]
    #[case(json!({"runtimeClasses": {"default": "a"}}), true, true)]
    fn a_tenant_that_asks_nothing_of_pods_costs_them_nothing(
        #[case] spec: Value,
        #[case] restrictive: bool,
        #[case] defaults: bool,
    ) {
        let oil = known(spec);
        assert_eq!(
            (is_restrictive(&oil.object.spec), has_defaults(&oil.object.spec)),
            (restrictive, defaults)
        );
    }

    proptest! {
        /// A longer list never refuses what a shorter one allows, whatever the image is called.
        #[test]
        fn allowing_more_registries_never_refuses_more(
            image in "[a-cA./:@ ]{0,8}",
            names in prop::collection::vec("[a-c.]{1,3}", 0..3),
            more in prop::collection::vec("[a-c.]{1,3}", 0..3),
        ) {
            let shorter = known(json!({"containerRegistries": {"allowed": names}}));
            let all = [names, more].concat();
            let longer = known(json!({"containerRegistries": {"allowed": all}}));
            let is_refused = |tenant: &KnownTenant| reason(tenant, of_image(&image, "Always")).is_some();
            prop_assert!(is_refused(&shorter) || !is_refused(&longer));
        }
    }
}
