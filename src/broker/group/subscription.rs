//! What a consumer tells its leader, as far as the broker looks into it: the topics.

use std::collections::BTreeSet;

/// The protocol type under which consumers of all languages share groups.
pub(super) const CONSUMER: &str = "consumer";

/// The topics of a subscription of any version; none if the bytes are not one.
///
/// Every version begins with its number (int16) and the topics: `ConsumerProtocolSubscription.json` of Apache Kafka.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<&str>> {
    let (version, rest) = metadata.split_first_chunk()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (length, behind) = rest.split_first_chunk()?;
        let (name, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
        topics.insert(std::str::from_utf8(name).ok()?);
        rest = behind;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_stand_in_front_of_what_newer_versions_add() {
        for (metadata, expected) in [
            (&b"\0\0\0\0\0\x02\0\x01a\0\x01b\xff\xff\xff\xff"[..], Some(vec!["a", "b"])),
            (b"\0\x03\0\0\0\x01\0\x01a\0\0\0\0\0\0\0\0\0\0\0\x07\0\x01r", Some(vec!["a"])),
            (b"\0\0\0\0\0\0\xff\xff\xff\xff", Some(vec![])),
            (b"\xff\xff\0\0\0\0", None),
            (b"\0\0\x7f\xff\xff\xff", None),
            (b"\0\0\xff\xff\xff\xff", None),
            (b"\0\0\0\0\0\x01\0\x09a", None),
            (b"\0\0\0\0\0\x01\0\x01\xff", None),
            (b"", None),
        ] {
            assert_eq!(topics(metadata).map(Vec::from_iter), expected, "{metadata:?}");
        }
    }
}
