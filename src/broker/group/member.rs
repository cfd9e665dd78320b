//! A member of a group: what it said of itself, what it was assigned, and the request of it that waits.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;

/// The generation of who belongs to none.
pub(super) const NO_GENERATION: i32 = -1;

/// What a member takes in memory beside what it says and is assigned, with its timer and its id in other places.
pub(super) const MEMBER_BYTES: usize = 1024;

/// A way to assign partitions that a member knows, and what it tells the leader for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: StrBytes,
    pub(crate) metadata: Bytes,
}

/// What a client says of itself with JoinGroup. It is kept, so it has to own its bytes: a slice would keep the whole frame.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) instance_id: Option<StrBytes>,
    pub(crate) client_id: StrBytes,
    pub(crate) client_host: StrBytes,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: StrBytes,
    /// The one that the member likes best comes first.
    pub(crate) protocols: Vec<Protocol>,
}

impl Profile {
    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name.as_str() == protocol)
    }

    /// Empty if the member does not know the protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|p| p.name.as_str() == protocol);
        known.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// What keeping it takes.
    pub(super) fn bytes(&self) -> usize {
        let names = [Some(&self.protocol_type), Some(&self.client_id), self.instance_id.as_ref()];
        let protocols = self.protocols.iter().map(|p| size_of::<Protocol>() + p.name.len() + p.metadata.len());
        names.into_iter().flatten().map(|name| name.len()).chain(protocols).sum()
    }
}

/// The request of a member that is answered later.
#[derive(Debug)]
pub(super) enum Waiting {
    Nothing,
    /// Until the others have joined too.
    Join(JoinReply),
    /// Until the leader has sent the assignments.
    Sync(SyncReply),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: StrBytes,
    /// Tells who came first.
    pub(super) sequence: u64,
    pub(super) profile: Profile,
    /// What the leader of the generation gave to it.
    pub(super) assignment: Bytes,
    /// Whether it waits for its first generation, in which it cannot send heartbeats yet.
    pub(super) is_new: bool,
    pub(super) waiting: Waiting,
}

impl Member {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        MEMBER_BYTES + self.id.len() + self.profile.bytes() + self.assignment.len()
    }

    pub(super) fn is_static(&self) -> bool {
        self.profile.instance_id.is_some()
    }

    pub(super) fn is_joining(&self) -> bool {
        matches!(self.waiting, Waiting::Join(_))
    }

    pub(super) fn is_waiting(&self) -> bool {
        !matches!(self.waiting, Waiting::Nothing)
    }

    /// The reply waits from now on. What has waited before belongs to a request that the member has given up.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.refuse_waiting(ResponseError::RebalanceInProgress);
        self.waiting = waiting;
    }

    /// Answers what waits, if anything does, with an error.
    pub(super) fn refuse_waiting(&mut self, error: ResponseError) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Join(reply) => {
                // Who is told that the coordinator does not know it must not go on with the id.
                let id = if error == ResponseError::UnknownMemberId { StrBytes::default() } else { self.id.clone() };
                reply.refuse(error, id);
            }
            Waiting::Sync(reply) => reply.refuse(error),
        }
    }

    pub(super) fn take_join(&mut self) -> Option<JoinReply> {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Join(reply) => Some(reply),
            other => {
                self.waiting = other;
                None
            }
        }
    }

    pub(super) fn take_sync(&mut self) -> Option<SyncReply> {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Sync(reply) => Some(reply),
            other => {
                self.waiting = other;
                None
            }
        }
    }

    /// As the leader sees it.
    pub(super) fn for_leader(&self, protocol: &str) -> JoinGroupResponseMember {
        JoinGroupResponseMember::default()
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.profile.instance_id.clone())
            .with_metadata(self.profile.metadata(protocol))
    }
}

/// Where the answer to a JoinGroup goes.
#[derive(Debug)]
pub(crate) struct JoinReply {
    version: i16,
    reply: Reply<JoinGroupResponse>,
}

impl JoinReply {
    /// What the request said is to be kept as a copy: it need not be held while the reply waits.
    pub(crate) fn new(version: i16, mut reply: Reply<JoinGroupResponse>) -> Self {
        reply.request_dropped();
        Self { version, reply }
    }

    pub(super) fn accept(self, response: JoinGroupResponse) {
        self.reply.send(response);
    }

    pub(crate) fn refuse(self, error: ResponseError, member_id: StrBytes) {
        // The name may be null from version 7 on: https://cwiki.apache.org/confluence/display/KAFKA/KIP-559
        let protocol_name = (self.version < 7).then(StrBytes::default);
        let refusal = JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(NO_GENERATION)
            .with_protocol_name(protocol_name)
            .with_member_id(member_id);
        self.reply.send(refusal);
    }
}

/// Where the answer to a SyncGroup goes.
#[derive(Debug)]
pub(crate) struct SyncReply(Reply<SyncGroupResponse>);

impl SyncReply {
    /// As [`JoinReply::new`].
    pub(crate) fn new(mut reply: Reply<SyncGroupResponse>) -> Self {
        reply.request_dropped();
        Self(reply)
    }

    pub(super) fn accept(self, protocol_type: Option<StrBytes>, protocol: Option<StrBytes>, assignment: Bytes) {
        let response = SyncGroupResponse::default()
            .with_protocol_type(protocol_type)
            .with_protocol_name(protocol)
            .with_assignment(assignment);
        self.0.send(response);
    }

    pub(crate) fn refuse(self, error: ResponseError) {
        self.0.send(SyncGroupResponse::default().with_error_code(error.code()));
    }
}
