//! Names and paths: what stands where in a folder, written and read back.
//!
//! Every name can be read back into the value that made it, and reading is total: a name that none of ours could have is an
//! error, never a guess. `+` separates the parts because Kafka allows it in no topic name.

use std::{fmt, path::PathBuf, sync::Arc};

use chrono::NaiveDate;
use thiserror::Error;

/// The directory under `OUTPUT_DIR` that holds the published rows.
pub const ROOT: &str = "superhero";

/// The work area inside [`ROOT`]; hidden, so that readers who list the tables never see a row that is not published.
pub const WORK_AREA: &str = ".superhero";

/// Kafka allows 249 bytes, but a sealed segment's name adds 81 to the topic's, and a file system allows 255.
pub const MAX_TOPIC_BYTES: usize = 170;

/// Kafka's own limit.
const KAFKA_MAX_TOPIC_BYTES: usize = 249;

const DATE_FORMAT: &str = "%Y-%m-%d";

/// In the place of a date where a record tells none: what Hive, Spark and DuckDB read as null. It sorts behind all dates, so that
/// readers who take the columns from the first file meet timestamps that are none only where a partition has no others.
const NO_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Why a name is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Kafka would not allow such a topic.
    #[error(
        "topic {topic:?} cannot be archived: a topic's name is 1 to 249 letters, digits, dots, underscores and hyphens, and \
         neither '.' nor '..'"
    )]
    Topic {
        /// The name as it was given.
        topic: String,
    },
    /// Kafka allows it, and a file system could not hold its files.
    #[error(
        "topic {topic} cannot be archived: its name has {} bytes, and the names of its files have room for {MAX_TOPIC_BYTES}; \
         mirror it to a topic with a shorter name", .topic.len()
    )]
    TooLong {
        /// The name as it was given.
        topic: String,
    },
    /// Partitions and generations count from 0.
    #[error("partition {partition} of topic {topic} is negative")]
    Partition {
        /// The topic.
        topic: String,
        /// The number as it was given.
        partition: i32,
    },
    /// The text is not the name of such a thing.
    #[error("{name:?} is not the name of {expected}")]
    Foreign {
        /// The text.
        name: String,
        /// What a name was expected for.
        expected: &'static str,
    },
}

/// A partition of a topic: the unit of ownership, and the joint with Kafka together with the offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    topic: Arc<str>,
    partition: i32,
}

impl PartitionId {
    /// Checks the topic's name and the number.
    pub fn new(topic: &str, partition: i32) -> Result<Self, NameError> {
        check_topic_name(topic)?;
        if partition < 0 {
            return Err(NameError::Partition { topic: topic.to_owned(), partition });
        }
        Ok(Self { topic: topic.into(), partition })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The number of the partition in its topic.
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Refuses what Kafka refuses, and names too long for a file system.
pub fn check_topic_name(topic: &str) -> Result<(), NameError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !(1..=KAFKA_MAX_TOPIC_BYTES).contains(&topic.len()) || topic == "." || topic == ".." || !topic.bytes().all(legal)
    {
        return Err(NameError::Topic { topic: topic.to_owned() });
    }
    if topic.len() > MAX_TOPIC_BYTES {
        return Err(NameError::TooLong { topic: topic.to_owned() });
    }
    Ok(())
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// Draws a new one.
            pub fn random() -> Self {
                let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
                // Six bits of a version 4 UUID are fixed; folded, none is.
                Self(high.rotate_left(32) ^ low)
            }

            /// Reads the 16 hexadecimal digits that `Display` writes.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                match u64::from_str_radix(text, 16) {
                    Ok(value) if digits => Ok(Self(value)),
                    _ => Err(foreign(text, $expected)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}

identity!(
    /// Which folder; made once for each, and kept in it. Workers that share a folder share this.
    FolderId,
    "a folder"
);
identity!(
    /// Which start of which worker; new at each start, so that no two attempts to write the same offsets share a name.
    WriterId,
    "a writer"
);

/// The tables a row can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Every record as it came.
    Raw,
    /// A row for each participant of a completed game.
    GameMeta,
    /// A row for each player's result in a completed game.
    GamePodium,
    /// Records that could not be understood, with the reason.
    Dead,
}

impl Table {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Raw, Self::GameMeta, Self::GamePodium, Self::Dead];

    /// The directory of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::GameMeta => "GAME_META",
            Self::GamePodium => "GAME_PODIUM",
            Self::Dead => "dead",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// How a file's bytes are packed; its name tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// `.jsonl`
    None,
    /// `.jsonl.gz`
    #[default]
    Gzip,
}

impl Compression {
    /// What a file's name ends with, the first dot included.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => ".jsonl",
            Self::Gzip => ".jsonl.gz",
        }
    }

    /// What its name ends with until it is published: `.jsonl` is in none of them, and none ends with `.gz`, so that nobody who reads
    /// what matches `**/*.jsonl*` or `**/*.gz` reads work in progress, though many tools look into hidden directories.
    fn unpublished_extension(self) -> &'static str {
        match self {
            Self::None => ".part",
            Self::Gzip => ".gz.part",
        }
    }
}

/// What a published file is called within its directory: `<topic>+<partition>+<first offset, 20 digits>.jsonl[.gz]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublishedName {
    /// Where its rows come from.
    pub partition: PartitionId,
    /// The offset of its first row.
    pub first_row: i64,
    /// How it is packed.
    pub compression: Compression,
}

impl PublishedName {
    /// Reads the name back.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        const EXPECTED: &str = "a published file";
        Self::parse_option(name).ok_or_else(|| foreign(name, EXPECTED))
    }

    fn parse_option(name: &str) -> Option<Self> {
        Self::parse_with(name, Compression::extension)
    }

    /// Reads a name that has another ending for each way of packing.
    fn parse_with(name: &str, ending: fn(Compression) -> &'static str) -> Option<Self> {
        let (stem, compression) = [Compression::Gzip, Compression::None]
            .into_iter()
            .find_map(|compression| Some((name.strip_suffix(ending(compression))?, compression)))?;
        let [topic, partition, first_row] = parts(stem)?;
        Some(Self {
            partition: PartitionId::new(topic, number(partition)?).ok()?,
            first_row: padded_offset(first_row)?,
            compression,
        })
    }
}

impl PublishedName {
    fn write_with(&self, f: &mut fmt::Formatter<'_>, ending: &str) -> fmt::Result {
        let Self { partition: PartitionId { topic, partition }, first_row, compression: _ } = self;
        write!(f, "{topic}+{partition}+{first_row:020}{ending}")
    }
}

impl fmt::Display for PublishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with(f, self.compression.extension())
    }
}

/// What a file is called inside its segment: `<table>+<date>+`, and then as it will be called when it is published, but for its end:
/// `.part` or `.gz.part`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentFileName {
    /// Whose rows it holds.
    pub table: Table,
    /// The date of its records, UTC; none if they tell none.
    pub date: Option<NaiveDate>,
    /// Its last name.
    pub published: PublishedName,
}

impl SegmentFileName {
    /// Reads the name back. Earlier versions gave such a file its published ending at once, which is read as well.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        const EXPECTED: &str = "a file of a segment";
        let parse = || {
            let (table, rest) = name.split_once('+')?;
            let (date, rest) = rest.split_once('+')?;
            Some(Self {
                table: Table::parse(table)?,
                date: parse_date(date)?,
                published: PublishedName::parse_with(rest, Compression::unpublished_extension)
                    .or_else(|| PublishedName::parse_option(rest))?,
            })
        };
        parse().ok_or_else(|| foreign(name, EXPECTED))
    }

    /// The directory that it will be published in, below the folder's root.
    pub fn published_dir(&self) -> PathBuf {
        table_dir(self.table, &self.published.partition).join(format!("dt={}", date_text(self.date)))
    }

    /// The path that it will be published at, below the folder's root.
    pub fn published_path(&self) -> PathBuf {
        self.published_dir().join(self.published.to_string())
    }
}

impl fmt::Display for SegmentFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+", self.table.name(), date_text(self.date))?;
        self.published.write_with(f, self.published.compression.unpublished_extension())
    }
}

/// The directory of a table that has a `dt=…` directory for each date; only the raw table is divided by partition.
pub fn table_dir(table: Table, partition: &PartitionId) -> PathBuf {
    match table {
        Table::Raw => PathBuf::from(table.name())
            .join(format!("topic={}", partition.topic))
            .join(format!("partition={}", partition.partition)),
        Table::GameMeta | Table::GamePodium | Table::Dead => PathBuf::from(table.name()),
    }
}

/// The nearest date that has a four-digit year: a producer may stamp its records with any time at all.
pub fn filed_date(date: NaiveDate) -> NaiveDate {
    const FIRST: NaiveDate = NaiveDate::from_ymd_opt(1, 1, 1).expect("a date of the calendar");
    const LAST: NaiveDate = NaiveDate::from_ymd_opt(9999, 12, 31).expect("a date of the calendar");
    date.clamp(FIRST, LAST)
}

/// A sealed segment as the commit's metadata names it; the commit's partition goes without saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedSegment {
    /// The folder that it lies in.
    pub folder: FolderId,
    /// Who sealed it …
    pub writer: WriterId,
    /// … and in which generation of the group.
    pub generation: i32,
    /// The first offset that it covers.
    pub first: i64,
    /// The offset after the last that it covers.
    pub next: i64,
}

impl fmt::Display for NamedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, writer, generation, first, next } = self;
        write!(f, "[{first}, {next}) sealed by writer {writer} in generation {generation} in folder {folder}")
    }
}

/// The directory name of a sealed or published segment: `<topic>+<partition>+<first>+<next>+<generation>+<writer>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentName {
    /// The partition that it holds rows of.
    pub partition: PartitionId,
    /// Who sealed it …
    pub writer: WriterId,
    /// … and in which generation of the group.
    pub generation: i32,
    /// The first offset that it covers.
    pub first: i64,
    /// The offset after the last that it covers.
    pub next: i64,
}

impl SegmentName {
    /// The directory name of a segment that a commit of `partition` names.
    pub fn of(partition: &PartitionId, named: &NamedSegment) -> Self {
        let NamedSegment { folder: _, writer, generation, first, next } = *named;
        Self { partition: partition.clone(), writer, generation, first, next }
    }

    /// How a commit names it when it lies in `folder`.
    pub fn named_in(&self, folder: FolderId) -> NamedSegment {
        let Self { partition: _, writer, generation, first, next } = *self;
        NamedSegment { folder, writer, generation, first, next }
    }

    /// Reads the name back.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        const EXPECTED: &str = "a sealed segment";
        let parse = || {
            let [topic, partition, first, next, generation, writer] = parts(name)?;
            Some(Self {
                partition: PartitionId::new(topic, number(partition)?).ok()?,
                writer: WriterId::parse(writer).ok()?,
                generation: number(generation)?,
                first: padded_offset(first)?,
                next: padded_offset(next)?,
            })
        };
        parse().filter(|segment| segment.first < segment.next).ok_or_else(|| foreign(name, EXPECTED))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition: PartitionId { topic, partition }, writer, generation, first, next } = self;
        write!(f, "{topic}+{partition}+{first:020}+{next:020}+{generation}+{writer}")
    }
}

/// The directory name of a segment that is being written: `<writer>+<generation>+<topic>+<partition>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WritingName {
    /// Who writes it.
    pub writer: WriterId,
    /// In which generation of the group.
    pub generation: i32,
    /// The partition that it holds rows of.
    pub partition: PartitionId,
}

impl WritingName {
    /// Reads the name back.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        const EXPECTED: &str = "a segment that is being written";
        let parse = || {
            let [writer, generation, topic, partition] = parts(name)?;
            Some(Self {
                writer: WriterId::parse(writer).ok()?,
                generation: number(generation)?,
                partition: PartitionId::new(topic, number(partition)?).ok()?,
            })
        };
        parse().ok_or_else(|| foreign(name, EXPECTED))
    }
}

impl fmt::Display for WritingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writer, generation, partition: PartitionId { topic, partition } } = self;
        write!(f, "{writer}+{generation}+{topic}+{partition}")
    }
}

fn foreign(name: &str, expected: &'static str) -> NameError {
    NameError::Foreign { name: name.to_owned(), expected }
}

/// Exactly `N` parts between `+` signs.
fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut split = text.split('+');
    let mut found = [""; N];
    for part in &mut found {
        *part = split.next()?;
    }
    split.next().is_none().then_some(found)
}

/// A count without sign or leading zeros, so that a value has one spelling only.
fn number(text: &str) -> Option<i32> {
    let value: i32 = text.parse().ok()?;
    (value >= 0 && value.to_string() == text).then_some(value)
}

/// An offset in exactly 20 digits, so that names sort as offsets do.
fn padded_offset(text: &str) -> Option<i64> {
    let digits = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The outer `None` is that the text is no date's.
fn parse_date(text: &str) -> Option<Option<NaiveDate>> {
    if text == NO_DATE {
        return Some(None);
    }
    let date = NaiveDate::parse_from_str(text, DATE_FORMAT).ok()?;
    (filed_date(date) == date && date.format(DATE_FORMAT).to_string() == text).then_some(Some(date))
}

fn date_text(date: Option<NaiveDate>) -> String {
    date.map_or_else(|| NO_DATE.to_owned(), |date| date.format(DATE_FORMAT).to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use chrono::Datelike;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    fn partitions() -> impl Strategy<Value = PartitionId> {
        ("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,169}", 0..i32::MAX).prop_map(|(topic, n)| PartitionId::new(&topic, n).unwrap())
    }

    fn published() -> impl Strategy<Value = PublishedName> {
        (partitions(), 0..i64::MAX, prop_oneof![Just(Compression::None), Just(Compression::Gzip)])
            .prop_map(|(partition, first_row, compression)| PublishedName { partition, first_row, compression })
    }

    proptest! {
        #[test]
        fn every_name_is_read_back(
            published in published(), table in 0..4usize, days in any::<Option<i32>>(), writer: u64, generation in 0..i32::MAX,
            first in 0..i64::MAX,
        ) {
            let date = days.map(|days| filed_date(NaiveDate::from_num_days_from_ce_opt(days % 4_000_000).unwrap_or_default()));
            let partition = published.partition.clone();
            assert_eq!(PublishedName::parse(&published.to_string()).unwrap(), published);
            let file = SegmentFileName { table: Table::ALL[table], date, published };
            assert_eq!(SegmentFileName::parse(&file.to_string()).unwrap(), file);
            let writer = WriterId(writer);
            let segment = SegmentName { partition: partition.clone(), writer, generation, first, next: first + 1 };
            assert_eq!(SegmentName::parse(&segment.to_string()).unwrap(), segment);
            let writing = WritingName { writer, generation, partition };
            assert_eq!(WritingName::parse(&writing.to_string()).unwrap(), writing);
            for name in [file.to_string(), segment.to_string(), writing.to_string()] {
                assert!(name.len() <= 255, "{name} is {} bytes", name.len());
            }
        }

        #[test]
        fn what_is_read_is_written_the_same_and_nothing_panics(text in "[ a-zA-Z0-9+=._\\-]{0,80}|\\PC{0,40}") {
            if let Ok(name) = PublishedName::parse(&text) { assert_eq!(name.to_string(), text); }
            if let Ok(name) = SegmentFileName::parse(&text) {
                let earlier = format!("{}+{}+{}", name.table.name(), date_text(name.date), name.published);
                assert!([name.to_string(), earlier].contains(&text), "{text}");
            }
            if let Ok(name) = SegmentName::parse(&text) { assert_eq!(name.to_string(), text); }
            if let Ok(name) = WritingName::parse(&text) { assert_eq!(name.to_string(), text); }
        }
    }

    #[test]
    fn final_paths_are_those_of_the_contract() {
        let check = |inside: &str, expected: &str| {
            assert_eq!(SegmentFileName::parse(inside).unwrap().published_path(), PathBuf::from(expected));
        };
        check(
            "raw+2026-11-22+lib.server.game+3+00000000000000000042.gz.part",
            "raw/topic=lib.server.game/partition=3/dt=2026-11-22/lib.server.game+3+00000000000000000042.jsonl.gz",
        );
        check(
            "GAME_META+2026-11-22+t+0+00000000000000000000.part",
            "GAME_META/dt=2026-11-22/t+0+00000000000000000000.jsonl",
        );
        check(
            "GAME_PODIUM+2026-11-22+t+0+00000000000000000007.part",
            "GAME_PODIUM/dt=2026-11-22/t+0+00000000000000000007.jsonl",
        );
        check("dead+2026-11-22+t+0+00000000000000000007.part", "dead/dt=2026-11-22/t+0+00000000000000000007.jsonl");
        check(
            "dead+__HIVE_DEFAULT_PARTITION__+t+0+00000000000000000007.part",
            "dead/dt=__HIVE_DEFAULT_PARTITION__/t+0+00000000000000000007.jsonl",
        );
        // As earlier versions named them.
        check(
            "raw+2026-11-22+t.part+3+00000000000000000042.jsonl.gz",
            "raw/topic=t.part/partition=3/dt=2026-11-22/t.part+3+00000000000000000042.jsonl.gz",
        );
        check("dead+2026-11-22+t+0+00000000000000000007.jsonl", "dead/dt=2026-11-22/t+0+00000000000000000007.jsonl");
    }

    #[test]
    fn no_glob_for_rows_matches_a_file_that_is_not_published() {
        for compression in [Compression::None, Compression::Gzip] {
            let published = PublishedName { partition: PartitionId::new("t", 0).unwrap(), first_row: 7, compression };
            for date in [None, NaiveDate::from_ymd_opt(2026, 11, 22)] {
                let name = SegmentFileName { table: Table::Raw, date, published: published.clone() }.to_string();
                assert!(!name.contains(".json") && !name.ends_with(".gz"), "{name}");
            }
        }
    }

    #[test]
    fn foreign_names_are_refused() {
        for name in [
            "",
            ".DS_Store",
            "_SUCCESS",
            "t+0+42.jsonl",
            "t+00+00000000000000000042.jsonl",
            "t+-1+00000000000000000042.jsonl",
            "t+0++0000000000000000042.jsonl",
            "..+0+00000000000000000042.jsonl",
            "t+0+99999999999999999999.jsonl",
            "t+0+00000000000000000042.jsonl.zst",
            "t+0+00000000000000000042.gz.part",
            "t+0+00000000000000000042.jsonl.part",
            "t/u+0+00000000000000000042.jsonl",
        ] {
            assert!(PublishedName::parse(name).is_err(), "{name}");
        }
        assert!(
            SegmentName::parse("t+0+00000000000000000005+00000000000000000005+1+0123456789abcdef").is_err(),
            "empty range"
        );
    }

    #[test]
    fn topics_that_kafka_or_a_file_system_refuses_are_refused() {
        for topic in ["", ".", "..", "a/b", "a+b", "ä", &"x".repeat(MAX_TOPIC_BYTES + 1)] {
            assert!(PartitionId::new(topic, 0).is_err(), "{topic}");
        }
        assert!(PartitionId::new(&"x".repeat(MAX_TOPIC_BYTES), 0).is_ok());
        assert!(PartitionId::new("t", -1).is_err());
    }

    #[test]
    fn a_date_far_off_is_filed_under_the_nearest_with_four_digits() {
        assert_eq!(filed_date(NaiveDate::MAX).year(), 9999);
        assert_eq!(filed_date(NaiveDate::MIN).year(), 1);
    }
}
