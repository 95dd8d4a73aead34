//! Stand-ins, with the real signatures, for the modules the commands are hooked up to.

/// Stands in for the crate's `config`.
pub mod config {
    use std::fmt;
    use std::net::IpAddr;
    use std::path::{Path, PathBuf};

    /// What the command line puts in place of parts of the file.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Overrides {
        /// `--listen`.
        pub listen: Vec<String>,
        /// `--upstream`.
        pub upstream: Vec<String>,
    }

    /// A valid configuration.
    #[derive(Clone, Debug)]
    pub struct Config {
        /// Where to serve.
        pub listen: Listen,
    }

    /// Where to serve.
    #[derive(Clone, Debug)]
    pub struct Listen {
        /// Exact addresses.
        pub addresses: Vec<IpAddr>,
        /// The port on all of them.
        pub port: u16,
    }

    /// A configuration that was read, and how.
    #[derive(Clone, Debug)]
    pub struct Loaded {
        /// The configuration.
        pub config: Config,
        /// What is odd about it.
        pub warnings: Problems,
        /// The file it was read from.
        pub source: Option<PathBuf>,
    }

    /// One thing wrong with a file.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Problem {
        /// The file, or the command-line argument, as the user wrote it.
        pub source: String,
        /// Line and column, both from 1.
        pub at: Option<(usize, usize)>,
        /// The key, as `zones[0].forward.to`; empty for the file as a whole.
        pub key: String,
        /// What is wrong and what to do.
        pub message: String,
    }

    /// Everything wrong with a file.
    #[derive(Clone, Debug, Default, thiserror::Error)]
    pub struct Problems(pub Vec<Problem>);

    impl fmt::Display for Problem {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}:", self.source)?;
            if let Some((line, column)) = self.at {
                write!(f, "{line}:{column}:")?;
            }
            if !self.key.is_empty() {
                write!(f, " {}:", self.key)?;
            }
            write!(f, " {}", self.message)
        }
    }

    impl fmt::Display for Problems {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (i, problem) in self.0.iter().enumerate() {
                if i > 0 {
                    f.write_str("\n")?;
                }
                write!(f, "{problem}")?;
            }
            Ok(())
        }
    }

    /// Reads and validates a file.
    pub fn load(path: Option<&Path>, _overrides: &Overrides) -> Result<Loaded, Problems> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|e| {
                let source = path.display().to_string();
                Problems(vec![Problem { source, at: None, key: String::new(), message: format!("cannot read: {e}") }])
            })?,
            None => String::new(),
        };
        load_str("", &text)
    }

    /// Validates a text.
    pub fn load_str(_name: &str, _text: &str) -> Result<Loaded, Problems> {
        let listen = Listen { addresses: vec![[169, 254, 20, 10].into()], port: 53 };
        Ok(Loaded { config: Config { listen }, warnings: Problems::default(), source: None })
    }

    /// The schema of the file.
    pub fn schema() -> serde_json::Value {
        serde_json::json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object" })
    }
}

/// Stands in for the crate's `app`.
pub mod app {
    use super::config;
    use std::path::PathBuf;

    /// What to run.
    #[derive(Clone, Debug)]
    pub struct Options {
        /// The validated configuration.
        pub config: config::Config,
        /// The file to follow.
        pub config_path: Option<PathBuf>,
        /// What stays on top of it at each reload.
        pub overrides: config::Overrides,
    }

    /// Why the daemon did not start, or stopped.
    #[derive(Debug, thiserror::Error)]
    #[error("the server is not part of this build")]
    pub struct Error;

    /// A daemon inside this process.
    #[derive(Debug)]
    pub struct Running;

    impl Running {
        /// Drains and stops.
        pub async fn stop(self) {}
    }

    /// Runs until SIGTERM.
    pub fn run(_options: Options) -> Result<(), Error> {
        Err(Error)
    }

    /// Starts inside a runtime.
    pub fn start(_options: Options, _runtime: &tokio::runtime::Handle) -> Result<Running, Error> {
        Err(Error)
    }
}
