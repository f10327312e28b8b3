//! From a request to a decision: decoding, the rule's own function, and what comes out of it.

use std::cell::RefCell;
use std::sync::Arc;

use api::capsule::v1beta2::Tenant;
use runtime::events::shortened;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tenancy::denial::{Decision, Denial};
use tenancy::index::KnownTenant;
use tenancy::rules::Outcome;

use crate::facts::Facts;
use crate::patch;
use crate::review::{NAME_BYTES, Request};
use crate::view::View;

/// A rule's function with its object type hidden, so that rules of all kinds fit one table.
pub type Decide = fn(&Question<'_>) -> Verdict;

/// One request, with everything that the decision may look at.
pub struct Question<'a> {
    pub request: &'a Request,
    pub view: &'a View,
    pub facts: &'a Facts,
    pub records: &'a Records,
}

/// What rules of a tenant recorded while one request was decided upon.
#[derive(Debug, Default)]
pub struct Records(RefCell<Vec<Record>>);

/// Records of one evaluation.
#[derive(Debug)]
pub struct Record {
    pub tenant: Arc<Tenant>,
    pub outcome: Outcome,
}

impl Records {
    /// Keeps what is to be told.
    pub fn add(&self, tenant: &KnownTenant, outcome: Outcome) {
        let tenant = tenant.object.clone();
        self.0.borrow_mut().push(Record { tenant, outcome });
    }

    /// All that was kept.
    pub fn into_inner(self) -> Vec<Record> {
        self.0.into_inner()
    }
}

/// What one rule sees.
pub struct Input<'a, K> {
    /// `None` on delete.
    pub object: Option<&'a K>,
    /// `None` on create.
    pub old: Option<&'a K>,
    pub request: &'a Request,
    pub view: &'a View,
    pub facts: &'a Facts,
    pub records: &'a Records,
}

impl<K> Input<'_, K> {
    /// The tenant of the request's namespace. `None` if the namespace belongs to nobody.
    ///
    /// # Errors
    /// If the namespace does not say clearly whose it is: what is in it cannot be judged then.
    pub fn tenant(&self) -> Result<Option<Arc<KnownTenant>>, Denial> {
        self.view
            .known
            .tenant_of(self.request.namespace.as_deref().unwrap_or_default())
    }
}

/// What goes back, whatever the kind was.
#[derive(Debug)]
pub enum Verdict {
    Allow {
        warnings: Vec<String>,
    },
    Patch {
        patch: json_patch::Patch,
        warnings: Vec<String>,
    },
    Deny(Denial),
}

/// Decodes the request's objects as `K` and asks the rule.
pub fn typed<K: DeserializeOwned + Serialize>(
    question: &Question<'_>,
    rule: impl FnOnce(&Input<'_, K>) -> Decision<K>,
) -> Verdict {
    let decoded = (
        decode::<K>(question.request.object.as_deref()),
        decode::<K>(question.request.old_object.as_deref()),
    );
    let (object, old) = match decoded {
        (Ok(object), Ok(old)) => (object, old),
        (Err(error), _) | (_, Err(error)) => return Verdict::Deny(unreadable(question.request, &error)),
    };
    let input = Input {
        object: object.as_ref(),
        old: old.as_ref(),
        request: question.request,
        view: question.view,
        facts: question.facts,
        records: question.records,
    };
    match rule(&input) {
        Decision::Allow => Verdict::Allow { warnings: Vec::new() },
        Decision::Warn(warnings) => Verdict::Allow { warnings },
        Decision::Deny(denial) => Verdict::Deny(denial),
        Decision::Change(changed, warnings) => {
            match patch::between(question.request.object.as_deref(), object.as_ref(), &changed) {
                Ok(patch) => Verdict::Patch { patch, warnings },
                Err(error) => Verdict::Deny(unfit(question.request, "", &error)),
            }
        }
    }
}

/// Where an object is not what its kind has, and how.
type Misfit = serde_path_to_error::Error<serde_json::Error>;

fn decode<K: DeserializeOwned>(raw: Option<&RawValue>) -> Result<Option<K>, Misfit> {
    let json = match raw.map(RawValue::get) {
        None | Some("null") => return Ok(None),
        Some(json) => json,
    };
    // Keeping track of the place costs time, and is of use for what does not fit alone.
    if let Ok(object) = serde_json::from_str(json) {
        return Ok(Some(object));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)).map(Some)
}

/// An object that we cannot read is refused: what we do not understand we cannot vouch for.
fn unreadable(request: &Request, misfit: &Misfit) -> Denial {
    let path = misfit.path().to_string();
    // Keys of maps are as long as their author likes. A dot is the object as a whole.
    let field = if path == "." {
        String::new()
    } else {
        shortened(&path, NAME_BYTES)
    };
    unfit(request, &field, misfit.inner())
}

fn unfit(request: &Request, field: &str, error: &serde_json::Error) -> Denial {
    let place = if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    };
    Denial::new(
        field,
        "Unreadable",
        format!(
            "{place}failed to read the {} {:?}: {error}",
            request.kind.kind, request.name
        ),
    )
    .with_code(400)
}
