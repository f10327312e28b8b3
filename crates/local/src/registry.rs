//! The cluster's image registry and how images get into it.
//!
//! The registry is Debian's `docker-registry` on the admin node's address. Images are pushed with the registry's own
//! protocol straight from their docker-archive: the layers stay uncompressed, which on one machine saves most of the
//! time that `skopeo` spends, and an image whose configuration the registry has already is not touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

pub const PORT: u16 = 5000;

const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// How long one request may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// The registry's configuration file; `root` as the node sees it.
pub fn config(root: &str, address: SocketAddrV4) -> String {
    format!(
        "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: \
         {root}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{address}\", relativeurls: true, secret: \
         \"on-this-machine-only\"}}\n"
    )
}

/// An image as it lies in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub path: PathBuf,
    /// With the registry's host, such as `registry.k8s.io/pause:3.10.1`.
    pub reference: String,
}

/// The images of a directory, by reference.
pub fn archives(directory: &Path) -> Result<Vec<Archive>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Error::file("read directory", directory))? {
        let path = entry.map_err(Error::file("read directory", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            for reference in Contents::read(&path)?.references {
                found.push(Archive {
                    path: path.clone(),
                    reference,
                });
            }
        }
    }
    found.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(found)
}

/// Pushes an archive's image unless the registry has exactly this one. Says whether it pushed.
pub fn push(registry: SocketAddrV4, archive: &Archive) -> Result<bool> {
    let (repository, tag) = split(&archive.reference)?;
    let failed = |error: Error| Error::Other(format!("failed to push the image {}: {error}", archive.reference));
    let contents = Contents::read(&archive.path).map_err(failed)?;
    let manifest = contents.manifest();
    let place = format!("/v2/{repository}/manifests/{tag}");
    let present = request(registry, "GET", &place, &[("Accept", MANIFEST_TYPE)], None).map_err(failed)?;
    if present.status == 200 && present.body == manifest.as_bytes() {
        return Ok(false);
    }
    for blob in std::iter::once(&contents.config).chain(&contents.layers) {
        push_blob(registry, &repository, &archive.path, blob).map_err(failed)?;
    }
    let body = (&mut manifest.as_bytes() as &mut dyn Read, manifest.len() as u64);
    let answer = request(registry, "PUT", &place, &[("Content-Type", MANIFEST_TYPE)], Some(body)).map_err(failed)?;
    answer.expect(&[201], "put the manifest").map_err(failed)?;
    Ok(true)
}

fn push_blob(registry: SocketAddrV4, repository: &str, archive: &Path, blob: &Blob) -> Result<()> {
    let place = format!("/v2/{repository}/blobs/{}", blob.digest);
    if request(registry, "HEAD", &place, &[], None)?.status == 200 {
        return Ok(());
    }
    let answer = request(registry, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], None)?;
    answer.expect(&[202], "begin an upload")?;
    let location = answer
        .headers
        .get("location")
        .ok_or_else(|| Error::Other("the registry began an upload without saying where".to_owned()))?;
    let separator = if location.contains('?') { '&' } else { '?' };
    let place = format!("{location}{separator}digest={}", blob.digest);
    let mut file = File::open(archive).map_err(Error::file("open", archive))?;
    file.seek(SeekFrom::Start(blob.offset))
        .map_err(Error::file("read", archive))?;
    let mut content = file.take(blob.size);
    let answer = request(
        registry,
        "PUT",
        &place,
        &[("Content-Type", "application/octet-stream")],
        Some((&mut content, blob.size)),
    )?;
    answer.expect(&[201], "upload a layer")
}

/// `registry.k8s.io/coredns/coredns:v1` is `coredns/coredns` with the tag `v1` in our registry.
fn split(reference: &str) -> Result<(String, String)> {
    let bad = || {
        Error::Other(format!(
            "failed to read the image reference `{reference}`: it should read HOST/REPOSITORY:TAG"
        ))
    };
    let (name, tag) = reference
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .ok_or_else(bad)?;
    let repository = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => match (host, rest) {
            ("docker.io", rest) if !rest.contains('/') => format!("library/{rest}"),
            (_, rest) => rest.to_owned(),
        },
        Some(_) => name.to_owned(),
        None => format!("library/{name}"),
    };
    Ok((repository, tag.to_owned()))
}

/// A piece of the archive that the registry stores under its digest.
#[derive(Debug)]
struct Blob {
    digest: String,
    offset: u64,
    size: u64,
}

#[derive(Debug)]
struct Contents {
    references: Vec<String>,
    config: Blob,
    layers: Vec<Blob>,
}

impl Contents {
    /// Reads where things are. The layers' digests are those that the configuration names: the registry verifies them.
    fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Image {
            config: String,
            #[serde(default)]
            repo_tags: Vec<String>,
            layers: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Config {
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            diff_ids: Vec<String>,
        }
        let bad = |why: String| Error::Other(format!("failed to read the image archive {}: {why}", path.display()));
        let file = File::open(path).map_err(Error::file("open", path))?;
        let mut places = BTreeMap::new();
        let mut small = BTreeMap::new();
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries_with_seek().map_err(Error::file("read", path))? {
            let mut entry = entry.map_err(Error::file("read", path))?;
            let name = entry
                .path()
                .map_err(Error::file("read", path))?
                .to_string_lossy()
                .into_owned();
            places.insert(name.clone(), (entry.raw_file_position(), entry.size()));
            if Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let mut text = Vec::new();
                entry.read_to_end(&mut text).map_err(Error::file("read", path))?;
                small.insert(name, text);
            }
        }
        let manifest = small
            .get("manifest.json")
            .ok_or_else(|| bad("it has no manifest.json".to_owned()))?;
        let [image]: [Image; 1] = serde_json::from_slice(manifest).map_err(|error| bad(error.to_string()))?;
        let place = |name: &str| {
            places
                .get(name)
                .copied()
                .ok_or_else(|| bad(format!("it does not hold {name}, which its manifest names")))
        };
        let (offset, size) = place(&image.config)?;
        let text = small
            .get(&image.config)
            .ok_or_else(|| bad("its configuration is not JSON".to_owned()))?;
        let config: Config = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(bad(
                "its configuration and its manifest disagree on the layers".to_owned()
            ));
        }
        let layers = image
            .layers
            .iter()
            .zip(config.rootfs.diff_ids)
            .map(|(name, digest)| place(name).map(|(offset, size)| Blob { digest, offset, size }))
            .collect::<Result<Vec<_>>>()?;
        let digest = Sha256::digest(text)
            .iter()
            .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        Ok(Self {
            references: image.repo_tags,
            config: Blob { digest, offset, size },
            layers,
        })
    }

    fn manifest(&self) -> String {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| serde_json::json!({"mediaType": LAYER_TYPE, "size": layer.size, "digest": layer.digest}))
            .collect();
        serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "size": self.config.size, "digest": self.config.digest},
            "layers": layers,
        })
        .to_string()
    }
}

struct Answer {
    status: u16,
    /// By name in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn expect(&self, statuses: &[u16], what: &str) -> Result<()> {
        if statuses.contains(&self.status) {
            return Ok(());
        }
        Err(Error::Other(format!(
            "the registry refused to {what}: {} {}",
            self.status,
            String::from_utf8_lossy(&self.body).trim()
        )))
    }
}

/// One request on a connection of its own: HTTP/1.0, so that the answer is simply everything until the end.
fn request(
    registry: SocketAddrV4,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<(&mut dyn Read, u64)>,
) -> Result<Answer> {
    let failed = |error: std::io::Error| Error::Other(format!("failed to talk to the registry at {registry}: {error}"));
    let mut stream = TcpStream::connect_timeout(&registry.into(), Duration::from_secs(5)).map_err(failed)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(SILENCE)).map_err(failed)?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {registry}\r\n");
    for (name, value) in headers {
        head = format!("{head}{name}: {value}\r\n");
    }
    let size = body.as_ref().map_or(0, |(_, size)| *size);
    stream
        .write_all(format!("{head}Content-Length: {size}\r\n\r\n").as_bytes())
        .map_err(failed)?;
    if let Some((content, _)) = body {
        std::io::copy(content, &mut stream).map_err(failed)?;
    }
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(failed)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| {
            Error::Other(format!(
                "failed to understand the registry at {registry}: it answered `{}`",
                line.trim_end()
            ))
        })?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).map_err(failed)? == 0 || line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim_end().split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut body = Vec::new();
    if method != "HEAD" {
        reader.read_to_end(&mut body).map_err(failed)?;
    }
    Ok(Answer { status, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lose_the_host_and_keep_the_repository() {
        let rows = [
            ("registry.k8s.io/pause:3.10.1", Some(("pause", "3.10.1"))),
            (
                "registry.k8s.io/coredns/coredns:v1.12.4",
                Some(("coredns/coredns", "v1.12.4")),
            ),
            ("docker.io/library/busybox:1.36", Some(("library/busybox", "1.36"))),
            ("docker.io/busybox:1.36", Some(("library/busybox", "1.36"))),
            ("busybox:1.36", Some(("library/busybox", "1.36"))),
            ("cotenant/cotenant:dev", Some(("cotenant/cotenant", "dev"))),
            ("localhost:5000/busybox", None),
            ("busybox", None),
        ];
        for (reference, expected) in rows {
            let expected = expected.map(|(repository, tag)| (repository.to_owned(), tag.to_owned()));
            assert_eq!(split(reference).ok(), expected, "{reference}");
        }
    }
}
