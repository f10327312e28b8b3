//! PEM around what this crate reads and writes: Unix line endings, and texts of several blocks.

use pem::{EncodeConfig, LineEnding, Pem};

use crate::Error;

pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    pem::encode_config(
        &Pem::new(label, der),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}

/// Every block of the text, as (label, DER). Text between blocks is ignored, as OpenSSL's tools write some.
pub(crate) fn decode_all(what: &'static str, text: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let blocks = pem::parse_many(text).map_err(|_| Error::DecodePem { what })?;
    Ok(blocks
        .into_iter()
        .map(|block| (block.tag().to_owned(), block.into_contents()))
        .collect())
}

pub(crate) fn certificate_ders(what: &'static str, text: &str) -> Result<Vec<Vec<u8>>, Error> {
    let ders: Vec<_> = decode_all(what, text)?
        .into_iter()
        .filter(|(label, _)| label == "CERTIFICATE")
        .map(|(_, der)| der)
        .collect();
    if ders.is_empty() {
        return Err(Error::MissingPem {
            what,
            label: "CERTIFICATE",
        });
    }
    Ok(ders)
}

/// The first certificate of a text, alone.
///
/// # Errors
/// When there is none.
pub fn first_certificate(text: &str) -> Result<String, Error> {
    let ders = certificate_ders("a certificate", text)?;
    Ok(encode("CERTIFICATE", &ders[0]))
}

/// Each public key of a text (`PUBLIC KEY`, `RSA PUBLIC KEY`), alone, in its order.
///
/// # Errors
/// When the text is not PEM.
pub fn public_keys(text: &str) -> Result<Vec<String>, Error> {
    let blocks = decode_all("a public key", text)?;
    let keys = blocks.into_iter().filter(|(label, _)| label.ends_with("PUBLIC KEY"));
    Ok(keys.map(|(label, der)| encode(&label, &der)).collect())
}
