//! Asking another process whether it is ready, as a container's health check does.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::READYZ;

/// For connecting, asking and the answer; above the time that a check may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The reasons of all checks take a line each.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why a process does not count as ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It cannot be asked.
    #[error("nobody answers at {address}: {source}; is the process there, and told the same address?")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not answer.
    #[error("no answer from {address} within {} s", TIMEOUT.as_secs())]
    Slow {
        /// `host:port`.
        address: String,
    },
    /// It says so itself.
    #[error("{address} answers {status}: {answer}")]
    Told {
        /// `host:port`.
        address: String,
        /// Any but 200.
        status: StatusCode,
        /// Its reasons.
        answer: String,
    },
}

/// Asks a process for [`READYZ`], for at most three seconds.
///
/// # Errors
/// Unless it answers that it is ready.
///
/// # Cancellation
/// Dropping the future drops the connection.
pub async fn ask(address: &str) -> Result<(), NotReady> {
    match timeout(TIMEOUT, get(address)).await {
        Err(_) => Err(NotReady::Slow { address: address.to_owned() }),
        Ok(Err(source)) => Err(NotReady::Unreachable { address: address.to_owned(), source }),
        Ok(Ok((StatusCode::OK, _))) => Ok(()),
        Ok(Ok((status, answer))) => Err(NotReady::Told { address: address.to_owned(), status, answer }),
    }
}

async fn get(address: &str) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(READYZ).header(HOST, address).body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
    };
    // The connection ends when there is nothing more to ask.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::{Health, serve};

    #[tokio::test]
    async fn a_process_is_ready_when_all_its_checks_say_so() -> Result<(), Box<dyn std::error::Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let well = Arc::new(AtomicBool::new(false));
        let told = well.clone();
        let health = Health::new().with("here", || ready(Ok(()))).with("there", move || {
            ready(if told.load(Ordering::Relaxed) { Ok(()) } else { Err("nobody is there".to_owned()) })
        });
        let asking = async {
            let refused = ask(&address).await.expect_err("a check fails").to_string();
            assert!(refused.contains("503") && refused.contains("nobody is there"), "{refused}");
            well.store(true, Ordering::Relaxed);
            ask(&address).await
        };
        tokio::select! {
            asked = asking => asked?,
            never = serve(listener, health) => match never {},
        }
        let gone = ask(&address).await.expect_err("nobody listens").to_string();
        assert!(gone.contains(&address) && gone.contains("nobody answers"), "{gone}");
        Ok(())
    }
}
