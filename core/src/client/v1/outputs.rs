//! Carrying out what the session says.

use super::{
    Access, Applying, Bytes, ClientOutput, DocumentId, Driver, Ephemeral, Mode, Outgoing, Permit, Presence, RepoError,
    SpaceId, Start, ledger,
};
use crate::ChangeHash;
use crate::codec::v1::{Code, Reject};
use crate::engine::{Origin, Reused};
use crate::ledger::spaces;
use crate::repo::SpaceRights;

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
                self.inner.note_snapshot_refused(self.session.is_snapshot_refused());
                self.send(Outgoing::Close { code, reason, told: self.told });
                self.ended = true;
            }
            ClientOutput::Welcomed { relay, epoch } => {
                self.relay = Some((relay, epoch));
                self.inner.note_relay(relay)?;
                self.inner.note_epoch(relay, epoch)?;
                self.session.subscribe(SpaceId::DEFAULT, Mode::Chosen, Start::Beginning);
                self.to_open.insert(SpaceId::DEFAULT);
                self.follow()?;
                self.inner.presences.renew_all();
            }
            ClientOutput::Subscribed { space, access, .. } => {
                if access == Access::Read {
                    tracing::info!(space = %space.label(), "the space may be read and not written");
                }
                self.denied.remove(&space);
                self.inner.note_rights(space, SpaceRights::Given(access));
            }
            ClientOutput::Permitted { seconds } => drop(self.permit.send_replace(Permit::lasting(seconds))),
            ClientOutput::RenewalRefused { text } => {
                tracing::warn!(%text, "the relay does not take the new token: the one before is good until its end");
            }
            ClientOutput::Snapshot { space, document, chunk, .. } => self.take_snapshot(space, document, &chunk)?,
            ClientOutput::Acknowledged { epoch, acknowledged, .. } => {
                let note = self.inner.note_acknowledged(epoch, acknowledged)?;
                self.notes.keep(note);
            }
            // What stands on a refused change is set aside with it.
            ClientOutput::Rejected { stands_on: Some(_), .. } => {}
            ClientOutput::Rejected { document, hash, reject, .. } => self.rejected(document, hash, &reject)?,
            ClientOutput::DeletionAcknowledged { document, kind } => {
                let relay = self.relay.map(|(relay, _)| relay);
                let note = self.inner.note_deletion_told(document, kind, relay)?;
                self.notes.keep(note);
            }
            ClientOutput::DeletionRejected { document, reject } => {
                tracing::warn!(document = %document.label(), code = reject.code.name(), "the relay does not delete the document");
                if reject.code.puts_off() {
                    self.put_off_deletions.insert(document);
                }
            }
            ClientOutput::Seen { space, epoch, position, .. } => {
                let note = self.inner.note_seen(epoch, space, position)?;
                note.into_iter().for_each(|note| self.notes.keep(note));
            }
            ClientOutput::Presence { space, values } => self.hear(space, values)?,
            ClientOutput::Opened { documents, .. } => {
                for (document, _) in documents {
                    self.unopened.remove(&document);
                }
            }
            ClientOutput::Denied { space, code, text } => {
                tracing::warn!(space = %space.label(), code = code.name(), %text, "the relay does not give the space");
                self.denied.insert(space);
                self.unopened.retain(|_, of| *of != space);
                if matches!(code, Code::Forbidden | Code::SpaceUnknown) {
                    self.inner.note_rights(space, SpaceRights::Denied);
                }
            }
            ClientOutput::Refused { document, reason, .. } => {
                tracing::warn!(document = %document.label(), %reason, "a change from the relay was refused");
            }
            ClientOutput::PeerError { error } => {
                self.told = error.is_fatal.then_some(error.code);
                tracing::warn!(code = error.code.name(), text = %error.text, "the relay reports an error");
            }
            ClientOutput::Listed { space, documents, .. } => self.inner.note_listed(space, documents)?,
            _ => {}
        }
        Ok(())
    }

    /// A relay refused a change of ours.
    fn rejected(&mut self, document: DocumentId, hash: ChangeHash, reject: &Reject) -> Result<(), RepoError> {
        match reject.code {
            code if code.puts_off() => drop(self.put_off.insert(document)),
            Code::ActorReused | Code::ActorOwned => {
                match self.inner.replay_under_fresh_actor(document, Reused::Refused(hash)) {
                    Ok(count) if count > 0 => {
                        tracing::warn!(document = %document.label(), count, "an actor of ours is somebody else's: our changes were written again");
                        self.session.handle_retry(document);
                    }
                    Ok(_) => {}
                    Err(RepoError::TakeOut { .. }) => self.note_rejected(document, hash, reject)?,
                    Err(error) => return Err(error),
                }
            }
            _ => self.note_rejected(document, hash, reject)?,
        }
        Ok(())
    }

    fn note_rejected(&mut self, document: DocumentId, hash: ChangeHash, reject: &Reject) -> Result<(), RepoError> {
        tracing::warn!(document = %document.label(), code = reject.code.name(), "the relay refused a change that was made here");
        let note = self.inner.note_rejected(document, hash, reject.code.number(), &reject.text)?;
        self.notes.keep(note);
        Ok(())
    }

    fn take_snapshot(&mut self, space: SpaceId, document: DocumentId, chunk: &Bytes) -> Result<(), RepoError> {
        let is_wanted = self.inner.make_room_for_whole(document, space)?;
        let is_taken = is_wanted && { self.inner.take_whole(document, chunk)?.is_some() };
        // One that is not wanted here is as good as taken.
        self.session.handle_snapshot_taken(document, is_taken || !is_wanted);
        Ok(())
    }

    /// Takes in what others show. What is about a document that is not here, or in another space, is not theirs to say here.
    fn hear(&self, space: SpaceId, values: Vec<Presence>) -> Result<(), RepoError> {
        let tx = self.inner.store.read()?;
        let mut heard = Vec::with_capacity(values.len());
        for value in values {
            let Presence { author, document, key, sequence, ttl_ms, data } = value;
            let is_here = ledger::state(tx.as_ref(), &document)?.is_some();
            if is_here && spaces::of(tx.as_ref(), &document)? == space {
                let origin = Origin::Remote;
                heard.push(Ephemeral { document, sender: author, data, count: sequence, origin, key, ttl_ms });
            }
        }
        drop(tx);
        self.inner.presences.hear(heard);
        Ok(())
    }
}
