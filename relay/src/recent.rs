//! The last commits, in memory, for the many connections that are about to be told of them.
//!
//! One bound holds for all documents together. A commit leaves when newer ones need its room; a connection that still
//! lacks it then finds it in the store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rejoin::limits::SYNC_MESSAGE_BYTES;
use rejoin::sync::{Recent, RecentChanges};
use rejoin::{ChangeHash, DocumentId};

use crate::limits::{RECENT_BYTES_MAX, RECENT_LOOK_BACK};

/// What was committed a moment ago.
#[derive(Debug, Default)]
pub(crate) struct RecentCommits {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    documents: HashMap<DocumentId, VecDeque<Arc<Recent>>>,
    /// Whose commit is the oldest, the second oldest and so on.
    order: VecDeque<DocumentId>,
    bytes: usize,
}

impl RecentCommits {
    /// Keeps a commit. One that is so long that it would push many others out is not kept.
    pub(crate) fn keep(&self, document: DocumentId, recent: Recent) {
        let bytes = recent.memory_bytes();
        if bytes > SYNC_MESSAGE_BYTES {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += bytes;
        kept.order.push_back(document);
        kept.documents.entry(document).or_default().push_back(Arc::new(recent));
        while kept.bytes > RECENT_BYTES_MAX && kept.drop_oldest() {}
    }

    /// Forgets a document's commits.
    pub(crate) fn forget(&self, document: &DocumentId) {
        let mut kept = self.kept();
        if let Some(commits) = kept.documents.remove(document) {
            kept.bytes -= commits.iter().map(|commit| commit.memory_bytes()).sum::<usize>();
            kept.order.retain(|other| other != document);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that runs under the lock panics half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn drop_oldest(&mut self) -> bool {
        let Some(document) = self.order.pop_front() else { return false };
        if let Some(commits) = self.documents.get_mut(&document) {
            self.bytes -= commits.pop_front().map_or(0, |oldest| oldest.memory_bytes());
            if commits.is_empty() {
                self.documents.remove(&document);
            }
        }
        true
    }
}

impl RecentChanges for RecentCommits {
    fn since(&self, document: &DocumentId, heads: &[ChangeHash]) -> Vec<Arc<Recent>> {
        let kept = self.kept();
        let Some(commits) = kept.documents.get(document) else { return Vec::new() };
        let mut found: Vec<Arc<Recent>> = Vec::new();
        let mut bytes = 0;
        for commit in commits.iter().rev().take(RECENT_LOOK_BACK) {
            // A commit that was too long to be kept leaves a gap.
            if found.last().is_some_and(|later| later.before() != commit.heads()) {
                return Vec::new();
            }
            bytes += commit.memory_bytes();
            if bytes > SYNC_MESSAGE_BYTES {
                return Vec::new();
            }
            found.push(Arc::clone(commit));
            if commit.before() == heads {
                found.reverse();
                return found;
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

    fn heads(number: usize) -> Vec<ChangeHash> {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        vec![ChangeHash(hash)]
    }

    fn commit(number: usize, bytes: usize) -> Recent {
        Recent::new(heads(number), heads(number + 1), vec![Bytes::from(vec![0; bytes])])
    }

    fn found(recent: &RecentCommits, number: usize) -> Vec<usize> {
        let numbers = |commit: Arc<Recent>| (0..200_000).find(|number| commit.before() == heads(*number)).unwrap_or(0);
        recent.since(&DOCUMENT, &heads(number)).into_iter().map(numbers).collect()
    }

    #[test]
    fn commits_after_the_heads_are_found_in_their_order() {
        let recent = RecentCommits::default();
        (0..4).for_each(|number| recent.keep(DOCUMENT, commit(number, 1)));
        assert_eq!(found(&recent, 1), [1, 2, 3]);
        assert_eq!(found(&recent, 3), [3]);
        assert!(found(&recent, 4).is_empty());
        assert!(recent.since(&DocumentId::from_bytes([8; 16]), &heads(1)).is_empty());
    }

    #[test]
    fn nothing_is_found_across_a_gap() {
        let recent = RecentCommits::default();
        recent.keep(DOCUMENT, commit(0, 1));
        recent.keep(DOCUMENT, commit(1, SYNC_MESSAGE_BYTES));
        recent.keep(DOCUMENT, commit(2, 1));
        assert!(found(&recent, 0).is_empty());
        assert_eq!(found(&recent, 2), [2]);
    }

    #[test]
    fn forgotten_document_leaves_no_trace() {
        let recent = RecentCommits::default();
        let other = DocumentId::from_bytes([8; 16]);
        (0..4).for_each(|number| recent.keep(DOCUMENT, commit(number, 1)));
        recent.keep(other, commit(0, 1));
        recent.forget(&DOCUMENT);
        assert!(found(&recent, 1).is_empty());
        assert_eq!(recent.since(&other, &heads(0)).len(), 1);
        recent.forget(&other);
        let kept = recent.kept();
        assert_eq!((kept.bytes, kept.order.len(), kept.documents.len()), (0, 0, 0));
    }

    #[test]
    fn memory_stays_within_its_bound_and_the_newest_stay() {
        let recent = RecentCommits::default();
        let count = 4 * RECENT_BYTES_MAX / 100_000;
        (0..count).for_each(|number| recent.keep(DOCUMENT, commit(number, 50_000)));
        assert_eq!(found(&recent, count - 1), [count - 1]);
        let kept = recent.kept();
        assert!(kept.bytes <= RECENT_BYTES_MAX);
        assert_eq!(kept.order.len(), kept.documents[&DOCUMENT].len());
    }
}
