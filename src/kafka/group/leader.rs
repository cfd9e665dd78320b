//! The part of a group's leader: it knows the topics of all members, and deals the partitions out.

use std::collections::BTreeMap;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::protocol::StrBytes;
use tracing::warn;

use super::assignor::Subscriber;
use super::{Assignor, protocol};

/// The members of a generation with their topics.
pub(super) struct Subscriptions {
    members: Vec<Subscriber>,
}

impl Subscriptions {
    /// A member whose subscription cannot be read counts as one that wants nothing, so that it harms only itself.
    pub(super) fn read(group: &str, members: &[JoinGroupResponseMember]) -> Self {
        let subscriber = |member: &JoinGroupResponseMember| {
            let topics = protocol::decode_subscription(&member.metadata).unwrap_or_else(|error| {
                let member = member.member_id.as_str();
                warn!(group, member, %error, "cannot read what a member subscribes to; it gets no partitions");
                Vec::new()
            });
            Subscriber {
                member_id: member.member_id.to_string(),
                instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
                topics: topics.into_iter().collect(),
            }
        };
        Self { members: members.iter().map(subscriber).collect() }
    }

    /// All topics that somebody wants, each once.
    pub(super) fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.members.iter().flat_map(|m| m.topics.iter().cloned()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Every member's share, as SyncGroup carries it.
    pub(super) fn deal(&self, assignor: Assignor, counts: &BTreeMap<String, i32>) -> Vec<SyncGroupRequestAssignment> {
        let shares = assignor.assign(&self.members, counts).into_iter();
        let share = |(member_id, partitions): (String, Vec<_>)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member_id))
                .with_assignment(protocol::encode_assignment(&partitions))
        };
        shares.map(share).collect()
    }
}

/// The topics of a generation and what they had when they were dealt out, to notice when that changes.
pub(super) struct Dealt {
    pub(super) topics: Vec<String>,
    pub(super) counts: BTreeMap<String, i32>,
}

impl Dealt {
    /// The topics that somebody wants and nobody made.
    pub(super) fn missing(&self) -> Vec<&str> {
        self.topics.iter().filter(|topic| !self.counts.contains_key(*topic)).map(String::as_str).collect()
    }
}
