use kafka_protocol::ResponseError as E;

use super::*;

fn refusal(broker: &mut Broker, client: &Client) -> Option<E> {
    broker.join(client).poll().and_then(|joined| error(joined.error_code))
}

#[test]
fn sessions_have_to_be_neither_too_short_nor_too_long() {
    for (seconds, expected) in [
        (0.0, Some(E::InvalidSessionTimeout)),
        (0.999, Some(E::InvalidSessionTimeout)),
        (1.0, None),
        (4.0, None),
        (1800.0, None),
        (1800.001, Some(E::InvalidSessionTimeout)),
    ] {
        let client = Client { session: Duration::from_secs_f64(seconds), version: 3, ..Client::new() };
        assert_eq!(refusal(&mut Broker::new(), &client), expected, "{seconds} s");
    }
}

#[test]
fn a_group_needs_a_name() {
    let long = StrBytes::from_string("g".repeat(40_000));
    for group in ["".into(), long] {
        let client = Client { group, version: 3, ..Client::new() };
        assert_eq!(refusal(&mut Broker::new(), &client), Some(E::InvalidGroupId));
    }
}

#[test]
fn a_full_group_takes_those_in_that_it_knows() {
    let limits = GroupLimits { max_members_per_group: 2, ..GroupLimits::default() };
    let mut broker = Broker::with(limits);
    let mut clients = [Client::fixed("i"), Client::new()];
    broker.stable(&mut clients);
    assert_eq!(refusal(&mut broker, &Client::new()), Some(E::GroupMaxSizeReached));
    assert_eq!(refusal(&mut broker, &Client::fixed("k")), Some(E::GroupMaxSizeReached));
    assert_eq!(refusal(&mut broker, &clients[1]), None);
    assert_eq!(refusal(&mut broker, &clients[0].restarted()), None);
    assert_eq!(broker.leave(&clients[1]), Ok(()));
    // An id that was given out is a place that is taken.
    assert_eq!(refusal(&mut broker, &Client::new()), Some(E::MemberIdRequired));
    assert_eq!(refusal(&mut broker, &Client::new()), Some(E::GroupMaxSizeReached));
}

#[test]
fn a_member_that_says_too_much_is_refused() {
    let limits = GroupLimits { max_member_metadata_bytes: 100, ..GroupLimits::default() };
    let mut broker = Broker::with(limits);
    let wordy = Client::new().knowing(&[("range", &"t".repeat(100))]);
    assert_eq!(refusal(&mut broker, &wordy), Some(E::InvalidRequest));
    let mut clients = [Client::new()];
    broker.stable(&mut clients);
    const LONG: &str =
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789.";
    let answer = broker.sync(&clients[0], &[(&clients[0], LONG)]).now();
    assert_eq!(error(answer.error_code), Some(E::InvalidRequest));
}

#[test]
fn a_new_group_takes_the_room_of_one_that_has_neither_members_nor_offsets() {
    let limits = GroupLimits { max_groups: 2, ..GroupLimits::default() };
    let mut broker = Broker::with(limits);
    let in_group = |group: &'static str| Client { group: group.into(), version: 3, ..Client::new() };
    assert_eq!(broker.commit(&in_group("offsets"), 1), Ok(()));
    let mut vacant = in_group("vacant");
    vacant.joined(&mut broker.join(&vacant.clone()));
    assert_eq!(refusal(&mut broker, &in_group("third")), Some(E::GroupMaxSizeReached));
    assert_eq!(broker.commit(&in_group("third"), 1), Err(E::InvalidCommitOffsetSize));
    assert_eq!(broker.leave(&vacant), Ok(()));
    assert_eq!(refusal(&mut broker, &in_group("third")), None);
    let ids: Vec<_> = broker.coordinator.groups().into_iter().map(|group| group.id().to_string()).collect();
    assert_eq!(ids, ["offsets", "third"]);
}

#[test]
fn a_long_name_does_not_make_a_member_id_that_cannot_be_told() {
    let instance_id = StrBytes::from_string("é".repeat(16_000));
    let client = Client { instance_id: Some(instance_id), ..Client::new() };
    let joined = Broker::new().join(&client).now();
    assert_eq!((joined.error_code, joined.member_id.len()), (0, 2 * 250 + 37));
}
