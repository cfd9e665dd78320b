//! What a broker is told at its start: every bound of what it holds and takes.

use thiserror::Error;

use crate::GroupLimits;

/// The settings of a broker. [`Default`] suits one process on one machine.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Partitions of a topic that is made without a number of its own: enough for a few consumers to share.
    pub default_partitions: i32,
    /// Whether a topic is made when a client asks for its metadata, as in Kafka.
    pub auto_create_topics: bool,
    /// What one partition may take in memory, in bytes, each batch counted with what is around it; above it, its oldest segments
    /// go. The topic's `retention.bytes` takes its place.
    pub retention_bytes: usize,
    /// The size at which a segment ends and the next begins, in bytes: what retention takes away at once. The topic's
    /// `segment.bytes` takes its place.
    pub segment_bytes: usize,
    /// What all partitions together may take in memory, in bytes; above it, the largest partition loses its oldest segment.
    pub max_log_bytes: usize,
    /// How many partitions all topics have together: each costs memory, and metadata answers name them all.
    pub max_partitions: usize,
    /// The largest batch of records that is taken, in bytes, as Kafka counts it: with its header, compressed. The topic's
    /// `max.message.bytes` takes its place.
    pub max_batch_bytes: usize,
    /// The largest request, in bytes. Clients gather batches of many partitions into one Produce.
    pub max_frame_bytes: usize,
    /// The records of one answer to a fetch, in bytes, whatever the client allows: each connection may hold such an answer while it
    /// is written. A first batch goes out even if it is larger.
    pub max_fetch_bytes: usize,
    /// What all connections together may take in memory for requests that come in and answers that wait to go out, in bytes, beside
    /// some 100 KiB of each. Where it is exhausted, the connection goes first that has moved nothing for longest, and the others wait for it.
    pub max_transit_bytes: usize,
    /// Connections at a time; one more is closed as soon as it is there.
    pub max_connections: usize,
    /// What groups and their members may be.
    pub groups: GroupLimits,
    /// The host and port that clients are told to connect to. None: the listener's own address.
    pub advertised: Option<(String, u16)>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            default_partitions: 4,
            auto_create_topics: true,
            retention_bytes: 64 * 1024 * 1024,
            segment_bytes: 1024 * 1024,
            max_log_bytes: 1024 * 1024 * 1024,
            max_partitions: 10_000,
            // Kafka's own default: 1 MiB and the header of a log entry.
            max_batch_bytes: 1_048_588,
            max_frame_bytes: 16 * 1024 * 1024,
            max_fetch_bytes: 4 * 1024 * 1024,
            max_transit_bytes: 256 * 1024 * 1024,
            max_connections: 1000,
            groups: GroupLimits::default(),
            advertised: None,
        }
    }
}

impl BrokerConfig {
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let positive = [
            ("default_partitions", usize::try_from(self.default_partitions).unwrap_or(0)),
            ("retention_bytes", self.retention_bytes),
            ("segment_bytes", self.segment_bytes),
            ("max_log_bytes", self.max_log_bytes),
            ("max_partitions", self.max_partitions),
            ("max_batch_bytes", self.max_batch_bytes),
            ("max_frame_bytes", self.max_frame_bytes),
            ("max_fetch_bytes", self.max_fetch_bytes),
            ("max_transit_bytes", self.max_transit_bytes),
            ("max_connections", self.max_connections),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(BrokerError::Config { field }),
            None if self.max_transit_bytes < 2 * self.max_frame_bytes.max(self.max_fetch_bytes) => {
                let (transit, frame) = (self.max_transit_bytes, self.max_frame_bytes.max(self.max_fetch_bytes));
                Err(BrokerError::Transit { transit, frame })
            }
            None => Ok(()),
        }
    }
}

/// Why a broker does not start, or ends by itself.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// A bound that leaves no room for anything.
    #[error("the broker's {field} must be above 0")]
    Config {
        /// The field of [`BrokerConfig`].
        field: &'static str,
    },
    /// A budget that a few requests exhaust.
    #[error(
        "the broker's max_transit_bytes of {transit} must be twice its largest request or answer of {frame} bytes, or more"
    )]
    Transit {
        /// [`BrokerConfig::max_transit_bytes`].
        transit: usize,
        /// The larger one of [`BrokerConfig::max_frame_bytes`] and [`BrokerConfig::max_fetch_bytes`].
        frame: usize,
    },
    /// The listener does not tell its address, so there is nothing to advertise.
    #[error("the broker's listener has no address: {source}; bind it before the broker starts")]
    Listener {
        /// What the system says.
        source: std::io::Error,
    },
}
