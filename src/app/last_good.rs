//! The last configuration that was good, kept in memory that outlives the server: a server that is started again while
//! its file is broken goes on with it.
//!
//! What is kept must fit the sockets, which are bound once: a configuration that wants others is good, but of no use
//! before the guardian is started again. The form is eight octets of length, little-endian, then the text of the file.

use crate::config::{Config, limits};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Octets of the length.
const HEAD: usize = 8;

/// Where the text is kept.
#[derive(Debug)]
pub struct LastGood {
    file: File,
    /// What the sockets were bound for.
    bound: Config,
}

/// New memory with `text` in it, to be passed to servers.
///
/// # Errors
/// When the kernel gives none.
pub fn create(text: &str) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create("nodens.yaml", MemfdFlags::CLOEXEC)?);
    write(&file, text)?;
    Ok(file.into())
}

/// The text in `file`.
///
/// # Errors
/// When there is none.
pub fn read(file: &File) -> io::Result<String> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0)?;
    let length = usize::try_from(u64::from_le_bytes(head)).unwrap_or(usize::MAX);
    if length > limits::MAX_FILE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, HEAD as u64)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// Puts `text` in the place of what is in `file`, in one go.
fn write(mut file: &File, text: &str) -> io::Result<()> {
    let whole = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    file.rewind()?;
    file.write_all(&whole)
}

/// Whether both configurations want the same sockets and the same of the node's network.
pub(super) fn is_bound_alike(a: &Config, b: &Config) -> bool {
    let http = |c: &Config| (c.metrics.clone(), c.metrics_optional.clone(), c.health, c.health_also.clone());
    let bound = |c: &Config| (c.listen.addresses.clone(), c.listen.port, c.network.clone(), http(c));
    bound(a) == bound(b)
}

impl LastGood {
    /// Keeps texts in `file` that want what `bound` does.
    pub(super) fn new(file: File, bound: Config) -> LastGood {
        LastGood { file, bound }
    }

    /// Keeps `text`, which says `config` and was accepted, if it fits.
    pub(super) fn keep(&self, text: &str, config: &Config) {
        if is_bound_alike(&self.bound, config)
            && let Err(error) = write(&self.file, text)
        {
            tracing::warn!(%error, "cannot keep the configuration for the next server");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    fn config(text: &str) -> Config {
        load_str("test", text).unwrap().config
    }

    #[test]
    fn texts_are_replaced_by_longer_and_by_shorter_ones() {
        let file = File::from(create("first").unwrap());
        assert_eq!(read(&file).unwrap(), "first");
        for text in ["the second, which is longer", "", "third"] {
            write(&file, text).unwrap();
            assert_eq!(read(&file.try_clone().unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        let file = || tempfile::tempfile().unwrap();
        assert!(read(&file()).is_err(), "nothing");
        for content in [&b"\x05\0\0\0\0\0\0\0four"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\0\0\0\0\0\0\0\xff"]
        {
            let file = file();
            (&file).write_all(content).unwrap();
            assert!(read(&file).is_err(), "{content:?}");
        }
    }

    #[test]
    fn only_what_fits_the_sockets_is_kept() {
        let file = File::from(create("").unwrap());
        let last_good = LastGood::new(file.try_clone().unwrap(), config(""));
        for (text, kept) in [
            ("cache: { failureTtl: 9s }", true),
            ("listen: { port: 54 }", false),
            ("listen: { addresses: [10.0.0.1] }\nhealth: { listen: \"169.254.20.10:8080\" }", false),
            ("network: { firewall: iptables }", false),
            ("metrics: { listen: [] }", false),
            ("health: { listen: \"169.254.20.10:8081\" }", false),
            ("listen: { workers: 3, allowFrom: [10.0.0.0/8] }", true),
        ] {
            let before = read(&file).unwrap();
            last_good.keep(text, &config(text));
            assert_eq!(read(&file).unwrap(), if kept { text } else { &before });
        }
    }
}
