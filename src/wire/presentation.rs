//! One resource record in text, as in a zone file (RFC 1035 §5.1), to the octets of its parts.
//!
//! An owner, then TTL and class in either order or not at all, the type, the data. Names that do not end in a dot are
//! completed by the root; without a TTL it is an hour. `(`, `)` and `;` mean what they mean in a zone file; control
//! entries (`$INCLUDE`) do not exist here, so no text can make a file be read. Data of any type may be written as
//! `\# LENGTH HEX` (RFC 3597 §5).

use super::mnemonic;
use super::question::{CLASS_IN, MAX_NAME, name_len, rtype};
use super::rr::Rr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The TTL of a record that says none.
const TTL: u32 = 3600;

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing stands where something must.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A word is not what stands in its place.
    #[error("\"{word}\" is not {what}")]
    Word {
        /// The word as written.
        word: String,
        /// What would be right.
        what: &'static str,
    },
    /// More words than the type has data.
    #[error("\"{0}\" is too much")]
    TooMuch(String),
    /// A quote or a parenthesis is not closed, or closed without being opened.
    #[error("{0}")]
    Unbalanced(&'static str),
    /// The type's data cannot be written so.
    #[error("data of type {0} can only be written as \\# LENGTH HEX")]
    Generic(String),
    /// The data is longer than a record can be.
    #[error("the data is longer than 65535 octets")]
    TooLong,
}

type Result<T> = std::result::Result<T, Unreadable>;

/// A word of the text.
struct Word {
    /// As written, its escapes not yet resolved.
    text: String,
    /// Whether it stood in quotes.
    quoted: bool,
}

/// Reads the record in `text`; `None` when there is nothing but space and comments.
///
/// # Errors
/// What is wrong with the text.
pub fn read(text: &str) -> Result<Option<Rr>> {
    let words = split(text)?;
    let mut rest = words.iter();
    let Some(owner) = rest.next() else { return Ok(None) };
    let owner = name(&owner.text)?;
    let (mut ttl, mut class) = (None, None);
    let rtype = loop {
        let word = &rest.next().ok_or(Unreadable::Missing("the type"))?.text;
        if let (None, Some(seconds)) = (ttl, seconds(word)) {
            ttl = Some(seconds);
        } else if let (None, Some(number)) = (class, mnemonic::class_of(word).filter(|_| word != "ANY")) {
            class = Some(number);
        } else {
            break mnemonic::type_of(word).ok_or_else(|| wrong(word, "a TTL, a class or an RR type"))?;
        }
    };
    let mut data = Data { rest: rest.as_slice(), out: Vec::new() };
    data.read(rtype)?;
    if let Some(word) = data.rest.first() {
        return Err(Unreadable::TooMuch(word.text.clone()));
    }
    if data.out.len() > usize::from(u16::MAX) {
        return Err(Unreadable::TooLong);
    }
    Ok(Some(Rr { owner, rtype, class: class.unwrap_or(CLASS_IN), ttl: ttl.unwrap_or(TTL), rdata: data.out }))
}

/// The wire form of a name in text, with its escapes; what does not end in a dot is completed by the root.
///
/// # Errors
/// When it is no name.
pub fn name(text: &str) -> Result<Vec<u8>> {
    const WHAT: &str = "a domain name";
    let no = || wrong(text, WHAT);
    if text == "." || text == "@" {
        return Ok(vec![0]);
    }
    let mut wire = Vec::with_capacity(text.len() + 2);
    let mut label = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        let (octet, tail) = match rest.split_first() {
            Some((b'\\', _)) => escaped(rest).ok_or_else(no)?,
            Some((&octet, tail)) if octet != b'.' => (octet, tail),
            ends => {
                // A name may end in a dot, but no label is empty.
                if label.is_empty() || label.len() > 63 {
                    return Err(no());
                }
                wire.push(label.len() as u8);
                wire.append(&mut label);
                match ends {
                    Some((_, tail)) if !tail.is_empty() => rest = tail,
                    _ => break,
                }
                continue;
            }
        };
        label.push(octet);
        rest = tail;
    }
    wire.push(0);
    if wire.len() <= MAX_NAME && name_len(&wire) == Some(wire.len()) { Ok(wire) } else { Err(no()) }
}

/// A wire name in text that [`name`] reads back, whatever its octets are, also in the midst of a record: absolute, with
/// everything escaped that means something there.
pub fn written(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((&length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let Some((label, tail)) = tail.split_at_checked(usize::from(length)) else { break };
        for &octet in label {
            match octet {
                b'.' | b'\\' | b'"' | b'\'' | b'@' | b';' | b'(' | b')' => text.extend(['\\', char::from(octet)]),
                b'!'..=b'~' => text.push(char::from(octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
        text.push('.');
        rest = tail;
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// The octet that the escape at the start of `text` stands for, and what follows it.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    match text.get(1..)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] => {
            let digit = |d: &u8| u16::from(d - b'0');
            let value = digit(a) * 100 + digit(b) * 10 + digit(c);
            Some((u8::try_from(value).ok()?, tail))
        }
        [octet, tail @ ..] if !octet.is_ascii_digit() => Some((*octet, tail)),
        _ => None,
    }
}

/// A number of seconds, with units (`1h30m`) or without.
fn seconds(word: &str) -> Option<u32> {
    let (mut all, mut number, mut digits) = (0u32, 0u32, false);
    for octet in word.bytes() {
        let unit = match octet.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
                digits = true;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !digits {
            return None;
        }
        all = all.checked_add(number.checked_mul(unit)?)?;
        (number, digits) = (0, false);
    }
    if word.is_empty() { None } else { all.checked_add(number) }
}

/// The words of the text. A line's end counts only inside parentheses; outside it must be the last.
fn split(text: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut open = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            ';' => {
                rest = tail.find('\n').and_then(|end| tail.get(end..)).unwrap_or_default();
                continue;
            }
            '(' => open += 1,
            ')' if open == 0 => return Err(Unreadable::Unbalanced("a \")\" without \"(\"")),
            ')' => open -= 1,
            '\n' if open == 0 && !words.is_empty() && !tail.trim().is_empty() => {
                return Err(Unreadable::Unbalanced("more than one line outside parentheses"));
            }
            '"' => {
                let end = unescaped(tail, |c| c == '"').ok_or(Unreadable::Unbalanced("a quote is not closed"))?;
                let (word, behind) = tail.split_at(end);
                words.push(Word { text: word.to_owned(), quoted: true });
                rest = behind.get(1..).unwrap_or_default();
                continue;
            }
            c if c.is_whitespace() => {}
            _ => {
                let ends = |c: char| c.is_whitespace() || "();\"".contains(c);
                let (word, behind) = rest.split_at(unescaped(rest, ends).unwrap_or(rest.len()));
                words.push(Word { text: word.to_owned(), quoted: false });
                rest = behind;
                continue;
            }
        }
        rest = tail;
    }
    if open > 0 { Err(Unreadable::Unbalanced("a \"(\" is not closed")) } else { Ok(words) }
}

/// Where the first character that `wanted` accepts and no backslash escapes stands.
fn unescaped(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let mut escape = false;
    text.char_indices()
        .find(|&(_, c)| {
            let found = !escape && wanted(c);
            escape = c == '\\' && !escape;
            found
        })
        .map(|(at, _)| at)
}

fn wrong(word: &str, what: &'static str) -> Unreadable {
    Unreadable::Word { word: word.chars().take(100).collect(), what }
}

/// The data of a record while it is read.
struct Data<'a> {
    rest: &'a [Word],
    out: Vec<u8>,
}

impl Data<'_> {
    fn read(&mut self, rtype: u16) -> Result<()> {
        if self.rest.first().is_some_and(|word| word.text == "\\#" && !word.quoted) {
            return self.generic();
        }
        match rtype {
            rtype::A => self.address::<Ipv4Addr>("an IPv4 address", |ip| ip.octets().to_vec()),
            rtype::AAAA => self.address::<Ipv6Addr>("an IPv6 address", |ip| ip.octets().to_vec()),
            rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => self.name(),
            rtype::MX => {
                self.number::<u16>("a preference")?;
                self.name()
            }
            rtype::SRV => {
                ["a priority", "a weight", "a port"].into_iter().try_for_each(|what| self.number::<u16>(what))?;
                self.name()
            }
            rtype::SOA => {
                self.name()?;
                self.name()?;
                self.number::<u32>("a serial number")?;
                (0..4).try_for_each(|_| self.seconds())
            }
            rtype::TXT | 99 => {
                self.text()?;
                while !self.rest.is_empty() {
                    self.text()?;
                }
                Ok(())
            }
            rtype::HINFO => {
                self.text()?;
                self.text()
            }
            rtype::NAPTR => {
                self.number::<u16>("an order")?;
                self.number::<u16>("a preference")?;
                (0..3).try_for_each(|_| self.text())?;
                self.name()
            }
            257 => {
                self.number::<u8>("flags")?;
                self.text()?;
                // The value of a CAA takes the rest of the data, without a length (RFC 8659 §4.1).
                let value = self.next("a value")?;
                let value = octets(&value.text).ok_or_else(|| wrong(&value.text, "text"))?;
                self.out.extend(value);
                Ok(())
            }
            _ => Err(Unreadable::Generic(
                mnemonic::name_in(&mnemonic::TYPES, rtype).map_or_else(|| format!("TYPE{rtype}"), str::to_owned),
            )),
        }
    }

    fn next(&mut self, what: &'static str) -> Result<&Word> {
        let (word, rest) = self.rest.split_first().ok_or(Unreadable::Missing(what))?;
        self.rest = rest;
        Ok(word)
    }

    fn address<T: std::str::FromStr>(&mut self, what: &'static str, octets: fn(T) -> Vec<u8>) -> Result<()> {
        let word = self.next(what)?;
        let address = word.text.parse().map_err(|_| wrong(&word.text, what))?;
        self.out.extend(octets(address));
        Ok(())
    }

    fn name(&mut self) -> Result<()> {
        let wire = name(&self.next("a domain name")?.text)?;
        self.out.extend(wire);
        Ok(())
    }

    fn number<T: TryFrom<u32>>(&mut self, what: &'static str) -> Result<()> {
        let word = self.next(what)?;
        let plain = word.text.bytes().all(|b| b.is_ascii_digit());
        let number = word.text.parse::<u32>().ok().filter(|_| plain);
        let number = number.filter(|n| T::try_from(*n).is_ok()).ok_or_else(|| wrong(&word.text, what))?;
        let octets = number.to_be_bytes();
        self.out.extend(octets.iter().skip(4 - size_of::<T>()));
        Ok(())
    }

    fn seconds(&mut self) -> Result<()> {
        let word = self.next("a number of seconds")?;
        let number = seconds(&word.text).ok_or_else(|| wrong(&word.text, "a number of seconds"))?;
        self.out.extend(number.to_be_bytes());
        Ok(())
    }

    /// One character string; a longer one becomes several, as those who write TXT records expect.
    fn text(&mut self) -> Result<()> {
        let word = self.next("a text")?;
        let octets = octets(&word.text).ok_or_else(|| wrong(&word.text, "text"))?;
        if octets.is_empty() {
            self.out.push(0);
        }
        for part in octets.chunks(255) {
            self.out.push(part.len() as u8);
            self.out.extend(part);
        }
        Ok(())
    }

    fn generic(&mut self) -> Result<()> {
        self.next("\\#")?;
        let word = self.next("a length")?;
        let length: usize = word.text.parse().map_err(|_| wrong(&word.text, "a length"))?;
        let digits: String = std::mem::take(&mut self.rest).iter().map(|word| word.text.as_str()).collect();
        let pairs = digits.as_bytes().chunks(2);
        let octet = |pair: &[u8]| match pair {
            [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
            }
            _ => None,
        };
        let data: Option<Vec<u8>> = pairs.map(octet).collect();
        let data = data.filter(|data| data.len() == length).ok_or_else(|| wrong(&digits, "as many octets in hex"))?;
        self.out.extend(data);
        Ok(())
    }
}

/// The octets of a character string, its escapes resolved.
fn octets(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, tail)) = rest.split_first() {
        let (octet, tail) = if octet == b'\\' { escaped(rest)? } else { (octet, tail) };
        out.push(octet);
        rest = tail;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
