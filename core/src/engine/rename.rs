//! Writing changes again under other actors: what a device does whose actor somebody else used too.
//!
//! An operation's name is a counter and its actor. Of an actor that forked, the names below the fork mean the same to
//! everybody and stay. Those from the fork on mean one thing here and another thing there; here they get a fresh actor, at
//! the same counters. There is no mix-up, because whatever else uses those names came by a change that this document
//! does not have: a change with a number that is taken is refused. Once these are renamed, it is welcome, and its names are
//! its own.

use std::collections::HashMap;

use automerge::legacy::{ElementId, Key, ObjectId, OpId};
use automerge::{ActorId, Change, ChangeHash, ExpandedChange};

use crate::document::guarded;
use crate::gate::CheckedChange;

/// An actor that is replaced.
struct Fork {
    fresh: ActorId,
    /// The counter of the first operation that is renamed.
    from: u64,
    seq: u64,
}

/// Writes changes again, each under a fresh actor in the place of its own, and naming each other by their new names.
///
/// `changes` come with everything that stands on them, each after those it depends on, and of an actor's changes the last
/// ones. Cost: decodes and encodes each twice.
///
/// # Errors
///
/// What is wrong with a change that Automerge does not write as it stands here.
pub(super) fn under_fresh_actors(
    changes: &[CheckedChange],
    fresh: &mut dyn FnMut() -> ActorId,
) -> Result<Vec<CheckedChange>, String> {
    let mut forks: HashMap<ActorId, Fork> = HashMap::new();
    let mut hashes: HashMap<ChangeHash, ChangeHash> = HashMap::new();
    let mut renamed = Vec::with_capacity(changes.len());
    for change in changes {
        let new = || Fork { fresh: fresh(), from: change.start_op(), seq: 0 };
        forks.entry(change.actor().clone()).or_insert_with(new).seq += 1;
        let written = guarded(|| rewrite(change, &forks, &hashes)).map_err(|error| error.to_string())??;
        hashes.insert(change.hash(), written.hash());
        renamed.push(written);
    }
    Ok(renamed)
}

fn rewrite(
    change: &CheckedChange,
    forks: &HashMap<ActorId, Fork>,
    hashes: &HashMap<ChangeHash, ChangeHash>,
) -> Result<CheckedChange, String> {
    let decoded = Change::from_bytes(change.bytes().to_vec()).map_err(|error| error.to_string())?;
    let mut expanded = decoded.decode();
    // What does not come back byte for byte would say something else under another name.
    if Change::from(expanded.clone()).raw_bytes() != &change.bytes()[..] {
        return Err("Automerge writes the change in another form".to_owned());
    }
    rename(&mut expanded, forks);
    for dep in &mut expanded.deps {
        *dep = hashes.get(dep).copied().unwrap_or(*dep);
    }
    expanded.deps.sort_unstable();
    let fork = forks.get(change.actor()).ok_or("its actor has no other name")?;
    (expanded.actor_id, expanded.seq, expanded.hash) = (fork.fresh.clone(), fork.seq, None);
    CheckedChange::parse(Change::from(expanded).raw_bytes()).map_err(|error| error.to_string())
}

/// Gives every operation that is referred to its new name.
fn rename(change: &mut ExpandedChange, forks: &HashMap<ActorId, Fork>) {
    let rename = |id: &mut OpId| {
        if let Some(fork) = forks.get(&id.1).filter(|fork| id.0 >= fork.from) {
            id.1 = fork.fresh.clone();
        }
    };
    for op in &mut change.operations {
        if let ObjectId::Id(id) = &mut op.obj {
            rename(id);
        }
        if let Key::Seq(ElementId::Id(id)) = &mut op.key {
            rename(id);
        }
        // Sorted again: the order of predecessors at one counter is that of their actors.
        op.pred = op
            .pred
            .iter()
            .cloned()
            .map(|mut id| {
                rename(&mut id);
                id
            })
            .collect();
    }
}
