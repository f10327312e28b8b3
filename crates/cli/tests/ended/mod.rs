//! What a command ended with, and all that it said: what a person sees of it.

use std::fmt::Write as _;

#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) said: String,
}

impl Ended {
    /// As the program ends it.
    pub(crate) fn of(output: Vec<u8>, result: anyhow::Result<()>) -> Self {
        let mut said = String::from_utf8(output).unwrap();
        let code = result.map_or_else(
            |error| {
                let _ = writeln!(said, "cotenant: {error:#}");
                cli::exit_code(&error)
            },
            |()| 0,
        );
        Self { code, said }
    }

    /// A command line that says nothing that can be run.
    pub(crate) fn unread(error: &clap::Error) -> Self {
        Self {
            code: 2,
            said: error.to_string(),
        }
    }
}
