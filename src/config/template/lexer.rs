//! The text of a template to pieces: text between actions, and the words inside them.

use super::Malformed;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Text between actions, trimmed as its neighbours ask.
    Text(String),
    /// The words of an action, and the character where it begins.
    Action(Vec<Token>, usize),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) word: Word,
    /// The character where it begins, from 1.
    pub(super) at: usize,
    /// Whether nothing stands between it and the word before.
    pub(super) glued: bool,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A function or keyword.
    Name(String),
    /// `.name`
    Field(String),
    /// `$name`, or `$` with an empty name.
    Variable(String),
    /// `.`
    Dot,
    Text(String),
    Int(i128),
    /// `|`, `,`, `(`, `)`, `=`; and `:=` as `:`.
    Sign(char),
}

/// Splits a template.
pub(super) fn split(text: &str) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while at < text.len() {
        let rest = &text[at..];
        let Some(open) = rest.find("{{") else {
            push_text(&mut pieces, rest, trim, false);
            break;
        };
        let inside = &rest[open + 2..];
        let trims_before = inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace);
        push_text(&mut pieces, &rest[..open], trim, trims_before);
        let begin = at + open + 2 + usize::from(trims_before);
        let mut lexer = Lexer { text, at: begin };
        let tokens = lexer.action()?;
        if let Some(tokens) = tokens {
            pieces.push(Piece::Action(tokens, place(text, at + open)));
        }
        trim = text[..lexer.at].ends_with("-}}");
        at = lexer.at;
    }
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The character, from 1, at an octet.
fn place(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

struct Lexer<'t> {
    text: &'t str,
    /// The octet that comes next.
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn malformed(&self, at: usize, message: impl Into<String>) -> Malformed {
        Malformed { at: place(self.text, at), message: message.into() }
    }

    /// The words up to and with the closing braces; nothing for a comment.
    fn action(&mut self) -> Result<Option<Vec<Token>>, Malformed> {
        let begin = self.at;
        let mut tokens = Vec::new();
        let mut glued = false;
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                return Err(self.malformed(begin, "\"{{\" without \"}}\""));
            };
            if rest.starts_with("}}")
                || (rest.starts_with("-}}") && self.text[..self.at].ends_with(char::is_whitespace))
            {
                self.at += if c == '-' { 3 } else { 2 };
                return Ok(Some(tokens));
            }
            if c.is_whitespace() {
                self.at += c.len_utf8();
                glued = false;
                continue;
            }
            if rest.starts_with("/*") {
                return self.comment(tokens.is_empty());
            }
            let at = self.at;
            let word = self.word(c)?;
            tokens.push(Token { word, at: place(self.text, at), glued });
            glued = true;
        }
    }

    /// A comment, which is all there is in its action.
    fn comment(&mut self, alone: bool) -> Result<Option<Vec<Token>>, Malformed> {
        let begin = self.at;
        let end = self.rest().find("*/").filter(|_| alone);
        let Some(end) = end else { return Err(self.malformed(begin, "a comment must be closed and stand alone")) };
        self.at += end + 2;
        let rest = self.rest();
        let behind = rest.trim_start();
        let closing = match behind.starts_with("-}}") && behind.len() < rest.len() {
            true => 3,
            false if rest.starts_with("}}") => 2,
            false => return Err(self.malformed(self.at, "a comment must be closed and stand alone")),
        };
        self.at += rest.len() - behind.len() + closing;
        Ok(None)
    }

    fn word(&mut self, first: char) -> Result<Word, Malformed> {
        let begin = self.at;
        let rest = self.rest();
        let named = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (word, length) = match first {
            '|' | ',' | '(' | ')' | '=' => (Word::Sign(first), 1),
            ':' if rest.starts_with(":=") => (Word::Sign(':'), 2),
            '.' => match named(&rest[1..]) {
                0 => (Word::Dot, 1),
                n => (Word::Field(rest[1..=n].to_owned()), n + 1),
            },
            '$' => {
                let n = named(&rest[1..]);
                (Word::Variable(rest[1..=n].to_owned()), n + 1)
            }
            '"' | '\'' => return self.quoted(first),
            '`' => match rest[1..].find('`') {
                Some(n) => (Word::Text(rest[1..=n].to_owned()), n + 2),
                None => return Err(self.malformed(begin, "a quote is not closed")),
            },
            '0'..='9' | '-' | '+' => {
                let n = 1 + rest[1..]
                    .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
                    .unwrap_or(rest.len() - 1);
                match integer(&rest[..n]) {
                    Some(number) => (Word::Int(number), n),
                    None => return Err(self.malformed(begin, format!("\"{}\" is not a whole number", &rest[..n]))),
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                let n = named(rest);
                (Word::Name(rest[..n].to_owned()), n)
            }
            c => return Err(self.malformed(begin, format!("{c:?} has no meaning here"))),
        };
        self.at += length;
        Ok(word)
    }

    /// A text, or a character, which counts as its number.
    fn quoted(&mut self, quote: char) -> Result<Word, Malformed> {
        let begin = self.at;
        let mut text = String::new();
        let mut chars = self.text[begin + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            let c = match c {
                c if c == quote => {
                    self.at = begin + 1 + at + 1;
                    let mut all = text.chars();
                    return match (quote, all.next(), all.next()) {
                        ('"', ..) => Ok(Word::Text(text)),
                        (_, Some(only), None) => Ok(Word::Int(i128::from(u32::from(only)))),
                        _ => {
                            Err(self.malformed(begin, "single quotes hold one character; write text in double quotes"))
                        }
                    };
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, c @ ('\\' | '"' | '\''))) => c,
                    _ => return Err(self.malformed(begin, r#"of escapes there are \\, \", \', \n and \t"#)),
                },
                c => c,
            };
            text.push(c);
        }
        Err(self.malformed(begin, "a quote is not closed"))
    }
}

/// A whole number as Go writes it: decimal, or with 0x, 0o or 0b.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ => (10, &*lower),
    };
    let number = i128::from(u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?);
    Some(if negative { -number } else { number })
}
