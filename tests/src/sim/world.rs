//! The world: devices and relays, the lines between them, and time. One event after the other, and after each of them whatever
//! tasks can run, in an order that chance says.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rejoin::client::{Heard, Said};
use rejoin::ledger::spaces;
use rejoin::simulation::Simulation;
use rejoin::store::testing::disk::{Chance, CutFiles, Images};
use rejoin::{ChangeHash, Protocol, RepoError, SpaceId};
use rejoin_relay::testing::Sent;

use super::model::{Holding, Model, Tag};
use super::node::{Node, TEAM};
use super::plan::{Act, Canary, Plan};
use super::station::{Served, Station, make_token, set_grant};
use super::trail::{Trail, brief};
use super::wire::{LineId, Wires};

/// What a right clock shows when a world begins: some day in 2026, in seconds since 1970.
const CLOCK: Duration = Duration::from_secs(1_790_000_000);

/// How often a relay looks at rights. It is to act within a second.
const LOOK: Duration = Duration::from_millis(700);

/// How many bytes may wait for one reader: a batch of frames, and one that is as long as a frame may be.
const WAITING_BYTES_MAX: usize = 17 << 20;

/// How often tasks may run at one moment before something turns in circles.
const POLLS_MAX: usize = 200_000;

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// Somebody dials.
    Dialed(LineId),
    /// A frame arrives at a relay.
    Up(LineId),
    /// A frame arrives at a device.
    Down(LineId),
    /// A relay learns that the device has left.
    Left(LineId),
    /// A device learns that its line is cut.
    Cut(LineId),
    /// A relay commits what waits.
    Commit(usize),
    /// A relay looks at rights, and at those who are silent.
    Look(usize),
    /// An act of the plan.
    Act(Act),
    /// A partition is over.
    Rejoined(usize, usize),
    /// A device loses power now, whatever it was doing.
    Crash(usize),
    /// A device is switched on.
    Boot(usize),
    /// A relay loses power now.
    RelayCrash(usize),
    /// A relay is switched on.
    RelayBoot(usize),
    /// There is room on a device's disk again.
    Room(usize),
    /// There is room on a relay's disk again.
    RelayRoom(usize),
}

/// What became of a write.
pub(super) struct Done {
    pub(super) node: usize,
    pub(super) tag: Option<Tag>,
    pub(super) what: &'static str,
    pub(super) result: Result<Option<ChangeHash>, RepoError>,
}

/// Everything.
pub struct World {
    pub(super) plan: Plan,
    pub(super) chance: SmallRng,
    pub(super) simulation: Simulation,
    pub(super) wires: Wires,
    pub(super) nodes: Vec<Node>,
    pub(super) relays: Vec<Station>,
    pub(super) model: Model,
    pub(super) trail: Trail,
    pub(super) done: Rc<RefCell<Vec<Done>>>,
    pub(super) complaints: Vec<String>,
    pub(super) partitions: BTreeSet<(usize, usize)>,
    /// What devices and relays had when their power began to fail.
    pub(super) before: BTreeMap<(bool, usize), Holding>,
    /// Frames that devices sent, for whoever listens.
    pub(super) overheard: Vec<(usize, Duration, bytes::Bytes)>,
    pub(super) mallory: Vec<String>,
    pub(super) is_healing: bool,
    /// What devices are deleting.
    pub(super) deleting: BTreeMap<usize, rejoin::DocumentId>,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    steps: u64,
}

impl World {
    /// Makes the world of a plan.
    pub fn new(plan: &Plan, keeps_lines: bool) -> Self {
        let simulation = Simulation::begin(CLOCK);
        let mut world = Self {
            chance: SmallRng::seed_from_u64(plan.seed ^ 0x3a1d),
            simulation,
            wires: Wires::default(),
            nodes: Vec::new(),
            relays: Vec::new(),
            model: Model::default(),
            trail: Trail::new(keeps_lines),
            done: Rc::default(),
            complaints: Vec::new(),
            partitions: BTreeSet::new(),
            before: BTreeMap::new(),
            overheard: Vec::new(),
            mallory: Vec::new(),
            is_healing: false,
            deleting: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            steps: 0,
            plan: plan.clone(),
        };
        world.populate();
        for act in plan.acts() {
            world.at(Duration::from_millis(act.at_ms), Event::Act(act));
        }
        world
    }

    fn populate(&mut self) {
        let (clients, relays) = self.plan.cast();
        let canary = self.plan.canary;
        for number in 0..relays {
            let mut station = Station::new(number, canary == Some(Canary::DeafRelay));
            station.begin().unwrap();
            self.relays.push(station);
            self.at(LOOK, Event::Look(number));
        }
        for number in 0..clients {
            // The first one is everywhere, so that everything can come to everybody.
            let mut tokens = Vec::new();
            for relay in 0..relays {
                if number == 0 || relay == number % relays || self.chance.random_range(0..3) == 0 {
                    tokens.push((relay, self.introduce(relay, number)));
                }
            }
            let is_classic = number + 1 == clients && clients > 2 && self.chance.random_range(0..2) == 0;
            let speaks = if is_classic { Protocol::Classic } else { Protocol::RejoinV1 };
            let disk = CutFiles::new();
            self.nodes.push(Node {
                number,
                disk,
                process: None,
                speaks,
                tokens,
                images: Vec::new(),
                documents: BTreeSet::new(),
                seed: 0,
            });
            self.boot(number, None);
        }
        for relay in 0..relays {
            let token = self.introduce(relay, clients);
            self.mallory.push(token);
            self.relays[relay].disk.set_lying(canary == Some(Canary::EarlyAck));
        }
    }

    /// Makes somebody known to a relay, with the right to write.
    fn introduce(&mut self, relay: usize, name: usize) -> String {
        let Some(running) = &self.relays[relay].relay else { return String::new() };
        let token = make_token(running.directory(), name);
        for space in [TEAM, SpaceId::DEFAULT] {
            assert!(set_grant(running.directory(), name, space, true));
            self.model.grants.insert((relay, name, space), true);
        }
        token
    }

    /// Starts a device's process on what is on its disk. `seed`: to draw by chance what it once drew.
    pub(super) fn boot(&mut self, number: usize, seed: Option<u64>) {
        // Clocks are wrong by up to years, each time differently.
        let years = if self.chance.random_range(0..3) == 0 { self.chance.random_range(-20..=20) } else { 0 };
        let skew = years * 31_557_600 + self.chance.random_range(-90..=90);
        let drawn = self.chance.random();
        let node = &mut self.nodes[number];
        if node.process.is_some() {
            return;
        }
        if let Err(error) = node.begin(&self.simulation, &self.wires, seed.unwrap_or(drawn), skew) {
            if node.disk.is_cut() || self.is_full(number) {
                self.after(1_000, Event::Boot(number));
            } else {
                self.complain(format!("the store of device {number} does not open: {error}"));
            }
            return;
        }
        self.nodes[number].disk.set_lying(self.plan.canary == Some(Canary::LyingDisk));
        self.note(format_args!("device {number} begins"));
        self.survived(false, number);
    }

    fn is_full(&self, number: usize) -> bool {
        self.events.values().any(|event| matches!(event, Event::Room(full) if *full == number))
    }

    /// Starts a relay on what is on its disk.
    pub(super) fn boot_relay(&mut self, number: usize) {
        let station = &mut self.relays[number];
        if station.relay.is_some() {
            return;
        }
        if let Err(error) = station.begin() {
            let is_full = self.events.values().any(|event| matches!(event, Event::RelayRoom(full) if *full == number));
            // It was stopped while its power began to fail.
            if is_full || station.disk.is_cut() {
                self.after(1_000, Event::RelayBoot(number));
            } else {
                self.complain(format!("the store of relay {number} does not open: {error}"));
            }
            return;
        }
        station.disk.set_lying(self.plan.canary == Some(Canary::EarlyAck));
        self.note(format_args!("relay {number} begins"));
        self.survived(true, number);
    }

    /// Compares what a store had when its power began to fail with what it has now.
    fn survived(&mut self, is_relay: bool, number: usize) {
        let Some(before) = self.before.remove(&(is_relay, number)) else { return };
        let Some(after) = self.holding(is_relay, number) else { return };
        let who = if is_relay { "relay" } else { "device" };
        for (document, changes) in &before.changes {
            let kept = after.changes.get(document);
            let lost = changes.iter().filter(|change| kept.is_none_or(|kept| !kept.contains(*change))).count();
            // A device may have written them again in another name meanwhile; their messages stay.
            if lost > 0 && is_relay && !after.buried.contains(document) {
                self.complain(format!("{who} {number} lost {lost} durable changes of {document} with its power"));
            }
        }
        if before.buried.difference(&after.buried).next().is_some() {
            self.complain(format!("{who} {number} lost a durable deletion with its power"));
        }
        if !is_relay {
            let is_gone = |tag: &&Tag| {
                let document = self.model.writes.get(tag).map(|write| write.document);
                !after.tags.contains(tag) && document.is_some_and(|document| !after.buried.contains(&document))
            };
            let lost: Vec<Tag> = before.tags.iter().filter(is_gone).copied().collect();
            if !lost.is_empty() {
                self.complain(format!("device {number} lost durable writes {lost:?} with its power"));
            }
        }
    }

    /// Reads what a device or a relay has, if it runs and its disk can be read.
    pub(super) fn holding(&mut self, is_relay: bool, number: usize) -> Option<Holding> {
        let store = if is_relay { self.relays[number].store() } else { self.nodes[number].store() }?.clone();
        self.model.look(&*store).ok()
    }

    /// Reads what all but one have.
    pub(super) fn others(&mut self, is_relay: bool, number: usize) -> Vec<Holding> {
        let nodes = (0..self.nodes.len()).map(|other| (false, other));
        let all: Vec<_> = nodes.chain((0..self.relays.len()).map(|other| (true, other))).collect();
        let others = all.into_iter().filter(|other| *other != (is_relay, number));
        let found: Vec<_> = others.collect();
        found.into_iter().filter_map(|(is_relay, number)| self.holding(is_relay, number)).collect()
    }

    /// Returns how long the world has lasted.
    pub(super) fn now(&self) -> Duration {
        self.simulation.now()
    }

    /// Returns how much has happened.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.simulation.now();
        self.trail.note(now, what);
    }

    pub(super) fn complain(&mut self, what: String) {
        self.note(format_args!("COMPLAINT: {what}"));
        self.complaints.push(what);
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.events.insert((time, self.next_event), event);
        self.next_event += 1;
    }

    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now() + Duration::from_millis(ms), event);
    }

    /// Lets the world go on until nothing is left to happen before a time.
    pub(super) fn run_until(&mut self, until: Duration) {
        self.settle();
        while self.complaints.is_empty() {
            let event = self.events.keys().next().map(|(time, _)| *time);
            let timer = self.simulation.next_timer();
            let Some(next) = event.into_iter().chain(timer).min().filter(|next| *next <= until) else { break };
            self.simulation.advance(next);
            if event == Some(next)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            }
            self.steps += 1;
            self.settle();
        }
        if self.complaints.is_empty() {
            self.simulation.advance(until);
        }
    }

    /// Runs what can run, and carries off what it sends.
    pub(super) fn settle(&mut self) {
        let mut polls = 0;
        loop {
            let ready = self.simulation.ready();
            if ready == 0 {
                break;
            }
            let choice = if ready > 1 { self.chance.random_range(0..ready) } else { 0 };
            let _ = self.simulation.run_one(choice);
            polls += 1;
            if polls > POLLS_MAX {
                self.complain("tasks turn in circles".to_owned());
                break;
            }
        }
        self.hear_of_work();
        for line in self.wires.take_dialed() {
            let delay = self.chance.random_range(1..40);
            self.after(delay, Event::Dialed(line));
        }
        for line in self.wires.take_left() {
            self.leave(line);
        }
        self.depart();
    }

    fn leave(&mut self, line: LineId) {
        if self.wires.is_up(line) {
            // A line that is mute tells nobody: the relay finds out by itself that nothing comes.
            let most = if self.wires.is_mute(line) { 60_000 } else { 60 };
            let delay = self.chance.random_range(1..most);
            self.after(delay, Event::Left(line));
        } else {
            self.after(0, Event::Left(line));
        }
    }

    fn depart(&mut self) {
        let chance = &mut self.chance;
        let departed = self.wires.depart(self.simulation.now(), |_| {
            Duration::from_millis(if chance.random_range(0..20) == 0 {
                chance.random_range(20..400)
            } else {
                chance.random_range(1..20)
            })
        });
        for (line, is_up, time) in departed {
            self.at(time, if is_up { Event::Up(line) } else { Event::Down(line) });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dialed(line) => self.dialed(line),
            Event::Up(line) => {
                self.wires.arrive_up(line);
                if let Some(ends) = self.wires.ends(line) {
                    self.serve(ends.relay, line);
                }
            }
            Event::Down(line) => {
                self.wires.arrive_down(line);
                // There is room for more.
                if let Some(ends) = self.wires.ends(line) {
                    self.pump(ends.relay);
                }
            }
            Event::Left(line) => {
                if let Some(ends) = self.wires.ends(line) {
                    self.relays[ends.relay].served.remove(&line);
                }
                self.wires.forget(line);
            }
            Event::Cut(line) => self.wires.cut(line, "the line is cut"),
            Event::Commit(relay) => self.commit(relay),
            Event::Look(relay) => self.look(relay),
            Event::Act(act) => self.act(act),
            Event::Rejoined(node, relay) => {
                self.partitions.remove(&(node, relay));
            }
            Event::Crash(node) => self.crash(node),
            Event::Boot(node) => self.boot(node, None),
            Event::RelayCrash(relay) => self.crash_relay(relay),
            Event::RelayBoot(relay) => self.boot_relay(relay),
            Event::Room(node) => self.nodes[node].disk.set_full(false),
            Event::RelayRoom(relay) => self.relays[relay].disk.set_full(false),
        }
    }

    fn dialed(&mut self, line: LineId) {
        let Some(ends) = self.wires.ends(line) else { return };
        if self.partitions.contains(&(ends.node, ends.relay)) {
            // Nobody answers; whoever dials gives up by himself.
            return;
        }
        let token = self.nodes[ends.node].tokens.iter().find(|(relay, _)| *relay == ends.relay);
        let token = token.map_or("", |(_, token)| token);
        let station = &mut self.relays[ends.relay];
        let served = match &station.relay {
            Some(relay) if ends.is_classic => relay.connect_classic(token).map(Served::Classic),
            Some(relay) => Some(Served::Modern(relay.connect())),
            None => None,
        };
        let is_taken = served.is_some();
        station.served.extend(served.map(|served| (line, served)));
        self.note(format_args!("line {line}: device {} to relay {}: {is_taken}", ends.node, ends.relay));
        self.wires.answer(line, is_taken);
    }

    /// Hands what has arrived on a line to the relay, as far as that listens.
    fn serve(&mut self, relay: usize, line: LineId) {
        loop {
            let station = &mut self.relays[relay];
            let Some(served) = station.served.get_mut(&line) else {
                if station.relay.is_some() && self.wires.take_up(line).is_some() {
                    // Nobody knows that line here any more.
                    self.after(5, Event::Cut(line));
                }
                return;
            };
            if !served.is_listening() {
                break;
            }
            match self.wires.take_up(line) {
                None => break,
                Some(Said::Frame(frame)) => {
                    // What a first message holds is drawn anew in each run.
                    let shown = if frame.len() < 400 && frame.windows(4).any(|some| some == b"rjt_") {
                        0
                    } else {
                        brief(&frame)
                    };
                    served.receive(&frame);
                    served.advance();
                    self.note(format_args!("line {line} up {} {shown:x}", frame.len()));
                    if shown != 0 && self.overheard.len() < 64 {
                        self.overheard.push((relay, self.now(), frame));
                    }
                }
                Some(Said::Ping) => self.wires.put_down(line, Heard::SignOfLife),
                Some(Said::Close { code, .. }) => {
                    self.note(format_args!("line {line} closes {code}"));
                    self.relays[relay].served.remove(&line);
                    break;
                }
            }
        }
        self.pump(relay);
    }

    /// Lets a relay's connections do what there is to do, and takes what they send.
    pub(super) fn pump(&mut self, relay: usize) {
        let lines: Vec<LineId> = self.relays[relay].served.keys().copied().collect();
        for line in lines {
            if let Some(served) = self.relays[relay].served.get_mut(&line) {
                served.advance();
            }
            self.look_at_offers(relay, line);
            while self.wires.has_room_down(line) {
                let Some(sent) = self.relays[relay].served.get_mut(&line).and_then(Served::send) else { break };
                match sent {
                    Sent::Frame(frame) => {
                        self.note(format_args!("line {line} down {} {:x}", frame.len(), brief(&frame)));
                        self.wires.put_down(line, Heard::Frame(frame));
                    }
                    Sent::Close { code, reason } => {
                        self.note(format_args!("line {line} is closed {code} {reason}"));
                        self.wires.put_down(line, Heard::Close { code, reason });
                        self.relays[relay].served.remove(&line);
                    }
                }
            }
            let waiting = self.relays[relay].served.get(&line).map_or(0, Served::waiting_bytes);
            if waiting > WAITING_BYTES_MAX {
                self.complain(format!("{waiting} bytes wait for one reader"));
            }
        }
        let wants = self.relays[relay].relay.as_ref().is_some_and(|running| running.wants_commit());
        if wants && !self.relays[relay].will_commit {
            self.relays[relay].will_commit = true;
            let delay = self.chance.random_range(0..8);
            self.after(delay, Event::Commit(relay));
        }
        self.depart();
    }

    /// Holds what sessions let through against what was granted.
    fn look_at_offers(&mut self, relay: usize, line: LineId) {
        let Some(ends) = self.wires.ends(line) else { return };
        while let Some(offer) = self.relays[relay].served.get_mut(&line).and_then(Served::take_offer) {
            let store = self.relays[relay].store().cloned();
            let home = store.and_then(|store| spaces::of(&*store.read().ok()?, &offer.document).ok());
            let space = offer.space.or(home).unwrap_or(SpaceId::DEFAULT);
            if !self.model.may_write(relay, ends.node, space) {
                self.complain(format!(
                    "relay {relay} let device {} write {} in {space} after the right was taken away",
                    ends.node, offer.document
                ));
            }
        }
    }

    fn commit(&mut self, relay: usize) {
        let station = &mut self.relays[relay];
        station.will_commit = false;
        let Some(running) = &mut station.relay else { return };
        if running.commit() {
            self.note(format_args!("relay {relay} commits"));
            self.pump(relay);
        }
        // What arrived while a connection did not listen.
        let lines: Vec<LineId> = self.relays[relay].served.keys().copied().collect();
        for line in lines {
            if self.relays[relay].served.get(&line).is_some_and(Served::is_listening) {
                self.serve_waiting(relay, line);
            }
        }
    }

    fn serve_waiting(&mut self, relay: usize, line: LineId) {
        if self.wires.has_arrived(line) {
            self.serve(relay, line);
        }
    }

    fn look(&mut self, relay: usize) {
        self.relays[relay].served.values_mut().for_each(Served::look);
        self.pump(relay);
        self.at(self.now() + LOOK, Event::Look(relay));
    }

    /// Takes what became of what applications did.
    fn hear_of_work(&mut self) {
        let done: Vec<Done> = self.done.borrow_mut().drain(..).collect();
        for Done { node, tag, what, result } in done {
            match result {
                Ok(change) => {
                    if what == "delete"
                        && let Some(document) = self.deleting.remove(&node)
                    {
                        self.model.deleted.insert(document, true);
                    }
                    self.note(format_args!("device {node}: {what} {tag:?} {change:?}"));
                    let Some(write) = tag.and_then(|tag| self.model.writes.get_mut(&tag)) else { continue };
                    // One that changed nothing made no change.
                    write.is_acknowledged = change.is_some();
                    write.change = change;
                }
                Err(error) => self.hear_of_failure(node, what, &error),
            }
        }
    }

    fn hear_of_failure(&mut self, node: usize, what: &'static str, error: &RepoError) {
        self.note(format_args!("device {node}: {what} failed: {error}"));
        let disk = &self.nodes[node].disk;
        let is_explained = match error {
            RepoError::Store(_) | RepoError::Closed => disk.is_cut() || disk.is_troubled(),
            RepoError::Document(_) => disk.is_cut() || disk.is_troubled() || what == "text",
            RepoError::Deleted | RepoError::Gone => !self.model.deleted.is_empty(),
            // What was to be made may not have been, or have gone with an old disk.
            RepoError::NotFound | RepoError::Field(_) | RepoError::TakeOut { .. } => true,
            _ => false,
        };
        if !is_explained {
            self.complain(format!("device {node} failed to {what} without a reason: {error}"));
        }
    }

    /// Draws an image of what a disk holds that lost its power.
    pub(super) fn image_of(&mut self, disk: &CutFiles) -> Images {
        use rejoin::store::testing::disk::Kept;
        let kept = Kept::ALL[self.chance.random_range(0..Kept::ALL.len())];
        disk.images(kept, &mut Chance::new(self.chance.random()))
    }
}
