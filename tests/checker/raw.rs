//! The raw rows of one partition against its records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::anomaly::{Anomaly, Place};
use super::files::for_each_line;
use super::topic::Record;

/// What is found of one partition.
#[derive(Debug, Default)]
pub struct Found {
    pub anomalies: Vec<Anomaly>,
    /// The offsets of records that repeat another.
    pub repetitions: BTreeSet<i64>,
    /// Distinct events of each producer.
    pub events: BTreeMap<String, u64>,
}

/// Compares the records of a partition, in their order, with the files of its rows, in the order of their names.
pub fn compare(place: &Place, records: &[Record], files: &[(i64, PathBuf)]) -> Found {
    let mut found = Found::default();
    let mut wanted = found.take_in(place, records);
    let mut rows =
        Rows { place, records, wanted: &mut wanted, last: None, numbers: BTreeMap::new(), found: &mut found };
    for (first, file) in files {
        rows.read(*first, file);
    }
    for (record, state) in records.iter().zip(wanted) {
        if state == State::Wanted {
            found.anomalies.push(Anomaly::PollSkip { place: place.clone(), offset: record.offset });
        }
    }
    found
}

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    /// It repeats another, and is to have no row.
    Repetition,
    /// Its row was found.
    Met,
}

impl Found {
    /// The producers' numbers tell what is missing in the topic, and what is there twice.
    fn take_in<'r>(&mut self, place: &Place, records: &'r [Record]) -> Vec<State> {
        // Where retention has taken the beginning, nobody can say with which number a producer began.
        let whole = records.first().is_none_or(|record| record.offset == 0);
        let mut next: BTreeMap<&'r str, u64> = BTreeMap::new();
        let state = |record: &'r Record| {
            let Some((producer, number)) = &record.id else { return State::Wanted };
            let next = next.entry(producer).or_insert(if whole { 0 } else { *number });
            if *number < *next {
                self.repetitions.insert(record.offset);
                return State::Repetition;
            }
            if *number > *next {
                let (producer, first, last) = (producer.clone(), *next, number - 1);
                self.anomalies.push(Anomaly::LostWrite { place: place.clone(), producer, first, last });
            }
            *next = number + 1;
            *self.events.entry(producer.clone()).or_default() += 1;
            State::Wanted
        };
        records.iter().map(state).collect()
    }
}

/// Goes through the rows.
struct Rows<'a> {
    place: &'a Place,
    records: &'a [Record],
    wanted: &'a mut [State],
    last: Option<i64>,
    /// The last number of each producer.
    numbers: BTreeMap<String, u64>,
    found: &'a mut Found,
}

impl Rows<'_> {
    fn read(&mut self, first: i64, file: &Path) {
        let mut begun = false;
        let read = for_each_line(file, |line| {
            let Ok(row) = serde_json::from_str::<Value>(line) else {
                self.note(Anomaly::TornFile {
                    file: file.to_owned(),
                    reason: format!("a row that is not JSON: {line:.80}"),
                });
                return;
            };
            let Some(offset) = row["offset"].as_i64() else {
                self.note(Anomaly::TornFile {
                    file: file.to_owned(),
                    reason: format!("a row without an offset: {line:.80}"),
                });
                return;
            };
            if !std::mem::replace(&mut begun, true) && offset != first {
                self.foreign(offset, file, format!("the file's name says that it begins with {first}"));
            }
            self.row(offset, &row, line, file);
        });
        if let Err(error) = read {
            self.note(Anomaly::TornFile { file: file.to_owned(), reason: format!("{error:#}") });
        }
    }

    fn row(&mut self, offset: i64, row: &Value, line: &str, file: &Path) {
        let place = self.place.clone();
        match self.last {
            Some(last) if last > offset => {
                self.note(Anomaly::NonMonotonicOffset {
                    place: place.clone(),
                    offset,
                    after: last,
                    file: file.to_owned(),
                });
            }
            _ => self.last = Some(offset),
        }
        let Ok(index) = self.records.binary_search_by_key(&offset, |record| record.offset) else {
            return self.foreign(offset, file, "the topic has no such record".to_owned());
        };
        match std::mem::replace(&mut self.wanted[index], State::Met) {
            State::Wanted => {}
            State::Met | State::Repetition => {
                self.note(Anomaly::Duplicate { place: place.clone(), offset, file: file.to_owned() });
            }
        }
        let record = &self.records[index];
        if row["topic"] != place.topic.as_str() || row["partition"] != place.partition {
            self.foreign(offset, file, format!("a row of {}/{}", row["topic"], row["partition"]));
        }
        let id = record.id.as_ref().map_or(String::new(), |(producer, number)| format!("{producer}-{number}"));
        if row["id"] != id.as_str() {
            self.foreign(offset, file, format!("its id is {}, and the record's is {id:?}", row["id"]));
        }
        // The simulator's keys are all text.
        let key_format = if record.key.is_some() { "text" } else { "none" };
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        if row["key"] != *key || row["key_format"] != key_format {
            let found = format!("its key is {} as {}", row["key"], row["key_format"]);
            self.foreign(offset, file, format!("{found}, and the record's is {key:?} as {key_format}"));
        }
        let value = String::from_utf8_lossy(&record.value);
        if !line.ends_with(&format!("\"value_format\":\"json\",\"value_base64\":\"\",\"value\":{value}}}")) {
            self.foreign(offset, file, "the value is not verbatim".to_owned());
        }
        if let Some((producer, number)) = &record.id {
            let after = self.numbers.insert(producer.clone(), *number);
            if let Some(after) = after.filter(|after| after > number) {
                self.note(Anomaly::Reordering { place, offset, number: *number, after });
            }
        }
    }

    fn foreign(&mut self, offset: i64, file: &Path, reason: String) {
        self.note(Anomaly::ForeignRow { place: self.place.clone(), offset, file: file.to_owned(), reason });
    }

    fn note(&mut self, anomaly: Anomaly) {
        self.found.anomalies.push(anomaly);
    }
}
