//! The hero API: one hero for each number from 1 on, as JSON, until a number has none.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use superhero_service::Secret;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::info;

/// Heroes asked for at the same time; polite to a public API.
const IN_FLIGHT: usize = 4;

/// No hero list goes that far; it bounds an API that has an answer for every number.
const MAX_HEROES: u32 = 10_000;

/// One hero takes about 2 KiB.
const MAX_HERO_BYTES: usize = 256 * 1024;

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
    #[error("the hero API at {host} has no hero at all: {answer}; check API_TOKEN")]
    NoHeroes { host: String, answer: String },
}

/// The heroes in the form of the public superhero JSON.
pub(crate) async fn pull(url: &str, token: &Secret) -> Result<String, PullError> {
    let api = Api::new(url, token)?;
    info!(from = api.host, "asking for the heroes");
    let (mut come, mut told) = (0, Instant::now());
    let heroes: Vec<String> = stream::iter(1..=MAX_HEROES)
        .map(|number| api.hero(number))
        .buffered(IN_FLIGHT)
        .try_take_while(|answer| std::future::ready(Ok(answer.is_ok())))
        .try_filter_map(|answer| std::future::ready(Ok(answer.ok())))
        .inspect_ok(|_| {
            come += 1;
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                info!(from = api.host, heroes = come, "heroes still come");
            }
        })
        .try_collect()
        .await?;
    if heroes.is_empty() {
        let answer = api.hero(1).await?.err().unwrap_or_default();
        return Err(PullError::NoHeroes { host: api.host, answer });
    }
    Ok(format!("[{}]", heroes.join(",")))
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
        let refused = || PullError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(refused)?;
        let host = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(Self { host, path: format!("{}/{}", uri.path().trim_end_matches('/'), token.reveal()) })
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
            let body = Limited::new(answer.into_body(), MAX_HERO_BYTES).collect().await.map_err(broken)?;
            Ok(body.to_bytes())
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }

    fn broken(&self, number: u32, source: Box<dyn std::error::Error + Send + Sync>) -> PullError {
        PullError::Broken { host: self.host.clone(), number, source }
    }
}
