//! Ranks and totals of a game that ended, from its records and the health left.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::{Action, AttackRecord, UserToken};

/// A player's row of the podium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodiumRow {
    /// The player.
    pub user: UserToken,
    /// Attacks made.
    pub rounds: u32,
    /// 1 = winner; the first to fall has the number of participants.
    pub rank: u32,
    /// Sum of the damage of the attacks made.
    pub damage_delivered: u64,
    /// Sum of the damage of the attacks suffered.
    pub damage_received: u64,
}

/// A row for every participant, by rank.
///
/// Whoever fell is ranked in reverse order of the fall; the living of a game that its round cap ended come before them,
/// by health left (`health`, from the store) and then by token. A player whom only the records know has a row too.
pub fn podium(health: &BTreeMap<UserToken, u64>, records: &[AttackRecord]) -> Vec<PodiumRow> {
    let mut standings: BTreeMap<UserToken, Standing> =
        health.iter().map(|(user, health)| (*user, Standing { health: *health, ..Standing::default() })).collect();
    for (at, record) in records.iter().enumerate() {
        let standing = standings.entry(record.user).or_default();
        match record.action {
            Action::Attack { enemy, damage, health_post, .. } => {
                standing.rounds += 1;
                standing.delivered = standing.delivered.saturating_add(damage);
                let struck = standings.entry(enemy).or_default();
                struck.received = struck.received.saturating_add(damage);
                if health_post == 0 {
                    struck.fell_at = Some(at);
                }
            }
            Action::Forfeit => standing.fell_at = Some(at),
            Action::NotAvailable => {}
        }
    }
    let mut standings: Vec<_> = standings.into_iter().collect();
    standings.sort_by_key(|(user, standing)| match standing.fell_at {
        None => (0, Reverse(standing.health), Reverse(0), *user),
        Some(at) => (1, Reverse(0), Reverse(at), *user),
    });
    (1..)
        .zip(standings)
        .map(|(rank, (user, standing))| PodiumRow {
            user,
            rounds: standing.rounds,
            rank,
            damage_delivered: standing.delivered,
            damage_received: standing.received,
        })
        .collect()
}

#[derive(Default)]
struct Standing {
    health: u64,
    rounds: u32,
    delivered: u64,
    received: u64,
    /// The index of the record of its fall.
    fell_at: Option<usize>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::GameToken;

    fn user(number: u128) -> UserToken {
        UserToken::new(Uuid::from_u128(number))
    }

    fn record(by: u128, action: Action) -> AttackRecord {
        let (timestamp, game) = (DateTime::UNIX_EPOCH, GameToken::new(Uuid::nil()));
        AttackRecord { timestamp, game, user: user(by), action }
    }

    fn attack(by: u128, enemy: u128, damage: u64, health_prior: u64) -> AttackRecord {
        let health_post = health_prior.saturating_sub(damage);
        record(by, Action::Attack { enemy: user(enemy), damage, health_prior, health_post })
    }

    fn check(health: &[(u128, u64)], records: &[AttackRecord], expected: &[(u128, u32, u32, u64, u64)]) {
        let health = health.iter().map(|(number, health)| (user(*number), *health)).collect();
        let rows: Vec<_> = expected
            .iter()
            .map(|&(number, rank, rounds, damage_delivered, damage_received)| PodiumRow {
                user: user(number),
                rounds,
                rank,
                damage_delivered,
                damage_received,
            })
            .collect();
        assert_eq!(podium(&health, records), rows);
    }

    #[test]
    fn the_fallen_are_ranked_in_reverse_order_of_their_fall() {
        let records = [attack(1, 2, 5, 9), attack(2, 3, 4, 4), attack(1, 2, 5, 4)];
        check(&[(1, 7), (2, 0), (3, 0)], &records, &[(1, 1, 2, 10, 0), (2, 2, 1, 4, 10), (3, 3, 0, 0, 4)]);
    }

    #[test]
    fn a_forfeit_is_a_fall_and_no_attack() {
        let records = [record(1, Action::Forfeit), attack(2, 3, 9, 5), record(2, Action::NotAvailable)];
        check(&[(1, 0), (2, 8), (3, 0)], &records, &[(2, 1, 1, 9, 0), (3, 2, 0, 0, 9), (1, 3, 0, 0, 0)]);
    }

    #[test]
    fn the_living_at_a_round_cap_are_ranked_by_health_and_then_by_token() {
        let records = [attack(1, 4, 9, 1), attack(2, 3, 1, 9)];
        let rows = [(3, 1, 0, 0, 1), (1, 2, 1, 9, 0), (2, 3, 1, 1, 0), (4, 4, 0, 0, 9)];
        check(&[(1, 5), (2, 5), (3, 8), (4, 0)], &records, &rows);
    }

    #[test]
    fn players_without_any_record_and_players_of_the_records_alone_have_rows() {
        check(&[(1, 5)], &[attack(2, 3, 1, 1)], &[(1, 1, 0, 0, 0), (2, 2, 1, 1, 0), (3, 3, 0, 0, 1)]);
        check(&[], &[], &[]);
    }
}
