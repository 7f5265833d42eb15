//! The ledger: a document's changes and their dependency graph, in the store, never needing the document in memory.
//!
//! Changes get positions 0, 1, 2, ... in the order they were accepted. A change is accepted only when all its
//! dependencies are there, so positions are a topological order: every ancestor of a change has a smaller position. That
//! one property carries the whole module. Export is a range scan; "what do you lack" is a walk from the heads down that
//! stops as soon as only shared history is left.
//!
//! All functions work inside the caller's transaction.

use std::ops::ControlFlow;

use automerge::{ActorId, ChangeHash};

use crate::gate::GateError;
use crate::id::DocumentId;
use crate::store::record::{self, Reader, position_key, prefix_end, tail_key};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

mod actors;
mod ancestry;
mod append;
pub mod base;
pub mod branches;
mod compare;
pub mod cursor;
pub mod follow;
pub mod log;
mod mark_order;
mod migrate;
pub mod outbox;
pub mod owners;
mod packs;
pub mod receipts;
mod references;
pub mod rejected;
pub mod requests;
pub mod shared;
pub mod snapshot;
pub mod spaces;
#[cfg(test)]
mod tests;
pub mod tombstone;
mod walk;

pub use append::Appender;
pub use compare::{Compared, compare};
pub use migrate::{from_1_to_2, from_2_to_3};
pub use packs::{Packing, compact, compact_fully, prepare_packing, put_packing};
pub use walk::{covers, missing, missing_runs};

const NODE: &str = "node-2";

/// The first byte of a document's record.
const STATE_VERSION: u8 = 2;

/// The version without the count of packed changes.
const STATE_VERSION_UNPACKED: u8 = 1;

/// What is known of a document without reading any change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentState {
    /// How many changes there are: the next change gets this position.
    pub count: u64,
    /// The greatest operation counter of all changes; 0 in an empty document.
    pub max_op: u64,
    /// The changes' sizes together, in bytes, uncompressed.
    pub bytes: u64,
    /// How many changes are packed: the first ones, by position.
    pub packed: u64,
    /// How many of the first changes are only inside the document's snapshot, to be unfolded; see [`base`].
    pub folded: u64,
    /// The changes that no other change depends on, by hash.
    pub heads: Vec<Head>,
}

impl DocumentState {
    /// Returns the heads' hashes, sorted.
    pub fn head_hashes(&self) -> Vec<ChangeHash> {
        self.heads.iter().map(|head| head.hash).collect()
    }
}

/// One head of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its hash.
    pub hash: ChangeHash,
    /// Its position.
    pub position: u64,
    /// Its greatest operation counter.
    pub max_op: u64,
}

/// One change's place in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The change's hash.
    pub hash: ChangeHash,
    /// The positions of the changes it depends on, ascending.
    pub deps: Vec<u64>,
    /// All positions below this one are ancestors of it or it itself; it may be smaller than it could be.
    pub floor: u64,
    /// Who made it.
    pub actor: ActorId,
    /// Which change of its actor it is, from 1.
    pub seq: u64,
    /// The counter of its first operation.
    pub start_op: u64,
    /// How many operations it has.
    pub op_count: u64,
    /// Its size in bytes, uncompressed.
    pub bytes: u64,
}

impl Node {
    /// Returns the counter of its last operation.
    pub fn max_op(&self) -> u64 {
        // Of a damaged record it may be any number.
        self.start_op.saturating_add(self.op_count).saturating_sub(1)
    }
}

/// What became of a change that was offered to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Appended {
    /// It is stored, at this position.
    Stored {
        /// Where.
        position: u64,
    },
    /// It was already there: nothing happened.
    Duplicate,
    /// It depends on changes that are not there, and was not stored.
    Missing {
        /// Some of them: all, or [`crate::limits::MISSING_HASHES_MAX`].
        hashes: Vec<ChangeHash>,
    },
    /// It cannot be judged before the document's history is unfolded, and was not stored: offer it again then. See
    /// [`base`].
    Folded,
    /// It breaks a rule, and was not stored. The rest of the document is untouched.
    Rejected(GateError),
    /// The document was deleted, and takes no change any more.
    Deleted,
}

/// Returns what is known of a document, or `None` if there is no such document. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn state(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Option<DocumentState>, StoreError> {
    tx.get(Table::Document, document.as_bytes())?.map(|bytes| decode_state(&bytes)).transpose()
}

/// Returns a document's heads, sorted; empty if there is no such document.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn heads(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Vec<ChangeHash>, StoreError> {
    Ok(state(tx, document)?.unwrap_or_default().head_hashes())
}

/// Creates a document without changes; nothing happens if it is there. Returns whether it is there now: one that was
/// deleted everywhere is not.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn create(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<bool, StoreError> {
    if tx.contains(Table::Document, document.as_bytes())? {
        return Ok(true);
    }
    if tombstone::is_buried(tx, document)? {
        return Ok(false);
    }
    put_state(tx, document, &DocumentState::default())?;
    Ok(true)
}

/// Deletes a document from this store with everything that belongs to it. Other stores keep theirs, and if it was deleted
/// everywhere, that stays known.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn delete(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId) -> Result<(), StoreError> {
    base::forget(tx, document)?;
    clear(tx, document, |_| true)?;
    // Where it was stays known to those who follow the space, and to those who ask about a tombstone.
    let is_logged = log::void(tx, document)?;
    if !is_logged && !tombstone::is_buried(tx, document)? {
        spaces::forget(tx, document)?;
    }
    Ok(())
}

/// Deletes what the chosen tables hold of a document itself, and leaves what is noted about it.
pub(crate) fn clear(
    tx: &mut (impl WriteTx + ?Sized),
    document: &DocumentId,
    choose: impl Fn(Table) -> bool,
) -> Result<(), StoreError> {
    let end = prefix_end(document.as_bytes());
    let mut tables = Table::ALL.into_iter().filter(|table| table.is_of_documents() && choose(*table));
    tables.try_for_each(|table| tx.delete_range(table, document.as_bytes()..&end))
}

/// Returns every document of the store, by id. Cost: one visit a document.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn documents(tx: &(impl ReadTx + ?Sized)) -> Result<Vec<DocumentId>, StoreError> {
    let mut found = Vec::new();
    let end = prefix_end(&[u8::MAX]);
    tx.scan(Table::Document, &[]..&end, &mut |key, _| {
        if let Ok(bytes) = key.try_into() {
            found.push(DocumentId::from_bytes(bytes));
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Returns a change's position, or `None` if the document lacks it.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn position(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    hash: &ChangeHash,
) -> Result<Option<u64>, StoreError> {
    match tx.get(Table::Hash, &tail_key(document, &hash.0))? {
        Some(bytes) => Reader::new(&bytes, "hash-1").count().map(Some),
        None => packs::position(tx, document, hash),
    }
}

/// Returns a change's place in the graph.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read, or has no such position: positions come from the store itself.
pub fn node(tx: &(impl ReadTx + ?Sized), document: &DocumentId, position: u64) -> Result<Node, StoreError> {
    match tx.get(Table::Node, &position_key(document, position))? {
        Some(bytes) => decode_node(&bytes, position),
        None => match packs::node(tx, document, position)? {
            Some(node) => Ok(node),
            None => Err(absent(tx, document, position, NODE)?),
        },
    }
}

/// Returns a change's bytes, an uncompressed chunk.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read, or has no such position.
pub fn change(tx: &(impl ReadTx + ?Sized), document: &DocumentId, position: u64) -> Result<Vec<u8>, StoreError> {
    let bytes = match tx.get(Table::Change, &position_key(document, position))? {
        Some(bytes) => Some(bytes),
        None => packs::change(tx, document, position)?,
    };
    bytes.map_or_else(|| Err(absent(tx, document, position, "change-1")?), Ok)
}

fn refuse_folded(tx: &(impl ReadTx + ?Sized), document: &DocumentId, from: u64) -> Result<(), StoreError> {
    match state(tx, document)? {
        Some(state) if from < state.folded => Err(StoreError::Folded),
        _ => Ok(()),
    }
}

/// Says why there is no record for a position that the store itself named.
fn absent(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    position: u64,
    what: &'static str,
) -> Result<StoreError, StoreError> {
    let folded = state(tx, document)?.is_some_and(|state| position < state.folded);
    Ok(if folded { StoreError::Folded } else { StoreError::Damaged { what } })
}

/// Visits the changes from a position on, in topological order, until the visitor breaks.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn export(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    from: u64,
    visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    refuse_folded(tx, document, from)?;
    let (from, flow) = packs::export(tx, document, from, &mut |bytes, _| visit(bytes))?;
    if flow.is_break() {
        return Ok(());
    }
    let (start, end) = (position_key(document, from), prefix_end(document.as_bytes()));
    tx.scan(Table::Change, &start..&end, &mut |_, bytes| visit(bytes))
}

/// Returns the hashes of all changes, in topological order. Cost: one visit a change.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn hashes(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<Vec<ChangeHash>, StoreError> {
    refuse_folded(tx, document, 0)?;
    let mut hashes = Vec::new();
    let (from, _) = packs::export(tx, document, 0, &mut |_, hash| {
        hashes.push(hash);
        ControlFlow::Continue(())
    })?;
    let (start, end) = (position_key(document, from), prefix_end(document.as_bytes()));
    let mut damaged = None;
    tx.scan(Table::Node, &start..&end, &mut |_, node| {
        match node.first_chunk::<32>() {
            Some(hash) => hashes.push(ChangeHash(*hash)),
            None => damaged = Some(StoreError::Damaged { what: NODE }),
        }
        ControlFlow::Continue(())
    })?;
    damaged.map_or(Ok(hashes), Err)
}

/// Returns how many changes of an actor there are: its last seq, or 0.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn last_seq(tx: &(impl ReadTx + ?Sized), document: &DocumentId, actor: &ActorId) -> Result<u64, StoreError> {
    Ok(actors::last(tx, document, actor)?.map_or(0, |last| last.seq))
}

/// Packs as [`compact`] does, from `changes_min` changes on and at most `changes_max`: for tests with short histories.
///
/// # Errors
///
/// As [`compact`].
#[cfg(feature = "testing")]
pub fn compact_within(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    keep: u64,
    changes_min: usize,
    changes_max: usize,
) -> Result<u64, StoreError> {
    packs::compact_within(tx, document, keep, changes_min, changes_max)
}

/// Writes a document's record; `core/docs/storage.md` draws it.
fn put_state(tx: &mut (impl WriteTx + ?Sized), document: &DocumentId, state: &DocumentState) -> Result<(), StoreError> {
    let mut out = Vec::with_capacity(16 + state.heads.len() * 40);
    out.push(STATE_VERSION);
    record::put_uint(&mut out, state.count);
    record::put_uint(&mut out, state.max_op);
    record::put_uint(&mut out, state.bytes);
    record::put_uint(&mut out, state.packed);
    record::put_uint(&mut out, state.folded);
    record::put_uint(&mut out, state.heads.len() as u64);
    for head in &state.heads {
        record::put_uint(&mut out, head.position);
        record::put_uint(&mut out, head.max_op);
        out.extend_from_slice(&head.hash.0);
    }
    tx.put(Table::Document, document.as_bytes(), &out)
}

pub(crate) fn decode_state(bytes: &[u8]) -> Result<DocumentState, StoreError> {
    let mut reader = Reader::new(bytes, "document-1");
    let version = reader.byte()?;
    let (count, max_op, bytes) = (reader.count()?, reader.count()?, reader.count()?);
    let (packed, folded) = match version {
        STATE_VERSION => (reader.count()?, reader.count()?),
        STATE_VERSION_UNPACKED => (0, 0),
        _ => return Err(reader.damaged()),
    };
    let heads = (0..reader.count()?).map(|_| {
        let (position, max_op) = (reader.count()?, reader.count()?);
        Ok(Head { position, max_op, hash: reader.hash()? })
    });
    let heads = heads.collect::<Result<_, StoreError>>()?;
    Ok(DocumentState { count, max_op, bytes, packed, folded, heads })
}

/// A node that stands below what it depends on comes from a damaged store, and is none.
fn encode_node(node: &Node, position: u64) -> Result<Vec<u8>, StoreError> {
    let above = |from: u64, below: u64| from.checked_sub(below).ok_or(StoreError::Damaged { what: NODE });
    let mut out = Vec::with_capacity(64 + node.deps.len() * 2);
    out.extend_from_slice(&node.hash.0);
    record::put_uint(&mut out, node.deps.len() as u64);
    for dep in &node.deps {
        record::put_uint(&mut out, above(position, *dep)?);
    }
    record::put_uint(&mut out, above(position.saturating_add(1), node.floor)?);
    record::put_bytes(&mut out, node.actor.to_bytes());
    record::put_uint(&mut out, node.seq);
    record::put_uint(&mut out, node.start_op);
    record::put_uint(&mut out, node.op_count);
    record::put_uint(&mut out, node.bytes);
    Ok(out)
}

fn decode_node(bytes: &[u8], position: u64) -> Result<Node, StoreError> {
    let mut reader = Reader::new(bytes, NODE);
    let hash = reader.hash()?;
    let deps = (0..reader.count()?).map(|_| {
        let back = reader.count()?;
        position.checked_sub(back).ok_or(StoreError::Damaged { what: NODE })
    });
    let deps = deps.collect::<Result<_, StoreError>>()?;
    let lag = reader.count()?;
    Ok(Node {
        hash,
        deps,
        floor: position.saturating_add(1).checked_sub(lag).ok_or(StoreError::Damaged { what: NODE })?,
        actor: reader.actor()?,
        seq: reader.count()?,
        start_op: reader.count()?,
        op_count: reader.count()?,
        bytes: reader.count()?,
    })
}
