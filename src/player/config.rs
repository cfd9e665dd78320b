//! What the bots are told at their start.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::matchmaker::count_matches;

/// The settings of a crew of bots. All waits are bounded by one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayersConfig {
    /// Where to play. Bots spread over them, and each goes on to the next when its own cannot be reached.
    pub servers: Vec<ServerAddress>,
    /// How many bots.
    pub players: usize,
    /// How many games each plays (`CLIENT_GAMES`), those included whose seats were not filled; `None`: for ever.
    pub games: Option<u32>,
    /// Pause between the notice of a turn and the attack (`CLIENT_SLEEP`). It has to be shorter than the server's
    /// deadline for a turn.
    pub sleep: Duration,
    /// How many participants a game may have; one of them is drawn for each.
    pub participants: RangeInclusive<u32>,
    /// How bots come to play with each other.
    pub seating: Seating,
    /// What is drawn at random is drawn from it: names, numbers of participants, whom to attack, and with [`Seating::Matched`]
    /// who plays with whom.
    pub seed: u64,
    /// For a connection and its handshake, from the first packet to the last.
    pub connect_timeout: Duration,
    /// For an answer. A server may hold an action back while its events' transport is full.
    pub answer_timeout: Duration,
    /// For news of a lobby, after which the bot asks again on another connection. A lobby is silent while its seats fill,
    /// and while the others think; a turn that is over and announced once more is no news.
    pub push_timeout: Duration,
    /// For how long a bot tries what fails, without anything that succeeds, before it gives up.
    pub patience: Duration,
    /// The first pause after a failure; each further one doubles it.
    pub first_pause: Duration,
    /// The longest pause after a failure.
    pub longest_pause: Duration,
    /// How many bots connect at a time, so that thousands that start at once do not overrun a server's backlog.
    pub concurrent_connects: usize,
}

impl Default for PlayersConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            players: 1,
            games: Some(1),
            sleep: Duration::ZERO,
            participants: 2..=3,
            seating: Seating::Strangers,
            seed: 0,
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            push_timeout: Duration::from_secs(120),
            patience: Duration::from_secs(60),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            concurrent_connects: 64,
        }
    }
}

/// How bots come to play with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seating {
    /// Each draws its name and the number of participants that it asks for, and plays with whoever asks for the same; some may wait in
    /// vain. Bots may share a name.
    Strangers,
    /// All bots of the run play with each other in games that the seed decides. Nobody waits in vain as long as all stay, nobody else
    /// plays there, and no answer to a `find` is lost, which would take a seat twice. Each has a name of its own, `USER000` and upwards.
    Matched,
}

impl PlayersConfig {
    /// How many games the bots play if none of them ends early; none where that depends on others, or is too large to be counted.
    pub fn planned_games(&self) -> Option<u64> {
        match self.seating {
            Seating::Strangers => None,
            Seating::Matched => count_matches(self.seed, self.players, self.games?, &self.participants),
        }
    }
}

/// Where a server listens: `ws://host:port` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    authority: String,
}

/// A text that is no server's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a server's address: {reason}, expected ws://host:port")]
pub struct ServerAddressError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl ServerAddress {
    /// `host:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for ServerAddress {
    type Err = ServerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ServerAddressError { text: text.to_owned(), reason };
        let rest = match text.split_once("://") {
            None => text,
            Some(("ws", rest)) => rest,
            Some(("wss", _)) => return Err(error("TLS is not spoken")),
            Some(_) => return Err(error("the scheme is not ws")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) || authority.contains(char::is_whitespace) {
            return Err(error("there is more than a host and a port"));
        }
        let (host, port) = authority.rsplit_once(':').ok_or_else(|| error("the port is missing"))?;
        if host.is_empty() {
            return Err(error("the host is missing"));
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(error("an IPv6 address stands without brackets"));
        }
        if port.parse::<u16>().is_ok_and(|port| port > 0) {
            Ok(Self { authority: authority.to_owned() })
        } else {
            Err(error("the port is not a number from 1 to 65535"))
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}", self.authority)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_their_scheme() {
        for (text, shown) in [
            ("ws://localhost:8080", "ws://localhost:8080"),
            ("ws://localhost:8080/", "ws://localhost:8080"),
            ("10.0.0.1:80", "ws://10.0.0.1:80"),
            ("[::1]:80", "ws://[::1]:80"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("wss://localhost:8080", "TLS"),
            ("http://localhost:8080", "scheme"),
            ("localhost", "port is missing"),
            ("localhost:0", "65535"),
            ("localhost:http", "65535"),
            (":8080", "host"),
            ("::1:8080", "brackets"),
            ("ws://localhost:8080/api", "more than"),
            ("", "port is missing"),
        ] {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
