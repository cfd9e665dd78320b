//! Whether the run of this server before this one delivered all of its events: by a note in Redis, and by what lies in the spool.

use std::fs;
use std::time::Duration;

use superhero_server::{Fate, Undelivered};
use superhero_store::redis::Redis;
use superhero_transport::{Guard, LeftOver};
use tracing::warn;

/// What a note has behind the producer if the run's events were spooled as well.
const SPOOLED: &str = " spooled";

/// For how long a stop waits for Redis to take the note off.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// This run, as it is noted while it lasts.
#[derive(Debug)]
pub(crate) struct Run {
    /// `host:port`; none if the next run will not be known by it, or the events have no producer.
    server: Option<String>,
    /// The note of a run that did not end.
    before: Option<String>,
}

impl Run {
    /// Notes that the server at `port` of this host runs.
    pub(crate) async fn begin(store: &Redis, port: u16, transport: &Guard, is_spooled: bool) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let (Some(host), Some(producer), 1..) = (host, transport.producer(), port) else {
            return Self { server: None, before: None };
        };
        let server = format!("{}:{port}", host.trim());
        let note = format!("{}{}", producer.simple(), if is_spooled { SPOOLED } else { "" });
        let before = store.begin_run(&server, &note).await.unwrap_or_else(|error| {
            warn!("whether the run before has delivered its events is not known: {error}");
            None
        });
        Self { server: Some(server), before }
    }

    /// What runs before this one left, given what the spool has of them.
    pub(crate) fn undelivered(&self, left_over: &[LeftOver]) -> Vec<Undelivered> {
        let lost = self.before.iter().filter(|before| !before.ends_with(SPOOLED));
        let lost = lost.map(|producer| Undelivered { producer: producer.clone(), fate: Fate::Lost });
        let sent_again = left_over.iter().map(|LeftOver { producer, events }| Undelivered {
            producer: producer.simple().to_string(),
            fate: Fate::SentAgain { events: *events },
        });
        lost.chain(sent_again).collect()
    }

    /// All events of this run are delivered.
    pub(crate) async fn end(self, store: &Redis) {
        let Some(server) = self.server else { return };
        let reason = match tokio::time::timeout(END_TIMEOUT, store.end_run(&server)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("Redis has not answered within {} s", END_TIMEOUT.as_secs()),
        };
        warn!("the next start may say that events were lost, although none were: {reason}");
    }
}
