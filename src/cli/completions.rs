//! `nodens completions`: a completion script for the user's shell, made from the grammar itself.

use super::{Error, Outcome, output};
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For bash: nodens completions bash > /etc/bash_completion.d/nodens")]
pub struct Args {
    /// The shell.
    pub shell: Shell,
}

/// Prints the script for `command`, the program's grammar.
pub fn run(args: Args, mut command: clap::Command) -> Result<Outcome, Error> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Success)
}
