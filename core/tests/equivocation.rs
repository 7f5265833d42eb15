//! A device is restored from an old disk image while the original goes on: both write with the same actors. Whoever is told so
//! by a relay writes its unsent edits again under fresh ones, and everything of both is everywhere.

#![cfg(all(feature = "client", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::document::Expand;
use rejoin::gate::{CheckedChange, Rule};
use rejoin::ledger::Appended;
use rejoin::ledger::receipts::Acknowledged;
use rejoin::repo::testing::ToldBy;
use rejoin::repo::{Receipt, Written};
use rejoin::{ActorId, DocHandle, DocumentId, Epoch, FieldPath, Repo, RepoError, Value};
use serde_json::json;

const EPOCH: Epoch = Epoch::from_bytes([0xe; 16]);

/// One device with the two actors that every copy of it has.
struct Device {
    repo: Repo,
    doc: DocHandle,
    name: char,
    edits: u32,
    votes: i64,
    /// What it made that nobody takes away.
    made: Vec<Made>,
}

enum Made {
    Field(String),
    Element(String),
    Character(char),
}

impl Device {
    async fn open(path: &Path, document: Option<DocumentId>, name: char) -> Self {
        let repo = Repo::open(path).await.unwrap();
        let doc = match document {
            Some(document) => repo.find(document).await.unwrap().unwrap(),
            None => repo.create().await.unwrap(),
        };
        let told = ToldBy::new(&repo);
        told.set_actor(doc.id(), ActorId::from(&b"fields"[..]));
        told.load_as(doc.id(), ActorId::from(&b"loaded"[..])).await.unwrap();
        Self { repo, doc, name, edits: 0, votes: 0, made: Vec::new() }
    }

    /// Makes one edit that nobody else makes: each can be told in the end, and that it is there once.
    async fn edit(&mut self, rng: &mut StdRng) -> Written {
        self.edits += 1;
        let (doc, number, name) = (&self.doc, self.edits, self.name);
        let length = doc.text("body").await.unwrap().unwrap_or_default().encode_utf16().count();
        let written = match rng.random_range(0..9) {
            0 | 1 => {
                self.made.push(Made::Field(format!("{name}{number}")));
                doc.set(format!("{name}{number}"), true).await
            }
            2 => {
                self.made.push(Made::Field(format!("{name}{number}")));
                doc.set(format!("{name}{number}"), Value::from_json(json!({ "in": {} })).unwrap()).await.unwrap();
                doc.set([format!("{name}{number}").as_str(), "in", "deep"], number).await
            }
            3 => {
                self.votes += i64::from(number);
                doc.increment("votes", number.into()).await
            }
            4 => {
                self.made.push(Made::Element(format!("{name}{number}")));
                doc.list_push("list", format!("{name}{number}")).await.unwrap();
                let last = doc.list_len("list").await.unwrap().unwrap() - 1;
                doc.list_set("list", last, format!("{name}{number}")).await
            }
            5 => doc.set("title", format!("{name}{number}")).await,
            6 if length > 1 => doc.mark("body", 0..length, format!("{name}{number}"), true, Expand::Both).await,
            _ => {
                self.made.push(Made::Character(own_char(name, number)));
                let index = rng.random_range(0..=length);
                doc.splice_text("body", index, 0, own_char(name, number).to_string()).await
            }
        };
        written.unwrap()
    }

    /// Returns its changes, each after those it depends on.
    async fn changes(&self) -> Vec<CheckedChange> {
        let raw = self.doc.view(|automerge| {
            automerge.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect::<Vec<_>>()
        });
        raw.await.unwrap().iter().map(|bytes| CheckedChange::parse(bytes).unwrap()).collect()
    }

    async fn close(self) {
        drop(self.doc);
        self.repo.close().await;
    }
}

/// The character that a device inserts with an edit, in the private use area.
fn own_char(name: char, number: u32) -> char {
    char::from_u32(0xe000 + (u32::from(name) - u32::from('a')) * 0x100 + number).unwrap()
}

/// A third replica in memory, which takes what it is offered and refuses what does not fit, as a relay does.
struct Relay {
    repo: Repo,
    doc: DocHandle,
    log: u64,
}

impl Relay {
    async fn new(document: DocumentId) -> Self {
        let repo = Repo::in_memory().unwrap();
        let doc = repo.open_or_fetch(document).await.unwrap();
        Self { repo, doc, log: 0 }
    }

    /// A device pushes what waits, one after the other; what is refused because its actor was reused is written again.
    async fn take_from(&mut self, device: &Device) -> usize {
        let (document, told) = (self.doc.id(), ToldBy::new(&device.repo));
        let mut replayed = 0;
        'again: loop {
            let history = device.doc.history().await.unwrap();
            for change in device.changes().await {
                if device.repo.receipt(document, change.hash()).await.unwrap() != Some(Receipt::Local) {
                    continue;
                }
                let offered = ToldBy::new(&self.repo).deliver(document, vec![change.clone()]).await.unwrap();
                match &offered.results[0].1 {
                    Appended::Stored { .. } | Appended::Duplicate => {
                        self.log += 1;
                        let position = history.iter().position(|entry| entry.hash == change.hash()).unwrap() as u64;
                        let acknowledged = Acknowledged { position, log_position: self.log };
                        told.acknowledge(EPOCH, document, vec![acknowledged]).await.unwrap();
                    }
                    Appended::Rejected(error) if error.rule() == Rule::SeqReused => {
                        replayed += told.refuse_as_reused(document, change.hash()).await.unwrap();
                        continue 'again;
                    }
                    other => unreachable!("{other:?}"),
                }
            }
            return replayed;
        }
    }

    async fn changes(&self) -> Vec<CheckedChange> {
        let raw = self.doc.view(|automerge| {
            automerge.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect::<Vec<_>>()
        });
        raw.await.unwrap().iter().map(|bytes| CheckedChange::parse(bytes).unwrap()).collect()
    }

    /// Sends everything to a device, which writes its own again if a number is taken.
    async fn give_to(&self, device: &Device) -> usize {
        let (document, told) = (self.doc.id(), ToldBy::new(&device.repo));
        let mut replayed = 0;
        loop {
            let given = told.deliver(document, self.changes().await).await.unwrap();
            let reused = given.results.iter().find_map(|(change, appended)| match appended {
                Appended::Rejected(error) if error.rule() == Rule::SeqReused => Some(change.clone()),
                Appended::Stored { .. } | Appended::Duplicate | Appended::Missing { .. } => None,
                other => unreachable!("{other:?}"),
            });
            let Some(change) = reused else { return replayed };
            let written = told.arrive_as_reused(document, change.actor().clone(), change.seq()).await.unwrap();
            assert!(written > 0, "it is ours and waits");
            replayed += written;
        }
    }
}

/// Makes a device with sent and unsent edits, and two copies of its disk.
async fn copies(directory: &Path, rng: &mut StdRng) -> (Relay, Device, [Device; 2]) {
    let path = directory.join("original.redb");
    let mut original = Device::open(&path, None, 'a').await;
    original.doc.set("votes", Value::counter(0)).await.unwrap();
    original.doc.set("title", "").await.unwrap();
    original.doc.list_push("list", "first").await.unwrap();
    original.doc.splice_text("body", 0, 0, "!").await.unwrap();
    let mut relay = Relay::new(original.doc.id()).await;
    for _ in 0..rng.random_range(0..10) {
        original.edit(rng).await;
    }
    relay.take_from(&original).await;
    for _ in 0..rng.random_range(0..10) {
        original.edit(rng).await;
    }
    let (document, before) = (original.doc.id(), (original.votes, std::mem::take(&mut original.made)));
    original.close().await;
    let mut devices = Vec::new();
    for name in ['b', 'c'] {
        let copy = directory.join(format!("{name}.redb"));
        std::fs::copy(&path, &copy).unwrap();
        devices.push(Device::open(&copy, Some(document), name).await);
    }
    let mut original = Device::open(&path, Some(document), 'a').await;
    (original.votes, original.made) = before;
    (relay, original, devices.try_into().ok().unwrap())
}

/// Checks that everybody has everything of everybody, once.
async fn assert_converged(relay: &Relay, original: &Device, devices: &[Device; 2], context: &str) {
    let expected = relay.doc.to_json().await.unwrap();
    let spans = relay.doc.spans("body").await.unwrap();
    for device in devices {
        assert_eq!(device.doc.heads().await.unwrap(), relay.doc.heads().await.unwrap(), "{context}");
        assert_eq!(device.doc.to_json().await.unwrap(), expected, "{context}");
        assert_eq!(device.doc.spans("body").await.unwrap(), spans, "{context}");
        let report = device.repo.verify().await.unwrap();
        assert!(report.is_sound(), "{context}: {report:?}");
        assert_eq!(device.repo.pending().await.unwrap(), 0, "{context}");
        assert_eq!(device.repo.rejected().await.unwrap(), [], "{context}");
        // The registers say what the document says.
        let (_, keys) = device
            .doc
            .view(|automerge| (0, automerge::ReadDoc::keys(automerge, automerge::ROOT).count()))
            .await
            .unwrap();
        assert_eq!(device.doc.keys(FieldPath::root()).await.unwrap().len(), keys, "{context}");
    }
    let votes = original.votes + devices.iter().map(|device| device.votes).sum::<i64>();
    assert_eq!(expected["votes"], json!(votes), "{context}");
    let body = expected["body"].as_str().unwrap();
    let mut counted: BTreeMap<char, usize> = BTreeMap::new();
    body.chars().for_each(|one| *counted.entry(one).or_default() += 1);
    assert!(counted.values().all(|count| *count == 1), "{context}: something is there twice in {body:?}");
    let list = expected["list"].as_array().unwrap();
    let mut once = list.clone();
    once.sort_by_key(ToString::to_string);
    once.dedup();
    assert_eq!(once.len(), list.len(), "{context}: {list:?}");
    for made in original.made.iter().chain(devices.iter().flat_map(|device| &device.made)) {
        match made {
            Made::Field(key) => assert!(expected.get(key).is_some(), "{context}: {key}"),
            Made::Element(element) => assert!(list.contains(&json!(element)), "{context}: {element}"),
            Made::Character(one) => assert!(body.contains(*one), "{context}: {one:?} in {body:?}"),
        }
    }
}

#[tokio::test]
async fn two_copies_of_a_disk_converge_with_all_edits_of_both() {
    let mut rounds_replayed = 0;
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let directory = tempfile::tempdir().unwrap();
        let (mut relay, original, mut devices) = copies(directory.path(), &mut rng).await;
        let mut kept = Vec::new();
        for _ in 0..rng.random_range(1..25) {
            let device = &mut devices[rng.random_range(0..2)];
            let written = device.edit(&mut rng).await;
            kept.push((device.name, device.edits, written));
        }
        // The first one pushes; the second is told either when it pushes, or when it hears of the first one's.
        let mut replayed = relay.take_from(&devices[0]).await;
        assert_eq!(replayed, 0);
        if rng.random_range(0..2) == 0 {
            replayed += relay.take_from(&devices[1]).await;
            replayed += relay.give_to(&devices[1]).await;
        } else {
            replayed += relay.give_to(&devices[1]).await;
            replayed += relay.take_from(&devices[1]).await;
        }
        // Not if one of them used only the one actor and the other only the other.
        rounds_replayed += u32::from(replayed > 0);
        // Both go on, and no number is given twice any more.
        for device in &mut devices {
            relay.give_to(device).await;
            let written = device.edit(&mut rng).await;
            kept.push((device.name, device.edits, written));
        }
        for _ in 0..2 {
            for device in &devices {
                relay.take_from(device).await;
                relay.give_to(device).await;
            }
        }
        assert_converged(&relay, &original, &devices, &format!("seed {seed}")).await;
        // A receipt finds its write under the new name too.
        for (name, number, written) in kept {
            assert!(written.stage().await.unwrap() >= Receipt::Relayed, "seed {seed}: {name}{number}");
        }
    }
    assert!(rounds_replayed > 20, "{rounds_replayed}");
}

#[tokio::test]
async fn what_the_relay_has_of_a_reused_actor_stays_and_a_fork_that_others_have_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let (mut relay, _, devices) = copies(directory.path(), &mut rng).await;
    let [first, second] = &devices;
    first.doc.set("who", "first").await.unwrap();
    let refused = second.doc.set("who", "second").await.unwrap();
    relay.take_from(first).await;
    let told = ToldBy::new(&second.repo);
    let before = second.doc.history().await.unwrap();
    let unknown = rejoin::ChangeHash([9; 32]);
    assert_eq!(told.refuse_as_reused(second.doc.id(), unknown).await.unwrap(), 0);
    assert_eq!(told.arrive_as_reused(second.doc.id(), ActorId::from(&b"nobody"[..]), 1).await.unwrap(), 0);
    assert_eq!(second.doc.history().await.unwrap(), before);

    // Somebody has the second one's write through another relay, and wrote on top of it.
    let other = Repo::in_memory().unwrap();
    let copy = other.import(second.doc.export().await.unwrap()).await.unwrap();
    copy.set("on top", 1).await.unwrap();
    let raw = copy.view(|automerge| {
        automerge.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect::<Vec<_>>()
    });
    let changes: Vec<_> = raw.await.unwrap().iter().map(|bytes| CheckedChange::parse(bytes).unwrap()).collect();
    told.deliver(second.doc.id(), changes).await.unwrap();
    let outcome = told.refuse_as_reused(second.doc.id(), refused.change().unwrap()).await;
    assert!(matches!(outcome, Err(RepoError::TakeOut { .. })), "{outcome:?}");
    assert_eq!(refused.stage().await.unwrap(), Receipt::Local);
    assert!(second.repo.verify().await.unwrap().is_sound());
}
