//! What is drawn from a seed: a number for each thing that is chosen, whatever else was chosen before it.

/// A seed of its own for the draw that `parts` name, the same for the same seed and parts.
///
/// One stream of draws would change with everything that is repeated or left out; this does not.
pub fn derive_seed(seed: u64, parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(mixed(seed), |seed, part| mixed(seed ^ part))
}

/// One step of SplitMix64, which spreads neighbouring numbers over all 64 bits (<https://prng.di.unimi.it/splitmix64.c>).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_seed_and_each_part_counts_and_so_does_their_order() {
        assert_eq!(derive_seed(7, [1, 2]), derive_seed(7, [1, 2]));
        let drawn: BTreeSet<_> =
            [(7, vec![]), (8, vec![]), (7, vec![1]), (7, vec![1, 2]), (7, vec![2, 1]), (8, vec![1, 2])]
                .map(|(seed, parts)| derive_seed(seed, parts))
                .into();
        assert_eq!(drawn.len(), 6);
    }
}
