//! Rows beside the records that they are made of, which are plain values here.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use proptest::prelude::*;
use superhero_sink::{CommitAnswer, Folder, Membership, PartitionSink, Settings, Step};

use super::*;
use crate::log::Fetched;

const VALUE: &str = r#"{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"n","log_message":"m"}"#;
const DAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
const MILLIS: i64 = 1_795_371_321_101;

fn partition() -> PartitionId {
    PartitionId::new("t", 3).unwrap()
}

fn record(offset: i64, sequence: u64) -> Record {
    Record {
        offset,
        timestamp_millis: MILLIS,
        key: Some("k".into()),
        value: Some(VALUE.into()),
        id: Some(Id { producer: 7, sequence }),
        copied_from: None,
        is_aborted: false,
        is_left_out: false,
    }
}

/// Records from offset 0 on, numbered likewise.
fn records(offsets: Range<i64>) -> Vec<Record> {
    offsets.map(|offset| record(offset, offset.unsigned_abs())).collect()
}

/// Publishes rows of records, as one segment; those of `None` are left out.
fn publish(dir: &Path, first: i64, records: &[Option<Record>]) {
    publish_as(row, dir, first, records);
}

fn publish_as(form: fn(&Record) -> String, dir: &Path, first: i64, records: &[Option<Record>]) {
    let folder = Folder::open(dir, "cluster").unwrap();
    let mut sink = PartitionSink::new(&folder, partition(), Settings::default());
    let membership = Membership { generation: 1, owner: true, committed: Some(first), metadata: "" };
    assert!(matches!(sink.joined(membership).unwrap(), Step::Write));
    for (offset, record) in (first..).zip(records) {
        let row = record.as_ref().map(form);
        let rows: Vec<_> = row.iter().map(|row| (Table::Raw, row.as_bytes())).collect();
        let _ = sink.append(offset, DAY, &rows, Instant::now()).unwrap();
    }
    assert!(matches!(sink.seal().unwrap(), Step::Commit(_)));
    assert!(matches!(sink.answered(CommitAnswer::Accepted).unwrap(), Step::Write));
}

fn row(record: &Record) -> String {
    let (key, format) = record.key.as_deref().map_or(("", "none"), |key| (std::str::from_utf8(key).unwrap(), "text"));
    let key = serde_json::to_string(key).unwrap();
    let place = record.copied_from.as_deref().map(|place| format!("@{place}")).unwrap_or_default();
    let id = record.id.map(|id| format!("{id}{place}")).unwrap_or_default();
    let (value, value_format) = match record.value.as_deref() {
        Some(value) => (std::str::from_utf8(value).unwrap(), "json"),
        None if record.is_left_out => ("null", "left_out"),
        None => ("null", "none"),
    };
    row_with(
        record,
        &format!(
            r#""key":{key},"key_format":"{format}","id":"{id}","value_format":"{value_format}","value_base64":"","value":{value}"#
        ),
    )
}

/// As versions without the formats wrote it.
fn earlier_row(record: &Record) -> String {
    let text = |bytes: &Option<Bytes>| bytes.as_deref().map(|bytes| std::str::from_utf8(bytes).unwrap().to_owned());
    let key = serde_json::to_string(&text(&record.key)).unwrap();
    let id = serde_json::to_string(&record.id.map(|id| id.to_string())).unwrap();
    let value = text(&record.value).unwrap_or("null".to_owned());
    row_with(record, &format!(r#""key":{key},"id":{id},"value":{value}"#))
}

fn row_with(record: &Record, content: &str) -> String {
    let timestamp = DateTime::from_timestamp_millis(record.timestamp_millis).unwrap().format("%Y-%m-%dT%H:%M:%S%.3fZ");
    format!(r#"{{"topic":"t","partition":3,"offset":{},"timestamp":"{timestamp}",{content}}}"#, record.offset)
}

fn compare(dir: &Path, earliest: i64, end: i64, steps: Vec<Fetched>) -> Verification {
    let mut faults = crate::Faults::default();
    let survey = Arc::new(Survey::take(&[dir.to_owned()], None, &mut faults).unwrap());
    assert!(faults.is_empty());
    let log = Log::new(earliest, end, steps.into_iter().map(Ok));
    walk(&survey, &partition(), Some(log), None, &CancellationToken::new()).unwrap()
}

/// A log that begins with its first record.
fn compare_with(dir: &Path, records: Vec<Record>) -> Verification {
    let (first, end) = (records[0].offset, records.last().unwrap().offset + 1);
    compare(dir, first, end, vec![Fetched { records, ..Fetched::default() }])
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn some(records: Vec<Record>) -> Vec<Option<Record>> {
    records.into_iter().map(Some).collect()
}

fn gap(first_offset: i64, last_offset: i64) -> impl Fn(&Fault) -> bool {
    move |fault| matches!(fault, Fault::Gap { first_offset: first, last_offset: last, .. } if (*first, *last) == (first_offset, last_offset))
}

#[test]
fn rows_that_say_what_their_records_say_are_right() {
    let dir = dir();
    publish(dir.path(), 0, &some(records(0..10)));
    let found = compare_with(dir.path(), records(0..10));
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.partitions[0].compared, 10);
}

#[test]
fn rows_of_earlier_versions_are_right_beside_those_of_this_one() {
    let dir = dir();
    let mut log = records(0..8);
    for offset in [1, 2, 5, 6] {
        (log[offset].key, log[offset].id) = (None, None);
    }
    for offset in [2, 6] {
        log[offset].value = None;
    }
    for record in &mut log[3..] {
        record.id = record.id.map(|id| Id { sequence: [0, 0, 0, 1, 2, 0, 0, 3][record.offset as usize], ..id });
    }
    let mixed = |record: &Record| if record.offset == 3 { row(record) } else { earlier_row(record) };
    publish_as(mixed, dir.path(), 0, &some(log[..4].to_vec()));
    publish(dir.path(), 4, &some(log[4..].to_vec()));
    let found = compare_with(dir.path(), log);
    // A tombstone is no event, and these have no dead letter.
    let faults = found.faults.first();
    assert!(
        matches!(faults, [Fault::NoDeadLetter { offset: 2, .. }, Fault::NoDeadLetter { offset: 6, .. }]),
        "{found}"
    );
    assert_eq!(found.partitions[0].compared, 8);
}

#[test]
fn every_field_that_differs_is_named() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 9] = [
        ("key", |record| record.key = None),
        ("key", |record| record.key = Some("".into())),
        ("key", |record| record.key = Some("other".into())),
        ("id", |record| record.id = None),
        ("id", |record| record.id = Some(Id { producer: 8, sequence: 4 })),
        ("timestamp", |record| record.timestamp_millis += 1),
        ("value", |record| record.value = None),
        ("value", |record| record.value = Some(format!("{VALUE} ").into())),
        ("value", |record| record.value = Some("{}".into())),
    ];
    let forms: [fn(&Record) -> String; 2] = [row, earlier_row];
    for ((name, change), form) in changes.into_iter().flat_map(|change| forms.map(|form| (change, form))) {
        let dir = dir();
        publish_as(form, dir.path(), 0, &some(records(0..10)));
        let mut log = records(0..10);
        change(&mut log[4]);
        let found = compare_with(dir.path(), log);
        let told = found.faults.first();
        assert!(
            matches!(told, [Fault::Different { partition: 3, offset: 4, field, .. }] if *field == name),
            "{name}: {told:?}"
        );
    }
}

#[test]
fn repetitions_in_the_topic_need_no_proof_and_lost_records_have_no_excuse() {
    let dir = dir();
    // Two repetitions in the midst and two at the end, a hole, and a record that was lost.
    let mut log = records(0..4);
    log.extend([record(4, 2), record(5, 3), record(7, 4), record(8, 5), record(9, 6), record(10, 5), record(11, 6)]);
    let mut rows: Vec<_> = (0..12).map(|offset| log.iter().find(|record| record.offset == offset).cloned()).collect();
    for left_out in [4, 5, 10, 11] {
        rows[left_out] = None;
    }
    publish(dir.path(), 0, &rows);
    let found = compare_with(dir.path(), log.clone());
    assert!(found.is_clean(), "{found}");
    assert_eq!((found.duplicates_left_out(), found.partitions[0].holes), (4, 1));

    let other = self::dir();
    rows[8] = None;
    publish(other.path(), 0, &rows);
    let found = compare_with(other.path(), log);
    assert!(matches!(found.faults.first(), [fault] if gap(8, 8)(fault)), "{found}");
    assert_eq!(found.duplicates_left_out(), 4);
}

#[test]
fn records_after_the_last_row_are_unread_but_for_repetitions() {
    let dir = dir();
    publish(dir.path(), 0, &some(records(0..5)));
    let mut log = records(0..5);
    log.extend([record(5, 4), record(6, 5), record(8, 6)]);
    let found = compare_with(dir.path(), log);
    let expected = Fault::Unread { topic: "t".to_owned(), partition: 3, first_offset: 6, last_offset: 8, records: 2 };
    assert_eq!(found.faults.first(), [expected]);
    assert_eq!(found.duplicates_left_out(), 1);

    // There is no file at all.
    let empty = self::dir();
    Folder::open(empty.path(), "cluster").unwrap();
    let found = compare_with(empty.path(), records(2..5));
    assert!(matches!(found.faults.first(), [Fault::Unread { first_offset: 2, last_offset: 4, records: 3, .. }]));
}

#[test]
fn offsets_that_a_published_segment_covers_are_lost_and_not_unread() {
    let dir = dir();
    let mut rows = some(records(0..5));
    rows[4] = None;
    publish(dir.path(), 0, &rows);
    let found = compare_with(dir.path(), records(0..6));
    let told = found.faults.first();
    assert!(gap(4, 4)(&told[1]) && matches!(told[0], Fault::Unread { first_offset: 5, records: 1, .. }), "{found}");
}

#[test]
fn what_retention_has_taken_is_neither_missing_nor_compared() {
    // The worker came too late for the first five; of those that it has read, three more are gone by now.
    let dir = dir();
    publish(dir.path(), 5, &some(records(5..10)));
    let found = compare(dir.path(), 8, 10, vec![Fetched { records: records(8..10), ..Fetched::default() }]);
    assert!(found.is_clean(), "{found}");
    assert_eq!((found.partitions[0].expired, found.partitions[0].compared), (5, 2));

    // Retention goes on while the topic is read.
    let gone = Fetched { earliest: Some(9), ..Fetched::default() };
    let found = compare(dir.path(), 5, 10, vec![gone, Fetched { records: records(9..10), ..Fetched::default() }]);
    assert!(found.is_clean(), "{found}");
    assert_eq!((found.partitions[0].expired, found.partitions[0].compared), (5, 1));
}

#[test]
fn rows_without_records_are_foreign() {
    let dir = dir();
    publish(dir.path(), 0, &some(records(0..10)));
    let mut log = records(0..8);
    log.drain(4..6);
    let found = compare_with(dir.path(), log);
    let ranges: Vec<_> = found
        .faults
        .first()
        .iter()
        .map(|fault| match fault {
            Fault::ForeignRows { first_offset, last_offset, .. } => (*first_offset, *last_offset),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ranges, [(4, 5), (8, 9)]);
}

#[test]
fn numbers_that_are_missing_in_the_topic_itself_never_came() {
    let dir = dir();
    let log = vec![record(0, 0), record(1, 1), record(2, 4)];
    publish(dir.path(), 0, &some(log.clone()));
    let found = compare_with(dir.path(), log);
    assert!(
        matches!(found.faults.first(), [Fault::Missing { first_sequence: 2, last_sequence: 3, offset: 2, .. }]),
        "{found}"
    );
}

#[test]
fn strangers_records_are_compared_like_others() {
    let dir = dir();
    let mut log = records(0..4);
    for record in &mut log {
        record.id = None;
    }
    log[1].key = None;
    log[2].key = Some("\"é\n".into());
    let mut rows = some(log.clone());
    publish(dir.path(), 0, &rows);
    assert!(compare_with(dir.path(), log.clone()).is_clean());
    let other = self::dir();
    rows[1] = None;
    publish(other.path(), 0, &rows);
    let found = compare_with(other.path(), log);
    assert!(matches!(found.faults.first(), [fault] if gap(1, 1)(fault)), "{found}");
}

#[test]
fn a_row_of_an_offset_that_no_record_can_have_is_refused() {
    let dir = dir();
    publish_as(
        |record| row(&Record { offset: if record.offset == 1 { i64::MAX } else { record.offset }, ..record.clone() }),
        dir.path(),
        0,
        &some(records(0..3)),
    );
    let found = compare_with(dir.path(), records(0..3));
    let faults: Vec<_> = found.faults.kinds().collect();
    assert_eq!(faults, [("bad_row", 1)], "{found}");
}

#[test]
fn a_row_in_the_wrong_order_fills_the_gap_that_its_record_left() {
    let dir = dir();
    publish(dir.path(), 0, &some(records(0..4)));
    let path = dir.path().join("superhero/raw/topic=t/partition=3/dt=2026-11-22/t+3+00000000000000000000.jsonl.gz");
    let mut rows: Vec<_> = superhero_sink::read_rows(&path).unwrap().map(Result::unwrap).collect();
    rows.swap(1, 2);
    std::fs::remove_file(&path).unwrap();
    let mut lines = rows.join(&b'\n');
    lines.push(b'\n');
    std::fs::write(path.with_extension(""), lines).unwrap();
    let found = compare_with(dir.path(), records(0..4));
    assert!(matches!(found.faults.first(), [Fault::Inversion { first_offset: 1, last_offset: 1, .. }]), "{found}");
}

#[test]
fn trouble_with_the_topic_ends_the_check() {
    let dir = dir();
    publish(dir.path(), 0, &some(records(0..4)));
    let survey = Arc::new(Survey::take(&[dir.path().to_owned()], None, &mut crate::Faults::default()).unwrap());
    let log = Log::new(
        0,
        4,
        [Ok(Fetched { records: records(0..2), ..Fetched::default() }), Err(VerifyError::Stopped)].into_iter(),
    );
    let ended = walk(&survey, &partition(), Some(log), None, &CancellationToken::new());
    assert!(matches!(ended, Err(VerifyError::Stopped)));
}

#[test]
fn a_number_with_another_value_is_no_repetition() {
    // The third says what the first did, and the fourth something else; only that one needs a row.
    let mut log = records(0..2);
    log.extend([record(2, 0), record(3, 0), record(4, 1), record(5, 2)]);
    log[3].value = Some(VALUE.replace("\"m\"", "\"other\"").into());
    log[4].key = Some("another".into());
    let mut rows = some(log.clone());
    rows[2] = None;
    let dir = dir();
    publish(dir.path(), 0, &rows);
    let found = compare_with(dir.path(), log.clone());
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.duplicates_left_out(), 1);

    // A worker that goes by numbers alone loses two records.
    (rows[3], rows[4]) = (None, None);
    let wrong = self::dir();
    publish(wrong.path(), 0, &rows);
    let found = compare_with(wrong.path(), log.clone());
    assert!(matches!(found.faults.first(), [fault] if gap(3, 4)(fault)), "{found}");

    // One that leaves nothing out has a row too many.
    let wrong = self::dir();
    publish(wrong.path(), 0, &some(log.clone()));
    let found = compare_with(wrong.path(), log);
    assert!(matches!(found.faults.first(), [Fault::DuplicateId { offset: 2, .. }]), "{found}");
}

#[test]
fn a_record_whose_value_is_left_out_repeats_nothing_and_nothing_repeats_it() {
    // The same number three times: too large, deleted, and too large again. Nobody knows what the large ones said.
    let mut log = vec![record(0, 0), record(1, 1), record(2, 1), record(3, 1), record(4, 2)];
    for record in &mut log[1..4] {
        record.value = None;
        record.is_left_out = record.offset != 2;
    }
    let dir = dir();
    publish(dir.path(), 0, &some(log.clone()));
    for found in [compare_with(dir.path(), log.clone()), compare(dir.path(), 5, 5, Vec::new())] {
        let faults: Vec<_> = found.faults.kinds().collect();
        assert_eq!(faults, [("no_dead_letter", 3)], "{found}");
    }
    for lost in 1..4 {
        let mut rows = some(log.clone());
        rows[lost as usize] = None;
        let wrong = self::dir();
        publish(wrong.path(), 0, &rows);
        let found = compare_with(wrong.path(), log.clone());
        assert!(found.faults.first().iter().any(gap(lost, lost)), "{found}");
    }
}

#[test]
fn copies_count_for_nothing_and_each_has_a_row() {
    let mut log = records(0..3);
    log.extend([record(3, 1), record(4, 1), record(5, 40), record(6, 3)]);
    for copy in &mut log[3..6] {
        copy.copied_from = Some("t/2".into());
    }
    let dir = dir();
    publish(dir.path(), 0, &some(log.clone()));
    let found = compare_with(dir.path(), log.clone());
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.producers[&7], 4, "copies are not the producer's rows");
    let mut rows = some(log.clone());
    rows[4] = None;
    let wrong = self::dir();
    publish(wrong.path(), 0, &rows);
    let found = compare_with(wrong.path(), log.clone());
    assert!(matches!(found.faults.first(), [fault] if gap(4, 4)(fault)), "{found}");

    // A row does not make a copy of what is none, nor the other way round.
    for (offset, place) in [(1, Some("t/2")), (3, None), (5, Some("t/1"))] {
        let mut told = log.clone();
        told[offset].copied_from = place.map(Into::into);
        let found = compare_with(dir.path(), told);
        let is_told = |fault: &Fault| matches!(fault, Fault::Different { offset: told, field: "id", .. } if *told == offset as i64);
        assert!(found.faults.first().iter().any(is_told), "{found}");
    }
}

#[test]
fn a_repetition_whose_record_has_expired_repeats_its_row() {
    let dir = dir();
    let mut rows = some(records(0..8));
    rows[6] = None;
    rows[7] = Some(record(7, 6));
    publish(dir.path(), 0, &rows);
    let log = vec![record(5, 5), record(6, 2), record(7, 6)];
    let found = compare(dir.path(), 5, 8, vec![Fetched { records: log, ..Fetched::default() }]);
    assert!(found.is_clean(), "{found}");
    assert_eq!((found.duplicates_left_out(), found.partitions[0].compared), (1, 2));
}

#[test]
fn what_compaction_has_taken_is_told_and_no_fault() {
    // Of ten records five are gone since they were read; of those between, two went before.
    let log = [0, 3, 6, 9, 12].map(|offset: i64| record(offset, offset.unsigned_abs())).to_vec();
    let mut rows: Vec<_> = some(records(0..13));
    (rows[10], rows[11]) = (None, None);
    let dir = dir();
    publish(dir.path(), 0, &rows);
    let check = |is_compacted| {
        let mut faults = crate::Faults::default();
        let survey = Arc::new(Survey::take(&[dir.path().to_owned()], None, &mut faults).unwrap());
        let steps = [Ok(Fetched { records: log.clone(), ..Fetched::default() })].into_iter();
        let log = Log::new(0, 13, steps).compacted(is_compacted);
        walk(&survey, &partition(), Some(log), None, &CancellationToken::new()).unwrap()
    };
    let found = check(true);
    assert!(found.is_clean(), "{found}");
    let PartitionSummary { compacted, compared, holes, .. } = found.partitions[0];
    assert_eq!((compacted, compared, holes), (6, 5, 2));
    assert!(found.to_string().contains("6 records compacted away since"), "{found}");
    let found = check(false);
    assert!(found.faults.count("foreign_rows") > 0 && found.faults.count("missing") > 0, "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_was_said_before_under_the_same_number_needs_no_row(
        said in prop::collection::vec((0..3_u128, 0..4_u64, 0..2_usize, 0..4_usize), 1..40),
        wrong: prop::sample::Index,
    ) {
        let (values, places) = ([VALUE.to_owned(), VALUE.replace("\"m\"", "\"n\"")], [None, None, None, Some("t/1")]);
        let mut log = Vec::new();
        let mut rows = Vec::new();
        for (offset, (producer, sequence, value, place)) in (0..).zip(said) {
            let record = Record {
                id: (producer > 0).then_some(Id { producer, sequence }),
                copied_from: places[place].filter(|_| producer > 0).map(Into::into),
                value: Some(values[value].clone().into()),
                ..record(offset, 0)
            };
            let is_said = log.iter().any(|earlier: &Record| {
                (earlier.number(), &earlier.value) == (record.number(), &record.value) && record.number().is_some()
            });
            rows.push((!is_said).then(|| record.clone()));
            log.push(record);
        }
        let told = |rows: &[Option<Record>]| {
            let dir = dir();
            publish(dir.path(), 0, rows);
            let found = compare_with(dir.path(), log.clone());
            // Numbers may never have come, which is another matter.
            let faults = found.faults.first().iter().filter(|fault| !matches!(fault, Fault::Missing { .. }));
            (faults.cloned().collect::<Vec<_>>(), found.duplicates_left_out())
        };
        let left_out = rows.iter().filter(|row| row.is_none()).count() as u64;
        prop_assert_eq!(told(&rows), (Vec::new(), left_out));
        let wrong = wrong.index(log.len());
        let is_lost = rows[wrong].is_some();
        rows[wrong] = (!is_lost).then(|| log[wrong].clone());
        prop_assume!(rows.iter().any(Option::is_some));
        let (faults, _) = told(&rows);
        let offset = wrong as i64;
        match faults.as_slice() {
            [fault] if is_lost => prop_assert!(gap(offset, offset)(fault), "{fault}"),
            [Fault::DuplicateId { offset: told, .. }] if !is_lost => prop_assert_eq!(*told, offset),
            _ => prop_assert!(false, "{:?}", faults),
        }
    }
}
/// As the worker leaves records out whose transaction was aborted.
fn with_aborted(offsets: Range<i64>, aborted: Range<i64>) -> Vec<Record> {
    let of = |record: Record| Record { is_aborted: aborted.contains(&record.offset), ..record };
    records(offsets).into_iter().map(of).collect()
}

#[test]
fn records_of_aborted_transactions_have_no_rows_and_all_others_have() {
    // Their producer numbers them all the same.
    let log = || with_aborted(0..9, 3..6);
    let published = |left_out: &dyn Fn(i64) -> bool| {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<_> = log().into_iter().map(|record| (!left_out(record.offset)).then_some(record)).collect();
        publish(dir.path(), 0, &rows);
        let found = compare(dir.path(), 0, 9, vec![Fetched { records: log(), ..Fetched::default() }]);
        found.faults.first().to_vec()
    };
    let right = published(&|offset| (3..6).contains(&offset));
    assert!(right.iter().all(|fault| fault.kind() == "missing"), "{right:?}");
    let as_rows = published(&|_| false);
    let [Fault::Uncommitted { first_offset: 3, last_offset: 5, .. }] = as_rows.as_slice() else {
        panic!("{as_rows:?}")
    };
    let left_out = published(&|offset| (3..7).contains(&offset));
    assert!(
        left_out.iter().any(|fault| matches!(fault, Fault::Gap { first_offset: 6, last_offset: 6, .. })),
        "{left_out:?}"
    );
}

#[test]
fn what_waits_behind_an_open_transaction_is_told_and_rows_of_it_are_a_fault() {
    for rows in [5, 7] {
        let dir = tempfile::tempdir().unwrap();
        publish(dir.path(), 0, &records(0..rows).into_iter().map(Some).collect::<Vec<_>>());
        let since = DateTime::from_timestamp_millis(MILLIS);
        let waiting = superhero_kafka::fetch::Waiting { offsets: 5..9, producer: 4, since };
        let steps = vec![Fetched { records: records(0..5), waiting: Some(waiting), ..Fetched::default() }];
        let found = compare(dir.path(), 0, 9, steps);
        let told =
            "4 records from offset 5 on wait behind an open transaction of producer 4 since 2026-11-22T18:15:21.101Z";
        assert!(found.to_string().contains(told), "{found}");
        let faults = found.faults.first();
        match rows {
            5 => assert_eq!(faults, []),
            _ => assert!(matches!(faults, [Fault::Uncommitted { first_offset: 5, last_offset: 6, .. }]), "{faults:?}"),
        }
    }
}

#[test]
fn what_the_topic_itself_has_lost_is_a_fault_though_its_row_is_there() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), 0, &records(0..3).into_iter().map(Some).collect::<Vec<_>>());
    let lost = Lost { first_offset: 2, last_offset: 6, records: 5, reason: "it is broken".to_owned() };
    let found =
        compare(dir.path(), 0, 7, vec![Fetched { records: records(0..3), lost: vec![lost], ..Fetched::default() }]);
    let faults = found.faults.first();
    assert!(matches!(faults, [Fault::Unreadable { first_offset: 2, last_offset: 6, records: 5, .. }]), "{faults:?}");
}

#[test]
fn a_batch_that_stands_as_one_dead_letter_lacks_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let whole = Record { value: Some("\"the batch\"".into()), ..record(0, 0) };
    publish(dir.path(), 0, &[Some(whole), None, None, Some(record(3, 3))]);
    let found = compare(dir.path(), 0, 4, vec![Fetched { records: records(0..4), ..Fetched::default() }]);
    let kinds: Vec<_> = found.faults.kinds().collect();
    assert!(kinds.iter().any(|(kind, _)| *kind == "different"), "{found}");
    assert!(
        found.faults.first().iter().any(|fault| matches!(fault, Fault::Gap { first_offset: 1, last_offset: 2, .. })),
        "{found}"
    );
}
