//! Which partition a record goes to: the choice of the Java client's default partitioner, so that any client agrees.

/// Kafka's murmur2, the 32-bit hash that its Java client applies to a serialised key.
///
/// ```
/// assert_eq!(superhero_kafka::murmur2(b"foobar"), -790_332_482);
/// ```
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java hashes the length as an int; a longer key than that cannot be a Kafka key.
    let mut h = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    h.cast_signed()
}

/// The partition of a record with `key` in a topic of `partitions` partitions.
///
/// A record without a key has no partition of its own: `None` takes the next of the caller's `round_robin`, which
/// counts up by one each time.
///
/// # Panics
///
/// When `partitions` is not positive; a topic always has one.
pub fn partition_for_key(key: Option<&[u8]>, partitions: i32, round_robin: &mut u32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition, got {partitions}");
    match key {
        Some(key) => (murmur2(key) & 0x7fff_ffff) % partitions,
        None => {
            let turn = *round_robin;
            *round_robin = turn.wrapping_add(1);
            // The remainder is below `partitions`, so it fits.
            (turn % partitions.cast_unsigned()).cast_signed()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vectors of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit_before_the_remainder() {
        let mut turn = 0;
        assert_eq!(partition_for_key(Some(b"21"), 4, &mut turn), (-973_932_308_i32 & 0x7fff_ffff) % 4);
        assert_eq!(turn, 0, "a keyed record takes no turn");
    }

    #[test]
    fn records_without_a_key_go_round() {
        let mut turn = u32::MAX - 1;
        let chosen: Vec<i32> = (0..4).map(|_| partition_for_key(None, 3, &mut turn)).collect();
        assert_eq!(chosen, [2, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn a_key_always_has_the_same_existing_partition(key: Vec<u8>, partitions in 1..i32::MAX) {
            let mut turn = 7;
            let chosen = partition_for_key(Some(&key), partitions, &mut turn);
            prop_assert!((0..partitions).contains(&chosen));
            prop_assert_eq!(chosen, partition_for_key(Some(&key), partitions, &mut turn));
        }
    }
}
