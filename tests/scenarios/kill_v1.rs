//! Two devices that write by `rejoin.v1`, and their relay: each is killed at random, over and over. Whatever a receipt said
//! stays true.
//!
//! `REJOIN_KILLS` is the number of rounds, `REJOIN_SEED` what the randomness begins with; each run prints its own.

#![expect(clippy::print_stdout, reason = "the seed and the figures are there to be read")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::{ChangeHash, ConnectOptions, Connection, DocHandle, DocumentId, Protocol, Receipt, Repo, SpaceId};
use rejoin_tests::relay::RelayProcess;

use crate::{PATIENCE, eventually, heads};

/// How many rounds there are unless `REJOIN_KILLS` says otherwise.
const KILLS: u64 = 30;
/// After how many rounds everything is compared, at least.
const ROUNDS_BETWEEN_CHECKS: u64 = 10;
/// How many of the older writes are asked for in each round.
const OLDER_WRITES: usize = 200;

/// What a device said of its writes: the furthest stage of each.
type Claims = BTreeMap<(DocumentId, ChangeHash), Receipt>;

/// A device: a store, now and then a process that writes to it, and what that one said.
struct Device {
    store: PathBuf,
    running: Option<(Child, JoinHandle<()>)>,
    claims: Arc<Mutex<Claims>>,
    /// What was said since the store was last looked at.
    fresh: Arc<Mutex<BTreeSet<(DocumentId, ChangeHash)>>>,
}

impl Device {
    fn new(store: PathBuf) -> Self {
        Self { store, running: None, claims: Arc::default(), fresh: Arc::default() }
    }

    fn start(&mut self, relay: &RelayProcess, space: SpaceId, seed: u64) {
        let mut child = Command::new(rejoin_tests::binary("rejoin-tests-member"))
            .arg(&self.store)
            .args([relay.url(), space.to_string(), seed.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (claims, fresh) = (Arc::clone(&self.claims), Arc::clone(&self.fresh));
        let listener = std::thread::spawn(move || {
            for (write, stage) in output.lines().map_while(Result::ok).filter_map(|line| claim(&line)) {
                let mut claims = claims.lock().unwrap();
                let said = claims.entry(write).or_insert(stage);
                *said = stage.max(*said);
                fresh.lock().unwrap().insert(write);
            }
        });
        self.running = Some((child, listener));
    }

    /// Kills the process, and waits until all it said was heard.
    fn kill(&mut self) {
        let Some((mut child, listener)) = self.running.take() else { return };
        assert!(child.try_wait().unwrap().is_none(), "it was running until now");
        child.kill().unwrap();
        child.wait().unwrap();
        listener.join().unwrap();
    }

    fn claims(&self) -> Claims {
        self.claims.lock().unwrap().clone()
    }

    /// Looks into the store of the killed process: of its own writes, at least what it said is true; and what the other
    /// device was told to be seen is here.
    async fn check(&self, other: &Self, random: &mut StdRng, is_all: bool) {
        assert!(self.running.is_none());
        let repo = Repo::open(&self.store).await.unwrap();
        let picked = |device: &Self, random: &mut StdRng, fresh: BTreeSet<(DocumentId, ChangeHash)>| {
            let claims = device.claims();
            let ratio = u32::try_from(claims.len() / OLDER_WRITES).unwrap().max(1);
            claims
                .into_iter()
                .filter(|(write, _)| is_all || fresh.contains(write) || random.random_ratio(1, ratio))
                .collect()
        };
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap());
        let own: Claims = picked(self, random, fresh);
        for ((document, change), said) in own {
            let found = repo.receipt(document, change).await.unwrap();
            assert!(found >= Some(said), "{document} {change}: said {said:?}, found {found:?}");
            // What is true now must be so for ever.
            self.claims.lock().unwrap().insert((document, change), found.unwrap());
        }
        let fresh = other.fresh.lock().unwrap().clone();
        let seen: Claims = picked(other, random, fresh);
        for ((document, change), _) in seen.into_iter().filter(|(_, said)| *said == Receipt::Seen) {
            let found = repo.receipt(document, change).await.unwrap();
            assert!(found.is_some(), "{document} {change}: said to be seen, and is not there");
        }
        repo.close().await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads a line of a device. One that was cut short says nothing.
fn claim(line: &str) -> Option<((DocumentId, ChangeHash), Receipt)> {
    let [stage, document, change, "."] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let stage = match stage {
        "Local" => Receipt::Local,
        "Relayed" => Receipt::Relayed,
        "Seen" => Receipt::Seen,
        _ => panic!("{line:?}"),
    };
    Some(((document.parse().unwrap(), change.parse().unwrap()), stage))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_receipt_is_ever_taken_back_however_often_clients_and_relay_are_killed() {
    let rounds = number("REJOIN_KILLS").unwrap_or(KILLS);
    let seed = number("REJOIN_SEED").unwrap_or_else(rand::random);
    println!("REJOIN_KILLS={rounds} REJOIN_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut relay = RelayProcess::start(&folder.path().join("relay"));
    let mut devices = ["ada", "ben"].map(|name| Device::new(folder.path().join(format!("{name}.redb"))));
    let space = begin(&devices[0].store).await;
    let mut kills = [0_u64; 3];
    for round in 1..=rounds {
        for device in devices.iter_mut().filter(|device| device.running.is_none()) {
            device.start(&relay, space, random.random());
        }
        // Now and then several of them go, in any order.
        for _ in 0..random.random_range(1..=2) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
            let victim = random.random_range(0..3);
            kills[victim] += 1;
            match victim {
                0 | 1 => devices[victim].kill(),
                _ => {
                    // It is stopped now and then, so that it puts pushes off that are under way.
                    if random.random_ratio(1, 3) {
                        relay.stop();
                    } else {
                        relay.kill();
                    }
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
                    relay.restart();
                }
            }
        }
        for (one, other) in [(0, 1), (1, 0)] {
            if devices[one].running.is_none() {
                devices[one].check(&devices[other], &mut random, false).await;
            }
        }
        if rounds > KILLS && round % 100 == 0 {
            println!("{round} rounds");
        }
        if round == rounds || round % ROUNDS_BETWEEN_CHECKS.max(rounds / 20) == 0 {
            relay.kill();
            relay.restart();
            devices.iter_mut().for_each(Device::kill);
            compare(&devices, &relay, space, &mut random).await;
        }
    }
    let claims = devices.each_ref().map(Device::claims);
    let count = |stage| claims.iter().flat_map(BTreeMap::values).filter(|said| **said >= stage).count();
    println!(
        "{rounds} rounds: killed {} and {} times the devices, stopped or killed {} times the relay; {} writes, {} relayed, {} seen",
        kills[0],
        kills[1],
        kills[2],
        count(Receipt::Local),
        count(Receipt::Relayed),
        count(Receipt::Seen)
    );
    assert!(count(Receipt::Seen) as u64 >= rounds.min(KILLS), "the devices got somewhere");
}

/// Makes the space and its first document.
async fn begin(store: &Path) -> SpaceId {
    let repo = Repo::open(store).await.unwrap();
    let space = repo.create_space();
    let document = space.create().await.unwrap();
    document.set("made", true).await.unwrap();
    let id = space.id();
    drop((document, space));
    repo.close().await;
    id
}

/// While the devices are off, a third one that has nothing gets all that was relayed; then all three come to the same.
async fn compare(devices: &[Device; 2], relay: &RelayProcess, space: SpaceId, random: &mut StdRng) {
    for (one, other) in [(0, 1), (1, 0)] {
        devices[one].check(&devices[other], random, true).await;
    }
    let claims: Claims = devices.iter().flat_map(Device::claims).collect();
    let (fresh, mut connection) = open(None, relay, space).await;
    connection.wait_caught_up(PATIENCE).await.unwrap();
    for (document, change) in claims.iter().filter(|(_, said)| **said >= Receipt::Relayed).map(|(write, _)| *write) {
        let found = fresh.receipt(document, change).await.unwrap();
        assert!(found.is_some(), "{document} {change}: said to be relayed, and did not come");
    }
    let (ada, ada_connection) = open(Some(&devices[0].store), relay, space).await;
    let (ben, ben_connection) = open(Some(&devices[1].store), relay, space).await;
    ada.wait_synced(PATIENCE).await.unwrap();
    ben.wait_synced(PATIENCE).await.unwrap();
    let (one, other) = (written(&ada, space).await, written(&ben, space).await);
    let all: BTreeSet<DocumentId> = one.union(&other).copied().collect();
    for repo in [&ada, &ben] {
        assert_eq!(repo.rejected().await.unwrap().len(), 0, "nobody has anything to refuse");
    }
    for repo in [&ada, &ben, &fresh] {
        eventually("the same documents are there", || async { written(repo, space).await == all }).await;
    }
    for document in all {
        let [one, two, three] = [find(&ada, document).await, find(&ben, document).await, find(&fresh, document).await];
        eventually("all have the same", || async {
            let wanted = heads(&one).await;
            wanted == heads(&two).await && wanted == heads(&three).await
        })
        .await;
        let wanted = one.to_json().await.unwrap();
        assert_eq!(two.to_json().await.unwrap(), wanted);
        assert_eq!(three.to_json().await.unwrap(), wanted);
    }
    for (document, change) in claims.into_keys() {
        let found = fresh.receipt(document, change).await.unwrap();
        assert!(found.is_some(), "{document} {change}: was written, and did not come");
    }
    for (repo, connection) in [(ada, ada_connection), (ben, ben_connection)] {
        connection.disconnect().await;
        repo.close().await;
    }
}

async fn open(store: Option<&Path>, relay: &RelayProcess, space: SpaceId) -> (Repo, Connection) {
    let repo = match store {
        Some(store) => Repo::open(store).await.unwrap(),
        None => Repo::in_memory().unwrap(),
    };
    repo.space(space).follow().await.unwrap();
    let connection = repo.connect_with(&relay.url(), &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap();
    (repo, connection)
}

/// Returns the documents of a space that were written to. An empty one, of a device that was killed after it had made it, is
/// on that device alone.
async fn written(repo: &Repo, space: SpaceId) -> BTreeSet<DocumentId> {
    let mut written = BTreeSet::new();
    for document in repo.space(space).list().await.unwrap() {
        if !heads(&find(repo, document).await).await.is_empty() {
            written.insert(document);
        }
    }
    written
}

async fn find(repo: &Repo, document: DocumentId) -> DocHandle {
    repo.find(document).await.unwrap().unwrap()
}
