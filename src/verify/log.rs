//! The records of a partition as the topic holds them: what the rows are compared with.

use std::vec;

use bytes::Bytes;
use superhero_event::header;
use superhero_kafka::fetch::{self, Chunk, Waiting};

use crate::VerifyError;
use crate::id::{Id, is_place};

/// A record as its row has to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// From 1970, if its producer keeps to that.
    pub(crate) timestamp_millis: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) id: Option<Id>,
    /// The partition that it was counted for, if that is another: then it is a copy.
    pub(crate) copied_from: Option<Box<str>>,
    /// Its transaction was aborted: it is to have no row.
    pub(crate) is_aborted: bool,
    /// It is too large, or stands for what cannot be read: its row has no value.
    pub(crate) is_left_out: bool,
}

/// Records that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
    /// By their batch's header.
    pub(crate) records: u64,
    pub(crate) reason: String,
}

impl Record {
    /// A record of the partition `here`, which is `<topic>/<partition>`.
    pub(crate) fn read(record: fetch::Record, here: &str) -> Self {
        let id = record.headers.get(header::PRODUCER).zip(record.headers.get(header::SEQUENCE));
        let id = id.and_then(|(producer, sequence)| Id::from_headers(producer, sequence));
        // Who does not tell a place counts where the record stands, and who tells none that there can be is a stranger.
        let (id, copied_from) = match record.headers.get(header::PLACE) {
            None => (id, None),
            Some(place) if place == here.as_bytes() => (id, None),
            Some(place) => match std::str::from_utf8(place) {
                Ok(place) if is_place(place) => (id, id.map(|_| place.into())),
                _ => (None, None),
            },
        };
        Self {
            offset: record.offset,
            timestamp_millis: record.timestamp,
            id,
            copied_from,
            key: record.key,
            value: record.value,
            is_aborted: false,
            is_left_out: false,
        }
    }

    /// Its number, if that counts in this partition.
    pub(crate) fn number(&self) -> Option<Id> {
        self.id.filter(|_| self.copied_from.is_none())
    }
}

/// A step through the log.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// In the order of offsets, each above those before.
    pub(crate) records: Vec<Record>,
    /// The first offset that the topic still holds, if it was found to have moved on.
    pub(crate) earliest: Option<i64>,
    /// What is lost.
    pub(crate) lost: Vec<Lost>,
    /// What waits behind a transaction that is open; nothing comes any more then.
    pub(crate) waiting: Option<Waiting>,
    /// The memory of the records.
    pub(crate) memory: Option<Chunk>,
}

/// The log of one partition, a record ahead.
pub(crate) struct Log {
    earliest: i64,
    end: i64,
    steps: Box<dyn Iterator<Item = Result<Fetched, VerifyError>> + Send>,
    records: vec::IntoIter<Record>,
    ahead: Option<Record>,
    is_compacted: bool,
    lost: Vec<Lost>,
    waiting: Option<Waiting>,
    /// Of the records.
    memory: Option<Chunk>,
}

impl Log {
    /// From the offset `earliest` up to `end`. The steps end when everything below `end` was there.
    pub(crate) fn new(
        earliest: i64,
        end: i64,
        steps: impl Iterator<Item = Result<Fetched, VerifyError>> + Send + 'static,
    ) -> Self {
        Self {
            earliest,
            end,
            steps: Box::new(steps),
            records: Vec::new().into_iter(),
            ahead: None,
            is_compacted: false,
            lost: Vec::new(),
            waiting: None,
            memory: None,
        }
    }

    /// The same log, of which the brokers may take records whose keys come again.
    pub(crate) fn compacted(self, is_compacted: bool) -> Self {
        Self { is_compacted, ..self }
    }

    /// Whether records may have been taken out of its midst.
    pub(crate) fn is_compacted(&self) -> bool {
        self.is_compacted
    }

    /// The first offset that the topic holds.
    pub(crate) fn earliest(&self) -> i64 {
        self.earliest
    }

    /// The offset after the last that the topic had when the check began.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// What was found to be lost since this was asked last.
    pub(crate) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// What waits behind an open transaction, as far as was read.
    pub(crate) fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// The next record, if it is below `offset`.
    pub(crate) fn next_below(&mut self, offset: i64) -> Result<Option<Record>, VerifyError> {
        self.fill()?;
        Ok(self.ahead.take_if(|record| record.offset < offset))
    }

    /// The next record, if it is at `offset`.
    pub(crate) fn next_at(&mut self, offset: i64) -> Result<Option<Record>, VerifyError> {
        self.fill()?;
        Ok(self.ahead.take_if(|record| record.offset == offset))
    }

    fn fill(&mut self) -> Result<(), VerifyError> {
        while self.ahead.is_none() {
            self.ahead = self.records.next().filter(|record| record.offset < self.end);
            if self.ahead.is_some() {
                break;
            }
            // It may be needed for the next ones.
            self.memory = None;
            match self.steps.next().transpose()? {
                Some(Fetched { records, earliest, lost, waiting, memory }) => {
                    self.earliest = self.earliest.max(earliest.unwrap_or_default());
                    self.records = records.into_iter();
                    self.lost.extend(lost);
                    if let Some(waiting) = waiting {
                        self.end = self.end.min(waiting.offsets.start);
                        self.waiting = Some(waiting);
                    }
                    self.memory = memory;
                }
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_as_our_own_transport_writes_them_make_an_id() {
        let read = |producer: &str, sequence: &str, place: Option<&str>| {
            let headers = [(header::PRODUCER, producer.as_bytes()), (header::SEQUENCE, sequence.as_bytes())];
            let place = place.map(|place| (header::PLACE, place.as_bytes()));
            let fetched = fetch::Record {
                offset: 5,
                timestamp: 17,
                key: None,
                value: None,
                headers: headers.into_iter().chain(place).collect(),
            };
            let record = Record::read(fetched, "t/3");
            assert_eq!((record.offset, record.timestamp_millis), (5, 17));
            (record.id.map(|id| id.sequence), record.number().map(|id| id.sequence), record.copied_from)
        };
        let producer = "0123456789abcdef0123456789abcdef";
        assert_eq!(read(producer, "7", None), (Some(7), Some(7), None));
        assert_eq!(read(producer, "7", Some("t/3")), (Some(7), Some(7), None));
        assert_eq!(read(producer, "7", Some("t/2")), (Some(7), None, Some("t/2".into())));
        assert_eq!(read(producer, "07", None), (None, None, None));
        assert_eq!(read(producer, "07", Some("t/2")), (None, None, None));
        assert_eq!(read(producer, "7", Some("t")), (None, None, None));
        assert_eq!(read("somebody", "7", None), (None, None, None));
    }

    #[test]
    fn records_behind_the_end_are_not_there() {
        let record = |offset| Record {
            offset,
            timestamp_millis: 0,
            key: None,
            value: None,
            id: None,
            copied_from: None,
            is_aborted: false,
            is_left_out: false,
        };
        let step = |offsets: &[i64]| {
            Ok(Fetched { records: offsets.iter().map(|offset| record(*offset)).collect(), ..Fetched::default() })
        };
        let mut log = Log::new(0, 4, [step(&[0, 1]), step(&[]), step(&[3, 4, 5])].into_iter());
        assert_eq!(log.next_at(1).unwrap(), None);
        assert_eq!(log.next_below(1).unwrap(), Some(record(0)));
        assert_eq!(log.next_below(1).unwrap(), None);
        assert_eq!(log.next_at(1).unwrap(), Some(record(1)));
        assert_eq!(log.next_below(i64::MAX).unwrap(), Some(record(3)));
        assert_eq!(log.next_below(i64::MAX).unwrap(), None);
    }
}
