//! One space: into a file, out of one, and gone for good.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;

use rejoin::care::archive::{ArchiveError, ArchiveHeader, ArchiveReader, ArchiveWriter, Purpose};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::gate::CheckedChange;
use rejoin::ledger::spaces::Placed;
use rejoin::ledger::{self, Appended, Appender, log, spaces, tombstone};
use rejoin::limits::ARCHIVE_SPACE_FRAME_BYTES_MAX;
use rejoin::store::{ReadTx, Store, StoreError, StoreExt, Table, WriteTx, storage_id};
use rejoin::{DocumentId, SpaceId};
use serde::{Deserialize, Serialize};

use super::random;
use crate::clock::now_seconds;
use crate::limits::{
    DELETE_CHANGES, DELETE_DOCUMENTS, DELETE_PASSES, IMPORT_BYTES, IMPORT_CHANGES, IMPORT_REFUSALS_MAX,
};

/// The first row of a space's file: which space it was.
const SPACE: &str = "space";
/// A document without changes.
const DOCUMENT: &str = "document";
/// A change: document and position, u64, big-endian; the change.
const CHANGE: &str = "change";
/// A document that was deleted everywhere.
const TOMBSTONE: &str = "tombstone";

/// How far work on a space has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceProgress {
    /// Documents that are done.
    pub documents: u64,
    /// Changes that are done.
    pub changes: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Is told how far it is, and may give it up.
type Tell<'t> = dyn FnMut(SpaceProgress) -> ControlFlow<()> + 't;

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// How many documents, changes and bytes of changes.
    pub done: SpaceProgress,
    /// How many of the space's documents that were deleted everywhere.
    pub tombstones: u64,
    /// How many bytes were written.
    pub stored_bytes: u64,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The space it was imported into.
    pub space: SpaceId,
    /// How many documents, changes and bytes of changes were in the file.
    pub done: SpaceProgress,
    /// How many changes are stored that were not there.
    pub stored: u64,
    /// How many were there already.
    pub duplicates: u64,
    /// How many deletions came to be known.
    pub tombstones: u64,
    /// How many changes, documents and deletions were refused.
    pub refused: u64,
    /// The documents they were of, once or more: the first [`IMPORT_REFUSALS_MAX`].
    pub refusals: Vec<RefusedDocument>,
    /// The end of the space's log, for those who follow it.
    pub end: u64,
}

/// A document of which something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDocument {
    /// Which.
    pub document: DocumentId,
    /// Why.
    pub why: WhyRefused,
}

/// Why something was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyRefused {
    /// The document is in another space here.
    Elsewhere,
    /// The document was deleted everywhere.
    Deleted,
    /// The file says that it was deleted, and it is here.
    Here,
    /// A change breaks a rule.
    Rule(String),
    /// A change depends on one that is not there.
    Missing,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many documents.
    pub documents: u64,
    /// Whether no byte of them is left in the store's file; if not, they go when it is opened the next time.
    pub scrubbed: bool,
    /// The end of the space's log, for those who follow it.
    pub end: u64,
}

/// Why work on a space ended early. The text completes "failed to export the space: " or the like.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written.
    #[error("the file cannot be written: {0}")]
    Write(io::Error),
    /// The file is not what was written. What was imported from it before stays.
    #[error("the file cannot be read: {0}")]
    Archive(#[from] ArchiveError),
    /// A row is none of an exported space.
    #[error("the file cannot be read: it is no exported space")]
    Foreign,
    /// The caller gave it up. What was done stays.
    #[error("it was given up")]
    Cancelled,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// Writes all documents of a space, with every change, and which were deleted: of one moment. Who may do what is not in it, nor who
/// owns which actor.
///
/// Cost: reads the space once; in the default space also visits every document of the store.
///
/// # Errors
///
/// [`SpaceError`].
pub fn export_space(
    store: &dyn Store,
    space: &SpaceId,
    out: &mut dyn Write,
    progress: &mut Tell<'_>,
) -> Result<Exported, SpaceError> {
    let id = random().map_err(SpaceError::Entropy)?;
    let header = ArchiveHeader { purpose: Purpose::Space, id, part: 0 };
    let view = store.read()?;
    let tx = view.as_ref();
    let mut writer = ArchiveWriter::begin(out, &header).map_err(SpaceError::Write)?;
    writer.put(SPACE, space.as_bytes(), &[]).map_err(SpaceError::Write)?;
    let mut done = SpaceProgress::default();
    for is_empty in [true, false] {
        each_document(tx, space, &mut |document| {
            let count = ledger::state(tx, &document)?.map(|state| state.count);
            match count {
                Some(0) if is_empty => {
                    writer.put(DOCUMENT, document.as_bytes(), &[]).map_err(SpaceError::Write)?;
                    done.documents += 1;
                }
                Some(1..) if !is_empty => {
                    export_document(tx, &document, &mut writer, &mut done, progress)?;
                    done.documents += 1;
                }
                // It is noted here, and nothing of it has come yet.
                _ => {}
            }
            Ok(())
        })?;
    }
    let tombstones = export_tombstones(tx, space, &mut writer)?;
    let (_, counts) = writer.finish().map_err(SpaceError::Write)?;
    Ok(Exported { done, tombstones, stored_bytes: counts.stored })
}

/// Visits the documents of a space.
fn each_document(
    tx: &dyn ReadTx,
    space: &SpaceId,
    visit: &mut dyn FnMut(DocumentId) -> Result<(), SpaceError>,
) -> Result<(), SpaceError> {
    let mut outcome = Ok(());
    spaces::documents(tx, space, None, &mut |document| {
        outcome = visit(document);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

fn export_document<W: Write>(
    tx: &dyn ReadTx,
    document: &DocumentId,
    writer: &mut ArchiveWriter<W>,
    done: &mut SpaceProgress,
    progress: &mut Tell<'_>,
) -> Result<(), SpaceError> {
    let mut position = 0_u64;
    let mut outcome = Ok(());
    ledger::export(tx, document, 0, &mut |bytes| {
        let key = [&document.as_bytes()[..], &position.to_be_bytes()].concat();
        position += 1;
        done.changes += 1;
        done.bytes += bytes.len() as u64;
        outcome = match writer.put(CHANGE, &key, bytes) {
            Ok(true) if progress(*done).is_break() => Err(SpaceError::Cancelled),
            Ok(_) => Ok(()),
            Err(error) => Err(SpaceError::Write(error)),
        };
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

/// How a tombstone stands in a space's file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TombstoneRow {
    purged: bool,
    seconds: u64,
    by: String,
}

fn export_tombstones<W: Write>(
    tx: &dyn ReadTx,
    space: &SpaceId,
    writer: &mut ArchiveWriter<W>,
) -> Result<u64, SpaceError> {
    let mut outcome = Ok(0);
    tx.scan(Table::Tombstone, &[]..&[u8::MAX; 40], &mut |key, _| {
        // Behind a tombstone stand the relays that have it.
        let Ok(document) = key.try_into().map(DocumentId::from_bytes) else { return ControlFlow::Continue(()) };
        match (export_tombstone(tx, space, &document, writer), &mut outcome) {
            (Ok(count), Ok(sum)) => *sum += count,
            (Err(error), _) => outcome = Err(error),
            _ => {}
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

fn export_tombstone<W: Write>(
    tx: &dyn ReadTx,
    space: &SpaceId,
    document: &DocumentId,
    writer: &mut ArchiveWriter<W>,
) -> Result<u64, SpaceError> {
    if spaces::of(tx, document)? != *space {
        return Ok(0);
    }
    let Some(Tombstone { kind, time_seconds, by }) = tombstone::get(tx, document)? else { return Ok(0) };
    let row = TombstoneRow { purged: kind == DeletionKind::Purged, seconds: time_seconds, by };
    // A flag, a number and a text: nothing in it can fail.
    let value = serde_json::to_vec(&row).unwrap_or_default();
    writer.put(TOMBSTONE, document.as_bytes(), &value).map_err(SpaceError::Write)?;
    Ok(1)
}

/// Takes the documents of an exported space into this store: into the space it was, or another one.
///
/// The file may be anybody's: every change passes the gate and the ledger, memory is bounded by two frames of
/// [`ARCHIVE_SPACE_FRAME_BYTES_MAX`] and a batch, and what is refused is reported. A document that is in another space here is left as it
/// is; one that is in this space gets what it lacks. Nothing is deleted: a deletion is taken only of a document of which nothing is here.
/// Nobody comes to own the imported actors.
///
/// On a relay that runs, tell those who follow the space how far its log is now ([`Imported::end`]).
///
/// # Errors
///
/// [`SpaceError`]; what was imported before stays, and importing again goes on behind it.
pub fn import_space(
    store: &dyn Store,
    reader: &mut dyn Read,
    target: Option<SpaceId>,
    progress: &mut Tell<'_>,
) -> Result<Imported, SpaceError> {
    let (mut reader, header) = ArchiveReader::open(reader, ARCHIVE_SPACE_FRAME_BYTES_MAX)?;
    if header.purpose != Purpose::Space {
        return Err(SpaceError::Foreign);
    }
    let mut importing =
        Importing { store, space: target, batch: Vec::new(), bytes: 0, last: None, told: Imported::none() };
    let mut is_first = true;
    while let Some(frame) = reader.frame()? {
        let kind = Kind::of(frame.kind()?).ok_or(SpaceError::Foreign)?;
        if is_first != (kind == Kind::Space) {
            return Err(SpaceError::Foreign);
        }
        is_first = false;
        frame.rows(|key, value| importing.row(kind, key, value))?;
        if progress(importing.told.done).is_break() {
            importing.flush()?;
            return Err(SpaceError::Cancelled);
        }
    }
    if is_first {
        return Err(SpaceError::Foreign);
    }
    importing.finish()
}

/// What a row of a space's file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Document,
    Change,
    Tombstone,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        match name {
            SPACE => Some(Self::Space),
            DOCUMENT => Some(Self::Document),
            CHANGE => Some(Self::Change),
            TOMBSTONE => Some(Self::Tombstone),
            _ => None,
        }
    }
}

/// A row that waits for its transaction.
enum Waiting {
    Document,
    Change(Box<CheckedChange>),
    Tombstone(Tombstone),
}

struct Importing<'i> {
    store: &'i dyn Store,
    /// Where to, once it is known.
    space: Option<SpaceId>,
    batch: Vec<(DocumentId, Waiting)>,
    bytes: usize,
    last: Option<DocumentId>,
    told: Imported,
}

impl Importing<'_> {
    fn row(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), SpaceError> {
        let id = *key.first_chunk::<16>().ok_or(SpaceError::Foreign)?;
        let length = if kind == Kind::Change { 24 } else { 16 };
        if key.len() != length {
            return Err(SpaceError::Foreign);
        }
        let document = DocumentId::from_bytes(id);
        let waiting = match kind {
            Kind::Space => {
                self.space.get_or_insert(SpaceId::from_bytes(id));
                return Ok(());
            }
            Kind::Document => Waiting::Document,
            Kind::Tombstone => {
                let row: TombstoneRow = serde_json::from_slice(value).map_err(|_| SpaceError::Foreign)?;
                let kind = if row.purged { DeletionKind::Purged } else { DeletionKind::Deleted };
                Waiting::Tombstone(Tombstone { kind, time_seconds: row.seconds, by: row.by })
            }
            Kind::Change => {
                self.told.done.changes += 1;
                self.told.done.bytes += value.len() as u64;
                match CheckedChange::parse(value) {
                    Ok(change) => Waiting::Change(Box::new(change)),
                    Err(error) => {
                        self.told.refuse(document, WhyRefused::Rule(error.to_string()));
                        return Ok(());
                    }
                }
            }
        };
        if kind != Kind::Tombstone && self.last.replace(document) != Some(document) {
            self.told.done.documents += 1;
        }
        // A change that came deflated takes what it inflates to.
        self.bytes += if let Waiting::Change(change) = &waiting { change.bytes().len() } else { value.len() };
        self.batch.push((document, waiting));
        if self.batch.len() >= IMPORT_CHANGES || self.bytes >= IMPORT_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SpaceError> {
        let (batch, space) = (std::mem::take(&mut self.batch), self.space.ok_or(SpaceError::Foreign)?);
        self.bytes = 0;
        if !batch.is_empty() {
            let mut told = self.told.clone();
            self.store.write_with(|tx| store_batch(tx, &space, batch, &mut told))?;
            self.told = told;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Imported, SpaceError> {
        self.flush()?;
        let space = self.space.ok_or(SpaceError::Foreign)?;
        self.told.space = space;
        self.told.end = log::end(&*self.store.read()?, &space)?;
        Ok(self.told)
    }
}

impl Imported {
    fn none() -> Self {
        Self {
            space: SpaceId::DEFAULT,
            done: SpaceProgress::default(),
            stored: 0,
            duplicates: 0,
            tombstones: 0,
            refused: 0,
            refusals: Vec::new(),
            end: 0,
        }
    }

    fn refuse(&mut self, document: DocumentId, why: WhyRefused) {
        self.refused += 1;
        let is_told = self.refusals.last().is_some_and(|last| last.document == document);
        if !is_told && self.refusals.len() < IMPORT_REFUSALS_MAX {
            self.refusals.push(RefusedDocument { document, why });
        }
    }
}

/// A document while a batch is stored.
enum Open {
    Refused(WhyRefused),
    Here {
        appender: Box<Appender>,
        /// It was put into the space just now.
        is_placed: bool,
        /// It has to be there in the end.
        is_wanted: bool,
    },
}

fn store_batch(
    tx: &mut dyn WriteTx,
    space: &SpaceId,
    batch: Vec<(DocumentId, Waiting)>,
    told: &mut Imported,
) -> Result<(), StoreError> {
    let mut open: BTreeMap<DocumentId, Open> = BTreeMap::new();
    let mut deletions = Vec::new();
    for (document, waiting) in batch {
        if let Waiting::Tombstone(tombstone) = waiting {
            deletions.push((document, tombstone));
            continue;
        }
        let there = match open.entry(document) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(room) => room.insert(open_document(tx, space, &document)?),
        };
        match (there, waiting) {
            (Open::Refused(why), _) => told.refuse(document, why.clone()),
            (Open::Here { appender, is_wanted, .. }, Waiting::Change(change)) => match appender.append(tx, &change)? {
                Appended::Stored { .. } => (told.stored, *is_wanted) = (told.stored + 1, true),
                Appended::Duplicate => told.duplicates += 1,
                Appended::Rejected(error) => told.refuse(document, WhyRefused::Rule(error.to_string())),
                Appended::Deleted => told.refuse(document, WhyRefused::Deleted),
                _ => told.refuse(document, WhyRefused::Missing),
            },
            (Open::Here { is_wanted, .. }, _) => *is_wanted = true,
        }
    }
    for (document, open) in open {
        if let Open::Here { appender, is_placed, is_wanted } = open {
            if is_wanted {
                appender.finish(tx)?;
                log::append(tx, &document)?;
            } else if is_placed {
                // A document of which nothing was accepted is not made.
                ledger::delete(tx, &document)?;
            }
        }
    }
    deletions.into_iter().try_for_each(|(document, tombstone)| bury(tx, space, &document, &tombstone, told))
}

fn open_document(tx: &mut dyn WriteTx, space: &SpaceId, document: &DocumentId) -> Result<Open, StoreError> {
    if tombstone::is_buried(tx, document)? {
        return Ok(Open::Refused(WhyRefused::Deleted));
    }
    let here = ledger::state(tx, document)?.is_some();
    let was = spaces::of(tx, document)?;
    // One that is in the default space without changes may still be put elsewhere, but it is somebody's there.
    if was != *space && (here || was != SpaceId::DEFAULT) {
        return Ok(Open::Refused(WhyRefused::Elsewhere));
    }
    if spaces::put(tx, document, space)? != Placed::There {
        return Ok(Open::Refused(WhyRefused::Elsewhere));
    }
    let appender = Box::new(Appender::begin(tx, *document)?);
    Ok(Open::Here { appender, is_placed: !here && was != *space, is_wanted: false })
}

/// Takes a deletion of a document of which nothing is here.
fn bury(
    tx: &mut dyn WriteTx,
    space: &SpaceId,
    document: &DocumentId,
    deletion: &Tombstone,
    told: &mut Imported,
) -> Result<(), StoreError> {
    if tombstone::is_buried(tx, document)? {
        told.duplicates += 1;
        return Ok(());
    }
    if ledger::state(tx, document)?.is_some() {
        told.refuse(*document, WhyRefused::Here);
        return Ok(());
    }
    if spaces::put(tx, document, space)? != Placed::There {
        told.refuse(*document, WhyRefused::Elsewhere);
        return Ok(());
    }
    tombstone::bury(tx, document, deletion)?;
    told.tombstones += 1;
    Ok(())
}

/// Deletes every document of a space everywhere and for good, and leaves no byte of them in the store's file. The space's log goes on:
/// its entries are void, and devices that follow it hear of each deletion.
///
/// In the default space that is every document that is in no other one. Nobody should write there meanwhile: take the grants away first.
/// Cost: each document's rows once, in transactions of at most [`DELETE_CHANGES`]; in the end one copy of the store's file.
///
/// On a relay that runs, tell those who follow the space how far its log is now ([`Deleted::end`]).
///
/// # Errors
///
/// [`SpaceError`]; what was deleted before stays deleted, and deleting again goes on.
pub fn delete_space(store: &dyn Store, space: &SpaceId, progress: &mut Tell<'_>) -> Result<Deleted, SpaceError> {
    let by = storage_id(store, random().map_err(SpaceError::Entropy)?)?.to_string();
    let deletion = Tombstone { kind: DeletionKind::Purged, time_seconds: now_seconds(), by };
    let mut done = SpaceProgress::default();
    for _ in 0..DELETE_PASSES {
        let before = done.documents;
        let mut after: Option<DocumentId> = None;
        while let Some(last) = delete_some(store, space, after.as_ref(), &deletion, &mut done)? {
            after = Some(last);
            if progress(done).is_break() {
                return Err(SpaceError::Cancelled);
            }
        }
        if done.documents == before {
            break;
        }
    }
    let scrubbed = store.scrub()?;
    let end = log::end(&*store.read()?, space)?;
    Ok(Deleted { documents: done.documents, scrubbed, end })
}

/// Deletes the next documents of a space in one transaction, and returns the last of them.
fn delete_some(
    store: &dyn Store,
    space: &SpaceId,
    after: Option<&DocumentId>,
    deletion: &Tombstone,
    done: &mut SpaceProgress,
) -> Result<Option<DocumentId>, SpaceError> {
    let mut some = Vec::new();
    {
        let view = store.read()?;
        let (tx, mut changes, mut failed) = (view.as_ref(), 0_u64, None);
        spaces::documents(tx, space, after, &mut |document| {
            match ledger::state(tx, &document) {
                Ok(state) => {
                    let state = state.unwrap_or_default();
                    changes = changes.saturating_add(state.count);
                    if some.is_empty() || changes <= DELETE_CHANGES {
                        some.push((document, state.count, state.bytes));
                    }
                }
                Err(error) => failed = Some(error),
            }
            let go_on = failed.is_none() && changes < DELETE_CHANGES && some.len() < DELETE_DOCUMENTS;
            if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed.map_or(Ok(()), Err)?;
    }
    let Some(last) = some.last().map(|(document, ..)| *document) else { return Ok(None) };
    store.write_with(|tx| {
        some.iter().try_for_each(|(document, ..)| tombstone::bury(tx, document, deletion).map(drop))
    })?;
    for (_, changes, bytes) in some {
        done.documents += 1;
        done.changes += changes;
        done.bytes += bytes;
    }
    Ok(Some(last))
}
