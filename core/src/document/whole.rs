//! Whole documents: what a chunk with all of a document's changes tells, so that it can be used before its history is
//! unfolded.

use automerge::{ActorId, Automerge, ChangeHash, LoadOptions, ObjId, ROOT, ReadDoc, TextEncoding, Value, ValueRef};

use super::read::{field_value, kind_of};
use super::{DocumentError, guarded};
use crate::fields::{self, ObjectId, ObjectKind, ShownField};
use crate::gate::{CheckedChange, Chunk, DocumentHeader, GateError};
use crate::id::{DocumentId, OpId};
use crate::ledger::base::{self, BaseError, FoldedChange, FoldedHistory};
use crate::ledger::snapshot;
use crate::store::{StoreError, WriteTx};

/// A whole document, loaded.
pub struct Whole {
    automerge: Automerge,
    /// Its heads, ascending.
    pub heads: Vec<ChangeHash>,
    /// Its changes, summed up.
    pub history: FoldedHistory,
    /// Every field that shows a value: its map, its key, and its values, the winner first.
    pub fields: Vec<ShownField>,
    /// Every object that can be reached, with its kind and what it was made in.
    pub objects: Vec<(ObjectId, ObjectKind, ObjectId)>,
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whole")
            .field("heads", &self.heads)
            .field("changes", &self.history.count())
            .finish_non_exhaustive()
    }
}

/// Loads a whole-document chunk from a peer.
///
/// How much it unpacks to is found out first, without Automerge; a panic of Automerge becomes an error. What it holds is not
/// held against the gate's rules yet: [`unfolded`] gives the changes for that. Cost: loading it, and a visit to every value
/// that is no character.
///
/// # Errors
///
/// [`DocumentError::Gate`] if it is no document chunk, or too large unpacked; [`DocumentError::Automerge`] or
/// [`DocumentError::Panicked`] if Automerge cannot load it.
pub fn read(chunk: &[u8]) -> Result<Whole, DocumentError> {
    check(chunk).map_err(DocumentError::Gate)?;
    guarded(|| {
        let automerge = load(chunk)?;
        let heads = automerge.get_heads();
        let changes = automerge.get_changes_meta(&[]);
        let history = FoldedHistory::of(&heads, || {
            changes.iter().map(|change| FoldedChange {
                hash: change.hash,
                deps: &change.deps,
                actor: &change.actor,
                seq: change.seq,
                start_op: change.start_op,
                max_op: change.max_op,
            })
        });
        let history = history.map_err(|error| DocumentError::Refused(error.to_string()))?;
        drop(changes);
        let mut visit = Visit { automerge: &automerge, fields: Vec::new(), objects: Vec::new(), open: Vec::new() };
        visit.map(&ROOT, &ObjectId::Root)?;
        while let Some((id, kind, object)) = visit.open.pop() {
            match kind {
                ObjectKind::Map | ObjectKind::Table => visit.map(&id, &object)?,
                ObjectKind::List | ObjectKind::Text => visit.elements(&id, &object)?,
            }
        }
        let Visit { fields, objects, .. } = visit;
        Ok(Whole { automerge, heads, history, fields, objects })
    })?
}

/// Loads a whole-document chunk that this store kept.
pub(super) fn load(chunk: &[u8]) -> Result<Automerge, DocumentError> {
    let options = LoadOptions::new().text_encoding(TextEncoding::Utf16CodeUnit);
    Ok(Automerge::load_with_options(chunk, options)?)
}

/// Takes a whole-document chunk apart into its changes, in the order in which [`Whole::history`] counts them, and hands them
/// out in batches with which memory stays bounded. Stops at the first error of `take`.
///
/// # Errors
///
/// As [`read`], and what `take` returns. [`DocumentError::Gate`] if a change breaks a rule of the gate by itself.
pub fn unfolded<E: From<DocumentError>>(
    chunk: &[u8],
    batch: usize,
    mut take: impl FnMut(Vec<CheckedChange>) -> Result<(), E>,
) -> Result<(), E> {
    check(chunk).map_err(DocumentError::Gate)?;
    let changes = guarded(|| Ok::<_, DocumentError>(load(chunk)?.get_changes(&[])))??;
    for part in changes.chunks(batch.max(1)) {
        let checked = part.iter().map(|change| CheckedChange::parse(change.raw_bytes())).collect::<Result<_, _>>();
        take(checked.map_err(DocumentError::Gate)?)?;
    }
    Ok(())
}

fn check(chunk: &[u8]) -> Result<(), GateError> {
    let chunk = Chunk::parse(chunk)?;
    DocumentHeader::of(&chunk)?;
    DocumentHeader::check_size(&chunk)
}

impl Whole {
    /// Gives the document as Automerge has it; edits will be `actor`'s.
    pub(crate) fn into_automerge(self, actor: ActorId) -> Automerge {
        self.automerge.with_actor(actor)
    }
}

/// A walk over everything that can be reached, conflicts included.
struct Visit<'d> {
    automerge: &'d Automerge,
    fields: Vec<ShownField>,
    objects: Vec<(ObjectId, ObjectKind, ObjectId)>,
    open: Vec<(ObjId, ObjectKind, ObjectId)>,
}

impl Visit<'_> {
    fn map(&mut self, id: &ObjId, object: &ObjectId) -> Result<(), DocumentError> {
        let keys: Vec<String> = self.automerge.keys(id).collect();
        for key in keys {
            let mut values = Vec::new();
            for (value, made) in self.automerge.get_all(id, key.as_str())? {
                values.extend(field_value(&value, &made));
                self.note(&value, made, object);
            }
            // Automerge gives the winner last.
            values.sort_unstable_by(|(one, _), (next, _)| next.cmp(one));
            self.fields.push((object.clone(), key, values));
        }
        Ok(())
    }

    fn elements(&mut self, id: &ObjId, object: &ObjectId) -> Result<(), DocumentError> {
        let items = self.automerge.list_range(id, ..);
        let items = items.filter(|item| item.conflict || matches!(item.value, ValueRef::Object(_)));
        let found: Vec<_> = items.map(|item| (item.index, item.conflict, item.value.clone(), item.id())).collect();
        for (index, conflict, value, made) in found {
            if let (false, ValueRef::Object(kind)) = (conflict, value) {
                self.note(&Value::Object(kind), made, object);
                continue;
            }
            for (value, made) in self.automerge.get_all(id, index)? {
                self.note(&value, made, object);
            }
        }
        Ok(())
    }

    /// Notes a value that is an object, to be visited.
    fn note(&mut self, value: &Value<'_>, id: ObjId, parent: &ObjectId) {
        let Value::Object(kind) = value else { return };
        let ObjId::Id(counter, actor, _) = &id else { return };
        let object = ObjectId::Made(OpId { counter: *counter, actor: actor.clone() });
        let kind = kind_of(*kind);
        self.objects.push((object.clone(), kind, parent.clone()));
        self.open.push((id, kind, object));
    }
}

/// Takes a whole document into a store where it is still empty: its graph as far as it is known, its registers, and the
/// chunk itself, in the caller's transaction.
///
/// # Errors
///
/// [`BaseError`] if the document is not empty, or the chunk's history has gaps: nothing was written then. [`StoreError`] if
/// the store cannot be used.
pub fn install(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    whole: &mut Whole,
    chunk: &[u8],
) -> Result<Result<(), BaseError>, StoreError> {
    if let Err(error) = base::install(tx, document, &whole.history)? {
        return Ok(Err(error));
    }
    fields::restore(tx, document, std::mem::take(&mut whole.fields), &whole.objects)?;
    let kept = snapshot::put(tx, document, whole.history.count(), &whole.heads, chunk)?;
    // The graph was just made of the same changes.
    if kept { Ok(Ok(())) } else { Err(StoreError::Damaged { what: "snapshot-1" }) }
}
