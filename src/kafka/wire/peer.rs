//! Who answers in a broker's place, found out by asking once more in other languages.
//!
//! Nothing of this is done while all goes well: only a connection that fails before a broker has shown itself is looked into.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whoever does not answer a question of six bytes by then does not understand it.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// The begin of a TLS handshake that nobody can agree to: the answer is an alert, where many servers only hang up on plaintext.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\0\x05\x01\0\0\x01\0";
/// Redis answers the first line, an HTTP server the second.
const PING: &[u8] = b"PING\r\n\r\n";

/// A protocol that is not Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Of Kafka or not, that does not show.
    Tls,
    /// A web server or proxy.
    Http,
    /// That of a Redis.
    Redis,
}

impl Protocol {
    /// The protocol whose answer begins so.
    pub(super) fn of(answer: [u8; 4]) -> Option<Self> {
        match answer {
            // An alert or a handshake, of SSL 3.0 to TLS 1.3.
            [0x15 | 0x16, 3, 0..=4, _] => Some(Self::Tls),
            [b'H', b'T', b'T', b'P'] => Some(Self::Http),
            // "+PONG", "-NOAUTH", "-ERR", "-DENIED".
            [b'+' | b'-', b'A'..=b'Z', b'A'..=b'Z', b'A'..=b'Z'] => Some(Self::Redis),
            _ => None,
        }
    }

    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Tls => "superhero speaks plaintext only: name a PLAINTEXT listener",
            Self::Http | Self::Redis => "name the host and port of a Kafka broker",
        }
    }

    /// Asks whoever listens at `address`; none if the answer is of no protocol that is known here.
    pub(super) async fn spoken_at(address: &str) -> Option<Self> {
        for question in [TLS_HELLO, PING] {
            let asking = async {
                let mut stream = TcpStream::connect(address).await.ok()?;
                stream.write_all(question).await.ok()?;
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).await.ok()?;
                Self::of(answer)
            };
            if let Ok(Some(protocol)) = timeout(PROBE_LIMIT, asking).await {
                return Some(protocol);
            }
        }
        None
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Redis => "Redis's protocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_their_protocol() {
        for (answer, expected) in [
            (*b"\x15\x03\x03\0", Some(Protocol::Tls)),
            (*b"\x16\x03\x01\x02", Some(Protocol::Tls)),
            (*b"HTTP", Some(Protocol::Http)),
            (*b"+PON", Some(Protocol::Redis)),
            (*b"-NOA", Some(Protocol::Redis)),
            (*b"SSH-", None),
            // A frame of ten bytes.
            (*b"\0\0\0\x0a", None),
            (*b"\x15\x05\x03\0", None),
        ] {
            assert_eq!(Protocol::of(answer), expected, "{answer:?}");
        }
    }
}
