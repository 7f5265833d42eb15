//! The entrance to the queue of writes: how much may wait, of each author and of all.
//!
//! An author (a principal with all its connections, or a connection of nobody in particular) that has little waiting is let in at
//! once, however many others wait outside. More takes room that all share, of which one author gets a part at most. So whoever
//! brings more than is written waits for itself, and its connection is not read from meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{AppendError, AuthorKey};
use crate::limits::{APPEND_QUEUE_BYTES_MAX, AUTHOR_QUEUE_BYTES_FREE, AUTHOR_QUEUE_BYTES_MAX};

/// Room is counted in these many bytes, so that the count fits 32 bits.
const UNIT_BYTES: usize = 1 << 10;

/// How many authors more than twice those who had something waiting are remembered before those who have nothing are forgotten.
const AUTHORS_FORGOTTEN_AT: usize = 64;

/// How much room there is.
#[derive(Debug)]
pub(super) struct Entrance {
    shared: Arc<Semaphore>,
    authors: Mutex<Authors>,
}

/// Those who have something waiting, or had when it was last looked.
#[derive(Debug, Default)]
struct Authors {
    known: HashMap<AuthorKey, Weak<Shares>>,
    /// At how many it is looked whether some can be forgotten.
    look_at: usize,
}

/// What one author may have.
#[derive(Debug)]
struct Shares {
    /// Without asking whether there is room for others.
    free: Arc<Semaphore>,
    /// Of the room that all share.
    shared: Arc<Semaphore>,
}

/// The room of one request, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    /// So that the author's shares are remembered.
    _shares: Arc<Shares>,
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

fn semaphore(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / UNIT_BYTES))
}

impl Entrance {
    pub(super) fn new() -> Self {
        Self { shared: semaphore(APPEND_QUEUE_BYTES_MAX), authors: Mutex::default() }
    }

    /// Waits for room for so many bytes. A request of more than an author may have gets all that it may have.
    ///
    /// # Errors
    ///
    /// [`AppendError::Stopped`].
    pub(super) async fn enter(&self, author: &AuthorKey, bytes: usize) -> Result<Room, AppendError> {
        let shares = self.shares(author);
        // An empty request is one that waits, too.
        let wanted = units(bytes.clamp(1, AUTHOR_QUEUE_BYTES_MAX));
        if let Ok(free) = Arc::clone(&shares.free).try_acquire_many_owned(wanted) {
            return Ok(Room { _shares: shares, _permits: [Some(free), None] });
        }
        let own = Arc::clone(&shares.shared).acquire_many_owned(wanted).await.map_err(|_| AppendError::Stopped)?;
        let all = Arc::clone(&self.shared).acquire_many_owned(wanted).await.map_err(|_| AppendError::Stopped)?;
        Ok(Room { _shares: shares, _permits: [Some(own), Some(all)] })
    }

    fn shares(&self, author: &AuthorKey) -> Arc<Shares> {
        // Nothing that runs under the lock panics half-way through a change.
        let mut authors = self.authors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shares) = authors.known.get(author).and_then(Weak::upgrade) {
            return shares;
        }
        if authors.known.len() >= authors.look_at {
            authors.known.retain(|_, shares| shares.strong_count() > 0);
            authors.look_at = AUTHORS_FORGOTTEN_AT + 2 * authors.known.len();
        }
        let (free, shared) = (semaphore(AUTHOR_QUEUE_BYTES_FREE), semaphore(AUTHOR_QUEUE_BYTES_MAX));
        let shares = Arc::new(Shares { free, shared });
        authors.known.insert(author.clone(), Arc::downgrade(&shares));
        shares
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::hub::Hub;

    fn authors<const COUNT: usize>() -> [AuthorKey; COUNT] {
        let hub = Hub::default();
        std::array::from_fn(|_| AuthorKey::Connection(hub.next_id()))
    }

    fn enter_now(entrance: &Entrance, author: &AuthorKey, bytes: usize) -> Option<Room> {
        entrance.enter(author, bytes).now_or_never().map(|room| room.expect("it is open"))
    }

    #[test]
    fn one_author_gets_its_part_of_the_room_and_no_more() {
        let (entrance, [flooder, honest]) = (Entrance::new(), authors());
        let free = enter_now(&entrance, &flooder, AUTHOR_QUEUE_BYTES_FREE).expect("it is free");
        let all = enter_now(&entrance, &flooder, usize::MAX).expect("all that it may have");
        assert!(enter_now(&entrance, &flooder, 0).is_none(), "an empty request takes room too");
        let large = enter_now(&entrance, &honest, AUTHOR_QUEUE_BYTES_MAX).expect("another's room");
        drop(free);
        assert!(enter_now(&entrance, &flooder, 1).is_some());
        assert!(enter_now(&entrance, &flooder, AUTHOR_QUEUE_BYTES_FREE + 1).is_none());
        drop((all, large));
        assert!(enter_now(&entrance, &flooder, AUTHOR_QUEUE_BYTES_FREE + 1).is_some());
    }

    #[test]
    fn honest_author_enters_at_once_while_many_wait_for_room() {
        let (entrance, all) = (Entrance::new(), authors::<17>());
        let (honest, flooders) = all.split_first().expect("there are some");
        let mut held = Vec::new();
        let mut waiting = Vec::new();
        for flooder in flooders.iter().cycle().take(64) {
            let mut entering = Box::pin(entrance.enter(flooder, AUTHOR_QUEUE_BYTES_MAX / 4));
            match entering.as_mut().now_or_never() {
                Some(room) => held.push(room.expect("it is open")),
                None => waiting.push(entering),
            }
        }
        assert_eq!(held.len() * AUTHOR_QUEUE_BYTES_MAX / 4, APPEND_QUEUE_BYTES_MAX);
        assert!(!waiting.is_empty());
        assert!(enter_now(&entrance, honest, AUTHOR_QUEUE_BYTES_FREE).is_some());
        assert!(enter_now(&entrance, honest, AUTHOR_QUEUE_BYTES_FREE + 1).is_none(), "what is more waits as all do");
    }

    #[test]
    fn author_who_is_gone_is_forgotten() {
        let (entrance, all) = (Entrance::new(), authors::<1_000>());
        for author in &all {
            drop(enter_now(&entrance, author, 1));
        }
        assert!(entrance.authors.lock().expect("nobody panicked").known.len() <= AUTHORS_FORGOTTEN_AT);
    }
}
