//! The rules of a zone that stand before its cache: they see each query, hits included, and each answer on its way to one
//! client. The order is that of CoreDNS's plugins: dns64, acl, any, loadbalance; then the cache.
//!
//! What such a zone keeps is marked, so that workers hand hits over as well. A zone without such rules pays for none.

use super::flight::Inner;
use super::local::Asked;
use super::local::acl::{self, Acl};
use super::local::any::any;
use super::local::balance::Balance;
use super::local::dns64::Dns64;
use super::local::whoami::whoami;
use super::lookup::Asker;
use super::{Miss, Outcome, Waiter, inside};
use crate::cache::entry::About;
use crate::cache::{Entry, Flags};
use crate::config::AclAction;
use crate::observe::coredns::cells::Plugin;
use crate::observe::metrics::DropReason;
use crate::observe::queries::Source;
use crate::observe::rules::AclVerdict;
use crate::sys::clock::Moment;
use crate::wire::header::Header;
use crate::wire::question::{Question, rtype};
use std::sync::Arc;

/// The rules.
#[derive(Default)]
pub struct Before {
    /// Who may ask what.
    pub acl: Option<Acl>,
    /// Is ANY answered with next to nothing (RFC 8482)?
    pub refuse_any: bool,
    /// Is every question answered with the client's own address?
    pub whoami: bool,
    /// Which IPv6 addresses are made of IPv4 ones.
    pub dns64: Option<Dns64>,
    /// In which order records are given.
    pub balance: Option<Arc<Balance>>,
}

/// What becomes of a query.
pub(super) enum Verdict {
    /// It goes on.
    Go(Miss),
    /// This is the answer.
    Settle(Miss, Outcome),
    /// There is none.
    Drop(Miss, DropReason),
}

impl Before {
    /// Judges `miss`, which asks `question` in the zone with this label.
    pub(super) fn judge(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        mut miss: Miss,
        question: &Question,
        zone: u16,
    ) -> Verdict {
        let now = inner.clock.now();
        let verdict = match &self.acl {
            None => AclAction::Allow,
            Some(acl) => {
                let verdict = acl.verdict(miss.client.ip(), question);
                inner.metrics.rules.acl(counted(verdict));
                verdict
            }
        };
        if verdict == AclAction::Drop {
            return Verdict::Drop(miss, DropReason::NotAllowed);
        }
        if let Some((rcode, code)) = acl::answer(verdict) {
            let error = Some((code, "by the rules of this zone".into()));
            let outcome =
                Outcome { plugin: Some(Plugin::Acl), ..Outcome::empty(rcode, error, Source::Refused, zone, now) };
            return Verdict::Settle(miss, outcome);
        }
        let asked = Asked { question, client: miss.client, proto: miss.proto };
        let made = match () {
            () if self.refuse_any && question.qtype() == rtype::ANY => {
                any(&asked).map(|message| (message, Plugin::Any))
            }
            () if self.whoami => whoami(&asked).map(|message| (message, Plugin::Whoami)),
            () => None,
        };
        if let Some((message, plugin)) = made {
            let outcome = Outcome {
                plugin: Some(plugin),
                ..Outcome::of(transient(&message, miss.flags, zone, now), Source::Local, now)
            };
            return Verdict::Settle(miss, outcome);
        }
        if self.balance.is_some() || self.dns64.as_ref().is_some_and(|dns64| dns64.wants(miss.client.ip(), question)) {
            let asker = Asker::of(&miss);
            let (rules, inner, question) = (Arc::clone(self), Arc::clone(inner), question.clone());
            let next = std::mem::replace(&mut miss.waiter, Box::new(Nobody));
            miss.waiter = Box::new(After { rules, inner, question, flags: miss.flags, asker, next });
        }
        Verdict::Go(miss)
    }
}

/// As what a verdict is counted.
fn counted(verdict: AclAction) -> AclVerdict {
    match verdict {
        AclAction::Allow => AclVerdict::Allowed,
        AclAction::Block => AclVerdict::Blocked,
        AclAction::Filter => AclVerdict::Filtered,
        AclAction::Drop => AclVerdict::Dropped,
    }
}

/// An entry that lives for one answer.
fn transient(message: &[u8], flags: Flags, zone: u16, now: Moment) -> Entry {
    let rcode = Header::read(message).map_or(0, |header| header.rcode());
    Entry::new(
        message,
        About { stored: now, lifetime: 0, rcode, negative: false, flags, ruled: true, zone, upstream: 0 },
    )
}

/// An answer's last steps on its way to a client.
struct After {
    rules: Arc<Before>,
    inner: Arc<Inner>,
    question: Question,
    flags: Flags,
    asker: Asker,
    next: Box<dyn Waiter>,
}

impl Waiter for After {
    fn answer(self: Box<Self>, outcome: &Outcome) {
        let wants = |dns64: &&Dns64| dns64.wants(self.asker.client.ip(), &self.question);
        if let Some(dns64) = self.rules.dns64.as_ref().filter(wants)
            && let Some(entry) = &outcome.entry
            && dns64.needs_a(entry.as_stored().message)
            && let Some(instead) = Dns64::instead(&self.question)
        {
            let (flags, asker) = (self.flags, self.asker);
            let inner = Arc::clone(&self.inner);
            let waiter = Box::new(Translated { aaaa: outcome.clone(), after: self });
            return inside::submit(&inner, inside::Question { question: &instead, flags, asker }, waiter);
        }
        self.arrange(outcome);
    }

    fn dismiss(self: Box<Self>) {
        self.next.dismiss();
    }
}

impl After {
    /// Puts records in order, and lets the client have them.
    fn arrange(self: Box<Self>, outcome: &Outcome) {
        let (Some(balance), Some(entry)) = (&self.rules.balance, &outcome.entry) else {
            return self.next.answer(outcome);
        };
        let message = balance.arrange(entry.as_stored().message.to_vec(), rand::random());
        let arranged = Outcome { entry: Some(Entry::new(&message, entry.about())), ..outcome.clone() };
        self.next.answer(&arranged);
    }
}

/// An answer without IPv6 addresses, for which IPv4 ones are being looked up.
struct Translated {
    aaaa: Outcome,
    after: Box<After>,
}

impl Waiter for Translated {
    fn answer(self: Box<Self>, a: &Outcome) {
        let Translated { aaaa, after } = *self;
        // "There is no address" would be kept by whoever asked, though nothing says so.
        if a.entry.is_none() {
            return after.arrange(a);
        }
        let messages = aaaa.message().zip(a.message());
        let made = after
            .rules
            .dns64
            .as_ref()
            .zip(messages)
            .and_then(|(dns64, (aaaa, a))| dns64.synthesise(&after.question, &aaaa, &a));
        let Some(message) = made else { return after.arrange(&aaaa) };
        let (now, zone) = (after.inner.clock.now(), aaaa.zone);
        after.inner.metrics.rules.translated.add(1);
        let entry = transient(&message, after.flags, zone, now);
        let (plugin, error) = (Some(Plugin::Dns64), a.error.clone());
        let outcome = Outcome { plugin, error, ..Outcome::of(entry, Source::Local, now) };
        after.arrange(&outcome);
    }

    fn dismiss(self: Box<Self>) {
        self.after.dismiss();
    }
}

/// Takes the place of a waiter that is being moved.
struct Nobody;

impl Waiter for Nobody {
    fn answer(self: Box<Self>, _: &Outcome) {}
}
