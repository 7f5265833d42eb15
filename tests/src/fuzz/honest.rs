//! Honest histories, as Automerge makes them: the gate and the ledger take every change of them, in any order in which each
//! stands behind those it depends on.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ObjType, ROOT, ReadDoc, ScalarValue};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::DocumentId;
use rejoin::engine::{self, Origin};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended};
use rejoin::store::{MemoryStore, Store, StoreExt};

use crate::hostile::record::edit_once;

/// How histories look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Some devices edit everything there is apart, and merge now and then.
    Mixed,
    /// Two type in one text.
    Typing,
    /// Many wrote one field at once.
    Crowd,
    /// Somebody edits what was, not what is.
    Earlier,
    /// A map is written whole, with maps in it, and deleted.
    Nested,
    /// Counters, by many.
    Counters,
}

/// All shapes.
pub const SHAPES: [Shape; 6] =
    [Shape::Mixed, Shape::Typing, Shape::Crowd, Shape::Earlier, Shape::Nested, Shape::Counters];

/// Makes the history of a number, and lets the engine take it.
///
/// Returns its shape and how many changes it has.
///
/// # Errors
///
/// In words, what was refused, with the change's bytes.
pub fn one(number: u64) -> Result<(Shape, usize), String> {
    let mut random = StdRng::seed_from_u64(number);
    let shape = SHAPES[usize::try_from(number % SHAPES.len() as u64).unwrap()];
    let document = make(shape, &mut random);
    let mut changes = document.get_changes(&[]);
    let mut heads = document.get_heads();
    heads.sort_unstable();
    if changes.is_empty() {
        return Ok((shape, 0));
    }
    shuffle_soundly(&mut changes, &mut random);
    take(&mut changes, &heads, &mut random).map_err(|why| format!("history {number}, {shape:?}: {why}"))?;
    Ok((shape, changes.len()))
}

fn take(changes: &mut [Change], heads: &[automerge::ChangeHash], random: &mut StdRng) -> Result<(), String> {
    const DOCUMENT: DocumentId = DocumentId::from_bytes([0x40; 16]);
    let store = MemoryStore::new();
    let mut checked = Vec::with_capacity(changes.len());
    for change in &mut *changes {
        // As it stands in a file or a message: deflated if it is long.
        let bytes = if random.random_bool(0.5) { change.bytes().into_owned() } else { change.raw_bytes().to_vec() };
        let parsed = CheckedChange::parse(&bytes).map_err(|error| format!("refused: {error}: {bytes:02x?}"))?;
        if parsed.bytes()[..] != *change.raw_bytes() || parsed.hash() != change.hash() {
            return Err(format!("read as another change: {bytes:02x?}"));
        }
        checked.push(parsed);
    }
    let batch = random.random_range(1..=checked.len());
    for some in checked.chunks(batch) {
        let accepted = store.write_with(|tx| engine::accept(tx, DOCUMENT, some.to_vec(), Origin::Remote)).unwrap();
        for (change, appended) in &accepted.results {
            if !matches!(appended, Appended::Stored { .. }) {
                if !is_taken_alone(changes, change) {
                    // What follows stands on it, or not: there is nothing to compare any more.
                    return Err(OF_AUTOMERGE.to_owned());
                }
                return Err(format!("{appended:?}: {:02x?}", change.bytes()));
            }
        }
    }
    let found = ledger::heads(&*store.read().unwrap(), &DOCUMENT).unwrap();
    if found == heads { Ok(()) } else { Err(format!("heads {found:?}, not {heads:?}")) }
}

/// What is said of a history that Automerge made and cannot read itself where a change comes before others that it names without
/// depending on them.
pub const OF_AUTOMERGE: &str = "Automerge does not take it either";

/// Says whether Automerge takes a change with what it depends on and nothing else, and gives it back.
fn is_taken_alone(changes: &[Change], change: &CheckedChange) -> bool {
    let mut wanted: Vec<_> = change.deps().to_vec();
    let mut chosen = std::collections::HashSet::from([change.hash()]);
    while let Some(hash) = wanted.pop() {
        if chosen.insert(hash) {
            wanted.extend(changes.iter().filter(|one| one.hash() == hash).flat_map(|one| one.deps().to_vec()));
        }
    }
    let alone = changes.iter().filter(|one| chosen.contains(&one.hash()));
    let chunks: Vec<_> = alone.map(|one| bytes::Bytes::copy_from_slice(one.raw_bytes())).collect();
    crate::hostile::oracle::check(&chunks, &[change.hash()]).is_ok()
}

/// Puts changes into another order in which each still stands behind those it depends on.
fn shuffle_soundly(changes: &mut Vec<Change>, random: &mut StdRng) {
    let mut left = std::mem::take(changes);
    let mut there = std::collections::HashSet::new();
    while !left.is_empty() {
        let ready = |change: &Change| change.deps().iter().all(|dep| there.contains(dep));
        let open: Vec<_> = (0..left.len()).filter(|at| ready(&left[*at])).collect();
        let change = left.remove(open[random.random_range(0..open.len())]);
        there.insert(change.hash());
        changes.push(change);
    }
}

/// Actors of nearly any length there is: where earlier heads are edited, Automerge makes others that are 5 bytes longer.
fn actor(number: usize, random: &mut StdRng) -> ActorId {
    let length = [1, 16, 16, 16, 33, 59][random.random_range(0..6)];
    let mut bytes = vec![u8::try_from(number).unwrap(); length];
    bytes[0] = random.random_range(0..4) << 6 | bytes[0] & 0x3f;
    if length > 1 {
        bytes[1] = random.random();
    }
    ActorId::from(bytes)
}

fn options(random: &mut StdRng) -> CommitOptions {
    let mut options = CommitOptions::default().with_time(random.random_range(-9..2_000_000_000));
    if random.random_bool(0.1) {
        options = options.with_message("why it was done, ünïcode".to_owned());
    }
    options
}

fn make(shape: Shape, random: &mut StdRng) -> Automerge {
    let mut document = Automerge::new().with_actor(actor(0, random));
    match shape {
        Shape::Mixed | Shape::Earlier => mixed(&mut document, shape == Shape::Earlier, random),
        Shape::Typing => typing(&mut document, random),
        Shape::Crowd => crowd(&mut document, random),
        Shape::Nested => nested(&mut document, random),
        Shape::Counters => counters(&mut document, random),
    }
    document
}

fn mixed(document: &mut Automerge, edits_earlier: bool, random: &mut StdRng) {
    let mut past = vec![Vec::new()];
    edit(document, !edits_earlier, random);
    let mut devices = vec![document.clone()];
    for number in 1..random.random_range(2..4) {
        devices.push(document.fork().with_actor(actor(number, random)));
    }
    for _ in 0..random.random_range(2..6) {
        let at = random.random_range(0..devices.len());
        if edits_earlier && random.random_bool(0.5) {
            let heads = past[random.random_range(0..past.len())].clone();
            let known = heads.iter().all(|head| devices[at].get_change_meta_by_hash(head).is_some());
            if known && !heads.is_empty() {
                let mut tx = devices[at].transaction_at(automerge::PatchLog::null(), &heads).unwrap();
                edit_earlier(&mut tx, random);
                tx.commit_with(options(random));
            }
        }
        edit(&mut devices[at], !edits_earlier, random);
        past.push(devices[at].get_heads());
        if random.random_bool(0.4) {
            let mut from = devices[random.random_range(0..devices.len())].clone();
            devices[at].merge(&mut from).unwrap();
        }
    }
    for mut device in devices {
        document.merge(&mut device).unwrap();
    }
}

/// Edits fields and the text as they were. Marks are left out: Automerge 0.12 lets a mark that is set in an earlier state stand
/// behind a character that the change does not depend on, three in 10,000 of such histories, and cannot apply that itself before
/// the character is there; the gate refuses it for the reference.
fn edit_earlier(tx: &mut automerge::transaction::Transaction<'_>, random: &mut StdRng) {
    match (random.random_range(0..4), tx.get(&ROOT, "text").unwrap()) {
        (0, Some((automerge::Value::Object(ObjType::Text), text))) => {
            let at = random.random_range(0..=tx.length(&text));
            tx.splice_text(&text, at, 0, "earlier").unwrap();
        }
        (1, _) => tx.delete(&ROOT, "a").unwrap(),
        (_, _) => tx.put(&ROOT, "b", random.random_range(0..9)).unwrap(),
    }
}

/// An empty change and then an edit of heads before it, by one actor, is what Automerge itself writes and cannot read in another
/// order: the gate refuses it, and `core/tests/honest_versions.rs` says so.
fn edit(document: &mut Automerge, may_be_empty: bool, random: &mut StdRng) {
    if may_be_empty && random.random_bool(0.05) {
        let options = options(random);
        document.empty_commit(options);
        return;
    }
    let mut tx = document.transaction();
    (0..random.random_range(1..4)).for_each(|_| edit_once(&mut tx, random));
    tx.commit_with(options(random));
}

fn typing(document: &mut Automerge, random: &mut StdRng) {
    let mut tx = document.transaction();
    let text = tx.put_object(&ROOT, "text", ObjType::Text).unwrap();
    tx.splice_text(&text, 0, 0, "to begin with").unwrap();
    tx.commit_with(options(random));
    let mut other = document.fork().with_actor(actor(1, random));
    for _ in 0..random.random_range(1..5) {
        for device in [&mut *document, &mut other] {
            let mut tx = device.transaction();
            let at = random.random_range(0..10);
            let typed = ["a", "é", "𝄞", "some words", ""][random.random_range(0..5)];
            tx.splice_text(&text, at, isize::from(typed.is_empty()), typed).unwrap();
            tx.commit_with(options(random));
        }
    }
    document.merge(&mut other).unwrap();
}

fn crowd(document: &mut Automerge, random: &mut StdRng) {
    let mut tx = document.transaction();
    tx.put(&ROOT, "field", 0).unwrap();
    tx.commit_with(options(random));
    let mut others: Vec<_> =
        (1..random.random_range(3..9)).map(|number| document.fork().with_actor(actor(number, random))).collect();
    for other in &mut others {
        let mut tx = other.transaction();
        match random.random_range(0..4) {
            0 => tx.delete(&ROOT, "field").unwrap(),
            1 => drop(tx.put_object(&ROOT, "field", ObjType::Map).unwrap()),
            _ => tx.put(&ROOT, "field", random.random_range(0..9)).unwrap(),
        }
        tx.commit_with(options(random));
    }
    for other in &mut others {
        document.merge(other).unwrap();
    }
    let mut tx = document.transaction();
    tx.put(&ROOT, "field", "settled").unwrap();
    tx.commit_with(options(random));
}

fn nested(document: &mut Automerge, random: &mut StdRng) {
    for round in 0..random.random_range(1..4) {
        let mut tx = document.transaction();
        let mut object = ROOT;
        for depth in 0..random.random_range(1..6) {
            let kind = [ObjType::Map, ObjType::Table][random.random_range(0..2)];
            // A table can be made and not written into.
            let made = tx.put_object(&object, format!("k{depth}"), kind).unwrap();
            if kind == ObjType::Map {
                tx.put(&made, "value", ScalarValue::Bytes(vec![round; random.random_range(0..400)])).unwrap();
                object = made;
            }
        }
        tx.commit_with(options(random));
        let mut tx = document.transaction();
        if random.random_bool(0.5) {
            tx.delete(&ROOT, "k0").unwrap();
        }
        tx.commit_with(options(random));
    }
}

fn counters(document: &mut Automerge, random: &mut StdRng) {
    let mut tx = document.transaction();
    tx.put(&ROOT, "count", ScalarValue::counter(random.random())).unwrap();
    let list = tx.put_object(&ROOT, "list", ObjType::List).unwrap();
    tx.insert(&list, 0, ScalarValue::counter(1)).unwrap();
    tx.commit_with(options(random));
    let mut other = document.fork().with_actor(actor(1, random));
    for device in [&mut *document, &mut other] {
        for _ in 0..random.random_range(1..4) {
            let mut tx = device.transaction();
            tx.increment(&ROOT, "count", random.random_range(-5..6)).unwrap();
            tx.increment(&list, 0, 1).unwrap();
            if random.random_bool(0.2) {
                tx.put(&ROOT, "count", ScalarValue::counter(0)).unwrap();
                tx.increment(&ROOT, "count", 3).unwrap();
            }
            tx.commit_with(options(random));
        }
    }
    document.merge(&mut other).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_histories_of_every_shape_are_taken() {
        for number in 0..60 {
            let (_, changes) = one(number).unwrap();
            assert!(changes > 0, "history {number} is empty");
        }
    }
}
