//! A ledger with a snapshot on our side, Automerge's own sync on the other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use automerge::sync::{self, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, AutomergeError, ROOT};

use super::*;
use crate::ledger::{Appender, base};
use crate::store::{MemoryStore, Store, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

/// Our side: a store and one conversation.
struct Ours {
    store: MemoryStore,
    conversation: Conversation,
    /// How many changes came from the peer that were here already.
    echoes: usize,
    refused: Vec<Rule>,
    documents: Vec<WholeDocument>,
}

/// The other side, and what passed on the wire.
struct Theirs {
    automerge: Automerge,
    state: sync::State,
    /// Of each message that went to them: how it is cut, and how many chunks it holds.
    received: Vec<(Version, usize)>,
}

fn edited(mut document: Automerge, from: i64, to: i64) -> Automerge {
    for value in from..to {
        document.transact::<_, _, AutomergeError>(|tx| tx.put(ROOT, "k", value)).unwrap();
    }
    document
}

impl Ours {
    fn new(policy: WholeDocuments) -> Self {
        let mut conversation = Conversation::new(DOCUMENT, Vec::new());
        conversation.set_whole_documents(policy);
        Self { store: MemoryStore::new(), conversation, echoes: 0, refused: Vec::new(), documents: Vec::new() }
    }

    /// Takes in what a document holds.
    fn with(self, document: &Automerge) -> Self {
        let changes = document.get_changes(&[]);
        self.append(changes.iter().map(|change| CheckedChange::parse(change.raw_bytes()).unwrap()).collect());
        self
    }

    fn with_snapshot(self, document: &Automerge) -> Self {
        let count = document.get_changes(&[]).len() as u64;
        let put = |tx: &mut dyn crate::store::WriteTx| {
            snapshot::put(tx, &DOCUMENT, count, &document.get_heads(), &document.save())
        };
        assert!(self.store.write_with(put).unwrap());
        self
    }

    fn append(&self, changes: Vec<CheckedChange>) -> Vec<(CheckedChange, Appended)> {
        let work = |tx: &mut dyn crate::store::WriteTx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            let results = changes.into_iter().map(|change| {
                let appended = appender.append(tx, &change)?;
                Ok((change, appended))
            });
            let results = results.collect::<Result<Vec<_>, StoreError>>()?;
            appender.finish(tx)?;
            Ok(results)
        };
        self.store.write_with(work).unwrap()
    }

    fn receive(&mut self, message: sync::Message) {
        let message = SyncMessage::decode(&Bytes::from(message.encode())).unwrap();
        let (changes, errors) = self.conversation.handle_message(message);
        self.refused.extend(errors.iter().map(GateError::rule));
        let document = self.conversation.take_document(self.store.read().unwrap().as_ref()).unwrap();
        self.documents.extend(document);
        let results = self.append(changes);
        self.echoes += results.iter().filter(|(_, appended)| *appended == Appended::Duplicate).count();
        self.conversation.handle_appended(results);
    }

    fn poll(&mut self) -> Option<SyncMessage> {
        let tx = self.store.read().unwrap();
        self.conversation.poll_message(tx.as_ref()).unwrap().map(|outgoing| outgoing.message)
    }

    fn heads(&self) -> Vec<ChangeHash> {
        ledger::heads(self.store.read().unwrap().as_ref(), &DOCUMENT).unwrap()
    }
}

impl Theirs {
    fn new(automerge: Automerge) -> Self {
        let automerge = automerge.with_actor(ActorId::from([9; 16]));
        Self { automerge, state: sync::State::new(), received: Vec::new() }
    }

    fn receive(&mut self, message: &SyncMessage) {
        let chunks = message.changes.iter().map(|bytes| crate::gate::chunks(bytes).count()).sum();
        self.received.push((message.version, chunks));
        let message = sync::Message::decode(&message.encode()).unwrap();
        self.automerge.receive_sync_message(&mut self.state, message).unwrap();
    }
}

/// Lets both talk until neither has anything to say.
fn converge(ours: &mut Ours, theirs: &mut Theirs) {
    for _ in 0..100 {
        let mut silent = true;
        // Once an event, as automerge-repo does: one that begins afresh would say so for ever.
        if let Some(message) = theirs.automerge.generate_sync_message(&mut theirs.state) {
            ours.receive(message);
            silent = false;
        }
        let tx = ours.store.read().unwrap();
        while let Some(outgoing) = ours.conversation.poll_message(tx.as_ref()).unwrap() {
            theirs.receive(&outgoing.message);
            silent = false;
        }
        if silent {
            return;
        }
    }
    panic!("they talk for ever");
}

#[test]
fn fresh_peer_gets_the_snapshot_and_then_the_tail() {
    let old = edited(Automerge::new(), 0, 50);
    let new = edited(old.fork(), 50, 60);
    let mut ours = Ours::new(WholeDocuments::Refused).with(&new).with_snapshot(&old);
    let mut theirs = Theirs::new(Automerge::new());
    converge(&mut ours, &mut theirs);
    assert_eq!(theirs.automerge.get_heads(), ours.heads());
    assert_eq!(theirs.received[..2], [(Version::V2, 1), (Version::V1, 10)]);
    assert!(theirs.received[2..].iter().all(|(_, chunks)| *chunks == 0), "{:?}", theirs.received);
    assert_eq!((ours.echoes, ours.refused.len()), (0, 0));

    // And from now on, both ways, single changes.
    theirs.automerge = edited(theirs.automerge, 60, 61);
    converge(&mut ours, &mut theirs);
    assert_eq!(theirs.automerge.get_heads(), ours.heads());
    assert_eq!((ours.echoes, ours.refused.len()), (0, 0));
}

#[test]
fn peer_that_has_something_or_does_not_read_documents_gets_changes() {
    let old = edited(Automerge::new(), 0, 50);
    let mut ours = Ours::new(WholeDocuments::Refused).with(&old).with_snapshot(&old);
    let mut theirs = Theirs::new(edited(Automerge::new(), 7, 8));
    converge(&mut ours, &mut theirs);
    assert_eq!(theirs.automerge.get_heads(), ours.heads());
    assert!(theirs.received.iter().all(|(version, _)| *version == Version::V1));

    let ours = Ours::new(WholeDocuments::Refused).with(&old).with_snapshot(&old);
    let tx = ours.store.read().unwrap();
    let mut conversation = Conversation::new(DOCUMENT, Vec::new());
    let empty = SyncMessage { have: vec![Have::default()], ..SyncMessage::default() };
    conversation.handle_message(empty);
    let sent = conversation.poll_message(tx.as_ref()).unwrap().unwrap().message;
    assert_eq!((sent.version, sent.changes.len()), (Version::V1, 50));
}

#[test]
fn snapshot_goes_out_once_and_a_peer_that_took_nothing_from_it_gets_changes() {
    let old = edited(Automerge::new(), 0, 50);
    let ours = Ours::new(WholeDocuments::Refused).with(&old).with_snapshot(&old);
    let tx = ours.store.read().unwrap();
    let mut conversation = Conversation::new(DOCUMENT, Vec::new());
    let empty = || SyncMessage { have: vec![Have::default()], flags: Some(Flags::default()), ..SyncMessage::default() };
    let mut sent = Vec::new();
    for _ in 0..2 {
        conversation.handle_message(empty());
        let message = conversation.poll_message(tx.as_ref()).unwrap().unwrap().message;
        sent.push((message.version, message.changes.len()));
    }
    assert_eq!(sent, [(Version::V2, 1), (Version::V1, 50)]);
}

#[test]
fn empty_document_is_passed_over_and_others_come_only_to_who_takes_them() {
    let full = edited(Automerge::new(), 0, 3);
    let v2 = |document: &Automerge| SyncMessage {
        version: Version::V2,
        heads: document.get_heads(),
        changes: vec![Bytes::from(document.save())],
        ..SyncMessage::default()
    };
    for (policy, taken) in [(WholeDocuments::Refused, 0), (WholeDocuments::Taken, 1)] {
        let mut conversation = Conversation::new(DOCUMENT, Vec::new());
        conversation.set_whole_documents(policy);
        let store = MemoryStore::new();
        let tx = store.read().unwrap();
        let (changes, errors) = conversation.handle_message(v2(&Automerge::new()));
        assert!(changes.is_empty() && errors.is_empty());
        assert_eq!(conversation.take_document(tx.as_ref()).unwrap(), None);
        let (_, errors) = conversation.handle_message(v2(&full));
        assert_eq!(errors.len(), 1 - taken);
        let document = conversation.take_document(tx.as_ref()).unwrap();
        assert_eq!(document.map(|whole| whole.heads), (taken == 1).then(|| full.get_heads()));
        // What is known already is not taken apart again.
        let ours = Ours::new(policy).with(&full);
        conversation.handle_message(v2(&full));
        assert_eq!(conversation.take_document(ours.store.read().unwrap().as_ref()).unwrap(), None);
    }
}

#[test]
fn who_asks_for_documents_gets_one_from_an_automerge_peer() {
    let full = edited(Automerge::new(), 0, 30);
    for (policy, documents) in [(WholeDocuments::AskedFor, 1), (WholeDocuments::Taken, 0)] {
        let mut ours = Ours::new(policy);
        let first = ours.conversation.poll_message(ours.store.read().unwrap().as_ref()).unwrap().unwrap();
        let mut theirs = Theirs::new(full.clone());
        theirs.receive(&first.message);
        let answer = theirs.automerge.generate_sync_message(&mut theirs.state).unwrap();
        ours.receive(answer);
        assert_eq!(ours.documents.len(), documents);
        if let Some(whole) = ours.documents.first() {
            assert_eq!(whole.heads, full.get_heads());
            ours = ours.with(&full);
        }
        converge(&mut ours, &mut theirs);
        assert_eq!(ours.heads(), full.get_heads());
    }
}

#[test]
fn fresh_peer_does_not_send_back_what_it_gets_as_changes() {
    let full = edited(Automerge::new(), 0, 30);
    let mut ours = Ours::new(WholeDocuments::Refused).with(&full);
    let mut theirs = Theirs::new(Automerge::new());
    converge(&mut ours, &mut theirs);
    assert_eq!(theirs.automerge.get_heads(), ours.heads());
    // Nor later, what others make.
    let mut ours = ours.with(&edited(full, 30, 33));
    converge(&mut ours, &mut theirs);
    assert_eq!(theirs.automerge.get_heads(), ours.heads());
    assert_eq!(ours.echoes, 0);
}

#[test]
fn two_of_us_exchange_a_snapshot_if_the_fresh_one_asks_for_it() {
    let old = edited(Automerge::new(), 0, 50);
    let new = edited(old.clone(), 50, 60);
    for (policy, versions) in [
        (WholeDocuments::AskedFor, vec![(Version::V2, 1), (Version::V1, 10)]),
        (WholeDocuments::Taken, vec![(Version::V1, 60)]),
    ] {
        let mut has = Ours::new(WholeDocuments::Refused).with(&new).with_snapshot(&old);
        let mut fresh = Ours::new(policy);
        let mut sent = Vec::new();
        for _ in 0..10 {
            while let Some(outgoing) = fresh.poll() {
                has.receive(sync::Message::decode(&outgoing.encode()).unwrap());
            }
            while let Some(message) = has.poll() {
                sent.push((message.version, message.changes.len()));
                fresh.receive(sync::Message::decode(&message.encode()).unwrap());
                if let Some(whole) = fresh.documents.pop() {
                    assert_eq!(whole.heads, old.get_heads());
                    fresh = fresh.with(&Automerge::load(&whole.chunk).unwrap());
                }
            }
        }
        assert_eq!(fresh.heads(), new.get_heads());
        sent.retain(|(_, changes)| *changes > 0);
        assert_eq!((sent, has.echoes), (versions, 0));
    }
}

#[test]
fn peer_that_lost_a_message_gets_its_changes_again() {
    let full = edited(Automerge::new(), 0, 10);
    let mut ours = Ours::new(WholeDocuments::Refused).with(&full);
    let mut theirs = Theirs::new(Automerge::new());
    converge(&mut ours, &mut theirs);
    for (from, to) in [(10, 12), (14, 16)] {
        let lost = edited(full.fork(), from, to);
        let mut ours_now = ours.with(&lost);
        // Taken for delivered, and never was.
        assert!(!ours_now.poll().unwrap().changes.is_empty());
        ours = ours_now.with(&edited(lost, to, to + 2));
        converge(&mut ours, &mut theirs);
        assert_eq!(theirs.automerge.get_heads(), ours.heads());
    }
}

#[test]
fn peer_that_never_takes_anything_is_not_sent_everything_for_ever() {
    let full = edited(Automerge::new(), 0, 30);
    let mut ours = Ours::new(WholeDocuments::Refused).with(&full);
    let stuck = SyncMessage {
        heads: vec![full.get_changes(&[])[0].hash()],
        have: vec![Have::default()],
        flags: Some(Flags::default()),
        ..SyncMessage::default()
    };
    let mut sent = 0;
    for _ in 0..20 {
        ours.receive(sync::Message::decode(&stuck.encode()).unwrap());
        sent += ours.poll().map_or(0, |message| message.changes.len());
    }
    assert!((29..=29 * 5).contains(&sent), "{sent}");
}

#[test]
fn peer_that_asks_by_name_for_what_it_was_sent_gets_all_that_it_lacks() {
    let full = edited(Automerge::new(), 0, 30);
    let changes = full.get_changes(&[]);
    let mut ours = Ours::new(WholeDocuments::Refused).with(&full);
    let had_no_room = SyncMessage { heads: vec![changes[9].hash()], need: full.get_heads(), ..SyncMessage::default() };
    let sent = (0..=SYNC_RESETS_MAX + 2).map(|_| {
        ours.receive(sync::Message::decode(&had_no_room.encode()).unwrap());
        ours.poll().map_or(0, |message| message.changes.len())
    });
    // The first time it was not sent anything yet; and not for ever, if it never takes it.
    let mut expected = vec![20; SYNC_RESETS_MAX as usize + 1];
    expected.extend([1, 1]);
    assert_eq!(sent.collect::<Vec<_>>(), expected);
}

#[test]
fn what_comes_while_the_history_is_folded_waits_in_silence_until_it_is_unfolded() {
    let old = edited(Automerge::new(), 0, 20);
    let new = edited(old.clone(), 20, 30);
    let has = Ours::new(WholeDocuments::Refused).with(&old);
    let mut fresh = Ours::new(WholeDocuments::AskedFor);
    let changes = old.get_changes(&[]);
    let history = base::FoldedHistory::of(&old.get_heads(), || {
        changes.iter().map(|change| base::FoldedChange {
            hash: change.hash(),
            deps: change.deps(),
            actor: change.actor_id(),
            seq: change.seq(),
            start_op: change.start_op().get(),
            max_op: change.max_op(),
        })
    });
    let history = history.unwrap();
    fresh.store.write_with(|tx| base::install(tx, &DOCUMENT, &history)).unwrap().unwrap();
    assert_eq!(fresh.heads(), old.get_heads());
    let tail = SyncMessage {
        heads: new.get_heads(),
        changes: new
            .get_changes(&old.get_heads())
            .iter()
            .map(|change| Bytes::from(change.raw_bytes().to_vec()))
            .collect(),
        ..SyncMessage::default()
    };
    fresh.receive(sync::Message::decode(&tail.encode()).unwrap());
    assert_eq!(fresh.poll(), None);
    assert_eq!(fresh.heads(), old.get_heads());

    let unfolded = has.store.read().unwrap();
    fresh.store.write_with(|tx| base::unfold(tx, &DOCUMENT, unfolded.as_ref())).unwrap().unwrap();
    let waiting = fresh.conversation.handle_unfolded();
    assert_eq!(waiting.len(), 10);
    let results = fresh.append(waiting);
    assert!(fresh.conversation.handle_appended(results).is_empty());
    assert_eq!(fresh.heads(), new.get_heads());
    assert_eq!(fresh.poll().unwrap().heads, new.get_heads());
}
