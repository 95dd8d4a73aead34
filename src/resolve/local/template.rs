//! Answers made of templates: the zone's key `respond`, CoreDNS's plugin template.
//!
//! Rules are tried in order. One of another class, type or zone is passed over. Where a name fits a rule's zone and none of
//! its expressions, the next rule is tried if `fallthrough` allows it, and otherwise the answer is SERVFAIL. What a client's
//! question makes of a template may be no record: that is SERVFAIL, too, and counted. The language is `config::template`.

mod counts;
#[cfg(test)]
mod tests;

pub use counts::{Counts, Failure, Match};

use super::{Answers, Asked, Said};
use crate::config;
use crate::config::template::{Facts, Malformed, Template};
use crate::observe::coredns::cells::Plugin;
use crate::wire::header::rcode;
use crate::wire::mnemonic::{CLASSES, TYPES, name_in};
use crate::wire::presentation;
use crate::wire::question::{is_within, rtype, to_wire};
use crate::wire::rr::{Rr, response};
use regex_lite::Regex;
use std::sync::Arc;

/// Matches and stands for everything, as class and as type.
const ANY: u16 = 255;

/// Why rules cannot be used; the check of the configuration finds it first.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An expression cannot be read.
    #[error("cannot read the expression {0}: {1}")]
    Pattern(String, regex_lite::Error),
    /// A template cannot be read.
    #[error("cannot read the template {0}: {1}")]
    Template(String, Malformed),
}

/// The rules of one zone, in order.
pub struct Templates {
    rules: Vec<Rule>,
    counts: Arc<Counts>,
}

/// Which questions are answered, and what with.
struct Rule {
    class: u16,
    types: Vec<u16>,
    /// As on the wire, and in text with the last dot.
    zones: Vec<(Box<[u8]>, String)>,
    patterns: Vec<Regex>,
    /// Answer, authority, additional.
    records: [Vec<Text>; 3],
    rcode: u16,
    error: Option<(u16, Arc<str>)>,
    fallthrough: Vec<Box<[u8]>>,
}

/// A template and its text, by which metrics name it.
struct Text {
    template: Template,
    text: Arc<str>,
}

/// Names of the sections, in the order of the message, as CoreDNS's metrics have them.
const SECTIONS: [&str; 3] = ["answer", "authority", "additional"];

impl Templates {
    /// The rules that the configuration says, counted in `counts`.
    ///
    /// # Errors
    /// When an expression or a template cannot be read.
    pub fn new(rules: &[config::Respond], counts: Arc<Counts>) -> Result<Templates, Error> {
        let rules: Result<Vec<Rule>, Error> = rules.iter().map(Rule::new).collect();
        Ok(Templates { rules: rules?, counts })
    }
}

impl Answers for Templates {
    fn answer(&self, asked: &Asked<'_>) -> Said {
        let name = presentation::written(asked.question.name());
        for rule in &self.rules {
            let Some(zone) = rule.zone(asked) else { continue };
            let Some(captured) = rule.captured(&name) else {
                if rule.fallthrough.iter().any(|zone| is_within(asked.question.name(), zone)) {
                    continue;
                }
                return fail("the name fits no expression of its rule");
            };
            let facts = rule.facts(asked, zone, &name, captured);
            self.counts.matched(&facts);
            return rule.say(asked, &facts, &self.counts);
        }
        Said::Next
    }

    fn plugin(&self) -> Plugin {
        Plugin::Template
    }
}

fn fail(why: &str) -> Said {
    Said::Fail { rcode: rcode::SERVFAIL, why: why.into() }
}

/// What an expression has matched: whole and by group, and by the groups' names and numbers.
type Captured = (Vec<String>, Vec<(String, String)>);

impl Rule {
    fn new(rule: &config::Respond) -> Result<Rule, Error> {
        let patterns: Result<Vec<Regex>, Error> =
            rule.patterns.iter().map(|p| Regex::new(p).map_err(|e| Error::Pattern(p.clone(), e))).collect();
        let patterns = patterns?;
        let groups = patterns.iter().flat_map(|p| p.capture_names().flatten().map(str::to_owned).collect::<Vec<_>>());
        let groups: Vec<String> = groups.collect();
        let section = |texts: &[String]| -> Result<Vec<Text>, Error> {
            let read = |text: &String| match Template::read(text, &groups) {
                Ok(template) => Ok(Text { template, text: text.as_str().into() }),
                Err(why) => Err(Error::Template(text.clone(), why)),
            };
            texts.iter().map(read).collect()
        };
        let absolute = |name: &String| if name == "." { name.clone() } else { format!("{name}.") };
        let config::Records { answer, authority, additional } = &rule.records;
        Ok(Rule {
            class: rule.class,
            types: rule.types.clone(),
            zones: rule.names.iter().map(|name| (to_wire(name).into(), absolute(name))).collect(),
            records: [section(answer)?, section(authority)?, section(additional)?],
            rcode: rule.rcode,
            error: rule.error.as_ref().map(|(code, text)| (*code, text.as_str().into())),
            fallthrough: rule.fallthrough.iter().map(|name| to_wire(name).into()).collect(),
            patterns,
        })
    }

    /// The smallest of the rule's zones that the question is in, in text, if it is of the rule's class and type.
    fn zone(&self, asked: &Asked<'_>) -> Option<&str> {
        let question = asked.question;
        let class = self.class == ANY || question.qclass() == ANY || question.qclass() == self.class;
        let rtype = self.types.is_empty() || question.qtype() == ANY || self.types.contains(&question.qtype());
        let within = self.zones.iter().filter(|(zone, _)| class && rtype && is_within(question.name(), zone));
        within.max_by_key(|(zone, _)| zone.len()).map(|(_, text)| text.as_str())
    }

    /// What the first expression that matches `name` has matched.
    fn captured(&self, name: &str) -> Option<Captured> {
        if self.patterns.is_empty() {
            return Some((vec![name.to_owned()], vec![("0".to_owned(), name.to_owned())]));
        }
        let (pattern, captures) = self.patterns.iter().find_map(|p| Some((p, p.captures(name)?)))?;
        let text = |group: Option<regex_lite::Match<'_>>| group.map_or(String::new(), |m| m.as_str().to_owned());
        let matches: Vec<String> = captures.iter().map(text).collect();
        let named = pattern
            .capture_names()
            .enumerate()
            .filter_map(|(i, name)| Some((name?.to_owned(), matches.get(i)?.clone())));
        let numbered = matches.iter().enumerate().map(|(i, text)| (i.to_string(), text.clone()));
        let mut groups: Vec<(String, String)> = numbered.chain(named).collect();
        groups.sort();
        Some((matches, groups))
    }

    fn facts(&self, asked: &Asked<'_>, zone: &str, name: &str, (matches, groups): Captured) -> Facts {
        let (qtype, qclass) = (asked.question.qtype(), asked.question.qclass());
        // To a question for everything a rule for one thing answers with that.
        let rtype = if qtype == ANY { self.types.first().copied().unwrap_or(ANY) } else { qtype };
        let class = if qclass == ANY { self.class } else { qclass };
        Facts {
            zone: zone.to_owned(),
            name: name.to_owned(),
            class: name_in(&CLASSES, class).unwrap_or_default().to_owned(),
            rtype: name_in(&TYPES, rtype).unwrap_or_default().to_owned(),
            matches,
            groups,
            remote: asked.client.ip().to_canonical().to_string(),
            qtype,
            qclass,
        }
    }

    fn say(&self, asked: &Asked<'_>, facts: &Facts, counts: &Counts) -> Said {
        if self.rcode == rcode::SERVFAIL {
            return fail("a rule says so");
        }
        let mut sections: [Vec<Rr>; 3] = Default::default();
        for ((section, texts), records) in SECTIONS.into_iter().zip(&self.records).zip(&mut sections) {
            for Text { template, text } in texts {
                let rendered = match template.render(facts) {
                    Ok(rendered) => rendered,
                    Err(why) => {
                        counts.failed(facts, section, text, false);
                        return fail(&format!("a template of the {section} section: {why}"));
                    }
                };
                match presentation::read(&rendered) {
                    Ok(record) => records.extend(record),
                    Err(why) => {
                        counts.failed(facts, section, text, true);
                        return fail(&format!("what a template of the {section} section gives is no record: {why}"));
                    }
                }
            }
        }
        let [answer, authority, additional] = &sections;
        match response(asked.question, self.rcode, true, [answer, authority, additional]) {
            Some(message) => {
                Said::Answer { message, error: self.error.clone(), chase: chase(asked.question.qtype(), answer) }
            }
            None => fail("the records of templates do not fit a message"),
        }
    }
}

/// Where the answer leads if it ends in a CNAME and addresses are wanted.
fn chase(qtype: u16, answer: &[Rr]) -> Option<Vec<u8>> {
    let last = answer.last().filter(|rr| rr.rtype == rtype::CNAME && matches!(qtype, rtype::A | rtype::AAAA))?;
    let target = last.rdata.to_ascii_lowercase();
    let there = |rr: &Rr| rr.rtype == qtype && rr.owner.eq_ignore_ascii_case(&target);
    (!answer.iter().any(there)).then_some(target)
}
