//! The functions of templates: those of Go's `text/template` that make sense in a record, and CoreDNS's `parseInt`.

use super::Value;

/// What a function may be called with and gives.
type Outcome = Result<Value, String>;

macro_rules! functions {
    ($($variant:ident $name:literal $least:literal..$most:expr, $doc:literal;)+) => {
        /// A function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function { $(#[doc = $doc] $variant,)+ }

        impl Function {
            /// All of them.
            pub(super) const ALL: [Function; [$($name),+].len()] = [$(Function::$variant),+];

            /// Its name in templates.
            pub(super) fn name(self) -> &'static str {
                match self { $(Function::$variant => $name,)+ }
            }

            /// The least and most arguments that it takes.
            pub(super) fn arguments(self) -> (usize, usize) {
                match self { $(Function::$variant => ($least, $most),)+ }
            }
        }
    };
}

functions! {
    And "and" 1..usize::MAX, "The first argument that is empty, or the last.";
    Eq "eq" 2..usize::MAX, "Whether the first argument is one of the others.";
    Ge "ge" 2..2, "Whether the first is not less than the second.";
    Gt "gt" 2..2, "Whether the first is more than the second.";
    Index "index" 1..usize::MAX, "An item of a list or a map.";
    Le "le" 2..2, "Whether the first is not more than the second.";
    Len "len" 1..1, "How many items, or octets.";
    Lt "lt" 2..2, "Whether the first is less than the second.";
    Ne "ne" 2..2, "Whether two are not the same.";
    Not "not" 1..1, "Whether it is empty.";
    Or "or" 1..usize::MAX, "The first argument that is not empty, or the last.";
    ParseInt "parseInt" 3..3, "The number in a text, by base and size in bits.";
    Print "print" 0..usize::MAX, "All arguments as text.";
    Printf "printf" 1..usize::MAX, "All arguments as text, by a format.";
}

impl Function {
    /// Calls it; the number of arguments has been checked.
    pub(super) fn call(self, arguments: &[Value]) -> Outcome {
        let bool = |is| Ok(Value::Bool(is));
        match (self, arguments) {
            // Those that need not look at all arguments have been decided before.
            (Function::And | Function::Or, all) => Ok(all.last().cloned().unwrap_or(Value::None)),
            (Function::Not, [value]) => bool(!value.is_true()),
            (Function::Eq, [first, others @ ..]) => {
                for other in others {
                    if first.compare(other)?.is_eq() {
                        return bool(true);
                    }
                }
                bool(false)
            }
            (Function::Ne, [a, b]) => bool(a.compare(b)?.is_ne()),
            (Function::Lt, [a, b]) => bool(a.compare(b)?.is_lt()),
            (Function::Le, [a, b]) => bool(a.compare(b)?.is_le()),
            (Function::Gt, [a, b]) => bool(a.compare(b)?.is_gt()),
            (Function::Ge, [a, b]) => bool(a.compare(b)?.is_ge()),
            (Function::Len, [value]) => match value {
                Value::Text(text) => Ok(Value::Int(text.len() as i128)),
                Value::List(items) => Ok(Value::Int(items.len() as i128)),
                Value::Map(items) => Ok(Value::Int(items.len() as i128)),
                other => Err(format!("{} has no length", other.kind())),
            },
            (Function::Index, [value, keys @ ..]) => {
                keys.iter().try_fold(value.clone(), |value, key| index(&value, key))
            }
            (Function::ParseInt, [text, base, bits]) => parse_int(text, base, bits),
            (Function::Print, all) => print(all),
            (Function::Printf, [Value::Text(format), rest @ ..]) => printf(format, rest).map(Value::Text),
            _ => Err(format!("\"{}\" cannot be called with these arguments", self.name())),
        }
    }
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::None => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Int(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Facts | Value::Message | Value::Question => "a structure",
        }
    }

    /// Whether it is neither zero nor empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(is) => *is,
            Value::Int(number) => *number != 0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(items) => !items.is_empty(),
            Value::Facts | Value::Message | Value::Question => true,
        }
    }

    /// As it is written out.
    pub(super) fn text(&self) -> Result<String, String> {
        Ok(match self {
            Value::None => "<no value>".to_owned(),
            Value::Bool(is) => is.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::List(items) => {
                let items: Result<Vec<String>, String> = items.iter().map(Value::text).collect();
                format!("[{}]", items?.join(" "))
            }
            Value::Map(items) => {
                let items: Vec<String> = items.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("map[{}]", items.join(" "))
            }
            Value::Facts | Value::Message | Value::Question => return Err("a structure cannot be written out".into()),
        })
    }

    fn compare(&self, other: &Value) -> Result<std::cmp::Ordering, String> {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
            _ => Err(format!("{} cannot be compared with {}", self.kind(), other.kind())),
        }
    }
}

fn index(value: &Value, key: &Value) -> Outcome {
    match (value, key) {
        (Value::List(items), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| items.get(at).cloned())
            .ok_or_else(|| format!("there is no item {at} in a list of {}", items.len())),
        (Value::Map(items), Value::Text(key)) => {
            let found = items.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            Ok(Value::Text(found.unwrap_or_default()))
        }
        (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| text.as_bytes().get(at))
            .map(|&octet| Value::Int(i128::from(octet)))
            .ok_or_else(|| format!("there is no octet {at} in a text of {}", text.len())),
        _ => Err(format!("{} is not indexed by {}", value.kind(), key.kind())),
    }
}

/// Go's `strconv.ParseUint`.
fn parse_int(text: &Value, base: &Value, bits: &Value) -> Outcome {
    let (Value::Text(text), Value::Int(base), Value::Int(bits)) = (text, base, bits) else {
        return Err("parseInt takes a text, a base and a size in bits".into());
    };
    let no = |why: &str| Err(format!("parseInt of {text:?}: {why}"));
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match (base, lower.get(..2)) {
        (0, Some("0x")) => (16, &lower[2..]),
        (0, Some("0o")) => (8, &lower[2..]),
        (0, Some("0b")) => (2, &lower[2..]),
        (0, _) if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        (0, _) => (10, &*lower),
        (2..=36, _) => (*base as u32, &*lower),
        _ => return no("the base must be 0 or from 2 to 36"),
    };
    let bits = match bits {
        0 => 64,
        1..=64 => *bits as u32,
        _ => return no("the size must be from 0 to 64 bits"),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return no("not a number");
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) if bits == 64 || number >> bits == 0 => Ok(Value::Int(i128::from(number))),
        _ => no("too large"),
    }
}

/// Go's `fmt.Sprint`: a space between two arguments neither of which is text.
fn print(all: &[Value]) -> Outcome {
    let mut out = String::new();
    for (i, value) in all.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if i > 0 && !is_text(value) && !all.get(i - 1).is_some_and(is_text) {
            out.push(' ');
        }
        out.push_str(&value.text()?);
    }
    Ok(Value::Text(out))
}

/// Go's `fmt.Sprintf` with %s, %v, %q, %d, %x, %X, %o, %b and %t, a width and the flags `0` and `-`.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    /// Wider than any record needs.
    const WIDEST: usize = 255;
    let mut out = String::new();
    let mut given = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let flags = rest.len() - rest.trim_start_matches(['0', '-']).len();
        let (zero, left) = (rest[..flags].contains('0'), rest[..flags].contains('-'));
        rest = &rest[flags..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let width = if digits == 0 { 0 } else { rest[..digits].parse().unwrap_or(usize::MAX) };
        if width > WIDEST {
            return Err(format!("printf: a width of more than {WIDEST}"));
        }
        rest = &rest[digits..];
        let Some(verb) = rest.chars().next() else {
            return Err("printf: the format ends in the middle of a verb".into());
        };
        rest = &rest[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = given.next().ok_or("printf: fewer arguments than verbs")?;
        let text = verb_of(verb, value)?;
        let missing = width.saturating_sub(text.chars().count());
        match (left, zero, text.strip_prefix('-')) {
            (true, ..) => out.extend([&*text, &" ".repeat(missing)]),
            (_, true, Some(digits)) => out.extend(["-", &"0".repeat(missing), digits]),
            (_, true, None) => out.extend([&*"0".repeat(missing), &text]),
            _ => out.extend([&*" ".repeat(missing), &text]),
        }
    }
    out.push_str(rest);
    if given.next().is_some() { Err("printf: more arguments than verbs".into()) } else { Ok(out) }
}

fn verb_of(verb: char, value: &Value) -> Result<String, String> {
    let hex = |text: &str| text.bytes().map(|octet| format!("{octet:02x}")).collect::<String>();
    let signed = |n: &i128, digits: String| if *n < 0 { format!("-{digits}") } else { digits };
    Ok(match (verb, value) {
        ('v', value) => value.text()?,
        ('s', Value::Text(_) | Value::List(_) | Value::Map(_)) => value.text()?,
        ('t', Value::Bool(is)) => is.to_string(),
        ('q', Value::Text(text)) => format!("{text:?}"),
        ('d', Value::Int(n)) => n.to_string(),
        ('x', Value::Int(n)) => signed(n, format!("{:x}", n.unsigned_abs())),
        ('X', Value::Int(n)) => signed(n, format!("{:X}", n.unsigned_abs())),
        ('o', Value::Int(n)) => signed(n, format!("{:o}", n.unsigned_abs())),
        ('b', Value::Int(n)) => signed(n, format!("{:b}", n.unsigned_abs())),
        ('x', Value::Text(text)) => hex(text),
        ('X', Value::Text(text)) => hex(text).to_uppercase(),
        _ => return Err(format!("printf: %{verb} cannot write {}", value.kind())),
    })
}
