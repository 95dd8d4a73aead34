//! `zones[].rewrite`: rules in the order of the file, each of which may ask for another name, type or class, add EDNS
//! options to the query that goes upstream, or change what comes back. The first that applies ends the search, unless it
//! says to go on.
//!
//! What a rule means is what it means to CoreDNS's plugin of the same name: names are compared as text in lower case, an
//! `exact` rule changes names in the answer back, and what several rules did is undone from the last to the first. Each
//! client gets its own question back, whatever was asked. Options of an upstream's reply never reach clients, and a
//! client's never reach the upstream: `edns0` rules start from none, and there is nothing to revert.

mod options;
mod pattern;
mod undo;

pub use undo::{Restored, Undo, Unwritable};

use super::Asked;
use crate::config::{self, Action, Change, EdnsOption};
use crate::wire::presentation;
use crate::wire::question::{DisplayName, Question};
use pattern::{Pattern, Substitution};
use std::net::SocketAddr;
use std::sync::Arc;
use undo::Reversal;

/// The rules of a zone.
#[derive(Debug)]
pub struct Rewrites(Vec<Rule>);

/// A rule, and whether those behind it are tried when it applies.
#[derive(Debug)]
struct Rule {
    go_on: bool,
    does: Does,
}

/// What a rule does.
#[derive(Debug)]
enum Does {
    Name {
        pattern: Pattern,
        to: String,
        auto: bool,
        reversals: Vec<Reversal>,
    },
    Type {
        from: u16,
        to: u16,
    },
    Class {
        from: u16,
        to: u16,
    },
    Option {
        action: Action,
        option: EdnsOption,
    },
    /// Nothing to the question; this to the answer, where the name fits.
    Answer {
        pattern: Option<Pattern>,
        reversal: Reversal,
    },
}

/// A question that is looked up instead of the client's.
#[derive(Debug)]
pub struct Rewritten {
    /// The question.
    pub question: Question,
    /// The EDNS options that go with it: code and data.
    pub options: Vec<(u16, Vec<u8>)>,
    /// How the answer becomes one to the client's question.
    pub undo: Undo,
}

/// Why a question cannot be rewritten: the answer is SERVFAIL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid name after rewrite: {0}")]
pub struct InvalidName(pub String);

/// A rule whose regular expression cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("rewrite: the regular expression {0:?} cannot be used: {1}; write another one")]
pub struct InvalidPattern(pub String, #[source] pub regex_lite::Error);

impl Rewrites {
    /// The rules that the configuration has.
    ///
    /// # Errors
    /// A regular expression is none; the configuration's check lets none such through.
    pub fn new(rules: &[config::Rewrite]) -> Result<Rewrites, InvalidPattern> {
        let compile = |rule: &config::Rewrite| Ok(Rule { go_on: rule.go_on, does: Does::new(&rule.change)? });
        Ok(Rewrites(rules.iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// What is to be looked up instead of what is asked, which came to the address `server`; `None` when no rule applies.
    ///
    /// # Errors
    /// What a rule makes of the name is no name.
    pub fn request(&self, asked: &Asked<'_>, server: Option<SocketAddr>) -> Result<Option<Rewritten>, InvalidName> {
        let mut now = Now {
            name: DisplayName(asked.question.name()).to_string(),
            question: asked.question.clone(),
            options: Vec::new(),
        };
        let (mut reversals, mut applied) = (Vec::new(), false);
        for rule in &self.0 {
            if !rule.does.apply(&mut now, &mut reversals, asked, server)? {
                continue;
            }
            applied = true;
            if !rule.go_on {
                break;
            }
        }
        let Now { question, options, .. } = now;
        let undo = Undo::new(question.clone(), reversals);
        Ok(applied.then_some(Rewritten { question, options, undo }))
    }
}

/// The question as the rules so far have made it.
struct Now {
    /// Its name as text.
    name: String,
    question: Question,
    options: Vec<(u16, Vec<u8>)>,
}

impl Does {
    fn new(change: &Change) -> Result<Does, InvalidPattern> {
        Ok(match change {
            Change::Name { kind, from, to, auto, owners, targets } => {
                let mut reversals = Vec::new();
                let pattern = Pattern::new(*kind, from)?;
                // Of a suffix it is known without the question what it was: names beside the one asked for are changed too.
                let suffix = (*auto && *kind == config::Kind::Suffix).then(|| Substitution::suffix(to, from));
                reversals.extend(suffix.into_iter().flat_map(Reversal::both));
                for (from, to) in owners {
                    reversals.push(Reversal::Owners(Arc::new(Substitution::regex(from, to)?)));
                }
                for (from, to) in targets {
                    reversals.push(Reversal::Targets(Arc::new(Substitution::regex(from, to)?)));
                }
                let auto = *auto && *kind != config::Kind::Suffix;
                Does::Name { pattern, to: to.clone(), auto, reversals }
            }
            Change::Type { from, to } => Does::Type { from: *from, to: *to },
            Change::Class { from, to } => Does::Class { from: *from, to: *to },
            Change::Edns0 { action, option } => Does::Option { action: *action, option: option.clone() },
            Change::Ttl { kind, name, min, max } => {
                let reversal = Reversal::Ttl { min: *min, max: *max };
                Does::Answer { pattern: Some(Pattern::new(*kind, name)?), reversal }
            }
            Change::Rcode { kind, name, from, to } => {
                let reversal = Reversal::Rcode { from: *from, to: *to };
                Does::Answer { pattern: Some(Pattern::new(*kind, name)?), reversal }
            }
            Change::Cname { kind, from, to } => {
                let substitution = Substitution { pattern: Pattern::new(*kind, from)?, to: to.clone() };
                Does::Answer { pattern: None, reversal: Reversal::Cname(Arc::new(substitution)) }
            }
        })
    }

    /// Whether the rule applies; if so, `now` and `reversals` are as it wants them.
    fn apply(
        &self,
        now: &mut Now,
        reversals: &mut Vec<Reversal>,
        asked: &Asked<'_>,
        server: Option<SocketAddr>,
    ) -> Result<bool, InvalidName> {
        let (qtype, qclass) = (now.question.qtype(), now.question.qclass());
        Ok(match self {
            Does::Name { pattern, to, auto, reversals: fixed } => {
                let Some(new) = pattern.replace(&now.name, to) else { return Ok(false) };
                let question = presentation::name(&new).ok().and_then(|name| Question::new(&name, qtype, qclass));
                now.question = question.ok_or(InvalidName(new))?;
                let old = std::mem::replace(&mut now.name, DisplayName(now.question.name()).to_string());
                if *auto {
                    reversals.extend(Reversal::both(Substitution::name(&now.name, &old)));
                }
                reversals.extend(fixed.iter().cloned());
                true
            }
            Does::Type { from, to } => qtype == *from && now.retype(*to, qclass),
            Does::Class { from, to } => qclass == *from && now.retype(qtype, *to),
            Does::Option { action, option } => {
                options::apply(*action, option, &now.name, qtype, asked, server, &mut now.options)
            }
            Does::Answer { pattern, reversal } => {
                let fits = pattern.as_ref().is_none_or(|pattern| pattern.matches(&now.name));
                if fits {
                    reversals.push(reversal.clone());
                }
                fits
            }
        })
    }
}

impl Now {
    /// Asks for another type or class of the same name.
    fn retype(&mut self, qtype: u16, qclass: u16) -> bool {
        let question = Question::new(self.question.name(), qtype, qclass);
        question.is_some_and(|question| {
            self.question = question;
            true
        })
    }
}

#[cfg(test)]
mod tests;
