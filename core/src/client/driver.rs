//! The driver: a thread that feeds a session and carries out what it says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use automerge::ChangeHash;
use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::Progress;
use super::mailbox::{Batch, Mailbox, Outbox};
use super::permit::Permit;
use crate::codec::v1::Code;
use crate::engine::{self, Accepted, Origin};
use crate::gate::CheckedChange;
use crate::id::{DocumentId, StorageId};
use crate::ledger::{self, outbox, shared};
use crate::limits::CLASSIC_PRESENCE_TTL_MS;
use crate::repo::{Answer, Ephemeral, EphemeralBatch, Event, EventKind, Inner, Notes, RepoError, Source};
use crate::runtime;
use crate::store::WriteTx;
use crate::sync::WholeDocuments;
use crate::sync::classic::{ClassicSession, Identity, Output, Role};

mod deletion;

/// What goes to the socket.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A binary frame.
    Frame(Bytes),
    /// The last thing that is sent.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// Why.
        reason: String,
        /// What the relay said is wrong, if that is why.
        told: Option<Code>,
    },
}

/// What a driver works with.
pub(super) struct Surroundings {
    pub(super) inner: Arc<Inner>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) outgoing: Outbox,
    /// Shows how far the first sync is; nothing before the handshake.
    pub(super) progress: watch::Sender<Option<Progress>>,
    /// Shows how long what the relay permits lasts.
    pub(super) permit: watch::Sender<Permit>,
    pub(super) source: Source,
}

/// One session with its surroundings.
pub(super) struct Driver {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outbox,
    session: ClassicSession,
    relay: Option<StorageId>,
    /// Documents that were not compared with the relay's yet; how many they are, once the handshake is done.
    unsettled: HashSet<DocumentId>,
    progress: watch::Sender<Option<Progress>>,
    source: Source,
    /// How many documents were to be compared.
    met: u64,
    /// Heads the relay has shown, to begin from the next time.
    shared: HashMap<DocumentId, Vec<ChangeHash>>,
    /// Deletions on their way through the writer.
    burying: Vec<deletion::Burying>,
    /// What was learned of our own writes and is not durable yet.
    notes: Notes,
    /// How many frames the socket takes right now.
    room: usize,
    ended: bool,
}

/// Changes on their way through the writer.
struct Appending {
    document: DocumentId,
    outcome: Answer<Accepted>,
}

impl Driver {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        let Surroundings { inner, mailbox, outgoing, progress, source, .. } = surroundings;
        let identity = Identity { peer: inner.peer.clone(), storage: Some(inner.storage), epoch: None };
        let mut session = ClassicSession::new(Role::Client, identity);
        session.set_whole_documents(WholeDocuments::AskedFor);
        Self {
            inner,
            mailbox,
            outgoing,
            session,
            relay: None,
            unsettled: HashSet::new(),
            progress,
            source,
            met: 0,
            shared: HashMap::new(),
            burying: Vec::new(),
            notes: Notes::default(),
            room: 0,
            ended: false,
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
        if let Err(error) = self.remember_shared() {
            tracing::warn!(%error, "failed to note what the relay has: the next connection will compare more");
        }
    }

    async fn drive(&mut self) -> Result<(), RepoError> {
        self.carry_out()?;
        while !self.ended {
            let Some(batch) = self.mailbox.take(None).await else { return Ok(()) };
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
        // What could not be noted the relay shows again on the next connection.
        self.notes.check()?;
        self.room += batch.room;
        let store = Arc::clone(&self.inner.store);
        for frame in batch.frames {
            match frame {
                // A fresh view for each frame: the one before may have waited for nothing, but costs nothing either.
                Some(frame) => self.session.handle_frame(&frame, store.read()?.as_ref())?,
                None => self.session.handle_text(),
            }
        }
        // Before the handshake nothing can be announced; after it, everything is.
        if self.session.peer().is_none() {
            return Ok(());
        }
        for document in batch.deleted {
            self.session.forget(&document);
            self.settle(&document);
            self.shared.remove(&document);
            self.tell_deleted(document)?;
        }
        if batch.look_at_all {
            self.open_all()?;
        }
        for document in batch.unfolded {
            self.session.handle_unfolded(document);
        }
        // What was taken out of it again is in no message any more: the talk begins anew.
        for document in batch.retried {
            self.session.forget(&document);
        }
        for document in batch.changed {
            self.open(document)?;
            self.session.handle_changed(document, &*store)?;
        }
        for message in batch.ephemerals {
            // One that is taken back runs out by itself there.
            if message.ttl_ms > 0 {
                let Ephemeral { document, sender, key, count, data, .. } = &message;
                self.session.send_ephemeral(*document, sender, key, *count, data, store.read()?.as_ref())?;
            }
        }
        Ok(())
    }

    fn open_all(&mut self) -> Result<(), RepoError> {
        let documents = ledger::documents(self.inner.store.read()?.as_ref())?;
        for document in documents {
            self.open(document)?;
            self.session.handle_heads_changed(document);
        }
        self.tell_all_deleted()
    }

    fn open(&mut self, document: DocumentId) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        if ledger::state(tx.as_ref(), &document)?.is_none() {
            // Deleted since: to ask for it would bring it back.
            return Ok(());
        }
        let known = match &self.relay {
            Some(relay) => shared::get(tx.as_ref(), &document, relay)?,
            None => Vec::new(),
        };
        if self.session.open(document, known, tx.as_ref())? {
            self.unsettled.insert(document);
            self.met += 1;
        }
        Ok(())
    }

    fn settle(&mut self, document: &DocumentId) {
        self.unsettled.remove(document);
    }

    /// Shows how many documents are compared.
    fn show_progress(&self) {
        let shown = self.session.peer().map(|_| {
            let left = self.unsettled.len() as u64;
            Progress {
                documents_done: self.met.saturating_sub(left),
                documents_total: self.met,
                is_caught_up: left == 0,
                ..Progress::default()
            }
        });
        self.progress.send_if_modified(|before| std::mem::replace(before, shown) != shown);
    }

    /// Does what the session says until it has nothing more to say. Appends of one round share a commit.
    fn carry_out(&mut self) -> Result<(), RepoError> {
        loop {
            let mut appending = Vec::new();
            while let Some(output) = self.session.poll_output() {
                self.obey(output, &mut appending)?;
            }
            let buried = self.finish_burying()?;
            if appending.is_empty() && !buried {
                return Ok(());
            }
            for Appending { document, outcome } in appending {
                let accepted = outcome.wait()?;
                let store = Arc::clone(&self.inner.store);
                self.session.handle_appended(document, accepted.results, store.read()?.as_ref())?;
            }
        }
    }

    fn obey(&mut self, output: Output, appending: &mut Vec<Appending>) -> Result<(), RepoError> {
        match output {
            Output::Send(frame) => self.send(Outgoing::Frame(frame)),
            Output::Close { code, reason } => {
                self.send(Outgoing::Close { code, reason, told: None });
                self.ended = true;
            }
            Output::Established { storage, epoch, .. } => {
                self.inner.presences.renew_all();
                self.relay = storage;
                // One without a store is another one each time.
                self.inner.note_relay(storage.unwrap_or(StorageId::from_bytes([0; 16])))?;
                if let (Some(relay), Some(epoch)) = (storage, epoch) {
                    self.inner.note_epoch(relay, epoch)?;
                }
                self.open_all()?;
            }
            Output::Append { document, changes } => {
                let outcome = self.append(document, changes)?;
                appending.push(Appending { document, outcome });
            }
            Output::Snapshot { document, chunk, .. } => {
                let results = self.inner.take_whole(document, &chunk)?.unwrap_or_default();
                self.session.handle_appended(document, results, self.inner.store.read()?.as_ref())?;
            }
            Output::Delete { document, tombstone } => self.bury(document, tombstone)?,
            Output::DeleteAcknowledged { document, kind } => {
                let note = self.inner.note_deletion_told(document, kind, self.relay)?;
                self.notes.keep(note);
            }
            Output::PeerHas { document, heads } => {
                self.settle(&document);
                self.note_shared(document, heads)?;
            }
            Output::Ephemeral { document, sender, session_id, count, data } => {
                let (key, ttl_ms) = (session_id, CLASSIC_PRESENCE_TTL_MS);
                let message = Ephemeral { document, sender, data, count, origin: Origin::Remote, key, ttl_ms };
                self.inner.presences.hear(vec![message]);
            }
            Output::Refused { document, error } => {
                tracing::warn!(document = %document.label(), %error, "a change from the relay was refused");
            }
            Output::Ignored { reason } => tracing::warn!(%reason, "a frame from the relay was ignored"),
            Output::Unavailable { document } => {
                tracing::debug!(document = %document.label(), "the relay does not have the document");
                self.settle(&document);
            }
            // The relay is asked for no rights, every document of this device takes part anyway, and whole documents are not taken.
            Output::Subscribe { .. } | Output::Forbidden { .. } => {}
        }
        Ok(())
    }

    fn append(&self, document: DocumentId, changes: Vec<CheckedChange>) -> Result<Answer<Accepted>, RepoError> {
        let (inner, source) = (Arc::clone(&self.inner), self.source);
        let work = move |tx: &mut dyn WriteTx| engine::accept_known(tx, document, changes);
        let tell = move |accepted: &Accepted| inner.tell_received(document, accepted, source);
        self.inner.writer.write_from_thread(work, tell)
    }

    /// Takes out of the outbox, and of what another relay refused, what the relay has shown to have.
    fn note_shared(&mut self, document: DocumentId, heads: Vec<ChangeHash>) -> Result<(), RepoError> {
        let tx = self.inner.store.read()?;
        let is_news =
            !outbox::pending(tx.as_ref(), &document)?.is_empty() || ledger::rejected::any(tx.as_ref(), &document)?;
        drop(tx);
        if is_news {
            let note = self.inner.note_heads_acknowledged(document, heads.clone())?;
            self.notes.keep(note);
        }
        self.shared.insert(document, heads);
        Ok(())
    }

    fn remember_shared(&mut self) -> Result<(), RepoError> {
        let (Some(relay), false) = (self.relay, self.shared.is_empty()) else { return Ok(()) };
        let heads = std::mem::take(&mut self.shared);
        let work = move |tx: &mut dyn WriteTx| {
            for (document, heads) in &heads {
                if ledger::state(tx, document)?.is_some() {
                    shared::put(tx, document, &relay, heads)?;
                }
            }
            Ok(())
        };
        drop(self.inner.writer.write_from_thread(work, |()| {})?);
        Ok(())
    }

    /// Makes frames while the socket takes them.
    fn transmit(&mut self) -> Result<(), RepoError> {
        let store = Arc::clone(&self.inner.store);
        let tx = store.read()?;
        while self.room > 0 && !self.ended {
            match self.session.poll_transmit(tx.as_ref())? {
                Some(frame) => self.send(Outgoing::Frame(frame)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Queues a frame. Control frames are few; they wait for the queue, frames with changes never have to.
    fn send(&mut self, outgoing: Outgoing) {
        self.room = self.room.saturating_sub(1);
        if !self.outgoing.send(outgoing) {
            self.ended = true;
        }
    }
}

/// Subscribes to the repo's news now, and brings them to the mailbox until the repo is gone.
pub(super) fn pump_events(inner: &Inner, mailbox: &Mailbox, source: Source) -> impl Future<Output = ()> {
    let (events, ephemerals) = (inner.events.subscribe(), inner.ephemerals.subscribe());
    pump(events, ephemerals, inner.follows.subscribe(), mailbox, source)
}

async fn pump(
    mut events: broadcast::Receiver<Event>,
    mut ephemerals: broadcast::Receiver<EphemeralBatch>,
    mut follows: watch::Receiver<u64>,
    mailbox: &Mailbox,
    source: Source,
) {
    loop {
        runtime::select! {
            event = events.recv() => match event {
                Ok(event) => match event.kind {
                    EventKind::Deleted => mailbox.put_deleted(event.document),
                    EventKind::Unfolded | EventKind::StaysFolded => mailbox.put_unfolded(event.document),
                    EventKind::Retried | EventKind::Rewritten => mailbox.put_retried(event.document),
                    // What one relay refused another one may take. It is no more in the outbox, so it is offered; the one
                    // that refused it is told nothing more of the document.
                    EventKind::Rejected => mailbox.put_elsewhere(event.document, &[]),
                    // Where there are other relays it is as what comes from elsewhere: one of them may take it out of the outbox
                    // before this one has it, or have refused what it stands on.
                    EventKind::Changed if event.origin == Origin::Local => {
                        mailbox.put_elsewhere(event.document, &event.before);
                    }
                    _ if event.source == Some(source) || event.origin == Origin::Local => {
                        mailbox.put_changed(event.document);
                    }
                    _ => mailbox.put_elsewhere(event.document, &event.before),
                },
                Err(broadcast::error::RecvError::Lagged(_)) => mailbox.put_look_at_all(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            messages = ephemerals.recv() => match messages {
                Ok(messages) if messages.iter().all(|message| message.origin == Origin::Local) => {
                    mailbox.put_ephemerals(&messages);
                }
                // What came from a relay is not sent back, and what was missed is past.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            changed = follows.changed() => match changed {
                Ok(()) => mailbox.put_follows(),
                Err(_) => return,
            },
        }
    }
}
