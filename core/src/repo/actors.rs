//! Our actors for field writes: one for each document written so far, random, and used by no other process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use automerge::ActorId;

use super::random_actor;
use crate::id::DocumentId;

/// The actors. Ask only on the writer's thread, inside the transaction that uses the answer: an actor that was dropped before may not be
/// used after.
#[derive(Debug, Clone, Default)]
pub(super) struct Actors(Arc<Mutex<HashMap<DocumentId, ActorId>>>);

impl Actors {
    /// Returns the actor of a document.
    pub(super) fn of(&self, document: DocumentId) -> ActorId {
        self.with(|actors| actors.entry(document).or_insert_with(random_actor).clone())
    }

    /// Forgets the actor of a document, whose numbers begin anew or are used up: the next write takes another.
    pub(super) fn forget(&self, document: &DocumentId) {
        self.with(|actors| drop(actors.remove(document)));
    }

    /// Sets the actor of a document: for tests of what must not happen.
    #[cfg(feature = "testing")]
    pub(super) fn set(&self, document: DocumentId, actor: ActorId) {
        self.with(|actors| drop(actors.insert(document, actor)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<DocumentId, ActorId>) -> T) -> T {
        // The map is whole at every moment: whoever panicked while holding it left nothing half-done.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
