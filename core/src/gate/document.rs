//! What stands at the beginning of a whole-document chunk: who wrote in it, and the heads it ends with. Read without
//! Automerge, to tell what a chunk is about before anybody dares to load it.

use std::io::Read;

use automerge::ChangeHash;

use super::chunk::{Chunk, ChunkKind};
use super::leb::Reader;
use super::{GateError, Rule};
use crate::limits::{
    ACTOR_BYTES_MAX, CHANGE_COLUMNS_MAX, DOCUMENT_HEADS_MAX, WHOLE_INFLATED_BYTES_MAX, WHOLE_ROWS_MAX,
};

/// The beginning of a whole-document chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentHeader {
    /// How many actors it says have written in it.
    pub actors: u64,
    /// The heads it says it ends with, ascending. None in a document without changes.
    pub heads: Vec<ChangeHash>,
}

impl DocumentHeader {
    /// Reads the header of a document chunk. Whether the rest of the chunk fits to it is not known: only loading tells.
    ///
    /// Cost: the header's bytes; allocates at most [`DOCUMENT_HEADS_MAX`] hashes.
    ///
    /// # Errors
    ///
    /// `chunk-type` if it is no document, `truncated`, `integer`, `actor-length`, `too-many-heads`, `deps-order` if the
    /// heads are not sorted or one is named twice.
    pub fn of(chunk: &Chunk<'_>) -> Result<Self, GateError> {
        Rule::ChunkType.require(chunk.kind() == ChunkKind::Document)?;
        let mut reader = Reader::new(chunk.body());
        let actors = reader.unsigned()?;
        for _ in 0..actors {
            // Each takes at least a byte, so that a count alone keeps nobody busy.
            let actor = reader.prefixed()?;
            Rule::ActorLength.at_most(actor.len() as u64, ACTOR_BYTES_MAX as u64)?;
        }
        let count = reader.unsigned()?;
        Rule::TooManyHeads.at_most(count, DOCUMENT_HEADS_MAX as u64)?;
        let heads = (0..count).map(|_| reader.array().map(ChangeHash)).collect::<Result<Vec<_>, _>>()?;
        Rule::DepsOrder.require(heads.is_sorted_by(|one, next| one < next))?;
        Ok(Self { actors, heads })
    }

    /// Finds out how much a document chunk unpacks to, and refuses one that would take too much: a column of 20 bytes can
    /// claim 10^9 rows, and a deflated one grow a thousandfold.
    ///
    /// Cost: O(bytes), inflated at most [`WHOLE_INFLATED_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// `columns`, `too-many-ops`, `inflate`, `inflate-too-large`, `truncated`, `integer`.
    pub fn check_size(chunk: &Chunk<'_>) -> Result<(), GateError> {
        let mut reader = Reader::new(chunk.body());
        let actors = reader.unsigned()?;
        for _ in 0..actors {
            reader.prefixed()?;
        }
        let heads = reader.unsigned()?;
        reader.take(heads.saturating_mul(32))?;
        let tables = [read_columns(&mut reader)?, read_columns(&mut reader)?];
        let mut inflated = 0;
        for (number, length) in tables.concat() {
            let bytes = reader.take(length)?;
            if number & DEFLATED == 0 {
                count_rows(number, bytes, actors)?;
                continue;
            }
            let bytes = inflate(bytes, WHOLE_INFLATED_BYTES_MAX - inflated)?;
            inflated += bytes.len();
            count_rows(number, &bytes, actors)?;
        }
        Ok(())
    }
}

/// The bit in a column's number that says it is deflated.
const DEFLATED: u64 = 8;

/// Reads a table of columns: numbers and lengths.
fn read_columns(reader: &mut Reader<'_>) -> Result<Vec<(u64, u64)>, GateError> {
    let count = reader.unsigned()?;
    Rule::Columns.at_most(count, CHANGE_COLUMNS_MAX as u64)?;
    (0..count).map(|_| Ok((reader.unsigned()?, reader.unsigned()?))).collect()
}

/// Counts the rows of a column, and what the values of a counting one add up to; refuses too many of either, and an actor that
/// is none of the document's: Automerge makes room for every actor below the greatest it finds, 2 GiB for one of 4 bytes.
fn count_rows(number: u64, column: &[u8], actors: u64) -> Result<(), GateError> {
    let mut reader = Reader::new(column);
    let mut total = 0u64;
    let mut add = |count: u64| {
        total = total.saturating_add(count);
        Rule::TooManyOps.at_most(total, WHOLE_ROWS_MAX)
    };
    match number & 7 {
        4 => {
            while !reader.is_empty() {
                add(reader.unsigned()?)?;
            }
        }
        // Raw values have no rows: how they are cut stands in the column before.
        7 => {}
        kind => {
            while !reader.is_empty() {
                let head = reader.signed()?;
                if head == 0 {
                    add(reader.unsigned()?)?;
                    continue;
                }
                let (values, times) = if head > 0 { (1, head.unsigned_abs()) } else { (head.unsigned_abs(), 1) };
                for _ in 0..values {
                    let value = match kind {
                        3 => reader.signed().map(|_| 0)?,
                        5 => reader.prefixed().map(|_| 0)?,
                        _ => reader.unsigned()?,
                    };
                    Rule::ActorIndex.require(kind != 1 || value < actors)?;
                    // A group column counts rows of others. The others' values count nothing.
                    add(if kind == 0 { times.saturating_mul(value.saturating_add(1)) } else { times })?;
                }
            }
        }
    }
    Ok(())
}

/// Inflates a column up to a bound.
fn inflate(bytes: &[u8], limit: usize) -> Result<Vec<u8>, GateError> {
    let mut out = Vec::new();
    let mut decoder = flate2::read::DeflateDecoder::new(bytes).take(limit as u64 + 1);
    decoder.read_to_end(&mut out).map_err(|_| Rule::Inflate.error())?;
    if out.len() > limit {
        return Err(Rule::InflateTooLarge.found(out.len() as u64, limit as u64));
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use automerge::transaction::Transactable;
    use automerge::{ActorId, Automerge, AutomergeError, ROOT};

    use super::*;

    fn saved(heads: usize) -> Automerge {
        let mut document = Automerge::new();
        for head in 0..heads {
            let mut fork = Automerge::new().with_actor(ActorId::from(head.to_be_bytes()));
            fork.transact::<_, _, AutomergeError>(|tx| tx.put(ROOT, "k", 1)).unwrap();
            document.merge(&mut fork).unwrap();
        }
        document
    }

    #[test]
    fn actors_and_heads_are_automerges_own() {
        for count in [0, 1, 3] {
            let document = saved(count);
            let bytes = document.save();
            let header = DocumentHeader::of(&Chunk::parse(&bytes).unwrap()).unwrap();
            assert_eq!(header, DocumentHeader { actors: count as u64, heads: document.get_heads() });
        }
    }

    #[test]
    fn every_cut_and_every_altered_byte_is_an_error_or_another_header() {
        let bytes = saved(2).save();
        let body = Chunk::parse(&bytes).unwrap().body().to_vec();
        for at in 0..body.len().min(120) {
            let mut altered = body.clone();
            altered[at] ^= 0xff;
            for body in [&altered[..], &body[..at]] {
                let chunk = Chunk::unchecked(ChunkKind::Document, body);
                if let Ok(header) = DocumentHeader::of(&chunk) {
                    assert!(header.heads.len() <= DOCUMENT_HEADS_MAX);
                }
            }
        }
        let many = [0x00, 0xff, 0xff, 0xff, 0xff, 0x0f];
        let error = DocumentHeader::of(&Chunk::unchecked(ChunkKind::Document, &many)).unwrap_err();
        assert_eq!(error.rule(), Rule::TooManyHeads);
    }

    #[test]
    fn actor_that_is_none_of_the_documents_is_refused_before_room_is_made_for_it() {
        // One actor, no heads, no columns of changes, and one of the operations' objects' actors.
        let body = |actor: &[u8]| {
            let length = u8::try_from(actor.len() + 1).unwrap();
            [&[1, 1, 0xaa, 0, 0, 1, 0x01, length, 0x7f], actor].concat()
        };
        let check = |body: &[u8]| DocumentHeader::check_size(&Chunk::unchecked(ChunkKind::Document, body));
        assert_eq!(check(&body(&[0])), Ok(()));
        for actor in [&[1][..], &[0x80, 0x80, 0x80, 0x78]] {
            assert_eq!(check(&body(actor)).unwrap_err().rule(), Rule::ActorIndex);
        }
    }

    #[test]
    fn change_is_no_document() {
        let error = DocumentHeader::of(&Chunk::unchecked(ChunkKind::Change, &[0, 0])).unwrap_err();
        assert_eq!(error.rule(), Rule::ChunkType);
    }
}
