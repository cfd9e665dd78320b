//! A TCP proxy before a broker that knows where Kafka's frames begin and end, so that it can lose an answer to what the broker has
//! already done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// The largest frame that is passed on; the binaries' own bound.
const MAX_FRAME_BYTES: usize = superhero_kafka::wire::MAX_FRAME_BYTES;
/// Connections of one proxy at a time.
const MAX_CONNECTIONS: usize = 1_000;

/// Whose connections: the client id that its requests carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Servers,
    Workers,
}

impl Side {
    fn of(client_id: &[u8]) -> Option<Self> {
        match client_id {
            b"superhero-server" => Some(Self::Servers),
            b"superhero-worker" => Some(Self::Workers),
            _ => None,
        }
    }
}

/// What all proxies do to what passes; changed while it passes.
#[derive(Clone, Debug)]
pub struct Rules {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<Changes>,
}

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    /// Answers that are still to be lost, by the API key of their requests.
    lose: BTreeMap<i16, u32>,
    lost: u64,
    /// By node.
    old_views: BTreeMap<usize, OldView>,
}

/// The node's id that leads a partition of a topic.
pub type Leaders = BTreeMap<(String, i32), i32>;

/// Who led once, and how many answers differed for it.
#[derive(Debug)]
struct OldView {
    led: Leaders,
    misled: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    /// Nothing passes, and nothing is closed.
    held: bool,
    /// How often each side was cut.
    cuts: [u64; 2],
}

impl Rules {
    pub fn new() -> Self {
        Self { state: Arc::default(), changes: watch::Sender::new(Changes::default()) }
    }

    /// Each frame comes so much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Cuts the connections that a side has now.
    pub fn cut(&self, side: Side) {
        self.changes.send_modify(|changes| changes.cuts[side as usize] += 1);
    }

    /// Lets nothing pass, while both ends believe that they are connected.
    pub fn hold(&self) {
        self.changes.send_modify(|changes| changes.held = true);
    }

    /// Ends that, and cuts all that was held.
    pub fn release(&self) {
        self.changes.send_modify(|changes| {
            changes.held = false;
            changes.cuts = changes.cuts.map(|cuts| cuts + 1);
        });
    }

    /// Loses the next `count` answers to such requests: the broker has done what was asked, and the connection is cut instead.
    pub fn lose(&self, api: ApiKey, count: u32) {
        self.lock().lose.insert(api as i16, count);
    }

    /// Loses no more of them; returns how many are left.
    pub fn lose_no_more(&self, api: ApiKey) -> u32 {
        self.lock().lose.remove(&(api as i16)).unwrap_or_default()
    }

    /// How many of them are still to be lost.
    pub fn to_be_lost(&self, api: ApiKey) -> u32 {
        self.lock().lose.get(&(api as i16)).copied().unwrap_or_default()
    }

    /// Answers that were lost so far.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// From now on a node says that these lead, whoever does.
    pub fn look_back(&self, node: usize, led: Leaders) {
        self.lock().old_views.insert(node, OldView { led, misled: 0 });
    }

    /// It says what is so again; returns how many of its answers were not.
    pub fn look_forward(&self, node: usize) -> u64 {
        self.lock().old_views.remove(&node).map_or(0, |view| view.misled)
    }

    /// The answer as the node would have given it before, where that differs.
    fn old_answer(&self, node: usize, asked: Asked, frame: &[u8]) -> Result<Option<Vec<u8>>> {
        if asked.api != ApiKey::Metadata as i16 {
            return Ok(None);
        }
        let mut state = self.lock();
        let Some(view) = state.old_views.get_mut(&node) else { return Ok(None) };
        let answer = with_leaders(frame, asked.version, &view.led)?;
        view.misled += u64::from(answer.is_some());
        Ok(answer)
    }

    fn is_to_be_lost(&self, api: i16) -> bool {
        let mut state = self.lock();
        let Some(left) = state.lose.get_mut(&api).filter(|left| **left > 0) else { return false };
        *left -= 1;
        state.lost += 1;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    /// `host:port`.
    pub address: String,
}

impl Proxy {
    /// Takes a port; connections wait until [`Self::serve`].
    pub async fn bind() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        Ok(Self { listener, address })
    }

    /// Passes connections on to a node's broker.
    pub fn serve(self, node: usize, broker: String, rules: Rules) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = connections.join_next() => {}
                    accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                        // A client that is gone already is no loss.
                        let Ok((client, _)) = accepted else { continue };
                        let (broker, rules) = (broker.clone(), rules.clone());
                        // However a connection ends, both of its ends see it end.
                        connections.spawn(async move { pass(client, node, &broker, &rules).await.err() });
                    }
                }
            }
        }))
    }
}

/// Passes one connection on until an end closes it or the rules cut it.
async fn pass(client: TcpStream, node: usize, broker: &str, rules: &Rules) -> Result<()> {
    let server = TcpStream::connect(broker).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let passing = Passing { node, rules, asked: Mutex::default(), side: watch::Sender::new(None) };
    tokio::select! {
        ended = passing.requests(from_client, to_server) => ended,
        ended = passing.answers(from_server, to_client) => ended,
        () = passing.is_cut() => Ok(()),
    }
}

struct Passing<'a> {
    node: usize,
    rules: &'a Rules,
    /// The requests that have no answer yet; a broker answers them in order.
    asked: Mutex<VecDeque<Asked>>,
    side: watch::Sender<Option<Side>>,
}

/// What a request asks.
#[derive(Clone, Copy, Debug)]
struct Asked {
    api: i16,
    version: i16,
}

impl Passing<'_> {
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        loop {
            let frame = read_frame(&mut from).await?;
            let (asked, client_id) = request_header(&frame).context("a request without a header")?;
            self.side.send_if_modified(|side| {
                side.is_none() && {
                    *side = Side::of(client_id);
                    side.is_some()
                }
            });
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(asked);
            self.write(&mut to, &frame).await?;
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<()> {
        loop {
            let frame = read_frame(&mut from).await?;
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let asked = asked.context("an answer to nothing")?;
            if self.rules.is_to_be_lost(asked.api) {
                return Ok(());
            }
            let old = self.rules.old_answer(self.node, asked, &frame)?;
            self.write(&mut to, &old.unwrap_or(frame)).await?;
        }
    }

    async fn write(&self, to: &mut OwnedWriteHalf, frame: &[u8]) -> Result<()> {
        let delay = self.rules.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // The sender lives in the rules.
        let _ = self.rules.changes.subscribe().wait_for(|changes| !changes.held).await;
        Ok(to.write_all(frame).await?)
    }

    /// Waits until the side that this turns out to belong to is cut.
    async fn is_cut(&self) {
        let (mut changes, mut side) = (self.rules.changes.subscribe(), self.side.subscribe());
        let before = changes.borrow().cuts;
        loop {
            let cut = side.borrow().is_some_and(|side| changes.borrow().cuts[side as usize] > before[side as usize]);
            if cut {
                return;
            }
            tokio::select! {
                Ok(()) = changes.changed() => {}
                Ok(()) = side.changed() => {}
            }
        }
    }
}

/// A frame with its length in front.
async fn read_frame(from: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let length = from.read_u32().await?;
    ensure!(length as usize <= MAX_FRAME_BYTES, "a frame of {length} bytes");
    let mut frame = Vec::with_capacity(4 + length as usize);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.resize(4 + length as usize, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// What is asked and the client id: behind the length stand key, version (int16 both), correlation id (int32), and a string.
fn request_header(frame: &[u8]) -> Option<(Asked, &[u8])> {
    let int16 = |at: usize| Some(i16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let asked = Asked { api: int16(4)?, version: int16(6)? };
    let length = usize::try_from(int16(12)?).unwrap_or(0);
    Some((asked, frame.get(14..14 + length)?))
}

/// A metadata answer that names these leaders; none if it does so already.
fn with_leaders(frame: &[u8], version: i16, leaders: &Leaders) -> Result<Option<Vec<u8>>> {
    let header_version = ApiKey::Metadata.response_header_version(version);
    let mut body = Bytes::copy_from_slice(&frame[4..]);
    let header = ResponseHeader::decode(&mut body, header_version)?;
    let mut answer = MetadataResponse::decode(&mut body, version)?;
    let mut differs = false;
    for topic in &mut answer.topics {
        let name = topic.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
        for partition in &mut topic.partitions {
            let led = leaders.get(&(name.clone(), partition.partition_index));
            if let Some(led) = led.filter(|led| **led != partition.leader_id.0) {
                (partition.leader_id, partition.error_code) = (BrokerId(*led), 0);
                differs = true;
            }
        }
    }
    let mut told = BytesMut::from([0; 4].as_slice());
    header.encode(&mut told, header_version)?;
    answer.encode(&mut told, version)?;
    let length = u32::try_from(told.len() - 4)?;
    told[..4].copy_from_slice(&length.to_be_bytes());
    Ok(differs.then(|| told.into()))
}
