//! The client's side of `rejoin.v1`, without sockets. See [`crate::sync`] for how to drive it.
//!
//! A session reads from the transactions it is handed and writes nothing: what is to be durable comes out as
//! [`ClientOutput`], in an order in which the driver carries it out. What it holds is bounded: by the credit that it gives the
//! relay, which comes back only when something was applied, and by a few small numbers for each space and each document
//! with unsent writes.
//!
//! - `intake`: what the relay tells becomes deliveries, and applied deliveries become cursors and credit.
//! - `space`: what is known of one space: its subscription, and up to where its log was told.
//! - `push`: what waits here becomes batches; `answer`: their answers become receipts and refusals.
//! - `compare`: comparing a space, and opening documents of a listing.

mod answer;
mod compare;
mod intake;
mod presence;
mod push;
mod ranges;
mod space;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use automerge::ChangeHash;
use bytes::Bytes;

use crate::codec::v1::{
    About, Access, ClientMessage, Code, DecodeError, ErrorMessage, Hello, Listed, Mode, Presence, Reject, RelayMessage,
    Start, Token, VERSION, Welcome,
};
use crate::deletion::{DeletionKind, Tombstone};
use crate::gate::CheckedChange;
use crate::id::{DocumentId, Epoch, PeerId, SpaceId, StorageId};
use crate::ledger::Appended;
use crate::ledger::cursor::Cursor;
use crate::ledger::receipts::Relayed;
use crate::limits::CREDIT_BYTES;
use crate::store::{ReadTx, StoreError};
use crate::sync::classic::CLOSE_UNSUPPORTED;
use compare::Opens;
use intake::Intake;
use presence::PresenceQueue;
use push::Pushes;
use space::Spaces;

/// The WebSocket close code of an end that nobody is to blame for.
const CLOSE_NORMAL: u16 = 1000;

/// Who a client is on one connection.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// Its peer id: the author of its presence values.
    pub peer: PeerId,
    /// Its store's id, by which the relay remembers what it has; `None` to be remembered for nothing.
    pub storage: Option<StorageId>,
    /// What proves its rights.
    pub token: Token,
    /// Whether it takes whole histories as [`ClientOutput::Snapshot`].
    pub takes_snapshots: bool,
}

/// What the driver must do, in this order.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientOutput {
    /// Send this message before any that [`ClientSession::poll_transmit`] makes.
    Send(Bytes),
    /// The relay answered: subscribe to what is wanted now.
    Welcomed {
        /// The relay's store: cursors are kept by it.
        relay: StorageId,
        /// The life of its logs.
        epoch: Epoch,
    },
    /// What the token permits ends by itself after so many seconds: call [`ClientSession::renew`] with another before. Said behind
    /// `Welcomed`, where it ends, and after each renewal.
    Permitted {
        /// After how many seconds from now, 0 if it does not end.
        seconds: u64,
    },
    /// The relay does not take the token of [`ClientSession::renew`]; the one before is good until its end.
    RenewalRefused {
        /// Why, for people.
        text: String,
    },
    /// A subscription was answered.
    Subscribed {
        /// To which space.
        space: SpaceId,
        /// What may be done in it.
        access: Access,
        /// Whether the space is compared; until that is done there is no cursor.
        is_compared: bool,
        /// How many documents have something to come, by the relay's estimate.
        documents: u64,
        /// How many bytes will come, by the relay's estimate.
        bytes: u64,
    },
    /// Something to make durable.
    Apply(Delivery),
    /// A document's whole history. Take it, then call [`ClientSession::handle_snapshot_taken`]. The chunk may be anything: load
    /// it only where that hurts nobody. Until then nothing else of the space is delivered.
    Snapshot {
        /// In which space.
        space: SpaceId,
        /// Which document.
        document: DocumentId,
        /// The heads that the relay says it ends with.
        heads: Vec<ChangeHash>,
        /// An Automerge document chunk.
        chunk: Bytes,
    },
    /// The relay has these local changes durably: for [`crate::ledger::receipts::acknowledge`], where [`Relayed::find`] finds them then.
    Acknowledged {
        /// Of which space.
        space: SpaceId,
        /// In which life of the log.
        epoch: Epoch,
        /// The changes, by document. All waited in the outbox when the answer was read, or were
        /// held back because another relay had refused them.
        acknowledged: Vec<(DocumentId, Vec<Relayed>)>,
    },
    /// The relay refused a local change. Nothing more of the document is pushed on this connection before
    /// [`ClientSession::handle_retry`]; for the next one, see [`ClientSession::hold`].
    Rejected {
        /// In which space.
        space: SpaceId,
        /// Which document.
        document: DocumentId,
        /// Where the change is in our ledger.
        position: u64,
        /// The change.
        hash: ChangeHash,
        /// Why. If [`Code::is_retryable`], it may be taken later as it is.
        reject: Reject,
        /// The change that was refused for a reason of its own, if this one was only because it stands on it.
        stands_on: Option<ChangeHash>,
    },
    /// The relay has a tombstone durably: for [`crate::ledger::tombstone::acknowledge`].
    DeletionAcknowledged {
        /// Of which document.
        document: DocumentId,
        /// Of which kind the tombstone was that it has.
        kind: DeletionKind,
    },
    /// The relay does not let us delete a document everywhere.
    DeletionRejected {
        /// Which document.
        document: DocumentId,
        /// Why.
        reject: Reject,
    },
    /// Another device has a space up to a position: for [`crate::ledger::receipts::note_seen`].
    Seen {
        /// Which space.
        space: SpaceId,
        /// In which life of its log.
        epoch: Epoch,
        /// Whose store it is; never our own.
        storage: StorageId,
        /// The last position.
        position: u64,
    },
    /// Ephemeral values of others.
    Presence {
        /// In which space.
        space: SpaceId,
        /// The values.
        values: Vec<Presence>,
    },
    /// Everything that was there when we subscribed was delivered; what follows happens now.
    CaughtUp {
        /// Which space.
        space: SpaceId,
    },
    /// Documents of a space that we list. Note them durably before the delivery that follows: it moves the cursor.
    Listed {
        /// Which space.
        space: SpaceId,
        /// The documents.
        documents: Vec<Listed>,
        /// Whether this is the first part of a list of all documents of the space, not of what changed.
        is_whole: bool,
    },
    /// These documents are here as the relay has them, and their changes come from now on.
    Opened {
        /// In which space.
        space: SpaceId,
        /// Which documents, and whether the relay has anything of them.
        documents: Vec<(DocumentId, bool)>,
    },
    /// The relay does not give us a space. It is not subscribed to any more.
    Denied {
        /// Which space.
        space: SpaceId,
        /// Why.
        code: Code,
        /// Why, for people.
        text: String,
    },
    /// Something that the relay sent was not taken; worth a line in the log and nothing more.
    Refused {
        /// In which space.
        space: SpaceId,
        /// Of which document.
        document: DocumentId,
        /// Why.
        reason: String,
    },
    /// The relay says that something is wrong.
    PeerError {
        /// What.
        error: ErrorMessage,
    },
    /// Send what is queued, then close.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// Why, for the log and the close frame.
        reason: String,
    },
}

/// Something to make durable in **one** transaction: accept the changes, bury the deleted documents, acknowledge the own
/// ones, put the cursor. Then call [`ClientSession::handle_applied`]. Deliveries of a space are to be applied in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// By which it is told of again.
    pub id: u64,
    /// Of which space.
    pub space: SpaceId,
    /// The changes, by document, each behind those it stands on. A document that is new here belongs into the space.
    pub changes: Vec<(DocumentId, Vec<CheckedChange>)>,
    /// Documents that were deleted everywhere, to be buried after the changes, and noted as told to this relay
    /// ([`crate::ledger::tombstone::acknowledge`]). A time of 0 is not known.
    pub deletions: Vec<(DocumentId, Tombstone)>,
    /// Those of the changes that wait in our outbox, with their positions in the relay's log: acknowledged herewith. One that
    /// is not here any more, because its document was deleted meanwhile, is passed over.
    pub own: Vec<(DocumentId, ChangeHash, u64)>,
    /// Where to resume once this is durable; `None` if that does not move.
    pub cursor: Option<Cursor>,
    /// How many bytes the relay gets as credit once this is applied.
    pub bytes: u64,
}

/// What became of a delivery's changes.
#[derive(Debug, Default)]
pub struct Applied {
    /// By document, in their order.
    pub results: Vec<(DocumentId, Vec<(CheckedChange, Appended)>)>,
}

/// How far a connection is. Totals are the relay's estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents that came so far.
    pub documents_done: u64,
    /// Documents that had something to come when we subscribed.
    pub documents_total: u64,
    /// Bytes of messages that were applied so far.
    pub bytes_done: u64,
    /// Bytes that were to come when we subscribed.
    pub bytes_total: u64,
    /// Whether every space that is subscribed to is here up to now, durably.
    pub is_caught_up: bool,
    /// How many pushes wait for their answer.
    pub batches_in_flight: usize,
}

/// How far the handshake is.
#[derive(Debug)]
enum Phase {
    /// Hello is said.
    Hello,
    /// The relay answered it.
    Welcomed(Welcome),
    /// It is over.
    Closed,
}

/// One connection to a relay that speaks `rejoin.v1`.
#[derive(Debug)]
pub struct ClientSession {
    identity: ClientIdentity,
    phase: Phase,
    /// What the relay may still send, in bytes; below 0 after a long message.
    granted: i64,
    /// What was worked off and not given back yet.
    worked_off: u64,
    /// Whether cursors are held back.
    are_cursors_held: bool,
    /// Whether one was said since that was asked last.
    has_said_cursor: bool,
    /// What we may still send, in bytes.
    credit: i64,
    spaces: Spaces,
    intake: Intake,
    pushes: Pushes,
    opens: Opens,
    presence: PresenceQueue,
    /// Whether a snapshot could not be taken: the next connection is better made without them.
    is_snapshot_refused: bool,
    /// How many tokens were shown that the relay did not answer.
    renewals: usize,
    outputs: VecDeque<ClientOutput>,
}

impl ClientSession {
    /// Begins a session. Its first output is `hello`.
    pub fn new(identity: ClientIdentity) -> Self {
        let hello = ClientMessage::Hello(Hello {
            lowest: VERSION,
            highest: VERSION,
            peer: identity.peer.clone(),
            storage: identity.storage,
            takes_snapshots: identity.takes_snapshots,
            token: identity.token.clone(),
            credit: CREDIT_BYTES,
            subscriptions: Vec::new(),
        });
        Self {
            identity,
            phase: Phase::Hello,
            granted: i64::try_from(CREDIT_BYTES).unwrap_or(i64::MAX),
            worked_off: 0,
            are_cursors_held: false,
            has_said_cursor: false,
            credit: 0,
            spaces: Spaces::default(),
            intake: Intake::default(),
            pushes: Pushes::default(),
            opens: Opens::default(),
            presence: PresenceQueue::default(),
            is_snapshot_refused: false,
            renewals: 0,
            outputs: VecDeque::from([ClientOutput::Send(hello.encode())]),
        }
    }

    /// Takes a binary WebSocket message. Cost: one pass over it, and a few lookups for each change.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read; the session is of no use then.
    pub fn handle_frame(&mut self, frame: &Bytes, tx: &dyn ReadTx) -> Result<(), StoreError> {
        if self.is_closed() {
            return Ok(());
        }
        let message = match RelayMessage::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                self.handle_unreadable(&error);
                return Ok(());
            }
        };
        let bytes = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        if message.costs_credit() && !self.take_granted(bytes) {
            self.close_for(Code::CreditOverrun, "the relay sent more than it was granted");
            return Ok(());
        }
        match (&self.phase, message) {
            (Phase::Hello, RelayMessage::Welcome(welcome)) => self.handle_welcome(welcome),
            (_, RelayMessage::Error(error)) => self.handle_error(error, tx)?,
            (Phase::Welcomed(_), message) => self.handle_message(message, bytes, tx)?,
            (_, message) => {
                self.close_for(Code::Unexpected, &format!("the relay's first message is {}", message.name()));
            }
        }
        Ok(())
    }

    /// Takes note of a text WebSocket message: there are none in this protocol.
    pub fn handle_text(&mut self) {
        self.close_silently(CLOSE_UNSUPPORTED, "the relay sent a text message");
    }

    /// Follows a space from now on, or differently. May be called before the relay answered.
    pub fn subscribe(&mut self, space: SpaceId, mode: Mode, start: Start) {
        self.drop_queue(&space);
        self.opens.forget_space(&space);
        self.spaces.want(space, mode, start);
        self.send_subscriptions();
    }

    /// Follows a space no more. What was delivered and not applied yet may still be applied.
    pub fn unsubscribe(&mut self, space: SpaceId) {
        self.drop_queue(&space);
        self.opens.forget_space(&space);
        if self.spaces.leave(&space) {
            self.send(&ClientMessage::Unsubscribe { spaces: vec![space] });
        }
    }

    /// Wants the body of a document, and its changes from now on, in a space that is followed document by document. What is here
    /// of it is read when the message is made. Tells whether it was not wanted before.
    pub fn open(&mut self, space: SpaceId, document: DocumentId) -> bool {
        self.opens.open(space, document)
    }

    /// Wants no more changes of a document that it opened.
    pub fn close(&mut self, space: SpaceId, document: DocumentId) {
        self.opens.close(space, document);
    }

    /// Takes note that something waits for the relay in a document's outbox, or that its history was unfolded.
    pub fn handle_changed(&mut self, document: DocumentId) {
        self.pushes.changed(document);
    }

    /// Passes on what came from elsewhere: pushes whatever is above these heads, which were here before it, the outbox's and others'
    /// changes alike. `None` if nothing was here.
    pub fn offer(&mut self, document: DocumentId, their_heads: Option<Vec<ChangeHash>>) {
        self.pushes.pass_on(document, their_heads.unwrap_or_default());
    }

    /// Takes note that a document was deleted everywhere here. Those that the relay was not told of before are found without
    /// this when the connection begins.
    pub fn handle_deleted(&mut self, document: DocumentId) {
        self.pushes.deleted(document);
    }

    /// Pushes nothing of a document until [`ClientSession::handle_retry`]: one of its changes was refused on an earlier
    /// connection, and the application has not decided yet. Call it before the relay answered.
    pub fn hold(&mut self, document: DocumentId) {
        self.pushes.hold(document, None);
    }

    /// Pushes a document's waiting changes again, those that were refused too.
    pub fn handle_retry(&mut self, document: DocumentId) {
        self.pushes.retry(document);
    }

    /// As [`ClientSession::handle_retry`], where there are other relays: what one of them took waits in the outbox no more, so
    /// everything is pushed from the first change on that this relay did not take. What it has, it says so.
    pub fn handle_resume(&mut self, document: DocumentId) {
        self.pushes.resume(document);
    }

    /// Sends ephemeral values as soon as the socket has room; the oldest of too many are dropped. The author is to be
    /// [`ClientIdentity::peer`].
    pub fn send_presence(&mut self, space: SpaceId, values: Vec<Presence>) {
        self.presence.push(space, values);
    }

    /// Shows the relay another token for the same principal, to go on when what the one before permits ends. Does nothing before
    /// the relay answered.
    pub fn renew(&mut self, token: Token) {
        if matches!(self.phase, Phase::Welcomed(_)) {
            self.renewals += 1;
            self.send(&ClientMessage::Renew { token });
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// Makes the next message to send, or returns `None` if there is nothing to say now. Take the outputs before it and after
    /// it: a change that this relay does not take is found when it is to be sent.
    ///
    /// Cost: at most about [`crate::limits::BATCH_BYTES`] read from the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn poll_transmit(&mut self, tx: &dyn ReadTx) -> Result<Option<Bytes>, StoreError> {
        let Phase::Welcomed(welcome) = &self.phase else { return Ok(None) };
        let limits = welcome.limits;
        self.settle_left(tx)?;
        if let Some(message) = self.next_control() {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_open(tx)? {
            return Ok(Some(message));
        }
        if let Some(message) = self.presence.next(limits.presence_bytes) {
            return Ok(Some(message.encode()));
        }
        if self.credit <= 0 {
            return Ok(None);
        }
        let message = match self.next_compare(tx)? {
            Some(message) => Some(message),
            None => self.next_push(&limits, tx)?,
        };
        if let Some(message) = &message {
            self.credit = self.credit.saturating_sub(i64::try_from(message.len()).unwrap_or(i64::MAX));
        }
        Ok(message)
    }

    /// Sets whether cursors are held back, so that a stream of changes is answered now and then and not one by one. When they are let
    /// go, each space's newest one is said: ask [`ClientSession::poll_transmit`] then. Default: no.
    pub fn hold_cursors(&mut self, are_held: bool) {
        self.are_cursors_held = are_held;
    }

    /// Says whether a cursor was said since this was asked last.
    #[must_use]
    pub fn take_said_cursor(&mut self) -> bool {
        std::mem::take(&mut self.has_said_cursor)
    }

    /// Tells how far the connection is. Cost: one visit a space.
    pub fn progress(&self) -> Progress {
        let mut progress = self.spaces.progress();
        progress.is_caught_up = progress.is_caught_up && matches!(self.phase, Phase::Welcomed(_));
        progress.batches_in_flight = self.pushes.batches_in_flight();
        progress
    }

    /// Tells whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Tells whether a snapshot could not be taken, which ended this session: the next one begins with
    /// [`ClientIdentity::takes_snapshots`] off, and gets that history as changes.
    pub fn is_snapshot_refused(&self) -> bool {
        self.is_snapshot_refused
    }

    /// Returns the relay's store and the life of its logs, once it answered.
    pub fn relay(&self) -> Option<(StorageId, Epoch)> {
        match &self.phase {
            Phase::Welcomed(welcome) => Some((welcome.storage, welcome.epoch)),
            _ => None,
        }
    }

    fn epoch(&self) -> Epoch {
        self.relay().map_or(Epoch::from_bytes([0; 16]), |(_, epoch)| epoch)
    }

    fn handle_welcome(&mut self, welcome: Welcome) {
        let (relay, epoch, seconds) = (welcome.storage, welcome.epoch, welcome.permit_seconds);
        self.credit = i64::try_from(welcome.credit).unwrap_or(i64::MAX);
        self.phase = Phase::Welcomed(welcome);
        self.pushes.begin();
        self.outputs.push_back(ClientOutput::Welcomed { relay, epoch });
        if seconds > 0 {
            self.outputs.push_back(ClientOutput::Permitted { seconds });
        }
        self.send_subscriptions();
    }

    fn handle_message(&mut self, message: RelayMessage, bytes: u64, tx: &dyn ReadTx) -> Result<(), StoreError> {
        match message {
            RelayMessage::Subscribed { space, access, is_compared, after, end, documents, bytes } => {
                let answer = space::Answer { access, is_compared, after, end, documents, bytes };
                self.handle_subscribed(space, answer);
            }
            RelayMessage::Entries { space, first, entries } => self.handle_entries(space, first, entries, bytes, tx)?,
            RelayMessage::CaughtUp { space, position } => self.handle_caught_up(space, position, tx)?,
            RelayMessage::Ack { batch, results } => self.handle_ack(batch, results, tx)?,
            RelayMessage::Fill { space, writes } => self.handle_fill(space, writes, bytes, tx)?,
            RelayMessage::Snapshot { space, document, position: _, heads, chunk } => {
                self.handle_snapshot(space, document, heads, chunk, bytes, tx)?;
            }
            RelayMessage::Lacking { space, documents, is_last } => {
                self.handle_lacking(space, documents, is_last, bytes);
            }
            RelayMessage::Opened { space, position: _, documents } => self.handle_opened(space, documents, bytes),
            RelayMessage::Listing { space, position, documents } => {
                self.handle_listing(space, position, documents, bytes);
            }
            RelayMessage::Credit { bytes } => self.handle_credit(bytes),
            RelayMessage::Presence { space, values } if self.spaces.is_live(&space) => {
                self.outputs.push_back(ClientOutput::Presence { space, values });
            }
            RelayMessage::Seen { space, storage, position } => self.handle_seen(space, storage, position),
            RelayMessage::Hint { space, end } => self.spaces.hint(&space, end),
            RelayMessage::Renewed { seconds } if self.renewals > 0 => {
                self.renewals -= 1;
                self.outputs.push_back(ClientOutput::Permitted { seconds });
            }
            RelayMessage::Renewed { .. } => self.close_for(Code::Unexpected, "the relay renews what nobody asked for"),
            RelayMessage::Presence { .. } => {}
            RelayMessage::Welcome(_) | RelayMessage::Error(_) => {
                self.close_for(Code::Unexpected, "the relay says welcome twice");
            }
        }
        Ok(())
    }

    fn handle_credit(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        if self.credit > i64::try_from(crate::limits::CREDIT_BYTES_MAX).unwrap_or(i64::MAX) {
            self.close_for(Code::CreditOverrun, "the relay grants more than may be granted");
        }
    }

    fn handle_seen(&mut self, space: SpaceId, storage: StorageId, position: u64) {
        // What we have ourselves says nothing about others.
        if self.spaces.is_live(&space) && self.identity.storage != Some(storage) {
            let epoch = self.epoch();
            self.outputs.push_back(ClientOutput::Seen { space, epoch, storage, position });
        }
    }

    fn handle_error(&mut self, error: ErrorMessage, tx: &dyn ReadTx) -> Result<(), StoreError> {
        if error.is_fatal {
            let (code, reason) = (error.code.close_code(), format!("the relay closes: {}", error.text));
            self.outputs.push_back(ClientOutput::PeerError { error });
            self.close_silently(code, &reason);
            return Ok(());
        }
        match error.about {
            About::Batch(batch) => {
                let reject = Reject { code: error.code, text: error.text.clone() };
                self.handle_batch_error(batch, &reject, tx)?;
            }
            About::Space(space) => {
                // Too many may also be said of documents, which takes no subscription away.
                let denies = matches!(error.code, Code::Forbidden | Code::SpaceUnknown)
                    || (error.code == Code::TooMany && self.spaces.is_awaited(&space));
                if denies && self.spaces.deny(&space) {
                    self.drop_queue(&space);
                    self.opens.forget_space(&space);
                    let (code, text) = (error.code, error.text.clone());
                    self.outputs.push_back(ClientOutput::Denied { space, code, text });
                }
            }
            About::Connection if error.code == Code::Unauthenticated && self.renewals > 0 => {
                self.renewals -= 1;
                self.outputs.push_back(ClientOutput::RenewalRefused { text: error.text });
                return Ok(());
            }
            About::Document(..) | About::Connection => {}
        }
        self.outputs.push_back(ClientOutput::PeerError { error });
        Ok(())
    }

    fn handle_unreadable(&mut self, error: &DecodeError) {
        if error.is_fatal() {
            let message = ErrorMessage::from(error);
            self.send(&ClientMessage::Error(message));
            self.close_silently(error.code().close_code(), &format!("failed to read a message: {error}"));
        }
    }

    /// Takes a message's bytes off what the relay may send, and tells whether it might.
    fn take_granted(&mut self, bytes: u64) -> bool {
        let may = self.granted > 0;
        self.granted = self.granted.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        may
    }

    /// Returns what goes before everything else: credit, and how far we are.
    fn next_control(&mut self) -> Option<Bytes> {
        if self.worked_off >= CREDIT_BYTES / 2 {
            let bytes = std::mem::take(&mut self.worked_off);
            self.granted = self.granted.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
            return Some(ClientMessage::Credit { bytes }.encode());
        }
        if self.are_cursors_held {
            return None;
        }
        let (space, position) = self.spaces.next_cursor()?;
        self.has_said_cursor = true;
        Some(ClientMessage::Cursor { space, position }.encode())
    }

    /// Says what is subscribed to and was not said yet.
    fn send_subscriptions(&mut self) {
        if matches!(self.phase, Phase::Welcomed(_)) {
            for subscriptions in self.spaces.take_unsaid() {
                self.send(&ClientMessage::Subscribe { subscriptions });
            }
        }
    }

    fn send(&mut self, message: &ClientMessage) {
        if !self.is_closed() {
            self.outputs.push_back(ClientOutput::Send(message.encode()));
        }
    }

    /// Tells the relay what it did wrong and ends the session.
    fn close_for(&mut self, code: Code, text: &str) {
        let error = ErrorMessage { code, text: text.to_owned(), is_fatal: true, about: About::Connection };
        self.send(&ClientMessage::Error(error));
        self.close_silently(code.close_code(), text);
    }

    fn close_silently(&mut self, code: u16, reason: &str) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.outputs.push_back(ClientOutput::Close { code, reason: reason.to_owned() });
        }
    }
}
