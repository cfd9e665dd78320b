//! What came of a run, as a table for people and as one JSON object.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use superhero_game::HeroId;
use superhero_player::Summary;
use superhero_text::shown;
use superhero_transport::Counters;
use superhero_verify::{Figures, Verification};

use crate::history::History;
use crate::next::Next;
use crate::{SimulationConfig, WorkersStart, usage};

/// Nothing else that a run tells means anything then.
const NO_GAME: &str = "no game was played to its end";

/// Heroes on the winners' board.
const BOARD: usize = 10;

/// The outcome of a run. [`Display`](fmt::Display) is for people; as JSON it is one object with the same in it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether every event is in the files exactly once, and nothing else went wrong.
    pub verified: bool,
    /// What is wrong.
    pub findings: Vec<String>,
    /// Whether somebody stopped the run before its bots had played all their games.
    pub stopped_early: bool,
    /// Where the files are.
    pub folder: PathBuf,
    /// What was asked for.
    pub settings: Settings,
    /// What was played.
    pub games: Games,
    /// What was logged, and where it went.
    pub events: Events,
    /// From the log call to the published row.
    pub latency: Latency,
    /// Records that the workers had not committed.
    pub lag: Lag,
    /// What was published.
    pub files: Files,
    /// What it took.
    pub used: Used,
    /// Heroes by their wins.
    pub winners: Vec<Winner>,
    /// How to read the files.
    pub next: Next,
}

/// See [`SimulationConfig`].
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Settings {
    pub players: usize,
    pub servers: usize,
    pub workers: usize,
    pub workers_start: WorkersStart,
    pub games: u32,
    pub pace_s: f64,
    pub seed: u64,
    /// None: the embedded broker.
    pub kafka: Option<String>,
    /// None: this process's memory.
    pub redis: Option<String>,
}

/// What was played.
#[derive(Debug, Clone, Serialize)]
pub struct Games {
    /// Games played to their end, as the servers' events tell them.
    pub completed: u64,
    /// Games that were to be played; none if there are too many to be counted.
    pub planned: Option<u64>,
    /// Games of this run in the tables.
    pub in_tables: u64,
    /// Times that a player waited in vain for others.
    pub seats_timed_out: u64,
    /// Times that a player left a game of which nothing could be learned any more.
    pub seats_abandoned: u64,
    /// Players that gave up.
    pub players_failed: usize,
    /// Completed a second, from the first event of the run to the last; none if it has no length.
    pub per_second: Option<f64>,
}

/// What was logged, and where it went.
#[derive(Debug, Clone, Serialize)]
pub struct Events {
    /// Logged by servers.
    pub emitted: u64,
    /// Acknowledged by Kafka.
    pub acknowledged: u64,
    /// Their rows in the files, counted by reading them back.
    pub written: u64,
    /// Given up by the transport.
    pub dropped: u64,
    /// Rows that stand in the folder's files more than once, or repeat another's number.
    pub duplicates: u64,
    /// Repetitions in the topics that the workers left out.
    pub repetitions_left_out: u64,
    /// Records that could not be understood, of all in the folder.
    pub dead_letters: u64,
    /// Events a second by their own times in the files, from the first to the last, and without those that only tell that somebody
    /// waited in vain; none if that has no length.
    pub per_second: Option<f64>,
}

/// Milliseconds from the log call to the published row; none without rows.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

/// Records that the workers had not committed.
#[derive(Debug, Clone, Serialize)]
pub struct Lag {
    /// The most at one time.
    pub peak: u64,
    /// At the end; none if that is not known.
    pub left: Option<u64>,
    /// Seconds from the last acknowledged event, or from the workers' start if that is later, to the last committed record.
    pub caught_up_seconds: f64,
    /// Over time.
    pub over_time: History,
}

/// What is published in the folder.
#[derive(Debug, Clone, Serialize)]
pub struct Files {
    /// Whether rows of others are among them, such as those of an earlier run on the same Kafka.
    pub with_others: bool,
    /// How many, over all tables.
    pub count: u64,
    /// Their size on disk.
    pub bytes: u64,
}

/// What it took.
#[derive(Debug, Clone, Serialize)]
pub struct Used {
    /// From the first topic to the last published row.
    pub seconds: f64,
    /// From the first event to the last, by the events' own times in the files.
    pub playing_seconds: f64,
    /// After that, until the last player was told that it waited in vain.
    pub waiting_seconds: f64,
    /// Processor time of the whole process: bots, servers, broker and workers.
    pub cpu_seconds: Option<f64>,
    /// That, divided by the events.
    pub cpu_us_per_event: Option<f64>,
    /// The most memory that was resident at one time.
    pub peak_memory_bytes: Option<u64>,
}

/// A hero on the board.
#[derive(Debug, Clone, Serialize)]
pub struct Winner {
    /// Its name, if it is one of the built-in roster.
    pub hero: String,
    /// Its id.
    pub hero_id: u32,
    /// Games won.
    pub wins: u64,
    /// Games played.
    pub games: u64,
    /// Damage delivered in all of them.
    pub damage_delivered: u64,
}

/// What is known of a run before its files are read back.
pub(crate) struct Played {
    pub(crate) stopped: bool,
    pub(crate) players: Summary,
    pub(crate) planned: Option<u64>,
    pub(crate) written_after: Duration,
    pub(crate) games_completed: u64,
    pub(crate) counters: Counters,
    pub(crate) lag: Option<u64>,
    pub(crate) caught_up: Duration,
    pub(crate) history: History,
    pub(crate) hero_names: BTreeMap<HeroId, String>,
    pub(crate) findings: Vec<String>,
}

impl Report {
    pub(crate) fn new(config: &SimulationConfig, folder: PathBuf, played: Played, found: &Verification) -> Self {
        let Counters { emitted, acknowledged, dropped, .. } = played.counters;
        let nothing = Figures::new(0);
        let figures = found.figures.as_ref().unwrap_or(&nothing);
        let duplicates = found.faults.kinds().filter(|(kind, _)| kind.starts_with("duplicate"));
        let cpu = usage::cpu_time().map(|time| time.as_secs_f64());
        let mut report = Self {
            verified: false,
            findings: played.findings,
            stopped_early: played.stopped,
            settings: Settings {
                players: config.players,
                servers: config.servers,
                workers: config.workers,
                workers_start: config.workers_start,
                games: config.games,
                pace_s: config.pace.as_secs_f64(),
                seed: config.seed,
                kafka: config.kafka.as_ref().map(|kafka| kafka.servers()),
                redis: config.redis.as_ref().map(|redis| redis.address()),
            },
            games: Games {
                completed: played.games_completed,
                planned: played.planned,
                in_tables: figures.games,
                seats_timed_out: played.players.seats_timed_out,
                seats_abandoned: played.players.seats_abandoned,
                players_failed: played.players.failed,
                per_second: figures.played.per_second(played.games_completed),
            },
            events: Events {
                emitted,
                acknowledged,
                written: figures.rows,
                dropped,
                duplicates: duplicates.map(|(_, count)| count).sum(),
                repetitions_left_out: found.duplicates_left_out(),
                dead_letters: found.rows.dead,
                per_second: figures.played.per_second(figures.played.events),
            },
            latency: Latency::of(figures),
            lag: Lag {
                peak: played.history.peak(),
                left: played.lag,
                caught_up_seconds: played.caught_up.as_secs_f64(),
                over_time: played.history,
            },
            files: Files { with_others: found.rows.raw > figures.rows, count: found.files, bytes: found.bytes },
            used: Used {
                seconds: played.written_after.as_secs_f64(),
                playing_seconds: figures.played.duration().as_secs_f64(),
                waiting_seconds: figures.played.until(&figures.timed_out).as_secs_f64(),
                cpu_seconds: cpu,
                cpu_us_per_event: cpu.filter(|_| emitted > 0).map(|seconds| seconds * 1e6 / emitted as f64),
                peak_memory_bytes: usage::peak_memory(),
            },
            winners: winners(&played.hero_names, figures),
            next: Next::new(&folder),
            folder,
        };
        report.check(config, found);
        report
    }

    /// Whether it is as it should be.
    fn check(&mut self, config: &SimulationConfig, found: &Verification) {
        let Events { emitted, acknowledged, written, dropped, .. } = self.events;
        let mut wrong = |is_wrong: bool, what: String| {
            if is_wrong {
                self.findings.push(what);
            }
        };
        wrong(self.games.completed == 0, NO_GAME.to_owned());
        wrong(acknowledged != emitted, format!("{acknowledged} of {emitted} events were acknowledged by Kafka"));
        wrong(
            written != acknowledged,
            format!("{acknowledged} events were acknowledged, but {written} stand in the files"),
        );
        wrong(dropped > 0, format!("{dropped} events were dropped"));
        let left = self.lag.left.unwrap_or_default();
        wrong(left > 0, format!("the workers left {left} records"));
        wrong(self.games.players_failed > 0, format!("{} players gave up", self.games.players_failed));
        let games = (self.games.completed, self.games.in_tables);
        wrong(games.0 != games.1, format!("{} games were completed, but {} stand in the tables", games.0, games.1));
        let expired: u64 = found.partitions.iter().map(|partition| partition.expired).sum();
        wrong(
            config.kafka.is_none() && expired > 0,
            format!(
                "{expired} records went from the embedded broker's memory before the workers took them: start the workers earlier, \
                 or use a Kafka that keeps more (kafka=HOST:PORT)"
            ),
        );
        self.findings.extend(found.faults.first().iter().map(ToString::to_string));
        let untold = found.faults.total() - found.faults.first().len() as u64;
        if untold > 0 {
            self.findings.push(format!("{untold} more, which `superhero verify` counts by their kinds"));
        }
        self.verified = self.findings.is_empty();
    }
}

impl Latency {
    fn of(Figures { latency: micros, .. }: &Figures) -> Self {
        let quantile = |quantile| (!micros.is_empty()).then(|| micros.value_at_quantile(quantile) as f64 / 1000.0);
        Self { p50_ms: quantile(0.5), p95_ms: quantile(0.95), p99_ms: quantile(0.99), max_ms: quantile(1.0) }
    }
}

fn winners(names: &BTreeMap<HeroId, String>, figures: &Figures) -> Vec<Winner> {
    let mut winners: Vec<_> = figures
        .heroes
        .iter()
        .map(|(id, standing)| Winner {
            hero: names.get(id).cloned().unwrap_or_else(|| format!("hero {}", id.0)),
            hero_id: id.0,
            wins: standing.wins,
            games: standing.games,
            damage_delivered: standing.damage_delivered,
        })
        .collect();
    winners.sort_by_key(|winner| std::cmp::Reverse((winner.wins, winner.damage_delivered)));
    winners.truncate(BOARD);
    winners
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, games, events, latency, lag, files, used, .. } = self;
        let count = HumanCount;
        writeln!(f, "{}", self.verdict())?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
        writeln!(f)?;
        let mut row = |name: &str, text: String| writeln!(f, "{name:<14}{text}");
        row(
            "played",
            format!(
                "{}, {}, {}; seed {}",
                plural(settings.players, "player"),
                plural(settings.servers, "server"),
                plural(settings.workers, "worker"),
                settings.seed
            ),
        )?;
        row(
            "games",
            format!(
                "{}{} completed in {}{}, {} in the tables{}",
                count(games.completed),
                games.planned.map(|planned| format!(" of {}", count(planned))).unwrap_or_default(),
                seconds(used.playing_seconds),
                rate(games.per_second, 1),
                count(games.in_tables),
                match games.seats_timed_out {
                    0 => String::new(),
                    seats => format!(
                        "; then {} waited in vain for others, for {}",
                        plural(seats as usize, "player"),
                        seconds(used.waiting_seconds)
                    ),
                },
            ),
        )?;
        row(
            "events",
            format!(
                "{} emitted, {} acknowledged, {} written{}",
                count(events.emitted),
                count(events.acknowledged),
                count(events.written),
                rate(events.per_second, 0)
            ),
        )?;
        row(
            "duplicates",
            format!(
                "{} in the files; {} repetitions in the topics, left out",
                count(events.duplicates),
                count(events.repetitions_left_out)
            ),
        )?;
        row("dead letters", count(events.dead_letters).to_string())?;
        row(
            "latency",
            format!(
                "p50 {}, p95 {}, p99 {} from the log call to the published row",
                millis(latency.p50_ms),
                millis(latency.p95_ms),
                millis(latency.p99_ms)
            ),
        )?;
        row(
            "lag",
            format!(
                "{} records at most, {} at the end, {:.1} s after {}",
                count(lag.peak),
                lag.left.map_or_else(|| "an unknown number".to_owned(), |left| count(left).to_string()),
                lag.caught_up_seconds,
                match settings.workers_start {
                    WorkersStart::AtOnce => "the last event",
                    WorkersStart::AfterGames => "the workers' start",
                }
            ),
        )?;
        let others =
            if files.with_others { " in the folder, others' rows and those of earlier runs included" } else { "" };
        row("files", format!("{}, {}{others}", plural(files.count as usize, "file"), HumanBytes(files.bytes)))?;
        row("used", used.to_string())?;
        row("folder", shown::path(&self.folder))?;
        self.write_board(f)?;
        write!(f, "\n{}", self.next)
    }
}

impl Report {
    /// What came of it in one line, the first of what [`Display`](fmt::Display) shows; to be said again below what may not fit a screen.
    pub fn verdict(&self) -> &'static str {
        match (self.verified, self.stopped_early) {
            (true, false) => "Every event is in the files, once.",
            (true, true) => "Stopped early. Every event that was logged is in the files, once.",
            (false, _) if self.games.completed == 0 => "NO GAME WAS PLAYED",
            (false, _) => "NOT VERIFIED",
        }
    }

    fn write_board(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.winners.is_empty() {
            return Ok(());
        }
        let width = self.winners.iter().map(|winner| winner.hero.chars().count()).max().unwrap_or(0).max("hero".len());
        writeln!(f, "\n{:<width$}  {:>6}  {:>6}  {:>14}", "hero", "wins", "games", "damage")?;
        for Winner { hero, wins, games, damage_delivered, .. } in &self.winners {
            writeln!(
                f,
                "{hero:<width$}  {:>6}  {:>6}  {:>14}",
                HumanCount(*wins).to_string(),
                HumanCount(*games).to_string(),
                HumanCount(*damage_delivered).to_string()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s in all", self.seconds)?;
        if let Some((cpu, per_event)) = self.cpu_seconds.zip(self.cpu_us_per_event) {
            write!(f, ", {cpu:.1} s of processor time ({per_event:.0} µs an event)")?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, ", {} of memory at most", HumanBytes(bytes))?;
        }
        Ok(())
    }
}

fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {noun}{s}", HumanCount(count as u64))
}

/// Something a second, in parentheses; nothing where there is no rate.
fn rate(per_second: Option<f64>, digits: usize) -> String {
    per_second.map(|rate| format!(" ({rate:.digits$}/s)")).unwrap_or_default()
}

/// Short times with more digits, so that none is shown as nothing.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

fn millis(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests;
