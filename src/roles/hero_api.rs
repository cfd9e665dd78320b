//! The hero API: one hero for each number from 1 on, as JSON, until a number has none.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use superhero_game::MAX_HEROES;
use superhero_service::Secret;
use superhero_text::shown;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::info;

/// Heroes asked for at the same time; polite to a public API.
const IN_FLIGHT: usize = 4;

/// One hero takes about 2 KiB.
const MAX_HERO_BYTES: usize = 256 * 1024;

/// All heroes of a file or of an API; the public ones are less than 1 MiB.
pub(crate) const MAX_HEROES_BYTES: usize = 32 * 1024 * 1024;

/// For all heroes. The most that are taken come in half of it, four at a time, from the other side of the world.
const PULL_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// From the connection to the whole answer for one hero.
const HERO_TIMEOUT: Duration = Duration::from_secs(20);

/// How often it is told that heroes still come.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Why the heroes could not be fetched. The token never shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(
        "API_URL {url:?} is not http://host[:port]/path; for an API that speaks only https fetch the file and use --heroes"
    )]
    Url { url: String },
    #[error("the hero API at {host} cannot be reached")]
    Unreachable { host: String, source: std::io::Error },
    #[error("the hero API at {host} did not send hero {number} within {} s", HERO_TIMEOUT.as_secs())]
    Slow { host: String, number: u32 },
    #[error("the hero API at {host} broke off at hero {number}: {source}")]
    Broken { host: String, number: u32, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the hero API at {host} answered {status} for hero {number}; check API_URL and API_TOKEN")]
    Status { host: String, number: u32, status: StatusCode },
    #[error("the hero API at {host} sent more than {} KiB for hero {number}, which are the limit", MAX_HERO_BYTES / 1024)]
    HeroTooLarge { host: String, number: u32 },
    #[error("the hero API at {host} still has heroes after {MAX_HEROES}, which are the limit; check API_URL")]
    TooMany { host: String },
    #[error(
        "the hero API at {host} sent more than {} MiB for {heroes} heroes, which are the limit; check API_URL",
        MAX_HEROES_BYTES / (1024 * 1024)
    )]
    TooLarge { host: String, heroes: usize },
    #[error("the hero API at {host} was not done after {limit:?}, which are the limit; {heroes} heroes had come")]
    TooLong { host: String, heroes: usize, limit: Duration },
    #[error("the hero API at {host} has no hero at all: {answer}; check API_TOKEN")]
    NoHeroes { host: String, answer: String },
}

/// The heroes in the form of the public superhero JSON.
pub(crate) async fn pull(url: &str, token: &Secret) -> Result<String, PullError> {
    let api = Api::new(url, token)?;
    info!(from = api.host, "asking for the heroes");
    api.heroes_within(PULL_TIMEOUT).await
}

pub(crate) struct Api {
    /// `host:port`.
    host: String,
    /// The path of a hero without its number.
    path: String,
}

impl Api {
    /// # Errors
    /// [`PullError::Url`].
    pub(crate) fn new(url: &str, token: &Secret) -> Result<Self, PullError> {
        let refused = || PullError::Url { url: shown::without_credentials(url) };
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(refused)?;
        let host = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(Self { host, path: format!("{}/{}", uri.path().trim_end_matches('/'), token.reveal()) })
    }

    async fn heroes_within(&self, limit: Duration) -> Result<String, PullError> {
        let mut come = 0;
        match tokio::time::timeout(limit, self.heroes(&mut come)).await {
            Ok(heroes) => heroes,
            Err(_) => Err(PullError::TooLong { host: self.host.clone(), heroes: come, limit }),
        }
    }

    /// All heroes, as an array; counts those that have come.
    async fn heroes(&self, come: &mut usize) -> Result<String, PullError> {
        let mut told = Instant::now();
        let mut heroes = String::from("[");
        let answers = stream::iter(1..).map(|number| self.hero(number)).buffered(IN_FLIGHT);
        let mut answers = pin!(answers);
        while let Some(answer) = answers.next().await {
            let hero = match answer? {
                Ok(hero) => hero,
                Err(answer) if *come == 0 => return Err(PullError::NoHeroes { host: self.host.clone(), answer }),
                Err(_) => break,
            };
            if *come == MAX_HEROES {
                return Err(PullError::TooMany { host: self.host.clone() });
            }
            if *come > 0 {
                heroes.push(',');
            }
            heroes.push_str(&hero);
            *come += 1;
            if heroes.len() > MAX_HEROES_BYTES {
                return Err(PullError::TooLarge { host: self.host.clone(), heroes: *come });
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                info!(from = self.host, heroes = *come, "heroes still come");
            }
        }
        heroes.push(']');
        Ok(heroes)
    }

    /// A hero's JSON, or the text that says that there is none of that number.
    async fn hero(&self, number: u32) -> Result<Result<String, String>, PullError> {
        let answer = tokio::time::timeout(HERO_TIMEOUT, self.get(number)).await;
        let json = answer.map_err(|_| PullError::Slow { host: self.host.clone(), number })??;
        let broken = |source| self.broken(number, source);
        let hero: Value = serde_json::from_slice(&json).map_err(|error| broken(error.into()))?;
        let text = String::from_utf8(json.to_vec()).map_err(|error| broken(error.into()))?;
        Ok(if hero["response"] == "error" { Err(text) } else { Ok(text) })
    }

    async fn get(&self, number: u32) -> Result<Bytes, PullError> {
        let stream = TcpStream::connect(&self.host)
            .await
            .map_err(|source| PullError::Unreachable { host: self.host.clone(), source })?;
        let broken = |source| self.broken(number, source);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
        let request = Request::get(format!("{}/{number}", self.path))
            .header(HOST, &self.host)
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(error.into()))?;
        let exchange = async move {
            let answer = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
            if answer.status() != StatusCode::OK {
                return Err(PullError::Status { host: self.host.clone(), number, status: answer.status() });
            }
            let body =
                Limited::new(answer.into_body(), MAX_HERO_BYTES).collect().await.map_err(|error| match error
                    .is::<LengthLimitError>(
                ) {
                    true => PullError::HeroTooLarge { host: self.host.clone(), number },
                    false => broken(error),
                })?;
            Ok(body.to_bytes())
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }

    fn broken(&self, number: u32, source: Box<dyn std::error::Error + Send + Sync>) -> PullError {
        PullError::Broken { host: self.host.clone(), number, source }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_api_that_is_not_done_in_time_is_given_up_with_the_limit() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api::new(&format!("http://{address}/api"), &"secret".parse().unwrap()).unwrap();
        let error = api.heroes_within(Duration::from_millis(1)).await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!("the hero API at {address} was not done after 1ms, which are the limit; 0 heroes had come")
        );
    }
}
