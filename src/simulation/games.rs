//! How many games go on and how many are over, told by the events of all servers of this process.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use superhero_event::{TARGET, message};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The games so far; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Games(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As many as there are players at most.
    running: HashSet<String>,
    completed: u64,
}

impl Games {
    /// A layer that hears of every event.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Listener(self.clone()).with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO))
    }

    /// Games that have begun and are not over.
    pub(crate) fn running(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).running.len() as u64
    }

    /// Games that have been played to their end.
    pub(crate) fn completed(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).completed
    }

    /// `message` is told once for each participant.
    fn hear(&self, message: &str, game: &str) {
        match message {
            message::STARTING_MATCH => {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if !state.running.contains(game) {
                    state.running.insert(game.to_owned());
                }
            }
            message::CLEANING => {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if state.running.remove(game) {
                    state.completed += 1;
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Listener(Games);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        self.0.hear(&said.message, &said.game);
    }
}

/// What of an event tells of a game.
#[derive(Default)]
struct Said {
    message: String,
    game: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => &mut self.message,
            "key" => &mut self.game,
            _ => return,
        };
        // Writing to memory does not fail.
        let _ = write!(text, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use superhero_event::topic;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_game_counts_once_whoever_is_told_of_it() {
        let games = Games::default();
        let log = tracing_subscriber::registry().with(games.layer());
        tracing::subscriber::with_default(log, || {
            let say = |game: &str, message: &str| {
                tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, "{}", message);
            };
            for game in ["a", "b"] {
                say(game, message::STARTING_MATCH);
                say(game, message::STARTING_MATCH);
            }
            tracing::info!("{}", message::CLEANING);
            assert_eq!((games.running(), games.completed()), (2, 0));
            say("a", message::CLEANING);
            say("a", message::CLEANING);
        });
        assert_eq!((games.running(), games.completed()), (1, 1));
    }
}
