//! Values with a unit, and other texts that are more than a text.

use std::num::NonZeroI32;
use std::time::Duration;

/// Reads a number of seconds, such as `0.2`.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds from 0 upwards".to_owned())
}

/// Reads a count that Kafka's protocol carries as an int32, from 1 upwards.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn positive(text: &str) -> Result<NonZeroI32, String> {
    text.parse()
        .ok()
        .filter(|count: &NonZeroI32| count.is_positive())
        .ok_or_else(|| "not a count from 1 upwards".into())
}

/// Seeds are below it, so that every reader of JSON keeps them as they are: many know no whole numbers but those of a double.
pub const SEEDS: u64 = 1 << 53;

/// Reads a seed.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|seed| *seed < SEEDS).ok_or_else(|| format!("not a whole number from 0 to {}", SEEDS - 1))
}

/// Reads `host:port`.
///
/// # Errors
/// A message for the command line, which names the value itself.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or("expected host:port")?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("the port is no number from 1 to 65535")?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_json_can_carry() {
        assert_eq!(seed("42"), Ok(42));
        assert_eq!(seed("9007199254740991"), Ok(SEEDS - 1));
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
}
