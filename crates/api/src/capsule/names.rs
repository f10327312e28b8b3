//! Well-known labels, annotations, finalizers, object names and field managers of namespace tenants.
//!
//! Other people's scripts, dashboards and network policies select on these, so they never change.

/// The API group of the kinds.
pub const GROUP: &str = "capsule.clastix.io";
/// `apiVersion` of the kinds as they are stored and as owner references name them.
pub const API_VERSION: &str = "capsule.clastix.io/v1beta2";
/// The kind that owner references of namespaces name.
pub const TENANT_KIND: &str = "Tenant";

// Labels.

/// On a Namespace or PersistentVolume: the tenant that it belongs to. Webhooks select on it.
pub const TENANT_LABEL: &str = "capsule.clastix.io/tenant";
/// On objects made for a tenant, on all objects in its namespaces, and on a TenantOwner: the tenant.
pub const PROJECT_TENANT_LABEL: &str = "projectcapsule.dev/tenant";
/// On all objects in a tenant's namespaces: the tenant, as older versions wrote it.
pub const MANAGED_BY_TENANT: &str = "capsule.clastix.io/managed-by";
/// Who keeps an object: [`MANAGED_BY_CONTROLLER`], `resources` or `replications`.
pub const MANAGED_BY_LABEL: &str = "projectcapsule.dev/managed-by";
/// Value of [`MANAGED_BY_LABEL`]: the operator keeps the object.
pub const MANAGED_BY_CONTROLLER: &str = "controller";
/// Who made an object: `replications`, [`CREATED_BY_CONTROLLER`] or [`CREATED_BY_RBAC`].
pub const CREATED_BY_LABEL: &str = "projectcapsule.dev/created-by";
/// Value of [`CREATED_BY_LABEL`] and [`MANAGED_BY_LABEL`]: objects of TenantResources and GlobalTenantResources.
pub const REPLICATIONS: &str = "replications";
/// On an object that an older version replicated.
pub const LEGACY_REPLICATED_LABEL: &str = "capsule.clastix.io/resources";
/// Value of [`CREATED_BY_LABEL`]: cluster roles and bindings of tenant users.
pub const CREATED_BY_RBAC: &str = "rbac-controller";
/// Value of [`CREATED_BY_LABEL`]: webhook configurations.
pub const CREATED_BY_CONTROLLER: &str = "controller";
/// On a Namespace: `true` freezes what is in it.
pub const CORDONED_LABEL: &str = "projectcapsule.dev/cordoned";
/// On a Namespace: the tenant counts objects by annotation.
pub const CUSTOM_RESOURCES_LABEL: &str = "projectcapsule.dev/custom-resources";
/// On a copy of a NetworkPolicy: its index in the tenant.
pub const NETWORK_POLICY_LABEL: &str = "capsule.clastix.io/network-policy";
/// On a copy of a LimitRange: its index in the tenant.
pub const LIMIT_RANGE_LABEL: &str = "capsule.clastix.io/limit-range";
/// On a copy of a ResourceQuota: its index in the tenant.
pub const RESOURCE_QUOTA_LABEL: &str = "capsule.clastix.io/resource-quota";
/// On a RoleBinding: the hash that its name ends in.
pub const ROLE_BINDING_LABEL: &str = "capsule.clastix.io/role-binding";
/// On a ServiceAccount: `true` makes it an owner of its tenant.
pub const OWNER_PROMOTION_LABEL: &str = "owner.projectcapsule.dev/promote";
/// On a ServiceAccount: `true` gives it the roles that the tenant's rules promise.
pub const PROMOTION_LABEL: &str = "projectcapsule.dev/promote";
/// On a RuleStatus that the operator keeps: its name.
pub const OBJECT_NAME_LABEL: &str = "projectcapsule.dev/name";
/// On Namespaces (by the API server) and Tenants (by us): the object's name, to select by.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

// Annotations.

/// On a Namespace: the node selector of its pods, as `key=value` pairs. Read by the API server's PodNodeSelector.
pub const NODE_SELECTOR_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// On a Namespace: the ingress classes that may be used.
pub const INGRESS_CLASSES_ANNOTATION: &str = "capsule.clastix.io/ingress-classes";
/// On a Namespace: a pattern for the ingress classes that may be used.
pub const INGRESS_CLASSES_REGEXP_ANNOTATION: &str = "capsule.clastix.io/ingress-classes-regexp";
/// On a Namespace: the storage classes that may be used.
pub const STORAGE_CLASSES_ANNOTATION: &str = "capsule.clastix.io/storage-classes";
/// On a Namespace: a pattern for the storage classes that may be used.
pub const STORAGE_CLASSES_REGEXP_ANNOTATION: &str = "capsule.clastix.io/storage-classes-regexp";
/// On a Namespace: the image registries that may be used.
pub const REGISTRIES_ANNOTATION: &str = "capsule.clastix.io/allowed-registries";
/// On a Namespace: a pattern for the image registries that may be used.
pub const REGISTRIES_REGEXP_ANNOTATION: &str = "capsule.clastix.io/allowed-registries-regexp";
/// On a Tenant and its Namespaces: label keys that owners may not set.
pub const FORBIDDEN_LABELS_ANNOTATION: &str = "capsule.clastix.io/forbidden-namespace-labels";
/// On a Tenant and its Namespaces: a pattern of label keys that owners may not set.
pub const FORBIDDEN_LABELS_REGEXP_ANNOTATION: &str = "capsule.clastix.io/forbidden-namespace-labels-regexp";
/// On a Tenant and its Namespaces: annotation keys that owners may not set.
pub const FORBIDDEN_ANNOTATIONS_ANNOTATION: &str = "capsule.clastix.io/forbidden-namespace-annotations";
/// On a Tenant and its Namespaces: a pattern of annotation keys that owners may not set.
pub const FORBIDDEN_ANNOTATIONS_REGEXP_ANNOTATION: &str = "capsule.clastix.io/forbidden-namespace-annotations-regexp";
/// On a Tenant: begins the limit of a kind of object, `<plural>.<group>_<version>`.
pub const OBJECT_QUOTA_ANNOTATION_PREFIX: &str = "quota.resources.capsule.clastix.io/";
/// On a Tenant: begins the number of objects of a kind, `<plural>.<group>_<version>`.
pub const OBJECT_USED_ANNOTATION_PREFIX: &str = "used.resources.capsule.clastix.io/";
/// On a copy of a ResourceQuota: begins both annotations of a resource, `hard-<resource>` and `used-<resource>`.
pub const QUOTA_ANNOTATION_PREFIX: &str = "quota.capsule.clastix.io/";
/// On a copy of a ResourceQuota: begins what the whole tenant may use of a resource.
pub const QUOTA_HARD_ANNOTATION_PREFIX: &str = "quota.capsule.clastix.io/hard-";
/// On a copy of a ResourceQuota: begins what the whole tenant uses of a resource.
pub const QUOTA_USED_ANNOTATION_PREFIX: &str = "quota.capsule.clastix.io/used-";
/// On a Tenant in `v1beta1`: begins the ClusterRoles of an owner, `<index>` or `<kind>.<name>` in lower case.
pub const CLUSTER_ROLES_ANNOTATION_PREFIX: &str = "clusterrolenames.capsule.clastix.io/";
/// On a Tenant in `v1beta1`: whether hostnames of Ingresses may not begin with `*`.
pub const DENY_WILDCARD_ANNOTATION: &str = "capsule.clastix.io/deny-wildcard";
/// On a Tenant in `v1beta1`: `true` freezes it.
pub const CORDON_ANNOTATION: &str = "capsule.clastix.io/cordon";
/// On a Tenant in `v1beta1`: refuses its deletion, whatever the value.
pub const PROTECTED_ANNOTATION: &str = "capsule.clastix.io/protected";
/// On a Tenant in `v1beta1`: what only `v1beta2` can say, so that a change made in `v1beta1` keeps it.
pub const CARRIED_ANNOTATION: &str = "cotenant.dev/v1beta2";
/// On any object: asks for a reconcile now. The value is a time.
pub const RECONCILE_ANNOTATION: &str = "reconcile.projectcapsule.dev/requestedAt";
/// On webhook configurations: a hash of what they were made from.
pub const ADMISSION_STATE_ANNOTATION: &str = "projectcapsule.dev/admission-state-hash";
/// What `kubectl apply` remembers in an object.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// On a StorageClass: `true` makes it the cluster's default.
pub const DEFAULT_STORAGE_CLASS_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";
/// On an IngressClass: `true` makes it the cluster's default.
pub const DEFAULT_INGRESS_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// On an Ingress: its class, as it was written before `spec.ingressClassName` existed.
pub const INGRESS_CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

// Finalizers and field managers.

/// On a Tenant: its namespaces have to be gone first.
pub const FINALIZER: &str = "controller.projectcapsule.dev/finalize";
/// On a TenantResource or GlobalTenantResource, as older versions wrote it.
pub const LEGACY_FINALIZER: &str = "capsule.clastix.io/resources";
/// Field manager of what the operator keeps.
pub const FIELD_MANAGER: &str = "projectcapsule.dev/controller";
/// Field manager of who owns a replicated object.
pub const RESOURCE_FIELD_MANAGER: &str = "projectcapsule.dev/resource/controller";

// Objects.

/// Begins the names of copies of quotas, limit ranges and network policies: `capsule-<tenant>-<index>`.
pub const REPLICA_PREFIX: &str = "capsule-";
/// The RuleStatus of a namespace that holds the rules of its tenant.
pub const MANAGED_RULES: &str = "capsule-managed-rules";
/// Begins the names of role bindings: `capsule:managed:<hash>`.
pub const ROLE_BINDING_PREFIX: &str = "capsule:managed:";
/// Roles of an owner who names none: the administration of a namespace, and its deletion.
pub const DEFAULT_OWNER_CLUSTER_ROLES: [&str; 2] = ["admin", DELETER_CLUSTER_ROLE];
/// The ClusterRole that lets tenant users create namespaces, unless the configuration names another.
pub const PROVISIONER_CLUSTER_ROLE: &str = "capsule-namespace-provisioner";
/// The ClusterRole that lets owners delete their namespaces, unless the configuration names another.
pub const DELETER_CLUSTER_ROLE: &str = "capsule-namespace-deleter";
/// The CapsuleConfiguration that is read unless a flag names another.
pub const DEFAULT_CONFIGURATION: &str = "default";
/// The group of tenant users in a configuration that had to be made.
pub const DEFAULT_USER_GROUP: &str = "projectcapsule.dev";

// Conditions.

/// Whether everything that an object asks for is there.
pub const READY_CONDITION: &str = "Ready";
/// Whether a tenant or one of its namespaces is frozen.
pub const CORDONED_CONDITION: &str = "Cordoned";
/// On a space: the namespace is going away, and what holds it up.
pub const TERMINATING_CONDITION: &str = "Terminating";
