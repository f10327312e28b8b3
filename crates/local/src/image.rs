//! Container images from files of this machine, without a container engine: docker-archive tars of one layer.
//!
//! An image is the same bytes whenever its content is the same: entries are sorted, times and owners are fixed. So its
//! digest says whether a registry or a node already has it, and nothing is copied twice.
//!
//! Programs that are linked dynamically bring their libraries along. The image has Debian's merged directories (`/lib` is
//! `/usr/lib`), so a library is found wherever a program looks for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::programs::hex;

/// The search path inside every image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const BLOCK: u64 = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory {
        mode: u32,
    },
    /// A file of this machine; links are followed.
    File {
        source: PathBuf,
        mode: u32,
    },
    Text {
        content: String,
        mode: u32,
    },
    Link {
        target: String,
    },
}

/// An image to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    repository: String,
    tag: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    user: Option<String>,
    /// By path inside the image, without a leading slash. Directories above an entry are made as needed.
    entries: BTreeMap<String, Entry>,
}

impl Image {
    /// An image with the directories, users and name service that programs expect, and nothing else.
    ///
    /// `repository` is in full, such as `registry.k8s.io/kube-apiserver`.
    pub fn builder(repository: impl Into<String>, tag: impl Into<String>) -> Self {
        let image = Self {
            repository: repository.into(),
            tag: tag.into(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: None,
            entries: BTreeMap::new(),
        };
        let directories = [
            "etc",
            "home",
            "root",
            "run",
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "usr/local/bin",
            "var/tmp",
        ];
        let image = directories
            .into_iter()
            .fold(image, |image, path| image.entry(path, Entry::Directory { mode: 0o755 }));
        ["bin", "sbin", "lib", "lib64"]
            .into_iter()
            .fold(image, |image, name| image.entry(name, Entry::Link { target: format!("usr/{name}") }))
            .entry("tmp", Entry::Directory { mode: 0o1777 })
            .entry("var/tmp", Entry::Directory { mode: 0o1777 })
            .entry("var/run", Entry::Link { target: "../run".to_owned() })
            .text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home:/sbin/nologin\n")
            .text("/etc/group", "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n")
            .text("/etc/nsswitch.conf", "hosts: files dns\n")
    }

    /// What the container runs when its pod names no command.
    #[must_use]
    pub fn entrypoint(mut self, path: impl Into<String>) -> Self {
        self.entrypoint = vec![path.into()];
        self
    }

    /// What it runs, or is given as arguments, when its pod names none.
    #[must_use]
    pub fn command(mut self, word: impl Into<String>) -> Self {
        self.command = vec![word.into()];
        self
    }

    /// Who runs it: `uid` or `uid:gid`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// A program of this machine, at a path of the image.
    #[must_use]
    pub fn file(self, source: impl Into<PathBuf>, path: &str) -> Self {
        self.entry(
            path,
            Entry::File {
                source: source.into(),
                mode: 0o755,
            },
        )
    }

    /// A text file.
    #[must_use]
    pub fn text(self, path: &str, content: impl Into<String>) -> Self {
        self.entry(
            path,
            Entry::Text {
                content: content.into(),
                mode: 0o644,
            },
        )
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: impl Into<String>) -> Self {
        self.entry(path, Entry::Link { target: target.into() })
    }

    /// A directory of this machine with all that is in it, at the same path.
    pub fn tree(mut self, directory: &Path) -> Result<Self> {
        for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
            let path = entry.map_err(Error::file("list", directory))?.path();
            let metadata = fs::symlink_metadata(&path).map_err(Error::file("read", &path))?;
            if metadata.is_dir() {
                self = self.tree(&path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(Error::file("read the link", &path))?;
                self = self.symlink(&path.to_string_lossy(), target.to_string_lossy());
            } else {
                let mode = metadata.permissions().mode() & 0o755;
                self = self.entry(
                    &path.to_string_lossy(),
                    Entry::File {
                        source: path.clone(),
                        mode,
                    },
                );
            }
        }
        Ok(self)
    }

    /// The libraries that a program or library of this machine is linked with, at their paths. None for one that is
    /// linked statically.
    pub fn with_shared_libraries(mut self, program: &Path) -> Result<Self> {
        for library in shared_libraries(program)? {
            let path = library.to_string_lossy().into_owned();
            self = self.file(library, &path);
        }
        Ok(self)
    }

    /// A program of this machine with its libraries.
    pub fn program(self, source: &Path, path: &str) -> Result<Self> {
        self.file(source, path).with_shared_libraries(source)
    }

    /// `repository:tag`
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.entries.insert(inside(path), entry);
        self
    }

    /// A hash of everything that decides the image's content. Files count with their path, size and time of change:
    /// reading half a gigabyte only to learn that nothing changed is what this avoids.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(&self.reference());
        add(&self.config("").to_string());
        for (path, entry) in &self.entries {
            add(path);
            match entry {
                Entry::File { source, mode } => {
                    let metadata = fs::metadata(source).map_err(Error::file("read", source))?;
                    add(&format!(
                        "file {} {mode} {} {} {}",
                        source.display(),
                        metadata.len(),
                        metadata.mtime(),
                        metadata.mtime_nsec()
                    ));
                }
                other => add(&format!("{other:?}")),
            }
        }
        Ok(hex(&hash.finalize()[..12]))
    }

    fn config(&self, layer_digest: &str) -> serde_json::Value {
        let mut config = serde_json::json!({"Env": [PATH]});
        if !self.entrypoint.is_empty() {
            config["Entrypoint"] = self.entrypoint.clone().into();
        }
        if !self.command.is_empty() {
            config["Cmd"] = self.command.clone().into();
        }
        if let Some(user) = &self.user {
            config["User"] = user.clone().into();
        }
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cotenant"}],
        })
    }

    /// Writes the docker-archive to `path`, complete or not at all.
    ///
    /// The layer is written straight into its place in the archive, with the header put before it afterwards; a layer in
    /// a file of its own would be copied once more.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = || Error::file("write the image", path);
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut partial = tempfile::Builder::new()
            .prefix(".partial-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(parent)
            .map_err(Error::file("create a file in", parent))?;
        let file = partial.as_file_mut();
        file.seek(SeekFrom::Start(BLOCK)).map_err(failed())?;
        let layer = Hashing {
            inner: BufWriter::with_capacity(1 << 20, &mut *file),
            hash: Sha256::new(),
            length: 0,
        };
        let Hashing {
            mut inner,
            hash,
            length,
        } = self.write_layer(layer)?;
        inner.flush().map_err(failed())?;
        drop(inner);
        let digest = hex(&hash.finalize());

        let config = self.config(&digest).to_string();
        let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
        let layer_name = format!("{digest}.tar");
        let manifest = serde_json::json!([{
            "Config": config_name,
            "RepoTags": [self.reference()],
            "Layers": [layer_name],
        }])
        .to_string();

        finish(
            file,
            &layer_name,
            length,
            &[(&config_name, &config), ("manifest.json", &manifest)],
        )
        .map_err(failed())?;
        partial.persist(path).map(drop).map_err(|error| failed()(error.error))
    }

    fn write_layer<W: Write>(&self, into: W) -> Result<W> {
        let mut layer = tar::Builder::new(into);
        let mut directories = BTreeMap::new();
        for (path, entry) in &self.entries {
            for above in Path::new(path)
                .ancestors()
                .skip(1)
                .filter(|above| !above.as_os_str().is_empty())
            {
                directories.entry(above.to_string_lossy().into_owned()).or_insert(0o755);
            }
            if let Entry::Directory { mode } = entry {
                directories.insert(path.clone(), *mode);
            }
        }
        let out =
            |source: io::Error| Error::Other(format!("failed to write the layer of {}: {source}", self.reference()));
        // All directories first; sorted, so a directory comes before what is in it.
        for (path, mode) in directories {
            let mut header = blank(0, mode);
            header.set_entry_type(tar::EntryType::Directory);
            layer
                .append_data(&mut header, format!("{path}/"), io::empty())
                .map_err(out)?;
        }
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory { .. } => {}
                Entry::Text { content, mode } => {
                    layer
                        .append_data(&mut blank(content.len() as u64, *mode), path, content.as_bytes())
                        .map_err(out)?;
                }
                Entry::Link { target } => {
                    let mut header = blank(0, 0o777);
                    header.set_entry_type(tar::EntryType::Symlink);
                    layer.append_link(&mut header, path, target).map_err(out)?;
                }
                Entry::File { source, mode } => {
                    let file = File::open(source).map_err(Error::file("open", source))?;
                    let length = file.metadata().map_err(Error::file("read", source))?.len();
                    // A file that is being rewritten beneath us must not break the archive's structure.
                    let exactly = file.take(length);
                    layer
                        .append_data(&mut blank(length, *mode), path, exactly)
                        .map_err(out)?;
                }
            }
        }
        layer.into_inner().map_err(out)
    }
}

/// Puts the rest of an archive around the layer that lies after its first block: the small files, and the layer's header.
fn finish(file: &mut File, layer: &str, length: u64, rest: &[(&str, &str)]) -> io::Result<()> {
    file.seek(SeekFrom::Start(BLOCK + length.next_multiple_of(BLOCK)))?;
    let mut archive = tar::Builder::new(&mut *file);
    for (name, content) in rest {
        archive.append(&header(name, content.len() as u64, 0o644)?, content.as_bytes())?;
    }
    archive.finish()?;
    drop(archive);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header(layer, length, 0o644)?.as_bytes())
}

/// The path of an entry: no leading slash, and the merged directories resolved, since an entry cannot lie below a link.
fn inside(path: &str) -> String {
    let path = path.trim_start_matches('/');
    match path.split_once('/') {
        Some(("bin" | "sbin" | "lib" | "lib64", _)) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

fn blank(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn header(name: &str, size: u64, mode: u32) -> io::Result<tar::Header> {
    let mut header = blank(size, mode);
    header.set_path(name)?;
    header.set_cksum();
    Ok(header)
}

/// Passes on what is written, and remembers its hash and length.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What the loader would load for a program, the loader included.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(Error::spawn("ldd"))?;
    let (said, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() {
        // ldd reports a static program as a failure.
        return if complaint.contains("not a dynamic executable") {
            Ok(Vec::new())
        } else {
            Err(Error::Exit {
                program: format!("ldd {}", program.display()),
                status: output.status.to_string(),
                output: complaint.into_owned(),
            })
        };
    }
    parse_ldd(&said).map_err(|library| {
        Error::Other(format!(
            "failed to find the library {library} that {} is linked with",
            program.display()
        ))
    })
}

/// `Err` names a library that was not found.
fn parse_ldd(said: &str) -> std::result::Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in said.lines().map(str::trim) {
        let target = match line.split_once(" => ") {
            Some((name, "not found")) => return Err(name.to_owned()),
            Some((_, target)) => target,
            None => line,
        };
        // The kernel's own library has no path, and a static-pie says "statically linked".
        if let Some(path) = target.split(" (").next().filter(|path| path.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x7f1)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f2)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f3)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_ldd(said).unwrap(), expected.map(PathBuf::from));
        assert_eq!(parse_ldd("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert_eq!(parse_ldd("\tlibnft.so.1 => not found\n").unwrap_err(), "libnft.so.1");
    }

    #[test]
    fn entries_lie_in_the_merged_directories() {
        for (path, expected) in [
            ("/bin/sh", "usr/bin/sh"),
            ("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
            ("/usr/lib/x/y", "usr/lib/x/y"),
            ("/lib", "lib"),
            ("/library/x", "library/x"),
        ] {
            assert_eq!(inside(path), expected);
        }
    }

    #[test]
    fn the_same_content_is_the_same_image() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, vec![7; 100_000]).unwrap();
        let image = |user: &str| {
            Image::builder("example.org/p", "v1")
                .entrypoint("/p")
                .user(user)
                .file(&program, "/p")
        };
        let write = |image: &Image, name: &str| {
            let path = directory.path().join(name);
            image.write(&path).unwrap();
            fs::read(path).unwrap()
        };
        let first = write(&image("1"), "first");
        fs::write(&program, vec![7; 100_000]).unwrap();
        assert!(
            first == write(&image("1"), "second"),
            "a rewritten file with the same content changes nothing"
        );
        assert!(first != write(&image("2"), "third"));
        assert_ne!(image("1").fingerprint().unwrap(), image("2").fingerprint().unwrap());
    }

    #[test]
    fn an_archive_holds_a_layer_its_configuration_and_a_manifest_that_names_both() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let long = format!("/{}/file", "long-name".repeat(20));
        Image::builder("registry.k8s.io/pause", "3")
            .entrypoint("/pause")
            .text("/pause", "x")
            .text(&long, "y")
            .write(&path)
            .unwrap();
        let mut contents = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            contents.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
        }
        assert_eq!(contents.len(), 3);
        let manifest: serde_json::Value = serde_json::from_slice(&contents["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["registry.k8s.io/pause:3"]));
        let config = &contents[manifest[0]["Config"].as_str().unwrap()];
        let layer = &contents[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(manifest[0]["Config"], format!("{}.json", hex(&Sha256::digest(config))));
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", hex(&Sha256::digest(layer)))
        );
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/pause"]));
        let names: Vec<String> = tar::Archive::new(&layer[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(
            names.contains(&"pause".to_owned()) && names.contains(&long[1..].to_owned()),
            "{names:?}"
        );
        let position = |name: &str| names.iter().position(|n| n == name).unwrap();
        assert!(
            position("usr/") < position("usr/bin/"),
            "a directory comes before what is in it"
        );
        assert_eq!(names.iter().filter(|name| *name == "var/tmp/").count(), 1);
    }
}
