//! A relay's log: what a change stands on comes before it; and any part of any delivery can be resumed, by cursor or by heads.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use proptest::prelude::*;
use rejoin::codec::v1::Start;
use rejoin::gate::CheckedChange;
use rejoin::ledger::log::What;
use rejoin::ledger::{self, log};
use rejoin::store::{ReadTx, Store};
use rejoin::{ChangeHash, DocumentId};

use crate::sessions::{Client, DOCUMENTS, SPACES, World, document};

/// Asserts what holds of every log; returns how many changes are in all of them.
fn assert_causal(tx: &dyn ReadTx) -> Result<usize, TestCaseError> {
    let mut changes = 0;
    let mut everywhere: HashSet<(DocumentId, ChangeHash)> = HashSet::new();
    for space in SPACES {
        let mut there: BTreeMap<DocumentId, HashSet<ChangeHash>> = BTreeMap::new();
        let (mut last, mut wrong) = (0, None);
        let end = log::read(tx, &space, 0, u64::MAX, &mut |entry| {
            if entry.position <= last {
                wrong = Some(format!("position {} behind {last}", entry.position));
            }
            last = entry.position;
            if let What::Change { bytes, .. } = entry.what {
                let change = CheckedChange::parse(bytes).unwrap();
                let known = there.entry(entry.document).or_default();
                if let Some(dep) = change.deps().iter().find(|dep| !known.contains(dep)) {
                    wrong = Some(format!("{} at {} stands on {dep}, which comes later", change.hash(), entry.position));
                }
                known.insert(change.hash());
                if !everywhere.insert((entry.document, change.hash())) {
                    wrong = Some(format!("{} is in the logs twice", change.hash()));
                }
                changes += 1;
            }
            ControlFlow::Continue(())
        });
        prop_assert_eq!(wrong, None);
        prop_assert_eq!(end.unwrap(), log::end(tx, &space).unwrap());
        for (document, known) in there {
            let all: HashSet<_> = ledger::hashes(tx, &document).unwrap().into_iter().collect();
            prop_assert_eq!(all, known, "the log and the ledger hold other changes");
        }
    }
    Ok(changes)
}

/// What a device has of the documents of the spaces that are followed whole.
fn heads(tx: &dyn ReadTx) -> Vec<Vec<ChangeHash>> {
    let followed = (0..DOCUMENTS).map(document).filter(|(_, space)| SPACES[..2].contains(space));
    followed.map(|(document, _)| ledger::heads(tx, &document).unwrap()).collect()
}

/// From where on a device goes on that was cut off.
#[derive(Debug, Clone, Copy)]
enum Resume {
    /// From its cursor, or from the beginning if it has none yet.
    Cursor,
    /// By comparing heads.
    Heads,
    /// From the beginning: everything comes once more.
    Beginning,
}

/// Lets a new device hear so much of what three others write, cuts it off, and lets it resume. Returns what everybody has.
fn resumed(seed: u64, heard: usize, credit: u64, how: Resume) -> Result<Vec<Vec<ChangeHash>>, TestCaseError> {
    let mut world = World::play(seed, 600);
    world.clients.push(Client::new(4));
    let newest = world.clients.len() - 1;
    world.clients[newest].connect(credit, |_| Start::Beginning);
    for turn in 0..heard {
        world.step(newest, u32::try_from(turn % 2).unwrap());
        // Others go on meanwhile, so that what comes is in another order each time.
        world.step(turn % newest, u32::try_from(turn % 3).unwrap());
    }
    world.clients[newest].connect(credit, |cursor| match (how, cursor) {
        (Resume::Heads, _) => Start::Compare,
        (Resume::Cursor, Some(cursor)) => Start::Cursor { epoch: cursor.epoch, position: cursor.position },
        _ => Start::Beginning,
    });
    world.settle();
    let theirs = world.store.read().unwrap();
    assert_causal(&*theirs)?;
    let all = heads(&*theirs);
    for client in &world.clients {
        prop_assert_eq!(&heads(&*client.store.read().unwrap()), &all, "device {} has something else", client.number);
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn log_order_respects_causality(seed: u64) {
        let world = World::play(seed, 2_500);
        // While everything is still under way.
        let changes = assert_causal(&*world.store.read().unwrap())?;
        prop_assert!(changes > 5, "the logs are nearly empty");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_prefix_of_any_delivery_resumes(seed: u64, heard in 0..400usize, credit in 1..4_000u64) {
        let by_cursor = resumed(seed, heard, credit, Resume::Cursor)?;
        prop_assert_eq!(&resumed(seed, heard, credit, Resume::Heads)?, &by_cursor);
        prop_assert_eq!(&resumed(seed, heard, credit, Resume::Beginning)?, &by_cursor);
    }
}
