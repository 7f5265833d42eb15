//! A client of a run, in a process of its own: it writes, follows what it wrote, and tells everything in its history.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use automerge::transaction::{Transactable, Transaction};
use automerge::{ChangeHash, ROOT, ReadDoc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::gate::CheckedChange;
use rejoin::repo::{ChangeOptions, EventKind, RejectedWrite};
use rejoin::store::{ReadTx, StoreError};
use rejoin::{
    ConnectOptions, Connection, ConnectionState, DocHandle, DocumentId, Edit, Protocol, Receipt, Repo, RepoError,
    SpaceId, Written, ledger,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::history::{self, Log, Op, Said, WriteId};
use super::letter;

/// Every how many milliseconds a client asks how its writes stand.
const LOOK_MS: u64 = 50;
/// How often a client tries rejected writes again, or drops them.
const RETRY: Duration = Duration::from_secs(2);
/// How many of its former writes a process asks for.
const FORMER_MAX: usize = 200;
/// How many writes are followed at a time.
const FOLLOWED_MAX: usize = 4_000;

/// How a client lies, for the canary.
pub const LIE: &str = "REJOIN_TORTURE_LIE";

/// What a client is told.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Its number.
    pub client: usize,
    /// Which process of it this is.
    pub run: u64,
    /// Its store.
    pub store: PathBuf,
    /// Its history.
    pub history: PathBuf,
    /// While this file is there, nothing is written.
    pub quiet: PathBuf,
    /// Where the relay is.
    pub url: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// What it shows to the relay.
    pub token: String,
    /// The space.
    pub space: SpaceId,
    /// The documents that were there from the beginning.
    pub documents: Vec<DocumentId>,
    /// Where its randomness begins.
    pub seed: u64,
    /// Whether it only tells what it has.
    pub only_looks: bool,
}

impl Orders {
    /// Writes the orders as arguments of the process.
    pub fn arguments(&self) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let documents: Vec<String> = self.documents.iter().map(ToString::to_string).collect();
        let protocol = if self.protocol == Protocol::Classic { "classic" } else { "v1" };
        vec![
            "torture".to_owned(),
            self.client.to_string(),
            self.run.to_string(),
            path(&self.store),
            path(&self.history),
            path(&self.quiet),
            self.url.clone(),
            protocol.to_owned(),
            self.token.clone(),
            self.space.to_string(),
            documents.join(","),
            self.seed.to_string(),
            self.only_looks.to_string(),
        ]
    }

    /// Reads what [`Orders::arguments`] wrote, without the first.
    pub fn read(arguments: &[String]) -> Self {
        let [client, run, store, history, quiet, url, protocol, token, space, documents, seed, only_looks] = arguments
        else {
            panic!("not the arguments of a client: {arguments:?}")
        };
        Self {
            client: client.parse().unwrap(),
            run: run.parse().unwrap(),
            store: store.into(),
            history: history.into(),
            quiet: quiet.into(),
            url: url.clone(),
            protocol: if protocol == "classic" { Protocol::Classic } else { Protocol::RejoinV1 },
            token: token.clone(),
            space: space.parse().unwrap(),
            documents: documents.split(',').map(|document| document.parse().unwrap()).collect(),
            seed: seed.parse().unwrap(),
            only_looks: only_looks.parse().unwrap(),
        }
    }
}

/// What the tasks of a client share.
struct Client {
    orders: Orders,
    repo: Repo,
    log: Log,
    /// Writes on their way.
    followed: Mutex<VecDeque<Followed>>,
    quiet: watch::Sender<bool>,
    /// Held by whoever writes or drops, so that what is told of a client that is quiet stays so.
    writing: tokio::sync::Mutex<()>,
}

/// A write on its way.
#[derive(Clone)]
struct Followed {
    id: WriteId,
    written: Written,
    said: Receipt,
}

/// What former processes of a client said.
#[derive(Default)]
struct Former {
    /// Every write that was local, and what it is called in the store: with how far it came.
    writes: BTreeMap<WriteId, (DocumentId, Receipt)>,
}

/// Does what a client is told, until it is asked to end, or whoever started it is gone.
pub async fn run(orders: Orders) {
    let mut stop = signal(SignalKind::terminate()).unwrap();
    let former = Former::read(&orders.history);
    let log = Log::append(&orders.history);
    log.say(&Said::Run(orders.run));
    exit_when_alone();
    let repo = Repo::open(&orders.store).await.unwrap();
    let names = look(&repo, &log).await;
    if orders.only_looks {
        return repo.close().await;
    }
    let space = repo.space(orders.space);
    let client = Arc::new(Client {
        orders,
        repo: repo.clone(),
        log,
        followed: Mutex::default(),
        quiet: watch::Sender::new(false),
        writing: tokio::sync::Mutex::default(),
    });
    client.take_up(&former, &names).await;
    if client.orders.protocol == Protocol::RejoinV1 {
        space.follow().await.unwrap();
    } else {
        for document in &client.orders.documents {
            space.open_or_fetch(*document).await.unwrap();
        }
    }
    drop(space);
    // One that says that its writes are relayed may not get that far.
    let connection = (!lies()).then(|| client.connect());
    let ended = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(Arc::clone(&client).write());
    tasks.spawn(Arc::clone(&client).follow());
    tasks.spawn(Arc::clone(&client).reconsider());
    tasks.spawn(Arc::clone(&client).stand());
    if let Some(connection) = connection {
        tasks.spawn(Arc::clone(&client).watch(connection, Arc::clone(&ended)));
    }
    tokio::select! {
        _ = stop.recv() => {}
        Some(died) = tasks.join_next() => died.unwrap(),
    }
    // A write under way ends first, and is told; then the connection ends.
    client.quiet.send_replace(true);
    ended.notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    tasks.shutdown().await;
    client.log.say(&Said::Closed);
    drop(repo);
    if let Ok(Client { repo, followed, .. }) = Arc::try_unwrap(client) {
        drop(followed);
        repo.close().await;
    }
}

fn lies() -> bool {
    std::env::var_os(LIE).is_some()
}

/// Ends this process when standard input ends: whoever started it holds that open for as long as it lives.
fn exit_when_alone() {
    std::thread::spawn(|| {
        let mut nothing = String::new();
        while std::io::stdin().read_line(&mut nothing).is_ok_and(|length| length > 0) {}
        std::process::exit(3);
    });
}

impl Former {
    fn read(path: &Path) -> Self {
        let mut former = Self::default();
        for at in history::read::<Said>(path) {
            match at.what {
                Said::Invoked(id, document, _) => drop(former.writes.insert(id, (document, Receipt::Local))),
                Said::Stage(id, stage) => {
                    former.writes.entry(id).and_modify(|(_, said)| *said = stage.max(*said));
                }
                _ => {}
            }
        }
        former
    }
}

/// Tells all writes that the store has, and returns which changes they are.
async fn look(repo: &Repo, log: &Log) -> HashMap<WriteId, ChangeHash> {
    let found = loop {
        let found = repo.look(|tx| {
            let mut found = Vec::new();
            for document in ledger::documents(tx)? {
                writes(tx, &document, &mut |id, hash| found.push((id, hash)))?;
            }
            Ok(found)
        });
        match found.await {
            // A history that came whole is being taken apart.
            Err(RepoError::Store(error)) if matches!(*error, StoreError::Folded) => {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
            found => break found.unwrap(),
        }
    };
    log.say_all(&Said::has(found.iter().map(|(id, _)| *id).collect()));
    log.say(&Said::Looked);
    found.into_iter().collect()
}

/// Visits the writes among a document's changes, in the order of the ledger.
pub(super) fn writes(
    tx: &dyn ReadTx,
    document: &DocumentId,
    visit: &mut dyn FnMut(WriteId, ChangeHash),
) -> Result<(), StoreError> {
    ledger::export(tx, document, 0, &mut |bytes| {
        if let Ok(change) = CheckedChange::parse(bytes)
            && let Some(id) = change.message().and_then(|message| message.parse().ok())
        {
            visit(id, change.hash());
        }
        ControlFlow::Continue(())
    })
}

impl Client {
    fn connect(&self) -> Connection {
        let options = ConnectOptions::new().protocol(self.orders.protocol).token(self.orders.token.clone());
        self.repo.connect_with(&self.orders.url, &options).unwrap()
    }

    /// Tells how former writes stand, the last ones, and follows those on that are on their way.
    async fn take_up(&self, former: &Former, names: &HashMap<WriteId, ChangeHash>) {
        let mut former: Vec<_> = former.writes.iter().rev().collect();
        former.truncate(FORMER_MAX);
        former.reverse();
        for (id, (document, said)) in former {
            let stands = match names.get(id) {
                Some(hash) => self.repo.receipt(*document, *hash).await.unwrap(),
                None => None,
            };
            self.log.say(&Said::Stands(*id, stands));
            if let (Some(stands), Some(hash)) = (stands, names.get(id)) {
                let written = self.repo.written(*document, *hash);
                self.take(Followed { id: *id, written, said: stands.max(*said) });
            }
        }
    }

    fn take(&self, followed: Followed) {
        if followed.said < Receipt::Seen {
            let mut all = self.followed.lock().unwrap();
            all.push_back(followed);
            if all.len() > FOLLOWED_MAX {
                all.pop_front();
            }
        }
    }

    /// Tells whenever a write has come further.
    async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            let all = std::mem::take(&mut *self.followed.lock().unwrap());
            // Those of one document come further in their order, so that there is no need to ask all of them.
            let mut waits: Vec<(DocumentId, Receipt)> = Vec::new();
            let mut left = VecDeque::new();
            for mut one in all {
                if waits.contains(&(one.written.document(), one.said)) {
                    left.push_back(one);
                    continue;
                }
                match one.written.stage().await {
                    Ok(stage) if stage > one.said => {
                        one.said = stage;
                        self.log.say(&Said::Stage(one.id, stage));
                    }
                    // It was taken out.
                    Err(RepoError::Gone | RepoError::Closed) => continue,
                    // One that was rejected goes on when it is tried again.
                    Ok(_) | Err(_) => waits.push((one.written.document(), one.said)),
                }
                if one.said < Receipt::Seen {
                    left.push_back(one);
                }
            }
            let mut followed = self.followed.lock().unwrap();
            left.append(&mut followed);
            *followed = left;
        }
    }

    /// Writes, now and then many at once.
    async fn write(self: Arc<Self>) {
        let mut random = StdRng::seed_from_u64(self.orders.seed);
        let mut quiet = self.quiet.subscribe();
        let mut number = 0;
        loop {
            if quiet.wait_for(|quiet| !quiet).await.is_err() {
                return;
            }
            let burst = if random.random_ratio(1, 20) { random.random_range(5..30) } else { 1 };
            for _ in 0..burst {
                let _writing = self.writing.lock().await;
                if *self.quiet.borrow() {
                    break;
                }
                number += 1;
                let document = self.document(&mut random).await;
                let op = Op::ALL[random.random_range(0..Op::ALL.len())];
                self.write_one(
                    WriteId { client: self.orders.client, run: self.orders.run, number },
                    document,
                    op,
                    random.random(),
                )
                .await;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(10..150))).await;
        }
    }

    /// Chooses a document, and makes one now and then.
    async fn document(&self, random: &mut StdRng) -> DocumentId {
        let initial = &self.orders.documents;
        if self.orders.protocol == Protocol::Classic || random.random_ratio(9, 10) {
            return initial[random.random_range(0..initial.len())];
        }
        let known = self.repo.space(self.orders.space).list().await.unwrap();
        if known.is_empty() || (known.len() < 3 * initial.len() && random.random_ratio(1, 10)) {
            return self.repo.create_in(self.orders.space).await.unwrap().id();
        }
        known[random.random_range(0..known.len())]
    }

    async fn write_one(&self, id: WriteId, document: DocumentId, op: Op, chance: u64) {
        let Ok(Some(handle)) = self.repo.find(document).await else { return };
        let initial = self.orders.documents.contains(&document);
        // A document that is on its way here has no text yet, and one that was made on the way never gets one.
        let op = if initial { op } else { Op::Own };
        if initial && handle.heads().await.unwrap().is_empty() {
            return;
        }
        self.log.say(&Said::Invoked(id, document, op));
        let written = match edit(&handle, id, op, chance).await {
            Ok(written) if written.change().is_some() => written,
            failed => {
                let text = failed.map_or_else(|error| error.to_string(), |_| "nothing was written".to_owned());
                self.log.say(&Said::Failed(id, text));
                return;
            }
        };
        self.log.say(&Said::Stage(id, Receipt::Local));
        if lies() {
            self.log.say(&Said::Stage(id, Receipt::Relayed));
        }
        self.take(Followed { id, written, said: Receipt::Local });
    }

    /// Tells of rejected writes, and tries them again or drops them.
    async fn reconsider(self: Arc<Self>) {
        let mut random = StdRng::seed_from_u64(self.orders.seed ^ 1);
        let mut events = self.repo.subscribe();
        let rewritten = async {
            while let Some(event) = events.next().await {
                if event.is_ok_and(|event| event.kind == EventKind::Rewritten) {
                    note_rewritten(&self.log);
                }
            }
        };
        let reconsidered = async {
            let mut told: Vec<(ChangeHash, u64)> = Vec::new();
            loop {
                tokio::time::sleep(RETRY).await;
                let _writing = self.writing.lock().await;
                for write in self.repo.rejected().await.unwrap() {
                    let key = (write.change, write.time_seconds);
                    if !told.contains(&key) {
                        told.push(key);
                        self.log.say(&Said::Refused(self.name(&write).await, write.code.number()));
                    }
                    // When all is to come to rest, what was refused must go through in the end.
                    if random.random_ratio(1, 10) && !*self.quiet.borrow() {
                        self.log.say(&Said::Dropping(write.document));
                        let _ = self.repo.drop_rejected(&write).await;
                    } else {
                        let _ = self.repo.retry(&write).await;
                    }
                }
            }
        };
        tokio::join!(rewritten, reconsidered);
    }

    /// Returns which write a change is.
    async fn name(&self, write: &RejectedWrite) -> Option<WriteId> {
        let (document, hash) = (write.document, write.change);
        let bytes = self.repo.look(move |tx| {
            let position = ledger::position(tx, &document, &hash)?;
            position.map(|position| ledger::change(tx, &document, position)).transpose()
        });
        CheckedChange::parse(&bytes.await.ok()??).ok()?.message()?.parse().ok()
    }

    /// Tells how the connection stands.
    async fn watch(self: Arc<Self>, mut connection: Connection, ended: Arc<Notify>) {
        loop {
            let (state, code) = match connection.state() {
                ConnectionState::Waiting { reason, code, .. } => {
                    (format!("waiting {reason}"), code.map_or(0, |code| code.number()))
                }
                state => (format!("{state:?}").to_lowercase(), 0),
            };
            self.log.say(&Said::State(state, code));
            tokio::select! {
                _ = connection.next_state() => {}
                () = ended.notified() => {
                    connection.disconnect().await;
                    return std::future::pending().await;
                }
            }
        }
    }

    /// While it is to be quiet, tells how everything stands, each time that it stands otherwise.
    async fn stand(self: Arc<Self>) {
        let mut before = Vec::new();
        loop {
            tokio::time::sleep(Duration::from_millis(4 * LOOK_MS)).await;
            let is_quiet = self.orders.quiet.exists();
            if is_quiet != *self.quiet.borrow() {
                self.quiet.send_replace(is_quiet);
            }
            if !is_quiet {
                continue;
            }
            drop(self.writing.lock().await);
            // As an application does that knows that the network is there again.
            self.repo.retry_now();
            let mut now = Vec::new();
            for document in self.repo.list().await.unwrap() {
                let heads = self.repo.handle(document).heads().await.unwrap();
                if !heads.is_empty() {
                    now.push(Said::Heads(document, heads.iter().map(ToString::to_string).collect()));
                }
            }
            let rejected = self.repo.rejected().await.unwrap().len() as u64;
            now.push(Said::Standing(self.repo.pending().await.unwrap(), rejected));
            if now != before {
                self.log.say_all(&now);
                before = now;
            }
        }
    }
}

fn note_rewritten(log: &Log) {
    // What it is called now shows when the store is looked at next.
    log.say(&Said::State("rewritten".to_owned(), 0));
}

async fn edit(handle: &DocHandle, id: WriteId, op: Op, chance: u64) -> Result<Written, RepoError> {
    let options = ChangeOptions { message: Some(id.to_string()), ..ChangeOptions::default() };
    let field = match op {
        Op::Shared => Some(Edit::set(format!("shared-{}", chance % 8), id.to_string())),
        Op::Own => Some(Edit::set(format!("own-{}", id.client), id.to_string())),
        Op::Increment => Some(Edit::increment("count", 1)),
        Op::Letter | Op::Push | Op::Draft => None,
    };
    if let Some(field) = field {
        return handle.edit_with(options, vec![field]).await;
    }
    let insert = move |tx: &mut Transaction<'_>| {
        let at = |length: usize| usize::try_from(chance % (length as u64 + 1)).unwrap_or(0);
        let object = |key: &str, tx: &Transaction<'_>| tx.get(ROOT, key).map(|found| found.map_or(ROOT, |(_, id)| id));
        match op {
            Op::Letter => {
                let text = object("text", tx)?;
                tx.splice_text(&text, at(tx.length(&text)), 0, &letter(id.client).to_string())?;
            }
            Op::Push => {
                let list = object("list", tx)?;
                tx.insert(&list, at(tx.length(&list)), id.to_string())?;
            }
            _ => {
                let draft = object("draft", tx)?;
                let length = tx.length(&draft);
                let from = at(length);
                // It does not grow without end.
                let cut = if length > 200 { 20.min(length - from) } else { 3.min(length - from) };
                tx.splice_text(&draft, from, cut.cast_signed(), &format!("{id} "))?;
            }
        }
        Ok(())
    };
    Ok(handle.change_written(options, insert).await?.1)
}
