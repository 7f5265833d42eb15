//! A relay of a run, with its rights, its backups, and a look into its store whenever it is down.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rejoin::gate::CheckedChange;
use rejoin::ledger::{self, log};
use rejoin::store::{RedbOptions, RedbStore, Store};
use rejoin::{DocumentId, SpaceId};
use serde_json::Value as Json;

use super::PATIENCE;
use super::check::Document;
use super::history::{Done, Log};
use super::member::writes;
use crate::relay::{RelayProcess, free_port, signal};

/// So many positions before the end are looked at again.
const LOOK_BACK: u64 = 500;

/// A relay that lets in who has a token.
pub(super) struct Node {
    process: RelayProcess,
    admin: String,
    folder: PathBuf,
    /// The epoch that was looked at last.
    epoch: String,
    /// How far each epoch was looked at.
    looked: BTreeMap<String, u64>,
    backup: Option<PathBuf>,
    backups: u32,
    is_paused: bool,
    /// Whether it forgets what it had, for the canary.
    is_forgetful: bool,
}

impl Node {
    pub(super) fn start(folder: &Path, is_forgetful: bool) -> Self {
        fs::create_dir_all(folder).unwrap();
        let port = free_port();
        let config = folder.join("relay.toml");
        let text = format!(
            "[auth]\nticket_seconds = 3600\n[admin]\nlisten = \"127.0.0.1:{port}\"\n\
             [drain]\ndeadline_seconds = 2\nreconnect_after_max_seconds = 1\n\
             [limits]\nping_seconds = 4\ndead_after_seconds = 10\nupgrades_per_second = 0\n"
        );
        fs::write(&config, text).unwrap();
        let arguments = ["--config".to_owned(), config.to_str().unwrap().to_owned()];
        let process = RelayProcess::start_logged(&folder.join("data"), &arguments, Some(&folder.join("log")));
        let (admin, folder) = (format!("http://127.0.0.1:{port}"), folder.to_owned());
        let (epoch, looked) = (String::new(), BTreeMap::new());
        Self { process, admin, folder, epoch, looked, backup: None, backups: 0, is_paused: false, is_forgetful }
    }

    pub(super) fn url(&self) -> String {
        self.process.url()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Runs a command of the relay's binary; returns what it prints.
    fn command(arguments: &[&str], paths: &[(&str, &Path)]) -> String {
        let mut command = Command::new(crate::binary("rejoin-relay"));
        command.args(arguments);
        for (name, path) in paths {
            command.arg(name).arg(path);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks the admin API, of a relay that goes on for that.
    pub(super) fn admin(&mut self, arguments: &[&str]) -> Json {
        self.resume();
        self.await_admin();
        let arguments = [&["admin", "--json", "--url", self.admin.as_str()], arguments].concat();
        serde_json::from_str(&Self::command(&arguments, &[("--data", &self.data())])).unwrap_or_default()
    }

    /// Waits until the admin API listens: a relay says that it does itself a moment before.
    fn await_admin(&self) {
        let begun = Instant::now();
        let address = self.admin.trim_start_matches("http://");
        while !self.data().join("admin-token").exists() || TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the admin API does not listen at {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes a principal with a token, which may write to a space.
    pub(super) fn admit(&mut self, name: &str, space: SpaceId) -> String {
        self.admin(&["principal", "create", name]);
        self.admin(&["grant", "put", name, &format!("space/{space}"), "write"]);
        self.admin(&["token", "create", name])["secret"].as_str().unwrap().to_owned()
    }

    /// Returns the URL by which somebody comes in who can show nothing else.
    pub(super) fn ticket(&mut self, token: &str) -> String {
        self.resume();
        let mut socket = TcpStream::connect(self.process.address()).unwrap();
        let request = format!(
            "POST /ticket HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let start = answer.find("rjk_").unwrap_or_else(|| panic!("no ticket in {answer}"));
        answer[start..].chars().take_while(|letter| *letter != '"').collect()
    }

    /// Returns the epoch that was looked at last, and how far the log of a space is.
    pub(super) fn log_end(&mut self, space: SpaceId) -> (String, u64) {
        let tail = self.admin(&["log", "tail", &space.to_string(), "--limit", "1"]);
        (self.epoch.clone(), tail["end"].as_u64().unwrap())
    }

    pub(super) fn pause(&mut self) {
        signal(self.process.pid(), "STOP");
        self.is_paused = true;
    }

    pub(super) fn resume(&mut self) {
        if std::mem::take(&mut self.is_paused) {
            signal(self.process.pid(), "CONT");
        }
    }

    /// Says whether the process ended by itself.
    pub(super) fn has_died(&mut self) -> bool {
        self.process.ended().is_some()
    }

    pub(super) fn kill(&mut self) {
        self.is_paused = false;
        self.process.kill();
    }

    pub(super) fn stop(&mut self) {
        self.resume();
        self.process.stop();
    }

    pub(super) fn restart(&mut self) {
        self.process.restart();
    }

    /// Backs the relay up. One that does not run is started again by the caller.
    pub(super) fn back_up(&mut self, is_online: bool) {
        self.backups += 1;
        let to = self.folder.join(format!("backup-{}", self.backups));
        if is_online {
            self.admin(&["backup", "start", "--to", to.to_str().unwrap()]);
        } else {
            Self::command(&["backup"], &[("--data", &self.data()), ("--to-dir", &to)]);
        }
        self.backup = Some(to);
    }

    /// Makes the data anew of the last backup, while no process has it. Returns whether there is one.
    pub(super) fn restore(&mut self) -> bool {
        let Some(from) = &self.backup else { return false };
        let (data, fresh) = (self.data(), self.folder.join("restored"));
        Self::command(&["restore"], &[("--from", from), ("--data", &fresh)]);
        // The credential of the admin API is in no backup.
        fs::copy(data.join("admin-token"), fresh.join("admin-token")).unwrap();
        fs::remove_dir_all(&data).unwrap();
        fs::rename(fresh, data).unwrap();
        true
    }

    /// Tells what is in the store of a process that has ended: the log from a little before where it was looked at last, or from
    /// its beginning.
    pub(super) fn look(&mut self, space: SpaceId, history: &Log, is_whole: bool) {
        let (store, copy, first) =
            (self.data().join("relay.redb"), self.folder.join("look.redb"), self.folder.join("first.redb"));
        if self.is_forgetful {
            let (from, to) = if first.exists() { (&first, &store) } else { (&store, &first) };
            copy_store(from, to);
        }
        // The relay is to recover what it left behind by itself.
        copy_store(&store, &copy);
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(&copy, RedbOptions::new()).unwrap());
        let tx = store.read().unwrap();
        let epoch = log::epoch(&*tx).unwrap().unwrap().to_string();
        let looked = self.looked.entry(epoch.clone()).or_default();
        let mut after = if is_whole { 0 } else { looked.saturating_sub(LOOK_BACK) };
        let (end, mut found) = (log::end(&*tx, &space).unwrap(), Vec::new());
        while after < end {
            after = log::read(&*tx, &space, after, 16 << 20, &mut |entry| {
                if let log::What::Change { bytes, .. } = entry.what {
                    let change = CheckedChange::parse(bytes).unwrap();
                    let id = change.message().and_then(|message| message.parse().ok());
                    let (epoch, hash) = (epoch.clone(), change.hash().to_string());
                    found.push(Done::RelayHas(epoch, entry.position, entry.document, hash, id));
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        *looked = end;
        history.say_all(&found);
        history.say(&Done::RelayLooked);
        drop(tx);
        drop(store);
        fs::remove_file(copy).unwrap();
        self.epoch = epoch;
    }

    /// Returns all documents of a stopped relay, and what is wrong with its store.
    pub(super) fn documents(&self, initial: &[DocumentId]) -> (BTreeMap<DocumentId, Document>, Vec<String>) {
        let store = RedbStore::open(self.data().join("relay.redb"), RedbOptions::new()).unwrap();
        let tx = store.read().unwrap();
        let mut documents = BTreeMap::new();
        for id in ledger::documents(&*tx).unwrap() {
            let heads = ledger::heads(&*tx, &id).unwrap().iter().map(ToString::to_string).collect();
            let mut document = Document { heads, is_initial: initial.contains(&id), ..Document::default() };
            writes(&*tx, &id, &mut |write, _| document.writes.push(write)).unwrap();
            documents.insert(id, document);
        }
        drop(tx);
        drop(store);
        let verified =
            Command::new(crate::binary("rejoin-relay")).arg("verify").arg("--data").arg(self.data()).output().unwrap();
        let text = String::from_utf8_lossy(&verified.stdout).into_owned();
        (documents, if verified.status.success() { Vec::new() } else { vec![format!("the relay's store: {text}")] })
    }
}

/// Copies the store of a process that has ended, however it ended: its file and its journal.
fn copy_store(from: &Path, to: &Path) {
    let journal = |store: &Path| PathBuf::from(format!("{}.rejoin-journal", store.display()));
    fs::copy(from, to).unwrap();
    if journal(from).exists() {
        fs::copy(journal(from), journal(to)).unwrap();
    } else if journal(to).exists() {
        fs::remove_file(journal(to)).unwrap();
    }
}
