//! Words to blocks and directives. Knows which directives there are, not what they mean.
//!
//! What is wrong is collected: behind most problems the rest of the text can still be told apart. Where CoreDNS reads on
//! over a slip that changes nothing, such as a brace too many at the end, so does this, with a warning.

use std::path::PathBuf;

use crate::config::corefile::environment::substitute;
use crate::config::corefile::import::{Failure, Item, Part, Stream};
use crate::config::corefile::{Block, Directive, Line, Word};
use crate::config::limits;
use crate::config::problem::{Problem, Problems, nearest, quoted};

/// The directives known: node-cache's and, of CoreDNS's others, those that make sense here. `import` is none.
pub(in crate::config) const DIRECTIVES: [&str; 28] = [
    "acl",
    "any",
    "bind",
    "bufsize",
    "cache",
    "cancel",
    "debug",
    "dns64",
    "dnstap",
    "errors",
    "forward",
    "health",
    "hosts",
    "loadbalance",
    "log",
    "loop",
    "metadata",
    "minimal",
    "nsid",
    "pprof",
    "prometheus",
    "ready",
    "reload",
    "rewrite",
    "template",
    "timeouts",
    "trace",
    "whoami",
];

/// What was read.
#[derive(Default)]
pub(super) struct Parsed {
    /// The blocks, in order.
    pub(super) blocks: Vec<Block>,
    /// The files and folders that imports led to.
    pub(super) files: Vec<PathBuf>,
    /// What is wrong.
    pub(super) problems: Problems,
    /// What is odd.
    pub(super) warnings: Problems,
}

/// Nothing more can be read; why is among the problems.
struct Stop;

/// What ended a directive.
#[derive(PartialEq)]
enum End {
    /// Its line, or its own brace.
    Own,
    /// A brace that is not its own; most likely the block's.
    Block,
}

/// Reads all of `stream`, the words of the main file `name`.
pub(super) fn read(name: &str, stream: Stream<'_>, environment: &dyn Fn(&str) -> Option<String>) -> Parsed {
    let mut parser = Parser { name, stream, environment, parsed: Parsed::default(), closed: false };
    while parser.stream.peek().is_some() && !parser.parsed.problems.is_full() {
        if let Err(Stop) = parser.block() {
            break;
        }
    }
    Parsed { files: parser.stream.wanted(), ..parser.parsed }
}

struct Parser<'a> {
    name: &'a str,
    stream: Stream<'a>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    parsed: Parsed,
    /// Whether the last word taken is a closing brace.
    closed: bool,
}

impl Parser<'_> {
    /// A server block, or a snippet.
    fn block(&mut self) -> Result<(), Stop> {
        let Some(start) = self.stream.peek() else { return Ok(()) };
        let Some(keys) = self.keys()? else { return Ok(()) };
        if let [key] = &keys[..]
            && let Some(name) = key.text.strip_prefix('(').and_then(|text| text.strip_suffix(')'))
        {
            return self.snippet(name, key);
        }
        if keys.is_empty() && self.stream.peek().is_none() {
            return Ok(());
        }
        let directives = self.contents()?;
        if keys.is_empty() {
            self.odd(&start.word(), "a block without a zone: it has no effect");
        } else {
            self.parsed.blocks.push(Block { keys, directives });
        }
        Ok(())
    }

    /// The keys of a block, up to the end of the line or an opening brace; none if no block follows.
    fn keys(&mut self) -> Result<Option<Vec<Word>>, Stop> {
        let mut keys = Vec::new();
        let mut begun = false;
        let mut comma = None;
        while let Some(item) = self.stream.peek() {
            if begun && item.first && comma.is_none() {
                break;
            }
            if item.is("{") {
                if comma.take().is_some() {
                    self.wrong(&item.word(), "another zone is expected behind the comma, not {");
                }
                break;
            }
            self.next()?;
            if item.is("import") && item.first {
                self.import(&item)?;
                continue;
            }
            if item.is("}") && !begun {
                self.stray(&item)?;
                return Ok(None);
            }
            begun = true;
            let mut key = self.word(&item)?;
            if item.is("}") || item.is("import") {
                self.wrong(&key, &format!("a zone or {{ is expected here, not {}", item.token.text));
            } else if key.text.ends_with(',') {
                key.text.pop();
                comma = Some(key.clone());
                keys.push(key);
            } else if !key.text.is_empty() {
                comma = None;
                keys.push(key);
            }
        }
        if let Some(last) = comma {
            self.wrong(&last, "another zone is expected behind the comma, but the text ends");
        }
        Ok((begun || self.stream.peek().is_some()).then_some(keys))
    }

    /// A closing brace where a block should begin, `item`, already taken.
    fn stray(&mut self, item: &Item) -> Result<(), Stop> {
        while self.stream.peek().is_some_and(|next| next.is("}")) {
            self.next()?;
        }
        if self.stream.peek().is_some() {
            self.wrong(&item.word(), "unexpected }: no block is open");
        } else {
            self.odd(&item.word(), "a } too many at the end");
        }
        Ok(())
    }

    /// The directives of a block, with the braces around them; a single block may do without.
    fn contents(&mut self) -> Result<Vec<Directive>, Stop> {
        let open = self.stream.peek().filter(|item| item.is("{"));
        if open.is_some() {
            self.next()?;
        }
        let mut directives = Vec::new();
        while let Some(item) = self.stream.peek() {
            if item.is("}") {
                self.next()?;
                if open.is_none() {
                    self.odd(&item.word(), "a } that no { belongs to");
                }
                return Ok(directives);
            }
            if item.is("import") {
                self.next()?;
                self.import(&item)?;
            } else if self.directive(&mut directives)? == End::Block {
                return Ok(directives);
            }
        }
        if let Some(open) = open {
            let message = "the block that begins here is not closed: a } is missing";
            // What CoreDNS looks at is the last word of the text, whatever it closes.
            if self.closed { self.odd(&open.word(), message) } else { self.wrong(&open.word(), message) }
        }
        Ok(directives)
    }

    /// One directive with its arguments and lines.
    fn directive(&mut self, directives: &mut Vec<Directive>) -> Result<End, Stop> {
        let Some(item) = self.next()? else { return Ok(End::Own) };
        let name = self.word(&item)?;
        if item.is("{") {
            self.wrong(&name, "a directive is expected here, not {; it must stand on the line that it belongs to");
            self.lines(&item)?;
            return Ok(End::Own);
        }
        if !DIRECTIVES.contains(&name.text.as_str()) {
            self.wrong(&name, &unknown(&name.text));
        }
        let mut directive = Directive { name, arguments: Vec::new(), body: None };
        let mut end = End::Own;
        while let Some(item) = self.argument()? {
            if item.is("}") {
                let message = format!(
                    "unexpected }} behind {}: it must stand on a line of its own",
                    quoted(&directive.name.text)
                );
                self.wrong(&item.word(), &message);
                end = End::Block;
                break;
            } else if directive.body.is_some() {
                self.wrong(&item.word(), "nothing may stand behind the } of a directive");
                while self.stream.peek().is_some_and(|item| !item.first && !item.is("}")) {
                    self.next()?;
                }
            } else if item.is("{") {
                directive.body = Some(self.lines(&item)?);
            } else {
                directive.arguments.push(self.word(&item)?);
            }
        }
        directives.push(directive);
        Ok(end)
    }

    /// The lines of a directive behind its `{`, which is `open`, up to its `}`.
    fn lines(&mut self, open: &Item) -> Result<Vec<Line>, Stop> {
        let mut lines: Vec<Line> = Vec::new();
        let mut depth = 1;
        while let Some(item) = self.next()? {
            if item.is("import") && item.first {
                self.import(&item)?;
                continue;
            }
            if item.is("{") {
                depth += 1;
            } else if item.is("}") {
                depth -= 1;
            }
            if depth > limits::MAX_DEPTH {
                self.wrong(&item.word(), &format!("braces nested deeper than {} levels", limits::MAX_DEPTH));
                return Err(Stop);
            }
            if depth == 0 {
                // CoreDNS would take it for one more argument of that line; `{ }` is the exception.
                if !item.first && !lines.is_empty() {
                    self.wrong(&item.word(), "this } must stand on a line of its own");
                }
                return Ok(lines);
            }
            let word = self.word(&item)?;
            match lines.last_mut() {
                Some(Line(line)) if !item.first => line.push(word),
                _ => lines.push(Line(vec![word])),
            }
        }
        self.wrong(&open.word(), "this { is not closed: a } is missing");
        Err(Stop)
    }

    /// A snippet behind its name in parentheses, which is `key`.
    fn snippet(&mut self, name: &str, key: &Word) -> Result<(), Stop> {
        let Some(open) = self.stream.peek().filter(|item| item.is("{")) else {
            self.wrong(key, "a snippet is written (NAME) { … }: the { is missing");
            return self.contents().map(|_| ());
        };
        self.next()?;
        let mut parts: Vec<Part> = Vec::new();
        let mut depth = 1;
        while let Some(item) = self.next()? {
            if item.is("{") {
                depth += 1;
            } else if item.is("}") {
                depth -= 1;
            }
            if depth == 0 {
                self.define(name, key, parts);
                return Ok(());
            }
            // Its imports are done where it is imported itself, in each place anew.
            if item.is("import")
                && item.first
                && let Some(next) = self.stream.peek().filter(|next| !next.first)
                && self.word(&next)?.text == name
            {
                self.wrong(&next.word(), &format!("the snippet {} imports itself", quoted(name)));
            }
            parts.push((item.token, item.file));
        }
        self.wrong(&open.word(), "the snippet that begins here is not closed: a } is missing");
        Err(Stop)
    }

    /// Keeps a snippet, unless there is one of its name.
    fn define(&mut self, name: &str, key: &Word, parts: Vec<Part>) {
        if self.stream.has(name) {
            self.wrong(key, &format!("there is a snippet {} already", quoted(name)));
        } else {
            self.stream.define(name.to_owned(), parts);
        }
    }

    /// Does the import whose `import`, at `at`, is taken already.
    fn import(&mut self, at: &Item) -> Result<(), Stop> {
        let Some(argument) = self.argument()? else {
            self.wrong(&at.word(), "import needs the name of a snippet or file behind it");
            return Ok(());
        };
        let name = self.word(&argument)?;
        let mut more = None;
        while let Some(item) = self.argument()? {
            more = more.or(Some(item));
        }
        if let Some(more) = more {
            self.wrong(&more.word(), "import takes one name, and it ends the line");
        } else if name.text.is_empty() {
            self.wrong(&name, "import needs a name, and this one is empty");
        } else {
            match self.stream.import(&name.text, at) {
                Ok(None) => {}
                Ok(Some(warning)) => self.odd(&name, &warning),
                Err(Failure::Here(message)) => self.wrong(&name, &message),
                Err(Failure::Stop(message)) => {
                    self.wrong(&name, &message);
                    return Err(Stop);
                }
            }
        }
        Ok(())
    }

    /// Takes the next word if it stands on the line of the last.
    fn argument(&mut self) -> Result<Option<Item>, Stop> {
        if self.stream.peek().is_some_and(|item| !item.first) { self.next() } else { Ok(None) }
    }

    /// Takes the next word.
    fn next(&mut self) -> Result<Option<Item>, Stop> {
        let Some(item) = self.stream.next() else { return Ok(None) };
        self.closed = item.is("}");
        self.count(&item, &item.token.text)?;
        Ok(Some(item))
    }

    /// A word as it is meant, with the environment filled in.
    fn word(&mut self, item: &Item) -> Result<Word, Stop> {
        let mut word = item.word();
        if word.text.contains('{') {
            let Some(text) = substitute(&word.text, self.environment) else {
                self.wrong(&word, "the environment variables in this word give too long a text, or one without end");
                return Ok(word);
            };
            self.count(item, &text)?;
            word.text = text;
        }
        Ok(word)
    }

    /// Accounts for a word at `item`.
    fn count(&mut self, item: &Item, text: &str) -> Result<(), Stop> {
        match self.stream.count(text) {
            Ok(()) => Ok(()),
            Err(Failure::Here(message) | Failure::Stop(message)) => {
                self.wrong(&item.word(), &message);
                Err(Stop)
            }
        }
    }

    /// Something is wrong at a word.
    fn wrong(&mut self, at: &Word, message: &str) {
        self.parsed.problems.push(problem(self.name, at, message));
    }

    /// Something is odd at a word.
    fn odd(&mut self, at: &Word, message: &str) {
        self.parsed.warnings.push(problem(self.name, at, message));
    }
}

/// A problem at a word, which may have been imported into the file `main`.
fn problem(main: &str, at: &Word, message: &str) -> Problem {
    let mut message = message.to_owned();
    if at.from != at.place || *at.file != *main {
        message.push_str(&format!(" (imported at {main}:{}:{})", at.from.0, at.from.1));
    }
    Problem { source: at.file.to_string(), at: Some(at.place), key: String::new(), message }
}

/// What to say of a directive that nobody knows.
fn unknown(name: &str) -> String {
    let choice = match nearest(name, &DIRECTIVES) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known are {}", DIRECTIVES.join(", ")),
    };
    format!("unknown directive {}; {choice}", quoted(name))
}
