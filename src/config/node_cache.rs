//! A configuration in the place of node-cache's: its flags, the Corefile with its variables, and the ConfigMap `kube-dns`.
//!
//! What is read becomes one Corefile, and from there on it is a configuration like any other; the flags are laid over it
//! as those of `serve` are. A ConfigMap that cannot be used is passed over for the last one that could.

mod apply;
pub mod config_map;
pub mod flags;
mod template;

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::load::{Loaded, Overrides, fingerprint, load_bytes, read};
use crate::config::problem::{Problem, Problems};
use crate::config::{Config, Target};
pub(super) use apply::apply;
use config_map::KubeDns;
pub use flags::Flags;
use template::Values;

/// Where the ConfigMap is mounted unless a flag says otherwise.
const KUBE_DNS: &str = "/etc/kube-dns";
/// What the name of a Service ends in that is not there: nobody has such names (RFC 6761, section 6.4), and no server is
/// asked about them.
const MISSING: &str = ".missing.invalid";

/// What the flags say, as it is laid over every configuration that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The flags.
    pub flags: Flags,
    /// The command line that they were read from.
    pub arguments: Vec<OsString>,
    /// The most memory that the container may use, in bytes.
    pub memory: Option<u64>,
}

/// A Corefile and what is filled into it.
#[derive(Debug)]
pub struct NodeCache {
    flags: Flags,
    /// The variable that names the Service's address, and what it says.
    variable: String,
    cluster_dns: Option<IpAddr>,
    /// The file that is read, and whether variables are filled in.
    file: PathBuf,
    is_template: bool,
    /// The folder of the ConfigMap.
    folder: Option<PathBuf>,
    /// The last ConfigMap that could be used.
    kube_dns: Mutex<KubeDns>,
}

impl NodeCache {
    /// The sources that `flags` name, given the environment.
    pub fn new(flags: &Flags, environment: impl Fn(&str) -> Option<String>) -> NodeCache {
        let variable = variable(&flags.service);
        let is_template = flags.base.exists() || !flags.conf.as_ref().is_some_and(|conf| conf.exists());
        let file = flags.conf.clone().filter(|_| !is_template).unwrap_or_else(|| flags.base.clone());
        let folder = flags.kube_dns.clone().or_else(|| Some(PathBuf::from(KUBE_DNS)).filter(|folder| folder.exists()));
        NodeCache {
            cluster_dns: environment(&variable).and_then(|value| value.trim().parse().ok()),
            flags: flags.clone(),
            variable,
            file,
            is_template,
            folder: folder.filter(|_| is_template),
            kube_dns: Mutex::default(),
        }
    }

    /// The file that is read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder of the ConfigMap, if that is read.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Where the Corefile is written when it is complete; nowhere if it is read there.
    pub fn conf(&self) -> Option<&Path> {
        self.flags.conf.as_deref().filter(|conf| self.is_template && *conf != self.file)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Everything that is wrong with the Corefile.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, Problems> {
        let name = self.file.display().to_string();
        let bytes = read(&self.file).map_err(|e| {
            let message = format!("cannot read the Corefile: {e}");
            Problems(vec![Problem { source: name.clone(), at: None, key: String::new(), message }])
        })?;
        let folder = self.folder.as_deref();
        self.complete(&name, &bytes, folder.map(|folder| |file: &str| content(&folder.join(file))), overrides)
    }

    /// The configuration of the Corefile `bytes` with what `config_map` says, file by file.
    fn complete(
        &self,
        name: &str,
        bytes: &[u8],
        config_map: Option<impl Fn(&str) -> Option<String>>,
        overrides: &Overrides,
    ) -> Result<Loaded, Problems> {
        // What is no text is for the reader to complain of.
        let Some(text) = std::str::from_utf8(bytes).ok().filter(|_| self.is_template) else {
            return load_bytes(name, bytes, overrides);
        };
        let mut kept = self.kube_dns.lock().unwrap_or_else(PoisonError::into_inner);
        let found = config_map.map_or(Ok(KubeDns::default()), config_map::read);
        let (kube_dns, unusable) = match found {
            Ok(found) => (found, None),
            Err(error) => (kept.clone(), Some(error)),
        };
        let rendered = self.render(text, &kube_dns);
        let mut loaded = load_bytes(name, rendered.as_bytes(), overrides)?;
        let folder = self.folder.as_ref().map_or_else(String::new, |folder| folder.display().to_string());
        loaded.passed_over.extend(unusable.map(|error| {
            let source = Path::new(&folder).join(error.file).display().to_string();
            let message = format!("the ConfigMap is passed over: {}", error.why);
            Problem { source, at: None, key: String::new(), message }
        }));
        if self.cluster_dns.is_none() && template::needs_cluster_dns(text) {
            loaded.warnings.push(self.missing());
        }
        loaded.fingerprint = fingerprint(bytes);
        loaded.rendered = Some(rendered);
        *kept = kube_dns;
        Ok(loaded)
    }

    fn render(&self, base: &str, kube_dns: &KubeDns) -> String {
        let flags = &self.flags;
        let missing = || format!("{}{MISSING}", flags.service.to_ascii_lowercase());
        let cluster_dns = self.cluster_dns.map_or_else(missing, |ip| ip.to_string());
        let values = Values {
            local: &flags.local_ips,
            port: flags.port,
            cluster_dns: &cluster_dns,
            prometheus: &flags.prometheus,
        };
        template::render(base, &values, kube_dns)
    }

    fn missing(&self) -> Problem {
        let NodeCache { flags: Flags { service, .. }, variable, .. } = self;
        let message = format!(
            "the environment variable {variable} names no address: the Service {service} was not there when this \
             container was started, and a process gets no other environment. Create it in this namespace and start the \
             container again; until then names that it should answer fail, and no packets are captured"
        );
        Problem { source: format!("-upstreamsvc {service}"), at: None, key: String::new(), message }
    }
}

impl Config {
    /// The Service that should answer names of the cluster and was not there when this process was started.
    pub fn missing_service(&self) -> Option<&str> {
        let targets = self.zones.iter().flat_map(|zone| &zone.forwards).flat_map(|forward| &forward.to);
        targets.filter_map(missing_service).next()
    }
}

/// The Service that `target` stands for, if it is one that is not there.
fn missing_service(target: &Target) -> Option<&str> {
    if let Target::Name { host, .. } = target { host.strip_suffix(MISSING) } else { None }
}

/// The variable in which Kubernetes tells a container the address of a Service of its namespace.
fn variable(service: &str) -> String {
    format!("{}_SERVICE_HOST", service.replace(['-', '.'], "_").to_ascii_uppercase())
}

/// The text in a file of the ConfigMap; one that cannot be read is as bad as one that says nonsense.
fn content(path: &Path) -> Option<String> {
    match read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(format!("cannot be read: {e}")),
    }
}

#[cfg(test)]
mod tests;
