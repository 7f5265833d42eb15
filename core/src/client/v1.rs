//! The driver of a connection that speaks `rejoin.v1`: a thread that feeds the session and carries out what it says.
//!
//! Which spaces are followed is in the store. The default space is followed document by document, because whoever knows
//! an id may have what it names; every other one as a whole, from the cursor on. Where this store syncs with other relays
//! too, a cursor tells only half: what came from the others is compared when a connection begins, and passed on as it comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use automerge::ChangeHash;
use bytes::Bytes;
use tokio::sync::watch;

use super::Progress;
use super::driver::{Outgoing, Surroundings};
use super::mailbox::{Batch, Mailbox, Outbox};
use super::permit::Permit;
use crate::codec::v1::{Access, Code, Mode, Presence, Start, Token};
use crate::id::{DocumentId, Epoch, SpaceId, StorageId};
use crate::ledger::follow::{self, Following};
use crate::ledger::{self, cursor, spaces};
use crate::repo::{Answer, Ephemeral, Inner, Notes, RepoError, Source};
use crate::runtime::{self, Instant};
use crate::store::{ReadTx, WriteTx};
use crate::sync::v1::{Applied, ClientIdentity, ClientOutput, ClientSession, Delivery};

mod apply;
mod outputs;

use apply::Outcome;

/// How many documents of the default space are opened between two looks at what else there is to do.
const OPENED_AT_ONCE: usize = 1_024;

/// How often a device that has caught up says how far it is, at most. Who wrote waits for the first of others to have it, and of a stream of writes the
/// last one tells of all: saying it after each costs the relay as much as the writes.
const CURSOR_INTERVAL: Duration = Duration::from_millis(100);

/// One session with its surroundings.
pub(super) struct Driver {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outbox,
    progress: watch::Sender<Option<Progress>>,
    permit: watch::Sender<Permit>,
    source: Source,
    session: ClientSession,
    relay: Option<(StorageId, Epoch)>,
    /// The spaces that were subscribed to, and how.
    followed: BTreeMap<SpaceId, Following>,
    /// In which space documents are being opened, and up to which.
    opening: Option<(SpaceId, Option<DocumentId>)>,
    /// In which spaces they are to be opened next.
    to_open: BTreeSet<SpaceId>,
    /// Those that were opened and did not come yet, with their spaces, and how many there were.
    unopened: HashMap<DocumentId, SpaceId>,
    opened: u64,
    /// Spaces that the relay does not give on this connection.
    denied: HashSet<SpaceId>,
    /// Spaces with a delivery that waits for a document to be unfolded: those behind it wait too.
    held_spaces: Arc<Mutex<HashSet<SpaceId>>>,
    /// Spaces that had a place in the relay's log since they were subscribed to. One that has none any more is to be compared.
    placed_spaces: Arc<Mutex<HashSet<SpaceId>>>,
    held: BTreeMap<SpaceId, VecDeque<Delivery>>,
    /// Documents of which the relay put off what we pushed.
    put_off: BTreeSet<DocumentId>,
    /// Documents whose deletion it put off.
    put_off_deletions: BTreeSet<DocumentId>,
    /// What was learned of our own writes and is not durable yet.
    notes: Notes,
    /// When it may be said again how far this device is, if that was said just now.
    cursors_at: Option<Instant>,
    /// How many frames the socket takes right now.
    room: usize,
    ended: bool,
    /// What the relay said is wrong when it ended the session.
    told: Option<Code>,
}

/// A delivery on its way through the writer.
type Applying = Answer<Outcome>;

impl Driver {
    pub(super) fn new(surroundings: Surroundings, token: Token) -> Self {
        let Surroundings { inner, mailbox, outgoing, progress, permit, source } = surroundings;
        let session = ClientSession::new(ClientIdentity {
            peer: inner.peer.clone(),
            storage: Some(inner.storage),
            token,
            takes_snapshots: !inner.is_snapshot_refused(),
        });
        Self {
            inner,
            mailbox,
            outgoing,
            progress,
            permit,
            source,
            session,
            relay: None,
            followed: BTreeMap::new(),
            opening: None,
            to_open: BTreeSet::new(),
            unopened: HashMap::new(),
            denied: HashSet::new(),
            opened: 0,
            held_spaces: Arc::default(),
            placed_spaces: Arc::default(),
            held: BTreeMap::new(),
            put_off: BTreeSet::new(),
            put_off_deletions: BTreeSet::new(),
            notes: Notes::default(),
            cursors_at: None,
            room: 0,
            ended: false,
            told: None,
        }
    }

    /// Starts the thread. It ends when the mailbox is closed or the session has ended.
    pub(super) fn start(self) -> std::io::Result<()> {
        runtime::start("rejoin-session", self.run())
    }

    async fn run(mut self) {
        if let Err(error) = self.drive().await {
            tracing::error!(%error, "the session with the relay ended on a failure of the store");
        }
    }

    async fn drive(&mut self) -> Result<(), RepoError> {
        self.carry_out()?;
        while !self.ended {
            let Some(batch) = self.mailbox.take(self.cursors_at).await else { return Ok(()) };
            self.take_in(batch)?;
            self.carry_out()?;
            self.transmit()?;
            self.show_progress();
            runtime::breathe().await;
        }
        Ok(())
    }

    /// Hands everything that happened to the session.
    fn take_in(&mut self, batch: Batch) -> Result<(), RepoError> {
        // What could not be noted is told again by the relay on the next connection, and by nobody on this one.
        self.notes.check()?;
        self.room += batch.room;
        for frame in batch.frames {
            match frame {
                Some(frame) => {
                    self.session.handle_frame(&frame, self.inner.store.read()?.as_ref())?;
                    // What it brings is applied before the next frame is judged by the store.
                    self.carry_out()?;
                }
                None => self.session.handle_text(),
            }
        }
        for document in batch.unfolded {
            self.session.handle_changed(document);
            self.apply_held()?;
        }
        // Before the handshake everything is found in the store when it is done.
        if self.relay.is_none() {
            return Ok(());
        }
        if let Some(token) = batch.token {
            self.session.renew(token);
        }
        for document in batch.deleted {
            self.note_deleted(document)?;
        }
        if batch.look_at_all {
            self.look_at_all()?;
        } else if batch.follows {
            self.follow()?;
        }
        let mut retried: Vec<DocumentId> = batch.retried.into_iter().collect();
        if batch.a_while {
            retried.extend(std::mem::take(&mut self.put_off));
            for document in std::mem::take(&mut self.put_off_deletions) {
                self.note_deleted(document)?;
            }
        }
        self.retry(retried)?;
        for document in &batch.changed {
            self.note_changed(*document, batch.elsewhere.get(document))?;
        }
        for message in batch.ephemerals {
            self.send_ephemeral(message)?;
        }
        Ok(())
    }

    /// Pushes again what the relay did not take before.
    fn retry(&mut self, documents: Vec<DocumentId>) -> Result<(), RepoError> {
        if documents.is_empty() {
            return Ok(());
        }
        let has_others = self.has_other_relays()?;
        for document in documents {
            if has_others {
                self.session.handle_resume(document);
            } else {
                self.session.handle_retry(document);
            }
        }
        Ok(())
    }

    /// A document came into being here, or changed.
    fn note_changed(&mut self, document: DocumentId, before: Option<&Vec<ChangeHash>>) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        if ledger::state(tx.as_ref(), &document)?.is_none() {
            return Ok(());
        }
        let space = spaces::of(tx.as_ref(), &document)?;
        match self.followed.get(&space) {
            _ if space == SpaceId::DEFAULT => self.open(space, document),
            Some(Following::Listing) => self.open(space, document),
            Some(Following::Everything) | None => {}
        }
        match before {
            Some(before) if self.has_others(tx.as_ref())? => self.session.offer(document, Some(before.clone())),
            _ => self.session.handle_changed(document),
        }
        Ok(())
    }

    fn note_deleted(&mut self, document: DocumentId) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        self.unopened.remove(&document);
        let relay = self.relay.map(|(relay, _)| relay);
        if ledger::tombstone::is_buried(tx.as_ref(), &document)? {
            // Who told it needs not hear of it.
            if !ledger::tombstone::is_told(tx.as_ref(), &document, relay.as_ref())? {
                self.session.handle_deleted(document);
            }
        } else {
            self.session.close(spaces::of(tx.as_ref(), &document)?, document);
        }
        Ok(())
    }

    /// News were missed: looks for what waits.
    fn look_at_all(&mut self) -> Result<(), RepoError> {
        if self.has_other_relays()? {
            // What came from them is not known any more: everything is compared.
            self.followed.clear();
            self.session.subscribe(SpaceId::DEFAULT, Mode::Chosen, Start::Beginning);
        }
        self.follow()?;
        self.to_open.insert(SpaceId::DEFAULT);
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        let mut last = None;
        loop {
            let some = ledger::outbox::documents(tx.as_ref(), last.as_ref(), OPENED_AT_ONCE)?;
            some.iter().for_each(|document| self.session.handle_changed(*document));
            last = some.last().copied();
            if last.is_none() {
                break;
            }
        }
        drop(tx);
        let relay = self.relay.map(|(relay, _)| relay);
        let untold = ledger::tombstone::untold(store.read()?.as_ref(), relay.as_ref())?;
        untold.into_iter().for_each(|document| self.session.handle_deleted(document));
        // A document may have been unfolded meanwhile that deliveries wait for.
        self.apply_held()
    }

    /// Subscribes to what this device follows and is not subscribed to, and to nothing else.
    fn follow(&mut self) -> Result<(), RepoError> {
        let Some((relay, _)) = self.relay else { return Ok(()) };
        let wanted: BTreeMap<_, _> = follow::all(self.inner.store.read()?.as_ref())?.into_iter().collect();
        let dropped: Vec<SpaceId> = self.followed.keys().filter(|space| !wanted.contains_key(space)).copied().collect();
        for space in dropped {
            self.session.unsubscribe(space);
            self.followed.remove(&space);
        }
        let has_others = self.has_other_relays()?;
        for (space, how) in wanted {
            let is_followed = self.followed.insert(space, how) == Some(how);
            if is_followed && !self.has_lost_its_place(&relay, &space)? {
                continue;
            }
            self.placed_spaces().remove(&space);
            let start = if has_others { Start::Compare } else { self.place_to_start(&relay, &space)? };
            match how {
                Following::Everything => self.session.subscribe(space, Mode::Everything, start),
                Following::Listing => {
                    self.session.subscribe(space, Mode::Listing, start);
                    self.to_open.insert(space);
                }
            }
        }
        Ok(())
    }

    /// Says whether the place in a space's log was forgotten since it was subscribed to: something of it is wanted again.
    fn has_lost_its_place(&self, relay: &StorageId, space: &SpaceId) -> Result<bool, RepoError> {
        let had_one = self.placed_spaces().contains(space);
        Ok(had_one && cursor::get(self.inner.store.read()?.as_ref(), relay, space)?.is_none())
    }

    fn placed_spaces(&self) -> MutexGuard<'_, HashSet<SpaceId>> {
        // A set is whole at every moment.
        self.placed_spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From where on a space is followed.
    fn place_to_start(&self, relay: &StorageId, space: &SpaceId) -> Result<Start, RepoError> {
        let tx = self.inner.store.read()?;
        if let Some(cursor) = cursor::get(tx.as_ref(), relay, space)? {
            self.placed_spaces().insert(*space);
            return Ok(Start::Cursor { epoch: cursor.epoch, position: cursor.position });
        }
        let mut is_empty = true;
        spaces::documents(tx.as_ref(), space, None, &mut |_| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
        Ok(if is_empty { Start::Beginning } else { Start::Compare })
    }

    /// Says whether this store has ever synced with another relay, of whichever protocol.
    fn has_other_relays(&self) -> Result<bool, RepoError> {
        self.has_others(self.inner.store.read()?.as_ref())
    }

    fn has_others(&self, tx: &dyn ReadTx) -> Result<bool, RepoError> {
        let Some((relay, _)) = self.relay else { return Ok(false) };
        Ok(follow::has_other_relay(tx, &relay)?)
    }

    /// Opens some more documents of the spaces that are followed document by document. Says whether it did.
    fn open_some(&mut self) -> Result<bool, RepoError> {
        let Some((space, after)) = self.opening.or_else(|| self.to_open.pop_first().map(|space| (space, None))) else {
            return Ok(false);
        };
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        let mut some = Vec::new();
        spaces::documents(tx.as_ref(), &space, after.as_ref(), &mut |document| {
            some.push(document);
            if some.len() < OPENED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for document in &some {
            // What is known of and not here is for whoever opens it.
            if ledger::state(tx.as_ref(), document)?.is_some() {
                self.open(space, *document);
            }
        }
        self.opening = (some.len() == OPENED_AT_ONCE).then(|| (space, some.last().copied()));
        Ok(true)
    }

    fn open(&mut self, space: SpaceId, document: DocumentId) {
        // What is in a space that the relay does not give is on no way here: nothing waits for it.
        if self.session.open(space, document)
            && !self.denied.contains(&space)
            && self.unopened.insert(document, space).is_none()
        {
            self.opened += 1;
        }
    }

    /// Makes frames while the socket takes them. Cursors are among them if none was said a moment ago. Until the progress
    /// shown says that everything arrived they are not held back: many a device leaves then.
    fn transmit(&mut self) -> Result<(), RepoError> {
        let now = runtime::now();
        self.cursors_at = self.cursors_at.filter(|at| *at > now);
        let is_caught_up = self.progress.borrow().is_some_and(|progress| progress.is_caught_up);
        self.session.hold_cursors(is_caught_up && self.cursors_at.is_some());
        self.make_frames()?;
        // A socket that takes no more paces them itself.
        if self.room > 0 && self.session.take_said_cursor() {
            self.cursors_at = Some(now + CURSOR_INTERVAL);
        }
        Ok(())
    }

    fn make_frames(&mut self) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        while self.room > 0 && !self.ended {
            // A view for each: a message costs more, and a view that stands long keeps old pages from being used again.
            let message = self.session.poll_transmit(store.read()?.as_ref())?;
            self.carry_out()?;
            match message {
                Some(frame) => self.send(Outgoing::Frame(frame)),
                None if self.open_some()? => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn send_ephemeral(&mut self, message: Ephemeral) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        if ledger::state(tx.as_ref(), &message.document)?.is_none() {
            // Of what was deleted here it may not be known any more in which space it is.
            return Ok(());
        }
        let space = spaces::of(tx.as_ref(), &message.document)?;
        let value = Presence {
            author: message.sender,
            document: message.document,
            key: message.key,
            sequence: message.count,
            ttl_ms: message.ttl_ms,
            data: message.data,
        };
        self.session.send_presence(space, vec![value]);
        Ok(())
    }

    /// Queues a frame. Control frames are few; they wait for the queue, frames with changes never have to.
    fn send(&mut self, outgoing: Outgoing) {
        self.room = self.room.saturating_sub(1);
        if !self.outgoing.send(outgoing) {
            self.ended = true;
        }
    }

    fn show_progress(&self) {
        let shown = self.relay.map(|_| {
            let of_spaces = self.session.progress();
            let left = self.unopened.len() as u64;
            Progress {
                documents_done: of_spaces.documents_done + self.opened.saturating_sub(left),
                documents_total: of_spaces.documents_total.max(of_spaces.documents_done) + self.opened,
                bytes_done: of_spaces.bytes_done,
                bytes_total: of_spaces.bytes_total.max(of_spaces.bytes_done),
                is_caught_up: of_spaces.is_caught_up
                    && left == 0
                    && self.opening.is_none()
                    && self.to_open.is_empty()
                    && self.held.is_empty(),
            }
        });
        self.progress.send_if_modified(|before| std::mem::replace(before, shown) != shown);
    }
}
