//! Printing: standard output for what was asked for, standard error for what went wrong.
//!
//! A reader that went away (`nodens man | head`) is not an error: the rest is simply not wanted. Colours and bold go
//! to a terminal only, and not there either when `NO_COLOR` is set.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

/// Why something could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Standard output failed for another reason than a reader that went away.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// A file asked for on the command line failed.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// For whom a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON document.
    Json,
}

/// Writes `text` to standard output, all of it at once.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    put(&mut out, text.as_bytes())
}

/// Writes `value` to standard output as indented JSON and a newline.
pub fn print_json(value: &serde_json::Value) -> Result<(), Error> {
    print(&format!("{value:#}\n"))
}

/// Writes `message` to standard error, one line that starts with the program's name.
///
/// There is nowhere left to report a failure of standard error, so it is ignored.
pub fn complain(message: &str) {
    let label = Style::of(&io::stderr()).red("error:");
    let _ = writeln!(io::stderr().lock(), "nodens: {label} {message}");
}

/// As [`complain`], for what works but deserves a look.
pub fn warn(message: &str) {
    let label = Style::of(&io::stderr()).yellow("warning:");
    let _ = writeln!(io::stderr().lock(), "nodens: {label} {message}");
}

/// Writes `value` to standard error as [`print_json`] does: what goes beside the result that standard output is for.
pub fn remark_json(value: &serde_json::Value) {
    let _ = writeln!(io::stderr().lock(), "{value:#}");
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<(), Error> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::Stdout(e)),
        _ => Ok(()),
    }
}

/// Whether, and so how, text is set off.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Style = Style { coloured: false };
    /// Colours, whatever is at the other end.
    pub const COLOURED: Style = Style { coloured: true };

    /// What suits standard output.
    pub fn of_stdout() -> Style {
        Style::of(&io::stdout())
    }

    fn of(stream: &impl IsTerminal) -> Style {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Style { coloured: stream.is_terminal() && !refused }
    }

    /// Bold, for headings.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Red, for failures.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Green, for successes.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Yellow, for what deserves a look.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Faint, for remarks.
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        assert!(put(&mut Failing(ErrorKind::BrokenPipe), b"x").is_ok());
    }

    #[test]
    fn a_full_disk_is_one() {
        let e = put(&mut Failing(ErrorKind::StorageFull), b"x").unwrap_err();
        assert!(e.to_string().starts_with("cannot write to standard output: "), "{e}");
    }

    #[test]
    fn colours_are_put_only_where_wanted() {
        assert_eq!(Style::PLAIN.red("no"), "no");
        assert_eq!(Style::COLOURED.red("no"), "\x1b[31mno\x1b[0m");
    }
}
