//! The store's end of a [`Subscription`](crate::Subscription).

use tokio::sync::mpsc;

use crate::{GameEvent, Subscription};

/// Events that a reader may be behind. A game has one event per move, so this is far more than a session that reads at
/// all ever leaves lying.
const EVENTS_KEPT: usize = 64;

/// Where one subscription's events go in. It never waits, and its last place is kept for a
/// [`GameEvent::Resync`], so that a reader that missed something always learns of it.
#[derive(Debug)]
pub(crate) struct Outlet {
    sender: mpsc::Sender<GameEvent>,
    /// Whether the newest event in the channel is a `Resync`. Its reader reads a snapshot only after taking it, so whatever
    /// happens until then is told by it too.
    resync_is_last: bool,
}

impl Outlet {
    pub(crate) fn new() -> (Self, Subscription) {
        let (sender, events) = mpsc::channel(EVENTS_KEPT + 1);
        (Self { sender, resync_is_last: false }, Subscription { events })
    }

    /// Puts an event in; without room for it, a `Resync` instead.
    pub(crate) fn put(&mut self, event: GameEvent) {
        // Only this outlet sends, so the room cannot shrink between the look and the sending.
        let room = self.sender.capacity();
        if room == 0 || (room == 1 && self.resync_is_last) {
            return;
        }
        let event = if room == 1 { GameEvent::Resync } else { event };
        self.resync_is_last = event == GameEvent::Resync;
        // An error means that the reader is gone: whoever owns the outlet sees `is_closed`.
        let _ = self.sender.try_send(event);
    }

    /// Whether the subscription was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Resolves when the subscription is dropped.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use superhero_game::UserToken;
    use uuid::Uuid;

    use super::*;

    fn turn(moves: u32) -> GameEvent {
        GameEvent::Turn { user: UserToken::new(Uuid::nil()), moves }
    }

    #[test]
    fn a_slow_reader_gets_what_fitted_and_then_a_resync() {
        let (mut outlet, mut subscription) = Outlet::new();
        for moves in 0..1000 {
            outlet.put(turn(moves));
        }
        for moves in 0..EVENTS_KEPT as u32 {
            assert_eq!(subscription.events.try_recv(), Ok(turn(moves)));
        }
        assert_eq!(subscription.events.try_recv(), Ok(GameEvent::Resync));
        outlet.put(turn(1000));
        assert_eq!(subscription.events.try_recv(), Ok(turn(1000)));
        assert!(subscription.events.is_empty());
    }

    #[test]
    fn a_dropped_subscription_is_seen() {
        let (mut outlet, subscription) = Outlet::new();
        assert!(!outlet.is_closed());
        drop(subscription);
        assert!(outlet.is_closed());
        outlet.put(GameEvent::Started);
    }

    proptest! {
        /// A reader that takes in order and reads "the snapshot" at each `Resync` never stays behind for good.
        #[test]
        fn nothing_is_missed_without_a_resync(steps in prop::collection::vec((0u32..40, 0usize..40), 1..60)) {
            let (mut outlet, mut subscription) = Outlet::new();
            let (mut happened, mut known) = (0, 0);
            let take = |known: &mut u32, happened: u32, subscription: &mut Subscription| {
                match subscription.events.try_recv() {
                    Ok(GameEvent::Turn { moves, .. }) => {
                        // What a resync has told already may follow it; a gap without one may not.
                        prop_assert!(moves <= *known + 1);
                        *known = (*known).max(moves);
                    }
                    Ok(GameEvent::Resync) => *known = happened,
                    Ok(other) => prop_assert!(false, "{other:?} was never put"),
                    Err(_) => {}
                }
                Ok(())
            };
            for (puts, takes) in steps {
                for _ in 0..puts {
                    happened += 1;
                    outlet.put(turn(happened));
                }
                for _ in 0..takes {
                    take(&mut known, happened, &mut subscription)?;
                }
            }
            while !subscription.events.is_empty() {
                take(&mut known, happened, &mut subscription)?;
            }
            prop_assert_eq!(known, happened);
        }
    }
}
