//! Who produced a record as its how-manieth, and of which partition: the headers of our own producers, and the raw row's `id`.

use std::fmt;

/// `<producer>-<sequence>`; that of a copy has `@<topic>/<partition>` behind it, where it was counted, and says nothing where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) producer: u128,
    pub(crate) sequence: u64,
}

/// Hexadecimal digits of a producer.
const PRODUCER_DIGITS: usize = 32;

impl Id {
    /// From the values of the headers; none for any other spelling than that of our own transport.
    pub(crate) fn from_headers(producer: &[u8], sequence: &[u8]) -> Option<Self> {
        Some(Self { producer: hexadecimal(producer)?, sequence: decimal(sequence)? })
    }

    /// From a row, with the partition that it was counted for if that is another.
    pub(crate) fn from_row(text: &str) -> Option<(Self, Option<&str>)> {
        let (text, place) = match text.split_once('@') {
            Some((text, place)) => (text, Some(place)),
            None => (text, None),
        };
        let (producer, sequence) = text.as_bytes().split_at_checked(PRODUCER_DIGITS)?;
        let id = Self::from_headers(producer, sequence.strip_prefix(b"-")?)?;
        place.is_none_or(is_place).then_some((id, place))
    }
}

/// Whether this can be the name of a partition: `<topic>/<partition>`, as Kafka lets them be.
pub(crate) fn is_place(text: &str) -> bool {
    let Some((topic, partition)) = text.split_once('/') else { return false };
    let is_named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_topic = !["", ".", ".."].contains(&topic) && topic.len() <= 249 && topic.bytes().all(is_named);
    is_topic && decimal(partition.as_bytes()).is_some_and(|number| number <= i32::MAX.unsigned_abs().into())
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.producer, self.sequence)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u128> {
    let digits: &[u8; PRODUCER_DIGITS] = digits.try_into().ok()?;
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Without sign, and without zeros in front.
fn decimal(digits: &[u8]) -> Option<u64> {
    match digits {
        [] | [b'0', _, ..] => None,
        _ => digits.iter().try_fold(0_u64, |number, digit| {
            let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
            number.checked_mul(10)?.checked_add(value.into())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        for sequence in [0, 17, u64::MAX] {
            let id = Id { producer: 0x0123_4567_89ab_cdef, sequence };
            assert_eq!(Id::from_row(&id.to_string()), Some((id, None)));
            assert_eq!(Id::from_row(&format!("{id}@a.b/3")), Some((id, Some("a.b/3"))));
        }
        let producer = "0123456789abcdef0123456789abcdef";
        for text in [
            String::new(),
            producer.to_owned(),
            format!("{producer}-"),
            format!("{producer}-01"),
            format!("{producer}--1"),
            format!("{producer}-18446744073709551616"),
            format!("{}-1", producer.to_uppercase()),
            format!("{}-1", &producer[1..]),
            format!("{}é-1", &producer[1..]),
            format!("{producer}-1@"),
            format!("{producer}-1@t"),
            format!("{producer}-1@t/03"),
            format!("{producer}-1@t/-1"),
            format!("{producer}-1@t/2147483648"),
            format!("{producer}-1@../3"),
            format!("{producer}-1@t t/3"),
            format!("{producer}-1@t/3@t/3"),
        ] {
            assert_eq!(Id::from_row(&text), None, "{text}");
        }
    }
}
