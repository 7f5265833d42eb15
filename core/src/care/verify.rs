//! Checking a store: whether every change is what its hash says, and all else is what the changes make.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use automerge::{ActorId, ChangeHash};

use super::replay::{Refusal, replay};
use super::{Fault, Progress, Registers, Report, RowFault, documents_in, require_format};
use crate::gate::{CheckedChange, Chunk, DocumentHeader};
use crate::id::{DocumentId, StorageId};
use crate::ledger::{self, DocumentState, Head, Node, log, outbox, rejected, shared, snapshot};
use crate::limits::FINDINGS_MAX;
use crate::store::record::{prefix_end, tail_key};
use crate::store::{ReadTx, Store, StoreError, Table};

/// How a store is checked.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct VerifyOptions {
    registers: Registers,
    replay: bool,
    findings_max: usize,
}

impl VerifyOptions {
    /// Checks everything, in a store of this kind.
    pub fn new(registers: Registers) -> Self {
        Self { registers, replay: true, findings_max: FINDINGS_MAX }
    }

    /// Sets whether each document is computed anew from its changes, and registers, objects and operation index are
    /// compared. Default: `true`. It is most of the cost.
    pub fn replay(mut self, on: bool) -> Self {
        self.replay = on;
        self
    }

    /// Sets how many findings are listed. Default: [`FINDINGS_MAX`]; all are counted.
    pub fn findings_max(mut self, count: usize) -> Self {
        self.findings_max = count;
        self
    }
}

/// Checks a store, and lists what is wrong.
///
/// Cost: reads everything once, parses and hashes every change; with replay, also receives every change once more, in
/// memory. Memory: about 100 bytes for each change of the largest document; with replay, a few times that document.
/// `progress` is called after each document.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read at all, or is of another format. Damage is no error but a finding.
pub fn verify(
    store: &dyn Store,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, StoreError> {
    let tx = store.read()?;
    let tx = tx.as_ref();
    require_format(tx)?;
    let mut report = Report::new(options.findings_max);
    for document in all_documents(tx, &mut report)? {
        let mut check = Check { tx, document, options, report: &mut report, packed: 0 };
        match check.run() {
            Err(StoreError::Damaged { what }) => report.add(Some(document), Fault::Unreadable { what }),
            outcome => outcome?,
        }
        report.documents += 1;
        progress(Progress { documents: report.documents, rows: report.changes, bytes: report.bytes });
    }
    check_log(tx, &mut report)?;
    Ok(report)
}

/// Checks the logs of all spaces, if this store keeps any.
fn check_log(tx: &dyn ReadTx, report: &mut Report) -> Result<(), StoreError> {
    let checked = log::check(tx, &mut |broken| {
        let log::Broken { space, document, position, reason } = broken;
        report.add(document, Fault::Log { space, position, reason, of_document: document.is_some() });
    });
    match checked {
        Err(StoreError::Damaged { .. }) => report.add(None, Fault::Table { table: Table::Log }),
        outcome => outcome?,
    }
    Ok(())
}

/// Finds every document that has a row anywhere; those without a record are findings.
fn all_documents(tx: &dyn ReadTx, report: &mut Report) -> Result<BTreeSet<DocumentId>, StoreError> {
    let mut all = BTreeSet::new();
    // That a document was deleted, and where it was, is noted where nothing else of it is left.
    for table in Table::ALL.into_iter().filter(|table| table.is_of_documents()) {
        let mut found = BTreeSet::new();
        match documents_in(tx, table, &mut found) {
            Ok(None) => {}
            Ok(Some(key)) => report.add(None, Fault::ForeignKey { table, key }),
            Err(StoreError::Damaged { .. }) => report.add(None, Fault::Table { table }),
            Err(error) => return Err(error),
        }
        for document in found {
            if all.insert(document) && table != Table::Document {
                report.add(Some(document), Fault::NoRecord { table });
            }
        }
    }
    Ok(all)
}

/// The check of one document.
struct Check<'c> {
    tx: &'c dyn ReadTx,
    document: DocumentId,
    options: &'c VerifyOptions,
    report: &'c mut Report,
    /// How many of the document's first changes are packed.
    packed: u64,
}

/// What the changes add up to.
#[derive(Default)]
struct Seen {
    /// The position after the last change.
    next: u64,
    bytes: u64,
    max_op: u64,
    positions: HashMap<ChangeHash, u64>,
    heads: HashMap<ChangeHash, Head>,
    /// Each actor's last seq.
    actors: HashMap<ActorId, u64>,
    /// Some changes are not there or not to be used, so the sums mean nothing.
    broken: bool,
}

impl Check<'_> {
    fn add(&mut self, fault: Fault) {
        self.report.add(Some(self.document), fault);
    }

    fn run(&mut self) -> Result<(), StoreError> {
        let state = match ledger::state(self.tx, &self.document) {
            Ok(state) => state,
            Err(StoreError::Damaged { .. }) => {
                // The rest is read with its help.
                self.add(Fault::Record { field: "form" });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if state.as_ref().is_some_and(|state| state.folded > 0) {
            self.report.folded += 1;
            return Ok(());
        }
        self.packed = state.as_ref().map_or(0, |state| state.packed);
        let mut seen = self.changes()?;
        if let Some(state) = &state {
            self.record(state, &mut seen);
        }
        for (actor, seq) in &seen.actors {
            if !seen.broken && ledger::last_seq(self.tx, &self.document, actor)? != *seq {
                self.add(Fault::Actor { actor: actor.clone() });
            }
        }
        self.outbox(&seen)?;
        if !seen.broken {
            self.owners(&seen)?;
            self.shared(&seen)?;
            self.snapshot(&seen)?;
            if self.options.replay {
                self.replay()?;
            }
        }
        Ok(())
    }

    /// Walks the changes in their order.
    fn changes(&mut self) -> Result<Seen, StoreError> {
        let (tx, document) = (self.tx, self.document);
        let mut seen = Seen::default();
        let mut outcome = Ok(());
        ledger::export(tx, &document, 0, &mut |bytes| {
            outcome = self.change(bytes, &mut seen);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome.map(|()| seen)
    }

    fn change(&mut self, bytes: &[u8], seen: &mut Seen) -> Result<(), StoreError> {
        self.report.changes += 1;
        self.report.bytes += bytes.len() as u64;
        let change = match CheckedChange::parse(bytes) {
            Ok(change) => change,
            Err(error) => {
                self.add(Fault::Change { position: seen.next, reason: error.to_string() });
                seen.broken = true;
                seen.next += 1;
                return Ok(());
            }
        };
        let position = self.position(&change, seen)?;
        seen.next = position + 1;
        self.node(&change, position, seen)?;
        seen.add(&change, position, |fault| self.report.add(Some(self.document), fault));
        Ok(())
    }

    /// Decides where a change is: at the next position, unless the index and the graph know of a gap before it.
    fn position(&mut self, change: &CheckedChange, seen: &mut Seen) -> Result<u64, StoreError> {
        let (expected, hash) = (seen.next, change.hash());
        // A pack is found by position, checked as a whole, and its own index: to look each change up in the filters of all
        // packs would cost the square of their number.
        if expected < self.packed && self.stored_node(expected)?.is_some_and(|node| node.hash == hash) {
            return Ok(expected);
        }
        let found = match ledger::position(self.tx, &self.document, &hash) {
            Ok(found) => found,
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        if found == Some(expected) {
            return Ok(expected);
        }
        if let Some(later) = found.filter(|found| *found > expected)
            && self.stored_node(later)?.is_some_and(|node| node.hash == hash)
        {
            self.add(Fault::ChangesMissing { from: expected, to: later });
            seen.broken = true;
            return Ok(later);
        }
        self.add(Fault::Index { hash, position: expected });
        Ok(expected)
    }

    /// Returns the graph's record of a position, or `None` if it does not decode.
    fn stored_node(&self, position: u64) -> Result<Option<Node>, StoreError> {
        match ledger::node(self.tx, &self.document, position) {
            Ok(node) => Ok(Some(node)),
            Err(StoreError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds the graph's record against the change.
    fn node(&mut self, change: &CheckedChange, position: u64, seen: &mut Seen) -> Result<(), StoreError> {
        let mut deps = Vec::with_capacity(change.deps().len());
        for dependency in change.deps() {
            match seen.positions.get(dependency) {
                Some(position) => deps.push(*position),
                // After a loss, what depends on the lost would only repeat it.
                None if seen.broken => {}
                None => {
                    self.add(Fault::Dependency { position, dependency: *dependency });
                    seen.broken = true;
                }
            }
        }
        deps.sort_unstable();
        let Some(mut node) = self.stored_node(position)? else {
            self.add(Fault::Node { position, field: "form" });
            return Ok(());
        };
        node.deps.sort_unstable();
        let same = [
            ("hash", node.hash == change.hash()),
            ("set of dependencies", seen.broken || node.deps == deps),
            ("actor", node.actor == *change.actor()),
            ("sequence number", node.seq == change.seq()),
            ("first operation", node.start_op == change.start_op()),
            ("number of operations", node.op_count == change.op_count()),
            ("length", node.bytes == change.bytes().len() as u64),
        ];
        for (field, same) in same {
            if !same {
                self.add(Fault::Node { position, field });
            }
        }
        Ok(())
    }

    /// Holds the document's record against the sums.
    fn record(&mut self, state: &DocumentState, seen: &mut Seen) {
        if state.count > seen.next {
            self.add(Fault::ChangesMissing { from: seen.next, to: state.count });
            seen.broken = true;
        }
        if seen.broken {
            return;
        }
        let mut heads: Vec<Head> = seen.heads.values().cloned().collect();
        heads.sort_unstable_by_key(|head| head.hash);
        let same = [
            ("number of changes", state.count == seen.next),
            ("greatest operation", state.max_op == seen.max_op),
            ("number of bytes", state.bytes == seen.bytes),
            ("set of heads", state.heads == heads),
        ];
        for (field, same) in same {
            if !same {
                self.add(Fault::Record { field });
            }
        }
    }

    fn outbox(&mut self, seen: &Seen) -> Result<(), StoreError> {
        let (waiting, are_all) = outbox::readable(self.tx, &self.document)?;
        for position in waiting.into_iter().filter(|position| *position >= seen.next) {
            self.add(Fault::Outbox { position });
        }
        if !are_all {
            self.add(Fault::OutboxRow);
        }
        let held_back = rejected::rows(self.tx, &self.document)?;
        for (position, row) in &held_back {
            let fits = match row {
                rejected::Row::Refused(rejection) => seen.positions.get(&rejection.hash) == Some(position),
                rejected::Row::Blocked(by) => matches!(held_back.get(by), Some(rejected::Row::Refused(_))),
            };
            if *position >= seen.next || !fits {
                self.add(Fault::Rejected { position: *position });
            }
        }
        Ok(())
    }

    fn shared(&mut self, seen: &Seen) -> Result<(), StoreError> {
        let mut peers = Vec::new();
        let mut foreign = None;
        let end = prefix_end(self.document.as_bytes());
        self.tx.scan(Table::Shared, self.document.as_bytes()..&end, &mut |key, _| {
            match key.get(16..).and_then(|id| id.try_into().ok()) {
                Some(id) => peers.push(StorageId::from_bytes(id)),
                None => foreign = Some(key.to_vec()),
            }
            ControlFlow::Continue(())
        })?;
        if let Some(key) = foreign {
            self.add(Fault::ForeignKey { table: Table::Shared, key });
        }
        for peer in peers {
            match shared::get(self.tx, &self.document, &peer) {
                Ok(heads) if heads.iter().all(|hash| seen.positions.contains_key(hash)) => {}
                Ok(_) | Err(StoreError::Damaged { .. }) => self.add(Fault::Shared { peer }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks whether every actor with an owner has a change here, and its owner a name.
    fn owners(&mut self, seen: &Seen) -> Result<(), StoreError> {
        let mut faults = Vec::new();
        let end = prefix_end(self.document.as_bytes());
        self.tx.scan(Table::Owner, self.document.as_bytes()..&end, &mut |key, principal| {
            let actor = key.get(16..).unwrap_or_default();
            let named = !principal.is_empty() && std::str::from_utf8(principal).is_ok();
            if !named || !seen.actors.contains_key(&ActorId::from(actor)) {
                faults.push(actor.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        faults.into_iter().for_each(|actor| self.add(Fault::Owner { actor }));
        Ok(())
    }

    /// Checks what the snapshot says of itself, without loading it: whoever made it has done that.
    fn snapshot(&mut self, seen: &Seen) -> Result<(), StoreError> {
        let (info, chunk) = match (snapshot::info(self.tx, &self.document), snapshot::chunk(self.tx, &self.document)) {
            (Err(StoreError::Damaged { .. }), _) => {
                self.add(Fault::Snapshot { reason: "cannot be read" });
                return Ok(());
            }
            (info, chunk) => (info?, chunk?),
        };
        let Some(info) = info else { return Ok(()) };
        let chunk = chunk.unwrap_or_default();
        let heads = Chunk::parse(&chunk).and_then(|chunk| DocumentHeader::of(&chunk)).map(|header| header.heads);
        let below = |hash| seen.positions.get(hash).is_some_and(|position| *position < info.count);
        let checks = [
            ("is not as long as its record says", info.bytes == chunk.len() as u64),
            ("is no document, or not what its checksum says", heads.is_ok()),
            (
                "has other heads than its record",
                heads.is_err() || heads.as_ref().is_ok_and(|heads| *heads == info.heads),
            ),
            ("ends with changes that are not here", info.count <= seen.next && info.heads.iter().all(below)),
        ];
        for (reason, holds) in checks {
            if !holds {
                self.add(Fault::Snapshot { reason });
            }
        }
        Ok(())
    }

    /// Computes the document anew and compares what only that can show.
    fn replay(&mut self) -> Result<(), StoreError> {
        let memory = match replay(self.tx, self.document, self.options.registers)? {
            Ok(memory) => memory,
            Err(Refusal::Change { position, reason } | Refusal::Refused { position, reason }) => {
                self.add(Fault::Refused { position, reason });
                return Ok(());
            }
        };
        let made = memory.read()?;
        for table in [Table::Register, Table::Object] {
            self.compare(table, made.as_ref(), |_| false)?;
        }
        // The rows of packed changes are in their pack.
        let packed = self.packed;
        for table in [Table::Hash, Table::Actor] {
            self.compare(table, made.as_ref(), |value| ledger_position(value).is_some_and(|at| at < packed))?;
        }
        self.floors(made.as_ref())
    }

    /// Holds the floor of every change against the one that is made. A smaller one only makes walks longer.
    fn floors(&mut self, made: &dyn ReadTx) -> Result<(), StoreError> {
        for position in 0..ledger::state(made, &self.document)?.map_or(0, |state| state.count) {
            let made = ledger::node(made, &self.document, position)?;
            if self.stored_node(position)?.is_some_and(|stored| stored.floor > made.floor) {
                self.add(Fault::Node { position, field: "floor" });
            }
        }
        Ok(())
    }

    /// Compares a table's rows of the document; those that are made but `may_lack` says so of need not be stored.
    fn compare(&mut self, table: Table, made: &dyn ReadTx, may_lack: impl Fn(&[u8]) -> bool) -> Result<(), StoreError> {
        let (tx, document) = (self.tx, self.document);
        let (start, end) = (document.as_bytes(), prefix_end(document.as_bytes()));
        let mut faults = Vec::new();
        let mut outcome = Ok(());
        tx.scan(table, start..&end, &mut |key, value| {
            match made.get(table, key) {
                Ok(Some(made)) if made == value => {}
                Ok(made) => {
                    let fault = if made.is_some() { RowFault::Differs } else { RowFault::Extra };
                    faults.push((fault, key.get(16..).unwrap_or_default().to_vec()));
                }
                Err(error) => outcome = Err(error),
            }
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        made.scan(table, start..&end, &mut |key, value| {
            match tx.contains(table, key) {
                Ok(false) if !may_lack(value) => {
                    faults.push((RowFault::Missing, key.get(16..).unwrap_or_default().to_vec()));
                }
                Ok(_) => {}
                Err(error) => outcome = Err(error),
            }
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome?;
        for (fault, key) in faults {
            debug_assert!(tail_key(&document, &key).starts_with(start), "keys begin with their document");
            self.add(Fault::Row { table, fault, key });
        }
        Ok(())
    }
}

/// Reads the position that begins the rows of the indices.
fn ledger_position(value: &[u8]) -> Option<u64> {
    crate::store::record::Reader::new(value, "an index").count().ok()
}

impl Seen {
    /// Takes a change into the sums.
    fn add(&mut self, change: &CheckedChange, position: u64, mut tell: impl FnMut(Fault)) {
        let last = self.actors.entry(change.actor().clone()).or_default();
        let (expected, found) = (*last + 1, change.seq());
        *last = found;
        if expected != found && !self.broken {
            tell(Fault::Sequence { position, expected, found });
            self.broken = true;
        }
        for dependency in change.deps() {
            self.heads.remove(dependency);
        }
        let head = Head { hash: change.hash(), position, max_op: change.max_op() };
        self.heads.insert(change.hash(), head);
        self.positions.insert(change.hash(), position);
        self.max_op = self.max_op.max(change.max_op());
        self.bytes += change.bytes().len() as u64;
    }
}
