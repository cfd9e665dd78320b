//! Two workers on real files through random runs of crashes, takeovers, and commits that are refused, lost or late: whatever
//! happened, in the end every record stands exactly once in the published files of one folder or two, in order.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use chrono::NaiveDate;
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use superhero_sink::{
    CommitAnswer, CommitRequest, Compression, Folder, Membership, PartitionId, PartitionSink, Settings, Step, Table,
    Verdict, read_rows, recover,
};

const PRODUCER: u128 = 7;

#[derive(Debug, Clone, Copy)]
enum Event {
    Join { worker: usize },
    Write { worker: usize, records: i64 },
    Seal { worker: usize },
    Commit { worker: usize, delivery: Delivery },
    LateCommit { number: usize },
    Leave { worker: usize },
    Crash { worker: usize },
}

#[derive(Debug, Clone, Copy)]
enum Delivery {
    Answered,
    AnswerLost,
    Late,
}

fn events() -> impl Strategy<Value = Event> {
    let worker = 0..2usize;
    let delivery = prop_oneof![
        4 => proptest::strategy::Just(Delivery::Answered),
        1 => proptest::strategy::Just(Delivery::AnswerLost),
        1 => proptest::strategy::Just(Delivery::Late),
    ];
    prop_oneof![
        3 => worker.clone().prop_map(|worker| Event::Join { worker }),
        6 => (worker.clone(), 1..4i64).prop_map(|(worker, records)| Event::Write { worker, records }),
        5 => worker.clone().prop_map(|worker| Event::Seal { worker }),
        8 => (worker.clone(), delivery).prop_map(|(worker, delivery)| Event::Commit { worker, delivery }),
        2 => (0..3usize).prop_map(|number| Event::LateCommit { number }),
        1 => worker.clone().prop_map(|worker| Event::Leave { worker }),
        1 => worker.prop_map(|worker| Event::Crash { worker }),
    ]
}

/// The group's coordinator, and the two workers as it never sees them.
struct Run {
    dirs: [tempfile::TempDir; 2],
    shared: bool,
    generation: i32,
    owner: usize,
    committed: Option<i64>,
    metadata: String,
    workers: [Worker; 2],
    late: Vec<(usize, CommitRequest)>,
}

#[derive(Default)]
struct Worker {
    sink: Option<PartitionSink>,
    commit: Option<CommitRequest>,
    writes: bool,
}

impl Run {
    fn new(shared: bool) -> Self {
        Self {
            dirs: [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
            shared,
            generation: 0,
            owner: 0,
            committed: None,
            metadata: String::new(),
            workers: Default::default(),
            late: Vec::new(),
        }
    }

    fn folder(&self, worker: usize) -> Folder {
        Folder::open(self.dirs[if self.shared { 0 } else { worker }].path(), "cluster").unwrap()
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Join { worker } => {
                self.generation += 1;
                self.owner = worker;
                self.look(worker);
            }
            Event::Write { worker, records } => {
                let Worker { sink: Some(sink), writes: true, .. } = &mut self.workers[worker] else { return };
                for _ in 0..records {
                    let offset = sink.next_offset().unwrap_or(0);
                    assert_eq!(sink.seen(PRODUCER, offset as u64), Verdict::New, "offset {offset}");
                    let row = format!(
                        r#"{{"topic":"t","partition":0,"offset":{offset},"id":"{PRODUCER:032x}-{offset}","value":null}}"#
                    );
                    // The record's date changes to and fro.
                    let date = NaiveDate::from_ymd_opt(2026, 11, 22 + (offset % 3 / 2) as u32).unwrap();
                    let rows = [(Table::Raw, row.as_bytes()), (Table::GameMeta, b"{}")];
                    // A newer owner may have swept away what this one, who does not know it yet, was writing.
                    if let Err(error) = sink.append(offset, date, &rows, Instant::now()) {
                        assert!(!error.stops_partition(), "{error}");
                        sink.resume().unwrap();
                    }
                }
            }
            Event::Seal { worker } => self.seal(worker),
            Event::Commit { worker, delivery } => self.commit(worker, delivery),
            Event::LateCommit { number } => {
                if number < self.late.len() {
                    let (worker, request) = self.late.swap_remove(number);
                    self.arrives(worker, &request);
                }
            }
            Event::Leave { worker } => {
                let Worker { sink: Some(sink), writes: true, .. } = &mut self.workers[worker] else { return };
                let step = sink.released().unwrap();
                self.take(worker, step);
            }
            Event::Crash { worker } => {
                if let Some(sink) = std::mem::take(&mut self.workers[worker]).sink {
                    std::mem::forget(sink);
                }
            }
        }
    }

    /// Fetches offset and metadata in the present generation.
    fn look(&mut self, worker: usize) {
        let mut sink = self.workers[worker].sink.take().unwrap_or_else(|| {
            let compression = if self.generation % 2 == 0 { Compression::None } else { Compression::Gzip };
            let settings = Settings { compression, ..Settings::default() };
            PartitionSink::new(&self.folder(worker), PartitionId::new("t", 0).unwrap(), settings)
        });
        let membership = Membership {
            generation: self.generation,
            owner: self.owner == worker,
            committed: self.committed,
            metadata: &self.metadata,
        };
        let step = sink.joined(membership).unwrap();
        self.workers[worker].sink = Some(sink);
        self.take(worker, step);
    }

    fn seal(&mut self, worker: usize) {
        let Worker { sink: Some(sink), writes: true, .. } = &mut self.workers[worker] else { return };
        match sink.seal() {
            Ok(step) => self.take(worker, step),
            // Swept away, too.
            Err(error) => {
                assert!(!error.stops_partition(), "{error}");
                sink.resume().unwrap();
            }
        }
    }

    fn commit(&mut self, worker: usize, delivery: Delivery) {
        let Some(request) = self.workers[worker].commit.take() else { return };
        let answer = match delivery {
            Delivery::Answered => self.arrives(worker, &request),
            Delivery::AnswerLost => {
                self.arrives(worker, &request);
                CommitAnswer::Unknown
            }
            Delivery::Late => {
                self.late.push((worker, request));
                CommitAnswer::Unknown
            }
        };
        let step = self.workers[worker].sink.as_mut().unwrap().answered(answer).unwrap();
        self.take(worker, step);
    }

    fn arrives(&mut self, worker: usize, request: &CommitRequest) -> CommitAnswer {
        if request.generation != self.generation || worker != self.owner {
            return CommitAnswer::Refused;
        }
        self.committed = Some(request.offset);
        self.metadata = request.metadata.clone();
        CommitAnswer::Accepted
    }

    fn take(&mut self, worker: usize, step: Step) {
        let worker = &mut self.workers[worker];
        worker.writes = matches!(step, Step::Write);
        worker.commit = match step {
            Step::Commit(request) => Some(request),
            Step::Retry(error) => panic!("{error}"),
            Step::Write | Step::Rejoin { .. } | Step::Idle => None,
        };
    }

    /// Lets everything come to rest, and returns the offsets in each folder in the order of the files.
    fn settle(mut self) -> (i64, Vec<Vec<i64>>) {
        // Each looks once more in a generation of its own: who owns the partition last still has something to commit.
        for worker in [0, 1, 0, 1] {
            self.on(Event::Join { worker });
            self.on(Event::Write { worker, records: 2 });
            self.on(Event::Seal { worker });
            self.on(Event::Commit { worker, delivery: Delivery::Answered });
        }
        self.look(0);
        while !self.late.is_empty() {
            self.on(Event::LateCommit { number: 0 });
        }
        let partition = PartitionId::new("t", 0).unwrap();
        let offsets = (0..if self.shared { 1 } else { 2 }).map(|worker| {
            let folder = self.folder(worker);
            let count = |table| {
                let files = recover::published_files(&folder, &partition, table).unwrap();
                let mut offsets = Vec::new();
                for file in files {
                    let mut rows = read_rows(&file.path).unwrap();
                    if table == Table::Raw {
                        while let Some(origin) = rows.next_origin().unwrap() {
                            offsets.push(origin.offset);
                        }
                    } else {
                        offsets.extend(rows.map(|row| row.unwrap().len() as i64));
                    }
                }
                offsets
            };
            let raw = count(Table::Raw);
            assert_eq!(raw.len(), count(Table::GameMeta).len(), "the tables advance together");
            raw
        });
        let offsets = offsets.collect();
        (self.committed.unwrap(), offsets)
    }
}

proptest! {
    // A failure prints the shortest run that shows it.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_record_is_published_exactly_once_in_order(
        shared in any::<bool>(), events in prop::collection::vec(events(), 0..60),
    ) {
        let mut run = Run::new(shared);
        for event in events {
            run.on(event);
        }
        let (committed, folders) = run.settle();
        for offsets in &folders {
            assert!(offsets.is_sorted(), "{offsets:?}");
        }
        let mut all = folders.concat();
        all.sort_unstable();
        assert_eq!(all, (0..committed).collect::<Vec<_>>(), "in folders {folders:?}");
    }
}
