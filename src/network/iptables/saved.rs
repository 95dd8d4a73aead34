//! What `iptables-save` prints, taken apart as far as we need: chains with their policies, and rules.
//!
//! Rules are told to be the same by what they say, not by how a version of iptables spells it (`-j CT --notrack` or
//! `-j NOTRACK`, with or without `-m udp`, probabilities rounded). A rule is removed in its own spelling, though.

use super::rules::{CHAIN, NODE_CACHE, OURS};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// A rule in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) table: String,
    pub(super) chain: String,
    /// Everything behind the chain's name.
    pub(super) text: String,
}

impl Rule {
    pub(super) fn new(table: &str, chain: &str, text: String) -> Rule {
        Rule { table: table.to_owned(), chain: chain.to_owned(), text }
    }

    /// What the rule says, in an order and a spelling that does not depend on who wrote it.
    pub(super) fn meaning(&self) -> Vec<String> {
        let mut options: Vec<String> = options(&self.text).iter().map(|option| spelt(option)).collect();
        // Said by `-p` already, and left out by some versions.
        options.retain(|option| option != "-m udp" && option != "-m tcp");
        if let Some(at) = options.iter().position(|option| option == "--notrack") {
            options.remove(at);
            options.iter_mut().filter(|option| *option == "-j CT").for_each(|option| *option = "-j NOTRACK".to_owned());
        }
        options.sort_unstable();
        options
    }

    /// Do both say the same in the same place?
    pub(super) fn is(&self, other: &Rule) -> bool {
        self.table == other.table && self.chain == other.chain && self.meaning() == other.meaning()
    }

    /// What is said behind `name`.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let option =
            options(&self.text).into_iter().find(|option| option.first().is_some_and(|first| first == name))?;
        option.into_iter().nth(1)
    }

    /// The address of `-s` or `-d`.
    fn address(&self, name: &str) -> Option<IpNet> {
        address(&self.value(name)?)
    }

    /// Is it about packets to one of `addresses`?
    pub(super) fn leads_to(&self, addresses: &[IpAddr]) -> bool {
        self.address("-d").is_some_and(|net| addresses.iter().any(|&address| net == address.into()))
    }

    /// Did we write it?
    pub(super) fn is_ours(&self) -> bool {
        let leads = || self.text.contains(CHAIN) && self.value("-j").is_some_and(|target| target == CHAIN);
        self.chain == CHAIN || self.has_comment(OURS) || leads()
    }

    /// Did node-cache write it?
    pub(super) fn is_node_caches(&self) -> bool {
        self.has_comment(NODE_CACHE)
    }

    fn has_comment(&self, start: &str) -> bool {
        // kube-proxy may have written tens of thousands of rules, which are not to be taken apart for nothing.
        self.text.contains(start) && self.value("--comment").is_some_and(|comment| comment.starts_with(start))
    }

    /// Where it sends packets instead.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        self.value("--to-destination")?.parse().ok()
    }
}

/// The tables of one family, or some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Table, chain and policy; `-` for chains that somebody made.
    pub(super) chains: Vec<(String, String, String)>,
    /// In the order in which they are tried.
    pub(super) rules: Vec<Rule>,
    /// Tables that iptables has no words for, since somebody wrote to them with `nft`.
    pub(super) unreadable: Vec<String>,
}

impl Saved {
    pub(super) fn parse(text: &str) -> Saved {
        let mut saved = Saved::default();
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim_end();
            } else if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split(' ');
                if let (Some(name), Some(policy)) = (words.next(), words.next()) {
                    saved.chains.push((table.to_owned(), name.to_owned(), policy.to_owned()));
                }
            } else if let Some((chain, text)) =
                line.strip_prefix("-A ").map(|rule| rule.split_once(' ').unwrap_or((rule, "")))
            {
                saved.rules.push(Rule::new(table, chain, text.to_owned()));
            } else if let Some(name) = unreadable(line) {
                saved.unreadable.push(name.to_owned());
            }
        }
        saved
    }

    /// The chains of the filter table that drop what comes to or from this host, unless a rule accepts it.
    pub(super) fn dropping(&self) -> impl Iterator<Item = &str> {
        let chains = self.chains.iter().map(|(table, chain, policy)| (&**table, &**chain, &**policy));
        chains.filter_map(|(table, chain, policy)| {
            (table == "filter" && policy == "DROP" && chain != "FORWARD").then_some(chain)
        })
    }

    /// Is there such a chain?
    pub(super) fn has_chain(&self, table: &str, chain: &str) -> bool {
        self.chains.iter().any(|(of, name, _)| of == table && name == chain)
    }
}

/// The table of ``# Table `filter' is incompatible, use 'nft' tool.``
fn unreadable(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix("# Table `")?.split_once('\'')?;
    rest.contains("incompatible").then_some(name)
}

/// The words of a rule: apart at spaces, but for what stands in quotes, in which a backslash says that the next
/// character is meant.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_with(String::new);
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The words of a rule in groups: an option, negated or not, with what belongs to it.
fn options(text: &str) -> Vec<Vec<String>> {
    let mut options: Vec<Vec<String>> = Vec::new();
    let mut negated = false;
    for word in words(text) {
        let opens = word == "!" || (word.starts_with('-') && word.len() > 1);
        match options.last_mut() {
            Some(last) if !opens || negated => last.push(word.clone()),
            _ => options.push(vec![word.clone()]),
        }
        negated = word == "!";
    }
    options
}

/// An option in our spelling.
fn spelt(option: &[String]) -> String {
    let option: Vec<&str> = option.iter().map(String::as_str).collect();
    match option[..] {
        ["-p", "17"] => "-p udp".to_owned(),
        ["-p", "6"] => "-p tcp".to_owned(),
        [name @ ("-s" | "-d"), value] => address(value).map_or_else(|| option.join(" "), |net| format!("{name} {net}")),
        ["--probability", value] => value.parse().map_or_else(
            |_| option.join(" "),
            |value: f64| {
                // As the kernel keeps it: in parts of 2^31.
                format!("--probability {}", (value * f64::from(1_u32 << 31)).round())
            },
        ),
        _ => option.join(" "),
    }
}

/// An address with or without a prefix.
fn address(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|host: IpAddr| host.into()))
}
