//! Which frames take long to make: whoever drives many sessions makes those beside the others.

use bytes::Bytes;

use super::{ClassicSession, RecentChanges};
use crate::store::{ReadTx, StoreError};

/// What [`ClassicSession::poll_transmit_unless_long`] comes to.
#[derive(Debug)]
pub enum Polled {
    /// The next frame.
    Frame(Bytes),
    /// There is nothing to send.
    Nothing,
    /// The next frame takes long to make: [`ClassicSession::poll_transmit_from`] makes it.
    Long,
}

impl ClassicSession {
    /// Does what [`ClassicSession::poll_transmit_from`] does, but for a frame that needs a filter over a long history: some 50 ms and
    /// 400 kB for 300,000 changes. One does where the peer shows what is not here, or nothing yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub fn poll_transmit_unless_long(
        &mut self,
        recent: &dyn RecentChanges,
        tx: &dyn ReadTx,
    ) -> Result<Polled, StoreError> {
        self.poll(recent, tx, true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use automerge::ChangeHash;

    use super::*;
    use crate::codec::classic::Frame;
    use crate::codec::sync_message::{SyncMessage, Version};
    use crate::gate::encode;
    use crate::gate::tests::field_draft;
    use crate::id::{DocumentId, PeerId};
    use crate::ledger::Appender;
    use crate::limits::LONG_HISTORY_CHANGES;
    use crate::store::{MemoryStore, Store, StoreExt};
    use crate::sync::classic::{Identity, Role};

    const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

    /// Says whether the answer to a peer that shows these heads is long, of a document of so many changes; `known` adds its last head.
    fn is_answer_long(length: u64, shown: &[ChangeHash], known: bool) -> bool {
        let store = MemoryStore::new();
        let mut heads = shown.to_vec();
        store
            .write_with(|tx| {
                let mut appender = Appender::begin(tx, DOCUMENT)?;
                for seq in 1..=length {
                    let deps = appender.state().head_hashes();
                    appender.append_own(tx, &encode(&field_draft(b"alice", seq, seq, deps)).unwrap())?;
                }
                if known {
                    heads.extend(appender.state().head_hashes());
                }
                appender.finish(tx).map(drop)
            })
            .unwrap();
        let name = |name: &str| PeerId::new(name).unwrap();
        let mut session = ClassicSession::new(Role::Server, Identity { peer: name("us"), storage: None, epoch: None });
        let join =
            Frame::Join { sender_id: name("peer"), metadata: Default::default(), versions: vec!["1".to_owned()] };
        let (need, have, changes) = (Vec::new(), Vec::new(), Vec::new());
        let message = SyncMessage { version: Version::V1, heads, need, have, changes, flags: Default::default() };
        let sync = Frame::Sync {
            sender_id: name("peer"),
            target_id: name("us"),
            document: DOCUMENT,
            data: message.encode().into(),
        };
        let tx = store.read().unwrap();
        session.handle_frame(&join.encode(), &*tx).unwrap();
        let is_long = |session: &mut ClassicSession| {
            matches!(session.poll_transmit_unless_long(&(), &*tx).unwrap(), Polled::Long)
        };
        assert!(!is_long(&mut session), "nothing was asked");
        session.handle_frame(&sync.encode(), &*tx).unwrap();
        let was_long = is_long(&mut session);
        // It stays so until it is made, which it is once.
        assert!(!was_long || is_long(&mut session));
        assert_eq!(session.poll_transmit(&*tx).unwrap().is_some(), was_long);
        assert!(session.poll_transmit(&*tx).unwrap().is_none());
        was_long
    }

    #[test]
    fn answer_is_long_where_a_long_history_is_compared_with_what_is_not_here() {
        let unknown = [ChangeHash([9; 32])];
        assert!(is_answer_long(LONG_HISTORY_CHANGES, &unknown, false));
        assert!(is_answer_long(LONG_HISTORY_CHANGES, &unknown, true));
        assert!(!is_answer_long(LONG_HISTORY_CHANGES, &[], true), "what lacks is known without a filter");
        assert!(!is_answer_long(LONG_HISTORY_CHANGES - 1, &unknown, false));
    }
}
