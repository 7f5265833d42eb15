//! One commit: the writes of many requests in one transaction, document by document.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rejoin::codec::v1::{Access, Content, Write};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::gate::CheckedChange;
use rejoin::ledger::spaces::Placed;
use rejoin::ledger::{self, Appended, Appender, log, spaces, tombstone};
use rejoin::store::{Store, StoreError, WriteTx};
use rejoin::sync::Recent;
use rejoin::sync::v1::{Offered, OfferedWrite};
use rejoin::{DocumentId, SpaceId};

use super::owners::Owners;
use super::{Author, Written};
use crate::live::LiveEntry;
use crate::quarantine;
use crate::quota::{Budget, Quota, document_bytes};

/// What one request has for one document.
pub(super) struct Part<'r> {
    pub(super) author: &'r Author,
    /// Where an unknown document comes to be, and a known one has to be; none if it does not matter.
    pub(super) space: Option<SpaceId>,
    pub(super) document: DocumentId,
    /// In their order.
    pub(super) writes: Vec<&'r OfferedWrite>,
}

/// What became of a part.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What became of its writes, in their order.
    pub(super) written: Vec<Written>,
    /// What classic peers are told once it is committed.
    pub(super) recent: Option<Recent>,
    /// The document is deleted now, and was not before.
    pub(super) deletion: Option<Deletion>,
    /// What is new in the log.
    pub(super) entries: Vec<LiveEntry>,
    /// The space and how far its log is, if anything is new.
    pub(super) end: Option<(SpaceId, u64)>,
    /// The commit ended before the writes that are not among the written ones: they are still to be done.
    pub(super) is_cut: bool,
    /// How long it took.
    pub(super) spent: Duration,
}

/// For how long a commit takes writes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    clock: fn() -> Instant,
    longest: Duration,
    /// None before the first write, which is always done.
    until: Option<Instant>,
}

impl Watch {
    /// Makes one that begins with the first write.
    pub(super) fn new(clock: fn() -> Instant, longest: Duration) -> Self {
        Self { clock, longest, until: None }
    }

    /// Says whether the next write has to wait for the next commit.
    fn is_over(&mut self) -> bool {
        let now = (self.clock)();
        let begins = self.until.is_none();
        now >= *self.until.get_or_insert(now + self.longest) && !begins
    }
}

/// A deletion that is news.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletion {
    /// Whether the document was here.
    pub(super) existed: bool,
    pub(super) is_purge: bool,
}

/// Sorts writes by their documents, and says of each write which part has it and where there.
pub(super) fn parts<'r>(
    author: &'r Author,
    space: Option<SpaceId>,
    writes: &'r [Offered],
) -> (Vec<Part<'r>>, Vec<(usize, usize)>) {
    let mut parts: Vec<Part<'r>> = Vec::new();
    let mut found: HashMap<DocumentId, usize> = HashMap::new();
    let mut places = Vec::with_capacity(writes.len());
    for write in writes {
        let document = write.document;
        let index = match parts.last() {
            // Most requests are about one document.
            Some(last) if last.document == document => parts.len() - 1,
            _ => *found.entry(document).or_insert(parts.len()),
        };
        if index == parts.len() {
            parts.push(Part { author, space, document, writes: Vec::new() });
        }
        places.push((index, parts[index].writes.len()));
        parts[index].writes.push(&write.what);
    }
    (parts, places)
}

/// Writes parts in one transaction, as far as there is room, and commits it if anything is new: what was there already needs no
/// sync. `asks_owners` says whether the owners of actors are asked. When the watch has run out, the rest is left.
///
/// # Errors
///
/// [`StoreError`]; nothing was written then.
pub(super) fn commit(
    store: &dyn Store,
    parts: &[Part<'_>],
    asks_owners: bool,
    quota: &Quota,
    watch: Watch,
) -> Result<Vec<Done>, StoreError> {
    let mut all = Vec::with_capacity(parts.len());
    let mut nothing_new = false;
    let outcome = store.write(&mut |tx| {
        all.clear();
        let mut budget = Budget::new(quota);
        let mut watch = watch;
        for part in parts {
            let begun = (watch.clock)();
            let mut done = write_part(tx, part, asks_owners, (&mut budget, &mut watch))?;
            done.spent = (watch.clock)().saturating_duration_since(begun);
            all.push(done);
        }
        budget.finish(tx)?;
        nothing_new = all.iter().all(|done: &Done| done.recent.is_none() && done.deletion.is_none());
        // Nothing in it is worth keeping: any error rolls it back and spares the disk.
        if nothing_new { Err(StoreError::NotCalled) } else { Ok(()) }
    });
    match outcome {
        Err(_) if nothing_new => Ok(all),
        outcome => outcome.map(|()| all),
    }
}

/// Collects what commits brought to each space, in the order of its positions, and how far each space is.
pub(super) fn news(all: &mut [Done]) -> BTreeMap<SpaceId, (u64, Vec<LiveEntry>)> {
    let mut spaces: BTreeMap<SpaceId, (u64, Vec<LiveEntry>)> = BTreeMap::new();
    for done in all {
        let Some((space, end)) = done.end else { continue };
        let (known, entries) = spaces.entry(space).or_default();
        *known = end.max(*known);
        entries.append(&mut done.entries);
    }
    spaces
}

fn write_part(
    tx: &mut dyn WriteTx,
    part: &Part<'_>,
    asks_owners: bool,
    (budget, watch): (&mut Budget<'_>, &mut Watch),
) -> Result<Done, StoreError> {
    if watch.is_over() {
        return Ok(Done { is_cut: true, ..Done::default() });
    }
    let has_changes =
        part.writes.iter().any(|write| matches!(write, OfferedWrite::Change(_) | OfferedWrite::PassedOn(_)));
    if has_changes && quarantine::is_held(tx, &part.document)? {
        // It was put aside after this was asked for. Whoever asks again is told so.
        let written = part.writes.iter().map(|_| Written::Failed).collect();
        return Ok(Done { written, ..Done::default() });
    }
    if !is_allowed(tx, part)? {
        return Ok(Done { written: vec![Written::Moved; part.writes.len()], ..Done::default() });
    }
    let Some(is_placed) = place(tx, part)? else {
        return write_elsewhere(tx, part, budget);
    };
    let mut done = Done { written: Vec::with_capacity(part.writes.len()), ..Done::default() };
    let space = spaces::of(tx, &part.document)?;
    budget.begin(tx, &space)?;
    let owners = Owners::new(&part.document, part.author.principal.as_ref(), asks_owners);
    let mut rules = Rules { owners, budget, space, watch };
    let mut changes = Vec::new();
    for write in &part.writes {
        match write {
            OfferedWrite::Change(change) => changes.push((change, Hand::Authors)),
            OfferedWrite::PassedOn(change) => changes.push((change, Hand::Others)),
            OfferedWrite::Deleted(tombstone) | OfferedWrite::DeletedElsewhere(tombstone) => {
                append(tx, &part.document, &std::mem::take(&mut changes), &mut rules, &mut done)?;
                if done.is_cut {
                    break;
                }
                let position = bury(tx, part, tombstone, (rules.budget, &rules.space), &mut done)?;
                done.written.push(Written::Deleted(position));
                rules.owners.forget();
            }
        }
    }
    if !done.is_cut {
        append(tx, &part.document, &changes, &mut rules, &mut done)?;
    }
    if is_placed && done.recent.is_none() && done.deletion.is_none() {
        // A document of which nothing was accepted is not created.
        ledger::delete(tx, &part.document)?;
    }
    Ok(done)
}

/// Says whether the author of a part that names no space may do what it does where the document is now.
fn is_allowed(tx: &dyn WriteTx, part: &Part<'_>) -> Result<bool, StoreError> {
    let (None, Some(permit)) = (part.space, &part.author.permit) else { return Ok(true) };
    let space = spaces::of(tx, &part.document)?;
    let of_document = permit.document(&space, &part.document);
    let may = |write: &OfferedWrite| match write {
        OfferedWrite::Change(_) | OfferedWrite::PassedOn(_) => of_document.is_some_and(Access::may_write),
        // As when it was let through: whoever writes in the space, or may do everything with the document.
        OfferedWrite::Deleted(_) | OfferedWrite::DeletedElsewhere(_) => {
            permit.space(&space).is_some_and(Access::may_write) || of_document == Some(Access::Admin)
        }
    };
    Ok(part.writes.iter().all(|write| may(write)))
}

/// Answers writes to a document that is in another space than its author says. Deletions that reach there are carried out, and
/// what is deleted is so for everybody.
fn write_elsewhere(tx: &mut dyn WriteTx, part: &Part<'_>, budget: &mut Budget<'_>) -> Result<Done, StoreError> {
    let home = spaces::of(tx, &part.document)?;
    let mut done = Done { written: Vec::with_capacity(part.writes.len()), ..Done::default() };
    let mut is_buried = tombstone::is_buried(tx, &part.document)?;
    for write in &part.writes {
        match write {
            OfferedWrite::DeletedElsewhere(tombstone) => {
                budget.begin(tx, &home)?;
                // Whoever pushed it counts the positions of another log.
                bury(tx, part, tombstone, (budget, &home), &mut done)?;
                done.written.push(Written::Deleted(None));
                is_buried = true;
            }
            OfferedWrite::Deleted(_) if is_buried => done.written.push(Written::Deleted(None)),
            OfferedWrite::Change(_) | OfferedWrite::PassedOn(_) if is_buried => {
                done.written.push(Written::Change(Appended::Deleted, None))
            }
            OfferedWrite::Change(_) | OfferedWrite::PassedOn(_) | OfferedWrite::Deleted(_) => {
                done.written.push(Written::Elsewhere);
            }
        }
    }
    Ok(done)
}

/// Sees to it that the part's document is in its space: `None` if it is elsewhere, else whether it was put there just now.
fn place(tx: &mut dyn WriteTx, part: &Part<'_>) -> Result<Option<bool>, StoreError> {
    let Some(space) = part.space else { return Ok(Some(false)) };
    let here = spaces::of(tx, &part.document)?;
    if here == space {
        return Ok(Some(false));
    }
    // A document that is in the default space, or nowhere yet.
    if here == SpaceId::DEFAULT && spaces::put(tx, &part.document, &space)? == Placed::There {
        return Ok(Some(true));
    }
    Ok(None)
}

/// What changes are held to beside the gate.
struct Rules<'a, 'b, 'q> {
    owners: Owners<'a>,
    budget: &'b mut Budget<'q>,
    /// The space of the document.
    space: SpaceId,
    watch: &'b mut Watch,
}

/// Whose change somebody brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    /// The author's own, who owns the actor from now on if nobody does.
    Authors,
    /// Somebody else's, passed on: with two relays a device that follows both may bring it here before its author does.
    Others,
}

/// Appends changes of one document, but for those under somebody else's actor and those that there is no room for, until the watch
/// has run out.
fn append(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    changes: &[(&CheckedChange, Hand)],
    rules: &mut Rules<'_, '_, '_>,
    done: &mut Done,
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut appender = Appender::begin_at_relay(tx, *document)?;
    let before = appender.state().head_hashes();
    let mut appended = Vec::with_capacity(changes.len());
    for (change, hand) in changes {
        if !appended.is_empty() && rules.watch.is_over() {
            done.is_cut = true;
            break;
        }
        appended.push(append_one(tx, document, (change, *hand), &mut appender, rules)?);
    }
    if !appended.iter().flatten().any(|appended| matches!(appended, Appended::Stored { .. })) {
        let written = |appended: Result<Appended, Written>| appended.map(|it| Written::Change(it, None));
        done.written.extend(appended.into_iter().map(|appended| written(appended).unwrap_or_else(|refused| refused)));
        return Ok(());
    }
    let heads = appender.finish(tx)?.head_hashes();
    let logged = log::append(tx, document)?.ok_or(StoreError::Damaged { what: "how much of a document is logged" })?;
    let mut stored = Vec::with_capacity(changes.len());
    for ((change, _), appended) in changes.iter().zip(appended) {
        let appended = match appended {
            Ok(appended) => appended,
            Err(refused) => {
                done.written.push(refused);
                continue;
            }
        };
        let ledger_position = match appended {
            Appended::Stored { position } => Some(position),
            _ => None,
        };
        let position = ledger_position.and_then(|position| logged.position(position));
        if let (Some(position), Some(ledger_position)) = (position, ledger_position) {
            let bytes = change.bytes().clone();
            stored.push(bytes.clone());
            let write = Write { document: *document, content: Content::Change(bytes) };
            done.entries.push(LiveEntry { position, ledger_position, write });
        }
        done.written.push(Written::Change(appended, position));
    }
    done.recent = Some(Recent::new(before, heads, stored));
    done.end = Some((logged.space, logged.last()));
    Ok(())
}

/// Appends a change, and binds its actor if it is the first. If the actor belongs to somebody else or there is no room, says so;
/// what is here already is a duplicate all the same.
fn append_one(
    tx: &mut dyn WriteTx,
    document: &DocumentId,
    (change, hand): (&CheckedChange, Hand),
    appender: &mut Appender,
    rules: &mut Rules<'_, '_, '_>,
) -> Result<Result<Appended, Written>, StoreError> {
    let refused = if rules.owners.may_write(tx, change.actor())? {
        let bytes = appender.state().bytes;
        rules.budget.check(tx, (&rules.space, document), bytes, change)?.err().map(Written::Full)
    } else {
        Some(Written::Owned)
    };
    if let Some(refused) = refused {
        if ledger::position(tx, document, &change.hash())?.is_some() {
            return Ok(Ok(Appended::Duplicate));
        }
        if let Written::Full(kind) = refused {
            rules.budget.reject(kind);
        }
        return Ok(Err(refused));
    }
    let appended = appender.append(tx, change)?;
    if matches!(appended, Appended::Stored { .. }) {
        if hand == Hand::Authors {
            rules.owners.bind(tx, change.actor())?;
        }
        rules.budget.add(tx, (&rules.space, document), change)?;
    }
    Ok(Ok(appended))
}

/// Deletes a part's document everywhere, and gives back its room in its space. Returns where in the log that is, if it is news there.
fn bury(
    tx: &mut dyn WriteTx,
    part: &Part<'_>,
    tombstone: &Tombstone,
    (budget, space): (&mut Budget<'_>, &SpaceId),
    done: &mut Done,
) -> Result<Option<u64>, StoreError> {
    let document = &part.document;
    let before = log::end(tx, space)?;
    let bytes = document_bytes(tx, document)?;
    let buried = tombstone::bury(tx, document, tombstone)?;
    budget.remove(space, bytes.saturating_sub(document_bytes(tx, document)?));
    if !buried.is_news {
        return Ok(None);
    }
    let end = log::end(tx, space)?;
    let position = Some(end).filter(|end| *end > before);
    done.deletion = Some(Deletion { existed: buried.existed, is_purge: tombstone.kind == DeletionKind::Purged });
    // What came before it is nothing any more.
    (done.recent, done.entries) = (None, Vec::new());
    if let Some(position) = position {
        let write = Write { document: *document, content: Content::Deleted(tombstone.clone()) };
        done.entries.push(LiveEntry { position, ledger_position: 0, write });
        done.end = Some((*space, end));
    }
    Ok(position)
}
