//! What a client says after it was let in, and what it is told of its mistakes.

use bytes::Bytes;

use super::following::{Following, Stage};
use super::rights::Rights;
use super::{OfferedWrite, Phase, RelayOutput, RelaySession};
use crate::codec::v1::{About, ClientMessage, Code, DocumentHeads, ErrorMessage, Hello, Presence, RelayMessage};
use crate::id::{DocumentId, SpaceId};
use crate::limits::OPEN_HEADS_MAX;
use crate::store::{ReadTx, StoreError};

use super::super::credit::Spending;

/// What a client is told that speaks of a space it does not follow.
const NOT_SUBSCRIBED: &str = "the space is not subscribed to on this connection: subscribe first";

impl RelaySession {
    pub(super) fn greet(&mut self, hello: Hello) {
        let Hello { peer, storage, takes_snapshots, token, credit, subscriptions, .. } = hello;
        self.spending = Spending::new(credit);
        (self.storage, self.takes_snapshots) = (storage, takes_snapshots);
        self.peer = Some(peer.clone());
        self.phase = Phase::Asked(subscriptions);
        self.outputs.push_back(RelayOutput::Hello { peer, storage, token });
    }

    /// Takes in a message of a client that was let in.
    pub(super) fn hear(&mut self, message: ClientMessage, frame: &Bytes, tx: &dyn ReadTx) -> Result<(), StoreError> {
        match message {
            ClientMessage::Subscribe { subscriptions } => return self.subscribe(subscriptions, tx),
            ClientMessage::Unsubscribe { spaces } => self.unsubscribe(&spaces),
            ClientMessage::Push { batch, space, writes } => {
                let limit = self.identity.limits.batch_entries;
                if writes.len() as u64 > limit {
                    let text =
                        format!("a push of {} writes, this relay takes {limit}: push less at a time", writes.len());
                    self.fail(Code::FrameLimit, text);
                    return Ok(());
                }
                match self.pushes.handle(batch, space, writes, frame.len() as u64) {
                    Ok(()) => self.work_on_pushes(tx)?,
                    Err(text) => self.unexpected(&text),
                }
            }
            ClientMessage::Cursor { space, position } => self.hear_cursor(space, position),
            ClientMessage::Compare { space, documents, is_last } => {
                self.hear_compare(&space, documents, is_last, frame.len() as u64);
            }
            ClientMessage::Open { space, documents } => self.hear_open(&space, documents),
            ClientMessage::Close { space, documents } => self.hear_close(&space, &documents),
            ClientMessage::Credit { bytes } => self.hear_credit(bytes),
            ClientMessage::Presence { space, values } => self.hear_presence(space, values, frame, tx)?,
            ClientMessage::Renew { token } => self.outputs.push_back(RelayOutput::Renew { token }),
            // These were dealt with before.
            ClientMessage::Hello(_) | ClientMessage::Error(_) => {}
        }
        Ok(())
    }

    fn hear_credit(&mut self, bytes: u64) {
        if !self.spending.add(bytes) {
            let text = "more credit than a side may have at once: give back only what was worked off";
            self.fail(Code::CreditOverrun, text.to_owned());
            return;
        }
        self.spaces.values_mut().for_each(Following::unblock);
    }

    fn hear_cursor(&mut self, space: SpaceId, position: u64) {
        let may_tell = self.access(&space).is_some();
        let Some(following) = self.spaces.get_mut(&space) else {
            self.warn(Code::NotSubscribed, NOT_SUBSCRIBED, About::Space(space));
            return;
        };
        let told = following.told();
        if position > told {
            let text =
                format!("the cursor is at {position}, this connection told up to {told}: subscribe by comparing");
            self.fail(Code::CursorAhead, text);
            return;
        }
        if position > following.cursor {
            following.cursor = position;
            if let Some(storage) = self.storage.filter(|_| may_tell) {
                self.outputs.push_back(RelayOutput::Cursor { space, storage, position });
            }
        }
    }

    fn hear_compare(&mut self, space: &SpaceId, documents: Vec<DocumentHeads>, is_last: bool, bytes: u64) {
        let Some(following) = self.spaces.get_mut(space) else {
            self.giving.work_off(bytes);
            self.give_back();
            self.warn(Code::NotSubscribed, NOT_SUBSCRIBED, About::Space(*space));
            return;
        };
        if let Err(text) = following.handle_compare(documents, is_last, bytes) {
            self.unexpected(text);
            return;
        }
        self.giving.work_off(following.take_done_bytes());
        self.wake(space);
        self.give_back();
    }

    fn hear_open(&mut self, space: &SpaceId, documents: Vec<DocumentHeads>) {
        let (mut open, mut heads) =
            (documents.len(), documents.iter().map(|document| document.heads.len()).sum::<usize>());
        for following in self.spaces.values() {
            if let Stage::Listing(listing) = &following.stage {
                open += listing.open_count();
                heads += listing.queued_heads();
            }
        }
        let Some(following) = self.spaces.get_mut(space) else {
            self.warn(Code::NotSubscribed, NOT_SUBSCRIBED, About::Space(*space));
            return;
        };
        let Stage::Listing(listing) = &mut following.stage else {
            self.unexpected(
                "an open in a space of which everything comes: subscribe to it as a listing to open documents",
            );
            return;
        };
        let open_max = self.open_documents_max;
        if open > open_max || heads > OPEN_HEADS_MAX {
            let text = format!(
                "none of these documents is opened: {open_max} may be open on a connection, and {OPEN_HEADS_MAX} \
                 heads of them wait: close some, or wait for opened"
            );
            self.warn(Code::TooMany, &text, About::Space(*space));
            return;
        }
        let is_chosen = listing.is_chosen();
        let fresh = listing.open(documents);
        if is_chosen {
            self.note_open(fresh);
        }
        self.wake(space);
    }

    /// Notes documents of which the driver is to tell. The same id may be open in several spaces.
    fn note_open(&mut self, mut documents: Vec<DocumentId>) {
        documents.retain(|document| {
            let count = self.chosen.entry(*document).or_insert(0);
            *count += 1;
            *count == 1
        });
        if !documents.is_empty() {
            self.outputs.push_back(RelayOutput::OpenDocuments { documents });
        }
    }

    /// Notes documents of which the driver is to tell no more, unless they are open in another space.
    pub(super) fn forget_open(&mut self, mut documents: Vec<DocumentId>) {
        documents.retain(|document| match self.chosen.get_mut(document) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => self.chosen.remove(document).is_some(),
        });
        if !documents.is_empty() {
            self.outputs.push_back(RelayOutput::CloseDocuments { documents });
        }
    }

    fn hear_close(&mut self, space: &SpaceId, documents: &[DocumentId]) {
        match self.spaces.get_mut(space).map(|following| &mut following.stage) {
            Some(Stage::Listing(listing)) => {
                let closed = documents.iter().copied().filter(|document| listing.close(document)).collect();
                if listing.is_chosen() {
                    self.forget_open(closed);
                }
            }
            Some(_) => self.unexpected("a close in a space of which everything comes: nothing is open there"),
            None => self.warn(Code::NotSubscribed, NOT_SUBSCRIBED, About::Space(*space)),
        }
    }

    fn hear_presence(
        &mut self,
        space: SpaceId,
        values: Vec<Presence>,
        frame: &Bytes,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let is_followed = self.spaces.get(&space).is_some_and(|following| {
            // What was subscribed to and may not be read any more is as good as not subscribed to.
            self.may_follow(&space, !following.reads_log())
        });
        if !is_followed {
            self.warn(Code::NotSubscribed, NOT_SUBSCRIBED, About::Space(space));
            return Ok(());
        }
        if values.iter().any(|value| Some(&value.author) != self.peer.as_ref()) {
            self.unexpected("presence of another author: send values under the peer id of hello only");
            return Ok(());
        }
        let bytes: u64 = values.iter().map(|value| value.data.len() as u64).sum();
        let limit = self.identity.limits.presence_bytes;
        if bytes > limit {
            self.fail(Code::FrameLimit, format!("presence of {bytes} bytes, this relay takes {limit}: send less"));
            return Ok(());
        }
        let Phase::Admitted(grants) = &self.phase else { return Ok(()) };
        let rights = Rights::new(&**grants, &space);
        let (mut frame, count) = (frame.clone(), values.len());
        let mut may_say = Vec::with_capacity(count);
        for value in values {
            if rights.may_speak_of(tx, &value.document)? {
                may_say.push(value);
            }
        }
        if may_say.is_empty() {
            return Ok(());
        }
        if may_say.len() < count {
            frame = RelayMessage::Presence { space, values: may_say.clone() }.encode();
        }
        let values = may_say;
        self.outputs.push_back(RelayOutput::Presence { space, frame, values });
        Ok(())
    }

    /// Offers what waits and answers what is settled.
    pub(super) fn work_on_pushes(&mut self, tx: &dyn ReadTx) -> Result<(), StoreError> {
        loop {
            let Phase::Admitted(grants) = &self.phase else { return Ok(()) };
            while let Some(append) = self.pushes.offer(&**grants, tx)? {
                if let RelayOutput::Append { batch, space, writes } = &append
                    && let Some(news) = self.spaces.get_mut(space).and_then(Following::news)
                {
                    for write in writes {
                        if let OfferedWrite::Change(change) | OfferedWrite::PassedOn(change) = &write.what {
                            news.push(*batch, write.document, change.hash());
                        }
                    }
                }
                self.outputs.push_back(append);
            }
            self.outputs.extend(self.pushes.take_refusals());
            let mut is_settled = false;
            while let Some(answered) = self.pushes.poll_answer() {
                is_settled = true;
                if let Some(following) = self.spaces.get_mut(&answered.space) {
                    match following.news() {
                        Some(news) => news.answer(answered.batch),
                        None => {
                            let tail = &mut following.tail;
                            answered.stored.iter().for_each(|(first, count)| tail.own.add(*first, *count, tail.next));
                        }
                    }
                    self.wake(&answered.space);
                }
                self.outputs.push_back(RelayOutput::Send(answered.message));
                self.giving.work_off(answered.frame_bytes);
            }
            // What was settled may have made room.
            if !is_settled {
                break;
            }
        }
        self.give_back();
        Ok(())
    }

    /// Gives credit back if it is time to.
    pub(super) fn give_back(&mut self) {
        if let Some(bytes) = self.giving.give_back() {
            self.send(&RelayMessage::Credit { bytes });
        }
    }

    /// Puts out a message that costs no credit.
    pub(super) fn send(&mut self, message: &RelayMessage) {
        self.outputs.push_back(RelayOutput::Send(message.encode()));
    }

    /// Says that something is wrong; all else goes on.
    pub(super) fn warn(&mut self, code: Code, text: &str, about: About) {
        let error = ErrorMessage { code, text: text.to_owned(), is_fatal: false, about };
        self.send(&RelayMessage::Error(error));
    }

    /// Ends the connection because of a message that does not fit.
    pub(super) fn unexpected(&mut self, text: &str) {
        self.fail(Code::Unexpected, text.to_owned());
    }

    /// Ends the connection.
    pub(super) fn fail(&mut self, code: Code, text: String) {
        self.end(code, text, code.close_code());
    }

    pub(super) fn end(&mut self, code: Code, text: String, close_code: u16) {
        if self.is_closed() {
            return;
        }
        let reason = format!("{code}: {text}");
        let error = ErrorMessage { code, text, is_fatal: true, about: About::Connection };
        self.send(&RelayMessage::Error(error));
        self.outputs.push_back(RelayOutput::Close { code: close_code, reason });
        // What was under way is worth nothing any more.
        self.phase = Phase::Closed;
        self.spaces.clear();
        self.chosen.clear();
        self.queue.clear();
        self.mail = super::Mail::default();
        self.pushes = super::Pushes::new(self.identity.limits.change_bytes);
    }
}
