//! Whole-document chunks: what is checked of one before Automerge is let near it, what is made of one that passes, and
//! whether that is the same as what its changes make.
//!
//! The child process that a relay uses for it is tried by tests of its own; here the same code runs in this process.

use std::ops::ControlFlow;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ObjType, ROOT, SaveOptions};
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::document::whole;
use rejoin::engine::{self, Origin};
use rejoin::fields;
use rejoin::fold::unfold;
use rejoin::gate::{CheckedChange, Chunk, DocumentHeader, chunks};
use rejoin::ledger;
use rejoin::limits::WHOLE_ROWS_MAX;
use rejoin::store::{MemoryStore, Store, StoreExt};

use super::gate::RECORDING;
use super::{Seen, Target, size_class};
use crate::hostile::base;
use crate::hostile::bytes::{chunk, prefixed, read_unsigned, split, unsigned};
use crate::hostile::mutate::damage;
use crate::hostile::record::{DOCUMENT, record};
use crate::hostile::session::export;

/// The bit in a column's number that says that it is deflated.
const DEFLATED: u64 = 8;

/// The most bytes a column is inflated to for being damaged.
const INFLATED_BYTES_MAX: usize = 64 << 10;

/// Reads whole documents.
pub struct Document {
    seeds: Vec<Vec<u8>>,
}

impl Document {
    /// Makes it with documents of several shapes.
    pub fn new() -> Self {
        let recorded = record(RECORDING);
        let mut longest = Automerge::new();
        let chunks = export(&recorded[recorded.len() - 1].store, DOCUMENT);
        longest.load_incremental(&chunks.concat()).unwrap();
        let mut seeds = vec![base::file(), Automerge::new().save()];
        for document in [longest, long_text(), many_actors()] {
            seeds.push(document.save());
            seeds.push(document.save_with_options(SaveOptions { deflate: false, retain_orphans: false }));
        }
        Self { seeds }
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::new()
    }
}

/// A text long enough for columns to be deflated.
fn long_text() -> Automerge {
    let mut document = Automerge::new().with_actor(ActorId::from([5; 16]));
    let mut tx = document.transaction();
    let text = tx.put_object(&ROOT, "text", ObjType::Text).unwrap();
    tx.splice_text(&text, 0, 0, &"to and fro ".repeat(60)).unwrap();
    (0..20).for_each(|at| tx.splice_text(&text, at * 7, 3, "x").unwrap());
    tx.commit();
    document
}

/// A field that many wrote at once.
fn many_actors() -> Automerge {
    let mut document = Automerge::new().with_actor(ActorId::from([1; 16]));
    for number in 2..14u8 {
        let mut fork = document.fork().with_actor(ActorId::from([number; 16]));
        let mut tx = fork.transaction();
        tx.put(&ROOT, "field", u64::from(number)).unwrap();
        tx.commit();
        document.merge(&mut fork).unwrap();
    }
    document
}

impl Target for Document {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let Some((kind, body)) = split(input) else { return damage(input, |_| other, random) };
        match random.random_range(0..10) {
            0 => damage(input, |_| other, random),
            1 | 2 => chunk(kind, &damage(body, |_| other, random)),
            _ => match Parts::read(body) {
                Some(mut parts) => {
                    let other = split(other).and_then(|(_, body)| Parts::read(body));
                    parts.mutate(other.as_ref(), random);
                    chunk(0, &parts.write())
                }
                None => chunk(kind, &damage(body, |_| other, random)),
            },
        }
    }

    /// Columns inflate to 128 MiB, and Automerge takes some 30 bytes for each of 16 million rows.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        (128 << 20) + 40 * usize::try_from(WHOLE_ROWS_MAX).unwrap() + 64 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let checked = Chunk::parse(input).and_then(|chunk| {
            let header = DocumentHeader::of(&chunk)?;
            DocumentHeader::check_size(&chunk)?;
            Ok(header)
        });
        let header = match checked {
            Ok(header) => header,
            Err(error) => return Seen::refused(error.rule().code()),
        };
        let whole = match whole::read(input) {
            Ok(whole) => whole,
            Err(error) => {
                let text: String = error.to_string().chars().take(60).filter(|c| !c.is_ascii_digit()).collect();
                return Seen::refused("not loaded").with(&text);
            }
        };
        assert_eq!(header.heads, whole.heads, "it ends with other heads than it says");
        let taken_apart = match unfold(input) {
            Ok(changes) => changes,
            Err(error) => return Seen::refused("not unfolded").with(&error.to_string()),
        };
        compare(&whole, &taken_apart)
    }

    fn is_contained(&self, panic: &str) -> bool {
        panic.contains("/automerge-") || panic.contains("/hexane-")
    }
}

/// Takes the changes in one by one: where all are taken, the fields are those that the whole showed.
fn compare(whole: &whole::Whole, changes: &[Vec<u8>]) -> Seen {
    let store = MemoryStore::new();
    let mut offered = Vec::new();
    for bytes in changes {
        match CheckedChange::parse(&Bytes::copy_from_slice(bytes)) {
            Ok(change) => offered.push(change),
            Err(error) => return Seen::refused("a change of it").with(&error.rule().code()),
        }
    }
    let count = offered.len();
    let accepted = store.write_with(|tx| engine::accept(tx, DOCUMENT, offered, Origin::Remote)).unwrap();
    if accepted.stored < count {
        return Seen::refused("a change of it does not fit").with(&(size_class(count), size_class(accepted.stored)));
    }
    let tx = store.read().unwrap();
    assert_eq!(ledger::heads(&*tx, &DOCUMENT).unwrap(), whole.heads, "the changes end with other heads");
    for (object, key, values) in &whole.fields {
        let registers = fields::get_all(&*tx, &DOCUMENT, object, key).unwrap();
        assert!(same(&registers, values), "{object} {key:?}: {registers:?}, the whole shows {values:?}");
    }
    let mut bytes = 0;
    ledger::export(&*tx, &DOCUMENT, 0, &mut |chunk| {
        bytes += chunk.len();
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(chunks(&changes.concat()).count(), count, "its changes are no row of chunks");
    Seen::taken("whole", &(size_class(count), size_class(bytes), whole.heads.len(), size_class(whole.fields.len())))
}

/// NaN is the same as itself here.
fn same<T: std::fmt::Debug>(left: &T, right: &T) -> bool {
    format!("{left:?}") == format!("{right:?}")
}

/// A column: its number, and its bytes, which may be deflated.
type Column = (u64, Vec<u8>);

/// A document chunk's body, taken apart.
#[derive(Debug, Clone)]
struct Parts {
    actors: Vec<Vec<u8>>,
    heads: Vec<Vec<u8>>,
    change_columns: Vec<Column>,
    op_columns: Vec<Column>,
    /// Where the heads are, by number.
    rest: Vec<u8>,
}

impl Parts {
    fn read(body: &[u8]) -> Option<Self> {
        let (mut actors, mut heads) = (Vec::new(), Vec::new());
        let (count, mut rest) = read_unsigned(body)?;
        for _ in 0..count {
            let actor = take_prefixed(&mut rest)?;
            actors.push(actor.to_vec());
        }
        for _ in 0..take_number(&mut rest)? {
            let (head, tail) = rest.split_at_checked(32)?;
            heads.push(head.to_vec());
            rest = tail;
        }
        let change_table = table(&mut rest)?;
        let op_table = table(&mut rest)?;
        let mut columns = |table: Vec<(u64, usize)>| {
            let take = |(number, length)| {
                let (bytes, tail) = rest.split_at_checked(length)?;
                rest = tail;
                Some((number, bytes.to_vec()))
            };
            table.into_iter().map(take).collect::<Option<Vec<Column>>>()
        };
        let (change_columns, op_columns) = (columns(change_table)?, columns(op_table)?);
        Some(Self { actors, heads, change_columns, op_columns, rest: rest.to_vec() })
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        unsigned(&mut out, self.actors.len() as u64);
        self.actors.iter().for_each(|actor| prefixed(&mut out, actor));
        unsigned(&mut out, self.heads.len() as u64);
        self.heads.iter().for_each(|head| out.extend_from_slice(head));
        for columns in [&self.change_columns, &self.op_columns] {
            unsigned(&mut out, columns.len() as u64);
            for (number, bytes) in columns {
                unsigned(&mut out, *number);
                unsigned(&mut out, bytes.len() as u64);
            }
        }
        let columns = self.change_columns.iter().chain(&self.op_columns);
        columns.for_each(|(_, bytes)| out.extend_from_slice(bytes));
        out.extend_from_slice(&self.rest);
        out
    }

    fn mutate(&mut self, other: Option<&Self>, random: &mut StdRng) {
        let is_op = random.random_bool(0.6);
        let columns = if is_op { &mut self.op_columns } else { &mut self.change_columns };
        let foreign = other.map(|other| if is_op { &other.op_columns } else { &other.change_columns });
        match random.random_range(0..16) {
            0 if !self.actors.is_empty() => {
                let at = random.random_range(0..self.actors.len());
                self.actors[at] = damage(&self.actors[at], |_| &[], random);
            }
            1 => self.actors.sort_by_key(|actor| actor.last().copied()),
            2 => self.heads.extend(other.and_then(|other| other.heads.first().cloned())),
            3 => drop(self.heads.pop()),
            4 => self.rest = damage(&self.rest, |_| &[3], random),
            _ if columns.is_empty() => columns.extend(foreign.and_then(|foreign| foreign.first().cloned())),
            5 => drop(columns.remove(random.random_range(0..columns.len()))),
            6 => {
                if let Some(foreign) = foreign.filter(|foreign| !foreign.is_empty()) {
                    let column = foreign[random.random_range(0..foreign.len())].clone();
                    columns.retain(|(number, _)| *number != column.0);
                    columns.push(column);
                    columns.sort_unstable_by_key(|(number, _)| *number & !DEFLATED);
                }
            }
            7 => {
                let at = random.random_range(0..columns.len());
                columns[at].0 ^= 1 << random.random_range(0..8);
            }
            _ => {
                let at = random.random_range(0..columns.len());
                damage_column(&mut columns[at], random);
            }
        }
    }
}

/// Damages what a column holds, inflated, and deflates it again or not.
fn damage_column((number, bytes): &mut Column, random: &mut StdRng) {
    if *number & DEFLATED != 0 && random.random_bool(0.9) {
        let mut plain = Vec::with_capacity(INFLATED_BYTES_MAX);
        let mut inflate = flate2::Decompress::new(false);
        if inflate.decompress_vec(bytes, &mut plain, flate2::FlushDecompress::Finish).is_ok() {
            *bytes = plain;
            *number &= !DEFLATED;
        }
    }
    *bytes = damage(bytes, |_| &[0x7f, 0xff, 0x01, 0x00], random);
    if random.random_bool(0.2) {
        let mut deflated = Vec::with_capacity(bytes.len() + 64);
        Compress::new(Compression::best(), false).compress_vec(bytes, &mut deflated, FlushCompress::Finish).unwrap();
        *bytes = deflated;
        *number |= DEFLATED;
    }
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, tail) = read_unsigned(rest)?;
    *rest = tail;
    Some(number)
}

fn take_prefixed<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

/// Reads a table of columns: numbers and lengths.
fn table(rest: &mut &[u8]) -> Option<Vec<(u64, usize)>> {
    let count = take_number(rest)?;
    let column = |rest: &mut &[u8]| Some((take_number(rest)?, usize::try_from(take_number(rest)?).ok()?));
    (0..count).map(|_| column(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_that_was_taken_apart_is_put_together_as_it_was() {
        for seed in Document::new().seeds {
            let (_, body) = split(&seed).unwrap();
            assert_eq!(Parts::read(body).unwrap().write(), body);
        }
    }
}
