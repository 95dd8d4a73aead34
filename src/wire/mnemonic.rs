//! The names of RR types, classes and RCODEs in text (IANA "Domain Name System (DNS) Parameters"), both ways.
//!
//! Types and classes without a name are written `TYPE65280` and `CLASS32` (RFC 3597 §5). Whoever only counts a few
//! types uses [`super::question::TypeName`].

use super::question::rtype;

/// RR types that have a name.
pub const TYPES: [(&str, u16); 52] = [
    ("A", rtype::A),
    ("NS", rtype::NS),
    ("CNAME", rtype::CNAME),
    ("SOA", rtype::SOA),
    ("NULL", 10),
    ("PTR", rtype::PTR),
    ("HINFO", rtype::HINFO),
    ("MINFO", 14),
    ("MX", rtype::MX),
    ("TXT", rtype::TXT),
    ("RP", 17),
    ("AFSDB", 18),
    ("X25", 19),
    ("ISDN", 20),
    ("RT", 21),
    ("SIG", rtype::SIG),
    ("KEY", 25),
    ("PX", 26),
    ("GPOS", 27),
    ("AAAA", rtype::AAAA),
    ("LOC", 29),
    ("NXT", 30),
    ("SRV", rtype::SRV),
    ("NAPTR", rtype::NAPTR),
    ("KX", 36),
    ("CERT", 37),
    ("DNAME", rtype::DNAME),
    ("APL", 42),
    ("DS", 43),
    ("SSHFP", 44),
    ("IPSECKEY", 45),
    ("RRSIG", rtype::RRSIG),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("DHCID", 49),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("CSYNC", 62),
    ("ZONEMD", 63),
    ("SVCB", rtype::SVCB),
    ("HTTPS", rtype::HTTPS),
    ("SPF", 99),
    ("IXFR", rtype::IXFR),
    ("AXFR", rtype::AXFR),
    ("ANY", rtype::ANY),
    ("CAA", 257),
];

/// Classes that have a name.
pub const CLASSES: [(&str, u16); 5] = [("IN", 1), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)];

/// RCODEs that a header can hold, and those that take an OPT record (RFC 6895 §2.3).
pub const RCODES: [(&str, u16); 20] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("YXRRSET", 7),
    ("NXRRSET", 8),
    ("NOTAUTH", 9),
    ("NOTZONE", 10),
    ("DSOTYPENI", 11),
    ("BADVERS", 16),
    ("BADKEY", 17),
    ("BADTIME", 18),
    ("BADMODE", 19),
    ("BADNAME", 20),
    ("BADALG", 21),
    ("BADTRUNC", 22),
    ("BADCOOKIE", 23),
];

/// The number of the RR type called `text`, in capitals or not.
pub fn type_of(text: &str) -> Option<u16> {
    number(&TYPES, "TYPE", text)
}

/// The number of the class called `text`, in capitals or not.
pub fn class_of(text: &str) -> Option<u16> {
    number(&CLASSES, "CLASS", text)
}

/// The number of the RCODE called `text`, in capitals or not.
pub fn rcode_of(text: &str) -> Option<u16> {
    RCODES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number)
}

/// The name of a type, class or RCODE, if `table` has one.
pub fn name_in(table: &[(&'static str, u16)], number: u16) -> Option<&'static str> {
    table.iter().find(|(_, n)| *n == number).map(|(name, _)| *name)
}

fn number(table: &[(&str, u16)], generic: &str, text: &str) -> Option<u16> {
    if let Some((_, number)) = table.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Some(*number);
    }
    let (prefix, digits) = text.split_at_checked(generic.len())?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain && prefix.eq_ignore_ascii_case(generic) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_both_ways() {
        for (name, number) in TYPES {
            assert_eq!((type_of(name), name_in(&TYPES, number)), (Some(number), Some(name)));
        }
        for (text, number) in [("aaaa", Some(28)), ("TYPE65280", Some(65280)), ("type1", Some(1)), ("TYPE65536", None)]
        {
            assert_eq!(type_of(text), number, "{text}");
        }
        for text in ["", "TYPE", "TYPE+1", "AA", "é"] {
            assert_eq!(type_of(text), None, "{text}");
        }
        assert_eq!((class_of("in"), class_of("CLASS32"), class_of("XX")), (Some(1), Some(32), None));
        assert_eq!((rcode_of("nxdomain"), rcode_of("NX"), name_in(&RCODES, 23)), (Some(3), None, Some("BADCOOKIE")));
    }
}
