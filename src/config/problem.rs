//! What is wrong with a configuration: one problem a line, each with file, line, column and key.
//!
//! Problems are collected, never thrown at the first: whoever mends a file wants to see all of them at once.

use std::fmt;

use crate::config::limits;

/// One thing that is wrong (or, among the warnings, odd), and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the command-line argument, as the user wrote it.
    pub source: String,
    /// Line and column, both from 1, where the text has them.
    pub at: Option<(usize, usize)>,
    /// The key, such as `zones[0].forward.policy`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.source)?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Every problem found, in the order of the text. Displays one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are so many that nobody would read more.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= limits::MAX_PROBLEMS
    }

    /// Adds one, unless there are enough.
    pub(super) fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.0.push(problem);
        }
    }

    /// Sorts by place in the text; what has no place (command-line arguments) comes last.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|p| p.at.unwrap_or((usize::MAX, 0)));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `; did you mean "tcp"?` for the choice nearest to `given`, else the choices when they are few, else nothing.
pub(super) fn hint(given: &str, choices: &[&str]) -> String {
    match nearest(given, choices) {
        Some(choice) => format!("; did you mean \"{choice}\"?"),
        None if choices.len() <= 8 => format!("; choose from: {}", choices.join(", ")),
        None => String::new(),
    }
}

/// The choice that `given` is most likely a misspelling of.
pub(super) fn nearest<'a>(given: &str, choices: &[&'a str]) -> Option<&'a str> {
    let given: String = given.chars().take(64).collect::<String>().to_lowercase();
    let distances = choices.iter().map(|c| (strsim::damerau_levenshtein(&given, &c.to_lowercase()), *c));
    distances.min().filter(|(distance, choice)| *distance <= 1 + choice.len() / 4).map(|(_, choice)| choice)
}

/// `text` in quotes, short and on one line whatever it holds.
pub(super) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(64).flat_map(char::escape_debug).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("\"{shown}{more}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_nearest_choice_or_lists_a_few() {
        let policies = ["least-loaded", "random"];
        assert_eq!(hint("least_loaded", &policies), "; did you mean \"least-loaded\"?");
        assert_eq!(hint("Random", &policies), "; did you mean \"random\"?");
        assert_eq!(hint("best", &policies), "; choose from: least-loaded, random");
        assert_eq!(hint("zzzzzz", &["a"; 9]), "");
    }

    #[test]
    fn quoted_text_stays_short_and_on_one_line() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(quoted(&"é".repeat(70)), format!("\"{}…\"", "é".repeat(64)));
    }

    #[test]
    fn problems_are_displayed_one_a_line() {
        let problem = |at, key: &str| Problem { source: "f".into(), at, key: key.into(), message: "m".into() };
        let mut all = Problems(vec![problem(None, ""), problem(Some((2, 1)), "b"), problem(Some((1, 9)), "a")]);
        all.sort();
        assert_eq!(all.to_string(), "f:1:9: a: m\nf:2:1: b: m\nf: m");
    }
}
