//! The events of all servers of this process, kept to be looked at; a game's token tells them apart.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// One call with the target of events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Captured {
    pub(crate) level: Level,
    pub(crate) fields: BTreeMap<&'static str, String>,
}

impl Captured {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn message(&self) -> &str {
        self.field("message").unwrap_or_default()
    }
}

static CAPTURED: Mutex<Vec<Captured>> = Mutex::new(Vec::new());

/// Once per process; calls after the first do nothing.
pub(crate) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Capture)).unwrap();
    });
}

/// The events of a game, in order.
pub(crate) fn of_game(game: &str) -> Vec<Captured> {
    CAPTURED.lock().unwrap().iter().filter(|event| event.field("key") == Some(game)).cloned().collect()
}

/// The events with a message.
pub(crate) fn with_message(message: &str) -> Vec<Captured> {
    CAPTURED.lock().unwrap().iter().filter(|event| event.message() == message).cloned().collect()
}

/// The place of the first event with a message among all that were captured.
pub(crate) fn place_of(message: &str) -> Option<usize> {
    CAPTURED.lock().unwrap().iter().position(|event| event.message() == message)
}

struct Capture;

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == superhero_event::TARGET {
            let mut captured = Captured { level: *event.metadata().level(), fields: BTreeMap::new() };
            event.record(&mut Fields(&mut captured.fields));
            CAPTURED.lock().unwrap().push(captured);
        }
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
