//! What a check has found: counts of what is there, and what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use superhero_game::HeroId;
use superhero_sink::Table;
use superhero_text::shown;

use crate::figures::append_standings;
use crate::id::Id;
use crate::{Faults, Figures};

/// Producers whose rows are counted each for itself; one more start of a transport than these counts with `other_producers`.
pub const MAX_PRODUCERS: usize = 65_536;

/// What was found in the folders, and in the topics if they were compared.
///
/// [`Display`](fmt::Display) is for people: a line for each finding, then totals. As JSON it is one object.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// The folders, as they were given.
    #[serde(serialize_with = "lossy")]
    pub folders: Vec<PathBuf>,
    /// The cluster that they were compared with; none if they were not.
    pub cluster_id: Option<String>,
    /// Every partition that has rows, or records, by topic and number.
    pub partitions: Vec<PartitionSummary>,
    /// Published files of all tables.
    pub files: u64,
    /// Their bytes as they are on disk.
    pub bytes: u64,
    /// Rows of each table.
    pub rows: Rows,
    /// Games in the tables.
    pub games: u64,
    /// How each hero has done in them, by its id.
    pub heroes: BTreeMap<HeroId, Standing>,
    /// Raw rows of each producer: each start of a transport is one. As JSON, producers are 32 hexadecimal digits.
    #[serde(serialize_with = "hexadecimal")]
    pub producers: BTreeMap<u128, u64>,
    /// Raw rows of producers that there was no room for among the [`MAX_PRODUCERS`].
    pub other_producers: u64,
    /// Those of the one producer whose figures were asked for.
    #[serde(skip)]
    pub figures: Option<Figures>,
    /// What is wrong.
    pub faults: Faults,
}

/// How a hero has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Games that it was in.
    pub games: u64,
    /// Games that it won.
    pub wins: u64,
    /// Damage that it has delivered in all of them.
    pub damage_delivered: u64,
}

/// Rows by table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Records.
    pub raw: u64,
    /// Participants of completed games.
    pub game_meta: u64,
    /// Results of completed games.
    pub game_podium: u64,
    /// Dead letters.
    pub dead: u64,
}

/// What was found of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartitionSummary {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Raw rows.
    pub rows: u64,
    /// The lowest offset of a row.
    pub first_offset: Option<i64>,
    /// The highest offset of a row.
    pub last_offset: Option<i64>,
    /// Files of the raw table.
    pub files: u64,
    /// Records that repeat another, and were left out: proven by the ids, or found in the topic.
    pub duplicates_left_out: u64,
    /// Offsets without rows that the topic does not hold any more either.
    pub expired: u64,
    /// Offsets without rows that the topic holds no records of either: marks of transactions, or what was compacted away before.
    pub holes: u64,
    /// Rows whose records were compacted away since.
    pub compacted: u64,
    /// Rows that were compared with their records.
    pub compared: u64,
    /// Raw rows whose records tell no plausible time: their timestamp is null.
    pub undated: u64,
    /// What waits behind an open transaction.
    pub waiting: Option<Waiting>,
}

/// Records that wait behind an open transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// How many, with marks and holes.
    pub records: u64,
    /// Of the first.
    pub first_offset: i64,
    /// The id of the transaction's producer.
    pub producer: i64,
    /// When its first record was made, by the producer's clock; none if that is no time.
    pub since: Option<String>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Records that repeat another, and were left out of the files.
    pub fn duplicates_left_out(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.duplicates_left_out).sum()
    }

    /// The figures that a row with that id belongs to, if they are asked for.
    pub(crate) fn figures_of(&mut self, id: Option<Id>) -> Option<&mut Figures> {
        let producer = id?.producer;
        self.figures.as_mut().filter(|figures| figures.producer == producer)
    }

    /// Takes in what was found of another partition.
    pub(crate) fn append(&mut self, other: Self) {
        self.partitions.extend(other.partitions);
        self.files += other.files;
        self.bytes += other.bytes;
        self.rows.raw += other.rows.raw;
        self.rows.game_meta += other.rows.game_meta;
        self.rows.game_podium += other.rows.game_podium;
        self.rows.dead += other.rows.dead;
        self.games += other.games;
        append_standings(&mut self.heroes, other.heroes);
        for (producer, rows) in other.producers {
            self.count_producer(producer, rows);
        }
        self.other_producers += other.other_producers;
        match (&mut self.figures, other.figures) {
            (Some(figures), Some(others)) => figures.append(others),
            (none, others) => *none = others,
        }
        self.faults.append(other.faults);
    }

    pub(crate) fn count_row(&mut self, table: Table) {
        let Rows { raw, game_meta, game_podium, dead } = &mut self.rows;
        *match table {
            Table::Raw => raw,
            Table::GameMeta => game_meta,
            Table::GamePodium => game_podium,
            Table::Dead => dead,
        } += 1;
    }

    pub(crate) fn count_producer(&mut self, producer: u128, rows: u64) {
        let room = self.producers.len() < MAX_PRODUCERS;
        match self.producers.get_mut(&producer) {
            Some(count) => *count += rows,
            None if room => *self.producers.entry(producer).or_default() += rows,
            None => self.other_producers += rows,
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self.faults.first() {
            writeln!(f, "{fault}")?;
        }
        let untold = self.faults.total() - self.faults.first().len() as u64;
        if untold > 0 {
            writeln!(f, "… and {untold} more")?;
        }
        if !self.is_clean() {
            writeln!(f)?;
        }
        self.write_partitions(f)?;
        let Rows { raw, game_meta, game_podium, dead } = self.rows;
        writeln!(
            f,
            "{raw} rows of {} producers, {game_meta} of GAME_META, {game_podium} of GAME_PODIUM, {dead} dead letters; {} games; \
             {} files, {} bytes",
            self.producers.len(),
            self.games,
            self.files,
            self.bytes
        )?;
        match &self.cluster_id {
            Some(id) => writeln!(f, "compared with the topics of the cluster {}", shown::one_line(id))?,
            None if self.faults.count("gap") > 0 => {
                writeln!(
                    f,
                    "not compared with any topic; --kafka tells whether gaps are repetitions that were left out, or have expired"
                )?;
            }
            None => writeln!(f, "not compared with any topic")?,
        }
        if self.is_clean() {
            return write!(f, "{}", if raw == 0 { "there are no rows; nothing is wrong" } else { "nothing is wrong" });
        }
        let total = self.faults.total();
        write!(f, "{total} {}:", if total == 1 { "fault" } else { "faults" })?;
        for (place, (kind, count)) in self.faults.kinds().enumerate() {
            write!(f, "{} {count} {kind}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Verification {
    fn write_partitions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for partition in &self.partitions {
            let PartitionSummary { topic, partition: number, rows, files, duplicates_left_out, .. } = partition;
            write!(f, "{topic}/{number}: {rows} rows")?;
            if let (Some(first), Some(last)) = (partition.first_offset, partition.last_offset) {
                write!(f, " from offset {first} to {last} in {files} files")?;
            }
            for (count, what) in [
                (*duplicates_left_out, "repetitions left out"),
                (partition.expired, "offsets not held by the topic any more"),
                (partition.holes, "offsets without records"),
                (partition.compacted, "records compacted away since"),
                (partition.undated, "rows without a plausible timestamp"),
            ] {
                if count > 0 {
                    write!(f, ", {count} {what}")?;
                }
            }
            if let Some(Waiting { records, first_offset, producer, since }) = &partition.waiting {
                write!(
                    f,
                    "; {records} records from offset {first_offset} on wait behind an open transaction of producer {producer}"
                )?;
                if let Some(since) = since {
                    write!(f, " since {since}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn lossy<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_str().map_or_else(|| shown::path(path), str::to_owned)))
}

fn hexadecimal<S: Serializer>(producers: &BTreeMap<u128, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(producers.iter().map(|(producer, rows)| (format!("{producer:032x}"), rows)))
}
