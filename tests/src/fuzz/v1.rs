//! `rejoin.v1` in both directions: messages read and written again, and fed to the session of a relay or a client.

pub mod hosts;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::care::{self, Registers, VerifyOptions};
use rejoin::codec::v1::{AckRun, ClientMessage, Content, DocumentHeads, Entry, Outcome, RelayMessage, Write};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::store::MemoryStore;
use rejoin::{ChangeHash, DocumentId, SpaceId};

use super::gate::{RECORDING, damaged_chunk, honest_next};
use super::script::Script;
use super::{Seen, Target, size_class};
use crate::hostile::base;
use crate::hostile::mutate::{Mutator, damage};
use crate::hostile::record::{DOCUMENT, record};
use hosts::{BURIED, ClientHost, LONELY, Made, RelayHost, TEAM};

/// A session that is fed messages. The head of an input: whether it is a client, its store, from where on it wants the team.
pub struct V1 {
    mutator: Mutator,
    relay: MemoryStore,
    clients: [MemoryStore; 3],
}

impl V1 {
    /// Makes it with honest stores.
    pub fn new() -> Self {
        let clients = [0, 1, 2].map(hosts::client_store);
        Self { mutator: Mutator::new(record(RECORDING)), relay: hosts::relay_store(), clients }
    }

    fn client(&self, script: &Script) -> ClientHost {
        ClientHost::new(&self.clients[usize::from(script.flag(1)) % 3], script.flag(2))
    }

    fn store(&self, script: &Script) -> &MemoryStore {
        if script.flag(0).is_multiple_of(2) { &self.relay } else { &self.clients[usize::from(script.flag(1)) % 3] }
    }
}

impl Default for V1 {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for V1 {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        let (mut hello, mut welcome) = (Vec::new(), Vec::new());
        for (variant, start) in [(0, 0), (1, 1), (2, 2), (1, 0)] {
            let head = Script::new(&[1, variant, start], []);
            let (mut relay, mut client) = (RelayHost::new(&self.relay), self.client(&head));
            let (mut up, mut down) = (0, 0);
            while up < client.made.sent.len() || down < relay.made.sent.len() {
                client.made.sent.clone()[up..].iter().for_each(|frame| relay.feed(frame));
                up = client.made.sent.len();
                relay.made.sent.clone()[down..].iter().for_each(|frame| client.feed(frame));
                down = relay.made.sent.len();
            }
            let bytes = |frames: &[Bytes]| frames.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>();
            let (up, down) = (bytes(&client.made.sent), bytes(&relay.made.sent));
            (hello, welcome) = (up[0].clone(), down[0].clone());
            seeds.push(Script::new(&[0, variant, start], up).write());
            seeds.push(Script::new(&[1, variant, start], down).write());
        }
        let golden = include_str!("../../../core/src/codec/v1/golden.txt");
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let (side, rest) = line.split_once(' ').unwrap();
            let hex = rest.split_once(' ').unwrap().1;
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let frame: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let (role, first) = if side == "client" { (0, &hello) } else { (1, &welcome) };
            seeds.push(Script::new(&[role, 1, 1], [first.clone(), frame]).write());
        }
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let (mut script, other) = (Script::read(input), Script::read(other));
        let (store, role) = (self.store(&script), script.flag(0));
        let foreign = other.items.first().cloned().unwrap_or_default();
        let change = |chunk: &[u8], random: &mut StdRng| damaged_chunk(&self.mutator, store, chunk, &foreign, random);
        script.mutate(&other, random, |frame, random| {
            let bytes = Bytes::copy_from_slice(frame);
            if random.random_bool(0.35) {
                return damage(frame, |_| &foreign, random);
            }
            let mutant = if role % 2 == 0 {
                ClientMessage::decode(&bytes).ok().and_then(|message| another_of_client(message, random, &change))
            } else {
                RelayMessage::decode(&bytes).ok().and_then(|message| another_of_relay(message, random, &change))
            };
            mutant.map_or_else(|| damage(frame, |_| &foreign, random), |mutant| mutant.to_vec())
        });
        script.write()
    }

    /// A message is read into at most 6 times its bytes and 2 MiB; checked writes, orphans and answers have 8 MiB each.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        (192 << 20) + 16 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let script = Script::read(input);
        let frames: Vec<_> = script.items.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        if script.flag(0).is_multiple_of(2) {
            let codes: Vec<_> = frames.iter().map(read_of_client).collect();
            let mut relay = RelayHost::new(&self.relay);
            frames.iter().for_each(|frame| relay.feed(frame));
            // The other end can read whatever is said to it.
            for message in &relay.made.sent {
                assert!(RelayMessage::decode(message).is_ok(), "the relay says what no client reads");
            }
            told("relay", &relay.made, &relay.store).with(&codes)
        } else {
            let codes: Vec<_> = frames.iter().map(read_of_relay).collect();
            let mut client = self.client(&script);
            frames.iter().for_each(|frame| client.feed(frame));
            for message in &client.made.sent {
                assert!(ClientMessage::decode(message).is_ok(), "the client says what no relay reads");
            }
            told("client", &client.made, &client.store).with(&codes)
        }
    }

    fn classes_min(&self) -> usize {
        8
    }
}

/// Sums up what a host made of its input, after a look at what it stored.
fn told(side: &str, made: &Made, store: &MemoryStore) -> Seen {
    let bytes = size_class(made.sent.iter().map(Bytes::len).sum());
    let detail = (made.close, size_class(made.stored), &made.refused, size_class(made.sent.len()), bytes);
    if made.stored > 0 {
        let report = care::verify(store, &VerifyOptions::new(Registers::Kept), &mut |_| ()).unwrap();
        assert!(report.is_sound(), "the store is not sound afterwards: {}", report.to_json());
        return Seen::taken(&format!("{side}: stored"), &detail);
    }
    match (made.close, made.refused.first()) {
        (None, None) => Seen::taken(&format!("{side}: open"), &detail),
        (_, Some(why)) => Seen::refused(&format!("{side}: {why}")).with(&detail),
        (Some(code), None) => Seen::refused(&format!("{side}: closed with {code}")).with(&detail),
    }
}

/// Reads a client's message; what is read is written and read again.
fn read_of_client(bytes: &Bytes) -> &'static str {
    match ClientMessage::decode(bytes) {
        Ok(message) => {
            let again = ClientMessage::decode(&message.encode());
            assert_eq!(again.as_ref(), Ok(&message), "a message changes when it is written");
            message.name()
        }
        Err(error) => error.code().name(),
    }
}

/// Reads a relay's message; what is read is written and read again.
fn read_of_relay(bytes: &Bytes) -> &'static str {
    match RelayMessage::decode(bytes) {
        Ok(message) => {
            let again = RelayMessage::decode(&message.encode());
            assert_eq!(again.as_ref(), Ok(&message), "a message changes when it is written");
            message.name()
        }
        Err(error) => error.code().name(),
    }
}

type Change<'c> = dyn Fn(&[u8], &mut StdRng) -> Vec<u8> + 'c;

/// Makes another message of a client's, of the same kind; `None` for kinds with nothing of interest in them.
fn another_of_client(message: ClientMessage, random: &mut StdRng, change: &Change<'_>) -> Option<Bytes> {
    let mutant = match message {
        ClientMessage::Push { batch, space, mut writes } => {
            change_writes(&mut writes, random, change);
            ClientMessage::Push { batch: any_number(batch, random), space: any_space(space, random), writes }
        }
        ClientMessage::Compare { space, mut documents, is_last } => {
            change_heads(&mut documents, random);
            ClientMessage::Compare {
                space: any_space(space, random),
                documents,
                is_last: is_last != random.random_bool(0.2),
            }
        }
        ClientMessage::Open { space, mut documents } => {
            change_heads(&mut documents, random);
            ClientMessage::Open { space: any_space(space, random), documents }
        }
        ClientMessage::Cursor { space, position } => {
            ClientMessage::Cursor { space: any_space(space, random), position: any_number(position, random) }
        }
        ClientMessage::Presence { space, mut values } => {
            let copies = values[0].clone();
            values.extend(std::iter::repeat_n(copies, random.random_range(0..40)));
            values.iter_mut().for_each(|value| value.sequence = any_number(value.sequence, random));
            ClientMessage::Presence { space: any_space(space, random), values }
        }
        ClientMessage::Credit { bytes } => ClientMessage::Credit { bytes: any_number(bytes, random) },
        _ => return None,
    };
    Some(mutant.encode())
}

/// Makes another message of a relay's, of the same kind; `None` for kinds with nothing of interest in them.
fn another_of_relay(message: RelayMessage, random: &mut StdRng, change: &Change<'_>) -> Option<Bytes> {
    let mutant = match message {
        RelayMessage::Entries { space, first, mut entries } => {
            let at = random.random_range(0..entries.len());
            match (&mut entries[at], random.random_range(0..5)) {
                (_, 0) => entries.insert(at, Entry::Skipped { count: any_number(1, random).max(1) }),
                (_, 1) => drop(entries.remove(at)),
                (Entry::Write(write), _) => change_write(write, random, change),
                (Entry::Skipped { count }, _) => *count = any_number(*count, random).max(1),
            }
            if entries.is_empty() {
                return None;
            }
            RelayMessage::Entries { space: any_space(space, random), first: any_number(first, random).max(1), entries }
        }
        RelayMessage::Fill { space, mut writes } => {
            change_writes(&mut writes, random, change);
            RelayMessage::Fill { space: any_space(space, random), writes }
        }
        RelayMessage::Ack { batch, mut results } => {
            let count = any_number(1, random).clamp(1, 300);
            let outcome = match random.random_range(0..3) {
                0 => Outcome::Duplicate,
                1 => Outcome::Stored { first: any_number(3, random).max(1) },
                _ => results[0].outcome.clone(),
            };
            results.insert(random.random_range(0..=results.len()), AckRun { count, outcome });
            RelayMessage::Ack { batch: any_number(batch, random).max(1), results }
        }
        RelayMessage::Lacking { space, mut documents, is_last } => {
            change_heads(&mut documents, random);
            RelayMessage::Lacking {
                space: any_space(space, random),
                documents,
                is_last: is_last != random.random_bool(0.2),
            }
        }
        RelayMessage::Opened { space, position, mut documents } => {
            change_heads(&mut documents, random);
            let position = any_number(position, random);
            RelayMessage::Opened { space: any_space(space, random), position, documents }
        }
        RelayMessage::CaughtUp { space, position } => {
            RelayMessage::CaughtUp { space: any_space(space, random), position: any_number(position, random) }
        }
        RelayMessage::Hint { space, end } => {
            RelayMessage::Hint { space: any_space(space, random), end: any_number(end, random) }
        }
        _ => return None,
    };
    Some(mutant.encode())
}

fn change_writes(writes: &mut Vec<Write>, random: &mut StdRng, change: &Change<'_>) {
    let at = random.random_range(0..writes.len());
    match random.random_range(0..6) {
        0 if writes.len() > 1 => drop(writes.remove(at)),
        1 => writes.insert(at, writes[at].clone()),
        2 => writes.reverse(),
        _ => change_write(&mut writes[at], random, change),
    }
}

fn change_write(write: &mut Write, random: &mut StdRng, change: &Change<'_>) {
    match (random.random_range(0..8), &mut write.content) {
        (0, _) => write.document = any_document(random),
        (1, content) => {
            let kind = if random.random_bool(0.5) { DeletionKind::Deleted } else { DeletionKind::Purged };
            *content = Content::Deleted(Tombstone { kind, time_seconds: random.random_range(0..9), by: "x".repeat(9) });
        }
        (2, content) => *content = Content::Change(honest_next().into()),
        (3, content) => *content = Content::PassedOn(honest_next().into()),
        (_, Content::Change(bytes) | Content::PassedOn(bytes)) => *bytes = change(bytes, random).into(),
        (_, Content::Deleted(tombstone)) => tombstone.time_seconds = any_number(tombstone.time_seconds, random),
    }
}

fn change_heads(documents: &mut Vec<DocumentHeads>, random: &mut StdRng) {
    let known = base::heads()[random.random_range(0..2)];
    let hash = ChangeHash(if random.random_bool(0.5) { known } else { [random.random(); 32] });
    let document = any_document(random);
    if documents.is_empty() || random.random_bool(0.3) {
        documents.push(DocumentHeads { document, heads: vec![hash] });
    }
    let at = random.random_range(0..documents.len());
    match random.random_range(0..5) {
        0 => documents[at].document = document,
        1 => documents[at].heads.clear(),
        2 => drop(documents.remove(at)),
        3 => documents.push(documents[at].clone()),
        _ => documents[at].heads.push(hash),
    }
    for one in &mut *documents {
        one.heads.sort_unstable();
        one.heads.dedup();
    }
}

fn any_document(random: &mut StdRng) -> DocumentId {
    [DOCUMENT, LONELY, BURIED, DocumentId::from_bytes([random.random(); 16])][random.random_range(0..4)]
}

fn any_space(space: SpaceId, random: &mut StdRng) -> SpaceId {
    if random.random_bool(0.8) {
        return space;
    }
    [TEAM, SpaceId::DEFAULT, SpaceId::from_bytes([7; 16])][random.random_range(0..3)]
}

fn any_number(number: u64, random: &mut StdRng) -> u64 {
    match random.random_range(0..8) {
        0 => number.wrapping_add(1),
        1 => number.saturating_sub(1),
        2 => random.random_range(0..12),
        3 => 1 << random.random_range(0..54),
        _ => number,
    }
    .min((1 << 53) - 1)
}
