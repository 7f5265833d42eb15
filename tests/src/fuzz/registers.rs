//! The registers: damaged changes that the engine takes make the fields that Automerge shows, or are refused.

use bytes::Bytes;
use rand::rngs::StdRng;
use rejoin::engine::{self, Origin};
use rejoin::gate::CheckedChange;
use rejoin::ledger::Appended;
use rejoin::store::{MemoryStore, StoreExt};

use super::gate::{RECORDING, damaged_chunk, honest_next};
use super::script::Script;
use super::{Seen, Target, size_class};
use crate::hostile::mutate::Mutator;
use crate::hostile::oracle::{References, check_store};
use crate::hostile::record::{DOCUMENT, record};
use crate::hostile::session::{export, fork};

/// Above this many operations, a document is within every limit and too heavy to be judged a thousand times.
const JUDGED_OPS_MAX: u64 = 5_000;

/// Receives changes, and asks Automerge about what became of them.
pub struct Registers {
    mutator: Mutator,
    /// Documents of some lengths, chosen by the head of the input.
    stores: Vec<(MemoryStore, References)>,
}

impl Registers {
    /// Makes it with recorded histories.
    pub fn new() -> Self {
        let recorded = record(RECORDING);
        let chosen = [recorded.len() / 8, recorded.len() / 3, recorded.len() - 1];
        let mut stores = vec![with_references(crate::hostile::session::base_store(DOCUMENT))];
        stores.extend(chosen.map(|at| with_references(fork(&recorded[at].store))));
        Self { mutator: Mutator::new(recorded), stores }
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

fn with_references(store: MemoryStore) -> (MemoryStore, References) {
    let mut references = References::default();
    for chunk in export(&store, DOCUMENT) {
        references.take(&CheckedChange::parse(&chunk).unwrap()).unwrap();
    }
    (store, references)
}

impl Target for Registers {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let next = honest_next();
        let mut seeds = vec![Script::new(&[0], [next.clone(), next]).write()];
        for (number, (store, _)) in (0..).zip(&self.stores) {
            // What the longest has and this one lacks continues it.
            let own = export(store, DOCUMENT).len();
            let longest = export(&self.stores[self.stores.len() - 1].0, DOCUMENT);
            let more = longest.iter().skip(own).take(8).map(|chunk| chunk.to_vec());
            seeds.push(Script::new(&[number], more).write());
            let known = longest.iter().take(6).map(|chunk| chunk.to_vec());
            seeds.push(Script::new(&[number], known).write());
        }
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let (mut script, other) = (Script::read(input), Script::read(other));
        let (store, _) = &self.stores[usize::from(script.flag(0)) % self.stores.len()];
        let mutator = &self.mutator;
        script.mutate(&other, random, |chunk, random| damaged_chunk(mutator, store, chunk, chunk, random));
        script.write()
    }

    /// As of the gate, and what Automerge makes of a document of a few thousand operations.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        (256 << 20) + 64 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let script = Script::read(input);
        let (base, references) = &self.stores[usize::from(script.flag(0)) % self.stores.len()];
        let (store, mut references) = (fork(base), references.clone());
        let (mut stored, mut refused, mut ops, mut unfit) = (0usize, Vec::new(), 0, None);
        for chunk in &script.items {
            let change = match CheckedChange::parse(&Bytes::copy_from_slice(chunk)) {
                Ok(change) => change,
                Err(error) => {
                    refused.push(error.rule().code());
                    continue;
                }
            };
            let offer = vec![change.clone()];
            let accepted = store.write_with(|tx| engine::accept(tx, DOCUMENT, offer, Origin::Remote)).unwrap();
            match &accepted.results[0].1 {
                Appended::Stored { .. } => {
                    stored += 1;
                    ops += change.op_count();
                    // The rules about references, read anew, have to agree.
                    unfit = unfit.or(references.take(&change).err());
                }
                Appended::Rejected(error) => refused.push(error.rule().code()),
                _ => refused.push("graph"),
            }
        }
        assert!(unfit.is_none(), "a change was taken that {}", unfit.unwrap_or_default());
        if stored == 0 {
            return Seen::refused(refused.first().copied().unwrap_or("nothing")).with(&refused);
        }
        if ops > JUDGED_OPS_MAX {
            return Seen::taken("heavy", &size_class(usize::try_from(ops).unwrap()));
        }
        if let Err(complaint) = check_store(&store, DOCUMENT) {
            panic!("{complaint}");
        }
        Seen::taken("agreed", &(stored, refused, size_class(usize::try_from(ops).unwrap())))
    }

    fn classes_min(&self) -> usize {
        15
    }
}
