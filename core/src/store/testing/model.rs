//! The model test: random transactions on the store and on plain maps, which must agree at every step.

use std::collections::BTreeMap;

use super::super::{ReadTx, Store, StoreExt, Table, WriteTx};
use super::{all, collect, refusal};

/// How many transactions one seed makes.
const TRANSACTIONS: u32 = 60;

/// How many operations one transaction makes at most.
const OPERATIONS_MAX: u64 = 30;

/// The tables the model uses: two show that they do not leak into each other, more would only thin the collisions out.
const TABLES: [Table; 2] = [Table::Register, Table::Object];

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Model = [Map; TABLES.len()];

/// Runs one seed: commits, rollbacks, readers held over many writes.
pub(super) fn agrees_with_a_map(store: &impl Store, seed: u64) {
    let mut chance = Chance(seed);
    let mut model = Model::default();
    let mut held: Vec<(Box<dyn ReadTx + '_>, Model)> = Vec::new();
    for step in 0..TRANSACTIONS {
        transact(store, &mut model, &mut chance, seed, step);
        let read = store.read().unwrap();
        compare(&*read, &model, &mut chance, seed, step);
        if chance.below(4) == 0 {
            held.push((read, model.clone()));
        }
        if held.len() > 5 {
            let victim = chance.index(held.len());
            let (read, then) = held.swap_remove(victim);
            compare(&*read, &then, &mut chance, seed, step);
        }
    }
    for (read, then) in held {
        compare(&*read, &then, &mut chance, seed, TRANSACTIONS);
    }
}

/// Runs one seed over a store that is opened again and again.
pub(super) fn survives_reopening<S: Store>(reopen: &mut impl FnMut() -> S, seed: u64) {
    let mut chance = Chance(seed);
    let mut model = Model::default();
    let store = reopen();
    store.write_with(|tx| TABLES.iter().try_for_each(|table| tx.delete_range(*table, &[]..&[0xff; 32]))).unwrap();
    drop(store);
    for round in 0..5 {
        let store = reopen();
        compare(&*store.read().unwrap(), &model, &mut chance, seed, round);
        for step in 0..5 {
            transact(&store, &mut model, &mut chance, seed, step);
        }
    }
}

/// Makes one random transaction in the store and the model. One of four is rolled back in both.
fn transact(store: &impl Store, model: &mut Model, chance: &mut Chance, seed: u64, step: u32) {
    let roll_back = chance.below(4) == 0;
    let mut changed = model.clone();
    let outcome = store.write_with(|tx| {
        for _ in 0..chance.below(OPERATIONS_MAX) {
            operate(tx, &mut changed, chance)?;
        }
        compare(&*tx, &changed, chance, seed, step);
        if roll_back { Err(refusal()) } else { Ok(()) }
    });
    assert_eq!(outcome.is_err(), roll_back, "seed {seed}, step {step}: {outcome:?}");
    if !roll_back {
        *model = changed;
    }
}

fn operate(tx: &mut dyn WriteTx, model: &mut Model, chance: &mut Chance) -> Result<(), super::StoreError> {
    let at = chance.index(TABLES.len());
    let (table, map) = (TABLES[at], &mut model[at]);
    match chance.below(10) {
        0..=5 => {
            let (key, value) = (chance.key(), chance.value());
            tx.put(table, &key, &value)?;
            map.insert(key, value);
        }
        6..=8 => {
            let key = chance.key();
            tx.delete(table, &key)?;
            map.remove(&key);
        }
        _ => {
            let (start, end) = (chance.key(), chance.key());
            tx.delete_range(table, &start..&end)?;
            map.retain(|key, _| !(&start..&end).contains(&key));
        }
    }
    Ok(())
}

fn compare(tx: &(impl ReadTx + ?Sized), model: &Model, chance: &mut Chance, seed: u64, step: u32) {
    for (table, map) in TABLES.into_iter().zip(model) {
        let whole: Vec<_> = map.clone().into_iter().collect();
        assert!(all(tx, table) == whole, "seed {seed}, step {step}: {} as a whole", table.name());
        let (start, end) = (chance.key(), chance.key());
        let part: Vec<_> = whole.into_iter().filter(|(key, _)| (&start..&end).contains(&key)).collect();
        let found = collect(tx, table, &start..&end);
        assert!(found == part, "seed {seed}, step {step}: {} from {start:?} to {end:?}", table.name());
        for key in [start, end, chance.key()] {
            let expected = map.get(&key);
            assert!(tx.get(table, &key).unwrap().as_ref() == expected, "seed {seed}, step {step}: get {key:?}");
            assert_eq!(
                tx.contains(table, &key).unwrap(),
                expected.is_some(),
                "seed {seed}, step {step}: contains {key:?}"
            );
        }
    }
}

/// Marsaglia's xorshift with 64 bits: enough to be surprising, and the same everywhere. The seed must not be zero.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % len as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    /// One to three bytes of four values: transactions meet on the same keys, and keys are prefixes of each other.
    fn key(&mut self) -> Vec<u8> {
        (0..=self.below(3)).map(|_| [0x00, 0x01, 0x7f, 0xff][self.index(4)]).collect()
    }

    /// Mostly short, sometimes empty, sometimes several pages, rarely 1 MiB.
    fn value(&mut self) -> Vec<u8> {
        let length = match self.below(200) {
            0 => 1 << 20,
            1..=10 => self.index(20_000),
            11..=40 => 0,
            _ => self.index(100),
        };
        vec![self.byte(); length]
    }
}
