//! `nodens demo` in the background, on ports of its own.

use super::free_port;
use super::process::Background;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitStatus;

/// A running demo.
pub struct Demo {
    process: Background,
    /// What it printed.
    pub guide: Vec<String>,
    /// Where the cache answers.
    pub cache: SocketAddr,
    /// Where metrics are.
    pub metrics: SocketAddr,
    /// Where health and readiness are.
    pub health: SocketAddr,
}

impl Demo {
    /// Starts one and waits until it has printed its guide.
    pub fn start() -> Demo {
        let [cache, metrics, health] = [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let port = cache.port().to_string();
        let (metrics_text, health_text) = (metrics.to_string(), health.to_string());
        let arguments = ["demo", "--port", &port, "--metrics", &metrics_text, "--health", &health_text];
        let process = Background::start(&arguments);
        let guide = process.wait_for("Stop with Ctrl-C");
        Demo { process, guide, cache, metrics, health }
    }

    /// `command` with the addresses that the demo has by default replaced by those of this one.
    pub fn aimed(&self, command: &str) -> String {
        command
            .replace("-p 5300", &format!("-p {}", self.cache.port()))
            .replace("127.0.0.1:5300", &self.cache.to_string())
            .replace("127.0.0.1:9253", &self.metrics.to_string())
            .replace("127.0.0.1:8080", &self.health.to_string())
    }

    /// Stops it with SIGTERM.
    pub fn terminate(self) -> ExitStatus {
        self.process.terminate()
    }
}
