//! `nodens serve`: the daemon in the foreground, until it is told to stop.

use super::address;
use super::{Error, Outcome, output};
use crate::{app, config};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGHUP and SIGUSR1 reload the configuration, SIGTERM drains and stops, a second SIGTERM stops at once. SIGQUIT \
                  stops for good: the fallback to kube-dns goes, too."
)]
pub struct Args {
    /// Configuration file or Corefile (default: /etc/nodens/nodens.yaml if it exists, else the built-in defaults).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Serve here instead of where the file says; may be repeated, or hold several behind commas, as Kubernetes writes
    /// the addresses of a pod. They must exist; port 53 unless given.
    #[arg(long, value_name = "ADDR[:PORT]", value_delimiter = ',', value_parser = address::parse)]
    pub listen: Vec<SocketAddr>,
    /// Forward everything here, over TCP, instead of by the file's zones; may be repeated. Encrypted, for servers whose
    /// certificate the system trusts: `tls://ADDR[:PORT]#NAME`.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address::parse_upstream)]
    pub upstream: Vec<String>,
    /// Take so many descriptors from the guardian that started this process, instead of binding sockets.
    #[arg(long, value_name = "N", hide = true)]
    pub supervised: Option<usize>,
    /// Another instance was told to save its cache after this time, in milliseconds since 1970: wait for that.
    #[arg(long, value_name = "MS", hide = true, requires = "supervised")]
    pub saved_since: Option<u64>,
}

/// Runs the daemon; returns when it has been stopped.
pub fn run(args: Args) -> Result<Outcome, Error> {
    let listen = args.listen.iter().map(SocketAddr::to_string).collect();
    let overrides = config::Overrides { listen, upstream: args.upstream, node_cache: None };
    if let Some(count) = args.supervised {
        let since = args.saved_since.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
        app::supervised::run(count, since, args.config.map(config::Source::File), overrides)?;
        return Ok(Outcome::Success);
    }
    let loaded = config::load(args.config.as_deref(), &overrides)?;
    for warning in &loaded.warnings.0 {
        output::warn(&warning.to_string());
    }
    app::serve(loaded, overrides)?;
    Ok(Outcome::Success)
}
