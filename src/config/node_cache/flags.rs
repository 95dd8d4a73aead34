//! node-cache's command line, in the grammar of Go's `flag` package: `-x v`, `-x=v` and `--x` are one, a boolean stands
//! alone or takes `=true`, and the first word that is no flag ends them.
//!
//! Every flag is taken. Where node-cache itself stumbles over a value that people write (a trailing comma, two families of
//! addresses, `-syncinterval 60`), this does what was meant.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::corefile::DIRECTIVES;
use crate::config::network::InterfaceName;
use crate::config::problem::{nearest, quoted};
use crate::config::text::Form;

/// What takes a value, with its default and what it is.
const VALUES: [(&str, &str, &str); 15] = [
    ("basecorefile", "/etc/coredns/Corefile.base", "the Corefile in which variables are filled in"),
    ("conf", "", "where the Corefile is written when they are; read itself where there is no base"),
    ("corefile", "/etc/Corefile", "without effect: -conf is what counts"),
    ("dns.port", "53", "the port of server blocks that name none"),
    ("health-port", "8080", "without effect: the Corefile says where health is served"),
    ("interfacename", "nodelocaldns", "the name of the interface"),
    ("kubednscm", "", "folder of the ConfigMap kube-dns (default: /etc/kube-dns if it is there)"),
    ("localip", "", "the addresses of the interface and of the rules, separated by commas"),
    ("metrics-listen-address", "0.0.0.0:9353", "where metrics are served besides, if the port can be had"),
    ("p", "53", "the same as -dns.port"),
    ("pidfile", "", "file in which the process id is kept while there is anything to be asked"),
    ("prometheus-listen-address", ":9253", "what __PROMETHEUS__ENDPOINT__ stands for"),
    ("syncinterval", "60", "without effect: what others change is put back at once"),
    ("upstreamsvc", "kube-dns", "the Service whose address __PILLAR__CLUSTER__DNS__ stands for"),
    // Between a guardian and its server; nobody else is told.
    ("supervised", "", ""),
];

/// What is true or false, with its default and what it is.
const SWITCHES: [(&str, bool, &str); 9] = [
    ("h", false, ""),
    ("help", false, ""),
    ("plugins", false, "list the plugins and end"),
    ("quiet", false, "without effect: nothing is printed but the log"),
    ("reloadwithsignal", false, "without effect: changes are followed in any case"),
    ("setupinterface", true, "make the interface"),
    ("setupiptables", true, "write the rules that keep packets out of connection tracking"),
    ("skipteardown", false, "leave the interface as it is at the end"),
    ("version", false, "print the version and end"),
];

/// What node-cache is to do, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// `-localip`: in the order written, none twice.
    pub local_ips: Vec<IpAddr>,
    /// `-setupinterface`.
    pub setup_interface: bool,
    /// `-interfacename`.
    pub interface_name: String,
    /// `-setupiptables`.
    pub setup_iptables: bool,
    /// `-skipteardown`.
    pub skip_teardown: bool,
    /// `-metrics-listen-address`; none when it is empty.
    pub metrics: Option<SocketAddr>,
    /// `-prometheus-listen-address`, as written.
    pub prometheus: String,
    /// `-basecorefile`.
    pub base: PathBuf,
    /// `-conf`.
    pub conf: Option<PathBuf>,
    /// `-kubednscm`.
    pub kube_dns: Option<PathBuf>,
    /// `-upstreamsvc`.
    pub service: String,
    /// `-dns.port`, `-p`.
    pub port: u16,
    /// `-pidfile`.
    pub pid_file: Option<PathBuf>,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To serve.
    Serve(Box<Flags>),
    /// To serve behind a guardian.
    Supervised {
        /// As the guardian was told.
        flags: Box<Flags>,
        /// How many descriptors it passes on.
        descriptors: usize,
        /// When another instance was told to save its cache, in milliseconds since 1970.
        saved_since: Option<u64>,
    },
    /// To print this and end.
    Usage(String),
    /// To print the version and end.
    Version,
    /// To list the plugins and end.
    Plugins,
}

/// What is wrong with a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such flag.
    #[error("flag provided but not defined: -{name}{hint}")]
    Unknown {
        /// As written, shortened.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// It begins like a flag and is none.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// It ends where a value should stand.
    #[error("flag needs an argument: -{0}")]
    Bare(String),
    /// The value is not what the flag takes.
    #[error("invalid value {value} for flag -{name}: {why}")]
    Value {
        /// The flag.
        name: String,
        /// The value.
        value: String,
        /// What would be right.
        why: String,
    },
    /// There is more behind the flags.
    #[error("extra argument {0}: all of them are flags")]
    Extra(String),
}

impl Default for Flags {
    fn default() -> Flags {
        Flags {
            local_ips: Vec::new(),
            setup_interface: true,
            interface_name: value_of("interfacename").to_owned(),
            setup_iptables: true,
            skip_teardown: false,
            metrics: value_of("metrics-listen-address").parse().ok(),
            prometheus: value_of("prometheus-listen-address").to_owned(),
            base: value_of("basecorefile").into(),
            conf: None,
            kube_dns: None,
            service: value_of("upstreamsvc").to_owned(),
            port: 53,
            pid_file: None,
        }
    }
}

/// The default of a flag that takes a value.
fn value_of(name: &str) -> &'static str {
    VALUES.iter().find(|(known, ..)| *known == name).map_or("", |(_, value, _)| value)
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(arguments: &[OsString]) -> Result<Wanted, Error> {
    let mut reader = Reader::default();
    let mut rest = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = rest.next() {
        let name = match argument.strip_prefix('-') {
            None | Some("") => return Err(Error::Extra(quoted(&argument))),
            Some("-") => match rest.next() {
                Some(extra) => return Err(Error::Extra(quoted(&extra))),
                None => break,
            },
            Some(name) => name.strip_prefix('-').unwrap_or(name),
        };
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || name.starts_with('-') {
            return Err(Error::Syntax(quoted(&argument)));
        }
        if let Some((name, ..)) = SWITCHES.iter().find(|(known, ..)| *known == name) {
            let on = value.map_or(Ok(true), |value| boolean(name, value))?;
            reader.switch(name, on);
        } else if VALUES.iter().any(|(known, ..)| *known == name) || name == "saved-since" {
            match (value, value.is_none().then(|| rest.next()).flatten()) {
                (Some(value), _) => reader.value(name, value)?,
                (None, Some(value)) => reader.value(name, &value)?,
                (None, None) => return Err(Error::Bare(name.to_owned())),
            }
        } else {
            return Err(unknown(name));
        }
    }
    Ok(reader.wanted())
}

fn unknown(name: &str) -> Error {
    let known: Vec<&str> = shown().map(|(name, ..)| name).collect();
    let hint = nearest(name, &known).map_or_else(String::new, |near| format!("; did you mean -{near}?"));
    Error::Unknown { name: quoted(name).trim_matches('"').to_owned(), hint }
}

/// What a command line says, while it is being read.
#[derive(Default)]
struct Reader {
    flags: Flags,
    help: bool,
    version: bool,
    plugins: bool,
    descriptors: Option<usize>,
    saved_since: Option<u64>,
}

impl Reader {
    fn switch(&mut self, name: &str, on: bool) {
        match name {
            "h" | "help" => self.help = on,
            "plugins" => self.plugins = on,
            "setupinterface" => self.flags.setup_interface = on,
            "setupiptables" => self.flags.setup_iptables = on,
            "skipteardown" => self.flags.skip_teardown = on,
            "version" => self.version = on,
            _ => {}
        }
    }

    fn value(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let no = |why: &str| Error::Value { name: name.to_owned(), value: quoted(value), why: why.to_owned() };
        let path = (!value.is_empty()).then(|| PathBuf::from(value));
        let flags = &mut self.flags;
        match name {
            "basecorefile" => flags.base = path.ok_or_else(|| no("a file is to be named"))?,
            "conf" => flags.conf = path,
            "dns.port" | "p" => {
                let port = value.parse().ok().filter(|port| *port != 0);
                flags.port = port.ok_or_else(|| no("must be a port, from 1 to 65535"))?;
            }
            "health-port" => {
                value.parse::<u16>().map_err(|_| no("must be a port, from 1 to 65535"))?;
            }
            "interfacename" => {
                InterfaceName::read(value).map_err(|why| no(&why))?;
                value.clone_into(&mut flags.interface_name);
            }
            "kubednscm" => flags.kube_dns = path,
            "localip" => {
                flags.local_ips = addresses(value).map_err(|wrong| no(&format!("{wrong} is no IP address")))?
            }
            "metrics-listen-address" => flags.metrics = endpoint(value).map_err(|()| no("must be ADDRESS:PORT"))?,
            "pidfile" => flags.pid_file = path,
            "prometheus-listen-address" => {
                endpoint(value).map_err(|()| no("must be ADDRESS:PORT"))?;
                value.clone_into(&mut flags.prometheus);
            }
            "saved-since" => self.saved_since = Some(value.parse().map_err(|_| no("must be milliseconds"))?),
            "supervised" => self.descriptors = Some(value.parse().map_err(|_| no("must be a number"))?),
            "syncinterval" if !is_interval(value) => return Err(no("must be a length of time, such as 60s")),
            "upstreamsvc" => {
                if value.is_empty() || value.contains(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c)) {
                    return Err(no("must be the name of a Service, such as kube-dns-upstream"));
                }
                value.clone_into(&mut flags.service);
            }
            _ => {}
        }
        Ok(())
    }

    fn wanted(self) -> Wanted {
        let flags = Box::new(self.flags);
        match (self.help, self.version, self.plugins, self.descriptors) {
            (true, ..) => Wanted::Usage(usage()),
            (_, true, ..) => Wanted::Version,
            (_, _, true, _) => Wanted::Plugins,
            (.., Some(descriptors)) => Wanted::Supervised { flags, descriptors, saved_since: self.saved_since },
            _ => Wanted::Serve(flags),
        }
    }
}

/// What Go takes for a boolean.
fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::Value { name: name.to_owned(), value: quoted(value), why: "must be true or false".to_owned() }),
    }
}

/// The addresses in a list: what is empty is passed over, since a variable may have been replaced by nothing, and so is one
/// that is left over because there is nothing to replace it by.
fn addresses(value: &str) -> Result<Vec<IpAddr>, String> {
    let mut found = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != super::template::DNS_SERVER)
    {
        let address = part.parse().map_err(|_| quoted(part))?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

/// An address and port as Go writes them: no address is every address.
fn endpoint(value: &str) -> Result<Option<SocketAddr>, ()> {
    if value.is_empty() {
        return Ok(None);
    }
    let whole = if value.starts_with(':') { format!("0.0.0.0{value}") } else { value.to_owned() };
    let whole = whole.strip_prefix("localhost:").map_or_else(|| whole.clone(), |port| format!("127.0.0.1:{port}"));
    whole.parse().ok().filter(|address: &SocketAddr| address.port() != 0).map(Some).ok_or(())
}

/// Whether `value` is a length of time as Go writes it, or a bare number, as people do.
fn is_interval(value: &str) -> bool {
    if value.parse::<u64>().is_ok() {
        return true;
    }
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let unit = ["ms", "us", "µs", "ns", "h", "m", "s"].iter().find_map(|unit| digits.strip_prefix(unit));
        match unit {
            Some(after) if digits.len() < rest.len() => rest = after,
            _ => return false,
        }
    }
    !value.is_empty()
}

/// The flags that people are told of: name, default, meaning.
fn shown() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let values = VALUES.iter().map(|&(name, value, help)| (name, value.to_owned(), help));
    let switches = SWITCHES.iter().map(|&(name, on, help)| (name, if on { "true" } else { "" }.to_owned(), help));
    values.chain(switches).filter(|(.., help)| !help.is_empty())
}

/// All flags, for people.
pub fn usage() -> String {
    let mut out = String::from("Usage: node-cache [FLAG]...\n\nServes a Corefile as node-cache does. Flags:\n");
    let mut all: Vec<_> = shown().collect();
    all.sort();
    for (name, default, help) in all {
        let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
        let _ = writeln!(out, "  -{name}\n        {help}{default}");
    }
    out
}

/// All plugins, as CoreDNS lists them.
pub fn plugins() -> String {
    let list: Vec<String> = DIRECTIVES.iter().map(|name| format!("  dns.{name}\n")).collect();
    format!("Server types:\n  dns\n\nOther plugins:\n{}", list.concat())
}

#[cfg(test)]
mod tests;
