//! `nodens cleanup`: removes from this host what nodens and node-cache have left behind.
//!
//! Not while an instance runs: it would put back what is its own. A running one is told to leave for good by SIGQUIT.

use super::{Error, Outcome, output};
use crate::config::limits;
use crate::guardian::instances::{self, Stage};
use crate::network::survey;

/// Arguments of `cleanup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs CAP_NET_ADMIN in the host's network. Pods that still ask 169.254.20.10 have no DNS afterwards: \
                  give them another address first."
)]
pub struct Args {
    /// Print what would be removed, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The name of the interface.
    #[arg(long, value_name = "NAME", default_value = limits::INTERFACE_NAME)]
    pub interface: String,
}

/// Removes, and says what.
pub fn run(args: Args) -> Result<Outcome, Error> {
    let running = instances::all().unwrap_or_default().into_iter().filter(|i| i.stage != Stage::Leaving).count();
    if args.dry_run {
        let found = survey::survey(&args.interface);
        print(&found.removable(), "would remove", found.unseen.is_empty())?;
        found.unseen.iter().for_each(|error| output::complain(error));
        if running > 0 {
            output::warn("an instance of nodens runs here: nothing can be removed before it is stopped");
        }
        return Ok(if found.unseen.is_empty() { Outcome::Success } else { Outcome::Failure });
    }
    if running > 0 {
        output::complain(
            "an instance of nodens runs here and would put everything back: stop it first; SIGQUIT has it leave for good",
        );
        return Ok(Outcome::Failure);
    }
    let (removed, failed) = survey::clean(&args.interface);
    print(&removed, "removed", failed.is_empty())?;
    failed.iter().for_each(|error| output::complain(error));
    Ok(if failed.is_empty() { Outcome::Success } else { Outcome::Failure })
}

/// Prints a line for each of `what`; that there is nothing only if that is `known`.
fn print(what: &[String], verb: &str, known: bool) -> Result<(), output::Error> {
    let lines: String = what.iter().map(|line| format!("{verb}: {line}\n")).collect();
    output::print(if what.is_empty() && known { "nothing to remove\n" } else { &lines })
}
