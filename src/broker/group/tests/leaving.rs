use kafka_protocol::ResponseError as E;

use super::*;

#[test]
fn the_others_rebalance_when_a_member_leaves() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients);
    let [a, b] = clients;
    assert_eq!(broker.leave(&a), Ok(()));
    assert_eq!(broker.leave(&a), Err(E::UnknownMemberId));
    assert_eq!(broker.heartbeat(&b), Err(E::RebalanceInProgress));
    let joined = broker.join(&b).now();
    assert_eq!((joined.generation_id, joined.leader), (3, b.id));
}

#[test]
fn a_rebalance_ends_when_the_last_that_is_missing_leaves() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients);
    let mut rejoin = broker.join(&clients[0]);
    assert_eq!(broker.leave(&clients[1]), Ok(()));
    assert_eq!(rejoin.poll().unwrap().members.len(), 1);
}

#[test]
fn the_last_one_leaves_an_empty_group_whose_generation_goes_on() {
    let mut broker = Broker::new();
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    assert_eq!(broker.leave(&clients[0]), Ok(()));
    assert_eq!((broker.state(), broker.coordinator.next_deadline()), ("Empty", None));
    assert_eq!(broker.heartbeat(&clients[0]), Err(E::UnknownMemberId));
    let mut next = Client::new();
    assert_eq!(broker.join_with_id(&mut next).now().generation_id, 3);
}

#[test]
fn a_member_that_waits_is_told_that_it_was_taken_out() {
    let mut broker = Broker::new();
    let mut clients = [Client::fixed("i"), Client::fixed("j")];
    broker.stable(&mut clients);
    let rejoin = broker.join(&clients[0]);
    let by_instance = Client { id: StrBytes::default(), ..clients[0].clone() };
    assert_eq!(broker.leave(&by_instance), Ok(()));
    let refused = rejoin.now();
    assert_eq!((error(refused.error_code), refused.member_id.as_str()), (Some(E::UnknownMemberId), ""));
}

#[test]
fn members_leave_by_id_or_by_instance_id() {
    let mut broker = Broker::new();
    let mut clients = [Client::fixed("i"), Client::fixed("j"), Client::new()];
    broker.stable(&mut clients);
    let [i, j, dynamic] = clients;
    for (member_id, instance_id, expected) in [
        ("", Some("k"), Err(E::UnknownMemberId)),
        ("", None, Err(E::UnknownMemberId)),
        ("stranger", None, Err(E::UnknownMemberId)),
        (dynamic.id.as_str(), Some("i"), Err(E::FencedInstanceId)),
        ("", Some("i"), Ok(())),
        ("", Some("i"), Err(E::UnknownMemberId)),
        (j.id.as_str(), Some("j"), Ok(())),
        (dynamic.id.as_str(), None, Ok(())),
    ] {
        let member_id = StrBytes::from_string(member_id.to_owned());
        let instance_id = instance_id.map(StrBytes::from_static_str);
        let result = broker.coordinator.leave(broker.now, &GROUP.into(), &member_id, instance_id.as_ref());
        assert_eq!(result, expected, "{member_id:?} {instance_id:?}");
    }
    assert_eq!((broker.state(), broker.heartbeat(&i)), ("Empty", Err(E::UnknownMemberId)));
}

#[test]
fn a_pending_member_may_leave_and_is_waited_for_no_more() {
    let mut broker = Broker::new();
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    let mut pending = Client::new();
    pending.id = broker.join(&pending).now().member_id;
    let mut rejoin = broker.join(&clients[0]);
    assert!(rejoin.is_waiting());
    assert_eq!(broker.leave(&pending), Ok(()));
    assert!(rejoin.poll().is_some());
}

#[test]
fn only_groups_without_members_are_deleted() {
    let mut broker = Broker::new();
    let mut clients = [Client::new()];
    assert_eq!(broker.coordinator.delete(&GROUP.into()), Err(E::GroupIdNotFound));
    broker.stable(&mut clients);
    assert_eq!(broker.commit(&clients[0], 5), Ok(()));
    assert_eq!(broker.coordinator.delete(&GROUP.into()), Err(E::NonEmptyGroup));
    assert_eq!(broker.leave(&clients[0]), Ok(()));
    assert_eq!(broker.committed("t", 0), Some(5));
    assert_eq!(broker.coordinator.delete(&GROUP.into()), Ok(()));
    assert_eq!((broker.state(), broker.committed("t", 0)), ("Dead", None));
}
