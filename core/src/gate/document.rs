//! What stands at the beginning of a whole-document chunk: who wrote in it, and the heads it ends with. Read without
//! Automerge, to tell what a chunk is about before anybody dares to load it.

use automerge::ChangeHash;

use super::chunk::{Chunk, ChunkKind};
use super::leb::Reader;
use super::{GateError, Rule};
use crate::limits::{ACTOR_BYTES_MAX, DOCUMENT_HEADS_MAX};

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
    fn change_is_no_document() {
        let error = DocumentHeader::of(&Chunk::unchecked(ChunkKind::Change, &[0, 0])).unwrap_err();
        assert_eq!(error.rule(), Rule::ChunkType);
    }
}
