//! Images as pods name them: which registry, and pulled when.
//!
//! The registry is what the runtime takes it to be: the part before the first `/`, if that part can be a host. `nginx` and
//! `library/nginx` name none; what a runtime adds then is the node's setting and not the pod's, so it is not guessed
//! here.

use k8s_openapi::api::core::v1::Pod;

/// One place of a pod that names an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use<'a> {
    /// Name of the list in the pod's spec, such as `initContainers`.
    list: &'static str,
    index: usize,
    /// Name of the container or volume.
    pub name: &'a str,
    /// The reference as written.
    pub image: &'a str,
    /// When it is pulled. Empty if nothing is said, which the API server never leaves so.
    pub pull_policy: &'a str,
}

impl<'a> Use<'a> {
    fn new(
        list: &'static str,
        index: usize,
        name: &'a str,
        image: Option<&'a String>,
        policy: Option<&'a String>,
    ) -> Self {
        Self {
            list,
            index,
            name,
            image: image.map(String::as_str).unwrap_or_default(),
            pull_policy: policy.map(String::as_str).unwrap_or_default(),
        }
    }

    /// Path of the reference.
    pub fn image_field(&self) -> String {
        self.field("image", "image.reference")
    }

    /// Path of the pull policy.
    pub fn policy_field(&self) -> String {
        self.field("imagePullPolicy", "image.pullPolicy")
    }

    /// `container` or `volume`.
    pub fn what(&self) -> &'static str {
        if self.list == VOLUMES { "volume" } else { "container" }
    }

    fn field(&self, of_container: &str, of_volume: &str) -> String {
        let field = if self.list == VOLUMES { of_volume } else { of_container };
        format!("spec.{}[{}].{field}", self.list, self.index)
    }
}

const VOLUMES: &str = "volumes";

/// Every image of a pod: of init, main and ephemeral containers, and of volumes.
pub fn of_pod(pod: &Pod) -> Vec<Use<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ];
    let containers = containers.into_iter().flat_map(|(list, containers)| {
        let containers = containers.iter().enumerate();
        containers.map(move |(index, c)| Use::new(list, index, &c.name, c.image.as_ref(), c.image_pull_policy.as_ref()))
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral = ephemeral.map(|(index, c)| {
        let (image, policy) = (c.image.as_ref(), c.image_pull_policy.as_ref());
        Use::new("ephemeralContainers", index, &c.name, image, policy)
    });
    let volumes = spec.volumes.iter().flatten().enumerate();
    let volumes = volumes.filter_map(|(index, volume)| {
        let source = volume.image.as_ref()?;
        let (image, policy) = (source.reference.as_ref(), source.pull_policy.as_ref());
        Some(Use::new(VOLUMES, index, &volume.name, image, policy))
    });
    containers.chain(ephemeral).chain(volumes).collect()
}

/// The registry that a reference names, with its port; `None` if it names none.
///
/// Source: `splitDockerDomain` of github.com/distribution/reference, by which container runtimes go.
pub fn registry(image: &str) -> Option<&str> {
    let (first, _) = image.split_once('/')?;
    let is_host =
        first.contains(['.', ':']) || first == "localhost" || first.chars().any(|letter| letter.is_ascii_uppercase());
    is_host.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::a_host("registry.k8s.io/pause:3.10", Some("registry.k8s.io"))]
    #[case::a_host_with_a_port("registry:5000/a/b:1", Some("registry:5000"))]
    #[case::localhost("localhost/a", Some("localhost"))]
    #[case::an_address("[::1]:5000/a", Some("[::1]:5000"))]
    #[case::with_a_digest("ghcr.io/a@sha256:0123", Some("ghcr.io"))]
    #[case::no_path("nginx", None)]
    #[case::no_path_but_a_tag("nginx:1.29", None)]
    #[case::an_organisation_is_no_host("library/nginx", None)]
    #[case::only_hosts_have_capitals("Library/nginx", Some("Library"))]
    #[case::a_host_inside_another("good.io@evil.io/a", Some("good.io@evil.io"))]
    #[case::a_blank_before(" good.io/a", Some(" good.io"))]
    #[case::nothing_before_the_slash("/a", None)]
    #[case::empty("", None)]
    fn the_registry_is_the_host_before_the_first_slash(#[case] image: &str, #[case] expected: Option<&str>) {
        assert_eq!(registry(image), expected);
    }

    #[test]
    fn every_place_that_names_an_image_is_found() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "initContainers": [{"name": "a", "image": "i/a", "imagePullPolicy": "Always"}],
            "containers": [{"name": "b", "image": "i/b"}, {"name": "none"}],
            "ephemeralContainers": [{"name": "c", "image": "i/c", "imagePullPolicy": "Never"}],
            "volumes": [{"name": "plain", "emptyDir": {}}, {"name": "d", "image": {"reference": "i/d", "pullPolicy": "IfNotPresent"}}],
        }}))
        .unwrap();
        let found: Vec<_> = of_pod(&pod)
            .iter()
            .map(|used| {
                (
                    used.image_field(),
                    used.policy_field(),
                    used.image,
                    used.pull_policy,
                    used.what(),
                )
            })
            .collect();
        let expected = [
            (
                "spec.initContainers[0].image",
                "spec.initContainers[0].imagePullPolicy",
                "i/a",
                "Always",
                "container",
            ),
            (
                "spec.containers[0].image",
                "spec.containers[0].imagePullPolicy",
                "i/b",
                "",
                "container",
            ),
            (
                "spec.containers[1].image",
                "spec.containers[1].imagePullPolicy",
                "",
                "",
                "container",
            ),
            (
                "spec.ephemeralContainers[0].image",
                "spec.ephemeralContainers[0].imagePullPolicy",
                "i/c",
                "Never",
                "container",
            ),
            (
                "spec.volumes[1].image.reference",
                "spec.volumes[1].image.pullPolicy",
                "i/d",
                "IfNotPresent",
                "volume",
            ),
        ];
        assert_eq!(
            found,
            expected.map(|(image, policy, i, p, w)| (image.to_owned(), policy.to_owned(), i, p, w))
        );
        assert_eq!(of_pod(&Pod::default()), []);
    }

    proptest! {
        #[test]
        fn a_registry_never_holds_a_slash_and_begins_the_image(image in ".{0,40}") {
            if let Some(host) = registry(&image) {
                prop_assert!(!host.contains('/') && image.starts_with(host));
            }
        }
    }
}
