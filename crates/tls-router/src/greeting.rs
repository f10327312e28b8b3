//! What a client says before anything is encrypted: RFC 8446's ClientHello, as far as its list of protocols (RFC 7301).

use rustls::server::Acceptor;

/// As much as is kept of a client before it is known where it goes. Go's, with post-quantum key shares, take 2 KiB.
pub(crate) const LONGEST: usize = 32 * 1024;

/// A client's first bytes, as they come.
pub(crate) struct Greeting {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It has not said yet.
    Unsaid,
    /// One of these protocols, the one that it likes best first; none if it names none.
    Protocols(Vec<Vec<u8>>),
    /// What it says is no ClientHello, or one that is too long.
    Unclear,
}

impl Greeting {
    pub(crate) fn new() -> Self {
        Self {
            acceptor: Acceptor::default(),
            bytes: Vec::new(),
        }
    }

    /// Takes the next bytes. To be called no more once it has answered anything but [`Wanted::Unsaid`].
    pub(crate) fn take(&mut self, more: &[u8]) -> Wanted {
        self.bytes.extend_from_slice(more);
        let mut rest = more;
        loop {
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let protocols = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec);
                    return Wanted::Protocols(protocols.collect());
                }
                Ok(None) if rest.is_empty() && self.bytes.len() <= LONGEST => return Wanted::Unsaid,
                Ok(None) if rest.is_empty() => return Wanted::Unclear,
                Ok(None) => {}
                Err(_) => return Wanted::Unclear,
            }
            // Nothing taken of something means that it takes no more.
            if !matches!(self.acceptor.read_tls(&mut rest), Ok(1..)) {
                return Wanted::Unclear;
            }
        }
    }

    /// All that was taken, to be said again to whom it was meant for.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// A ClientHello that offers these protocols.
    pub(crate) fn hello(protocols: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("192.0.2.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn said(bytes: &[u8]) -> Wanted {
        Greeting::new().take(bytes)
    }

    fn protocols(names: &[&str]) -> Wanted {
        Wanted::Protocols(names.iter().map(|name| name.as_bytes().to_vec()).collect())
    }

    #[test]
    fn protocols_are_read_in_order() {
        assert_eq!(
            said(&hello(&["konnectivity", "h2"])),
            protocols(&["konnectivity", "h2"])
        );
        assert_eq!(said(&hello(&["h2", "http/1.1"])), protocols(&["h2", "http/1.1"]));
        assert_eq!(said(&hello(&[])), protocols(&[]));
    }

    #[test]
    fn what_is_no_client_hello_is_unclear() {
        assert_eq!(said(b"GET / HTTP/1.1\r\nHost: oil\r\n\r\n"), Wanted::Unclear);
        let mut alert = hello(&["h2"]);
        alert[0] = 21;
        assert_eq!(said(&alert), Wanted::Unclear);
        assert_eq!(said(&[]), Wanted::Unsaid);
    }

    #[test]
    fn nobody_talks_without_end() {
        // A handshake message of 65,535 bytes, in records of one byte.
        let mut endless = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
        let mut greeting = Greeting::new();
        let mut wanted = greeting.take(&endless);
        endless = vec![22, 3, 1, 0, 1, 0];
        let mut taken = 0;
        while wanted == Wanted::Unsaid {
            wanted = greeting.take(&endless);
            taken += endless.len();
            assert!(taken < 2 * LONGEST, "it still listens");
        }
        assert_eq!(wanted, Wanted::Unclear);
    }

    proptest! {
        /// Where packets begin and end makes no difference, and nothing of them is lost.
        #[test]
        fn packets_make_no_difference(cuts in prop::collection::vec(0_usize..400, 0..8), garbled in any::<Option<(u8, usize)>>()) {
            let mut bytes = hello(&["konnectivity", "h2"]);
            if let Some((value, place)) = garbled {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let whole = said(&bytes);
            let mut greeting = Greeting::new();
            let (mut wanted, mut begin) = (Wanted::Unsaid, 0);
            for end in cuts {
                if wanted == Wanted::Unsaid {
                    wanted = greeting.take(&bytes[begin..end]);
                    begin = end;
                }
            }
            prop_assert_eq!(wanted, whole);
            prop_assert_eq!(greeting.into_bytes(), bytes[..begin].to_vec());
        }
    }
}
