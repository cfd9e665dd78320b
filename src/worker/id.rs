//! Who produced a record as its how-manieth, and whether that counts where the record stands.

use superhero_event::header;
use superhero_kafka::fetch::Headers;
use superhero_kafka::{TopicPartition, check_topic_name};

/// The headers of our own producers, as they were sent, and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordId<'a> {
    pub(crate) producer_text: &'a [u8],
    pub(crate) sequence_text: &'a [u8],
    /// The partition that the record was counted for, if that is another: then it is a copy.
    pub(crate) copied_from: Option<&'a [u8]>,
    number: Number,
}

/// A number of a producer, new at each start of a transport, which counts the records of each partition from 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) producer: u128,
    pub(crate) sequence: u64,
}

impl RecordId<'_> {
    /// The number, if it counts in this partition.
    pub(crate) fn number(&self) -> Option<Number> {
        self.copied_from.is_none().then_some(self.number)
    }
}

/// Length of a producer id in hexadecimal digits.
const PRODUCER_DIGITS: usize = 32;

/// Tells records of our own producers, of which the next is mostly the same as the one before.
#[derive(Debug)]
pub(crate) struct Ids {
    /// The partition, as a header names it.
    here: Vec<u8>,
    latest: Option<([u8; PRODUCER_DIGITS], u128)>,
}

impl Ids {
    /// For the records of one partition.
    pub(crate) fn new(partition: &TopicPartition) -> Self {
        Self { here: partition.to_string().into_bytes(), latest: None }
    }

    /// Reads the headers; `None` for anything but the one spelling that our transport writes, since it is then another's record.
    /// That of earlier versions did not tell the partition.
    pub(crate) fn identify<'a>(&mut self, headers: &'a Headers) -> Option<RecordId<'a>> {
        let (mut producer, mut sequence, mut place) = (None, None, None);
        for (name, value) in headers.iter() {
            let known = match name {
                _ if name == header::PRODUCER.as_bytes() => &mut producer,
                _ if name == header::SEQUENCE.as_bytes() => &mut sequence,
                _ if name == header::PLACE.as_bytes() => &mut place,
                _ => continue,
            };
            *known = Some(value);
        }
        let (producer_text, sequence_text) = producer.zip(sequence)?;
        let copied_from = place.filter(|place| *place != self.here);
        if copied_from.is_some_and(|place| !is_place(place)) {
            return None;
        }
        let number = Number { producer: self.producer(producer_text)?, sequence: parse_sequence(sequence_text)? };
        Some(RecordId { producer_text, sequence_text, copied_from, number })
    }

    fn producer(&mut self, digits: &[u8]) -> Option<u128> {
        let digits: &[u8; PRODUCER_DIGITS] = digits.try_into().ok()?;
        match self.latest {
            Some((latest, id)) if latest == *digits => Some(id),
            _ => {
                let id = parse_producer(digits)?;
                self.latest = Some((*digits, id));
                Some(id)
            }
        }
    }
}

/// Whether this is `<topic>/<partition>`.
fn is_place(text: &[u8]) -> bool {
    let place = std::str::from_utf8(text).ok().and_then(|text| text.rsplit_once('/'));
    place.is_some_and(|(topic, partition)| {
        check_topic_name(topic).is_ok()
            && parse_sequence(partition.as_bytes()).is_some_and(|n| i32::try_from(n).is_ok())
    })
}

fn parse_producer(digits: &[u8; PRODUCER_DIGITS]) -> Option<u128> {
    digits.iter().try_fold(0, |id: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(id << 4 | u128::from(value))
    })
}

/// Without sign, and without zeros in front.
fn parse_sequence(digits: &[u8]) -> Option<u64> {
    match digits {
        [] | [b'0', _, ..] => None,
        _ => digits.iter().try_fold(0, |number: u64, digit| {
            let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
            number.checked_mul(10)?.checked_add(value.into())
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PRODUCER: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn headers(producer: &[u8], sequence: &[u8], place: Option<&[u8]>) -> Headers {
        let place = place.map(|place| (header::PLACE, place));
        [(header::PRODUCER, producer), (header::SEQUENCE, sequence)].into_iter().chain(place).collect()
    }

    fn ids() -> Ids {
        Ids::new(&TopicPartition::new("lib.server.game", 3))
    }

    #[test]
    fn headers_in_any_other_spelling_are_a_strangers() {
        let mut ids = ids();
        let largest = u64::MAX.to_string();
        for (sequence, expected) in [(&b"0"[..], 0), (b"17", 17), (largest.as_bytes(), u64::MAX)] {
            let headers = headers(PRODUCER, sequence, None);
            let number = ids.identify(&headers).unwrap().number();
            assert_eq!(number, Some(Number { producer: 0x0123456789abcdef0123456789abcdef, sequence: expected }));
        }
        let upper = PRODUCER.to_ascii_uppercase();
        for (producer, sequence) in [
            (&PRODUCER[1..], &b"1"[..]),
            (&upper, b"1"),
            (&[b'x'; 32], b"1"),
            (PRODUCER, b""),
            (PRODUCER, b"-1"),
            (PRODUCER, b"+1"),
            (PRODUCER, b"01"),
            (PRODUCER, b"18446744073709551616"),
            (PRODUCER, b"1 "),
        ] {
            let headers = headers(producer, sequence, None);
            assert_eq!(ids.identify(&headers), None, "{}", String::from_utf8_lossy(sequence));
        }
        assert_eq!(ids.identify(&Headers::default()), None);
    }

    #[test]
    fn a_number_counts_only_where_it_was_counted() {
        let mut ids = ids();
        let mut read = |place: &[u8]| {
            let headers = headers(PRODUCER, b"1", Some(place));
            let id = ids.identify(&headers)?;
            Some((id.number().map(|number| number.sequence), id.copied_from.map(<[u8]>::to_vec)))
        };
        assert_eq!(read(b"lib.server.game/3"), Some((Some(1), None)));
        for place in [&b"lib.server.game/2"[..], b"lib.server.game.copy/3", b"a/2147483647"] {
            assert_eq!(read(place), Some((None, Some(place.to_vec()))));
        }
        for place in
            [&b""[..], b"t", b"t/", b"/3", b"t/03", b"t/-1", b"t/2147483648", b"a b/3", b"t\"/3", b"t/3 ", b"\xff/3"]
        {
            assert_eq!(read(place), None, "{}", String::from_utf8_lossy(place));
        }
    }
}
