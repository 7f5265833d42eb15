//! Files: whole `.automerge` files in, damaged ones as far as they can be read.

use std::sync::Arc;

use automerge::{Automerge, LoadOptions, TextEncoding};

use super::spaces::{Created, Telling, create};
use super::{DocHandle, Repo, RepoError, events, random_actor, random_bytes};
use crate::document::{Lost, salvage};
use crate::engine::{self, Accepted, Origin};
use crate::gate::CheckedChange;
use crate::id::{DocumentId, SpaceId};
use crate::ledger::{self, Appended};
use crate::runtime;
use crate::store::WriteTx;

/// The stack of the thread that reads a damaged file: 256 MiB, of which only what is used is taken from the system.
///
/// Automerge reads nested values by recursion, ~7 KB a level: enough for 30,000 levels.
#[cfg(not(target_family = "wasm"))]
const RESCUE_STACK_BYTES: usize = 256 << 20;

/// What became of a damaged file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rescued {
    /// The new document.
    pub handle: DocHandle,
    /// How many changes it holds.
    pub changes: usize,
    /// Whether some values came without their history: marks and blocks of texts are lost then, and other copies of the
    /// document do not merge with them.
    pub values_only: bool,
    /// What was lost or came over changed, by where it stood in the file; empty if the file was whole.
    pub lost: Vec<Lost>,
}

/// What became of changes that were offered to a document.
pub(super) struct Taken {
    /// Whether the document was not here before.
    is_new: bool,
    pub(super) stored: usize,
    /// Why the first of those that were not taken was not.
    pub(super) refused: Option<String>,
}

impl Repo {
    /// Takes the bytes of an `.automerge` file in as a new document.
    ///
    /// The file is trusted as far as a file the user chose is: Automerge loads it here, then every change passes the gate.
    /// If it is damaged, [`Repo::rescue`] keeps what can be kept.
    ///
    /// # Errors
    ///
    /// [`RepoError::Import`] if it is no such file, or a change in it breaks a rule; nothing is stored then.
    pub async fn import(&self, bytes: Vec<u8>) -> Result<DocHandle, RepoError> {
        self.import_as(new_document(), bytes).await
    }

    /// Takes a file in as [`Repo::import`] does, under an id that the caller made. A document that is there already takes in what
    /// it lacks, so that this can be tried again.
    ///
    /// # Errors
    ///
    /// As [`Repo::import`]; [`RepoError::Deleted`] if a document of that id was deleted everywhere.
    pub async fn import_as(&self, id: DocumentId, bytes: Vec<u8>) -> Result<DocHandle, RepoError> {
        self.import_into(SpaceId::DEFAULT, id, bytes).await
    }

    pub(super) async fn import_into(
        &self,
        space: SpaceId,
        id: DocumentId,
        bytes: Vec<u8>,
    ) -> Result<DocHandle, RepoError> {
        let changes = runtime::unblock(move || read_file(&bytes)).await??;
        self.store_as(space, id, changes).await
    }

    /// Takes what can be read of a damaged `.automerge` file in as a new document, and says what was lost.
    ///
    /// Sound changes are kept with their history as long as all that they depend on is there too. Of a document chunk that
    /// Automerge refuses, the values are kept as a new change if they can be read. Cost: loads the file up to three times.
    ///
    /// # Errors
    ///
    /// [`RepoError::Import`] if nothing at all can be kept.
    pub async fn rescue(&self, bytes: Vec<u8>) -> Result<Rescued, RepoError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let actor = random_actor();
        let work = move || {
            // Whoever asked may have gone.
            let _ = reply.send(salvage(&bytes, &actor));
        };
        #[cfg(not(target_family = "wasm"))]
        std::thread::Builder::new().name("rejoin-rescue".to_owned()).stack_size(RESCUE_STACK_BYTES).spawn(work)?;
        #[cfg(target_family = "wasm")]
        work();
        let salvaged = answer.await.map_err(|_| RepoError::Closed)?;
        if salvaged.changes.is_empty() {
            let reason = salvaged.lost.into_iter().next().map_or_else(
                || "it is empty".to_owned(),
                |lost| format!("nothing can be kept; at byte {}: {}", lost.offset, lost.why),
            );
            return Err(RepoError::Import { reason });
        }
        let mut lost = salvaged.lost;
        let document = new_document();
        let offered = salvaged.changes.len();
        let taken = self.store_into(document, Some(SpaceId::DEFAULT), salvaged.changes).await?;
        if let Some(reason) = taken.refused {
            let why = format!("{} changes cannot be kept: {reason}", offered - taken.stored);
            lost.push(Lost::somewhere(why));
        }
        Ok(Rescued { handle: self.handle(document), changes: taken.stored, values_only: salvaged.values_only, lost })
    }

    /// Stores changes under an id that the caller made. A document that is there takes in what it lacks; one that is not is made in the
    /// space, and not if a change is refused.
    pub(super) async fn store_as(
        &self,
        space: SpaceId,
        id: DocumentId,
        changes: Vec<CheckedChange>,
    ) -> Result<DocHandle, RepoError> {
        let taken = self.store_into(id, Some(space), changes).await?;
        let Some(reason) = taken.refused else { return Ok(self.handle(id)) };
        if taken.is_new {
            self.delete(id).await?;
        }
        Err(RepoError::Import { reason })
    }

    /// Stores changes that were made elsewhere in a document, and queues them for the relay. A document that is not here is made in
    /// the space, in the same commit, if one is given.
    pub(super) async fn store_into(
        &self,
        document: DocumentId,
        space: Option<SpaceId>,
        changes: Vec<CheckedChange>,
    ) -> Result<Taken, RepoError> {
        let pending = Arc::clone(&self.inner.pending);
        let work = move |tx: &mut dyn WriteTx| {
            if pending.is_leaving() {
                return Ok(Err(RepoError::SigningOut));
            }
            let created = match space {
                Some(space) => match create(tx, &document, &space)? {
                    Ok(created) => created,
                    Err(error) => return Ok(Err(error)),
                },
                None if ledger::state(tx, &document)?.is_none() => return Ok(Err(RepoError::NotFound)),
                None => Created::default(),
            };
            Ok(Ok((created, engine::accept(tx, document, changes, Origin::Local)?)))
        };
        let (telling, pending) = (Telling::of(self), Arc::clone(&self.inner.pending));
        let tell = move |stored: &Result<(Created, Accepted), RepoError>| {
            if let Ok((created, accepted)) = stored {
                telling.tell(created, document);
                pending.note(document, accepted.waiting.cast_signed());
                events::publish_accepted(&telling.events, document, Origin::Remote, accepted);
            }
        };
        let (created, accepted) = match self.inner.writer.write(work, tell).await? {
            Err(RepoError::NotFound) => return Err(self.absent(document).await),
            stored => stored?,
        };
        let refused = accepted.results.iter().find_map(|(_, appended)| match appended {
            Appended::Rejected(error) => Some(error.to_string()),
            Appended::Missing { .. } => Some("a change depends on one that is not there".to_owned()),
            Appended::Folded => {
                Some("the document's history is still being unfolded: try again in a moment".to_owned())
            }
            Appended::Deleted => Some("the document was deleted".to_owned()),
            _ => None,
        });
        Ok(Taken { is_new: created.is_new, stored: accepted.stored, refused })
    }
}

pub(super) fn new_document() -> DocumentId {
    DocumentId::from_bytes(*uuid::Builder::from_random_bytes(random_bytes()).into_uuid().as_bytes())
}

/// Loads a file and takes it apart into its changes.
fn read_file(bytes: &[u8]) -> Result<Vec<CheckedChange>, RepoError> {
    let import = |reason: String| RepoError::Import { reason };
    let loaded = std::panic::catch_unwind(|| {
        let options = LoadOptions::new().text_encoding(TextEncoding::Utf16CodeUnit);
        Automerge::load_with_options(bytes, options).map(|document| {
            document.get_changes(&[]).into_iter().map(|change| CheckedChange::parse(change.raw_bytes())).collect()
        })
    });
    let loaded = loaded.map_err(|_| import("Automerge panicked on it: the file is damaged".to_owned()))?;
    let changes: Result<Vec<_>, _> = loaded.map_err(|error| import(error.to_string()))?;
    changes.map_err(|error| import(error.to_string()))
}
