//! From a decision to its end: planned, tried, or written and waited for.

use api::kamaji::v1alpha1::TenantControlPlane;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::plan::Effects;
use super::wait::Goal;
use crate::progress;
use crate::session::{Session, Writing};
use crate::stopped::{is_conflict, of_write};

const FIELD_MANAGER: &str = "cotenant-cli";

/// How often a decision is made anew because somebody else wrote in between. Controllers write often and soon stop.
const ATTEMPTS: usize = 20;

/// What a command decided, and from what.
pub(super) struct Decided {
    /// What was asked for, as a plan's heading.
    pub(super) title: String,
    /// `None`: it is not there yet, or no more.
    pub(super) before: Option<TenantControlPlane>,
    /// None, when all is as it should be.
    pub(super) write: Option<Write>,
    /// What `--wait` waits for.
    pub(super) goal: Goal,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Create(Box<TenantControlPlane>),
    Patch {
        namespace: String,
        name: String,
        patch: Value,
    },
    Delete {
        namespace: String,
        name: String,
        uid: String,
        version: String,
    },
}

impl Write {
    /// What it does, for people: `("TenantControlPlane prod/oil", "changed")`.
    fn told(&self) -> (String, &'static str) {
        let (namespace, name, outcome) = match self {
            Self::Create(tcp) => (tcp.namespace().unwrap_or_default(), tcp.name_any(), "created"),
            Self::Patch { namespace, name, .. } => (namespace.clone(), name.clone(), "changed"),
            Self::Delete { namespace, name, .. } => (namespace.clone(), name.clone(), "deleted"),
        };
        (format!("TenantControlPlane {namespace}/{name}"), outcome)
    }

    /// Sends it. Gives the object as it is afterwards; `None`, when it goes.
    async fn send(&self, client: &Client, dry_run: bool) -> Result<Option<TenantControlPlane>, kube::Error> {
        let api = |namespace: &str| Api::<TenantControlPlane>::namespaced(client.clone(), namespace);
        match self {
            Self::Create(tcp) => {
                let params = PostParams {
                    dry_run,
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                };
                let namespace = tcp.namespace().unwrap_or_default();
                api(&namespace).create(&params, tcp).await.map(Some)
            }
            Self::Patch { namespace, name, patch } => {
                let params = PatchParams {
                    dry_run,
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api(namespace)
                    .patch(name, &params, &Patch::Merge(patch))
                    .await
                    .map(Some)
            }
            Self::Delete {
                namespace,
                name,
                uid,
                version,
            } => {
                let params = DeleteParams {
                    dry_run,
                    preconditions: Some(Preconditions {
                        uid: Some(uid.clone()),
                        resource_version: Some(version.clone()),
                    }),
                    ..DeleteParams::default()
                };
                api(namespace).delete(name, &params).await.map(|_| None)
            }
        }
    }
}

/// Decides, and does with it what the flags say. A write that meets somebody else's is decided anew.
pub(super) async fn carry_out(
    session: &mut Session<'_>,
    writing: &Writing,
    decide: impl AsyncFn() -> anyhow::Result<Decided>,
) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        let decided = decide().await?;
        let sent = match &decided.write {
            None => Ok(decided.before.clone()),
            Some(write) => write.send(&session.client, writing.writes_nothing()).await,
        };
        let after = match sent {
            Err(error) if is_conflict(&error) && attempt < ATTEMPTS => {
                attempt += 1;
                continue;
            }
            Err(error) => return Err(of_write(error, &decided.title)),
            Ok(after) => after,
        };
        if writing.plan {
            let effects = Box::pin(Effects::of(&session.client, decided.before.as_ref(), after.as_ref())).await?;
            return session.tell(&json!({"plan": decided.title, "effects": effects}), || {
                effects.told(&decided.title)
            });
        }
        tell_outcome(session, decided.write.as_ref(), writing.writes_nothing())?;
        let Some(patience) = writing.patience() else {
            return Ok(());
        };
        let progress = progress::choose(session.json);
        return decided.goal.reach(&session.client, patience, &*progress).await;
    }
}

fn tell_outcome(session: &mut Session<'_>, write: Option<&Write>, dry_run: bool) -> anyhow::Result<()> {
    let Some(write) = write else {
        return session.tell(&json!({"outcome": "unchanged"}), || {
            "Nothing to do: it is so already.\n".to_owned()
        });
    };
    let (object, outcome) = write.told();
    let value = json!({"object": object, "outcome": outcome, "dryRun": dry_run});
    session.tell(&value, || {
        let would = if dry_run { " (server dry run)" } else { "" };
        format!("{object} {outcome}{would}\n")
    })
}
