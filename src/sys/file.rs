//! Files that are read whole: those that people or other programs write for the daemon, which may be anything.
//!
//! Only regular files are read, as one that is a pipe would hold up whoever reads it, and none beyond a bound: of a file
//! that is cut in silence it would be unknown what is missing.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// What is known of the file at `path`, which is a regular one.
///
/// # Errors
/// It cannot be looked at, or is something else.
pub fn regular(path: &Path) -> io::Result<Metadata> {
    let about = fs::metadata(path)?;
    match about.is_file() {
        true => Ok(about),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The octets of the regular file at `path`, of which there are no more than `most`.
///
/// # Errors
/// It cannot be read, is something else, or is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    regular(path)?;
    let mut octets = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut octets)?;
    match octets.len() as u64 > most {
        true => Err(io::Error::other(format!("it is larger than {most} octets"))),
        false => Ok(octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let said = || read(&path, 5).map_err(|error| error.to_string());
        fs::write(&path, "12345").unwrap();
        assert_eq!(said(), Ok(b"12345".to_vec()));
        fs::write(&path, "123456").unwrap();
        assert_eq!(said(), Err("it is larger than 5 octets".into()));
        fs::remove_file(&path).unwrap();
        assert!(said().is_err());
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(said(), Err("it is no regular file".into()), "and nobody waits for a writer");
    }
}
