//! A run on real processes and sockets: clients that write to the same documents, a network that misbehaves, a nemesis that kills,
//! pauses, restores and revokes, histories of all of it, and a checker that holds them against what is there.
//!
//! `tests/docs/torture.md` says what is done and what is checked. A seed gives the same schedule of faults each time; how processes
//! and bytes interleave is the machine's own, so a seed that failed once may pass the next time.

pub mod check;
mod device;
pub mod history;
pub mod member;
mod nemesis;
mod node;
pub mod schedule;
mod settle;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rejoin::{ConnectOptions, DocumentId, Edit, Protocol, Receipt, Repo, SpaceId, Value, fields::EditAction};

use crate::proxy::Proxy;
use check::{Evidence, Violation, check};
use device::Device;
use history::{Done, Log, Said, WriteId};
use member::Orders;
use node::Node;
use schedule::Measure;

/// How many documents there are from the beginning.
const DOCUMENTS: usize = 4;
/// How long anything may take that must come. Long, because the machine may be busy: it is never the measure.
const PATIENCE: Duration = Duration::from_secs(120);

/// What run is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the schedule begins.
    pub seed: u64,
    /// How long faults go on.
    pub duration: Duration,
    /// How many clients there are; the last one of several speaks the classic protocol.
    pub clients: usize,
    /// How long one fault lasts at most.
    pub longest: Duration,
    /// Whether connections that lost a direction are cut in the end, so that nobody has to find out that they are dead.
    pub cuts_in_the_end: bool,
    /// A client that says that its writes are relayed as soon as they are made, and never connects.
    pub liar: Option<usize>,
    /// Whether the relay's store is put back to what it was in the beginning whenever the relay is killed, without a word: as if it
    /// acknowledged what it does not keep.
    pub is_forgetful: bool,
    /// How long it may take in the end until all have the same.
    pub patience: Duration,
    /// Ends the run early when it is set: everything is stopped, and what there is is checked.
    pub interrupted: Arc<AtomicBool>,
}

impl Options {
    /// A short run.
    pub fn short(seed: u64, seconds: u64) -> Self {
        Self {
            seed,
            duration: Duration::from_secs(seconds),
            clients: 5,
            longest: Duration::from_secs(4),
            cuts_in_the_end: true,
            liar: None,
            is_forgetful: false,
            patience: 2 * PATIENCE,
            interrupted: Arc::default(),
        }
    }

    fn measure(&self) -> Measure {
        let Self { duration, clients, longest, .. } = *self;
        Measure { duration, clients, has_classic: clients > 1, longest }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was found broken.
    pub violations: Vec<Violation>,
    /// All that was held against each other.
    pub evidence: Evidence,
    /// Where the histories, stores and logs are, if anything is broken.
    pub folder: Option<PathBuf>,
    /// How much was done.
    pub tally: Tally,
}

/// How much was done in a run.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How often each kind of fault was made.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many lines the histories have.
    pub events: usize,
    /// How many writes were tried, were local, relayed, seen.
    pub writes: [usize; 4],
    /// How many writes a relay refused for good.
    pub refused: usize,
    /// How often the relay's store was looked into, and those of clients.
    pub looks: [usize; 2],
    /// How many changes the documents have in the end.
    pub changes: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, events, writes: [tried, local, relayed, seen], refused, looks: [relay, clients], changes } =
            self;
        let all: u64 = faults.values().sum();
        write!(
            f,
            "{events} events, {all} faults {faults:?}; {tried} writes tried, {local} local, {relayed} relayed, "
        )?;
        write!(
            f,
            "{seen} seen, {refused} refused; looked {relay} times into the relay's store and {clients} times into a "
        )?;
        write!(f, "client's; {changes} changes in the end")
    }
}

/// All processes of a run, and what it is about. Whatever still runs is killed when it is dropped.
struct World {
    options: Options,
    folder: PathBuf,
    space: SpaceId,
    documents: Vec<DocumentId>,
    relays: Vec<Node>,
    devices: Vec<Device>,
    log: Log,
    /// Who joins in the end, with nothing.
    late_token: String,
    faults: Vec<String>,
    tally: Tally,
}

/// Makes a run, and checks what came of it. The folder is left behind if anything is broken.
pub async fn run(options: Options) -> Outcome {
    let folder = tempfile::Builder::new().prefix("rejoin-torture-").tempdir().unwrap();
    let world = World::start(options, folder.path().to_owned()).await;
    let mut world = world.torture().await;
    let stores = world.settle().await;
    let evidence = world.gather(stores).await;
    let mut tally = std::mem::take(&mut world.tally);
    drop(world);
    tally.count(&evidence);
    let violations = check(&evidence);
    let folder = (!violations.is_empty()).then(|| folder.keep());
    Outcome { violations, evidence, folder, tally }
}

impl World {
    async fn start(options: Options, folder: PathBuf) -> Self {
        let log = Log::append(&folder.join("nemesis"));
        log.say(&Done::Note(format!("seed {}", options.seed)));
        let relay = folder.join("relay-0");
        let mut relays = vec![tokio::task::block_in_place(|| Node::start(&relay, options.is_forgetful))];
        let space = Repo::in_memory().unwrap().create_space().id();
        let late_token = tokio::task::block_in_place(|| relays[0].admit("late", space));
        let documents = make_documents(&relays[0].url(), &late_token, space).await;
        let mut devices = Vec::new();
        for client in 0..options.clients {
            let home = client % relays.len();
            let token = tokio::task::block_in_place(|| relays[home].admit(&format!("c{client}"), space));
            let proxy = Proxy::start(&relays[home].url()).await;
            let is_classic = options.measure().has_classic && client + 1 == options.clients;
            let orders = Orders {
                client,
                run: 0,
                store: folder.join(format!("c{client}.redb")),
                history: folder.join(format!("c{client}")),
                quiet: folder.join("quiet"),
                url: proxy.url(),
                protocol: if is_classic { Protocol::Classic } else { Protocol::RejoinV1 },
                token: token.clone(),
                space,
                documents: documents.clone(),
                seed: 0,
                only_looks: false,
            };
            devices.push(Device::new(orders, proxy, token, home, options.liar == Some(client)));
        }
        let (faults, tally) = (Vec::new(), Tally::default());
        Self { options, folder, space, documents, relays, devices, log, late_token, faults, tally }
    }
}

impl Tally {
    fn count(&mut self, evidence: &Evidence) {
        let said = || evidence.devices.iter().flatten().map(|at| &at.what);
        self.events = said().count() + evidence.nemesis.len();
        let mut furthest: BTreeMap<WriteId, Option<Receipt>> = BTreeMap::new();
        for what in said() {
            match what {
                Said::Invoked(id, ..) => drop(furthest.insert(*id, None)),
                Said::Stage(id, stage) => {
                    furthest.entry(*id).and_modify(|said| *said = (*said).max(Some(*stage)));
                }
                _ => {}
            }
        }
        let stage = |stage| furthest.values().filter(|said| **said >= stage).count();
        let stages = [None, Some(Receipt::Local), Some(Receipt::Relayed), Some(Receipt::Seen)];
        self.writes = stages.map(stage);
        self.refused = said().filter(|what| matches!(what, Said::Refused(..))).count();
        let relay = evidence.nemesis.iter().filter(|at| at.what == Done::RelayLooked).count();
        self.looks = [relay, said().filter(|what| **what == Said::Looked).count()];
        self.changes = evidence.relay.values().map(|document| document.writes.len()).sum();
    }
}

/// Makes the documents of a run, and waits until the relay has them.
async fn make_documents(url: &str, token: &str, space: SpaceId) -> Vec<DocumentId> {
    let repo = Repo::in_memory().unwrap();
    let options = ConnectOptions::new().protocol(Protocol::RejoinV1).token(token);
    let connection = repo.connect_with(url, &options).unwrap();
    let mut documents = Vec::new();
    for _ in 0..DOCUMENTS {
        let document = repo.create_in(space).await.unwrap();
        let make = |key, action| Edit::new(rejoin::fields::ObjectId::Root, key, action);
        let edits = vec![
            Edit::set("count", Value::counter(0)),
            make("text", EditAction::MakeText),
            make("draft", EditAction::MakeText),
            make("list", EditAction::MakeList),
        ];
        document.edit(edits).await.unwrap().wait(Receipt::Relayed, PATIENCE).await.unwrap();
        documents.push(document.id());
    }
    connection.disconnect().await;
    documents
}

/// Returns the letter by which a client's edits of a text are known.
pub fn letter(client: usize) -> char {
    let letters = 'a'..='z';
    letters.clone().nth(client % letters.count()).unwrap_or('?')
}
