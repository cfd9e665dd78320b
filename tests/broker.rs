//! The embedded broker under clients that take memory and give nothing: it holds what it says, with no more than 2 GiB of address space,
//! and others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use libtest_mimic::Trial;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::process::{Process, binary, eventually};
use crate::test;

/// The attacks.
pub fn tests() -> Vec<Trial> {
    vec![
        test("half-sent requests take no more of the broker's memory than it says", half_sent),
        test("answers that nobody reads take no more of the broker's memory than it says", unread),
    ]
}

const MIB: u64 = 1024 * 1024;
const ADDRESS_SPACE_KIB: u64 = 2 * 1024 * 1024;
/// The 256 MiB for what is on its way and 100 KiB of each connection, the records that are written here, and the process itself.
const PEAK_BYTES: u64 = 512 * MIB;
/// When the attackers have gone: less than half of what they had.
const LEFT_BYTES: u64 = 200 * MIB;
/// What others have to get done while the attackers are there.
const ROUNDS: u64 = 20;
const TOPIC: &str = "t";

struct Broker {
    process: Process,
    address: String,
}

impl Broker {
    async fn start() -> Result<Self> {
        let broker = binary("superhero").as_std().get_program().to_owned();
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" broker listen=127.0.0.1:0")])
            .arg(broker);
        let mut process = Process::spawn("superhero", command)?;
        let address = process.says("Listening on ").await?;
        Ok(Self { process, address })
    }

    /// A line of /proc/PID/status, in bytes.
    fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the broker has ended")?;
        Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>()? * 1024)
    }

    async fn partition(&self) -> Result<PartitionClient> {
        let client = ClientBuilder::new(vec![self.address.clone()]).build().await?;
        Ok(client.partition_client(TOPIC, 0, UnknownTopicHandling::Retry).await?)
    }

    /// Produces and fetches until it is stopped, small and large batches in turn; how often.
    async fn go_on(&self) -> Result<Honest> {
        let partition = self.partition().await?;
        let (rounds, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let (counted, stopped) = (rounds.clone(), stop.clone());
        let mut going = JoinSet::new();
        going.spawn(async move {
            let mut rounds = 0;
            while !stopped.is_cancelled() {
                let bytes = if rounds % 2 == 0 { 100 } else { 900_000 };
                let offset = partition.produce(vec![record(bytes)], Compression::NoCompression).await?[0];
                let (records, _) = partition.fetch_records(offset, 1..2_000_000, 10_000).await?;
                ensure!(records.iter().any(|found| found.offset == offset), "record {offset} does not come back");
                rounds += 1;
                counted.store(rounds, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Honest { going, rounds, stop })
    }

    /// With the attackers there, and without them.
    async fn judge(mut self, attack: &str, attackers: JoinSet<()>, mut honest: Honest) -> Result<()> {
        self.process.prints("closed the least active connections").await?;
        let until = honest.rounds.load(Ordering::Relaxed) + ROUNDS;
        eventually("others go on", Duration::from_secs(60), async || {
            Ok(honest.rounds.load(Ordering::Relaxed) >= until || honest.going.try_join_next().is_some())
        })
        .await?;
        let (peak, space) = (self.memory("VmHWM:")?, self.memory("VmPeak:")?);
        drop(attackers);
        honest.stop.cancel();
        let ended = honest.going.join_next().await.context("a client that reads and writes was not served")?;
        ended?.context("a client that reads and writes was not served")?;
        let rounds = honest.rounds.load(Ordering::Relaxed);
        let given_back = async || self.memory("VmRSS:").map(|left| left < LEFT_BYTES);
        eventually("the memory is given back", Duration::from_secs(20), given_back).await?;
        let (peak, space, left) = (peak / MIB, space / MIB, self.memory("VmRSS:")? / MIB);
        println!(
            "{attack}: {peak} MiB at most, {space} MiB of address space, {left} MiB left; {rounds} rounds beside them"
        );
        ensure!(peak * MIB < PEAK_BYTES, "{attack} took {peak} MiB");
        let lines = self.process.printed().matches("closed the least active").count();
        ensure!(lines < 100, "{attack}: {lines} lines in the log");
        self.process.stop().await?;
        Ok(())
    }
}

/// A client that reads and writes.
struct Honest {
    going: JoinSet<Result<()>>,
    rounds: Arc<AtomicU64>,
    stop: CancellationToken,
}

fn record(bytes: usize) -> Record {
    Record { key: None, value: Some(vec![b'x'; bytes]), headers: Default::default(), timestamp: chrono::Utc::now() }
}

async fn half_sent() -> Result<()> {
    const CLIENTS: usize = 300;
    const ANNOUNCED: i32 = 16_600_000;
    let broker = Broker::start().await?;
    let honest = broker.go_on().await?;
    let mut half = ANNOUNCED.to_be_bytes().to_vec();
    half.extend_from_slice(b"\0\0\0\x03\0\0\0\x01\xff\xff");
    half.resize(ANNOUNCED as usize - 100_000, b'x');
    let attackers = attack(&broker, CLIENTS, half, 64 * 1024).await?;
    broker.judge("half-sent requests", attackers, honest).await
}

async fn unread() -> Result<()> {
    const CLIENTS: usize = 900;
    let broker = Broker::start().await?;
    let partition = broker.partition().await?;
    for _ in 0..5 {
        partition.produce(vec![record(900_000)], Compression::NoCompression).await?;
    }
    let honest = broker.go_on().await?;
    let attackers = attack(&broker, CLIENTS, fetch()?, 4096).await?;
    broker.judge("unread answers", attackers, honest).await
}

/// So many clients that send this, and nothing more, and read nothing. Dropping them is their end.
async fn attack(broker: &Broker, clients: usize, sent: Vec<u8>, receive_buffer: u32) -> Result<JoinSet<()>> {
    let (address, sent) = (broker.address.parse()?, Arc::new(sent));
    let mut attackers = JoinSet::new();
    for _ in 0..clients {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(receive_buffer)?;
        let mut stream = socket.connect(address).await?;
        let sent = sent.clone();
        attackers.spawn(async move {
            // One that is closed has done what it could.
            let _ = stream.write_all(&sent).await;
            std::future::pending::<()>().await;
        });
    }
    Ok(attackers)
}

/// A fetch of all that there is.
fn fetch() -> Result<Vec<u8>> {
    const VERSION: i16 = 4;
    let partition = FetchPartition::default().with_partition_max_bytes(i32::MAX);
    let topic =
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(TOPIC))).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(i32::MAX).with_topics(vec![topic]);
    let header = RequestHeader::default().with_request_api_key(ApiKey::Fetch as i16).with_request_api_version(VERSION);
    let mut body = bytes::BytesMut::new();
    header.encode(&mut body, 1)?;
    request.encode(&mut body, VERSION)?;
    Ok([&i32::try_from(body.len())?.to_be_bytes()[..], &body].concat())
}
