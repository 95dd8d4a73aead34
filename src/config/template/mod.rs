//! The templates of answers: text with actions in `{{ }}`, as Go's `text/template` has them and CoreDNS's template plugin
//! uses them.
//!
//! A part of the language: fields, variables, pipelines, `if`, `range`, `with`, and the functions that serve here
//! (`functions`). What is not understood is refused when the configuration is read, by name and place. A template that was
//! accepted can still fail on what a client asks (`parseInt` of what is no number). It is bounded in steps and output, so
//! no question can make it run long. Knows nothing of records: what comes out is text.

mod eval;
mod functions;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use functions::Function;

/// Longest text of a template, in octets.
const MAX_TEXT: usize = 64 * 1024;
/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 32;
/// Most steps that one rendering may take.
const MAX_STEPS: usize = 10_000;
/// Longest text that comes out, in octets: more than a record can hold in text would be no record.
const MAX_OUTPUT: usize = 64 * 1024;

/// What a template can speak of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `.Zone`: the zone of the rule that the name is in, absolute.
    pub zone: String,
    /// `.Name`: the name asked for, absolute, in lower case.
    pub name: String,
    /// `.Class`: the class asked for, by name.
    pub class: String,
    /// `.Type`: the type asked for, by name.
    pub rtype: String,
    /// `.Match`: what the expression matched, whole and by group.
    pub matches: Vec<String>,
    /// `.Group`: the same by the groups' names and numbers.
    pub groups: Vec<(String, String)>,
    /// `.Remote`: the client's address.
    pub remote: String,
    /// `.Question.Qtype`.
    pub qtype: u16,
    /// `.Question.Qclass`.
    pub qclass: u16,
}

/// Why a template cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (character {at})")]
pub struct Malformed {
    /// The character where it shows, from 1.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

/// Why a template that was read gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Something in it does not suit what it is given.
    #[error("{0}")]
    Unfit(String),
    /// More steps than are allowed.
    #[error("the template takes more than {MAX_STEPS} steps")]
    Steps,
    /// More text than is allowed.
    #[error("the template gives more than {MAX_OUTPUT} octets")]
    Output,
}

/// A template that was read.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template. `groups` are the names that `.Group` may be asked for.
    ///
    /// # Errors
    /// What is not understood, and where.
    pub fn read(text: &str, groups: &[String]) -> Result<Template, Malformed> {
        if text.len() > MAX_TEXT {
            return Err(Malformed { at: 1, message: format!("a template longer than {MAX_TEXT} octets") });
        }
        parser::parse(lexer::split(text)?, groups).map(|nodes| Template { nodes })
    }

    /// The text that it always gives, if it holds no action.
    pub fn constant(&self) -> Option<String> {
        self.nodes
            .iter()
            .map(|node| match node {
                Node::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The text that it gives for these facts.
    ///
    /// # Errors
    /// When an action does not suit the facts, or it takes too long.
    pub fn render(&self, facts: &Facts) -> Result<String, Failed> {
        eval::render(&self.nodes, facts)
    }
}

/// A part of a template.
#[derive(Clone, Debug)]
enum Node {
    /// Copied as it is.
    Text(String),
    /// Its value is written out, unless it is given to a variable.
    Print(Pipe),
    /// The first block whose pipeline is true, or the last one.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    /// A block for each item, or another when there are none.
    Range(Pipe, Vec<Node>, Vec<Node>),
    /// A block with another dot, or another when that is empty.
    With(Pipe, Vec<Node>, Vec<Node>),
}

/// Commands, each given the value of the one before.
#[derive(Clone, Debug)]
struct Pipe {
    /// Variables that take its value: one, or in a range two.
    variables: Vec<String>,
    /// Whether they exist already (`=` rather than `:=`).
    assigns: bool,
    commands: Vec<Command>,
}

/// An operand or a call.
#[derive(Clone, Debug)]
enum Command {
    /// An operand alone.
    Value(Operand),
    /// A function and its arguments.
    Call(Function, Vec<Operand>),
    /// `.Meta`, whose argument is read and forgotten: there is no metadata.
    Meta(Vec<Operand>),
}

/// Something that has a value.
#[derive(Clone, Debug)]
enum Operand {
    /// `.`
    Dot,
    /// `$` or `$name`.
    Variable(String),
    /// A number, a text, true, false or nil.
    Literal(Value),
    /// A pipeline in parentheses.
    Pipe(Box<Pipe>),
    /// Fields of another operand.
    Fields(Box<Operand>, Vec<String>),
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    /// Nothing: what is not in a map.
    None,
    Bool(bool),
    Int(i128),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, String)>),
    /// All facts: what the dot is at first.
    Facts,
    /// `.Message`.
    Message,
    /// `.Question`.
    Question,
}

/// Fields of the facts.
const FACTS: [&str; 10] = ["Zone", "Name", "Class", "Type", "Match", "Group", "Message", "Question", "Remote", "Meta"];
/// Fields of a question.
const QUESTION: [&str; 3] = ["Name", "Qtype", "Qclass"];
/// Fields of a message.
const MESSAGE: [&str; 1] = ["Question"];
