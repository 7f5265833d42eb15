//! Carrying out what the session says.

use super::{
    Access, Applying, Arc, Bytes, ChangeHash, ClientOutput, DocumentId, Driver, Epoch, Ephemeral, Outgoing, Presence,
    RepoError, SpaceId, WriteTx, ledger, spaces,
};
use crate::codec::v1::Code;
use crate::deletion::DeletionKind;
use crate::engine::Origin;
use crate::ledger::tombstone;

impl Driver {
    /// Does what the session says until it has nothing more to say. Deliveries of one round share a commit.
    pub(super) fn carry_out(&mut self) -> Result<(), RepoError> {
        loop {
            let mut applying: Vec<Applying> = Vec::new();
            while let Some(output) = self.session.poll_output() {
                match output {
                    ClientOutput::Apply(delivery) => applying.extend(self.apply(delivery)?),
                    // What follows builds on what was delivered before it.
                    output => {
                        self.finish_applying(std::mem::take(&mut applying))?;
                        self.obey(output)?;
                    }
                }
            }
            if !self.finish_applying(applying)? {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, output: ClientOutput) -> Result<(), RepoError> {
        match output {
            ClientOutput::Send(frame) => self.send(Outgoing::Frame(frame)),
            ClientOutput::Close { code, reason } => {
                self.send(Outgoing::Close { code, reason });
                self.ended = true;
            }
            ClientOutput::Welcomed { relay, epoch } => {
                self.relay = Some((relay, epoch));
                self.inner.note_relay(relay)?;
                self.session.subscribe(SpaceId::DEFAULT, Mode::Chosen, Start::Beginning);
                self.to_open.insert(SpaceId::DEFAULT);
                self.follow()?;
            }
            ClientOutput::Subscribed { space, access, .. } if access == Access::Read => {
                tracing::info!(%space, "the space may be read and not written");
            }
            ClientOutput::Snapshot { space, document, chunk, .. } => self.take_snapshot(space, document, &chunk)?,
            ClientOutput::Acknowledged { space, epoch, acknowledged } => {
                self.inner.acknowledge_from_thread(space, epoch, acknowledged)?;
            }
            ClientOutput::Rejected { document, position, hash, reject, .. } => {
                self.inner.reject_from_thread(document, position, hash, &reject)?;
            }
            ClientOutput::DeletionAcknowledged { document, kind } => self.note_deletion_told(document, kind)?,
            ClientOutput::DeletionRejected { document, reject } => {
                tracing::warn!(%document, %reject, "the relay does not delete the document");
            }
            ClientOutput::Seen { space, epoch, position, .. } => {
                self.inner.note_seen_from_thread(space, epoch, position)?;
            }
            ClientOutput::Presence { values, .. } => values.into_iter().for_each(|value| self.hear(value)),
            ClientOutput::Opened { documents, .. } => {
                for (document, _) in documents {
                    self.unopened.remove(&document);
                }
            }
            ClientOutput::Denied { space, code, text } => {
                tracing::warn!(%space, code = code.name(), %text, "the relay does not give the space");
                self.followed.remove(&space);
            }
            ClientOutput::Refused { document, reason, .. } => {
                tracing::warn!(%document, %reason, "a change from the relay was refused");
            }
            ClientOutput::PeerError { error } => {
                tracing::warn!(code = error.code.name(), text = %error.text, "the relay reports an error");
            }
            ClientOutput::Listed { space, documents, .. } => self.inner.note_listed(space, documents)?,
            _ => {}
        }
        Ok(())
    }

    fn take_snapshot(&mut self, space: SpaceId, document: DocumentId, chunk: &Bytes) -> Result<(), RepoError> {
        let is_here = self.inner.make_room_for_whole(document, space)?;
        let is_taken = is_here && {
            self.inner.take_whole(document, chunk)?;
            let tx = self.inner.store.read()?;
            ledger::state(tx.as_ref(), &document)?.is_some_and(|state| state.count > 0)
        };
        // One that is not wanted here is as good as taken.
        self.session.handle_snapshot_taken(document, is_taken || !is_here);
        Ok(())
    }
}
