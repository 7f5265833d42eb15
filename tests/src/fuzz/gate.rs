//! The gate and the ledger: one change chunk, checked and appended to a document with a history.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::engine::{self, Origin};
use rejoin::gate::CheckedChange;
use rejoin::ledger::Appended;
use rejoin::store::{MemoryStore, StoreError, StoreExt};

use super::{Seen, Target, size_class};
use crate::hostile::base;
use crate::hostile::bytes::{chunk, compressed_change, split};
use crate::hostile::change::{RawChange, RawOp};
use crate::hostile::mutate::{Mutator, damage};
use crate::hostile::record::{DOCUMENT, record};
use crate::hostile::session::{export, fork};

/// Which recording the histories come from.
pub const RECORDING: u64 = 7;

/// Changes with more operations are sound and slow to take apart.
const COMPARED_OPS_MAX: u64 = 5_000;

/// Checks and appends single changes.
pub struct Gate {
    mutator: Mutator,
    /// A document that three devices wrote; what is appended to it is taken back.
    store: MemoryStore,
}

impl Gate {
    /// Makes it with a recorded history.
    pub fn new() -> Self {
        let recorded = record(RECORDING);
        let longest = recorded.iter().max_by_key(|one| export(&one.store, DOCUMENT).len()).unwrap();
        Self { store: fork(&longest.store), mutator: Mutator::new(recorded) }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for Gate {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let mut seeds: Vec<_> = export(&self.store, DOCUMENT).iter().map(|chunk| chunk.to_vec()).collect();
        seeds.extend(base::chunks());
        seeds.push(honest_next());
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        damaged_chunk(&self.mutator, &self.store, input, other, random)
    }

    /// What bounds it: 1,000,000 operations of up to 32 MiB of names, registers of 32 MiB, one change inflated to 8 MiB. A few
    /// dozen bytes may claim all of it.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        (160 << 20) + 8 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let change = match CheckedChange::parse(input) {
            Ok(change) => change,
            Err(error) => return Seen::refused(error.rule().code()),
        };
        if change.op_count() <= COMPARED_OPS_MAX {
            assert_eq!(RawChange::from_checked(&change).chunk(), change.bytes()[..], "it is encoded in another form");
        }
        let mut offered = None;
        // Nothing stays: every input meets the same document.
        let refused = self.store.write_with(|tx| {
            offered = Some(engine::accept(tx, DOCUMENT, vec![change.clone()], Origin::Remote)?);
            Err::<(), _>(StoreError::Interrupted)
        });
        assert!(matches!(refused, Err(StoreError::Interrupted)), "{refused:?}");
        let accepted = offered.expect("nothing failed before it");
        match &accepted.results[0].1 {
            Appended::Stored { .. } => {
                assert!(accepted.heads.contains(&change.hash()), "a stored change is a head");
                let ops = size_class(usize::try_from(change.op_count()).unwrap());
                Seen::taken("stored", &(ops, accepted.heads.len(), shape(&change)))
            }
            Appended::Rejected(error) => Seen::refused(error.rule().code()).with(&shape(&change)),
            Appended::Missing { hashes } => Seen::refused("missing").with(&hashes.len()),
            Appended::Duplicate => Seen::refused("duplicate"),
            other => panic!("{other:?} of a document that is there"),
        }
    }

    fn classes_min(&self) -> usize {
        25
    }
}

/// Returns a change that honestly continues [`base`].
pub fn honest_next() -> Vec<u8> {
    let mut change = base::next(0);
    change.ops = vec![RawOp::put("more", "of it")];
    change.chunk()
}

/// Which actions, kinds of keys and values it has.
fn shape(change: &CheckedChange) -> (u64, usize, bool) {
    let ops = change.ops().take(64);
    let kinds = ops.fold(0u64, |kinds, op| kinds | 1 << (op.action.code() * 2 + u64::from(op.insert)).min(63));
    (kinds, change.other_actors().len().min(4), change.message().is_some())
}

/// Damages a chunk at any depth; what lies outside of the damage is repaired, mostly.
pub fn damaged_chunk(
    mutator: &Mutator,
    store: &MemoryStore,
    input: &[u8],
    other: &[u8],
    random: &mut StdRng,
) -> Vec<u8> {
    match (random.random_range(0..16), split(input)) {
        (0, _) => damage(input, |_| other, random),
        (1..4, Some((kind, body))) => chunk(kind, &damage(body, |_| other, random)),
        (4, Some((_, body))) => compressed_change(&damage(body, |_| other, random)),
        _ => mutator.change(&Bytes::copy_from_slice(input), store, random),
    }
}
