use kafka_protocol::ResponseError as E;

use super::*;

/// Two members that know their generation, which is 2, and have not synced; the first leads.
fn completing(broker: &mut Broker) -> [Client; 2] {
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients[..1]);
    let [a, b] = &mut clients;
    let mut b_joins = broker.join_with_id(b);
    a.joined(&mut broker.join(&a.clone()));
    b.joined(&mut b_joins);
    assert_eq!(broker.state(), "CompletingRebalance");
    clients
}

#[test]
fn followers_wait_for_what_the_leader_gives_to_them() {
    let mut broker = Broker::new();
    let [a, b] = completing(&mut broker);
    let mut b_syncs = broker.sync(&b, &[(&b, "not mine to give")]);
    assert!(b_syncs.is_waiting());
    let a_syncs = broker.sync(&a, &[(&a, "for a"), (&b, "for b")]);
    assert_eq!(a_syncs.now().assignment, "for a");
    assert_eq!(b_syncs.poll().unwrap().assignment, "for b");
    assert_eq!(broker.state(), "Stable");
    assert_eq!(broker.sync(&b, &[]).now().assignment, "for b");
}

#[test]
fn who_syncs_after_the_leader_is_answered_at_once_and_who_was_forgotten_gets_nothing() {
    let mut broker = Broker::new();
    let [a, b] = completing(&mut broker);
    let stranger = Client { id: "stranger".into(), ..Client::new() };
    assert_eq!(broker.sync(&a, &[(&a, "for a"), (&stranger, "for nobody")]).now().assignment, "for a");
    let synced = broker.sync(&b, &[]).now();
    assert_eq!((synced.error_code, synced.assignment.len()), (0, 0));
}

#[test]
fn a_sync_needs_the_member_and_its_generation() {
    let mut broker = Broker::new();
    let [a, _] = completing(&mut broker);
    let stranger = Client { id: "stranger".into(), ..a.clone() };
    let elsewhere = Client { group: "no such group".into(), ..a.clone() };
    let nowhere = Client { group: "".into(), ..a.clone() };
    for (client, expected) in [
        (stranger, E::UnknownMemberId),
        (elsewhere, E::UnknownMemberId),
        (nowhere, E::InvalidGroupId),
        (a.in_generation(1), E::IllegalGeneration),
        (a.in_generation(3), E::IllegalGeneration),
    ] {
        assert_eq!(error(broker.sync(&client, &[]).now().error_code), Some(expected), "{client:?}");
    }
    let mut third = Client::new();
    let _third_joins = broker.join_with_id(&mut third);
    assert_eq!(error(broker.sync(&a, &[]).now().error_code), Some(E::RebalanceInProgress));
}

#[test]
fn a_sync_that_takes_the_group_for_another_protocol_is_refused() {
    let mut broker = Broker::new();
    let [a, _] = completing(&mut broker);
    let (consumer, connect, range, sticky) = ("consumer".into(), "connect".into(), "range".into(), "sticky".into());
    for (protocol_type, protocol, expected) in [
        (Some(&connect), Some(&range), Some(E::InconsistentGroupProtocol)),
        (Some(&consumer), Some(&sticky), Some(E::InconsistentGroupProtocol)),
        (Some(&consumer), Some(&range), None),
    ] {
        let (reply, asked) = Asked::<SyncGroupResponse>::new(5);
        let sync = Sync { identity: a.identity(), protocol_type, protocol, assignments: Default::default() };
        broker.coordinator.sync(broker.now, &a.group, &sync, SyncReply::new(reply));
        let synced = asked.now();
        assert_eq!(error(synced.error_code), expected);
        if expected.is_none() {
            assert_eq!((synced.protocol_type, synced.protocol_name), (Some(consumer.clone()), Some(range.clone())));
        }
    }
}

#[test]
fn a_rebalance_sends_those_away_that_wait_for_the_leader() {
    let mut broker = Broker::new();
    let [_, b] = completing(&mut broker);
    let mut b_syncs = broker.sync(&b, &[]);
    let mut third = Client::new();
    let _third_joins = broker.join_with_id(&mut third);
    assert_eq!(error(b_syncs.poll().unwrap().error_code), Some(E::RebalanceInProgress));
    assert_eq!(broker.heartbeat(&b), Err(E::RebalanceInProgress));
}

#[test]
fn syncing_again_while_waiting_takes_the_place_of_the_first_request() {
    let mut broker = Broker::new();
    let [a, b] = completing(&mut broker);
    let mut first = broker.sync(&b, &[]);
    let mut second = broker.sync(&b, &[]);
    assert_eq!(error(first.poll().unwrap().error_code), Some(E::RebalanceInProgress));
    let _ = broker.sync(&a, &[(&b, "for b")]);
    assert_eq!(second.poll().unwrap().assignment, "for b");
}

#[test]
fn a_member_that_waits_for_the_leader_does_not_expire() {
    let mut broker = Broker::new();
    let [a, b] = completing(&mut broker);
    let mut b_syncs = broker.sync(&b, &[]);
    for _ in 0..6 {
        broker.pass(9.0);
        assert_eq!(broker.heartbeat(&a), Ok(()));
    }
    assert!(b_syncs.is_waiting());
    let _ = broker.sync(&a, &[(&b, "for b")]);
    assert_eq!(b_syncs.poll().unwrap().error_code, 0);
    broker.pass(10.1);
    assert_eq!(broker.heartbeat(&b), Err(E::UnknownMemberId));
}

#[test]
fn who_does_not_sync_in_time_is_out_however_well_its_heart_beats() {
    let mut broker = Broker::new();
    let [leader, b] = completing(&mut broker);
    let mut b_syncs = broker.sync(&b, &[]);
    for _ in 0..12 {
        assert_eq!(broker.heartbeat(&leader), Ok(()));
        broker.pass(5.0);
    }
    assert_eq!(broker.heartbeat(&leader), Err(E::UnknownMemberId));
    assert_eq!(error(b_syncs.poll().unwrap().error_code), Some(E::RebalanceInProgress));
    let joined = broker.join(&b).now();
    assert_eq!((joined.generation_id, joined.leader), (3, b.id));
}

#[test]
fn a_follower_of_a_stable_group_has_to_sync_too() {
    let mut broker = Broker::new();
    let [leader, b] = completing(&mut broker);
    assert_eq!(broker.sync(&leader, &[]).now().error_code, 0);
    for _ in 0..12 {
        assert_eq!((broker.heartbeat(&leader), broker.heartbeat(&b)), (Ok(()), Ok(())));
        broker.pass(5.0);
    }
    assert_eq!(
        (broker.heartbeat(&leader), broker.heartbeat(&b)),
        (Err(E::RebalanceInProgress), Err(E::UnknownMemberId))
    );
}

#[test]
fn heartbeats_keep_a_member() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients);
    let [a, b] = clients;
    for _ in 0..10 {
        broker.pass(9.9);
        assert_eq!((broker.heartbeat(&a), broker.heartbeat(&b)), (Ok(()), Ok(())));
    }
    broker.pass(5.0);
    assert_eq!(broker.heartbeat(&a), Ok(()));
    broker.pass(5.1);
    assert_eq!((broker.heartbeat(&a), broker.heartbeat(&b)), (Err(E::RebalanceInProgress), Err(E::UnknownMemberId)));
    let joined = broker.join(&a).now();
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
}

#[test]
fn a_heartbeat_needs_the_member_and_its_generation() {
    let mut broker = Broker::new();
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    let [a] = clients;
    for (client, expected) in [
        (a.clone(), Ok(())),
        (a.in_generation(0), Err(E::IllegalGeneration)),
        (Client { id: "stranger".into(), ..a.clone() }, Err(E::UnknownMemberId)),
        (Client { group: "no such group".into(), ..a.clone() }, Err(E::UnknownMemberId)),
        (Client { group: "".into(), ..a.clone() }, Err(E::InvalidGroupId)),
    ] {
        assert_eq!(broker.heartbeat(&client), expected, "{client:?}");
    }
}

#[test]
fn an_idle_coordinator_has_no_deadline() {
    let mut broker = Broker::new();
    assert_eq!(broker.coordinator.next_deadline(), None);
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients);
    assert!(broker.coordinator.next_deadline().is_some());
    broker.pass(1000.0);
    assert_eq!((broker.state(), broker.coordinator.next_deadline()), ("Empty", None));
}
