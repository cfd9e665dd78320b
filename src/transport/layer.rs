//! The layer that turns log calls into events.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::Arc;

use chrono::Utc;
use superhero_event::{Level, TARGET, Task, encode};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use crate::chunk::Event;
use crate::queue::Queue;

/// What a thread keeps of its buffers; one huge event is not to stay for ever.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// The layer that takes events and nothing else.
pub(crate) fn layer<S>(queue: Arc<Queue>, transport: &'static str) -> Filtered<EventLayer, OnlyEvents, S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    EventLayer { queue, transport }.with_filter(OnlyEvents)
}

/// Lets log calls of the events' target with the field `queue` through: an allowlist, so that no line of a library, and none of
/// this crate, can become an event. It says so once per call site; others cost nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnlyEvents;

impl OnlyEvents {
    fn takes(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target() == TARGET
            && *metadata.level() <= LevelFilter::INFO
            && metadata.fields().field("queue").is_some()
    }
}

impl<S> Filter<S> for OnlyEvents {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::takes(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::takes(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Every event is at least INFO, and without a hint every trace line of every library would be looked at.
        Some(LevelFilter::INFO)
    }
}

/// Encodes events on the caller and puts them into the queue.
#[derive(Debug)]
pub(crate) struct EventLayer {
    queue: Arc<Queue>,
    transport: &'static str,
}

impl<S: Subscriber> Layer<S> for EventLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        CAPTURE.with(|capture| match capture.try_borrow_mut() {
            Ok(mut capture) => self.take(event, &mut capture),
            // A `Debug` or `Display` of a field logs an event itself, in the middle of this one.
            Err(_) => self.take(event, &mut Capture::default()),
        });
    }
}

impl EventLayer {
    fn take(&self, event: &tracing::Event<'_>, capture: &mut Capture) {
        capture.clear();
        event.record(capture);
        let now = Utc::now();
        let Capture { queue, key, message, task, task_is, value } = capture;
        let task = match task_is {
            TaskIs::Absent => Task::None,
            TaskIs::Text => Task::Text(task),
            TaskIs::Object => Task::Object(task),
        };
        encode(value, level(*event.metadata().level()), now, self.transport, queue, message, task);
        let key = Some(key.as_bytes()).filter(|key| !key.is_empty());
        self.queue.push(&Event { topic: queue, key, value, timestamp_ms: now.timestamp_millis() });
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

thread_local! {
    /// The buffers of this thread's events, so that an event allocates nothing.
    static CAPTURE: RefCell<Capture> = RefCell::default();
}

/// The fields of one event, and its envelope.
#[derive(Debug, Default)]
struct Capture {
    queue: String,
    key: String,
    message: String,
    task: String,
    task_is: TaskIs,
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum TaskIs {
    #[default]
    Absent,
    Text,
    Object,
}

impl Capture {
    fn clear(&mut self) {
        for text in [&mut self.queue, &mut self.key, &mut self.message, &mut self.task] {
            text.clear();
            text.shrink_to(KEPT_BUFFER_BYTES);
        }
        self.value.clear();
        self.value.shrink_to(KEPT_BUFFER_BYTES);
        self.task_is = TaskIs::Absent;
    }

    fn place(&mut self, field: &Field) -> Option<&mut String> {
        match field.name() {
            "message" => Some(&mut self.message),
            "queue" => Some(&mut self.queue),
            "key" => Some(&mut self.key),
            "task" => {
                self.task_is = TaskIs::Text;
                Some(&mut self.task)
            }
            "task_object" => {
                self.task_is = TaskIs::Object;
                Some(&mut self.task)
            }
            _ => None,
        }
    }
}

impl Visit for Capture {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(place) = self.place(field) {
            place.push_str(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(place) = self.place(field) {
            // A `Debug` that fails has said what it could.
            let _ = write!(place, "{value:?}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::config::{QueueConfig, WhenFull};

    /// The events that `log` makes: topic, key, envelope without its timestamp.
    fn events_of(log: impl FnOnce()) -> Vec<(String, Option<String>, String)> {
        let queue = queue();
        let subscriber = tracing_subscriber::registry().with(layer(queue.clone(), "kafka"));
        tracing::subscriber::with_default(subscriber, log);
        let mut chunks = VecDeque::new();
        queue.take(&mut chunks);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let events = chunks.iter().flat_map(|chunk| chunk.events()).map(|event| {
            let value = text(event.value);
            let (start, rest) = value.split_once(r#""timestamp":""#).unwrap();
            let (_, end) = rest.split_once(r#"","#).unwrap();
            (event.topic.to_owned(), event.key.map(text), format!("{start}{end}"))
        });
        events.collect()
    }

    fn queue() -> Arc<Queue> {
        Arc::new(Queue::new(&QueueConfig { capacity_bytes: 1 << 20, when_full: WhenFull::Block, sessions: 1 }, false))
    }

    #[test]
    fn a_log_call_of_the_target_with_a_queue_is_an_event() {
        let (game, frame) = (7, r#"{"PAYLOAD":1}"#);
        let events = events_of(|| {
            tracing::info!(target: TARGET, queue = "lib.server.game", key = %game, task = frame, "Attack Completed");
            tracing::error!(target: TARGET, queue = "lib.server.lobby", task_object = frame, "Cleaning {}", "Game");
            tracing::info!(target: TARGET, queue = %"client.__main__", task = Option::<&str>::None, other = 1, "Listening");
        });
        let expected = [
            (
                "lib.server.game",
                Some("7"),
                r#"{"level":"INFO","name":"kafka.lib.server.game","log_message":"Attack Completed","task":"{\"PAYLOAD\":1}"}"#,
            ),
            (
                "lib.server.lobby",
                None,
                r#"{"level":"ERROR","name":"kafka.lib.server.lobby","log_message":"Cleaning Game","task":{"PAYLOAD":1}}"#,
            ),
            ("client.__main__", None, r#"{"level":"INFO","name":"kafka.client.__main__","log_message":"Listening"}"#),
        ];
        let expected = expected.map(|(topic, key, value)| (topic.to_owned(), key.map(str::to_owned), value.to_owned()));
        assert_eq!(events, expected);
    }

    #[test]
    fn no_other_log_call_is_an_event() {
        let events = events_of(|| {
            tracing::info!(queue = "lib.server.game", "of another target");
            tracing::info!(target: "rskafka", queue = "lib.server.game", "of a client");
            tracing::info!(target: "superhero::event::more", queue = "lib.server.game", "of a longer target");
            tracing::info!(target: TARGET, key = "a", "without a queue");
            tracing::debug!(target: TARGET, queue = "lib.server.game", "below INFO");
            let _span = tracing::info_span!(target: TARGET, "span", queue = "lib.server.game").entered();
        });
        assert_eq!(events, []);
    }

    #[test]
    fn a_field_that_logs_an_event_disturbs_neither() {
        struct Talkative;
        impl fmt::Display for Talkative {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::info!(target: TARGET, queue = "inner", "inner");
                f.write_str("talk")
            }
        }
        let queue = queue();
        let subscriber = tracing_subscriber::registry().with(layer(queue.clone(), "kafka"));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: TARGET, queue = "outer", key = %Talkative, "outer");
        });
        let mut chunks = VecDeque::new();
        queue.take(&mut chunks);
        // tracing itself hides the inner call where the subscriber is a thread's own; the outer one is whole in any case.
        let outer = chunks.iter().flat_map(|chunk| chunk.events()).find(|event| event.topic == "outer").unwrap();
        assert_eq!(outer.key, Some(&b"talk"[..]));
    }

    #[test]
    fn a_call_site_that_is_no_event_is_never_looked_at_again() {
        let other = tracing::subscriber::with_default(
            tracing_subscriber::registry().with(layer::<_>(queue(), "kafka")),
            || tracing::enabled!(target: "rskafka", tracing::Level::ERROR),
        );
        assert!(!other);
    }
}
