//! What the author of a hosted control plane may ask for, and what the answer means.
//!
//! A TenantControlPlane is written by somebody who is not trusted with the rights of the operator that carries it out.
//! So each field is looked at with two questions: is it a value that the programs behind it will take (bad input gets
//! a sentence, not a crash loop), and does it reach anything that is not the author's: a Secret, a host, a token, a
//! neighbour's data. Admission asks here; the controller asks again before it acts, because objects may be older than
//! the rules.
//!
//! - [`admission`] puts the rules together, in the order in which users know them;
//! - [`effective`] says what the spec amounts to (ranges, DNS addresses, names in the store);
//! - [`version`], [`network`], [`hostname`], [`external_ip`], [`storage`], [`overrides`], [`deputy`], [`arguments`], [`kubelet`], [`konnectivity`] hold the rules, one subject each;
//! - [`upgrade`] says which version runs on the way to one that is further ahead, [`placement`] which store of a pool
//!   takes a control plane, [`profile`] what its components are tuned for;
//! - [`data_store`] is the same for DataStores.

pub mod admission;
pub mod arguments;
pub mod data_store;
pub mod deputy;
pub mod effective;
pub mod external_ip;
pub mod hostname;
pub mod konnectivity;
pub mod kubelet;
pub mod network;
pub mod overrides;
pub mod placement;
pub mod profile;
pub mod storage;
pub mod upgrade;
pub mod version;
pub mod write_permissions;

pub use admission::{Surroundings, Verdict, admit_create, admit_update, complete};
