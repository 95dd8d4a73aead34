//! The query log of a zone: one line for each answer, as CoreDNS's plugin log writes it.
//!
//! Owns the placeholders and what stands for them, and which answers are logged. Where there is no such log nothing of
//! this is touched. Lines are as many as there are queries: who cannot keep up with them loses some, which is counted
//! ([`super::log::Log::lost`]), and nobody waits.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::queries::{Label, Proto};
use crate::wire::header::{self, rcode};
use crate::wire::mnemonic::{self, name_in};
use crate::wire::question::{DisplayName, Question, is_within, rtype};
use crate::wire::record;

/// The format that holds where none is written.
pub const COMMON: &str = "{common}";
/// What `{common}` stands for.
const COMMON_TEXT: &str = r#"{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}"#;
/// What `{combined}` adds to it.
const COMBINED_TEXT: &str = r#" "{>opcode}""#;
/// What stands for something that is not known.
const UNKNOWN: &str = "-";

/// A value of a query or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Type,
    Name,
    Class,
    Proto,
    Size,
    Remote,
    Port,
    Local,
    Rcode,
    ResponseSize,
    Duration,
    ResponseFlags,
    Id,
    Opcode,
    DnssecOk,
    BufferSize,
    /// Something of another plugin, which is not known here.
    Metadata,
}

/// Placeholders with what they stand for.
const FIELDS: [(&str, Field); 16] = [
    ("{type}", Field::Type),
    ("{name}", Field::Name),
    ("{class}", Field::Class),
    ("{proto}", Field::Proto),
    ("{size}", Field::Size),
    ("{remote}", Field::Remote),
    ("{port}", Field::Port),
    ("{local}", Field::Local),
    ("{rcode}", Field::Rcode),
    ("{rsize}", Field::ResponseSize),
    ("{duration}", Field::Duration),
    ("{>rflags}", Field::ResponseFlags),
    ("{>id}", Field::Id),
    ("{>opcode}", Field::Opcode),
    ("{>do}", Field::DnssecOk),
    ("{>bufsize}", Field::BufferSize),
];

/// The flags of a header by CoreDNS's names, in its order.
const FLAGS: [(&str, u16); 8] = [
    ("qr", header::QR),
    ("aa", header::AA),
    ("tc", header::TC),
    ("rd", header::RD),
    ("ra", header::RA),
    ("z", header::Z),
    ("ad", header::AD),
    ("cd", header::CD),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// What a line looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

impl Format {
    /// Reads a format; any text is one. What looks like a placeholder and is none stays as it is, and is given as well.
    pub fn parse(text: &str) -> (Format, Vec<String>) {
        let combined = format!("{COMMON_TEXT}{COMBINED_TEXT}");
        let text = text.replace("{combined}", &combined).replace(COMMON, COMMON_TEXT);
        let (mut pieces, mut unknown) = (Vec::new(), Vec::new());
        let mut rest = &*text;
        // As CoreDNS looks for them: the first closing brace, and the last opening one before it.
        while let Some(end) = rest.find('}') {
            let Some(start) = rest[..end].rfind('{') else { break };
            let (before, placeholder) = (&rest[..start], &rest[start..=end]);
            pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
            pieces.push(match FIELDS.iter().find(|(name, _)| *name == placeholder) {
                Some((_, field)) => Piece::Field(*field),
                None if placeholder.starts_with("{/") => Piece::Field(Field::Metadata),
                None => {
                    unknown.push(placeholder.to_owned());
                    Piece::Text(placeholder.to_owned())
                }
            });
            rest = &rest[end + 1..];
        }
        pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.to_owned())));
        (Format(pieces), unknown)
    }

    fn line(&self, answer: &Logged<'_>) -> String {
        let mut line = String::with_capacity(160);
        for piece in &self.0 {
            // Writing to a String cannot fail.
            let _ = match piece {
                Piece::Text(text) => line.write_str(text),
                Piece::Field(field) => answer.write(*field, &mut line),
            };
        }
        line
    }
}

/// What an answer is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It has data, or delegates.
    Success,
    /// It says that there is nothing of the kind.
    Denial,
    /// All else.
    Error,
}

/// An answered query.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    /// Who asked.
    pub client: SocketAddr,
    /// Where.
    pub local: IpAddr,
    /// By what transport.
    pub proto: Proto,
    /// What.
    pub question: &'a Question,
    /// Under what id.
    pub id: u16,
    /// DO.
    pub dnssec_ok: bool,
    /// The size that the client's OPT record offers, if it has one.
    pub udp_size: Option<u16>,
    /// Octets of the query.
    pub request_len: usize,
    /// The whole answer.
    pub response: &'a [u8],
    /// Its response code, EDNS bits included.
    pub rcode: u16,
    /// How long it took.
    pub took: Duration,
}

impl Logged<'_> {
    /// By RFC 2308 §2, with CoreDNS's leniency: an empty answer without an SOA record is none of the kind, but a success.
    fn class(&self) -> Class {
        match self.rcode {
            rcode::NXDOMAIN => Class::Denial,
            rcode::NOERROR if self.is_nodata() => Class::Denial,
            rcode::NOERROR => Class::Success,
            _ => Class::Error,
        }
    }

    fn is_nodata(&self) -> bool {
        let Some((header, mut records)) = record::of(self.response) else { return false };
        header.ancount == 0
            && records.by_ref().map_while(Result::ok).take(usize::from(header.nscount)).any(|r| r.rtype == rtype::SOA)
    }

    fn write(&self, field: Field, line: &mut String) -> std::fmt::Result {
        match field {
            Field::Type => name(line, &mnemonic::TYPES, "TYPE", self.question.qtype()),
            Field::Class => name(line, &mnemonic::CLASSES, "CLASS", self.question.qclass()),
            Field::Rcode => name(line, &mnemonic::RCODES, "", self.rcode),
            Field::Name => write!(line, "{}", DisplayName(self.question.name())),
            Field::Proto => line.write_str(self.proto.name()),
            Field::Size => write!(line, "{}", self.request_len),
            Field::Remote => address(line, self.client.ip()),
            Field::Local => address(line, self.local),
            Field::Port => write!(line, "{}", self.client.port()),
            Field::ResponseSize => write!(line, "{}", self.response.len()),
            Field::Duration => write!(line, "{}s", self.took.as_secs_f64()),
            Field::ResponseFlags => self.flags(line),
            Field::Id => write!(line, "{}", self.id),
            // All others are refused before they get here.
            Field::Opcode => line.write_str("0"),
            Field::DnssecOk => write!(line, "{}", self.dnssec_ok),
            Field::BufferSize => match self.proto {
                Proto::Udp => write!(line, "{}", self.udp_size.unwrap_or(512).max(512)),
                Proto::Tcp => write!(line, "{}", u16::MAX),
            },
            Field::Metadata => line.write_str(UNKNOWN),
        }
    }

    fn flags(&self, line: &mut String) -> std::fmt::Result {
        let flags = match self.response.get(2..4) {
            Some(&[hi, lo]) => u16::from_be_bytes([hi, lo]),
            _ => return line.write_str(UNKNOWN),
        };
        let set: Vec<&str> = FLAGS.iter().filter(|(_, bit)| flags & bit != 0).map(|(name, _)| *name).collect();
        line.write_str(&set.join(","))
    }
}

/// The name of `number`, or else the number behind `generic`.
fn name(line: &mut String, table: &[(&'static str, u16)], generic: &str, number: u16) -> std::fmt::Result {
    match name_in(table, number) {
        Some(name) => line.write_str(name),
        None => write!(line, "{generic}{number}"),
    }
}

/// An address, in brackets if it is one of IPv6 (RFC 3986 §3.2.2).
fn address(line: &mut String, ip: IpAddr) -> std::fmt::Result {
    match ip.to_canonical() {
        IpAddr::V4(ip) => write!(line, "{ip}"),
        IpAddr::V6(ip) => write!(line, "[{ip}]"),
    }
}

/// The query log of a zone.
#[derive(Clone, Debug)]
pub struct QueryLog {
    names: Vec<Box<[u8]>>,
    classes: Vec<Class>,
    format: Format,
}

impl QueryLog {
    /// A log of the answers of `classes`, all for none, to questions at or below `names` (lower-case, as on the wire), all
    /// for none.
    pub fn new(names: Vec<Box<[u8]>>, classes: Vec<Class>, format: &str) -> QueryLog {
        QueryLog { names, classes, format: Format::parse(format).0 }
    }

    /// Writes the line of `answer`, if it has one.
    pub fn write(&self, answer: &Logged<'_>) {
        if let Some(line) = self.line(answer) {
            tracing::info!("{line}");
        }
    }

    fn line(&self, answer: &Logged<'_>) -> Option<String> {
        let name = answer.question.name();
        let named = self.names.is_empty() || self.names.iter().any(|of_log| is_within(name, of_log));
        let wanted = named && (self.classes.is_empty() || self.classes.contains(&answer.class()));
        wanted.then(|| self.format.line(answer))
    }
}

#[cfg(test)]
mod tests;
