//! Objects of a control plane that another operator has kept until now.
//!
//! Its fields become ours before our first apply, see [`field_managers::inherit`]: the apply then adds, changes and removes in one
//! write, so that pods roll once. A status takes no such change of owners, so one that says more than ours is replaced. Who wrote our identity label by plain updates is a predecessor, whatever it called itself;
//! what people and other controllers wrote stays theirs.

use std::fmt::Debug;

use api::kamaji::names::PROJECT_LABEL;
use api::kamaji::v1alpha1::{TenantControlPlane, TenantControlPlaneStatus};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use runtime::field_managers;
use serde::de::DeserializeOwned;

/// Makes fields of predecessors those of `manager`, if the object is there and has any.
///
/// # Errors
/// Among others a conflict, if somebody has changed the object meanwhile.
pub(crate) async fn inherit<K>(api: &Api<K>, name: &str, manager: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let Some(found) = api.get_metadata_opt(name).await? else {
        return Ok(());
    };
    let patch = field_managers::inherit(&found.metadata, manager, |entry| {
        field_managers::is_update(entry, "") && field_managers::owns_label(entry, PROJECT_LABEL)
    });
    let Some(patch) = patch else {
        return Ok(());
    };
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    api.patch_metadata(name, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await?;
    tracing::info!(kind = %K::kind(&()), name, "fields of another operator are ours now");
    Ok(())
}

/// Takes out of a status what others wrote with plain updates beside ours. `answer` is that of the apply.
pub(crate) async fn own_status(
    api: &Api<TenantControlPlane>,
    mut answer: TenantControlPlane,
    status: &TenantControlPlaneStatus,
    manager: &str,
) -> Result<(), kube::Error> {
    if !field_managers::is_status_mixed(&answer.metadata, manager) {
        return Ok(());
    }
    answer.metadata.managed_fields = None;
    answer.status = Some(status.clone());
    let parameters = PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    };
    api.replace_status(&answer.name_any(), &parameters, &answer).await?;
    Ok(())
}
