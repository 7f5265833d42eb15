//! Carrying out acts: what applications do, and what befalls devices, relays and the lines between them.

use std::rc::Rc;
use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{ObjType, ReadDoc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rejoin::fields::EditAction;
use rejoin::repo::ChangeOptions;
use rejoin::store::testing::disk::{CutFiles, Images};
use rejoin::{ChangeHash, DocumentId, Edit, Protocol, Repo, RepoError, SpaceId, Value};

use super::model::Tag;
use super::node::{Image, TEAM};
use super::plan::{Act, Kind};
use super::station::set_grant;
use super::wire::LINE_FRAMES_MAX;
use super::world::{Done, Event, World};

/// The keys that are written, few enough for conflicts.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// How many copies of a disk are kept.
const IMAGES_MAX: usize = 2;

impl World {
    /// Does what an act says. What makes no sense now is not done.
    pub(super) fn act(&mut self, act: Act) {
        let mut chance = SmallRng::seed_from_u64(act.seed);
        let node = chance.random_range(0..self.nodes.len());
        let relay = chance.random_range(0..self.relays.len());
        self.note(format_args!("act {}: {} (device {node}, relay {relay})", act.number, act.kind));
        self.look_at_a_receipt();
        match act.kind {
            Kind::Create => self.create(node, &mut chance),
            Kind::Fetch => self.fetch(node, &mut chance),
            Kind::Delete => self.delete(node, &mut chance),
            kind if kind.is_work() => self.write(kind, node, &mut chance),
            Kind::Cut | Kind::HalfOpen | Kind::Partition | Kind::Stall | Kind::Slow => {
                self.trouble_lines(act.kind, node, relay, &mut chance);
            }
            Kind::Restart | Kind::Kill | Kind::PowerLoss | Kind::Full | Kind::Backup => {
                self.trouble_device(act.kind, node, &mut chance);
            }
            Kind::Restore | Kind::Replay => self.restore(node, act.kind == Kind::Replay, &mut chance),
            Kind::Revoke | Kind::Grant => {
                let space = if chance.random_range(0..3) == 0 { SpaceId::DEFAULT } else { TEAM };
                self.grant(relay, node, space, act.kind == Kind::Grant);
            }
            Kind::Mallory => self.mallory(relay, &mut chance),
            _ => self.trouble_relay(act.kind, relay, &mut chance),
        }
    }

    /// Makes a document on a device.
    fn create(&mut self, node: usize, chance: &mut SmallRng) {
        let document = DocumentId::from_bytes(chance.random());
        let is_classic = self.nodes[node].speaks == Protocol::Classic;
        let space = if is_classic || chance.random_range(0..3) == 0 { SpaceId::DEFAULT } else { TEAM };
        self.make(node, document, space);
    }

    fn make(&mut self, node: usize, document: DocumentId, space: SpaceId) {
        let Some(repo) = self.nodes[node].repo().cloned() else { return };
        self.nodes[node].documents.insert(document);
        self.model.documents.entry(document).or_insert(space);
        self.work(node, None, "create", async move { repo.create_as(space, document).await.map(|_| None) });
    }

    /// Opens a document that somebody made.
    fn fetch(&mut self, node: usize, chance: &mut SmallRng) {
        let known: Vec<_> = self.model.documents.iter().map(|(document, space)| (*document, *space)).collect();
        if known.is_empty() {
            return self.create(node, chance);
        }
        let (document, space) = known[chance.random_range(0..known.len())];
        if self.nodes[node].speaks == Protocol::Classic && space != SpaceId::DEFAULT {
            // Who knows no spaces would put it into the default one, if nobody was there before.
            return;
        }
        let Some(repo) = self.nodes[node].repo().cloned() else { return };
        self.nodes[node].documents.insert(document);
        self.work(node, None, "fetch", async move { repo.space(space).open_or_fetch(document).await.map(|_| None) });
    }

    fn delete(&mut self, node: usize, chance: &mut SmallRng) {
        let Some(document) = self.choose(node, chance) else { return };
        let Some(repo) = self.nodes[node].repo().cloned() else { return };
        self.model.deleted.entry(document).or_insert(false);
        self.deleting.insert(node, document);
        self.work(node, None, "delete", async move { repo.delete_everywhere(document).await.map(|()| None) });
    }

    /// Chooses a document of a device; makes one if it has none.
    fn choose(&mut self, node: usize, chance: &mut SmallRng) -> Option<DocumentId> {
        let known: Vec<DocumentId> = self.nodes[node].documents.iter().copied().collect();
        if known.is_empty() {
            self.create(node, chance);
            return None;
        }
        Some(known[chance.random_range(0..known.len())])
    }

    fn write(&mut self, kind: Kind, node: usize, chance: &mut SmallRng) {
        let Some(document) = self.choose(node, chance) else { return };
        let Some(repo) = self.nodes[node].repo().cloned() else { return };
        let (tag, message) = self.model.begin(node, document);
        let key = KEYS[chance.random_range(0..KEYS.len())];
        let text = format!("{message} of {node}");
        let options = ChangeOptions { message: Some(message), ..ChangeOptions::default() };
        if kind == Kind::Text {
            let at = chance.random::<u32>() as usize;
            return self.work(node, Some(tag), "text", edit_text(repo, document, options, at, text));
        }
        let edits = match (kind, chance.random_range(0..3)) {
            (Kind::Nest, 0) => vec![Edit::set("map", Value::Map(vec![(key.to_owned(), text.as_str().into())]))],
            (Kind::Nest, _) => vec![Edit::new(&["map"][..], key, EditAction::Set(text.as_str().into()))],
            (Kind::Count, 0) => vec![Edit::set("count", Value::counter(1))],
            (Kind::Count, _) => vec![Edit::increment("count", chance.random_range(-3..9))],
            (Kind::Remove, 0) => vec![Edit::delete("map")],
            (Kind::Remove, _) => vec![Edit::delete(key)],
            (_, 0) => vec![Edit::set(key, text.as_str()), Edit::set("last", text.as_str())],
            _ => vec![Edit::set(key, text.as_str())],
        };
        let what = kind.name();
        self.work(
            node,
            Some(tag),
            what,
            async move { Ok(repo.handle(document).edit_with(options, edits).await?.change()) },
        );
    }

    /// Has an application do something.
    pub(super) fn work(
        &mut self,
        node: usize,
        tag: Option<Tag>,
        what: &'static str,
        work: impl Future<Output = Result<Option<ChangeHash>, RepoError>> + 'static,
    ) {
        let done = Rc::clone(&self.done);
        self.simulation.start(self.nodes[node].place(), async move {
            let result = work.await;
            done.borrow_mut().push(Done { node, tag, what, result });
        });
    }

    fn trouble_lines(&mut self, kind: Kind, node: usize, relay: usize, chance: &mut SmallRng) {
        let lines = self.wires.between(node, relay);
        let ms = chance.random_range(500..40_000);
        for line in lines {
            match kind {
                Kind::Cut => self.cut(node, relay),
                Kind::HalfOpen => {
                    self.wires.mute(line);
                    // Now and then it is the relay that has forgotten it.
                    if chance.random_range(0..2) == 0 {
                        self.relays[relay].served.remove(&line);
                    }
                }
                Kind::Stall => self.wires.stall(line, self.now() + Duration::from_millis(ms / 2)),
                Kind::Slow => self.wires.narrow(line, 1),
                _ => self.wires.mute(line),
            }
        }
        if kind == Kind::Partition && self.partitions.insert((node, relay)) {
            self.after(ms, Event::Rejoined(node, relay));
        }
    }

    /// Cuts all lines between a device and a relay.
    fn cut(&mut self, node: usize, relay: usize) {
        for line in self.wires.between(node, relay) {
            self.relays[relay].served.remove(&line);
            self.wires.cut(line, "the line is cut");
        }
    }

    fn trouble_device(&mut self, kind: Kind, node: usize, chance: &mut SmallRng) {
        if self.nodes[node].process.is_none() {
            return;
        }
        match kind {
            Kind::Backup => {
                let one = &mut self.nodes[node];
                let image = Image { bytes: one.disk.contents(), seed: one.seed };
                one.images.push(image);
                if one.images.len() > IMAGES_MAX {
                    one.images.remove(0);
                }
            }
            Kind::Full => {
                self.nodes[node].disk.set_full(true);
                self.after(chance.random_range(100..5_000), Event::Room(node));
            }
            Kind::PowerLoss => {
                let before = self.holding(false, node);
                self.before.extend(before.map(|before| ((false, node), before)));
                self.nodes[node].disk.cut_after(chance.random_range(0..30));
                self.after(chance.random_range(0..200), Event::Crash(node));
            }
            Kind::Kill => {
                // What was written is the operating system's, and stays.
                let image = self.nodes[node].disk.contents();
                self.stop(node, image);
                self.after(chance.random_range(0..3_000), Event::Boot(node));
            }
            _ => {
                self.nodes[node].end(&self.simulation);
                self.after(chance.random_range(0..3_000), Event::Boot(node));
            }
        }
    }

    /// Ends a device's process, and has this on its disk.
    fn stop(&mut self, node: usize, image: Images) {
        let is_full = self.nodes[node].disk.is_full();
        self.nodes[node].disk.cut_after(0);
        self.nodes[node].end(&self.simulation);
        let disk = CutFiles::from_images(image);
        disk.set_full(is_full);
        self.nodes[node].disk = disk;
        for relay in 0..self.relays.len() {
            // Nobody closes what a machine had open that is gone.
            for line in self.wires.between(node, relay) {
                self.wires.mute(line);
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        if self.nodes[node].process.is_none() {
            self.before.remove(&(false, node));
            self.nodes[node].disk.cut_after(usize::MAX);
            return;
        }
        self.note(format_args!("device {node} is dark"));
        let disk = self.nodes[node].disk.clone();
        let image = self.image_of(&disk);
        self.stop(node, image);
        self.after(1_000, Event::Boot(node));
    }

    /// Puts an old copy in the place of a device's disk.
    fn restore(&mut self, node: usize, with_chance: bool, chance: &mut SmallRng) {
        let is_off = self.nodes[node].process.is_none() || self.nodes[node].disk.is_cut();
        if self.nodes[node].images.is_empty() || is_off {
            return;
        }
        // The classic protocol has no word for a refused change, so its author could not write it anew.
        let with_chance = with_chance && self.nodes[node].speaks == Protocol::RejoinV1;
        let index = chance.random_range(0..self.nodes[node].images.len());
        let (bytes, seed) = (self.nodes[node].images[index].bytes.clone(), self.nodes[node].images[index].seed);
        let before = self.holding(false, node);
        let after = self.model.look_at_image(&bytes);
        self.stop(node, bytes);
        self.before.remove(&(false, node));
        self.model.has_twins |= with_chance;
        self.model.has_restored = true;
        self.boot(node, with_chance.then_some(seed));
        let (Some(before), Some(after)) = (before, after) else { return };
        let others = self.others(false, node);
        self.model.excuse(&before, &after, &others, "its device went back to an old copy");
    }

    /// Grants or takes away a right.
    pub(super) fn grant(&mut self, relay: usize, node: usize, space: SpaceId, is_granted: bool) {
        let Some(running) = &self.relays[relay].relay else { return };
        if !self.nodes[node].tokens.iter().any(|(other, _)| *other == relay) {
            return;
        }
        if set_grant(running.directory(), node, space, is_granted) {
            self.model.grants.insert((relay, node, space), is_granted);
            if is_granted {
                // Who was denied a space asks again on its next connection.
                self.cut(node, relay);
            } else {
                self.model.revoked.insert(node);
            }
        }
    }

    fn trouble_relay(&mut self, kind: Kind, relay: usize, chance: &mut SmallRng) {
        if self.relays[relay].relay.is_none() {
            return;
        }
        match kind {
            Kind::RelayBackup => self.relays[relay].image = Some(self.relays[relay].disk.contents()),
            Kind::RelayFull => {
                self.relays[relay].disk.set_full(true);
                self.after(chance.random_range(100..3_000), Event::RelayRoom(relay));
            }
            Kind::RelayPowerLoss => {
                let before = self.holding(true, relay);
                self.before.extend(before.map(|before| ((true, relay), before)));
                self.relays[relay].disk.cut_after(chance.random_range(0..60));
                self.after(chance.random_range(0..100), Event::RelayCrash(relay));
            }
            Kind::RelayRestart => {
                for line in self.relays[relay].end() {
                    self.after(1, Event::Cut(line));
                }
                self.after(chance.random_range(0..2_000), Event::RelayBoot(relay));
            }
            _ => self.restore_relay(relay),
        }
    }

    pub(super) fn crash_relay(&mut self, relay: usize) {
        if self.relays[relay].relay.is_none() {
            self.before.remove(&(true, relay));
            self.relays[relay].disk.cut_after(usize::MAX);
            return;
        }
        self.note(format_args!("relay {relay} is dark"));
        let disk = self.relays[relay].disk.clone();
        let image = self.image_of(&disk);
        disk.cut_after(0);
        self.relays[relay].end();
        let next = CutFiles::from_images(image);
        next.set_full(disk.is_full());
        self.relays[relay].disk = next;
        self.after(500, Event::RelayBoot(relay));
    }

    fn restore_relay(&mut self, relay: usize) {
        if self.relays[relay].image.is_none() || self.relays[relay].disk.is_cut() {
            return;
        }
        let before = self.holding(true, relay);
        for line in self.relays[relay].end() {
            self.after(1, Event::Cut(line));
        }
        self.before.remove(&(true, relay));
        let after = self.relays[relay].image.as_ref().and_then(|image| self.model.look_at_image(image));
        self.relays[relay].restore();
        self.model.was_restored = true;
        self.boot_relay(relay);
        // An administrator makes the grants again what they are.
        let grants: Vec<_> = self.model.grants.iter().map(|(key, is)| (*key, *is)).collect();
        if let Some(running) = &self.relays[relay].relay {
            for ((of, name, space), is_granted) in grants.into_iter().filter(|((of, ..), _)| *of == relay) {
                assert!(set_grant(running.directory(), name, space, is_granted), "{of}");
            }
        }
        let (Some(before), Some(after)) = (before, after) else { return };
        let others = self.others(true, relay);
        self.model.excuse(&before, &after, &others, "its relay was restored from a backup");
    }

    /// Ends all trouble.
    pub(super) fn heal(&mut self) {
        self.note(format_args!("everything is healed"));
        self.is_healing = true;
        self.partitions.clear();
        for line in self.wires.all() {
            self.wires.narrow(line, LINE_FRAMES_MAX);
        }
        for relay in 0..self.relays.len() {
            self.relays[relay].disk.set_full(false);
            if self.relays[relay].disk.is_cut() {
                self.crash_relay(relay);
            }
            self.boot_relay(relay);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.set_full(false);
            if self.nodes[node].disk.is_cut() {
                self.crash(node);
            }
            self.boot(node, None);
        }
        let lost: Vec<_> = self.model.grants.iter().filter(|(_, is)| !**is).map(|(key, _)| *key).collect();
        for (relay, node, space) in lost {
            self.grant(relay, node, space, true);
        }
    }
}

/// Edits a text in the document in memory; makes it first if it is not there.
async fn edit_text(
    repo: Repo,
    document: DocumentId,
    options: ChangeOptions,
    at: usize,
    text: String,
) -> Result<Option<ChangeHash>, RepoError> {
    let edit = move |transaction: &mut automerge::transaction::Transaction<'_>| {
        let failed = |error: automerge::AutomergeError| RepoError::Typed(error.to_string());
        let found = transaction.get(automerge::ROOT, "text").map_err(failed)?;
        let found = found
            .and_then(|(value, object)| matches!(value, automerge::Value::Object(ObjType::Text)).then_some(object));
        let object = match found {
            Some(object) => object,
            None => transaction.put_object(automerge::ROOT, "text", ObjType::Text).map_err(failed)?,
        };
        let length = transaction.length(&object);
        let at = at % (length + 1);
        let gone = isize::try_from((length - at).min(at % 3)).unwrap_or(0);
        transaction.splice_text(&object, at, gone, &text).map_err(failed)
    };
    let ((), written) = repo.handle(document).change_written(options, edit).await?;
    Ok(written.change())
}
