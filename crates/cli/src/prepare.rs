//! `cotenant prepare`: what `up` and the tests need on this machine before a cluster can start.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use local::{
    images::Images,
    machine::{self, Needs, Severity},
    programs::{self, Programs},
    progress::Progress,
};
use sha2::{Digest, Sha256};

use crate::progress;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Upstream programs that are built already; otherwise they are built from `tools/` and kept in the cache.
    #[arg(long, env = "COTENANT_PROGRAMS")]
    programs: Option<PathBuf>,
    /// Progress as JSON lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let progress = progress::choose(args.json);
    let ready = machine_and_programs(args.programs.as_ref(), progress.as_ref())?;
    let made = images(&ready, progress.as_ref())?;
    println!("programs: {}", ready.directory().display());
    println!("images:   {}", made.images.directory.display());
    Ok(())
}

/// Checks the machine, installs the Debian packages that it lacks, builds the upstream programs that are not cached.
pub(crate) fn machine_and_programs(given: Option<&PathBuf>, progress: &dyn Progress) -> anyhow::Result<Programs> {
    let findings = machine::check(Needs { build: given.is_none() });
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Fine) {
        eprintln!("{}: {}", finding.subject, finding.text);
    }
    if findings.iter().any(|finding| finding.severity == Severity::Fatal) {
        bail!("this machine cannot run a cluster yet: see above");
    }
    machine::install_packages(progress)?;
    let programs = match given {
        Some(directory) => Programs::from_dir(directory),
        None => programs::ensure(progress)?,
    };
    programs.check()?;
    Ok(programs)
}

/// The images that a cluster needs, and which of them is ours.
pub(crate) struct Made {
    pub(crate) images: Images,
    /// Tag of our own image: a hash of the program that is in it.
    pub(crate) tag: String,
}

pub(crate) fn images(programs: &Programs, progress: &dyn Progress) -> anyhow::Result<Made> {
    let executable = local::node::executable()?;
    let content = fs::read(&executable).with_context(|| format!("failed to read {}", executable.display()))?;
    let digest = Sha256::digest(&content);
    let tag = format!(
        "{:012x}",
        u64::from_be_bytes(digest[..8].try_into().expect("eight bytes of a digest")) >> 16
    );
    let images = local::images::ensure(&local::images::standard(programs, &executable, &tag)?, progress)?;
    Ok(Made { images, tag })
}
