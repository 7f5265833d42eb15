//! What the documents of one connection share.

use automerge::ScalarValue;

use super::*;
use crate::gate::encode;
use crate::gate::tests::field_draft;
use crate::limits::{CONNECTION_ORPHAN_BYTES_MAX, ORPHAN_BYTES_MAX};
use crate::store::{MemoryStore, Store};

#[test]
fn documents_of_one_connection_share_the_room_for_orphans() {
    let store = MemoryStore::new();
    let tx = store.read().unwrap();
    let identity = Identity { peer: PeerId::new("us").unwrap(), storage: None, epoch: None };
    let mut session = ClassicSession::new(Role::Server, identity);
    let document = |number: usize| DocumentId::from_bytes([u8::try_from(number).unwrap(); 16]);
    let first = encode(&field_draft(b"alice", 1, 1, Vec::new())).unwrap();
    // More than half of a conversation's room: each holds one, and the connection as many as fit.
    let mut draft = field_draft(b"alice", 2, 2, vec![first.hash()]);
    draft.ops[0].value = ScalarValue::Bytes(vec![7; ORPHAN_BYTES_MAX / 2 + 1]);
    let orphan = encode(&draft).unwrap();
    let fits = CONNECTION_ORPHAN_BYTES_MAX / orphan.bytes().len();
    let bring = |session: &mut ClassicSession, number| {
        session.open(document(number), Vec::new(), tx.as_ref()).unwrap();
        let results = vec![(orphan.clone(), Appended::Missing { hashes: vec![first.hash()] })];
        session.handle_appended(document(number), results, tx.as_ref()).unwrap();
    };
    // What waited comes out when its dependency is there.
    let waited = |session: &mut ClassicSession, number| {
        let results = vec![(first.clone(), Appended::Duplicate)];
        session.handle_appended(document(number), results, tx.as_ref()).unwrap();
        let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
        outputs.iter().any(|output| matches!(output, Output::Append { changes, .. } if changes.len() == 1))
    };
    (0..=fits).for_each(|number| bring(&mut session, number));
    assert!(!waited(&mut session, fits), "what does not fit is dropped");
    session.forget(&document(0));
    bring(&mut session, fits);
    assert!((1..=fits).all(|number| waited(&mut session, number)), "a document that is forgotten leaves its room");
    // Nothing is held any more, so as much as before fits again.
    (1..=fits).for_each(|number| bring(&mut session, number));
    assert!((1..=fits).all(|number| waited(&mut session, number)));
}
