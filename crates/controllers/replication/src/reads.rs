//! What a replication has read in one pass, and how much more it may.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tenancy::replication::limits;
use tenancy::replication::object::{weight, without_bookkeeping};

/// Objects that a reference names, or why there is no answer.
pub(crate) type Answer = Result<Arc<Vec<Value>>, String>;

/// Which of the answers is meant: one that serves every place, or one for the place that is filled now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Common,
    Place,
}

/// Answers by what was asked.
#[derive(Debug)]
pub(crate) struct Reads {
    common: Store,
    place: Store,
}

#[derive(Debug)]
struct Store {
    answers: HashMap<String, Answer>,
    left: usize,
}

impl Store {
    fn new(bytes: usize) -> Self {
        Self {
            answers: HashMap::new(),
            left: bytes,
        }
    }
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            common: Store::new(limits::READ_BYTES),
            place: Store::new(limits::READ_BYTES_OF_A_PLACE),
        }
    }
}

impl Reads {
    /// Another place: what only the last one needed is forgotten.
    pub(crate) fn next_place(&mut self) {
        self.place = Store::new(limits::READ_BYTES_OF_A_PLACE);
    }

    pub(crate) fn known(&self, scope: Scope, asked: &str) -> Option<Answer> {
        self.of(scope).answers.get(asked).cloned()
    }

    pub(crate) fn keep(&mut self, scope: Scope, asked: String, answer: Answer) {
        self.of_mut(scope).answers.insert(asked, answer);
    }

    /// Whether anything more may be read.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), String> {
        if self.of(scope).left == 0 {
            return Err(used_up(scope));
        }
        Ok(())
    }

    /// An object as it was read, without what nobody looks at, charged.
    ///
    /// # Errors
    /// If that is more than there is left.
    pub(crate) fn charge(&mut self, scope: Scope, object: Value) -> Result<Value, String> {
        let (object, store) = (without_bookkeeping(object), self.of_mut(scope));
        if let Some(left) = store.left.checked_sub(weight(&object)) {
            store.left = left;
            Ok(object)
        } else {
            store.left = 0;
            Err(used_up(scope))
        }
    }

    fn of(&self, scope: Scope) -> &Store {
        match scope {
            Scope::Common => &self.common,
            Scope::Place => &self.place,
        }
    }

    fn of_mut(&mut self, scope: Scope) -> &mut Store {
        match scope {
            Scope::Common => &mut self.common,
            Scope::Place => &mut self.place,
        }
    }
}

fn used_up(scope: Scope) -> String {
    match scope {
        Scope::Common => format!(
            "what the replication reads takes more than {} bytes; select less, or divide it",
            limits::READ_BYTES
        ),
        Scope::Place => format!(
            "what the replication reads for one place takes more than {} bytes; select less, or divide it",
            limits::READ_BYTES_OF_A_PLACE
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_is_charged_and_a_new_place_begins_anew() {
        let mut reads = Reads::default();
        let half = || json!({"data": "x".repeat(limits::READ_BYTES_OF_A_PLACE / 2 - 1_000)});
        for _ in 0..2 {
            reads.charge(Scope::Place, half()).unwrap();
        }
        let refused = reads.charge(Scope::Place, half()).unwrap_err();
        assert!(refused.contains("takes more than"), "{refused}");
        assert!(reads.check(Scope::Place).is_err() && reads.check(Scope::Common).is_ok());
        reads.next_place();
        assert!(reads.check(Scope::Place).is_ok());
        let unseen = json!({"metadata": {"managedFields": "x".repeat(limits::READ_BYTES), "name": "a"}});
        assert_eq!(
            reads.charge(Scope::Place, unseen).unwrap(),
            json!({"metadata": {"name": "a"}})
        );
    }
}
