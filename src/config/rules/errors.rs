//! `zones[].errors`: a line of the log for each look-up that failed, as CoreDNS's plugin errors writes it.
//!
//! What the lines look like, and how equal ones become one, is decided in `observe::errors`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::check::Check;
use crate::config::limits;
use crate::config::rules::Pattern;
use crate::config::text::{Span, Text};

/// A line of the log for each look-up that failed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct ErrorsRule {
    /// Which failures are counted and told together; the first that matches holds. Default: none.
    consolidate: Option<Vec<ConsolidateRule>>,
    /// Accepted for CoreDNS's sake; a failed look-up has no stack here.
    stacktrace: Option<bool>,
}

/// Failures that are counted and told together.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConsolidateRule {
    /// How often they are told, from 1ms to 1d.
    #[schemars(required)]
    every: Option<Text<Span>>,
    /// A regular expression that the failure's text, without question and RCODE, must match.
    #[schemars(required)]
    matching: Option<Text<Pattern>>,
    /// How important the line is. Default: error.
    level: Option<ErrorLevel>,
    /// Whether the first of each time is told at once. Default: false.
    show_first: Option<bool>,
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorLevel {
    /// It needs somebody.
    #[default]
    Error,
    /// It was coped with.
    Warning,
    /// It is good to know.
    Info,
    /// It helps to find a fault.
    Debug,
}

/// A line of the log for each look-up that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Which failures are counted and told together; the first that matches holds.
    pub consolidate: Vec<Consolidate>,
}

/// Failures that are counted and told together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consolidate {
    /// How often they are told.
    pub every: Duration,
    /// A valid regular expression.
    pub matching: String,
    /// How important the line is.
    pub level: ErrorLevel,
    /// Whether the first of each time is told at once.
    pub show_first: bool,
}

impl Check<'_> {
    /// What is written of errors under `key`, if anything.
    pub(in crate::config) fn errors(&mut self, given: Option<&ErrorsRule>, key: &str) -> Option<Errors> {
        let given = given?;
        let mut rules: Vec<&ConsolidateRule> = given.consolidate.iter().flatten().collect();
        self.at_most(&mut rules, limits::MAX_RULES, &format!("{key}.consolidate"));
        let consolidate = rules.iter().enumerate().map(|(i, rule)| {
            let at = format!("{key}.consolidate[{i}].every");
            Consolidate {
                every: self.span(&rule.every, limits::CONSOLIDATE, limits::CONSOLIDATE.default, &at),
                matching: rule.matching.as_ref().map_or_else(String::new, |text| text.0.0.clone()),
                level: rule.level.unwrap_or_default(),
                show_first: rule.show_first.unwrap_or(false),
            }
        });
        Some(Errors { consolidate: consolidate.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    fn load(errors: &str) -> Result<Option<Errors>, String> {
        let text = format!("zones:\n- match: [.]\n  forward: {{to: [10.0.0.1]}}\n  errors: {errors}\n");
        load_str("f", &text)
            .map(|loaded| loaded.config.zones[0].errors.clone())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn forms_that_are_accepted() {
        assert_eq!(load("~"), Ok(None));
        assert_eq!(load("{}"), Ok(Some(Errors::default())));
        assert_eq!(load("{stacktrace: true}"), Ok(Some(Errors::default())));
        let first = Consolidate {
            every: Duration::from_secs(10),
            matching: ".* i/o timeout$".to_owned(),
            level: ErrorLevel::Error,
            show_first: false,
        };
        let second = Consolidate { level: ErrorLevel::Warning, show_first: true, ..first.clone() };
        let text = r#"{consolidate: [{every: 10s, matching: ".* i/o timeout$"},
            {every: 10s, matching: ".* i/o timeout$", level: warning, showFirst: true}]}"#;
        assert_eq!(load(text), Ok(Some(Errors { consolidate: vec![first, second] })));
    }

    #[test]
    fn forms_that_are_not() {
        for (text, problem) in [
            ("{consolidate: [{every: 10s}]}", "f:4:26: zones[0].errors.consolidate[0]: \"matching\" is missing"),
            ("{consolidate: [{matching: x}]}", "f:4:26: zones[0].errors.consolidate[0]: \"every\" is missing"),
            (
                "{consolidate: [{every: 0s, matching: x}]}",
                "f:4:34: zones[0].errors.consolidate[0].every: 0s is out of range: must be between 1ms and 1d",
            ),
            (
                "{consolidate: [{every: 1s, matching: \"(\"}]}",
                "f:4:48: zones[0].errors.consolidate[0].matching: \"(\" is not",
            ),
            (
                "{consolidate: [{every: 1s, matching: x, level: warn}]}",
                "f:4:58: zones[0].errors.consolidate[0].level: \"warn\" is not valid; choose from: error, warning, info, debug",
            ),
        ] {
            let problems = load(text).unwrap_err();
            assert!(problems.starts_with(problem), "{text}: {problems}");
        }
    }
}
