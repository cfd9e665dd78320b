//! What a worker tells of itself while it works.

use std::sync::{Arc, Mutex, PoisonError};

/// Whether a worker has its share of the partitions; clones tell of the same worker.
#[derive(Clone, Debug)]
pub struct Monitor {
    trouble: Arc<Mutex<Option<String>>>,
}

impl Default for Monitor {
    /// Of a worker that has not begun.
    fn default() -> Self {
        Self { trouble: Arc::new(Mutex::new(Some("the worker has not joined its group yet".to_owned()))) }
    }
}

impl Monitor {
    /// Whether the worker is a member of the group and reads what it was given, which may be nothing.
    ///
    /// # Errors
    /// Why it does not.
    pub fn health(&self) -> Result<(), String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn tell(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
