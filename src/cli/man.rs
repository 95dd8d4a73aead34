//! `nodens man`: manual pages, made from the grammar itself: the main one printed, or all of them into a directory.

use super::{Error, Outcome, output};
use std::path::PathBuf;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "To read it at once: nodens man | man -l -")]
pub struct Args {
    /// Write one page per command into this directory instead of printing the main page.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints or writes the pages of `command`, the program's grammar.
pub fn run(args: Args, command: clap::Command) -> Result<Outcome, Error> {
    match args.dir {
        Some(path) => {
            let written = std::fs::create_dir_all(&path).and_then(|()| clap_mangen::generate_to(command, &path));
            written.map_err(|error| output::Error::File { path, error })?;
        }
        None => {
            let mut page = Vec::new();
            // A Vec takes every write.
            let _ = clap_mangen::Man::new(command).render(&mut page);
            output::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Outcome::Success)
}
