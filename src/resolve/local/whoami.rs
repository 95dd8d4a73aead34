//! Who asks, and over what: the zone's key `whoami`, CoreDNS's plugin of that name. For tests of the network.

use super::Asked;
use crate::observe::queries::Proto;
use crate::wire::header::rcode;
use crate::wire::question::{MAX_NAME, rtype};
use crate::wire::rr::{Rr, response};
use std::net::IpAddr;

/// An empty answer with the client's address and port in the additional section: an A or AAAA record, and a SRV record of
/// `_udp` or `_tcp`, which is left out below a name that is too long for that.
pub fn whoami(asked: &Asked<'_>) -> Option<Vec<u8>> {
    let question = asked.question;
    let class = question.qclass();
    let record = |owner, rtype, rdata| Rr { owner, rtype, class, ttl: 0, rdata };
    let owner = question.name().to_vec();
    let mut records = vec![match asked.client.ip().to_canonical() {
        IpAddr::V4(v4) => record(owner, rtype::A, v4.octets().to_vec()),
        IpAddr::V6(v6) => record(owner, rtype::AAAA, v6.octets().to_vec()),
    }];
    let proto: &[u8] = match asked.proto {
        Proto::Udp => b"\x04_udp",
        Proto::Tcp => b"\x04_tcp",
    };
    let owner = [proto, question.name()].concat();
    if owner.len() <= MAX_NAME {
        let [hi, lo] = asked.client.port().to_be_bytes();
        // Priority and weight zero, the port, the root.
        records.push(record(owner, rtype::SRV, vec![0, 0, 0, 0, hi, lo, 0]));
    }
    response(question, rcode::NOERROR, true, [&[], &[], &records])
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;
    use crate::wire::question::{Question, to_wire};
    use hickory_proto::op::Message;

    #[test]
    fn clients_are_told_their_address_and_port() {
        let long = [&*"a".repeat(63), &*"b".repeat(63), &*"c".repeat(63), &*"d".repeat(58)].join(".");
        for (name, client, proto, want) in [
            (
                "a.example",
                "192.0.2.1:53",
                Proto::Udp,
                &["a.example. 0 IN A 192.0.2.1", "_udp.a.example. 0 IN SRV 0 0 53 ."][..],
            ),
            (".", "[::ffff:192.0.2.1]:1", Proto::Udp, &[". 0 IN A 192.0.2.1", "_udp. 0 IN SRV 0 0 1 ."]),
            (
                "a.example",
                "[2001:db8::1]:65535",
                Proto::Tcp,
                &["a.example. 0 IN AAAA 2001:db8::1", "_tcp.a.example. 0 IN SRV 0 0 65535 ."],
            ),
            (&long, "192.0.2.1:53", Proto::Udp, &[&format!("{long}. 0 IN A 192.0.2.1")]),
        ] {
            let question = Question::new(&to_wire(name), rtype::TXT, 1).unwrap();
            let asked = Asked { client: client.parse().unwrap(), proto, ..asked(&question) };
            let message = Message::from_vec(&whoami(&asked).unwrap()).unwrap();
            assert!(message.metadata.authoritative && message.answers.is_empty());
            let shown: Vec<String> = message.additionals.iter().map(|r| r.to_string()).collect();
            assert_eq!(shown, want, "{name}");
        }
    }
}
