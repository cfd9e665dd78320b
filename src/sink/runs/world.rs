//! Two workers of one partition on real files, and a model of the group's coordinator between them.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use chrono::NaiveDate;

use crate::fault;
use crate::{
    CommitAnswer, CommitRequest, Compression, Folder, Membership, PartitionId, PartitionSink, Settings, SinkError,
    Step, Table, Verdict, read_rows, recover,
};

const PRODUCER: u128 = 7;

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// Whatever the worker has to do next.
    GoOn {
        worker: usize,
    },
    Join {
        worker: usize,
    },
    Write {
        worker: usize,
        records: i64,
    },
    Seal {
        worker: usize,
    },
    Commit {
        worker: usize,
        delivery: Delivery,
    },
    LateCommit {
        number: usize,
    },
    Retry {
        worker: usize,
    },
    Leave {
        worker: usize,
    },
    Crash {
        worker: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Delivery {
    Answered,
    AnswerLost,
    Late,
}

/// The group's coordinator, and the two workers as it never sees them.
pub(super) struct Run {
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
    retries: bool,
    has_rows: bool,
}

impl Run {
    pub(super) fn new(shared: bool) -> Self {
        Self {
            dirs: [folder_in_memory(), folder_in_memory()],
            shared,
            generation: 0,
            owner: 0,
            committed: None,
            metadata: String::new(),
            workers: Default::default(),
            late: Vec::new(),
        }
    }

    fn folder(&self, worker: usize) -> Option<Folder> {
        let folder = Folder::open(self.dirs[if self.shared { 0 } else { worker }].path(), "cluster").ok()?;
        folder.check_topic("t", "id").ok()?;
        Some(folder)
    }

    pub(super) fn on(&mut self, event: Event) {
        let worker = match event {
            Event::GoOn { worker }
            | Event::Join { worker }
            | Event::Write { worker, .. }
            | Event::Seal { worker }
            | Event::Commit { worker, .. }
            | Event::Retry { worker }
            | Event::Leave { worker }
            | Event::Crash { worker } => worker,
            Event::LateCommit { .. } => 0,
        };
        self.happen(event);
        if fault::has_crashed() {
            // Nothing of what goes with the process reaches the disk.
            drop(std::mem::take(&mut self.workers[worker]));
            fault::end_crash();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::GoOn { worker } => {
                let next = match &self.workers[worker] {
                    Worker { commit: Some(_), .. } => Event::Commit { worker, delivery: Delivery::Answered },
                    Worker { retries: true, .. } => Event::Retry { worker },
                    Worker { writes: true, has_rows: true, .. } => Event::Seal { worker },
                    Worker { writes: true, .. } => Event::Write { worker, records: 2 },
                    Worker { .. } => Event::Join { worker },
                };
                self.happen(next);
            }
            Event::Join { worker } => {
                self.generation += 1;
                self.owner = worker;
                self.look(worker);
            }
            Event::Write { worker, records } => {
                let Worker { sink: Some(sink), writes: true, has_rows, .. } = &mut self.workers[worker] else { return };
                *has_rows = true;
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
                        resume(sink, &error);
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
                let step = sink.released();
                self.take(worker, step);
            }
            Event::Retry { worker } => {
                let Worker { sink: Some(sink), retries: true, .. } = &mut self.workers[worker] else { return };
                let step = sink.retry();
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
        if self.workers[worker].sink.is_none() {
            // It tries again when it joins next.
            let Some(folder) = self.folder(worker) else { return };
            let compression = if self.generation % 2 == 0 { Compression::None } else { Compression::Gzip };
            let settings = Settings { compression, ..Settings::default() };
            let sink = PartitionSink::new(&folder, PartitionId::new("t", 0).unwrap(), settings);
            self.workers[worker].sink = Some(sink);
        }
        let membership = Membership {
            generation: self.generation,
            owner: self.owner == worker,
            committed: self.committed,
            metadata: &self.metadata,
        };
        let step = self.workers[worker].sink.as_mut().unwrap().joined(membership);
        self.take(worker, step);
    }

    fn seal(&mut self, worker: usize) {
        let Worker { sink: Some(sink), writes: true, .. } = &mut self.workers[worker] else { return };
        match sink.seal() {
            Ok(step) => self.take(worker, Ok(step)),
            // Swept away, too.
            Err(error) => {
                resume(sink, &error);
                self.workers[worker].has_rows = false;
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
        let step = self.workers[worker].sink.as_mut().unwrap().answered(answer);
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

    fn take(&mut self, worker: usize, step: Result<Step, SinkError>) {
        let worker = &mut self.workers[worker];
        worker.writes = matches!(step, Ok(Step::Write));
        worker.has_rows = false;
        worker.retries = matches!(step, Ok(Step::Retry(_)));
        worker.commit = match step {
            Ok(Step::Commit(request)) => Some(request),
            Ok(Step::Retry(error)) => {
                assert!(!error.stops_partition(), "{error}");
                None
            }
            Ok(Step::Write | Step::Rejoin { .. } | Step::Idle) => None,
            // The task ends; what is undecided is kept for the next.
            Err(error) => {
                assert!(!error.stops_partition() || fault::has_crashed(), "{error}");
                worker.sink.take_if(|sink| !sink.is_undecided() && !fault::has_crashed());
                None
            }
        };
    }

    /// Every worker is killed, and comes back in a generation of its own; says what it cannot get over.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        for worker in 0..2 {
            self.on(Event::Crash { worker });
        }
        let settings = Settings { compression: Compression::None, ..Settings::default() };
        for worker in 0..if self.shared { 1 } else { 2 } {
            self.generation += 1;
            let folder = Folder::open(self.dirs[worker].path(), "cluster").map_err(|error| error.to_string())?;
            folder.check_topic("t", "id").map_err(|error| error.to_string())?;
            let mut sink = PartitionSink::new(&folder, PartitionId::new("t", 0).unwrap(), settings);
            let membership = Membership {
                generation: self.generation,
                owner: true,
                committed: self.committed,
                metadata: &self.metadata,
            };
            match sink.joined(membership).map_err(|error| error.to_string())? {
                Step::Write => {}
                Step::Retry(error) => return Err(error.to_string()),
                step => return Err(format!("it wants {step:?} before it writes")),
            }
        }
        Ok(())
    }

    /// Every file that there is.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs: Vec<PathBuf> = self.dirs.iter().map(|dir| dir.path().to_owned()).collect();
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { &mut dirs } else { &mut files }.push(path);
            }
        }
        files.sort();
        files
    }

    /// Lets everything come to rest, and returns the offsets in each folder in the order of the files.
    pub(super) fn settle(mut self) -> (i64, Vec<Vec<i64>>) {
        fault::arm([]);
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
            let folder = self.folder(worker).unwrap();
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

/// What a worker does whose disk has failed.
fn resume(sink: &mut PartitionSink, error: &SinkError) {
    assert!(!error.stops_partition() || fault::has_crashed(), "{error}");
    let _ = sink.resume();
}

/// Where a sync costs nothing, if there is such a place.
fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
