//! `nodens demo`: the cache and an authoritative server for it to ask, in one process on loopback, with a guide to it.
//!
//! Nothing here is special to the demo but the configuration text and the upstream: the cache is the one that `serve`
//! runs. No root, no cluster, no file is written.

pub mod authority;
pub mod guide;
pub mod zone;

use super::output::{self, Style};
use super::{Error as CliError, Outcome};
use crate::{app, config};
use authority::Authority;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use tokio::signal::unix::{SignalKind, signal};

/// Where metrics are, when that is free.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9253);
/// Where health and readiness are, when that is free.
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port of the cache on 127.0.0.1, UDP and TCP.
    #[arg(long, default_value_t = 5300, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Where to serve metrics (default: 127.0.0.1:9253, or a free port if that is taken).
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Where to serve health and readiness (default: 127.0.0.1:8080, or a free port if that is taken).
    #[arg(long, value_name = "ADDR:PORT")]
    pub health: Option<SocketAddr>,
}

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The upstream cannot run.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// No runtime, or no signals.
    #[error("cannot start a runtime for the demo: {0}")]
    Runtime(#[source] io::Error),
    /// No port.
    #[error("cannot find a free port on 127.0.0.1: {0}")]
    Port(#[source] io::Error),
}

/// Which address is for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The cache, UDP and TCP.
    pub cache: SocketAddr,
    /// Its upstream: the embedded authoritative server.
    pub upstream: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
    /// `/health` and `/ready`.
    pub health: SocketAddr,
}

impl Plan {
    /// The configuration of the cache, as a user would write it.
    pub fn config_text(&self) -> String {
        let Plan { cache, upstream, metrics, health } = self;
        format!(
            "listen:\n  addresses: [{ip}]\n  port: {port}\n\
             zones:\n  - match: [cluster.local, in-addr.arpa, ip6.arpa]\n    forward: {{ to: [\"{upstream}\"], protocol: tcp }}\n  \
             - match: [.]\n    forward: {{ to: [\"{upstream}\"], protocol: auto }}\n\
             metrics: {{ listen: [\"{metrics}\"] }}\nhealth: {{ listen: \"{health}\" }}\n",
            ip = cache.ip(),
            port = cache.port(),
        )
    }
}

/// Runs the demo until SIGINT (Ctrl-C) or SIGTERM.
pub fn run(args: Args) -> Result<Outcome, CliError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(demonstrate(args))
}

async fn demonstrate(args: Args) -> Result<Outcome, CliError> {
    let authority = Authority::start().await.map_err(Error::from)?;
    let plan = Plan {
        cache: SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        upstream: authority.address(),
        metrics: given_or_free(args.metrics, METRICS)?,
        health: given_or_free(args.health, HEALTH)?,
    };
    // Before anything is printed: whoever reads the guide may stop the demo at once.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    let overrides = config::Overrides::default();
    let loaded = config::load_str("demo", &plan.config_text())?;
    let sockets = app::sockets::Sockets::bind(&loaded.config).map_err(app::Error::from)?;
    let running = app::start(app::prepare((loaded, overrides).into(), None)?, sockets)?;
    output::print(&guide::text(&plan, &program(), Style::of_stdout()))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    running.stop().await;
    Ok(Outcome::Success)
}

/// `given`, else `usual` if nobody listens there, else a free port of loopback.
fn given_or_free(given: Option<SocketAddr>, usual: SocketAddr) -> Result<SocketAddr, Error> {
    if let Some(given) = given {
        return Ok(given);
    }
    let listener = TcpListener::bind(usual).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    listener.and_then(|l| l.local_addr()).map_err(Error::Port)
}

/// How this program was called, for commands the user can paste.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "nodens".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced_unless_it_was_asked_for() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let usual = taken.local_addr().unwrap();
        let found = given_or_free(None, usual).unwrap();
        assert_ne!(found, usual);
        assert!(found.ip().is_loopback());
        assert_eq!(given_or_free(Some(usual), METRICS).unwrap(), usual);
    }

    #[test]
    fn the_configuration_names_every_address_of_the_plan() {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let plan = Plan { cache: at(5300), upstream: at(41000), metrics: at(9253), health: at(8080) };
        let expected = "\
listen:
  addresses: [127.0.0.1]
  port: 5300
zones:
  - match: [cluster.local, in-addr.arpa, ip6.arpa]
    forward: { to: [\"127.0.0.1:41000\"], protocol: tcp }
  - match: [.]
    forward: { to: [\"127.0.0.1:41000\"], protocol: auto }
metrics: { listen: [\"127.0.0.1:9253\"] }
health: { listen: \"127.0.0.1:8080\" }
";
        assert_eq!(plan.config_text(), expected);
        assert!(config::load_str("demo", &plan.config_text()).is_ok());
    }
}
