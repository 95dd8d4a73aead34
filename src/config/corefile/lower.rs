//! What a Corefile means, in nodens' own keys: blocks become zones, directives become the keys that stand for them.
//!
//! Every node stands where the words stand that it comes from, so that what the schema check and the validation say of it
//! leads back to the Corefile. Each directive has its reader in a file of this folder, which knows the forms that CoreDNS
//! takes and says what nodens does instead where it does something else. Defaults that differ are written out.

mod cache;
mod filters;
mod forward;
mod hosts;
mod listeners;
mod node;
mod plain;
mod rewrite;
mod template;
#[cfg(test)]
mod tests;
mod variables;
mod watch;
mod words;

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::corefile::{Block, Comment, Corefile, Directive, Word};
use crate::config::problem::{Problem, Problems};
use crate::config::tree::{Node, Place};
use node::Map;
use words::{Findings, Reading};

/// What is known outside of the Corefile.
pub(in crate::config) struct Around<'a> {
    /// The Corefile, as it is shown to the user.
    pub(in crate::config) name: &'a str,
    /// The port of blocks that name none.
    pub(in crate::config) port: u16,
    /// What this host calls itself.
    pub(in crate::config) host: &'a str,
    /// The addresses of an interface; none if there is no such interface.
    pub(in crate::config) interface: &'a dyn Fn(&str) -> Vec<IpAddr>,
}

/// A Corefile in nodens' keys.
#[derive(Debug)]
pub(in crate::config) struct Lowered {
    /// The tree, as if read from YAML.
    pub(in crate::config) tree: Node,
    /// What means something else here, or nothing.
    pub(in crate::config) warnings: Vec<Problem>,
    /// Where each directive and each key of a block begins in the main file, in the order of the text.
    pub(in crate::config) names: Vec<(Place, String)>,
    /// Comments of the main file.
    pub(in crate::config) comments: Vec<Comment>,
    /// Files that were read besides.
    pub(in crate::config) files: Vec<PathBuf>,
}

impl Lowered {
    /// Gives a problem with a key the name of the directive that the key comes from.
    pub(in crate::config) fn rename(&self, mut problem: Problem) -> Problem {
        let before = problem.at.map_or(0, |at| self.names.partition_point(|(place, _)| *place <= at));
        if let Some((_, name)) = before.checked_sub(1).and_then(|i| self.names.get(i)) {
            problem.key.clone_from(name);
        }
        problem
    }
}

/// What all blocks say together.
struct Whole<'a> {
    around: &'a Around<'a>,
    listeners: listeners::Listeners,
    cache: cache::Capacity,
    ports: watch::Ports,
    debug: Option<Place>,
    udp_size: Option<(Place, i64)>,
    timeouts: Option<Map>,
}

/// Says `corefile` in nodens' keys.
///
/// # Errors
/// Everything in it that is wrong or cannot be had.
pub(in crate::config) fn lower(mut corefile: Corefile, around: &Around<'_>) -> Result<Lowered, Problems> {
    let mut findings = Findings::default();
    findings.warnings.append(&mut corefile.warnings);
    variables::fill(&mut corefile, &mut findings);
    let first = corefile.blocks.first().and_then(|block| block.keys.first()).map_or((1, 1), |key| key.from);
    let mut whole = Whole {
        around,
        listeners: listeners::Listeners::new(around.port),
        cache: cache::Capacity::default(),
        ports: watch::Ports::default(),
        debug: None,
        udp_size: None,
        timeouts: None,
    };
    let mut zones = Vec::new();
    for block in &corefile.blocks {
        let body = whole.block(block, &mut findings);
        zones.extend(
            whole.listeners.block(block, around.interface, &mut findings).into_iter().map(|at| (at, body.clone())),
        );
    }
    if corefile.blocks.is_empty() {
        let message =
            "there is no server block in it; CoreDNS would answer every query with whoami then, which no node can use"
                .to_owned();
        let source = around.name.to_owned();
        findings.problems.push(Problem { source, at: None, key: String::new(), message });
    }
    if !findings.problems.is_empty() {
        findings.problems.sort();
        return Err(findings.problems);
    }
    let tree = whole.tree(first, zones);
    let (comments, files) = (corefile.comments, corefile.files);
    Ok(Lowered { tree, warnings: findings.warnings, names: names(&corefile.blocks), comments, files })
}

impl Whole<'_> {
    /// The keys of the zones of `block`, but for what they are for.
    fn block(&mut self, block: &Block, findings: &mut Findings) -> Map {
        let place = block.keys.first().map_or((1, 1), |key| key.from);
        let mut zone = Map::new(place);
        let of = |name: &str| block.directives.iter().filter(|d| d.name.text == name).collect::<Vec<&Directive>>();
        let mut read =
            |name: &'static str, keys: &mut Map, reader: &mut dyn FnMut(&mut Reading<'_>, &[&Directive], &mut Map)| {
                let directives = of(name);
                if !directives.is_empty() {
                    reader(&mut Reading::new(name, findings), &directives, keys);
                }
            };
        read("forward", &mut zone, &mut forward::forward);
        let mut cached = Map::new(place);
        read("cache", &mut cached, &mut |r, d, keys| cache::cache(r, d, keys, &mut self.cache));
        if of("cache").is_empty() {
            cached.text("enabled", place, "false");
        }
        zone.map("cache", cached);
        for (name, reader) in READERS {
            read(name, &mut zone, &mut |r, d, keys| reader(r, d, keys));
        }
        read("nsid", &mut zone, &mut |r, d, keys| plain::nsid(r, d, keys, self.around.host));
        let mut nothing = Map::new(place);
        let v6 = of("bind").iter().flat_map(|d| &d.arguments).any(|word| word.text.contains(':'));
        for name in ["health", "ready", "prometheus"] {
            read(name, &mut nothing, &mut |r, d, _| self.ports.read(r, d, words::any(v6)));
        }
        read("bufsize", &mut nothing, &mut |r, d, _| plain::bufsize(r, d, &mut self.udp_size));
        read("timeouts", &mut nothing, &mut |r, d, _| plain::timeouts(r, d, &mut self.timeouts));
        read("debug", &mut nothing, &mut |r, d, _| plain::debug(r, d, &mut self.debug));
        for name in plain::WITHOUT_KEYS {
            read(name, &mut nothing, &mut |r, d, _| plain::without_key(r, d));
        }
        for directive in &block.directives {
            let name = directive.name.text.as_str();
            if !is_known(name) {
                let message = "nodens has no such plugin; take it out of the Corefile".to_owned();
                Reading::new(name, findings).refuse::<()>(&directive.name, message);
            }
        }
        zone
    }

    /// Everything, of `zones` and what they are for; what nothing in the Corefile says stands at `place`.
    fn tree(self, place: Place, zones: Vec<(listeners::Site, Map)>) -> Node {
        let mut root = Map::new(place);
        let mut listen = self.listeners.keys(place);
        if let Some(timeouts) = self.timeouts {
            listen.map("timeouts", timeouts);
        }
        root.map("listen", listen);
        root.map("network", self.listeners.network(place));
        let mut answers = Map::new(place);
        answers.text("style", place, "coredns");
        let (at, size) = self.udp_size.unwrap_or((place, plain::UDP_SIZE));
        answers.text("udpSize", at, size);
        root.map("answers", answers);
        root.map("cache", self.cache.keys(place));
        let zones = zones.into_iter().map(|(site, body)| {
            let mut zone = Map::new(site.place);
            self.listeners.zone(site, &mut zone);
            zone.append(body);
            zone.node()
        });
        root.list("zones", zones.collect());
        root.append(self.ports.keys(place));
        let mut log = Map::new(place);
        log.text("format", place, "coredns");
        if let Some(debug) = self.debug {
            log.text("level", debug, "debug");
        }
        root.map("log", log);
        root.node()
    }
}

/// A reader of all lines of a directive in a block, for directives that are keys of the zone alone.
type Reader = fn(&mut Reading<'_>, &[&Directive], &mut Map);

/// They, in the order in which CoreDNS asks its plugins.
const READERS: [(&str, Reader); 12] = [
    ("log", watch::log),
    ("errors", watch::errors),
    ("dns64", filters::dns64),
    ("acl", filters::acl),
    ("any", plain::any),
    ("loadbalance", filters::load_balance),
    ("rewrite", rewrite::rewrite),
    ("minimal", plain::minimal),
    ("template", template::template),
    ("hosts", hosts::hosts),
    ("whoami", plain::whoami),
    ("bind", plain::nothing),
];

/// Whether there is a reader for the directive called `name`.
fn is_known(name: &str) -> bool {
    const OTHERS: [&str; 9] =
        ["forward", "cache", "nsid", "health", "ready", "prometheus", "bufsize", "timeouts", "debug"];
    OTHERS.contains(&name) || plain::WITHOUT_KEYS.contains(&name) || READERS.iter().any(|(known, _)| *known == name)
}

/// Where each directive and each key begins; what an import brought in is called by that.
fn names(blocks: &[Block]) -> Vec<(Place, String)> {
    let named = |word: &Word| {
        let name = if word.from == word.place { &word.text } else { "import" };
        (word.from, name.to_owned())
    };
    let words = blocks.iter().flat_map(|block| block.keys.iter().chain(block.directives.iter().map(|d| &d.name)));
    let mut names: Vec<(Place, String)> = words.map(named).collect();
    names.sort_by_key(|(place, _)| *place);
    names
}
