use kafka_protocol::ResponseError as E;

use super::*;

/// A stable group of a static leader "i" and a static follower "j".
fn stable(broker: &mut Broker) -> [Client; 2] {
    let mut clients = [Client::fixed("i"), Client::fixed("j")];
    broker.stable(&mut clients);
    clients
}

#[test]
fn a_static_member_needs_no_second_join() {
    let joined = Broker::new().join(&Client::fixed("i")).now();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert!(joined.member_id.starts_with("i-"));
    assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("i"));
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut broker = Broker::new();
    let [leader, follower] = stable(&mut broker);
    let mut restarted = follower.restarted();
    let joined = restarted.joined(&mut broker.join(&restarted.clone()));
    assert_eq!((joined.generation_id, &joined.leader, joined.members.len()), (2, &leader.id, 0));
    assert_ne!(joined.member_id, follower.id);
    assert_eq!(broker.sync(&restarted, &[]).now().assignment, "share");
    assert_eq!((broker.state(), broker.heartbeat(&leader), broker.heartbeat(&restarted)), ("Stable", Ok(()), Ok(())));
}

#[test]
fn the_process_whose_place_was_taken_is_fenced() {
    let mut broker = Broker::new();
    let [_, old] = stable(&mut broker);
    let mut new = old.restarted();
    new.joined(&mut broker.join(&new.clone()));
    assert_eq!(broker.heartbeat(&old), Err(E::FencedInstanceId));
    assert_eq!(broker.commit(&old, 1), Err(E::FencedInstanceId));
    assert_eq!(broker.leave(&old), Err(E::FencedInstanceId));
    assert_eq!(error(broker.join(&old).now().error_code), Some(E::FencedInstanceId));
    assert_eq!(error(broker.sync(&old, &[]).now().error_code), Some(E::FencedInstanceId));
    let unnamed = Client { instance_id: None, ..old };
    assert_eq!(broker.heartbeat(&unnamed), Err(E::UnknownMemberId));
    assert_eq!(broker.commit(&new, 1), Ok(()));
}

#[test]
fn a_leader_that_comes_back_has_nothing_to_assign() {
    for (version, leads, skips) in [(8, false, false), (9, true, true)] {
        let mut broker = Broker::new();
        let [old, _] = stable(&mut broker);
        let mut new = old.restarted().version(version);
        let joined = new.joined(&mut broker.join(&new.clone()));
        assert_eq!(joined.skip_assignment, skips);
        assert_eq!(joined.leader == new.id, leads);
        assert_eq!(joined.members.len(), if leads { 2 } else { 0 });
        assert_eq!(broker.sync(&new, &[]).now().assignment, "share");
        assert_eq!(broker.state(), "Stable");
    }
}

#[test]
fn a_static_member_that_wants_something_else_makes_the_group_rebalance() {
    let changed =
        [Client::new().knowing(&[("range", "other")]), Client::new().knowing(&[("range", "t"), ("sticky", "t")])];
    for changed in changed {
        let mut broker = Broker::new();
        let [_, old] = stable(&mut broker);
        let new = Client { protocols: changed.protocols, ..old.restarted() };
        assert!(broker.join(&new).is_waiting());
        assert_eq!(broker.state(), "PreparingRebalance");
    }
}

#[test]
fn what_a_static_member_had_does_not_make_its_return_a_rebalance() {
    let mut broker = Broker::new();
    let [_, mut old] = stable(&mut broker);
    // The same topic, in version 1 with an owned partition.
    old.protocols[0].metadata =
        Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0");
    assert!(broker.join(&old.restarted()).poll().is_some());
    assert_eq!(broker.state(), "Stable");
}

#[test]
fn a_place_that_is_taken_while_the_group_syncs_makes_it_rebalance() {
    let mut broker = Broker::new();
    let mut a = Client::fixed("i");
    a.joined(&mut broker.join(&a.clone()));
    let mut b = Client::fixed("j");
    let mut b_joins = broker.join(&b);
    a.joined(&mut broker.join(&a.clone()));
    b.joined(&mut b_joins);
    let mut b_syncs = broker.sync(&b, &[]);
    let mut taken = broker.join(&b.restarted());
    assert_eq!(error(b_syncs.poll().unwrap().error_code), Some(E::FencedInstanceId));
    assert!(taken.is_waiting());
    assert!(broker.join(&a).poll().is_some());
    assert_eq!(taken.poll().unwrap().generation_id, 3);
}

#[test]
fn a_place_that_is_taken_while_its_owner_waits_fences_the_owner() {
    let mut broker = Broker::new();
    let [leader, old] = stable(&mut broker);
    let mut leader_joins = broker.join(&leader);
    assert!(leader_joins.is_waiting());
    let mut taken = broker.join(&leader.restarted());
    assert_eq!(error(leader_joins.poll().unwrap().error_code), Some(E::FencedInstanceId));
    assert!(broker.join(&old).poll().is_some());
    let joined = taken.poll().unwrap();
    assert_eq!((joined.generation_id, joined.members.len()), (3, 2));
    assert_eq!(joined.leader, joined.member_id);
}

#[test]
fn static_members_that_do_not_join_again_keep_their_place_while_their_session_lasts() {
    let mut broker = Broker::new();
    let mut clients = [Client::fixed("i"), Client { session: Duration::from_secs(100), ..Client::fixed("j") }];
    broker.stable(&mut clients);
    let mut rejoin = broker.join(&clients[0]);
    broker.pass(60.0);
    let joined = clients[0].joined(&mut rejoin);
    assert_eq!((joined.generation_id, joined.members.len()), (3, 2));
    assert_eq!(broker.heartbeat(&clients[1]), Err(E::IllegalGeneration));
}

#[test]
fn a_rebalance_that_no_static_member_comes_to_ends_with_their_sessions() {
    let mut broker = Broker::new();
    let [leader, _] = stable(&mut broker);
    let mut third = Client::new();
    drop(broker.join_with_id(&mut third));
    assert_eq!(broker.leave(&third), Ok(()));
    broker.pass(1000.0);
    assert_eq!((broker.state(), broker.coordinator.next_deadline()), ("Empty", None));
    assert_eq!(broker.heartbeat(&leader), Err(E::UnknownMemberId));
}
