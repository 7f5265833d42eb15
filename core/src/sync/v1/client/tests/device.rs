//! A device in memory: a store, and a driver that carries out what a session says at once.

use super::super::*;
use crate::engine::{self, Origin};
use crate::gate::encode;
use crate::gate::tests::field_draft;
use crate::ledger::receipts::{Acknowledged, Relayed};
use crate::ledger::{self, cursor, outbox, receipts, spaces, tombstone};
use crate::store::{MemoryStore, Store, StoreExt, WriteTx};

pub(super) const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
pub(super) const EPOCH: Epoch = Epoch::from_bytes([0xa1; 16]);
pub(super) const RELAY: StorageId = StorageId::from_bytes([0x11; 16]);

pub(super) fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

/// A store, and what its sessions said that a test may want to look at.
pub(super) struct Device {
    pub(super) store: MemoryStore,
    pub(super) actor: [u8; 16],
    pub(super) storage: StorageId,
    pub(super) sent: Vec<ClientMessage>,
    /// Everything but messages and what was applied.
    pub(super) said: Vec<ClientOutput>,
    pub(super) deliveries: Vec<Delivery>,
}

impl Device {
    pub(super) fn new(number: u8) -> Self {
        Self {
            store: MemoryStore::new(),
            actor: [number; 16],
            storage: StorageId::from_bytes([number; 16]),
            sent: Vec::new(),
            said: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    pub(super) fn connect(&self) -> ClientSession {
        ClientSession::new(ClientIdentity {
            peer: PeerId::new(format!("device {}", self.actor[0])).unwrap(),
            storage: Some(self.storage),
            token: Token::default(),
            takes_snapshots: true,
        })
    }

    /// Writes a change on top of what is here of a document.
    pub(super) fn write(&self, document: DocumentId) -> CheckedChange {
        self.store
            .write_with(|tx| {
                spaces::put(tx, &document, &TEAM)?;
                let state = ledger::state(tx, &document)?.unwrap_or_default();
                let seq = ledger::last_seq(tx, &document, &automerge::ActorId::from(&self.actor[..]))? + 1;
                let draft = field_draft(&self.actor, seq, state.max_op + 1, state.head_hashes());
                let change = encode(&draft).unwrap();
                assert_eq!(engine::accept(tx, document, vec![change.clone()], Origin::Local)?.stored, 1);
                Ok(change)
            })
            .unwrap()
    }

    pub(super) fn bury(&self, document: DocumentId) {
        let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 5, by: "me".to_owned() };
        self.store
            .write_with(|tx| {
                // One that was never here would be told in the default space, which none of these tests follows.
                spaces::put(tx, &document, &TEAM)?;
                tombstone::bury(tx, &document, &tombstone)?;
                tombstone::wait(tx, &document)
            })
            .unwrap();
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        cursor::get(&*self.store.read().unwrap(), &RELAY, &TEAM).unwrap()
    }

    pub(super) fn start(&self) -> Start {
        match self.cursor() {
            Some(Cursor { epoch, position }) => Start::Cursor { epoch, position },
            None => Start::Compare,
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        outbox::count(&*self.store.read().unwrap()).unwrap()
    }

    pub(super) fn hear(&mut self, session: &mut ClientSession, message: &RelayMessage) {
        session.handle_frame(&message.encode(), &*self.store.read().unwrap()).unwrap();
        self.carry_out(session);
    }

    /// Does everything that the session says, and takes every message that it has.
    pub(super) fn carry_out(&mut self, session: &mut ClientSession) {
        loop {
            while let Some(output) = session.poll_output() {
                self.carry_out_one(session, output);
            }
            match session.poll_transmit(&*self.store.read().unwrap()).unwrap() {
                Some(message) => self.sent.push(ClientMessage::decode(&message).unwrap()),
                None if session.outputs.is_empty() => return,
                None => {}
            }
        }
    }

    pub(super) fn carry_out_one(&mut self, session: &mut ClientSession, output: ClientOutput) {
        match output {
            ClientOutput::Send(message) => self.sent.push(ClientMessage::decode(&message).unwrap()),
            ClientOutput::Apply(delivery) => {
                self.deliveries.push(delivery.clone());
                let id = delivery.id;
                let applied = self.store.write_with(|tx| apply(tx, delivery)).unwrap();
                session.handle_applied(id, applied, &*self.store.read().unwrap()).unwrap();
            }
            ClientOutput::Acknowledged { epoch, ref acknowledged, .. } => {
                let acknowledge = |tx: &mut dyn WriteTx| {
                    for (document, some) in acknowledged {
                        let found = Relayed::find(tx, document, some)?;
                        receipts::acknowledge(tx, document, &epoch, &found)?;
                    }
                    Ok(())
                };
                self.store.write_with(acknowledge).unwrap();
                self.said.push(output);
            }
            ClientOutput::DeletionAcknowledged { document, kind } => {
                self.store.write_with(|tx| tombstone::acknowledge(tx, &document, kind, Some(&RELAY))).unwrap();
                self.said.push(output);
            }
            other => self.said.push(other),
        }
    }

    /// Takes what was sent since the last time.
    pub(super) fn take_sent(&mut self) -> Vec<ClientMessage> {
        std::mem::take(&mut self.sent)
    }

    /// Takes the names of what was sent since the last time.
    pub(super) fn take_names(&mut self) -> Vec<&'static str> {
        self.take_sent().iter().map(ClientMessage::name).collect()
    }

    pub(super) fn heads(&self, document: DocumentId) -> Vec<ChangeHash> {
        ledger::heads(&*self.store.read().unwrap(), &document).unwrap()
    }

    pub(super) fn close_code(&self) -> Option<u16> {
        self.said.iter().find_map(|said| match said {
            ClientOutput::Close { code, .. } => Some(*code),
            _ => None,
        })
    }
}

/// Applies a delivery as a driver does.
fn apply(tx: &mut dyn WriteTx, delivery: Delivery) -> Result<Applied, StoreError> {
    let mut applied = Applied::default();
    for (document, hash, log_position) in &delivery.own {
        // The document may have been deleted since.
        let Some(position) = ledger::position(tx, document, hash)? else { continue };
        let one = Acknowledged { position, log_position: *log_position };
        let epoch = delivery.cursor.map_or(EPOCH, |cursor| cursor.epoch);
        receipts::acknowledge(tx, document, &epoch, &[one])?;
    }
    for (document, changes) in delivery.changes {
        spaces::put(tx, &document, &delivery.space)?;
        applied.results.push((document, engine::accept(tx, document, changes, Origin::Remote)?.results));
    }
    for (document, tombstone) in &delivery.deletions {
        tombstone::bury(tx, document, tombstone)?;
        tombstone::acknowledge(tx, document, tombstone.kind, Some(&RELAY))?;
    }
    if let Some(cursor) = &delivery.cursor {
        cursor::put(tx, &RELAY, &delivery.space, cursor)?;
    }
    Ok(applied)
}

pub(super) fn welcome(credit: u64) -> RelayMessage {
    RelayMessage::Welcome(Welcome {
        version: VERSION,
        storage: RELAY,
        epoch: EPOCH,
        limits: crate::codec::v1::Limits {
            frame_bytes: 1 << 24,
            change_bytes: 1 << 23,
            batch_entries: 1 << 14,
            presence_bytes: 1 << 20,
        },
        credit,
        permit_seconds: 0,
    })
}

pub(super) fn subscribed(is_compared: bool, after: u64, end: u64) -> RelayMessage {
    RelayMessage::Subscribed {
        space: TEAM,
        access: Access::Write,
        is_compared,
        after,
        end,
        documents: 1,
        bytes: end - after,
    }
}
