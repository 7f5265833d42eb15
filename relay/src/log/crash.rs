//! Power is cut at the I/O operations of a relay's life, and what it acknowledged or passed on must be there.
//!
//! Two clients without sockets exchange changes through the relay's own log, hub and sessions, on a disk that stops at one
//! operation after the other. Everything that a client hears counts as acknowledged: the heads that the relay shows, and
//! the changes that it passes on. The run is the same each time, so what the store must hold after each append is known
//! from a run that nothing disturbs.
//!
//! Every operation is tried; with `REJOIN_CRASH_ALL=1` also many more of the random images of each.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the counts tell what was tried")]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::SyncMessage;
use rejoin::engine::{self, Origin};
use rejoin::fields::{self, Author};
use rejoin::store::testing::disk::{Chance, CutFiles, Images, Kept};
use rejoin::store::{self, MemoryStore, RedbOptions, RedbStore, Store, StoreError, StoreExt, Table};
use rejoin::sync::classic::{ClassicSession, Identity, Output, Role};
use rejoin::{ActorId, ChangeHash, Edit, PeerId, ledger};
use tokio::runtime::Runtime;

use super::tests::is_stored;
use super::*;
use crate::hub::{Hub, Member};

const DOCUMENTS: [DocumentId; 2] = [DocumentId::from_bytes([1; 16]), DocumentId::from_bytes([2; 16])];

/// How many edits the clients make, in turn.
const EDITS: usize = 32;

/// How often the random images of a cut are thrown, and how often with `REJOIN_CRASH_ALL`.
const ROLLS: (u64, u64) = (2, 12);

/// The relay cannot go on: its store fails.
#[derive(Debug)]
struct Fallen;

impl From<StoreError> for Fallen {
    fn from(_: StoreError) -> Self {
        Self
    }
}

/// What the world knows of the relay's store.
#[derive(Default)]
struct Heard {
    /// How many writes the relay was told are durable.
    writes: usize,
    /// The heads that it showed and the changes that it passed on.
    hashes: BTreeSet<(DocumentId, ChangeHash)>,
}

/// When a write counts as acknowledged.
#[derive(Clone, Copy, PartialEq)]
enum Acknowledging {
    Durable,
    /// Before it is written: what the checks must notice.
    Early,
}

/// A client, and the relay's end of its connection.
struct Pair {
    store: MemoryStore,
    actor: ActorId,
    client: ClassicSession,
    server: ClassicSession,
    member: Member,
}

struct Relay<'a> {
    runtime: &'a Runtime,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    log: GroupCommit,
    pairs: Vec<Pair>,
    heard: Heard,
    acknowledging: Acknowledging,
    /// A digest of all rows after each write, where somebody wants to know.
    states: Option<Vec<u64>>,
}

fn identity(name: &str) -> Identity {
    Identity { peer: PeerId::new(name).unwrap(), storage: None, epoch: None }
}

fn open(disk: &CutFiles) -> Result<RedbStore, StoreError> {
    disk.open(RedbOptions::new().quick_repair(true).journal(true))
}

impl<'a> Relay<'a> {
    fn start(runtime: &'a Runtime, disk: &CutFiles, stores: [MemoryStore; 2]) -> Result<Self, Fallen> {
        let store: Arc<dyn Store> = Arc::new(open(disk)?);
        let hub = Arc::new(Hub::default());
        let log = GroupCommit::start(Arc::clone(&store), Arc::clone(&hub), None).unwrap();
        let mut names = ["alice", "bob"].into_iter();
        let pairs = stores.map(|store| {
            let name = names.next().unwrap();
            Pair {
                store,
                actor: ActorId::from(name.as_bytes()),
                client: ClassicSession::new(Role::Client, identity(name)),
                server: ClassicSession::new(Role::Server, identity("relay")),
                member: hub.enter(),
            }
        });
        let (heard, acknowledging) = (Heard::default(), Acknowledging::Durable);
        Ok(Self { runtime, store, hub, log, pairs: pairs.into(), heard, acknowledging, states: None })
    }

    /// Makes the clients edit in turn and exchange it, until the power fails.
    fn live(&mut self) -> Result<(), Fallen> {
        self.exchange()?;
        for number in 0..EDITS {
            let document = DOCUMENTS[number / 2 % 2];
            let pair = &mut self.pairs[number % 2];
            pair.store
                .write_with(|tx| {
                    let author = Author { actor: &pair.actor, time_seconds: 0, message: None };
                    let size = if number % 5 == 4 { 12_000 } else { 20 };
                    for step in 0..=number % 3 {
                        let edit = Edit::set(format!("key {step}"), format!("{number} {}", "x".repeat(size)));
                        fields::write(tx, &document, &author, &[edit])?.unwrap();
                    }
                    Ok(())
                })
                .unwrap();
            pair.client.handle_heads_changed(document);
            // Now and then both have something new when they meet.
            if number % 4 != 2 {
                self.exchange()?;
            }
        }
        self.exchange()
    }

    /// Has every client connect anew.
    fn reconnect(&mut self) {
        for (pair, name) in self.pairs.iter_mut().zip(["alice", "bob"]) {
            pair.client = ClassicSession::new(Role::Client, identity(name));
            pair.server = ClassicSession::new(Role::Server, identity("relay"));
            pair.member = self.hub.enter();
        }
    }

    /// Passes frames until nobody has any more to say.
    fn exchange(&mut self) -> Result<(), Fallen> {
        loop {
            let mut is_quiet = true;
            for index in 0..self.pairs.len() {
                for frame in self.frames_of_client(index) {
                    is_quiet = false;
                    let session = &mut self.pairs[index].server;
                    session.handle_frame(&frame, &*self.store.read()?)?;
                    // A connection carries an append out before it reads on.
                    self.serve(index)?;
                }
                is_quiet &= !self.serve(index)?;
            }
            if is_quiet {
                return Ok(());
            }
        }
    }

    fn frames_of_client(&mut self, index: usize) -> Vec<Bytes> {
        let pair = &mut self.pairs[index];
        let mut frames = Vec::new();
        while let Some(output) = pair.client.poll_output() {
            match output {
                Output::Send(frame) => frames.push(frame),
                Output::Established { .. } => {
                    for document in DOCUMENTS {
                        pair.client.open(document, Vec::new(), &*pair.store.read().unwrap()).unwrap();
                    }
                }
                Output::Append { document, changes } => {
                    self.heard.hashes.extend(changes.iter().map(|change| (document, change.hash())));
                    let accept = |tx: &mut dyn store::WriteTx| engine::accept(tx, document, changes, Origin::Remote);
                    let accepted = pair.store.write_with(accept).unwrap();
                    pair.client.handle_appended(document, accepted.results, &*pair.store.read().unwrap()).unwrap();
                }
                _ => {}
            }
        }
        while let Some(frame) = pair.client.poll_transmit(&*pair.store.read().unwrap()).unwrap() {
            frames.push(frame);
        }
        frames
    }

    /// Does what a connection of the relay does. Returns whether it sent anything.
    fn serve(&mut self, index: usize) -> Result<bool, Fallen> {
        let mut frames = Vec::new();
        self.hub.tell_held();
        let changed: BTreeSet<_> = self.pairs[index].member.mailbox().take_changed().0.into_iter().collect();
        for document in changed {
            self.pairs[index].server.handle_heads_changed(document);
        }
        while let Some(output) = self.pairs[index].server.poll_output() {
            match output {
                Output::Send(frame) => frames.push(frame),
                Output::Subscribe { document } => {
                    self.pairs[index].member.subscribe(document);
                    self.pairs[index].server.handle_heads_changed(document);
                }
                Output::Append { document, changes } => {
                    let results = self.append(index, document, changes)?;
                    self.pairs[index].server.handle_appended(document, results, &*self.store.read()?)?;
                }
                _ => {}
            }
        }
        let tx = self.store.read()?;
        while let Some(frame) = self.pairs[index].server.poll_transmit(&*tx)? {
            frames.push(frame);
        }
        drop(tx);
        for frame in &frames {
            if let Ok(Frame::Sync { document, data, .. }) = Frame::decode(frame) {
                let heads = SyncMessage::decode(&data).unwrap().heads;
                self.heard.hashes.extend(heads.into_iter().map(|hash| (document, hash)));
            }
            let pair = &mut self.pairs[index];
            pair.client.handle_frame(frame, &*pair.store.read().unwrap()).unwrap();
        }
        Ok(!frames.is_empty())
    }

    fn append(
        &mut self,
        index: usize,
        document: DocumentId,
        changes: Vec<CheckedChange>,
    ) -> Result<Vec<(CheckedChange, Appended)>, Fallen> {
        if self.acknowledging == Acknowledging::Early {
            self.heard.hashes.extend(changes.iter().map(|change| (document, change.hash())));
        }
        let from = self.pairs[index].member.id();
        let results =
            self.runtime.block_on(self.log.append(from.into(), document, changes)).map_err(|_| Fallen)?.appended;
        if results.iter().any(|(_, appended)| is_stored(appended)) {
            self.heard.writes += 1;
            if let Some(states) = &mut self.states {
                states.push(digest(&*self.store));
            }
        }
        Ok(results)
    }

    /// Ends the relay, and returns the clients' stores.
    fn stop(self) -> Vec<MemoryStore> {
        self.runtime.block_on(self.log.finish());
        self.pairs.into_iter().map(|pair| pair.store).collect()
    }
}

/// Two clients that have the documents and nothing in them.
fn fresh_clients() -> [MemoryStore; 2] {
    [(); 2].map(|()| {
        let store = MemoryStore::new();
        store
            .write_with(|tx| DOCUMENTS.iter().try_for_each(|document| ledger::create(tx, document).map(drop)))
            .unwrap();
        store
    })
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let (copy, from) = (MemoryStore::new(), store.read().unwrap());
    copy.write_with(|tx| {
        for table in Table::ALL {
            let mut rows = Vec::new();
            from.scan(table, &[]..&[0xff; 64], &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })?;
            rows.iter().try_for_each(|(key, value)| tx.put(table, key, value))?;
        }
        Ok(())
    })
    .unwrap();
    copy
}

/// A digest of every row of every table.
fn digest(store: &dyn Store) -> u64 {
    let tx = store.read().unwrap();
    let mut hasher = DefaultHasher::new();
    for table in Table::ALL {
        table.hash(&mut hasher);
        tx.scan(table, &[]..&[0xff; 64], &mut |key, value| {
            (key, value).hash(&mut hasher);
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    hasher.finish()
}

fn heads(store: &dyn Store) -> Vec<Vec<ChangeHash>> {
    let tx = store.read().unwrap();
    DOCUMENTS.iter().map(|document| ledger::heads(&*tx, document).unwrap()).collect()
}

fn sound(store: &dyn Store) -> Result<(), String> {
    let report = care::verify(store, &VerifyOptions::new(Registers::Absent), &mut |_| {}).unwrap();
    if report.is_sound() { Ok(()) } else { Err(format!("it is not sound: {}", report.to_json())) }
}

/// Checks what is found on a relay's disk, then lets the clients connect again and come together.
fn check(
    runtime: &Runtime,
    states: &[u64],
    images: Images,
    heard: &Heard,
    clients: &[MemoryStore],
) -> Result<(), String> {
    let disk = CutFiles::from_images(images);
    let store = open(&disk).map_err(|error| format!("unopenable: {error}"))?;
    let found = digest(&store);
    let found = states.iter().position(|state| *state == found).ok_or("a write is there by half")?;
    if !(heard.writes..=heard.writes + 1).contains(&found) {
        return Err(format!("{} writes were acknowledged, {found} are there", heard.writes));
    }
    sound(&store)?;
    let tx = store.read().unwrap();
    for (document, hash) in &heard.hashes {
        if ledger::position(&*tx, document, hash).unwrap().is_none() {
            return Err(format!("{hash} was acknowledged or passed on, and is not there"));
        }
    }
    drop(tx);
    drop(store);
    let mut relay = Relay::start(runtime, &disk, [copy(&clients[0]), copy(&clients[1])]).unwrap();
    relay.exchange().map_err(|Fallen| "it cannot be written")?;
    // Not closed: only what the disk was made to keep is there.
    let images = disk.images(Kept::None, &mut Chance::new(0));
    let clients = relay.stop();
    let store = open(&CutFiles::from_images(images)).map_err(|error| format!("unopenable: {error}"))?;
    sound(&store)?;
    if clients.iter().any(|client| heads(client) != heads(&store)) {
        return Err("the clients and the relay did not come together again".to_owned());
    }
    Ok(())
}

/// Runs the relay to each cut, and checks several images of each; returns what went wrong.
fn try_cuts(stride: usize, rolls: u64, lying: bool, acknowledging: Acknowledging) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let whole = CutFiles::new();
    let mut relay = Relay::start(&runtime, &whole, fresh_clients()).unwrap();
    relay.states = Some(vec![digest(&*relay.store)]);
    relay.live().unwrap();
    let states = relay.states.take().unwrap();
    assert_eq!(states.iter().collect::<BTreeSet<_>>().len(), states.len(), "each write shows");
    let clients = relay.stop();
    assert_eq!(heads(&clients[0]), heads(&clients[1]));
    let (mut cuts, mut images, mut second_cuts, mut failures) = (0, 0, 0, Vec::new());
    for cut in (0..whole.operations()).step_by(stride) {
        let disk = CutFiles::new();
        disk.cut_after(cut);
        disk.set_lying(lying);
        let (heard, clients) = match Relay::start(&runtime, &disk, fresh_clients()) {
            Err(Fallen) => (Heard::default(), fresh_clients().into()),
            Ok(mut relay) => {
                relay.acknowledging = acknowledging;
                // The relay lives on without a disk: whoever connects then must not hear of what is in doubt.
                if relay.live().is_err() {
                    relay.reconnect();
                    let _ = relay.exchange();
                }
                (std::mem::take(&mut relay.heard), relay.stop())
            }
        };
        cuts += 1;
        let mut seen: Vec<Images> = Vec::new();
        for (roll, kept) in (0..rolls).flat_map(|roll| Kept::ALL.into_iter().map(move |kept| (roll, kept))) {
            let seed = (cut as u64 * ROLLS.1 + roll) * Kept::ALL.len() as u64 + kept as u64;
            let mut chance = Chance::new(seed);
            let mut now = disk.images(kept, &mut chance);
            // Of a disk that lies anything may be left; that none of it is there is enough.
            if seen.contains(&now) || (lying && kept != Kept::None) {
                continue;
            }
            seen.push(now.clone());
            let second_cut = (chance.below(3) == 0).then(|| chance.below(24));
            if let Some(second) = second_cut {
                // During the recovery, or as soon as it is done.
                second_cuts += 1;
                let again = CutFiles::from_images(now);
                again.cut_after(second);
                drop(open(&again));
                now = again.images(kept, &mut chance);
            }
            images += 1;
            if let Err(failure) = check(&runtime, &states, now, &heard, &clients) {
                failures
                    .push(format!("cut at {cut}, kept {kept:?}, seed {seed}, second cut {second_cut:?}: {failure}"));
            }
        }
    }
    println!("{} writes, {} operations", states.len() - 1, whole.operations());
    println!(
        "crash images, relay: {cuts} cuts, {images} images, {second_cuts} second cuts, {} failures",
        failures.len()
    );
    failures
}

#[test]
fn what_a_relay_acknowledged_or_passed_on_survives_a_power_cut_at_any_operation() {
    let rolls = if std::env::var_os("REJOIN_CRASH_ALL").is_some() { ROLLS.1 } else { ROLLS.0 };
    let failures = try_cuts(1, rolls, false, Acknowledging::Durable);
    let some = &failures[..failures.len().min(20)];
    assert!(failures.is_empty(), "{} failures, among them:\n{}", failures.len(), some.join("\n"));
}

#[test]
fn acknowledgement_before_the_commit_is_noticed() {
    let failures = try_cuts(37, 1, false, Acknowledging::Early);
    assert!(failures.iter().any(|failure| failure.contains("was acknowledged or passed on")), "nobody noticed");
}

#[test]
fn disk_that_only_says_it_synced_is_noticed() {
    let failures = try_cuts(37, 1, true, Acknowledging::Durable);
    assert!(failures.iter().any(|failure| failure.contains("were acknowledged")), "nobody noticed");
}
