//! Stub.
#![allow(missing_docs, clippy::unwrap_used, reason = "stub")]
use crate::gate::CheckedChange;
use automerge::{ActorId, ChangeHash};
pub struct Unpacked(Vec<CheckedChange>);
#[derive(Debug, thiserror::Error)]
#[error("pack")]
pub struct PackError;
pub fn pack<'c>(changes: impl Iterator<Item = &'c CheckedChange>) -> Result<Vec<u8>, PackError> {
    let mut out = vec![];
    for c in changes {
        out.extend_from_slice(c.bytes());
    }
    Ok(out)
}
pub fn unpack(bytes: &[u8]) -> Result<Unpacked, PackError> {
    crate::gate::chunks(bytes)
        .map(|c| c.and_then(|c| CheckedChange::from_chunk(&c)))
        .collect::<Result<_, _>>()
        .map(Unpacked)
        .map_err(|_| PackError)
}
impl Unpacked {
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn chunk(&self, i: usize) -> &[u8] {
        self.0[i].bytes()
    }
    pub fn hash(&self, i: usize) -> ChangeHash {
        self.0[i].hash()
    }
    pub fn deps(&self, i: usize) -> Vec<ChangeHash> {
        self.0[i].deps().to_vec()
    }
    pub fn actor(&self, i: usize) -> &ActorId {
        self.0[i].actor()
    }
    pub fn seq(&self, i: usize) -> u64 {
        self.0[i].seq()
    }
    pub fn start_op(&self, i: usize) -> u64 {
        self.0[i].start_op()
    }
    pub fn op_count(&self, i: usize) -> u64 {
        self.0[i].op_count()
    }
}
