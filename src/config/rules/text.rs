//! Types, classes, RCODEs and regular expressions, as they are written in the configuration.

use regex_lite::Regex;

use crate::config::limits;
use crate::config::problem::{nearest, quoted};
use crate::config::text::Form;
use crate::wire::mnemonic;

/// An RR type: its name or `TYPE` and a number (RFC 3597).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct RrType(pub(in crate::config) u16);

impl Form for RrType {
    const FORMAT: &'static str = "rr-type";

    fn read(text: &str) -> Result<RrType, String> {
        let otherwise = "write a name such as AAAA, or TYPE65 for what has none";
        mnemonic::type_of(text).map(RrType).ok_or_else(|| unknown(text, "an RR type", &mnemonic::TYPES, otherwise))
    }
}

/// A class: its name or `CLASS` and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Class(pub(in crate::config) u16);

impl Form for Class {
    const FORMAT: &'static str = "rr-class";

    fn read(text: &str) -> Result<Class, String> {
        let otherwise = "choose from: IN, CH, HS, ANY";
        mnemonic::class_of(text).map(Class).ok_or_else(|| unknown(text, "a class", &mnemonic::CLASSES, otherwise))
    }
}

/// An RCODE that a header can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Rcode(pub(in crate::config) u16);

impl Form for Rcode {
    const FORMAT: &'static str = "rcode";

    fn read(text: &str) -> Result<Rcode, String> {
        match mnemonic::rcode_of(text) {
            Some(code) if code < 16 => Ok(Rcode(code)),
            Some(_) => Err(format!("{} cannot be used: it takes an OPT record", quoted(text))),
            None => Err(unknown(text, "an RCODE", &mnemonic::RCODES, "write its name, such as NXDOMAIN")),
        }
    }
}

/// A regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Pattern(pub(in crate::config) String);

impl Form for Pattern {
    const FORMAT: &'static str = "regex";

    fn read(text: &str) -> Result<Pattern, String> {
        if text.len() > limits::MAX_PATTERN {
            return Err(format!("a regular expression of {} octets; at most {}", text.len(), limits::MAX_PATTERN));
        }
        // What Go's expressions have and ours lack, by what stands in the way first.
        for (what, instead) in [
            (r"\p", "write a class such as [a-z]: names hold ASCII"),
            (r"\P", "write a class such as [^a-z]: names hold ASCII"),
            (r"\Q", r"write a backslash before each special character"),
            (r"\C", "write ."),
        ] {
            if has_escape(text, what) {
                return Err(format!("{what} is not supported in {}; {instead}", quoted(text)));
            }
        }
        match Regex::new(text) {
            Ok(_) => Ok(Pattern(text.to_owned())),
            Err(error) => Err(format!("{} is not a regular expression: {error}", quoted(text))),
        }
    }
}

/// Whether `escape`, a backslash and a letter, stands in `text` where it means something.
fn has_escape(text: &str, escape: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        rest = &rest[at..];
        if rest.starts_with(escape) {
            return true;
        }
        // The backslash and what it escapes.
        rest = rest.get(1..).map_or("", |tail| tail.strip_prefix(|_| true).unwrap_or(""));
    }
    false
}

/// That `text` is not `what`, with the name in `table` that was meant, or what to write `otherwise`.
fn unknown(text: &str, what: &str, table: &[(&str, u16)], otherwise: &str) -> String {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    match nearest(text, &names) {
        Some(name) => format!("{} is not {what}; did you mean \"{name}\"?", quoted(text)),
        None => format!("{} is not {what}; {otherwise}", quoted(text)),
    }
}
