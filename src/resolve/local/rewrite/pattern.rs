//! Texts compared with names, and what takes their place.

use super::InvalidPattern;
use crate::config::Kind;
use regex_lite::Regex;

/// What a name is compared with; in lower case, regular expressions apart.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Regex),
    /// A name itself, or what it stands at the end of by whole labels.
    Below(String),
}

/// A pattern and what takes the place of what it matches.
#[derive(Clone, Debug)]
pub(super) struct Substitution {
    pub(super) pattern: Pattern,
    pub(super) to: String,
}

impl Pattern {
    pub(super) fn new(kind: Kind, text: &str) -> Result<Pattern, InvalidPattern> {
        let text = text.to_owned();
        Ok(match kind {
            Kind::Exact => Pattern::Exact(text),
            Kind::Prefix => Pattern::Prefix(text),
            Kind::Suffix => Pattern::Suffix(text),
            Kind::Substring => Pattern::Substring(text),
            Kind::Regex => Pattern::Regex(Regex::new(&text).map_err(|error| InvalidPattern(text, error))?),
        })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Exact(text) => name == text,
            Pattern::Prefix(text) => name.starts_with(text.as_str()),
            Pattern::Suffix(text) => name.ends_with(text.as_str()),
            Pattern::Substring(text) => name.contains(text.as_str()),
            Pattern::Regex(regex) => regex.is_match(name),
            Pattern::Below(text) => end_below(name, text).is_some(),
        }
    }

    /// What becomes of `name` when `to` takes the place of what matches; `None` when nothing does.
    pub(super) fn replace(&self, name: &str, to: &str) -> Option<String> {
        match self {
            Pattern::Exact(text) => (name == text).then(|| to.to_owned()),
            Pattern::Prefix(text) => name.strip_prefix(text.as_str()).map(|rest| format!("{to}{rest}")),
            Pattern::Suffix(text) => name.strip_suffix(text.as_str()).map(|rest| format!("{rest}{to}")),
            Pattern::Substring(text) => name.contains(text.as_str()).then(|| name.replace(text.as_str(), to)),
            Pattern::Below(text) => end_below(name, text).map(|rest| format!("{rest}{to}")),
            Pattern::Regex(regex) => {
                let groups = regex.captures(name)?;
                let mut new = to.to_owned();
                for (n, group) in groups.iter().enumerate() {
                    let slot = format!("{{{n}}}");
                    if new.contains(&slot) {
                        new = new.replace(&slot, group.map_or("", |group| group.as_str()));
                    }
                }
                Some(new)
            }
        }
    }
}

/// What stands before `end` in `name`, down to a label's boundary.
fn end_below<'a>(name: &'a str, end: &str) -> Option<&'a str> {
    name.strip_suffix(end).filter(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Substitution {
    /// Of `from`, and in names below it, by `to`.
    pub(super) fn name(from: &str, to: &str) -> Substitution {
        Substitution { pattern: Pattern::Below(from.to_owned()), to: to.to_owned() }
    }

    /// Of a last part of names.
    pub(super) fn suffix(from: &str, to: &str) -> Substitution {
        Substitution { pattern: Pattern::Suffix(from.to_owned()), to: to.to_owned() }
    }

    /// Of names that a regular expression matches.
    pub(super) fn regex(from: &str, to: &str) -> Result<Substitution, InvalidPattern> {
        Ok(Substitution { pattern: Pattern::new(Kind::Regex, from)?, to: to.to_owned() })
    }

    /// What becomes of `name`, if anything else.
    pub(super) fn apply(&self, name: &str) -> Option<String> {
        // Names are equal whatever their case (RFC 4343); what is spelled oddly is not worth another copy otherwise.
        if matches!(self.pattern, Pattern::Regex(_)) || !name.bytes().any(|octet| octet.is_ascii_uppercase()) {
            return self.pattern.replace(name, &self.to);
        }
        self.pattern.replace(&name.to_ascii_lowercase(), &self.to)
    }
}
