//! What scenario files say in words: durations, questions as `dig` takes them, records as zone files have them.

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::rdata::{A, NULL};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration, such as `500ms`, `1.5s`, `2m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(format!("{text:?} is no duration: a number and one of ms, s, m, h, d")),
        };
        let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration"))?;
        let millis = (number * scale * 1000.0).round();
        Ok(Span(Duration::from_millis(millis as u64)))
    }
}

/// A question with what surrounds it, as `dig` takes it: `wWw.example. A +tcp +dnssec`.
#[derive(Clone, Debug)]
pub struct Ask {
    /// QNAME, in the spelling of the file.
    pub name: Name,
    /// QTYPE.
    pub qtype: RecordType,
    /// `+tcp`: over TCP instead of UDP.
    pub tcp: bool,
    /// RD; `+norec` clears it.
    pub recursion: bool,
    /// CD: `+cd`.
    pub checking_disabled: bool,
    /// AD: `+ad`.
    pub authentic_data: bool,
    /// DO: `+dnssec`.
    pub dnssec: bool,
    /// The UDP size of the OPT record (`+bufsize=…`, 1232 otherwise); `None` after `+noedns`.
    pub size: Option<u16>,
    /// Client subnet: `+subnet=10.1.0.0/16`.
    pub subnet: Option<ClientSubnet>,
}

impl FromStr for Ask {
    type Err = String;

    fn from_str(text: &str) -> Result<Ask, String> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(qtype)) = (words.next(), words.next()) else {
            return Err(format!("{text:?} is no question: a name, a type, options of dig"));
        };
        let mut ask = Ask {
            name: absolute(name)?,
            qtype: record_type(qtype)?,
            tcp: false,
            recursion: true,
            checking_disabled: false,
            authentic_data: false,
            dnssec: false,
            size: Some(1232),
            subnet: None,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("+tcp", "") => ask.tcp = true,
                ("+norec", "") => ask.recursion = false,
                ("+cd", "") => ask.checking_disabled = true,
                ("+ad", "") => ask.authentic_data = true,
                ("+dnssec", "") => ask.dnssec = true,
                ("+noedns", "") => ask.size = None,
                ("+bufsize", size) => ask.size = Some(size.parse().map_err(|_| format!("{word:?} is no size"))?),
                ("+subnet", net) => ask.subnet = Some(net.parse().map_err(|_| format!("{word:?} is no network"))?),
                _ => return Err(format!("{text:?}: {word:?} is not known")),
            }
        }
        Ok(ask)
    }
}

impl Ask {
    /// The query, under `id`.
    pub fn message(&self, id: u16) -> Message {
        let mut message = Message::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = self.recursion;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authentic_data = self.authentic_data;
        message.add_query(Query::query(self.name.clone(), self.qtype));
        if let Some(size) = self.size {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(self.dnssec);
            if let Some(subnet) = self.subnet {
                edns.options_mut().insert(EdnsOption::Subnet(subnet));
            }
            message.set_edns(edns);
        }
        message
    }
}

/// `text` for each value of its `{first..last}`; several ranges count together, so they must be of one length.
pub fn expand(text: &str) -> Result<Vec<String>, String> {
    let bad = |why: &str| format!("{text:?}: {why}");
    let mut parts = Vec::new();
    let mut length = None;
    let mut rest = text;
    while let Some((before, range)) = rest.split_once('{') {
        let (range, after) = range.split_once('}').ok_or_else(|| bad("a range ends in }"))?;
        let (first, last) = range.split_once("..").ok_or_else(|| bad("a range is {first..last}"))?;
        let number = |n: &str| n.parse::<u32>().map_err(|_| bad("a range has numbers"));
        let (first, last) = (number(first)?, number(last)?);
        let n = (last + 1).checked_sub(first).ok_or_else(|| bad("a range goes up"))?;
        if *length.get_or_insert(n) != n {
            return Err(bad("the ranges differ in length"));
        }
        parts.push((before, first));
        rest = after;
    }
    let line = |i| parts.iter().map(|(before, first)| format!("{before}{}", first + i)).collect::<String>() + rest;
    Ok((0..length.unwrap_or(1)).map(line).collect())
}

/// Records, one or (with ranges) more per line: owner, TTL, type, data.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Records(pub Vec<Record>);

impl TryFrom<Vec<String>> for Records {
    type Error = String;

    fn try_from(lines: Vec<String>) -> Result<Records, String> {
        let mut records = Vec::new();
        for line in &lines {
            for line in expand(line)? {
                records.push(record(&line).map_err(|e| format!("record {line:?}: {e}"))?);
            }
        }
        Ok(Records(records))
    }
}

fn record(line: &str) -> Result<Record, String> {
    let mut words = line.splitn(4, char::is_whitespace);
    let mut word = || words.next().ok_or("a record is: owner, TTL, type, data");
    let (owner, ttl, rtype, data) = (word()?, word()?, word()?, word()?.trim());
    let rtype = record_type(rtype)?;
    let data = match data.strip_prefix("\\#") {
        // Data of any type (RFC 3597, section 5).
        Some(generic) => {
            let mut words = generic.split_whitespace();
            let length: usize = words.next().and_then(|n| n.parse().ok()).ok_or("\\# is followed by a length")?;
            let hex: String = words.collect();
            let octet = |at: usize| hex.get(at..at + 2).and_then(|h| u8::from_str_radix(h, 16).ok());
            let octets: Option<Vec<u8>> = (0..length).map(|i| octet(2 * i)).collect();
            let octets = octets.filter(|o| o.len() * 2 == hex.len()).ok_or("the data is not of that length")?;
            RData::Unknown { code: rtype, rdata: NULL::with(octets) }
        }
        None if rtype == RecordType::A => RData::A(data.parse::<A>().map_err(|e| e.to_string())?),
        None => RData::try_from_str(rtype, data).map_err(|e| e.to_string())?,
    };
    let ttl = ttl.parse().map_err(|_| format!("{ttl:?} is no TTL"))?;
    Ok(Record::from_rdata(absolute(owner)?, ttl, data))
}

/// A name that ends in a dot.
pub fn absolute(text: &str) -> Result<Name, String> {
    let name = Name::from_ascii(text).map_err(|e| format!("{text:?} is no name: {e}"))?;
    if name.is_fqdn() { Ok(name) } else { Err(format!("{text:?} must end in a dot")) }
}

/// A mnemonic, or `TYPE12345`.
fn record_type(text: &str) -> Result<RecordType, String> {
    if let Some(number) = text.strip_prefix("TYPE").and_then(|n| n.parse::<u16>().ok()) {
        return Ok(number.into());
    }
    text.parse().map_err(|_| format!("{text:?} is no record type"))
}

/// The other way round.
pub fn type_name(rtype: RecordType) -> String {
    match rtype {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// A response code: its mnemonic, or its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rcode(pub u16);

const RCODES: [(&str, u16); 9] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("BADVERS", 16),
    ("BADCOOKIE", 23),
];

impl TryFrom<String> for Rcode {
    type Error = String;

    fn try_from(text: String) -> Result<Rcode, String> {
        let known = RCODES.iter().find(|(name, _)| *name == text).map(|(_, code)| *code);
        let number = || text.strip_prefix("RCODE").and_then(|n| n.parse().ok());
        known.or_else(number).map(Rcode).ok_or_else(|| format!("{text:?} is no response code"))
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RCODES.iter().find(|(_, code)| *code == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}
