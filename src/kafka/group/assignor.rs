//! How a group's leader deals the partitions out; the results are those of Java's assignors of the same names.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ConfigError, TopicPartition};

/// A rule for dealing out partitions, by the name that the members agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Topic by topic, each member a run of neighbours: the first members get one more if it does not come out even.
    Range,
    /// All partitions of all topics in a row, dealt like cards.
    RoundRobin,
}

impl Assignor {
    /// The name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// Deals the partitions of the existing topics (`counts`) out among `members`. Each member has an entry, and each
    /// partition of a topic that somebody wants has exactly one owner.
    pub(crate) fn assign(
        self,
        members: &[Subscriber],
        counts: &BTreeMap<String, i32>,
    ) -> BTreeMap<String, Vec<TopicPartition>> {
        let mut sorted: Vec<&Subscriber> = members.iter().collect();
        sorted.sort_unstable_by_key(|member| member.rank());
        let mut dealt: BTreeMap<String, Vec<TopicPartition>> =
            members.iter().map(|member| (member.member_id.clone(), Vec::new())).collect();
        let mut deal = |member: &Subscriber, topic: &str, partition| {
            let hand = dealt.entry(member.member_id.clone()).or_default();
            hand.push(TopicPartition::new(topic, partition));
        };
        match self {
            Self::Range => {
                for (topic, count) in counts {
                    let takers: Vec<&&Subscriber> = sorted.iter().filter(|m| m.topics.contains(topic)).collect();
                    // More members than a 32-bit number counts do not fit into a frame.
                    let takers_count = takers.len() as i32;
                    let mut next = 0;
                    for (place, taker) in (0..takers_count).zip(takers) {
                        let run = count / takers_count + i32::from(place < count % takers_count);
                        (next..next + run).for_each(|partition| deal(taker, topic, partition));
                        next += run;
                    }
                }
            }
            Self::RoundRobin => {
                let mut turn = 0;
                for (topic, count) in counts {
                    if !sorted.iter().any(|member| member.topics.contains(topic)) {
                        continue;
                    }
                    for partition in 0..*count {
                        while !sorted[turn % sorted.len()].topics.contains(topic) {
                            turn += 1;
                        }
                        deal(sorted[turn % sorted.len()], topic, partition);
                        turn += 1;
                    }
                }
            }
        }
        dealt
    }
}

impl std::fmt::Display for Assignor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Assignor {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        [Self::Range, Self::RoundRobin]
            .into_iter()
            .find(|assignor| assignor.name() == name)
            .ok_or_else(|| ConfigError::setting("assignor", name, "give range or roundrobin"))
    }
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) topics: BTreeSet<String>,
}

impl Subscriber {
    /// Java's order: static members by instance id, then dynamic ones by member id.
    fn rank(&self) -> (bool, &str) {
        match &self.instance_id {
            Some(instance_id) => (false, instance_id),
            None => (true, &self.member_id),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `member[@instance]=topic+topic …`
    fn members(text: &str) -> Vec<Subscriber> {
        let member = |text: &str| {
            let (who, topics) = text.split_once('=').unwrap();
            let (member_id, instance_id) = who.split_once('@').map_or((who, None), |(m, i)| (m, Some(i.to_owned())));
            let topics = topics.split('+').map(str::to_owned).collect();
            Subscriber { member_id: member_id.to_owned(), instance_id, topics }
        };
        text.split(' ').map(member).collect()
    }

    /// `topic:partitions …`
    fn counts(text: &str) -> BTreeMap<String, i32> {
        let count = |text: &str| text.split_once(':').map(|(t, n)| (t.to_owned(), n.parse().unwrap())).unwrap();
        text.split(' ').map(count).collect()
    }

    fn shown(dealt: BTreeMap<String, Vec<TopicPartition>>) -> String {
        let hand = |(member, partitions): (String, Vec<TopicPartition>)| {
            let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            format!("{member}={}", partitions.join("+"))
        };
        dealt.into_iter().map(hand).collect::<Vec<_>>().join(" ")
    }

    /// What `RangeAssignor` and `RoundRobinAssignor` of kafka-clients 4.3.1 gave for random groups.
    #[test]
    fn shares_are_those_of_the_java_client() {
        for (assignor, topics, group, expected) in [
            ("range", "t0:1 t1:5", "m0=t0+t1 m1@i8=t0 m2@i7=t0", "m0=t1/0+t1/1+t1/2+t1/3+t1/4 m1= m2=t0/0"),
            ("roundrobin", "t0:1 t1:5", "m0=t0+t1 m1@i8=t0 m2@i7=t0", "m0=t1/0+t1/1+t1/2+t1/3+t1/4 m1= m2=t0/0"),
            ("range", "t0:3 t1:2", "m0@i9=t0 m1@i8=t0+t1 m2=t0+t1 m3@i6=t1", "m0=t0/1 m1=t0/0+t1/1 m2=t0/2 m3=t1/0"),
            (
                "roundrobin",
                "t0:3 t1:2",
                "m0@i9=t0 m1@i8=t0+t1 m2=t0+t1 m3@i6=t1",
                "m0=t0/1 m1=t0/0+t1/1 m2=t0/2 m3=t1/0",
            ),
            ("range", "t0:4 t1:5 t2:2", "m0@i9=t1+t2 m1=t1+t2", "m0=t1/0+t1/1+t1/2+t2/0 m1=t1/3+t1/4+t2/1"),
            ("roundrobin", "t0:4 t1:5 t2:2", "m0@i9=t1+t2 m1=t1+t2", "m0=t1/0+t1/2+t1/4+t2/1 m1=t1/1+t1/3+t2/0"),
            ("range", "t0:4 t1:2", "m0=t0 m1=t0+t1 m2=t1 m3=t0+t1", "m0=t0/0+t0/1 m1=t0/2+t1/0 m2=t1/1 m3=t0/3"),
            ("roundrobin", "t0:4 t1:2", "m0=t0 m1=t0+t1 m2=t1 m3=t0+t1", "m0=t0/0+t0/3 m1=t0/1+t1/0 m2=t1/1 m3=t0/2"),
            ("range", "t0:2", "m0@i9=t0 m1=t0 m2@i7=t0", "m0=t0/1 m1= m2=t0/0"),
            ("roundrobin", "t0:1", "m0=t0 m1=t0 m2=t0 m3=t0", "m0=t0/0 m1= m2= m3="),
        ] {
            let dealt = assignor.parse::<Assignor>().unwrap().assign(&members(group), &counts(topics));
            assert_eq!(shown(dealt), expected, "{assignor} of {topics} among {group}");
        }
    }

    #[test]
    fn an_unknown_assignor_is_named() {
        let message = "sticky".parse::<Assignor>().unwrap_err().to_string();
        assert_eq!(message, "assignor = sticky cannot be used: give range or roundrobin");
    }

    proptest! {
        #[test]
        fn every_wanted_partition_has_one_owner_who_wants_it(
            wants in prop::collection::vec(prop::collection::btree_set("[abc]", 0..3), 1..6),
            counts in prop::collection::btree_map("[abc]", 1..7, 0..3),
            range: bool,
        ) {
            let members: Vec<Subscriber> = wants
                .into_iter()
                .enumerate()
                .map(|(i, topics)| Subscriber { member_id: format!("m{i}"), instance_id: None, topics })
                .collect();
            let dealt = if range { Assignor::Range } else { Assignor::RoundRobin }.assign(&members, &counts);
            prop_assert_eq!(dealt.len(), members.len());
            let mut owned: Vec<&TopicPartition> = dealt.values().flatten().collect();
            owned.sort();
            let wanted: Vec<TopicPartition> = counts
                .iter()
                .filter(|(topic, _)| members.iter().any(|m| m.topics.contains(*topic)))
                .flat_map(|(topic, count)| (0..*count).map(|p| TopicPartition::new(topic.clone(), p)))
                .collect();
            prop_assert_eq!(owned, wanted.iter().collect::<Vec<_>>());
            for member in &members {
                prop_assert!(dealt[&member.member_id].iter().all(|p| member.topics.contains(&p.topic)));
            }
        }
    }
}
