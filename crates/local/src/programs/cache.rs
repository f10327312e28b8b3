//! The cache of what was built: an entry per module, named by a hash of all that goes into it, and one directory that has
//! every program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::table::{Module, PAUSE_VERSION, Program, Source};
use super::toolchain::{
    C_FLAGS, ModuleSource, compiler, go, go_environment, go_version, linker_flags, required_version,
};
use super::{Programs, hex};
use crate::error::{Error, Result};
use crate::process::{Process, Spec};
use crate::progress::{Outcome, Progress};

pub(super) struct Builder<'a> {
    pub(super) tools: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) progress: &'a dyn Progress,
}

impl Builder<'_> {
    /// The programs of these modules in one directory, whose name begins with `name`.
    pub(super) fn ensure<'a>(&self, name: &str, modules: impl IntoIterator<Item = &'a Module>) -> Result<Programs> {
        let go = go_version()?;
        let entries = modules
            .into_iter()
            .map(|module| Ok((module, self.entry(module, &go)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut all = Sha256::new();
        for (_, entry) in &entries {
            all.update(entry.as_os_str().as_encoded_bytes());
            all.update([0]);
        }
        let all = self.cache.join(format!("{name}-{}", short_hex(all)));
        if all.is_dir() {
            return Ok(Programs::from_dir(all));
        }
        let _lock = self.lock()?;
        if all.is_dir() {
            return Ok(Programs::from_dir(all));
        }
        for (module, entry) in &entries {
            if entry.is_dir() {
                for program in module.programs {
                    let step = step_name(program);
                    self.progress.begin(&step, None);
                    self.progress.end(&step, Outcome::Kept);
                }
            } else {
                self.build(module, entry)?;
            }
        }
        self.gather(&entries, &all)?;
        Ok(Programs::from_dir(all))
    }

    /// Where the programs of a module are, or will be: its name and a hash of everything that decides their content.
    fn entry(&self, module: &Module, go: &str) -> Result<PathBuf> {
        let root = self.tools.join(module.directory);
        let mut files = Vec::new();
        collect_files(&root, &mut files)?;
        files.sort();
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(go.as_bytes());
        add(std::env::consts::ARCH.as_bytes());
        for file in files {
            add(file.strip_prefix(&root).unwrap_or(&file).as_os_str().as_encoded_bytes());
            add(&fs::read(&file).map_err(Error::file("read", &file))?);
        }
        let version = self.version(module)?;
        for program in module.programs {
            add(program.name.as_bytes());
            match &program.source {
                // The commit's time belongs to the version, and is asked for only when building.
                Source::Go { package, reports } => {
                    add(package.as_bytes());
                    add(linker_flags(*reports, &version, "", "").as_bytes());
                }
                Source::C { file } => {
                    add(file.as_bytes());
                    add(C_FLAGS.join(" ").as_bytes());
                }
            }
        }
        Ok(self.cache.join(format!("{}-{}", module.directory, short_hex(hash))))
    }

    fn version(&self, module: &Module) -> Result<String> {
        let path = self.tools.join(module.directory).join("go.mod");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        required_version(&text, module.versioned_by).ok_or_else(|| {
            Error::Other(format!(
                "failed to find a version of {} in {}",
                module.versioned_by,
                path.display()
            ))
        })
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.cache).map_err(Error::file("create directory", &self.cache))?;
        let path = self.cache.join("lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::file("open the lock", &path))?;
        if file.try_lock().is_err() {
            let step = "wait for another run that builds the programs";
            self.progress.begin(step, None);
            let locked = file.lock();
            self.progress
                .end(step, if locked.is_ok() { Outcome::Done } else { Outcome::Failed });
            locked.map_err(Error::file("lock", &path))?;
        }
        Ok(file)
    }

    fn build(&self, module: &Module, entry: &Path) -> Result<()> {
        let directory = self.tools.join(module.directory);
        let version = self.version(module)?;
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&self.cache)
            .map_err(Error::file("create a directory in", &self.cache))?;
        let mut durations = self.durations();
        // Asked for once per module, and only now: it may have to download the module first.
        let mut source: Option<ModuleSource> = None;
        for program in module.programs {
            let step = step_name(program);
            let expected = durations
                .get(program.name)
                .copied()
                .map_or(program.expected, Duration::from_secs_f64);
            let begun = Instant::now();
            self.progress.begin(&step, Some(expected));
            let built = Self::build_program(module, program, &directory, &version, partial.path(), &mut source);
            self.progress
                .end(&step, if built.is_ok() { Outcome::Done } else { Outcome::Failed });
            built?;
            durations.insert(program.name.to_owned(), begun.elapsed().as_secs_f64());
        }
        self.remember(&durations);
        let log = partial.path().join("log");
        fs::remove_file(&log).map_err(Error::file("remove", &log))?;
        // The temporary directory is private; what it becomes is for every user of the cache.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(partial.path(), readable).map_err(Error::file("open up", partial.path()))?;
        let partial = partial.keep();
        fs::rename(&partial, entry).map_err(Error::file("move into place", entry))
    }

    fn build_program(
        module: &Module,
        program: &Program,
        directory: &Path,
        version: &str,
        into: &Path,
        source: &mut Option<ModuleSource>,
    ) -> Result<()> {
        let target = into.join(program.name);
        if source.is_none() {
            *source = Some(ModuleSource::find(directory, module.versioned_by)?);
        }
        let source = source.as_ref().expect("filled in just above");
        let spec = |tool: PathBuf| {
            Spec::new(format!("the build of {}", program.name), tool, into.join("log")).directory(directory)
        };
        let spec = match &program.source {
            Source::Go { package, reports } => {
                let flags = linker_flags(*reports, version, &source.time, &source.sum);
                go_environment(
                    spec(go()?)
                        .args(["build", "-mod=readonly", "-trimpath", "-ldflags"])
                        .arg(flags),
                )
                .arg("-o")
                .arg(&target)
                .arg(*package)
            }
            Source::C { file } => spec(compiler()?)
                .args(C_FLAGS)
                .arg(format!("-DVERSION=v{PAUSE_VERSION}"))
                .arg("-o")
                .arg(&target)
                .arg(source.directory.join(file)),
        };
        Process::start(spec)?.success()
    }

    /// One directory with all programs, hard links to the entries: one name for a `PATH`, and no copy.
    fn gather(&self, entries: &[(&Module, PathBuf)], all: &Path) -> Result<()> {
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.cache)
            .map_err(Error::file("create a directory in", &self.cache))?;
        for (module, entry) in entries {
            for program in module.programs {
                let link = partial.path().join(program.name);
                fs::hard_link(entry.join(program.name), &link).map_err(Error::file("link", &link))?;
            }
        }
        let partial = partial.keep();
        fs::rename(&partial, all).map_err(Error::file("move into place", all))
    }

    fn durations(&self) -> BTreeMap<String, f64> {
        // Only an estimate for people: without it the table's figure is shown.
        fs::read(self.cache.join("durations.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn remember(&self, durations: &BTreeMap<String, f64>) {
        if let Ok(bytes) = serde_json::to_vec_pretty(durations) {
            // See `durations`.
            let _ = fs::write(self.cache.join("durations.json"), bytes);
        }
    }
}

fn step_name(program: &Program) -> String {
    format!("build {}", program.name)
}

fn collect_files(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
        let path = entry.map_err(Error::file("list", directory))?.path();
        if path.is_dir() {
            collect_files(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

fn short_hex(hash: Sha256) -> String {
    hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::super::table::{MODULES, OLDER};
    use super::super::tools_directory;
    use super::*;
    use crate::progress::Lines;

    #[test]
    fn every_module_is_there_with_a_version_and_checksums() {
        let builder = Builder {
            tools: tools_directory().unwrap(),
            cache: PathBuf::from("/nonexistent"),
            progress: &Lines,
        };
        let older = OLDER.iter().flat_map(|older| [&older.kubeadm, &older.others]);
        for module in MODULES.iter().chain(older) {
            builder.version(module).unwrap();
            let sums = fs::read_to_string(builder.tools.join(module.directory).join("go.sum")).unwrap();
            assert!(sums.contains(module.versioned_by), "{}", module.directory);
        }
    }

    #[test]
    fn an_older_minor_is_built_from_that_minor() {
        let builder = Builder {
            tools: tools_directory().unwrap(),
            cache: PathBuf::from("/nonexistent"),
            progress: &Lines,
        };
        for older in OLDER {
            let version = builder.version(&older.others).unwrap();
            assert!(version.starts_with(&format!("v{}.", older.minor)), "{version}");
        }
    }

    #[test]
    fn an_entry_changes_with_its_module_and_with_the_toolchain() {
        let tools = tempfile::tempdir().unwrap();
        for module in MODULES {
            let directory = tools.path().join(module.directory);
            fs::create_dir(&directory).unwrap();
            fs::write(
                directory.join("go.mod"),
                format!("require {} v1.2.3\n", module.versioned_by),
            )
            .unwrap();
        }
        let builder = Builder {
            tools: tools.path().to_owned(),
            cache: PathBuf::from("/cache"),
            progress: &Lines,
        };
        let first = builder.entry(&MODULES[1], "go1.26.8").unwrap();
        assert!(
            first.starts_with("/cache") && first.to_string_lossy().contains("etcd-"),
            "{}",
            first.display()
        );
        assert_eq!(builder.entry(&MODULES[1], "go1.26.8").unwrap(), first);
        assert_ne!(builder.entry(&MODULES[1], "go1.26.9").unwrap(), first);
        fs::write(tools.path().join("etcd/main.go"), "package main\n").unwrap();
        assert_ne!(builder.entry(&MODULES[1], "go1.26.8").unwrap(), first);
    }
}
