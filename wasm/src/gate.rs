//! The order of one document's edits.
//!
//! Edits that go through the document and field writes go different ways, so one kind waits until all of the other are done.
//! Those of one kind may be under way together and share a flush: each is handed in before the next one's turn. Whoever wants a
//! moment without edits takes a turn and waits until none is under way.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::{Mutex, MutexGuard, Notify};

/// Which way an edit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the registers.
    Fields,
    /// Through the document.
    Document,
}

/// The order of one document's edits.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    turn: Mutex<()>,
    way: Cell<Option<Way>>,
    under_way: Cell<usize>,
    done: Notify,
}

impl Gate {
    /// Waits for this caller's turn: they come in the order of the calls.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Waits until no edit is under way. For whoever has the turn.
    pub(crate) async fn quiet(&self) {
        loop {
            let done = self.done.notified();
            if self.under_way.get() == 0 {
                return;
            }
            done.await;
        }
    }

    /// Says whether edits are under way that go another way.
    pub(crate) fn must_wait(&self, way: Way) -> bool {
        self.under_way.get() > 0 && self.way.get() != Some(way)
    }

    /// Notes an edit until the result is dropped.
    pub(crate) fn enter(self: &Rc<Self>, way: Way) -> UnderWay {
        self.way.set(Some(way));
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(Rc::clone(self))
    }
}

/// An edit that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Rc<Gate>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.done.notify_waiters();
    }
}
