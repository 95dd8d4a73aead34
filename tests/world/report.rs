//! The figures of a test as a table, and what was wrong with them, all of it, at the end.

use super::clients::Figures;
use std::time::Duration;

/// The columns of [`Report::load`].
pub const LOAD: &str = "case | sent | lost | failed | wrong | stale | p50 µs | p99 µs | worst µs";

/// What one test has found.
#[derive(Default)]
pub struct Report {
    rows: Vec<String>,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Report {
    /// A report whose table has these columns.
    pub fn new(title: &str, columns: &str) -> Report {
        let rule = columns.split('|').map(|_| "---").collect::<Vec<_>>().join("|");
        Report {
            rows: vec![format!("\n### {title}"), format!("| {columns} |"), format!("|{rule}|")],
            ..Report::default()
        }
    }

    /// Adds a row.
    pub fn row(&mut self, row: &str) {
        self.rows.push(format!("| {row} |"));
    }

    /// Adds a row of what clients saw.
    pub fn load(&mut self, case: &str, f: &Figures) {
        self.row(&format!(
            "{case} | {} | {} | {} | {} | {} | {} | {} | {}",
            f.sent, f.lost, f.failed, f.wrong, f.stale, f.p50_us, f.p99_us, f.worst_us
        ));
        if !f.errors.is_empty() {
            self.note(&format!("{case}: {:?}", f.errors));
        }
    }

    /// The same where all must be answered, and 99 of 100 as soon as `p99`.
    pub fn unharmed(&mut self, case: &str, f: &Figures, p99: Duration) {
        self.load(case, f);
        self.check(f.sent > 0 && f.answered == f.sent, || {
            format!("{case}: {} lost, {} failed, {} wrong", f.lost, f.failed, f.wrong)
        });
        self.check(u128::from(f.p99_us) <= p99.as_micros(), || format!("{case}: p99 {} µs", f.p99_us));
    }

    /// Adds a line below the table.
    pub fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }

    /// Notes a problem unless `right`.
    pub fn check(&mut self, right: bool, problem: impl FnOnce() -> String) {
        if !right {
            self.problems.push(problem());
        }
    }

    /// Prints the table; panics with all problems, if any.
    pub fn end(self) {
        println!("{}\n{}\n", self.rows.join("\n"), self.notes.join("\n"));
        assert!(self.problems.is_empty(), "{}", self.problems.join("\n"));
    }
}

/// The sum of one figure.
pub fn sum(figures: &[Figures], of: impl Fn(&Figures) -> u64) -> u64 {
    figures.iter().map(of).sum()
}

/// The worst of one figure.
pub fn worst(figures: &[Figures], of: impl Fn(&Figures) -> u64) -> u64 {
    figures.iter().map(of).max().unwrap_or(0)
}
