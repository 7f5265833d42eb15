//! The end of a run: everybody comes to the same, everything is stopped, and all stores are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rejoin::{ConnectOptions, DocumentId, Protocol, Repo};

use super::check::{Document, Evidence, Store};
use super::device::panics;
use super::history;
use super::member::writes;
use super::{PATIENCE, World};

impl World {
    /// Waits until nothing waits any more and all clients have the same; then lets a device join that has nothing, and stops
    /// everything but that. Returns what that one got.
    pub(super) async fn settle(&mut self) -> Vec<Store> {
        let begun = Instant::now();
        let mut unsettled = self.unsettled();
        // A client that is alone finds out about a dead connection after 45 s, and about the next one again.
        while !unsettled.is_empty() && begun.elapsed() < self.options.patience {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tokio::task::block_in_place(|| self.notice_deaths());
            unsettled = self.unsettled();
        }
        let patience = self.options.patience;
        self.faults.extend(unsettled.into_iter().map(|text| format!("not settled in {patience:?}: {text}")));
        let late = self.join_late().await;
        for client in 0..self.devices.len() {
            tokio::task::block_in_place(|| {
                self.stop_client(client);
                let wrong = self.devices[client].look();
                self.faults.extend(wrong);
            });
        }
        tokio::task::block_in_place(|| {
            let (space, relay) = (self.space, &mut self.relays[0]);
            relay.stop();
            relay.look(space, &self.log, true);
        });
        vec![late]
    }

    /// Says what is not as it is to be, for each client and document.
    fn unsettled(&mut self) -> Vec<String> {
        let mut unsettled = Vec::new();
        let mut wanted: BTreeMap<DocumentId, (String, Vec<String>)> = BTreeMap::new();
        let initial: BTreeSet<DocumentId> = self.documents.iter().copied().collect();
        let liar = self.options.liar;
        for device in self.devices.iter_mut().filter(|device| Some(device.orders.client) != liar) {
            let (name, is_classic) = (device.name.clone(), device.is_classic());
            let standing = device.standing();
            match standing.waits {
                Some((0, 0)) => {}
                Some((pending, rejected)) => unsettled.push(format!(
                    "{name}: {pending} changes wait and {rejected} are rejected, its connection is {}",
                    standing.state
                )),
                None => unsettled.push(format!("{name} has said nothing yet")),
            }
            for (document, heads) in &standing.heads {
                let (whose, first) = wanted.entry(*document).or_insert_with(|| (name.clone(), heads.clone()));
                if first != heads {
                    let state = &standing.state;
                    unsettled.push(format!("{document}: {name} ({state}) has {heads:?}, {whose} has {first:?}"));
                }
            }
            // Who does not follow the space knows only what it was told of.
            for document in wanted.keys().filter(|document| !is_classic || initial.contains(document)) {
                if !standing.heads.contains_key(document) {
                    unsettled.push(format!("{document}: {name} ({}) does not have it", standing.state));
                }
            }
        }
        unsettled
    }

    /// Lets a device join that has nothing, and returns what it gets.
    async fn join_late(&mut self) -> Store {
        let repo = Repo::in_memory().unwrap();
        repo.space(self.space).follow().await.unwrap();
        let options = ConnectOptions::new().protocol(Protocol::RejoinV1).token(self.late_token.clone());
        let mut connection = repo.connect_with(&self.relays[0].url(), &options).unwrap();
        if let Err(error) = connection.wait_caught_up(self.options.patience).await {
            self.faults.push(format!("a device that joined late did not catch up: {error}, {:?}", connection.state()));
        }
        // What came whole is taken apart behind the scenes.
        let begun = Instant::now();
        let unfolded = loop {
            let unfolded = repo.look(|tx| {
                rejoin::ledger::documents(tx)?.iter().try_for_each(|document| writes(tx, document, &mut |_, _| {}))
            });
            match unfolded.await {
                Err(_) if begun.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(50)).await,
                unfolded => break unfolded,
            }
        };
        let store = match unfolded {
            Ok(()) => self.read(&repo, "late", true).await,
            Err(error) => {
                self.faults.push(format!("a device that joined late cannot read what it got: {error}"));
                Store { name: "late".to_owned(), follows: true, ..Store::default() }
            }
        };
        connection.disconnect().await;
        store
    }

    /// Reads what is in a repo.
    async fn read(&mut self, repo: &Repo, name: &str, follows: bool) -> Store {
        let mut documents = BTreeMap::new();
        for id in repo.list().await.unwrap() {
            let handle = repo.handle(id);
            let heads = handle.heads().await.unwrap();
            let json = handle.to_json().await.unwrap();
            if handle.at(&heads).await.unwrap().to_json().await.unwrap() != json {
                self.faults.push(format!("{id} at {name}: its fields show something else than Automerge"));
            }
            let found = repo.look(move |tx| {
                let mut found = Vec::new();
                writes(tx, &id, &mut |write, _| found.push(write))?;
                Ok(found)
            });
            let (writes, is_initial) = (found.await.unwrap(), self.documents.contains(&id));
            let heads = heads.iter().map(ToString::to_string).collect();
            documents.insert(id, Document { heads, writes, json, is_initial });
        }
        let report = repo.verify().await.unwrap();
        if !report.is_sound() {
            self.faults.push(format!("the store of {name} is not sound: {:?}", report.findings));
        }
        Store { name: name.to_owned(), follows, documents }
    }

    /// Reads everything that the run left behind, when nothing runs any more.
    pub(super) async fn gather(&mut self, others: Vec<Store>) -> Evidence {
        let mut stores = Vec::new();
        for client in 0..self.devices.len() {
            let device = &self.devices[client];
            let (path, name, follows) = (device.orders.store.clone(), device.name.clone(), !device.is_classic());
            self.faults.extend(self.devices[client].panics());
            let repo = Repo::open(path).await.unwrap();
            stores.push(self.read(&repo, &name, follows).await);
            repo.close().await;
        }
        stores.extend(others);
        for relay in &self.relays {
            self.faults.extend(panics("the relay", &relay.log_file()));
        }
        let (relay, wrong) = tokio::task::block_in_place(|| self.relays[0].documents(&self.documents));
        self.faults.extend(wrong);
        let devices = self.devices.iter().map(|device| history::read(&device.orders.history)).collect();
        let nemesis = history::read(&self.folder.join("nemesis"));
        Evidence { devices, nemesis, stores, relay, faults: std::mem::take(&mut self.faults) }
    }
}
