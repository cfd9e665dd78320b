//! One event as it lies in a segment.
//!
//! ```text
//! u32 length of all behind the checksum · u32 CRC-32C of it
//! i64 timestamp in ms · u32 bytes of the topic · u32 bytes of the key, or u32::MAX for none · topic · key · value
//! ```
//!
//! Little-endian. An entry is written with one call, so that what a process was killed over is at most the last one, which
//! nobody was told had been taken.

use superhero_text::append;

use crate::chunk::{Event, MAX_EVENT_BYTES};

/// The length and the checksum.
const PREFIX_BYTES: usize = 8;
/// Timestamp, and the lengths of topic and key.
const HEAD_BYTES: usize = 16;
const NO_KEY: u32 = u32::MAX;

/// Writes an entry behind what `out` holds.
pub(super) fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    // No event is larger than `MAX_EVENT_BYTES`, so lengths fit.
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    out.extend_from_slice(&event.timestamp_ms.to_le_bytes());
    out.extend_from_slice(&(event.topic.len() as u32).to_le_bytes());
    out.extend_from_slice(&event.key.map_or(NO_KEY, |key| key.len() as u32).to_le_bytes());
    append(out, event.topic.as_bytes());
    append(out, event.key.unwrap_or_default());
    append(out, event.value);
    let body = start + PREFIX_BYTES;
    let (length, checksum) = ((out.len() - body) as u32, crc32c::crc32c(&out[body..]));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
}

/// The bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// They end before the entry does.
    CutOff,
    /// They are not what was written.
    Damaged,
}

/// Takes the first entry off `bytes`; `None` at their end.
pub(super) fn decode<'a>(bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Broken> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut rest = *bytes;
    let length = take_u32(&mut rest).ok_or(Broken::CutOff)? as usize;
    let checksum = take_u32(&mut rest).ok_or(Broken::CutOff)?;
    if length > HEAD_BYTES + MAX_EVENT_BYTES {
        return Err(Broken::Damaged);
    }
    let (body, left) = rest.split_at_checked(length).ok_or(Broken::CutOff)?;
    if crc32c::crc32c(body) != checksum {
        return Err(Broken::Damaged);
    }
    let event = event(body).ok_or(Broken::Damaged)?;
    *bytes = left;
    Ok(Some(event))
}

fn event(mut body: &[u8]) -> Option<Event<'_>> {
    let timestamp_ms = i64::from_le_bytes(take::<8>(&mut body)?);
    let topic_bytes = take_u32(&mut body)? as usize;
    let key_bytes = take_u32(&mut body)?;
    let (topic, rest) = body.split_at_checked(topic_bytes)?;
    let (key, value) = match key_bytes {
        NO_KEY => (None, rest),
        bytes => rest.split_at_checked(bytes as usize).map(|(key, value)| (Some(key), value))?,
    };
    Some(Event { topic: std::str::from_utf8(topic).ok()?, key, value, timestamp_ms })
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take::<4>(bytes).map(u32::from_le_bytes)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_comes_back_and_nothing_of_what_was_cut_off(
            topic in ".{0,20}",
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            value in prop::collection::vec(any::<u8>(), 0..200),
            timestamp_ms: i64,
            cut: prop::sample::Index,
        ) {
            let event = Event { topic: &topic, key: key.as_deref(), value: &value, timestamp_ms };
            let mut bytes = Vec::new();
            encode(&event, &mut bytes);
            let once = bytes.len();
            encode(&event, &mut bytes);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(decode(&mut rest), Ok(Some(event)));
            prop_assert_eq!(decode(&mut rest), Ok(Some(event)));
            prop_assert_eq!(decode(&mut rest), Ok(None));
            let kept = cut.index(once);
            prop_assert_eq!(decode(&mut &bytes[..kept]), if kept == 0 { Ok(None) } else { Err(Broken::CutOff) });
        }

        #[test]
        fn a_changed_byte_is_seen_and_any_bytes_are_read(
            value in prop::collection::vec(any::<u8>(), 0..60),
            place: prop::sample::Index,
            change in 1_u8..,
            any in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = Vec::new();
            encode(&Event { topic: "t", key: None, value: &value, timestamp_ms: 7 }, &mut bytes);
            let place = place.index(bytes.len());
            bytes[place] ^= change;
            prop_assert!(decode(&mut bytes.as_slice()).is_err());
            let _ = decode(&mut any.as_slice());
        }
    }
}
