//! Marks held against Automerge: what it writes passes, and what passes it loads again.

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Automerge, Change, ObjId, ObjType, ROOT, ReadDoc};

use crate::engine::{Origin, accept};
use crate::gate::columns::number;
use crate::gate::leb::{write_signed, write_unsigned};
use crate::gate::tests::{Dice, Forged};
use crate::gate::{CheckedChange, ObjectRef, Rule};
use crate::id::DocumentId;
use crate::ledger::Appended;
use crate::store::{MemoryStore, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

/// An operation's counter and author; none is the head.
type Id = Option<(u64, ActorId)>;

fn index(dice: &mut Dice, below: usize) -> usize {
    usize::try_from(dice.roll(below as u64)).unwrap()
}

/// One edit of a text: typed, pasted, deleted, marked, unmarked or split.
fn edit(doc: &mut AutoCommit, text: &ObjId, dice: &mut Dice) {
    let length = doc.length(text);
    let start = index(dice, length + 1);
    let end = start + index(dice, length + 1 - start);
    let expand = [ExpandMark::None, ExpandMark::Before, ExpandMark::After, ExpandMark::Both][index(dice, 4)];
    match dice.roll(8) {
        0 => doc.splice_text(text, start, isize::try_from((end - start).min(4)).unwrap(), "").unwrap(),
        1 => doc.splice_text(text, start, 0, "a longer one 𝄞é").unwrap(),
        2 => drop(doc.split_block(text, start)),
        3 => doc.unmark(text, "bold", start, end, expand).unwrap(),
        4 | 5 => doc.mark(text, Mark::new("bold".to_owned(), true, start, end), expand).unwrap(),
        _ => doc.splice_text(text, start, 0, "x").unwrap(),
    }
    if dice.roll(3) == 0 {
        doc.commit();
    }
}

/// Three devices that edit one text apart and merge now and then; returns the document and its text.
fn edited(seed: u64) -> (AutoCommit, ObjId) {
    let mut dice = Dice::new(seed);
    let mut doc = AutoCommit::new().with_actor(ActorId::from([0x55; 16]));
    let text = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, "beginning").unwrap();
    let mut docs = vec![doc];
    for actor in [[0x11; 16], [0xee; 16]] {
        let fork = docs[0].fork().with_actor(ActorId::from(actor));
        docs.push(fork);
    }
    for _ in 0..60 {
        let (at, from) = (index(&mut dice, 3), index(&mut dice, 3));
        if dice.roll(5) == 0 {
            docs[from].commit();
            let mut other = docs[from].clone();
            docs[at].merge(&mut other).unwrap();
        } else {
            edit(&mut docs[at], &text, &mut dice);
        }
    }
    let (first, rest) = docs.split_first_mut().unwrap();
    rest.iter_mut().for_each(|doc| drop(first.merge(doc).unwrap()));
    (docs.swap_remove(0), text)
}

fn take(store: &MemoryStore, changes: Vec<CheckedChange>) -> Result<(), Rule> {
    let accepted = store.write_with(|tx| accept(tx, DOCUMENT, changes, Origin::Remote)).unwrap();
    for (change, appended) in accepted.results {
        match appended {
            Appended::Stored { .. } => {}
            Appended::Rejected(error) => return Err(error.rule()),
            other => unreachable!("{change:?}: {other:?}"),
        }
    }
    Ok(())
}

fn checked(doc: &mut AutoCommit) -> Vec<CheckedChange> {
    doc.get_changes(&[]).iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect()
}

#[test]
fn honest_marks_pass() {
    for seed in 0..200 {
        let (mut doc, _) = edited(seed);
        assert_eq!(take(&MemoryStore::new(), checked(&mut doc)), Ok(()), "seed {seed}");
    }
}

/// Encodes two cells.
fn two(first: Option<i64>, second: Option<i64>, write: impl Fn(&mut Vec<u8>, i64)) -> Vec<u8> {
    let mut out = Vec::new();
    match (first, second) {
        (None, None) => {}
        (Some(first), Some(second)) => {
            write_signed(&mut out, if first == second { 2 } else { -2 });
            write(&mut out, first);
            if first != second {
                write(&mut out, second);
            }
        }
        (None, Some(only)) => {
            out.extend([0, 1, 0x7f]);
            write(&mut out, only);
        }
        (Some(only), None) => {
            out.push(0x7f);
            write(&mut out, only);
            out.extend([0, 1]);
        }
    }
    out
}

/// Makes a change with one mark of which each end is inserted after some element.
fn forged(doc: &mut AutoCommit, start_op: u64, text: (u64, ActorId), begin: &Id, end: &Id) -> Vec<u8> {
    let author = ActorId::from([0x99; 16]);
    let text = Some(text);
    let ids = [&text, begin, end].into_iter().flatten();
    let mut others: Vec<_> = ids.map(|(_, actor)| actor.clone()).filter(|actor| *actor != author).collect();
    others.sort_unstable();
    others.dedup();
    let actor = |id: &Id| {
        let (_, actor) = id.as_ref()?;
        let index = others.iter().position(|other| other == actor).map_or(0, |index| index + 1);
        Some(i64::try_from(index).unwrap())
    };
    let counter = |id: &Id| id.as_ref().map_or(0, |(counter, _)| counter.cast_signed());
    let unsigned = |out: &mut Vec<u8>, value: i64| write_unsigned(out, value.cast_unsigned());
    let mut columns = vec![
        (number::OBJECT_ACTOR, two(actor(&text), actor(&text), unsigned)),
        (number::OBJECT_COUNTER, two(Some(counter(&text)), Some(counter(&text)), unsigned)),
        (number::KEY_ACTOR, two(actor(begin), actor(end), unsigned)),
        (number::KEY_COUNTER, two(Some(counter(begin)), Some(counter(end) - counter(begin)), write_signed_to)),
        (number::INSERT, vec![0, 2]),
        (number::ACTION, vec![2, 7]),
        (number::VALUE_META, vec![0x7e, 2, 0]),
        (number::PRED_COUNT, vec![2, 0]),
        (number::MARK_NAME, vec![0x7f, 4, b'b', b'o', b'l', b'd', 0, 1]),
    ];
    columns.retain(|(_, bytes)| !bytes.is_empty());
    Forged {
        deps: doc.get_heads().iter().map(|hash| hash.0).collect(),
        actor: author.to_bytes().to_vec(),
        seq: 1,
        start_op,
        time: 0,
        message: vec![],
        others: others.iter().map(|actor| actor.to_bytes().to_vec()).collect(),
        columns: columns.into_iter().collect(),
        extra: vec![],
    }
    .chunk()
}

fn write_signed_to(out: &mut Vec<u8>, value: i64) {
    write_signed(out, value);
}

#[test]
fn a_mark_passes_if_and_only_if_automerge_loads_it_again() {
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..30 {
        let (mut doc, _) = edited(1_000 + seed);
        let mut dice = Dice::new(seed);
        let changes = checked(&mut doc);
        let start_op = changes.iter().map(CheckedChange::max_op).max().unwrap() + 1;
        let text = (1, ActorId::from([0x55; 16]));
        let mut elements: Vec<Id> = vec![None, Some((start_op, ActorId::from([0x99; 16])))];
        for change in &changes {
            let in_text = change.ops().filter(|op| op.insert && op.object != ObjectRef::Root);
            elements.extend(in_text.map(|op| Some((op.id_counter, change.actor().clone()))));
        }
        for _ in 0..30 {
            let (begin, end) = (index(&mut dice, elements.len()), index(&mut dice, elements.len()));
            if begin == 1 {
                continue;
            }
            let chunk = forged(&mut doc, start_op, text.clone(), &elements[begin], &elements[end]);
            let ours = CheckedChange::parse(&chunk).map_err(|error| error.rule()).and_then(|change| {
                let store = MemoryStore::new();
                take(&store, changes.clone()).unwrap();
                take(&store, vec![change])
            });
            let mut theirs = doc.document().clone();
            theirs.apply_changes([Change::from_bytes(chunk).unwrap()]).unwrap();
            let loads = Automerge::load(&theirs.save()).is_ok();
            let expected = if loads { Ok(()) } else { Err(Rule::MarkOrder) };
            assert_eq!(ours, expected, "seed {seed}: {:?} to {:?}", elements[begin], elements[end]);
            passed += u32::from(loads);
            refused += u32::from(!loads);
        }
    }
    assert!(passed > 200 && refused > 200, "{passed} passed, {refused} refused");
}
