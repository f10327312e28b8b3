//! Pods of a tenant, many at once, each of which says how much of the disk it needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::stage::Stage;

impl Stage {
    pub async fn create_pod(&self, namespace: &str, disk: &str, dry_run: bool) -> Result<Pod, Error> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "p-", "labels": {"of": self.tenant}},
            "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
                "resources": {"requests": {"ephemeral-storage": disk}}}]}});
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        Api::namespaced(self.owner.clone(), namespace)
            .create(&params, &serde_json::from_value(pod).unwrap())
            .await
    }

    pub async fn pods(&self) -> Vec<Pod> {
        let labelled = ListParams::default().labels(&format!("of={}", self.tenant));
        let api = Api::<Pod>::all(self.masters.clone());
        api.list(&labelled).await.unwrap().items
    }

    pub async fn delete_pod(&self, pod: &Pod) {
        let api: Api<Pod> = Api::namespaced(self.masters.clone(), &pod.namespace().unwrap());
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        api.delete(&pod.name_any(), &now).await.unwrap();
    }

    /// So many of a mebibyte at once, in these namespaces in turn.
    pub async fn burst(&self, namespaces: &[String], number: usize) -> Vec<Result<Pod, Error>> {
        let creates = (0..number).map(|index| {
            let (stage, namespace) = (self.clone(), namespaces[index % namespaces.len()].clone());
            tokio::spawn(async move {
                loop {
                    let made = stage.create_pod(&namespace, "1Mi", false).await;
                    // On a machine that is too slow for all of them at once, some are told so, and a namespace may be
                    // older than the account that pods in it run as.
                    let is_told = |error: &Error| {
                        let said = error.to_string();
                        said.contains("please retry") || said.contains("error looking up service account")
                    };
                    if !made.as_ref().is_err_and(is_told) {
                        return made;
                    }
                }
            })
        });
        join_all(creates).await.into_iter().map(Result::unwrap).collect()
    }

    /// Looks all the time; the most pods that were there at any moment come back.
    pub async fn watched(&self, work: impl AsyncFnOnce()) -> usize {
        let (is_over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let watcher = tokio::spawn({
            let (stage, is_over, most) = (self.clone(), is_over.clone(), most.clone());
            async move {
                while !is_over.load(Ordering::Relaxed) {
                    most.fetch_max(stage.pods().await.len(), Ordering::Relaxed);
                }
            }
        });
        work().await;
        is_over.store(true, Ordering::Relaxed);
        watcher.await.unwrap();
        most.load(Ordering::Relaxed)
    }
}
