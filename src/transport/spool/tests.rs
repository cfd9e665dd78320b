//! The spool with the queue and the lanes, and everything in between killed at any instant; only Kafka is a model.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::batch::{Compression, tests::read};
use crate::chunk::Event;
use crate::config::{QueueConfig, WhenFull};
use crate::lanes::Outcome;

const BATCHES: BatchConfig = BatchConfig { batch_bytes: 16 * 1024, compression: Compression::None };
const CAPACITY_BYTES: u64 = MIN_CAPACITY_BYTES;
/// More than a segment holds of events of 8 KiB, so that segments come and go.
const VALUE_BYTES: usize = 8 * 1024;
const TOPICS: [(&str, i32); 3] = [("lobby", 3), ("game", 2), ("client", 1)];

/// A record's topic and partition, producer, sequence, key and number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Record {
    place: (String, i32),
    producer: String,
    sequence: u64,
    key: Option<Vec<u8>>,
    number: u64,
}

/// What outlives the processes.
#[derive(Debug, Default)]
struct Kafka {
    /// The partitions of the topics that exist.
    topics: BTreeMap<String, i32>,
    records: Vec<Record>,
}

impl Kafka {
    fn create(&mut self, topic: usize) {
        let (name, partitions) = TOPICS[topic];
        self.topics.entry(name.to_owned()).and_modify(|partitions| *partitions += 1).or_insert(partitions);
    }

    fn create_missing(&mut self) {
        for (name, partitions) in TOPICS {
            self.topics.entry(name.to_owned()).or_insert(partitions);
        }
    }
}

/// One start of a transport.
#[derive(Debug)]
struct Life {
    queue: Queue,
    spool: Spool,
    lanes: Lanes,
    now: Instant,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Acknowledged,
    /// It is there, and nobody says so.
    AnswerLost,
    /// It never came.
    Lost,
}

impl Life {
    fn start(dir: &Path) -> Self {
        let config = SpoolConfig { dir: dir.to_owned(), capacity_bytes: CAPACITY_BYTES };
        let queue = QueueConfig { capacity_bytes: 64 << 20, when_full: WhenFull::Block, sessions: 1 };
        let queue = Queue::new(&queue, true);
        let (spool, segments) = Spool::open(config, Uuid::new_v4(), BATCHES).unwrap();
        queue.start_spool(segments);
        let lanes = spool.lanes();
        Self { queue, spool, lanes, now: Instant::now() }
    }

    fn emit(&self, topic: &str, key: Option<u8>, number: u64) {
        let key = key.map(|key| [key]);
        let mut value = number.to_string().into_bytes();
        value.resize(VALUE_BYTES, b' ');
        self.queue.push(&Event { topic, key: key.as_ref().map(|key| &key[..]), value: &value, timestamp_ms: 1 });
    }

    fn poll(&mut self) {
        let mut taken = VecDeque::new();
        self.queue.take(&mut taken);
        for chunk in taken {
            self.spool.accept(chunk, &mut self.lanes);
        }
        self.keep();
    }

    fn keep(&mut self) {
        self.spool.replay(&self.queue, &mut self.lanes).unwrap();
        self.spool.make_room(&self.queue).unwrap();
        let _ = self.queue.spool_backlog();
    }

    fn look(&mut self, kafka: &Kafka) {
        let wanted: Vec<String> = self.lanes.topics().map(str::to_owned).collect();
        for topic in wanted {
            let Some(partitions) = kafka.topics.get(&topic) else { continue };
            let leaders = (0..*partitions).map(|partition| (partition, Some(0))).collect();
            if let Some(learned) = self.lanes.learn(&topic, &leaders) {
                self.spool.learned(&topic, learned);
            }
        }
    }

    /// Sends what can be sent, and answers it.
    fn send(&mut self, kafka: &mut Kafka, fate: Fate) {
        self.send_each(kafka, |_| fate);
    }

    /// The same, each partition in its own way.
    fn send_each(&mut self, kafka: &mut Kafka, fate: impl Fn(i32) -> Fate) {
        self.look(kafka);
        self.spool.record().unwrap();
        self.now += Duration::from_secs(2);
        while let Some(request) = self.lanes.next_request(self.now, |_| false) {
            let mut all = Settled::default();
            for part in request.parts {
                let place = self.lanes.place(part.lane);
                let place = (place.0.to_owned(), place.1);
                let fate = fate(place.1);
                if !matches!(fate, Fate::Lost) {
                    kafka.records.extend(read(&part.batch).into_iter().map(|record| {
                        assert_eq!(
                            record.place,
                            format!("{}/{}", place.0, place.1),
                            "it is counted where it is sent to"
                        );
                        Record {
                            place: place.clone(),
                            producer: record.producer,
                            sequence: record.sequence,
                            key: record.key,
                            number: std::str::from_utf8(&record.value).unwrap().trim().parse().unwrap(),
                        }
                    }));
                }
                let outcome = if matches!(fate, Fate::Acknowledged) { Outcome::Acknowledged } else { Outcome::Failed };
                let settled = self.lanes.answered(part.lane, outcome, self.now).settled;
                self.spool.settled(&self.queue, &place.0, place.1, self.lanes.settled(part.lane));
                all.acknowledged += settled.acknowledged;
                all.bytes += settled.bytes;
            }
            match self.spool.is_replaying() {
                true => self.spool.replayed(all),
                false => self.queue.settle(all),
            }
        }
    }

    fn is_delivered(&self) -> bool {
        !self.spool.is_replaying() && self.lanes.is_empty() && self.queue.counters().queued_events == 0
    }

    fn deliver(mut self, kafka: &mut Kafka) {
        for _ in 0..1000 {
            self.poll();
            self.send(kafka, Fate::Acknowledged);
            if self.is_delivered() {
                self.spool.end(true);
                return;
            }
        }
        panic!("not delivered: {:?}", self.queue.counters());
    }
}

/// Every accepted event is there under one id, and ids count from 0 without gaps; the events of a key are in order when
/// repetitions are left out.
fn check(kafka: &Kafka, emitted: &[(usize, Option<u8>)]) -> Result<(), TestCaseError> {
    let mut seen: HashMap<(&(String, i32), &str), u64> = HashMap::new();
    let mut kept: Vec<&Record> = Vec::new();
    let mut by_id: HashMap<_, u64> = HashMap::new();
    for record in &kafka.records {
        let id = (&record.place, record.producer.as_str(), record.sequence);
        prop_assert_eq!(
            *by_id.entry(id).or_insert(record.number),
            record.number,
            "one id for two events: {:?}",
            record
        );
        let next = seen.entry((&record.place, &record.producer)).or_default();
        prop_assert!(record.sequence <= *next, "a gap before {:?}", record);
        if record.sequence == *next {
            *next += 1;
            kept.push(record);
        }
    }
    let numbers: BTreeSet<u64> = kept.iter().map(|record| record.number).collect();
    prop_assert_eq!(kept.len(), numbers.len(), "an event under two ids");
    prop_assert_eq!(numbers, (0..emitted.len() as u64).collect());
    let mut last: HashMap<_, u64> = HashMap::new();
    for record in kept {
        let (topic, key) = emitted[record.number as usize];
        prop_assert_eq!((&record.place.0[..], record.key.clone()), (TOPICS[topic].0, key.map(|key| vec![key])));
        if key.is_some() {
            let before = last.insert((topic, key), record.number);
            prop_assert!(before.is_none_or(|before| before < record.number), "out of order: {:?}", record);
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Emit {
        topic: usize,
        key: Option<u8>,
        events: usize,
    },
    /// Or give it one more partition.
    CreateTopic(usize),
    Poll,
    Send(Fate),
    Kill,
    /// The last write was not whole.
    KillInWrite,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        3 => Just(Fate::Acknowledged),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
    ];
    prop_oneof![
        6 => (0..TOPICS.len(), prop::option::of(0_u8..4), 1_usize..30)
            .prop_map(|(topic, key, events)| Step::Emit { topic, key, events }),
        1 => (0..TOPICS.len()).prop_map(Step::CreateTopic),
        4 => Just(Step::Poll),
        4 => fate.prop_map(Step::Send),
        1 => Just(Step::Kill),
        1 => Just(Step::KillInWrite),
    ]
}

/// The files of the newest folder, the ledger and the last segment, with half a write at their ends.
fn tear(dir: &Path) {
    let (_, _, folder) = list(dir).unwrap().pop().unwrap();
    let segment = (1..).map(|number| folder.join(format!("{number:08}.events")));
    let written = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 0);
    let first = segment.skip_while(|path| !path.exists());
    let last = first.take_while(|path| path.exists()).filter(written).last();
    let mut torn = Vec::new();
    entry::encode(&Event { topic: "lobby", key: None, value: b"never accepted", timestamp_ms: 0 }, &mut torn);
    for (path, bytes) in [(last, &torn[..torn.len() - 1]), (Some(folder.join("ledger")), br#"{"settled":{"to"#)] {
        let Some(path) = path else { continue };
        OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn whatever_is_killed_every_accepted_event_comes_under_its_one_id(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut kafka = Kafka::default();
        let mut emitted = Vec::new();
        let mut life = Life::start(dir.path());
        for step in steps {
            match step {
                Step::Emit { topic, key, events } => {
                    for _ in 0..events {
                        // Beyond the capacity events are accepted in memory only, and the game is held back; see below.
                        if life.queue.has_backlog() {
                            life.keep();
                        }
                        if !life.queue.has_backlog() {
                            life.emit(TOPICS[topic].0, key, emitted.len() as u64);
                            if life.queue.has_backlog() {
                                life.keep();
                            }
                            emitted.push((topic, key));
                        }
                    }
                }
                Step::CreateTopic(topic) => kafka.create(topic),
                Step::Poll => life.poll(),
                Step::Send(fate) => life.send(&mut kafka, fate),
                Step::Kill | Step::KillInWrite => {
                    // What the spool had no room for is in memory only.
                    while life.queue.has_backlog() {
                        kafka.create_missing();
                        life.poll();
                        life.send(&mut kafka, Fate::Acknowledged);
                    }
                    drop(life);
                    if matches!(step, Step::KillInWrite) {
                        tear(dir.path());
                    }
                    life = Life::start(dir.path());
                }
            }
        }
        kafka.create_missing();
        life.deliver(&mut kafka);
        check(&kafka, &emitted)?;
        prop_assert!(list(dir.path()).unwrap().is_empty(), "nothing is kept of what is delivered");
    }
}

#[test]
fn a_full_spool_holds_the_game_back_and_lets_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka::default();
    let mut life = Life::start(dir.path());
    let mut emitted = Vec::new();
    while life.queue.admission().is_open() {
        life.emit("lobby", Some(1), emitted.len() as u64);
        emitted.push((0, Some(1)));
        life.poll();
    }
    let half = CAPACITY_BYTES as usize / 2;
    let bytes = emitted.len() * VALUE_BYTES;
    assert!((half * 9 / 10..=half + VALUE_BYTES).contains(&bytes), "{bytes}");
    // Those who were admitted before may say more, and what is beyond the capacity waits in memory.
    while life.queue.spool_backlog().is_ok() {
        life.emit("lobby", Some(1), emitted.len() as u64);
        emitted.push((0, Some(1)));
    }
    let bytes = emitted.len() * VALUE_BYTES;
    assert!((CAPACITY_BYTES as usize * 9 / 10..=CAPACITY_BYTES as usize + VALUE_BYTES).contains(&bytes), "{bytes}");
    assert_eq!(life.queue.spool_backlog(), Err(Blocked::Full { capacity_bytes: CAPACITY_BYTES }));
    life.poll();
    kafka.topics.insert("lobby".to_owned(), 3);
    for _ in 0..3 {
        life.poll();
        life.send(&mut kafka, Fate::Acknowledged);
    }
    life.keep();
    assert!(life.queue.admission().is_open());
    life.deliver(&mut kafka);
    check(&kafka, &emitted).unwrap();
}

#[test]
fn what_was_sent_past_a_full_spool_at_the_end_hides_nothing_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka { topics: [("lobby".to_owned(), 3)].into(), ..Kafka::default() };
    let mut life = Life::start(dir.path());
    let mut spooled = 0;
    // Far more than it has room for, which wait in memory.
    for number in 0..2_000 {
        life.emit("lobby", Some(number as u8), number);
        if !life.queue.has_backlog() {
            spooled = number + 1;
        }
    }
    assert!(life.queue.spool_backlog().is_err() && spooled > 300, "{spooled}");
    life.queue.bypass_spool();
    life.poll();
    for _ in 0..1000 {
        life.send_each(&mut kafka, |partition| if partition == 0 { Fate::Lost } else { Fate::Acknowledged });
    }
    drop(life);
    Life::start(dir.path()).deliver(&mut kafka);
    let found: BTreeSet<u64> = kafka.records.iter().map(|record| record.number).collect();
    let lost: Vec<_> = (0..spooled).filter(|number| !found.contains(number)).collect();
    assert!(lost.is_empty(), "{} of {spooled} are lost", lost.len());
}

#[test]
fn a_folder_of_a_process_that_lives_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = Life::start(dir.path());
    first.emit("lobby", None, 0);
    let second = Life::start(dir.path());
    assert_eq!(second.spool.left_over(), []);
    drop(first);
    let third = Life::start(dir.path());
    assert_eq!(third.spool.left_over().iter().map(|left| left.events).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_is_damaged_is_set_aside_and_what_is_before_it_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka { topics: [("lobby".to_owned(), 3)].into(), ..Kafka::default() };
    let life = Life::start(dir.path());
    for number in 0..10 {
        life.emit("lobby", Some(1), number);
    }
    drop(life);
    let (_, _, folder) = list(dir.path()).unwrap().pop().unwrap();
    let mut segment = OpenOptions::new().write(true).open(folder.join("00000001.events")).unwrap();
    segment.seek(SeekFrom::Start(6 * VALUE_BYTES as u64)).unwrap();
    segment.write_all(b"damaged").unwrap();
    Life::start(dir.path()).deliver(&mut kafka);
    check(&kafka, &[(0, Some(1)); 5]).unwrap();
    assert!(folder.with_extension("damaged").is_dir(), "it is kept for whoever wants to look");
    assert_eq!(Life::start(dir.path()).spool.left_over(), []);
}

#[test]
fn a_directory_that_is_none_and_a_spool_too_small_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let open = |dir: &Path, capacity_bytes| {
        let config = SpoolConfig { dir: dir.to_owned(), capacity_bytes };
        Spool::open(config, Uuid::new_v4(), BATCHES).unwrap_err().to_string()
    };
    let refused = open(&file, CAPACITY_BYTES);
    assert!(refused.contains("file") && refused.contains("LOGGER_SPOOL_DIR"), "{refused}");
    let small = open(dir.path(), 1000);
    assert!(small.contains("1000 bytes") && small.contains("LOGGER_SPOOL_BYTES"), "{small}");
}

#[test]
fn only_the_owner_reads_what_the_spool_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/spool");
    let mut kafka = Kafka::default();
    kafka.create_missing();
    let life = Life::start(&dir);
    life.emit("lobby", Some(1), 0);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let folder = list(&dir).unwrap().pop().unwrap().2;
    let files = || fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    assert_eq!([mode(&dir), mode(&folder), mode(&dir.join("lock"))], [0o700, 0o700, 0o600]);
    assert_eq!(files().map(|file| mode(&file)).collect::<Vec<_>>(), [0o600; 3]);
    drop(life);
    // What an earlier version let everybody read is taken over as well.
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let life = Life::start(&dir);
    assert_eq!(mode(&folder), 0o700);
    life.deliver(&mut kafka);
    check(&kafka, &[(0, Some(1))]).unwrap();
}

#[test]
fn no_link_is_followed_in_the_spool() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let refused = || {
        let config = SpoolConfig { dir: dir.path().to_owned(), capacity_bytes: CAPACITY_BYTES };
        Spool::open(config, Uuid::new_v4(), BATCHES).unwrap_err().to_string()
    };
    let folder = dir.path().join(format!("00000001-{}", Uuid::new_v4().simple()));
    fs::write(elsewhere.path().join("lock"), "").unwrap();
    symlink(elsewhere.path(), &folder).unwrap();
    assert!(refused().contains("is a link"), "{}", refused());
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("lock"), "").unwrap();
    symlink(elsewhere.path().join("lock"), folder.join("ledger")).unwrap();
    assert!(refused().contains("ledger is a link"), "{}", refused());
    fs::remove_dir_all(&folder).unwrap();
    fs::remove_file(dir.path().join("lock")).unwrap();
    symlink(elsewhere.path().join("lock"), dir.path().join("lock")).unwrap();
    assert!(refused().contains("lock is a link"), "{}", refused());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}
