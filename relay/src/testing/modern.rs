//! A connection of `rejoin.v1`, as [`crate::v1`] drives one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use rejoin::codec::v1::Code;
use rejoin::ledger::log;
use rejoin::store::StoreError;
use rejoin::sync::v1::{OfferedWrite, RelayOutput, RelaySession};

use super::{Offer, Offers, Parts, Sent, take_sent};
use crate::auth::Permit;
use crate::followers::{Follower, News};
use crate::glance::Glance;
use crate::limits::SEND_BATCH_BYTES;
use crate::log::{AppendError, Author};
use crate::metrics::Protocol;
use crate::outbound::Outbound;
use crate::v1::pushes::{Answer, Pushes};

/// A connection of `rejoin.v1`. Call [`Modern::advance`] after everything that happened to it or to its relay.
pub struct Modern {
    parts: Arc<Parts>,
    session: RelaySession,
    permit: Option<Permit>,
    follower: Follower,
    outbound: Outbound,
    pushes: Pushes,
    may_transmit: bool,
    offers: Offers,
}

impl Modern {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self {
            session: RelaySession::new(parts.v1),
            permit: None,
            follower: Follower::new(&parts.hub),
            outbound: Outbound::new(Arc::clone(&parts.metrics), Protocol::V1),
            pushes: Pushes::new(Arc::clone(&parts.log) as _),
            may_transmit: false,
            offers: Offers::new(),
            parts,
        }
    }

    /// Says whether frames are read from the socket.
    pub fn is_listening(&self) -> bool {
        !self.outbound.is_full() && !self.outbound.is_closing() && self.session.wants_frames()
    }

    /// Takes in a binary frame.
    pub fn receive(&mut self, frame: &Bytes) {
        self.may_transmit = true;
        let taken = self.session.handle_frame(frame, &Glance::new(&*self.parts.store));
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
        // There is room again.
        self.advance();
        sent
    }

    /// Says how many bytes wait for the socket.
    pub fn waiting_bytes(&self) -> usize {
        self.outbound.queued_bytes()
    }

    /// Looks whether what the client was let in with is over, and whether it may less: once in a while.
    pub fn look(&mut self) {
        if self.parts.is_deaf {
            return;
        }
        if self.permit.as_ref().is_some_and(|permit| permit.check().is_err()) {
            self.session.handle_refused(Code::Unauthenticated, "the token is over");
        }
        self.session.handle_rights_changed();
        self.advance();
    }

    /// Takes the oldest write that was let through.
    pub fn take_offer(&mut self) -> Option<Offer> {
        self.offers.pop_front()
    }

    fn heed(&mut self, outcome: Result<(), StoreError>) {
        if outcome.is_err() {
            self.may_transmit = false;
            self.outbound.close(Code::Internal.close_code(), "the relay failed to read its store");
        }
    }

    fn try_advance(&mut self) -> Result<(), StoreError> {
        self.hear_news()?;
        self.carry_out()?;
        while let Some(answer) = self.pushes.answered().now_or_never() {
            self.answered(answer)?;
        }
        if self.may_transmit && self.outbound.has_room() {
            self.transmit()?;
        }
        Ok(())
    }

    fn hear_news(&mut self) -> Result<(), StoreError> {
        self.parts.hub.tell_held();
        let News { ends, changed, .. } = self.follower.inbox().take_news();
        // Who pushed is answered before the followers are told.
        while let Some(answer) = self.pushes.answered().now_or_never() {
            self.answered(answer)?;
        }
        let seen = self.follower.inbox().take_seen();
        self.may_transmit |= !ends.is_empty() || !seen.is_empty() || !changed.is_empty();
        for document in changed.into_iter().collect::<BTreeSet<_>>() {
            self.session.handle_document_changed(&document);
        }
        for (space, end) in ends.into_iter().collect::<BTreeMap<_, _>>() {
            self.session.handle_end_changed(&space, end);
        }
        for ((space, storage), position) in seen.into_iter().collect::<BTreeMap<_, _>>() {
            self.session.handle_seen(&space, storage, position);
        }
        Ok(())
    }

    fn answered(&mut self, (batch, _, answer): Answer) -> Result<(), StoreError> {
        self.may_transmit = true;
        self.carry_out()?;
        let store = &*self.parts.store;
        match answer {
            Ok(outcomes) => self.session.handle_appended(batch, outcomes, &Glance::new(store))?,
            Err(error) => {
                let code = if error == AppendError::Stopped { Code::GoingAway } else { Code::NotStored };
                self.session.handle_append_failed(batch, code, &Glance::new(store))?;
            }
        }
        self.carry_out()
    }

    fn carry_out(&mut self) -> Result<(), StoreError> {
        while let Some(output) = self.session.poll_output() {
            self.perform(output)?;
        }
        Ok(())
    }

    fn perform(&mut self, output: RelayOutput) -> Result<(), StoreError> {
        match output {
            RelayOutput::Send(frame) => self.outbound.push(frame),
            RelayOutput::Hello { token, .. } => match self.parts.directory.admit(Some(token.as_str())) {
                Ok(permit) => {
                    let grants = self.parts.allowed(&permit);
                    self.permit = Some(permit);
                    self.session.handle_admitted(grants, 0, &Glance::new(&*self.parts.store))?;
                    self.may_transmit = true;
                }
                Err(_) => self.session.handle_refused(Code::Unauthenticated, "connect with a good token"),
            },
            RelayOutput::Follow { space } => {
                self.follower.follow(space);
                let end = log::end(&*self.parts.store.read()?, &space)?;
                self.session.handle_end_changed(&space, end);
                for (storage, position) in self.parts.hub.followers().furthest(&space) {
                    self.session.handle_seen(&space, storage, position);
                }
                self.may_transmit = true;
            }
            RelayOutput::Unfollow { space } => self.follower.unfollow(&space),
            RelayOutput::OpenDocuments { documents } => self.follower.open(documents),
            RelayOutput::CloseDocuments { documents } => self.follower.close(&documents),
            RelayOutput::Append { batch, space, writes } => {
                let author = self.author();
                for write in &writes {
                    let (change, space) = match &write.what {
                        OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) => {
                            (Some(change.hash()), Some(space))
                        }
                        OfferedWrite::Deleted(_) => (None, Some(space)),
                        OfferedWrite::DeletedElsewhere(_) => (None, None),
                    };
                    let (document, principal) = (write.document, author.principal.clone());
                    self.offers.push_back(Offer { document, change, space, principal });
                }
                self.pushes.push(batch, Instant::now(), author, space, writes);
            }
            RelayOutput::Cursor { space, storage, position } => {
                self.parts.hub.followers().note_seen(&space, &storage, position, self.follower.id());
                self.parts.hub.followers().tell_seen();
            }
            RelayOutput::Close { code, reason } => self.outbound.close(code, &reason),
            _ => {}
        }
        Ok(())
    }

    fn author(&self) -> Author {
        let principal = self.permit.as_ref().and_then(Permit::principal).cloned();
        Author { connection: self.follower.id(), principal, permit: None }
    }

    fn transmit(&mut self) -> Result<(), StoreError> {
        let tx = Glance::new(&*self.parts.store);
        let mut bytes = 0;
        while bytes < SEND_BATCH_BYTES {
            let Some(frame) = self.session.poll_transmit(&tx, self.parts.hub.followers().live())? else {
                self.may_transmit = false;
                break;
            };
            bytes += frame.len();
            self.outbound.push(frame);
        }
        Ok(())
    }
}
