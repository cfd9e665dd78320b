//! The Kafka publisher: requests to the leaders, one at a time each, and what their answers mean.
//!
//! A request goes over [`wire::Connection`](superhero_kafka::wire::Connection) with the batches as they are, since a batch of ours
//! costs a fifth of what rskafka takes to build it from records; and a throttled success is a success here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::Utc;
use futures_util::future::{BoxFuture, pending};
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use superhero_kafka::wire::{Connection, WireError};
use superhero_kafka::{ClientError, Cluster, KafkaConfig, Metadata};
use tokio::time::Instant;

use crate::chunk::Chunk;
use crate::health::{HealthCell, Troubles};
use crate::lanes::{LaneId, Lanes, Outcome, Part, Request, Waiting};
use crate::pump::Publish;
use crate::queue::{Queue, Settled};
use crate::spool::{Kept, Spool};

/// The last version without flexible fields; brokers from 2.4 on have it.
const PRODUCE_VERSION: i16 = 8;
/// Acknowledged by every replica that is in sync.
const ACKS_ALL: i16 = -1;
/// The pause after a look at the cluster that did not help; it doubles with each.
const FIRST_LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(1);
/// An answer that takes longer is told as trouble, long before it times out.
const SLOW_ANSWER: Duration = Duration::from_secs(2);

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Cluster,
    Spool,
    Topic(String),
    Broker(i32),
    Lane(LaneId),
}

/// Publishes to Kafka.
pub(crate) struct KafkaPublishing<'q> {
    queue: &'q Queue,
    cluster: &'q Cluster,
    lanes: Lanes,
    spool: Option<Spool>,
    links: HashMap<i32, Link>,
    /// The brokers' addresses by the last look.
    addresses: BTreeMap<i32, String>,
    work: FuturesUnordered<BoxFuture<'q, Done>>,
    look: Look,
    troubles: Troubles<Subject>,
}

/// The connection to a broker.
enum Link {
    Free(Connection),
    Busy { since: Instant },
}

#[derive(Clone, Copy, Debug)]
enum Look {
    Due { at: Instant, failures: u32 },
    OnItsWay { failures: u32 },
}

/// A piece of work that is done.
enum Done {
    Looked(Result<Metadata, ClientError>),
    Produced {
        leader: i32,
        parts: Vec<Sent>,
        connection: Option<Connection>,
        answer: Result<ProduceResponse, WireError>,
    },
}

/// A part on its way.
struct Sent {
    lane: LaneId,
    topic: String,
    partition: i32,
}

impl<'q> KafkaPublishing<'q> {
    pub(crate) fn new(
        queue: &'q Queue,
        cluster: &'q Cluster,
        lanes: Lanes,
        spool: Option<Spool>,
        health: HealthCell,
    ) -> Self {
        Self {
            queue,
            cluster,
            lanes,
            spool,
            links: HashMap::new(),
            addresses: BTreeMap::new(),
            work: FuturesUnordered::new(),
            look: Look::Due { at: Instant::now(), failures: 0 },
            troubles: Troubles::new(health),
        }
    }

    /// Ends it: what a spool keeps for the next start.
    pub(crate) fn end(self) -> Option<Kept> {
        let is_delivered = self.is_empty();
        let kept = self.spool?.end(is_delivered);
        Some(Kept { unspooled: self.queue.bypassed(), ..kept })
    }

    /// Keeps the spool going; says whether the lanes may send.
    fn keep_spool(&mut self, now: Instant) -> bool {
        let Some(spool) = &mut self.spool else { return true };
        let kept = spool.replay(self.queue, &mut self.lanes).and_then(|()| spool.make_room(self.queue));
        let recorded = spool.record();
        let may_send = recorded.is_ok();
        let trouble = match (kept.and(recorded), self.queue.spool_backlog()) {
            (Err(error), _) => error.to_string(),
            (Ok(()), Err(blocked)) => format!("the spool {} takes no events: {blocked}", spool.dir().display()),
            (Ok(()), Ok(())) => {
                self.troubles.end(&Subject::Spool);
                return may_send;
            }
        };
        self.troubles.begin(Subject::Spool, now, || trouble);
        may_send
    }

    /// What was settled, into the account that it belongs to.
    fn settle(&mut self, settled: Settled) {
        match &mut self.spool {
            Some(spool) if spool.is_replaying() => spool.replayed(settled),
            Some(_) | None => self.queue.settle(settled),
        }
    }

    fn start_looking(&mut self, now: Instant) {
        let Look::Due { at, failures } = self.look else { return };
        if now < at || !self.lanes.wants_leaders() {
            return;
        }
        self.look = Look::OnItsWay { failures };
        let cluster = self.cluster;
        self.work.push(Box::pin(async move { Done::Looked(cluster.metadata().await) }));
    }

    fn looked(&mut self, looked: Result<Metadata, ClientError>) {
        let now = Instant::now();
        match looked {
            Ok(metadata) => {
                self.troubles.end(&Subject::Cluster);
                self.learn(metadata);
            }
            Err(error) => self.troubles.begin(Subject::Cluster, now, || format!("cannot look up the leaders: {error}")),
        }
        let Look::OnItsWay { failures } = self.look else { return };
        self.look = if self.lanes.wants_leaders() {
            let pause = FIRST_LOOK_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_LOOK_PAUSE);
            Look::Due { at: now + pause, failures: failures + 1 }
        } else {
            Look::Due { at: now, failures: 0 }
        };
    }

    fn learn(&mut self, metadata: Metadata) {
        let now = Instant::now();
        self.addresses = metadata.brokers.into_values().map(|broker| (broker.node_id, broker.address)).collect();
        let wanted: Vec<String> = self.lanes.topics().map(str::to_owned).collect();
        for name in wanted {
            let Some(topic) = metadata.topics.get(&name) else {
                let reason =
                    || format!("Kafka topic {name} does not exist; create it, for example with `superhero wait`");
                self.troubles.begin(Subject::Topic(name.clone()), now, reason);
                continue;
            };
            // A leader without an address is none.
            let leader = |leader: &i32| self.addresses.contains_key(leader);
            let leaders = topic.partitions.iter().map(|(number, partition)| (*number, partition.leader.filter(leader)));
            let leaders: BTreeMap<i32, Option<i32>> = leaders.collect();
            let leaderless = leaders.iter().find(|(_, leader)| leader.is_none()).map(|(partition, _)| *partition);
            if let Some(learned) = self.lanes.learn(&name, &leaders)
                && let Some(spool) = &mut self.spool
            {
                spool.learned(&name, learned);
            }
            let (has, had) = (leaders.len(), self.lanes.partitions(&name));
            let reason = match leaderless {
                None if has < had => {
                    format!("Kafka topic {name} has {has} partitions, and events wait for one of {had}; add partitions")
                }
                None => {
                    self.troubles.end(&Subject::Topic(name));
                    continue;
                }
                Some(partition) => format!("Kafka topic {name} has no leader for partition {partition}"),
            };
            self.troubles.begin(Subject::Topic(name), now, || reason);
        }
    }

    fn send(&mut self, request: Request, now: Instant) {
        let Request { leader, parts, retried } = request;
        if retried > 0 {
            self.settle(Settled { retried, ..Settled::default() });
        }
        let kept = match self.links.insert(leader, Link::Busy { since: now }) {
            Some(Link::Free(connection)) => Some(connection),
            Some(Link::Busy { .. }) | None => None,
        };
        let sent = parts.iter().map(|part| {
            let (topic, partition) = self.lanes.place(part.lane);
            Sent { lane: part.lane, topic: topic.to_owned(), partition }
        });
        let sent: Vec<Sent> = sent.collect();
        let config = self.cluster.config();
        // A lane's leader has an address, see `learn`, and the last look is the one that counts.
        let address = self.addresses.get(&leader).cloned().unwrap_or_default();
        self.work.push(Box::pin(async move {
            let request = produce_request(&sent, parts, config.request_timeout);
            let (connection, answer) = produce(kept, &address, config, &request).await;
            Done::Produced { leader, parts: sent, connection, answer }
        }));
    }

    fn produced(
        &mut self,
        leader: i32,
        parts: Vec<Sent>,
        connection: Option<Connection>,
        answer: Result<ProduceResponse, WireError>,
    ) {
        let now = Instant::now();
        let since = match self.links.remove(&leader) {
            Some(Link::Busy { since }) => since,
            Some(Link::Free(_)) | None => now,
        };
        self.links.extend(connection.map(|connection| (leader, Link::Free(connection))));
        let answers = match answer {
            Ok(response) => {
                self.troubles.end(&Subject::Broker(leader));
                by_partition(response)
            }
            Err(error) => {
                let topics: Vec<&str> = parts.iter().map(|part| part.topic.as_str()).collect();
                let topic = topics.first().copied().unwrap_or_default();
                self.troubles
                    .begin(Subject::Broker(leader), since, || format!("cannot publish to topic {topic}: {error}"));
                HashMap::new()
            }
        };
        let mut all = Settled::default();
        for part in parts {
            let verdict = answers.get(&(part.topic.clone(), part.partition));
            let settlement = self.lanes.answered(part.lane, outcome(verdict), now.into_std());
            all.acknowledged += settlement.settled.acknowledged;
            all.dropped += settlement.settled.dropped;
            all.bytes += settlement.settled.bytes;
            if let Some(spool) = &mut self.spool {
                spool.settled(self.queue, &part.topic, part.partition, self.lanes.settled(part.lane));
            }
            let Sent { topic, partition, .. } = &part;
            match verdict {
                Some(Verdict { error: None, .. }) => self.troubles.end(&Subject::Lane(part.lane)),
                Some(verdict) if settlement.gave_up => {
                    tracing::error!(topic, partition, "one event was dropped: the broker refuses it: {verdict}");
                    self.troubles.end(&Subject::Lane(part.lane));
                }
                Some(verdict) => {
                    let address = self.addresses.get(&leader).map_or("?", String::as_str);
                    let reason = || {
                        format!("Kafka broker {address} does not take topic {topic} partition {partition}: {verdict}")
                    };
                    self.troubles.begin(Subject::Lane(part.lane), now, reason);
                }
                None => {}
            }
        }
        self.settle(all);
    }

    /// Tells of brokers that take long to answer, before their requests time out.
    fn watch_answers(&mut self, now: Instant) {
        for (leader, link) in &self.links {
            if let Link::Busy { since } = link
                && now >= *since + SLOW_ANSWER
            {
                let address = self.addresses.get(leader).map_or("?", String::as_str);
                let reason = || format!("Kafka broker {address} has not answered a produce request for some seconds");
                self.troubles.begin(Subject::Broker(*leader), *since, reason);
            }
        }
    }
}

impl Publish for KafkaPublishing<'_> {
    const NAME: &'static str = "kafka";

    fn accept(&mut self, chunk: Chunk) -> Option<Chunk> {
        if let Some(spool) = &mut self.spool {
            return spool.accept(chunk, &mut self.lanes);
        }
        for event in chunk.events() {
            self.lanes.accept(&event);
        }
        Some(chunk)
    }

    fn dispatch(&mut self, now: Instant) {
        let may_send = self.keep_spool(now);
        self.start_looking(now);
        self.watch_answers(now);
        if !may_send {
            return;
        }
        let links = &self.links;
        let busy = |links: &HashMap<i32, Link>, leader| matches!(links.get(&leader), Some(Link::Busy { .. }));
        let mut request = self.lanes.next_request(now.into_std(), |leader| busy(links, leader));
        while let Some(next) = request {
            self.send(next, now);
            let links = &self.links;
            request = self.lanes.next_request(now.into_std(), |leader| busy(links, leader));
        }
    }

    async fn progress(&mut self) {
        match self.work.next().await {
            Some(Done::Looked(looked)) => self.looked(looked),
            Some(Done::Produced { leader, parts, connection, answer }) => {
                self.produced(leader, parts, connection, answer);
            }
            None => pending().await,
        }
    }

    fn is_empty(&self) -> bool {
        let is_spooled = self.spool.as_ref().is_none_or(|spool| !spool.is_replaying() && !self.queue.has_backlog());
        is_spooled && self.lanes.is_empty()
    }

    fn waiting(&self) -> Vec<Waiting> {
        match &self.spool {
            Some(spool) if spool.is_replaying() => spool.waiting(),
            Some(_) | None => self.lanes.waiting(),
        }
    }
}

/// What a broker says of one part.
#[derive(Clone, Debug)]
struct Verdict {
    error: Option<ResponseError>,
    message: Option<String>,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error:?}: {error}")?,
            None => f.write_str("taken")?,
        }
        match &self.message {
            Some(message) => write!(f, " ({message})"),
            None => Ok(()),
        }
    }
}

fn outcome(verdict: Option<&Verdict>) -> Outcome {
    let Some(verdict) = verdict else { return Outcome::Failed };
    match verdict.error {
        None => Outcome::Acknowledged,
        // These do not go away by sending the same again.
        Some(ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge | ResponseError::InvalidRecord) => {
            Outcome::Refused
        }
        Some(ResponseError::InvalidTimestamp) => Outcome::Mistimed { now_ms: Utc::now().timestamp_millis() },
        Some(_) => Outcome::Failed,
    }
}

fn by_partition(response: ProduceResponse) -> HashMap<(String, i32), Verdict> {
    let mut all = HashMap::new();
    for topic in response.responses {
        for partition in topic.partition_responses {
            let error = ResponseError::try_from_code(partition.error_code);
            let message = partition.error_message.map(|message| message.to_string());
            all.insert((topic.name.to_string(), partition.index), Verdict { error, message });
        }
    }
    all
}

fn produce_request(sent: &[Sent], parts: Vec<Part>, timeout: Duration) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (sent, part) in sent.iter().zip(parts) {
        let data = PartitionProduceData::default().with_index(sent.partition).with_records(Some(part.batch));
        match topics.last_mut() {
            // A request goes through the topics one by one.
            Some(last) if last.name.as_str() == sent.topic => last.partition_data.push(data),
            _ => {
                let name = TopicName(StrBytes::from_string(sent.topic.clone()));
                topics.push(TopicProduceData::default().with_name(name).with_partition_data(vec![data]));
            }
        }
    }
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    ProduceRequest::default().with_acks(ACKS_ALL).with_timeout_ms(timeout_ms).with_topic_data(topics)
}

/// Sends a request over the kept connection or a new one, and returns the connection if it can be used again.
async fn produce(
    kept: Option<Connection>,
    address: &str,
    config: &KafkaConfig,
    request: &ProduceRequest,
) -> (Option<Connection>, Result<ProduceResponse, WireError>) {
    let connection = match kept.filter(Connection::is_usable) {
        Some(connection) => Ok(connection),
        None => connect(address, config).await,
    };
    match connection {
        Err(error) => (None, Err(error)),
        Ok(mut connection) => {
            let answer = connection.call(PRODUCE_VERSION, request, config.request_timeout).await;
            (answer.is_ok().then_some(connection), answer)
        }
    }
}

async fn connect(address: &str, config: &KafkaConfig) -> Result<Connection, WireError> {
    let mut connection = Connection::open(address, config).await?;
    connection.require(&[(ApiKey::Produce, PRODUCE_VERSION)], config.request_timeout).await?;
    Ok(connection)
}
