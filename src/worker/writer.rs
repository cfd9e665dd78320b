//! Records into rows: each record with all its rows goes to the sink in one call.

use std::sync::Arc;
use std::time::Instant;

use superhero_event::Cleaning;
use superhero_event::table::Origin;
use superhero_game::GameToken;
use superhero_kafka::fetch::{Chunk, Odd, Record};
use superhero_kafka::{Cluster, TopicPartition};
use superhero_sink::{PartitionSink, Room, SinkError, Table, Verdict as Seen};
use superhero_store::GameStore;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::FetchConfig;
use crate::earlier::Earlier;
use crate::fetch::Fetched;
use crate::games::LastGame;
use crate::handler::{self, Request, Verdict};
use crate::id::{Ids, Number, RecordId};
use crate::partition::Phase;
use crate::row::{Row, RowWriter, Value};
use crate::summary::Summary;

/// A row's buffer is kept for the next ones up to this size.
const LARGEST_KEPT_ROW_BYTES: usize = 1 << 20;

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
    /// Where they are from: what is odd about them, and their memory.
    chunk: Chunk,
}

/// A record that cannot be appended before somebody has been asked. It has left the batch.
enum Question {
    /// It is of a game that is over, whose state the store has.
    Game { record: Record, cleaning: Cleaning },
    /// Its number was used before, and only the topic knows for what.
    Earlier { record: Record, number: Number },
}

/// What is known of a record whose number may have been used before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repetition {
    Unknown,
    /// It is none.
    No,
}

/// Appends the records of one partition.
pub(crate) struct Writer {
    partition: TopicPartition,
    makes_tables: bool,
    batch: Batch,
    rows: RowWriter,
    ids: Ids,
    earlier: Earlier,
    last_game: LastGame,
    raw: Vec<u8>,
    dead: Vec<u8>,
    /// Of the segment that is being written.
    tally: Summary,
    /// Whose rows that segment holds.
    games: Vec<GameToken>,
}

impl Writer {
    pub(crate) fn new(partition: TopicPartition, cluster: Arc<Cluster>, fetch: FetchConfig) -> Self {
        Self {
            ids: Ids::new(&partition),
            earlier: Earlier::new(cluster, partition.clone(), fetch),
            makes_tables: handler::makes_tables(&partition.topic),
            batch: Batch::default(),
            rows: RowWriter::new(&partition.topic, partition.partition),
            partition,
            last_game: LastGame::default(),
            raw: Vec::new(),
            dead: Vec::new(),
            tally: Summary::default(),
            games: Vec::new(),
        }
    }

    /// Takes what was fetched; what was taken before must have been appended.
    pub(crate) fn take(&mut self, fetched: Fetched) {
        let Fetched { mut chunk, gone } = fetched;
        self.tally.lost += gone.map_or(0, |gone| gone.end.abs_diff(gone.start));
        for row in [&mut self.raw, &mut self.dead] {
            // The memory of rows is counted as long as their record is there.
            if row.capacity() > LARGEST_KEPT_ROW_BYTES {
                *row = Vec::new();
            }
        }
        self.batch = Batch { records: std::mem::take(&mut chunk.records).into_iter(), chunk };
    }

    /// Forgets what was fetched, and what was appended since the segment began.
    pub(crate) fn start_over(&mut self) {
        self.batch = Batch::default();
        self.earlier.start_over();
        self.tally = Summary::default();
        self.games.clear();
    }

    /// Lets go of what was not needed for some time.
    pub(crate) fn tidy(&mut self) {
        self.earlier.tidy();
    }

    /// What the segment holds that is sealed now; a new one begins.
    pub(crate) fn sealed(&mut self) -> (Summary, Vec<GameToken>) {
        (std::mem::take(&mut self.tally), std::mem::take(&mut self.games))
    }

    /// Appends what was taken, as far as it goes.
    ///
    /// Waits only for the store, and for the topic where a number was used before, and no longer than until the owner wants something.
    pub(crate) async fn append<S: GameStore>(
        &mut self,
        sink: &mut PartitionSink,
        store: &S,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), Stop> {
        let now = Instant::now();
        let mut told = Told::default();
        self.earlier.tidy();
        let mut outcome = self.append_until_question(sink, now, &mut told);
        while let Ok(Some(question)) = outcome {
            let interrupted = phase.wait_for(|phase| *phase != Phase::Hold);
            // Whoever reads on after an interruption meets the record again.
            let answered = match question {
                Question::Game { record, cleaning } => tokio::select! {
                    biased;
                    _ = interrupted => Err(Stop::Interrupted),
                    verdict = self.last_game.judge(store, &self.partition, record.offset, cleaning) => {
                        let value = record.value.as_deref().map_or(Value::Absent, handler::verbatim);
                        let row = row(&record, self.ids.identify(&record.headers), value);
                        self.append_record(sink, &record, &row, verdict, now, &mut told).map(|()| None)
                    }
                },
                Question::Earlier { record, number } => tokio::select! {
                    biased;
                    _ = interrupted => Err(Stop::Interrupted),
                    is_repetition = self.earlier.ask(&record, number) => if is_repetition {
                        self.leave_out(sink, &record, number, now, &mut told).map(|()| None)
                    } else {
                        self.take_record(sink, record, Repetition::No, now, &mut told)
                    }
                },
            };
            outcome = match answered {
                Ok(None) => self.append_until_question(sink, now, &mut told),
                ended => ended,
            };
        }
        self.tally.duplicates += told.duplicates;
        self.tally.missing += told.missing;
        self.tally.unreadable += told.unreadable;
        self.tally.dead_letters += told.dead_letters;
        told.tell(&self.partition);
        let all_appended = matches!(outcome, Ok(_) | Err(Stop::Full)) && self.batch.records.len() == 0;
        if all_appended {
            let next = self.batch.chunk.next;
            sink.advance_to(next, now);
            self.batch = Batch::default();
            self.batch.chunk.next = next;
        }
        outcome.map(drop)
    }

    /// Appends records up to one that raises a question. Almost all records take this path, which is compiled once, for all stores.
    fn append_until_question(
        &mut self,
        sink: &mut PartitionSink,
        now: Instant,
        told: &mut Told,
    ) -> Result<Option<Question>, Stop> {
        while let Some(record) = self.batch.records.next() {
            let question = self.take_record(sink, record, Repetition::Unknown, now, told)?;
            if question.is_some() {
                return Ok(question);
            }
        }
        Ok(None)
    }

    /// Appends a record, or says what has to be asked before.
    #[inline]
    fn take_record(
        &mut self,
        sink: &mut PartitionSink,
        record: Record,
        repetition: Repetition,
        now: Instant,
        told: &mut Told,
    ) -> Result<Option<Question>, Stop> {
        let id = self.ids.identify(&record.headers);
        if let Some(number) = id.and_then(|id| id.number())
            && sink.is_behind(number.producer, number.sequence)
            && repetition == Repetition::Unknown
            // What does not say all that was sent repeats nothing, as far as anybody can tell.
            && self.batch.chunk.odd.front().is_none_or(|odd| odd.offset != record.offset)
        {
            match self.earlier.tell(&record, number) {
                Some(true) => return self.leave_out(sink, &record, number, now, told).map(|()| None),
                Some(false) => {}
                None => return Ok(Some(Question::Earlier { record, number })),
            }
        }
        let (mut value, mut request) = handler::read(self.makes_tables, record.value.as_deref());
        if let Some(Odd { reason, is_left_out, lost_records, .. }) =
            self.batch.chunk.odd.pop_front_if(|odd| odd.offset == record.offset)
        {
            value = match record.value.as_deref() {
                _ if is_left_out => Value::LeftOut,
                None => Value::Absent,
                Some(batch) => Value::Bytes(batch),
            };
            request = Request::DeadLetter(reason);
            told.unreadable += lost_records;
        }
        let verdict = match request {
            Request::Archive => Verdict::NotTheHost,
            Request::DeadLetter(reason) => Verdict::DeadLetter(reason),
            Request::Game(cleaning) => return Ok(Some(Question::Game { record, cleaning })),
        };
        self.append_record(sink, &record, &row(&record, id, value), verdict, now, told).map(|()| None)
    }

    /// Leaves out a record that repeats another.
    fn leave_out(
        &mut self,
        sink: &mut PartitionSink,
        record: &Record,
        number: Number,
        now: Instant,
        told: &mut Told,
    ) -> Result<(), Stop> {
        told.duplicates += 1;
        sink.seen(number.producer, number.sequence);
        self.earlier.pass(record, Some(number));
        appended(sink.append(record.offset, None, &[], now))
    }

    /// Appends a record that is no repetition. Its number counts as seen once it is appended, so nothing is awaited in between.
    #[inline]
    fn append_record(
        &mut self,
        sink: &mut PartitionSink,
        record: &Record,
        row: &Row<'_>,
        verdict: Verdict,
        now: Instant,
        told: &mut Told,
    ) -> Result<(), Stop> {
        let number = row.id.and_then(|id| id.number());
        match number.map_or(Seen::New, |number| sink.seen(number.producer, number.sequence)) {
            Seen::New => {}
            // It was found to say something else than what had the number before.
            Seen::Behind => told.reused += 1,
            Seen::Gap { missing } => told.gap(record.offset, missing),
        }
        // What does not say all that was sent is repeated by nothing, either: a tombstone would look like it.
        self.earlier.pass(record, number.filter(|_| !matches!(row.value, Value::LeftOut)));
        appended(self.append_rows(sink, row, verdict, now, told))
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
        let date = self.rows.date(row.timestamp);
        self.tally.records += 1;
        if date.is_none() {
            self.tally.undated += 1;
            told.undated(row);
        }
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

fn row<'a>(record: &'a Record, id: Option<RecordId<'a>>, value: Value<'a>) -> Row<'a> {
    Row { offset: record.offset, timestamp: record.timestamp, key: record.key.as_deref(), id, value }
}

fn appended(room: Result<Room, SinkError>) -> Result<(), Stop> {
    match room {
        Ok(Room::Left) => Ok(()),
        Ok(Room::Full) => Err(Stop::Full),
        Err(error) => Err(Stop::Failed(error)),
    }
}

/// What is odd about a batch, told once for all of its records.
#[derive(Default)]
struct Told {
    duplicates: u64,
    /// Records that are no duplicates, though their numbers were used before.
    reused: u64,
    missing: u64,
    gaps: u64,
    first_gap: Option<i64>,
    unreadable: u64,
    dead_letters: u64,
    first_dead_letter: Option<(i64, String)>,
    undated: u64,
    /// The offset and the timestamp.
    first_undated: Option<(i64, i64)>,
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

    fn undated(&mut self, row: &Row<'_>) {
        self.first_undated.get_or_insert((row.offset, row.timestamp));
        self.undated += 1;
    }

    fn tell(&self, partition: &TopicPartition) {
        let Self {
            duplicates,
            reused,
            missing,
            gaps,
            first_gap,
            unreadable,
            dead_letters,
            first_dead_letter,
            undated,
            first_undated,
        } = self;
        if *duplicates > 0 {
            info!(%partition, duplicates, "records that had been seen before were left out");
        }
        if *reused > 0 {
            info!(%partition, records = reused, "records have numbers that were used before, and say something else: they are rows, too");
        }
        if let Some(offset) = first_gap {
            warn!(%partition, offset, gaps, missing, "producers have numbered records that did not come; the first gap is before this offset");
        }
        if *unreadable > 0 {
            error!(%partition, records = unreadable, "records are lost: the batches that they came in cannot be read; see the dead letters");
        }
        if let Some((offset, reason)) = first_dead_letter {
            warn!(%partition, offset, dead_letters, reason, "records are kept among the dead letters; the first at this offset");
        }
        if let Some((offset, timestamp)) = first_undated {
            warn!(
                %partition, offset, timestamp, undated,
                "records whose timestamps are no milliseconds of 1971 to 9999 have none in their rows; the first at this offset"
            );
        }
    }
}
