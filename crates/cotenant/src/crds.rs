//! The definitions of our kinds, written into a cluster that may have them already, from us or from a peer's chart.

use std::path::PathBuf;

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};

/// Capsule's chart writes its definitions under this name: what they no longer say goes, instead of staying as somebody else's.
const FIELD_MANAGER: &str = "capsule/crd-lifecycle";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the kinds of this group.
    #[arg(long)]
    group: Option<String>,
    /// The cluster to work on; without it the one that this program runs in.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// Applies each definition, whoever made it. Says what it has applied.
pub(crate) async fn apply(args: Args) -> anyhow::Result<()> {
    let agent = concat!("cotenant-crds/", env!("CARGO_PKG_VERSION"));
    let client = runtime::client::connect(args.kubeconfig.as_deref(), agent).await?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let wanted = args.group.as_deref();
    for mut definition in api::crds() {
        if wanted.is_some_and(|group| group != definition.spec.group) {
            continue;
        }
        let name = definition.name_any();
        let live = api
            .get_opt(&name)
            .await
            .with_context(|| format!("failed to read {name}"))?;
        // Who converts, and by which authority, is the running operator's to say.
        if let Some(live) = live
            && definition.spec.conversion.is_some()
            && live.spec.versions.len() > 1
        {
            definition.spec.conversion = live.spec.conversion;
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&definition))
            .await
            .with_context(|| format!("failed to apply {name}"))?;
        println!("{name} applied");
    }
    Ok(())
}
