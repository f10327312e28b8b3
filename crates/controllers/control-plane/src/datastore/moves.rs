//! Records of moves in a database or in NATS: what [`crate::migration`] writes down in both stores, beside the record of
//! owners and as far out of tenants' reach. In a NATS that is not far: all who log in are one user.

/// What may be written down of one owner.
pub(super) const PLACES: [&str; 2] = ["leaving", "arriving"];

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order<'a> {
    /// Gives what is on record.
    Read {
        owner: &'a str,
        place: &'a str,
    },
    /// In the place of what was there.
    Write {
        owner: &'a str,
        place: &'a str,
        record: &'a str,
    },
    Remove {
        owner: &'a str,
        place: &'a str,
    },
}
