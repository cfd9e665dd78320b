//! What members tell each other through the broker, which does not look into it: subscriptions and assignments.
//!
//! Each begins with a version (int16); what a newer version has stands behind what an older one has, so reading the
//! front of any version is enough. Written is version 0, which every client reads. Decoded by hand, since the bytes come
//! from other clients, and kafka-protocol allocates what a length claims before it has looked at how much is there.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::TopicPartition;

const VERSION: i16 = 0;
/// As brokers have it. Each partition of an assignment names its topic in memory, and but once on the wire.
const MAX_NAME_BYTES: usize = 249;
/// Far above what a member could read, and some 30 MB in memory.
const MAX_ASSIGNED_PARTITIONS: usize = 100_000;
/// The length of a byte string that is null.
const NULL: i32 = -1;

/// The bytes of another member that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("it ends too early")]
    Truncated,
    #[error("it has version {0}, which cannot be")]
    Version(i16),
    #[error("it has a negative length {0}")]
    Length(i32),
    #[error("a topic's name is not UTF-8")]
    Name,
    #[error("a topic's name has {bytes} bytes, and {MAX_NAME_BYTES} are the limit")]
    LongName { bytes: usize },
    #[error("it has partition {0}, which cannot be")]
    Partition(i32),
    #[error("it has more than {MAX_ASSIGNED_PARTITIONS} partitions")]
    TooMany,
}

/// The topics that a member wants partitions of.
pub(crate) fn encode_subscription(topics: &[String]) -> Bytes {
    let mut sorted: Vec<&String> = topics.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut blob = BytesMut::new();
    blob.put_i16(VERSION);
    blob.put_i32(sorted.len() as i32);
    for topic in sorted {
        put_name(&mut blob, topic);
    }
    blob.put_i32(NULL);
    blob.freeze()
}

pub(crate) fn decode_subscription(mut blob: &[u8]) -> Result<Vec<String>, BlobError> {
    take_version(&mut blob)?;
    let mut topics = Vec::new();
    for _ in 0..take_length(&mut blob)? {
        topics.push(take_name(&mut blob)?);
    }
    Ok(topics)
}

/// The partitions that the leader gives to a member, which are sorted.
pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for p in partitions {
        by_topic.entry(&p.topic).or_default().push(p.partition);
    }
    let mut blob = BytesMut::new();
    blob.put_i16(VERSION);
    blob.put_i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        put_name(&mut blob, topic);
        blob.put_i32(partitions.len() as i32);
        partitions.into_iter().for_each(|p| blob.put_i32(p));
    }
    blob.put_i32(NULL);
    blob.freeze()
}

/// Sorted, each once. An empty blob is an empty assignment: a broker gives it to a member that the leader forgot.
pub(crate) fn decode_assignment(mut blob: &[u8]) -> Result<Vec<TopicPartition>, BlobError> {
    if blob.is_empty() {
        return Ok(Vec::new());
    }
    take_version(&mut blob)?;
    let mut partitions = Vec::new();
    for _ in 0..take_length(&mut blob)? {
        let topic = take_name(&mut blob)?;
        for _ in 0..take_length(&mut blob)? {
            let partition = blob.try_get_i32().map_err(|_| BlobError::Truncated)?;
            if partition < 0 {
                return Err(BlobError::Partition(partition));
            }
            if partitions.len() == MAX_ASSIGNED_PARTITIONS {
                return Err(BlobError::TooMany);
            }
            partitions.push(TopicPartition::new(topic.clone(), partition));
        }
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

fn put_name(blob: &mut BytesMut, name: &str) {
    // At most MAX_NAME_BYTES.
    blob.put_i16(name.len() as i16);
    blob.put_slice(name.as_bytes());
}

fn take_version(blob: &mut &[u8]) -> Result<(), BlobError> {
    match blob.try_get_i16().map_err(|_| BlobError::Truncated)? {
        version if version < 0 => Err(BlobError::Version(version)),
        _ => Ok(()),
    }
}

fn take_length(blob: &mut &[u8]) -> Result<i32, BlobError> {
    match blob.try_get_i32().map_err(|_| BlobError::Truncated)? {
        length if length < 0 => Err(BlobError::Length(length)),
        length => Ok(length),
    }
}

fn take_name(blob: &mut &[u8]) -> Result<String, BlobError> {
    let length = blob.try_get_i16().map_err(|_| BlobError::Truncated)?;
    let length = usize::try_from(length).map_err(|_| BlobError::Length(length.into()))?;
    if length > MAX_NAME_BYTES {
        return Err(BlobError::LongName { bytes: length });
    }
    let (name, rest) = blob.split_at_checked(length).ok_or(BlobError::Truncated)?;
    *blob = rest;
    String::from_utf8(name.to_vec()).map_err(|_| BlobError::Name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn partitions(list: &[(&str, i32)]) -> Vec<TopicPartition> {
        list.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
    }

    /// `ConsumerProtocol.serializeSubscription` of kafka-clients 4.3.1, version 0.
    const SUBSCRIPTION: &str =
        "000000000002000f636c69656e742e5f5f6d61696e5f5f00106c69622e7365727665722e6c6f626279ffffffff";
    /// `ConsumerProtocol.serializeAssignment` of kafka-clients 4.3.1, version 0: a/0, a/2, b/1.
    const ASSIGNMENT: &str = "0000000000020001610000000200000000000000020001620000000100000001ffffffff";

    #[test]
    fn a_subscription_has_the_bytes_of_the_java_client() {
        let topics = ["lib.server.lobby", "client.__main__", "lib.server.lobby"].map(str::to_owned);
        assert_eq!(encode_subscription(&topics), bytes(SUBSCRIPTION));
    }

    #[test]
    fn an_assignment_has_the_bytes_of_the_java_client() {
        assert_eq!(encode_assignment(&partitions(&[("a", 0), ("a", 2), ("b", 1)])), bytes(ASSIGNMENT));
        assert_eq!(encode_assignment(&[]), bytes("000000000000ffffffff"));
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        for (blob, expected) in [
            (SUBSCRIPTION, ["client.__main__", "lib.server.lobby"]),
            // Version 1 of the Java client: owned partitions behind.
            (
                "000100000002000f636c69656e742e5f5f6d61696e5f5f00106c69622e7365727665722e6c6f626279ffffffff00000000",
                ["client.__main__", "lib.server.lobby"],
            ),
            // Version 3 of the Java client, with user data, an owned partition, a generation and a rack.
            ("0003000000020001610001620000000201020000000100016100000001000000010000000500027231", ["a", "b"]),
            // Version 0 of aiokafka: empty user data.
            (
                "000000000002000f636c69656e742e5f5f6d61696e5f5f00106c69622e7365727665722e6c6f62627900000000",
                ["client.__main__", "lib.server.lobby"],
            ),
        ] {
            assert_eq!(decode_subscription(&bytes(blob)).unwrap(), expected, "{blob}");
        }
    }

    #[test]
    fn assignments_of_every_version_are_read() {
        let expected = partitions(&[("a", 0), ("a", 2), ("b", 1)]);
        for version in ["0000", "0001", "0003"] {
            let blob = bytes(&format!("{version}{}", &ASSIGNMENT[4..]));
            assert_eq!(decode_assignment(&blob).unwrap(), expected, "version {version}");
        }
        assert_eq!(decode_assignment(&[]).unwrap(), []);
    }

    #[test]
    fn a_length_that_claims_more_than_there_is_allocates_nothing() {
        assert_eq!(decode_subscription(&bytes("00007fffffff")), Err(BlobError::Truncated));
        assert_eq!(decode_subscription(&bytes("0000ffffffff")), Err(BlobError::Length(-1)));
        assert_eq!(decode_subscription(&bytes("00000000000100f961")), Err(BlobError::Truncated));
        assert_eq!(decode_subscription(&bytes("0000000000010001ff")), Err(BlobError::Name));
        assert_eq!(decode_assignment(&bytes("00000000000100016100ffffff")), Err(BlobError::Truncated));
        assert_eq!(decode_assignment(&bytes("ffff")), Err(BlobError::Version(-1)));
    }

    /// An assignment of `count` times `partition` of a topic.
    fn repeated(topic: &str, partition: i32, count: usize) -> Vec<u8> {
        let mut blob = BytesMut::from(&bytes("000000000001")[..]);
        put_name(&mut blob, topic);
        blob.put_i32(count as i32);
        (0..count).for_each(|_| blob.put_i32(partition));
        blob.to_vec()
    }

    #[test]
    fn an_assignment_takes_no_more_memory_than_a_member_could_need() {
        // 4 bytes on the wire would each become 32 KiB.
        let long = "a".repeat(i16::MAX as usize);
        assert_eq!(decode_assignment(&repeated(&long, 0, 9)), Err(BlobError::LongName { bytes: long.len() }));
        assert_eq!(decode_assignment(&repeated("a", 0, MAX_ASSIGNED_PARTITIONS + 1)), Err(BlobError::TooMany));
        assert_eq!(decode_assignment(&repeated("a", 7, MAX_ASSIGNED_PARTITIONS)), Ok(partitions(&[("a", 7)])));
    }

    #[test]
    fn a_partition_that_cannot_be_is_named() {
        assert_eq!(decode_assignment(&repeated("a", -5, 1)), Err(BlobError::Partition(-5)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topics in prop::collection::btree_map("[a-z.]{1,20}", prop::collection::btree_set(0..100, 1..9), 0..9)
        ) {
            let names: Vec<String> = topics.keys().cloned().collect();
            prop_assert_eq!(&decode_subscription(&encode_subscription(&names)).unwrap(), &names);
            let dealt: Vec<TopicPartition> =
                topics.iter().flat_map(|(t, ps)| ps.iter().map(|p| TopicPartition::new(t.clone(), *p))).collect();
            prop_assert_eq!(decode_assignment(&encode_assignment(&dealt)).unwrap(), dealt);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            blob: Vec<u8>,
            valid in prop::sample::select(&[SUBSCRIPTION, ASSIGNMENT][..]),
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0x7f)]), 0..4,
            ),
            length in any::<prop::sample::Index>(),
        ) {
            let mut changed = bytes(valid);
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            for blob in [&blob[..], &changed, &changed[..length.index(changed.len())]] {
                if let Ok(topics) = decode_subscription(blob) {
                    prop_assert!(topics.len() * size_of::<i16>() <= blob.len());
                }
                if let Ok(partitions) = decode_assignment(blob) {
                    prop_assert!(partitions.len() * size_of::<i32>() <= blob.len());
                    prop_assert!(partitions.is_sorted_by(|a, b| a < b), "{partitions:?}");
                    prop_assert!(partitions.iter().all(|p| p.partition >= 0), "{partitions:?}");
                }
            }
        }
    }
}
