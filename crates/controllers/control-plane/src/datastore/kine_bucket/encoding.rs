//! How kine writes keys and values in NATS (`pkg/drivers/nats`): a key as a subject, of which each part is base58, a value
//! with what else is known of it as JSON in a stream of S2.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::kine::Row;

/// How streams of S2 and of Snappy begin; either may have what only S2 has.
const MAGIC: [&[u8]; 2] = [b"\xff\x06\0\0S2sTwO", b"\xff\x06\0\0sNaPpY"];
/// JSON with a value in base64. API servers write values of 1.5 MiB at most.
const DECOMPRESSED_BYTES: usize = 24 * 1024 * 1024;

/// In front of names that do not begin with a slash.
const ROOTLESS: &str = "meta";
/// In the place of a part that is empty, which a subject's part cannot be.
const EMPTY: &str = "/";

/// A message, with the names and in the order that Go gives them.
#[derive(Deserialize, Serialize)]
struct Message {
    #[serde(rename = "KV")]
    kv: Option<KeyValue>,
    #[serde(rename = "PrevRevision", default)]
    prev_revision: i64,
    #[serde(rename = "Create", default)]
    create: bool,
    #[serde(rename = "Delete", default)]
    delete: bool,
}

#[derive(Deserialize, Serialize)]
struct KeyValue {
    #[serde(rename = "Key")]
    key: String,
    /// Zero in what is created: the message's own number.
    #[serde(rename = "CreateRevision", default)]
    create_revision: i64,
    #[serde(rename = "ModRevision", default)]
    mod_revision: i64,
    /// In base64.
    #[serde(rename = "Value", default)]
    value: Option<String>,
    /// Seconds.
    #[serde(rename = "Lease", default)]
    lease: i64,
}

/// The subject of a name, behind that of the bucket.
pub(super) fn subject(name: &str) -> String {
    let rest = name.strip_prefix('/');
    let part = |part: &str| bs58::encode(if part.is_empty() { EMPTY } else { part }).into_string();
    let parts = rest.unwrap_or(name).split('/').map(part);
    let rootless = rest.is_none().then(|| ROOTLESS.to_owned());
    rootless.into_iter().chain(parts).collect::<Vec<_>>().join(".")
}

/// The name that this is the subject of; `None` if it is none of kine's.
pub(super) fn name(subject: &str) -> Option<String> {
    let (root, parts) = match subject.strip_prefix(ROOTLESS).and_then(|rest| rest.strip_prefix('.')) {
        Some(parts) => ("", parts),
        None => ("/", subject),
    };
    let part = |part: &str| String::from_utf8(bs58::decode(part).into_vec().ok()?).ok();
    let parts: Option<Vec<String>> = parts.split('.').map(part).collect();
    let parts = parts?;
    let parts: Vec<&str> = parts.iter().map(|part| if part == EMPTY { "" } else { part }).collect();
    Some(format!("{root}{}", parts.join("/")))
}

/// The message that makes the key what it is in the row.
pub(super) fn encode(row: &Row) -> std::io::Result<Vec<u8>> {
    let message = Message {
        kv: Some(KeyValue {
            key: row.name.clone(),
            create_revision: 0,
            mod_revision: 0,
            value: Some(STANDARD.encode(&row.value)),
            lease: row.lease,
        }),
        prev_revision: 0,
        create: true,
        delete: false,
    };
    let mut compressed = Vec::new();
    let mut writer = minlz::s2::Writer::new(&mut compressed);
    writer.write_all(&serde_json::to_vec(&message)?)?;
    writer.flush()?;
    drop(writer);
    Ok(compressed)
}

/// What a message makes of a key. Fails for what kine does not write.
pub(super) fn decode(id: i64, name: String, message: &[u8]) -> Result<Row, String> {
    let message: Message = serde_json::from_slice(&decompress(message)?).map_err(|error| error.to_string())?;
    let kv = message.kv.ok_or("it is of no key")?;
    let value = if message.delete { None } else { kv.value };
    let value = STANDARD.decode(value.unwrap_or_default());
    Ok(Row {
        id,
        name,
        value: value.map_err(|error| error.to_string())?,
        lease: kv.lease,
        deleted: message.delete,
    })
}

/// What is in a stream of S2. Each part says how large it is before memory is given to it.
fn decompress(stream: &[u8]) -> Result<Vec<u8>, String> {
    const BROKEN: &str = "it ends too early";
    let mut rest = MAGIC
        .iter()
        .find_map(|magic| stream.strip_prefix(*magic))
        .ok_or("it is no stream of S2")?;
    let mut whole = Vec::new();
    while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk() {
        let (chunk, after) = after
            .split_at_checked(u32::from_le_bytes([a, b, c, 0]) as usize)
            .ok_or(BROKEN)?;
        rest = after;
        // What may be skipped: padding, an index, another beginning.
        if kind >= 0x80 {
            continue;
        }
        let (&sum, part) = chunk.split_first_chunk().ok_or(BROKEN)?;
        let size = match kind {
            0 => minlz::s2::decode_len(part).map_err(|error| error.to_string())?.0,
            1 => part.len(),
            _ => return Err(format!("it has a part of kind {kind}")),
        };
        if whole.len().saturating_add(size) > DECOMPRESSED_BYTES {
            return Err(format!("it is larger than {DECOMPRESSED_BYTES} bytes"));
        }
        let begins = whole.len();
        if kind == 0 {
            whole.extend(minlz::s2::decode(part).map_err(|error| error.to_string())?);
        } else {
            whole.extend_from_slice(part);
        }
        if minlz::crc::crc(&whole[begins..]) != u32::from_le_bytes(sum) {
            return Err("its sum is wrong".to_owned());
        }
    }
    if rest.is_empty() {
        Ok(whole)
    } else {
        Err(BROKEN.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_and_values_come_back_as_they_were(name in "/?[a-z0-9:._-]{1,9}(/[a-z0-9:._-]{0,9}){0,6}", value in prop::collection::vec(any::<u8>(), 0..3000), lease in 0_i64..9) {
            prop_assert_eq!(super::name(&subject(&name)), Some(name.clone()));
            let row = Row { id: 7, name: name.clone(), value, lease, deleted: false };
            prop_assert_eq!(decode(7, name, &encode(&row).unwrap()), Ok(row));
        }

        /// Whatever else is in a bucket is an error and nothing worse.
        #[test]
        fn what_kine_did_not_write_is_refused(mut message in prop::collection::vec(any::<u8>(), 0..200), subject in ".{0,40}") {
            prop_assert!(decode(1, String::new(), &message).is_err());
            message.splice(0..0, *b"\xff\x06\x00\x00S2sTwO");
            prop_assert!(decode(1, String::new(), &message).is_err());
            drop(super::name(&subject));
        }
    }

    /// Written out by hand with the alphabet of Bitcoin.
    #[test]
    fn subjects_are_kines() {
        for (name, expected) in [
            ("/registry/health", "L8nZchjdPLL.tzCUBDXD"),
            ("/registry//kube-system", "L8nZchjdPLL.p.TeXaP8mbtcFL1E4"),
            ("compact_rev_key_apiserver", "meta.h1ctazrDGbqvwPuDySV8QCGFrjddCjbkRf"),
        ] {
            assert_eq!(subject(name), expected);
        }
    }

    /// Parts that say they are large, or are skipped over without end, cost nothing.
    #[test]
    fn a_stream_that_lies_about_its_size_is_refused() {
        let begins = MAGIC[0].to_vec();
        let huge = [&begins[..], &[0, 9, 0, 0, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        assert!(decompress(&huge).unwrap_err().contains("larger"));
        let skipped = [&begins[..], &[0xfe, 0, 0, 0].repeat(1_000_000)].concat();
        assert_eq!(decompress(&skipped), Ok(Vec::new()));
        let cut = [&begins[..], &[1, 9, 0, 0, 1, 2]].concat();
        assert!(decompress(&cut).is_err());
    }
}
