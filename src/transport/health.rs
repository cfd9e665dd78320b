//! What is wrong at the moment, for `/readyz` and for the local log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A failure that is over by then (a leader election, a broker's restart) is nobody's concern.
const GRACE: Duration = Duration::from_secs(3);

/// How often the local log repeats what is still wrong.
const REPEAT_EVERY: Duration = Duration::from_secs(30);

/// Why events do not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events do not get through for {} s: {reason}", .lasts.as_secs())]
pub struct Health {
    /// For how long.
    pub lasts: Duration,
    /// What is wrong, with the broker and the topic where they are known.
    pub reason: String,
}

/// The longest trouble at the moment, shared with those who ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthCell(Arc<Mutex<Option<(Instant, String)>>>);

impl HealthCell {
    /// `Err` when something has been wrong for some seconds.
    pub(crate) fn check(&self) -> Result<(), Health> {
        let worst = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*worst {
            Some((since, reason)) if since.elapsed() >= GRACE => {
                Err(Health { lasts: since.elapsed(), reason: reason.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What is wrong, however short.
    pub(crate) fn reason(&self) -> Option<String> {
        let worst = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        worst.as_ref().map(|(_, reason)| reason.clone())
    }

    fn set(&self, worst: Option<(Instant, String)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = worst;
    }
}

/// What has gone wrong and not gone right again, by what it concerns.
#[derive(Debug)]
pub(crate) struct Troubles<S> {
    by_subject: BTreeMap<S, Trouble>,
    cell: HealthCell,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    reason: String,
    last_logged: Instant,
}

impl<S: Ord> Troubles<S> {
    pub(crate) fn new(cell: HealthCell) -> Self {
        Self { by_subject: BTreeMap::new(), cell }
    }

    /// Something is wrong since `since`, or since it was first said.
    pub(crate) fn begin(&mut self, subject: S, since: Instant, reason: impl FnOnce() -> String) {
        let now = Instant::now();
        match self.by_subject.get_mut(&subject) {
            None => {
                let reason = reason();
                tracing::warn!("{reason}; the events stay queued");
                self.by_subject.insert(subject, Trouble { since, reason, last_logged: now });
            }
            Some(trouble) => {
                trouble.reason = reason();
                if now >= trouble.last_logged + REPEAT_EVERY {
                    let lasts_s = trouble.since.elapsed().as_secs();
                    tracing::error!(lasts_s, "{}; the events stay queued", trouble.reason);
                    trouble.last_logged = now;
                }
            }
        }
        self.publish();
    }

    /// It is right again.
    pub(crate) fn end(&mut self, subject: &S) {
        if self.by_subject.is_empty() {
            return;
        }
        if let Some(trouble) = self.by_subject.remove(subject) {
            let lasted_ms = trouble.since.elapsed().as_millis() as u64;
            tracing::info!(lasted_ms, "over: {}", trouble.reason);
            self.publish();
        }
    }

    fn publish(&self) {
        let longest = self.by_subject.values().min_by_key(|trouble| trouble.since);
        self.cell.set(longest.map(|trouble| (trouble.since, trouble.reason.clone())));
    }
}
