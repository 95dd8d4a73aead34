//! `nodens check`: read and validate a configuration file or Corefile as `serve` would, and list every problem.

use super::output::{self, Format, Style};
use super::{Error, Outcome};
use crate::{app, config};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the file is usable (warnings may be printed), 1 it is not.")]
pub struct Args {
    /// Configuration file or Corefile (default: /etc/nodens/nodens.yaml if it exists, else the built-in defaults).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The same.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// Text for people or JSON for machines.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<config::Problem>,
    warnings: Vec<config::Problem>,
}

/// Checks the file and prints what was found.
pub fn run(args: Args) -> Result<Outcome, Error> {
    let path = args.config.or(args.file);
    let report = check(path.as_deref());
    match args.output {
        Format::Text => output::print(&report.text(path.as_deref(), Style::of_stdout()))?,
        Format::Json => output::print_json(&report.json(path.as_deref()))?,
    }
    Ok(if report.problems.is_empty() { Outcome::Success } else { Outcome::Failure })
}

fn check(path: Option<&Path>) -> Report {
    match config::load(path, &config::Overrides::default()) {
        Ok(loaded) => {
            let environment = |error: app::Error| {
                let (source, message) = ("environment".to_owned(), error.to_string());
                config::Problem { source, at: None, key: String::new(), message }
            };
            let problems = app::check_environment(&loaded.config).map_err(environment).err().into_iter().collect();
            Report { problems, warnings: loaded.warnings.0 }
        }
        Err(problems) => Report { problems: problems.0, warnings: Vec::new() },
    }
}

impl Report {
    /// One line per finding in the form compilers use (`file:line:column: …`), then the verdict.
    fn text(&self, path: Option<&Path>, style: Style) -> String {
        let mut out = String::new();
        let labelled = [(style.red("error:"), &self.problems), (style.yellow("warning:"), &self.warnings)];
        for (label, findings) in &labelled {
            for finding in *findings {
                let at = finding.at.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
                let key = if finding.key.is_empty() { String::new() } else { format!("{}: ", finding.key) };
                let _ = writeln!(out, "{}{at}: {label} {key}{}", finding.source, finding.message);
            }
        }
        let file = path.map_or_else(|| "configuration".to_owned(), |p| p.display().to_string());
        let _ = match self.problems.len() {
            0 => writeln!(out, "{file}: {}", style.green("ok")),
            1 => writeln!(out, "{file}: {}", style.red("1 problem")),
            n => writeln!(out, "{file}: {}", style.red(&format!("{n} problems"))),
        };
        out
    }

    fn json(&self, path: Option<&Path>) -> Value {
        json!({
            "file": path.map(|p| p.display().to_string()),
            "ok": self.problems.is_empty(),
            "problems": self.problems.iter().map(finding).collect::<Vec<_>>(),
            "warnings": self.warnings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

/// A problem or warning for machines.
pub(super) fn finding(found: &config::Problem) -> Value {
    json!({
        "source": found.source,
        "line": found.at.map(|(line, _)| line),
        "column": found.at.map(|(_, column)| column),
        "key": found.key,
        "message": found.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(at: Option<(usize, usize)>, key: &str, message: &str) -> config::Problem {
        config::Problem { source: "n.yaml".into(), at, key: key.into(), message: message.into() }
    }

    #[test]
    fn findings_are_listed_like_a_compiler_does() {
        let unknown = problem(Some((3, 9)), "cache.maxBites", "unknown key; did you mean \"maxBytes\"?");
        let report = Report {
            problems: vec![unknown, problem(None, "", "is empty")],
            warnings: vec![problem(Some((7, 1)), "zones[0]", "shadowed")],
        };
        let text = report.text(Some(Path::new("n.yaml")), Style::PLAIN);
        let expected = "n.yaml:3:9: error: cache.maxBites: unknown key; did you mean \"maxBytes\"?\n\
                        n.yaml: error: is empty\n\
                        n.yaml:7:1: warning: zones[0]: shadowed\n\
                        n.yaml: 2 problems\n";
        assert_eq!(text, expected);
        let value = report.json(Some(Path::new("n.yaml")));
        assert_eq!(value["ok"], false);
        assert_eq!((&value["problems"][0]["line"], &value["problems"][0]["column"]), (&json!(3), &json!(9)));
        assert_eq!(value["problems"][1]["line"], Value::Null);
        assert_eq!(value["warnings"][0]["key"], "zones[0]");
    }

    #[test]
    fn a_clean_file_is_ok() {
        let report = Report::default();
        assert_eq!(report.text(None, Style::PLAIN), "configuration: ok\n");
        assert_eq!(report.json(None)["ok"], true);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_problem() {
        let report = check(Some(Path::new("/nonexistent/nodens.yaml")));
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].to_string().contains("/nonexistent/nodens.yaml"));
    }
}
