//! What is answered about health, and other answers of a line.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use crate::Health;

/// Answered as long as the process answers anything.
pub const LIVEZ: &str = "/livez";
/// Answered by [`Health`].
pub const READYZ: &str = "/readyz";

/// Whether a method asks, and does not tell.
pub fn is_asked(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The answer to [`LIVEZ`].
pub fn livez() -> Response<Full<Bytes>> {
    page(StatusCode::OK, "alive")
}

/// The answer to [`READYZ`]: `{"status":"ready"|"not ready"|"draining","checks":{name: "ok"|reason}}`, 503 unless ready.
pub async fn readyz(health: &Health, draining: bool) -> Response<Full<Bytes>> {
    let results = health.ask().await;
    let status = if draining {
        "draining"
    } else if results.iter().all(|(_, result)| result.is_ok()) {
        "ready"
    } else {
        "not ready"
    };
    let checks: serde_json::Map<_, _> = results
        .into_iter()
        .map(|(name, result)| (name.to_owned(), json!(result.err().unwrap_or_else(|| "ok".to_owned()))))
        .collect();
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = page(code, &json!({"status": status, "checks": checks}).to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A short text, after which the connection ends: whoever asks for one seldom asks for a second soon.
pub fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// To any other method, on a path that has nothing for it.
pub fn only_get() -> Response<Full<Bytes>> {
    let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "this path answers GET only");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}
