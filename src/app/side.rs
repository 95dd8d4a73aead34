//! The side thread: everything that is not the way of a query. A scrape or a reload may take milliseconds here, and
//! nobody's answer waits for it.

use std::io;
use std::pin::Pin;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What runs there; none of them ends by itself.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread; dropping this ends it and all that runs there.
pub(super) struct Side {
    _stop: oneshot::Sender<()>,
}

impl Side {
    /// Starts the thread with `tasks`.
    ///
    /// # Errors
    /// When there is no runtime or no thread to be had.
    pub(super) fn start(tasks: Vec<Task>) -> io::Result<Side> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("side".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut set: JoinSet<()> = tasks.into_iter().collect();
                // The sender is only ever dropped.
                let _ = stopped.await;
                set.shutdown().await;
            });
        })?;
        Ok(Side { _stop: stop })
    }
}
