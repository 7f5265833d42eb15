//! Appending: the second half of the gate, which needs to know the document's history.

use std::collections::HashMap;

use automerge::{ActorId, ChangeHash};

use super::actors::{self, ActorChange};
use super::ancestry::{Ancestors, Place, Reach};
use super::references::References;
use super::{Appended, DocumentState, Head, Node, decode_node, encode_node, node, position, put_state, tombstone};
use crate::gate::{CheckedChange, Facts, GateError, Rule, admit};
use crate::id::DocumentId;
use crate::limits::{DOCUMENT_HEADS_MAX, MISSING_HASHES_MAX, RELAY_HEADS_MAX};
use crate::store::record::{self, position_key, tail_key};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Appends changes to one document inside one transaction.
///
/// Keeps the document's state in memory between changes, so that a batch writes it once. Call [`Appender::finish`], or
/// nothing that was appended will be found again.
#[derive(Debug)]
pub struct Appender {
    document: DocumentId,
    state: DocumentState,
    /// The newest change of every actor met in this batch.
    actors: HashMap<ActorId, Option<ActorChange>>,
    /// Whether the author of the document's newest change is among them.
    is_newest_met: bool,
    ancestors: Ancestors,
    references: References,
    heads_max: usize,
    appended: u64,
    exists: bool,
    /// It was deleted everywhere, and takes nothing.
    deleted: bool,
}

/// A dependency that is there.
struct Dep {
    position: u64,
    max_op: u64,
}

impl Appender {
    /// Begins a batch. A document that is not there is created by [`Appender::finish`], unless it was deleted everywhere:
    /// then nothing is appended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn begin(tx: &(impl ReadTx + ?Sized), document: DocumentId) -> Result<Self, StoreError> {
        Self::begin_within(tx, document, DOCUMENT_HEADS_MAX, Reach::DEVICE)
    }

    /// Begins a batch as [`Appender::begin`] does, at a relay: it takes less side by side than a device, so that whatever it took a
    /// device takes too, beside what it made itself and in whichever order it gets it.
    ///
    /// # Errors
    ///
    /// As [`Appender::begin`].
    pub fn begin_at_relay(tx: &(impl ReadTx + ?Sized), document: DocumentId) -> Result<Self, StoreError> {
        Self::begin_within(tx, document, RELAY_HEADS_MAX, Reach::RELAY)
    }

    fn begin_within(
        tx: &(impl ReadTx + ?Sized),
        document: DocumentId,
        heads_max: usize,
        reach: Reach,
    ) -> Result<Self, StoreError> {
        let state = super::state(tx, &document)?;
        let exists = state.is_some();
        // A tombstone and a document's state are never there together.
        let deleted = !exists && tombstone::is_buried(tx, &document)?;
        Ok(Self {
            document,
            state: state.unwrap_or_default(),
            actors: HashMap::new(),
            is_newest_met: false,
            ancestors: Ancestors::new(reach),
            references: References::default(),
            heads_max,
            appended: 0,
            exists,
            deleted,
        })
    }

    /// Returns the document's state, with what was appended so far.
    pub fn state(&self) -> &DocumentState {
        &self.state
    }

    /// Says whether the document is there already, or something was appended to it.
    pub fn exists(&self) -> bool {
        self.exists || self.appended > 0
    }

    /// Appends one change, or says why not. Appending a change twice does nothing the second time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be used; a change that breaks a rule is not an error but
    /// [`Appended::Rejected`].
    pub fn append(&mut self, tx: &mut (impl WriteTx + ?Sized), change: &CheckedChange) -> Result<Appended, StoreError> {
        if self.deleted {
            return Ok(Appended::Deleted);
        }
        // Only a number that was given before can belong to a change that is there.
        let last_seq = self.last_of(tx, change.actor())?.map_or(0, |last| last.seq);
        if change.seq() <= last_seq && position(tx, &self.document, &change.hash())?.is_some() {
            return Ok(Appended::Duplicate);
        }
        let folded = self.state.folded > 0;
        let appended = self.append_checked(tx, change, |appender, tx, place| {
            let (document, ancestors) = (&appender.document, &mut appender.ancestors);
            let judged = appender.references.check(tx, document, change, place, ancestors)?;
            // What is not found may be folded.
            if judged.is_err() && folded { Err(StoreError::Folded) } else { Ok(judged) }
        });
        match appended {
            // Nothing was written yet.
            Err(StoreError::Folded) => Ok(Appended::Folded),
            appended => appended,
        }
    }

    /// Appends a change without looking up what its operations refer to, nor whether it is there already: for one that was
    /// just made from what the same transaction reads, never for one from a network.
    ///
    /// # Errors
    ///
    /// As [`Appender::append`].
    pub fn append_own(
        &mut self,
        tx: &mut (impl WriteTx + ?Sized),
        change: &CheckedChange,
    ) -> Result<Appended, StoreError> {
        self.append_checked(tx, change, |_, _, _| Ok(Ok(())))
    }

    fn append_checked<T: WriteTx + ?Sized>(
        &mut self,
        tx: &mut T,
        change: &CheckedChange,
        check: impl FnOnce(&mut Self, &T, &Place<'_>) -> Result<Result<(), GateError>, StoreError>,
    ) -> Result<Appended, StoreError> {
        if self.deleted {
            return Ok(Appended::Deleted);
        }
        let deps = match self.find_deps(tx, change)? {
            Ok(deps) => deps,
            // What is not found may be folded.
            Err(_) if self.state.folded > 0 => return Ok(Appended::Folded),
            Err(hashes) => return Ok(Appended::Missing { hashes }),
        };
        let deps_max_op = deps.iter().map(|dep| dep.max_op).max().unwrap_or(0);
        let mut deps: Vec<u64> = deps.into_iter().map(|dep| dep.position).collect();
        deps.sort_unstable();
        // Whoever depends on every head depends on everything.
        let all_heads = deps.len() == self.state.heads.len()
            && self.state.heads.iter().all(|head| deps.binary_search(&head.position).is_ok());
        let place = Place { deps: &deps, all_heads };
        self.ancestors.begin_change();
        let judged = match self.judge(tx, change, deps_max_op, &place)? {
            Ok(()) => check(self, tx, &place)?,
            refused => refused,
        };
        if let Err(error) = judged {
            return Ok(Appended::Rejected(error));
        }
        let position = self.state.count;
        self.put(tx, change, &place, position)?;
        Ok(Appended::Stored { position })
    }

    /// Ends the batch: writes the document's state.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be written.
    pub fn finish(self, tx: &mut (impl WriteTx + ?Sized)) -> Result<DocumentState, StoreError> {
        if self.appended > 0 || !(self.exists || self.deleted) {
            put_state(tx, &self.document, &self.state)?;
        }
        Ok(self.state)
    }

    /// Finds the change's dependencies, or names those that are missing.
    fn find_deps(
        &self,
        tx: &(impl ReadTx + ?Sized),
        change: &CheckedChange,
    ) -> Result<Result<Vec<Dep>, Vec<ChangeHash>>, StoreError> {
        let mut deps = Vec::with_capacity(change.deps().len());
        let mut lacking = Vec::new();
        for hash in change.deps() {
            // Nearly every dependency is a head: its facts are at hand.
            if let Ok(index) = self.state.heads.binary_search_by(|head| head.hash.cmp(hash)) {
                let head = &self.state.heads[index];
                deps.push(Dep { position: head.position, max_op: head.max_op });
            } else if let Some(position) = position(tx, &self.document, hash)? {
                deps.push(Dep { position, max_op: node(tx, &self.document, position)?.max_op() });
            } else {
                // One that is not there is looked for in every pack: those that are named are enough.
                lacking.push(*hash);
                if lacking.len() == MISSING_HASHES_MAX {
                    break;
                }
            }
        }
        Ok(if lacking.is_empty() { Ok(deps) } else { Err(lacking) })
    }

    /// Holds the change against the rules that need its history.
    fn judge(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        change: &CheckedChange,
        deps_max_op: u64,
        place: &Place<'_>,
    ) -> Result<Result<(), GateError>, StoreError> {
        let own_last = self.last_of(tx, change.actor())?;
        let mut first_unknown_actor = None;
        for actor in change.other_actors() {
            if self.last_of(tx, actor)?.is_none() {
                first_unknown_actor = Some(actor.clone());
                break;
            }
        }
        let own_last_is_ancestor = match own_last {
            Some(last) if last.seq.checked_add(1) == Some(change.seq()) => {
                match self.ancestors.holds(tx, &self.document, place, last.position)? {
                    Ok(holds) => holds,
                    Err(error) => return Ok(Err(error)),
                }
            }
            // Without one, or with the wrong number, another rule decides.
            _ => true,
        };
        let facts = Facts {
            deps_max_op,
            own_last_seq: own_last.map_or(0, |last| last.seq),
            own_last_is_ancestor,
            first_unknown_actor,
            document_max_op: self.state.max_op,
        };
        if let Err(error) = admit(change, &facts) {
            return Ok(Err(error));
        }
        let replaced = self.state.heads.iter().filter(|head| place.deps.binary_search(&head.position).is_ok()).count();
        if self.state.heads.len() - replaced >= self.heads_max {
            return Ok(Err(Rule::TooManyHeads.found(self.state.heads.len() as u64 + 1, self.heads_max as u64)));
        }
        Ok(Ok(()))
    }

    /// Returns an actor's newest change, with what was appended so far.
    pub(crate) fn last_of(
        &mut self,
        tx: &(impl ReadTx + ?Sized),
        actor: &ActorId,
    ) -> Result<Option<ActorChange>, StoreError> {
        self.meet_newest(tx)?;
        if let Some(last) = self.actors.get(actor) {
            return Ok(*last);
        }
        let last = actors::last(tx, &self.document, actor)?;
        self.actors.insert(actor.clone(), last);
        Ok(last)
    }

    /// Notes who wrote the document's newest change: mostly it is who writes again, and reading one node is less than half of
    /// the work of searching a list. The last position is always a head, and nobody has a later change than that.
    fn meet_newest(&mut self, tx: &(impl ReadTx + ?Sized)) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.is_newest_met, true) {
            return Ok(());
        }
        let Some(newest) = self.state.heads.iter().max_by_key(|head| head.position) else { return Ok(()) };
        let (position, hash) = (newest.position, newest.hash);
        // One that is packed or damaged is left to the search.
        if let Some(bytes) = tx.get(Table::Node, &position_key(&self.document, position))?
            && let Ok(Node { actor, seq, start_op, op_count, hash: found, .. }) = decode_node(&bytes, position)
            && found == hash
        {
            self.actors.insert(actor, Some(ActorChange { position, seq, start_op, op_count }));
        }
        Ok(())
    }

    fn put(
        &mut self,
        tx: &mut (impl WriteTx + ?Sized),
        change: &CheckedChange,
        place: &Place<'_>,
        position: u64,
    ) -> Result<(), StoreError> {
        let bytes = change.bytes();
        let entry = Node {
            hash: change.hash(),
            deps: place.deps.to_vec(),
            floor: self.ancestors.append(tx, &self.document, place, position)?,
            actor: change.actor().clone(),
            seq: change.seq(),
            start_op: change.start_op(),
            op_count: change.op_count(),
            bytes: bytes.len() as u64,
        };
        let key = position_key(&self.document, position);
        tx.put(Table::Change, &key, bytes)?;
        tx.put(Table::Node, &key, &encode_node(&entry, position)?)?;
        let mut value = Vec::with_capacity(10);
        record::put_uint(&mut value, position);
        tx.put(Table::Hash, &tail_key(&self.document, &entry.hash.0), &value)?;
        let listed = ActorChange { position, seq: entry.seq, start_op: entry.start_op, op_count: entry.op_count };
        actors::put(tx, &self.document, &entry.actor, &listed)?;

        self.actors.insert(entry.actor, Some(listed));
        self.state.count += 1;
        self.state.bytes += entry.bytes;
        self.state.max_op = self.state.max_op.max(change.max_op());
        self.state.heads.retain(|head| !entry.deps.contains(&head.position));
        let head = Head { hash: entry.hash, position, max_op: change.max_op() };
        let index = self.state.heads.partition_point(|other| other.hash < head.hash);
        self.state.heads.insert(index, head);
        self.appended += 1;
        Ok(())
    }
}
