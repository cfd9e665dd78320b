//! Backpressure: how a full transport holds the game back without blocking a thread.

use std::sync::Arc;

use tokio::sync::watch;

/// Says whether there is room for more events. Cloned freely; one [transport](Admission::new) drives it.
#[derive(Clone, Debug)]
pub struct Admission {
    open: Arc<watch::Sender<bool>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new()
    }
}

impl Admission {
    /// Open from the start.
    pub fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(true)) }
    }

    /// Waits until there is room.
    ///
    /// # Cancellation
    /// Safe: nothing is taken by having waited.
    pub async fn admit(&self) {
        if *self.open.borrow() {
            return;
        }
        let mut open = self.open.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = open.wait_for(|open| *open).await;
    }

    /// Holds everybody back who asks from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets everybody go on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Whether [`admit`](Self::admit) would return at once.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }
}
