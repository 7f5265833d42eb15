#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::ActorId;
use crate::codec::classic::Frame;
use crate::deletion::{DeletionKind, Tombstone};
use crate::gate::encode;
use crate::gate::tests::field_draft;
use crate::id::PeerId;
use crate::ledger::{Appended, Appender, tombstone};
use crate::store::{MemoryStore, Store, StoreExt};
use crate::sync::classic::{Identity, Role};

const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);
/// More frames than any of these talks needs.
const FRAMES_MAX: usize = 30;

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

/// What may be done in the space, and with document 1.
#[derive(Clone, Default)]
struct Granted(Arc<Mutex<(Option<Access>, Option<Access>)>>);

impl Granted {
    fn set(&self, space: Option<Access>, first: Option<Access>) {
        *self.0.lock().unwrap() = (space, first);
    }
}

impl Grants for Granted {
    fn access(&self, space: &SpaceId) -> Option<Access> {
        self.0.lock().unwrap().0.filter(|_| *space == TEAM)
    }

    fn document(&self, space: &SpaceId, of: &DocumentId) -> Option<Access> {
        self.access(space).max(self.0.lock().unwrap().1.filter(|_| *of == document(1)))
    }
}

struct Side {
    store: MemoryStore,
    session: ClassicSession,
    said: Vec<String>,
    frames: Vec<Bytes>,
}

impl Side {
    fn new(role: Role, name: &str) -> Self {
        let identity = Identity { peer: PeerId::new(name).unwrap(), storage: None, epoch: None };
        let session = ClassicSession::new(role, identity);
        Self { store: MemoryStore::new(), session, said: Vec::new(), frames: Vec::new() }
    }

    fn write(&mut self, number: u8, actor: &[u8]) {
        let document = document(number);
        self.store
            .write_with(|tx| {
                spaces::put(tx, &document, &TEAM)?;
                let mut appender = Appender::begin(tx, document)?;
                let seq = appender.last_of(tx, &ActorId::from(actor))?.map_or(0, |last| last.seq) + 1;
                let state = appender.state();
                let change = encode(&field_draft(actor, seq, state.max_op + 1, state.head_hashes())).unwrap();
                assert!(matches!(appender.append(tx, &change)?, Appended::Stored { .. }));
                appender.finish(tx)
            })
            .unwrap();
        self.session.handle_heads_changed(document);
    }

    fn count(&self, number: u8) -> u64 {
        ledger::state(&*self.store.read().unwrap(), &document(number)).unwrap().map_or(0, |state| state.count)
    }

    fn open(&mut self, number: u8) {
        self.session.open(document(number), Vec::new(), &*self.store.read().unwrap()).unwrap();
    }

    /// Does what the session says and returns the frames that it has for the other side.
    fn speak(&mut self) -> Vec<Bytes> {
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Send(frame) => self.frames.push(frame),
                    Output::Append { document, changes } => self.append(document, changes),
                    Output::Forbidden { is_deletion, .. } => self.said.push(format!("forbidden {is_deletion}")),
                    Output::Delete { .. } => self.said.push("delete".to_owned()),
                    Output::Unavailable { .. } => self.said.push("unavailable".to_owned()),
                    Output::Ephemeral { .. } => self.said.push("ephemeral".to_owned()),
                    Output::Close { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
            let Some(frame) = self.session.poll_transmit(&*self.store.read().unwrap()).unwrap() else { break };
            self.frames.push(frame);
        }
        std::mem::take(&mut self.frames)
    }

    fn append(&mut self, document: DocumentId, changes: Vec<crate::gate::CheckedChange>) {
        let appended = self.store.write_with(|tx| {
            let mut appender = Appender::begin(tx, document)?;
            let mut results = Vec::new();
            for change in changes.clone() {
                let appended = appender.append(tx, &change)?;
                results.push((change, appended));
            }
            appender.finish(tx)?;
            Ok(results)
        });
        self.session.handle_appended(document, appended.unwrap(), &*self.store.read().unwrap()).unwrap();
    }

    fn hear(&mut self, frame: &Bytes) {
        self.session.handle_frame(frame, &*self.store.read().unwrap()).unwrap();
    }
}

/// Lets both talk until neither has anything to say; returns what the server said.
fn talk(client: &mut Side, server: &mut Side) -> Vec<Bytes> {
    let mut heard = Vec::new();
    loop {
        let (ours, theirs) = (client.speak(), server.speak());
        if ours.is_empty() && theirs.is_empty() {
            return heard;
        }
        ours.iter().for_each(|frame| server.hear(frame));
        theirs.iter().for_each(|frame| client.hear(frame));
        heard.extend(theirs);
        assert!(heard.len() < FRAMES_MAX, "they talk for ever");
    }
}

/// A client and a server that have met. The server has two changes of documents 1 and 2.
fn pair(granted: &Granted) -> (Side, Side) {
    let (mut client, mut server) = (Side::new(Role::Client, "alice"), Side::new(Role::Server, "relay"));
    server.session.set_rights(Box::new(granted.clone()));
    for number in [1, 1, 2, 2] {
        server.write(number, b"bob");
    }
    talk(&mut client, &mut server);
    (client, server)
}

#[test]
fn reader_gets_all_and_what_it_writes_is_dropped_without_an_endless_talk() {
    let granted = Granted::default();
    granted.set(Some(Access::Read), None);
    let (mut client, mut server) = pair(&granted);
    client.open(1);
    talk(&mut client, &mut server);
    for _ in 0..3 {
        client.write(1, b"alice");
        talk(&mut client, &mut server);
    }
    assert_eq!((client.count(1), server.count(1)), (5, 2));
    assert_eq!(server.said, ["forbidden false"]);
    server.write(1, b"bob");
    talk(&mut client, &mut server);
    assert_eq!((client.count(1), server.count(1)), (6, 3));
    // Who may write from now on is asked for what is lacking.
    granted.set(None, Some(Access::Write));
    client.write(1, b"alice");
    talk(&mut client, &mut server);
    assert_eq!((client.count(1), server.count(1)), (7, 7));
    assert_eq!(server.said.len(), 1);
}

#[test]
fn forbidden_and_missing_documents_are_answered_by_the_same_bytes() {
    let granted = Granted::default();
    granted.set(None, Some(Access::Admin));
    let answers = |number: u8, has_some: bool| {
        let (mut client, mut server) = pair(&granted);
        if has_some {
            client.write(number, b"alice");
        }
        client.open(number);
        let frames = talk(&mut client, &mut server);
        assert_eq!((client.said.as_slice(), server.said.len()), (&["unavailable".to_owned()][..], 0));
        let Frame::DocUnavailable { document: of, .. } = Frame::decode(&frames[0]).unwrap() else { panic!() };
        assert_eq!((of, frames.len()), (document(number), 1));
        let text = document(number).to_string();
        let at = frames[0].windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        (frames[0][..at].to_vec(), frames[0][at + text.len()..].to_vec())
    };
    for has_some in [false, true] {
        assert_eq!(answers(2, has_some), answers(7, has_some));
    }
}

#[test]
fn right_that_is_taken_away_ends_the_talk() {
    let granted = Granted::default();
    granted.set(Some(Access::Write), None);
    let (mut client, mut server) = pair(&granted);
    client.open(1);
    talk(&mut client, &mut server);
    assert_eq!(client.count(1), 2);
    granted.set(None, None);
    server.write(1, b"bob");
    assert!(talk(&mut client, &mut server).is_empty());
    client.write(1, b"alice");
    talk(&mut client, &mut server);
    assert_eq!((client.count(1), server.count(1)), (3, 3));
    assert_eq!(client.said, ["unavailable"]);
}

#[test]
fn deletion_needs_the_space_or_the_document_itself() {
    let granted = Granted::default();
    let (mut client, mut server) = pair(&granted);
    let mut delete = |space, first| {
        granted.set(space, first);
        let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "alice".to_owned() };
        client.store.write_with(|tx| tombstone::bury(tx, &document(1), &tombstone).map(drop)).unwrap();
        client.session.tell_deleted(document(1));
        talk(&mut client, &mut server);
        server.said.pop().unwrap()
    };
    assert_eq!(delete(None, None), "forbidden true");
    assert_eq!(delete(Some(Access::Read), None), "forbidden true");
    assert_eq!(delete(None, Some(Access::Write)), "forbidden true");
    assert_eq!(delete(None, Some(Access::Admin)), "delete");
    assert_eq!(delete(Some(Access::Write), None), "delete");
}

#[test]
fn ephemeral_messages_are_said_and_heard_by_who_may_read() {
    let granted = Granted::default();
    granted.set(Some(Access::Read), None);
    let (mut client, mut server) = pair(&granted);
    client.open(1);
    talk(&mut client, &mut server);
    let mut both = || {
        for side in [&mut client, &mut server] {
            let (peer, data) = (PeerId::new("carol").unwrap(), Bytes::from_static(b"\x01"));
            side.session.send_ephemeral(document(1), &peer, "s", 1, &data, &*side.store.read().unwrap()).unwrap();
        }
        talk(&mut client, &mut server);
        (std::mem::take(&mut client.said).len(), std::mem::take(&mut server.said).len())
    };
    assert_eq!(both(), (1, 1));
    granted.set(None, None);
    assert_eq!(both(), (0, 0));
}
