//! Requests as the API server counts them.

use std::collections::BTreeMap;

use hyper::Request;
use kube::Client;

/// Requests by verb and resource, such as `POST rolebindings` or `PUT resourcequotas/status`.
pub(crate) type Requests = BTreeMap<String, u64>;

/// What in this cluster nobody but the operator writes.
const OPERATORS: [&str; 9] = [
    "capsuleconfigurations",
    "capsuleconfigurations/status",
    "limitranges",
    "networkpolicies",
    "resourcequotas",
    "rolebindings",
    "rulestatuses",
    "tenants",
    "tenants/status",
];
const WRITES: [&str; 5] = ["APPLY", "DELETE", "PATCH", "POST", "PUT"];

/// All since the API server started. Watches are counted when they end, so they are left out.
pub(crate) async fn so_far(admin: &Client) -> anyhow::Result<Requests> {
    let text = admin.request_text(Request::get("/metrics").body(Vec::new())?).await?;
    Ok(read(&text))
}

/// Those that a FlowSchema has let through since the API server started; a watch counts when it begins.
pub(crate) async fn of_flow(admin: &Client, flow_schema: &str) -> anyhow::Result<u64> {
    let text = admin.request_text(Request::get("/metrics").body(Vec::new())?).await?;
    Ok(dispatched(&text, flow_schema))
}

fn dispatched(metrics: &str, flow_schema: &str) -> u64 {
    let ours = format!("apiserver_flowcontrol_dispatched_requests_total{{flow_schema=\"{flow_schema}\",");
    let counts = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(&ours)?.split_once("} "));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let counts = counts.filter_map(|(_, count)| Some(count.trim().parse::<f64>().ok()? as u64));
    counts.sum()
}

fn read(metrics: &str) -> Requests {
    let mut requests = Requests::new();
    for line in metrics.lines() {
        let Some((labels, count)) = line
            .strip_prefix("apiserver_request_total{")
            .and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        // No value of these labels holds a quote or a comma.
        let label = |name: &str| {
            let mut labels = labels.split(',').filter_map(|label| label.split_once('='));
            labels
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim_matches('"'))
        };
        let (Some(verb), Some(resource), Ok(count)) = (label("verb"), label("resource"), count.trim().parse::<f64>())
        else {
            continue;
        };
        if resource.is_empty() || matches!(verb, "WATCH" | "CONNECT") {
            continue;
        }
        let subresource = label("subresource").filter(|name| !name.is_empty());
        let what = subresource.map_or(resource.to_owned(), |name| format!("{resource}/{name}"));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = count as u64;
        *requests.entry(format!("{verb} {what}")).or_default() += count;
    }
    requests
}

/// What came since `before`, if it is at least one in ten of `each`.
pub(crate) fn since(before: &Requests, after: &Requests, each: u64) -> Requests {
    let more = after.iter().map(|(what, count)| {
        let known = before.get(what).copied().unwrap_or_default();
        (what.clone(), count.saturating_sub(known))
    });
    more.filter(|(_, count)| count * 10 >= each.max(1)).collect()
}

/// Those by which the operator changed something.
pub(crate) fn of_the_operator(requests: &Requests) -> u64 {
    requests
        .iter()
        .filter(|(what, _)| {
            what.split_once(' ')
                .is_some_and(|(verb, resource)| WRITES.contains(&verb) && OPERATORS.contains(&resource))
        })
        .map(|(_, count)| count)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_flow_are_summed_over_priority_levels() {
        let metrics = r#"apiserver_flowcontrol_dispatched_requests_total{flow_schema="cotenant",priority_level="workload-high"} 40
apiserver_flowcontrol_dispatched_requests_total{flow_schema="cotenant",priority_level="workload-low"} 2
apiserver_flowcontrol_dispatched_requests_total{flow_schema="cotenant-nodes",priority_level="workload-low"} 7
"#;
        assert_eq!(dispatched(metrics, "cotenant"), 42);
    }

    #[test]
    fn requests_are_summed_over_codes_and_versions_and_watches_left_out() {
        let metrics = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="resourcequotas",scope="resource",subresource="status",verb="PUT",version="v1"} 3
apiserver_request_total{code="201",component="apiserver",dry_run="",group="rbac.authorization.k8s.io",resource="rolebindings",scope="resource",subresource="",verb="POST",version="v1"} 2e+03
apiserver_request_total{code="409",component="apiserver",dry_run="",group="rbac.authorization.k8s.io",resource="rolebindings",scope="resource",subresource="",verb="POST",version="v1"} 1
apiserver_request_total{code="0",component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="WATCH",version="v1"} 9
apiserver_request_total{code="200",component="",dry_run="",group="",resource="",scope="",subresource="/healthz",verb="GET",version=""} 4
"#;
        let requests = read(metrics);
        let expected = [("POST rolebindings", 2001), ("PUT resourcequotas/status", 3)];
        assert_eq!(requests, expected.map(|(what, count)| (what.to_owned(), count)).into());
        assert_eq!(of_the_operator(&requests), 2001);
        let before = Requests::from([("POST rolebindings".to_owned(), 1001)]);
        assert_eq!(
            since(&before, &requests, 100),
            [("POST rolebindings".to_owned(), 1000)].into()
        );
    }
}
