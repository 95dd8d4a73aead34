//! EDNS options that rules add to the query that goes upstream (RFC 6891 §6.1.2).

use super::Asked;
use crate::config::{Action, EdnsOption};
use crate::observe::queries::Proto;
use crate::wire::edns::code;
use std::net::{IpAddr, SocketAddr};

/// Applies a rule to `options`; false when it does not apply.
pub(super) fn apply(
    action: Action,
    option: &EdnsOption,
    name: &str,
    qtype: u16,
    asked: &Asked<'_>,
    server: Option<SocketAddr>,
    options: &mut Vec<(u16, Vec<u8>)>,
) -> bool {
    let code = match option {
        EdnsOption::Local(code, _) | EdnsOption::Variable(code, _) => *code,
        EdnsOption::Nsid => code::NSID,
        EdnsOption::Subnet(..) => code::CLIENT_SUBNET,
    };
    if action == Action::Unset {
        options.retain(|(known, _)| *known != code);
        return true;
    }
    let data = match option {
        EdnsOption::Local(_, data) => data.clone(),
        EdnsOption::Nsid => Vec::new(),
        EdnsOption::Subnet(v4, v6) => subnet(asked.client.ip(), *v4, *v6),
        EdnsOption::Variable(_, variable) => match value(variable, name, qtype, asked, server) {
            Some(data) => data,
            None => return false,
        },
    };
    let known = options.iter_mut().find(|(known, _)| *known == code);
    match (action, known) {
        (Action::Set | Action::Replace, Some((_, old))) => *old = data,
        (Action::Replace, None) => return false,
        // Fixed octets may stand there twice; what is known of the client or the query does not.
        (Action::Append, Some(_)) if matches!(option, EdnsOption::Variable(..) | EdnsOption::Subnet(..)) => {
            return false;
        }
        _ => options.push((code, data)),
    }
    true
}

/// What a variable stands for; `None` where nothing is known of it.
fn value(variable: &str, name: &str, qtype: u16, asked: &Asked<'_>, server: Option<SocketAddr>) -> Option<Vec<u8>> {
    let ip = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Some(match variable {
        "{qname}" => name.as_bytes().to_vec(),
        "{qtype}" => qtype.to_be_bytes().to_vec(),
        "{client_ip}" => ip(asked.client.ip()),
        "{client_port}" => asked.client.port().to_be_bytes().to_vec(),
        "{server_ip}" => ip(server?.ip()),
        "{server_port}" => server?.port().to_be_bytes().to_vec(),
        "{protocol}" => match asked.proto {
            Proto::Udp => b"udp".to_vec(),
            Proto::Tcp => b"tcp".to_vec(),
        },
        _ => return None,
    })
}

/// The network of `client`, of so many bits, as the option has it (RFC 7871 §6).
fn subnet(client: IpAddr, v4: u8, v6: u8) -> Vec<u8> {
    let (family, bits, mut octets) = match client.to_canonical() {
        IpAddr::V4(ip) => (1, v4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, v6, ip.octets().to_vec()),
    };
    octets.truncate(usize::from(bits).div_ceil(8));
    if let Some(last) = octets.last_mut() {
        *last &= !(0xff_u16 >> ((bits - 1) % 8 + 1)) as u8;
    }
    [&[0, family, bits, 0], &octets[..]].concat()
}
