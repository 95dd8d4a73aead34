//! `nodens migrate`: a Corefile said in nodens' own keys, with its comments, for a file of one's own to go on with.
//!
//! The YAML goes to standard output, and only if it is a configuration that can be used; what is to be known of it goes to
//! standard error.

use super::check::finding;
use super::output::{self, Format};
use super::{Error, Outcome};
use crate::config;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the configuration was printed (warnings may be, too), 1 the Corefile cannot be used."
)]
pub struct Args {
    /// The Corefile, of CoreDNS or node-cache; node-cache's variables may still be in it.
    #[arg(value_name = "COREFILE")]
    pub file: PathBuf,
    /// Notes for people or, as one JSON document, for machines; both on standard error.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// Prints what the Corefile means.
pub fn run(args: Args) -> Result<Outcome, Error> {
    let found = read(&args.file);
    let (problems, warnings) = match &found {
        Ok(loaded) => (&[][..], loaded.warnings.0.as_slice()),
        Err(problems) => (problems.0.as_slice(), &[][..]),
    };
    match args.output {
        Format::Text => {
            problems.iter().for_each(|problem| output::complain(&problem.to_string()));
            warnings.iter().for_each(|warning| output::warn(&warning.to_string()));
        }
        Format::Json => output::remark_json(&json!({
            "file": args.file.display().to_string(),
            "ok": problems.is_empty(),
            "problems": problems.iter().map(finding).collect::<Vec<_>>(),
            "warnings": warnings.iter().map(finding).collect::<Vec<_>>(),
        })),
    }
    match found {
        Ok(loaded) => {
            output::print(&loaded.text)?;
            Ok(Outcome::Success)
        }
        Err(_) => Ok(Outcome::Failure),
    }
}

/// Reads the Corefile, whatever its name.
fn read(path: &Path) -> Result<config::Loaded, config::Problems> {
    let name = path.display().to_string();
    match config::read(path) {
        Ok(bytes) => config::load_corefile(&name, &bytes, &config::Overrides::default()),
        Err(e) => {
            let message = format!("cannot read the Corefile: {e}");
            Err(config::Problems(vec![config::Problem { source: name, at: None, key: String::new(), message }]))
        }
    }
}
