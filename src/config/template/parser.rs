//! The words of a template to its tree. What could never work, such as a field that does not exist, is found here
//! rather than by a client.

use super::functions::Function;
use super::lexer::{Piece, Token, Word};
use super::{Command, FACTS, MAX_DEPTH, MESSAGE, Malformed, Node, Operand, Pipe, QUESTION, Value};
use crate::config::problem::hint;

/// Builds the tree.
pub(super) fn parse(pieces: Vec<Piece>, groups: &[String]) -> Result<Vec<Node>, Malformed> {
    let scope = Scope { variables: vec![String::new()], dot_is_facts: true };
    let mut parser = Parser { pieces: pieces.into_iter(), groups, scope, depth: 0 };
    match parser.block()? {
        (nodes, None) => Ok(nodes),
        (_, Some(end)) => Err(end.malformed("without \"if\", \"range\" or \"with\"")),
    }
}

/// What can be named where a word stands.
#[derive(Clone)]
struct Scope {
    /// Names of variables; `$` is the empty one.
    variables: Vec<String>,
    /// Whether the dot is all facts; in a range or with it is what is not known yet.
    dot_is_facts: bool,
}

struct Parser<'a> {
    pieces: std::vec::IntoIter<Piece>,
    groups: &'a [String],
    scope: Scope,
    depth: usize,
}

/// What ended a block.
struct End {
    /// `end` or `else`.
    word: String,
    at: usize,
    /// What follows it in its action.
    words: Words,
}

impl End {
    fn malformed(&self, message: &str) -> Malformed {
        Malformed { at: self.at, message: format!("\"{}\" {message}", self.word) }
    }
}

/// The words of one action that are left.
struct Words {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Where the last one stood.
    at: usize,
}

impl Words {
    fn next(&mut self) -> Option<Word> {
        let token = self.tokens.next()?;
        self.at = token.at;
        Some(token.word)
    }

    fn peek(&mut self) -> Option<&Word> {
        self.tokens.peek().map(|token| &token.word)
    }

    /// Takes the sign if it is next.
    fn takes(&mut self, sign: char) -> bool {
        let is = self.peek() == Some(&Word::Sign(sign));
        if is {
            self.next();
        }
        is
    }

    fn malformed(&self, message: impl Into<String>) -> Malformed {
        Malformed { at: self.at, message: message.into() }
    }

    /// That nothing follows.
    fn done(&mut self) -> Result<(), Malformed> {
        match self.next() {
            None => Ok(()),
            Some(word) => Err(self.malformed(format!("{} is too much here", shown(&word)))),
        }
    }
}

/// A word as it was written, nearly.
fn shown(word: &Word) -> String {
    match word {
        Word::Name(name) => format!("\"{name}\""),
        Word::Field(name) => format!("\".{name}\""),
        Word::Variable(name) => format!("\"${name}\""),
        Word::Dot => "\".\"".into(),
        Word::Text(text) => format!("{text:?}"),
        Word::Int(number) => number.to_string(),
        Word::Sign(':') => "\":=\"".into(),
        Word::Sign(sign) => format!("\"{sign}\""),
    }
}

impl Parser<'_> {
    /// Nodes up to an `end` or `else`, or the end of the text.
    fn block(&mut self) -> Result<(Vec<Node>, Option<End>), Malformed> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, at) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, at) => (tokens, at),
            };
            let mut words = Words { tokens: tokens.into_iter().peekable(), at };
            let keyword = match words.peek() {
                None => return Err(words.malformed("nothing between \"{{\" and \"}}\"")),
                Some(Word::Name(name)) => name.clone(),
                Some(_) => String::new(),
            };
            match keyword.as_str() {
                "if" | "range" | "with" => {
                    words.next();
                    nodes.push(self.nested(&keyword, words)?);
                }
                "end" | "else" => {
                    words.next();
                    return Ok((nodes, Some(End { word: keyword, at: words.at, words })));
                }
                "define" | "template" | "block" | "break" | "continue" => {
                    words.next();
                    return Err(
                        words.malformed(format!("\"{keyword}\" is not supported; there are if, range and with"))
                    );
                }
                _ => {
                    let pipe = self.pipe(&mut words, 1)?;
                    words.done()?;
                    nodes.push(Node::Print(pipe));
                }
            }
        }
        Ok((nodes, None))
    }

    /// `if`, `range` or `with`, whose action's rest is `words`, up to its `end`.
    fn nested(&mut self, keyword: &str, mut words: Words) -> Result<Node, Malformed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(words.malformed(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let outside = self.scope.clone();
        let opened = words.at;
        let unclosed = || Malformed { at: opened, message: format!("\"{keyword}\" without \"end\"") };
        let mut branches = Vec::new();
        let (otherwise, end) = loop {
            let pipe = self.pipe(&mut words, if keyword == "range" { 2 } else { 1 })?;
            words.done()?;
            let inside = self.scope.clone();
            self.scope.dot_is_facts &= keyword == "if";
            let (nodes, end) = self.block()?;
            branches.push((pipe, nodes));
            // A variable of the pipeline lives on in what follows `else`, one of the block does not.
            self.scope = inside;
            let mut end = end.ok_or_else(unclosed)?;
            if end.word == "end" {
                break (Vec::new(), end);
            }
            match end.words.next() {
                None => {
                    let (nodes, last) = self.block()?;
                    break (nodes, last.ok_or_else(unclosed)?);
                }
                Some(Word::Name(word)) if word == "if" && keyword == "if" => words = end.words,
                Some(word) => {
                    return Err(end.words.malformed(format!("{} cannot follow \"else\" here", shown(&word))));
                }
            }
        };
        let End { word, mut words, at } = end;
        words.done()?;
        if word != "end" {
            return Err(Malformed { at, message: "a second \"else\"".into() });
        }
        self.depth -= 1;
        self.scope = outside;
        let first = |mut branches: Vec<(Pipe, Vec<Node>)>| branches.pop().ok_or_else(unclosed);
        Ok(match keyword {
            "if" => Node::If(branches, otherwise),
            "range" => first(branches).map(|(pipe, nodes)| Node::Range(pipe, nodes, otherwise))?,
            _ => first(branches).map(|(pipe, nodes)| Node::With(pipe, nodes, otherwise))?,
        })
    }

    /// A pipeline, which may name up to `most` variables.
    fn pipe(&mut self, words: &mut Words, most: usize) -> Result<Pipe, Malformed> {
        let (variables, assigns) = self.variables(words, most)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let command = self.command(words, !commands.is_empty())?;
            commands.push(command);
            if !words.takes('|') {
                break;
            }
        }
        if !assigns {
            self.scope.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, assigns, commands })
    }

    /// The variables that a pipeline opens with, and whether they exist already.
    fn variables(&mut self, words: &mut Words, most: usize) -> Result<(Vec<String>, bool), Malformed> {
        let declares = |words: &Words| {
            let mut ahead = words.tokens.clone();
            ahead.next();
            matches!(ahead.next().map(|t| t.word), Some(Word::Sign(':' | '=' | ',')))
        };
        let mut variables = Vec::new();
        if !matches!(words.peek(), Some(Word::Variable(_))) || !declares(words) {
            return Ok((variables, false));
        }
        loop {
            match words.next() {
                Some(Word::Variable(name)) if !name.is_empty() => variables.push(name),
                _ => return Err(words.malformed("expected a variable, such as $x")),
            }
            if variables.len() > most {
                return Err(words.malformed("too many variables"));
            }
            match words.next() {
                Some(Word::Sign(',')) => {}
                Some(Word::Sign(':')) => return Ok((variables, false)),
                Some(Word::Sign('=')) => {
                    return match variables.iter().find(|name| !self.scope.variables.contains(name)) {
                        None => Ok((variables, true)),
                        Some(name) => Err(words.malformed(format!("the variable ${name} does not exist"))),
                    };
                }
                _ => return Err(words.malformed("expected \":=\"")),
            }
        }
    }

    /// An operand or a call; `piped` when it is given the value of another command too.
    fn command(&mut self, words: &mut Words, piped: bool) -> Result<Command, Malformed> {
        let function = match words.peek() {
            Some(Word::Name(name)) if !matches!(name.as_str(), "true" | "false" | "nil") => {
                let name = name.clone();
                words.next();
                let names: Vec<&str> = Function::ALL.iter().map(|f| f.name()).collect();
                let known = Function::ALL.into_iter().find(|f| f.name() == name);
                Some(known.ok_or_else(|| {
                    words.malformed(format!("the function \"{name}\" is not supported{}", hint(&name, &names)))
                })?)
            }
            _ => None,
        };
        let mut operands = Vec::new();
        while !matches!(words.peek(), None | Some(Word::Sign('|' | ')'))) {
            operands.push(self.operand(words)?);
        }
        let Some(function) = function else {
            let mut operands = operands.into_iter();
            let Some(first) = operands.next() else { return Err(words.malformed("a command is missing")) };
            let arguments: Vec<Operand> = operands.collect();
            let meta = matches!(&first, Operand::Fields(of, path) if path == &["Meta"] && self.is_facts(of));
            return match arguments.len() + usize::from(piped) {
                1 if meta => Ok(Command::Meta(arguments)),
                _ if meta => Err(words.malformed("\".Meta\" takes one argument")),
                0 => Ok(Command::Value(first)),
                _ => Err(words.malformed("what is no function takes no arguments")),
            };
        };
        let given = operands.len() + usize::from(piped);
        let (least, most) = function.arguments();
        if given < least || given > most {
            let takes = if least == most { format!("{least}") } else { format!("at least {least}") };
            return Err(words.malformed(format!("\"{}\" takes {takes} arguments, not {given}", function.name())));
        }
        Ok(Command::Call(function, operands))
    }

    fn operand(&mut self, words: &mut Words) -> Result<Operand, Malformed> {
        let word = words.next();
        let operand = match word {
            Some(Word::Dot) => Operand::Dot,
            Some(Word::Field(name)) => {
                let path = self.path(words, vec![name])?;
                self.check(&Operand::Dot, &path, words)?;
                return Ok(Operand::Fields(Box::new(Operand::Dot), path));
            }
            Some(Word::Variable(name)) if self.scope.variables.contains(&name) => Operand::Variable(name),
            Some(Word::Variable(name)) => {
                return Err(words.malformed(format!("the variable ${name} does not exist")));
            }
            Some(Word::Text(text)) => Operand::Literal(Value::Text(text)),
            Some(Word::Int(number)) => Operand::Literal(Value::Int(number)),
            Some(Word::Name(name)) => match name.as_str() {
                "true" | "false" => Operand::Literal(Value::Bool(name == "true")),
                "nil" => Operand::Literal(Value::None),
                _ => return Err(words.malformed(format!("write \"{name}\" and its arguments in parentheses"))),
            },
            Some(Word::Sign('(')) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(words.malformed(format!("nested deeper than {MAX_DEPTH} levels")));
                }
                let pipe = self.pipe(words, 0)?;
                self.depth -= 1;
                if !words.takes(')') {
                    return Err(words.malformed("a \"(\" is not closed"));
                }
                Operand::Pipe(Box::new(pipe))
            }
            Some(word) => return Err(words.malformed(format!("{} has no meaning here", shown(&word)))),
            None => return Err(words.malformed("something is missing")),
        };
        let path = self.path(words, Vec::new())?;
        if path.is_empty() {
            return Ok(operand);
        }
        self.check(&operand, &path, words)?;
        Ok(Operand::Fields(Box::new(operand), path))
    }

    /// The fields that follow without a space.
    fn path(&self, words: &mut Words, mut path: Vec<String>) -> Result<Vec<String>, Malformed> {
        while let Some(Token { word: Word::Field(name), glued: true, .. }) = words.tokens.peek() {
            path.push(name.clone());
            words.next();
        }
        Ok(path)
    }

    fn is_facts(&self, operand: &Operand) -> bool {
        match operand {
            Operand::Dot => self.scope.dot_is_facts,
            Operand::Variable(name) => name.is_empty(),
            _ => false,
        }
    }

    /// That the fields exist, as far as it is known what they are fields of.
    fn check(&self, of: &Operand, path: &[String], words: &Words) -> Result<(), Malformed> {
        if !self.is_facts(of) {
            return Ok(());
        }
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        let mut known: &[&str] = &FACTS;
        let mut above = String::new();
        for name in path {
            if !known.contains(&name.as_str()) {
                let all = if known.is_empty() { "; it has no fields".into() } else { hint(name, known) };
                return Err(words.malformed(format!("there is no \"{above}.{name}\"{all}")));
            }
            known = match name.as_str() {
                "Question" => &QUESTION,
                "Message" => &MESSAGE,
                "Group" if above.is_empty() => &groups,
                _ => &[],
            };
            above = format!("{above}.{name}");
            // The questions of a message are a list.
            if above == ".Message.Question" {
                known = &[];
            }
        }
        Ok(())
    }
}
