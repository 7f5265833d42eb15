//! The nemesis: does what the schedule says, when it says so, and tells what it did.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::World;
use super::history::Done;
use super::schedule::{Deed, schedule};
use crate::proxy::Fault;

/// How long the nemesis sleeps at a time.
const NAP: Duration = Duration::from_millis(20);

impl World {
    /// Starts all clients, and does everything that the schedule says; then undoes it.
    pub(super) async fn torture(mut self) -> Self {
        let tortured = tokio::task::spawn_blocking(move || {
            let mut random = StdRng::seed_from_u64(self.options.seed ^ 0x5eed);
            self.look_at_relay();
            for client in 0..self.devices.len() {
                self.start_client(client, random.random());
            }
            let begun = Instant::now();
            for (at, deed) in schedule(self.options.seed, &self.options.measure()) {
                while begun.elapsed() < at.min(self.options.duration) && !self.is_interrupted() {
                    self.notice_deaths();
                    std::thread::sleep(NAP.min(at.saturating_sub(begun.elapsed())));
                }
                if self.is_interrupted() {
                    break;
                }
                self.perform(deed, random.random());
            }
            self.heal(&mut random);
            self
        });
        tortured.await.unwrap()
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    fn note(&self, text: impl Into<String>) {
        self.log.say(&Done::Note(text.into()));
    }

    fn perform(&mut self, deed: Deed, seed: u64) {
        self.note(format!("{deed:?}"));
        if let Some(fault) = name(deed) {
            *self.tally.faults.entry(fault).or_default() += 1;
        }
        match deed {
            Deed::KillClient(client) => self.devices[client].kill(),
            Deed::StopClient(client) => self.stop_client(client),
            Deed::StartClient(client) => self.start_client(client, seed),
            Deed::PauseClient(client) => self.devices[client].pause(),
            Deed::ResumeClient(client) => self.devices[client].resume(),
            Deed::KillRelay(down_ms) => {
                self.relays[0].kill();
                self.come_back(down_ms);
            }
            Deed::StopRelay(down_ms) => {
                self.relays[0].stop();
                self.come_back(down_ms);
            }
            Deed::PauseRelay => self.relays[0].pause(),
            Deed::ResumeRelay => self.relays[0].resume(),
            Deed::Net(client, fault) => self.devices[client].proxy.set_fault(fault),
            Deed::Cut(client) => self.devices[client].proxy.cut(),
            Deed::CopyDisk(client) => {
                self.devices[client].kill();
                self.devices[client].copy_disk();
                self.log.say(&Done::DiskCopied(client));
                self.start_client(client, seed);
            }
            Deed::RollBack(client) => self.roll_back(client, seed),
            Deed::Backup { is_online: true } => {
                // Whoever is asked to make one has to go on.
                self.relays[0].back_up(true);
            }
            Deed::Backup { is_online: false } => {
                self.relays[0].kill();
                self.relays[0].back_up(false);
                self.come_back(0);
            }
            Deed::Restore => self.restore(seed),
            Deed::Revoke(client, wholly) => self.revoke(client, wholly),
            Deed::Regrant(client) => self.regrant(client),
        }
    }

    pub(super) fn start_client(&mut self, client: usize, seed: u64) {
        let device = &mut self.devices[client];
        if device.is_running() {
            return device.resume();
        }
        if device.is_classic() {
            let ticket = self.relays[device.home].ticket(&device.token);
            device.orders.url = format!("{}/?ticket={ticket}", device.proxy.url());
        }
        device.start(seed);
    }

    pub(super) fn stop_client(&mut self, client: usize) {
        let wrong = self.devices[client].stop();
        self.faults.extend(wrong);
    }

    /// Notices what ended by itself, and starts it again.
    pub(super) fn notice_deaths(&mut self) {
        for client in 0..self.devices.len() {
            if self.devices[client].has_died() {
                self.faults.push(format!("c{client} ended by itself"));
                self.start_client(client, client as u64);
            }
        }
        for (number, relay) in self.relays.iter_mut().enumerate() {
            if relay.has_died() {
                self.faults.push(format!("relay {number} ended by itself"));
                relay.restart();
            }
        }
    }

    /// Looks into the store of the relay, which does not run, and starts it again.
    fn come_back(&mut self, down_ms: u64) {
        let (space, relay) = (self.space, &mut self.relays[0]);
        relay.look(space, &self.log, false);
        std::thread::sleep(Duration::from_millis(down_ms));
        relay.restart();
    }

    /// Looks into the store of the relay, which is killed for that.
    fn look_at_relay(&mut self) {
        self.relays[0].kill();
        self.come_back(0);
    }

    fn roll_back(&mut self, client: usize, seed: u64) {
        self.devices[client].kill();
        // Of what is taken away others may say that it was there.
        let wrong = self.devices[client].look();
        self.faults.extend(wrong);
        if self.devices[client].roll_back() {
            self.log.say(&Done::RolledBack(client));
        }
        self.start_client(client, seed);
    }

    fn restore(&mut self, seed: u64) {
        let (space, relay) = (self.space, &mut self.relays[0]);
        relay.kill();
        relay.look(space, &self.log, false);
        if relay.restore() {
            self.log.say(&Done::Restored);
            relay.look(space, &self.log, true);
        }
        relay.restart();
        // What a classic client shows may be unknown to that relay, and it can show nothing else while it runs.
        for client in 0..self.devices.len() {
            if self.devices[client].is_classic() && self.devices[client].is_running() {
                self.devices[client].kill();
                self.start_client(client, seed);
            }
        }
    }

    fn revoke(&mut self, client: usize, wholly: bool) {
        let (space, relay, name) = (self.space, &mut self.relays[0], self.devices[client].name.clone());
        relay.resume();
        self.log.say(&Done::Revoking(client, wholly));
        if wholly {
            relay.admin(&["principal", "disable", &name]);
        } else {
            relay.admin(&["grant", "put", &name, &format!("space/{space}"), "read"]);
        }
        let (epoch, end) = relay.log_end(space);
        self.log.say(&Done::Revoked(client, epoch, end));
    }

    fn regrant(&mut self, client: usize) {
        let (space, relay, name) = (self.space, &mut self.relays[0], self.devices[client].name.clone());
        let (epoch, end) = relay.log_end(space);
        self.log.say(&Done::Regranting(client, epoch, end));
        // Whatever was taken.
        relay.admin(&["principal", "enable", &name]);
        relay.admin(&["grant", "put", &name, &format!("space/{space}"), "write"]);
        self.log.say(&Done::Regranted(client));
    }

    /// Undoes everything that was done, so that all can come to the same; nobody writes any more.
    fn heal(&mut self, random: &mut StdRng) {
        self.relays.iter_mut().for_each(super::node::Node::resume);
        self.look_at_relay();
        for client in 0..self.devices.len() {
            self.devices[client].proxy.set_fault(None);
            if self.options.cuts_in_the_end {
                self.devices[client].proxy.cut();
            }
            if self.is_interrupted() {
                self.regrant(client);
            }
            self.start_client(client, random.random());
        }
        std::fs::write(self.folder.join("quiet"), "").unwrap();
        self.log.say(&Done::Healed);
    }
}

/// Returns which kind of fault a deed is; none if it ends one.
fn name(deed: Deed) -> Option<&'static str> {
    Some(match deed {
        Deed::KillClient(_) => "client killed",
        Deed::StopClient(_) => "client stopped",
        Deed::PauseClient(_) => "client paused",
        Deed::KillRelay(_) => "relay killed",
        Deed::StopRelay(_) => "relay drained",
        Deed::PauseRelay => "relay paused",
        Deed::Net(_, Some(Fault::Delay(_))) => "delay",
        Deed::Net(_, Some(Fault::Trickle(_))) => "trickle",
        Deed::Net(_, Some(Fault::Swallow(_))) => "half-open",
        Deed::Net(_, Some(Fault::Refuse)) => "refuse",
        Deed::Cut(_) => "cut",
        Deed::CopyDisk(_) => "disk copied",
        Deed::RollBack(_) => "old disk",
        Deed::Backup { .. } => "backup",
        Deed::Restore => "relay restored",
        Deed::Revoke(..) => "right revoked",
        Deed::StartClient(_) | Deed::ResumeClient(_) | Deed::ResumeRelay | Deed::Net(_, None) | Deed::Regrant(_) => {
            return None;
        }
    })
}
