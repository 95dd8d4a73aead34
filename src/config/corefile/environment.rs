//! `{$NAME}` and `{%NAME%}` in words: the values of environment variables.
//!
//! They are filled in after the text was cut into words, so a value with spaces stays within its word. What a value
//! refers to is filled in as well, as CoreDNS does; there a value that names itself never ends, here it is refused.

/// Replacements in one word before it is taken to be endless.
const MAX_STEPS: usize = 100;
/// Longest word that replacements may give, in octets.
const MAX_OCTETS: usize = 16 * 1024;

/// `text` with the values in place of the references to them, and nothing where a variable is not set; none if there is
/// no end to it.
pub(super) fn substitute(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let text = references(text, "{%", "%}", environment)?;
    references(&text, "{$", "}", environment)
}

/// The same for one way of writing them.
fn references(text: &str, open: &str, close: &str, environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..MAX_STEPS {
        let Some(start) = text.find(open) else { return Some(text) };
        let Some(length) = text[start..].find(close) else { return Some(text) };
        // A reference without a name is text, and so is what comes behind it.
        if length <= open.len() {
            return Some(text);
        }
        let reference = text[start..start + length + close.len()].to_owned();
        let value = environment(&reference[open.len()..length]).unwrap_or_default();
        let count = text.matches(&reference).count();
        if text.len() + count * value.len() > MAX_OCTETS {
            return None;
        }
        text = text.replace(&reference, &value);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Option<String> {
        substitute(text, &|name| match name {
            "A" => Some("one".into()),
            "B" => Some("two three".into()),
            "NEST" => Some("<{$A}>".into()),
            "LOOP" => Some("x{$LOOP}".into()),
            "LONG" => Some("x".repeat(9 * 1024)),
            _ => None,
        })
    }

    #[test]
    fn values_are_filled_in_wherever_they_stand() {
        for (text, expected) in [
            ("{$A}", "one"),
            ("{%A%}", "one"),
            ("a{$A}b{%B%}c{$A}", "aonebtwo threecone"),
            ("{$UNSET}", ""),
            ("x{%UNSET%}:53", "x:53"),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_stays() {
        for text in ["{$", "{$A", "{}", "{%A}", "$A", "{$}", "{%%}", "{%}", "{ $A}", "{A}"] {
            assert_eq!(filled(text).as_deref(), Some(text));
        }
        assert_eq!(filled("{$}{$A}").as_deref(), Some("{$}{$A}"));
    }

    #[test]
    fn values_may_refer_to_others_but_not_without_end() {
        assert_eq!(filled("{$NEST}").as_deref(), Some("<one>"));
        assert_eq!(filled("{$LOOP}"), None);
        assert_eq!(filled("{$LONG}").map(|text| text.len()), Some(9 * 1024));
        assert_eq!(filled("{$LONG}{$LONG}"), None);
    }
}
