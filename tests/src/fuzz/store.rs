//! Stores that were damaged on their disk: opened, checked, read, migrated, repaired and written.
//!
//! An input is a list of damages to one of a few honest stores, which the head names. Bytes of the file are damaged as a bad
//! disk does; rows are damaged through redb, whose checksums are right then, so that what we read of them is tried.
//!
//! redb trusts a file that was closed in good order and panics in many places on one that was altered. The store catches that
//! and says that it is damaged; what must not be is a panic of ours, an endless loop, or memory as a damaged number says.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use redb::StorageBackend;
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author, Edit};
use rejoin::fold;
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, branches, log, outbox, rejected, snapshot, spaces, tombstone};
use rejoin::store::{MemoryStore, ReadTx, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table, WriteTx};
use rejoin::{ActorId, DocumentId, SpaceId};

use super::gate::honest_next;
use super::script::Script;
use super::{Seen, Target, size_class, v1};
use crate::hostile::mutate::damage;
use crate::hostile::record::DOCUMENT;
use crate::hostile::session::export;

/// How far a disk grows: a damaged length must not make it larger.
const DISK_BYTES_MAX: u64 = 32 << 20;

/// A document with packs.
const PACKED: DocumentId = DocumentId::from_bytes([0x9a; 16]);

/// How many documents of a damaged store are looked into.
const DOCUMENTS_READ: usize = 6;

/// What damages are: bytes of the file, or rows.
mod kind {
    /// Offset, then the bytes that stand there afterwards.
    pub(super) const BYTES: u8 = 0;
    /// Offset: the page there is zeros.
    pub(super) const ZEROS: u8 = 1;
    /// Offset: the file ends there.
    pub(super) const CUT: u8 = 2;
    /// Table, length of the key, key, value: the row is put.
    pub(super) const PUT: u8 = 3;
    /// Table, length of the key, key: the row is taken away.
    pub(super) const DELETE: u8 = 4;
}

/// The largest page that a page number of redb can speak of.
const PAGE_BYTES_MAX: usize = 4 << 30;

/// A disk in memory with a bound.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>);

impl Disk {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.bytes();
        let found = start.checked_add(out.len()).and_then(|end| bytes.get(start..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > DISK_BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let mut bytes = self.bytes();
        let room = start.checked_add(data.len()).and_then(|end| bytes.get_mut(start..end));
        // redb sets the length before it writes.
        room.ok_or(io::ErrorKind::StorageFull)?.copy_from_slice(data);
        Ok(())
    }
}

/// An honest store.
struct Image {
    bytes: Vec<u8>,
    /// Its rows, to be damaged.
    rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

/// Opens damaged stores.
pub struct Images {
    images: Vec<Image>,
}

impl Images {
    /// Makes it with stores of several kinds: a client's, one that was not closed, a relay's, and one with packs and a
    /// snapshot.
    pub fn new() -> Self {
        let client = v1::hosts::client_store(2);
        client.write_with(|tx| note_more(tx)).unwrap();
        let relay = v1::hosts::relay_store();
        let images = vec![image(&client, true), image(&client, false), image(&relay, true), image(&packed(), true)];
        Self { images }
    }

    fn image(&self, script: &Script) -> &Image {
        &self.images[usize::from(script.flag(0)) % self.images.len()]
    }
}

impl Default for Images {
    fn default() -> Self {
        Self::new()
    }
}

/// Notes what else a client keeps: a refused change, a tombstone that waits.
fn note_more(tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    let waiting = DocumentId::from_bytes([0x33; 16]);
    let tombstone = rejoin::deletion::Tombstone {
        kind: rejoin::deletion::DeletionKind::Purged,
        time_seconds: 9,
        by: "me".to_owned(),
    };
    tombstone::bury(tx, &waiting, &tombstone)?;
    tombstone::wait(tx, &waiting)?;
    rejoin::ledger::shared::put(tx, &DOCUMENT, &v1::hosts::RELAY, &ledger::heads(tx, &DOCUMENT)?)
}

/// A document of so many writes that most are packed, with a snapshot beside them.
fn packed() -> MemoryStore {
    let store = MemoryStore::new();
    let actor = ActorId::from(&[0x61; 16][..]);
    store
        .write_with(|tx| {
            ledger::create(tx, &PACKED)?;
            for number in 0..60i64 {
                let author = Author { actor: &actor, time_seconds: number, message: None };
                let edit = Edit::set(["a", "b", "c"][usize::try_from(number % 3).unwrap()], number);
                fields::write(tx, &PACKED, &author, &[edit])?.unwrap();
            }
            ledger::compact_within(tx, &PACKED, 8, 8, 20)
        })
        .unwrap();
    let chunks = export(&store, PACKED);
    let folded = fold::fold(chunks.iter().map(|chunk| &chunk[..])).unwrap();
    store.write_with(|tx| snapshot::put(tx, &PACKED, folded.count, &folded.heads, &folded.chunk)).unwrap();
    store
}

/// Writes all rows of a store to a disk, and takes its bytes before or after it is closed.
fn image(from: &MemoryStore, is_closed: bool) -> Image {
    let disk = Disk::default();
    let store = RedbStore::open_backend(disk.clone(), options()).unwrap();
    let rows = rows(from);
    store.write_with(|tx| rows.iter().try_for_each(|(table, key, value)| tx.put(*table, key, value))).unwrap();
    if is_closed {
        drop(store);
        return Image { bytes: disk.bytes().clone(), rows };
    }
    let bytes = disk.bytes().clone();
    Image { bytes, rows }
}

fn rows(store: &MemoryStore) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let tx = store.read().unwrap();
    let mut rows = Vec::new();
    for table in Table::ALL {
        let mut keep = |key: &[u8], value: &[u8]| {
            rows.push((table, key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        tx.scan(table, &[]..&[0xff; 64], &mut keep).unwrap();
    }
    rows
}

fn options() -> RedbOptions {
    RedbOptions::new().cache_bytes(4 << 20)
}

fn table_number(table: Table) -> u8 {
    u8::try_from(Table::ALL.iter().position(|one| *one == table).unwrap()).unwrap()
}

impl Target for Images {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for (number, image) in (0..).zip(&self.images) {
            seeds.push(Script::new(&[number], []).write());
            // Each row once, with another end.
            for (table, key, value) in image.rows.iter().step_by(7) {
                let value = &value[..value.len() * 3 / 4];
                seeds.push(Script::new(&[number], [put(*table, key, value)]).write());
            }
        }
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let (mut script, other) = (Script::read(input), Script::read(other));
        let image = self.image(&script);
        if script.items.is_empty() || random.random_bool(0.4) {
            script.items.truncate(3);
            script.items.push(another_damage(image, random));
        } else {
            script.mutate(&other, random, |item, random| match item.split_at_checked(1) {
                Some((kind, rest)) if random.random_bool(0.7) => [kind, &damage(rest, |_| &[0xff; 8], random)].concat(),
                _ => another_damage(image, random),
            });
            script.items.truncate(6);
        }
        script.write()
    }

    /// The disk itself, redb's cache, and a store of a megabyte checked in memory. What a damaged number of ours claims is not.
    /// redb believes numbers of its own pages: a bitmap with a damaged length made it take 450 MiB while it was closed, and it
    /// makes room for a page of the size that its number says, up to `PAGE_BYTES_MAX`, before it looks how long the file is.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        let is_of_rows = |item: &Vec<u8>| matches!(item.first(), Some(&kind::PUT | &kind::DELETE) | None);
        let base = if Script::read(input).items.iter().all(is_of_rows) { 96 << 20 } else { PAGE_BYTES_MAX + (1 << 30) };
        base + 16 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let script = Script::read(input);
        let disk = Disk(Arc::new(Mutex::new(self.image(&script).bytes.clone())));
        if let Err(error) = damage_rows(&disk, &script) {
            return Seen::refused("rows cannot be written").with(&class(&error));
        }
        damage_bytes(&mut disk.bytes(), &script);
        match use_store(&disk) {
            Ok((answers, is_sound)) => {
                let class = if is_sound { "sound" } else { "found damaged" };
                Seen { is_taken: is_sound, ..Seen::taken(class, &answers) }
            }
            Err((stage, error)) => Seen::refused(&format!("{stage}: {}", class(&error))),
        }
    }

    fn is_contained(&self, panic: &str) -> bool {
        panic.contains("/redb-")
    }
}

/// Tells errors apart, in a word.
fn class(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { what } => format!("damaged: {what}"),
        StoreError::Engine(_) => "engine".to_owned(),
        error => error.to_string().split([':', '(']).next().unwrap_or_default().to_owned(),
    }
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(key.len().min(255)).unwrap();
    [&[kind::PUT, table_number(table), length][..], &key[..usize::from(length)], value].concat()
}

/// Makes up a damage to a store.
fn another_damage(image: &Image, random: &mut StdRng) -> Vec<u8> {
    let offset = |random: &mut StdRng| {
        // Most of a small store is empty; what is at its beginning, and pages with anything in them, matter.
        let at = match random.random_range(0..3) {
            0 => random.random_range(0..512),
            1 => random.random_range(0..image.bytes.len()),
            _ => {
                let mut at = random.random_range(0..image.bytes.len());
                for _ in 0..64 {
                    if image.bytes[at] != 0 {
                        break;
                    }
                    at = random.random_range(0..image.bytes.len());
                }
                at
            }
        };
        u32::try_from(at).unwrap().to_le_bytes()
    };
    let (table, key, value) = &image.rows[random.random_range(0..image.rows.len())];
    let other = &image.rows[random.random_range(0..image.rows.len())];
    match random.random_range(0..14) {
        0 => [&[kind::ZEROS][..], &offset(random)].concat(),
        1 => [&[kind::CUT][..], &offset(random)].concat(),
        2..5 => {
            let start = offset(random);
            let bytes: Vec<u8> = (0..random.random_range(1..9)).map(|_| random.random()).collect();
            [&[kind::BYTES][..], &start, &bytes].concat()
        }
        5 => {
            let length = u8::try_from(key.len().min(255)).unwrap();
            [&[kind::DELETE, table_number(*table), length][..], &key[..usize::from(length)]].concat()
        }
        6 => put(other.0, key, value),
        7 => put(*table, key, &other.2),
        8 => put(*table, &damage(key, |_| &other.1, random), value),
        _ => put(*table, key, &damage(value, |_| &other.2, random)),
    }
}

fn offset_of(item: &[u8]) -> Option<(usize, &[u8])> {
    let (offset, rest) = item.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*offset)).ok()?, rest))
}

/// Damages rows, through a store that is closed in good order afterwards.
fn damage_rows(disk: &Disk, script: &Script) -> Result<(), StoreError> {
    let of_rows = |item: &&Vec<u8>| matches!(item.first(), Some(&kind::PUT | &kind::DELETE));
    if script.items.iter().filter(of_rows).count() == 0 {
        return Ok(());
    }
    let store = RedbStore::open_backend(disk.clone(), options())?;
    store.write_with(|tx| {
        for item in script.items.iter().filter(of_rows) {
            let (Some(&table), Some(&length)) = (item.get(1), item.get(2)) else { continue };
            let Some(table) = Table::ALL.get(usize::from(table)).copied() else { continue };
            let rest = item.get(3..).unwrap_or_default();
            let (key, value) = rest.split_at(usize::from(length).min(rest.len()));
            match item[0] {
                _ if key.is_empty() => {}
                kind::PUT => tx.put(table, key, value)?,
                _ => tx.delete(table, key)?,
            }
        }
        Ok(())
    })
}

fn damage_bytes(bytes: &mut Vec<u8>, script: &Script) {
    for item in &script.items {
        let Some((&kind, rest)) = item.split_first() else { continue };
        let Some((at, tail)) = offset_of(rest) else { continue };
        let at = at.min(bytes.len());
        match kind {
            kind::BYTES => bytes.iter_mut().skip(at).zip(tail).for_each(|(byte, other)| *byte = *other),
            kind::ZEROS => {
                let page = at / 4_096 * 4_096;
                bytes.iter_mut().skip(page).take(4_096).for_each(|byte| *byte = 0);
            }
            kind::CUT => bytes.truncate(at),
            _ => {}
        }
    }
}

/// Says at which stage a store said no.
type Failed = (&'static str, StoreError);

/// Does with a store whatever is done with one. Returns what each part answered, in a word, and whether it is sound.
fn use_store(disk: &Disk) -> Result<(Vec<String>, bool), Failed> {
    let store = RedbStore::open_backend(disk.clone(), options()).map_err(|error| ("open", error))?;
    rejoin::migrate::migrate(&store).map_err(|error| ("migrate", error))?;
    let mut answers = Vec::new();
    let mut say = |part: &str, outcome: Result<String, StoreError>| {
        answers.push(format!("{part} {}", outcome.unwrap_or_else(|error| class(&error))));
    };
    let report = care::verify(&store, &VerifyOptions::new(Registers::Kept), &mut |_| ());
    let is_sound = report.as_ref().is_ok_and(care::Report::is_sound);
    say("verify", report.map(|report| format!("{}", size_class(report.to_json().to_string().len()))));
    say("stats", care::stats(&store).map(|_| String::new()));
    {
        let tx = store.read().map_err(|error| ("read", error))?;
        let tx = &*tx;
        let documents = ledger::documents(tx);
        let some: Vec<_> = documents.as_ref().map_or(&[][..], |all| all).iter().take(DOCUMENTS_READ).copied().collect();
        say("documents", documents.map(|all| size_class(all.len()).to_string()));
        for document in some {
            say("read", read_document(tx, &document));
        }
        for space in [SpaceId::DEFAULT, v1::hosts::TEAM] {
            let mut count = 0;
            let mut visit = |_: log::Entry<'_>| {
                count += 1;
                ControlFlow::Continue(())
            };
            say("log", log::read(tx, &space, 0, 1 << 20, &mut visit).map(|_| String::new()));
            let mut visit = |_| ControlFlow::Continue(());
            say("members", spaces::documents(tx, &space, None, &mut visit).map(|()| size_class(count).to_string()));
        }
        say("outbox", outbox::count(tx).map(|count| count.to_string()));
        say("rejected", rejected::list(tx, None).map(|list| list.len().to_string()));
        say("tombstones", tombstone::untold(tx, None).map(|list| list.len().to_string()));
    }
    for document in [DOCUMENT, PACKED] {
        say("write", write(&store, document));
        let repaired = care::repair(&store, document, Registers::Kept);
        say(
            "repair",
            Ok(repaired.map_or_else(|error| error.to_string().chars().take(30).collect(), |_| String::new())),
        );
        say("write again", write(&store, document));
    }
    Ok((answers, is_sound))
}

/// Reads everything that a store has of a document.
fn read_document(tx: &dyn ReadTx, document: &DocumentId) -> Result<String, StoreError> {
    let mut answers = Vec::new();
    let mut bytes = 0;
    ledger::export(tx, document, 0, &mut |chunk| {
        bytes += chunk.len();
        ControlFlow::Continue(())
    })?;
    answers.push(size_class(bytes));
    answers.push(size_class(ledger::hashes(tx, document)?.len()));
    answers.push(u32::from(fields::to_json(tx, document)?.is_ok()));
    answers.push(size_class(outbox::pending(tx, document)?.len()));
    answers.push(size_class(branches::list(tx, document)?.len()));
    if let Some(info) = snapshot::info(tx, document)? {
        answers.push(size_class(info.heads.len()));
        answers.push(snapshot::chunk(tx, document)?.map_or(0, |chunk| size_class(chunk.len())));
    }
    Ok(format!("{answers:?}"))
}

/// Writes a field, and takes in a change from elsewhere.
fn write(store: &RedbStore, document: DocumentId) -> Result<String, StoreError> {
    let actor = ActorId::from(&[0x99; 16][..]);
    let author = Author { actor: &actor, time_seconds: 1, message: None };
    let edit = Edit::set("written", 1i64);
    let written = store.write_with(|tx| fields::write(tx, &document, &author, std::slice::from_ref(&edit)))?;
    let change = CheckedChange::parse(&honest_next()).unwrap();
    let accepted = store.write_with(|tx| engine::accept(tx, document, vec![change.clone()], Origin::Remote))?;
    Ok(format!("{} {}", written.is_ok(), accepted.stored))
}
