//! Kafka: client set-up, readiness, topics, partitioner, and group membership.
//!
//! ```text
//! wire ◀── metadata ◀── client (rskafka) ◀── readiness, lag
//!   ▲                                          │
//!   └────── group (membership, commits) ◀──────┘
//! ```
//!
//! Produce requests and offsets go through rskafka's `PartitionClient`; what rskafka lacks (cluster and topic ids, group membership, offset
//! commits, [fetches](fetch) of all that a partition may hold) goes over connections of our own, [`wire::Connection`], with the codecs of
//! kafka-protocol.
//!
//! rskafka has no request timeouts: a call on anything that [`Cluster`] hands out goes through [`within`].

mod backoff;
mod client;
mod config;
mod isolation;
mod lag;
mod metadata;
mod partitioner;
mod retention;
mod topic;

pub mod fetch;
pub mod group;
pub mod readiness;
pub mod wire;

pub use client::{ClientError, Cluster, OffsetAt, within};
pub use config::{ConfigError, KafkaConfig, parse_bootstrap_servers};
pub use isolation::Isolation;
pub use lag::{Lag, LagError, LagMeter, PartitionLag};
pub use metadata::{Advertised, Broker, Metadata, MetadataError, PartitionMetadata, TopicMetadata};
pub use partitioner::{murmur2, partition_for_key};
pub use topic::{TopicPartition, check_topic_name};
