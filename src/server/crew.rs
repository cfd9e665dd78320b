//! Every task of a server: tracked, its panic caught and counted, and gone when the server is.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts tasks that a panic of one of them leaves alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crew {
    tracker: TaskTracker,
    panics: Arc<AtomicU64>,
    dismissed: CancellationToken,
}

impl Crew {
    /// Starts a task; `name` says in the log which kind it was, should it panic.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let panics = Arc::clone(&self.panics);
        let dismissed = self.dismissed.clone();
        // Boxed here, because an async block has room for what it was given and, once more, for what it awaits.
        let task = Box::pin(task);
        self.tracker.spawn(async move {
            match AssertUnwindSafe(dismissed.run_until_cancelled(task)).catch_unwind().await {
                Ok(_) => {}
                Err(panic) => {
                    panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(task = name, panic = panic_text(&*panic), "a task panicked; the others go on");
                }
            }
        });
    }

    /// Waits until no task is left.
    ///
    /// # Cancellation
    /// Safe; the tasks go on.
    pub(crate) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Drops every task that is left, wherever it waits.
    pub(crate) fn dismiss(&self) {
        self.dismissed.cancel();
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        self.tracker.len()
    }

    /// How many panicked so far.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_leaves_the_other_tasks_alone() {
        let crew = Crew::default();
        let (told, hears) = tokio::sync::oneshot::channel();
        crew.spawn("one", async { panic!("as the test wants it") });
        crew.spawn("other", async move {
            let _ = told.send(());
        });
        crew.wait().await;
        assert!(hears.await.is_ok());
        assert_eq!(crew.panics(), 1);
    }

    #[tokio::test]
    async fn tasks_that_wait_for_ever_end_when_dismissed() {
        let crew = Crew::default();
        crew.spawn("waits", std::future::pending());
        assert_eq!(crew.len(), 1);
        crew.dismiss();
        crew.wait().await;
        assert_eq!(crew.len(), 0);
    }
}
