//! The flags of a control plane's profile ([`tenancy::control_plane::profile`]).

use tenancy::control_plane::profile::{self, Flags as Tuned, Profile};

use super::Hosted;
use super::flags::{Flags, name_of};

/// Which profile is carried out. What is unknown was refused before it came here.
pub(super) fn of(hosted: &Hosted<'_>) -> Profile {
    profile::profile(hosted.tcp).unwrap_or_default()
}

/// Adds what the author has not set otherwise.
pub(super) fn tune(flags: &mut Flags, tuned: Tuned, author: &[String]) {
    let set_by_author = |name: &str| author.iter().any(|argument| name_of(argument) == name);
    let tuned = tuned.iter().filter(|(name, _)| !set_by_author(name));
    flags.extend(tuned.map(|(name, value)| (*name, (*value).to_owned())));
}
