//! Values with a unit, and other texts that are more than a text.

use std::fmt::Display;
use std::net::Ipv6Addr;
use std::num::{NonZeroI16, NonZeroI32, NonZeroUsize, ParseIntError};
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

/// What a name or an address is not made of.
const NOT_IN_A_HOST: [char; 6] = ['/', '?', '#', '@', '[', ']'];

/// Reads a number of seconds, such as `0.2`.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "not a number of seconds from 0 upwards, such as 0.2 or 30".to_owned())
}

/// A type of whole numbers that settings have; not the `i32` that a bare literal would be, which no setting is.
pub trait Whole: FromStr<Err = ParseIntError> + PartialOrd + Display {}

impl Whole for u8 {}
impl Whole for u16 {}
impl Whole for u32 {}
impl Whole for u64 {}
impl Whole for usize {}
impl Whole for NonZeroI16 {}
impl Whole for NonZeroUsize {}

/// A reader of whole numbers in `range`; its error is a message for the command line, which names the value itself.
pub fn whole<T: Whole>(range: impl RangeBounds<T> + Clone) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| not_whole(&range))
    }
}

/// As [`whole`], for a number whose `range` is watched where it is used, which has more to say about one that is outside.
pub fn whole_of<T: Whole>(range: impl RangeBounds<T> + Clone) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| text.parse().map_err(|_| not_whole(&range))
}

/// Reads a count that Kafka's protocol carries as an int32, from 1 upwards.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn positive(text: &str) -> Result<NonZeroI32, String> {
    let number = text.parse().ok().filter(|count: &NonZeroI32| count.is_positive());
    number.ok_or_else(|| "not a whole number from 1 upwards".to_owned())
}

/// Seeds: so many that every reader of JSON keeps them as they are, since many know no whole numbers but those of a double.
pub const SEEDS: RangeInclusive<u64> = 0..=(1 << 53) - 1;

/// Reads a host without a port: a name or an address, one of IPv6 with or without its brackets, which are taken off.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn host(text: &str) -> Result<String, String> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let host = bracketed.unwrap_or(text);
    // Behind a % is the network interface.
    let is_ipv6 = host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_text = !host.is_empty() && !host.contains(NOT_IN_A_HOST) && !host.contains(char::is_whitespace);
    if is_text && (is_ipv6 || (bracketed.is_none() && !host.contains(':'))) {
        Ok(host.to_owned())
    } else {
        Err("not a name or an address without a port, such as localhost or ::1".to_owned())
    }
}

/// Reads `host:port`, an IPv6 address in brackets, which are taken off.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    place(text, 1)
}

/// Reads `host:port` to listen on, where port 0 is any that is free.
///
/// # Errors
/// As [`host_and_port`].
pub fn listen_address(text: &str) -> Result<(String, u16), String> {
    place(text, 0)
}

/// `host:port`, as it can be read again: an IPv6 address stands in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn place(text: &str, least_port: u16) -> Result<(String, u16), String> {
    let (name, port) = text.rsplit_once(':').filter(|(name, _)| !name.is_empty()).ok_or("expected host:port")?;
    if name.contains(':') && !name.starts_with('[') {
        return Err("an IPv6 address stands in brackets, such as [::1]:8080".to_owned());
    }
    let port = whole(least_port..=u16::MAX)(port).map_err(|error| format!("the port is {error}"))?;
    Ok((host(name)?, port))
}

/// What is wrong with a text that is no number of the range.
fn not_whole<T: Display>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(least), Bound::Included(most)) => format!("not a whole number from {least} to {most}"),
        (Bound::Included(least), _) => format!("not a whole number from {least} upwards"),
        _ => "not a whole number".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_json_can_carry() {
        let seed = whole(SEEDS);
        assert_eq!(seed("42"), Ok(42));
        assert_eq!(seed("9007199254740991"), Ok(*SEEDS.end()));
        for text in ["9007199254740992", "6297415309182512689", "-1", "x", ""] {
            assert!(seed(text).is_err_and(|error| error.contains("to 9007199254740991")), "{text}");
        }
    }

    #[test]
    fn reads_fractions_and_refuses_what_is_no_duration() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for text in ["", "fast", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_whole_number_is_refused_with_its_range() {
        assert_eq!(whole(1..=9u8)("9"), Ok(9));
        for text in ["", "ten", "0", "10", "1.5", "300"] {
            assert_eq!(whole(1..=9u8)(text), Err("not a whole number from 1 to 9".to_owned()), "{text}");
        }
        assert_eq!(whole(1..)("-1"), Err::<u64, _>("not a whole number from 1 upwards".to_owned()));
        assert_eq!(whole_of(2..=9u8)("1"), Ok(1));
        assert_eq!(whole_of(2..=9u8)("ten"), Err("not a whole number from 2 to 9".to_owned()));
    }

    #[test]
    fn an_ipv6_address_may_stand_in_brackets_and_needs_them_before_a_port() {
        for (text, read) in [("::1", "::1"), ("[::1]", "::1"), ("fe80::1%eth0", "fe80::1%eth0"), ("kafka-1", "kafka-1")]
        {
            assert_eq!(host(text).as_deref(), Ok(read));
        }
        for text in ["", "[]", "[kafka]", "[::1", "kafka:9092", "[::1]:80", "a b", "ws://a", "a/b"] {
            assert!(host(text).is_err(), "{text}");
        }
        assert_eq!(host_and_port("[::1]:80"), Ok(("::1".to_owned(), 80)));
        assert_eq!(listen_address("[::]:0"), Ok(("::".to_owned(), 0)));
        for (text, reason) in [
            ("::1", "brackets"),
            ("::1:80", "brackets"),
            ("a", "host:port"),
            (":80", "host:port"),
            ("a:0", "from 1 to 65535"),
            ("a:80800", "from 1 to 65535"),
            ("a b:80", "not a name"),
        ] {
            assert!(host_and_port(text).is_err_and(|error| error.contains(reason)), "{text}");
        }
        assert_eq!(address("::1", 80), "[::1]:80");
        assert_eq!(address("127.0.0.1", 80), "127.0.0.1:80");
    }
}
