use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest, SaslHandshakeRequest};
use superhero_broker::{BrokerConfig, BrokerError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{Broker, batch, fetch, frame, produce};

fn framed(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(body.len() as i32);
    out.put_slice(body);
    out
}

/// A request of this API whose body is `body`, whatever it should be.
fn with_body(key: i16, version: i16, body: &[u8]) -> BytesMut {
    let mut request = BytesMut::new();
    request.put_i16(key);
    request.put_i16(version);
    request.put_i32(1);
    request.put_i16(-1);
    request.put_slice(body);
    framed(&request)
}

#[tokio::test]
async fn what_is_no_request_ends_its_connection_and_no_other() {
    let broker = Broker::start(BrokerConfig { max_frame_bytes: 8 * 1024 * 1024, ..BrokerConfig::default() }).await;
    let mut bystander = broker.client().await;
    bystander.create_topic("t", 1).await;
    let mut trailing = frame(4, 1, &MetadataRequest::default());
    trailing.put_slice(b"more");
    let length = trailing.len() as i32 - 4;
    trailing[..4].copy_from_slice(&length.to_be_bytes());
    let mut fetch_header = BytesMut::new();
    for _ in 0..5 {
        fetch_header.put_i32(1);
    }
    let cases: Vec<(&str, BytesMut)> = vec![
        ("HTTP", BytesMut::from(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..])),
        ("TLS", BytesMut::from(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..])),
        ("a negative length", BytesMut::from(&b"\xff\xff\xff\xff"[..])),
        ("a length of nothing", BytesMut::from(&b"\0\0\0\0"[..])),
        ("a length above the limit", BytesMut::from(&b"\0\x80\0\x01\0\0\0\x08"[..])),
        ("a large request without records", BytesMut::from(&b"\0\x50\0\0\0\x03\0\x08"[..])),
        ("less than a header", framed(b"\0\x12\0\0\0\0")),
        ("an unknown API", with_body(999, 0, b"")),
        ("a negative API", with_body(-1, 0, b"")),
        ("an API that is not served", frame(1, 1, &SaslHandshakeRequest::default())),
        ("a version above what is served", with_body(1, 99, b"")),
        ("a version below what is decoded", with_body(0, 0, b"")),
        ("a negative version", with_body(3, -1, b"")),
        ("no body", with_body(3, 4, b"")),
        ("half a body", with_body(3, 4, b"\0\0\0\x01\0\x05ab")),
        ("an array of 2^31 - 1 topics", with_body(3, 4, b"\x7f\xff\xff\xff")),
        ("a compact array of 2^32 - 2 topics", with_body(3, 12, b"\0\xff\xff\xff\xff\x0f")),
        ("a fetch of 2^31 - 1 topics", with_body(1, 4, &[&fetch_header[..17], b"\x7f\xff\xff\xff"].concat())),
        ("records of 2^31 - 1 topics", with_body(0, 8, b"\xff\xff\0\x01\0\0\0\0\x7f\xff\xff\xff")),
        ("records of as many topics as there are bytes", with_body(0, 8, b"\xff\xff\0\x01\0\0\0\0\0\0\0\x04\0\0\0\0")),
        ("a name that is no text", with_body(3, 4, b"\0\0\0\x01\0\x02\xff\xff\0")),
        ("more than the request", trailing),
    ];
    for (what, bytes) in cases {
        let mut client = broker.client().await;
        client.stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = client.stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"", "{what}");
        assert!(bystander.call(4, &MetadataRequest::default()).await.brokers.len() == 1, "{what}");
    }
    assert_eq!(bystander.produce("t", 0, batch(&["a"])).await.base_offset, 0);
}

#[tokio::test]
async fn a_client_that_goes_within_a_request_does_no_harm() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut bystander = broker.client().await;
    bystander.create_topic("t", 1).await;
    let whole = frame(8, 1, &produce("t", 0, batch(&["a"])));
    for length in 0..whole.len() {
        let mut client = broker.client().await;
        client.stream.write_all(&whole[..length]).await.unwrap();
    }
    assert_eq!(bystander.bounds("t", 0).await, (0, 0));
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_is_free_again_when_one_ends() {
    let broker = Broker::start(BrokerConfig { max_connections: 2, ..BrokerConfig::default() }).await;
    let mut first = broker.client().await;
    let mut second = broker.client().await;
    first.call(3, &ApiVersionsRequest::default()).await;
    second.call(3, &ApiVersionsRequest::default()).await;
    assert!(broker.client().await.receive_frame().await.is_none());
    drop(first);
    loop {
        let mut client = broker.client().await;
        // The broker may not have noticed yet, and then closes this one.
        let asked = frame(3, 1, &ApiVersionsRequest::default());
        if client.stream.write_all(&asked).await.is_ok() && client.receive_frame().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_stop_ends_connections_and_what_waits_there() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    client.send(11, &fetch("t", 0, 0).with_max_wait_ms(280_000)).await;
    let address = broker.address;
    broker.stop().await;
    assert!(client.receive_frame().await.is_none());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_bound_that_leaves_no_room_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = BrokerConfig { segment_bytes: 0, ..BrokerConfig::default() };
    let error = superhero_broker::run(listener, config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, BrokerError::Config { field: "segment_bytes" }), "{error}");
}
