//! Users who take seats and are never seen again, and what becomes of those who play.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use serde_json::json;

use crate::client::{FIND, Player, login};
use crate::games::play_on;
use crate::running::{Running, within};

/// Games that one user asks for and never attends.
const GHOSTS: usize = 4_000;
const BOTS: usize = 20;
/// Seats of games that have to be played to their end.
const SEATS: usize = 200;

/// Bots play until so many seats have come to the end of their games; how long that took.
async fn honest_games(server: &Running) -> Duration {
    let (begin, ended) = (Instant::now(), AtomicUsize::new(0));
    let bots = (0..BOTS).map(|bot| {
        let ended = &ended;
        Box::pin(async move {
            while ended.load(Ordering::Relaxed) < SEATS {
                let mut player = Player::join(server, &format!("USER{bot:03}"), 2).await;
                let start = player.lobby.next().await;
                if start["STATUS"]["GAME"] == "START" {
                    play_on(server, &mut player, &start).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    // The last ones may wait for others that have played enough.
    within("the end of the honest games", select_all(bots)).await;
    begin.elapsed()
}

#[tokio::test]
async fn those_who_play_are_not_held_up_by_thousands_of_seats_that_nobody_attends() {
    let server = Running::start().await;
    let before = honest_games(&server).await;
    let ghost = login(&server, "Ghost").await;
    let finds = (0..8).map(|_| async {
        let mut find = server.connect(FIND).await;
        for _ in 0..GHOSTS / 8 {
            find.ask(json!({"USER_TOKEN": ghost, "PARTICIPANTS": 2})).await;
        }
    });
    join_all(finds).await;
    let beside = honest_games(&server).await;
    assert!(beside < before * 3 + Duration::from_secs(1), "{beside:?} beside ghosts, {before:?} without");
    assert_eq!(server.stop().await.panics, 0);
}
