//! Messages with more changes, or longer ones, than are checked at a time.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{AutoCommit, ChangeHash, ROOT, ScalarValue};
use bytes::Bytes;

use crate::codec::sync_message::{SyncMessage, Version};
use crate::engine::{Origin, accept};
use crate::gate::tests::field_draft;
use crate::gate::{CheckedChange, encode};
use crate::id::DocumentId;
use crate::ledger;
use crate::limits::{INTAKE_BYTES_MAX, INTAKE_CHANGES_MAX, REFUSED_MAX};
use crate::store::{MemoryStore, Store, StoreExt};
use crate::sync::Conversation;

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

/// Empty changes, each on top of the one before.
fn chain(count: usize) -> Vec<CheckedChange> {
    let mut changes: Vec<CheckedChange> = Vec::new();
    for seq in 1..=count as u64 {
        let deps = changes.last().map(|last| vec![last.hash()]).unwrap_or_default();
        let mut draft = field_draft(b"alice", seq, seq.min(2), deps);
        if seq > 1 {
            draft.ops.clear();
        }
        changes.push(encode(&draft).unwrap());
    }
    changes
}

fn message(heads: Vec<ChangeHash>, changes: Vec<Bytes>) -> SyncMessage {
    SyncMessage { version: Version::V1, heads, need: vec![], have: vec![], changes, flags: None }
}

/// Appends what a conversation hands out until there is no more; returns how many changes came at a time, and how many of
/// them were stored.
fn take_all(
    store: &MemoryStore,
    conversation: &mut Conversation,
    mut changes: Vec<CheckedChange>,
) -> (Vec<usize>, usize) {
    let (mut batches, mut stored) = (Vec::new(), 0);
    while !changes.is_empty() {
        batches.push(changes.len());
        if conversation.is_taking_in() {
            let tx = store.read().unwrap();
            assert!(
                conversation.poll_message(tx.as_ref()).unwrap().is_none(),
                "it speaks before it has read to the end"
            );
        }
        let accepted = store.write_with(|tx| accept(tx, DOCUMENT, changes, Origin::Remote)).unwrap();
        stored += accepted.stored;
        let released = conversation.handle_appended(accepted.results);
        assert!(released.is_empty());
        changes = conversation.poll_changes().0;
    }
    assert!(!conversation.is_taking_in());
    (batches, stored)
}

#[test]
fn long_message_is_taken_in_piece_by_piece_and_answered_once() {
    let changes = chain(2 * INTAKE_CHANGES_MAX + 5);
    let heads = vec![changes[changes.len() - 1].hash()];
    // The first hundred stand in one stream, as a stock peer may put them.
    let (joined, single) = changes.split_at(100);
    let mut bytes = vec![Bytes::from(joined.iter().flat_map(|change| change.bytes().to_vec()).collect::<Vec<_>>())];
    bytes.extend(single.iter().map(|change| change.bytes().clone()));
    let store = MemoryStore::new();
    let mut conversation = Conversation::new(DOCUMENT, vec![]);
    let (first, errors) = conversation.handle_message(message(heads.clone(), bytes));
    assert!(errors.is_empty());
    let (batches, stored) = take_all(&store, &mut conversation, first);
    assert_eq!(batches, [INTAKE_CHANGES_MAX, INTAKE_CHANGES_MAX, 5]);
    assert_eq!(stored, changes.len());
    let tx = store.read().unwrap();
    assert_eq!(ledger::heads(tx.as_ref(), &DOCUMENT).unwrap(), heads);
    let answer = conversation.poll_message(tx.as_ref()).unwrap().unwrap().message;
    assert_eq!((answer.heads, answer.need), (heads, vec![]));
}

#[test]
fn next_message_waits_behind_the_rest_of_the_one_before() {
    let changes = chain(INTAKE_CHANGES_MAX + 20);
    let bytes: Vec<_> = changes.iter().map(|change| change.bytes().clone()).collect();
    let (one, other) = bytes.split_at(INTAKE_CHANGES_MAX + 10);
    let heads = |count: usize| vec![changes[count - 1].hash()];
    let store = MemoryStore::new();
    let mut conversation = Conversation::new(DOCUMENT, vec![]);
    let (first, _) = conversation.handle_message(message(heads(one.len()), one.to_vec()));
    let (none, _) = conversation.handle_message(message(heads(changes.len()), other.to_vec()));
    assert!(none.is_empty());
    let (batches, stored) = take_all(&store, &mut conversation, first);
    assert_eq!((batches, stored), (vec![INTAKE_CHANGES_MAX, 20], changes.len()));
}

#[test]
fn compressed_changes_are_inflated_a_few_at_a_time() {
    let mut doc = AutoCommit::new();
    for key in ["a", "b", "c", "d", "e"] {
        doc.put(ROOT, key, ScalarValue::Bytes(vec![0; INTAKE_BYTES_MAX / 2])).unwrap();
        doc.commit_with(CommitOptions::default());
    }
    let changes = doc.get_changes(&[]).into_iter();
    let bytes: Vec<_> = changes.map(|mut change| Bytes::from(change.bytes().into_owned())).collect();
    assert!(bytes.iter().all(|bytes| bytes.len() < INTAKE_BYTES_MAX / 100), "the test sees no compressed change");
    let store = MemoryStore::new();
    let mut conversation = Conversation::new(DOCUMENT, vec![]);
    let (first, errors) = conversation.handle_message(message(doc.get_heads(), bytes));
    assert_eq!((first.len(), errors), (2, vec![]));
    assert_eq!(take_all(&store, &mut conversation, first), (vec![2, 2, 1], 5));
}

#[test]
fn damaged_changes_do_not_stop_the_others_and_are_told_of_in_bounds() {
    let changes = chain(2);
    let mut bytes = vec![Bytes::from_static(b"no"); 2 * REFUSED_MAX];
    bytes.insert(0, changes[0].bytes().clone());
    bytes.push(changes[1].bytes().clone());
    let mut conversation = Conversation::new(DOCUMENT, vec![]);
    let (taken, errors) = conversation.handle_message(message(vec![changes[1].hash()], bytes));
    assert_eq!((taken, errors.len()), (changes, REFUSED_MAX));
    assert!(!conversation.is_taking_in());
}

#[test]
fn what_is_left_of_a_message_to_a_deleted_document_is_dropped() {
    let changes = chain(INTAKE_CHANGES_MAX + 1);
    let bytes = changes.iter().map(|change| change.bytes().clone()).collect();
    let mut conversation = Conversation::new(DOCUMENT, vec![]);
    conversation.handle_message(message(vec![changes[0].hash()], bytes));
    assert!(conversation.is_taking_in());
    conversation.handle_deleted();
    assert!(!conversation.is_taking_in() && conversation.poll_changes().0.is_empty());
}
