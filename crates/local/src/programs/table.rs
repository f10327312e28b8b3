//! Which programs there are, of which Go module, and how long each takes to build.

use std::time::Duration;

/// The Go module whose version is Kubernetes' version.
const KUBERNETES: &str = "k8s.io/kubernetes";
/// The tag of the pause image that kubeadm of these versions deploys, and what `pause -v` says.
pub const PAUSE_VERSION: &str = "3.10.1";

/// A Go module of `tools/` and what is built from it.
pub(super) struct Module {
    pub(super) directory: &'static str,
    /// The upstream module whose version in `go.mod` is the version of these programs.
    pub(super) versioned_by: &'static str,
    pub(super) programs: &'static [Program],
}

pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) source: Source,
    /// Cold, on two cores; what a person is told until this machine has built it once.
    pub(super) expected: Duration,
}

pub(super) enum Source {
    /// A main package, with `-ldflags` for the versions that it reports.
    Go { package: &'static str, reports: Reports },
    /// A C file inside the module named by `versioned_by`.
    C { file: &'static str },
}

/// Where a program gets the version that it reports from.
#[derive(Clone, Copy)]
pub(super) enum Reports {
    /// Its own source.
    Itself,
    /// Variables of Kubernetes' version packages, which only the linker fills in.
    Kubernetes,
    /// Helm's `internal/version`.
    Helm,
    /// kine's `pkg/version`.
    Kine,
}

/// A program of Kubernetes, whose package has its name, and how many seconds it takes after those before it in its list.
macro_rules! kubernetes {
    ($name:literal, $expected_seconds:literal) => {
        Program {
            name: $name,
            source: Source::Go {
                package: concat!("k8s.io/kubernetes/cmd/", $name),
                reports: Reports::Kubernetes,
            },
            expected: Duration::from_secs($expected_seconds),
        }
    };
}

const API_SERVER: Program = kubernetes!("kube-apiserver", 180);
const CONTROLLER_MANAGER: Program = kubernetes!("kube-controller-manager", 46);
const SCHEDULER: Program = kubernetes!("kube-scheduler", 5);
const PROXY: Program = kubernetes!("kube-proxy", 6);

/// A minor of Kubernetes before the one that clusters of this machine run, which control planes are upgraded from.
pub(super) struct Older {
    /// `1.35`
    pub(super) minor: &'static str,
    /// By itself, because it is what our objects are compared with, and quickly built.
    pub(super) kubeadm: Module,
    /// What else a control plane and its nodes run.
    pub(super) others: Module,
}

const fn older(minor: &'static str, directory: &'static str) -> Older {
    Older {
        minor,
        kubeadm: Module {
            directory,
            versioned_by: KUBERNETES,
            programs: KUBEADM,
        },
        others: Module {
            directory,
            versioned_by: KUBERNETES,
            programs: OTHERS,
        },
    }
}

const KUBEADM: &[Program] = &[kubernetes!("kubeadm", 150)];

const OTHERS: &[Program] = &[
    API_SERVER,
    CONTROLLER_MANAGER,
    SCHEDULER,
    kubernetes!("kubelet", 60),
    PROXY,
];

/// Built when something asks for them, and in nobody's `PATH`.
pub(super) const OLDER: &[Older] = &[older("1.34", "kubernetes-1.34"), older("1.35", "kubernetes-1.35")];

pub(super) const MODULES: &[Module] = &[
    Module {
        directory: "kubernetes-1.36",
        versioned_by: KUBERNETES,
        programs: &[
            API_SERVER,
            CONTROLLER_MANAGER,
            SCHEDULER,
            kubernetes!("kubelet", 15),
            kubernetes!("kubeadm", 15),
            PROXY,
            kubernetes!("kubectl", 10),
            Program {
                name: "pause",
                source: Source::C {
                    file: "build/pause/linux/pause.c",
                },
                expected: Duration::from_secs(1),
            },
        ],
    },
    Module {
        directory: "etcd",
        versioned_by: "go.etcd.io/etcd/server/v3",
        programs: &[
            Program {
                name: "etcd",
                source: Source::Go {
                    package: "./etcd",
                    reports: Reports::Itself,
                },
                expected: Duration::from_secs(25),
            },
            Program {
                name: "etcdctl",
                source: Source::Go {
                    package: "go.etcd.io/etcd/etcdctl/v3",
                    reports: Reports::Itself,
                },
                expected: Duration::from_secs(5),
            },
        ],
    },
    Module {
        directory: "coredns",
        versioned_by: "github.com/coredns/coredns",
        programs: &[Program {
            name: "coredns",
            source: Source::Go {
                package: "github.com/coredns/coredns",
                reports: Reports::Itself,
            },
            expected: Duration::from_secs(92),
        }],
    },
    Module {
        directory: "konnectivity",
        versioned_by: "sigs.k8s.io/apiserver-network-proxy",
        programs: &[
            Program {
                name: "proxy-server",
                source: Source::Go {
                    package: "sigs.k8s.io/apiserver-network-proxy/cmd/server",
                    reports: Reports::Itself,
                },
                expected: Duration::from_secs(70),
            },
            Program {
                name: "proxy-agent",
                source: Source::Go {
                    package: "sigs.k8s.io/apiserver-network-proxy/cmd/agent",
                    reports: Reports::Itself,
                },
                expected: Duration::from_secs(5),
            },
        ],
    },
    Module {
        directory: "helm",
        versioned_by: "helm.sh/helm/v3",
        programs: &[Program {
            name: "helm",
            source: Source::Go {
                package: "helm.sh/helm/v3/cmd/helm",
                reports: Reports::Helm,
            },
            expected: Duration::from_secs(65),
        }],
    },
    Module {
        directory: "kine",
        versioned_by: "github.com/k3s-io/kine",
        programs: &[Program {
            name: "kine",
            source: Source::Go {
                package: "github.com/k3s-io/kine",
                reports: Reports::Kine,
            },
            expected: Duration::from_secs(90),
        }],
    },
    Module {
        directory: "nats",
        versioned_by: "github.com/nats-io/nats-server/v2",
        programs: &[Program {
            name: "nats-server",
            source: Source::Go {
                package: "github.com/nats-io/nats-server/v2",
                reports: Reports::Itself,
            },
            expected: Duration::from_secs(30),
        }],
    },
];
