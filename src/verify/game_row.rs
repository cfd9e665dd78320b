//! The rows of the two game tables.

use serde::Deserialize;
use superhero_game::{GameToken, HeroId, UserToken};
use superhero_sink::{PartitionId, Table};

use crate::row::{Clock, NotARow, TableRow, object, origin};

/// A row of `GAME_META`, or of `GAME_PODIUM`.
pub(crate) trait GameRow: TableRow {
    fn game(&self) -> GameToken;

    fn user(&self) -> UserToken;

    /// What else it says of them.
    fn share(&self) -> Share;
}

/// What a row says of its user's game; each table says a part of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) hero: Option<HeroId>,
    pub(crate) rank: Option<u64>,
    pub(crate) damage_delivered: u64,
}

/// A participant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetaRow {
    game: GameToken,
    user: UserToken,
    hero: HeroId,
    offset: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetaFields<'a> {
    game_token: GameToken,
    user_token: UserToken,
    superhero_id: HeroId,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

impl TableRow for MetaRow {
    const TABLE: Table = Table::GameMeta;
    const IS_ONE_OF_SEVERAL: bool = true;

    fn read(line: &[u8], partition: &PartitionId, _: &mut Clock) -> Result<Self, NotARow> {
        let fields: MetaFields<'_> = object(line)?;
        let offset = origin(fields.topic, fields.partition, fields.offset, partition)?;
        Ok(Self { game: fields.game_token, user: fields.user_token, hero: fields.superhero_id, offset })
    }

    fn offset(&self) -> i64 {
        self.offset
    }
}

impl GameRow for MetaRow {
    fn game(&self) -> GameToken {
        self.game
    }

    fn user(&self) -> UserToken {
        self.user
    }

    fn share(&self) -> Share {
        Share { hero: Some(self.hero), ..Share::default() }
    }
}

/// A participant's result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodiumRow {
    game: GameToken,
    user: UserToken,
    rank: u64,
    damage_delivered: u64,
    offset: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PodiumFields<'a> {
    game_token: GameToken,
    user_token: UserToken,
    #[serde(rename = "rounds")]
    _rounds: u64,
    rank: u64,
    damage_delivered: u64,
    #[serde(rename = "damage_received")]
    _damage_received: u64,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

impl TableRow for PodiumRow {
    const TABLE: Table = Table::GamePodium;
    const IS_ONE_OF_SEVERAL: bool = true;

    fn read(line: &[u8], partition: &PartitionId, _: &mut Clock) -> Result<Self, NotARow> {
        let fields: PodiumFields<'_> = object(line)?;
        let offset = origin(fields.topic, fields.partition, fields.offset, partition)?;
        let PodiumFields { game_token: game, user_token: user, rank, damage_delivered, .. } = fields;
        Ok(Self { game, user, rank, damage_delivered, offset })
    }

    fn offset(&self) -> i64 {
        self.offset
    }
}

impl GameRow for PodiumRow {
    fn game(&self) -> GameToken {
        self.game
    }

    fn user(&self) -> UserToken {
        self.user
    }

    fn share(&self) -> Share {
        Share { rank: Some(self.rank), damage_delivered: self.damage_delivered, ..Share::default() }
    }
}
