//! A change of which any part can be wrong: rows are encoded in the canonical form, then any column can be replaced.

use std::collections::BTreeMap;

use rejoin::gate::{Action, CheckedChange, KeyRef, ObjectRef, OpRef, ValueRef};

use super::bytes::{chunk, hash, prefixed, signed, unsigned};

/// The numbers of the columns, as they stand in a change.
pub mod column {
    /// Which actor made the object.
    pub const OBJECT_ACTOR: u64 = 0x01;
    /// The object's counter.
    pub const OBJECT_COUNTER: u64 = 0x02;
    /// Which actor made the element.
    pub const KEY_ACTOR: u64 = 0x11;
    /// The element's counter, as differences.
    pub const KEY_COUNTER: u64 = 0x13;
    /// The key of a map.
    pub const KEY_TEXT: u64 = 0x15;
    /// Whether it inserts.
    pub const INSERT: u64 = 0x34;
    /// What it does.
    pub const ACTION: u64 = 0x42;
    /// Type and length of the value.
    pub const VALUE_META: u64 = 0x56;
    /// The values' bytes.
    pub const VALUE: u64 = 0x57;
    /// How many predecessors.
    pub const PRED_COUNT: u64 = 0x70;
    /// The predecessors' actors.
    pub const PRED_ACTOR: u64 = 0x71;
    /// The predecessors' counters, as differences.
    pub const PRED_COUNTER: u64 = 0x73;
    /// Whether a mark expands.
    pub const EXPAND: u64 = 0x94;
    /// The name of a mark.
    pub const MARK_NAME: u64 = 0xa5;
}

/// The number of an action in a change.
pub mod action {
    /// Makes a map.
    pub const MAKE_MAP: u64 = 0;
    /// Sets a scalar.
    pub const PUT: u64 = 1;
    /// Makes a list.
    pub const MAKE_LIST: u64 = 2;
    /// Deletes its predecessors.
    pub const DELETE: u64 = 3;
    /// Makes a text.
    pub const MAKE_TEXT: u64 = 4;
    /// Adds to a counter.
    pub const INCREMENT: u64 = 5;
    /// Makes a table.
    pub const MAKE_TABLE: u64 = 6;
    /// Begins or ends a mark.
    pub const MARK: u64 = 7;
}

/// An operation's id: an index into the change's actors (0 is the author) and a counter.
pub type RawId = (u64, u64);

/// Where in its object an operation works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawKey {
    /// A field of a map.
    Map(String),
    /// Before the first element.
    Head,
    /// An element.
    Element(RawId),
}

/// One row of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawOp {
    /// The object; none is the root.
    pub object: Option<RawId>,
    /// The field or element.
    pub key: RawKey,
    /// Whether it inserts.
    pub insert: bool,
    /// What it does.
    pub action: u64,
    /// The value's type.
    pub value_type: u64,
    /// The value's bytes.
    pub value: Vec<u8>,
    /// What it overwrites.
    pub preds: Vec<RawId>,
    /// Whether a mark expands here.
    pub expand: bool,
    /// The name of the mark that begins here.
    pub mark: Option<String>,
}

impl RawOp {
    /// Does something without a value to a field of the root.
    pub fn new(key: &str, action: u64) -> Self {
        Self {
            object: None,
            key: RawKey::Map(key.to_owned()),
            insert: false,
            action,
            value_type: 0,
            value: Vec::new(),
            preds: Vec::new(),
            expand: false,
            mark: None,
        }
    }

    /// Sets a field of the root to a text.
    pub fn put(key: &str, value: &str) -> Self {
        Self { value_type: 6, value: value.as_bytes().to_vec(), ..Self::new(key, action::PUT) }
    }

    /// Inserts a one-letter text into a list or text.
    pub fn insert(object: RawId, key: RawKey, value: &str) -> Self {
        Self { insert: true, key, ..Self::put("", value) }.in_object(object)
    }

    /// Sets the value to a signed number of a type: 4 an integer, 8 a counter, 9 a timestamp.
    #[must_use]
    pub fn number(mut self, value_type: u64, value: i64) -> Self {
        self.value_type = value_type;
        self.value.clear();
        signed(&mut self.value, value);
        self
    }

    /// Moves it into another object.
    #[must_use]
    pub fn in_object(mut self, object: RawId) -> Self {
        self.object = Some(object);
        self
    }

    /// Moves it to another key.
    #[must_use]
    pub fn at(mut self, key: RawKey) -> Self {
        self.key = key;
        self
    }

    /// Lets it overwrite.
    #[must_use]
    pub fn over(mut self, preds: &[RawId]) -> Self {
        self.preds = preds.to_vec();
        self
    }
}

/// A change before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawChange {
    /// The changes it follows.
    pub deps: Vec<[u8; 32]>,
    /// The author.
    pub actor: Vec<u8>,
    /// The author's running number.
    pub seq: u64,
    /// The counter of the first operation.
    pub start_op: u64,
    /// Seconds since the epoch.
    pub time: i64,
    /// The commit message.
    pub message: Vec<u8>,
    /// The other actors.
    pub others: Vec<Vec<u8>>,
    /// The operations.
    pub ops: Vec<RawOp>,
    /// Columns that replace those of the operations; an empty one leaves it out.
    pub columns: BTreeMap<u64, Vec<u8>>,
    /// What follows the columns.
    pub extra: Vec<u8>,
}

impl RawChange {
    /// Begins an author's first change, without dependencies.
    pub fn new(actor: &[u8]) -> Self {
        Self {
            deps: Vec::new(),
            actor: actor.to_vec(),
            seq: 1,
            start_op: 1,
            time: 0,
            message: Vec::new(),
            others: Vec::new(),
            ops: Vec::new(),
            columns: BTreeMap::new(),
            extra: Vec::new(),
        }
    }

    /// Takes a checked change apart.
    pub fn from_checked(change: &CheckedChange) -> Self {
        let id = |op: OpRef| (u64::from(op.actor_index), op.counter);
        let ops = change.ops().map(|op| {
            let (value_type, value) = raw_value(op.value);
            RawOp {
                object: match op.object {
                    ObjectRef::Root => None,
                    ObjectRef::Op(made) => Some(id(made)),
                },
                key: match op.key {
                    KeyRef::Map(key) => RawKey::Map(key.to_owned()),
                    KeyRef::Head => RawKey::Head,
                    KeyRef::Element(element) => RawKey::Element(id(element)),
                },
                insert: op.insert,
                action: action_code(op.action),
                value_type,
                value,
                preds: op.preds.map(id).collect(),
                expand: op.expand,
                mark: op.mark_name.map(ToOwned::to_owned),
            }
        });
        Self {
            deps: change.deps().iter().map(|hash| hash.0).collect(),
            actor: change.actor().to_bytes().to_vec(),
            seq: change.seq(),
            start_op: change.start_op(),
            time: change.timestamp(),
            message: change.message().unwrap_or_default().as_bytes().to_vec(),
            others: change.other_actors().iter().map(|actor| actor.to_bytes().to_vec()).collect(),
            ops: ops.collect(),
            columns: BTreeMap::new(),
            extra: change.extra_bytes().to_vec(),
        }
    }

    /// Encodes the whole chunk with its checksum.
    pub fn chunk(&self) -> Vec<u8> {
        chunk(1, &self.body())
    }

    /// Returns the hash that names it.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.chunk())
    }

    /// Encodes the body.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        unsigned(&mut body, self.deps.len() as u64);
        body.extend_from_slice(self.deps.as_flattened());
        prefixed(&mut body, &self.actor);
        unsigned(&mut body, self.seq);
        unsigned(&mut body, self.start_op);
        signed(&mut body, self.time);
        prefixed(&mut body, &self.message);
        unsigned(&mut body, self.others.len() as u64);
        self.others.iter().for_each(|actor| prefixed(&mut body, actor));
        let mut columns = columns_of(&self.ops);
        columns.extend(self.columns.clone());
        columns.retain(|_, bytes| !bytes.is_empty());
        unsigned(&mut body, columns.len() as u64);
        for (number, bytes) in &columns {
            unsigned(&mut body, *number);
            unsigned(&mut body, bytes.len() as u64);
        }
        columns.values().for_each(|bytes| body.extend_from_slice(bytes));
        body.extend_from_slice(&self.extra);
        body
    }
}

/// Encodes rows into columns.
fn columns_of(ops: &[RawOp]) -> BTreeMap<u64, Vec<u8>> {
    let numbers = |cells: Vec<Option<u64>>| runs(&cells, |out, value| unsigned(out, *value));
    let texts = |cells: Vec<Option<&str>>| runs(&cells, |out, value| prefixed(out, value.as_bytes()));
    let map = |read: fn(&RawOp) -> Option<u64>| numbers(ops.iter().map(read).collect());
    let key_counter = ops.iter().map(|op| match op.key {
        RawKey::Map(_) => None,
        RawKey::Head => Some(0),
        RawKey::Element((_, counter)) => Some(counter),
    });
    let key_text = ops.iter().map(|op| match &op.key {
        RawKey::Map(key) => Some(key.as_str()),
        _ => None,
    });
    let preds = || ops.iter().flat_map(|op| op.preds.iter());
    let mut expand = booleans(ops.iter().map(|op| op.expand));
    if ops.iter().all(|op| !op.expand) {
        expand.clear();
    }
    [
        (column::OBJECT_ACTOR, map(|op| op.object.map(|id| id.0))),
        (column::OBJECT_COUNTER, map(|op| op.object.map(|id| id.1))),
        (column::KEY_ACTOR, map(|op| if let RawKey::Element(id) = op.key { Some(id.0) } else { None })),
        (column::KEY_COUNTER, deltas(key_counter)),
        (column::KEY_TEXT, texts(key_text.collect())),
        (column::INSERT, booleans(ops.iter().map(|op| op.insert))),
        (column::ACTION, map(|op| Some(op.action))),
        (column::VALUE_META, map(|op| Some((op.value.len() as u64) << 4 | op.value_type))),
        (column::VALUE, ops.iter().flat_map(|op| op.value.iter().copied()).collect()),
        (column::PRED_COUNT, map(|op| Some(op.preds.len() as u64))),
        (column::PRED_ACTOR, numbers(preds().map(|id| Some(id.0)).collect())),
        (column::PRED_COUNTER, deltas(preds().map(|id| Some(id.1)))),
        (column::EXPAND, expand),
        (column::MARK_NAME, texts(ops.iter().map(|op| op.mark.as_deref()).collect())),
    ]
    .into()
}

/// Encodes cells as runs, literals and nulls, in the one form that Automerge writes.
fn runs<T: PartialEq>(cells: &[Option<T>], write: impl Fn(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut out = Vec::new();
    if cells.iter().all(Option::is_none) {
        return out;
    }
    let flush = |out: &mut Vec<u8>, literals: &mut Vec<&T>| {
        if !literals.is_empty() {
            signed(out, -(literals.len().cast_signed() as i64));
            literals.drain(..).for_each(|value| write(out, value));
        }
    };
    let mut literals = Vec::new();
    for group in cells.chunk_by(|left, right| left == right) {
        match (&group[0], group.len()) {
            (Some(value), 1) => literals.push(value),
            (Some(value), length) => {
                flush(&mut out, &mut literals);
                signed(&mut out, length.cast_signed() as i64);
                write(&mut out, value);
            }
            (None, length) => {
                flush(&mut out, &mut literals);
                out.push(0);
                unsigned(&mut out, length as u64);
            }
        }
    }
    flush(&mut out, &mut literals);
    out
}

/// Encodes numbers as the differences between them.
fn deltas(cells: impl Iterator<Item = Option<u64>>) -> Vec<u8> {
    let mut last = 0i64;
    let cells: Vec<Option<i64>> = cells
        .map(|cell| {
            cell.map(|value| {
                let value = value.cast_signed();
                let delta = value.wrapping_sub(last);
                last = value;
                delta
            })
        })
        .collect();
    runs(&cells, |out, value| signed(out, *value))
}

/// Encodes truth values as the lengths of alternating runs, `false` first.
fn booleans(cells: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut value, mut count) = (false, 0);
    for cell in cells {
        if cell != value {
            unsigned(&mut out, count);
            (value, count) = (cell, 0);
        }
        count += 1;
    }
    if count > 0 {
        unsigned(&mut out, count);
    }
    out
}

fn action_code(action: Action) -> u64 {
    action.code()
}

fn raw_value(value: ValueRef<'_>) -> (u64, Vec<u8>) {
    let number = |value_type: u64, value: i64| {
        let mut out = Vec::new();
        signed(&mut out, value);
        (value_type, out)
    };
    match value {
        ValueRef::Null => (0, Vec::new()),
        ValueRef::Bool(value) => (1 + u64::from(value), Vec::new()),
        ValueRef::Uint(value) => {
            let mut out = Vec::new();
            unsigned(&mut out, value);
            (3, out)
        }
        ValueRef::Int(value) => number(4, value),
        ValueRef::F64(value) => (5, value.to_le_bytes().to_vec()),
        ValueRef::Str(text) => (6, text.as_bytes().to_vec()),
        ValueRef::Bytes(bytes) => (7, bytes.to_vec()),
        ValueRef::Counter(value) => number(8, value),
        ValueRef::Timestamp(value) => number(9, value),
        ValueRef::Unknown { type_code, bytes } => (u64::from(type_code), bytes.to_vec()),
    }
}
