//! A changed configuration, put in force without losing a query or the cache, but for names that are in another zone than
//! before; an invalid one, refused and reported.

use super::{Parts, acl, connection_limits, coredns, limits};
use crate::config::reload::{POLL_INTERVAL, Watcher, restart_needed};
use crate::config::{self, Config, Loaded, Overrides, Source};
use crate::observe::metrics::Reload;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;
use tokio::signal::unix::Signal;
use tracing::level_filters::LevelFilter;

/// Reloads on SIGHUP and SIGUSR1, and whenever something of what `watcher` watches has changed, for ever.
pub(super) async fn watch(parts: Arc<Parts>, mut watcher: Watcher, overrides: Overrides, mut signals: [Signal; 3]) {
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let [hangup, user1, user2] = &mut signals;
    loop {
        let asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            Some(()) = user1.recv() => true,
            Some(()) = user2.recv() => {
                tracing::info!("SIGUSR2 reloads: this program is not replaced while it runs");
                true
            }
            _ = tick.tick() => false,
        };
        if asked {
            watcher.skip();
        }
        match watcher.poll(SystemTime::now()) {
            Ok(changed) if changed || asked => {
                let files = reload(&parts, watcher.source(), &overrides);
                watcher.follow(&files);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(file = %watcher.source(), %error, "cannot read the configuration; the old one stays");
                parts.metrics.reloaded(Reload::Refused);
            }
        }
    }
}

/// Reads `source` and puts it in force; says which files it was read from besides.
fn reload(parts: &Parts, source: &Source, overrides: &Overrides) -> Vec<PathBuf> {
    let loaded = match source.load(overrides) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems.0 {
                tracing::error!(%problem, "the configuration is invalid");
            }
            tracing::error!(file = %source, "the old configuration stays");
            parts.metrics.reloaded(Reload::Refused);
            // What is wrong will be mended in one of these.
            return problems.0.into_iter().map(|problem| problem.source.into()).collect();
        }
    };
    parts.pass_over(&loaded.passed_over);
    let files = loaded.files.clone();
    put_in_force(parts, source, loaded);
    files
}

fn put_in_force(parts: &Parts, name: &Source, loaded: Loaded) {
    for warning in &loaded.warnings.0 {
        tracing::warn!(%warning, "configuration");
    }
    let old = parts.config();
    if loaded.config == old {
        tracing::info!(file = %name, "the configuration says what it said");
        return parts.metrics.reloaded(Reload::Unchanged);
    }
    match apply(parts, &loaded.config) {
        Ok(()) => {
            for key in restart_needed(&old, &loaded.config) {
                tracing::warn!(key, "takes effect at the next start");
            }
            tracing::info!(file = %name, "the new configuration is in force");
            parts.written.write(loaded.rendered.as_deref());
            parts.metrics.reloaded(Reload::Loaded);
            coredns::describe(&parts.metrics, &loaded.config, &loaded.text);
            if let Some(last_good) = &parts.last_good {
                last_good.keep(&loaded.text, &loaded.config);
            }
            *parts.config.lock().unwrap_or_else(PoisonError::into_inner) = loaded.config;
        }
        Err(error) => {
            tracing::error!(%error, file = %name, "the old configuration stays");
            parts.metrics.reloaded(Reload::Refused);
        }
    }
}

fn apply(parts: &Parts, config: &Config) -> Result<(), super::Error> {
    // It would not start again.
    super::check_service(config)?;
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
