//! The records of a partition as the topic holds them: what the rows are compared with.

use std::vec;

use bytes::Bytes;
use superhero_event::header;
use superhero_kafka::fetch;

use crate::VerifyError;
use crate::id::Id;

/// A record as its row has to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// From 1970.
    pub(crate) timestamp_millis: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) id: Option<Id>,
}

impl From<fetch::Record> for Record {
    fn from(record: fetch::Record) -> Self {
        let id = record.headers.get(header::PRODUCER).zip(record.headers.get(header::SEQUENCE));
        Self {
            offset: record.offset,
            timestamp_millis: record.timestamp.timestamp_millis(),
            id: id.and_then(|(producer, sequence)| Id::from_headers(producer, sequence)),
            key: record.key,
            value: record.value,
        }
    }
}

/// A step through the log.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// In the order of offsets, each above those before.
    pub(crate) records: Vec<Record>,
    /// The first offset that the topic still holds, if it was found to have moved on.
    pub(crate) earliest: Option<i64>,
}

/// The log of one partition, a record ahead.
pub(crate) struct Log {
    earliest: i64,
    end: i64,
    steps: Box<dyn Iterator<Item = Result<Fetched, VerifyError>> + Send>,
    records: vec::IntoIter<Record>,
    ahead: Option<Record>,
}

impl Log {
    /// From the offset `earliest` up to `end`. The steps end when everything below `end` was there.
    pub(crate) fn new(
        earliest: i64,
        end: i64,
        steps: impl Iterator<Item = Result<Fetched, VerifyError>> + Send + 'static,
    ) -> Self {
        Self { earliest, end, steps: Box::new(steps), records: Vec::new().into_iter(), ahead: None }
    }

    /// The first offset that the topic holds.
    pub(crate) fn earliest(&self) -> i64 {
        self.earliest
    }

    /// The offset after the last that the topic had when the check began.
    pub(crate) fn end(&self) -> i64 {
        self.end
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
            match self.steps.next().transpose()? {
                Some(Fetched { records, earliest }) => {
                    self.earliest = self.earliest.max(earliest.unwrap_or_default());
                    self.records = records.into_iter();
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
    use chrono::DateTime;

    use super::*;

    #[test]
    fn only_headers_as_our_own_transport_writes_them_make_an_id() {
        let id = |producer: &str, sequence: &str| {
            let headers = [(header::PRODUCER, producer.as_bytes()), (header::SEQUENCE, sequence.as_bytes())];
            let record = Record::from(fetch::Record {
                offset: 5,
                timestamp: DateTime::from_timestamp_millis(17).unwrap(),
                key: None,
                value: None,
                headers: headers.into_iter().collect(),
            });
            assert_eq!((record.offset, record.timestamp_millis), (5, 17));
            record.id
        };
        let producer = "0123456789abcdef0123456789abcdef";
        assert_eq!(id(producer, "7").map(|id| id.sequence), Some(7));
        assert_eq!(id(producer, "07"), None);
        assert_eq!(id("somebody", "7"), None);
    }

    #[test]
    fn records_behind_the_end_are_not_there() {
        let record = |offset| Record { offset, timestamp_millis: 0, key: None, value: None, id: None };
        let step = |offsets: &[i64]| {
            Ok(Fetched { records: offsets.iter().map(|offset| record(*offset)).collect(), earliest: None })
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
