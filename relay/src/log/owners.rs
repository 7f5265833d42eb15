//! Who may write under which actor: the principal for whom an actor's first change was stored in a document.
//!
//! The first change of an actor that is stored for a named principal binds it, in the same transaction. From then on nobody else
//! writes under it, neither another principal nor somebody without a name.

use std::collections::HashMap;

use rejoin::ledger::owners;
use rejoin::store::{StoreError, WriteTx};
use rejoin::{ActorId, DocumentId};

use crate::auth::PrincipalId;

/// Whose an actor is, as seen by who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Writer,
    SomebodyElse,
}

/// The owners of the actors in one part of a commit. Cost: one lookup for each actor of it.
pub(super) struct Owners<'a> {
    document: &'a DocumentId,
    principal: Option<&'a PrincipalId>,
    /// Whether owners are asked at all; if not, none come to be either.
    are_asked: bool,
    known: HashMap<ActorId, Owner>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(document: &'a DocumentId, principal: Option<&'a PrincipalId>, are_asked: bool) -> Self {
        Self { document, principal, are_asked, known: HashMap::new() }
    }

    /// Says whether the writer may write under an actor.
    pub(super) fn may_write(&mut self, tx: &dyn WriteTx, actor: &ActorId) -> Result<bool, StoreError> {
        Ok(!self.are_asked || self.owner(tx, actor)? != Owner::SomebodyElse)
    }

    /// Notes that a change of an actor is stored for the writer, who owns it from now on if nobody does.
    pub(super) fn bind(&mut self, tx: &mut dyn WriteTx, actor: &ActorId) -> Result<(), StoreError> {
        let Some(principal) = self.principal.filter(|_| self.are_asked) else { return Ok(()) };
        if self.owner(tx, actor)? == Owner::Nobody {
            owners::put(tx, self.document, actor, principal.as_str())?;
            self.known.insert(actor.clone(), Owner::Writer);
        }
        Ok(())
    }

    /// Forgets what was looked up: the document was deleted meanwhile.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn owner(&mut self, tx: &dyn WriteTx, actor: &ActorId) -> Result<Owner, StoreError> {
        if let Some(owner) = self.known.get(actor) {
            return Ok(*owner);
        }
        let owner = match owners::get(tx, self.document, actor)? {
            None => Owner::Nobody,
            Some(name) if self.principal.is_some_and(|principal| principal.as_str() == name) => Owner::Writer,
            Some(_) => Owner::SomebodyElse,
        };
        self.known.insert(actor.clone(), owner);
        Ok(owner)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use rejoin::gate::CheckedChange;
    use rejoin::ledger::Appended;
    use rejoin::store::{MemoryStore, ReadTx, Store, Table, Visitor};
    use rejoin::sync::v1::OfferedWrite;

    use super::*;
    use crate::hub::Hub;
    use crate::log::commit::{Part, Watch, commit};
    use crate::log::tests::chain;
    use crate::log::{Author, Written};
    use crate::quota::Quota;

    /// Counts what is asked of it, and of the owners' table apart.
    #[derive(Default)]
    struct Counting {
        inner: MemoryStore,
        all: AtomicUsize,
        owners: AtomicUsize,
    }

    struct CountingTx<'s> {
        inner: &'s mut dyn WriteTx,
        store: &'s Counting,
    }

    impl CountingTx<'_> {
        fn note(&self, table: Table) {
            self.store.all.fetch_add(1, Ordering::Relaxed);
            if table == Table::Owner {
                self.store.owners.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    impl ReadTx for CountingTx<'_> {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.note(table);
            self.inner.get(table, key)
        }

        fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
            self.note(table);
            self.inner.contains(table, key)
        }

        fn scan(&self, table: Table, range: Range<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
            self.note(table);
            self.inner.scan(table, range, visit)
        }
    }

    impl WriteTx for CountingTx<'_> {
        fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
            self.note(table);
            self.inner.put(table, key, value)
        }

        fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
            self.note(table);
            self.inner.delete(table, key)
        }

        fn delete_range(&mut self, table: Table, range: Range<&[u8]>) -> Result<(), StoreError> {
            self.note(table);
            self.inner.delete_range(table, range)
        }
    }

    impl Store for Counting {
        fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
            self.inner.read()
        }

        fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
            self.inner.write(&mut |tx| work(&mut CountingTx { inner: tx, store: self }))
        }
    }

    impl Counting {
        /// Writes changes for somebody; returns what became of them and how often the owners and everything else was asked.
        fn write_as(&self, name: Option<&str>, changes: &[CheckedChange], asks: bool) -> (Vec<Written>, usize, usize) {
            let principal = name.and_then(PrincipalId::new);
            let author = Author { connection: Hub::default().next_id(), principal, permit: None };
            let offered: Vec<OfferedWrite> = changes.iter().cloned().map(OfferedWrite::Change).collect();
            let document = DocumentId::from_bytes([1; 16]);
            let part = Part { author: &author, space: None, document, writes: offered.iter().collect() };
            let before = (self.all.load(Ordering::Relaxed), self.owners.load(Ordering::Relaxed));
            let watch = Watch::new(Instant::now, Duration::from_secs(60));
            let done = commit(self, &[part], asks, &Quota::without_bounds(), watch).unwrap().remove(0);
            let owners = self.owners.load(Ordering::Relaxed) - before.1;
            (done.written, owners, self.all.load(Ordering::Relaxed) - before.0 - owners)
        }
    }

    fn short(written: &[Written]) -> String {
        let letter = |written: &Written| match written {
            Written::Change(Appended::Stored { .. }, _) => 's',
            Written::Change(Appended::Duplicate, _) => 'd',
            Written::Change(Appended::Missing { .. }, _) => 'm',
            Written::Owned => 'o',
            _ => '?',
        };
        written.iter().map(letter).collect()
    }

    #[test]
    fn owner_costs_one_lookup_for_each_actor_of_a_commit_and_one_row() {
        let (named, nameless) = (Counting::default(), Counting::default());
        let changes = chain(200);
        let (written, owners, others) = named.write_as(Some("alice"), &changes[..100], true);
        assert_eq!((short(&written), owners), ("s".repeat(100), 2));
        assert_eq!(others, nameless.write_as(None, &changes[..100], true).2);
        assert_eq!(named.write_as(Some("alice"), &changes[100..], true).1, 1);
    }

    #[test]
    fn actor_is_bound_by_the_first_named_writer_and_asked_for_by_all() {
        let store = Counting::default();
        let changes = chain(6);
        let write = |name, range: Range<usize>, asks| short(&store.write_as(name, &changes[range], asks).0);
        // Nobody binds nothing.
        assert_eq!(write(None, 0..1, true), "s");
        assert_eq!(write(Some("alice"), 0..2, true), "ds");
        assert_eq!(write(None, 0..3, true), "ddo");
        assert_eq!(write(Some("bob"), 1..4, true), "doo");
        // After a restore devices bring back what others wrote, and own nothing by it.
        assert_eq!(write(Some("bob"), 2..4, false), "ss");
        assert_eq!(write(Some("bob"), 4..5, true), "o");
        assert_eq!(write(Some("alice"), 4..6, true), "ss");
    }
}
