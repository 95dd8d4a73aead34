//! Rows A and B of the behaviour table, as far as one packet decides them.

use super::*;

/// A query for `name` (labels), with header `flags`, `counts` and whatever follows the question.
fn packet(flags: u16, counts: [u16; 4], name: &[u8], qtype: u16, rest: &[u8]) -> Vec<u8> {
    let mut m = vec![0; header::LEN];
    let [qdcount, ancount, nscount, arcount] = counts;
    Header { id: 0x1234, flags, qdcount, ancount, nscount, arcount }.write(&mut m);
    m.extend_from_slice(name);
    m.extend(qtype.to_be_bytes());
    m.extend([0, 1]);
    m.extend_from_slice(rest);
    m
}

const NAME: &[u8] = b"\x03wWw\x07example\x00";
const OPT: [u8; 11] = [0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 0];

fn plain(flags: u16, rest: &[u8]) -> Vec<u8> {
    packet(flags, [1, 0, 0, u16::from(!rest.is_empty())], NAME, rtype::A, rest)
}

/// The RCODE of the bare or full refusal, or `None` when the query passes.
fn code(packet: &[u8]) -> Option<u16> {
    match read(packet) {
        Gate::Ask(_) => None,
        Gate::Bare(_, code) | Gate::Decline(_, code) => Some(code),
        Gate::Short | Gate::Response => panic!("dropped"),
    }
}

fn with_question(qtype: u16, qclass: u16) -> Vec<u8> {
    let mut m = packet(0, [1, 0, 0, 0], NAME, qtype, &[]);
    let at = m.len() - 2;
    m[at..].copy_from_slice(&qclass.to_be_bytes());
    m
}

#[test]
fn a01_a02_short_packets_are_dropped() {
    for len in 0..header::LEN {
        assert!(matches!(read(&vec![0; len]), Gate::Short), "{len}");
    }
}

#[test]
fn a03_a04_responses_are_dropped() {
    assert!(matches!(read(&plain(header::QR, &[])), Gate::Response));
    assert!(matches!(read(&[0xff; 12]), Gate::Response));
}

#[test]
fn a06_a07_a08_other_than_one_question_is_formerr() {
    for qdcount in [0, 2, 65535] {
        assert_eq!(code(&packet(0, [qdcount, 0, 0, 0], NAME, 1, &[])), Some(rcode::FORMERR));
        let mut bare = vec![0; 12];
        Header { id: 1, flags: 0, qdcount, ancount: 0, nscount: 0, arcount: 0 }.write(&mut bare);
        assert_eq!(code(&bare), Some(rcode::FORMERR));
    }
}

#[test]
fn a09_records_before_the_additional_section_are_formerr() {
    assert_eq!(code(&packet(0, [1, 1, 0, 0], NAME, 1, &OPT)), Some(rcode::FORMERR));
    assert_eq!(code(&packet(0, [1, 0, 1, 0], NAME, 1, &OPT)), Some(rcode::FORMERR));
}

#[test]
fn a10_a_count_beyond_the_data_is_formerr() {
    assert_eq!(code(&packet(0, [1, 0, 0, 65535], NAME, 1, &OPT)), Some(rcode::FORMERR));
}

#[test]
fn a11_a12_a13_pointers_and_reserved_labels_are_formerr() {
    for name in [&[0xc0, 0x0c][..], &[0xc0, 0xff], &[1, b'a', 0xc0, 0x0e, 0xc0, 0x0c], &[0x40, 0], &[0x80, 0]] {
        assert_eq!(code(&packet(0, [1, 0, 0, 0], name, 1, &[])), Some(rcode::FORMERR), "{name:?}");
    }
}

#[test]
fn a14_a15_names_up_to_255_octets() {
    let label = |n: usize| [vec![n as u8], vec![b'x'; n]].concat();
    let longest = [label(63), label(63), label(63), label(61), vec![0]].concat();
    assert_eq!(code(&packet(0, [1, 0, 0, 0], &longest, 1, &[])), None);
    let longer = [label(63), label(63), label(63), label(62), vec![0]].concat();
    assert_eq!(code(&packet(0, [1, 0, 0, 0], &longer, 1, &[])), Some(rcode::FORMERR));
}

#[test]
fn a16_a_cut_question_is_formerr() {
    let whole = plain(0, &[]);
    for len in header::LEN..whole.len() {
        assert_eq!(code(&whole[..len]), Some(rcode::FORMERR), "{len}");
    }
}

#[test]
fn a17_trailing_octets_are_formerr() {
    assert_eq!(code(&packet(0, [1, 0, 0, 0], NAME, 1, &[0])), Some(rcode::FORMERR));
    assert_eq!(code(&plain(0, &[&OPT[..], &[0]].concat())), Some(rcode::FORMERR));
}

#[test]
fn a18_any_octet_may_stand_in_a_label() {
    assert_eq!(code(&packet(0, [1, 0, 0, 0], b"\x06\x00.\\\xff\n\"\x00", 1, &[])), None);
}

#[test]
fn a19_case_is_kept_and_folded() {
    let m = plain(0, &[]);
    let Gate::Ask(q) = read(&m) else { panic!() };
    assert_eq!(&q.spelled[..NAME.len()], NAME);
    assert_eq!(q.question.name(), b"\x03www\x07example\x00");
}

#[test]
fn a20_the_root_is_a_name() {
    assert_eq!(code(&packet(0, [1, 0, 0, 0], &[0], rtype::NS, &[])), None);
}

#[test]
fn a21_b12_other_opcodes_are_notimp_with_a_bare_header() {
    for opcode in [1u16, 2, 4, 5, 15] {
        let m = plain(opcode << 11, &[]);
        assert!(matches!(read(&m), Gate::Bare(h, rcode::NOTIMP) if u16::from(h.opcode()) == opcode));
        assert!(matches!(read(&m[..12]), Gate::Bare(_, rcode::NOTIMP)), "header only");
    }
}

#[test]
fn a22_a23_classes_other_than_in_are_refused() {
    for class in [3, 4, 254, 255] {
        assert_eq!(code(&with_question(rtype::TXT, class)), Some(rcode::REFUSED), "{class}");
    }
    assert_eq!(code(&with_question(rtype::A, 0)), Some(rcode::FORMERR));
}

#[test]
fn a24_zone_transfers_are_refused() {
    assert_eq!(code(&with_question(rtype::AXFR, 1)), Some(rcode::REFUSED));
    assert_eq!(code(&with_question(rtype::IXFR, 1)), Some(rcode::REFUSED));
}

#[test]
fn a25_a27_any_and_unknown_types_pass() {
    for qtype in [rtype::ANY, 1000, 256, 32768, 65534] {
        assert_eq!(code(&with_question(qtype, 1)), None, "{qtype}");
    }
}

#[test]
fn a26_meta_types_are_declined() {
    for qtype in [0, 41, 128, 249, 250, 65535] {
        assert_eq!(code(&with_question(qtype, 1)), Some(rcode::FORMERR), "{qtype}");
    }
    for qtype in [129, 248, 253, 254] {
        assert_eq!(code(&with_question(qtype, 1)), Some(rcode::NOTIMP), "{qtype}");
    }
}

#[test]
fn a28_a29_rd_z_ad_and_cd_pass() {
    for flags in [0, header::RD, header::Z, header::AD, header::CD] {
        assert_eq!(code(&plain(flags, &[])), None);
    }
}

#[test]
fn a30_signed_queries_are_refused() {
    let tsig = [0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    assert_eq!(code(&plain(0, &tsig)), Some(rcode::REFUSED));
    let sig0 = [0, 0, 24, 0, 255, 0, 0, 0, 0, 0, 0];
    assert_eq!(code(&plain(0, &sig0)), Some(rcode::REFUSED));
}

#[test]
fn b03_b06_b07_b10_other_edns_versions_are_badvers() {
    let mut opt = OPT;
    opt[6] = 1;
    assert_eq!(code(&plain(0, &opt)), Some(rcode::BADVERS));
    opt[8] = 0x40;
    assert_eq!(code(&plain(0, &opt)), Some(rcode::BADVERS));
    let with_option = [0, 0, 41, 16, 0, 0, 1, 0, 0, 0, 4, 0, 100, 0, 0];
    assert_eq!(code(&plain(0, &with_option)), Some(rcode::BADVERS));
}

#[test]
fn b04_b05_b09_b11_unknown_options_and_flags_pass() {
    let with_option = [0, 0, 41, 16, 0, 0, 0, 0x80, 0xc0, 0, 4, 0, 100, 0, 0];
    let m = plain(0, &with_option);
    let Gate::Ask(q) = read(&m) else { panic!() };
    assert!(q.dnssec_ok());
}

#[test]
fn b16_b17_two_opts_or_one_with_an_owner_are_formerr() {
    assert_eq!(code(&packet(0, [1, 0, 0, 2], NAME, 1, &[OPT, OPT].concat())), Some(rcode::FORMERR));
    assert_eq!(code(&plain(0, &[&[0xc0, 12][..], &OPT[1..]].concat())), Some(rcode::FORMERR));
    assert_eq!(code(&plain(0, &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 4, 0, 100, 0, 9])), Some(rcode::FORMERR));
}
