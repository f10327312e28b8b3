//! A real Kubernetes in namespaces of this machine: what `cotenant up` drives and what tests run on.
//!
//! Nothing here is a mock and nothing is downloaded ready-made: the upstream programs are built from their Go modules
//! (`programs`), put into images (`image`), and run as plain processes (`control_plane`) or inside a node made of
//! namespaces (`node`, `cluster`). This crate knows no kind of ours.

pub mod control_plane;
mod error;
pub mod guard;
pub mod image;
pub mod images;
pub mod machine;
pub mod ports;
pub mod process;
pub mod programs;
pub mod progress;

pub use error::{Error, Result};
pub mod cluster;
pub mod containerd;
pub mod enforcer;
pub mod network;
pub mod node;
pub mod registry;
pub mod worker;
