//! Connections of clients that speak something else, or WebSocket as nobody should: answered or closed, and nobody else
//! is harmed.

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{ACTION, FIND, HERO, LOBBY, LOGIN, Player};
use crate::doorway::{UPGRADE, upgraded};
use crate::games::play;
use crate::running::{Running, within};

/// A frame, in its parts as RFC 6455 has them; what a client must not send included.
#[derive(Clone, Debug)]
struct Frame {
    /// FIN, three reserved bits, and the opcode.
    first: u8,
    masked: bool,
    /// What the header claims; the payload's own length otherwise.
    claimed: Option<u64>,
    payload: Vec<u8>,
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x10;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

impl Frame {
    fn new(first: u8, payload: &[u8]) -> Self {
        Self { first, masked: true, claimed: None, payload: payload.to_vec() }
    }

    /// A mask of zeros leaves the payload as it is.
    fn bytes(&self) -> Vec<u8> {
        let length = self.claimed.unwrap_or(self.payload.len() as u64);
        let mask = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..126), _) => bytes.push(mask | short),
            (_, Ok(medium)) => {
                bytes.push(mask | 126);
                bytes.extend(medium.to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend([0; 4]);
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// The close code that these frames are answered with, at once and before any more has come.
async fn close_code(server: &Running, path: &str, frames: &[Frame]) -> u16 {
    let mut stream = upgraded(server, path, TcpStream::connect(server.address).await.unwrap()).await;
    for frame in frames {
        // It may have been closed already.
        if stream.write_all(&frame.bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    within("the end of the connection", stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer[0], FIN | CLOSE, "{frames:?}: {answer:?}");
    u16::from_be_bytes([answer[2], answer[3]])
}

#[tokio::test]
async fn frames_that_nobody_should_send_close_with_their_code_before_their_payload_has_come() {
    let server = Running::start().await;
    let limit = 64 * 1024;
    let half = vec![b' '; limit / 2];
    let cases: Vec<(&str, Vec<Frame>, u16)> = vec![
        ("no mask", vec![Frame { masked: false, ..Frame::new(FIN | TEXT, b"{}") }], 1002),
        ("a reserved bit", vec![Frame::new(FIN | RESERVED | TEXT, b"{}")], 1002),
        ("a reserved opcode", vec![Frame::new(FIN | 3, b"{}")], 1002),
        ("a reserved control opcode", vec![Frame::new(FIN | 11, b"")], 1002),
        ("a continuation of nothing", vec![Frame::new(FIN | CONTINUATION, b"{}")], 1002),
        ("a text within a text", vec![Frame::new(TEXT, b"{"), Frame::new(FIN | TEXT, b"}")], 1002),
        ("a ping in parts", vec![Frame::new(PING, b"")], 1002),
        ("a ping that is too long", vec![Frame::new(FIN | PING, &[0; 126])], 1002),
        ("a close of one byte", vec![Frame::new(FIN | CLOSE, &[3])], 1002),
        ("a length of 2^62", vec![Frame { claimed: Some(1 << 62), ..Frame::new(FIN | TEXT, b"") }], 1009),
        ("a length of 2^64 - 1", vec![Frame { claimed: Some(u64::MAX), ..Frame::new(FIN | TEXT, b"") }], 1009),
        ("a length above the limit", vec![Frame { claimed: Some(limit as u64 + 1), ..Frame::new(TEXT, b"") }], 1009),
        (
            "parts above the limit",
            vec![Frame::new(TEXT, &half), Frame::new(CONTINUATION, &half), Frame::new(CONTINUATION, b" ")],
            1009,
        ),
        ("half a character", vec![Frame::new(TEXT, b"\xc3"), Frame::new(FIN | CONTINUATION, b"")], 1007),
    ];
    for (what, frames, code) in cases {
        for path in [LOGIN, LOBBY] {
            assert_eq!(close_code(&server, path, &frames).await, code, "{what} at {path}");
        }
    }
    assert_eq!(server.stop().await.panics, 0);
}

/// How a connection begins.
#[derive(Clone, Debug)]
enum Opening {
    Upgrade(&'static str),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Script {
    opening: Opening,
    frames: Vec<Frame>,
    /// What of all these bytes is left out at the end, in percent.
    cut_percent: usize,
    /// How many go into each write.
    chunk_bytes: usize,
    /// Whether the answers are read, or left to fill the buffers.
    reads: bool,
}

fn frames() -> impl Strategy<Value = Frame> {
    let known: Vec<&[u8]> = vec![
        b"",
        b"{}",
        br#"{"PAYLOAD":{"USER":"Somebody"}}"#,
        br#"{"PAYLOAD":{"USER_TOKEN":"00000000-0000-4000-8000-000000000001","PARTICIPANTS":2}}"#,
        br#"{"PAYLOAD":{"GAME_TOKEN":"00000000-0000-4000-8000-000000000001",
            "USER_TOKEN":"00000000-0000-4000-8000-000000000001"}}"#,
        b"\xff",
        b"\x03\xe8",
        b"\x03\xe8bye",
        b"\x00\x00",
    ];
    let payload = prop_oneof![
        6 => select(known).prop_map(<[u8]>::to_vec),
        2 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0..140_000usize).prop_map(|length| vec![b'[' ; length]),
    ];
    let first = prop_oneof![
        6 => Just(FIN | TEXT),
        6 => (0..12u8, any::<bool>()).prop_map(|(opcode, fin)| opcode | if fin { FIN } else { 0 }),
        1 => any::<u8>(),
    ];
    let claimed = prop_oneof![
        12 => Just(None),
        1 => any::<u64>().prop_map(Some),
        1 => (0..70_000u64).prop_map(Some),
    ];
    (first, prop::bool::weighted(0.95), claimed, payload).prop_map(|(first, masked, claimed, payload)| Frame {
        first,
        masked,
        claimed,
        payload,
    })
}

fn openings() -> impl Strategy<Value = Opening> {
    let path = select(&[LOGIN, FIND, LOBBY, HERO, ACTION][..]);
    let head = |line: &str, headers: &str| format!("{line}\r\nHost: test\r\n{headers}\r\n").into_bytes();
    let bad = vec![
        head("GET / HTTP/1.1", UPGRADE),
        head("GET /api/v1/login HTTP/1.0", UPGRADE),
        head("GET /api/v1/login HTTP/2.0", UPGRADE),
        head("GET  HTTP/1.1", UPGRADE),
        head("POST /api/v1/login HTTP/1.1", &format!("{UPGRADE}Content-Length: 99999999999\r\n")),
        head("GET /api/v1/login HTTP/1.1", &format!("{UPGRADE}Content-Length: 5\r\n")),
        head("GET /api/v1/login HTTP/1.1", &format!("{UPGRADE}Transfer-Encoding: chunked\r\n")),
        head("GET /api/v1/login HTTP/1.1", &UPGRADE.replace("dGhl", "\u{e9}")),
        head("GET /api/v1/login HTTP/1.1", &UPGRADE.replace("13", "13, 13")),
        head("GET /api/v1/login HTTP/1.1", &format!("X: {}\r\n", "x".repeat(100_000))),
        head("GET /api/v1/login HTTP/1.1", &"X: x\r\n".repeat(500)),
        head("GET /livez HTTP/1.1", ""),
        head("OPTIONS * HTTP/1.1", ""),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\0\0\0\x12\0\x12\0\x03\0\0\0\x01".to_vec(),
    ];
    prop_oneof![
        6 => path.prop_map(Opening::Upgrade),
        3 => select(bad).prop_map(Opening::Bytes),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Opening::Bytes),
    ]
}

prop_compose! {
    fn scripts()(
        opening in openings(),
        frames in prop::collection::vec(frames(), 0..6),
        cut_percent in prop_oneof![2 => Just(0), 1 => 0..100usize],
        chunk_bytes in prop_oneof![2 => Just(usize::MAX), 1 => 1..3_000usize, 1 => 1..3usize],
        reads in prop::bool::weighted(0.9),
    ) -> Script {
        Script { opening, frames, cut_percent, chunk_bytes, reads }
    }
}

/// Of a script whose writes are small, so that it ends soon.
const MAX_SLOW_BYTES: usize = 2_000;

/// Goes through a script, half-closes, and waits for the server's end.
async fn act(server: &Running, script: &Script) {
    let mut bytes = match &script.opening {
        Opening::Upgrade(path) => format!("GET {path} HTTP/1.1\r\nHost: test\r\n{UPGRADE}\r\n").into_bytes(),
        Opening::Bytes(bytes) => bytes.clone(),
    };
    bytes.extend(script.frames.iter().flat_map(Frame::bytes));
    bytes.truncate(bytes.len() - bytes.len() * script.cut_percent / 100);
    if script.chunk_bytes < 100 {
        bytes.truncate(MAX_SLOW_BYTES);
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        for chunk in bytes.chunks(script.chunk_bytes) {
            // The server may have closed long ago.
            if writer.write_all(chunk).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = writer.shutdown().await;
    };
    if !script.reads {
        return writing.await;
    }
    let reading = async {
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = within("the server's end of the connection", reader.read_to_end(&mut answer)).await;
    };
    tokio::join!(writing, reading);
}

/// The neighbours' game goes on meanwhile.
async fn among_neighbours(scripts: &[Script]) {
    let server = Running::start().await;
    let mut one = Player::join(&server, "One", 2).await;
    let mut two = Player::join(&server, "Two", 2).await;
    let playing = async {
        let (one, two) = tokio::join!(play(&server, &mut one), play(&server, &mut two));
        assert!(one.turns + two.turns > 0);
    };
    tokio::join!(playing, join_all(scripts.iter().map(|script| act(&server, script))));
    drop((one, two));
    let summary = server.stop().await;
    assert_eq!((summary.panics, summary.cut_off), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(8), ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_connection_brings_it_ends_and_its_neighbours_play_on(
        scripts in prop::collection::vec(scripts(), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(among_neighbours(&scripts));
    }
}
