//! What is wrong with the rules of `zones[].rewrite`, and what they mean if nothing is.

use regex_lite::Regex;

use super::written::{CnameRule, Edns0Rule, NameRule, RcodeRule, Replacement, Rule, TtlRule, Which};
use super::{Action, Change, EdnsOption, Kind, Rewrite};
use crate::config::check::Check;
use crate::config::limits;
use crate::config::problem::{hint, quoted};
use crate::config::rules::Pattern;
use crate::config::text::{Form, Span, Text};

/// The longest TTL, in seconds (RFC 2181 §8).
const MAX_TTL: u64 = i32::MAX as u64;
/// What `data` of an EDNS option may be filled with.
const VARIABLES: [&str; 7] =
    ["{qname}", "{qtype}", "{client_ip}", "{client_port}", "{protocol}", "{server_ip}", "{server_port}"];

impl Check<'_> {
    /// The rules of `key`, a zone's list of them.
    pub(in crate::config) fn rewrite(&mut self, given: &[Rule], key: &str) -> Vec<Rewrite> {
        let mut given: Vec<&Rule> = given.iter().collect();
        self.at_most(&mut given, limits::MAX_RULES, key);
        let rules = given.iter().enumerate();
        rules.filter_map(|(i, rule)| self.rewrite_rule(rule, &format!("{key}[{i}]"))).collect()
    }

    fn rewrite_rule(&mut self, rule: &Rule, key: &str) -> Option<Rewrite> {
        let Rule { r#continue, name, r#type, class, edns0, ttl, cname, rcode } = rule;
        let at = |field: &str| format!("{key}.{field}");
        let kinds = [
            name.as_ref().map(|rule| self.rewrite_name(rule, &at("name"))),
            r#type.as_ref().map(|pair| Some(Change::Type { from: pair.from.as_ref()?.0.0, to: pair.to.as_ref()?.0.0 })),
            class.as_ref().map(|pair| Some(Change::Class { from: pair.from.as_ref()?.0.0, to: pair.to.as_ref()?.0.0 })),
            edns0.as_ref().map(|rule| self.rewrite_edns0(rule, &at("edns0"))),
            ttl.as_ref().map(|rule| self.rewrite_ttl(rule, &at("ttl"))),
            cname.as_ref().map(|rule| self.rewrite_cname(rule, &at("cname"))),
            rcode.as_ref().map(|rule| self.rewrite_rcode(rule, &at("rcode"))),
        ];
        let mut written = kinds.into_iter().flatten();
        let change = written.next();
        if change.is_none() || written.next().is_some() {
            let what = if change.is_none() { "none is" } else { "more than one are" };
            let choices = "name, type, class, edns0, ttl, cname and rcode";
            self.problem(key, format!("a rule has exactly one of {choices}; {what} written"));
        }
        Some(Rewrite { go_on: r#continue.unwrap_or_default(), change: change?? })
    }

    fn rewrite_name(&mut self, rule: &NameRule, key: &str) -> Option<Change> {
        let kind = rule.kind.unwrap_or_default();
        let (from, to) = self.both_names(kind, rule.from.as_deref()?, rule.to.as_deref()?, key)?;
        let auto = rule.auto.unwrap_or_default() || kind == Kind::Exact;
        if rule.auto == Some(true) && !rule.answer_names.is_empty() {
            self.problem(&format!("{key}.auto"), "cannot be combined with answerNames: either says what owners become");
        }
        let owners = self.replacements(&rule.answer_names, &format!("{key}.answerNames"));
        let targets = self.replacements(&rule.answer_values, &format!("{key}.answerValues"));
        Some(Change::Name { kind, from, to, auto, owners, targets })
    }

    fn replacements(&mut self, given: &[Replacement], key: &str) -> Vec<(String, String)> {
        let mut given: Vec<&Replacement> = given.iter().collect();
        self.at_most(&mut given, limits::MAX_RULES, key);
        let pairs = given.iter().enumerate().filter_map(|(i, pair)| {
            let (Text(Pattern(from)), to) = (pair.from.as_ref()?, pair.to.as_ref()?);
            self.groups(from, to, &format!("{key}[{i}].to"));
            Some((from.clone(), absolute(to)))
        });
        pairs.collect()
    }

    fn rewrite_cname(&mut self, rule: &CnameRule, key: &str) -> Option<Change> {
        let kind = rule.kind.unwrap_or_default();
        let (from, to) = self.both_names(kind, rule.from.as_deref()?, rule.to.as_deref()?, key)?;
        Some(Change::Cname { kind, from, to })
    }

    fn rewrite_ttl(&mut self, rule: &TtlRule, key: &str) -> Option<Change> {
        let kind = rule.kind.unwrap_or_default();
        let name = self.subject(kind, rule.name.as_deref()?, &format!("{key}.name"))?;
        if rule.min.is_none() && rule.max.is_none() {
            self.problem(key, "neither min nor max: it would change nothing");
        }
        let mut seconds = |given: &Option<Text<Span>>, otherwise: u64, field: &str| {
            let Some(Text(Span(span))) = given else { return otherwise };
            let fits = span.subsec_millis() == 0 && span.as_secs() <= MAX_TTL;
            if !fits {
                let message = format!("{} is no TTL: whole seconds, up to {MAX_TTL}s", Span(*span));
                self.problem(&format!("{key}.{field}"), message);
            }
            span.as_secs().min(MAX_TTL)
        };
        let (min, max) = (seconds(&rule.min, 0, "min"), seconds(&rule.max, MAX_TTL, "max"));
        if min > max {
            self.problem(key, format!("min {min}s is above max {max}s"));
        }
        Some(Change::Ttl { kind, name, min: min as u32, max: max as u32 })
    }

    fn rewrite_rcode(&mut self, rule: &RcodeRule, key: &str) -> Option<Change> {
        let kind = rule.kind.unwrap_or_default();
        let name = self.subject(kind, rule.name.as_deref()?, &format!("{key}.name"))?;
        Some(Change::Rcode { kind, name, from: rule.from.as_ref()?.0.0, to: rule.to.as_ref()?.0.0 })
    }

    fn rewrite_edns0(&mut self, rule: &Edns0Rule, key: &str) -> Option<Change> {
        let (action, which) = (rule.action?, rule.option?);
        let unset = action == Action::Unset;
        let wanted: &[&str] = match (which, unset) {
            (Which::Local, false) => &["code", "data"],
            (Which::Local, true) => &["code"],
            (Which::Subnet, false) => &["v4", "v6"],
            (Which::Subnet, true) | (Which::Nsid, _) => &[],
        };
        let written = [
            ("code", rule.code.is_some()),
            ("data", rule.data.is_some()),
            ("v4", rule.v4.is_some()),
            ("v6", rule.v6.is_some()),
        ];
        for (field, is_written) in written {
            match (wanted.contains(&field), is_written) {
                (true, false) => self.problem(key, format!("\"{field}\" is missing")),
                (false, true) => self.problem(&format!("{key}.{field}"), "does not belong to this option and action"),
                _ => {}
            }
        }
        let option = match which {
            Which::Nsid => EdnsOption::Nsid,
            Which::Subnet => EdnsOption::Subnet(rule.v4.unwrap_or(0) as u8, rule.v6.unwrap_or(0) as u8),
            Which::Local => {
                let code = self.option_code(rule.code.as_deref()?, &format!("{key}.code"))?;
                self.option_data(code, rule.data.as_deref().unwrap_or_default(), &format!("{key}.data"))?
            }
        };
        Some(Change::Edns0 { action, option })
    }

    fn option_code(&mut self, text: &str, key: &str) -> Option<u16> {
        let code = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => text.parse(),
        };
        if code.is_err() {
            self.problem(key, format!("{} is not the code of an option, such as 0xffee or 65518", quoted(text)));
        }
        code.ok()
    }

    fn option_data(&mut self, code: u16, text: &str, key: &str) -> Option<EdnsOption> {
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            if VARIABLES.contains(&text) {
                return Some(EdnsOption::Variable(code, text.to_owned()));
            }
            // What other plugins of CoreDNS know of a query. At this place hardly any of them knew anything there either.
            if inner.split_once('/').is_some_and(|(plugin, label)| !plugin.is_empty() && !label.is_empty()) {
                self.warning(key, format!("nothing here knows of {text}: the rule never applies"));
                return Some(EdnsOption::Variable(code, text.to_owned()));
            }
            let choices = VARIABLES.map(|name| name.trim_matches(['{', '}']));
            self.problem(key, format!("{} is not a variable{}", quoted(text), hint(inner, &choices)));
            return None;
        }
        let data = match text.strip_prefix("0x") {
            Some(digits) => from_hex(digits),
            None => Some(text.as_bytes().to_vec()),
        };
        if data.is_none() {
            self.problem(key, format!("{} is not 0x and pairs of hexadecimal digits", quoted(text)));
        }
        data.map(|data| EdnsOption::Local(code, data))
    }

    /// What is replaced and by what, in the form in which they are compared.
    fn both_names(&mut self, kind: Kind, from: &str, to: &str, key: &str) -> Option<(String, String)> {
        let found = self.subject(kind, from, &format!("{key}.from"))?;
        let at = format!("{key}.to");
        match kind {
            Kind::Regex => self.groups(from, to, &at),
            Kind::Exact if !is_legal(&absolute(to)) => {
                self.warning(&at, format!("{} is not a legal name: the answer will be SERVFAIL", quoted(to)));
            }
            _ => {}
        }
        let to = if matches!(kind, Kind::Prefix | Kind::Substring) { to.to_ascii_lowercase() } else { absolute(to) };
        Some((found, to))
    }

    /// What names are compared with, in the form in which it is.
    fn subject(&mut self, kind: Kind, text: &str, key: &str) -> Option<String> {
        match kind {
            _ if text.is_empty() => {
                self.problem(key, "is empty: it would match every name or none");
                None
            }
            Kind::Regex => {
                let read = Pattern::read(text);
                read.map_err(|message| self.problem(key, message)).ok().map(|Pattern(text)| text)
            }
            Kind::Prefix | Kind::Substring => Some(text.to_ascii_lowercase()),
            Kind::Exact | Kind::Suffix => Some(absolute(text)),
        }
    }

    /// Reports groups in `to` that `from` has not.
    fn groups(&mut self, from: &str, to: &str, key: &str) {
        let Ok(regex) = Regex::new(from) else { return };
        let known = regex.captures_len() - 1;
        let used = (0..=100).filter(|n| to.contains(&format!("{{{n}}}"))).count();
        if used > known {
            self.problem(key, format!("{used} groups are used; {} has {known}", quoted(from)));
        }
    }
}

/// In lower case, with the dot that ends a name.
fn absolute(text: &str) -> String {
    let mut text = text.to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// Whether a name with its last dot can be asked for.
fn is_legal(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    name == "." || name.len() <= 254 && labels.clone().all(|label| (1..=63).contains(&label.len()))
}

/// The octets that pairs of hexadecimal digits stand for.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let octets = digits.as_bytes().chunks(2).map(|pair| match pair {
        [a, b] => Some((char::from(*a).to_digit(16)? << 4 | char::from(*b).to_digit(16)?) as u8),
        _ => None,
    });
    octets.collect()
}
