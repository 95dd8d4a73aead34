//! DNS over a stream (RFC 1035 §4.2.2): messages behind a length of two octets, cut out of whatever a read returned.
//!
//! Pure. Whole messages are handed out from the reader's own buffer; only a message that is not yet complete is kept
//! here, so that a quiet connection holds no buffer and a trickling one at most one message.

use crate::wire::header;

/// What is kept of a message that has not arrived in full.
#[derive(Debug, Default)]
pub(super) struct Frames {
    partial: Vec<u8>,
}

/// A length that no DNS message has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Frames {
    /// Takes the next octets of the stream and calls `each` for every message they complete.
    pub(super) fn feed(&mut self, mut octets: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Malformed> {
        while !self.partial.is_empty() {
            // Up to the length first, then up to the end of the message: what follows it stays where it is.
            let missing = wanted(&self.partial)? - self.partial.len();
            let (taken, rest) = octets.split_at(missing.min(octets.len()));
            self.partial.extend_from_slice(taken);
            octets = rest;
            if taken.len() < missing {
                return Ok(());
            }
            if self.partial.len() > 2 {
                each(&self.partial[2..]);
                self.partial = Vec::new();
            } else {
                wanted(&self.partial)?;
            }
        }
        while !octets.is_empty() {
            match octets.split_at_checked(wanted(octets)?) {
                Some((whole, rest)) if whole.len() > 2 => {
                    each(&whole[2..]);
                    octets = rest;
                }
                _ => {
                    self.partial.extend_from_slice(octets);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Has a message begun that has not ended?
    #[cfg(test)]
    fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }
}

/// How many octets, from the length on, must be there before more can be said: 2, or the whole message.
fn wanted(octets: &[u8]) -> Result<usize, Malformed> {
    match *octets {
        [hi, lo, ..] => match usize::from(u16::from_be_bytes([hi, lo])) {
            len if len < header::LEN => Err(Malformed),
            len => Ok(2 + len),
        },
        _ => Ok(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(messages: &[&[u8]]) -> Vec<u8> {
        messages.iter().flat_map(|m| [&(m.len() as u16).to_be_bytes(), *m].concat()).collect()
    }

    fn cut(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Frames) {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for chunk in chunks {
            frames.feed(chunk, |m| seen.push(m.to_vec())).unwrap();
        }
        (seen, frames)
    }

    #[test]
    fn messages_are_cut_wherever_the_reads_fall() {
        let (a, b, c) = (vec![1; 12], vec![2; 300], vec![3; 13]);
        let octets = stream(&[&a, &b, &c]);
        for first in 0..octets.len() {
            for second in [first, (first + 1).min(octets.len()), octets.len()] {
                let (seen, frames) = cut(&[&octets[..first], &octets[first..second], &octets[second..]]);
                assert_eq!(seen, [a.clone(), b.clone(), c.clone()], "cut at {first} and {second}");
                assert!(!frames.is_partial());
            }
        }
    }

    #[test]
    fn d13_a_trickled_message_is_put_together_and_takes_no_more_room_than_it_needs() {
        let message = vec![7; 65535];
        let octets = stream(&[&message]);
        let chunks: Vec<&[u8]> = octets.chunks(1).collect();
        let (seen, _) = cut(&chunks[..chunks.len() - 1]);
        assert!(seen.is_empty());
        let (seen, frames) = cut(&chunks);
        assert_eq!(seen, [message]);
        assert_eq!(frames.partial.capacity(), 0);
    }

    #[test]
    fn c15_lengths_below_a_header_are_refused_before_the_body_comes() {
        for len in 0..12u8 {
            assert_eq!(Frames::default().feed(&[0, len], |_| ()), Err(Malformed), "{len}");
            let mut frames = Frames::default();
            assert_eq!(frames.feed(&[0], |_| ()), Ok(()));
            assert_eq!(frames.feed(&[len], |_| ()), Err(Malformed), "{len}");
        }
        assert_eq!(Frames::default().feed(&[0, 12], |_| ()), Ok(()));
    }
}
