//! From format 1 to 2: nodes get their floor, and an actor's list shows all its changes instead of the last.
//!
//! From format 2 to 3: the outbox has a row for 64 positions instead of one for each.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::actors::{self, ActorChange};
use super::ancestry::{Ancestors, Place, Reach};
use super::{Node, documents, encode_node, outbox, state};
use crate::id::DocumentId;
use crate::store::record::{Reader, position_key, position_of_key, prefix_end};
use crate::store::{StoreError, Table, WriteTx};

/// How many records are read before they are written in their new form.
const RECORDS_AT_ONCE: usize = 1_024;

const WHAT: &str = "node-1";

/// Rewrites the graph of every document. Cost: a few microseconds a change; memory: a thousand records.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used or an old record does not decode; the transaction must then be given up.
pub fn from_1_to_2(tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    for document in documents(tx)? {
        rewrite(tx, &document)?;
    }
    Ok(())
}

fn rewrite(tx: &mut dyn WriteTx, document: &DocumentId) -> Result<(), StoreError> {
    let count = state(tx, document)?.map_or(0, |state| state.count);
    let mut ancestors = Ancestors::new(Reach::DEVICE);
    let mut heads = BTreeSet::new();
    let mut next = 0;
    while next < count {
        for node in old_nodes(tx, document, next)? {
            let position = next;
            next += 1;
            let place = Place { deps: &node.deps, all_heads: heads.iter().eq(&node.deps) };
            let floor = ancestors.append(tx, document, &place, position)?;
            heads.retain(|head| !node.deps.contains(head));
            heads.insert(position);
            let key = position_key(document, position);
            let node = Node { floor, ..node };
            tx.put(Table::Node, &key, &encode_node(&node, position)?)?;
            let listed = ActorChange { position, seq: node.seq, start_op: node.start_op, op_count: node.op_count };
            actors::put(tx, document, &node.actor, &listed)?;
        }
    }
    let end = prefix_end(document.as_bytes());
    tx.delete_range(Table::NodeV1, document.as_bytes()..&end)?;
    tx.delete_range(Table::ActorV1, document.as_bytes()..&end)
}

/// Rewrites the outbox. Cost: a few microseconds a change that waits; memory: a thousand keys.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be used; the transaction must then be given up.
pub fn from_2_to_3(tx: &mut dyn WriteTx) -> Result<(), StoreError> {
    let end = prefix_end(&[u8::MAX]);
    loop {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        tx.scan(Table::OutboxV1, &[]..&end, &mut |key, _| {
            keys.push(key.to_vec());
            if keys.len() == RECORDS_AT_ONCE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let Some(last) = keys.last() else { return Ok(()) };
        for key in &keys {
            match (key.first_chunk(), position_of_key(key)) {
                (Some(document), Ok(at)) => outbox::insert(tx, &DocumentId::from_bytes(*document), at)?,
                // It names no change that anybody could offer.
                _ => tracing::warn!("left out a damaged key of the outbox"),
            }
        }
        tx.delete_range(Table::OutboxV1, &[]..&prefix_end(last))?;
    }
}

/// Reads the next old records, one for each position.
fn old_nodes(tx: &dyn WriteTx, document: &DocumentId, from: u64) -> Result<Vec<Node>, StoreError> {
    let (start, end) = (position_key(document, from), prefix_end(document.as_bytes()));
    let mut nodes = Vec::new();
    let mut damaged = None;
    tx.scan(Table::NodeV1, &start..&end, &mut |key, value| {
        let position = from + nodes.len() as u64;
        match decode_old(value, position).filter(|_| key == position_key(document, position)) {
            Some(node) => nodes.push(node),
            None => damaged = Some(StoreError::Damaged { what: WHAT }),
        }
        if damaged.is_some() || nodes.len() == RECORDS_AT_ONCE {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    match damaged {
        Some(error) => Err(error),
        // The document's record counts more changes than there are nodes.
        None if nodes.is_empty() => Err(StoreError::Damaged { what: WHAT }),
        None => Ok(nodes),
    }
}

fn decode_old(bytes: &[u8], position: u64) -> Option<Node> {
    let mut reader = Reader::new(bytes, WHAT);
    let hash = reader.hash().ok()?;
    let count = reader.count().ok()?;
    let mut deps = Vec::new();
    for _ in 0..count {
        deps.push(position.checked_sub(reader.count().ok()?)?);
    }
    deps.sort_unstable();
    Some(Node {
        hash,
        deps,
        floor: 0,
        actor: reader.actor().ok()?,
        seq: reader.count().ok()?,
        start_op: reader.count().ok()?,
        op_count: reader.count().ok()?,
        bytes: reader.count().ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::store::{MemoryStore, Store, StoreExt};

    #[test]
    fn outbox_of_many_rows_is_rewritten_without_its_damaged_keys() {
        let store = MemoryStore::new();
        let document = |number: u8| DocumentId::from_bytes([number; 16]);
        let positions = |number: u8| (0..3_000_u64).filter(move |at| at % 7 != u64::from(number));
        let work = |tx: &mut dyn WriteTx| {
            for number in [1, 2] {
                for at in positions(number) {
                    tx.put(Table::OutboxV1, &position_key(&document(number), at), &[])?;
                }
            }
            tx.put(Table::OutboxV1, &[1; 20], &[])?;
            from_2_to_3(tx)
        };
        store.write_with(work).unwrap();
        let tx = store.read().unwrap();
        for number in [1, 2] {
            let found = outbox::pending(&*tx, &document(number)).unwrap();
            assert!(found.into_iter().eq(positions(number)), "{number}");
        }
        let mut left = 0;
        tx.scan(Table::OutboxV1, &[]..&[u8::MAX; 32], &mut |_, _| {
            left += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(left, 0);
    }
}
