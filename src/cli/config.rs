//! `nodens config`: what can be said about the configuration file without a running daemon.

use super::{Error, Outcome, output};
use crate::config;
use clap::Subcommand;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which question about it.
    #[command(subcommand)]
    pub command: Command,
}

/// The questions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the JSON schema of the configuration file, for editors and CI.
    Schema,
}

/// Runs `config`.
pub fn run(args: Args) -> Result<Outcome, Error> {
    match args.command {
        Command::Schema => output::print_json(&config::schema())?,
    }
    Ok(Outcome::Success)
}
