//! Requests: what a text frame asks of an endpoint.

use std::str::FromStr;

use serde_json::{Map, Value};
use superhero_game::{GameToken, SeatSecret, UserToken};

use crate::{Endpoint, Field, Rejection};

/// The fewest participants of a game; the most is the server's setting.
pub const MIN_PARTICIPANTS: u32 = 2;

/// The longest name of a user; it is kept for as long as the user plays.
pub const MAX_NAME_BYTES: usize = 128;

/// The only action that there is.
const ATTACK: &str = "ATTACK";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The token of a user, made at the first login of its name.
    Login {
        /// The name.
        user: String,
    },
    /// A seat in a game.
    Find {
        /// Who wants it.
        user: UserToken,
        /// How many seats the game is to have.
        participants: u32,
    },
    /// The pushes of a game.
    Lobby {
        /// The game.
        game: GameToken,
        /// For whom.
        user: UserToken,
        /// The secret of its seat; without it where a client knows of none.
        seat: Option<SeatSecret>,
    },
    /// A player's hero.
    Hero {
        /// The game.
        game: GameToken,
        /// The player, not necessarily the one who asks.
        user: UserToken,
    },
    /// An attack.
    Action {
        /// The game.
        game: GameToken,
        /// Who attacks.
        user: UserToken,
        /// Whom; `None` when the player found nobody alive.
        enemy: Option<UserToken>,
        /// The secret of the attacker's seat; without it where a client knows of none.
        seat: Option<SeatSecret>,
    },
}

impl Request {
    /// Reads the request that `text` is at `endpoint`; a game has `max_participants` at most.
    ///
    /// # Errors
    /// The answer to give instead. What is missing is told before what is wrong, each in the order of the
    /// specification's table.
    pub fn parse(endpoint: Endpoint, text: &str, max_participants: u32) -> Result<Self, Rejection> {
        let message: Value = serde_json::from_str(text).map_err(|_| Rejection::NotJson)?;
        let message = message.as_object().ok_or(Rejection::NotAnObject)?;
        let payload = message.get(Field::Payload.name()).ok_or(Rejection::Missing(Field::Payload))?;
        let payload = payload.as_object().ok_or(Rejection::WrongType(Field::Payload))?;
        for field in fields(endpoint) {
            if !payload.contains_key(field.name()) {
                return Err(Rejection::Missing(*field));
            }
        }
        let payload = Payload(payload);
        Ok(match endpoint {
            Endpoint::Login => Self::Login { user: payload.name()?.to_owned() },
            Endpoint::Find => {
                Self::Find { user: payload.user()?, participants: payload.participants(max_participants)? }
            }
            Endpoint::Lobby => Self::Lobby { game: payload.game()?, user: payload.user()?, seat: payload.seat()? },
            Endpoint::Hero => Self::Hero { game: payload.game()?, user: payload.user()? },
            Endpoint::Action => {
                let (game, user, enemy) = (payload.game()?, payload.user()?, payload.enemy()?);
                if payload.string(Field::Action)? != ATTACK {
                    return Err(Rejection::UnknownAction);
                }
                Self::Action { game, user, enemy, seat: payload.seat()? }
            }
        })
    }

    /// Where the request belongs.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Login { .. } => Endpoint::Login,
            Self::Find { .. } => Endpoint::Find,
            Self::Lobby { .. } => Endpoint::Lobby,
            Self::Hero { .. } => Endpoint::Hero,
            Self::Action { .. } => Endpoint::Action,
        }
    }

    /// The request's frame.
    pub fn to_json(&self) -> String {
        match self {
            Self::Login { user } => format!(r#"{{"PAYLOAD":{{"USER":{}}}}}"#, Value::from(user.as_str())),
            Self::Find { user, participants } => {
                format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{user}","PARTICIPANTS":{participants}}}}}"#)
            }
            Self::Lobby { game, user, seat } => {
                let seat = seat_field(*seat);
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}","USER_TOKEN":"{user}"{seat}}}}}"#)
            }
            Self::Hero { game, user } => {
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}","USER_TOKEN":"{user}"}}}}"#)
            }
            Self::Action { game, user, enemy, seat } => {
                let enemy = enemy.map_or_else(|| "null".to_owned(), |enemy| format!(r#""{enemy}""#));
                let seat = seat_field(*seat);
                format!(
                    r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}","USER_TOKEN":"{user}","ENEMY_TOKEN":{enemy},"ACTION":"{ATTACK}"{seat}}}}}"#
                )
            }
        }
    }
}

/// The secret as a further field of an object, if there is one.
pub(crate) fn seat_field(seat: Option<SeatSecret>) -> String {
    seat.map_or_else(String::new, |seat| format!(r#","{}":"{}""#, Field::Seat.name(), seat.reveal()))
}

/// What a request to an endpoint must have, in the order of the specification's table.
const fn fields(endpoint: Endpoint) -> &'static [Field] {
    match endpoint {
        Endpoint::Login => &[Field::User],
        Endpoint::Find => &[Field::UserToken, Field::Participants],
        Endpoint::Lobby | Endpoint::Hero => &[Field::GameToken, Field::UserToken],
        Endpoint::Action => &[Field::GameToken, Field::UserToken, Field::EnemyToken, Field::Action],
    }
}

struct Payload<'a>(&'a Map<String, Value>);

impl<'a> Payload<'a> {
    fn get(&self, field: Field) -> Result<&'a Value, Rejection> {
        self.0.get(field.name()).ok_or(Rejection::Missing(field))
    }

    fn string(&self, field: Field) -> Result<&'a str, Rejection> {
        self.get(field)?.as_str().ok_or(Rejection::WrongType(field))
    }

    fn name(&self) -> Result<&'a str, Rejection> {
        let name = self.string(Field::User)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(Rejection::NameTooLong);
        }
        Ok(name)
    }

    /// Not to be there, and to be null, is the same.
    fn seat(&self) -> Result<Option<SeatSecret>, Rejection> {
        match self.0.get(Field::Seat.name()) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.token(Field::Seat, Rejection::WrongSeat).map(Some),
        }
    }

    /// A string that is no token cannot name anything, so `unknown` is what it is answered with.
    fn token<T: FromStr>(&self, field: Field, unknown: Rejection) -> Result<T, Rejection> {
        self.string(field)?.parse().map_err(|_| unknown)
    }

    fn game(&self) -> Result<GameToken, Rejection> {
        self.token(Field::GameToken, Rejection::UnknownGame)
    }

    fn user(&self) -> Result<UserToken, Rejection> {
        self.token(Field::UserToken, Rejection::UnknownUser)
    }

    fn enemy(&self) -> Result<Option<UserToken>, Rejection> {
        if self.get(Field::EnemyToken)?.is_null() {
            return Ok(None);
        }
        self.token(Field::EnemyToken, Rejection::EnemyNotInGame).map(Some)
    }

    fn participants(&self, max: u32) -> Result<u32, Rejection> {
        let value = self.get(Field::Participants)?;
        if !(value.is_i64() || value.is_u64()) {
            return Err(Rejection::WrongType(Field::Participants));
        }
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (MIN_PARTICIPANTS..=max).contains(number))
            .ok_or(Rejection::ParticipantsOutside { max })
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const GAME: &str = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
    const USER: &str = "00000000-0000-0000-0000-000000000002";
    const MAX: u32 = 8;

    fn check(endpoint: Endpoint, payload: Value, expected: Rejection) {
        let text = json!({"PAYLOAD": payload}).to_string();
        assert_eq!(Request::parse(endpoint, &text, MAX), Err(expected), "{text}");
    }

    #[test]
    fn python_requests_are_read() {
        let (game, user) = (GAME.parse().unwrap(), USER.parse().unwrap());
        for (endpoint, payload, expected) in [
            (
                Endpoint::Login,
                r#"{"USER": "USER\u0030\u0030\u0037"}"#.to_owned(),
                Request::Login { user: "USER007".into() },
            ),
            (
                Endpoint::Find,
                format!(r#"{{"USER_TOKEN": "{USER}", "PARTICIPANTS": 3, "MORE": []}}"#),
                Request::Find { user, participants: 3 },
            ),
            (
                Endpoint::Action,
                format!(
                    r#"{{"ACTION": "ATTACK", "ENEMY_TOKEN": null, "GAME_TOKEN": "{GAME}", "USER_TOKEN": "{USER}"}}"#
                ),
                Request::Action { game, user, enemy: None, seat: None },
            ),
            (
                Endpoint::Lobby,
                format!(r#"{{"GAME_TOKEN": "{GAME}", "USER_TOKEN": "{USER}", "SEAT": null}}"#),
                Request::Lobby { game, user, seat: None },
            ),
            (Endpoint::Login, format!(r#"{{"USER": "{}"}}"#, "é".repeat(64)), Request::Login { user: "é".repeat(64) }),
        ] {
            let text = format!(r#"{{"PAYLOAD": {payload}, "EXTRA": 1}}"#);
            assert_eq!(Request::parse(endpoint, &text, MAX), Ok(expected));
        }
    }

    #[test]
    fn what_is_missing_is_told_in_the_order_of_the_table() {
        use Field::{Action, EnemyToken, GameToken, Participants, User, UserToken};
        for (endpoint, order) in [
            (Endpoint::Login, &[User][..]),
            (Endpoint::Find, &[UserToken, Participants]),
            (Endpoint::Lobby, &[GameToken, UserToken]),
            (Endpoint::Hero, &[GameToken, UserToken]),
            (Endpoint::Action, &[GameToken, UserToken, EnemyToken, Action]),
        ] {
            let parse = |text: &str| Request::parse(endpoint, text, MAX);
            assert_eq!(parse("{}"), Err(Rejection::Missing(Field::Payload)));
            assert_eq!(parse("{"), Err(Rejection::NotJson));
            assert_eq!(parse("[1]"), Err(Rejection::NotAnObject));
            assert_eq!(parse(r#"{"PAYLOAD":[]}"#), Err(Rejection::WrongType(Field::Payload)));
            // Even a value of a wrong type is there: what is missing comes first.
            let mut payload = json!({});
            for field in order {
                check(endpoint, payload.clone(), Rejection::Missing(*field));
                payload[field.name()] = json!([]);
            }
            check(endpoint, payload, Rejection::WrongType(order[0]));
        }
    }

    #[test]
    fn wrong_values_are_told_by_field() {
        let action = |enemy: Value, action: Value| json!({"GAME_TOKEN": GAME, "USER_TOKEN": USER, "ENEMY_TOKEN": enemy, "ACTION": action});
        let find = |participants: Value| json!({"USER_TOKEN": USER, "PARTICIPANTS": participants});
        let outside = Rejection::ParticipantsOutside { max: MAX };
        for (endpoint, payload, expected) in [
            (Endpoint::Login, json!({"USER": null}), Rejection::WrongType(Field::User)),
            (Endpoint::Login, json!({"USER": "é".repeat(65)}), Rejection::NameTooLong),
            (
                Endpoint::Lobby,
                json!({"GAME_TOKEN": GAME, "USER_TOKEN": USER, "SEAT": 1}),
                Rejection::WrongType(Field::Seat),
            ),
            (Endpoint::Lobby, json!({"GAME_TOKEN": GAME, "USER_TOKEN": USER, "SEAT": "x"}), Rejection::WrongSeat),
            (Endpoint::Find, find(json!("3")), Rejection::WrongType(Field::Participants)),
            (Endpoint::Find, find(json!(3.0)), Rejection::WrongType(Field::Participants)),
            (Endpoint::Find, find(json!(true)), Rejection::WrongType(Field::Participants)),
            (Endpoint::Find, find(json!(-3)), outside),
            (Endpoint::Find, find(json!(1)), outside),
            (Endpoint::Find, find(json!(9)), outside),
            (Endpoint::Find, find(json!(u64::MAX)), outside),
            (Endpoint::Lobby, json!({"GAME_TOKEN": "x", "USER_TOKEN": "y"}), Rejection::UnknownGame),
            (Endpoint::Hero, json!({"GAME_TOKEN": GAME, "USER_TOKEN": "y"}), Rejection::UnknownUser),
            (Endpoint::Action, action(json!("z"), json!("ATTACK")), Rejection::EnemyNotInGame),
            (Endpoint::Action, action(json!(7), json!("ATTACK")), Rejection::WrongType(Field::EnemyToken)),
            (Endpoint::Action, action(json!(USER), json!("RUN")), Rejection::UnknownAction),
            (Endpoint::Action, action(json!(USER), json!(null)), Rejection::WrongType(Field::Action)),
        ] {
            check(endpoint, payload, expected);
        }
    }

    prop_compose! {
        fn any_request()(
            kind in 0..5,
            name in ".{0,32}",
            tokens in any::<[u128; 4]>(),
            with_enemy in any::<bool>(),
            with_seat in any::<bool>(),
            participants in MIN_PARTICIPANTS..=MAX,
        ) -> Request {
            let token = |number: u128| format!("{number:032x}");
            let [game, user, enemy, seat] = tokens;
            let seat = with_seat.then(|| token(seat).parse().unwrap());
            let (game, user): (GameToken, UserToken) = (token(game).parse().unwrap(), token(user).parse().unwrap());
            match kind {
                0 => Request::Login { user: name },
                1 => Request::Find { user, participants },
                2 => Request::Lobby { game, user, seat },
                3 => Request::Hero { game, user },
                _ => Request::Action { game, user, enemy: with_enemy.then(|| token(enemy).parse().unwrap()), seat },
            }
        }
    }

    proptest! {
        #[test]
        fn a_clients_request_is_what_the_server_reads(request in any_request()) {
            prop_assert_eq!(Request::parse(request.endpoint(), &request.to_json(), MAX), Ok(request));
        }

        #[test]
        fn any_text_is_read_or_rejected(text in any::<String>(), json in r#"[\[\]{}:,"A-Z0-9_ ]{0,60}"#) {
            for endpoint in Endpoint::ALL {
                let _ = Request::parse(endpoint, &text, MAX);
                let _ = Request::parse(endpoint, &json, MAX);
                let _ = Request::parse(endpoint, &format!(r#"{{"PAYLOAD":{json}}}"#), MAX);
            }
        }
    }
}
