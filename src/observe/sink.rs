//! Where a scrape is gathered: samples in, Prometheus metric families out.
//!
//! Samples may come in any order and from anywhere; those of one name form one family, and two of the same name and
//! labels are added up, because a series that appears twice makes a scraper refuse the whole page. Escaping of label
//! values is left to the encoder of the `prometheus` crate.

use std::collections::BTreeMap;

use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use super::cells::{BOUNDS_US, Histogram};

/// Label names and values of one sample. Names are fixed in the code; only values come from outside.
pub type LabelSet<'a> = [(&'static str, &'a str)];

/// Counts per bucket and the sum in seconds, as [`Histogram::snapshot`] gives them.
pub(super) type Durations = ([u64; BOUNDS_US.len() + 1], f64);

/// The bounds of [`BOUNDS_US`] in seconds.
const BOUNDS: [f64; BOUNDS_US.len()] = {
    let mut bounds = [0.0; BOUNDS_US.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = BOUNDS_US[at] as f64 / 1e6;
        at += 1;
    }
    bounds
};

/// A histogram with bounds of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// The upper bounds, rising; above the last one lies +Inf.
    pub bounds: &'static [f64],
    /// How many lie in each bucket, not cumulative; one more than there are bounds.
    pub counts: Vec<u64>,
    /// The sum of all that was observed.
    pub sum: f64,
}

/// Collects the samples of one scrape.
#[derive(Debug, Default)]
pub struct FamilySink {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: MetricType,
    series: BTreeMap<Vec<(&'static str, String)>, Value>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Buckets(Buckets),
}

impl FamilySink {
    /// Adds a sample of a count that only grows.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &LabelSet<'_>, value: u64) {
        self.add(name, help, MetricType::COUNTER, labels, Value::Number(value as f64));
    }

    /// Adds a sample of a value that rises and falls.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &LabelSet<'_>, value: f64) {
        self.add(name, help, MetricType::GAUGE, labels, Value::Number(value));
    }

    /// Adds a sample of durations, exported in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, labels: &LabelSet<'_>, value: &Histogram) {
        self.durations(name, help, labels, value.snapshot());
    }

    /// Adds durations that were counted elsewhere.
    pub(super) fn durations(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &LabelSet<'_>,
        value: Durations,
    ) {
        let buckets = Buckets { bounds: &BOUNDS, counts: value.0.to_vec(), sum: value.1 };
        self.buckets(name, help, labels, buckets);
    }

    /// Adds a sample of a histogram with bounds of its own.
    pub fn buckets(&mut self, name: &'static str, help: &'static str, labels: &LabelSet<'_>, value: Buckets) {
        self.add(name, help, MetricType::HISTOGRAM, labels, Value::Buckets(value));
    }

    /// Files a sample. The first one of a name settles the family's kind; samples of another kind are left out.
    fn add(&mut self, name: &'static str, help: &'static str, kind: MetricType, labels: &LabelSet<'_>, value: Value) {
        let family = self.families.entry(name).or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
        if family.kind != kind {
            return;
        }
        let labels = labels.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        family.series.entry(labels).and_modify(|known| known.add(&value)).or_insert(value);
    }

    /// The families, sorted by name.
    pub(super) fn into_families(self) -> Vec<MetricFamily> {
        self.families.into_iter().map(|(name, family)| family.into_proto(name)).collect()
    }
}

impl Value {
    fn add(&mut self, other: &Value) {
        match (self, other) {
            (Value::Number(sum), Value::Number(n)) => *sum += n,
            (Value::Buckets(sum), Value::Buckets(n)) if sum.bounds == n.bounds => {
                sum.counts.iter_mut().zip(&n.counts).for_each(|(sum, n)| *sum += n);
                sum.sum += n.sum;
            }
            _ => {}
        }
    }
}

/// Adds one set of durations to another.
pub(super) fn add_durations(sum: &mut Durations, n: &Durations) {
    sum.0.iter_mut().zip(n.0).for_each(|(sum, n)| *sum += n);
    sum.1 += n.1;
}

impl Family {
    fn into_proto(self, name: &str) -> MetricFamily {
        let kind = self.kind;
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(self.series.into_iter().map(|(labels, value)| metric(kind, labels, value)).collect());
        family
    }
}

fn metric(kind: MetricType, labels: Vec<(&'static str, String)>, value: Value) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
    match value {
        Value::Number(n) if kind == MetricType::GAUGE => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(n);
            metric.set_gauge(gauge);
        }
        Value::Number(n) => {
            let mut counter = proto::Counter::default();
            counter.set_value(n);
            metric.set_counter(counter);
        }
        Value::Buckets(buckets) => metric.set_histogram(histogram(&buckets)),
    }
    metric
}

/// Buckets cumulative, as the text format wants them; the encoder adds the one at +Inf.
fn histogram(buckets: &Buckets) -> proto::Histogram {
    let mut so_far = 0;
    let bucket = |(&bound, &count): (&f64, &u64)| {
        so_far += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(so_far);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.bounds.iter().zip(&buckets.counts).map(bucket).collect());
    histogram.set_sample_count(buckets.counts.iter().sum());
    histogram.set_sample_sum(buckets.sum);
    histogram
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;

    use super::*;

    fn text(sink: FamilySink) -> String {
        TextEncoder::new().encode_to_string(&sink.into_families()).unwrap()
    }

    #[test]
    fn samples_of_one_name_are_one_family_and_equal_labels_one_series() {
        let mut sink = FamilySink::default();
        sink.gauge("entries", "Entries.", &[("kind", "positive")], 2.0);
        sink.counter("asked", "Asked.", &[], 7);
        sink.gauge("entries", "Entries.", &[("kind", "negative")], 3.0);
        sink.gauge("entries", "Entries.", &[("kind", "positive")], 4.0);
        let want = "# HELP asked Asked.\n# TYPE asked counter\nasked 7\n\
                    # HELP entries Entries.\n# TYPE entries gauge\n\
                    entries{kind=\"negative\"} 3\nentries{kind=\"positive\"} 6\n";
        assert_eq!(text(sink), want);
    }

    #[test]
    fn histograms_are_cumulative_and_in_seconds() {
        let durations = Histogram::default();
        durations.observe(Duration::from_micros(20));
        durations.observe(Duration::from_millis(2));
        durations.observe(Duration::from_secs(9));
        let mut sink = FamilySink::default();
        sink.histogram("took_seconds", "Took.", &[("zone", ".")], &durations);
        let text = text(sink);
        for line in [
            "took_seconds_bucket{zone=\".\",le=\"0.00001\"} 0",
            "took_seconds_bucket{zone=\".\",le=\"0.000025\"} 1",
            "took_seconds_bucket{zone=\".\",le=\"0.0025\"} 2",
            "took_seconds_bucket{zone=\".\",le=\"5\"} 2",
            "took_seconds_bucket{zone=\".\",le=\"+Inf\"} 3",
            "took_seconds_sum{zone=\".\"} 9.00202",
            "took_seconds_count{zone=\".\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_sample_of_another_kind_does_not_spoil_the_family() {
        let mut sink = FamilySink::default();
        sink.counter("n", "N.", &[], 1);
        sink.gauge("n", "N.", &[], 5.0);
        assert_eq!(text(sink), "# HELP n N.\n# TYPE n counter\nn 1\n");
    }

    #[test]
    fn f15_label_values_cannot_break_out_of_their_line() {
        let mut sink = FamilySink::default();
        sink.counter("n", "N.", &[("zone", "a\"} 1\nevil{x=\"\\")], 1);
        assert_eq!(text(sink).lines().last(), Some(r#"n{zone="a\"} 1\nevil{x=\"\\"} 1"#));
    }
}
