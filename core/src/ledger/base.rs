//! A document that arrived whole: its history is inside one snapshot, and is unfolded afterwards.
//!
//! Until then the ledger knows of the folded changes what their snapshot told: how many they are, the heads, each actor's
//! newest change. That is enough to write on top of them, and to take in what others write there. Whatever needs more
//! answers [`StoreError::Folded`], and is asked again when the history is unfolded.

use std::collections::HashMap;
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
#[derive(Debug, Clone)]
pub struct FoldedChange {
    /// Its hash.
    pub hash: ChangeHash,
    /// The changes it depends on.
    pub deps: Vec<ChangeHash>,
    /// Who made it.
    pub actor: ActorId,
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

/// Takes a whole history into an empty document. `changes` are all of them, in the order in which unfolding will give them.
///
/// # Errors
///
/// [`BaseError`] if the document is not empty or the history has gaps: nothing was written then. [`StoreError`] if the
/// store cannot be used.
pub fn install(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    changes: &[FoldedChange],
) -> Result<Result<(), BaseError>, StoreError> {
    match state(tx, document)? {
        Some(state) if state.count > 0 => return Ok(Err(BaseError::NotEmpty)),
        None if tombstone::is_buried(tx, document)? => return Ok(Err(BaseError::Deleted)),
        _ => {}
    }
    let Some(graph) = Graph::of(changes) else { return Ok(Err(BaseError::Gaps)) };
    let mut actors: HashMap<&ActorId, usize> = HashMap::new();
    for (position, change) in changes.iter().enumerate() {
        let newest = actors.entry(&change.actor).or_insert(position);
        if changes[*newest].seq < change.seq {
            *newest = position;
        }
    }
    for (actor, position) in actors {
        let listed = listed(&changes[position], position as u64);
        actors::put(tx, document, actor, &listed)?;
    }
    let mut heads = Vec::with_capacity(graph.heads.len());
    for position in &graph.heads {
        let change = &changes[*position];
        let at = *position as u64;
        let node = Node {
            hash: change.hash,
            deps: graph.deps[*position].iter().map(|dep| *dep as u64).collect(),
            // One head covers everything. With several, nobody asks often enough to work it out.
            floor: if graph.heads.len() == 1 { at + 1 } else { 0 },
            actor: change.actor.clone(),
            seq: change.seq,
            start_op: change.start_op,
            op_count: op_count(change),
            bytes: 0,
        };
        tx.put(Table::Node, &position_key(document, at), &encode_node(&node, at))?;
        let mut value = Vec::with_capacity(10);
        record::put_uint(&mut value, at);
        tx.put(Table::Hash, &tail_key(document, &change.hash.0), &value)?;
        heads.push(Head { hash: change.hash, position: at, max_op: change.max_op });
    }
    heads.sort_unstable_by_key(|head| head.hash);
    let count = changes.len() as u64;
    let max_op = changes.iter().map(|change| change.max_op).max().unwrap_or(0);
    tx.put(Table::Meta, &mark(document), &[])?;
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
pub(super) fn forget(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    tx.delete(Table::Meta, &mark(document))
}

fn mark(document: &DocumentId) -> Vec<u8> {
    [MARK, document.as_bytes()].concat()
}

fn op_count(change: &FoldedChange) -> u64 {
    (change.max_op + 1).saturating_sub(change.start_op)
}

fn listed(change: &FoldedChange, position: u64) -> ActorChange {
    ActorChange { position, seq: change.seq, start_op: change.start_op, op_count: op_count(change) }
}

/// The dependencies of changes by position, ascending.
struct Graph {
    deps: Vec<Vec<usize>>,
    heads: Vec<usize>,
}

impl Graph {
    /// Finds the dependencies; `None` if one comes after what depends on it, or not at all.
    fn of(changes: &[FoldedChange]) -> Option<Self> {
        let mut positions = HashMap::with_capacity(changes.len());
        let mut is_head = vec![true; changes.len()];
        let mut graph = Vec::with_capacity(changes.len());
        for (position, change) in changes.iter().enumerate() {
            let mut deps = Vec::with_capacity(change.deps.len());
            for hash in &change.deps {
                let dep: usize = *positions.get(hash)?;
                is_head[dep] = false;
                deps.push(dep);
            }
            deps.sort_unstable();
            graph.push(deps);
            if positions.insert(change.hash, position).is_some() {
                return None;
            }
        }
        let heads = (0..changes.len()).filter(|position| is_head[*position]).collect();
        Some(Self { deps: graph, heads })
    }
}
