//! Old changes, packed: a few thousand of them in one record, without their rows in the other tables.
//!
//! A packed change is byte for byte what it was; only finding it costs more. What is needed again and again of a pack is
//! kept unpacked in a bounded cache. Its key is a digest of the content, so that it serves every store and never goes
//! stale.
//!
//! Packs hold the first positions of a document, without gaps. The newest changes keep their rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use automerge::{ActorId, ChangeHash};
use sha2::{Digest, Sha256};

use super::actors::{self, ActorChange};
use super::{Node, put_state, state};
use crate::codec::bloom::Bloom;
use crate::gate::CheckedChange;
use crate::id::DocumentId;
use crate::limits::{PACK_BYTES_MAX, PACK_CACHE_BYTES, PACK_CHANGES_MAX, PACK_CHANGES_MIN, PACK_CHANGES_WORTH};
use crate::pack::{self, Unpacked};
use crate::store::record::{self, Reader, position_key, position_of_key, prefix_end, tail_key};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

const PACK: &str = "pack-1";
const INDEX: &str = "pack-index-1";

type Key = [u8; 16];

/// A pack, ready to be asked.
struct Opened {
    first: u64,
    unpacked: Unpacked,
    /// The dependencies that are in other packs.
    outside: HashMap<ChangeHash, u64>,
    floors: Vec<u64>,
    /// The changes' places in the pack, by hash.
    places: HashMap<ChangeHash, usize>,
}

/// What the index says of a pack.
#[derive(Debug, Clone, Copy)]
struct Entry {
    first: u64,
    last: u64,
    digest: Key,
}

impl Opened {
    fn place(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first)?).ok().filter(|place| *place < self.unpacked.len())
    }

    fn position(&self, place: usize) -> u64 {
        self.first + place as u64
    }

    fn node(&self, place: usize) -> Result<Node, StoreError> {
        let change = self.unpacked.get(place).ok_or(StoreError::Damaged { what: PACK })?;
        let mut deps = Vec::new();
        for hash in change.deps() {
            let inside = self.places.get(&hash).map(|place| self.position(*place));
            deps.push(inside.or_else(|| self.outside.get(&hash).copied()).ok_or(StoreError::Damaged { what: PACK })?);
        }
        deps.sort_unstable();
        Ok(Node {
            hash: change.hash(),
            deps,
            floor: self.floors.get(place).copied().unwrap_or(0),
            actor: change.actor().clone(),
            seq: change.seq(),
            start_op: change.start_op(),
            op_count: change.op_count(),
            bytes: change.as_slice().len() as u64,
        })
    }
}

/// Returns the node at a packed position, or `None` if it is in no pack.
pub(super) fn node(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    position: u64,
) -> Result<Option<Node>, StoreError> {
    let Some(opened) = holding(tx, document, position)? else { return Ok(None) };
    opened.place(position).map(|place| opened.node(place)).transpose()
}

/// Returns the change at a packed position, or `None` if it is in no pack.
pub(super) fn change(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    position: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(opened) = holding(tx, document, position)? else { return Ok(None) };
    let place = opened.place(position);
    Ok(place.and_then(|place| opened.unpacked.get(place)).map(|change| change.as_slice().to_vec()))
}

/// Visits packed changes from a position on; says where the packs end, and whether the visitor broke.
pub(super) fn export(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    from: u64,
    visit: &mut dyn FnMut(&[u8], ChangeHash) -> ControlFlow<()>,
) -> Result<(u64, ControlFlow<()>), StoreError> {
    let mut position = from;
    while let Some(opened) = holding(tx, document, position)? {
        for change in opened.unpacked.iter().skip(opened.place(position).unwrap_or(usize::MAX)) {
            if visit(change.as_slice(), change.hash()).is_break() {
                return Ok((position, ControlFlow::Break(())));
            }
            position += 1;
        }
    }
    Ok((position, ControlFlow::Continue(())))
}

/// Finds a packed change by its hash. Cost: one look at each pack's filter.
pub(super) fn position(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    hash: &ChangeHash,
) -> Result<Option<u64>, StoreError> {
    let mut likely = Vec::new();
    entries(tx, document, 0, &mut |entry, reader| {
        skip_actors(reader)?;
        if Bloom::holds(reader.bytes()?, hash).map_err(|_| StoreError::Damaged { what: INDEX })? {
            likely.push(entry);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for entry in likely {
        let opened = open(tx, document, &entry)?;
        if let Some(place) = opened.places.get(hash) {
            return Ok(Some(opened.position(*place)));
        }
    }
    Ok(None)
}

/// Finds the packed change of an actor that holds an operation.
pub(super) fn holding_op(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    actor: &ActorId,
    counter: u64,
) -> Result<Option<ActorChange>, StoreError> {
    let mut found = None;
    entries(tx, document, 0, &mut |entry, reader| {
        for _ in 0..reader.count()? {
            let (name, start, end) = (reader.bytes()?, reader.count()?, reader.count()?);
            if name == actor.to_bytes() && (start..end).contains(&counter) {
                found = Some(entry);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let Some(entry) = found else { return Ok(None) };
    let opened = open(tx, document, &entry)?;
    let listed = opened.unpacked.iter().enumerate().filter(|(_, change)| change.actor() == actor);
    let mut listed = listed.map(|(place, change)| ActorChange {
        position: opened.position(place),
        seq: change.seq(),
        start_op: change.start_op(),
        op_count: change.op_count(),
    });
    Ok(listed.find(|change| change.holds(counter)))
}

/// Gets an entry of the index, and the rest of its record.
type EntryVisitor<'v> = dyn FnMut(Entry, &mut Reader<'_>) -> Result<ControlFlow<()>, StoreError> + 'v;

/// Visits the index of a document's packs, those that end at or above a position.
fn entries(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    from: u64,
    visit: &mut EntryVisitor<'_>,
) -> Result<(), StoreError> {
    let (start, end) = (position_key(document, from), prefix_end(document.as_bytes()));
    let mut failed = None;
    tx.scan(Table::PackIndex, &start..&end, &mut |key, value| {
        let mut reader = Reader::new(value, INDEX);
        let visited = read_entry(key, &mut reader).and_then(|entry| visit(entry, &mut reader));
        visited.unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

fn read_entry(key: &[u8], reader: &mut Reader<'_>) -> Result<Entry, StoreError> {
    let last = position_of_key(key)?;
    let first = (last + 1).checked_sub(reader.count()?).ok_or(StoreError::Damaged { what: INDEX })?;
    let digest = reader.take(16)?.try_into().map_err(|_| reader.damaged())?;
    Ok(Entry { first, last, digest })
}

fn skip_actors(reader: &mut Reader<'_>) -> Result<(), StoreError> {
    for _ in 0..reader.count()? {
        reader.bytes()?;
        reader.count()?;
        reader.count()?;
    }
    Ok(())
}

/// Opens the pack that holds a position.
fn holding(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    position: u64,
) -> Result<Option<Arc<Opened>>, StoreError> {
    let mut found = None;
    entries(tx, document, position, &mut |entry, _| {
        found = (entry.first <= position).then_some(entry);
        Ok(ControlFlow::Break(()))
    })?;
    found.map(|entry| open(tx, document, &entry)).transpose()
}

fn open(tx: &(impl ReadTx + ?Sized), document: &DocumentId, entry: &Entry) -> Result<Arc<Opened>, StoreError> {
    if let Some(opened) = Cache::get(&entry.digest) {
        return Ok(opened);
    }
    let damaged = || StoreError::Damaged { what: PACK };
    let bytes = tx.get(Table::Pack, &position_key(document, entry.last))?.ok_or_else(damaged)?;
    let mut reader = Reader::new(&bytes, PACK);
    let mut outside = HashMap::new();
    for _ in 0..reader.count()? {
        let hash = reader.hash()?;
        outside.insert(hash, reader.count()?);
    }
    let mut floors = Vec::new();
    let mut runs = Reader::new(reader.bytes()?, PACK);
    let unpacked = pack::unpack(reader.rest()).map_err(|_| damaged())?;
    if unpacked.len() as u64 != entry.last + 1 - entry.first {
        return Err(damaged());
    }
    while floors.len() < unpacked.len() {
        let (times, lag) = (runs.count()?, runs.count()?);
        for _ in 0..times.min((unpacked.len() - floors.len()) as u64) {
            let position = entry.first + floors.len() as u64;
            floors.push((position + 1).checked_sub(lag).ok_or_else(damaged)?);
        }
        if times == 0 {
            return Err(damaged());
        }
    }
    let places = unpacked.iter().enumerate().map(|(place, change)| (change.hash(), place)).collect();
    let opened = Arc::new(Opened { first: entry.first, unpacked, outside, floors, places });
    Cache::put(entry.digest, &opened);
    Ok(opened)
}

/// Packs the oldest changes of a document that still have rows, all but the newest `keep`. Returns how many were packed:
/// none if there are fewer than [`PACK_CHANGES_MIN`], at most [`PACK_CHANGES_MAX`]; call it again until it returns 0.
///
/// What was packed is unpacked again and compared before its rows are deleted. Cost: 10 to 50 ms for a full pack.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used; the transaction must then be given up.
pub fn compact(tx: &mut dyn WriteTx, document: &DocumentId, keep: u64) -> Result<u64, StoreError> {
    compact_within(tx, document, keep, PACK_CHANGES_MIN, PACK_CHANGES_MAX)
}

/// [`compact`] down to the last change, for a document that is not written at the moment: whatever there is of at least
/// [`PACK_CHANGES_WORTH`] changes. The next look-ups of its newest changes open a pack.
///
/// # Errors
///
/// As [`compact`].
pub fn compact_fully(tx: &mut dyn WriteTx, document: &DocumentId) -> Result<u64, StoreError> {
    compact_within(tx, document, 0, PACK_CHANGES_WORTH, PACK_CHANGES_MAX)
}

/// [`compact`] with other bounds.
pub(super) fn compact_within(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    keep: u64,
    changes_min: usize,
    changes_max: usize,
) -> Result<u64, StoreError> {
    match prepare_within(tx, document, keep, changes_min, changes_max)? {
        Some(packing) => put_packing(tx, &packing),
        None => Ok(0),
    }
}

/// A pack that is made and not stored.
#[derive(Debug)]
pub struct Packing {
    document: DocumentId,
    /// Up to where changes were packed before, and the digest of the last pack.
    packed: u64,
    last: Option<Key>,
    /// The last pack, if its changes are in this one too.
    merged: Option<Entry>,
    first: u64,
    changes: Vec<CheckedChange>,
    body: Vec<u8>,
    index: Vec<u8>,
}

/// Makes the pack that [`compact`] would store, so that nobody waits meanwhile who writes; [`put_packing`] stores it. `None` if there
/// is nothing to pack. Cost: 10 to 40 ms for a full pack.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn prepare_packing(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    keep: u64,
) -> Result<Option<Packing>, StoreError> {
    prepare_within(tx, document, keep, PACK_CHANGES_MIN, PACK_CHANGES_MAX)
}

fn prepare_within(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    keep: u64,
    changes_min: usize,
    changes_max: usize,
) -> Result<Option<Packing>, StoreError> {
    let Some(state) = state(tx, document)? else { return Ok(None) };
    let end = state.count.saturating_sub(keep);
    if end < state.packed.saturating_add(changes_min as u64) {
        return Ok(None);
    }
    let last = last_entry(tx, document, state.packed)?;
    let merged = match last {
        Some(entry) if is_small(tx, document, &entry, changes_max)? => Some(entry),
        _ => None,
    };
    let first = merged.as_ref().map_or(state.packed, |entry| entry.first);
    let mut changes = Vec::new();
    let mut bytes = 0;
    super::export(tx, document, first, &mut |chunk| {
        bytes += chunk.len();
        let full = changes.len() == changes_max || bytes > PACK_BYTES_MAX;
        if full || first + changes.len() as u64 == end {
            return ControlFlow::Break(());
        }
        match CheckedChange::parse(chunk) {
            Ok(change) => changes.push(change),
            Err(_) => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    })?;
    if first + changes.len() as u64 <= state.packed {
        return Ok(None);
    }
    let packed = match pack::pack(&changes) {
        Ok(packed) => packed,
        Err(error) => {
            // The changes stay as they are: nothing is lost but room.
            tracing::error!(document = %document.label(), %error, "failed to pack a run of changes");
            return Ok(None);
        }
    };
    let (body, index) = records(tx, document, first, &changes, &packed)?;
    let (document, last) = (*document, last.map(|entry| entry.digest));
    Ok(Some(Packing { document, packed: state.packed, last, merged, first, changes, body, index }))
}

/// Stores a pack and deletes the rows of what is in it. Returns how many changes were packed: none if the document is not what it was
/// when the pack was made, but for changes that it got since. Cost: 5 to 10 ms for a full pack.
///
/// # Errors
///
/// As [`compact`].
pub fn put_packing(tx: &mut dyn WriteTx, packing: &Packing) -> Result<u64, StoreError> {
    let Packing { document, packed, last, merged, first, changes, body, index } = packing;
    let Some(mut state) = state(tx, document)? else { return Ok(0) };
    let is_same = state.packed == *packed && last_entry(tx, document, *packed)?.map(|entry| entry.digest) == *last;
    let newly = usize::try_from(packed - first).ok().and_then(|place| changes.get(place..)).unwrap_or_default();
    if !is_same || !stand_at(tx, document, *packed, newly)? {
        return Ok(0);
    }
    let packed_to = packed + newly.len() as u64;
    let key = position_key(document, packed_to - 1);
    tx.put(Table::Pack, &key, body)?;
    tx.put(Table::PackIndex, &key, index)?;
    if let Some(entry) = merged {
        tx.delete(Table::Pack, &position_key(document, entry.last))?;
        tx.delete(Table::PackIndex, &position_key(document, entry.last))?;
    }
    let (start, end) = (position_key(document, *packed), position_key(document, packed_to));
    tx.delete_range(Table::Change, &start..&end)?;
    tx.delete_range(Table::Node, &start..&end)?;
    for change in newly {
        tx.delete(Table::Hash, &tail_key(document, &change.hash().0))?;
        actors::remove_unless_last(tx, document, change)?;
    }
    state.packed = packed_to;
    put_state(tx, document, &state)?;
    Ok(newly.len() as u64)
}

/// Says whether just these changes have the rows from a position on.
fn stand_at(
    tx: &dyn WriteTx,
    document: &DocumentId,
    position: u64,
    changes: &[CheckedChange],
) -> Result<bool, StoreError> {
    let (start, end) = (position_key(document, position), position_key(document, position + changes.len() as u64));
    let mut expected = changes.iter();
    let mut is_same = true;
    tx.scan(Table::Node, &start..&end, &mut |_, node| {
        is_same = expected.next().is_some_and(|change| node.starts_with(&change.hash().0));
        if is_same { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(is_same && expected.next().is_none())
}

/// Returns the pack that ends just below a position.
fn last_entry(tx: &(impl ReadTx + ?Sized), document: &DocumentId, packed: u64) -> Result<Option<Entry>, StoreError> {
    let Some(last) = packed.checked_sub(1) else { return Ok(None) };
    let mut found = None;
    entries(tx, document, last, &mut |entry, _| {
        found = Some(entry);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Says whether a pack has room for as much again: then it is packed anew together with what follows.
fn is_small(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    entry: &Entry,
    changes_max: usize,
) -> Result<bool, StoreError> {
    if entry.last + 1 - entry.first > changes_max as u64 / 2 {
        return Ok(false);
    }
    let opened = open(tx, document, entry)?;
    let bytes: usize = opened.unpacked.iter().map(|change| change.as_slice().len()).sum();
    Ok(bytes <= PACK_BYTES_MAX / 2)
}

/// Makes a pack's two records.
fn records(
    tx: &(impl ReadTx + ?Sized),
    document: &DocumentId,
    first: u64,
    changes: &[CheckedChange],
    packed: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let inside: BTreeSet<ChangeHash> = changes.iter().map(CheckedChange::hash).collect();
    let mut outside: BTreeSet<ChangeHash> = BTreeSet::new();
    // In one order: the same changes make the same bytes.
    let mut actors: BTreeMap<&ActorId, (u64, u64)> = BTreeMap::new();
    let mut floors: Vec<(u64, u64)> = Vec::new();
    for (place, change) in changes.iter().enumerate() {
        outside.extend(change.deps().iter().filter(|hash| !inside.contains(hash)));
        let end = change.max_op() + 1;
        let range = actors.entry(change.actor()).or_insert((change.start_op(), end));
        *range = (range.0.min(change.start_op()), range.1.max(end));
        let position = first + place as u64;
        let lag = position + 1 - super::node(tx, document, position)?.floor;
        match floors.last_mut() {
            Some((times, last)) if *last == lag => *times += 1,
            _ => floors.push((1, lag)),
        }
    }
    let mut body = Vec::with_capacity(packed.len() + 64);
    record::put_uint(&mut body, outside.len() as u64);
    for hash in outside {
        body.extend_from_slice(&hash.0);
        let position = super::position(tx, document, &hash)?.ok_or(StoreError::Damaged { what: "hash-1" })?;
        record::put_uint(&mut body, position);
    }
    let mut runs = Vec::new();
    for (times, lag) in floors {
        record::put_uint(&mut runs, times);
        record::put_uint(&mut runs, lag);
    }
    record::put_bytes(&mut body, &runs);
    body.extend_from_slice(packed);

    let mut index = Vec::new();
    record::put_uint(&mut index, changes.len() as u64);
    // The same changes may stand at other positions in another store: the positions belong to the digest.
    let digest = Sha256::new().chain_update(document.as_bytes()).chain_update(first.to_be_bytes()).chain_update(&body);
    index.extend_from_slice(&digest.finalize()[..16]);
    record::put_uint(&mut index, actors.len() as u64);
    for (actor, (start, end)) in actors {
        record::put_bytes(&mut index, actor.to_bytes());
        record::put_uint(&mut index, start);
        record::put_uint(&mut index, end);
    }
    record::put_bytes(&mut index, &Bloom::from_hashes(inside.iter()).to_bytes());
    Ok((body, index))
}

/// The packs that were opened last, of all stores of the process.
#[derive(Default)]
struct Cache {
    packs: HashMap<Key, (Arc<Opened>, u64)>,
    bytes: usize,
    clock: u64,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// About what an opened change takes besides its own bytes.
const OPENED_OVERHEAD_BYTES: usize = 160;

impl Opened {
    fn size(&self) -> usize {
        self.unpacked.iter().map(|change| change.as_slice().len() + OPENED_OVERHEAD_BYTES).sum()
    }
}

impl Cache {
    fn get(key: &Key) -> Option<Arc<Opened>> {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        cache.clock += 1;
        let clock = cache.clock;
        let (opened, used) = cache.packs.get_mut(key)?;
        *used = clock;
        Some(Arc::clone(opened))
    }

    fn put(key: Key, opened: &Arc<Opened>) {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        let size = opened.size();
        while cache.bytes + size > PACK_CACHE_BYTES {
            let Some(oldest) = cache.packs.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key) else {
                break;
            };
            if let Some((dropped, _)) = cache.packs.remove(&oldest) {
                cache.bytes -= dropped.size();
            }
        }
        cache.clock += 1;
        let clock = cache.clock;
        if cache.packs.insert(key, (Arc::clone(opened), clock)).is_none() {
            cache.bytes += size;
        }
    }
}
