//! The command line: one file per command, this one holds the grammar they share and the exit codes.
//!
//! A command returns [`Outcome`] or an [`Error`]; nothing below here calls `exit`. Exit codes: 0 it worked, 1 it did
//! not, 2 the command line itself could not be understood.

pub mod address;
pub mod check;
pub mod cleanup;
pub mod completions;
pub mod config;
pub mod demo;
pub mod man;
pub mod migrate;
pub mod network;
pub mod node_cache;
pub mod output;
pub mod query;
pub mod serve;

use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// NodeLocal DNS caching daemon for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "nodens", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Exit codes: 0 it worked, 1 it did not, 2 wrong usage.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the cache.
    Serve(serve::Args),
    /// Run the whole thing on loopback: no root, no cluster.
    Demo(demo::Args),
    /// Validate a configuration file and list every problem in it.
    Check(check::Args),
    /// Print what a Corefile means as a configuration file of nodens.
    Migrate(migrate::Args),
    /// Ask a server and explain the answer.
    Query(query::Args),
    /// About the network of this host.
    Network(network::Args),
    /// Remove what nodens and node-cache have left behind on this host.
    Cleanup(cleanup::Args),
    /// About the configuration file.
    Config(config::Args),
    /// Run in the place of node-cache: its flags, its Corefile.
    NodeCache(node_cache::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Print the manual page.
    Man(man::Args),
}

/// How a command that ran to its end turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked for is so: exit code 0.
    Success,
    /// It ran, and the result is a failure that has been printed already: exit code 1.
    Failure,
}

/// Why a command could not run to its end. The command's name is not repeated: the user has just typed it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Standard output or a file cannot be written.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::Problems),
    /// The daemon could not start or stopped for a reason of its own.
    #[error(transparent)]
    App(#[from] crate::app::Error),
    /// No answer to a query.
    #[error(transparent)]
    Query(#[from] query::Error),
    /// node-cache's flags cannot be understood.
    #[error("{0} (node-cache -help lists all flags)")]
    Flags(#[from] crate::config::node_cache::flags::Error),
    /// The demo could not be set up.
    #[error(transparent)]
    Demo(#[from] demo::Error),
}

/// The whole program: this process's arguments in, its exit code out.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os()))
}

/// Runs the command that `arguments` (the program's name first) spell and returns its exit code.
fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(flags) = node_cache::flags_of(&arguments) {
        return exit_code(node_cache::run(flags));
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // Help and version are "errors" of this kind too: clap knows where each goes and what it exits with.
        Err(e) => {
            let _ = e.print();
            return u8::try_from(e.exit_code()).unwrap_or(2);
        }
    };
    exit_code(cli.command.run())
}

/// What a command ends with; its error is printed.
fn exit_code(result: Result<Outcome, Error>) -> u8 {
    match result {
        Ok(Outcome::Success) => 0,
        Ok(Outcome::Failure) => 1,
        Err(e) => {
            output::complain(&e.to_string());
            if matches!(e, Error::Flags(_)) { 2 } else { 1 }
        }
    }
}

impl Command {
    fn run(self) -> Result<Outcome, Error> {
        match self {
            Command::Serve(args) => serve::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Check(args) => check::run(args),
            Command::Migrate(args) => migrate::run(args),
            Command::Query(args) => query::run(args),
            Command::Network(args) => network::run(args),
            Command::Cleanup(args) => cleanup::run(args),
            Command::Config(args) => config::run(args),
            Command::NodeCache(args) => node_cache::run(&args.flags),
            Command::Completions(args) => completions::run(args, Cli::command()),
            Command::Man(args) => man::run(args, Cli::command()),
        }
    }
}

#[cfg(test)]
mod tests;
