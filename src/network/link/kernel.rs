//! Links and addresses as the kernel knows them: what is asked of rtnetlink, and how its answers are read.

use super::super::netlink::Netlink;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use std::io;
use std::net::IpAddr;

/// A link that exists.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What the kernel calls it by; a new one for each link.
    pub(super) index: u32,
    /// `dummy`, `tun`, `bridge`…; empty for a real device.
    pub(super) kind: String,
    /// Is it set up?
    pub(super) up: bool,
}

/// A socket to the part of the kernel that knows links and addresses, in the network namespace it was opened in.
pub(super) struct Kernel(Netlink);

impl Kernel {
    /// Opens it.
    pub(super) fn open() -> io::Result<Kernel> {
        Netlink::open(NETLINK_ROUTE).map(Kernel)
    }

    /// The link `name`, if there is one.
    pub(super) fn link(&mut self, name: &str) -> io::Result<Option<Seen>> {
        match self.0.get(RouteNetlinkMessage::GetLink(named(name))) {
            Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(seen(&link))),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name of the link with this index.
    pub(super) fn name_of(&self, index: u32) -> io::Result<String> {
        Ok(rustix::net::netdevice::index_to_name(&self.0, index)?)
    }

    /// Makes the dummy link `name`; EOPNOTSUPP where the kernel knows no such links.
    pub(super) fn add_dummy(&mut self, name: &str) -> io::Result<()> {
        self.0.change(RouteNetlinkMessage::NewLink(dummy(name)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sets a link up.
    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.0.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Removes a link.
    pub(super) fn delete(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.0.change(RouteNetlinkMessage::DelLink(message), 0)
    }

    /// All addresses of the host, each with the index of its link.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        self.0.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| match message {
            RouteNetlinkMessage::NewAddress(message) => Some((message.header.index, local(&message)?)),
            _ => None,
        })
    }

    /// Puts `address` on a link; EEXIST where it stands there.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        self.0.change(RouteNetlinkMessage::NewAddress(on(index, address)), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes `address` off a link.
    pub(super) fn remove_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        self.0.change(RouteNetlinkMessage::DelAddress(on(index, address)), 0)
    }
}

/// A message about the link `name`.
fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// A message about a dummy link.
fn dummy(name: &str) -> LinkMessage {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]));
    message
}

/// A message about one single address on a link. An IPv6 address is not looked for elsewhere on the network: it would
/// not be usable for a second, and every node has it.
fn on(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    (message.header.family, message.header.prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

/// What matters of a link.
fn seen(link: &LinkMessage) -> Seen {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let kind = infos.flatten().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    });
    Seen { index: link.header.index, kind: kind.unwrap_or_default(), up: link.header.flags.contains(LinkFlags::Up) }
}

/// The host's own address of a message: where there is a peer, `IFA_ADDRESS` is the peer's.
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = || message.attributes.iter();
    let own = attributes().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    own.or_else(|| {
        attributes().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NetlinkMessage;

    /// The octets of a message without its header.
    fn octets(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        buffer.split_off(16)
    }

    #[test]
    fn a_dummy_link_is_asked_for_by_name_and_kind() {
        let built = octets(RouteNetlinkMessage::NewLink(dummy("nodens0")));
        // struct ifinfomsg, all zero: the kernel chooses; IFLA_IFNAME; IFLA_LINKINFO holding IFLA_INFO_KIND
        let mut wanted = vec![0; 16];
        wanted.extend([12, 0, 3, 0]);
        wanted.extend(b"nodens0\0");
        wanted.extend([16, 0, 18, 0]);
        wanted.extend([10, 0, 1, 0]);
        wanted.extend(b"dummy\0\0\0");
        assert_eq!(built, wanted);
    }

    #[test]
    fn addresses_are_single_and_ipv6_is_not_looked_for_elsewhere() {
        let v4 = octets(RouteNetlinkMessage::NewAddress(on(7, "169.254.20.10".parse().unwrap())));
        // struct ifaddrmsg: family, prefix, flags, scope, index; IFA_LOCAL, IFA_ADDRESS
        assert_eq!(v4, [2, 32, 0, 0, 7, 0, 0, 0, 8, 0, 2, 0, 169, 254, 20, 10, 8, 0, 1, 0, 169, 254, 20, 10]);
        let v6 = octets(RouteNetlinkMessage::NewAddress(on(7, "fd00::53".parse().unwrap())));
        assert_eq!(v6[..8], [10, 128, 2, 0, 7, 0, 0, 0], "IFA_F_NODAD is 2");
    }

    #[test]
    fn kinds_and_states_are_read() {
        let mut link = dummy("nodelocaldns");
        link.header.index = 3;
        assert_eq!(seen(&link), Seen { index: 3, kind: "dummy".to_owned(), up: false });
        link.attributes.clear();
        link.header.flags = LinkFlags::Up | LinkFlags::Running;
        assert_eq!(seen(&link), Seen { index: 3, kind: String::new(), up: true });
    }

    #[test]
    fn of_an_address_with_a_peer_ours_is_the_local_one() {
        let [own, peer]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let mut message = AddressMessage::default();
        message.attributes.push(AddressAttribute::Address(peer));
        assert_eq!(local(&message), Some(peer));
        message.attributes.push(AddressAttribute::Local(own));
        assert_eq!(local(&message), Some(own));
    }
}
