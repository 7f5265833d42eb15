//! Requests: which of an application's numbered writes are done, so that one which is handed in again is not done twice.
//!
//! Between an application and its engine stands something that may lose an answer: the engine of a browser lives in a worker,
//! which may be killed after the commit and before the answer. The application asks the next one again, by the same number.

use std::ops::ControlFlow;

use automerge::ChangeHash;

use crate::limits::REQUEST_KEPT_SECONDS;
use crate::store::record::{self, Reader, prefix_end};
use crate::store::{ReadTx, StoreError, Table, WriteTx};

/// Names one write of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Who asks: 16 random bytes, drawn anew by each run of the application.
    pub session: [u8; 16],
    /// Which of its requests, counted upwards.
    pub id: u64,
}

impl RequestId {
    fn key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        key[..16].copy_from_slice(&self.session);
        key[16..].copy_from_slice(&self.id.to_be_bytes());
        key
    }
}

/// Returns the change that a request made if it is done; the inner `None` is that there was nothing to change. Cost: one lookup.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be read.
pub fn done(tx: &(impl ReadTx + ?Sized), request: &RequestId) -> Result<Option<Option<ChangeHash>>, StoreError> {
    let Some(bytes) = tx.get(Table::Request, &request.key())? else { return Ok(None) };
    let mut reader = Reader::new(&bytes, "request-1");
    reader.uint()?;
    Ok(Some(match reader.byte()? {
        0 => None,
        _ => Some(reader.hash()?),
    }))
}

/// Notes that a request is done: in the transaction that does it.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn note(
    tx: &mut (impl WriteTx + ?Sized),
    request: &RequestId,
    change: Option<ChangeHash>,
    now_seconds: u64,
) -> Result<(), StoreError> {
    let mut value = Vec::with_capacity(40);
    record::put_uint(&mut value, now_seconds);
    value.push(u8::from(change.is_some()));
    value.extend(change.iter().flat_map(|hash| hash.0));
    tx.put(Table::Request, &request.key(), &value)
}

/// Forgets a session's requests up to this one: their answers have arrived, so they are not handed in again.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn forget(tx: &mut (impl WriteTx + ?Sized), last: &RequestId) -> Result<(), StoreError> {
    let mut end = last.key().to_vec();
    end.push(0);
    tx.delete_range(Table::Request, last.session.as_slice()..&end)
}

/// Forgets requests that nobody will hand in again, because [`REQUEST_KEPT_SECONDS`] have passed. Cost: visits all of them.
///
/// # Errors
///
/// [`StoreError`] if the store cannot be written.
pub fn sweep(tx: &mut (impl WriteTx + ?Sized), now_seconds: u64) -> Result<(), StoreError> {
    let mut old = Vec::new();
    tx.scan(Table::Request, &[]..&prefix_end(&[u8::MAX]), &mut |key, value| {
        let time = Reader::new(value, "request-1").uint();
        if time.is_ok_and(|time| time.saturating_add(REQUEST_KEPT_SECONDS) < now_seconds) {
            old.push(key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    old.iter().try_for_each(|key| tx.delete(Table::Request, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store, StoreExt};

    const fn request(session: u8, id: u64) -> RequestId {
        RequestId { session: [session; 16], id }
    }

    #[test]
    fn request_is_known_until_its_answer_has_arrived_or_it_is_old() -> Result<(), StoreError> {
        let store = MemoryStore::new();
        let change = Some(ChangeHash([7; 32]));
        store.write_with(|tx| {
            note(tx, &request(1, 1), change, 1_000)?;
            note(tx, &request(1, 2), None, 1_000)?;
            note(tx, &request(1, 256), change, 2_000)?;
            note(tx, &request(2, 1), change, 2_000)
        })?;
        assert_eq!(done(&*store.read()?, &request(1, 1))?, Some(change));
        assert_eq!(done(&*store.read()?, &request(1, 2))?, Some(None));
        assert_eq!(done(&*store.read()?, &request(1, 3))?, None);
        let golden = [&[0xd0, 0x0f, 1][..], &[7; 32]].concat();
        let key = [&[2; 16][..], &1_u64.to_be_bytes()].concat();
        assert_eq!(store.read()?.get(Table::Request, &key)?, Some(golden));

        store.write_with(|tx| forget(tx, &request(1, 1)))?;
        assert_eq!(done(&*store.read()?, &request(1, 1))?, None);
        assert_eq!(done(&*store.read()?, &request(1, 2))?, Some(None));
        store.write_with(|tx| sweep(tx, 1_001 + REQUEST_KEPT_SECONDS))?;
        assert_eq!(done(&*store.read()?, &request(1, 2))?, None);
        assert_eq!(done(&*store.read()?, &request(1, 256))?, Some(change));
        assert_eq!(done(&*store.read()?, &request(2, 1))?, Some(change));
        Ok(())
    }
}
