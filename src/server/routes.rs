//! What is answered to which path: the five endpoints by an upgrade, the health paths by a page.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::{Method, Request, Response, StatusCode, Version, body::Incoming};
use superhero_api::Endpoint;
use superhero_monitor::{LIVEZ, READYZ, is_asked, livez, only_get, page, readyz};
use superhero_store::GameStore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::origin;
use crate::server::Server;
use crate::visitors::{Crowded, Visit};

/// The WebSocket version of RFC 6455.
const WEBSOCKET_VERSION: &str = "13";

/// Seconds after which a refused client may come back.
const RETRY_AFTER_SECS: &str = "1";

/// Whether the connection may become a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// There is a place for it.
    Free,
    /// All places are taken; health is told nevertheless, so that nobody restarts a server for being full.
    Full,
    /// All places that its address may have are taken.
    Crowded,
}

/// Answers the requests of one connection.
#[derive(Debug)]
pub(crate) struct Routes<S> {
    server: Arc<Server<S>>,
    peer: IpAddr,
    entry: Entry,
    /// The connection among those of its address; of a proxy's the address is known with the request.
    visit: Mutex<Option<Visit>>,
    /// Set as soon as a request has come, so that a slow one is told apart from a connection that says nothing.
    asked: OnceLock<()>,
    upgraded: OnceLock<Endpoint>,
}

impl<S: GameStore> Routes<S> {
    pub(crate) fn new(server: Arc<Server<S>>, peer: IpAddr, entry: Entry, visit: Option<Visit>) -> Self {
        Self { server, peer, entry, visit: Mutex::new(visit), asked: OnceLock::new(), upgraded: OnceLock::new() }
    }

    /// Whether a request has come.
    pub(crate) fn asked(&self) -> bool {
        self.asked.get().is_some()
    }

    /// What the connection was upgraded to, if it was.
    pub(crate) fn into_upgraded(self) -> Option<(Endpoint, Visit)> {
        let visit = self.visit.into_inner().ok().flatten();
        self.upgraded.get().copied().zip(visit)
    }

    /// Counts the connection among those of the address that it is from. The answer to give instead of an
    /// upgrade, if there are too many, or too many games are asked for.
    fn count(&self, endpoint: Endpoint, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let config = &self.server.config;
        let crowded = |Crowded| {
            self.server.refused.fetch_add(1, Ordering::Relaxed);
            let limit = config.max_connections_per_address;
            too_many(&format!("all {limit} connections that one address may have are taken"))
        };
        if self.entry == Entry::Crowded {
            return Some(crowded(Crowded));
        }
        let visitors = &self.server.visitors;
        let mut visit = self.visit.lock().expect("nobody panics while holding it");
        if visitors.is_proxy(self.peer) {
            match visitors.enter(visitors.forwarded_for(self.peer, headers)) {
                Ok(counted) => *visit = Some(counted),
                Err(refusal) => return Some(crowded(refusal)),
            }
        }
        if endpoint == Endpoint::Find && visit.as_ref().is_some_and(|visit| !visit.could_find()) {
            let limit = config.max_finds_per_address;
            return Some(too_many(&format!("one address may ask for {limit} games a second")));
        }
        None
    }

    fn endpoint(&self, endpoint: Endpoint, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return only_get();
        }
        let headers = request.headers();
        if request.version() != Version::HTTP_11
            || !names(headers, &CONNECTION, "upgrade")
            || !names(headers, &UPGRADE, "websocket")
            || !names(headers, &SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION)
        {
            let mut response =
                page(StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket, version 13 (RFC 6455), only");
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(WEBSOCKET_VERSION));
            return response;
        }
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            return page(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is missing");
        };
        if !origin::is_allowed(headers, &self.server.config.allowed_origins) {
            return page(StatusCode::FORBIDDEN, "pages of this origin may not play here; ALLOWED_ORIGINS lets them");
        }
        if self.server.draining.is_cancelled() {
            return refused("the server is shutting down");
        }
        if self.entry == Entry::Full {
            self.server.refused.fetch_add(1, Ordering::Relaxed);
            return refused(&format!("all {} connections are taken", self.server.config.max_connections));
        }
        if let Some(refusal) = self.count(endpoint, headers) {
            return refusal;
        }
        let accept = derive_accept_key(key.as_bytes());
        let Ok(accept) = HeaderValue::try_from(accept) else {
            return page(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is not a key");
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        let _ = self.upgraded.set(endpoint);
        response
    }
}

impl<S: GameStore> hyper::service::Service<Request<Incoming>> for Routes<S> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let _ = self.asked.set(());
        let path = request.uri().path();
        let response = match (path, Endpoint::from_path(path)) {
            (_, Some(endpoint)) => self.endpoint(endpoint, &request),
            (LIVEZ | READYZ, _) if !is_asked(request.method()) => only_get(),
            (LIVEZ, _) => livez(),
            (READYZ, _) => {
                let server = Arc::clone(&self.server);
                return Box::pin(async move { Ok(readyz(&server.health, server.draining.is_cancelled()).await) });
            }
            _ => page(StatusCode::NOT_FOUND, "no such path"),
        };
        Box::pin(std::future::ready(Ok(response)))
    }
}

fn refused(reason: &str) -> Response<Full<Bytes>> {
    later(StatusCode::SERVICE_UNAVAILABLE, reason)
}

fn too_many(reason: &str) -> Response<Full<Bytes>> {
    later(StatusCode::TOO_MANY_REQUESTS, reason)
}

fn later(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = page(status, reason);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
    response
}

/// Whether a header that is a comma-separated list names `token`, in whatever case.
fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_lists_of_any_case() {
        let check = |value: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.append(CONNECTION, HeaderValue::from_static(value));
            assert_eq!(names(&headers, &CONNECTION, "upgrade"), expected, "{value}");
        };
        check("Upgrade", true);
        check("keep-alive, Upgrade", true);
        check("keep-alive", false);
        check("upgraded", false);
    }
}
