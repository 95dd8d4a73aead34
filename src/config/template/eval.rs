//! A template with facts to text, in a bounded number of steps.

use super::functions::Function;
use super::{Command, Facts, Failed, MAX_OUTPUT, MAX_STEPS, Node, Operand, Pipe, Value};

type Result<T> = std::result::Result<T, Failed>;

/// The text that `nodes` give.
pub(super) fn render(nodes: &[Node], facts: &Facts) -> Result<String> {
    let variables = vec![(String::new(), Value::Facts)];
    let mut run = Run { facts, variables, out: String::new(), steps: 0 };
    run.nodes(nodes, &Value::Facts)?;
    Ok(run.out)
}

struct Run<'a> {
    facts: &'a Facts,
    /// The innermost last.
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
}

fn unfit(message: impl Into<String>) -> Failed {
    Failed::Unfit(message.into())
}

impl Run<'_> {
    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(Failed::Steps) } else { Ok(()) }
    }

    /// A block; its variables end with it.
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<()> {
        let variables = self.variables.len();
        for node in nodes {
            self.step()?;
            match node {
                Node::Text(text) => self.write(text)?,
                Node::Print(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.write(&value.text().map_err(unfit)?)?;
                    }
                }
                Node::If(branches, otherwise) => self.decide(branches, otherwise, dot)?,
                Node::With(pipe, nodes, otherwise) => {
                    let before = self.variables.len();
                    let value = self.pipe(pipe, dot)?;
                    match value.is_true() {
                        true => self.nodes(nodes, &value)?,
                        false => self.nodes(otherwise, dot)?,
                    }
                    self.variables.truncate(before);
                }
                Node::Range(pipe, nodes, otherwise) => self.range(pipe, nodes, otherwise, dot)?,
            }
        }
        self.variables.truncate(variables);
        Ok(())
    }

    fn decide(&mut self, branches: &[(Pipe, Vec<Node>)], otherwise: &[Node], dot: &Value) -> Result<()> {
        let before = self.variables.len();
        let mut chosen = otherwise;
        for (pipe, nodes) in branches {
            if self.pipe(pipe, dot)?.is_true() {
                chosen = nodes;
                break;
            }
        }
        self.nodes(chosen, dot)?;
        self.variables.truncate(before);
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, nodes: &[Node], otherwise: &[Node], dot: &Value) -> Result<()> {
        let before = self.variables.len();
        let items: Vec<(Value, Value)> = match self.commands(pipe, dot)? {
            Value::List(items) => {
                items.into_iter().enumerate().map(|(i, item)| (Value::Int(i as i128), item)).collect()
            }
            Value::Map(items) => items.into_iter().map(|(key, value)| (Value::Text(key), Value::Text(value))).collect(),
            Value::None => Vec::new(),
            other => return Err(unfit(format!("{} cannot be ranged over", other.kind()))),
        };
        if items.is_empty() {
            self.nodes(otherwise, dot)?;
        }
        for (key, item) in items {
            self.step()?;
            match pipe.variables.as_slice() {
                [] => {}
                [value] => self.set(pipe.assigns, value, item.clone()),
                [index, value, ..] => {
                    self.set(pipe.assigns, index, key);
                    self.set(pipe.assigns, value, item.clone());
                }
            }
            self.nodes(nodes, &item)?;
            self.variables.truncate(before);
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return Err(Failed::Output);
        }
        self.out.push_str(text);
        Ok(())
    }

    fn set(&mut self, assigns: bool, name: &str, value: Value) {
        match self.variables.iter_mut().rev().find(|(n, _)| n == name).filter(|_| assigns) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    /// The value of a pipeline, given to its variable if it names one.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(pipe.assigns, name, value.clone());
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut before = None;
        for command in &pipe.commands {
            self.step()?;
            before = Some(self.command(command, before, dot)?);
        }
        Ok(before.unwrap_or(Value::None))
    }

    fn command(&mut self, command: &Command, before: Option<Value>, dot: &Value) -> Result<Value> {
        let (function, operands) = match command {
            Command::Value(operand) => return self.operand(operand, dot),
            Command::Meta(operands) => {
                for operand in operands {
                    self.operand(operand, dot)?;
                }
                return Ok(Value::Text(String::new()));
            }
            Command::Call(function, operands) => (*function, operands),
        };
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            let decided = match function {
                Function::And => !value.is_true(),
                Function::Or => value.is_true(),
                _ => false,
            };
            if decided {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(before);
        let value = function.call(&arguments).map_err(unfit)?;
        match &value {
            // What is never written out must stay small too.
            Value::Text(text) if text.len() > MAX_OUTPUT => Err(Failed::Output),
            _ => Ok(value),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        self.step()?;
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Variable(name) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| unfit(format!("${name} has no value")))
            }
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Pipe(pipe) => self.commands(pipe, dot),
            Operand::Fields(of, path) => {
                let of = self.operand(of, dot)?;
                path.iter().try_fold(of, |value, name| self.field(&value, name))
            }
        }
    }

    fn field(&self, of: &Value, name: &str) -> Result<Value> {
        let facts = self.facts;
        let text = |text: &str| Value::Text(text.to_owned());
        Ok(match (of, name) {
            (Value::Facts, "Zone") => text(&facts.zone),
            (Value::Facts, "Name") | (Value::Question, "Name") => text(&facts.name),
            (Value::Facts, "Class") => text(&facts.class),
            (Value::Facts, "Type") => text(&facts.rtype),
            (Value::Facts, "Match") => Value::List(facts.matches.iter().map(|m| text(m)).collect()),
            (Value::Facts, "Group") => Value::Map(facts.groups.clone()),
            (Value::Facts, "Remote") => text(&facts.remote),
            (Value::Facts, "Message") => Value::Message,
            (Value::Facts, "Question") => Value::Question,
            (Value::Message, "Question") => Value::List(vec![Value::Question]),
            (Value::Question, "Qtype") => Value::Int(facts.qtype.into()),
            (Value::Question, "Qclass") => Value::Int(facts.qclass.into()),
            (Value::Map(items), name) => items.iter().find(|(n, _)| n == name).map_or(Value::None, |(_, v)| text(v)),
            (other, name) => return Err(unfit(format!("{} has no field \"{name}\"", other.kind()))),
        })
    }
}
