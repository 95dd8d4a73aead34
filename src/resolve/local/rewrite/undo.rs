//! What makes the answer to a rewritten question an answer to the client's: its question, and what rules say of names,
//! TTLs and the response code, undone from the last rule to the first.

use super::pattern::Substitution;
use crate::wire::header::{self, Header};
use crate::wire::message::Message;
use crate::wire::presentation;
use crate::wire::question::{DisplayName, Question, rtype};
use crate::wire::record::Section;
use crate::wire::rr::Rr;
use std::sync::Arc;

/// How an answer becomes one to the client's question.
#[derive(Debug)]
pub struct Undo {
    /// What was looked up.
    question: Question,
    /// In the order of the rules.
    reversals: Vec<Reversal>,
}

/// One change of an answer.
#[derive(Clone, Debug)]
pub(super) enum Reversal {
    /// Of the names that records stand at.
    Owners(Arc<Substitution>),
    /// Of the names that records lead to.
    Targets(Arc<Substitution>),
    /// TTLs are brought between these.
    Ttl { min: u32, max: u32 },
    /// One response code becomes another.
    Rcode { from: u16, to: u16 },
    /// A CNAME leads elsewhere.
    Cname(Arc<Substitution>),
}

/// An answer to the client's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The message.
    pub message: Vec<u8>,
    /// The whole RCODE.
    pub rcode: u16,
}

/// An answer that cannot be changed: it is malformed, or too long afterwards. The client's is SERVFAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer to the rewritten question cannot be changed back")]
pub struct Unwritable;

impl Reversal {
    /// Of owners and of what records lead to.
    pub(super) fn both(substitution: Substitution) -> [Reversal; 2] {
        let substitution = Arc::new(substitution);
        [Reversal::Owners(Arc::clone(&substitution)), Reversal::Targets(substitution)]
    }
}

impl Undo {
    pub(super) fn new(question: Question, reversals: Vec<Reversal>) -> Undo {
        Undo { question, reversals }
    }

    /// What else must be looked up: the name that a CNAME of `answer` is led to by a rule. The answer to it belongs to
    /// [`Undo::restore`].
    pub fn more(&self, answer: &[u8]) -> Option<Question> {
        if !self.reversals.iter().any(|reversal| matches!(reversal, Reversal::Cname(_))) {
            return None;
        }
        let (_, name) = self.led_elsewhere(&Message::read(answer)?)?;
        Question::new(&name, self.question.qtype(), self.question.qclass())
    }

    /// The first CNAME in the answer section that a rule leads elsewhere, and where to.
    fn led_elsewhere(&self, message: &Message) -> Option<(usize, Vec<u8>)> {
        let rules = self.reversals.iter().rev().filter_map(|reversal| match reversal {
            Reversal::Cname(substitution) => Some(substitution),
            _ => None,
        });
        let answer = message.section(Section::Answer).iter().enumerate();
        let aliases: Vec<(usize, String)> = answer
            .filter(|(_, rr)| rr.rtype == rtype::CNAME)
            .filter_map(|(i, rr)| Some((i, DisplayName(rr.target()?).to_string())))
            .collect();
        rules.into_iter().find_map(|rule| {
            aliases.iter().find_map(|(i, target)| Some((*i, presentation::name(&rule.apply(target)?).ok()?)))
        })
    }

    /// What becomes of a response code, that of a failure without a message too.
    pub fn rcode(&self, rcode: u16) -> u16 {
        self.reversals.iter().rev().fold(rcode, |rcode, reversal| match reversal {
            Reversal::Rcode { from, to } if rcode == *from => *to,
            _ => rcode,
        })
    }

    /// Makes of `answer`, whose whole RCODE is `rcode`, the answer to `asked`. `more` is what was answered to the question of
    /// [`Undo::more`]; without it a CNAME stays as it is.
    ///
    /// # Errors
    /// The answer is malformed, or too long with the names that it gets back.
    pub fn restore(
        &self,
        answer: Vec<u8>,
        rcode: u16,
        asked: &Question,
        more: Option<&[u8]>,
    ) -> Result<Restored, Unwritable> {
        let mut message = Message::read(&answer).ok_or(Unwritable)?;
        if let Some(more) = more.and_then(Message::read)
            && let Some((at, name)) = self.led_elsewhere(&message)
        {
            lead_elsewhere(&mut message, at, &name, more);
        }
        for reversal in self.reversals.iter().rev() {
            let records = message.sections.iter_mut().flatten();
            match reversal {
                Reversal::Cname(_) | Reversal::Rcode { .. } => {}
                Reversal::Ttl { min, max } => records.for_each(|rr| rr.ttl = rr.ttl.clamp(*min, *max)),
                Reversal::Owners(substitution) => records.for_each(|rr| {
                    if let Some(name) = changed(substitution, &rr.owner) {
                        rr.owner = name;
                    }
                }),
                Reversal::Targets(substitution) => records.for_each(|rr| retarget(rr, substitution)),
            }
        }
        let rcode = self.rcode(rcode);
        asked.as_bytes().clone_into(&mut message.question);
        message.header.flags = message.header.flags & !header::RCODE | rcode & header::RCODE;
        Ok(Restored { message: message.write().ok_or(Unwritable)?, rcode })
    }
}

/// Has the CNAME at `at` lead to `name`, and the records of `more` follow it; what followed before is gone.
fn lead_elsewhere(message: &mut Message, at: usize, name: &[u8], mut more: Message) {
    let answer = message.section_mut(Section::Answer);
    answer.truncate(at + 1);
    answer.retain(|rr| rr.rtype == rtype::CNAME);
    if let Some(alias) = answer.last_mut() {
        alias.set_target(name);
    }
    answer.append(more.section_mut(Section::Answer));
    let truncated = |header: &Header| header.flags & header::TC;
    message.header.flags = message.header.flags & !header::TC | truncated(&more.header);
}

/// What `substitution` makes of a wire name, if it makes another name of it.
fn changed(substitution: &Substitution, name: &[u8]) -> Option<Vec<u8>> {
    presentation::name(&substitution.apply(&DisplayName(name).to_string())?).ok()
}

/// Changes the name that a record leads to, in the types in which rules may.
fn retarget(rr: &mut Rr, substitution: &Substitution) {
    use rtype::{CNAME, DNAME, MX, NAPTR, NS, PTR, SOA, SRV};
    if matches!(rr.rtype, SRV | MX | CNAME | NS | DNAME | NAPTR | SOA | PTR)
        && let Some(name) = rr.target().and_then(|name| changed(substitution, name))
    {
        rr.set_target(&name);
    }
}
