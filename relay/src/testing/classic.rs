//! A connection of the classic protocol, as [`crate::connection`] drives one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rejoin::DocumentId;
use rejoin::deletion::Tombstone;
use rejoin::gate::CheckedChange;
use rejoin::ledger;
use rejoin::store::StoreError;
use rejoin::sync::WholeDocuments;
use rejoin::sync::classic::{ClassicSession, Output, Role};

use super::{Offer, Offers, Parts, Sent, take_sent};
use crate::auth::Permit;
use crate::glance::Glance;
use crate::hub::Member;
use crate::limits::SEND_BATCH_BYTES;
use crate::log::{AppendError, Author, Log, Results};
use crate::metrics::Protocol;
use crate::outbound::Outbound;

/// What a connection waits for: one thing after the other.
enum UnderWay {
    Append(DocumentId, BoxFuture<'static, Result<Results, AppendError>>),
    Delete(DocumentId, Tombstone, BoxFuture<'static, Result<(), AppendError>>),
}

/// A connection of the classic protocol. Call [`Classic::advance`] after everything that happened to it or to its relay.
pub struct Classic {
    parts: Arc<Parts>,
    session: ClassicSession,
    permit: Permit,
    member: Member,
    outbound: Outbound,
    under_way: Option<UnderWay>,
    appends: VecDeque<(DocumentId, Vec<CheckedChange>)>,
    deletions: VecDeque<(DocumentId, Tombstone)>,
    /// What has to wait for the appends before it.
    waiting: VecDeque<Output>,
    may_transmit: bool,
    offers: Offers,
}

impl Classic {
    pub(super) fn new(parts: Arc<Parts>, permit: Permit) -> Self {
        let mut session = ClassicSession::new(Role::Server, parts.classic.clone());
        session.set_whole_documents(WholeDocuments::Refused);
        session.set_rights(parts.allowed(&permit));
        Self {
            session,
            permit,
            member: parts.hub.enter(),
            outbound: Outbound::new(Arc::clone(&parts.metrics), Protocol::Classic),
            under_way: None,
            appends: VecDeque::new(),
            deletions: VecDeque::new(),
            waiting: VecDeque::new(),
            may_transmit: false,
            offers: Offers::new(),
            parts,
        }
    }

    /// Says whether frames are read from the socket: not before the earlier ones are dealt with.
    pub fn is_listening(&self) -> bool {
        let is_done = self.under_way.is_none() && self.appends.is_empty() && self.deletions.is_empty();
        is_done && !self.outbound.is_full() && !self.outbound.is_closing()
    }

    /// Takes in a binary frame.
    pub fn receive(&mut self, frame: &Bytes) {
        self.may_transmit = true;
        let taken = self.session.handle_frame(frame, &Glance::new(&*self.parts.store));
        let taken = taken.and_then(|()| self.put_aside());
        self.heed(taken);
    }

    /// Does what there is to do.
    pub fn advance(&mut self) {
        let advanced = self.try_advance();
        self.heed(advanced);
    }

    /// Takes the next message for the socket.
    pub fn send(&mut self) -> Option<Sent> {
        let sent = take_sent(&mut self.outbound);
        self.advance();
        sent
    }

    /// Says how many bytes wait for the socket.
    pub fn waiting_bytes(&self) -> usize {
        self.outbound.queued_bytes()
    }

    /// Looks whether what the client was let in with is over: once in a while.
    pub fn look(&mut self) {
        if !self.parts.is_deaf && self.permit.check().is_err() && !self.outbound.is_closing() {
            self.outbound.close(1008, "the token is over");
        }
        self.advance();
    }

    /// Takes the oldest write that was let through.
    pub fn take_offer(&mut self) -> Option<Offer> {
        self.offers.pop_front()
    }

    fn heed(&mut self, outcome: Result<(), StoreError>) {
        if outcome.is_err() {
            self.fail("the relay failed to read its store");
        }
    }

    fn fail(&mut self, reason: &str) {
        self.may_transmit = false;
        self.outbound.close(1011, reason);
    }

    /// Takes what the session wants of a frame: the changes, and for later what has to come after them.
    fn put_aside(&mut self) -> Result<(), StoreError> {
        while let Some(output) = self.session.poll_output() {
            let comes_after = matches!(output, Output::Send(_) | Output::Close { .. } | Output::Delete { .. });
            if !self.waiting.is_empty() || comes_after {
                self.waiting.push_back(output);
            } else {
                self.perform(output)?;
            }
        }
        Ok(())
    }

    fn try_advance(&mut self) -> Result<(), StoreError> {
        self.parts.hub.tell_held();
        let (changed, _) = self.member.mailbox().take_changed();
        for document in changed.into_iter().collect::<BTreeSet<_>>() {
            self.session.handle_changed(document, &*self.parts.store)?;
            self.may_transmit = true;
        }
        loop {
            self.carry_out()?;
            self.begin();
            if !self.finish()? {
                break;
            }
        }
        let appends = matches!(self.under_way, Some(UnderWay::Append(..)));
        if self.may_transmit && !appends && self.outbound.has_room() {
            self.transmit()?;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), StoreError> {
        loop {
            while let Some(output) = self.session.poll_output() {
                self.perform(output)?;
            }
            if self.under_way.is_some() || !self.appends.is_empty() {
                return Ok(());
            }
            let Some(output) = self.waiting.pop_front() else { return Ok(()) };
            self.perform(output)?;
        }
    }

    fn begin(&mut self) {
        if self.under_way.is_some() || self.outbound.is_closing() {
            return;
        }
        let (principal, permit) = (self.permit.principal().cloned(), Some(self.permit.clone()));
        let author = Author { connection: self.member.id(), principal, permit };
        if let Some((document, changes)) = self.appends.pop_front() {
            self.under_way = Some(UnderWay::Append(document, self.parts.log.append(author, document, changes)));
        } else if let Some((document, tombstone)) = self.deletions.pop_front() {
            let deleting = self.parts.log.delete(author, document, tombstone.clone());
            self.under_way = Some(UnderWay::Delete(document, tombstone, deleting));
        }
    }

    /// Takes the answer to what is under way, if it is there.
    fn finish(&mut self) -> Result<bool, StoreError> {
        match &mut self.under_way {
            None => return Ok(false),
            Some(UnderWay::Append(document, appending)) => {
                let document = *document;
                let Some(answer) = appending.now_or_never() else { return Ok(false) };
                self.under_way = None;
                match answer {
                    Ok(Results { appended, owned, full }) => {
                        self.may_transmit = true;
                        for refused in [owned, full].iter().filter(|refused| !refused.is_empty()) {
                            self.session.refuse(&document, refused);
                        }
                        self.session.handle_appended(document, appended, &*self.parts.store.read()?)?;
                    }
                    Err(_) => self.fail("the relay failed to store a change"),
                }
            }
            Some(UnderWay::Delete(document, tombstone, deleting)) => {
                let (document, tombstone) = (*document, tombstone.clone());
                let Some(answer) = deleting.now_or_never() else { return Ok(false) };
                self.under_way = None;
                match answer {
                    Ok(()) => self.session.handle_deleted(document, &tombstone),
                    Err(_) => self.fail("the relay failed to delete a document"),
                }
                self.may_transmit = true;
            }
        }
        Ok(true)
    }

    fn perform(&mut self, output: Output) -> Result<(), StoreError> {
        match output {
            Output::Send(frame) => self.outbound.push(frame),
            Output::Delete { document, tombstone } => {
                self.offer(document, None);
                self.deletions.push_back((document, tombstone));
            }
            Output::Subscribe { document } => {
                self.member.subscribe(document);
                if ledger::state(&*self.parts.store.read()?, &document)?.is_some() {
                    self.session.handle_heads_changed(document);
                    self.may_transmit = true;
                }
                self.session.set_whole_documents_of(&document, WholeDocuments::Refused);
            }
            Output::Append { document, changes } => {
                changes.iter().for_each(|change| self.offer(document, Some(change.hash())));
                match self.appends.iter_mut().rev().find(|(waiting, _)| *waiting == document) {
                    Some((_, waiting)) => waiting.extend(changes),
                    None => self.appends.push_back((document, changes)),
                }
            }
            Output::Snapshot { document, .. } => self.appends.push_back((document, Vec::new())),
            Output::Close { code, reason } => self.outbound.close(code, &reason),
            _ => {}
        }
        Ok(())
    }

    fn offer(&mut self, document: DocumentId, change: Option<rejoin::ChangeHash>) {
        let principal = self.permit.principal().cloned();
        self.offers.push_back(Offer { document, change, space: None, principal });
    }

    fn transmit(&mut self) -> Result<(), StoreError> {
        let tx = Glance::new(&*self.parts.store);
        let mut bytes = 0;
        while bytes < SEND_BATCH_BYTES {
            let Some(frame) = self.session.poll_transmit_from(self.parts.hub.recent(), &tx)? else {
                self.may_transmit = false;
                break;
            };
            bytes += frame.len();
            self.outbound.push(frame);
        }
        Ok(())
    }
}
