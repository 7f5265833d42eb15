//! The quick way says what the long way says, or nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ROOT};

use super::*;
use crate::codec::classic::Frame;
use crate::deletion::Tombstone;
use crate::ledger::Appender;
use crate::store::{MemoryStore, Store, StoreExt};

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

/// Commits that are kept, and nothing else.
#[derive(Default)]
struct Commits(RefCell<Vec<Arc<Recent>>>);

impl RecentChanges for Commits {
    fn since(&self, _: &DocumentId, heads: &[ChangeHash]) -> Vec<Arc<Recent>> {
        let commits = self.0.borrow();
        let start = commits.iter().position(|commit| commit.before() == heads);
        start.map_or_else(Vec::new, |start| commits[start..].to_vec())
    }
}

struct Scene {
    author: Automerge,
    store: MemoryStore,
    commits: Commits,
    conversation: Conversation,
}

impl Scene {
    /// A peer that has everything, as both sides know.
    fn new() -> Self {
        let conversation = Conversation::new(DOCUMENT, Vec::new());
        let mut scene =
            Self { author: Automerge::new(), store: MemoryStore::new(), commits: Commits::default(), conversation };
        scene.commit();
        let answer = scene.answer();
        scene.conversation.handle_message(answer);
        assert!(scene.long().is_some_and(|message| message.changes.is_empty()));
        scene
    }

    fn commit(&mut self) {
        let before = self.author.get_heads();
        let value = self.commits.0.borrow().len() as u64;
        self.author.transact::<_, _, AutomergeError>(|tx| tx.put(ROOT, "k", value)).unwrap();
        let change = CheckedChange::parse(self.author.get_changes(&before)[0].raw_bytes()).unwrap();
        let append = |tx: &mut dyn crate::store::WriteTx| {
            let mut appender = Appender::begin(tx, DOCUMENT)?;
            appender.append(tx, &change)?;
            appender.finish(tx).map(drop)
        };
        self.store.write_with(append).unwrap();
        let recent = Recent::new(before, self.author.get_heads(), vec![change.bytes().clone()]);
        self.commits.0.borrow_mut().push(Arc::new(recent));
    }

    fn answer(&self) -> SyncMessage {
        let heads = self.author.get_heads();
        let have = vec![Have { last_sync: heads.clone(), bloom: Bloom::default() }];
        SyncMessage { version: Version::V1, heads, need: Vec::new(), have, changes: Vec::new(), flags: None }
    }

    fn quick(&mut self) -> Option<SyncMessage> {
        let (relay, peer) = (PeerId::new("relay").unwrap(), PeerId::new("peer").unwrap());
        let tx = self.store.read().unwrap();
        let frame = self.conversation.poll_recent(&self.commits, &*tx, &relay, &peer).unwrap()?;
        let Frame::Sync { data, .. } = Frame::decode(&frame).unwrap() else { unreachable!("it is a sync message") };
        Some(SyncMessage::decode(&data).unwrap())
    }

    fn long(&mut self) -> Option<SyncMessage> {
        let tx = self.store.read().unwrap();
        self.conversation.poll_message(&*tx).unwrap().map(|outgoing| outgoing.message)
    }
}

#[test]
fn commits_that_the_peer_lacks_go_out_once_and_its_answer_needs_none() {
    for commits in [1, 3] {
        let mut scene = Scene::new();
        (0..commits).for_each(|_| scene.commit());
        let message = scene.quick().unwrap();
        assert_eq!((message.changes.len(), &message.heads), (commits, &scene.author.get_heads()));
        assert_eq!((scene.quick(), scene.long()), (None, None));
        assert_eq!(scene.conversation.handle_answer(&mut scene.answer()), Some(scene.author.get_heads()));
        assert_eq!(scene.long(), None);
    }
}

#[test]
fn answer_to_an_earlier_message_is_as_quick_as_one_to_the_last() {
    let mut scene = Scene::new();
    scene.commit();
    let mut first = (scene.quick().unwrap(), scene.answer()).1;
    scene.commit();
    assert_eq!(scene.quick().unwrap().changes.len(), 1);
    assert!(scene.conversation.handle_answer(&mut first).is_some());
    assert!(scene.conversation.handle_answer(&mut scene.answer()).is_some());
}

#[test]
fn anything_but_a_plain_answer_goes_the_long_way() {
    let mut scene = Scene::new();
    scene.commit();
    scene.quick().unwrap();
    let asks = SyncMessage { need: scene.author.get_heads(), ..scene.answer() };
    let resets = SyncMessage { flags: Some(Flags::SYNC_RESET), ..scene.answer() };
    let strange = SyncMessage { heads: vec![ChangeHash([9; 32])], ..scene.answer() };
    let afresh = SyncMessage { have: vec![Have::default()], ..scene.answer() };
    for message in [asks, resets, strange, afresh] {
        let mut read = message.clone();
        assert_eq!(scene.conversation.handle_answer(&mut read), None);
        assert_eq!(read, message);
    }
}

#[test]
fn peer_that_was_not_heard_out_is_not_served_from_memory() {
    let mut scene = Scene::new();
    scene.commit();
    let strange = SyncMessage { heads: vec![ChangeHash([9; 32])], ..scene.answer() };
    scene.conversation.handle_message(strange);
    assert_eq!(scene.quick(), None);
    assert!(scene.long().is_some());
    assert_eq!(scene.quick(), None);
}

#[test]
fn memory_that_lags_behind_the_store_is_left_alone() {
    let mut scene = Scene::new();
    scene.commit();
    scene.commit();
    scene.commits.0.borrow_mut().pop();
    assert_eq!(scene.quick(), None);
    assert_eq!(scene.long().unwrap().changes.len(), 2);
}

#[test]
fn nothing_of_a_deleted_document_is_sent_from_memory() {
    let mut scene = Scene::new();
    scene.commit();
    let tombstone =
        Tombstone { kind: crate::deletion::DeletionKind::Purged, time_seconds: 1, by: "operator".to_owned() };
    scene.store.write_with(|tx| ledger::tombstone::bury(tx, &DOCUMENT, &tombstone).map(drop)).unwrap();
    assert_eq!(scene.quick(), None);
}
