//! The little that forwarding needs to know of a message: the query as it is sent, the reply's response code.
//!
//! Pure. The question check itself is `wire::question::is_reply_to`.

use super::Query;
use crate::wire::header::{self, Header, rcode};
use crate::wire::question;

/// What the length of a padded query is a multiple of.
const BLOCK: usize = 128;
/// The option that pads.
const PADDING: u8 = 12;

/// Appends the query to `out` as it goes on the wire: under `id`, and without its OPT record unless `edns`.
pub(super) fn write_query(out: &mut Vec<u8>, query: Query<'_>, id: u16, edns: bool) {
    let start = out.len();
    let stripped = if edns { 0 } else { query.opt_len.min(query.message.len()) };
    out.extend_from_slice(&query.message[..query.message.len() - stripped]);
    let sent = &mut out[start..];
    header::set_id(sent, id);
    if stripped > 0
        && let Some(mut h) = Header::read(sent)
    {
        h.arcount = h.arcount.saturating_sub(1);
        h.write(sent);
    }
}

/// Fills the query that `out` holds from `start` on up to a multiple of 128 octets (RFC 8467 §4.1), by an option
/// (RFC 7830) of the OPT record that are its last `opt_len` octets: encrypted, its length tells less of the name.
pub(super) fn pad(out: &mut Vec<u8>, start: usize, opt_len: usize) {
    let rdlen = out.len().saturating_sub(opt_len) + 9;
    let Some(&[high, low]) = out.get(rdlen..rdlen + 2) else { return };
    let zeros = (out.len() - start + 4).wrapping_neg() % BLOCK;
    let rdata = u16::from_be_bytes([high, low]) as usize + 4 + zeros;
    let (Ok(rdata), Ok(len)) = (u16::try_from(rdata), u8::try_from(zeros)) else { return };
    out[rdlen..rdlen + 2].copy_from_slice(&rdata.to_be_bytes());
    out.extend_from_slice(&[0, PADDING, 0, len]);
    out.resize(out.len() + zeros, 0);
}

/// Gives `reply`, which came under the id of the try, the id of the query; false when it is no reply to it (RFC 5452
/// §9.1).
pub(super) fn accept(query: Query<'_>, reply: &mut [u8]) -> bool {
    if let Some(h) = Header::read(query.message) {
        header::set_id(reply, h.id);
    }
    question::is_reply_to(query.message, reply).is_ok()
}

/// Is TC set?
pub(super) fn is_truncated(reply: &[u8]) -> bool {
    Header::read(reply).is_some_and(|h| h.flags & header::TC != 0)
}

/// The response code, with the eight bits that OPT adds (RFC 6891 §6.1.3) where OPT directly follows the question:
/// which is where it stands in every reply without records, and BADVERS has none.
pub(super) fn response_code(reply: &[u8]) -> u16 {
    let Some(h) = Header::read(reply) else { return rcode::FORMERR };
    if (h.qdcount, h.ancount, h.nscount) != (1, 0, 0) || h.arcount == 0 {
        return h.rcode();
    }
    let body = &reply[header::LEN..];
    let opt = question::name_len(body).and_then(|name| body.get(name + 4..));
    match opt {
        Some([0, 0, 41, _, _, extended, ..]) => u16::from(*extended) << 4 | h.rcode(),
        _ => h.rcode(),
    }
}

/// Does this code say that the server cannot cope with EDNS (RFC 6891 §7)?
pub(super) fn rejects_edns(code: u16) -> bool {
    matches!(code, rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS)
}

/// Does this code end the search? Otherwise it speaks of this server rather than of the name, and another one may
/// know better.
pub(super) fn is_final(code: u16) -> bool {
    const YXDOMAIN: u16 = 6;
    !matches!(code, rcode::FORMERR | rcode::NOTIMP | rcode::REFUSED | YXDOMAIN | 11..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: [u8; 7] = [1, b'a', 0, 0, 1, 0, 1];
    const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

    fn message(flags: u16, arcount: u16, tail: &[u8]) -> Vec<u8> {
        let mut m = vec![0; header::LEN];
        Header { id: 7, flags, qdcount: 1, ancount: 0, nscount: 0, arcount }.write(&mut m);
        m.extend(QUESTION);
        m.extend(tail);
        m
    }

    #[test]
    fn a_query_is_sent_under_another_id_with_or_without_its_opt() {
        let message = message(header::RD, 1, &OPT);
        let query = Query { message: &message, opt_len: OPT.len() };
        for (edns, arcount, len) in [(true, 1, message.len()), (false, 0, message.len() - OPT.len())] {
            let mut out = vec![9];
            write_query(&mut out, query, 0xabcd, edns);
            let sent = Header::read(&out[1..]).unwrap();
            assert_eq!((sent.id, sent.arcount, out.len() - 1), (0xabcd, arcount, len));
        }
    }

    #[test]
    fn a_padded_query_is_whole_and_a_multiple_of_128_octets_long() {
        for extra in 0..=BLOCK {
            // An option that is there already stays.
            let option = [&[0, 10, 0, extra as u8][..], &vec![7; extra]].concat();
            let mut opt = OPT.to_vec();
            opt[10] = option.len() as u8;
            opt.extend(&option);
            let message = message(header::RD, 1, &opt);
            let mut out = vec![9, 9];
            write_query(&mut out, Query { message: &message, opt_len: opt.len() }, 5, true);
            pad(&mut out, 2, opt.len());
            assert_eq!((out.len() - 2) % BLOCK, 0, "{extra}");
            let read = hickory_proto::op::Message::from_vec(&out[2..]).unwrap();
            let options = &read.edns.as_ref().unwrap().options().options;
            assert_eq!(options.len(), 2, "{extra}: {options:?}");
        }
        let plain = message(header::RD, 0, &[]);
        let mut out = plain.clone();
        pad(&mut out, 0, 0);
        assert_eq!(out, plain, "without OPT there is nothing to pad");
    }

    #[test]
    fn an_absurd_opt_length_does_no_harm() {
        let query = Query { message: &[1, 2, 3], opt_len: 9 };
        let mut out = Vec::new();
        write_query(&mut out, query, 5, false);
        assert!(out.is_empty());
        pad(&mut out, 0, 9);
        assert!(out.is_empty());
    }

    #[test]
    fn b24_the_extended_code_is_read_from_the_opt_of_an_empty_reply() {
        let mut opt = OPT;
        opt[5] = 1;
        assert_eq!(response_code(&message(header::QR, 1, &opt)), rcode::BADVERS);
        assert_eq!(response_code(&message(header::QR | 5, 1, &OPT)), rcode::REFUSED);
        assert_eq!(response_code(&message(header::QR | 3, 0, &[])), rcode::NXDOMAIN);
        assert_eq!(response_code(&message(header::QR | 3, 1, &[])), rcode::NXDOMAIN, "the OPT is missing");
        assert_eq!(response_code(&[]), rcode::FORMERR);
    }

    #[test]
    fn c27_codes_about_the_server_are_told_from_codes_about_the_name() {
        for code in [0, 2, 3, 7, 8, 9, 10] {
            assert!(is_final(code), "{code}");
        }
        for code in [1, 4, 5, 6, 11, 15, 16, 23] {
            assert!(!is_final(code), "{code}");
        }
    }
}
