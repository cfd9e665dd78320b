use kafka_protocol::ResponseError as E;

use super::*;

#[test]
fn a_new_dynamic_member_has_to_join_with_the_id_that_it_is_given() {
    let mut broker = Broker::new();
    let mut client = Client::new();
    let refused = broker.join(&client).now();
    assert_eq!(error(refused.error_code), Some(E::MemberIdRequired));
    assert!(refused.member_id.starts_with("client-"));
    assert_eq!((refused.generation_id, broker.state()), (-1, "Empty"));
    client.id = refused.member_id;
    let joined = broker.join(&client).now();
    assert_eq!((joined.error_code, joined.generation_id, joined.leader), (0, 1, client.id));
}

#[test]
fn a_client_that_does_not_know_of_required_ids_joins_at_once() {
    for version in 0..=3 {
        let joined = Broker::new().join(&Client::new().version(version)).now();
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert!(joined.member_id == joined.leader && !joined.leader.is_empty());
    }
}

#[test]
fn an_id_that_nobody_comes_back_with_expires_with_the_session() {
    let mut broker = Broker::new();
    let mut client = Client::new();
    client.id = broker.join(&client).now().member_id;
    broker.pass(9.9);
    assert!(broker.coordinator.next_deadline().is_some());
    broker.pass(0.2);
    assert_eq!(error(broker.join(&client).now().error_code), Some(E::UnknownMemberId));
    assert_eq!((broker.state(), broker.coordinator.next_deadline()), ("Dead", None));
}

#[test]
fn a_member_id_that_was_never_given_out_is_unknown() {
    let mut broker = Broker::new();
    let stranger = Client { id: "stranger".into(), ..Client::new() };
    assert_eq!(error(broker.join(&stranger).now().error_code), Some(E::UnknownMemberId));
    broker.stable(&mut [Client::new()]);
    assert_eq!(error(broker.join(&stranger).now().error_code), Some(E::UnknownMemberId));
}

#[test]
fn only_the_leader_sees_the_members() {
    let mut broker = Broker::new();
    let [mut a, mut b] = [Client::new(), Client::new()];
    broker.stable(std::slice::from_mut(&mut a));
    let mut b_joins = broker.join_with_id(&mut b);
    assert_eq!(broker.heartbeat(&a), Err(E::RebalanceInProgress));
    assert!(b_joins.is_waiting());
    let a_joined = a.joined(&mut broker.join(&a.clone()));
    let b_joined = b.joined(&mut b_joins);
    assert_eq!((a_joined.generation_id, b_joined.generation_id), (2, 2));
    assert_eq!(a_joined.protocol_name.as_deref(), Some("range"));
    assert_eq!((&a_joined.leader, &b_joined.leader), (&a.id, &a.id));
    let seen: Vec<_> = a_joined.members.iter().map(|m| (m.member_id.clone(), m.metadata.clone())).collect();
    let metadata = protocol("range", "t").metadata;
    assert_eq!(seen, [(a.id.clone(), metadata.clone()), (b.id.clone(), metadata)]);
    assert!(b_joined.members.is_empty());
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new(), Client::new()];
    broker.stable(&mut clients[..2]);
    let [a, b, mut c] = clients;
    let mut c_joins = broker.join_with_id(&mut c);
    for _ in 0..12 {
        assert!(c_joins.is_waiting());
        assert_eq!(broker.heartbeat(&a), Err(E::RebalanceInProgress));
        assert_eq!(broker.heartbeat(&b), Err(E::RebalanceInProgress));
        broker.pass(5.0);
    }
    let joined = c.joined(&mut c_joins);
    assert_eq!((joined.generation_id, &joined.leader, joined.members.len()), (3, &c.id, 1));
    assert_eq!(broker.heartbeat(&a), Err(E::UnknownMemberId));
    assert_eq!(error(broker.join(&b).now().error_code), Some(E::UnknownMemberId));
}

#[test]
fn the_longest_rebalance_timeout_of_the_members_counts() {
    let mut broker = Broker::new();
    let patient = Client { rebalance: Duration::from_secs(90), session: Duration::from_secs(100), ..Client::new() };
    let mut clients = [patient, Client::new()];
    broker.stable(&mut clients);
    let mut rejoin = broker.join(&clients[0]);
    assert!(rejoin.is_waiting());
    assert_eq!(broker.leave(&clients[1]), Ok(()));
    assert!(rejoin.poll().is_some());
    let mut third = Client::new();
    let mut join = broker.join_with_id(&mut third);
    broker.pass(89.0);
    assert!(join.is_waiting());
    broker.pass(2.0);
    assert!(join.poll().is_some());
}

#[test]
fn a_member_that_waits_for_the_others_does_not_expire() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client { session: Duration::from_secs(100), ..Client::new() }];
    broker.stable(&mut clients);
    let mut rejoin = broker.join(&clients[0]);
    broker.pass(50.0);
    assert!(rejoin.is_waiting());
    broker.pass(10.0);
    let joined = clients[0].joined(&mut rejoin);
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
}

#[test]
fn a_new_member_is_given_up_after_five_minutes() {
    let mut broker = Broker::new();
    let slow = Client { rebalance: Duration::from_secs(1000), session: Duration::from_secs(1000), ..Client::new() };
    broker.stable(&mut [slow]);
    let mut new = Client::new();
    let mut join = broker.join_with_id(&mut new);
    broker.pass(299.0);
    assert!(join.is_waiting());
    broker.pass(2.0);
    let refused = join.poll().unwrap();
    assert_eq!((error(refused.error_code), refused.member_id.as_str()), (Some(E::UnknownMemberId), ""));
}

#[test]
fn joining_again_while_waiting_takes_the_place_of_the_first_request() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients);
    let mut first = broker.join(&clients[0]);
    let mut second = broker.join(&clients[0]);
    assert_eq!(error(first.poll().unwrap().error_code), Some(E::RebalanceInProgress));
    assert!(second.is_waiting());
    assert!(broker.join(&clients[1]).poll().is_some());
    assert_eq!(second.poll().unwrap().generation_id, 3);
}

#[test]
fn pending_members_are_waited_for_while_others_rebalance() {
    let mut broker = Broker::new();
    let mut a = [Client::new()];
    broker.stable(&mut a);
    let mut b = Client::new();
    b.id = broker.join(&b).now().member_id;
    let mut rejoin = broker.join(&a[0]);
    assert!(rejoin.is_waiting());
    assert!(broker.join(&b).poll().is_some());
    assert_eq!(rejoin.poll().unwrap().members.len(), 2);
}

#[test]
fn what_a_member_of_a_stable_group_gets_by_joining_again_depends_on_what_it_says() {
    let same = Client::new();
    let changed = Client::new().knowing(&[("range", "other")]);
    for (who, says, rebalances) in [(1, &same, false), (1, &changed, true), (0, &same, true), (0, &changed, true)] {
        let mut broker = Broker::new();
        let mut clients = [Client::new(), Client::new()];
        broker.stable(&mut clients);
        let client = Client { protocols: says.protocols.clone(), ..clients[who].clone() };
        let mut rejoin = broker.join(&client);
        let expected = if rebalances { "PreparingRebalance" } else { "Stable" };
        assert_eq!(broker.state(), expected, "member {who}, changed: {}", says.protocols == changed.protocols);
        if let Some(joined) = rejoin.poll() {
            assert_eq!((joined.generation_id, joined.members.len(), &joined.leader), (2, 0, &clients[0].id));
        }
    }
}

#[test]
fn a_member_that_missed_its_generation_is_told_again() {
    let mut broker = Broker::new();
    let mut client = Client::new();
    let first = broker.join_with_id(&mut client).now();
    let again = broker.join(&client).now();
    assert_eq!(first, again);
    let changed = client.clone().knowing(&[("range", "other")]);
    assert_eq!(broker.join(&changed).now().generation_id, 2);
}

#[test]
fn protocols_have_to_agree() {
    for (protocol_type, protocols, agrees) in [
        ("consumer", &[("range", "t")][..], true),
        ("consumer", &[("roundrobin", "t"), ("range", "t")], true),
        ("consumer", &[("sticky", "t")], false),
        ("consumer", &[], false),
        ("connect", &[("range", "t")], false),
        ("", &[("range", "t")], false),
    ] {
        let mut broker = Broker::new();
        broker.stable(&mut [Client::new().knowing(&[("range", "t"), ("roundrobin", "t")])]);
        let mut client = Client { protocol_type, ..Client::new() }.knowing(protocols);
        client.version = 3;
        let answer = broker.join(&client).poll().map(|joined| error(joined.error_code));
        let expected = if agrees { None } else { Some(Some(E::InconsistentGroupProtocol)) };
        assert_eq!(answer, expected, "{protocol_type} {protocols:?}");
    }
    for client in [Client::new().knowing(&[]), Client { protocol_type: "", ..Client::new() }] {
        let mut broker = Broker::new();
        assert_eq!(error(broker.join(&client).now().error_code), Some(E::InconsistentGroupProtocol));
        assert_eq!(broker.state(), "Dead");
    }
}

#[test]
fn the_members_vote_for_a_protocol_that_all_know() {
    let (r, o, s) = (("range", "t"), ("roundrobin", "t"), ("sticky", "t"));
    for (preferences, elected) in [
        (vec![vec![r, o], vec![o, r], vec![o, r]], "roundrobin"),
        (vec![vec![r, o], vec![o, r]], "range"),
        (vec![vec![s, r, o], vec![s, o, r], vec![o, r]], "roundrobin"),
        (vec![vec![o, r], vec![r]], "range"),
    ] {
        let mut broker = Broker::new();
        let mut clients: Vec<Client> = preferences.iter().map(|p| Client::new().knowing(p)).collect();
        broker.stable(&mut clients);
        let group = broker.coordinator.group(&GROUP.into()).unwrap();
        assert_eq!(group.described_protocol().as_str(), elected, "{preferences:?}");
    }
}

#[test]
fn the_first_rebalance_waits_for_more_members_if_it_is_told_to() {
    let limits = GroupLimits { initial_rebalance_delay: Duration::from_secs(3), ..GroupLimits::default() };
    let mut broker = Broker::with(limits);
    let mut a = Client::new();
    let mut a_joins = broker.join_with_id(&mut a);
    broker.pass(2.0);
    let mut b = Client::new();
    let mut b_joins = broker.join_with_id(&mut b);
    broker.pass(3.9);
    assert!(a_joins.is_waiting() && b_joins.is_waiting());
    broker.pass(0.2);
    let joined = a.joined(&mut a_joins);
    assert_eq!((joined.generation_id, joined.members.len()), (1, 2));
    assert_eq!(b.joined(&mut b_joins).generation_id, 1);
}

#[test]
fn a_delayed_group_that_everybody_leaves_waits_no_more() {
    let limits = GroupLimits { initial_rebalance_delay: Duration::from_secs(3), ..GroupLimits::default() };
    let mut broker = Broker::with(limits);
    let mut a = Client::new();
    let join = broker.join_with_id(&mut a);
    assert_eq!(broker.leave(&a), Ok(()));
    assert_eq!(error(join.now().error_code), Some(E::UnknownMemberId));
    assert_eq!((broker.state(), broker.coordinator.next_deadline()), ("Empty", None));
}

#[test]
fn clients_that_are_gone_do_no_harm() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new(), Client::new()];
    broker.stable(&mut clients);
    drop(broker.join(&clients[0]));
    drop(broker.join(&clients[1]));
    let mut rejoin = broker.join(&clients[2]);
    assert_eq!(clients[2].joined(&mut rejoin).generation_id, 4);
    // The leader is gone, too: its session ends, and the one that is left leads.
    let sync = broker.sync(&clients[2], &[]);
    drop(sync);
    broker.pass(10.1);
    assert_eq!(broker.state(), "PreparingRebalance");
    let joined = broker.join(&clients[2]).now();
    assert_eq!((joined.generation_id, joined.leader, joined.members.len()), (5, clients[2].id.clone(), 1));
}
