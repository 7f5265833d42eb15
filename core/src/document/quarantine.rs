//! Quarantine: changes that passed the gate and that Automerge cannot take all the same.
//!
//! A panic leaves an Automerge value half-updated. Such a value is never read again: the document is made anew from the
//! ledger, step by step on copies, and each copy replaces the one before only when it took its step whole. What is found
//! guilty stays in the ledger, so that other devices and later versions still get it, but out of the document.

use std::collections::HashSet;

use automerge::{Automerge, Change, ChangeHash, LoadChangeError};

use super::{DocumentError, QUARANTINE_CULPRITS_MAX, guarded};

/// A stored change that is left out of the document in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// The change.
    pub hash: ChangeHash,
    /// What Automerge said to it, or which other one it depends on.
    pub why: String,
}

/// How a step is applied: a seam, so that a test can let any change fail in any way.
pub(super) type Apply<'a> = dyn FnMut(&mut Automerge, &[Change]) -> Result<(), DocumentError> + 'a;

impl Quarantined {
    /// Says that a change must stay out because Automerge does not decode it.
    pub(super) fn undecodable(
        hash: ChangeHash,
        refused: Result<Result<Change, LoadChangeError>, DocumentError>,
    ) -> Self {
        let why = match refused {
            Ok(Err(error)) => error.to_string(),
            _ => "Automerge panics when it decodes it".to_owned(),
        };
        Self { hash, why }
    }

    /// Says that a change must stay out because Automerge ended on it, as it does where no panic can be caught.
    #[cfg(feature = "repo")]
    pub(crate) fn ended_on(hash: ChangeHash) -> Self {
        Self { hash, why: "Automerge ended on it".to_owned() }
    }

    /// Says that a change must stay out because it depends on one that does.
    pub(super) fn follower(change: &Change, out: &HashSet<ChangeHash>) -> Option<Self> {
        let culprit = change.deps().iter().find(|dep| out.contains(dep))?;
        Some(Self { hash: change.hash(), why: format!("it depends on {culprit}, which is in quarantine") })
    }
}

/// Applies changes and finds those that cannot be; returns the document without them.
///
/// `changes` are in topological order, and all their dependencies are in `base` or among them.
pub(super) fn isolate(
    base: &Automerge,
    changes: &[Change],
    apply: &mut Apply<'_>,
) -> Result<(Automerge, Vec<Quarantined>), DocumentError> {
    let mut good = base.clone();
    let mut left_out = Vec::new();
    let mut out: HashSet<ChangeHash> = HashSet::new();
    let mut culprits = 0;
    // Ranges still to apply, the next one last.
    let mut open = vec![(0, changes.len())];
    while let Some((from, to)) = open.pop() {
        let mut step = Vec::with_capacity(to - from);
        for change in &changes[from..to] {
            if out.contains(&change.hash()) {
                continue;
            }
            match Quarantined::follower(change, &out) {
                Some(follower) => {
                    out.insert(follower.hash);
                    left_out.push(follower);
                }
                None => step.push(change.clone()),
            }
        }
        if step.is_empty() {
            continue;
        }
        let mut copy = good.clone();
        let failure = match guarded(|| apply(&mut copy, &step)) {
            Ok(Ok(())) => {
                good = copy;
                continue;
            }
            Ok(Err(error)) | Err(error) => error,
        };
        if to - from > 1 {
            let middle = from + (to - from) / 2;
            open.push((middle, to));
            open.push((from, middle));
            continue;
        }
        culprits += 1;
        if culprits > QUARANTINE_CULPRITS_MAX {
            return Err(DocumentError::Refused(format!("more than {QUARANTINE_CULPRITS_MAX} changes do not apply")));
        }
        for change in step {
            let why = match &failure {
                DocumentError::Panicked => "Automerge panics on it".to_owned(),
                error => error.to_string(),
            };
            out.insert(change.hash());
            left_out.push(Quarantined { hash: change.hash(), why });
        }
    }
    Ok((good, left_out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use automerge::transaction::Transactable;
    use automerge::{ActorId, ROOT, ReadDoc};

    use super::*;

    /// Two branches: one actor writes `a0` to `a9`, another one `b0` to `b9`.
    fn branches() -> Vec<Change> {
        let write = |name: &str| {
            let mut document = Automerge::new().with_actor(ActorId::from(name.as_bytes()));
            for round in 0..10 {
                let mut tx = document.transaction();
                tx.put(ROOT, format!("{name}{round}"), round).unwrap();
                tx.commit();
            }
            document.get_changes(&[])
        };
        let (left, right) = (write("a"), write("b"));
        left.into_iter().zip(right).flat_map(|(left, right)| [left, right]).collect()
    }

    #[test]
    fn culprits_and_what_stands_on_them_are_left_out_wherever_they_are() {
        let changes = branches();
        for culprit in 0..changes.len() {
            let bad = changes[culprit].hash();
            let mut apply = |automerge: &mut Automerge, step: &[Change]| {
                for change in step {
                    // Half of the step is in when it fails.
                    assert!(change.hash() != bad || culprit.is_multiple_of(2), "as Automerge might panic");
                    if change.hash() == bad {
                        return Err(DocumentError::Refused("a seq twice".to_owned()));
                    }
                    automerge.apply_changes([change.clone()])?;
                }
                Ok(())
            };
            let (document, left_out) = isolate(&Automerge::new(), &changes, &mut apply).unwrap();
            let out = 10 - culprit / 2;
            assert_eq!(left_out.len(), out, "the culprit and its author's later changes");
            assert_eq!(left_out[0].hash, bad);
            assert!(left_out[1..].iter().all(|follower| follower.why.starts_with("it depends on")));
            assert_eq!(document.keys(ROOT).count(), 20 - out);
            assert_eq!(document.get_changes(&[]).len(), 20 - out);
        }
    }

    #[test]
    fn every_author_may_bring_one_in() {
        let changes = branches();
        let mut apply = |_: &mut Automerge, _: &[Change]| -> Result<(), DocumentError> { panic!("as Automerge might") };
        let (document, left_out) = isolate(&Automerge::new(), &changes, &mut apply).unwrap();
        assert!(document.get_heads().is_empty());
        assert_eq!(left_out.len(), 20);
        assert_eq!(left_out.iter().filter(|one| one.why == "Automerge panics on it").count(), 2);
    }

    #[test]
    fn culprits_are_bounded() {
        let alone = |author: u16| {
            let mut document = Automerge::new().with_actor(ActorId::from(author.to_be_bytes()));
            let mut tx = document.transaction();
            tx.put(ROOT, "a", 1).unwrap();
            tx.commit();
            document.get_changes(&[]).remove(0)
        };
        for (count, holds) in [(-1, true), (0, true), (1, false)] {
            let authors = u16::try_from(QUARANTINE_CULPRITS_MAX).unwrap().saturating_add_signed(count);
            let changes: Vec<_> = (0..authors).map(alone).collect();
            let mut apply = |_: &mut Automerge, _: &[Change]| Err(DocumentError::Refused("no".to_owned()));
            assert_eq!(isolate(&Automerge::new(), &changes, &mut apply).is_ok(), holds, "{authors}");
        }
    }
}
