//! A document that arrived whole: its history is inside one snapshot, and is unfolded afterwards.
//!
//! Until then the ledger knows of the folded changes what their snapshot told: how many they are, the heads, each actor's
//! newest change. That is enough to write on top of them, and to take in what others write there. Whatever needs more
//! answers [`StoreError::Folded`], and is asked again when the history is unfolded.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use automerge::{ActorId, ChangeHash};

use super::actors::{self, ActorChange};
use super::{DocumentState, Head, Node, encode_node, put_state, state, tombstone};
use crate::id::DocumentId;
use crate::store::record::{self, position_key, prefix_end, tail_key};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// The names under which the folded documents stand in [`Table::Meta`] begin so.
const MARK: &[u8] = b"folded/";

/// One folded change, as its snapshot tells it.
#[derive(Debug, Clone, Copy)]
pub struct FoldedChange<'c> {
    /// Its hash.
    pub hash: ChangeHash,
    /// The changes it depends on.
    pub deps: &'c [ChangeHash],
    /// Who made it.
    pub actor: &'c ActorId,
    /// Which change of its actor it is.
    pub seq: u64,
    /// The counter of its first operation.
    pub start_op: u64,
    /// The counter of its last operation.
    pub max_op: u64,
}

/// Why folded changes are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The document has changes already.
    #[error("the document has changes already: only an empty one takes a whole history")]
    NotEmpty,
    /// The changes are not in topological order, or lack one.
    #[error("the folded history has gaps")]
    Gaps,
    /// What was unfolded is not what the snapshot had told.
    #[error("the unfolded history is another than the snapshot told")]
    Different,
    /// The document was deleted.
    #[error("the document was deleted")]
    Deleted,
}

/// What is kept of a history while it is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedHistory {
    count: u64,
    max_op: u64,
    /// The places of the heads in the graph; their floors are found where the history has one head.
    heads: Vec<(u64, Node)>,
    /// The newest change of each actor.
    actors: Vec<(ActorId, ActorChange)>,
}

impl FoldedHistory {
    /// Sums up a history with these heads. `changes` gives all its changes, each time it is called, in the order in which
    /// unfolding will give them. Cost: two passes over them.
    ///
    /// # Errors
    ///
    /// [`BaseError::Gaps`] if a head, or what it depends on, is not there.
    pub fn of<'c, I: Iterator<Item = FoldedChange<'c>>>(
        heads: &[ChangeHash],
        changes: impl Fn() -> I,
    ) -> Result<Self, BaseError> {
        let shown: HashSet<&ChangeHash> = heads.iter().collect();
        let mut history = Self { count: 0, max_op: 0, heads: Vec::new(), actors: Vec::new() };
        let mut newest: HashMap<&ActorId, ActorChange> = HashMap::new();
        let mut places: HashMap<ChangeHash, (u64, Vec<ChangeHash>)> = HashMap::new();
        for (position, change) in (0..).zip(changes()) {
            let listed = ActorChange {
                position,
                seq: change.seq,
                start_op: change.start_op,
                op_count: (change.max_op + 1).saturating_sub(change.start_op),
            };
            let kept = newest.entry(change.actor).or_insert(listed);
            if kept.seq < listed.seq {
                *kept = listed;
            }
            if shown.contains(&change.hash) {
                places.insert(change.hash, (position, change.deps.to_vec()));
                history.heads.push((position, head_node(&change, &listed)));
            }
            history.max_op = history.max_op.max(change.max_op);
            history.count = position + 1;
        }
        history.actors = newest.into_iter().map(|(actor, listed)| (actor.clone(), listed)).collect();
        history.actors.sort_unstable_by(|(one, _), (next, _)| one.cmp(next));
        history.find_deps(&places, changes())?;
        if history.heads.len() == heads.len() { Ok(history) } else { Err(BaseError::Gaps) }
    }

    /// Finds the positions of what the heads depend on.
    fn find_deps<'c>(
        &mut self,
        heads: &HashMap<ChangeHash, (u64, Vec<ChangeHash>)>,
        changes: impl Iterator<Item = FoldedChange<'c>>,
    ) -> Result<(), BaseError> {
        let wanted: HashSet<ChangeHash> = heads.values().flat_map(|(_, deps)| deps.iter().copied()).collect();
        let mut found = HashMap::with_capacity(wanted.len());
        for (position, change) in (0..).zip(changes) {
            if wanted.contains(&change.hash) {
                found.insert(change.hash, position);
            }
        }
        let only_head = self.heads.len() == 1;
        for (position, node) in &mut self.heads {
            let deps = heads.get(&node.hash).map_or(&[][..], |(_, deps)| deps);
            for hash in deps {
                let dep: u64 = *found.get(hash).filter(|dep| *dep < position).ok_or(BaseError::Gaps)?;
                node.deps.push(dep);
            }
            node.deps.sort_unstable();
            // One head covers everything. With several, nobody asks often enough to work it out.
            node.floor = if only_head { *position + 1 } else { 0 };
        }
        Ok(())
    }

    /// Returns how many changes it has.
    pub fn count(&self) -> u64 {
        self.count
    }
}

fn head_node(change: &FoldedChange<'_>, listed: &ActorChange) -> Node {
    Node {
        hash: change.hash,
        deps: Vec::new(),
        floor: 0,
        actor: change.actor.clone(),
        seq: listed.seq,
        start_op: listed.start_op,
        op_count: listed.op_count,
        bytes: 0,
    }
}

/// Takes a whole history into an empty document.
///
/// # Errors
///
/// [`BaseError`] if the document is not empty, or was deleted: nothing was written then. [`StoreError`] if the store cannot
/// be used.
pub fn install(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    history: &FoldedHistory,
) -> Result<Result<(), BaseError>, StoreError> {
    match state(tx, document)? {
        Some(state) if state.count > 0 => return Ok(Err(BaseError::NotEmpty)),
        None if tombstone::is_buried(tx, document)? => return Ok(Err(BaseError::Deleted)),
        _ => {}
    }
    for (actor, newest) in &history.actors {
        actors::put(tx, document, actor, newest)?;
    }
    let mut heads = Vec::with_capacity(history.heads.len());
    for (position, node) in &history.heads {
        tx.put(Table::Node, &position_key(document, *position), &encode_node(node, *position)?)?;
        let mut value = Vec::with_capacity(10);
        record::put_uint(&mut value, *position);
        tx.put(Table::Hash, &tail_key(document, &node.hash.0), &value)?;
        heads.push(Head { hash: node.hash, position: *position, max_op: node.max_op() });
    }
    heads.sort_unstable_by_key(|head| head.hash);
    tx.put(Table::Meta, &mark(document), &[])?;
    let FoldedHistory { count, max_op, .. } = *history;
    put_state(tx, document, &DocumentState { count, max_op, bytes: 0, packed: 0, folded: count, heads })?;
    Ok(Ok(()))
}

/// Returns the documents whose history is still folded.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn folded(tx: &(impl ReadTx + ?Sized)) -> Result<Vec<DocumentId>, StoreError> {
    let mut found = Vec::new();
    tx.scan(Table::Meta, MARK..&prefix_end(MARK), &mut |key, _| {
        found.extend(key.last_chunk::<16>().map(|id| DocumentId::from_bytes(*id)));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Takes in the unfolded history from another store's ledger, in which it was checked change by change.
///
/// # Errors
///
/// [`BaseError::Different`] if it is not the history that was installed: nothing was written then. [`StoreError`] if the
/// store cannot be used.
pub fn unfold(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    unfolded: &dyn ReadTx,
) -> Result<Result<(), BaseError>, StoreError> {
    let Some(mut here) = state(tx, document)?.filter(|state| state.folded > 0) else { return Ok(Ok(())) };
    let there = state(unfolded, document)?.unwrap_or_default();
    let mut same = there.count == here.folded;
    for head in &there.heads {
        same &= super::position(tx, document, &head.hash)? == Some(head.position);
    }
    if !same {
        return Ok(Err(BaseError::Different));
    }
    for head in &there.heads {
        tx.delete(Table::Node, &position_key(document, head.position))?;
        tx.delete(Table::Hash, &tail_key(document, &head.hash.0))?;
    }
    let end = prefix_end(document.as_bytes());
    for table in [Table::Pack, Table::PackIndex, Table::Change, Table::Node, Table::Hash, Table::Actor] {
        let mut failed = None;
        unfolded.scan(table, document.as_bytes()..&end, &mut |key, value| match tx.put(table, key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)?;
    }
    tx.delete(Table::Meta, &mark(document))?;
    (here.folded, here.packed) = (0, there.packed);
    here.bytes += there.bytes;
    put_state(tx, document, &here)?;
    Ok(Ok(()))
}

/// Takes a document off the list of those that are folded: it is being deleted.
pub(crate) fn forget(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    tx.delete(Table::Meta, &mark(document))
}

fn mark(document: &DocumentId) -> Vec<u8> {
    [MARK, document.as_bytes()].concat()
}
