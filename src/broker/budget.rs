//! The memory for what is on its way: requests that come in and answers that wait to go out.
//!
//! Every connection has [`FREE_BYTES`] of its own for each of the two, which suffice for all but large ones. What is larger is held out
//! of one budget, by a [`Hold`] that lives as long as the bytes do. Who finds no room waits for its turn, and who waits makes others go:
//! of the connections that hold something, the one that has moved nothing for longest is closed first. One that moves on is left
//! alone, so that clients which read and write are slowed down by each other, but not closed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::pieces::{Piece, Pieces};
use crate::seldom::Seldom;

/// What a connection may hold of a request, and as much of an answer, without it being counted: so that what is small is neither
/// slowed down nor closed, whatever others do.
pub(crate) const FREE_BYTES: usize = 32 * 1024;

/// A client that has moved nothing for so long, though it could, makes room for others. Machines under load stop for some tenths of
/// a second.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often it is looked who has to go, while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// By then, what closed connections held was given back, which no client can delay.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The bytes of all connections.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    ledger: Mutex<Ledger>,
    /// Somebody waits for room.
    wanted: Notify,
    /// Something was given back.
    given_back: Notify,
    told: Seldom,
    /// Who reads a large request.
    alone: Mutex<()>,
    pieces: Arc<Pieces>,
}

#[derive(Debug, Default)]
struct Ledger {
    used: usize,
    next_id: u64,
    entries: HashMap<u64, Entry>,
    /// In the order in which they came.
    waiting: VecDeque<Wanted>,
}

/// A connection that is there.
#[derive(Debug)]
struct Entry {
    held: usize,
    /// When it last moved something.
    active: Instant,
    /// It waits for room, so that it cannot move.
    waits: bool,
    /// It was told to go, which it does at once.
    going: bool,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Wanted {
    account: Arc<Account>,
    bytes: usize,
    granted: oneshot::Sender<Hold>,
}

/// A connection's part in the budget.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    id: u64,
    stop: CancellationToken,
}

/// Bytes out of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    account: Arc<Account>,
    bytes: usize,
}

impl Budget {
    /// Of so many bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let (wanted, given_back) = (Notify::new(), Notify::new());
        Arc::new(Self {
            limit,
            ledger: Mutex::default(),
            wanted,
            given_back,
            told: Seldom::default(),
            alone: Mutex::new(()),
            pieces: Arc::default(),
        })
    }

    /// For a connection that has come.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<Account> {
        let stop = CancellationToken::new();
        let mut ledger = self.ledger();
        let id = ledger.next_id;
        ledger.next_id += 1;
        let entry = Entry { held: 0, active: Instant::now(), waits: false, going: false, stop: stop.clone() };
        ledger.entries.insert(id, entry);
        Arc::new(Account { budget: self.clone(), id, stop })
    }

    /// Closes connections for as long as others wait for room. Never ends.
    pub(crate) async fn watch(self: &Arc<Self>) {
        loop {
            self.wanted.notified().await;
            while self.make_room(PATIENCE) {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Whether more is held than there is, since an answer had to be given.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.ledger().used > self.limit
    }

    /// Waits until no more is held than there is; the least active connections go for it at once.
    pub(crate) async fn settled(self: &Arc<Self>) {
        let settled = async {
            while self.is_overdrawn() {
                self.make_room(Duration::ZERO);
                let _ = timeout(LOOK_EVERY, self.given_back.notified()).await;
            }
        };
        // What is held for longer is held by the broker itself.
        let _ = timeout(SETTLE_TIMEOUT, settled).await;
    }

    /// Closes the least active connections, as many as have to go for the next one that waits. Whether anybody waits.
    fn make_room(self: &Arc<Self>, patience: Duration) -> bool {
        self.grant();
        let mut ledger = self.ledger();
        let (closed, bytes) = ledger.close_least_active(self.limit, patience);
        let waits = !ledger.waiting.is_empty();
        drop(ledger);
        if closed > 0
            && let Some(earlier) = self.told.next(closed)
        {
            let (limit, closed) = (self.limit, earlier + closed);
            tracing::warn!(
                closed,
                bytes,
                limit,
                "closed the least active connections: half-sent requests and unread answers took all the memory there is for them"
            );
        }
        waits
    }

    /// Gives those who wait what there is, in their order.
    fn grant(&self) {
        let mut first = Vec::new();
        let mut ledger = self.ledger();
        while let Some(next) = ledger.waiting.front() {
            let has_gone = next.granted.is_closed();
            if !has_gone && ledger.used + next.bytes > self.limit {
                break;
            }
            let Some(next) = ledger.waiting.pop_front() else { break };
            if !has_gone {
                ledger.take(next.account.id, next.bytes);
            }
            first.push((next, has_gone));
        }
        drop(ledger);
        // Without the lock, since one that is not taken gives back again.
        for (Wanted { account, bytes, granted }, has_gone) in first {
            if !has_gone {
                let _ = granted.send(Hold { account, bytes });
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn take(&mut self, id: u64, bytes: usize) {
        self.used += bytes;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.held += bytes;
            entry.active = Instant::now();
            entry.waits = false;
        }
    }

    /// How many were told to go, and what they hold.
    fn close_least_active(&mut self, limit: usize, patience: Duration) -> (u64, usize) {
        let now = Instant::now();
        // Whoever has no patience makes good what is overdrawn, and waits for nothing.
        let next = self.waiting.front().filter(|_| !patience.is_zero()).map_or(0, |wanted| wanted.bytes);
        let missing = (self.used + next).saturating_sub(limit);
        let mut going: usize = self.entries.values().filter(|entry| entry.going).map(|entry| entry.held).sum();
        let (mut closed, mut bytes) = (0, 0);
        while going < missing {
            let holding = || self.entries.iter().filter(|(_, entry)| entry.held > 0 && !entry.going);
            let least_active = match holding().filter(|(_, entry)| !entry.waits).min_by_key(|(_, entry)| entry.active) {
                Some((id, entry)) if now.saturating_duration_since(entry.active) >= patience => *id,
                Some(_) => break,
                // All wait for each other: the last one has the least to lose.
                None => match holding().max_by_key(|(_, entry)| entry.active) {
                    Some((id, _)) => *id,
                    None => break,
                },
            };
            let Some(entry) = self.entries.get_mut(&least_active) else { break };
            entry.going = true;
            entry.stop.cancel();
            going += entry.held;
            bytes += entry.held;
            closed += 1;
        }
        (closed, bytes)
    }
}

impl Account {
    /// When the connection has to end, for what it holds is needed by others.
    pub(crate) async fn told_to_go(&self) {
        self.stop.cancelled().await;
    }

    /// So many bytes, as soon as there is room for them.
    ///
    /// # Cancellation
    ///
    /// Safe: whoever does not wait any more gets nothing.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Hold {
        let budget = &self.budget;
        let bytes = bytes.min(budget.limit);
        if let Some(hold) = self.try_hold(bytes) {
            return hold;
        }
        let (granted, grant) = oneshot::channel();
        {
            let mut ledger = budget.ledger();
            if let Some(entry) = ledger.entries.get_mut(&self.id) {
                entry.waits = true;
            }
            ledger.waiting.push_back(Wanted { account: self.clone(), bytes, granted });
        }
        budget.wanted.notify_one();
        match grant.await {
            Ok(hold) => hold,
            // The sender is only dropped with whoever waits.
            Err(_) => self.hold(bytes),
        }
    }

    /// So many bytes, if there is room for them and nobody waits.
    pub(crate) fn try_hold(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        let mut ledger = self.budget.ledger();
        if !ledger.waiting.is_empty() || ledger.used + bytes > self.budget.limit {
            return None;
        }
        ledger.take(self.id, bytes);
        drop(ledger);
        Some(Hold { account: self.clone(), bytes })
    }

    /// So many bytes, whether or not there is room: see [`Budget::settled`].
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Hold {
        self.budget.ledger().take(self.id, bytes);
        Hold { account: self.clone(), bytes }
    }

    /// How many bytes could be held now.
    pub(crate) fn room(&self) -> usize {
        let ledger = self.budget.ledger();
        if ledger.waiting.is_empty() { self.budget.limit.saturating_sub(ledger.used) } else { 0 }
    }

    /// For what takes much address space for a moment: nobody else does so until the guard is dropped.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.budget.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for a part of a large request.
    pub(crate) fn piece(&self) -> Piece {
        self.budget.pieces.take()
    }

    /// The client has sent or read something.
    pub(crate) fn moved(&self) {
        if let Some(entry) = self.budget.ledger().entries.get_mut(&self.id) {
            entry.active = Instant::now();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.ledger().entries.remove(&self.id);
    }
}

impl Hold {
    /// Makes it one of `bytes`, more or fewer, whether or not there is room.
    pub(crate) fn resize(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.account.budget.ledger().take(self.account.id, bytes - self.bytes);
            self.bytes = bytes;
        } else {
            let rest = Self { account: self.account.clone(), bytes: self.bytes - bytes };
            self.bytes = bytes;
            drop(rest);
        }
    }

    /// What is held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes two of one connection into one.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let budget = &self.account.budget;
        {
            let mut ledger = budget.ledger();
            ledger.used = ledger.used.saturating_sub(self.bytes);
            if let Some(entry) = ledger.entries.get_mut(&self.account.id) {
                entry.held = entry.held.saturating_sub(self.bytes);
                entry.active = Instant::now();
            }
        }
        budget.grant();
        budget.given_back.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LIMIT: usize = 1000;

    fn used(budget: &Budget) -> usize {
        budget.ledger().used
    }

    /// Told to go, as a connection's task sees it.
    fn is_going(account: &Account) -> bool {
        account.stop.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_in_the_order_of_coming_what_is_given_back() {
        let budget = Budget::new(LIMIT);
        let [a, b, c] = [(); 3].map(|()| budget.open());
        let held = a.reserve(900).await;
        let mut first = Box::pin(b.reserve(500));
        let mut second = Box::pin(c.reserve(50));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!((a.try_hold(10).is_none(), a.room()), (true, 0), "nobody overtakes those who wait");
        drop(held);
        let got = [first.await.bytes(), second.await.bytes()];
        assert_eq!((got, used(&budget)), ([500, 50], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let budget = Budget::new(LIMIT);
        let [a, b, c] = [(); 3].map(|()| budget.open());
        let held = a.reserve(900).await;
        let mut gives_up = Box::pin(b.reserve(500));
        let mut waits = Box::pin(c.reserve(50));
        assert!((&mut gives_up).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
        drop(gives_up);
        assert!(!budget.make_room(PATIENCE), "there was room for the one behind it");
        assert_eq!(waits.await.bytes(), 50);
        drop(held);
        assert_eq!(used(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_active_goes_first_and_none_that_moves() {
        let budget = Budget::new(LIMIT);
        let [silent, slow, small, asks] = [(); 4].map(|()| budget.open());
        let mut held = vec![silent.reserve(400).await];
        tokio::time::advance(Duration::from_secs(1)).await;
        held.push(slow.reserve(400).await);
        let mut waits = Box::pin(asks.reserve(600));
        assert!((&mut waits).now_or_never().is_none());
        assert!(budget.make_room(PATIENCE));
        assert_eq!([&silent, &slow, &small].map(|account| is_going(account)), [true, false, false]);
        // It goes, which is enough for nobody else to have to.
        drop(held.remove(0));
        assert_eq!(waits.await.bytes(), 600);
        assert!(!budget.make_room(PATIENCE) && !is_going(&slow));
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_all_wait_for_each_other_the_last_one_goes() {
        let budget = Budget::new(LIMIT);
        let [a, b] = [(); 2].map(|()| budget.open());
        let held = a.reserve(500).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        let last = b.reserve(500).await;
        let mut more = Box::pin(a.reserve(500));
        let mut more_of_last = Box::pin(b.reserve(500));
        assert!((&mut more).now_or_never().is_none() && (&mut more_of_last).now_or_never().is_none());
        assert!(budget.make_room(PATIENCE));
        assert_eq!((is_going(&a), is_going(&b)), (false, true));
        drop((more_of_last, last));
        assert_eq!(more.await.bytes() + held.bytes(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_must_be_given_has_others_go_at_once() {
        let budget = Budget::new(LIMIT);
        let [silent, answered] = [(); 2].map(|()| budget.open());
        let mut held = Some(silent.reserve(900).await);
        tokio::time::advance(Duration::from_millis(1)).await;
        let mut answer = answered.hold(300);
        assert!(budget.is_overdrawn());
        let mut settled = Box::pin(budget.settled());
        assert!((&mut settled).now_or_never().is_none() && is_going(&silent) && !is_going(&answered));
        held.take();
        settled.await;
        assert_eq!(used(&budget), 300);
        answer.resize(100);
        assert_eq!(used(&budget), 100);
    }
}
