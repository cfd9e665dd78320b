//! The games' events: one subscribed connection, from which one task deals the messages out.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::{Message, Value};
use superhero_game::GameToken;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::unavailable;
use crate::outlet::Outlet;
use crate::{GameEvent, StoreError, Subscription};

/// Messages that the client keeps for the dealing task; beyond these the oldest are lost, which it is told of. Room for the
/// moves of half a second of a server at its fullest, and small, for the client makes several channels of this size.
pub(super) const MESSAGES_KEPT: usize = 2048;

/// Subscriptions asked for at once; beyond these a caller waits for its place.
const JOINS_QUEUED: usize = 1024;

/// How often the connection has to show that it lives: one that only listens would not notice otherwise.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(2);

/// Between two attempts to subscribe again after a reconnection.
const REJOIN_PAUSE: Duration = Duration::from_millis(200);

type Reply = oneshot::Sender<Result<Subscription, StoreError>>;

/// The way to the task.
#[derive(Debug)]
pub(super) struct Events {
    joins: mpsc::Sender<(GameToken, Reply)>,
    /// Taken out by the first [`close`](Self::close). A set, because dropping it ends the task.
    task: Mutex<Option<(oneshot::Sender<()>, JoinSet<()>)>>,
    command_timeout: Duration,
}

impl Events {
    /// Starts the task on a connected client of its own.
    pub(super) fn start(client: Client, command_timeout: Duration) -> Self {
        let (joins, asked) = mpsc::channel(JOINS_QUEUED);
        let (stop, stopped) = oneshot::channel();
        let dealer = Dealer { client, channels: HashMap::new(), work: JoinSet::new() };
        let mut task = JoinSet::new();
        task.spawn(dealer.run(asked, stopped));
        Self { joins, task: Mutex::new(Some((stop, task))), command_timeout }
    }

    pub(super) async fn subscribe(&self, game: GameToken) -> Result<Subscription, StoreError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.joins.send((game, reply)).await.ok()?;
            answer.await.ok()
        };
        // SUBSCRIBE and PING are bounded each; the sum is for the wait behind another subscription of the same game.
        match timeout(self.command_timeout * 2, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(StoreError::Unavailable("the store was closed".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!("no subscription to game {game} in time"))),
        }
    }

    pub(super) async fn close(&self) {
        let task = self.task.lock().expect("no code panics while it holds the task").take();
        if let Some((stop, task)) = task {
            // An error means that the task has ended already.
            let _ = stop.send(());
            task.join_all().await;
        }
    }
}

/// A game's channel as this process stands to it.
enum Channel {
    /// SUBSCRIBE is on its way; these wait for it.
    Joining(Vec<Reply>),
    /// Subscribed, never without an outlet.
    Joined(Vec<Outlet>),
    /// UNSUBSCRIBE is on its way; these came meanwhile and want to join again.
    Leaving(Vec<Reply>),
}

/// What a task of the dealer's has come to.
enum Done {
    Joined(GameToken, Result<(), Error>),
    Left(GameToken),
    Rejoined(Vec<GameToken>),
    /// A subscription of this game was dropped.
    Dropped(GameToken),
    Heartbeat,
}

/// The loop that owns all subscriptions.
struct Dealer {
    client: Client,
    channels: HashMap<GameToken, Channel>,
    work: JoinSet<Done>,
}

impl Dealer {
    async fn run(mut self, mut joins: mpsc::Receiver<(GameToken, Reply)>, mut stopped: oneshot::Receiver<()>) {
        let mut messages = self.client.message_rx();
        let mut reconnections = self.client.reconnect_rx();
        let mut heartbeat = interval(HEARTBEAT_PERIOD);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                message = messages.recv() => match message {
                    Ok(message) => self.deal(&message),
                    Err(RecvError::Lagged(_)) => self.resync(),
                    Err(RecvError::Closed) => break,
                },
                reconnected = reconnections.recv() => match reconnected {
                    // One that was overlooked among many is the same as one.
                    Ok(_) | Err(RecvError::Lagged(_)) => self.rejoin(),
                    Err(RecvError::Closed) => break,
                },
                Some((game, reply)) = joins.recv() => self.join(game, reply),
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => tracing::error!(%error, "a task of the subscriptions panicked"),
                },
                _ = heartbeat.tick() => {
                    let client = self.client.clone();
                    self.work.spawn(async move {
                        // Its failure shows as a reconnection.
                        let _ = client.ping::<Value>(None).await;
                        Done::Heartbeat
                    });
                }
            }
        }
        self.work.shutdown().await;
        // Without an answer the connection ends with its task all the same.
        let _ = self.client.quit().await;
    }

    fn deal(&mut self, message: &Message) {
        let game = message.channel.strip_prefix("games:").and_then(|rest| rest.strip_suffix(":events"));
        let Some(game) = game.and_then(|token| token.parse().ok()) else { return };
        let Some(Channel::Joined(outlets)) = self.channels.get_mut(&game) else { return };
        match message.value.as_str().as_deref().and_then(read_event) {
            Some(event) => outlets.iter_mut().for_each(|outlet| outlet.put(event)),
            None => {
                let value = message.value.as_str();
                let value = value.as_deref().unwrap_or("no text");
                tracing::warn!(channel = %message.channel, value, "not an event of a game; reading it anew");
                outlets.iter_mut().for_each(|outlet| outlet.put(GameEvent::Resync));
            }
        }
    }

    fn resync(&mut self) {
        for channel in self.channels.values_mut() {
            if let Channel::Joined(outlets) = channel {
                outlets.iter_mut().for_each(|outlet| outlet.put(GameEvent::Resync));
            }
        }
    }

    fn join(&mut self, game: GameToken, reply: Reply) {
        match self.channels.get_mut(&game) {
            None => self.spawn_join(game, vec![reply]),
            Some(Channel::Joining(waiting) | Channel::Leaving(waiting)) => waiting.push(reply),
            Some(Channel::Joined(outlets)) => outlets.extend(admit(&mut self.work, game, [reply])),
        }
    }

    fn spawn_join(&mut self, game: GameToken, waiting: Vec<Reply>) {
        self.channels.insert(game, Channel::Joining(waiting));
        let client = self.client.clone();
        self.work.spawn(async move { Done::Joined(game, subscribe(&client, &[game]).await) });
    }

    fn spawn_leave(&mut self, game: GameToken) {
        self.channels.insert(game, Channel::Leaving(Vec::new()));
        let client = self.client.clone();
        self.work.spawn(async move {
            // Should it fail, the connection was lost, and the next one is not subscribed.
            let _ = client.unsubscribe(channel_name(game)).await;
            Done::Left(game)
        });
    }

    /// Subscribes to everything again: a new connection has no subscriptions.
    fn rejoin(&mut self) {
        let games: Vec<GameToken> = self.channels.keys().copied().collect();
        if games.is_empty() {
            return;
        }
        let client = self.client.clone();
        self.work.spawn(async move {
            while subscribe(&client, &games).await.is_err() {
                tokio::time::sleep(REJOIN_PAUSE).await;
            }
            Done::Rejoined(games)
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Heartbeat => {}
            Done::Joined(game, result) => {
                let Some(Channel::Joining(waiting)) = self.channels.remove(&game) else { return };
                match result {
                    Ok(()) => {
                        let outlets = admit(&mut self.work, game, waiting);
                        self.channels.insert(game, Channel::Joined(outlets));
                        self.leave_if_unused(game);
                    }
                    Err(error) => {
                        for reply in waiting {
                            // Whoever does not wait any more needs no answer.
                            let _ = reply.send(Err(unavailable(error.clone())));
                        }
                        // It may have arrived although its answer did not.
                        self.spawn_leave(game);
                    }
                }
            }
            Done::Left(game) => match self.channels.remove(&game) {
                Some(Channel::Leaving(waiting)) if !waiting.is_empty() => self.spawn_join(game, waiting),
                _ => {}
            },
            Done::Rejoined(games) => {
                // What was left meanwhile has been joined again by mistake.
                for game in games {
                    if !self.channels.contains_key(&game) {
                        self.spawn_leave(game);
                    }
                }
                self.resync();
            }
            Done::Dropped(game) => self.leave_if_unused(game),
        }
    }

    fn leave_if_unused(&mut self, game: GameToken) {
        if let Some(Channel::Joined(outlets)) = self.channels.get_mut(&game) {
            outlets.retain(|outlet| !outlet.is_closed());
            if outlets.is_empty() {
                self.spawn_leave(game);
            }
        }
    }
}

/// Hands the subscriptions out; each has a task that watches for its end.
fn admit(work: &mut JoinSet<Done>, game: GameToken, waiting: impl IntoIterator<Item = Reply>) -> Vec<Outlet> {
    let mut outlets = Vec::new();
    for reply in waiting {
        let (outlet, subscription) = Outlet::new();
        if reply.send(Ok(subscription)).is_ok() {
            let closed = outlet.closed();
            work.spawn(async move {
                closed.await;
                Done::Dropped(game)
            });
            outlets.push(outlet);
        }
    }
    outlets
}

/// Subscribes for certain: the client answers SUBSCRIBE as soon as it is written, Redis answers the PING behind it.
async fn subscribe(client: &Client, games: &[GameToken]) -> Result<(), Error> {
    let channels: Vec<String> = games.iter().copied().map(channel_name).collect();
    client.subscribe(channels).await?;
    client.ping::<Value>(None).await.map(drop)
}

fn channel_name(game: GameToken) -> String {
    format!("games:{game}:events")
}

fn read_event(text: &str) -> Option<GameEvent> {
    let mut words = text.split(' ');
    let event = match words.next()? {
        "started" => GameEvent::Started,
        "turn" => GameEvent::Turn { user: words.next()?.parse().ok()?, moves: words.next()?.parse().ok()? },
        "completed" => GameEvent::Completed,
        "timed-out" => GameEvent::TimedOut,
        _ => return None,
    };
    words.next().is_none().then_some(event)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use superhero_game::UserToken;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn messages_are_read_as_the_scripts_write_them() {
        let user = UserToken::new(Uuid::from_u128(7));
        let table = [
            ("started".to_owned(), Some(GameEvent::Started)),
            (format!("turn {user} 12"), Some(GameEvent::Turn { user, moves: 12 })),
            ("completed".to_owned(), Some(GameEvent::Completed)),
            ("timed-out".to_owned(), Some(GameEvent::TimedOut)),
            (format!("turn {user}"), None),
            (format!("turn {user} 12 13"), None),
            ("turn me 12".to_owned(), None),
            ("started twice".to_owned(), None),
            (String::new(), None),
        ];
        for (text, event) in table {
            assert_eq!(read_event(&text), event, "{text}");
        }
    }
}
