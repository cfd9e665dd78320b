//! What keeps rows from being written while a worker goes on trying: told to whoever runs it, for as long as it lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The disk's troubles at the moment; clones tell of the same ones, so that the workers of one process may share them.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    /// By what they keep waiting, each with its number in the order of their beginnings.
    begun: Arc<Mutex<Begun>>,
    told: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Begun {
    by_subject: BTreeMap<String, (u64, String)>,
    count: u64,
}

impl Troubles {
    /// The oldest of the present troubles in words, none while all is well.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.told.subscribe()
    }

    /// Whether rows can be written, as far as is known.
    ///
    /// # Errors
    /// The oldest of the present troubles.
    pub fn health(&self) -> Result<(), String> {
        self.told.borrow().clone().map_or(Ok(()), Err)
    }

    /// Something waits; what it was first told to wait for stays the reason.
    pub(crate) fn begin(&self, subject: String, reason: impl FnOnce() -> String) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let Begun { by_subject, count } = &mut *begun;
        by_subject.entry(subject).or_insert_with(|| {
            *count += 1;
            (*count, reason())
        });
        self.tell(by_subject);
    }

    /// It does not wait any more.
    pub(crate) fn end(&self, subject: &str) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.by_subject.remove(subject).is_some() {
            self.tell(&begun.by_subject);
        }
    }

    fn tell(&self, by_subject: &BTreeMap<String, (u64, String)>) {
        let oldest = by_subject.values().min_by_key(|(number, _)| *number).map(|(_, reason)| reason);
        self.told.send_if_modified(|told| {
            let is_news = told.as_ref() != oldest;
            *told = oldest.cloned();
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_trouble_is_told_until_it_is_over() {
        let troubles = Troubles::default();
        let mut told = troubles.watch();
        let mut news = || told.has_changed().is_ok_and(|is_news| is_news).then(|| told.borrow_and_update().clone());
        assert_eq!((troubles.health(), news()), (Ok(()), None));
        troubles.begin("b".to_owned(), || "the disk is full".to_owned());
        assert_eq!(news(), Some(Some("the disk is full".to_owned())));
        troubles.begin("b".to_owned(), || "it is still full".to_owned());
        troubles.begin("a".to_owned(), || "another".to_owned());
        assert_eq!(news(), None);
        troubles.end("b");
        assert_eq!(news(), Some(Some("another".to_owned())));
        assert_eq!(troubles.health(), Err("another".to_owned()));
        troubles.end("a");
        troubles.end("a");
        assert_eq!((news(), troubles.health()), (Some(None), Ok(())));
    }
}
