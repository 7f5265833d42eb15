//! Changes that came before what they stand on, when somebody else brings that.

use super::{ClassicSession, Conversation};
use crate::id::DocumentId;
use crate::store::{ReadTx, Store, StoreError};

impl ClassicSession {
    /// Learns that others changed a document: as [`ClassicSession::handle_heads_changed`], and what came before what it stands on, and
    /// waited for that, is to be appended. Cost: a few lookups where something waits, none otherwise.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn handle_changed(&mut self, document: DocumentId, store: &dyn Store) -> Result<(), StoreError> {
        self.handle_heads_changed(document);
        if self.holds_orphans(&document) { self.release_orphans(document, &*store.read()?) } else { Ok(()) }
    }

    /// Says whether changes of a document are held that came before what they stand on.
    fn holds_orphans(&self, document: &DocumentId) -> bool {
        self.conversations.get(document).is_some_and(Conversation::holds_orphans)
    }

    /// Has those of the changes appended that are held, and whose time has come.
    fn release_orphans(&mut self, document: DocumentId, tx: &dyn ReadTx) -> Result<(), StoreError> {
        let Some(conversation) = self.conversations.get_mut(&document) else { return Ok(()) };
        let released = conversation.release_orphans(tx)?;
        if !released.is_empty() {
            self.hand_out(document, released, Vec::new(), tx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::gate::CheckedChange;
    use crate::gate::encode;
    use crate::gate::tests::field_draft;
    use crate::id::PeerId;
    use crate::ledger::Appender;
    use crate::store::{MemoryStore, StoreExt};
    use crate::sync::classic::{Identity, Output, Role};

    const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

    fn session(role: Role, name: &str) -> ClassicSession {
        ClassicSession::new(role, Identity { peer: PeerId::new(name).unwrap(), storage: None, epoch: None })
    }

    fn store(store: &MemoryStore, change: &CheckedChange) {
        let append = |tx: &mut dyn crate::store::WriteTx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            appender.append(tx, change)?;
            appender.finish(tx).map(drop)
        };
        store.write_with(append).unwrap();
    }

    /// Lets both talk. The server takes nothing of the first change's author; what else it is handed is stored, or held.
    fn talk(
        client: (&mut ClassicSession, &MemoryStore),
        server: (&mut ClassicSession, &MemoryStore),
        first: &CheckedChange,
    ) {
        for _ in 0..20 {
            while let Some(frame) = client.0.poll_transmit(&*client.1.read().unwrap()).unwrap() {
                server.0.handle_frame(&frame, &*server.1.read().unwrap()).unwrap();
            }
            work_off(client.0, server.0, server.1, None);
            work_off(server.0, client.0, server.1, Some(first));
            while let Some(frame) = server.0.poll_transmit(&*server.1.read().unwrap()).unwrap() {
                client.0.handle_frame(&frame, &*client.1.read().unwrap()).unwrap();
            }
        }
    }

    fn work_off(from: &mut ClassicSession, to: &mut ClassicSession, here: &MemoryStore, first: Option<&CheckedChange>) {
        while let Some(output) = from.poll_output() {
            match output {
                Output::Send(frame) => to.handle_frame(&frame, &*here.read().unwrap()).unwrap(),
                Output::Append { document, changes } => {
                    let (owned, others): (Vec<_>, Vec<_>) = changes
                        .into_iter()
                        .partition(|change| first.is_some_and(|first| first.hash() == change.hash()));
                    from.refuse(&document, &owned);
                    let append = |tx: &mut dyn crate::store::WriteTx| {
                        let mut appender = Appender::begin(tx, document)?;
                        let results = others.iter().map(|change| Ok((change.clone(), appender.append(tx, change)?)));
                        let results = results.collect::<Result<Vec<_>, StoreError>>()?;
                        appender.finish(tx)?;
                        Ok(results)
                    };
                    let results = here.write_with(append).unwrap();
                    from.handle_appended(document, results, &*here.read().unwrap()).unwrap();
                }
                _ => {}
            }
        }
    }

    #[test]
    fn what_waits_for_a_change_that_somebody_else_brings_is_taken_when_it_has_come() {
        let first = encode(&field_draft(b"alice", 1, 1, Vec::new())).unwrap();
        let second = encode(&field_draft(b"bob", 1, 2, vec![first.hash()])).unwrap();
        let (here, there) = (MemoryStore::new(), MemoryStore::new());
        [&first, &second].into_iter().for_each(|change| store(&here, change));
        let (mut client, mut server) = (session(Role::Client, "bob"), session(Role::Server, "relay"));
        client.open(DOCUMENT, Vec::new(), &*here.read().unwrap()).unwrap();
        client.handle_heads_changed(DOCUMENT);
        talk((&mut client, &here), (&mut server, &there), &first);
        assert!(server.holds_orphans(&DOCUMENT));
        assert!(!client.holds_orphans(&DOCUMENT));
        // Nothing has come yet.
        server.handle_changed(DOCUMENT, &there).unwrap();
        assert!(server.holds_orphans(&DOCUMENT) && server.poll_output().is_none());
        store(&there, &first);
        server.handle_changed(DOCUMENT, &there).unwrap();
        let Some(Output::Append { document, changes }) = server.poll_output() else { panic!("something to append") };
        assert_eq!((document, changes), (DOCUMENT, vec![second]));
        assert!(!server.holds_orphans(&DOCUMENT));
    }
}
