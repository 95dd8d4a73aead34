//! The words of a Corefile as one stream, what is imported in its place: snippets, files, and files by a pattern.
//!
//! A stack of texts, the innermost being read. Nothing is spliced and nothing calls itself, so what imports cost is
//! bounded by the words they give. Files are read through [`Files`] and each only once.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::corefile::Word;
use crate::config::corefile::lexer::{Lexed, Token, lex};
use crate::config::limits;
use crate::config::problem::quoted;
use crate::config::tree::Place;

/// How files and folders are read.
pub(super) trait Files {
    /// The content of a file, no more of it than [`limits::MAX_FILE_BYTES`] and one.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, in any order.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
}

/// The files of the machine.
pub(super) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let kind = std::fs::metadata(path)?;
        if kind.is_dir() {
            return Err(io::Error::other("it is a folder"));
        }
        // To open a named pipe would wait for its other end.
        if !kind.is_file() {
            return Err(io::Error::other("it is no ordinary file"));
        }
        crate::config::load::read(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(folder)?.take(limits::MAX_FOLDER);
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

/// A file that words stand in.
#[derive(Debug)]
pub(super) struct File {
    /// As it is shown to the user.
    pub(super) name: Arc<str>,
    /// Where relative imports start from.
    folder: PathBuf,
}

/// A word of the stream.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The word.
    pub(super) token: Token,
    /// Where it stands.
    pub(super) file: Rc<File>,
    /// Where it comes from in the main file.
    pub(super) from: Place,
    /// Whether it is the first of its line.
    pub(super) first: bool,
}

impl Item {
    /// Whether its text is `text`; quotes around it make no difference.
    pub(super) fn is(&self, text: &str) -> bool {
        &*self.token.text == text
    }

    /// It as it stands in the text.
    pub(super) fn word(&self) -> Word {
        let Item { token, file, from, .. } = self;
        Word { text: token.text.to_string(), place: token.place, file: file.name.clone(), from: *from }
    }
}

/// A token and its file; what snippets are made of.
pub(super) type Part = (Token, Rc<File>);

/// What a text of the stack is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Main,
    Snippet(String),
    File(PathBuf),
}

/// A text, read up to some word.
struct Frame {
    origin: Origin,
    parts: Rc<[Part]>,
    next: usize,
    /// The place in the main file that brought it in.
    from: Option<Place>,
    /// Tells it from all others.
    id: usize,
}

/// Why an import brings nothing, or why nothing more is read at all.
pub(super) enum Failure {
    /// What else there is can still be read.
    Here(String),
    /// It cannot.
    Stop(String),
}

/// The words, imports not yet done.
pub(super) struct Stream<'a> {
    files: &'a dyn Files,
    stack: Vec<Frame>,
    snippets: HashMap<String, Rc<[Part]>>,
    read: HashMap<PathBuf, Rc<[Part]>>,
    folders: HashMap<PathBuf, Rc<[String]>>,
    /// Files and folders, in the order in which they were first wanted.
    wanted: Vec<PathBuf>,
    /// The last word taken: its text's number, its file and the line where it ends.
    last: Option<(usize, Rc<File>, usize)>,
    /// Octets of all files imported, and their words.
    octets: usize,
    loaded: usize,
    /// Words taken, and texts brought in, of these the snippets.
    words: usize,
    frames: usize,
    expansions: usize,
}

impl<'a> Stream<'a> {
    /// The words of the main file.
    pub(super) fn new(name: &str, folder: &Path, lexed: Vec<Token>, files: &'a dyn Files) -> Stream<'a> {
        let file = Rc::new(File { name: name.into(), folder: folder.to_owned() });
        let parts = lexed.into_iter().map(|token| (token, file.clone())).collect();
        let main = Frame { origin: Origin::Main, parts, next: 0, from: None, id: 0 };
        Stream {
            files,
            stack: vec![main],
            snippets: HashMap::new(),
            read: HashMap::new(),
            folders: HashMap::new(),
            wanted: Vec::new(),
            last: None,
            octets: 0,
            loaded: 0,
            words: 0,
            frames: 0,
            expansions: 0,
        }
    }

    /// The next word.
    pub(super) fn peek(&self) -> Option<Item> {
        let frame = self.stack.iter().rev().find(|frame| frame.next < frame.parts.len())?;
        let (token, file) = frame.parts.get(frame.next)?;
        let same_line = |(id, last, end): &(usize, Rc<File>, usize)| {
            *id == frame.id && Rc::ptr_eq(last, file) && *end == token.place.0
        };
        let first = !self.last.as_ref().is_some_and(same_line);
        let from = frame.from.unwrap_or(token.place);
        Some(Item { token: token.clone(), file: file.clone(), from, first })
    }

    /// Takes the next word.
    pub(super) fn next(&mut self) -> Option<Item> {
        let item = self.peek()?;
        while self.stack.last().is_some_and(|frame| frame.next >= frame.parts.len()) {
            self.stack.pop();
        }
        let frame = self.stack.last_mut()?;
        frame.next += 1;
        self.last = Some((frame.id, item.file.clone(), item.token.end));
        Some(item)
    }

    /// Accounts for a word, a long one as several.
    pub(super) fn count(&mut self, text: &str) -> Result<(), Failure> {
        self.count_words(1 + text.len() / limits::NODE_OCTETS)
    }

    fn count_words(&mut self, n: usize) -> Result<(), Failure> {
        self.words += n;
        if self.words > limits::MAX_NODES { Err(too_many_words()) } else { Ok(()) }
    }

    /// Whether there is a snippet called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.snippets.contains_key(name)
    }

    /// Keeps a snippet.
    pub(super) fn define(&mut self, name: String, parts: Vec<Part>) {
        self.snippets.insert(name, parts.into());
    }

    /// What was read or looked for, but for the main file.
    pub(super) fn wanted(self) -> Vec<PathBuf> {
        self.wanted
    }

    /// Puts what `name` stands for in front of the words to come. `at` is the `import` before it. Gives a warning when
    /// that is nothing, and may be.
    pub(super) fn import(&mut self, name: &str, at: &Item) -> Result<Option<String>, Failure> {
        if let Some(parts) = self.snippets.get(name).cloned() {
            self.expansions += 1;
            if self.expansions > limits::MAX_SNIPPET_IMPORTS {
                let message = format!("more than {} imports of snippets", limits::MAX_SNIPPET_IMPORTS);
                return Err(Failure::Stop(message));
            }
            self.push(Origin::Snippet(name.to_owned()), parts, at)?;
            return Ok(None);
        }
        if name.matches('*').count() > 1 || name.matches('?').count() > 1 || name.contains(['[', ']']) {
            let why = "a pattern may hold one * and one ?, and neither [ nor ]";
            return Err(Failure::Here(format!("cannot import {}: {why}", quoted(name))));
        }
        if !is_pattern(name) {
            let path = clean(&at.file.folder.join(name));
            let parts = self.file(&path)?;
            self.push(Origin::File(path), parts, at)?;
            return Ok(None);
        }
        let paths = self.matching(&at.file.folder, Path::new(name))?;
        if paths.is_empty() {
            return Ok(Some(format!("no file matches {}, so nothing is imported", quoted(name))));
        }
        let texts: Result<Vec<_>, Failure> = paths.into_iter().map(|path| Ok((self.file(&path)?, path))).collect();
        // What is read first lies on top.
        for (parts, path) in texts?.into_iter().rev() {
            self.push(Origin::File(path), parts, at)?;
        }
        Ok(None)
    }

    /// Puts a text on the stack, unless it is being read already.
    fn push(&mut self, origin: Origin, parts: Rc<[Part]>, at: &Item) -> Result<(), Failure> {
        if parts.is_empty() {
            return Ok(());
        }
        // Of what a pattern brought in together, nothing is read yet but the first.
        if self.stack.iter().any(|frame| frame.next > 0 && frame.origin == origin) {
            return Err(Failure::Here(match origin {
                Origin::Snippet(name) => format!("the snippet {} imports itself", quoted(&name)),
                Origin::File(path) => format!("the file {} imports itself", quoted(&path.display().to_string())),
                Origin::Main => "the file imports itself".into(),
            }));
        }
        self.frames += 1;
        self.stack.push(Frame { origin, parts, next: 0, from: Some(at.from), id: self.frames });
        Ok(())
    }

    /// The words of a file.
    fn file(&mut self, path: &Path) -> Result<Rc<[Part]>, Failure> {
        if let Some(parts) = self.read.get(path) {
            return Ok(parts.clone());
        }
        let name = path.display().to_string();
        let no = |why: &dyn std::fmt::Display| Failure::Here(format!("cannot import {}: {why}", quoted(&name)));
        let bytes = self.files.read(path).map_err(|e| no(&e))?;
        if bytes.len() > limits::MAX_FILE_BYTES {
            return Err(no(&format!("larger than {} bytes", limits::MAX_FILE_BYTES)));
        }
        self.octets += bytes.len();
        if self.octets > limits::MAX_IMPORT_BYTES {
            return Err(Failure::Stop(format!("imports of more than {} bytes", limits::MAX_IMPORT_BYTES)));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| no(&"it is not UTF-8 text"))?;
        let Lexed { tokens, unclosed, .. } = lex(text);
        if let Some((line, column)) = unclosed {
            return Err(no(&format!("the quote at {line}:{column} is never closed")));
        }
        self.loaded += tokens.len();
        if self.loaded > limits::MAX_NODES {
            return Err(too_many_words());
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let file = Rc::new(File { name: name.into(), folder });
        let parts: Rc<[Part]> = tokens.into_iter().map(|token| (token, file.clone())).collect();
        self.wanted.push(path.to_owned());
        self.read.insert(path.to_owned(), parts.clone());
        Ok(parts)
    }

    /// The files that a pattern stands for, in order. Only what stands in `pattern` is one, `base` is taken literally.
    fn matching(&mut self, base: &Path, pattern: &Path) -> Result<Vec<PathBuf>, Failure> {
        let mut found = vec![base.to_owned()];
        // What comes before the first wildcard need not be looked for: a folder that is not there has no names.
        let mut certain = true;
        for part in pattern.components() {
            let Component::Normal(part) = part else {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            };
            let part = part.to_string_lossy();
            if certain && !is_pattern(&part) {
                found.iter_mut().for_each(|path| path.push(&*part));
                continue;
            }
            certain = false;
            let mut deeper = Vec::new();
            for folder in found {
                let folder = clean(&folder);
                let names = self.names(&folder)?;
                deeper.extend(names.iter().filter(|name| matches(&part, name)).map(|name| folder.join(name)));
            }
            found = deeper;
        }
        Ok(found)
    }

    /// The names in a folder, sorted; none if it cannot be read.
    fn names(&mut self, folder: &Path) -> Result<Rc<[String]>, Failure> {
        let names = match self.folders.get(folder) {
            Some(names) => names.clone(),
            None => {
                let mut names = self.files.names(folder).unwrap_or_default();
                names.sort_unstable();
                let names: Rc<[String]> = names.into();
                self.wanted.push(folder.to_owned());
                self.folders.insert(folder.to_owned(), names.clone());
                names
            }
        };
        // To compare them is work too.
        self.count_words(names.len() / 8)?;
        Ok(names)
    }
}

/// Whether `text` is a pattern for names.
fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name fits a pattern that holds at most one `*`, for any number of characters, and one `?`, for one.
fn matches(pattern: &str, name: &str) -> bool {
    let fits = |pattern: &str, name: &str| {
        pattern.chars().count() == name.chars().count()
            && pattern.chars().zip(name.chars()).all(|(p, c)| p == '?' || p == c)
    };
    let Some((head, tail)) = pattern.split_once('*') else { return fits(pattern, name) };
    let cut = |text: &'_ str, n: usize| text.char_indices().map(|(i, _)| i).chain([text.len()]).nth(n);
    let (head_length, tail_length) = (head.chars().count(), tail.chars().count());
    let Some(rest) = name.chars().count().checked_sub(head_length + tail_length) else { return false };
    match (cut(name, head_length), cut(name, head_length + rest)) {
        (Some(start), Some(end)) => fits(head, &name[..start]) && fits(tail, &name[end..]),
        _ => false,
    }
}

/// `path` without `.` and `..`, as far as the text tells: the same file should have one name.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        let last = clean.components().next_back();
        match (part, last) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                clean.pop();
            }
            (part, _) => clean.push(part),
        }
    }
    clean
}

fn too_many_words() -> Failure {
    Failure::Stop(format!("more than {} words, those imported counted", limits::MAX_NODES))
}
