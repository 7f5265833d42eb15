//! Salvage: what can still be read of a damaged `.automerge` file.

use std::collections::HashMap;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ChangeHash, LoadOptions, ROOT, TextEncoding, VerificationMode, hydrate};
use sha2::{Digest, Sha256};

use super::guarded;
use crate::gate::{CheckedChange, Chunk, ChunkKind, GateError, Rule, chunks};
use crate::limits::{SALVAGE_HASH_FACTOR, SALVAGE_TRIES_MAX};

/// What every chunk starts with.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// The type byte of a document chunk.
const DOCUMENT_TYPE: u8 = 0;

/// What was read of a damaged file.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The changes, in topological order: each comes after those it depends on.
    pub changes: Vec<CheckedChange>,
    /// Whether values were saved without their history: `changes` then also holds new ones that set them.
    pub values_only: bool,
    /// What was lost, by where it stood in the file.
    pub lost: Vec<Lost>,
}

/// A part of a damaged file that could not be kept, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Where it begins in the file, in bytes.
    pub offset: usize,
    /// How many bytes it takes.
    pub length: usize,
    /// What is wrong with it, and what was done.
    pub why: String,
}

impl Lost {
    /// Says that something was lost whose place in the file is not known.
    pub fn somewhere(why: impl Into<String>) -> Self {
        Self { offset: 0, length: 0, why: why.into() }
    }
}

/// Reads what can be read of a damaged file. Never fails: in the worst case everything is lost.
///
/// Changes are kept as they are when they pass the gate and all that they depend on is there. Of a document chunk that
/// Automerge refuses, the values are kept without their history; the new changes that set them are `actor`'s, which must
/// be random.
///
/// Cost: loads the file up to three times. Automerge reads nested values by recursion: call it on a thread with a large
/// stack.
pub fn salvage(bytes: &[u8], actor: &ActorId) -> Salvaged {
    let mut work = Work { salvaged: Salvaged::default(), found: Vec::new(), values: None };
    let mut offset = 0;
    let mut tries = 0;
    let mut hashed = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let length = match chunks(rest).next() {
            Some(Ok(chunk)) => {
                work.take_chunk(&chunk, offset);
                chunk.raw().len()
            }
            Some(Err(error)) => {
                tries += 1;
                if error.rule() == Rule::Checksum {
                    hashed += chunk_length(rest).unwrap_or(rest.len());
                }
                if tries > SALVAGE_TRIES_MAX || hashed > bytes.len().saturating_mul(SALVAGE_HASH_FACTOR) {
                    work.lose(offset, rest.len(), "too many damaged places before it".to_owned());
                    break;
                }
                work.take_damaged(rest, offset, error)
            }
            None => break,
        };
        offset += length;
    }
    work.finish(actor)
}

struct Work {
    salvaged: Salvaged,
    /// The changes that were read, and where.
    found: Vec<(CheckedChange, usize)>,
    /// The values of a document whose history cannot be read.
    values: Option<(hydrate::Map, usize)>,
}

impl Work {
    fn lose(&mut self, offset: usize, length: usize, why: String) {
        self.salvaged.lost.push(Lost { offset, length, why });
    }

    /// Takes a chunk whose checksum fits.
    fn take_chunk(&mut self, chunk: &Chunk<'_>, offset: usize) {
        let length = chunk.raw().len();
        match chunk.kind() {
            ChunkKind::Change | ChunkKind::Compressed => match CheckedChange::from_chunk(chunk) {
                Ok(change) => self.found.push((change, offset)),
                Err(error) => self.lose(offset, length, format!("a change breaks a rule: {error}")),
            },
            ChunkKind::Document | ChunkKind::Bundle => match load(chunk.raw(), VerificationMode::Check) {
                Ok(document) => self.take_document(&document, offset, length),
                Err(why) => self.take_values(chunk.raw(), offset, why),
            },
        }
    }

    /// Takes what can be had of a place where no sound chunk begins, and returns how far it goes.
    fn take_damaged(&mut self, rest: &[u8], offset: usize, error: GateError) -> usize {
        // A document whose bytes are all there but differ: its values may still be readable.
        if error.rule() == Rule::Checksum
            && rest.get(8) == Some(&DOCUMENT_TYPE)
            && let Some(length) = chunk_length(rest)
        {
            let mut repaired = rest[..length].to_vec();
            let digest = Sha256::digest(&repaired[8..]);
            repaired[4..8].copy_from_slice(&digest[..4]);
            self.take_values(&repaired, offset, error.to_string());
            return length;
        }
        let next = rest.windows(MAGIC.len()).skip(1).position(|window| window == MAGIC);
        let length = next.map_or(rest.len(), |next| next + 1);
        self.lose(offset, length, error.to_string());
        length
    }

    fn take_document(&mut self, document: &Automerge, offset: usize, length: usize) {
        let changes = guarded(|| document.get_changes(&[])).unwrap_or_default();
        let mut refused = None;
        for change in changes {
            match CheckedChange::parse(change.raw_bytes()) {
                Ok(change) => self.found.push((change, offset)),
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            self.lose(offset, length, format!("at least one change of the document breaks a rule: {error}"));
        }
    }

    /// Takes the values of a document chunk that does not load.
    fn take_values(&mut self, raw: &[u8], offset: usize, why: String) {
        let rescued = guarded(|| Automerge::rescue(raw)).ok().and_then(Result::ok);
        let rescued = rescued.or_else(|| {
            let document = load(raw, VerificationMode::DontCheck).ok()?;
            guarded(|| document.hydrate(None)).ok()
        });
        let (kept, fate) = match (rescued, &self.values) {
            (Some(hydrate::Value::Map(map)), None) => (Some(map), "its values were kept without their history"),
            (Some(_), _) => (None, "another damaged document came before it"),
            (None, _) => (None, "nothing in it can be read"),
        };
        self.lose(offset, raw.len(), format!("a document does not load: {why}; {fate}"));
        if let Some(map) = kept {
            self.values = Some((map, offset));
        }
    }

    /// Puts the changes into order and leaves out those whose dependencies are lost.
    fn finish(mut self, actor: &ActorId) -> Salvaged {
        let mut found = std::mem::take(&mut self.found);
        let mut waiting: HashMap<ChangeHash, Vec<usize>> = HashMap::new();
        let mut known: HashMap<ChangeHash, usize> = HashMap::new();
        found.retain(|(change, _)| {
            let next = known.len();
            *known.entry(change.hash()).or_insert(next) == next
        });
        let mut lacking: Vec<usize> = Vec::with_capacity(found.len());
        for (index, (change, _)) in found.iter().enumerate() {
            lacking.push(change.deps().len());
            for dep in change.deps() {
                waiting.entry(*dep).or_default().push(index);
            }
        }
        let mut ready: Vec<usize> = (0..found.len()).rev().filter(|index| lacking[*index] == 0).collect();
        let mut taken = vec![false; found.len()];
        while let Some(index) = ready.pop() {
            let change = &found[index].0;
            taken[index] = true;
            for next in waiting.remove(&change.hash()).unwrap_or_default() {
                lacking[next] -= 1;
                if lacking[next] == 0 {
                    ready.push(next);
                }
            }
            self.salvaged.changes.push(change.clone());
        }
        for ((change, offset), taken) in found.iter().zip(taken) {
            if !taken {
                self.lose(*offset, change.bytes().len(), "a change depends on one that is lost".to_owned());
            }
        }
        if let Some((map, offset)) = self.values.take() {
            self.write_values(&map, offset, actor);
        }
        self.salvaged.lost.sort_by_key(|lost| lost.offset);
        self.salvaged
    }

    /// Writes values as new changes, one for each field of the root, after what was kept.
    fn write_values(&mut self, map: &hydrate::Map, offset: usize, actor: &ActorId) {
        let mut document = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit).with_actor(actor.clone());
        let kept =
            self.salvaged.changes.iter().filter_map(|change| automerge::Change::try_from(&change.bytes()[..]).ok());
        let kept: Vec<_> = kept.collect();
        if !matches!(guarded(|| document.apply_changes(kept)), Ok(Ok(()))) {
            self.lose(offset, 0, "the values do not fit what else was kept".to_owned());
            return;
        }
        let mut fields: Vec<_> = map.iter().collect();
        fields.sort_by_key(|(key, _)| key.as_str());
        for (key, field) in fields {
            match write_field(&document, key, &field.value) {
                Ok((next, change)) => {
                    document = next;
                    self.salvaged.changes.push(change);
                    self.salvaged.values_only = true;
                }
                Err(why) => self.lose(offset, 0, format!("the field {key:?} cannot be kept: {why}")),
            }
        }
    }
}

/// Writes one field of the root in a copy of the document.
fn write_field(document: &Automerge, key: &str, value: &hydrate::Value) -> Result<(Automerge, CheckedChange), String> {
    let mut copy = document.clone();
    let written = guarded(|| {
        let mut tx = copy.transaction();
        match value {
            hydrate::Value::Scalar(scalar) => tx.put(ROOT, key, scalar.clone()),
            object => tx.batch_create_object(ROOT, key, object, false).map(|_| ()),
        }?;
        Ok::<_, automerge::AutomergeError>(tx.commit().0)
    });
    let hash = written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let change = hash.and_then(|_| copy.get_last_local_change()).ok_or("nothing was written")?;
    let change = CheckedChange::parse(change.raw_bytes()).map_err(|error| error.to_string())?;
    Ok((copy, change))
}

fn load(bytes: &[u8], verification: VerificationMode) -> Result<Automerge, String> {
    let options = LoadOptions::new().text_encoding(TextEncoding::Utf16CodeUnit).verification_mode(verification);
    let loaded = guarded(|| Automerge::load_with_options(bytes, options));
    loaded.map_err(|_| "Automerge panics on it".to_owned())?.map_err(|error| error.to_string())
}

/// Returns how long the chunk is that the bytes begin with, by its own word.
fn chunk_length(bytes: &[u8]) -> Option<usize> {
    let mut reader = crate::gate::leb::Reader::new(bytes.get(9..)?);
    let body = usize::try_from(reader.unsigned().ok()?).ok()?;
    let header = bytes.len() - reader.len();
    header.checked_add(body).filter(|length| *length <= bytes.len())
}
