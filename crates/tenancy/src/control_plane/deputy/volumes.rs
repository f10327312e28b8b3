//! Volumes, and the Secrets that variables come from: nothing of anybody else in the namespace.
//!
//! A namespace may be shared, and a claim holds a tenant's data as a Secret does. So both are given only when they carry the
//! label `kamaji.clastix.io/name` with this control plane's name, which takes somebody with rights on them. An ephemeral
//! volume is a claim that the cluster makes with nobody asked: it may be empty space of some class, which quotas of the
//! namespace count, and nothing that exists already: no snapshot, clone or volume by name, and no annotations, because
//! these make importers fetch things.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EphemeralVolumeSource, PersistentVolumeClaimSpec, Volume, VolumeMount, VolumeProjection,
};

use super::Found;

impl Found<'_> {
    fn secret(&mut self, field: &str, secret: Option<&str>) {
        let secret = secret.unwrap_or_default();
        if !self.own.secrets.contains(secret) {
            self.not_own(field, "SecretNotOwn", "Secret", secret);
        }
    }

    fn claim(&mut self, field: &str, claim: &str) {
        if !self.own.claims.contains(claim) {
            self.not_own(field, "ClaimNotOwn", "PersistentVolumeClaim", claim);
        }
    }

    fn not_own(&mut self, field: &str, reason: &'static str, kind: &str, name: &str) {
        let message = format!(
            "{field}: the {kind} {name:?} is not labelled kamaji.clastix.io/name={}, and others are not given to this control plane; whoever may change it sets the label",
            self.name
        );
        self.deny(field, reason, message);
    }

    pub(super) fn volume(&mut self, field: &str, volume: &Volume) {
        // Every source is asked for by name: one that Kubernetes adds later is refused until it is looked at.
        let Volume {
            name: _,
            config_map,
            downward_api,
            empty_dir,
            ephemeral,
            persistent_volume_claim,
            projected,
            secret,
            ..
        } = volume;
        if let Some(secret) = secret {
            self.secret(&format!("{field}.secret.secretName"), secret.secret_name.as_deref());
        } else if let Some(projected) = projected {
            for (index, source) in projected.sources.iter().flatten().enumerate() {
                self.projection(&format!("{field}.projected.sources[{index}]"), source);
            }
        } else if let Some(claim) = persistent_volume_claim {
            self.claim(&format!("{field}.persistentVolumeClaim.claimName"), &claim.claim_name);
        } else if let Some(ephemeral) = ephemeral {
            self.ephemeral(&format!("{field}.ephemeral.volumeClaimTemplate"), ephemeral);
        } else if config_map.is_none() && downward_api.is_none() && empty_dir.is_none() {
            self.reach(field, "a volume other than configMap, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected or secret");
        }
        // More than one source is invalid, but this is not where that is found out; so no source hides behind another.
        let known = Volume {
            name: volume.name.clone(),
            config_map: config_map.clone(),
            downward_api: downward_api.clone(),
            empty_dir: empty_dir.clone(),
            ephemeral: ephemeral.clone(),
            persistent_volume_claim: persistent_volume_claim.clone(),
            projected: projected.clone(),
            secret: secret.clone(),
            ..Volume::default()
        };
        let sources = [
            config_map.is_some(),
            downward_api.is_some(),
            empty_dir.is_some(),
            ephemeral.is_some(),
            persistent_volume_claim.is_some(),
            projected.is_some(),
            secret.is_some(),
        ];
        if sources.into_iter().filter(|is_some| *is_some).count() > 1 || (sources.contains(&true) && known != *volume) {
            self.reach(field, "a volume with more than one source");
        }
    }

    fn ephemeral(&mut self, field: &str, source: &EphemeralVolumeSource) {
        let Some(template) = &source.volume_claim_template else {
            return;
        };
        let wanted = &template.spec;
        // By name, as with volumes: what Kubernetes adds later is refused until it is looked at.
        let empty_space = PersistentVolumeClaimSpec {
            access_modes: wanted.access_modes.clone(),
            resources: wanted.resources.clone(),
            storage_class_name: wanted.storage_class_name.clone(),
            volume_attributes_class_name: wanted.volume_attributes_class_name.clone(),
            volume_mode: wanted.volume_mode.clone(),
            ..PersistentVolumeClaimSpec::default()
        };
        if empty_space != *wanted {
            self.reach(
                &format!("{field}.spec"),
                "an ephemeral volume with contents or a place (dataSource, dataSourceRef, selector, volumeName)",
            );
        }
        let Some(metadata) = &template.metadata else { return };
        if metadata.annotations.as_ref().is_some_and(|all| !all.is_empty()) {
            self.reach(&format!("{field}.metadata.annotations"), "an annotated claim");
        }
        for key in metadata.labels.iter().flatten().map(|(key, _)| key) {
            self.metadata_key(&format!("{field}.metadata.labels"), key);
        }
    }

    fn projection(&mut self, field: &str, source: &VolumeProjection) {
        if let Some(secret) = &source.secret {
            self.secret(&format!("{field}.secret.name"), Some(&secret.name));
        }
        let harmless = VolumeProjection {
            config_map: source.config_map.clone(),
            downward_api: source.downward_api.clone(),
            secret: source.secret.clone(),
            cluster_trust_bundle: source.cluster_trust_bundle.clone(),
            ..VolumeProjection::default()
        };
        if harmless != *source {
            self.reach(
                field,
                "a projection other than clusterTrustBundle, configMap, downwardAPI or secret",
            );
        }
    }

    pub(super) fn variable(&mut self, field: &str, variable: &EnvVar) {
        let secret = variable
            .value_from
            .as_ref()
            .and_then(|from| from.secret_key_ref.as_ref());
        if let Some(secret) = secret {
            self.secret(&format!("{field}.valueFrom.secretKeyRef.name"), Some(&secret.name));
        }
    }

    pub(super) fn variables(&mut self, field: &str, source: &EnvFromSource) {
        if let Some(secret) = &source.secret_ref {
            self.secret(&format!("{field}.secretRef.name"), Some(&secret.name));
        }
    }

    pub(super) fn mount(&mut self, field: &str, mount: &VolumeMount) {
        if mount
            .mount_propagation
            .as_deref()
            .is_some_and(|propagation| propagation != "None")
        {
            self.reach(
                &format!("{field}.mountPropagation"),
                "a mount that is shared with the node",
            );
        }
    }
}
