//! What a control plane has in a store, in words that fit every store.

use tenancy::control_plane::storage;

use super::error::StoreError;

/// What one control plane has in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the place for its data: key prefix and role, or database.
    pub schema: String,
    pub user: String,
    /// UID of the TenantControlPlane.
    pub owner: String,
}

/// Names that are on record as one owner's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Schemas, in order.
    pub schemas: Vec<String>,
    /// Users, in order.
    pub users: Vec<String>,
}

/// Whether names that exist without an owner on record are this control plane's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecorded {
    /// Its status said so before this operator came.
    Adopt,
    /// It is new, so they are somebody else's.
    Refuse,
}

impl Claim {
    /// Refuses names that no control plane is given. Admission has asked the same; it is asked again where it matters.
    /// Names of an older operator follow older rules, but none of them is empty.
    pub(super) fn check(&self, unrecorded: Unrecorded) -> Result<(), StoreError> {
        if self.schema.is_empty() || self.user.is_empty() || self.owner.is_empty() {
            return Err(StoreError::Refused("a name is empty".into()));
        }
        if unrecorded == Unrecorded::Adopt {
            return Ok(());
        }
        let names = [
            ("spec.dataStoreSchema", &self.schema),
            ("spec.dataStoreUsername", &self.user),
        ];
        match names.into_iter().find_map(|(field, name)| storage::name(field, name)) {
            Some(denial) => Err(StoreError::Refused(denial.message)),
            None => Ok(()),
        }
    }
}
