//! Names as the text that rules are written for, and back: in lower case, with the dot at the end, odd octets escaped.

use crate::wire::question::{DisplayName, MAX_NAME};

/// A wire name as text.
pub(super) fn to_text(name: &[u8]) -> String {
    DisplayName(name).to_string()
}

/// The wire name that `text` spells (RFC 1035 §5.1); `None` when it is none.
pub(super) fn from_text(text: &str) -> Option<Vec<u8>> {
    if text == "." {
        return Some(vec![0]);
    }
    let mut name = vec![0];
    // Where the length of the label stands that is being read.
    let mut label = 0;
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'.' => {
                close(&mut name, label)?;
                label = name.len();
                name.push(0);
            }
            b'\\' => name.push(escaped(&mut octets)?),
            _ => name.push(octet),
        }
        if name.len() > MAX_NAME {
            return None;
        }
    }
    // Without the last dot it is a whole name too.
    if label + 1 < name.len() {
        close(&mut name, label)?;
        name.push(0);
    }
    (1 < name.len() && name.len() <= MAX_NAME).then_some(name)
}

/// Writes the length of the label that begins at `label` and ends here.
fn close(name: &mut [u8], label: usize) -> Option<()> {
    let length = name.len() - label - 1;
    let slot = name.get_mut(label).filter(|_| (1..=63).contains(&length))?;
    *slot = length as u8;
    Some(())
}

/// The octet behind a backslash: three digits, or itself.
fn escaped(octets: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = octets.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, octets.next()?, octets.next()?];
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_names_are_read() {
        for (text, name) in
            [(".", &b"\0"[..]), ("a.bc.", b"\x01a\x02bc\0"), ("a.bc", b"\x01a\x02bc\0"), (r"a\.b\032.", b"\x04a.b \0")]
        {
            assert_eq!(from_text(text).as_deref(), Some(name), "{text}");
        }
        let long = "a".repeat(64);
        let longest = format!("{}.", [&long[..63]; 4].join("."));
        for text in ["", "..", ".a", "a..b", &long, &longest, r"a\", r"a\25", r"a\256", r"\2x5"] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..=63), 0..4)) {
            let mut name: Vec<u8> = labels.iter().flat_map(|l| [&[l.len() as u8], &l[..]].concat()).collect();
            name.push(0);
            prop_assume!(name.len() <= MAX_NAME);
            prop_assert_eq!(from_text(&to_text(&name)), Some(name));
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,300}") {
            if let Some(name) = from_text(&text) {
                prop_assert_eq!(crate::wire::question::name_len(&name), Some(name.len()));
            }
        }
    }
}
