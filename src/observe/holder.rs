//! Who holds a port: read from /proc when binding one fails, so that the error can name the culprit.
//!
//! Sees the processes of its own PID namespace only, and those of other users only with privilege: the answer may be
//! missing, never wrong by guess.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::queries::{Label, Proto};

/// The state of a TCP socket that listens, as /proc/net/tcp writes it.
const LISTEN: &str = "0A";

/// The process that holds `address`, as "unbound (pid 123)".
pub fn holder(proto: Proto, address: SocketAddr) -> Option<String> {
    holder_in(Path::new("/proc"), proto, address)
}

fn holder_in(proc: &Path, proto: Proto, address: SocketAddr) -> Option<String> {
    let inode = ["", "6"].iter().find_map(|suffix| {
        let table = fs::read_to_string(proc.join(format!("net/{}{suffix}", proto.name()))).ok()?;
        table.lines().skip(1).find_map(|line| inode(line, proto, address))
    })?;
    let link = format!("socket:[{inode}]");
    fs::read_dir(proc).ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files.find(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim().escape_debug()))
    })
}

/// The inode of the socket that a line of /proc/net/{tcp,udp} describes, if that socket is in the way of `address`.
fn inode(line: &str, proto: Proto, address: SocketAddr) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = socket_address(fields.next()?)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let same = local.ip() == address.ip() || local.ip().is_unspecified() || address.ip().is_unspecified();
    let in_the_way = same && local.port() == address.port() && (proto == Proto::Udp || state == LISTEN);
    // An inode of 0 belongs to a socket that its process has closed.
    if in_the_way { inode.parse().ok().filter(|&inode| inode != 0) } else { None }
}

/// Reads "0100007F:0035": the address in words of the machine's own byte order, the port in plain hexadecimal.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    /// A /proc of one process, 42, named as given, that holds socket 777.
    fn proc(table: &str, line: &str, name: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("net")).unwrap();
        fs::create_dir_all(root.path().join("42/fd")).unwrap();
        fs::write(root.path().join("net").join(table), format!("{HEAD}{line}\n")).unwrap();
        fs::write(root.path().join("42/comm"), name).unwrap();
        std::os::unix::fs::symlink("socket:[777]", root.path().join("42/fd/3")).unwrap();
        root
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn line(local: &str, state: &str) -> String {
        format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100")
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn g07_the_holder_is_found_by_address_and_port() {
        let root = proc("tcp", &line("0100007F:0035", "0A"), "unbound\n");
        let who = |proto, address| holder_in(root.path(), proto, at(address));
        assert_eq!(who(Proto::Tcp, "127.0.0.1:53").as_deref(), Some("unbound (pid 42)"));
        assert_eq!(who(Proto::Tcp, "0.0.0.0:53").as_deref(), Some("unbound (pid 42)"));
        assert_eq!(who(Proto::Tcp, "127.0.0.2:53"), None);
        assert_eq!(who(Proto::Tcp, "127.0.0.1:54"), None);
        assert_eq!(who(Proto::Udp, "127.0.0.1:53"), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn g07_a_connection_is_no_holder_but_a_dual_stack_listener_is() {
        let connected = proc("tcp", &line("0100007F:0035", "01"), "curl");
        assert_eq!(holder_in(connected.path(), Proto::Tcp, at("127.0.0.1:53")), None);
        let wildcard = proc("tcp6", &line(&format!("{}:0035", "0".repeat(32)), "0A"), "node-cache");
        assert_eq!(holder_in(wildcard.path(), Proto::Tcp, at("127.0.0.1:53")).as_deref(), Some("node-cache (pid 42)"));
        let mapped = proc("udp6", &line("0000000000000000FFFF00000100007F:0035", "07"), "odd\u{1b}name");
        let who = holder_in(mapped.path(), Proto::Udp, at("127.0.0.1:53"));
        assert_eq!(who.as_deref(), Some("odd\\u{1b}name (pid 42)"));
    }

    #[test]
    fn g07_our_own_sockets_are_found_in_the_real_proc() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let me = format!("(pid {})", std::process::id());
        assert!(holder(Proto::Tcp, tcp.local_addr().unwrap()).unwrap().ends_with(&me));
        assert!(holder(Proto::Udp, udp.local_addr().unwrap()).unwrap().ends_with(&me));
    }
}
