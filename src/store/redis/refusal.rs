//! Why there is no connection, with what to change: the ACL's answers, and whoever else listens at Redis's port.

use std::time::Duration;

use fred::error::{Error, ErrorKind};
use superhero_text::io_error_in_words;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::RedisConfig;

/// Whoever does not answer a question of some bytes by then does not understand it.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// The begin of a TLS handshake that nobody can agree to: the answer is an alert.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\0\x05\x01\0\0\x01\0";
const HTTP_GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
/// Kafka's ApiVersions, version 0, without a client id.
const KAFKA_API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff";

/// The error in words, with the setting to change where Redis refuses for want of rights. The client says nothing of a password that
/// the default user does not need, and goes on without.
pub(super) fn explained(error: &Error, has_password: bool) -> String {
    let advice = match error.details().split_whitespace().next() {
        Some("NOAUTH") if has_password => "REDIS_PASSWORD is not the default user's: set REDIS_USERNAME to whose it is",
        Some("NOAUTH") => "set REDIS_PASSWORD, and REDIS_USERNAME where it is not the default user's",
        Some("WRONGPASS") => "correct REDIS_PASSWORD, or REDIS_USERNAME, whose password it has to be",
        Some("NOPERM") => {
            "give the ACL user all commands, keys and channels (+@all ~* &*), or set REDIS_USERNAME to one that has them"
        }
        _ => return io_error_in_words(&error.to_string()),
    };
    format!("{}; {advice}", error.details().trim_end_matches('.'))
}

/// Whether Redis has refused for want of rights, which waiting does not change.
pub(super) fn is_of_rights(error: &Error) -> bool {
    *error.kind() == ErrorKind::Auth || error.details().starts_with("NOPERM")
}

/// What is no Redis and listens there, if it is known here.
pub(super) async fn stranger(config: &RedisConfig) -> Option<&'static str> {
    for question in [TLS_HELLO, HTTP_GET, KAFKA_API_VERSIONS] {
        let asking = async {
            let mut stream = TcpStream::connect((config.host.as_str(), config.port)).await.ok()?;
            stream.write_all(question).await.ok()?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.ok()?;
            Some(answer)
        };
        let stranger = match timeout(PROBE_LIMIT, asking).await {
            Ok(Some([0x15 | 0x16, 3, 0..=4, _])) => {
                "it speaks TLS, and superhero plaintext only: name a port without TLS"
            }
            Ok(Some([b'H', b'T', b'T', b'P'])) => "it speaks HTTP: name the host and port of a Redis",
            // The length of an answer that lists some dozens of APIs.
            Ok(Some([0, 0, _, _])) => "it is a Kafka broker: name the host and port of a Redis",
            _ => continue,
        };
        return Some(stranger);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_to_change_is_named() {
        for (details, kind, has_password, expected) in [
            ("NOAUTH Authentication required.", ErrorKind::Auth, false, "set REDIS_PASSWORD, and REDIS_USERNAME"),
            ("NOAUTH Authentication required.", ErrorKind::Auth, true, "set REDIS_USERNAME to whose it is"),
            ("WRONGPASS invalid pair", ErrorKind::Auth, true, "correct REDIS_PASSWORD, or REDIS_USERNAME"),
            ("NOPERM this user may not run the 'eval' command", ErrorKind::Unknown, true, "(+@all ~* &*)"),
        ] {
            let error = Error::new(kind, details);
            let said = explained(&error, has_password);
            assert!(said.starts_with(details.trim_end_matches('.')) && said.contains(expected), "{said}");
            assert!(is_of_rights(&error), "{said}");
        }
        let other = Error::new(ErrorKind::IO, "Connection closed.");
        assert!(!is_of_rights(&other) && explained(&other, true) == other.to_string());
    }
}
