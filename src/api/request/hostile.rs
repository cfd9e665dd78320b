//! What clients send that follow nothing: read, or answered by a rejection that names what is wrong.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const MAX: u32 = 16;
/// A rejection's frame: none quotes what was sent.
const MAX_REJECTION_BYTES: usize = 128;

const TOKEN: &str = "\"6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11\"";

/// Values as they may stand in a frame: of each type, of no type, huge, half a character.
fn any_value() -> impl Strategy<Value = String> {
    let known = [
        "null",
        "true",
        "[]",
        "{}",
        "0",
        "-1",
        "1",
        "2",
        "16",
        "17",
        "2.0",
        "2e0",
        "-0",
        "4294967298",
        "1e999999",
        "99999999999999999999999",
        "\"\"",
        "\"ATTACK\"",
        "\"attack\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\u{feff}\"",
        "NaN",
        "nul",
        "01",
        "'a'",
        "\"",
        "",
        TOKEN,
        "\"6A2F41A3C54C4BF59F3F7B1F0F4C0E11\"",
        "\"{6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11}\"",
    ];
    prop_oneof![
        5 => select(known.to_vec()).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| Value::from(text).to_string()),
        1 => (1..5_000usize).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
        1 => (1..5_000usize).prop_map(|depth| r#"{"PAYLOAD":"#.repeat(depth)),
        1 => (0..70_000usize).prop_map(|length| Value::from("é".repeat(length)).to_string()),
        1 => (0..5_000usize).prop_map(|digits| "9".repeat(digits)),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Value(Index, String),
    Drop(Index),
    Twice(Index),
    More(&'static str, String),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (any::<Index>(), any_value()).prop_map(|(at, value)| Change::Value(at, value)),
        1 => any::<Index>().prop_map(Change::Drop),
        1 => any::<Index>().prop_map(Change::Twice),
        1 => (select(vec!["MORE", Field::Seat.name()]), any_value()).prop_map(|(name, value)| Change::More(name, value)),
    ];
    prop::collection::vec(change, 0..3)
}

fn changed(endpoint: Endpoint, changes: Vec<Change>) -> String {
    let good = |field: &Field| match field {
        Field::Participants => "3",
        Field::Action => "\"ATTACK\"",
        _ => TOKEN,
    };
    let mut payload: Vec<(&str, String)> = fields(endpoint).iter().map(|f| (f.name(), good(f).to_owned())).collect();
    for change in changes {
        let place = |at: Index| (!payload.is_empty()).then(|| at.index(payload.len()));
        match change {
            Change::Value(at, value) => place(at).into_iter().for_each(|at| payload[at].1.clone_from(&value)),
            Change::Drop(at) => place(at).into_iter().for_each(|at| drop(payload.remove(at))),
            Change::Twice(at) => place(at).into_iter().for_each(|at| payload.push(payload[at].clone())),
            Change::More(name, value) => payload.push((name, value)),
        }
    }
    let payload: Vec<String> = payload.into_iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!(r#"{{"PAYLOAD":{{{}}}}}"#, payload.join(","))
}

/// Reads the frame at every endpoint. What was taken has all its fields and says the same when it is written; what was not is
/// rejected with a reason that is true of it.
fn check(text: &str) -> Result<(), TestCaseError> {
    let json = serde_json::from_str::<Value>(text);
    for endpoint in Endpoint::ALL {
        let rejection = match Request::parse(endpoint, text, MAX) {
            Ok(request) => {
                prop_assert_eq!(request.endpoint(), endpoint);
                prop_assert_eq!(Request::parse(endpoint, &request.to_json(), MAX), Ok(request));
                continue;
            }
            Err(rejection) => rejection,
        };
        let frame = rejection.to_json();
        prop_assert!(frame.len() <= MAX_REJECTION_BYTES, "{frame}");
        let answer: Value = serde_json::from_str(&frame).unwrap();
        prop_assert_eq!(&answer["STATUS"], &Value::from(rejection.to_string()));
        let payload = json.as_ref().ok().map(|json| &json["PAYLOAD"]);
        let value = |field: Field| payload.and_then(|payload| payload.get(field.name()));
        let is_true = match rejection {
            Rejection::NotJson => json.is_err(),
            Rejection::NotAnObject => json.as_ref().is_ok_and(|json| !json.is_object()),
            Rejection::Missing(Field::Payload) => json.as_ref().is_ok_and(|json| json.get("PAYLOAD").is_none()),
            Rejection::WrongType(Field::Payload) => payload.is_some_and(|payload| !payload.is_object()),
            Rejection::Missing(field) => fields(endpoint).contains(&field) && value(field).is_none(),
            Rejection::WrongType(Field::Participants) => value(Field::Participants).unwrap().as_i64().is_none(),
            Rejection::WrongType(field) => !value(field).unwrap().is_string(),
            Rejection::ParticipantsOutside { max: MAX } => {
                !value(Field::Participants).unwrap().as_u64().is_some_and(|n| (2..=MAX.into()).contains(&n))
            }
            Rejection::NameTooLong => value(Field::User).unwrap().as_str().unwrap().len() > MAX_NAME_BYTES,
            Rejection::WrongSeat => value(Field::Seat).unwrap().as_str().unwrap().parse::<SeatSecret>().is_err(),
            Rejection::UnknownAction => value(Field::Action).unwrap() != "ATTACK",
            Rejection::UnknownGame => value(Field::GameToken).unwrap().as_str().unwrap().parse::<GameToken>().is_err(),
            Rejection::UnknownUser => value(Field::UserToken).unwrap().as_str().unwrap().parse::<UserToken>().is_err(),
            Rejection::EnemyNotInGame => {
                value(Field::EnemyToken).unwrap().as_str().unwrap().parse::<UserToken>().is_err()
            }
            _ => false,
        };
        prop_assert!(is_true, "{rejection} at {endpoint:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_sent_is_a_request_or_rejected_for_what_is_wrong_with_it(
        endpoint in select(&Endpoint::ALL[..]), changes in changes(), value in any_value(),
        bytes in prop::collection::vec(prop_oneof![select(&b"{}[]:,\"\\ue+-01PAYLOD"[..]), any::<u8>()], 0..60),
        damage in (any::<Index>(), any::<char>()),
    ) {
        let mut text = changed(endpoint, changes);
        check(&text)?;
        text.insert(text.floor_char_boundary(damage.0.index(text.len())), damage.1);
        check(&text)?;
        check(&value)?;
        check(&format!(r#"{{"PAYLOAD":{value}}}"#))?;
        check(&String::from_utf8_lossy(&bytes))?;
    }
}
