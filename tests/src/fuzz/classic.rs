//! Classic frames: read and written again, and fed to a session that has a document, in both roles.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::codec::classic::Frame;
use rejoin::limits::{PEER_ERROR_BYTES_MAX, UNKNOWN_TYPE_BYTES_MAX};
use rejoin::store::MemoryStore;
use rejoin::sync::classic::Role;

use super::cbor::Node;
use super::gate::RECORDING;
use super::script::Script;
use super::{Seen, Target, size_class};
use crate::hostile::mutate::{Mutator, damage};
use crate::hostile::record::{DOCUMENT, Recorded, record};
use crate::hostile::session::{Victim, base_store, fork};
use crate::hostile::{Opening, Scene, Sent, attacks};

/// The longest seed: the catalogue has attacks of megabytes, which are tried elsewhere.
const SEED_BYTES_MAX: usize = 16 << 10;

/// A session that is fed frames. The head of an input: its role, whether it was greeted, which document it has.
pub struct Classic {
    mutator: Mutator,
    recorded: Vec<Recorded>,
    pub(super) stores: Vec<MemoryStore>,
}

impl Classic {
    /// Makes it with a recorded conversation.
    pub fn new() -> Self {
        let recorded = record(RECORDING);
        let stores = vec![
            base_store(DOCUMENT),
            MemoryStore::new(),
            fork(&recorded[recorded.len() / 4].store),
            fork(&recorded[recorded.len() - 1].store),
        ];
        // The mutator wants one of its own.
        Self { mutator: Mutator::new(record(RECORDING)), recorded, stores }
    }

    /// Feeds frames to a new session, and says what it made of them.
    pub(super) fn feed(&self, script: &Script, frames: impl Iterator<Item = Bytes>) -> Seen {
        let scene = scene(script.flag(0));
        let opening = if script.flag(1).is_multiple_of(2) { Opening::Joined } else { Opening::Fresh };
        let store = fork(&self.stores[usize::from(script.flag(2)) % self.stores.len()]);
        let mut victim = Victim::new(&scene, opening, store);
        let greeted_bytes = victim.answered_bytes;
        for frame in frames {
            victim.feed(&Sent::Binary(frame));
        }
        let verdict = &victim.verdict;
        let answered = size_class(victim.answered_bytes - greeted_bytes);
        let detail = (verdict.close, &verdict.rules, size_class(victim.stored.len()), answered);
        let close = verdict.close.map_or("open", |code| if code == 1009 { "too large" } else { "closed" });
        match (verdict.rules.first(), verdict.stored) {
            (_, 1..) => Seen::taken("stored", &detail),
            (Some(rule), 0) => Seen::refused(rule).with(&detail),
            (None, 0) => Seen { is_taken: verdict.close.is_none(), ..Seen::taken(close, &detail) },
        }
    }
}

impl Default for Classic {
    fn default() -> Self {
        Self::new()
    }
}

/// Who talks to whom; the names are those of the recording.
pub(super) fn scene(role: u8) -> Scene {
    let (attacker, victim, victim_role) =
        if role.is_multiple_of(2) { ("alice", "relay", Role::Server) } else { ("relay", "alice", Role::Client) };
    Scene { document: DOCUMENT, attacker: attacker.to_owned(), victim: victim.to_owned(), victim_role }
}

impl Target for Classic {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for (role, victim) in [(0, "relay"), (1, "alice")] {
            let frames: Vec<_> = self.recorded.iter().filter(|one| one.scene.victim == victim).collect();
            for (number, some) in (0u8..).zip(frames.chunks(5).take(40)) {
                let frames = some.iter().map(|one| one.frame.to_vec());
                seeds.push(Script::new(&[role, number % 7 / 6, number % 4], frames).write());
            }
            let scene = scene(role);
            let binary = |sent| if let Sent::Binary(frame) = sent { Some(frame.to_vec()) } else { None };
            for attack in attacks::all().iter().filter(|attack| !attack.is_heavy && !attack.is_deadly) {
                let frames = attack.make(&scene).into_iter().filter_map(binary);
                let is_fresh = u8::from(attack.opening == Opening::Fresh);
                let script = Script::new(&[role, is_fresh, 0], frames).write();
                seeds.extend((script.len() <= SEED_BYTES_MAX).then_some(script));
            }
        }
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let (mut script, other) = (Script::read(input), Script::read(other));
        let store = &self.stores[usize::from(script.flag(2)) % self.stores.len()];
        let (mutator, role) = (&self.mutator, script.flag(0));
        let foreign = other.items.first().cloned().unwrap_or_default();
        script.mutate(&other, random, |frame, random| {
            match (random.random_range(0..10), Node::read(frame)) {
                (0, _) => damage(frame, |_| &foreign, random),
                (1..6, Some(mut node)) => {
                    let mut out = Vec::new();
                    node.mutate(random, |bytes, random| damage(bytes, |_| &foreign, random));
                    node.write(&mut out);
                    out
                }
                _ => {
                    // A frame of the recording with a damaged change in it, for this end.
                    let mut picked = mutator.pick(random);
                    for _ in 0..16 {
                        if picked.scene.victim_role == scene(role).victim_role {
                            break;
                        }
                        picked = mutator.pick(random);
                    }
                    mutator.mutant(picked, store, random).to_vec()
                }
            }
        });
        script.write()
    }

    /// A frame's fields are read into at most a few times their bytes; a session holds 8 MiB of orphans of a document and
    /// answers with 1 MiB at a time.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        (192 << 20) + 16 * input.len()
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let script = Script::read(input);
        let codes: Vec<_> = script.items.iter().map(|frame| read_twice(&Bytes::copy_from_slice(frame))).collect();
        self.feed(&script, script.items.iter().map(|frame| Bytes::copy_from_slice(frame))).with(&codes)
    }

    fn classes_min(&self) -> usize {
        15
    }
}

/// Reads a frame; what is read is written and read again, and what is not is told in few words.
fn read_twice(bytes: &Bytes) -> &'static str {
    match Frame::decode(bytes) {
        Ok(frame) => {
            assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame), "a frame changes when it is written");
            if let Frame::Error { message, .. } = &frame {
                assert!(message.len() <= PEER_ERROR_BYTES_MAX, "a long message of an error");
            }
            frame.kind()
        }
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "a long error");
            if let rejoin::codec::classic::DecodeError::UnknownType(kind) = &error {
                assert!(kind.len() <= UNKNOWN_TYPE_BYTES_MAX, "a long unknown type");
            }
            error.code()
        }
    }
}
