//! EDNS(0) (RFC 6891): the client's OPT record read, ours written.
//!
//! Options are hop by hop: none is forwarded or cached, and none is given back but in the style of CoreDNS. Those that a
//! reply may carry are the server's name (RFC 5001), the TCP keepalive (RFC 7828), an extended error (RFC 8914), and
//! nodens' own explanation of where the answer came from.

use super::record::Malformed;

/// Length of an OPT record without options.
pub const OPT_LEN: usize = 11;
/// The UDP payload size that nodens advertises, and exceeds only if it is told to (DNS flag day 2020).
pub const UDP_SIZE: u16 = 1232;
/// What a client can take that says nothing, or says less (RFC 6891 §6.2.3).
pub const MIN_UDP_SIZE: u16 = 512;

/// EDNS option codes.
pub mod code {
    /// The server's name (RFC 5001).
    pub const NSID: u16 = 3;
    /// The client's network (RFC 7871).
    pub const CLIENT_SUBNET: u16 = 8;
    pub(super) const EXPIRE: u16 = 9;
    pub(super) const COOKIE: u16 = 10;
    pub(super) const KEEPALIVE: u16 = 11;
    pub(super) const PADDING: u16 = 12;
    pub(super) const EDE: u16 = 15;
}

/// The option with which a client asks how its answer came about, from the range for local use (RFC 6891 §9).
pub const EXPLAIN: u16 = 65053;

/// Extended DNS error codes that nodens sends (RFC 8914 §4).
pub mod ede {
    /// Something else.
    pub const OTHER: u16 = 0;
    /// Stale answer (serve-stale).
    pub const STALE_ANSWER: u16 = 3;
    /// A cached failure.
    pub const CACHED_ERROR: u16 = 13;
    /// Blocked by whoever runs the server.
    pub const BLOCKED: u16 = 15;
    /// Filtered, as whoever asks has wished.
    pub const FILTERED: u16 = 17;
    /// The server is not willing.
    pub const PROHIBITED: u16 = 18;
    /// Stale NXDOMAIN Answer.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// Not supported.
    pub const NOT_SUPPORTED: u16 = 21;
    /// No upstream could be reached.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// The network failed on the way.
    pub const NETWORK_ERROR: u16 = 23;
    /// The upstream answered with something that is no valid answer.
    pub const INVALID_DATA: u16 = 24;
}

/// What the client's OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientEdns {
    /// The largest UDP answer it takes, at least 512.
    pub udp_size: u16,
    /// The version it speaks; only 0 exists.
    pub version: u8,
    /// DO: it wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
    /// It sent the keepalive option (answered over TCP only).
    pub keepalive: bool,
    /// It wants to know the server's name (RFC 5001).
    pub nsid: bool,
    /// It wants the answer explained.
    pub explain: bool,
}

/// Reads an OPT record from its CLASS, TTL and RDATA.
///
/// # Errors
/// [`Malformed`] when an option runs past the RDATA (RFC 6891 §6.1.2) or a cookie has an impossible length
/// (RFC 7873 §5.2.2). Of an unknown version only the fixed part is read.
#[inline]
pub fn read(class: u16, ttl: u32, rdata: &[u8]) -> Result<ClientEdns, Malformed> {
    let mut edns = ClientEdns {
        udp_size: class.max(MIN_UDP_SIZE),
        version: (ttl >> 16) as u8,
        dnssec_ok: ttl & 0x8000 != 0,
        keepalive: false,
        nsid: false,
        explain: false,
    };
    if edns.version != 0 {
        return Ok(edns);
    }
    let mut rest = rdata;
    while !rest.is_empty() {
        let Some((&[c0, c1, l0, l1], tail)) = rest.split_first_chunk() else { return Err(Malformed) };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len > tail.len() {
            return Err(Malformed);
        }
        match u16::from_be_bytes([c0, c1]) {
            code::COOKIE if len != 8 && !(16..=40).contains(&len) => return Err(Malformed),
            code::KEEPALIVE => edns.keepalive = true,
            code::NSID => edns.nsid = true,
            EXPLAIN => edns.explain = true,
            _ => {}
        }
        rest = tail.get(len..).unwrap_or_default();
    }
    Ok(edns)
}

/// Our OPT record, built on the stack.
///
/// An option that does not fit is left out; a reply without it is still right.
pub struct Opt {
    bytes: [u8; 256],
    len: usize,
}

impl Opt {
    /// An OPT with the upper eight bits of `rcode` and the DO bit as the client sent it (RFC 3225 §3); Z is zero.
    #[inline]
    pub fn new(rcode: u16, dnssec_ok: bool) -> Opt {
        let [hi, lo] = UDP_SIZE.to_be_bytes();
        let mut bytes = [0; 256];
        let head = [0, 0, 41, hi, lo, (rcode >> 4) as u8, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0];
        if let Some(slot) = bytes.first_chunk_mut::<OPT_LEN>() {
            *slot = head;
        }
        Opt { bytes, len: OPT_LEN }
    }

    /// Says that this many octets can be taken over UDP.
    pub fn size(&mut self, octets: u16) {
        if let Some(slot) = self.bytes.get_mut(3..5) {
            slot.copy_from_slice(&octets.to_be_bytes());
        }
    }

    /// Gives those of `options`, a client's, back that CoreDNS does; not its NSID, unless `nsid`.
    pub fn echo(&mut self, options: &[u8], nsid: bool) {
        let mut rest = options;
        while let Some((&[c0, c1, l0, l1], tail)) = rest.split_first_chunk() {
            let Some((data, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes([l0, l1]))) else { return };
            let number = u16::from_be_bytes([c0, c1]);
            match number {
                code::NSID if !nsid => {}
                code::NSID | code::EXPIRE | code::COOKIE | code::KEEPALIVE | code::PADDING => {
                    self.option(number, &[data])
                }
                _ => {}
            }
            rest = tail;
        }
    }

    /// Adds the server's name.
    pub fn nsid(&mut self, name: &[u8]) {
        self.option(code::NSID, &[name]);
    }

    fn option(&mut self, code: u16, data: &[&[u8]]) {
        let len: usize = data.iter().map(|part| part.len()).sum();
        let Ok(short) = u16::try_from(len) else { return };
        let Some(slot) = self.bytes.get_mut(self.len..self.len + 4 + len) else { return };
        let (head, mut body) = slot.split_at_mut(4);
        let (c, l) = (code.to_be_bytes(), short.to_be_bytes());
        head.copy_from_slice(&[c[0], c[1], l[0], l[1]]);
        for part in data {
            let (to, rest) = body.split_at_mut(part.len());
            to.copy_from_slice(part);
            body = rest;
        }
        self.len += 4 + len;
        let rdlen = ((self.len - OPT_LEN) as u16).to_be_bytes();
        if let Some(slot) = self.bytes.get_mut(OPT_LEN - 2..OPT_LEN) {
            slot.copy_from_slice(&rdlen);
        }
    }

    /// Adds any option.
    pub fn add(&mut self, code: u16, data: &[u8]) {
        self.option(code, &[data]);
    }

    /// Adds an extended error: its code, and a short text for people (RFC 8914 §2).
    pub fn error(&mut self, info_code: u16, text: &str) {
        self.option(code::EDE, &[&info_code.to_be_bytes(), text.as_bytes()]);
    }

    /// Adds the time an idle TCP connection is kept, in units of 100 ms (RFC 7828 §3.1).
    pub fn keepalive(&mut self, tenths: u16) {
        self.option(code::KEEPALIVE, &[&tenths.to_be_bytes()]);
    }

    /// Adds the explanation of an answer, ASCII text.
    pub fn explain(&mut self, text: &str) {
        self.option(EXPLAIN, &[text.as_bytes()]);
    }

    /// The record as on the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(code: u16, data: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    #[test]
    fn b14_small_sizes_count_as_512() {
        for size in [0, 1, 511, 512] {
            assert_eq!(read(size, 0, &[]).unwrap().udp_size, 512);
        }
        assert_eq!(read(4096, 0, &[]).unwrap().udp_size, 4096);
    }

    #[test]
    fn b17_options_must_stay_within_the_rdata() {
        assert_eq!(read(512, 0, &[0, 3, 0]), Err(Malformed));
        assert_eq!(read(512, 0, &[0, 3, 0, 1]), Err(Malformed));
        assert!(read(512, 0, &option(3, &[])).is_ok());
    }

    #[test]
    fn b18_hundreds_of_options_are_read_once_each() {
        let many: Vec<u8> = (0..400).flat_map(|_| option(100, &[0])).collect();
        assert!(read(512, 0, &many).is_ok());
    }

    #[test]
    fn b19_cookies_of_impossible_length_are_malformed() {
        for len in 0..=50 {
            let ok = len == 8 || (16..=40).contains(&len);
            assert_eq!(read(512, 0, &option(10, &vec![0; len])).is_ok(), ok, "{len}");
        }
    }

    #[test]
    fn what_coredns_gives_back_is_given_back() {
        let sent: Vec<u8> = [3, 8, 9, 10, 11, 12, 15, 65001].iter().flat_map(|&c| option(c, &[1; 8])).collect();
        let echoed = |nsid| {
            let mut opt = Opt::new(0, false);
            opt.echo(&sent, nsid);
            opt.size(4096);
            let bytes = opt.as_bytes().to_vec();
            assert_eq!((bytes[3..5].to_vec(), usize::from(bytes[10])), (vec![0x10, 0], bytes.len() - OPT_LEN));
            bytes[OPT_LEN..].chunks(12).map(|option| option[1]).collect::<Vec<_>>()
        };
        assert_eq!(echoed(true), [3, 9, 10, 11, 12]);
        assert_eq!(echoed(false), [9, 10, 11, 12]);
        let mut opt = Opt::new(0, false);
        opt.echo(&[0, 10, 0, 9, 1], true);
        assert_eq!(opt.as_bytes().len(), OPT_LEN, "cut short");
    }

    #[test]
    fn options_that_do_not_fit_are_left_out() {
        let mut opt = Opt::new(16, true);
        opt.keepalive(100);
        let before = opt.as_bytes().to_vec();
        opt.explain(&"x".repeat(400));
        assert_eq!(opt.as_bytes(), before);
        assert_eq!(before[5], 1, "BADVERS is 1 in the upper bits");
        assert_eq!(before[9..], [0, 6, 0, 11, 0, 2, 0, 100]);
    }
}
