//! Takes a port for HTTP, and says who has it when it is taken.
//!
//! The instance that comes last of those that share the port is the one that is asked: during an upgrade, whether the
//! new one is ready is for the new one to say.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use crate::observe::holder::holder;
use crate::observe::queries::Proto;
use crate::sys::{socket, steer};

/// Why a port could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else has it.
    #[error("cannot listen on {address} (tcp): it is held by {holder}; stop that or set {key} to another address")]
    Held {
        /// What was to be bound.
        address: SocketAddr,
        /// The configuration key that names it.
        key: &'static str,
        /// Who has it, as far as it can be seen.
        holder: String,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on {address} (tcp): {error}; set {key} to an address of this node that may be bound")]
    Refused {
        /// What was to be bound.
        address: SocketAddr,
        /// The configuration key that names it.
        key: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Listens on `address`; `key` is where the configuration names it, such as `metrics.listen`.
///
/// A few connections may wait there that ask nothing.
///
/// # Errors
/// When the address is taken or not ours; the message says by whom and which key to change.
pub fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, Error> {
    let listener = socket::http(address).map_err(|error| {
        if error.kind() == ErrorKind::AddrInUse {
            let unseen = || "a process that cannot be seen from here".to_owned();
            Error::Held { address, key, holder: holder(Proto::Tcp, address).unwrap_or_else(unseen) }
        } else {
            Error::Refused { address, key, error }
        }
    })?;
    if let Err(error) = steer::lead_here(&listener) {
        // As good as that can be had: each is asked by chance.
        tracing::debug!(%address, %error, "cannot lead connections of other instances here");
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn g07_a_taken_port_names_its_holder_and_the_key() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let message = bind(address, "metrics.listen").unwrap_err().to_string();
        let want = format!("cannot listen on {address} (tcp): it is held by ");
        assert!(message.starts_with(&want), "{message}");
        assert!(message.contains(&format!("(pid {})", std::process::id())), "{message}");
        assert!(message.ends_with("set metrics.listen to another address"), "{message}");
    }

    #[test]
    fn g07_an_address_of_another_machine_is_refused_with_the_key() {
        let message = bind("192.0.2.1:9253".parse().unwrap(), "health.listen").unwrap_err().to_string();
        assert!(message.starts_with("cannot listen on 192.0.2.1:9253 (tcp): "), "{message}");
        assert!(message.contains("health.listen"), "{message}");
    }

    #[test]
    fn g07_of_instances_that_share_a_port_the_last_is_asked() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "health.listen").unwrap();
        let address = first.local_addr().unwrap();
        let second = bind(address, "health.listen").unwrap();
        let queued = |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
        queued(&first);
        queued(&second);
        for _ in 0..20 {
            TcpStream::connect(address).unwrap();
        }
        assert_eq!(queued(&first), 0);
    }
}
