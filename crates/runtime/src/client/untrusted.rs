//! Clients of API servers that others run.
//!
//! Who runs a server may answer without end, in one line or in many, with headers without end, or not at all. What is
//! read of each answer, an error's and a watch's too, is bounded here, and so is the time until it begins; how long it
//! takes altogether is for the caller to say. Redirects are not followed: the client has credentials.

use std::time::Duration;

use http::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::{ClientBuilder, DynBody};
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;
use tower::util::MapResponseLayer;

use super::{Error, named};

/// What one answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In bytes. A watch that is through with them ends with an error and has to be begun again.
    pub longest: usize,
    /// From the request to the headers of its answer.
    pub begins_within: Duration,
}

impl Default for Limits {
    /// More than the largest object that etcd takes, and than a page of metadata.
    fn default() -> Self {
        Self {
            longest: 2 * 1024 * 1024,
            begins_within: Duration::from_secs(20),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {0} bytes, more than is read of a server that others run")]
struct TooLong(usize);

/// A client that reads answers within limits. `agent` is as in [`super::connect`].
pub fn build(config: Config, agent: &str, limits: Limits) -> Result<Client, Error> {
    let builder = ClientBuilder::try_from(named(config, agent)).map_err(Error::Build)?;
    let shorten = move |answer: Response<Box<DynBody>>| {
        answer.map(|body| {
            Limited::new(body, limits.longest).map_err(move |error| {
                if error.is::<LengthLimitError>() {
                    TooLong(limits.longest).into()
                } else {
                    error
                }
            })
        })
    };
    let builder = builder
        .with_layer(&MapResponseLayer::new(shorten))
        .with_layer(&TimeoutLayer::new(limits.begins_within));
    Ok(builder.build())
}
