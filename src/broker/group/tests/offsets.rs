use kafka_protocol::ResponseError as E;

use super::*;

#[test]
fn only_a_member_of_the_generation_commits_while_there_are_members() {
    let mut broker = Broker::new();
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    let [a] = clients;
    for (client, expected) in [
        (a.clone(), Ok(())),
        (a.in_generation(0), Err(E::IllegalGeneration)),
        (a.in_generation(2), Err(E::IllegalGeneration)),
        (a.in_generation(-1), Err(E::IllegalGeneration)),
        (Client { id: "stranger".into(), ..a.clone() }, Err(E::UnknownMemberId)),
        (Client { instance_id: Some("i".into()), ..a.clone() }, Err(E::UnknownMemberId)),
        (Client::new(), Err(E::UnknownMemberId)),
    ] {
        assert_eq!(broker.commit(&client, 7), expected, "{client:?}");
    }
    assert_eq!(broker.committed("t", 0), Some(7));
}

#[test]
fn a_group_without_members_takes_commits_without_a_generation_only() {
    let mut broker = Broker::new();
    assert_eq!(broker.commit(&Client::new().in_generation(0), 1), Err(E::IllegalGeneration));
    assert_eq!(broker.state(), "Dead");
    assert_eq!(broker.commit(&Client::new(), 2), Ok(()));
    assert_eq!((broker.state(), broker.committed("t", 0)), ("Empty", Some(2)));
    assert_eq!(broker.commit(&Client::new().in_generation(0), 3), Err(E::UnknownMemberId));
    assert_eq!((broker.committed("t", 0), broker.coordinator.next_deadline()), (Some(2), None));
}

#[test]
fn the_state_decides_about_commits_of_members() {
    let mut broker = Broker::new();
    let mut clients = [Client::new(), Client::new()];
    broker.stable(&mut clients[..1]);
    let [mut a, mut b] = clients;
    let mut b_joins = broker.join_with_id(&mut b);
    // While the group prepares, the partitions are still the member's: it commits before it gives them back.
    assert_eq!(broker.commit(&a, 1), Ok(()));
    let old = a.clone();
    a.joined(&mut broker.join(&a.clone()));
    b.joined(&mut b_joins);
    assert_eq!(broker.state(), "CompletingRebalance");
    assert_eq!(broker.commit(&a, 2), Err(E::RebalanceInProgress));
    assert_eq!(broker.commit(&old, 2), Err(E::IllegalGeneration));
    assert_eq!(broker.sync(&a, &[]).now().error_code, 0);
    assert_eq!(broker.commit(&a, 3), Ok(()));
    assert_eq!(broker.commit(&old, 4), Err(E::IllegalGeneration));
    assert_eq!(broker.committed("t", 0), Some(3));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut broker = Broker::new();
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    for offset in 0..10 {
        broker.pass(9.9);
        assert_eq!(broker.commit(&clients[0], offset), Ok(()));
    }
    assert_eq!(broker.heartbeat(&clients[0]), Ok(()));
}

#[test]
fn what_cannot_be_kept_is_refused_partition_by_partition() {
    let limits = GroupLimits { max_offset_metadata_bytes: 4, max_offsets_per_group: 2, ..GroupLimits::default() };
    let mut broker = Broker::with(limits);
    let with = |mut offset: OffsetToCommit, metadata: &'static str| {
        offset.committed.metadata = metadata.into();
        offset
    };
    let offsets = [
        with(offset_of("t", 0, 1), "12345"),
        with(offset_of("t", 1, 1), "1234"),
        offset_of("t", 2, 1),
        offset_of("t", 3, 1),
        offset_of("t", 1, 2),
    ];
    let results = broker.commit_offsets(&Client::new(), &offsets).unwrap();
    let expected = [Err(E::OffsetMetadataTooLarge), Ok(()), Ok(()), Err(E::InvalidCommitOffsetSize), Ok(())];
    assert_eq!(results, expected);
    assert_eq!((broker.committed("t", 0), broker.committed("t", 1)), (None, Some(2)));
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut broker = Broker::new();
    let offsets = [offset_of("t", 0, 1), offset_of("u", 0, 1)];
    broker.commit_offsets(&Client::new(), &offsets).unwrap();
    broker.coordinator.topic_deleted("t");
    assert_eq!((broker.committed("t", 0), broker.committed("u", 0)), (None, Some(1)));
    broker.coordinator.topic_deleted("u");
    assert_eq!(broker.state(), "Dead");
}

#[test]
fn offsets_of_what_members_subscribe_to_are_not_deleted() {
    let mut broker = Broker::new();
    let partitions = [("t".into(), 0), ("u".into(), 0)];
    let group: StrBytes = GROUP.into();
    assert_eq!(broker.coordinator.delete_offsets(&group, &partitions), Err(E::GroupIdNotFound));
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    broker.commit_offsets(&clients[0], &[offset_of("t", 0, 1), offset_of("u", 0, 1)]).unwrap();
    let results = broker.coordinator.delete_offsets(&group, &partitions).unwrap();
    assert_eq!(results, [Err(E::GroupSubscribedToTopic), Ok(())]);
    assert_eq!((broker.committed("t", 0), broker.committed("u", 0)), (Some(1), None));
    assert_eq!(broker.leave(&clients[0]), Ok(()));
    assert_eq!(broker.coordinator.delete_offsets(&group, &partitions).unwrap(), [Ok(()), Ok(())]);
    assert_eq!(broker.committed("t", 0), None);
}

#[test]
fn offsets_of_members_that_are_no_consumers_are_not_deleted() {
    let mut broker = Broker::new();
    broker.stable(&mut [Client { protocol_type: "connect", ..Client::new() }]);
    assert_eq!(broker.coordinator.delete_offsets(&GROUP.into(), &[("t".into(), 0)]), Err(E::NonEmptyGroup));
}
