//! One conversation: one document, one peer, Automerge's sync messages in and out.
//!
//! It speaks Automerge's sync protocol with fewer bytes. As soon as every head of the peer is known here, the graph says
//! *exactly* what the peer lacks, and no Bloom filter is made or read; the peer is told "assume I have everything you
//! have", so it too sends just what is new. Only while the peer has heads that are unknown here do filters decide, and
//! then one message waits for the other's answer, because a filter may be wrong.

mod intake;
mod quick;
mod whole;

pub use whole::{WholeDocument, WholeDocuments};

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::Range;

use automerge::ChangeHash;
use bytes::Bytes;

use self::intake::Intake;
use self::whole::Whole;
use super::orphans::{OrphanBudget, Orphans};
use crate::codec::bloom::Bloom;
use crate::codec::sync_message::{Flags, Have, SyncMessage, Version};
use crate::gate::{CheckedChange, GateError};
use crate::id::DocumentId;
use crate::ledger::{self, Appended, DocumentState};
use crate::limits::{
    FILTER_HITS_FREE, LONG_HISTORY_CHANGES, NEED_REPEATS_MAX, ORPHAN_ROOTS_AT_ONCE, REFUSED_MAX, SYNC_MESSAGE_BYTES,
    SYNC_RESETS_MAX,
};
use crate::store::{ReadTx, StoreError};

/// The state of one conversation. Reset by dropping it: every connection begins afresh.
#[derive(Debug)]
pub struct Conversation {
    document: DocumentId,
    /// What the peer last said of itself.
    theirs: Option<Theirs>,
    /// Heads the peer has, or will have when what we sent arrives: the transport loses nothing without closing.
    peer_has: Vec<ChangeHash>,
    /// The heads in our last message; `None` before the first.
    last_sent: Option<Vec<ChangeHash>>,
    /// A message with a guess in it is under way: wait for the answer.
    in_flight: bool,
    /// Whether the peer's last heads were all known when we last looked, and nothing has happened to them since.
    exact: bool,
    /// Heads that we sent and the peer has not shown yet, each the only one of its message.
    unanswered: VecDeque<ChangeHash>,
    /// Changes the peer asked for by name.
    wanted: Vec<ChangeHash>,
    last_need: Vec<ChangeHash>,
    need_repeats: u32,
    /// What is left of messages that are being taken in.
    intake: Intake,
    orphans: Orphans,
    refused: HashSet<ChangeHash>,
    /// Whether the peer is asked for what is lacking here: not if it may not bring it.
    asks: bool,
    /// There was no such document when a message was last asked for.
    absent: bool,
    /// How often the peer did not know what we took it to have.
    resets: u32,
    whole: Whole,
}

#[derive(Debug)]
struct Theirs {
    heads: Vec<ChangeHash>,
    have: Vec<Have>,
}

/// What to send, and whether there is more after it.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub message: SyncMessage,
    /// Whether [`Conversation::poll_message`] has another one right now.
    pub more: bool,
}

impl Conversation {
    /// Begins a conversation. `shared` are heads that the peer is known to have from earlier, if any.
    pub fn new(document: DocumentId, shared: Vec<ChangeHash>) -> Self {
        Self::within(document, shared, OrphanBudget::default())
    }

    /// Begins a conversation as [`Conversation::new`] does, among others that share a budget.
    pub(super) fn within(document: DocumentId, shared: Vec<ChangeHash>, budget: OrphanBudget) -> Self {
        Self {
            document,
            theirs: None,
            peer_has: shared,
            last_sent: None,
            in_flight: false,
            exact: false,
            unanswered: VecDeque::new(),
            wanted: Vec::new(),
            last_need: Vec::new(),
            need_repeats: 0,
            intake: Intake::default(),
            orphans: Orphans::within(budget),
            refused: HashSet::new(),
            asks: true,
            absent: false,
            resets: 0,
            whole: Whole::default(),
        }
    }

    /// Returns the heads the peer last said it has.
    pub fn their_heads(&self) -> Option<&[ChangeHash]> {
        self.theirs.as_ref().map(|theirs| theirs.heads.as_slice())
    }

    /// Takes in a message and returns the first changes it brought, checked, for the driver to append; the others come from
    /// [`Conversation::poll_changes`].
    ///
    /// A change that fails the gate is left out and returned as its error; the others stand. There are no changes yet if
    /// those of an earlier message are not all taken.
    pub fn handle_message(&mut self, message: SyncMessage) -> (Vec<CheckedChange>, Vec<GateError>) {
        self.in_flight = false;
        self.exact = false;
        if self.theirs.is_none()
            || message.heads.is_empty()
            || message.flags.is_some_and(|flags| flags.contains(Flags::SYNC_RESET))
            || self.begins_afresh(&message)
        {
            // What was shared on an earlier connection is hearsay once the peer speaks for itself: it may have been
            // restored from a backup. And one that lost its data, or ignored what we sent, has nothing we told it.
            self.forget_peer_has();
        }
        self.whole.hear(message.flags);
        self.wanted = message.need;
        self.theirs = Some(Theirs { heads: message.heads, have: message.have });
        let is_busy = !self.intake.is_empty();
        self.intake.push(message.changes);
        if is_busy { (Vec::new(), Vec::new()) } else { self.poll_changes() }
    }

    /// Returns the next changes that messages brought, checked, for the driver to append, and what failed the gate.
    ///
    /// The answer changes when a message arrived, and after each call. Whoever asks only when the changes before are
    /// appended holds no more than [`INTAKE_CHANGES_MAX`](crate::limits::INTAKE_CHANGES_MAX) of them.
    #[must_use = "changes that are not appended are lost"]
    pub fn poll_changes(&mut self) -> (Vec<CheckedChange>, Vec<GateError>) {
        self.intake.next(&mut self.whole)
    }

    /// Says whether [`Conversation::poll_changes`] may have more. Until it has not, there is nothing to say to the peer.
    pub fn is_taking_in(&self) -> bool {
        !self.intake.is_empty()
    }

    /// Drops what is left of messages: the document is deleted, or nothing is taken of the peer.
    pub fn handle_deleted(&mut self) {
        self.intake = Intake::default();
    }

    /// Says whether the peer begins afresh: it has changes, and shows neither a filter nor anything shared. That is how an
    /// Automerge peer says that it does not know the heads which we took it to have.
    fn begins_afresh(&mut self, message: &SyncMessage) -> bool {
        let afresh = !message.heads.is_empty() && message.have == [Have::default()];
        self.resets += u32::from(afresh);
        // One that says so again and again does not take what it is sent; it is not sent everything for ever.
        afresh && self.resets <= SYNC_RESETS_MAX
    }

    /// Learns that the peer does not have the document: there is nothing to compare.
    pub fn handle_unavailable(&mut self) {
        self.in_flight = false;
        self.exact = false;
        self.forget_peer_has();
        self.theirs = Some(Theirs { heads: Vec::new(), have: Vec::new() });
    }

    fn forget_peer_has(&mut self) {
        self.peer_has.clear();
        self.unanswered.clear();
    }

    /// Learns what became of the changes offered; returns orphans whose time has come, to be appended next.
    pub fn handle_appended(&mut self, results: Vec<(CheckedChange, Appended)>) -> Vec<CheckedChange> {
        let mut arrived = Vec::new();
        for (change, appended) in results {
            match appended {
                Appended::Stored { .. } | Appended::Duplicate => arrived.push(change.hash()),
                Appended::Missing { hashes } => {
                    if let Some(first) = hashes.first() {
                        // At the bound it is dropped. The peer's heads stay unknown, so it is asked for again.
                        self.orphans.hold(change, *first);
                    }
                }
                // At the bound it is dropped, and asked for again when the history is unfolded.
                Appended::Folded => drop(self.orphans.hold_folded(change)),
                // The talk about it ends; see `super::deletion`.
                Appended::Deleted => {}
                Appended::Rejected(_) => {
                    if self.refused.len() < REFUSED_MAX {
                        self.refused.insert(change.hash());
                    }
                }
            }
        }
        self.orphans.release(arrived.into_iter())
    }

    /// Says whether changes are held here that came before what they stand on.
    pub(super) fn holds_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Returns orphans whose time has come because somebody else brought what they wait for, to be appended next. Cost: at most
    /// [`ORPHAN_ROOTS_AT_ONCE`] lookups.
    pub(super) fn release_orphans(&mut self, tx: &dyn ReadTx) -> Result<Vec<CheckedChange>, StoreError> {
        let mut arrived = Vec::new();
        for hash in self.orphans.roots(ORPHAN_ROOTS_AT_ONCE) {
            if ledger::position(tx, &self.document, &hash)?.is_some() {
                arrived.push(hash);
            }
        }
        Ok(self.orphans.release(arrived.into_iter()))
    }

    /// Learns that changes are not taken, for a reason that is not theirs; they are not asked for again.
    pub(super) fn refuse(&mut self, changes: &[CheckedChange]) {
        let room = REFUSED_MAX.saturating_sub(self.refused.len());
        self.refused.extend(changes.iter().take(room).map(CheckedChange::hash));
    }

    /// Sets whether the peer is asked for what is lacking here. Default: it is.
    pub(super) fn set_asks(&mut self, asks: bool) {
        self.asks = asks;
    }

    /// Learns that the document's history is unfolded; returns what had to wait for that, to be appended next.
    pub fn handle_unfolded(&mut self) -> Vec<CheckedChange> {
        self.orphans.take_folded()
    }

    /// Says whether the peer shows heads that are all known here, so that they tell what it surely has.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn knows_their_heads(&self, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        let Some(theirs) = &self.theirs else { return Ok(false) };
        for head in &theirs.heads {
            if ledger::position(tx, &self.document, head)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says whether there was no such document when [`Conversation::poll_message`] last looked: it may have been deleted.
    pub fn is_absent(&self) -> bool {
        self.absent
    }

    /// Returns the next message to send, or `None` when there is nothing to say.
    ///
    /// The answer changes when a message arrived, when changes were appended, and after each call that returned one. While a
    /// message is still being taken in there is none. Cost: what the peer lacks, at most [`SYNC_MESSAGE_BYTES`] of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn poll_message(&mut self, tx: &dyn ReadTx) -> Result<Option<Outgoing>, StoreError> {
        let state = ledger::state(tx, &self.document)?;
        self.absent = state.is_none();
        let state = state.unwrap_or_default();
        if self.is_taking_in() {
            // What seems to be lacking may be in the rest.
            return Ok(None);
        }
        let Some(theirs) = &self.theirs else { return self.first_message(tx, &state) };
        let need = self
            .orphans
            .lacking(&theirs.heads, |hash| Ok(self.refused.contains(hash) || self.is_known(tx, &state, hash)?))?;
        if state.folded > 0 && !need.is_empty() {
            // What seems to be lacking may be folded. Whoever unfolds it says so, and then it is known.
            return Ok(None);
        }
        let exact = need.is_empty() && self.refused.is_empty();
        self.exact = exact;
        if self.in_flight && !exact {
            return Ok(None);
        }
        if exact && let Some(outgoing) = self.snapshot_message(tx, &state)? {
            return Ok(Some(outgoing));
        }
        let batch = if exact { self.exact_batch(tx, &state)? } else { self.guessed_batch(tx, &state)? };
        let sends = !batch.changes.is_empty();
        let asks = self.asks && !need.is_empty() && self.may_ask(&need);
        let heads_news = self.last_sent.as_ref() != Some(&batch.heads);
        if !sends && !asks && !heads_news {
            return Ok(None);
        }
        let have = self.summary(tx, &state, &need, exact.then_some(&batch.heads))?;
        self.in_flight = !exact;
        self.wanted.clear();
        self.last_sent = Some(batch.heads.clone());
        if exact {
            self.peer_has.clone_from(&batch.heads);
            self.expect_answer();
        }
        let need = if asks { need } else { Vec::new() };
        let message = SyncMessage {
            version: Version::V1,
            heads: batch.heads,
            need,
            have,
            changes: batch.changes,
            flags: self.whole.flags(&state),
        };
        Ok(Some(Outgoing { message, more: batch.more }))
    }

    /// Says whether the next message may need a filter over a long history.
    pub fn is_long(&self, tx: &dyn ReadTx) -> Result<bool, StoreError> {
        if self.in_flight || self.is_taking_in() {
            // It needs none, or there is none.
            return Ok(false);
        }
        let state = ledger::state(tx, &self.document)?.unwrap_or_default();
        if state.count < LONG_HISTORY_CHANGES {
            return Ok(false);
        }
        let Some(theirs) = &self.theirs else { return Ok(true) };
        for hash in &theirs.heads {
            if !self.is_known(tx, &state, hash)? {
                return Ok(true);
            }
        }
        Ok(!self.refused.is_empty())
    }

    /// Opens the conversation: our heads, and a summary of what we have since the last time.
    fn first_message(&mut self, tx: &dyn ReadTx, state: &DocumentState) -> Result<Option<Outgoing>, StoreError> {
        let heads = state.head_hashes();
        if self.in_flight || self.last_sent.as_ref() == Some(&heads) {
            return Ok(None);
        }
        let last_sync = self.known(tx, &self.peer_has)?;
        let bloom = self.filter_since(tx, state, &last_sync)?;
        self.last_sent = Some(heads.clone());
        self.in_flight = true;
        let message = SyncMessage {
            version: Version::V1,
            heads,
            need: Vec::new(),
            have: vec![Have { last_sync, bloom }],
            changes: Vec::new(),
            flags: self.whole.flags(state),
        };
        Ok(Some(Outgoing { message, more: false }))
    }

    /// Chooses what the graph says the peer lacks, oldest first, up to the byte budget.
    fn exact_batch(&mut self, tx: &dyn ReadTx, state: &DocumentState) -> Result<Batch, StoreError> {
        let heads = state.head_hashes();
        let theirs = self.theirs.as_ref().map_or(&[][..], |theirs| &theirs.heads);
        if self.wanted.is_empty() && (self.peer_has == heads || theirs == heads) {
            return Ok(Batch { heads, changes: Vec::new(), more: false });
        }
        let mut has = self.known(tx, theirs)?;
        let shown = has.len();
        if self.peer_has == theirs {
            has.extend_from_within(..);
        } else {
            has.extend(self.known(tx, &self.peer_has)?);
        }
        let mut missing = ledger::missing_runs(tx, &self.document, state, &has)?;
        let mut wanted = BTreeSet::new();
        for hash in &self.wanted {
            wanted.extend(ledger::position(tx, &self.document, hash)?);
        }
        if self.resets < SYNC_RESETS_MAX
            && has.len() > shown
            && wanted.iter().any(|position| !is_in(&missing, *position))
        {
            // It had no room for what it was sent, and asks for it by name: to answer with just that would go on, change by
            // change, for as long as the rest is lacking too.
            self.resets += 1;
            self.forget_peer_has();
            has.truncate(shown);
            missing = ledger::missing_runs(tx, &self.document, state, &has)?;
        }
        wanted.retain(|position| !is_in(&missing, *position));
        let total = wanted.len() as u64 + missing.iter().map(|run| run.end - run.start).sum::<u64>();
        let positions = || wanted.iter().copied().chain(missing.iter().cloned().flatten());
        let changes = self.read(tx, positions())?;
        if changes.len() as u64 == total {
            return Ok(Batch { heads, changes, more: false });
        }
        let heads = self.heads_after(tx, &has, positions().take(changes.len()))?;
        Ok(Batch { heads, changes, more: true })
    }

    /// Returns the heads of what the peer has once these changes arrived: how we would look had we stopped there.
    fn heads_after(
        &self,
        tx: &dyn ReadTx,
        has: &[ChangeHash],
        sent: impl Iterator<Item = u64>,
    ) -> Result<Vec<ChangeHash>, StoreError> {
        let mut heads = BTreeSet::new();
        for hash in has {
            heads.extend(ledger::position(tx, &self.document, hash)?);
        }
        for position in sent {
            for dep in ledger::node(tx, &self.document, position)?.deps {
                heads.remove(&dep);
            }
            heads.insert(position);
        }
        let mut hashes = Vec::with_capacity(heads.len());
        for position in heads {
            hashes.push(ledger::node(tx, &self.document, position)?.hash);
        }
        hashes.sort_unstable();
        Ok(hashes)
    }

    /// Chooses what the peer's filter says it lacks, with everything that depends on it, and what it asked for.
    fn guessed_batch(&self, tx: &dyn ReadTx, state: &DocumentState) -> Result<Batch, StoreError> {
        let heads = state.head_hashes();
        let mut positions = BTreeSet::new();
        for hash in &self.wanted {
            positions.extend(ledger::position(tx, &self.document, hash)?);
        }
        let have = self.theirs.as_ref().map_or(&[][..], |theirs| &theirs.have);
        if !have.is_empty() {
            let last_sync: Vec<_> = have.iter().flat_map(|have| have.last_sync.iter().copied()).collect();
            let missing = ledger::missing_runs(tx, &self.document, state, &last_sync)?;
            let (mut bytes, mut hits, hits_max) = (0, 0, hits_max(have));
            for position in missing.into_iter().flatten() {
                let node = ledger::node(tx, &self.document, position)?;
                let lacks = have.iter().all(|have| !have.bloom.contains(&node.hash));
                // Positions ascend, so a dependency was judged before what depends on it.
                if lacks || node.deps.iter().any(|dep| positions.contains(dep)) {
                    positions.insert(position);
                    bytes += node.bytes;
                } else {
                    hits += 1;
                }
                // More does not fit; or the filter holds more than was put into it, and says nothing.
                if bytes > SYNC_MESSAGE_BYTES as u64 || hits > hits_max {
                    break;
                }
            }
        }
        // What does not fit is sent when the peer has answered and its heads say exactly what it lacks.
        let changes = self.read(tx, positions.into_iter())?;
        Ok(Batch { heads, changes, more: false })
    }

    /// Reads changes up to the byte budget, at least one.
    fn read(&self, tx: &dyn ReadTx, positions: impl Iterator<Item = u64>) -> Result<Vec<Bytes>, StoreError> {
        let mut changes = Vec::new();
        let mut bytes = 0;
        for position in positions {
            let change = ledger::change(tx, &self.document, position)?;
            bytes += change.len();
            if bytes > SYNC_MESSAGE_BYTES && !changes.is_empty() {
                break;
            }
            changes.push(Bytes::from(change));
        }
        Ok(changes)
    }

    /// Tells the peer what we have, so that it sends only what we lack.
    fn summary(
        &self,
        tx: &dyn ReadTx,
        state: &DocumentState,
        need: &[ChangeHash],
        exact_heads: Option<&Vec<ChangeHash>>,
    ) -> Result<Vec<Have>, StoreError> {
        let theirs = self.theirs.as_ref().map_or(&[][..], |theirs| &theirs.heads);
        if let Some(heads) = exact_heads {
            // The peer knows these heads: it has shown them itself, or they come with this message or an earlier one. An
            // Automerge peer sends everything above them, even what it just got from us.
            let mut last_sync = self.known(tx, theirs)?;
            if !self.whole.peer_is_read_only() && self.resets < SYNC_RESETS_MAX {
                last_sync.extend(heads);
                last_sync.sort_unstable();
                last_sync.dedup();
            }
            return Ok(vec![Have { last_sync, bloom: Bloom::default() }]);
        }
        let shown: HashSet<&ChangeHash> = theirs.iter().collect();
        if need.iter().any(|hash| !shown.contains(hash)) {
            // We ask for changes by name; a summary would make the peer send the rest twice.
            return Ok(Vec::new());
        }
        let mut last_sync = self.known(tx, theirs)?;
        last_sync.extend(self.known(tx, &self.peer_has)?);
        last_sync.sort_unstable();
        last_sync.dedup();
        let bloom = self.filter_since(tx, state, &last_sync)?;
        Ok(vec![Have { last_sync, bloom }])
    }

    fn filter_since(
        &self,
        tx: &dyn ReadTx,
        state: &DocumentState,
        last_sync: &[ChangeHash],
    ) -> Result<Bloom, StoreError> {
        let mut hashes = Vec::new();
        if last_sync.is_empty() {
            hashes = ledger::hashes(tx, &self.document)?;
        } else {
            for position in ledger::missing(tx, &self.document, state, last_sync)? {
                hashes.push(ledger::node(tx, &self.document, position)?.hash);
            }
        }
        Ok(Bloom::from_hashes(hashes.iter()))
    }

    fn is_known(&self, tx: &dyn ReadTx, state: &DocumentState, hash: &ChangeHash) -> Result<bool, StoreError> {
        // Most of what is asked for is a head: that needs no lookup.
        let is_head = state.heads.iter().any(|head| head.hash == *hash);
        Ok(is_head || ledger::position(tx, &self.document, hash)?.is_some())
    }

    fn known(&self, tx: &dyn ReadTx, hashes: &[ChangeHash]) -> Result<Vec<ChangeHash>, StoreError> {
        let mut known = Vec::with_capacity(hashes.len());
        for hash in hashes {
            if ledger::position(tx, &self.document, hash)?.is_some() {
                known.push(*hash);
            }
        }
        Ok(known)
    }

    /// Says whether it still makes sense to ask for these changes, and counts the asking.
    fn may_ask(&mut self, need: &[ChangeHash]) -> bool {
        if self.last_need == need {
            self.need_repeats += 1;
        } else {
            self.last_need = need.to_vec();
            self.need_repeats = 1;
        }
        self.need_repeats <= NEED_REPEATS_MAX
    }
}

struct Batch {
    heads: Vec<ChangeHash>,
    changes: Vec<Bytes>,
    more: bool,
}

/// Says whether a position is in one of these runs, which ascend.
fn is_in(runs: &[Range<u64>], position: u64) -> bool {
    runs.get(runs.partition_point(|run| run.end <= position)).is_some_and(|run| run.contains(&position))
}

/// Returns how many changes filters can hold, with those that they seem to: one in a hundred of what they do not.
fn hits_max(have: &[Have]) -> u64 {
    let entries: u64 = have.iter().map(|have| u64::from(have.bloom.entries())).sum();
    entries + entries / 16 + FILTER_HITS_FREE
}
