//! The coordinator as clients see it: requests in, answers out of their bytes, time passed in.

#![allow(clippy::unwrap_used)]

mod api;
mod joining;
mod leaving;
mod limits;
mod offsets;
mod property;
mod statics;
mod syncing;

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{
    Committed, Coordinator, GroupLimits, Identity, Join, JoinReply, OffsetToCommit, Profile, Protocol, Sync, SyncReply,
};
use crate::reply::{self, Answer, Reply};

const GROUP: &str = "g";

/// An answer that may not have come yet.
struct Asked<R> {
    version: i16,
    receiver: oneshot::Receiver<Answer>,
    response: PhantomData<R>,
}

impl<R: Decodable + Encodable + HeaderVersion + Send + 'static> Asked<R> {
    fn new(version: i16) -> (Reply<R>, Self) {
        let (reply, receiver) = Reply::to(reply::Asked::for_tests(version));
        (reply, Self { version, receiver, response: PhantomData })
    }

    /// The answer, if it has come just now. Panics if the reply was dropped without one.
    fn poll(&mut self) -> Option<R> {
        match self.receiver.try_recv() {
            Ok(answer) => {
                let body = reply::tests::body(answer, R::header_version(self.version));
                let mut body = body.expect("the answer has its version's fields");
                Some(R::decode(&mut body, self.version).unwrap())
            }
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => panic!("the reply was dropped or has been read"),
        }
    }

    fn now(mut self) -> R {
        self.poll().expect("an answer that does not wait")
    }

    fn is_waiting(&mut self) -> bool {
        self.poll().is_none()
    }
}

/// A coordinator and its clock.
struct Broker {
    coordinator: Coordinator,
    now: Instant,
}

impl Broker {
    fn new() -> Self {
        Self::with(GroupLimits::default())
    }

    fn with(limits: GroupLimits) -> Self {
        Self { coordinator: Coordinator::new(limits), now: Instant::now() }
    }

    /// Lets time pass, with every deadline taken up when it comes.
    fn pass(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            self.coordinator.on_deadline(self.now);
        }
        self.now = end;
    }

    fn join(&mut self, client: &Client) -> Asked<JoinGroupResponse> {
        let (reply, asked) = Asked::new(client.version);
        let reply = JoinReply::new(client.version, reply);
        self.coordinator.join(self.now, &client.group, client.join(), reply);
        asked
    }

    fn sync(&mut self, client: &Client, assignments: &[(&Client, &'static str)]) -> Asked<SyncGroupResponse> {
        let (reply, asked) = Asked::new(3);
        let shares: Vec<(StrBytes, Bytes)> =
            assignments.iter().map(|(to, share)| (to.id.clone(), Bytes::from_static(share.as_bytes()))).collect();
        let sync = Sync {
            identity: client.identity(),
            protocol_type: None,
            protocol: None,
            assignments: shares.iter().map(|(id, share)| (id, share)).collect(),
        };
        self.coordinator.sync(self.now, &client.group, &sync, SyncReply::new(reply));
        asked
    }

    fn heartbeat(&mut self, client: &Client) -> Result<(), ResponseError> {
        self.coordinator.heartbeat(self.now, &client.group, client.identity())
    }

    fn leave(&mut self, client: &Client) -> Result<(), ResponseError> {
        self.coordinator.leave(self.now, &client.group, &client.id, client.instance_id.as_ref())
    }

    fn commit(&mut self, client: &Client, offset: i64) -> Result<(), ResponseError> {
        self.commit_offsets(client, &[offset_of("t", 0, offset)]).and_then(|results| results[0])
    }

    fn commit_offsets(
        &mut self,
        client: &Client,
        offsets: &[OffsetToCommit],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        self.coordinator.commit(self.now, &client.group, client.identity(), offsets)
    }

    fn committed(&self, topic: &'static str, partition: i32) -> Option<i64> {
        self.coordinator.offsets(&GROUP.into())?.get(&topic.into(), partition).map(|committed| committed.offset)
    }

    fn state(&self) -> &'static str {
        self.coordinator.group(&GROUP.into()).map_or("Dead", |group| group.state_name())
    }

    /// Joins, with the id that is given to it if one has to be; the answer of the last JoinGroup may wait.
    fn join_with_id(&mut self, client: &mut Client) -> Asked<JoinGroupResponse> {
        let mut asked = self.join(client);
        if client.id.is_empty() && client.instance_id.is_none() && client.version >= 4 {
            let refused = asked.poll().unwrap();
            assert_eq!(error(refused.error_code), Some(ResponseError::MemberIdRequired));
            client.id = refused.member_id;
            asked = self.join(client);
        }
        asked
    }

    /// A stable group of these clients, the first of which leads.
    fn stable(&mut self, clients: &mut [Client]) {
        for n in 1..=clients.len() {
            // The newest first: the group would not wait for it if the others were there before.
            let mut joins: Vec<_> = clients[..n].iter_mut().rev().map(|client| self.join_with_id(client)).collect();
            for (client, join) in clients.iter_mut().zip(joins.iter_mut().rev()) {
                client.joined(join);
            }
            let shares: Vec<(&Client, &'static str)> = clients[..n].iter().map(|client| (client, "share")).collect();
            let syncs: Vec<_> = clients[..n]
                .iter()
                .enumerate()
                .map(|(i, c)| self.sync(c, if i == 0 { &shares } else { &[] }))
                .collect();
            for sync in syncs {
                assert_eq!(sync.now().error_code, 0);
            }
        }
        assert_eq!(self.state(), "Stable");
    }
}

/// What a client knows and sends. The session is 10 s, the rebalance timeout 60 s.
#[derive(Clone, Debug)]
struct Client {
    group: StrBytes,
    version: i16,
    id: StrBytes,
    instance_id: Option<StrBytes>,
    generation: i32,
    protocol_type: &'static str,
    protocols: Vec<Protocol>,
    session: Duration,
    rebalance: Duration,
}

impl Client {
    fn new() -> Self {
        Self {
            group: GROUP.into(),
            version: 5,
            id: StrBytes::default(),
            instance_id: None,
            generation: -1,
            protocol_type: "consumer",
            protocols: vec![protocol("range", "t")],
            session: Duration::from_secs(10),
            rebalance: Duration::from_secs(60),
        }
    }

    fn fixed(instance_id: &'static str) -> Self {
        Self { instance_id: Some(instance_id.into()), ..Self::new() }
    }

    fn knowing(mut self, protocols: &[(&'static str, &str)]) -> Self {
        self.protocols = protocols.iter().map(|(name, topic)| protocol(name, topic)).collect();
        self
    }

    fn version(mut self, version: i16) -> Self {
        self.version = version;
        self
    }

    /// As another process of the same configuration.
    fn restarted(&self) -> Self {
        Self { id: StrBytes::default(), generation: -1, ..self.clone() }
    }

    fn in_generation(&self, generation: i32) -> Self {
        Self { generation, ..self.clone() }
    }

    fn identity(&self) -> Identity<'_> {
        Identity { generation: self.generation, member_id: &self.id, instance_id: self.instance_id.as_ref() }
    }

    fn join(&self) -> Join {
        let profile = Profile {
            instance_id: self.instance_id.clone(),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: self.session,
            rebalance_timeout: self.rebalance,
            protocol_type: self.protocol_type.into(),
            protocols: self.protocols.clone(),
        };
        Join {
            member_id: self.id.clone(),
            profile,
            knows_member_id_required: self.version >= 4,
            knows_skip_assignment: self.version >= 9,
        }
    }

    /// Takes the member id and the generation from an answer that must have come.
    fn joined(&mut self, asked: &mut Asked<JoinGroupResponse>) -> JoinGroupResponse {
        let joined = asked.poll().expect("the rebalance is over");
        assert_eq!(error(joined.error_code), None);
        self.id = joined.member_id.clone();
        self.generation = joined.generation_id;
        joined
    }
}

/// A protocol with a subscription, of version 0, to one topic.
fn protocol(name: &'static str, topic: &str) -> Protocol {
    let mut metadata = b"\0\0\0\0\0\x01\0".to_vec();
    metadata.push(topic.len() as u8);
    metadata.extend_from_slice(topic.as_bytes());
    metadata.extend_from_slice(&(-1i32).to_be_bytes());
    Protocol { name: name.into(), metadata: metadata.into() }
}

fn offset_of(topic: &'static str, partition: i32, offset: i64) -> OffsetToCommit {
    let committed = Committed { offset, leader_epoch: -1, metadata: StrBytes::default(), committed_at: Instant::now() };
    OffsetToCommit { topic: topic.into(), partition, committed }
}

fn error(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}
