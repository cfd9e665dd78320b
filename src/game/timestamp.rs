//! `TIMESTAMP` on the wire and `timestamp` in events: `%Y-%m-%dT%H:%M:%S.%f`, UTC, microseconds, no zone.

use std::fmt;
use std::ops::Deref;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};

/// The length of every text written here.
const LEN: usize = 26;

/// A time's text on the stack, since one is written for every record and every event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimestampText([u8; LEN]);

impl TimestampText {
    /// The text of `timestamp`; a year outside 0..=9999, which the format cannot tell, becomes the nearest of them.
    pub fn new(timestamp: DateTime<Utc>) -> Self {
        let time = timestamp.naive_utc();
        let mut text = *b"0000-00-00T00:00:00.000000";
        put(&mut text[0..4], time.year().clamp(0, 9999).unsigned_abs());
        put(&mut text[5..7], time.month());
        put(&mut text[8..10], time.day());
        put(&mut text[11..13], time.hour());
        put(&mut text[14..16], time.minute());
        // chrono tells a leap second as 1,000,000,000 nanoseconds and more; the format has no room for it.
        put(&mut text[17..19], time.second());
        put(&mut text[20..26], (time.nanosecond() / 1_000).min(999_999));
        Self(text)
    }

    /// The same as bytes: what is ASCII by its making need not be looked at again.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for TimestampText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and separators are ASCII")
    }
}

impl fmt::Display for TimestampText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for TimestampText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// `%Y-%m-%dT%H:%M:%S.%f` in UTC, microseconds, as every `TIMESTAMP` on the wire and in events.
pub fn format_timestamp(timestamp: DateTime<Utc>) -> String {
    TimestampText::new(timestamp).to_string()
}

/// Reads what [`format_timestamp`] wrote; other producers may leave the fraction out, shorten it, or add a zone.
pub fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    parse_fixed(text.as_bytes()).or_else(|| {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
            .map(|time| time.and_utc())
            .or_else(|_| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()))
            .ok()
    })
}

/// The fixed form at a tenth of the cost of a format string; `None` for any other form.
fn parse_fixed(text: &[u8]) -> Option<DateTime<Utc>> {
    let text: &[u8; LEN] = text.try_into().ok()?;
    if [text[4], text[7], text[10], text[13], text[16], text[19]] != *b"--T::." {
        return None;
    }
    let year = i32::try_from(number(&text[0..4])?).ok()?;
    NaiveDate::from_ymd_opt(year, number(&text[5..7])?, number(&text[8..10])?)?
        .and_hms_micro_opt(
            number(&text[11..13])?,
            number(&text[14..16])?,
            number(&text[17..19])?,
            number(&text[20..26])?,
        )
        .map(|time| time.and_utc())
}

fn put(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_is_what_chrono_formats_and_reads_back(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            let text = format_timestamp(time);
            prop_assert_eq!(&text, &time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string());
            prop_assert_eq!(parse_timestamp(&text), Some(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            parse_timestamp(&text);
        }
    }

    #[test]
    fn other_producers_forms_are_read() {
        let time = DateTime::from_timestamp(1_795_371_321, 0);
        for text in
            ["2026-11-22T18:15:21.000000", "2026-11-22T18:15:21", "2026-11-22T18:15:21.0", "2026-11-22T18:15:21Z"]
        {
            assert_eq!(parse_timestamp(text), time, "{text}");
        }
        for text in ["", "2026-11-22", "2026-13-22T18:15:21.000000", "2026-11-22 18:15", "2026-11-22T18:15:2x.000000"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn times_that_the_format_cannot_tell_keep_its_length() {
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert_eq!(format_timestamp(time).len(), LEN);
        }
        let leap = NaiveDate::from_ymd_opt(2016, 12, 31).unwrap().and_hms_nano_opt(23, 59, 59, 1_500_000_000).unwrap();
        assert_eq!(format_timestamp(leap.and_utc()), "2016-12-31T23:59:59.999999");
    }
}
