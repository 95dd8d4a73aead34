//! The figures of a test as a table, and what was wrong with them, all of it, at the end.

use super::clients::Figures;

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
