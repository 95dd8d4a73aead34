//! The cache as a file, and back: what may still be given out, with the age it had.
//!
//! A file is a header, the names of the upstreams, then one record per answer. Numbers are big-endian. The header says
//! how long all of it is and has a checksum of what follows it: what is cut off, torn or not ours is seen before anything
//! of it is used. Nothing is held in memory but one answer at a time.
//!
//! An answer has its age at saving; at loading it is older by what the wall clock says has passed. That clock is the only
//! one that goes on over a boot, and can be set. When it shows less than at saving, nobody knows what has passed, and no
//! answer counts as fresh. Zones are found anew by name; what was asked in another one is left out. Where and when files are written is not decided here.

use super::entry::{About, Entry, Refresh};
use super::key::Flags;
use super::policy::MAX_TTL;
use crate::observe::labels::Labels;
use crate::sys::clock::Moment;
use crate::wire::header::{self, Header};
use crate::wire::record;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a file begins with.
const MAGIC: [u8; 8] = *b"nodens\r\n";
/// The format below; any other is refused. To be raised with every change of it.
const FORMAT: u32 = 3;
/// Octets of the header: magic, format, checksum, length of all, time of saving in milliseconds since 1970.
const HEAD: usize = 32;
/// Octets of a record before its message: number of the rules, age and lifetime, RCODE, upstream, bits, lengths of the
/// zone's name and of the message.
const RECORD: usize = 8 + 4 + 4 + 2 + 2 + 1 + 1 + 2;
/// Of the bits of a record, beside those of [`Flags`].
const NEGATIVE: u8 = 4;
/// Octets that are read or written at a time.
const CHUNK: usize = 64 << 10;
/// Nanoseconds in the unit of ages.
const TENTH: u64 = 100_000_000;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("it is no file of nodens' cache")]
    Foreign,
    /// Another version has written it.
    #[error("it has format {0}, and this version reads {FORMAT} alone")]
    Format(u32),
    /// A part is missing, or there is more than there should be.
    #[error("it is {is} octets long instead of {should}")]
    Length {
        /// How long it is.
        is: u64,
        /// How long it says it is.
        should: u64,
    },
    /// It has changed since it was written.
    #[error("its checksum is wrong")]
    Checksum,
}

/// What writing and reading have in common.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Now, by the clock that entries go by.
    pub now: Moment,
    /// The same, by the one that goes on over a boot.
    pub wall: SystemTime,
    /// How long after the end of its lifetime an answer may be given out.
    pub stale: Duration,
    /// The names of upstreams.
    pub upstreams: &'a Labels,
    /// The names of zones.
    pub zones: &'a Labels,
}

impl Terms<'_> {
    /// Which zone of those that a name may be in has this number: the length of its own, or 0 if that is not known.
    fn suffix(&self, zone: u16) -> u8 {
        let is_known = usize::from(zone) < self.zones.numbers() - 1;
        if is_known { u8::try_from(self.zones.name(zone).len()).unwrap_or(0) } else { 0 }
    }
}

/// What is to be known of the zone that an answer belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner {
    /// Its number.
    pub zone: u16,
    /// When its answers are renewed.
    pub refresh: Refresh,
    /// Have its rules a say in each hit?
    pub ruled: bool,
    /// A number for what its answers are made by, the same in every process; what was made by others is left out.
    pub rules: u64,
}

/// Writes those of `entries` that may still be given out to `out`, which is empty; returns how many those are. `rules` is
/// the number of what answers for a name (as on the wire) are made by.
///
/// # Errors
/// What `out` says.
pub fn save<W: Write + Seek>(
    mut out: W,
    entries: impl Iterator<Item = Entry>,
    terms: &Terms<'_>,
    rules: impl Fn(&[u8]) -> u64,
) -> io::Result<u64> {
    out.write_all(&[0; HEAD])?;
    let mut body = BufWriter::with_capacity(CHUNK, Summed { inner: out, sum: crc32fast::Hasher::new(), length: 0 });
    let names = terms.upstreams.names();
    body.write_all(&length(names.len())?)?;
    for name in &names {
        body.write_all(&length(name.len())?)?;
        body.write_all(name.as_bytes())?;
    }
    let mut count = 0;
    for entry in entries {
        let about = entry.about();
        // Which addresses are in which view is not written: another configuration may number them otherwise.
        if about.flags.view() != 0 {
            continue;
        }
        let age = tenths(terms.now.since(about.stored));
        if !is_of_use(age, about.lifetime, terms.stale) {
            continue;
        }
        // One that came up since is not in the table.
        let upstream = if usize::from(about.upstream) > names.len() { Labels::NONE } else { about.upstream };
        let message = entry.as_stored().message;
        let made_by = owner(message).map_or(0, &rules);
        body.write_all(&made_by.to_be_bytes())?;
        body.write_all(&u32::try_from(age).unwrap_or(u32::MAX).to_be_bytes())?;
        body.write_all(&about.lifetime.to_be_bytes())?;
        body.write_all(&about.rcode.to_be_bytes())?;
        body.write_all(&upstream.to_be_bytes())?;
        let bits = about.flags.bits() | if about.negative { NEGATIVE } else { 0 };
        body.write_all(&[bits, terms.suffix(about.zone)])?;
        body.write_all(&length(message.len())?)?;
        body.write_all(message)?;
        count += 1;
    }
    let Summed { inner: mut out, sum, length } = body.into_inner().map_err(io::IntoInnerError::into_error)?;
    let head = Head { sum: 0, length: HEAD as u64 + length, saved: terms.wall };
    out.rewind()?;
    out.write_all(&head.written(sum))?;
    out.flush()?;
    Ok(count)
}

/// When the file `input` was written, by its own word.
///
/// # Errors
/// When it is none of ours, or cannot be read.
pub fn saved_at(input: &mut impl Read) -> Result<SystemTime, Error> {
    Ok(Head::read(input)?.1.saved)
}

/// Gives what is in the file `input` and may still be given out to `take`, until that says to stop; returns when the file
/// was written. `zone` says whose a name (as on the wire) is; what belongs to nobody is left out.
///
/// # Errors
/// When something is wrong with it. Unless `input` has changed meanwhile, nothing was given to `take` then.
pub fn load<R: Read + Seek>(
    input: R,
    terms: &Terms<'_>,
    zone: impl Fn(&[u8]) -> Option<Owner>,
    mut take: impl FnMut(Entry) -> ControlFlow<()>,
) -> Result<SystemTime, Error> {
    let mut input = BufReader::with_capacity(CHUNK, input);
    let (mut sum, head) = Head::read(&mut input)?;
    let is = input.seek(SeekFrom::End(0))?;
    if is != head.length {
        return Err(Error::Length { is, should: head.length });
    }
    input.seek(SeekFrom::Start(HEAD as u64))?;
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        sum.update(chunk);
        let read = chunk.len();
        input.consume(read);
    }
    if sum.finalize() != head.sum {
        return Err(Error::Checksum);
    }
    input.seek(SeekFrom::Start(HEAD as u64))?;
    let mut names = read_names(&mut input)?;
    // Rounded up: nothing becomes younger.
    let passed = terms.wall.duration_since(head.saved).map(|time| tenths(time + Duration::from_nanos(TENTH - 1)));
    let mut message = Vec::new();
    while !input.fill_buf()?.is_empty() {
        let made_by = u64::from_be_bytes(octets(&mut input)?);
        let [a0, a1, a2, a3, l0, l1, l2, l3, r0, r1, u0, u1, bits, suffix, m0, m1] =
            octets::<{ RECORD - 8 }>(&mut input)?;
        message.resize(usize::from(u16::from_be_bytes([m0, m1])), 0);
        input.read_exact(&mut message)?;
        let lifetime = u32::from_be_bytes([l0, l1, l2, l3]).min(MAX_TTL);
        let age = u64::from(u32::from_be_bytes([a0, a1, a2, a3]));
        let age = passed.as_ref().map_or(age.max(u64::from(lifetime) * 10), |passed| age.saturating_add(*passed));
        let stored = age.checked_mul(TENTH).and_then(|age| terms.now.0.checked_sub(age));
        let (true, Some(stored)) = (is_of_use(age, lifetime, terms.stale), stored) else { continue };
        let Some(Owner { zone, refresh, ruled, rules }) = owner(&message).and_then(&zone) else { continue };
        let (was, is) = (suffix, terms.suffix(zone));
        if rules != made_by || was != is && was != 0 && is != 0 {
            continue;
        }
        let from = usize::from(u16::from_be_bytes([u0, u1])).checked_sub(1).and_then(|at| names.get_mut(at));
        let upstream = from.map(|(name, number)| *number.get_or_insert_with(|| terms.upstreams.intern(name)));
        let about = About {
            stored: Moment(stored),
            lifetime,
            rcode: u16::from_be_bytes([r0, r1]),
            negative: bits & NEGATIVE != 0,
            flags: Flags::from_bits(bits & 3),
            ruled,
            zone,
            upstream: upstream.unwrap_or(Labels::NONE),
        };
        let entry = Entry::with_refresh(&message, about, refresh);
        if is_whole(&entry) && take(entry).is_break() {
            break;
        }
    }
    Ok(head.saved)
}

/// A header, but for what is the same in all.
struct Head {
    sum: u32,
    length: u64,
    saved: SystemTime,
}

impl Head {
    /// Reads one; gives what has been summed up so far as well.
    fn read(input: &mut impl Read) -> Result<(crc32fast::Hasher, Head), Error> {
        let mut all = [0; HEAD];
        match input.read_exact(&mut all) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::Foreign),
            read => read?,
        }
        let (magic, rest) = all.split_at(MAGIC.len());
        let mut rest = rest;
        let (format, sum) = (octets(&mut rest)?, octets(&mut rest)?);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(rest);
        let (length, saved) = (octets(&mut rest)?, octets(&mut rest)?);
        match u32::from_be_bytes(format) {
            _ if magic != MAGIC => Err(Error::Foreign),
            FORMAT => {
                let saved = UNIX_EPOCH + Duration::from_millis(u64::from_be_bytes(saved));
                Ok((hasher, Head { sum: u32::from_be_bytes(sum), length: u64::from_be_bytes(length), saved }))
            }
            other => Err(Error::Format(other)),
        }
    }

    /// As it is written before a body with the checksum `body`.
    fn written(&self, body: crc32fast::Hasher) -> Vec<u8> {
        let saved = self.saved.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let saved = u64::try_from(saved).unwrap_or(u64::MAX);
        let summed = [self.length.to_be_bytes(), saved.to_be_bytes()].concat();
        let mut sum = crc32fast::Hasher::new();
        sum.update(&summed);
        sum.combine(&body);
        [&MAGIC[..], &FORMAT.to_be_bytes(), &sum.finalize().to_be_bytes(), &summed].concat()
    }
}

/// Sums up what is written through it.
struct Summed<W> {
    inner: W,
    sum: crc32fast::Hasher,
    length: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or_default());
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The table of names; the numbers that they have here come later.
fn read_names(input: &mut impl Read) -> io::Result<Vec<(String, Option<u16>)>> {
    let count = u16::from_be_bytes(octets(input)?);
    if count > Labels::UPSTREAMS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let name = |_| {
        let mut name = vec![0; usize::from(u16::from_be_bytes(octets(input)?))];
        input.read_exact(&mut name)?;
        Ok((String::from_utf8_lossy(&name).into_owned(), None))
    };
    (0..count).map(name).collect()
}

/// The next octets of `input`.
fn octets<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    input.read_exact(&mut octets)?;
    Ok(octets)
}

/// A length as it is written.
fn length(octets: usize) -> io::Result<[u8; 2]> {
    u16::try_from(octets).map(u16::to_be_bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whole tenths of a second.
fn tenths(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / u128::from(TENTH)).unwrap_or(u64::MAX)
}

/// May an answer that is `age` tenths of a second old still be given out?
fn is_of_use(age: u64, lifetime: u32, stale: Duration) -> bool {
    age < tenths(stale).saturating_add(u64::from(lifetime) * 10)
}

/// The name that `message` answers for.
fn owner(message: &[u8]) -> Option<&[u8]> {
    let (_, records) = record::of(message)?;
    message.get(header::LEN..records.position())?.split_last_chunk::<4>().map(|(name, _)| name)
}

/// Were all the records found that the message should have?
fn is_whole(entry: &Entry) -> bool {
    let stored = entry.as_stored();
    Header::read(stored.message).is_some_and(|header| {
        let records = [header.ancount, header.nscount, header.arcount].map(usize::from);
        stored.ttl_at.len() == 2 * records.iter().sum::<usize>()
    })
}

#[cfg(test)]
mod tests;
