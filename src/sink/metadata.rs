//! What a commit carries beside its offset: which segments it decides on, and what has been seen of each producer.
//!
//! Compact text, because Kafka takes a string of at most [`MAX_BYTES`] by default (`offset.metadata.max.bytes`):
//!
//! ```text
//! superhero/1 s<folder>.<writer>.<generation>.<first>.<next> … p<producer>.<last sequence> …
//! ```
//!
//! Ids are hexadecimal as in file names, producers base64url. When there is no room for everything, producers are left out, the
//! one silent for longest first, and [`encode`] tells how many. A named segment is never left out: [`MAX_NAMED`] of them always
//! have room, and the partition stops before there are more.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use thiserror::Error;

use crate::layout::{FolderId, NamedSegment, WriterId};

/// Kafka's default limit for the metadata of a committed offset.
pub const MAX_BYTES: usize = 4096;

/// So many segments of any spelling have room, with a seventh of the space left for producers.
///
/// Segments wait for their publishing in other folders only when their worker crashed between commit and publishing, so
/// there are about as many as there are hosts that have not come back.
pub const MAX_NAMED: usize = 40;

const PREFIX: &str = "superhero/";
const VERSION: &str = "1";

/// What is to be carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The segments that are committed and may not be published yet.
    pub named: Vec<NamedSegment>,
    /// The last sequence number of each producer, the one heard of most recently last.
    pub last_sequences: Vec<(u128, u64)>,
}

/// What a committed offset came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// It was committed by one of us.
    Ours(Metadata),
    /// Another client of the group committed it, or nobody did: the offset counts, nothing more.
    Foreign,
}

/// The metadata is ours and still cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// A newer release has committed.
    #[error(
        "the offset was committed with metadata of version {version}, this release knows {VERSION}: upgrade this worker"
    )]
    NewerVersion {
        /// What stands where the version is expected.
        version: String,
    },
    /// It begins like ours but does not go on so.
    #[error(
        "the committed offset's metadata has a damaged part {part:?}; commit the offset anew with another client to go on without it"
    )]
    Damaged {
        /// The part.
        part: String,
    },
}

/// What [`encode`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// For the commit; at most [`MAX_BYTES`].
    pub text: String,
    /// How many producers had no room: after a restart a repetition of theirs would not be noticed.
    pub left_out: usize,
}

/// Writes at most [`MAX_BYTES`], leaving out the producers silent for longest.
///
/// # Panics
///
/// If there are more than [`MAX_NAMED`] segments: [`crate::protocol`] stops the partition before that.
pub fn encode(named: &[NamedSegment], last_sequences: &[(u128, u64)]) -> Encoded {
    assert!(named.len() <= MAX_NAMED, "{} named segments, {MAX_NAMED} at most", named.len());
    let mut text = format!("{PREFIX}{VERSION}");
    for NamedSegment { folder, writer, generation, first, next } in named {
        write!(text, " s{folder}.{writer}.{generation}.{first}.{next}").expect("a string takes everything");
    }
    let mut room = MAX_BYTES - text.len();
    let mut parts = Vec::new();
    for (producer, sequence) in last_sequences.iter().rev() {
        let part = format!(" p{}.{sequence}", BASE64_URL_SAFE_NO_PAD.encode(producer.to_be_bytes()));
        match room.checked_sub(part.len()) {
            Some(rest) => room = rest,
            None => break,
        }
        parts.push(part);
    }
    text.extend(parts.iter().rev().map(String::as_str));
    Encoded { text, left_out: last_sequences.len() - parts.len() }
}

/// Reads what any client of the group may have committed.
pub fn decode(text: &str) -> Result<Decoded, MetadataError> {
    let Some(ours) = text.strip_prefix(PREFIX) else { return Ok(Decoded::Foreign) };
    let mut parts = ours.split(' ');
    let version = parts.next().unwrap_or_default();
    if version != VERSION {
        return Err(MetadataError::NewerVersion { version: version.to_owned() });
    }
    let mut metadata = Metadata::default();
    for part in parts {
        if let Some(segment) = part.strip_prefix('s').and_then(decode_segment) {
            metadata.named.push(segment);
        } else if let Some(producer) = part.strip_prefix('p').and_then(decode_producer) {
            metadata.last_sequences.push(producer);
        } else {
            return Err(MetadataError::Damaged { part: part.to_owned() });
        }
    }
    Ok(Decoded::Ours(metadata))
}

fn decode_segment(text: &str) -> Option<NamedSegment> {
    let mut fields = text.split('.');
    let segment = NamedSegment {
        folder: FolderId::parse(fields.next()?).ok()?,
        writer: WriterId::parse(fields.next()?).ok()?,
        generation: fields.next()?.parse().ok()?,
        first: fields.next()?.parse().ok()?,
        next: fields.next()?.parse().ok()?,
    };
    (fields.next().is_none() && 0 <= segment.generation && 0 <= segment.first && segment.first < segment.next)
        .then_some(segment)
}

fn decode_producer(text: &str) -> Option<(u128, u64)> {
    let (producer, sequence) = text.split_once('.')?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(producer).ok()?;
    Some((u128::from_be_bytes(bytes.try_into().ok()?), sequence.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, proptest};

    fn named() -> impl Strategy<Value = NamedSegment> {
        (any::<u64>(), any::<u64>(), 0..i32::MAX, 0..i64::MAX, 1..i64::MAX).prop_map(
            |(folder, writer, generation, first, length)| NamedSegment {
                folder: FolderId(folder),
                writer: WriterId(writer),
                generation,
                first,
                next: first.saturating_add(length),
            },
        )
    }

    proptest! {
        #[test]
        fn everything_that_has_room_is_read_back_and_the_most_recent_producers_have_it(
            named in prop::collection::vec(named(), 0..=MAX_NAMED),
            last_sequences in prop::collection::vec(any::<(u128, u64)>(), 0..200),
        ) {
            let Encoded { text, left_out } = encode(&named, &last_sequences);
            assert!(text.len() <= MAX_BYTES && text.is_ascii());
            let kept = last_sequences[left_out..].to_vec();
            assert!(left_out == 0 || text.len() > MAX_BYTES - 45, "{left_out} left out of {} bytes", text.len());
            assert_eq!(decode(&text).unwrap(), Decoded::Ours(Metadata { named, last_sequences: kept }));
        }

        #[test]
        fn what_others_commit_never_panics(text in "\\PC{0,60}|superhero/1[ sp.0-9a-f]{0,60}") {
            let decoded = decode(&text);
            if !text.starts_with("superhero/") {
                assert_eq!(decoded, Ok(Decoded::Foreign));
            }
        }
    }

    #[test]
    fn the_text_is_this() {
        let segment = NamedSegment { folder: FolderId(0xf), writer: WriterId(0xa), generation: 3, first: 10, next: 20 };
        let Encoded { text, left_out } = encode(&[segment], &[(1, 5), (u128::MAX, 0)]);
        assert_eq!(
            text,
            "superhero/1 s000000000000000f.000000000000000a.3.10.20 pAAAAAAAAAAAAAAAAAAAAAQ.5 p_____________________w.0"
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn the_longest_segments_all_have_room() {
        let widest = NamedSegment {
            folder: FolderId(u64::MAX),
            writer: WriterId(u64::MAX),
            generation: i32::MAX,
            first: i64::MAX - 1,
            next: i64::MAX,
        };
        let Encoded { text, left_out } = encode(&[widest; MAX_NAMED], &[(u128::MAX, u64::MAX); 100]);
        assert!(text.len() <= MAX_BYTES);
        assert!(100 - left_out >= 10, "{left_out} of 100 producers left out");
    }

    #[test]
    fn empty_and_foreign_metadata_is_nothing_and_a_newer_version_is_an_error() {
        for text in ["", "consumer-1", "{\"superhero\":1}", "superhero", "Superhero/1 s"] {
            assert_eq!(decode(text), Ok(Decoded::Foreign), "{text}");
        }
        assert_eq!(decode("superhero/2 whatever"), Err(MetadataError::NewerVersion { version: "2".into() }));
        assert_eq!(decode("superhero/1 x"), Err(MetadataError::Damaged { part: "x".into() }));
        for part in
            ["s0", "p0", "s000000000000000f.000000000000000a.3.20.10", "s000000000000000f.000000000000000a.-3.1.2"]
        {
            assert_eq!(decode(&format!("superhero/1 {part}")), Err(MetadataError::Damaged { part: part.into() }));
        }
    }
}
