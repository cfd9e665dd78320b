//! Before and around the sessions: paths, health, limits, signs of life.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use superhero_server::{Health, ServerConfig};
use superhero_store::memory::Memory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::client::{Client, FIND, HERO, LOBBY, LOGIN, login};
use crate::moody::Moody;
use crate::running::{Running, quick, within};

pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends the head of a request and reads until the server closes.
async fn exchange(server: &Running, request_line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{request_line} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("the end of the answer", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// A connection whose upgrade is answered, as bytes.
pub(crate) async fn upgraded(server: &Running, path: &str, stream: TcpStream) -> TcpStream {
    let mut stream = stream;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{UPGRADE}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within("the upgrade", stream.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer} of {}", server.address);
    // The example of RFC 6455, section 1.3.
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    stream
}

#[tokio::test]
async fn what_is_no_upgrade_of_an_endpoint_is_answered_by_a_page() {
    let server = Running::start().await;
    let without_key = UPGRADE.split_once("Sec-WebSocket-Key").unwrap().0;
    let cases = [
        ("GET /", "", "404"),
        ("GET /api/v1/login/", UPGRADE, "404"),
        ("GET /api/v2/login", UPGRADE, "404"),
        ("GET /api/v1/login", "", "426"),
        ("GET /api/v1/game/action", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "426"),
        ("GET /api/v1/login", &UPGRADE.replace("13", "8"), "426"),
        ("POST /api/v1/login", UPGRADE, "405"),
        ("GET /api/v1/login", without_key, "400"),
        ("POST /livez", "", "405"),
        ("GET /livez", "", "200"),
    ];
    for (request_line, headers, status) in cases {
        let answer = exchange(&server, request_line, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request_line} {headers}: {answer}");
    }
    let answer = exchange(&server, "GET /api/v1/login", "").await.to_lowercase();
    assert!(answer.contains("upgrade: websocket") && answer.contains("sec-websocket-version: 13"), "{answer}");
    assert_eq!(server.stop().await.sessions, 0);
}

#[tokio::test]
async fn what_comes_right_behind_the_upgrade_request_is_not_lost() {
    let server = Running::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut bytes = format!("GET {LOGIN} HTTP/1.1\r\nHost: test\r\n{UPGRADE}\r\n").into_bytes();
    bytes.extend(masked(b"{}"));
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("MISSING PAYLOAD IN MESSAGE") {
        answer.push(within("the answer", stream.read_u8()).await.unwrap());
    }
}

/// A short text frame as a client has to send it; a mask of zeros leaves the text as it is.
fn masked(text: &[u8]) -> Vec<u8> {
    assert!(text.len() < 126, "longer lengths are written otherwise");
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text);
    frame
}

async fn readiness(server: &Running) -> (String, Value) {
    let answer = exchange(server, "GET /readyz", "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn readiness_names_what_is_wrong() {
    let transport = std::sync::Arc::new(std::sync::Mutex::new(Ok(())));
    let check = transport.clone();
    let health = Health::new().with("transport", move || std::future::ready(check.lock().unwrap().clone()));
    let store = Moody::default();
    let server = Running::with_health(quick(), store.clone(), health).await;

    let (status, body) = readiness(&server).await;
    assert_eq!(status, "200");
    assert_eq!(body, json!({"status": "ready", "checks": {"store": "ok", "transport": "ok"}}));

    *transport.lock().unwrap() = Err("the queue is full".to_owned());
    let (status, body) = readiness(&server).await;
    assert_eq!(status, "503");
    assert_eq!(body, json!({"status": "not ready", "checks": {"store": "ok", "transport": "the queue is full"}}));

    store.set_away(true);
    let (_, body) = readiness(&server).await;
    assert_eq!(body["checks"]["store"], "the store is not available: as the test wants it");
    let alive = exchange(&server, "GET /livez", "").await;
    assert!(alive.starts_with("HTTP/1.1 200 "), "{alive}");
}

#[tokio::test]
async fn one_connection_too_many_is_refused_with_a_reason_until_a_place_is_free() {
    let server = Running::with(ServerConfig { max_connections: 2, ..quick() }, Memory::new()).await;
    let mut first = server.connect(LOGIN).await;
    let _second = server.connect(FIND).await;

    let Err(tungstenite::Error::Http(refusal)) = Client::try_connect(server.address, LOBBY).await else {
        panic!("the third connection was not refused")
    };
    assert_eq!(refusal.status(), 503);
    let answer = exchange(&server, &format!("GET {LOBBY}"), UPGRADE).await;
    assert!(answer.contains("all 2 connections are taken"), "{answer}");
    assert_eq!(readiness(&server).await.0, "200", "health is told to whoever asks");

    first.socket.close(None).await.unwrap();
    while first.socket.next().await.is_some() {}
    within("a free place", async { while Client::try_connect(server.address, LOBBY).await.is_err() {} }).await;
    assert!(server.stop().await.refused >= 2);
}

/// The status of an upgrade with these headers, and the connection, which lasts until it is dropped.
async fn upgrade(server: &Running, path: &str, headers: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: game.example:8080\r\n{UPGRADE}{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("the answer", stream.read_exact(&mut answer)).await.unwrap();
    (String::from_utf8_lossy(&answer[9..]).into_owned(), stream)
}

#[tokio::test]
async fn pages_of_other_sites_may_not_play_unless_they_are_allowed() {
    let allowed_origins = vec!["https://pages.example".parse().unwrap()];
    let server = Running::with(ServerConfig { allowed_origins, ..quick() }, Memory::new()).await;
    for (headers, expected) in [
        ("", "101"),
        ("Origin: http://game.example:3000\r\n", "101"),
        ("Origin: https://pages.example\r\n", "101"),
        ("Origin: http://pages.example\r\n", "403"),
        ("Origin: https://evil.example\r\n", "403"),
        ("Origin: null\r\n", "403"),
        ("Origin: http://game.example\r\nOrigin: https://evil.example\r\n", "403"),
    ] {
        for path in [LOGIN, LOBBY] {
            assert_eq!(upgrade(&server, path, headers).await.0, expected, "{headers}");
        }
    }
    let answer =
        exchange(&server, &format!("GET {LOGIN}"), &format!("{UPGRADE}Origin: https://evil.example\r\n")).await;
    assert!(answer.ends_with("pages of this origin may not play here; ALLOWED_ORIGINS lets them\n"), "{answer}");
}

fn behind_proxy(max_connections_per_address: usize, max_finds_per_address: u32) -> ServerConfig {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    ServerConfig { max_connections_per_address, max_finds_per_address, trusted_proxies, ..quick() }
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_others_have_theirs() {
    let server = Running::with(behind_proxy(2, 0), Memory::new()).await;
    let of = |address: &str| format!("X-Forwarded-For: 203.0.113.7, {address}\r\n");
    let (crowd, other) = (of("192.0.2.1"), of("192.0.2.2"));
    let mut there = Vec::new();
    for (headers, expected) in [(&crowd, "101"), (&crowd, "101"), (&crowd, "429"), (&other, "101"), (&crowd, "429")] {
        let (status, stream) = upgrade(&server, LOGIN, headers).await;
        assert_eq!(status, expected, "{headers}");
        there.push(stream);
    }
    let answer = exchange(&server, &format!("GET {LOGIN}"), &format!("{UPGRADE}{crowd}")).await;
    assert!(answer.contains("all 2 connections that one address may have are taken"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    assert_eq!(readiness(&server).await.0, "200", "health is told to whoever asks");
    // The proxy itself, and other clients of this host.
    for _ in 0..9 {
        there.push(upgrade(&server, LOGIN, "").await.1);
    }
    drop(there.remove(0));
    within("a free place", async { while upgrade(&server, LOGIN, &crowd).await.0 != "101" {} }).await;
    assert!(server.stop().await.refused >= 3);
}

#[tokio::test]
async fn what_a_stranger_says_of_whom_it_speaks_for_counts_for_nothing() {
    let config = ServerConfig { trusted_proxies: Vec::new(), ..behind_proxy(1, 0) };
    let server = Running::with(config, Memory::new()).await;
    let mut there = Vec::new();
    for _ in 0..3 {
        // It is of this host, whatever it says, and those are not counted.
        let (status, stream) = upgrade(&server, LOGIN, "X-Forwarded-For: 192.0.2.1\r\n").await;
        assert_eq!(status, "101");
        there.push(stream);
    }
}

#[tokio::test]
async fn one_address_asks_for_so_many_games_and_others_for_theirs() {
    let server = Running::with(behind_proxy(0, 1), Memory::new()).await;
    let connect = async |address: &str| {
        let mut request = format!("ws://{}{FIND}", server.address).into_client_request().unwrap();
        request.headers_mut().insert("X-Forwarded-For", address.parse().unwrap());
        let stream = TcpStream::connect(server.address).await.unwrap();
        client_async(request, stream).await.map(|(socket, _)| Client { socket })
    };
    let mut client = connect("192.0.2.1").await.unwrap();
    let user = login(&server, "Asks").await;
    let find = json!({"USER_TOKEN": user, "PARTICIPANTS": 2});
    for asked in 0.. {
        let status = client.ask(find.clone()).await["STATUS"].take();
        if status["JOINED"] != "SUCESS" {
            assert_eq!(status, "TOO MANY NEW GAMES FROM THIS ADDRESS");
            // Ten at once; some more if this took seconds.
            assert!(asked >= 10, "{asked}");
            break;
        }
    }
    let Err(tungstenite::Error::Http(refusal)) = connect("192.0.2.1").await else { panic!("another one was let in") };
    assert_eq!(refusal.status(), 429);
    assert!(String::from_utf8_lossy(refusal.body().as_deref().unwrap_or_default()).contains("1 games a second"));
    let mut other = connect("192.0.2.2").await.unwrap();
    assert_eq!(other.ask(find).await["STATUS"]["JOINED"], "SUCESS");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let config = ServerConfig { handshake_timeout: Duration::from_millis(100), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    for begun in ["", "GET /api/v1/login HTTP/1.1\r\nHost: te"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("the end of the connection", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{begun:?}: {answer}");
        assert!(answer.ends_with("no request within 100 ms\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_a_reason_and_one_at_the_limit_does_not() {
    let server = Running::start().await;
    let limit = 64 * 1024;
    let mut client = server.connect(LOGIN).await;
    client.send_text(&" ".repeat(limit)).await;
    assert_eq!(client.next().await["STATUS"], "MESSAGE IS NOT JSON");

    // The peer may reset the connection while the rest is on its way, so the sending itself need not succeed.
    let _ = client.socket.send(Message::text(" ".repeat(limit + 1))).await;
    assert_eq!(client.closed().await, (1009, "a message has at most 65536 bytes".to_owned()));

    let mut client = server.connect(LOGIN).await;
    let _ = client.socket.send(Message::text(" ".repeat(16 * limit))).await;
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_a_reason() {
    let server = Running::start().await;
    let mut stream = upgraded(&server, LOGIN, TcpStream::connect(server.address).await.unwrap()).await;
    stream.write_all(&masked(&[0xff, 0xfe])).await.unwrap();
    let mut frame = Vec::new();
    within("the end of the connection", stream.read_to_end(&mut frame)).await.unwrap();
    assert_eq!(frame[..4], [0x88, u8::try_from(frame.len() - 2).unwrap(), 0x03, 0xef], "close 1007");
    assert_eq!(&frame[4..], b"a text frame has to be UTF-8");
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed_with_a_reason() {
    let config =
        ServerConfig { ping_interval: Duration::from_millis(50), pong_timeout: Duration::from_millis(70), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    for path in [LOGIN, LOBBY] {
        let mut stream = upgraded(&server, path, TcpStream::connect(server.address).await.unwrap()).await;
        let mut frames = Vec::new();
        within("the end of the connection", stream.read_to_end(&mut frames)).await.unwrap();
        assert_eq!(frames[..2], [0x89, 0], "a ping");
        assert_eq!(frames[2..6], [0x88, u8::try_from(frames.len() - 4).unwrap(), 0x03, 0xea], "close 1002");
        assert_eq!(&frames[6..], b"no answer to a ping within 70 ms");
    }
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays() {
    let config = ServerConfig { ping_interval: Duration::from_millis(20), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let mut client = server.connect(LOGIN).await;
    for _ in 0..5 {
        let frame = within("a ping", client.socket.next()).await.unwrap().unwrap();
        assert!(frame.is_ping(), "{frame:?}");
    }
    assert_eq!(client.ask(json!({})).await["STATUS"], "MISSING USER IN PAYLOAD");
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_is_closed() {
    let config = ServerConfig { send_timeout: Duration::from_millis(100), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let socket = TcpSocket::new_v4().unwrap();
    // Little room on this side, so that less has to be sent for it to be full.
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let mut stream = upgraded(&server, HERO, stream).await;
    let request = masked(b"{}").repeat(1000);
    within("the end of the connection", async { while stream.write_all(&request).await.is_ok() {} }).await;
    assert_eq!(server.stop().await.panics, 0);
}
