//! Both sides of `rejoin.v1` against each other in memory: random edits, cuts, credit and order, and in the end all stores
//! have the same.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "v1_sessions/world.rs"]
mod world;

use proptest::prelude::*;
use rejoin::ledger::receipts::{self, Receipt};
use rejoin::ledger::{self, cursor, log, outbox, tombstone};
use rejoin::store::{ReadTx, Store};

use world::{DOCUMENTS, RELAY, SPACES, World, document};

fn run(seed: u64) {
    let mut world = World::play(seed, 1_500);
    world.settle();
    let theirs = world.store.read().unwrap();
    assert!(SPACES.iter().all(|space| log::end(&*theirs, space).unwrap() > 0));
    for client in &world.clients {
        let tx = client.store.read().unwrap();
        for number in 0..DOCUMENTS {
            let (document, _) = document(number);
            let heads = |tx: &dyn ReadTx| ledger::heads(tx, &document).unwrap();
            assert_eq!(heads(&*tx), heads(&*theirs), "{number}");
            let is_buried = |tx: &dyn ReadTx| tombstone::is_buried(tx, &document).unwrap();
            // Who compares a space is not told of deletions of what it never had.
            let never_had_it = !is_buried(&*tx) && ledger::state(&*tx, &document).unwrap().is_none();
            assert!(is_buried(&*tx) == is_buried(&*theirs) || never_had_it, "{number}");
            assert_eq!(outbox::pending(&*tx, &document).unwrap(), Vec::<u64>::new(), "{number}");
            let count = ledger::state(&*tx, &document).unwrap().map_or(0, |state| state.count);
            let known = |position| receipts::get(&*tx, &document, position).unwrap().unwrap();
            assert!((0..count).all(|position| known(position) >= Receipt::Relayed));
        }
        for space in &SPACES[..2] {
            let here = cursor::get(&*tx, &RELAY, space).unwrap().unwrap();
            assert_eq!(here.position, log::end(&*theirs, space).unwrap());
        }
        let progress = client.session.progress();
        assert!(progress.is_caught_up && progress.batches_in_flight == 0, "{progress:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn devices_and_relay_come_to_have_the_same(seed: u64) {
        run(seed);
    }
}
