//! The rows of `GAME_META` and `GAME_PODIUM`, one line of JSON each without its end.

use std::io::Write;

use superhero_game::{GameToken, HeroId, PodiumRow, UserToken};

/// The table of who played, and with which hero: a row per participant.
pub const GAME_META: &str = "GAME_META";
/// The table of how a game ended: a row per participant.
pub const GAME_PODIUM: &str = "GAME_PODIUM";

/// The record that a row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// Appends a row of [`GAME_META`]. `superhero_id` is a JSON integer, as `HERO_ID` is on the wire.
pub fn write_meta(out: &mut Vec<u8>, game: GameToken, user: UserToken, hero: HeroId, origin: Origin<'_>) {
    let row = format_args!(r#"{{"game_token":"{game}","user_token":"{user}","superhero_id":{hero}"#);
    out.write_fmt(row).expect("a Vec takes all that is written");
    write_origin(out, origin);
}

/// Appends a row of [`GAME_PODIUM`].
pub fn write_podium(out: &mut Vec<u8>, game: GameToken, row: &PodiumRow, origin: Origin<'_>) {
    let PodiumRow { user, rounds, rank, damage_delivered, damage_received } = row;
    let row = format_args!(
        concat!(
            r#"{{"game_token":"{}","user_token":"{}","rounds":{},"rank":{},"#,
            r#""damage_delivered":{},"damage_received":{}"#
        ),
        game, user, rounds, rank, damage_delivered, damage_received
    );
    out.write_fmt(row).expect("a Vec takes all that is written");
    write_origin(out, origin);
}

fn write_origin(out: &mut Vec<u8>, origin: Origin<'_>) {
    out.extend_from_slice(br#","topic":"#);
    serde_json::to_writer(&mut *out, origin.topic).expect("a text is always JSON");
    write!(out, r#","partition":{},"offset":{}}}"#, origin.partition, origin.offset)
        .expect("a Vec takes all that is written");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GAME: &str = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
    const USER: &str = "00000000-0000-0000-0000-000000000002";
    const ORIGIN: Origin<'_> = Origin { topic: "lib.server.lobby", partition: 3, offset: 41 };

    #[test]
    fn rows_have_the_fields_of_the_specification_and_where_they_came_from() {
        let (game, user) = (GAME.parse().unwrap(), USER.parse().unwrap());
        let mut out = Vec::new();
        write_meta(&mut out, game, user, HeroId(70), ORIGIN);
        let expected = format!(
            r#"{{"game_token":"{GAME}","user_token":"{USER}","superhero_id":70,"topic":"lib.server.lobby","partition":3,"offset":41}}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let row = PodiumRow { user, rounds: 4, rank: 1, damage_delivered: 900, damage_received: 30 };
        let mut out = Vec::new();
        write_podium(&mut out, game, &row, ORIGIN);
        let expected = format!(
            r#"{{"game_token":"{GAME}","user_token":"{USER}","rounds":4,"rank":1,"damage_delivered":900,"damage_received":30,"topic":"lib.server.lobby","partition":3,"offset":41}}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
