//! The checker: what was said and done, and what is there in the end, held against each other. A pure function.
//!
//! A receipt is a promise about what is durable, so it is held against stores: against what each process of a device found in its
//! store when it began, against the relay's store each time that the relay was killed, and against everything in the end. Nothing
//! depends on how long anything took.

mod books;
mod counts;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use rejoin::{DocumentId, Receipt};
use serde_json::Value as Json;

use super::history::{At, Done, Said, WriteId};
use books::{Books, Write};

/// What a run left behind.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The devices' histories, by the number of the client.
    pub devices: Vec<Vec<At<Said>>>,
    /// The nemesis' history.
    pub nemesis: Vec<At<Done>>,
    /// What is in each store in the end.
    pub stores: Vec<Store>,
    /// The relay's documents in the end.
    pub relay: BTreeMap<DocumentId, Document>,
    /// What needs no checker to be wrong: a process that died by itself, a panic, a store that is not sound.
    pub faults: Vec<String>,
}

/// A device's store in the end.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Whose.
    pub name: String,
    /// Whether it follows the space; if not it has only the documents that were there from the beginning.
    pub follows: bool,
    /// What is in it.
    pub documents: BTreeMap<DocumentId, Document>,
}

/// A document in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// Its heads, sorted.
    pub heads: Vec<String>,
    /// The writes among its changes, in the order of its ledger.
    pub writes: Vec<WriteId>,
    /// What it shows; null where nobody can tell, as at a relay.
    pub json: Json,
    /// Whether it was there from the beginning.
    pub is_initial: bool,
}

/// What may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An acknowledged write is gone.
    Lost,
    /// A receipt was given that is not true.
    FalseReceipt,
    /// A receipt that was given is not given any more.
    TakenBack,
    /// A position of the log is another change's, or a change has two.
    Position,
    /// Two that have everything do not have the same.
    Diverged,
    /// A write counts twice, or not at all, or was never made.
    Count,
    /// A write was accepted from somebody who had lost the right to make it.
    Revoked,
    /// Something was refused or failed, and nothing that was done explains it.
    Unexplained,
    /// Something is wrong by itself.
    Fault,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

/// Holds the evidence against all rules; what is returned is broken.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let books = Books::of(evidence);
    let mut found = Found::default();
    for fault in &evidence.faults {
        found.add(Rule::Fault, fault.clone());
    }
    for (client, history) in evidence.devices.iter().enumerate() {
        stores_when_opened(&books, client, history, &mut found);
        receipts_again(&books, history, &mut found);
    }
    relayed(evidence, &books, &mut found);
    seen(evidence, &books, &mut found);
    in_the_end(evidence, &books, &mut found);
    positions(evidence, &mut found);
    diverged(evidence, &mut found);
    counts::check(evidence, &books, &mut found);
    rights::check(evidence, &books, &mut found);
    found.0
}

/// What was found. Of one rule no more than a few: they have one cause.
#[derive(Debug, Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, rule: Rule, text: String) {
        if self.0.iter().filter(|other| other.rule == rule).count() < 20 {
            self.0.push(Violation { rule, text });
        }
    }
}

/// Each time that a device's store was opened, every write was in it that was said to be durable there.
fn stores_when_opened(books: &Books, client: usize, history: &[At<Said>], found: &mut Found) {
    let (mut has, mut promised) = (HashSet::new(), BTreeSet::new());
    for At { time, what } in history {
        match what {
            Said::Run(_) => has.clear(),
            Said::Has(..) => has.extend(what.had()),
            Said::Stage(id, _) => {
                if !books.writes.contains_key(id) || id.client != client {
                    found.add(Rule::FalseReceipt, format!("c{client} has a receipt of {id}, which it never made"));
                }
                promised.insert(*id);
            }
            Said::Looked => {
                for id in promised.iter().filter(|id| !has.contains(*id)) {
                    let Some(write) = books.writes.get(id) else { continue };
                    if !write.is_dropped && !books.is_rolled_away(*id, write, *time) {
                        found
                            .add(Rule::Lost, format!("{id} was local, and is not in the store of c{client} at {time}"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whatever a receipt said, later processes of the device say so too.
fn receipts_again(books: &Books, history: &[At<Said>], found: &mut Found) {
    let mut said: HashMap<WriteId, Receipt> = HashMap::new();
    for At { time, what } in history {
        match what {
            Said::Stage(id, stage) => {
                let before = said.entry(*id).or_insert(*stage);
                *before = (*before).max(*stage);
            }
            Said::Stands(id, stands) => {
                let Some((before, write)) = said.get(id).zip(books.writes.get(id)) else { continue };
                // An older disk knows no more than it knew then.
                let is_excused = write.is_dropped || books.rolled_after(id.client, write.invoked, *time);
                if !is_excused && *stands < Some(*before) {
                    found.add(Rule::TakenBack, format!("{id} was {before:?}, and stands at {stands:?} at {time}"));
                }
            }
            _ => {}
        }
    }
}

/// Each time that the relay was killed, every write was in its store that was said to be there.
fn relayed(evidence: &Evidence, books: &Books, found: &mut Found) {
    let mut has = HashSet::new();
    let mut restored = 0;
    for At { time, what } in &evidence.nemesis {
        match what {
            Done::Restored => {
                has.clear();
                restored = *time;
            }
            Done::RelayHas(.., Some(id)) => drop(has.insert(*id)),
            Done::RelayLooked => {
                // What was made before a backup was put back comes again from the devices: that is asked in the end.
                let promised = |write: &Write| write.relayed.is_some_and(|at| at < *time) && write.invoked > restored;
                for (id, _) in books.writes.iter().filter(|(id, write)| promised(write) && !has.contains(*id)) {
                    found
                        .add(Rule::FalseReceipt, format!("{id} was relayed, and the relay does not have it at {time}"));
                }
            }
            _ => {}
        }
    }
}

/// Every write that was said to be seen is in the store of another device, by the next time that it was opened.
fn seen(evidence: &Evidence, books: &Books, found: &mut Found) {
    let witnesses: Vec<Witness> = evidence.devices.iter().map(|history| Witness::of(history)).collect();
    for (id, write) in &books.writes {
        let Some(time) = write.seen else { continue };
        let others = witnesses.iter().enumerate().filter(|(client, _)| *client != id.client);
        if !others.into_iter().any(|(_, witness)| witness.had(id, time)) {
            found.add(Rule::FalseReceipt, format!("{id} was seen at {time}, and no other device had it then"));
        }
    }
}

/// When a device had what.
struct Witness {
    /// When each process that looked began.
    looks: Vec<u64>,
    /// Which look was the first that found a write.
    first: HashMap<WriteId, usize>,
}

impl Witness {
    fn of(history: &[At<Said>]) -> Self {
        let (mut looks, mut first, mut begun) = (Vec::new(), HashMap::new(), 0);
        for At { time, what } in history {
            match what {
                Said::Run(_) => begun = *time,
                Said::Has(..) => what.had().for_each(|id| {
                    first.entry(id).or_insert(looks.len());
                }),
                Said::Looked => looks.push(begun),
                _ => {}
            }
        }
        Self { looks, first }
    }

    /// Says whether the device may have had a write at that time: its store had it when it was opened next.
    fn had(&self, id: &WriteId, time: u64) -> bool {
        let next = self.looks.iter().position(|begun| *begun > time).unwrap_or(self.looks.len());
        self.first.get(id).is_some_and(|first| *first <= next)
    }
}

/// In the end, every acknowledged write is with its device and with the relay.
fn in_the_end(evidence: &Evidence, books: &Books, found: &mut Found) {
    let everything = |documents: &BTreeMap<DocumentId, Document>| -> HashSet<WriteId> {
        documents.values().flat_map(|document| document.writes.iter().copied()).collect()
    };
    let relay = everything(&evidence.relay);
    let stores: Vec<HashSet<WriteId>> = evidence.stores.iter().map(|store| everything(&store.documents)).collect();
    for (id, write) in books.writes.iter().filter(|(_, write)| write.local.is_some()) {
        let is_gone_there = write.is_dropped || books.is_rolled_away(*id, write, u64::MAX);
        // The relay's own loss is made up for by whoever has it, unless that one lost it as well.
        let others_may_lack_it = write.seen.is_none() || books.others_rolled_after(id.client, write.invoked);
        let is_gone_everywhere =
            is_gone_there && (write.relayed.is_none() || (books.restored_after(write.invoked) && others_may_lack_it));
        if is_gone_everywhere {
            continue;
        }
        if !relay.contains(id) {
            found
                .add(Rule::Lost, format!("{id} was acknowledged ({write}), and the relay does not have it in the end"));
        }
        if stores.get(id.client).is_some_and(|store| !store.contains(id)) {
            found.add(
                Rule::Lost,
                format!("{id} was acknowledged ({write}), and its device does not have it in the end"),
            );
        }
    }
}

/// In one epoch, a position is one change's for ever, and a change has one position.
fn positions(evidence: &Evidence, found: &mut Found) {
    let mut by_position: HashMap<(&str, u64), (DocumentId, &str)> = HashMap::new();
    let mut by_change: HashMap<(&str, DocumentId, &str), u64> = HashMap::new();
    for At { what, .. } in &evidence.nemesis {
        let Done::RelayHas(epoch, position, document, hash, _) = what else { continue };
        let before = *by_position.entry((epoch, *position)).or_insert((*document, hash));
        if before != (*document, hash.as_str()) {
            let text = format!("{position} of {epoch} was {} of {}, and is {hash} of {document}", before.1, before.0);
            found.add(Rule::Position, text);
        }
        let before = *by_change.entry((epoch, *document, hash)).or_insert(*position);
        if before != *position {
            found.add(Rule::Position, format!("{hash} of {document} was at {before} of {epoch}, and is at {position}"));
        }
    }
}

/// In the end everybody has the same of every document.
fn diverged(evidence: &Evidence, found: &mut Found) {
    let all: BTreeSet<&DocumentId> =
        evidence.stores.iter().flat_map(|store| written(&store.documents)).chain(written(&evidence.relay)).collect();
    for document in all {
        let wanted = evidence.relay.get(document).cloned().unwrap_or_default();
        let shown = evidence.stores.iter().filter_map(|store| store.documents.get(document));
        let json = shown.map(|there| &there.json).find(|json| !json.is_null());
        for store in &evidence.stores {
            let Some(there) = store.documents.get(document) else {
                if store.follows || wanted.is_initial {
                    found.add(Rule::Diverged, format!("{} does not have {document}", store.name));
                }
                continue;
            };
            if there.heads != wanted.heads {
                let text =
                    format!("heads of {document}: {} {:?}, the relay {:?}", store.name, there.heads, wanted.heads);
                found.add(Rule::Diverged, text);
            } else if Some(&there.json) != json {
                let text = format!(
                    "{document} shows {} at {}, and elsewhere {}",
                    there.json,
                    store.name,
                    json.unwrap_or(&Json::Null)
                );
                found.add(Rule::Diverged, text.chars().take(2_000).collect());
            }
        }
    }
}

fn written(documents: &BTreeMap<DocumentId, Document>) -> impl Iterator<Item = &DocumentId> {
    documents.iter().filter(|(_, document)| !document.heads.is_empty()).map(|(id, _)| id)
}
