//! Ports for servers that are told on which to listen before they do.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::Error;

/// Below what Linux gives to clients, who might take one in between, and below the node ports of Kubernetes.
pub const UNCLAIMED: Range<u16> = 10_000..30_000;

/// A port at which nobody listens on any address, and another one each time that this process asks.
///
/// # Errors
/// When all are taken.
pub fn free(within: Range<u16>) -> Result<u16, Error> {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(within.end - within.start);
    // Processes that ask at the same time begin in different places.
    let begin = std::process::id().wrapping_mul(97);
    for _ in within.clone() {
        let asked = u32::from(ASKED.fetch_add(1, Ordering::Relaxed));
        let port = within.start + u16::try_from(begin.wrapping_add(asked) % count).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::NoPort { within })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_port_that_is_taken_or_was_given() {
        // Three, of which one is taken.
        let taken = free(UNCLAIMED).unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        let within = taken - 1..taken + 2;
        let (first, second) = (free(within.clone()).unwrap(), free(within.clone()).unwrap());
        assert!(within.contains(&first) && within.contains(&second));
        assert!(first != taken && second != taken && first != second);
        assert!(matches!(free(taken..taken + 1), Err(Error::NoPort { .. })));
    }
}
