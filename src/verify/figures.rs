//! The figures of one producer, computed from its rows: how much, how fast, how late, and which games.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use superhero_game::HeroId;

use crate::Standing;
use crate::envelope::{Event, Kind};

/// From 1971 to 9999: what a clock says that stands elsewhere is no time to reckon with.
const PLAUSIBLE_MICROS: std::ops::Range<i64> = 31_536_000_000_000..253_402_300_800_000_000;
/// Three digits of a latency are right.
const LATENCY_DIGITS: u8 = 3;

/// What the rows of one producer, which is one start of a transport, tell of its run. A folder may have rows of other runs as well.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Whose they are.
    pub producer: u128,
    /// Its raw rows.
    pub rows: u64,
    /// Those of games at play: all but the notices that a game's seats were not taken in time.
    pub played: Span,
    /// Those notices.
    pub timed_out: Span,
    /// Its games in the tables.
    pub games: u64,
    /// How each hero has done in them, by its id.
    pub heroes: BTreeMap<HeroId, Standing>,
    /// From the log call to the published file, in microseconds.
    ///
    /// A file's `ctime` is when it got or lost a name. Publishing links it to its final name and, as soon as all files of its
    /// segment have theirs and the names are durable, takes the hidden name away; so this is the end of its publishing, and rows
    /// were visible a little before. Files that were copied or touched since have another `ctime`, which is why only those who know that
    /// nobody has done so ask for it. What clocks of different hosts make negative counts as nothing.
    pub latency: Histogram<u64>,
}

/// Events, and the time from the first to the last of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// How many.
    pub events: u64,
    /// When the first was logged and when the last, in microseconds from 1970; none without events.
    pub micros: Option<(i64, i64)>,
}

impl Figures {
    /// Of a producer that has no rows.
    pub fn new(producer: u128) -> Self {
        Self {
            producer,
            rows: 0,
            played: Span::default(),
            timed_out: Span::default(),
            games: 0,
            heroes: BTreeMap::new(),
            latency: Histogram::new(LATENCY_DIGITS).expect("so many digits are allowed"),
        }
    }

    /// Counts a raw row, in a file that was published at that time.
    pub(crate) fn count(&mut self, event: &Event, published_at_micros: i64) {
        self.rows += 1;
        let Some(logged_at) = event.logged_at_micros.filter(|micros| PLAUSIBLE_MICROS.contains(micros)) else { return };
        let span = if event.kind == Kind::TimedOut { &mut self.timed_out } else { &mut self.played };
        span.add(logged_at);
        let micros = published_at_micros.saturating_sub(logged_at).max(0).unsigned_abs();
        self.latency.record(micros).expect("a histogram that grows takes every value");
    }

    /// Takes in those of another partition.
    pub(crate) fn append(&mut self, other: Self) {
        self.rows += other.rows;
        self.played.append(other.played);
        self.timed_out.append(other.timed_out);
        self.games += other.games;
        append_standings(&mut self.heroes, other.heroes);
        self.latency.add(&other.latency).expect("a histogram that grows takes every value");
    }
}

impl Span {
    /// From the first event to the last.
    pub fn duration(&self) -> Duration {
        self.micros.map_or(Duration::ZERO, |(first, last)| Duration::from_micros(last.abs_diff(first)))
    }

    /// So many of something that happened in it, a second; none where it has no length.
    pub fn per_second(&self, count: u64) -> Option<f64> {
        let seconds = self.duration().as_secs_f64();
        (seconds > 0.0).then(|| count as f64 / seconds)
    }

    /// From its last event to the last of another; nothing if that was before.
    pub fn until(&self, other: &Self) -> Duration {
        let gap = self.micros.zip(other.micros).map_or(0, |((_, end), (_, last))| last.saturating_sub(end).max(0));
        Duration::from_micros(gap.unsigned_abs())
    }

    fn add(&mut self, micros: i64) {
        self.append(Self { events: 1, micros: Some((micros, micros)) });
    }

    fn append(&mut self, other: Self) {
        self.events += other.events;
        self.micros = match (self.micros, other.micros) {
            (Some((first, last)), Some((other_first, other_last))) => {
                Some((first.min(other_first), last.max(other_last)))
            }
            (known, other) => known.or(other),
        };
    }
}

pub(crate) fn append_standings(standings: &mut BTreeMap<HeroId, Standing>, others: BTreeMap<HeroId, Standing>) {
    for (hero, Standing { games, wins, damage_delivered }) in others {
        let standing = standings.entry(hero).or_default();
        standing.games += games;
        standing.wins += wins;
        standing.damage_delivered = standing.damage_delivered.saturating_add(damage_delivered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(times: &[i64]) -> Span {
        let mut span = Span::default();
        times.iter().for_each(|micros| span.add(*micros));
        span
    }

    #[test]
    fn rates_are_from_the_first_event_to_the_last_and_waiting_is_told_apart() {
        let played = span(&[3_000_000, 1_000_000, 2_500_000]);
        assert_eq!((played.events, played.duration()), (3, Duration::from_secs(2)));
        assert_eq!(played.per_second(3), Some(1.5));
        assert_eq!(played.until(&span(&[8_000_000])), Duration::from_secs(5));
        assert_eq!(played.until(&span(&[2_000_000])), Duration::ZERO);
        assert_eq!(played.until(&Span::default()), Duration::ZERO);
    }

    #[test]
    fn events_of_a_clock_that_stands_nowhere_are_counted_and_not_reckoned_with() {
        let mut figures = Figures::new(7);
        let at = |micros| Event { logged_at_micros: Some(micros), kind: Kind::Plain };
        for micros in [-62_135_596_800_000_000, -1, 0, 253_402_300_800_000_000] {
            figures.count(&at(micros), 1_795_371_321_000_000);
        }
        figures.count(&at(1_795_371_320_000_000), 1_795_371_321_000_000);
        assert_eq!((figures.rows, figures.played.events, figures.latency.len()), (5, 1, 1));
        assert_eq!(figures.played.duration(), Duration::ZERO);
    }

    #[test]
    fn what_has_no_length_has_no_rate() {
        assert_eq!(Span::default().per_second(0), None);
        assert_eq!(span(&[5]).per_second(1), None);
    }
}
