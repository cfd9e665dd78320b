//! Points 4 and 7 of the delivery contract on real files: a test for each of its sentences, with a group that only remembers.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use superhero_sink::{
    CommitAnswer, CommitRequest, Compression, Folder, Membership, PartitionId, PartitionSink, Room, Rotation, Settings,
    SinkError, Step, Table, Verdict, layout::WritingName, metadata, read_rows, recover,
};

const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
const TOMORROW: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();

fn partition() -> PartitionId {
    PartitionId::new("lib.server.game", 3).unwrap()
}

/// What the group's coordinator knows of the partition.
#[derive(Default, Clone)]
struct Group {
    generation: i32,
    committed: Option<i64>,
    metadata: String,
}

impl Group {
    fn next_generation(&mut self) -> Membership<'_> {
        self.generation += 1;
        self.membership(true)
    }

    fn membership(&self, owner: bool) -> Membership<'_> {
        Membership { generation: self.generation, owner, committed: self.committed, metadata: &self.metadata }
    }

    /// As the coordinator does it: fenced by the generation.
    fn commit(&mut self, request: &CommitRequest) -> CommitAnswer {
        if request.generation != self.generation {
            return CommitAnswer::Refused;
        }
        self.committed = Some(request.offset);
        self.metadata = request.metadata.clone();
        CommitAnswer::Accepted
    }
}

/// A place for folders, and what has been published there.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> Folder {
        let folder = Folder::open(self.0.path(), "cluster").unwrap();
        folder.check_topic(partition().topic(), "topic-id").unwrap();
        folder
    }

    fn sink(&self) -> PartitionSink {
        PartitionSink::new(
            &self.folder(),
            partition(),
            Settings { compression: Compression::None, ..Settings::default() },
        )
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("superhero")
    }

    /// Every published file, by its path below the root.
    fn published(&self) -> BTreeMap<String, Vec<String>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.root()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.ends_with(".superhero") {
                    continue;
                } else if entry.is_dir() {
                    dirs.push(entry);
                } else {
                    let rows = read_rows(&entry).unwrap().map(|row| String::from_utf8(row.unwrap()).unwrap()).collect();
                    files.insert(entry.strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned(), rows);
                }
            }
        }
        files
    }

    /// The offsets of all published raw rows, in the order of files.
    fn offsets(&self) -> Vec<i64> {
        let files = recover::published_files(&self.folder(), &partition(), Table::Raw).unwrap();
        let mut offsets = Vec::new();
        for file in files {
            let mut rows = read_rows(&file.path).unwrap();
            while let Some(origin) = rows.next_origin().unwrap() {
                offsets.push(origin.offset);
            }
        }
        offsets
    }

    fn work_area(&self, part: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(".superhero").join(part)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn row(offset: i64) -> String {
    format!(r#"{{"topic":"lib.server.game","partition":3,"offset":{offset},"id":"{:032x}-{offset}","value":{{}}}}"#, 7)
}

fn append(sink: &mut PartitionSink, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        let room = sink.append(offset, TODAY, &[(Table::Raw, row(offset).as_bytes())], Instant::now()).unwrap();
        assert_eq!(room, Room::Left);
    }
}

fn seal(sink: &mut PartitionSink) -> CommitRequest {
    commit_of(sink.seal().unwrap())
}

fn commit_of(step: Step) -> CommitRequest {
    match step {
        Step::Commit(request) => request,
        step => panic!("a commit was expected: {step:?}"),
    }
}

#[track_caller]
fn assert_writes(step: Step) {
    assert!(matches!(step, Step::Write), "{step:?}");
}

/// One turn without faults.
fn write_and_publish(sink: &mut PartitionSink, group: &mut Group, offsets: impl IntoIterator<Item = i64>) {
    append(sink, offsets);
    let request = seal(sink);
    let answer = group.commit(&request);
    assert_eq!(answer, CommitAnswer::Accepted);
    assert_writes(sink.answered(answer).unwrap());
}

#[test]
fn one_commit_covers_all_files_of_the_partition() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    let now = Instant::now();
    let _ = sink.append(40, TODAY, &[(Table::Raw, row(40).as_bytes())], now).unwrap();
    let rows =
        [(Table::Raw, row(42).into_bytes()), (Table::GameMeta, b"meta a".into()), (Table::GameMeta, b"meta b".into())];
    let rows: Vec<_> = rows.iter().map(|(table, row)| (*table, row.as_slice())).collect();
    let _ = sink.append(42, TODAY, &rows, now).unwrap();
    let _ = sink.append(43, TODAY, &[(Table::Raw, row(43).as_bytes()), (Table::Dead, b"why")], now).unwrap();
    let _ =
        sink.append(44, TOMORROW, &[(Table::Raw, row(44).as_bytes()), (Table::GamePodium, b"podium")], now).unwrap();
    let request = seal(&mut sink);
    assert_eq!((request.offset, request.generation, request.sent_before), (45, 1, 0));
    assert!(place.published().is_empty(), "nothing is published before the commit is accepted");
    assert_writes(sink.answered(group.commit(&request)).unwrap());

    let name = |dir: &str, offset: i64| format!("{dir}/lib.server.game+3+{offset:020}.jsonl");
    let raw = "raw/topic=lib.server.game/partition=3";
    let expected = BTreeMap::from([
        (name(&format!("{raw}/dt=2026-11-22"), 40), vec![row(40), row(42), row(43)]),
        (name(&format!("{raw}/dt=2026-11-23"), 44), vec![row(44)]),
        (name("GAME_META/dt=2026-11-22", 42), vec!["meta a".into(), "meta b".into()]),
        (name("GAME_PODIUM/dt=2026-11-23", 44), vec!["podium".into()]),
        (name("dead/dt=2026-11-22", 43), vec!["why".into()]),
    ]);
    assert_eq!(place.published(), expected);
    assert_eq!(sink.published_next(), Some(45));
    assert!(place.work_area("sealed").is_empty() && place.work_area("writing").is_empty());
}

#[test]
fn no_two_attempts_at_the_same_offsets_share_a_name() {
    let (place, mut group) = (Place::new(), Group::default());
    let (mut first, mut second) = (place.sink(), place.sink());
    assert_writes(first.joined(group.next_generation()).unwrap());
    assert_writes(second.joined(group.next_generation()).unwrap());
    append(&mut first, 0..5);
    let refused = seal(&mut first);
    append(&mut second, 0..5);
    let accepted = seal(&mut second);
    assert_eq!(place.work_area("sealed").len(), 2);
    let answer = group.commit(&refused);
    assert!(matches!(first.answered(answer).unwrap(), Step::Rejoin { other_than: 1 }));
    assert_writes(second.answered(group.commit(&accepted)).unwrap());
    assert_eq!(place.offsets(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_commit_refused_for_sure_throws_the_temporaries_away() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    append(&mut sink, 0..5);
    let _ = seal(&mut sink);
    assert!(matches!(sink.answered(CommitAnswer::Refused).unwrap(), Step::Rejoin { other_than: 1 }));
    assert!(place.work_area("sealed").is_empty());
    assert!(
        matches!(sink.joined(group.membership(true)).unwrap(), Step::Rejoin { other_than: 1 }),
        "the same generation again"
    );
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert_eq!(sink.next_offset(), None, "nothing was committed");
    assert!(place.published().is_empty());
}

#[test]
fn an_unknown_answer_sends_the_same_commit_until_the_answer_is_definite() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    append(&mut sink, 0..5);
    let request = seal(&mut sink);
    for (number, answer) in
        [CommitAnswer::Unknown, CommitAnswer::RetryLater, CommitAnswer::Unknown].into_iter().enumerate()
    {
        let again = commit_of(sink.answered(answer).unwrap());
        assert_eq!(again, CommitRequest { sent_before: number as u32 + 1, ..request.clone() });
    }
    let step = sink.answered(group.commit(&request)).unwrap();
    assert_eq!(place.offsets(), [0, 1, 2, 3, 4], "accepted is published");
    assert!(matches!(step, Step::Rejoin { other_than: 1 }), "a sending may still be on its way: {step:?}");
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert_eq!(sink.next_offset(), Some(5));
}

#[test]
fn refused_after_an_unknown_answer_is_decided_by_the_next_generation() {
    for was_accepted in [true, false] {
        for owns_it_again in [true, false] {
            let (place, mut group) = (Place::new(), Group::default());
            let mut sink = place.sink();
            assert_writes(sink.joined(group.next_generation()).unwrap());
            append(&mut sink, 0..5);
            let request = seal(&mut sink);
            if was_accepted {
                group.commit(&request);
            }
            let _ = commit_of(sink.answered(CommitAnswer::Unknown).unwrap());
            let step = sink.answered(CommitAnswer::Refused).unwrap();
            assert!(matches!(step, Step::Rejoin { other_than: 1 }), "{step:?}");
            assert!(sink.is_undecided() && place.work_area("sealed").len() == 1, "nothing is decided");

            group.generation += 1;
            let step = sink.joined(group.membership(owns_it_again)).unwrap();
            assert!(!sink.is_undecided() && place.work_area("sealed").is_empty());
            assert_eq!(matches!(step, Step::Write), owns_it_again, "{step:?}");
            assert_eq!(place.offsets(), if was_accepted { vec![0, 1, 2, 3, 4] } else { vec![] });
            assert_eq!(sink.next_offset(), if was_accepted && owns_it_again { Some(5) } else { None });
        }
    }
}

/// A sink that is gone as by a kill: nothing is tidied up.
fn crash(sink: PartitionSink) {
    std::mem::forget(sink);
}

#[test]
fn named_segments_are_published_by_whoever_comes_first() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut first = place.sink();
    assert_writes(first.joined(group.next_generation()).unwrap());
    append(&mut first, 0..5);
    group.commit(&seal(&mut first));
    crash(first);
    assert!(place.offsets().is_empty());

    // A worker that owns nothing has a look.
    let folder = place.folder();
    assert_eq!(recover::partitions_with_sealed(&folder).unwrap(), [partition()]);
    let mut helper = place.sink();
    assert!(matches!(helper.joined(group.membership(false)).unwrap(), Step::Idle));
    assert_eq!(place.offsets(), [0, 1, 2, 3, 4]);
    assert!(recover::partitions_with_sealed(&folder).unwrap().is_empty());

    // The next owner finds nothing left to do.
    let mut second = place.sink();
    assert_writes(second.joined(group.next_generation()).unwrap());
    write_and_publish(&mut second, &mut group, 5..7);
    assert_eq!(place.offsets(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn only_the_owner_throws_unnamed_segments_away_and_only_of_older_generations() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut dead = place.sink();
    assert_writes(dead.joined(group.next_generation()).unwrap());
    append(&mut dead, 0..5);
    let _ = seal(&mut dead);
    crash(dead);
    let mut writing = place.sink();
    assert_writes(writing.joined(group.membership(true)).unwrap());
    append(&mut writing, 0..1);
    crash(writing);
    let left = || (place.work_area("sealed").len(), place.work_area("writing").len());
    assert_eq!(left(), (1, 1));

    let mut sink = place.sink();
    let _ = sink.joined(group.membership(true)).unwrap();
    assert_eq!(left(), (1, 1), "of the same generation");
    group.generation += 1;
    let _ = sink.joined(group.membership(false)).unwrap();
    assert_eq!(left(), (1, 1), "not the owner");
    let mut other =
        PartitionSink::new(&place.folder(), PartitionId::new("lib.server.game", 4).unwrap(), Settings::default());
    let _ = other.joined(group.membership(true)).unwrap();
    assert_eq!(left(), (1, 1), "of another partition");
    let _ = sink.joined(group.membership(true)).unwrap();
    assert_eq!(left(), (0, 0));
    assert_eq!(sink.next_offset(), None);
}

#[test]
fn taking_over_starts_at_the_committed_offset_or_the_last_row_or_the_earliest() {
    let check = |committed: Option<i64>, written: std::ops::Range<i64>, expected: Option<i64>| {
        let (place, mut group) = (Place::new(), Group::default());
        let mut before = place.sink();
        let _ = before.joined(group.next_generation()).unwrap();
        if !written.is_empty() {
            write_and_publish(&mut before, &mut group, written.clone());
        }
        (group.committed, group.metadata) = (committed, String::new());
        let mut sink = place.sink();
        assert_writes(sink.joined(group.next_generation()).unwrap());
        assert_eq!(sink.next_offset(), expected, "committed {committed:?}, written {written:?}");
        if committed.is_none_or(|committed| committed < written.end) && !written.is_empty() {
            assert_eq!(sink.seen(7, 9), Verdict::Behind, "what the rows' producers had sent is read from the rows");
            assert_eq!(sink.seen(7, 10), Verdict::New);
        }
    };
    check(None, 0..0, None);
    check(Some(5), 0..0, Some(5));
    check(Some(5), 5..10, Some(10));
    check(Some(0), 5..10, Some(10));
    check(Some(20), 5..10, Some(20));
    check(None, 5..10, Some(10));
}

#[test]
fn segments_of_another_folder_stay_named_until_their_owner_has_published_them() {
    let (here, there, mut group) = (Place::new(), Place::new(), Group::default());
    let mut first = here.sink();
    assert_writes(first.joined(group.next_generation()).unwrap());
    append(&mut first, 0..5);
    group.commit(&seal(&mut first));
    crash(first);

    let mut second = there.sink();
    assert_writes(second.joined(group.next_generation()).unwrap());
    assert_eq!(second.next_offset(), Some(5));
    for offset in [5, 6, 7] {
        write_and_publish(&mut second, &mut group, [offset]);
    }
    assert_eq!((here.offsets(), there.offsets()), (vec![], vec![5, 6, 7]));
    let named = |group: &Group| match metadata::decode(&group.metadata).unwrap() {
        metadata::Decoded::Ours(metadata) => metadata.named.iter().map(|segment| segment.first).collect::<Vec<_>>(),
        metadata::Decoded::Foreign => panic!("{}", group.metadata),
    };
    assert_eq!(named(&group), [0, 7], "what is published here is named no longer");

    let mut back = here.sink();
    assert_writes(back.joined(group.next_generation()).unwrap());
    assert_eq!((here.offsets(), there.offsets()), (vec![0, 1, 2, 3, 4], vec![5, 6, 7]));
    write_and_publish(&mut back, &mut group, [8]);
    assert_eq!(named(&group), [7, 8]);
}

#[test]
fn a_partition_given_up_in_good_order_leaves_no_name_behind() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert!(matches!(place.sink().released().unwrap(), Step::Idle), "nothing to take back");
    write_and_publish(&mut sink, &mut group, 0..5);
    let farewell = commit_of(sink.released().unwrap());
    assert_eq!(group.commit(&farewell), CommitAnswer::Accepted);
    assert!(matches!(sink.answered(CommitAnswer::Accepted).unwrap(), Step::Idle));
    let last_sequences = vec![];
    let expected = metadata::Decoded::Ours(metadata::Metadata { named: vec![], last_sequences });
    assert_eq!((group.committed, metadata::decode(&group.metadata).unwrap()), (Some(5), expected));
    assert!(sink.append(5, TODAY, &[], Instant::now()).is_err(), "it is not held any more");
}

#[test]
fn records_that_were_not_sealed_when_the_partition_was_given_up_do_not_count_as_seen() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert_eq!(sink.seen(1, 0), Verdict::New);
    write_and_publish(&mut sink, &mut group, 0..1);
    assert_eq!(sink.seen(1, 1), Verdict::New);
    append(&mut sink, 1..2);
    group.commit(&commit_of(sink.released().unwrap()));
    let mut next = place.sink();
    assert_writes(next.joined(group.next_generation()).unwrap());
    assert_eq!((next.next_offset(), next.seen(1, 0), next.seen(1, 1)), (Some(1), Verdict::Behind, Verdict::New));
}

#[test]
fn too_many_names_for_a_commit_stop_the_partition() {
    let (place, mut group) = (Place::new(), Group::default());
    let gone: Vec<_> = (0..metadata::MAX_NAMED).map(|_| Place::new()).collect();
    for place in &gone {
        let mut sink = place.sink();
        assert_writes(sink.joined(group.next_generation()).unwrap());
        append(&mut sink, [group.committed.unwrap_or(0)]);
        group.commit(&seal(&mut sink));
        crash(sink);
    }
    assert!(group.metadata.len() <= metadata::MAX_BYTES);
    let mut sink = place.sink();
    let error = sink.joined(group.next_generation()).unwrap_err();
    assert!(matches!(error, SinkError::TooManyNamed { waiting: metadata::MAX_NAMED, .. }), "{error}");
    assert!(error.stops_partition());
    assert!(sink.append(40, TODAY, &[], Instant::now()).is_err(), "no row is written that could not be committed");
}

#[test]
fn a_committed_segment_that_is_nowhere_is_a_loud_error() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    append(&mut sink, 0..5);
    group.commit(&seal(&mut sink));
    crash(sink);
    for segment in place.work_area("sealed") {
        fs::remove_dir_all(place.root().join(".superhero/sealed").join(segment)).unwrap();
    }
    let error = place.sink().joined(group.next_generation()).unwrap_err();
    assert!(matches!(&error, SinkError::Nowhere { segment, .. } if (segment.first, segment.next) == (0, 5)), "{error}");
    assert!(error.to_string().contains("lib.server.game/3") && error.stops_partition());
}

#[test]
fn published_files_may_be_carried_off_at_any_time() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    write_and_publish(&mut sink, &mut group, 0..5);
    fs::remove_dir_all(place.root().join("raw")).unwrap();
    write_and_publish(&mut sink, &mut group, 5..6);
    fs::remove_dir_all(place.root().join("raw")).unwrap();
    crash(sink);
    let mut next = place.sink();
    assert_writes(next.joined(group.next_generation()).unwrap());
    assert_eq!(next.next_offset(), Some(6));
    assert_eq!(place.work_area("published").len(), 1, "of marks, the latest stays");
}

#[test]
fn what_has_been_seen_of_producers_travels_with_the_commit() {
    let (place, elsewhere, mut group) = (Place::new(), Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert_eq!((sink.seen(1, 0), sink.seen(1, 1), sink.seen(2, 0)), (Verdict::New, Verdict::New, Verdict::New));
    write_and_publish(&mut sink, &mut group, 0..3);
    assert_eq!(sink.seen(1, 2), Verdict::New);
    append(&mut sink, 3..4);
    crash(sink);

    let mut sink = elsewhere.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert_eq!((sink.seen(1, 1), sink.seen(2, 0)), (Verdict::Behind, Verdict::Behind));
    assert_eq!(sink.seen(1, 2), Verdict::New, "it was not committed");
    assert_eq!(sink.seen(2, 3), Verdict::Gap { missing: 2 });
}

#[test]
fn what_another_client_commits_is_an_offset_and_nothing_more() {
    let (place, mut group) = (Place::new(), Group { committed: Some(17), ..Group::default() });
    for metadata in ["", "reset by hand"] {
        group.metadata = metadata.into();
        let mut sink = place.sink();
        assert_writes(sink.joined(group.next_generation()).unwrap());
        assert_eq!(sink.next_offset(), Some(17));
        assert_eq!(sink.seen(1, 0), Verdict::New);
    }
    group.metadata = "superhero/2 from the future".into();
    let error = place.sink().joined(group.next_generation()).unwrap_err();
    assert!(error.to_string().contains("upgrade") && error.stops_partition(), "{error}");
}

#[test]
fn offsets_without_records_are_committed_too() {
    let (place, mut group) = (Place::new(), Group::default());
    let settings = Settings {
        rotation: Rotation { max_age: Duration::from_secs(1), ..Rotation::default() },
        ..Settings::default()
    };
    let mut sink = PartitionSink::new(&place.folder(), partition(), settings);
    assert_writes(sink.joined(group.next_generation()).unwrap());
    assert_writes(sink.seal().unwrap());
    let now = Instant::now();
    let _ = sink.append(3, TODAY, &[], now).unwrap();
    sink.advance_to(9, now);
    assert!(!sink.should_seal(now) && sink.should_seal(now + Duration::from_secs(1)));
    let request = seal(&mut sink);
    assert_eq!((request.offset, request.metadata.as_str()), (9, "superhero/1"));
    assert_writes(sink.answered(group.commit(&request)).unwrap());
    assert_eq!(sink.next_offset(), Some(9));
    assert_writes(sink.seal().unwrap());
    assert!(place.published().is_empty());
}

#[test]
fn what_is_taken_away_is_not_committed() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    append(&mut sink, 0..5);
    assert!(matches!(sink.lost().unwrap(), Step::Idle));
    assert!(place.work_area("writing").is_empty() && place.work_area("sealed").is_empty());
    assert!(sink.append(5, TODAY, &[], Instant::now()).is_err());
}

/// Puts something where the next file of that name is to be made.
fn put_in_the_way(folder: &Folder, generation: i32, file: &str, put: impl FnOnce(&Path)) {
    let name = WritingName { writer: folder.writer(), generation, partition: partition() };
    put(&folder.root().join(".superhero/writing").join(name.to_string()).join(file));
}

// What a full disk does at each step is among the runs of this crate's own tests, which can let every step fail.
#[test]
fn a_file_that_cannot_be_made_holds_the_partition_and_loses_nothing() {
    let elsewhere = tempfile::tempdir().unwrap();
    let theirs = elsewhere.path().join("theirs");
    for compression in [Compression::None, Compression::Gzip] {
        for reason in ["File exists", "is a link"] {
            let (place, mut group) = (Place::new(), Group::default());
            let folder = place.folder();
            let mut sink = PartitionSink::new(&folder, partition(), Settings { compression, ..Settings::default() });
            assert_writes(sink.joined(group.next_generation()).unwrap());
            assert_eq!(sink.seen(1, 0), Verdict::New);
            append(&mut sink, 10..12);
            assert_eq!(sink.seen(1, 1), Verdict::New);
            let ending = if compression == Compression::None { "part" } else { "gz.part" };
            fs::write(&theirs, "theirs").unwrap();
            let file = format!("dead+2026-11-22+lib.server.game+3+{:020}.{ending}", 12);
            put_in_the_way(&folder, 1, &file, |path| match reason {
                "File exists" => fs::hard_link(&theirs, path).unwrap(),
                _ => symlink(&theirs, path).unwrap(),
            });
            let raw_row = row(12);
            let rows = [(Table::Raw, raw_row.as_bytes()), (Table::Dead, &b"why"[..])];
            let failed = sink.append(12, TODAY, &rows, Instant::now()).and_then(|_| sink.seal().map(|_| Room::Left));
            let error = failed.unwrap_err();
            assert!(error.to_string().contains(reason) && !error.stops_partition(), "{error}");
            assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
            assert!(
                sink.append(13, TODAY, &[], Instant::now()).is_err(),
                "no later record is taken before the earlier ones"
            );
            assert!(!sink.should_seal(Instant::now()) && sink.seal().is_err());

            assert_eq!(sink.resume().unwrap(), None, "nothing was committed: from the earliest");
            assert!(place.work_area("writing").is_empty() && place.work_area("sealed").is_empty());
            assert_eq!((sink.seen(1, 0), sink.seen(1, 1)), (Verdict::New, Verdict::New), "these are to be read again");
            write_and_publish(&mut sink, &mut group, 10..13);
            assert_eq!(place.offsets(), [10, 11, 12]);
        }
    }
}

#[test]
fn a_publishing_that_fails_is_done_again_until_it_succeeds() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    append(&mut sink, 0..5);
    let answer = group.commit(&seal(&mut sink));
    fs::write(place.root().join("raw"), "in the way of the directory").unwrap();
    let step = sink.answered(answer).unwrap();
    assert!(matches!(&step, Step::Retry(error) if error.to_string().contains("raw")), "{step:?}");
    assert!(matches!(sink.retry().unwrap(), Step::Retry(_)));
    fs::remove_file(place.root().join("raw")).unwrap();
    assert_writes(sink.retry().unwrap());
    assert_eq!(place.offsets(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_publishing_that_crashed_halfway_is_completed() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    let _ = sink.append(0, TODAY, &[(Table::Raw, row(0).as_bytes()), (Table::Dead, b"why")], Instant::now()).unwrap();
    group.commit(&seal(&mut sink));
    crash(sink);
    let sealed = place.root().join(".superhero/sealed").join(&place.work_area("sealed")[0]);
    let done = place.root().join("dead/dt=2026-11-22");
    fs::create_dir_all(&done).unwrap();
    let name = "lib.server.game+3+00000000000000000000";
    fs::hard_link(sealed.join(format!("dead+2026-11-22+{name}.part")), done.join(format!("{name}.jsonl"))).unwrap();
    assert_writes(place.sink().joined(group.next_generation()).unwrap());
    assert_eq!(place.published().len(), 2);
    assert!(place.work_area("sealed").is_empty());
}

/// Some readers' `**` goes into hidden directories.
#[test]
fn no_glob_for_rows_finds_what_is_not_published() {
    for compression in [Compression::None, Compression::Gzip] {
        let (place, mut group) = (Place::new(), Group::default());
        let settings = Settings { compression, ..Settings::default() };
        let mut sink = PartitionSink::new(&place.folder(), partition(), settings);
        let hidden = || {
            let areas = ["writing", "sealed", "published"].map(|part| place.root().join(".superhero").join(part));
            let dirs = areas.iter().flat_map(|area| fs::read_dir(area).unwrap());
            let files = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let are_hidden = |names: &[String]| !names.iter().any(|name| name.contains(".json") || name.ends_with(".gz"));
        assert_writes(sink.joined(group.next_generation()).unwrap());
        append(&mut sink, 0..5);
        let writing = hidden();
        let request = seal(&mut sink);
        let sealed = hidden();
        assert!(writing.len() == 1 && are_hidden(&writing), "{writing:?}");
        assert!(sealed.len() == 1 && are_hidden(&sealed), "{sealed:?}");
        assert_writes(sink.answered(group.commit(&request)).unwrap());
        assert!(hidden().is_empty(), "{:?}", hidden());
        assert_eq!(place.offsets(), [0, 1, 2, 3, 4]);
    }
}

/// Renames the files of a segment as they were named before they had an ending of their own.
fn as_earlier_versions_named_them(place: &Place, part: &str) {
    for dir in fs::read_dir(place.root().join(".superhero").join(part)).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
            let name = file.to_str().unwrap();
            let stem = name.strip_suffix(".part").unwrap();
            let earlier = stem.strip_suffix(".gz").map_or(format!("{stem}.jsonl"), |stem| format!("{stem}.jsonl.gz"));
            fs::rename(name, earlier).unwrap();
        }
    }
}

#[test]
fn what_an_earlier_version_has_sealed_is_published_and_what_it_was_writing_is_swept() {
    for compression in [Compression::None, Compression::Gzip] {
        let (place, mut group) = (Place::new(), Group::default());
        let settings = Settings { compression, ..Settings::default() };
        let mut sink = PartitionSink::new(&place.folder(), partition(), settings);
        assert_writes(sink.joined(group.next_generation()).unwrap());
        append(&mut sink, 0..5);
        group.commit(&seal(&mut sink));
        crash(sink);
        as_earlier_versions_named_them(&place, "sealed");
        let mut next = PartitionSink::new(&place.folder(), partition(), settings);
        assert_writes(next.joined(group.next_generation()).unwrap());
        assert_eq!(place.offsets(), [0, 1, 2, 3, 4]);

        append(&mut next, 5..7);
        as_earlier_versions_named_them(&place, "writing");
        crash(next);
        let mut last = PartitionSink::new(&place.folder(), partition(), settings);
        assert_writes(last.joined(group.next_generation()).unwrap());
        assert!(place.work_area("writing").is_empty() && place.work_area("sealed").is_empty());
        write_and_publish(&mut last, &mut group, 5..7);
        assert_eq!(place.offsets(), [0, 1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn records_without_a_date_have_a_folder_that_sorts_behind_all_dates() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    let now = Instant::now();
    let _ = sink.append(0, None, &[(Table::Raw, row(0).as_bytes()), (Table::Dead, b"why")], now).unwrap();
    let _ = sink.append(1, TODAY, &[(Table::Raw, row(1).as_bytes())], now).unwrap();
    let answer = group.commit(&seal(&mut sink));
    assert_writes(sink.answered(answer).unwrap());
    let files: Vec<String> = place.published().into_keys().collect();
    let none = "dt=__HIVE_DEFAULT_PARTITION__/lib.server.game+3+00000000000000000000.jsonl";
    let raw = "raw/topic=lib.server.game/partition=3";
    assert_eq!(
        files,
        [
            format!("dead/{none}"),
            format!("{raw}/dt=2026-11-22/lib.server.game+3+00000000000000000001.jsonl"),
            format!("{raw}/{none}"),
        ]
    );
    assert_eq!(place.offsets(), [0, 1], "in the order of offsets, wherever they lie");
}

#[test]
fn what_stands_at_a_final_name_is_never_replaced() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    append(&mut sink, 0..5);
    let answer = group.commit(&seal(&mut sink));
    let dir = place.root().join("raw/topic=lib.server.game/partition=3/dt=2026-11-22");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("lib.server.game+3+00000000000000000000.jsonl");
    fs::write(&path, "somebody else's\n").unwrap();
    let error = sink.answered(answer).unwrap_err();
    assert!(matches!(&error, SinkError::InTheWay { path: taken, .. } if *taken == path), "{error}");
    assert!(error.stops_partition());
    assert_eq!(fs::read_to_string(path).unwrap(), "somebody else's\n");
    assert_eq!(place.work_area("sealed").len(), 1, "the rows are kept");
}

#[test]
fn many_may_publish_the_same_segment_at_once() {
    for _ in 0..20 {
        let (place, mut group) = (Place::new(), Group::default());
        let mut sink = place.sink();
        assert_writes(sink.joined(group.next_generation()).unwrap());
        for (table, date) in Table::ALL.into_iter().zip([TODAY, TOMORROW, TODAY, TOMORROW]) {
            let next = sink.next_offset().unwrap_or(0);
            let _ = sink.append(
                next,
                date,
                &[(Table::Raw, row(next).as_bytes()), (table, row(next).as_bytes())],
                Instant::now(),
            );
        }
        group.commit(&seal(&mut sink));
        crash(sink);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut helper = place.sink();
                let membership = group.membership(false);
                scope.spawn(move || {
                    let step = helper.joined(membership).unwrap();
                    assert!(matches!(step, Step::Idle), "{step:?}");
                });
            }
        });
        assert_eq!(place.published().len(), 7);
        assert!(place.work_area("sealed").is_empty());
    }
}

#[test]
fn a_torn_file_among_the_rows_is_named_and_foreign_ones_are_passed_over() {
    let (place, mut group) = (Place::new(), Group::default());
    let mut sink = place.sink();
    assert_writes(sink.joined(group.next_generation()).unwrap());
    write_and_publish(&mut sink, &mut group, 0..5);
    let dir = place.root().join("raw/topic=lib.server.game/partition=3/dt=2026-11-22");
    fs::write(dir.join("_SUCCESS"), "").unwrap();
    assert_eq!(recover::last_row_offset(&place.folder(), &partition()).unwrap(), Some(4));
    let torn = dir.join("lib.server.game+3+00000000000000000009.jsonl.gz");
    fs::write(&torn, [0x1f, 0x8b, 8, 0]).unwrap();
    let error = place.sink().joined(group.next_generation()).unwrap_err();
    assert!(error.to_string().contains(torn.to_str().unwrap()) && error.stops_partition(), "{error}");
    assert!(recover::last_row_offset(&place.folder(), &partition()).is_err());
    // Nor is one waited for that is none, whatever took its place.
    fs::remove_file(&torn).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&torn).status().unwrap().success());
    let error = place.sink().joined(group.next_generation()).unwrap_err();
    assert!(error.to_string().contains("it is a FIFO") && error.stops_partition(), "{error}");
}
