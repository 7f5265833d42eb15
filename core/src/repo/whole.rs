//! Whole documents from a relay: used at once, unfolded afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::events::{self, Event};
use super::precautions::working_at;
use super::{Inner, RepoError, random_actor};
use crate::document::whole::{self, Whole};
use crate::document::{DocumentError, Materialised};
use crate::engine::{self, Origin};
use crate::gate::CheckedChange;
use crate::id::DocumentId;
use crate::ledger::{self, Appended, Appender, base, snapshot};
use crate::limits::{PACK_CHANGES_MAX, PACK_KEEP};
use crate::store::{MemoryStore, ReadTx, Store, StoreError, StoreExt, WriteTx};

impl Inner {
    /// Takes in a whole-document chunk that a relay sent. Blocks while Automerge loads it.
    ///
    /// One that cannot be loaded is dropped with a line in the log, and `None` is returned: the relay is asked for the changes then.
    pub(crate) fn take_whole(
        &self,
        document: DocumentId,
        chunk: &Bytes,
    ) -> Result<Option<Vec<(CheckedChange, Appended)>>, RepoError> {
        let is_empty = ledger::state(self.store.read()?.as_ref(), &document)?.is_none_or(|state| state.count == 0);
        let taken = if is_empty {
            self.install(document, chunk).map(|is_installed| is_installed.then(Vec::new))
        } else {
            self.explode(document, chunk).map(Some)
        };
        match taken {
            Err(error) if is_refusal(&error) => {
                tracing::warn!(document = %document.label(), %error, "a whole document from the relay was refused");
                Ok(None)
            }
            taken => taken,
        }
    }

    /// Says whether a snapshot could not be taken since this repo was opened: relays are then asked for changes.
    pub(crate) fn is_snapshot_refused(&self) -> bool {
        self.snapshot_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn note_snapshot_refused(&self, is_refused: bool) {
        self.snapshot_refused.fetch_or(is_refused, Ordering::Relaxed);
    }

    /// Takes it into an empty document, folded. Says whether it could.
    fn install(&self, document: DocumentId, chunk: &Bytes) -> Result<bool, RepoError> {
        let mut whole = working_at(self.precautions.working, document, || whole::read(chunk))?;
        let bytes = chunk.clone();
        let work = move |tx: &mut dyn WriteTx| {
            // It may have been deleted while it was read.
            let installed = match ledger::state(tx, &document)? {
                Some(_) => whole::install(tx, &document, &mut whole, &bytes)?,
                None => Err(base::BaseError::Deleted),
            };
            Ok((installed, whole))
        };
        let installed = self.writer.write_from_thread(work, |_: &(Result<(), base::BaseError>, Whole)| {})?;
        let (installed, whole) = installed.wait()?;
        if let Err(error) = installed {
            tracing::warn!(document = %document.label(), %error, "a whole document from the relay was refused");
            return Ok(false);
        }
        let count = whole.history.count();
        let arrived = Event::arrived(document, &whole.heads, count);
        let materialised = Materialised::adopt(document, whole.into_automerge(random_actor()), count);
        self.documents.adopt(document, materialised)?;
        events::publish(&self.events, arrived);
        self.presences.renew(document);
        Ok(true)
    }

    /// Takes its changes into a document that has some already.
    fn explode(&self, document: DocumentId, chunk: &Bytes) -> Result<Vec<(CheckedChange, Appended)>, RepoError> {
        let mut results = Vec::new();
        let take_in = |changes: Vec<CheckedChange>| {
            let work = move |tx: &mut dyn WriteTx| engine::accept_known(tx, document, changes);
            let events = self.events.clone();
            let tell = move |accepted: &engine::Accepted| {
                events::publish_accepted(&events, document, Origin::Remote, accepted);
            };
            let accepted = self.writer.write_from_thread(work, tell)?.wait()?;
            results.extend(accepted.results);
            Ok::<_, RepoError>(())
        };
        let working = self.precautions.working;
        working_at(working, document, || whole::unfolded(chunk, PACK_CHANGES_MAX, take_in))?;
        Ok(results)
    }

    /// Unfolds a document that arrived whole: holds every change of it against the gate, and files them.
    ///
    /// # Errors
    ///
    /// [`RepoError`]; the document stays as it is then, to be read and written. Unless it [is refused](is_refusal), it is worth another
    /// try.
    pub(super) fn unfold(&self, document: DocumentId) -> Result<(), RepoError> {
        let Some(chunk) = snapshot::chunk(self.store.read()?.as_ref(), &document)? else { return Ok(()) };
        if self.precautions.suspect == Some(document) {
            return Err(DocumentError::Refused("Automerge ended on it".to_owned()).into());
        }
        let aside = MemoryStore::new();
        let file = |changes: Vec<CheckedChange>| {
            let refused = aside.write_with(|tx| {
                let mut appender = Appender::begin(tx, document)?;
                for change in &changes {
                    match appender.append(tx, change)? {
                        Appended::Stored { .. } => {}
                        Appended::Rejected(error) => return Ok(Some(DocumentError::Gate(error))),
                        Appended::Missing { .. } | Appended::Folded | Appended::Duplicate | Appended::Deleted => {
                            return Ok(Some(DocumentError::Refused("its history has gaps".to_owned())));
                        }
                    }
                }
                appender.finish(tx)?;
                while ledger::compact(tx, &document, 0)? > 0 {}
                Ok(None)
            });
            refused?.map_or(Ok(()), |error| Err(RepoError::from(error)))
        };
        let working = self.precautions.working;
        working_at(working, document, || whole::unfolded(&chunk, PACK_CHANGES_MAX, file))?;
        let unfolded = aside.read()?;
        let outcome = self.store.write_with(|tx| base::unfold(tx, &document, unfolded.as_ref()))?;
        outcome.map_err(|error| DocumentError::Refused(error.to_string()))?;
        events::publish(&self.events, Event::unfolded(document));
        Ok(())
    }
}

/// Says whether it is the document that is wrong, so that trying again is of no use.
pub(super) fn is_refusal(error: &RepoError) -> bool {
    matches!(error, RepoError::Document(error) if !matches!(**error, DocumentError::Store(_)))
}

/// Where the thread for upkeep gets the repo from, without keeping it open.
pub(super) type Weak = std::sync::Weak<Inner>;

/// What came of packing.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Some changes were packed.
    pub(super) any: bool,
    /// How many are [`unpacked`] now.
    pub(super) left: u64,
}

/// Packs the oldest few thousand of a document's changes. The pack is made before its transaction begins, so that nobody who writes
/// waits for that.
pub(super) fn pack(inner: &Arc<Inner>, document: DocumentId) -> Result<Packed, RepoError> {
    let tx = inner.store.read()?;
    let Some(packing) = ledger::prepare_packing(&*tx, &document, PACK_KEEP)? else {
        return Ok(Packed { any: false, left: unpacked(&*tx, &document)? });
    };
    drop(tx);
    let packed = inner.store.write_with(|tx| ledger::put_packing(tx, &packing))?;
    if packed == 0 {
        // The document became another one meanwhile: it comes again.
        return Ok(Packed::default());
    }
    tracing::debug!(document = %document.label(), packed, "old changes were packed");
    Ok(Packed { any: true, left: unpacked(&*inner.store.read()?, &document)? })
}

/// Returns how many changes of a document are neither packed nor too new for it.
pub(super) fn unpacked(tx: &(impl ReadTx + ?Sized), document: &DocumentId) -> Result<u64, StoreError> {
    let state = ledger::state(tx, document)?;
    Ok(state.map_or(0, |state| state.count.saturating_sub(state.packed).saturating_sub(PACK_KEEP)))
}
