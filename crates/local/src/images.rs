//! The images that a cluster on this machine needs, as a directory of docker-archives.
//!
//! Images keep their upstream names: a manifest that works elsewhere works here. Each image is written once per content
//! and kept in the cache; a set of them is a directory of hard links whose name is the hash of all, so that a set is never
//! changed under somebody who reads it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::programs::{PAUSE_VERSION, Programs, cache_directory, find_in_path, hex};
use crate::progress::{Outcome, Progress};

/// What nobody asked for during this time may go, but for the newest few.
const KEEP_FOR: Duration = Duration::from_hours(1);
const KEEP_NEWEST: usize = 3;
/// What is written when the cache is empty, on two cores.
const EXPECTED: Duration = Duration::from_secs(4);

/// A set of images in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub directory: PathBuf,
    /// `repository:tag` of each.
    pub references: Vec<String>,
}

/// Kubernetes' own images, DNS, a store, kine, a shell to try things with, and ours with the given tag.
pub fn standard(programs: &Programs, cotenant: &Path, tag: &str) -> Result<Vec<Image>> {
    let mut images = upstream(programs)?;
    images.push(
        Image::builder("docker.io/cotenant/cotenant", tag)
            .program(cotenant, "/usr/local/bin/cotenant")?
            .entrypoint("/usr/local/bin/cotenant")
            .user("65532:65532"),
    );
    Ok(images)
}

/// [`standard`] without ours.
pub fn upstream(programs: &Programs) -> Result<Vec<Image>> {
    let version = programs.kubernetes_version()?;
    let mut images = kubernetes(programs, &version)?;
    images.push(
        Image::builder(
            "registry.k8s.io/coredns/coredns",
            format!("v{}", programs.coredns_version()?),
        )
        .file(programs.path("coredns"), "/coredns")
        .entrypoint("/coredns"),
    );
    images.push(
        Image::builder("registry.k8s.io/etcd", format!("{}-0", programs.etcd_version()?))
            .file(programs.path("etcd"), "/usr/local/bin/etcd")
            .file(programs.path("etcdctl"), "/usr/local/bin/etcdctl")
            .command("etcd"),
    );
    images.push(
        Image::builder("registry.k8s.io/pause", PAUSE_VERSION)
            .file(programs.path("pause"), "/pause")
            .entrypoint("/pause")
            .user("65535:65535"),
    );
    images.push(kine(programs)?);
    images.extend(konnectivity(programs, &version));
    images.push(busybox()?);
    Ok(images)
}

/// What a hosted control plane of an older minor and its nodes run besides [`upstream`]. Both ends of the tunnel are those of
/// `programs`, under the older tag.
pub fn of_older_minor(older: &Programs, programs: &Programs) -> Result<Vec<Image>> {
    let version = older.kubernetes_version()?;
    let mut images = kubernetes(older, &version)?;
    images.extend(konnectivity(programs, &version));
    Ok(images)
}

fn kubernetes(programs: &Programs, version: &str) -> Result<Vec<Image>> {
    // The pod's command is the bare name.
    let of = |name: &str| {
        Image::builder(format!("registry.k8s.io/{name}"), version)
            .file(programs.path(name), &format!("/usr/local/bin/{name}"))
            .entrypoint(format!("/usr/local/bin/{name}"))
    };
    let mut images = Vec::from(["kube-apiserver", "kube-controller-manager", "kube-scheduler"].map(of));
    images.push(kube_proxy(programs, version)?);
    Ok(images)
}

/// kube-proxy with what it calls: nft, the nft variants of iptables with their extensions, conntrack, ip.
fn kube_proxy(programs: &Programs, version: &str) -> Result<Image> {
    let mut image = Image::builder("registry.k8s.io/kube-proxy", version)
        .file(programs.path("kube-proxy"), "/usr/local/bin/kube-proxy")
        .entrypoint("/usr/local/bin/kube-proxy");
    for name in ["nft", "conntrack", "ip", "xtables-nft-multi"] {
        image = image.program(&host_program(name)?, &format!("/usr/sbin/{name}"))?;
    }
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            for flavour in ["", "-nft"] {
                image = image.symlink(&format!("/usr/sbin/{family}{flavour}{suffix}"), "xtables-nft-multi");
            }
        }
    }
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let extensions = PathBuf::from(multiarch).join("xtables");
    image = image.tree(&extensions)?;
    // Of the extensions that kube-proxy's rules name, these need libraries that the programs do not; without them no
    // rule of a Service with two endpoints is accepted.
    for extension in ["libxt_conntrack.so", "libxt_statistic.so"] {
        image = image.with_shared_libraries(&extensions.join(extension))?;
    }
    Ok(image.text(
        "/etc/protocols",
        "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n",
    ))
}

/// Both ends of the tunnel. Their tag follows the minor of Kubernetes, which is all that users of it know; neither
/// program tells its own version.
fn konnectivity(programs: &Programs, kubernetes: &str) -> [Image; 2] {
    let minor = kubernetes.split('.').nth(1).unwrap_or_default();
    ["proxy-server", "proxy-agent"].map(|name| {
        Image::builder(
            format!("registry.k8s.io/kas-network-proxy/{name}"),
            format!("v0.{minor}.0"),
        )
        .file(programs.path(name), &format!("/{name}"))
        .entrypoint(format!("/{name}"))
        .user("65532:65532")
    })
}

/// kine with a shell, with which control planes on a store with TLS prepare its certificates.
fn kine(programs: &Programs) -> Result<Image> {
    let image = Image::builder("docker.io/rancher/kine", programs.kine_version()?)
        .file(programs.path("kine"), "/bin/kine")
        .program(&host_program("busybox")?, "/bin/busybox")?
        .entrypoint("/bin/kine");
    Ok(["sh", "cp", "chmod"]
        .into_iter()
        .fold(image, |image, name| image.symlink(&format!("/bin/{name}"), "busybox")))
}

/// Debian's busybox under all its names. Not the static one: that cannot look up hosts.
fn busybox() -> Result<Image> {
    let program = host_program("busybox")?;
    let output = std::process::Command::new(&program)
        .arg("--list")
        .output()
        .map_err(Error::spawn("busybox"))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut image = Image::builder("docker.io/library/busybox", "1.36")
        .program(&program, "/bin/busybox")?
        .command("sh");
    for name in names
        .lines()
        .filter(|name| !name.is_empty() && *name != "busybox" && !name.contains('/'))
    {
        image = image.symlink(&format!("/bin/{name}"), "busybox");
    }
    Ok(image)
}

fn host_program(name: &str) -> Result<PathBuf> {
    find_in_path(name)
        .or_else(|| {
            let sbin = Path::new("/usr/sbin").join(name);
            sbin.is_file().then_some(sbin)
        })
        .ok_or_else(|| Error::MissingProgram {
            name: name.to_owned(),
            directory: PathBuf::from("PATH"),
            advice: "it goes into an image; `cotenant up` installs the Debian package that has it",
        })
}

/// The directory that holds exactly these images, written now as far as they are not in the cache.
pub fn ensure(images: &[Image], progress: &dyn Progress) -> Result<Images> {
    let step = "make the images";
    progress.begin(step, Some(EXPECTED));
    let result = Store {
        root: cache_directory()?.join("images"),
    }
    .ensure(images, &mut |text| progress.note(step, text));
    progress.end(
        step,
        match &result {
            Ok((_, false)) => Outcome::Kept,
            Ok((_, true)) => Outcome::Done,
            Err(_) => Outcome::Failed,
        },
    );
    result.map(|(images, _)| images)
}

struct Store {
    root: PathBuf,
}

impl Store {
    /// Also says whether anything was written.
    fn ensure(&self, images: &[Image], note: &mut dyn FnMut(&str)) -> Result<(Images, bool)> {
        fs::create_dir_all(&self.root).map_err(Error::file("create directory", &self.root))?;
        let lock = self.root.join("lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&lock)
            .map_err(Error::file("open the lock", &lock))?;
        lock.lock().map_err(Error::file("lock", self.root.join("lock")))?;

        let mut members = Vec::new();
        for image in images {
            let (reference, fingerprint) = (image.reference(), image.fingerprint()?);
            let stem = reference.replace('/', "_").replace(':', "@");
            members.push((
                image,
                reference,
                format!("{stem}.tar"),
                self.root.join(format!("{stem}-{fingerprint}.tar")),
            ));
        }
        let mut all = Sha256::new();
        for (_, _, _, path) in &members {
            all.update(path.as_os_str().as_encoded_bytes());
            all.update([0]);
        }
        let directory = self.root.join(format!("set-{}", hex(&all.finalize()[..8])));
        let references = members.iter().map(|(_, reference, _, _)| reference.clone()).collect();
        let complete = directory.is_dir();
        if !complete {
            let partial = tempfile::Builder::new()
                .prefix(".partial-")
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .tempdir_in(&self.root)
                .map_err(Error::file("create a directory in", &self.root))?;
            for (image, reference, name, path) in &members {
                if !path.is_file() {
                    note(reference);
                    image.write(path)?;
                }
                touch(path);
                fs::hard_link(path, partial.path().join(name)).map_err(Error::file("link", path))?;
            }
            fs::rename(partial.keep(), &directory).map_err(Error::file("move into place", &directory))?;
        }
        touch(&directory);
        self.prune();
        Ok((Images { directory, references }, !complete))
    }

    /// Removes sets and images that have not been asked for lately. A failure leaves a file too many, no more.
    fn prune(&self) {
        let mut groups = std::collections::BTreeMap::<String, Vec<(SystemTime, PathBuf)>>::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            if let (Some(of), Ok(used)) = (group_of(&name), used) {
                groups.entry(of.to_owned()).or_default().push((used, entry.path()));
            }
        }
        for group in groups.values_mut() {
            group.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
            for (used, path) in group.iter().skip(KEEP_NEWEST) {
                if used.elapsed().is_ok_and(|age| age > KEEP_FOR) {
                    let _ = if path.is_dir() {
                        fs::remove_dir_all(path)
                    } else {
                        fs::remove_file(path)
                    };
                }
            }
        }
    }
}

/// What an entry is one of: images of one name, whatever their tags (each build of ours has its own), or sets. `None`:
/// it is neither.
fn group_of(name: &str) -> Option<&str> {
    let (stem, _) = name.rsplit_once('-')?;
    Some(stem.split_once('@').map_or(stem, |(image, _)| image))
}

/// Marks a file as used now. Only pruning reads it.
fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_one_image_do_not_pile_up() {
        let cache = tempfile::tempdir().unwrap();
        let builds = (0..9).map(|number| format!("docker.io_cotenant_cotenant@{number}-abc.tar"));
        let long_ago = SystemTime::now() - 2 * KEEP_FOR;
        let old = builds.chain(["registry.k8s.io_pause@3.10.1-def.tar".to_owned(), "lock".to_owned()]);
        for (place, name) in old.enumerate() {
            let file = File::create(cache.path().join(name)).unwrap();
            let used = long_ago - Duration::from_secs(place as u64);
            file.set_modified(used).unwrap();
        }
        File::create(cache.path().join("docker.io_cotenant_cotenant@new-abc.tar")).unwrap();
        let root = cache.path().to_owned();
        Store { root }.prune();
        let left = fs::read_dir(cache.path()).unwrap();
        let mut left: Vec<String> = left
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let expected = [
            "docker.io_cotenant_cotenant@0-abc.tar",
            "docker.io_cotenant_cotenant@1-abc.tar",
            "docker.io_cotenant_cotenant@new-abc.tar",
            "lock",
            "registry.k8s.io_pause@3.10.1-def.tar",
        ];
        assert_eq!(left, expected);
    }
}
