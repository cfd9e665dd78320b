//! How a run goes on: looked at some times a second, told on the [screen](crate::screen), and kept for the lag over time.

use std::time::Duration;

use indicatif::HumanCount;
use superhero_kafka::LagMeter;
use superhero_transport::Monitor;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::games::Games;
use crate::history::History;
use crate::pipeline::{FLUSH_DEADLINE, STALL_TIMEOUT};
use crate::simulation::READY_TIMEOUT;

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is left is told from so many games on, so that one that was short does not promise too much.
const GAMES_FOR_ESTIMATE: u64 = 5;
/// And after so long.
const TIME_FOR_ESTIMATE: Duration = Duration::from_secs(3);

/// A run at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// The service outside of this process that does not serve yet, and where it is.
    pub waiting_for: Option<String>,
    /// What goes wrong at the moment, and is tried again.
    pub trouble: Option<String>,
    /// How many games there are to play; none if there are too many to be counted.
    pub planned: Option<u64>,
    /// Games that have begun and are not over.
    pub running: u64,
    /// Games that have been played to their end.
    pub completed: u64,
    /// Events that servers have logged.
    pub emitted: u64,
    /// Events that Kafka has acknowledged.
    pub acknowledged: u64,
    /// Records that workers have committed since the run began.
    pub taken: u64,
    /// Records that they have not.
    pub lag: u64,
    /// Events a second, since the last look.
    pub rate: f64,
}

/// What a run is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Topics are made, workers and servers started.
    #[default]
    Starting,
    /// Bots play.
    Playing,
    /// Nobody new is let in, and the games that go on may end.
    EndingGames,
    /// The games are over, and events are on their way to Kafka.
    Flushing,
    /// Workers take what they have not taken.
    CatchingUp,
    /// Workers publish what they have taken, and leave.
    StoppingWorkers,
    /// The files are read back.
    Verifying,
}

impl Progress {
    /// What is done or waited for, and for how long that has been so.
    pub(crate) fn headline(&self, elapsed: Duration) -> String {
        let stage = match (&self.waiting_for, self.stage) {
            (Some(service), _) => return format!("waiting for {service}, {}", clock(elapsed, Some(READY_TIMEOUT))),
            (None, Stage::Starting) => "starting",
            (None, Stage::Playing) => "playing",
            (None, Stage::EndingGames) => "ending games",
            (None, Stage::Flushing) => "delivering events",
            (None, Stage::CatchingUp) => "catching up",
            (None, Stage::StoppingWorkers) => "publishing files",
            (None, Stage::Verifying) => "reading back",
        };
        let limit = (self.stage == Stage::Flushing).then_some(FLUSH_DEADLINE);
        format!("{stage} {}", clock(elapsed, limit))
    }

    /// What else there is to tell, the most important first.
    pub(crate) fn details(&self, elapsed: Duration) -> Vec<String> {
        let count = HumanCount;
        let lag = format!("lag {}", count(self.lag));
        let written = format!("{} events delivered, {} written", count(self.acknowledged), count(self.taken));
        match self.stage {
            Stage::Starting => Vec::new(),
            Stage::Playing => {
                let left = self.left(elapsed).map(|left| format!("about {} left", roughly(left)));
                let running = match (self.running, self.completed) {
                    (0, 1..) => "players wait for others".to_owned(),
                    (running, _) => format!("{} running", count(running)),
                };
                let mut details = vec![self.games()];
                details.extend(left);
                details.extend([running, lag, format!("{} events/s", count(self.rate.round() as u64)), written]);
                details
            }
            Stage::EndingGames => vec![format!("{} running", count(self.running)), lag, written],
            Stage::Flushing => {
                vec![format!("{} events to deliver", count(self.emitted.saturating_sub(self.acknowledged))), lag]
            }
            Stage::CatchingUp => vec![
                format!("{} records to write", count(self.lag)),
                format!("{} written", count(self.taken)),
                format!("gives up after {} s without a commit", STALL_TIMEOUT.as_secs()),
            ],
            Stage::StoppingWorkers => vec![format!("{} records written", count(self.taken))],
            Stage::Verifying => vec![
                format!("{} records written", count(self.taken)),
                "the files are compared with the topics".to_owned(),
            ],
        }
    }

    fn games(&self) -> String {
        let completed = HumanCount(self.completed);
        match self.planned {
            Some(planned) => format!("{completed} of {} games", HumanCount(planned)),
            None => format!("{completed} games"),
        }
    }

    /// How long the games will go on, by those so far; none before it means something. One that is running counts as half played.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let enough = GAMES_FOR_ESTIMATE.max(self.running);
        if self.running == 0 || self.completed < enough || elapsed < TIME_FOR_ESTIMATE {
            return None;
        }
        let played = self.completed as f64 + self.running as f64 / 2.0;
        let left = self.planned? as f64 - played;
        (left > 0.0).then(|| elapsed.mul_f64(left / played))
    }
}

fn clock(elapsed: Duration, limit: Option<Duration>) -> String {
    match limit {
        Some(limit) => format!("{} of {} s", elapsed.as_secs(), limit.as_secs()),
        None if elapsed.as_secs() < 100 => format!("{} s", elapsed.as_secs()),
        None => format!("{} min {:02} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60),
    }
}

/// No more exact than an estimate can be.
fn roughly(left: Duration) -> String {
    match left.as_secs() {
        seconds @ ..10 => format!("{} s", seconds + 1),
        seconds @ 10..90 => format!("{} s", seconds.next_multiple_of(5)),
        seconds @ 90..5400 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// Looks at a run until it is stopped, and gives back the lag over time.
pub(crate) struct Watcher {
    pub(crate) meter: LagMeter,
    pub(crate) games: Games,
    pub(crate) transport: Monitor,
    /// What keeps the workers from writing, if anything does.
    pub(crate) workers: watch::Receiver<Option<String>>,
    /// Offsets that were done before the run.
    pub(crate) done_before: u64,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Watcher {
    pub(crate) async fn run(self, stop: CancellationToken) -> History {
        let Self { mut meter, games, transport, workers, done_before, progress } = self;
        let begun = Instant::now();
        let mut history = History::default();
        let (mut last_emitted, mut last_count) = (0, begun);
        let mut count = |lag_unknown: &Option<String>| {
            let (now, counters) = (Instant::now(), transport.counters());
            // Two looks in a moment tell no rate.
            let rate = (now - last_count >= LOOK_EVERY / 2).then(|| {
                let events = counters.emitted - last_emitted;
                let seconds = (now - last_count).as_secs_f64();
                (last_emitted, last_count) = (counters.emitted, now);
                events as f64 / seconds
            });
            progress.send_modify(|progress| {
                progress.running = games.running();
                progress.completed = games.completed();
                progress.emitted = counters.emitted;
                progress.acknowledged = counters.acknowledged;
                progress.rate = rate.unwrap_or(progress.rate);
                let undelivered = transport.health().err().map(|health| health.to_string());
                let unwritten = || {
                    workers
                        .borrow()
                        .as_ref()
                        .map(|trouble| format!("the workers cannot go on, and try again: {trouble}"))
                };
                progress.trouble = undelivered.or_else(unwritten).or_else(|| lag_unknown.clone());
            });
        };
        let mut lag_unknown = None;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = false;
        while !last {
            // What is told at the stop is the end of the curve.
            last = stop.run_until_cancelled(looks.tick()).await.is_none();
            let looked = {
                let mut looking = std::pin::pin!(meter.look());
                // A Kafka that does not answer keeps nobody from seeing what goes on here.
                loop {
                    tokio::select! {
                        looked = &mut looking => break looked,
                        _ = looks.tick() => count(&lag_unknown),
                    }
                }
            };
            let lag = match looked {
                Ok(lag) => lag,
                Err(error) => {
                    debug!(%error, "the lag is not known now");
                    lag_unknown = Some(format!("the lag is not known: {error}"));
                    count(&lag_unknown);
                    continue;
                }
            };
            lag_unknown = None;
            count(&lag_unknown);
            history.add(begun.elapsed(), lag.records());
            progress.send_modify(|progress| {
                progress.taken = lag.done().saturating_sub(done_before);
                progress.lag = lag.records();
            });
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_once_it_means_something() {
        let check = |planned, completed, running, seconds, expected: Option<u64>| {
            let progress = Progress { planned, completed, running, ..Progress::default() };
            let left = progress.left(Duration::from_secs(seconds)).map(|left| left.as_secs());
            assert_eq!(left, expected, "{completed} of {planned:?}, {running} running, after {seconds} s");
        };
        check(Some(40), 8, 4, 10, Some(30));
        check(Some(40), 18, 4, 10, Some(10));
        check(None, 8, 4, 10, None);
        check(Some(40), 4, 2, 10, None);
        check(Some(40), 8, 4, 2, None);
        check(Some(40), 10, 0, 10, None);
        // Of a thousand games at once the first to end are the shortest.
        check(Some(4000), 300, 400, 10, None);
        check(Some(40), 40, 0, 10, None);
        check(Some(40), 41, 1, 10, None);
    }

    #[test]
    fn an_estimate_is_no_more_exact_than_it_can_be() {
        for (seconds, expected) in [
            (0, "1 s"),
            (9, "10 s"),
            (12, "15 s"),
            (40, "40 s"),
            (89, "90 s"),
            (91, "2 min"),
            (3000, "50 min"),
            (5400, "2 h"),
        ] {
            assert_eq!(roughly(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_wait_has_its_limit_and_what_has_none_counts_up() {
        let seconds = Duration::from_secs;
        let waiting = Progress { waiting_for: Some("Redis at [::1]:1".to_owned()), ..Progress::default() };
        assert_eq!(waiting.headline(seconds(3)), "waiting for Redis at [::1]:1, 3 of 30 s");
        let at = |stage| Progress { stage, ..Progress::default() };
        assert_eq!(at(Stage::Starting).headline(seconds(0)), "starting 0 s");
        assert_eq!(at(Stage::Flushing).headline(seconds(4)), "delivering events 4 of 30 s");
        assert_eq!(at(Stage::Verifying).headline(seconds(125)), "reading back 2 min 05 s");
    }
}
