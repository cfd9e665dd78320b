//! What goes wrong, when, and for how long: drawn from a seed, so that a run can be had again.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// How often each fault comes at least.
pub const AT_LEAST: usize = 2;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal on $lane:ident for $from:literal..=$to:literal),* $(,)?) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $fault),*
        }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$fault),*];

            /// As it is chosen and told.
            pub fn name(self) -> &'static str {
                match self { $(Self::$fault => $name),* }
            }

            fn lane(self) -> Lane {
                match self { $(Self::$fault => Lane::$lane),* }
            }

            /// How long it lasts, in milliseconds.
            fn lasts(self) -> RangeInclusive<u64> {
                match self { $(Self::$fault => $from..=$to),* }
            }
        }
    };
}

faults! {
    /// A worker is killed, and started again.
    KillWorker = "kill-worker" on Workers for 200..=6_000,
    /// A worker stands still until its session is over, and goes on as if nothing had been.
    Zombie = "zombie" on Workers for 5_500..=8_000,
    /// One more worker joins, and leaves.
    JoinWorker = "join-worker" on Workers for 2_000..=7_000,
    /// A worker is asked to stop, and started again.
    LeaveWorker = "leave-worker" on Workers for 500..=4_000,
    /// Records are deleted before the workers, who stand still, have read them.
    Retention = "retention" on Workers for 100..=300,
    /// The disk of a worker's folder is full.
    DiskFull = "disk-full" on Workers for 2_000..=6_000,
    /// A worker can open no file.
    NoDescriptors = "no-descriptors" on Workers for 2_000..=6_000,
    /// A server is killed, and started again.
    KillServer = "kill-server" on Servers for 200..=3_000,
    /// A server is asked to stop at full load, and started again.
    RestartServer = "restart-server" on Servers for 10_000..=11_000,
    /// The bots of one process are killed, and others come.
    KillBots = "kill-bots" on Bots for 200..=2_000,
    /// A broker is killed, and started again.
    KillBroker = "kill-broker" on Brokers for 500..=8_000,
    /// A broker stands still.
    FreezeBroker = "freeze-broker" on Brokers for 1_000..=10_000,
    /// A broker is asked to stop, and started again.
    RestartBroker = "restart-broker" on Brokers for 4_000..=8_000,
    /// The leader of a partition is killed, and started again.
    KillLeader = "kill-leader" on Brokers for 500..=8_000,
    /// Two brokers of three are killed, and started again.
    KillTwoBrokers = "kill-two-brokers" on Brokers for 1_000..=8_000,
    /// The group's offsets are led by another broker.
    MoveCoordinator = "move-coordinator" on Cluster for 500..=2_000,
    /// The leaders of a topic move, and a broker tells of those before.
    OldView = "old-view" on Cluster for 3_000..=8_000,
    /// Brokers let producers and consumers wait: a quota.
    Throttle = "throttle" on Cluster for 2_000..=8_000,
    /// Redis is killed, and started again.
    KillRedis = "kill-redis" on Redis for 100..=3_000,
    /// The servers' connections to Kafka are cut.
    CutServers = "cut-servers" on Network for 100..=200,
    /// The workers' connections to Kafka are cut.
    CutWorkers = "cut-workers" on Network for 100..=200,
    /// Every frame comes late.
    Delay = "delay" on Network for 2_000..=6_000,
    /// Nothing comes, and nobody is told.
    HalfOpen = "half-open" on Network for 1_000..=6_000,
    /// Batches are appended, and the acknowledgement is lost.
    LoseAcknowledgements = "lose-acknowledgements" on Network for 2_000..=4_000,
    /// Offsets are committed, and the answer is lost.
    LoseCommitAnswers = "lose-commit-answers" on Network for 2_000..=6_000,
    /// Records of others: no JSON, no key, no value, 1 MiB, compressed with lz4 and zstd.
    ForeignRecords = "foreign-records" on Others for 100..=200,
    /// A topic gets another partition.
    GrowTopic = "grow-topic" on Others for 100..=200,
    /// The clock of a server and of a worker jumps.
    ClockJump = "clock-jump" on Clock for 1_000..=6_000,
}

impl Fault {
    /// Whether the two never come at the same time.
    pub fn shares_lane(self, other: Self) -> bool {
        self.lane() == other.lane()
    }
}

/// Faults of one lane come one after the other; those of different lanes at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Workers,
    Servers,
    Bots,
    Brokers,
    Cluster,
    Redis,
    Network,
    Others,
    Clock,
}

impl Lane {
    const ALL: [Self; 9] = [
        Self::Workers,
        Self::Servers,
        Self::Bots,
        Self::Brokers,
        Self::Cluster,
        Self::Redis,
        Self::Network,
        Self::Others,
        Self::Clock,
    ];

    /// The time from one fault to the next, where there is time enough.
    fn pace(self) -> Duration {
        Duration::from_secs(match self {
            Self::Workers | Self::Network => 12,
            Self::Brokers => 18,
            Self::Servers | Self::Cluster | Self::Others => 22,
            Self::Clock => 30,
            Self::Bots | Self::Redis => 45,
        })
    }
}

impl std::str::FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let all: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
        let found = Self::ALL.iter().find(|fault| fault.name() == name).copied();
        found.with_context(|| format!("{name:?} is no fault; there are {}", all.join(", ")))
    }
}

/// A fault at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    pub fault: Fault,
    /// After the start.
    pub at: Duration,
    pub lasts: Duration,
    /// Chooses among those whom it can hit.
    pub pick: u64,
}

/// Faults for so long a time, in the order of their times; each comes twice at least.
pub fn plan(seed: u64, length: Duration, faults: &[Fault], lasting: Option<Duration>) -> Vec<Injection> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for lane in Lane::ALL {
        let kinds: Vec<_> = faults.iter().copied().filter(|fault| fault.lane() == lane).collect();
        if kinds.is_empty() {
            continue;
        }
        let pace = lane.pace().max(lasting.unwrap_or_default() * 3 / 2);
        let fitting = (length.as_millis() / pace.as_millis()) as usize;
        // Whole rounds of all kinds, so that each comes about as often as the others.
        let rounds = fitting.div_ceil(kinds.len()).max(AT_LEAST);
        let slot = length / (rounds * kinds.len()) as u32;
        for round in 0..rounds {
            let mut order = kinds.clone();
            order.shuffle(&mut random);
            for (place, fault) in order.into_iter().enumerate() {
                let begin = slot * (round * kinds.len() + place) as u32;
                let lasts = lasting.unwrap_or_else(|| Duration::from_millis(random.random_range(fault.lasts())));
                let at = begin + slot.mul_f64(random.random_range(0.0..0.25));
                all.push(Injection { fault, at, lasts: lasts.min(slot.mul_f64(0.7)), pick: random.random() });
            }
        }
    }
    all.sort_by_key(|injection| injection.at);
    all
}
