//! A victim without a socket: the engine's own session over a memory store, fed frame by frame.

use bytes::Bytes;
use rejoin::engine::{self, Origin};
use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, Appended};
use rejoin::store::{MemoryStore, Store, StoreExt, Table};
use rejoin::sync::classic::{ClassicSession, Identity, Output, Role};
use rejoin::{DocumentId, PeerId};

use super::attacks::{Expect, Opening, Scene, Sent};
use super::base;

/// More frames than any honest answer has: a session that makes more of them in a row never ends.
const ANSWERS_MAX: usize = 10_000;

/// A session and what became of what it was fed.
pub struct Victim {
    /// What it keeps.
    pub store: MemoryStore,
    /// What it made of the attack.
    pub verdict: Expect,
    /// The changes that were stored, in their order.
    pub stored: Vec<(DocumentId, CheckedChange)>,
    /// How many bytes it answered.
    pub answered_bytes: usize,
    session: ClassicSession,
}

impl Victim {
    /// Begins a session for a scene, up to where the attack begins.
    pub fn new(scene: &Scene, opening: Opening, store: MemoryStore) -> Self {
        let identity = Identity { peer: PeerId::new(&scene.victim).unwrap(), storage: None, epoch: None };
        let session = ClassicSession::new(scene.victim_role, identity);
        let (verdict, stored) = (Expect::default(), Vec::new());
        let mut victim = Self { store, verdict, stored, answered_bytes: 0, session };
        victim.carry_out();
        if opening == Opening::Joined {
            victim.feed(&Sent::Binary(scene.hello("1")));
        }
        if scene.victim_role == Role::Client {
            let tx = victim.store.read().unwrap();
            for document in ledger::documents(&*tx).unwrap() {
                victim.session.open(document, Vec::new(), &*tx).unwrap();
            }
        }
        victim.carry_out();
        victim
    }

    /// Hands it a message, and lets it do and answer whatever it wants.
    pub fn feed(&mut self, sent: &Sent) {
        match sent {
            Sent::Binary(frame) => self.session.handle_frame(frame, &*self.store.read().unwrap()).unwrap(),
            Sent::Text(_) => self.session.handle_text(),
        }
        self.carry_out();
    }

    /// Makes all frames that the session wants to send.
    fn carry_out(&mut self) {
        for _ in 0..ANSWERS_MAX {
            while let Some(output) = self.session.poll_output() {
                self.obey(output);
            }
            let frame = self.session.poll_transmit(&*self.store.read().unwrap()).unwrap();
            let Some(frame) = frame else { return };
            self.answered_bytes += frame.len();
        }
        panic!("the session answers without end");
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Send(frame) => self.answered_bytes += frame.len(),
            Output::Append { document, changes } => self.append(document, changes),
            Output::Refused { error, .. } => {
                let code = error.rule().code();
                if !self.verdict.rules.contains(&code) {
                    self.verdict.rules.push(code);
                }
            }
            Output::Close { code, .. } => self.verdict.close = Some(code),
            _ => {}
        }
    }

    fn append(&mut self, document: DocumentId, changes: Vec<CheckedChange>) {
        let accepted = self.store.write_with(|tx| engine::accept(tx, document, changes, Origin::Remote)).unwrap();
        for (change, appended) in &accepted.results {
            if matches!(appended, Appended::Stored { .. }) {
                self.verdict.stored += 1;
                self.stored.push((document, change.clone()));
            }
        }
        self.session.handle_appended(document, accepted.results, &*self.store.read().unwrap()).unwrap();
    }
}

/// Makes a store that holds the base history.
pub fn base_store(document: DocumentId) -> MemoryStore {
    let store = MemoryStore::new();
    let changes = base::chunks().iter().map(|chunk| CheckedChange::parse(chunk).unwrap()).collect();
    let accepted = store.write_with(|tx| engine::accept(tx, document, changes, Origin::Remote)).unwrap();
    assert_eq!(accepted.stored, 3, "{:?}", accepted.results);
    store
}

/// Copies a store.
pub fn fork(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    let tx = store.read().unwrap();
    copy.write_with(|out| {
        for table in Table::ALL {
            let mut failed = Ok(());
            tx.scan(table, &[]..&[0xff; 64], &mut |key, value| {
                failed = out.put(table, key, value);
                if failed.is_ok() { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
            })?;
            failed?;
        }
        Ok(())
    })
    .unwrap();
    copy
}

/// Returns the changes of a document, in the ledger's order.
pub fn export(store: &(impl Store + ?Sized), document: DocumentId) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    ledger::export(&*store.read().unwrap(), &document, 0, &mut |chunk| {
        chunks.push(Bytes::copy_from_slice(chunk));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    chunks
}
