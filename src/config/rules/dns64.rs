//! `zones[].dns64`: IPv6 addresses for what has IPv4 ones alone (RFC 6147).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::check::Check;
use crate::config::text::Text;

/// The prefix that everybody may use (RFC 6052 §2.1).
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
/// How long a prefix may be: those of RFC 6052 §2.2, and those between that CoreDNS takes too.
const LENGTHS: [u8; 9] = [32, 40, 48, 56, 64, 72, 80, 88, 96];

/// IPv6 addresses for what has IPv4 ones alone (RFC 6147).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Written {
    /// What they begin with: a network of 32, 40, 48, 56, 64 or 96 bits. Default: 64:ff9b::/96.
    prefix: Option<Text<IpNet>>,
    /// Whether IPv6 addresses that there are give way to them. Default: false.
    translate_all: Option<bool>,
    /// Whether clients that ask over IPv4 get them too. Default: false.
    allow_ipv4: Option<bool>,
}

/// IPv6 addresses for what has IPv4 ones alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dns64 {
    /// What they begin with.
    pub prefix: Ipv6Addr,
    /// How many bits of it count: a multiple of 8 from 32 to 96.
    pub length: u8,
    /// Whether IPv6 addresses that there are give way to them.
    pub translate_all: bool,
    /// Whether clients that ask over IPv4 get them too.
    pub allow_ipv4: bool,
}

impl Check<'_> {
    /// The meaning of `key`, a zone's dns64.
    pub(in crate::config) fn dns64(&mut self, given: &Written, key: &str) -> Dns64 {
        let at = format!("{key}.prefix");
        let (prefix, length) = match given.prefix.as_ref().map(|Text(net)| (net.addr(), net.prefix_len())) {
            None => (WELL_KNOWN, 96),
            Some((IpAddr::V6(prefix), length)) => {
                if !LENGTHS.contains(&length) {
                    let nearest = LENGTHS.iter().min_by_key(|known| known.abs_diff(length)).unwrap_or(&96);
                    self.problem(
                        &at,
                        format!(
                            "a prefix of {length} bits cannot hold an IPv4 address behind it; did you mean /{nearest}?"
                        ),
                    );
                }
                (prefix, length)
            }
            Some((IpAddr::V4(net), length)) => {
                self.problem(
                    &at,
                    format!("{net}/{length} is an IPv4 network; write an IPv6 one, such as 64:ff9b::/96"),
                );
                (WELL_KNOWN, 96)
            }
        };
        let (translate_all, allow_ipv4) = (given.translate_all.unwrap_or(false), given.allow_ipv4.unwrap_or(false));
        Dns64 { prefix, length, translate_all, allow_ipv4 }
    }
}
