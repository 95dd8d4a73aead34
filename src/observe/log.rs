//! The log: structured lines, text for people and JSON for machines on stderr, CoreDNS's on standard output.
//!
//! One logger per process, set up by [`init`]. Lines are written by a thread of their own (`writer`); those that a client
//! can cause are guarded by [`super::limit::RateLimit`] where they are written.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, fmt, reload};

use super::writer::LogWriter;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line per event, in colour when stderr is a terminal.
    Text,
    /// One JSON object per line.
    Json,
    /// As CoreDNS writes them, where it writes them: on standard output.
    Coredns,
}

/// Why the log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thread that writes did not start.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(std::io::Error),
    /// The process has a logger already.
    #[error("cannot set up the log: {0}")]
    Installed(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The level could not be changed.
    #[error("cannot change the log level: {0}")]
    Level(#[from] reload::Error),
}

/// The log of this process, for those who change or end it.
#[derive(Clone, Debug)]
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    writer: LogWriter,
}

/// How long the end of the process waits for its last lines to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Sets up the log of this process, and has panics logged.
///
/// # Errors
/// When the writing thread does not start, or a logger is already there.
pub fn init(format: Format, level: LevelFilter) -> Result<Log, Error> {
    let writer = match format {
        Format::Coredns => LogWriter::start(std::io::stdout()),
        _ => LogWriter::start(std::io::stderr()),
    };
    let writer = writer.map_err(Error::Thread)?;
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(writer.clone());
    let lines = match format {
        Format::Coredns => lines.with_ansi(false).event_format(CoreDnsLine).boxed(),
        Format::Auto | Format::Text if terminal || format == Format::Text => {
            lines.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).boxed()
        }
        _ => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let (filter, handle) = reload::Layer::new(targets(level));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(lines))?;
    let log = Log { filter: handle, writer };
    let at_panic = log.clone();
    std::panic::set_hook(Box::new(move |info| {
        panicked(info);
        at_panic.flush();
    }));
    Ok(log)
}

impl Log {
    /// Changes the level from the next line on.
    ///
    /// # Errors
    /// When the logger is gone.
    pub fn set_level(&self, level: LevelFilter) -> Result<(), Error> {
        Ok(self.filter.reload(targets(level))?)
    }

    /// Lines dropped because nobody read them fast enough.
    pub fn lost(&self) -> u64 {
        self.writer.lost()
    }

    /// Waits until all lines are written, half a second at most: for the end of the process.
    pub fn flush(&self) {
        self.writer.flush(LAST_WORDS);
    }
}

/// The level in brackets, the text, the fields: `[WARNING] text key=value`. The time is left to whoever collects lines.
struct CoreDnsLine;

impl<S, N> FormatEvent<S, N> for CoreDnsLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        write!(line, "[{level}] ")?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// Ours at `level`. What the libraries say has no rate limit and some of it is caused by packets: silent unless debugging.
fn targets(level: LevelFilter) -> Targets {
    let theirs = if level >= LevelFilter::DEBUG { LevelFilter::WARN } else { LevelFilter::OFF };
    Targets::new().with_default(theirs).with_target(env!("CARGO_CRATE_NAME"), level)
}

/// Logs a panic. What follows it, unwinding or abort, is the profile's choice.
fn panicked(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = info.location().map_or_else(String::new, ToString::to_string);
    let reason = info.payload_as_str().unwrap_or("not a text");
    tracing::error!(thread = thread.name().unwrap_or("unnamed"), location, reason, "panic");
}

#[cfg(test)]
mod tests;
