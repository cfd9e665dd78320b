//! A record as it was fetched. Its parts share the memory of the answer that it came with, so that none of them is copied.

use bytes::Bytes;
use superhero_codec::{put_varint, varint};

/// A record of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Of its producer, or of the broker where that sets it: milliseconds since 1970, if they keep to that. `-1` is none.
    pub timestamp: i64,
    /// What its partition follows from.
    pub key: Option<Bytes>,
    /// What it says; a tombstone says nothing.
    pub value: Option<Bytes>,
    /// Names with values.
    pub headers: Headers,
}

/// The headers of a record, as they came: they are looked at when one is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// All of `bytes`, which must be `count` headers.
    pub(super) fn read(bytes: Bytes, count: i64) -> Option<Self> {
        let mut rest = &*bytes;
        for _ in 0..count {
            next(&mut rest)?;
        }
        rest.is_empty().then_some(Self(bytes))
    }

    /// Names and values in their order; a value that is null is empty.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || next(&mut rest))
    }

    /// The value of the header of that name, of the last if there are several; empty if it is null.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
    }
}

/// As a record would have them.
impl<'a> FromIterator<(&'a str, &'a [u8])> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        let mut bytes = Vec::new();
        for part in headers.into_iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
            put_varint(&mut bytes, part.len() as i64);
            bytes.extend_from_slice(part);
        }
        Self(bytes.into())
    }
}

/// Takes a name and its value off the front.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    Some((nullable(bytes)??, nullable(bytes)?.unwrap_or_default()))
}

/// Takes bytes with their length in front; the outer `None` is that there are none such.
pub(super) fn nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint(bytes)? {
        -1 => Some(None),
        length => take_bytes(bytes, usize::try_from(length).ok()?).map(Some),
    }
}

pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}
