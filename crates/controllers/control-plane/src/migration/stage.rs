//! Where a move is, as this process knows it.

use crate::desired::Account;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The data is in the first store, and all goes on as ever.
    Copying,
    /// The data is in the first store, which is read but not written.
    Frozen,
    /// It was given up while writes wait: the data stays in the first store, which is being given the right to write back.
    Returning,
    /// The switch is being recorded: it cannot be given up, nor be relied on.
    Committing,
    /// The data is in the second store, which is read but not written until all pods use it.
    Switched(Account),
    /// An attempt failed: reason and sentence for the condition. The data is in the first store; it is tried again.
    Failed(&'static str, String),
    /// It is time to try again.
    Again,
    /// Nothing moves, and the data is in the store that is asked for.
    Settled,
}

impl Stage {
    /// Whether it can be given up.
    pub(super) fn may_end(&self) -> bool {
        !matches!(self, Self::Returning | Self::Committing)
    }
}
