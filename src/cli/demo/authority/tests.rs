//! The embedded server, asked over real sockets.

use super::*;
use crate::cli::query::exchange::{self, Exchanged, Transport};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

async fn ask(authority: &Authority, name: &str, rtype: RecordType, tcp: bool, edns: bool) -> Exchanged {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    query.edns = edns.then(|| {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns
    });
    exchange::ask(authority.address(), &query.to_vec().unwrap(), tcp).await.unwrap()
}

fn data(exchanged: &Exchanged) -> Vec<String> {
    exchanged.reply.answers.iter().map(|r| r.data.to_string()).collect()
}

#[tokio::test]
async fn a_service_is_answered_over_udp_and_tcp() {
    let authority = Authority::start().await.unwrap();
    for tcp in [false, true] {
        let got = ask(&authority, "web.shop.svc.cluster.local.", RecordType::A, tcp, true).await;
        assert_eq!(data(&got), ["10.96.14.20"]);
        assert_eq!(got.reply.answers[0].ttl, 30);
        assert!(got.reply.metadata.authoritative);
        assert_eq!(got.transport, if tcp { Transport::Tcp } else { Transport::Udp });
    }
}

#[tokio::test]
async fn the_headless_service_needs_tcp_without_edns_and_fits_with_it() {
    let authority = Authority::start().await.unwrap();
    let plain = ask(&authority, "cells.shop.svc.cluster.local.", RecordType::A, false, false).await;
    assert!(plain.truncated && plain.transport == Transport::Tcp);
    assert_eq!(plain.reply.answers.len(), usize::from(zone::CELLS));
    let edns = ask(&authority, "cells.shop.svc.cluster.local.", RecordType::A, false, true).await;
    assert!(!edns.truncated && edns.transport == Transport::Udp);
    assert_eq!(edns.reply.answers.len(), usize::from(zone::CELLS));
}

#[tokio::test]
async fn negative_answers_carry_an_soa_that_allows_five_seconds() {
    let authority = Authority::start().await.unwrap();
    for (name, rtype, rcode) in [
        ("nowhere.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
        ("db.shop.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
        ("shop.svc.cluster.local.", RecordType::A, ResponseCode::NoError),
        ("9.9.9.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let got = ask(&authority, name, rtype, false, true).await;
        assert_eq!(got.reply.metadata.response_code, rcode, "{name}");
        assert!(got.reply.answers.is_empty(), "{name}");
        let soa = got.reply.authorities.first().unwrap();
        let RData::SOA(data) = &soa.data else { panic!("{name}: {soa}") };
        assert_eq!((soa.ttl, data.minimum), (5, 5), "{name}");
    }
}

#[tokio::test]
async fn every_kind_of_record_the_guide_mentions_is_there() {
    let authority = Authority::start().await.unwrap();
    for (name, rtype, expected) in [
        ("web.shop.svc.cluster.local.", RecordType::AAAA, "fd00:10:96::e14"),
        (
            "_dns._udp.kube-dns.kube-system.svc.cluster.local.",
            RecordType::SRV,
            "0 100 53 kube-dns.kube-system.svc.cluster.local.",
        ),
        ("10.0.96.10.in-addr.arpa.", RecordType::PTR, "kube-dns.kube-system.svc.cluster.local."),
        ("dns-version.cluster.local.", RecordType::TXT, "1.1.0"),
        ("cell-7.cells.shop.svc.cluster.local.", RecordType::A, "10.244.1.7"),
        ("www.example.org.", RecordType::A, "192.0.2.80"),
    ] {
        assert_eq!(data(&ask(&authority, name, rtype, false, true).await), [expected], "{name}");
    }
    let external = ask(&authority, "feed.shop.svc.cluster.local.", RecordType::A, false, true).await;
    assert_eq!(data(&external), ["www.example.org.", "192.0.2.80"]);
    let cells = ask(&authority, "_http._tcp.cells.shop.svc.cluster.local.", RecordType::SRV, true, true).await;
    assert_eq!(cells.reply.answers.len(), usize::from(zone::CELLS));
}

#[tokio::test]
async fn what_lies_outside_is_refused() {
    let authority = Authority::start().await.unwrap();
    let got = ask(&authority, "www.example.com.", RecordType::A, false, true).await;
    assert_eq!(got.reply.metadata.response_code, ResponseCode::Refused);
}
