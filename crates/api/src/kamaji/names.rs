//! Well-known labels, annotations, finalizers and condition types of hosted control planes.
//!
//! Other people's scripts, dashboards and network policies select on these, so they never change.

/// Identity label: which product made this object. Its value is [`PROJECT_VALUE`].
pub const PROJECT_LABEL: &str = "kamaji.clastix.io/project";
/// The value of [`PROJECT_LABEL`].
pub const PROJECT_VALUE: &str = "kamaji";
/// Identity label: the TenantControlPlane that an object belongs to.
pub const NAME_LABEL: &str = "kamaji.clastix.io/name";
/// Identity label: what an object is for.
pub const COMPONENT_LABEL: &str = "kamaji.clastix.io/component";
/// How a Secret with a certificate is watched for expiry: [`LIFECYCLE_X509`] or [`LIFECYCLE_KUBECONFIG`].
pub const LIFECYCLE_LABEL: &str = "kamaji.clastix.io/certificate_lifecycle_controller";
/// The Secret holds a certificate.
pub const LIFECYCLE_X509: &str = "x509";
/// The Secret holds a kubeconfig with a client certificate.
pub const LIFECYCLE_KUBECONFIG: &str = "kubeconfig";
/// On kubeconfigs made by a KubeconfigGenerator: the generator.
pub const MANAGED_BY_LABEL: &str = "kamaji.clastix.io/managed-by";
/// On kubeconfigs made by a KubeconfigGenerator: the TenantControlPlane.
pub const MANAGED_FOR_LABEL: &str = "kamaji.clastix.io/managed-for";
/// On a migration Job: the TenantControlPlane's name.
pub const JOB_NAME_LABEL: &str = "tcp.kamaji.clastix.io/name";
/// On a migration Job: the TenantControlPlane's namespace.
pub const JOB_NAMESPACE_LABEL: &str = "tcp.kamaji.clastix.io/namespace";
/// Prefix of the pod template labels that carry a hash of each Secret a control plane reads.
pub const TEMPLATE_LABEL_PREFIX: &str = "component.kamaji.clastix.io/";

/// Present, with any value: the object is left alone.
pub const PAUSED_ANNOTATION: &str = "kamaji.clastix.io/paused";
/// The key of the admin kubeconfig Secret that the operator itself uses; default [`DEFAULT_KUBECONFIG_KEY`].
pub const KUBECONFIG_KEY_ANNOTATION: &str = "kamaji.clastix.io/kubeconfig-secret-key";
/// See [`KUBECONFIG_KEY_ANNOTATION`].
pub const DEFAULT_KUBECONFIG_KEY: &str = "super-admin.conf";
/// Whether a migration first empties its target.
pub const CLEANUP_PRIOR_MIGRATION_ANNOTATION: &str = "kamaji.clastix.io/cleanup-prior-migration";
/// How long a migration may take, as a Go duration.
pub const MIGRATION_TIMEOUT_ANNOTATION: &str = "kamaji.clastix.io/migration-timeout";
/// Empty: issue this Secret anew now. The operator replaces the value with the time at which it did.
pub const ROTATE_ANNOTATION: &str = "certs.kamaji.clastix.io/rotate";
/// MD5 over an object's values in the order of their keys.
pub const CHECKSUM_ANNOTATION: &str = "kamaji.clastix.io/checksum";
/// MD5 over the extra arguments of the API server.
pub const API_SERVER_ARGS_ANNOTATION: &str = "kube-apiserver.kamaji.clastix.io/args";
/// On the pod template: checksum of the datastore configuration Secret.
pub const STORAGE_CONFIG_ANNOTATION: &str = "storage.kamaji.clastix.io/config";
/// On the pod template: checksum of the datastore certificate Secret.
pub const STORAGE_CERTIFICATE_ANNOTATION: &str = "storage.kamaji.clastix.io/certificate";

/// On a TenantControlPlane: its content in the datastore has to be removed first.
pub const DATASTORE_FINALIZER: &str = "finalizer.kamaji.clastix.io";
/// On a TenantControlPlane: what runs inside of the tenant cluster has to be stopped first.
pub const SOOT_FINALIZER: &str = "finalizer.kamaji.clastix.io/soot";
/// On the datastore configuration Secret: the credentials are needed until the content is removed.
pub const DATASTORE_SECRET_FINALIZER: &str = "finalizer.kamaji.clastix.io/datastore-secret";
/// On a DataStore: control planes still use it.
pub const DATASTORE_IN_USE_FINALIZER: &str = "kamaji.clastix.io/TenantControlPlane";

/// On a DataStore: whether everything that it refers to exists. Decides `status.ready`.
pub const DATASTORE_VALIDATION_CONDITION: &str = "kamaji.clastix.io/DataStoreValidation";
/// On a DataStore: whether it may be deleted.
pub const DATASTORE_ALLOWED_DELETION_CONDITION: &str = "kamaji.clastix.io/DataStoreAllowedDeletion";
/// On a DataStore of driver NATS: which control plane was given the store's password last. Ours, in addition.
pub const PASSWORD_KNOWN_ANNOTATION: &str = "cotenant.dev/password-known-to";
/// On a DataStore: whether the store answers to the operator's credentials. Ours, in addition.
pub const DATASTORE_REACHABLE_CONDITION: &str = "cotenant.dev/DataStoreReachable";
