//! Damages honest traffic at every depth and repairs what lies outside of the damage: the frame's lengths, the sync
//! message's, the chunk's length and checksum, the column table. So mutants get as far in as honest traffic does.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::ChangeHash;
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::SyncMessage;
use rejoin::gate::CheckedChange;
use rejoin::ledger;
use rejoin::store::{MemoryStore, Store};

use super::bytes::{chunk, compressed_change, read_unsigned, signed, unsigned};
use super::change::{RawChange, RawId, RawKey, RawOp};
use super::record::{DOCUMENT, Recorded};

/// What mutants are made of.
pub struct Mutator {
    recorded: Vec<Recorded>,
    /// Every change that was ever sent, taken apart.
    changes: Vec<RawChange>,
}

impl Mutator {
    /// Begins with a recording.
    pub fn new(recorded: Vec<Recorded>) -> Self {
        let mut changes = Vec::new();
        for one in &recorded {
            let Ok(Frame::Sync { data, .. }) = Frame::decode(&one.frame) else { continue };
            let message = SyncMessage::decode(&data).unwrap();
            changes.extend(
                message.changes.iter().map(|chunk| RawChange::from_checked(&CheckedChange::parse(chunk).unwrap())),
            );
        }
        Self { recorded, changes }
    }

    /// Chooses a recorded frame, mostly one with a sync message.
    pub fn pick(&self, random: &mut StdRng) -> &Recorded {
        loop {
            let one = &self.recorded[random.random_range(0..self.recorded.len())];
            if random.random_bool(0.05) || matches!(Frame::decode(&one.frame), Ok(Frame::Sync { .. })) {
                return one;
            }
        }
    }

    /// Returns a damaged frame for a receiver that has this store; it is for the same receiver as `recorded`.
    pub fn mutant(&self, recorded: &Recorded, store: &MemoryStore, random: &mut StdRng) -> Bytes {
        let depth = random.random_range(0..28);
        if depth < 2 {
            return self.damaged(&recorded.frame, random).into();
        }
        let Ok(frame) = Frame::decode(&recorded.frame) else { return recorded.frame.clone() };
        let data = match &frame {
            Frame::Sync { data, .. } | Frame::Request { data, .. } => data.clone(),
            _ => return self.damaged(&recorded.frame, random).into(),
        };
        let data = match depth {
            2 => self.damaged(&data, random),
            3 | 4 => self.damaged_message(&data, random),
            _ => {
                let Ok(message) = SyncMessage::decode(&data) else { return recorded.frame.clone() };
                self.with_damaged_change(message, depth, store, random)
            }
        };
        match frame {
            Frame::Sync { .. } => recorded.scene.about("sync", DOCUMENT, data),
            _ => recorded.scene.about("request", DOCUMENT, data),
        }
    }

    /// Returns a damaged sync message for a receiver that has this store.
    pub fn message(&self, data: &Bytes, store: &MemoryStore, random: &mut StdRng) -> Vec<u8> {
        match (random.random_range(0..10), SyncMessage::decode(data)) {
            (1..4, _) => self.damaged_message(data, random),
            (4.., Ok(message)) => {
                let depth = random.random_range(5..28);
                self.with_damaged_change(message, depth, store, random)
            }
            _ => self.damaged(data, random),
        }
    }

    /// Puts a damaged change in the place of one of a message, or into one that has none.
    fn with_damaged_change(
        &self,
        mut message: SyncMessage,
        depth: u32,
        store: &MemoryStore,
        random: &mut StdRng,
    ) -> Vec<u8> {
        let own = random.random_bool(0.5).then(|| message.changes.first()).flatten();
        let mutant = self.damaged_change(own, depth, store, random);
        match message.changes.len() {
            0 => message.changes.push(mutant.into()),
            count => message.changes[random.random_range(0..count)] = mutant.into(),
        }
        message.encode()
    }

    /// Damages the lists of a sync message.
    fn damaged_message(&self, data: &Bytes, random: &mut StdRng) -> Vec<u8> {
        let Ok(mut message) = SyncMessage::decode(data) else { return data.to_vec() };
        let stranger = ChangeHash(self.changes[random.random_range(0..self.changes.len())].hash());
        match random.random_range(0..7) {
            0 => message.heads.push(stranger),
            1 => message.need.push(stranger),
            2 => drop(message.heads.pop()),
            3 => message.have.clear(),
            4 => message.changes.reverse(),
            5 => {
                let copies: Vec<_> = message.changes.clone();
                message.changes.extend(copies);
            }
            _ => message.have.iter_mut().for_each(|have| have.last_sync.push(stranger)),
        }
        if random.random_bool(0.5) { message.encode() } else { self.damaged(&message.encode(), random) }
    }

    /// Returns a damaged change chunk for a receiver that has this store: of `own`, if it can be read, or of any change that
    /// was recorded. What lies outside of the damage is repaired.
    pub fn change(&self, own: &Bytes, store: &MemoryStore, random: &mut StdRng) -> Vec<u8> {
        let own = random.random_bool(0.8).then_some(own);
        self.damaged_change(own, random.random_range(5..28), store, random)
    }

    /// Damages one change of a message, or one of any other message, and repairs its chunk.
    fn damaged_change(&self, own: Option<&Bytes>, depth: u32, store: &MemoryStore, random: &mut StdRng) -> Vec<u8> {
        let parsed = own.and_then(|bytes| CheckedChange::parse(bytes).ok()).map(|c| RawChange::from_checked(&c));
        let mut change = parsed.unwrap_or_else(|| self.changes[random.random_range(0..self.changes.len())].clone());
        if random.random_bool(0.6) {
            adopt(&mut change, store, random);
        }
        match depth {
            5 => chunk(1, &self.damaged(&change.body(), random)),
            6 => compressed_change(&self.damaged(&change.body(), random)),
            7 => chunk(random.random_range(0..5), &change.body()),
            8..11 => {
                self.damage_column(&mut change, random);
                change.chunk()
            }
            _ => {
                for _ in 0..random.random_range(1..4) {
                    self.damage_rows(&mut change, random);
                }
                if random.random_bool(0.9) {
                    repair(&mut change);
                }
                change.chunk()
            }
        }
    }

    /// Damages the bytes of one column; the table of columns is made to fit.
    fn damage_column(&self, change: &mut RawChange, random: &mut StdRng) {
        let body = change.body();
        let Some(columns) = columns_of(&body, change) else { return };
        let (number, bytes) = columns[random.random_range(0..columns.len())].clone();
        change.columns.insert(number, self.damaged(&bytes, random));
    }

    /// Changes one thing of one operation, or of the header, in the ways that an encoder can express.
    fn damage_rows(&self, change: &mut RawChange, random: &mut StdRng) {
        let other = &self.changes[random.random_range(0..self.changes.len())];
        let count = change.ops.len();
        if count == 0 || random.random_bool(0.15) {
            return damage_header(change, other, random);
        }
        let actors = change.others.len() as u64 + 1;
        let foreign = random.random_range(0..other.ops.len().max(1));
        let foreign = other.ops.get(foreign).cloned().unwrap_or_else(|| RawOp::put("k", "v"));
        let id = (random.random_range(0..actors), random.random_range(1..change.start_op.saturating_add(3)));
        let at = random.random_range(0..count);
        let op = &mut change.ops[at];
        match random.random_range(0..17) {
            0 => op.object = if random.random_bool(0.3) { None } else { Some(id) },
            1 => op.key = RawKey::Map(["a", "b", "title", "", "count"][random.random_range(0..5)].to_owned()),
            2 => op.key = if random.random_bool(0.3) { RawKey::Head } else { RawKey::Element(id) },
            3 => op.preds.push(id),
            4 => op.preds = vec![id],
            5 => op.preds.clear(),
            6 => op.insert = !op.insert,
            7 => op.action = random.random_range(0..9),
            8 | 9 => damage_value(op, random),
            10 => op.expand = !op.expand,
            11 => op.mark = if op.mark.is_some() { None } else { Some("bold".to_owned()) },
            12 => drop(change.ops.remove(at)),
            13 => {
                let copy = change.ops[at].clone();
                change.ops.insert(random.random_range(0..=count), copy);
            }
            14 => change.ops.swap(at, random.random_range(0..count)),
            15 => change.ops[at] = remap(foreign, actors),
            _ => change.ops.insert(random.random_range(0..=count), remap(foreign, actors)),
        }
    }

    /// Damages bytes, with what was recorded to take pieces from.
    fn damaged(&self, bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
        damage(bytes, |random| &self.recorded[random.random_range(0..self.recorded.len())].frame[..], random)
    }
}

/// Damages bytes in one to four places; pieces of what `other` returns may stand in them afterwards.
pub fn damage<'o>(bytes: &[u8], other: impl Fn(&mut StdRng) -> &'o [u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.random_range(0..bytes.len());
        let end = random.random_range(at..=bytes.len()).min(at + 40);
        match random.random_range(0..8) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at + 1),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = other(random);
                if !other.is_empty() {
                    let from = random.random_range(0..other.len());
                    let to = random.random_range(from..other.len()).min(from + 60);
                    drop(bytes.splice(at..end, other[from..to].to_vec()));
                }
            }
            _ => {
                let number = extreme(random);
                drop(bytes.splice(at..=at, number));
            }
        }
    }
    bytes
}

/// Writes a number at the edge of something.
fn extreme(random: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    let bit = 1u64 << random.random_range(0..64);
    let value = match random.random_range(0..3) {
        0 => bit,
        1 => bit - 1,
        _ => bit.wrapping_add(1),
    };
    if random.random_bool(0.5) {
        unsigned(&mut out, value);
    } else {
        signed(&mut out, value.cast_signed().wrapping_neg());
    }
    out
}

/// Lets a change continue what the store has, under an actor of the attacker's or its own: then the graph's rules take it
/// and the rest decides.
fn adopt(change: &mut RawChange, store: &MemoryStore, random: &mut StdRng) {
    let tx = store.read().unwrap();
    let state = ledger::state(&*tx, &DOCUMENT).unwrap().unwrap_or_default();
    if random.random_bool(0.7) {
        let actor = vec![random.random_range(0xa0..0xa4u8); 16];
        // The former author becomes one of the others: its operations may be referred to.
        let former = std::mem::replace(&mut change.actor, actor);
        let index = |id: &mut RawId, others: u64| *id = (if id.0 == 0 { others } else { id.0 }, id.1);
        change.others.push(former);
        let last = change.others.len() as u64;
        let own = change.start_op;
        let shift = (state.max_op + 1).wrapping_sub(own);
        for op in &mut change.ops {
            let ids = op.object.iter_mut().chain(op.preds.iter_mut());
            let element = match &mut op.key {
                RawKey::Element(id) => Some(id),
                _ => None,
            };
            for id in ids.chain(element) {
                if id.0 == 0 && id.1 >= own {
                    id.1 = id.1.wrapping_add(shift);
                } else {
                    index(id, last);
                }
            }
        }
    }
    let actor = rejoin::ActorId::from(&change.actor[..]);
    change.seq = ledger::last_seq(&*tx, &DOCUMENT, &actor).unwrap() + 1;
    change.deps = state.head_hashes().iter().map(|hash| hash.0).collect();
    change.start_op = state.max_op + 1;
    change.extra.clear();
    repair(change);
}

/// Sorts what must be sorted and drops actors that nobody refers to.
fn repair(change: &mut RawChange) {
    change.deps.sort_unstable();
    change.deps.dedup();
    let mut used: Vec<Vec<u8>> = Vec::new();
    let name = |change: &RawChange, index: u64| {
        let index = usize::try_from(index).ok()?;
        if index == 0 { Some(change.actor.clone()) } else { change.others.get(index - 1).cloned() }
    };
    let before = change.clone();
    let ids = |op: &RawOp| {
        let element = if let RawKey::Element(id) = op.key { Some(id) } else { None };
        op.object.into_iter().chain(element).chain(op.preds.clone()).collect::<Vec<_>>()
    };
    for id in before.ops.iter().flat_map(ids) {
        used.extend(name(&before, id.0).filter(|actor| *actor != before.actor));
    }
    used.sort_unstable();
    used.dedup();
    let index = |id: RawId| {
        let actor = name(&before, id.0);
        let found = actor.and_then(|actor| used.iter().position(|other| *other == actor));
        (found.map_or(0, |at| at as u64 + 1), id.1)
    };
    for op in &mut change.ops {
        op.object = op.object.map(index);
        if let RawKey::Element(id) = &mut op.key {
            *id = index(*id);
        }
        let mut preds: Vec<RawId> = op.preds.iter().map(|id| index(*id)).collect();
        let actor = |id: &RawId| if id.0 == 0 { &before.actor } else { &used[usize::try_from(id.0).unwrap() - 1] };
        preds.sort_by(|left, right| (left.1, actor(left)).cmp(&(right.1, actor(right))));
        preds.dedup();
        op.preds = preds;
    }
    change.others = used;
}

fn damage_header(change: &mut RawChange, other: &RawChange, random: &mut StdRng) {
    match random.random_range(0..9) {
        0 => change.start_op = change.start_op.wrapping_add(random.random_range(0..4)).wrapping_sub(1),
        1 => change.start_op += 1 << random.random_range(0..33),
        2 => change.seq = change.seq.wrapping_add(random.random_range(0..4)).wrapping_sub(1),
        3 => change.actor.clone_from(&other.actor),
        4 => change.time = 1i64.wrapping_shl(random.random_range(0..64)),
        5 => change.message = other.message.clone(),
        6 => change.deps.extend(&other.deps),
        7 => drop(change.deps.pop()),
        _ => change.extra = vec![random.random_range(0..4), 2, 3, 4],
    }
}

fn damage_value(op: &mut RawOp, random: &mut StdRng) {
    op.value_type = random.random_range(0..16);
    op.value.clear();
    match op.value_type {
        3 => unsigned(&mut op.value, random.random()),
        4 | 8 | 9 => signed(&mut op.value, random.random()),
        5 => op.value.extend(random.random::<u64>().to_le_bytes()),
        6 => op.value.extend("ẞ".repeat(random.random_range(0..9)).bytes()),
        7 | 10.. => op.value.extend(random.random::<u64>().to_le_bytes()),
        _ => {}
    }
}

/// Makes an operation of another change refer to actors that there are.
fn remap(mut op: RawOp, actors: u64) -> RawOp {
    let fit = |id: &mut RawId| id.0 %= actors;
    op.object.iter_mut().for_each(fit);
    op.preds.iter_mut().for_each(fit);
    if let RawKey::Element(id) = &mut op.key {
        fit(id);
    }
    op
}

/// Reads the columns of a body that was encoded from a change without an extra section's help.
fn columns_of(body: &[u8], change: &RawChange) -> Option<Vec<(u64, Vec<u8>)>> {
    // The same header without any row ends where the table of columns begins.
    let mut bare = RawChange { ops: Vec::new(), columns: Default::default(), extra: Vec::new(), ..change.clone() };
    let rows = bare.body();
    bare.columns.clear();
    // An empty change still has no column: its table is the single zero at the end.
    let mut rest = body.get(rows.len() - 1..)?;
    let (count, tail) = read_unsigned(rest)?;
    rest = tail;
    let mut table = Vec::new();
    for _ in 0..count {
        let (number, tail) = read_unsigned(rest)?;
        let (length, tail) = read_unsigned(tail)?;
        table.push((number, usize::try_from(length).ok()?));
        rest = tail;
    }
    let mut columns = Vec::new();
    for (number, length) in table {
        columns.push((number, rest.get(..length)?.to_vec()));
        rest = &rest[length..];
    }
    (!columns.is_empty()).then_some(columns)
}
