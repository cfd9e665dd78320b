//! What the broker's loop owns.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;
use uuid::Uuid;

use crate::BrokerConfig;
use crate::api::fetch;
use crate::group::Coordinator;
use crate::long_poll::LongPolls;
#[cfg(test)]
use crate::topic_config::TopicConfig;
use crate::topics::Topics;

/// All of the broker: topics with their logs, groups, producers.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) coordinator: Coordinator,
    pub(crate) topics: Topics,
    pub(crate) long_polls: LongPolls,
    pub(crate) config: BrokerConfig,
    /// Made anew at each start, since what was kept under another one is gone.
    pub(crate) cluster_id: String,
    node: Node,
    next_producer_id: i64,
}

/// The broker as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: i32,
    /// What is advertised.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What a handler has to know of a request beside the request itself.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When the loop took the request up.
    pub(crate) now: Instant,
    /// The version that the client has chosen.
    pub(crate) version: i16,
    /// What the client calls itself; empty if it does not.
    pub(crate) client_id: String,
    /// Where it calls from.
    pub(crate) client_host: IpAddr,
    /// What the request took on the wire, and whoever keeps a part of it keeps.
    pub(crate) frame_bytes: usize,
}

/// A request that has been read, as what the loop does for it.
pub(crate) type Work = Box<dyn FnOnce(&mut State, &Call) + Send>;

impl State {
    pub(crate) fn new(config: BrokerConfig, node: Node) -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self {
            coordinator: Coordinator::new(config.groups.clone()),
            topics: Topics::default(),
            long_polls: LongPolls::default(),
            config,
            // As Kafka writes its ids: 22 characters.
            cluster_id: URL_SAFE_NO_PAD.encode(Uuid::new_v4()),
            node,
            // Not from 0 on, lest a producer that has outlived another broker be taken for one of this broker's. Half of the
            // numbers stay above it.
            next_producer_id: ((high ^ low) >> 2) as i64,
        }
    }

    /// A broker with these topics, and as many partitions of each.
    #[cfg(test)]
    pub(crate) fn for_tests(topics: &[(&str, i32)]) -> Self {
        let node = Node { id: 7, host: "127.0.0.1".to_owned(), port: 9092 };
        let mut state = Self::new(BrokerConfig::default(), node);
        for (name, partitions) in topics {
            let config = TopicConfig::default();
            state.topics.create(name, *partitions, config, &state.config).expect("a good topic");
        }
        state
    }

    /// The broker as clients know it.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Whether there is such a partition.
    pub(crate) fn partition_exists(&self, topic: &str, partition: i32) -> bool {
        self.topics.partition(topic, partition).is_some()
    }

    /// The id of a producer that asks for one.
    pub(crate) fn new_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// Until when the loop may sleep if nobody calls; none while nobody waits.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.long_polls.next_deadline(), self.coordinator.next_deadline()].into_iter().flatten().min()
    }

    /// Answers what has waited until `now`.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        for waiting in self.long_polls.due(now, &mut self.topics) {
            fetch::answer(self, waiting.request, waiting.reply);
        }
        if self.coordinator.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.coordinator.on_deadline(now);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::{FetchRequest, TopicName};
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::reply::{Asked, Reply};

    fn fetch(topic: &'static str, partitions: &[i32]) -> FetchRequest {
        let asked = |partition: &i32| FetchPartition::default().with_partition(*partition);
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_static_str(topic)))
            .with_partitions(partitions.iter().map(asked).collect());
        FetchRequest::default().with_min_bytes(1).with_max_wait_ms(500).with_topics(vec![topic])
    }

    #[test]
    fn the_loop_has_a_timer_only_while_a_fetch_waits() {
        let mut state = State::for_tests(&[("t", 3)]);
        let now = Instant::now();
        let call = Call {
            now,
            version: 11,
            client_id: String::new(),
            client_host: Ipv4Addr::LOCALHOST.into(),
            frame_bytes: 100,
        };
        assert_eq!(state.next_deadline(), None);

        let (reply, mut first) = Reply::to(Asked::for_tests(11));
        fetch::handle(&mut state, &call, fetch("t", &[0, 1]), reply);
        let later = Call { now: now + Duration::from_millis(100), ..call.clone() };
        let (reply, mut second) = Reply::to(Asked::for_tests(11));
        fetch::handle(&mut state, &later, fetch("t", &[1, 2]), reply);
        let deadline = now + Duration::from_millis(500);
        assert_eq!(state.next_deadline(), Some(deadline));

        state.on_deadline(deadline - Duration::from_millis(1));
        assert!(first.try_recv().is_err());
        state.on_deadline(deadline);
        assert!(first.try_recv().is_ok() && second.try_recv().is_err());
        assert_eq!(state.next_deadline(), Some(deadline + Duration::from_millis(100)));

        let woken = state.long_polls.arrived("t", 0, 1, &mut state.topics);
        assert!(woken.is_empty(), "nobody waits at partition 0 any more");
        for waiting in state.long_polls.arrived("t", 2, 1, &mut state.topics) {
            fetch::answer(&state, waiting.request, waiting.reply);
        }
        assert!(second.try_recv().is_ok());
        assert_eq!(state.next_deadline(), None);
        assert!((0..3).all(|p| state.topics.partition("t", p).unwrap().waiting.is_empty()));
    }
}
