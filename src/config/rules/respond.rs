//! `zones[].respond`: answers made of templates, as CoreDNS's template plugin makes them.
//!
//! What can be known of a template without a question is checked here: that it can be read, and that one without actions
//! is a record.

use regex_lite::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::hosts::fallthrough;
use super::{Class, Pattern, Rcode, RrType};
use crate::config::address::Name;
use crate::config::check::Check;
use crate::config::limits;
use crate::config::template::Template;
use crate::config::text::Text;
use crate::wire::presentation;
use crate::wire::question::{CLASS_IN, rtype};

/// One rule: which questions it answers, and what with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::config) struct Rule {
    /// The class of questions that are answered; ANY for all. Default: IN.
    class: Option<Text<Class>>,
    /// Their types; ANY for all. Default: all.
    types: Option<Vec<Text<RrType>>>,
    /// Their names are at or below these. Default: all of the zone.
    names: Option<Vec<Text<Name>>>,
    /// Regular expressions, of which one must match the name, in lower case and with its last dot. Default: all match.
    r#match: Option<Vec<Text<Pattern>>>,
    /// Records of the answer, in text, as templates. Default: none.
    answer: Option<Vec<String>>,
    /// Records of the authority section. Default: none.
    authority: Option<Vec<String>>,
    /// Records of the additional section. Default: none.
    additional: Option<Vec<String>>,
    /// The response code. Default: NOERROR.
    rcode: Option<Text<Rcode>>,
    /// An extended error that goes with it (RFC 8914). Default: none.
    ede: Option<Ede>,
    /// The names, with those below them, that go on to the next rule when no expression matches; others are SERVFAIL
    /// then. Default: ["."].
    fallthrough: Option<Vec<Text<Name>>>,
}

/// An extended error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ede {
    /// Its number, such as 15 for blocked.
    #[schemars(required, range(max = 65535))]
    code: Option<u64>,
    /// What is said beside it. Default: nothing.
    #[serde(default)]
    text: String,
}

/// Which questions are answered by templates, and what with. Domains are written like [`crate::config::Zone::names`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// The class; ANY for all.
    pub class: u16,
    /// The types; empty for all.
    pub types: Vec<u16>,
    /// Names at or below these.
    pub names: Vec<String>,
    /// Regular expressions of which one must match; empty when all names do.
    pub patterns: Vec<String>,
    /// Templates of records, by section.
    pub records: Records,
    /// The RCODE.
    pub rcode: u16,
    /// An extended error: code and text.
    pub error: Option<(u16, String)>,
    /// Names at or below these go on when no expression matches.
    pub fallthrough: Vec<String>,
}

/// Templates of the records of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Of the answer section.
    pub answer: Vec<String>,
    /// Of the authority section.
    pub authority: Vec<String>,
    /// Of the additional section.
    pub additional: Vec<String>,
}

impl Check<'_> {
    /// The rules of `key`, the respond of a zone of these names.
    pub(in crate::config) fn respond(&mut self, given: &[Rule], zone: &[String], key: &str) -> Vec<Respond> {
        let mut given: Vec<&Rule> = given.iter().collect();
        self.at_most(&mut given, limits::MAX_RULES, key);
        given.iter().enumerate().map(|(i, rule)| self.responding(rule, zone, &format!("{key}[{i}]"))).collect()
    }

    fn responding(&mut self, rule: &Rule, zone: &[String], key: &str) -> Respond {
        let mut types: Vec<u16> = rule.types.iter().flatten().map(|Text(RrType(number))| *number).collect();
        if rule.types.is_some() && types.is_empty() {
            self.problem(&format!("{key}.types"), "an empty list: the rule would answer nothing");
        }
        if types.contains(&rtype::ANY) {
            types.clear();
        }
        let mut patterns: Vec<String> = rule.r#match.iter().flatten().map(|Text(Pattern(text))| text.clone()).collect();
        self.at_most(&mut patterns, limits::MAX_RULES, &format!("{key}.match"));
        let groups = groups(&patterns);
        let mut section = |given: &Option<Vec<String>>, name: &str| {
            let texts = given.clone().unwrap_or_default();
            self.templates(&texts, &groups, &format!("{key}.{name}"));
            texts
        };
        let records = Records {
            answer: section(&rule.answer, "answer"),
            authority: section(&rule.authority, "authority"),
            additional: section(&rule.additional, "additional"),
        };
        Respond {
            class: rule.class.as_ref().map_or(CLASS_IN, |Text(Class(number))| *number),
            types,
            names: self.scope(&rule.names, zone, &format!("{key}.names")),
            patterns,
            records,
            rcode: rule.rcode.as_ref().map_or(0, |Text(Rcode(number))| *number),
            error: rule.ede.as_ref().and_then(|ede| Some((u16::try_from(ede.code?).ok()?, ede.text.clone()))),
            fallthrough: fallthrough(&rule.fallthrough),
        }
    }

    /// Reports templates that cannot be read, and such without actions that are no records.
    fn templates(&mut self, texts: &[String], groups: &[String], key: &str) {
        let mut texts: Vec<&String> = texts.iter().collect();
        self.at_most(&mut texts, limits::MAX_RULES, key);
        for (i, text) in texts.iter().enumerate() {
            let at = format!("{key}[{i}]");
            match Template::read(text, groups).map(|template| template.constant()) {
                Err(why) => self.problem(&at, format!("not a template: {why}")),
                Ok(None) => {}
                Ok(Some(record)) => match presentation::read(&record) {
                    Ok(Some(_)) => {}
                    Ok(None) => self.problem(&at, "not a record: it is empty"),
                    Err(why) => self.problem(&at, format!("not a record: {why}")),
                },
            }
        }
    }
}

/// The names of the groups of all expressions.
fn groups(patterns: &[String]) -> Vec<String> {
    let expressions = patterns.iter().filter_map(|pattern| Regex::new(pattern).ok());
    expressions.flat_map(|e| e.capture_names().flatten().map(str::to_owned).collect::<Vec<_>>()).collect()
}
