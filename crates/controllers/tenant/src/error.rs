//! What can go wrong, in words for a condition and for the log.

use runtime::Report;
use runtime::report::{chain, is_transient_kube};

/// A step of a reconciliation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to apply {kind} {namespace}/{name}")]
    Apply {
        kind: &'static str,
        namespace: String,
        name: String,
        source: kube::Error,
    },
    #[error(
        "failed to apply RoleBinding {namespace}/{name}: somebody else made one of this name for {found}, delete it to let \
         the tenant's be made"
    )]
    RoleTaken {
        namespace: String,
        name: String,
        found: String,
    },
    /// Kubernetes looks the role up unless the operator may bind it in any case.
    #[error("failed to apply RoleBinding {namespace}/{name}: there is no ClusterRole {role:?}")]
    RoleMissing {
        namespace: String,
        name: String,
        role: String,
    },
    #[error("failed to delete {kind} {namespace}/{name}")]
    Delete {
        kind: &'static str,
        namespace: String,
        name: String,
        source: kube::Error,
    },
    #[error("failed to update the metadata of namespace {name}")]
    UpdateNamespace { name: String, source: kube::Error },
    #[error("failed to update the metadata of {kind} {name}")]
    UpdateMetadata {
        kind: &'static str,
        /// With the namespace, if it is in one.
        name: String,
        source: kube::Error,
    },
    #[error("failed to set labels and annotations that rules manage on {what}")]
    UpdateManaged {
        /// Resource, namespace and name.
        what: String,
        source: kube::Error,
    },
    #[error("failed to read {what}")]
    Read { what: String, source: kube::Error },
    #[error("failed to delete namespace {name}")]
    DeleteNamespace { name: String, source: kube::Error },
    #[error("failed to update the metadata of tenant {name}")]
    UpdateTenant { name: String, source: kube::Error },
    #[error("failed to publish the status of {kind} {name}")]
    PublishStatus {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to plan tenant {tenant}: {reason}")]
    Plan { tenant: String, reason: String },
    #[error("failed to create the configuration {name}")]
    CreateConfiguration { name: String, source: kube::Error },
    #[error("failed to apply {kind} {name}")]
    ApplyClusterWide {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to delete {kind} {name}")]
    DeleteClusterWide {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("failed to carry out {failed} of {all} steps for tenant {tenant}")]
    Steps {
        tenant: String,
        failed: usize,
        all: usize,
        transient: bool,
        /// One of the failures; all of them are in the tenant's conditions.
        #[source]
        first: Box<Error>,
    },
    #[error("the watch of {0} ended before its first list")]
    WatchEnded(&'static str),
}

impl Error {
    /// For people: what failed, and the API server's own words where it refused.
    pub fn told(&self) -> String {
        match self.cause() {
            Some(kube::Error::Api(status)) => format!("{self}: {}", status.message),
            _ => chain(self),
        }
    }

    fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Apply { source, .. }
            | Self::Delete { source, .. }
            | Self::UpdateNamespace { source, .. }
            | Self::UpdateMetadata { source, .. }
            | Self::UpdateManaged { source, .. }
            | Self::Read { source, .. }
            | Self::DeleteNamespace { source, .. }
            | Self::UpdateTenant { source, .. }
            | Self::PublishStatus { source, .. }
            | Self::CreateConfiguration { source, .. }
            | Self::ApplyClusterWide { source, .. }
            | Self::DeleteClusterWide { source, .. } => Some(source),
            Self::RoleTaken { .. }
            | Self::RoleMissing { .. }
            | Self::Plan { .. }
            | Self::Steps { .. }
            | Self::WatchEnded(_) => None,
        }
    }
}

impl Report for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Apply { .. } | Self::ApplyClusterWide { .. } => "ApplyFailed",
            Self::RoleTaken { .. } => "NameTaken",
            Self::RoleMissing { .. } => "ClusterRoleMissing",
            Self::Delete { .. } | Self::DeleteClusterWide { .. } => "DeleteFailed",
            Self::UpdateNamespace { .. } => "NamespaceUpdateFailed",
            Self::UpdateMetadata { .. } | Self::UpdateManaged { .. } => "MetadataUpdateFailed",
            Self::Read { .. } => "ReadFailed",
            Self::DeleteNamespace { .. } => "NamespaceDeletionFailed",
            Self::UpdateTenant { .. } => "TenantUpdateFailed",
            Self::PublishStatus { .. } => "StatusUpdateFailed",
            Self::Plan { .. } => "InvalidTenant",
            Self::CreateConfiguration { .. } => "ConfigurationFailed",
            Self::Steps { first, .. } => first.category(),
            Self::WatchEnded(_) => "WatchEnded",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Steps { transient, .. } => *transient,
            Self::Plan { .. } | Self::RoleTaken { .. } => false,
            // Nobody tells us when somebody makes the role.
            Self::RoleMissing { .. } | Self::WatchEnded(_) => true,
            other => other.cause().is_some_and(is_transient_kube),
        }
    }
}
