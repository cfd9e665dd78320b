//! The one task that owns everything behind the queue: it polls, hands over to a publisher, and ends with a flush.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use chrono::Utc;
use superhero_event::{Level, Task, encode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::chunk::{Chunk, Event};
use crate::lanes::Waiting;
use crate::queue::{Dropped, Queue};

/// Polls in a row that found nothing, after which the task sleeps until a log call wakes it. Twenty of five milliseconds: a server
/// that logs ten times a second or more is not woken by its log calls, and an idle one does nothing at all.
const POLLS_BEFORE_PARKING: u32 = 20;

/// How often at most the local log tells of drops.
const TELL_DROPS_EVERY: Duration = Duration::from_secs(1);

/// The `log_message` of the event that tells how many events of its topic were dropped.
const EVENTS_DROPPED: &str = "Events Dropped";

/// Where events go: Kafka or Redis.
pub(crate) trait Publish {
    /// The envelope's name for it.
    const NAME: &'static str;

    /// Takes events; gives the chunk back if its memory is free again.
    fn accept(&mut self, chunk: Chunk) -> Option<Chunk>;

    /// Starts everything that can be started now. Called after every progress, and while there are events, once per linger.
    fn dispatch(&mut self, now: Instant);

    /// Awaits the next answer and acts on it; for ever, if there is none to await.
    ///
    /// # Cancellation
    /// Safe: what is on its way stays so.
    fn progress(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether every event has been acknowledged or dropped.
    fn is_empty(&self) -> bool;

    /// What is not.
    fn waiting(&self) -> Vec<Waiting>;
}

/// Publishes until `stop` tells a deadline and everything is acknowledged, or the deadline has passed. Returns what could not be
/// delivered.
pub(crate) async fn run<P: Publish>(
    publisher: &mut P,
    queue: &Queue,
    linger: Duration,
    mut stop: watch::Receiver<Option<Instant>>,
) -> Vec<Waiting> {
    let mut taken = VecDeque::new();
    let mut drops = Drops::default();
    let mut next_poll = Instant::now() + linger;
    let mut idle_polls = 0;
    loop {
        let deadline = *stop.borrow_and_update();
        let now = Instant::now();
        if deadline.is_some() || now >= next_poll {
            if deadline.is_some() {
                queue.bypass_spool();
            }
            queue.take(&mut taken);
            idle_polls = if taken.is_empty() && publisher.is_empty() { idle_polls + 1 } else { 0 };
            hand_over(publisher, queue, &mut taken);
            drops.tell::<P>(queue, now);
            next_poll = now + linger;
        }
        publisher.dispatch(now);
        if let Some(deadline) = deadline {
            let out_of_time = now >= deadline;
            if publisher.is_empty() || out_of_time {
                // From here on no event can slip in behind the last look.
                queue.end();
                queue.bypass_spool();
                queue.take(&mut taken);
                hand_over(publisher, queue, &mut taken);
                publisher.dispatch(now);
            }
            if publisher.is_empty() || out_of_time {
                return publisher.waiting();
            }
        }
        let park = idle_polls >= POLLS_BEFORE_PARKING;
        tokio::select! {
            changed = stop.changed() => if changed.is_err() {
                // The guard is gone without a word, and with it whoever could be told.
                return publisher.waiting();
            },
            () = publisher.progress() => {}
            () = sleep_until(next_poll), if !park => {}
            () = queue.park(), if park => {
                // The first of a burst: the others are to come along.
                next_poll = Instant::now() + linger;
                idle_polls = 0;
            }
            () = sleep_until(deadline.unwrap_or(next_poll)), if deadline.is_some() => {}
        }
    }
}

fn hand_over<P: Publish>(publisher: &mut P, queue: &Queue, taken: &mut VecDeque<Chunk>) {
    for chunk in taken.drain(..) {
        if let Some(chunk) = publisher.accept(chunk) {
            queue.recycle(chunk);
        }
    }
}

/// Tells of dropped events: at once in the local log, and in the stream when there is room again.
#[derive(Debug, Default)]
struct Drops {
    logged: u64,
    last_logged: Option<Instant>,
}

impl Drops {
    fn tell<P: Publish>(&mut self, queue: &Queue, now: Instant) {
        let dropped = queue.counters().dropped;
        if dropped > self.logged && self.last_logged.is_none_or(|last| now >= last + TELL_DROPS_EVERY) {
            let events = dropped - self.logged;
            tracing::error!(
                events,
                total = dropped,
                "events were dropped: the transport's queue is full, or they are too large"
            );
            self.logged = dropped;
            self.last_logged = Some(now);
        }
        let untold = queue.take_untold();
        if untold.is_empty() {
            return;
        }
        if !queue.has_room_to_tell() {
            return queue.put_back_untold(untold);
        }
        for Dropped { topic, events } in untold {
            let mut value = Vec::new();
            let now = Utc::now();
            let task = format!(r#"{{"dropped":{events}}}"#);
            encode(&mut value, Level::Error, now, P::NAME, &topic, EVENTS_DROPPED, Task::Object(&task));
            queue.push(&Event { topic: &topic, key: None, value: &value, timestamp_ms: now.timestamp_millis() });
        }
    }
}
