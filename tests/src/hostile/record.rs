//! An honest session, recorded: three clients with maps, lists, text, marks and counters talk through one relay.
//!
//! Every frame is kept with what its receiver had stored before it, so that a damaged copy can be fed to a receiver in
//! exactly that state.

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::engine::{self, Origin};
use rejoin::gate::CheckedChange;
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::sync::classic::{ClassicSession, Identity, Output, Role};
use rejoin::{DocumentId, PeerId};

use super::attacks::Scene;
use super::session::{export, fork};

/// How often each client edits.
const ROUNDS: u64 = 14;

/// The document that everybody edits.
pub const DOCUMENT: DocumentId = DocumentId::from_bytes([0x5e; 16]);

/// One frame, and who received it in what state.
pub struct Recorded {
    /// Its bytes.
    pub frame: Bytes,
    /// Sender and receiver.
    pub scene: Scene,
    /// What the receiver had.
    pub store: MemoryStore,
}

/// One side of a connection.
struct Side {
    session: ClassicSession,
    waiting: Vec<Bytes>,
}

struct Client {
    name: &'static str,
    actor: ActorId,
    store: MemoryStore,
    here: Side,
    there: Side,
}

/// Records a session; the same seed gives the same frames.
pub fn record(seed: u64) -> Vec<Recorded> {
    let mut random = StdRng::seed_from_u64(seed);
    let relay = MemoryStore::new();
    let mut clients: Vec<Client> =
        [("alice", 0x3c), ("bob", 0x11), ("carol", 0xd4)].map(|(name, byte)| client(name, byte)).into();
    let mut recorded = Vec::new();
    for round in 0..ROUNDS {
        for client in &mut clients {
            edit(client, round, &mut random);
            client.here.session.open(DOCUMENT, Vec::new(), &*client.store.read().unwrap()).unwrap();
            client.here.session.handle_heads_changed(DOCUMENT);
            if round % 3 == 1 {
                let author = PeerId::new(client.name).unwrap();
                let data = Bytes::from_static(b"\xa1\x66cursor\x03");
                let tx = client.store.read().unwrap();
                client.here.session.send_ephemeral(DOCUMENT, &author, "session", round, &data, &*tx).unwrap();
            }
            // Some edit apart for a while, so that there are conflicts and filters.
            if random.random_bool(0.6) {
                exchange(client, &relay, &mut recorded);
            }
        }
        clients.iter_mut().for_each(|client| client.there.session.handle_heads_changed(DOCUMENT));
        if round % 4 == 3 {
            clients.iter_mut().for_each(|client| exchange(client, &relay, &mut recorded));
        }
    }
    for _ in 0..2 {
        clients.iter_mut().for_each(|client| {
            client.there.session.handle_heads_changed(DOCUMENT);
            exchange(client, &relay, &mut recorded);
        });
    }
    let changes = export(&relay, DOCUMENT).len();
    assert!(clients.iter().all(|client| export(&client.store, DOCUMENT).len() == changes), "everybody has everything");
    recorded
}

fn client(name: &'static str, byte: u8) -> Client {
    let identity = |name| Identity { peer: PeerId::new(name).unwrap(), storage: None, epoch: None };
    let side = |role, name| Side { session: ClassicSession::new(role, identity(name)), waiting: Vec::new() };
    Client {
        name,
        actor: ActorId::from([byte; 16]),
        store: MemoryStore::new(),
        here: side(Role::Client, name),
        there: side(Role::Server, "relay"),
    }
}

/// Carries frames back and forth until both sides are silent.
fn exchange(client: &mut Client, relay: &MemoryStore, recorded: &mut Vec<Recorded>) {
    loop {
        carry_out(&mut client.here, &client.store);
        carry_out(&mut client.there, relay);
        let up = std::mem::take(&mut client.here.waiting);
        let down = std::mem::take(&mut client.there.waiting);
        if up.is_empty() && down.is_empty() {
            return;
        }
        for frame in up {
            deliver(frame, &mut client.there, relay, (client.name, "relay", Role::Server), recorded);
        }
        for frame in down {
            deliver(frame, &mut client.here, &client.store, ("relay", client.name, Role::Client), recorded);
        }
    }
}

fn deliver(
    frame: Bytes,
    to: &mut Side,
    store: &MemoryStore,
    (attacker, victim, victim_role): (&str, &str, Role),
    recorded: &mut Vec<Recorded>,
) {
    let scene = Scene { document: DOCUMENT, attacker: attacker.to_owned(), victim: victim.to_owned(), victim_role };
    recorded.push(Recorded { frame: frame.clone(), scene, store: fork(store) });
    to.session.handle_frame(&frame, &*store.read().unwrap()).unwrap();
    carry_out(to, store);
}

fn carry_out(side: &mut Side, store: &MemoryStore) {
    loop {
        while let Some(output) = side.session.poll_output() {
            match output {
                Output::Send(frame) => side.waiting.push(frame),
                Output::Append { document, changes } => {
                    let accept =
                        |tx: &mut dyn rejoin::store::WriteTx| engine::accept(tx, document, changes, Origin::Remote);
                    let results = store.write_with(accept).unwrap().results;
                    side.session.handle_appended(document, results, &*store.read().unwrap()).unwrap();
                }
                Output::Refused { error, .. } => panic!("an honest change was refused: {error}"),
                Output::Close { reason, .. } => panic!("an honest session was closed: {reason}"),
                _ => {}
            }
        }
        let Some(frame) = side.session.poll_transmit(&*store.read().unwrap()).unwrap() else { return };
        side.waiting.push(frame);
    }
}

/// Makes one change on a client's document.
fn edit(client: &Client, round: u64, random: &mut StdRng) {
    let mut document = Automerge::new().with_actor(client.actor.clone());
    let changes = export(&client.store, DOCUMENT);
    document.apply_changes(changes.iter().map(|chunk| Change::from_bytes(chunk.to_vec()).unwrap())).unwrap();
    let mut tx = document.transaction();
    for _ in 0..random.random_range(1..4) {
        edit_once(&mut tx, random);
    }
    let mut options = CommitOptions::default().with_time(round.cast_signed());
    if random.random_bool(0.2) {
        options = options.with_message("a message".to_owned());
    }
    let (hash, _) = tx.commit_with(options);
    let Some(hash) = hash else { return };
    let change = CheckedChange::parse(document.get_change_by_hash(&hash).unwrap().raw_bytes()).unwrap();
    let accept = |tx: &mut dyn rejoin::store::WriteTx| engine::accept(tx, DOCUMENT, vec![change], Origin::Local);
    assert_eq!(client.store.write_with(accept).unwrap().stored, 1);
}

/// Makes one edit of any kind: fields, maps, a list, a text, marks, a counter.
pub fn edit_once(tx: &mut automerge::transaction::Transaction<'_>, random: &mut StdRng) {
    let key = ["a", "b", "title", "ünïcode"][random.random_range(0..4)];
    let value = match random.random_range(0..8) {
        0 => ScalarValue::Int(random.random_range(-99_999..99_999)),
        1 => ScalarValue::Uint(random.random()),
        2 => ScalarValue::F64(random.random()),
        3 => ScalarValue::Boolean(true),
        4 => ScalarValue::Null,
        5 => ScalarValue::Bytes(vec![1, 2, 3]),
        6 => ScalarValue::Timestamp(1_700_000_000_000),
        _ => ScalarValue::Str("a text of some length".into()),
    };
    match random.random_range(0..11) {
        0..3 => drop(tx.put(&ROOT, key, value)),
        3 => drop(tx.delete(&ROOT, key)),
        4 => {
            let map = object(tx, "map", ObjType::Map);
            drop(tx.put(&map, key, value));
        }
        5 => {
            let map = object(tx, "map", ObjType::Map);
            let inner = tx.put_object(&map, key, ObjType::Map).unwrap();
            drop(tx.put(&inner, "deep", value));
        }
        6 | 7 => {
            let list = object(tx, "list", ObjType::List);
            let length = tx.length(&list);
            let at = random.random_range(0..=length);
            match random.random_range(0..3) {
                0 if at < length => drop(tx.delete(&list, at)),
                1 if at < length => drop(tx.put(&list, at, value)),
                _ => drop(tx.insert(&list, at, value)),
            }
        }
        8 => {
            let text = object(tx, "text", ObjType::Text);
            let length = tx.length(&text);
            let at = random.random_range(0..=length);
            let deleted = random.random_range(0..=(length - at).min(2)).cast_signed();
            drop(tx.splice_text(&text, at, deleted, "wörd"));
        }
        9 => {
            let text = object(tx, "text", ObjType::Text);
            let length = tx.length(&text);
            if length > 2 {
                let start = random.random_range(0..length - 1);
                let mark = Mark::new("bold".to_owned(), true, start, random.random_range(start + 1..=length));
                drop(tx.mark(&text, mark, ExpandMark::Both));
            }
        }
        _ => {
            if tx.get(&ROOT, "count").unwrap().is_none() {
                drop(tx.put(&ROOT, "count", ScalarValue::counter(1)));
            } else {
                drop(tx.increment(&ROOT, "count", random.random_range(-3..9)));
            }
        }
    }
}

fn object(tx: &mut automerge::transaction::Transaction<'_>, key: &str, kind: ObjType) -> ObjId {
    match tx.get(&ROOT, key).unwrap() {
        Some((automerge::Value::Object(found), id)) if found == kind => id,
        _ => tx.put_object(&ROOT, key, kind).unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::attacks::{Opening, Sent};
    use crate::hostile::oracle::{References, check_store};
    use crate::hostile::session::Victim;

    #[test]
    fn recorded_frames_are_taken_as_they_are_and_the_oracles_agree() {
        let recorded = record(7);
        assert!(recorded.len() > 60, "{}", recorded.len());
        let mut stored = 0;
        for one in &recorded {
            let opening = if one.scene.hello("1")[..10] == one.frame[..10] { Opening::Fresh } else { Opening::Joined };
            let mut victim = Victim::new(&one.scene, opening, fork(&one.store));
            victim.feed(&Sent::Binary(one.frame.clone()));
            stored += victim.verdict.stored;
            assert!(victim.verdict.rules.is_empty(), "{:?}", victim.verdict);
        }
        assert!(stored > 40, "{stored}");
        let last = &recorded.last().unwrap().store;
        check_store(last, DOCUMENT).unwrap();
        let mut references = References::default();
        for chunk in export(last, DOCUMENT) {
            references.take(&CheckedChange::parse(&chunk).unwrap()).unwrap();
        }
    }
}
