//! From bytes and command-line arguments to a [`Config`], with every problem and warning on the way.
//!
//! Reads one file and nothing else. Any bytes give an answer, in bounded time and without panicking.

use std::fs::File as Handle;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::address::{Name, Place, Target, address_and_port};
use crate::config::check::check;
use crate::config::corefile::{self, Lowered, Surroundings};
use crate::config::file::{self, File, schema};
use crate::config::problem::{Problem, Problems};
use crate::config::shape::{self, Origins};
use crate::config::source::Source;
use crate::config::text::{Form, Text};
use crate::config::{Config, limits, node_cache, tree, yaml};

/// What the command line puts in place of parts of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen ADDR[:PORT]`: replaces the listen addresses and the port, which is 53 unless given, and leaves the node's
    /// network alone.
    pub listen: Vec<String>,
    /// `--upstream ADDR[:PORT]` or `tls://ADDR[:PORT]#NAME`: replaces the zones by one, `.`, forwarded there over TCP.
    pub upstream: Vec<String>,
    /// node-cache's flags.
    pub node_cache: Option<Arc<node_cache::Over>>,
}

impl Overrides {
    /// What node-cache's flags say of a Corefile besides.
    fn surroundings(&self) -> Surroundings<'_> {
        let flags = self.node_cache.as_ref().map(|over| &over.flags);
        Surroundings {
            port: flags.map_or(limits::PORT.default as u16, |flags| flags.port),
            folder: flags.and_then(|flags| flags.conf.as_deref()?.parent()),
            interface: flags.map_or(("", &[]), |flags| (&flags.interface_name, &flags.local_ips)),
        }
    }
}

/// A configuration that was read, and how.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is odd about it.
    pub warnings: Problems,
    /// What is wrong with parts that were left out.
    pub passed_over: Vec<Problem>,
    /// What it was read from; none if there is no file.
    pub source: Option<Source>,
    /// Files and folders that it was read from besides.
    pub files: Vec<PathBuf>,
    /// The Corefile with its variables replaced, if there was one that had any.
    pub rendered: Option<String>,
    /// [`fingerprint`] of the file's bytes.
    pub fingerprint: u64,
    /// The file's content, a Corefile's as YAML; empty if there is no file.
    pub text: String,
}

/// Reads the file at `path`, or `/etc/nodens/nodens.yaml` if that exists and no path is given, or no file at all.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, Problems> {
    load_from(path, Path::new(limits::DEFAULT_FILE), overrides)
}

/// [`load`], with another place for the file that may be missing.
pub(super) fn load_from(path: Option<&Path>, default: &Path, overrides: &Overrides) -> Result<Loaded, Problems> {
    let file = path.unwrap_or(default);
    let name = file.display().to_string();
    match read(file) {
        Ok(bytes) => {
            let loaded = load_bytes(&name, &bytes, overrides)?;
            Ok(Loaded { source: Some(Source::File(file.to_owned())), ..loaded })
        }
        Err(e) if path.is_none() && e.kind() == io::ErrorKind::NotFound => load_bytes("defaults", b"", overrides),
        Err(e) => {
            let message = format!("cannot read the configuration: {e}");
            Err(Problems(vec![Problem { source: name, at: None, key: String::new(), message }]))
        }
    }
}

/// The bytes of a file, and no more of them than it takes to see that there are too many.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Handle::open(path)?.take(limits::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A number that tells one content of the file from another; equal over restarts of the same build.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    // The keys of DefaultHasher::new are fixed.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Reads `text` as a configuration file called `name`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_str(name: &str, text: &str) -> Result<Loaded, Problems> {
    load_bytes(name, text.as_bytes(), &Overrides::default())
}

/// Reads `bytes` as a configuration file called `name`, with what the command line says over it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_bytes(name: &str, bytes: &[u8], overrides: &Overrides) -> Result<Loaded, Problems> {
    // What is no text at all is nothing that a Corefile could be told by.
    let is_corefile = corefile::is_corefile(name, &String::from_utf8_lossy(bytes));
    load_as(is_corefile, name, bytes, overrides)
}

/// Reads `bytes` as a Corefile called `name`, whatever it is called.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_corefile(name: &str, bytes: &[u8], overrides: &Overrides) -> Result<Loaded, Problems> {
    load_as(true, name, bytes, overrides)
}

fn load_as(is_corefile: bool, name: &str, bytes: &[u8], overrides: &Overrides) -> Result<Loaded, Problems> {
    let mut origins = Origins { source: name.to_owned(), ..Origins::default() };
    let mut problems = Problems::default();
    let mut warnings = Problems::default();
    let (mut file, lowered) = match is_corefile {
        true => parse_corefile(bytes, overrides, &mut origins, &mut problems),
        false => (parse(bytes, &mut origins, &mut problems), None),
    };
    listen(&mut file, &overrides.listen, &mut origins, &mut problems);
    upstream(&mut file, &overrides.upstream, &mut origins, &mut problems);
    if let Some(over) = &overrides.node_cache {
        node_cache::apply(&mut file, over, &mut origins);
    }
    let service = std::env::var(limits::SERVICE_VARIABLE).ok();
    let config = check(&file, service.as_deref(), &origins, &mut problems, &mut warnings);
    let (mut text, mut files) = (None, Vec::new());
    if let Some(mut lowered) = lowered {
        for list in [&mut problems, &mut warnings] {
            let renamed = list.0.drain(..).map(|p| if p.source == name { lowered.rename(p) } else { p }).collect();
            list.0 = renamed;
        }
        warnings.0.append(&mut lowered.warnings);
        warnings.sort();
        text = Some(yaml::print(&lowered.tree, &lowered.comments));
        files = lowered.files;
    }
    if problems.is_empty() {
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
        let (fingerprint, passed_over) = (fingerprint(bytes), Vec::new());
        return Ok(Loaded { config, warnings, passed_over, source: None, files, rendered: None, fingerprint, text });
    }
    problems.sort();
    Err(problems)
}

/// What is right in `bytes`; the rest goes to `problems`.
fn parse(bytes: &[u8], origins: &mut Origins, problems: &mut Problems) -> File {
    let root = text(bytes, origins, problems).map(tree::parse);
    match root {
        Some(Ok(root)) => understood(&root, origins, problems),
        Some(Err(e)) => {
            let source = origins.source.clone();
            problems.push(Problem { source, at: Some(e.place), key: String::new(), message: e.message });
            File::default()
        }
        None => File::default(),
    }
}

/// The same of a Corefile, and what came of it on the way.
fn parse_corefile(
    bytes: &[u8],
    overrides: &Overrides,
    origins: &mut Origins,
    problems: &mut Problems,
) -> (File, Option<Lowered>) {
    let Some(text) = text(bytes, origins, problems) else { return (File::default(), None) };
    match corefile::read(&origins.source, text, &overrides.surroundings()) {
        Ok(lowered) => (understood(&lowered.tree, origins, problems), Some(lowered)),
        Err(found) => {
            problems.0.extend(found.0);
            (File::default(), None)
        }
    }
}

/// The text in `bytes`, if they are one.
fn text<'b>(bytes: &'b [u8], origins: &Origins, problems: &mut Problems) -> Option<&'b str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            problems.push(origins.problem("", format!("not UTF-8 text (line {line})")));
            None
        }
    }
}

/// What is right in the tree.
fn understood(root: &tree::Node, origins: &mut Origins, problems: &mut Problems) -> File {
    let json = shape::check(root, &schema(), origins, problems);
    serde_json::from_value(json).unwrap_or_else(|e| {
        problems.push(origins.problem("", format!("cannot be understood: {e}")));
        File::default()
    })
}

/// Puts the addresses of `--listen` in place of the file's.
fn listen(file: &mut File, given: &[String], origins: &mut Origins, problems: &mut Problems) {
    if given.is_empty() {
        return;
    }
    file.network = file::Network::off();
    // They are for addresses that are not there any more.
    file.zones.iter_mut().flatten().for_each(|zone| zone.listen = None);
    let mut addresses = Vec::new();
    let mut port = None;
    for text in given {
        let argument = format!("--listen {text}");
        let mut wrong = |message: &str| {
            let message = message.to_owned();
            problems.push(Problem { source: argument.clone(), at: None, key: String::new(), message });
        };
        match address_and_port(text, limits::PORT.default as u16) {
            None => wrong("not ADDRESS or ADDRESS:PORT, such as 127.0.0.1:5300 or [::1]:5300"),
            Some(address) if address.port() == 0 => wrong("the port must be between 1 and 65535"),
            Some(address) if *port.get_or_insert(address.port()) != address.port() => {
                wrong("all addresses share one port, which is 53 where none is written")
            }
            Some(address) => {
                origins.arguments.insert(format!("listen.addresses[{}]", addresses.len()), argument);
                addresses.push(Text(Place::from(address.ip())));
            }
        }
    }
    if !addresses.is_empty() {
        file.listen.addresses = Some(addresses);
        file.listen.port = port.map(u64::from);
    }
}

/// Puts one zone for everything, asked of `--upstream`, in place of the file's zones.
fn upstream(file: &mut File, given: &[String], origins: &mut Origins, problems: &mut Problems) {
    if given.is_empty() {
        return;
    }
    let mut to = Vec::new();
    for text in given {
        let argument = format!("--upstream {text}");
        match Target::read(text) {
            Ok(target) => {
                origins.arguments.insert(format!("zones[0].forward.to[{}]", to.len()), argument);
                to.push(Text(target));
            }
            Err(message) => problems.push(Problem { source: argument, at: None, key: String::new(), message }),
        }
    }
    origins.arguments.insert("zones".into(), "--upstream".into());
    let forward = file::Forward { to: (!to.is_empty()).then_some(to), ..file::Forward::default() };
    let root = Text(Name(".".into()));
    file.zones = Some(vec![file::Zone { r#match: Some(vec![root]), forward: Some(forward), ..file::Zone::default() }]);
}
