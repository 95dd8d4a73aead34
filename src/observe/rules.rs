//! What the rules of zones did that alter, refuse or translate, counted for the whole process.

use super::cells::Counter;
use super::queries::{Label, labels};
use super::sink::FamilySink;

labels! {
    /// What became of a query that an access rule was asked about.
    AclVerdict {
        /// It was answered.
        Allowed = "allow",
        /// It was refused.
        Blocked = "block",
        /// It was answered by nothing.
        Filtered = "filter",
        /// It was not answered.
        Dropped = "drop",
    }
}

labels! {
    /// What became of a question that a rule has rewritten.
    Rewriting {
        /// Another one was looked up, and its answer changed back.
        Done = "done",
        /// The new name is none.
        InvalidName = "invalid_name",
        /// The answer could not be changed back.
        Unwritable = "unwritable",
    }
}

/// The counts.
#[derive(Debug, Default)]
pub struct RuleCounts {
    /// Answers with addresses that were made of IPv4 ones.
    pub translated: Counter,
    acl: [Counter; AclVerdict::ALL.len()],
    rewritten: [Counter; Rewriting::ALL.len()],
}

impl RuleCounts {
    /// Counts a verdict.
    pub fn acl(&self, verdict: AclVerdict) {
        self.acl[verdict.index()].add(1);
    }

    /// Counts a question that a rule has rewritten.
    pub fn rewritten(&self, outcome: Rewriting) {
        self.rewritten[outcome.index()].add(1);
    }

    /// Adds the samples that are not zero: most configurations have no such rules.
    pub(super) fn collect(&self, sink: &mut FamilySink) {
        let help = "AAAA questions answered by addresses made of IPv4 ones.";
        if self.translated.get() > 0 {
            sink.counter("nodens_dns64_translated_total", help, &[], self.translated.get());
        }
        let help = "Queries that access rules were asked about, by what became of them.";
        for &verdict in AclVerdict::ALL {
            let n = self.acl[verdict.index()].get();
            if n > 0 {
                sink.counter("nodens_acl_queries_total", help, &[("action", verdict.name())], n);
            }
        }
        let help = "Questions that rules have rewritten, by what became of them.";
        for &outcome in Rewriting::ALL {
            let n = self.rewritten[outcome.index()].get();
            if n > 0 {
                sink.counter("nodens_rewrites_total", help, &[("outcome", outcome.name())], n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::observe::metrics::Metrics;
    use crate::observe::rules::{AclVerdict, Rewriting};

    #[test]
    fn what_rules_did_is_told_and_what_they_did_not_is_not() {
        let metrics = Metrics::new();
        assert!(!metrics.gather().contains("acl"));
        metrics.rules.acl(AclVerdict::Filtered);
        metrics.rules.acl(AclVerdict::Filtered);
        metrics.rules.rewritten(Rewriting::InvalidName);
        metrics.rules.translated.add(3);
        let page = metrics.gather();
        for line in [
            "nodens_acl_queries_total{action=\"filter\"} 2\n",
            "nodens_rewrites_total{outcome=\"invalid_name\"} 1\n",
            "nodens_dns64_translated_total 3\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
    }
}
