//! `zones[].log`: a line of the log for each query, as CoreDNS's plugin log writes it.
//!
//! What the lines look like is decided in `observe::querylog`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::address::Name;
use crate::config::check::Check;
use crate::config::limits;
use crate::config::problem::quoted;
use crate::config::text::Text;
use crate::observe::querylog::{COMMON, Format};

/// A line of the log for each query.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct LogRule {
    /// The names, with those below them, that it is for. Default: all of the zone.
    names: Option<Vec<Text<Name>>>,
    /// Which answers are logged. Default: all.
    classes: Option<Vec<LogClass>>,
    /// What a line looks like: text with placeholders such as {name}, or {common} or {combined}. Default: {common}.
    format: Option<String>,
}

/// Which answers are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogClass {
    /// All.
    All,
    /// Those with data, and delegations.
    Success,
    /// NXDOMAIN and answers without data.
    Denial,
    /// All else, such as SERVFAIL and REFUSED.
    Error,
}

/// A line of the log for each query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLog {
    /// The names, with those below them, that it is for, written like [`crate::config::Zone::names`]; empty for all.
    pub names: Vec<String>,
    /// Which answers are logged, at least one class.
    pub classes: Vec<LogClass>,
    /// What a line looks like.
    pub format: String,
}

impl Check<'_> {
    /// The query log that is written under `key`, if any.
    pub(in crate::config) fn query_log(&mut self, given: Option<&LogRule>, key: &str) -> Option<QueryLog> {
        let given = given?;
        let mut names: Vec<String> = given.names.iter().flatten().map(|text| text.0.0.clone()).collect();
        self.at_most(&mut names, limits::MAX_RULES, &format!("{key}.names"));
        if given.names.is_some() && names.is_empty() {
            self.problem(&format!("{key}.names"), "an empty list: nothing would be logged");
        }
        let classes = given.classes.clone().unwrap_or_else(|| vec![LogClass::All]);
        if classes.is_empty() {
            self.problem(&format!("{key}.classes"), "an empty list: nothing would be logged");
        }
        let format = given.format.clone().unwrap_or_else(|| COMMON.to_owned());
        let at = format!("{key}.format");
        if format.is_empty() || format.len() > limits::MAX_LOG_FORMAT {
            self.problem(&at, format!("must have from 1 to {} octets", limits::MAX_LOG_FORMAT));
        } else if let Some(unknown) = Format::parse(&format).1.first() {
            let message = format!("{} is no placeholder: it will be logged as it stands", quoted(unknown));
            self.warning(&at, message);
        }
        Some(QueryLog { names, classes, format })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    fn load(log: &str) -> Result<(Option<QueryLog>, Vec<String>), String> {
        let text = format!("zones:\n- match: [.]\n  forward: {{to: [10.0.0.1]}}\n  log: {log}\n");
        let loaded = load_str("f", &text).map_err(|problems| problems.to_string())?;
        let warnings = loaded.warnings.0.iter().map(ToString::to_string).collect();
        Ok((loaded.config.zones[0].log.clone(), warnings))
    }

    #[test]
    fn forms_that_are_accepted() {
        assert_eq!(load("~"), Ok((None, Vec::new())));
        let all = QueryLog { names: Vec::new(), classes: vec![LogClass::All], format: COMMON.to_owned() };
        assert_eq!(load("{}"), Ok((Some(all), Vec::new())));
        let some = QueryLog {
            names: vec!["example.org".to_owned()],
            classes: vec![LogClass::Denial, LogClass::Error],
            format: "{remote} {/metadata}".to_owned(),
        };
        let text = r#"{names: [Example.org.], classes: [denial, error], format: "{remote} {/metadata}"}"#;
        assert_eq!(load(text), Ok((Some(some), Vec::new())));
    }

    #[test]
    fn forms_that_are_not() {
        for (text, problem) in [
            ("{names: []}", "f:4:9: zones[0].log.names: an empty list: nothing would be logged"),
            ("{classes: []}", "f:4:9: zones[0].log.classes: an empty list: nothing would be logged"),
            (
                "{classes: [denied]}",
                "f:4:19: zones[0].log.classes[0]: \"denied\" is not valid; did you mean \"denial\"?",
            ),
            ("{class: all}", "f:4:9: zones[0].log.class: unknown key; did you mean \"classes\"?"),
            ("{format: \"\"}", "f:4:17: zones[0].log.format: must have from 1 to 1024 octets"),
            ("{names: [a..b]}", "f:4:17: zones[0].log.names[0]: "),
        ] {
            let problems = load(text).unwrap_err();
            assert!(problems.starts_with(problem), "{text}: {problems}");
        }
        let warning = "f:4:17: zones[0].log.format: \"{nmae}\" is no placeholder: it will be logged as it stands";
        assert_eq!(load(r#"{format: "{nmae} {name}"}"#).unwrap().1, [warning]);
    }
}
