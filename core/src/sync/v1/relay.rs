//! The relay's side of `rejoin.v1`: one connection.
//!
//! # The driving contract
//!
//! As [`crate::sync`] says, with these additions:
//!
//! - Take every output before each [`RelaySession::poll_transmit`], and put its message behind theirs: an `ack` is to be sent
//!   before the entries that follow the positions it tells.
//! - Hand in [`RelaySession::handle_appended`] before [`RelaySession::handle_end_changed`] of the same commit, or the client gets
//!   its own writes back.
//! - Stop reading from the socket while [`RelaySession::wants_frames`] says no, or while what is to be sent does not leave.
//! - Hand in no end before it can be read: a transaction that is older than the end makes a session say nothing until it is
//!   asked again.
//! - Of documents that are opened where nothing else is told ([`RelayOutput::OpenDocuments`]) every commit is to be told that
//!   the next transaction may not show: take part in them first, then begin it. And tell of a change only what the next
//!   transaction shows.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::credit::{Giving, Spending};
use crate::codec::v1::{
    About, ClientMessage, Code, ErrorMessage, Outcome, RelayMessage, Subscription, VERSION, Welcome,
};
use crate::id::{DocumentId, PeerId, SpaceId, StorageId};
use crate::limits::{OPEN_DOCUMENTS_MAX, OUTPUTS_WAITING_MAX, SUBSCRIPTIONS_MAX, V1_NUMBER_MAX};
use crate::store::{ReadTx, StoreError};

mod chosen;
mod comparing;
mod filling;
mod following;
mod hear;
mod listing;
mod mail;
mod output;
mod own;
mod pushes;
mod rights;
mod subscribe;
#[cfg(test)]
mod tests;

use following::{At, Following, Step};
use mail::Mail;
pub use output::{Grants, LiveFrame, LiveFrames, NoLiveFrames, Offered, OfferedWrite, RelayIdentity, RelayOutput};
use pushes::Pushes;
use rights::Rights;

/// WebSocket close code: a kind of message that is not spoken here.
const CLOSE_UNSUPPORTED: u16 = 1003;

/// How far a connection is.
enum Phase {
    /// Nothing was said.
    New,
    /// The driver is to decide whether this client comes in, and then answers these subscriptions.
    Asked(Vec<Subscription>),
    /// It may do what these say.
    Admitted(Box<dyn Grants>),
    /// Nothing is said or heard any more.
    Closed,
}

/// One connection of a client.
pub struct RelaySession {
    identity: RelayIdentity,
    phase: Phase,
    peer: Option<PeerId>,
    /// The client's store.
    storage: Option<StorageId>,
    takes_snapshots: bool,
    giving: Giving,
    spending: Spending,
    spaces: BTreeMap<SpaceId, Following>,
    /// Spaces with something to say, in the order in which it is their turn.
    queue: VecDeque<SpaceId>,
    /// Documents that are open in spaces of which nothing else is told, and in how many.
    chosen: BTreeMap<DocumentId, usize>,
    pushes: Pushes,
    mail: Mail,
    /// Whether it is the turn of what costs no credit.
    is_mail_next: bool,
    outputs: VecDeque<RelayOutput>,
    subscriptions_max: usize,
    open_documents_max: usize,
    /// How often the client asked for what is not there, in tenths.
    missed_tenths: u64,
}

impl RelaySession {
    /// Begins a session. It waits for the client's hello.
    pub fn new(identity: RelayIdentity) -> Self {
        Self {
            identity,
            phase: Phase::New,
            peer: None,
            storage: None,
            takes_snapshots: false,
            giving: Giving::new(identity.credit),
            spending: Spending::new(0),
            spaces: BTreeMap::new(),
            queue: VecDeque::new(),
            chosen: BTreeMap::new(),
            pushes: Pushes::new(identity.limits.change_bytes),
            mail: Mail::default(),
            is_mail_next: false,
            outputs: VecDeque::new(),
            subscriptions_max: SUBSCRIPTIONS_MAX,
            open_documents_max: OPEN_DOCUMENTS_MAX,
            missed_tenths: 0,
        }
    }

    /// Sets how many spaces the client may follow and how many documents it may have open, below what the protocol allows: that is
    /// the default.
    pub fn set_bounds(&mut self, subscriptions_max: usize, open_documents_max: usize) {
        self.subscriptions_max = subscriptions_max.min(SUBSCRIPTIONS_MAX);
        self.open_documents_max = open_documents_max.min(OPEN_DOCUMENTS_MAX);
    }

    /// Returns how often the client has asked, since this was last called, for a space or a document that is not there or not for
    /// it, in tenths: [`MISS_TENTHS`](crate::limits::MISS_TENTHS) each, and
    /// [`MISS_WITH_HEADS_TENTHS`](crate::limits::MISS_WITH_HEADS_TENTHS) for a document that it showed to have.
    pub fn take_missed_tenths(&mut self) -> u64 {
        std::mem::take(&mut self.missed_tenths)
    }

    /// Returns who the client is by its own word, once it said so.
    pub fn peer(&self) -> Option<&PeerId> {
        self.peer.as_ref()
    }

    /// Says whether the client subscribed to a space, in whatever mode.
    pub fn is_subscribed(&self, space: &SpaceId) -> bool {
        self.spaces.contains_key(space)
    }

    /// Says whether the session has ended; whatever is handed in then is dropped.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Says whether messages may be handed in. If not, read none until an output was taken or an append was answered.
    pub fn wants_frames(&self) -> bool {
        !self.is_closed() && !self.pushes.is_full() && self.outputs.len() < OUTPUTS_WAITING_MAX
    }

    /// Takes in a binary message.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read. Whatever the message holds is never an error: it becomes an output.
    pub fn handle_frame(&mut self, frame: &Bytes, tx: &dyn ReadTx) -> Result<(), StoreError> {
        if self.is_closed() {
            return Ok(());
        }
        let limit = self.identity.limits.frame_bytes;
        if frame.len() as u64 > limit {
            let text = format!("the message has {} bytes, this relay takes {limit}: send less at a time", frame.len());
            self.fail(Code::FrameLimit, text);
            return Ok(());
        }
        let message = match ClientMessage::decode(frame) {
            Ok(message) => message,
            // It is of a later version, which lets it be missed.
            Err(error) if !error.is_fatal() => return Ok(()),
            Err(error) => {
                self.fail(error.code(), error.to_string());
                return Ok(());
            }
        };
        if message.costs_credit() && !self.giving.take(frame.len()) {
            let text = format!("a {} without credit: wait for a credit message before the next", message.name());
            self.fail(Code::CreditOverrun, text);
            return Ok(());
        }
        match (&self.phase, message) {
            (_, ClientMessage::Error(ErrorMessage { code, text, is_fatal, .. })) => {
                self.outputs.push_back(RelayOutput::PeerError { code, text, is_fatal });
            }
            (Phase::New, ClientMessage::Hello(hello)) => self.greet(hello),
            (Phase::Admitted(_), ClientMessage::Hello(_)) => self.unexpected("a second hello: one connection has one"),
            (Phase::Admitted(_), message) => self.hear(message, frame, tx)?,
            (Phase::New, _) => self.unexpected("the first message has to be hello"),
            _ => self.unexpected("a message before the hello was answered: wait for welcome"),
        }
        Ok(())
    }

    /// Takes in a text message: there are none in this protocol.
    pub fn handle_text(&mut self) {
        let text = "text messages are not spoken here: send binary ones";
        self.end(Code::FrameInvalid, text.to_owned(), CLOSE_UNSUPPORTED);
    }

    /// Lets the client in whose hello was put out. `seconds` says after how many what it was let in with ends, 0 if it does not.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_admitted(
        &mut self,
        grants: Box<dyn Grants>,
        seconds: u64,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let Phase::Asked(subscriptions) = &mut self.phase else { return Ok(()) };
        let subscriptions = std::mem::take(subscriptions);
        self.phase = Phase::Admitted(grants);
        let RelayIdentity { storage, epoch, limits, credit } = self.identity;
        let credit = credit.min(crate::limits::CREDIT_BYTES_MAX);
        let permit_seconds = seconds.min(V1_NUMBER_MAX);
        let welcome = Welcome { version: VERSION, storage, epoch, limits, credit, permit_seconds };
        self.send(&RelayMessage::Welcome(welcome));
        self.subscribe(subscriptions, tx)
    }

    /// Turns the client away whose hello was put out, or ends the connection later.
    pub fn handle_refused(&mut self, code: Code, text: &str) {
        self.fail(code, text.to_owned());
    }

    /// Takes the rights that a [`RelayOutput::Renew`] brought in the place of those before. `seconds` is as in
    /// [`RelaySession::handle_admitted`].
    pub fn handle_renewed(&mut self, grants: Box<dyn Grants>, seconds: u64) {
        let Phase::Admitted(before) = &mut self.phase else { return };
        *before = grants;
        self.send(&RelayMessage::Renewed { seconds: seconds.min(V1_NUMBER_MAX) });
        self.handle_rights_changed();
    }

    /// Learns that the token of a [`RelayOutput::Renew`] is not good; what the client has is good until its end.
    pub fn handle_renewal_refused(&mut self, text: &str) {
        if matches!(self.phase, Phase::Admitted(_)) {
            self.warn(Code::Unauthenticated, text, About::Connection);
        }
    }

    /// Learns that the rights may be others by now: ends the subscriptions that they do not grant. Without it the client learns
    /// it when there would be something to say. Cost: a question for each space that is followed.
    pub fn handle_rights_changed(&mut self) {
        let is_lost = |(space, following): &(&SpaceId, &Following)| !self.may_follow(space, !following.reads_log());
        let lost: Vec<SpaceId> = self.spaces.iter().filter(is_lost).map(|(space, _)| *space).collect();
        for space in lost {
            let message = self.revoke(&space);
            self.outputs.push_back(RelayOutput::Send(message));
        }
        self.give_back();
    }

    /// Learns what became of the oldest [`RelayOutput::Append`] of a batch without an answer, after it was made durable: one
    /// outcome for each write.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_appended(&mut self, batch: u64, outcomes: Vec<Outcome>, tx: &dyn ReadTx) -> Result<(), StoreError> {
        self.pushes.handle_appended(batch, outcomes);
        self.work_on_pushes(tx)
    }

    /// Learns that nothing of the oldest [`RelayOutput::Append`] of a batch without an answer was stored, and why.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_append_failed(&mut self, batch: u64, code: Code, tx: &dyn ReadTx) -> Result<(), StoreError> {
        self.pushes.handle_failed(batch, code);
        self.work_on_pushes(tx)
    }

    /// Learns where the log of a space ends by now.
    pub fn handle_end_changed(&mut self, space: &SpaceId, end: u64) {
        if let Some(following) = self.spaces.get_mut(space).filter(|following| following.reads_log()) {
            following.tail.end = following.tail.end.max(end);
            self.wake(space);
        }
    }

    /// Learns that a document changed or was deleted that is open by [`RelayOutput::OpenDocuments`]. Several commits may be told
    /// at once. Cost: a look at each space that is followed.
    pub fn handle_document_changed(&mut self, document: &DocumentId) {
        if !self.chosen.contains_key(document) {
            return;
        }
        let mut woken = Vec::new();
        for (space, following) in &mut self.spaces {
            if let Some(news) = following.news() {
                news.change(document);
                if news.has_work() {
                    woken.push(*space);
                }
            }
        }
        woken.iter().for_each(|space| self.wake(space));
    }

    /// Learns that another device has everything up to a position durably.
    pub fn handle_seen(&mut self, space: &SpaceId, storage: StorageId, position: u64) {
        if self.spaces.contains_key(space) && self.storage != Some(storage) {
            self.mail.add_seen(*space, storage, position);
        }
    }

    /// Learns of ephemeral values of others: a whole `presence` message.
    pub fn handle_presence(&mut self, space: &SpaceId, frame: Bytes) {
        if self.spaces.contains_key(space) {
            self.mail.add_presence(*space, frame);
        }
    }

    /// Returns what the driver must do next.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<RelayOutput> {
        self.outputs.pop_front()
    }

    /// Makes the next message, if there is anything to say and credit for it. Ask again until there is none, as long as the
    /// socket has room.
    ///
    /// Spaces take turns. Cost: one message's bytes read, [`BATCH_BYTES`](crate::limits::BATCH_BYTES) and one change more.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read. Nothing is lost by it: the message is made the next time.
    pub fn poll_transmit(&mut self, tx: &dyn ReadTx, live: &dyn LiveFrames) -> Result<Option<Bytes>, StoreError> {
        let Phase::Admitted(grants) = &self.phase else { return Ok(None) };
        self.is_mail_next = !self.is_mail_next;
        if self.is_mail_next
            && let Some(message) = self.mail.pop(&**grants)
        {
            return Ok(Some(message));
        }
        for _ in 0..self.queue.len() {
            let Some(space) = self.queue.front().copied() else { break };
            let Some(following) = self.spaces.get_mut(&space) else {
                self.queue.pop_front();
                continue;
            };
            let rights = Rights::new(&**grants, &space);
            let may_follow = if following.reads_log() { rights.sees_all() } else { grants.knows(&space) };
            if !may_follow {
                return Ok(Some(self.revoke(&space)));
            }
            let (takes_snapshots, may_spend) = (self.takes_snapshots, self.spending.may_send());
            let step = following.step(&At { tx, live, space: &space, takes_snapshots, may_spend, rights })?;
            self.giving.work_off(following.take_done_bytes());
            self.missed_tenths += following.take_missed_tenths();
            self.queue.pop_front();
            following.is_queued = !matches!(step, Step::Idle);
            if following.is_queued {
                self.queue.push_back(space);
            }
            match step {
                Step::Costs(message) => {
                    self.spending.spend(message.len());
                    self.give_back();
                    return Ok(Some(message));
                }
                Step::Free(message) => return Ok(Some(message)),
                Step::Later | Step::Idle => {}
            }
        }
        let message = self.mail.pop(&**grants);
        self.give_back();
        Ok(message)
    }
}
