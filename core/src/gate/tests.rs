//! The gate against Automerge itself: what is honest passes, what passes Automerge takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers out of a test's own generator")]

mod attacks;
mod edges;
mod encoding;
mod honest;
mod mutations;
mod rules;

use std::collections::BTreeMap;
use std::io::Read;

use automerge::legacy::{ElementId, Key, MarkData, ObjectId, Op as LegacyOp, OpId as LegacyOpId, OpType};
use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, AutoCommit, Change, ChangeHash, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};

use super::columns::number;
use super::leb::{write_signed, write_unsigned};
use super::*;

/// Every failure prints the seed that replays it. `GATE_CASES_FACTOR=100` makes a night's run of it.
pub(crate) fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    let factor = std::env::var("GATE_CASES_FACTOR").map_or(1, |factor| factor.parse().unwrap());
    let cases = cases * factor;
    proptest::prelude::ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

/// A small deterministic generator: a failing seed replays for ever, whatever happens to other crates.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below.max(1)
    }

    fn index(&mut self, below: usize) -> usize {
        self.roll(below as u64) as usize
    }
}

/// A scalar of any type, at its extremes now and then.
pub(crate) fn any_scalar(dice: &mut Dice) -> ScalarValue {
    let wide = dice.roll(u64::MAX) >> dice.roll(64);
    match dice.roll(12) {
        0 => ScalarValue::Null,
        1 => ScalarValue::Boolean(dice.roll(2) == 0),
        2 => ScalarValue::Uint([0, 127, 128, u64::MAX, wide][dice.index(5)]),
        3 => ScalarValue::Int([0, -1, 63, 64, -64, -65, i64::MIN, i64::MAX, wide.cast_signed()][dice.index(9)]),
        4 => ScalarValue::F64([0.0, -1.5, f64::INFINITY, f64::MIN_POSITIVE][dice.index(4)]),
        5 | 6 => ScalarValue::Str("é€𝄞x".repeat(dice.index(6)).into()),
        7 => ScalarValue::Bytes(vec![7; dice.index(300)]),
        8 | 9 => ScalarValue::counter([0, -1, wide.cast_signed() >> 8][dice.index(3)]),
        10 => ScalarValue::Timestamp(wide.cast_signed()),
        _ => ScalarValue::Unknown { type_code: 10 + dice.roll(6) as u8, bytes: vec![1; dice.index(9)] },
    }
}

/// Several devices that edit maps, lists and texts apart and merge now and then; returns all their changes.
pub(crate) fn honest_changes(seed: u64) -> Vec<Change> {
    let mut dice = Dice::new(seed);
    let mut docs: Vec<AutoCommit> = vec![AutoCommit::new().with_actor(actor(&mut dice))];
    docs[0].put(ROOT, "k0", 1).unwrap();
    for _ in 0..5 + dice.roll(40) {
        let at = dice.index(docs.len());
        match dice.roll(12) {
            0 if docs.len() < 5 => {
                let fork = docs[at].fork().with_actor(actor(&mut dice));
                docs.push(fork);
            }
            1 | 2 => {
                let from = dice.index(docs.len());
                // A copy with pending edits would commit them a second time, as another change.
                docs[from].commit();
                let mut other = docs[from].clone();
                docs[at].merge(&mut other).unwrap();
            }
            3 => {
                let mut options = CommitOptions::default().with_time(dice.roll(1 << 40).cast_signed() - (1 << 20));
                if dice.roll(2) == 0 {
                    options = options.with_message("why: é".repeat(dice.index(4)));
                }
                docs[at].commit_with(options);
            }
            4 => drop(docs[at].empty_change(CommitOptions::default())),
            _ => (0..1 + dice.roll(6)).for_each(|_| edit(&mut docs[at], &mut dice)),
        }
    }
    let (first, rest) = docs.split_first_mut().unwrap();
    for doc in rest {
        first.merge(doc).unwrap();
    }
    first.get_changes(&[])
}

/// Drafts a change that sets the field `k`, for tests that are about what a change stands on and not what it does.
pub(crate) fn field_draft(actor: &[u8], seq: u64, start_op: u64, deps: Vec<ChangeHash>) -> ChangeDraft<'static> {
    let op = DraftOp {
        object: DraftObject::Root,
        key: "k".to_owned(),
        action: Action::Put,
        value: ScalarValue::Null,
        preds: vec![],
    };
    ChangeDraft { actor: ActorId::from(actor), seq, start_op, timestamp: 0, message: None, deps, ops: vec![op] }
}

fn actor(dice: &mut Dice) -> ActorId {
    let length = [1, 8, 16, 16, 16, 64][dice.index(6)];
    let bytes: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
    // The shortest ids would collide, and two devices with one actor are not honest.
    if length == 1 { ActorId::from(&dice.roll(u64::MAX).to_be_bytes()[..]) } else { ActorId::from(bytes) }
}

/// One edit somewhere; an edit that does not fit is no edit.
fn edit(doc: &mut AutoCommit, dice: &mut Dice) {
    let (object, kind) = any_object(doc, dice);
    let length = doc.length(&object);
    let key = format!("k{}", dice.roll(6));
    let value = any_scalar(dice);
    let make = [ObjType::Map, ObjType::List, ObjType::Text, ObjType::Table][dice.index(4)];
    let index = dice.index(length + 1);
    let done = match (kind, dice.roll(8)) {
        (ObjType::Map | ObjType::Table, 0 | 1) => doc.put_object(&object, key, make).map(drop),
        (ObjType::Map | ObjType::Table, 2) => doc.delete(&object, key),
        (ObjType::Map | ObjType::Table, 3 | 4) => doc.increment(&object, key, dice.roll(100).cast_signed() - 50),
        (ObjType::Map | ObjType::Table, _) => doc.put(&object, key, value),
        (ObjType::List, 0) => doc.insert_object(&object, index, make).map(drop),
        (ObjType::List, 1) => doc.delete(&object, index),
        (ObjType::List, 2) => doc.put(&object, index, value),
        (ObjType::List, 3) => doc.increment(&object, index, 1),
        (ObjType::List, _) => doc.insert(&object, index, value),
        (ObjType::Text, 0 | 1) => {
            let end = index + dice.index(length + 1 - index);
            let name = ["bold", "link"][dice.index(2)].to_owned();
            let expand = [ExpandMark::None, ExpandMark::Both, ExpandMark::After][dice.index(3)];
            doc.mark(&object, Mark::new(name, value, index, end), expand)
        }
        (ObjType::Text, 2) => doc.split_block(&object, index).map(drop),
        (ObjType::Text, 3) => doc.update_text(&object, "héllo wörld, changed"),
        (ObjType::Text, _) => {
            let delete = dice.index(length + 1 - index).min(5).cast_signed();
            doc.splice_text(&object, index, delete, &"añ𝄞 bc"[..[0, 1, 3, 7, 10][dice.index(5)]])
        }
    };
    drop(done);
}

/// Walks down from the root at random.
fn any_object(doc: &AutoCommit, dice: &mut Dice) -> (ObjId, ObjType) {
    let mut at = (ROOT, ObjType::Map);
    for _ in 0..dice.roll(4) {
        let children: Vec<_> = match at.1 {
            ObjType::Map | ObjType::Table => doc.map_range(&at.0, ..).map(|item| (item.id(), item.value)).collect(),
            ObjType::List => doc.list_range(&at.0, ..).map(|item| (item.id(), item.value)).collect(),
            ObjType::Text => vec![],
        };
        let objects: Vec<_> = children
            .into_iter()
            .filter_map(|(id, value)| match value {
                automerge::ValueRef::Object(kind) => Some((id, kind)),
                _ => None,
            })
            .collect();
        if objects.is_empty() {
            break;
        }
        at = objects[dice.index(objects.len())].clone();
    }
    at
}

/// Turns a checked change's operation into Automerge's own form of it.
pub(crate) fn to_legacy(change: &CheckedChange, op: &Op<'_>) -> LegacyOp {
    let id = |op: OpRef| LegacyOpId::new(op.counter, &change.actors()[op.actor_index as usize]);
    let value = op.value.to_scalar();
    let action = match op.action {
        Action::MakeMap => OpType::Make(ObjType::Map),
        Action::MakeList => OpType::Make(ObjType::List),
        Action::MakeText => OpType::Make(ObjType::Text),
        Action::MakeTable => OpType::Make(ObjType::Table),
        Action::Put => OpType::Put(value),
        Action::Delete => OpType::Delete,
        Action::Increment => OpType::Increment(value.as_i64().unwrap()),
        Action::MarkBegin => {
            OpType::MarkBegin(MarkData { name: op.mark_name.unwrap().into(), value, expand: op.expand })
        }
        Action::MarkEnd => OpType::MarkEnd(op.expand),
    };
    LegacyOp {
        action,
        obj: match op.object {
            ObjectRef::Root => ObjectId::Root,
            ObjectRef::Op(op) => ObjectId::Id(id(op)),
        },
        key: match op.key {
            KeyRef::Map(key) => Key::Map(key.into()),
            KeyRef::Head => Key::Seq(ElementId::Head),
            KeyRef::Element(op) => Key::Seq(ElementId::Id(id(op))),
        },
        pred: op.preds.map(id).collect(),
        insert: op.insert,
    }
}

/// Puts a body into a chunk with the right length and checksum: what an attacker does.
pub(crate) fn chunk_of(body: &[u8]) -> Vec<u8> {
    super::chunk::frame(body, None).unwrap().0
}

/// Returns the body of a chunk.
pub(crate) fn body_of(chunk: &[u8]) -> &[u8] {
    let mut reader = super::leb::Reader::new(&chunk[9..]);
    reader.unsigned().unwrap();
    reader.rest()
}

/// The code of the rule that a chunk breaks, or `ok`.
pub(crate) fn verdict(chunk: &[u8]) -> &'static str {
    CheckedChange::parse(chunk).map_or_else(|error| error.rule().code(), |_| "ok")
}

/// A change written by hand, so that any part of it can be wrong.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) deps: Vec<[u8; 32]>,
    pub(crate) actor: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) time: i64,
    pub(crate) message: Vec<u8>,
    pub(crate) others: Vec<Vec<u8>>,
    pub(crate) columns: BTreeMap<u64, Vec<u8>>,
    pub(crate) extra: Vec<u8>,
}

impl Forged {
    /// Puts null into the field `k`, `rows` times.
    pub(crate) fn puts(rows: u64) -> Self {
        let run = |value: &[u8]| {
            let mut column = Vec::new();
            write_signed(&mut column, if rows == 1 { -1 } else { rows.cast_signed() });
            column.extend_from_slice(value);
            column
        };
        let mut insert = Vec::new();
        write_unsigned(&mut insert, rows);
        let columns = [
            (number::KEY_TEXT, run(&[1, b'k'])),
            (number::INSERT, insert),
            (number::ACTION, run(&[1])),
            (number::VALUE_META, run(&[0])),
            (number::PRED_COUNT, run(&[0])),
        ];
        Self {
            deps: vec![],
            actor: vec![9; 16],
            seq: 1,
            start_op: 1,
            time: 0,
            message: vec![],
            others: vec![],
            columns: columns.into(),
            extra: vec![],
        }
    }

    /// Puts null into the field `k`, `rows` times, each over the one before; at least three.
    pub(crate) fn overwrites(rows: u64) -> Self {
        let run = |column: &mut Vec<u8>, value: u8| {
            write_signed(column, rows.cast_signed() - 1);
            column.push(value);
        };
        let (mut count, mut actors, mut counters) = (vec![0x7f, 0], vec![], vec![]);
        run(&mut count, 1);
        run(&mut actors, 0);
        run(&mut counters, 1);
        Self::puts(rows)
            .column(number::PRED_COUNT, &count)
            .column(number::PRED_ACTOR, &actors)
            .column(number::PRED_COUNTER, &counters)
    }

    /// Puts null into the field `k`; any part of it can then be changed.
    pub(crate) fn with(edit: impl FnOnce(&mut Self)) -> Self {
        let mut forged = Self::puts(1);
        edit(&mut forged);
        forged
    }

    /// Replaces a column's bytes.
    pub(crate) fn column(mut self, number: u64, bytes: &[u8]) -> Self {
        self.columns.insert(number, bytes.to_vec());
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let prefixed = |body: &mut Vec<u8>, bytes: &[u8]| {
            write_unsigned(body, bytes.len() as u64);
            body.extend_from_slice(bytes);
        };
        write_unsigned(&mut body, self.deps.len() as u64);
        body.extend_from_slice(self.deps.as_flattened());
        prefixed(&mut body, &self.actor);
        write_unsigned(&mut body, self.seq);
        write_unsigned(&mut body, self.start_op);
        write_signed(&mut body, self.time);
        prefixed(&mut body, &self.message);
        write_unsigned(&mut body, self.others.len() as u64);
        self.others.iter().for_each(|actor| prefixed(&mut body, actor));
        write_unsigned(&mut body, self.columns.len() as u64);
        for (number, data) in &self.columns {
            write_unsigned(&mut body, *number);
            write_unsigned(&mut body, data.len() as u64);
        }
        self.columns.values().for_each(|data| body.extend_from_slice(data));
        body.extend_from_slice(&self.extra);
        body
    }

    pub(crate) fn chunk(&self) -> Vec<u8> {
        chunk_of(&self.body())
    }

    pub(crate) fn verdict(&self) -> &'static str {
        verdict(&self.chunk())
    }
}

/// Deflates a body into a compressed chunk, with the checksum of the uncompressed one.
pub(crate) fn compressed_chunk_of(body: &[u8]) -> Vec<u8> {
    let checksum = chunk_of(body);
    let mut deflated = Vec::new();
    flate2::bufread::DeflateEncoder::new(body, flate2::Compression::best()).read_to_end(&mut deflated).unwrap();
    compressed_chunk(&checksum[4..8], &deflated)
}

/// Frames deflated bytes.
pub(crate) fn compressed_chunk(checksum: &[u8], deflated: &[u8]) -> Vec<u8> {
    let mut chunk = [&super::chunk::MAGIC[..], checksum, &[2]].concat();
    write_unsigned(&mut chunk, deflated.len() as u64);
    chunk.extend_from_slice(deflated);
    chunk
}
