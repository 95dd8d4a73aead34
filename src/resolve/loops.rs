//! Questions of our own that come back: whether an upstream forwards to us shows when one of them arrives at our front.
//!
//! A probe asks for a name whose first label is 128 bits out of a cryptographic generator, so that nobody who has not
//! been asked can ask for it: a label that can be guessed lets any client feign a loop (CVE-2026-26018). Who sends probes,
//! when, and what follows from it is no matter of this file.

use crate::wire::question::{CLASS_IN, Question, rtype};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Octets of a label that tells a probe from all others, in hexadecimal.
const LABEL: usize = 32;

/// The probes that are out.
#[derive(Debug, Default)]
pub struct Probes {
    /// How many: while there are none, a miss costs one load more.
    out: AtomicUsize,
    list: Mutex<Vec<Out>>,
}

#[derive(Debug)]
struct Out {
    label: String,
    /// Who asked us for it.
    from: Option<IpAddr>,
}

/// A probe; taken back when dropped.
#[derive(Debug)]
pub struct Probe {
    probes: Arc<Probes>,
    label: String,
    question: Question,
}

impl Probes {
    /// A probe for the zone `zone` (as on the wire); `None` when that is too long for another label.
    pub fn send(self: &Arc<Probes>, zone: &[u8]) -> Option<Probe> {
        let mut label = String::with_capacity(LABEL);
        // Writing to a String cannot fail. The generator is seeded by the system.
        let _ = write!(label, "{:032x}", rand::random::<u128>());
        let name = [&[LABEL as u8], label.as_bytes(), zone].concat();
        // CoreDNS probes with HINFO, too: a type that nobody needs and everybody forwards.
        let question = Question::new(&name, rtype::HINFO, CLASS_IN)?;
        self.list().push(Out { label: label.clone(), from: None });
        self.out.fetch_add(1, Relaxed);
        Some(Probe { probes: Arc::clone(self), label, question })
    }

    /// Is `name` (lower-case, as on the wire), for which `client` asks, that of a probe?
    #[inline]
    pub fn heard(&self, name: &[u8], client: IpAddr) -> bool {
        self.out.load(Relaxed) != 0 && self.recognise(name, client)
    }

    #[cold]
    fn recognise(&self, name: &[u8], client: IpAddr) -> bool {
        let label = name.split_first().and_then(|(&length, rest)| rest.get(..usize::from(length)));
        let mut list = self.list();
        let probe = list.iter_mut().find(|probe| label == Some(probe.label.as_bytes()));
        probe.is_some_and(|probe| {
            probe.from.get_or_insert(client);
            true
        })
    }

    fn list(&self) -> MutexGuard<'_, Vec<Out>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe {
    /// What to ask.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Who asked us for it, if anybody has.
    pub fn heard_from(&self) -> Option<IpAddr> {
        self.probes.list().iter().find(|probe| probe.label == self.label)?.from
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.probes.list().retain(|probe| probe.label != self.label);
        self.probes.out.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::question::to_wire;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));

    #[test]
    fn d23_a_probe_is_recognised_while_it_is_out_and_nothing_else_is() {
        let probes = Arc::<Probes>::default();
        let probe = probes.send(&to_wire("corp.example")).unwrap();
        let name = probe.question().name().to_vec();
        assert_eq!((name.len(), &name[1 + LABEL..]), (1 + LABEL + 14, &to_wire("corp.example")[..]));
        assert_eq!(probe.heard_from(), None);
        let other = to_wire("0123456789abcdef0123456789abcdef.corp.example");
        for stranger in [&other, &to_wire("corp.example"), &[0; 1][..], &[], &[63, 1]] {
            assert!(!probes.heard(stranger, CLIENT), "{stranger:?}");
        }
        assert_eq!(probe.heard_from(), None);
        assert!(probes.heard(&name, CLIENT));
        // A forwarder may ask more than once, and from elsewhere.
        assert!(probes.heard(&name, IpAddr::from([10, 0, 0, 11])));
        assert_eq!(probe.heard_from(), Some(CLIENT));
        drop(probe);
        assert!(!probes.heard(&name, CLIENT), "it is out no more");
    }

    #[test]
    fn d23_each_probe_has_a_name_of_its_own_below_its_zone() {
        let probes = Arc::<Probes>::default();
        let sent: Vec<Probe> = (0..100).map(|_| probes.send(&[0]).unwrap()).collect();
        let names: std::collections::BTreeSet<&[u8]> = sent.iter().map(|probe| probe.question().name()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name[1..=LABEL].iter().all(u8::is_ascii_hexdigit) && name.len() == LABEL + 2));
        assert!(probes.heard(sent[42].question().name(), CLIENT));
        let heard = sent.iter().filter(|probe| probe.heard_from().is_some()).count();
        assert_eq!(heard, 1);
        drop(sent);
        assert_eq!(probes.out.load(Relaxed), 0);
        // 255 octets are all that a name may have.
        let long = |label: usize| to_wire(&format!("{}.{}", vec!["x".repeat(53); 4].join("."), "y".repeat(label)));
        assert_eq!(long(4).len() + 1 + LABEL, 255);
        assert!(probes.send(&long(4)).is_some() && probes.send(&long(5)).is_none());
    }
}
