//! Images of a pod: where they may come from, and how they may be pulled.

use api::capsule::v1beta2::{RegistryMatch, RuleAction, WorkloadRule, WorkloadTarget};
use k8s_openapi::api::core::v1::PodSpec;

use super::{
    compiled::{Applicable, Held},
    evaluate::evaluate,
    finding::{Findings, Set, Subject},
    matching::{Answer, Expression, Item},
};
use crate::{denial::Denial, pattern::Cache};

const REGISTRY: Set = Set {
    name: "registry",
    allowed: "Allowed registries",
    reason: "ForbiddenContainerRegistry",
};
const PULL_POLICY: &str = "ForbiddenPullPolicy";

/// What a rule says about images.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageRules {
    /// Parts of the pod. Those that name no image are left out; all parts, if none is left.
    targets: Vec<WorkloadTarget>,
    items: Vec<ImageItem>,
}

impl ImageRules {
    pub(super) fn new(source: &WorkloadRule, patterns: &mut Cache) -> Self {
        let targets = source.targets.iter().copied();
        Self {
            // The pod as a whole has no image. A rule for it alone is one for all of its images.
            targets: targets.filter(|target| *target != WorkloadTarget::Pod).collect(),
            items: source
                .registries
                .iter()
                .map(|source| ImageItem::new(source, patterns))
                .collect(),
        }
    }

    fn items_for(&self, target: WorkloadTarget) -> &[ImageItem] {
        if self.targets.is_empty() || self.targets.contains(&target) {
            &self.items
        } else {
            &[]
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct ImageItem {
    reference: Expression,
    policies: Vec<Box<str>>,
}

impl ImageItem {
    fn new(source: &RegistryMatch, patterns: &mut Cache) -> Self {
        Self {
            reference: Expression::new(&source.exact, &source.exp, source.negate, patterns),
            policies: source.policy.iter().map(|policy| policy.as_str().into()).collect(),
        }
    }
}

impl Item<str> for ImageItem {
    fn answer(&self, value: &str) -> Answer {
        self.reference.answer(value)
    }

    fn describe(&self) -> String {
        self.reference.describe()
    }
}

/// An image that a pod names.
struct Image<'a> {
    target: WorkloadTarget,
    /// As sentences say it.
    place: String,
    field: String,
    reference: &'a str,
    pull_policy: &'a str,
}

/// Refuses images that the rules do not allow.
pub(super) fn validate(findings: &mut Findings, rules: &Applicable<'_>, pod: &PodSpec) -> Result<(), Denial> {
    if rules.blocks.iter().all(|held| held.block.images.items.is_empty()) {
        return Ok(());
    }
    images(pod).try_for_each(|image| check(findings, rules, &image))
}

fn check(findings: &mut Findings, rules: &Applicable<'_>, image: &Image<'_>) -> Result<(), Denial> {
    let target = image.target;
    let lists = rules.lists(move |block| block.images.items_for(target));
    let reference = image.reference.trim();
    let subject = Subject {
        set: &REGISTRY,
        value: reference,
        place: &image.place,
        field: &image.field,
    };
    if reference.is_empty() {
        return empty(findings, rules, &subject, lists);
    }
    let Some(item) = evaluate(findings, rules, &subject, reference, lists.clone())? else {
        return Ok(());
    };
    if item.policies.is_empty() || item.policies.iter().any(|policy| **policy == *image.pull_policy) {
        return Ok(());
    }
    let holders = lists.filter(|(_, items)| items.iter().any(|other| std::ptr::eq(other, item)));
    let holders: Vec<_> = holders.map(|(held, _)| held.block.index).collect();
    let (allowed, set_by) = (item.policies.join(", "), rules.set_by(&holders));
    let message = if image.pull_policy.is_empty() {
        format!("{subject} must explicitly set pullPolicy (allowed: {allowed}); {set_by}")
    } else {
        let policy = image.pull_policy;
        format!("{subject} has pullPolicy {policy:?}, which is not allowed for it (allowed: {allowed}); {set_by}")
    };
    findings.refuse_because(&subject, PULL_POLICY, message)
}

/// An image without a name cannot be said to come from an allowed place.
fn empty<'r>(
    findings: &mut Findings,
    rules: &Applicable<'r>,
    subject: &Subject<'_>,
    lists: impl Iterator<Item = (Held<'r>, &'r [ImageItem])>,
) -> Result<(), Denial> {
    let deciding = lists.filter(|(held, _)| held.block.action != RuleAction::Audit);
    let deciding: Vec<_> = deciding.map(|(held, _)| held.block.index).collect();
    if deciding.is_empty() {
        return Ok(());
    }
    let set_by = rules.set_by(&deciding);
    let message = format!("{subject} is denied by namespace rule: an image has to be named; {set_by}");
    findings.refuse(subject, message)
}

fn images(pod: &PodSpec) -> impl Iterator<Item = Image<'_>> {
    let container = |target, list: &str, index, reference, pull_policy| {
        let place = format!("{list}[{index}]");
        Image {
            target,
            field: format!("spec.{place}.image"),
            place,
            reference,
            pull_policy,
        }
    };
    let init = pod
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .map(move |(index, of)| {
            let (image, policy) = (text(of.image.as_ref()), text(of.image_pull_policy.as_ref()));
            container(WorkloadTarget::InitContainers, "initContainers", index, image, policy)
        });
    let main = pod.containers.iter().enumerate().map(move |(index, of)| {
        let (image, policy) = (text(of.image.as_ref()), text(of.image_pull_policy.as_ref()));
        container(WorkloadTarget::Containers, "containers", index, image, policy)
    });
    let ephemeral = pod.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral = ephemeral.map(move |(index, of)| {
        let (image, policy) = (text(of.image.as_ref()), text(of.image_pull_policy.as_ref()));
        container(
            WorkloadTarget::EphemeralContainers,
            "ephemeralContainers",
            index,
            image,
            policy,
        )
    });
    let volumes = pod.volumes.iter().flatten().enumerate();
    let volumes = volumes.filter_map(|(index, volume)| {
        let image = volume.image.as_ref()?;
        Some(Image {
            target: WorkloadTarget::Volumes,
            place: format!("volumes[{index}]({})", volume.name),
            field: format!("spec.volumes[{index}].image.reference"),
            reference: text(image.reference.as_ref()),
            pull_policy: text(image.pull_policy.as_ref()),
        })
    });
    init.chain(main).chain(ephemeral).chain(volumes)
}

fn text(value: Option<&String>) -> &str {
    value.map(String::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::rules::fixtures::{pod, refusal, refused, rules, validate_pod};
    use rstest::rstest;
    use serde_json::{Value, json};

    const OURS: &str = "registry.example/app:1";

    fn registries(action: &str, targets: &[&str], registries: Value) -> Value {
        json!({"action": action, "workloads": {"targets": targets, "registries": registries}})
    }

    fn everywhere(init: &str, main: &str, ephemeral: &str, volume: &str) -> Value {
        json!({
            "initContainers": [{"name": "i", "image": init}],
            "containers": [{"name": "m", "image": main}],
            "ephemeralContainers": [{"name": "e", "image": ephemeral}],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "models", "image": {"reference": volume}}],
        })
    }

    #[rstest]
    #[case::all_of_ours(everywhere(OURS, OURS, OURS, OURS), None)]
    #[case::an_init_container(everywhere("x", "y", "z", "v"), Some("spec.initContainers[0].image"))]
    #[case::a_container(everywhere(OURS, "y", "z", "v"), Some("spec.containers[0].image"))]
    #[case::an_ephemeral_container(everywhere(OURS, OURS, "z", "v"), Some("spec.ephemeralContainers[0].image"))]
    #[case::a_volume(everywhere(OURS, OURS, OURS, "v"), Some("spec.volumes[1].image.reference"))]
    #[case::an_empty_reference(everywhere(OURS, "", OURS, OURS), Some("spec.containers[0].image"))]
    fn every_image_is_looked_at(#[case] spec: Value, #[case] expected: Option<&str>) {
        let list = json!([registries("allow", &[], json!([{"exp": "^registry.example/"}]))]);
        assert_eq!(refused(&validate_pod(&rules(list), &pod(spec))), expected);
    }

    #[rstest]
    #[case(&["pod/containers"], "spec.containers[0].image")]
    #[case(&["pod/initcontainers"], "spec.initContainers[0].image")]
    #[case(&["pod/ephemeralcontainers"], "spec.ephemeralContainers[0].image")]
    #[case(&["pod/volumes"], "spec.volumes[1].image.reference")]
    #[case(&["pod", "pod/containers"], "spec.containers[0].image")]
    #[case(&["pod"], "spec.initContainers[0].image")]
    fn targets_say_which(#[case] targets: &[&str], #[case] expected: &str) {
        let list = json!([registries("deny", targets, json!([{"exp": "."}]))]);
        let outcome = validate_pod(&rules(list), &pod(everywhere("a", "a", "a", "a")));
        assert_eq!(refused(&outcome), Some(expected));
    }

    #[test]
    fn places_are_said_shortly() {
        let list = json!([registries("deny", &["pod/volumes"], json!([{"exact": ["a"]}]))]);
        let outcome = validate_pod(&rules(list), &pod(everywhere("a", "a", "a", "a")));
        assert_eq!(
            refusal(&outcome).unwrap().1,
            "registry \"a\" at volumes[1](models) is denied by namespace rule: matched denied rule \"a\"; an administrator \
             set this with spec.rules[0] of the Tenant \"oil\""
        );
        assert_eq!(outcome.refusal.unwrap().reason, "ForbiddenContainerRegistry");
    }

    #[rstest]
    #[case::one_of_the_policies("registry.example/a", Some("Always"), None)]
    #[case::another_policy(
        "registry.example/a",
        Some("IfNotPresent"),
        Some("has pullPolicy \"IfNotPresent\", which is not allowed for it (allowed: Always, Never)")
    )]
    #[case::no_policy(
        "registry.example/a",
        None,
        Some("must explicitly set pullPolicy (allowed: Always, Never)")
    )]
    #[case::the_first_match_of_a_rule_counts("registry.example/free/a", Some("IfNotPresent"), None)]
    #[case::a_later_rule_counts("other/a", Some("IfNotPresent"), None)]
    fn the_item_that_allowed_an_image_says_how_it_is_pulled(
        #[case] image: &str,
        #[case] policy: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let list = json!([
            registries(
                "allow",
                &[],
                json!([
                    {"exp": "^registry.example/free/"},
                    {"exp": "^registry.example/", "policy": ["Always", "Never"]},
                    {"exp": "^other/", "policy": ["Never"]},
                ])
            ),
            registries("allow", &[], json!([{"exp": "^other/"}])),
        ]);
        let spec = json!({"containers": [{"name": "m", "image": image, "imagePullPolicy": policy}]});
        let outcome = validate_pod(&rules(list), &pod(spec));
        assert_eq!(outcome.is_allowed(), expected.is_none());
        if let Some(expected) = expected {
            let (field, message) = refusal(&outcome).unwrap();
            assert_eq!(field, "spec.containers[0].image");
            assert!(message.contains(expected), "{message}");
            assert!(
                message.ends_with("with spec.rules[0] of the Tenant \"oil\""),
                "{message}"
            );
            assert_eq!(outcome.refusal.as_ref().unwrap().reason, "ForbiddenPullPolicy");
        }
    }

    #[test]
    fn rules_that_only_record_pass_an_empty_reference() {
        let list = json!([registries("audit", &[], json!([{"exp": "."}]))]);
        assert!(validate_pod(&rules(list), &pod(everywhere("", "", "", ""))).is_allowed());
    }
}
