//! A TUN device that lives as long as its descriptor: the kernel takes link and addresses away when it is closed, also
//! when the process is killed.
//!
//! Nothing is read from it: packets to the addresses it holds are delivered locally and never reach it.

#![expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Where devices come from.
pub const DEVICE: &str = "/dev/net/tun";

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device node is missing: containers have none unless it is mounted.
    #[error("{DEVICE} is not there: mount it into the pod (hostPath, type CharDevice)")]
    Missing,
    /// The kernel has no driver behind the device node.
    #[error("this kernel has no TUN devices: load the module (modprobe tun)")]
    NoDriver,
    /// The device node may not be opened.
    #[error("{DEVICE} may not be opened: let the container use the device (character device 10:200), or its user")]
    Denied,
    /// A device may not be made in this network namespace.
    #[error("making a TUN device needs the capability NET_ADMIN")]
    NotPermitted,
    /// The name belongs to a device that another process holds, or that is no TUN device.
    #[error("its name is taken")]
    Busy,
    /// Something else.
    #[error("{DEVICE}: {0}")]
    Io(#[source] io::Error),
}

/// Makes the TUN device `name` in the current network namespace, or attaches to it where it exists and nobody does.
/// Closed on exec.
///
/// # Errors
/// [`Error`]; a name that is empty, longer than 15 octets or has a NUL is [`Error::Io`].
pub fn open(name: &str) -> Result<OwnedFd, Error> {
    let file = File::options().read(true).write(true).open(DEVICE).map_err(cannot_open)?;
    // SAFETY: a structure of numbers and arrays of them, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays NUL.
    let room = request.ifr_name.len() - 1;
    if name.is_empty() || name.len() > room || name.contains('\0') {
        return Err(Error::Io(io::ErrorKind::InvalidInput.into()));
    }
    for (octet, given) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *octet = given as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request takes a pointer to an ifreq, which outlives the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(cannot_attach(io::Error::last_os_error()));
    }
    // SAFETY: the request takes a number. One made by hand to persist (`ip tuntap add`) would outlive us.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 0) } < 0 {
        return Err(Error::Io(io::Error::last_os_error()));
    }
    Ok(file.into())
}

/// What an error of `open` means.
fn cannot_open(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Error::Missing,
        Some(libc::ENODEV | libc::ENXIO) => Error::NoDriver,
        Some(libc::EPERM | libc::EACCES) => Error::Denied,
        _ => Error::Io(error),
    }
}

/// What an error of `TUNSETIFF` means.
fn cannot_attach(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::NotPermitted,
        // EINVAL: a link of another kind has the name.
        Some(libc::EBUSY | libc::EINVAL) => Error::Busy,
        _ => Error::Io(error),
    }
}
