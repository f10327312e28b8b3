//! What is used of a quota, together with what was admitted and cannot be seen yet.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, Time},
};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What is used of a quota, together with what was admitted and cannot be seen yet. Kept by the operator.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    crates(kube_core = "kube_core"),
    group = "capsule.clastix.io",
    version = "v1beta2",
    kind = "QuantityLedger",
    plural = "quantityledgers",
    singular = "quantityledger",
    shortname = "ql",
    namespaced,
    doc = "What is used of a quota, together with what was admitted and cannot be seen yet. Kept by the operator.",
    status = "QuantityLedgerStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn(
        name = "TargetKind",
        type_ = "string",
        json_path = ".spec.targetRef.kind",
        description = "Kind of the quota"
    ),
    printcolumn(
        name = "TargetNamespace",
        type_ = "string",
        json_path = ".spec.targetRef.namespace",
        description = "Namespace of the quota"
    ),
    printcolumn(
        name = "TargetName",
        type_ = "string",
        json_path = ".spec.targetRef.name",
        description = "Name of the quota"
    ),
    printcolumn(
        name = "Reserved",
        type_ = "string",
        json_path = ".status.reserved",
        description = "What is admitted and not seen yet"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct QuantityLedgerSpec {
    /// The quota.
    pub target_ref: LedgerTarget,
}

/// The quota that a ledger is kept for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerTarget {
    /// Its API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Its kind.
    #[schemars(extend("minLength" = 1))]
    pub kind: String,
    /// Its namespace, if it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[schemars(extend("minLength" = 1))]
    pub name: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What a ledger says. A CustomQuota's is in the fields here, a GlobalResourceQuota's in `resourceQuota`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuantityLedgerStatus {
    /// Sum of the reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Quantity>,
    /// What is used and what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<Quantity>,
    /// What was admitted and cannot be seen yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// Objects whose deletion was admitted and cannot be seen yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_deletes: Vec<PendingDelete>,
    /// What holds, what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The same, of several resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_quota: Option<ResourceQuotaLedger>,
}

/// An amount that was admitted and cannot be seen yet.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// UID of the request and name of the quota.
    #[schemars(extend("minLength" = 1))]
    pub id: String,
    /// What the object uses.
    pub usage: Quantity,
    /// By how much that is more than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Quantity>,
    /// The object.
    pub object_ref: LedgerObject,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed.
    pub updated_at: Time,
    /// When it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// An object whose deletion was admitted and cannot be seen yet.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingDelete {
    /// UID of the request and name of the quota.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The object.
    pub object_ref: LedgerObject,
    /// When it was made.
    pub created_at: Time,
}

/// An object that a ledger counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerObject {
    /// Its API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Its API group and version.
    #[schemars(extend("minLength" = 1))]
    pub api_version: String,
    /// Its kind.
    #[schemars(extend("minLength" = 1))]
    pub kind: String,
    /// Its namespace, if it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name. Absent if the API server has not made one yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its UID. Absent if it does not exist yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What is used and reserved of a GlobalResourceQuota, by resource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceQuotaLedger {
    /// The generation of the quota that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether every namespace is counted.
    #[serde(default, skip_serializing_if = "schema::is_default")]
    pub initialized: bool,
    /// Names of the namespaces that are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// What is used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Quantity>,
    /// Sum of the reservations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, Quantity>,
    /// What is used and what is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocated: BTreeMap<String, Quantity>,
    /// What was admitted and cannot be seen yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ResourceReservation>,
}

/// Amounts that were admitted and cannot be seen yet, by resource.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceReservation {
    /// UID of the request and name of the quota.
    #[schemars(extend("minLength" = 1))]
    pub id: String,
    /// What the object uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub usage: BTreeMap<String, Quantity>,
    /// By how much that is more than before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delta: BTreeMap<String, Quantity>,
    /// The object.
    pub object_ref: LedgerObject,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed.
    pub updated_at: Time,
    /// When it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}
