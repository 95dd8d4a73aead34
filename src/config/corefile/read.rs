//! Whether a text is a Corefile, and what it takes from outside: this host's name, addresses and environment.

use std::net::IpAddr;
use std::path::Path;

use crate::config::corefile::lower::{Around, Lowered, lower};
use crate::config::corefile::parse;
use crate::config::problem::Problems;
use crate::sys::interfaces;

/// What is known of a Corefile besides its text.
pub(in crate::config) struct Surroundings<'a> {
    /// The port of blocks that name none.
    pub(in crate::config) port: u16,
    /// Where relative imports start; the Corefile's own folder if that is not said.
    pub(in crate::config) folder: Option<&'a Path>,
    /// The name of the interface that is yet to be made, and the addresses that it will hold.
    pub(in crate::config) interface: (&'a str, &'a [IpAddr]),
}

/// Whether the file called `name` is a Corefile and not YAML.
///
/// It is by its name: `Corefile`, `Corefile.base` and the like are, what ends in .yaml, .yml or .json is not. Any other
/// file is one if its first line that says something opens a block; no mapping of YAML begins like that.
pub(in crate::config) fn is_corefile(name: &str, text: &str) -> bool {
    let file = Path::new(name).file_name().map_or(String::new(), |file| file.to_string_lossy().to_ascii_lowercase());
    if [".yaml", ".yml", ".json"].iter().any(|end| file.ends_with(end)) {
        return false;
    }
    file.starts_with("corefile") || file.ends_with(".corefile") || opens_a_block(text)
}

/// Whether `text` begins with the keys of a block: words on one line, `{` behind them or alone on the next.
fn opens_a_block(text: &str) -> bool {
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(said);
    let first: Vec<&str> =
        lines.next().unwrap_or_default().split_whitespace().take_while(|w| !w.starts_with('#')).collect();
    let keys = first.strip_suffix(&["{"]).unwrap_or(&first);
    let is_open =
        keys.len() < first.len() || lines.next().is_some_and(|line| line.split_whitespace().next() == Some("{"));
    // With a colon behind a word it is a key of YAML; the others begin something else in it.
    let is_yaml = |word: &&str| word.ends_with(':') || word.starts_with(|c: char| "{}[]-?&!|>%@`\"'*".contains(c));
    is_open
        && !keys.is_empty()
        && !keys.iter().any(is_yaml)
        && !keys.iter().any(|word| word.contains("\":") || word.contains("':"))
}

/// Reads `text`, the Corefile called `name`, as a tree of nodens' own keys.
///
/// # Errors
/// Everything that is wrong with it.
pub(in crate::config) fn read(name: &str, text: &str, around: &Surroundings<'_>) -> Result<Lowered, Problems> {
    let base = around
        .folder
        .or_else(|| Path::new(name).parent())
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let corefile = parse(name, text, base, &|variable| std::env::var(variable).ok())?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (port, to_be) = (around.port, around.interface);
    let interface = |name: &str| if name == to_be.0 { to_be.1.to_vec() } else { interfaces::addresses(name) };
    lower(corefile, &Around { name, port, host: host.trim(), interface: &interface })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corefile_is_known_by_its_name_or_by_its_first_line() {
        for (name, text, expected) in [
            ("/etc/Corefile", "", true),
            ("/etc/coredns/Corefile.base", "whoami", true),
            ("Corefile.yaml", ".:53 {\n}\n", false),
            ("x/stub.corefile", "", true),
            ("/etc/nodens/nodens.yaml", ".:53 {\n", false),
            ("n.json", ". {", false),
            ("config", ".:53 {\n  whoami\n}\n", true),
            ("config", "\u{feff}# remark\n\n  example.org:53 .  { # here\n", true),
            ("config", "cluster.local:53\n{\n", true),
            ("config", "(snippet) {\n", true),
            // YAML, whatever it looks like.
            ("config", "", false),
            ("config", "listen:\n  port: 53\n", false),
            ("config", "listen: {\n  port: 53 }\n", false),
            ("config", "\"listen\": {\n", false),
            ("config", "listen : {\n", false),
            ("config", "{\n  \"listen\": {}\n}\n", false),
            ("config", "---\n{ listen: {} }\n", false),
            ("config", "--- {\n listen: {} }\n", false),
            ("config", "? listen\n: {\n", false),
            ("config", "- {\n", false),
            ("config", "&a {\n", false),
            ("config", "!!map {\n", false),
            ("config", "%YAML 1.2\n---\n", false),
            ("config", "a b: {\n", false),
            ("config", "listen:\n  {\n    port: 53\n  }\n", false),
            ("defaults", "", false),
        ] {
            assert_eq!(is_corefile(name, text), expected, "{name}: {text:?}");
        }
    }
}
