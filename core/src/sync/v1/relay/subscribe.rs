//! Which spaces a client follows.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::following::{Following, Stage};
use super::listing::Listing;
use super::pushes::UNKNOWN_SPACE;
use super::{Phase, RelayOutput, RelaySession};
use crate::codec::v1::{About, Access, Code, ErrorMessage, Mode, RelayMessage, Start, Subscription};
use crate::id::SpaceId;
use crate::ledger::{self, log, spaces};
use crate::limits::{ESTIMATE_DOCUMENTS, MISS_TENTHS, V1_NUMBER_MAX};
use crate::store::{ReadTx, StoreError};

/// Where a subscription begins.
struct Beginning {
    stage: Stage,
    is_compared: bool,
    after: u64,
    is_fresh: bool,
    /// Everything up to here has the client by its own word.
    cursor: Option<u64>,
}

impl RelaySession {
    /// Answers subscriptions in their order.
    pub(super) fn subscribe(&mut self, subscriptions: Vec<Subscription>, tx: &dyn ReadTx) -> Result<(), StoreError> {
        for subscription in subscriptions {
            let space = subscription.space;
            let access = self.access(&space);
            if !self.may_follow(&space, subscription.mode == Mode::Chosen) {
                self.missed_tenths += MISS_TENTHS;
                self.refuse_space(&space, Code::SpaceUnknown, UNKNOWN_SPACE);
                continue;
            }
            if space == SpaceId::DEFAULT && subscription.mode != Mode::Chosen {
                let text = "the default space is followed document by document: subscribe with mode 2";
                self.refuse_space(&space, Code::Forbidden, text);
                continue;
            }
            if self.spaces.len() >= self.subscriptions_max && !self.spaces.contains_key(&space) {
                self.refuse_space(
                    &space,
                    Code::TooMany,
                    "too many spaces on one connection: unsubscribe from some first",
                );
                continue;
            }
            self.begin(&subscription, access, tx)?;
        }
        Ok(())
    }

    /// Begins a subscription; `access` is none for who was granted single documents alone.
    fn begin(
        &mut self,
        subscription: &Subscription,
        access: Option<Access>,
        tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        let space = subscription.space;
        // How much there is in a space is not for who may read but some of it.
        let end = if access.is_some() { log::end(tx, &space)? } else { 0 };
        let access = access.unwrap_or(Access::Read);
        let Beginning { stage, is_compared, after, is_fresh, cursor } = self.beginning(subscription, end);
        let told_from =
            if is_compared || matches!(&stage, Stage::Listing(listing) if listing.has_work()) { 0 } else { after };
        let (documents, bytes) = estimate(tx, &space, end - told_from)?;
        let mut following = Following::new(stage, after, end, is_fresh);
        following.cursor = cursor.unwrap_or(0);
        match self.spaces.remove(&space) {
            Some(former) => {
                following.is_queued = former.is_queued;
                self.giving.work_off(former.all_bytes());
                self.close_all(&former);
                match (former.reads_log(), following.reads_log()) {
                    (true, false) => self.outputs.push_back(RelayOutput::Unfollow { space }),
                    (false, true) => self.outputs.push_back(RelayOutput::Follow { space }),
                    _ => {}
                }
            }
            None if following.reads_log() => self.outputs.push_back(RelayOutput::Follow { space }),
            None => {}
        }
        self.spaces.insert(space, following);
        self.send(&RelayMessage::Subscribed { space, access, is_compared, after, end, documents, bytes });
        if let (Some(position), Some(storage)) = (cursor.filter(|cursor| *cursor > 0), self.storage) {
            self.outputs.push_back(RelayOutput::Cursor { space, storage, position });
        }
        self.wake(&space);
        self.give_back();
        Ok(())
    }

    fn beginning(&self, subscription: &Subscription, end: u64) -> Beginning {
        let cursor = match subscription.start {
            // Where documents are chosen, nobody is told of positions.
            _ if subscription.mode == Mode::Chosen => None,
            Start::Cursor { epoch, position } if epoch == self.identity.epoch && position <= end => Some(position),
            _ => None,
        };
        let is_fresh = subscription.start == Start::Beginning;
        let (stage, is_compared, after) = match (subscription.mode, cursor) {
            (Mode::Everything, Some(position)) => (Stage::Everything, false, position),
            (Mode::Everything, None) if is_fresh => (Stage::Everything, false, 0),
            (Mode::Everything, None) => (Stage::Comparing(Box::default()), true, end),
            (Mode::Listing, Some(position)) => (Stage::Listing(Box::default()), false, position),
            (Mode::Listing, None) => (Stage::Listing(Box::new(Listing::of_all())), false, end),
            (Mode::Chosen, _) => (Stage::Listing(Box::new(Listing::of_chosen())), false, end),
        };
        Beginning { stage, is_compared, after, is_fresh, cursor }
    }

    /// Ends subscriptions.
    pub(super) fn unsubscribe(&mut self, spaces: &[SpaceId]) {
        for space in spaces {
            self.leave(space);
        }
        self.give_back();
    }

    /// Forgets a space, if it is followed.
    pub(super) fn leave(&mut self, space: &SpaceId) {
        let Some(former) = self.spaces.remove(space) else { return };
        self.giving.work_off(former.all_bytes());
        self.queue.retain(|queued| queued != space);
        self.mail.forget(space);
        self.close_all(&former);
        if former.reads_log() {
            self.outputs.push_back(RelayOutput::Unfollow { space: *space });
        }
    }

    /// Closes the documents of a space that is not followed any more.
    fn close_all(&mut self, former: &Following) {
        if let Stage::Listing(listing) = &former.stage
            && listing.is_chosen()
        {
            self.forget_open(listing.documents().copied().collect());
        }
    }

    /// Ends a subscription whose right was taken away; returns what the client is told.
    pub(super) fn revoke(&mut self, space: &SpaceId) -> Bytes {
        self.leave(space);
        let text = "the right to read this space was taken away: ask for a grant, then subscribe again".to_owned();
        let error = ErrorMessage { code: Code::Forbidden, text, is_fatal: false, about: About::Space(*space) };
        RelayMessage::Error(error).encode()
    }

    /// Says why a space is not followed, and follows it no more.
    fn refuse_space(&mut self, space: &SpaceId, code: Code, text: &str) {
        self.leave(space);
        self.warn(code, text, About::Space(*space));
    }

    /// Returns what the client may do in a space by now.
    pub(super) fn access(&self, space: &SpaceId) -> Option<Access> {
        match &self.phase {
            Phase::Admitted(grants) => grants.access(space),
            _ => None,
        }
    }

    /// Says whether the client may follow a space by now, as a whole or by choosing documents of it.
    pub(super) fn may_follow(&self, space: &SpaceId, is_chosen: bool) -> bool {
        match &self.phase {
            Phase::Admitted(grants) if is_chosen => grants.knows(space),
            Phase::Admitted(grants) => grants.access(space).is_some(),
            _ => false,
        }
    }

    /// Puts a space into the queue of those with something to say.
    pub(super) fn wake(&mut self, space: &SpaceId) {
        if let Some(following) = self.spaces.get_mut(space).filter(|following| !following.is_queued) {
            following.is_queued = true;
            self.queue.push_back(*space);
        }
    }
}

/// Estimates how many documents and bytes so many positions hold, by a few documents of the space.
fn estimate(tx: &dyn ReadTx, space: &SpaceId, positions: u64) -> Result<(u64, u64), StoreError> {
    if positions == 0 {
        return Ok((0, 0));
    }
    let mut some = Vec::new();
    spaces::documents(tx, space, None, &mut |document| {
        some.push(document);
        if some.len() < ESTIMATE_DOCUMENTS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let (mut documents, mut changes, mut bytes) = (0u64, 0u64, 0u64);
    for document in &some {
        if let Some(state) = ledger::state(tx, document)?.filter(|state| state.count > 0) {
            documents += 1;
            changes = changes.saturating_add(state.count);
            bytes = bytes.saturating_add(state.bytes);
        }
    }
    if changes == 0 {
        return Ok((0, 0));
    }
    let scaled = |of: u64| {
        let scaled = u128::from(of) * u128::from(positions) / u128::from(changes);
        u64::try_from(scaled).unwrap_or(u64::MAX).min(V1_NUMBER_MAX)
    };
    // If those were all, there are no more.
    let documents = if some.len() < ESTIMATE_DOCUMENTS { documents } else { scaled(documents).max(1) };
    Ok((documents.min(positions), scaled(bytes)))
}
