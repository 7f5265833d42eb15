//! The group commit on a store in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rejoin::codec::v1::{Access, RelayMessage};
use rejoin::deletion::DeletionKind;
use rejoin::gate::{Action, ChangeDraft, DraftObject, DraftOp, encode};
use rejoin::store::{MemoryStore, ReadTx, Store, StoreError, WriteTx};
use rejoin::sync::v1::{LiveFrames, OfferedWrite};
use rejoin::{ActorId, ScalarValue, ledger};

use super::*;
use crate::auth::{AuthConfig, Directory, Grant, NewToken, Target};
use crate::followers::Follower;
use crate::hub::Hub;
use crate::limits::COMMIT_CHANGES_MAX;
use crate::quarantine::{Held, Quarantine};

/// Counts the transactions that reached the disk, and refuses one document's.
struct Watched {
    inner: MemoryStore,
    commits: AtomicUsize,
}

pub(super) const POISON: DocumentId = DocumentId::from_bytes([0xff; 16]);

impl Watched {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryStore::new(), commits: AtomicUsize::new(0) })
    }
}

impl Store for Watched {
    fn read(&self) -> Result<Box<dyn ReadTx + '_>, StoreError> {
        self.inner.read()
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn WriteTx) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.inner.write(&mut |tx| {
            work(tx)?;
            match ledger::state(tx, &POISON)? {
                Some(_) => Err(StoreError::Damaged { what: "poison" }),
                None => Ok(()),
            }
        })?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(super) fn is_stored(appended: &Appended) -> bool {
    matches!(appended, Appended::Stored { .. })
}

/// Makes a chain of changes by one actor.
pub(super) fn chain(length: usize) -> Vec<CheckedChange> {
    let mut changes: Vec<CheckedChange> = Vec::with_capacity(length);
    for counter in 1..=length as u64 {
        let op = DraftOp {
            object: DraftObject::Root,
            key: "k".to_owned(),
            action: Action::Put,
            value: ScalarValue::Null,
            preds: Vec::new(),
        };
        let draft = ChangeDraft {
            actor: ActorId::from(&b"alice"[..]),
            seq: counter,
            start_op: counter,
            timestamp: 0,
            message: None,
            deps: changes.last().map(CheckedChange::hash).into_iter().collect(),
            ops: vec![op],
        };
        changes.push(encode(&draft).expect("an honest change"));
    }
    changes
}

fn document(number: u8) -> DocumentId {
    DocumentId::from_bytes([number; 16])
}

/// A log whose commits end by what they hold, however fast the machine is.
fn steady(store: &Arc<Watched>, hub: &Arc<Hub>) -> GroupCommit {
    GroupCommit::start_at(Arc::clone(store) as Arc<dyn Store>, Arc::clone(hub), standing).expect("a thread")
}

fn start(store: &Arc<Watched>) -> (GroupCommit, ConnectionId) {
    let hub = Arc::new(Hub::default());
    (steady(store, &hub), hub.enter().id())
}

#[tokio::test]
async fn duplicates_and_orphans_cost_no_commit_and_make_no_document() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let changes = chain(2);
    let stored = log.append(from.into(), document(1), changes.clone()).await.expect("a sound store").appended;
    assert!(stored.iter().all(|(_, appended)| is_stored(appended)));
    let again = log.append(from.into(), document(1), changes.clone()).await.expect("a sound store").appended;
    assert!(again.iter().all(|(_, appended)| *appended == Appended::Duplicate));
    let orphan = log.append(from.into(), document(2), changes[1..].to_vec()).await.expect("a sound store").appended;
    assert!(matches!(orphan[0].1, Appended::Missing { .. }));
    assert_eq!(store.commits.load(Ordering::Relaxed), 1);
    let state = ledger::state(&*store.read().expect("in memory"), &document(2)).expect("in memory");
    assert_eq!(state, None);
}

#[tokio::test]
async fn request_above_a_commits_bound_takes_several() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let changes = chain(COMMIT_CHANGES_MAX + 1);
    let results = log.append(from.into(), document(1), changes).await.expect("a sound store").appended;
    assert!(results.iter().all(|(_, appended)| is_stored(appended)));
    assert_eq!((results.len(), store.commits.load(Ordering::Relaxed)), (COMMIT_CHANGES_MAX + 1, 2));
}

#[tokio::test]
async fn what_is_wrong_with_one_document_is_not_the_others_fault() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let (good, bad, also_good) = tokio::join!(
        log.append(from.into(), document(1), chain(1)),
        log.append(from.into(), POISON, chain(1)),
        log.append(from.into(), document(2), chain(1)),
    );
    assert!(good.is_ok() && also_good.is_ok());
    assert_eq!(bad.err(), Some(AppendError::Store));
}

#[tokio::test]
async fn what_was_queued_before_its_document_was_put_aside_is_not_stored() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let changes = chain(2);
    let aside = document(1);
    assert!(log.append(from.into(), aside, changes[..1].to_vec()).await.is_ok());
    let quarantine = Quarantine::open(&*store).expect("in memory");
    let held = Held { since_seconds: 1, reason: "evidence".to_owned() };
    quarantine.put(&*store, &aside, held).expect("in memory");
    assert_eq!(log.append(from.into(), aside, changes[1..].to_vec()).await.err(), Some(AppendError::Store));
    assert!(log.append(from.into(), document(2), chain(1)).await.is_ok());
    let count =
        || ledger::state(&*store.read().expect("in memory"), &aside).expect("in memory").map(|state| state.count);
    assert_eq!(count(), Some(1));
    quarantine.release(&*store, &aside).expect("in memory");
    assert!(log.append(from.into(), aside, changes[1..].to_vec()).await.is_ok());
    assert_eq!(count(), Some(2));
}

#[tokio::test]
async fn what_was_queued_before_the_end_is_still_committed() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let (appended, ()) = tokio::join!(log.append(from.into(), document(1), chain(3)), log.finish());
    assert_eq!(appended.map(|results| results.appended.len()), Ok(3));
    assert!(!log.probe().await && !log.is_writable());
    assert_eq!(log.append(from.into(), document(1), chain(4)).await.err(), Some(AppendError::Stopped));
}

const TEAM: SpaceId = SpaceId::from_bytes([0xe1; 16]);

/// A clock that stands.
pub(super) fn standing() -> Instant {
    static NOW: OnceLock<Instant> = OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

pub(super) fn offered(document: DocumentId, changes: impl IntoIterator<Item = CheckedChange>) -> Vec<Offered> {
    changes.into_iter().map(|change| Offered { document, what: OfferedWrite::Change(change) }).collect()
}

pub(super) fn deleted(document: DocumentId) -> Offered {
    let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "alice".to_owned() };
    Offered { document, what: OfferedWrite::Deleted(tombstone) }
}

async fn pushed(log: &GroupCommit, from: ConnectionId, space: SpaceId, writes: Vec<Offered>) -> Vec<Outcome> {
    let pushed = log.push(from.into(), space, writes).await.expect("it runs");
    pushed.await.expect("it answers").expect("a sound store")
}

/// Says in short what became of writes: a position, `=` for a duplicate, or a code.
fn short(outcomes: &[Outcome]) -> Vec<String> {
    let each = outcomes.iter().map(|outcome| match outcome {
        Outcome::Stored { first } => first.to_string(),
        Outcome::Duplicate => "=".to_owned(),
        Outcome::Rejected(reject) => reject.code.name().to_owned(),
    });
    each.collect()
}

#[tokio::test]
async fn push_is_one_commit_whose_bad_writes_take_nothing_with_them() {
    let store = Watched::new();
    let (log, from) = start(&store);
    open(&*store, [7; 16]).expect("in memory");
    let before = store.commits.load(Ordering::Relaxed);
    let changes = chain(4);
    let mut writes = offered(document(1), changes[..2].to_vec());
    writes.extend(offered(document(2), changes[1..2].to_vec()));
    writes.extend(offered(document(3), changes[..2].to_vec()));
    writes.push(deleted(document(3)));
    writes.extend(offered(document(3), changes[2..3].to_vec()));
    writes.extend(offered(document(1), changes[1..3].to_vec()));
    let outcomes = pushed(&log, from, TEAM, writes).await;
    let expected = ["1", "2", "change-missing", "4", "5", "6", "document-deleted", "=", "3"];
    assert_eq!(short(&outcomes), expected);
    assert_eq!(store.commits.load(Ordering::Relaxed), before + 1);
    let elsewhere = pushed(&log, from, SpaceId::DEFAULT, offered(document(1), changes[3..].to_vec())).await;
    assert_eq!(short(&elsewhere), ["document-elsewhere"]);
    // Of the document that got nothing there is no trace: it may still come to be anywhere.
    let anew = pushed(&log, from, SpaceId::DEFAULT, offered(document(2), changes[..2].to_vec())).await;
    assert_eq!(short(&anew), ["1", "2"]);
    // Whoever does not know of spaces writes to documents of any.
    let classic = log.append(from.into(), document(1), changes).await.expect("a sound store").appended;
    assert_eq!(classic.iter().filter(|(_, appended)| is_stored(appended)).count(), 1);
    let tx = store.read().expect("in memory");
    assert_eq!(ledger::log::end(&*tx, &TEAM).expect("in memory"), 7);
}

#[tokio::test]
async fn who_names_no_space_is_asked_for_the_right_where_the_document_is_by_then() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let directory = Directory::open(Arc::clone(&store) as Arc<dyn Store>, &AuthConfig::default()).expect("in memory");
    let author = |name: &str, space: SpaceId| {
        let principal = PrincipalId::new(name).expect("a name");
        directory.put_principal(principal.clone(), None, false).expect("in memory");
        let (target, access) = (Target::Space(space), Access::Write);
        directory.put_grant(Grant { principal: principal.clone(), target, access, until: None }).expect("in memory");
        let new = NewToken { principal: principal.clone(), label: None, expires: None, scope: None };
        let (_, token) = directory.create_token(new).expect("in memory");
        let permit = directory.admit(Some(token.expose())).expect("it was just made");
        Author { connection: from, principal: Some(principal), permit: Some(permit) }
    };
    let (home, team) = (author("home", SpaceId::DEFAULT), author("team", TEAM));
    let changes = chain(3);
    // It was nowhere, and so in the default space, when the first one's changes were let through.
    pushed(&log, from, TEAM, offered(document(1), changes[..1].to_vec())).await;
    let refused = log.append(home.clone(), document(1), changes[1..2].to_vec()).await;
    assert_eq!(refused.err(), Some(AppendError::Moved));
    let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "home".to_owned() };
    assert_eq!(log.delete(home.clone(), document(1), tombstone.clone()).await, Err(AppendError::Moved));
    let count =
        || ledger::state(&*store.read().expect("in memory"), &document(1)).expect("in memory").map(|it| it.count);
    assert_eq!(count(), Some(1));
    let stored = log.append(team.clone(), document(1), changes[1..].to_vec()).await.expect("a sound store");
    assert_eq!((stored.appended.len(), count()), (2, Some(3)));
    assert_eq!(log.delete(team, document(1), tombstone).await, Ok(()));
    assert_eq!(count(), None);
    let stored = log.append(home, document(2), chain(1)).await.expect("a sound store");
    assert!(is_stored(&stored.appended[0].1));
}

#[tokio::test]
async fn push_goes_on_around_a_document_that_cannot_be_stored() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let mut writes = offered(document(1), chain(1));
    writes.extend(offered(POISON, chain(1)));
    writes.extend(offered(document(2), chain(2)));
    let outcomes = pushed(&log, from, SpaceId::DEFAULT, writes).await;
    assert_eq!(short(&outcomes), ["1", "not-stored", "2", "3"]);
}

#[tokio::test]
async fn pushes_of_a_connection_keep_their_order_over_several_commits() {
    let store = Watched::new();
    let (log, from) = start(&store);
    let changes = chain(2 * COMMIT_CHANGES_MAX + 10);
    let mut answers = Vec::new();
    for changes in changes.chunks(COMMIT_CHANGES_MAX * 2 / 3) {
        answers.push(log.push(from.into(), TEAM, offered(document(1), changes.to_vec())).await.expect("it runs"));
    }
    let mut position = 0;
    for answer in answers {
        for outcome in answer.await.expect("it answers").expect("a sound store") {
            position += 1;
            assert_eq!(outcome, Outcome::Stored { first: position });
        }
    }
    assert_eq!(position, changes.len() as u64);
}

#[tokio::test]
async fn followers_get_a_commit_as_one_frame() {
    let store = Watched::new();
    let hub = Arc::new(Hub::default());
    let log = steady(&store, &hub);
    let mut reader = Follower::new(&hub);
    let changes = chain(4);
    log.append(hub.next_id().into(), document(1), changes[..1].to_vec()).await.expect("a sound store");
    // Who wrote is answered before others are told; when the next one is answered, they were.
    log.append(hub.next_id().into(), document(1), changes[..1].to_vec()).await.expect("a sound store");
    reader.follow(SpaceId::DEFAULT);
    let mut writes = offered(document(1), changes[1..3].to_vec());
    writes.extend(offered(document(2), changes[..1].to_vec()));
    pushed(&log, hub.next_id(), SpaceId::DEFAULT, writes).await;
    log.append(hub.next_id().into(), document(1), changes[..1].to_vec()).await.expect("a sound store");
    let told = || reader.inbox().take_news().ends.into_iter().collect::<Vec<_>>();
    hub.tell_held();
    assert_eq!(told(), [(SpaceId::DEFAULT, 4)]);
    let live = hub.followers().live();
    assert!(live.frame(&SpaceId::DEFAULT, 1, 5).is_none());
    let frame = live.frame(&SpaceId::DEFAULT, 2, 5).expect("it was just committed");
    log.append(hub.next_id().into(), document(1), changes).await.expect("a sound store");
    log.finish().await;
    hub.tell_held();
    assert_eq!(told(), [(SpaceId::DEFAULT, 5)]);
    assert_eq!(frame.last, 4);
    let read = RelayMessage::decode(&frame.bytes);
    assert!(matches!(read, Ok(RelayMessage::Entries { first: 2, entries, .. }) if entries.len() == 3));
    assert_eq!(live.frame(&SpaceId::DEFAULT, 5, 5).map(|frame| frame.last), Some(5));
}
