//! Which images run, and as whom.

use api::kamaji::v1alpha1::TenantControlPlane;

use super::{DEPLOYMENT, Found, Trust};

impl Found<'_> {
    pub(super) fn service_account(&mut self, tcp: &TenantControlPlane, trust: &Trust) {
        let deployment = &tcp.spec.control_plane.deployment;
        let account = deployment.service_account_name.as_str();
        if !matches!(account, "" | "default") && !trust.service_accounts.contains(account) {
            let field = format!("{DEPLOYMENT}.serviceAccountName");
            let message = format!(
                "{field}: control planes do not run as {account:?}; leave the field out, or ask the administrator to allow that account"
            );
            self.deny(field, "ServiceAccountNotAllowed", message);
        }
        if deployment.automount_service_account_token == Some(true) {
            self.reach(
                &format!("{DEPLOYMENT}.automountServiceAccountToken"),
                "a service account's token",
            );
        }
    }

    pub(super) fn registry(&mut self, tcp: &TenantControlPlane, trust: &Trust) {
        let settings = &tcp.spec.control_plane.deployment.registry_settings;
        let part = |text: &str, more: &[char]| {
            text.chars()
                .all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_') || more.contains(&char))
        };
        let suffix = settings.tag_suffix.as_deref().unwrap_or_default();
        for (name, value, fits) in [
            (
                "registry",
                settings.registry.as_str(),
                part(&settings.registry, &['/', ':']),
            ),
            (
                "apiServerImage",
                &settings.api_server_image,
                part(&settings.api_server_image, &['/']),
            ),
            (
                "controllerManagerImage",
                &settings.controller_manager_image,
                part(&settings.controller_manager_image, &['/']),
            ),
            (
                "schedulerImage",
                &settings.scheduler_image,
                part(&settings.scheduler_image, &['/']),
            ),
            ("tagSuffix", suffix, part(suffix, &[])),
        ] {
            if !fits || (value.is_empty() && name != "tagSuffix") {
                let field = format!("{DEPLOYMENT}.registrySettings.{name}");
                let message = format!("{field}: {value:?} is not a part of an image's name");
                self.deny(field, "ImageInvalid", message);
            }
        }
        let images = [(
            format!("{DEPLOYMENT}.registrySettings.registry"),
            Some(settings.registry.as_str()),
        )];
        let deployment = &tcp.spec.control_plane.deployment;
        let containers = deployment
            .additional_init_containers
            .iter()
            .chain(&deployment.additional_containers);
        // The agent's image runs on the tenant's nodes.
        let tunnel = tcp.spec.addons.konnectivity.iter().map(|tunnel| {
            let field = "spec.addons.konnectivity.server.image".to_owned();
            (field, Some(tunnel.server.image.as_str()))
        });
        let images = images.into_iter().chain(tunnel).chain(containers.map(|container| {
            (
                format!("{DEPLOYMENT}: container {}", container.name),
                container.image.as_deref(),
            )
        }));
        for (field, image) in images {
            let Some(image) = image.filter(|_| !trust.registries.is_empty()) else {
                continue;
            };
            if !trust.registries.iter().any(|allowed| begins_with_path(image, allowed)) {
                let message = format!(
                    "{field}: {image:?} is not from an allowed registry; the administrator allows {}",
                    trust.registries.join(", ")
                );
                self.deny(field, "RegistryNotAllowed", message);
            }
        }
    }
}

fn begins_with_path(image: &str, allowed: &str) -> bool {
    let allowed = allowed.trim_end_matches('/');
    image
        .strip_prefix(allowed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}
