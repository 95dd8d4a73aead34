//! A Corefile, as CoreDNS and node-cache read it, taken apart: blocks, directives and words, each with its place.
//!
//! `lexer` cuts the text into words, `parser` puts them into blocks, `import` brings in snippets and other files,
//! `environment` fills in variables, `address` reads the keys of blocks. What a directive means is not decided here, only whether there is one of its
//! name. The grammar is that of CoreDNS's fork of Caddy 1 (`caddyfile/lexer.go`, `caddyfile/parse.go`).

mod address;
mod environment;
mod import;
mod lexer;
mod lower;
mod parser;
mod read;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::corefile::import::{Disk, Files, Stream};
use crate::config::corefile::lexer::{Lexed, lex};
use crate::config::corefile::parser::Parsed;
use crate::config::limits;
use crate::config::problem::{Problem, Problems};
use crate::config::tree::Place;

pub(super) use address::{Scheme, key};
pub(super) use lower::Lowered;
pub(in crate::config) use parser::DIRECTIVES;
pub(super) use read::{Surroundings, is_corefile, read};

/// A word of the text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text, without quotes, environment variables filled in.
    pub(super) text: String,
    /// Where it begins in the file it stands in.
    pub(super) place: Place,
    /// That file, as it is shown to the user.
    pub(super) file: Arc<str>,
    /// Where it comes from in the main file: the place of the import for what was imported, else `place`.
    pub(super) from: Place,
}

/// One property inside a directive's braces; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<Word>);

/// A directive with its arguments and, if it has braces, what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Its name, one of those known.
    pub(super) name: Word,
    /// What stands behind the name on its line.
    pub(super) arguments: Vec<Word>,
    /// The lines in braces, none if there are no braces. Braces inside of them are words of their lines.
    pub(super) body: Option<Vec<Line>>,
}

/// A server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What it is for, as written; [`key`] reads one. At least one.
    pub(super) keys: Vec<Word>,
    /// In the order of the text; one that is written several times is here several times.
    pub(super) directives: Vec<Directive>,
}

/// A comment of the main file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comment {
    /// Its text without the `#` and without white space around it.
    pub(super) text: String,
    /// Its line, from 1.
    pub(super) line: usize,
    /// Whether nothing else stands on that line.
    pub(super) alone: bool,
}

/// A Corefile and all it imports.
#[derive(Clone, Debug, Default)]
pub(super) struct Corefile {
    /// In the order of the text.
    pub(super) blocks: Vec<Block>,
    /// Of the main file, in its order.
    pub(super) comments: Vec<Comment>,
    /// Every file read and every folder a pattern was looked for in, but for the main file.
    pub(super) files: Vec<PathBuf>,
    /// What is odd.
    pub(super) warnings: Vec<Problem>,
}

/// Reads `text`, the Corefile called `name`; relative imports start from the folder `base`, `{$NAME}` from `environment`.
///
/// # Errors
/// What is wrong with it, as far as it could be read.
pub(super) fn parse(
    name: &str,
    text: &str,
    base: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Corefile, Problems> {
    parse_with(name, text, base, environment, &Disk)
}

/// [`parse`], with imports read through `files`.
fn parse_with(
    name: &str,
    text: &str,
    base: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<Corefile, Problems> {
    let at_all = |at, message: String| Problem { source: name.to_owned(), at, key: String::new(), message };
    if text.len() > limits::MAX_FILE_BYTES {
        let message = format!("larger than {} bytes", limits::MAX_FILE_BYTES);
        return Err(Problems(vec![at_all(None, message)]));
    }
    let Lexed { tokens, comments, unclosed } = lex(text);
    let Parsed { blocks, files, mut problems, warnings } =
        parser::read(name, Stream::new(name, base, tokens, files), environment);
    if unclosed.is_some() {
        // First, for what is wrong behind it most likely comes from it.
        problems.0.insert(0, at_all(unclosed, "this quote is never closed".into()));
    }
    if problems.is_empty() { Ok(Corefile { blocks, comments, files, warnings: warnings.0 }) } else { Err(problems) }
}

/// Reads a Corefile without files to import from, and its keys; for the fuzz target.
///
/// # Errors
/// What is wrong with it.
#[doc(hidden)]
pub fn read_corefile(text: &str) -> Result<(), Problems> {
    struct None;
    impl Files for None {
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn names(&self, _: &Path) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let environment = |name: &str| Some(format!("({name})"));
    let corefile = parse_with("Corefile", text, Path::new(""), &environment, &None)?;
    corefile.blocks.iter().flat_map(|block| &block.keys).for_each(|word| drop(key(&word.text)));
    Ok(())
}
