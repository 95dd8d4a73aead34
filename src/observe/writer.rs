//! The thread that writes log lines, so that a reader who stops reading stops nobody else.
//!
//! Lines wait in a queue bounded in bytes; what does not fit is dropped and counted. The lock is held to append or take
//! a line, never while one is written. Each line leaves as one line whatever it quotes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::cells::Counter;

/// How many bytes may wait.
pub(super) const QUEUE_BYTES: usize = 1024 * 1024;

/// The near end of the queue.
#[derive(Clone, Debug)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    added: Condvar,
    drained: Condvar,
    lost: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<String>,
    /// Bytes not written yet, those of the line being written included.
    bytes: usize,
    /// The far end is gone: nothing will ever be written again.
    closed: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `out`. It ends when a write fails.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<LogWriter> {
        let shared = Arc::<Shared>::default();
        let far_end = shared.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || far_end.run(out))?;
        Ok(LogWriter(shared))
    }

    /// Queues a line, or drops and counts it. Never waits for the reader.
    fn line(&self, bytes: &[u8]) {
        let mut line = one_line(&String::from_utf8_lossy(bytes));
        line.push('\n');
        let mut queue = self.0.lock();
        if queue.closed || queue.bytes + line.len() > QUEUE_BYTES {
            self.0.lost.add(1);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.0.added.notify_one();
    }

    /// Waits until all is written, `patience` at most. Was it?
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let waiting = |queue: &mut Queue| queue.bytes > 0 && !queue.closed;
        let queue = self.0.lock();
        let (queue, _) =
            self.0.drained.wait_timeout_while(queue, patience, waiting).unwrap_or_else(PoisonError::into_inner);
        queue.bytes == 0 && !queue.closed
    }

    /// Lines dropped so far.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.get()
    }
}

impl Shared {
    fn run(&self, mut out: impl Write) {
        let mut reported = 0;
        loop {
            let mut queue = self.lock();
            queue = self.added.wait_while(queue, |q| q.lines.is_empty()).unwrap_or_else(PoisonError::into_inner);
            let Some(line) = queue.lines.pop_front() else { continue };
            drop(queue);
            let written = out.write_all(line.as_bytes());
            let mut queue = self.lock();
            queue.bytes -= line.len();
            queue.closed = written.is_err();
            if queue.bytes == 0 || queue.closed {
                self.drained.notify_all();
            }
            if queue.closed {
                return;
            }
            let drained = queue.bytes == 0;
            drop(queue);
            let lost = self.lost.get();
            // Only once the reader has caught up: before, this line would be one more to drop.
            if drained && lost > reported {
                tracing::warn!(lines = lost - reported, "log lines were dropped because nobody read them fast enough");
                reported = lost;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &LogWriter {
    /// Takes one whole event, which is how the formatter hands them over.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a LogWriter;

    fn make_writer(&'a self) -> &'a LogWriter {
        self
    }
}

/// `text` without its line end and with every control character spelt out, so that nothing quoted in it can start a line
/// of its own or move the cursor. The formatter's colours stay.
fn one_line(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut line = String::with_capacity(text.len() + 1);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b'
            && let Some(colour) = colour(rest.as_str())
        {
            line.push(c);
            line.push_str(colour);
            rest = rest.as_str()[colour.len()..].chars();
        } else if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// What follows the escape character when it sets a colour (ECMA-48 SGR) and does nothing else.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix('[')?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then(|| &text[..end + 2])
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// An output that takes a write only when the test lets it.
    struct Gate {
        open: Receiver<()>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(|_| io::Error::other("gone"))?;
            self.written.send(bytes.to_vec()).map_err(|_| io::Error::other("gone"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogWriter, SyncSender<()>, Receiver<Vec<u8>>) {
        let (open, opened) = sync_channel(10_000);
        let (written, read) = sync_channel(10_000);
        (LogWriter::start(Gate { open: opened, written }).unwrap(), open, read)
    }

    #[test]
    fn g09_lines_are_dropped_and_counted_while_nobody_reads() {
        let (writer, open, read) = gated();
        let line = [b'x'; 1023];
        let fit = QUEUE_BYTES / 1024;
        for _ in 0..fit + 5 {
            writer.line(&line);
        }
        assert_eq!(writer.lost(), 5);
        assert!(!writer.flush(Duration::from_millis(1)), "nothing can have been written");
        (0..fit).for_each(|_| open.send(()).unwrap());
        assert!(writer.flush(LONG));
        assert_eq!(read.try_iter().count(), fit);
        writer.line(b"again");
        open.send(()).unwrap();
        assert_eq!(read.recv_timeout(LONG).unwrap(), b"again\n");
        assert_eq!(writer.lost(), 5);
    }

    #[test]
    fn an_output_that_fails_ends_the_thread_and_drops_the_rest() {
        let (writer, open, read) = gated();
        drop((open, read));
        writer.line(b"one");
        assert!(!writer.flush(LONG));
        writer.line(b"two");
        assert_eq!(writer.lost(), 1);
    }

    #[test]
    fn f15_a_quoted_line_end_starts_no_line() {
        assert_eq!(one_line("a\nb\r\u{9b}\u{7}c\n"), "a\\nb\\r\\u{9b}\\u{7}c");
    }

    #[test]
    fn f15_colours_pass_and_other_escapes_do_not() {
        assert_eq!(one_line("\x1b[1;31mred\x1b[0m"), "\x1b[1;31mred\x1b[0m");
        assert_eq!(one_line("\x1b[2J"), "\\u{1b}[2J");
        assert_eq!(one_line("\x1b]0;title"), "\\u{1b}]0;title");
        assert_eq!(one_line("end\x1b"), "end\\u{1b}");
    }
}
