//! The checkers: what must be true at the end, when all trouble is over, and what can be seen to be true on the way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use automerge::{Automerge, ChangeHash};
use rand::RngExt;
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::codec::v1::Code;
use rejoin::ledger::{self, receipts, tombstone};
use rejoin::repo::Receipt;
use rejoin::store::Store;
use rejoin::{DocumentId, Protocol};

use super::model::Holding;
use super::node::{Node, TEAM};
use super::wire::LINE_FRAMES_MAX;
use super::world::World;
use crate::hostile::oracle;

/// How long everybody has to come to the same, in virtual seconds: two tries of a connection that backs off, and a talk.
const PATIENCE_SECONDS: u64 = 240;

/// How often it is looked whether they have.
const GLANCE: Duration = Duration::from_secs(4);

/// What a line may hold beyond what its writers look at: answers to pings, and a close.
const LINE_SPARE: usize = 8;

impl World {
    /// Lets the plan happen, ends all trouble, and checks everything.
    pub fn run(&mut self) {
        let end = self.plan.acts().last().map_or(0, |act| act.at_ms) + 3_000;
        self.run_until(Duration::from_millis(end));
        if !self.complaints.is_empty() {
            return;
        }
        self.heal();
        self.run_until(self.now() + Duration::from_secs(2));
        self.explain_rejections();
        self.gather();
        let mut differences = None;
        for _ in 0..PATIENCE_SECONDS / GLANCE.as_secs() {
            self.run_until(self.now() + GLANCE);
            if !self.complaints.is_empty() {
                return;
            }
            differences = self.differences();
            if differences.is_none() {
                break;
            }
            self.explain_rejections();
        }
        match differences {
            Some(difference) => self.complain(format!("they do not come to the same: {difference}")),
            None => self.check(),
        }
    }

    /// Has the device that is everywhere open every document, so that everything can come to everybody.
    fn gather(&mut self) {
        let known: Vec<_> = self.model.documents.iter().map(|(document, space)| (*document, *space)).collect();
        for (document, space) in known {
            let Some(repo) = self.nodes[0].repo().cloned() else { return };
            self.work(0, None, "fetch", async move { repo.space(space).open_or_fetch(document).await.map(|_| None) });
        }
    }

    /// Looks at every write that a relay refused: there must be a reason. Then it is tried again.
    fn explain_rejections(&mut self) {
        let mut complaints = Vec::new();
        for node in 0..self.nodes.len() {
            let Some(process) = &self.nodes[node].process else { continue };
            let Ok(tx) = process.store.read() else { continue };
            for noted in ledger::rejected::list(&*tx, None).unwrap_or_default() {
                let code = Code::from_number(noted.rejection.code);
                let is_explained = match code {
                    Code::ReadOnly | Code::Forbidden | Code::SpaceUnknown | Code::DeleteForbidden => {
                        self.model.revoked.contains(&node)
                    }
                    Code::DocumentDeleted => !self.model.deleted.is_empty(),
                    Code::ActorOwned | Code::ActorReused => {
                        self.model.has_twins || self.model.was_restored || self.model.has_mallory
                    }
                    _ => false,
                };
                if !is_explained {
                    let text = noted.rejection.text;
                    complaints.push(format!("a relay refused a write of device {node} as {}: {text}", code.name()));
                }
            }
            drop(tx);
            let repo = process.repo.clone();
            self.work(node, None, "retry", async move {
                for write in repo.rejected().await? {
                    // One that stands on another refused one goes with that.
                    let _ = repo.retry(&write).await;
                }
                Ok(None)
            });
        }
        complaints.into_iter().for_each(|complaint| self.complain(complaint));
    }

    /// What of a document who has, by its heads: `None` for one who does not have to have it.
    fn heads_of(&self, is_relay: bool, number: usize, document: &DocumentId) -> Option<Vec<ChangeHash>> {
        let store = if is_relay { self.relays[number].store() } else { self.nodes[number].store() }?;
        let tx = store.read().ok()?;
        let state = ledger::state(&*tx, document).ok()?;
        let follows = is_relay
            || self.nodes[number].speaks == Protocol::RejoinV1 && self.model.documents.get(document) == Some(&TEAM);
        (state.is_some() || follows).then(|| state.unwrap_or_default().head_hashes())
    }

    /// Returns in what those who should have the same differ, if they do.
    fn differences(&mut self) -> Option<String> {
        for node in 0..self.nodes.len() {
            let Some(store) = self.nodes[node].store() else { return Some(format!("device {node} does not run")) };
            let Ok(tx) = store.read() else { return Some(format!("device {node} cannot read its store")) };
            let waiting = ledger::outbox::count(&*tx).unwrap_or(u64::MAX);
            let rejected = ledger::rejected::count(&*tx).unwrap_or(u64::MAX);
            if waiting.saturating_add(rejected) > 0 && !self.may_stay_refused() {
                return Some(format!("device {node} waits with {waiting} changes, {rejected} are refused"));
            }
        }
        let everybody: Vec<(bool, usize)> = self.everybody();
        for document in self.model.documents.keys() {
            if self.is_buried_somewhere(document) {
                let is_here = |(is_relay, number): &(bool, usize)| {
                    let store = if *is_relay { self.relays[*number].store() } else { self.nodes[*number].store() };
                    let tx = store.and_then(|store| store.read().ok());
                    tx.is_some_and(|tx| matches!(ledger::state(&*tx, document), Ok(Some(state)) if state.count > 0))
                };
                if let Some((is_relay, number)) = everybody.iter().find(|one| is_here(one)) {
                    let who = if *is_relay { "relay" } else { "device" };
                    return Some(format!("{document} is deleted, and {who} {number} has it"));
                }
                if let Some(number) = self.relay_without_deletion(document) {
                    return Some(format!("relay {number} does not know that {document} is deleted"));
                }
                continue;
            }
            let mut first: Option<(String, Vec<ChangeHash>)> = None;
            for (is_relay, number) in &everybody {
                let Some(heads) = self.heads_of(*is_relay, *number, document) else { continue };
                let who = format!("{} {number}", if *is_relay { "relay" } else { "device" });
                match &first {
                    None => first = Some((who, heads)),
                    Some((_, others)) if *others == heads => {}
                    Some((other, others)) => {
                        return Some(format!("{document} is {heads:?} on {who}, {others:?} on {other}"));
                    }
                }
            }
        }
        None
    }

    /// Says whether something may stay refused for good: who was somebody else's twin may find its work gone with him.
    fn may_stay_refused(&self) -> bool {
        self.model.has_twins
    }

    fn everybody(&self) -> Vec<(bool, usize)> {
        let relays = (0..self.relays.len()).map(|number| (true, number));
        relays.chain((0..self.nodes.len()).map(|number| (false, number))).collect()
    }

    /// Returns a relay that was not told of a deletion by a device that knows of it. A device that compares does not hear of
    /// deletions of what it never had: there is nobody then who could bring the document back unnoticed.
    fn relay_without_deletion(&self, document: &DocumentId) -> Option<usize> {
        let connects = |node: &Node, number: usize| node.tokens.iter().any(|(relay, _)| *relay == number);
        let is_told = |number: usize| {
            is_buried(self.relays[number].store(), document)
                || !self.nodes.iter().any(|node| connects(node, number) && is_buried(node.store(), document))
        };
        (0..self.relays.len()).find(|number| !is_told(*number))
    }

    fn is_buried_somewhere(&self, document: &DocumentId) -> bool {
        let mut stores =
            self.relays.iter().map(|relay| relay.store()).chain(self.nodes.iter().map(|node| node.store()));
        stores.any(|store| is_buried(store, document))
    }

    /// Checks everything that must be true at the end.
    fn check(&mut self) {
        let everybody = self.everybody();
        let mut holdings = BTreeMap::new();
        for (is_relay, number) in everybody {
            match self.holding(is_relay, number) {
                Some(holding) => drop(holdings.insert((is_relay, number), holding)),
                None => self.complain(format!("a store cannot be read: {is_relay} {number}")),
            }
        }
        self.check_writes(&holdings);
        self.check_receipts();
        self.check_stores();
        self.check_values();
    }

    /// Nothing that was acknowledged is lost.
    fn check_writes(&mut self, holdings: &BTreeMap<(bool, usize), Holding>) {
        let mut lost = Vec::new();
        for (tag, write) in &self.model.writes {
            if !write.is_acknowledged || write.excuse.is_some() || self.is_buried_somewhere(&write.document) {
                continue;
            }
            let lacks = holdings.iter().find(|((is_relay, _), holding)| *is_relay && !holding.tags.contains(tag));
            if let Some(((_, relay), _)) = lacks {
                let own = holdings.get(&(false, write.node)).is_some_and(|own| own.tags.contains(tag));
                let is_refused = own && self.model.has_twins && self.is_refused(write.node);
                if !is_refused {
                    lost.push(format!(
                        "write {tag} of device {} is not on relay {relay} (on the device: {own})",
                        write.node
                    ));
                }
            }
        }
        for (document, is_acknowledged) in &self.model.deleted {
            let is_anywhere =
                holdings.iter().any(|((is_relay, _), holding)| *is_relay && holding.buried.contains(document));
            if *is_acknowledged && !is_anywhere {
                lost.push(format!("the deletion of {document} is on no relay"));
            }
        }
        lost.into_iter().for_each(|one| self.complain(one));
    }

    fn is_refused(&self, node: usize) -> bool {
        let tx = self.nodes[node].store().and_then(|store| store.read().ok());
        tx.is_some_and(|tx| ledger::rejected::count(&*tx).unwrap_or(0) > 0)
    }

    /// What is there in the end is said to be on the relay.
    fn check_receipts(&mut self) {
        let mut wrong = Vec::new();
        for (tag, write) in self.model.writes.iter().filter(|(_, write)| write.is_acknowledged) {
            let (Some(store), Some(change)) = (self.nodes[write.node].store(), write.change) else { continue };
            let Ok(tx) = store.read() else { continue };
            let Ok(Some(position)) = ledger::position(&*tx, &write.document, &change) else { continue };
            if let Ok(Some(Receipt::Local)) = receipts::get(&*tx, &write.document, position)
                && !self.may_stay_refused()
            {
                wrong.push(format!(
                    "write {tag} of device {} is on the relay, and the device does not know",
                    write.node
                ));
            }
        }
        wrong.into_iter().for_each(|one| self.complain(one));
    }

    /// Looks at what one device says of one write, in the middle of everything: who is said to have it has it.
    pub(super) fn look_at_a_receipt(&mut self) {
        if self.wires.fullest() > LINE_FRAMES_MAX + LINE_SPARE {
            self.complain("a line holds more than its bound".to_owned());
        }
        if self.model.writes.is_empty() || self.model.was_restored || self.model.has_restored {
            return;
        }
        let tag = self.chance.random_range(0..self.model.writes.len() as u64);
        let write = self.model.writes[&tag].clone();
        let (Some(change), Some(store)) = (write.change, self.nodes[write.node].store().cloned()) else { return };
        let are_all_up = self.relays.iter().all(|relay| relay.relay.is_some() && !relay.disk.is_cut())
            && self.nodes.iter().all(|node| node.process.is_some() && !node.disk.is_cut());
        let Ok(tx) = store.read() else { return };
        let Ok(Some(position)) = ledger::position(&*tx, &write.document, &change) else { return };
        let receipt = receipts::get(&*tx, &write.document, position).ok().flatten();
        drop(tx);
        if !are_all_up || self.is_buried_somewhere(&write.document) {
            return;
        }
        let has = |store: &std::sync::Arc<dyn rejoin::store::Store>| {
            let tx = store.read().ok();
            tx.is_none_or(|tx| !matches!(ledger::position(&*tx, &write.document, &change), Ok(None)))
        };
        if receipt >= Some(Receipt::Relayed) && !self.relays.iter().filter_map(|relay| relay.store()).any(has) {
            self.complain(format!("write {tag} is said to be relayed, and no relay has it"));
        }
        let mut others = self.nodes.iter().filter(|node| node.number != write.node);
        if receipt >= Some(Receipt::Seen) && !others.any(|node| node.store().is_some_and(has)) {
            self.complain(format!("write {tag} is said to be seen, and no other device has it"));
        }
    }

    /// Every store is sound: each change is what its hash says, graph, registers and logs are what the changes make.
    fn check_stores(&mut self) {
        let relays = self.relays.iter().filter_map(|relay| relay.store().map(|store| (store, Registers::Absent)));
        let nodes = self.nodes.iter().filter_map(|node| node.store().map(|store| (store, Registers::Kept)));
        let mut unsound = Vec::new();
        for (index, (store, registers)) in relays.chain(nodes).enumerate() {
            match care::verify(&**store, &VerifyOptions::new(registers), &mut |_| {}) {
                Ok(report) if report.is_sound() => {}
                Ok(report) => unsound.push(format!("store {index} is not sound: {}", report.to_json())),
                Err(error) => unsound.push(format!("store {index} cannot be checked: {error}")),
            }
        }
        unsound.into_iter().for_each(|one| self.complain(one));
    }

    /// Registers, documents in memory and Automerge say the same.
    fn check_values(&mut self) {
        let shown: Rc<RefCell<BTreeMap<(usize, DocumentId), String>>> = Rc::default();
        let mut expected: BTreeMap<DocumentId, String> = BTreeMap::new();
        let mut wrong = Vec::new();
        let documents: BTreeSet<DocumentId> = self.model.documents.keys().copied().collect();
        for document in documents {
            for node in 0..self.nodes.len() {
                let Some(process) = &self.nodes[node].process else { continue };
                let store = &*process.store;
                let Ok(tx) = store.read() else { continue };
                if !matches!(ledger::state(&*tx, &document), Ok(Some(state)) if state.count > 0) {
                    continue;
                }
                let mut chunks = Vec::new();
                let exported = ledger::export(&*tx, &document, 0, &mut |bytes| {
                    chunks.extend(automerge::Change::from_bytes(bytes.to_vec()).ok());
                    std::ops::ControlFlow::Continue(())
                });
                let mut automerge = Automerge::new();
                if exported.is_err() || automerge.apply_changes(chunks).is_err() {
                    wrong.push(format!("automerge does not take {document} of device {node}"));
                    continue;
                }
                if let Err(complaint) = oracle::compare_registers(store, document, &automerge) {
                    wrong.push(format!("registers of {document} on device {node}: {complaint:?}"));
                }
                match rejoin::document::json::to_json(&automerge) {
                    Ok(json) => drop(expected.insert(document, json.to_string())),
                    Err(error) => wrong.push(format!("{document} is no JSON: {error}")),
                }
                let (repo, shown) = (process.repo.clone(), Rc::clone(&shown));
                self.simulation.start(self.nodes[node].place(), async move {
                    if let Ok(json) = repo.handle(document).to_json().await {
                        shown.borrow_mut().insert((node, document), json.to_string());
                    }
                });
            }
        }
        wrong.into_iter().for_each(|one| self.complain(one));
        self.settle();
        let shown = shown.borrow().clone();
        for ((node, document), json) in shown {
            if expected.get(&document) != Some(&json) {
                self.complain(format!(
                    "device {node} shows {document} as {json}, automerge as {:?}",
                    expected.get(&document)
                ));
            }
        }
    }
}

/// Says whether a store that can be read knows that a document is deleted everywhere.
fn is_buried(store: Option<&Arc<dyn Store>>, document: &DocumentId) -> bool {
    let tx = store.and_then(|store| store.read().ok());
    tx.is_some_and(|tx| tombstone::is_buried(&*tx, document).unwrap_or(false))
}
