//! A control plane, and what people do with its pods.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    hosting::{Hosting, PATIENCE, Wanted},
    kubectl::Kubectl,
    worker::Firewalled,
};

/// Ports of the admin node: the API server's, and the tunnel's own.
pub(crate) const API_SERVER: u16 = 31544;
pub(crate) const TUNNEL: u16 = 31545;

/// What is said of a wait that was in vain.
const LOOKED_AT: [&str; 2] = [
    "-n kube-system get pods -o wide",
    "-n kube-system logs -l k8s-app=konnectivity-agent --tail=20",
];

pub(crate) struct Bed {
    hosting: Hosting,
    pub(crate) admin: Kubectl,
    /// The administrator of the control plane.
    pub(crate) tenant: Kubectl,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let hosting = Hosting::start("tunnel").await;
        hosting.create(&Wanted {
            name: "oil",
            replicas: 1,
            port: API_SERVER,
            network: 36,
            addons: json!({"kubeProxy": {}}),
        });
        Self {
            admin: hosting.admin.clone(),
            tenant: hosting.administrator("oil"),
            hosting,
        }
    }

    pub(crate) async fn join_worker(&self) -> Firewalled {
        let worker = self.hosting.join_worker("oil", "worker");
        self.hosting.has_joined(&self.tenant, &worker).await;
        Firewalled(worker)
    }

    /// A pod that says something, and serves its name.
    pub(crate) fn run_pod(&self) {
        let tenant = &self.tenant;
        tenant.eventually(PATIENCE, "get serviceaccount default", |_| true);
        tenant.ok("run web --image=docker.io/library/busybox:1.36 --labels=app=web -- \
             sh -c 'echo said by the pod; exec httpd -f -p 8080 -h /etc'");
        tenant.ok("wait --for=condition=Ready pod/web --timeout=300s");
    }

    /// Gives the control plane this tunnel, or none, and waits until its pods have it.
    pub(crate) fn ask_for(&self, tunnel: &Value) {
        let patch = json!({"spec": {"addons": {"konnectivity": tunnel}}});
        self.admin
            .ok(&format!("patch tenantcontrolplane oil --type=merge -p '{patch}'"));
        let port = tunnel["server"]["port"].to_string();
        self.admin.eventually(
            PATIENCE,
            "get tenantcontrolplane oil -o jsonpath={.status.addons.konnectivity.service.port}",
            |said| tunnel.is_null() || said == port,
        );
        self.admin.ok("rollout status deployment/oil --timeout=300s");
    }

    /// Names of the Service's ports.
    pub(crate) fn ports(&self) -> Vec<String> {
        let said = self.admin.ok("get service oil -o jsonpath={.spec.ports[*].name}");
        said.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn pod_is_reached(&self, how: &str) {
        let done = |what: &str, attempt: &dyn Fn() -> Result<String, String>, wanted: &str| {
            let begun = std::time::Instant::now();
            loop {
                let said = attempt();
                if said.as_ref().is_ok_and(|said| said.trim() == wanted) {
                    return;
                }
                assert!(
                    begun.elapsed() < PATIENCE,
                    "{how}: {what}: {said:?}\n{}",
                    self.explanation()
                );
                std::thread::sleep(Duration::from_millis(500));
            }
        };
        done("logs", &|| self.logs(), "said by the pod");
        done("exec", &|| self.exec(), "web");
        done("port-forward", &|| self.forward(), "web");
    }

    /// All three fail, because the API server calls the kubelet itself.
    pub(crate) fn pod_is_out_of_reach(&self) {
        let why = ":10250: ";
        self.tenant.eventually(PATIENCE, "get --raw /readyz", |_| true);
        for (what, attempt) in [
            ("logs", Self::logs as fn(&Self) -> _),
            ("exec", Self::exec),
            ("port-forward", Self::forward),
        ] {
            let begun = std::time::Instant::now();
            loop {
                let said = attempt(self);
                if said.as_ref().is_err_and(|said| said.contains(why)) {
                    break;
                }
                // What was there before may take a moment to go.
                assert!(begun.elapsed() < PATIENCE, "{what} should fail with {why:?}: {said:?}");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }

    fn said(&self, line: &str) -> Result<String, String> {
        match self.tenant.attempt(line) {
            (true, said) => Ok(said),
            (false, said) => Err(said),
        }
    }

    fn logs(&self) -> Result<String, String> {
        self.said("logs web")
    }

    fn exec(&self) -> Result<String, String> {
        self.said("exec web -- cat /etc/hostname")
    }

    /// What the pod serves, through a port of this machine.
    fn forward(&self) -> Result<String, String> {
        let mut forward = self.tenant.background("port-forward pod/web :8080");
        let mut stdout = BufReader::new(forward.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let fetched = port.map(|port| fetch(&format!("127.0.0.1:{port}")));
        let _ = forward.0.kill();
        let mut complaint = String::new();
        forward.0.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        match fetched {
            Some(Ok(page)) if !page.is_empty() => Ok(page),
            other => Err(format!("{other:?} {complaint}")),
        }
    }

    fn explanation(&self) -> String {
        let plane = self.admin.attempt("get pods,services,tenantcontrolplanes -A -o wide").1;
        let server = self
            .admin
            .attempt("logs deployment/oil -c konnectivity-server --tail=20")
            .1;
        let router = self.admin.attempt("logs deployment/oil -c tls-router --tail=20").1;
        let inside = LOOKED_AT.map(|line| self.tenant.attempt(line).1).join("\n");
        format!("{plane}\n{server}\n{router}\n{inside}")
    }
}

/// The body of `/hostname` at this address.
fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Ok(body.unwrap_or_default())
}
