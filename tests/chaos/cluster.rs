//! Three brokers behind proxies and a Redis, and what an operator can do to them while they run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest,
    ElectLeadersRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use superhero_kafka::wire::Connection;
use superhero_kafka::{Cluster, KafkaConfig};
use tokio_util::task::AbortOnDropHandle;

use super::proxy::{Leaders, Proxy, Rules};
use crate::process::{self, Signal};
use crate::services::Started;

/// The number of nodes.
pub const NODES: usize = 3;
/// Where the groups' offsets are kept.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Its partitions, as `tests/services/up` sets it up.
const OFFSETS_PARTITIONS: i32 = 4;
/// The last without flexible fields.
const METADATA_VERSION: i16 = 8;
/// The bound of one administrative request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a service may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Until a cluster that was away takes an order again.
const LIFT_PATIENCE: Duration = Duration::from_secs(120);
/// How often what cannot be awaited is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Longer than three nodes and Redis take to start on a busy machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The services of a run.
#[derive(Debug)]
pub struct Services {
    started: Started,
    /// What passes between our binaries and the brokers obeys them.
    pub rules: Rules,
    /// Where our binaries find Kafka: the proxies.
    pub bootstrap: String,
    /// Redis's port.
    pub redis_port: String,
    /// Straight to the brokers.
    pub kafka: KafkaConfig,
    pub cluster: Cluster,
    _proxies: Vec<AbortOnDropHandle<()>>,
}

/// Waits for the end of a process that is not our child. Not by `eventually`, whose closure no compiler takes for `Send` yet, and this is a
/// chore beside others; so is [`Services::throttle_no_more`].
async fn has_ended(pid: u32, patience: Duration) -> bool {
    let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    let waiting = async {
        while !gone() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(patience, waiting).await.is_ok()
}

/// A node's name, counted from 0.
fn node(number: usize) -> String {
    format!("kafka-{}", number + 1)
}

impl Services {
    pub async fn start() -> Result<Self> {
        let mut proxies = Vec::new();
        for _ in 0..NODES {
            proxies.push(Proxy::bind().await?);
        }
        let bootstrap = proxies.iter().map(|proxy| proxy.address.as_str()).collect::<Vec<_>>().join(",");
        let flags =
            ["--brokers", "3", "--kafka-port", "0", "--redis-port", "0", "--redis-aof", "yes", "--proxies", &bootstrap];
        let started = Started::up(&flags)?;
        let rules = Rules::new();
        let behind = started.setting("KAFKA_BEHIND_PROXIES")?;
        let proxies = proxies.into_iter().zip(behind.split(',')).enumerate();
        let proxies = proxies.map(|(node, (proxy, broker))| proxy.serve(node, broker.to_owned(), rules.clone()));
        let proxies = proxies.collect();
        let mut kafka = KafkaConfig::new(&started.setting("KAFKA_BOOTSTRAP_SERVERS")?, "superhero-chaos")?;
        kafka.request_timeout = REQUEST_TIMEOUT;
        let cluster = Cluster::connect(&kafka, tokio::time::Instant::now() + CONNECT_TIMEOUT).await?;
        Ok(Self {
            redis_port: started.setting("REDIS_PORT")?,
            started,
            rules,
            bootstrap,
            kafka,
            cluster,
            _proxies: proxies,
        })
    }

    /// Signals a node.
    pub fn signal_node(&self, number: usize, signal: Signal) -> Result<()> {
        process::signal(self.started.pid(&node(number))?, signal)
    }

    /// Starts a node that was killed or asked to stop, once it has ended.
    pub async fn start_node(&self, number: usize) -> Result<()> {
        self.start_again(&node(number)).await
    }

    pub fn kill_redis(&self) -> Result<()> {
        process::signal(self.started.pid("redis")?, Signal::KILL)
    }

    pub async fn start_redis(&self) -> Result<()> {
        self.start_again("redis").await
    }

    async fn start_again(&self, name: &str) -> Result<()> {
        let pid = self.started.pid(name)?;
        // A broker that is asked to stop may wait for others that are away.
        if !has_ended(pid, STOP_PATIENCE).await {
            process::signal(pid, Signal::KILL)?;
            ensure!(has_ended(pid, STOP_PATIENCE).await, "{name} cannot be killed");
        }
        self.started.again(name)
    }

    /// The node that leads a partition; none if nobody does, or nobody can tell.
    pub async fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let leader = *self.leaders().await.ok()?.get(&(topic.to_owned(), partition))?;
        usize::try_from(leader - 1).ok()
    }

    /// Whether every replica of these topics is in sync: until then a record may stand in the log that nobody can read yet.
    pub async fn is_whole(&self, topics: &[&str]) -> bool {
        let topic = |name: &&str| {
            let name = TopicName(StrBytes::from_string((*name).to_owned()));
            MetadataRequestTopic::default().with_name(Some(name))
        };
        let request = MetadataRequest::default().with_topics(Some(topics.iter().map(topic).collect()));
        let Ok(answer) = self.ask(METADATA_VERSION, &request).await else { return false };
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        answer.topics.len() == topics.len()
            && answer.topics.iter().all(|topic| topic.error_code == 0)
            && partitions.into_iter().all(|partition| partition.isr_nodes.len() == NODES)
    }

    /// Lets the next of its replicas lead every partition of the groups' offsets.
    pub async fn move_coordinators(&self, turn: u64) -> Result<()> {
        self.lead(OFFSETS_TOPIC, OFFSETS_PARTITIONS, (turn % NODES as u64) as usize).await
    }

    /// For so long a node tells who led before the leaders of a topic moved; fails if nobody has asked it.
    pub async fn look_back(&self, node: usize, topic: &str, partitions: i32, lasts: Duration) -> Result<()> {
        let led = self.leaders().await?;
        let leader = led.get(&(topic.to_owned(), 0)).context("no leader to move")?;
        // Counted from 1 among the brokers, and from 0 here: this is the next one.
        let next = *leader as usize % NODES;
        self.rules.look_back(node, led);
        let moved = self.lead(topic, partitions, next).await;
        tokio::time::sleep(lasts).await;
        let misled = self.rules.look_forward(node);
        moved?;
        ensure!(misled > 0, "nobody has asked who leads");
        Ok(())
    }

    /// The leaders of all partitions that have one.
    pub async fn leaders(&self) -> Result<Leaders> {
        let mut leaders = Leaders::new();
        for (name, topic) in self.cluster.metadata().await?.topics {
            let led = topic.partitions.into_iter().filter_map(|(number, partition)| Some((number, partition.leader?)));
            leaders.extend(led.map(|(number, leader)| ((name.clone(), number), leader)));
        }
        Ok(leaders)
    }

    /// Lets a node lead the partitions of a topic that all nodes hold.
    pub async fn lead(&self, topic: &str, partitions: i32, node: usize) -> Result<()> {
        let replicas: Vec<_> = (node..node + NODES).map(|node| BrokerId((node % NODES) as i32 + 1)).collect();
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let partition =
            |index| ReassignablePartition::default().with_partition_index(index).with_replicas(Some(replicas.clone()));
        let reassigned = ReassignableTopic::default()
            .with_name(name.clone())
            .with_partitions((0..partitions).map(partition).collect());
        let order = AlterPartitionReassignmentsRequest::default().with_timeout_ms(5_000).with_topics(vec![reassigned]);
        let answer = self.ask(0, &order).await?;
        ensure!(answer.error_code == 0, "the replicas of {topic} cannot be put in order: {answer:?}");
        let elected = TopicPartitions::default().with_topic(name).with_partitions((0..partitions).collect());
        let preferred =
            ElectLeadersRequest::default().with_timeout_ms(5_000).with_topic_partitions(Some(vec![elected]));
        let answer = self.ask(1, &preferred).await?;
        ensure!(answer.error_code == 0, "the leaders of {topic} cannot be moved: {answer:?}");
        Ok(())
    }

    /// Bounds what each of our clients may send and fetch per second; none lifts the bound.
    pub async fn throttle(&self, bytes_per_second: Option<f64>) -> Result<()> {
        let text = StrBytes::from_static_str;
        let entry = |client: &'static str, key: &'static str| {
            let entity = EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text(client)));
            let quota = OpData::default().with_key(text(key)).with_value(bytes_per_second.unwrap_or_default());
            EntryData::default().with_entity(vec![entity]).with_ops(vec![quota.with_remove(bytes_per_second.is_none())])
        };
        let entries =
            vec![entry("superhero-server", "producer_byte_rate"), entry("superhero-worker", "consumer_byte_rate")];
        let answer = self.ask(0, &AlterClientQuotasRequest::default().with_entries(entries)).await?;
        ensure!(answer.entries.iter().all(|entry| entry.error_code == 0), "quotas cannot be set: {answer:?}");
        Ok(())
    }

    /// Lifts the bound, however long the cluster takes to take that.
    pub async fn throttle_no_more(&self) -> Result<()> {
        let lifting = async {
            while self.throttle(None).await.is_err() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(LIFT_PATIENCE, lifting).await.context("quotas cannot be lifted")
    }

    /// Gives a topic so many partitions.
    pub async fn grow(&self, topic: &str, count: usize) -> Result<()> {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let topic = CreatePartitionsTopic::default().with_name(name).with_count(count as i32).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
        let answer = self.ask(1, &request).await?;
        ensure!(answer.results.iter().all(|result| result.error_code == 0), "no more partitions: {answer:?}");
        Ok(())
    }

    /// Asks the first broker that answers; in KRaft each passes such requests on to the controller.
    async fn ask<R: Request>(&self, version: i16, request: &R) -> Result<R::Response> {
        let mut last = None;
        for broker in &self.kafka.bootstrap_servers {
            let asked = async {
                let mut connection = Connection::open(broker, &self.kafka).await?;
                connection.call(version, request, REQUEST_TIMEOUT).await
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no broker to ask")?.into())
    }
}
