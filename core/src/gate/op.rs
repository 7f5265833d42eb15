//! The operations of a checked change, read from its columns without a copy.

use automerge::ScalarValue;

use super::columns::Columns;
use super::leb::Reader;
use super::runs::{Booleans, Deltas, Runs};
use super::{GateError, Rule};

/// Refers to an operation by an index into the actors of the change it stands in (0 is the author) and its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpRef {
    /// Index into [`CheckedChange::actors`](super::CheckedChange::actors).
    pub actor_index: u32,
    /// The Lamport counter, 1 or more.
    pub counter: u64,
}

/// The object an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectRef {
    /// The document's root map.
    Root,
    /// The object that this operation made.
    Op(OpRef),
}

/// Where in its object an operation works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyRef<'a> {
    /// A field of a map.
    Map(&'a str),
    /// Before the first element of a list or text; only of an insert.
    Head,
    /// An element of a list or text: for an insert the one before it.
    Element(OpRef),
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Makes a map.
    MakeMap,
    /// Sets a scalar.
    Put,
    /// Makes a list.
    MakeList,
    /// Removes its predecessors.
    Delete,
    /// Makes a text.
    MakeText,
    /// Adds to the counters among its predecessors.
    Increment,
    /// Makes a table.
    MakeTable,
    /// Begins a mark.
    MarkBegin,
    /// Ends the mark that the operation before it began.
    MarkEnd,
}

impl Action {
    /// Returns the number the action has in a change. Both ends of a mark share one.
    pub const fn code(self) -> u64 {
        match self {
            Self::MakeMap => 0,
            Self::Put => 1,
            Self::MakeList => 2,
            Self::Delete => 3,
            Self::MakeText => 4,
            Self::Increment => 5,
            Self::MakeTable => 6,
            Self::MarkBegin | Self::MarkEnd => 7,
        }
    }

    /// Whether the action makes an object.
    pub const fn is_make(self) -> bool {
        matches!(self, Self::MakeMap | Self::MakeList | Self::MakeText | Self::MakeTable)
    }

    pub(super) fn from_code(code: u64, named: bool) -> Result<Self, GateError> {
        Ok(match code {
            0 => Self::MakeMap,
            1 => Self::Put,
            2 => Self::MakeList,
            3 => Self::Delete,
            4 => Self::MakeText,
            5 => Self::Increment,
            6 => Self::MakeTable,
            7 if named => Self::MarkBegin,
            7 => Self::MarkEnd,
            _ => return Err(Rule::ActionUnknown.found(code, 7)),
        })
    }
}

/// A scalar, borrowed from the change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An unsigned integer.
    Uint(u64),
    /// A signed integer.
    Int(i64),
    /// A 64 bit float.
    F64(f64),
    /// A text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A counter's first value.
    Counter(i64),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// A type of a later version.
    Unknown {
        /// The type, 10 to 15.
        type_code: u8,
        /// Its bytes.
        bytes: &'a [u8],
    },
}

impl<'a> ValueRef<'a> {
    /// Copies the scalar out of the change.
    pub fn to_scalar(&self) -> ScalarValue {
        match *self {
            Self::Null => ScalarValue::Null,
            Self::Bool(value) => ScalarValue::Boolean(value),
            Self::Uint(value) => ScalarValue::Uint(value),
            Self::Int(value) => ScalarValue::Int(value),
            Self::F64(value) => ScalarValue::F64(value),
            Self::Str(text) => ScalarValue::Str(text.into()),
            Self::Bytes(bytes) => ScalarValue::Bytes(bytes.to_vec()),
            Self::Counter(value) => ScalarValue::counter(value),
            Self::Timestamp(value) => ScalarValue::Timestamp(value),
            Self::Unknown { type_code, bytes } => ScalarValue::Unknown { type_code, bytes: bytes.to_vec() },
        }
    }

    /// Reads the value that its metadata (length x 16 + type) describes.
    #[inline]
    fn read(meta: u64, raw: &mut Reader<'a>) -> Result<Self, GateError> {
        let bytes = raw.take(meta >> 4)?;
        let mut reader = Reader::new(bytes);
        let value = match meta & 0x0f {
            0 => Self::Null,
            1 => Self::Bool(false),
            2 => Self::Bool(true),
            3 => Self::Uint(reader.unsigned()?),
            4 => Self::Int(reader.signed()?),
            5 => Self::F64(f64::from_le_bytes(reader.array()?)),
            6 => Self::Str(std::str::from_utf8(reader.rest()).map_err(|_| Rule::Text.error())?),
            7 => Self::Bytes(reader.rest()),
            8 => Self::Counter(reader.signed()?),
            9 => Self::Timestamp(reader.signed()?),
            code => Self::Unknown { type_code: code.to_le_bytes()[0], bytes: reader.rest() },
        };
        // The metadata may not claim more bytes than the value needs.
        Rule::Value.require(reader.is_empty())?;
        Ok(value)
    }
}

/// The predecessors of one operation: what it overwrites, deletes or increments. Ordered by counter, then actor.
#[derive(Debug, Clone, Copy)]
pub struct Preds<'a> {
    actor: Runs<'a, u64>,
    counter: Deltas<'a>,
    left: u64,
}

impl Preds<'_> {
    fn next_pred(&mut self) -> Result<OpRef, GateError> {
        self.left = self.left.saturating_sub(1);
        let (actor, counter) = (self.actor.next_row()?, self.counter.next_row()?);
        op_ref(actor, counter)?.ok_or_else(|| Rule::Reference.error())
    }
}

impl Iterator for Preds<'_> {
    type Item = OpRef;

    fn next(&mut self) -> Option<OpRef> {
        if self.left == 0 { None } else { self.next_pred().ok() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Preds<'_> {}

/// One operation of a change.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    /// Its own Lamport counter; its actor is the change's author.
    pub id_counter: u64,
    /// The object it is about.
    pub object: ObjectRef,
    /// The field or element.
    pub key: KeyRef<'a>,
    /// Whether it inserts a new element after `key`.
    pub insert: bool,
    /// What it does.
    pub action: Action,
    /// The scalar it sets, adds or marks with; otherwise null.
    pub value: ValueRef<'a>,
    /// What it overwrites.
    pub preds: Preds<'a>,
    /// Whether text typed at this end of a mark is marked too.
    pub expand: bool,
    /// The name of the mark that begins here.
    pub mark_name: Option<&'a str>,
}

/// Walks the operations of a checked change. Cost: O(columns + rows), no allocation.
#[derive(Debug, Clone)]
pub struct Ops<'a> {
    reader: OpReader<'a>,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(columns: &Columns, data: &'a [u8], start_op: u64, op_count: u64) -> Self {
        Self { reader: OpReader::new(columns, data, start_op, op_count) }
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        // The parse walked the same rows and found no fault.
        self.reader.next_op().ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.reader.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Ops<'_> {}

/// Decodes rows into operations, checking only what decoding needs.
#[derive(Debug, Clone)]
pub(crate) struct OpReader<'a> {
    left: u64,
    id_counter: u64,
    places: Places<'a>,
    insert: Booleans<'a>,
    action: Runs<'a, u64>,
    value_meta: Runs<'a, u64>,
    value: Reader<'a>,
    pred_count: Runs<'a, u64>,
    preds: Preds<'a>,
    expand: Booleans<'a>,
    mark_name: Runs<'a, &'a str>,
}

impl<'a> OpReader<'a> {
    pub(crate) fn new(columns: &Columns, data: &'a [u8], start_op: u64, op_count: u64) -> Self {
        Self {
            left: op_count,
            id_counter: start_op,
            places: Places::new(columns, data),
            insert: Booleans::new(columns.insert.of(data)),
            action: Runs::new(columns.action.of(data)),
            value_meta: Runs::new(columns.value_meta.of(data)),
            value: Reader::new(columns.value.of(data)),
            pred_count: Runs::new(columns.pred_count.of(data)),
            preds: Preds {
                actor: Runs::new(columns.pred_actor.of(data)),
                counter: Deltas::new(columns.pred_counter.of(data)),
                left: 0,
            },
            expand: Booleans::new(columns.expand.of(data)),
            mark_name: Runs::new(columns.mark_name.of(data)),
        }
    }

    /// Decodes the next operation, or none after the last.
    #[inline]
    pub(crate) fn next_op(&mut self) -> Result<Option<Op<'a>>, GateError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (object, key) = self.places.next_row()?;
        let mark_name = self.mark_name.next_row()?;
        let code = self.action.next_row()?.ok_or_else(|| Rule::ColumnLength.error())?;
        let meta = self.value_meta.next_row()?.ok_or_else(|| Rule::ColumnLength.error())?;
        let preds = self.next_preds()?;
        let op = Op {
            id_counter: self.id_counter,
            object,
            key,
            insert: self.insert.next_row()?,
            action: Action::from_code(code, mark_name.is_some())?,
            value: ValueRef::read(meta, &mut self.value)?,
            preds,
            expand: self.expand.next_row()?,
            mark_name,
        };
        self.id_counter += 1;
        Ok(Some(op))
    }

    fn next_preds(&mut self) -> Result<Preds<'a>, GateError> {
        let count = self.pred_count.next_row()?.ok_or_else(|| Rule::ColumnLength.error())?;
        let preds = Preds { left: count, ..self.preds };
        for _ in 0..count {
            self.preds.next_pred()?;
        }
        Ok(preds)
    }
}

/// Where the operations work: the columns of objects and keys.
#[derive(Debug, Clone)]
pub(super) struct Places<'a> {
    object_actor: Runs<'a, u64>,
    object_counter: Runs<'a, u64>,
    key_actor: Runs<'a, u64>,
    key_counter: Deltas<'a>,
    key_text: Runs<'a, &'a str>,
}

impl<'a> Places<'a> {
    pub(super) fn new(columns: &Columns, data: &'a [u8]) -> Self {
        Self {
            object_actor: Runs::new(columns.object_actor.of(data)),
            object_counter: Runs::new(columns.object_counter.of(data)),
            key_actor: Runs::new(columns.key_actor.of(data)),
            key_counter: Deltas::new(columns.key_counter.of(data)),
            key_text: Runs::new(columns.key_text.of(data)),
        }
    }

    /// Decodes the next operation's object and key.
    #[inline]
    pub(super) fn next_row(&mut self) -> Result<(ObjectRef, KeyRef<'a>), GateError> {
        let object = match op_ref(self.object_actor.next_row()?, self.object_counter.next_row()?)? {
            None => ObjectRef::Root,
            Some(op) => ObjectRef::Op(op),
        };
        let (actor, counter) = (self.key_actor.next_row()?, self.key_counter.next_row()?);
        Ok((object, key_ref(self.key_text.next_row()?, actor, counter)?))
    }

    /// Passes over rows. Cost: O(runs).
    pub(super) fn skip_rows(&mut self, count: u64) -> Result<(), GateError> {
        self.object_actor.skip_rows(count)?;
        self.object_counter.skip_rows(count)?;
        self.key_actor.skip_rows(count)?;
        self.key_counter.skip_rows(count)?;
        self.key_text.skip_rows(count)
    }
}

/// Joins the three cells of a key: exactly one kind of key is there.
#[inline]
fn key_ref(text: Option<&str>, actor: Option<u64>, counter: Option<u64>) -> Result<KeyRef<'_>, GateError> {
    match (text, actor, counter) {
        (Some(text), None, None) => Ok(KeyRef::Map(text)),
        (None, None, Some(0)) => Ok(KeyRef::Head),
        (None, actor, counter) => match op_ref(actor, counter)? {
            Some(op) => Ok(KeyRef::Element(op)),
            None => Err(Rule::Operation.error()),
        },
        _ => Err(Rule::Operation.error()),
    }
}

/// Joins the two halves of an operation id; half an id is no id.
#[inline]
fn op_ref(actor: Option<u64>, counter: Option<u64>) -> Result<Option<OpRef>, GateError> {
    match (actor, counter) {
        (None, None) => Ok(None),
        (Some(actor), Some(counter)) => {
            let actor_index = u32::try_from(actor).map_err(|_| Rule::ActorIndex.error())?;
            Ok(Some(OpRef { actor_index, counter }))
        }
        _ => Err(Rule::Reference.error()),
    }
}
