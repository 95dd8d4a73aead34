//! A changed configuration, put in force without losing a query or the cache, but for names that are in another zone than
//! before; an invalid one, refused and reported.

use super::{Parts, acl, connection_limits, coredns, limits};
use crate::config::reload::{POLL_INTERVAL, Watcher, restart_needed};
use crate::config::{self, Config, Overrides};
use crate::observe::metrics::Reload;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;
use tokio::signal::unix::Signal;
use tracing::level_filters::LevelFilter;

/// Reloads on SIGHUP and whenever the file's content has changed, for ever.
pub(super) async fn watch(
    parts: Arc<Parts>,
    source: PathBuf,
    fingerprint: u64,
    overrides: Overrides,
    mut hangup: Signal,
) {
    let name = source.display().to_string();
    let mut watcher = Watcher::new(source, fingerprint);
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let read = tokio::select! {
            Some(()) = hangup.recv() => watcher.read_now().map(Some),
            _ = tick.tick() => watcher.poll(SystemTime::now()),
        };
        match read {
            Ok(None) => {}
            Ok(Some(bytes)) => reload(&parts, &name, &bytes, &overrides),
            Err(error) => {
                tracing::error!(file = name, %error, "cannot read the configuration; the old one stays");
                parts.metrics.reloaded(Reload::Refused);
            }
        }
    }
}

fn reload(parts: &Parts, name: &str, bytes: &[u8], overrides: &Overrides) {
    let loaded = match config::load_bytes(name, bytes, overrides) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems.0 {
                tracing::error!(%problem, "the configuration is invalid");
            }
            tracing::error!(file = name, "the old configuration stays");
            return parts.metrics.reloaded(Reload::Refused);
        }
    };
    for warning in &loaded.warnings.0 {
        tracing::warn!(%warning, "configuration");
    }
    let old = parts.config();
    if loaded.config == old {
        tracing::info!(file = name, "the configuration says what it said");
        return parts.metrics.reloaded(Reload::Unchanged);
    }
    match apply(parts, &loaded.config) {
        Ok(()) => {
            for key in restart_needed(&old, &loaded.config) {
                tracing::warn!(key, "takes effect at the next start");
            }
            tracing::info!(file = name, "the new configuration is in force");
            parts.metrics.reloaded(Reload::Loaded);
            coredns::describe(&parts.metrics, &loaded.config, &loaded.text);
            if let Some(last_good) = &parts.last_good {
                last_good.keep(&loaded.text, &loaded.config);
            }
            *parts.config.lock().unwrap_or_else(PoisonError::into_inner) = loaded.config;
        }
        Err(error) => {
            tracing::error!(%error, file = name, "the old configuration stays");
            parts.metrics.reloaded(Reload::Refused);
        }
    }
}

fn apply(parts: &Parts, config: &Config) -> Result<(), super::upstreams::Error> {
    let zones = parts.upstreams.zones(config)?;
    parts.front.resolver.reconfigure(zones, limits(config));
    parts.front.assign_views();
    parts.front.acl.store(Arc::new(acl(config)));
    parts.house.set_limits(connection_limits(config));
    if let Some(log) = &parts.log
        && let Err(error) = log.set_level(level(config.log.level))
    {
        tracing::warn!(%error, "cannot change the log's level");
    }
    Ok(())
}

/// The log level that `level` names.
pub(super) fn level(level: config::LogLevel) -> LevelFilter {
    match level {
        config::LogLevel::Error => LevelFilter::ERROR,
        config::LogLevel::Warn => LevelFilter::WARN,
        config::LogLevel::Info => LevelFilter::INFO,
        config::LogLevel::Debug => LevelFilter::DEBUG,
    }
}
