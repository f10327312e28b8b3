//! The control plane that a command names.

use std::fmt;

use anyhow::Context;
use api::kamaji::v1alpha1::TenantControlPlane;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::stopped::Stopped;

/// A name, and a namespace if one was given.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "TenantControlPlane {namespace}/{}", self.name),
            None => write!(f, "TenantControlPlane {}", self.name),
        }
    }
}

impl Named {
    /// Reads it: in its namespace, or wherever the only one of that name is.
    pub(crate) async fn find(&self, client: &Client) -> anyhow::Result<TenantControlPlane> {
        let name = &self.name;
        if let Some(namespace) = &self.namespace {
            let found = Api::<TenantControlPlane>::namespaced(client.clone(), namespace)
                .get_opt(name)
                .await
                .with_context(|| format!("failed to read the control plane {namespace}/{name}"))?;
            return found.ok_or_else(|| {
                Stopped::not_found(format!(
                    "no control plane {name:?} in namespace {namespace}; `cotenant cluster list` shows them"
                ))
            });
        }
        let mut found = Api::<TenantControlPlane>::all(client.clone())
            .list(&ListParams::default().fields(&format!("metadata.name={name}")))
            .await
            .context("failed to list control planes; name a namespace of yours with --namespace")?
            .items;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Stopped::not_found(format!(
                "no control plane {name:?}; `cotenant cluster list` shows them"
            ))),
            _ => {
                let namespaces: Vec<String> = found.iter().filter_map(ResourceExt::namespace).collect();
                Err(Stopped::refused(format!(
                    "control planes named {name} are in {}: say which with --namespace",
                    namespaces.join(", ")
                )))
            }
        }
    }
}
