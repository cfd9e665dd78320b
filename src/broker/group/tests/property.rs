//! Random interleavings of clients that join, sync, beat, commit, leave, restart and vanish while time passes, against rules that
//! hold whatever they do.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const CLIENTS: usize = 5;

/// What a client does next, whether or not it is its turn.
#[derive(Clone, Debug)]
enum Act {
    /// What a client that follows the protocol would do.
    Proceed,
    /// Subscribes to one of three topics; a member that changes its mind makes the others rebalance.
    Join {
        topic: usize,
    },
    /// As the leader, if the last answer said so.
    Sync,
    Heartbeat,
    Commit,
    /// In the generation before.
    CommitLate,
    Leave,
    /// Forgets its ids, as a new process, and what it waits for.
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act, u32)>> {
    let act = prop_oneof![
        60 => Just(Act::Proceed),
        4 => (0..3usize).prop_map(|topic| Act::Join { topic }),
        4 => Just(Act::Sync),
        3 => Just(Act::Heartbeat),
        3 => Just(Act::Commit),
        1 => Just(Act::CommitLate),
        1 => Just(Act::Leave),
        1 => Just(Act::Restart),
    ];
    // Mostly no time passes, sometimes a little, seldom so much that sessions end.
    let pause_ms = prop_oneof![20 => Just(0u32), 4 => 1..3_000u32, 1 => 3_000..40_000u32];
    prop::collection::vec((0..CLIENTS, act, pause_ms), 1..200)
}

/// What comes next for a client that follows the protocol.
#[derive(Clone, Copy, Debug)]
enum Next {
    Join,
    Sync,
    Stay,
}

/// A client with its requests that wait.
struct Actor {
    client: Client,
    next: Next,
    leads: Option<Vec<StrBytes>>,
    joins: Vec<Asked<JoinGroupResponse>>,
    /// With the generation that was synced in.
    syncs: Vec<(i32, Asked<SyncGroupResponse>)>,
}

struct World {
    broker: Broker,
    actors: Vec<Actor>,
    /// What the leader of each generation gave to each member, of the first SyncGroup that it sent.
    given: HashMap<(i32, StrBytes), Bytes>,
    leaders: HashMap<i32, StrBytes>,
    /// The newest generation that anybody was told of.
    newest: i32,
    /// The newest generation in which a commit was accepted.
    committed_in: i32,
    /// Requests of processes that are gone; they are answered, too.
    orphans: Vec<Actor>,
}

impl World {
    fn new(statics: usize) -> Self {
        let actor = |n: usize| {
            let names = ["i0", "i1", "i2", "i3", "i4"];
            let instance_id = (n < statics).then(|| names[n].into());
            let session = Duration::from_secs(4 + n as u64);
            let client = Client { instance_id, session, rebalance: Duration::from_secs(20), ..Client::new() };
            Actor { client, next: Next::Join, leads: None, joins: Vec::new(), syncs: Vec::new() }
        };
        Self {
            broker: Broker::new(),
            actors: (0..CLIENTS).map(actor).collect(),
            given: HashMap::new(),
            leaders: HashMap::new(),
            newest: 0,
            committed_in: -1,
            orphans: Vec::new(),
        }
    }

    fn act(&mut self, who: usize, act: &Act) {
        let Self { broker, actors, .. } = self;
        let actor = &mut actors[who];
        match act {
            Act::Proceed if !actor.joins.is_empty() || !actor.syncs.is_empty() => {}
            Act::Proceed => match actor.next {
                Next::Join => actor.joins.push(broker.join(&actor.client)),
                Next::Sync => self.sync(who),
                Next::Stay => match broker.heartbeat(&actor.client) {
                    Ok(()) => self.commit(who, 0),
                    Err(error) => {
                        if error == ResponseError::UnknownMemberId {
                            actor.client.id = StrBytes::default();
                        }
                        actor.next = Next::Join;
                    }
                },
            },
            Act::Join { topic } => {
                actor.client.protocols = vec![protocol("range", ["t", "u", "v"][*topic])];
                actor.joins.push(broker.join(&actor.client));
            }
            Act::Sync => self.sync(who),
            Act::Heartbeat => {
                let _ = broker.heartbeat(&actor.client);
            }
            Act::Commit => self.commit(who, 0),
            Act::CommitLate => self.commit(who, 1),
            Act::Leave => {
                let _ = broker.leave(&actor.client);
            }
            Act::Restart => {
                let client = actor.client.restarted();
                let new = Actor { client, next: Next::Join, leads: None, joins: Vec::new(), syncs: Vec::new() };
                self.orphans.push(std::mem::replace(actor, new));
            }
        }
    }

    fn sync(&mut self, who: usize) {
        let actor = &mut self.actors[who];
        let generation = actor.client.generation;
        let shares: Vec<(StrBytes, Bytes)> = actor
            .leads
            .iter()
            .flatten()
            .map(|member| (member.clone(), Bytes::from(format!("{generation} by {} for {member}", actor.client.id))))
            .collect();
        let is_taken = self.broker.coordinator.group(&GROUP.into()).is_some_and(|group| {
            group.state_name() == "CompletingRebalance"
                && group.check(actor.client.identity()).is_ok()
                && group.leader.as_ref() == Some(&actor.client.id)
        });
        if is_taken {
            for (member, share) in &shares {
                let before = self.given.insert((generation, member.clone()), share.clone());
                assert_eq!(before, None, "a generation is assigned once");
            }
        }
        let (reply, asked) = Asked::new(3);
        let sync = Sync {
            identity: actor.client.identity(),
            protocol_type: None,
            protocol: None,
            assignments: shares.iter().map(|(member, share)| (member, share)).collect(),
        };
        self.broker.coordinator.sync(self.broker.now, &GROUP.into(), &sync, SyncReply::new(reply));
        actor.syncs.push((generation, asked));
    }

    fn commit(&mut self, who: usize, back: i32) {
        let client = &self.actors[who].client;
        let client = client.in_generation(client.generation - back);
        if self.broker.commit(&client, 1).is_err() {
            return;
        }
        // Without a generation, only a group without members takes it.
        if client.generation < 0 {
            assert_eq!(self.broker.state(), "Empty");
            return;
        }
        assert!(client.generation >= self.committed_in, "{} after {}", client.generation, self.committed_in);
        assert!(client.generation >= self.newest, "a newer generation, {}, was told of before", self.newest);
        self.committed_in = client.generation;
    }

    /// Takes up what was answered.
    fn read(&mut self) {
        for (actor, is_alive) in
            self.actors.iter_mut().map(|a| (a, true)).chain(self.orphans.iter_mut().map(|a| (a, false)))
        {
            let mut joins = std::mem::take(&mut actor.joins);
            joins.retain_mut(|asked| {
                let Some(joined) = asked.poll() else { return true };
                actor.next = if joined.error_code == 0 { Next::Sync } else { Next::Join };
                match error(joined.error_code) {
                    None => {
                        assert!(joined.generation_id >= 1);
                        assert!(joined.generation_id >= actor.client.generation, "generations grow");
                        actor.client.generation = joined.generation_id;
                        actor.client.id = joined.member_id.clone();
                        self.newest = self.newest.max(joined.generation_id);
                        let leads = joined.leader == joined.member_id;
                        assert!(leads || joined.members.is_empty());
                        actor.leads = leads.then(|| joined.members.into_iter().map(|m| m.member_id).collect());
                        // A static leader that is replaced keeps the lead under another id.
                        if actor.client.instance_id.is_none() && leads {
                            let leader = self.leaders.entry(joined.generation_id).or_insert(joined.leader.clone());
                            assert_eq!(*leader, joined.leader, "a generation has one leader");
                        }
                    }
                    Some(ResponseError::MemberIdRequired) => actor.client.id = joined.member_id,
                    Some(ResponseError::UnknownMemberId) if is_alive => actor.client.id = StrBytes::default(),
                    Some(_) => {}
                }
                false
            });
            actor.joins = joins;
            let given = &self.given;
            let id = &actor.client.id;
            actor.syncs.retain_mut(|(generation, asked)| {
                let Some(synced) = asked.poll() else { return true };
                actor.next = if synced.error_code == 0 { Next::Stay } else { Next::Join };
                if synced.error_code == 0 && !synced.assignment.is_empty() {
                    let from_leader = given.get(&(*generation, id.clone())) == Some(&synced.assignment);
                    // A static member that took a place gets what was given to the place.
                    let inherited = actor.client.instance_id.is_some()
                        && given.iter().any(|((g, _), share)| g == generation && *share == synced.assignment);
                    assert!(from_leader || inherited, "{:?} in {generation}", synced.assignment);
                }
                false
            });
        }
    }

    fn check(&self) {
        let group = self.broker.coordinator.group(&GROUP.into());
        if let Some(group) = group {
            assert!(group.generation >= self.newest, "the generation never decreases");
            let is_idle = group.members.is_empty() && group.pending.is_empty();
            assert!(!is_idle || self.broker.coordinator.next_deadline().is_none(), "{group:#?}");
            assert_eq!(group.members.is_empty(), group.leader.is_none(), "{group:#?}");
            assert!(group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader)));
            assert!(group.instances.values().all(|id| group.members.contains_key(id)));
            assert!(group.members.values().filter(|m| m.is_static()).count() == group.instances.len());
        }
        assert!(group.is_some() || self.broker.coordinator.next_deadline().is_none());
    }

    fn waiting(&self) -> usize {
        self.actors.iter().chain(&self.orphans).map(|actor| actor.joins.len() + actor.syncs.len()).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_clients_do(acts in acts(), statics in 0..=CLIENTS) {
        let mut world = World::new(statics);
        for (who, act, pause_ms) in &acts {
            world.act(*who, act);
            world.read();
            world.check();
            world.broker.pass(f64::from(*pause_ms) / 1000.0);
            world.read();
            world.check();
        }
        // Nobody does anything any more, so that every wait and every session ends.
        world.broker.pass(3600.0);
        world.read();
        world.check();
        prop_assert_eq!(world.waiting(), 0);
        prop_assert_eq!(world.broker.coordinator.next_deadline(), None);
        let group = world.broker.coordinator.group(&GROUP.into());
        prop_assert!(group.is_none_or(|group| group.is_empty() && group.pending.is_empty()));
    }
}
