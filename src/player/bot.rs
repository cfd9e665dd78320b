//! One bot: its seat, its lobby, its turns.
//!
//! Whatever fails during a game, on whichever connection, has one way back: the bot listens to its game's lobby anew, where the
//! server tells again how the game stands, the bot's turn included. Whether an attack whose answer was lost has been made
//! is then seen in the heroes, see [`turn`](crate::turn).

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use superhero_api::{
    ActionAnswer, AnswerError, Endpoint, FindAnswer, HeroAnswer, LobbyNews, LoginAnswer, Rejection, Request,
};
use superhero_game::{GameToken, Refusal, SeatSecret, UserToken};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::Choices;
use crate::connection::{Connection, ConnectionError};
use crate::crew::{Crew, count};
use crate::matchmaker::{Matchmaker, Meeting};
use crate::retry::Retry;
use crate::turn::{Heroes, Moved};

/// For how many push timeouts a game may stand still for its bot, which listens to it anew after each, before the bot leaves it.
const MAX_SILENCES: u32 = 3;

/// A bot, with whatever outlives a game.
pub(crate) struct Bot {
    crew: Arc<Crew>,
    /// Its number among the bots.
    index: usize,
    choices: Choices,
    retry: Retry,
    /// Where it plays now: an index of the configuration's servers.
    server: usize,
    user: Option<UserToken>,
    /// Kept from one turn to the next and from one game to the next.
    hero: Option<Connection>,
    /// Kept likewise.
    action: Option<Connection>,
}

impl Drop for Bot {
    fn drop(&mut self) {
        if let Some(matchmaker) = &self.crew.matchmaker {
            matchmaker.leave(self.index);
        }
    }
}

/// Why a bot does not go on.
#[derive(Debug, thiserror::Error)]
#[error("nothing succeeded for {} s; at last: {last}", patience.as_secs_f32())]
pub(crate) struct GaveUp {
    patience: Duration,
    last: Trouble,
}

/// What can go wrong, and is tried again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("the lobby told nothing new for {} s", after.as_secs_f32())]
    Silence { after: Duration },
}

/// A game as its bot knows it.
struct Seat {
    /// Its place among the bot's games, from 0.
    number: u64,
    game: GameToken,
    user: UserToken,
    /// Where the server gives seats one.
    secret: Option<SeatSecret>,
    /// Who plays, the bot included; nobody before the start is told.
    participants: BTreeSet<UserToken>,
    /// The attacks that the bot has made in it.
    attacks: u64,
    /// What the bot's last move made of the heroes, be it acknowledged or not.
    last: Option<Moved>,
    /// When the bot last got on in it: to its seat, to the start, or by a move.
    got_on: Instant,
}

impl Seat {
    fn taken(number: u64, found: FindAnswer, user: UserToken) -> Self {
        let FindAnswer { game, seat: secret, .. } = found;
        Self {
            number,
            game,
            user,
            secret,
            participants: BTreeSet::new(),
            attacks: 0,
            last: None,
            got_on: Instant::now(),
        }
    }
}

/// A turn of the bot that is not over.
struct Turn {
    /// They stay as they are until the bot moves.
    heroes: Heroes,
    moves: Instant,
}

/// How a game ended for its bot.
enum End {
    Completed,
    TimedOut,
    Abandoned,
}

impl Bot {
    pub(crate) fn new(crew: Arc<Crew>, index: usize) -> Self {
        let config = &crew.config;
        let choices = Choices::new(config.seed, index);
        let retry = Retry::new(choices, config.first_pause, config.longest_pause, config.patience);
        let server = index % config.servers.len();
        Self { crew, index, choices, retry, server, user: None, hero: None, action: None }
    }

    /// Plays all its games.
    pub(crate) async fn play(&mut self) -> Result<(), GaveUp> {
        let mut number = 0;
        while self.crew.config.games.is_none_or(|games| number < u64::from(games)) {
            let end = match self.find_seat(number).await? {
                Some(mut seat) => self.attend(&mut seat).await?,
                None if self.crew.matchmaker.as_ref().is_some_and(Matchmaker::is_deserted) => return Ok(()),
                None => End::TimedOut,
            };
            let counter = match end {
                End::Completed => &self.crew.seats_completed,
                End::TimedOut => &self.crew.seats_timed_out,
                End::Abandoned => &self.crew.seats_abandoned,
            };
            count(counter);
            number += 1;
        }
        for line in [self.hero.take(), self.action.take()].into_iter().flatten() {
            line.close().await;
        }
        Ok(())
    }

    /// None if nobody is left to play with.
    async fn find_seat(&mut self, number: u64) -> Result<Option<Seat>, GaveUp> {
        let crew = Arc::clone(&self.crew);
        let meeting = match &crew.matchmaker {
            None => None,
            Some(matchmaker) => match self.meet(matchmaker, number).await {
                None => return Ok(None),
                meeting => meeting,
            },
        };
        let participants = match &meeting {
            None => self.choices.participants(number, crew.config.participants.clone()),
            Some(meeting) => meeting.participants,
        };
        loop {
            match self.try_to_find(participants, meeting.as_ref()).await {
                Ok((found, user, line)) => {
                    self.retry.succeeded();
                    // The next one need not wait for the goodbye.
                    drop(meeting);
                    line.close().await;
                    return Ok(Some(Seat::taken(number, found, user)));
                }
                Err(trouble) => {
                    if let Trouble::Answer(_) = trouble {
                        // The server may have forgotten the token.
                        self.user = None;
                    }
                    self.pause_after(trouble).await?;
                }
            }
        }
    }

    /// Waits for the others of the game of that number, which may take as long as the games that they are in.
    async fn meet(&mut self, matchmaker: &Matchmaker, number: u64) -> Option<Meeting> {
        let mut meeting = pin!(matchmaker.meet(self.index, number));
        loop {
            tokio::select! {
                meeting = &mut meeting => return meeting,
                () = lost(&mut self.hero) => {}
                () = lost(&mut self.action) => {}
            }
        }
    }

    /// Waits for the bot's turn to take a seat over the connection; another one if it is lost meanwhile.
    async fn turn(&mut self, meeting: &Meeting, line: Connection) -> Result<Connection, Trouble> {
        let mut line = Some(line);
        let mut turn = pin!(meeting.turn());
        loop {
            tokio::select! {
                () = &mut turn => break,
                () = lost(&mut line) => {}
                () = lost(&mut self.hero) => {}
                () = lost(&mut self.action) => {}
            }
        }
        match line {
            Some(line) => Ok(line),
            None => self.open(Endpoint::Find).await,
        }
    }

    async fn try_to_find(
        &mut self,
        participants: u32,
        meeting: Option<&Meeting>,
    ) -> Result<(FindAnswer, UserToken, Connection), Trouble> {
        let user = match self.user {
            Some(user) => user,
            None => self.login().await?,
        };
        self.user = Some(user);
        let mut line = self.open(Endpoint::Find).await?;
        // Whoever has the turn keeps others waiting, so nothing else is left to do then.
        if let Some(meeting) = meeting {
            line = self.turn(meeting, line).await?;
        }
        let request = Request::Find { user, participants }.to_json();
        let answers = ask(&mut line, &[request], self.crew.config.answer_timeout).await?;
        Ok((FindAnswer::parse(&answers[0])?, user, line))
    }

    async fn login(&mut self) -> Result<UserToken, Trouble> {
        let mut line = self.open(Endpoint::Login).await?;
        let after = self.crew.config.answer_timeout;
        let name = match self.crew.matchmaker {
            None => self.choices.user(),
            Some(_) => format!("USER{:03}", self.index),
        };
        let request = Request::Login { user: name }.to_json();
        let mut text = ask(&mut line, &[request], after).await?.remove(0);
        let user = loop {
            match LoginAnswer::parse(&text)? {
                LoginAnswer::Token(user) => break user,
                // The token follows in a frame of its own.
                LoginAnswer::Created => text = within(after, line.receive()).await?,
            }
        };
        line.close().await;
        Ok(user)
    }

    /// Sees the game to its end, over as many connections as it takes.
    async fn attend(&mut self, seat: &mut Seat) -> Result<End, GaveUp> {
        loop {
            let trouble = match self.listen(seat).await {
                Ok(end) => return Ok(end),
                Err(trouble) => trouble,
            };
            let standstill = MAX_SILENCES * self.crew.config.push_timeout;
            let patience = match &trouble {
                Trouble::Answer(AnswerError::Rejected(status))
                    if matches!(
                        Rejection::refusal(status),
                        Some(Refusal::UnknownGame | Refusal::NotAPlayer | Refusal::WrongSeat)
                    ) =>
                {
                    Duration::ZERO
                }
                Trouble::Silence { .. } => {
                    // Whatever the heroes made of it: what a new connection tells after so long is no late notice.
                    seat.last = None;
                    standstill
                }
                Trouble::Answer(_) => standstill,
                // A server may be away for as long as the bot is told to wait for one.
                Trouble::Connection(_) => standstill.max(self.crew.config.patience),
            };
            if seat.got_on.elapsed() >= patience {
                tracing::warn!(game = %seat.game, reason = %trouble, "a bot leaves its game");
                return Ok(End::Abandoned);
            }
            self.pause_after(trouble).await?;
        }
    }

    /// Plays on one connection to the lobby, until the game's end or some trouble.
    async fn listen(&mut self, seat: &mut Seat) -> Result<End, Trouble> {
        let after = self.crew.config.push_timeout;
        let mut lobby = self.open(Endpoint::Lobby).await?;
        let request = Request::Lobby { game: seat.game, user: seat.user, seat: seat.secret }.to_json();
        within(self.crew.config.answer_timeout, lobby.send(&[request])).await?;
        let mut silent_until = Instant::now() + after;
        let mut turn: Option<Turn> = None;
        loop {
            let text = tokio::select! {
                biased;
                // What is due comes before what is told: a lobby may tell the same without a pause.
                () = until(turn.as_ref().map(|turn| turn.moves)) => {
                    if let Some(Turn { heroes, .. }) = turn.take() {
                        self.act(seat, heroes).await?;
                        silent_until = silent_until.max(seat.got_on + after);
                    }
                    continue;
                }
                () = sleep_until(silent_until), if turn.is_none() => return Err(Trouble::Silence { after }),
                text = lobby.receive() => text?,
                // The server asks idle connections for signs of life, which only reading gives.
                () = lost(&mut self.hero) => continue,
                () = lost(&mut self.action) => continue,
            };
            let news = LobbyNews::parse(&text)?;
            self.retry.succeeded();
            let end = match news {
                LobbyNews::Start { participants } => {
                    if seat.participants.is_empty() {
                        seat.got_on = Instant::now();
                        silent_until = seat.got_on + after;
                    }
                    seat.participants = participants;
                    seat.participants.insert(seat.user);
                    continue;
                }
                LobbyNews::Turn => {
                    // Another notice of the turn that waits for its move is no other turn.
                    if turn.is_none() {
                        turn = self.look(seat).await?;
                    }
                    continue;
                }
                LobbyNews::Complete => End::Completed,
                LobbyNews::TimedOut => End::TimedOut,
            };
            lobby.close().await;
            return Ok(end);
        }
    }

    /// Asks for every hero when a turn is announced; `None` if the notice is one more of a turn that is over.
    ///
    /// At once, and not when the pause before the move is over: by then others may have moved, and less could be told.
    async fn look(&mut self, seat: &Seat) -> Result<Option<Turn>, Trouble> {
        let Seat { game, user, .. } = *seat;
        if seat.participants.is_empty() {
            tracing::debug!(%game, "a turn is announced before the start");
            return Ok(None);
        }
        let questions: Vec<_> =
            seat.participants.iter().map(|participant| Request::Hero { game, user: *participant }.to_json()).collect();
        let mut fighters = BTreeMap::new();
        for answer in self.ask(Endpoint::Hero, &questions).await? {
            let HeroAnswer { user, fighter, .. } = HeroAnswer::parse(&answer)?;
            fighters.insert(user, fighter);
        }
        let heroes = Heroes::new(user, fighters);
        if !heroes.are_on_my_turn(seat.last.as_ref()) {
            tracing::debug!(%game, "a turn that is over is announced once more");
            return Ok(None);
        }
        Ok(Some(Turn { heroes, moves: Instant::now() + self.crew.config.sleep }))
    }

    /// Attacks a living enemy.
    async fn act(&mut self, seat: &mut Seat, heroes: Heroes) -> Result<(), Trouble> {
        let Seat { game, user, secret, .. } = *seat;
        let enemy = self.choices.enemy(seat.number, seat.attacks, &heroes.living_enemies());
        let request = Request::Action { game, user, enemy, seat: secret }.to_json();
        let last = seat.last.insert(heroes.after_move(enemy));
        let answers = self.ask(Endpoint::Action, &[request]).await?;
        match ActionAnswer::parse(&answers[0]) {
            Ok(answer) => {
                if let (ActionAnswer::Attack { enemy_health }, Some(enemy)) = (answer, enemy) {
                    last.correct(enemy, enemy_health);
                    seat.attacks += 1;
                    count(&self.crew.attacks);
                }
                seat.got_on = Instant::now();
                Ok(())
            }
            Err(AnswerError::Rejected(status)) => {
                // Nothing was done, so the heroes tell nothing of it.
                seat.last = None;
                match Rejection::refusal(&status) {
                    // The turn has passed already: by its deadline, or by this very attack, whose first answer was lost.
                    Some(Refusal::OutOfTurn | Refusal::NotInProgress) => {
                        tracing::debug!(%game, %status, "a turn is over already");
                        Ok(())
                    }
                    _ => Err(AnswerError::Rejected(status).into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks on the connection that is kept for the endpoint; there is one answer for each request.
    async fn ask(&mut self, endpoint: Endpoint, requests: &[String]) -> Result<Vec<Utf8Bytes>, Trouble> {
        let mut line = match self.kept(endpoint).take() {
            Some(line) => line,
            None => self.open(endpoint).await?,
        };
        let answers = ask(&mut line, requests, self.crew.config.answer_timeout).await?;
        // Only now that every answer has been read, so that none is ever taken for that of a later request.
        *self.kept(endpoint) = Some(line);
        Ok(answers)
    }

    fn kept(&mut self, endpoint: Endpoint) -> &mut Option<Connection> {
        match endpoint {
            Endpoint::Hero => &mut self.hero,
            Endpoint::Action => &mut self.action,
            Endpoint::Login | Endpoint::Find | Endpoint::Lobby => {
                unreachable!("{endpoint:?} is opened where it is used")
            }
        }
    }

    async fn open(&self, endpoint: Endpoint) -> Result<Connection, Trouble> {
        let config = &self.crew.config;
        // Whoever holds a permit gives it back within the connect timeout.
        let _permit = self.crew.connects.acquire().await.expect("the semaphore is never closed");
        Ok(Connection::open(&config.servers[self.server], endpoint, config.connect_timeout).await?)
    }

    /// Waits before the next try, which is made at the next server.
    async fn pause_after(&mut self, trouble: Trouble) -> Result<(), GaveUp> {
        if let Trouble::Connection(_) = trouble {
            count(&self.crew.reconnects);
        }
        let server = &self.crew.config.servers[self.server];
        match self.crew.tells_trouble() {
            true => {
                let patience_s = self.crew.config.patience.as_secs_f32();
                tracing::info!(%server, reason = %trouble, patience_s, "a bot tries again, and others perhaps too");
            }
            false => tracing::debug!(%server, reason = %trouble, "a bot tries again"),
        }
        self.server = (self.server + 1) % self.crew.config.servers.len();
        if self.retry.pause().await {
            Ok(())
        } else {
            Err(GaveUp { patience: self.crew.config.patience, last: trouble })
        }
    }
}

/// Sends requests at once and reads as many answers.
async fn ask(line: &mut Connection, requests: &[String], after: Duration) -> Result<Vec<Utf8Bytes>, ConnectionError> {
    within(after, async {
        line.send(requests).await?;
        let mut answers = Vec::with_capacity(requests.len());
        for _ in requests {
            answers.push(line.receive().await?);
        }
        Ok(answers)
    })
    .await
}

async fn within<T>(
    after: Duration,
    answer: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    timeout(after, answer).await.unwrap_or(Err(ConnectionError::Timeout { what: "answer", after }))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Returns when an idle connection is of no use any more, and drops it: nothing may come on it that was not asked for.
async fn lost(line: &mut Option<Connection>) {
    match line {
        Some(connection) => {
            let _ = connection.receive().await;
            *line = None;
        }
        None => pending().await,
    }
}
