//! How the zones' own answers do, on the metrics page: the hosts files as they are, and what templates did.

use super::Rules;
use crate::observe::sink::FamilySink;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

impl Rules {
    /// Writes them to `sink`.
    pub(in crate::app) fn report(&self, sink: &mut FamilySink) {
        self.report_files(sink);
        let mut matches: BTreeMap<String, u64> = BTreeMap::new();
        for (matched, count) in self.counts.matches() {
            *matches.entry(matched.zone).or_default() += count;
        }
        for (zone, count) in matches {
            let help = "Questions that a rule of respond took.";
            sink.counter("nodens_respond_matches_total", help, &[("zone", &zone)], count);
        }
        for (failure, count) in self.counts.failures() {
            let reason = if failure.record { "record" } else { "template" };
            let labels = [("zone", failure.question.zone.as_str()), ("section", failure.section), ("reason", reason)];
            let help = "Questions that failed because a template gave no text, or none that is a record.";
            sink.counter("nodens_respond_failures_total", help, &labels, count);
        }
    }

    /// Each file once, however many zones read it: with the most that is told of it.
    fn report_files(&self, sink: &mut FamilySink) {
        let mut files: BTreeMap<String, [f64; 4]> = BTreeMap::new();
        for hosts in self.hosts() {
            for status in hosts.files() {
                let changed = status.changed.and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
                let values = [
                    status.entries as f64,
                    status.skipped as f64,
                    f64::from(u8::from(status.failing)),
                    changed.map_or(0.0, |since| since.as_secs_f64()),
                ];
                let known = files.entry(status.path.display().to_string()).or_default();
                known.iter_mut().zip(values).for_each(|(known, value)| *known = known.max(value));
            }
        }
        for (file, [entries, skipped, failing, changed]) in &files {
            let labels = [("file", file.as_str())];
            let help = "Names and addresses of a hosts file, and of the entries beside it, both ways.";
            sink.gauge("nodens_hosts_entries", help, &labels, *entries);
            let help = "Lines of a hosts file that are not understood and left out.";
            sink.gauge("nodens_hosts_skipped_lines", help, &labels, *skipped);
            let help = "Could a hosts file not be read when it was looked at last? 1 or 0.";
            sink.gauge("nodens_hosts_failing", help, &labels, *failing);
            let help = "When what is known of a hosts file was written, in seconds since 1970; 0 if it was never read.";
            sink.gauge("nodens_hosts_changed_timestamp_seconds", help, &labels, *changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;
    use crate::observe::metrics::Metrics;
    use crate::observe::queries::Proto;
    use crate::resolve::local::{Answers, Asked, template::Templates};
    use crate::wire::question::{Question, to_wire};
    use std::sync::Arc;

    #[test]
    fn files_and_templates_are_on_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        std::fs::write(&file, "10.0.0.1 a\nwhat\n").unwrap();
        let shown = file.display();
        let text = format!(
            "zones:\n- {{match: [.], forward: {{to: [10.0.0.1]}}, hosts: {{files: [{shown}, /none]}}, \
             respond: [{{answer: ['{{{{ .Name }}}}']}}]}}\n\
             - {{match: [b], forward: {{to: [10.0.0.1]}}, hosts: {{files: [{shown}], ttl: 1s}}}}"
        );
        let config = load_str("f", &text).unwrap().config;
        let rules = Arc::new(Rules::default());
        for zone in &config.zones {
            rules.behind(zone).unwrap();
        }
        let templates = Templates::new(&config.zones[0].respond, Arc::clone(&rules.counts)).unwrap();
        let question = Question::new(&to_wire("x"), 1, 1).unwrap();
        templates.answer(&Asked { question: &question, client: ([127, 0, 0, 1], 1).into(), proto: Proto::Udp });
        let metrics = Metrics::new();
        let told = Arc::clone(&rules);
        metrics.register(Box::new(move |sink| told.report(sink)));
        let page = metrics.gather();
        for line in [
            format!("nodens_hosts_entries{{file=\"{shown}\"}} 2"),
            format!("nodens_hosts_skipped_lines{{file=\"{shown}\"}} 1"),
            format!("nodens_hosts_failing{{file=\"{shown}\"}} 0"),
            "nodens_hosts_failing{file=\"/none\"} 1".into(),
            "nodens_hosts_changed_timestamp_seconds{file=\"/none\"} 0".into(),
            "nodens_respond_matches_total{zone=\".\"} 1".into(),
            "nodens_respond_failures_total{zone=\".\",section=\"answer\",reason=\"record\"} 1".into(),
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
    }
}
