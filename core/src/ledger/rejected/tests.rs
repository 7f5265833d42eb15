//! Refusals, second thoughts, acknowledgements and drops in any order, against a model that knows the graph.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::{self, Origin, Unwritable};
use crate::gate::tests::field_draft;
use crate::gate::{CheckedChange, encode};
use crate::id::Epoch;
use crate::ledger::receipts::{self, Acknowledged, Receipt};
use crate::store::{MemoryStore, Store, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([3; 16]);
const EPOCH: Epoch = Epoch::from_bytes([0xe; 16]);

/// What is true of a change.
struct Known {
    change: CheckedChange,
    local: bool,
    accepted: bool,
    refused: bool,
    /// The places in the model of all it stands on.
    below: BTreeSet<usize>,
}

#[derive(Default)]
struct Model {
    changes: Vec<Known>,
    actors: u8,
}

impl Model {
    /// Makes a change that stands on a few others.
    fn grow(&mut self, store: &MemoryStore, rng: &mut SmallRng) {
        self.actors += 1;
        let mut below = BTreeSet::new();
        let mut deps = Vec::new();
        for _ in 0..rng.random_range(0..3_usize).min(self.changes.len()) {
            let dep = rng.random_range(0..self.changes.len());
            if below.insert(dep) {
                deps.push(self.changes[dep].change.hash());
                below.extend(self.changes[dep].below.clone());
            }
        }
        let max_op = self.changes.iter().map(|known| known.change.max_op()).max().unwrap_or(0);
        let change = encode(&field_draft(&[self.actors; 16], 1, max_op + 1, deps)).unwrap();
        let local = rng.random_range(0..4) > 0;
        let origin = if local { Origin::Local } else { Origin::Remote };
        let accepted = store.write_with(|tx| engine::accept(tx, DOCUMENT, vec![change.clone()], origin)).unwrap();
        assert_eq!(accepted.stored, 1, "{:?}", accepted.results);
        self.changes.push(Known { change, local, accepted: false, refused: false, below });
        assert_eq!(accepted.waiting, u64::from(self.waits(self.changes.len() - 1)));
    }

    fn holds_back(&self, at: usize) -> bool {
        let known = &self.changes[at];
        let is_refused = |at: &usize| self.changes[*at].refused;
        known.local && !known.accepted && (known.refused || known.below.iter().any(is_refused))
    }

    fn waits(&self, at: usize) -> bool {
        let known = &self.changes[at];
        known.local && !known.accepted && !self.holds_back(at)
    }

    fn positions(&self, choose: impl Fn(usize) -> bool) -> Vec<u64> {
        (0..self.changes.len()).filter(|at| choose(*at)).map(|at| at as u64).collect()
    }

    /// A relay has a change, and so all that it stands on.
    fn accept(&mut self, store: &MemoryStore, at: usize) {
        let waited = self.positions(|at| self.waits(at)).len();
        let mut all: Vec<usize> = self.changes[at].below.iter().copied().collect();
        all.push(at);
        for at in &all {
            (self.changes[*at].accepted, self.changes[*at].refused) = (true, false);
        }
        let all: Vec<_> =
            all.iter().map(|at| Acknowledged { position: *at as u64, log_position: *at as u64 + 1 }).collect();
        let taken = store.write_with(|tx| receipts::acknowledge(tx, &DOCUMENT, &EPOCH, &all)).unwrap();
        let waiting = self.positions(|at| self.waits(at)).len();
        assert_eq!(taken, i64::try_from(waited).unwrap() - i64::try_from(waiting).unwrap());
    }

    fn reject(&mut self, store: &MemoryStore, at: usize) {
        let hash = self.changes[at].change.hash();
        let rejection = Rejection { hash, code: 80, text: "é".repeat(300), time_seconds: 1 };
        let waited = self.positions(|at| self.waits(at)).len();
        let left = store.write_with(|tx| note(tx, &DOCUMENT, &rejection)).unwrap();
        self.changes[at].refused = self.changes[at].local && !self.changes[at].accepted;
        let waiting = self.positions(|at| self.waits(at)).len();
        assert_eq!(left, (waited - waiting) as u64);
    }

    fn retry(&mut self, store: &MemoryStore, at: usize) {
        let hash = self.changes[at].change.hash();
        let waited = self.positions(|at| self.waits(at)).len();
        let waiting = store.write_with(|tx| retry(tx, &DOCUMENT, &hash)).unwrap();
        assert_eq!(waiting.is_some(), self.changes[at].refused);
        self.changes[at].refused = false;
        assert_eq!(waiting.unwrap_or(0), (self.positions(|at| self.waits(at)).len() - waited) as u64);
    }

    fn drop(&mut self, store: &MemoryStore, at: usize) {
        let hash = self.changes[at].change.hash();
        let goes = |other: usize| other == at || self.changes[other].below.contains(&at);
        let possible = (0..self.changes.len()).filter(|at| goes(*at));
        let possible = possible.into_iter().all(|at| self.changes[at].local && !self.changes[at].accepted);
        let waited = self.positions(|at| self.waits(at)).len();
        match store.write_with(|tx| engine::drop_rejected(tx, DOCUMENT, &hash, 2)).unwrap() {
            Ok(None) => assert!(!self.changes[at].refused),
            Err(error) => assert!(!possible && matches!(error, Unwritable::Shared { .. }), "{error}"),
            Ok(Some((branch, rewritten))) => {
                assert!(possible && self.changes[at].refused && branch.rejection.hash == hash);
                let gone: BTreeSet<usize> = (0..self.changes.len()).filter(|at| goes(*at)).collect();
                assert_eq!(branch.changes, gone.len() as u64);
                let moved = |at: usize| at - gone.range(..at).count();
                let mut at = 0;
                self.changes.retain(|_| {
                    at += 1;
                    !gone.contains(&(at - 1))
                });
                for known in &mut self.changes {
                    known.below = known.below.iter().map(|at| moved(*at)).collect();
                }
                let waiting = self.positions(|at| self.waits(at)).len();
                assert_eq!(rewritten.waiting, i64::try_from(waiting).unwrap() - i64::try_from(waited).unwrap());
            }
        }
    }

    fn check(&self, store: &MemoryStore, context: &str) {
        let tx = store.read().unwrap();
        let tx = tx.as_ref();
        assert_eq!(outbox::pending(tx, &DOCUMENT).unwrap(), self.positions(|at| self.waits(at)), "{context}");
        let held_back: Vec<u64> = rows(tx, &DOCUMENT).unwrap().into_keys().collect();
        assert_eq!(held_back, self.positions(|at| self.holds_back(at)), "{context}");
        assert_eq!(count(tx).unwrap(), held_back.len() as u64);
        let listed = list(tx, Some(&DOCUMENT)).unwrap();
        let refused: Vec<u64> = listed.iter().map(|noted| noted.position).collect();
        assert_eq!(refused, self.positions(|at| self.changes[at].refused), "{context}");
        let blocked: u64 = listed.iter().map(|noted| noted.blocked).sum();
        assert_eq!(blocked + refused.len() as u64, held_back.len() as u64, "{context}");
        assert!(listed.iter().all(|noted| noted.rejection.text.len() <= REJECT_TEXT_BYTES_MAX));
        for (at, known) in self.changes.iter().enumerate().filter(|(_, known)| known.local) {
            let expected = if known.accepted { Receipt::Relayed } else { Receipt::Local };
            assert_eq!(receipts::get(tx, &DOCUMENT, at as u64).unwrap(), Some(expected), "{context}, at {at}");
        }
        // The document is what it would be if those that are gone had never been made.
        let afresh = MemoryStore::new();
        let changes = self.changes.iter().map(|known| known.change.clone()).collect();
        afresh.write_with(|tx| crate::ledger::create(tx, &DOCUMENT)).unwrap();
        afresh.write_with(|tx| engine::accept(tx, DOCUMENT, changes, Origin::Remote)).unwrap();
        for table in [Table::Document, Table::Change, Table::Node, Table::Hash, Table::Actor, Table::Register] {
            let all = |tx: &dyn ReadTx| {
                let mut all = Vec::new();
                tx.scan(table, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
                    all.push((key.to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
                all
            };
            assert_eq!(all(tx), all(afresh.read().unwrap().as_ref()), "{context}: {table:?}");
        }
    }
}

#[test]
fn whatever_relays_and_the_application_decide_the_outbox_and_the_refusals_are_as_they_should_be() {
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (store, mut model) = (MemoryStore::new(), Model::default());
        store.write_with(|tx| crate::ledger::create(tx, &DOCUMENT)).unwrap();
        for step in 0..40 {
            let any = rng.random_range(0..model.changes.len().max(1));
            match rng.random_range(0..10) {
                _ if model.changes.is_empty() => model.grow(&store, &mut rng),
                0..4 if model.changes.len() < 15 => model.grow(&store, &mut rng),
                4 => model.accept(&store, any),
                5 => model.retry(&store, any),
                6 => model.drop(&store, any),
                _ => model.reject(&store, any),
            }
            model.check(&store, &format!("seed {seed}, step {step}"));
        }
    }
}
