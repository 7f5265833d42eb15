//! The graph's shortcuts against plain walks, over random histories; and what operations may refer to.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;

use automerge::{ActorId, ChangeHash, ScalarValue};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::actors;
use super::ancestry::{Ancestors, Place, Reach, beside};
use super::base::{self, FoldedChange, FoldedHistory};
use super::{Appended, Appender, DocumentState, Head, node, put_state};
use crate::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, Rule, encode};
use crate::id::{DocumentId, OpId};
use crate::limits::{ANCESTRY_WALK_MAX, DOCUMENT_HEADS_MAX, RELAY_HEADS_MAX, RELAY_WALK_MAX, WALK_VISITS};
use crate::store::{MemoryStore, ReadTx, Store, StoreError, StoreExt, Table, Visitor, WriteTx};

const DOCUMENT: DocumentId = DocumentId::from_bytes([3; 16]);

fn actor(number: usize) -> ActorId {
    ActorId::from(&[u8::try_from(number).expect("few actors"); 16][..])
}

fn small(position: u64) -> usize {
    usize::try_from(position).expect("few changes")
}

fn put(key: &str, preds: Vec<OpId>) -> DraftOp {
    DraftOp { object: DraftObject::Root, key: key.to_owned(), action: Action::Put, value: ScalarValue::Null, preds }
}

fn change(actor: &ActorId, seq: u64, start_op: u64, deps: &[ChangeHash], ops: Vec<DraftOp>) -> CheckedChange {
    let mut deps = deps.to_vec();
    deps.sort_unstable();
    deps.dedup();
    let draft = ChangeDraft { actor: actor.clone(), seq, start_op, timestamp: 0, message: None, deps, ops };
    encode(&draft).expect("an honest change")
}

/// One device of a random history: what it has, and the state it writes on.
#[derive(Clone, Default)]
struct Device {
    seq: u64,
    heads: BTreeSet<ChangeHash>,
    known: BTreeSet<usize>,
    max_op: u64,
}

/// Appends a random history of several devices that meet now and then; returns who is below whom, by position.
fn grow(tx: &mut dyn WriteTx, seed: u64, length: usize) -> Result<Vec<BTreeSet<usize>>, StoreError> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut devices = vec![Device::default(); rng.random_range(1..6)];
    let mut below: Vec<BTreeSet<usize>> = Vec::new();
    let meetings = rng.random_range(0.02..0.9);
    // One appender for a few changes at a time, as batches come.
    let mut appender = Appender::begin(tx, DOCUMENT)?;
    while below.len() < length {
        if rng.random_bool(0.1) {
            appender.finish(tx)?;
            appender = Appender::begin(tx, DOCUMENT)?;
        }
        let index = rng.random_range(0..devices.len());
        if rng.random_bool(meetings) {
            let other = devices[rng.random_range(0..devices.len())].clone();
            let device = &mut devices[index];
            device.known.extend(&other.known);
            device.max_op = device.max_op.max(other.max_op);
            let heads: BTreeSet<_> = device.heads.union(&other.heads).copied().collect();
            device.heads = maximal(tx, &heads, &below)?;
        }
        let device = &mut devices[index];
        let deps: Vec<_> = device.heads.iter().copied().collect();
        let made = change(&actor(index), device.seq + 1, device.max_op + 1, &deps, vec![put("k", vec![])]);
        let appended = appender.append(tx, &made)?;
        assert_eq!(appended, Appended::Stored { position: below.len() as u64 }, "seed {seed}");
        device.known.insert(below.len());
        below.push(device.known.clone());
        (device.seq, device.max_op) = (device.seq + 1, device.max_op + 1);
        device.heads = BTreeSet::from([made.hash()]);
    }
    appender.finish(tx)?;
    Ok(below)
}

/// Leaves out what another one covers.
fn maximal(
    tx: &dyn WriteTx,
    heads: &BTreeSet<ChangeHash>,
    below: &[BTreeSet<usize>],
) -> Result<BTreeSet<ChangeHash>, StoreError> {
    let mut positions = Vec::new();
    for hash in heads {
        let position = super::position(tx, &DOCUMENT, hash)?.expect("was appended");
        positions.push((*hash, usize::try_from(position).expect("small")));
    }
    let covered = |at: usize| positions.iter().any(|(_, other)| *other != at && below[*other].contains(&at));
    Ok(positions.iter().filter(|(_, at)| !covered(*at)).map(|(hash, _)| *hash).collect())
}

#[test]
fn ancestors_and_floors_agree_with_plain_walks() -> Result<(), StoreError> {
    for seed in 0..60 {
        MemoryStore::new().write_with(|tx| {
            let below = grow(tx, seed, 120)?;
            let mut ancestors = Ancestors::new(Reach::DEVICE);
            let mut rng = SmallRng::seed_from_u64(seed);
            for (at, expected) in below.iter().enumerate() {
                let found = node(tx, &DOCUMENT, at as u64)?;
                let gap = (0..=at).find(|position| !expected.contains(position)).unwrap_or(at + 1) as u64;
                assert!(found.floor <= gap, "seed {seed}: the floor of {at} is {}, the gap {gap}", found.floor);
                if expected.len() == at + 1 {
                    assert_eq!(found.floor, gap, "seed {seed}: everything is below {at}");
                }
                for _ in 0..8 {
                    let asked = rng.random_range(0..at + 1);
                    let place = Place { deps: &[at as u64], all_heads: false };
                    let holds = ancestors.holds(tx, &DOCUMENT, &place, asked as u64)?.expect("a short walk");
                    assert_eq!(holds, expected.contains(&asked), "seed {seed}: {asked} below {at}");
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn operation_is_found_in_the_change_that_has_it() -> Result<(), StoreError> {
    MemoryStore::new().write_with(|tx| {
        // An actor whose id begins another's, and a change without operations between two others.
        let (short, long) = (ActorId::from(&[7; 2][..]), ActorId::from(&[7; 3][..]));
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        let first = change(&short, 1, 1, &[], vec![put("a", vec![]), put("b", vec![])]);
        let empty = change(&short, 2, 3, &[first.hash()], vec![]);
        let third = change(&short, 3, 3, &[empty.hash()], vec![put("c", vec![])]);
        let other = change(&long, 1, 4, &[third.hash()], vec![put("d", vec![])]);
        for change in [&first, &empty, &third, &other] {
            assert!(matches!(appender.append(tx, change)?, Appended::Stored { .. }));
        }
        appender.finish(tx)?;
        let found = |actor, counter| {
            let found = actors::at_or_below(tx, &DOCUMENT, actor, counter)?;
            Ok::<_, StoreError>(found.filter(|found| found.holds(counter)).map(|found| found.position))
        };
        assert_eq!((found(&short, 1)?, found(&short, 2)?, found(&short, 3)?), (Some(0), Some(0), Some(2)));
        assert_eq!((found(&short, 4)?, found(&long, 3)?, found(&long, 4)?), (None, None, Some(3)));
        assert_eq!(actors::last(tx, &DOCUMENT, &short)?.map(|last| last.seq), Some(3));
        Ok(())
    })
}

#[test]
fn what_somebody_lacks_is_found_from_either_end() -> Result<(), StoreError> {
    for seed in 0..60 {
        MemoryStore::new().write_with(|tx| {
            let below = grow(tx, seed, 300)?;
            let state = super::state(tx, &DOCUMENT)?.expect("there is a document");
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..60 {
                let mut have: Vec<usize> = (0..rng.random_range(0..4)).map(|_| rng.random_range(0..300)).collect();
                let has: BTreeSet<usize> = have.iter().flat_map(|at| &below[*at]).copied().collect();
                let expected: Vec<u64> = (0..300).filter(|at| !has.contains(at)).map(|at| at as u64).collect();
                let mut hashes = vec![ChangeHash([7; 32])];
                for at in &have {
                    hashes.push(node(tx, &DOCUMENT, *at as u64)?.hash);
                }
                assert_eq!(super::missing(tx, &DOCUMENT, &state, &hashes)?, expected, "seed {seed}: {have:?}");
                have.sort_unstable();
                have.dedup();
                let tips: Vec<u64> = have.iter().map(|at| *at as u64).collect();
                let runs = beside(tx, &DOCUMENT, &tips, state.count, usize::MAX)?.expect("without a bound");
                assert!(runs.iter().all(|run| !run.is_empty()) && runs.windows(2).all(|two| two[0].end < two[1].start));
                assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), expected, "seed {seed}: {have:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Counts what is read.
struct Counting<'c> {
    inner: &'c dyn ReadTx,
    reads: Cell<usize>,
}

impl ReadTx for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.set(self.reads.get() + 1);
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.inner.scan(table, range, visit)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.inner.contains(table, key)
    }
}

#[test]
fn what_somebody_lacks_is_found_without_a_walk_over_it() -> Result<(), StoreError> {
    const LENGTH: u64 = 20_000;
    // Alone, and beside a root that nobody merges.
    for is_beside in [false, true] {
        let store = MemoryStore::new();
        let mut hashes = Vec::new();
        store.write_with(|tx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            if is_beside {
                appender.append_own(tx, &change(&actor(2), 1, 1, &[], vec![put("b", vec![])]))?;
            }
            for seq in 1..=LENGTH {
                let last = hashes.last().copied().into_iter().collect::<Vec<_>>();
                let next = change(&actor(1), seq, seq, &last, vec![put("a", vec![])]);
                appender.append_own(tx, &next)?;
                hashes.push(next.hash());
            }
            appender.finish(tx).map(drop)
        })?;
        let tx = store.read()?;
        let state = super::state(&*tx, &DOCUMENT)?.expect("there is a document");
        let visited = |at: usize| {
            let counting = Counting { inner: &*tx, reads: Cell::new(0) };
            let runs = super::missing_runs(&counting, &DOCUMENT, &state, &[hashes[at]])?;
            let found: u64 = runs.iter().map(|run| run.end - run.start).sum();
            assert_eq!(found, LENGTH - 1 - at as u64 + u64::from(is_beside));
            Ok::<_, StoreError>(counting.reads.get())
        };
        assert!(visited(50)? < WALK_VISITS, "one who has the beginning");
        if !is_beside {
            assert!(visited(10_000)? < 8 && visited(19_950)? < 8);
        }
    }
    Ok(())
}

#[test]
fn what_is_kept_of_earlier_questions_answers_later_ones_rightly() -> Result<(), StoreError> {
    for seed in 0..60 {
        MemoryStore::new().write_with(|tx| {
            let below = grow(tx, seed, 400)?;
            let mut ancestors = Ancestors::new(Reach::RELAY);
            let mut rng = SmallRng::seed_from_u64(seed);
            // Mostly near the last one, as changes come that stand on each other; now and then anywhere.
            let mut at = 0_usize;
            for _ in 0..600 {
                at = if rng.random_ratio(1, 20) {
                    rng.random_range(0..400)
                } else {
                    (at + rng.random_range(0..4)).min(399)
                };
                let other = rng.random_range(at.saturating_sub(9)..at + 1);
                let mut tips = vec![other.min(at) as u64, at as u64];
                tips.dedup();
                let expected: BTreeSet<usize> = below[at].union(&below[other]).copied().collect();
                let mut question = |ancestors: &mut Ancestors, tips: &[u64], expected: &BTreeSet<usize>| {
                    let position = rng.random_range(0..400);
                    let place = Place { deps: tips, all_heads: false };
                    ancestors.begin_change();
                    let holds = ancestors.holds(tx, &DOCUMENT, &place, position as u64)?.expect("a short walk");
                    assert_eq!(holds, expected.contains(&position), "seed {seed}: {position} below {tips:?}");
                    Ok::<_, StoreError>(())
                };
                question(&mut ancestors, &tips, &expected)?;
                // As if the change at this place were appended just now.
                let deps = node(tx, &DOCUMENT, at as u64)?.deps;
                let known = deps.iter().flat_map(|dep| below[small(*dep)].iter().copied()).collect();
                question(&mut ancestors, &deps, &known)?;
                let floor = ancestors.append(tx, &DOCUMENT, &Place { deps: &deps, all_heads: false }, at as u64)?;
                assert!((0..floor).all(|position| below[at].contains(&small(position))), "seed {seed}: {at}");
                question(&mut ancestors, &[at as u64], &below[at])?;
                question(&mut ancestors, &deps, &known)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn change_that_stands_beside_too_much_is_refused_and_one_that_does_not_passes() -> Result<(), StoreError> {
    // `a` writes once; `b` then writes alone for a long time on top of it, while `c` keeps one head of its own.
    let verdict = |length: usize, is_relay: bool| {
        MemoryStore::new().write_with(|tx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            let other = change(&actor(3), 1, 1, &[], vec![put("c", vec![])]);
            let first = change(&actor(1), 1, 1, &[], vec![put("a", vec![])]);
            appender.append_own(tx, &other)?;
            appender.append_own(tx, &first)?;
            let mut last = first.hash();
            for seq in 1..=length as u64 {
                let next = change(&actor(2), seq, seq + 1, &[last], vec![put("b", vec![])]);
                assert!(matches!(appender.append_own(tx, &next)?, Appended::Stored { .. }));
                last = next.hash();
            }
            appender.finish(tx)?;
            let begin = if is_relay { Appender::begin_at_relay } else { Appender::begin };
            let mut appender = begin(tx, DOCUMENT)?;
            let again = change(&actor(1), 2, length as u64 + 2, &[last], vec![put("a", vec![])]);
            appender.append(tx, &again)
        })
    };
    let too_wide = |it: Appended| matches!(it, Appended::Rejected(error) if error.rule().code() == "history-too-wide");
    assert!(matches!(verdict(RELAY_WALK_MAX, true)?, Appended::Stored { .. }));
    assert!(too_wide(verdict(RELAY_WALK_MAX + 1, true)?));
    assert!(matches!(verdict(RELAY_WALK_MAX + 1, false)?, Appended::Stored { .. }));
    assert!(too_wide(verdict(ANCESTRY_WALK_MAX + 1, false)?));
    Ok(())
}

/// A history of which every part needs a walk: somebody keeps a head that nobody knows, `authors` write one change each, and then one
/// author writes `length` on top. Returns the hashes in their order, the kept head left out.
fn walled(tx: &mut dyn WriteTx, authors: usize, length: usize) -> Result<Vec<ChangeHash>, StoreError> {
    let mut appender = Appender::begin(tx, DOCUMENT)?;
    appender.append_own(tx, &change(&actor(100), 1, 1, &[], vec![put("kept", vec![])]))?;
    let mut made: Vec<ChangeHash> = Vec::with_capacity(authors + length);
    for at in 0..authors + length {
        let (author, seq) = if at < authors { (at, 1) } else { (99, at - authors + 1) };
        let next = change(
            &actor(author),
            seq as u64,
            at as u64 + 1,
            &made[made.len().saturating_sub(1)..],
            vec![put("k", vec![])],
        );
        assert!(matches!(appender.append_own(tx, &next)?, Appended::Stored { .. }));
        made.push(next.hash());
    }
    appender.finish(tx)?;
    Ok(made)
}

#[test]
fn device_takes_at_once_what_a_relay_took_one_by_one() -> Result<(), StoreError> {
    const AUTHORS: usize = 12;
    let length = RELAY_WALK_MAX - 2 * AUTHORS;
    let next = |made: &[ChangeHash], author: usize| {
        // On top of another one each, so that no walk helps the next.
        let on = made.len() - 1 - author;
        change(&actor(author), 2, on as u64 + 2, &[made[on]], vec![put("k", vec![])])
    };
    for is_at_once in [false, true] {
        MemoryStore::new().write_with(|tx| {
            let made = walled(tx, AUTHORS, length)?;
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            for author in 0..AUTHORS {
                if !is_at_once {
                    appender = Appender::begin_at_relay(tx, DOCUMENT)?;
                }
                let appended = appender.append(tx, &next(&made, author))?;
                assert!(matches!(appended, Appended::Stored { .. }), "{author}: {appended:?}");
                if !is_at_once {
                    std::mem::replace(&mut appender, Appender::begin(tx, DOCUMENT)?).finish(tx)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_a_relay_takes_does_not_depend_on_what_comes_with_it() -> Result<(), StoreError> {
    let beneath = RELAY_WALK_MAX * 2 / 3;
    for (above, passes) in [(RELAY_WALK_MAX - beneath - 2, true), (RELAY_WALK_MAX - beneath + 2, false)] {
        for is_at_once in [false, true] {
            MemoryStore::new().write_with(|tx| {
                let made = walled(tx, 2, beneath)?;
                let mut appender = Appender::begin_at_relay(tx, DOCUMENT)?;
                let mut start_op = made.len() as u64 + 1;
                // Walks down to where its author was before; what follows stands on it.
                let first = change(&actor(1), 2, start_op, &made[made.len() - 1..], vec![put("k", vec![])]);
                assert!(matches!(appender.append(tx, &first)?, Appended::Stored { .. }));
                let mut last = first.hash();
                for seq in 1..=above as u64 {
                    start_op += 1;
                    let next = change(&actor(50), seq, start_op, &[last], vec![put("k", vec![])]);
                    assert!(matches!(appender.append(tx, &next)?, Appended::Stored { .. }));
                    last = next.hash();
                }
                if !is_at_once {
                    appender.finish(tx)?;
                    appender = Appender::begin_at_relay(tx, DOCUMENT)?;
                }
                let appended =
                    appender.append(tx, &change(&actor(0), 2, start_op + 1, &[last], vec![put("k", vec![])]))?;
                assert_eq!(matches!(appended, Appended::Stored { .. }), passes, "{above}, {is_at_once}: {appended:?}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn author_who_was_away_for_long_goes_on_in_what_was_begun_before() -> Result<(), StoreError> {
    MemoryStore::new().write_with(|tx| {
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        appender.append_own(tx, &change(&actor(100), 1, 1, &[], vec![put("kept", vec![])]))?;
        let map = DraftOp { action: Action::MakeMap, ..put("map", vec![]) };
        let inside =
            |preds| DraftOp { object: DraftObject::Op(OpId { counter: 1, actor: actor(1) }), ..put("k", preds) };
        let mut last = change(&actor(1), 1, 1, &[], vec![map]);
        appender.append_own(tx, &last)?;
        for seq in 2..=RELAY_WALK_MAX as u64 + 10 {
            last = change(&actor(1), seq, seq, &[last.hash()], vec![put("k", vec![])]);
            appender.append_own(tx, &last)?;
        }
        appender.finish(tx)?;
        let mut appender = Appender::begin_at_relay(tx, DOCUMENT)?;
        let next = change(&actor(1), last.seq() + 1, last.seq() + 1, &[last.hash()], vec![inside(vec![])]);
        assert!(matches!(appender.append(tx, &next)?, Appended::Stored { .. }));
        // Also where the same batch has looked at the map before.
        let next = change(&actor(1), last.seq() + 2, last.seq() + 2, &[next.hash()], vec![inside(vec![])]);
        assert!(matches!(appender.append(tx, &next)?, Appended::Stored { .. }));
        // Others have to be shown that they knew it.
        let other = change(&actor(2), 1, last.seq() + 3, &[next.hash()], vec![inside(vec![])]);
        appender.finish(tx)?;
        let appended = Appender::begin_at_relay(tx, DOCUMENT)?.append(tx, &other)?;
        assert!(matches!(&appended, Appended::Rejected(error) if error.rule() == Rule::HistoryTooWide), "{appended:?}");
        Ok(())
    })
}

#[test]
fn device_takes_what_a_relay_took_beside_its_own() -> Result<(), StoreError> {
    MemoryStore::new().write_with(|tx| {
        let root =
            |index: usize| change(&ActorId::from(index.to_be_bytes().to_vec()), 1, 1, &[], vec![put("k", vec![])]);
        let mut appender = Appender::begin_at_relay(tx, DOCUMENT)?;
        for index in 0..RELAY_HEADS_MAX {
            assert!(matches!(appender.append(tx, &root(index))?, Appended::Stored { .. }));
        }
        let is_full = |it: &Appended| matches!(it, Appended::Rejected(error) if error.rule() == Rule::TooManyHeads);
        assert!(is_full(&appender.append(tx, &root(RELAY_HEADS_MAX))?));
        appender.finish(tx)?;
        // Whatever it made itself before, there is room for as much as a relay has.
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        for index in RELAY_HEADS_MAX..DOCUMENT_HEADS_MAX {
            assert!(matches!(appender.append(tx, &root(index))?, Appended::Stored { .. }));
        }
        assert!(is_full(&appender.append(tx, &root(DOCUMENT_HEADS_MAX))?));
        Ok(())
    })
}

#[test]
fn predecessor_must_be_below_the_change_and_not_beside_it() -> Result<(), StoreError> {
    MemoryStore::new().write_with(|tx| {
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        let root = change(&actor(1), 1, 1, &[], vec![put("k", vec![])]);
        let left = change(&actor(1), 2, 2, &[root.hash()], vec![put("k", vec![OpId { counter: 1, actor: actor(1) }])]);
        let right = |pred: u64| {
            let preds = vec![OpId { counter: pred, actor: actor(1) }];
            change(&actor(2), 1, 5, &[root.hash()], vec![put("k", preds)])
        };
        for change in [&root, &left] {
            assert!(matches!(appender.append(tx, change)?, Appended::Stored { .. }));
        }
        let beside = appender.append(tx, &right(2))?;
        assert!(matches!(beside, Appended::Rejected(error) if error.rule().code() == "reference"));
        assert!(matches!(appender.append(tx, &right(1))?, Appended::Stored { .. }));
        appender.finish(tx)?;
        Ok(())
    })
}

#[test]
fn document_record_has_the_bytes_that_the_storage_page_draws() -> Result<(), StoreError> {
    let document = DocumentId::from_bytes([1; 16]);
    let head = Head { hash: ChangeHash([0xaa; 32]), position: 2, max_op: 9 };
    let state = DocumentState { count: 3, max_op: 9, bytes: 350, packed: 2, folded: 0, heads: vec![head] };
    let store = MemoryStore::new();
    store.write_with(|tx| put_state(tx, &document, &state))?;
    let bytes = store.read()?.get(Table::Document, document.as_bytes())?.unwrap_or_default();
    assert_eq!(bytes[..10], [0x02, 0x03, 0x09, 0xde, 0x02, 0x02, 0x00, 0x01, 0x02, 0x09]);
    assert_eq!(bytes[10..], [0xaa; 32]);
    assert_eq!(super::state(store.read()?.as_ref(), &document)?, Some(state));
    Ok(())
}

/// All that the ledger says about a document, to compare.
fn everything(tx: &dyn WriteTx) -> Result<Vec<String>, StoreError> {
    everything_of(tx)
}

fn everything_of(tx: &(impl ReadTx + ?Sized)) -> Result<Vec<String>, StoreError> {
    let state = super::state(tx, &DOCUMENT)?.expect("there is a document");
    let mut said = vec![format!("{:?}", DocumentState { packed: 0, ..state.clone() })];
    let mut exported = Vec::new();
    super::export(tx, &DOCUMENT, 0, &mut |bytes| {
        exported.push(bytes.to_vec());
        std::ops::ControlFlow::Continue(())
    })?;
    let hashes = super::hashes(tx, &DOCUMENT)?;
    assert_eq!((exported.len() as u64, hashes.len() as u64), (state.count, state.count));
    for at in 0..state.count {
        let (place, found) = (usize::try_from(at).expect("small"), node(tx, &DOCUMENT, at)?);
        assert_eq!((super::change(tx, &DOCUMENT, at)?, found.hash), (exported[place].clone(), hashes[place]));
        assert_eq!(super::position(tx, &DOCUMENT, &found.hash)?, Some(at));
        assert_eq!(
            super::last_seq(tx, &DOCUMENT, &found.actor)?.max(found.seq),
            super::last_seq(tx, &DOCUMENT, &found.actor)?
        );
        for counter in found.start_op..=found.max_op() {
            assert_eq!(actors::holding(tx, &DOCUMENT, &found.actor, counter)?.map(|change| change.position), Some(at));
        }
        said.push(format!("{found:?} {:?}", exported[place]));
    }
    assert_eq!(super::position(tx, &DOCUMENT, &ChangeHash([9; 32]))?, None);
    assert_eq!(actors::holding(tx, &DOCUMENT, &actor(200), 1)?, None);
    Ok(said)
}

#[test]
fn packed_history_is_the_same_history() -> Result<(), StoreError> {
    for seed in 0..40 {
        MemoryStore::new().write_with(|tx| {
            let below = grow(tx, seed, 150)?;
            let before = everything(tx)?;
            // Small packs, packed anew together, down to the last changes.
            for (keep, min, max) in [(100, 5, 20), (90, 1, 16), (40, 3, 64), (7, 1, 9)] {
                while super::packs::compact_within(tx, &DOCUMENT, keep, min, max)? > 0 {}
                assert_eq!(everything(tx)?, before, "seed {seed}, all but {keep}");
                let state = super::state(tx, &DOCUMENT)?.expect("there is a document");
                assert!(
                    state.packed + keep + min as u64 > state.count && state.packed + keep <= state.count,
                    "seed {seed}"
                );
            }
            let mut ancestors = Ancestors::new(Reach::DEVICE);
            for (at, expected) in below.iter().enumerate().rev().step_by(7) {
                for asked in 0..at {
                    let place = Place { deps: &[at as u64], all_heads: false };
                    let holds = ancestors.holds(tx, &DOCUMENT, &place, asked as u64)?.expect("a short walk");
                    assert_eq!(holds, expected.contains(&asked), "seed {seed}: {asked} below {at}");
                }
            }
            // What was packed is a duplicate still, and new changes go on top of it, or beside all of it.
            let first = CheckedChange::parse(&super::change(tx, &DOCUMENT, 0)?).expect("was checked");
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            assert_eq!(appender.append(tx, &first)?, Appended::Duplicate);
            let beside = change(&actor(99), 1, first.max_op() + 1, &[first.hash()], vec![put("new", vec![])]);
            assert!(matches!(appender.append(tx, &beside)?, Appended::Stored { .. }));
            appender.finish(tx)?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Appends changes of one author, one after the other.
fn extend(tx: &mut dyn WriteTx, seqs: std::ops::RangeInclusive<u64>) -> Result<(), StoreError> {
    let mut appender = Appender::begin(tx, DOCUMENT)?;
    for seq in seqs {
        let heads = appender.state().head_hashes();
        let made = change(&actor(1), seq, seq, &heads, vec![put("k", vec![])]);
        assert!(matches!(appender.append(tx, &made)?, Appended::Stored { .. }));
    }
    appender.finish(tx).map(drop)
}

#[test]
fn pack_that_was_made_beside_the_writer_is_stored_once() -> Result<(), StoreError> {
    use super::packs::{prepare_packing, put_packing};
    let store = MemoryStore::new();
    store.write_with(|tx| extend(tx, 1..=3_000))?;
    let before = everything_of(&*store.read()?)?;
    let mut steps = Vec::new();
    while let Some(packing) = prepare_packing(&*store.read()?, &DOCUMENT, 100)? {
        // What is written meanwhile does not matter.
        let next = 3_001 + steps.len() as u64;
        store.write_with(|tx| extend(tx, next..=next))?;
        steps.push(store.write_with(|tx| put_packing(tx, &packing))?);
        // It is stored once.
        assert_eq!(store.write_with(|tx| put_packing(tx, &packing))?, 0);
    }
    assert_eq!(steps, [2_900]);
    let tx = store.read()?;
    let after = everything_of(&*tx)?;
    assert_eq!(after[1..before.len()], before[1..]);
    let mut packs = 0;
    tx.scan(Table::Pack, &[]..&[u8::MAX], &mut |_, _| {
        packs += 1;
        std::ops::ControlFlow::Continue(())
    })?;
    assert_eq!(packs, 1);
    Ok(())
}

#[test]
fn pack_of_a_document_that_became_another_one_is_not_stored() -> Result<(), StoreError> {
    use super::packs::{prepare_packing, put_packing};
    let store = MemoryStore::new();
    store.write_with(|tx| extend(tx, 1..=2_000))?;
    let packing = prepare_packing(&*store.read()?, &DOCUMENT, 0)?.expect("enough to pack");
    store.write_with(|tx| super::delete(tx, &DOCUMENT))?;
    assert_eq!(store.write_with(|tx| put_packing(tx, &packing))?, 0);
    // The same author and as many, of another kind.
    store.write_with(|tx| {
        let mut appender = Appender::begin(tx, DOCUMENT)?;
        for seq in 1..=2_000 {
            let heads = appender.state().head_hashes();
            let made = change(&actor(1), seq, seq, &heads, vec![put("other", vec![])]);
            assert!(matches!(appender.append(tx, &made)?, Appended::Stored { .. }));
        }
        appender.finish(tx).map(drop)
    })?;
    let before = everything_of(&*store.read()?)?;
    assert_eq!(store.write_with(|tx| put_packing(tx, &packing))?, 0);
    assert_eq!(everything_of(&*store.read()?)?, before);
    Ok(())
}

#[test]
fn author_that_comes_back_after_its_newest_change_was_packed_is_found_in_every_pack() -> Result<(), StoreError> {
    MemoryStore::new().write_with(|tx| {
        let author = actor(1);
        let mut heads = Vec::new();
        for round in 0..4 {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            for seq in round * 10 + 1..=round * 10 + 10 {
                let made = change(&author, seq, seq, &heads, vec![put("k", vec![])]);
                assert!(matches!(appender.append(tx, &made)?, Appended::Stored { .. }));
                heads = vec![made.hash()];
            }
            appender.finish(tx)?;
            // Its newest change is packed with the rest.
            assert_eq!(super::packs::compact_within(tx, &DOCUMENT, 0, 1, 10)?, 10);
            for counter in 1..=round * 10 + 10 {
                let found = actors::holding(tx, &DOCUMENT, &author, counter)?;
                assert_eq!(found.map(|found| found.position), Some(counter - 1), "after round {round}");
            }
        }
        Ok(())
    })
}

/// Installs what another store has as a folded history.
fn install(tx: &mut dyn WriteTx, whole: &dyn ReadTx) -> Result<(), StoreError> {
    let state = super::state(whole, &DOCUMENT)?.expect("there is a document");
    let mut nodes = Vec::new();
    for at in 0..state.count {
        let node = node(whole, &DOCUMENT, at)?;
        let deps = node.deps.iter().map(|dep| Ok(super::node(whole, &DOCUMENT, *dep)?.hash));
        nodes.push((deps.collect::<Result<Vec<_>, StoreError>>()?, node));
    }
    let history = FoldedHistory::of(&state.head_hashes(), || {
        nodes.iter().map(|(deps, node)| FoldedChange {
            hash: node.hash,
            deps,
            actor: &node.actor,
            seq: node.seq,
            start_op: node.start_op,
            max_op: node.max_op(),
        })
    });
    assert_eq!(base::install(tx, &DOCUMENT, &history.expect("without gaps"))?, Ok(()));
    Ok(())
}

#[test]
fn folded_history_is_written_on_and_unfolds_to_the_same() -> Result<(), StoreError> {
    for seed in 0..30 {
        let whole = MemoryStore::new();
        whole.write_with(|tx| {
            grow(tx, seed, 130)?;
            while super::packs::compact_within(tx, &DOCUMENT, 20, 5, 30)? > 0 {}
            Ok(())
        })?;
        let whole = whole.read()?;
        MemoryStore::new().write_with(|tx| {
            install(tx, whole.as_ref())?;
            assert_eq!(base::folded(tx)?, [DOCUMENT]);
            assert!(matches!(super::hashes(tx, &DOCUMENT), Err(StoreError::Folded)));
            let (there, here) = (super::state(whole.as_ref(), &DOCUMENT)?, super::state(tx, &DOCUMENT)?);
            let (there, here) = (there.expect("was made"), here.expect("was installed"));
            assert_eq!((&here.heads, here.count, here.max_op), (&there.heads, there.count, there.max_op));

            // On top of everything, and beside the newest of it.
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            let top = change(&actor(50), 1, here.max_op + 1, &here.head_hashes(), vec![put("new", vec![])]);
            assert!(matches!(appender.append(tx, &top)?, Appended::Stored { .. }), "seed {seed}");
            let old = node(whole.as_ref(), &DOCUMENT, 3)?;
            let beside = change(&actor(51), 1, old.max_op() + 1, &[old.hash], vec![put("new", vec![])]);
            let before = appender.append(tx, &beside)?;
            appender.finish(tx)?;
            if here.heads.iter().all(|head| head.hash != old.hash) {
                assert_eq!(before, Appended::Folded, "seed {seed}");
            }

            assert_eq!(base::unfold(tx, &DOCUMENT, whole.as_ref())?, Ok(()));
            assert!(base::folded(tx)?.is_empty());
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            assert!(matches!(appender.append(tx, &beside)?, Appended::Stored { .. } | Appended::Duplicate));
            appender.finish(tx)?;
            let (mine, theirs) = (everything(tx)?, everything_of(whole.as_ref())?);
            assert_eq!(mine[1..theirs.len()], theirs[1..], "seed {seed}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn another_history_than_the_installed_one_is_not_unfolded() -> Result<(), StoreError> {
    let (whole, other) = (MemoryStore::new(), MemoryStore::new());
    whole.write_with(|tx| grow(tx, 1, 40))?;
    other.write_with(|tx| grow(tx, 2, 40))?;
    MemoryStore::new().write_with(|tx| {
        install(tx, whole.read()?.as_ref())?;
        let different = base::unfold(tx, &DOCUMENT, other.read()?.as_ref())?;
        assert_eq!(different, Err(base::BaseError::Different));
        assert_eq!(base::folded(tx)?, [DOCUMENT]);
        super::delete(tx, &DOCUMENT)?;
        assert!(base::folded(tx)?.is_empty());
        Ok(())
    })
}
