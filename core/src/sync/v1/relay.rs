//! The relay's side of `rejoin.v1`: one connection.

use bytes::Bytes;

use crate::codec::v1::{Code, Outcome};
use crate::id::{PeerId, SpaceId, StorageId};
use crate::store::{ReadTx, StoreError};

mod output;

pub use output::{Grants, LiveFrame, LiveFrames, NoLiveFrames, Offered, OfferedWrite, RelayIdentity, RelayOutput};

/// One connection of a client. See [`crate::sync`] for how to drive it.
pub struct RelaySession {
    identity: RelayIdentity,
}

impl RelaySession {
    /// Begins a session.
    pub fn new(identity: RelayIdentity) -> Self {
        Self { identity }
    }

    /// Takes in a binary message.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read. Whatever the message holds is never an error: it becomes an output.
    pub fn handle_frame(&mut self, _frame: &Bytes, _tx: &dyn ReadTx) -> Result<(), StoreError> {
        let _ = self.identity;
        Ok(())
    }

    /// Takes in a text message: there are none in this protocol.
    pub fn handle_text(&mut self) {}

    /// Lets the client in whose hello was put out.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_admitted(&mut self, _grants: Box<dyn Grants>, _tx: &dyn ReadTx) -> Result<(), StoreError> {
        Ok(())
    }

    /// Turns the client away whose hello was put out, or ends the connection later on.
    pub fn handle_refused(&mut self, _code: Code, _text: &str) {}

    /// Learns what became of the oldest [`RelayOutput::Append`] without an answer, after it was made durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_appended(
        &mut self,
        _batch: u64,
        _outcomes: Vec<Outcome>,
        _tx: &dyn ReadTx,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Learns that nothing of the oldest [`RelayOutput::Append`] without an answer was stored, and why.
    pub fn handle_append_failed(&mut self, _batch: u64, _code: Code) {}

    /// Learns where the log of a space ends by now.
    pub fn handle_end_changed(&mut self, _space: &SpaceId, _end: u64) {}

    /// Learns that another device has everything up to a position durably.
    pub fn handle_seen(&mut self, _space: &SpaceId, _storage: StorageId, _position: u64) {}

    /// Learns of ephemeral values of others: a whole `presence` message.
    pub fn handle_presence(&mut self, _space: &SpaceId, _frame: Bytes) {}

    /// Returns what the driver must do next.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<RelayOutput> {
        None
    }

    /// Makes the next message, if there is anything to say and credit for it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    #[must_use = "what it makes is made once"]
    pub fn poll_transmit(&mut self, _tx: &dyn ReadTx, _live: &dyn LiveFrames) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    /// Returns who the client is, once it was let in.
    pub fn peer(&self) -> Option<&PeerId> {
        None
    }

    /// Says whether the session has ended; whatever is handed in then is dropped.
    pub fn is_closed(&self) -> bool {
        false
    }

    /// Says whether messages may be handed in. If not, read none from the socket until an output or answer changes it.
    pub fn wants_frames(&self) -> bool {
        true
    }
}
