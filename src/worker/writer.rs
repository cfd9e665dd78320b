//! Records into rows: each record with all its rows goes to the sink in one call.

use std::collections::VecDeque;
use std::time::Instant;

use superhero_event::table::Origin;
use superhero_event::{Cleaning, header};
use superhero_game::GameToken;
use superhero_kafka::TopicPartition;
use superhero_kafka::fetch::{Record, Undecodable};
use superhero_sink::{PartitionSink, Room, SinkError, Table, Verdict as Seen};
use superhero_store::GameStore;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::fetch::Fetched;
use crate::games::LastGame;
use crate::handler::{self, Request, Verdict};
use crate::partition::Phase;
use crate::row::{Producers, Row, RowWriter, Value};
use crate::summary::Summary;

/// Why appending stopped before the end of what was fetched.
pub(crate) enum Stop {
    /// The segment is full.
    Full,
    /// The owner of the partition wants something.
    Interrupted,
    /// The disk.
    Failed(SinkError),
}

/// What was fetched and is not yet appended.
#[derive(Default)]
pub(crate) struct Batch {
    records: std::vec::IntoIter<Record>,
    /// Of those records, in their order.
    undecodable: VecDeque<Undecodable>,
    next: i64,
}

/// A record of a game that is over, whose state the store is to be asked for.
struct GameOver {
    record: Record,
    cleaning: Cleaning,
}

/// Appends the records of one partition.
pub(crate) struct Writer {
    partition: TopicPartition,
    makes_tables: bool,
    batch: Batch,
    rows: RowWriter,
    producers: Producers,
    last_game: LastGame,
    raw: Vec<u8>,
    dead: Vec<u8>,
    /// Of the segment that is being written.
    tally: Summary,
    /// Whose rows that segment holds.
    games: Vec<GameToken>,
}

impl Writer {
    pub(crate) fn new(partition: TopicPartition) -> Self {
        Self {
            makes_tables: handler::makes_tables(&partition.topic),
            batch: Batch::default(),
            rows: RowWriter::new(&partition.topic, partition.partition),
            partition,
            producers: Producers::default(),
            last_game: LastGame::default(),
            raw: Vec::new(),
            dead: Vec::new(),
            tally: Summary::default(),
            games: Vec::new(),
        }
    }

    /// Takes what was fetched; what was taken before must have been appended.
    pub(crate) fn take(&mut self, fetched: Fetched) {
        let Fetched { records, undecodable, next, gone } = fetched;
        self.tally.lost += gone.map_or(0, |gone| gone.end.abs_diff(gone.start));
        self.batch = Batch { records: records.into_iter(), undecodable: undecodable.into(), next };
    }

    /// Forgets what was fetched, and what was appended since the segment began.
    pub(crate) fn start_over(&mut self) {
        self.batch = Batch::default();
        self.tally = Summary::default();
        self.games.clear();
    }

    /// What the segment holds that is sealed now; a new one begins.
    pub(crate) fn sealed(&mut self) -> (Summary, Vec<GameToken>) {
        (std::mem::take(&mut self.tally), std::mem::take(&mut self.games))
    }

    /// Appends what was taken, as far as it goes.
    ///
    /// Waits only for the store, and no longer than until the owner wants something.
    pub(crate) async fn append<S: GameStore>(
        &mut self,
        sink: &mut PartitionSink,
        store: &S,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), Stop> {
        let now = Instant::now();
        let mut told = Told::default();
        let mut outcome = self.append_until_game(sink, now, &mut told);
        while let Ok(Some(GameOver { record, cleaning })) = outcome {
            let interrupted = phase.wait_for(|phase| *phase != Phase::Hold);
            let judged = self.last_game.judge(store, &self.partition, record.offset, cleaning);
            outcome = tokio::select! {
                biased;
                // Whoever reads on meets the record again.
                _ = interrupted => Err(Stop::Interrupted),
                verdict = judged => {
                    let value = record.value.as_deref().map_or(Value::Absent, handler::verbatim);
                    self.append_record(sink, &record, value, verdict, now, &mut told)
                        .and_then(|()| self.append_until_game(sink, now, &mut told))
                }
            };
        }
        self.tally.duplicates += told.duplicates;
        self.tally.missing += told.missing;
        self.tally.dead_letters += told.dead_letters;
        told.tell(&self.partition);
        let all_appended = matches!(outcome, Ok(_) | Err(Stop::Full)) && self.batch.records.len() == 0;
        if all_appended {
            sink.advance_to(self.batch.next, now);
        }
        outcome.map(drop)
    }

    /// Appends records up to that of a game that is over, which has left the batch then. Almost all records take this path, which is
    /// compiled once, for all stores.
    fn append_until_game(
        &mut self,
        sink: &mut PartitionSink,
        now: Instant,
        told: &mut Told,
    ) -> Result<Option<GameOver>, Stop> {
        while let Some(record) = self.batch.records.next() {
            let (mut value, mut request) = handler::read(self.makes_tables, record.value.as_deref());
            if let Some(Undecodable { reason, .. }) =
                self.batch.undecodable.pop_front_if(|batch| batch.offset == record.offset)
            {
                value = record.value.as_deref().map_or(Value::Absent, Value::Bytes);
                request = Request::DeadLetter(reason);
            }
            let verdict = match request {
                Request::Archive => Verdict::NotTheHost,
                Request::DeadLetter(reason) => Verdict::DeadLetter(reason),
                Request::Game(cleaning) => return Ok(Some(GameOver { record, cleaning })),
            };
            self.append_record(sink, &record, value, verdict, now, told)?;
        }
        Ok(None)
    }

    /// Appends a record, unless it was seen before. It counts as seen once it is appended, so nothing is awaited in between.
    fn append_record(
        &mut self,
        sink: &mut PartitionSink,
        record: &Record,
        value: Value<'_>,
        verdict: Verdict,
        now: Instant,
        told: &mut Told,
    ) -> Result<(), Stop> {
        let headers = &record.headers;
        let id = headers
            .get(header::PRODUCER)
            .zip(headers.get(header::SEQUENCE))
            .and_then(|(producer, sequence)| self.producers.identify(producer, sequence));
        let row = Row { offset: record.offset, timestamp: record.timestamp, key: record.key.as_deref(), id, value };
        let appended = match id.map_or(Seen::New, |id| sink.seen(id.producer, id.sequence)) {
            Seen::Duplicate => {
                told.duplicates += 1;
                sink.append(row.offset, row.timestamp.date_naive(), &[], now)
            }
            Seen::New => self.append_rows(sink, &row, verdict, now, told),
            Seen::Gap { missing } => {
                told.gap(row.offset, missing);
                self.append_rows(sink, &row, verdict, now, told)
            }
        };
        match appended {
            Ok(Room::Left) => Ok(()),
            Ok(Room::Full) => Err(Stop::Full),
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    fn append_rows(
        &mut self,
        sink: &mut PartitionSink,
        row: &Row<'_>,
        verdict: Verdict,
        now: Instant,
        told: &mut Told,
    ) -> Result<Room, SinkError> {
        self.raw.clear();
        self.rows.raw(&mut self.raw, row);
        let date = row.timestamp.date_naive();
        self.tally.records += 1;
        match verdict {
            Verdict::NotTheHost => {
                self.tally.rows += 1;
                sink.append(row.offset, date, &[(Table::Raw, &self.raw)], now)
            }
            Verdict::DeadLetter(reason) => {
                self.dead.clear();
                self.rows.dead_letter(&mut self.dead, &reason, row);
                told.dead_letter(row.offset, reason);
                self.tally.rows += 2;
                sink.append(row.offset, date, &[(Table::Raw, &self.raw), (Table::Dead, &self.dead)], now)
            }
            Verdict::Tables(tables) => {
                let TopicPartition { topic, partition } = &self.partition;
                let origin = Origin { topic, partition: *partition, offset: row.offset };
                let (meta, podium) = (tables.meta(origin), tables.podium(origin));
                let mut rows = vec![(Table::Raw, self.raw.as_slice())];
                rows.extend(meta.iter().map(|row| (Table::GameMeta, row.as_slice())));
                rows.extend(podium.iter().map(|row| (Table::GamePodium, row.as_slice())));
                self.tally.games += 1;
                self.tally.rows += rows.len() as u64;
                self.games.push(tables.game);
                sink.append(row.offset, date, &rows, now)
            }
        }
    }
}

/// What is odd about a batch, told once for all of its records.
#[derive(Default)]
struct Told {
    duplicates: u64,
    missing: u64,
    gaps: u64,
    first_gap: Option<i64>,
    dead_letters: u64,
    first_dead_letter: Option<(i64, String)>,
}

impl Told {
    fn gap(&mut self, offset: i64, missing: u64) {
        self.first_gap.get_or_insert(offset);
        self.gaps += 1;
        self.missing = self.missing.saturating_add(missing);
    }

    fn dead_letter(&mut self, offset: i64, reason: String) {
        self.first_dead_letter.get_or_insert((offset, reason));
        self.dead_letters += 1;
    }

    fn tell(&self, partition: &TopicPartition) {
        let Self { duplicates, missing, gaps, first_gap, dead_letters, first_dead_letter } = self;
        if *duplicates > 0 {
            info!(%partition, duplicates, "records that had been seen before were left out");
        }
        if let Some(offset) = first_gap {
            warn!(%partition, offset, gaps, missing, "producers have numbered records that did not come; the first gap is before this offset");
        }
        if let Some((offset, reason)) = first_dead_letter {
            warn!(%partition, offset, dead_letters, reason, "records are kept among the dead letters; the first at this offset");
        }
    }
}
