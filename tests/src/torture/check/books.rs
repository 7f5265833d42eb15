//! What is known of each write, from the histories alone.

use std::collections::BTreeMap;
use std::fmt;

use rejoin::{DocumentId, Receipt};

use super::Evidence;
use crate::torture::history::{At, Done, Op, Said, WriteId};

/// A write, as its device told of it.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) document: DocumentId,
    pub(super) op: Op,
    pub(super) invoked: u64,
    /// When each stage was said first.
    pub(super) local: Option<u64>,
    pub(super) relayed: Option<u64>,
    pub(super) seen: Option<u64>,
    /// Whether the application may have taken it out.
    pub(super) is_dropped: bool,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { document, op, invoked, local, relayed, seen, .. } = self;
        write!(f, "{op:?} of {document}, invoked {invoked}, local {local:?}, relayed {relayed:?}, seen {seen:?}")
    }
}

/// All writes, and what was done that excuses.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) writes: BTreeMap<WriteId, Write>,
    /// Of each client: when its disk was copied, and when that copy was put back.
    rollbacks: Vec<(usize, u64, u64)>,
    /// When the relay was made of a backup.
    restored: Vec<u64>,
}

impl Books {
    pub(super) fn of(evidence: &Evidence) -> Self {
        let mut books = Self::default();
        for (client, history) in evidence.devices.iter().enumerate() {
            history.iter().for_each(|at| books.note(client, at));
        }
        let mut copied = BTreeMap::new();
        for At { time, what } in &evidence.nemesis {
            match what {
                Done::DiskCopied(client) => drop(copied.insert(*client, *time)),
                Done::RolledBack(client) => {
                    books.rollbacks.push((*client, copied.get(client).copied().unwrap_or(0), *time));
                }
                Done::Restored => books.restored.push(*time),
                _ => {}
            }
        }
        books
    }

    fn note(&mut self, client: usize, At { time, what }: &At<Said>) {
        match what {
            Said::Invoked(id, document, op) => {
                let write = Write {
                    document: *document,
                    op: *op,
                    invoked: *time,
                    local: None,
                    relayed: None,
                    seen: None,
                    is_dropped: false,
                };
                self.writes.insert(*id, write);
            }
            Said::Stage(id, stage) => {
                if let Some(write) = self.writes.get_mut(id) {
                    let stages = [&mut write.local, &mut write.relayed, &mut write.seen];
                    let reached = Receipt::Local as usize..=*stage as usize;
                    stages.into_iter().enumerate().filter(|(at, _)| reached.contains(at)).for_each(|(_, at)| {
                        at.get_or_insert(*time);
                    });
                }
            }
            Said::Dropping(document) => {
                let theirs =
                    self.writes.iter_mut().filter(|(id, write)| id.client == client && write.document == *document);
                // Which of them stood on the rejected one is not told: those that the relay had did not.
                theirs.filter(|(_, write)| write.relayed.is_none()).for_each(|(_, write)| write.is_dropped = true);
            }
            _ => {}
        }
    }

    /// Says whether the disk that a write was made on was taken away before that time.
    pub(super) fn is_rolled_away(&self, id: WriteId, write: &Write, time: u64) -> bool {
        self.rollbacks.iter().any(|(client, copied, rolled)| {
            *client == id.client && *copied < write.invoked && write.invoked < *rolled && *rolled < time
        })
    }

    /// Says whether a client got an older disk between two times.
    pub(super) fn rolled_after(&self, client: usize, from: u64, to: u64) -> bool {
        self.rollbacks.iter().any(|(whose, _, rolled)| *whose == client && from < *rolled && *rolled < to)
    }

    /// Says whether another client got an older disk after that time.
    pub(super) fn others_rolled_after(&self, client: usize, from: u64) -> bool {
        self.rollbacks.iter().any(|(whose, _, rolled)| *whose != client && from < *rolled)
    }

    /// Says whether a client ever got an older disk.
    pub(super) fn was_rolled_back(&self, client: usize) -> bool {
        self.rolled_after(client, 0, u64::MAX)
    }

    /// Says whether the relay was made of a backup after that time.
    pub(super) fn restored_after(&self, time: u64) -> bool {
        self.restored.iter().any(|restored| *restored > time)
    }
}
