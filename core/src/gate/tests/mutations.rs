//! Damaged and forged changes with a right checksum: never a panic, and what passes Automerge takes and writes alike.

use automerge::ExpandedChange;
use proptest::prelude::*;

use super::super::leb::{Reader, write_unsigned};
use super::*;

/// A change's body taken apart, so that a forged column keeps a right length in the table.
pub(super) struct Parts {
    pub(super) head: Vec<u8>,
    pub(super) columns: Vec<(u64, Vec<u8>)>,
    pub(super) extra: Vec<u8>,
}

impl Parts {
    pub(super) fn of(body: &[u8]) -> Self {
        let mut reader = Reader::new(body);
        let deps = reader.unsigned().unwrap();
        reader.take(deps * 32).unwrap();
        reader.prefixed().unwrap();
        reader.unsigned().unwrap();
        reader.unsigned().unwrap();
        reader.signed().unwrap();
        reader.prefixed().unwrap();
        for _ in 0..reader.unsigned().unwrap() {
            reader.prefixed().unwrap();
        }
        let head = body[..body.len() - reader.len()].to_vec();
        let count = reader.unsigned().unwrap();
        let table: Vec<_> = (0..count).map(|_| (reader.unsigned().unwrap(), reader.unsigned().unwrap())).collect();
        let columns = table.into_iter().map(|(number, length)| (number, reader.take(length).unwrap().to_vec()));
        let columns = columns.collect();
        Self { head, columns, extra: reader.rest().to_vec() }
    }

    pub(super) fn join(&self) -> Vec<u8> {
        let mut body = self.head.clone();
        write_unsigned(&mut body, self.columns.len() as u64);
        for (number, data) in &self.columns {
            write_unsigned(&mut body, *number);
            write_unsigned(&mut body, data.len() as u64);
        }
        for (_, data) in &self.columns {
            body.extend_from_slice(data);
        }
        body.extend_from_slice(&self.extra);
        body
    }
}

/// Damages bytes in one of the ways that find most.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.index(bytes.len() + 1);
    let interesting = [0, 1, 2, 3, 7, 0x3f, 0x40, 0x7e, 0x7f, 0x80, 0xff][dice.index(11)];
    match dice.roll(7) {
        _ if at == bytes.len() => bytes.push(interesting),
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = interesting,
        2 => bytes[at] = dice.roll(256) as u8,
        3 => bytes.insert(at, interesting),
        4 => drop(bytes.remove(at)),
        5 => bytes[at] = bytes[at].wrapping_add(1),
        _ => bytes[at] = bytes[at].wrapping_sub(1),
    }
}

/// Forges a change out of an honest one: anywhere, or in one column, or with a column of another change.
fn forge(body: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..1 + dice.roll(3) {
        if dice.roll(4) == 0 {
            mutate(&mut body, dice);
            // The parts of a damaged body cannot be told apart any more.
            return body;
        }
        let mut parts = Parts::of(&body);
        let count = parts.columns.len();
        if count == 0 {
            continue;
        }
        let at = dice.index(count);
        match dice.roll(10) {
            0 => drop(parts.columns.remove(at)),
            1 => parts.columns.extend(Parts::of(other).columns.pop()),
            2 => parts.columns[at].0 ^= 1 << dice.roll(5),
            3 => parts.extra.push(dice.roll(256) as u8),
            4 => {
                if let Some((_, data)) =
                    Parts::of(other).columns.iter().find(|(number, _)| *number == parts.columns[at].0)
                {
                    parts.columns[at].1.clone_from(data);
                }
            }
            _ => mutate(&mut parts.columns[at].1, dice),
        }
        body = parts.join();
    }
    body
}

/// Checks a forged chunk; whether it passed.
fn try_gate(chunk: &[u8]) -> bool {
    let Ok(checked) = CheckedChange::parse(chunk) else { return false };
    assert_eq!(checked.ops().count() as u64, checked.op_count());
    if checked.op_count() > 10_000 {
        return true;
    }
    let change = Change::from_bytes(chunk.to_vec()).expect("the gate passed what Automerge does not take");
    let expanded = ExpandedChange::from(&change);
    let ops: Vec<_> = checked.ops().map(|op| to_legacy(&checked, &op)).collect();
    // As text, because a forged float may be NaN, which equals nothing.
    assert_eq!(format!("{ops:?}"), format!("{:?}", expanded.operations));
    let rebuilt = Change::from(expanded);
    assert_eq!(rebuilt.raw_bytes(), &checked.bytes()[..], "built anew the change has other bytes: {ops:?}");
    true
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn forged_changes_never_panic_and_what_passes_automerge_writes_alike(seed: u64) {
        let changes = honest_changes(seed);
        let mut dice = Dice::new(seed ^ 0xf0f0);
        for change in &changes {
            let other = changes[dice.index(changes.len())].raw_bytes();
            for _ in 0..12 {
                let forged = forge(body_of(change.raw_bytes()), body_of(other), &mut dice);
                try_gate(&chunk_of(&forged));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(CheckedChange::parse(&bytes));
        drop(CheckedChange::parse(&chunk_of(&bytes)));
        chunks(&bytes).for_each(drop);
        let mut framed = chunk_of(&bytes);
        framed[8] = 2;
        drop(CheckedChange::parse(&framed));
        framed.append(&mut bytes);
        chunks(&framed).for_each(drop);
    }

    #[test]
    fn every_cut_is_refused(seed: u64) {
        let changes = honest_changes(seed);
        let chunk = changes[changes.len() / 2].raw_bytes();
        for length in 0..chunk.len() {
            prop_assert!(CheckedChange::parse(&chunk[..length]).is_err());
        }
        let body = body_of(chunk);
        for length in 0..body.len() {
            try_gate(&chunk_of(&body[..length]));
        }
    }
}

#[test]
fn some_forgeries_pass() {
    // Otherwise the test above would compare nothing.
    let mut dice = Dice::new(7);
    let changes = honest_changes(7);
    let passed = (0..4_000).filter(|_| {
        let body = body_of(changes[dice.index(changes.len())].raw_bytes());
        try_gate(&chunk_of(&forge(body, body, &mut dice)))
    });
    assert!(passed.count() > 200);
}
